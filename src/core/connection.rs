//! The life of a connection: parameters out, pings, loss, cleanup. spec/state.md 9.1 and 16.

use super::handlers::Handler;
use super::handshake::state_packet;
use super::log_lines::LogLine;
use super::rules::{self, ChangeKind};
use super::state::{Change, Conn, Disk, Role};
use super::steps::{HelperThen, Step, Work};
use super::types::*;
use super::uuid::UuidFlags;
use super::Resource;
use crate::conf::settings::{Fencing, NetSettings};
use crate::wire::packet::Packet;
use crate::wire::parameters::{Protocol, QueueLimits, ResyncController, Sizes, SyncParam, Uuids};
use crate::wire::Features;
use crate::wire::ProtocolVersion;
use crate::wire::Socket;

/// What P_SIZES says about this node's queue: it takes discards, and cannot write the same.
const QUEUE_LIMITS: QueueLimits = QueueLimits {
    physical_block_size: 4096,
    logical_block_size: 512,
    alignment_offset: 0,
    io_min: 4096,
    io_opt: 0,
    discard_enabled: 1,
    discard_zeroes_data: 0,
    write_same_capable: 0,
};

/// Where the link to the peer stands, as the engine knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// The engine does nothing about a connection.
    #[default]
    Idle,
    /// It tries to connect.
    Connecting,
    /// Packets flow.
    Up,
    /// It was told to end it.
    Closing,
    /// It did; the cleanup runs.
    Closed,
}

/// The connection of a resource.
#[derive(Debug)]
pub struct Connection {
    /// Below Connected: the connection's state; WFReportParams: the link is up.
    pub state: Conn,
    pub(super) phase: Phase,
    pub(super) link: Option<Link>,
    /// The agreed version; stays when the link is gone.
    pub(super) version: Option<ProtocolVersion>,
    /// A link that waits until a running promotion is over.
    pub(super) pending: Option<Link>,
    /// Own parameters are out, the peer's P_STATE not yet processed (STATE_SENT).
    pub(super) state_sent: bool,
    /// The peer was asked to let this node go (DISCONNECT_SENT).
    pub(super) disconnect_sent: bool,
    /// A socket has ended since, and until when the answer may still come on the other.
    pub(super) ended: Option<(LinkFailure, Millis)>,
    pub(super) peer_dry_run: bool,
    pub(super) peer_integrity_alg: String,
    /// How often the peer may have heard of this node so far: each link counts when the own state is told.
    pub(super) meetings: u64,
    /// When WFReportParams was entered.
    pub(super) since: Millis,
    /// When the last packet came, on either socket.
    pub(super) last_received: Millis,
    /// When the ping went out that was not answered yet.
    pub(super) ping_sent: Option<Millis>,
    /// How many pings went out, and how many were answered.
    pub(super) pings: (u64, u64),
    /// What waits for a ping to be answered, in order of sending: its number, the volume whose resync ends then.
    pub(super) ping_waiters: Vec<(u64, VolumeIndex)>,
    /// Expired send timeouts that are left before the peer counts as dead.
    pub(super) ko_left: u32,
    /// Next look at requests that wait too long.
    pub(super) request_check: Option<Millis>,
    /// Mirrored sectors without an answer.
    pub(super) in_flight_sectors: u64,
    pub(super) cleanup_begun: bool,
    /// The packet of the data socket that is looked at, or holds the socket: name and bytes of payload.
    pub(super) receiving: Option<(&'static str, usize)>,
}

impl Default for Connection {
    fn default() -> Self {
        Connection {
            state: Conn::StandAlone,
            phase: Phase::Idle,
            link: None,
            version: None,
            pending: None,
            state_sent: false,
            disconnect_sent: false,
            ended: None,
            peer_dry_run: false,
            peer_integrity_alg: String::new(),
            meetings: 0,
            since: 0,
            receiving: None,
            last_received: 0,
            ping_sent: None,
            pings: (0, 0),
            ping_waiters: Vec::new(),
            ko_left: 0,
            request_check: None,
            in_flight_sectors: 0,
            cleanup_begun: false,
        }
    }
}

impl Connection {
    pub(super) fn next_timeout(&self, net: Option<&NetSettings>) -> Option<Millis> {
        let net = net.filter(|_| self.phase == Phase::Up)?;
        let ping = match self.ping_sent {
            Some(sent) => sent + u64::from(net.ping_timeout) * 100,
            None => self.last_received + u64::from(net.ping_int) * 1000,
        };
        let ended = self.ended.as_ref().map(|(_, until)| *until);
        [Some(ping), self.request_check, ended].into_iter().flatten().min()
    }
}

impl Resource {
    /// A29: the receiver starts to look for the peer.
    pub(super) fn start_receiver(&mut self) {
        if self.connection.state != Conn::Unconnected || self.connection.phase != Phase::Idle {
            return;
        }
        self.connection.disconnect_sent = false;
        self.connection.ended = None;
        let wanted = Change::conn(Conn::WFConnection);
        if self.change_connection(wanted, ChangeKind::Soft, true).is_ok() {
            self.connection.phase = Phase::Connecting;
            self.out.push(Output::Connect);
        }
    }

