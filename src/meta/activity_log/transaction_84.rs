//! A transaction of the 8.4 (and 9) activity log: one block of 4096 bytes (spec/metadata.md 4.2).
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | u32 | magic 0x69cb65a2 |
//! | 4 | u32 | transaction number |
//! | 8 | u32 | crc32c of the block with this field 0, initial value 0, no final inversion |
//! | 12 | u16 | type: 0 update, 0xffff initialized |
//! | 14 | u16 | number of updates |
//! | 16 | u16 | number of slots |
//! | 18 | u16 | first slot of the context |
//! | 20 | 16 | reserved |
//! | 36 | 64 x u16 | slots that are updated |
//! | 164 | 64 x u32 | extents that go there |
//! | 420 | 919 x u32 | context: extents of consecutive slots before this transaction |

use crate::meta::fields::{u16_at, u32_at};

/// Bytes of a transaction.
pub const TRANSACTION_BYTES: usize = 4096;
/// Most updates in one.
pub const UPDATES_MAX: usize = 64;
/// Slots whose content each transaction repeats.
pub const CONTEXT_SLOTS: usize = 919;
/// Slots have smaller numbers than this.
pub const SLOTS_MAX: u32 = 65534;
/// The extent of a free slot.
pub const FREE: u32 = u32::MAX;
/// First bytes of every valid block.
pub const MAGIC: u32 = 0x69cb_65a2;

const UNUSED_SLOT: u16 = u16::MAX;
const TYPE_UPDATE: u16 = 0;
const TYPE_INITIALIZED: u16 = 0xffff;
const AT_NUMBER: usize = 4;
const AT_CRC: usize = 8;
const AT_TYPE: usize = 12;
const AT_UPDATES: usize = 14;
const AT_CONTEXT_SIZE: usize = 16;
const AT_CONTEXT_START: usize = 18;
const AT_UPDATE_SLOTS: usize = 36;
const AT_UPDATE_EXTENTS: usize = 164;
const AT_CONTEXT: usize = 420;

/// One block of the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction84 {
    /// Counts up by one a transaction, wraps; its remainder is the ring position.
    pub number: u32,
    /// Number of slots in use by the writer.
    pub slots: u16,
    /// First slot of `context`.
    pub context_start: u16,
    /// (slot, extent) pairs, at most [`UPDATES_MAX`].
    pub updates: Vec<(u16, u32)>,
    /// Extents in the slots from `context_start` on, at most [`CONTEXT_SLOTS`]; [`FREE`] clears.
    pub context: Vec<u32>,
}

/// What a valid block says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block84 {
    /// Written by create-md or apply-al, carries nothing.
    Initialized,
    /// A transaction.
    Update(Transaction84),
}

/// The checksum: the crc32c crate inverts before and after, this format does neither.
fn checksum(block: &[u8]) -> u32 {
    let before = crc32c::crc32c_append(u32::MAX, &block[..AT_CRC]);
    let with_zero_field = crc32c::crc32c_append(before, &[0; 4]);
    !crc32c::crc32c_append(with_zero_field, &block[AT_CRC + 4..TRANSACTION_BYTES])
}

fn seal(block: &mut [u8; TRANSACTION_BYTES]) {
    let crc = checksum(block);
    block[AT_CRC..AT_CRC + 4].copy_from_slice(&crc.to_be_bytes());
}

/// The block that create-md of 8.4 fills the log with.
pub fn initialized_block() -> [u8; TRANSACTION_BYTES] {
    let mut block = [0; TRANSACTION_BYTES];
    block[..4].copy_from_slice(&MAGIC.to_be_bytes());
    block[AT_TYPE..AT_TYPE + 2].copy_from_slice(&TYPE_INITIALIZED.to_be_bytes());
    seal(&mut block);
    block
}

