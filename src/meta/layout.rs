//! Where the parts of the meta data lie on a device (spec/metadata.md 3).
//!
//! | kind | order on the device |
//! |---|---|
//! | internal | data, bitmap, activity log, super block, unused tail below 4096 bytes |
//! | flex-external, indexed | super block, activity log, bitmap |

use std::fmt;

use thiserror::Error;

/// Bytes of a sector: the unit of every size and offset in the super block.
pub const SECTOR_BYTES: u64 = 512;
/// Bytes and sectors of the super block.
pub const SUPER_BLOCK_BYTES: u64 = 4096;
/// Sectors of the super block.
pub const SUPER_BLOCK_SECTORS: u64 = SUPER_BLOCK_BYTES / SECTOR_BYTES;
/// Bytes of data that one bit of the bitmap stands for.
pub const BYTES_PER_BIT: u64 = 4096;
/// Sectors of data that one sector of bitmap stands for (512 bytes * 8 bits * 8 sectors).
pub const DATA_SECTORS_PER_BITMAP_SECTOR: u64 = 32768;
/// Bytes of data that one 4 KiB page of bitmap stands for.
pub const DATA_BYTES_PER_BITMAP_PAGE: u64 = 134_217_728;
/// Bytes of a slot of an indexed meta device.
pub const INDEXED_SLOT_BYTES: u64 = 134_217_728;
/// Sectors of a slot of an indexed meta device.
pub const INDEXED_SLOT_SECTORS: u64 = INDEXED_SLOT_BYTES / SECTOR_BYTES;
/// Largest data size with flexible meta data: 1 EiB, in sectors.
pub const FLEXIBLE_SECTORS_MAX: u64 = 1 << 51;
/// Largest data size with indexed meta data: 4 TiB - 1152 MiB, in sectors.
pub const INDEXED_SECTORS_MAX: u64 = 8_587_575_296;
/// Largest device with internal meta data that drbdmeta accepts: 1 PiB.
pub const INTERNAL_BYTES_MAX: u64 = 1 << 50;
/// Smallest meta device, internal or flex-external, that a module attaches: 1 MiB.
pub const ATTACH_SECTORS_MIN: u64 = 2048;
/// Smallest device on which anything is looked for (36 KiB: activity log and super block).
pub const DEVICE_BYTES_MIN: u64 = 36864;

/// The index word of a meta device (spec/metadata.md 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetaIndex {
    /// At the end of the data device.
    Internal,
    /// Alone on the whole meta device.
    FlexExternal,
    /// A slot of 128 MiB on a shared meta device.
    Indexed(u8),
}

impl MetaIndex {
    /// The number that the attach commands carry: -3, -2, or the slot.
    pub fn number(self) -> i32 {
        match self {
            MetaIndex::Internal => -3,
            MetaIndex::FlexExternal => -2,
            MetaIndex::Indexed(slot) => i32::from(slot),
        }
    }

    /// True if data and meta data share the device.
    pub fn is_internal(self) -> bool {
        self == MetaIndex::Internal
    }

    /// Reads the word as drbdmeta's v08 takes it: `internal`, `flex-internal`, `flex-external`,
    /// or 0..255 in C notation (`0x1`, `010`).
    pub fn parse(word: &str) -> Option<MetaIndex> {
        match word {
            "internal" | "flex-internal" => Some(MetaIndex::Internal),
            "flex-external" => Some(MetaIndex::FlexExternal),
            _ => parse_c_number(word).and_then(|number| u8::try_from(number).ok()).map(MetaIndex::Indexed),
        }
    }
}

impl fmt::Display for MetaIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetaIndex::Internal => f.write_str("internal"),
            MetaIndex::FlexExternal => f.write_str("flex-external"),
            MetaIndex::Indexed(slot) => write!(f, "{slot}"),
        }
    }
}

/// A number in C notation: decimal, `0x` hexadecimal, leading `0` octal. The whole word must be one.
pub fn parse_c_number(word: &str) -> Option<u64> {
    let lower = word.to_ascii_lowercase();
    let (digits, radix) = match lower.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None if lower.len() > 1 && lower.starts_with('0') => (&lower[1..], 8),
        None => (lower.as_str(), 10),
    };
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// Size and striping of the activity log (spec/metadata.md 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogGeometry {
    /// Number of stripes, at least 1.
    pub stripes: u32,
    /// Length of a stripe in blocks of 4 KiB, at least 1.
    pub stripe_blocks: u32,
}

