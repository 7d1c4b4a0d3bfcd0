//! The daemon as a process: starts that fail, ends, kills, and starts after kills. spec/decisions.md 4, 7.1.

use crate::nbd::Client;
use crate::node::{connect_both, exists, new_address, run, Node, DISK_BYTES};
use drbdbox::conf::value::Value;
use drbdbox::control::message::{ConnectionOf, SettingChange};
use drbdbox::control::{Call, Client as Control, Reply, Request};
use drbdbox::core::state::{Conn, Disk, Role};
use drbdbox::status::{Address, AddressPair, Family, Snapshot};
use nix::sys::signal::Signal;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant};

/// Files that exist only while a daemon runs.
const FILES: [&str; 4] = ["run/drbdd.sock", "run/drbdd.pid", "run/proc", "run/running"];

#[test]
fn a_second_daemon_is_refused() {
    let node = Node::start();
    node.attach();
    let ran = node.run(&["drbdd", "--foreground", "--door", "none"]);
    let ran = ran.refused(1, "drbdd.pid belongs to the running process");
    assert!(ran.err.contains(&node.pid().to_string()), "{ran:?}");
    node.run(&["drbdd", "--background", "--door", "none"])
        .refused(1, "drbdd.pid belongs to the running process");
    // The first one goes on.
    assert_eq!(node.volume().state.disk, Disk::Inconsistent);
}

#[test]
fn what_a_dead_daemon_left_behind_is_replaced() {
    let mut node = Node::stopped("none");
    drop(UnixListener::bind(node.socket()).unwrap());
    std::fs::write(node.path("run/drbdd.pid"), "1\n").unwrap();
    std::fs::write(node.path("run/proc"), "old").unwrap();
    node.start_daemon();
    let pid = std::fs::read_to_string(node.path("run/drbdd.pid")).unwrap();
    assert_eq!(pid.trim(), node.pid().to_string());
    node.attach();
    node.signal(Signal::SIGTERM);
    assert_eq!(node.wait_for_end().code(), Some(0));
}

#[test]
fn what_is_no_socket_is_not_removed() {
    let node = Node::stopped("none");
    std::fs::write(node.socket(), "precious").unwrap();
    node.run(&["drbdd", "--foreground", "--door", "none"]).refused(1, "exists and is no socket");
    assert_eq!(std::fs::read_to_string(node.socket()).unwrap(), "precious");
}

#[test]
fn a_run_directory_that_cannot_be_had() {
    let node = Node::stopped("none");
    let file = node.path("file");
    std::fs::write(&file, "").unwrap();
    for directory in [file.join("run"), "/proc/drbdbox".into()] {
        let mut command = node.command(&["drbdd", "--foreground", "--door", "none"]);
        command.env("DRBDBOX_RUNDIR", &directory);
        run(command).refused(1, &format!("drbdd: {}", directory.display()));
    }
}

#[test]
fn a_running_configuration_that_is_damaged() {
    let mut node = Node::start();
    node.attach();
    let path = node.path("run/running");
    node.kill();
    let text = std::fs::read(&path).unwrap();
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let of_this_boot = format!("{{\"boot_id\":\"{}\",\"resources\":[{{}}]}}", boot_id.trim());
    let damages: [Vec<u8>; 4] =
        [text[..text.len() / 2].to_vec(), b"\0\0\0\0".to_vec(), vec![b'['; 1 << 20], of_this_boot.into()];
    for damage in damages {
        std::fs::write(&path, damage).unwrap();
        let from = node.log.len();
        node.start_daemon();
        node.log.wait(from, "starting without resources");
        assert!(node.snapshot().resources.is_empty());
        node.kill();
    }
    // The disk of a resource that is gone is a message, not the end.
    std::fs::write(&path, &text).unwrap();
    std::fs::remove_file(node.path("disk")).unwrap();
    let from = node.log.len();
    node.start_daemon();
    node.log.wait(from, "cannot attach");
    assert_eq!(node.volume().state.disk, Disk::Diskless);
}

