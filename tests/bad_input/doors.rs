//! A host without FUSE or loop devices: the message says what is missing and what to do.

use crate::node::{run, Node};
use drbdbox::core::state::Role;
use std::process::{Command, Stdio};

#[test]
fn a_dev_directory_that_allows_no_devices() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    // In a mount name space of its own: an empty /dev, as a container without rights has it.
    let probe = run({
        let mut command = Command::new("unshare");
        command.args(["-m", "true"]);
        command
    });
    if probe.status != 0 {
        println!("skipped: unshare: {}", probe.err);
        return;
    }
    let node = Node::stopped("fuse-loop");
    let script = "mount -t tmpfs -o nodev none /dev && exec \"$0\" drbdd --foreground";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, crate::node::PROGRAM]);
    node.environment(&mut command);
    let mut daemon = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let stderr = daemon.stderr.take().unwrap();
    let log = std::sync::Arc::clone(&node.log);
    let reader = std::thread::spawn(move || {
        use std::io::BufRead;
        for line in std::io::BufReader::new(stderr).lines().map_while(Result::ok) {
            log.add(line);
        }
    });
    node.log.wait(0, "compatible with DRBD");
    let deadline = std::time::Instant::now() + crate::node::LIMIT;
    while drbdbox::control::Client::connect(&node.socket()).is_err() {
        assert!(std::time::Instant::now() < deadline, "{}", node.log.text());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // Everything but the device works.
    node.attach();
    let ran = node.drbdsetup(&["0", "primary", "-o"]);
    let role = node.volume().state.role;
    let _ = daemon.kill();
    let _ = daemon.wait();
    let _ = reader.join();
    let ran = ran.refused(10, "cannot make the device available: ");
    assert!(ran.err.contains("/dev/fuse") && ran.err.contains("--door nbd-server"), "{ran:?}");
    assert_eq!(role, Role::Secondary);
    node.log.wait(0, "cannot make the device available: ");
}
