//! The exchange of bitmaps: P_BITMAP and P_COMPRESSED_BITMAP. spec/resync.md 3, spec/wire.md 6.
//!
//! A transfer walks over the bitmap from its first bit to its last. [`Sender`] makes the payload
//! of one packet after the other, [`Receiver`] merges them; both keep the position.
//!
//! | P_BITMAP | at | size | |
//! |---|---|---|---|
//! | words | 0 | 0, 8 ... 4088 or 4080 | next 64-bit words, little-endian; empty: end of the transfer |
//!
//! | P_COMPRESSED_BITMAP | at | size | |
//! |---|---|---|---|
//! | encoding | 0 | 1 | bits 0-3: 2; 4-6: unused bits of the last byte; 7: the first run is of set bits |
//! | runs | 1 | 1 ... 4087 or 4079 | code words of run lengths ([`vli`]), set and clear in turn |
//!
//! A transfer whose last bits came compressed is complete with them; otherwise an empty P_BITMAP
//! ends it.

pub mod receiver;
pub mod sender;
pub mod statistics;
pub mod vli;

pub use receiver::{Progress, Receiver};
pub use sender::Sender;
pub use statistics::{Direction, Statistics};

/// Value of the low four bits of the first byte: runs as variable-length integers.
const ENCODING_RLE_VLI: u8 = 2;

/// Bits in a word.
const WORD_BITS: u64 = 64;

/// A bitmap that can be read by words: bit n is bit n % 64 of word n / 64.
pub trait ReadWords {
    /// The word at this index.
    fn word(&self, index: u64) -> u64;
}

/// A bitmap into which received bits are merged.
pub trait MergeWords {
    /// Sets the bits of `word` in the word at this index, in addition to those that are set.
    fn merge(&mut self, index: u64, word: u64);
}

/// Words behind the end read as 0.
impl ReadWords for [u64] {
    fn word(&self, index: u64) -> u64 {
        usize::try_from(index).ok().and_then(|index| self.get(index)).copied().unwrap_or(0)
    }
}

/// Words behind the end are lost.
impl MergeWords for [u64] {
    fn merge(&mut self, index: u64, word: u64) {
        let index = usize::try_from(index).ok();
        if let Some(slot) = index.and_then(|index| self.get_mut(index)) {
            *slot |= word;
        }
    }
}

/// Words of a bitmap of so many bits.
pub fn words_for(bits: u64) -> u64 {
    bits.div_ceil(WORD_BITS)
}

/// The bits of the word at `index` that belong to a bitmap of `bits` bits.
fn mask(index: u64, bits: u64) -> u64 {
    match bits.saturating_sub(index * WORD_BITS) {
        0 => 0,
        rest if rest >= WORD_BITS => u64::MAX,
        rest => (1 << rest) - 1,
    }
}

#[cfg(test)]
mod tests;
