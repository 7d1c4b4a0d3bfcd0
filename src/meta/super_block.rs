//! The v08 super block: 4096 bytes, big-endian (spec/metadata.md 2).
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | u64 | effective (last agreed) size, sectors |
//! | 8 | 4 x u64 | UUIDs: current, bitmap, younger and older history |
//! | 40 | u64 | device UUID |
//! | 48 | u64 | reserved |
//! | 56 | u32 | flags |
//! | 60 | u32 | magic |
//! | 64 | u32 | size of the meta data area, sectors |
//! | 68 | i32 | activity log, sectors from here |
//! | 72 | u32 | slots of the activity log |
//! | 76 | i32 | bitmap, sectors from here |
//! | 80 | u32 | bytes of data a bit |
//! | 84 | u32 | peer's maximum bio size, bytes |
//! | 88 | u32 | stripes of the activity log |
//! | 92 | u32 | length of a stripe, blocks of 4 KiB |

use super::fields::{u32_at, u64_at};
use thiserror::Error;

use super::flags::MetaFlags;
use super::layout::{Layout, LogGeometry, MetaIndex, BYTES_PER_BIT, SUPER_BLOCK_BYTES};

const AT_EFFECTIVE_SIZE: usize = 0;
const AT_UUIDS: usize = 8;
const AT_DEVICE_UUID: usize = 40;
const AT_FLAGS: usize = 56;
const AT_MAGIC: usize = 60;
const AT_MD_SIZE: usize = 64;
const AT_AL_OFFSET: usize = 68;
const AT_AL_SLOTS: usize = 72;
const AT_BM_OFFSET: usize = 76;
const AT_BYTES_PER_BIT: usize = 80;
const AT_PEER_MAX_BIO: usize = 84;
const AT_AL_STRIPES: usize = 88;
const AT_AL_STRIPE_BLOCKS: usize = 92;
/// Where a v07 super block has its magic.
const AT_MAGIC_V07: usize = 28;

/// Bytes that carry fields; the rest of the block is reserved.
pub const FIELD_BYTES: usize = 96;

pub(super) const MAGIC_V07: u32 = 0x8374_026a;
const MAGIC_V08: u32 = 0x8374_026b;
const MAGIC_V08_UNCLEAN: u32 = 0x8374_026c;
pub(super) const MAGIC_V09: u32 = 0x8374_026d;

/// Slots of the activity log that `create-md` writes.
pub const AL_SLOTS_AT_CREATION: u32 = 257;
/// The current UUID of meta data that never saw any data.
pub const UUID_JUST_CREATED: u64 = 4;

/// Which of v08's two magic numbers a block carries (spec/metadata.md 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanness {
    /// 0x8374026b: written by 8.0 - 8.3, by drbdmeta, and by this program.
    Clean,
    /// 0x8374026c: in use by 8.4, or not replayed since.
    Unclean,
}

/// The v08 super block. Reserved fields are neither kept nor looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuperBlock {
    /// Last agreed device size in sectors; 0 = never attached.
    pub effective_size_sectors: u64,
    /// Current, bitmap, younger history and older history UUID.
    pub uuids: [u64; 4],
    /// Random identity of the device, 0 = none.
    pub device_uuid: u64,
    /// MDF bits.
    pub flags: MetaFlags,
    /// Which magic number.
    pub cleanness: Cleanness,
    /// Size of the meta data area in sectors.
    pub md_size_sectors: u32,
    /// Sectors from the super block to the activity log.
    pub al_offset_sectors: i32,
    /// Slots of the activity log; in the 8.3 format the length of its ring follows from it.
    pub al_slots: u32,
    /// Sectors from the super block to the bitmap.
    pub bm_offset_sectors: i32,
    /// Bytes of data a bit; always 4096.
    pub bytes_per_bit: u32,
    /// The peer's last known maximum bio size in bytes, 0 = unknown.
    pub peer_max_bio_bytes: u32,
    /// Stripes of the activity log; 0 together with the next field means one stripe of 8 blocks.
    pub al_stripes: u32,
    /// Length of a stripe in blocks of 4 KiB.
    pub al_stripe_blocks: u32,
}

