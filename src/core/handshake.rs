//! What a peer's parameters and state mean: agreement, the sync handshake, cluster-wide changes.
//! spec/state.md 6.3, 9.2 to 9.4, 10.3 and 12.4.

use super::codes::{state_code, StateError};
use super::connection::Phase;
use super::handshake_decision::{
    sync_handshake, Handshake, HandshakeInput, Outcome, Policies, RefusalReason, Side, Step as Move,
};
use super::log_lines::LogLine;
use super::receive::Hold;
use super::rules::{self, ChangeKind, Refusal, SanitizeWarning};
use super::state::{Change, Conn, Disk, Role, StateWord};
use super::steps::{set_all_and_write, HelperThen, Step};
use super::types::*;
use super::uuid::{without_role, CompareContext};
use super::volume::FirstWord;
use super::Resource;
use crate::conf::settings::{AfterSplitBrain, Protocol as ReplicationProtocol};
use crate::wire::packet::Packet;
use crate::wire::parameters::{Protocol, SyncParam};
use crate::wire::Features;
use crate::wire::StateChangeRequest;

/// A sync handshake that is being carried out.
#[derive(Debug, PartialEq)]
pub struct HandshakeRun {
    v: VolumeIndex,
    /// The own state that the decision is about.
    os: StateWord,
    /// The peer's state word, as received.
    peer: StateWord,
    handshake: Handshake,
    next: usize,
}

/// What the outcome of a handshake means for the nodes' disks and their connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The connection goes on, in this state.
    Connect(Conn),
    /// The disk that is being attached here is given up; the connection stays.
    OwnDiskRefused,
    /// The peer gives up the disk that it attaches; the connection stays.
    PeerDiskRefused,
    /// There will be no connection, whatever happens meanwhile (step 8c comes before step 9).
    NoConnection,
}

/// A word of the peer, and what it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    v: VolumeIndex,
    /// The own state that the decision is about.
    os: StateWord,
    /// The peer's state word, as received.
    peer: StateWord,
    real_disk: Disk,
    conn: Conn,
    negotiated: Negotiated,
}

/// Whether the peer, by whose word the own disk may become good, has this connection still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// It had, when it sent that word.
    Unknown,
    /// It has answered since.
    Proved,
}

/// Who decided about a disk that is attached while the nodes are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Negotiated {
    /// Nobody: the peer has not heard of it.
    NotYet,
    /// The handshake with the peer's disk.
    WithPeer,
    /// The peer has no disk.
    Alone,
}

impl Resource {
    /// P_PROTOCOL: the two configurations must go together. spec/state.md 9.2.
    pub(super) fn receive_protocol(&mut self, peer: Protocol) {
        let Some(net) = &self.net else { return };
        self.connection.peer_dry_run = peer.conn_flags & Protocol::DRY_RUN != 0;
        let both_discard = net.discard_my_data && peer.conn_flags & Protocol::DISCARD_MY_DATA != 0;
        let two_primaries = (peer.two_primaries != 0) != net.allow_two_primaries;
        let has_alg = self.connection.version.is_some_and(|version| version.has_integrity_alg());
        let wrong = if peer.protocol != net.protocol as u32 + 1 {
            Some("incompatible communication protocols")
        } else if !compatible(net.after_sb_0pri, peer.after_sb_0p) {
            Some("incompatible after-sb-0pri settings")
        } else if !compatible(net.after_sb_1pri, peer.after_sb_1p) {
            Some("incompatible after-sb-1pri settings")
        } else if !compatible(net.after_sb_2pri, peer.after_sb_2p) {
            Some("incompatible after-sb-2pri settings")
        } else if both_discard {
            Some("both sides have the 'want_lose' flag set")
        } else if two_primaries {
            Some("incompatible setting of the two-primaries options")
        } else if has_alg && peer.integrity_alg != net.data_integrity_alg {
            Some("incompatible setting of the data-integrity-alg")
        } else {
            None
        };
        if let Some(text) = wrong {
            self.drop_connection(None, LogLine::error(text));
            return;
        }
        if has_alg {
            let name = if peer.integrity_alg.is_empty() { "<not-used>" } else { &peer.integrity_alg };
            self.info(None, format!("data-integrity-alg: {name}"));
        }
        self.connection.peer_integrity_alg = peer.integrity_alg;
    }

