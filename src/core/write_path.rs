//! Requests of the application that are in the transfer log, until they are complete and leave it.
//! spec/wire.md 7.1 and 7.3.
//!
//! What is durable before what: the disk (and, by protocol, the peer) before the application hears of a
//! write; the peer's flush (its barrier acknowledgement) before the activity log lets the extent go.

use super::activity_log::extents_of;
use super::request::{Completion, Kind, Request};
use super::rules::{self, ChangeKind};
use super::state::{Change, Conn, Disk};
use super::types::*;
use super::Resource;
use crate::conf::settings::{OnIoError, Protocol};
use crate::wire::data::{Barrier, Data, DataFlags, RangeWrite};
use crate::wire::features::Features;
use crate::wire::packet::Packet;
use crate::wire::Socket;

impl Resource {
    /// The fifo reached a mirrored write: its packet goes to the socket.
    pub(super) fn emit_write(&mut self, id: u64) {
        let Some(version) = self.connection.version else { return };
        let features = self.connection.link.map_or(Features::NONE, |link| link.features);
        let protocol = self.net.as_ref().map_or(Protocol::C, |net| net.protocol);
        let Some(request) = self.log.get(id) else { return };
        if !request.net_queued {
            return;
        }
        let (v, epoch, kind) = (request.volume, request.epoch, request.kind);
        let barrier = self.epochs.before_send(epoch, self.now);
        if let (Some(number), false) = (barrier, mutant!("write-before-barrier")) {
            self.emit(Socket::Data, v, Packet::Barrier(Barrier { number }), None, None);
        }
        let now = self.now;
        let in_sync_range = self.state(v).conn.is_sync_or_verify();
        let seq = self.volumes[v].next_seq();
        let Some(request) = self.log.get_mut(id) else { return };
        request.sent_at = now;
        request.net_sent = true;
        let mut flags = DataFlags::RW_SYNC;
        let mut add = |flag: DataFlags, on: bool| {
            if on {
                flags = DataFlags(flags.0 | flag.0);
            }
        };
        add(DataFlags::MAY_SET_IN_SYNC, in_sync_range);
        add(DataFlags::FUA, kind == (Kind::Write { fua: true }) && version.has_flush_flags());
        if version.has_ack_flags() {
            add(DataFlags::SEND_RECEIVE_ACK, protocol == Protocol::B);
            add(DataFlags::SEND_WRITE_ACK, protocol == Protocol::C || in_sync_range);
        }
        let (sector, bytes) = (request.sector, request.bytes);
        let payload = request.payload.clone();
        // Only protocol A waits for the bytes to be in TCP's hands; else the answer says as much.
        let notify = (protocol == Protocol::A).then_some(id);
        request.net_queued = notify.is_some();
        let packet = match kind {
            Kind::Discard { zeroes } => {
                let zeroes = zeroes && features.contains(Features::WZEROES);
                let flag = if zeroes { DataFlags::ZEROES } else { DataFlags::DISCARD };
                let flags = DataFlags(flags.0 | flag.0);
                let range = RangeWrite { sector, block_id: id, seq, flags, size: bytes };
                if zeroes {
                    Packet::Zeroes(range)
                } else {
                    Packet::Trim(range)
                }
            }
            _ => Packet::Data(Data { sector, block_id: id, seq, flags }),
        };
        self.volumes[v].counters.sent += u64::from(bytes) / 512;
        self.connection.in_flight_sectors += u64::from(bytes) / 512;
        self.arm_request_check();
        self.emit(Socket::Data, v, packet, payload, notify);
        if let (Some(number), true) = (barrier, mutant!("write-before-barrier")) {
            self.emit(Socket::Data, v, Packet::Barrier(Barrier { number }), None, None);
        }
    }

    /// Sends the barrier of a closed epoch, if its writes are all out and it is not.
    pub(super) fn flush_barrier(&mut self) {
        if !self.fifo_is_idle() {
            // The next write, or the next timer, brings it.
            self.epochs.barrier_due = Some(self.now + super::epochs::BARRIER_DELAY_MS);
        } else if let Some(number) = self.epochs.take_closed(self.now) {
            self.emit(Socket::Data, 0, Packet::Barrier(Barrier { number }), None, None);
        }
    }

