//! What the nodes tell each other after the handshake: P_PROTOCOL, P_SYNC_PARAM, P_SIZES,
//! P_UUIDS. spec/wire.md 4.
//!
//! | P_PROTOCOL, P_PROTOCOL_UPDATE | at | size | |
//! |---|---|---|---|
//! | protocol | 0 | 4 | 1 A, 2 B, 3 C |
//! | after_sb_0p, _1p, _2p | 4, 8, 12 | 4 each | |
//! | conn_flags | 16 | 4 | 1 discard-my-data, 2 dry-run |
//! | two_primaries | 20 | 4 | 0, 1 |
//! | data-integrity-alg | 24 | up to 64 | from 87; with its NUL |
//!
//! | P_SYNC_PARAM(89) | at | size | |
//! |---|---|---|---|
//! | rate | 0 | 4 | KiB/s |
//! | verify-alg | 4 | up to 64 | 88: with its NUL; from 89: 64 with NULs |
//! | csums-alg | 68 | 64 | from 89 |
//! | c_plan_ahead, c_delay_target, c_fill_target, c_max_rate | 132 ... 144 | 4 each | from 95 |
//!
//! | P_SIZES | at | size | |
//! |---|---|---|---|
//! | d_size, u_size, c_size | 0, 8, 16 | 8 each | sectors |
//! | max_bio_size | 24 | 4 | bytes |
//! | queue_order_type | 28 | 2 | 0 |
//! | dds_flags | 30 | 2 | 1 forced, 2 no resync |
//! | physical_block_size, logical_block_size, alignment_offset, io_min, io_opt | 32 ... 48 | 4 each | with WSAME, bytes |
//! | discard_enabled, discard_zeroes_data, write_same_capable, 0 | 52 ... 55 | 1 each | with WSAME |
//!
//! | P_UUIDS | at | size | |
//! |---|---|---|---|
//! | current, bitmap, history 0, history 1 | 0 ... 24 | 8 each | |
//! | dirty bits, flags | 32, 40 | 8 each | |

use super::bytes::{Put, Reader, NAME_MAX};
use super::{Malformed, ProtocolVersion};

/// P_PROTOCOL, P_PROTOCOL_UPDATE: settings that both nodes must have alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    /// 1 = A, 2 = B, 3 = C; as received.
    pub protocol: u32,
    /// Policy without a Primary, as [`crate::conf::settings::AfterSplitBrain`] numbers them.
    pub after_sb_0p: u32,
    /// Policy with one Primary.
    pub after_sb_1p: u32,
    /// Policy with two Primaries.
    pub after_sb_2p: u32,
    /// [`Protocol::DISCARD_MY_DATA`], [`Protocol::DRY_RUN`].
    pub conn_flags: u32,
    /// Whether two Primaries are allowed: not 0.
    pub two_primaries: u32,
    /// data-integrity-alg; empty: none, or version 86.
    pub integrity_alg: String,
}

impl Protocol {
    /// Bytes without the name.
    pub const FIXED_LEN: u32 = 24;
    /// Flag: the sender gives up its data.
    pub const DISCARD_MY_DATA: u32 = 1;
    /// Flag: only find out what would happen (92).
    pub const DRY_RUN: u32 = 2;

    pub(super) fn decode(fields: &mut Reader<'_>) -> Result<Protocol, Malformed> {
        Ok(Protocol {
            protocol: fields.u32()?,
            after_sb_0p: fields.u32()?,
            after_sb_1p: fields.u32()?,
            after_sb_2p: fields.u32()?,
            conn_flags: fields.u32()?,
            two_primaries: fields.u32()?,
            integrity_alg: fields.name(NAME_MAX),
        })
    }

    pub(super) fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        out.u32(self.protocol);
        out.u32(self.after_sb_0p);
        out.u32(self.after_sb_1p);
        out.u32(self.after_sb_2p);
        out.u32(self.conn_flags);
        out.u32(self.two_primaries);
        if version.has_integrity_alg() {
            out.name_terminated(&self.integrity_alg);
        }
    }
}

/// The resync controller's values in P_SYNC_PARAM89 (95).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResyncController {
    /// c-plan-ahead, 0.1 s.
    pub plan_ahead: u32,
    /// c-delay-target, 0.1 s.
    pub delay_target: u32,
    /// c-fill-target, sectors.
    pub fill_target: u32,
    /// c-max-rate, KiB/s.
    pub max_rate: u32,
}

/// What a node without a disk sends.
impl Default for ResyncController {
    fn default() -> Self {
        ResyncController { plan_ahead: 20, delay_target: 10, fill_target: 100, max_rate: 102_400 }
    }
}

/// P_SYNC_PARAM (to 88), P_SYNC_PARAM89: settings of the resync, adopted by the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncParam {
    /// KiB/s.
    pub rate: u32,
    /// verify-alg; empty: none, or below version 88.
    pub verify_alg: String,
    /// csums-alg; empty: none, or below version 89.
    pub csums_alg: String,
    /// `None`: not received, below version 95. Sent as its default from 95 on if `None`.
    pub controller: Option<ResyncController>,
}

impl SyncParam {
    /// Least and most bytes at a version.
    pub fn len_range(version: ProtocolVersion) -> (u32, u32) {
        match version.number() {
            ..=87 => (4, 4),
            88 => (5, 68),
            89..=94 => (132, 132),
            _ => (148, 148),
        }
    }

    pub(super) fn decode(fields: &mut Reader<'_>, version: ProtocolVersion) -> Result<SyncParam, Malformed> {
        Ok(SyncParam {
            rate: fields.u32()?,
            verify_alg: fields.name(NAME_MAX),
            csums_alg: fields.name(NAME_MAX),
            controller: if version.has_resync_controller() {
                Some(ResyncController {
                    plan_ahead: fields.u32()?,
                    delay_target: fields.u32()?,
                    fill_target: fields.u32()?,
                    max_rate: fields.u32()?,
                })
            } else {
                None
            },
        })
    }

