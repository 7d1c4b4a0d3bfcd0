//! Operators: commands that make sense and commands that do not.

use super::World;
use crate::node::{decides_alone, is_good, Purpose, V};
use crate::script::Random;
use drbdbox::conf::settings::{Fencing, NetSettings, Protocol};
use drbdbox::core::state::{Conn, Disk, Role, StateWord};
use drbdbox::core::types::*;

impl World {
    pub(super) fn command(&mut self, n: usize, purpose: Purpose, command: Command) {
        let now = self.now;
        self.event_outside(|| format!("{n}: command {command:?}").chars().take(100).collect());
        let id = self.nodes[n].ask(purpose);
        if let Some(daemon) = &mut self.nodes[n].daemon {
            daemon.core.command(now, id, command);
        }
        self.outputs(n);
    }

    pub(super) fn replied(&mut self, n: usize, id: AdminId, code: i32) {
        let Some(daemon) = &mut self.nodes[n].daemon else { return };
        let Some(purpose) = daemon.asked.remove(&id) else { panic!("node {n}: a reply to nobody") };
        self.say(|| format!("{n}: reply {code} to {purpose:?}"));
        let stand_alone = self.state(n).is_some_and(|state| state.conn == Conn::StandAlone);
        match purpose {
            Purpose::Primary { .. } if code == 1 || code == 2 => {
                self.stats.promotions += 1;
                let alone = self.state(n).is_some_and(|state| state.conn < Conn::Connected);
                let decides = self.state(n).is_some_and(decides_alone);
                // The disk may have been given up since: the new generation begins when it is back, if it has not begun.
                let given_up = self.state(n).is_some_and(|state| state.disk <= Disk::Failed);
                let own = self.is_local(n) || given_up;
                // Where the data come from the peer by now nothing is forced.
                if decides && own && purpose == (Purpose::Primary { force: true }) {
                    self.data_chosen(n);
                }
                // Also beside the former Primary, if that has given its disk up after the crash: this node has begun a generation without it.
                let left = self.acknowledged_by_crashed.take() == Some(1 - n) && self.is_generation_after(n);
                let without_it = alone && self.p.net.protocol != Protocol::C || left;
                let lost_on_the_way = std::mem::take(&mut self.lost_on_the_way);
                if without_it && self.is_local(n) || lost_on_the_way {
                    // What the former Primary had acknowledged may be lost.
                    self.rebase_judge(if self.is_local(n) { n } else { 1 - n });
                }
                self.nodes[n].application.open = true;
                self.nodes[n].application.size = self.size_of(n);
                self.check_extent(n);
            }
            // The newest data are the peer's: without it nothing can be attached here.
            Purpose::Attach if code == 150 => {
                self.refused_disks[n] = Some(self.now);
                if self.healing && stand_alone {
                    self.connect(n);
                }
            }
            Purpose::Secondary => {
                let primary = self.nodes[n].is_primary();
                self.nodes[n].application.open = primary;
            }
            _ => {}
        }
    }

    /// The application goes on with what is on the disk of node `n`.
    pub fn rebase_judge(&mut self, n: usize) {
        let (disk, size) = (&self.nodes[n].disk, self.size_of(n));
        // Behind the end of its device there are none: that space may be added some time, and holds anything then.
        let of_device = |sector, values: Vec<u64>| if sector < size { values } else { Vec::new() };
        self.judge.rebase(
            self.step,
            |sector| of_device(sector, disk.possible(sector)),
            |sector| of_device(sector, disk.data.versions(sector)),
        );
    }

    pub(super) fn start(&mut self, n: usize) {
        self.say(|| format!("{n}: start"));
        self.nodes[n].start(&self.p, &mut self.random);
        if let Some(connection) = &mut self.connection {
            connection.reset_by(n);
        }
        self.attach(n);
        if let Some(daemon) = &mut self.nodes[n].daemon {
            daemon.connect_next = true;
        }
        self.connect_if_wanted(n);
    }

    pub(super) fn connect_if_wanted(&mut self, n: usize) {
        let Some(daemon) = &mut self.nodes[n].daemon else { return };
        if std::mem::take(&mut daemon.connect_next) {
            self.connect(n);
        }
    }

    pub(super) fn attach(&mut self, n: usize) {
        let Some(daemon) = &self.nodes[n].daemon else { return };
        if daemon.disk_open || daemon.core.may_attach(V).is_err() {
            return;
        }
        let disk = self.nodes[n].open_disk(&self.p);
        if let Some(daemon) = &mut self.nodes[n].daemon {
            daemon.disk_open = true;
        }
        self.command(n, Purpose::Attach, Command::Attach { volume: V, disk: Box::new(disk) });
    }

    pub(super) fn connect(&mut self, n: usize) {
        self.connect_with(n, false);
    }

    /// Connects; what the node has is given up if the two have gone different ways.
    pub(super) fn connect_with(&mut self, n: usize, discard_my_data: bool) {
        let net = Box::new(NetSettings { discard_my_data, ..self.p.net.clone() });
        self.command(n, Purpose::Connect, Command::Connect(net));
    }

