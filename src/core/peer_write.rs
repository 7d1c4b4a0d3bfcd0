//! Requests of the peer: its writes, its reads, its resync. spec/wire.md 7.2, 7.5 and 8.
//!
//! What holds: an acknowledgement says that the disk has the data; a barrier's acknowledgement,
//! that the disk would keep them without power; and it is queued behind all those of its epoch.
//! Requests to the same blocks get to the disk in the order in which they came, if the earlier one writes.

use super::activity_log::{extents_of, Get};
use super::intervals;
use super::resync::Answer;
use super::state::{Conn, Disk, Role};
use super::steps::{release_primary_mark, Step};
use super::types::*;
use super::volume::Volume;
use super::Resource;
use crate::conf::settings::Protocol;
use crate::wire::acks::BlockAck;
use crate::wire::data::{DataFlags, Reply};
use crate::wire::digest::DigestValue;
use crate::wire::packet::Packet;
use crate::wire::requests::BlockDescription;
use crate::wire::ID_SYNCER;

/// What the peer wants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PeerKind {
    /// A mirrored write.
    Write { epoch: u64, flags: DataFlags },
    /// A mirrored discard, or zero-out.
    Discard { epoch: u64, flags: DataFlags, zeroes: bool },
    /// Resync data for this node, a target.
    ResyncWrite,
    /// Resync: the range is all zeroes at the source.
    ResyncZeroes,
    /// An application read.
    Read,
    /// A block for the resync of the peer, a target; with a digest it may turn out to be equal.
    ResyncRead { thin: bool, digest: Option<DigestValue> },
    /// Own blocks, whose digest the source shall compare: the resync of this node, a target.
    ResyncDigest,
    /// Verify: the digest of a block is asked for.
    VerifyDigest,
    /// Verify: the digest of the peer's block; the own one is read for comparison.
    VerifyCompare { digest: DigestValue },
}

impl PeerKind {
    pub(super) fn is_write(self) -> bool {
        matches!(
            self,
            PeerKind::Write { .. }
                | PeerKind::Discard { .. }
                | PeerKind::ResyncWrite
                | PeerKind::ResyncZeroes
        )
    }

    /// Whether it is for the application of the peer, and not for a resync or verify.
    fn is_from_application(self) -> bool {
        matches!(self, PeerKind::Write { .. } | PeerKind::Discard { .. } | PeerKind::Read)
    }

    /// Whether it may not run beside writes of the application to the same blocks.
    fn locks_out_writes(self) -> bool {
        matches!(self, PeerKind::ResyncRead { .. } | PeerKind::VerifyDigest)
    }
}

/// A request of the peer that is not answered yet.
#[derive(Debug)]
pub struct PeerRequest {
    pub(super) volume: VolumeIndex,
    pub(super) kind: PeerKind,
    pub(super) sector: u64,
    pub(super) bytes: u32,
    pub(super) block_id: u64,
    pub(super) payload: Option<Payload>,
    /// A write of a peer without a disk: this node's bitmap and activity log stand for both. Decided when
    /// it comes: the peer may be gone, or have a disk, when it gets to the disk here.
    pub(super) only_here: bool,
    /// Holds a reference in the activity log.
    pub(super) in_activity_log: bool,
    /// [`Volume::resyncs`](super::volume::Volume::resyncs) when it came.
    resync: u64,
}

impl PeerRequest {
    pub(super) fn sectors(&self) -> u64 {
        u64::from(self.bytes) / 512
    }
}

impl Resource {
    /// Whether a range that the peer named lies within the device.
    pub(super) fn within_device(&mut self, v: VolumeIndex, sector: u64, bytes: u32) -> bool {
        self.within(v, self.volumes[v].size, sector, bytes)
    }

    fn within(&mut self, v: VolumeIndex, capacity: u64, sector: u64, bytes: u32) -> bool {
        let end = sector.saturating_add(u64::from(bytes) / 512);
        let ok = bytes % 512 == 0 && end <= capacity;
        if !ok {
            let text = format!("request from peer beyond end of local disk: capacity: {capacity}s < sector: {sector}s + size: {bytes}");
            self.protocol_error(Some(v), text);
        }
        ok
    }

