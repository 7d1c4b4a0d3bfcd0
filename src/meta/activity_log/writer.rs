//! The writer's side: turns slot changes into the bytes of the next transaction.

use thiserror::Error;

use super::transaction_83::{self, Transaction83};
use super::transaction_84::{self, Transaction84};
use super::{LogFormat, FREE};
use crate::meta::layout::LogGeometry;
use crate::sys::buffer::Buffer;

/// Extent `extent` goes into slot `slot`, in place of whatever was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotUpdate {
    /// Slot number, below [`LogWriter::slots`].
    pub slot: u32,
    /// Number of the 4 MiB extent.
    pub extent: u32,
}

/// A transaction as bytes. One write, on stable storage before any write to its extents.
#[derive(Debug)]
pub struct LogWrite {
    /// Byte offset from the start of the activity log ([`crate::meta::Layout::al_offset`]).
    pub offset: u64,
    /// What to write there; a multiple of the device's logical block.
    pub bytes: Buffer,
}

/// Changes that no transaction can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WriterError {
    /// Split them over several transactions.
    #[error("{given} slot updates in one activity log transaction, at most {max} fit")]
    TooMany {
        /// Updates given.
        given: usize,
        /// [`LogWriter::updates_max`].
        max: usize,
    },
    /// No such slot.
    #[error("activity log slot {slot} does not exist, there are {slots}")]
    NoSuchSlot {
        /// Slot given.
        slot: u32,
        /// Number of slots.
        slots: u32,
    },
}

/// State of the writer of one activity log. Pure: it makes bytes, the caller writes them, strictly
/// one transaction after the other.
///
/// Before a transaction that evicts extents is written, the bitmap pages of those extents must be on
/// stable storage (spec/metadata.md 4, invariant 2).
///
/// The area must be [`LogWriter::initial_area`] on disk before the first transaction: an older log
/// in other sectors of the ring would be replayed together with this one, or hide it
/// (spec/metadata.md 13 and 14 trap 1).
#[derive(Debug)]
pub struct LogWriter {
    slots: Vec<u32>,
    number: u32,
    /// First slot of the next context.
    cycle: usize,
    ring: Ring,
}

#[derive(Debug)]
enum Ring {
    /// 8.3: sectors of 512 bytes.
    Sectors {
        /// Sector of the next transaction.
        position: u32,
        /// Sectors in use.
        len: u32,
        /// Bytes that one write must have: the device's logical block.
        block_bytes: usize,
        /// What is on disk, for devices whose logical block is larger than a sector.
        area: Vec<u8>,
    },
    /// 8.4: blocks of 4 KiB; the position follows from the number.
    Blocks(LogGeometry),
}

/// What each block of 4 KiB of an empty log must be: zeroes in the classic one, an initialized block of 8.4's
/// format in others.
pub fn empty_block(geometry: LogGeometry) -> [u8; transaction_84::TRANSACTION_BYTES] {
    if geometry == LogGeometry::CLASSIC {
        [0; transaction_84::TRANSACTION_BYTES]
    } else {
        transaction_84::initialized_block()
    }
}

impl LogWriter {
    /// A writer for an empty log of `geometry` with `slots` slots (`al-extents`; cut to what the log
    /// holds, see [`LogWriter::slots`]), on a device with logical blocks of `block_bytes`.
    ///
    /// The classic geometry gets 8.3's format, all others 8.4's.
    pub fn new(geometry: LogGeometry, slots: u32, block_bytes: usize) -> LogWriter {
        let (slots, ring) = if geometry == LogGeometry::CLASSIC {
            let slots = slots.clamp(transaction_83::SLOTS_MIN, transaction_83::SLOTS_MAX);
            let ring = Ring::Sectors {
                position: 0,
                len: transaction_83::ring_sectors(slots),
                block_bytes: block_bytes.clamp(transaction_83::TRANSACTION_BYTES, 4096),
                area: vec![0; geometry.bytes() as usize],
            };
            (slots, ring)
        } else {
            let room = (geometry.blocks() - 1) * transaction_84::CONTEXT_SLOTS as u32;
            let slots_max = room.min(transaction_84::SLOTS_MAX);
            let slots = slots.clamp(transaction_83::SLOTS_MIN, slots_max);
            (slots, Ring::Blocks(geometry))
        };
        LogWriter { slots: vec![FREE; slots as usize], number: 0, cycle: 0, ring }
    }

