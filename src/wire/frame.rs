//! What follows a header: how many bytes to read, checked before anything is read or allocated.
//! spec/wire.md 2.4, 10.

use super::bytes::{Reader, NAME_MAX};
use super::command::Length;
use super::digest::DIGEST_LEN_MAX;
use super::{
    auth, Command, DigestValue, Features, Framing, Header, Malformed, Packet, Protocol, ProtocolVersion,
    Sizes, Socket, SyncParam, BIO_BYTES_MAX, SECTOR_BYTES,
};

/// Most bytes in front of the payload of any packet: [`Frame::fixed_len`] is never larger.
pub const FIXED_LEN_MAX: usize = 160;

/// Largest read that is accepted below version 95: its reply must fit a 16-bit length.
const REQUEST_BYTES_MAX_H80: u32 = 65024;

/// What was agreed with the peer and decides about the layout of its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// Agreed version.
    pub version: ProtocolVersion,
    /// Agreed features.
    pub features: Features,
    /// Bytes of a digest by the peer's data-integrity-alg, which precedes data; 0: none.
    pub peer_integrity_len: usize,
}

impl Context {
    /// A context without features and digests.
    pub fn new(version: ProtocolVersion) -> Context {
        Context { version, features: Features::NONE, peer_integrity_len: 0 }
    }

    /// The headers to expect.
    pub fn framing(&self) -> Framing {
        Framing::Agreed(self.version)
    }
}

/// A packet whose header is known: how many bytes to read, in two parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Type of the packet.
    pub command: Command,
    /// Volume in its header.
    pub volume: u16,
    /// Bytes of sub-header and digest, for [`Frame::decode`]; at most [`FIXED_LEN_MAX`].
    pub fixed_len: usize,
    /// Bytes of payload behind them; at most [`BIO_BYTES_MAX`].
    pub payload_len: usize,
}

/// A received packet. The payload is still in the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The packet.
    pub packet: Packet,
    /// Its volume; without meaning for packets of the whole connection.
    pub volume: u16,
    /// Digest of the payload by the peer's data-integrity-alg; empty: none.
    pub digest: DigestValue,
}

impl Frame {
    /// Checks type and length of a packet of the main phase before anything is read or
    /// allocated. The packets of the handshake are unexpected here: see [`super::handshake`];
    /// those of the authentication are let through.
    pub fn new(header: Header, socket: Socket, context: &Context) -> Result<Frame, Malformed> {
        let number = header.command;
        let unexpected = Malformed::UnexpectedPacket { socket, number };
        let command = match Command::from_number(number) {
            Some(command) if command.travels_on(socket) => command,
            _ => return Err(unexpected),
        };
        let (fixed, payload) = split(command, header.length, context).map_err(|e| match socket {
            Socket::Data => e,
            Socket::Meta => Malformed::WrongMetaSize { number, length: header.length },
        })?;
        Ok(Frame { command, volume: header.volume, fixed_len: fixed as usize, payload_len: payload as usize })
    }

    /// Decodes the [`fixed_len`](Frame::fixed_len) bytes behind the header.
    pub fn decode(&self, fixed: &[u8], context: &Context) -> Result<Incoming, Malformed> {
        if fixed.len() != self.fixed_len {
            return Err(Malformed::Truncated);
        }
        let mut fields = Reader::new(fixed);
        let packet =
            Packet::decode_fields(self.command, &mut fields, context).map_err(|error| match error {
                Malformed::SectorOutOfRange { sector } => {
                    Malformed::PacketSector { number: self.command.number(), sector }
                }
                error => error,
            })?;
        check_sizes(&packet, self.command, context)?;
        let digest = match self.command.length() {
            Length::Data(_) => DigestValue::cut(fields.rest()),
            _ => DigestValue::NONE,
        };
        Ok(Incoming { packet, volume: self.volume, digest })
    }
}

