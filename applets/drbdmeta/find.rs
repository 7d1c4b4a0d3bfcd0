//! Finding the super block: at its place, or where it was before the device changed its size
//! (spec/metadata.md 2.5, 7 and 9).

use super::call::{Call, Failure};
use super::disk::Disk;
use super::last_known::{self, LastKnown};
use super::ui::{say, say_err};
use super::{EXIT_ERROR, EXIT_NO_META_DATA};
use drbdbox::meta::image::BlockFile;
use drbdbox::meta::layout::SECTOR_BYTES;
use drbdbox::meta::super_block::{DecodeError, ValidityError};
use drbdbox::meta::survey::read_block;
use drbdbox::meta::{Format, Layout, LogGeometry, MetaIndex, SuperBlock};

/// Valid meta data.
pub struct Found {
    /// The super block, with the repairs of [`repair`].
    pub super_block: SuperBlock,
    /// Where its parts are.
    pub layout: Layout,
}

/// What a device holds.
pub enum Search {
    /// Meta data at its place.
    InPlace(Found),
    /// Meta data where the device's end was before.
    LastKnownPlace(Found, LastKnown),
    /// None.
    Nothing,
}

/// Looks at the place by the device's size, then, for internal meta data, at the last known one.
pub fn search(call: &Call, disk: &Disk) -> Result<Search, Failure> {
    if let Some(found) = at_place(call, disk, &disk.expected)? {
        return Ok(Search::InPlace(found));
    }
    if call.index != MetaIndex::Internal {
        return Ok(Search::Nothing);
    }
    at_last_known_place(call, disk)
}

/// The meta data of commands that work only on meta data at its place; without it they fail silently.
pub fn in_place(call: &Call, disk: &Disk) -> Result<Found, Failure> {
    match search(call, disk)? {
        Search::InPlace(found) => Ok(found),
        _ => Err(Failure::silent(EXIT_NO_META_DATA)),
    }
}

/// As [`in_place`], with a message.
pub fn in_place_or_say_so(call: &Call, disk: &Disk) -> Result<Found, Failure> {
    in_place(call, disk).map_err(|failure| match failure.code {
        EXIT_NO_META_DATA => Failure::new(failure.code, "No valid meta data found"),
        _ => failure,
    })
}

/// Reads and checks the block at `place`, whose activity log is not known yet.
fn at_place(call: &Call, disk: &Disk, place: &Layout) -> Result<Option<Found>, Failure> {
    // Each failed request has been reported.
    let block = read_block(disk, place.md_offset).map_err(|_| Failure::silent(EXIT_ERROR))?;
    let mut super_block = match SuperBlock::decode(&block) {
        Ok(super_block) => super_block,
        Err(error) => {
            if call.is_verbose(1) {
                say_err!("v08 Magic number not found");
                if error == DecodeError::Version9 {
                    say_err!("{error}");
                }
            }
            return Ok(None);
        }
    };
    // A log that does not fit the device is found wrong by its offset.
    let log = super_block.log_geometry().unwrap_or_default();
    let layout = Layout::new(place.index, place.device_bytes, log).unwrap_or(*place);
    if let Err(error) = super_block.validate(&layout) {
        say_err!("{}", validity_text(Format::V08, layout.index, &error));
        return Ok(None);
    }
    repair(&mut super_block, &layout);
    Ok(Some(Found { super_block, layout }))
}

/// 8.3.16's texts.
pub fn validity_text(format: Format, index: MetaIndex, error: &ValidityError) -> String {
    let format = format.name();
    match error {
        ValidityError::AlOffset { found, expected } => {
            format!("{format} Magic number (al_offset) not found\n\texpected: {expected}, found {found}")
        }
        ValidityError::BmOffset { found, expected } if index.is_internal() => {
            format!("strange bm_offset {found} (expected: {expected})")
        }
        ValidityError::BmOffset { .. } => format!("{format} Magic number (bm_offset) not found"),
        ValidityError::MdSize { found, expected } => {
            format!("strange md_size_sect {found} (expected: {expected})")
        }
        ValidityError::BytesPerBit { .. } | ValidityError::Striping { .. } => error.to_string(),
    }
}

/// Repairs what 8.3.16 repairs, in memory (spec/metadata.md 2.5).
fn repair(super_block: &mut SuperBlock, layout: &Layout) {
    let sectors_max = layout.md_offset / SECTOR_BYTES;
    if layout.index.is_internal() && super_block.effective_size_sectors > sectors_max {
        say!("la-size-sect was too big, fixed.");
        super_block.effective_size_sectors = sectors_max;
    }
    if super_block.bytes_per_bit == 0 {
        say!("bm-byte-per-bit was 0, fixed. (Set to 4096)");
        super_block.bytes_per_bit = 4096;
    }
}

fn at_last_known_place(call: &Call, disk: &Disk) -> Result<Search, Failure> {
    let verbose = call.is_verbose(1);
    let Some(record) = last_known::load(call) else {
        if verbose {
            say_err!("no last-known offset information available.");
        }
        return Ok(Search::Nothing);
    };
    if verbose {
        let path = record.path.as_deref().unwrap_or("-unknown device name-");
        say_err!(" last known info: {} {path}", record.bytes);
        if record.device_uuid != 0 {
            say_err!(" last known uuid: {:016X}", record.device_uuid);
        }
    }
    if record.bytes == disk.size_bytes() {
        return Ok(Search::Nothing);
    }
    let Ok(place) = Layout::new(MetaIndex::Internal, record.bytes, LogGeometry::CLASSIC) else {
        return Ok(Search::Nothing);
    };
    let is_inside = place.md_offset + drbdbox::meta::layout::SUPER_BLOCK_BYTES <= disk.size_bytes();
    let found = if is_inside { at_place(call, disk, &place)? } else { None };
    if verbose {
        report_relocation(call, &record, &place, found.is_some(), is_inside);
    }
    let Some(found) = found else {
        return Ok(Search::Nothing);
    };
    if record.device_uuid != 0 && record.device_uuid != found.super_block.device_uuid {
        // 8.3.16 always prints 0 as the second number.
        say_err!("Last known and found uuid differ!?\n{:016X} != {:016X}", record.device_uuid, 0);
        if !call.options.force {
            say_err!("You may --force me to ignore that.");
            return Ok(Search::Nothing);
        }
        say_err!("You --force'ed me to ignore that.");
    }
    Ok(Search::LastKnownPlace(found, record))
}

fn report_relocation(call: &Call, record: &LastKnown, place: &Layout, is_found: bool, is_inside: bool) {
    say_err!(
        "While checking for internal meta data for drbd{} on {},\n\
         it appears that it may have been relocated.",
        call.minor.unwrap_or(0),
        call.device
    );
    let elsewhere = match &record.path {
        Some(path) if *path != call.device => format!("on {path} "),
        _ => String::new(),
    };
    let outcome = if is_found { ", and seems to still be valid." } else { ", but I cannot find it now." };
    say_err!("It used to be {elsewhere}at byte offset {}{outcome}", place.md_offset);
    if !is_inside {
        say_err!("Device is too small now!");
    }
}