    /// P_PROTOCOL_UPDATE: adopted without comparison. spec/wire.md 4.2.
    pub(super) fn receive_protocol_update(&mut self, peer: Protocol) {
        let Some(net) = &mut self.net else { return };
        net.protocol = match peer.protocol {
            1 => ReplicationProtocol::A,
            2 => ReplicationProtocol::B,
            _ => ReplicationProtocol::C,
        };
        net.allow_two_primaries = peer.two_primaries != 0;
        for (own, peers) in [
            (&mut net.after_sb_0pri, peer.after_sb_0p),
            (&mut net.after_sb_1pri, peer.after_sb_1p),
            (&mut net.after_sb_2pri, peer.after_sb_2p),
        ] {
            if let Some(value) = AfterSplitBrain::from_number(peers) {
                *own = mirrored(value);
            }
        }
        self.connection.peer_integrity_alg = peer.integrity_alg;
    }

    /// P_SYNC_PARAM. spec/wire.md 4.3.
    pub(super) fn receive_sync_param(&mut self, v: VolumeIndex, peer: SyncParam) {
        let Some(version) = self.connection.version else { return };
        let negotiating =
            self.connection.state == Conn::WFReportParams && self.state(v).conn == Conn::WFReportParams;
        let Some(net) = &mut self.net else { return };
        let mut changed = Vec::new();
        let mut different = None;
        for (name, used, own, peers) in [
            ("verify-alg", version.has_online_verify(), &mut net.verify_alg, peer.verify_alg),
            ("csums-alg", version.has_csums(), &mut net.csums_alg, peer.csums_alg),
        ] {
            if !used || *own == peers {
                continue;
            }
            if negotiating {
                different = Some(format!("Different {name} settings. me=\"{own}\" peer=\"{peers}\""));
                break;
            }
            changed.push(format!("using {name}: \"{peers}\""));
            *own = peers;
        }
        if let Some(text) = different {
            self.drop_connection(Some(v), LogLine::error(text));
            return;
        }
        for text in changed {
            self.info(Some(v), text);
        }
        let volume = &mut self.volumes[v];
        if volume.disk.is_some() {
            volume.settings.resync_rate = peer.rate;
            if let Some(controller) = peer.controller {
                volume.settings.c_plan_ahead = controller.plan_ahead;
                volume.settings.c_delay_target = controller.delay_target;
                volume.settings.c_fill_target = controller.fill_target;
                volume.settings.c_max_rate = controller.max_rate;
            }
        }
    }

    /// P_STATE. spec/state.md 9.4.
    pub(super) fn receive_state(&mut self, v: VolumeIndex, word: u32) {
        match StateWord::from_bits(word) {
            Ok(peer) => self.process_state(v, peer),
            Err(error) => self.protocol_error(Some(v), error.to_string()),
        }
    }

    /// What the disk of the peer really is: what it says, but for one that negotiates (step 1).
    fn real_peer_disk(&mut self, v: VolumeIndex, peer: StateWord) -> Disk {
        let was_inconsistent = self.volumes[v].peer_told == Disk::Inconsistent;
        if peer.disk == Disk::Outdated && peer.conn == Conn::WFBitMapT && was_inconsistent {
            // The one that it told as Inconsistent as long as it was Connected (`told_disk`).
            return Disk::Inconsistent;
        }
        if peer.disk != Disk::Negotiating {
            return peer.disk;
        }
        if self.volumes[v].peer_uuids_outlive_disk {
            return Disk::Diskless;
        }
        let uuids = self.volumes[v].peer_uuids.as_ref();
        let inconsistent =
            uuids.is_some_and(|uuids| uuids.flags.contains(super::uuid::UuidFlags::INCONSISTENT));
        let disk = if inconsistent { Disk::Inconsistent } else { Disk::Consistent };
        self.info(Some(v), format!("real peer disk state = {disk}"));
        disk
    }