    /// A socket pair is there and the peer is authenticated.
    pub fn link_up(&mut self, now: Millis, link: Link) {
        self.now = self.now.max(now);
        if self.connection.phase == Phase::Connecting {
            self.connection.pending = Some(link);
        }
        self.settle();
    }

    /// Sends the own parameters as soon as no promotion is in between, and no generation of this node is about to begin, which would
    /// otherwise begin behind the peer's back. spec/wire.md 4.1. And as soon as no crash could bring back as a good one a disk
    /// that the peer hears is not: it takes its own for good then. (DRBD does not wait for the super block.)
    pub(super) fn run_pending_link(&mut self) -> bool {
        if self.connection.phase != Phase::Connecting {
            // An administrator disconnected by force while it waited: it is being closed.
            self.connection.pending = None;
        }
        if self.connection.pending.is_none()
            || self.task_holds_state_mutex()
            || self.volumes.iter().any(|volume| volume.uuid_hold || volume.is_marked_too_good())
        {
            return false;
        }
        let Some(link) = self.connection.pending.take() else { return false };
        let Some(net) = self.net.clone() else { return false };
        let connection = &mut self.connection;
        connection.phase = Phase::Up;
        connection.link = Some(link);
        connection.version = Some(link.version);
        connection.last_received = self.now;
        connection.ping_sent = None;
        connection.pings = (0, 0);
        connection.ping_waiters.clear();
        connection.ko_left = net.ko_count;
        connection.request_check = None;
        connection.in_flight_sectors = 0;
        connection.peer_dry_run = false;
        connection.peer_integrity_alg.clear();
        connection.cleanup_begun = false;
        self.cut_waiting();
        // What is frozen is not part of any epoch of this link until it is sent again.
        self.epochs.reset();
        for volume in &mut self.volumes {
            volume.packet_seq = 0;
            volume.peer_seq = 0;
            volume.resynced = false;
            volume.discard_my_data = net.discard_my_data;
            volume.peer_uuids = None;
        }
        if net.tentative && !link.version.has_dry_run() {
            self.error(None, "--dry-run is not supported by peer");
            self.discard_configuration();
            return true;
        }
        self.connection.state_sent = true;
        self.connection.meetings += 1;
        self.send_directly(0, Packet::Protocol(Self::protocol_packet(&net)));
        for v in self.volume_indices() {
            self.send_directly(v, Packet::SyncParam(self.sync_param(v)));
            self.send_sizes(v, false, 0);
            self.send_uuids(v, 0);
            let mut word = self.state(v);
            word.conn = Conn::WFConnection;
            self.send_directly(v, state_packet(word));
            let volume = &mut self.volumes[v];
            volume.degraded = false;
            // The peer has forgotten it, too: a resync that one of the two nodes waits for would never begin.
            volume.resync_after_negotiation = false;
            volume.size_questions.clear();
            volume.size_before_resize = None;
        }
        let wanted = Change::conn(Conn::WFReportParams);
        if self.change_connection(wanted, ChangeKind::Soft, true).is_err() {
            self.connection.state_sent = false;
            self.lose_link(LinkFailure { conn: Conn::NetworkFailure, log: None });
        }
        true
    }

