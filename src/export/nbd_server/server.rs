//! The listening socket, the table of exports, and the door that an export is.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket as net;
use nix::sys::stat::{fchmod, Mode};

use super::connection::{Connection, Socket};
use super::negotiate::{negotiate, Description, Exports};
use crate::export::door::{Detach, DeviceNumber, Door, DoorError, Holder};
use crate::export::request::{Backend, Limits};
use crate::sys::process::STACK_BYTES;
use crate::sys::sync::{Condvar, Mutex, MutexGuard};

/// Clients of one server at a time, negotiating or served.
const MAX_CLIENTS: usize = 128;
/// How long a client may be silent in the negotiation.
const NEGOTIATION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client that has closed its end may be seen here.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A socket file, mode 0600. A stale one is replaced.
    Unix(PathBuf),
    /// A TCP address. Anyone who reaches it can read and write the device.
    Tcp(SocketAddr),
}

/// A server that listens. Dropping it ends all connections and removes the socket file.
pub struct NbdServer {
    table: Arc<Table>,
    socket: Arc<OwnedFd>,
    listen: Listen,
    acceptor: Option<JoinHandle<()>>,
}

impl NbdServer {
    /// Starts to listen. There are no exports yet.
    ///
    /// # Errors
    /// [`DoorError::System`]: the address is in use or not ours.
    pub fn listen(listen: Listen) -> Result<NbdServer, DoorError> {
        let (socket, listen) = match &listen {
            Listen::Unix(path) => {
                let socket = listen_unix(path)
                    .map_err(|error| DoorError::system(format!("listen on {}", path.display()), error))?;
                (socket, listen)
            }
            Listen::Tcp(address) => {
                let failed = |error| DoorError::system(format!("listen on {address}"), error);
                let listener = crate::sys::net::listen(*address, Default::default()).map_err(failed)?;
                let address = listener.local_addr().map_err(failed)?;
                (OwnedFd::from(listener), Listen::Tcp(address))
            }
        };
        let table = Arc::new(Table::default());
        let socket = Arc::new(socket);
        let acceptor = {
            let (table, socket) = (Arc::clone(&table), Arc::clone(&socket));
            spawn("nbd-accept", move || accept_clients(&table, &socket))
                .map_err(|error| DoorError::system("start a thread", error))?
        };
        Ok(NbdServer { table, socket, listen, acceptor: Some(acceptor) })
    }

    /// Where it listens; with TCP port 0 the port that the system chose.
    pub fn address(&self) -> &Listen {
        &self.listen
    }

    /// A door, detached, whose export will have this name: that of the resource, or RES/VOLUME.
    pub fn door(&self, name: &str) -> NbdDoor {
        NbdDoor { table: Arc::clone(&self.table), name: name.to_owned(), export: None }
    }
}

impl Drop for NbdServer {
    fn drop(&mut self) {
        self.table.stopping.store(true, Ordering::Release);
        let _ = net::shutdown(self.socket.as_raw_fd(), net::Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        if let Listen::Unix(path) = &self.listen {
            let _ = std::fs::remove_file(path);
        }
        let exports = std::mem::take(&mut *self.table.lock());
        for export in exports.values() {
            export.close();
        }
    }
}

/// The exports of a server.
#[derive(Default)]
struct Table {
    exports: Mutex<BTreeMap<String, Arc<Export>>>,
    clients: AtomicUsize,
    stopping: AtomicBool,
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Export>>> {
        self.exports.lock()
    }

    fn find(&self, name: &str) -> Option<Arc<Export>> {
        let exports = self.lock();
        match exports.get(name) {
            None if name.is_empty() && exports.len() == 1 => exports.values().next().cloned(),
            found => found.cloned(),
        }
    }
}

/// The table, as one client's negotiation sees it.
struct View<'a> {
    table: &'a Table,
    socket: Cell<Option<Socket>>,
    client: &'a str,
}

/// A connection's place among the users of its export.
struct Member(Arc<Connection>);

impl Drop for Member {
    fn drop(&mut self) {
        self.0.export.leave(&self.0);
    }
}

impl Exports for View<'_> {
    type Export = Member;

    fn names(&self) -> Vec<String> {
        self.table.lock().keys().cloned().collect()
    }

    fn describe(&self, name: &str) -> Option<Description> {
        self.table.find(name).map(|export| export.describe())
    }

    fn enter(&self, name: &str) -> Option<(Description, Member)> {
        let export = self.table.find(name)?;
        let mut users = export.lock();
        if users.closed {
            return None;
        }
        let socket = self.socket.take()?;
        let connection = Connection::new(socket, Arc::clone(&export), self.client.to_owned());
        users.connections.push(Arc::clone(&connection));
        drop(users);
        Some((export.describe(), Member(connection)))
    }
}

