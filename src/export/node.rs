//! /dev/drbdN and the links that lead to it (spec/system.md 4.4, 7.5).
//!
//! The node has the numbers of the device behind the door while that is attached. Detached, it has a number that no
//! device can have, so that opening it fails, as it does for DRBD's own Secondary, and nothing else can ever be found
//! behind it.

use std::fs;
use std::io;
use std::os::unix::fs::{symlink, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::stat::{mknod, Mode, SFlag};
use nix::unistd::{chown, Group};

use super::door::DeviceNumber;
use super::kernel_device::is_device;
use crate::sys::host::selinux_enforces;

/// Major number of the real driver: a node with it would load that driver (spec/system.md 0, D5).
const DRBD_MAJOR: u32 = 147;

/// The device node of a minor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    path: PathBuf,
    minor: u32,
}

impl Node {
    /// The node `drbd<minor>` in this directory. Makes nothing.
    pub fn new(directory: &Path, minor: u32) -> Node {
        Node { path: directory.join(format!("drbd{minor}")), minor }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the real driver serves the minor, or has its node: it must be left alone. spec/decisions.md 7.3.
    pub fn is_of_real_driver(&self) -> bool {
        let major = fs::metadata(&self.path).map(|found| libc::major(found.rdev())).ok();
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        real_driver_has(self.minor, major, &read("/proc/devices"), &read("/proc/drbd"))
    }

    /// Makes the node for a device, or replaces it in one step.
    ///
    /// # Errors
    /// The system's.
    pub fn lead_to(&self, device: DeviceNumber) -> io::Result<()> {
        let right = fs::symlink_metadata(&self.path);
        if right.is_ok_and(|found| is_device(&found, SFlag::S_IFBLK, device)) {
            return Ok(());
        }
        let name = format!(".drbd{}.{:016x}", self.minor, crate::sys::random::number()?);
        let new = self.path.with_file_name(name);
        mknod(&new, SFlag::S_IFBLK, Mode::S_IRUSR | Mode::S_IWUSR, device.raw())?;
        let result = set_owner(&new).and_then(|()| fs::rename(&new, &self.path));
        match result {
            Ok(()) => set_label(&self.path),
            Err(_) => {
                let _ = fs::remove_file(&new);
            }
        }
        result
    }

    /// Makes the node for no device: it exists, but cannot be opened (ENXIO).
    ///
    /// # Errors
    /// The system's.
    pub fn lead_nowhere(&self) -> io::Result<()> {
        self.lead_to(self.nowhere())
    }

    /// Major 0 is never a block device's; the minor number keeps the nodes apart.
    fn nowhere(&self) -> DeviceNumber {
        DeviceNumber { major: 0, minor: self.minor + 1 }
    }

    /// Removes the node, if it is a block node.
    pub fn remove(&self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.file_type().is_block_device()) {
            if let Err(error) = fs::remove_file(&self.path) {
                log::warn!("remove {}: {error}", self.path.display());
            }
        }
    }
}

/// Whether the real driver is loaded and has a node (`major`: that of the node there is) or a configured minor.
fn real_driver_has(minor: u32, major: Option<u32>, devices: &str, proc_drbd: &str) -> bool {
    let loaded = devices.lines().any(|line| line.trim() == format!("{DRBD_MAJOR} drbd"));
    let start = format!("{minor}: cs:");
    let state = proc_drbd.lines().find_map(|line| line.trim_start().strip_prefix(&start));
    let configured = state.is_some_and(|state| !state.starts_with("Unconfigured"));
    loaded && (major == Some(DRBD_MAJOR) || configured)
}

/// root:disk 0660, as udev does it; without a group disk root:root 0600.
fn set_owner(path: &Path) -> io::Result<()> {
    let mode = match Group::from_name("disk") {
        Ok(Some(disk)) => {
            chown(path, None, Some(disk.gid))?;
            0o660
        }
        _ => 0o600,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// With SELinux a node made by mknod has a label with which confined programs cannot mount it (spec/system.md 6.7).
fn set_label(path: &Path) {
    if selinux_enforces().is_some() {
        let result = Command::new("restorecon")
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if let Err(error) = result {
            log::debug!("restorecon {}: {error}", path.display());
        }
    }
}

/// The links to a node. Removed when dropped.
#[derive(Debug)]
pub struct Links {
    /// Where the node is.
    directory: PathBuf,
    /// Parent directories from here on are removed with the last link in them: DIR/drbd.
    root: PathBuf,
    node_name: String,
    paths: Vec<PathBuf>,
}

impl Links {
    fn none(directory: &Path, root: PathBuf, minor: u32) -> Links {
        Links { directory: directory.to_owned(), root, node_name: format!("drbd{minor}"), paths: Vec::new() }
    }

    /// Links to `directory/drbd<minor>`: `by-res/<resource>` (or `by-res/<resource>/<volume>`) and `by-disk/<disk>`,
    /// where `disk` is the path of the backing device. Those that cannot be made are logged.
    pub fn make(directory: &Path, minor: u32, resource: Option<&str>, disk: Option<&str>) -> Links {
        let root = directory.join("drbd");
        let mut links = Links::none(directory, root, minor);
        if let Some(resource) = resource {
            links.add(Path::new("by-res"), resource);
        }
        if let Some(disk) = disk {
            links.add(Path::new("by-disk"), disk.strip_prefix("/dev/").unwrap_or(disk));
        }
        links
    }

    /// The link `directory/drbd_NAME` to `directory/drbd<minor>`, for `device /dev/drbd_NAME minor N`
    /// (spec/config.md 4.2). Other names get none: they could be those of other devices.
    pub fn by_name(directory: &Path, minor: u32, name: &str) -> Links {
        let mut links = Links::none(directory, directory.to_owned(), minor);
        let name = clean(name.strip_prefix("/dev/").unwrap_or(name));
        if name.components().count() == 1 && name.to_string_lossy().starts_with("drbd_") {
            links.link(&name);
        }
        links
    }

    fn add(&mut self, kind: &Path, name: &str) {
        let name = clean(name);
        if !name.as_os_str().is_empty() {
            self.link(&kind.join(name));
        }
    }

    /// Makes the link at a path below `root`.
    fn link(&mut self, relative: &Path) {
        let path = self.root.join(relative);
        // One step up for each directory between the node's and the link: drbd, by-res, ….
        let mut target = PathBuf::new();
        if let Ok(below) = path.strip_prefix(&self.directory) {
            target.extend(below.components().skip(1).map(|_| Component::ParentDir));
        }
        target.push(&self.node_name);
        match make_link(&target, &path) {
            Ok(()) => self.paths.push(path),
            Err(error) => log::warn!("link {}: {error}", path.display()),
        }
    }

    /// Where the links are.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        for path in &self.paths {
            // Only if it is still ours: another minor may have taken the name over.
            let ours = fs::read_link(path).is_ok_and(|target| target.ends_with(&self.node_name));
            if !ours || fs::remove_file(path).is_err() {
                continue;
            }
            let mut parent = path.parent();
            while let Some(directory) =
                parent.filter(|above| above.starts_with(&self.root) && **above != self.directory)
            {
                if fs::remove_dir(directory).is_err() {
                    break;
                }
                parent = directory.parent();
            }
        }
    }
}

