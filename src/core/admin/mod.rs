//! What an administrator asks for, one thing at a time. spec/state.md 6.2 and 7.

mod data;
mod net;
mod request;
mod role;

use self::net::disconnect_change;
use super::codes::{ConfigCode, StateError, StateResult, StateSuccess};
use super::resize::ResizeOrder;
use super::rules;
use super::size::ResizeFlags;
use super::state::{Change, Conn, Disk, Role};
use super::steps::Work;
use super::types::*;
use super::Resource;
use crate::conf::settings::DiskSettings;
use crate::wire::packet::Packet;

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
        /// The current UUID, without the bit of the role, when the role changed.
        generation: u64,
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
    /// The peer's disk need not keep yet what was mirrored to it.
    Epochs { v: VolumeIndex },
    /// Before this node gives its own disk up: the peer's need not keep yet what the application has had flushed, up to this request.
    Flushed { v: VolumeIndex, newest: u64 },
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
            command => {
                // It is named for the device of this moment, however long the commands before it take.
                let shown = match command {
                    Command::Resize { volume, .. } => self.volumes[volume].size,
                    _ => 0,
                };
                self.admin.push_back((id, command, shown));
            }
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

    /// What the peer was asked for of this volume alone, and has not answered.
    pub(super) fn asks_peer_for(&self, v: VolumeIndex) -> Option<Change> {
        let Task { kind: TaskKind::Simple { v: of, .. }, stage: Stage::Peer { wanted, .. }, .. } =
            self.task.as_ref()?
        else {
            return None;
        };
        (*of == v).then_some(*wanted)
    }

    /// Whether the peer was asked to let this node's disk go.
    pub(super) fn asks_to_detach(&self, v: VolumeIndex) -> bool {
        let asks = |task: &Task| {
            matches!(task.kind, TaskKind::Detach { v: of } if of == v)
                && matches!(task.stage, Stage::Peer { .. })
        };
        self.task.as_ref().is_some_and(asks)
    }

    /// Whether this node, or the peer for it, has been ordered to give its own disk up, and that is not decided.
    pub(super) fn gives_disk_up(&self, v: VolumeIndex) -> bool {
        let gives_up = |task: &Task| match task.kind {
            TaskKind::Detach { v: of } => of == v,
            TaskKind::Simple { v: of, change, .. } => of == v && change.conn == Some(Conn::StartingSyncT),
            _ => false,
        };
        self.volumes[v].order_to_give_up.is_some() || self.task.as_ref().is_some_and(gives_up)
    }

    /// Where an order to give the own disk up begins.
    fn stage_of_giving_up(&mut self, v: VolumeIndex) -> Stage {
        match self.flush_before_giving_up(v) {
            Some(newest) => Stage::Flushed { v, newest },
            None => Stage::Try,
        }
    }

    /// Carries the admin's requests on. True: something was done.
    pub(super) fn run_admin(&mut self) -> bool {
        let Some(task) = self.task.take() else {
            let Some((id, command, shown)) = self.admin.pop_front() else { return false };
            self.begin_command(id, command, shown);
            return true;
        };
        let due = match task.stage {
            Stage::Try => true,
            Stage::Retry { changes } => changes != self.changes,
            Stage::RetryAt { time } => time <= self.now,
            Stage::Epochs { v } => !self.demotion_waits(v),
            Stage::Flushed { v, newest } => self.peer_keeps(v, newest),
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

    fn begin_command(&mut self, id: AdminId, command: Command, shown: u64) {
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
                let stage = self.stage_of_giving_up(v);
                self.task = Some(Task { id, kind: TaskKind::Detach { v }, stage });
            }
            Command::Primary { volume, force } => self.begin_role(id, volume, Role::Primary, force, false),
            Command::Secondary { volume, open } => self.begin_role(id, volume, Role::Secondary, false, open),
            // A connected disk is no old one: in the middle of a negotiation it would be a good one without its result.
            Command::Outdate { volume: v } if self.state(v).disk == Disk::Negotiating => {
                let (os, error) = (self.state(v), StateError::LowerThanOutdated);
                let wanted = Change::disk(Disk::Outdated).apply(os);
                self.log_refusal(v, os, &rules::Refusal { error, wanted });
                self.reply(id, error.code());
            }
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
                self.set_verify_range(volume, start, stop);
                self.task = Some(simple(volume, Change::conn(Conn::VerifyS), Then::Result));
            }
            Command::Resize { volume, size, assume_peer_has_space, assume_clean } => {
                let flags = ResizeFlags { assume_peer_has_space, no_resync: assume_clean };
                self.resize(volume, ResizeOrder { id, size, flags, shown });
            }
            Command::NewCurrentUuid { volume, clear_bitmap } => {
                self.new_uuid_by_admin(id, volume, clear_bitmap)
            }
            Command::DiskSettings { volume, settings } => {
                // The size comes with the disk, by `resize`, or from the peer (spec/state.md 12.1), which may have named another
                // since these settings were made.
                let size = self.volumes[volume].settings.size;
                self.volumes[volume].settings = DiskSettings { size, ..*settings };
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

    /// Where the next verify begins, if not where the last one came to, and where it stops. That of one that runs is its own: what it was
    /// to stop at it may have asked for already, and nothing would end it.
    fn set_verify_range(&mut self, v: VolumeIndex, start: Option<u64>, stop: Option<u64>) {
        if self.state(v).conn.is_verify() {
            return;
        }
        let resync = &mut self.volumes[v].resync;
        if let Some(start) = start {
            resync.verify_start = start & !7;
        }
        resync.verify_stop = stop;
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
                    self.volumes[v].attach_refused.unwrap_or(ConfigCode::DataNotCurrent).number()
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
}
