//! `invalidate`: the next attach sets all bits of the bitmap.

use super::call::{Call, Failure};
use super::disk::Disk;
use super::find;
use drbdbox::meta::MetaFlags;

/// Runs the command.
pub fn run(call: &Call) -> Result<u8, Failure> {
    let disk = Disk::open(call)?;
    let mut found = find::in_place(call, &disk)?;
    found.super_block.flags = found
        .super_block
        .flags
        .without(MetaFlags::CONSISTENT | MetaFlags::WAS_UP_TO_DATE)
        .with(MetaFlags::FULL_SYNC);
    disk.write_super_block(&found.layout, &found.super_block)?;
    Ok(0)
}
