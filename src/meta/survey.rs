//! Finding meta data on a device of which nothing is known. Only reads.
//!
//! | looked at | for |
//! |---|---|
//! | the last 4 KiB | internal meta data of v08 and v09, flexible internal of v07 |
//! | 128 MiB before the end | v07's internal |
//! | byte 0 and every 128 MiB, 256 times | flexible external and indexed |
//! | the end that the device had before | internal of v08 that has not been moved yet |

use std::io;

use super::activity_log::{self, Unusable};
use super::bitmap;
use super::conversion::{Convertible, Generation};
use super::counters::layout_v07;
use super::damage::{examine, Damaged};
use super::image::{self, BlockFile, MetaError, BATCH_BYTES};
use super::layout::{Layout, LogGeometry, MetaIndex, INDEXED_SLOT_SECTORS, SUPER_BLOCK_BYTES};
use super::{MetaFlags, SuperBlock};
use crate::sys::buffer::Buffer;

/// After so many places that cannot be read, the device is given up: each may take a dying disk half a minute.
const UNREADABLE_MAX: usize = 4;
/// After so many pages of the bitmap that cannot be read, the rest is not tried.
const UNREADABLE_PAGES_MAX: u64 = 16;

/// Where meta data was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Where v08 has it.
    Index(MetaIndex),
    /// Internal, by a size in bytes that the device had before.
    FormerEnd(u64),
    /// The fixed 128 MiB of v07's "internal".
    V07Internal,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// v08, perhaps damaged.
    V08(Damaged),
    /// Another generation.
    Other {
        /// Its super block.
        block: Convertible,
        /// The place where it was found.
        layout: Layout,
    },
}

/// One super block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which kind of place.
    pub place: Place,
    /// What is there.
    pub content: Content,
}

impl Finding {
    /// The generation's name.
    pub fn format(&self) -> &'static str {
        match &self.content {
            Content::V08(_) => "v08",
            Content::Other { block, .. } => block.generation.name(),
        }
    }

    /// Where the parts are, or must be.
    pub fn layout(&self) -> &Layout {
        match &self.content {
            Content::V08(damaged) => &damaged.layout,
            Content::Other { layout, .. } => layout,
        }
    }

    /// Byte offset of the super block.
    pub fn offset(&self) -> u64 {
        self.layout().md_offset
    }
}

/// All that was found on a device.
#[derive(Debug, Default)]
pub struct Survey {
    /// Super blocks.
    pub findings: Vec<Finding>,
    /// Places that could not be read; after four of them, the others were not tried.
    pub unreadable: Vec<(u64, io::Error)>,
}

impl Survey {
    /// Looks at all places. `former_sizes`: sizes in bytes that the device is known to have had. `progress` is told how many
    /// slots of how many are looked at.
    pub fn of(file: &dyn BlockFile, former_sizes: &[u64], progress: &mut dyn FnMut(u64, u64)) -> Survey {
        let mut survey = Survey::default();
        survey.look_at_index(file, MetaIndex::Internal, file.size_bytes());
        if let Ok(layout) = layout_v07(MetaIndex::Internal, true, file.size_bytes()) {
            survey.look_for_v07(file, layout);
        }
        for bytes in former_sizes {
            if *bytes != file.size_bytes() && survey.findings.is_empty() {
                survey.look_at_index(file, MetaIndex::Internal, *bytes);
            }
        }
        for slot in 0..=u8::MAX {
            progress(u64::from(slot), u64::from(u8::MAX));
            survey.look_at_index(file, MetaIndex::Indexed(slot), file.size_bytes());
        }
        survey
    }

    fn read(&mut self, file: &dyn BlockFile, offset: u64) -> Option<Buffer> {
        let is_given_up = self.unreadable.len() >= UNREADABLE_MAX;
        if is_given_up || offset.checked_add(SUPER_BLOCK_BYTES)? > file.size_bytes() {
            return None;
        }
        match read_block(file, offset) {
            Ok(block) => Some(block),
            Err(error) => {
                self.unreadable.push((offset, error));
                None
            }
        }
    }

    fn look_for_v07(&mut self, file: &dyn BlockFile, layout: Layout) {
        let block = self.read(file, layout.md_offset).and_then(|block| Convertible::decode(&block));
        let fixed = block.filter(|b| b.generation == Generation::V07 && b.super_block_first);
        // At byte 0 it is external meta data.
        if let Some(block) = fixed.filter(|_| layout.md_offset > 0) {
            self.findings
                .push(Finding { place: Place::V07Internal, content: Content::Other { block, layout } });
        }
    }

