//! `dump-md` (spec/metadata.md 10.1).

use std::io::{BufWriter, Write};

use super::super::call::{Call, Failure};
use super::super::dump_md;
use super::super::progress::Progress;
use super::{open, Home};
use drbdbox::meta::dump::{write_bitmap, DumpError};

/// Runs the command.
pub fn run(call: &Call) -> Result<u8, Failure> {
    let (home, counters) = open(call)?;
    let mut progress = Progress::beside_stdout("reading the bitmap");
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut write = || -> Result<u64, DumpError> {
        dump_md::write_header(&mut out, call)?;
        let (md_size, offsets) = match &home {
            Home::File(_) => (0, [0; 3]),
            Home::Block { layout, block, .. } => {
                (block.md_size_sectors(), [layout.md_offset, layout.al_offset(), layout.bm_offset()])
            }
        };
        let name = call.format.name();
        let [md, al, bm] = offsets;
        writeln!(out, "version \"{name}\";\n\n# md_size_sect {md_size}")?;
        writeln!(out, "# md_offset {md}\n# al_offset {al}\n# bm_offset {bm}\n")?;
        let numbers = [counters.flags.0].into_iter().chain(counters.counts);
        let numbers: Vec<String> = numbers.map(|number| format!("{number};")).collect();
        writeln!(out, "gc {{\n    {}\n}}", numbers.join(" "))?;
        let mut unreadable = 0;
        if let Home::Block { disk, layout, block } = &home {
            let sectors = block.effective_size_kib.saturating_mul(2);
            writeln!(out, "# al-extents {};\nla-size-sect {sectors};", block.al_slots)?;
            let shown = block.plausible_sectors(layout);
            unreadable = write_bitmap(&mut out, disk, shown, layout, &mut |done, total| {
                progress.show(done, total);
            })?;
        }
        out.flush()?;
        Ok(unreadable)
    };
    dump_md::outcome(write())
}
