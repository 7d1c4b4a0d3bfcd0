//! Super blocks of DRBD 0.7 (v07) and 9 (v09): read, and turned into v08's (spec/metadata.md 2.6).
//!
//! Only super block fields change; activity log and bitmap stay where they are.

use super::counters::BlockV07;
use super::fields::{u32_at, u64_at};
use super::flags::MetaFlags;
use super::layout::{Layout, SUPER_BLOCK_BYTES};
use super::super_block::{SuperBlock, AL_SLOTS_AT_CREATION, MAGIC_V09};

/// Bytes at the end of the device that "internal" of v07 took.
pub const V07_INTERNAL_BYTES: u64 = 134_217_728;
/// Sectors from a v07 super block to its activity log where the super block comes first.
const V07_AL_OFFSET_FIRST: i32 = 8;
const FLAG_V09_PEER_CONNECTED: u32 = 1;
const FLAG_V09_PEER_OUTDATED: u32 = 2;
const FLAG_V09_PEER_FULL_SYNC: u32 = 8;

/// Which generation a foreign super block is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// DRBD 0.7.
    V07,
    /// DRBD 9.
    V09,
}

impl Generation {
    /// `v07` or `v09`.
    pub fn name(self) -> &'static str {
        match self {
            Generation::V07 => "v07",
            Generation::V09 => "v09",
        }
    }
}

/// A super block that can be turned into one of v08.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Convertible {
    /// Where it is from.
    pub generation: Generation,
    /// True if the super block is the first part of its area, as in external meta data and in
    /// v07's fixed internal one.
    pub super_block_first: bool,
    /// Size of the area.
    pub md_size_sectors: u64,
    effective_size_sectors: u64,
    uuids: [u64; 4],
    device_uuid: u64,
    flags: MetaFlags,
    al_slots: u32,
    al_offset_sectors: i32,
    bm_offset_sectors: i32,
}

/// Where v07's fixed internal super block would be, if the device is large enough.
pub fn v07_fixed_offset(device_bytes: u64) -> Option<u64> {
    (device_bytes / SUPER_BLOCK_BYTES * SUPER_BLOCK_BYTES).checked_sub(V07_INTERNAL_BYTES)
}

impl Convertible {
    /// Recognizes a block of 4096 bytes.
    pub fn decode(block: &[u8]) -> Option<Convertible> {
        if block.len() < SUPER_BLOCK_BYTES as usize {
            return None;
        }
        if u32_at(block, 60) == MAGIC_V09 {
            return Some(Convertible::of_v09(block));
        }
        BlockV07::read(block).map(|old| Convertible::of_v07(&old))
    }

    fn of_v07(old: &BlockV07) -> Convertible {
        let [human, timeout, connected, arbitrary] = old.counters.counts;
        let low = |count: u32| u64::from(count) & 0xffff;
        let current =
            low(human) << 48 | low(timeout) << 32 | low(connected.wrapping_add(arbitrary)) << 16 | 0xbabe;
        Convertible {
            generation: Generation::V07,
            super_block_first: old.al_offset_sectors == V07_AL_OFFSET_FIRST,
            md_size_sectors: old.md_size_sectors(),
            effective_size_sectors: old.effective_size_kib.saturating_mul(2),
            uuids: [current, 0, current.wrapping_sub(0x10000), current.wrapping_sub(0x20000)],
            device_uuid: 0,
            flags: old.counters.flags,
            al_slots: old.al_slots,
            al_offset_sectors: old.al_offset_sectors,
            bm_offset_sectors: old.bm_offset_sectors,
        }
    }

    fn of_v09(block: &[u8]) -> Convertible {
        let peer = &block[112..144];
        let peer_flags = u32_at(peer, 16);
        let mut flags = MetaFlags(u32_at(block, 56));
        let of_peer = |bit: u32| peer_flags & bit != 0;
        flags.set(MetaFlags::CONNECTED_IND, of_peer(FLAG_V09_PEER_CONNECTED));
        flags.set(MetaFlags::PEER_OUT_DATED, of_peer(FLAG_V09_PEER_OUTDATED));
        // With several peers the bitmaps are interleaved and elsewhere: they say nothing here.
        let max_peers = u32_at(block, 88);
        flags.set(MetaFlags::FULL_SYNC, of_peer(FLAG_V09_PEER_FULL_SYNC) || max_peers > 1);
        Convertible {
            generation: Generation::V09,
            super_block_first: u32_at(block, 68) as i32 >= 0,
            md_size_sectors: u64::from(u32_at(block, 64)),
            effective_size_sectors: u64_at(block, 0),
            uuids: [u64_at(block, 8), u64_at(peer, 0), u64_at(block, 1136), u64_at(block, 1144)],
            device_uuid: u64_at(block, 48),
            flags,
            al_slots: u32_at(block, 72),
            al_offset_sectors: u32_at(block, 68) as i32,
            bm_offset_sectors: u32_at(block, 76) as i32,
        }
    }

