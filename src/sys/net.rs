//! TCP sockets as DRBD sets them up (spec/wire.md 1.2, 1.6).

use std::io::{self, IoSlice, Write};
use std::mem::size_of;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{addr_of, addr_of_mut};
use std::time::{Duration, Instant};

use nix::poll::{poll, PollFd, PollFlags, PollTimeout};

/// Sizes of the kernel's buffers of a socket in bytes; 0 leaves the choice to the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BufferSizes {
    /// `sndbuf-size`.
    pub send: u32,
    /// `rcvbuf-size`.
    pub receive: u32,
}

/// Which of a connection's two sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Data, state and requests.
    Data,
    /// Acknowledgements and pings.
    Meta,
}

const TC_PRIO_INTERACTIVE_BULK: i32 = 4;
const TC_PRIO_INTERACTIVE: i32 = 6;
const BACKLOG: i32 = 5;

/// A socket that listens on `local`.
///
/// # Errors
/// The system's; "address in use" and "cannot assign" are the ones an administrator meets.
pub fn listen(local: SocketAddr, buffers: BufferSizes) -> io::Result<TcpListener> {
    let socket = new_socket(&local, buffers)?;
    bind(&socket, &local)?;
    // SAFETY: a call on a descriptor that we own.
    #[allow(unsafe_code)]
    check(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
    Ok(TcpListener::from(socket))
}

/// Waits up to `timeout` for a connection. `None`: nobody came, or the one who did had left again.
///
/// # Errors
/// The listening socket is unusable.
pub fn accept(listener: &TcpListener, timeout: Duration) -> io::Result<Option<(TcpStream, SocketAddr)>> {
    let deadline = Instant::now() + timeout;
    if !wait_for(listener, PollFlags::POLLIN, deadline)? {
        return Ok(None);
    }
    listener.set_nonblocking(true)?;
    match listener.accept() {
        Ok((stream, peer)) => {
            stream.set_nonblocking(false)?;
            Ok(Some((stream, peer)))
        }
        Err(error) if is_transient(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a connection attempt can end in without anything being wrong with the listening socket.
fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | ConnectionAborted | ConnectionReset | TimedOut)
}

/// Connects to `remote` from `local` (any port of it), in at most `timeout`.
///
/// # Errors
/// `TimedOut`, or what the system says (refused, unreachable, cannot assign `local`).
pub fn connect(
    local: Option<IpAddr>,
    remote: SocketAddr,
    buffers: BufferSizes,
    timeout: Duration,
) -> io::Result<TcpStream> {
    let deadline = Instant::now() + timeout;
    let stream = connect_start(local, remote, buffers)?;
    if !wait_for(&stream, PollFlags::POLLOUT, deadline)? {
        return Err(io::ErrorKind::TimedOut.into());
    }
    connect_finish(&stream)?;
    Ok(stream)
}

/// Begins to connect. The socket is in non-blocking mode and becomes writable when the attempt has ended.
///
/// # Errors
/// The system's (cannot assign `local`, unreachable, refused at once).
pub fn connect_start(
    local: Option<IpAddr>,
    remote: SocketAddr,
    buffers: BufferSizes,
) -> io::Result<TcpStream> {
    let socket = new_socket(&remote, buffers)?;
    if let Some(local) = local {
        bind(&socket, &SocketAddr::new(local, 0))?;
    }
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(true)?;
    let (address, len) = raw_address(&remote);
    // SAFETY: `address` holds a socket address of `len` bytes.
    #[allow(unsafe_code)]
    let result = check(unsafe { libc::connect(stream.as_raw_fd(), (addr_of!(address)).cast(), len) });
    match result {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(stream),
    }
}

/// Ends an attempt whose socket has become writable; the socket is in blocking mode then.
///
/// # Errors
/// Why the attempt failed.
pub fn connect_finish(stream: &TcpStream) -> io::Result<()> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    stream.set_nonblocking(false)
}

/// Options of an established socket: SO_REUSEADDR, TCP_NODELAY, priority. Time-outs are set apart.
///
/// # Errors
/// The system refuses an option; the connection is of no use then.
pub fn configure(stream: &TcpStream, channel: Channel) -> io::Result<()> {
    set_option(stream, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    stream.set_nodelay(true)?;
    let priority = match channel {
        Channel::Data => TC_PRIO_INTERACTIVE_BULK,
        Channel::Meta => TC_PRIO_INTERACTIVE,
    };
    set_option(stream, libc::SOL_SOCKET, libc::SO_PRIORITY, priority)
}

/// How long a send may wait; `None` = for ever. (A zero duration is taken as the shortest, not as `None`.)
///
/// # Errors
/// The system's.
pub fn set_send_timeout(stream: &TcpStream, timeout: Option<Duration>) -> io::Result<()> {
    stream.set_write_timeout(timeout.map(at_least_a_tick))
}

/// How long a receive may wait; `None` = for ever.
///
/// # Errors
/// The system's.
pub fn set_receive_timeout(stream: &TcpStream, timeout: Option<Duration>) -> io::Result<()> {
    stream.set_read_timeout(timeout.map(at_least_a_tick))
}

fn at_least_a_tick(timeout: Duration) -> Duration {
    timeout.max(Duration::from_millis(1))
}

/// Holds small segments back (`true`) or lets them go. Errors are those of a dead connection, which the next send sees.
pub fn cork(stream: &TcpStream, on: bool) {
    let _ = set_option(stream, libc::IPPROTO_TCP, libc::TCP_CORK, i32::from(on));
}

/// Sends the acknowledgement of what was received now instead of later.
pub fn quickack(stream: &TcpStream) {
    let _ = set_option(stream, libc::IPPROTO_TCP, libc::TCP_QUICKACK, 1);
}

/// Liveness test of spec/wire.md 1.6: peeks, without waiting. `false`: closed by the peer or broken.
pub fn is_alive(stream: &TcpStream) -> bool {
    let mut bytes = [0u8; 4];
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the buffer is as long as stated.
    #[allow(unsafe_code)]
    let got = unsafe { libc::recv(stream.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), flags) };
    match got {
        0 => false,
        n if n > 0 => true,
        _ => {
            let kind = io::Error::last_os_error().kind();
            matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
        }
    }
}

/// Bytes that were sent and not yet acknowledged by the peer's TCP (for congestion control); 0 if unknown.
pub fn unacknowledged_bytes(stream: &TcpStream) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the ioctl SIOCOUTQ (= TIOCOUTQ) writes one int.
    #[allow(unsafe_code)]
    let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, addr_of_mut!(bytes)) };
    if result < 0 {
        0
    } else {
        usize::try_from(bytes).unwrap_or(0)
    }
}

