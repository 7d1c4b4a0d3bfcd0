//! `dump-md`: all of the meta data as text (spec/metadata.md 10.1).

use std::io::{BufWriter, Write};

use super::call::{Call, Failure};
use super::disk::{io_failure, Disk};
use super::find::{self, Search};
use super::progress::Progress;
use super::ui::say_err;
use super::{EXIT_ERROR, EXIT_NO_META_DATA};
use drbdbox::meta::activity_log::write_log_text;
use drbdbox::meta::damage::examine;
use drbdbox::meta::dump::{write_dump, DumpError, Relocated, Remarks};
use drbdbox::meta::image;
use drbdbox::meta::super_block::Cleanness;
use drbdbox::meta::survey::read_block;
use drbdbox::meta::{Layout, SuperBlock};
use drbdbox::sys::local_time;

/// From this many `-v` on the activity log is part of the dump.
const VERBOSE_LOG: u32 = 10;

/// Runs the command.
pub fn run(call: &Call) -> Result<u8, Failure> {
    let disk = Disk::open(call)?;
    let (found, last_known) = match find::search(call, &disk)? {
        Search::InPlace(found) => (found, None),
        Search::LastKnownPlace(found, record) => (found, Some(record)),
        Search::Nothing => return dump_damaged(call, &disk),
    };
    // Internal was cut to the device when it was found.
    let is_internal = call.index.is_internal();
    if !is_internal && found.super_block.effective_size_sectors > found.layout.usable_sectors(u64::MAX) {
        return dump_damaged(call, &disk);
    }
    if found.super_block.cleanness == Cleanness::Unclean {
        // The bitmap lacks what is still in the activity log.
        say_err!("Found meta data is \"unclean\", please apply-al first");
    }
    let relocated = last_known.as_ref().map(|record| Relocated {
        device: &call.device,
        expected: disk.expected,
        last_known_path: record.path.as_deref(),
    });
    let remarks = Remarks { relocated, complaints: &[] };
    dump(call, &disk, &found.super_block, &found.layout, &remarks)
}

/// What can be read of a super block that no command takes. 8.3.16 prints nothing.
fn dump_damaged(call: &Call, disk: &Disk) -> Result<u8, Failure> {
    let block = read_block(disk, disk.expected.md_offset).map_err(|_| Failure::silent(EXIT_ERROR))?;
    let Some(damaged) = examine(&block, &disk.expected).filter(|found| !found.complaints.is_empty()) else {
        return Err(Failure::silent(EXIT_NO_META_DATA));
    };
    say_err!(
        "The super block at byte {} of {} is damaged.\n\
         The dump shows what can be read of it; it is marked as not to be trusted.",
        damaged.layout.md_offset,
        call.device
    );
    let mut super_block = damaged.super_block.clone();
    super_block.effective_size_sectors = damaged.plausible_sectors();
    let remarks = Remarks { relocated: None, complaints: &damaged.complaints };
    dump(call, disk, &super_block, &damaged.layout, &remarks)?;
    Ok(EXIT_NO_META_DATA)
}

fn dump(
    call: &Call,
    disk: &Disk,
    super_block: &SuperBlock,
    layout: &Layout,
    remarks: &Remarks,
) -> Result<u8, Failure> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut progress = Progress::beside_stdout("reading the bitmap");
    let mut write = || -> Result<u64, DumpError> {
        write_header(&mut out, call)?;
        let unreadable = write_dump(&mut out, disk, super_block, layout, remarks, &mut |done, total| {
            progress.show(done, total);
        })?;
        if call.is_verbose(VERBOSE_LOG) {
            let area = image::read_activity_log(disk, layout)?;
            write_log_text(&mut out, &area, super_block, layout.log)?;
        }
        out.flush()?;
        Ok(unreadable)
    };
    outcome(write())
}

/// The lines in front of `version`.
pub fn write_header(out: &mut dyn Write, call: &Call) -> std::io::Result<()> {
    let host = nix::sys::utsname::uname().map_err(std::io::Error::from)?;
    writeln!(
        out,
        "# DRBD meta data dump\n# {}\n# {}> {} {}\n#\n",
        local_time::now_with_zone(),
        host.nodename().to_string_lossy(),
        call.program,
        call.command_line
    )
}

/// Exit status and message for a dump that was written with that many unreadable pages.
pub fn outcome(written: Result<u64, DumpError>) -> Result<u8, Failure> {
    match written {
        Ok(0) => Ok(0),
        Ok(pages) => Err(Failure::new(
            EXIT_ERROR,
            format!("{pages} pages of the bitmap cannot be read; in the dump they are out of sync."),
        )),
        Err(DumpError::Meta(error)) => Err(io_failure(error)),
        Err(DumpError::Output(error)) => {
            Err(Failure::new(EXIT_ERROR, format!("cannot write the dump: {error}; it is not complete")))
        }
    }
}
