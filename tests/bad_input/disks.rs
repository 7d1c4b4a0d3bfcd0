//! Disks that cannot be attached, and disks that fail. spec/state.md 13.3, 13.4; spec/drbdsetup.md 4.3.

use crate::fake_peer::FakePeer;
use crate::nbd::Client;
use crate::node::{connect_both, new_address, run, Node, Ran, DISK_BYTES};
use drbdbox::core::state::{Conn, Disk, Role};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::Command;

fn attach(node: &Node, data: &str, meta: &str, index: &str) -> Ran {
    node.drbdsetup(&["0", "disk", data, meta, index, "--create-device"])
}

fn file(node: &Node, name: &str, bytes: u64) -> String {
    let path = node.path(name);
    std::fs::File::create(&path).unwrap().set_len(bytes).unwrap();
    path.display().to_string()
}

fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("skipped: this part needs root");
    }
    root
}

#[test]
fn disks_that_are_refused() {
    let node = Node::start();
    let good = node.make_disk("good", DISK_BYTES);
    let no_meta_data = file(&node, "blank", DISK_BYTES);
    let text = "Failure: (119) No valid meta-data signature found.\n\n\t==> Use 'drbdadm create-md res' to initialize meta-data area. <==\n";
    attach(&node, &no_meta_data, &no_meta_data, "internal").refused(10, text);
    let directory = node.path("lib").display().to_string();
    let text = format!("Can not open device '{directory}': Is a directory");
    attach(&node, &directory, &directory, "internal").refused(20, &text);
    attach(&node, &good, &no_meta_data, "internal")
        .refused(10, "Failure: (116) Lower device / meta device / index combination invalid.");
    let tiny = file(&node, "tiny", 64 << 10);
    attach(&node, &good, &tiny, "0").refused(10, "Failure: (112) Meta device too small.");
    attach(&node, &tiny, &tiny, "internal").refused(10, "Failure: (112) Meta device too small.");
    // The tool looks at the paths first.
    let missing = node.path("missing").display().to_string();
    let text = format!("Can not open device '{missing}': No such file or directory");
    attach(&node, &missing, &missing, "internal").refused(20, &text);
    node.drbdsetup(&["0", "disk", &good, &good, "internal", "--create-device", "-d", "100G"])
        .refused(10, "Failure: (111) Low.dev. smaller than requested DRBD-dev. size.");
    assert_eq!(node.volume().state.disk, Disk::Diskless);
    // A disk of another minor.
    attach(&node, &good, &good, "internal").ok();
    let ran = node.drbdsetup(&["1", "disk", &good, &good, "internal", "--create-device"]);
    let ran = ran.refused(10, "1: Failure: (104) Can not open backing device.");
    assert!(ran.err.contains("good"), "{ran:?}");
    attach(&node, &good, &good, "internal")
        .refused(10, "(124) Device is attached to a disk (use detach first)");
}

#[test]
fn a_disk_that_vanishes_between_tool_and_daemon() {
    use drbdbox::control::{Call, Client as Control, Reply, Request};
    let node = Node::start();
    let call = Call {
        create_device: true,
        ..Call::new(Request::Attach {
            minor: 0,
            lower_device: "/nonexistent".into(),
            meta_device: "/nonexistent".into(),
            meta_index: -3,
            changes: Vec::new(),
        })
    };
    match Control::connect(&node.socket()).unwrap().call(&call).unwrap() {
        Reply::Code { code: 104, info } => assert!(info[0].contains("/nonexistent"), "{info:?}"),
        other => panic!("{other:?}"),
    }
    node.log.wait(0, "open(\"/nonexistent\") failed with -2");
    assert_eq!(node.volume().state.disk, Disk::Diskless);
}

