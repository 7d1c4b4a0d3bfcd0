//! What an administrator asks for, one thing at a time. spec/state.md 6.2 and 7.

use super::codes::{ConfigCode, StateError, StateResult, StateSuccess};
use super::connection::Phase;
use super::fencing;
use super::handlers::Handler;
use super::handshake::state_packet;
use super::log_lines;
use super::rules::{self, ChangeKind};
use super::size::ResizeFlags;
use super::state::{Change, Conn, Disk, Role};
use super::steps::{set_all_and_write, HelperThen, Step, Work};
use super::types::*;
use super::uuid;
use super::Resource;
use crate::conf::settings::{AfterSplitBrain, Fencing, NetSettings, OnCongestion, Protocol};
use crate::wire::packet::Packet;
use crate::wire::parameters::Uuids;
use crate::wire::StateChangeRequest;

/// "No further Information available": a configuration command succeeded.
pub(super) const NO_ERROR: i32 = 101;

/// The admin request that is being carried out.
#[derive(Debug)]
pub struct Task {
    id: AdminId,
    kind: TaskKind,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TaskKind {
    /// Primary or Secondary.
    Role {
        v: VolumeIndex,
        role: Role,
        force: bool,
        change: Change,
        tries: u32,
        forced: bool,
        two_primaries_tries: u32,
        open: bool,
    },
    /// A change of one volume that is asked for once.
    Simple { v: VolumeIndex, change: Change, then: Then },
    /// The end of a connection.
    Disconnect { attempt: u32 },
    /// The disk of a volume goes.
    Detach { v: VolumeIndex },
}

/// What else there is to do after a simple change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The result is the answer.
    Result,
    /// pause-sync: 134 if nothing changed.
    Pause,
    /// resume-sync: 135, 156 or 157 if nothing changed.
    Resume,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// To be tried (again).
    Try,
    /// To be tried again when a state changed: the number of changes at the time.
    Retry { changes: u64 },
    /// To be tried again at this time.
    RetryAt { time: Millis },
    /// The peer was asked for this change.
    Peer { wanted: Change, replied: Option<i32> },
    /// A handler runs.
    Helper,
    /// What was decided before has to be carried out first.
    Fifo { result: StateSuccess },
    /// Nothing of the application may wait for the peer.
    Acknowledgements { result: StateSuccess },
    /// The super block of a new role is being written.
    Finish { result: StateSuccess },
    /// The connection goes down.
    Down,
    /// The disk goes.
    DiskGoes,
}

/// Marks in the fifo that an admin request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminWait {
    /// The running task goes on.
    Task,
    /// An attach is complete.
    Attached { id: AdminId, v: VolumeIndex },
    /// The answer may be given.
    Reply { id: AdminId, code: i32 },
}

impl Resource {
    /// An administrator wants something. The answer comes as [`Output::Reply`].
    pub fn command(&mut self, now: Millis, id: AdminId, command: Command) {
        self.now = self.now.max(now);
        match command {
            // These do not wait for a request that may hang.
            Command::Disconnect { force: true } => self.force_disconnect(id),
            Command::Detach { volume, force: true } => self.force_detach(id, volume),
            Command::ResumeIo { volume } => self.resume_io(id, volume),
            command => self.admin.push_back((id, command)),
        }
        self.settle();
    }

    fn reply(&mut self, id: AdminId, code: i32) {
        self.out.push(Output::Reply { id, code, info: Vec::new() });
    }

    pub(super) fn reply_with(&mut self, id: AdminId, code: ConfigCode, info: &str) {
        let info = if info.is_empty() { Vec::new() } else { vec![info.to_owned()] };
        self.out.push(Output::Reply { id, code: code.number(), info });
    }

    /// The fifo has to be empty before the answer.
    pub(super) fn reply_after_fifo(&mut self, id: AdminId, code: i32) {
        self.queue_work(Work::Admin(AdminWait::Reply { id, code }));
    }

    pub(super) fn task_timeout(&self) -> Option<Millis> {
        match self.task.as_ref()?.stage {
            Stage::RetryAt { time } => Some(time),
            _ => None,
        }
    }