#[test]
fn sigterm_takes_everything_down_and_leaves_nothing() {
    let [mut node, peer] = [Node::with_door("nbd-server"), Node::start()];
    for node in [&node, &peer] {
        node.attach();
    }
    connect_both(&node, &peer, &[]);
    node.wait_conn(Conn::Connected);
    node.drbdsetup(&["0", "primary", "-o"]).ok();
    node.wait("UpToDate on both", |v| v.state.pdsk == Disk::UpToDate && v.state.conn == Conn::Connected);
    assert!(FILES.iter().all(|name| exists(&node.path(name))));
    let from = node.log.len();
    node.signal(Signal::SIGTERM);
    assert_eq!(node.wait_for_end().code(), Some(0), "{}", node.log.text());
    let mut at = from;
    for line in ["role( Primary -> Secondary )", "-> Disconnecting )", "-> Diskless )", "ended"] {
        at = node.log.wait(at, line);
    }
    for name in FILES.iter().chain(&["run/nbd.sock"]) {
        assert!(!exists(&node.path(name)), "{name} is left");
    }
    // To the peer that was an orderly end.
    peer.log.wait(0, "conn( TearDown -> Unconnected )");
    // And no crash: after a start nothing has to be synchronized.
    node.start_daemon();
    let disk = node.path("disk").display().to_string();
    node.drbdsetup(&["0", "disk", &disk, &disk, "internal", "--create-device"]).ok();
    let from = node.log.len();
    node.connect(peer.address, &[]);
    node.log.wait(from, "uuid_compare()=0");
    node.wait_conn(Conn::Connected);
    assert_eq!(node.volume().out_of_sync_bits, 0);
}

#[test]
fn sigterm_is_refused_while_somebody_uses_a_device() {
    let mut node = Node::with_door("nbd-server");
    node.attach();
    node.drbdsetup(&["0", "primary", "-o"]).ok();
    let mut application = Client::open(&node, "minor-0");
    node.signal(Signal::SIGTERM);
    let at = node.log.wait(0, "cannot end: /dev/drbd0 is in use by an NBD client");
    node.log.wait(at, "a second signal within 10 s ends the daemon in any case");
    let own = std::process::id().to_string();
    assert!(node.log.text().contains(&format!("pid {own}")), "{}", node.log.text());
    // It serves on.
    assert_eq!(application.write(0, &[1; 512]), 0);
    let ran = node.drbdsetup(&["0", "secondary"]).refused(11, "(-12) Device is held open by someone");
    assert!(ran.err.contains(&format!("pid {own}")), "{ran:?}");
    node.drbdsetup(&["0", "down"]).refused(11, "(-12) Device is held open by someone");
    // The second way.
    node.signal(Signal::SIGTERM);
    node.log.wait(at, "ending although devices may be in use");
    assert_eq!(node.wait_for_end().code(), Some(0));
    assert!(FILES.iter().all(|name| !exists(&node.path(name))));
    let data = std::fs::read(node.path("disk")).unwrap();
    assert_eq!(data[..512], [1; 512]);
}

#[test]
fn kill_9_and_back_again() {
    let [mut node, peer] = [Node::with_door("nbd-server"), Node::start()];
    for node in [&node, &peer] {
        node.attach();
    }
    connect_both(&node, &peer, &["--cram-hmac-alg", "sha256", "--shared-secret", "a secret"]);
    node.wait_conn(Conn::Connected);
    node.drbdsetup(&["0", "primary", "-o"]).ok();
    for round in 1..4u8 {
        node.wait("in sync", |v| (v.state.conn, v.state.pdsk) == (Conn::Connected, Disk::UpToDate));
        let mut application = Client::open(&node, "minor-0");
        for block in 0..16 {
            assert_eq!(application.write(block * 4096, &[round; 4096]), 0);
        }
        // One in flight.
        application.start_write(65536, &[round; 65536]);
        node.kill();
        node.start_daemon();
        // Same resource, same settings, but nobody's Primary any more.
        let volume = node.wait("connected again", |v| v.state.conn >= Conn::Connected);
        assert_eq!(volume.state.role, Role::Secondary);
        node.wait("in sync", |v| (v.state.conn, v.state.disk) == (Conn::Connected, Disk::UpToDate));
        peer.wait("in sync", |v| (v.state.conn, v.state.disk) == (Conn::Connected, Disk::UpToDate));
        let disks = [&node, &peer].map(|node| std::fs::read(node.path("disk")).unwrap());
        assert!(disks.iter().all(|disk| disk[..65536].iter().all(|byte| *byte == round)), "round {round}");
        assert!(disks[0][..131_072] == disks[1][..131_072], "round {round}");
        node.drbdsetup(&["0", "primary"]).ok();
    }
}

