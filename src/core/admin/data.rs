//! What an administrator does with the disk and its data: detach, invalidate, resume-io, a new generation.

use super::{Stage, Task, TaskKind, Then, NO_ERROR};
use crate::core::codes::{ConfigCode, StateError, StateResult, StateSuccess};
use crate::core::log_lines;
use crate::core::rules::{self, ChangeKind};
use crate::core::state::{Change, Conn, Disk, Role};
use crate::core::steps::{set_all_and_write, Step};
use crate::core::types::*;
use crate::core::uuid;
use crate::core::volume::FirstWord;
use crate::core::Resource;
use crate::wire::parameters::Uuids;

impl Resource {
    /// A disk that is being attached goes when that is complete: its meta data are in order then.
    pub(super) fn force_detach(&mut self, id: AdminId, v: VolumeIndex) {
        self.volumes[v].force_detach = true;
        if self.state(v).disk > Disk::Failed {
            let _ = self.change(v, Change::disk(Disk::Failed), ChangeKind::Hard, false);
        }
        self.reply(id, StateSuccess::Success.code());
    }

    pub(super) fn detach_answered(&mut self, mut task: Task, v: VolumeIndex, result: Option<StateResult>) {
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

    /// spec/resync.md 12.1: the peer's data replace this node's.
    pub(super) fn invalidate(&mut self, id: AdminId, v: VolumeIndex) {
        self.invalidate_one(id, v, Role::Secondary, Change::disk(Disk::Inconsistent), Conn::StartingSyncT);
    }

    /// spec/resync.md 12.2: this node's data replace the peer's. Not while I/O waits until the peer is fenced: it would go on, and the peer, which hears
    /// nothing of this, may be promoted. (DRBD lets I/O go on.)
    pub(super) fn invalidate_remote(&mut self, id: AdminId, v: VolumeIndex) {
        let state = self.state(v);
        if state.susp_fen && state.conn == Conn::StandAlone {
            let wanted = Change::pdsk(Disk::Inconsistent).apply(state);
            self.log_refusal(v, state, &rules::Refusal { error: StateError::PrimaryNop, wanted });
            return self.reply(id, StateError::PrimaryNop.code());
        }
        self.invalidate_one(id, v, Role::Primary, Change::pdsk(Disk::Inconsistent), Conn::StartingSyncS);
    }

    /// A node that stands alone in the role `alone` notes by the change `noted` that a full sync is due; any other begins
    /// it, by the connection state `begins`.
    fn invalidate_one(&mut self, id: AdminId, v: VolumeIndex, alone: Role, noted: Change, begins: Conn) {
        let state = self.state(v);
        if !rules::has_disk(state) {
            return self.reply_with(id, ConfigCode::NoDisk, "");
        }
        if state.conn == Conn::StandAlone && state.role == alone {
            match self.change(v, noted, ChangeKind::Soft, true) {
                Ok(_) => {
                    self.queue_steps(set_all_and_write(v));
                    self.reply_after_fifo(id, StateSuccess::Success.code());
                }
                Err(error) => self.reply(id, error.code()),
            }
            return;
        }
        let kind = TaskKind::Simple { v, change: Change::conn(begins), then: Then::Result };
        let stage = if begins == Conn::StartingSyncT { self.stage_of_giving_up(v) } else { Stage::Try };
        self.task = Some(Task { id, kind, stage });
    }

    pub(super) fn resume_io(&mut self, id: AdminId, v: VolumeIndex) {
        let change = Change::susp(false).and(Change::susp_nod(false)).and(Change::susp_fen(false));
        // In a handshake the peer has the UUIDs already: they may not change behind its back.
        let os = self.state(v);
        let decision = rules::decide(os, change.apply(os), ChangeKind::Soft, &self.rule_context(v));
        if decision.is_ok() {
            self.settle_owed_generation(v);
        }
        let result = self.conclude(v, decision, true);
        if result == Ok(StateSuccess::Success) {
            if self.state(v).conn < Conn::Connected {
                self.clear_transfer_log();
            }
            self.complete_ready();
        }
        self.reply_after_fifo(id, crate::core::codes::state_code(result));
    }

    /// U10.
    pub(super) fn new_uuid_by_admin(&mut self, id: AdminId, v: VolumeIndex, clear_bitmap: bool) {
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
            // It would make this node take the peer's disk for Inconsistent, and mirror no write to it.
            if self.volumes[v].first_word == FirstWord::Due {
                self.volumes[v].first_word = FirstWord::Overtaken;
            }
            self.queue_steps([Step::WriteSuperBlock { v }]);
        }
        self.reply_after_fifo(id, NO_ERROR);
    }
}
