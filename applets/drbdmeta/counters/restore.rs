//! `restore-md` (spec/metadata.md 10.2 and 10.3).

use super::super::call::{Call, Failure};
use super::super::create_md::initialize_log;
use super::super::disk::Disk;
use super::super::dump_source::Source;
use super::super::restore_md::{ask_to_overwrite, write_bitmap};
use super::super::ui::{say, say_err};
use super::super::{existing_data, EXIT_ERROR};
use super::change::{write_block, write_file};
use super::create::refuse_others;
use super::{file_v06, find, layout};
use drbdbox::meta::counters::{BlockV07, Counters};
use drbdbox::meta::dump_parser::Fields;
use drbdbox::meta::{Format, MetaFlags};

const IN_PLACE: &str = "Valid meta-data in place, overwrite?";

/// Runs the command. The whole dump is read before anything is written.
pub fn run(call: &Call) -> Result<u8, Failure> {
    let source = Source::open(call)?;
    match call.format {
        Format::V06 => restore_file(call, source)?,
        _ => restore_block(call, source)?,
    }
    say!("Successfully restored meta data");
    Ok(0)
}

fn restore_file(call: &Call, source: Source) -> Result<(), Failure> {
    let path = file_v06(call);
    if std::fs::read(&path).is_ok_and(|bytes| Counters::decode_v06(&bytes).is_some()) {
        ask_to_overwrite(call, IN_PLACE)?;
    }
    say_err!("reinitializing");
    match source.check(call.format)?.fields {
        Fields::V06(counters) if !call.options.dry_run => write_file(&path, counters),
        _ => Ok(()),
    }
}

fn restore_block(call: &Call, source: Source) -> Result<(), Failure> {
    let disk = Disk::open(call)?;
    let layout = layout(call, &disk)?;
    let in_place = find(call, &disk, &layout)?;
    if in_place.is_some() {
        ask_to_overwrite(call, IN_PLACE)?;
    } else {
        existing_data::check(call, &disk, &layout)?;
        refuse_others(call, &disk, &layout)?;
    }
    say_err!("reinitializing");
    let mut dump = source.check(call.format)?;
    let Fields::V07 { counters, effective_size_sectors } = dump.fields else {
        return Err(Failure::silent(EXIT_ERROR));
    };
    if !layout.bitmap_fits() {
        return Err(Failure::new(EXIT_ERROR, format!("{} is too small for a bitmap.", call.device)));
    }
    // As for v08: what is overwritten counts no longer, and the log stays with the disk that it describes.
    match in_place {
        Some(mut given_up) if given_up.effective_size_kib > 0 => {
            given_up.counters.flags.set(MetaFlags::FULL_SYNC, true);
            write_block(&disk, &layout, &given_up)?;
        }
        Some(_) => {}
        None => initialize_log(&disk, &layout)?,
    }
    write_bitmap(&disk, &layout, &mut dump)?;
    let mut restored = BlockV07::just_created(&layout);
    restored.counters = counters;
    restored.effective_size_kib = effective_size_sectors / 2;
    write_block(&disk, &layout, &restored)
}
