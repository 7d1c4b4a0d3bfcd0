//! Two Primaries that write to the same blocks at the same time: both end with the same data. spec/wire.md 7.8.
//!
//! One node, the arbiter, decides. Its own write that is still under way at the peer comes last: the peer's
//! write is refused, as superseded or to be tried again. The other node lets the arbiter's write wait until
//! its own has been answered and is on its disk, and lays it over that.

use super::peer_write::PeerWrite;
use super::receive::Hold;
use super::request::Request;
use super::state::Conn;
use super::types::*;
use super::Resource;
use crate::wire::acks::BlockAck;
use crate::wire::packet::Packet;

/// A write of the peer that waits until all acknowledgements have arrived that were sent before it.
#[derive(Debug)]
pub struct Early {
    volume: VolumeIndex,
    write: PeerWrite,
    deadline: Millis,
}

impl PartialEq for Early {
    /// There is one at a time: its number tells it from others.
    fn eq(&self, other: &Early) -> bool {
        (self.volume, self.write.seq) == (other.volume, other.write.seq)
    }
}

/// A write of the peer that one of this node's replaces. It is done, on both nodes, when that is on this disk: until then neither of the two is, and
/// after a crash a resync would bring what was there before both. (DRBD answers at once, and reads what was there before.)
#[derive(Debug)]
pub struct Superseded {
    volume: VolumeIndex,
    /// Own writes to its blocks.
    own: Vec<u64>,
    sector: u64,
    bytes: u32,
    block_id: u64,
    /// The epoch that it came in, whose barrier is not answered before it.
    epoch: u64,
}

impl Resource {
    pub(super) fn two_primaries_allowed(&self) -> bool {
        self.net.as_ref().is_some_and(|net| net.allow_two_primaries)
    }

    pub(super) fn is_arbiter(&self) -> bool {
        self.connection.link.is_some_and(|link| link.arbiter)
    }

    /// A write of the peer arrived while both may write.
    pub(super) fn peer_wrote_as_primary(&mut self, v: VolumeIndex, write: PeerWrite) {
        if self.is_arbiter() && self.lacks_acks(v, write.seq) && !mutant!("early-write-not-awaited") {
            // One of them may be for an own write that the peer's was laid over.
            let wait = self.net.as_ref().map_or(0, |net| u64::from(net.ping_timeout) * 100);
            self.hold = Some(Hold::Early(Box::new(Early { volume: v, write, deadline: self.now + wait })));
        } else {
            self.peer_wrote_in_sequence(v, write);
        }
    }

    /// Whether the peer sent something on the other socket before number `seq` that is still missing.
    fn lacks_acks(&self, v: VolumeIndex, seq: u32) -> bool {
        (seq.wrapping_sub(1).wrapping_sub(self.volumes[v].peer_seq) as i32) > 0
    }

    /// Goes on with a write that came too early, if it did not. True: something was done.
    pub(super) fn run_early(&mut self) -> bool {
        let Some(Hold::Early(early)) = self.hold.take() else { return false };
        if self.state(early.volume).conn < Conn::WFReportParams {
            // As if it had not arrived: nobody has been told of it, and a peer without a disk has no bits for what only this node would write.
            return true;
        }
        if self.lacks_acks(early.volume, early.write.seq) {
            self.hold = Some(Hold::Early(early));
            return false;
        }
        self.peer_wrote_in_sequence(early.volume, early.write);
        true
    }

    /// When a write has waited long enough for acknowledgements.
    pub(super) fn early_deadline(&self) -> Option<Millis> {
        match &self.hold {
            Some(Hold::Early(early)) => Some(early.deadline),
            _ => None,
        }
    }

