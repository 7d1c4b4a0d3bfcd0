//! Resync: the beginning and the end on both sides, progress; in [`requests`] what is asked for and answered in between.
//! spec/resync.md 4 to 8.

mod requests;

pub use requests::Answer;

use super::bitmap::SECTORS_PER_BIT;
use super::handlers::Handler;
use super::log_lines::{self, UuidEvent};
use super::peer_write::LOCK_OF_PEER;
use super::receive::Hold;
use super::rules::ChangeKind;
use super::size;
use super::speed::Controller;
use super::state::{Change, Conn, Disk, Role, StateWord};
use super::steps::{HelperThen, Step};
use super::types::*;
use super::volume::Volume;
use super::Resource;
use crate::conf::settings::Fencing;
use std::collections::{BTreeSet, HashMap};

/// Length of a turn.
pub const TURN_MS: Millis = 100;
pub(super) const MARKS: usize = 8;
const MARK_MS: Millis = 3000;
/// Shortest time between two writes of cleared bits.
const KEEP_MS: Millis = 2000;
/// Bits of a resync extent (16 MiB): no request crosses its border.
const BITS_PER_RESYNC_EXTENT: u64 = 4096;

/// A resync or verify, as far as one side knows.
#[derive(Debug, Default)]
pub struct Resync {
    /// Blocks to do, at the start.
    pub total: u64,
    /// Blocks that could not be done.
    pub failed: u64,
    /// Verify: blocks left.
    pub verify_left: u64,
    /// When it began.
    pub started: Millis,
    /// How long it was paused.
    pub paused_ms: Millis,
    /// When the pause began that lasts.
    pub paused_since: Option<Millis>,
    /// Blocks left, and when that was.
    pub marks: [(u64, Millis); MARKS],
    /// The newest mark.
    pub last_mark: usize,
    /// Blocks left when cleared bits were last written, and when that was.
    kept: (u64, Millis),
    /// Speed control; `want` is shown.
    pub controller: Controller,
    /// Next block to look at.
    pub position: u64,
    /// Source: block of the last request.
    pub last_requested: u64,
    pub(super) same_checksum: u64,
    pub(super) used_checksums: bool,
    /// Blocks that may still be requested in this turn.
    budget: u64,
    pub(super) next_turn: Option<Millis>,
    /// Requests without an answer: first sector to length in sectors.
    pub(super) outstanding: HashMap<u64, u64>,
    /// Those of them that are not sent yet: first the writes of the application end that were there before the lock. Without the
    /// lock a busy application would never let the resync have its turn.
    reserved: BTreeSet<u64>,
    pub(super) outstanding_blocks: u64,
    pub(super) finishing: Finishing,
    /// On the meta socket there may be answers of an earlier resync of this link, until this ping is answered. Nothing tells them
    /// from those of this resync: before that no block is asked for here, and none is sent.
    late_answers: Option<u64>,
    /// Source: blocks that were sent and not acknowledged, first sector to length in sectors. An
    /// acknowledgement that belongs to none of them is of an earlier resync: its socket is slower than
    /// the one with the news that a disk came and went. Blocks may have changed since.
    replied: HashMap<u64, u64>,
    /// Source: the target says that it is done.
    pub(super) target_done: bool,
    /// Source: it says, too, that its disk is not good.
    pub(super) target_failed: bool,
    /// Source of new space alone.
    of_new_space: bool,
    /// Source of new space alone: the target's disk was not good before. What it is in the end the target tells.
    target_tells: bool,
    /// Source of an empty resync of which nobody tells the end: how long it waits for it.
    empty_wait: Option<Millis>,
    /// Source: the sync UUID went out. Before that the target does not know of the resync.
    pub(super) announced: bool,
    /// Source: the target has asked for a block, or has become good without: the resync was empty. Before that, a word of it may be older
    /// than the resync.
    pub(super) target_began: bool,
    /// Source: blocks where its own disk failed (`on-io-error pass_on`), which it could not show meanwhile.
    own_failed: BTreeSet<u64>,
    /// Source: where space begins, in sectors, that was added when the target was done: the next resync brings it. (For DRBD these blocks
    /// are left of this one.)
    pub(super) added_behind_end: Option<u64>,
    /// Verify: where it began, and where it shall end.
    pub(super) verify_start: u64,
    pub(super) verify_stop: Option<u64>,
    pub(super) verify_run: Option<(u64, u64)>,
    /// Application sectors at the last turn, for the throttle.
    last_application: u64,
    /// When an Ahead node may begin to resync.
    pub(super) leave_ahead: Option<Millis>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finishing {
    #[default]
    No,
    /// The ping went out that orders what was sent before.
    Ping,
}

impl Resync {
    /// Blocks that checksums found equal.
    pub fn same_checksum(&self) -> u64 {
        self.same_checksum
    }

