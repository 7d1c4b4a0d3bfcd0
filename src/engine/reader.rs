//! Reads packets from a socket of a link: header, fixed part, and the payload straight into the
//! buffer that goes to the disk. spec/wire.md 2, 10.
//!
//! A read takes what there is, up to [`STASH_BYTES`], so that a small write costs one system call. The
//! part of a large payload that is not in the stash yet is read into its buffer directly.

use super::integrity;
use crate::core::state::Conn;
use crate::core::types::{Level, LinkFailure, Payload};
use crate::sys::buffer::Buffer;
use crate::sys::send::receive_now;
use crate::wire::{Consequence, Context, Digest, Frame, Header, Malformed, Packet, Socket, SECTOR_BYTES};
use std::io::{self, Read};
use std::net::TcpStream;
use std::sync::Arc;

/// Bytes that are read at a time, at most, except for payload.
const STASH_BYTES: usize = 16 << 10;

/// A received packet.
#[derive(Debug)]
pub struct Received {
    /// Volume number of its header.
    pub volume: u16,
    /// Header and fixed part.
    pub packet: Packet,
    /// Bytes behind the fixed part.
    pub payload: Option<Payload>,
}

/// Why no packet could be read.
#[derive(Debug)]
pub enum ReadError {
    /// The peer closed the connection.
    Closed,
    /// The connection is broken.
    Broken(io::Error),
    /// The peer sent something wrong.
    Malformed(Malformed),
    /// A digest does not fit its data.
    Integrity {
        /// First sector.
        sector: u64,
        /// Bytes of data.
        bytes: usize,
    },
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => ReadError::Closed,
            _ => ReadError::Broken(error),
        }
    }
}

impl From<Malformed> for ReadError {
    fn from(error: Malformed) -> ReadError {
        ReadError::Malformed(error)
    }
}

impl ReadError {
    /// What becomes of the link, and what the log says about it. spec/wire.md 9.5, spec/state.md 16.4.
    pub fn failure(&self, socket: Socket) -> LinkFailure {
        let failure = |conn, level, text: String| LinkFailure { conn, log: Some((level, text)) };
        match (self, socket) {
            (ReadError::Closed, Socket::Data) => {
                failure(Conn::BrokenPipe, Level::Info, "sock was shut down by peer".into())
            }
            (ReadError::Closed, Socket::Meta) => {
                failure(Conn::NetworkFailure, Level::Error, "meta connection shut down by peer.".into())
            }
            (ReadError::Broken(error), Socket::Data) if error.kind() == io::ErrorKind::ConnectionReset => {
                failure(Conn::BrokenPipe, Level::Info, "sock was reset by peer".into())
            }
            (ReadError::Broken(error), _) => {
                let (conn, name) = match socket {
                    Socket::Data => (Conn::BrokenPipe, "sock_recvmsg"),
                    Socket::Meta => (Conn::NetworkFailure, "sock_recvmsg"),
                };
                let number = error.raw_os_error().unwrap_or(0);
                failure(conn, Level::Error, format!("{name} returned -{number}"))
            }
            (ReadError::Malformed(error), _) => {
                let conn = match error.consequence(socket) {
                    Consequence::ProtocolError => Conn::ProtocolError,
                    Consequence::NetworkFailure => Conn::NetworkFailure,
                    Consequence::Disconnecting => Conn::Disconnecting,
                };
                failure(conn, Level::Error, error.to_string())
            }
            (ReadError::Integrity { sector, bytes }, _) => failure(
                Conn::ProtocolError,
                Level::Error,
                format!("Digest integrity check FAILED: {sector}s +{bytes}"),
            ),
        }
    }
}

/// The reading end of a socket.
#[derive(Debug)]
pub struct PacketReader {
    stream: Arc<TcpStream>,
    socket: Socket,
    context: Context,
    integrity: Option<Digest>,
    stash: Box<[u8]>,
    /// Bytes of the stash that were read and not yet used.
    start: usize,
    end: usize,
}

