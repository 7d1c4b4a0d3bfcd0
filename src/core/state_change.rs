//! Committing a state change: checks, log, synchronous effects. spec/state.md 3.2 and 5.1.

use super::codes::{StateResult, StateSuccess};
use super::connection::Phase;
use super::log_lines::{self, UuidEvent};
use super::metadata_flags::has_primary_mark;
use super::rules::{self, ChangeKind, Decision, Refusal, RuleContext};
use super::state::{Change, Conn, Disk, Role, StateWord};
use super::steps::{Step, Work};
use super::types::*;
use super::volume::FirstWord;
use super::{uuid, Resource};
use crate::conf::settings::Fencing;

/// A Primary without a disk connects to the data of this node. Whether it takes them, or hangs up
/// because they are not those that it has lost, is known when its own state says Connected: only then
/// they are a new generation.
fn diskless_primary_connects(os: StateWord, ns: StateWord) -> bool {
    os.conn < Conn::Connected
        && ns.conn >= Conn::Connected
        && ns.peer == Role::Primary
        && ns.pdsk <= Disk::Failed
        && ns.disk >= Disk::Inconsistent
}

impl Resource {
    /// What the rules need to know about a volume besides its word.
    pub(super) fn rule_context(&self, v: VolumeIndex) -> RuleContext {
        let volume = &self.volumes[v];
        let current = volume.disk.as_ref().map(|disk| disk.uuids.current);
        let other =
            |(i, other): (VolumeIndex, &super::volume::Volume)| i != v && other.state.peer == Role::Primary;
        RuleContext {
            fencing: RuleContext::fencing_in_force(self.fencing(v), volume.state.disk),
            on_no_data: self.settings.on_no_data_accessible,
            allow_two_primaries: self.net.as_ref().is_some_and(|net| net.allow_two_primaries),
            has_net_config: self.net.is_some(),
            other_volume_peer_primary: self.volumes().any(other),
            open_count: 0,
            apv: self.apv(),
            verify_alg_set: self.net.as_ref().is_some_and(|net| !net.verify_alg.is_empty()),
            state_sent: self.connection.state_sent,
            negotiation_result: volume.negotiation,
            effective_uuid_is_current: current == Some(volume.effective_uuid) && !volume.wrote_without_disk,
            lacks_new_space_only: volume.lacks_new_space_only,
        }
    }

    /// The fencing policy of a volume; a node without disk has none.
    pub(super) fn fencing(&self, v: VolumeIndex) -> Fencing {
        match self.volumes[v].disk {
            Some(_) => self.volumes[v].settings.fencing,
            None => Fencing::DontCare,
        }
    }

    /// The state that a change leads to. A source that loses its target takes it for Inconsistent only as long as it must be: before
    /// the first block was asked for, and when the last ones are on their way, it may call its disk UpToDate. (DRBD leaves
    /// it at Inconsistent: a Primary neither freezes nor has it fenced.)
    pub(super) fn wanted_by(&self, v: VolumeIndex, change: Change) -> StateWord {
        let os = self.state(v);
        let mut wanted = change.apply(os);
        let lost = os.conn.is_sync_source() && wanted.conn < Conn::Connected;
        if lost && change.pdsk.is_none() && self.target_may_be_good(v) && !mutant!("lost-target-inconsistent")
        {
            wanted.pdsk = Disk::DUnknown;
        }
        let apart = os.conn >= Conn::Connected && wanted.conn < Conn::Connected;
        if apart && change.disk.is_none() && self.is_good_beside_no_other(v) {
            wanted.disk = Disk::Consistent;
        }
        wanted
    }

    /// Whether the disk is UpToDate for no other reason than that the connected peer has none: see
    /// [`lifted_beside_none`](super::volume::Volume::lifted_beside_none).
    fn is_good_beside_no_other(&self, v: VolumeIndex) -> bool {
        let volume = &self.volumes[v];
        volume.lifted_beside_none && volume.state.disk == Disk::UpToDate && !self.is_in_use(v)
    }

    /// Whether a Primary goes by the data of this disk: this node, or the peer without a disk, which has taken them.
    fn is_in_use(&self, v: VolumeIndex) -> bool {
        let volume = &self.volumes[v];
        let heard = !volume.generation_awaits_peer && !volume.promotion_unheard;
        let served = volume.state.peer == Role::Primary && heard;
        volume.state.role == Role::Primary || served
    }