    /// P_PROTOCOL, and P_PROTOCOL_UPDATE.
    pub(super) fn protocol_packet(net: &NetSettings) -> Protocol {
        let mut conn_flags = 0;
        if net.discard_my_data {
            conn_flags |= Protocol::DISCARD_MY_DATA;
        }
        if net.tentative {
            conn_flags |= Protocol::DRY_RUN;
        }
        Protocol {
            protocol: net.protocol as u32 + 1,
            after_sb_0p: net.after_sb_0pri as u32,
            after_sb_1p: net.after_sb_1pri as u32,
            after_sb_2p: net.after_sb_2pri as u32,
            conn_flags,
            two_primaries: u32::from(net.allow_two_primaries),
            integrity_alg: net.data_integrity_alg.clone(),
        }
    }

    pub(super) fn sync_param(&self, v: VolumeIndex) -> SyncParam {
        let disk = &self.volumes[v].settings;
        let net = self.net.as_ref();
        SyncParam {
            rate: disk.resync_rate,
            verify_alg: net.map_or(String::new(), |net| net.verify_alg.clone()),
            csums_alg: net.map_or(String::new(), |net| net.csums_alg.clone()),
            controller: Some(ResyncController {
                plan_ahead: disk.c_plan_ahead,
                delay_target: disk.c_delay_target,
                fill_target: disk.c_fill_target,
                max_rate: disk.c_max_rate,
            }),
        }
    }

    /// Sends P_SIZES. spec/wire.md 4.4.
    pub(super) fn send_sizes(&mut self, v: VolumeIndex, trigger_reply: bool, dds_flags: u16) {
        let Some(version) = self.connection.version else { return };
        let features = self.connection.link.map_or(Features::NONE, |link| link.features);
        let volume = &mut self.volumes[v];
        let has_disk = volume.state.disk >= Disk::Negotiating;
        if volume.state.disk < Disk::Attaching {
            // It has gone before the peer could hear of it.
            volume.size_with_disk = None;
        }
        let sizes = Sizes {
            d_size: volume.disk.as_ref().filter(|_| has_disk).map_or(0, |disk| disk.maximum),
            u_size: if has_disk { volume.settings.size } else { 0 },
            c_size: if trigger_reply { 0 } else { volume.size_told() },
            max_bio_size: version.max_bio_bytes(),
            dds_flags,
            queue_limits: features.contains(Features::WSAME).then_some(QUEUE_LIMITS),
        };
        self.send_directly(v, Packet::Sizes(sizes));
    }

    /// Sends P_UUIDS, unless this node has none. spec/wire.md 4.5.
    pub(super) fn send_uuids(&mut self, v: VolumeIndex, extra_flags: u64) {
        if rules::has_metadata(self.state(v)) {
            self.send_uuids_of_disk(v, extra_flags);
        }
    }

    /// Sends P_UUIDS of a new generation. The disk may have failed since that began.
    pub(super) fn send_generation(&mut self, v: VolumeIndex) {
        if rules::has_metadata(self.state(v)) || self.state(v).disk == Disk::Failed {
            self.send_uuids_of_disk(v, 0);
        }
    }

    fn send_uuids_of_disk(&mut self, v: VolumeIndex, extra_flags: u64) {
        let Some(told) = self.told_uuids(v) else { return };
        let volume = &mut self.volumes[v];
        let negotiating_inconsistent = volume.negotiation.is_some_and(|(disk, _)| disk == Disk::Inconsistent);
        let flags = UuidFlags::to_send(
            volume.discard_my_data,
            volume.crashed_primary,
            negotiating_inconsistent,
            false,
        );
        let Some(disk) = &volume.disk else { return };
        let unheard = if disk.unheard_target.is_some() { Uuids::UNHEARD_END } else { 0 };
        // With that flag the bits are about to go: the step that clears them may still wait.
        let bits = match extra_flags & Uuids::SKIP_INITIAL_SYNC {
            0 => disk.bitmap.weight(),
            _ => 0,
        };
        let packet = Uuids {
            current: told.current,
            bitmap: told.bitmap,
            history: told.history,
            dirty_bits: bits,
            flags: flags.0 | unheard | extra_flags,
        };
        volume.bits_sent = bits;
        self.send_directly(v, Packet::Uuids(packet));
    }

    /// The engine could not come to an agreement with the peer: no further attempt.
    pub fn link_refused(&mut self, now: Millis, lines: Vec<(Level, String)>) {
        self.now = self.now.max(now);
        for (level, text) in lines {
            self.out.push(Output::Log { level, volume: None, text });
        }
        self.discard_configuration();
        self.settle();
    }

