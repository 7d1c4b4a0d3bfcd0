//! The way to end the threads of a link: one flag, one descriptor to poll, and the sockets to shut down.

use crate::sys::sync::Mutex;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

/// Ends a connector or a link. Shared by the threads of the link and those who end it.
#[derive(Debug)]
pub struct Stop {
    stopped: AtomicBool,
    /// Let the meta socket's queue run empty first.
    drain_meta: AtomicBool,
    wake: UnixStream,
    /// Readable when stopped.
    woken: UnixStream,
    /// The socket in whose read or write a thread may be blocked.
    blocking: Mutex<Option<Arc<TcpStream>>>,
}

impl Stop {
    /// Not stopped.
    ///
    /// # Errors
    /// The system's (out of descriptors).
    pub fn new() -> io::Result<Stop> {
        let (wake, woken) = UnixStream::pair()?;
        Ok(Stop {
            stopped: AtomicBool::new(false),
            drain_meta: AtomicBool::new(false),
            wake,
            woken,
            blocking: Mutex::new(None),
        })
    }

    /// Ends it. Does not wait. The data socket is no longer read; what is being sent goes on.
    pub fn stop(&self, drain_meta: bool) {
        if drain_meta {
            self.drain_meta.store(true, Ordering::Release);
        }
        if self.stopped.swap(true, Ordering::AcqRel) {
            return;
        }
        // These fail only if the other end has gone already.
        let _ = self.wake.shutdown(Shutdown::Both);
        if let Some(stream) = &*self.blocking.lock() {
            let _ = stream.shutdown(Shutdown::Read);
        }
    }

    /// Whether [`Stop::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Whether what waits for the meta socket is to be sent first.
    pub fn drains_meta(&self) -> bool {
        self.drain_meta.load(Ordering::Acquire)
    }

    /// From now on a thread may be blocked in a read of this socket: stopping wakes it.
    pub fn guard(&self, stream: &Arc<TcpStream>) {
        let mut blocking = self.blocking.lock();
        if self.is_stopped() {
            let _ = stream.shutdown(Shutdown::Read);
        }
        *blocking = Some(Arc::clone(stream));
    }

    /// Waits until it is stopped, at most that long. True if it is.
    pub fn wait(&self, at_most: Duration) -> bool {
        let mut descriptors = [PollFd::new(self.descriptor(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX);
        // An interrupted wait is only a shorter one.
        let _ = poll(&mut descriptors, timeout);
        self.is_stopped()
    }

    /// Becomes readable when stopped.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }
}
