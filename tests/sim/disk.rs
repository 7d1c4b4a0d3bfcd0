//! Disks with a volatile cache. A sector is a value; what a power cut leaves of it is chance.

use crate::script::Random;
use crate::table::BySector;
use drbdbox::core::types::{Io, Payload};
use drbdbox::sys::buffer::Buffer;
use std::sync::Arc;

pub const SECTOR: usize = 512;

/// Sectors with values: what a reader sees, and what is known to survive a power cut.
pub struct Store<V> {
    seen: Vec<V>,
    /// Sectors whose newest value is not durable: values since the durable one, each with the number of its write.
    volatile: BySector<Volatile<V>>,
    clock: u64,
    /// Counts changes of what is seen or durable, for caches.
    changes: u64,
    /// Sectors that were written since somebody asked, if anybody will.
    changed: Option<Vec<u64>>,
}

struct Volatile<V> {
    durable: V,
    newer: Vec<(u64, V)>,
}

impl<V: Clone + PartialEq> Store<V> {
    pub fn new(sectors: u64, value: V) -> Store<V> {
        Store {
            seen: vec![value; sectors as usize],
            volatile: BySector::default(),
            clock: 1,
            changes: 0,
            changed: None,
        }
    }

    /// A store that remembers what was written: [`Store::take_changed`].
    pub fn watched(sectors: u64, value: V) -> Store<V> {
        Store { changed: Some(Vec::new()), ..Store::new(sectors, value) }
    }

    /// Sectors that may have changed since the last call.
    pub fn take_changed(&mut self) -> Vec<u64> {
        self.changed.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Another number of sectors: those that are added hold `value`, those behind the end are gone.
    pub fn resize(&mut self, sectors: u64, value: V) {
        let old = self.sectors();
        self.seen.resize(sectors as usize, value);
        self.volatile.retain(|sector, _| *sector < sectors);
        self.changes += 1;
        if let Some(changed) = &mut self.changed {
            changed.extend(sectors.min(old)..sectors.max(old));
        }
    }

    /// A sector, if there is one.
    pub fn get(&self, sector: u64) -> Option<&V> {
        self.seen.get(sector as usize)
    }

    /// Grows with every change.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The sectors as a reader sees them.
    pub fn seen(&self) -> &[V] {
        &self.seen
    }

    pub fn sectors(&self) -> u64 {
        self.seen.len() as u64
    }

    pub fn read(&self, sector: u64) -> &V {
        &self.seen[sector as usize]
    }

    /// What a power cut leaves at least as possible: the value that is durable.
    pub fn durable(&self, sector: u64) -> &V {
        self.volatile.get(&sector).map_or(&self.seen[sector as usize], |volatile| &volatile.durable)
    }

    /// All values that a power cut may leave.
    pub fn versions(&self, sector: u64) -> Vec<V> {
        match self.volatile.get(&sector) {
            None if sector >= self.sectors() => Vec::new(),
            Some(volatile) => {
                let newer = volatile.newer.iter().map(|(_, value)| value.clone());
                std::iter::once(volatile.durable.clone()).chain(newer).collect()
            }
            None => vec![self.seen[sector as usize].clone()],
        }
    }

    pub fn write(&mut self, sector: u64, value: V) {
        let seen = &mut self.seen[sector as usize];
        let known = self.volatile.get_mut(&sector);
        if *seen == value && known.is_none() {
            return;
        }
        self.clock += 1;
        self.changes += 1;
        match known {
            Some(volatile) => volatile.newer.push((self.clock, value.clone())),
            None => {
                let newer = vec![(self.clock, value.clone())];
                self.volatile.insert(sector, Volatile { durable: seen.clone(), newer });
            }
        }
        *seen = value;
        if let Some(changed) = &mut self.changed {
            changed.push(sector);
        }
    }

    /// The point up to which a flush that begins now makes writes durable.
    pub fn flush_begins(&self) -> u64 {
        self.clock
    }

    /// A flush that began at `point` is done.
    pub fn flush_ends(&mut self, point: u64) {
        self.changes += 1;
        self.volatile.retain(|_, volatile| {
            let kept = volatile.newer.partition_point(|(clock, _)| *clock <= point);
            if let Some((_, value)) = volatile.newer.drain(..kept).next_back() {
                volatile.durable = value;
            }
            !volatile.newer.is_empty()
        });
    }

    /// One sector is durable (FUA).
    pub fn make_durable(&mut self, sector: u64) {
        self.changes += 1;
        self.volatile.remove(&sector);
    }

    pub fn power_cut(&mut self, random: &mut Random) {
        self.changes += 1;
        let mut sectors: Vec<_> = std::mem::take(&mut self.volatile).into_iter().collect();
        sectors.sort_by_key(|(sector, _)| *sector);
        for (sector, volatile) in sectors {
            if let Some(changed) = &mut self.changed {
                changed.push(sector);
            }
            let kept = random.below(volatile.newer.len() as u64 + 1) as usize;
            self.seen[sector as usize] = match kept {
                0 => volatile.durable,
                n => volatile.newer[n - 1].1.clone(),
            };
        }
    }
}

/// A sector of meta data.
pub type Bytes = Arc<[u8; SECTOR]>;

/// Work of a disk that is not done yet.
pub struct Job {
    pub io: Io,
    pub work: Work,
    /// When it may be done at the earliest.
    pub due: u64,
    /// For flushes.
    point: u64,
}

pub enum Work {
    Read { sector: u64, bytes: u32 },
    Write { sector: u64, payload: Payload, fua: bool },
    Discard { sector: u64, bytes: u32 },
    Flush,
    Meta { pieces: Vec<(u64, Buffer)>, flush: bool },
}

impl Work {
    /// First sector and number of sectors that it changes.
    pub fn changes(&self) -> Option<(u64, u64)> {
        match self {
            Work::Write { sector, payload, .. } => Some((*sector, (payload.len() / SECTOR) as u64)),
            Work::Discard { sector, bytes } => Some((*sector, u64::from(*bytes) / 512)),
            _ => None,
        }
    }
}

/// The tag of a sector: its first eight bytes.
pub fn tag_of(payload: &[u8], index: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&payload[index * SECTOR..index * SECTOR + 8]);
    u64::from_le_bytes(bytes)
}

