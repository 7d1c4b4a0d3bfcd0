//! The daemon's end of the control socket.
//!
//! One thread accepts; each client gets a thread of its own, so that a command that waits (for a
//! peer, for a handler) or a client that is slow or sends nonsense holds up nobody else. What a
//! client can cost is bounded: clients at a time, length of a request, time to send it, time to
//! take an answer, events that wait.

use super::access::{self, Access, Right};
use super::frame;
use super::hub::{now_us, Received, Subscription};
use super::message::{Call, Event, EventKind, Reply, Request};
use crate::core::codes::ConfigCode;
use crate::status::{proc, Snapshot};
use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Gid, Uid};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Clients at a time; more are refused at once.
pub const CLIENTS_MAX: usize = 128;

/// Of these, clients that may only look: they cannot keep those out who may change something.
pub const LOOKERS_MAX: usize = 96;

/// A client must have sent its request within this time, and take an answer within it.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);

/// How often an idle stream of events looks whether its reader is still there.
const IDLE: Duration = Duration::from_secs(1);

/// What the engine does for the control socket.
pub trait Service: Send + Sync + 'static {
    /// Carries out a command. May wait; several are called at the same time.
    fn handle(&self, call: Call) -> Reply;
    /// Everything, now.
    fn snapshot(&self) -> Snapshot;
    /// A new reader of the daemon's events.
    fn subscribe(&self) -> Subscription;
}

