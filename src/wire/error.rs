//! What can be wrong with bytes from the peer, and what becomes of the connection.
//! spec/wire.md 9.5, 10.

use super::command::{log_name, Release, Socket};

/// A packet that cannot be understood or breaks a limit. The texts are those of DRBD 8.4's log
/// where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The header starts with a magic number that is not allowed in this phase.
    #[error("Wrong magic value 0x{magic:08x} in protocol version {version}")]
    WrongMagic {
        /// The first four bytes.
        magic: u32,
        /// Agreed version; 0 before the agreement.
        version: u8,
    },
    /// The last four bytes of a 16-byte header are not zero.
    #[error("Header padding is not zero")]
    PaddingNotZero,
    /// A number that is unassigned, never sent, or belongs to the other socket.
    #[error("Unexpected {socket} packet {} (0x{number:04x})", log_name(*number, Release::V84))]
    UnexpectedPacket {
        /// The socket it came on.
        socket: Socket,
        /// Its number.
        number: u16,
    },
    /// Bytes behind a packet that has no payload.
    #[error("No payload expected {} l:{length}", log_name(*number, Release::V84))]
    NoPayloadExpected {
        /// Number of the packet.
        number: u16,
        /// Bytes too many.
        length: u32,
    },
    /// Fewer bytes than the sub-header has.
    #[error("{}: unexpected packet size, expected:{expected} received:{received}", log_name(*number, Release::V84))]
    TooShort {
        /// Number of the packet.
        number: u16,
        /// Bytes of the sub-header.
        expected: u32,
        /// Bytes that the header announced.
        received: u32,
    },
    /// A packet on the meta socket that has not its one length.
    #[error("Wrong packet size on meta (c: {number}, l: {length})")]
    WrongMetaSize {
        /// Number of the packet.
        number: u16,
        /// Bytes that the header announced.
        length: u32,
    },
    /// P_SYNC_PARAM is longer than the version allows.
    #[error("SyncParam packet too long: received {received}, expected <= {expected} bytes")]
    SyncParamTooLong {
        /// Bytes that the header announced.
        received: u32,
        /// Bytes it may have.
        expected: u32,
    },
    /// Data that is not a multiple of 512 bytes, empty where it must not be, or over the limit.
    #[error("{}: {bytes} bytes of data are not a multiple of 512 up to {limit}", log_name(*number, Release::V84))]
    DataSize {
        /// Number of the packet.
        number: u16,
        /// Bytes of data, or of the range that the packet speaks of.
        bytes: u32,
        /// Most bytes allowed.
        limit: u32,
    },
    /// A sector that no device can have.
    #[error("sector {sector} is beyond the end of any device")]
    SectorOutOfRange {
        /// The sector that the packet named.
        sector: u64,
    },
    /// The same, of a packet that is known.
    #[error("{}: sector {sector} is beyond the end of any device", log_name(*number, Release::V84))]
    PacketSector {
        /// Number of the packet.
        number: u16,
        /// The sector that it named.
        sector: u64,
    },
    /// A compressed bitmap packet that does not fit its buffer.
    #[error("ReportCBitmap packet too large")]
    CompressedBitmapTooLarge {
        /// Bytes of payload.
        length: u32,
    },
    /// A compressed bitmap packet without a code word.
    #[error("ReportCBitmap packet too small (l:{length})")]
    CompressedBitmapTooSmall {
        /// Bytes of payload.
        length: u32,
    },
    /// A plain bitmap packet has not the one length that its place in the transfer has.
    #[error("receive_bitmap_plain:want ({want}) != size ({size})")]
    PlainBitmapSize {
        /// Bytes that the transfer needs here.
        want: usize,
        /// Bytes that came.
        size: usize,
    },
    /// A compressed bitmap packet of an unknown code.
    #[error("receive_bitmap_c: unknown encoding {encoding}")]
    UnknownBitmapEncoding {
        /// First byte of the payload.
        encoding: u8,
    },
    /// A run that passes the last bit.
    #[error("bitmap overflow (e:{end}) while decoding bm RLE packet")]
    BitmapOverflow {
        /// Last bit of the run; `u64::MAX` if not even that fits.
        end: u64,
    },
    /// A code word that is cut by the end of the packet.
    #[error("bitmap decoding error: h:{have} b:{bits} la:0x{look_ahead:08x} l:{position}/{length}")]
    BitmapCode {
        /// Bits left.
        have: usize,
        /// Bits that the code word needs; 0: not even its prefix is complete.
        bits: usize,
        /// The bits left, first one lowest, cut to 64.
        look_ahead: u64,
        /// Bytes consumed.
        position: usize,
        /// Bytes there are.
        length: usize,
    },
    /// A bitmap packet after the transfer was complete.
    #[error("bitmap packet after the end of the transfer")]
    BitmapAfterEnd,
    /// The caller handed in fewer bytes than the frame asked for.
    #[error("packet cut short")]
    Truncated,
}

/// What the connection becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    /// Dropped, connected anew: ProtocolError.
    ProtocolError,
    /// Dropped, connected anew: NetworkFailure.
    NetworkFailure,
    /// Given up: Disconnecting, then StandAlone.
    Disconnecting,
}

impl Malformed {
    /// What the connection becomes when this was received on `socket`.
    pub fn consequence(&self, socket: Socket) -> Consequence {
        match (socket, self) {
            (Socket::Data, _) => Consequence::ProtocolError,
            (Socket::Meta, Malformed::UnexpectedPacket { .. }) => Consequence::Disconnecting,
            (Socket::Meta, _) => Consequence::NetworkFailure,
        }
    }
}
