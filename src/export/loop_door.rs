//! The door fuse+loop: /dev/drbdN is a loop device on a file that this program serves by FUSE.

use std::path::PathBuf;

/// Where a [`LoopDoor`] puts what it makes.
#[derive(Debug, Clone)]
pub struct LoopDoorConfig {
    /// Minor of the DRBD device: the node is `drbd<minor>`.
    pub minor: u32,
    /// Directory of the node: /dev.
    pub device_directory: PathBuf,
    /// Private directory of the daemon (RUNDIR) for the record of the loop devices in use.
    pub run_directory: PathBuf,
    /// Threads that serve requests while attached; each may be blocked in [`Backend::submit`].
    ///
    /// [`Backend::submit`]: super::request::Backend::submit
    pub threads: usize,
}
