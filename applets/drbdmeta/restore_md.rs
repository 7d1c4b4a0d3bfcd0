//! `restore-md`: meta data from a dump (spec/metadata.md 10.3).

use super::call::{Call, Failure};
use super::disk::{io_failure, Disk};
use super::find::{self, Search};
use super::progress::Progress;
use super::ui::{confirmed, say, say_err};
use super::verify_dump::Source;
use super::{existing_data, EXIT_ERROR, EXIT_NO_META_DATA};
use drbdbox::meta::activity_log::transaction_84;
use drbdbox::meta::dump_parser::Dump;
use drbdbox::meta::image::{self, BlockFile};
use drbdbox::meta::{Layout, LogGeometry, MetaFlags, SuperBlock};
use drbdbox::sys::buffer::Buffer;

/// Bytes of bitmap that are written at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Runs the command. The whole dump is read before anything is written.
pub fn run(call: &Call) -> Result<u8, Failure> {
    let source = Source::open(call)?;
    let disk = Disk::open(call)?;
    let in_place = match find::search(call, &disk)? {
        Search::InPlace(found) => Some(found),
        _ => None,
    };
    if in_place.is_some() {
        if !confirmed(call, "Valid meta-data in place, overwrite?") {
            return Err(Failure::silent(EXIT_NO_META_DATA));
        }
    } else {
        existing_data::check(call, &disk, &disk.expected)?;
    }
    say_err!("reinitializing");
    let dump = source.read()?;
    let layout = Layout::new(call.index, disk.size_bytes(), log_geometry(call, &dump)?)
        .map_err(|error| Failure::new(EXIT_ERROR, error.to_string()))?;
    let mut super_block = super_block_of(&dump, &layout)?;
    // The log stays with the disk that it describes, as in 8.3.16. Elsewhere, what is in its
    // place is none: 8.4's tools would stumble over it.
    if let Some(found) = &in_place {
        disk.give_up(found)?;
    }
    if in_place.map(|found| found.layout) != Some(layout) {
        image::empty_activity_log(&disk, &layout).map_err(io_failure)?;
    } else if super_block.flags.contains(MetaFlags::AL_CLEAN) && !has_empty_log(&disk, &layout)? {
        // 8.4 would attach without a look at the log.
        super_block.flags.set(MetaFlags::AL_CLEAN, false);
    }
    write_bitmap(&disk, &layout, &dump)?;
    disk.sync().map_err(|_| Failure::silent(EXIT_ERROR))?;
    disk.write_super_block(&layout, &super_block)?;
    say!("Successfully restored meta data");
    Ok(0)
}

fn has_empty_log(disk: &Disk, layout: &Layout) -> Result<bool, Failure> {
    let area = image::read_activity_log(disk, layout).map_err(io_failure)?;
    let zeroes = [0; transaction_84::TRANSACTION_BYTES];
    let initialized = transaction_84::initialized_block();
    Ok(area.chunks(zeroes.len()).all(|block| block == zeroes || block == initialized))
}

/// The activity log: by the options, else by the dump, else the classic one.
fn log_geometry(call: &Call, dump: &Dump) -> Result<LogGeometry, Failure> {
    let by_dump = match dump.al_stripes {
        None | Some((0, 0)) => LogGeometry::CLASSIC,
        Some((stripes, blocks)) => {
            let narrow = |value: u64| u32::try_from(value).ok();
            narrow(stripes)
                .zip(narrow(blocks))
                .and_then(|(stripes, blocks)| LogGeometry::new(stripes, blocks))
                .ok_or_else(|| Failure::new(EXIT_ERROR, "invalid al-stripe* settings"))?
        }
    };
    if !call.options.has_striping() {
        return Ok(by_dump);
    }
    say_err!("override activity log striping from commandline");
    call.options.log_geometry(by_dump)
}

fn super_block_of(dump: &Dump, layout: &Layout) -> Result<SuperBlock, Failure> {
    let bytes_per_bit = u32::try_from(dump.bytes_per_bit)
        .ok()
        .filter(|value| value.is_power_of_two() && *value >= 4096)
        .ok_or_else(|| {
            Failure::new(
                EXIT_ERROR,
                "Invalid value for bm-byte-per-bit: value must be a power-of-two multiple of 4096",
            )
        })?;
    if !layout.bitmap_fits() {
        return Err(Failure::new(EXIT_ERROR, "The device is too small for that activity log."));
    }
    Ok(SuperBlock {
        effective_size_sectors: dump.effective_size_sectors,
        uuids: dump.uuids,
        device_uuid: dump.device_uuid,
        flags: dump.flags,
        bytes_per_bit,
        peer_max_bio_bytes: u32::try_from(dump.peer_max_bio_bytes).unwrap_or(u32::MAX),
        ..SuperBlock::just_created(layout)
    })
}

/// Writes the words that the dump has, up to the next logical block with zeroes. What the dump
/// leaves out stays as it is on disk.
fn write_bitmap(disk: &Disk, layout: &Layout, dump: &Dump) -> Result<(), Failure> {
    let available = layout.bitmap_bytes() / 8;
    let given = dump.bitmap.iter().fold(0u64, |sum, (count, _)| sum.saturating_add(*count));
    if given > available {
        say_err!("Bitmap info too large, truncated!");
    }
    let block_bytes = disk.logical_block_bytes() as u64;
    let mut buffer = Buffer::zeroed(PIECE_BYTES);
    let mut filled = 0;
    let mut offset = layout.bm_offset();
    let words = given.min(available);
    let mut remaining = words;
    let mut progress = Progress::new("writing the bitmap");
    for (count, word) in &dump.bitmap {
        let mut count = (*count).min(remaining);
        remaining -= count;
        let bytes = word.to_le_bytes();
        while count > 0 {
            let now = count.min(((PIECE_BYTES - filled) / 8) as u64);
            for place in buffer[filled..filled + now as usize * 8].chunks_exact_mut(8) {
                place.copy_from_slice(&bytes);
            }
            filled += now as usize * 8;
            count -= now;
            if filled == PIECE_BYTES {
                disk.write_at(offset, &buffer).map_err(|_| Failure::silent(EXIT_ERROR))?;
                offset += PIECE_BYTES as u64;
                progress.show(words - remaining - count, words);
                filled = 0;
            }
        }
    }
    if filled > 0 {
        let end = (filled as u64).next_multiple_of(block_bytes) as usize;
        buffer[filled..end].fill(0);
        disk.write_at(offset, &buffer[..end]).map_err(|_| Failure::silent(EXIT_ERROR))?;
    }
    Ok(())
}