    /// P_DATA, P_TRIM, P_ZEROES.
    pub(super) fn peer_wrote(&mut self, v: VolumeIndex, write: PeerWrite) {
        self.peer_without_disk_is_primary(v);
        // Without a disk, where nothing is written, this node may not have heard yet how large the device is: the peer, which has grown,
        // has asked, and says only how much room it has itself until it has the answer.
        let Volume { size, peer_size, state, .. } = self.volumes[v];
        let capacity = if state.disk < Disk::Inconsistent { size.max(peer_size) } else { size };
        if write.bytes > 0 && !self.within(v, capacity, write.sector, write.bytes) {
            return;
        }
        if self.two_primaries_allowed() {
            self.peer_wrote_as_primary(v, write);
        } else {
            self.write_of_peer(v, write);
        }
    }

    /// A write of the peer that is not refused.
    pub(super) fn write_of_peer(&mut self, v: VolumeIndex, write: PeerWrite) {
        let PeerWrite { sector, bytes, block_id, seq, flags, payload, zeroes } = write;
        self.see_peer_seq(v, seq);
        self.volumes[v].counters.received += u64::from(bytes) / 512;
        if self.usable_disk(v).is_none() {
            self.peer_epochs.add_write(false);
            self.acknowledge(v, Packet::NegAck, sector, bytes, block_id);
            return;
        }
        let epoch = self.peer_epochs.add_write(true);
        if self.wants_receive_ack(flags) {
            self.acknowledge(v, Packet::RecvAck, sector, bytes, block_id);
        }
        if self.wants_write_ack(flags) && mutant!("acknowledged-on-arrival") {
            self.acknowledge(v, Packet::WriteAck, sector, bytes, block_id);
        }
        let kind = match zeroes {
            None => PeerKind::Write { epoch, flags },
            Some(zeroes) => PeerKind::Discard { epoch, flags, zeroes },
        };
        self.add_peer_request(v, kind, sector, bytes, block_id, payload);
    }

    fn wants_receive_ack(&self, flags: DataFlags) -> bool {
        match self.connection.version {
            Some(version) if version.has_ack_flags() => flags.contains(DataFlags::SEND_RECEIVE_ACK),
            _ => self.net.as_ref().is_some_and(|net| net.protocol == Protocol::B),
        }
    }

    fn wants_write_ack(&self, flags: DataFlags) -> bool {
        match self.connection.version {
            Some(version) if version.has_ack_flags() => flags.contains(DataFlags::SEND_WRITE_ACK),
            _ => self.net.as_ref().is_some_and(|net| net.protocol == Protocol::C),
        }
    }

    pub(super) fn see_peer_seq(&mut self, v: VolumeIndex, seq: u32) {
        let volume = &mut self.volumes[v];
        if (seq.wrapping_sub(volume.peer_seq) as i32) > 0 {
            volume.peer_seq = seq;
        }
    }

    /// Sends one of the packets that answer a block.
    pub(super) fn acknowledge(
        &mut self,
        v: VolumeIndex,
        packet: fn(BlockAck) -> Packet,
        sector: u64,
        size: u32,
        block_id: u64,
    ) {
        let seq = self.volumes[v].next_seq();
        self.send_meta(v, packet(BlockAck { sector, block_id, size, seq }));
    }

    pub(super) fn add_peer_request(
        &mut self,
        v: VolumeIndex,
        kind: PeerKind,
        sector: u64,
        bytes: u32,
        block_id: u64,
        payload: Option<Payload>,
    ) {
        let from_application = matches!(kind, PeerKind::Write { .. } | PeerKind::Discard { .. });
        let without_disk = from_application && self.state(v).pdsk < Disk::Inconsistent;
        if let (true, Some(disk)) = (without_disk, &mut self.volumes[v].disk) {
            disk.bitmap.set_sectors(sector, u64::from(bytes) / 512);
        }
        // What it writes before it has heard that its disk may go it writes there, too.
        let only_here = without_disk && !self.volumes[v].peer_disk_let_go;
        let request = PeerRequest {
            volume: v,
            kind,
            sector,
            bytes,
            block_id,
            payload,
            only_here,
            in_activity_log: false,
            resync: self.volumes[v].resyncs,
        };
        self.volumes[v].counters.unacked += 1;
        self.peer_bytes += u64::from(bytes);
        let slot = self.peer_requests.insert(request);
        if !self.try_start_peer_request(slot) {
            self.volumes[v].blocked_peer_requests.push(slot);
            // What it waits for may wait for a barrier that is not sent yet.
            if kind.locks_out_writes() {
                self.flush_barrier();
            }
            self.advance_activity_log(v);
        }
    }

