//! Who has a block device open (spec/system.md 7.4).

use std::collections::HashSet;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::door::{DeviceNumber, Holder};
use crate::sys::mounts::unescape;

/// Everyone who uses the device: mounts in any mount name space, swap, and other processes that have it open.
pub fn find(device: DeviceNumber) -> Vec<Holder> {
    let mut holders = mounts(device);
    if is_swap(device) {
        holders.push(Holder::Swap);
    }
    holders.extend(processes(device));
    holders
}

/// Other processes that have the device open, by whatever name.
pub fn processes(device: DeviceNumber) -> Vec<Holder> {
    let own = std::process::id() as i32;
    let mut holders = Vec::new();
    for pid in pids().filter(|pid| *pid != own) {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        let open = descriptors.flatten().any(|entry| block_device(&entry.path()) == Some(device));
        if open {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            holders.push(Holder::Process { pid, name: name.trim_end().to_owned() });
        }
    }
    holders.sort();
    holders
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The number of the block device that a link in /proc/PID/fd leads to.
///
/// It must not ask file systems: one of those files may lie on a network file system that is out of order, or on the
/// FUSE file of another daemon whose I/O is frozen.
fn block_device(link: &Path) -> Option<DeviceNumber> {
    let path = CString::new(link.as_os_str().as_bytes()).ok()?;
    // SAFETY: all zeroes is a valid statx structure.
    #[allow(unsafe_code)]
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with a zero byte and the structure is large enough.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_STATX_DONT_SYNC,
            libc::STATX_TYPE,
            std::ptr::addr_of_mut!(found),
        )
    };
    if result == 0 {
        let is_block = u32::from(found.stx_mode) & libc::S_IFMT == libc::S_IFBLK;
        return is_block.then_some(DeviceNumber { major: found.stx_rdev_major, minor: found.stx_rdev_minor });
    }
    if std::io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS) {
        return None;
    }
    // Before Linux 4.11: only what looks like a device by its name is touched.
    let name = fs::read_link(link).ok()?;
    if !name.starts_with("/dev") {
        return None;
    }
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let found = fs::metadata(link).ok()?;
    found.file_type().is_block_device().then(|| DeviceNumber::from_raw(found.rdev()))
}

/// Mount points of the device, in all mount name spaces.
fn mounts(device: DeviceNumber) -> Vec<Holder> {
    let number = device.to_string();
    let mut seen = HashSet::new();
    let mut paths = HashSet::new();
    for pid in pids() {
        let name_space = fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        if name_space.is_some() && !seen.insert(name_space) {
            continue;
        }
        let Ok(table) = fs::read(format!("/proc/{pid}/mountinfo")) else {
            continue;
        };
        for line in String::from_utf8_lossy(&table).lines() {
            let mut fields = line.split(' ').skip(2);
            if fields.next() == Some(number.as_str()) {
                if let Some(path) = fields.nth(1) {
                    paths.insert(unescape(path));
                }
            }
        }
    }
    let mut holders: Vec<Holder> = paths.into_iter().map(|path| Holder::Mount { path }).collect();
    holders.sort();
    holders
}

fn is_swap(device: DeviceNumber) -> bool {
    use std::os::unix::fs::MetadataExt;
    let table = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let names = table.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| name.starts_with("/dev/"))
        .any(|name| fs::metadata(name).is_ok_and(|found| DeviceNumber::from_raw(found.rdev()) == device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_uses_a_device_that_cannot_exist() {
        assert_eq!(find(DeviceNumber { major: 0, minor: 0xfffff }), []);
    }
}