    fn discard_configuration(&mut self) {
        self.warning(None, "Discarding network configuration.");
        let _ = self.change_connection(Change::conn(Conn::Disconnecting), ChangeKind::Hard, false);
    }

    /// The link failed: a reader or sender has seen it.
    pub fn link_lost(&mut self, now: Millis, failure: LinkFailure) {
        self.now = self.now.max(now);
        if self.may_be_answered(&failure) {
            let wait = self.net.as_ref().map_or(0, |net| u64::from(net.ping_timeout) * 100);
            let until = self.now + wait;
            self.connection.ended.get_or_insert((failure, until));
        } else {
            self.lose_link(failure);
        }
        self.settle();
    }

    /// Whether the peer may have answered a graceful disconnect before it closed its sockets: the answer comes on the
    /// meta socket, and the end of the data socket may be seen before it. The answer says whether the peer is outdated.
    /// spec/state.md 16.4.
    fn may_be_answered(&self, failure: &LinkFailure) -> bool {
        self.connection.disconnect_sent
            && self.connection.phase == Phase::Up
            && matches!(failure.conn, Conn::BrokenPipe | Conn::NetworkFailure)
    }

    /// Gives the link up. The first reason counts. spec/wire.md 9.5.
    pub(super) fn lose_link(&mut self, failure: LinkFailure) {
        if self.connection.phase != Phase::Up || self.connection.state < Conn::WFConnection {
            return;
        }
        if let Some((level, text)) = failure.log {
            self.out.push(Output::Log { level, volume: None, text });
        }
        let _ = self.change_connection(Change::conn(failure.conn), ChangeKind::Hard, false);
        if mutant!("interrupted-target-up-to-date") && self.state(0).disk == Disk::Inconsistent {
            let _ = self.change(0, Change::disk(Disk::UpToDate), ChangeKind::Hard, false);
        }
        if self.connection.phase == Phase::Up {
            // No volume changed (there is none): the sockets have to go all the same.
            self.connection.phase = Phase::Closing;
            self.out.push(Output::CloseLink { drain_meta: false });
        }
    }

    /// Drops the connection because of what the peer sent; it will be tried again.
    pub(super) fn protocol_error(&mut self, v: Option<VolumeIndex>, text: impl Into<String>) {
        self.error(v, text);
        self.log_failed_packet();
        self.lose_link(LinkFailure { conn: Conn::ProtocolError, log: None });
    }

    /// The line that names the packet whose handler failed. spec/state.md 9.4.
    fn log_failed_packet(&mut self) {
        if let Some((name, bytes)) = self.connection.receiving.take() {
            self.error(None, format!("error receiving {name}, e: -5 l: {bytes}!"));
        }
    }

    /// Drops the connection for good.
    pub(super) fn drop_connection(&mut self, v: Option<VolumeIndex>, line: LogLine) {
        self.log_line(v, line);
        let _ = self.change_connection(Change::conn(Conn::Disconnecting), ChangeKind::Hard, false);
        self.log_failed_packet();
    }

    /// Sockets are closed, no packet of this link will come any more.
    pub fn link_closed(&mut self, now: Millis) {
        self.now = self.now.max(now);
        self.connection.pending = None;
        if self.connection.phase == Phase::Up {
            let _ = self.change_connection(Change::conn(Conn::NetworkFailure), ChangeKind::Hard, false);
        }
        self.connection.phase = Phase::Closed;
        self.settle();
    }

