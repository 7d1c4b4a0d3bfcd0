//! What happens to all requests in the transfer log at once: the end of an epoch, the loss of the peer, of a
//! disk, a resync that begins. spec/wire.md 7.3 and 7.6, spec/state.md 5.4.

use super::request::{Kind, Request};
use super::state::Disk;
use super::steps::Work;
use super::types::*;
use super::Resource;

impl Resource {
    /// What was written up to now clears no bits any more. The two bitmaps are about to be exchanged: behind that this would be on
    /// this side only, and the source would wait for a request of these blocks for ever. Or the disk is another one.
    pub(super) fn writes_come_too_late_for_sync(&mut self, v: VolumeIndex) {
        for id in self.log.ids() {
            if let Some(request) = self.log.get_mut(id).filter(|request| request.volume == v) {
                request.set_in_sync = false;
                request.too_old_for_sync = true;
            }
        }
    }

    /// The peer's disk went: what it has of open epochs may be lost with its cache.
    pub(super) fn peer_disk_went(&mut self, v: VolumeIndex) {
        for id in self.log.ids() {
            if let Some(request) = self.log.get_mut(id).filter(|request| request.volume == v) {
                request.peer_disk_went |= request.replicated && !request.net_done;
            }
        }
    }

    /// Whether the peer has mirrored writes that its disk need not keep yet.
    pub(super) fn has_open_epochs(&self, v: VolumeIndex) -> bool {
        self.has_mirrored_writes(v, |request| !request.net_done)
    }

    /// Whether the application was told of a write up to this one that the peer's disk need not keep yet.
    pub(super) fn has_completed_writes_in_open_epochs(&self, v: VolumeIndex, newest: u64) -> bool {
        self.log.iter().take_while(|(id, _)| *id <= newest).any(|(_, request)| {
            request.volume == v
                && request.is_write()
                && request.completed
                && request.replicated
                && !request.net_done
        })
    }

    /// Whether the application was told of a write of this generation that the peer could not do, or was not sent: all was to come with a
    /// resync.
    pub(super) fn has_completed_writes_that_peer_lacks(&self, v: VolumeIndex) -> bool {
        let over = self.volumes[v].disk.as_ref().is_some_and(|disk| disk.lacked_by_peer);
        over || self.log.iter().any(|(_, request)| request.volume == v && request.is_refused())
    }

    /// Whether there is a write that [`resend_transfer_log`](Self::resend_transfer_log) would not send again, though the
    /// peer may have lost it with its cache: it acknowledged the write, but not the barrier behind it.
    pub(super) fn has_uncertain_writes(&self, v: VolumeIndex) -> bool {
        let acknowledged_counts = !self.is_asynchronous();
        self.has_mirrored_writes(v, |request| {
            let acknowledged = request.net_ok && !request.net_pending && acknowledged_counts;
            !request.net_done && (request.completed && acknowledged || request.is_too_late_to_send())
        })
    }

    /// Whether the application waits for a write still.
    pub(super) fn has_open_writes(&self, v: VolumeIndex) -> bool {
        self.log.iter().any(|(_, request)| request.volume == v && request.is_write() && !request.completed)
    }

    fn has_mirrored_writes(&self, v: VolumeIndex, such: impl Fn(&Request) -> bool) -> bool {
        let mirrored = |request: &Request| request.volume == v && request.is_write() && request.replicated;
        self.log.iter().any(|(_, request)| mirrored(request) && such(request))
    }

    /// Whether there are writes that were decided for this node's disk only, or that the peer was left out of.
    pub(super) fn has_writes_for_this_disk_only(&self, v: VolumeIndex) -> bool {
        let left_out = |request: &Request| !request.replicated || request.net_done && !request.net_ok;
        self.log.iter().any(|(_, request)| request.volume == v && request.is_write() && left_out(request))
    }

    /// Whether a request may still change something: more than a freeze holds it back.
    pub(super) fn has_requests_under_way(&self, v: VolumeIndex) -> bool {
        self.log.iter().any(|(_, r)| r.volume == v && !r.completed && !r.may_complete())
    }

    /// Frozen requests that had no good data left, and the disk is back: those that failed are done again, spec/state.md
    /// 5.4, "restart disk I/O". What the peer owes an answer to waits for that.
    pub(super) fn restart_disk_io(&mut self, v: VolumeIndex) {
        for id in self.log.ids() {
            let Some(request) = self.log.get(id).filter(|request| request.volume == v) else { continue };
            // A disk of the peer that has done it may have gone since.
            let lacks = request.is_write() && !request.local_ok && self.state(v).disk == Disk::UpToDate;
            let done = self.succeeded(request) && !lacks;
            if request.may_complete() && !request.is_too_late_to_send() && !done {
                if request.is_write() && request.local_ok && !request.net_ok {
                    // It may fail then, and what this disk has of it already the next resync would take back.
                    self.mark_write(id);
                }
                self.admit_again(id);
            }
        }
    }

