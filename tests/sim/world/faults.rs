//! Faults: links, cables, crashes, power cuts; and who has the data after them.

use super::{Doom, World};
use crate::application::Kind;
use crate::node::{decides_alone, is_good, Purpose, V};
use drbdbox::conf::settings::Protocol;
use drbdbox::core::state::{Conn, Disk, Role, StateWord};
use drbdbox::core::uuid::Verdict;
use drbdbox::meta::MetaFlags;

impl World {
    pub(super) fn fault(&mut self) {
        let n = self.random.below(2) as usize;
        match self.random.below(12) {
            0 | 1 => {
                self.event_outside(|| "cable out".to_owned());
                self.wires.cable = false;
            }
            2..=5 if !self.wires.cable => {
                self.event_outside(|| "cable in".to_owned());
                self.wires.cable = true;
            }
            2..=5 if self.random.chance(60) => {
                let text = self.wires.ail(self.now, &mut self.random);
                self.event_outside(|| text);
            }
            2..=5 => {}
            6 => {
                self.event_outside(|| "connection reset".to_owned());
                if let Some(connection) = &mut self.connection {
                    connection.reset();
                }
            }
            7 | 8 if self.nodes[n].daemon.is_some() => self.crash(n, false),
            9 if self.p.power_cuts && self.nodes[n].daemon.is_some() => self.crash(n, true),
            _ => {
                for n in 0..2 {
                    if self.nodes[n].daemon.is_none() {
                        self.event_outside(|| format!("{n}: starts again"));
                        self.start(n);
                    }
                }
            }
        }
    }

    /// A moment has come after which a crash is a hard test: sometimes there is one soon.
    pub(crate) fn tempt_fate(&mut self, n: usize) {
        if self.healing || self.doom.is_some() || self.p.faults == 0 || !self.plan.allows(self.step) {
            return;
        }
        if !self.random.chance(4) {
            return;
        }
        let victim = if self.random.chance(70) { n } else { 1 - n };
        let doom = match self.random.below(10) {
            0..=2 => Doom::Crash(victim),
            3..=6 if self.p.power_cuts => Doom::PowerCut(victim),
            7 if self.p.power_cuts => Doom::Outage,
            _ => Doom::Reset,
        };
        let wait = 1 + if self.random.chance(50) { self.random.below(12) } else { self.random.below(80) };
        self.planned.push(self.step);
        self.doom = Some((self.step + wait, doom));
    }

    /// A resync ends on one node: sometimes the link is lost before the other one hears of it.
    pub(crate) fn tempt_link(&mut self) {
        if self.healing || self.doom.is_some() || self.p.faults == 0 || !self.plan.allows(self.step) {
            return;
        }
        if self.random.chance(6) {
            self.planned.push(self.step);
            self.doom = Some((self.step + 1 + self.random.below(6), Doom::Reset));
        }
    }

    /// What was due happens, if it still can.
    pub(super) fn meet_doom(&mut self) {
        match self.doom.take() {
            _ if self.healing => {}
            Some((_, Doom::Crash(n))) if self.nodes[n].daemon.is_some() => self.crash(n, false),
            Some((_, Doom::PowerCut(n))) if self.nodes[n].daemon.is_some() => self.crash(n, true),
            Some((_, Doom::Outage)) => {
                for n in 0..2 {
                    if self.nodes[n].daemon.is_some() {
                        self.crash(n, true);
                    }
                }
            }
            Some((_, Doom::Reset)) => {
                self.event_outside(|| "connection reset".to_owned());
                if let Some(connection) = &mut self.connection {
                    connection.reset();
                }
            }
            _ => {}
        }
        self.update_authority();
        self.check_every_step();
    }

    /// Whether the super block of the node tells of no generation that the other does not have.
    fn is_of_same_generation(&self, n: usize) -> bool {
        let (own, other) = (self.nodes[n].super_block(), self.nodes[1 - n].super_block());
        own.uuids[1] == 0 && (own.uuids[0] ^ other.uuids[0]) & !1 == 0
    }

    /// Whether the other node went on from the generation that the super block of this one tells of.
    fn is_generation_before(&self, n: usize) -> bool {
        let (own, other) = (self.nodes[n].super_block(), self.nodes[1 - n].super_block());
        own.uuids[1] == 0 && (own.uuids[0] ^ other.uuids[1]) & !1 == 0
    }

    /// What node `n` has under way, and the other one has written, is mirrored for `n` all the same when that loses its cache.
    fn note_what_the_peer_had(&mut self, n: usize) {
        let [first, second] = &mut self.nodes;
        let (own, peer) = if n == 0 { (first, second) } else { (second, first) };
        for request in own.application.in_flight.values_mut() {
            let had_it = request.tags().all(|(at, tag)| peer.disk.data.get(at) == Some(&tag));
            request.peer_had_it |= had_it;
        }
    }