    fn process_state(&mut self, v: VolumeIndex, peer: StateWord) {
        use Conn::*;
        let os = self.state(v);
        let volume = &mut self.volumes[v];
        let is_heard_to_go = volume.peer_disk_let_go && peer.disk <= Disk::Failed;
        volume.peer_disk_let_go &= !is_heard_to_go;
        volume.peer_uuids_outlive_disk |= volume.peer_uuids.is_some() && peer.disk < Disk::Negotiating;
        // It is to negotiate, but its UUIDs would have come before this word: it has gone before they could be sent. (DRBD goes by those of
        // the disk that the peer had before.)
        let is_gone = volume.peer_uuids_outlive_disk && peer.disk == Disk::Negotiating;
        if is_heard_to_go {
            // What comes behind this word waits for the mark, and it is no news for the state.
            self.refresh_meta_flags(v);
            self.queue_steps([Step::WriteSuperBlockIfDirty { v }]);
        }
        let mut real_disk = self.real_peer_disk(v, peer);
        if os.conn <= TearDown {
            return;
        }
        let told_before = std::mem::replace(&mut self.volumes[v].peer_told, real_disk);
        self.volumes[v].peer_told_role = peer.role;
        self.volumes[v].peer_attaches = false;
        // Requests may have waited for that.
        self.wake = true;
        // The own disk may have gone since the peer's UUIDs came, those of all its data or of a disk that it attaches.
        if (os.conn < Connected || peer.disk == Disk::Negotiating) && self.refuses_peer_data(v) {
            return;
        }
        let overtaken = os.conn >= Connected
            && std::mem::replace(&mut self.volumes[v].first_word, FirstWord::Came) == FirstWord::Overtaken;
        self.awaited_word_came(v, peer);
        self.see_attached_disk_used(v, peer);
        if peer.role == Role::Primary && peer.disk < Disk::Inconsistent {
            self.peer_without_disk_is_primary(v);
        }
        let lost = matches!(os.pdsk, Disk::Inconsistent | Disk::Consistent);
        let ended = os.conn >= SyncSource && peer.conn == Connected;
        if lost && real_disk == Disk::UpToDate && os.conn > Connected && os.disk == Disk::UpToDate {
            if peer.conn > Connected && peer.conn < SyncSource {
                real_disk = Disk::Inconsistent;
            } else if ended {
                self.note_end_of_empty_resync(v, told_before);
                self.target_announced_end(v);
                return;
            }
        } else if os.conn.is_sync_source()
            && ended
            && real_disk == Disk::Inconsistent
            && self.volumes[v].resync.target_began
        {
            // It ended with failed blocks (spec/resync.md 8.1, "Ours as source"), or lacks what it was not told of.
            self.volumes[v].resync.target_failed = true;
            self.target_announced_end(v);
            return;
        }
        if os.conn == VerifyT
            && os.disk == Disk::UpToDate
            && peer.conn == Connected
            && real_disk == Disk::UpToDate
        {
            self.verify_over(v);
            return;
        }
        if os.pdsk == Disk::UpToDate
            && real_disk == Disk::Inconsistent
            && os.conn == Connected
            && (peer.conn > SyncSource || overtaken)
        {
            real_disk = Disk::UpToDate;
        }
        if os.conn >= Connected && os.disk != Disk::Attaching && peer.pdsk >= Disk::Negotiating {
            self.use_size_with_disk(v);
        }
        let volume = &mut self.volumes[v];
        let both_disks = peer.disk >= Disk::Negotiating && os.disk >= Disk::Negotiating;
        let negotiating = peer.disk == Disk::Negotiating || os.disk == Disk::Negotiating;
        // The peer answers a negotiating disk with its UUIDs, then its state (A9). What it says before it has heard of that disk
        // decides nothing; nor do UUIDs that came before such a word, which may be of the generation that it began when the disk went.
        let is_answer = peer.pdsk >= Disk::Negotiating || peer.disk == Disk::Negotiating;
        if os.disk == Disk::Negotiating && !is_answer {
            volume.peer_uuids = None;
        }
        let undecided = os.disk == Disk::Negotiating && volume.peer_uuids.is_none() && both_disks;
        let undecided = undecided && !mutant!("negotiation-without-uuids");
        let consider = volume.peer_uuids.is_some()
            && both_disks
            && !is_gone
            && (os.conn < Connected
                || (os.conn == Connected && negotiating)
                // Not by a word of before the peer's promotion, which may come behind its request for it.
                || (volume.consider_resync && peer.role == Role::Primary)
                // A verify that was asked for meanwhile, too: the peer waits for this node's answer.
                || ((os.conn == Connected || os.conn.is_verify())
                    && peer.conn >= StartingSyncS
                    && peer.conn <= WFBitMapT));
        if consider {
            self.begin_handshake(v, peer, real_disk);
        } else {
            let conn = if os.conn == WFReportParams { Connected } else { os.conn };
            let conn = if peer.conn == Ahead { Behind } else { conn };
            let conn = if conn.is_verify() && peer.conn == Connected && real_disk == Disk::Inconsistent {
                // A verify is for two good disks. (DRBD takes the peer's for good again.)
                self.warning(Some(v), SanitizeWarning::VerifyAborted.text());
                Connected
            } else {
                conn
            };
            let negotiated = if undecided { Negotiated::NotYet } else { Negotiated::Alone };
            self.apply_peer_state(Heard { v, os, peer, real_disk, conn, negotiated }, Presence::Unknown);
        }
    }

