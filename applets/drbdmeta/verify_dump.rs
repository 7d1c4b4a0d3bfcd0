//! `verify-dump`: reads a dump without restoring it.

use std::fs::File;
use std::io::BufReader;

use super::call::{Call, Failure};
use super::ui::say;
use super::{EXIT_ERROR, EXIT_USAGE};
use drbdbox::meta::dump_parser::{parse_v08, Dump};

/// Runs the command. The device is not looked at.
pub fn run(call: &Call) -> Result<u8, Failure> {
    Source::open(call)?.read()?;
    say!("input file parsed ok");
    Ok(0)
}

/// Where a dump comes from.
pub enum Source {
    /// The file of the command line.
    File(File),
    /// Standard input.
    Stdin,
}

impl Source {
    /// Opens the argument's file; without one it is stdin.
    pub fn open(call: &Call) -> Result<Source, Failure> {
        match call.argument.as_deref() {
            None => Ok(Source::Stdin),
            Some(path) => File::open(path)
                .map(Source::File)
                .map_err(|_| Failure::new(EXIT_USAGE, format!("open of '{path}' failed."))),
        }
    }

    /// Reads all of it.
    pub fn read(self) -> Result<Dump, Failure> {
        match self {
            Source::File(file) => parse_v08(BufReader::with_capacity(1 << 16, file)),
            // The same buffer as the questions': nothing is lost in between.
            Source::Stdin => parse_v08(std::io::stdin().lock()),
        }
        .map_err(|error| Failure::new(EXIT_ERROR, error.to_string()))
    }
}
