//! Writes, replies with data, and epochs: the data socket. spec/wire.md 5.2, 5.5.
//!
//! | p_data | at | size | |
//! |---|---|---|---|
//! | sector | 0 | 8 | |
//! | block_id | 8 | 8 | raw |
//! | seq_num | 16 | 4 | writes only; else 0 |
//! | dp_flags | 20 | 4 | writes only; else 0 |
//! | size | 24 | 4 | P_TRIM, P_ZEROES, P_WSAME only: bytes of the range |
//! | digest | | | P_DATA, P_*DATA_REPLY, P_WSAME, if a data-integrity-alg is in use |
//! | data | | | the same packets |
//!
//! | p_barrier | at | size | |
//! |---|---|---|---|
//! | barrier | 0 | 4 | raw |
//! | padding | 4 | 4 | 0 |

use std::ops::{BitOr, BitOrAssign};

use super::bytes::{Put, Reader};
use super::Malformed;

/// Flags of a write. Unknown bits are kept and mean nothing. spec/wire.md 5.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DataFlags(pub u32);

impl DataFlags {
    /// Barrier bios of old kernels; ignored.
    pub const HARDBARRIER: DataFlags = DataFlags(1);
    /// A synchronous write.
    pub const RW_SYNC: DataFlags = DataFlags(2);
    /// The sender is in a resync: when both disks have the block, it is in sync.
    pub const MAY_SET_IN_SYNC: DataFlags = DataFlags(4);
    /// Hint of old kernels to start the disk.
    pub const UNPLUG: DataFlags = DataFlags(8);
    /// Force unit access (95).
    pub const FUA: DataFlags = DataFlags(16);
    /// Flush before the write (95).
    pub const FLUSH: DataFlags = DataFlags(32);
    /// The range may be unmapped.
    pub const DISCARD: DataFlags = DataFlags(64);
    /// A P_RECV_ACK is wanted: protocol B (100).
    pub const SEND_RECEIVE_ACK: DataFlags = DataFlags(128);
    /// A P_WRITE_ACK is wanted: protocol C, or during a resync (100).
    pub const SEND_WRITE_ACK: DataFlags = DataFlags(256);
    /// The packet is P_WSAME.
    pub const WSAME: DataFlags = DataFlags(512);
    /// The packet is P_ZEROES.
    pub const ZEROES: DataFlags = DataFlags(1024);

    /// Whether all flags of `other` are in `self`.
    pub fn contains(self, other: DataFlags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for DataFlags {
    type Output = DataFlags;

    fn bitor(self, other: DataFlags) -> DataFlags {
        DataFlags(self.0 | other.0)
    }
}

impl BitOrAssign for DataFlags {
    fn bitor_assign(&mut self, other: DataFlags) {
        self.0 |= other.0;
    }
}

/// P_DATA: a write; its data follow. Without data: a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data {
    /// First sector.
    pub sector: u64,
    /// Chosen by the sender, echoed in the ack; never [`super::ID_SYNCER`].
    pub block_id: u64,
    /// Number of the packet in its volume and direction, shared with acks. spec/wire.md 5.4.
    pub seq: u32,
    /// How to write, what to acknowledge.
    pub flags: DataFlags,
}

impl Data {
    /// Bytes of the sub-header.
    pub const LEN: u32 = 24;

    pub(super) fn decode(fields: &mut Reader<'_>) -> Result<Data, Malformed> {
        Ok(Data {
            sector: fields.sector()?,
            block_id: fields.raw64()?,
            seq: fields.u32()?,
            flags: DataFlags(fields.u32()?),
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.u64(self.sector);
        out.raw64(self.block_id);
        out.u32(self.seq);
        out.u32(self.flags.0);
    }
}

/// P_DATA_REPLY, P_RS_DATA_REPLY: what a read found; its data follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// First sector.
    pub sector: u64,
    /// That of the request.
    pub block_id: u64,
}

impl Reply {
    pub(super) fn decode(fields: &mut Reader<'_>) -> Result<Reply, Malformed> {
        let reply = Reply { sector: fields.sector()?, block_id: fields.raw64()? };
        fields.u64()?; // seq_num and dp_flags: left uninitialised by 8.3
        Ok(reply)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.u64(self.sector);
        out.raw64(self.block_id);
        out.u64(0);
    }
}

/// P_TRIM, P_ZEROES, P_WSAME: one change to a whole range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeWrite {
    /// First sector.
    pub sector: u64,
    /// As in [`Data`].
    pub block_id: u64,
    /// As in [`Data`].
    pub seq: u32,
    /// As in [`Data`].
    pub flags: DataFlags,
    /// Bytes of the range; a multiple of 512.
    pub size: u32,
}

impl RangeWrite {
    /// Bytes of the sub-header.
    pub const LEN: u32 = 28;

    pub(super) fn decode(fields: &mut Reader<'_>) -> Result<RangeWrite, Malformed> {
        let Data { sector, block_id, seq, flags } = Data::decode(fields)?;
        Ok(RangeWrite { sector, block_id, seq, flags, size: fields.u32()? })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        Data { sector: self.sector, block_id: self.block_id, seq: self.seq, flags: self.flags }.encode(out);
        out.u32(self.size);
    }
}

/// P_BARRIER: ends an epoch. spec/wire.md 7.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barrier {
    /// Number of the epoch, in the byte order of its sender; echoed in the ack.
    pub number: u32,
}

impl Barrier {
    pub(super) fn decode(fields: &mut Reader<'_>) -> Result<Barrier, Malformed> {
        let number = fields.raw32()?;
        fields.u32()?;
        Ok(Barrier { number })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.raw32(self.number);
        out.u32(0);
    }
}
