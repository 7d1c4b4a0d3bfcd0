//! The daemon as a process: its protection under memory pressure, its start in the background, its pid file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::mman::{mlockall, MlockAllFlags};
use nix::sys::resource::{getrlimit, Resource, RLIM_INFINITY};
use nix::unistd::{fork, setsid, ForkResult};

const PR_SET_IO_FLUSHER: libc::c_int = 57;
const CAP_IPC_LOCK: u32 = 14;

/// Stack of every thread of the daemon. All memory is locked, so the stacks are small; nothing here
/// recurses or keeps large values on the stack.
pub const STACK_BYTES: usize = 192 << 10;

/// Keeps all memory of the process, present and future, from being paged out. Thread stacks count too: keep them small.
///
/// Not under a limit: the lock on future memory would make every thread and every buffer beyond it fail.
///
/// # Errors
/// The system's, or that the amount is limited (RLIMIT_MEMLOCK, without CAP_IPC_LOCK).
pub fn lock_memory() -> io::Result<()> {
    let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    if limit != RLIM_INFINITY && !has_capability(CAP_IPC_LOCK) {
        let text = format!("no more than {} KiB may be locked (RLIMIT_MEMLOCK)", limit >> 10);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE)?)
}

/// Whether a capability is in effect, as /proc says.
fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|set| set >> number & 1 != 0)
}

/// Keeps the out-of-memory killer away (`oom_score_adj` -1000, or `oom_adj` -17 before Linux 2.6.36).
///
/// # Errors
/// The system's.
pub fn protect_from_oom_killer() -> io::Result<()> {
    fs::write("/proc/self/oom_score_adj", "-1000").or_else(|_| fs::write("/proc/self/oom_adj", "-17"))
}

/// Marks the calling thread, and those it starts later, as one that serves write-back: its memory allocations do not
/// wait for that write-back. Linux 5.6 and later.
///
/// # Errors
/// The system's; EINVAL on older kernels.
pub fn set_io_flusher() -> io::Result<()> {
    // SAFETY: prctl with integer arguments.
    #[allow(unsafe_code)]
    let result = unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Scheduling priority above that of ordinary programs (nice -10).
///
/// # Errors
/// The system's.
pub fn raise_priority() -> io::Result<()> {
    // SAFETY: setpriority with integer arguments.
    #[allow(unsafe_code)]
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -10) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// All of the above (spec/system.md 7.8). Returns what did not work, for the log; none of it is fatal.
pub fn protect() -> Vec<(&'static str, io::Error)> {
    let steps = [
        ("lock memory", lock_memory()),
        ("protect from the out-of-memory killer", protect_from_oom_killer()),
        ("become an I/O flusher", set_io_flusher()),
        ("raise the priority", raise_priority()),
    ];
    steps.into_iter().filter_map(|(what, result)| Some((what, result.err()?))).collect()
}

/// The daemon's end of the pipe on which the one who started it waits.
#[derive(Debug)]
pub struct Ready(File);

impl Ready {
    /// The daemon serves: the starter goes on.
    pub fn succeed(mut self) {
        let _ = self.0.write_all(b"+");
    }

    /// The daemon ends: the starter gets `why`. (One that ends without a word is reported as such.)
    pub fn fail(mut self, why: &str) {
        let _ = self.0.write_all(b"-");
        let _ = self.0.write_all(why.as_bytes());
    }
}

/// Starts `main` in a process of its own, without terminal, in a session of its own, with /dev/null as standard files,
/// / as directory and no other open file. Waits until it calls [`Ready::succeed`], fails or ends.
///
/// To be called from a program that has only one thread.
///
/// # Errors
/// The system's, or `Other` with the text of [`Ready::fail`].
pub fn start_daemon(main: impl FnOnce(Ready) -> i32) -> io::Result<()> {
    let (reader, writer) = pipe()?;
    // SAFETY: the program has one thread, so the child may do anything a process may do.
    #[allow(unsafe_code)]
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            drop(writer);
            let mut answer = Vec::new();
            let read = (&reader).take(64 << 10).read_to_end(&mut answer);
            // The child in between ends at once; the daemon is its orphan.
            while nix::sys::wait::waitpid(child, None) == Err(nix::errno::Errno::EINTR) {}
            read?;
            match answer.split_first() {
                Some((b'+', _)) => Ok(()),
                Some((_, why)) => Err(io::Error::other(String::from_utf8_lossy(why).into_owned())),
                None => Err(io::Error::other("the daemon ended before it was ready")),
            }
        }
        ForkResult::Child => {
            drop(reader);
            let _ = setsid();
            // SAFETY: as above.
            #[allow(unsafe_code)]
            match unsafe { fork() } {
                Ok(ForkResult::Child) => super::threads::forget_own_id(),
                Ok(ForkResult::Parent { .. }) => leave(0),
                Err(errno) => {
                    Ready(writer).fail(&format!("fork: {errno}"));
                    leave(1)
                }
            }
            let status = match detach_from_starter(&writer) {
                Ok(()) => main(Ready(writer)),
                Err(error) => {
                    Ready(writer).fail(&format!("detach from the terminal: {error}"));
                    1
                }
            };
            leave(status)
        }
    }
}