impl PacketReader {
    /// A reader for a socket in blocking mode without receive time-out.
    pub fn new(stream: Arc<TcpStream>, socket: Socket, context: Context) -> PacketReader {
        PacketReader {
            stream,
            socket,
            context,
            integrity: None,
            stash: vec![0; STASH_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    /// Waits for the next packet.
    ///
    /// # Errors
    /// The link is of no use any more.
    pub fn receive(&mut self) -> Result<Received, ReadError> {
        let framing = self.context.framing();
        let header = Header::decode(framing, self.take(framing.header_len())?)?;
        let frame = Frame::new(header, self.socket, &self.context)?;
        let context = self.context;
        let incoming = frame.decode(self.take(frame.fixed_len)?, &context)?;
        let payload = match frame.payload_len {
            0 => None,
            len => Some(self.payload(len)?),
        };
        if let Some(algorithm) = self.integrity {
            if integrity::is_covered(&incoming.packet) {
                let data: &[u8] = payload.as_deref().unwrap_or(&[]);
                if algorithm.compute(data) != incoming.digest {
                    return Err(ReadError::Integrity {
                        sector: sector_of(&incoming.packet),
                        bytes: data.len(),
                    });
                }
            }
        }
        if let Some(algorithm) = integrity::announced(&incoming.packet) {
            self.integrity = algorithm;
            self.context.peer_integrity_len = algorithm.map_or(0, Digest::len);
        }
        Ok(Received { volume: incoming.volume, packet: incoming.packet, payload })
    }

    /// Whether the beginning of the next packet is here already.
    pub fn has_more(&self) -> bool {
        self.start < self.end
    }

    /// Whether nothing has come behind the last packet. Looks into the socket, without waiting.
    pub fn is_idle(&mut self) -> bool {
        if self.has_more() {
            return false;
        }
        self.start = 0;
        self.end = 0;
        match receive_now(&self.stream, &mut self.stash) {
            Ok(Some(count)) => {
                self.end = count;
                // The end of the stream is found again by the next read.
                count == 0
            }
            Ok(None) | Err(_) => true,
        }
    }

    /// The next `count` bytes.
    fn take(&mut self, count: usize) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
        if self.stash.len() - self.start < count {
            self.stash.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end - self.start < count {
            let got = read_some(&self.stream, &mut self.stash[self.end..])?;
            self.end += got;
        }
        let taken = self.start..self.start + count;
        self.start += count;
        Ok(&self.stash[taken])
    }

    /// The next `len` bytes in a buffer of their own.
    fn payload(&mut self, len: usize) -> io::Result<Payload> {
        let mut buffer = Buffer::for_overwrite(len);
        let have = len.min(self.end - self.start);
        buffer[..have].copy_from_slice(&self.stash[self.start..self.start + have]);
        self.start += have;
        let mut filled = have;
        while filled < len {
            filled += read_some(&self.stream, &mut buffer[filled..])?;
        }
        debug_assert!(len % SECTOR_BYTES as usize == 0 || self.socket == Socket::Data);
        Ok(Payload::whole(Arc::new(buffer)))
    }
}

/// Reads at least one byte.
fn read_some(mut stream: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(into) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn sector_of(packet: &Packet) -> u64 {
    match packet {
        Packet::Data(data) => data.sector,
        Packet::DataReply(reply) | Packet::RsDataReply(reply) => reply.sector,
        Packet::WriteSame(range) => range.sector,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Data, DataFlags, Protocol, ProtocolVersion};
    use std::io::Write;
    use std::net::{Shutdown, TcpListener};

    fn pair() -> (PacketReader, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let near = Arc::new(listener.accept().unwrap().0);
        let context = Context::new(ProtocolVersion::MAX);
        (PacketReader::new(near, Socket::Data, context), far)
    }

    fn data(sector: u64) -> Packet {
        Packet::Data(Data { sector, block_id: 1, seq: 1, flags: DataFlags(0) })
    }

    fn bytes_of(packet: &Packet, digest: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        packet.encode_into(&mut out, 2, ProtocolVersion::MAX, digest, payload.len());
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn packets_come_out_as_they_went_in_however_they_are_cut() {
        let (mut reader, mut far) = pair();
        let sizes = [512, 4096, 0, 65536, 1 << 20, 512, 12288];
        let mut stream = Vec::new();
        for (number, &size) in sizes.iter().enumerate() {
            stream.extend(bytes_of(&data(number as u64), &[], &vec![number as u8; size]));
            stream.extend(bytes_of(&Packet::State(number as u32), &[], &[]));
        }
        let writer = std::thread::spawn(move || {
            for piece in stream.chunks(7001) {
                far.write_all(piece).unwrap();
            }
            far
        });
        for (number, &size) in sizes.iter().enumerate() {
            let received = reader.receive().unwrap();
            assert_eq!(received.packet, data(number as u64));
            assert_eq!(received.volume, 2);
            let payload: &[u8] = received.payload.as_deref().unwrap_or(&[]);
            assert_eq!(payload.len(), size);
            assert!(payload.iter().all(|&b| b == number as u8));
            assert_eq!(reader.receive().unwrap().packet, Packet::State(number as u32));
        }
        assert!(reader.is_idle());
        drop(writer.join().unwrap());
        assert!(matches!(reader.receive(), Err(ReadError::Closed)));
    }

    #[test]
    fn a_digest_counts_from_the_packet_that_announces_it_on() {
        let (mut reader, mut far) = pair();
        let announce = Packet::Protocol(Protocol {
            protocol: 3,
            after_sb_0p: 0,
            after_sb_1p: 0,
            after_sb_2p: 0,
            conn_flags: 0,
            two_primaries: 0,
            integrity_alg: "md5".into(),
        });
        let payload = [5; 1024];
        let digest = Digest::Md5.compute(&payload);
        far.write_all(&bytes_of(&data(1), &[], &payload)).unwrap();
        far.write_all(&bytes_of(&announce, &[], &[])).unwrap();
        far.write_all(&bytes_of(&data(2), &digest, &payload)).unwrap();
        let wrong = bytes_of(&data(3), &digest, &[6; 1024]);
        far.write_all(&wrong).unwrap();
        for _ in 0..3 {
            reader.receive().unwrap();
        }
        let error = reader.receive().unwrap_err();
        let failure = error.failure(Socket::Data);
        assert_eq!(failure.conn, Conn::ProtocolError);
        assert_eq!(failure.log.unwrap().1, "Digest integrity check FAILED: 3s +1024");
    }

    #[test]
    fn noise_is_a_protocol_error() {
        let (mut reader, mut far) = pair();
        far.write_all(&[0xaa; 64]).unwrap();
        far.shutdown(Shutdown::Write).unwrap();
        let error = reader.receive().unwrap_err();
        assert_eq!(error.failure(Socket::Data).conn, Conn::ProtocolError);
    }
}
