//! Writes of meta data: super block, bitmap pages, activity log transactions.
//!
//! What must be durable before what: the bitmap page of an extent that leaves the activity log
//! before the transaction; the transaction before the data (spec/core-walkthrough.md 2.3). The
//! super block is written by steps of the fifo only, so it can never overtake the bitmap write
//! of a demotion.

use super::activity_log::{self, BITS_PER_EXTENT};
use super::rules::ChangeKind;
use super::state::{Change, Disk};
use super::steps::{FifoWait, Step, Work};
use super::types::*;
use super::Resource;
use crate::meta::activity_log::SlotUpdate;
use crate::meta::MetaFlags;
use crate::sys::buffer::Buffer;

/// A super block may differ from its disk copy this long.
pub const DIRTY_LIMIT_MS: Millis = 5000;

/// Pages of bitmap in one write: bounds the memory for copies.
const PAGES_PER_WRITE: usize = 256;

/// What a write of meta data was for.
#[derive(Debug)]
pub enum MetaOp {
    /// A step of the fifo; nothing else follows.
    Step,
    /// The super block; `primary`: with PRIMARY_IND; `good`: it says that the disk is UpToDate.
    SuperBlock { primary: bool, good: bool },
    /// A flush of the data; these copies of bitmap pages are written then.
    FlushThenPages { copies: Vec<(u64, Buffer)>, pages: Vec<u32>, then: AfterPages },
    /// Bitmap pages.
    Pages { pages: Vec<u32>, then: AfterPages },
    /// An activity log transaction.
    Transaction,
}

/// What follows when bitmap pages are on the disk.
#[derive(Debug)]
pub enum AfterPages {
    /// The fifo goes on, after these pages.
    Fifo { left: Vec<u32> },
    /// The activity log forgets the extents that they speak of.
    Transaction,
    /// Nothing.
    Nothing,
}

impl Resource {
    pub(super) fn start_meta_write(
        &mut self,
        v: VolumeIndex,
        pieces: Vec<(u64, Buffer)>,
        op: MetaOp,
    ) -> Option<u64> {
        let disk = self.volumes[v].disk.as_mut()?;
        disk.in_use += 1;
        let id = self.fresh_id();
        self.meta_ops.insert(id, op);
        self.out.push(Output::MetaWrite { volume: v, io: Io::Meta(id), pieces, flush: true });
        Some(id)
    }

    /// Writes the super block; the fifo waits.
    pub(super) fn write_super_block(&mut self, v: VolumeIndex) {
        let volume = &mut self.volumes[v];
        let Some(disk) = &mut volume.disk else { return };
        disk.dirty_since = None;
        disk.super_block.uuids = disk.uuids.slots();
        disk.super_block.flags.set(MetaFlags::FULL_SYNC, disk.full_sync);
        disk.super_block.flags.set(MetaFlags::AL_CLEAN, false);
        disk.super_block.al_slots = disk.log_writer.al_slots_field();
        let mut block = disk.super_block.clone();
        if disk.keep_primary_mark {
            block.flags.set(MetaFlags::PRIMARY_IND, true);
        }
        if disk.keep_inconsistent {
            block.flags.set(MetaFlags::CONSISTENT, false);
        }
        if block != disk.super_block {
            // The rest follows when it may.
            disk.dirty_since = Some(self.now);
        }
        let primary = block.flags.contains(MetaFlags::PRIMARY_IND);
        let good = block.calls_disk_good();
        disk.primary_mark_durable &= primary;
        disk.good_mark_durable &= good;
        disk.may_be_marked_good |= good;
        let piece = (disk.layout.md_offset, Buffer::from_bytes(&block.encode()));
        if let Some(id) = self.start_meta_write(v, vec![piece], MetaOp::SuperBlock { primary, good }) {
            self.fifo_wait = Some(FifoWait::Meta(id));
        }
    }

