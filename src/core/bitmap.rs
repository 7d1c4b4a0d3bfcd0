//! The bitmap in memory: which 4 KiB blocks of the two disks may differ.
//!
//! One bit a block, set = out of sync; little-endian 64-bit words, as on the wire and on disk.
//! spec/resync.md 1.

use crate::sys::buffer::Buffer;
use crate::wire::bitmap_code::{MergeWords, ReadWords};

/// Sectors that one bit covers.
pub const SECTORS_PER_BIT: u64 = 8;
/// Bits in a page of 4 KiB of bitmap, the unit of writing.
pub const BITS_PER_PAGE: u64 = 32768;
/// 64-bit words in a page.
pub const WORDS_PER_PAGE: usize = 512;

/// What must happen to a page of the bitmap on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Dirty {
    /// The disk holds the same.
    No,
    /// Bits were cleared: may be written when it suits.
    Lazy,
    /// Bits were set: must be written before anything relies on it.
    Must,
}

/// Bits of one device, with the number of set bits and the pages that the disk does not have yet.
#[derive(Debug, Default)]
pub struct Bitmap {
    words: Vec<u64>,
    bits: u64,
    weight: u64,
    dirty: Vec<Dirty>,
    /// How often bits were cleared.
    clears: u64,
}

impl Bitmap {
    /// A bitmap for `sectors` sectors with all bits clear; the last bit may cover less than a block.
    pub fn new(sectors: u64) -> Bitmap {
        let bits = sectors.div_ceil(SECTORS_PER_BIT);
        Bitmap {
            words: vec![0; bits.div_ceil(64) as usize],
            bits,
            weight: 0,
            dirty: vec![Dirty::No; bits.div_ceil(BITS_PER_PAGE) as usize],
            clears: 0,
        }
    }

    /// A bitmap as it was read from disk: bits behind the device are cleared, the rest counted.
    pub fn from_words(sectors: u64, mut words: Vec<u64>) -> Bitmap {
        let mut bitmap = Bitmap::new(sectors);
        words.resize(bitmap.words.len(), 0);
        bitmap.words = words;
        bitmap.trim_surplus();
        bitmap.recount();
        bitmap
    }

    /// Number of bits of the device.
    pub fn bits(&self) -> u64 {
        self.bits
    }

    /// Number of set bits.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// The words, surplus bits zero.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Whether the bit is set; bits behind the end are clear.
    pub fn is_set(&self, bit: u64) -> bool {
        bit < self.bits && self.words[(bit / 64) as usize] >> (bit % 64) & 1 == 1
    }

    /// The first set bit at or behind `bit`.
    pub fn next_set(&self, bit: u64) -> Option<u64> {
        if bit >= self.bits {
            return None;
        }
        let mut index = (bit / 64) as usize;
        let mut word = self.words[index] & (!0 << (bit % 64));
        loop {
            if word != 0 {
                return Some(index as u64 * 64 + u64::from(word.trailing_zeros()));
            }
            index += 1;
            word = *self.words.get(index)?;
        }
    }

    /// Number of set bits in `first ..= last`.
    pub fn count(&self, first: u64, last: u64) -> u64 {
        let mut count = 0;
        self.for_words(first, last, |bitmap, index, mask| {
            count += u64::from((bitmap.words[index] & mask).count_ones());
        });
        count
    }

    /// Marks every block that the range touches as out of sync (spec/resync.md 1.3, "Set").
    /// Returns how many bits changed.
    pub fn set_sectors(&mut self, sector: u64, sectors: u64) -> u64 {
        match self.touched_bits(sector, sectors) {
            Some((first, last)) => self.set_bits(first, last),
            None => 0,
        }
    }

    /// Marks the blocks that the range covers completely as in sync (spec/resync.md 1.3, "Clear");
    /// `capacity` is the size of the device in sectors. Returns how many bits changed.
    pub fn clear_sectors(&mut self, sector: u64, sectors: u64, capacity: u64) -> u64 {
        match covered_bits(sector, sectors, capacity) {
            Some((first, last)) => self.clear_bits(first, last),
            None => 0,
        }
    }