    /// True if log and bitmap lie where v08 has them in `layout`, whose super block replaces this one in its place.
    pub fn has_parts_of(&self, layout: &Layout) -> bool {
        i64::from(self.al_offset_sectors) == layout.al_offset_sectors
            && i64::from(self.bm_offset_sectors) == layout.bm_offset_sectors
    }

    /// The v08 super block for `layout`. Log and bitmap are not moved: where they lie elsewhere, all blocks count
    /// as out of sync from now on.
    pub fn convert(&self, layout: &Layout) -> SuperBlock {
        let mut flags = self.flags;
        if self.effective_size_sectors > 0 && !self.has_parts_of(layout) {
            flags.set(MetaFlags::FULL_SYNC, true);
        }
        SuperBlock {
            effective_size_sectors: self.effective_size_sectors,
            uuids: self.uuids,
            device_uuid: self.device_uuid,
            flags,
            al_slots: match self.al_slots {
                0 => AL_SLOTS_AT_CREATION,
                slots => slots,
            },
            ..SuperBlock::just_created(layout)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::layout::{LogGeometry, MetaIndex};
    use crate::meta::super_block::MAGIC_V07;
    use proptest::prelude::*;

    fn layout() -> Layout {
        Layout::new(MetaIndex::Internal, 67108864, LogGeometry::CLASSIC).unwrap()
    }

    fn block(fields: &[(usize, u32)]) -> Vec<u8> {
        let mut block = vec![0; 4096];
        for (at, value) in fields {
            block[*at..*at + 4].copy_from_slice(&value.to_be_bytes());
        }
        block
    }

    /// spec/metadata.md 2.6, the example.
    #[test]
    fn counters_of_v07_become_uuids() {
        let old = block(&[
            (4, 500),
            (8, 7),
            (12, 2),
            (16, 3),
            (20, 4),
            (24, 5),
            (28, MAGIC_V07),
            (36, 8),
            (40, 127),
        ]);
        let old = Convertible::decode(&old).unwrap();
        assert!(old.super_block_first);
        let new = old.convert(&layout());
        assert_eq!(new.uuids, [0x0002_0003_0009_BABE, 0, 0x0002_0003_0008_BABE, 0x0002_0003_0007_BABE]);
        // Its log and bitmap lie behind the super block, those of the new one in front.
        assert_eq!(new.flags, MetaFlags(7 | 8));
        assert_eq!((new.effective_size_sectors, new.al_slots), (1000, 127));
    }

    #[test]
    fn log_and_bitmap_in_another_place_cost_a_full_sync() {
        let fields = |al: i32, bm: i32, size: u32| {
            [(4, size), (56, 0x11), (60, MAGIC_V09), (68, al as u32), (76, bm as u32), (88, 1)]
        };
        for (al, bm, size, flags) in
            [(-64, -72, 9, 0x11), (-128, -136, 9, 0x11 | 8), (-64, -80, 9, 0x11 | 8), (-128, -136, 0, 0x11)]
        {
            let new = Convertible::decode(&block(&fields(al, bm, size))).unwrap().convert(&layout());
            assert_eq!(new.flags, MetaFlags(flags), "{al} {bm} {size}");
        }
    }

    #[test]
    fn a_v09_bitmap_of_several_peers_is_not_trusted() {
        for (max_peers, flags) in [(1, 0x11 | 4), (7, 0x11 | 4 | 8)] {
            let old = block(&[(12, 9), (56, 0x11), (60, MAGIC_V09), (88, max_peers), (128, 1)]);
            let new = Convertible::decode(&old).unwrap().convert(&layout());
            assert_eq!(new.uuids[0], 9);
            assert_eq!(new.flags, MetaFlags(flags));
        }
    }

    proptest! {
        #[test]
        fn decode_never_panics(bytes in prop::collection::vec(any::<u8>(), 100), v09 in any::<bool>()) {
            let mut block: Vec<u8> = bytes.iter().copied().cycle().take(4096).collect();
            prop_assert!(Convertible::decode(&bytes).is_none());
            let (at, magic) = if v09 { (60, MAGIC_V09) } else { (28, MAGIC_V07) };
            block[at..at + 4].copy_from_slice(&magic.to_be_bytes());
            let _ = Convertible::decode(&block).unwrap().convert(&layout()).encode();
        }
    }
}