    /// Writes bitmap pages that differ from the disk, or all; the fifo waits.
    pub(super) fn write_bitmap(&mut self, v: VolumeIndex, all: bool) {
        let Some(disk) = &mut self.volumes[v].disk else { return };
        if disk.bitmap_busy {
            self.steps.push_front(Step::WriteBitmap { v, all });
            self.fifo_wait = Some(FifoWait::BitmapFree(v));
            return;
        }
        if all {
            disk.bitmap.mark_all_dirty();
        }
        let pages = disk.bitmap.dirty_pages(true);
        if pages.is_empty() {
            return;
        }
        disk.bitmap_busy = true;
        self.write_bitmap_pages(v, pages);
    }

    /// Makes the data durable, if that is not left to a cache with a battery; the fifo waits.
    pub(super) fn flush_data(&mut self, v: VolumeIndex) {
        if self.data_needs_flushes(v) && self.volumes[v].disk.is_some() && !mutant!("marks-without-flush") {
            let id = self.start_data_flush(v, MetaOp::Step);
            self.fifo_wait = Some(FifoWait::Meta(id));
        }
    }

    pub(super) fn data_needs_flushes(&self, v: VolumeIndex) -> bool {
        let settings = &self.volumes[v].settings;
        settings.disk_flushes || settings.disk_barrier
    }

    fn start_data_flush(&mut self, v: VolumeIndex, op: MetaOp) -> u64 {
        let id = self.fresh_id();
        self.meta_ops.insert(id, op);
        if let Some(disk) = &mut self.volumes[v].disk {
            disk.in_use += 1;
            disk.flush_begins(Io::Meta(id));
        }
        self.out.push(Output::DiskFlush { volume: v, io: Io::Meta(id) });
        id
    }

    fn write_bitmap_pages(&mut self, v: VolumeIndex, mut pages: Vec<u32>) {
        let left = pages.split_off(pages.len().min(PAGES_PER_WRITE));
        self.begin_pages(v, pages, false, AfterPages::Fifo { left });
    }

    /// Writes pages in which bits were cleared, beside the fifo. Not now if somebody else writes pages.
    pub(super) fn write_cleared_bits(&mut self, v: VolumeIndex) {
        let Some(disk) = &mut self.volumes[v].disk else { return };
        if disk.bitmap_busy || disk.moving || disk.meta_failed {
            return;
        }
        let mut pages = disk.bitmap.dirty_pages(true);
        pages.truncate(PAGES_PER_WRITE);
        if !pages.is_empty() {
            disk.bitmap_busy = true;
            self.begin_pages(v, pages, false, AfterPages::Nothing);
        }
    }

    /// Copies pages and has them written. A bit is cleared on disk only when the block that it spoke
    /// of is durable: a flush of the data comes first if bits were cleared since the last one, or if
    /// `volatile`. The caller sees to it that nobody else writes pages.
    fn begin_pages(&mut self, v: VolumeIndex, pages: Vec<u32>, volatile: bool, then: AfterPages) {
        let flushes = self.data_needs_flushes(v);
        let Some(disk) = &mut self.volumes[v].disk else { return };
        let cleared = !pages.is_empty() && disk.bitmap.clears() > disk.flushed.bitmap_clears;
        let offset = disk.layout.bm_offset();
        let copy = |page: &u32| (offset + u64::from(*page) * 4096, disk.bitmap.take_page(*page));
        let copies: Vec<_> = pages.iter().map(copy).collect();
        if flushes && (volatile || cleared) && !mutant!("bits-cleared-without-flush") {
            let of_fifo = matches!(then, AfterPages::Fifo { .. });
            let id = self.start_data_flush(v, MetaOp::FlushThenPages { copies, pages, then });
            if of_fifo {
                self.fifo_wait = Some(FifoWait::Meta(id));
            }
        } else {
            self.write_pages(v, copies, pages, then);
        }
    }

    fn write_pages(&mut self, v: VolumeIndex, copies: Vec<(u64, Buffer)>, pages: Vec<u32>, then: AfterPages) {
        if pages.is_empty() {
            self.pages_done(v, &pages, then, true);
            return;
        }
        self.volumes[v].counters.bm_writes += pages.len() as u64;
        let of_fifo = matches!(then, AfterPages::Fifo { .. });
        let id = self.start_meta_write(v, copies, MetaOp::Pages { pages, then });
        if let (true, Some(id)) = (of_fifo, id) {
            self.fifo_wait = Some(FifoWait::Meta(id));
        }
    }