    fn look_at_index(&mut self, file: &dyn BlockFile, index: MetaIndex, bytes: u64) {
        let Ok(layout) = Layout::new(index, bytes, LogGeometry::CLASSIC) else {
            return;
        };
        let offset = layout.md_offset;
        let Some(block) = self.read(file, offset) else {
            return;
        };
        let mut place = match index {
            _ if bytes != file.size_bytes() => Place::FormerEnd(bytes),
            index => Place::Index(index),
        };
        if let Some(other) = Convertible::decode(&block) {
            let is_known = self.findings.iter().any(|found| found.offset() == offset);
            let mut layout = layout;
            if index == MetaIndex::Indexed(0) && other.md_size_sectors != INDEXED_SLOT_SECTORS {
                let Ok(flexible) = Layout::new(MetaIndex::FlexExternal, bytes, LogGeometry::CLASSIC) else {
                    return;
                };
                (place, layout) = (Place::Index(MetaIndex::FlexExternal), flexible);
            }
            if other.super_block_first != index.is_internal() && !is_known {
                self.findings.push(Finding { place, content: Content::Other { block: other, layout } });
            }
            return;
        }
        let Some(found) = examine(&block, &layout) else {
            return;
        };
        let is_slot = u64::from(found.super_block.md_size_sectors) == INDEXED_SLOT_SECTORS;
        let first = found.super_block.al_offset_sectors > 0;
        let content = match index {
            // The end of a meta device may lie on one of its slots, and a slot on the end of a device.
            MetaIndex::Internal if first && offset % (INDEXED_SLOT_SECTORS * 512) == 0 => return,
            MetaIndex::Indexed(_) if !first && !found.complaints.is_empty() => return,
            MetaIndex::Indexed(0) if !is_slot => {
                let Ok(flexible) = Layout::new(MetaIndex::FlexExternal, bytes, LogGeometry::CLASSIC) else {
                    return;
                };
                place = Place::Index(MetaIndex::FlexExternal);
                examine(&block, &flexible)
            }
            // Among data, only what is right in every field is a slot.
            MetaIndex::Indexed(slot) if slot > 0 && !(is_slot && found.complaints.is_empty()) => return,
            // Where the end was before, what is wrong is no longer meta data.
            _ if matches!(place, Place::FormerEnd(_)) && !found.complaints.is_empty() => return,
            _ => Some(found),
        };
        if let Some(found) = content {
            self.findings.push(Finding { place, content: Content::V08(found) });
        }
    }
}

/// Reads 4 KiB; where that fails, the fields' own sector alone, which is all that 8.3 uses.
///
/// # Errors
/// That of the device, if not even this sector can be read.
pub fn read_block(file: &dyn BlockFile, offset: u64) -> io::Result<Buffer> {
    let mut block = Buffer::zeroed(SUPER_BLOCK_BYTES as usize);
    if file.read_at(offset, &mut block).is_err() {
        block.fill(0);
        let len = file.logical_block_bytes();
        file.read_at(offset, &mut block[..len])?;
    }
    Ok(block)
}

/// What is out of sync, by bitmap and activity log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutOfSync {
    /// Bits that are set; those of pages that cannot be read count as set.
    pub bits: u64,
    /// Pages of the bitmap that cannot be read, or were not tried after many that cannot.
    pub unreadable_pages: u64,
    /// Extents of the activity log that are to be marked after a crash as Primary; some of their bits may be set.
    pub hot_extents: u64,
    /// The activity log cannot tell.
    pub log_is_lost: bool,
}