/// Why bytes are no v08 super block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Neither of v08's magic numbers.
    #[error("no DRBD meta data found (magic 0x{found:08x}); create it with create-md")]
    NoMagic {
        /// What is there instead.
        found: u32,
    },
    /// DRBD 0.7.
    #[error("meta data of DRBD 0.7 (v07) found; convert it with 'drbdmeta ... v08 ... create-md'")]
    Version7,
    /// DRBD 9.
    #[error("meta data of DRBD 9 (v09) found, which this program does not use; convert it to v08 with DRBD 9's 'drbdmeta ... v08 ... create-md' first")]
    Version9,
    /// Fewer bytes than the fields need.
    #[error("{len} bytes are too few for a super block of {FIELD_BYTES} bytes")]
    TooShort {
        /// Bytes given.
        len: usize,
    },
}

/// Why the fields of a super block cannot be right for its place (spec/metadata.md 2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ValidityError {
    /// Activity log elsewhere than the placement rules say.
    #[error("unexpected al_offset: {found} (expected {expected})")]
    AlOffset {
        /// Value on disk, sectors.
        found: i64,
        /// Value for this device, sectors.
        expected: i64,
    },
    /// Bitmap elsewhere than the placement rules say.
    #[error("unexpected bm_offset: {found} (expected {expected})")]
    BmOffset {
        /// Value on disk, sectors.
        found: i64,
        /// Value for this device, sectors.
        expected: i64,
    },
    /// Area of another size; only checked for internal meta data.
    #[error("unexpected md_size: {found} (expected {expected})")]
    MdSize {
        /// Value on disk, sectors.
        found: u64,
        /// Value for this device, sectors.
        expected: u64,
    },
    /// Another granularity than 4096.
    #[error("unexpected bm_bytes_per_bit: {found} (expected 4096)")]
    BytesPerBit {
        /// Value on disk.
        found: u32,
    },
    /// Stripe fields that describe no activity log.
    #[error("invalid activity log striping: al_stripes={stripes}, al_stripe_size_4k={blocks}")]
    Striping {
        /// Stripes on disk.
        stripes: u32,
        /// Blocks a stripe on disk.
        blocks: u32,
    },
}

impl SuperBlock {
    /// Whether a disk with this super block is taken for good at attach, but for what fencing and an activity log say of it (spec/state.md 13.2).
    pub fn calls_disk_good(&self) -> bool {
        self.flags.contains(MetaFlags::CONSISTENT | MetaFlags::WAS_UP_TO_DATE)
    }

    /// What `create-md` writes (spec/metadata.md 2.4, decisions.md 6.1): magic 6b, no flags,
    /// stripe fields 0 for the classic log.
    pub fn just_created(layout: &Layout) -> SuperBlock {
        let mut super_block = SuperBlock {
            effective_size_sectors: 0,
            uuids: [UUID_JUST_CREATED, 0, 0, 0],
            device_uuid: 0,
            flags: MetaFlags::NONE,
            cleanness: Cleanness::Clean,
            md_size_sectors: 0,
            al_offset_sectors: 0,
            al_slots: AL_SLOTS_AT_CREATION,
            bm_offset_sectors: 0,
            bytes_per_bit: BYTES_PER_BIT as u32,
            peer_max_bio_bytes: 0,
            al_stripes: 0,
            al_stripe_blocks: 0,
        };
        super_block.place(layout);
        super_block
    }

