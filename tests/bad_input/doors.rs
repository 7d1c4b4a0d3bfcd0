//! Device nodes: a host without FUSE or loop devices, and devices that somebody uses.

use crate::node::{exists, run, Node, LIMIT};
use drbdbox::core::state::Role;
use nix::sys::signal::Signal;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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

#[test]
fn a_mounted_device_keeps_its_daemon() {
    let root = nix::unistd::geteuid().is_root();
    if !root || ["/dev/fuse", "/dev/loop-control"].iter().any(|path| !exists(path.as_ref())) {
        println!("skipped: needs root, FUSE and loop devices");
        return;
    }
    let mut node = Node::with_door("fuse-loop");
    node.attach();
    node.drbdsetup(&["0", "primary", "-o"]).ok();
    let device = node.path("drbd0");
    let call = |program: &str, words: &[&std::path::Path]| {
        let mut command = Command::new(program);
        command.args(words);
        run(command)
    };
    let made = call("mke2fs", &["-q".as_ref(), "-F".as_ref(), &device]);
    if made.status != 0 {
        println!("skipped: mke2fs: {made:?}");
        return;
    }
    let place = node.path("mounted");
    std::fs::create_dir(&place).unwrap();
    call("mount", &[&device, &place]).ok();
    let unmounted = Unmounted(&place);
    let ran = node.drbdsetup(&["0", "secondary"]).refused(11, "(-12) Device is held open by someone");
    assert!(ran.err.contains(&format!("mounted on {}", place.display())), "{ran:?}");
    node.signal(Signal::SIGTERM);
    let at = node.log.wait(0, "cannot end: /dev/drbd0 is mounted on ");
    std::fs::write(place.join("file"), "still works").unwrap();
    drop(unmounted);
    // Somebody who has it open without a claim.
    let holder = std::fs::File::open(&device).unwrap();
    let ran = node.drbdsetup(&["0", "secondary"]).refused(11, "(-12) Device is held open by someone");
    assert!(
        ran.err.contains(&format!("({})", std::process::id()))
            || ran.err.contains(&std::process::id().to_string()),
        "{ran:?}"
    );
    drop(holder);
    node.drbdsetup(&["0", "secondary"]).ok();
    node.signal(Signal::SIGTERM);
    node.log.wait(at, "ended");
    assert_eq!(node.wait_for_end().code(), Some(0));
    assert!(!exists(&device));
}

struct Unmounted<'a>(&'a std::path::Path);

impl Drop for Unmounted<'_> {
    fn drop(&mut self) {
        // A child of another test has the files of this process open until it executes its program.
        let deadline = Instant::now() + LIMIT;
        while nix::mount::umount(self.0) == Err(nix::errno::Errno::EBUSY) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
