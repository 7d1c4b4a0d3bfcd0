//! A request on its way to a decision: tried here, asked of the peer, tried again. spec/state.md 6.2.

use super::{disconnect_change, Stage, Task, TaskKind};
use crate::core::codes::{StateError, StateResult, StateSuccess};
use crate::core::connection::Phase;
use crate::core::handshake::state_packet;
use crate::core::log_lines;
use crate::core::rules::{self, ChangeKind};
use crate::core::state::{Change, Conn, Disk, Role};
use crate::core::steps::Step;
use crate::core::types::*;
use crate::core::volume::Volume;
use crate::core::Resource;
use crate::wire::packet::Packet;
use crate::wire::StateChangeRequest;

impl Resource {
    pub(super) fn try_task(&mut self, mut task: Task) {
        match task.kind {
            TaskKind::Role { v, ref mut change, ref mut forced, open, .. } => {
                if *forced && self.state(v).disk == Disk::UpToDate {
                    // A handshake has made it good since the last try: nothing is forced. A new generation in the middle of a resync
                    // would push the sync UUID out. (DRBD begins one.)
                    change.disk = None;
                    *forced = false;
                }
                let change = *change;
                let result = self.request(&mut task, v, change, open);
                self.role_answered(task, v, result);
            }
            TaskKind::Simple { v, change, .. } => {
                let result = match self.is_outdated_for_now(v, change) {
                    true => self.answer_or_retry(&mut task, Err(StateError::InTransientState)),
                    false => self.request(&mut task, v, change, false),
                };
                self.simple_answered(task, v, result);
            }
            TaskKind::Disconnect { attempt } => {
                let change = match attempt {
                    2 if self.peer_cannot_outdate() => Change::conn(Conn::Disconnecting),
                    _ => disconnect_change(attempt),
                };
                let result = self.request_connection(&mut task, change);
                self.disconnect_answered(task, attempt, result);
            }
            TaskKind::Detach { v } => {
                // As long as it is attached the peer knows nothing of the disk: it is not asked about it. Nor before it has answered that it
                // negotiates: the question could overtake that news, which may wait in the fifo, and a disk that it takes for Failed the
                // peer does not answer. (DRBD asks.)
                let result = match self.state(v).disk {
                    Disk::Attaching | Disk::Negotiating => {
                        self.answer_or_retry(&mut task, Err(StateError::InTransientState))
                    }
                    _ => self.request(&mut task, v, Change::disk(Disk::Failed), false),
                };
                self.detach_answered(task, v, result);
            }
        }
    }

    /// Whether a disk that is to be outdated, and is, may be made good by the handshake that it is in, or by the word that a Primary without a
    /// disk still owes, also if the peer, which fences this node, has given the link up long ago. What comes of it is the answer. (DRBD
    /// says at once that there is nothing to do.)
    fn is_outdated_for_now(&self, v: VolumeIndex, change: Change) -> bool {
        let volume = &self.volumes[v];
        let outdated = Some(Disk::Outdated);
        let owed = volume.generation_awaits_peer && volume.outdated_alone;
        change.disk == outdated && Some(volume.state.disk) == outdated && (self.connection.state_sent || owed)
    }

