//! Sizes: disks that grow and shrink, the `resize` command, and what must hold of them.

use super::World;
use crate::network::Connection;
use crate::node::{is_good, Purpose, V};
use drbdbox::core::state::{Disk, StateWord};
use drbdbox::core::types::*;

impl World {
    /// Size of the device at a node: the one it shows, or would show without its peer.
    pub fn size_of(&self, n: usize) -> u64 {
        match &self.nodes[n].daemon {
            Some(daemon) if daemon.core.volume(V).disk().is_some() || self.nodes[n].is_primary() => {
                daemon.core.volume(V).size_sectors()
            }
            _ => self.nodes[n].super_block().effective_size_sectors,
        }
    }

    /// Disks, or the device, get another size.
    pub(super) fn sizes_change(&mut self, n: usize, state: StateWord) {
        match self.random.below(10) {
            0..=2 => self.grow(n),
            3 => {
                self.grow(0);
                self.grow(1);
            }
            4 if !self.p.internal => self.shrink_unused(n),
            5 => self.resize_oddly(n, state),
            _ => {
                let (assume_peer_has_space, assume_clean) = (self.random.chance(8), self.random.chance(20));
                self.resize_command(n, 0, assume_peer_has_space, assume_clean);
            }
        }
    }

    fn grow(&mut self, n: usize) {
        let now = self.nodes[n].disk.data.sectors();
        let more = match self.random.below(4) {
            0 => 1 + self.random.below(64),
            1 => 8 * (1 + self.random.below(100)),
            2 => 8192 + self.random.below(100),
            _ => 1 + self.random.below(20_000),
        };
        if now + more > 2 * self.p.disk_sectors[n] {
            return;
        }
        self.set_disk_size(n, now + more);
    }

    fn set_disk_size(&mut self, n: usize, sectors: u64) {
        self.event_outside(|| format!("{n}: its disk has {sectors} sectors"));
        self.nodes[n].set_disk_sectors(sectors, &mut self.random);
    }

    /// The unused end of a disk is cut off. Not drawn: of one that is in use, whose daemon, and the peer, do not hear of it. What is used
    /// of internal meta data is lost with the end of their device.
    fn shrink_unused(&mut self, n: usize) {
        if self.nodes[n].daemon.as_ref().is_some_and(|daemon| daemon.disk_open) {
            return;
        }
        let needed = (0..2).map(|n| self.nodes[n].agreed().max(self.size_of(n))).max().unwrap_or(0);
        let now = self.nodes[n].disk.data.sectors();
        if needed > 0 && needed < now {
            let sectors = needed + self.random.below(now - needed);
            self.set_disk_size(n, sectors);
        }
    }

    /// `resize` to a size: too large, between the limits, or smaller than the device.
    fn resize_oddly(&mut self, n: usize, state: StateWord) {
        let now = self.size_of(n);
        let smaller = self.random.chance(60);
        if !smaller {
            let size = now + self.random.below(20_000);
            let assume_clean = self.random.chance(20);
            return self.resize_command(n, size, false, assume_clean);
        }
        // Not drawn: one node alone gets smaller. It keeps that only until its daemon ends, and refuses the peer until then.
        let most = *self.random.pick(&[64, 10_000]);
        let less = 1 + self.random.below(most);
        let size = now.saturating_sub(less);
        let in_use = self.nodes.iter().any(|node| node.application.overlaps(size, u64::MAX >> 1));
        if is_good(state) && size > 30 * 2048 && !in_use {
            if !self.is_quiet() {
                return;
            }
            self.used = size;
            self.shrinks_to = Some(self.shrinks_to.map_or(size, |least| least.min(size)));
            self.resize_command(n, size, false, false);
        }
    }

    pub(super) fn resize_command(
        &mut self,
        n: usize,
        size: u64,
        assume_peer_has_space: bool,
        assume_clean: bool,
    ) {
        // Not drawn: two commands that meet on the wire, of which one makes the device smaller: what applications use, and what they
        // must not use any more, would be known late.
        if self.shrinks_to.is_some() && !self.is_quiet() {
            return;
        }
        if assume_clean {
            let from = self.size_of(0).min(self.size_of(1));
            self.assumed_clean = Some(self.assumed_clean.map_or(from, |clean| clean.min(from)));
        }
        if size == 0 || size > self.used {
            self.used = u64::MAX;
        }
        let command = Command::Resize { volume: V, size, assume_peer_has_space, assume_clean };
        self.command(n, Purpose::Other, command);
    }

