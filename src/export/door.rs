//! What all doors have in common: attach, find out who uses the device, detach.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::request::Backend;
use crate::sys::host;

/// A way for applications to reach a device.
///
/// A door is made detached, with its node or socket name reserved. The engine attaches it on promotion, before it
/// reports Primary, and detaches it on demotion (spec/system.md 7.4). All calls for one door come from one thread at a
/// time; the threads that serve requests belong to the door.
pub trait Door: Send {
    /// Makes the device usable with the size and limits that `backend` reports now.
    ///
    /// # Errors
    /// [`DoorError::Attached`] if it is; [`DoorError::System`] with the step that failed. The door is detached then.
    fn attach(&mut self, backend: Arc<dyn Backend>) -> Result<(), DoorError>;

    /// The device that a daemon left when it died, whose users wait for its successor: the generation of the data
    /// behind it ([`Backend::generation`]). [`Door::attach`] and [`Door::detach`] let it go: they see errors then.
    fn orphan(&self) -> Option<u64> {
        None
    }

    /// As [`Door::attach`], but with the orphan: what its users wait for is sent again, and they notice nothing. Only
    /// for a backend with the very data that they know. Without an orphan, or if that is of another size, an error.
    ///
    /// # Errors
    /// [`DoorError::System`]; the orphan is still there.
    fn adopt(&mut self, backend: Arc<dyn Backend>) -> Result<(), DoorError> {
        drop(backend);
        Err(DoorError::system(
            "go on with the device of a daemon that died",
            io::Error::from(io::ErrorKind::NotFound),
        ))
    }

    /// Tests that nobody uses the device and keeps new users that claim it (mount, swap, md) out until
    /// [`Door::release`] or [`Door::detach`]. Short-lived probers are waited for, up to about a second.
    /// Does nothing if detached or claimed already.
    ///
    /// # Errors
    /// [`DoorError::HeldOpen`] with those who use it.
    fn claim(&mut self) -> Result<(), DoorError>;

    /// Takes back [`Door::claim`]: the device stays attached and may be used again.
    fn release(&mut self);

    /// Takes the device away. After it returned `Ok`, no request is in progress and none will be submitted; the
    /// backend is no longer referenced and no page of its content is left in a cache.
    ///
    /// [`Detach::Unused`] claims first, then flushes, which needs a backend that answers.
    ///
    /// # Errors
    /// [`DoorError::HeldOpen`] (only `Unused`): nothing has changed. [`DoorError::System`]: still attached.
    fn detach(&mut self, how: Detach) -> Result<(), DoorError>;

    /// Tells the users of an attached device its new size. Does nothing if detached.
    ///
    /// # Errors
    /// [`DoorError::System`].
    fn resize(&mut self, size_bytes: u64) -> Result<(), DoorError>;

    /// Whether [`Door::attach`] was called last.
    fn is_attached(&self) -> bool;

    /// Those who have the device open now. Empty if detached.
    fn holders(&self) -> Vec<Holder>;

    /// Number of the block device behind the door; changes with every attach and detach. `None` without one.
    fn device_number(&self) -> Option<DeviceNumber>;

    /// Takes the door out of the house: detaches (forced) and removes node, links and socket. Dropping it does
    /// the same.
    fn remove(&mut self);

    /// For log lines: "fuse+loop /dev/drbd0 (7:1000)".
    fn describe(&self) -> String;
}

/// How to detach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detach {
    /// Only if nobody uses the device; everything written is flushed first.
    Unused,
    /// In any case, without flush: those who still use it see EIO. Requests in progress are waited for.
    Forced,
}