    /// Frozen writes that were for the peer alone, for this node had no disk, and did not get there: the disk is back, of the same generation as the
    /// peer's, and no resync follows. They are done as if they were new, on both. (DRBD sends them to the peer again.) `peer_lives`: as below.
    pub(super) fn write_what_own_disk_lacks(&mut self, v: VolumeIndex, peer_lives: bool) {
        for id in self.log.ids() {
            let lacks = |r: &&Request| r.volume == v && r.is_write() && !r.local_pending && !r.local_ok;
            let Some(request) = self.log.get(id).filter(lacks) else { continue };
            let answered = request.net_ok && peer_lives;
            if !request.completed && !request.postponed && !answered && !request.is_too_late_to_send() {
                self.peer_part_lost(id);
                self.admit_again(id);
            }
        }
    }

    /// Frozen requests that the peer gets with a later resync, if it gets them at all. A source's writes are in the bitmap
    /// that it sends: see [`add_writes_to_bitmap`](Self::add_writes_to_bitmap).
    pub(super) fn leave_peer_out(&mut self, v: VolumeIndex) {
        for id in self.log.ids() {
            let Some(request) = self.log.get(id).filter(|request| request.volume == v) else { continue };
            if !request.is_write() {
                if request.net_pending {
                    self.peer_part_lost(id);
                    self.reroute_read(id);
                }
                continue;
            }
            self.peer_part_lost(id);
            self.advance(id);
        }
    }

    /// The own bitmap is about to be sent: writes that did not leave the log yet, and that one side
    /// lacks, are to be in it.
    pub(super) fn add_writes_to_bitmap(&mut self, v: VolumeIndex, source: bool) {
        let synchronous = self.is_synchronous();
        let Some(disk) = &mut self.volumes[v].disk else { return };
        if mutant!("bitmap-without-open-writes") {
            return;
        }
        for id in self.log.ids() {
            let Some(request) = self.log.get_mut(id) else { continue };
            // In protocols A and B the peer may still say that it could not write it.
            let answered = request.net_ok && (synchronous || request.net_done);
            let certain = request.local_ok && answered && !request.peer_disk_went;
            if request.volume == v && request.is_write() && !certain {
                disk.bitmap.set_sectors(request.sector, request.sectors());
                request.in_sent_bitmap = source;
            }
        }
    }

    /// Writes that the peer lacks, or may lose with its cache, count as out of sync, though they are in the transfer log
    /// still.
    pub(super) fn mark_open_writes(&mut self, v: VolumeIndex) {
        let Some(disk) = &mut self.volumes[v].disk else { return };
        let open = |request: &&super::request::Request| {
            let durable = request.local_ok && request.net_ok && request.net_done;
            request.volume == v && request.is_write() && request.replicated && !durable
        };
        for request in self.log.iter().map(|(_, request)| request).filter(open) {
            disk.bitmap.set_sectors(request.sector, request.sectors());
        }
    }

    /// The disk went, and its activity log: the next disk's knows nothing of these references.
    pub(super) fn forget_activity_log(&mut self, v: VolumeIndex) {
        for id in self.log.ids() {
            if let Some(request) = self.log.get_mut(id).filter(|request| request.volume == v) {
                request.in_activity_log = false;
            }
        }
        for request in self.peer_requests.iter_mut().filter(|request| request.volume == v) {
            request.in_activity_log = false;
        }
        for request in &mut self.volumes[v].waiting {
            request.in_activity_log = false;
        }
    }

    /// Completes what waited only for something that is over now.
    pub(super) fn complete_ready(&mut self) {
        for id in self.log.ids() {
            self.advance(id);
        }
    }

    /// An epoch is durable on the peer's disk: its writes may leave. `Err`: the number of a write
    /// whose own answer is missing, which is the peer's mistake.
    pub(super) fn epoch_acknowledged(&mut self, number: u32) -> Result<(), u64> {
        // In protocol A nobody answers a single write; and what the peer has was sent, even if the
        // thread that sent it has not come to say so.
        let answered = !self.is_asynchronous();
        let mut ids = Vec::new();
        for (id, request) in self.log.iter() {
            if request.replicated && !request.net_done {
                if request.epoch != number {
                    break;
                }
                if request.net_pending && answered {
                    return Err(id);
                }
                ids.push(id);
            }
        }
        for id in ids {
            if let Some(request) = self.log.get_mut(id) {
                request.net_done = true;
                request.net_queued = false;
                if std::mem::take(&mut request.net_pending) {
                    request.net_ok = true;
                    self.volumes[request.volume].counters.ap_pending -= 1;
                }
                let sectors = request.sectors();
                self.connection.in_flight_sectors = self.connection.in_flight_sectors.saturating_sub(sectors);
            }
            self.advance_with(id, true);
        }
        Ok(())
    }