    /// Whether requests go out as soon as writes of the application are over.
    pub(super) fn waits_for_writes(&self) -> bool {
        !self.reserved.is_empty()
    }

    /// First sector of a verify, and the one where it ends if it does so before the end of the device.
    pub fn verify_range(&self) -> (u64, Option<u64>) {
        (self.verify_start, self.verify_stop)
    }
}

impl Volume {
    pub(super) fn next_timeout(&self) -> Option<Millis> {
        let dirty =
            self.disk.as_ref().and_then(|disk| disk.dirty_since).map(|d| d + super::meta_io::DIRTY_LIMIT_MS);
        [self.resync.next_turn, self.resync.leave_ahead, dirty].into_iter().flatten().min()
    }

    /// Blocks out of sync that are for this resync to bring, also those that it has failed to.
    fn resync_weight(&self) -> u64 {
        match (self.resync.added_behind_end, &self.disk) {
            (Some(end), Some(disk)) => disk.bitmap.count_sectors(0, end),
            _ => self.out_of_sync_bits(),
        }
    }

    /// Blocks that are left to do.
    pub fn resync_left(&self) -> u64 {
        if self.state.conn.is_verify() {
            self.resync.verify_left
        } else {
            self.resync_weight().saturating_sub(self.resync.failed)
        }
    }
}

impl Resource {
    /// What a state change means for a resync at once. spec/state.md 5.1, 8 to 11.
    pub(super) fn resync_state_effects(&mut self, v: VolumeIndex, os: StateWord, ns: StateWord) {
        let paused = |conn| matches!(conn, Conn::PausedSyncS | Conn::PausedSyncT);
        let syncing = |conn| matches!(conn, Conn::SyncSource | Conn::SyncTarget);
        let now = self.now;
        let end_of_empty = self.end_of_empty_resync();
        let announces_empty = self.connection.version.is_none_or(|version| version.announces_empty_resync());
        let resync = &mut self.volumes[v].resync;
        if paused(os.conn) && syncing(ns.conn) {
            if let Some(since) = resync.paused_since.take() {
                resync.paused_ms += now - since;
            }
            if ns.conn == Conn::SyncTarget {
                resync.next_turn = Some(now);
            } else if resync.total == 0 && resync.announced && !announces_empty {
                resync.next_turn = Some(now + end_of_empty);
            }
            self.info(Some(v), "Syncer continues.");
        } else if syncing(os.conn) && paused(ns.conn) {
            resync.paused_since = Some(now);
            self.info(Some(v), "Resync suspended");
        }
        if os.conn.is_verify() && ns.conn <= Conn::Connected {
            let bits = self.volumes[v].disk.as_ref().map_or(0, |disk| disk.bitmap.bits());
            let resync = &mut self.volumes[v].resync;
            resync.next_turn = None;
            resync.verify_start = 8 * bits.saturating_sub(resync.verify_left);
            if resync.verify_left > 0 {
                let text = format!("Online Verify reached sector {}", resync.verify_start);
                self.info(Some(v), text);
            } else {
                resync.verify_start = 0;
            }
        }
        if os.conn == Conn::Connected && ns.conn.is_verify() {
            self.verify_started(v, ns.conn);
        }
        if os.conn.is_resync() && !ns.conn.is_resync() {
            self.volumes[v].resync.next_turn = None;
            self.volumes[v].resynced = ns.conn >= Conn::Connected;
            if ns.disk <= Disk::Failed || (ns.conn == Conn::Connected && ns.pdsk <= Disk::Failed) {
                // A disk went: what was requested will not be answered.
                self.stop_resync(v);
            }
        }
    }

    /// A10 may go on: the state is still the one in which the bitmap is to be sent.
    pub(super) fn may_send_bitmap(&self, v: VolumeIndex) -> bool {
        self.state(v).conn == Conn::WFBitMapS
    }

    /// Starts a resync on this side. spec/resync.md 4.2: the handler first.
    pub(super) fn start_resync(&mut self, v: VolumeIndex, side: Conn) {
        let conn = self.state(v).conn;
        if conn >= Conn::SyncSource && conn < Conn::Ahead {
            self.error(Some(v), "Resync already running!");
            return;
        }
        let handler =
            if side == Conn::SyncTarget { Handler::BeforeResyncTarget } else { Handler::BeforeResyncSource };
        if self.hold.is_none() {
            self.hold = Some(Hold::ResyncStart);
        }
        self.run_helper(Some(v), handler, HelperThen::StartResync { v, side });
    }