/// A running server. Dropping it closes the socket and removes it.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    stop: UnixStream,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds the socket (mode 0600, unless `access` lets somebody in) and starts to serve. A socket that refuses
    /// connections is stale and replaced. spec/decisions.md 4.
    ///
    /// # Errors
    /// `AddrInUse`: another daemon answers on it. Anything else: from the system.
    pub fn start(path: &Path, access: Access, service: Arc<dyn Service>) -> io::Result<Server> {
        remove_stale(path)?;
        let listener = UnixListener::bind(path)?;
        let (mode, group) = access.of_socket();
        // First closed to everybody, so that it never belongs to the wrong group with a mode that lets it in.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        if group.is_some() {
            nix::unistd::chown(path, None, group)?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        listener.set_nonblocking(true)?;
        let (stop, stopped) = UnixStream::pair()?;
        let acceptor = thread::Builder::new()
            .name("control".into())
            .spawn(move || accept_loop(&listener, &stopped, &Clients::new(access, service)))?;
        Ok(Server { path: path.to_path_buf(), stop, acceptor: Some(acceptor) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the acceptor has gone already.
        let _ = self.stop.shutdown(std::net::Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        let text = format!("{} exists and is no socket", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("another daemon answers on {}", path.display()),
        )),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(e) => Err(e),
    }
}

/// Accepts until `stopped` is closed at its other end. Blocks only in poll.
fn accept_loop(listener: &UnixListener, stopped: &UnixStream, clients: &Clients) {
    loop {
        let mut ready = [
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => {
                log::error!("control socket: poll: {error}");
                return;
            }
        }
        if ready[1].any() == Some(true) {
            return;
        }
        match listener.accept() {
            Ok((stream, _)) => admit(stream, clients),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                // Out of descriptors: others will be closed; do not spin until then.
                log::warn!("control socket: accept: {error}");
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// What the threads of clients have in common.
#[derive(Clone)]
struct Clients {
    access: Access,
    service: Arc<dyn Service>,
    all: Arc<AtomicUsize>,
    lookers: Arc<AtomicUsize>,
}

impl Clients {
    fn new(access: Access, service: Arc<dyn Service>) -> Clients {
        Clients { access, service, all: Arc::default(), lookers: Arc::default() }
    }
}

/// Counts a client while its thread lives.
struct Place(Arc<AtomicUsize>);

impl Place {
    /// `None`: there are `limit` already.
    fn take(count: &Arc<AtomicUsize>, limit: usize) -> Option<Place> {
        let before = count.fetch_add(1, Ordering::AcqRel);
        let place = Place(Arc::clone(count));
        if before >= limit {
            log::warn!("control socket: {before} clients already, one more refused");
            return None;
        }
        Some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Starts the thread of a client, if there is room for one more.
fn admit(stream: UnixStream, clients: &Clients) {
    let Some(place) = Place::take(&clients.all, CLIENTS_MAX) else { return };
    let clients = clients.clone();
    let spawned = thread::Builder::new().name("control client".into()).spawn(move || {
        let _place = place;
        if let Err(error) = serve(&stream, &clients) {
            log::debug!("control client: {error}");
        }
    });
    if let Err(error) = spawned {
        log::warn!("control socket: no thread for a client: {error}");
    }
}

/// Serves one client: one call, one answer or a stream of events.
fn serve(mut stream: &UnixStream, clients: &Clients) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(CLIENT_TIMEOUT))?;
    stream.set_write_timeout(Some(CLIENT_TIMEOUT))?;
    let peer = getsockopt(stream, PeerCredentials)?;
    let right = clients.access.right_of(Uid::from_raw(peer.uid()), Gid::from_raw(peer.gid()));
    if right == Right::None {
        return frame::write(&mut stream, &Reply::from(ConfigCode::Permission));
    }
    let hidden = right < Right::Change;
    let place = hidden.then(|| Place::take(&clients.lookers, LOOKERS_MAX));
    if matches!(place, Some(None)) {
        return Ok(());
    }
    let call: Call = match frame::read(&mut stream, frame::REQUEST_MAX) {
        Ok(Some(call)) => call,
        Ok(None) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            frame::write(&mut stream, &Reply::from(ConfigCode::UnknownRequest))?;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    let service = &*clients.service;
    let reply = match call.request {
        _ if hidden && !access::is_question(&call.request) => Reply::from(ConfigCode::Permission),
        Request::Snapshot => {
            let mut snapshot = service.snapshot();
            if hidden {
                access::hide_secrets(&mut snapshot);
            }
            Reply::Snapshot(Box::new(snapshot))
        }
        Request::ProcText => Reply::Text(proc::text(&service.snapshot())),
        Request::Subscribe => return stream_events(stream, service, hidden),
        _ => service.handle(call),
    };
    frame::write(&mut stream, &reply)
}

/// Sends a snapshot, then events, until the reader goes away. `hidden`: without what is not for everybody.
fn stream_events(stream: &UnixStream, service: &dyn Service, hidden: bool) -> io::Result<()> {
    // A reader that stops reading stops only its own thread; what it misses is counted.
    stream.set_write_timeout(None)?;
    // Subscribed first, so that nothing falls between; what is in both is recognized by the
    // revision of its resource.
    let subscription = service.subscribe();
    let send = |mut event: Event| {
        if hidden {
            access::hide_secrets_in(&mut event);
        }
        let mut to = stream;
        frame::write(&mut to, &Reply::Event(Box::new(event)))
    };
    send(start_event(service))?;
    loop {
        match subscription.receive(IDLE) {
            Received::Event(event) => send(Event::clone(&event))?,
            Received::Skipped(count) => {
                send(unnumbered(EventKind::Skipped(count)))?;
                send(start_event(service))?;
            }
            Received::Nothing => {
                if has_gone(stream)? {
                    return Ok(());
                }
            }
        }
    }
}

/// Whether the reader has closed its end.
fn has_gone(stream: &UnixStream) -> io::Result<bool> {
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::ZERO) {
        // A reader of events sends nothing more, so readable means end of stream too.
        Ok(n) => Ok(n > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn start_event(service: &dyn Service) -> Event {
    unnumbered(EventKind::Start(Box::new(service.snapshot())))
}

fn unnumbered(kind: EventKind) -> Event {
    Event { sequence: 0, time_us: now_us(), kind }
}