impl OutOfSync {
    /// Counts. `progress` is told how many pages of how many are done.
    pub fn of(file: &dyn BlockFile, found: &Damaged, progress: &mut dyn FnMut(u64, u64)) -> OutOfSync {
        let mut result = OutOfSync::default();
        let sectors = found.plausible_sectors();
        let pages = bitmap::pages(sectors);
        let mut words = vec![0; BATCH_BYTES / 8];
        let pages_per_batch = (BATCH_BYTES / bitmap::PAGE_BYTES) as u64;
        for first in (0..pages).step_by(pages_per_batch as usize) {
            let count = (pages - first).min(pages_per_batch);
            let words = &mut words[..count as usize * bitmap::WORDS_PER_PAGE];
            if result.unreadable_pages >= UNREADABLE_PAGES_MAX {
                let rest = pages - first;
                result.unreadable_pages += rest;
                result.bits += bitmap::bits(sectors) - first * bitmap::BITS_PER_PAGE;
                break;
            }
            // The size was cut to what the area holds, so only the device can fail.
            result.unreadable_pages +=
                image::read_readable_bitmap(file, &found.layout, first, words).unwrap_or(0);
            if first + count == pages {
                bitmap::mask_tail(words, sectors - first * bitmap::BITS_PER_PAGE * bitmap::SECTORS_PER_BIT);
            }
            result.bits += words.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
            progress(first + count, pages);
        }
        if found.super_block.flags.contains(MetaFlags::PRIMARY_IND) {
            match hot_extents(file, &found.super_block, &found.layout) {
                Ok(Ok(count)) => result.hot_extents = count,
                Ok(Err(_)) | Err(_) => result.log_is_lost = true,
            }
        }
        result
    }
}