    fn begin_handshake(&mut self, v: VolumeIndex, peer: StateWord, peer_disk: Disk) {
        let (Some(net), Some(link)) = (&self.net, &self.connection.link) else { return };
        let Some(own) = self.told_uuids(v) else { return };
        let volume = &self.volumes[v];
        let (Some(disk), Some(peer_uuids)) = (&volume.disk, volume.peer_uuids) else { return };
        let state = volume.state;
        let input = HandshakeInput {
            own,
            own_bits_sent: volume.bits_sent,
            own_bits: disk.bitmap.weight(),
            peer: peer_uuids,
            context: CompareContext {
                apv: link.version.number(),
                feature_write_same: link.features.contains(Features::WSAME),
                crashed_primary: volume.crashed_primary,
                arbiter: link.arbiter,
                self_primary: state.role == Role::Primary,
                peer_primary: peer.role == Role::Primary,
            },
            disk: state.disk,
            told_disk: told_disk(state),
            negotiation_disk: volume.negotiation.map(|(disk, _)| disk),
            peer_disk,
            policies: Policies::from(net),
            discard_my_data: volume.discard_my_data,
            dry_run: net.tentative || self.connection.peer_dry_run,
            keeps_data_in_use: side_with_data_in_use(state, peer),
            can_demote: false,
        };
        let handshake = sync_handshake(&input);
        let refused = handshake.outcome == Outcome::Refused(RefusalReason::PrimaryTarget);
        if refused && self.is_ahead_of_its_source(v, &input) {
            return self.abort_as_target(v);
        }
        if self.has_what_its_source_may_have_lost(v, &input) {
            return self.abort_behind_crashed_peer(v);
        }
        // Rule 34 is noted only by U7, when the resync begins and BITMAP moves to the history anyway. Were
        // BITMAP 0 before, and the link lost, equal generations would hide the bits of this bitmap.
        if handshake.own != input.own && handshake.own.bitmap != 0 && !self.offers_generation(v) {
            if let Some(disk) = &mut self.volumes[v].disk {
                disk.uuids = handshake.own;
            }
            self.volumes[v].mark_dirty(self.now);
        }
        self.volumes[v].peer_uuids = Some(handshake.peer);
        self.hold = Some(Hold::Handshake(Box::new(HandshakeRun { v, os: state, peer, handshake, next: 0 })));
        self.handshake_step_done(true);
    }

    /// Goes on with the handshake: logs, handlers, full sync; then its outcome.
    pub(super) fn handshake_step_done(&mut self, ok: bool) {
        let Some(Hold::Handshake(mut run)) = self.hold.take() else { return };
        let v = run.v;
        let mut outcome = run.handshake.outcome;
        if !ok || self.volumes[v].disk.is_none() {
            outcome = Outcome::Refused(RefusalReason::InconsistentSource);
            run.next = run.handshake.steps.len();
        }
        while let Some(step) = run.handshake.steps.get(run.next).cloned() {
            run.next += 1;
            match step {
                Move::Log(line) => self.log_line(Some(v), line),
                Move::Demote => {
                    let _ = self.change(v, Change::role(Role::Secondary), ChangeKind::Soft, true);
                }
                Move::Run(handler) => {
                    self.hold = Some(Hold::Handshake(run));
                    self.run_helper(Some(v), handler, HelperThen::Handshake);
                    return;
                }
                Move::SetAllBits => {
                    self.hold = Some(Hold::Handshake(run));
                    self.queue_steps(set_all_and_write(v));
                    self.queue_steps([Step::Receiver]);
                    return;
                }
            }
        }
        let verdict = self.verdict(v, run.peer, outcome);
        if self.state(v) != run.os && verdict != Verdict::NoConnection {
            // Something changed while a handler ran: decide anew (step 9).
            self.process_state(v, run.peer);
        } else {
            self.conclude_handshake(v, run.peer, verdict);
        }
    }

    /// Step 8 of spec/state.md 9.4.
    fn verdict(&self, v: VolumeIndex, peer: StateWord, outcome: Outcome) -> Verdict {
        match outcome.conn() {
            Some(conn) => Verdict::Connect(conn),
            None if self.state(v).disk == Disk::Negotiating => Verdict::OwnDiskRefused,
            None if peer.disk == Disk::Negotiating => Verdict::PeerDiskRefused,
            None => Verdict::NoConnection,
        }
    }