/// drbdmeta asks about its own minor; the device may be that of another one.
#[test]
fn meta_data_of_an_attached_disk_are_not_written() {
    let node = Node::start();
    let other = node.make_disk("other", DISK_BYTES);
    let disk = node.attach();
    for device in ["1", "-"] {
        for command in ["outdate", "create-md", "wipe-md", "apply-al"] {
            let ran = node.run(&["drbdmeta", "--force", device, "v08", &disk, "internal", command]);
            assert_eq!(ran.status, 20, "{ran:?}");
            assert_eq!(ran.err, format!("{disk} is attached to minor 0! Detach it first.\n"));
        }
        node.run(&["drbdmeta", "--force", device, "v08", &other, "internal", "create-md"]).ok();
    }
    let ran = node.run(&["drbdmeta", "0", "v08", &disk, "internal", "get-gi"]);
    assert_eq!((ran.status, ran.err.as_str()), (20, "Device '0' is configured!\n"));
    // A meta device with slots: only the slot in use is taken.
    let slots = node.path("slots").display().to_string();
    std::fs::File::create(&slots).unwrap().set_len(3 << 27).unwrap();
    let call = |device: &str, index: &str, command: &str| {
        node.run(&["drbdmeta", "--force", device, "v08", &slots, index, command])
    };
    call("1", "0", "create-md").ok();
    node.drbdsetup(&["1", "disk", &other, &slots, "0", "--create-device"]).ok();
    call("-", "1", "create-md").ok();
    for index in ["0", "flex-external", "internal"] {
        let ran = call("-", index, "create-md");
        assert_eq!(
            (ran.status, ran.err),
            (20, format!("{slots} is attached to minor 1! Detach it first.\n"))
        );
    }
    let scan = node.run(&["drbdmeta", "scan", &disk]);
    assert_eq!(scan.status, 0, "{scan:?}");
    assert!(scan.out.contains("! In use: minor 0 is attached to it."), "{scan:?}");
    assert!(!scan.out.contains("losetup"), "{scan:?}");
}

/// Where drbdmeta puts the super block of a disk with internal meta data.
fn super_block_offset(bytes: u64) -> u64 {
    bytes - 4096
}

