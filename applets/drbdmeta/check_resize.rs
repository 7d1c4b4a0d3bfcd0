//! `check-resize`: follows a device that changed its size while it was not attached.

use super::call::{Call, Failure};
use super::disk::Disk;
use super::find::{self, Search};
use super::{last_known, move_internal, EXIT_NO_META_DATA};

/// Runs the command.
pub fn run(call: &Call) -> Result<u8, Failure> {
    let disk = Disk::open(call)?;
    match find::search(call, &disk)? {
        Search::InPlace(found) => {
            if !call.options.dry_run {
                refresh_record(call, &found);
            }
            Ok(0)
        }
        Search::LastKnownPlace(found, _) => move_internal::run(call, &disk, &found),
        Search::Nothing if call.index.is_internal() => {
            Err(Failure::new(EXIT_NO_META_DATA, "no suitable meta data found :("))
        }
        Search::Nothing => {
            Err(Failure::new(EXIT_NO_META_DATA, "Operation only supported for v8 internal meta data"))
        }
    }
}

/// Another path alone is no reason to write.
fn refresh_record(call: &Call, found: &find::Found) {
    if found.layout.index.is_internal() {
        let uuid = found.super_block.device_uuid;
        let is_current = last_known::load(call)
            .is_some_and(|record| record.bytes == found.layout.device_bytes && record.device_uuid == uuid);
        if is_current {
            return;
        }
    }
    last_known::update(call, &found.layout, found.super_block.device_uuid);
}
