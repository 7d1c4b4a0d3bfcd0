//! The door fuse+loop with the kernel, file systems and other processes. Needs root, FUSE and loop devices; each test
//! says so where they are missing.

#![allow(clippy::unwrap_used)] // a test may fail

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use drbdbox::export::door::{Detach, Door, DoorError, Holder};
use drbdbox::export::loop_door::{clean_after_dead_daemon, LoopDoor, LoopDoorConfig};
use drbdbox::export::ram::RamBackend;
use drbdbox::export::request::{Backend, Limits, Operation, Request};
use drbdbox::sys::buffer::Buffer;
use nix::errno::Errno;

const MIB: u64 = 1 << 20;
const ALL: Limits = Limits {
    max_io_bytes: 1 << 20,
    discard: true,
    write_zeroes: true,
    max_discard_bytes: 1 << 20,
    read_only: false,
};

/// A host of its own: a /dev and a run directory.
struct Host {
    /// In /dev, since other file systems may not allow device nodes.
    dev: tempfile::TempDir,
    run: tempfile::TempDir,
}

impl Host {
    /// `None`, with a line that says so, where doors cannot work.
    fn new() -> Option<Host> {
        let missing = if !nix::unistd::geteuid().is_root() {
            "not root"
        } else if !Path::new("/dev/fuse").exists() {
            "no /dev/fuse"
        } else if !Path::new("/dev/loop-control").exists() {
            "no /dev/loop-control"
        } else {
            let dev = tempfile::Builder::new().prefix("drbdbox-test-").tempdir_in("/dev").unwrap();
            return Some(Host { dev, run: tempfile::tempdir().unwrap() });
        };
        println!("SKIPPED: {missing}");
        None
    }

    fn config(&self, minor: u32) -> LoopDoorConfig {
        LoopDoorConfig {
            minor,
            device_directory: self.dev.path().to_owned(),
            run_directory: self.run.path().to_owned(),
            threads: 4,
        }
    }

    fn door(&self) -> LoopDoor {
        LoopDoor::create(self.config(0)).unwrap()
    }