    /// A change that the parameters of a new connection must not overtake.
    pub(super) fn task_holds_state_mutex(&self) -> bool {
        let stages = |stage| {
            matches!(
                stage,
                Stage::Peer { .. }
                    | Stage::Fifo { .. }
                    | Stage::Acknowledgements { .. }
                    | Stage::Finish { .. }
            )
        };
        self.task.as_ref().is_some_and(|task| stages(task.stage))
    }

    /// Whether a cluster-wide request of this node is out.
    pub(super) fn waits_for_peer(&self) -> bool {
        self.task.as_ref().is_some_and(|task| matches!(task.stage, Stage::Peer { .. }))
    }

    /// Carries the admin's requests on. True: something was done.
    pub(super) fn run_admin(&mut self) -> bool {
        let Some(task) = self.task.take() else {
            let Some((id, command)) = self.admin.pop_front() else { return false };
            self.begin_command(id, command);
            return true;
        };
        let due = match task.stage {
            Stage::Try => true,
            Stage::Retry { changes } => changes != self.changes,
            Stage::RetryAt { time } => time <= self.now,
            Stage::Peer { wanted, replied } => return self.run_peer_stage(task, wanted, replied),
            Stage::Acknowledgements { result } if !self.awaits_acknowledgement() => {
                self.finish_role(task, result);
                return true;
            }
            Stage::Down if self.connection.state != Conn::Disconnecting => {
                self.reply(task.id, NO_ERROR);
                return true;
            }
            Stage::DiskGoes => match task.kind {
                TaskKind::Detach { v }
                    if self.state(v).disk != Disk::Failed && self.volumes[v].disk.is_none() =>
                {
                    self.reply(task.id, StateSuccess::Success.code());
                    return true;
                }
                _ => false,
            },
            _ => false,
        };
        if due {
            self.try_task(task);
        } else {
            self.task = Some(task);
        }
        due
    }

    fn awaits_acknowledgement(&self) -> bool {
        self.log.iter().any(|(_, request)| request.net_pending)
    }

    fn begin_command(&mut self, id: AdminId, command: Command) {
        let simple =
            |v, change, then| Task { id, kind: TaskKind::Simple { v, change, then }, stage: Stage::Try };
        match command {
            Command::Connect(net) => self.connect(id, *net),
            Command::Disconnect { .. } => {
                self.task = Some(Task { id, kind: TaskKind::Disconnect { attempt: 0 }, stage: Stage::Try });
            }
            Command::Attach { volume, disk } => {
                if let Err(code) = self.attach(id, volume, *disk) {
                    self.reply(id, code);
                    if self.volumes[volume].disk.is_none() {
                        self.out.push(Output::ReleaseDisk { volume });
                    }
                }
            }
            Command::Detach { volume: v, .. } => {
                self.task = Some(Task { id, kind: TaskKind::Detach { v }, stage: Stage::Try });
            }
            Command::Primary { volume, force } => self.begin_role(id, volume, Role::Primary, force, false),
            Command::Secondary { volume, open } => self.begin_role(id, volume, Role::Secondary, false, open),
            Command::Outdate { volume } => {
                self.task = Some(simple(volume, Change::disk(Disk::Outdated), Then::Result));
            }
            Command::Invalidate { volume } => self.invalidate(id, volume),
            Command::InvalidateRemote { volume } => self.invalidate_remote(id, volume),
            Command::PauseSync { volume } => {
                self.task = Some(simple(volume, Change::user_isp(true), Then::Pause));
            }
            Command::ResumeSync { volume } => {
                self.task = Some(simple(volume, Change::user_isp(false), Then::Resume));
            }
            Command::SuspendIo { volume } => {
                self.task = Some(simple(volume, Change::susp(true), Then::Result))
            }
            Command::ResumeIo { volume } => self.resume_io(id, volume),
            Command::Verify { volume, start, stop } => {
                let resync = &mut self.volumes[volume].resync;
                if let Some(start) = start {
                    resync.verify_start = start & !7;
                }
                resync.verify_stop = stop;
                self.task = Some(simple(volume, Change::conn(Conn::VerifyS), Then::Result));
            }
            Command::Resize { volume, size, assume_peer_has_space, assume_clean } => {
                let flags = ResizeFlags { assume_peer_has_space, no_resync: assume_clean };
                self.resize(id, volume, size, flags);
            }
            Command::NewCurrentUuid { volume, clear_bitmap } => {
                self.new_uuid_by_admin(id, volume, clear_bitmap)
            }
            Command::DiskSettings { volume, settings } => {
                self.volumes[volume].settings = *settings;
                self.resize_activity_log(volume);
                if self.volumes[volume].state.conn >= Conn::Connected {
                    self.send(volume, Packet::SyncParam(self.sync_param(volume)));
                }
                self.wake = true;
                self.reply(id, NO_ERROR);
            }
            Command::NetSettings(settings) => self.change_net(id, *settings),
            Command::ResourceSettings(settings) => {
                self.settings = *settings;
                self.reply(id, NO_ERROR);
            }
        }
    }

