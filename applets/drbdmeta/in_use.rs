//! Who else uses a device.

use std::fmt;
use std::path::Path;

use drbdbox::status::snapshot::Snapshot;
use drbdbox::sys::block_device::{same_device, BlockDevice, Claim, OpenMode};

/// A user of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// The daemon, for this minor.
    Daemon(u32),
    /// Somebody who keeps others away: a mount, swap, LVM, md, a module; of a file, another program.
    Other,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            User::Daemon(minor) => write!(f, "attached to minor {minor}"),
            User::Other => f.write_str("held by somebody else (mounted, swap, LVM, md, another program?)"),
        }
    }
}

/// The minor that has the device as its disk, or for its meta data with another index than `slot` (an index as in
/// the snapshot, if several minors may share the device).
pub fn minor_with(snapshot: &Snapshot, device: &str, slot: Option<i32>) -> Option<u32> {
    snapshot.volumes().find_map(|(_, volume)| {
        let backing = volume.backing.as_ref()?;
        let shares =
            slot.is_some_and(|slot| slot >= 0 && backing.meta_index >= 0 && backing.meta_index != slot);
        let is_used = same_device(&backing.lower_device, device)
            || (!shares && same_device(&backing.meta_device, device));
        is_used.then_some(volume.minor)
    })
}

/// Who uses the device. Looks for the daemon's claim first, then tries one of its own for a moment.
pub fn user_of(snapshot: Option<&Snapshot>, device: &str) -> Option<User> {
    if let Some(minor) = snapshot.and_then(|snapshot| minor_with(snapshot, device, None)) {
        return Some(User::Daemon(minor));
    }
    let mode = OpenMode { read_only: true, claim: Claim::Exclusive };
    match BlockDevice::open(Path::new(device), mode) {
        Err(error) if error.is_busy() => Some(User::Other),
        _ => None,
    }
}
