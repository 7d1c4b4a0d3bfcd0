//! The end: faults are over, everything has to come to rest, and is looked at.

use super::World;
use crate::network::Wires;
use crate::node::{is_good, Purpose, V};
use drbdbox::core::state::{Conn, Disk, Role, StateWord};
use drbdbox::core::types::*;

/// Whether a node has no disk, or sees that its peer has none.
fn without_disk(state: StateWord) -> bool {
    state.disk == Disk::Diskless || state.pdsk == Disk::Diskless
}

impl World {
    /// Faults are over. Everything has to come to rest, with equal disks.
    pub(super) fn heal(&mut self) {
        self.say(|| "healing".to_owned());
        self.healing = true;
        self.wires = Wires::new();
        self.p.hurry();
        self.tell_settings();
        self.disks_are_equal();
        let begun = self.now;
        let mut rest_since = None;
        loop {
            self.one_event();
            if self.given_up {
                return;
            }
            // In protocol A the Secondary may still have much to write, on a slow disk, when all that was asked for is done.
            let writes = self.nodes.iter().any(|node| !node.disk.jobs.is_empty());
            if !self.at_rest() || writes {
                rest_since = None;
            } else if self.now >= *rest_since.get_or_insert(self.now) + 20_000 {
                break;
            }
            let spent = self.now - begun;
            if spent >= 4_000_000 && self.passed_on() && !(0..2).any(|n| self.is_local(n)) {
                // The last good disk failed under pass_on, and the other one is older: only an operator
                // who forces one of them to be Primary can say which data are to be kept.
                self.given_up = true;
                return;
            }
            // The newest data were on the disk that failed, and a resync has overwritten them with the older ones of the other
            // node. The Primary that had them refuses those, again and again: an operator has to demote it first.
            let refuses = self.refused_data.is_some_and(|(at, _)| at + 200_000 > self.now);
            if spent >= 4_000_000 && self.passed_on() && refuses {
                self.given_up = true;
                return;
            }
            assert!(spent < 4_000_000, "it does not come to rest: {}", self.summary());
        }
        self.check_rest();
    }

    /// Operators give the settings of the run to the daemons.
    pub(super) fn tell_settings(&mut self) {
        for n in 0..2 {
            let settings = Box::new(self.p.disk[n].clone());
            self.command(n, Purpose::Other, Command::DiskSettings { volume: V, settings });
            let settings = Box::new(self.p.net.clone());
            self.command(n, Purpose::Other, Command::NetSettings(settings));
        }
    }

    pub fn at_rest(&self) -> bool {
        self.nodes.iter().all(|node| {
            let Some(daemon) = &node.daemon else { return false };
            is_good(daemon.core.volume(V).state())
                && node.application.in_flight.is_empty()
                && daemon.asked.is_empty()
        })
    }

    /// The target of a resync was Primary, lost its source, and was frozen, or has nothing but errors for its application; the source
    /// has taken over. Two Primaries are not let together, and this one cannot end its application: it is rebooted. So is one without
    /// a disk that refuses what its peer has, of a generation that it has not heard of.
    fn is_lost_primary(&self, n: usize, state: StateWord) -> bool {
        state.role == Role::Primary
            && state.disk < Disk::UpToDate
            && state.conn == Conn::StandAlone
            && (self.nodes[1 - n].is_primary() || self.unheard_generation.is_some())
            && self.state(1 - n).is_some_and(|state| state.disk >= Disk::Outdated)
            && self.authority == Some(1 - n)
    }

    /// Operators, who try again and again, have met it a moment ago.
    fn is_recent(&self, at: Millis) -> bool {
        at + 10_000 > self.now
    }

    /// Whether the disk of node `n` cannot be attached: it lacks what the node works with.
    fn refuses_own_disk(&self, n: usize) -> bool {
        self.refused_disks[n].is_some_and(|at| self.is_recent(at))
    }

    /// A Primary gave its disk up with the write that named a new generation: no disk has that one, and it accepts no other. Nothing
    /// that its peer lacks was done in it. It is rebooted, too.
    fn wants_what_nobody_has(&self, state: StateWord) -> bool {
        let Some((at, wanted)) = self.refused_data else { return false };
        state.role == Role::Primary
            && state.disk == Disk::Diskless
            && state.conn == Conn::StandAlone
            && self.is_recent(at)
            && self.nodes.iter().all(|node| node.super_block().uuids[0] | 1 != wanted | 1)
            && !self.passed_on()
    }

    /// A Primary without a disk goes by data that somebody has outdated, and nothing on that disk says that they are no older than that. Its own
    /// disk has other ones, or lacks what it wrote to the peer's, so it is frozen. It is rebooted, and then the data that are Outdated are the newest.
    fn is_frozen_beside_old_data(&self, n: usize, state: StateWord) -> bool {
        let current = |n: usize| self.nodes[n].super_block().uuids[0] | 1;
        state.role == Role::Primary
            && state.disk == Disk::Diskless
            && state.conn == Conn::Connected
            && self
                .state(1 - n)
                .is_some_and(|peer| peer.conn == Conn::Connected && peer.disk == Disk::Outdated)
            && self.authority == Some(1 - n)
            && (current(n) != current(1 - n) || self.refuses_own_disk(n))
    }

