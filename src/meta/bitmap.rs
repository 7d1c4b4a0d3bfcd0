//! The bitmap on disk: bit b covers 4 KiB of data, 1 = out of sync (spec/metadata.md 5).
//!
//! Bit b is bit b mod 64 of word b / 64, words are little-endian, stored without a gap. Modules read
//! and write pages of 4 KiB.

use super::activity_log::EXTENT_BITMAP_BYTES;
use super::layout::{BYTES_PER_BIT, SECTOR_BYTES};

/// Bytes of a page, the unit of I/O.
pub const PAGE_BYTES: usize = 4096;
/// Words in a page.
pub const WORDS_PER_PAGE: usize = PAGE_BYTES / 8;
/// Bits in a page.
pub const BITS_PER_PAGE: u64 = PAGE_BYTES as u64 * 8;
/// Sectors of data that one bit covers.
pub const SECTORS_PER_BIT: u64 = BYTES_PER_BIT / SECTOR_BYTES;

/// Bits for a device of `sectors`.
pub fn bits(sectors: u64) -> u64 {
    sectors.div_ceil(SECTORS_PER_BIT)
}

/// 64-bit words for a device of `sectors`.
pub fn words(sectors: u64) -> u64 {
    bits(sectors).div_ceil(64)
}

/// Bytes that are stored for a device of `sectors`: whole 64-bit words.
pub fn stored_bytes(sectors: u64) -> u64 {
    words(sectors) * 8
}

/// Pages for a device of `sectors`.
pub fn pages(sectors: u64) -> u64 {
    bits(sectors).div_ceil(BITS_PER_PAGE)
}

/// Turns bytes from disk into words; the shorter of the two slices decides how many.
pub fn decode_words(bytes: &[u8], words: &mut [u64]) {
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut field = [0; 8];
        field.copy_from_slice(bytes);
        *word = u64::from_le_bytes(field);
    }
}

/// Turns words into bytes for the disk; bytes without a word become 0.
pub fn encode_words(words: &[u64], bytes: &mut [u8]) {
    let mut words = words.iter();
    for bytes in bytes.chunks_mut(8) {
        let field = words.next().copied().unwrap_or(0).to_le_bytes();
        bytes.copy_from_slice(&field[..bytes.len()]);
    }
}

/// Clears the bits behind the last one of a device of `sectors`: they may be set on disk
/// (spec/metadata.md 14 trap 6).
pub fn mask_tail(words: &mut [u64], sectors: u64) {
    let bits = bits(sectors);
    let whole = usize::try_from(bits / 64).unwrap_or(usize::MAX);
    if whole >= words.len() {
        return;
    }
    words[whole] &= (1 << (bits % 64)) - 1;
    words[whole + 1..].fill(0);
}

/// Sets all bits of one activity log extent in the bytes of a bitmap that begin with extent
/// `first_extent`. Returns how many were clear, `None` if the extent lies behind the end.
pub fn mark_extent(bytes: &mut [u8], first_extent: u32, extent: u32) -> Option<u64> {
    let step = EXTENT_BITMAP_BYTES as usize;
    let start = usize::try_from(extent.checked_sub(first_extent)?).ok()?.checked_mul(step)?;
    if start >= bytes.len() {
        return None;
    }
    let end = (start + step).min(bytes.len());
    let mut clear = 0;
    for byte in &mut bytes[start..end] {
        clear += u64::from(byte.count_zeros());
        *byte = 0xff;
    }
    Some(clear)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        assert_eq!((bits(0), words(0), stored_bytes(0), pages(0)), (0, 0, 0, 0));
        assert_eq!((bits(1), words(1)), (1, 1));
        assert_eq!(stored_bytes(130992), 2048);
        assert_eq!(pages(262144), 1);
        assert_eq!(pages(262145), 2);
    }

    #[test]
    fn bits_have_their_places_in_bytes() {
        let mut bytes = [0; 16];
        encode_words(&[1 << 9, 1], &mut bytes);
        assert_eq!(bytes[1], 2);
        assert_eq!(bytes[8], 1);
    }

    #[test]
    fn bits_behind_the_end_are_cleared() {
        let mut words = [u64::MAX; 4];
        mask_tail(&mut words, 65 * 8);
        assert_eq!(words, [u64::MAX, 1, 0, 0]);
        let mut full = [u64::MAX; 2];
        mask_tail(&mut full, 128 * 8);
        assert_eq!(full, [u64::MAX; 2]);
    }

    #[test]
    fn an_extent_is_128_bytes() {
        let mut bytes = [0; 300];
        bytes[128] = 0x0f;
        assert_eq!(mark_extent(&mut bytes, 4, 5), Some(1024 - 4));
        assert_eq!(mark_extent(&mut bytes, 4, 5), Some(0));
        assert_eq!(mark_extent(&mut bytes, 4, 6), Some(44 * 8));
        assert_eq!(mark_extent(&mut bytes, 4, 7), None);
        assert_eq!(mark_extent(&mut bytes, 4, 3), None);
        assert_eq!(bytes[127], 0);
    }

    proptest! {
        #[test]
        fn words_survive_a_round_trip(words in prop::collection::vec(any::<u64>(), 0..40)) {
            let mut bytes = vec![0; words.len() * 8];
            encode_words(&words, &mut bytes);
            let mut back = vec![0; words.len()];
            decode_words(&bytes, &mut back);
            prop_assert_eq!(back, words);
        }
    }
}
