//! A block device that a kernel driver made for a door: opening it, finding its users, keeping new ones out
//! (spec/system.md 7.4).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::stat::{mknod, Mode, SFlag};

use super::door::{DeviceNumber, DoorError, Holder};
use super::holders;

const BLKFLSBUF: u32 = 0x1261;

/// How often a device that is in use is looked at again, for the sake of short-lived probers (udev, blkid).
pub(super) const CLAIM_ATTEMPTS: u32 = 10;
pub(super) const CLAIM_PAUSE: Duration = Duration::from_millis(100);

/// A block device by its name in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelDevice {
    /// As under /sys/block: "loop1000", "nbd3".
    pub name: String,
    /// Its device number.
    pub number: DeviceNumber,
}

impl KernelDevice {
    /// The device of this name; `None` if the kernel has none. Where /sys is missing it is taken for `unseen`.
    pub fn find(name: String, unseen: DeviceNumber) -> Option<KernelDevice> {
        let number = match fs::read_to_string(format!("/sys/block/{name}/dev")) {
            Ok(text) => parse_number(&text)?,
            Err(_) if Path::new("/sys/block").exists() => return None,
            Err(_) => unseen,
        };
        Some(KernelDevice { name, number })
    }

    /// Opens the device with these flags (`O_EXCL` claims it). `scratch` is a directory for device nodes, where one is
    /// made for the moment if the usual one in /dev is missing.
    ///
    /// # Errors
    /// The system's; EBUSY with `O_EXCL` if it is claimed by someone.
    pub fn open(&self, write: bool, flags: i32, scratch: &Path) -> io::Result<File> {
        let usual = PathBuf::from(format!("/dev/{}", self.name));
        open_node(&usual, SFlag::S_IFBLK, self.number, write, flags, scratch)
    }

    /// Opens the device so that nobody else can claim it, if nobody uses it. Short-lived probers are waited for.
    ///
    /// # Errors
    /// [`DoorError::HeldOpen`] with those who use it; [`DoorError::System`].
    pub fn claim(&self, scratch: &Path) -> Result<File, DoorError> {
        let mut found = Vec::new();
        for attempt in 0..CLAIM_ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(CLAIM_PAUSE);
            }
            match self.open(false, libc::O_EXCL, scratch) {
                Ok(claim) => {
                    found = holders::processes(self.number);
                    found.extend(self.upper_devices());
                    if found.is_empty() {
                        return Ok(claim);
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    found = self.holders();
                    let lasting = |holder: &Holder| !matches!(holder, Holder::Process { .. });
                    if found.iter().any(lasting) {
                        break;
                    }
                    found.push(Holder::Claimed);
                }
                Err(error) => return Err(DoorError::system(format!("open {}", self.name), error)),
            }
        }
        Err(DoorError::HeldOpen(found))
    }

    /// Processes that have opened a device that can no longer be opened, after a while for probers.
    pub fn late_users(&self) -> Vec<Holder> {
        let mut late = holders::processes(self.number);
        for _ in 1..CLAIM_ATTEMPTS {
            if late.is_empty() {
                break;
            }
            std::thread::sleep(CLAIM_PAUSE);
            late = holders::processes(self.number);
        }
        late
    }

    /// Everyone who uses the device.
    pub fn holders(&self) -> Vec<Holder> {
        let mut found = holders::find(self.number);
        found.extend(self.upper_devices());
        found
    }

    /// Sets a limit of the device's request queue, where the kernel lets us.
    pub fn set_queue_limit(&self, limit: &str, value: u64) {
        let path = format!("/sys/block/{}/queue/{limit}", self.name);
        if let Err(error) = fs::write(&path, value.to_string()) {
            log::debug!("{path}: {error}");
        }
    }

    /// Other block devices that sit on this one: those that claim it, and loop devices.
    pub fn upper_devices(&self) -> Vec<Holder> {
        let mut names = self.loops_above();
        if let Ok(entries) = fs::read_dir(format!("/sys/block/{}/holders", self.name)) {
            names.extend(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()));
        }
        names.into_iter().map(|name| Holder::Device { name }).collect()
    }

    /// Loop devices bound to this one. They open it without a claim and without a process that could be found.
    fn loops_above(&self) -> Vec<String> {
        let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
        let is_above = |entry: &fs::DirEntry| {
            let path = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
            // Only device nodes: other files may lie on file systems that do not answer.
            path.starts_with("/dev/")
                && fs::metadata(path.trim_end())
                    .is_ok_and(|found| is_device(&found, SFlag::S_IFBLK, self.number))
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
fn parse_number(text: &str) -> Option<DeviceNumber> {
    let (major, minor) = text.trim().split_once(':')?;
    Some(DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? })
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

/// An ioctl whose argument is an integer or the address of the structure that it takes.
pub(super) fn ioctl(file: &File, request: u32, argument: usize) -> io::Result<i32> {
    // SAFETY: the callers pass an integer, or the address of the structure that the request takes.
    #[allow(unsafe_code)]
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request as _, argument) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
