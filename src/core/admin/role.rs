//! Promotion and demotion. spec/state.md 7.1.

use super::{AdminWait, Stage, Task, TaskKind};
use crate::core::codes::{StateError, StateResult, StateSuccess};
use crate::core::fencing;
use crate::core::handlers::Handler;
use crate::core::handshake::state_packet;
use crate::core::rules::{self, ChangeKind};
use crate::core::state::{Change, Conn, Disk, Role};
use crate::core::steps::{HelperThen, Step, Work};
use crate::core::types::*;
use crate::core::uuid;
use crate::core::Resource;

impl Resource {
    pub(super) fn begin_role(&mut self, id: AdminId, v: VolumeIndex, role: Role, force: bool, open: bool) {
        if role == Role::Primary {
            // Finds a dead peer; the answer is not waited for.
            self.request_ping();
        }
        let change = Change::role(role);
        let kind = TaskKind::Role {
            v,
            role,
            force,
            change,
            tries: 0,
            forced: false,
            two_primaries_tries: 0,
            generation: 0,
            open,
        };
        self.task = Some(Task { id, kind, stage: Stage::Try });
    }

    /// The loop of spec/state.md 7.1 step 2.
    pub(super) fn role_answered(&mut self, mut task: Task, v: VolumeIndex, result: Option<StateResult>) {
        let Some(result) = result else {
            self.task = Some(task);
            return;
        };
        let TaskKind::Role {
            role, force, change, tries, forced, two_primaries_tries, generation, open, ..
        } = &mut task.kind
        else {
            return;
        };
        let error = match result {
            Ok(success) => {
                // Else the data come from the peer: this node has become the target of a resync meanwhile. (DRBD begins a generation with
                // half-synced data, and loses the UUID of the resync.)
                *forced &= self.state(v).disk == Disk::UpToDate;
                let current = self.volumes[v].disk.as_ref().map_or(0, |disk| disk.uuids.current);
                *generation = uuid::without_role(current);
                task.stage = Stage::Fifo { result: success };
                if success == StateSuccess::NothingToDo {
                    self.reply(task.id, success.code());
                } else {
                    self.queue_work(Work::Admin(AdminWait::Task));
                    self.task = Some(task);
                }
                return;
            }
            Err(error) => error,
        };
        *tries += 1;
        let state = self.state(v);
        let last = *tries >= 4;
        let primary = *role == Role::Primary;
        let unfenced = match error {
            StateError::NoUpToDateDisk => state.disk == Disk::Consistent,
            error => error == StateError::PrimaryNop,
        };
        let fences = unfenced && primary && change.pdsk.is_none();
        match error {
            StateError::ClusterWideFailedByPeer if change.pdsk.is_some() && !last => {
                change.pdsk = None;
                task.stage = Stage::Try;
            }
            StateError::NoUpToDateDisk
                if (*force || mutant!("outdated-disk-promoted") && state.disk == Disk::Outdated)
                    && primary
                    && state.disk >= Disk::Inconsistent
                    && state.disk < Disk::UpToDate
                    && !*forced =>
            {
                *change = change.and(Change::disk(Disk::UpToDate));
                *forced = true;
                task.stage = Stage::Try;
            }
            // In a handshake the peer may become good on its side at any moment: it is not fenced then. (DRBD does, and goes by the
            // answer if this node does not come to the end of the handshake.)
            _ if fences && self.connection.state_sent => {
                *tries -= 1;
                task.stage = Stage::Retry { changes: self.changes };
            }
            _ if fences && !last => {
                self.fence_for_promotion(v);
                task.stage = Stage::Helper;
            }
            StateError::TwoPrimaries if *two_primaries_tries == 0 && primary => {
                *two_primaries_tries += 1;
                let wait = self.net.as_ref().map_or(100, |net| u64::from(net.ping_timeout) * 100 + 100);
                task.stage = Stage::RetryAt { time: self.now + wait };
            }
            error => {
                if error != StateError::TwoPrimaries {
                    let mut context = self.rule_context(v);
                    context.open_count = u32::from(*open);
                    let (wanted, _) = rules::sanitize(state, change.apply(state), &context);
                    self.log_refusal(v, state, &rules::Refusal { error, wanted });
                }
                self.reply(task.id, error.code());
                return;
            }
        }
        self.task = Some(task);
    }

    fn fence_for_promotion(&mut self, v: VolumeIndex) {
        let then = HelperThen::Admin { meetings: self.connection.meetings };
        self.run_helper(Some(v), Handler::FencePeer, then);
    }

