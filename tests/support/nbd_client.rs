//! A client of an NBD server: "fixed newstyle" negotiation, simple replies.

#![allow(dead_code)] // each user needs a part of it

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Types of requests.
pub const READ: u16 = 0;
pub const WRITE: u16 = 1;
pub const FLUSH: u16 = 3;

const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("NBD: {what}"))
}

fn be32(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |value, byte| value << 8 | u32::from(*byte))
}

fn be64(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// A connection.
pub struct NbdClient {
    pub stream: UnixStream,
    /// Size of the export in bytes, as it was said by [`NbdClient::go`].
    pub size_bytes: u64,
}

impl NbdClient {
    /// Connects, up to the choice of the export.
    pub fn greet(path: &Path) -> io::Result<NbdClient> {
        let mut stream = UnixStream::connect(path)?;
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting)?;
        if &greeting[..16] != b"NBDMAGICIHAVEOPT" {
            return Err(malformed("not a server of this protocol"));
        }
        stream.write_all(&3u32.to_be_bytes())?;
        Ok(NbdClient { stream, size_bytes: 0 })
    }

    /// Connects to an export.
    pub fn connect(path: &Path, export: &str) -> io::Result<NbdClient> {
        let mut client = NbdClient::greet(path)?;
        client.go(export)?;
        Ok(client)
    }

    /// Chooses the export; requests may follow.
    pub fn go(&mut self, export: &str) -> io::Result<()> {
        let mut query = (export.len() as u32).to_be_bytes().to_vec();
        query.extend(export.as_bytes());
        query.extend([0, 0]);
        self.option(OPTION_GO, &query)?;
        loop {
            match self.option_reply()? {
                (REPLY_ACK, _) => return Ok(()),
                (REPLY_INFO, data) if data.len() == 12 && data[..2] == [0, 0] => {
                    self.size_bytes = be64(&data[2..]);
                }
                _ => {}
            }
        }
    }

    pub fn option(&mut self, number: u32, data: &[u8]) -> io::Result<()> {
        let mut bytes = b"IHAVEOPT".to_vec();
        bytes.extend(number.to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        self.stream.write_all(&bytes)
    }

    /// Type and data of a reply to an option.
    pub fn option_reply(&mut self) -> io::Result<(u32, Vec<u8>)> {
        let mut header = [0; 20];
        self.stream.read_exact(&mut header)?;
        let kind = be32(&header[12..]);
        if kind >= 1 << 31 {
            return Err(malformed(&format!("refused: {kind:x}")));
        }
        let mut data = vec![0; be32(&header[16..]) as usize];
        self.stream.read_exact(&mut data)?;
        Ok((kind, data))
    }

    pub fn send(
        &mut self,
        flags: u16,
        command: u16,
        cookie: u64,
        offset: u64,
        length: u32,
        data: &[u8],
    ) -> io::Result<()> {
        let mut bytes = REQUEST_MAGIC.to_be_bytes().to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes.extend(command.to_be_bytes());
        bytes.extend(cookie.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(data);
        self.stream.write_all(&bytes)
    }

    /// Error number and cookie of the next reply.
    pub fn reply(&mut self) -> io::Result<(u32, u64)> {
        let mut header = [0; 16];
        self.stream.read_exact(&mut header)?;
        if be32(&header) != REPLY_MAGIC {
            return Err(malformed("no reply where one must be"));
        }
        Ok((be32(&header[4..]), be64(&header[8..])))
    }

    /// Sends a request and waits until it was carried out; the data of a read are still to come.
    pub fn perform(&mut self, command: u16, offset: u64, length: u32, data: &[u8]) -> io::Result<()> {
        self.send(0, command, 99, offset, length, data)?;
        match self.reply()? {
            (0, 99) => Ok(()),
            (0, _) => Err(malformed("the reply to another request")),
            (error, _) => Err(io::Error::from_raw_os_error(error as i32)),
        }
    }
}