    /// The state in which a handler was called before a resync is over, or the disk has gone: what follows the handler must
    /// not begin the resync any more. A disk that went meanwhile may be back, and be negotiating. (The resync of new space waits in conn
    /// Connected, which such a disk does not change.)
    pub(super) fn forget_resync_start(&mut self, v: VolumeIndex) {
        let mut waited = false;
        for then in self.helpers.values_mut() {
            if matches!(then, HelperThen::StartResync { v: of, .. } if *of == v) {
                *then = HelperThen::Nothing;
                waited = true;
            }
        }
        waited |= self.volumes[v].start_waits.take().is_some();
        if waited {
            self.release_resync_start();
        }
    }

    fn release_resync_start(&mut self) {
        if self.hold == Some(Hold::ResyncStart) {
            self.hold = None;
        }
    }

    /// The handler ended: the resync begins.
    pub(super) fn resync_handler_done(&mut self, v: VolumeIndex, side: Conn, exit_status: i32) {
        let code = exit_status >> 8 & 0xff;
        let name = if side == Conn::SyncTarget { "before-resync-target" } else { "before-resync-source" };
        if code == 3 && side == Conn::SyncSource {
            self.info(Some(v), format!("{name} handler returned {code}, ignoring. Old userland tools?"));
        } else if code > 0 {
            self.info(Some(v), format!("{name} handler returned {code}, dropping connection."));
            self.release_resync_start();
            let _ = self.change_connection(Change::conn(Conn::Disconnecting), ChangeKind::Hard, false);
            return;
        }
        self.volumes[v].start_waits = Some(side);
        self.start_unless_it_waits(v);
    }

    /// A resync whose handler has ended begins, unless an own request for a change of both nodes is not decided yet, or the peer has yet to be
    /// asked for a size: the resync of new space waits in conn Connected for its handler.
    pub(super) fn start_unless_it_waits(&mut self, v: VolumeIndex) {
        let Some(side) = self.volumes[v].start_waits else { return };
        if !self.waits_for_peer() && !self.leaves_peer_unasked(v, Change::conn(side)) {
            self.volumes[v].start_waits = None;
            self.begin_resync(v, side);
        }
    }

    /// An own request for a change of both nodes is decided: resyncs that have waited for that may start, or end. What the peer was
    /// asked for, and may have agreed to, must not fail because of them (spec/state.md 3.1, CLUSTER_ST_CHANGE).
    pub(super) fn resyncs_may_start(&mut self) {
        for v in self.volume_indices() {
            if std::mem::take(&mut self.volumes[v].grown_waits) {
                self.queue_steps([Step::ResyncGrown { v }]);
            }
            self.start_unless_it_waits(v);
            self.check_end(v);
        }
    }

    fn begin_resync(&mut self, v: VolumeIndex, side: Conn) {
        self.release_resync_start();
        let state = self.state(v);
        if state.conn < Conn::Connected || state.disk < Disk::Negotiating {
            return;
        }
        let change = match side {
            Conn::SyncTarget => Change::conn(side).and(Change::disk(Disk::Inconsistent)),
            _ => Change::conn(side).and(Change::pdsk(Disk::Inconsistent)),
        };
        let tells_of_more =
            side == Conn::SyncSource && state.conn == Conn::Connected && state.pdsk < Disk::UpToDate;
        if tells_of_more {
            // The resync of new space. What was written here while the peer's disk was not good only this node knows of, and no bitmaps
            // were exchanged: the peer gets this one in front of the sync UUID. (DRBD does without, and the peer's disk becomes UpToDate.)
            self.add_writes_to_bitmap(v, true);
            self.queue_steps([Step::SendBitmapOfSource { v }]);
        }
        if self.change(v, change, ChangeKind::Soft, true).is_err() {
            return;
        }
        // All bits are part of it.
        self.volumes[v].resync_after_negotiation = false;
        self.begin_counting(v);
        self.volumes[v].resync.target_tells = tells_of_more;
        self.volumes[v].resync.of_new_space = side == Conn::SyncSource && state.conn == Conn::Connected;
        if self.volumes[v].resynced {
            // Behind the news of the disk that came back: the peer sends nothing more for the one before.
            self.volumes[v].resync.late_answers = Some(self.request_ping());
        }
        let conn = self.state(v).conn;
        let bits = self.volumes[v].resync.total;
        self.log_line(Some(v), log_lines::began_resync(conn, bits));
        let announces_empty = self.connection.version.is_some_and(|version| version.announces_empty_resync());
        if !announces_empty && bits == 0 {
            // Nobody announces the end of an empty resync: both sides find it by themselves. A source waits, from then on when the
            // target has heard of it.
            self.volumes[v].resync.empty_wait =
                (side == Conn::SyncSource).then(|| self.end_of_empty_resync());
            self.volumes[v].resync.next_turn = (side == Conn::SyncTarget).then_some(self.now);
        }
        if side == Conn::SyncTarget {
            // The new UUIDs and Inconsistent are durable before a block may change.
            self.hold = Some(Hold::TargetReady { v });
            // So is the bitmap: what is written from now on may be lost in the disk's cache.
            if mutant!("target-not-marked-first") {
                self.hold = None;
                return self.target_ready(v);
            }
            self.queue_steps([
                Step::WriteBitmap { v, all: false },
                Step::WriteSuperBlockIfDirty { v },
                Step::Receiver,
            ]);
        }
    }

