//! What the target of a resync asks for, when and in which pieces, and how it is answered. spec/resync.md 5, 6.5 and 7.

use super::{BITS_PER_RESYNC_EXTENT, MARKS, TURN_MS};
use crate::core::peer_write::{PeerKind, PeerRequest};
use crate::core::state::Conn;
use crate::core::types::*;
use crate::core::volume::Volume;
use crate::core::Resource;
use crate::wire::digest::Digest;
use crate::wire::packet::Packet;
use crate::wire::requests::{BlockDigest, BlockRequest};
use crate::wire::{Features, ID_SYNCER};

/// Requests that fit into the buffers together.
const REQUESTS_AT_ONCE: u64 = 16;
/// No request is made shorter than this for their sake, blocks.
const SHORT_REQUEST: u64 = 32;

/// How a request of this node was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The data are on the disk, or the write failed.
    Written,
    /// The block is the same on both sides.
    InSync,
    /// The source could not read it.
    Failed,
    /// The source cannot say now.
    Cancelled,
}

impl Resource {
    pub(super) fn target_turn(&mut self, v: VolumeIndex) {
        if self.volumes[v].disk.is_none() {
            self.error(Some(v), "Disk broke down during resync!");
            return;
        }
        let volume = &mut self.volumes[v];
        let blocks = volume.resync.controller.turn(&volume.settings);
        // What a turn could not use is not carried on, but for what is needed to merge requests.
        volume.resync.budget = blocks;
        volume.resync.next_turn = Some(self.now + TURN_MS);
        if self.throttled(v) {
            self.volumes[v].resync.budget = 0;
            self.release_reserved(v);
        } else {
            self.rewind(v);
            self.request_blocks(v);
        }
        // Of an empty resync no answer brings the end.
        self.check_end(v);
    }

    /// c-min-rate: application I/O on the disk makes the resync step back (spec/resync.md 6.5).
    fn throttled(&mut self, v: VolumeIndex) -> bool {
        let now = self.now;
        let volume = &mut self.volumes[v];
        let left = volume.resync_left();
        let limit = u64::from(volume.settings.c_min_rate);
        let resync = &mut volume.resync;
        let application = volume.counters.application;
        let busy = application.saturating_sub(resync.last_application) > 64;
        resync.last_application = application;
        if limit == 0 || !busy {
            return false;
        }
        let (mark_left, time) = resync.marks[(resync.last_mark + MARKS - 1) % MARKS];
        let seconds = ((now - time) / 1000).max(1);
        mark_left.saturating_sub(left) / seconds * 4 > limit
    }

    /// Requests blocks while the turn's budget, the peer's buffers and the locks allow it.
    pub(in crate::core) fn request_blocks(&mut self, v: VolumeIndex) {
        let cap = self.requested_at_once();
        let (longest, thin) = self.request_lengths(v);
        let mut reserved = false;
        while self.state(v).conn == Conn::SyncTarget && !self.may_get_late_answers(v) {
            let volume = &mut self.volumes[v];
            if volume.resync.budget == 0 || volume.resync.outstanding_blocks >= cap {
                break;
            }
            let Some(disk) = &volume.disk else { break };
            let Some(first) = disk.bitmap.next_set(volume.resync.position) else {
                volume.resync.position = disk.bitmap.bits();
                break;
            };
            let count = merged(first, volume.resync.budget, longest, thin, |bit| disk.bitmap.is_set(bit));
            volume.resync.position = first + count;
            let sector = first * 8;
            if volume.resync.outstanding.contains_key(&sector) {
                continue;
            }
            volume.resync.budget = volume.resync.budget.saturating_sub(count);
            volume.lock_for_request(first, count);
            if volume.writes.any(sector, count * 8) {
                volume.resync.reserved.insert(sector);
                reserved = true;
            } else {
                self.request_locked(v, first, count, thin);
            }
        }
        if reserved {
            // The end of those writes may wait for a barrier that is not sent yet.
            self.flush_barrier();
        }
    }

    /// Blocks that may be requested and not answered at a time.
    fn requested_at_once(&self) -> u64 {
        self.net.as_ref().map_or(1024, |net| u64::from(net.max_buffers) / 2)
    }

