//! The connection at the administrator's word. spec/state.md 7.2.

use super::{Stage, Task, TaskKind, NO_ERROR};
use crate::conf::settings::{AfterSplitBrain, Fencing, NetSettings, OnCongestion, Protocol};
use crate::core::codes::{ConfigCode, StateError, StateResult, StateSuccess};
use crate::core::connection::Phase;
use crate::core::rules::ChangeKind;
use crate::core::state::{Change, Conn, Disk, Role};
use crate::core::types::*;
use crate::core::Resource;
use crate::wire::packet::Packet;

impl Resource {
    /// spec/state.md 7.2, in its order of checks; addresses are the engine's.
    pub(super) fn connect(&mut self, id: AdminId, net: NetSettings) {
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

    pub(super) fn check_net(&self, net: &NetSettings) -> Result<(), ConfigCode> {
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

    pub(super) fn change_net(&mut self, id: AdminId, net: NetSettings) {
        if let Err(code) = self.check_net(&net) {
            return self.reply_with(id, code, "");
        }
        if self.net.is_some() {
            let up = self.connection.phase == Phase::Up;
            let told = Packet::ProtocolUpdate(Self::protocol_packet(&net));
            self.net = Some(net);
            if up {
                // What both ends must agree upon; older peers have no packet for it, and the change is refused.
                if self.connection.version.is_some_and(|version| version.has_volumes()) {
                    self.send(0, told);
                }
                for v in self.volume_indices() {
                    self.send(v, Packet::SyncParam(self.sync_param(v)));
                }
            }
        }
        self.reply(id, NO_ERROR);
    }

    pub(super) fn force_disconnect(&mut self, id: AdminId) {
        let _ = self.change_connection(Change::conn(Conn::Disconnecting), ChangeKind::Hard, false);
        self.reply(id, NO_ERROR);
    }

    /// spec/state.md 7.2, disconnect.
    pub(super) fn disconnect_answered(&mut self, mut task: Task, attempt: u32, result: Option<StateResult>) {
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
            (Err(error), _) => {
                self.connection.disconnect_sent = false;
                self.reply(task.id, error.code());
            }
        }
    }

    /// The after-split-brain policies in force, for status output.
    pub fn after_split_brain(&self) -> Option<[AfterSplitBrain; 3]> {
        self.net.as_ref().map(|net| [net.after_sb_0pri, net.after_sb_1pri, net.after_sb_2pri])
    }
}

/// What the tries of a graceful disconnect ask for: plainly; the peer outdated; oneself outdated.
pub(super) fn disconnect_change(attempt: u32) -> Change {
    let change = Change::conn(Conn::Disconnecting);
    match attempt {
        1 => change.and(Change::pdsk(Disk::Outdated)),
        2 => change.and(Change::disk(Disk::Outdated)),
        _ => change,
    }
}