/// A buffer with a tag for each sector.
pub fn tagged(tags: impl ExactSizeIterator<Item = u64>) -> Payload {
    let mut buffer = Buffer::zeroed(tags.len() * SECTOR);
    for (index, tag) in tags.enumerate() {
        buffer[index * SECTOR..index * SECTOR + 8].copy_from_slice(&tag.to_le_bytes());
    }
    Payload::whole(Arc::new(buffer))
}

/// The data device and the meta data device of a node. They outlive its daemon.
pub struct Disk {
    pub data: Store<u64>,
    pub meta: Store<Bytes>,
    pub jobs: Vec<Job>,
}

impl Disk {
    pub fn new(sectors: u64, meta_bytes: u64) -> Disk {
        Disk {
            data: Store::watched(sectors, 0),
            meta: Store::new(meta_bytes / SECTOR as u64, Arc::new([0; SECTOR])),
            jobs: Vec::new(),
        }
    }

    pub fn submit(&mut self, io: Io, work: Work, due: u64) {
        let point = match work {
            Work::Flush => self.data.flush_begins(),
            _ => 0,
        };
        self.jobs.push(Job { io, work, due, point });
    }

    /// Does a job; a read brings its bytes.
    pub fn perform(&mut self, index: usize) -> (Io, Option<Payload>) {
        let job = self.jobs.swap_remove(index);
        let result = match job.work {
            Work::Read { sector, bytes } => {
                let sectors = sector..sector + u64::from(bytes) / 512;
                let seen = &self.data.seen()[sectors.start as usize..sectors.end as usize];
                Some(tagged(seen.iter().copied()))
            }
            Work::Write { sector, payload, fua } => {
                for index in 0..payload.len() / SECTOR {
                    self.data.write(sector + index as u64, tag_of(&payload, index));
                    if fua {
                        self.data.make_durable(sector + index as u64);
                    }
                }
                None
            }
            Work::Discard { sector, bytes } => {
                for index in 0..u64::from(bytes) / 512 {
                    self.data.write(sector + index, 0);
                }
                None
            }
            Work::Flush => {
                self.data.flush_ends(job.point);
                None
            }
            Work::Meta { pieces, flush } => {
                for (offset, bytes) in pieces {
                    self.write_meta(offset, &bytes);
                }
                if flush {
                    let point = self.meta.flush_begins();
                    self.meta.flush_ends(point);
                }
                None
            }
        };
        (job.io, result)
    }

