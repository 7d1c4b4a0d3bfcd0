//! `get-gi`: UUIDs and flags in one line.

use super::call::{Call, Failure};
use super::disk::Disk;
use super::find;
use drbdbox::meta::SuperBlock;
use drbdbox::status::gi;

/// Runs the command.
pub fn run(call: &Call) -> Result<u8, Failure> {
    let disk = Disk::open(call)?;
    let found = find::in_place(call, &disk)?;
    super::say!("{}", line(&found.super_block));
    Ok(0)
}

/// The line without its newline.
pub fn line(super_block: &SuperBlock) -> String {
    gi::get_gi(super_block.uuids, super_block.flags.0).trim_end().to_string()
}