/// One exported device.
pub struct Export {
    /// Who answers.
    pub backend: Arc<dyn Backend>,
    /// What it could do at attachment.
    pub limits: Limits,
    size_bytes: AtomicU64,
    users: Mutex<Users>,
    /// A connection ended.
    left: Condvar,
}

#[derive(Default)]
struct Users {
    connections: Vec<Arc<Connection>>,
    /// No more clients are let in.
    closed: bool,
}

impl Export {
    /// A device without users.
    pub fn new(backend: Arc<dyn Backend>, limits: Limits) -> Arc<Export> {
        let size_bytes = AtomicU64::new(backend.size_bytes());
        Arc::new(Export { backend, limits, size_bytes, users: Mutex::default(), left: Condvar::new() })
    }

    /// The size against which requests are checked from now on.
    pub fn resize(&self, size_bytes: u64) {
        self.size_bytes.store(size_bytes, Ordering::Release);
    }

    /// Size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes.load(Ordering::Acquire)
    }

    fn describe(&self) -> Description {
        Description { size_bytes: self.size_bytes(), limits: self.limits }
    }

    fn lock(&self) -> MutexGuard<'_, Users> {
        self.users.lock()
    }

    fn holders(&self) -> Vec<Holder> {
        let users = self.lock();
        users.connections.iter().map(|user| Holder::Client { name: user.client.clone() }).collect()
    }

    fn leave(&self, connection: &Arc<Connection>) {
        self.lock().connections.retain(|other| !Arc::ptr_eq(other, connection));
        self.left.notify_all();
    }

    /// Ends all connections and waits until their requests are completed.
    fn close(&self) {
        let mut users = self.lock();
        users.closed = true;
        for connection in &users.connections {
            connection.end();
        }
        while !users.connections.is_empty() {
            users = self.left.wait(users);
        }
    }
}

/// An export as a door.
pub struct NbdDoor {
    table: Arc<Table>,
    name: String,
    export: Option<Arc<Export>>,
}

impl Door for NbdDoor {
    fn attach(&mut self, backend: Arc<dyn Backend>) -> Result<(), DoorError> {
        if self.export.is_some() {
            return Err(DoorError::Attached);
        }
        let limits = backend.limits();
        let export = Export::new(backend, limits);
        let mut exports = self.table.lock();
        if exports.contains_key(&self.name) {
            let step = format!("export {} by NBD: the name is taken", self.name);
            return Err(DoorError::system(step, Errno::EEXIST));
        }
        exports.insert(self.name.clone(), Arc::clone(&export));
        self.export = Some(export);
        Ok(())
    }

    fn claim(&mut self) -> Result<(), DoorError> {
        let Some(export) = &self.export else {
            return Ok(());
        };
        // A client that has just closed its end needs a moment until it is gone here too.
        let until = Instant::now() + LEAVE_LIMIT;
        let mut users = export.lock();
        while !users.connections.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            users = export.left.wait_timeout(users, left);
        }
        if users.connections.is_empty() {
            users.closed = true;
            return Ok(());
        }
        drop(users);
        Err(DoorError::HeldOpen(export.holders()))
    }

    fn release(&mut self) {
        if let Some(export) = &self.export {
            export.lock().closed = false;
        }
    }

    fn detach(&mut self, how: Detach) -> Result<(), DoorError> {
        if how == Detach::Unused {
            self.claim()?;
        }
        if let Some(export) = self.export.take() {
            let mut exports = self.table.lock();
            if exports.get(&self.name).is_some_and(|listed| Arc::ptr_eq(listed, &export)) {
                exports.remove(&self.name);
            }
            drop(exports);
            export.close();
        }
        Ok(())
    }

    /// Requests are checked against the new size at once; the protocol has no way to tell a client that is connected.
    fn resize(&mut self, size_bytes: u64) -> Result<(), DoorError> {
        if let Some(export) = &self.export {
            export.resize(size_bytes);
        }
        Ok(())
    }

    fn is_attached(&self) -> bool {
        self.export.is_some()
    }

    fn holders(&self) -> Vec<Holder> {
        self.export.as_ref().map_or_else(Vec::new, |export| export.holders())
    }

    fn device_number(&self) -> Option<DeviceNumber> {
        None
    }

    fn remove(&mut self) {
        let _ = self.detach(Detach::Forced);
    }

    fn describe(&self) -> String {
        format!("NBD export {}", self.name)
    }
}