    /// A writer with another number of slots for the same area; `None` after the first transaction: what the ring
    /// holds then is to be read with the old number.
    pub fn resized(&self, slots: u32) -> Option<LogWriter> {
        let (geometry, block_bytes) = match &self.ring {
            Ring::Sectors { block_bytes, .. } => (LogGeometry::CLASSIC, *block_bytes),
            Ring::Blocks(geometry) => (*geometry, transaction_84::TRANSACTION_BYTES),
        };
        (self.number == 0).then(|| LogWriter::new(geometry, slots, block_bytes))
    }

    /// The whole area with what the slots hold now, for another place on the device, and the writer that goes
    /// on there.
    pub fn rewritten(&self) -> (LogWriter, Buffer) {
        let ring = match &self.ring {
            Ring::Sectors { len, block_bytes, area, .. } => {
                Ring::Sectors { position: 0, len: *len, block_bytes: *block_bytes, area: vec![0; area.len()] }
            }
            Ring::Blocks(geometry) => Ring::Blocks(*geometry),
        };
        let mut writer = LogWriter { slots: vec![FREE; self.slots.len()], number: 0, cycle: 0, ring };
        let mut area = writer.initial_area();
        let taken: Vec<SlotUpdate> = (0..self.slots())
            .filter_map(|slot| Some(SlotUpdate { slot, extent: self.extent_in(slot)? }))
            .collect();
        for updates in taken.chunks(writer.updates_max().max(1)) {
            // No more updates than fit, of slots that exist: this cannot fail.
            if let Ok(LogWrite { offset, bytes }) = writer.transaction(updates) {
                area[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
            }
        }
        (writer, area)
    }

    /// In 8.3's format: makes the ring as long as for `ring_slots` slots (at least [`Self::slots`]), which
    /// leaves room for more updates in a transaction. The super block must then say `ring_slots`.
    #[must_use]
    pub fn with_ring_for(mut self, ring_slots: u32) -> LogWriter {
        if let Ring::Sectors { len, .. } = &mut self.ring {
            let ring_slots = ring_slots.clamp(self.slots.len() as u32, transaction_83::SLOTS_MAX);
            *len = transaction_83::ring_sectors(ring_slots);
        }
        self
    }

    /// Starts with transaction number `number`, one more than the newest that
    /// [`super::Replay::newest`] found. The position in the ring starts anew in 8.3's format.
    #[must_use]
    pub fn with_number(mut self, number: u32) -> LogWriter {
        self.number = number;
        self
    }

    /// Format of what this writer makes.
    pub fn format(&self) -> LogFormat {
        match self.ring {
            Ring::Sectors { .. } => LogFormat::V83,
            Ring::Blocks(_) => LogFormat::V84,
        }
    }

    /// Number of slots in effect.
    pub fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// What the super block must say as number of slots: a reader finds the ring's length by it.
    pub fn al_slots_field(&self) -> u32 {
        match &self.ring {
            Ring::Sectors { len, .. } => {
                ((len - 1) * transaction_83::CONTEXT_ENTRIES).min(transaction_83::SLOTS_MAX).max(self.slots())
            }
            Ring::Blocks(_) => self.slots(),
        }
    }

    /// What must be in the area before the first transaction: zeroes, or initialized blocks.
    pub fn initial_area(&self) -> Buffer {
        let geometry = match &self.ring {
            Ring::Sectors { .. } => LogGeometry::CLASSIC,
            Ring::Blocks(geometry) => *geometry,
        };
        Buffer::from_bytes(&empty_block(geometry).repeat(geometry.blocks() as usize))
    }

    /// Most updates that one transaction holds; each must name another slot.
    ///
    /// 8.3 wrote one. A reader takes any (slot, extent) pair from any entry of the sector, so more
    /// fit, as long as the context entries that remain still repeat every slot once in all sectors
    /// of the ring but one (that one may be torn).
    pub fn updates_max(&self) -> usize {
        let room = match &self.ring {
            Ring::Sectors { len, .. } => {
                let context = self.slots.len().div_ceil(*len as usize - 1);
                transaction_83::ENTRIES - context
            }
            Ring::Blocks(_) => transaction_84::UPDATES_MAX,
        };
        room.min(self.slots.len())
    }

    /// The extent in a slot, `None` if it is free or does not exist.
    pub fn extent_in(&self, slot: u32) -> Option<u32> {
        let extent = *self.slots.get(slot as usize)?;
        (extent != FREE).then_some(extent)
    }

    /// Makes the next transaction out of `updates` and takes them over.
    pub fn transaction(&mut self, updates: &[SlotUpdate]) -> Result<LogWrite, WriterError> {
        let max = self.updates_max();
        if updates.len() > max {
            return Err(WriterError::TooMany { given: updates.len(), max });
        }
        if let Some(update) = updates.iter().find(|u| u.slot >= self.slots()) {
            return Err(WriterError::NoSuchSlot { slot: update.slot, slots: self.slots() });
        }
        let write = match &self.ring {
            Ring::Sectors { .. } => self.sector(updates),
            Ring::Blocks(geometry) => self.block(*geometry, updates),
        };
        for update in updates {
            self.slots[update.slot as usize] = update.extent;
        }
        self.number = self.number.wrapping_add(1);
        Ok(write)
    }

    fn sector(&mut self, updates: &[SlotUpdate]) -> LogWrite {
        let mut transaction = Transaction83::empty(self.number);
        let entries = &mut transaction.entries;
        for (entry, update) in entries.iter_mut().zip(updates) {
            *entry = (update.slot, update.extent);
        }
        let slots = self.slots.len();
        // No slot twice: with few slots the rest of the entries stays unused.
        let context = (transaction_83::ENTRIES - updates.len().max(1)).min(slots);
        let first = transaction_83::ENTRIES.min(updates.len().max(1));
        for (k, entry) in entries[first..first + context].iter_mut().enumerate() {
            let slot = (self.cycle + k) % slots;
            *entry = (slot as u32, self.slots[slot]);
        }
        self.cycle = (self.cycle + context) % slots;
        let sector = transaction.encode();
        let Ring::Sectors { position, len, block_bytes, area } = &mut self.ring else {
            unreachable!("only called for 8.3's format");
        };
        let start = *position as usize * transaction_83::TRANSACTION_BYTES;
        area[start..start + sector.len()].copy_from_slice(&sector);
        *position = (*position + 1) % *len;
        let block_start = start - start % *block_bytes;
        LogWrite {
            offset: block_start as u64,
            bytes: Buffer::from_bytes(&area[block_start..block_start + *block_bytes]),
        }
    }

    fn block(&mut self, geometry: LogGeometry, updates: &[SlotUpdate]) -> LogWrite {
        let context_end = self.slots.len().min(self.cycle + transaction_84::CONTEXT_SLOTS);
        let transaction = Transaction84 {
            number: self.number,
            // Slots are below 65534.
            slots: self.slots.len() as u16,
            context_start: self.cycle as u16,
            updates: updates.iter().map(|update| (update.slot as u16, update.extent)).collect(),
            context: self.slots[self.cycle..context_end].to_vec(),
        };
        self.cycle = if context_end == self.slots.len() { 0 } else { context_end };
        let block = geometry.block_of_position(self.number % geometry.blocks());
        LogWrite {
            offset: u64::from(block) * transaction_84::TRANSACTION_BYTES as u64,
            bytes: Buffer::from_bytes(&transaction.encode()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::replay;
    use super::*;
    use crate::meta::layout::{Layout, MetaIndex};
    use crate::meta::super_block::{Cleanness, SuperBlock};
    use proptest::prelude::*;

    fn super_block(writer: &LogWriter) -> SuperBlock {
        let layout = Layout::new(MetaIndex::Internal, 1 << 30, LogGeometry::CLASSIC).unwrap();
        SuperBlock {
            al_slots: writer.al_slots_field(),
            cleanness: match writer.format() {
                LogFormat::V83 => Cleanness::Clean,
                LogFormat::V84 => Cleanness::Unclean,
            },
            ..SuperBlock::just_created(&layout)
        }
    }

    fn hot(writer: &LogWriter) -> Vec<u32> {
        let mut hot: Vec<u32> = (0..writer.slots()).filter_map(|slot| writer.extent_in(slot)).collect();
        hot.sort_unstable();
        hot
    }

    #[test]
    fn room_for_updates() {
        let max =
            |slots, ring| LogWriter::new(LogGeometry::CLASSIC, slots, 512).with_ring_for(ring).updates_max();
        assert_eq!(max(3833, 0), 1);
        assert_eq!(max(127, 127), 19);
        assert_eq!(max(1237, 1237), 3);
        assert_eq!(max(1237, 3711), 41);
        let striped = LogGeometry::new(4, 4).unwrap();
        assert_eq!(LogWriter::new(striped, 1237, 512).updates_max(), 64);
        let mut writer = LogWriter::new(LogGeometry::CLASSIC, 3833, 512);
        let update = SlotUpdate { slot: 0, extent: 1 };
        assert!(writer.transaction(&[update, update]).is_err());
        assert!(writer.transaction(&[SlotUpdate { slot: 3833, extent: 1 }]).is_err());
    }

    #[test]
    fn slots_are_cut_to_what_the_log_holds() {
        assert_eq!(LogWriter::new(LogGeometry::CLASSIC, 65534, 512).slots(), 3833);
        assert_eq!(LogWriter::new(LogGeometry::CLASSIC, 1, 512).slots(), 7);
        let large = LogGeometry::new(1, 16).unwrap();
        assert_eq!(LogWriter::new(large, 65534, 512).slots(), 15 * 919);
    }

    /// Random updates in random groups; after each one the disk says exactly what the slots hold,
    /// and if the transaction's write was torn, at least what the slots held before.
    fn disk_follows_slots(
        mut writer: LogWriter,
        geometry: LogGeometry,
        steps: &[(u8, u16, u32)],
    ) -> Result<(), TestCaseError> {
        let mut disk = writer.initial_area().to_vec();
        let block = super_block(&writer);
        for (step, (count, slot, extent)) in steps.iter().enumerate() {
            let before = hot(&writer);
            let count = usize::from(*count) % (writer.updates_max() + 1);
            let updates: Vec<SlotUpdate> = (0..count as u32)
                .map(|i| SlotUpdate {
                    slot: (u32::from(*slot) + i) % writer.slots(),
                    // Every extent is in one slot only, as in the real cache.
                    extent: (extent & 0xffff) << 16 | (step as u32) << 7 | i,
                })
                .collect();
            let write = writer.transaction(&updates).unwrap();
            let at = write.offset as usize;
            let mut torn = disk.clone();
            torn[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
            disk.clone_from(&torn);
            if let LogFormat::V84 = writer.format() {
                torn[at + 8] ^= 0xff;
            } else {
                // The sector that changed is torn; its neighbours in the block are not.
                let sector = (step as u32 % transaction_83::ring_sectors(block.al_slots)) as usize;
                torn[sector * 512 + 504] ^= 0xff;
            }
            let read = replay(&disk, &block, geometry).unwrap();
            prop_assert_eq!(&read.hot, &hot(&writer), "step {}", step);
            if let Ok(read) = replay(&torn, &block, geometry) {
                for extent in before {
                    prop_assert!(read.hot.contains(&extent), "step {step} lost {extent}");
                }
            }
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn the_disk_follows_the_slots_in_8_3_format(
            slots in 7u32..800, ring in 7u32..3833, large_blocks in any::<bool>(),
            start in any::<u32>(),
            steps in prop::collection::vec(any::<(u8, u16, u32)>(), 1..120),
        ) {
            let block = if large_blocks { 4096 } else { 512 };
            let writer = LogWriter::new(LogGeometry::CLASSIC, slots, block)
                .with_ring_for(ring)
                .with_number(start);
            disk_follows_slots(writer, LogGeometry::CLASSIC, &steps)?;
        }

        #[test]
        fn the_disk_follows_the_slots_in_8_4_format(
            slots in 7u32..3000, stripes in 1u32..4, start in any::<u32>(),
            steps in prop::collection::vec(any::<(u8, u16, u32)>(), 1..60),
        ) {
            let geometry = LogGeometry::new(stripes, 9).unwrap();
            let writer = LogWriter::new(geometry, slots, 512).with_number(start);
            disk_follows_slots(writer, geometry, &steps)?;
        }
    }
}