    /// Whether the receiver is in a handler of a handshake that gives the connection up. It does so when the
    /// handler has ended, though the peer, which has come to the same result, has closed the link meanwhile.
    pub(super) fn handshake_gives_up(&self) -> bool {
        let Some(Hold::Handshake(run)) = &self.hold else { return false };
        self.connection.state > Conn::Disconnecting
            && self.verdict(run.v, run.peer, run.handshake.outcome) == Verdict::NoConnection
    }

    /// Steps 8 to 14 of spec/state.md 9.4.
    fn conclude_handshake(&mut self, v: VolumeIndex, mut peer: StateWord, verdict: Verdict) {
        let os = self.state(v);
        if os.conn <= Conn::TearDown && verdict != Verdict::NoConnection {
            return;
        }
        self.volumes[v].consider_resync = false;
        let mut real_disk = self.real_peer_disk(v, peer);
        let conn = match verdict {
            Verdict::Connect(conn) => conn,
            Verdict::OwnDiskRefused => {
                let _ = self.change(v, Change::disk(Disk::Failed), ChangeKind::Hard, false);
                Conn::Connected
            }
            Verdict::PeerDiskRefused => {
                self.error(Some(v), "Disk attach process on the peer node was aborted.");
                peer.disk = Disk::Diskless;
                real_disk = Disk::Diskless;
                Conn::Connected
            }
            Verdict::NoConnection => {
                if std::mem::take(&mut self.connection.peer_dry_run) {
                    self.lose_link(LinkFailure { conn: Conn::ProtocolError, log: None });
                } else {
                    let _ =
                        self.change_connection(Change::conn(Conn::Disconnecting), ChangeKind::Hard, false);
                }
                return;
            }
        };
        let conn = if peer.conn == Conn::Ahead { Conn::Behind } else { conn };
        let os = self.state(v);
        let heard = Heard { v, os, peer, real_disk, conn, negotiated: Negotiated::WithPeer };
        self.apply_peer_state(heard, Presence::Unknown);
        // For this node the peer has no disk still, so no change of state tells the peer (5.2 A9). It waits for this
        // node's UUIDs, comes to the same end with them, and gives the disk up.
        if verdict == Verdict::PeerDiskRefused && self.state(v).conn >= Conn::Connected {
            self.send_uuids(v, 0);
            // It answers what the peer said of its disk, as the word of one that is not refused does.
            let state = self.state(v);
            self.send_directly(v, state_packet(StateWord { pdsk: Disk::Negotiating, ..state }));
        }
    }

    /// Steps 10 to 14.
    fn apply_peer_state(&mut self, heard: Heard, presence: Presence) {
        let Heard { v, os, peer, real_disk, conn, negotiated } = heard;
        let mut change = Change::conn(conn)
            .and(Change::peer(peer.role))
            .and(Change::pdsk(real_disk))
            .and(Change::peer_isp(peer.aftr_isp || peer.user_isp));
        if matches!(conn, Conn::Connected | Conn::WFBitMapS) && os.disk == Disk::Negotiating {
            let wanted = self.volumes[v].negotiation.map(|(disk, _)| disk);
            let disk = match negotiated {
                Negotiated::NotYet => None,
                Negotiated::WithPeer => wanted,
                Negotiated::Alone => wanted.map(|disk| self.disk_beside_no_other(v, disk)),
            };
            change = disk.map_or(change, |disk| change.and(Change::disk(disk)));
        }
        let becomes_connected = conn == Conn::Connected && os.conn < Conn::Connected;
        if becomes_connected && self.waits_for_frozen_peer(v, peer) {
            return;
        }
        if os.is_susp() && becomes_connected && self.volumes[v].new_current_uuid_owed {
            if real_disk == Disk::Consistent {
                return self.abort_thaw(v);
            }
            // A peer that is Primary still, of the same generation, has been since the link was lost, and has its cache.
            let uncertain = peer.role != Role::Primary && self.has_uncertain_writes(v);
            // Not for a peer without its disk, again and again: the generation begins when it is there, and the resync comes with its disk.
            let has_disk = real_disk >= Disk::Inconsistent;
            if has_disk && (uncertain || self.has_writes_for_this_disk_only(v)) {
                return self.abort_without_resync(v);
            }
        }
        if presence == Presence::Unknown && self.makes_disk_good(v, change) {
            let ping = self.request_ping();
            self.hold = Some(Hold::Presence { heard: Box::new(heard), ping });
            return;
        }
        if conn == Conn::WFBitMapS && self.offers_generation(v) {
            self.begin_owed_generation(v);
        }
        let soft = os.conn < Conn::Connected && conn >= Conn::Connected;
        let kind = if soft { ChangeKind::Soft } else { ChangeKind::Hard };
        if self.change(v, change, kind, true).is_err() {
            let _ = self.change_connection(Change::conn(Conn::Disconnecting), ChangeKind::Hard, false);
            return;
        }
        self.see_attached_disk_used(v, peer);
        let ns = self.state(v);
        if os.conn < Conn::Connected && peer.conn >= Conn::Connected {
            // This was the word that it sends when it is.
            self.volumes[v].first_word = FirstWord::Came;
            self.awaited_word_came(v, peer);
        }
        let undecided = peer.conn <= Conn::Connected && peer.disk != Disk::Negotiating;
        if os.conn > Conn::WFReportParams && ns.conn > Conn::Connected && undecided {
            self.send_uuids(v, 0);
            self.send_directly(v, state_packet(ns));
        }
        self.volumes[v].discard_my_data = false;
        if self.volumes().all(|(_, volume)| volume.state.conn >= Conn::Connected) {
            if let Some(net) = &mut self.net {
                net.discard_my_data = false;
            }
        }
        self.queue_steps([Step::WriteSuperBlockIfDirty { v }]);
    }

