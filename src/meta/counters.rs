//! Meta data of DRBD 0.6 and 0.7: five counters instead of UUIDs (spec/metadata.md 2.6).
//!
//! | | v06, a file of 24 bytes | v07, a block of 4096 bytes |
//! |---|---|---|
//! | flags, then human, timeout, connected and arbitrary count | 0, 5 x u32 | 8, 5 x u32 |
//! | magic | 20, u32 | 28, u32 |
//! | last agreed size, KiB | – | 0, u64 |
//! | size of the area, KiB; activity log, sectors from here; its slots; bitmap, sectors from here | – | 32, 4 x u32 |
//!
//! Read, shown and changed as it is; attached only once it was converted ([`super::conversion`]).

use super::fields::{u32_at, u64_at};
use super::flags::MetaFlags;
use super::layout::{
    Layout, LayoutError, LogGeometry, MetaIndex, DATA_SECTORS_PER_BITMAP_SECTOR, INDEXED_SECTORS_MAX,
    SECTOR_BYTES, SUPER_BLOCK_BYTES,
};
use super::super_block::{ValidityError, AL_SLOTS_AT_CREATION, MAGIC_V07};

const MAGIC_V06: u32 = 0x8374_0269;
/// Bytes of v06's file.
pub const V06_BYTES: usize = 24;
/// Bytes of v07's block that have fields.
const V07_FIELDS: usize = 48;

/// The flags in the order in which get-gi prints them: the first in front of the counters, the others behind.
pub const FLAGS: [MetaFlags; 4] =
    [MetaFlags::CONSISTENT, MetaFlags::PRIMARY_IND, MetaFlags::CONNECTED_IND, MetaFlags::FULL_SYNC];

/// What both generations have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Only the bits of [`FLAGS`] have a meaning.
    pub flags: MetaFlags,
    /// Human, timeout, connected, arbitrary.
    pub counts: [u32; 4],
}

/// A super block of v07.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockV07 {
    /// Counters and flags.
    pub counters: Counters,
    /// Last agreed size.
    pub effective_size_kib: u64,
    /// Slots of the activity log.
    pub al_slots: u32,
    md_size_kib: u32,
    pub(super) al_offset_sectors: i32,
    pub(super) bm_offset_sectors: i32,
}

impl Counters {
    fn decode(bytes: &[u8]) -> Counters {
        Counters {
            flags: MetaFlags(u32_at(bytes, 0)),
            counts: std::array::from_fn(|i| u32_at(bytes, 4 + 4 * i)),
        }
    }