/// Major and minor number of a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceNumber {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl DeviceNumber {
    /// From the kernel's packed form.
    pub fn from_raw(number: libc::dev_t) -> DeviceNumber {
        DeviceNumber { major: libc::major(number), minor: libc::minor(number) }
    }

    /// The kernel's packed form.
    pub fn raw(self) -> libc::dev_t {
        libc::makedev(self.major, self.minor)
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// Someone who uses a device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Holder {
    /// A process has it open.
    Process {
        /// Process id.
        pid: i32,
        /// Its name, as in /proc/PID/comm.
        name: String,
    },
    /// A file system on it is mounted.
    Mount {
        /// Mount point, as seen in the mount name space where it was found.
        path: String,
    },
    /// It is in use as swap space.
    Swap,
    /// Another block device sits on it (device-mapper, md, loop): its kernel name.
    Device {
        /// Name under /sys/block.
        name: String,
    },
    /// A client of the NBD server is connected.
    Client {
        /// "pid 1234 (qemu-img)" or an address.
        name: String,
    },
    /// The kernel says that it is claimed, by whom was not found.
    Claimed,
    /// The kernel says that it is open, by whom was not found: by no process, hence in the kernel itself.
    Kernel,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Process { pid, name } => write!(f, "open in process {pid} ({name})"),
            Holder::Mount { path } => write!(f, "mounted on {path}"),
            Holder::Swap => f.write_str("in use as swap"),
            Holder::Device { name } => write!(f, "in use by block device {name}"),
            Holder::Client { name } => write!(f, "in use by an NBD client: {name}"),
            Holder::Kernel => f.write_str("open in the kernel (loop device, export, target)"),
            Holder::Claimed => f.write_str("claimed exclusively (mount, swap, md, device-mapper)"),
        }
    }
}

/// Why a door did not do what it was asked for.
#[derive(Debug)]
pub enum DoorError {
    /// Someone uses the device ("Device is held open by someone"): who, as far as it could be found out.
    HeldOpen(Vec<Holder>),
    /// It is attached already.
    Attached,
    /// A system call failed.
    System {
        /// What was tried, with the object: "bind /dev/loop1000".
        step: String,
        /// The system's answer.
        source: io::Error,
    },
}

impl DoorError {
    /// A failed step.
    pub fn system(step: impl Into<String>, source: impl Into<io::Error>) -> DoorError {
        DoorError::System { step: step.into(), source: source.into() }
    }
}

/// What to do about a device or file system of the kernel that cannot be had, to stand behind the step that failed.
pub(super) fn hint(error: &io::Error, module: &str) -> String {
    let Some(code) = error.raw_os_error() else { return String::new() };
    hint_for(code, module, host::selinux_enforces() == Some(true))
}

fn hint_for(code: i32, module: &str, selinux_enforces: bool) -> String {
    match (code, module) {
        (libc::ENODEV | libc::ENXIO | libc::ENOENT, "nbd") => {
            " (the kernel has no nbd: modprobe nbd; if there is no such module, use drbdd --door fuse-loop or nbd-server)"
                .to_owned()
        }
        (libc::ENODEV | libc::ENXIO | libc::ENOENT, _) => {
            format!(" (load the module {module}, or use drbdd --door nbd or nbd-server)")
        }
        (libc::EBUSY, "nbd") => " (all nbd devices are in use: disconnect one with nbd-client -d, or load the module with more: \
             modprobe -r nbd; modprobe nbd nbds_max=64)"
            .to_owned(),
        (libc::EACCES, _) if selinux_enforces => " (SELinux refuses it: ausearch -m avc -c drbdd shows why; \
             restorecon -v on the node and on /sbin/drbdbox, or a policy module from audit2allow, allows it)"
            .to_owned(),
        (libc::EACCES | libc::EPERM, _) => {
            " (needs root, and in a container the right to use the device; or use drbdd --door nbd-server)".to_owned()
        }
        _ => String::new(),
    }
}

impl fmt::Display for DoorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DoorError::HeldOpen(holders) => {
                f.write_str("device is held open")?;
                for (index, holder) in holders.iter().enumerate() {
                    f.write_str(if index == 0 { ": " } else { ", " })?;
                    holder.fmt(f)?;
                }
                Ok(())
            }
            DoorError::Attached => f.write_str("the door is attached already"),
            DoorError::System { step, source } => write!(f, "{step}: {source}"),
        }
    }
}

impl std::error::Error for DoorError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DoorError::System { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_to_do() {
        let cases = [
            (libc::ENODEV, "nbd", false, "modprobe nbd;"),
            (libc::ENODEV, "loop", false, "load the module loop,"),
            (libc::EBUSY, "nbd", false, "nbds_max="),
            (libc::EACCES, "nbd", true, "ausearch"),
            (libc::EACCES, "nbd", false, "needs root"),
            (libc::EPERM, "fuse", true, "needs root"),
        ];
        for (code, module, enforces, text) in cases {
            let hint = hint_for(code, module, enforces);
            assert!(hint.contains(text), "{code} {module}: {hint}");
        }
        assert_eq!(hint_for(libc::EBUSY, "loop", false), "");
        assert_eq!(hint_for(libc::EIO, "nbd", true), "");
    }
}