    /// Number of set bits that the range touches.
    pub fn count_sectors(&self, sector: u64, sectors: u64) -> u64 {
        self.touched_bits(sector, sectors).map_or(0, |(first, last)| self.count(first, last))
    }

    fn touched_bits(&self, sector: u64, sectors: u64) -> Option<(u64, u64)> {
        if sectors == 0 || self.bits == 0 {
            return None;
        }
        let first = sector / SECTORS_PER_BIT;
        let last = ((sector + sectors - 1) / SECTORS_PER_BIT).min(self.bits - 1);
        let last = if mutant!("fewer-bits-set") && last > first { last - 1 } else { last };
        (first <= last).then_some((first, last))
    }

    /// Sets bits `first ..= last` (clipped at the end); returns how many changed.
    pub fn set_bits(&mut self, first: u64, last: u64) -> u64 {
        let mut changed = 0;
        self.for_words_mut(first, last, |bitmap, index, mask| {
            let new = mask & !bitmap.words[index];
            if new != 0 {
                bitmap.words[index] |= new;
                changed += u64::from(new.count_ones());
                if !mutant!("page-not-dirty") {
                    bitmap.dirty[index / WORDS_PER_PAGE] = Dirty::Must;
                }
            }
        });
        self.weight += changed;
        changed
    }

    /// Clears bits `first ..= last` (clipped at the end); returns how many changed.
    pub fn clear_bits(&mut self, first: u64, last: u64) -> u64 {
        let mut changed = 0;
        self.for_words_mut(first, last, |bitmap, index, mask| {
            let old = mask & bitmap.words[index];
            if old != 0 {
                bitmap.words[index] &= !old;
                changed += u64::from(old.count_ones());
                let page = &mut bitmap.dirty[index / WORDS_PER_PAGE];
                *page = (*page).max(Dirty::Lazy);
            }
        });
        self.weight -= changed;
        self.clears += u64::from(changed > 0);
        changed
    }

    /// Counts how often bits were cleared.
    pub fn clears(&self) -> u64 {
        self.clears
    }

    /// Sets every bit of the device.
    pub fn set_all(&mut self) {
        if self.bits > 0 {
            self.set_bits(0, self.bits - 1);
        }
    }

    /// Clears every bit of the device.
    pub fn clear_all(&mut self) {
        if self.bits > 0 {
            self.clear_bits(0, self.bits - 1);
        }
    }

    /// Changes the size of the device; bits of new space are set or clear as asked.
    pub fn resize(&mut self, sectors: u64, set_new: bool) {
        let old_bits = self.bits;
        let bits = sectors.div_ceil(SECTORS_PER_BIT);
        self.bits = bits;
        self.words.resize(bits.div_ceil(64) as usize, 0);
        self.dirty.resize(bits.div_ceil(BITS_PER_PAGE) as usize, Dirty::Must);
        if bits > old_bits && old_bits % BITS_PER_PAGE != 0 {
            // Nobody knows what the disk holds behind the old end.
            self.mark_dirty((old_bits / BITS_PER_PAGE) as u32);
        }
        self.trim_surplus();
        self.recount();
        if set_new && bits > old_bits && !mutant!("new-space-not-marked") {
            self.set_bits(old_bits, bits - 1);
        }
    }

    /// Pages that differ from the disk; `lazy` also takes those where bits were only cleared.
    pub fn dirty_pages(&self, lazy: bool) -> Vec<u32> {
        let from = if lazy { Dirty::Lazy } else { Dirty::Must };
        (0u32..).zip(&self.dirty).filter(|(_, d)| **d >= from).map(|(page, _)| page).collect()
    }

    /// Whether the page that holds `bit` has set bits that the disk lacks.
    pub fn page_must_be_written(&self, bit: u64) -> bool {
        self.dirty.get((bit / BITS_PER_PAGE) as usize) == Some(&Dirty::Must)
    }

    /// Takes every page for different from the disk, to have the whole bitmap written.
    pub fn mark_all_dirty(&mut self) {
        self.dirty.fill(Dirty::Must);
    }

