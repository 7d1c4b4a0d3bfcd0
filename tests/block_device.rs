//! Real block devices: loop devices on sparse files. Needs root and loop devices; skipped with a
//! reason where those are missing.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use drbdbox::sys::block_device::{BlockDevice, Claim, Kind, OpenMode};
use drbdbox::sys::buffer::Buffer;

/// A loop device; detached when dropped.
struct Loop {
    dir: tempfile::TempDir,
    node: PathBuf,
}

impl Loop {
    /// `None`, with the reason on stderr, if there can be none here.
    fn new(bytes: u64, sector_bytes: u32) -> Option<Loop> {
        let skip = |reason: String| {
            eprintln!("skipped: {reason}");
            None
        };
        if !nix::unistd::geteuid().is_root() {
            return skip("loop devices need root".into());
        }
        let dir = tempfile::tempdir().expect("temporary directory");
        let image = dir.path().join("image");
        let file = std::fs::File::create(&image).expect("image");
        file.set_len(bytes).expect("image");
        let output = Command::new("losetup")
            .args(["--find", "--show", "--sector-size"])
            .arg(sector_bytes.to_string())
            .arg(&image)
            .output();
        match output {
            Ok(output) if output.status.success() => {
                let node = String::from_utf8_lossy(&output.stdout).trim().to_string();
                Some(Loop { dir, node: node.into() })
            }
            Ok(output) => skip(format!("no loop device: {}", String::from_utf8_lossy(&output.stderr).trim())),
            Err(error) => skip(format!("no losetup: {error}")),
        }
    }

    fn drbdmeta(&self, words: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drbdbox"));
        for variable in ["DRBDBOX_LIBDIR", "DRBDBOX_LOCKDIR", "DRBDBOX_RUNDIR"] {
            command.env(variable, self.dir.path());
        }
        let node = self.node.as_os_str();
        for word in words.split(' ') {
            command.arg(if word == "DEV" { node } else { word.as_ref() });
        }
        command.arg0("drbdmeta").output().expect("drbdmeta runs")
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let status = Command::new("losetup").arg("-d").arg(&self.node).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("{} stays", self.node.display());
        }
    }
}

fn open(path: &Path, claim: Claim) -> Result<BlockDevice, String> {
    let mode = OpenMode { read_only: false, claim };
    BlockDevice::open(path, mode).map_err(|error| error.to_string())
}

#[test]
fn a_block_device_is_claimed_by_one() {
    let Some(disk) = Loop::new(1 << 20, 512) else {
        return;
    };
    let first = open(&disk.node, Claim::Exclusive).expect("first claim");
    assert_eq!(first.kind(), Kind::BlockDevice);
    assert_eq!(first.size_bytes(), 1 << 20);
    assert!(first.is_direct() && !first.is_read_only());
    assert_eq!(
        open(&disk.node, Claim::Exclusive).expect_err("second claim"),
        format!("open({}) failed: Device or resource busy", disk.node.display())
    );
    // As 8.3.16's drbdmeta: looks without a claim.
    open(&disk.node, Claim::None).expect("no claim");
}

#[test]
fn requests_smaller_than_a_sector_of_4_kib_keep_their_neighbours() {
    let Some(disk) = Loop::new(1 << 20, 4096) else {
        return;
    };
    let device = open(&disk.node, Claim::Exclusive).expect("device");
    assert_eq!(device.logical_block_bytes(), 4096);
    device.write_at(4096, &Buffer::from_bytes(&[7; 4096])).expect("whole sector");
    device.write_at(4096 + 512, &Buffer::from_bytes(&[8; 512])).expect("part of a sector");
    let mut back = [0; 1536];
    device.read_at(4096, &mut back).expect("read");
    assert!(back[..512].iter().all(|byte| *byte == 7));
    assert!(back[512..1024].iter().all(|byte| *byte == 8));
    assert!(back[1024..].iter().all(|byte| *byte == 7));
    device.zero_out(4096, 4096).expect("zero");
    device.read_at(4096, &mut back).expect("read");
    assert_eq!(back, [0; 1536]);
    let end = device.write_at(1 << 20, &[1; 512]).expect_err("end");
    assert_eq!(end.raw_os_error(), Some(nix::libc::ENOSPC));
}