/// A relative path of harmless characters: no way up, nothing absolute.
fn clean(name: &str) -> PathBuf {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "#+.:=@_-".contains(c);
    name.split('/')
        .filter(|part| !matches!(*part, "" | "." | ".."))
        .map(|part| part.chars().map(|c| if allowed(c) { c } else { '_' }).collect::<String>())
        .collect()
}

fn make_link(target: &Path, path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => fs::remove_file(path)?,
        _ => {}
    }
    symlink(target, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minor_of_the_real_driver_is_recognized() {
        let devices = "Block devices:\n  7 loop\n147 drbd\n";
        let text = "version: 8.4.11 (api:1/proto:86-101)\n 0: cs:WFConnection ro:Secondary/Unknown ds:Diskless/DUnknown C r-----\n\
             ns:0 nr:0\n 1: cs:Unconfigured\n12: cs:StandAlone ro:Secondary/Unknown ds:UpToDate/DUnknown r----s\n";
        let has = |minor| real_driver_has(minor, Some(7), devices, text);
        assert_eq!((0..13).filter(|minor| has(*minor)).collect::<Vec<u32>>(), [0, 12]);
        // Its node is left alone, though the minor is not configured.
        assert!(real_driver_has(3, Some(DRBD_MAJOR), devices, text));
        assert!(!real_driver_has(3, None, devices, ""));
        // A node that a driver left behind which is gone.
        assert!(!real_driver_has(0, Some(DRBD_MAJOR), "Block devices:\n  7 loop\n", ""));
    }

    #[test]
    fn links_are_relative_and_leave_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let volume = Links::make(directory.path(), 3, Some("r0/1"), Some("/dev/vg/lv"));
        let by_res = directory.path().join("drbd/by-res/r0/1");
        let by_disk = directory.path().join("drbd/by-disk/vg/lv");
        assert_eq!(fs::read_link(&by_res).unwrap(), Path::new("../../../drbd3"));
        assert_eq!(fs::read_link(&by_disk).unwrap(), Path::new("../../../drbd3"));
        assert_eq!(volume.paths(), [by_res, by_disk]);
        let plain = Links::make(directory.path(), 4, Some("r1"), None);
        let by_res = directory.path().join("drbd/by-res/r1");
        assert_eq!(fs::read_link(by_res).unwrap(), Path::new("../../drbd4"));
        drop(volume);
        assert!(!directory.path().join("drbd/by-disk").exists());
        drop(plain);
        assert!(!directory.path().join("drbd").exists());
    }

    #[test]
    fn a_link_that_another_minor_took_over_stays() {
        let directory = tempfile::tempdir().unwrap();
        let old = Links::make(directory.path(), 1, Some("r0"), None);
        let new = Links::make(directory.path(), 2, Some("r0"), None);
        drop(old);
        assert_eq!(fs::read_link(&new.paths()[0]).unwrap(), Path::new("../../drbd2"));
    }

    #[test]
    fn a_device_has_the_name_of_the_configuration() {
        let directory = tempfile::tempdir().unwrap();
        let named = Links::by_name(directory.path(), 20, "/dev/drbd_mysql");
        let link = directory.path().join("drbd_mysql");
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("drbd20"));
        drop(named);
        assert!(fs::symlink_metadata(&link).is_err());
        assert!(directory.path().exists());
        for other in ["/dev/drbd20", "/dev/sda", "/dev/drbd_x/../../etc", "/etc/drbd_x", "drbd", ""] {
            assert_eq!(Links::by_name(directory.path(), 20, other).paths(), [] as [PathBuf; 0], "{other}");
        }
    }

    #[test]
    fn names_cannot_lead_out_of_the_directory() {
        assert_eq!(clean("../../etc/pass wd"), Path::new("etc/pass_wd"));
        assert_eq!(clean("/var//disk.img"), Path::new("var/disk.img"));
        assert_eq!(clean("../.."), Path::new(""));
    }
}
