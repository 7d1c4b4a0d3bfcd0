//! Requests of the application, until disk and peer have them. spec/wire.md 7.1,
//! spec/core-walkthrough.md 2.1.
//!
//! What is durable before what: the mark of a Primary and the activity log transaction before the data go
//! to the disk or to the peer.

use super::activity_log::{extents_of, Get};
use super::request::{Completion, Kind, Request, Whole};
use super::rules::{self, ChangeKind, LocalRead};
use super::state::{Change, Conn, Disk};
use super::steps::Work;
use super::types::*;
use super::Resource;
use crate::sys::buffer::Buffer;
use crate::wire::features::Features;
use crate::wire::packet::Packet;
use crate::wire::requests::{BlockDescription, BlockRequest};
use crate::wire::ProtocolVersion;

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

    fn submit(
        &mut self,
        v: VolumeIndex,
        token: Token,
        kind: Kind,
        sector: u64,
        bytes: u32,
        payload: Option<Payload>,
    ) {
        let request = Request::new(v, kind, sector, bytes, payload, Completion::Application(token));
        self.cut(request, self.cut_bytes(), Self::admit);
        self.settle();
    }

    /// How long a request may be, and at multiples of what it may not cross (spec/wire.md 12.8).
    fn cut_bytes(&self) -> u32 {
        self.connection.version.map_or(CUT_BYTES_MAX, ProtocolVersion::boundary_bytes).min(CUT_BYTES_MAX)
    }

    /// A link with a smaller limit than was known when they came: requests that wait are cut again.
    pub(super) fn cut_waiting(&mut self) {
        let boundary = self.cut_bytes();
        for v in 0..self.volumes.len() {
            for request in std::mem::take(&mut self.volumes[v].waiting) {
                self.cut(request, boundary, |core, part| core.volumes[part.volume].waiting.push_back(part));
            }
        }
    }

    /// Hands a request on to `each`, in parts if it crosses a multiple of `boundary` bytes.
    fn cut(&mut self, request: Request, boundary: u32, each: fn(&mut Resource, Request)) {
        let Request { volume, kind, sector, bytes, payload, completion, .. } = request;
        let mut len = (boundary - (sector * 512 % u64::from(boundary)) as u32).min(bytes);
        let more = (bytes - len).div_ceil(boundary);
        if more == 0 {
            return each(self, Request::new(volume, kind, sector, bytes, payload, completion));
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
            each(self, Request::new(volume, kind, sector + u64::from(offset) / 512, len, piece, part));
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
            self.request_reserved(v);
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

    /// Whether requests of the application are let in now. Else they wait, and the status says so.
    pub fn admits_io(&self, v: VolumeIndex) -> bool {
        let volume = &self.volumes[v];
        let limit = self.net.as_ref().map_or(IN_FLIGHT_MAX, |net| net.max_buffers);
        self.state_admits_io(v) && volume.counters.ap_in_flight < limit
    }

    /// The same, whatever is in flight.
    pub(super) fn state_admits_io(&self, v: VolumeIndex) -> bool {
        let volume = &self.volumes[v];
        rules::may_accept_io(volume.state, self.apv())
            && !self.peer_does_not_know(v)
            && !volume.generation_awaits_peer
            && !volume.bitmap_io
    }

    /// This node is the source of a resync, and the peer, which calls its disk UpToDate, has not said yet that it has heard of that. If
    /// the link is lost it may never hear of it, and be promoted when this node is fenced: without the writes that do not go to it
    /// from now on. (DRBD goes on.)
    fn peer_does_not_know(&self, v: VolumeIndex) -> bool {
        let volume = &self.volumes[v];
        matches!(volume.state.conn, Conn::StartingSyncS | Conn::WFBitMapS)
            && volume.peer_told == Disk::UpToDate
    }

    /// Starts a request, or gives it back if it has to wait.
    fn try_start(&mut self, mut request: Request) -> Result<(), Box<Request>> {
        let v = request.volume;
        if !self.admits_io(v) {
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
        let locked = volume.locks.any(first, end - first) && !mutant!("resync-locks-ignored");
        if locked || volume.writes.overlapping(sector, sectors).any(overlaps) {
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
            if let (true, Some(disk)) = (request.done_before, &mut volume.disk) {
                // The peer lacks it: it refused it then.
                disk.bitmap.set_sectors(sector, sectors);
            }
            self.release_activity_log(&mut request);
            self.fail_without_data(&request);
            return Ok(());
        }
        let marked = volume.disk.as_ref().is_some_and(|disk| disk.primary_mark_durable);
        if local && !marked && !mutant!("primary-mark-lost") {
            // After a crash nobody would look at the activity log.
            return Err(Box::new(request));
        }
        let use_log = local && !volume.al_suspended && volume.settings.al_updates;
        let use_log = use_log && !mutant!("log-not-used");
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
        request.net_good = self.state(v).pdsk == Disk::UpToDate;
        request.replicated = replicated;
        request.net_pending = replicated;
        request.net_queued = replicated;
        if replicated {
            request.epoch = self.epochs.add_write();
        } else {
            self.overtakes_older_writes(v, self.log.newest(), sector, sectors);
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
            counters.application += sectors;
            match (kind, payload) {
                (Kind::Write { fua }, Some(payload)) => {
                    self.out.push(Output::DiskWrite { volume: v, io, sector, payload, fua });
                }
                (kind, _) => {
                    let zeroes = kind == (Kind::Discard { zeroes: true });
                    let how = if zeroes { Clearing::Zero } else { Clearing::Discard };
                    self.out.push(Output::DiskDiscard { volume: v, io, sector, bytes, how });
                }
            }
        }
    }

    /// The peer does not get a write, or one of the disks did not do it: those to the same blocks up to the request `newest`, whose epochs
    /// are still open, must not clear bits behind it.
    pub(super) fn overtakes_older_writes(&mut self, v: VolumeIndex, newest: u64, sector: u64, sectors: u64) {
        let (first, end) = (sector & !7, (sector + sectors).next_multiple_of(8));
        for id in self.volumes[v].writes.overlapping(first, end - first) {
            if let Some(older) = self.log.get_mut(id).filter(|_| id <= newest) {
                older.set_in_sync = false;
                older.too_old_for_sync = true;
            }
        }
    }

    fn start_read(&mut self, mut request: Request) {
        let v = request.volume;
        let volume = &mut self.volumes[v];
        let in_sync = |disk: &super::volume::LocalDisk| {
            let marked = disk.bitmap.count_sectors(request.sector, request.sectors()) > 0;
            !marked || mutant!("inconsistent-disk-read")
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
            volume.counters.application += sectors;
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
    pub(super) fn read_remotely(&mut self, id: u64) {
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
            || self.leaves_peer_unasked(v, Change::conn(Conn::Ahead))
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
