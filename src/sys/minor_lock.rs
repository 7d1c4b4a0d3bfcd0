//! The lock of a minor: keeps drbdmeta and the commands that attach, detach or resize apart.
//! spec/drbdsetup.md 2.3, spec/decisions.md 4 and 6.6.

use super::paths;
use nix::errno::Errno;
use nix::fcntl::{fcntl, FcntlArg};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long to wait for the lock.
const WAIT: Duration = Duration::from_secs(1);

/// Pause between two attempts.
const RETRY: Duration = Duration::from_millis(20);

/// Why there is no lock. The texts are the original's; exit status 20.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The file cannot be opened.
    #[error("open({}): {}", .path.display(), .error.desc())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        error: Errno,
    },
    /// The file cannot be locked.
    #[error("fcntl({},...): {}", .path.display(), .error.desc())]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why.
        error: Errno,
    },
    /// Somebody else has it.
    #[error("lock on {} currently held by pid:{pid}", .path.display())]
    Held {
        /// The file.
        path: PathBuf,
        /// Who.
        pid: i32,
    },
}

/// A held lock; dropping it gives it up.
#[derive(Debug)]
pub struct MinorLock {
    /// Open while the lock is held. `None`: there is no place for locks.
    _file: Option<File>,
}

impl MinorLock {
    /// Takes the lock of `minor`; waits at most a second.
    ///
    /// In LOCKDIR; if that is missing or read-only, in RUNDIR/lock; if there is no place there
    /// either, goes on with a warning on stderr.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take(minor: u32) -> Result<MinorLock, LockError> {
        let name = paths::minor_lock_name(minor);
        let path = paths::lockdir().join(&name);
        let error = match open(&path) {
            Ok(file) => return lock(file, &path),
            Err(error) => error,
        };
        // drbdmeta on an image file must work for anybody (spec/system.md 9).
        let is_root = nix::unistd::geteuid().is_root();
        let no_place = |e: Errno| {
            matches!(e, Errno::ENOENT | Errno::ENOTDIR | Errno::EROFS) || (e == Errno::EACCES && !is_root)
        };
        if !no_place(error) {
            return Err(LockError::Open { path, error });
        }
        let spare = paths::spare_lockdir();
        // If this fails, the open below tells why.
        let _ = fs::create_dir_all(&spare);
        let path = spare.join(&name);
        match open(&path) {
            Ok(file) => lock(file, &path),
            Err(error) if no_place(error) => {
                eprintln!("open({}): {}: going on without a lock", path.display(), error.desc());
                Ok(MinorLock { _file: None })
            }
            Err(error) => Err(LockError::Open { path, error }),
        }
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

fn open(path: &Path) -> Result<File, Errno> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(|e| errno(&e))
}

/// A POSIX write lock on the whole file.
fn whole_file() -> nix::libc::flock {
    nix::libc::flock {
        l_type: nix::libc::F_WRLCK as i16,
        l_whence: nix::libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn lock(file: File, path: &Path) -> Result<MinorLock, LockError> {
    let deadline = Instant::now() + WAIT;
    loop {
        match fcntl(&file, FcntlArg::F_SETLK(&whole_file())) {
            Ok(_) => return Ok(MinorLock { _file: Some(file) }),
            Err(Errno::EACCES | Errno::EAGAIN) if Instant::now() < deadline => {
                std::thread::sleep(RETRY);
            }
            Err(Errno::EACCES | Errno::EAGAIN) => break,
            Err(error) => {
                let path = path.to_path_buf();
                return Err(LockError::Lock { path, error });
            }
        }
    }
    let mut holder = whole_file();
    let pid = match fcntl(&file, FcntlArg::F_GETLK(&mut holder)) {
        Ok(_) => holder.l_pid,
        Err(_) => 0,
    };
    let path = path.to_path_buf();
    Err(LockError::Held { path, pid })
}