fn hot_extents(
    file: &dyn BlockFile,
    super_block: &SuperBlock,
    layout: &Layout,
) -> Result<Result<u64, Unusable>, MetaError> {
    let area = image::read_activity_log(file, layout)?;
    Ok(activity_log::replay(&area, super_block, layout.log).map(|replay| replay.hot.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::crash_device::CrashDevice;

    const MIB: u64 = 1 << 20;

    fn device(bytes: u64) -> CrashDevice {
        CrashDevice::new(bytes, Default::default())
    }

    /// Creates meta data as by a device of `bytes`.
    fn create(device: &CrashDevice, index: MetaIndex, bytes: u64, log: LogGeometry) -> Layout {
        let layout = Layout::new(index, bytes, log).unwrap();
        let block = SuperBlock { effective_size_sectors: 100_000, ..SuperBlock::just_created(&layout) };
        image::write_super_block(device, &layout, &block, true).unwrap();
        layout
    }

    fn survey(device: &CrashDevice, former: &[u64]) -> Survey {
        Survey::of(device, former, &mut |_, _| ())
    }

    fn places(device: &CrashDevice, former: &[u64]) -> Vec<(Place, u64, usize)> {
        let survey = survey(device, former);
        assert!(survey.unreadable.is_empty());
        let complaints = |found: &Finding| match &found.content {
            Content::V08(found) => found.complaints.len(),
            Content::Other { .. } => 0,
        };
        survey.findings.iter().map(|f| (f.place, f.offset(), complaints(f))).collect()
    }

    #[test]
    fn all_layouts_are_found() {
        let striped = LogGeometry::new(4, 16).unwrap();
        for log in [LogGeometry::CLASSIC, striped] {
            let device = device(64 * MIB);
            create(&device, MetaIndex::Internal, 64 * MIB, log);
            assert_eq!(places(&device, &[]), [(Place::Index(MetaIndex::Internal), 64 * MIB - 4096, 0)]);
        }
        let flexible = device(64 * MIB);
        create(&flexible, MetaIndex::FlexExternal, 64 * MIB, LogGeometry::CLASSIC);
        assert_eq!(places(&flexible, &[]), [(Place::Index(MetaIndex::FlexExternal), 0, 0)]);
        let indexed = device(1024 * MIB);
        for slot in [0, 1, 7] {
            create(&indexed, MetaIndex::Indexed(slot), 1024 * MIB, LogGeometry::CLASSIC);
        }
        let expected = [0, 1, 7].map(|n| (Place::Index(MetaIndex::Indexed(n)), u64::from(n) * 128 * MIB, 0));
        assert_eq!(places(&indexed, &[]), expected);
        assert_eq!(places(&device(64 * MIB), &[]), []);
    }

    #[test]
    fn a_former_end_is_looked_at_where_the_new_one_has_nothing() {
        let device = device(96 * MIB);
        create(&device, MetaIndex::Internal, 64 * MIB, LogGeometry::CLASSIC);
        assert_eq!(places(&device, &[]), []);
        let at = 64 * MIB - 4096;
        assert_eq!(places(&device, &[96 * MIB, 128 * MIB, 64 * MIB]), [(Place::FormerEnd(64 * MIB), at, 0)]);
        create(&device, MetaIndex::Internal, 96 * MIB, LogGeometry::CLASSIC);
        let found = places(&device, &[64 * MIB]);
        assert_eq!(found, [(Place::Index(MetaIndex::Internal), 96 * MIB - 4096, 0)]);
    }

    #[test]
    fn other_generations_are_found_at_their_places() {
        let v07 = |al_offset: i32, kib: u32| {
            let mut block = vec![0; 4096];
            block[32..36].copy_from_slice(&kib.to_be_bytes());
            block[28..32].copy_from_slice(&0x8374_026au32.to_be_bytes());
            block[36..40].copy_from_slice(&al_offset.to_be_bytes());
            block
        };
        let fixed = device(256 * MIB);
        fixed.write_at(128 * MIB, &v07(8, 131_072)).unwrap();
        // The same place as slot 1; the first name counts.
        assert_eq!(places(&fixed, &[]), [(Place::V07Internal, 128 * MIB, 0)]);
        assert_eq!(survey(&fixed, &[]).findings[0].layout().bm_offset(), 128 * MIB + 36864);
        let flexible = device(64 * MIB);
        flexible.write_at(64 * MIB - 4096, &v07(-64, 40)).unwrap();
        assert_eq!(places(&flexible, &[]), [(Place::Index(MetaIndex::Internal), 64 * MIB - 4096, 0)]);
        let external = device(64 * MIB);
        for (kib, index) in [(131_072, MetaIndex::Indexed(0)), (65_536, MetaIndex::FlexExternal)] {
            external.write_at(0, &v07(8, kib)).unwrap();
            assert_eq!(places(&external, &[]), [(Place::Index(index), 0, 0)]);
            assert_eq!(survey(&external, &[]).findings[0].layout().index, index);
        }
    }

    #[test]
    fn a_place_that_cannot_be_read_does_not_hide_the_others() {
        let mut device = device(64 * MIB);
        create(&device, MetaIndex::Internal, 64 * MIB, LogGeometry::CLASSIC);
        device.unreadable = vec![(0, 512), (64 * MIB - 512, 64 * MIB)];
        let survey = survey(&device, &[]);
        // Of the super block, only reserved bytes are lost.
        assert_eq!(survey.findings.len(), 1);
        assert_eq!(survey.unreadable.len(), 1);
        assert_eq!(survey.unreadable[0].0, 0);
    }

    #[test]
    fn a_dying_disk_is_given_up() {
        let mut device = device(64 << 30);
        let layout = create(&device, MetaIndex::Internal, 64 << 30, LogGeometry::CLASSIC);
        device.unreadable = vec![(0, layout.md_offset)];
        let survey = survey(&device, &[]);
        assert_eq!((survey.findings.len(), survey.unreadable.len()), (1, UNREADABLE_MAX));
        let Content::V08(mut found) = survey.findings[0].content.clone() else { panic!() };
        found.super_block.effective_size_sectors = layout.first_meta_byte() / 512;
        let pages = bitmap::pages(found.plausible_sectors());
        assert!(pages > 256);
        let counted = OutOfSync::of(&device, &found, &mut |_, _| ());
        assert_eq!(counted.unreadable_pages, pages);
        assert_eq!(counted.bits, bitmap::bits(found.plausible_sectors()));
    }

    #[test]
    fn pages_that_cannot_be_read_count_as_out_of_sync() {
        let mut device = device(300 * MIB);
        let layout = create(&device, MetaIndex::Internal, 300 * MIB, LogGeometry::CLASSIC);
        let mut super_block = image::read_super_block(&device, MetaIndex::Internal).unwrap().0;
        super_block.effective_size_sectors = layout.first_meta_byte() / 512;
        image::write_super_block(&device, &layout, &super_block, true).unwrap();
        image::write_bitmap(&device, &layout, 0, &[3], true).unwrap();
        let count = |device: &CrashDevice| {
            let Content::V08(found) = survey(device, &[]).findings.remove(0).content else { panic!() };
            OutOfSync::of(device, &found, &mut |_, _| ())
        };
        assert_eq!(count(&device), OutOfSync { bits: 2, ..OutOfSync::default() });
        device.unreadable = vec![(layout.bm_offset() + 2 * 4096, layout.bm_offset() + 2 * 4096 + 512)];
        let last = bitmap::bits(super_block.effective_size_sectors) - 2 * bitmap::BITS_PER_PAGE;
        let expected = OutOfSync { bits: 2 + last, unreadable_pages: 1, ..OutOfSync::default() };
        assert_eq!(count(&device), expected);
    }
}
