//! `wipe-md`: the super block is zeroed; activity log and bitmap stay.

use super::call::{Call, Failure};
use super::disk::{io_failure, Disk};
use super::find::{self, Search};
use super::last_known;
use super::ui::{confirmed, say, say_err};
use drbdbox::meta::{image, Layout};

/// Runs the command.
pub fn run(call: &Call) -> Result<u8, Failure> {
    let disk = Disk::open(call)?;
    let found = match find::search(call, &disk)? {
        Search::InPlace(found) => Some(found.layout),
        _ => None,
    };
    wipe(call, &disk, found)
}

/// Asks, and wipes the super block of `found`.
pub fn wipe(call: &Call, disk: &Disk, found: Option<Layout>) -> Result<u8, Failure> {
    let Some(layout) = found else {
        say_err!("There appears to be no drbd meta data to wipe out?");
        return Ok(0);
    };
    if !confirmed(call, "Do you really want to wipe out the DRBD meta data?") {
        say!("Operation cancelled.");
        return Ok(1);
    }
    say!("Wiping meta data...");
    image::wipe_super_block(disk, &layout).map_err(io_failure)?;
    say!("DRBD meta data block successfully wiped out.");
    if !call.options.dry_run {
        last_known::remove(call);
    }
    Ok(0)
}
