//! Moving internal meta data to the new end of a device that changed its size (spec/metadata.md 9).
//!
//! | areas | written, each line durable before the next | after a crash |
//! |---|---|---|
//! | apart | bitmap and log at the new place; super block there; zeroes over the old one | the old meta data, or the new |
//! | overlapping | super block with FULL_SYNC at the new place; bitmap and log; super block without the flag | the old meta data; the new with all blocks out of sync; the new |
//!
//! Where the areas overlap, each byte of the new bitmap lies on one of the old meta data: nothing of it
//! can be written while the old super block counts. The flag makes the bitmap of no account meanwhile.

use super::flags::MetaFlags;
use super::image::{self, BlockFile, MetaError, BATCH_BYTES};
use super::layout::{Layout, SUPER_BLOCK_BYTES};
use super::super_block::SuperBlock;
use crate::sys::buffer::Buffer;

/// True if the two areas share a byte.
fn overlap(a: &Layout, b: &Layout) -> bool {
    let end = |layout: &Layout| layout.md_offset + SUPER_BLOCK_BYTES;
    a.first_meta_byte() < end(b) && b.first_meta_byte() < end(a)
}

/// Moves everything from `old` to `new`, both internal and with the same activity log; `super_block` is the
/// one at `old`. Returns the one that is at `new` now.
///
/// `progress` is told how many bytes of how many of the bitmap are done.
///
/// # Errors
/// Those of the device. What is on it then is as after a crash.
pub fn relocate(
    file: &dyn BlockFile,
    super_block: &SuperBlock,
    old: &Layout,
    new: &Layout,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<SuperBlock, MetaError> {
    let mut moved = super_block.clone();
    moved.place(new);
    // `place` writes the classic log as 0, 0; what was there stays there.
    moved.al_stripes = super_block.al_stripes;
    moved.al_stripe_blocks = super_block.al_stripe_blocks;
    let log = image::read_activity_log(file, old)?;
    let shared = overlap(old, new);
    if shared {
        let mut without_bitmap = moved.clone();
        without_bitmap.flags.set(MetaFlags::FULL_SYNC, true);
        image::write_super_block(file, new, &without_bitmap, true)?;
    }
    move_bitmap(file, old, new, progress)?;
    image::write_activity_log(file, new, 0, &log, true)?;
    image::write_super_block(file, new, &moved, true)?;
    if !shared && old.md_offset < new.bm_offset() {
        // It lies among the data now; no later change of size shall find it there.
        image::wipe_super_block(file, old)?;
    }
    Ok(moved)
}

/// Copies in the direction in which no part is overwritten before it was read.
fn move_bitmap(
    file: &dyn BlockFile,
    old: &Layout,
    new: &Layout,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), MetaError> {
    let total = new.bitmap_bytes();
    let copied = old.bitmap_bytes().min(total);
    let (from, to) = (old.bm_offset(), new.bm_offset());
    let batch = BATCH_BYTES as u64;
    if from != to {
        let mut buffer = Buffer::zeroed(batch.min(copied) as usize);
        for done in (0..copied).step_by(BATCH_BYTES) {
            let len = (copied - done).min(batch);
            let start = if to > from { copied - done - len } else { done };
            let piece = &mut buffer[..len as usize];
            image::read_part(file, "bitmap", from + start, piece)?;
            image::write_part(file, "bitmap", to + start, piece)?;
            progress(done + len, total);
        }
    }
    // The part that is new was data; it would be read as bits.
    let zeroes = Buffer::zeroed(batch.min(total - copied) as usize);
    for done in (copied..total).step_by(BATCH_BYTES) {
        let len = (total - done).min(batch);
        image::write_part(file, "bitmap", to + done, &zeroes[..len as usize])?;
        progress(done + len, total);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::activity_log::{replay, LogWriter, SlotUpdate};
    use crate::meta::bitmap;
    use crate::meta::crash_device::CrashDevice;
    use crate::meta::layout::{LogGeometry, MetaIndex, DATA_BYTES_PER_BITMAP_PAGE as PAGE_OF_DATA};

    const HOT: u32 = 3;

    fn layout(bytes: u64) -> Layout {
        Layout::new(MetaIndex::Internal, bytes, LogGeometry::CLASSIC).unwrap()
    }

    /// A device that had `old_bytes` when it was a Primary that crashed, and has `new_bytes` now.
    fn resized(old_bytes: u64, new_bytes: u64) -> (CrashDevice, SuperBlock, Vec<u64>) {
        let old = layout(old_bytes);
        let mut super_block = SuperBlock::just_created(&old);
        super_block.uuids[0] = 0x1234_5678_9abc_def1;
        super_block.effective_size_sectors = old.usable_sectors(0);
        super_block.flags = MetaFlags(0x13);
        let device = CrashDevice::new(new_bytes.max(old_bytes), Default::default());
        image::write_super_block(&device, &old, &super_block, true).unwrap();
        let mut writer = LogWriter::new(old.log, super_block.al_slots, 512);
        let write = writer.transaction(&[SlotUpdate { slot: 0, extent: HOT }]).unwrap();
        image::write_activity_log(&device, &old, write.offset, &write.bytes, true).unwrap();
        let words: Vec<u64> = (1..=bitmap::words(super_block.effective_size_sectors))
            .map(|i| i.wrapping_mul(0x9e37_79b9))
            .collect();
        image::write_bitmap(&device, &old, 0, &words, true).unwrap();
        // Data where the new meta data will be.
        let at = layout(new_bytes).first_meta_byte();
        if at + 8192 < old.first_meta_byte() || at >= old.device_bytes {
            device.write_at(at, &[0xaa; 4096]).unwrap();
        }
        (CrashDevice::new(new_bytes, device.content()), super_block, words)
    }

    /// How the meta data count after a crash.
    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
    enum Counts {
        Old,
        AllOutOfSync,
        New,
    }

    /// Reads as an attach does, and drbdmeta at the last known place. Panics if anything was forgotten.
    fn judge(device: &CrashDevice, old: &Layout, expected: &SuperBlock, bits: &[u64]) -> Counts {
        let (found, place, counts) = match image::read_super_block(device, MetaIndex::Internal) {
            Ok((found, place)) => (found, place, Counts::New),
            Err(_) => {
                let block = SuperBlock::decode(&image::read_super_block_bytes(device, old).unwrap()).unwrap();
                block.validate(old).unwrap();
                (block, *old, Counts::Old)
            }
        };
        let mut without_flag = found.flags;
        without_flag.set(MetaFlags::FULL_SYNC, false);
        assert_eq!((found.uuids, without_flag), (expected.uuids, expected.flags));
        assert_eq!(found.effective_size_sectors, expected.effective_size_sectors);
        if found.flags.contains(MetaFlags::FULL_SYNC) {
            return Counts::AllOutOfSync;
        }
        let log = image::read_activity_log(device, &place).unwrap();
        assert_eq!(replay(&log, &found, place.log).unwrap().hot, [HOT]);
        let mut words = vec![0; (place.bitmap_bytes() / 8) as usize];
        image::read_bitmap(device, &place, 0, &mut words).unwrap();
        assert_eq!(words[..bits.len()], *bits);
        assert!(words[bits.len()..].iter().all(|word| *word == 0));
        counts
    }

    /// Sizes before and after, and whether the areas lie apart.
    const RESIZES: &[(u64, u64, bool)] = &[
        (1 << 20, 2 << 20, true),
        (1 << 20, (1 << 20) + 40960, true),
        (1 << 20, (1 << 20) + 36864, false),
        (1 << 20, (1 << 20) + 4096, false),
        // The super block stays where it is, the bitmap begins a page before.
        (PAGE_OF_DATA, PAGE_OF_DATA + 512, false),
        // ... and ends a page later again.
        (PAGE_OF_DATA + 512, PAGE_OF_DATA, false),
        // The bitmap grows by a page.
        (PAGE_OF_DATA - 8192, PAGE_OF_DATA + 8192, false),
        (3 * PAGE_OF_DATA - 4096, 3 * PAGE_OF_DATA + 4096, false),
        (PAGE_OF_DATA - 8192, 3 * PAGE_OF_DATA, true),
        // More bitmap than one request holds.
        (300 * PAGE_OF_DATA, 301 * PAGE_OF_DATA, true),
        (300 * PAGE_OF_DATA, 300 * PAGE_OF_DATA + (1 << 20), false),
    ];

    #[test]
    fn nothing_is_forgotten_wherever_a_move_is_interrupted() {
        for &(old_bytes, new_bytes, apart) in RESIZES {
            let (old, new) = (layout(old_bytes), layout(new_bytes));
            let (device, super_block, bits) = resized(old_bytes, new_bytes);
            assert_eq!(overlap(&old, &new), !apart, "{old_bytes} to {new_bytes}");
            assert_eq!(judge(&device, &old, &super_block, &bits), Counts::Old);
            let moved = relocate(&device, &super_block, &old, &new, &mut |_, _| ()).unwrap();
            assert_eq!(moved.flags, super_block.flags);
            assert_eq!(judge(&device, &old, &super_block, &bits), Counts::New);
            let mut last = Counts::Old;
            let mut crashes = 0;
            device.after_every_crash(|crashed| {
                let counts = judge(&crashed, &old, &super_block, &bits);
                assert!(!apart || counts != Counts::AllOutOfSync, "{old_bytes} to {new_bytes}");
                last = last.max(counts);
                crashes += 1;
                if counts == Counts::Old {
                    // The next attempt ends as this one did.
                    relocate(&crashed, &super_block, &old, &new, &mut |_, _| ()).unwrap();
                    assert_eq!(judge(&crashed, &old, &super_block, &bits), Counts::New);
                }
            });
            assert_eq!(last, Counts::New);
            assert!(crashes > 10);
        }
    }

    #[test]
    fn what_is_known_of_a_full_sync_stays() {
        let (device, mut super_block, _) = resized(1 << 20, (1 << 20) + 4096);
        super_block.flags.set(MetaFlags::FULL_SYNC, true);
        let (old, new) = (layout(1 << 20), layout((1 << 20) + 4096));
        let moved = relocate(&device, &super_block, &old, &new, &mut |_, _| ()).unwrap();
        assert!(moved.flags.contains(MetaFlags::FULL_SYNC));
    }

    #[test]
    fn progress_ends_with_the_whole_bitmap() {
        let (device, super_block, _) = resized(300 * PAGE_OF_DATA, 600 * PAGE_OF_DATA);
        let new = layout(600 * PAGE_OF_DATA);
        let mut shown = Vec::new();
        relocate(&device, &super_block, &layout(300 * PAGE_OF_DATA), &new, &mut |done, total| {
            shown.push(done);
            assert_eq!(total, new.bitmap_bytes());
        })
        .unwrap();
        assert!(shown.is_sorted());
        assert_eq!(shown.last(), Some(&new.bitmap_bytes()));
    }
}