    /// A packet that asked for it is completely in TCP's hands.
    pub fn sent(&mut self, now: Millis, notify: u64) {
        self.now = self.now.max(now);
        if let Some(request) = self.log.get_mut(notify) {
            request.net_queued = false;
            if request.announced {
                request.net_done = true;
            } else if request.net_pending {
                request.net_pending = false;
                request.net_ok = true;
                self.volumes[request.volume].counters.ap_pending -= 1;
            }
        }
        self.advance(notify);
        self.settle();
    }

    /// The disk is done with an application request.
    pub(super) fn request_io_done(&mut self, v: VolumeIndex, id: u64, result: IoResult) {
        let volume = &mut self.volumes[v];
        volume.counters.local -= 1;
        if let Some(disk) = &mut volume.disk {
            disk.in_use -= 1;
        }
        let Some(request) = self.log.get_mut(id) else { return };
        request.local_pending = false;
        match result {
            IoResult::Done(payload) => {
                request.local_ok = true;
                if !request.is_write() {
                    request.payload = payload;
                }
            }
            IoResult::Failed => {
                let (sector, sectors, write) = (request.sector, request.sectors(), request.is_write());
                self.local_error(v, sector, sectors, write);
                if !write && rules::remote_read(self.state(v)) {
                    self.read_remotely(id);
                    return;
                }
            }
        }
        self.advance(id);
    }

    /// A request at the local disk failed. spec/state.md 13.4.
    pub(super) fn local_error(&mut self, v: VolumeIndex, sector: u64, sectors: u64, write: bool) {
        let what = if write { "WRITE" } else { "READ" };
        self.warning(Some(v), format!("local {what} IO error sector {sector}+{sectors}"));
        self.overtakes_older_writes(v, self.log.newest(), sector, sectors);
        let Some(disk) = &mut self.volumes[v].disk else { return };
        disk.bitmap.set_sectors(sector, sectors);
        disk.read_error |= !write;
        let state = self.state(v);
        match self.volumes[v].settings.on_io_error {
            OnIoError::PassOn => {
                self.error(Some(v), "Local IO failed in drbd_request_endio.");
                if state.conn.is_verify() {
                    // It would go on with two good disks only, and take this one for good. The peer has to hear of the end first.
                    let _ = self.change(v, Change::conn(Conn::Connected), ChangeKind::Hard, false);
                }
                if state.disk > Disk::Inconsistent {
                    let _ = self.change(v, Change::disk(Disk::Inconsistent), ChangeKind::Hard, false);
                }
                if self.state(v).conn.is_sync_source() {
                    self.note_own_failure(v, sector, sectors);
                }
            }
            OnIoError::Detach | OnIoError::CallLocalIoError => {
                self.volumes[v].io_error_seen = true;
                if state.disk > Disk::Failed {
                    let _ = self.change(v, Change::disk(Disk::Failed), ChangeKind::Hard, false);
                    self.error(Some(v), "Local IO failed in drbd_request_endio. Detaching...");
                }
            }
        }
    }

    /// Something happened to a request: completes it, lets it leave the log, if it may.
    pub(super) fn advance(&mut self, id: u64) {
        self.advance_with(id, false);
    }

    /// `released`: an end that a suspension of I/O does not hold back.
    pub(super) fn advance_with(&mut self, id: u64, released: bool) {
        let Some(request) = self.log.get(id) else { return };
        if request.postponed {
            return self.restart_postponed(id);
        }
        let volume = &self.volumes[request.volume];
        // What a read shows of the last writes of another Primary, which went, may be on this disk only, too.
        let only_here =
            || if request.is_write() { !self.peer_has(request) } else { self.two_primaries_allowed() };
        let held = volume.uuid_hold && only_here() && !mutant!("new-uuid-not-awaited");
        if request.may_complete() && !held && (released || !volume.state.is_susp()) {
            self.complete(id);
        }
        if self.log.get(id).is_some_and(Request::may_leave) {
            self.leave(id);
        }
    }

    /// Whether the peer has a write, and all other parts of it that may be the last which the application waits for.
    ///
    /// In protocols A and B `net_ok` only says that TCP, or the peer's memory, has it: a peer that loses the link forgets what has not
    /// got to its disk yet. Parts that left the log it has.
    fn peer_has(&self, request: &Request) -> bool {
        let has = |request: &Request| request.net_ok && (request.net_done || self.is_synchronous());
        let Completion::Part { whole, .. } = request.completion else { return has(request) };
        let of_the_same = |part: &Request| matches!(part.completion, Completion::Part { whole: other, .. } if other == whole);
        self.log.iter().map(|(_, part)| part).filter(|part| of_the_same(part)).all(has)
    }