#[test]
fn meta_data_on_a_block_device() {
    for sector_bytes in [512, 4096] {
        let Some(disk) = Loop::new(64 << 20, sector_bytes) else {
            return;
        };
        let created = disk.drbdmeta("0 v08 DEV internal create-md");
        assert!(created.status.success(), "{created:?}");
        let gi = disk.drbdmeta("0 v08 DEV internal get-gi");
        assert!(gi.stdout.starts_with(b"0000000000000004:"), "{gi:?}");
        let wrong = disk.drbdmeta("DEV v08 DEV internal get-gi");
        assert_eq!(wrong.status.code(), Some(20));
        assert_eq!(
            String::from_utf8_lossy(&wrong.stderr),
            format!("{} does not appear to be a DRBD (major 7, expected 147)!\n", disk.node.display())
        );
    }
}

/// Runs a program as the texts of `scan` say it.
fn run(line: &str) -> Output {
    let mut words = line.split(' ');
    Command::new(words.next().expect("program")).args(words).output().expect(line)
}

impl Loop {
    /// The same image behind a loop device that takes no writes.
    fn read_only(&self) -> Loop {
        let image = self.dir.path().join("image").display().to_string();
        let output = run(&format!("losetup --read-only --find --show {image}"));
        assert!(output.status.success(), "{output:?}");
        let node = String::from_utf8_lossy(&output.stdout).trim().to_string();
        Loop { dir: tempfile::tempdir().expect("temporary directory"), node: node.into() }
    }

    fn image(&self) -> Vec<u8> {
        std::fs::read(self.dir.path().join("image")).expect("image")
    }
}

#[test]
fn a_device_that_takes_no_writes_can_be_looked_at() {
    let Some(disk) = Loop::new(64 << 20, 512) else {
        return;
    };
    assert!(disk.drbdmeta("0 v08 DEV internal create-md").status.success());
    let before = disk.image();
    let read_only = disk.read_only();
    for command in ["get-gi", "show-gi", "dump-md", "dstate", "read-dev-uuid"] {
        let output = read_only.drbdmeta(&format!("0 v08 DEV internal {command}"));
        assert!(output.status.success(), "{command}: {output:?}");
    }
    assert!(read_only.drbdmeta("scan DEV").status.success());
    for command in [
        "create-md",
        "wipe-md",
        "outdate",
        "invalidate",
        "set-gi 6",
        "apply-al",
        "check-resize",
        "write-dev-uuid 1",
    ] {
        let output = read_only.drbdmeta(&format!("--force 0 v08 DEV internal {command}"));
        assert_eq!(output.status.code(), Some(20), "{command}: {output:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            ["Permission denied", "Operation not permitted", "Read-only file system"]
                .iter()
                .any(|reason| error == format!("open({}) failed: {reason}\n", read_only.node.display())),
            "{command}: {error}"
        );
    }
    assert!(disk.image() == before);
}

/// Where the image ends before the loop device does, reads fail as those of bad sectors do.
#[test]
fn sectors_that_cannot_be_read() {
    let Some(disk) = Loop::new(64 << 20, 512) else {
        return;
    };
    assert!(disk.drbdmeta("0 v08 DEV flex-external create-md").status.success());
    let image = std::fs::File::options().write(true).open(disk.dir.path().join("image")).expect("image");
    // The bitmap is gone, and with it whatever lies behind.
    image.set_len(36864).expect("shorter image");
    let flexible = disk.drbdmeta("0 v08 DEV flex-external get-gi");
    assert!(flexible.status.success(), "{flexible:?}");
    for command in ["get-gi", "dump-md", "outdate", "create-md"] {
        let output = disk.drbdmeta(&format!("--force 0 v08 DEV internal {command}"));
        assert_eq!(output.status.code(), Some(10), "{command}: {output:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            error.contains("failed: Input/output error") || error.contains("cannot read"),
            "{command}: {error}"
        );
        assert_eq!(disk.image().len(), 36864, "{command}");
    }
    let scan = disk.drbdmeta("scan DEV");
    assert!(scan.status.success(), "{scan:?}");
    assert!(String::from_utf8_lossy(&scan.stdout).contains("v08 flex-external"), "{scan:?}");
    let error = String::from_utf8_lossy(&scan.stderr);
    assert!(error.contains("cannot read at byte 67104768: Input/output error"), "{error}");
}