    /// Whether a disk that is Outdated, or was not known to be good, becomes good by this end of a handshake. The peer may have given the link up
    /// long ago, had this disk outdated, or heard that it is, gone on alone and crashed; its words are in this node's socket still. A ping
    /// that it answers was sent behind all that could have outdated the disk: until the handshake is over `outdate` waits. (DRBD goes by the words.)
    fn makes_disk_good(&self, v: VolumeIndex, change: Change) -> bool {
        let os = self.state(v);
        let (ns, _) = rules::sanitize(os, self.wanted_by(v, change), &self.rule_context(v));
        let unknown = matches!(os.disk, Disk::Outdated | Disk::Consistent);
        os.conn < Conn::Connected && unknown && ns.disk == Disk::UpToDate
    }

    /// The peer has answered: it has this connection still.
    pub(super) fn peer_is_present(&mut self, heard: Heard) {
        if self.state(heard.v) == heard.os {
            self.apply_peer_state(heard, Presence::Proved);
        } else {
            // As behind a handler: decide anew (step 9).
            self.process_state(heard.v, heard.peer);
        }
    }

    /// The peer says that it is Connected: if it has no disk, the generation of what it writes here begins, which waited for that.
    fn awaited_word_came(&mut self, v: VolumeIndex, peer: StateWord) {
        if peer.conn >= Conn::Connected
            && std::mem::take(&mut self.volumes[v].generation_awaits_peer)
            && peer.disk < Disk::Inconsistent
        {
            self.undo_outdate(v);
            // Old data, as those of a resync that never began, do not become the newest because somebody uses them.
            if self.state(v).disk >= Disk::UpToDate {
                self.volumes[v].uuid_hold = true;
                self.queue_steps([Step::NewCurrentUuidForPeer { v }]);
            }
        }
    }

    /// A Primary without a disk says that it works with the one that was attached here: the generation of what it writes begins. It may have
    /// refused that, or be demoted, and then nothing is written.
    fn see_attached_disk_used(&mut self, v: VolumeIndex, peer: StateWord) {
        let volume = &mut self.volumes[v];
        if volume.attached_for_primary && peer.role == Role::Primary && peer.pdsk >= Disk::Inconsistent {
            volume.attached_for_primary = false;
            volume.uuid_hold = true;
            self.queue_steps([Step::NewCurrentUuidForPeer { v }]);
        }
    }

    /// A Primary without a disk has taken the data of this node for those that it goes by. If they were good when the two lost each other, and
    /// this node gave way to it then, or was told to, they are the good ones still. (DRBD takes them for good, whatever made them old.)
    fn undo_outdate(&mut self, v: VolumeIndex) {
        let state = self.state(v);
        if self.volumes[v].outdated_alone && state.conn == Conn::Connected && state.peer == Role::Primary {
            let _ = self.change(v, Change::disk(Disk::UpToDate), ChangeKind::Hard, false);
            self.queue_steps([Step::WriteSuperBlock { v }, Step::SendState { v, word: self.state(v) }]);
        }
    }