    /// How long the target of an empty resync may take to end it. spec/resync.md 4.2 step 8.
    fn end_of_empty_resync(&self) -> Millis {
        let net = self.net.as_ref();
        net.map_or(0, |net| u64::from(net.ping_int) * 1000 + u64::from(net.ping_timeout) * 1000 / 9)
    }

    pub(super) fn begin_counting(&mut self, v: VolumeIndex) {
        let volume = &mut self.volumes[v];
        if let (true, Some(disk)) = (mutant!("last-bit-forgotten"), &mut volume.disk) {
            let last = disk.bitmap.bits() - 1;
            disk.bitmap.clear_bits(last, last);
        }
        let weight = volume.disk.as_ref().map_or(0, |disk| disk.bitmap.weight());
        let resync = &mut volume.resync;
        resync.total = weight;
        resync.failed = 0;
        resync.started = self.now;
        resync.paused_ms = 0;
        resync.paused_since = volume.state.is_sync_paused().then_some(self.now);
        resync.marks = [(weight, self.now); MARKS];
        resync.last_mark = 0;
        resync.kept = (weight, self.now);
        resync.same_checksum = 0;
        resync.used_checksums = false;
        resync.position = 0;
        resync.budget = 0;
        resync.outstanding.clear();
        resync.reserved.clear();
        resync.outstanding_blocks = 0;
        resync.replied.clear();
        resync.finishing = Finishing::No;
        resync.target_done = false;
        resync.target_failed = false;
        resync.target_began = false;
        resync.own_failed.clear();
        resync.added_behind_end = None;
        resync.announced = false;
        resync.empty_wait = None;
        resync.controller.reset();
        resync.last_application = volume.counters.application;
        volume.counters.rs_pending = 0;
        volume.resyncs += 1;
        volume.locks.clear();
    }

    /// Whether answers of an earlier resync may still come.
    pub(super) fn may_get_late_answers(&self, v: VolumeIndex) -> bool {
        self.volumes[v].resync.late_answers.is_some()
    }

    /// The ping with this number was answered.
    pub(super) fn late_answers_over(&mut self, v: VolumeIndex, answered: u64) {
        if self.volumes[v].resync.late_answers.take_if(|ping| *ping <= answered).is_some() {
            // Requests of the target wait, or this node's own.
            self.wake = true;
            self.request_blocks(v);
        }
    }

    /// The super block says Inconsistent: requests may go out.
    pub(super) fn target_ready(&mut self, v: VolumeIndex) {
        if self.state(v).conn == Conn::SyncTarget {
            self.volumes[v].resync.next_turn = Some(self.now);
        }
    }

    /// U7: a source's new bitmap UUID, durable before the target hears of it.
    pub(super) fn rotate_sync_uuid(&mut self, v: VolumeIndex) {
        let random = (self.random)();
        let peer = self.volumes[v].peer_uuids.map_or(0, |peer| peer.uuids.current);
        let Some(disk) = &mut self.volumes[v].disk else { return };
        let uuid = disk.uuids.start_as_source(random, peer);
        self.log_uuids(v, UuidEvent::SyncUuidOfSource);
        self.volumes[v].mark_dirty(self.now);
        self.steps.push_front(Step::SendSyncUuid { v, uuid });
        if !mutant!("sync-uuid-not-awaited") {
            self.steps.push_front(Step::WriteSuperBlock { v });
        }
    }

