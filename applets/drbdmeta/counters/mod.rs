//! The commands on meta data of DRBD 0.6 and 0.7, which have counters where v08 has UUIDs (spec/metadata.md 2.6).
//!
//! They are looked at, changed and emptied as they are; `create-md` of v08 converts v07.

mod change;
mod create;
mod dump;
mod restore;
mod show;

use std::fs;
use std::path::PathBuf;

use super::call::{Call, Failure};
use super::disk::{io_failure, Disk};
use super::progress::Progress;
use super::ui::{say, say_err};
use super::{apply_al, hexdump, verify_dump, wipe_md, EXIT_ERROR, EXIT_NO_META_DATA, EXIT_USAGE};
use drbdbox::meta::counters::{layout_v07, BlockV07, Counters};
use drbdbox::meta::image::BlockFile;
use drbdbox::meta::log_application::apply_v07;
use drbdbox::meta::survey::read_block;
use drbdbox::meta::{Format, Layout};
use drbdbox::sys::block_device::error_text;
use drbdbox::sys::paths;

/// Exit status of `outdate`: nothing can be outdated.
const EXIT_INCONSISTENT: u8 = 5;

/// Where the counters are.
enum Home<'a> {
    /// v06: a plain file.
    File(PathBuf),
    /// v07: a block of the device.
    Block { disk: Disk<'a>, layout: Layout, block: BlockV07 },
}

/// Runs a command on v06 or v07.
pub fn run(call: &Call) -> Result<u8, Failure> {
    let is_v07 = call.format == Format::V07;
    match call.command {
        "get-gi" => say!("{}", show::line(&open(call)?.1)),
        "show-gi" => show::show(call, &open(call)?),
        "dump-md" => return dump::run(call),
        "verify-dump" => return verify_dump::run(call),
        "restore-md" => return restore::run(call),
        "dstate" => {
            open(call).map_err(|failure| match failure.code {
                EXIT_NO_META_DATA => Failure::new(failure.code, "No valid meta data found"),
                _ => failure,
            })?;
            // What 8.3.16 says of counters, whatever they are.
            say!("Inconsistent/DUnknown");
        }
        "outdate" => {
            open(call)?;
            let text = "Can not outdate GC based meta data!\nDevice is inconsistent.";
            return Err(Failure::new(EXIT_INCONSISTENT, text));
        }
        "invalidate" => return change::invalidate(call),
        "set-gi" => return change::set_gi(call),
        "create-md" if is_v07 => return create::run(call),
        "wipe-md" if is_v07 => return wipe(call),
        "apply-al" if is_v07 => return apply(call),
        "hexdump-superblock" if is_v07 => {
            let disk = Disk::open(call)?;
            return hexdump::show(call, &disk, layout(call, &disk)?.md_offset);
        }
        "check-resize" => {
            let text = "Operation only supported for v8 internal meta data";
            return Err(Failure::new(EXIT_NO_META_DATA, text));
        }
        command => return Err(Failure::new(EXIT_USAGE, refusal(command, call.format))),
    }
    Ok(0)
}

/// Why a command does not exist for a format, and what does instead.
fn refusal(command: &str, format: Format) -> String {
    let why = match (command, format) {
        ("read-dev-uuid" | "write-dev-uuid", _) => "They have no device UUID.",
        ("create-md", _) => "No release converts them, or creates new ones; use 'v08 ... create-md'.",
        ("wipe-md", _) => "They are a file: remove it.",
        ("apply-al", _) => "They have no activity log.",
        _ => "They are a file of 24 bytes.",
    };
    let release = if format == Format::V06 { "0.6" } else { "0.7" };
    format!("{command} does not work on meta data of DRBD {release}. {why}")
}

/// Finds and reads the counters.
fn open(call: &Call) -> Result<(Home<'_>, Counters), Failure> {
    if call.format == Format::V06 {
        let path = file_v06(call);
        let bytes = fs::read(&path).map_err(|error| {
            let text = format!("open({}) failed: {}", path.display(), error_text(&error));
            Failure::new(EXIT_NO_META_DATA, text)
        })?;
        let counters = Counters::decode_v06(&bytes)
            .ok_or_else(|| Failure::new(EXIT_NO_META_DATA, "v06 Magic number not found"))?;
        return Ok((Home::File(path), counters));
    }
    let disk = Disk::open(call)?;
    let layout = layout(call, &disk)?;
    let block = find(call, &disk, &layout)?.ok_or_else(|| Failure::silent(EXIT_NO_META_DATA))?;
    let counters = block.counters;
    Ok((Home::Block { disk, layout, block }, counters))
}

/// v06's meta data.
fn file_v06(call: &Call) -> PathBuf {
    paths::libdir().join(format!("drbd{}", call.device))
}

/// v07's block, if there is a valid one; else stderr says why, as for v08.
fn find(call: &Call, disk: &Disk, layout: &Layout) -> Result<Option<BlockV07>, Failure> {
    // Each failed request has been reported.
    let bytes = read_block(disk, layout.md_offset).map_err(|_| Failure::silent(EXIT_ERROR))?;
    let Some(block) = BlockV07::read(&bytes) else {
        if call.is_verbose(1) {
            say_err!("v07 Magic number not found");
        }
        return Ok(None);
    };
    let text = |error| super::find::validity_text(Format::V07, layout.index, &error);
    if let Err(error) = block.validate(layout) {
        say_err!("{}", text(error));
        return Ok(None);
    }
    if let Some(strange) = block.strange_size(layout) {
        say_err!("{}", text(strange));
    }
    Ok(Some(block))
}

/// Where v07 has its parts.
fn layout(call: &Call, disk: &Disk) -> Result<Layout, Failure> {
    layout_v07(call.index, call.is_fixed, disk.size_bytes()).map_err(|_| {
        let text = format!("{} is only {} bytes. That's not enough.", call.device, disk.size_bytes());
        Failure::new(EXIT_ERROR, text)
    })
}

fn wipe(call: &Call) -> Result<u8, Failure> {
    let disk = Disk::open(call)?;
    let layout = layout(call, &disk)?;
    let found = find(call, &disk, &layout)?.map(|_| layout);
    wipe_md::wipe(call, &disk, found)
}

fn apply(call: &Call) -> Result<u8, Failure> {
    let (home, _) = open(call).map_err(|failure| match failure.text.as_str() {
        "" if failure.code == EXIT_NO_META_DATA => Failure::new(failure.code, "No valid meta data found"),
        _ => failure,
    })?;
    let Home::Block { disk, layout, block } = home else {
        return Err(Failure::silent(EXIT_NO_META_DATA));
    };
    let mut progress = Progress::new(apply_al::APPLYING);
    let done = apply_v07(&disk, &block, &layout, &mut |done, total| progress.show(done, total));
    progress.end();
    let done = done.map_err(io_failure)?;
    if done.is_changed {
        apply_al::report(&done.log, false);
    }
    if let Some(marked) = &done.marked {
        apply_al::report_marked(block.plausible_sectors(&layout), marked);
    }
    Ok(0)
}
