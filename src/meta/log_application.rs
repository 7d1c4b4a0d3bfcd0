//! `apply-al`: what a crashed Primary may have been writing becomes out of sync, and the log is emptied
//! (spec/metadata.md 4.3, spec/decisions.md 6.2).
//!
//! Each line is durable before the next; after a crash at any moment the bitmap and the log together name every
//! block that they named before:
//!
//! 1. bits of the active extents, if the node was Primary
//! 2. super block without the mark of 8.4 that the log is clean, if the log is not empty
//! 3. the emptied log
//! 4. super block with the mark

use super::activity_log::{self, Replay, Unusable};
use super::counters::BlockV07;
use super::flags::MetaFlags;
use super::image::{self, BlockFile, Marked, MetaError};
use super::layout::Layout;
use super::super_block::{Cleanness, SuperBlock};

/// What was found and done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// What the log says. An unusable one that matters: nothing was written.
    pub log: Result<Replay, Unusable>,
    /// Every byte of the log is zero.
    pub log_is_zero: bool,
    /// Bits that were set; `None`: the log is not to be applied.
    pub marked: Option<Marked>,
    /// The super block as it is now on disk.
    pub super_block: SuperBlock,
    /// Something was written.
    pub is_changed: bool,
}

/// Applies and empties the log. `progress` is told how many extents of how many are marked, then how many bytes of how
/// many are emptied.
///
/// # Errors
/// Those of the device; what is on it then is as after a crash.
pub fn apply(
    file: &dyn BlockFile,
    super_block: &SuperBlock,
    layout: &Layout,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Applied, MetaError> {
    let area = image::read_activity_log(file, layout)?;
    let empty = activity_log::empty_block(layout.log);
    let log_is_empty = area.chunks(empty.len()).all(|block| block == empty);
    let mut done = Applied {
        log: activity_log::replay(&area, super_block, layout.log),
        log_is_zero: area.iter().all(|byte| *byte == 0),
        marked: None,
        super_block: super_block.clone(),
        is_changed: false,
    };
    drop(area);
    let flags = super_block.flags;
    match &done.log {
        Ok(replay) if replay.transactions > 0 && flags.contains(MetaFlags::PRIMARY_IND) => {
            let sectors = super_block.effective_size_sectors;
            let marked = image::mark_extents(file, layout, sectors, &replay.hot, progress)?;
            image::sync_part(file, "bitmap", layout.bm_offset())?;
            done.marked = Some(marked);
        }
        Err(unusable) if unusable.matters(super_block) => return Ok(done),
        _ => {}
    }
    let is_clean = flags.contains(MetaFlags::AL_CLEAN) && super_block.cleanness == Cleanness::Clean;
    if log_is_empty && is_clean {
        return Ok(done);
    }
    let written = &mut done.super_block;
    written.cleanness = Cleanness::Clean;
    if !log_is_empty {
        written.flags.set(MetaFlags::AL_CLEAN, false);
        image::write_super_block(file, layout, written, true)?;
        image::empty_activity_log(file, layout, progress)?;
    }
    written.flags.set(MetaFlags::AL_CLEAN, true);
    image::write_super_block(file, layout, written, true)?;
    done.is_changed = true;
    Ok(done)
}

/// What was found and done in v07, whose super block has no mark of a clean log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedV07 {
    /// What the log says.
    pub log: Replay,
    /// Bits that were set; `None`: the log is not to be applied.
    pub marked: Option<Marked>,
    /// The log was not empty, and is now.
    pub is_changed: bool,
}

