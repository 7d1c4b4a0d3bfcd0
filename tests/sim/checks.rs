//! What must hold: at every step, at every disk write, at every crash, and at the end.

use crate::application::Request;
use crate::disk::{Job, Work};
use crate::node::{is_good, Purpose, V};
use crate::world::World;
use drbdbox::conf::settings::{OnIoError, Protocol};
use drbdbox::core::state::{Conn, Disk, Role, StateWord};
use drbdbox::core::types::*;
use drbdbox::core::uuid::{compare, CompareContext, PeerUuids, UuidFlags, Uuids, Verdict, JUST_CREATED};
use drbdbox::meta::MetaFlags;
use drbdbox::wire::Features;

/// Log lines that no fault explains.
const NEVER: [&str; 14] = [
    "Split-Brain detected",
    "Unrelated data",
    "ASSERT FAILED",
    "BAD!",
    "unknown request",
    "p_uuid is NULL",
    "Unexpected",
    "failed to find request",
    "I shall become SyncSource, but I am inconsistent",
    "I shall become SyncTarget, but I am primary",
    "bm UUID was already set",
    "not configured locally",
    "beyond end of local disk",
    "bitmap received, but there is no disk",
];

/// The current UUID that a log line names, without the bit that tells the role.
fn generation_named(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok().map(|uuid| uuid & !1)
}