    /// How many blocks a request may have, and those of a thin one.
    fn request_lengths(&self, v: VolumeIndex) -> (u64, Option<u64>) {
        let max_bio = self
            .connection
            .version
            .map_or(4096, |version| version.max_bio_to(self.volumes[v].peer_max_bio.max(4096)));
        // Several requests at a time, so that one is read while others are sent and written.
        let thin = self.thin_blocks(v);
        let wanted = (self.requested_at_once() / REQUESTS_AT_ONCE).max(SHORT_REQUEST).max(thin.unwrap_or(0));
        ((u64::from(max_bio) / 4096).min(wanted), thin)
    }

    /// Requests blocks that are locked for it.
    fn request_locked(&mut self, v: VolumeIndex, first: u64, count: u64, thin: Option<u64>) {
        let volume = &mut self.volumes[v];
        let sector = first * 8;
        let sectors = (count * 8).min(volume.size - sector);
        volume.resync.controller.requested(count);
        volume.counters.rs_pending += 1;
        let size = (sectors * 512) as u32;
        if self.asks_by_digest(v) {
            self.add_peer_request(v, PeerKind::ResyncDigest, sector, size, ID_SYNCER, None);
        } else {
            let request = BlockRequest { sector, block_id: ID_SYNCER, size };
            let thin = thin == Some(count) && sectors == count * 8;
            let packet = if thin { Packet::RsThinRequest } else { Packet::RsDataRequest };
            self.send(v, packet(request));
        }
    }

    /// Requests what was reserved and is no longer written to: the blocks of it that are still out of sync, for only
    /// these are found again if they are half written at a crash.
    pub(in crate::core) fn request_reserved(&mut self, v: VolumeIndex) {
        if self.volumes[v].resync.reserved.is_empty() {
            return;
        }
        let (longest, thin) = self.request_lengths(v);
        let ready: Vec<u64> = {
            let volume = &self.volumes[v];
            let idle = |sector: &u64| {
                let sectors = volume.resync.outstanding.get(sector).copied().unwrap_or(0);
                !volume.writes.any(*sector, sectors.next_multiple_of(8))
            };
            volume.resync.reserved.iter().copied().filter(idle).collect()
        };
        for sector in ready {
            let Some(sectors) = self.volumes[v].give_back(sector) else { continue };
            let (mut from, end) = (sector / 8, sector / 8 + sectors.div_ceil(8));
            // Paused meanwhile: the next scan finds them.
            while self.state(v).conn == Conn::SyncTarget {
                let Some(disk) = &self.volumes[v].disk else { break };
                let Some(first) = disk.bitmap.next_set(from).filter(|first| *first < end) else { break };
                let is_set = |bit| bit < end && disk.bitmap.is_set(bit);
                let count = merged(first, end - first, longest, thin, is_set);
                self.volumes[v].lock_for_request(first, count);
                self.request_locked(v, first, count, thin);
                from = first + count;
            }
        }
        self.check_end(v);
    }

    /// The application goes first: what is reserved for the resync is free again, and the next scan finds it.
    fn release_reserved(&mut self, v: VolumeIndex) {
        for sector in std::mem::take(&mut self.volumes[v].resync.reserved) {
            self.volumes[v].give_back(sector);
            self.wake = true;
        }
    }

    /// Thin resync: how many blocks a request has that asks whether they are all zeroes, which are then not
    /// sent, and take no space here if the disk can discard. spec/resync.md 5.5.
    fn thin_blocks(&self, v: VolumeIndex) -> Option<u64> {
        let agreed = self.connection.link.is_some_and(|link| link.features.contains(Features::THIN_RESYNC));
        let bytes = u64::from(self.volumes[v].settings.rs_discard_granularity);
        (agreed && bytes > 0 && bytes % 4096 == 0).then_some(bytes / 4096)
    }

    /// Whether the source is to compare checksums before it sends blocks. spec/resync.md 5.3.
    fn asks_by_digest(&self, v: VolumeIndex) -> bool {
        let after_crash_only = self.net.as_ref().is_some_and(|net| net.csums_after_crash_only);
        self.connection.version.is_some_and(|version| version.has_csums())
            && self.csums_digest().is_some()
            && (!after_crash_only || self.volumes[v].crashed_primary)
    }

