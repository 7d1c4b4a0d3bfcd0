//! `read-dev-uuid` and `write-dev-uuid`: the identity of the device, which `drbdadm create-md` keeps.

use super::call::{Call, Failure};
use super::disk::Disk;
use super::{find, EXIT_ERROR};

/// Prints it.
pub fn read(call: &Call) -> Result<u8, Failure> {
    let disk = Disk::open(call)?;
    let found = find::in_place(call, &disk)?;
    super::say!("{:016X}", found.super_block.device_uuid);
    Ok(0)
}

/// Sets it.
pub fn write(call: &Call) -> Result<u8, Failure> {
    let text =
        call.argument.as_deref().ok_or_else(|| Failure::new(EXIT_ERROR, "Required Argument missing"))?;
    let disk = Disk::open(call)?;
    let mut found = find::in_place(call, &disk)?;
    found.super_block.device_uuid = u64::from_str_radix(text.trim_start_matches("0x"), 16)
        .map_err(|_| Failure::new(EXIT_ERROR, format!("'{text}' is not a number.")))?;
    disk.write_super_block(&found.layout, &found.super_block)?;
    Ok(0)
}