    fn pages_done(&mut self, v: VolumeIndex, pages: &[u32], then: AfterPages, ok: bool) {
        if !ok {
            self.mark_pages_dirty(v, pages);
            self.out.push(Output::Log {
                level: Level::Alert,
                volume: Some(v),
                text: "we had at least one MD IO ERROR during bitmap IO".to_owned(),
            });
        }
        match then {
            AfterPages::Fifo { left } if ok && !left.is_empty() => self.write_bitmap_pages(v, left),
            AfterPages::Fifo { .. } | AfterPages::Nothing => self.bitmap_written(v),
            AfterPages::Transaction => {
                if !pages.is_empty() {
                    self.bitmap_written(v);
                }
                if ok {
                    self.write_transaction(v);
                } else {
                    self.end_transaction(v, false);
                }
            }
        }
    }

    /// No page of the bitmap is on its way any more.
    fn bitmap_written(&mut self, v: VolumeIndex) {
        let Some(disk) = &mut self.volumes[v].disk else { return };
        disk.bitmap_busy = false;
        if let Some((pages, volatile)) = disk.eviction_waits.take() {
            self.evict(v, pages, volatile);
        }
    }

    /// Empties the activity log on disk; the fifo waits.
    pub(super) fn zero_activity_log(&mut self, v: VolumeIndex) {
        let Some(disk) = &mut self.volumes[v].disk else { return };
        let piece = (disk.layout.al_offset(), disk.log_writer.initial_area());
        if let Some(id) = self.start_meta_write(v, vec![piece], MetaOp::Step) {
            self.fifo_wait = Some(FifoWait::Meta(id));
        }
    }

    /// Makes the extents that waiting writes need active, if the log is free to do so: one
    /// transaction for as many as fit into it. Not for those that have to wait anyway, of frozen I/O: if there are more than slots,
    /// they would push each other out without end.
    pub(super) fn advance_activity_log(&mut self, v: VolumeIndex) {
        let admits = self.state_admits_io(v);
        let volume = &mut self.volumes[v];
        // While a disk is being attached its log is not in order yet.
        if volume.state.disk < Disk::Inconsistent {
            return;
        }
        let Some(disk) = &mut volume.disk else { return };
        if disk.log_busy {
            return;
        }
        let writes = volume.waiting.iter().filter(|request| admits && request.is_write());
        let wanted = writes.flat_map(|r| activity_log::extents_of(r.sector, r.sectors().max(1)));
        let wanted = wanted.chain(volume.peer_extents.iter().copied());
        let changes = disk.activity_log.prepare(wanted, disk.log_writer.updates_max());
        if changes.is_empty() {
            return;
        }
        disk.log_busy = true;
        let flushed = disk.flushed.log_clock;
        let volatile = changes.iter().any(|c| c.evicted.is_some() && c.released > flushed);
        let evicted = changes.iter().filter_map(|change| change.evicted);
        let bits = evicted.map(|extent| u64::from(extent) * BITS_PER_EXTENT);
        let mut pages: Vec<u32> = bits
            // A copy on its way to the disk is not there yet.
            .filter(|bit| disk.bitmap_busy || disk.bitmap.page_must_be_written(*bit))
            .map(|bit| (bit / super::bitmap::BITS_PER_PAGE) as u32)
            .collect();
        pages.sort_unstable();
        pages.dedup();
        if mutant!("evicted-bits-not-written") {
            pages.clear();
        }
        self.evict(v, pages, volatile);
    }

    /// Before an extent is forgotten, its bits are on the disk; and what was written to it is durable
    /// here (`volatile`: that is not known), too: the peer may have it already, and would be the only
    /// one.
    fn evict(&mut self, v: VolumeIndex, pages: Vec<u32>, volatile: bool) {
        let Some(disk) = &mut self.volumes[v].disk else { return };
        if !pages.is_empty() {
            if disk.bitmap_busy {
                disk.eviction_waits = Some((pages, volatile));
                return;
            }
            disk.bitmap_busy = true;
        }
        self.begin_pages(v, pages, volatile, AfterPages::Transaction);
    }

