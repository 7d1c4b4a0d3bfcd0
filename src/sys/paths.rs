//! Where the daemon's files are. spec/decisions.md 4.
//!
//! The three directories can be replaced by the environment (tests, rescue), unless real and
//! effective user differ: then the environment belongs to somebody with fewer rights.

use std::io;
use std::path::{Path, PathBuf};

/// Build setting `--localstatedir`.
const LOCALSTATEDIR: &str = match option_env!("DRBDBOX_LOCALSTATEDIR") {
    Some(dir) => dir,
    None => "/var",
};

/// Build setting `--sysconfdir`.
pub const SYSCONFDIR: &str = match option_env!("DRBDBOX_SYSCONFDIR") {
    Some(dir) => dir,
    None => "/etc",
};

/// The value of a variable, if we may trust the environment.
fn trusted(variable: &str) -> Option<PathBuf> {
    let same =
        nix::unistd::getuid() == nix::unistd::geteuid() && nix::unistd::getgid() == nix::unistd::getegid();
    let value = std::env::var_os(variable).filter(|v| same && !v.is_empty())?;
    Some(PathBuf::from(value))
}

/// Why a file of the daemon could not be written, and what to do about it.
pub fn write_failure(path: &Path, error: &io::Error) -> String {
    let directory = path.parent().unwrap_or(path).display();
    let advice = match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => {
            format!("make room in the file system of {directory} (df -h {directory}; df -i {directory})")
        }
        Some(libc::EROFS) => format!("the file system of {directory} has to be mounted read-write"),
        Some(libc::EACCES | libc::EPERM) => format!("is this root, and may it write in {directory}?"),
        _ => return format!("{}: {error}", path.display()),
    };
    format!("{}: {error}: {advice}", path.display())
}

/// RUNDIR: socket, pid, proc text, running configuration. Does not survive a reboot.
pub fn rundir() -> PathBuf {
    trusted("DRBDBOX_RUNDIR").unwrap_or_else(|| {
        PathBuf::from(if Path::new("/run").is_dir() { "/run/drbd" } else { "/var/run/drbd" })
    })
}

/// LIBDIR: configuration of minors in 8.3's form, last known devices.
pub fn libdir() -> PathBuf {
    trusted("DRBDBOX_LIBDIR").unwrap_or_else(|| Path::new(LOCALSTATEDIR).join("lib/drbd"))
}

/// LOCKDIR: the lock of each minor.
pub fn lockdir() -> PathBuf {
    trusted("DRBDBOX_LOCKDIR").unwrap_or_else(|| Path::new(LOCALSTATEDIR).join("lock"))
}

/// Control socket, mode 0600.
pub fn socket() -> PathBuf {
    rundir().join("drbdd.sock")
}

/// Pid file of the daemon.
pub fn pid_file() -> PathBuf {
    rundir().join("drbdd.pid")
}

/// Text of /proc/drbd; its existence means "loaded".
pub fn proc_text() -> PathBuf {
    rundir().join("proc")
}

/// The running configuration, mode 0600.
pub fn running() -> PathBuf {
    rundir().join("running")
}

/// Link to the configuration file of a minor, 8.3 dialect.
pub fn minor_conf_83(minor: u32) -> PathBuf {
    libdir().join(format!("drbd-minor-{minor}.conf"))
}

/// Link to the configuration file of a minor, 8.4 dialect.
pub fn minor_conf_84(minor: u32) -> PathBuf {
    rundir().join(format!("drbd-minor-{minor}.conf"))
}

/// Link to the configuration file of a resource, 8.4 dialect.
pub fn resource_conf_84(resource: &str) -> PathBuf {
    rundir().join(format!("drbd-resource-{resource}.conf"))
}

/// Last known size and path of a minor's lower device.
pub fn last_known_device(minor: u32) -> PathBuf {
    libdir().join(format!("drbd-minor-{minor}.lkbd"))
}

/// Name of the lock of a minor, in [`lockdir`] or in the spare directory.
pub fn minor_lock_name(minor: u32) -> String {
    format!("drbd-147-{minor}")
}

/// Where locks go if [`lockdir`] is missing or read-only.
pub fn spare_lockdir() -> PathBuf {
    rundir().join("lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_system_is_named_with_what_to_do() {
        let text = |number| write_failure(Path::new("/run/drbd/proc"), &io::Error::from_raw_os_error(number));
        assert_eq!(
            text(libc::ENOSPC),
            "/run/drbd/proc: No space left on device (os error 28): make room in the file system of /run/drbd \
             (df -h /run/drbd; df -i /run/drbd)"
        );
        assert!(text(libc::EROFS).ends_with("has to be mounted read-write"));
        assert!(text(libc::EACCES).ends_with("is this root, and may it write in /run/drbd?"));
        // C libraries have other words for it.
        let error = io::Error::from_raw_os_error(libc::EIO);
        assert_eq!(text(libc::EIO), format!("/run/drbd/proc: {error}"));
    }
}
