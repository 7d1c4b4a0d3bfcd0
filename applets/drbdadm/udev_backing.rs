//! `drbdadm sh-udev-backing DEVICE`: whose device of the kernel this is, for udev's rules (spec/system.md 4.4).

use drbdbox::export::predecessor;
use drbdbox::sys::paths;

use super::session::{Exit, Options, EXIT_USAGE};
use super::Called;

/// Not a device of ours.
const EXIT_OTHERS: u8 = 1;

/// Prints `DRBD_DEVICE=drbdN` if the device, such as "loop7", is behind that one. Needs neither daemon nor configuration.
pub fn run(called: &Called, options: &Options) -> Result<u8, Exit> {
    let [device] = options.names.as_slice() else {
        super::exec::complain(&format!("USAGE: {} sh-udev-backing DEVICE\n", called.program));
        return Err(Exit(EXIT_USAGE));
    };
    let device = device.strip_prefix("/dev/").unwrap_or(device);
    Ok(match predecessor::minor_of(&paths::rundir(), device) {
        Some(minor) => {
            super::print(&format!("DRBD_DEVICE=drbd{minor}\n"));
            0
        }
        None => EXIT_OTHERS,
    })
}