/// Bytes of sub-header and digest, and bytes of payload, of a packet of `length` bytes.
fn split(command: Command, length: u32, context: &Context) -> Result<(u32, u32), Malformed> {
    let number = command.number();
    let too_short = |expected| Malformed::TooShort { number, expected, received: length };
    let within = |least: u32, most: u32| {
        if length < least {
            Err(too_short(least))
        } else if length > most {
            Err(Malformed::NoPayloadExpected { number, length: length - most })
        } else {
            Ok((length, 0))
        }
    };
    match command.length() {
        Length::Exact(len) => within(len, len),
        Length::Digest(len) => within(len, len + DIGEST_LEN_MAX as u32),
        Length::Data(len) => {
            let fixed = len + context.peer_integrity_len.min(DIGEST_LEN_MAX) as u32;
            let bytes = length.checked_sub(fixed).ok_or(too_short(fixed))?;
            // Only a write may be empty: a flush.
            if bytes == 0 && command != Command::Data {
                return Err(too_short(fixed + SECTOR_BYTES));
            }
            check_bytes(number, bytes, BIO_BYTES_MAX)?;
            Ok((fixed, bytes))
        }
        Length::Bitmap => {
            let max = context.version.bitmap_payload_max() as u32;
            match command {
                Command::CompressedBitmap if length > max => {
                    Err(Malformed::CompressedBitmapTooLarge { length })
                }
                Command::CompressedBitmap if length < 2 => {
                    Err(Malformed::CompressedBitmapTooSmall { length })
                }
                _ if length > max => {
                    Err(Malformed::PlainBitmapSize { want: max as usize, size: length as usize })
                }
                _ => Ok((0, length)),
            }
        }
        Length::Own => match command {
            Command::Protocol | Command::ProtocolUpdate => {
                let name = if context.version.has_integrity_alg() { NAME_MAX as u32 } else { 0 };
                within(Protocol::FIXED_LEN, Protocol::FIXED_LEN + name)
            }
            Command::SyncParam | Command::SyncParam89 => {
                let (least, most) = SyncParam::len_range(context.version);
                if length > most {
                    return Err(Malformed::SyncParamTooLong { received: length, expected: most });
                }
                within(least, most)
            }
            Command::Sizes if context.features.contains(Features::WSAME) => {
                within(Sizes::LEN_WITH_LIMITS, Sizes::LEN_WITH_LIMITS)
            }
            Command::Sizes => within(Sizes::LEN, Sizes::LEN),
            _ => within(0, auth::CHALLENGE_LEN_MAX as u32),
        },
    }
}

/// A range or payload must be whole sectors and within `limit`.
fn check_bytes(number: u16, bytes: u32, limit: u32) -> Result<(), Malformed> {
    if bytes % SECTOR_BYTES != 0 || bytes > limit {
        return Err(Malformed::DataSize { number, bytes, limit });
    }
    Ok(())
}

/// The limits of spec/wire.md 2.4 and 5.7 on the ranges that packets speak of. Whether a range
/// lies within the device is for the receiver to check, who knows the device.
fn check_sizes(packet: &Packet, command: Command, context: &Context) -> Result<(), Malformed> {
    let number = command.number();
    let discard_max = context.features.max_discard_bytes();
    let request_max = if context.version.number() < 95 { REQUEST_BYTES_MAX_H80 } else { BIO_BYTES_MAX };
    let not_empty = |bytes: u32, limit| match bytes {
        0 => Err(Malformed::DataSize { number, bytes, limit }),
        _ => check_bytes(number, bytes, limit),
    };
    match packet {
        Packet::Trim(range) | Packet::Zeroes(range) | Packet::WriteSame(range) => {
            not_empty(range.size, discard_max)
        }
        Packet::DataRequest(request)
        | Packet::RsDataRequest(request)
        | Packet::RsThinRequest(request)
        | Packet::OvRequest(request) => not_empty(request.size, request_max),
        Packet::CsumRsRequest(digest) | Packet::OvReply(digest) => not_empty(digest.size, request_max),
        Packet::RsDeallocated(range) => not_empty(range.size, discard_max),
        _ => Ok(()),
    }
}
