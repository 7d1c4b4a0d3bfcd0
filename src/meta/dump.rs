//! The text of `dump-md`, in 8.3.16's form (spec/metadata.md 10.1).

use std::collections::VecDeque;
use std::io::{self, Write};

use super::bitmap;
use super::damage::Complaint;
use super::image::{read_readable_bitmap, BlockFile, MetaError, BATCH_BYTES};
use super::layout::{Layout, LogGeometry};
use super::super_block::SuperBlock;

/// Words in a line of the bitmap.
const WORDS_PER_LINE: u64 = 4;
/// Words between two comments with an address.
const WORDS_PER_COMMENT: u64 = 32;
/// 8.3.16 reads whole sectors, and a run of equal words may go on to the end of what was read.
const WORDS_PER_SECTOR: u64 = 64;
/// Words between two reports of progress.
const WORDS_PER_PROGRESS: u64 = 1 << 17;
/// KiB of data that a word stands for.
const KIB_PER_WORD: u64 = 256;

/// Stands where no reader expects it.
const DAMAGED: &str = "This_is_a_dump_of_damaged_meta_data._Don't_trust_it.";

/// Why a dump cannot be finished.
#[derive(Debug)]
pub enum DumpError {
    /// The device.
    Meta(MetaError),
    /// The place that the text goes to.
    Output(io::Error),
}

impl From<MetaError> for DumpError {
    fn from(error: MetaError) -> DumpError {
        DumpError::Meta(error)
    }
}

impl From<io::Error> for DumpError {
    fn from(error: io::Error) -> DumpError {
        DumpError::Output(error)
    }
}

/// Where meta data was found, if not at its place (spec/metadata.md 10.1).
#[derive(Debug, Clone)]
pub struct Relocated<'a> {
    /// Path of the device.
    pub device: &'a str,
    /// Where it should be.
    pub expected: Layout,
    /// Path in the record of the last known device.
    pub last_known_path: Option<&'a str>,
}

/// What a dump tells beside the meta data.
#[derive(Debug, Clone, Default)]
pub struct Remarks<'a> {
    /// Where it was found, if not at its place.
    pub relocated: Option<Relocated<'a>>,
    /// What is wrong with the super block: then no reader takes the dump before somebody has looked at it.
    pub complaints: &'a [Complaint],
}

/// Writes the lines from `version` to `# bits-set`. `layout` is where the meta data was found.
///
/// Returns how many pages of the bitmap cannot be read. They are shown as out of sync, so that the dump can be
/// restored.
pub fn write_dump(
    out: &mut dyn Write,
    file: &dyn BlockFile,
    super_block: &SuperBlock,
    layout: &Layout,
    remarks: &Remarks,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<u64, DumpError> {
    writeln!(out, "version \"v08\";\n")?;
    if !remarks.complaints.is_empty() {
        writeln!(out, "{DAMAGED}\n# What cannot be right:")?;
        for Complaint { field, found, expected } in remarks.complaints {
            writeln!(out, "#   {field} is {found}, expected {expected}")?;
        }
        writeln!(out, "# Before restore-md, correct the values and remove the line in front of these.\n")?;
    }
    writeln!(out, "# md_size_sect {}", super_block.md_size_sectors)?;
    if let Some(relocated) = &remarks.relocated {
        let expected = &relocated.expected;
        writeln!(
            out,
            "#\n### Device seems to have been resized!\n\
             ### dumping meta data from the last known position\n\
             ### current size of {}: {} byte\n\
             ### expected position of meta data:\n\
             ## md_offset {}\n## al_offset {}\n## bm_offset {}\n\
             ### last known size of {}: {} byte\n\
             ### adjusted position of meta data:",
            relocated.device,
            expected.device_bytes,
            expected.md_offset,
            expected.al_offset(),
            expected.bm_offset(),
            relocated.last_known_path.unwrap_or("-?-"),
            layout.device_bytes,
        )?;
    }
    writeln!(
        out,
        "# md_offset {}\n# al_offset {}\n# bm_offset {}\n",
        layout.md_offset,
        layout.al_offset(),
        layout.bm_offset()
    )?;
    let uuids: Vec<String> = super_block.uuids.iter().map(|uuid| format!("0x{uuid:016X};")).collect();
    writeln!(out, "uuid {{\n    {}\n    flags 0x{:08X};\n}}", uuids.join(" "), super_block.flags.0)?;
    writeln!(
        out,
        "# al-extents {};\nla-size-sect {};\nbm-byte-per-bit {};\ndevice-uuid 0x{:016X};\n\
         la-peer-max-bio-size {};",
        super_block.al_slots,
        super_block.effective_size_sectors,
        super_block.bytes_per_bit,
        super_block.device_uuid,
        super_block.peer_max_bio_bytes,
    )?;
    if layout.log != LogGeometry::CLASSIC {
        writeln!(out, "al-stripes {};\nal-stripe-size-4k {};", layout.log.stripes, layout.log.stripe_blocks)?;
    }
    write_bitmap(out, file, super_block.effective_size_sectors, layout, progress)
}

/// The bitmap, one word after the other, read in large requests.
struct WordReader<'a> {
    file: &'a dyn BlockFile,
    layout: &'a Layout,
    /// Words that were read and not taken.
    ahead: VecDeque<u64>,
    next_page: u64,
    /// Words that were not read yet.
    remaining: u64,
    /// Pages that cannot be read.
    unreadable: u64,
}