impl Drop for NbdDoor {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Takes clients in until the server stops. Blocks in accept; starts a thread for each client.
fn accept_clients(table: &Arc<Table>, socket: &OwnedFd) {
    while !table.stopping.load(Ordering::Acquire) {
        let client = match net::accept4(socket.as_raw_fd(), net::SockFlag::SOCK_CLOEXEC) {
            // SAFETY: a new descriptor, owned by nobody else.
            #[allow(unsafe_code)]
            Ok(client) => unsafe { OwnedFd::from_raw_fd(client) },
            Err(Errno::EINTR | Errno::ECONNABORTED) => continue,
            Err(_) if table.stopping.load(Ordering::Acquire) => return,
            Err(errno) => {
                // Out of descriptors or memory: that passes.
                log::warn!("NBD server: accept: {errno}");
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        let client = Client { table: Arc::clone(table), socket: client };
        if table.clients.fetch_add(1, Ordering::AcqRel) >= MAX_CLIENTS {
            log::warn!("NBD server: more than {MAX_CLIENTS} clients");
            table.clients.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        if let Err(error) = spawn("nbd-client", move || client.serve()) {
            table.clients.fetch_sub(1, Ordering::AcqRel);
            log::warn!("NBD server: start a thread: {error}");
        }
    }
}

struct Client {
    table: Arc<Table>,
    socket: OwnedFd,
}

impl Client {
    /// Negotiates with the client and serves it.
    fn serve(self) {
        let Client { table, socket } = self;
        let name = client_name(&socket);
        if let Err(error) = serve_client(&table, socket, &name) {
            log::info!("NBD client {name}: {error}");
        }
        table.clients.fetch_sub(1, Ordering::AcqRel);
    }
}

fn serve_client(table: &Table, socket: OwnedFd, name: &str) -> io::Result<()> {
    // No effect on Unix sockets.
    let _ = net::setsockopt(&socket, net::sockopt::TcpNoDelay, &true);
    let _ = net::setsockopt(&socket, net::sockopt::KeepAlive, &true);
    let negotiation = UnixStream::from(socket.try_clone()?);
    negotiation.set_read_timeout(Some(NEGOTIATION_TIMEOUT))?;
    negotiation.set_write_timeout(Some(NEGOTIATION_TIMEOUT))?;
    let view = View { table, socket: Cell::new(Some(Socket(socket))), client: name };
    let Some(member) = negotiate(&mut &negotiation, &view)? else {
        return Ok(());
    };
    // Both descriptors are the same socket.
    negotiation.set_read_timeout(None)?;
    negotiation.set_write_timeout(None)?;
    drop(negotiation);
    let sender = Arc::clone(&member.0);
    let sender = spawn("nbd-sender", move || sender.send_replies())?;
    member.0.serve();
    let _ = sender.join();
    Ok(())
}

/// "pid 1234 (qemu-img)" or the address.
fn client_name(socket: &OwnedFd) -> String {
    if let Ok(peer) = net::getpeername::<net::SockaddrStorage>(socket.as_raw_fd()) {
        if peer.as_sockaddr_in().is_some() || peer.as_sockaddr_in6().is_some() {
            return peer.to_string();
        }
    }
    match net::getsockopt(socket, net::sockopt::PeerCredentials) {
        Ok(peer) => {
            let name = std::fs::read_to_string(format!("/proc/{}/comm", peer.pid())).unwrap_or_default();
            format!("pid {} ({})", peer.pid(), name.trim_end())
        }
        Err(_) => "unknown".to_owned(),
    }
}

fn listen_unix(path: &Path) -> io::Result<OwnedFd> {
    let address = net::UnixAddr::new(path)?;
    let new =
        || net::socket(net::AddressFamily::Unix, net::SockType::Stream, net::SockFlag::SOCK_CLOEXEC, None);
    let socket = new()?;
    // Before the name exists: nobody else can ever connect.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    match net::bind(socket.as_raw_fd(), &address) {
        Err(Errno::EADDRINUSE) if net::connect(new()?.as_raw_fd(), &address) == Err(Errno::ECONNREFUSED) => {
            std::fs::remove_file(path)?;
            net::bind(socket.as_raw_fd(), &address)?;
        }
        result => result?,
    }
    net::listen(&socket, net::Backlog::new(16)?)?;
    Ok(socket)
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(run)
}