    /// Takes offsets, area size and stripe fields from `layout`; the classic log is written as 0, 0,
    /// as all of 8.3 did.
    pub fn place(&mut self, layout: &Layout) {
        // `Layout::new` bounds all of these to the width of the fields.
        self.md_size_sectors = layout.md_size_sectors.min(u64::from(u32::MAX)) as u32;
        self.al_offset_sectors = layout.al_offset_sectors as i32;
        self.bm_offset_sectors = layout.bm_offset_sectors as i32;
        if layout.log == LogGeometry::CLASSIC {
            self.al_stripes = 0;
            self.al_stripe_blocks = 0;
        } else {
            self.al_stripes = layout.log.stripes;
            self.al_stripe_blocks = layout.log.stripe_blocks;
        }
    }

    /// Reads the fields from the start of a block. Needs [`FIELD_BYTES`]; checks the magic only.
    pub fn decode(bytes: &[u8]) -> Result<SuperBlock, DecodeError> {
        if bytes.len() < FIELD_BYTES {
            return Err(DecodeError::TooShort { len: bytes.len() });
        }
        let magic = u32_at(bytes, AT_MAGIC);
        let cleanness = match magic {
            MAGIC_V08 => Cleanness::Clean,
            MAGIC_V08_UNCLEAN => Cleanness::Unclean,
            MAGIC_V09 => return Err(DecodeError::Version9),
            _ if u32_at(bytes, AT_MAGIC_V07) == MAGIC_V07 => return Err(DecodeError::Version7),
            found => return Err(DecodeError::NoMagic { found }),
        };
        Ok(SuperBlock::fields(bytes, cleanness))
    }

    /// The fields, whatever the magic; `bytes` are at least [`FIELD_BYTES`].
    pub(super) fn fields(bytes: &[u8], cleanness: Cleanness) -> SuperBlock {
        SuperBlock {
            effective_size_sectors: u64_at(bytes, AT_EFFECTIVE_SIZE),
            uuids: std::array::from_fn(|i| u64_at(bytes, AT_UUIDS + 8 * i)),
            device_uuid: u64_at(bytes, AT_DEVICE_UUID),
            flags: MetaFlags(u32_at(bytes, AT_FLAGS)),
            cleanness,
            md_size_sectors: u32_at(bytes, AT_MD_SIZE),
            al_offset_sectors: u32_at(bytes, AT_AL_OFFSET) as i32,
            al_slots: u32_at(bytes, AT_AL_SLOTS),
            bm_offset_sectors: u32_at(bytes, AT_BM_OFFSET) as i32,
            bytes_per_bit: u32_at(bytes, AT_BYTES_PER_BIT),
            peer_max_bio_bytes: u32_at(bytes, AT_PEER_MAX_BIO),
            al_stripes: u32_at(bytes, AT_AL_STRIPES),
            al_stripe_blocks: u32_at(bytes, AT_AL_STRIPE_BLOCKS),
        }
    }

    /// The whole block; reserved bytes are zero.
    pub fn encode(&self) -> [u8; SUPER_BLOCK_BYTES as usize] {
        let mut block = [0; SUPER_BLOCK_BYTES as usize];
        let mut put = |at: usize, field: &[u8]| block[at..at + field.len()].copy_from_slice(field);
        put(AT_EFFECTIVE_SIZE, &self.effective_size_sectors.to_be_bytes());
        for (i, uuid) in self.uuids.iter().enumerate() {
            put(AT_UUIDS + 8 * i, &uuid.to_be_bytes());
        }
        put(AT_DEVICE_UUID, &self.device_uuid.to_be_bytes());
        put(AT_FLAGS, &self.flags.0.to_be_bytes());
        let magic = match self.cleanness {
            Cleanness::Clean => MAGIC_V08,
            Cleanness::Unclean => MAGIC_V08_UNCLEAN,
        };
        put(AT_MAGIC, &magic.to_be_bytes());
        put(AT_MD_SIZE, &self.md_size_sectors.to_be_bytes());
        put(AT_AL_OFFSET, &self.al_offset_sectors.to_be_bytes());
        put(AT_AL_SLOTS, &self.al_slots.to_be_bytes());
        put(AT_BM_OFFSET, &self.bm_offset_sectors.to_be_bytes());
        put(AT_BYTES_PER_BIT, &self.bytes_per_bit.to_be_bytes());
        put(AT_PEER_MAX_BIO, &self.peer_max_bio_bytes.to_be_bytes());
        put(AT_AL_STRIPES, &self.al_stripes.to_be_bytes());
        put(AT_AL_STRIPE_BLOCKS, &self.al_stripe_blocks.to_be_bytes());
        block
    }

