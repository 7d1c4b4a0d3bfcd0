//! A transaction of the 8.3 (and 0.7) activity log: one sector of 512 bytes (spec/metadata.md 4.1).
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | u32 | magic 0x83740267 |
//! | 4 | u32 | transaction number |
//! | 8 | 62 x (u32 slot, u32 extent) | entry 0: the update; the others: context |
//! | 504 | u32 | xor of the 62 extents |
//! | 508 | 4 | padding |

use crate::meta::fields::u32_at;

/// Bytes of a transaction.
pub const TRANSACTION_BYTES: usize = 512;
/// Pairs of slot and extent in one.
pub const ENTRIES: usize = 62;
/// Context entries of a transaction with a single update; the length of the ring is made from it.
pub const CONTEXT_ENTRIES: u32 = 61;
/// Fewest slots.
pub const SLOTS_MIN: u32 = 7;
/// Most slots that the 64 sectors of the classic log can hold.
pub const SLOTS_MAX: u32 = 3833;
/// Slots that a module takes where the super block says fewer than [`SLOTS_MIN`].
pub const SLOTS_DEFAULT: u32 = 127;
/// The extent of a free slot, and the slot of an unused entry.
pub const FREE: u32 = u32::MAX;

const MAGIC: u32 = 0x8374_0267;
const AT_ENTRIES: usize = 8;
const AT_XOR: usize = 504;

/// Sectors of the ring for `slots`: ceil(slots / 61) + 1.
pub fn ring_sectors(slots: u32) -> u32 {
    slots.div_ceil(CONTEXT_ENTRIES) + 1
}

/// One sector of the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction83 {
    /// Counts up by one a transaction, wraps.
    pub number: u32,
    /// (slot, extent) pairs. Readers apply them from the last to the first, so that entry 0 wins;
    /// an extent of [`FREE`] never clears a slot.
    pub entries: [(u32, u32); ENTRIES],
}

impl Transaction83 {
    /// A transaction whose entries are all unused.
    pub fn empty(number: u32) -> Transaction83 {
        Transaction83 { number, entries: [(FREE, FREE); ENTRIES] }
    }

    /// The sector to write.
    pub fn encode(&self) -> [u8; TRANSACTION_BYTES] {
        let mut sector = [0; TRANSACTION_BYTES];
        sector[..4].copy_from_slice(&MAGIC.to_be_bytes());
        sector[4..8].copy_from_slice(&self.number.to_be_bytes());
        let mut xor = 0;
        for (i, (slot, extent)) in self.entries.iter().enumerate() {
            let at = AT_ENTRIES + 8 * i;
            sector[at..at + 4].copy_from_slice(&slot.to_be_bytes());
            sector[at + 4..at + 8].copy_from_slice(&extent.to_be_bytes());
            xor ^= extent;
        }
        sector[AT_XOR..AT_XOR + 4].copy_from_slice(&xor.to_be_bytes());
        sector
    }

    /// Reads a sector; `None` if magic or xor are wrong (never written, or torn).
    pub fn decode(sector: &[u8]) -> Option<Transaction83> {
        if sector.len() < TRANSACTION_BYTES || u32_at(sector, 0) != MAGIC {
            return None;
        }
        let entries: [(u32, u32); ENTRIES] = std::array::from_fn(|i| {
            let at = AT_ENTRIES + 8 * i;
            (u32_at(sector, at), u32_at(sector, at + 4))
        });
        let xor = entries.iter().fold(0, |xor, (_, extent)| xor ^ extent);
        (xor == u32_at(sector, AT_XOR)).then(|| Transaction83 { number: u32_at(sector, 4), entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// spec/metadata.md 4.1: 127 slots, first transaction, extent 5 into slot 126.
    #[test]
    fn the_first_transaction_of_a_new_log() {
        let mut transaction = Transaction83::empty(0);
        transaction.entries[0] = (126, 5);
        for k in 0..61 {
            transaction.entries[k as usize + 1] = (k, FREE);
        }
        let sector = transaction.encode();
        assert_eq!(
            sector[..32],
            [
                0x83, 0x74, 2, 0x67, 0, 0, 0, 0, 0, 0, 0, 0x7e, 0, 0, 0, 5, 0, 0, 0, 0, 255, 255, 255, 255,
                0, 0, 0, 1, 255, 255, 255, 255
            ]
        );
        assert_eq!(sector[504..], [0xff, 0xff, 0xff, 0xfa, 0, 0, 0, 0]);
        assert_eq!(Transaction83::decode(&sector), Some(transaction));
    }

    #[test]
    fn ring_lengths() {
        for (slots, sectors) in [(7, 2), (127, 4), (257, 6), (3833, 64)] {
            assert_eq!(ring_sectors(slots), sectors);
        }
    }

    proptest! {
        #[test]
        fn decode_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = Transaction83::decode(&bytes);
        }

        #[test]
        fn a_torn_extent_is_seen(at in 8usize..504, bit in 0u8..8) {
            prop_assume!((at - 8) % 8 >= 4);
            let mut sector = Transaction83::empty(7).encode();
            sector[at] ^= 1 << bit;
            prop_assert_eq!(Transaction83::decode(&sector), None);
        }
    }
}
