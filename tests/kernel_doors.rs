//! The doors that are block devices, with the kernel, file systems and other processes. Each test is for all of them.
//!
//! `DRBDBOX_TEST_DOOR` says which: `fuse-loop` (the default), `nbd`, or `nbd-ioctl`, which is the way of old kernels. Needs
//! root and the kernel's drivers; each test says so where they are missing. tests/lab runs it in its machine for nbd.

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
use drbdbox::export::loop_door::{LoopDoor, LoopDoorConfig};
use drbdbox::export::nbd_kernel::{self, NbdKernelDoor, NbdKernelDoorConfig};
use drbdbox::export::predecessor::clean_after_dead_daemon;
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

/// A kind of door.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    FuseLoop,
    Nbd,
    NbdIoctl,
}

impl Kind {
    fn tested() -> Kind {
        match std::env::var("DRBDBOX_TEST_DOOR").as_deref() {
            Err(_) | Ok("" | "fuse-loop") => Kind::FuseLoop,
            Ok("nbd") => Kind::Nbd,
            Ok("nbd-ioctl") => Kind::NbdIoctl,
            Ok(other) => panic!("DRBDBOX_TEST_DOOR={other}"),
        }
    }

    /// What it needs and this host has not.
    fn missing(self) -> Option<&'static str> {
        let loops = [("/dev/fuse", "no /dev/fuse"), ("/dev/loop-control", "no /dev/loop-control")];
        match self {
            _ if !nix::unistd::geteuid().is_root() => Some("not root"),
            Kind::FuseLoop => {
                loops.into_iter().find(|(path, _)| !Path::new(path).exists()).map(|(_, what)| what)
            }
            Kind::Nbd | Kind::NbdIoctl => (!nbd_kernel::is_available()).then_some("the kernel has no nbd"),
        }
    }

    fn create(self, minor: u32, device_directory: PathBuf, run_directory: PathBuf) -> Box<dyn Door> {
        match self {
            Kind::FuseLoop => {
                let config = LoopDoorConfig { minor, device_directory, run_directory, threads: 4 };
                Box::new(LoopDoor::create(config).unwrap())
            }
            Kind::Nbd | Kind::NbdIoctl => {
                let netlink = self == Kind::Nbd;
                let config =
                    NbdKernelDoorConfig { minor, device_directory, run_directory, threads: 4, netlink };
                Box::new(NbdKernelDoor::create(config).unwrap())
            }
        }
    }

    /// Threads of an attached door.
    fn threads(self) -> usize {
        match self {
            Kind::FuseLoop => 4,
            Kind::Nbd => 2,
            Kind::NbdIoctl => 3,
        }
    }
}

/// A host of its own: a /dev and a run directory.
struct Host {
    /// In /dev, since other file systems may not allow device nodes.
    dev: tempfile::TempDir,
    run: tempfile::TempDir,
}

impl Host {
    /// `None`, with a line that says so, where doors cannot work.
    fn new() -> Option<Host> {
        let Some(missing) = Kind::tested().missing() else {
            let dev = tempfile::Builder::new().prefix("drbdbox-test-").tempdir_in("/dev").unwrap();
            return Some(Host { dev, run: tempfile::tempdir().unwrap() });
        };
        println!("SKIPPED: {missing}");
        None
    }

    fn door(&self) -> Box<dyn Door> {
        self.door_of(0)
    }

    fn door_of(&self, minor: u32) -> Box<dyn Door> {
        Kind::tested().create(minor, self.dev.path().to_owned(), self.run.path().to_owned())
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

/// A file system that this host may have: how it is made, and how it is checked.
struct FileSystem {
    name: &'static str,
    make: &'static [&'static str],
    check: &'static [&'static str],
}

impl FileSystem {
    /// What this host has not, of the programs and the kernel's part.
    fn missing(&self) -> Option<String> {
        let _ = Command::new("modprobe").args(["-q", self.name]).status();
        let known = fs::read_to_string("/proc/filesystems").unwrap();
        if !known.lines().any(|line| line.trim() == self.name) {
            return Some(format!("the kernel has no {}", self.name));
        }
        let absent = |words: &&[&str]| {
            let found = Command::new(words[0]).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
            found.is_err()
        };
        [self.make, self.check].iter().find(|words| absent(words)).map(|words| format!("no {}", words[0]))
    }
}

