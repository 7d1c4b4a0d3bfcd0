//! Requests of the application, from admission to completion. spec/wire.md 7.1 and 7.3,
//! spec/core-walkthrough.md 2.1.
//!
//! What is durable before what: the activity log transaction before the data goes to the disk or
//! to the peer; the disk (and, by protocol, the peer) before the application hears of it; the
//! peer's flush (its barrier acknowledgement) before the activity log lets the extent go.

use super::activity_log::{extents_of, Get};
use super::request::{Completion, Kind, Request, Whole};
use super::rules::{self, ChangeKind, LocalRead};
use super::state::{Change, Conn, Disk};
use super::steps::Work;
use super::types::*;
use super::Resource;
use crate::conf::settings::{OnIoError, Protocol};
use crate::sys::buffer::Buffer;
use crate::wire::data::{Barrier, Data, DataFlags, RangeWrite};
use crate::wire::features::Features;
use crate::wire::packet::Packet;
use crate::wire::requests::{BlockDescription, BlockRequest};
use crate::wire::ProtocolVersion;
use crate::wire::Socket;

/// Requests in flight when no network configuration limits them.
const IN_FLIGHT_MAX: u32 = 1_000_000;

/// Requests are cut at multiples of this: no request spans two activity log extents.
const CUT_BYTES_MAX: u32 = 1 << 20;

impl Resource {
    /// The application writes. `sector` and the payload lie within the device.
    pub fn write(
        &mut self,
        now: Millis,
        v: VolumeIndex,
        token: Token,
        sector: u64,
        payload: Payload,
        fua: bool,
    ) {
        self.now = self.now.max(now);
        let bytes = payload.len() as u32;
        self.submit(v, token, Kind::Write { fua }, sector, bytes, Some(payload));
    }

    /// The application reads.
    pub fn read(&mut self, now: Millis, v: VolumeIndex, token: Token, sector: u64, bytes: u32) {
        self.now = self.now.max(now);
        self.submit(v, token, Kind::Read, sector, bytes, None);
    }

    /// The application discards a range; `zeroes`: it must read as zeroes then.
    ///
    /// A peer that cannot discard gets zeroes to write, or (a mere discard) nothing happens on
    /// either side: the two disks stay equal. spec/wire.md 5.5 and 5.6.
    pub fn discard(
        &mut self,
        now: Millis,
        v: VolumeIndex,
        token: Token,
        sector: u64,
        bytes: u32,
        zeroes: bool,
    ) {
        self.now = self.now.max(now);
        let features = self.connection.link.map_or(Features::ANNOUNCED, |link| link.features);
        let digests = self.net.as_ref().is_some_and(|net| !net.data_integrity_alg.is_empty());
        let wanted = if zeroes { Features::WZEROES } else { Features::TRIM };
        if features.contains(wanted) && !(zeroes && digests) {
            self.submit(v, token, Kind::Discard { zeroes }, sector, bytes, None);
        } else if zeroes {
            let payload = Payload::whole(std::sync::Arc::new(Buffer::zeroed(bytes as usize)));
            self.submit(v, token, Kind::Write { fua: false }, sector, bytes, Some(payload));
        } else {
            self.out.push(Output::Complete { token, result: Ok(None) });
        }
    }

    /// The application wants all that it heard of to be durable. spec/wire.md 7.1, "Empty flush".
    pub fn flush(&mut self, now: Millis, v: VolumeIndex, token: Token) {
        self.now = self.now.max(now);
        let replicates = rules::replicates(self.state(v));
        if replicates {
            self.epochs.close(self.now);
        }
        match self.usable_disk(v) {
            Some(disk) => {
                disk.in_use += 1;
                disk.flush_begins(Io::Flush(token));
                self.out.push(Output::DiskFlush { volume: v, io: Io::Flush(token) });
            }
            None => {
                let result = if replicates { Ok(None) } else { Err(IoError) };
                self.out.push(Output::Complete { token, result });
            }
        }
        self.settle();
    }

