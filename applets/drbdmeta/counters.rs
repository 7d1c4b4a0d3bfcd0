//! The commands on meta data of DRBD 0.6 and 0.7, which have counters where v08 has UUIDs (spec/metadata.md 2.6).
//!
//! They are looked at and changed as they are. What needs a log, a bitmap or another place is for `create-md` of v08,
//! which converts.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use super::call::{Call, Failure, Version};
use super::disk::{io_failure, Disk};
use super::ui::{confirmed, say, say_err};
use super::{dump_md, existing_data, EXIT_ERROR, EXIT_NO_META_DATA, EXIT_USAGE};
use drbdbox::core::log_lines::pretty_kib;
use drbdbox::meta::counters::{layout_v07, BlockV07, Counters, FLAGS};
use drbdbox::meta::dump::{write_bitmap, DumpError};
use drbdbox::meta::image::{self, BlockFile};
use drbdbox::meta::layout::parse_c_number;
use drbdbox::meta::super_block::{DecodeError, SuperBlock};
use drbdbox::meta::survey::read_block;
use drbdbox::meta::{Layout, MetaFlags};
use drbdbox::sys::block_device::error_text;
use drbdbox::sys::buffer::Buffer;
use drbdbox::sys::paths;

/// Exit status of `outdate`: nothing can be outdated.
const EXIT_INCONSISTENT: u8 = 5;

/// Over the counters of show-gi.
const HEAD: &str = "
                                        WantFullSync |
                                  ConnectedInd |     |
                               lastState |     |     |
                      ArbitraryCnt |     |     |     |
                ConnectedCnt |     |     |     |     |
            TimeoutCnt |     |     |     |     |     |
        HumanCnt |     |     |     |     |     |     |
Consistent |     |     |     |     |     |     |     |
   --------+-----+-----+-----+-----+-----+-----+-----+
";

/// Where the counters are.
enum Home<'a> {
    /// v06: a plain file.
    File(PathBuf),
    /// v07: a block of the device.
    Block { disk: Disk<'a>, layout: Layout, block: BlockV07 },
}

/// Runs a command on v06 or v07.
pub fn run(call: &Call) -> Result<u8, Failure> {
    match call.command {
        "get-gi" => say!("{}", line(&open(call)?.1)),
        "show-gi" => show(&open(call)?),
        "dump-md" => return dump(call),
        "dstate" => {
            let found = open(call).map_err(|failure| match failure.code {
                EXIT_NO_META_DATA => Failure::new(failure.code, "No valid meta data found"),
                _ => failure,
            });
            found?;
            // What 8.3.16 says of counters, whatever they are.
            say!("Inconsistent/DUnknown");
        }
        "outdate" => {
            open(call)?;
            let text = "Can not outdate GC based meta data!\nDevice is inconsistent.";
            return Err(Failure::new(EXIT_INCONSISTENT, text));
        }
        "invalidate" => {
            let (home, mut counters) = open(call)?;
            counters.flags.set(MetaFlags::CONSISTENT, false);
            counters.flags.set(MetaFlags::FULL_SYNC, true);
            write(call, &home, counters)?;
        }
        "set-gi" => return set(call),
        "create-md" if call.version == Version::V07 => return create(call),
        command => {
            return Err(Failure::new(
                EXIT_USAGE,
                format!(
                    "{command} does not work on meta data of DRBD 0.6 and 0.7.\n\
                     Use 'v08 ... create-md', which converts v07."
                ),
            ))
        }
    }
    Ok(0)
}

