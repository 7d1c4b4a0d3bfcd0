//! How the kernel is told of a device: what it can be told depends on its age.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{ioctl, netlink};
use crate::export::kernel_device::KernelDevice;

/// Sector size of the device: what every DRBD size is a multiple of.
pub const BLOCK_BYTES: u64 = 512;

/// What the kernel is told about a device.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// nbdN is preferred for N.
    pub number: u32,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Flags of the transmission.
    pub flags: u16,
    /// Where nodes may be made.
    pub scratch: std::path::PathBuf,
    /// A name for the device that tells its owner.
    pub identifier: String,
    /// A successor of this daemon may go on with it.
    pub outlives: bool,
}

/// A device that a daemon left when it died: the kernel still has it in service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// N in nbdN.
    pub index: u32,
    /// What the daemon called it.
    pub identifier: String,
}

impl Orphan {
    /// Whether it is there, and still that one.
    pub fn is_there(&self) -> bool {
        let path = format!("/sys/block/nbd{}/backend", self.index);
        fs::read_to_string(path).is_ok_and(|text| text.trim_end() == self.identifier)
    }

    /// Its size in bytes.
    pub fn size_bytes(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/sys/block/nbd{}/size", self.index)).ok()?;
        text.trim_end().parse().ok().map(|sectors: u64| sectors * BLOCK_BYTES)
    }

    /// Takes it out of service: what waits for it fails now.
    pub fn let_go(&self) {
        if !self.is_there() {
            return;
        }
        log::info!("disconnecting nbd{} of a daemon that died", self.index);
        if let Err(error) = netlink::disconnect_index(self.index) {
            log::warn!("disconnect nbd{}: {error}", self.index);
        }
    }
}

/// A device that the kernel has taken, or is about to take, into service.
pub trait Link: Send {
    /// Whether the kernel knows flags: it sends flushes.
    fn has_flags(&self) -> bool;

    /// Gives the kernel its end of the socket pair: requests come from now on. The device, and N in its name nbdN.
    ///
    /// # Errors
    /// The kernel's; the device is free again.
    fn connect(&mut self, socket: OwnedFd, device_name: &str) -> io::Result<(u32, KernelDevice)>;

    /// Takes the device out of service. Whatever is under way fails.
    fn disconnect(&mut self);

    /// Tells the kernel the device's new size.
    ///
    /// # Errors
    /// The kernel's.
    fn resize(&mut self, size_bytes: u64) -> io::Result<()>;
}

/// The device of a dead daemon, for [`Link::connect`] to go on with.
///
/// # Errors
/// It is not there, or not of this size.
pub fn adopt(wanted: Wanted, orphan: &Orphan) -> io::Result<Box<dyn Link>> {
    if !orphan.is_there() || orphan.size_bytes() != Some(wanted.size_bytes) {
        return Err(io::Error::other(format!("nbd{} is gone, or of another size", orphan.index)));
    }
    Ok(Box::new(netlink::Netlink::adopt(wanted, orphan.index)?))
}

/// The best way that this kernel has; netlink only if it is wanted.
///
/// # Errors
/// It has none, or no free device.
pub fn open(wanted: Wanted, netlink: bool) -> io::Result<Box<dyn Link>> {
    match netlink.then(|| netlink::Netlink::open(&wanted)) {
        Some(Ok(link)) => return Ok(Box::new(link)),
        Some(Err(error)) => {
            // The kernel's nbd has no such family, or the kernel no generic netlink at all.
            let without = [libc::ENOENT, libc::EPROTONOSUPPORT, libc::EAFNOSUPPORT];
            if !error.raw_os_error().is_some_and(|code| without.contains(&code)) {
                return Err(error);
            }
        }
        None => {}
    }
    Ok(Box::new(ioctl::Ioctl::open(wanted)?))
}

/// Whether this kernel has the driver; loads its module if there is one.
pub fn is_available() -> bool {
    let is_there = || Path::new("/sys/block/nbd0").exists() || netlink::is_there();
    if is_there() {
        return true;
    }
    // Without partitions: DRBD's devices have none. Kernels that do not know a parameter refuse the module.
    for parameters in [&["nbds_max=16", "max_part=0"][..], &[]] {
        let loaded = Command::new("modprobe")
            .arg("nbd")
            .args(parameters)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if loaded.is_ok_and(|status| status.success()) && is_there() {
            return true;
        }
    }
    false
}