fn pipe() -> io::Result<(File, File)> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    Ok((File::from(reader), File::from(writer)))
}

/// Ends the process without running the exit handlers and buffers that belong to the starter.
fn leave(status: i32) -> ! {
    // SAFETY: _exit does not return.
    #[allow(unsafe_code)]
    unsafe {
        libc::_exit(status)
    }
}

fn detach_from_starter(keep: &File) -> io::Result<()> {
    std::env::set_current_dir("/")?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    for standard in 0..3 {
        // SAFETY: descriptors 0 to 2 are nobody's property in Rust's sense.
        #[allow(unsafe_code)]
        if unsafe { libc::dup2(null.as_raw_fd(), standard) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let own = [keep.as_raw_fd(), null.as_raw_fd()];
    for descriptor in open_descriptors() {
        if descriptor > 2 && !own.contains(&descriptor) {
            // SAFETY: what the starter has open is of no use to the daemon, which has made no File of its own yet.
            #[allow(unsafe_code)]
            unsafe {
                libc::close(descriptor)
            };
        }
    }
    Ok(())
}

fn open_descriptors() -> Vec<i32> {
    match fs::read_dir("/proc/self/fd") {
        Ok(entries) => entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect(),
        Err(_) => (3..1024).collect(),
    }
}

/// A pid file, locked as long as its process lives: it tells a living daemon from a stale file.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    _lock: Flock<File>,
}

/// Why there is no [`PidFile`].
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    /// Another process holds it.
    #[error("{} belongs to the running process {pid}", path.display())]
    Taken {
        /// The file.
        path: PathBuf,
        /// What is written in it; 0 if unreadable.
        pid: i32,
    },
    /// The system's error.
    #[error("{}", super::paths::write_failure(path, source))]
    System {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl PidFile {
    /// Makes or takes over the file, locks it and writes the own pid.
    ///
    /// # Errors
    /// Another process holds the lock, or the file cannot be written.
    pub fn create(path: &Path) -> Result<PidFile, PidFileError> {
        let failed = |source: io::Error| PidFileError::System { path: path.to_owned(), source };
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(failed)?;
            let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => lock,
                Err((file, nix::errno::Errno::EWOULDBLOCK)) => {
                    let mut text = String::new();
                    let _ = (&file).take(32).read_to_string(&mut text);
                    let pid = text.trim().parse().unwrap_or(0);
                    return Err(PidFileError::Taken { path: path.to_owned(), pid });
                }
                Err((_, errno)) => return Err(failed(errno.into())),
            };
            // Its former owner may have removed the name between open and lock: then it is not the file to hold.
            if !is_same_file(&lock, path) {
                continue;
            }
            lock.set_len(0).map_err(failed)?;
            lock.rewind().map_err(failed)?;
            writeln!(lock, "{}", std::process::id()).map_err(failed)?;
            return Ok(PidFile { path: path.to_owned(), _lock: lock });
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn is_same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_has_one_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("drbdd.pid");
        fs::write(&path, "999999 stale from a crash\n").unwrap();
        let owner = PidFile::create(&path).unwrap();
        let own = std::process::id();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{own}\n"));
        match PidFile::create(&path) {
            Err(PidFileError::Taken { pid, .. }) => assert_eq!(pid, own as i32),
            other => panic!("{other:?}"),
        }
        drop(owner);
        assert!(!path.exists());
        PidFile::create(&path).unwrap();
    }
}