    /// One try of an ordered request. `None`: not decided yet, the stage says why.
    pub(super) fn request(
        &mut self,
        task: &mut Task,
        v: VolumeIndex,
        change: Change,
        open: bool,
    ) -> Option<StateResult> {
        if self.may_not_give_peer_up(v, change) || self.leaves_peer_unasked(v, change) {
            return self.answer_or_retry(task, Err(StateError::InTransientState));
        }
        let os = self.state(v);
        let mut context = self.rule_context(v);
        // A request that waits is somebody who has the device open, whatever has become of him: it would be carried
        // out in the next life as Primary, over what the peer wrote meanwhile.
        let waits = change.role == Some(Role::Secondary) && !self.volumes[v].waiting.is_empty();
        context.open_count = u32::from(open || waits);
        let wanted = self.wanted_by(v, change);
        let (sanitized, _) = rules::sanitize(os, wanted, &context);
        if rules::is_cluster_wide(os, sanitized) {
            match rules::check_request(os, wanted, &context) {
                Ok(_) => {
                    task.stage = Stage::Peer { wanted: change, replied: None };
                    let request = StateChangeRequest { mask: change.mask(), val: change.val() };
                    self.send_directly(v, Packet::StateChangeRequest(request));
                    return None;
                }
                Err(refusal) => return self.answer_or_retry(task, Err(refusal.error)),
            }
        }
        let decision = rules::decide(os, wanted, ChangeKind::Soft, &context);
        let demotes = os.role == Role::Primary && change.role == Some(Role::Secondary);
        if demotes && decision.is_ok() && self.demotion_waits(v) {
            self.queue_steps([Step::CloseEpoch]);
            task.stage = Stage::Epochs { v };
            return None;
        }
        let result = self.conclude(v, decision, false);
        self.answer_or_retry(task, result)
    }

    /// Whether a demotion has to wait: this node is Primary until the peer's disk keeps all that was mirrored to it. If the link is lost
    /// before, it has lost its peer as any Primary: it begins a generation, or is frozen until the peer is fenced. Then the demotion
    /// goes on. (DRBD is Secondary at once, and takes the copies for equal later.) While the device grows it is Primary, too, as
    /// long as it is for the peer: else each could take the other for the source of the new space. (DRBD's do.)
    pub(super) fn demotion_waits(&self, v: VolumeIndex) -> bool {
        let state = self.state(v);
        if self.settles_size(v) {
            return true;
        }
        let alone = matches!(state.conn, Conn::StandAlone | Conn::Unconnected | Conn::WFConnection);
        self.has_open_epochs(v) && !(alone && state.is_susp()) && !mutant!("demotion-forgets-epochs")
    }

    pub(super) fn answer_or_retry(&mut self, task: &mut Task, result: StateResult) -> Option<StateResult> {
        if result == Err(StateError::InTransientState) && !self.waits_for_nothing(task) {
            task.stage = Stage::Retry { changes: self.changes };
            return None;
        }
        Some(result)
    }

    /// Whether a state that refuses a promotion does not pass by itself: the nodes are Connected, no resync is to begin, and the own disk,
    /// which has failed under `on-io-error pass_on`, or lacks blocks that its source could not read, stays what it is. (DRBD
    /// tries again at the next change of state, which only an administrator could bring about, and whose commands wait behind this one.)
    fn waits_for_nothing(&self, task: &Task) -> bool {
        let TaskKind::Role { v, role: Role::Primary, .. } = task.kind else { return false };
        let state = self.state(v);
        state.conn == Conn::Connected && state.disk > Disk::Negotiating && !self.connection.state_sent
    }

    /// The same for the connection: a graceful disconnect asks the peer.
    pub(super) fn request_connection(&mut self, task: &mut Task, change: Change) -> Option<StateResult> {
        let connected = self.volumes().any(|(_, volume)| volume.state.conn >= Conn::Connected);
        if !connected {
            let result = self.change_connection(change, ChangeKind::Soft, false);
            return self.answer_or_retry(task, result);
        }
        for v in self.volume_indices() {
            let os = self.state(v);
            if let Err(refusal) = rules::check_request(os, self.wanted_by(v, change), &self.rule_context(v)) {
                return self.answer_or_retry(task, Err(refusal.error));
            }
        }
        task.stage = Stage::Peer { wanted: change, replied: None };
        self.connection.disconnect_sent = true;
        let request = StateChangeRequest { mask: change.mask(), val: change.val() };
        let wide = self.connection.version.is_some_and(|version| version.has_connection_state_change());
        self.send_directly(
            0,
            match wide {
                true => Packet::ConnectionStateChangeRequest(request),
                false => Packet::StateChangeRequest(request),
            },
        );
        None
    }

