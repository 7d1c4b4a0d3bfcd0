//! `show-gi`: UUIDs and flags explained.

use super::call::{Call, Failure};
use super::disk::Disk;
use super::find;
use super::json::{self, MetaJson};
use super::ui::say;
use drbdbox::core::log_lines::pretty_kib;
use drbdbox::meta::MetaFlags;
use drbdbox::status::gi;

/// Runs the command.
pub fn run(call: &Call) -> Result<u8, Failure> {
    let disk = Disk::open(call)?;
    let found = find::in_place(call, &disk)?;
    if call.options.json {
        json::print(&MetaJson::new(&found.super_block, &found.layout));
        return Ok(0);
    }
    let super_block = found.super_block;
    let picture = gi::show_gi(super_block.uuids, super_block.flags.0);
    say!("{}", picture.trim_end_matches('\n'));
    if super_block.flags.contains(MetaFlags::AL_CLEAN) {
        say!("meta-data: clean");
    }
    match super_block.effective_size_sectors {
        0 => say!("zero size device -- never seen peer yet?"),
        sectors => say!("last agreed size: {}", pretty_kib(sectors / 2)),
    }
    Ok(0)
}
