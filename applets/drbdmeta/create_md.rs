//! `create-md`: new meta data (spec/metadata.md 7.3 and 7.4).

use super::call::{Call, Failure};
use super::disk::{io_failure, Disk};
use super::find::{self, Search};
use super::progress::Progress;
use super::ui::{confirmed, confirmed_without_empty_line, say, say_err};
use super::{existing_data, move_internal, EXIT_ERROR};
use drbdbox::meta::conversion::{v07_fixed_offset, Convertible, Generation};
use drbdbox::meta::image::{self, BlockFile};
use drbdbox::meta::layout::SUPER_BLOCK_BYTES;
use drbdbox::meta::{Layout, LogGeometry, SuperBlock};
use drbdbox::sys::buffer::Buffer;

/// Exit status of a question answered with no.
const EXIT_DECLINED: u8 = 1;

/// Runs the command.
pub fn run(call: &Call) -> Result<u8, Failure> {
    let disk = Disk::open(call)?;
    let log = call.options.log_geometry(LogGeometry::CLASSIC)?;
    let layout = Layout::new(call.index, disk.size_bytes(), log)
        .map_err(|error| Failure::new(EXIT_ERROR, error.to_string()))?;
    if layout.index.is_internal() && !layout.bitmap_fits() {
        return Err(Failure::new(EXIT_ERROR, format!("{} is too small for that activity log.", call.device)));
    }
    existing_data::check(call, &disk, &layout)?;
    let search = find::search(call, &disk)?;
    if let Search::LastKnownPlace(found, _) = &search {
        let question = "Move internal meta data from last-known position?\n";
        if !call.options.force && confirmed(call, question) {
            return move_internal::run(call, &disk, found);
        }
    }
    let convertible = match search {
        Search::InPlace(found) => {
            ask_to_overwrite(call, &layout)?;
            disk.give_up(&found)?;
            None
        }
        _ => ask_about_other_generation(call, &disk, &layout)?,
    };
    // A request that failed has been reported, and ends 8.3.16 on the spot.
    write(call, &disk, &layout, convertible).map_err(|failure| match failure.text.as_str() {
        "" => failure,
        text => Failure::new(failure.code, format!("{text}\noperation failed")),
    })?;
    Ok(0)
}

/// A super block of another generation.
struct OldMetaData {
    /// The block.
    block: Convertible,
    /// Byte offset.
    offset: u64,
    /// Its content is to be kept.
    convert: bool,
}

fn ask_to_overwrite(call: &Call, layout: &Layout) -> Result<(), Failure> {
    if !layout.index.is_internal() {
        say!("\nValid meta data seems to be in place.");
        // The question's own empty line comes before its first line.
        return require(confirmed_without_empty_line(call, "Do you really want to overwrite?"));
    }
    say_what_is_there(call, "v08 flexible-size", layout.md_offset, false);
    require(confirmed(call, "Do you really want to overwrite the existing v08 meta-data?"))
}

fn require(confirmed: bool) -> Result<(), Failure> {
    if confirmed {
        return Ok(());
    }
    say!("Operation cancelled.");
    Err(Failure::silent(EXIT_DECLINED))
}

/// On stderr; only 8.3.16's text about v07's fixed place ends its last line itself.
fn say_what_is_there(call: &Call, kind: &str, offset: u64, ends_line: bool) {
    let end = if ends_line { "\n" } else { "" };
    let text = format!(
        "You want me to create a v08 style flexible-size internal meta data block.\n\
         There appears to be a {kind} internal meta data block\n\
         already in place on {} at byte offset {offset}{end}",
        call.device
    );
    let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
}