    /// Keeps [`lifted_beside_none`](super::volume::Volume::lifted_beside_none) up to date. `used`: a Primary went by the data before
    /// the change.
    fn note_lifted_disk(&mut self, v: VolumeIndex, os: StateWord, ns: StateWord, used: bool) {
        let unknown = match self.volumes[v].negotiation {
            Some((disk, _)) if os.disk == Disk::Negotiating => disk == Disk::Consistent,
            _ => os.disk == Disk::Consistent,
        };
        let beside_none =
            ns.conn == Conn::Connected && ns.disk == Disk::UpToDate && ns.pdsk < Disk::Inconsistent;
        let lifted = unknown || self.volumes[v].lifted_beside_none && !used;
        self.volumes[v].lifted_beside_none = beside_none && lifted && !self.is_in_use(v);
    }

    /// Changes the state of one volume. `verbose`: a refusal is logged.
    pub(super) fn change(
        &mut self,
        v: VolumeIndex,
        change: Change,
        kind: ChangeKind,
        verbose: bool,
    ) -> StateResult {
        self.change_in(v, change, kind, verbose, self.rule_context(v))
    }

    pub(super) fn change_in(
        &mut self,
        v: VolumeIndex,
        change: Change,
        kind: ChangeKind,
        verbose: bool,
        context: RuleContext,
    ) -> StateResult {
        let decision = rules::decide(self.state(v), self.wanted_by(v, change), kind, &context);
        self.conclude(v, decision, verbose)
    }

    /// Carries out what was decided about the state of now.
    pub(super) fn conclude(
        &mut self,
        v: VolumeIndex,
        decision: Result<Decision, Refusal>,
        verbose: bool,
    ) -> StateResult {
        match decision {
            Ok(Decision::Unchanged) => Ok(StateSuccess::NothingToDo),
            Ok(Decision::Commit { ns, warning }) => {
                if let Some(warning) = warning {
                    self.warning(Some(v), warning.text());
                }
                self.commit(v, ns);
                Ok(StateSuccess::Success)
            }
            Err(refusal) => {
                if verbose {
                    self.log_refusal(v, self.state(v), &refusal);
                }
                Err(refusal.error)
            }
        }
    }

    pub(super) fn log_refusal(&mut self, v: VolumeIndex, os: StateWord, refusal: &Refusal) {
        for line in log_lines::refused_change(os, refusal.wanted, refusal.error) {
            self.log_line(Some(v), line);
        }
    }

    /// Changes something of the connection: on all volumes, or on none.
    pub(super) fn change_connection(
        &mut self,
        change: Change,
        kind: ChangeKind,
        verbose: bool,
    ) -> StateResult {
        let indices: Vec<VolumeIndex> = self.volumes().map(|(v, _)| v).collect();
        for v in &indices {
            let (os, wanted) = (self.state(*v), self.wanted_by(*v, change));
            if let Err(refusal) = rules::decide(os, wanted, kind, &self.rule_context(*v)) {
                if verbose {
                    self.log_refusal(*v, os, &refusal);
                }
                return Err(refusal.error);
            }
        }
        let mut result = StateSuccess::NothingToDo;
        for v in &indices {
            if self.change(*v, change, kind, false)? == StateSuccess::Success {
                result = StateSuccess::Success;
            }
        }
        if let (Some(conn), true) = (change.conn, indices.is_empty()) {
            result = self.change_bare_connection(conn)?;
        }
        Ok(result)
    }

    /// A resource without volumes has a connection, too.
    fn change_bare_connection(&mut self, conn: Conn) -> StateResult {
        let os = StateWord { conn: self.connection.state, ..StateWord::UNCONFIGURED };
        let ns = StateWord { conn: conn.min(Conn::WFReportParams), ..os };
        if os == ns {
            return Ok(StateSuccess::NothingToDo);
        }
        rules::hard_transition(os, ns)?;
        self.out.push(Output::BareConnection { conn: ns.conn });
        self.connection_changed(os.conn, ns.conn);
        if os.conn == Conn::StandAlone && ns.conn == Conn::Unconnected {
            self.fifo.push_back(Work::Step(super::steps::Step::StartReceiver));
        }
        Ok(StateSuccess::Success)
    }

