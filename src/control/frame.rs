//! One message on a stream socket: length (u32, little endian), then JSON.

use serde::de::DeserializeOwned;
use serde::Serialize;
use std::io::{self, Read, Write};

/// Longest request that the daemon accepts, bytes.
pub const REQUEST_MAX: usize = 64 << 10;

/// Longest answer that a client accepts, bytes: a snapshot of many minors.
pub const REPLY_MAX: usize = 256 << 20;

/// Writes one message.
pub fn write<T: Serialize>(to: &mut impl Write, message: &T) -> io::Result<()> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = u32::try_from(bytes.len() - 4)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "message too long"))?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    to.write_all(&bytes)?;
    to.flush()
}

/// Reads one message of at most `limit` bytes; `None` if the stream ends before it begins.
pub fn read<T: DeserializeOwned>(from: &mut impl Read, limit: usize) -> io::Result<Option<T>> {
    let mut head = [0; 4];
    let mut have = 0;
    while have < head.len() {
        match from.read(&mut head[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let length = u32::from_le_bytes(head) as usize;
    if length > limit {
        let text = format!("message of {length} bytes, at most {limit} are accepted");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    // Not reserved at once: memory grows only with what has really arrived.
    let mut bytes = Vec::new();
    from.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(serde_json::from_slice(&bytes)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back() -> io::Result<()> {
        let mut wire = Vec::new();
        write(&mut wire, &vec![1, 2, 3])?;
        let back: Option<Vec<i32>> = read(&mut wire.as_slice(), 100)?;
        assert_eq!(back, Some(vec![1, 2, 3]));
        Ok(())
    }

    #[test]
    fn the_end_of_the_stream_is_no_message() -> io::Result<()> {
        assert_eq!(read::<u32>(&mut [].as_slice(), 100)?, None);
        Ok(())
    }

    #[test]
    fn oversized_truncated_and_garbled_messages_are_errors() {
        let cases: [&[u8]; 4] =
            [&[0xff, 0xff, 0xff, 0xff], &[5, 0, 0], &[5, 0, 0, 0, b'1'], &[2, 0, 0, 0, b'{', b'x']];
        for bytes in cases {
            assert!(read::<u32>(&mut &bytes[..], 100).is_err(), "{bytes:?}");
        }
    }
}