    pub(super) fn crash(&mut self, n: usize, power_cut: bool) {
        self.event_outside(|| format!("{n}: {}", if power_cut { "power cut" } else { "crash" }));
        let other = 1 - n;
        self.check_coverage(&format!("before the crash of node {n}"));
        let primary = self.nodes[n].is_primary();
        let forced = self.nodes[n].is_asked(|purpose| *purpose == Purpose::Primary { force: true });
        let chosen = primary && forced && self.state(n).is_some_and(decides_alone);
        let idle =
            primary && self.state(n).is_some_and(|state| state.is_susp() || state.disk <= Disk::Failed);
        let unused = idle && self.loser == Some(other) && self.authority == Some(n);
        self.stats.crashes += 1;
        self.stats.power_cuts += u64::from(power_cut);
        // Protocol A acknowledges what TCP has. If an invalidate takes the own disk away while such writes are
        // on their way, this crash loses them, and the operator who ordered the invalidate accepted that: what
        // the other node has got by then is the data from now on. (If the other node is lost instead, see
        // `update_authority`; protocol B acknowledges what the other node has.)
        let exposed = self.state(n).is_some_and(|s| s.role == Role::Primary && s.disk < Disk::UpToDate);
        let given_up = exposed || primary && self.is_target_unawares(n);
        self.lost_on_the_way |= given_up && self.p.net.protocol == Protocol::A;
        // With a good disk it loses nothing, unless the other node goes on without that: see `replied`.
        if primary && !given_up && self.p.net.protocol == Protocol::A {
            self.acknowledged_by_crashed = Some(n);
        }
        // Its disk has failed, the peer has not heard of that, and nothing on the disk says so: it is the source of the next resync, and what
        // only the peer has of the last writes goes.
        let failed = primary && self.state(n).is_some_and(|state| state.disk < Disk::Inconsistent);
        self.judge.lenient |= failed && self.state(other).is_some_and(|state| state.pdsk == Disk::UpToDate);
        if power_cut {
            self.note_what_the_peer_had(other);
        }
        let node = &mut self.nodes[n];
        node.daemon = None;
        node.powered = !power_cut;
        node.application.open = false;
        node.application.closing = false;
        let step = self.step;
        for (_, request) in std::mem::take(&mut node.application.in_flight) {
            self.judge.unknown += 1;
            for index in 0..request.sectors {
                let tag = match &request.kind {
                    Kind::Write { tags, .. } => tags[index as usize],
                    Kind::Discard { .. } => 0,
                    _ => break,
                };
                self.judge.unknown(step, request.began, request.sector + index, tag);
            }
        }
        node.disk.stop(power_cut, &mut self.random);
        if chosen && self.nodes[n].super_block().uuids[1] != 0 {
            // It is what the operator wanted, though nobody is told any more: the generation has begun.
            self.data_chosen(n);
        } else if chosen && self.is_generation_before(n) {
            // It has not, and the promotion is forgotten: the other one has the newer data still.
            self.authority = Some(other);
        } else if unused && self.is_generation_before(n) {
            // Nor has it where the I/O of the one that was chosen has been frozen from its promotion on, or its disk been gone: no
            // application has seen its data, and nothing tells that they were chosen. Nobody has lost anything.
            self.say(|| format!("the data of node {other} count again"));
            self.rebase_judge(other);
            self.loser = None;
            self.authority = Some(other);
        }
        if power_cut {
            // The former Primary is the source of the next resync, if it crashed.
            if primary || self.authority == Some(n) || self.last_primary == Some(n) {
                self.judge.cache_lost();
            }
            if !primary && (self.authority.is_none() || self.kept_for_crashed_primary(n)) {
                if self.left_generation_of_its_own(n) {
                    // It is the newer one for both all the same.
                    self.authority = Some(n);
                    self.judge.cache_lost();
                } else {
                    // What it had in its cache may be on the other disk only.
                    self.authority = Some(other);
                }
            }
        }
        // Two Primaries crash, and neither disk says that it is the newer one: that of the one that lost its cache may be the source, and what
        // the other acknowledged without having heard of that is lost, too. So is what it has flushed: that is done when its own disk has
        // it, and the barrier is on its way.
        if primary && self.cut_primary == Some(other) && self.is_of_same_generation(n) {
            self.judge.cache_lost();
            let cut = &self.nodes[other].disk.data;
            self.judge.flush_lost(|sector| cut.get(sector).copied());
        }
        // A Primary crashes that has no good disk, and has not heard yet that the power of the one with the good disk was cut: what that had
        // acknowledged before may have come since, and is lost with its cache. (If it has heard, see `update_authority`.)
        if exposed && self.connection.as_ref().is_some_and(|connection| connection.cut[other]) {
            self.judge.cache_lost();
        }
        if primary && power_cut {
            self.cut_primary = Some(n);
        }
        if let Some(connection) = &mut self.connection {
            if power_cut {
                connection.fall_silent(n, &mut self.random);
            } else {
                connection.close(n, true, &mut self.random);
            }
        }
        self.check_coverage(&format!("after the crash of node {n}"));
    }

