//! `restore-md`: meta data from a dump (spec/metadata.md 10.3).

use super::call::{Call, Failure};
use super::create_md::initialize_log;
use super::disk::{io_failure, Disk};
use super::dump_source::{Checked, Source};
use super::find::{self, Search};
use super::progress::Progress;
use super::ui::{confirmed, say, say_err};
use super::{existing_data, EXIT_ERROR, EXIT_NO_META_DATA};
use drbdbox::meta::activity_log::transaction_84;
use drbdbox::meta::conversion::Convertible;
use drbdbox::meta::dump_parser::{Fields, FieldsV08};
use drbdbox::meta::image::{self, BlockFile};
use drbdbox::meta::{Format, Layout, LogGeometry, MetaFlags, SuperBlock};
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
        ask_to_overwrite(call, "Valid meta-data in place, overwrite?")?;
    } else {
        existing_data::check(call, &disk, &disk.expected)?;
        let block = image::read_super_block_bytes(&disk, &disk.expected).map_err(io_failure)?;
        if let Some(other) = Convertible::decode(&block) {
            // 8.3.16 does not look at them.
            let name = other.generation.name();
            ask_to_overwrite(call, &format!("Valid {name} meta-data in place, overwrite?"))?;
        }
    }
    say_err!("reinitializing");
    let mut dump = source.check(Format::V08)?;
    let Fields::V08(fields) = dump.fields.clone() else {
        return Err(Failure::silent(EXIT_ERROR));
    };
    let log = log_geometry(call, &fields)?;
    let layout = Layout::new(call.index, disk.size_bytes(), log)
        .map_err(|error| Failure::new(EXIT_ERROR, error.to_string()))?;
    let mut super_block = super_block_of(&fields, &layout)?;
    // The log stays with the disk that it describes, as in 8.3.16. Elsewhere, what is in its
    // place is none: 8.4's tools would stumble over it.
    if let Some(found) = &in_place {
        disk.give_up(found)?;
    }
    if in_place.map(|found| found.layout) != Some(layout) {
        initialize_log(&disk, &layout)?;
    } else if super_block.flags.contains(MetaFlags::AL_CLEAN) && !has_empty_log(&disk, &layout)? {
        // 8.4 would attach without a look at the log.
        super_block.flags.set(MetaFlags::AL_CLEAN, false);
    }
    write_bitmap(&disk, &layout, &mut dump)?;
    disk.write_super_block(&layout, &super_block)?;
    say!("Successfully restored meta data");
    Ok(0)
}

/// Asks before meta data are lost. 8.3.16 says nothing if not.
pub fn ask_to_overwrite(call: &Call, question: &str) -> Result<(), Failure> {
    match confirmed(call, question) {
        true => Ok(()),
        false => Err(Failure::silent(EXIT_NO_META_DATA)),
    }
}

fn has_empty_log(disk: &Disk, layout: &Layout) -> Result<bool, Failure> {
    let area = image::read_activity_log(disk, layout).map_err(io_failure)?;
    let zeroes = [0; transaction_84::TRANSACTION_BYTES];
    let initialized = transaction_84::initialized_block();
    Ok(area.chunks(zeroes.len()).all(|block| block == zeroes || block == initialized))
}

/// The activity log: by the options, else by the dump, else the classic one.
fn log_geometry(call: &Call, dump: &FieldsV08) -> Result<LogGeometry, Failure> {
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

fn super_block_of(dump: &FieldsV08, layout: &Layout) -> Result<SuperBlock, Failure> {
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

/// Writes the words that the dump has, up to the next logical block with zeroes; durable. What the dump leaves out
/// stays as it is on disk.
pub fn write_bitmap(disk: &Disk, layout: &Layout, dump: &mut Checked) -> Result<(), Failure> {
    let available = layout.bitmap_bytes() / 8;
    if dump.words > available {
        say_err!("Bitmap info too large, truncated!");
    }
    let words = dump.words.min(available);
    let mut writer = BitmapWriter::new(disk, layout.bm_offset());
    let mut runs = dump.runs()?;
    let mut remaining = words;
    let mut progress = Progress::new("writing the bitmap");
    while remaining > 0 {
        let Some((count, word)) = runs.next_run()? else { break };
        let mut count = count.min(remaining);
        remaining -= count;
        while count > 0 {
            count -= writer.put(word, count)?;
            if writer.filled == 0 {
                progress.show(words - remaining - count, words);
            }
        }
    }
    writer.end()
}

/// Collects words to large requests.
struct BitmapWriter<'a> {
    disk: &'a Disk<'a>,
    /// Where the buffer goes.
    offset: u64,
    buffer: Buffer,
    filled: usize,
}

impl BitmapWriter<'_> {
    fn new<'a>(disk: &'a Disk<'a>, offset: u64) -> BitmapWriter<'a> {
        BitmapWriter { disk, offset, buffer: Buffer::zeroed(PIECE_BYTES), filled: 0 }
    }

    /// Takes up to `count` times this word; returns how many.
    fn put(&mut self, word: u64, count: u64) -> Result<u64, Failure> {
        let now = count.min(((PIECE_BYTES - self.filled) / 8) as u64);
        let end = self.filled + now as usize * 8;
        for place in self.buffer[self.filled..end].chunks_exact_mut(8) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        self.filled = end;
        if self.filled == PIECE_BYTES {
            self.write(PIECE_BYTES)?;
        }
        Ok(now)
    }

    fn write(&mut self, len: usize) -> Result<(), Failure> {
        self.disk.write_at(self.offset, &self.buffer[..len]).map_err(|_| Failure::silent(EXIT_ERROR))?;
        self.offset += len as u64;
        self.filled = 0;
        Ok(())
    }

    /// Writes what is left; all of it is durable then.
    fn end(mut self) -> Result<(), Failure> {
        if self.filled > 0 {
            let end = self.filled.next_multiple_of(self.disk.logical_block_bytes());
            self.buffer[self.filled..end].fill(0);
            self.write(end)?;
        }
        self.disk.sync().map_err(|_| Failure::silent(EXIT_ERROR))
    }
}