    fn encode(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        let numbers = [self.flags.0].into_iter().chain(self.counts);
        for (field, number) in bytes.chunks_exact_mut(4).zip(numbers) {
            field.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    /// Reads v06's file. `None`: another magic, or too short.
    pub fn decode_v06(bytes: &[u8]) -> Option<Counters> {
        (bytes.len() >= V06_BYTES && u32_at(bytes, 20) == MAGIC_V06).then(|| Counters::decode(bytes))
    }

    /// v06's file.
    pub fn encode_v06(self) -> [u8; V06_BYTES] {
        let mut bytes = [0; V06_BYTES];
        bytes[..20].copy_from_slice(&self.encode());
        bytes[20..].copy_from_slice(&MAGIC_V06.to_be_bytes());
        bytes
    }
}

/// Where v07 has its meta data: as v08, but "internal" are the last 128 MiB, with the super block first.
pub fn layout_v07(index: MetaIndex, is_fixed: bool, device_bytes: u64) -> Result<Layout, LayoutError> {
    if !is_fixed {
        return Layout::new(index, device_bytes, LogGeometry::CLASSIC);
    }
    let slot = Layout::new(MetaIndex::Indexed(0), device_bytes, LogGeometry::CLASSIC)?;
    let md_offset = super::conversion::v07_fixed_offset(device_bytes)
        .ok_or(LayoutError::TooSmall { bytes: device_bytes })?;
    Ok(Layout { index: MetaIndex::Internal, md_offset, ..slot })
}

impl BlockV07 {
    /// What v07's create-md writes.
    pub fn just_created(layout: &Layout) -> BlockV07 {
        BlockV07 {
            counters: Counters { flags: MetaFlags::NONE, counts: [1; 4] },
            effective_size_kib: 0,
            al_slots: AL_SLOTS_AT_CREATION,
            md_size_kib: u32::try_from(layout.md_size_sectors / 2).unwrap_or(u32::MAX),
            al_offset_sectors: layout.al_offset_sectors as i32,
            bm_offset_sectors: layout.bm_offset_sectors as i32,
        }
    }

    /// Reads the block. `None`: another magic, or too short.
    pub fn read(bytes: &[u8]) -> Option<BlockV07> {
        if bytes.len() < V07_FIELDS || u32_at(bytes, 28) != MAGIC_V07 {
            return None;
        }
        Some(BlockV07 {
            counters: Counters::decode(&bytes[8..28]),
            effective_size_kib: u64_at(bytes, 0),
            md_size_kib: u32_at(bytes, 32),
            al_offset_sectors: u32_at(bytes, 36) as i32,
            al_slots: u32_at(bytes, 40),
            bm_offset_sectors: u32_at(bytes, 44) as i32,
        })
    }

    /// Checks that the fields fit the place that the block was read from. A wrong size of the area is no failure in
    /// v07: [`BlockV07::strange_size`].
    pub fn validate(&self, layout: &Layout) -> Result<(), ValidityError> {
        let (found, expected) = (i64::from(self.al_offset_sectors), layout.al_offset_sectors);
        if found != expected {
            return Err(ValidityError::AlOffset { found, expected });
        }
        let (found, expected) = (i64::from(self.bm_offset_sectors), layout.bm_offset_sectors);
        if found != expected {
            return Err(ValidityError::BmOffset { found, expected });
        }
        Ok(())
    }

    /// What is to be said about a flexible internal area of another size than the device asks for.
    pub fn strange_size(&self, layout: &Layout) -> Option<ValidityError> {
        let (found, expected) = (self.md_size_sectors(), layout.md_size_sectors);
        let is_checked = layout.index.is_internal() && layout.al_offset_sectors < 0;
        (is_checked && found != expected).then_some(ValidityError::MdSize { found, expected })
    }

    /// The last agreed size, as far as there is room for it and for its bitmap, sectors.
    pub fn plausible_sectors(&self, layout: &Layout) -> u64 {
        let bitmap_sectors = match layout.bitmap_fits() {
            true => layout.bitmap_bytes() / SECTOR_BYTES,
            false => 0,
        };
        self.effective_size_kib
            .saturating_mul(2)
            .min(layout.usable_sectors(INDEXED_SECTORS_MAX))
            .min(bitmap_sectors.saturating_mul(DATA_SECTORS_PER_BITMAP_SECTOR))
    }

    /// The whole block.
    pub fn encode(&self) -> [u8; SUPER_BLOCK_BYTES as usize] {
        let mut block = [0; SUPER_BLOCK_BYTES as usize];
        block[..8].copy_from_slice(&self.effective_size_kib.to_be_bytes());
        block[8..28].copy_from_slice(&self.counters.encode());
        block[28..32].copy_from_slice(&MAGIC_V07.to_be_bytes());
        block[32..36].copy_from_slice(&self.md_size_kib.to_be_bytes());
        block[36..40].copy_from_slice(&self.al_offset_sectors.to_be_bytes());
        block[40..44].copy_from_slice(&self.al_slots.to_be_bytes());
        block[44..48].copy_from_slice(&self.bm_offset_sectors.to_be_bytes());
        block
    }

    /// Size of the area in sectors.
    pub fn md_size_sectors(&self) -> u64 {
        u64::from(self.md_size_kib) * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// spec/metadata.md 2.6: the file of vector 14.
    #[test]
    fn counters_of_v06() {
        let counters = Counters { flags: MetaFlags(7), counts: [2, 3, 4, 5] };
        let bytes = counters.encode_v06();
        assert_eq!(bytes[20..], [0x83, 0x74, 0x02, 0x69]);
        assert_eq!(Counters::decode_v06(&bytes), Some(counters));
        assert_eq!(Counters::decode_v06(&bytes[..23]), None);
    }

    #[test]
    fn places_of_v07() {
        let fixed = layout_v07(MetaIndex::Internal, true, 256 << 20).unwrap();
        assert_eq!(
            (fixed.md_offset, fixed.al_offset(), fixed.bm_offset()),
            (134217728, 134221824, 134254592)
        );
        assert!(layout_v07(MetaIndex::Internal, true, 127 << 20).is_err());
        let block = BlockV07::just_created(&fixed);
        assert_eq!(block.md_size_sectors(), 262144);
        let flexible = layout_v07(MetaIndex::Internal, false, 256 << 20).unwrap();
        assert_eq!(block.validate(&fixed), Ok(()));
        assert_eq!(block.validate(&flexible), Err(ValidityError::AlOffset { found: 8, expected: -64 }));
        assert_eq!(fixed.first_meta_byte(), 134217728);
        let block = BlockV07 { md_size_kib: 1, ..BlockV07::just_created(&flexible) };
        assert_eq!(block.validate(&flexible), Ok(()));
        assert_eq!(block.strange_size(&flexible), Some(ValidityError::MdSize { found: 2, expected: 88 }));
        assert_eq!(block.strange_size(&fixed), None);
    }

    proptest! {
        #[test]
        fn blocks_survive_a_round_trip(size in any::<u64>(), flags in any::<u32>(), counts in any::<[u32; 4]>()) {
            let layout = layout_v07(MetaIndex::Internal, true, 256 << 20).unwrap();
            let block = BlockV07 {
                counters: Counters { flags: MetaFlags(flags), counts },
                effective_size_kib: size,
                ..BlockV07::just_created(&layout)
            };
            prop_assert_eq!(BlockV07::read(&block.encode()), Some(block));
        }

        #[test]
        fn decode_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let layout = layout_v07(MetaIndex::Internal, true, 256 << 20).unwrap();
            let _ = Counters::decode_v06(&bytes);
            if let Some(block) = BlockV07::read(&bytes) {
                prop_assert!(block.plausible_sectors(&layout) <= 128 << 11);
            }
        }
    }
}