impl Transaction84 {
    /// The block to write. Updates and context beyond the format's room are a caller's bug and cut.
    pub fn encode(&self) -> [u8; TRANSACTION_BYTES] {
        debug_assert!(self.updates.len() <= UPDATES_MAX && self.context.len() <= CONTEXT_SLOTS);
        let mut block = [0; TRANSACTION_BYTES];
        let mut put = |at: usize, field: &[u8]| block[at..at + field.len()].copy_from_slice(field);
        put(0, &MAGIC.to_be_bytes());
        put(AT_NUMBER, &self.number.to_be_bytes());
        put(AT_TYPE, &TYPE_UPDATE.to_be_bytes());
        let updates = self.updates.len().min(UPDATES_MAX) as u16;
        put(AT_UPDATES, &updates.to_be_bytes());
        put(AT_CONTEXT_SIZE, &self.slots.to_be_bytes());
        put(AT_CONTEXT_START, &self.context_start.to_be_bytes());
        for i in 0..UPDATES_MAX {
            let (slot, extent) = self.updates.get(i).copied().unwrap_or((UNUSED_SLOT, FREE));
            put(AT_UPDATE_SLOTS + 2 * i, &slot.to_be_bytes());
            put(AT_UPDATE_EXTENTS + 4 * i, &extent.to_be_bytes());
        }
        for i in 0..CONTEXT_SLOTS {
            let extent = self.context.get(i).copied().unwrap_or(FREE);
            put(AT_CONTEXT + 4 * i, &extent.to_be_bytes());
        }
        seal(&mut block);
        block
    }
}

impl Block84 {
    /// Reads a block; `None` if magic or checksum are wrong, or the type is unknown.
    pub fn decode(block: &[u8]) -> Option<Block84> {
        if block.len() < TRANSACTION_BYTES
            || u32_at(block, 0) != MAGIC
            || u32_at(block, AT_CRC) != checksum(block)
        {
            return None;
        }
        match u16_at(block, AT_TYPE) {
            TYPE_INITIALIZED => return Some(Block84::Initialized),
            TYPE_UPDATE => {}
            _ => return None,
        }
        let count = usize::from(u16_at(block, AT_UPDATES));
        let updates = (0..UPDATES_MAX)
            .map(|i| (u16_at(block, AT_UPDATE_SLOTS + 2 * i), u32_at(block, AT_UPDATE_EXTENTS + 4 * i)))
            .enumerate()
            .filter(|(i, (slot, _))| *i < count || *slot != UNUSED_SLOT)
            .map(|(_, update)| update)
            .collect();
        Some(Block84::Update(Transaction84 {
            number: u32_at(block, AT_NUMBER),
            slots: u16_at(block, AT_CONTEXT_SIZE),
            context_start: u16_at(block, AT_CONTEXT_START),
            updates,
            context: (0..CONTEXT_SLOTS).map(|i| u32_at(block, AT_CONTEXT + 4 * i)).collect(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn crc_field(block: &[u8]) -> u32 {
        u32_at(block, AT_CRC)
    }

    /// spec/metadata.md 4.2.
    #[test]
    fn checksums_of_blocks_written_by_the_module() {
        assert_eq!(crc_field(&initialized_block()), 0x709c_c651);
        let first = Transaction84 {
            number: 0,
            slots: 67,
            context_start: 0,
            updates: vec![(66, 5)],
            context: vec![FREE; 67],
        };
        assert_eq!(crc_field(&first.encode()), 0x4e12_777e);
    }

    #[test]
    fn blocks_are_read_back_and_damage_is_seen() {
        let transaction = Transaction84 {
            number: u32::MAX,
            slots: 1237,
            context_start: 919,
            updates: vec![(5, 77), (1236, 0)],
            context: (0..919).collect(),
        };
        let mut block = transaction.encode();
        assert_eq!(Block84::decode(&block), Some(Block84::Update(transaction)));
        block[4095] ^= 1;
        assert_eq!(Block84::decode(&block), None);
        assert_eq!(Block84::decode(&initialized_block()), Some(Block84::Initialized));
    }

    proptest! {
        #[test]
        fn decode_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 4090..4100)) {
            let _ = Block84::decode(&bytes);
            bytes[..4].copy_from_slice(&MAGIC.to_be_bytes());
            bytes[AT_TYPE..AT_TYPE + 2].fill(0);
            if bytes.len() >= TRANSACTION_BYTES {
                let crc = checksum(&bytes);
                bytes[AT_CRC..AT_CRC + 4].copy_from_slice(&crc.to_be_bytes());
                prop_assert!(Block84::decode(&bytes).is_some());
            }
        }
    }
}