impl World {
    pub fn logged(&mut self, n: usize, level: Level, text: &str) {
        self.say(|| format!("{n}: {level:?}: {text}"));
        let forces = text.starts_with("Forced to consider local data as UpToDate");
        if std::mem::replace(&mut self.forced[n], forces) && text.starts_with("bm UUID was already set") {
            // Who makes data good by force begins a new generation, whatever BITMAP is (spec/state.md 8.4 U2).
            return;
        }
        let tempting = [
            "Resync done",
            "Began resync",
            "new current UUID",
            "updated",
            "role( Primary -> Secondary",
            "disk( Diskless -> Attaching",
            "Writing the whole bitmap",
            "disk( UpToDate -> Failed",
            "Marked additional",
        ];
        if tempting.iter().any(|line| text.contains(line)) {
            self.tempt_fate(n);
        }
        if text.contains("Resync done") {
            self.tempt_link();
        }
        if text.starts_with("Began resync as SyncTarget") {
            self.stats.resyncs += 1;
        }
        // With two Primaries, where the sockets of a link are not equally slow.
        if text.starts_with("Aborting Connect, can not thaw IO")
            || text.starts_with("Timed out waiting for missing ack packets")
        {
            self.thaw_aborted = true;
        }
        // Who promotes by force goes on where fence-peer has failed, also long after the order.
        self.unfenced |= text.starts_with("Forced into split brain situation");
        let verifies = |conn| matches!(conn, Conn::VerifyS | Conn::VerifyT);
        let grown_in_verify = text.starts_with("Writing the whole bitmap, size changed")
            && self.nodes[n].state().is_some_and(|s| verifies(s.conn));
        if grown_in_verify {
            // A verify began between the order to grow and the new size: with new space for both no resync follows from it (spec/state.md
            // 12.4 step 7).
            self.bits_without_resync = true;
        } else if text.starts_with("No resync, but") {
            // Two copies of one generation are not compared, though an invalidate that ended early left
            // bits (spec/state.md 8.4 U15, 10.3 step 13).
            self.bits_without_resync = true;
        } else if text.starts_with("Began resync") {
            self.bits_without_resync = false;
        }
        if text.contains("To resolve this both sides have to support") {
            // Nothing but a full sync by hand helps two nodes that speak so old a protocol. And what rule 41 needs of both
            // (spec/state.md 10.2) the two do not have: they agree again when the Primary is demoted.
            let too_old = self.p.version.number() < 91;
            let too_poor = text.contains("feature flags") && !self.p.features.contains(Features::WSAME);
            assert!(too_old || too_poor, "node {n} asks for what both have: {text}");
            self.given_up = true;
            return;
        }
        if let Some(generation) = text.strip_prefix("new current UUID ") {
            let served = self.nodes[n].daemon.as_ref().is_some_and(|daemon| daemon.served_primary);
            let unheard = self.nodes[n].state().is_some_and(|s| {
                // The node that serves the Primary may be the other one of two.
                let serves = s.peer == Role::Primary && s.pdsk < Disk::Inconsistent;
                // It was due when the link was lost, and a slow disk came in between: the Primary may have its own again.
                serves || s.role == Role::Secondary && s.conn < Conn::Connected && served
            });
            if unheard {
                self.unheard_generation = generation.split(':').next().and_then(generation_named);
            }
        } else if let Some(generation) = text.strip_prefix("receiver updated UUIDs to effective data uuid: ")
        {
            // Not heard of by a Secondary that has given its own disk up since, nor by a Primary that goes by other data.
            let heard = self.nodes[n].is_primary() && self.unheard_generation == generation_named(generation);
            if heard {
                self.unheard_generation = None;
            }
        } else if text.starts_with("Can only connect to data with current UUID") {
            let wanted = text.rsplit('=').next().and_then(generation_named);
            self.refused_data = wanted.map(|wanted| (self.now, wanted));
        }
        // The Primary gave its disk up, this node began a generation for what it was to write here, and the link was lost
        // before the Primary heard of it. With its own disk the Primary begins another one: for the two nodes that
        // is a split brain, though the data may be the same. While its I/O is frozen, or fencing keeps its disk from being UpToDate, it
        // has not begun it yet, and refuses what it has not heard of.
        let waits = self.nodes[n].state().is_some_and(|state| state.is_susp() || state.disk < Disk::UpToDate);
        let refuses = waits && text.contains("I shall become SyncTarget, but I am primary");
        if self.unheard_generation.is_some() && (refuses || text.contains("Split-Brain detected")) {
            self.given_up = true;
            return;
        }
        // With pass_on a Primary whose disk failed goes on with data that are newest and Inconsistent; what
        // the other node has can be preferred, or not, but only by hand.
        let by_hand =
            ["Split-Brain detected", "I shall become SyncSource, but I am inconsistent", "Unrelated data"];
        if self.passed_on() && by_hand.iter().any(|line| text.contains(line)) {
            self.given_up = true;
            return;
        }
        if self.is_undecided(text) {
            return;
        }
        // Whose data an operator has chosen does not give them up, and need not have begun a generation: its I/O is held back.
        let keeps_data = self.p.two_primaries || self.loser == Some(1 - n);
        let split = text.contains("Split-Brain detected")
            || keeps_data && text.contains("I shall become SyncTarget, but I am primary");
        if self.loser.is_some() && split {
            self.stats.split_brains += 1;
            if text.contains("automatically solved") {
                self.policy_chose(if text.ends_with("from this node") { n } else { 1 - n });
            }
            return;
        }
        if let Some(never) = NEVER.iter().find(|never| text.contains(**never)) {
            panic!("node {n} logs \"{never}\": {text} {}", self.summary());
        }
    }

    /// Two Primaries lost each other when one of them had given its disk up, and that one has attached it again, alone. Both disks are of one
    /// generation, and it counts as one that crashed: rule 41 does not decide which is the source (spec/state.md 10.2). Nobody works with a
    /// disk that is only Consistent: an operator reboots that node.
    fn is_undecided(&self, text: &str) -> bool {
        let is_lost =
            |n: usize| self.state(n).is_some_and(|s| s.role == Role::Primary && s.disk == Disk::Consistent);
        text.starts_with("Split-Brain detected but unresolved")
            && self.p.two_primaries
            && self.nodes.iter().all(|node| node.is_primary())
            && (0..2).any(is_lost)
            && self.comparison(0) == Verdict::NoResync
    }

    /// A disk may have failed and gone on.
    pub fn passed_on(&self) -> bool {
        self.stats.errors > 0 && self.p.disk.iter().any(|d| d.on_io_error == OnIoError::PassOn)
    }

