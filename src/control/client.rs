//! drbdsetup's end of the control socket: connect, ask, listen; start the daemon where that is
//! allowed. spec/decisions.md 7.1.

use super::frame;
use super::message::{Call, Event, Reply, Request};
use crate::status::Snapshot;
use crate::sys::paths;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

/// Longest time for an answer. spec/drbdsetup.md 2.8.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a daemon may take from its start until it answers.
pub const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Starts a daemon in the background; returns when it has been started, not when it answers. A
/// process that ends with success has left the daemon behind.
pub type StartDaemon = fn() -> io::Result<Child>;

/// Why the daemon gave no answer.
#[derive(Debug)]
pub enum ClientError {
    /// No connection to the socket.
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// No answer within [`REPLY_TIMEOUT`].
    Timeout,
    /// The daemon refused the question, for example 152 to somebody without privileges.
    Refused {
        /// `ERR_*` number.
        code: i32,
        /// Explanations.
        info: Vec<String>,
    },
    /// The connection broke, or the answer is none.
    Broken(io::Error),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Connect { path, error } => {
                write!(f, "Could not connect to the DRBD daemon ({}): {}", path.display(), system_text(error))
            }
            ClientError::Timeout => f.write_str("No response from the DRBD driver! Is the module loaded?"),
            ClientError::Refused { code, .. } => write!(f, "The DRBD daemon answers {code}"),
            ClientError::Broken(error) => {
                write!(f, "The DRBD daemon closed the connection: {error}")
            }
        }
    }
}

impl std::error::Error for ClientError {}

/// The system's text of an error, as C programs print it.
fn system_text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_string(),
        None => error.to_string(),
    }
}

/// A connection to the daemon, good for one call.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

impl Client {
    /// Connects to the daemon's socket.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub fn connect(path: &Path) -> Result<Client, ClientError> {
        match UnixStream::connect(path) {
            Ok(stream) => Ok(Client { stream }),
            Err(error) => Err(ClientError::Connect { path: path.to_path_buf(), error }),
        }
    }

    /// Connects; if no daemon answers, starts one and waits until it does.
    ///
    /// # Errors
    /// [`ClientError::Connect`] with the last error if it cannot be started, fails, or does not
    /// answer within [`START_TIMEOUT`].
    pub fn connect_or_start(path: &Path, start: StartDaemon) -> Result<Client, ClientError> {
        let first = match Client::connect(path) {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        let absent = matches!(&first, ClientError::Connect { error, .. } if matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
        ));
        if !absent {
            return Err(first);
        }
        let mut child = start().map_err(|error| ClientError::Connect { path: path.to_path_buf(), error })?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let failed = matches!(child.try_wait(), Ok(Some(status)) if !status.success());
            match Client::connect(path) {
                Ok(client) => return Ok(client),
                Err(error) if failed || Instant::now() >= deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// [`ClientError::Timeout`], [`ClientError::Broken`].
    pub fn call(self, call: &Call) -> Result<Reply, ClientError> {
        let mut stream = &self.stream;
        let limits = stream
            .set_read_timeout(Some(REPLY_TIMEOUT))
            .and_then(|()| stream.set_write_timeout(Some(REPLY_TIMEOUT)));
        limits.map_err(ClientError::Broken)?;
        // A daemon that refuses the client answers before it has read the request.
        let sent = frame::write(&mut stream, call);
        match (frame::read(&mut stream, frame::REPLY_MAX), sent) {
            (Ok(Some(reply)), _) => Ok(reply),
            (Ok(None), Err(error)) => Err(ClientError::Broken(error)),
            (Ok(None), Ok(())) => Err(ClientError::Broken(io::ErrorKind::UnexpectedEof.into())),
            (Err(error), _) => Err(of_read(error)),
        }
    }

    /// Asks for everything.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn snapshot(self) -> Result<Snapshot, ClientError> {
        match self.call(&Call::new(Request::Snapshot))? {
            Reply::Snapshot(snapshot) => Ok(*snapshot),
            other => Err(unexpected(other)),
        }
    }

    /// What this host's daemon has now. `None`: there is none, or it does not answer.
    pub fn look() -> Option<Snapshot> {
        Client::connect(&paths::socket()).and_then(Client::snapshot).ok()
    }

    /// Asks for events: the first one is [`super::EventKind::Start`].
    ///
    /// # Errors
    /// [`ClientError::Refused`], [`ClientError::Broken`].
    pub fn subscribe(self) -> Result<EventStream, ClientError> {
        let mut stream = &self.stream;
        stream.set_read_timeout(Some(REPLY_TIMEOUT)).map_err(ClientError::Broken)?;
        if let Err(error) = frame::write(&mut stream, &Call::new(Request::Subscribe)) {
            // A daemon that refuses the client answers before it has read the request.
            return Err(match frame::read(&mut stream, frame::REPLY_MAX) {
                Ok(Some(reply)) => unexpected(reply),
                _ => ClientError::Broken(error),
            });
        }
        Ok(EventStream { stream: self.stream })
    }
}

fn of_read(error: io::Error) -> ClientError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::Timeout,
        _ => ClientError::Broken(error),
    }
}

fn unexpected(reply: Reply) -> ClientError {
    match reply {
        Reply::Code { code, info } => ClientError::Refused { code, info },
        _ => ClientError::Broken(io::Error::new(io::ErrorKind::InvalidData, "an answer to another question")),
    }
}

/// What a wait for an event brought.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// An event.
    Event(Box<Event>),
    /// The deadline passed.
    Deadline,
    /// The descriptor to watch became ready: its reader went away.
    WatchedClosed,
}

/// The events of a daemon.
#[derive(Debug)]
pub struct EventStream {
    stream: UnixStream,
}

impl EventStream {
    /// The next event; waits for it until `deadline` (none: for ever). With `watch`, also ends
    /// when that descriptor is closed at its other end (a pipe on stdout).
    ///
    /// # Errors
    /// [`ClientError::Refused`]. [`ClientError::Broken`]: the daemon has gone. [`ClientError::Timeout`]: it stopped in the
    /// middle of an event.
    pub fn next(&mut self, deadline: Option<Instant>, watch: Option<&dyn AsFd>) -> Result<Next, ClientError> {
        let mut watch = watch;
        loop {
            let mut fds = vec![PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
            if let Some(watch) = watch {
                fds.push(PollFd::new(watch.as_fd(), PollFlags::empty()));
            }
            let wait = match deadline {
                None => PollTimeout::NONE,
                Some(at) => poll_timeout(at.saturating_duration_since(Instant::now())),
            };
            match poll(&mut fds, wait) {
                Ok(0) if deadline.is_some_and(|at| Instant::now() >= at) => return Ok(Next::Deadline),
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(ClientError::Broken(error.into())),
            }
            let watched = fds.get(1).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
            if watched.intersects(PollFlags::POLLERR | PollFlags::POLLHUP) {
                return Ok(Next::WatchedClosed);
            }
            if fds[0].any() == Some(true) {
                break;
            }
            if watched.contains(PollFlags::POLLNVAL) {
                watch = None;
            }
        }
        let mut stream = &self.stream;
        match frame::read(&mut stream, frame::REPLY_MAX).map_err(of_read)? {
            Some(Reply::Event(event)) => Ok(Next::Event(event)),
            Some(other) => Err(unexpected(other)),
            None => Err(ClientError::Broken(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

/// Whole milliseconds, rounded up, so that a wait never ends before its time.
fn poll_timeout(wait: Duration) -> PollTimeout {
    let millis = wait.as_micros().div_ceil(1000).min(i32::MAX as u128);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}