/// Looks for v07 and v09 meta data and asks what to do with it. `None`: there is none.
fn ask_about_other_generation(
    call: &Call,
    disk: &Disk,
    layout: &Layout,
) -> Result<Option<OldMetaData>, Failure> {
    let is_internal = layout.index.is_internal();
    let at_place = image::read_super_block_bytes(disk, layout).map_err(io_failure)?;
    let mut old = Convertible::decode(&at_place)
        // What is at the wrong end of its area is a leftover, not meta data.
        .filter(|block| block.super_block_first != is_internal)
        .map(|block| OldMetaData { block, offset: layout.md_offset, convert: false });
    if is_internal {
        if let Some(fixed) = v07_fixed(disk)? {
            if old.is_some() {
                return Err(Failure::new(
                    EXIT_ERROR,
                    "Don't know what to do now. If you want this to work,\n\
                     Please wipe out at least one of these.",
                ));
            }
            old = Some(fixed);
        }
    }
    let Some(mut old) = old else {
        return Ok(None);
    };
    let name = old.block.generation.name();
    let is_v07_internal = is_internal && old.block.generation == Generation::V07;
    if is_internal {
        let (kind, ends_line) = match old.block {
            _ if old.offset != layout.md_offset => ("v07 fixed-size".to_string(), true),
            _ if is_v07_internal => ("v07(plus) flexible-size".to_string(), false),
            _ => (format!("{name} flexible-size"), true),
        };
        say_what_is_there(call, &kind, old.offset, ends_line);
    }
    let question = if is_v07_internal {
        format!("Convert the existing {name} meta-data to v08?")
    } else {
        format!("Valid {name} meta-data found, convert to v08?")
    };
    old.convert = confirmed(call, &question);
    if !old.convert {
        let question = if is_v07_internal {
            format!("So you want me to wipe out the {name} meta-data?")
        } else {
            format!(
                "So you want me to replace the {name} meta-data\n\
                 with newly initialized v08 meta-data?"
            )
        };
        require(confirmed(call, &question))?;
    }
    Ok(Some(old))
}

/// v07's "internal": 128 MiB at the end, super block first.
fn v07_fixed(disk: &Disk) -> Result<Option<OldMetaData>, Failure> {
    let Some(offset) = v07_fixed_offset(disk.size_bytes()) else {
        return Ok(None);
    };
    let place = Layout { md_offset: offset, ..disk.expected };
    let bytes = image::read_super_block_bytes(disk, &place).map_err(io_failure)?;
    Ok(Convertible::decode(&bytes)
        .filter(|block| block.generation == Generation::V07 && block.super_block_first)
        .map(|block| OldMetaData { block, offset, convert: false }))
}

/// Activity log first, super block last: a crash in between leaves no valid meta data.
fn write(call: &Call, disk: &Disk, layout: &Layout, old: Option<OldMetaData>) -> Result<(), Failure> {
    let moved_from = old.as_ref().map(|old| old.offset).filter(|offset| *offset != layout.md_offset);
    let mut super_block = match &old {
        Some(old) if old.convert => {
            say!("Converting meta data...\nWriting meta data...");
            if moved_from.is_some() || !old.block.has_parts_of(layout) {
                // What is there now was bitmap, or nothing; the full sync makes up for the old log.
                initialize_log(disk, layout)?;
            }
            old.block.convert(layout)
        }
        _ => {
            say!("Writing meta data...\ninitializing activity log");
            initialize_log(disk, layout)?;
            say_err!("NOT initialized bitmap");
            SuperBlock::just_created(layout)
        }
    };
    super_block.peer_max_bio_bytes = call.options.peer_max_bio_bytes.unwrap_or(0);
    disk.write_super_block(layout, &super_block)?;
    if let Some(offset) = moved_from {
        let zeroes = Buffer::zeroed(SUPER_BLOCK_BYTES as usize);
        disk.write_at(offset, &zeroes).and_then(|()| disk.sync()).map_err(|_| Failure::silent(EXIT_ERROR))?;
    }
    say!("New drbd meta data block successfully created.");
    Ok(())
}

/// Zeroes in the classic log, initialized blocks in a striped one; durable.
pub fn initialize_log(disk: &Disk, layout: &Layout) -> Result<(), Failure> {
    let mut progress = Progress::new("initializing the activity log");
    image::empty_activity_log(disk, layout, &mut |done, total| progress.show(done, total)).map_err(io_failure)
}