    fn complete(&mut self, id: u64) {
        let (now, asynchronous) = (self.now, self.is_asynchronous());
        let Some(request) = self.log.get(id) else { return };
        let (v, write, ok) = (request.volume, request.is_write(), self.succeeded(request));
        let disk = self.volumes[v].state.disk;
        let Some(request) = self.log.get_mut(id) else { return };
        self.volumes[v].wrote_without_disk |= write && ok && !request.local_ok && disk < Disk::Inconsistent;
        request.completed = true;
        let completion = request.completion;
        // Writes that the application issues from now on belong to a later epoch.
        let newest = request.replicated && request.epoch == self.epochs.current;
        let payload = if write { None } else { request.payload.take() };
        // In protocol A the peer may need it once more, and nobody else has good data.
        if write && !(asynchronous && disk < Disk::UpToDate) {
            request.payload = None;
        }
        if newest {
            self.epochs.close(now);
        }
        if mutant!("extent-released-early") {
            let extent = *extents_of(request.sector, request.sectors().max(1)).start();
            if let (true, Some(disk)) =
                (std::mem::take(&mut request.in_activity_log), &mut self.volumes[v].disk)
            {
                disk.activity_log.put(extent);
            }
        }
        self.volumes[v].counters.ap_in_flight -= 1;
        self.mark_if_refused(id);
        self.report(completion, if ok { Ok(payload) } else { Err(IoError) });
        self.note_progress(v);
    }

    /// The blocks of a write, which the peer has not done, are out of sync, and no older write to them clears that.
    pub(super) fn mark_write(&mut self, id: u64) {
        let Some(request) = self.log.get(id).filter(|request| !request.in_sent_bitmap) else { return };
        let (v, sector, sectors) = (request.volume, request.sector, request.sectors());
        self.overtakes_older_writes(v, id, sector, sectors);
        if let (Some(disk), false) = (&mut self.volumes[v].disk, mutant!("not-marked-at-loss")) {
            disk.bitmap.set_sectors(sector, sectors);
        }
    }

    /// Whether a request that is over did what it was asked for.
    pub(super) fn succeeded(&self, request: &Request) -> bool {
        // Data that are only on a disk without good data will be overwritten by the next resync; and those on a disk that
        // is gone this node will not have if it goes on with the peer's.
        let state = self.volumes[request.volume].state;
        let write = request.is_write();
        let kept = state.disk == Disk::UpToDate;
        // So with those on a disk of the peer that was good when they were sent, and has been given up since.
        let given_up =
            state.conn >= Conn::Connected && matches!(state.pdsk, Disk::Inconsistent | Disk::Outdated);
        let mirrored = request.net_good && !given_up || state.pdsk == Disk::UpToDate;
        request.net_ok && (mirrored || !write) || request.local_ok && (kept || !write)
    }

    /// Protocol C: the peer answers a write when its disk has it.
    pub(super) fn is_synchronous(&self) -> bool {
        self.net.as_ref().is_some_and(|net| net.protocol == Protocol::C)
    }

    /// Protocol A: the peer answers no single write.
    pub(super) fn is_asynchronous(&self) -> bool {
        self.net.as_ref().is_some_and(|net| net.protocol == Protocol::A)
    }

    /// Something that others may wait for is over.
    pub(super) fn note_progress(&mut self, v: VolumeIndex) {
        let volume = &self.volumes[v];
        self.wake |= !volume.waiting.is_empty()
            || !volume.peer_extents.is_empty()
            || !volume.blocked_peer_requests.is_empty()
            || volume.resync.waits_for_writes();
    }

