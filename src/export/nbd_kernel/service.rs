//! The threads that serve the kernel's requests: one reads and submits, one sends the replies that did not fit.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{setsockopt, socketpair, sockopt, AddressFamily, SockFlag, SockType};

use crate::export::nbd_server::connection::{Connection, Socket};
use crate::export::nbd_server::server::Export;
use crate::export::request::{Backend, Limits};
use crate::sys::process::STACK_BYTES;

/// Room in the socket for some of the largest requests and replies: fewer switches between the kernel and this program.
const SOCKET_BYTES: usize = 4 << 20;

/// One end of the socket pair being served.
pub struct Service {
    connection: Arc<Connection>,
    threads: Vec<JoinHandle<()>>,
}

impl Service {
    /// Starts to serve. Returns the end for the kernel.
    ///
    /// # Errors
    /// No socket, no thread.
    pub fn start(backend: Arc<dyn Backend>, limits: Limits, name: &str) -> io::Result<(Service, OwnedFd)> {
        let (own, kernel) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
        for end in [&own, &kernel] {
            // Beyond the limit of the system, where this is allowed.
            let _ = setsockopt(end, sockopt::SndBufForce, &SOCKET_BYTES)
                .or_else(|_| setsockopt(end, sockopt::SndBuf, &SOCKET_BYTES));
        }
        let connection = Connection::new(Socket(own), Export::new(backend, limits), name.to_owned());
        let mut service = Service { connection, threads: Vec::new() };
        let reader = Arc::clone(&service.connection);
        let sender = Arc::clone(&service.connection);
        let started = spawn(format!("{name}-nbd"), move || reader.serve())
            .map(|thread| service.threads.push(thread))
            .and_then(|()| spawn(format!("{name}-reply"), move || sender.send_replies()))
            .map(|thread| service.threads.push(thread));
        match started {
            Ok(()) => Ok((service, kernel)),
            Err(error) => {
                service.finish();
                Err(error)
            }
        }
    }

    /// Whether nobody has the other end.
    pub fn is_hung_up(&self) -> bool {
        let own = self.connection.descriptor();
        let mut polled = [PollFd::new(own, PollFlags::empty())];
        let hung_up = PollFlags::POLLHUP;
        poll(&mut polled, PollTimeout::ZERO).is_ok()
            && polled[0].revents().is_some_and(|seen| seen.contains(hung_up))
    }

    /// The new size, against which requests are checked from now on.
    pub fn resize(&self, size_bytes: u64) {
        self.connection.export.resize(size_bytes);
    }

    /// Ends the service. The kernel has given its requests up, or has none: answers that still come go nowhere.
    pub fn finish(&mut self) {
        self.connection.abandon();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(run)
}