    pub fn state_changed(&mut self, n: usize, old: StateWord, new: StateWord) {
        if let (Some(daemon), true) = (&mut self.nodes[n].daemon, new.conn >= Conn::Connected) {
            daemon.served_primary = new.peer == Role::Primary && new.pdsk < Disk::Inconsistent;
        }
        let lost = old.conn != Conn::ProtocolError && new.conn == Conn::ProtocolError;
        if lost && !std::mem::take(&mut self.thaw_aborted) && !old.is_susp() {
            panic!("node {n}: ProtocolError: {}", self.summary());
        }
        // Below protocol C the Primary's application may have heard of what is still on its way. And whether a frozen Primary goes on
        // with this node it decides itself. One that has given up the link goes on alone, and this node will notice; also one that has
        // crashed since: then nothing but the state of a link that is no more is new, and the disk is what it was before.
        let apart = match self.nodes[1 - n].state() {
            Some(other) => other.is_susp() || other.conn < Conn::WFReportParams,
            None => old.disk == Disk::UpToDate,
        };
        if is_good(new) && !is_good(old) && !apart && self.p.net.protocol == Protocol::C {
            if let Err(text) = self.judge.check_all(self.nodes[n].disk.data.seen()) {
                panic!("node {n} takes its disk for good: {text} {}", self.summary());
            }
        }
    }

    pub fn check_every_step(&mut self) {
        for n in 0..2 {
            if !self.has_data(n) {
                self.without_data[n] = self.step;
            }
            if !self.is_local(n) {
                self.without_disk[n] = self.step;
            }
        }
        if !self.both_mirror() {
            self.mirroring_since = None;
        } else if self.mirroring_since.is_none() {
            self.mirroring_since = Some(self.step);
            self.cut_primary = None;
        }
        if self.p.resizes {
            self.check_sizes();
        }
        if self.step % 64 == 0 || self.plan.closely {
            self.check_coverage("now");
            self.check_mirror();
        }
    }

    /// Two nodes that mirror each write before it is done have the same data, but for what is under way, and for new space, whose resync
    /// begins a moment after both have it.
    fn check_mirror(&mut self) {
        if self.mirroring_since.is_none() || self.p.net.protocol != Protocol::C {
            return;
        }
        self.note_differences();
        let under_way = |sector: u64| {
            let mut requests = self.nodes.iter().flat_map(|node| node.application.in_flight.values());
            requests.any(|r| r.sector <= sector && sector < r.sector + r.sectors)
        };
        let common = self.size_of(0).min(self.size_of(1));
        let mut differing = self.differing.range(..common);
        if let Some(sector) = differing.find(|sector| {
            !under_way(**sector) && !self.may_differ(**sector) && !self.judge.is_unwritten(**sector)
        }) {
            let [a, b] = [0, 1].map(|n: usize| *self.nodes[n].disk.data.read(*sector));
            panic!("both disks are good, and differ at sector {sector}: {a:#x} {b:#x} {}", self.summary());
        }
    }

    /// Both nodes are connected, with two good disks.
    fn both_mirror(&self) -> bool {
        self.nodes.iter().all(|node| {
            node.state().is_some_and(|s| {
                (s.conn == Conn::Connected || s.conn.is_verify())
                    && s.disk == Disk::UpToDate
                    && s.pdsk == Disk::UpToDate
            })
        })
    }