    /// Tells the application, or the whole that a request is a part of.
    pub(super) fn report(&mut self, completion: Completion, result: Result<Option<Payload>, IoError>) {
        match completion {
            Completion::Application(token) => {
                if mutant!("completes-twice") {
                    self.out.push(Output::Complete { token, result: result.clone() });
                }
                self.out.push(Output::Complete { token, result });
            }
            Completion::Part { whole: index, offset } => {
                let Some(whole) = self.wholes.get_mut(index) else { return };
                whole.left -= 1;
                match (result, &mut whole.read) {
                    (Ok(Some(part)), Some(read)) => {
                        read[offset as usize..offset as usize + part.len()].copy_from_slice(&part);
                    }
                    (Ok(_), _) => {}
                    (Err(IoError), _) => whole.failed = true,
                }
                if whole.left == 0 {
                    if let Some(whole) = self.wholes.remove(index) {
                        let read = whole.read.map(|read| Payload::whole(std::sync::Arc::new(read)));
                        let result = if whole.failed { Err(IoError) } else { Ok(read) };
                        self.out.push(Output::Complete { token: whole.token, result });
                    }
                }
            }
        }
    }

    /// Nothing can happen to a request any more: bitmap, activity log, log. spec/wire.md 7.3.
    fn leave(&mut self, id: u64) {
        let Some(mut request) = self.log.remove(id) else { return };
        if !request.is_write() {
            return;
        }
        let v = request.volume;
        let (sector, sectors) = (request.sector, request.sectors());
        let volume = &mut self.volumes[v];
        volume.writes.remove(id, sector);
        let size = volume.size;
        let state = volume.state;
        // What a target has the end of its resync brings to what the peer has, or it is of no generation.
        let mirrored = state.conn >= Conn::Connected && state.disk.min(state.pdsk) == Disk::UpToDate;
        let both = request.local_ok && request.net_ok && !request.peer_disk_went;
        if let Some(disk) = &mut volume.disk {
            if !both {
                if !request.in_sent_bitmap && !mutant!("not-marked-at-loss") {
                    disk.bitmap.set_sectors(sector, sectors);
                }
                disk.lacked_by_peer |= mirrored && request.replicated && !request.net_ok;
                disk.lacked_by_peer |= state.conn == Conn::StartingSyncS && !request.replicated;
            } else if request.set_in_sync {
                disk.bitmap.clear_sectors(sector, sectors, size);
            }
        }
        self.release_activity_log(&mut request);
        if request.set_in_sync {
            self.bits_cleared(v);
        }
        self.note_progress(v);
    }

    pub(super) fn release_activity_log(&mut self, request: &mut Request) {
        if std::mem::take(&mut request.in_activity_log) {
            if let Some(disk) = &mut self.volumes[request.volume].disk {
                disk.activity_log.put(*extents_of(request.sector, request.sectors().max(1)).start());
            }
        }
    }

    /// The peer acknowledged a write. spec/wire.md 5.8.
    pub(super) fn write_acknowledged(&mut self, id: u64, set_in_sync: bool) {
        let Some(request) = self.log.get_mut(id) else { return };
        let v = request.volume;
        request.net_queued = false;
        request.set_in_sync |= set_in_sync && !request.too_old_for_sync;
        if std::mem::take(&mut request.net_pending) {
            request.net_ok = true;
            self.volumes[v].counters.ap_pending -= 1;
        }
        self.advance(id);
    }

    /// The peer could not do a write: it is out of sync, and still counts in its epoch. spec/wire.md 5.8.
    pub(super) fn write_refused(&mut self, id: u64) {
        let Some(request) = self.log.get_mut(id) else { return };
        let v = request.volume;
        request.net_queued = false;
        request.net_ok = mutant!("refusal-taken-for-success");
        if std::mem::take(&mut request.net_pending) {
            self.volumes[v].counters.ap_pending -= 1;
        }
        self.mark_if_refused(id);
        self.advance(id);
    }

    /// Once the application knows of a write that the peer refused nobody sends it again, and its blocks are out of sync, though it may
    /// be long in the log: a target reads them from the peer from now on, whose content the resync brings.
    fn mark_if_refused(&mut self, id: u64) {
        if self.log.get(id).is_some_and(Request::is_refused) {
            self.mark_write(id);
        }
    }

    /// The peer's data for a read.
    pub(super) fn read_answered(&mut self, id: u64, payload: Option<Payload>) {
        let Some(request) = self.log.get_mut(id) else { return };
        let v = request.volume;
        if std::mem::take(&mut request.net_pending) {
            self.volumes[v].counters.ap_pending -= 1;
        }
        request.net_ok = payload.is_some();
        request.payload = payload;
        self.advance(id);
    }
}