#[test]
fn meta_data_that_are_damaged_or_of_another_kind() {
    let node = Node::start();
    let disk = node.make_disk("disk", DISK_BYTES);
    let at = super_block_offset(DISK_BYTES);
    let handle = std::fs::File::options().read(true).write(true).open(&disk).unwrap();
    let mut block = vec![0; 4096];
    handle.read_exact_at(&mut block, at).unwrap();
    let magic = 0x8374_026b_u32.to_be_bytes();
    let magic_at = block.windows(4).position(|window| window == magic).expect("the magic number");
    let refused = |node: &Node| {
        let ran = attach(node, &disk, &disk, "internal");
        assert_eq!(ran.status, 10, "{ran:?}");
        assert!(ran.err.contains("(119)"), "{ran:?}");
        assert_eq!(node.volume().state.disk, Disk::Diskless);
    };
    // Every byte of what means something turned over: taken or refused, never the end of the daemon.
    for byte in 0..magic_at + 64 {
        let mut damaged = block.clone();
        damaged[byte] ^= 0xff;
        handle.write_all_at(&damaged, at).unwrap();
        let ran = attach(&node, &disk, &disk, "internal");
        match ran.status {
            0 => {
                node.drbdsetup(&["0", "detach"]).ok();
            }
            _ => assert!(ran.status == 10 && ran.err.contains("Failure: (1"), "{byte}: {ran:?}"),
        }
    }
    // A log of noise, of a node that was Primary when it ended: all blocks count as out of sync, at worst.
    let log_bytes = 32 << 10;
    let noise: Vec<u8> = (0..log_bytes as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    for flags in 0..32u32 {
        let mut was_primary = block.clone();
        was_primary[magic_at - 4..magic_at].copy_from_slice(&(flags | 1 << 2).to_be_bytes());
        handle.write_all_at(&was_primary, at).unwrap();
        handle.write_all_at(&noise, at - log_bytes).unwrap();
        attach(&node, &disk, &disk, "internal").ok();
        node.drbdsetup(&["0", "detach"]).ok();
    }
    // Meta data of DRBD 9.
    let mut nine = block.clone();
    nine[magic_at..magic_at + 4].copy_from_slice(&0x8374_026d_u32.to_be_bytes());
    handle.write_all_at(&nine, at).unwrap();
    refused(&node);
    node.log.wait(0, "magic not found");
    handle.write_all_at(&vec![0xff; 4096], at).unwrap();
    refused(&node);
    handle.write_all_at(&block, at).unwrap();
    attach(&node, &disk, &disk, "internal").ok();
}

#[test]
fn a_disk_that_is_in_use_or_read_only() {
    if !root() {
        return;
    }
    let node = Node::start();
    let disk = node.make_disk("disk", 16 << 20);
    let losetup = |words: &[&str]| {
        let mut command = Command::new("losetup");
        command.args(words);
        run(command)
    };
    let made = losetup(&["-f", "--show", &disk]);
    if made.status != 0 {
        println!("skipped: losetup: {}", made.err);
        return;
    }
    let device = made.out.trim().to_owned();
    let claim = std::fs::File::options().read(true).custom_flags(nix::libc::O_EXCL).open(&device);
    let ran = attach(&node, &device, &device, "internal");
    drop(claim);
    losetup(&["-d", &device]).ok();
    let ran = ran.refused(10, "Failure: (104) Can not open backing device.");
    assert!(ran.err.contains(&device) && ran.err.contains("mounted"), "{ran:?}");

    let device = losetup(&["-r", "-f", "--show", &disk]).ok().out.trim().to_owned();
    let ran = attach(&node, &device, &device, "internal");
    losetup(&["-d", &device]).ok();
    let ran = ran.refused(10, "Failure: (104) Can not open backing device.");
    assert!(ran.err.contains("read-only"), "{ran:?}");
    assert_eq!(node.volume().state.disk, Disk::Diskless);
}

/// A directory on a file system of its own, of so many bytes. Unmounted at the end.
struct SmallFileSystem(std::path::PathBuf);

impl SmallFileSystem {
    fn new(path: std::path::PathBuf, bytes: u64) -> SmallFileSystem {
        std::fs::create_dir(&path).unwrap();
        let options = format!("size={bytes}");
        let (none, flags) = (None::<&str>, nix::mount::MsFlags::empty());
        nix::mount::mount(none, &path, Some("tmpfs"), flags, Some(options.as_str())).unwrap();
        SmallFileSystem(path)
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

/// A Primary on a sparse file that cannot grow to its size.
fn on_a_full_disk(more: &[&str]) -> (SmallFileSystem, Node) {
    let node = Node::with_door("nbd-server");
    let small = SmallFileSystem::new(node.path("small"), 1 << 20);
    let disk = node.make_disk("small/disk", DISK_BYTES);
    let words: &[&str] = &["0", "disk", &disk, &disk, "internal", "--create-device"];
    node.drbdsetup(&[words, more].concat()).ok();
    (small, node)
}

/// Writes until the disk is full; the bytes at each offset that was acknowledged.
fn fill(application: &mut Client) -> (Vec<(u64, u8)>, u32) {
    let mut acknowledged = Vec::new();
    for step in 0..application.size / 65536 {
        let fill = step as u8 + 1;
        match application.write(step * 65536, &[fill; 65536]) {
            0 => acknowledged.push((step * 65536, fill)),
            error => return (acknowledged, error),
        }
    }
    (acknowledged, 0)
}

#[test]
fn meta_data_that_cannot_be_written() {
    if !root() {
        return;
    }
    let node = Node::start();
    let small = SmallFileSystem::new(node.path("small"), 256 << 10);
    let data = file(&node, "data", DISK_BYTES);
    let meta = file(&node, "small/meta", DISK_BYTES);
    node.run(&["drbdmeta", "--force", "0", "v08", &meta, "flex-external", "create-md"]).ok();
    // Not a byte is left for the bitmap.
    let filler = std::fs::write(small.0.join("filler"), vec![1; 256 << 10]);
    assert!(filler.is_err());
    let text = "Failure: (118) IO error(s) occurred during initial access to meta-data.";
    attach(&node, &data, &meta, "flexible").refused(10, text);
    node.log.wait(0, "small/meta: meta data write: No space left on device");
    node.wait("Diskless", |volume| volume.state.disk == Disk::Diskless);
    std::fs::remove_file(small.0.join("filler")).unwrap();
    attach(&node, &data, &meta, "flexible").ok();
}

#[test]
fn a_full_disk_without_a_peer() {
    if !root() {
        return;
    }
    let (_small, node) = on_a_full_disk(&["--on-io-error", "pass_on"]);
    node.drbdsetup(&["0", "primary", "-o"]).ok();
    let mut application = Client::open(&node, "minor-0");
    let (acknowledged, error) = fill(&mut application);
    assert!(error != 0 && !acknowledged.is_empty(), "{error}");
    node.log.wait(0, "local WRITE IO error");
    // The disk counts as Inconsistent now and reads may fail (spec/state.md 13.4), but what was acknowledged is there.
    assert_eq!(node.volume().state.disk, Disk::Inconsistent);
    let data = std::fs::read(node.path("small/disk")).unwrap();
    for (offset, fill) in acknowledged {
        assert!(data[offset as usize..][..65536].iter().all(|byte| *byte == fill), "{offset}");
    }
}

#[test]
fn a_full_disk_with_a_peer_loses_nothing() {
    if !root() {
        return;
    }
    for (policy, then) in [("detach", Disk::Diskless), ("pass_on", Disk::Inconsistent)] {
        let (_small, node) = on_a_full_disk(&["--on-io-error", policy]);
        let peer = Node::start();
        peer.attach();
        // Both new, nothing to be synchronized.
        connect_both(&node, &peer, &[]);
        node.wait_conn(Conn::Connected);
        node.drbdsetup(&["new-current-uuid", "0", "--clear-bitmap"]).ok();
        for node in [&node, &peer] {
            node.wait("UpToDate", |v| (v.state.disk, v.state.pdsk) == (Disk::UpToDate, Disk::UpToDate));
        }
        node.drbdsetup(&["0", "primary"]).ok();
        let mut application = Client::open(&node, "minor-0");
        let (acknowledged, error) = fill(&mut application);
        assert_eq!(error, 0, "the peer has all of it\n{}", node.log.text());
        node.log.wait(0, "IO error");
        let volume = node.wait(policy, |volume| volume.state.disk == then);
        assert_eq!(volume.state.role, Role::Primary);
        for (offset, fill) in acknowledged {
            assert_eq!(application.read(offset, 65536), Ok(vec![fill; 65536]), "{policy} {offset}");
        }
        drop(application);
        node.drbdsetup(&["0", "secondary"]).ok();
    }
}

#[test]
fn a_full_disk_of_the_peer() {
    if !root() {
        return;
    }
    // The peer of this test runs on the full disk and gets more than fits.
    let (_small, node) = on_a_full_disk(&["--on-io-error", "detach"]);
    let source = Node::with_door("nbd-server");
    source.attach();
    connect_both(&node, &source, &[]);
    source.wait_conn(Conn::Connected);
    source.drbdsetup(&["new-current-uuid", "0", "--clear-bitmap"]).ok();
    for node in [&node, &source] {
        node.wait("UpToDate", |v| (v.state.disk, v.state.pdsk) == (Disk::UpToDate, Disk::UpToDate));
    }
    source.drbdsetup(&["0", "primary"]).ok();
    let mut application = Client::open(&source, "minor-0");
    let (acknowledged, error) = fill(&mut application);
    assert_eq!(error, 0, "{}", source.log.text());
    node.wait("Diskless", |volume| volume.state.disk == Disk::Diskless);
    source.wait("sees it", |volume| volume.state.pdsk == Disk::Diskless);
    assert_eq!(source.volume().state.disk, Disk::UpToDate);
    assert!(source.volume().out_of_sync_bits > 0);
    for (offset, fill) in acknowledged {
        assert_eq!(application.read(offset, 65536), Ok(vec![fill; 65536]));
    }
}

#[test]
fn only_the_data_that_were_lost_last_may_come_back_to_a_primary() {
    let node = Node::with_door("nbd-server");
    node.attach();
    node.connect(new_address(), &[]);
    node.drbdsetup(&["0", "primary", "-o"]).ok();
    let peer = FakePeer::accepted(&node).keep_alive();
    node.drbdsetup(&["0", "detach"]).ok();
    node.wait("Diskless", |volume| volume.state.disk == Disk::Diskless);
    drop(peer);
    node.wait_conn(Conn::WFConnection);
    let other = node.make_disk("other", DISK_BYTES);
    attach(&node, &other, &other, "internal")
        .refused(10, "(150) Can only attach to the data we lost last (see kernel log).");
    node.log.wait(0, "Can only attach to data with current UUID=");
    let disk = node.path("disk").display().to_string();
    attach(&node, &disk, &disk, "internal").ok();
    assert_eq!(node.volume().state.disk, Disk::UpToDate);
}