    /// Target: own blocks were read; the source compares their digest with that of its own.
    ///
    /// The application here may not write to them until the answer comes (the lock of the request). What the
    /// peer mirrors meanwhile it has sent before it reads the blocks, or sends after the answer: when it finds
    /// them equal to what was read here, everything that it wrote in between arrives here, too.
    pub(in crate::core) fn ask_by_digest(&mut self, request: &PeerRequest, payload: Option<Payload>) {
        let (v, sector, size) = (request.volume, request.sector, request.bytes);
        if !self.is_requested(v, sector) {
            // The resync that wanted to know has ended.
            return;
        }
        let Some((algorithm, payload)) = self.csums_digest().zip(payload) else {
            // What is here cannot be read: the source sends what it has, and is told if that cannot be written, either.
            let request = BlockRequest { sector, block_id: ID_SYNCER, size };
            self.send(v, Packet::RsDataRequest(request));
            return;
        };
        self.volumes[v].resync.used_checksums = true;
        let digest = algorithm.compute(&payload);
        self.send(v, Packet::CsumRsRequest(BlockDigest { sector, block_id: ID_SYNCER, size, digest }));
    }

    /// Data for a resync request, or word that the range is all zeroes, is on its way to the disk.
    pub(in crate::core) fn resync_data(
        &mut self,
        v: VolumeIndex,
        sector: u64,
        bytes: u32,
        payload: Option<Payload>,
    ) {
        if !self.within_device(v, sector, bytes) {
            return;
        }
        self.reply_arrived(v, u64::from(bytes) / 512);
        self.volumes[v].counters.received += u64::from(bytes) / 512;
        if self.usable_disk(v).is_none() {
            self.error(Some(v), "Can not write resync data to local disk.");
            self.acknowledge(v, Packet::NegAck, sector, bytes, ID_SYNCER);
            self.resync_answered(v, sector, u64::from(bytes) / 512, Answer::Cancelled);
            return;
        }
        if !self.is_requested(v, sector) {
            // Of an earlier resync: the block may have been written since.
            return;
        }
        if mutant!("resync-acknowledged-on-arrival") {
            self.set_in_sync(v, sector, u64::from(bytes) / 512);
            self.acknowledge(v, Packet::RsWriteAck, sector, bytes, ID_SYNCER);
        }
        let kind = if payload.is_some() { PeerKind::ResyncWrite } else { PeerKind::ResyncZeroes };
        self.add_peer_request(v, kind, sector, bytes, ID_SYNCER, payload);
    }

    /// Whether a request for a block was sent and is not answered yet.
    pub(in crate::core) fn is_requested(&self, v: VolumeIndex, sector: u64) -> bool {
        let resync = &self.volumes[v].resync;
        resync.outstanding.contains_key(&sector) && !resync.reserved.contains(&sector)
    }

    /// Source: a block is on its way to the target.
    pub(in crate::core) fn block_sent(&mut self, v: VolumeIndex, sector: u64, sectors: u64) {
        let volume = &mut self.volumes[v];
        volume.counters.rs_pending += 1;
        volume.counters.sent += sectors;
        volume.resync.replied.insert(sector, sectors);
    }

    /// Source: the target says what became of a block. False: not of this resync.
    pub(in crate::core) fn block_acknowledged(&mut self, v: VolumeIndex, sector: u64) -> bool {
        let volume = &mut self.volumes[v];
        let known = volume.resync.replied.remove(&sector).is_some();
        if known {
            volume.counters.rs_pending = volume.counters.rs_pending.saturating_sub(1);
        }
        known
    }

    /// An answer came: for the controller, and `pe`.
    pub(in crate::core) fn reply_arrived(&mut self, v: VolumeIndex, sectors: u64) {
        let volume = &mut self.volumes[v];
        volume.resync.controller.arrived += sectors;
        volume.counters.rs_pending = volume.counters.rs_pending.saturating_sub(1);
    }

    /// A request of this node is finished, one way or another.
    pub(in crate::core) fn resync_answered(
        &mut self,
        v: VolumeIndex,
        sector: u64,
        sectors: u64,
        answer: Answer,
    ) {
        match answer {
            Answer::InSync => {
                let size = self.volumes[v].size;
                self.volumes[v].resync.same_checksum += sectors / 8;
                if let Some(disk) = &mut self.volumes[v].disk {
                    disk.bitmap.clear_sectors(sector, sectors, size);
                }
            }
            Answer::Failed => self.note_failed_blocks(v, sector, sectors),
            Answer::Written | Answer::Cancelled => {}
        }
        self.volumes[v].give_back(sector);
        self.note_progress(v);
        self.bits_cleared(v);
        if self.state(v).conn == Conn::SyncTarget {
            self.rewind(v);
            self.request_blocks(v);
        }
    }

