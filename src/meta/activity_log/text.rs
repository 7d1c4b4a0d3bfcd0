//! The activity log as comments of a dump (`dump-md` with ten times `-v`).

use crate::meta::fields::u32_at;
use std::io::{self, Write};

use super::transaction_83::{self, Transaction83, ENTRIES};
use super::transaction_84::{self, Block84};
use super::{choose_format, LogFormat};
use crate::meta::layout::LogGeometry;
use crate::meta::super_block::SuperBlock;

/// Writes all sectors (8.3) or blocks (8.4), as tools of both generations do.
pub fn write_log_text(
    out: &mut dyn Write,
    area: &[u8],
    super_block: &SuperBlock,
    geometry: LogGeometry,
) -> io::Result<()> {
    writeln!(out, "# al {{")?;
    match choose_format(area, super_block, geometry) {
        LogFormat::V83 => {
            for (i, sector) in area.chunks_exact(transaction_83::TRANSACTION_BYTES).enumerate() {
                write_sector(out, i, sector)?;
            }
        }
        LogFormat::V84 => {
            for (i, block) in area.chunks_exact(transaction_84::TRANSACTION_BYTES).enumerate() {
                write_block(out, i, block)?;
            }
        }
    }
    writeln!(out, "# }}")
}

fn write_sector(out: &mut dyn Write, number: usize, sector: &[u8]) -> io::Result<()> {
    let valid = match Transaction83::decode(sector) {
        Some(_) => "valid",
        None => "invalid",
    };
    writeln!(out, "#     sector {number:2} {{ {valid}")?;
    writeln!(out, "# \tmagic: 0x{:08x}", u32_at(sector, 0))?;
    writeln!(out, "# \ttr: {:10}", u32_at(sector, 4))?;
    for i in 0..ENTRIES {
        let (slot, extent) = (u32_at(sector, 8 + 8 * i), u32_at(sector, 12 + 8 * i));
        writeln!(out, "# \t{i:2}: {slot:10} {extent:10}")?;
    }
    writeln!(out, "# \txor: 0x{:08x}\n#     }}", u32_at(sector, 504))
}

fn write_block(out: &mut dyn Write, number: usize, block: &[u8]) -> io::Result<()> {
    let transaction = match Block84::decode(block) {
        None => return writeln!(out, "#     block {number:2} {{ INVALID }}"),
        Some(Block84::Initialized) => return writeln!(out, "#     block {number:2} {{ INITIALIZED }}"),
        Some(Block84::Update(transaction)) => transaction,
    };
    writeln!(out, "#     block {number:2} {{")?;
    writeln!(out, "# \tmagic: 0x{:08x}\n# \ttype: 0x0000", u32_at(block, 0))?;
    writeln!(out, "# \ttr: {:10}", transaction.number)?;
    writeln!(out, "# \tactive set size: {}", transaction.slots)?;
    let context = usize::from(transaction.slots.saturating_sub(transaction.context_start));
    for (i, extent) in transaction.context.iter().take(context).enumerate() {
        let slot = usize::from(transaction.context_start) + i;
        writeln!(out, "# \t{i:2}: {slot:10} {extent:10}")?;
    }
    writeln!(out, "# \tupdates: {}", transaction.updates.len())?;
    for (i, (slot, extent)) in transaction.updates.iter().enumerate() {
        writeln!(out, "# \t{i:2}: {slot:10} {extent:10}")?;
    }
    writeln!(out, "# \tcrc32c: 0x{:08x}\n#     }}", u32_at(block, 8))
}