impl LogGeometry {
    /// The 32 KiB log of 8.3: one stripe of eight blocks.
    pub const CLASSIC: LogGeometry = LogGeometry { stripes: 1, stripe_blocks: 8 };

    /// Longest log that is accepted, in blocks: the most that drbdmeta can create (32 MiB).
    /// Modules take 4194304, but a log is read as a whole, so a damaged field must not ask for 16 GiB.
    pub const BLOCKS_MAX: u64 = 8192;

    /// A geometry of 8..=[`LogGeometry::BLOCKS_MAX`] blocks in all.
    pub fn new(stripes: u32, stripe_blocks: u32) -> Option<LogGeometry> {
        let blocks = u64::from(stripes) * u64::from(stripe_blocks);
        (8..=Self::BLOCKS_MAX).contains(&blocks).then_some(LogGeometry { stripes, stripe_blocks })
    }

    /// Length of the log in blocks of 4 KiB.
    pub fn blocks(self) -> u32 {
        self.stripes * self.stripe_blocks
    }

    /// Length of the log in sectors.
    pub fn sectors(self) -> u64 {
        u64::from(self.blocks()) * 8
    }

    /// Length of the log in bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.blocks()) * 4096
    }

    /// The block that holds ring position `position` (spec/metadata.md 4.2).
    pub fn block_of_position(self, position: u32) -> u32 {
        let position = position % self.blocks();
        (position % self.stripes) * self.stripe_blocks + position / self.stripes
    }
}

impl Default for LogGeometry {
    fn default() -> Self {
        LogGeometry::CLASSIC
    }
}

/// Why no meta data fits on a device.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// The device is smaller than any meta data.
    #[error("the device has only {bytes} bytes: no room for meta data; use a larger device")]
    TooSmall {
        /// Size of the device.
        bytes: u64,
    },
    /// The slot lies behind the end of the device.
    #[error("the meta data block would lie at byte offset {offset}, but the device has only {bytes} bytes; use a smaller index or a larger device")]
    BeyondEnd {
        /// Where the super block would be.
        offset: u64,
        /// Size of the device.
        bytes: u64,
    },
    /// Larger than 1 PiB with internal meta data.
    #[error("the device has {bytes} bytes; at most 1024 TB are supported")]
    TooLarge {
        /// Size of the device.
        bytes: u64,
    },
}

/// Offsets and sizes of all parts of one meta data area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Kind of placement.
    pub index: MetaIndex,
    /// Size in bytes of the device that holds the meta data.
    pub device_bytes: u64,
    /// Size and striping of the activity log.
    pub log: LogGeometry,
    /// Byte offset of the super block on the device.
    pub md_offset: u64,
    /// Size of the whole meta data area in sectors.
    pub md_size_sectors: u64,
    /// Sectors from the super block to the activity log.
    pub al_offset_sectors: i64,
    /// Sectors from the super block to the bitmap.
    pub bm_offset_sectors: i64,
}

impl Layout {
    /// Computes the placement on a device of `device_bytes` (spec/metadata.md 3.2).
    pub fn new(index: MetaIndex, device_bytes: u64, log: LogGeometry) -> Result<Layout, LayoutError> {
        let device_too_small = LayoutError::TooSmall { bytes: device_bytes };
        if device_bytes < DEVICE_BYTES_MIN {
            return Err(device_too_small);
        }
        let al_sectors = log.sectors() as i64;
        let layout = match index {
            MetaIndex::Internal => {
                if device_bytes > INTERNAL_BYTES_MAX {
                    return Err(LayoutError::TooLarge { bytes: device_bytes });
                }
                let bitmap_pages = device_bytes.div_ceil(DATA_BYTES_PER_BITMAP_PAGE);
                let md_size_sectors = 8 * bitmap_pages + SUPER_BLOCK_SECTORS + log.sectors();
                Layout {
                    index,
                    device_bytes,
                    log,
                    md_offset: device_bytes / SUPER_BLOCK_BYTES * SUPER_BLOCK_BYTES - SUPER_BLOCK_BYTES,
                    md_size_sectors,
                    al_offset_sectors: -al_sectors,
                    bm_offset_sectors: SUPER_BLOCK_SECTORS as i64 - md_size_sectors as i64,
                }
            }
            MetaIndex::FlexExternal | MetaIndex::Indexed(_) => {
                let (md_offset, md_size_sectors) = match index {
                    MetaIndex::Indexed(slot) => (u64::from(slot) * INDEXED_SLOT_BYTES, INDEXED_SLOT_SECTORS),
                    _ => (0, device_bytes / SECTOR_BYTES),
                };
                Layout {
                    index,
                    device_bytes,
                    log,
                    md_offset,
                    // The field on disk has 32 bits; 2 TiB of meta data are far more than needed.
                    md_size_sectors: md_size_sectors.min(u64::from(u32::MAX)),
                    al_offset_sectors: SUPER_BLOCK_SECTORS as i64,
                    bm_offset_sectors: SUPER_BLOCK_SECTORS as i64 + al_sectors,
                }
            }
        };
        if layout.md_offset + SUPER_BLOCK_BYTES > device_bytes {
            return Err(LayoutError::BeyondEnd { offset: layout.md_offset, bytes: device_bytes });
        }
        if layout.al_start().is_none() {
            return Err(device_too_small);
        }
        Ok(layout)
    }