/// In the moment that a command has succeeded, a daemon that is started again knows of it.
#[test]
fn what_a_command_did_survives_kill_9_right_after_its_answer() {
    let mut node = Node::start();
    let disk = node.make_disk("disk", DISK_BYTES);
    let address =
        |address: SocketAddr| Address { family: Family::Ipv4, ip: address.ip(), port: address.port() };
    let addresses = AddressPair { local: address(node.address), peer: address(new_address()) };
    let connection = || ConnectionOf::Resource("r0".into());
    let rate = || vec![SettingChange { option: "resync-rate".into(), value: Value::Number(4321) }];
    type Holds = fn(&Snapshot) -> bool;
    let steps: [(Request, Holds); 9] = [
        (Request::NewResource { name: "r0".into(), changes: Vec::new() }, |now| now.resource("r0").is_some()),
        (Request::NewMinor { resource: "r0".into(), minor: 0, volume: 3 }, |now| {
            now.minor(0).is_some_and(|(_, volume)| volume.number == 3)
        }),
        (
            Request::Attach {
                minor: 0,
                lower_device: disk.clone(),
                meta_device: disk,
                meta_index: -3,
                changes: Vec::new(),
            },
            |now| now.minor(0).is_some_and(|(_, volume)| volume.state.disk == Disk::Inconsistent),
        ),
        (Request::DiskOptions { minor: 0, set_defaults: false, changes: rate() }, |now| {
            now.minor(0).is_some_and(|(_, volume)| volume.disk_settings.resync_rate == 4321)
        }),
        (Request::Connect { connection: connection(), addresses, changes: Vec::new() }, |now| {
            now.minor(0).is_some_and(|(_, volume)| volume.state.conn > Conn::StandAlone)
        }),
        (Request::Disconnect { connection: connection(), force: false }, |now| {
            now.minor(0).is_some_and(|(_, volume)| volume.state.conn == Conn::StandAlone)
        }),
        (Request::Detach { minor: 0, force: false }, |now| {
            now.minor(0).is_some_and(|(_, volume)| volume.state.disk == Disk::Diskless)
        }),
        (Request::DeleteMinor { minor: 0 }, |now| now.minor(0).is_none()),
        (Request::DeleteResource { name: "r0".into() }, |now| now.resource("r0").is_none()),
    ];
    for (request, holds) in steps {
        let shown = format!("{request:?}");
        let reply = Control::connect(&node.socket()).unwrap().call(&Call::new(request)).unwrap();
        node.kill();
        assert!(matches!(reply, Reply::Code { code: 1..=4 | 101, .. }), "{shown}: {reply:?}");
        node.start_daemon();
        let now = node.snapshot();
        assert!(holds(&now), "{shown} is forgotten: {now:?}");
    }
}

/// While nothing is open, the watchdog sleeps until something happens, and does not look in between.
#[test]
fn nobody_watches_an_idle_daemon() {
    let node = Node::with_options(&["--stuck-after", "6"]);
    node.attach();
    let tasks = format!("/proc/{}/task", node.pid());
    let is_watchdog = |task: &std::path::Path| {
        std::fs::read_to_string(task.join("stat")).is_ok_and(|stat| stat.contains(" (watchdog) "))
    };
    let task =
        std::fs::read_dir(tasks).unwrap().map(|task| task.unwrap().path()).find(|task| is_watchdog(task));
    let call = task.expect("a thread").join("syscall");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let Ok(text) = std::fs::read_to_string(&call) else {
            println!("SKIPPED: this kernel does not tell what threads wait for");
            return;
        };
        // futex(word, operation, value, timeout): without a time limit.
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        if words.first() == Some(&libc::SYS_futex.to_string().as_str()) && words.get(4) == Some(&"0x0") {
            return;
        }
        assert!(Instant::now() < deadline, "it goes on looking: {text}\n{}", node.log.text());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Ends a daemon that the test did not start itself.
struct Started(i32);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0), Signal::SIGKILL);
    }
}