/// What `scan` advises works, also with a journal that was not replayed, and writes nothing.
#[test]
fn data_are_read_without_a_daemon_as_scan_says() {
    let Some(disk) = Loop::new(64 << 20, 512) else {
        return;
    };
    let node = disk.node.display();
    if Command::new("mkfs.ext4").arg("-V").output().is_err() {
        eprintln!("skipped: no mkfs.ext4");
        return;
    }
    let made = run(&format!("mkfs.ext4 -q -b 4096 {node} 16350"));
    assert!(made.status.success(), "{made:?}");
    assert!(disk.drbdmeta("--force 0 v08 DEV internal create-md").status.success());
    let mounted = disk.dir.path().join("mounted");
    std::fs::create_dir(&mounted).expect("directory");
    let write = run(&format!("mount -t ext4 {node} {}", mounted.display()));
    if !write.status.success() {
        eprintln!("skipped: no mount: {}", String::from_utf8_lossy(&write.stderr));
        return;
    }
    std::fs::write(mounted.join("file"), "content").expect("file");
    // As after a power failure: what was flushed is there, the file system was not unmounted.
    let synced = run(&format!("sync -f {}", mounted.join("file").display()));
    let crashed = Loop::new(64 << 20, 512).expect("second loop device");
    std::fs::copy(disk.dir.path().join("image"), crashed.dir.path().join("image")).expect("copy");
    assert!(run(&format!("umount {}", mounted.display())).status.success());
    assert!(synced.status.success());
    let before = crashed.image();
    let scan = crashed.drbdmeta("scan DEV");
    let text = String::from_utf8_lossy(&scan.stdout);
    let commands: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("      ")).filter(|l| !l.starts_with(' ')).collect();
    assert_eq!(commands.len(), 2, "{text}");
    let output = run(commands[0]);
    assert!(output.status.success(), "{output:?}");
    let second = String::from_utf8_lossy(&output.stdout).trim().to_string();
    let mount =
        commands[1].replace("LOOP-DEVICE", &second).replace("DIRECTORY", &mounted.display().to_string());
    let mount = run(&mount);
    let read = std::fs::read_to_string(mounted.join("file"));
    run(&format!("umount {}", mounted.display()));
    run(&format!("losetup -d {second}"));
    assert!(mount.status.success(), "{mount:?}");
    assert_eq!(read.expect("file"), "content");
    assert!(crashed.image() == before);
}

/// The end of the disk is that of its partition, and the places of the meta data are the same.
#[test]
fn meta_data_of_the_last_partition_are_not_those_of_the_disk() {
    let Some(disk) = Loop::new(65 << 20, 512) else {
        return;
    };
    let name = disk.node.file_name().expect("name").to_string_lossy().into_owned();
    let added = Command::new("addpart").arg(&disk.node).args(["1", "2048", "131072"]).output();
    let part = disk.node.with_file_name(format!("{name}p1"));
    let number = std::fs::read_to_string(format!("/sys/class/block/{name}/{name}p1/dev"));
    let (Ok(added), Ok(number)) = (added, number) else {
        eprintln!("skipped: no partitions on loop devices");
        return;
    };
    assert!(added.status.success(), "{added:?}");
    let made = !part.exists();
    if made {
        assert!(run(&format!("mknod {} b {}", part.display(), number.trim().replace(':', " ")))
            .status
            .success());
    }
    let part_name = part.display().to_string();
    let created = disk.drbdmeta(&format!("0 v08 {part_name} internal create-md"));
    let scans = [disk.drbdmeta("scan DEV"), disk.drbdmeta(&format!("scan DEV {part_name}"))];
    run(&format!("delpart {} 1", disk.node.display()));
    if made {
        std::fs::remove_file(&part).ok();
    }
    assert!(created.status.success(), "{created:?}");
    let remark = format!("what lies at its end belongs to {part_name}: scan that");
    let texts = scans.each_ref().map(|scan| String::from_utf8_lossy(&scan.stdout).into_owned());
    assert_eq!(scans[0].status.code(), Some(255));
    assert!(texts[0].contains(&remark) && !texts[0].contains("losetup"), "{}", texts[0]);
    assert_eq!(scans[1].status.code(), Some(0));
    let rows: Vec<&str> = texts[1].lines().filter(|line| line.contains(" v08 internal ")).collect();
    assert_eq!(rows.len(), 1, "{}", texts[1]);
    assert!(rows[0].starts_with(&part_name) && texts[1].contains(&remark), "{}", texts[1]);
}