    /// Byte offset of the activity log, if it lies on the device.
    fn al_start(&self) -> Option<u64> {
        self.byte_at(self.al_offset_sectors)
    }

    fn byte_at(&self, sectors_from_super_block: i64) -> Option<u64> {
        self.md_offset.checked_add_signed(sectors_from_super_block.checked_mul(SECTOR_BYTES as i64)?)
    }

    /// Byte offset of the activity log on the device.
    pub fn al_offset(&self) -> u64 {
        self.al_start().unwrap_or(0)
    }

    /// Byte offset of the bitmap on the device, as drbdmeta prints it.
    ///
    /// On internal devices of 36..68 KiB it would lie before the start: then 0 and
    /// [`Layout::bitmap_fits`] is false.
    pub fn bm_offset(&self) -> u64 {
        self.byte_at(self.bm_offset_sectors).unwrap_or(0)
    }

    /// True if the bitmap area has room on the device.
    pub fn bitmap_fits(&self) -> bool {
        self.byte_at(self.bm_offset_sectors)
            .is_some_and(|start| start < self.device_bytes || self.bitmap_bytes() == 0)
    }

    /// Length of the bitmap area in bytes.
    pub fn bitmap_bytes(&self) -> u64 {
        let sectors = match self.index {
            MetaIndex::Internal => {
                self.md_size_sectors.saturating_sub(SUPER_BLOCK_SECTORS + self.log.sectors())
            }
            _ => self.md_size_sectors.saturating_sub(self.bm_offset_sectors.unsigned_abs()),
        };
        sectors * SECTOR_BYTES
    }

    /// First byte of the device that belongs to the meta data.
    pub fn first_meta_byte(&self) -> u64 {
        // Internal meta data end with the super block; v07's fixed ones and all others begin with it.
        if self.al_offset_sectors < 0 {
            self.bm_offset()
        } else {
            self.md_offset
        }
    }

    /// Largest data size in sectors on a data device of `data_sectors` (spec/metadata.md 3.4).
    /// For internal meta data `data_sectors` is not looked at: the device is the same.
    pub fn usable_sectors(&self, data_sectors: u64) -> u64 {
        match self.index {
            MetaIndex::Internal => (self.first_meta_byte() / SECTOR_BYTES).min(FLEXIBLE_SECTORS_MAX),
            MetaIndex::FlexExternal => {
                let bitmap_sectors = self.bitmap_bytes() / SECTOR_BYTES;
                data_sectors
                    .min(FLEXIBLE_SECTORS_MAX)
                    .min(bitmap_sectors.saturating_mul(DATA_SECTORS_PER_BITMAP_SECTOR))
            }
            MetaIndex::Indexed(_) => data_sectors.min(INDEXED_SECTORS_MAX),
        }
    }