    /// A copy of a page's bytes as they belong on the disk, and marks the page as written.
    /// The caller marks it again with [`Bitmap::mark_dirty`] if the write fails.
    pub fn take_page(&mut self, page: u32) -> Buffer {
        let first = page as usize * WORDS_PER_PAGE;
        let last = (first + WORDS_PER_PAGE).min(self.words.len());
        self.dirty[page as usize] = Dirty::No;
        // Whole sectors: the rest of the last one holds no bits of the device.
        let mut bytes = Buffer::zeroed(((last - first) * 8).next_multiple_of(512));
        for (word, out) in self.words[first..last].iter().zip(bytes.chunks_exact_mut(8)) {
            out.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Marks a page as not written.
    pub fn mark_dirty(&mut self, page: u32) {
        if let Some(dirty) = self.dirty.get_mut(page as usize) {
            *dirty = Dirty::Must;
        }
    }

    /// Number of pages.
    pub fn pages(&self) -> u32 {
        self.dirty.len() as u32
    }

    fn trim_surplus(&mut self) {
        let used = self.bits % 64;
        if used != 0 {
            if let Some(last) = self.words.last_mut() {
                *last &= !0 >> (64 - used);
            }
        }
    }

    fn recount(&mut self) {
        self.weight = self.words.iter().map(|word| u64::from(word.count_ones())).sum();
    }

    fn for_words(&self, first: u64, last: u64, mut visit: impl FnMut(&Self, usize, u64)) {
        for (index, mask) in word_masks(first, last, self.bits) {
            visit(self, index, mask);
        }
    }

    fn for_words_mut(&mut self, first: u64, last: u64, mut visit: impl FnMut(&mut Self, usize, u64)) {
        for (index, mask) in word_masks(first, last, self.bits) {
            visit(self, index, mask);
        }
    }
}

impl ReadWords for Bitmap {
    fn word(&self, index: u64) -> u64 {
        self.words.get(index as usize).copied().unwrap_or(0)
    }
}

impl MergeWords for Bitmap {
    fn merge(&mut self, index: u64, word: u64) {
        let first = index * 64;
        if first < self.bits {
            let unused = 63 - (self.bits - 1 - first).min(63);
            let index = index as usize;
            let new = word & (!0 >> unused) & !self.words[index];
            if new != 0 {
                self.words[index] |= new;
                self.weight += u64::from(new.count_ones());
                self.dirty[index / WORDS_PER_PAGE] = Dirty::Must;
            }
        }
    }
}

/// The blocks that a range covers completely; the last block of the device may be a partial one.
fn covered_bits(sector: u64, sectors: u64, capacity: u64) -> Option<(u64, u64)> {
    if sectors == 0 || sector >= capacity {
        return None;
    }
    let last_sector = (sector + sectors - 1).min(capacity - 1);
    let first = sector.div_ceil(SECTORS_PER_BIT);
    let first = if mutant!("partial-blocks-cleared") { sector / SECTORS_PER_BIT } else { first };
    let last = if last_sector == capacity - 1 {
        last_sector / SECTORS_PER_BIT
    } else {
        (last_sector + 1).checked_sub(SECTORS_PER_BIT)? / SECTORS_PER_BIT
    };
    (first <= last).then_some((first, last))
}

/// The words that bits `first ..= last` lie in, each with the mask of the bits meant.
fn word_masks(first: u64, last: u64, bits: u64) -> impl Iterator<Item = (usize, u64)> {
    let last = last.min(bits.saturating_sub(1));
    let words = if bits == 0 || first > last { 1..1 } else { first / 64..last / 64 + 1 };
    words.map(move |index| {
        let from = first.saturating_sub(index * 64);
        let to = (last - index * 64).min(63);
        (index as usize, (!0 << from) & (!0 >> (63 - to)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The table of spec/resync.md 1.3.
    #[test]
    fn rounding_follows_the_table() {
        let cap = 1 << 20;
        for (sector, bytes, set, clear) in [
            (0, 4096, Some((0, 0)), Some((0, 0))),
            (4, 4096, Some((0, 1)), None),
            (4, 8192, Some((0, 2)), Some((1, 1))),
            (20, 20480, Some((2, 7)), Some((3, 6))),
        ] {
            let bitmap = Bitmap::new(cap);
            assert_eq!(bitmap.touched_bits(sector, bytes / 512), set, "{sector}+{bytes}");
            assert_eq!(covered_bits(sector, bytes / 512, cap), clear, "{sector}+{bytes}");
        }
        assert_eq!(covered_bits(8, 1, 9), Some((1, 1)), "a partial last block counts");
        assert_eq!(covered_bits(0, 7, 100), None);
    }

    #[test]
    fn pages_are_dirty_until_taken() {
        let mut bitmap = Bitmap::new(3 * BITS_PER_PAGE * SECTORS_PER_BIT);
        assert!(bitmap.dirty_pages(true).is_empty());
        bitmap.set_bits(BITS_PER_PAGE, BITS_PER_PAGE);
        assert_eq!(bitmap.dirty_pages(false), vec![1]);
        assert!(bitmap.page_must_be_written(BITS_PER_PAGE + 5));
        let page = bitmap.take_page(1);
        assert_eq!((page.len(), page[0]), (4096, 1));
        bitmap.clear_bits(BITS_PER_PAGE, BITS_PER_PAGE);
        assert!(bitmap.dirty_pages(false).is_empty());
        assert_eq!(bitmap.dirty_pages(true), vec![1]);
    }

    /// Behind the end the disk may hold what a larger device left, or one that was to grow when the power went.
    #[test]
    fn what_the_disk_holds_behind_the_end_is_overwritten_when_it_grows() {
        let mut bitmap = Bitmap::from_words(100 * 8, vec![0; 2]);
        bitmap.resize(200 * 8, false);
        assert_eq!(bitmap.dirty_pages(false), vec![0]);
        let mut bitmap = Bitmap::from_words(BITS_PER_PAGE * 8, vec![0; WORDS_PER_PAGE]);
        bitmap.resize((BITS_PER_PAGE + 1) * 8, false);
        assert_eq!(bitmap.dirty_pages(false), vec![1]);
        bitmap.resize(BITS_PER_PAGE * 8, false);
        assert!(bitmap.dirty_pages(true).is_empty());
    }

    #[test]
    fn growing_sets_the_new_bits_and_shrinking_forgets() {
        let mut bitmap = Bitmap::new(100 * 8);
        bitmap.set_bits(99, 99);
        bitmap.resize(200 * 8, true);
        assert_eq!(bitmap.weight(), 101);
        bitmap.resize(50 * 8, true);
        assert_eq!(bitmap.weight(), 0);
        bitmap.resize(100 * 8, false);
        assert_eq!(bitmap.weight(), 0);
    }

    proptest! {
        #[test]
        fn weight_and_search_agree_with_a_plain_model(
            bits in 1u64..400, steps in prop::collection::vec((any::<bool>(), 0u64..420, 0u64..80), 0..40)
        ) {
            let mut bitmap = Bitmap::new(bits * 8);
            let mut model = vec![false; bits as usize];
            for (set, first, len) in steps {
                let last = first + len;
                let range = first.min(bits) as usize..(last + 1).min(bits) as usize;
                let changed = model[range.clone()].iter().filter(|b| **b != set).count() as u64;
                let got = if set { bitmap.set_bits(first, last) } else { bitmap.clear_bits(first, last) };
                prop_assert_eq!(got, changed);
                model[range].fill(set);
            }
            prop_assert_eq!(bitmap.weight(), model.iter().filter(|b| **b).count() as u64);
            for bit in 0..bits {
                let next = (bit..bits).find(|b| model[*b as usize]);
                prop_assert_eq!(bitmap.next_set(bit), next);
            }
            let copy = Bitmap::from_words(bits * 8, bitmap.words().to_vec());
            prop_assert_eq!(copy.weight(), bitmap.weight());
        }
    }
}
