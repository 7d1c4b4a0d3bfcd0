//! NBD devices by netlink. spec/system.md 7.2.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::link::{Link, Orphan, Wanted, BLOCK_BYTES};
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

/// For so long the kernel keeps requests of a device whose daemon has died, for one that comes after it (seconds).
const DEAD_CONNECTION_SECONDS: u64 = 30;

/// As often it looks whether requests wait for an answer of a connection that is gone, to send them over the new one.
/// (It counts from the request. One that takes longer for other reasons is only mentioned in its log.)
const LOOK_MILLISECONDS: u64 = 5000;

/// How long the kernel may take to notice that a connection is gone.
const NOTICE_LIMIT: Duration = Duration::from_secs(5);

/// Major number of nbd.
const NBD_MAJOR: u32 = 43;

/// A device, made or to be made.
pub struct Netlink {
    family: Family,
    wanted: Wanted,
    /// Set from the beginning for the device of a dead daemon.
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

    /// A device that a dead daemon with the identifier of `wanted` has left.
    ///
    /// # Errors
    /// No such kernel interface.
    pub fn adopt(wanted: Wanted, index: u32) -> io::Result<Netlink> {
        Ok(Netlink { family: Family::find("nbd")?, wanted, index: Some(index) })
    }

    /// `index`: `None` lets the kernel choose.
    fn try_connect(&mut self, socket: &OwnedFd, index: Option<u32>) -> io::Result<u32> {
        let mut attributes = Attributes::default();
        if let Some(index) = index {
            attributes = attributes.u32(attribute::INDEX, index);
        }
        // No limit for an answer: a frozen device waits as long as it takes (spec/system.md 7.7). For a connection there is
        // none either, until it is known that a successor would find the device.
        let attributes = attributes
            .u64(attribute::SIZE_BYTES, self.wanted.size_bytes)
            .u64(attribute::BLOCK_SIZE_BYTES, BLOCK_BYTES)
            .u64(attribute::TIMEOUT, 0)
            .u64(attribute::DEAD_CONN_TIMEOUT, 0)
            .u64(attribute::SERVER_FLAGS, u64::from(self.wanted.flags))
            .text(attribute::BACKEND_IDENTIFIER, &self.wanted.identifier)
            .nested(attribute::SOCKETS, &list_of(socket));
        let answer = self.family.request(command::CONNECT, &attributes)?;
        answer.u32(attribute::INDEX).or(index).ok_or_else(|| Errno::EPROTO.into())
    }

    /// Changes something about the device, which has an identifier: only those who know it may.
    fn reconfigure(&mut self, index: u32, attributes: Attributes) -> io::Result<()> {
        let attributes = attributes
            .u32(attribute::INDEX, index)
            .text(attribute::BACKEND_IDENTIFIER, &self.wanted.identifier);
        self.family.request(command::RECONFIGURE, &attributes).map(drop)
    }

    /// Lets the device outlive this daemon for a while, if the kernel tells whose it is.
    fn let_outlive(&mut self, index: u32, device: &KernelDevice) {
        let orphan = Orphan { index, identifier: self.wanted.identifier.clone() };
        if !orphan.is_there() {
            return;
        }
        let limit = Attributes::default().u64(attribute::DEAD_CONN_TIMEOUT, DEAD_CONNECTION_SECONDS);
        if let Err(error) = self.reconfigure(index, limit) {
            log::warn!("nbd{index} will not outlive this daemon: {error}");
        }
        device.set_queue_limit("io_timeout", LOOK_MILLISECONDS);
    }

    /// Gives the device of a dead daemon a new connection, when the kernel has noticed that the old one is gone.
    fn connect_again(&mut self, socket: &OwnedFd, index: u32) -> io::Result<()> {
        let until = Instant::now() + NOTICE_LIMIT;
        loop {
            let sockets = Attributes::default().nested(attribute::SOCKETS, &list_of(socket));
            match self.reconfigure(index, sockets) {
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                result => return result,
            }
        }
    }
}

/// The attribute with one socket.
fn list_of(socket: &OwnedFd) -> Attributes {
    let item = Attributes::default().u32(attribute::SOCKET_FD, socket.as_raw_fd() as u32);
    Attributes::default().nested(attribute::SOCKET_ITEM, &item)
}

impl Link for Netlink {
    fn has_flags(&self) -> bool {
        true
    }

    fn connect(&mut self, socket: OwnedFd, _device_name: &str) -> io::Result<(u32, KernelDevice)> {
        if let Some(index) = self.index {
            let device = find(index).ok_or(Errno::ENODEV)?;
            self.connect_again(&socket, index)?;
            return Ok((index, device));
        }
        let index = match self.try_connect(&socket, Some(self.wanted.number)) {
            // Somebody else's; or a number that this kernel cannot make.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EINVAL | libc::ENOENT)) => {
                self.try_connect(&socket, None)
            }
            result => result,
        }?;
        self.index = Some(index);
        let Some(device) = find(index) else {
            self.disconnect();
            return Err(io::Error::other(format!("nbd{index} has no entry in /sys/block")));
        };
        if self.wanted.outlives {
            self.let_outlive(index, &device);
        }
        Ok((index, device))
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
        self.reconfigure(index, Attributes::default().u64(attribute::SIZE_BYTES, size_bytes))
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