    /// Writes to a disk: what must be durable before.
    pub fn check_disk_work(&mut self, n: usize, io: Io, work: &Work) {
        if let Work::Meta { pieces, .. } = work {
            for job in &self.nodes[n].disk.jobs {
                let Work::Meta { pieces: others, .. } = &job.work else { continue };
                let meets = pieces.iter().any(|(at, bytes)| {
                    let end = at + bytes.len() as u64;
                    others.iter().any(|(other, bytes)| *at < other + bytes.len() as u64 && *other < end)
                });
                assert!(!meets, "node {n}: meta data writes {io:?} and {:?} overlap", job.io);
            }
        }
        let Some((first, count)) = work.changes() else { return };
        self.judge.touched(first, count);
        for job in &self.nodes[n].disk.jobs {
            if let Some((sector, sectors)) = job.work.changes() {
                let apart = sector >= first + count || first >= sector + sectors;
                assert!(
                    apart,
                    "node {n}: {io:?} {first}+{count} overlaps {:?} {sector}+{sectors} at the disk",
                    job.io
                );
            }
        }
        let Some(daemon) = &self.nodes[n].daemon else { return };
        let maximum = self.nodes[n].maximum();
        assert!(first + count <= maximum, "node {n}: {io:?} {first}+{count} is behind its data: {maximum}");
        let volume = daemon.core.volume(V);
        let (state, suspended, updates) =
            (volume.state(), volume.al_suspended(), volume.settings().al_updates);
        let block = self.nodes[n].durable_super_block();
        match io {
            Io::Request(_) => {
                assert!(
                    block.flags.contains(MetaFlags::PRIMARY_IND),
                    "node {n} writes {first}+{count} while its super block does not say Primary"
                );
                let moving = block.flags.contains(MetaFlags::FULL_SYNC);
                if !suspended && updates && !moving {
                    let Some(hot) = self.nodes[n].hot_extents() else { panic!("node {n}: log is damaged") };
                    for extent in (first >> 13)..=((first + count - 1) >> 13) {
                        assert!(
                            hot.contains(&(extent as u32)),
                            "node {n} writes to extent {extent}, not in the log"
                        );
                    }
                }
            }
            Io::Peer(_) if state.conn.is_sync_target() => {
                // One that came before, and had to wait for a write of this node to the same blocks, is under way as one that the disk had.
                let says_so = |job: &Job| matches!(job.work, Work::Meta { .. });
                let may_have_waited = self.p.two_primaries && self.nodes[n].disk.jobs.iter().any(says_so);
                assert!(
                    !block.flags.contains(MetaFlags::CONSISTENT) || may_have_waited,
                    "node {n}, a sync target, writes {first}+{count} while its super block says Consistent"
                );
            }
            _ => {}
        }
    }

    /// A write is about to be acknowledged to the application of node `n`.
    pub fn check_acknowledged(&mut self, n: usize, request: &Request) {
        let Some(state) = self.nodes[n].state() else { return };
        // Protocol C: both disks have it, unless a later write changed it again.
        let mirrored = self.both_mirror() && self.mirroring_since.is_some_and(|since| since < request.began);
        if mirrored && self.p.net.protocol == Protocol::C {
            for (sector, tag) in
                request.tags().filter(|(at, _)| !self.judge.is_written_since(*at, request.began))
            {
                for node in &self.nodes {
                    let found = node.disk.data.get(sector);
                    assert!(
                        found == Some(&tag),
                        "node {n} acknowledges {tag:#x} at sector {sector}, but the disk of node {} holds {found:x?}",
                        node.index
                    );
                }
            }
        }
        // A generation that the peer does not have must have a name of its own.
        let other = &self.nodes[1 - n].disk.data;
        // A later write, to a part of the blocks perhaps, may have changed them there since.
        let here = |(at, tag)| other.get(at) == Some(&tag) || self.judge.is_written_since(at, request.began);
        // What it had said to have, and lost with its cache a moment ago, is out of sync, and no generation is due for it.
        let known = request.peer_had_it || request.tags().all(here);
        if !known {
            self.check_fenced(n);
        }
        // Inconsistent data on the peer cannot become good without this node's, whatever their generation.
        let peer_may_go_on = state.pdsk != Disk::Inconsistent;
        if state.disk == Disk::UpToDate && state.conn < Conn::Connected && !known && peer_may_go_on {
            let block = self.nodes[n].durable_super_block();
            assert!(
                block.uuids[1] != 0,
                "node {n} acknowledges {}+{} alone, without a new current UUID",
                request.sector,
                request.sectors
            );
        }
    }