    /// Fails a job: a write may have done a part of its work.
    pub fn fail(&mut self, index: usize, random: &mut Random) -> Io {
        let job = self.jobs.swap_remove(index);
        let io = job.io;
        self.tear(job, random);
        io
    }

    /// The machine, or its daemon, stops: what was on its way is done in part.
    pub fn stop(&mut self, power_cut: bool, random: &mut Random) {
        for job in std::mem::take(&mut self.jobs) {
            self.tear(job, random);
        }
        if power_cut {
            self.data.power_cut(random);
            self.meta.power_cut(random);
        }
    }

    fn tear(&mut self, job: Job, random: &mut Random) {
        // Often all or nothing.
        let likelihood = *random.pick(&[0, 50, 100]);
        match job.work {
            Work::Write { sector, payload, .. } => {
                for index in 0..payload.len() / SECTOR {
                    if random.chance(likelihood) {
                        self.data.write(sector + index as u64, tag_of(&payload, index));
                    }
                }
            }
            Work::Discard { sector, bytes } => {
                for index in 0..u64::from(bytes) / 512 {
                    if random.chance(likelihood) {
                        self.data.write(sector + index, 0);
                    }
                }
            }
            Work::Meta { pieces, .. } => {
                for (offset, bytes) in pieces {
                    for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                        if random.chance(likelihood) {
                            self.write_meta(offset + (index * SECTOR) as u64, sector);
                        }
                    }
                }
            }
            Work::Read { .. } | Work::Flush => {}
        }
    }

    pub fn write_meta(&mut self, offset: u64, bytes: &[u8]) {
        assert!(offset % 512 == 0 && bytes.len() % SECTOR == 0, "meta data write {offset}+{}", bytes.len());
        for (index, piece) in bytes.chunks_exact(SECTOR).enumerate() {
            let mut sector = [0; SECTOR];
            sector.copy_from_slice(piece);
            self.meta.write(offset / 512 + index as u64, Arc::new(sector));
        }
    }

    /// Bytes of the meta data as a reader sees them.
    pub fn read_meta(&self, offset: u64, bytes: u64) -> Vec<u8> {
        let first = offset / 512;
        let sectors = first..first + bytes.div_ceil(512);
        let mut result = Vec::with_capacity(sectors.clone().count() * SECTOR);
        for sector in sectors {
            result.extend_from_slice(&self.meta.read(sector)[..]);
        }
        result.truncate(bytes as usize);
        result
    }

    /// Values that a sector may have when all jobs are done.
    pub fn possible(&self, sector: u64) -> Vec<u64> {
        let mut values = Vec::from_iter(self.data.get(sector).copied());
        for job in &self.jobs {
            if let Some((first, count)) = job.work.changes() {
                if (first..first + count).contains(&sector) {
                    values.push(match &job.work {
                        Work::Write { payload, .. } => tag_of(payload, (sector - first) as usize),
                        _ => 0,
                    });
                }
            }
        }
        values
    }
}