    /// U8: the sync UUID arrived, and this node waits for it.
    pub(super) fn take_sync_uuid(&mut self, v: VolumeIndex, uuid: u64) {
        let role = self.state(v).role;
        let Some(disk) = self.volumes[v].meta_disk() else {
            self.error(Some(v), "Ignoring SyncUUID packet!");
            return;
        };
        disk.uuids.start_as_target(uuid, role);
        self.volumes[v].lacks_new_space_only = false;
        // A Primary exposes the data of the source, also if it loses this disk before it has them.
        let peer = self.volumes[v].peer_uuids.filter(|_| role == Role::Primary);
        self.volumes[v].effective_uuid = peer.map_or(uuid, |peer| peer.uuids.current);
        self.volumes[v].mark_dirty(self.now);
        self.log_uuids(v, UuidEvent::SyncUuidOfTarget);
        self.start_resync(v, Conn::SyncTarget);
    }

    /// The sync UUID goes out: the target will know that it is one.
    pub(super) fn sync_uuid_sent(&mut self, v: VolumeIndex) {
        let now = self.now;
        let resync = &mut self.volumes[v].resync;
        resync.announced = true;
        if let Some(wait) = resync.empty_wait.take() {
            resync.next_turn = Some(now + wait);
        }
    }

    /// Stops everything about a resync: the link is gone.
    pub(super) fn stop_resync(&mut self, v: VolumeIndex) {
        let volume = &mut self.volumes[v];
        volume.locks.clear();
        volume.grown_waits = false;
        volume.resyncs += 1;
        volume.counters.rs_pending = 0;
        let (start, stop) = (volume.resync.verify_start, volume.resync.verify_stop);
        volume.resync = Resync { verify_start: start, verify_stop: stop, ..Resync::default() };
    }

    /// Timers of a volume.
    pub(super) fn resync_timers(&mut self, v: VolumeIndex) {
        let now = self.now;
        let due = |time: Option<Millis>| time.is_some_and(|time| time <= now);
        if due(self.volumes[v].resync.leave_ahead) {
            self.leave_ahead(v);
        }
        if !due(self.volumes[v].resync.next_turn) {
            return;
        }
        self.volumes[v].resync.next_turn = None;
        match self.state(v).conn {
            Conn::SyncTarget => self.target_turn(v),
            Conn::VerifyS => self.verify_turn(v),
            Conn::SyncSource => {
                // Of an empty resync, whose end nobody announces. It has none while it is paused.
                self.volumes[v].resync.target_done = true;
                self.check_end(v);
            }
            _ => {}
        }
    }

    /// Bits were cleared: progress marks, and perhaps the end.
    pub(super) fn bits_cleared(&mut self, v: VolumeIndex) {
        self.advance_marks(v);
        if self.state(v).conn.is_resync() {
            self.keep_progress(v);
            self.check_end(v);
        }
    }

    /// Writes the bits that were cleared, after every extent's worth of them: a resync that a crash interrupts goes on
    /// from there (spec/resync.md 1.4, but whole extents are not looked for).
    fn keep_progress(&mut self, v: VolumeIndex) {
        let now = self.now;
        let volume = &mut self.volumes[v];
        let left = volume.out_of_sync_bits();
        let (kept, at) = volume.resync.kept;
        if left + BITS_PER_RESYNC_EXTENT <= kept && now >= at + KEEP_MS {
            volume.resync.kept = (left, now);
            self.write_cleared_bits(v);
        }
    }

    pub(super) fn advance_marks(&mut self, v: VolumeIndex) {
        let now = self.now;
        let volume = &mut self.volumes[v];
        let left = volume.resync_left();
        let paused = volume.state.is_sync_paused();
        let resync = &mut volume.resync;
        let (mark_left, time) = resync.marks[resync.last_mark];
        if now >= time + MARK_MS && left != mark_left && !paused {
            resync.last_mark = (resync.last_mark + 1) % MARKS;
            resync.marks[resync.last_mark] = (left, now);
        }
    }

    /// Ends a resync when there is nothing left and the other side may know (spec/resync.md 8.1).
    pub(super) fn check_end(&mut self, v: VolumeIndex) {
        let volume = &self.volumes[v];
        let weight = volume.resync_weight();
        let resync = &volume.resync;
        let idle = resync.outstanding.is_empty() && volume.counters.rs_pending == 0;
        let source_decides = self.connection.version.is_some_and(|version| !version.has_out_of_sync());
        let over = match volume.state.conn {
            Conn::SyncTarget | Conn::PausedSyncT => idle,
            Conn::SyncSource | Conn::PausedSyncS => {
                // Whether the target lacks what failed, it tells: a write may have brought it.
                let decides =
                    source_decides && resync.total > 0 && !resync.target_tells && resync.failed == 0;
                resync.announced && (resync.target_done || decides)
            }
            _ => false,
        };
        if over
            && (weight <= resync.failed || self.nothing_clears_the_rest(v))
            && resync.finishing == Finishing::No
        {
            self.volumes[v].resync.finishing = Finishing::Ping;
            self.finish_behind_ping(v);
        }
    }