/// Finds and reads the counters.
fn open(call: &Call) -> Result<(Home<'_>, Counters), Failure> {
    if call.version == Version::V06 {
        let path = paths::libdir().join(format!("drbd{}", call.device));
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
    let bytes = read_block(&disk, layout.md_offset).map_err(|_| Failure::silent(EXIT_ERROR))?;
    let Some(block) = BlockV07::decode(&bytes, &layout) else {
        let text = if call.is_verbose(1) { "v07 Magic number not found" } else { "" };
        return Err(Failure::new(EXIT_NO_META_DATA, text));
    };
    let counters = block.counters;
    Ok((Home::Block { disk, layout, block }, counters))
}

fn layout(call: &Call, disk: &Disk) -> Result<Layout, Failure> {
    layout_v07(call.index, call.is_fixed, disk.size_bytes()).map_err(|_| {
        let text = format!("{} is only {} bytes. That's not enough.", call.device, disk.size_bytes());
        Failure::new(EXIT_ERROR, text)
    })
}

/// get-gi's line without its newline.
fn line(counters: &Counters) -> String {
    let flag = |flag| u32::from(counters.flags.contains(flag));
    let first = [flag(FLAGS[0])];
    let numbers = first.into_iter().chain(counters.counts).chain(FLAGS[1..].iter().map(|f| flag(*f)));
    numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(":")
}

fn show((home, counters): &(Home, Counters)) {
    let flag = |i: usize, set: &'static str, clear: &'static str| {
        if counters.flags.contains(FLAGS[i]) {
            set
        } else {
            clear
        }
    };
    let counts: Vec<String> = counters.counts.iter().map(|count| format!("{count:3}")).collect();
    say!(
        "{HEAD}       {} | {} | {} | {} | {}  \n",
        flag(0, "1/c", "0/i"),
        counts.join(" | "),
        flag(1, "1/p", "0/s"),
        flag(2, "1/c", "0/n"),
        flag(3, "1/y", "0/n"),
    );
    match home {
        Home::Block { block, .. } if block.effective_size_kib > 0 => {
            say!("last agreed size: {}", pretty_kib(block.effective_size_kib))
        }
        _ => say!("zero size device -- never seen peer yet?"),
    }
}

fn dump(call: &Call) -> Result<u8, Failure> {
    let (home, counters) = open(call)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut write = || -> Result<u64, DumpError> {
        dump_md::write_header(&mut out, call)?;
        let (name, md_size, offsets) = match &home {
            Home::File(_) => ("v06", 0, [0; 3]),
            Home::Block { layout, block, .. } => {
                ("v07", block.md_size_sectors(), [layout.md_offset, layout.al_offset(), layout.bm_offset()])
            }
        };
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
            let shown = sectors.min(layout.usable_sectors(u64::MAX));
            unreadable = write_bitmap(&mut out, disk, shown, layout, &mut |_, _| ())?;
        }
        out.flush()?;
        Ok(unreadable)
    };
    dump_md::outcome(write())
}

fn write(call: &Call, home: &Home, counters: Counters) -> Result<(), Failure> {
    match home {
        Home::File(path) => {
            if call.options.dry_run {
                return Ok(());
            }
            // The whole file or none of it.
            super::last_known::replace(path, &counters.encode_v06()).map_err(|error| {
                let text = format!("open({}) failed: {}", path.display(), error_text(&error));
                Failure::new(EXIT_ERROR, text)
            })
        }
        Home::Block { disk, layout, block } => {
            let mut block = block.clone();
            block.counters = counters;
            write_block(disk, layout, &block)
        }
    }
}

fn write_block(disk: &Disk, layout: &Layout, block: &BlockV07) -> Result<(), Failure> {
    let bytes = Buffer::from_bytes(&block.encode());
    let written = disk.write_at(layout.md_offset, &bytes).and_then(|()| disk.sync());
    written.map_err(|_| Failure::silent(EXIT_ERROR))
}

/// Fields in get-gi's order; an empty or missing one keeps its value, more are ignored.
fn set(call: &Call) -> Result<u8, Failure> {
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

/// New meta data of v07, for a disk that goes back to such a host. Never over others: what 8.3.16 makes of v08 is broken,
/// as it says itself.
fn create(call: &Call) -> Result<u8, Failure> {
    let disk = Disk::open(call)?;
    let layout = layout(call, &disk)?;
    existing_data::check(call, &disk, &layout)?;
    let places = [layout.md_offset, disk.expected.md_offset];
    for offset in places {
        let bytes = read_block(&disk, offset).map_err(|_| Failure::silent(EXIT_ERROR))?;
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
    say!("Writing meta data...\ninitializing activity log");
    image::empty_activity_log(&disk, &layout).map_err(io_failure)?;
    say_err!("NOT initialized bitmap");
    write_block(&disk, &layout, &BlockV07::just_created(&layout))?;
    say!("New drbd meta data block successfully created.");
    Ok(0)
}
