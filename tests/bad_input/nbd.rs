//! An application: a client of a node's NBD server.

use crate::node::{Node, LIMIT};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// A connected client of one export.
pub struct Client {
    stream: UnixStream,
    /// Bytes of the device.
    pub size: u64,
}

impl Client {
    /// Opens the device of a resource.
    pub fn open(node: &Node, export: &str) -> Client {
        let mut stream = UnixStream::connect(node.path("run/nbd.sock")).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT");
        // Fixed newstyle, no zeroes; NBD_OPT_EXPORT_NAME.
        let mut bytes = 3u32.to_be_bytes().to_vec();
        bytes.extend(b"IHAVEOPT\0\0\0\x01");
        bytes.extend((export.len() as u32).to_be_bytes());
        bytes.extend(export.as_bytes());
        stream.write_all(&bytes).unwrap();
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).unwrap();
        let size = u64::from_be_bytes(answer[..8].try_into().unwrap());
        Client { stream, size }
    }

    fn request(&mut self, kind: u16, offset: u64, len: u32, payload: &[u8]) {
        let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
        bytes.extend(0u16.to_be_bytes());
        bytes.extend(kind.to_be_bytes());
        bytes.extend([7; 8]);
        bytes.extend(offset.to_be_bytes());
        bytes.extend(len.to_be_bytes());
        bytes.extend(payload);
        self.stream.write_all(&bytes).unwrap();
    }

    /// Waits for the answer: the error number, 0 for success.
    pub fn answer(&mut self) -> u32 {
        let mut answer = [0; 16];
        self.stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..4], 0x6744_6698_u32.to_be_bytes());
        u32::from_be_bytes(answer[4..8].try_into().unwrap())
    }

    /// Sends a write, and does not wait for its answer.
    pub fn start_write(&mut self, offset: u64, bytes: &[u8]) {
        self.request(1, offset, bytes.len() as u32, bytes);
    }

    /// Writes; the error number.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> u32 {
        self.start_write(offset, bytes);
        self.answer()
    }

    /// Reads, or the error number.
    pub fn read(&mut self, offset: u64, len: u32) -> Result<Vec<u8>, u32> {
        self.request(0, offset, len, &[]);
        match self.answer() {
            0 => {
                let mut bytes = vec![0; len as usize];
                self.stream.read_exact(&mut bytes).unwrap();
                Ok(bytes)
            }
            error => Err(error),
        }
    }
}