    /// Starts what waited, in the order in which it came.
    pub(super) fn retry_peer_requests(&mut self, v: VolumeIndex) {
        for slot in std::mem::take(&mut self.volumes[v].blocked_peer_requests) {
            if !self.try_start_peer_request(slot) {
                self.volumes[v].blocked_peer_requests.push(slot);
            }
        }
    }

    /// Whether the peer writes to these blocks: at the disk, or still on the way to it.
    pub(super) fn peer_writes_to(&self, v: VolumeIndex, sector: u64, sectors: u64) -> bool {
        self.volumes[v].peer_writes.any(sector, sectors) || self.blocked_peer_writes_to(v, sector, sectors)
    }

    /// Whether writes of the peer to these blocks are on the way to the disk.
    pub(super) fn blocked_peer_writes_to(&self, v: VolumeIndex, sector: u64, sectors: u64) -> bool {
        let blocked = &self.volumes[v].blocked_peer_requests;
        blocked
            .iter()
            .filter_map(|slot| self.peer_requests.get(*slot))
            .filter(|earlier| earlier.kind.is_write())
            .any(|earlier| intervals::overlap((earlier.sector, earlier.sectors()), (sector, sectors)))
    }

    /// Hands a request to the disk unless something is in its way.
    fn try_start_peer_request(&mut self, slot: u32) -> bool {
        let Some(request) = self.peer_requests.get(slot) else { return true };
        let (v, kind, sector, bytes) = (request.volume, request.kind, request.sector, request.bytes);
        let (sectors, payload) = (request.sectors(), request.payload.clone());
        let to_be_logged = request.only_here && !request.in_activity_log;
        let volume = &mut self.volumes[v];
        // The activity log of a disk that is to go is not written any more.
        let log_is_closed = to_be_logged && volume.state.disk < Disk::Inconsistent;
        if volume.disk.is_none() || log_is_closed {
            // The disk went while it waited: answered as a failure.
            self.peer_io_done(v, slot, IoResult::Failed, false);
            return true;
        }
        if matches!(kind, PeerKind::ResyncRead { .. }) && self.may_get_late_answers(v) {
            return false;
        }
        // In protocols A and B the peer's application has long heard of the earlier write.
        if self.peer_writes_to(v, sector, sectors) && !mutant!("peer-writes-overtake") {
            return false;
        }
        let volume = &mut self.volumes[v];
        if kind.is_write() {
            let mirrored = matches!(kind, PeerKind::Write { .. } | PeerKind::Discard { .. });
            if mirrored && self.own_write_in_the_way(v, sector, sectors) {
                return false;
            }
            // The digest is of what was there before this write.
            if self.volumes[v].compared.any(sector, sectors) {
                return false;
            }
            if to_be_logged && !self.log_for_diskless_peer(v, slot, sector, sectors) {
                return false;
            }
            self.volumes[v].peer_writes.insert(u64::from(slot), sector, sectors);
            if mirrored {
                self.note_overwritten(v, sector, sectors);
            }
        } else if kind.locks_out_writes() {
            // Whole blocks: a write to a part of a block changes the block.
            let (first, last) = (sector & !7, (sector + sectors).next_multiple_of(8));
            // Locked first: else a busy application would never let it have its turn.
            volume.locks.insert(u64::from(slot) | LOCK_OF_PEER, sector, sectors);
            if volume.writes.any(first, last - first) {
                return false;
            }
        } else if matches!(kind, PeerKind::VerifyCompare { .. }) {
            volume.compared.insert(u64::from(slot), sector, sectors);
        }
        let io = Io::Peer(slot);
        let Some(disk) = &mut self.volumes[v].disk else { return true };
        disk.in_use += 1;
        disk.unflushed |= kind.is_write();
        disk.peer_needs_flush |= kind.is_write();
        let counters = &mut self.volumes[v].counters;
        counters.local += 1;
        if kind.is_from_application() {
            counters.application += sectors;
        }
        if kind.is_write() {
            counters.written += sectors;
        } else {
            counters.read += sectors;
        }
        self.out.push(match kind {
            PeerKind::Write { flags, .. } => {
                let fua = flags.contains(DataFlags::FUA);
                match payload {
                    Some(payload) if bytes > 0 => Output::DiskWrite { volume: v, io, sector, payload, fua },
                    _ => Output::DiskFlush { volume: v, io },
                }
            }
            PeerKind::ResyncWrite => match payload {
                Some(payload) => Output::DiskWrite { volume: v, io, sector, payload, fua: false },
                None => Output::DiskFlush { volume: v, io },
            },
            PeerKind::Discard { zeroes, .. } => {
                let how = if zeroes { Clearing::Zero } else { Clearing::Discard };
                Output::DiskDiscard { volume: v, io, sector, bytes, how }
            }
            PeerKind::ResyncZeroes => {
                Output::DiskDiscard { volume: v, io, sector, bytes, how: Clearing::Free }
            }
            _ => Output::DiskRead { volume: v, io, sector, bytes },
        });
        true
    }