    /// A frozen Primary has not decided yet: what this node has lost with its cache it may want to bring with a resync, and give the
    /// connection up for that ([`abort_thaw`](Self::abort_thaw), [`abort_without_resync`](Self::abort_without_resync)). Until it says
    /// that it is Connected, which every peer does (spec/state.md 5.2 A18; none says that it goes on), a disk that
    /// was not known to be good does not become so, and the handshake is open. (DRBD takes it for good: it may be promoted then, if the
    /// Primary has gone.)
    fn waits_for_frozen_peer(&self, v: VolumeIndex, peer: StateWord) -> bool {
        let own = self.state(v);
        let unknown = own.role == Role::Secondary && matches!(own.disk, Disk::Consistent | Disk::Outdated);
        // One without good data has nothing to bring.
        let has_data = peer.disk == Disk::UpToDate;
        unknown && has_data && peer.role == Role::Primary && peer.is_susp() && peer.conn < Conn::Connected
    }

    /// What a negotiating disk becomes when the peer turns out to have none: `wanted`, unless this node
    /// has exposed newer data of the peer since. A Primary must not fall back to old data then; on a
    /// Secondary they are known to be old.
    fn disk_beside_no_other(&mut self, v: VolumeIndex, wanted: Disk) -> Disk {
        let volume = &self.volumes[v];
        let exposed = volume.effective_uuid;
        let own = volume.disk.as_ref().map_or(0, |disk| disk.uuids.current);
        let wrote = volume.wrote_without_disk;
        if !wrote && (exposed == 0 || without_role(exposed) == without_role(own)) {
            wanted
        } else if volume.state.role == Role::Primary {
            self.log_other_data(v);
            Disk::Failed
        } else {
            wanted.min(Disk::Outdated)
        }
    }

    /// The peer asks for a change of the whole cluster. spec/state.md 6.3.
    pub(super) fn receive_state_change_request(
        &mut self,
        v: Option<VolumeIndex>,
        request: StateChangeRequest,
        connection_wide: bool,
    ) {
        let change = Change::from_wire(request.mask, request.val).map(Change::seen_by_peer);
        let gives_up = change.is_ok_and(|change| change.conn == Some(Conn::StartingSyncT));
        if let Some(v) = v.filter(|_| gives_up && !connection_wide) {
            if let Some(newest) = self.flush_before_giving_up(v) {
                self.volumes[v].order_to_give_up = Some((request, newest));
                return;
            }
        }
        self.answer_state_change_request(v, request, connection_wide);
    }

    /// Orders of the peer that waited until its disk keeps what is on the own one. True: something was done.
    pub(super) fn run_orders_to_give_up(&mut self) -> bool {
        let mut progress = false;
        for v in self.volume_indices() {
            let Some((request, newest)) = self.volumes[v].order_to_give_up else { continue };
            if self.peer_keeps(v, newest) {
                self.volumes[v].order_to_give_up = None;
                progress = true;
                if self.state(v).conn >= Conn::Connected {
                    self.answer_state_change_request(Some(v), request, false);
                }
            }
        }
        progress
    }

    fn answer_state_change_request(
        &mut self,
        v: Option<VolumeIndex>,
        request: StateChangeRequest,
        connection_wide: bool,
    ) {
        let code = if self.is_arbiter() && self.waits_for_peer() {
            StateError::ConcurrentStateChange.code()
        } else {
            match Change::from_wire(request.mask, request.val) {
                // No node asks for the others: they are decided by each for itself, when its link ends.
                Ok(Change { conn: Some(conn), .. }) if conn.seen_by_peer() == Conn::StandAlone => {
                    self.error(v, format!("the peer asks for cs:{conn}"));
                    StateError::UnknownError.code()
                }
                Ok(change) => self.execute_for_peer(v, change.seen_by_peer()),
                Err(error) => {
                    self.error(v, error.to_string());
                    StateError::UnknownError.code()
                }
            }
        };
        // A link that is to be torn down still carries this answer: see `CloseLink::drain_meta`.
        let packet = if connection_wide {
            Packet::ConnectionStateChangeReply(code)
        } else {
            Packet::StateChangeReply(code)
        };
        let volume = v.and_then(|v| self.volumes.get(v)).map_or(0, |volume| volume.number);
        let close = self.out.iter().position(|output| matches!(output, Output::CloseLink { .. }));
        let reply =
            Output::Send { socket: crate::wire::Socket::Meta, volume, packet, payload: None, notify: None };
        match close {
            Some(at) => self.out.insert(at, reply),
            None if self.connection.phase == Phase::Up => self.out.push(reply),
            None => {}
        }
        if let Some(v) = v {
            self.queue_steps([Step::WriteSuperBlockIfDirty { v }]);
        }
    }