    /// Assigns a new state that was decided to be right, with all that happens at once.
    pub(super) fn commit(&mut self, v: VolumeIndex, ns: StateWord) {
        let os = self.state(v);
        self.log_line(Some(v), log_lines::state_change_83(os, ns));
        if rules::replicates(os) != rules::replicates(ns) {
            self.epochs.close(self.now);
        }
        if os.conn >= Conn::Connected {
            self.volumes[v].served_primary = self.serves_primary(v);
        }
        let used = self.is_in_use(v);
        self.volumes[v].state = ns;
        if ns.role == Role::Secondary && ns.conn == Conn::StandAlone && ns.disk == Disk::Diskless {
            // Unconfigured (spec/state.md 12.1).
            self.volumes[v].peer_size = 0;
            self.volumes[v].peer_user_size = 0;
        }
        self.volumes[v].left_by_crash &= super::continuation::keeps_data(ns);
        self.changes += 1;
        self.wake = true;
        self.out.push(Output::State { volume: v, old: os, new: ns });

        if os.disk == Disk::Attaching && ns.disk >= Disk::Negotiating {
            self.log_uuids(v, UuidEvent::Attached);
        }
        if os.conn == Conn::WFReportParams && ns.conn != os.conn {
            let waits = self.volumes().any(|(_, volume)| volume.state.conn == Conn::WFReportParams);
            if !waits {
                self.connection.state_sent = false;
            }
        }
        self.resync_state_effects(v, os, ns);
        if os.conn != ns.conn && matches!(ns.conn, Conn::WFBitMapS | Conn::WFBitMapT) {
            self.writes_come_too_late_for_sync(v);
        }
        if os.conn != ns.conn && ns.conn == Conn::WFBitMapS {
            // A write that was let in before the fifo comes to the bitmap would be announced behind it, and the bitmap waits for its end.
            self.volumes[v].bitmap_io = true;
        }
        if ns.conn == Conn::StartingSyncT {
            self.volumes[v].invalidating = true;
        } else if ns.conn.is_sync_target() || !matches!(ns.disk, Disk::Inconsistent | Disk::Outdated) {
            self.volumes[v].invalidating = false;
        }
        self.volumes[v].lacks_new_space_only &= ns.conn == Conn::WFSyncUUID;
        self.volumes[v].gets_new_space_only &= ns.conn == Conn::WFSyncUUID || ns.conn.is_sync_target();
        let has_bits = ns.conn.is_sync_target() && !self.volumes[v].gets_new_space_only;
        if ns.conn == Conn::WFBitMapT {
            self.volumes[v].bitmap_lacks_peers = true;
        } else if has_bits || ns.disk == Disk::UpToDate || ns.disk == Disk::Diskless {
            self.volumes[v].bitmap_lacks_peers = false;
        } else if ns.conn == Conn::Connected && ns.disk == Disk::Inconsistent && ns.peer == Role::Primary {
            // Without a resync it mirrors nothing to such a disk, nor says what it writes (spec/wire.md 7.1 step 5).
            self.volumes[v].bitmap_lacks_peers = true;
        }
        if os.pdsk >= Disk::Inconsistent && ns.pdsk <= Disk::Failed {
            self.peer_disk_went(v);
        }
        self.volumes[v].wrote_without_disk &= ns.disk != Disk::UpToDate;
        self.note_unheard_end(v, os, ns);
        let unanswered = os.disk == Disk::Negotiating && self.volumes[v].peer_uuids.is_none();
        if ns.conn < Conn::Connected || ns.pdsk < Disk::Inconsistent {
            // Without a disk the peer sends no UUIDs, and those from before came before that news.
            self.volumes[v].late_answers = 0;
        } else if unanswered && ns.disk < Disk::Negotiating {
            self.volumes[v].late_answers += 1;
        }
        let lets_go = os.pdsk > Disk::Failed && ns.pdsk == Disk::Failed && self.commits_for_peer;
        let no_resync = ns.conn == Conn::Connected && ns.disk > Disk::Negotiating;
        self.volumes[v].peer_disk_let_go = no_resync && (lets_go || self.volumes[v].peer_disk_let_go);
        let peer_is_good_again = os.pdsk < Disk::UpToDate && ns.pdsk == Disk::UpToDate;
        if let Some(disk) = self.volumes[v].disk.as_mut().filter(|_| peer_is_good_again) {
            disk.refused_by_peer = false;
        }
        let alone = os.conn < Conn::Connected && ns.conn < Conn::Connected;
        let outdated = alone && os.disk > Disk::Outdated || self.volumes[v].outdated_alone;
        self.volumes[v].outdated_alone = outdated && ns.disk == Disk::Outdated && ns.conn <= Conn::Connected;
        self.hold_marks(v, os, ns);
        self.refresh_meta_flags(v);
        if os.disk < Disk::Consistent && ns.disk >= Disk::Consistent {
            if let Some(disk) = &self.volumes[v].disk {
                self.volumes[v].effective_uuid = disk.uuids.current;
            }
        }
        // Without a disk this node exposes the peer's data. So does a Primary that is the target of a resync, also if it was promoted
        // when that had begun, and loses the link before the disk.
        let exposes_peer =
            ns.disk < Disk::Inconsistent || ns.role == Role::Primary && ns.disk < Disk::UpToDate;
        if exposes_peer && ns.conn >= Conn::Connected && ns.pdsk == Disk::UpToDate {
            if let Some(peer) = self.volumes[v].peer_uuids {
                self.volumes[v].effective_uuid = peer.uuids.current;
            }
        }
        if ns.conn > Conn::Connected {
            // A full sync was agreed to meanwhile, or is the result: there is no other one to consider.
            self.volumes[v].consider_resync = false;
        }
        let both_inconsistent = os.disk == Disk::Inconsistent && os.pdsk == Disk::Inconsistent;
        if both_inconsistent && os.peer == Role::Secondary && ns.peer == Role::Primary {
            self.volumes[v].consider_resync = true;
        }
        // The Primary asked whether it may detach; whether it does, its next state word tells. If the link
        // is lost before, both go on with the same data: this node, if it is Primary too, like any that lost its peer.
        let peer_detaches = self.commits_for_peer
            && ns.peer == Role::Primary
            && ns.conn >= Conn::Connected
            && uuid::lost_peer_data(os, ns, 0);
        let meets = os.conn < Conn::Connected && ns.conn >= Conn::Connected;
        if meets || ns.disk < Disk::UpToDate {
            self.volumes[v].served_primary = false;
        }
        self.volumes[v].target_agreed = match ns.conn {
            Conn::StartingSyncS if os.conn != ns.conn => !self.commits_for_peer,
            Conn::StartingSyncS | Conn::SyncSource | Conn::PausedSyncS => self.volumes[v].target_agreed,
            _ => false,
        };
        let awaited_peer = self.volumes[v].generation_awaits_peer && ns.conn < Conn::Connected;
        if diskless_primary_connects(os, ns) || peer_detaches {
            self.volumes[v].generation_awaits_peer = true;
        } else if ns.conn < Conn::Connected {
            self.volumes[v].generation_awaits_peer = false;
        }
        let promoted = uuid::peer_became_diskless_primary(os, ns, 0);
        let stays = ns.peer == Role::Primary && ns.pdsk < Disk::Inconsistent && ns.disk >= Disk::UpToDate;
        let unheard = self.commits_for_peer && promoted || self.volumes[v].promotion_unheard && stays;
        self.volumes[v].promotion_unheard = unheard;
        self.volumes[v].attached_for_primary = uuid::attached_for_diskless_primary(os, ns)
            || self.volumes[v].attached_for_primary && stays && ns.conn >= Conn::Connected;
        self.note_lifted_disk(v, os, ns, used);
        let lost_peer = uuid::lost_peer_data(os, ns, 0) && !self.volumes[v].generation_awaits_peer
            || awaited_peer && ns.role == Role::Primary && ns.disk >= Disk::UpToDate
            || uuid::primary_attached_alone(os, ns)
            || self.leaves_refused_writes(v, os, ns);
        let lost_peer = lost_peer && !mutant!("no-generation-at-loss");
        if lost_peer {
            // No write that the peer lacks completes before the new generation is durable.
            self.volumes[v].uuid_hold = self.volumes[v].disk.is_some();
        }
        if ns.conn < Conn::Connected {
            self.volumes[v].first_word = FirstWord::Came;
        } else if os.conn < Conn::Connected {
            self.volumes[v].first_word = FirstWord::Due;
            self.resume_al_updates(v);
        }
        if os.conn != ns.conn {
            self.forget_resync_start(v);
            self.connection_changed(os.conn, ns.conn);
        }
        let generation = lost_peer || promoted && !unheard && !self.volumes[v].generation_awaits_peer;
        self.fifo.push_back(Work::After { v, os, ns, generation });
        self.expose_accepted_size(v, os, ns);
        if meets {
            self.volumes[v].size_at_meeting =
                if ns.pdsk > Disk::Negotiating { self.volumes[v].size } else { 0 };
        }
        if os.conn == Conn::WFReportParams && ns.conn != os.conn {
            for (id, size, flags) in std::mem::take(&mut self.volumes[v].resizes_after_handshake) {
                self.queue_steps([Step::Resize { v, id, size, flags }]);
            }
        }
    }