    fn log_for_diskless_peer(&mut self, v: VolumeIndex, slot: u32, sector: u64, sectors: u64) -> bool {
        let volume = &mut self.volumes[v];
        let Some(disk) = &mut volume.disk else { return true };
        if volume.uuid_hold {
            // The peer, whose own disk lacks it, must not hear that it is done before the generation that it goes into has begun.
            return false;
        }
        if !disk.primary_mark_durable {
            // After a crash nobody would look at the activity log: it waits for the mark. If the peer has a
            // disk by now the mark is gone, and the bits, set when it came, were made durable before that.
            if volume.state.conn >= Conn::Connected && volume.state.pdsk >= Disk::Inconsistent {
                return true;
            }
            // What was frozen when the peer was demoted: no Primary asks for the mark, which stays until this is on the disk.
            if volume.state.peer != Role::Primary && !disk.keep_primary_mark {
                disk.keep_primary_mark = true;
                self.queue_steps([Step::WriteSuperBlock { v }]);
                self.queue_steps(release_primary_mark(v));
                self.queue_steps([Step::WriteSuperBlockIfDirty { v }]);
            }
            return false;
        }
        let extent = *extents_of(sector, sectors.max(1)).start();
        if disk.activity_log.get(extent) == Get::Wait {
            if !volume.peer_extents.contains(&extent) {
                volume.peer_extents.push_back(extent);
            }
            return false;
        }
        volume.peer_extents.retain(|wanted| *wanted != extent);
        if let Some(request) = self.peer_requests.get_mut(slot) {
            request.in_activity_log = true;
        }
        true
    }

    /// Whether a write of a peer without a disk is on its way to this one. Those that wait for the generation that they go into are not.
    pub(super) fn writes_for_diskless_peer(&self, v: VolumeIndex) -> bool {
        let held = self.volumes[v].uuid_hold;
        self.peer_requests
            .iter()
            .filter(|(_, request)| request.volume == v && request.only_here && request.kind.is_write())
            .any(|(_, request)| !held || request.in_activity_log)
    }

    /// The disk is done with a request of the peer. `at_disk`: it was there at all.
    pub(super) fn peer_io_done(&mut self, v: VolumeIndex, slot: u32, result: IoResult, at_disk: bool) {
        if at_disk {
            self.volumes[v].counters.local -= 1;
            if let Some(disk) = &mut self.volumes[v].disk {
                disk.in_use -= 1;
            }
        }
        let Some(request) = self.remove_peer_request(slot) else { return };
        let (sector, sectors) = (request.sector, request.sectors());
        if request.kind.is_write() {
            self.volumes[v].peer_writes.remove(u64::from(slot), sector);
        }
        let ok = matches!(result, IoResult::Done(_));
        if !ok && at_disk {
            self.local_error(v, sector, sectors, request.kind.is_write());
        }
        let payload = match result {
            IoResult::Done(payload) => payload,
            IoResult::Failed => None,
        };
        match request.kind {
            PeerKind::Write { epoch, flags } | PeerKind::Discard { epoch, flags, .. } => {
                self.peer_write_done(&request, flags, ok);
                self.peer_epochs.finish_write(epoch);
                self.finish_epochs();
                self.flush_early();
            }
            PeerKind::ResyncWrite | PeerKind::ResyncZeroes => self.resync_write_done(&request, ok),
            PeerKind::Read => self.answer_read(&request, payload),
            PeerKind::ResyncRead { thin, digest } => {
                // The reply is queued before a write that waits for the lock can be decided.
                self.answer_resync_read(&request, payload, thin, digest);
                self.volumes[v].locks.remove(u64::from(slot) | LOCK_OF_PEER, sector);
            }
            PeerKind::ResyncDigest => self.ask_by_digest(&request, payload),
            PeerKind::VerifyDigest => {
                self.answer_verify(&request, payload);
                self.volumes[v].locks.remove(u64::from(slot) | LOCK_OF_PEER, sector);
            }
            PeerKind::VerifyCompare { digest } => {
                self.volumes[v].compared.remove(u64::from(slot), sector);
                self.compare_verify(&request, payload, digest);
            }
        }
        self.note_progress(v);
    }