    /// A handler that a promotion waits for ended.
    pub(in crate::core) fn admin_helper_done(&mut self, exit_status: i32, meetings: u64) {
        let Some(mut task) = self.task.take() else { return };
        if let (TaskKind::Role { v, force, change, .. }, Stage::Helper) = (&mut task.kind, task.stage) {
            let code = exit_status >> 8 & 0xff;
            let outcome = fencing::outcome(code, self.volumes[*v].state.disk);
            let (v, force) = (*v, *force);
            let follows = self.change_by_fencing(v, outcome);
            let mut peer_disk = follows.and_then(|change| change.pdsk);
            let own = follows.and_then(|change| change.disk);
            if !self.may_use_fence_outcome(v, meetings) {
                task.stage = Stage::Try;
                self.task = Some(task);
                return;
            }
            if peer_disk.is_none() && force {
                peer_disk = Some(Disk::Outdated);
            }
            if let Some(pdsk) = peer_disk {
                *change = change.and(Change::pdsk(pdsk));
                if self.volumes[v].state.disk == Disk::Consistent {
                    *change = change.and(Change::disk(Disk::UpToDate));
                }
            } else {
                // Nothing came of it: the next try gives the answer.
                *change = change.and(Change::pdsk(self.volumes[v].state.pdsk));
            }
            self.log_fence_outcome(v, outcome, code);
            if let Some(disk) = own {
                let _ = self.change(v, Change::disk(disk), ChangeKind::Soft, true);
            } else if peer_disk == Some(Disk::Outdated) && force && outcome.change().is_none() {
                self.warning(Some(v), "Forced into split brain situation!");
            }
            task.stage = Stage::Try;
        }
        self.task = Some(task);
    }

    /// Steps 3 to 7 of spec/state.md 7.1: UUIDs, and what the peer has to know.
    pub(super) fn finish_role(&mut self, mut task: Task, result: StateSuccess) {
        let TaskKind::Role { v, role, forced, generation, .. } = task.kind else {
            self.reply(task.id, result.code());
            return;
        };
        if forced {
            self.warning(Some(v), "Forced to consider local data as UpToDate!");
        }
        let state = self.state(v);
        let mut tells_uuids = false;
        if role == Role::Primary {
            self.volumes[v].discard_my_data = false;
            if let Some(net) = &mut self.net {
                // What is written from now on is not what the administrator gave up.
                net.discard_my_data = false;
            }
            let bitmap = self.volumes[v].disk.as_ref().map_or(0, |disk| disk.uuids.bitmap);
            let shared = self.volumes[v].shares_generation();
            let has_disk = rules::has_disk(state);
            // The answer of fence-peer may have begun it already: after another one, what the peer has would be in no
            // slot, and the disks unrelated.
            let has_begun = bitmap != 0 && uuid::without_role(bitmap) == generation;
            let needed = has_disk && uuid::promotion_needs_new_current(state, shared, forced && !has_begun);
            // It is owed already where the peer was lost behind the change of role.
            let is_put_off = state.susp_fen || state.is_susp() && self.volumes[v].new_current_uuid_owed;
            if needed && is_put_off && !forced {
                // The peer was lost on the way: nothing completes until it is fenced, and if that never happens it may
                // have been promoted itself. Nor does anything until an administrator resumes I/O, and the peer may come back before.
                self.volumes[v].new_current_uuid_owed = true;
            } else if needed {
                self.new_current_uuid(v);
                // A connected peer without a disk exposes this node's data: when it is Primary one day it
                // will accept no other generation.
                tells_uuids = !forced && state.conn >= Conn::Connected;
            }
        }
        self.uuid_follows_role(v, role);
        // What a lost Primary wrote here may be in the cache still: the end of the link, which flushes it, waits for requests.
        let needs_flush = self.holds_unflushed_writes_of_peer(v);
        if role == Role::Primary && needs_flush && !mutant!("lost-epoch-not-flushed") {
            self.queue_steps([Step::FlushData { v }]);
        }
        // The new generation, and the mark of a Primary, are durable before the first write.
        self.queue_steps([Step::WriteSuperBlockIfDirty { v }]);
        if tells_uuids {
            self.queue_steps([Step::SendUuids { v }]);
        }
        self.queue_work(Work::Admin(AdminWait::Task));
        task.stage = Stage::Finish { result };
        self.task = Some(task);
    }

    pub(super) fn role_finished(&mut self, task: Task, result: StateSuccess) {
        if let TaskKind::Role { v, forced, .. } = task.kind {
            let state = self.state(v);
            if state.conn >= Conn::WFReportParams {
                if forced {
                    self.send_uuids(v, 0);
                }
                self.send_directly(v, state_packet(state));
            }
        }
        self.reply(task.id, result.code());
    }
}