    pub(super) fn early_timer(&mut self) {
        if self.early_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.protocol_error(None, "Timed out waiting for missing ack packets; disconnecting");
        }
    }

    fn peer_wrote_in_sequence(&mut self, v: VolumeIndex, write: PeerWrite) {
        let (sector, sectors) = (write.sector, u64::from(write.bytes) / 512);
        // Without a disk it refuses all: what is done then only the peer has, and marks.
        let has_disk = self.usable_disk(v).is_some();
        let decides = self.is_arbiter() && has_disk && !mutant!("superseded-write-applied");
        let concurrent = decides.then(|| self.unanswered_write(v, sector, sectors)).flatten();
        let Some((own_sector, own_sectors)) = concurrent else {
            self.write_of_peer(v, write);
            return;
        };
        let covered = own_sector <= sector && sector + sectors <= own_sector + own_sectors;
        if (own_sector, own_sectors) != (sector, sectors) {
            let text = format!(
                "Concurrent writes detected: local={own_sector}s +{}, remote={sector}s +{}, assuming {} came first",
                own_sectors * 512,
                write.bytes,
                if covered { "remote" } else { "local" },
            );
            self.warning(Some(v), text);
        }
        let may_retry = self.connection.version.is_some_and(|version| version.has_ack_flags());
        self.see_peer_seq(v, write.seq);
        if covered || !may_retry {
            let own = self.volumes[v].writes.overlapping(sector, sectors).collect();
            let PeerWrite { bytes, block_id, .. } = write;
            // Releases before 8.4 count what was refused.
            let epoch = self.peer_epochs.add_refused(!may_retry);
            self.superseded.push(Superseded { volume: v, own, sector, bytes, block_id, epoch });
        } else {
            self.acknowledge(v, Packet::RetryWrite, sector, write.bytes, write.block_id);
        }
    }

    /// Answers writes of the peer whose place own ones have taken on this disk. True: there were some.
    pub(super) fn answer_superseded(&mut self) -> bool {
        let before = self.superseded.len();
        for write in std::mem::take(&mut self.superseded) {
            let on_its_way = |id: &u64| self.log.get(*id).is_some_and(|own| own.local_pending);
            if write.own.iter().any(on_its_way) {
                self.superseded.push(write);
                continue;
            }
            let Superseded { volume, sector, bytes, block_id, epoch, .. } = write;
            self.acknowledge(volume, Packet::Superseded, sector, bytes, block_id);
            self.peer_epochs.finish_write(epoch);
            self.finish_epochs();
        }
        self.superseded.len() < before
    }

    /// An own write to these blocks that the peer has not answered. The one that covers them, if there is one.
    fn unanswered_write(&self, v: VolumeIndex, sector: u64, sectors: u64) -> Option<(u64, u64)> {
        let own = self.volumes[v].writes.overlapping(sector, sectors);
        own.filter_map(|id| self.log.get(id))
            .filter(|request| request.net_pending && !request.completed)
            .map(|request| (request.sector, request.sectors()))
            .max_by_key(|(own, len)| *own <= sector && sector + sectors <= own + len)
    }

    /// Whether a write of the peer has to wait for an own one: for the answer to it, and for the disk.
    pub(super) fn own_write_in_the_way(&self, v: VolumeIndex, sector: u64, sectors: u64) -> bool {
        self.two_primaries_allowed()
            && !mutant!("conflict-order-ignored")
            && self.volumes[v]
                .writes
                .overlapping(sector, sectors)
                .filter_map(|id| self.log.get(id))
                .any(|request| !request.completed && (request.local_pending || request.net_pending))
    }

    /// A write of the peer goes to the disk: own ones to its blocks that have not left the log are older.
    pub(super) fn note_overwritten(&mut self, v: VolumeIndex, sector: u64, sectors: u64) {
        for id in self.volumes[v].writes.overlapping(sector, sectors) {
            if let Some(older) = self.log.get_mut(id) {
                older.overwritten = !mutant!("overwritten-write-sent-again");
            }
        }
    }

    /// Whether an own write has to wait for one of the peer: at the disk, where nobody else keeps their order
    /// (a Primary of a moment ago may have left it there, and its link with it), or one that itself waits.
    pub(super) fn peer_write_in_the_way(&self, v: VolumeIndex, sector: u64, sectors: u64) -> bool {
        self.volumes[v].peer_writes.any(sector, sectors)
            || self.two_primaries_allowed() && self.blocked_peer_writes_to(v, sector, sectors)
    }

    /// P_SUPERSEDED: the arbiter's write to these blocks, which is under way, is the one that stays.
    pub(super) fn receive_superseded(&mut self, v: VolumeIndex, ack: BlockAck) {
        if let Some(request) = self.refused_by_arbiter(v, ack) {
            request.net_ok = true;
            self.advance(ack.block_id);
            self.note_progress(v);
        }
    }

    /// P_RETRY_WRITE: again, when the arbiter's write is here.
    pub(super) fn receive_retry(&mut self, v: VolumeIndex, ack: BlockAck) {
        if let Some(request) = self.refused_by_arbiter(v, ack) {
            let done = mutant!("retry-taken-for-superseded");
            request.net_ok |= done;
            request.postponed = !done;
            self.advance(ack.block_id);
            self.note_progress(v);
        }
    }

    fn refused_by_arbiter(&mut self, v: VolumeIndex, ack: BlockAck) -> Option<&mut Request> {
        self.see_peer_seq(v, ack.seq);
        if !self.is_own_write(v, &ack) {
            return None;
        }
        let request = self.log.get_mut(ack.block_id)?;
        if !std::mem::take(&mut request.net_pending) {
            return None;
        }
        request.net_queued = false;
        request.net_done = true;
        self.epochs.disturb(request.epoch);
        let sectors = request.sectors();
        self.connection.in_flight_sectors = self.connection.in_flight_sectors.saturating_sub(sectors);
        self.volumes[v].counters.ap_pending -= 1;
        self.log.get_mut(ack.block_id)
    }

    /// A write that is to be tried again and is on the disk waits to be admitted, as if it were new. It keeps
    /// its reference in the activity log: the disks differ there.
    pub(super) fn restart_postponed(&mut self, id: u64) {
        if !self.log.get(id).is_some_and(|request| request.postponed && !request.local_pending) {
            return;
        }
        self.admit_again(id);
    }

    /// A request that nobody works on any more waits to be admitted, as if it were new.
    pub(super) fn admit_again(&mut self, id: u64) {
        let Some(old) = self.log.remove(id) else { return };
        let v = old.volume;
        if old.is_write() {
            self.volumes[v].writes.remove(id, old.sector);
        }
        self.volumes[v].counters.ap_in_flight -= 1;
        let mut request = Request::new(v, old.kind, old.sector, old.bytes, old.payload, old.completion);
        request.in_activity_log = old.in_activity_log;
        request.done_before = old.done_before || old.local_ok;
        self.volumes[v].waiting.push_back(request);
        self.wake = true;
    }
}