    /// The connection's own state follows its volumes; a link that is to go is closed.
    fn connection_changed(&mut self, old: Conn, new: Conn) {
        let before = self.connection.state;
        self.connection.state = new.min(Conn::WFReportParams);
        if new == Conn::WFReportParams && old < new {
            self.connection.since = self.now;
        }
        if new == Conn::Disconnecting || (new.is_lost() && old > Conn::WFConnection) {
            let drain_meta =
                new == Conn::TearDown || before == Conn::WFReportParams && new == Conn::Disconnecting;
            match self.connection.phase {
                Phase::Idle => self.connection.phase = Phase::Closed,
                Phase::Connecting | Phase::Up => {
                    self.connection.phase = Phase::Closing;
                    self.out.push(Output::CloseLink { drain_meta });
                }
                Phase::Closing | Phase::Closed => {}
            }
        }
    }

    /// Whether a Primary is demoted before it has heard that the peer's disk, which refused its writes, is gone: by then it is
    /// nobody's loss, and the peer may attach it again.
    fn leaves_refused_writes(&self, v: VolumeIndex, os: StateWord, ns: StateWord) -> bool {
        let demoted = os.role == Role::Primary && ns.role == Role::Secondary;
        let refused = self.volumes[v].disk.as_ref().is_some_and(|disk| disk.refused_by_peer);
        demoted && ns.pdsk == Disk::UpToDate && refused
    }