    fn submit(
        &mut self,
        v: VolumeIndex,
        token: Token,
        kind: Kind,
        sector: u64,
        bytes: u32,
        payload: Option<Payload>,
    ) {
        let boundary = self.cut_bytes();
        let first = (boundary - (sector * 512 % u64::from(boundary)) as u32).min(bytes);
        if first == bytes {
            let request = Request::new(v, kind, sector, bytes, payload, Completion::Application(token));
            self.admit(request);
        } else {
            self.submit_in_parts(v, token, kind, sector, bytes, payload, first);
        }
        self.settle();
    }

    /// How long a request may be, and at multiples of what it may not cross (spec/wire.md 12.8).
    fn cut_bytes(&self) -> u32 {
        self.connection.version.map_or(CUT_BYTES_MAX, ProtocolVersion::boundary_bytes).min(CUT_BYTES_MAX)
    }

    #[allow(clippy::too_many_arguments)]
    fn submit_in_parts(
        &mut self,
        v: VolumeIndex,
        token: Token,
        kind: Kind,
        sector: u64,
        bytes: u32,
        payload: Option<Payload>,
        first: u32,
    ) {
        let boundary = self.cut_bytes();
        let parts = 1 + (bytes - first).div_ceil(boundary);
        let read = (kind == Kind::Read).then(|| Buffer::zeroed(bytes as usize));
        let whole = self.wholes.insert(Whole { token, left: parts, failed: false, read });
        let (mut offset, mut len) = (0, first);
        while offset < bytes {
            let piece = payload.as_ref().map(|payload| payload.slice(offset as usize, len as usize));
            let completion = Completion::Part { whole, offset };
            self.admit(Request::new(v, kind, sector + u64::from(offset) / 512, len, piece, completion));
            offset += len;
            len = boundary.min(bytes - offset);
        }
    }

    /// A link with a smaller limit than was known when they came: requests that wait are cut again.
    pub(super) fn cut_waiting(&mut self) {
        let boundary = self.cut_bytes();
        for v in 0..self.volumes.len() {
            for request in std::mem::take(&mut self.volumes[v].waiting) {
                self.cut_again(request, boundary);
            }
        }
    }

    fn cut_again(&mut self, request: Request, boundary: u32) {
        let Request { volume, kind, sector, bytes, payload, completion, .. } = request;
        let mut len = (boundary - (sector * 512 % u64::from(boundary)) as u32).min(bytes);
        let more = (bytes - len).div_ceil(boundary);
        if more == 0 {
            let request = Request::new(volume, kind, sector, bytes, payload, completion);
            return self.volumes[volume].waiting.push_back(request);
        }
        let (whole, start) = match completion {
            Completion::Application(token) => {
                let read = (kind == Kind::Read).then(|| Buffer::zeroed(bytes as usize));
                (self.wholes.insert(Whole { token, left: 1 + more, failed: false, read }), 0)
            }
            Completion::Part { whole, offset } => {
                if let Some(whole) = self.wholes.get_mut(whole) {
                    whole.left += more;
                }
                (whole, offset)
            }
        };
        let mut offset = 0;
        while offset < bytes {
            let piece = payload.as_ref().map(|payload| payload.slice(offset as usize, len as usize));
            let part = Completion::Part { whole, offset: start + offset };
            let sector = sector + u64::from(offset) / 512;
            self.volumes[volume].waiting.push_back(Request::new(volume, kind, sector, len, piece, part));
            offset += len;
            len = boundary.min(bytes - offset);
        }
    }

    fn admit(&mut self, request: Request) {
        let v = request.volume;
        if let Err(request) = self.try_start(request) {
            self.volumes[v].waiting.push_back(*request);
            self.advance_activity_log(v);
        }
    }

    /// Starts what waits and can start now.
    pub(super) fn retry_waiting(&mut self) {
        for v in 0..self.volumes.len() {
            self.retry_peer_requests(v);
            if self.volumes[v].waiting.is_empty() {
                if !self.volumes[v].peer_extents.is_empty() {
                    self.advance_activity_log(v);
                }
                continue;
            }
            let waiting = std::mem::take(&mut self.volumes[v].waiting);
            for request in waiting {
                if let Err(request) = self.try_start(request) {
                    self.volumes[v].waiting.push_back(*request);
                }
            }
            self.advance_activity_log(v);
        }
    }

