//! Knows every write and what a sector may hold because of them.

use crate::table::BySector;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    InFlight,
    Acknowledged,
    /// Failed, or the node crashed: it may have happened or not.
    Unknown,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    tag: u64,
    began: u64,
    ended: Option<u64>,
    fate: Fate,
    /// A later write was acknowledged, or a read showed another value: this one may only come
    /// back by the loss of a volatile cache.
    superseded: Option<u64>,
}

/// What every sector may hold that an application wrote.
#[derive(Default)]
pub struct Judge {
    sectors: BySector<Vec<Entry>>,
    /// Sectors with superseded entries, and perhaps others.
    superseded: BySector<()>,
    /// Two disks failed: content proves nothing any more.
    pub lenient: bool,
    pub acknowledged: u64,
    pub failed: u64,
    pub unknown: u64,
}

impl Judge {
    /// The content before any write.
    pub fn initial(&mut self, sector: u64, tag: u64) {
        let entry = Entry { tag, began: 0, ended: Some(0), fate: Fate::Acknowledged, superseded: None };
        self.sectors.insert(sector, vec![entry]);
    }

    fn entries(&mut self, sector: u64) -> &mut Vec<Entry> {
        self.sectors.entry(sector).or_insert_with(|| {
            vec![Entry { tag: 0, began: 0, ended: Some(0), fate: Fate::Acknowledged, superseded: None }]
        })
    }

    pub fn began(&mut self, step: u64, sector: u64, tag: u64) {
        let entry = Entry { tag, began: step, ended: None, fate: Fate::InFlight, superseded: None };
        self.entries(sector).push(entry);
    }

    /// A write that began at `began` was acknowledged.
    pub fn acknowledged(&mut self, step: u64, began: u64, sector: u64, tag: u64, fua: bool) {
        let entries = self.entries(sector);
        let mut superseded = false;
        for entry in entries.iter_mut() {
            if entry.tag == tag && entry.began == began {
                entry.fate = Fate::Acknowledged;
                entry.ended = Some(step);
            } else if entry.ended.is_some_and(|ended| ended <= began) {
                entry.superseded.get_or_insert(step);
                superseded = true;
            }
        }
        if fua {
            entries.retain(|entry| entry.superseded.is_none());
        } else if superseded {
            self.superseded.insert(sector, ());
        }
    }

    /// A write ended without success, or nobody will ever know.
    pub fn unknown(&mut self, step: u64, began: u64, sector: u64, tag: u64) {
        for entry in self.entries(sector) {
            if entry.tag == tag && entry.began == began {
                entry.fate = Fate::Unknown;
                entry.ended = Some(step);
            }
        }
    }

    /// A read that began at `began` brought `tag`.
    pub fn read(&mut self, step: u64, began: u64, sector: u64, tag: u64) -> Result<(), String> {
        let Some(entries) = self.sectors.get(&sector) else { return self.check(sector, tag) };
        // A write that began while the read was on its way: either may have been first.
        if entries.iter().any(|entry| entry.began > began) {
            return Ok(());
        }
        self.check(sector, tag)?;
        if entries.len() == 1 {
            return Ok(());
        }
        let mut superseded = false;
        for entry in self.entries(sector) {
            if entry.tag != tag && entry.ended.is_some_and(|ended| ended <= began) {
                entry.superseded.get_or_insert(step);
                superseded = true;
            }
        }
        if superseded {
            self.superseded.insert(sector, ());
        }
        Ok(())
    }

    /// Whether a sector may hold this.
    pub fn check(&self, sector: u64, tag: u64) -> Result<(), String> {
        if self.lenient {
            return Ok(());
        }
        let Some(entries) = self.sectors.get(&sector) else {
            return match tag {
                0 => Ok(()),
                _ => Err(format!("sector {sector} holds {tag:#x} and was never written")),
            };
        };
        if entries.iter().any(|entry| entry.tag == tag && entry.superseded.is_none()) {
            Ok(())
        } else {
            Err(format!(
                "sector {sector} holds {tag:#x}; it may hold only what is not superseded of {entries:x?}"
            ))
        }
    }

    /// Whether another write to the sector began after `began`, or was under way then.
    pub fn is_written_since(&self, sector: u64, began: u64) -> bool {
        let others = |entry: &Entry| {
            entry.began > began || entry.began < began && entry.ended.is_none_or(|ended| ended >= began)
        };
        self.sectors.get(&sector).is_some_and(|entries| entries.iter().any(others))
    }

    /// Whether the whole device may hold this.
    pub fn check_all(&self, tags: &[u64]) -> Result<(), String> {
        for (sector, tag) in (0..).zip(tags) {
            if *tag != 0 {
                self.check(sector, *tag)?;
            }
        }
        let cleared = |sector: &&u64| tags.get(**sector as usize) == Some(&0);
        self.sectors.keys().filter(cleared).try_for_each(|sector| self.check(*sector, 0))
    }

    /// A flush that began at `began` is done: what was superseded before cannot come back.
    pub fn flushed(&mut self, began: u64) {
        let Judge { sectors, superseded, .. } = self;
        superseded.retain(|sector, ()| {
            let Some(entries) = sectors.get_mut(sector) else { return false };
            entries.retain(|entry| entry.superseded.is_none_or(|step| step > began));
            entries.iter().any(|entry| entry.superseded.is_some())
        });
    }

    /// A volatile cache was lost.
    pub fn cache_lost(&mut self) {
        for entry in self.sectors.values_mut().flatten() {
            entry.superseded = None;
        }
        self.superseded.clear();
    }

    /// The application goes on with what a disk holds now, or will hold; `versions`: what it may
    /// hold after its cache was lost.
    pub fn rebase(
        &mut self,
        step: u64,
        possible: impl Fn(u64) -> Vec<u64>,
        versions: impl Fn(u64) -> Vec<u64>,
    ) {
        for (sector, entries) in &mut self.sectors {
            let entry =
                |tag, superseded| Entry { tag, began: 0, ended: Some(step), fate: Fate::Unknown, superseded };
            let now = possible(*sector).into_iter().map(|tag| entry(tag, None));
            let lost = versions(*sector).into_iter().map(|tag| entry(tag, Some(step)));
            *entries = now.chain(lost).collect();
            self.superseded.insert(*sector, ());
        }
    }
}