/// As [`apply`], for v07: the bits are durable before the log is emptied; the super block stays as it is.
///
/// # Errors
/// Those of the device; what is on it then is as after a crash.
pub fn apply_v07(
    file: &dyn BlockFile,
    block: &BlockV07,
    layout: &Layout,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<AppliedV07, MetaError> {
    let area = image::read_activity_log(file, layout)?;
    let log = activity_log::replay_83(&area, block.al_slots);
    let mut done = AppliedV07 { log, marked: None, is_changed: area.iter().any(|byte| *byte != 0) };
    if done.log.transactions > 0 && block.counters.flags.contains(MetaFlags::PRIMARY_IND) {
        let sectors = block.plausible_sectors(layout);
        done.marked = Some(image::mark_extents(file, layout, sectors, &done.log.hot, progress)?);
        image::sync_part(file, "bitmap", layout.bm_offset())?;
    }
    if done.is_changed {
        image::empty_activity_log(file, layout, progress)?;
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::activity_log::{transaction_84, LogWriter, SlotUpdate};
    use crate::meta::bitmap;
    use crate::meta::counters::layout_v07;
    use crate::meta::crash_device::CrashDevice;
    use crate::meta::layout::{LogGeometry, MetaIndex};
    use std::collections::BTreeSet;

    const HOT: [u32; 3] = [0, 5, 40];

    fn device(log: LogGeometry, flags: u32, cleanness: Cleanness) -> (CrashDevice, Layout, SuperBlock) {
        let layout = Layout::new(MetaIndex::Internal, 300 << 20, log).unwrap();
        let super_block = SuperBlock {
            effective_size_sectors: layout.first_meta_byte() / 512,
            flags: MetaFlags(flags),
            cleanness,
            ..SuperBlock::just_created(&layout)
        };
        let device = CrashDevice::new(300 << 20, Default::default());
        image::write_super_block(&device, &layout, &super_block, true).unwrap();
        (device, layout, super_block)
    }

    /// Three transactions of 8.3's format in a classic log, of 8.4's in others.
    fn write_log(device: &CrashDevice, layout: &Layout, slots: u32) {
        image::empty_activity_log(device, layout, &mut |_, _| ()).unwrap();
        let mut writer = LogWriter::new(layout.log, slots, 512);
        for (slot, extent) in (0..).zip(HOT) {
            let write = writer.transaction(&[SlotUpdate { slot, extent }]).unwrap();
            image::write_activity_log(device, layout, write.offset, &write.bytes, true).unwrap();
        }
    }

    /// The log of 8.4 in 32 KiB.
    fn write_classic_log_of_8_4(device: &CrashDevice, layout: &Layout) {
        let blocks = transaction_84::initialized_block().repeat(8);
        image::write_activity_log(device, layout, 0, &blocks, true).unwrap();
        for (number, extent) in (0..).zip(HOT) {
            let transaction = transaction_84::Transaction84 {
                number,
                slots: 67,
                context_start: 0,
                context: (0..67)
                    .map(|slot| *HOT[..number as usize].get(slot).unwrap_or(&activity_log::FREE))
                    .collect(),
                updates: vec![(number as u16, extent)],
            };
            let offset = u64::from(number) * 4096;
            image::write_activity_log(device, layout, offset, &transaction.encode(), true).unwrap();
        }
    }

    /// Extents that count as out of sync, by what is on the device.
    fn known(device: &CrashDevice) -> BTreeSet<u32> {
        let (super_block, layout) = image::read_super_block(device, MetaIndex::Internal).unwrap();
        let mut words = vec![0; bitmap::words(super_block.effective_size_sectors) as usize];
        image::read_bitmap(device, &layout, 0, &mut words).unwrap();
        let marked =
            (0u32..).zip(words.chunks(16)).filter(|(_, words)| words.iter().all(|word| *word == u64::MAX));
        let mut extents: BTreeSet<u32> = marked.map(|(extent, _)| extent).collect();
        let area = image::read_activity_log(device, &layout).unwrap();
        if let Ok(replay) = activity_log::replay(&area, &super_block, layout.log) {
            extents.extend(replay.hot);
        }
        extents
    }

    #[test]
    fn no_extent_is_forgotten_wherever_it_is_interrupted() {
        let striped = LogGeometry::new(4, 16).unwrap();
        for (log, cleanness, is_classic_84) in [
            (LogGeometry::CLASSIC, Cleanness::Clean, false),
            (LogGeometry::CLASSIC, Cleanness::Unclean, true),
            (striped, Cleanness::Unclean, false),
        ] {
            let (device, layout, super_block) = device(log, 0x13, cleanness);
            match is_classic_84 {
                true => write_classic_log_of_8_4(&device, &layout),
                false => write_log(&device, &layout, super_block.al_slots),
            }
            let device = CrashDevice::new(300 << 20, device.content());
            assert_eq!(known(&device), BTreeSet::from(HOT));
            let done = apply(&device, &super_block, &layout, &mut |_, _| ()).unwrap();
            assert_eq!(done.marked.map(|marked| marked.bits), Some(3 * 1024));
            assert!(done.is_changed);
            let mut crashes = 0;
            device.after_every_crash(|crashed| {
                crashes += 1;
                assert_eq!(known(&crashed), BTreeSet::from(HOT));
                let (super_block, layout) = image::read_super_block(&crashed, MetaIndex::Internal).unwrap();
                assert!(super_block.flags.contains(MetaFlags::PRIMARY_IND));
                let is_clean = super_block.flags.contains(MetaFlags::AL_CLEAN);
                let area = image::read_activity_log(&crashed, &layout).unwrap();
                let empty = activity_log::empty_block(layout.log);
                assert!(!is_clean || area.chunks(4096).all(|block| block == empty));
            });
            assert!(crashes > 15);
            let again = apply(&device, &done.super_block, &layout, &mut |_, _| ()).unwrap();
            assert!(!again.is_changed && again.marked.is_none_or(|marked| marked.bits == 0));
        }
    }

    #[test]
    fn a_lost_log_is_refused_only_where_it_matters() {
        // Primary; Primary with a full sync ahead; Secondary.
        for (flags, is_refused) in [(0x13, true), (0x1b, false), (0x11, false)] {
            let (device, layout, super_block) = device(LogGeometry::CLASSIC, flags, Cleanness::Unclean);
            let before = device.content();
            let done = apply(&device, &super_block, &layout, &mut |_, _| ()).unwrap();
            assert_eq!(done.log, Err(Unusable::NoValidBlock));
            assert_eq!(done.is_changed, !is_refused);
            assert_eq!(device.content() == before, is_refused);
        }
    }

    #[test]
    fn a_secondary_marks_nothing() {
        let (device, layout, super_block) = device(LogGeometry::CLASSIC, 0x11, Cleanness::Clean);
        write_log(&device, &layout, super_block.al_slots);
        let done = apply(&device, &super_block, &layout, &mut |_, _| ()).unwrap();
        assert_eq!((done.marked, done.is_changed), (None, true));
        assert_eq!(done.super_block.flags, MetaFlags(0x91));
    }

    #[test]
    fn no_extent_of_v07_is_forgotten_wherever_it_is_interrupted() {
        for is_fixed in [true, false] {
            let bytes = 300 << 20;
            let layout = layout_v07(MetaIndex::Internal, is_fixed, bytes).unwrap();
            let mut block = BlockV07::just_created(&layout);
            block.effective_size_kib = layout.first_meta_byte() / 1024;
            block.counters.flags = MetaFlags(7);
            let device = CrashDevice::new(bytes, Default::default());
            write_log(&device, &layout, block.al_slots);
            let device = CrashDevice::new(bytes, device.content());
            let known = |device: &CrashDevice| {
                let mut words = vec![0; bitmap::words(block.plausible_sectors(&layout)) as usize];
                image::read_bitmap(device, &layout, 0, &mut words).unwrap();
                let marked = (0u32..).zip(words.chunks(16)).filter(|(_, w)| w.iter().all(|w| *w == u64::MAX));
                let mut extents: BTreeSet<u32> = marked.map(|(extent, _)| extent).collect();
                let area = image::read_activity_log(device, &layout).unwrap();
                extents.extend(activity_log::replay_83(&area, block.al_slots).hot);
                extents
            };
            assert_eq!(known(&device), BTreeSet::from(HOT));
            let done = apply_v07(&device, &block, &layout, &mut |_, _| ()).unwrap();
            assert_eq!((done.marked.map(|marked| marked.bits), done.is_changed), (Some(3 * 1024), true));
            let mut crashes = 0;
            device.after_every_crash(|crashed| {
                crashes += 1;
                assert_eq!(known(&crashed), BTreeSet::from(HOT));
            });
            assert!(crashes > 10);
            let again = apply_v07(&device, &block, &layout, &mut |_, _| ()).unwrap();
            assert_eq!((again.marked, again.is_changed), (None, false));
            // A Secondary marks nothing.
            let device = CrashDevice::new(bytes, Default::default());
            write_log(&device, &layout, block.al_slots);
            let mut secondary = block.clone();
            secondary.counters.flags = MetaFlags(5);
            let done = apply_v07(&device, &secondary, &layout, &mut |_, _| ()).unwrap();
            assert_eq!((done.marked, done.is_changed), (None, true));
        }
    }
}
