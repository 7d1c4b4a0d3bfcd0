//! Packets of the peer, one after the other. spec/wire.md 5.7 and 5.8.
//!
//! The data socket is read strictly in order. Where a packet has to wait for something (the disk
//! before a barrier's acknowledgement, the own state before a sync UUID), [`Resource::receiver_ready`]
//! says no until it is over. The meta socket never waits.

use super::connection::Phase;
use super::epochs::WrongBarrierAck;
use super::log_lines;
use super::peer_write::{PeerKind, PeerWrite};
use super::resync::Answer;
use super::state::{Conn, Disk, StateWord};
use super::types::*;
use super::uuid::{self, without_role, PeerUuids, UuidFlags, Uuids};
use super::Resource;
use crate::sys::buffer::Buffer;
use crate::wire::acks::BlockAck;
use crate::wire::bitmap_code::{self, Direction};
use crate::wire::data::RangeWrite;
use crate::wire::features::Features;
use crate::wire::packet::Packet;
use crate::wire::parameters::Sizes;
use crate::wire::Release;
use crate::wire::Socket;
use crate::wire::ID_SYNCER;
use crate::wire::{Malformed, ProtocolVersion};

/// Why the data socket is not read.
#[derive(Debug, PartialEq)]
pub enum Hold {
    /// A barrier came: writes of its epoch are still at the disk.
    Drain,
    /// They are done; their disks are being flushed.
    Flush,
    /// A sync UUID came before this node waited for one.
    SyncUuid { v: VolumeIndex, uuid: u64 },
    /// A write of the peer overtook acknowledgements on the other socket.
    Early(Box<super::conflicts::Early>),
    /// A handler runs before a resync.
    ResyncStart,
    /// P_SIZES came: the size of the own disk is asked for, or the new size is being written.
    Sizes { v: VolumeIndex, sizes: Sizes },
    /// The super block of a sync target is being written.
    TargetReady { v: VolumeIndex },
    /// The sync handshake waits for a handler or the disk.
    Handshake(Box<super::handshake::HandshakeRun>),
    /// The end of a handshake waits until the peer has answered the ping with this number.
    Presence { heard: Box<super::handshake::Heard>, ping: u64 },
}

impl Resource {
    /// Whether the next packet of the data socket may be read.
    pub fn receiver_ready(&self) -> bool {
        let limit = self.net.as_ref().map_or(0, |net| u64::from(net.max_buffers) * 4096);
        self.connection.phase == Phase::Up && self.hold.is_none() && self.peer_bytes <= limit
    }

    /// A packet arrived. Its integrity digest, if any, was right.
    pub fn packet(
        &mut self,
        now: Millis,
        socket: Socket,
        volume: u16,
        packet: Packet,
        payload: Option<Payload>,
    ) {
        self.now = self.now.max(now);
        if self.connection.phase != Phase::Up {
            return;
        }
        self.connection.last_received = self.now;
        match socket {
            Socket::Data => {
                let name = self.log_name(&packet);
                let bytes = payload.as_ref().map_or(0, |payload| payload.len());
                self.connection.receiving = Some((name, bytes));
                self.data_packet(volume, packet, payload);
            }
            Socket::Meta => self.meta_packet(volume, packet),
        }
        self.settle();
    }

