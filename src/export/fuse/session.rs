//! The life of the file: made, opened, hidden, served, ended.

use crate::sys::process::STACK_BYTES;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::thread::JoinHandleExt;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::mount::{mount, umount2, MntFlags, MsFlags};
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};

use super::channel::Channel;
use super::serve::{serve, Served};
use crate::export::door::{hint, DoorError};
use crate::export::request::Backend;

/// How often it is looked whether the threads have ended.
const ROUND: Duration = Duration::from_millis(1);
/// After how many rounds the file system is given up that should have gone by itself.
const PATIENCE_ROUNDS: u32 = 1000;

/// A file that is served.
pub struct Session {
    served: Arc<Served>,
    channels: Vec<Arc<Channel>>,
    threads: Vec<JoinHandle<()>>,
    file: Option<File>,
}

impl Session {
    /// Makes a file called `name` with the backend's size, and serves it with so many threads.
    ///
    /// `mount_point` is a directory that is made and removed again. `scratch` is a directory for device nodes.
    ///
    /// # Errors
    /// [`DoorError::System`]: FUSE is missing, no privilege, no memory.
    pub fn start(
        backend: Arc<dyn Backend>,
        name: &str,
        mount_point: &Path,
        scratch: &Path,
        threads: usize,
    ) -> Result<Session, DoorError> {
        let mut limits = backend.limits();
        limits.max_io_bytes = limits.max_io_bytes.clamp(4096, 1 << 20).next_power_of_two();
        let served = Arc::new(Served {
            limits,
            name: name.to_owned(),
            size_bytes: AtomicU64::new(backend.size_bytes()),
            admitted: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            backend,
        });
        let first = Channel::open(scratch)
            .map_err(|error| DoorError::system(format!("open /dev/fuse{}", hint(&error, "fuse")), error))?;
        clean_mount_point(mount_point);
        fs::create_dir_all(mount_point)
            .map_err(|error| DoorError::system(format!("make {}", mount_point.display()), error))?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", first.descriptor());
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
        if let Err(errno) =
            mount(Some(name), mount_point, Some("fuse.drbdbox"), flags, Some(options.as_str()))
        {
            let _ = fs::remove_dir(mount_point);
            let error = io::Error::from(errno);
            let step = format!("mount FUSE on {}{}", mount_point.display(), hint(&error, "fuse"));
            return Err(DoorError::system(step, error));
        }
        let mut session =
            Session { served, channels: vec![Arc::new(first)], threads: Vec::new(), file: None };
        let started = session.start_threads(scratch, threads.max(1)).and_then(|()| {
            session.file = Some(open_served(&mount_point.join(name), &session.served)?);
            Ok(())
        });
        // The open file keeps the file system; nobody needs to see it.
        let hidden = umount2(mount_point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
        let _ = fs::remove_dir(mount_point);
        if let Err(error) = started.and(hidden.map_err(io::Error::from)) {
            session.abort();
            session.finish();
            return Err(DoorError::system(format!("serve {name} by FUSE"), error));
        }
        Ok(session)
    }

    fn start_threads(&mut self, scratch: &Path, threads: usize) -> io::Result<()> {
        for number in 0..threads {
            if number > 0 {
                let another = self.channels[0].another(scratch)?;
                self.channels.push(Arc::new(another));
            }
            let served = Arc::clone(&self.served);
            let channel = Arc::clone(&self.channels[number]);
            let thread = std::thread::Builder::new()
                .name(thread_name(&self.served.name, number))
                .stack_size(STACK_BYTES)
                .spawn(move || serve_in_spite_of_panics(&served, &channel))?;
            self.threads.push(thread);
        }
        Ok(())
    }

    /// The open file. `None` after the end.
    pub fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// From now on flushes reach the backend. Before, there is nothing to flush; binding a loop device does it all the
    /// same, at a time when the engine may not expect requests yet.
    pub fn admit(&self) {
        self.served.admitted.store(true, Ordering::Release);
    }

    /// Changes the size of the file, and makes the kernel know it.
    ///
    /// # Errors
    /// The system's.
    pub fn resize(&self, size_bytes: u64) -> io::Result<()> {
        self.served.size_bytes.store(size_bytes, Ordering::Release);
        if let Some(file) = &self.file {
            file.metadata()?;
        }
        Ok(())
    }

    /// Cuts the file off: everything that is in progress in the kernel, and everything that comes, fails. A thread that
    /// is inside [`Backend::submit`] is not waited for here.
    pub fn abort(&mut self) {
        self.served.stopping.store(true, Ordering::Release);
        for channel in &self.channels {
            if let Err(error) = channel.disconnect() {
                log::error!("{}: disconnect from /dev/fuse: {error}", self.served.name);
            }
        }
        self.interrupt();
        // Closing sends nothing any more.
        self.file = None;
    }

    /// Ends the threads. Nobody but this object may use the file any more, or it must have been aborted. Waits for
    /// threads that are inside [`Backend::submit`].
    pub fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // With the last use of the file the file system goes, and the threads' reads end.
        self.file = None;
        for round in 0u32.. {
            if self.threads.iter().all(JoinHandle::is_finished) {
                break;
            }
            std::thread::sleep(ROUND);
            if self.served.stopping.load(Ordering::Acquire) {
                // A thread that was just before its read when it was interrupted needs another one.
                if round % 16 == 0 {
                    self.interrupt();
                }
            } else if round > PATIENCE_ROUNDS {
                // A mount name space that was made while the file system was visible has a copy of the mount.
                log::warn!("{}: the file system is kept by someone", self.served.name);
                self.abort();
            }
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("{}: a thread of the door panicked", self.served.name);
            }
        }
    }

    /// Makes reads from /dev/fuse return, so that the threads see that they are to stop.
    fn interrupt(&self) {
        install_interruption();
        for thread in &self.threads {
            if !thread.is_finished() {
                // SAFETY: the thread was not joined yet, so its handle is valid, even if it ended just now.
                #[allow(unsafe_code)]
                unsafe {
                    libc::pthread_kill(thread.as_pthread_t() as _, INTERRUPTION as libc::c_int)
                };
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.abort();
            self.end();
        }
    }
}

