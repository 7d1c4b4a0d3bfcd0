//! The device with the meta data: opened, traced, and never written to with `--dry-run`.

use std::io;
use std::path::Path;

use super::call::{Call, Failure};
use super::find::Found;
use super::ui::say_err;
use super::{last_known, DUMP_MD, EXIT_ERROR, EXIT_USAGE};
use drbdbox::meta::image::{self, BlockFile};
use drbdbox::meta::layout::LayoutError;
use drbdbox::meta::{Layout, LogGeometry, MetaError, MetaFlags, MetaIndex, SuperBlock};
use drbdbox::sys::block_device::{error_text, BlockDevice, Claim, Kind, OpenMode};

/// From this many `-v` on every request is reported.
const VERBOSE_REQUESTS: u32 = 2;

/// An open device together with where its meta data must be.
pub struct Disk<'a> {
    device: BlockDevice,
    call: &'a Call,
    /// The place by the device's size, with the log that the options ask for, or the classic one.
    pub expected: Layout,
}

impl Disk<'_> {
    /// Opens MD-DEVICE. Failures: 20 if it cannot be opened, 10 if it is too small or too large.
    ///
    /// Block devices are not claimed, as in 8.3.16; a regular file is locked, because nothing else
    /// keeps a daemon away from it that serves the same image under another minor.
    pub fn open(call: &Call) -> Result<Disk<'_>, Failure> {
        let path = Path::new(&call.device);
        let is_file = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
        let claim = match call.index {
            _ if !is_file || (call.options.force && call.command == DUMP_MD) => Claim::None,
            MetaIndex::Indexed(_) => Claim::Shared,
            _ => Claim::Exclusive,
        };
        let mode = OpenMode { read_only: false, claim };
        let device = match BlockDevice::open(path, mode) {
            // 8.3.16 gives up; a rescue system needs to look at read-only media.
            Err(error) if call.reads_only && error.is_write_protected() => {
                let mode = OpenMode { read_only: true, claim: Claim::None };
                BlockDevice::open(path, mode)
            }
            result => result,
        }
        .map_err(|error| Failure::new(EXIT_USAGE, error.to_string()))?;
        if !call.reads_only && !call.options.dry_run && device.is_read_only() {
            // Some kernels let it be opened for writing all the same.
            let text = format!("open({}) failed: Read-only file system", call.device);
            return Err(Failure::new(EXIT_USAGE, text));
        }
        if !device.is_direct() && device.kind() == Kind::BlockDevice {
            say_err!("could not open with O_DIRECT, retrying without");
        }
        let bytes = device.size_bytes();
        let expected = Layout::new(call.index, bytes, LogGeometry::CLASSIC)
            .map_err(|error| layout_failure(&call.device, &error))?;
        Ok(Disk { device, call, expected })
    }

    /// True if the request would be reported.
    fn is_traced(&self) -> bool {
        self.call.is_verbose(VERBOSE_REQUESTS)
    }

    fn trace(&self, call: &str, len: usize, offset: u64, result: &io::Result<()>) {
        let fd = self.device.as_raw_fd();
        match result {
            Err(error) => say_err!(
                "{call}({fd},...,{len},{offset}) in {} failed: {}",
                self.call.command,
                error_text(error)
            ),
            Ok(()) if self.is_traced() => {
                say_err!(" {:<26}: {call}({fd}, ...,{len:>6},{offset:>12})", self.call.command);
            }
            Ok(()) => {}
        }
    }

    /// Before log or bitmap of meta data that counts are overwritten: from now on, until there is a new super
    /// block, all blocks count as out of sync. Else what a crash leaves would have the old UUIDs with half of
    /// another bitmap.
    pub fn give_up(&self, found: &Found) -> Result<(), Failure> {
        let mut given_up = found.super_block.clone();
        // Without a size, all bits are set at the first attach anyway.
        if given_up.effective_size_sectors == 0 || given_up.flags.contains(MetaFlags::FULL_SYNC) {
            return Ok(());
        }
        given_up.flags.set(MetaFlags::FULL_SYNC, true);
        image::write_super_block(self, &found.layout, &given_up, true).map_err(io_failure)
    }

    /// Checks the block as a reader will, writes it durably, and keeps the record of the last known
    /// device up to date (spec/metadata.md 9).
    pub fn write_super_block(&self, layout: &Layout, super_block: &SuperBlock) -> Result<(), Failure> {
        super_block.validate(layout).map_err(|error| Failure::new(EXIT_ERROR, error.to_string()))?;
        image::write_super_block(self, layout, super_block, true).map_err(io_failure)?;
        if !self.call.options.dry_run {
            last_known::update(self.call, layout, super_block.device_uuid);
        }
        Ok(())
    }
}

/// The failure of a request, which `Disk` has already printed.
pub fn io_failure(error: MetaError) -> Failure {
    match error {
        MetaError::Io { .. } => Failure::silent(EXIT_ERROR),
        other => Failure::new(EXIT_ERROR, other.to_string()),
    }
}

/// The texts of 8.3.16 for a device without room.
fn layout_failure(device: &str, error: &LayoutError) -> Failure {
    let text = match error {
        LayoutError::TooSmall { bytes } => {
            format!("{device} is only {bytes} bytes. That's not enough.")
        }
        LayoutError::BeyondEnd { offset, bytes } => format!(
            "Device too small: expecting meta data block at\n\
             byte offset {offset}, but {device} is only {bytes} bytes."
        ),
        LayoutError::TooLarge { .. } => "Device too large. We only support up to 1024 TB.".to_string(),
    };
    Failure::new(EXIT_ERROR, text)
}

impl BlockFile for Disk<'_> {
    fn size_bytes(&self) -> u64 {
        self.device.size_bytes()
    }

    fn logical_block_bytes(&self) -> usize {
        self.device.logical_block_bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let result = self.device.read_at(offset, buffer);
        self.trace("pread", buffer.len(), offset, &result);
        result
    }

    fn write_at(&self, offset: u64, buffer: &[u8]) -> io::Result<()> {
        if self.call.options.dry_run {
            say_err!(
                " {:<26}: pwrite(...,{:>6},{offset:>12}) SKIPPED DUE TO --dry-run",
                self.call.command,
                buffer.len()
            );
            return Ok(());
        }
        let result = self.device.write_at(offset, buffer);
        self.trace("pwrite", buffer.len(), offset, &result);
        result
    }

    fn sync(&self) -> io::Result<()> {
        if self.is_traced() {
            say_err!(" {:<26}: fsync({})", self.call.command, self.device.as_raw_fd());
        }
        let result = self.device.sync();
        if let Err(error) = &result {
            say_err!("fsync of {} failed: {}", self.call.device, error_text(error));
        }
        result
    }
}