    /// Whether an operator with good sense would promote this node.
    pub(super) fn may_promote(&self, n: usize) -> bool {
        let other = 1 - n;
        if self.p.two_primaries && self.nodes[other].is_primary() {
            return (0..2).all(|n| self.state(n).is_some_and(is_good) && self.idle_admin(n));
        }
        // A demotion counts until it is answered: it may wait for the peer.
        let of_role = |purpose: &Purpose| purpose.is_promotion() || *purpose == Purpose::Secondary;
        let asked = self.nodes.iter().any(|node| node.is_asked(of_role));
        // Whose data it would be: its own, which fencing may make UpToDate, or the peer's.
        let own_data = self.state(n).is_some_and(|state| state.disk >= Disk::Consistent);
        let source = if own_data { n } else { other };
        let entitled = self.authority.is_none_or(|authority| authority == source);
        // Nor over what is to be given up: a loser that is Primary still has not noticed that.
        let entitled = entitled && self.loser != Some(n) && self.loser != Some(source);
        // Fencing has no say about a disk that its own Primary left.
        let fenced = self.is_fenced(n) && !self.left_disks[n];
        entitled && !self.nodes[other].is_primary() && !asked || fenced
    }

    /// Fencing has to keep the data together whoever promotes this node, without good sense: it is alone, and
    /// calls its own disk UpToDate. It cannot if the newest data are on a disk that the other node was told to detach: nobody who asks that
    /// node hears of them. Nor if the node's disk says that the peer is outdated, which it was until it met this node without that
    /// disk: the flag has to outlive a detach, for that comes before each reboot (spec/state.md 13.1, 14.2).
    pub fn is_fenced(&self, n: usize) -> bool {
        let detached = |s: StateWord| self.authority == Some(1 - n) && s.disk == Disk::Diskless;
        let lifted = |s: StateWord| self.lifted_peers[n] && s.pdsk == Disk::Outdated;
        self.p.fencing() == Fencing::ResourceAndStonith
            && !self.unfenced
            && !self.state(1 - n).is_some_and(detached)
            && !self.state(n).is_some_and(lifted)
            && self.state(n).is_some_and(|s| s.disk == Disk::UpToDate && s.conn < Conn::Connected)
    }

    /// An operator lets frozen I/O go on. Not what fencing holds, while the other node is about to be promoted: the node would be shot for
    /// that, with data of its own.
    pub(super) fn resume_io(&mut self, n: usize) {
        let fenced = self.state(n).is_some_and(|state| state.susp_fen);
        if fenced && self.nodes[1 - n].is_asked(Purpose::is_promotion) {
            return;
        }
        self.unfenced |= fenced;
        let before = self.current_uuid(n);
        self.command(n, Purpose::Other, Command::ResumeIo { volume: V });
        // One that was Primary when it was frozen begins its generation all the same, beside a peer that goes on, or will.
        let began = self.p.two_primaries && !self.nodes[n].is_primary() && self.current_uuid(n) != before;
        if began && self.loser.is_none() && self.nodes[1 - n].is_primary() {
            self.go_apart(n);
        }
    }

    fn current_uuid(&self, n: usize) -> Option<u64> {
        let daemon = self.nodes[n].daemon.as_ref()?;
        Some(daemon.core.volume(V).disk()?.uuids.current | 1)
    }

    pub(super) fn promote(&mut self, n: usize, force: bool) {
        self.command(n, Purpose::Primary { force }, Command::Primary { volume: V, force });
    }

    pub(super) fn idle_admin(&self, n: usize) -> bool {
        self.nodes[n].daemon.as_ref().is_some_and(|daemon| daemon.asked.is_empty())
    }

    pub(super) fn operator(&mut self) {
        let n = self.random.below(2) as usize;
        let Some(state) = self.state(n) else {
            return self.start(n);
        };
        if !self.idle_admin(n) && self.random.chance(90) {
            return;
        }
        if self.p.resizes && self.random.chance(30) {
            return self.sizes_change(n, state);
        }
        let both_primary = self.nodes.iter().all(|node| node.is_primary());
        match self.random.below(24) {
            // Not drawn: a full sync while both nodes are in use. Until the target hears of it, it reads from its own disk, which
            // no longer gets the writes of the other one (seed 1335).
            18 | 19 if both_primary => {}
            0..=5 if state.role == Role::Secondary && self.may_promote(n) => self.promote(n, false),
            0..=2 if self.nodes[n].application.open => self.nodes[n].application.closing = true,
            6..=7 => {
                let force = self.random.chance(20);
                self.command(n, Purpose::Disconnect, Command::Disconnect { force });
            }
            8..=12 if state.conn == Conn::StandAlone => self.connect_somehow(n),
            13 => {
                let force = self.random.chance(20);
                self.command(n, Purpose::Other, Command::Detach { volume: V, force });
            }
            14..=17 => self.attach(n),
            18 => {
                let good = state.conn == Conn::Connected && state.pdsk == Disk::UpToDate;
                if good {
                    self.command(n, Purpose::Invalidate, Command::Invalidate { volume: V });
                }
            }
            19 => {
                let good = state.conn == Conn::Connected && state.disk == Disk::UpToDate;
                if good {
                    self.command(n, Purpose::Other, Command::InvalidateRemote { volume: V });
                }
            }
            20 => self.command(n, Purpose::Other, Command::PauseSync { volume: V }),
            21 => self.command(n, Purpose::Other, Command::ResumeSync { volume: V }),
            22 => self.command(n, Purpose::Other, Command::SuspendIo { volume: V }),
            23 if self.p.verify && self.random.chance(50) => {
                let place = |random: &mut Random| random.chance(50).then(|| random.below(100_000));
                let (start, stop) = (place(&mut self.random), place(&mut self.random));
                self.command(n, Purpose::Other, Command::Verify { volume: V, start, stop });
            }
            23 => self.rare_command(n, state),
            _ if self.random.chance(50) => self.rare_command(n, state),
            _ => self.resume_io(n),
        }
    }
}