    /// The target of this source is done, and no write that it has is still to clear bits here: what is left
    /// is known to this node only. A read error of its own disk, say, that `on-io-error pass_on` survives.
    fn nothing_clears_the_rest(&self, v: VolumeIndex) -> bool {
        let volume = &self.volumes[v];
        volume.resync.target_done
            && volume.resync.target_began
            && volume.state.conn.is_sync_source()
            && !self.log.iter().any(|(_, request)| request.volume == v && request.set_in_sync)
    }

    /// The own disk of a source failed, and survived that (`on-io-error pass_on`).
    pub(super) fn note_own_failure(&mut self, v: VolumeIndex, sector: u64, sectors: u64) {
        self.volumes[v]
            .resync
            .own_failed
            .extend(sector / SECTORS_PER_BIT..(sector + sectors).div_ceil(SECTORS_PER_BIT));
    }

    /// The target of this source, which says that it is done, has all its blocks. What is left failed on the own disk: it is this one that is
    /// not good, as if it had failed before or after the resync. (For DRBD the source waits for ever; taken for Inconsistent, the target
    /// would miss what is written from now on, and be UpToDate for itself.)
    fn only_own_disk_failed(&self, v: VolumeIndex) -> bool {
        let volume = &self.volumes[v];
        let Some(disk) = &volume.disk else { return false };
        let own = volume.resync.own_failed.iter().filter(|bit| disk.bitmap.is_set(**bit)).count() as u64;
        volume.peer_told == Disk::UpToDate && volume.resync.failed == 0 && own == volume.resync_weight()
    }

    /// Source: whether the target's disk may be UpToDate, as far as this node can know.
    pub(super) fn target_may_be_good(&self, v: VolumeIndex) -> bool {
        let volume = &self.volumes[v];
        let resync = &volume.resync;
        if !resync.target_began && !matches!(volume.peer_told, Disk::Inconsistent | Disk::Outdated) {
            return true;
        }
        // It ends when a ping behind its last acknowledgement was answered: of the resync this node knows all then, but
        // not of what was written meanwhile.
        let open = self.log.iter().filter(|(_, r)| r.volume == v && r.is_write() && r.replicated);
        let written = open.map(|(_, request)| request.sectors().div_ceil(8) + 1).sum::<u64>();
        resync.target_done || volume.resync_left() <= written
    }

    /// Source: whether the target, if it lives, has no other data than this node's. It may not have heard of the resync yet.
    pub(super) fn target_is_old(&self, v: VolumeIndex) -> bool {
        let agreed = self.volumes[v].target_agreed && !self.volumes[v].resync.target_began;
        agreed || self.state(v).conn.is_sync_source() && !self.target_may_be_good(v)
    }

    /// The target says that it is UpToDate. An empty resync, in which it asks for nothing, it has been through if it was not before: what is marked
    /// since is known to this node only.
    pub(super) fn note_end_of_empty_resync(&mut self, v: VolumeIndex, told_before: Disk) {
        let resync = &mut self.volumes[v].resync;
        let was_old = matches!(told_before, Disk::Inconsistent | Disk::Outdated);
        resync.target_began |= resync.total == 0 && resync.announced && was_old;
    }

    /// The target announced its end (spec/state.md 9.4 step 3b).
    pub(super) fn target_announced_end(&mut self, v: VolumeIndex) {
        self.volumes[v].resync.target_done = true;
        self.check_end(v);
    }