    fn log_name(&self, packet: &Packet) -> &'static str {
        let version = self.connection.version.unwrap_or(ProtocolVersion::MAX);
        packet.command(version).log_name(Release::V84)
    }

    fn data_packet(&mut self, volume: u16, packet: Packet, payload: Option<Payload>) {
        let in_bitmap = matches!(packet, Packet::Bitmap | Packet::CompressedBitmap);
        if self.bitmap_receive.is_some() && !in_bitmap && !self.bitmap_ends_early() {
            self.protocol_error(None, "receive_bitmap: cmd neither ReportBitMap nor ReportCBitMap");
            return;
        }
        match packet {
            Packet::Protocol(protocol) => return self.receive_protocol(protocol),
            Packet::ProtocolUpdate(protocol) => return self.receive_protocol_update(protocol),
            Packet::Barrier(barrier) => return self.receive_barrier(barrier.number),
            Packet::UnplugRemote | Packet::DelayProbe(_) => return,
            Packet::ConnectionStateChangeRequest(request) => {
                return self.receive_state_change_request(None, request, true);
            }
            _ => {}
        }
        let Some(v) = self.volume_of_packet(volume) else {
            let parameters = matches!(
                packet,
                Packet::State(_) | Packet::Sizes(_) | Packet::Uuids(_) | Packet::SyncParam(_)
            );
            let name = self.log_name(&packet);
            let text = format!("{name} packet received for volume {volume}, which is not configured locally");
            if parameters {
                self.warning(None, text);
            } else {
                self.protocol_error(None, text);
            }
            return;
        };
        match packet {
            Packet::Data(data) => {
                let bytes = payload.as_ref().map_or(0, |payload| payload.len() as u32);
                let (sector, block_id, seq, flags) = (data.sector, data.block_id, data.seq, data.flags);
                self.peer_wrote(v, PeerWrite { sector, bytes, block_id, seq, flags, payload, zeroes: None });
            }
            Packet::Trim(range) => {
                // Without the feature a discard must read back as zeroes.
                let features = self.connection.link.map_or(Features::NONE, |link| link.features);
                self.receive_range(v, range, !features.contains(Features::WZEROES));
            }
            Packet::Zeroes(range) => self.receive_range(v, range, true),
            Packet::WriteSame(range) => self.receive_write_same(v, range, payload),
            Packet::DataReply(reply) => {
                if self.log.get(reply.block_id).is_some_and(|r| r.net_pending && r.sector == reply.sector) {
                    self.volumes[v].counters.received += payload.as_ref().map_or(0, |p| p.len() as u64 / 512);
                    self.read_answered(reply.block_id, payload);
                } else {
                    self.protocol_error(Some(v), "receive_DataReply: failed to find request");
                }
            }
            Packet::RsDataReply(reply) => {
                let bytes = payload.as_ref().map_or(0, |payload| payload.len() as u32);
                self.resync_data(v, reply.sector, bytes, payload);
            }
            Packet::RsDeallocated(range) => self.resync_data(v, range.sector, range.size, None),
            Packet::DataRequest(r) => self.peer_reads(v, r.sector, r.size, r.block_id),
            Packet::RsDataRequest(r) => {
                let kind = PeerKind::ResyncRead { thin: false, digest: None };
                self.peer_wants_block(v, r.sector, r.size, r.block_id, kind);
            }
            Packet::RsThinRequest(r) => {
                let kind = PeerKind::ResyncRead { thin: true, digest: None };
                self.peer_wants_block(v, r.sector, r.size, r.block_id, kind);
            }
            Packet::CsumRsRequest(r) => {
                self.volumes[v].resync.used_checksums = true;
                let kind = PeerKind::ResyncRead { thin: false, digest: Some(r.digest) };
                self.peer_wants_block(v, r.sector, r.size, r.block_id, kind);
            }
            Packet::OvRequest(r) => {
                self.verify_requested(v, r.sector);
                self.peer_wants_block(v, r.sector, r.size, r.block_id, PeerKind::VerifyDigest);
            }
            Packet::OvReply(r) => {
                self.reply_arrived(v, u64::from(r.size) / 512);
                if self.within_device(v, r.sector, r.size) {
                    let kind = PeerKind::VerifyCompare { digest: r.digest };
                    self.add_peer_request(v, kind, r.sector, r.size, r.block_id, None);
                }
            }
            Packet::Bitmap => self.receive_bitmap(v, payload, false),
            Packet::CompressedBitmap => self.receive_bitmap(v, payload, true),
            Packet::SyncParam(parameters) => self.receive_sync_param(v, parameters),
            Packet::Sizes(sizes) => self.receive_sizes(v, sizes),
            Packet::Uuids(uuids) => self.receive_uuids(v, uuids),
            Packet::State(word) => self.receive_state(v, word),
            Packet::SyncUuid(uuid) => self.hold = Some(Hold::SyncUuid { v, uuid }),
            Packet::StateChangeRequest(request) => self.receive_state_change_request(Some(v), request, false),
            Packet::OutOfSync(range) => self.receive_out_of_sync(v, range.sector, range.size),
            other => {
                let malformed = self.unexpected(Socket::Data, &other);
                self.protocol_error(None, malformed.to_string());
            }
        }
    }

    /// A packet that is not expected after the handshake.
    fn unexpected(&self, socket: Socket, packet: &Packet) -> Malformed {
        let version = self.connection.version.unwrap_or(ProtocolVersion::MAX);
        Malformed::UnexpectedPacket { socket, number: packet.command(version).number() }
    }

    fn receive_range(&mut self, v: VolumeIndex, range: RangeWrite, zeroes: bool) {
        let RangeWrite { sector, block_id, seq, flags, size } = range;
        let write =
            PeerWrite { sector, bytes: size, block_id, seq, flags, payload: None, zeroes: Some(zeroes) };
        self.peer_wrote(v, write);
    }

    /// P_WSAME: one block, to be written all over the range.
    fn receive_write_same(&mut self, v: VolumeIndex, range: RangeWrite, block: Option<Payload>) {
        let Some(block) = block.filter(|block| !block.is_empty() && range.size as usize % block.len() == 0)
        else {
            self.protocol_error(Some(v), "P_WSAME: the block does not divide the range");
            return;
        };
        if range.size > crate::wire::BIO_BYTES_MAX {
            self.protocol_error(Some(v), "P_WSAME: the range is too long");
            return;
        }
        let mut bytes = Buffer::zeroed(range.size as usize);
        for piece in bytes.chunks_exact_mut(block.len()) {
            piece.copy_from_slice(&block);
        }
        let RangeWrite { sector, block_id, seq, flags, size } = range;
        let payload = Some(Payload::whole(std::sync::Arc::new(bytes)));
        self.peer_wrote(v, PeerWrite { sector, bytes: size, block_id, seq, flags, payload, zeroes: None });
    }

    /// P_OUT_OF_SYNC. A node whose disk goes, or went, meanwhile is in no resync any more, which the peer
    /// has not heard of.
    fn receive_out_of_sync(&mut self, v: VolumeIndex, sector: u64, bytes: u32) {
        let StateWord { conn, disk: own, .. } = self.state(v);
        let Some(disk) = &mut self.volumes[v].disk else { return };
        disk.bitmap.set_sectors(sector, u64::from(bytes) / 512);
        // A disk that is being attached may meet what was sent for the one before.
        if own > Disk::Negotiating && !matches!(conn, Conn::WFSyncUUID | Conn::WFBitMapT | Conn::Behind) {
            let text = format!("ASSERT FAILED cstate = {conn}, expected: WFSyncUUID|WFBitMapT|Behind");
            self.error(Some(v), text);
        }
    }

    fn receive_barrier(&mut self, number: u32) {
        self.peer_epochs.barrier(number);
        let ordered = self.volumes().any(|(_, volume)| {
            volume.disk.is_some()
                && (volume.settings.disk_flushes
                    || volume.settings.disk_drain
                    || volume.settings.disk_barrier)
        });
        if ordered {
            self.hold = Some(Hold::Drain);
        } else {
            self.peer_epochs.begin();
            self.finish_epochs();
        }
    }

    /// Goes on with what the receiver waits for, if it can. True: something was done.
    pub(super) fn run_hold(&mut self) -> bool {
        match self.hold {
            Some(Hold::Drain) if !self.peer_epochs.any_active() || mutant!("barrier-not-awaited") => {
                if !self.peer_epochs.flush_has_begun() {
                    self.flush_epoch();
                }
                self.hold = Some(Hold::Flush);
                true
            }
            Some(Hold::Flush) if self.epoch_flushes == 0 && self.connection.phase == Phase::Up => {
                self.hold = None;
                self.peer_epochs.begin();
                self.finish_epochs();
                true
            }
            Some(Hold::SyncUuid { v, uuid }) => {
                let state = self.state(v);
                let sends_bitmap = matches!(self.bitmap_send, Some((of, _)) if of == v);
                if matches!(state.conn, Conn::WFSyncUUID | Conn::Behind) {
                    self.hold = None;
                    self.take_sync_uuid(v, uuid);
                    true
                } else if self.is_source_of_new_space(v) {
                    if !self.yield_new_space(v) {
                        self.hold = None;
                    }
                    true
                } else if state.conn < Conn::Connected
                    || state.conn == Conn::WFBitMapT && !sends_bitmap
                    || state.disk <= Disk::Negotiating
                    || state.pdsk < Disk::Inconsistent
                    || self.volumes[v].peer_disk_let_go
                {
                    // Or when the nodes have begun to exchange bitmaps since: the source's comes behind this packet, which was of a resync that is over.
                    // Also when the source gave its disk up: it began the resync before it had this
                    // node's consent, and this node will not wait for its sync UUID any more, whatever a word of the source says that crossed the
                    // consent. And when the own disk went meanwhile, and is back: what decides about it comes behind this packet.
                    self.hold = None;
                    true
                } else {
                    false
                }
            }
            Some(Hold::Early(_)) => self.run_early(),
            Some(Hold::Presence { ref heard, ping })
                if ping <= self.connection.pings.1 && self.connection.phase == Phase::Up =>
            {
                let heard = **heard;
                self.hold = None;
                self.peer_is_present(heard);
                true
            }
            _ => false,
        }
    }

    /// The disks are flushed for the current epoch of the peer, none of whose writes is at a disk any more.
    fn flush_epoch(&mut self) {
        self.peer_epochs.flush_begins();
        if mutant!("barrier-not-flushed") {
            return;
        }
        for v in self.volume_indices() {
            self.flush_for_epoch(v);
        }
    }

    /// Whether what the peer wrote here may be in the cache of the disk still.
    pub(super) fn holds_unflushed_writes_of_peer(&self, v: VolumeIndex) -> bool {
        self.epoch_flushes > 0 || self.volumes[v].disk.as_ref().is_some_and(|disk| disk.peer_needs_flush)
    }

    /// Flushes the disk if the peer's writes since the last flush went to it.
    pub(super) fn flush_for_epoch(&mut self, v: VolumeIndex) {
        let flushes = self.data_needs_flushes(v);
        let Some(disk) = self.volumes[v].disk.as_mut().filter(|disk| flushes && disk.peer_needs_flush) else {
            return;
        };
        disk.peer_needs_flush = false;
        disk.in_use += 1;
        disk.flush_begins(Io::EpochFlush);
        self.epoch_flushes += 1;
        self.out.push(Output::DiskFlush { volume: v, io: Io::EpochFlush });
    }

    /// With one write at a time the flush for its epoch need not wait for the barrier, which comes with the
    /// next write: it is done while the peer's application thinks about that.
    pub(super) fn flush_early(&mut self) {
        if self.hold.is_none() && self.epoch_flushes == 0 && self.peer_epochs.is_likely_over() {
            self.flush_epoch();
        }
    }

    /// The disk flushed for an epoch.
    pub(super) fn epoch_flushed(&mut self, v: VolumeIndex, ok: bool) {
        if let Some(disk) = &mut self.volumes[v].disk {
            disk.in_use -= 1;
            disk.flush_ended(Io::EpochFlush, ok);
        }
        self.epoch_flushes -= 1;
        if !ok {
            self.local_error(v, 0, 0, true);
            self.lose_epoch();
        }
    }

    /// Writes that the peer has the acknowledgements of cannot be made durable. It must not take them for durable:
    /// only the loss of the link makes it mark the blocks of an epoch that was not acknowledged. The news of the
    /// disk would not do: they come on the other socket, and may be later than P_BARRIER_ACK.
    pub(super) fn lose_epoch(&mut self) {
        let log = (Level::Error, "flush of an epoch failed, triggering re-connect".to_owned());
        self.lose_link(LinkFailure { conn: Conn::NetworkFailure, log: Some(log) });
    }

    /// The fifo reached what the receiver waits for.
    pub(super) fn receiver_step_done(&mut self) {
        match self.hold.take() {
            Some(Hold::TargetReady { v }) => self.target_ready(v),
            Some(Hold::Handshake(run)) => {
                self.hold = Some(Hold::Handshake(run));
                self.handshake_step_done(true);
            }
            other => self.hold = other,
        }
    }

    /// A10: nothing of the application is in flight, the bitmap goes out.
    pub(super) fn begin_bitmap_send(&mut self, v: VolumeIndex) {
        self.add_writes_to_bitmap(v, true);
        self.send_bitmap(v);
    }

    /// Sends the bitmap; the fifo waits.
    pub(super) fn send_bitmap(&mut self, v: VolumeIndex) {
        let version = self.connection.version.filter(|_| self.connection.phase == Phase::Up);
        let (Some(version), Some(disk)) = (version, &self.volumes[v].disk) else {
            self.volumes[v].bitmap_io = false;
            return;
        };
        let use_rle = self.net.as_ref().is_some_and(|net| net.use_rle);
        self.bitmap_send = Some((v, bitmap_code::Sender::new(disk.bitmap.bits(), version, use_rle)));
        self.fifo_wait = Some(super::steps::FifoWait::BitmapSend(v));
        self.out.push(Output::SendBitmap { volume: v });
    }

    /// The next packet of a bitmap transfer; `None`: that was the last one.
    pub fn next_bitmap_packet(&mut self, now: Millis, v: VolumeIndex) -> Option<(Packet, Payload)> {
        self.now = self.now.max(now);
        if let Some((_, sender)) = &mut self.bitmap_send {
            let mut bytes = Vec::new();
            // The disk may have gone in the middle. The peer waits for the rest, and gets one without bits.
            let packet = match &self.volumes[v].disk {
                Some(disk) => sender.next_packet(&disk.bitmap, &mut bytes),
                None => sender.next_packet(&super::bitmap::Bitmap::new(0), &mut bytes),
            };
            if let Some(packet) = packet {
                return Some((packet, Payload::whole(std::sync::Arc::new(Buffer::from_bytes(&bytes)))));
            }
        }
        self.bitmap_sent(v);
        self.settle();
        None
    }

    fn bitmap_sent(&mut self, v: VolumeIndex) {
        let Some((_, sender)) = self.bitmap_send.take() else { return };
        let bits = self.volumes[v].disk.as_ref().map_or(0, |disk| disk.bitmap.bits());
        self.log_bitmap_statistics(v, sender.statistics(), Direction::Send, bits);
        self.volumes[v].bitmap_io = false;
        self.wake = true;
        if self.fifo_wait == Some(super::steps::FifoWait::BitmapSend(v)) {
            self.fifo_wait = None;
        }
        if self.state(v).conn == Conn::WFBitMapT {
            let change = super::state::Change::conn(Conn::WFSyncUUID);
            let _ = self.change(v, change, super::rules::ChangeKind::Soft, true);
        }
    }

    fn log_bitmap_statistics(
        &mut self,
        v: VolumeIndex,
        statistics: &bitmap_code::Statistics,
        direction: Direction,
        bits: u64,
    ) {
        let Some(version) = self.connection.version else { return };
        if let Some(line) = statistics.log_line(direction, bits, version, Release::V84) {
            self.info(Some(v), line);
        }
    }

    /// Whether the source of new space may send its bitmap now. It comes before the sync UUID, which this node may not be waiting for yet. A
    /// disk that negotiates gets none: that was for one that has gone.
    fn may_get_bitmap_of_source(&self, v: VolumeIndex) -> bool {
        let state = self.state(v);
        let is_old = state.disk > Disk::Negotiating && state.disk < Disk::UpToDate;
        state.conn == Conn::WFSyncUUID
            || state.conn == Conn::Connected && is_old && state.pdsk == Disk::UpToDate
    }

    fn receive_bitmap(&mut self, v: VolumeIndex, payload: Option<Payload>, compressed: bool) {
        let Some(version) = self.connection.version else { return };
        let state = self.state(v);
        let target = self.may_get_bitmap_of_source(v);
        let waiting = target || matches!(state.conn, Conn::WFBitMapS | Conn::WFBitMapT);
        let Some(disk) = self.volumes[v].disk.as_mut().filter(|_| waiting) else {
            // The own disk went, or the exchange was called off: the peer does not know yet.
            self.bitmap_receive = None;
            return;
        };
        let bits = disk.bitmap.bits();
        let (for_volume, receiver) = self.bitmap_receive.get_or_insert_with(|| {
            // This node may have grown twice, and its source once.
            let receiver = if target {
                bitmap_code::Receiver::of_smaller_device(bits, version)
            } else {
                bitmap_code::Receiver::new(bits, version)
            };
            (v, receiver)
        });
        let bytes = payload.as_deref().unwrap_or(&[]);
        let result = if *for_volume != v {
            Err("bitmap packets of two volumes are mixed".to_owned())
        } else if compressed {
            receiver.receive_compressed(bytes, &mut disk.bitmap).map_err(|error| error.to_string())
        } else {
            receiver.receive_plain(bytes, &mut disk.bitmap).map_err(|error| error.to_string())
        };
        match result {
            Err(text) => self.protocol_error(Some(v), text),
            Ok(bitmap_code::Progress::More) => {}
            Ok(bitmap_code::Progress::Complete) => {
                if let Some((_, receiver)) = self.bitmap_receive.take() {
                    self.bitmap_received(v, &receiver);
                }
            }
        }
    }

    /// What follows is no part of the bitmap that comes in: whether it may end there, for the source of new space may be smaller still.
    fn bitmap_ends_early(&mut self) -> bool {
        let Some((v, receiver)) = self.bitmap_receive.take_if(|(_, receiver)| receiver.may_end_here()) else {
            return false;
        };
        if self.may_get_bitmap_of_source(v) {
            self.bitmap_received(v, &receiver);
        }
        true
    }

    fn bitmap_received(&mut self, v: VolumeIndex, receiver: &bitmap_code::Receiver) {
        self.log_bitmap_statistics(v, receiver.statistics(), Direction::Receive, receiver.bits());
        match self.state(v).conn {
            Conn::WFBitMapT => {
                // The answer is the merged bitmap; behind it this node waits for the sync UUID.
                self.send_own_bitmap_directly(v);
            }
            Conn::WFBitMapS => self.start_resync(v, Conn::SyncSource),
            conn => {
                // That of the source of new space: this node knows now what else it lacks.
                self.volumes[v].bitmap_lacks_peers = false;
                self.info(Some(v), format!("unexpected cstate ({conn}) in receive_bitmap"));
            }
        }
    }

    /// The target's bitmap goes beside the fifo (spec/wire.md 7.1).
    fn send_own_bitmap_directly(&mut self, v: VolumeIndex) {
        self.add_writes_to_bitmap(v, false);
        let (Some(version), Some(disk)) = (self.connection.version, &self.volumes[v].disk) else { return };
        let use_rle = self.net.as_ref().is_some_and(|net| net.use_rle);
        self.bitmap_send = Some((v, bitmap_code::Sender::new(disk.bitmap.bits(), version, use_rle)));
        self.out.push(Output::SendBitmap { volume: v });
    }

    /// Whether this node is a Primary without a disk that worked with other data than the peer's: then the connection is
    /// given up.
    pub(super) fn refuses_peer_data(&mut self, v: VolumeIndex) -> bool {
        let volume = &self.volumes[v];
        let (state, effective) = (volume.state, volume.effective_uuid);
        let refused = volume
            .peer_uuids
            .is_some_and(|peer| uuid::refuses_peer_data(state, effective, peer.uuids.current));
        if refused {
            let text = format!("Can only connect to data with current UUID={effective:016X}");
            self.drop_connection(Some(v), log_lines::LogLine::error(text));
        }
        refused
    }

    /// P_UUIDS. spec/state.md 9.3.
    fn receive_uuids(&mut self, v: VolumeIndex, packet: crate::wire::parameters::Uuids) {
        let uuids = Uuids { current: packet.current, bitmap: packet.bitmap, history: packet.history };
        let peer = PeerUuids { uuids, bits: packet.dirty_bits, flags: UuidFlags(packet.flags) };
        let state = self.state(v);
        let late = self.volumes[v].late_answers > 0;
        self.volumes[v].late_answers -= u32::from(late);
        self.volumes[v].peer_uuids_outlive_disk = false;
        let answers = !late || state.disk != Disk::Negotiating;
        if answers && !self.is_of_unfinished_target(v, uuids) {
            self.volumes[v].peer_uuids = Some(peer);
        }
        if self.refuses_peer_data(v) {
            return;
        }
        let own_current = self.volumes[v].disk.as_ref().map_or(0, |disk| disk.uuids.current);
        let apv = self.apv().unwrap_or(86);
        if state.disk >= Disk::Negotiating
            && uuid::accepts_skipped_sync(state.conn, apv, own_current, peer.flags)
        {
            self.skip_initial_sync(v, uuids.current);
        }
        let diskless = state.disk < Disk::Inconsistent;
        // Inconsistent data are not what this node works with: its own disk, when it comes back, is. Of a disk that the peer
        // just attaches only the flag tells it; later that may be an old one.
        let attaches = state.pdsk < Disk::Negotiating && state.conn >= Conn::Connected;
        let half_synced =
            state.pdsk == Disk::Inconsistent || attaches && peer.flags.contains(UuidFlags::INCONSISTENT);
        if diskless
            && !half_synced
            && (state.conn >= Conn::Connected || state.role == super::state::Role::Primary)
        {
            let volume = &mut self.volumes[v];
            if volume.effective_uuid != uuids.current {
                volume.effective_uuid = uuids.current;
                self.log_uuids(v, log_lines::UuidEvent::ReceiverUpdated);
            }
        }
    }

    /// Whether the target of a resync that has ended here is in the middle of it still, and has its sync UUID. In the end it has this node's
    /// UUIDs, which were noted for it, also if this node's disk has failed since (`on-io-error pass_on`). (DRBD goes by what it is told.)
    fn is_of_unfinished_target(&self, v: VolumeIndex, peer: Uuids) -> bool {
        let volume = &self.volumes[v];
        let state = volume.state;
        let ended = (state.conn, state.pdsk) == (Conn::Connected, Disk::UpToDate);
        let sync_uuid = volume.disk.as_ref().map_or(0, |disk| without_role(disk.uuids.history[0]));
        let kept = matches!(state.disk, Disk::UpToDate | Disk::Inconsistent);
        ended && kept && sync_uuid != 0 && without_role(peer.current) == sync_uuid
    }

    fn meta_packet(&mut self, volume: u16, packet: Packet) {
        match packet {
            Packet::Ping => return self.send_meta(0, Packet::PingAck),
            Packet::PingAck => return self.ping_answered(),
            Packet::BarrierAck(ack) => return self.receive_barrier_ack(ack.number, ack.set_size),
            Packet::StateChangeReply(code) | Packet::ConnectionStateChangeReply(code) => {
                return self.receive_state_change_reply(code);
            }
            Packet::DelayProbe(_) => return,
            _ => {}
        }
        let Some(v) = self.volume_of_packet(volume) else {
            let log =
                Some((Level::Error, format!("meta packet for volume {volume}, which does not exist here")));
            self.lose_link(LinkFailure { conn: Conn::NetworkFailure, log });
            return;
        };
        match packet {
            Packet::RecvAck(ack) | Packet::WriteAck(ack) => self.receive_ack(v, ack, false),
            Packet::RsWriteAck(ack) => self.receive_ack(v, ack, true),
            Packet::NegAck(ack) => self.receive_negative_ack(v, ack),
            Packet::Superseded(ack) => self.receive_superseded(v, ack),
            Packet::RetryWrite(ack) => self.receive_retry(v, ack),
            Packet::NegDataReply(ack) => {
                self.see_peer_seq(v, ack.seq);
                let text = format!("Got NegDReply; Sector {}s, len {}.", ack.sector, ack.size);
                self.error(Some(v), text);
                self.read_answered(ack.block_id, None);
            }
            Packet::NegRsDataReply(ack) => self.receive_resync_answer(v, ack, Answer::Failed),
            Packet::RsCancel(ack) => self.receive_resync_answer(v, ack, Answer::Cancelled),
            Packet::RsIsInSync(ack) => self.receive_resync_answer(v, ack, Answer::InSync),
            Packet::OvResult(result) => {
                self.see_peer_seq(v, result.seq);
                let counters = &mut self.volumes[v].counters;
                counters.rs_pending = counters.rs_pending.saturating_sub(1);
                self.verify_result(v, result.sector, u64::from(result.size) / 512, result.in_sync);
            }
            other => {
                let log = Some((Level::Error, self.unexpected(Socket::Meta, &other).to_string()));
                self.lose_link(LinkFailure { conn: Conn::Disconnecting, log });
            }
        }
    }

    fn receive_resync_answer(&mut self, v: VolumeIndex, ack: BlockAck, answer: Answer) {
        self.see_peer_seq(v, ack.seq);
        if !self.is_requested(v, ack.sector) {
            // Of an earlier resync, in which this node may have been the target.
            return;
        }
        let sectors = u64::from(ack.size) / 512;
        self.reply_arrived(v, if answer == Answer::InSync { sectors } else { 0 });
        self.resync_answered(v, ack.sector, sectors, answer);
    }

    /// P_RECV_ACK, P_WRITE_ACK, P_RS_WRITE_ACK.
    fn receive_ack(&mut self, v: VolumeIndex, ack: BlockAck, in_sync: bool) {
        self.see_peer_seq(v, ack.seq);
        let sectors = u64::from(ack.size) / 512;
        if ack.block_id == ID_SYNCER {
            if self.block_acknowledged(v, ack.sector) {
                self.set_in_sync(v, ack.sector, sectors);
                self.check_end(v);
            }
        } else if self.is_own_write(v, &ack) {
            self.write_acknowledged(ack.block_id, in_sync);
        } else {
            // Lenient, as spec/wire.md 12.6 asks for.
            self.warning(Some(v), format!("acknowledgement for unknown request: sector {}s", ack.sector));
        }
    }

    pub(super) fn is_own_write(&self, v: VolumeIndex, ack: &BlockAck) -> bool {
        let request = self.log.get(ack.block_id);
        request.is_some_and(|r| r.volume == v && r.sector == ack.sector && r.is_write() && r.replicated)
    }

    fn receive_negative_ack(&mut self, v: VolumeIndex, ack: BlockAck) {
        self.see_peer_seq(v, ack.seq);
        let sectors = u64::from(ack.size) / 512;
        if ack.block_id == ID_SYNCER {
            if self.block_acknowledged(v, ack.sector) {
                self.note_failed_blocks(v, ack.sector, sectors);
                self.check_end(v);
            }
        } else if self.is_own_write(v, &ack) {
            self.write_refused(ack.block_id);
        } else if let Some(disk) = &mut self.volumes[v].disk {
            disk.bitmap.set_sectors(ack.sector, sectors);
        }
    }

    fn receive_barrier_ack(&mut self, number: u32, set_size: u32) {
        // The kernel never acknowledges an epoch with a write that it refused; a later one says it for both.
        while let Some(older) = self.epochs.take_disturbed(number) {
            let _ = self.epoch_acknowledged(older);
        }
        let text = match self.epochs.acknowledge(number, set_size) {
            Ok(()) => match self.epoch_acknowledged(number) {
                Ok(()) => {
                    self.maybe_leave_ahead();
                    return;
                }
                Err(id) => {
                    format!("BAD! BarrierAck #{number} received, but request {id} was not acknowledged!")
                }
            },
            Err(WrongBarrierAck::NoEpoch) => {
                format!("BAD! BarrierAck #{number} received, but no epoch in tl!?")
            }
            Err(WrongBarrierAck::Expected(expected)) => {
                format!("BAD! BarrierAck #{number} received, expected #{expected}!")
            }
            Err(WrongBarrierAck::Writes(expected)) => {
                format!("BAD! BarrierAck #{number} received with n_writes={set_size}, expected n_writes={expected}!")
            }
        };
        self.error(None, text);
        self.lose_link(LinkFailure { conn: Conn::ProtocolError, log: None });
    }

    fn maybe_leave_ahead(&mut self) {
        if self.connection.in_flight_sectors == 0 {
            for v in self.volume_indices() {
                if self.state(v).conn == Conn::Ahead && self.volumes[v].resync.leave_ahead.is_none() {
                    self.volumes[v].resync.leave_ahead = Some(self.now + 1000);
                }
            }
        }
    }

    /// What the backing device, or the meta data device, came to.
    pub fn io_done(&mut self, now: Millis, v: VolumeIndex, io: Io, result: IoResult) {
        self.now = self.now.max(now);
        match io {
            Io::Request(id) => self.request_io_done(v, id, result),
            Io::Peer(slot) => self.peer_io_done(v, slot, result, true),
            Io::Meta(id) => self.meta_done(v, id, matches!(result, IoResult::Done(_))),
            Io::EpochFlush => self.epoch_flushed(v, matches!(result, IoResult::Done(_))),
            Io::Flush(token) => self.flush_io_done(v, token, matches!(result, IoResult::Done(_))),
        }
        self.settle();
    }
}