/// Sends all `parts`, in order, with as few calls as possible.
///
/// `progress` counts the bytes that were taken over by the kernel, also when an error ends the call, so that a caller
/// with a send time-out can tell a slow peer (progress since the last call) from a dead one and go on at that place.
///
/// # Errors
/// `WouldBlock` after the send time-out; else those of the connection.
pub fn write_all_vectored(mut stream: &TcpStream, parts: &[&[u8]], progress: &mut usize) -> io::Result<()> {
    const SLICES: usize = 16;
    let mut skip = *progress;
    let mut first = 0;
    loop {
        while first < parts.len() && skip >= parts[first].len() {
            skip -= parts[first].len();
            first += 1;
        }
        if first == parts.len() {
            return Ok(());
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut used = 0;
        for part in parts[first..].iter().take(SLICES) {
            slices[used] = IoSlice::new(if used == 0 { &part[skip..] } else { part });
            used += 1;
        }
        match stream.write_vectored(&slices[..used]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(sent) => {
                skip += sent;
                *progress += sent;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn new_socket(address: &SocketAddr, buffers: BufferSizes) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no memory is passed. musl falls back where the kernel does not know SOCK_CLOEXEC.
    #[allow(unsafe_code)]
    let fd = check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: a descriptor that was just made and belongs to nobody else.
    #[allow(unsafe_code)]
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    // These must precede bind, listen and connect: the TCP window scale is chosen there.
    if buffers.send != 0 {
        set_option(&socket, libc::SOL_SOCKET, libc::SO_SNDBUF, clamp(buffers.send))?;
    }
    if buffers.receive != 0 {
        set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, clamp(buffers.receive))?;
    }
    Ok(socket)
}

fn clamp(bytes: u32) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

fn bind(socket: &OwnedFd, address: &SocketAddr) -> io::Result<()> {
    let (address, len) = raw_address(address);
    // SAFETY: `address` holds a socket address of `len` bytes.
    #[allow(unsafe_code)]
    check(unsafe { libc::bind(socket.as_raw_fd(), (addr_of!(address)).cast(), len) })?;
    Ok(())
}

fn raw_address(address: &SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all zeroes is a valid sockaddr_storage.
    #[allow(unsafe_code)]
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let len = match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is large enough and aligned for every address family.
            #[allow(unsafe_code)]
            unsafe {
                (addr_of_mut!(storage)).cast::<libc::sockaddr_in>().write(raw)
            };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            #[allow(unsafe_code)]
            unsafe {
                (addr_of_mut!(storage)).cast::<libc::sockaddr_in6>().write(raw)
            };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, len as libc::socklen_t)
}

fn set_option(socket: &impl AsRawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the option's value is an int, passed with its size.
    #[allow(unsafe_code)]
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (addr_of!(value)).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

fn wait_for(socket: &impl AsFd, event: PollFlags, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up: a wait must not turn into a busy loop in its last millisecond.
        let ms = left.as_micros().div_ceil(1000);
        let timeout = PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(socket.as_fd(), event)], timeout) {
            Ok(0) if Instant::now() >= deadline => return Ok(false),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::Ipv4Addr;

    fn pair() -> (TcpStream, TcpStream) {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = listen(any, BufferSizes { send: 65536, receive: 65536 }).unwrap();
        let address = listener.local_addr().unwrap();
        let local = Some(IpAddr::from(Ipv4Addr::new(127, 0, 0, 2)));
        let near = connect(local, address, BufferSizes::default(), Duration::from_secs(5)).unwrap();
        let (far, peer) = accept(&listener, Duration::from_secs(5)).unwrap().unwrap();
        assert_eq!(Some(peer.ip()), local, "the source address is the configured one");
        (near, far)
    }

    #[test]
    fn sockets_carry_all_parts_in_order() {
        let (near, mut far) = pair();
        configure(&near, Channel::Data).unwrap();
        configure(&far, Channel::Meta).unwrap();
        let many: Vec<Vec<u8>> = (0..40u8).map(|n| vec![n; usize::from(n)]).collect();
        let parts: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
        let mut progress = 0;
        cork(&near, true);
        write_all_vectored(&near, &parts, &mut progress).unwrap();
        cork(&near, false);
        let expected = many.concat();
        assert_eq!(progress, expected.len());
        let mut got = vec![0; expected.len()];
        far.read_exact(&mut got).unwrap();
        quickack(&far);
        assert_eq!(got, expected);
    }

    #[test]
    fn a_send_that_timed_out_goes_on_where_it_stopped() {
        let (near, mut far) = pair();
        set_send_timeout(&near, Some(Duration::from_millis(1))).unwrap();
        let bytes: Vec<u8> = (0..8u32 << 20).map(|n| (n / 251) as u8).collect();
        let mut progress = 0;
        let error = write_all_vectored(&near, &[&bytes], &mut progress).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(progress > 0 && progress < bytes.len());
        assert!(unacknowledged_bytes(&near) > 0);
        set_send_timeout(&near, None).unwrap();
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; 8 << 20];
            far.read_exact(&mut got).map(|()| got)
        });
        write_all_vectored(&near, &[&bytes], &mut progress).unwrap();
        assert!(reader.join().unwrap().unwrap() == bytes);
    }

    #[test]
    fn liveness_sees_a_closed_peer_and_leaves_data_alone() {
        let (near, mut far) = pair();
        assert!(is_alive(&near));
        far.write_all(b"hello").unwrap();
        let mut pollfd = [PollFd::new(near.as_fd(), PollFlags::POLLIN)];
        poll(&mut pollfd, PollTimeout::from(5000u16)).unwrap();
        assert!(is_alive(&near));
        let mut got = [0; 5];
        (&near).read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
        drop(far);
        poll(&mut pollfd, PollTimeout::from(5000u16)).unwrap();
        assert!(!is_alive(&near));
    }

    #[test]
    fn accept_and_connect_give_up_in_time() {
        let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), BufferSizes::default()).unwrap();
        assert!(accept(&listener, Duration::from_millis(2)).unwrap().is_none());
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = connect(None, address, BufferSizes::default(), Duration::from_secs(5)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