#[test]
fn a_daemon_is_started_by_a_command_that_needs_one_unless_that_is_forbidden() {
    let mut node = Node::stopped("none");
    let disk = node.make_disk("disk", crate::node::DISK_BYTES);
    let words = ["drbdsetup", "0", "disk", &disk, &disk, "internal", "--create-device"];
    let text = format!("Could not connect to the DRBD daemon ({})", node.socket().display());
    let ran = node.run(&words).refused(20, &text);
    assert!(ran.err.contains("do you need to start it?\ntry: /etc/init.d/drbd start\n"), "{ran:?}");
    assert!(!exists(&node.path("run/drbdd.pid")));
    // Commands that need none to have nothing to do.
    for command in ["down", "secondary", "disconnect", "detach"] {
        node.drbdsetup(&["0", command]).refused(0, "Could not connect");
    }
    node.drbdsetup(&["0", "cstate"]).refused(20, "Could not connect");

    let allowed = |words: &[&str]| {
        let mut command = node.command(words);
        command.env_remove("DRBDD_AUTOSTART");
        run(command)
    };
    allowed(&["drbdsetup", "0", "cstate"]).refused(20, "Could not connect");
    assert!(!exists(&node.path("run/drbdd.pid")));
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: without root the daemon that is started cannot make a device node");
        return;
    }
    // Minor 31 of the default door would be a node in /dev: use a name that nobody has.
    let minor = "31";
    if exists(std::path::Path::new("/dev/drbd31")) {
        println!("skipped: /dev/drbd31 exists");
        return;
    }
    let ran = allowed(&["drbdsetup", minor, "disk", &disk, &disk, "internal", "--create-device"]);
    let pid = std::fs::read_to_string(node.path("run/drbdd.pid")).unwrap().trim().parse().unwrap();
    let started = Started(pid);
    ran.ok();
    assert_eq!(Control::connect(&node.socket()).unwrap().snapshot().unwrap().resources.len(), 1);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    let deadline = Instant::now() + crate::node::LIMIT;
    while exists(&node.path("run/drbdd.pid")) {
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(started);
    assert!(!exists(std::path::Path::new("/dev/drbd31")));
    let _ = &mut node;
}

#[test]
fn a_daemon_that_cannot_be_started_says_why() {
    let node = Node::stopped("none");
    let disk = node.make_disk("disk", crate::node::DISK_BYTES);
    // It takes what is there for a socket of somebody else.
    std::fs::write(node.path("run/drbdd.pid"), "").unwrap();
    let mut lock = Command::new("flock");
    lock.arg(node.path("run/drbdd.pid"));
    lock.args(["-c"]).arg(format!(
        "env -u DRBDD_AUTOSTART {} drbdsetup 0 disk {disk} {disk} internal --create-device",
        crate::node::PROGRAM
    ));
    node.environment(&mut lock);
    let ran = run(lock);
    if ran.status == 127 {
        println!("skipped: no program flock");
        return;
    }
    let ran = ran.refused(20, "Could not connect to the DRBD daemon");
    assert!(ran.err.contains("drbdd.pid belongs to the running process"), "{ran:?}");
}

#[test]
fn wrong_options_are_told() {
    let node = Node::stopped("none");
    for (option, value, text) in [
        ("--protocol-max", "74", "--protocol-max 74: must be 86 to 101"),
        ("--door", "window", "--door window: must be auto, nbd, fuse-loop, nbd-server or none"),
        ("--nbd-listen", "somewhere", "neither a path nor ADDRESS:PORT"),
        ("--minor-count", "0", "--minor-count 0: must be 1 to 256"),
        ("--no-such-option", "1", "no-such-option"),
    ] {
        node.run(&["drbdd", "--foreground", option, value]).refused(2, text);
    }
}

#[test]
fn signals_while_it_waits_for_a_peer() {
    let mut node = Node::start();
    node.attach();
    node.connect(new_address(), &[]);
    node.signal(Signal::SIGHUP);
    node.signal(Signal::SIGTERM);
    assert_eq!(node.wait_for_end().code(), Some(0));
}