    /// The scan came to the end, nothing is on the way, but bits are left that were set behind it.
    fn rewind(&mut self, v: VolumeIndex) {
        let volume = &mut self.volumes[v];
        let Some(disk) = &volume.disk else { return };
        let at_end = disk.bitmap.next_set(volume.resync.position).is_none();
        if at_end && volume.resync.outstanding.is_empty() && disk.bitmap.weight() > volume.resync.failed {
            volume.resync.position = 0;
        }
    }

    /// Blocks could not be synced: they stay out of sync, and are counted.
    pub(in crate::core) fn note_failed_blocks(&mut self, v: VolumeIndex, sector: u64, sectors: u64) {
        let volume = &mut self.volumes[v];
        if let Some(disk) = &volume.disk {
            volume.resync.failed += disk.bitmap.count_sectors(sector, sectors);
        }
    }

    /// The digest of checksum-based resync, if one is configured.
    pub(in crate::core) fn csums_digest(&self) -> Option<Digest> {
        self.net.as_ref().and_then(|net| Digest::by_name(&net.csums_alg))
    }
}

impl Volume {
    /// From now on no write of the application begins in these blocks (spec/resync.md 2.6). Those that have begun go on.
    fn lock_for_request(&mut self, first: u64, count: u64) {
        let sector = first * 8;
        let sectors = (count * 8).min(self.size - sector);
        self.locks.insert(sector, sector, sectors);
        self.resync.outstanding.insert(sector, sectors);
        self.resync.outstanding_blocks += count;
    }

    /// Ends that: the length of what was locked, in sectors.
    fn give_back(&mut self, sector: u64) -> Option<u64> {
        let sectors = self.resync.outstanding.remove(&sector)?;
        self.resync.reserved.remove(&sector);
        self.resync.outstanding_blocks -= sectors.div_ceil(8);
        self.locks.remove(sector, sector);
        Some(sectors)
    }
}

/// How many blocks from `first` on go into one request (spec/resync.md 5.2). `thin`: not more than that many.
fn merged(first: u64, budget: u64, max_blocks: u64, thin: Option<u64>, is_set: impl Fn(u64) -> bool) -> u64 {
    let mut count = 1;
    loop {
        let alignment = 1u64 << (63 - u64::leading_zeros(count) + 1);
        let next = first + count;
        let may_grow = count <= budget
            && count < max_blocks
            && Some(count) != thin
            && first % alignment == 0
            && next / BITS_PER_RESYNC_EXTENT == first / BITS_PER_RESYNC_EXTENT
            && is_set(next);
        if !may_grow {
            return count;
        }
        count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The captured example of spec/resync.md 5.2: all bits set, requests of at most 130560 bytes.
    #[test]
    fn requests_are_merged_as_the_kernel_does() {
        let max = 130_560 / 4096;
        let mut requests = Vec::new();
        let mut first = 0;
        while requests.len() < 4 {
            let count = merged(first, 1 << 20, max, None, |_| true);
            requests.push((first * 8, count * 4096));
            first += count;
        }
        assert_eq!(requests, vec![(0, 126_976), (248, 4096), (256, 126_976), (504, 4096)]);
    }

    #[test]
    fn a_request_ends_at_a_clear_bit_and_at_a_resync_extent() {
        assert_eq!(merged(0, 100, 256, None, |bit| bit < 5), 5);
        assert_eq!(merged(4095, 100, 256, None, |_| true), 1);
        assert_eq!(merged(6, 100, 256, None, |_| true), 2, "6 is a multiple of 2 only");
        assert_eq!(merged(0, 6, 256, None, |_| true), 7, "a turn may exceed its budget by one");
    }

    #[test]
    fn a_thin_request_is_aligned_and_has_its_length() {
        assert_eq!(merged(16, 100, 256, Some(16), |_| true), 16);
        assert_eq!(merged(8, 100, 256, Some(16), |_| true), 8, "8 is no multiple of 16");
        assert_eq!(merged(16, 100, 256, Some(16), |bit| bit < 20), 4);
    }
}
