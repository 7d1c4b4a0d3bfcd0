//! Requests to read, digests of blocks, and ranges: the data socket. spec/wire.md 5.2.
//!
//! | p_block_req | at | size | |
//! |---|---|---|---|
//! | sector | 0 | 8 | |
//! | block_id | 8 | 8 | raw |
//! | size | 16 | 4 | bytes |
//! | padding | 20 | 4 | undefined |
//! | digest | 24 | | P_OV_REPLY, P_CSUM_RS_REQUEST |
//!
//! | p_block_desc | at | size | |
//! |---|---|---|---|
//! | sector | 0 | 8 | |
//! | size | 8 | 4 | bytes |
//! | padding | 12 | 4 | undefined |

use super::bytes::{Put, Reader};
use super::{DigestValue, Malformed};

/// P_DATA_REQUEST, P_RS_DATA_REQUEST, P_RS_THIN_REQ, P_OV_REQUEST: read a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRequest {
    /// First sector.
    pub sector: u64,
    /// Echoed in the answer; [`super::ID_SYNCER`] for resync, without meaning for verify.
    pub block_id: u64,
    /// Bytes; a multiple of 512, not 0.
    pub size: u32,
}

impl BlockRequest {
    /// Bytes of the sub-header.
    pub const LEN: u32 = 24;

    pub(super) fn decode(fields: &mut Reader<'_>) -> Result<BlockRequest, Malformed> {
        let request =
            BlockRequest { sector: fields.sector()?, block_id: fields.raw64()?, size: fields.u32()? };
        fields.u32()?;
        Ok(request)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.u64(self.sector);
        out.raw64(self.block_id);
        out.u32(self.size);
        out.u32(0);
    }
}

/// P_OV_REPLY, P_CSUM_RS_REQUEST: the digest of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockDigest {
    /// First sector.
    pub sector: u64,
    /// Without meaning; sent as [`super::ID_SYNCER`].
    pub block_id: u64,
    /// Bytes that the digest covers; a multiple of 512, not 0.
    pub size: u32,
    /// By verify-alg or csums-alg.
    pub digest: DigestValue,
}

impl BlockDigest {
    pub(super) fn decode(fields: &mut Reader<'_>) -> Result<BlockDigest, Malformed> {
        let BlockRequest { sector, block_id, size } = BlockRequest::decode(fields)?;
        Ok(BlockDigest { sector, block_id, size, digest: DigestValue::cut(fields.rest()) })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        BlockRequest { sector: self.sector, block_id: self.block_id, size: self.size }.encode(out);
        out.extend_from_slice(&self.digest);
    }
}

/// P_OUT_OF_SYNC, P_RS_DEALLOCATED: a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockDescription {
    /// First sector.
    pub sector: u64,
    /// Bytes.
    pub size: u32,
}

impl BlockDescription {
    pub(super) fn decode(fields: &mut Reader<'_>) -> Result<BlockDescription, Malformed> {
        let description = BlockDescription { sector: fields.sector()?, size: fields.u32()? };
        fields.u32()?;
        Ok(description)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.u64(self.sector);
        out.u32(self.size);
        out.u32(0);
    }
}