impl WordReader<'_> {
    fn next(&mut self) -> Result<Option<u64>, MetaError> {
        if self.ahead.is_empty() && self.remaining > 0 {
            let count = self.remaining.min(BATCH_BYTES as u64 / 8);
            let mut words = vec![0; count as usize];
            self.unreadable += read_readable_bitmap(self.file, self.layout, self.next_page, &mut words)?;
            self.ahead.extend(words);
            self.next_page += (BATCH_BYTES / bitmap::PAGE_BYTES) as u64;
            self.remaining -= count;
        }
        Ok(self.ahead.pop_front())
    }

    fn put_back(&mut self, word: u64, count: u64) {
        for _ in 0..count {
            self.ahead.push_front(word);
        }
    }

    /// Takes the next word and all equal ones that follow it.
    fn run(&mut self) -> Result<Option<(u64, u64)>, MetaError> {
        let Some(word) = self.next()? else {
            return Ok(None);
        };
        let mut count = 1;
        while let Some(next) = self.next()? {
            if next != word {
                self.put_back(next, 1);
                break;
            }
            count += 1;
        }
        Ok(Some((word, count)))
    }
}

/// Writes the lines from `# bm-bytes` to `# bits-set`, of a device of `sectors`. Returns how many pages cannot be
/// read; they are shown as out of sync.
pub fn write_bitmap(
    out: &mut dyn Write,
    file: &dyn BlockFile,
    sectors: u64,
    layout: &Layout,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<u64, DumpError> {
    let words = bitmap::words(sectors);
    writeln!(out, "# bm-bytes {};", bitmap::stored_bytes(sectors))?;
    write!(out, "bm {{")?;
    let mut reader = WordReader {
        file,
        layout,
        ahead: VecDeque::new(),
        next_page: 0,
        remaining: words.next_multiple_of(WORDS_PER_SECTOR),
        unreadable: 0,
    };
    let mut at = 0;
    let mut bits_set = 0;
    while at < words {
        if at % WORDS_PER_COMMENT == 0 {
            write!(out, "\n   # at {}kB", KIB_PER_WORD * at)?;
        }
        write!(out, "\n   ")?;
        let Some((word, run)) = reader.run()? else {
            break;
        };
        let whole_lines = run - run % WORDS_PER_LINE;
        if whole_lines > WORDS_PER_LINE {
            write!(out, " {whole_lines} times 0x{word:016X};")?;
            reader.put_back(word, run - whole_lines);
            at += whole_lines;
            bits_set += u64::from(word.count_ones()) * whole_lines;
            progress(at, words);
            continue;
        }
        reader.put_back(word, run);
        for _ in 0..WORDS_PER_LINE.min(words - at) {
            let Some(word) = reader.next()? else { break };
            write!(out, " 0x{word:016X};")?;
            bits_set += u64::from(word.count_ones());
        }
        at += WORDS_PER_LINE;
        if at % WORDS_PER_PROGRESS == 0 {
            progress(at, words);
        }
    }
    writeln!(out, "\n}}\n# bits-set {bits_set};")?;
    if reader.unreadable > 0 {
        let pages = reader.unreadable;
        writeln!(out, "# {pages} pages of the bitmap cannot be read; here they are out of sync.")?;
    }
    Ok(reader.unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::crash_device::CrashDevice;
    use crate::meta::damage::examine;
    use crate::meta::dump_parser::{parse, Fields};
    use crate::meta::image;
    use crate::meta::Format;
    use crate::meta::MetaIndex;

    fn device() -> (CrashDevice, SuperBlock, Layout) {
        let bytes = 300 << 20;
        let layout = Layout::new(MetaIndex::Internal, bytes, LogGeometry::CLASSIC).unwrap();
        let super_block = SuperBlock {
            effective_size_sectors: layout.first_meta_byte() / 512,
            ..SuperBlock::just_created(&layout)
        };
        let device = CrashDevice::new(bytes, Default::default());
        image::write_super_block(&device, &layout, &super_block, true).unwrap();
        image::write_bitmap(&device, &layout, 0, &[1, 0, 2], true).unwrap();
        (device, super_block, layout)
    }

    fn dump(device: &CrashDevice, block: &SuperBlock, layout: &Layout, remarks: &Remarks) -> (String, u64) {
        let mut text = Vec::new();
        let unreadable = write_dump(&mut text, device, block, layout, remarks, &mut |_, _| ()).unwrap();
        (String::from_utf8(text).unwrap(), unreadable)
    }

    #[test]
    fn what_cannot_be_read_is_out_of_sync() {
        let (mut device, block, layout) = device();
        let (whole, unreadable) = dump(&device, &block, &layout, &Remarks::default());
        assert_eq!(unreadable, 0);
        assert_eq!(parse(&whole, Format::V08).unwrap().1[..3], [(1, 1), (1, 0), (1, 2)]);
        let start = layout.bm_offset();
        device.unreadable = vec![(start + 4096, start + 4608)];
        let (partial, unreadable) = dump(&device, &block, &layout, &Remarks::default());
        assert_eq!(unreadable, 1);
        let bitmap = parse(&partial, Format::V08).unwrap().1;
        assert_eq!(bitmap[..5], [(1, 1), (1, 0), (1, 2), (509, 0), (512, u64::MAX)]);
        assert!(partial.ends_with("# 1 pages of the bitmap cannot be read; here they are out of sync.\n"));
    }

    #[test]
    fn a_dump_of_damaged_meta_data_is_read_only_once_it_was_corrected() {
        let (device, block, layout) = device();
        let block = SuperBlock { md_size_sectors: 7, ..block };
        let found = examine(&block.encode(), &layout).unwrap();
        let remarks = Remarks { relocated: None, complaints: &found.complaints };
        let (text, _) = dump(&device, &block, &layout, &remarks);
        assert!(text.contains("#   md_size_sect is 7, expected 96\n"), "{text}");
        assert_eq!(
            parse(&text, Format::V08).unwrap_err().to_string(),
            "line 3: unknown token: This_is_a_dump_of_damaged_meta_data ...\n\
             Parse error in line 3: keyword 'uuid' expected"
        );
        let corrected = text.replace(DAMAGED, "");
        let (fields, _) = parse(&corrected, Format::V08).unwrap();
        assert!(matches!(fields, Fields::V08(fields) if fields.uuids == block.uuids));
    }
}