    /// The peer is gone and will not be asked again: spec/state.md 5.4, "clear".
    pub(super) fn clear_transfer_log(&mut self) {
        self.epochs.reset();
        for id in self.log.ids() {
            self.peer_part_lost(id);
            if self
                .log
                .get(id)
                .is_some_and(|r| !r.is_write() && !r.local_pending && !r.completed && !r.local_ok)
            {
                self.reroute_read(id);
            } else {
                self.advance_with(id, true);
            }
        }
    }

    fn peer_part_lost(&mut self, id: u64) {
        let Some(request) = self.log.get_mut(id) else { return };
        let v = request.volume;
        if std::mem::take(&mut request.net_pending) {
            self.volumes[v].counters.ap_pending -= 1;
        }
        request.net_queued = false;
        request.net_ok = false;
        request.net_done = true;
    }

    /// A read whose peer is gone finds another way, or fails.
    fn reroute_read(&mut self, id: u64) {
        if let Some(mut request) = self.log.remove(id) {
            self.volumes[request.volume].counters.ap_in_flight -= 1;
            request.net_done = false;
            request.net_sent = false;
            let v = request.volume;
            self.volumes[v].waiting.push_back(request);
            self.wake = true;
        }
    }

    /// Whether a request is a discard, and a later write of the same blocks cannot be sent again behind it.
    fn is_overwritten_discard(&self, v: VolumeIndex, id: u64) -> bool {
        let Some(request) = self.log.get(id) else { return false };
        let later = |other: u64| other > id && self.log.get(other).is_some_and(Request::is_too_late_to_send);
        matches!(request.kind, Kind::Discard { .. })
            && self.volumes[v].writes.overlapping(request.sector, request.sectors()).any(later)
    }

    /// Sends again what the peer has not acknowledged, up to the request `newest`: spec/wire.md 7.6, RESEND.
    ///
    /// What it acknowledged, and may have lost with its cache, is sent again, too, while its bytes are there. (DRBD takes it for
    /// durable.) `target`: a resync to this node follows. What cannot be sent again is then at least marked; without a
    /// resync the acknowledgement has to do. `peer_lives`: it cannot have lost anything, and may have written to the same
    /// blocks since.
    pub(super) fn resend_transfer_log(
        &mut self,
        v: VolumeIndex,
        newest: u64,
        target: bool,
        peer_lives: bool,
    ) {
        let acknowledged_counts = !target && !self.is_asynchronous();
        for id in self.log.ids().into_iter().take_while(|id| *id <= newest) {
            let overwritten = self.is_overwritten_discard(v, id);
            let Some(request) = self.log.get_mut(id).filter(|request| request.volume == v) else { continue };
            let too_late = request.is_too_late_to_send() || overwritten;
            if !request.is_write() {
                if request.net_pending {
                    let v = request.volume;
                    self.volumes[v].counters.ap_pending -= 1;
                    self.read_remotely(id);
                }
            } else if request.replicated
                && !request.net_pending
                // Its barrier was acknowledged: nothing can lose it there any more.
                && (request.net_ok && (request.net_done || peer_lives)
                    || acknowledged_counts && (request.net_done || request.net_ok && too_late))
            {
                request.net_done = true;
                self.advance_with(id, true);
            } else if request.announced {
                // It is out of sync on this side, which is what counts. The announcement may have gone with the link.
                self.peer_part_lost(id);
                self.advance(id);
            } else if request.replicated && too_late {
                // Too late to send it again: it goes with a resync.
                self.peer_part_lost(id);
                self.advance_with(id, true);
            } else if request.replicated {
                request.epoch = self.epochs.add_write();
                request.net_queued = true;
                request.net_done = false;
                if !request.net_pending && !request.net_ok {
                    // The peer refused it. Its disk may be another one now, of the same generation.
                    request.net_pending = true;
                    self.volumes[v].counters.ap_pending += 1;
                }
                self.queue_work(Work::SendWrite { id });
            }
        }
        self.epochs.close(self.now);
    }
}
