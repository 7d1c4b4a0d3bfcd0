//! What a door that is a block device has before there is a device: the minor's node, which leads nowhere, the record of the
//! device to come, and a mark that tells this door's device from all others.

use std::fs;
use std::path::Path;

use super::door::{hint, DeviceNumber, DoorError};
use super::node::Node;
use super::predecessor::Record;

/// The place of a door.
#[derive(Debug)]
pub struct Place {
    /// /dev/drbdN.
    pub node: Node,
    /// Which device is in use.
    pub record: Record,
    /// That of the node and a random number: "drbd0-0123456789abcdef".
    pub mark: String,
}

impl Place {
    /// Takes the place of a minor: its node is made, or leads nowhere from now on, though a predecessor that died left it
    /// leading to its device. `module`: the kernel's that the door needs, for the advice in an error.
    ///
    /// # Errors
    /// [`DoorError::System`]: the real driver serves this minor; the node cannot be made.
    pub fn take(
        minor: u32,
        device_directory: &Path,
        run_directory: &Path,
        module: &str,
    ) -> Result<Place, DoorError> {
        let node = Node::new(device_directory, minor);
        if node.is_of_real_driver() {
            let step = format!("{} or its minor belongs to the kernel's DRBD driver", node.path().display());
            return Err(DoorError::system(step, nix::errno::Errno::EBUSY));
        }
        let unique =
            crate::sys::random::number().map_err(|error| DoorError::system("get a random number", error))?;
        let record = Record::new(run_directory, minor)?;
        let place = Place { node, record, mark: format!("drbd{minor}-{unique:016x}") };
        match place.node.lead_nowhere() {
            Ok(()) => Ok(place),
            Err(error) => {
                let step = format!("make {}{}", place.node.path().display(), hint(&error, module));
                Err(DoorError::system(step, error))
            }
        }
    }

    /// The node leads to the device.
    ///
    /// # Errors
    /// [`DoorError::System`].
    pub fn open(&self, device: DeviceNumber) -> Result<(), DoorError> {
        self.node.lead_to(device).map_err(|error| self.failed(error))?;
        tell_udev(device);
        Ok(())
    }

    /// The node leads nowhere.
    ///
    /// # Errors
    /// [`DoorError::System`].
    pub fn close(&self) -> Result<(), DoorError> {
        self.node.lead_nowhere().map_err(|error| self.failed(error))
    }

    /// An error that keeps the node from its device.
    pub fn failed(&self, error: std::io::Error) -> DoorError {
        DoorError::system(format!("make {}", self.node.path().display()), error)
    }
}

/// Lets udev look at the device again, now that it can be told whose it is (`drbdadm sh-udev-backing`). A kernel without
/// this file (before Linux 2.6.27) has no udev that would ask.
fn tell_udev(device: DeviceNumber) {
    let path = format!("/sys/dev/block/{device}/uevent");
    if let Err(error) = fs::write(&path, "change") {
        log::debug!("{path}: {error}");
    }
}