    fn node(&self) -> PathBuf {
        self.dev.path().join("drbd0")
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {} {text}{errors}", output.status);
    text
}

fn open(node: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(node)
}

fn pattern(seed: u8) -> Buffer {
    let mut buffer = Buffer::zeroed(64 << 10);
    for (at, byte) in buffer.iter_mut().enumerate() {
        *byte = seed ^ (at % 253) as u8 ^ (at / 512) as u8;
    }
    buffer
}

#[test]
fn a_file_system_survives_detaching() {
    let Some(host) = Host::new() else { return };
    let node = host.node();
    let node = node.to_str().unwrap();
    let backend = RamBackend::new(64 * MIB, ALL);
    let mut door = host.door();
    door.attach(backend.clone()).unwrap();
    run("mkfs.ext3", &["-q", node]);
    let mount_point = host.run.path().join("mnt");
    fs::create_dir(&mount_point).unwrap();
    let mount_point_text = mount_point.to_str().unwrap();
    run("mount", &[node, mount_point_text]);
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    assert!(mounts.contains(&format!("{node} ")), "the mount table names our node");
    for number in 0..50u8 {
        fs::write(mount_point.join(format!("file{number}")), &pattern(number)[..]).unwrap();
    }
    run("umount", &[mount_point_text]);
    door.detach(Detach::Unused).unwrap();
    assert!(backend.counters.flushes.load(Ordering::Relaxed) > 0);
    door.attach(backend).unwrap();
    run("fsck.ext3", &["-fn", node]);
    run("mount", &["-o", "ro", node, mount_point_text]);
    let intact = (0..50u8)
        .all(|number| fs::read(mount_point.join(format!("file{number}"))).unwrap() == pattern(number)[..]);
    run("umount", &[mount_point_text]);
    assert!(intact);
    door.detach(Detach::Unused).unwrap();
}

#[test]
fn writers_side_by_side_find_what_they_wrote() {
    let Some(host) = Host::new() else { return };
    let mut door = host.door();
    door.attach(RamBackend::new(32 * MIB, ALL)).unwrap();
    let node = host.node();
    std::thread::scope(|scope| {
        for writer in 0..8u8 {
            let node = &node;
            scope.spawn(move || {
                let flags = if writer % 2 == 0 { libc::O_DIRECT } else { 0 };
                let file = open(node, flags).unwrap();
                let start = u64::from(writer) * 4 * MIB;
                for round in 0..16u8 {
                    let data = pattern(writer.wrapping_mul(31) ^ round);
                    file.write_all_at(&data, start + u64::from(round) * (64 << 10)).unwrap();
                }
                file.sync_all().unwrap();
                let mut data = Buffer::zeroed(64 << 10);
                for round in 0..16u8 {
                    file.read_exact_at(&mut data, start + u64::from(round) * (64 << 10)).unwrap();
                    assert!(data[..] == pattern(writer.wrapping_mul(31) ^ round)[..]);
                }
            });
        }
    });
    door.detach(Detach::Unused).unwrap();
}

#[test]
fn flush_and_discard_reach_the_backend_and_discarded_space_reads_as_zeroes() {
    let Some(host) = Host::new() else { return };
    let backend = RamBackend::new(8 * MIB, ALL);
    backend.poke(0, &vec![1; 8 << 20]);
    let mut door = host.door();
    door.attach(backend.clone()).unwrap();
    let file = open(&host.node(), libc::O_DIRECT).unwrap();
    file.write_all_at(&pattern(1), 0).unwrap();
    assert_eq!(backend.counters.flushes.load(Ordering::Relaxed), 0);
    file.sync_all().unwrap();
    assert_eq!(backend.counters.flushes.load(Ordering::Relaxed), 1);
    drop(file);
    let node = host.node();
    run("blkdiscard", &["-o", "1048576", "-l", "3145728", node.to_str().unwrap()]);
    run("blkdiscard", &["-z", "-o", "4194304", "-l", "1048576", node.to_str().unwrap()]);
    assert_eq!(backend.counters.write_zeroes.load(Ordering::Relaxed), 4, "1 MiB at a time");
    let mut bytes = vec![0; 8 << 20];
    backend.peek(0, &mut bytes);
    assert!(bytes[1 << 20..5 << 20].iter().all(|byte| *byte == 0));
    assert!(bytes[5 << 20..].iter().all(|byte| *byte == 1));
    door.detach(Detach::Unused).unwrap();
}

#[test]
fn a_backend_that_cannot_zero_gets_zeroes_written() {
    let Some(host) = Host::new() else { return };
    let backend = RamBackend::new(4 * MIB, Limits { max_io_bytes: 128 << 10, ..Limits::default() });
    backend.poke(0, &vec![1; 4 << 20]);
    let mut door = host.door();
    door.attach(backend.clone()).unwrap();
    let node = host.node();
    let discard = Command::new("blkdiscard").arg(&node).output().unwrap();
    assert!(!discard.status.success(), "discard is not offered");
    run("blkdiscard", &["-z", node.to_str().unwrap()]);
    let mut bytes = vec![1; 4 << 20];
    backend.peek(0, &mut bytes);
    assert!(bytes.iter().all(|byte| *byte == 0));
    assert_eq!(backend.counters.write_zeroes.load(Ordering::Relaxed), 0);
    door.detach(Detach::Unused).unwrap();
}

#[test]
fn errors_reach_the_application_and_pass() {
    let Some(host) = Host::new() else { return };
    let backend = RamBackend::new(MIB, ALL);
    let mut door = host.door();
    door.attach(backend.clone()).unwrap();
    let file = open(&host.node(), libc::O_DIRECT).unwrap();
    let mut data = pattern(3);
    backend.fail(Some(Errno::EIO));
    let errors = [file.write_all_at(&data, 0), file.read_exact_at(&mut data, 0), file.sync_all()];
    for result in errors {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EIO));
    }
    backend.fail(None);
    file.write_all_at(&pattern(4), 0).unwrap();
    file.read_exact_at(&mut data, 0).unwrap();
    assert!(data[..] == pattern(4)[..]);
    drop(file);
    door.detach(Detach::Unused).unwrap();
}

#[test]
fn a_detached_node_exists_and_cannot_be_opened() {
    let Some(host) = Host::new() else { return };
    let mut door = host.door();
    let is_closed = || {
        let node = host.node();
        assert!(fs::metadata(&node).unwrap().file_type().is_block_device());
        let error = File::open(&node).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENXIO));
        let mount = Command::new("mount").arg(&node).arg(host.run.path()).output().unwrap();
        assert!(!mount.status.success());
    };
    is_closed();
    assert_eq!(door.device_number(), None);
    door.attach(RamBackend::new(MIB, ALL)).unwrap();
    assert!(door.device_number().is_some());
    File::open(host.node()).unwrap();
    door.detach(Detach::Unused).unwrap();
    is_closed();
    door.remove();
    assert!(!host.node().exists());
}

