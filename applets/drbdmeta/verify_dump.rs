//! `verify-dump`: reads a dump without restoring it.

use super::call::{Call, Failure};
use super::dump_source::Source;
use super::ui::say;

/// Runs the command, for every format. The device is not looked at.
pub fn run(call: &Call) -> Result<u8, Failure> {
    Source::open(call)?.verify(call.format)?;
    say!("input file parsed ok");
    Ok(0)
}
