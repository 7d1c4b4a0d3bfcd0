//! Rare commands: those that give data up at an operator's word, changes of settings, and those that must be refused.

use super::World;
use crate::node::{Purpose, V};
use drbdbox::conf::settings::{DiskSettings, NetSettings, OnNoData, ResourceSettings};
use drbdbox::core::state::{Conn, Disk, Role, StateWord};
use drbdbox::core::types::*;

impl World {
    pub(super) fn rare_command(&mut self, n: usize, state: StateWord) {
        match self.random.below(12) {
            0..=2 if self.may_force(n, state) => {
                // Nothing keeps the nodes apart any more.
                self.unfenced = true;
                self.promote(n, true);
            }
            // The other disk has to be good: a Primary without a disk refuses its own old one, and an Outdated one of the peer
            // is not good enough. There only a demotion helps, and force.
            3 if self.is_local(1 - n) => self.command(n, Purpose::Other, Command::Outdate { volume: V }),
            4 | 5 => self.change_disk_settings(n),
            6 | 7 => self.change_net_settings(n),
            8 => {
                let on_no_data_accessible = *self.random.pick(&[OnNoData::SuspendIo, OnNoData::IoError]);
                let settings = ResourceSettings { on_no_data_accessible, ..self.p.resource.clone() };
                self.command(n, Purpose::Other, Command::ResourceSettings(Box::new(settings)));
            }
            // Refused, or of no effect, wherever it would lose data that nobody gave up.
            9 => {
                let alone = state.conn == Conn::StandAlone || state.disk < Disk::Inconsistent;
                // Behind a disconnect it would be a generation that the other node does not hear of.
                if !alone && self.idle_admin(n) {
                    // On fresh meta data it would say that the disks are equal.
                    let clear_bitmap = self.p.begins_in_sync && self.random.chance(50);
                    self.command(n, Purpose::Other, Command::NewCurrentUuid { volume: V, clear_bitmap });
                }
            }
            // Behind a disconnect it would be obeyed, and spoil what may be the only good data.
            10 if state.conn != Conn::StandAlone && self.idle_admin(n) => {
                self.command(n, Purpose::Invalidate, Command::Invalidate { volume: V });
            }
            11 if state.role == Role::Primary => {
                self.command(n, Purpose::Other, Command::Secondary { volume: V, open: true });
            }
            _ => self.connect(n),
        }
    }

    /// Whether an operator may prefer the data of this node now, whatever the other has. Below version 96 a sync UUID is a random one: an
    /// old disk that did not hear of it, and is forced, is unrelated to its source.
    fn may_force(&self, n: usize, state: StateWord) -> bool {
        let other = 1 - n;
        let old = state.disk == Disk::Outdated && self.p.version.number() >= 96;
        state.role == Role::Secondary
            && state.conn < Conn::Connected
            && (state.disk == Disk::UpToDate || old && !self.has_bitmap_uuid(n))
            && self.p.io_errors == 0
            && self.loser.is_none()
            && !self.nodes[other].is_primary()
            && self.idle_admin(n)
            && (self.nodes[other].daemon.is_none() || self.idle_admin(other))
    }

    /// Whether a generation of the node names another one that it has moved on from. Who forces a disk of that kind that is not UpToDate
    /// makes DRBD forget which one ("bm UUID was already set"), and the two nodes may find each other unrelated.
    fn has_bitmap_uuid(&self, n: usize) -> bool {
        let disk = self.nodes[n].daemon.as_ref().and_then(|daemon| daemon.core.volume(V).disk());
        disk.is_some_and(|disk| disk.uuids.bitmap != 0)
    }

    /// Node `n` is Primary by force, without its peer: its data count, and what only the other has is given up.
    pub(super) fn data_chosen(&mut self, n: usize) {
        self.say(|| format!("the data of node {n} are chosen"));
        self.rebase_judge(n);
        self.loser = Some(1 - n);
        self.authority = Some(n);
    }

    /// An after-sb policy decided a split brain, not as the operator would have: the data of node `n` count now.
    pub(crate) fn policy_chose(&mut self, n: usize) {
        // Not those of a disk that a Primary attaches: until then it works with those of the other node.
        let in_use =
            |s: StateWord| s.role == Role::Primary && s.disk == Disk::Negotiating && s.pdsk == Disk::UpToDate;
        assert!(
            !self.state(n).is_some_and(in_use),
            "a policy gives up the data that node {n} works with: {}",
            self.summary()
        );
        if self.loser == Some(n) {
            self.say(|| format!("a policy chose the data of node {n}"));
            self.rebase_judge(n);
            self.loser = Some(1 - n);
            self.authority = Some(n);
        }
    }

    /// Connects; the loser of a split brain may give its data up, and who has no other data to lose, too.
    pub(super) fn connect_somehow(&mut self, n: usize) {
        let secondary = self.state(n).is_some_and(|state| state.role == Role::Secondary);
        let discards = match self.loser {
            Some(loser) => loser == n && self.random.chance(50),
            None => secondary && self.random.chance(5),
        };
        self.connect_with(n, discards);
    }

    fn change_disk_settings(&mut self, n: usize) {
        let old = self.p.disk[n].clone();
        let settings = DiskSettings {
            al_extents: *self.random.pick(&[7, 7, 67, 127]),
            resync_rate: *self.random.pick(&[1 << 20, 250, 30 << 10]),
            c_plan_ahead: *self.random.pick(&[0, 20]),
            c_min_rate: *self.random.pick(&[0, 250, 4096]),
            ..old
        };
        let changed = Box::new(settings);
        self.command(n, Purpose::Other, Command::DiskSettings { volume: V, settings: changed });
    }

    fn change_net_settings(&mut self, n: usize) {
        let settings = NetSettings {
            ko_count: *self.random.pick(&[0, 2, 7]),
            timeout: *self.random.pick(&[20, 60]),
            ping_int: *self.random.pick(&[1, 10]),
            max_epoch_size: *self.random.pick(&[20, 2048]),
            max_buffers: *self.random.pick(&[32, 128, 2048]),
            ..self.p.net.clone()
        };
        self.command(n, Purpose::Other, Command::NetSettings(Box::new(settings)));
    }
}