    /// The disk of a Primary failed when its peer was the target of a resync that had not ended there, or was giving its own disk up, and a
    /// write went to that disk, which the failed one lacks. So it refuses its own disk, and the peer's is half-synced, or older: it is rebooted.
    fn has_half_of_its_data_on_each_disk(&self, n: usize, state: StateWord) -> bool {
        let older = |(at, wanted): (Millis, u64)| {
            self.is_recent(at) && (self.nodes[1 - n].super_block().uuids[0] ^ wanted) & !1 != 0
        };
        state.role == Role::Primary
            && state.disk == Disk::Diskless
            && self.refuses_own_disk(n)
            && (self.state(1 - n).is_some_and(|peer| peer.disk == Disk::Inconsistent)
                || state.conn == Conn::StandAlone && self.refused_data.is_some_and(older))
    }

    /// Two Primaries went apart, and fencing, or the lack of good data, freezes the one whose data are to be given up. It cannot end its
    /// application, nor say that its data are given up, as long as it is Primary (reply 123): it is rebooted.
    fn is_frozen_loser(&self, n: usize, state: StateWord) -> bool {
        self.loser == Some(n)
            && state.role == Role::Primary
            && (state.susp_fen || state.susp_nod)
            && state.conn == Conn::StandAlone
    }

    /// The disk of a Primary that goes by its peer's is larger than the device, and not attached before that grows. The peer has the space,
    /// and lets the device grow when it is alone (spec/state.md 12.2), but the Primary does not let it go.
    fn is_too_small_for_disk(&self, n: usize) -> bool {
        self.state(n).is_some_and(|state| state.disk == Disk::Diskless)
            && self.nodes[n].is_primary()
            && self.nodes[n].super_block().effective_size_sectors > self.size_of(1 - n)
    }

    /// What operators do, once a second, when they want everything to be well again.
    pub(super) fn mend(&mut self) {
        for n in 0..2 {
            let Some(state) = self.state(n) else {
                self.start(n);
                continue;
            };
            if !self.idle_admin(n) {
                continue;
            }
            if self.p.two_primaries
                && self.loser.is_some()
                && (state.conn < Conn::Connected || self.loser == Some(n) && state.disk == Disk::Diskless)
                && self.nodes[n].is_primary()
            {
                // Then policies can choose, or the loser can.
                self.nodes[n].application.open = true;
                self.nodes[n].application.closing = true;
                if state.susp {
                    self.resume_io(n);
                    continue;
                }
            }
            let is_lost = self.is_lost_primary(n, state)
                || self.is_frozen_beside_old_data(n, state)
                || self.has_half_of_its_data_on_each_disk(n, state)
                || self.is_frozen_loser(n, state);
            if is_lost || self.wants_what_nobody_has(state) {
                self.crash(n, false);
            } else if self.loser == Some(n) && state.conn > Conn::StandAlone && without_disk(state) {
                // A disk does not come to one that has gone another way, until the two connect with those data given up.
                self.command(n, Purpose::Disconnect, Command::Disconnect { force: true });
            } else if state.disk == Disk::Diskless {
                self.attach(n);
            } else if state.conn < Conn::Connected && self.is_to_resize(n) {
                // The peer has the space: see `disks_are_equal`.
                self.next_resize[n] = self.now + 20_000;
                self.resize_command(n, 0, true, false);
            } else if state.conn == Conn::StandAlone
                && self.loser == Some(1 - n)
                && state.susp
                && !state.susp_fen
            {
                // Else it refuses to give up the data that were chosen, and does not begin their generation.
                self.resume_io(n);
            } else if state.conn == Conn::StandAlone {
                // Half-synced data are no way of their own. A Primary cannot say that they are given up, nor end its
                // application, if it waits for the peer.
                let half_synced = state.role == Role::Primary && state.disk < Disk::Consistent;
                self.connect_with(n, self.loser == Some(n) && !half_synced);
            } else if state.user_isp {
                self.command(n, Purpose::Other, Command::ResumeSync { volume: V });
            } else if state.susp && !state.susp_fen {
                // Where fencing holds it, too, this would let go what the peer was not fenced for.
                self.resume_io(n);
            }
        }
        // What ended with failed blocks, or was outdated by the other, needs another handshake.
        if self.now % 60_000 < 1000 {
            let stuck = self.nodes.iter().any(|node| {
                node.state().is_some_and(|s| {
                    s.conn == Conn::Connected && (s.disk != Disk::UpToDate || s.pdsk != Disk::UpToDate)
                })
            });
            // A Primary whose disk failed under pass_on lets nobody go who has good data.
            let failed = (0..2).find(|n| {
                let good = |s: StateWord| {
                    s.conn == Conn::Connected && s.disk == Disk::Inconsistent && s.pdsk == Disk::UpToDate
                };
                self.nodes[*n].is_primary() && self.state(*n).is_some_and(good)
            });
            let n = usize::from(self.nodes[0].is_primary());
            if let Some(n) = failed.filter(|n| self.idle_admin(*n)) {
                self.command(n, Purpose::Invalidate, Command::Invalidate { volume: V });
            } else if stuck && self.idle_admin(n) {
                let force = self.is_too_small_for_disk(1 - n);
                self.command(n, Purpose::Disconnect, Command::Disconnect { force });
            }
        }
    }
}