fn held_by(door: &mut LoopDoor) -> Vec<Holder> {
    match door.detach(Detach::Unused) {
        Err(DoorError::HeldOpen(holders)) => {
            assert!(door.is_attached());
            holders
        }
        other => panic!("not held open: {other:?}"),
    }
}

#[test]
fn a_device_in_use_is_not_detached_and_the_user_is_named() {
    let Some(host) = Host::new() else { return };
    let node = host.node();
    let mut door = host.door();
    door.attach(RamBackend::new(16 * MIB, ALL)).unwrap();
    run("mkfs.ext3", &["-q", node.to_str().unwrap()]);

    let mut reader = Command::new("sleep").arg("1000").stdin(File::open(&node).unwrap()).spawn().unwrap();
    let expected = Holder::Process { pid: reader.id() as i32, name: "sleep".to_owned() };
    let holders = held_by(&mut door);
    reader.kill().unwrap();
    reader.wait().unwrap();
    assert_eq!(holders, [expected]);

    let mount_point = host.run.path().join("my mnt");
    fs::create_dir(&mount_point).unwrap();
    let mount_point = mount_point.to_str().unwrap();
    run("mount", &[node.to_str().unwrap(), mount_point]);
    let holders = held_by(&mut door);
    run("umount", &[mount_point]);
    assert_eq!(holders, [Holder::Mount { path: mount_point.to_owned() }]);

    door.claim().unwrap();
    let mount = Command::new("mount").args([node.to_str().unwrap(), mount_point]).output().unwrap();
    assert!(!mount.status.success(), "claimed: nobody can mount");
    door.release();
    run("mount", &[node.to_str().unwrap(), mount_point]);
    run("umount", &[mount_point]);
    door.detach(Detach::Unused).unwrap();
}

#[test]
fn users_in_the_kernel_are_seen_too() {
    let Some(host) = Host::new() else { return };
    let node = host.node();
    let mut door = host.door();
    door.attach(RamBackend::new(MIB, ALL)).unwrap();
    let upper = run("losetup", &["--show", "-f", node.to_str().unwrap()]).trim().to_owned();
    let by_name = held_by(&mut door);
    // Without its name, only the kernel's own count of openers is left.
    fs::rename(&node, host.dev.path().join("gone")).unwrap();
    fs::remove_file(host.dev.path().join("gone")).unwrap();
    let by_count = held_by(&mut door);
    let still_works = open(&node, libc::O_DIRECT).and_then(|file| file.write_all_at(&pattern(1), 0));
    run("losetup", &["-d", &upper]);
    let name = upper.trim_start_matches("/dev/").to_owned();
    assert_eq!(by_name, [Holder::Device { name }]);
    assert_eq!(by_count, [Holder::Kernel]);
    still_works.unwrap();
    door.detach(Detach::Unused).unwrap();
}

/// Panics at reads.
struct Faulty(Arc<RamBackend>);

impl Backend for Faulty {
    fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }

    fn submit(&self, request: Request) {
        assert!(request.operation != Operation::Read, "as the test wants it");
        self.0.submit(request);
    }
}

#[test]
fn a_panic_in_the_backend_is_an_error_of_one_request() {
    let Some(host) = Host::new() else { return };
    let mut door = host.door();
    door.attach(Arc::new(Faulty(RamBackend::new(MIB, ALL)))).unwrap();
    let file = open(&host.node(), libc::O_DIRECT).unwrap();
    let mut data = pattern(1);
    for _ in 0..10 {
        let error = file.read_exact_at(&mut data, 0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
    }
    file.write_all_at(&data, 0).unwrap();
    drop(file);
    door.detach(Detach::Unused).unwrap();
}

/// What could leak, as far as this process can see it alone: other tests run beside this one.
fn own_things(host: &Host) -> (usize, usize, Vec<String>) {
    let threads = fs::read_dir("/proc/self/task")
        .unwrap()
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok())
        .filter(|name| name.starts_with("drbd77-"))
        .count();
    let run = host.run.path().to_str().unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter(|line| line.contains(run)).count();
    let loops = bound_files().into_iter().filter(|file| file.contains("drbd77-")).collect();
    (threads, mounts, loops)
}

