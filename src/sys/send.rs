//! Sending that never waits, for threads that have something better to do than to wait for a slow
//! peer, and reading that tells "nothing there" from "closed".

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

/// Most parts in one call.
const PARTS_MAX: usize = 64;

/// Sends what the socket takes now of all `parts` behind the first `progress` bytes, and adds what it took to
/// `progress`. `Ok(true)`: everything was taken.
///
/// With `wait` it blocks until everything was taken; it then fails with `WouldBlock` when the socket's
/// send time-out passed without any progress.
///
/// # Errors
/// Those of the connection.
pub fn send_parts(stream: &TcpStream, parts: &[&[u8]], progress: &mut usize, wait: bool) -> io::Result<bool> {
    let mut skip = *progress;
    let mut first = 0;
    loop {
        while first < parts.len() && skip >= parts[first].len() {
            skip -= parts[first].len();
            first += 1;
        }
        if first == parts.len() {
            return Ok(true);
        }
        match send_some(stream, &parts[first..], skip, wait) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(sent) => {
                skip += sent;
                *progress += sent;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !wait => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// One sendmsg(2) of the parts, without the first `skip` bytes of the first.
fn send_some(stream: &TcpStream, parts: &[&[u8]], skip: usize, wait: bool) -> io::Result<usize> {
    let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    let mut vectors = [empty; PARTS_MAX];
    let mut used = 0;
    for part in parts.iter().take(PARTS_MAX) {
        let part = if used == 0 { &part[skip..] } else { part };
        vectors[used] = libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
        used += 1;
    }
    // SAFETY: all zeroes is a valid msghdr.
    #[allow(unsafe_code)]
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = used as _;
    let flags = libc::MSG_NOSIGNAL | if wait { 0 } else { libc::MSG_DONTWAIT };
    // SAFETY: the vectors point to bytes that are borrowed for the whole call, which only reads them.
    #[allow(unsafe_code)]
    let sent = unsafe { libc::sendmsg(stream.as_raw_fd(), &message, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Reads what is there now. `Ok(None)`: nothing; `Ok(Some(0))`: the peer has closed.
///
/// # Errors
/// Those of the connection.
pub fn receive_now(stream: &TcpStream, into: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        // SAFETY: the buffer is as long as stated.
        #[allow(unsafe_code)]
        let got = unsafe {
            libc::recv(stream.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT)
        };
        if let Ok(got) = usize::try_from(got) {
            return Ok(Some(got));
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock => return Ok(None),
            _ => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn what_a_full_socket_did_not_take_is_sent_later() {
        let (near, mut far) = pair();
        let bytes: Vec<u8> = (0..16u32 << 20).map(|n| (n / 251) as u8).collect();
        let parts: Vec<&[u8]> = bytes.chunks(100_000).collect();
        let mut progress = 0;
        assert!(!send_parts(&near, &parts, &mut progress, false).unwrap());
        assert!(progress > 0 && progress < bytes.len());
        let len = bytes.len();
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; len];
            far.read_exact(&mut got).map(|()| got)
        });
        assert!(send_parts(&near, &parts, &mut progress, true).unwrap());
        assert_eq!(progress, len);
        assert!(reader.join().unwrap().unwrap() == bytes);
    }

    #[test]
    fn nothing_there_is_not_the_end() {
        let (near, far) = pair();
        let mut bytes = [0; 8];
        assert_eq!(receive_now(&near, &mut bytes).unwrap(), None);
        drop(far);
        let end = loop {
            if let Some(got) = receive_now(&near, &mut bytes).unwrap() {
                break got;
            }
            std::thread::yield_now();
        };
        assert_eq!(end, 0);
    }
}
