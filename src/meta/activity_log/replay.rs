//! Reading an activity log of either format after a crash.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::transaction_83::{self, Transaction83};
use super::transaction_84::{self, Block84};
use super::FREE;
use crate::meta::flags::MetaFlags;
use crate::meta::layout::LogGeometry;
use crate::meta::super_block::{Cleanness, SuperBlock};

/// Most out-of-range slots that are remembered for the message about them.
const OUT_OF_RANGE_MAX: usize = 16;

/// How transactions are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Sectors of 512 bytes, of 8.3 and 0.7.
    V83,
    /// Blocks of 4 KiB, of 8.4 and 9.
    V84,
}

/// What a log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// The format that was read.
    pub format: LogFormat,
    /// Extents that must be marked out of sync after a crash as Primary; ascending, no duplicates.
    pub hot: Vec<u32>,
    /// Valid transactions that were applied. 0: nothing was ever written since creation.
    pub transactions: u32,
    /// Entries with an extent in those transactions (8.3's "active extents" counts these).
    pub active_entries: u32,
    /// Sectors (8.3) or blocks (8.4) of the ring that are not valid: never written, or torn.
    pub damaged: u32,
    /// Number of the newest transaction.
    pub newest: Option<u32>,
    /// Ring position after the newest transaction.
    pub next_position: u32,
    /// (transaction, slot) of slots that no writer may use; at most 16 are kept.
    pub out_of_range: Vec<(u32, u32)>,
}

impl Replay {
    fn nothing(format: LogFormat, damaged: u32) -> Replay {
        Replay {
            format,
            hot: Vec::new(),
            transactions: 0,
            active_entries: 0,
            damaged,
            newest: None,
            next_position: 0,
            out_of_range: Vec::new(),
        }
    }
}

/// Why an 8.4 log says nothing although it should (spec/metadata.md 4.2 steps 2 and 3). A node
/// that was Primary (PRIMARY_IND) must then not be attached without marking everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unusable {
    /// Error A: not one valid block.
    #[error("No usable activity log found. Do you need to create-md?")]
    NoValidBlock,
    /// Error B: valid blocks, but the transactions are among the damaged ones.
    #[error("No valid AL update transaction found.")]
    NoUpdate {
        /// Damaged blocks.
        damaged: u32,
    },
}

impl Unusable {
    /// True if the node may have been Primary, so that the lost log matters: unless all blocks count as out
    /// of sync anyway.
    pub fn matters(self, super_block: &SuperBlock) -> bool {
        let flags = super_block.flags;
        flags.contains(MetaFlags::PRIMARY_IND) && !flags.contains(MetaFlags::FULL_SYNC)
    }
}

/// Which reader `apply-al` takes (spec/metadata.md 4.3 step 2).
pub fn choose_format(area: &[u8], super_block: &SuperBlock, geometry: LogGeometry) -> LogFormat {
    let starts_with_magic = |block: usize| {
        area.get(block * transaction_84::TRANSACTION_BYTES..)
            .is_some_and(|rest| rest.starts_with(&transaction_84::MAGIC.to_be_bytes()))
    };
    if super_block.cleanness == Cleanness::Unclean
        || geometry != LogGeometry::CLASSIC
        || starts_with_magic(0)
        || starts_with_magic(1)
    {
        LogFormat::V84
    } else {
        LogFormat::V83
    }
}

/// Reads a whole log area, in whichever format it is.
///
/// 8.3 that runs on a log initialized by 8.4's tools overwrites only the first sectors
/// (spec/metadata.md 14 trap 1). Where the 8.4 reader finds no transaction but 8.3's are there, they
/// count: drbdmeta of 9.22 forgets them, and with them changed blocks of a crashed Primary.
pub fn replay(area: &[u8], super_block: &SuperBlock, geometry: LogGeometry) -> Result<Replay, Unusable> {
    match choose_format(area, super_block, geometry) {
        LogFormat::V83 => Ok(replay_83(area, super_block.al_slots)),
        LogFormat::V84 => {
            let result = replay_84(area, geometry);
            let found_transactions = matches!(&result, Ok(replay) if replay.transactions > 0);
            if !found_transactions && super_block.cleanness == Cleanness::Clean {
                let older = replay_83(area, super_block.al_slots);
                if older.transactions > 0 {
                    return Ok(older);
                }
            }
            result
        }
    }
}

/// Slots of the log while it is replayed.
#[derive(Default)]
struct Slots {
    extents: BTreeMap<u32, u32>,
    out_of_range: Vec<(u32, u32)>,
}

impl Slots {
    fn put(&mut self, transaction: u32, slot: u32, extent: u32) {
        if slot < transaction_84::SLOTS_MAX {
            self.extents.insert(slot, extent);
        } else if self.out_of_range.len() < OUT_OF_RANGE_MAX {
            self.out_of_range.push((transaction, slot));
        }
    }