    /// The ping that orders the end was answered. spec/resync.md 8.2.
    pub(super) fn resync_finished(&mut self, v: VolumeIndex) {
        self.volumes[v].resync.finishing = Finishing::No;
        let state = self.state(v);
        let verify = state.conn.is_verify();
        if !(state.conn.is_resync() || verify) {
            return;
        }
        if state.conn.is_sync_target() && self.asks_to_detach(v) {
            // The peer may have agreed: then it goes on in a generation that lacks this disk, which it may have told already. The end
            // goes on if it refuses. (DRBD takes these UUIDs for those of its own data.)
            return;
        }
        if state.conn.is_sync_source() {
            let volume = &mut self.volumes[v];
            if volume.resync.failed > 0 && !volume.resync.target_done {
                // It failed when the ping was on its way.
                return;
            }
            if volume.resync.target_done && volume.peer_told == Disk::UpToDate {
                // What could not be read here for the target a write has brought. (For DRBD it has failed: the target would miss what is
                // written from now on, and be UpToDate for itself.)
                volume.resync.failed = 0;
            }
        }
        let mut own_disk = Disk::UpToDate;
        let weight = self.volumes[v].resync_weight();
        if !verify && weight > self.volumes[v].resync.failed {
            if !self.nothing_clears_the_rest(v) {
                // Bits were set since: not the end yet.
                return;
            }
            // The ping was answered behind all acknowledgements of the target. Nobody will ask for these
            // blocks: without this the source would wait for ever.
            if self.only_own_disk_failed(v) {
                own_disk = Disk::Inconsistent;
            } else {
                self.volumes[v].resync.failed = weight;
            }
        }
        self.log_resync_done(v, verify);
        let failed = self.volumes[v].resync.failed;
        let target = state.conn.is_sync_target();
        let mut change = Change::conn(Conn::Connected);
        if !verify {
            let failed = if mutant!("failed-blocks-forgotten") { 0 } else { failed };
            // New space, brought to a disk that was not good, does not make it good, unless the source has told what else it lacks. (DRBD
            // takes it for good.)
            let volume = &self.volumes[v];
            let lacks_more = if target { volume.bitmap_lacks_peers } else { volume.resync.target_failed };
            let (disk, pdsk) = match (failed > 0 || lacks_more, target) {
                (false, _) => (own_disk, Disk::UpToDate),
                (true, true) => (Disk::Inconsistent, Disk::UpToDate),
                (true, false) => (Disk::UpToDate, Disk::Inconsistent),
            };
            change = change.and(Change::disk(disk)).and(Change::pdsk(pdsk));
            if failed > 0 {
                self.info(Some(v), format!("            {failed} failed blocks"));
            } else if !lacks_more {
                self.finish_uuids(v, target);
            }
        }
        let found = verify && self.volumes[v].out_of_sync_bits() > 0;
        let _ = self.change(v, change, ChangeKind::Soft, true);
        if !target && !verify && self.state(v).pdsk == Disk::UpToDate {
            // Its word of that may be behind an order to begin another resync, of which it need not have heard when the link is lost.
            self.volumes[v].peer_told = Disk::UpToDate;
        }
        let (start, stop) = (self.volumes[v].resync.verify_start, self.volumes[v].resync.verify_stop);
        self.volumes[v].resync = Resync { verify_start: start, verify_stop: stop, ..Resync::default() };
        // Before 96 a source ends on its own count, and may be reading a block for the target, whose bit a write has cleared: the next
        // write goes behind that, or the target would get the old block last.
        self.volumes[v].locks.retain(|owner| owner & LOCK_OF_PEER != 0);
        // A source that ends on its own count may have blocks under way that the application wrote, too.
        self.volumes[v].counters.rs_pending = 0;
        self.wake = true;
        if std::mem::take(&mut self.volumes[v].grown_waits) {
            self.queue_steps([Step::ResyncGrown { v }]);
        }
        // Behind the super block: after-resync-target may throw away a snapshot of the data from before.
        if target {
            self.queue_steps([Step::StartHelper { v, name: Handler::AfterResyncTarget }]);
        } else if found {
            self.queue_steps([Step::StartHelper { v, name: Handler::OutOfSync }]);
        }
        // What fence-peer has done is undone when nothing of the peer is old any more.
        let fenced = state.conn == Conn::SyncSource && self.fencing(v) != Fencing::DontCare;
        let all_good =
            |volume: &Volume| (volume.state.disk, volume.state.pdsk) == (Disk::UpToDate, Disk::UpToDate);
        if fenced && self.volumes().all(|(_, volume)| all_good(volume)) {
            self.run_helper(Some(v), Handler::UnfencePeer, HelperThen::Nothing);
        }
    }

    fn log_resync_done(&mut self, v: VolumeIndex, verify: bool) {
        let resync = &self.volumes[v].resync;
        let seconds = (self.now.saturating_sub(resync.started + resync.paused_ms) / 1000).max(1);
        let paused = resync.paused_ms / 1000;
        let done = if verify { resync.total - resync.verify_left.min(resync.total) } else { resync.total };
        let line = log_lines::resync_done(verify, seconds + paused, paused, 4 * (done / seconds));
        let (same, total, used) = (resync.same_checksum, resync.total, resync.used_checksums);
        self.log_line(Some(v), line);
        if used && total > 0 && !verify {
            let ratio = if total < 100_000 { 100 * same / total } else { same / (total / 100) };
            let text = format!(
                "{ratio} % had equal checksums, eliminated: {}K; transferred {}K total {}K",
                4 * same,
                4 * (total - same.min(total)),
                4 * total
            );
            self.info(Some(v), text);
        }
        let weight = self.volumes[v].out_of_sync_bits();
        if verify && weight > 0 {
            self.log_line(Some(v), log_lines::verify_found(weight));
        }
    }