    /// Smallest meta device in sectors that attach accepts (spec/metadata.md 3.4, error 112).
    pub fn attach_sectors_min(index: MetaIndex) -> u64 {
        match index {
            MetaIndex::Indexed(slot) => INDEXED_SLOT_SECTORS * (u64::from(slot) + 1),
            _ => ATTACH_SECTORS_MIN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn internal(bytes: u64) -> Layout {
        Layout::new(MetaIndex::Internal, bytes, LogGeometry::CLASSIC).unwrap()
    }

    /// spec/metadata.md 3.3.
    #[test]
    fn worked_examples_of_internal_placement() {
        let table: &[(u64, u64, u64, u64, u64, u64)] = &[
            (69632, 80, 65536, 32768, 28672, 56),
            (73728, 80, 69632, 36864, 32768, 64),
            (1048576, 80, 1044480, 1011712, 1007616, 1968),
            (9999872, 80, 9994240, 9961472, 9957376, 19448),
            (67108864, 80, 67104768, 67072000, 67067904, 130992),
            (134217728, 80, 134213632, 134180864, 134176768, 262064),
            (134218240, 88, 134213632, 134180864, 134172672, 262056),
            (1073741824, 136, 1073737728, 1073704960, 1073672192, 2097016),
            (10737416192, 712, 10737410048, 10737377280, 10737049600, 20970800),
            (100000000000, 6040, 99999993856, 99999961088, 99996905472, 195306456),
            (1099511627776, 65608, 1099511623680, 1099511590912, 1099478036480, 2147418040),
            (17593259787776, 1048720, 17593259782144, 17593259749376, 17592722841600, 34360786800),
        ];
        for &(bytes, md_size, super_block, log, bitmap, usable) in table {
            let layout = internal(bytes);
            assert_eq!(
                (
                    layout.md_size_sectors,
                    layout.md_offset,
                    layout.al_offset(),
                    layout.bm_offset(),
                    layout.usable_sectors(0)
                ),
                (md_size, super_block, log, bitmap, usable),
                "device of {bytes} bytes"
            );
        }
    }

    #[test]
    fn usable_size_of_external_meta_data_is_limited_by_the_bitmap_area() {
        let huge = u64::MAX;
        for (bytes, usable) in [(73728, 2359296), (1048576, 64749568), (4 << 30, 274875547648)] {
            let layout = Layout::new(MetaIndex::FlexExternal, bytes, LogGeometry::CLASSIC).unwrap();
            assert_eq!(layout.usable_sectors(huge), usable);
        }
        let indexed = Layout::new(MetaIndex::Indexed(1), 1 << 30, LogGeometry::CLASSIC).unwrap();
        assert_eq!(indexed.md_offset, 134217728);
        assert_eq!(indexed.usable_sectors(huge), 8587575296);
        assert_eq!(indexed.usable_sectors(1000), 1000);
    }

    #[test]
    fn a_device_without_room_is_refused() {
        for bytes in [0, 512, 36863] {
            assert!(matches!(
                Layout::new(MetaIndex::Internal, bytes, LogGeometry::CLASSIC),
                Err(LayoutError::TooSmall { .. })
            ));
        }
        assert_eq!(
            Layout::new(MetaIndex::Indexed(1), 1048576, LogGeometry::CLASSIC),
            Err(LayoutError::BeyondEnd { offset: 134217728, bytes: 1048576 })
        );
        let large = LogGeometry::new(4, 2048).unwrap();
        assert!(Layout::new(MetaIndex::Internal, 32 << 20, large).is_err());
        assert!(LogGeometry::new(4, 1 << 20).is_none());
        assert!(internal(40960).bitmap_fits());
        assert!(!internal(36864).bitmap_fits());
    }

    /// spec/metadata.md 4.2: 4 stripes of 4 blocks.
    #[test]
    fn striped_positions_go_round_the_stripes() {
        let geometry = LogGeometry::new(4, 4).unwrap();
        let blocks: Vec<u32> = (0..6).map(|t| geometry.block_of_position(t)).collect();
        assert_eq!(blocks, [0, 4, 8, 12, 1, 5]);
    }

    #[test]
    fn index_words_are_read_in_c_notation() {
        assert_eq!(MetaIndex::parse("0x1"), Some(MetaIndex::Indexed(1)));
        assert_eq!(MetaIndex::parse("010"), Some(MetaIndex::Indexed(8)));
        assert_eq!(MetaIndex::parse("255"), Some(MetaIndex::Indexed(255)));
        assert_eq!(MetaIndex::parse("flex-internal"), Some(MetaIndex::Internal));
        for wrong in ["256", "", "bogus", "-1", "+1", "0x", "09"] {
            assert_eq!(MetaIndex::parse(wrong), None, "{wrong}");
        }
    }
}
