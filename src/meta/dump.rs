//! The text of `dump-md`, in 8.3.16's form (spec/metadata.md 10.1).

use std::collections::VecDeque;
use std::io::{self, Write};

use super::bitmap;
use super::image::{read_bitmap, BlockFile, MetaError, BATCH_BYTES};
use super::layout::{Layout, LogGeometry};
use super::super_block::SuperBlock;

/// Words in a line of the bitmap.
const WORDS_PER_LINE: u64 = 4;
/// Words between two comments with an address.
const WORDS_PER_COMMENT: u64 = 32;
/// 8.3.16 reads whole sectors, and a run of equal words may go on to the end of what was read.
const WORDS_PER_SECTOR: u64 = 64;
/// KiB of data that a word stands for.
const KIB_PER_WORD: u64 = 256;

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

/// Writes the lines from `version` to `# bits-set`. `layout` is where the meta data was found.
pub fn write_dump(
    out: &mut dyn Write,
    file: &dyn BlockFile,
    super_block: &SuperBlock,
    layout: &Layout,
    relocated: Option<&Relocated>,
) -> Result<(), DumpError> {
    writeln!(out, "version \"v08\";\n")?;
    writeln!(out, "# md_size_sect {}", super_block.md_size_sectors)?;
    if let Some(relocated) = relocated {
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
    write_bitmap_text(out, file, super_block, layout)
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
}

impl WordReader<'_> {
    fn next(&mut self) -> Result<Option<u64>, MetaError> {
        if self.ahead.is_empty() && self.remaining > 0 {
            let count = self.remaining.min(BATCH_BYTES as u64 / 8);
            let mut words = vec![0; count as usize];
            read_bitmap(self.file, self.layout, self.next_page, &mut words)?;
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

fn write_bitmap_text(
    out: &mut dyn Write,
    file: &dyn BlockFile,
    super_block: &SuperBlock,
    layout: &Layout,
) -> Result<(), DumpError> {
    let words = bitmap::words(super_block.effective_size_sectors);
    writeln!(out, "# bm-bytes {};", bitmap::stored_bytes(super_block.effective_size_sectors))?;
    write!(out, "bm {{")?;
    let mut reader = WordReader {
        file,
        layout,
        ahead: VecDeque::new(),
        next_page: 0,
        remaining: words.next_multiple_of(WORDS_PER_SECTOR),
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
            continue;
        }
        reader.put_back(word, run);
        for _ in 0..WORDS_PER_LINE.min(words - at) {
            let Some(word) = reader.next()? else { break };
            write!(out, " 0x{word:016X};")?;
            bits_set += u64::from(word.count_ones());
        }
        at += WORDS_PER_LINE;
    }
    writeln!(out, "\n}}\n# bits-set {bits_set};")?;
    Ok(())
}