    /// U9.
    fn finish_uuids(&mut self, v: VolumeIndex, target: bool) {
        let volume = &mut self.volumes[v];
        let role = volume.state.role;
        let peer = volume.peer_uuids.map(|peer| peer.uuids);
        let Some(disk) = &mut volume.disk else { return };
        match (target, peer) {
            (true, Some(peer)) => disk.uuids.finish_as_target(peer, role),
            (true, None) => {
                self.error(Some(v), "p_uuid is NULL! BUG");
                return;
            }
            (false, _) => disk.uuids.finish_as_source(),
        }
        let own = disk.uuids;
        volume.effective_uuid = own.current;
        if let Some(peer) = &mut volume.peer_uuids {
            peer.uuids = own;
        }
        volume.mark_dirty(self.now);
        self.log_uuids(v, UuidEvent::Updated);
    }

    /// Both sides of an invalidate: the bits are set and written.
    pub(super) fn started_full_sync(&mut self, v: VolumeIndex) {
        match self.state(v).conn {
            Conn::StartingSyncT => {
                let _ = self.change(v, Change::conn(Conn::WFSyncUUID), ChangeKind::Soft, true);
            }
            Conn::StartingSyncS => self.start_resync(v, Conn::SyncSource),
            _ => {}
        }
    }

    /// What an online grow added is resynced.
    pub(super) fn resync_grown(&mut self, v: VolumeIndex) {
        self.volumes[v].resync_after_negotiation = false;
        let state = self.state(v);
        let ends = self.volumes[v].resync.added_behind_end.is_some();
        if state.conn != Conn::Connected && !ends {
            return;
        }
        if ends || self.waits_for_peer() {
            self.volumes[v].grown_waits = true;
            return;
        }
        self.info(Some(v), size::GROWN_AREA);
        if size::grown_area_source(state, self.is_arbiter()) {
            self.start_resync(v, Conn::SyncSource);
        } else {
            self.await_new_space(v, Change::conn(Conn::WFSyncUUID));
        }
    }

    /// This node is the target of the resync of new space, and waits for the sync UUID. `change`: to WFSyncUUID.
    fn await_new_space(&mut self, v: VolumeIndex, change: Change) {
        let good = self.state(v).disk == Disk::UpToDate;
        let _ = self.change(v, change, ChangeKind::Soft, true);
        let begins = self.state(v).conn == Conn::WFSyncUUID;
        self.volumes[v].lacks_new_space_only = begins && good;
        self.volumes[v].gets_new_space_only = begins;
    }

    /// The peer has begun the resync of new space as its source, and so has this node: a word of the peer's from before it was promoted has come
    /// behind its question for that. Both know the roles by now, and one of the two becomes the target. True: this node has.
    /// (DRBD waits for ever.)
    pub(super) fn yield_new_space(&mut self, v: VolumeIndex) -> bool {
        let peer = self.volumes[v].peer_told_role;
        let state = StateWord { pdsk: self.state(v).disk, peer, ..self.state(v) };
        if size::grown_area_source(state, self.is_arbiter()) {
            return false;
        }
        self.warning(Some(v), "the peer is the source of new storage, too; this node becomes the target");
        let change = Change::conn(Conn::WFSyncUUID).and(Change::pdsk(Disk::UpToDate));
        self.await_new_space(v, Change { peer: Some(peer), ..change });
        self.state(v).conn == Conn::WFSyncUUID
    }

    /// Whether this node waits for the peer's sync UUID, or has it.
    pub(super) fn becomes_target(&self, v: VolumeIndex) -> bool {
        matches!(self.state(v).conn, Conn::WFSyncUUID | Conn::SyncTarget | Conn::PausedSyncT)
    }

    /// Whether both nodes may be the source of a resync: only of one of new space each decides for itself.
    pub(super) fn is_source_of_new_space(&self, v: VolumeIndex) -> bool {
        self.state(v).conn.is_sync_source() && self.volumes[v].resync.of_new_space
    }

    /// The link is free again: an Ahead node becomes the source.
    fn leave_ahead(&mut self, v: VolumeIndex) {
        self.volumes[v].resync.leave_ahead = None;
        if self.state(v).conn != Conn::Ahead {
            return;
        }
        let counters = self.volumes[v].counters;
        if counters.unacked > 0 || counters.rs_pending > 0 || self.hold.is_some() {
            self.warning(Some(v), "postponing start_resync ...");
            self.volumes[v].resync.leave_ahead = Some(self.now + TURN_MS);
        } else {
            self.start_resync(v, Conn::SyncSource);
        }
    }
}