    /// Who goes on alone under resource-and-stonith has fenced the peer.
    fn check_fenced(&self, n: usize) {
        // A disk that was left may say that this node is fenced, as it was then: nothing tells it otherwise.
        if !self.is_fenced(n) || self.left_disks[1 - n] {
            return;
        }
        let other = self.nodes[1 - n].state();
        // A Secondary that disconnects asks to be outdated, and is when it has the answer.
        let will_be = self.nodes[1 - n].is_asked(|purpose| *purpose == Purpose::Disconnect);
        assert!(
            will_be || other.is_none_or(|other| other.disk != Disk::UpToDate),
            "node {n} acknowledges a write alone, and its peer is not fenced: {}",
            self.summary()
        );
    }

    pub fn identity(&self, n: usize) -> (Uuids, MetaFlags, Disk) {
        let block = self.nodes[n].super_block();
        let disk = self.nodes[n].daemon.as_ref().and_then(|daemon| daemon.core.volume(V).disk());
        let state = self.nodes[n].state().map_or(Disk::Diskless, |state| state.disk);
        match disk {
            Some(disk) => (disk.uuids, block.flags | disk.super_block.flags, state),
            None => (Uuids::from_slots(block.uuids), block.flags, state),
        }
    }

    /// Every sector that differs is known to differ, or a full sync will come.
    pub fn check_coverage(&mut self, when: &str) {
        self.note_differences();
        if self.differing.is_empty() || self.full_sync_due() {
            return;
        }
        let mut hot: [Vec<u32>; 2] = Default::default();
        let mut words: [Vec<u64>; 2] = Default::default();
        for n in 0..2 {
            let attached = self.nodes[n].daemon.as_ref().is_some_and(|d| d.core.volume(V).disk().is_some());
            if attached {
                continue;
            }
            let block = self.nodes[n].super_block();
            words[n] = self.nodes[n].bitmap_words(block.effective_size_sectors);
            if block.flags.contains(MetaFlags::PRIMARY_IND) {
                match self.nodes[n].hot_extents() {
                    Some(extents) => hot[n] = extents.clone(),
                    None => return,
                }
            }
        }
        let common = self.size_of(0).min(self.size_of(1));
        let mut known = None;
        for sector in self.differing.range(..common) {
            let (sector, bit) = (*sector, sector / 8);
            if known == Some(bit) || self.is_assumed_clean(sector) {
                continue;
            }
            let extent = (sector >> 13) as u32;
            let covered = (0..2).any(|n| {
                let disk = self.nodes[n].daemon.as_ref().and_then(|d| d.core.volume(V).disk());
                match disk {
                    // While it attaches the log on disk still counts.
                    Some(disk) => {
                        let attaching = self.nodes[n].state().is_some_and(|s| s.disk == Disk::Attaching);
                        disk.bitmap.is_set(bit) || disk.activity_log.is_active(extent) || attaching
                    }
                    None => {
                        let word = words[n].get((bit / 64) as usize).copied().unwrap_or(0);
                        word >> (bit % 64) & 1 == 1 || hot[n].contains(&extent)
                    }
                }
            });
            assert!(
                covered,
                "{when}: sector {sector} (bit {bit}, extent {extent}) differs: {:#x} {:#x}, and nobody knows: {}",
                self.nodes[0].disk.data.read(sector),
                self.nodes[1].disk.data.read(sector),
                self.summary()
            );
            known = Some(bit);
        }
    }

    /// Brings the set of sectors that differ up to date.
    fn note_differences(&mut self) {
        for n in 0..2 {
            for sector in self.nodes[n].disk.data.take_changed() {
                // The larger of two disks ends behind the device.
                match (self.nodes[0].disk.data.get(sector), self.nodes[1].disk.data.get(sector)) {
                    (Some(a), Some(b)) if a != b => self.differing.insert(sector),
                    _ => self.differing.remove(&sector),
                };
            }
        }
    }

    fn full_sync_due(&self) -> bool {
        let (own, own_flags, _) = self.identity(0);
        let (peer, peer_flags, _) = self.identity(1);
        let full = own_flags | peer_flags;
        if full.contains(MetaFlags::FULL_SYNC) || own.current == JUST_CREATED || peer.current == JUST_CREATED
        {
            return true;
        }
        matches!(
            self.comparison(0),
            Verdict::Source { full: true }
                | Verdict::Target { full: true }
                | Verdict::SplitBrainWithoutBitmap
        )
    }

