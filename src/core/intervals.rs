//! A set of sector ranges that are busy, each owned by a number.
//!
//! Used for application writes in the transfer log, for the peer's writes on their way to the
//! disk, and for the ranges that a resync has locked (spec/resync.md 2.6, spec/wire.md 7.5).

use std::collections::BTreeMap;

/// Whether two ranges, first sector and length, have a sector in common. An empty one has none with any.
pub fn overlap(a: (u64, u64), b: (u64, u64)) -> bool {
    a.0.max(b.0) < (a.0 + a.1).min(b.0 + b.1)
}

/// Sector ranges by owner. Ranges of different owners may overlap.
#[derive(Debug, Default)]
pub struct Intervals {
    /// (first sector, owner) to the first sector behind the range.
    ranges: BTreeMap<(u64, u64), u64>,
    /// Longest range that was ever inserted, in sectors: how far a search must look back.
    longest: u64,
}

impl Intervals {
    /// Adds the range of `owner`; an empty range is not recorded.
    pub fn insert(&mut self, owner: u64, sector: u64, sectors: u64) {
        if sectors == 0 {
            return;
        }
        self.longest = self.longest.max(sectors);
        self.ranges.insert((sector, owner), sector + sectors);
    }

    /// Takes the range of `owner` that begins at `sector` out; nothing happens if there is none.
    pub fn remove(&mut self, owner: u64, sector: u64) {
        self.ranges.remove(&(sector, owner));
        if self.ranges.is_empty() {
            self.longest = 0;
        }
    }

    /// Owners whose ranges overlap `sector .. sector + sectors`.
    pub fn overlapping(&self, sector: u64, sectors: u64) -> impl Iterator<Item = u64> + '_ {
        let from = sector.saturating_sub(self.longest);
        let end = sector + sectors;
        self.ranges
            .range((from, 0)..(end, 0))
            .filter(move |(_, range_end)| **range_end > sector)
            .map(|((_, owner), _)| *owner)
    }

    /// Whether any range overlaps `sector .. sector + sectors`.
    pub fn any(&self, sector: u64, sectors: u64) -> bool {
        self.overlapping(sector, sectors).next().is_some()
    }

    /// Whether no range is recorded.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Number of ranges.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Takes the ranges out whose owners are not to be kept.
    pub fn retain(&mut self, keeps: impl Fn(u64) -> bool) {
        self.ranges.retain(|(_, owner), _| keeps(*owner));
        if self.ranges.is_empty() {
            self.longest = 0;
        }
    }

    /// Forgets all ranges.
    pub fn clear(&mut self) {
        self.ranges.clear();
        self.longest = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_is_found_on_both_sides_and_only_there() {
        let mut busy = Intervals::default();
        busy.insert(1, 8, 8);
        busy.insert(2, 100, 2048);
        assert!(!busy.any(0, 8));
        assert!(busy.any(0, 9));
        assert!(busy.any(15, 1));
        assert!(!busy.any(16, 84));
        assert_eq!(busy.overlapping(2000, 1).collect::<Vec<_>>(), vec![2]);
        busy.remove(2, 100);
        assert!(!busy.any(2000, 1));
        assert_eq!(busy.len(), 1);
    }

    #[test]
    fn equal_ranges_of_two_owners_are_kept_apart() {
        let mut busy = Intervals::default();
        busy.insert(1, 8, 8);
        busy.insert(2, 8, 8);
        busy.remove(1, 8);
        assert_eq!(busy.overlapping(8, 1).collect::<Vec<_>>(), vec![2]);
    }
}