    /// spec/state.md 7.2, in its order of checks; addresses are the engine's.
    fn connect(&mut self, id: AdminId, net: NetSettings) {
        if self.connection.state > Conn::StandAlone {
            return self.reply_with(id, ConfigCode::NetConfigured, "");
        }
        if let Err(code) = self.check_net(&net) {
            return self.reply_with(id, code, "");
        }
        self.net = Some(net);
        match self.change_connection(Change::conn(Conn::Unconnected), ChangeKind::Soft, true) {
            Ok(_) => self.reply(id, NO_ERROR),
            Err(error) => {
                self.net = None;
                self.reply(id, error.code());
            }
        }
    }

    fn check_net(&self, net: &NetSettings) -> Result<(), ConfigCode> {
        let stonith =
            self.volume_indices().into_iter().any(|v| self.fencing(v) == Fencing::ResourceAndStonith);
        let primary = self.volumes().any(|(_, volume)| volume.state.role == Role::Primary);
        if net.allow_two_primaries && net.protocol != Protocol::C {
            return Err(ConfigCode::NotProtoC);
        }
        if net.protocol == Protocol::A && stonith {
            return Err(ConfigCode::StonithAndProtoA);
        }
        if net.on_congestion != OnCongestion::Block && net.protocol != Protocol::A {
            return Err(ConfigCode::CongestionNotProtoA);
        }
        if primary && net.discard_my_data {
            return Err(ConfigCode::DiscardImpossible);
        }
        Ok(())
    }

    fn change_net(&mut self, id: AdminId, net: NetSettings) {
        if let Err(code) = self.check_net(&net) {
            return self.reply_with(id, code, "");
        }
        if self.net.is_some() {
            let up = self.connection.phase == Phase::Up;
            self.net = Some(net);
            if up {
                for v in self.volume_indices() {
                    self.send(v, Packet::SyncParam(self.sync_param(v)));
                }
            }
        }
        self.reply(id, NO_ERROR);
    }

    fn force_disconnect(&mut self, id: AdminId) {
        let _ = self.change_connection(Change::conn(Conn::Disconnecting), ChangeKind::Hard, false);
        self.reply(id, NO_ERROR);
    }

    fn force_detach(&mut self, id: AdminId, v: VolumeIndex) {
        self.volumes[v].force_detach = true;
        if self.state(v).disk > Disk::Failed {
            let _ = self.change(v, Change::disk(Disk::Failed), ChangeKind::Hard, false);
        }
        self.reply(id, StateSuccess::Success.code());
    }

    fn begin_role(&mut self, id: AdminId, v: VolumeIndex, role: Role, force: bool, open: bool) {
        if role == Role::Primary {
            // Finds a dead peer; the answer is not waited for.
            self.request_ping();
        }
        let change = Change::role(role);
        let kind =
            TaskKind::Role { v, role, force, change, tries: 0, forced: false, two_primaries_tries: 0, open };
        self.task = Some(Task { id, kind, stage: Stage::Try });
    }

