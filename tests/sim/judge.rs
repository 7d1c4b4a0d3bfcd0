//! Knows every write and what a sector may hold because of them.

use crate::table::BySector;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    InFlight,
    Acknowledged,
    /// Failed, or the node crashed: it may have happened or not.
    Unknown,
    /// No write: what is there before the first one to space that was added. It may be anything.
    Anything,
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
    /// With two nodes that write: entries that cannot come back. A read that began before they were superseded may still bring them.
    gone: BySector<Vec<Entry>>,
    /// Nothing is known of sectors from here on, but what was written: they were added, or had been cut off.
    unwritten: u64,
    /// Sectors of these that something was written to on a disk: of an application, or of a resync.
    touched: BySector<()>,
    /// Two nodes write at the same time: what one of them has read of a write that is under way, the other need not have yet.
    pub shared: bool,
    /// Two disks failed: content proves nothing any more.
    pub lenient: bool,
    /// Two nodes that write do not see each other: nothing is judged until they have the same data again.
    pub apart: bool,
    pub acknowledged: u64,
    pub failed: u64,
    pub unknown: u64,
}

impl Entry {
    fn explains(&self, tag: u64) -> bool {
        self.tag == tag || self.fate == Fate::Anything
    }
}

impl Judge {
    /// For a device of this size that holds zeroes.
    pub fn new(sectors: u64) -> Judge {
        Judge { unwritten: sectors, ..Judge::default() }
    }

    /// Sectors from here on are cut off. Should they come back they may hold anything.
    pub fn cut_off(&mut self, sectors: u64) {
        self.unwritten = self.unwritten.min(sectors);
        self.sectors.retain(|sector, _| *sector < sectors);
        self.superseded.retain(|sector, ()| *sector < sectors);
        self.gone.retain(|sector, _| *sector < sectors);
        self.touched.retain(|sector, ()| *sector < sectors);
    }

    /// A disk is about to write sectors.
    pub fn touched(&mut self, first: u64, count: u64) {
        let new = first.max(self.unwritten)..first + count;
        self.touched.extend(new.map(|sector| (sector, ())));
    }

    /// How large the device must be for all that was acknowledged.
    pub fn extent(&self) -> u64 {
        let is_promised =
            |entry: &Entry| entry.began > 0 && entry.fate == Fate::Acknowledged && entry.superseded.is_none();
        let promised = self.sectors.iter().filter(|(_, entries)| entries.iter().any(is_promised));
        promised.map(|(sector, _)| sector + 1).max().unwrap_or(0)
    }

    /// Whether the sector may hold anything, and another thing on each disk: since it was added no application wrote to it, or no disk
    /// was given anything to write. Writes that failed, and discards that the peer cannot do, have left it as it was.
    pub fn is_unwritten(&self, sector: u64) -> bool {
        let any = |entries: &Vec<Entry>| entries.iter().all(|entry| entry.fate == Fate::Anything);
        let untouched = !self.touched.contains_key(&sector);
        sector >= self.unwritten && (untouched || self.sectors.get(&sector).is_none_or(any))
    }

    /// The content before any write.
    pub fn initial(&mut self, sector: u64, tag: u64) {
        let entry = Entry { tag, began: 0, ended: Some(0), fate: Fate::Acknowledged, superseded: None };
        self.sectors.insert(sector, vec![entry]);
    }

    fn entries(&mut self, sector: u64) -> &mut Vec<Entry> {
        let fate = if sector >= self.unwritten { Fate::Anything } else { Fate::Acknowledged };
        let first = || vec![Entry { tag: 0, began: 0, ended: Some(0), fate, superseded: None }];
        self.sectors.entry(sector).or_insert_with(first)
    }

    pub fn began(&mut self, step: u64, sector: u64, tag: u64) {
        let entry = Entry { tag, began: step, ended: None, fate: Fate::InFlight, superseded: None };
        self.entries(sector).push(entry);
    }

    /// A write that began at `began` was acknowledged.
    pub fn acknowledged(&mut self, step: u64, began: u64, sector: u64, tag: u64, fua: bool) {
        let entries = self.entries(sector);
        // It was cut off meanwhile.
        if !entries.iter().any(|entry| entry.tag == tag && entry.began == began) {
            return;
        }
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
            self.forget(sector, |_| true);
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
        // So with one of the other node that was under way then: it was acknowledged while the answer was on its way.
        let overtaken =
            |entry: &Entry| entry.explains(tag) && entry.superseded.is_some_and(|step| step > began);
        let gone = self.gone.get(&sector).into_iter().flatten();
        if self.shared && entries.iter().chain(gone).any(overtaken) {
            return Ok(());
        }
        self.check(sector, tag)?;
        let under_way = |entry: &Entry| entry.tag == tag && entry.ended.is_none_or(|ended| ended > began);
        if entries.len() == 1 || self.shared && entries.iter().any(under_way) {
            return Ok(());
        }
        // What was there before the first write shows as long as no write is known to explain what was read.
        let written =
            tag != 0 && entries.iter().any(|entry| entry.tag == tag && entry.fate != Fate::Anything);
        let mut superseded = false;
        for entry in self.entries(sector) {
            let shown = if written { entry.tag == tag } else { entry.explains(tag) };
            if !shown && entry.ended.is_some_and(|ended| ended <= began) {
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
        if self.lenient || self.apart {
            return Ok(());
        }
        let Some(entries) = self.sectors.get(&sector) else {
            return match tag {
                _ if sector >= self.unwritten => Ok(()),
                0 => Ok(()),
                _ => Err(format!("sector {sector} holds {tag:#x} and was never written")),
            };
        };
        if entries.iter().any(|entry| entry.explains(tag) && entry.superseded.is_none()) {
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
        let mut superseded = std::mem::take(&mut self.superseded);
        superseded.retain(|sector, ()| {
            self.forget(*sector, |step| step <= began);
            let entries = self.sectors.get(sector);
            entries.is_some_and(|entries| entries.iter().any(|entry| entry.superseded.is_some()))
        });
        self.superseded = superseded;
    }

    /// What was superseded at such a step cannot come back.
    fn forget(&mut self, sector: u64, such: impl Fn(u64) -> bool) {
        let Some(entries) = self.sectors.get_mut(&sector) else { return };
        let is_over = |entry: &Entry| entry.superseded.is_some_and(&such);
        if self.shared {
            let over = entries.iter().filter(|entry| is_over(entry));
            self.gone.entry(sector).or_default().extend(over);
        }
        entries.retain(|entry| !is_over(entry));
    }

    /// A volatile cache was lost.
    pub fn cache_lost(&mut self) {
        for entry in self.sectors.values_mut().flatten() {
            entry.superseded = None;
        }
        self.superseded.clear();
    }

    /// The disk that this is a sector of lost its cache, and the data may be taken from it: what a flush of the other node had made durable
    /// there only may come back.
    pub fn flush_lost(&mut self, on_disk: impl Fn(u64) -> Option<u64>) {
        for (sector, gone) in &self.gone {
            let Some(tag) = on_disk(*sector) else { continue };
            let lost = gone.iter().find(|entry| entry.explains(tag));
            let entry = lost.map(|entry| Entry { superseded: None, ..*entry });
            self.sectors.entry(*sector).or_default().extend(entry);
        }
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
            if entries.is_empty() {
                // That disk ends before.
                entries.push(Entry { fate: Fate::Anything, ..entry(0, None) });
            }
            self.superseded.insert(*sector, ());
        }
    }
}
