//! The header in front of every packet, in three formats. spec/wire.md 2.
//!
//! | h80, 8 bytes | at | h95, 8 bytes | at | h100, 16 bytes | at |
//! |---|---|---|---|---|---|
//! | u32 0x83740267 | 0 | u16 0x835a | 0 | u32 0x8620ec20 | 0 |
//! | u16 command | 4 | u16 command | 2 | u16 volume | 4 |
//! | u16 length | 6 | u32 length | 4 | u16 command | 6 |
//! | | | | | u32 length | 8 |
//! | | | | | u32 zero | 12 |
//!
//! `length` counts the bytes behind the header: sub-header, digest and data.

use super::bytes::Reader;
use super::{Malformed, ProtocolVersion};

/// First four bytes of h80.
pub const MAGIC_H80: u32 = 0x8374_0267;
/// First two bytes of h95.
pub const MAGIC_H95: u16 = 0x835a;
/// First four bytes of h100.
pub const MAGIC_H100: u32 = 0x8620_ec20;

/// Above this length a packet has h95 at versions 95 to 99, as 8.4 sends it. spec/wire.md 2.2.
const H95_ABOVE: u32 = 32768;

/// Which headers are to be expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// First packets and features packets: h80.
    First,
    /// Everything after the agreement on this version.
    Agreed(ProtocolVersion),
}

impl Framing {
    /// Bytes to read for a header.
    pub fn header_len(self) -> usize {
        match self {
            Framing::First => 8,
            Framing::Agreed(version) => version.header_len(),
        }
    }
}

/// A header without its magic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Number of the packet: [`super::Command`].
    pub command: u16,
    /// Volume; 0 in the formats without one. Without meaning in packets of the whole connection.
    pub volume: u16,
    /// Bytes behind the header.
    pub length: u32,
}

impl Header {
    /// Most bytes a header has.
    pub const LEN_MAX: usize = 16;

    /// Reads a header of [`Framing::header_len`] bytes. Before version 100 the magic alone
    /// decides between h80 and h95, whatever the version: that is what 8.x does.
    pub fn decode(framing: Framing, bytes: &[u8]) -> Result<Header, Malformed> {
        let (version, h95, h100) = match framing {
            Framing::First => (0, false, false),
            Framing::Agreed(v) => (v.number(), !v.has_volumes(), v.has_volumes()),
        };
        let mut fields = Reader::new(bytes);
        let magic = fields.u32()?;
        if h100 {
            if magic != MAGIC_H100 {
                return Err(Malformed::WrongMagic { magic, version });
            }
            let header = Header { volume: fields.u16()?, command: fields.u16()?, length: fields.u32()? };
            return match fields.u32()? {
                0 => Ok(header),
                _ => Err(Malformed::PaddingNotZero),
            };
        }
        if magic == MAGIC_H80 {
            return Ok(Header { volume: 0, command: fields.u16()?, length: u32::from(fields.u16()?) });
        }
        if h95 && (magic >> 16) as u16 == MAGIC_H95 {
            return Ok(Header { volume: 0, command: magic as u16, length: fields.u32()? });
        }
        Err(Malformed::WrongMagic { magic, version })
    }

    /// Writes the header in the format that a sender chooses to `out`, which has
    /// [`Framing::header_len`] bytes.
    ///
    /// # Panics
    /// If the length does not fit the format: no packet that a version allows is that long, and
    /// a wrong length would turn the rest of the stream into noise.
    pub(super) fn encode(&self, framing: Framing, out: &mut [u8]) {
        let length = self.length.to_be_bytes();
        let command = self.command.to_be_bytes();
        match framing {
            Framing::Agreed(version) if version.has_volumes() => {
                out[0..4].copy_from_slice(&MAGIC_H100.to_be_bytes());
                out[4..6].copy_from_slice(&self.volume.to_be_bytes());
                out[6..8].copy_from_slice(&command);
                out[8..12].copy_from_slice(&length);
                out[12..16].fill(0);
            }
            Framing::Agreed(version) if version.has_large_header() && self.length > H95_ABOVE => {
                out[0..2].copy_from_slice(&MAGIC_H95.to_be_bytes());
                out[2..4].copy_from_slice(&command);
                out[4..8].copy_from_slice(&length);
            }
            _ => {
                assert!(
                    self.length <= u32::from(u16::MAX),
                    "packet 0x{:x} of {} bytes does not fit a header of {framing:?}",
                    self.command,
                    self.length
                );
                out[0..4].copy_from_slice(&MAGIC_H80.to_be_bytes());
                out[4..6].copy_from_slice(&command);
                out[6..8].copy_from_slice(&length[2..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(number: u32) -> Framing {
        Framing::Agreed(ProtocolVersion::new(number).unwrap())
    }

    fn encoded(framing: Framing, header: Header) -> Vec<u8> {
        let mut out = vec![0xee; framing.header_len()];
        header.encode(framing, &mut out);
        out
    }

    const WRITE: Header = Header { command: 0x21, volume: 0, length: 32769 };

    #[test]
    fn the_sender_chooses_by_version_and_length() {
        let h80 = [0x83, 0x74, 0x02, 0x67, 0, 0x21, 0x80, 0x01];
        let h95 = [0x83, 0x5a, 0, 0x21, 0, 0, 0x80, 0x01];
        let h100 = [0x86, 0x20, 0xec, 0x20, 0, 0, 0, 0x21, 0, 0, 0x80, 0x01, 0, 0, 0, 0];
        assert_eq!(encoded(agreed(94), WRITE), h80);
        assert_eq!(encoded(agreed(95), WRITE), h95);
        assert_eq!(encoded(agreed(99), WRITE), h95);
        assert_eq!(encoded(agreed(100), WRITE), h100);
        let smaller = Header { length: 32768, ..WRITE };
        assert_eq!(encoded(agreed(97), smaller)[..4], h80[..4]);
    }

    #[test]
    fn below_100_the_receiver_goes_by_the_magic() {
        let h95 = [0x83, 0x5a, 0, 0x21, 0, 0, 0x80, 0x01];
        for number in [86, 94, 95, 99] {
            assert_eq!(Header::decode(agreed(number), &h95), Ok(WRITE));
        }
        assert_eq!(
            Header::decode(Framing::First, &h95),
            Err(Malformed::WrongMagic { magic: 0x835a_0021, version: 0 })
        );
    }

    #[test]
    fn from_100_on_only_the_long_header_with_zero_padding_counts() {
        let mut bytes = encoded(agreed(101), WRITE);
        bytes[15] = 1;
        let error = Header::decode(agreed(101), &bytes).unwrap_err();
        assert_eq!(error.to_string(), "Header padding is not zero");
        let short = [0x83, 0x74, 0x02, 0x67, 0, 0x13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let error = Header::decode(agreed(101), &short).unwrap_err();
        assert_eq!(error.to_string(), "Wrong magic value 0x83740267 in protocol version 101");
        assert_eq!(Header::decode(agreed(97), &short[..7]), Err(Malformed::Truncated));
    }

    #[test]
    #[should_panic(expected = "does not fit")]
    fn a_length_is_never_cut() {
        encoded(agreed(94), Header { length: 65536, ..WRITE });
    }
}
