//! Acknowledgements: the meta socket. spec/wire.md 5.2.
//!
//! | p_block_ack | at | size | |
//! |---|---|---|---|
//! | sector | 0 | 8 | |
//! | block_id | 8 | 8 | raw; P_OV_RESULT: 4711 in sync, 4712 out of sync, big-endian |
//! | size | 16 | 4 | bytes |
//! | seq_num | 20 | 4 | |
//!
//! | p_barrier_ack | at | size | |
//! |---|---|---|---|
//! | barrier | 0 | 4 | raw |
//! | set_size | 4 | 4 | big-endian |

use super::bytes::{Put, Reader};
use super::Malformed;

/// Block id in P_OV_RESULT: the block is the same on both nodes.
const ID_IN_SYNC: u64 = 4711;
/// Block id in P_OV_RESULT: the block differs.
const ID_OUT_OF_SYNC: u64 = 4712;

/// The acknowledgements of blocks: P_RECV_ACK, P_WRITE_ACK, P_RS_WRITE_ACK, P_SUPERSEDED,
/// P_RETRY_WRITE, P_NEG_ACK, P_NEG_DREPLY, P_NEG_RS_DREPLY, P_RS_CANCEL, P_RS_IS_IN_SYNC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockAck {
    /// First sector.
    pub sector: u64,
    /// That of the packet which is acknowledged. In P_RS_IS_IN_SYNC without meaning.
    pub block_id: u64,
    /// Bytes; 0 for a flush.
    pub size: u32,
    /// Number of this packet in its volume and direction, shared with writes. spec/wire.md 5.4.
    pub seq: u32,
}

impl BlockAck {
    /// Bytes of the sub-header.
    pub const LEN: u32 = 24;

    pub(super) fn decode(fields: &mut Reader<'_>) -> Result<BlockAck, Malformed> {
        Ok(BlockAck {
            sector: fields.sector()?,
            block_id: fields.raw64()?,
            size: fields.u32()?,
            seq: fields.u32()?,
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.u64(self.sector);
        out.raw64(self.block_id);
        out.u32(self.size);
        out.u32(self.seq);
    }
}

/// P_OV_RESULT: what the comparison of a block found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OvResult {
    /// First sector.
    pub sector: u64,
    /// Bytes.
    pub size: u32,
    /// As in [`BlockAck`].
    pub seq: u32,
    /// Whether both nodes have the same data.
    pub in_sync: bool,
}

impl OvResult {
    pub(super) fn decode(fields: &mut Reader<'_>) -> Result<OvResult, Malformed> {
        let sector = fields.sector()?;
        let id = fields.u64()?;
        Ok(OvResult { sector, size: fields.u32()?, seq: fields.u32()?, in_sync: id == ID_IN_SYNC })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.u64(self.sector);
        out.u64(if self.in_sync { ID_IN_SYNC } else { ID_OUT_OF_SYNC });
        out.u32(self.size);
        out.u32(self.seq);
    }
}

/// P_BARRIER_ACK: an epoch is on stable storage. spec/wire.md 7.4, 7.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarrierAck {
    /// That of the barrier, bit for bit.
    pub number: u32,
    /// Writes of the epoch.
    pub set_size: u32,
}

impl BarrierAck {
    pub(super) fn decode(fields: &mut Reader<'_>) -> Result<BarrierAck, Malformed> {
        Ok(BarrierAck { number: fields.raw32()?, set_size: fields.u32()? })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.raw32(self.number);
        out.u32(self.set_size);
    }
}