    /// An operator ordered an invalidate, the other node has agreed or may still, and the answer has not come: this node knows its own disk for
    /// good, and the next handshake makes it the target.
    fn is_target_unawares(&self, n: usize) -> bool {
        let (own, _, disk) = self.identity(n);
        let (source, ..) = self.identity(1 - n);
        self.nodes[n].is_asked(|purpose| *purpose == Purpose::Invalidate)
            && disk == Disk::UpToDate
            && own.current & !1 == source.current & !1
            && own.bitmap == 0
    }

    /// Of two Primaries the other one was shot, which had begun nothing that this one has not gone on from.
    fn has_shot_primary(&self, n: usize) -> bool {
        self.p.two_primaries && self.nodes[1 - n].daemon.is_none() && self.is_generation_before(1 - n)
    }

    /// The generation of node `n` is the one after that of the other node.
    pub(super) fn is_generation_after(&self, n: usize) -> bool {
        let [own, other] = [n, 1 - n].map(|n| self.identity(n).0);
        own.bitmap != 0 && (own.bitmap ^ other.current) & !1 == 0
    }

    /// The same, and the other one is not to be preferred.
    fn has_moved_on(&self, n: usize) -> bool {
        self.loser != Some(n) && self.is_generation_after(n)
    }

    /// A Secondary without its peer that has a generation of its own.
    pub(super) fn began_generation_alone(&self, n: usize, state: StateWord) -> bool {
        let disk = self.nodes[n].daemon.as_ref().and_then(|daemon| daemon.core.volume(V).disk());
        state.conn < Conn::Connected
            && state.disk == Disk::UpToDate
            && disk.is_some_and(|disk| disk.uuids.bitmap != 0)
    }

    /// The same of a node that crashed before its peer noticed that the link was lost.
    fn left_generation_of_its_own(&self, n: usize) -> bool {
        self.left_good_disk(n) && self.nodes[n].super_block().uuids[1] != 0
    }

    fn left_good_disk(&self, n: usize) -> bool {
        self.nodes[n].super_block().calls_disk_good()
    }

    /// The other node was Primary and has crashed, and what that had in its cache this node had, of the same generation. What this one has in
    /// its own cache may be on the other disk: a flush of the application is done when the Primary's disk is.
    fn kept_for_crashed_primary(&self, n: usize) -> bool {
        let other = 1 - n;
        self.authority == Some(n)
            && self.last_primary == Some(other)
            && self.is_of_same_generation(n)
            && self.left_good_disk(other)
    }

    /// Two Primaries, one of which goes on without the other: an operator will have to give the data of one up. The other one may not have
    /// noticed yet, or be about to be demoted; or it is about to be promoted, beside a peer that it takes for there still.
    fn see_split(&mut self) {
        let [Some(a), Some(b)] = [self.state(0), self.state(1)] else { return };
        if self.loser.is_some() {
            return;
        }
        // Also if an operator holds its I/O back: it was promoted over that, in a generation of its own.
        let goes_on = |n: usize, s: StateWord| {
            s.role == Role::Primary
                && s.conn < Conn::Connected
                && (!s.is_susp() || self.is_generation_after(n))
        };
        let in_use = |n: usize, state: StateWord| {
            let node = &self.nodes[n];
            let demoted = node.is_asked(|purpose| *purpose == Purpose::Secondary);
            let promoted = state.conn >= Conn::Connected && node.is_asked(Purpose::is_promotion);
            node.is_primary() || demoted || promoted
        };
        let loser = match (goes_on(0, a), goes_on(1, b)) {
            (true, true) => self.random.below(2) as usize,
            (true, false) if in_use(1, b) => 1,
            (false, true) if in_use(0, a) => 0,
            _ => return,
        };
        self.go_apart(loser);
    }

    pub(super) fn go_apart(&mut self, loser: usize) {
        self.say(|| format!("two Primaries went apart: the data of node {loser} are to be given up"));
        self.stats.split_brains += 1;
        self.loser = Some(loser);
        self.authority = Some(1 - loser);
        // What either reads and writes from now on is its own; a policy may choose the other one.
        self.judge.apart = true;
    }