    fn try_task(&mut self, mut task: Task) {
        match task.kind {
            TaskKind::Role { v, change, open, .. } => {
                let result = self.request(&mut task, v, change, open);
                self.role_answered(task, v, result);
            }
            TaskKind::Simple { v, change, .. } => {
                let result = self.request(&mut task, v, change, false);
                self.simple_answered(task, v, result);
            }
            TaskKind::Disconnect { attempt } => {
                let result = self.request_connection(&mut task, disconnect_change(attempt));
                self.disconnect_answered(task, attempt, result);
            }
            TaskKind::Detach { v } => {
                let result = self.request(&mut task, v, Change::disk(Disk::Failed), false);
                self.detach_answered(task, v, result);
            }
        }
    }

    /// One try of an ordered request. `None`: not decided yet, the stage says why.
    fn request(
        &mut self,
        task: &mut Task,
        v: VolumeIndex,
        change: Change,
        open: bool,
    ) -> Option<StateResult> {
        let os = self.state(v);
        let mut context = self.rule_context(v);
        // A request that waits is somebody who has the device open, whatever has become of him: it would be carried
        // out in the next life as Primary, over what the peer wrote meanwhile.
        let waits = change.role == Some(Role::Secondary) && !self.volumes[v].waiting.is_empty();
        context.open_count = u32::from(open || waits);
        let wanted = change.apply(os);
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
        let result = self.change_in(v, change, ChangeKind::Soft, false, context);
        self.answer_or_retry(task, result)
    }

    fn answer_or_retry(&mut self, task: &mut Task, result: StateResult) -> Option<StateResult> {
        if result == Err(StateError::InTransientState) {
            task.stage = Stage::Retry { changes: self.changes };
            return None;
        }
        Some(result)
    }