#[test]
fn thirty_rounds_leave_nothing_behind_and_no_stale_page() {
    let Some(host) = Host::new() else { return };
    let backend = RamBackend::new(4 * MIB, ALL);
    let mut door = LoopDoor::create(host.config(77)).unwrap();
    let node = host.dev.path().join("drbd77");
    for round in 1..=30u8 {
        backend.poke(0, &[round; 8192]);
        door.attach(backend.clone()).unwrap();
        // A thread has its name when it has begun to run.
        let attached = Instant::now();
        while own_things(&host).0 < 4 && attached.elapsed() < Duration::from_secs(10) {
            std::thread::yield_now();
        }
        assert_eq!(own_things(&host).0, 4);
        // Through the page cache, on purpose.
        let mut file = File::open(&node).unwrap();
        let mut bytes = [0; 8192];
        file.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, [round; 8192]);
        drop(file);
        let file = open(&node, 0).unwrap();
        file.write_all_at(&[!round; 4096], 4096).unwrap();
        drop(file);
        door.detach(Detach::Unused).unwrap();
        backend.peek(0, &mut bytes);
        assert_eq!(bytes[4096..], [!round; 4096], "what was in the page cache is written");
        assert_eq!(own_things(&host), (0, 0, vec![]));
        assert_eq!(Arc::strong_count(&backend), 1);
    }
    drop(door);
    assert_eq!(fs::read_dir(host.run.path().join("doors")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(host.dev.path()).unwrap().count(), 0);
}

#[test]
fn users_see_a_new_size() {
    let Some(host) = Host::new() else { return };
    let backend = RamBackend::new(8 * MIB, ALL);
    backend.set_size_bytes(2 * MIB + 512);
    let mut door = host.door();
    door.attach(backend.clone()).unwrap();
    let node = host.node();
    let size = || run("blockdev", &["--getsize64", node.to_str().unwrap()]).trim().parse::<u64>().unwrap();
    assert_eq!(size(), 2 * MIB + 512, "an odd number of sectors");
    let file = open(&node, 0).unwrap();
    for bytes in [8 * MIB, 4 * MIB] {
        backend.set_size_bytes(bytes);
        door.resize(bytes).unwrap();
        assert_eq!(size(), bytes);
    }
    file.write_all_at(&[5; 4096], 4 * MIB - 4096).unwrap();
    file.sync_all().unwrap();
    assert!(file.write_all_at(&[5; 4096], 4 * MIB).is_err());
    drop(file);
    door.detach(Detach::Unused).unwrap();
}

#[test]
fn two_hosts_on_one_kernel_do_not_meet() {
    let (Some(first), Some(second)) = (Host::new(), Host::new()) else {
        return;
    };
    std::thread::scope(|scope| {
        for (host, mark) in [(&first, 1u8), (&second, 2)] {
            scope.spawn(move || {
                let backend = RamBackend::new(MIB, ALL);
                let mut door = host.door();
                for round in 0..10 {
                    door.attach(backend.clone()).unwrap();
                    let file = open(&host.node(), 0).unwrap();
                    let mut byte = [0];
                    file.read_exact_at(&mut byte, 0).unwrap();
                    assert_eq!(byte[0], if round == 0 { 0 } else { mark });
                    file.write_all_at(&[mark], 0).unwrap();
                    drop(file);
                    door.detach(Detach::Unused).unwrap();
                }
            });
        }
    });
}

/// Takes writes and never answers them.
struct Stuck {
    kept: Mutex<Vec<Request>>,
}

impl Backend for Stuck {
    fn size_bytes(&self) -> u64 {
        MIB
    }

    fn submit(&self, request: Request) {
        if request.operation == Operation::Write {
            self.kept.lock().unwrap().push(request);
        } else {
            let len = request.len as usize;
            request.done.complete(Ok(Some(Arc::new(Buffer::zeroed(len)))));
        }
    }
}

#[test]
fn a_forced_detach_needs_no_answer_from_the_backend() {
    let Some(host) = Host::new() else { return };
    let stuck = Arc::new(Stuck { kept: Mutex::default() });
    let mut door = host.door();
    door.attach(stuck.clone()).unwrap();
    let node = host.node();
    let writer =
        std::thread::spawn(move || open(&node, libc::O_DIRECT).unwrap().write_all_at(&pattern(1), 0));
    while stuck.kept.lock().unwrap().is_empty() {
        std::thread::yield_now();
    }
    door.detach(Detach::Forced).unwrap();
    assert_eq!(writer.join().unwrap().unwrap_err().raw_os_error(), Some(libc::EIO));
    // An answer that comes too late goes nowhere.
    for request in stuck.kept.lock().unwrap().drain(..) {
        request.done.complete(Ok(None));
    }
    door.attach(RamBackend::new(MIB, ALL)).unwrap();
    open(&host.node(), libc::O_DIRECT).unwrap().write_all_at(&pattern(1), 0).unwrap();
    door.detach(Detach::Unused).unwrap();
}