    /// Starts a request, or gives it back if it has to wait.
    fn try_start(&mut self, mut request: Request) -> Result<(), Box<Request>> {
        let v = request.volume;
        let volume = &self.volumes[v];
        let limit = self.net.as_ref().map_or(IN_FLIGHT_MAX, |net| net.max_buffers);
        let admitted = rules::may_accept_io(volume.state, self.apv())
            && !volume.bitmap_io
            && volume.counters.ap_in_flight < limit;
        if !admitted {
            return Err(Box::new(request));
        }
        request.started = self.now;
        if request.is_write() {
            self.start_write(request)
        } else if self.peer_writes_to(v, request.sector, request.sectors()) {
            // A Primary of a moment ago may have writes on their way to this disk (protocols A, B).
            Err(Box::new(request))
        } else {
            self.start_read(request);
            Ok(())
        }
    }

    fn start_write(&mut self, mut request: Request) -> Result<(), Box<Request>> {
        let v = request.volume;
        let (sector, sectors) = (request.sector, request.sectors());
        let volume = &mut self.volumes[v];
        let overlaps = |id: u64| self.log.get(id).is_some_and(|earlier| !earlier.completed);
        // A lock is on whole blocks.
        let (first, end) = (sector & !7, (sector + sectors).next_multiple_of(8));
        if volume.locks.any(first, end - first) || volume.writes.overlapping(sector, sectors).any(overlaps) {
            return Err(Box::new(request));
        }
        if self.peer_write_in_the_way(v, sector, sectors) {
            return Err(Box::new(request));
        }
        let volume = &mut self.volumes[v];
        let state = volume.state;
        let local = rules::has_disk(state);
        let replicated = rules::replicates(state);
        if !rules::may_write(state) || !(local || replicated) {
            self.fail_without_data(&request);
            return Ok(());
        }
        if local && !volume.disk.as_ref().is_some_and(|disk| disk.primary_mark_durable) {
            // After a crash nobody would look at the activity log.
            return Err(Box::new(request));
        }
        let use_log = local && !volume.al_suspended && volume.settings.al_updates;
        if let (true, false, Some(disk)) = (use_log, request.in_activity_log, &mut volume.disk) {
            let extent = *extents_of(sector, sectors.max(1)).start();
            if disk.activity_log.get(extent) == Get::Wait {
                return Err(Box::new(request));
            }
            request.in_activity_log = true;
        }
        if replicated && self.congested(v) {
            // The state changed: the decision is taken anew, with the reference given back.
            self.release_activity_log(&mut request);
            return self.start_write(request);
        }
        self.enter_log(request, local, replicated);
        Ok(())
    }

    /// Step 4 of the walk-through: the decision, the entry into the log, disk and peer at once.
    fn enter_log(&mut self, mut request: Request, local: bool, replicated: bool) {
        let v = request.volume;
        let (kind, sector, sectors, bytes) = (request.kind, request.sector, request.sectors(), request.bytes);
        let announces = rules::announces_out_of_sync(self.state(v), self.apv());
        request.local_pending = local;
        request.local_good = local && self.state(v).disk == Disk::UpToDate;
        request.net_good = self.state(v).pdsk == Disk::UpToDate;
        request.replicated = replicated;
        request.net_pending = replicated;
        request.net_queued = replicated;
        if replicated {
            request.epoch = self.epochs.add_write();
        } else {
            self.overtakes_older_writes(v, sector, sectors);
        }
        let mut newly_set = 0;
        if announces && !replicated {
            if let Some(disk) = self.usable_disk(v) {
                newly_set = disk.bitmap.set_sectors(sector, sectors);
            }
            request.announced = newly_set > 0;
            request.net_queued = newly_set > 0;
        }
        let payload = request.payload.clone();
        let id = self.log.push(request);
        let volume = &mut self.volumes[v];
        volume.counters.ap_in_flight += 1;
        volume.counters.ap_pending += u32::from(replicated);
        volume.writes.insert(id, sector, sectors);
        if replicated {
            let full = self.net.as_ref().is_some_and(|net| self.epochs.writes >= net.max_epoch_size);
            if self.fifo_is_idle() {
                self.emit_write(id);
            } else {
                self.queue_work(Work::SendWrite { id });
            }
            if full {
                self.epochs.close(self.now);
            }
        } else if newly_set > 0 {
            let description = BlockDescription { sector, size: bytes };
            self.send_with(v, Packet::OutOfSync(description), None, Some(id));
        }
        if local {
            let io = Io::Request(id);
            if let Some(disk) = &mut self.volumes[v].disk {
                disk.in_use += 1;
                disk.unflushed = true;
            }
            let counters = &mut self.volumes[v].counters;
            counters.local += 1;
            counters.written += sectors;
            match (kind, payload) {
                (Kind::Write { fua }, Some(payload)) => {
                    self.out.push(Output::DiskWrite { volume: v, io, sector, payload, fua });
                }
                (kind, _) => {
                    let zeroes = kind == (Kind::Discard { zeroes: true });
                    self.out.push(Output::DiskDiscard { volume: v, io, sector, bytes, zeroes });
                }
            }
        }
    }