    /// The end: both disks have room for all that either may hold.
    pub(super) fn disks_are_equal(&mut self) {
        if !self.p.resizes {
            return;
        }
        self.used = u64::MAX;
        self.next_resize = [self.now + 10_000; 2];
        let largest = self.nodes.iter().map(|node| node.disk.data.sectors()).max().unwrap_or(0);
        for n in 0..2 {
            if self.nodes[n].disk.data.sectors() < largest {
                self.set_disk_size(n, largest);
            }
        }
    }

    /// Whether operators who want everything to be well have the node look at its disk.
    pub(super) fn is_to_resize(&self, n: usize) -> bool {
        self.p.resizes && self.now >= self.next_resize[n] && self.is_quiet()
    }

    /// The device of a node has another size for applications.
    pub(super) fn size_shown(&mut self, n: usize, sectors: u64) {
        self.say(|| format!("{n}: the device has {sectors} sectors"));
        if sectors > self.nodes[n].application.size
            && self.nodes[n].state().is_some_and(|s| s.disk > Disk::Negotiating)
        {
            let agreed = self.nodes[n].durable_super_block().effective_size_sectors;
            assert!(agreed >= sectors, "node {n} shows {sectors} sectors, its disk says {agreed}");
        }
        self.nodes[n].application.size = sectors;
    }

    /// A device gets smaller only when an operator says so.
    pub fn check_sizes(&mut self) {
        for n in 0..2 {
            let now = self.nodes[n].daemon.as_ref().map(|daemon| daemon.core.volume(V).size_sectors());
            let before = std::mem::replace(&mut self.sizes[n], now);
            let (Some(before), Some(now)) = (before, now) else { continue };
            if now >= before {
                continue;
            }
            self.say(|| format!("{n}: the device had {before} sectors, and has {now}"));
            let asked_for = self.shrinks_to.is_some_and(|least| now >= least);
            let primary = self.nodes[n].is_primary();
            assert!(
                asked_for || !primary,
                "node {n}, Primary, goes from {before} to {now} sectors: {}",
                self.summary()
            );
            if asked_for {
                self.judge.cut_off(now);
            }
        }
    }

    /// A node that may be used has room for all that was acknowledged.
    pub fn check_extent(&self, n: usize) {
        let (size, extent) = (self.size_of(n), self.judge.extent());
        assert!(
            size >= extent || self.judge.lenient || self.loser.is_some(),
            "node {n} has {size} sectors, and {extent} were written: {}",
            self.summary()
        );
    }

    /// What two nodes have that rest. Where no disk and no size changed this is known.
    pub fn size_at_rest(&self) -> u64 {
        if self.p.resizes {
            self.size_of(0)
        } else {
            self.p.sectors
        }
    }

    /// Nothing is on its way, at the nodes or between them.
    fn is_quiet(&self) -> bool {
        let nodes = (0..2).all(|n| {
            self.nodes[n].disk.jobs.is_empty()
                && self.nodes[n].daemon.as_ref().is_none_or(|daemon| {
                    daemon.asked.is_empty() && daemon.outbox.iter().all(|queue| queue.is_empty())
                })
        });
        // What is left of a connection that both have closed reaches nobody.
        let arrived = |c: &Connection| c.is_over() || c.to.iter().flatten().all(|queue| queue.is_empty());
        nodes && self.connection.as_ref().is_none_or(arrived)
    }

    /// Space that both nodes got before they were connected. As with DRBD their bits say that it may differ, and
    /// nothing resyncs it (spec/state.md 12.4 step 7): "No resync, but".
    pub fn may_differ(&self, sector: u64) -> bool {
        let known = self.nodes.iter().filter_map(|node| node.daemon.as_ref()?.core.volume(V).disk());
        let marked = || known.clone().any(|disk| disk.bitmap.is_set(sector / 8));
        self.is_assumed_clean(sector)
            || self.bits_without_resync && self.judge.is_unwritten(sector) && marked()
    }

    /// Nobody has written here, and an operator said that both disks hold the same.
    pub fn is_assumed_clean(&self, sector: u64) -> bool {
        self.assumed_clean.is_some_and(|from| sector >= from) && self.judge.is_unwritten(sector)
    }
}
