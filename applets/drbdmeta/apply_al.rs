//! `apply-al`: what a crashed Primary may have been writing is marked out of sync, and the activity
//! log is emptied (spec/metadata.md 4.3, spec/decisions.md 6.2).

use super::call::{Call, Failure};
use super::disk::{io_failure, Disk};
use super::find::{self, Found, Search};
use super::progress::Progress;
use super::ui::say_err;
use super::{move_internal, EXIT_ERROR, EXIT_NO_META_DATA};
use drbdbox::core::log_lines::pretty_kib;
use drbdbox::meta::activity_log::{self, LogFormat, Replay, Unusable};
use drbdbox::meta::image::{self, BlockFile};
use drbdbox::meta::super_block::Cleanness;
use drbdbox::meta::{bitmap, MetaFlags};

/// Runs the command.
pub fn run(call: &Call) -> Result<u8, Failure> {
    let disk = Disk::open(call)?;
    let found = match find::search(call, &disk)? {
        Search::InPlace(found) => found,
        Search::LastKnownPlace(found, _) => {
            move_internal::run(call, &disk, &found)?;
            find::in_place_or_say_so(call, &disk)?
        }
        Search::Nothing => return Err(Failure::new(EXIT_NO_META_DATA, "No valid meta data found")),
    };
    apply(&disk, found)
}

/// Bitmap, super block, log, super block: at every moment in between, either the log still says what
/// the bitmap lacks, or the bitmap says it all.
fn apply(disk: &Disk, mut found: Found) -> Result<u8, Failure> {
    let area = image::read_activity_log(disk, &found.layout).map_err(io_failure)?;
    let is_zero = area.iter().all(|byte| *byte == 0);
    let empty = activity_log::empty_block(found.layout.log);
    let is_empty = area.chunks(empty.len()).all(|block| block == empty);
    let flags = found.super_block.flags;
    let is_clean = flags.contains(MetaFlags::AL_CLEAN) && found.super_block.cleanness == Cleanness::Clean;
    if is_zero && is_clean {
        return Ok(0);
    }
    let was_primary = flags.contains(MetaFlags::PRIMARY_IND);
    match activity_log::replay(&area, &found.super_block, found.layout.log) {
        Ok(replay) => {
            report(&replay, is_zero);
            if replay.transactions > 0 && was_primary {
                let bits = mark(disk, &found, &replay)?;
                match bits {
                    0 => say_err!("Nothing to do."),
                    bits => {
                        say_err!("Marked additional {} as out-of-sync based on AL.", pretty_kib(bits * 4))
                    }
                }
            }
        }
        Err(unusable) => {
            if let Unusable::NoUpdate { damaged } = unusable {
                say_err!("{damaged} corrupt AL transactions found");
            }
            say_err!("{unusable}");
            if unusable.matters(&found.super_block) {
                return Err(Failure::silent(EXIT_NO_META_DATA));
            }
            say_err!("Error ignored, no need to apply the AL");
        }
    }
    drop(area);
    if !is_empty {
        found.super_block.cleanness = Cleanness::Clean;
        found.super_block.flags.set(MetaFlags::AL_CLEAN, false);
        disk.write_super_block(&found.layout, &found.super_block)?;
        image::empty_activity_log(disk, &found.layout).map_err(io_failure)?;
    }
    if !is_clean || !is_empty {
        found.super_block.cleanness = Cleanness::Clean;
        found.super_block.flags.set(MetaFlags::AL_CLEAN, true);
        disk.write_super_block(&found.layout, &found.super_block)?;
    }
    Ok(0)
}

/// What is odd about the log. Not an error: the transaction that was being written is torn.
fn report(replay: &Replay, is_zero: bool) {
    for (transaction, slot) in &replay.out_of_range {
        say_err!("slot number out of range: tr:{transaction} slot:{slot}");
    }
    match replay.format {
        LogFormat::V83 if replay.transactions == 0 || is_zero => {
            say_err!("No usable activity log found.");
        }
        LogFormat::V83 if replay.damaged > 0 => say_err!(
            "{} corrupt or uninitialized AL transactions found\n\
             You can safely ignore this if this node was cleanly stopped (no crash).",
            replay.damaged
        ),
        LogFormat::V84 if replay.damaged > 0 => {
            say_err!("{} corrupt AL transactions found", replay.damaged);
        }
        _ => {}
    }
}

/// Sets the bits of all hot extents; returns how many were clear.
fn mark(disk: &Disk, found: &Found, replay: &Replay) -> Result<u64, Failure> {
    let mut progress = Progress::new("marking the extents of the activity log");
    let sectors = found.super_block.effective_size_sectors;
    let marked = image::mark_extents(disk, &found.layout, sectors, &replay.hot, &mut |done, total| {
        progress.show(done, total);
    })
    .map_err(io_failure)?;
    progress.end();
    let area_bytes = bitmap::stored_bytes(found.super_block.effective_size_sectors)
        .next_multiple_of(bitmap::PAGE_BYTES as u64);
    for extent in &marked.beyond_end {
        let byte = u64::from(*extent) * activity_log::EXTENT_BITMAP_BYTES;
        say_err!("extent {extent} beyond end of bitmap! ({byte} >= {area_bytes})");
    }
    disk.sync().map_err(|_| Failure::silent(EXIT_ERROR))?;
    Ok(marked.bits)
}