    /// Cleanup after a connection, spec/state.md 16.6, in two parts: what can be done at once, and,
    /// when the peer's requests are off the disk and the fifo ran empty, the rest.
    pub(super) fn run_cleanup(&mut self) -> bool {
        if self.connection.phase != Phase::Closed {
            return false;
        }
        if !self.connection.cleanup_begun {
            if self.handshake_gives_up() {
                return false;
            }
            self.connection.cleanup_begun = true;
            self.connection.link = None;
            self.connection.ping_sent = None;
            self.connection.ping_waiters.clear();
            self.connection.request_check = None;
            self.connection.ended = None;
            self.connection.state_sent = false;
            self.hold = None;
            self.superseded.clear();
            self.bitmap_send = None;
            self.bitmap_receive = None;
            self.forget_receiver_helpers();
            self.drop_waiting_peer_requests();
            for v in self.volume_indices() {
                self.stop_resync(v);
            }
            self.wake = true;
            return true;
        }
        // Nor may a flush for a barrier be at a disk still: the two could meet, and this node be the source, before what the peer has the
        // acknowledgements of is durable.
        if !self.peer_requests.is_empty() || self.epoch_flushes > 0 || !self.fifo_is_idle() {
            return false;
        }
        self.peer_epochs.reset();
        for v in self.volume_indices() {
            // Requests of the peer that were at the disk may have counted something since.
            self.stop_resync(v);
        }
        for v in self.volume_indices() {
            let volume = &mut self.volumes[v];
            volume.peer_uuids = None;
            volume.bitmap_io = false;
            let needs_flush =
                volume.disk.as_mut().is_some_and(|disk| std::mem::take(&mut disk.peer_needs_flush));
            if needs_flush && !mutant!("lost-epoch-not-flushed") {
                // The barrier of the peer's writes will not come, and its application has long heard of them.
                self.queue_steps([Step::FlushData { v }]);
            }
        }
        if !self.is_suspended() {
            self.clear_transfer_log();
        }
        for v in self.volume_indices() {
            // Writes of before may be on this disk only, and the generations are equal: the next handshake
            // must go on with the resync that was asked for.
            if self.volumes[v].invalidating && self.state(v).disk == Disk::Outdated {
                let _ = self.change(v, Change::disk(Disk::Inconsistent), ChangeKind::Hard, false);
            }
        }
        self.info(None, "Connection closed");
        for v in self.volume_indices() {
            self.queue_steps([Step::WriteBitmap { v, all: false }, Step::WriteSuperBlockIfDirty { v }]);
        }
        self.connection.phase = Phase::Idle;
        self.connection.cleanup_begun = false;
        self.queue_steps([Step::CleanupTail]);
        true
    }

    /// Steps 12 to 14 of the cleanup.
    pub(super) fn cleanup_tail(&mut self) {
        for v in self.volume_indices() {
            let state = self.state(v);
            let fence = state.role == Role::Primary
                && state.disk >= Disk::Consistent
                && self.fencing(v) >= Fencing::ResourceOnly
                && state.pdsk >= Disk::DUnknown;
            if fence {
                let then = HelperThen::Fenced { v, meetings: self.connection.meetings };
                self.run_helper(Some(v), Handler::FencePeer, then);
            }
        }
        if self.connection.state == Conn::Disconnecting {
            self.net = None;
            let _ = self.change_connection(Change::conn(Conn::StandAlone), ChangeKind::Hard, false);
        } else if self.connection.state >= Conn::Unconnected {
            let _ = self.change_connection(Change::conn(Conn::Unconnected), ChangeKind::Hard, false);
            self.queue_steps([Step::StartReceiver]);
        }
    }

    pub(super) fn volume_indices(&self) -> Vec<VolumeIndex> {
        self.volumes().map(|(v, _)| v).collect()
    }

    /// Whether I/O is frozen, for whatever reason.
    pub(super) fn is_suspended(&self) -> bool {
        self.volumes().any(|(_, volume)| volume.state.is_susp())
    }

    /// Sends a ping now, to find out whether the peer lives or to order what was sent before. Returns its number.
    pub(super) fn request_ping(&mut self) -> u64 {
        if self.connection.phase == Phase::Up {
            self.send_meta(0, Packet::Ping);
            self.connection.ping_sent.get_or_insert(self.now);
            self.connection.pings.0 += 1;
        }
        self.connection.pings.0
    }

    /// The resync of a volume ends when the peer has answered a ping that goes out now.
    pub(super) fn finish_behind_ping(&mut self, v: VolumeIndex) {
        let number = self.request_ping();
        self.connection.ping_waiters.push((number, v));
    }

    /// P_PING_ACK: all that the peer sent on the meta socket before it came to the oldest ping has arrived.
    pub(super) fn ping_answered(&mut self) {
        self.connection.ping_sent = None;
        self.connection.pings.1 += 1;
        let answered = self.connection.pings.1;
        while let Some((_, v)) =
            self.connection.ping_waiters.first().filter(|(number, _)| *number <= answered).copied()
        {
            self.connection.ping_waiters.remove(0);
            self.resync_finished(v);
        }
        for v in self.volume_indices() {
            self.late_answers_over(v, answered);
        }
    }

