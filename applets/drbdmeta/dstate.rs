//! `dstate`: the disk state that the flags stand for.

use super::call::{Call, Failure};
use super::disk::Disk;
use super::find;
use drbdbox::meta::MetaFlags;

/// Runs the command.
pub fn run(call: &Call) -> Result<u8, Failure> {
    let disk = Disk::open(call)?;
    let flags = find::in_place_or_say_so(call, &disk)?.super_block.flags;
    let state = if !flags.contains(MetaFlags::CONSISTENT) {
        "Inconsistent"
    } else if flags.contains(MetaFlags::WAS_UP_TO_DATE) {
        "Consistent"
    } else {
        "Outdated"
    };
    super::say!("{state}/DUnknown");
    Ok(0)
}