    /// Size and striping of the activity log.
    ///
    /// 8.3.16's restore-md leaves garbage in the stripe fields (spec/metadata.md 14 trap 4): where
    /// they contradict offsets that fit the classic log, the offsets win.
    pub fn log_geometry(&self) -> Result<LogGeometry, ValidityError> {
        let (stripes, blocks) = (self.al_stripes, self.al_stripe_blocks);
        if (stripes, blocks) == (0, 0) {
            return Ok(LogGeometry::CLASSIC);
        }
        let log_sectors = if self.al_offset_sectors < 0 {
            -i64::from(self.al_offset_sectors)
        } else {
            i64::from(self.bm_offset_sectors) - i64::from(self.al_offset_sectors)
        };
        match LogGeometry::new(stripes, blocks) {
            Some(geometry) if geometry.sectors() as i64 == log_sectors => Ok(geometry),
            _ if log_sectors == LogGeometry::CLASSIC.sectors() as i64 => Ok(LogGeometry::CLASSIC),
            Some(geometry) => Ok(geometry),
            None => Err(ValidityError::Striping { stripes, blocks }),
        }
    }

    /// Checks that the fields fit the place that the block was read from, in drbdmeta's order
    /// (spec/metadata.md 2.5). `layout` must have been computed with [`SuperBlock::log_geometry`].
    ///
    /// Bytes-per-bit is not looked at, as in 8.3.16; attach must refuse everything but 4096 with
    /// [`SuperBlock::validate_for_attach`].
    pub fn validate(&self, layout: &Layout) -> Result<(), ValidityError> {
        self.log_geometry()?;
        let al_offset = i64::from(self.al_offset_sectors);
        if al_offset != layout.al_offset_sectors {
            return Err(ValidityError::AlOffset { found: al_offset, expected: layout.al_offset_sectors });
        }
        let bm_offset = i64::from(self.bm_offset_sectors);
        if bm_offset != layout.bm_offset_sectors {
            return Err(ValidityError::BmOffset { found: bm_offset, expected: layout.bm_offset_sectors });
        }
        let md_size = u64::from(self.md_size_sectors);
        if layout.index == MetaIndex::Internal && md_size != layout.md_size_sectors {
            return Err(ValidityError::MdSize { found: md_size, expected: layout.md_size_sectors });
        }
        Ok(())
    }

    /// As [`SuperBlock::validate`], and bytes-per-bit must be 4096 (error 119 otherwise).
    pub fn validate_for_attach(&self, layout: &Layout) -> Result<(), ValidityError> {
        self.validate(layout)?;
        match u64::from(self.bytes_per_bit) {
            BYTES_PER_BIT => Ok(()),
            _ => Err(ValidityError::BytesPerBit { found: self.bytes_per_bit }),
        }
    }