    fn execute_for_peer(&mut self, v: Option<VolumeIndex>, change: Change) -> i32 {
        let wide = change.conn == Some(Conn::TearDown);
        self.commits_for_peer = true;
        let result = match v {
            Some(v) if !wide => match self.why_not_for_peer(v, change) {
                Some(error) => {
                    let wanted = change.apply(self.state(v));
                    self.conclude(v, Err(Refusal { error, wanted }), true)
                }
                None => {
                    let result = self.change(v, change, ChangeKind::Soft, true);
                    if let (Ok(_), Some(role)) = (&result, change.peer) {
                        self.volumes[v].peer_told_role = role;
                    }
                    result
                }
            },
            _ => self.change_connection(change, ChangeKind::SoftKeepingDisk, true),
        };
        self.commits_for_peer = false;
        state_code(result)
    }

    /// Whether the peer's data are to be given up for this node's, which a crash would make Inconsistent still: a resync has just brought
    /// them, and that is not on the disk yet. Then no node would have good data. (DRBD begins the full sync.)
    pub(super) fn may_not_give_peer_up(&self, v: VolumeIndex, change: Change) -> bool {
        let volume = &self.volumes[v];
        let is_marked = volume.disk.as_ref().is_some_and(|disk| disk.good_mark_durable);
        let waits = volume.state.disk == Disk::UpToDate && !is_marked && !volume.io_error_seen;
        change.conn == Some(Conn::StartingSyncS) && waits
    }

    /// Why the peer is not to have what it asks for, though it would change nothing here: it has not heard yet what became of the disk
    /// of this node. A Primary gives its own up, and this one is not UpToDate any more: as the target of the resync of new
    /// space, which its source has not begun. Or the peer becomes Primary with the data of a disk that has failed since. Or it gives its
    /// data up for those of a disk that is gone.
    fn why_not_for_peer(&self, v: VolumeIndex, change: Change) -> Option<StateError> {
        let state = self.state(v);
        if (change.pdsk == Some(Disk::Failed) || change.peer == Some(Role::Primary))
            && rules::primary_without_data(change.apply(state).seen_by_peer())
        {
            return Some(StateError::NoUpToDateDisk);
        }
        if change.conn == Some(Conn::StartingSyncS) && state.disk < Disk::Inconsistent {
            return Some(StateError::NoLocalDisk);
        }
        // It was for the disk before this one, of which the peer decides now what is to be done. (DRBD begins it, and waits for ever.)
        let negotiates = change.conn == Some(Conn::StartingSyncT) && state.disk == Disk::Negotiating;
        (self.leaves_peer_unasked(v, change) || negotiates || self.may_not_give_peer_up(v, change))
            .then_some(StateError::InTransientState)
    }
}

/// P_STATE with this state word. An old disk beside a peer without one is told as Inconsistent: DRBD
/// takes an Outdated disk of a connected peer for UpToDate (spec/state.md 4.1 S9).
/// A disk that is being attached is none yet: the peer answers with its UUIDs when it sees one for the
/// first time, and has to do so when this one negotiates (5.2 A9).
pub(super) fn state_packet(word: StateWord) -> Packet {
    Packet::State(StateWord { disk: told_disk(word), ..word }.to_bits())
}

/// [`HandshakeInput::keeps_data_in_use`]; `own`: this node's state before it goes by the peer's word.
fn side_with_data_in_use(own: StateWord, peer: StateWord) -> Option<Side> {
    let attaches = |node: StateWord| node.role == Role::Primary && node.disk == Disk::Negotiating;
    if attaches(own) && own.pdsk == Disk::UpToDate {
        Some(Side::Target)
    } else if attaches(peer) && own.disk == Disk::UpToDate {
        Some(Side::Source)
    } else {
        None
    }
}

/// What the peer hears of the disk.
fn told_disk(word: StateWord) -> Disk {
    match word.disk {
        Disk::Outdated if word.conn == Conn::Connected => Disk::Inconsistent,
        Disk::Attaching => Disk::Diskless,
        disk => disk,
    }
}

/// Both ends' policies go together: equal, or one discards what the other keeps.
fn compatible(own: AfterSplitBrain, peer: u32) -> bool {
    AfterSplitBrain::from_number(peer).is_some_and(|peer| mirrored(peer) == own)
}

fn mirrored(policy: AfterSplitBrain) -> AfterSplitBrain {
    match policy {
        AfterSplitBrain::DiscardLocal => AfterSplitBrain::DiscardRemote,
        AfterSplitBrain::DiscardRemote => AfterSplitBrain::DiscardLocal,
        other => other,
    }
}
