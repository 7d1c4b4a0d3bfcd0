//! `dump-md`: all of the meta data as text (spec/metadata.md 10.1).

use std::io::{BufWriter, Write};

use super::call::{Call, Failure};
use super::disk::{io_failure, Disk};
use super::find::{self, Search};
use super::ui::say_err;
use super::{EXIT_ERROR, EXIT_NO_META_DATA};
use drbdbox::meta::activity_log::write_log_text;
use drbdbox::meta::dump::{write_dump, DumpError, Relocated};
use drbdbox::meta::image;
use drbdbox::meta::super_block::Cleanness;
use drbdbox::sys::local_time;

/// From this many `-v` on the activity log is part of the dump.
const VERBOSE_LOG: u32 = 10;

/// Runs the command.
pub fn run(call: &Call) -> Result<u8, Failure> {
    let disk = Disk::open(call)?;
    let (found, last_known) = match find::search(call, &disk)? {
        Search::InPlace(found) => (found, None),
        Search::LastKnownPlace(found, record) => (found, Some(record)),
        Search::Nothing => return Err(Failure::silent(EXIT_NO_META_DATA)),
    };
    if found.super_block.cleanness == Cleanness::Unclean {
        // The bitmap lacks what is still in the activity log.
        say_err!("Found meta data is \"unclean\", please apply-al first");
    }
    let relocated = last_known.as_ref().map(|record| Relocated {
        device: &call.device,
        expected: disk.expected,
        last_known_path: record.path.as_deref(),
    });
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut write = || -> Result<(), DumpError> {
        let host = nix::sys::utsname::uname().map_err(std::io::Error::from)?;
        writeln!(
            out,
            "# DRBD meta data dump\n# {}\n# {}> {} {}\n#\n",
            local_time::now_with_zone(),
            host.nodename().to_string_lossy(),
            call.program,
            call.command_line
        )?;
        write_dump(&mut out, &disk, &found.super_block, &found.layout, relocated.as_ref())?;
        if call.is_verbose(VERBOSE_LOG) {
            let area = image::read_activity_log(&disk, &found.layout)?;
            write_log_text(&mut out, &area, &found.super_block, found.layout.log)?;
        }
        Ok(out.flush()?)
    };
    match write() {
        Ok(()) => Ok(0),
        Err(DumpError::Meta(error)) => Err(io_failure(error)),
        Err(DumpError::Output(error)) => {
            Err(Failure::new(EXIT_ERROR, format!("cannot write the dump: {error}; it is not complete")))
        }
    }
}
