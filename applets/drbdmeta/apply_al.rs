//! `apply-al`: what a crashed Primary may have been writing is marked out of sync, and the activity
//! log is emptied (spec/metadata.md 4.3, spec/decisions.md 6.2).

use super::call::{Call, Failure};
use super::disk::{io_failure, Disk};
use super::find::{self, Search};
use super::progress::Progress;
use super::ui::say_err;
use super::{last_known, move_internal, EXIT_NO_META_DATA};
use drbdbox::core::log_lines::pretty_kib;
use drbdbox::meta::activity_log::{self, LogFormat, Replay, Unusable};
use drbdbox::meta::bitmap;
use drbdbox::meta::image::Marked;
use drbdbox::meta::log_application;

/// What long work is called.
pub const APPLYING: &str = "applying the activity log";

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
    let mut progress = Progress::new(APPLYING);
    let done = log_application::apply(&disk, &found.super_block, &found.layout, &mut |done, total| {
        progress.show(done, total);
    });
    progress.end();
    let done = done.map_err(io_failure)?;
    match &done.log {
        Ok(replay) if done.is_changed || !done.log_is_zero => report(replay, done.log_is_zero),
        Ok(_) => {}
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
    if let Some(marked) = &done.marked {
        report_marked(found.super_block.effective_size_sectors, marked);
    }
    if done.is_changed && !call.options.dry_run {
        last_known::update(call, &found.layout, done.super_block.device_uuid);
    }
    Ok(0)
}

/// What was marked in the bitmap of a device of `sectors`.
pub fn report_marked(sectors: u64, marked: &Marked) {
    let area_bytes = bitmap::stored_bytes(sectors).next_multiple_of(bitmap::PAGE_BYTES as u64);
    for extent in &marked.beyond_end {
        let byte = u64::from(*extent) * activity_log::EXTENT_BITMAP_BYTES;
        say_err!("extent {extent} beyond end of bitmap! ({byte} >= {area_bytes})");
    }
    match marked.bits {
        0 => say_err!("Nothing to do."),
        bits => say_err!("Marked additional {} as out-of-sync based on AL.", pretty_kib(bits * 4)),
    }
}

/// What is odd about the log. Not an error: the transaction that was being written is torn.
pub fn report(replay: &Replay, is_zero: bool) {
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