    fn peer_write_done(&mut self, request: &PeerRequest, flags: DataFlags, ok: bool) {
        let v = request.volume;
        let state = self.state(v);
        // A disk that has failed (`on-io-error pass_on`) takes it, and what it has counts for nothing: the peer, which has not heard of that yet,
        // may have no disk itself. (DRBD acknowledges it.)
        let ok = ok && (state.disk == Disk::UpToDate || state.conn != Conn::Connected);
        let in_sync = ok
            && state.conn.is_sync_or_verify()
            && flags.contains(DataFlags::MAY_SET_IN_SYNC)
            && request.resync == self.volumes[v].resyncs
            && state.pdsk >= Disk::Inconsistent;
        // Nobody else would know of a write that failed here: the answer to its epoch's barrier counts it.
        let acknowledged = mutant!("acknowledged-on-arrival");
        if self.wants_write_ack(flags) && !acknowledged || !ok {
            let packet = match (ok, in_sync) {
                (true, true) => Packet::RsWriteAck,
                (true, false) => Packet::WriteAck,
                (false, _) => Packet::NegAck,
            };
            if ok && in_sync {
                self.set_in_sync(v, request.sector, request.sectors());
            }
            self.acknowledge(v, packet, request.sector, request.bytes, request.block_id);
        }
    }

    /// The blocks that a range covers completely are equal on both disks now.
    pub(super) fn set_in_sync(&mut self, v: VolumeIndex, sector: u64, sectors: u64) {
        let size = self.volumes[v].size;
        if let Some(disk) = &mut self.volumes[v].disk {
            if disk.bitmap.clear_sectors(sector, sectors, size) > 0 {
                self.bits_cleared(v);
            }
        }
    }

    fn answer_read(&mut self, request: &PeerRequest, payload: Option<Payload>) {
        let (v, sector, block_id) = (request.volume, request.sector, request.block_id);
        match payload {
            Some(payload) => {
                self.volumes[v].counters.sent += request.sectors();
                self.send_with(v, Packet::DataReply(Reply { sector, block_id }), Some(payload), None);
            }
            None => self.acknowledge(v, Packet::NegDataReply, sector, request.bytes, block_id),
        }
    }

    fn answer_resync_read(
        &mut self,
        request: &PeerRequest,
        payload: Option<Payload>,
        thin: bool,
        digest: Option<DigestValue>,
    ) {
        let (v, sector, bytes) = (request.volume, request.sector, request.bytes);
        let state = self.state(v);
        if request.resync != self.volumes[v].resyncs {
            // The target's disk went while this one read, and may be back already. Nobody waits for the
            // answer, and since its lock was lifted the block may have been written.
            return;
        }
        if state.conn == Conn::Ahead && digest.is_none() {
            self.acknowledge(v, Packet::RsCancel, sector, bytes, request.block_id);
            return;
        }
        let Some(payload) = payload else {
            self.error(Some(v), format!("Sending NegRSDReply. sector {sector}s."));
            self.note_failed_blocks(v, sector, request.sectors());
            self.acknowledge(v, Packet::NegRsDataReply, sector, bytes, request.block_id);
            return;
        };
        if state.pdsk < Disk::Inconsistent {
            self.error(Some(v), "Not sending RSDataReply, partner DISKLESS!");
            return;
        }
        // A target that is about to detach goes on asking. What is written here from now on it does not get, and blocks are not locked:
        // what it says about this one is for no bit.
        let resyncs = state.conn.is_sync_source();
        let equal = digest
            .is_some_and(|digest| self.csums_digest().is_some_and(|alg| alg.compute(&payload) == digest));
        if equal {
            self.volumes[v].resync.same_checksum += u64::from(bytes) / 4096;
            self.volumes[v].resync.used_checksums = true;
            if resyncs {
                self.set_in_sync(v, sector, request.sectors());
            }
            self.acknowledge(v, Packet::RsIsInSync, sector, bytes, ID_SYNCER);
            return;
        }
        if resyncs {
            self.block_sent(v, sector, request.sectors());
        }
        if thin && payload.iter().all(|byte| *byte == 0) {
            self.send(v, Packet::RsDeallocated(BlockDescription { sector, size: bytes }));
        } else {
            self.send_with(
                v,
                Packet::RsDataReply(Reply { sector, block_id: ID_SYNCER }),
                Some(payload),
                None,
            );
        }
    }

