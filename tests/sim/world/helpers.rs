//! Helper programs: what they do in the world, and what they answer, late.

use super::World;
use crate::node::{Purpose, V};
use drbdbox::conf::settings::Fencing;
use drbdbox::core::state::{Conn, Disk, Role};
use drbdbox::core::types::*;
use drbdbox::meta::MetaFlags;

/// A helper that runs.
pub struct Helper {
    pub id: HelperId,
    pub name: &'static str,
    /// When it goes on at the earliest.
    pub due: Millis,
    /// What it has found out or done, and will answer.
    answer: Option<i32>,
}

impl Helper {
    pub fn new(id: HelperId, name: &'static str, now: Millis) -> Helper {
        Helper { id, name, due: now, answer: None }
    }
}

/// Exit codes of a program that did nothing: not installed, wrong arguments, killed.
const BROKEN: [i32; 5] = [0, 1, 2, 20, 127];

impl World {
    /// One of the helpers of a node goes on: it acts, or it ends.
    pub(super) fn helper(&mut self, n: usize) {
        let now = self.now;
        let Some(daemon) = &mut self.nodes[n].daemon else { return };
        let due = daemon.helpers.iter().enumerate().filter(|(_, helper)| helper.due <= now);
        let due: Vec<usize> = due.map(|(index, _)| index).collect();
        let index = *self.random.pick(&due);
        let mut helper = daemon.helpers.swap_remove(index);
        if helper.answer.is_none() {
            helper.answer = self.act(n, helper.name);
            // Often at once, sometimes when all has changed since.
            let late = !self.healing && self.random.chance(15);
            let wait = if late { self.random.below(8000) } else { 0 };
            if helper.answer.is_none() || wait > 0 {
                helper.due = self.now + wait.max(1);
                if let Some(daemon) = &mut self.nodes[n].daemon {
                    daemon.helpers.push(helper);
                }
                return;
            }
        }
        let (id, name, code) = (helper.id, helper.name, helper.answer.unwrap_or(1));
        self.say(|| format!("{n}: helper {name} returns {code}"));
        if let Some(daemon) = &mut self.nodes[n].daemon {
            daemon.core.helper_done(now, id, code << 8);
        }
        self.outputs(n);
    }

    /// What a helper does, and its exit code; `None`: it has to look again.
    fn act(&mut self, n: usize, name: &str) -> Option<i32> {
        let odd = !self.healing && self.plan.allows(self.step);
        let refuses = odd && self.random.chance(2);
        match name {
            "fence-peer" if odd && self.random.chance(10) => Some(*self.random.pick(&BROKEN)),
            "fence-peer" => self.fence_peer(n),
            "before-resync-target" if refuses => Some(*self.random.pick(&[1, 3, 20])),
            "before-resync-source" if refuses => Some(*self.random.pick(&[1, 3, 20])),
            "before-resync-target" | "before-resync-source" => Some(0),
            // Nobody asks what the others answer.
            _ => Some(*self.random.pick(&BROKEN)),
        }
    }

    /// A fence-peer handler that tells the truth: it outdates the peer over another network, or shoots it.
    fn fence_peer(&mut self, n: usize) -> Option<i32> {
        let other = 1 - n;
        // Who shoots from an old disk makes it the good one: nobody who knows that lets it.
        let may_shoot = self.p.fencing() == Fencing::ResourceAndStonith
            && !self.healing
            && self.plan.allows(self.step)
            && self.state(n).is_some_and(|state| state.disk == Disk::UpToDate);
        if may_shoot && self.random.chance(20) {
            if self.nodes[other].daemon.is_some() {
                self.planned.push(self.step);
                self.say(|| format!("{n}: fence-peer shoots node {other}"));
                self.crash(other, self.p.power_cuts);
            }
            return Some(7);
        }
        match self.state(other) {
            None => Some(self.fence_stopped_peer(other)),
            Some(state) if state.role == Role::Primary && self.p.two_primaries => {
                // One of the two has to go; the faster one stays.
                self.planned.push(self.step);
                self.say(|| format!("{n}: fence-peer shoots node {other}, Primary"));
                self.crash(other, self.p.power_cuts);
                Some(7)
            }
            Some(state) if state.role == Role::Primary => Some(6),
            // What it has detached is good when it attaches that again.
            Some(state) if state.disk == Disk::Diskless => Some(self.outdate_meta(other)),
            Some(state) if state.disk == Disk::Inconsistent => Some(3),
            // A handshake that it is in may make it good yet: `outdate` waits for the end of that.
            Some(state) if state.disk == Disk::Outdated && state.conn != Conn::WFReportParams => Some(4),
            // It was asked, or does something else, and may take its time.
            Some(_) if self.random.chance(10) => Some(1),
            Some(_) => {
                if self.idle_admin(other) {
                    self.command(other, Purpose::Other, Command::Outdate { volume: V });
                }
                None
            }
        }
    }

    /// The peer has no daemon: what its machine is good for depends on whether there is power.
    fn fence_stopped_peer(&mut self, other: usize) -> i32 {
        if !self.nodes[other].powered || self.random.chance(50) {
            return 5;
        }
        self.outdate_meta(other)
    }

    /// `drbdmeta outdate`, for a disk that is not attached.
    fn outdate_meta(&mut self, other: usize) -> i32 {
        let mut block = self.nodes[other].super_block();
        if !block.flags.contains(MetaFlags::CONSISTENT) {
            return 3;
        }
        self.say(|| format!("{other}: drbdmeta outdate"));
        block.flags.set(MetaFlags::WAS_UP_TO_DATE, false);
        let node = &mut self.nodes[other];
        let at = node.layout().md_offset;
        node.disk.write_meta(at, &block.encode());
        let point = node.disk.meta.flush_begins();
        node.disk.meta.flush_ends(point);
        4
    }
}