    /// The peer does not get this write: one of before to the same blocks, whose epoch is still open, must
    /// not clear bits behind it.
    fn overtakes_older_writes(&mut self, v: VolumeIndex, sector: u64, sectors: u64) {
        let (first, end) = (sector & !7, (sector + sectors).next_multiple_of(8));
        for id in self.volumes[v].writes.overlapping(first, end - first) {
            if let Some(older) = self.log.get_mut(id) {
                older.set_in_sync = false;
                older.too_old_for_sync = true;
            }
        }
    }

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
        if let Some(number) = self.epochs.before_send(epoch, self.now) {
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
                let flags = DataFlags((flags.0 & !DataFlags::RW_SYNC.0) | flag.0);
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

    fn start_read(&mut self, mut request: Request) {
        let v = request.volume;
        let volume = &mut self.volumes[v];
        let in_sync = |disk: &super::volume::LocalDisk| {
            disk.bitmap.count_sectors(request.sector, request.sectors()) == 0
        };
        let local = match rules::local_read(volume.state) {
            LocalRead::Yes => volume.disk.is_some(),
            LocalRead::IfInSync => !volume.bitmap_lacks_peers && volume.disk.as_ref().is_some_and(in_sync),
            LocalRead::No => false,
        };
        let (sector, bytes, sectors) = (request.sector, request.bytes, request.sectors());
        if local {
            request.local_pending = true;
            let id = self.log.push(request);
            let volume = &mut self.volumes[v];
            volume.counters.ap_in_flight += 1;
            volume.counters.local += 1;
            volume.counters.read += sectors;
            if let Some(disk) = &mut volume.disk {
                disk.in_use += 1;
            }
            self.out.push(Output::DiskRead { volume: v, io: Io::Request(id), sector, bytes });
        } else if rules::remote_read(volume.state) {
            request.net_pending = true;
            let id = self.log.push(request);
            self.volumes[v].counters.ap_in_flight += 1;
            self.read_remotely(id);
        } else {
            self.fail_without_data(&request);
        }
    }

    /// Asks the peer for the data of a read.
    fn read_remotely(&mut self, id: u64) {
        let now = self.now;
        let Some(request) = self.log.get_mut(id) else { return };
        request.net_pending = true;
        request.net_sent = true;
        request.sent_at = now;
        let (v, sector, size) = (request.volume, request.sector, request.bytes);
        self.volumes[v].counters.ap_pending += 1;
        self.arm_request_check();
        self.send(v, Packet::DataRequest(BlockRequest { sector, block_id: id, size }));
    }

    /// Neither this node nor the peer has the data.
    fn fail_without_data(&mut self, request: &Request) {
        let text = format!(
            "IO ERROR: neither local nor remote data, sector {}+{}",
            request.sector,
            request.sectors()
        );
        self.error(Some(request.volume), text);
        self.report(request.completion, Err(IoError));
    }

    /// The disk is done with an application request.
    pub(super) fn request_io_done(&mut self, v: VolumeIndex, id: u64, result: IoResult) {
        let volume = &mut self.volumes[v];
        volume.counters.local -= 1;
        if let Some(disk) = &mut volume.disk {
            disk.in_use -= 1;
        }
        let without_good_data = (Disk::Inconsistent..=Disk::Outdated).contains(&volume.state.disk);
        let Some(request) = self.log.get_mut(id) else { return };
        request.local_pending = false;
        match result {
            IoResult::Done(payload) => {
                request.local_ok = true;
                request.local_good &= !without_good_data;
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
        let Some(disk) = &mut self.volumes[v].disk else { return };
        disk.bitmap.set_sectors(sector, sectors);
        disk.read_error |= !write;
        let state = self.state(v);
        match self.volumes[v].settings.on_io_error {
            OnIoError::PassOn => {
                self.error(Some(v), "Local IO failed in drbd_request_endio.");
                if state.disk > Disk::Inconsistent {
                    let _ = self.change(v, Change::disk(Disk::Inconsistent), ChangeKind::Hard, false);
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
        // In protocol A `net_ok` only says that TCP has it.
        let peer_has_it = request.net_ok && (request.net_done || !self.is_asynchronous());
        let held = volume.uuid_hold && request.is_write() && !peer_has_it;
        if request.may_complete() && !held && (released || !volume.state.is_susp()) {
            self.complete(id);
        }
        if self.log.get(id).is_some_and(Request::may_leave) {
            self.leave(id);
        }
    }

    fn complete(&mut self, id: u64) {
        let (now, asynchronous) = (self.now, self.is_asynchronous());
        let Some(request) = self.log.get_mut(id) else { return };
        let v = request.volume;
        let write = request.is_write();
        // Data that are only on a disk without good data will be overwritten by the next resync.
        let disk = self.volumes[v].state.disk;
        let kept = disk == Disk::UpToDate || (request.local_good && disk < Disk::Inconsistent);
        let mirrored = request.net_good || self.volumes[v].state.pdsk == Disk::UpToDate;
        let ok = request.net_ok && (mirrored || !write) || request.local_ok && (kept || !write);
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
        self.volumes[v].counters.ap_in_flight -= 1;
        self.report(completion, if ok { Ok(payload) } else { Err(IoError) });
        self.note_progress(v);
    }

    /// Protocol A: the peer answers no single write.
    fn is_asynchronous(&self) -> bool {
        self.net.as_ref().is_some_and(|net| net.protocol == Protocol::A)
    }

    /// Something that others may wait for is over.
    pub(super) fn note_progress(&mut self, v: VolumeIndex) {
        let volume = &self.volumes[v];
        self.wake |= !volume.waiting.is_empty()
            || !volume.peer_extents.is_empty()
            || !volume.blocked_peer_requests.is_empty();
    }

    /// Tells the application, or the whole that a request is a part of.
    fn report(&mut self, completion: Completion, result: Result<Option<Payload>, IoError>) {
        match completion {
            Completion::Application(token) => self.out.push(Output::Complete { token, result }),
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
        let both = request.local_ok && request.net_ok && !request.peer_disk_went;
        if let Some(disk) = &mut volume.disk {
            if !both {
                if !request.in_sent_bitmap {
                    disk.bitmap.set_sectors(sector, sectors);
                }
            } else if request.set_in_sync {
                disk.bitmap.clear_sectors(sector, sectors, size);
            }
        }
        self.release_activity_log(&mut request);
        if both && request.set_in_sync {
            self.bits_cleared(v);
        }
        self.note_progress(v);
    }

    /// The two bitmaps are about to be exchanged: a write of before must not clear bits behind it on
    /// this side only, or the source would wait for a request of these blocks for ever.
    pub(super) fn bitmaps_will_be_exchanged(&mut self, v: VolumeIndex) {
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
        self.log.iter().any(|(_, request)| {
            request.volume == v && request.is_write() && request.replicated && !request.net_done
        })
    }

    /// Whether a request may still change something: more than a freeze holds it back.
    pub(super) fn has_requests_under_way(&self, v: VolumeIndex) -> bool {
        self.log.iter().any(|(_, r)| r.volume == v && !r.completed && !r.may_complete())
    }

    /// Frozen writes, and a resync from this node will come: the peer gets them with it, see
    /// [`add_writes_to_bitmap`](Self::add_writes_to_bitmap).
    pub(super) fn leave_to_resync(&mut self, v: VolumeIndex) {
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
        let waits_for_disk = self.net.as_ref().is_some_and(|net| net.protocol == Protocol::C);
        let Some(disk) = &mut self.volumes[v].disk else { return };
        for id in self.log.ids() {
            let Some(request) = self.log.get_mut(id) else { continue };
            // In protocols A and B the peer may still say that it could not write it.
            let answered = request.net_ok && (waits_for_disk || request.net_done);
            let certain = request.local_ok && answered && !request.peer_disk_went;
            if request.volume == v && request.is_write() && !certain {
                disk.bitmap.set_sectors(request.sector, request.sectors());
                request.in_sent_bitmap = source;
            }
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

    fn release_activity_log(&mut self, request: &mut Request) {
        if std::mem::take(&mut request.in_activity_log) {
            if let Some(disk) = &mut self.volumes[request.volume].disk {
                disk.activity_log.put(*extents_of(request.sector, request.sectors().max(1)).start());
            }
        }
    }

    /// Completes what waited only for something that is over now.
    pub(super) fn complete_ready(&mut self) {
        for id in self.log.ids() {
            self.advance(id);
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

    /// The peer could not do a write: it is out of sync, and still counts in its epoch.
    pub(super) fn write_refused(&mut self, id: u64) {
        let Some(request) = self.log.get_mut(id) else { return };
        let v = request.volume;
        request.net_queued = false;
        request.net_ok = false;
        if std::mem::take(&mut request.net_pending) {
            self.volumes[v].counters.ap_pending -= 1;
        }
        self.advance(id);
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

    /// Sends again what the peer has not acknowledged: spec/wire.md 7.6, RESEND.
    ///
    /// `target`: a resync to this node follows. What the peer acknowledged, and may have lost with its
    /// cache, is then sent again, or at least marked; without a resync the acknowledgement has to do.
    pub(super) fn resend_transfer_log(&mut self, v: VolumeIndex, target: bool) {
        let acknowledged_counts = !target && !self.is_asynchronous();
        for id in self.log.ids() {
            let Some(request) = self.log.get_mut(id).filter(|request| request.volume == v) else { continue };
            if !request.is_write() {
                if request.net_pending {
                    let v = request.volume;
                    self.volumes[v].counters.ap_pending -= 1;
                    self.read_remotely(id);
                }
            } else if request.replicated && !request.net_pending && acknowledged_counts {
                request.net_done = true;
                self.advance_with(id, true);
            } else if request.replicated && request.payload.is_none() && request.has_payload() {
                // Too late to send it again: it goes with a resync.
                self.peer_part_lost(id);
                self.advance_with(id, true);
            } else if request.replicated {
                request.epoch = self.epochs.add_write();
                let Some(request) = self.log.get_mut(id) else { continue };
                request.net_queued = true;
                self.queue_work(Work::SendWrite { id });
            }
        }
        self.epochs.close(self.now);
    }

    /// Protocol A with a slow link: whether this write is one too many (spec/resync.md 11).
    fn congested(&mut self, v: VolumeIndex) -> bool {
        use crate::conf::settings::OnCongestion;
        let Some(net) = &self.net else { return false };
        let policy = net.on_congestion;
        let has_ahead = self.connection.version.is_some_and(|version| version.has_out_of_sync());
        let state = self.state(v);
        if policy == OnCongestion::Block
            || !has_ahead
            || state.disk != Disk::UpToDate
            || state.conn == Conn::Ahead
        {
            return false;
        }
        let (fill, extents) = (u64::from(net.congestion_fill), net.congestion_extents);
        let used = self.volumes[v].disk.as_ref().map_or(0, |disk| disk.activity_log.used());
        if fill > 0 && self.connection.in_flight_sectors >= fill {
            self.info(Some(v), "Congestion-fill threshold reached");
        } else if used >= extents {
            self.info(Some(v), "Congestion-extents threshold reached");
        } else {
            return false;
        }
        self.epochs.close(self.now);
        let conn = if policy == OnCongestion::PullAhead { Conn::Ahead } else { Conn::Disconnecting };
        self.change(v, Change::conn(conn), ChangeKind::Soft, false).is_ok()
    }
}
