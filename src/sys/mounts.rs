//! What of this machine uses a block device: mounted file systems, swap, devices on top of it.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// One mounted file system or swap area.
#[derive(Debug, Clone, PartialEq, Eq)]
struct User {
    /// `MAJOR:MINOR` of the devices that it occupies.
    devices: Vec<String>,
    /// The device as the kernel names it.
    source: String,
    /// `mounted on /x`, `swap`.
    what: String,
}

/// All of them, as they were when the tables were read.
#[derive(Debug, Clone, Default)]
pub struct Users(Vec<User>);

/// `MAJOR:MINOR` of a block device.
fn number(path: &Path) -> Option<String> {
    let meta = fs::metadata(path).ok().filter(|meta| meta.file_type().is_block_device())?;
    Some(format!("{}:{}", nix::sys::stat::major(meta.rdev()), nix::sys::stat::minor(meta.rdev())))
}

/// The whole disk of a partition.
fn whole_disk(device: &str) -> Option<String> {
    let place = fs::canonicalize(format!("/sys/dev/block/{device}")).ok()?;
    place.join("partition").exists().then_some(())?;
    Some(fs::read_to_string(place.parent()?.join("dev")).ok()?.trim_end().to_string())
}

impl Users {
    /// Reads the tables of this process and of the first one, which may have other mounts.
    pub fn read() -> Users {
        let mut users = Vec::new();
        for table in ["/proc/self/mountinfo", "/proc/1/mountinfo"] {
            let text =
                fs::read(table).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
            users.extend(text.lines().filter_map(mount));
        }
        let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
        for path in swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()) {
            users.push(User { devices: Vec::new(), source: path.to_string(), what: "swap".to_string() });
        }
        for user in &mut users {
            if user.source.starts_with('/') {
                user.devices.extend(number(Path::new(&user.source)));
            }
            let disks: Vec<String> = user.devices.iter().filter_map(|device| whole_disk(device)).collect();
            user.devices.extend(disks);
        }
        Users(users)
    }

    /// What uses a device: `mounted on /x`, `swap`, `used by dm-0`.
    pub fn of(&self, path: &str) -> Option<String> {
        let device = number(Path::new(path));
        let is_it =
            |user: &&User| user.source == path || device.as_ref().is_some_and(|d| user.devices.contains(d));
        if let Some(user) = self.0.iter().find(is_it) {
            return Some(user.what.clone());
        }
        let holders = fs::read_dir(format!("/sys/dev/block/{}/holders", device?)).ok()?;
        let holder = holders.flatten().next()?;
        Some(format!("used by {}", holder.file_name().to_string_lossy()))
    }
}

/// A line of mountinfo: `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [...] - TYPE SOURCE OPTIONS`.
fn mount(line: &str) -> Option<User> {
    let (before, behind) = line.split_once(" - ")?;
    let fields: Vec<&str> = before.split(' ').collect();
    let source = behind.split(' ').nth(1)?.to_string();
    Some(User {
        devices: vec![fields.get(2)?.to_string()],
        source,
        what: format!("mounted on {}", unescape(fields.get(4)?)),
    })
}

/// Undoes the octal escapes of the mount table: `\040` is a blank.
pub fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                result.push(char::from(byte));
                result.push_str(&part[3..]);
            }
            None => {
                result.push('\\');
                result.push_str(part);
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_blanks_are_readable() {
        assert_eq!(unescape(r"/mnt/my\040disk\134"), r"/mnt/my disk\");
        assert_eq!(unescape(r"/mnt\9"), r"/mnt\9");
    }

    #[test]
    fn lines_of_the_kernel() {
        let line = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let user = mount(line).expect("a mount");
        assert_eq!(user.devices, ["98:0"]);
        assert_eq!((user.source.as_str(), user.what.as_str()), ("/dev/root", "mounted on /mnt 2"));
        assert_eq!(mount("36 35 98:0 /"), None);
        let users = Users(vec![user]);
        assert_eq!(users.of("/dev/root").as_deref(), Some("mounted on /mnt 2"));
        assert_eq!(users.of("/dev/no-such-device"), None);
    }
}
