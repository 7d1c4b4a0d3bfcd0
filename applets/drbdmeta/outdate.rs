//! `outdate`: the data are no longer the newest.

use super::call::{Call, Failure};
use super::disk::Disk;
use super::find;
use drbdbox::meta::MetaFlags;

/// Exit status for an inconsistent disk: there is nothing to outdate.
const EXIT_INCONSISTENT: u8 = 5;

/// Runs the command.
pub fn run(call: &Call) -> Result<u8, Failure> {
    let disk = Disk::open(call)?;
    let mut found = find::in_place(call, &disk)?;
    if !found.super_block.flags.contains(MetaFlags::CONSISTENT) {
        return Err(Failure::new(EXIT_INCONSISTENT, "Device is inconsistent."));
    }
    found.super_block.flags.set(MetaFlags::WAS_UP_TO_DATE, false);
    disk.write_super_block(&found.layout, &found.super_block)?;
    Ok(0)
}
