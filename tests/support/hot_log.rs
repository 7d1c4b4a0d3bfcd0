//! `hot-log FILE`: makes internal v08 meta data look as a crashed Primary leaves them: every slot of the activity log holds an
//! extent, spread over the whole device. tests/bench-meta.sh times apply-al on the result.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;

use drbdbox::meta::activity_log::{LogWriter, SlotUpdate, EXTENT_SECTORS};
use drbdbox::meta::flags::MetaFlags;
use drbdbox::meta::layout::{Layout, LogGeometry, MetaIndex, SUPER_BLOCK_BYTES};
use drbdbox::meta::super_block::SuperBlock;

fn main() -> ExitCode {
    let Some(file) = std::env::args().nth(1) else {
        eprintln!("usage: hot-log FILE");
        return ExitCode::from(2);
    };
    match fill(&file) {
        Ok(slots) => {
            println!("{slots}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("hot-log {file}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the number of slots.
fn fill(file: &str) -> Result<u32, Box<dyn std::error::Error>> {
    let device = OpenOptions::new().read(true).write(true).open(file)?;
    let device_bytes = device.metadata()?.len();
    let place = Layout::new(MetaIndex::Internal, device_bytes, LogGeometry::CLASSIC)?.md_offset;
    let mut block = vec![0; SUPER_BLOCK_BYTES as usize];
    device.read_exact_at(&mut block, place)?;
    let mut super_block = SuperBlock::decode(&block)?;
    let layout = super_block.layout(MetaIndex::Internal, device_bytes)?;

    let mut writer = LogWriter::new(super_block.log_geometry()?, u32::MAX, 512);
    device.write_all_at(&writer.initial_area(), layout.al_offset())?;
    let data_sectors = layout.usable_sectors(device_bytes / 512);
    let step = (data_sectors / EXTENT_SECTORS) as u32 / writer.slots();
    let updates: Vec<SlotUpdate> =
        (0..writer.slots()).map(|slot| SlotUpdate { slot, extent: slot * step }).collect();
    for some in updates.chunks(writer.updates_max()) {
        let write = writer.transaction(some)?;
        device.write_all_at(&write.bytes, layout.al_offset() + write.offset)?;
    }

    super_block.al_slots = writer.al_slots_field();
    super_block.effective_size_sectors = data_sectors;
    super_block.flags.set(MetaFlags::CONSISTENT, true);
    super_block.flags.set(MetaFlags::PRIMARY_IND, true);
    device.write_all_at(&super_block.encode(), place)?;
    Ok(writer.slots())
}