    /// Layout of this block on a device, with the activity log that the block describes.
    pub fn layout(&self, index: MetaIndex, device_bytes: u64) -> Result<Layout, super::image::MetaError> {
        Ok(Layout::new(index, device_bytes, self.log_geometry()?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fresh() -> (Layout, SuperBlock) {
        let layout = Layout::new(MetaIndex::Internal, 67108864, LogGeometry::CLASSIC).unwrap();
        (layout, SuperBlock::just_created(&layout))
    }

    /// spec/metadata.md 2.1, the example of a fresh 64 MiB device.
    #[test]
    fn a_fresh_block_has_the_bytes_of_8_3() {
        let block = fresh().1.encode();
        let mut expected = [0; 4096];
        expected[15] = 4;
        let tail = [
            0x83, 0x74, 0x02, 0x6b, 0, 0, 0, 0x50, 0xff, 0xff, 0xff, 0xc0, 0, 0, 1, 1, 0xff, 0xff, 0xff,
            0xb8, 0, 0, 0x10, 0,
        ];
        expected[60..84].copy_from_slice(&tail);
        assert_eq!(block, expected);
    }

    #[test]
    fn other_generations_are_told_apart() {
        let mut block = fresh().1.encode();
        block[63] = 0x6c;
        assert_eq!(SuperBlock::decode(&block).unwrap().cleanness, Cleanness::Unclean);
        block[63] = 0x6d;
        assert_eq!(SuperBlock::decode(&block), Err(DecodeError::Version9));
        block[63] = 0;
        assert_eq!(SuperBlock::decode(&block), Err(DecodeError::NoMagic { found: 0x8374_0200 }));
        block[28..32].copy_from_slice(&MAGIC_V07.to_be_bytes());
        assert_eq!(SuperBlock::decode(&block), Err(DecodeError::Version7));
        assert_eq!(SuperBlock::decode(&block[..95]), Err(DecodeError::TooShort { len: 95 }));
    }

    #[test]
    fn fields_that_do_not_fit_the_device_are_named() {
        let (layout, good) = fresh();
        assert_eq!(good.validate_for_attach(&layout), Ok(()));
        let larger = Layout::new(MetaIndex::Internal, 1 << 30, LogGeometry::CLASSIC).unwrap();
        assert_eq!(good.validate(&larger), Err(ValidityError::BmOffset { found: -72, expected: -128 }));
        let wrong_size = SuperBlock { md_size_sectors: 81, ..good.clone() };
        assert_eq!(wrong_size.validate(&layout), Err(ValidityError::MdSize { found: 81, expected: 80 }));
        let no_granularity = SuperBlock { bytes_per_bit: 0, ..good };
        assert_eq!(no_granularity.validate(&layout), Ok(()));
        assert!(no_granularity.validate_for_attach(&layout).is_err());
    }

    /// spec/metadata.md 14 trap 4.
    #[test]
    fn garbage_in_the_stripe_fields_does_not_hide_a_classic_log() {
        let (layout, mut block) = fresh();
        block.al_stripes = 0xdead_beef;
        block.al_stripe_blocks = 3;
        assert_eq!(block.log_geometry(), Ok(LogGeometry::CLASSIC));
        assert_eq!(block.validate(&layout), Ok(()));
        block.al_offset_sectors = -128;
        assert!(block.log_geometry().is_err());
    }

    proptest! {
        #[test]
        fn decode_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(block) = SuperBlock::decode(&bytes) {
                let _ = block.log_geometry();
            }
        }

        #[test]
        fn every_field_survives_a_round_trip(
            a in any::<[u64; 6]>(), b in any::<[u32; 8]>(), unclean in any::<bool>(),
        ) {
            let block = SuperBlock {
                effective_size_sectors: a[0],
                uuids: [a[1], a[2], a[3], a[4]],
                device_uuid: a[5],
                flags: MetaFlags(b[0]),
                cleanness: if unclean { Cleanness::Unclean } else { Cleanness::Clean },
                md_size_sectors: b[1],
                al_offset_sectors: b[2] as i32,
                al_slots: b[3],
                bm_offset_sectors: b[4] as i32,
                bytes_per_bit: b[5],
                peer_max_bio_bytes: b[6],
                al_stripes: b[7],
                al_stripe_blocks: b[0],
            };
            let _ = block.log_geometry();
            prop_assert_eq!(SuperBlock::decode(&block.encode()), Ok(block));
        }
    }
}
