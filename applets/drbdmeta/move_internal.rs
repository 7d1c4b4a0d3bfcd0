//! Moving internal meta data to the new end of a device that changed its size (spec/metadata.md 9).

use super::call::{Call, Failure};
use super::disk::{io_failure, Disk};
use super::find::Found;
use super::progress::Progress;
use super::ui::{say, say_err};
use super::{last_known, EXIT_ERROR};
use drbdbox::meta::image::BlockFile;
use drbdbox::meta::relocation::relocate;
use drbdbox::meta::Layout;

/// Moves the meta data of `found` to its place by the device's size now.
pub fn run(call: &Call, disk: &Disk, found: &Found) -> Result<u8, Failure> {
    say_err!("Moving the internal meta data to its proper location");
    let old = &found.layout;
    let new = Layout::new(old.index, disk.size_bytes(), old.log)
        .map_err(|error| Failure::new(EXIT_ERROR, error.to_string()))?;
    if !new.bitmap_fits() {
        return Err(Failure::new(EXIT_ERROR, format!("{} is too small for the meta data.", call.device)));
    }
    let mut progress = Progress::new("moving the bitmap");
    let moved = relocate(disk, &found.super_block, old, &new, &mut |done, total| progress.show(done, total))
        .map_err(io_failure)?;
    progress.end();
    if !call.options.dry_run {
        last_known::update(call, &new, moved.device_uuid);
    }
    say!("Internal drbd meta data successfully moved.");
    Ok(0)
}