    /// The same for the connection: a graceful disconnect asks the peer.
    fn request_connection(&mut self, task: &mut Task, change: Change) -> Option<StateResult> {
        let connected = self.volumes().any(|(_, volume)| volume.state.conn >= Conn::Connected);
        if !connected {
            let result = self.change_connection(change, ChangeKind::Soft, false);
            return self.answer_or_retry(task, result);
        }
        for v in self.volume_indices() {
            let os = self.state(v);
            if let Err(refusal) = rules::check_request(os, change.apply(os), &self.rule_context(v)) {
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

    /// The peer answered a cluster-wide request.
    pub(super) fn receive_state_change_reply(&mut self, code: i32) {
        let Some(task) = &mut self.task else { return };
        if let Stage::Peer { replied, .. } = &mut task.stage {
            *replied = Some(code);
            if code < 1 {
                self.log_line(None, log_lines::refused_by_peer(code));
            }
        }
    }

    fn run_peer_stage(&mut self, mut task: Task, wanted: Change, replied: Option<i32>) -> bool {
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
                return true;
            }
        };
        match task.kind {
            TaskKind::Role { v, .. } => self.role_answered(task, v, Some(result)),
            TaskKind::Simple { v, .. } => self.simple_answered(task, v, Some(result)),
            TaskKind::Disconnect { attempt } => self.disconnect_answered(task, attempt, Some(result)),
            TaskKind::Detach { v } => self.detach_answered(task, v, Some(result)),
        }
        true
    }

    fn commit_cluster_wide(&mut self, task: &Task, wanted: Change) -> StateResult {
        match task.kind {
            TaskKind::Disconnect { .. } => self.change_connection(wanted, ChangeKind::Soft, true),
            TaskKind::Role { v, .. } | TaskKind::Simple { v, .. } | TaskKind::Detach { v } => {
                self.change(v, wanted, ChangeKind::Soft, true)
            }
        }
    }

    /// The loop of spec/state.md 7.1 step 2.
    fn role_answered(&mut self, mut task: Task, v: VolumeIndex, result: Option<StateResult>) {
        let Some(result) = result else {
            self.task = Some(task);
            return;
        };
        let TaskKind::Role { role, force, change, tries, forced, two_primaries_tries, open, .. } =
            &mut task.kind
        else {
            return;
        };
        let error = match result {
            Ok(success) => {
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
        match error {
            StateError::ClusterWideFailedByPeer if change.pdsk.is_some() && !last => {
                change.pdsk = None;
                task.stage = Stage::Try;
            }
            StateError::NoUpToDateDisk
                if *force
                    && primary
                    && state.disk >= Disk::Inconsistent
                    && state.disk < Disk::UpToDate
                    && !*forced =>
            {
                *change = change.and(Change::disk(Disk::UpToDate));
                *forced = true;
                task.stage = Stage::Try;
            }
            StateError::NoUpToDateDisk
                if primary && state.disk == Disk::Consistent && change.pdsk.is_none() && !last =>
            {
                self.run_helper(Some(v), Handler::FencePeer, HelperThen::Admin);
                task.stage = Stage::Helper;
            }
            StateError::PrimaryNop if primary && change.pdsk.is_none() && !last => {
                self.run_helper(Some(v), Handler::FencePeer, HelperThen::Admin);
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

    /// A handler that a promotion waits for ended.
    pub(super) fn admin_helper_done(&mut self, exit_status: i32) {
        let Some(mut task) = self.task.take() else { return };
        if let (TaskKind::Role { v, force, change, .. }, Stage::Helper) = (&mut task.kind, task.stage) {
            let code = exit_status >> 8 & 0xff;
            let outcome = fencing::outcome(code, self.volumes[*v].state.disk);
            let mut peer_disk = outcome.change().and_then(|change| change.pdsk);
            let own = outcome.change().and_then(|change| change.disk);
            let (v, force) = (*v, *force);
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

    /// The fifo reached what an admin request waits for.
    pub(super) fn admin_reached(&mut self, wait: AdminWait) {
        match wait {
            AdminWait::Reply { id, code } => self.reply(id, code),
            AdminWait::Attached { id, v } => {
                // One whose meta data could not be written, or whose data are not those in use, is Failed
                // now, and Diskless soon.
                let code = if self.state(v).disk > Disk::Failed {
                    NO_ERROR
                } else if self.volumes[v].io_error_seen {
                    ConfigCode::MetaDataIo.number()
                } else {
                    ConfigCode::DataNotCurrent.number()
                };
                self.reply(id, code);
            }
            AdminWait::Task => {
                let Some(mut task) = self.task.take() else { return };
                match task.stage {
                    Stage::Fifo { result } => {
                        task.stage = Stage::Acknowledgements { result };
                        self.task = Some(task);
                    }
                    Stage::Finish { result } => self.role_finished(task, result),
                    _ => self.task = Some(task),
                }
            }
        }
    }

    /// Steps 3 to 7 of spec/state.md 7.1: UUIDs, and what the peer has to know.
    fn finish_role(&mut self, mut task: Task, result: StateSuccess) {
        let TaskKind::Role { v, role, forced, .. } = task.kind else {
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
            let bitmap = self.volumes[v].disk.as_ref().map_or(0, |disk| disk.uuids.bitmap);
            let has_disk = rules::has_disk(state);
            if has_disk && uuid::promotion_needs_new_current(state, bitmap, forced) {
                self.new_current_uuid(v);
                // A connected peer without a disk exposes this node's data: when it is Primary one day it
                // will accept no other generation.
                tells_uuids = !forced && state.conn >= Conn::Connected;
            }
        }
        self.uuid_follows_role(v, role);
        // The new generation, and the mark of a Primary, are durable before the first write.
        self.queue_steps([Step::WriteSuperBlockIfDirty { v }]);
        if tells_uuids {
            self.queue_steps([Step::SendUuids { v }]);
        }
        self.queue_work(Work::Admin(AdminWait::Task));
        task.stage = Stage::Finish { result };
        self.task = Some(task);
    }

    fn role_finished(&mut self, task: Task, result: StateSuccess) {
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

    fn simple_answered(&mut self, task: Task, v: VolumeIndex, result: Option<StateResult>) {
        let Some(result) = result else {
            self.task = Some(task);
            return;
        };
        let TaskKind::Simple { change, then, .. } = task.kind else { return };
        let state = self.state(v);
        let nothing = result == Ok(StateSuccess::NothingToDo);
        let code = match then {
            Then::Pause if nothing => ConfigCode::PauseIsSet.number(),
            Then::Resume if nothing => match state.conn {
                Conn::PausedSyncS | Conn::PausedSyncT if state.aftr_isp => {
                    ConfigCode::PauseIsClearAfter.number()
                }
                Conn::PausedSyncS | Conn::PausedSyncT if state.peer_isp => {
                    ConfigCode::PauseIsClearPeer.number()
                }
                _ => ConfigCode::PauseIsClear.number(),
            },
            Then::Pause | Then::Resume => NO_ERROR,
            Then::Result => match result {
                Ok(success) => success.code(),
                Err(error) => {
                    let (wanted, _) = rules::sanitize(state, change.apply(state), &self.rule_context(v));
                    self.log_refusal(v, state, &rules::Refusal { error, wanted });
                    error.code()
                }
            },
        };
        self.reply_after_fifo(task.id, code);
    }

    /// spec/state.md 7.2, disconnect.
    fn disconnect_answered(&mut self, mut task: Task, attempt: u32, result: Option<StateResult>) {
        let Some(result) = result else {
            self.task = Some(task);
            return;
        };
        match (result, attempt) {
            (Ok(StateSuccess::NothingToDo) | Err(StateError::AlreadyStandAlone), _) => {
                self.reply(task.id, NO_ERROR)
            }
            (Ok(_), _) => {
                task.stage = Stage::Down;
                self.task = Some(task);
            }
            (Err(StateError::PrimaryNop), 0) => {
                task.kind = TaskKind::Disconnect { attempt: 1 };
                task.stage = Stage::Try;
                self.task = Some(task);
            }
            (Err(StateError::OutdateWithoutConnection), 1) => {
                task.kind = TaskKind::Disconnect { attempt: 0 };
                task.stage = Stage::Try;
                self.task = Some(task);
            }
            (Err(StateError::ClusterWideFailedByPeer), 0) => {
                task.kind = TaskKind::Disconnect { attempt: 2 };
                task.stage = Stage::Try;
                self.task = Some(task);
            }
            (Err(StateError::IsDiskless | StateError::LowerThanOutdated), 2) => {
                let _ = self.change_connection(Change::conn(Conn::Disconnecting), ChangeKind::Hard, false);
                task.stage = Stage::Down;
                self.task = Some(task);
            }
            (Err(error), _) => self.reply(task.id, error.code()),
        }
    }

    fn detach_answered(&mut self, mut task: Task, v: VolumeIndex, result: Option<StateResult>) {
        let Some(result) = result else {
            self.task = Some(task);
            return;
        };
        match result {
            Ok(StateSuccess::NothingToDo) | Err(StateError::IsDiskless) => {
                self.reply(task.id, StateSuccess::NothingToDo.code());
            }
            Ok(_) => {
                task.stage = Stage::DiskGoes;
                self.task = Some(task);
            }
            Err(error) => {
                let state = self.state(v);
                let change = Change::disk(Disk::Failed);
                let (wanted, _) = rules::sanitize(state, change.apply(state), &self.rule_context(v));
                self.log_refusal(v, state, &rules::Refusal { error, wanted });
                self.reply(task.id, error.code());
            }
        }
    }

    /// spec/resync.md 12.1.
    fn invalidate(&mut self, id: AdminId, v: VolumeIndex) {
        let state = self.state(v);
        if !rules::has_disk(state) {
            return self.reply_with(id, ConfigCode::NoDisk, "");
        }
        if state.conn == Conn::StandAlone && state.role == Role::Secondary {
            match self.change(v, Change::disk(Disk::Inconsistent), ChangeKind::Soft, true) {
                Ok(_) => {
                    self.queue_steps(set_all_and_write(v));
                    self.reply_after_fifo(id, StateSuccess::Success.code());
                }
                Err(error) => self.reply(id, error.code()),
            }
            return;
        }
        let kind = TaskKind::Simple { v, change: Change::conn(Conn::StartingSyncT), then: Then::Result };
        self.task = Some(Task { id, kind, stage: Stage::Try });
    }

    /// spec/resync.md 12.2.
    fn invalidate_remote(&mut self, id: AdminId, v: VolumeIndex) {
        let state = self.state(v);
        if !rules::has_disk(state) {
            return self.reply_with(id, ConfigCode::NoDisk, "");
        }
        if state.conn == Conn::StandAlone && state.role == Role::Primary {
            match self.change(v, Change::pdsk(Disk::Inconsistent), ChangeKind::Soft, true) {
                Ok(_) => {
                    self.queue_steps(set_all_and_write(v));
                    self.reply_after_fifo(id, StateSuccess::Success.code());
                }
                Err(error) => self.reply(id, error.code()),
            }
            return;
        }
        let kind = TaskKind::Simple { v, change: Change::conn(Conn::StartingSyncS), then: Then::Result };
        self.task = Some(Task { id, kind, stage: Stage::Try });
    }

    fn resume_io(&mut self, id: AdminId, v: VolumeIndex) {
        let change = Change::susp(false).and(Change::susp_nod(false)).and(Change::susp_fen(false));
        // In a handshake the peer has the UUIDs already: they may not change behind its back.
        let (os, context) = (self.state(v), self.rule_context(v));
        let refused = rules::decide(os, change.apply(os), ChangeKind::Soft, &context).is_err();
        let owed = !refused && std::mem::take(&mut self.volumes[v].new_current_uuid_owed);
        if owed && self.volumes[v].disk.is_some() {
            self.owed_new_current_uuid(v);
        }
        let result = self.change(v, change, ChangeKind::Soft, true);
        if result == Ok(StateSuccess::Success) {
            if self.state(v).conn < Conn::Connected {
                self.clear_transfer_log();
            }
            self.complete_ready();
        }
        self.reply_after_fifo(id, super::codes::state_code(result));
    }

    /// U10.
    fn new_uuid_by_admin(&mut self, id: AdminId, v: VolumeIndex, clear_bitmap: bool) {
        let state = self.state(v);
        let Some(disk) = self.volumes[v].disk.as_ref().filter(|_| rules::has_disk(state)) else {
            return self.reply_with(id, ConfigCode::NoDisk, "");
        };
        let skip = state.conn == Conn::Connected
            && self.connection.version.is_some_and(|version| version.has_skip_initial_sync())
            && disk.uuids.current == uuid::JUST_CREATED
            && clear_bitmap;
        if state.conn != Conn::StandAlone && !skip {
            return self.reply_with(id, ConfigCode::Connected, "");
        }
        if skip {
            self.info(Some(v), "Preparing to skip initial sync");
        }
        let random = (self.random)();
        if let Some(disk) = &mut self.volumes[v].disk {
            disk.uuids.new_current_by_admin(random, state.role);
            self.volumes[v].effective_uuid = disk.uuids.current;
        }
        self.log_uuids(v, log_lines::UuidEvent::NewCurrent);
        self.volumes[v].mark_dirty(self.now);
        if clear_bitmap {
            self.queue_steps([Step::ClearAllBits { v }, Step::WriteBitmap { v, all: true }]);
        }
        self.queue_steps([Step::WriteSuperBlock { v }]);
        if skip {
            self.send_uuids(v, Uuids::SKIP_INITIAL_SYNC);
            if let Some(disk) = &mut self.volumes[v].disk {
                disk.uuids.forget_bitmap();
            }
            self.log_uuids(v, log_lines::UuidEvent::ClearedBitmap);
            let change = Change::disk(Disk::UpToDate).and(Change::pdsk(Disk::UpToDate));
            let _ = self.change(v, change, ChangeKind::Hard, true);
            self.queue_steps([Step::WriteSuperBlock { v }]);
        }
        self.reply_after_fifo(id, NO_ERROR);
    }

    /// The after-split-brain policies in force, for status output.
    pub fn after_split_brain(&self) -> Option<[AfterSplitBrain; 3]> {
        self.net.as_ref().map(|net| [net.after_sb_0pri, net.after_sb_1pri, net.after_sb_2pri])
    }
}

/// What the tries of a graceful disconnect ask for: plainly; the peer outdated; oneself outdated.
fn disconnect_change(attempt: u32) -> Change {
    let change = Change::conn(Conn::Disconnecting);
    match attempt {
        1 => change.and(Change::pdsk(Disk::Outdated)),
        2 => change.and(Change::disk(Disk::Outdated)),
        _ => change,
    }
}