    /// Whether the generation that this node goes on in may be its target's, too, from now on. As long as the next resync has not begun
    /// this stays as it was: the target may have heard nothing of it, and be promoted.
    fn note_unheard_end(&mut self, v: VolumeIndex, os: StateWord, ns: StateWord) {
        let apart = ns.conn < Conn::Connected || ns.pdsk < Disk::Inconsistent;
        let met = !apart && ns.disk > Disk::Negotiating && ns.conn != Conn::WFBitMapS;
        let lost = os.conn.is_sync_source() && apart && self.target_may_be_good(v);
        let volume = &mut self.volumes[v];
        let Some(disk) = &mut volume.disk else { return };
        if met {
            disk.unheard_target = None;
        } else if lost {
            disk.unheard_target = Some(volume.peer_uuids.map_or(0, |peer| peer.uuids.current));
        }
    }

    /// The super block may tell of a demotion, or of the end of a resync, only when the data and the
    /// bitmap are durable; a write of it that was decided before comes in between.
    fn hold_marks(&mut self, v: VolumeIndex, os: StateWord, ns: StateWord) {
        let Some(disk) = &mut self.volumes[v].disk else { return };
        if ns.disk < Disk::Inconsistent {
            return;
        }
        match (has_primary_mark(os), has_primary_mark(ns)) {
            (true, false) => disk.keep_primary_mark = true,
            (_, true) => disk.keep_primary_mark = false,
            (false, false) => {}
        }
        if os.disk < Disk::UpToDate && os.conn >= Conn::SyncSource && ns.conn == Conn::Connected {
            disk.keep_inconsistent = true;
        }
    }

    /// Notes whether the flags in the super block have to change (spec/state.md 13.1).
    pub(super) fn refresh_meta_flags(&mut self, v: VolumeIndex) {
        let volume = &mut self.volumes[v];
        if volume.state.disk < Disk::Inconsistent {
            return;
        }
        let crashed = volume.crashed_primary;
        let state = volume.state;
        if let Some(disk) = &mut volume.disk {
            let flags = super::metadata_flags::recomputed(disk.super_block.flags, state, crashed);
            if flags != disk.super_block.flags {
                disk.super_block.flags = flags;
                disk.dirty_since.get_or_insert(self.now);
            }
        }
    }

    pub(super) fn log_uuids(&mut self, v: VolumeIndex, event: UuidEvent) {
        let volume = &self.volumes[v];
        let line = match &volume.disk {
            Some(disk) if volume.state.disk >= Disk::Negotiating => log_lines::uuids(event, &disk.uuids),
            _ => log_lines::effective_uuid(event, volume.effective_uuid),
        };
        self.log_line(Some(v), line);
    }
}
