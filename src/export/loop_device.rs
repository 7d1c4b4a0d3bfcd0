//! Loop devices: numbers that nobody else uses, binding, clearing (spec/system.md 6.4, 7.1, 7.5).
//!
//! Several daemons may run on one kernel (mount name spaces), and others use loop devices too. Hence:
//!
//! - a number is taken by adding a new loop device, which the kernel does for one caller only;
//! - a device that a node points to is always bound, because an unbound one may be handed to anyone by `losetup -f`;
//! - the name of the bound file says who bound it.

use std::fs::{self, File};
use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::addr_of;

use nix::errno::Errno;
use nix::sys::stat::SFlag;

use super::door::DeviceNumber;
use super::kernel_device::{ioctl, open_node, KernelDevice};

const LOOP_SET_FD: u32 = 0x4c00;
const LOOP_CLR_FD: u32 = 0x4c01;
const LOOP_SET_STATUS64: u32 = 0x4c04;
const LOOP_GET_STATUS64: u32 = 0x4c05;
const LOOP_SET_CAPACITY: u32 = 0x4c07;
const LOOP_SET_DIRECT_IO: u32 = 0x4c08;
const LOOP_CONFIGURE: u32 = 0x4c0a;
const LOOP_CTL_ADD: u32 = 0x4c80;
const LOOP_CTL_REMOVE: u32 = 0x4c81;

const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

const LOOP_MAJOR: u32 = 7;
const CONTROL: DeviceNumber = DeviceNumber { major: 10, minor: 237 };
/// The first number tried: above those that `losetup -f` makes on a host with some loop devices.
const FIRST_NUMBER: u32 = 1000;
/// How many numbers are tried before giving up.
const NUMBERS: u32 = 100_000;

/// struct loop_info64.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// struct loop_config.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Info>() == 232 && size_of::<Config>() == 304);

/// A loop device by its number in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopDevice {
    /// N in loopN.
    pub number: u32,
    /// Its device number.
    pub device: DeviceNumber,
}

impl LoopDevice {
    /// The existing device `loop<number>`.
    pub fn existing(number: u32) -> Option<LoopDevice> {
        let unseen = DeviceNumber { major: LOOP_MAJOR, minor: number };
        let found = KernelDevice::find(format!("loop{number}"), unseen)?;
        Some(LoopDevice { number, device: found.number })
    }

    /// As any block device.
    pub fn kernel(self) -> KernelDevice {
        KernelDevice { name: format!("loop{}", self.number), number: self.device }
    }

    /// Makes a loop device that did not exist. It is unbound: anyone may bind it before the caller does, who then sees
    /// EBUSY and must take another.
    ///
    /// # Errors
    /// No loop driver, no privilege, or no number left.
    pub fn add(scratch: &Path) -> io::Result<LoopDevice> {
        let control = open_control(scratch)?;
        for number in FIRST_NUMBER..FIRST_NUMBER + NUMBERS {
            match ioctl(&control, LOOP_CTL_ADD, number as usize) {
                Ok(_) => {
                    return LoopDevice::existing(number)
                        .ok_or_else(|| io::Error::other(format!("loop{number} has no entry in /sys/block")))
                }
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Errno::ENOSPC.into())
    }

    /// Removes the device from the kernel.
    ///
    /// # Errors
    /// EBUSY: bound or open somewhere.
    pub fn remove(self, scratch: &Path) -> io::Result<()> {
        let control = open_control(scratch)?;
        match ioctl(&control, LOOP_CTL_REMOVE, self.number as usize) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Binds `file`, for direct I/O: without a second page cache. It is read-only if the file was opened so.
    ///
    /// `name` is put into the device's status (its first 63 bytes).
    ///
    /// # Errors
    /// EBUSY: it is bound or claimed already.
    pub fn bind(self, file: &File, name: &str, scratch: &Path) -> io::Result<()> {
        let device = self.kernel().open(true, 0, scratch)?;
        let mut info = empty_info();
        info.flags = LO_FLAGS_DIRECT_IO;
        let len = name.len().min(info.file_name.len() - 1);
        info.file_name[..len].copy_from_slice(&name.as_bytes()[..len]);
        let config = Config { fd: file.as_raw_fd() as u32, block_size: 0, info, reserved: [0; 8] };
        match ioctl(&device, LOOP_CONFIGURE, addr_of!(config) as usize) {
            // Linux before 5.8 does it in steps; before 4.10 without direct I/O.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTTY)) => {
                ioctl(&device, LOOP_SET_FD, file.as_raw_fd() as usize)?;
                info.flags = 0;
                if let Err(error) = ioctl(&device, LOOP_SET_STATUS64, addr_of!(info) as usize) {
                    let _ = ioctl(&device, LOOP_CLR_FD, 0);
                    return Err(error);
                }
                let _ = ioctl(&device, LOOP_SET_DIRECT_IO, 1);
                Ok(())
            }
            result => result.map(drop),
        }
    }

    /// Name of the file that is bound to it, without directories; `None` if it is unbound or gone. Neither the device nor
    /// the file is touched: the file's server may be dead.
    pub fn bound_file(self) -> Option<String> {
        let path = fs::read_to_string(format!("/sys/block/loop{}/loop/backing_file", self.number)).ok()?;
        Some(path.trim_end().rsplit('/').next().unwrap_or_default().to_owned())
    }

    /// Unbinds it if `device`, an open file of it, is the only one. `false`: others have it open, maybe in the kernel,
    /// where no list of processes shows it; it stays bound.
    ///
    /// # Errors
    /// The system's; it is bound still.
    pub fn clear_if_unused(device: &File) -> io::Result<bool> {
        match ioctl(device, LOOP_CLR_FD, 0) {
            // Linux before 3.7.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => return Ok(false),
            result => result?,
        };
        // With other users the kernel says yes, and unbinds it at the last close. That must be taken back.
        let mut info = empty_info();
        match ioctl(device, LOOP_GET_STATUS64, std::ptr::addr_of_mut!(info) as usize) {
            Ok(_) => {
                info.flags &= !LO_FLAGS_AUTOCLEAR;
                ioctl(device, LOOP_SET_STATUS64, addr_of!(info) as usize)?;
                Ok(false)
            }
            Err(_) => Ok(true),
        }
    }

    /// Unbinds it when `device`, an open file of it, and all others that have it open are closed.
    ///
    /// # Errors
    /// The system's; it is bound still. ENXIO: it was not bound.
    pub fn clear(device: &File) -> io::Result<()> {
        ioctl(device, LOOP_CLR_FD, 0).map(drop)
    }

    /// Makes the kernel read the size of the bound file again.
    ///
    /// # Errors
    /// The system's.
    pub fn update_size(self, scratch: &Path) -> io::Result<()> {
        let device = self.kernel().open(false, 0, scratch)?;
        ioctl(&device, LOOP_SET_CAPACITY, 0).map(drop)
    }
}

fn empty_info() -> Info {
    // SAFETY: all zeroes is a valid value: integers and arrays of them.
    #[allow(unsafe_code)]
    unsafe {
        std::mem::zeroed()
    }
}

fn open_control(scratch: &Path) -> io::Result<File> {
    open_node(Path::new("/dev/loop-control"), SFlag::S_IFCHR, CONTROL, true, 0, scratch)
}
