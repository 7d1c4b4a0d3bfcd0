//! State words, requests to change them, and small packets of the connection.
//! spec/wire.md 4.6 to 4.8, 5.2.
//!
//! | packet | at | size | |
//! |---|---|---|---|
//! | P_STATE | 0 | 4 | state word |
//! | P_STATE_CHG_REQ, P_CONN_ST_CHG_REQ | 0 | 4 | mask |
//! | | 4 | 4 | val |
//! | P_STATE_CHG_REPLY, P_CONN_ST_CHG_REPLY | 0 | 4 | result, signed |
//! | P_DELAY_PROBE | 0 | 4 | seq |
//! | | 4 | 4 | offset, microseconds |

use super::bytes::{Put, Reader};
use super::Malformed;

/// P_STATE_CHG_REQ, P_CONN_ST_CHG_REQ: a change that both nodes must agree to, as state words
/// from the point of view of the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateChangeRequest {
    /// The bits that change.
    pub mask: u32,
    /// Their new values.
    pub val: u32,
}

impl StateChangeRequest {
    pub(super) fn decode(fields: &mut Reader<'_>) -> Result<StateChangeRequest, Malformed> {
        Ok(StateChangeRequest { mask: fields.u32()?, val: fields.u32()? })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.u32(self.mask);
        out.u32(self.val);
    }
}

/// P_DELAY_PROBE: a measurement of 8.3.8; to be skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DelayProbe {
    /// Number of the probe.
    pub seq: u32,
    /// Time since the probe of the same number on the other socket, microseconds.
    pub offset_us: u32,
}

impl DelayProbe {
    pub(super) fn decode(fields: &mut Reader<'_>) -> Result<DelayProbe, Malformed> {
        Ok(DelayProbe { seq: fields.u32()?, offset_us: fields.u32()? })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.u32(self.seq);
        out.u32(self.offset_us);
    }
}