    fn hot(&self) -> Vec<u32> {
        let distinct: BTreeSet<u32> =
            self.extents.values().copied().filter(|extent| *extent != FREE).collect();
        distinct.into_iter().collect()
    }
}

/// Positions of the oldest and newest transaction by signed 32-bit difference of their numbers.
fn age_bounds(numbers: &[Option<u32>]) -> Option<(usize, usize)> {
    let mut bounds: Option<(usize, usize, u32, u32)> = None;
    for (position, number) in numbers.iter().enumerate() {
        let Some(number) = *number else { continue };
        bounds = Some(match bounds {
            None => (position, position, number, number),
            Some((oldest_at, newest_at, oldest, newest)) => {
                let (oldest_at, oldest) = if (number.wrapping_sub(oldest) as i32) < 0 {
                    (position, number)
                } else {
                    (oldest_at, oldest)
                };
                let (newest_at, newest) = if (number.wrapping_sub(newest) as i32) > 0 {
                    (position, number)
                } else {
                    (newest_at, newest)
                };
                (oldest_at, newest_at, oldest, newest)
            }
        });
    }
    bounds.map(|(oldest_at, newest_at, _, _)| (oldest_at, newest_at))
}

/// Ring positions from the oldest to the newest.
fn from_oldest_to_newest(oldest_at: usize, newest_at: usize, len: usize) -> impl Iterator<Item = usize> {
    let count = (newest_at + len - oldest_at) % len + 1;
    (0..count).map(move |i| (oldest_at + i) % len)
}

/// The 8.3 reader (spec/metadata.md 4.1), with 9.22's tolerance for slots beyond the super block's
/// number: marking more is safe.
pub fn replay_83(area: &[u8], slots: u32) -> Replay {
    let slots = if slots < transaction_83::SLOTS_MIN {
        transaction_83::SLOTS_DEFAULT
    } else {
        slots.min(transaction_83::SLOTS_MAX)
    };
    let ring: Vec<Option<Transaction83>> = area
        .chunks_exact(transaction_83::TRANSACTION_BYTES)
        .take(transaction_83::ring_sectors(slots) as usize)
        .map(Transaction83::decode)
        .collect();
    let numbers: Vec<Option<u32>> =
        ring.iter().map(|transaction| transaction.as_ref().map(|t| t.number)).collect();
    let damaged = numbers.iter().filter(|number| number.is_none()).count() as u32;
    let Some((oldest_at, newest_at)) = age_bounds(&numbers) else {
        return Replay::nothing(LogFormat::V83, damaged);
    };
    let mut state = Slots::default();
    let mut transactions = 0;
    let mut active_entries = 0;
    for position in from_oldest_to_newest(oldest_at, newest_at, ring.len()) {
        let Some(transaction) = &ring[position] else {
            continue;
        };
        transactions += 1;
        for (slot, extent) in transaction.entries.iter().rev() {
            if *extent != FREE {
                active_entries += 1;
                state.put(transaction.number, *slot, *extent);
            }
        }
    }
    Replay {
        format: LogFormat::V83,
        hot: state.hot(),
        transactions,
        active_entries,
        damaged,
        newest: numbers[newest_at],
        next_position: ((newest_at + 1) % ring.len()) as u32,
        out_of_range: state.out_of_range,
    }
}

