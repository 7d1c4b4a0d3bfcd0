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
