//! Super blocks that are no longer whole: what can still be read of them, and what cannot be right.

use super::layout::{Layout, LogGeometry, MetaIndex, BYTES_PER_BIT, SECTOR_BYTES, SUPER_BLOCK_BYTES};
use super::super_block::{Cleanness, DecodeError, SuperBlock};

/// Of the four fields that follow from the place, how many must be right where the magic is not: fewer are no
/// sign of meta data.
const RIGHT_WITHOUT_MAGIC: usize = 3;

/// A field that cannot be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Name, as in dump-md.
    pub field: &'static str,
    /// What is there.
    pub found: String,
    /// What should be.
    pub expected: String,
}

/// A block that was a super block of v08.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// The fields as they are.
    pub super_block: SuperBlock,
    /// Where the parts must be; with the log that the block describes, if that can be.
    pub layout: Layout,
    /// What is wrong. Empty: nothing that could be seen.
    pub complaints: Vec<Complaint>,
}

impl Damaged {
    /// The last agreed size, as far as there is room for it and for its bitmap, sectors.
    pub fn plausible_sectors(&self) -> u64 {
        let room = match self.layout.index {
            _ if !self.layout.bitmap_fits() => 0,
            MetaIndex::Internal => self.layout.first_meta_byte() / SECTOR_BYTES,
            _ => self.layout.usable_sectors(u64::MAX),
        };
        self.super_block.effective_size_sectors.min(room)
    }
}

/// Looks at the block that is where a super block of v08 must be. `None`: it is none, or nothing of it is left.
pub fn examine(block: &[u8], place: &Layout) -> Option<Damaged> {
    if block.len() < SUPER_BLOCK_BYTES as usize {
        return None;
    }
    let (super_block, bad_magic) = match SuperBlock::decode(block) {
        Ok(super_block) => (super_block, None),
        Err(DecodeError::NoMagic { found }) => (SuperBlock::fields(block, Cleanness::Clean), Some(found)),
        Err(_) => return None,
    };
    let layout = layout_of(&super_block, place);
    let mut complaints = Vec::new();
    let mut complain = |field, found: String, expected: String| {
        if found != expected {
            complaints.push(Complaint { field, found, expected });
        }
    };
    complain("al_offset", super_block.al_offset_sectors.to_string(), layout.al_offset_sectors.to_string());
    complain("bm_offset", super_block.bm_offset_sectors.to_string(), layout.bm_offset_sectors.to_string());
    // The size of a meta device may change; modules and tools take what they find.
    if place.index.is_internal() {
        complain("md_size_sect", super_block.md_size_sectors.to_string(), layout.md_size_sectors.to_string());
    }
    complain("bm-byte-per-bit", super_block.bytes_per_bit.to_string(), BYTES_PER_BIT.to_string());
    let wrong_placement = complaints.len();
    if let Some(found) = bad_magic {
        if 4 - wrong_placement < RIGHT_WITHOUT_MAGIC {
            return None;
        }
        let expected = "0x8374026b".to_string();
        complaints.insert(0, Complaint { field: "magic", found: format!("0x{found:08x}"), expected });
    }
    let mut damaged = Damaged { super_block, layout, complaints };
    if damaged.super_block.log_geometry().is_err() {
        let (stripes, blocks) = (damaged.super_block.al_stripes, damaged.super_block.al_stripe_blocks);
        damaged.complaints.push(Complaint {
            field: "al-stripes",
            found: format!("{stripes} of {blocks} blocks"),
            expected: "8 to 8192 blocks in all".to_string(),
        });
    }
    let (size, room) = (damaged.super_block.effective_size_sectors, damaged.plausible_sectors());
    if size > room {
        damaged.complaints.push(Complaint {
            field: "la-size-sect",
            found: size.to_string(),
            expected: format!("at most {room}"),
        });
    }
    Some(damaged)
}

/// The layout with the log of the stripe fields, if offsets agree with it; else with the classic one.
fn layout_of(super_block: &SuperBlock, place: &Layout) -> Layout {
    let described = super_block
        .log_geometry()
        .ok()
        .and_then(|log| Layout::new(place.index, place.device_bytes, log).ok())
        .filter(|layout| {
            layout.al_offset_sectors == i64::from(super_block.al_offset_sectors)
                || layout.bm_offset_sectors == i64::from(super_block.bm_offset_sectors)
        });
    described
        .or_else(|| Layout::new(place.index, place.device_bytes, LogGeometry::CLASSIC).ok())
        .unwrap_or(*place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fresh(log: LogGeometry) -> (Layout, Vec<u8>) {
        let layout = Layout::new(MetaIndex::Internal, 64 << 20, log).unwrap();
        let block = SuperBlock { effective_size_sectors: 100_000, ..SuperBlock::just_created(&layout) };
        (layout, block.encode().to_vec())
    }

    fn fields(block: &[u8], place: &Layout) -> Vec<&'static str> {
        examine(block, place).unwrap().complaints.iter().map(|c| c.field).collect()
    }

    #[test]
    fn a_whole_block_has_no_complaints() {
        for log in [LogGeometry::CLASSIC, LogGeometry::new(4, 16).unwrap()] {
            let (layout, block) = fresh(log);
            let found = examine(&block, &fresh(LogGeometry::CLASSIC).0).unwrap();
            assert_eq!((found.layout, found.complaints), (layout, vec![]));
        }
    }

    #[test]
    fn every_placement_field_is_named() {
        let (layout, block) = fresh(LogGeometry::CLASSIC);
        for (at, name) in [
            (60, "magic"),
            (64, "md_size_sect"),
            (68, "al_offset"),
            (76, "bm_offset"),
            (80, "bm-byte-per-bit"),
            (0, "la-size-sect"),
        ] {
            let mut block = block.clone();
            block[at] ^= 0x55;
            assert_eq!(fields(&block, &layout), [name]);
        }
    }

    #[test]
    fn a_size_without_room_is_cut_to_the_data() {
        let (layout, mut block) = fresh(LogGeometry::CLASSIC);
        block[..8].copy_from_slice(&u64::MAX.to_be_bytes());
        let found = examine(&block, &layout).unwrap();
        assert_eq!(found.plausible_sectors(), layout.first_meta_byte() / 512);
    }

    #[test]
    fn other_blocks_are_not_taken_for_meta_data() {
        let (layout, block) = fresh(LogGeometry::CLASSIC);
        assert_eq!(examine(&[0; 4096], &layout), None);
        assert_eq!(examine(&[0xff; 4096], &layout), None);
        assert_eq!(examine(&block[..4095], &layout), None);
        let mut block = block;
        block[60] = 0;
        block[64] ^= 1;
        assert!(examine(&block, &layout).is_some());
        block[80] = 7;
        assert_eq!(examine(&block, &layout), None);
    }

    proptest! {
        #[test]
        fn examine_never_panics(
            bytes in prop::collection::vec(any::<u8>(), 96), magic in any::<bool>(),
            index in prop::sample::select(vec![MetaIndex::Internal, MetaIndex::FlexExternal, MetaIndex::Indexed(0)]),
            size in 69632u64..(1 << 40),
        ) {
            let mut block = bytes;
            block.resize(4096, 0);
            if magic {
                block[60..64].copy_from_slice(&0x8374_026bu32.to_be_bytes());
            }
            let place = Layout::new(index, size, LogGeometry::CLASSIC).unwrap();
            if let Some(found) = examine(&block, &place) {
                let pages = super::super::bitmap::pages(found.plausible_sectors());
                prop_assert!(pages * 4096 <= found.layout.bitmap_bytes().next_multiple_of(4096));
            }
        }
    }
}
