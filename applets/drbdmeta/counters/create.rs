//! New meta data of v07.

use super::super::call::{Call, Failure};
use super::super::create_md::initialize_log;
use super::super::disk::Disk;
use super::super::ui::{say, say_err};
use super::super::{existing_data, EXIT_ERROR};
use super::change::write_block;
use super::layout;
use drbdbox::meta::counters::BlockV07;
use drbdbox::meta::super_block::{DecodeError, SuperBlock};
use drbdbox::meta::survey::read_block;
use drbdbox::meta::Layout;

/// `create-md`: new meta data of v07, for a disk that goes back to such a host. Never over others: what 8.3.16 makes of v08 is broken,
/// as it says itself.
pub fn run(call: &Call) -> Result<u8, Failure> {
    let disk = Disk::open(call)?;
    let layout = layout(call, &disk)?;
    existing_data::check(call, &disk, &layout)?;
    refuse_others(call, &disk, &layout)?;
    say!("Writing meta data...\ninitializing activity log");
    initialize_log(&disk, &layout)?;
    say_err!("NOT initialized bitmap");
    write_block(&disk, &layout, &BlockV07::just_created(&layout))?;
    say!("New drbd meta data block successfully created.");
    Ok(0)
}

/// Refuses where the device has DRBD meta data, at the place of v07 or of v08.
pub fn refuse_others(call: &Call, disk: &Disk, layout: &Layout) -> Result<(), Failure> {
    for offset in [layout.md_offset, disk.expected.md_offset] {
        let bytes = read_block(disk, offset).map_err(|_| Failure::silent(EXIT_ERROR))?;
        if !matches!(SuperBlock::decode(&bytes), Err(DecodeError::NoMagic { .. })) {
            return Err(Failure::new(
                EXIT_ERROR,
                format!(
                    "There is DRBD meta data on {} at byte offset {offset} already.\n\
                     It is not converted to v07; wipe it out first if you do not need it.",
                    call.device
                ),
            ));
        }
    }
    Ok(())
}