/// A panic in the backend answers its request with EIO, like every request that is dropped. It must not take the thread
/// with it: without threads the device would hang. (In the daemon, and in every release, a panic ends the process.)
fn serve_in_spite_of_panics(served: &Arc<Served>, channel: &Arc<Channel>) {
    while catch_unwind(AssertUnwindSafe(|| serve(served, channel))).is_err() {
        log::error!("{}: a request made the program panic", served.name);
    }
}

/// The kernel shows 15 bytes: "drbd0-door1".
fn thread_name(file_name: &str, number: usize) -> String {
    let device = file_name.split('-').next().unwrap_or_default();
    format!("{device}-door{number}")
}

/// A signal that nothing else uses here; without a handler it is ignored.
const INTERRUPTION: Signal = Signal::SIGURG;

extern "C" fn interrupted(_: libc::c_int) {}

/// Gives the signal an empty handler, so that it interrupts system calls.
fn install_interruption() {
    let action = SigAction::new(SigHandler::Handler(interrupted), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, which is safe in a signal handler.
    #[allow(unsafe_code)]
    if let Err(errno) = unsafe { sigaction(INTERRUPTION, &action) } {
        log::error!("handler of {INTERRUPTION}: {errno}");
    }
}

fn open_served(path: &Path, served: &Served) -> io::Result<File> {
    let open = || OpenOptions::new().read(true).write(!served.limits.read_only).open(path);
    // The kernel asks at the first close whether it must tell later ones. That question must not come when all threads
    // may be busy with frozen requests.
    drop(open()?);
    open()
}

/// Removes what a process that died in the middle of [`Session::start`] left behind.
pub fn clean_mount_point(mount_point: &Path) {
    // A path that does not exist, or is no mount point, is the rule.
    if let Ok(path) = CString::new(mount_point.as_os_str().as_bytes()) {
        let _ = umount2(path.as_c_str(), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    }
    let _ = fs::remove_dir(mount_point);
}