    /// P_DATA_REQUEST.
    pub(super) fn peer_reads(&mut self, v: VolumeIndex, sector: u64, bytes: u32, block_id: u64) {
        if bytes == 0 || !self.within_device(v, sector, bytes) {
            return;
        }
        if self.state(v).disk != Disk::UpToDate {
            self.error(Some(v), "Can not satisfy peer's read request, no local data.");
            self.acknowledge(v, Packet::NegDataReply, sector, bytes, block_id);
            return;
        }
        self.add_peer_request(v, PeerKind::Read, sector, bytes, block_id, None);
    }

    /// A request for a block by a resync target.
    pub(super) fn peer_wants_block(
        &mut self,
        v: VolumeIndex,
        sector: u64,
        bytes: u32,
        block_id: u64,
        kind: PeerKind,
    ) {
        if bytes == 0 || !self.within_device(v, sector, bytes) {
            return;
        }
        // A verify may be on its way to its end with a disk that failed meanwhile: its digest shows what it holds.
        let verifies = kind == PeerKind::VerifyDigest;
        let needed = if verifies { Disk::Inconsistent } else { Disk::UpToDate };
        if self.state(v).disk < needed {
            self.error(Some(v), "Can not satisfy peer's read request, no local data.");
            self.acknowledge(v, Packet::NegRsDataReply, sector, bytes, block_id);
            return;
        }
        let resync = &mut self.volumes[v].resync;
        resync.last_requested = sector / 8;
        // A word that seemed to say that it is done was from before the resync.
        resync.target_began = true;
        resync.target_done = false;
        resync.target_failed = false;
        self.add_peer_request(v, kind, sector, bytes, block_id, None);
    }

    fn resync_write_done(&mut self, request: &PeerRequest, ok: bool) {
        let (v, sector, bytes) = (request.volume, request.sector, request.bytes);
        if request.resync != self.volumes[v].resyncs {
            // The bitmaps may have been exchanged since: its bits stay, as they do on the other side.
            return;
        }
        if ok {
            self.set_in_sync_quietly(v, sector, request.sectors());
            self.acknowledge(v, Packet::RsWriteAck, sector, bytes, ID_SYNCER);
        } else {
            self.note_failed_blocks(v, sector, request.sectors());
            self.acknowledge(v, Packet::NegAck, sector, bytes, ID_SYNCER);
        }
        self.resync_answered(v, sector, request.sectors(), Answer::Written);
    }

    fn set_in_sync_quietly(&mut self, v: VolumeIndex, sector: u64, sectors: u64) {
        let size = self.volumes[v].size;
        if let Some(disk) = &mut self.volumes[v].disk {
            disk.bitmap.clear_sectors(sector, sectors, size);
        }
    }

    /// Epochs that are finished are acknowledged.
    pub(super) fn finish_epochs(&mut self) {
        while let Some((number, set_size)) = self.peer_epochs.take_finished() {
            if set_size > 0 {
                self.send_meta(0, Packet::BarrierAck(crate::wire::acks::BarrierAck { number, set_size }));
            }
        }
    }

    /// Requests that never reached the disk are forgotten: the link is gone.
    pub(super) fn drop_waiting_peer_requests(&mut self) {
        for v in 0..self.volumes.len() {
            for slot in std::mem::take(&mut self.volumes[v].blocked_peer_requests) {
                self.remove_peer_request(slot);
            }
            self.volumes[v].peer_extents.clear();
        }
    }

    /// Takes a request of the peer out, and gives its extent of the activity log back.
    fn remove_peer_request(&mut self, slot: u32) -> Option<PeerRequest> {
        let request = self.peer_requests.remove(slot)?;
        self.peer_bytes -= u64::from(request.bytes);
        let volume = &mut self.volumes[request.volume];
        volume.counters.unacked -= 1;
        if let (true, Some(disk)) = (request.in_activity_log, &mut volume.disk) {
            disk.activity_log.put(*extents_of(request.sector, request.sectors().max(1)).start());
        }
        Some(request)
    }
}

/// Marks owners of locks that belong to the peer's requests, not to own resync requests.
pub(super) const LOCK_OF_PEER: u64 = 1 << 63;

/// A mirrored write as it arrived.
#[derive(Debug)]
pub struct PeerWrite {
    pub(super) sector: u64,
    pub(super) bytes: u32,
    pub(super) block_id: u64,
    pub(super) seq: u32,
    pub(super) flags: DataFlags,
    pub(super) payload: Option<Payload>,
    /// A discard; true: the range must read as zeroes.
    pub(super) zeroes: Option<bool>,
}
