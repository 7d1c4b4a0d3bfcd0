//! Committing a state change: checks, log, synchronous effects. spec/state.md 3.2 and 5.1.

use super::codes::{StateResult, StateSuccess};
use super::connection::Phase;
use super::log_lines::{self, UuidEvent};
use super::rules::{self, ChangeKind, Decision, Refusal, RuleContext};
use super::state::{Change, Conn, Disk, Role, StateWord};
use super::steps::{Step, Work};
use super::types::*;
use super::volume::FirstWord;
use super::Resource;
use crate::conf::settings::Fencing;

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
            effective_uuid_is_current: current == Some(volume.effective_uuid)
                && !volume.wrote_without_disk
                && !volume.disk_left_to_primary,
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
    /// it at Inconsistent: a Primary neither freezes nor has it fenced.) Nor does a peer count as Outdated that a handshake may have made good.
    pub(super) fn wanted_by(&self, v: VolumeIndex, change: Change) -> StateWord {
        let os = self.state(v);
        let mut wanted = change.apply(os);
        let peer_may_be_good = || match os.conn {
            Conn::WFReportParams => self.may_have_lifted_peer(v),
            conn => {
                conn.is_sync_source() && self.target_may_be_good(v) && !mutant!("lost-target-inconsistent")
            }
        };
        if wanted.conn < Conn::Connected && change.pdsk.is_none() && peer_may_be_good() {
            wanted.pdsk = Disk::DUnknown;
        }
        let apart = os.conn >= Conn::Connected && wanted.conn < Conn::Connected;
        if apart && change.disk.is_none() && self.is_good_beside_no_other(v) {
            wanted.disk = Disk::Consistent;
        }
        wanted
    }

    /// Whether the peer's disk, which is Outdated, may be UpToDate by the words of this handshake, of which this node has not heard the end: it does not
    /// count as fenced any more. (DRBD goes on without it.)
    fn may_have_lifted_peer(&self, v: VolumeIndex) -> bool {
        let volume = &self.volumes[v];
        let good = volume.state.disk == Disk::UpToDate && volume.state.pdsk == Disk::Outdated;
        good && volume.shares_generation() && self.connection.state_sent
    }

    /// Whether the disk is UpToDate for no other reason than that the connected peer has none: see
    /// [`lifted_beside_none`](super::volume::Volume::lifted_beside_none).
    fn is_good_beside_no_other(&self, v: VolumeIndex) -> bool {
        let volume = &self.volumes[v];
        volume.lifted_beside_none && volume.state.disk == Disk::UpToDate && !self.is_in_use(v)
    }

    /// Whether a Primary goes by the data of this disk: this node, or the peer without a disk, which has taken them.
    pub(super) fn is_in_use(&self, v: VolumeIndex) -> bool {
        let volume = &self.volumes[v];
        let heard = !volume.generation_awaits_peer && !volume.promotion_unheard;
        let served = volume.state.peer == Role::Primary && heard;
        volume.state.role == Role::Primary || served
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
        let used = self.note_use(v, os);
        self.volumes[v].state = ns;
        self.changes += 1;
        self.wake = true;
        self.out.push(Output::State { volume: v, old: os, new: ns });
        if os.disk == Disk::Attaching && ns.disk >= Disk::Negotiating {
            self.log_uuids(v, UuidEvent::Attached);
        }
        let handshake_over = os.conn == Conn::WFReportParams && ns.conn != os.conn;
        if handshake_over && self.volumes().all(|(_, volume)| volume.state.conn != Conn::WFReportParams) {
            self.connection.state_sent = false;
        }
        self.resync_state_effects(v, os, ns);
        self.note_resync(v, os, ns);
        self.note_bitmap(v, os, ns);
        self.note_peer_disk(v, os, ns);
        self.note_own_disk(v, os, ns);
        self.note_exposed_data(v, os, ns);
        let generation = self.note_generation(v, os, ns, used);
        if ns.conn < Conn::Connected {
            self.volumes[v].first_word = FirstWord::Came;
        } else if os.conn < Conn::Connected {
            self.volumes[v].first_word = FirstWord::Due;
            self.resume_al_updates(v);
        }
        if os.conn != ns.conn || os.disk > Disk::Failed && ns.disk <= Disk::Failed {
            self.forget_resync_start(v);
        }
        if os.conn != ns.conn {
            self.connection_changed(os.conn, ns.conn);
        }
        self.fifo.push_back(Work::After { v, os, ns, generation, newest: self.log.newest() });
        self.note_size(v, os, ns);
        if handshake_over {
            for order in std::mem::take(&mut self.volumes[v].resizes_after_handshake) {
                self.queue_steps([Step::Resize { v, order }]);
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

    /// Notes whether the flags in the super block have to change (spec/state.md 13.1).
    pub(super) fn refresh_meta_flags(&mut self, v: VolumeIndex) {
        let volume = &mut self.volumes[v];
        if volume.state.disk < Disk::Inconsistent {
            return;
        }
        let crashed = volume.crashed_primary;
        // Until the peer says that its disk is gone, which this node has agreed to, it writes there. If both crash before that, the mark of that
        // Primary alone says whose data count: by protocol A it may have more. (DRBD sets its own mark, too.)
        let pdsk = if volume.peer_disk_let_go { Disk::UpToDate } else { volume.state.pdsk };
        let state = StateWord { pdsk, ..volume.state };
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