/// The 8.4 reader (spec/metadata.md 4.2).
fn replay_84(area: &[u8], geometry: LogGeometry) -> Result<Replay, Unusable> {
    let blocks = geometry.blocks();
    let block_at = |position: u32| {
        let start = geometry.block_of_position(position) as usize * transaction_84::TRANSACTION_BYTES;
        area.get(start..start + transaction_84::TRANSACTION_BYTES).and_then(Block84::decode)
    };
    // Only the numbers are kept: a block takes 4 KiB, and there may be thousands.
    let mut numbers = Vec::with_capacity(blocks as usize);
    let mut damaged_at = Vec::new();
    for position in 0..blocks {
        match block_at(position) {
            Some(Block84::Update(transaction)) => numbers.push(Some(transaction.number)),
            Some(Block84::Initialized) => numbers.push(None),
            None => {
                damaged_at.push(position);
                numbers.push(None);
            }
        }
    }
    let damaged = damaged_at.len() as u32;
    if damaged == blocks {
        return Err(Unusable::NoValidBlock);
    }
    let Some((oldest_at, newest_at)) = age_bounds(&numbers) else {
        // A torn first block of a fresh ring: its transaction never took effect.
        return match damaged_at.as_slice() {
            [] | [0] => Ok(Replay::nothing(LogFormat::V84, damaged)),
            _ => Err(Unusable::NoUpdate { damaged }),
        };
    };
    let mut state = Slots::default();
    let mut transactions = 0;
    let mut active_entries = 0;
    for position in from_oldest_to_newest(oldest_at, newest_at, blocks as usize) {
        let Some(Block84::Update(transaction)) = block_at(position as u32) else {
            continue;
        };
        transactions += 1;
        let start = u32::from(transaction.context_start);
        for (slot, extent) in (start..).zip(&transaction.context) {
            if *extent == FREE && slot >= u32::from(transaction.slots) {
                continue;
            }
            active_entries += u32::from(*extent != FREE);
            state.put(transaction.number, slot, *extent);
        }
        for (slot, extent) in &transaction.updates {
            active_entries += u32::from(*extent != FREE);
            state.put(transaction.number, u32::from(*slot), *extent);
        }
    }
    Ok(Replay {
        format: LogFormat::V84,
        hot: state.hot(),
        transactions,
        active_entries,
        damaged,
        newest: numbers[newest_at],
        next_position: (newest_at as u32 + 1) % blocks,
        out_of_range: state.out_of_range,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::layout::{Layout, MetaIndex};
    use proptest::prelude::*;

    fn super_block(slots: u32) -> SuperBlock {
        let layout = Layout::new(MetaIndex::Internal, 1 << 30, LogGeometry::CLASSIC).unwrap();
        SuperBlock { al_slots: slots, ..SuperBlock::just_created(&layout) }
    }

    #[test]
    fn a_zeroed_log_is_an_unused_8_3_log() {
        let replay = replay(&[0; 32768], &super_block(127), LogGeometry::CLASSIC).unwrap();
        assert_eq!(replay, Replay::nothing(LogFormat::V83, 4));
    }

    #[test]
    fn numbers_wrap_around() {
        let mut area = vec![0; 32768];
        for (position, number) in [(0, 1u32), (1, u32::MAX - 1), (2, u32::MAX), (3, 0)] {
            let mut transaction = Transaction83::empty(number);
            transaction.entries[0] = (5, 100 + number.wrapping_add(2));
            area[512 * position..512 * (position + 1)].copy_from_slice(&transaction.encode());
        }
        let replay = replay(&area, &super_block(127), LogGeometry::CLASSIC).unwrap();
        assert_eq!(replay.newest, Some(1));
        assert_eq!(replay.next_position, 1);
        assert_eq!(replay.hot, [103]);
        assert_eq!(replay.transactions, 4);
    }

    /// spec/metadata.md 14 trap 1: what 9.22 loses is found.
    #[test]
    fn transactions_of_8_3_on_a_ring_initialized_by_8_4_are_found() {
        let mut area = transaction_84::initialized_block().repeat(8);
        let mut transaction = Transaction83::empty(0);
        transaction.entries[0] = (126, 5);
        area[..512].copy_from_slice(&transaction.encode());
        let replay = replay(&area, &super_block(127), LogGeometry::CLASSIC).unwrap();
        assert_eq!((replay.format, replay.hot), (LogFormat::V83, vec![5]));
    }

    #[test]
    fn damaged_8_4_logs_are_told_apart_from_unused_ones() {
        let unclean = SuperBlock { cleanness: Cleanness::Unclean, ..super_block(257) };
        let geometry = LogGeometry::CLASSIC;
        let mut area = transaction_84::initialized_block().repeat(8);
        assert_eq!(replay(&area, &unclean, geometry).unwrap().transactions, 0);
        area[100] ^= 1;
        assert_eq!(replay(&area, &unclean, geometry).unwrap().damaged, 1);
        area[3 * 4096] ^= 1;
        assert_eq!(replay(&area, &unclean, geometry), Err(Unusable::NoUpdate { damaged: 2 }));
        assert_eq!(replay(&[0; 32768], &unclean, geometry), Err(Unusable::NoValidBlock));
    }

    proptest! {
        #[test]
        fn replay_never_panics(
            seed in prop::collection::vec(any::<u8>(), 64..512),
            slots in any::<u32>(), unclean in any::<bool>(), valid in any::<[bool; 8]>(),
        ) {
            let mut area: Vec<u8> = seed.iter().copied().cycle().take(32768).collect();
            for (block, valid) in valid.iter().enumerate() {
                if *valid {
                    let mut transaction = Transaction83::empty(u32::from(seed[block]) << 24);
                    for (i, entry) in transaction.entries.iter_mut().enumerate() {
                        *entry = (u32::from(seed[i % seed.len()]), slots.rotate_left(i as u32));
                    }
                    area[512 * block..512 * block + 512].copy_from_slice(&transaction.encode());
                }
            }
            let mut block = super_block(slots);
            if unclean {
                block.cleanness = Cleanness::Unclean;
            }
            let _ = replay(&area, &block, LogGeometry::CLASSIC);
            let _ = replay(&seed, &block, LogGeometry::CLASSIC);
        }
    }
}
