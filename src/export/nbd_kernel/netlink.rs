//! NBD devices by netlink. spec/system.md 7.2.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;

use super::link::{Link, Wanted, BLOCK_BYTES};
use crate::export::door::DeviceNumber;
use crate::export::kernel_device::KernelDevice;
use crate::sys::netlink::{Attributes, Family};

/// Commands of the family.
mod command {
    pub const CONNECT: u8 = 1;
    pub const DISCONNECT: u8 = 2;
    pub const RECONFIGURE: u8 = 3;
}

/// Attributes of the family.
mod attribute {
    pub const INDEX: u16 = 1;
    pub const SIZE_BYTES: u16 = 2;
    pub const BLOCK_SIZE_BYTES: u16 = 3;
    pub const TIMEOUT: u16 = 4;
    pub const SERVER_FLAGS: u16 = 5;
    pub const SOCKETS: u16 = 7;
    pub const DEAD_CONN_TIMEOUT: u16 = 8;
    pub const BACKEND_IDENTIFIER: u16 = 10;
    /// In [`SOCKETS`], and in that.
    pub const SOCKET_ITEM: u16 = 1;
    pub const SOCKET_FD: u16 = 1;
}

/// Major number of nbd.
const NBD_MAJOR: u32 = 43;

/// A device, made or to be made.
pub struct Netlink {
    family: Family,
    wanted: Wanted,
    index: Option<u32>,
}

/// Whether the kernel has the family.
pub fn is_there() -> bool {
    Family::find("nbd").is_ok()
}

impl Netlink {
    /// # Errors
    /// ENOENT: the kernel cannot do it this way.
    pub fn open(wanted: &Wanted) -> io::Result<Netlink> {
        Ok(Netlink { family: Family::find("nbd")?, wanted: wanted.clone(), index: None })
    }

    /// `index`: `None` lets the kernel choose.
    fn try_connect(&mut self, socket: &OwnedFd, index: Option<u32>) -> io::Result<u32> {
        let item = Attributes::default().u32(attribute::SOCKET_FD, socket.as_raw_fd() as u32);
        let sockets = Attributes::default().nested(attribute::SOCKET_ITEM, &item);
        let mut attributes = Attributes::default();
        if let Some(index) = index {
            attributes = attributes.u32(attribute::INDEX, index);
        }
        // No limit for an answer: a frozen device waits as long as it takes (spec/system.md 7.7).
        let attributes = attributes
            .u64(attribute::SIZE_BYTES, self.wanted.size_bytes)
            .u64(attribute::BLOCK_SIZE_BYTES, BLOCK_BYTES)
            .u64(attribute::TIMEOUT, 0)
            .u64(attribute::DEAD_CONN_TIMEOUT, 0)
            .u64(attribute::SERVER_FLAGS, u64::from(self.wanted.flags))
            .text(attribute::BACKEND_IDENTIFIER, &self.wanted.identifier)
            .nested(attribute::SOCKETS, &sockets);
        let answer = self.family.request(command::CONNECT, &attributes)?;
        answer.u32(attribute::INDEX).or(index).ok_or_else(|| Errno::EPROTO.into())
    }
}

impl Link for Netlink {
    fn has_flags(&self) -> bool {
        true
    }

    fn connect(&mut self, socket: OwnedFd, _device_name: &str) -> io::Result<(u32, KernelDevice)> {
        let index = match self.try_connect(&socket, Some(self.wanted.number)) {
            // Somebody else's; or a number that this kernel cannot make.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EINVAL | libc::ENOENT)) => {
                self.try_connect(&socket, None)
            }
            result => result,
        }?;
        self.index = Some(index);
        find(index).map(|device| (index, device)).ok_or_else(|| {
            self.disconnect();
            io::Error::other(format!("nbd{index} has no entry in /sys/block"))
        })
    }

    fn disconnect(&mut self) {
        if let Some(index) = self.index.take() {
            if let Err(error) = disconnect(&mut self.family, index) {
                log::error!("disconnect nbd{index}: {error}");
            }
        }
    }

    fn resize(&mut self, size_bytes: u64) -> io::Result<()> {
        let Some(index) = self.index else { return Ok(()) };
        // A device with an identifier is changed only by those who know it.
        let attributes = Attributes::default()
            .u32(attribute::INDEX, index)
            .u64(attribute::SIZE_BYTES, size_bytes)
            .text(attribute::BACKEND_IDENTIFIER, &self.wanted.identifier);
        self.family.request(command::RECONFIGURE, &attributes).map(drop)
    }
}

/// The device nbd`index`.
pub fn find(index: u32) -> Option<KernelDevice> {
    KernelDevice::find(format!("nbd{index}"), DeviceNumber { major: NBD_MAJOR, minor: index })
}

/// Takes the device of a dead daemon out of service.
///
/// # Errors
/// The kernel's.
pub fn disconnect_index(index: u32) -> io::Result<()> {
    disconnect(&mut Family::find("nbd")?, index)
}

fn disconnect(family: &mut Family, index: u32) -> io::Result<()> {
    family.request(command::DISCONNECT, &Attributes::default().u32(attribute::INDEX, index)).map(drop)
}