#[test]
fn file_systems_survive_detaching() {
    const KNOWN: [FileSystem; 3] = [
        FileSystem { name: "ext3", make: &["mkfs.ext3", "-q"], check: &["fsck.ext3", "-fn"] },
        FileSystem { name: "ext4", make: &["mkfs.ext4", "-q"], check: &["fsck.ext4", "-fn"] },
        FileSystem { name: "xfs", make: &["mkfs.xfs", "-q"], check: &["xfs_repair", "-n"] },
    ];
    for kind in KNOWN {
        match kind.missing() {
            None => a_file_system_survives_detaching(&kind),
            Some(missing) => println!("SKIPPED: {} on a door: {missing}", kind.name),
        }
    }
}

fn a_file_system_survives_detaching(kind: &FileSystem) {
    let Some(host) = Host::new() else { return };
    let node = host.node();
    let node = node.to_str().unwrap();
    let with_node = |words: &[&'static str]| {
        // mkfs.xfs makes file systems of this size only for its own tests, which it knows by these.
        let own_tests = ["TEST_DIR", "TEST_DEV", "QA_CHECK_FS"].map(|name| (name, "yes"));
        let output = Command::new(words[0]).args(&words[1..]).arg(node).envs(own_tests).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
    };
    let backend = RamBackend::new(64 * MIB, ALL);
    let mut door = host.door();
    door.attach(backend.clone()).unwrap();
    with_node(kind.make);
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
    with_node(kind.check);
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
    // Durable before it is complete: by a request that says so, or by a flush behind it.
    let before = backend.counters.flushes.load(Ordering::Relaxed);
    open(&host.node(), libc::O_DIRECT | libc::O_DSYNC).unwrap().write_all_at(&pattern(1), 0).unwrap();
    let flushes = backend.counters.flushes.load(Ordering::Relaxed) - before;
    assert_ne!(flushes + backend.counters.fua_writes.load(Ordering::Relaxed), 0);
    let node = host.node();
    run("blkdiscard", &["-o", "1048576", "-l", "3145728", node.to_str().unwrap()]);
    run("blkdiscard", &["-z", "-o", "4194304", "-l", "1048576", node.to_str().unwrap()]);
    // A file's hole is a range of zeroes.
    let zeroes = if Kind::tested() == Kind::FuseLoop { 4 } else { 1 };
    assert_eq!(backend.counters.write_zeroes.load(Ordering::Relaxed), zeroes, "1 MiB at a time");
    assert_eq!(backend.counters.discards.load(Ordering::Relaxed), 4 - zeroes, "1 MiB at a time");
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

fn held_by(door: &mut dyn Door) -> Vec<Holder> {
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
    let holders = held_by(&mut *door);
    reader.kill().unwrap();
    reader.wait().unwrap();
    assert_eq!(holders, [expected]);

    let mount_point = host.run.path().join("my mnt");
    fs::create_dir(&mount_point).unwrap();
    let mount_point = mount_point.to_str().unwrap();
    run("mount", &[node.to_str().unwrap(), mount_point]);
    let holders = held_by(&mut *door);
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

/// Puts a loop device on the node; its path.
fn loop_above(node: &Path) -> String {
    let node = node.to_str().unwrap();
    let shown = Command::new("losetup").args(["--show", "-f", node]).output().unwrap();
    if shown.status.success() {
        return String::from_utf8(shown.stdout).unwrap().trim().to_owned();
    }
    // busybox's
    let free = run("losetup", &["-f"]).trim().to_owned();
    run("losetup", &[&free, node]);
    free
}

#[test]
fn users_in_the_kernel_are_seen_too() {
    let Some(host) = Host::new() else { return };
    let node = host.node();
    let mut door = host.door();
    door.attach(RamBackend::new(MIB, ALL)).unwrap();
    let upper = loop_above(&node);
    let by_name = held_by(&mut *door);
    if Kind::tested() != Kind::FuseLoop {
        run("losetup", &["-d", &upper]);
        assert_eq!(by_name, [Holder::Device { name: upper.trim_start_matches("/dev/").to_owned() }]);
        return door.detach(Detach::Unused).unwrap();
    }
    // Without its name, only the kernel's own count of openers is left. (nbd has none.)
    fs::rename(&node, host.dev.path().join("gone")).unwrap();
    fs::remove_file(host.dev.path().join("gone")).unwrap();
    let by_count = held_by(&mut *door);
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
    let Some(host) = Host::new().filter(|_| Kind::tested() == Kind::FuseLoop) else { return };
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

/// A thread has its name a moment after its start, and /proc shows it for a moment after its end.
fn await_own_things(host: &Host, (threads, rest): (usize, Option<(usize, Vec<String>)>)) {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let (seen, mounts, devices) = own_things(host);
        let is_right = seen == threads && rest.as_ref().is_none_or(|rest| *rest == (mounts, devices.clone()));
        if is_right {
            return;
        }
        assert!(Instant::now() < until, "{seen} threads, {mounts} mounts, {devices:?}");
        std::thread::yield_now();
    }
}

#[test]
fn a_hundred_rounds_leave_nothing_behind_and_no_stale_page() {
    let Some(host) = Host::new() else { return };
    let backend = RamBackend::new(4 * MIB, ALL);
    let mut door = host.door_of(77);
    let node = host.dev.path().join("drbd77");
    for round in 1..=100u8 {
        backend.poke(0, &[round; 8192]);
        door.attach(backend.clone()).unwrap();
        await_own_things(&host, (Kind::tested().threads(), None));
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
        await_own_things(&host, (0, Some((0, vec![]))));
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
#[derive(Default)]
struct Stuck {
    kept: Mutex<Vec<Request>>,
    generation: Option<u64>,
}

impl Backend for Stuck {
    fn size_bytes(&self) -> u64 {
        MIB
    }

    fn generation(&self) -> Option<u64> {
        self.generation
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
    let stuck = Arc::new(Stuck::default());
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
    let stuck = Arc::new(Stuck::default());
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
    let mut door = Kind::tested().create(0, dev.into(), run.into());
    if std::env::var_os("DOOR_TEST_OUTLIVES").is_some() {
        door.attach(Arc::new(Stuck { generation: Some(7), ..Stuck::default() })).unwrap();
    } else {
        door.attach(RamBackend::new(16 * MIB, ALL)).unwrap();
    }
    println!("\nattached {}", door.device_number().unwrap());
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

fn start_daemon(host: &Host) -> Child {
    start_daemon_with(host, &[])
}

fn start_daemon_with(host: &Host, environment: &[(&str, &str)]) -> Child {
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "daemon_to_be_killed", "--nocapture"])
        .envs(environment.iter().copied())
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
    let devices = fs::read_dir("/sys/block").unwrap().flatten();
    let of = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("loop/backing_file")).ok();
    devices.filter_map(of).collect()
}

/// The kernel device of a daemon, as its record says.
struct Served {
    number: String,
    mark: String,
}

impl Served {
    fn by(host: &Host) -> Served {
        let record = fs::read_to_string(host.run.path().join("doors/minor-0")).unwrap();
        let mut words = record.trim().split(' ').skip(1).map(str::to_owned);
        Served { number: words.next().unwrap(), mark: words.next().unwrap() }
    }

    /// Whether the kernel has it in service.
    fn is_bound(&self) -> bool {
        let nbd = |name| fs::read_to_string(format!("/sys/block/nbd{}/{name}", self.number));
        match Kind::tested() {
            Kind::FuseLoop => bound_files().iter().any(|file| file.contains(&self.mark)),
            Kind::Nbd => nbd("backend").is_ok_and(|backend| backend.trim() == self.mark),
            Kind::NbdIoctl => nbd("pid").is_ok(),
        }
    }
}

#[test]
fn a_killed_daemon_leaves_errors_no_mount_and_its_successor_cleans_up() {
    let Some(host) = Host::new() else { return };
    let mut daemon = start_daemon(&host);
    let file = open(&host.node(), libc::O_DIRECT).unwrap();
    file.write_all_at(&pattern(1), 0).unwrap();
    let dead = Served::by(&host);
    assert!(dead.is_bound());
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let error = file.write_all_at(&pattern(1), 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    drop(file);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(host.run.path().to_str().unwrap()));

    let mut door = host.door();
    assert!(!dead.is_bound());
    door.attach(RamBackend::new(MIB, ALL)).unwrap();
    open(&host.node(), 0).unwrap().write_all(&pattern(2)).unwrap();
    door.detach(Detach::Unused).unwrap();
}

#[test]
fn a_daemon_can_clean_up_without_making_the_minors_again() {
    let Some(host) = Host::new() else { return };
    let mut daemon = start_daemon(&host);
    let dead = Served::by(&host);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    clean_after_dead_daemon(host.run.path(), host.dev.path(), |_, _| false);
    assert!(!dead.is_bound());
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
    let dead = Served::by(&host);
    // A successor comes while the dead device is still mounted, and works beside it.
    let mut door = host.door();
    door.attach(RamBackend::new(MIB, ALL)).unwrap();
    assert_eq!(door.holders(), []);
    run("umount", &[mount_point.to_str().unwrap()]);
    assert!(!dead.is_bound(), "it goes with its last user");
    door.detach(Detach::Unused).unwrap();
}

/// A daemon that never answers is killed while four writes wait for it, and some more come. The writers.
fn killed_under_load(host: &Host) -> Vec<std::thread::JoinHandle<io::Result<()>>> {
    let mut daemon = start_daemon_with(host, &[("DOOR_TEST_OUTLIVES", "yes")]);
    let writer = |number: u64| {
        let file = open(&host.node(), libc::O_DIRECT).unwrap();
        std::thread::spawn(move || file.write_all_at(&pattern(number as u8), number * (64 << 10)))
    };
    let in_flight = || {
        let device = Served::by(host).number;
        let counts = fs::read_to_string(format!("/sys/block/nbd{device}/inflight")).unwrap();
        counts.split_whitespace().map(|count| count.parse::<u32>().unwrap()).sum::<u32>()
    };
    let mut writers: Vec<_> = (0..4).map(writer).collect();
    let until = Instant::now() + Duration::from_secs(30);
    while in_flight() < 4 {
        assert!(Instant::now() < until);
        std::thread::yield_now();
    }
    let late = open(&host.node(), libc::O_DIRECT).unwrap();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    writers.push(std::thread::spawn(move || late.write_all_at(&pattern(4), 4 * (64 << 10))));
    writers
}

#[test]
fn a_successor_goes_on_with_the_device_and_its_users_see_no_error() {
    let Some(host) = Host::new().filter(|_| Kind::tested() == Kind::Nbd) else { return };
    let writers = killed_under_load(&host);
    let dead = Served::by(&host);
    let mut door = host.door();
    assert_eq!(door.orphan(), Some(7));
    assert!(dead.is_bound() && !door.is_attached());
    // A second successor could not know what the first one did with the data.
    let record = fs::read_to_string(host.run.path().join("doors/minor-0")).unwrap();
    assert_eq!(record.trim_end().split(' ').count(), 3, "{record}");
    let wrong_size = RamBackend::new(2 * MIB, ALL);
    door.adopt(wrong_size).unwrap_err();
    let backend = RamBackend::new(MIB, ALL);
    backend.set_generation(9);
    door.adopt(backend.clone()).unwrap();
    assert!(writers.into_iter().all(|writer| writer.join().unwrap().is_ok()));
    let mut bytes = vec![0; 64 << 10];
    for number in 0..5 {
        backend.peek(u64::from(number) * (64 << 10), &mut bytes);
        assert!(bytes == pattern(number)[..], "write {number} has come again");
    }
    assert!(dead.is_bound());
    let mut byte = [0];
    open(&host.node(), 0).unwrap().read_exact(&mut byte).unwrap();
    assert_eq!(byte[0], pattern(0)[0]);
    let record = fs::read_to_string(host.run.path().join("doors/minor-0")).unwrap();
    assert!(record.trim_end().ends_with(" 0000000000000009"), "{record}");
    door.detach(Detach::Unused).unwrap();
    assert!(!dead.is_bound());
}

#[test]
fn users_of_a_device_that_does_not_go_on_see_errors() {
    for attach in [false, true] {
        let Some(host) = Host::new().filter(|_| Kind::tested() == Kind::Nbd) else { return };
        let writers = killed_under_load(&host);
        let dead = Served::by(&host);
        let mut door = host.door();
        let backend = RamBackend::new(MIB, ALL);
        if attach {
            door.attach(backend.clone()).unwrap();
        } else {
            door.detach(Detach::Forced).unwrap();
        }
        for writer in writers {
            assert_eq!(writer.join().unwrap().unwrap_err().raw_os_error(), Some(libc::EIO));
        }
        assert!(!dead.is_bound());
        assert_eq!((door.orphan(), door.is_attached()), (None, attach));
        assert_eq!(backend.counters.writes.load(Ordering::Relaxed), 0);
    }
}