    fn write_transaction(&mut self, v: VolumeIndex) {
        let volume = &mut self.volumes[v];
        let Some(disk) = &mut volume.disk else { return };
        let pending = disk.activity_log.pending().iter();
        let updates: Vec<_> = pending.map(|c| SlotUpdate { slot: c.slot, extent: c.extent }).collect();
        match disk.log_writer.transaction(&updates) {
            Ok(write) => {
                let piece = (disk.layout.al_offset() + write.offset, write.bytes);
                if mutant!("transaction-not-written") {
                    self.wake = true;
                    return self.end_transaction(v, true);
                }
                volume.counters.al_writes += 1;
                self.start_meta_write(v, vec![piece], MetaOp::Transaction);
            }
            Err(error) => {
                // The log in memory and its writer disagree: a defect. Writing on without a log
                // would lose track of what differs after a crash.
                self.error(Some(v), format!("activity log: {error}"));
                self.end_transaction(v, false);
                self.meta_error(v);
            }
        }
    }

    /// A write of meta data ended.
    pub(super) fn meta_done(&mut self, v: VolumeIndex, id: u64, ok: bool) {
        if let Some(disk) = &mut self.volumes[v].disk {
            disk.in_use -= 1;
            disk.flush_ended(Io::Meta(id), ok);
        }
        let Some(op) = self.meta_ops.remove(&id) else { return };
        if self.fifo_wait == Some(FifoWait::Meta(id)) {
            self.fifo_wait = None;
        }
        match op {
            MetaOp::Step | MetaOp::SuperBlock { .. } => {
                if let (MetaOp::SuperBlock { primary, good }, true, Some(disk)) =
                    (&op, ok, &mut self.volumes[v].disk)
                {
                    disk.primary_mark_durable |= primary;
                    disk.may_be_marked_good &= *good;
                    if *good && !std::mem::replace(&mut disk.good_mark_durable, true) {
                        // A request may have waited for that.
                        self.changes += 1;
                    }
                }
                if !ok {
                    self.error(Some(v), "meta data update failed!");
                }
            }
            MetaOp::FlushThenPages { copies, pages, then } if ok => self.write_pages(v, copies, pages, then),
            MetaOp::FlushThenPages { pages, then, .. } | MetaOp::Pages { pages, then } => {
                self.pages_done(v, &pages, then, ok);
            }
            MetaOp::Transaction => self.end_transaction(v, ok),
        }
        if !ok {
            self.meta_error(v);
        }
        self.wake = true;
    }

    fn mark_pages_dirty(&mut self, v: VolumeIndex, pages: &[u32]) {
        if let Some(disk) = &mut self.volumes[v].disk {
            for page in pages {
                disk.bitmap.mark_dirty(*page);
            }
        }
    }

    fn end_transaction(&mut self, v: VolumeIndex, ok: bool) {
        if let Some(disk) = &mut self.volumes[v].disk {
            disk.log_busy = false;
            if ok {
                disk.activity_log.commit();
            } else {
                disk.activity_log.abort();
            }
        }
    }

    /// Meta data cannot be written: the disk is given up (spec/state.md 13.4).
    fn meta_error(&mut self, v: VolumeIndex) {
        if let Some(disk) = &mut self.volumes[v].disk {
            // An attach ends with it; a detach that has begun does not write the bitmap any more.
            disk.meta_failed = true;
            self.volumes[v].io_error_seen = true;
        }
        if self.state(v).disk > Disk::Failed {
            let _ = self.change(v, Change::disk(Disk::Failed), ChangeKind::Hard, false);
            self.error(Some(v), "Local IO failed in drbd_md_io. Detaching...");
        }
    }

    /// Ends a suspension of the activity log (spec/resync.md 2.5).
    pub(super) fn resume_al_updates(&mut self, v: VolumeIndex) {
        if std::mem::take(&mut self.volumes[v].al_suspended) {
            self.info(Some(v), "Resumed AL updates");
        }
    }

    /// Writes everything that the fifo has for this volume behind what was decided before.
    pub(super) fn queue_steps(&mut self, steps: impl IntoIterator<Item = super::steps::Step>) {
        self.fifo.extend(steps.into_iter().map(Work::Step));
    }
}
