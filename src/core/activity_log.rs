//! The activity log in memory: which 4 MiB extents may have writes in flight.
//!
//! A slot holds an extent number and counts its users. An extent keeps its slot until it is
//! evicted, and an eviction is a transaction on disk. spec/resync.md 2.1 to 2.3.

use std::collections::HashMap;

/// Sectors of an activity log extent (4 MiB), as a shift.
pub const EXTENT_SECTOR_SHIFT: u32 = 13;
/// Bitmap bits of an activity log extent.
pub const BITS_PER_EXTENT: u64 = 1024;

/// What the log says when somebody asks for an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Get {
    /// The extent is active; its user count went up.
    Active,
    /// It is not, or its transaction is on the way: wait for [`ActivityLog::commit`].
    Wait,
}

/// A slot that is to change: the next transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotChange {
    /// Slot number, as on disk.
    pub slot: u32,
    /// Extent that goes; its bitmap page must be durable before the transaction.
    pub evicted: Option<u32>,
    /// When its last user left, on the log's own clock: see [`ActivityLog::clock`].
    pub released: u64,
    /// Extent that comes.
    pub extent: u32,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    extent: Option<u32>,
    users: u32,
    /// When the last user left: the order of eviction.
    released: u64,
}

/// The slots of one device.
#[derive(Debug)]
pub struct ActivityLog {
    slots: Vec<Slot>,
    by_extent: HashMap<u32, u32>,
    pending: Vec<SlotChange>,
    clock: u64,
    used: u32,
}

impl ActivityLog {
    /// A log of `slots` slots in which the extents of `hot` (slot by slot) are active but idle.
    pub fn new(slots: u32, hot: &[(u32, u32)]) -> ActivityLog {
        let free = Slot { extent: None, users: 0, released: 0 };
        let mut log = ActivityLog {
            slots: vec![free; slots as usize],
            by_extent: HashMap::new(),
            pending: Vec::new(),
            clock: 0,
            used: 0,
        };
        for (slot, extent) in hot {
            let Some(entry) = log.slots.get_mut(*slot as usize) else { continue };
            if log.by_extent.insert(*extent, *slot).is_none() {
                entry.extent = Some(*extent);
            }
        }
        log
    }

    /// Number of slots.
    pub fn len(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Whether no extent is active.
    pub fn is_empty(&self) -> bool {
        self.by_extent.is_empty()
    }

    /// Number of slots with users ("used" in /proc/drbd).
    pub fn used(&self) -> u32 {
        self.used
    }

    /// The extent in each slot, for the context of a transaction.
    pub fn extents(&self) -> impl Iterator<Item = Option<u32>> + '_ {
        self.slots.iter().map(|slot| slot.extent)
    }

    /// Asks for an extent. `Wait`: call [`ActivityLog::prepare`], write what it says, then
    /// [`ActivityLog::commit`], and ask again.
    pub fn get(&mut self, extent: u32) -> Get {
        match self.by_extent.get(&extent) {
            Some(slot) if !self.is_pending(extent) => {
                let entry = &mut self.slots[*slot as usize];
                entry.users += 1;
                if entry.users == 1 {
                    self.used += 1;
                }
                Get::Active
            }
            _ => Get::Wait,
        }
    }

    /// Whether the extent is active and not in a transaction that is on the way.
    pub fn is_active(&self, extent: u32) -> bool {
        self.by_extent.contains_key(&extent) && !self.is_pending(extent)
    }

    fn is_pending(&self, extent: u32) -> bool {
        self.pending.iter().any(|change| change.extent == extent)
    }

    /// Gives an extent back that [`ActivityLog::get`] granted.
    pub fn put(&mut self, extent: u32) {
        let Some(slot) = self.by_extent.get(&extent) else {
            debug_assert!(false, "extent {extent} is not active");
            return;
        };
        let entry = &mut self.slots[*slot as usize];
        debug_assert!(entry.users > 0, "extent {extent} has no users");
        entry.users = entry.users.saturating_sub(1);
        if entry.users == 0 {
            self.clock += 1;
            entry.released = self.clock;
            self.used -= 1;
        }
    }