    /// Pings and requests that the peer does not answer. spec/wire.md 9.2 and 9.4.
    pub(super) fn connection_timers(&mut self) {
        let Some(net) = self.net.as_ref().filter(|_| self.connection.phase == Phase::Up) else { return };
        let (ping_int, ping_timeout) = (u64::from(net.ping_int) * 1000, u64::from(net.ping_timeout) * 100);
        match self.connection.ping_sent {
            Some(sent) if sent + ping_timeout <= self.now => {
                if self.connection.last_received > sent {
                    // Something came since: the peer lives, its answer is late.
                    self.connection.ping_sent = Some(self.connection.last_received);
                } else {
                    let log = Some((Level::Error, "PingAck did not arrive in time.".to_owned()));
                    self.lose_link(LinkFailure { conn: Conn::NetworkFailure, log });
                    return;
                }
            }
            None if self.connection.last_received + ping_int <= self.now => {
                self.request_ping();
            }
            _ => {}
        }
        if self.connection.request_check.is_some_and(|check| check <= self.now) {
            self.check_requests();
        }
        if let Some((failure, _)) = self.connection.ended.take_if(|(_, until)| *until <= self.now) {
            self.lose_link(failure);
        }
    }

    /// How long the peer may take for a request; `None`: for ever.
    pub(super) fn request_limit_ms(&self) -> Option<Millis> {
        let net = self.net.as_ref().filter(|net| net.ko_count > 0)?;
        Some(u64::from(net.timeout) * 100 * u64::from(net.ko_count))
    }

    fn check_requests(&mut self) {
        self.connection.request_check = None;
        let Some(limit) = self.request_limit_ms() else { return };
        let waiting = self.log.iter().find(|(_, request)| request.net_pending && request.net_sent);
        let oldest = waiting.map(|(_, request)| (request.sent_at, false));
        let Some((sent, barrier)) = oldest.or(self.epochs.oldest_barrier().map(|sent| (sent, true))) else {
            return;
        };
        let since = sent.max(self.connection.since);
        if self.now < since + limit {
            self.connection.request_check = Some(since + limit);
            return;
        }
        let Some(net) = &self.net else { return };
        let limits = format!("{limit}ms > ko-count ({}) * timeout ({} * 0.1s)", net.ko_count, net.timeout);
        let text = if barrier {
            format!(
                "Remote failed to answer a P_BARRIER (sent at {sent} jif; now={} jif) within {limits}",
                self.now
            )
        } else {
            format!("Remote failed to finish a request within {limits}")
        };
        self.lose_link(LinkFailure { conn: Conn::Timeout, log: Some((Level::Warning, text)) });
    }

    /// Something waits for the peer from now on.
    pub(super) fn arm_request_check(&mut self) {
        if self.connection.request_check.is_none() {
            self.connection.request_check = self.request_limit_ms().map(|limit| self.now + limit);
        }
    }

    /// A send made no progress for `timeout`. spec/wire.md 9.3. False: the link was given up.
    pub fn send_expired(&mut self, now: Millis, socket: Socket) -> bool {
        self.now = self.now.max(now);
        let connected = self.volumes().any(|(_, volume)| volume.state.conn >= Conn::Connected);
        if socket == Socket::Meta || !connected {
            self.lose_link(LinkFailure { conn: Conn::Timeout, log: None });
        } else {
            self.connection.ko_left = self.connection.ko_left.wrapping_sub(1);
            let text = format!("[drbdd] sock_sendmsg time expired, ko = {}", self.connection.ko_left);
            self.error(None, text);
            if self.connection.ko_left == 0 {
                self.lose_link(LinkFailure { conn: Conn::Timeout, log: None });
            } else {
                self.request_ping();
            }
        }
        self.settle();
        self.connection.phase == Phase::Up
    }

    /// A send made progress after all.
    pub fn send_progressed(&mut self) {
        self.connection.ko_left = self.net.as_ref().map_or(0, |net| net.ko_count);
    }

    /// Forgets helpers whose result nobody waits for any more.
    fn forget_receiver_helpers(&mut self) {
        for then in self.helpers.values_mut() {
            if matches!(then, HelperThen::Handshake | HelperThen::StartResync { .. }) {
                *then = HelperThen::Nothing;
            }
        }
    }

    /// Marks the fifo entry of an admin task or such.
    pub(super) fn queue_work(&mut self, work: Work) {
        self.fifo.push_back(work);
    }
}