    pub(super) fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        out.u32(self.rate);
        if version.has_sync_param89() {
            out.name_padded(&self.verify_alg, NAME_MAX);
            out.name_padded(&self.csums_alg, NAME_MAX);
        } else if version.has_online_verify() {
            out.name_terminated(&self.verify_alg);
        }
        if version.has_resync_controller() {
            let controller = self.controller.unwrap_or_default();
            out.u32(controller.plan_ahead);
            out.u32(controller.delay_target);
            out.u32(controller.fill_target);
            out.u32(controller.max_rate);
        }
    }
}

/// The part of P_SIZES that exists only with the feature WSAME.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Bytes.
    pub physical_block_size: u32,
    /// Bytes.
    pub logical_block_size: u32,
    /// Bytes.
    pub alignment_offset: u32,
    /// Bytes.
    pub io_min: u32,
    /// Bytes.
    pub io_opt: u32,
    /// Whether the disk can discard: not 0.
    pub discard_enabled: u8,
    /// Whether discarded blocks read as zeroes: not 0.
    pub discard_zeroes_data: u8,
    /// Whether P_WSAME may be sent: not 0.
    pub write_same_capable: u8,
}

/// P_SIZES: how large the device is, may be, and is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Room for data on the sender's disk, sectors; 0: it has no disk.
    pub d_size: u64,
    /// Size that the sender's user asked for, sectors; 0: none.
    pub u_size: u64,
    /// Size that the sender's device shows, sectors; 0: please answer.
    pub c_size: u64,
    /// Largest write that the sender can take, bytes.
    pub max_bio_size: u32,
    /// [`Sizes::FORCED`], [`Sizes::NO_RESYNC`].
    pub dds_flags: u16,
    /// Present with the feature WSAME only.
    pub queue_limits: Option<QueueLimits>,
}

impl Sizes {
    /// Bytes without the queue limits.
    pub const LEN: u32 = 32;
    /// Bytes with them.
    pub const LEN_WITH_LIMITS: u32 = 56;
    /// Flag: assume that the peer has the room.
    pub const FORCED: u16 = 1;
    /// Flag: no resync of the new room (assume-clean).
    pub const NO_RESYNC: u16 = 2;

    pub(super) fn decode(fields: &mut Reader<'_>, with_limits: bool) -> Result<Sizes, Malformed> {
        let mut sizes = Sizes {
            d_size: fields.u64()?,
            u_size: fields.u64()?,
            c_size: fields.u64()?,
            max_bio_size: fields.u32()?,
            dds_flags: 0,
            queue_limits: None,
        };
        fields.u16()?; // queue_order_type
        sizes.dds_flags = fields.u16()?;
        if with_limits {
            sizes.queue_limits = Some(QueueLimits {
                physical_block_size: fields.u32()?,
                logical_block_size: fields.u32()?,
                alignment_offset: fields.u32()?,
                io_min: fields.u32()?,
                io_opt: fields.u32()?,
                discard_enabled: fields.u8()?,
                discard_zeroes_data: fields.u8()?,
                write_same_capable: fields.u8()?,
            });
        }
        Ok(sizes)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.u64(self.d_size);
        out.u64(self.u_size);
        out.u64(self.c_size);
        out.u32(self.max_bio_size);
        out.u16(0);
        out.u16(self.dds_flags);
        if let Some(limits) = self.queue_limits {
            out.u32(limits.physical_block_size);
            out.u32(limits.logical_block_size);
            out.u32(limits.alignment_offset);
            out.u32(limits.io_min);
            out.u32(limits.io_opt);
            out.u8(limits.discard_enabled);
            out.u8(limits.discard_zeroes_data);
            out.u8(limits.write_same_capable);
            out.u8(0);
        }
    }
}

/// P_UUIDS: the generations of the sender's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uuids {
    /// Current generation; a Primary's has bit 0 set.
    pub current: u64,
    /// Generation at which the bitmap starts.
    pub bitmap: u64,
    /// Older ones, newest first.
    pub history: [u64; 2],
    /// Bits set in the sender's bitmap.
    pub dirty_bits: u64,
    /// [`Uuids::DISCARD_MY_DATA`] and following.
    pub flags: u64,
}

impl Uuids {
    /// Flag: the sender gives up its data.
    pub const DISCARD_MY_DATA: u64 = 1;
    /// Flag: the sender was Primary when it crashed.
    pub const CRASHED_PRIMARY: u64 = 2;
    /// Flag: the sender's disk will be Inconsistent after its attach.
    pub const INCONSISTENT: u64 = 4;
    /// Flag: skip the initial sync (90).
    pub const SKIP_INITIAL_SYNC: u64 = 8;
    /// Flag of this program alone, far from those that DRBD has or may get: the sender's bits are those of a resync whose end it may have
    /// missed; it has begun no generation since, and all that it acknowledged without its target would be in one. DRBD only logs it.
    pub const UNHEARD_END: u64 = 1 << 48;

    pub(super) fn decode(fields: &mut Reader<'_>) -> Result<Uuids, Malformed> {
        Ok(Uuids {
            current: fields.u64()?,
            bitmap: fields.u64()?,
            history: [fields.u64()?, fields.u64()?],
            dirty_bits: fields.u64()?,
            flags: fields.u64()?,
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.u64(self.current);
        out.u64(self.bitmap);
        out.u64(self.history[0]);
        out.u64(self.history[1]);
        out.u64(self.dirty_bits);
        out.u64(self.flags);
    }
}