    /// Chooses slots for up to `max` of `extents`: free ones, else those that are idle for the
    /// longest time. Empty: all slots have users, or a transaction is on the way. Until
    /// [`ActivityLog::commit`] what goes cannot be had any more, and what comes not yet.
    pub fn prepare(&mut self, extents: impl Iterator<Item = u32>, max: usize) -> &[SlotChange] {
        if !self.pending.is_empty() {
            return &[];
        }
        for extent in extents {
            if self.pending.len() >= max {
                break;
            }
            if self.by_extent.contains_key(&extent) {
                continue;
            }
            let Some(index) = self.slot_to_use() else { break };
            let Slot { extent: evicted, released, .. } = self.slots[index];
            if let Some(old) = evicted {
                self.by_extent.remove(&old);
            }
            self.by_extent.insert(extent, index as u32);
            self.pending.push(SlotChange { slot: index as u32, evicted, released, extent });
        }
        &self.pending
    }

    /// Free slots from the highest down, as the kernel's module takes them; then idle ones.
    fn slot_to_use(&self) -> Option<usize> {
        let taken = |index: usize| self.pending.iter().any(|change| change.slot == index as u32);
        let free = self.slots.iter().enumerate().rev().find(|(i, slot)| slot.extent.is_none() && !taken(*i));
        free.map(|(index, _)| index).or_else(|| {
            let idle = self.slots.iter().enumerate().filter(|(i, slot)| slot.users == 0 && !taken(*i));
            idle.min_by_key(|(_, slot)| slot.released).map(|(index, _)| index)
        })
    }

    /// Counts how often an extent lost its last user: writes to extents that were released up to
    /// now are done.
    pub fn clock(&self) -> u64 {
        self.clock
    }

    /// The transaction that is on the way.
    pub fn pending(&self) -> &[SlotChange] {
        &self.pending
    }

    /// The transaction is durable: its extents may be used.
    pub fn commit(&mut self) {
        for change in self.pending.drain(..) {
            self.slots[change.slot as usize].extent = Some(change.extent);
        }
    }

    /// The transaction could not be written: nobody gets its extents.
    pub fn abort(&mut self) {
        for change in self.pending.drain(..) {
            self.by_extent.remove(&change.extent);
            if let Some(old) = change.evicted {
                self.by_extent.insert(old, change.slot);
            }
        }
    }

    /// Empties the idle slots (the disk's copy is not touched). spec/resync.md 2.5.
    pub fn clear_idle(&mut self) {
        for slot in &mut self.slots {
            if slot.users == 0 {
                if let Some(extent) = slot.extent.take() {
                    self.by_extent.remove(&extent);
                }
            }
        }
    }
}

/// First and last extent of a range; `sectors` > 0.
pub fn extents_of(sector: u64, sectors: u64) -> std::ops::RangeInclusive<u32> {
    let first = (sector >> EXTENT_SECTOR_SHIFT) as u32;
    let last = ((sector + sectors - 1) >> EXTENT_SECTOR_SHIFT) as u32;
    first..=last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_is_active_only_after_its_transaction() {
        let mut log = ActivityLog::new(7, &[]);
        assert_eq!(log.get(5), Get::Wait);
        let changes = log.prepare([5, 5, 8, 9].into_iter(), 2).to_vec();
        let slots: Vec<_> = changes.iter().map(|c| (c.slot, c.extent, c.evicted)).collect();
        assert_eq!(slots, vec![(6, 5, None), (5, 8, None)]);
        assert_eq!(log.get(5), Get::Wait, "the transaction is on the way");
        assert!(log.prepare([9].into_iter(), 1).is_empty(), "one transaction at a time");
        log.commit();
        assert_eq!(log.get(5), Get::Active);
        assert_eq!(log.used(), 1);
        log.put(5);
        assert_eq!(log.used(), 0);
    }

    #[test]
    fn the_extent_released_first_is_evicted_first_and_a_used_one_never() {
        let mut log = ActivityLog::new(3, &[(0, 10), (1, 11), (2, 12)]);
        for extent in [10, 11, 12] {
            assert_eq!(log.get(extent), Get::Active);
        }
        assert!(log.prepare([20].into_iter(), 1).is_empty(), "all slots have users");
        log.put(11);
        log.put(10);
        let change = log.prepare([20].into_iter(), 1)[0];
        assert_eq!((change.slot, change.evicted), (1, Some(11)));
        assert_eq!(log.get(11), Get::Wait, "what is being evicted cannot be had");
        log.abort();
        assert_eq!(log.get(11), Get::Active);
        assert_eq!(log.get(20), Get::Wait);
    }

    #[test]
    fn ranges_are_cut_into_extents() {
        assert_eq!(extents_of(0, 8192), 0..=0);
        assert_eq!(extents_of(8191, 2), 0..=1);
        assert_eq!(extents_of(8192, 1), 1..=1);
    }
}
