//! The least that a synchronous mirror in user space can be: a write goes to the peer and to the disk, and is done when both
//! are. One thread on each side, one write at a time; no activity log, no epochs, no flushes, nothing that would survive
//! a failure. What it makes at queue depth 1 is what the machine lets any mirror make.

use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;

use drbdbox::export::request::{Answer, Backend, Operation, Request};
use drbdbox::sys::block_device::BlockDevice;
use drbdbox::sys::buffer::Buffer;

use super::{carry_out, errno_of};

/// Before the data: the offset and the length in bytes, little endian. The peer's answer is the same again.
const HEADER_LEN: usize = 16;
/// The longest write.
const MAX_WRITE: usize = 1 << 20;

/// The side with the door.
pub struct Mirror {
    disk: BlockDevice,
    peer: Mutex<TcpStream>,
}

impl Mirror {
    /// With `disk` on this side and the [`serve_peer`] that listens at `peer`, ADDRESS:PORT.
    pub fn connect(disk: BlockDevice, peer: &str) -> Result<Mirror, String> {
        let stream = TcpStream::connect(peer)
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|error| format!("{peer}: {error}"))?;
        Ok(Mirror { disk, peer: Mutex::new(stream) })
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        let mut peer = self.peer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut header = [0; HEADER_LEN];
        header[..8].copy_from_slice(&offset.to_le_bytes());
        header[8..].copy_from_slice(&(data.len() as u64).to_le_bytes());
        let sent = peer.write_vectored(&[IoSlice::new(&header), IoSlice::new(data)])?;
        if sent < HEADER_LEN + data.len() {
            peer.write_all(&header[sent.min(HEADER_LEN)..])?;
            peer.write_all(&data[sent.saturating_sub(HEADER_LEN)..])?;
        }
        self.disk.write_at(offset, data)?;
        peer.read_exact(&mut header)
    }
}

impl Backend for Mirror {
    fn size_bytes(&self) -> u64 {
        self.disk.size_bytes()
    }

    fn submit(&self, request: Request) {
        let answer: Answer = match (request.operation, &request.payload) {
            (Operation::Write, Some(payload)) => self
                .write(request.offset, &payload[..request.len as usize])
                .map(|()| None)
                .map_err(|error| errno_of(&error)),
            (Operation::Read | Operation::Flush, _) => carry_out(&self.disk, &request),
            _ => Err(Errno::EOPNOTSUPP),
        };
        request.done.complete(answer);
    }
}

/// The other side: listens at `address`, takes one connection, writes what comes, until it ends.
pub fn serve_peer(disk: &BlockDevice, address: &str) -> Result<(), String> {
    let listener = TcpListener::bind(address).map_err(|error| format!("{address}: {error}"))?;
    println!("{address}");
    let (stream, _) = listener.accept().map_err(|error| format!("{address}: {error}"))?;
    match take_writes(disk, stream) {
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(error.to_string()),
        _ => Ok(()),
    }
}

fn take_writes(disk: &BlockDevice, mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut data = Buffer::for_overwrite(MAX_WRITE);
    let mut header = [0; HEADER_LEN];
    loop {
        stream.read_exact(&mut header)?;
        let [offset, len] = [&header[..8], &header[8..]]
            .map(|half| half.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte)));
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > MAX_WRITE {
            return Err(std::io::Error::other(format!("a write of {len} bytes: the limit is {MAX_WRITE}")));
        }
        stream.read_exact(&mut data[..len])?;
        disk.write_at(offset, &data[..len])?;
        stream.write_all(&header)?;
    }
}