    /// The link was lost before the peer answered a node that offered to be outdated, and the peer cannot have agreed: without good data of
    /// its own it would have had none at all.
    fn peer_cannot_outdate(&self) -> bool {
        let lost = self.volumes().all(|(_, volume)| volume.state.conn < Conn::Connected);
        // That the peer had no disk its state does not show any more.
        let without_data = |volume: &Volume| {
            volume.state.disk == Disk::UpToDate
                && (volume.served_primary || matches!(volume.state.pdsk, Disk::Inconsistent | Disk::Outdated))
        };
        lost && self.volumes().any(|(_, volume)| without_data(volume))
    }

    /// The peer answered a cluster-wide request.
    pub(in crate::core) fn receive_state_change_reply(&mut self, code: i32) {
        let Some(task) = &mut self.task else { return };
        if let Stage::Peer { replied, .. } = &mut task.stage {
            *replied = Some(code);
            if code < 1 {
                self.log_line(None, log_lines::refused_by_peer(code));
            }
        }
    }

    pub(super) fn run_peer_stage(&mut self, mut task: Task, wanted: Change, replied: Option<i32>) -> bool {
        let link = self.connection.phase == Phase::Up;
        let result = match replied {
            Some(code) if code < 1 => Err(StateError::ClusterWideFailedByPeer),
            Some(_) => self.commit_cluster_wide(&task, wanted),
            None if link => {
                self.task = Some(task);
                return false;
            }
            // The connection is gone, and with it the need to ask.
            None => {
                task.stage = Stage::Try;
                self.try_task(task);
                self.resyncs_may_start();
                return true;
            }
        };
        match task.kind {
            TaskKind::Role { v, .. } => self.role_answered(task, v, Some(result)),
            TaskKind::Simple { v, .. } => self.simple_answered(task, v, Some(result)),
            TaskKind::Disconnect { attempt } => self.disconnect_answered(task, attempt, Some(result)),
            TaskKind::Detach { v } => self.detach_answered(task, v, Some(result)),
        }
        self.resyncs_may_start();
        true
    }

    /// The peer has agreed, and takes the change for done, also if nothing comes of it because the state is another one by now.
    pub(super) fn commit_cluster_wide(&mut self, task: &Task, wanted: Change) -> StateResult {
        let v = match task.kind {
            TaskKind::Disconnect { .. } => return self.change_connection(wanted, ChangeKind::Soft, true),
            TaskKind::Role { v, .. } | TaskKind::Simple { v, .. } | TaskKind::Detach { v } => v,
        };
        // A handshake over this link may have come to its end meanwhile, and said that bitmaps are exchanged. The peer was not at
        // that point, or it had not agreed: it begins the full sync, and sends none. (DRBD refuses, and both wait.)
        let agreed = wanted.conn == Some(Conn::StartingSyncT) && self.state(v).conn == Conn::WFBitMapT;
        let kind = if agreed { ChangeKind::Hard } else { ChangeKind::Soft };
        let result = self.change(v, wanted, kind, true);
        let state = self.state(v);
        let invalidates_peer = wanted.conn == Some(Conn::StartingSyncS);
        if invalidates_peer && state.conn == Conn::Connected && state.pdsk == Disk::UpToDate {
            // The own disk went meanwhile: the peer has given its data up. Its word is on its way.
            let _ = self.change(v, Change::pdsk(Disk::Outdated), ChangeKind::Hard, false);
        } else if result != Ok(StateSuccess::Success) && state.conn >= Conn::Connected {
            // Its own disk went meanwhile: it takes this one for Failed, or for one that is about to be overwritten. (DRBD leaves it
            // there, and a Primary whose disk went has none to work with.)
            self.send_directly(v, state_packet(state));
        }
        result
    }
}
