//! Loop devices: numbers that nobody else uses, binding, clearing (spec/system.md 6.4, 7.1, 7.5).
//!
//! Several daemons may run on one kernel (mount name spaces), and others use loop devices too. Hence:
//!
//! - a number is taken by adding a new loop device, which the kernel does for one caller only;
//! - a device that a node points to is always bound, because an unbound one may be handed to anyone by `losetup -f`;
//! - the name of the bound file says who bound it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr::addr_of;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::sys::stat::{mknod, Mode, SFlag};

use super::door::DeviceNumber;

const LOOP_SET_FD: u32 = 0x4c00;
const LOOP_CLR_FD: u32 = 0x4c01;
const LOOP_SET_STATUS64: u32 = 0x4c04;
const LOOP_GET_STATUS64: u32 = 0x4c05;
const LOOP_SET_CAPACITY: u32 = 0x4c07;
const LOOP_SET_DIRECT_IO: u32 = 0x4c08;
const LOOP_CONFIGURE: u32 = 0x4c0a;
const LOOP_CTL_ADD: u32 = 0x4c80;
const LOOP_CTL_REMOVE: u32 = 0x4c81;

const BLKFLSBUF: u32 = 0x1261;

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
        let device = match fs::read_to_string(format!("/sys/block/loop{number}/dev")) {
            Ok(text) => parse_device(&text)?,
            Err(_) if Path::new("/sys/block").exists() => return None,
            Err(_) => DeviceNumber { major: LOOP_MAJOR, minor: number },
        };
        Some(LoopDevice { number, device })
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

    /// Opens the device with these flags (`O_EXCL` claims it). `scratch` is a directory for device nodes, where one is
    /// made for the moment if /dev/loopN is missing.
    ///
    /// # Errors
    /// The system's; EBUSY with `O_EXCL` if it is claimed by someone.
    pub fn open(self, write: bool, flags: i32, scratch: &Path) -> io::Result<File> {
        let usual = PathBuf::from(format!("/dev/loop{}", self.number));
        open_node(&usual, SFlag::S_IFBLK, self.device, write, flags, scratch)
    }

    /// Binds `file`, for direct I/O: without a second page cache. It is read-only if the file was opened so.
    ///
    /// `name` is put into the device's status (its first 63 bytes).
    ///
    /// # Errors
    /// EBUSY: it is bound or claimed already.
    pub fn bind(self, file: &File, name: &str, scratch: &Path) -> io::Result<()> {
        let device = self.open(true, 0, scratch)?;
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
        let device = self.open(false, 0, scratch)?;
        ioctl(&device, LOOP_SET_CAPACITY, 0).map(drop)
    }

    /// Sets a limit of the device's request queue, where the kernel lets us.
    pub fn set_queue_limit(self, limit: &str, value: u64) {
        let path = format!("/sys/block/loop{}/queue/{limit}", self.number);
        if let Err(error) = fs::write(&path, value.to_string()) {
            log::debug!("{path}: {error}");
        }
    }

    /// Other block devices that sit on this one, by their kernel names: those that claim it, and loop devices.
    pub fn upper_devices(self) -> Vec<String> {
        let mut names = self.loops_above();
        if let Ok(entries) = fs::read_dir(format!("/sys/block/loop{}/holders", self.number)) {
            names.extend(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()));
        }
        names
    }

    /// Loop devices bound to this one. They open it without a claim and without a process that could be found.
    fn loops_above(self) -> Vec<String> {
        let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
        let is_above = |entry: &fs::DirEntry| {
            let path = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
            // Only device nodes: other files may lie on file systems that do not answer.
            path.starts_with("/dev/")
                && fs::metadata(path.trim_end())
                    .is_ok_and(|found| is_device(&found, SFlag::S_IFBLK, self.device))
        };
        entries.filter(is_above).filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

/// Makes everything durable that was written through the device, and drops its page cache.
///
/// # Errors
/// The system's, or EIO if something could not be written.
pub fn flush(device: &File) -> io::Result<()> {
    device.sync_all()?;
    ioctl(device, BLKFLSBUF, 0).map(drop)
}

/// "7:1000\n".
fn parse_device(text: &str) -> Option<DeviceNumber> {
    let (major, minor) = text.trim().split_once(':')?;
    Some(DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? })
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

/// Opens the device `number`: by its usual name if that leads to it, else by a node that exists for this moment only.
/// (A private /dev has none of the nodes that the kernel makes in devtmpfs.)
pub(super) fn open_node(
    usual: &Path,
    kind: SFlag,
    number: DeviceNumber,
    write: bool,
    flags: i32,
    scratch: &Path,
) -> io::Result<File> {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let open = |path: &Path| {
        OpenOptions::new().read(true).write(write).custom_flags(flags | libc::O_NONBLOCK).open(path)
    };
    if fs::metadata(usual).is_ok_and(|found| is_device(&found, kind, number)) {
        return open(usual);
    }
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let unique = crate::sys::random::number()? ^ u64::from(serial);
    let path = scratch.join(format!(".drbdbox-{}-{unique:016x}", std::process::id()));
    mknod(&path, kind, Mode::S_IRUSR | Mode::S_IWUSR, number.raw())?;
    let result = open(&path);
    let _ = fs::remove_file(&path);
    result
}

/// Whether a file is the device node `number`.
pub(super) fn is_device(found: &fs::Metadata, kind: SFlag, number: DeviceNumber) -> bool {
    let right_kind = match kind {
        SFlag::S_IFBLK => found.file_type().is_block_device(),
        _ => found.file_type().is_char_device(),
    };
    right_kind && found.rdev() == number.raw()
}

fn ioctl(file: &File, request: u32, argument: usize) -> io::Result<i32> {
    // SAFETY: the callers pass an integer, or the address of the structure that the request takes.
    #[allow(unsafe_code)]
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request as _, argument) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