    /// Two Primaries that went apart have the same data again: the judge goes by these.
    fn see_reunion(&mut self) {
        if !std::mem::take(&mut self.judge.apart) {
            return;
        }
        let disks = [&self.nodes[0].disk, &self.nodes[1].disk];
        self.judge.rebase(
            self.step,
            |sector| disks.iter().flat_map(|disk| disk.possible(sector)).collect(),
            |sector| disks.iter().flat_map(|disk| disk.data.versions(sector)).collect(),
        );
        for node in &self.nodes {
            for request in node.application.in_flight.values() {
                for (sector, tag) in request.tags() {
                    self.judge.began(request.began, sector, tag);
                }
            }
        }
    }

    /// Follows which node has data that the other one lacks.
    pub(super) fn update_authority(&mut self) {
        self.last_primary = (0..2).find(|n| self.nodes[*n].is_primary()).or(self.last_primary);
        // Protocols A and B acknowledge what is still on its way to the peer, all acknowledge what is in
        // its cache. Where the own disk does not count, nobody has it when the peer is lost; and reads of
        // the own disk may have shown it.
        if self.p.net.protocol != Protocol::C || self.p.power_cuts {
            let exposed = |s: StateWord| s.role == Role::Primary && s.disk < Disk::UpToDate;
            self.judge.lenient |= (0..2)
                .filter_map(|n| self.state(n))
                .any(|state| exposed(state) && state.pdsk != Disk::UpToDate);
        }
        let states = [self.state(0), self.state(1)];
        if self.p.two_primaries {
            self.see_split();
        }
        if let [Some(a), Some(b)] = states {
            if is_good(a) && is_good(b) {
                self.see_reunion();
                self.authority = None;
                self.unfenced = false;
                self.loser = None;
                self.unheard_generation = None;
                self.acknowledged_by_crashed = None;
                self.left_disks = [false; 2];
                self.lifted_peers = [false; 2];
                return;
            }
        }
        for n in 0..2 {
            let behind = self.nodes[n].is_primary() && !self.has_data(n);
            self.left_behind[n] = behind && (self.left_behind[n] || self.nodes[1 - n].is_primary());
        }
        for (n, state) in states.into_iter().enumerate() {
            let Some(state) = state else { continue };
            let served = state.conn >= Conn::Connected && state.pdsk == Disk::UpToDate;
            let served = served && state.disk < Disk::Inconsistent;
            self.left_disks[n] |= state.role == Role::Primary && served;
            self.lifted_peers[n] |=
                served && self.nodes[n].super_block().flags.contains(MetaFlags::PEER_OUT_DATED);
            if state.role == Role::Primary {
                if state.disk == Disk::UpToDate && state.pdsk != Disk::UpToDate {
                    self.authority = Some(n);
                } else if state.disk < Disk::UpToDate
                    && state.pdsk == Disk::UpToDate
                    && !self.is_local(1 - n)
                    && self.is_generation_before(1 - n)
                {
                    // The peer has refused writes, and its disk has gone, which this node has not heard of: its own has what counts.
                    self.authority = Some(n);
                } else if state.disk < Disk::UpToDate && state.pdsk == Disk::UpToDate {
                    self.authority = Some(1 - n);
                    // It goes by the peer's disk, also if that node was to give its data up. They are its own, if the peer has got them
                    // meanwhile. Else those of the peer have been chosen, and the own disk has what is to be given up.
                    if self.loser == Some(1 - n) {
                        let [(own, ..), (peer, ..)] = [n, 1 - n].map(|n| self.identity(n));
                        // It may have missed the end of the resync that brought them.
                        let same = (own.current ^ peer.current) & !1 == 0;
                        let older = matches!(self.comparison(n), Verdict::Target { .. });
                        self.loser = (!same && !older).then_some(n);
                    }
                }
            } else if state.conn.is_sync_source() || state.conn == Conn::WFBitMapS {
                // A source that has not noticed yet that the link is lost, and its target was refused what it asked for.
                // That may have gone on, and have lost its disk since.
                let gone_on = match states[1 - n] {
                    Some(other) if other.disk >= Disk::Inconsistent => {
                        self.began_generation_alone(1 - n, other)
                    }
                    Some(other) => other.conn < Conn::Connected && self.left_generation_of_its_own(1 - n),
                    None => self.left_generation_of_its_own(1 - n),
                };
                if self.authority != Some(1 - n) || !gone_on {
                    self.authority = Some(n);
                }
            } else if (self.authority.is_none() || self.has_shot_primary(n) || self.has_moved_on(n))
                && self.began_generation_alone(n, state)
            {
                // The peer was lost in the middle of the demotion.
                self.authority = Some(n);
            }
        }
    }
}