#[test]
fn a_queue_depth_of_32_reaches_the_backend() {
    let Some(host) = Host::new() else { return };
    let stuck = Arc::new(Stuck { kept: Mutex::default() });
    let mut door = host.door();
    door.attach(stuck.clone()).unwrap();
    let node = host.node();
    std::thread::scope(|scope| {
        for writer in 0..32u64 {
            let node = &node;
            scope.spawn(move || {
                let data = Buffer::zeroed(4096);
                open(node, libc::O_DIRECT).unwrap().write_all_at(&data, writer * 8192).unwrap();
            });
        }
        // Four threads serve; all requests are in progress at a time all the same.
        while stuck.kept.lock().unwrap().len() < 32 {
            std::thread::yield_now();
        }
        for request in stuck.kept.lock().unwrap().drain(..).rev() {
            request.done.complete(Ok(None));
        }
    });
    door.detach(Detach::Unused).unwrap();
}

/// Not a test by itself: the daemon that the tests below kill.
#[test]
fn daemon_to_be_killed() {
    let (Ok(dev), Ok(run)) = (std::env::var("DOOR_TEST_DEV"), std::env::var("DOOR_TEST_RUN")) else {
        return;
    };
    let mut door = LoopDoor::create(LoopDoorConfig {
        minor: 0,
        device_directory: dev.into(),
        run_directory: run.into(),
        threads: 4,
    })
    .unwrap();
    door.attach(RamBackend::new(16 * MIB, ALL)).unwrap();
    println!("\nattached {}", door.device_number().unwrap());
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

fn start_daemon(host: &Host) -> Child {
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "daemon_to_be_killed", "--nocapture"])
        .env("DOOR_TEST_DEV", host.dev.path())
        .env("DOOR_TEST_RUN", host.run.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(daemon.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("attached") {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the daemon ended");
    }
    daemon.stdout = Some(output.into_inner());
    daemon
}

/// Files bound to loop devices.
fn bound_files() -> Vec<String> {
    let loops = fs::read_dir("/sys/block").unwrap().flatten();
    loops.filter_map(|entry| fs::read_to_string(entry.path().join("loop/backing_file")).ok()).collect()
}

/// The file that the daemon serves.
fn served_file(host: &Host) -> String {
    let record = fs::read_to_string(host.run.path().join("doors/minor-0")).unwrap();
    record.trim().split(' ').nth(2).unwrap().to_owned()
}

#[test]
fn a_killed_daemon_leaves_errors_no_mount_and_its_successor_cleans_up() {
    let Some(host) = Host::new() else { return };
    let mut daemon = start_daemon(&host);
    let file = open(&host.node(), libc::O_DIRECT).unwrap();
    file.write_all_at(&pattern(1), 0).unwrap();
    let dead = served_file(&host);
    let is_bound = || bound_files().iter().any(|file| file.contains(&dead));
    assert!(is_bound());
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let error = file.write_all_at(&pattern(1), 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    drop(file);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(host.run.path().to_str().unwrap()));

    let mut door = host.door();
    assert!(!is_bound());
    door.attach(RamBackend::new(MIB, ALL)).unwrap();
    open(&host.node(), 0).unwrap().write_all(&pattern(2)).unwrap();
    door.detach(Detach::Unused).unwrap();
}

#[test]
fn a_daemon_can_clean_up_without_making_the_minors_again() {
    let Some(host) = Host::new() else { return };
    let mut daemon = start_daemon(&host);
    let dead = served_file(&host);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    clean_after_dead_daemon(host.run.path(), host.dev.path());
    assert!(!bound_files().iter().any(|file| file.contains(&dead)));
    assert!(!host.node().exists());
    assert_eq!(fs::read_dir(host.run.path().join("doors")).unwrap().count(), 0);
}

#[test]
fn a_file_system_on_a_killed_daemon_can_be_unmounted() {
    let Some(host) = Host::new() else { return };
    let mut daemon = start_daemon(&host);
    let node = host.node();
    run("mkfs.ext3", &["-q", node.to_str().unwrap()]);
    let mount_point = host.run.path().join("mnt");
    fs::create_dir(&mount_point).unwrap();
    run("mount", &[node.to_str().unwrap(), mount_point.to_str().unwrap()]);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let dead = served_file(&host);
    // A successor comes while the dead device is still mounted, and works beside it.
    let mut door = host.door();
    door.attach(RamBackend::new(MIB, ALL)).unwrap();
    assert_eq!(door.holders(), []);
    run("umount", &[mount_point.to_str().unwrap()]);
    assert!(!bound_files().iter().any(|file| file.contains(&dead)), "it goes with its last user");
    door.detach(Detach::Unused).unwrap();
}