    /// What the generations of the two disks say, seen from node `n`.
    pub fn comparison(&self, n: usize) -> Verdict {
        let (own, ..) = self.identity(n);
        let (peer, ..) = self.identity(1 - n);
        let context = CompareContext {
            apv: self.p.version.number(),
            feature_write_same: true,
            crashed_primary: false,
            arbiter: false,
            self_primary: false,
            peer_primary: false,
        };
        let peer = PeerUuids { uuids: peer, bits: 0, flags: UuidFlags::default() };
        compare(&own, &peer, &context).verdict
    }

    /// Both nodes rest at Connected, UpToDate/UpToDate.
    pub fn check_rest(&mut self) {
        for n in 0..2 {
            let Some(daemon) = &self.nodes[n].daemon else { panic!("node {n} is down") };
            let volume = daemon.core.volume(V);
            let counters = volume.counters();
            let pending = [
                counters.local,
                counters.ap_pending,
                counters.rs_pending,
                counters.unacked,
                counters.ap_in_flight,
            ];
            assert_eq!(pending, [0; 5], "node {n}: lo pe rs ua ap {}", self.summary());
            if !self.bits_without_resync {
                assert_eq!(volume.out_of_sync_bits(), 0, "node {n}: bits {}", self.summary());
            }
            assert_eq!(daemon.core.epochs(), 1, "node {n}: epochs");
            assert!(self.nodes[n].disk.jobs.is_empty(), "node {n}: I/O");
            assert!(!volume.state().is_susp(), "node {n} is frozen: {}", self.summary());
            assert_eq!(volume.size_sectors(), self.size_at_rest(), "node {n}: size");
            self.check_extent(n);
            let disk = volume.disk().expect("disk");
            let block = self.nodes[n].durable_super_block();
            assert_eq!(block.effective_size_sectors, self.size_of(n), "node {n}: size on disk");
            let mut slots = disk.uuids.slots();
            // Bit 0 of CURRENT follows the role in memory first.
            slots[0] = slots[0] & !1 | block.uuids[0] & 1;
            assert_eq!(block.uuids, slots, "node {n}: UUIDs on disk");
            for flag in [MetaFlags::CONSISTENT, MetaFlags::WAS_UP_TO_DATE, MetaFlags::CONNECTED_IND] {
                assert!(block.flags.contains(flag), "node {n}: flags on disk {:?}", block.flags);
            }
            let primary = volume.state().role == Role::Primary;
            assert_eq!(block.flags.contains(MetaFlags::PRIMARY_IND), primary, "node {n}: PRIMARY_IND");
            assert!(!block.flags.contains(MetaFlags::FULL_SYNC), "node {n}: FULL_SYNC");
            let words = self.nodes[n].bitmap_words(block.effective_size_sectors);
            let clean = self.bits_without_resync || words.iter().all(|word| *word == 0);
            assert!(clean, "node {n}: bitmap on disk");
        }
        let (a, _, _) = self.identity(0);
        let (b, _, _) = self.identity(1);
        assert_eq!(a.current & !1, b.current & !1, "CURRENT: {a} {b}");
        assert_eq!((a.bitmap, b.bitmap), (0, 0), "BITMAP: {a} {b}");
        if std::mem::take(&mut self.lost_on_the_way) {
            self.rebase_judge(0);
        }
        let size = self.size_at_rest() as usize;
        let (a, b) = (&self.nodes[0].disk.data.seen()[..size], &self.nodes[1].disk.data.seen()[..size]);
        if let Some(sector) = (0..size).find(|at| a[*at] != b[*at] && !self.may_differ(*at as u64)) {
            panic!("the disks differ at sector {sector}: {:#x} {:#x}", a[sector], b[sector]);
        }
        if let Err(text) = self.judge.check_all(a) {
            panic!("at rest: {text}");
        }
    }
}
