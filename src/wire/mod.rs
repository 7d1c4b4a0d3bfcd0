//! The network format of DRBD, protocol versions 86 to 101: what crosses the wire, never when.
//!
//! One file per packet family. Each opens with its layout, has the struct, its decoder and its
//! encoder, and the tests with captured bytes below. Nothing here knows sockets, clocks or state.
//!
//! A receiver works in three steps, so that bulk data is read straight into its final buffer:
//!
//! ```
//! use drbdbox::wire::{Context, Framing, Frame, Header, Packet, ProtocolVersion, Socket};
//! # fn main() -> Result<(), drbdbox::wire::Malformed> {
//! # let bytes = [0x86, 0x20, 0xec, 0x20, 0, 0, 0, 0x0e, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0xd0, 0x82];
//! let context = Context::new(ProtocolVersion::MAX);
//! let framing = Framing::Agreed(context.version);
//! let (head, rest) = bytes.split_at(framing.header_len()); // 1: read the header
//! let frame = Frame::new(Header::decode(framing, head)?, Socket::Data, &context)?;
//! let incoming = frame.decode(&rest[..frame.fixed_len], &context)?; // 2: read `fixed_len` bytes
//! assert_eq!(incoming.packet, Packet::State(0xd082));
//! assert_eq!(frame.payload_len, 0); // 3: read `payload_len` bytes of bulk data
//! # Ok(())
//! # }
//! ```
//!
//! A sender calls [`Packet::encode_into`] and sends the payload itself behind those bytes.
//! spec/wire.md.

pub mod acks;
pub mod auth;
pub mod bitmap_code;
mod bytes;
pub mod command;
pub mod data;
pub mod digest;
pub mod error;
pub mod features;
pub mod frame;
pub mod handshake;
pub mod header;
pub mod packet;
pub mod parameters;
pub mod requests;
pub mod state;
pub mod version;

pub use acks::{BarrierAck, BlockAck, OvResult};
pub use command::{Command, Release, Socket};
pub use data::{Barrier, Data, DataFlags, RangeWrite, Reply};
pub use digest::{Digest, DigestValue};
pub use error::{Consequence, Malformed};
pub use features::Features;
pub use frame::{Context, Frame, Incoming, FIXED_LEN_MAX};
pub use handshake::FeaturesPacket;
pub use header::{Framing, Header};
pub use packet::Packet;
pub use parameters::{Protocol, QueueLimits, ResyncController, Sizes, SyncParam, Uuids};
pub use requests::{BlockDescription, BlockDigest, BlockRequest};
pub use state::{DelayProbe, StateChangeRequest};
pub use version::ProtocolVersion;

/// Block id of resync traffic: all bits set. spec/wire.md 0.
pub const ID_SYNCER: u64 = u64::MAX;

/// Bytes in a sector.
pub const SECTOR_BYTES: u32 = 512;

/// Largest size of one data packet, in bytes, that is accepted at any version. spec/wire.md 2.4.
pub const BIO_BYTES_MAX: u32 = 1 << 20;

/// Sectors that a device can have at most, so that byte offsets fit a signed 64-bit number. No
/// packet that names a sector at or behind this is accepted.
pub const SECTORS_MAX: u64 = 1 << 54;

#[cfg(test)]
mod tests;
