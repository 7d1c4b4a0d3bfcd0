//! Changing the counters.

use std::path::Path;

use super::super::call::{Call, Failure};
use super::super::disk::Disk;
use super::super::ui::{confirmed, say};
use super::super::{last_known, EXIT_ERROR};
use super::show::line;
use super::{open, Home};
use drbdbox::meta::counters::{BlockV07, Counters, FLAGS};
use drbdbox::meta::image::BlockFile;
use drbdbox::meta::layout::parse_c_number;
use drbdbox::meta::{Layout, MetaFlags};
use drbdbox::sys::block_device::error_text;
use drbdbox::sys::buffer::Buffer;

/// `invalidate`: no question, as for v08.
pub fn invalidate(call: &Call) -> Result<u8, Failure> {
    let (home, mut counters) = open(call)?;
    counters.flags.set(MetaFlags::CONSISTENT, false);
    counters.flags.set(MetaFlags::FULL_SYNC, true);
    write(call, &home, counters)?;
    Ok(0)
}

/// `set-gi`: fields in get-gi's order; an empty or missing one keeps its value, more are ignored.
pub fn set_gi(call: &Call) -> Result<u8, Failure> {
    let bad = |text: String| Failure::new(EXIT_ERROR, text);
    let text = call.argument.as_deref().ok_or_else(|| bad("Required Argument missing".into()))?;
    let (home, old) = open(call)?;
    let mut new = old;
    for (i, field) in text.split(':').enumerate().take(8).filter(|(_, field)| !field.is_empty()) {
        let number = parse_c_number(field)
            .and_then(|number| u32::try_from(number).ok())
            .ok_or_else(|| bad(format!("'{field}' is not a number.")))?;
        match i {
            1..=4 => new.counts[i - 1] = number,
            _ if number > 1 => return Err(bad(format!("'{number}' is not 0 or 1."))),
            0 => new.flags.set(FLAGS[0], number == 1),
            _ => new.flags.set(FLAGS[i - 4], number == 1),
        }
    }
    say!("previously {}\nset GI to  {}", line(&old), line(&new));
    if !confirmed(call, "Write new GI to disk?") {
        say!("Operation canceled.");
        return Ok(0);
    }
    write(call, &home, new)?;
    Ok(0)
}

/// Writes other counters to where they were found; durable.
pub fn write(call: &Call, home: &Home, counters: Counters) -> Result<(), Failure> {
    match home {
        Home::File(path) => {
            if call.options.dry_run {
                return Ok(());
            }
            write_file(path, counters)
        }
        Home::Block { disk, layout, block } => {
            let mut block = block.clone();
            block.counters = counters;
            write_block(disk, layout, &block)
        }
    }
}

/// Writes v06's file: the whole of it or nothing.
pub fn write_file(path: &Path, counters: Counters) -> Result<(), Failure> {
    last_known::replace(path, &counters.encode_v06()).map_err(|error| {
        let text = format!("open({}) failed: {}", path.display(), error_text(&error));
        Failure::new(EXIT_ERROR, text)
    })
}

/// Writes the block; durable.
pub fn write_block(disk: &Disk, layout: &Layout, block: &BlockV07) -> Result<(), Failure> {
    let bytes = Buffer::from_bytes(&block.encode());
    let written = disk.write_at(layout.md_offset, &bytes).and_then(|()| disk.sync());
    written.map_err(|_| Failure::silent(EXIT_ERROR))
}
