//! When a new generation of the data begins, and what happens to frozen requests then. spec/state.md 8.4
//! and 5.4.

use super::handshake_decision::HandshakeInput;
use super::rules::ChangeKind;
use super::state::{Change, Conn, Disk, Role, StateWord};
use super::steps::Step;
use super::types::*;
use super::uuid::{compare, without_role, UuidFlags, Uuids, Verdict};
use super::volume::LocalDisk;
use super::Resource;

impl Resource {
    /// Step 11: frozen I/O cannot go on with a peer whose data may be old. (DRBD goes on alone. But for the peer this handshake ended
    /// well: it takes its disk for good now, and is not fenced.)
    pub(super) fn abort_thaw(&mut self, v: VolumeIndex) {
        self.error(Some(v), "Aborting Connect, can not thaw IO with an only Consistent peer");
        self.meet_again_with_new_generation(v);
    }

    /// The same if I/O could go on, but not without what the peer may have lost with its cache meanwhile: no resync would follow.
    /// (DRBD takes a peer for one that never rebooted unless its disk is only Consistent, as it is with fencing.) A
    /// generation of its own before the connection was lost would have been a split brain if the peer took over.
    pub(super) fn abort_without_resync(&mut self, v: VolumeIndex) {
        self.log_needed_resync(v);
        self.meet_again_with_new_generation(v);
    }

    fn log_needed_resync(&mut self, v: VolumeIndex) {
        self.info(
            Some(v),
            "Aborting Connect, a resync must bring what the peer may have lost with its cache",
        );
    }

    /// A frozen Primary was the target of a resync, which its source has missed the end of: for both the peer is to be the source
    /// again, which a Primary refuses, and the two would stay apart. If the peer has no bits, or says that they are those of the resync, it
    /// has not written anything since: this node has all, and is the source in the generation that it owes. (DRBD gives the connection up
    /// for good, and does not say so of its bits.)
    pub(super) fn is_ahead_of_its_source(&self, v: VolumeIndex, input: &HandshakeInput) -> bool {
        let state = self.state(v);
        let same = without_role(input.own.current) == without_role(input.peer.uuids.current);
        let began = compare(&input.own, &input.peer, &input.context).rule == 37;
        let peer_wrote = if began {
            // Its bits are those of the full sync that a command of this node asked for, which never heard of that.
            input.peer.flags.contains(UuidFlags::CRASHED_PRIMARY)
        } else {
            // Also if it crashed since; where it crashed before the resync it keeps the mark until it has heard of the end.
            input.peer.bits > 0 && !input.peer.flags.contains(UuidFlags::UNHEARD_END)
        };
        let volume = &self.volumes[v];
        let has_all = match state.disk {
            Disk::UpToDate => volume.new_current_uuid_owed,
            // Attached alone, where fencing asks for that: nothing could be written since, and no generation is owed yet.
            Disk::Consistent => !volume.wrote_without_disk,
            _ => false,
        };
        state.is_susp() && has_all && same && !peer_wrote && !input.context.peer_primary
    }

    /// A node was demoted while frozen, and the other one of two Primaries has crashed: that would be the source, though it may have lost with its
    /// cache what it acknowledged here. It has begun no generation, so that it has not gone on: this node has all that is acknowledged, and is the
    /// source in the generation that it owes. (DRBD lets these writes go.)
    pub(super) fn has_what_its_source_may_have_lost(&self, v: VolumeIndex, input: &HandshakeInput) -> bool {
        let state = self.state(v);
        let decision = compare(&input.own, &input.peer, &input.context);
        let peer_crashed = decision.rule == 40 && decision.verdict == Verdict::Target { full: false };
        let frozen = state.is_susp() && self.volumes[v].new_current_uuid_owed && state.conn < Conn::Connected;
        let lacks = self.has_uncertain_writes(v) || self.has_writes_for_this_disk_only(v);
        state.role == Role::Secondary && frozen && peer_crashed && lacks && !input.dry_run
    }

    /// What [`has_what_its_source_may_have_lost`](Self::has_what_its_source_may_have_lost) says leads to another handshake. Who has crashed, too,
    /// would not be sure to be the source.
    pub(super) fn abort_behind_crashed_peer(&mut self, v: VolumeIndex) {
        self.log_needed_resync(v);
        self.begin_owed_generation(v);
        self.lose_link(LinkFailure { conn: Conn::ProtocolError, log: None });
    }

    /// What [`is_ahead_of_its_source`](Self::is_ahead_of_its_source) says leads to another handshake.
    pub(super) fn abort_as_target(&mut self, v: VolumeIndex) {
        self.info(Some(v), "Aborting Connect, the peer missed the end of the resync");
        self.volumes[v].new_current_uuid_owed = true;
        self.meet_again_with_new_generation(v);
    }

    /// The peer may have lost writes with its cache, which a node that was demoted since knows of: they come with the resync of a Primary that
    /// crashed, also after a crash.
    pub(super) fn count_as_crashed(&mut self, v: VolumeIndex) {
        self.volumes[v].crashed_primary = true;
        self.refresh_meta_flags(v);
    }

    /// I/O stays frozen until the next handshake.
    fn meet_again_with_new_generation(&mut self, v: VolumeIndex) {
        if self.state(v).role == Role::Secondary {
            // It was demoted while frozen, and has nothing to write in a generation. The peer may take over before the two meet: with one that
            // is only offered it would find a split brain. Who crashed as Primary is the source of the same resync, or the target then.
            self.count_as_crashed(v);
        } else {
            let offered = (self.random)();
            self.volumes[v].offered_generation.get_or_insert(offered);
            if !self.offers_generation(v) {
                self.begin_owed_generation(v);
            }
        }
        self.lose_link(LinkFailure { conn: Conn::ProtocolError, log: None });
    }

    /// Whether the peer is told of the generation that this node owes. A node that has been demoted since offers none: see
    /// [`meet_again_with_new_generation`](Self::meet_again_with_new_generation).
    pub(super) fn offers_generation(&self, v: VolumeIndex) -> bool {
        let volume = &self.volumes[v];
        // Beside a target that may have come to its end the slots are not that simple.
        let simple = |disk: &LocalDisk| disk.uuids.bitmap == 0 && disk.unheard_target.is_none();
        volume.state.role == Role::Primary
            && volume.offered_generation.is_some()
            && (volume.new_current_uuid_owed || self.brings_back_disk(v))
            && volume.disk.as_ref().is_some_and(simple)
    }

    /// Whether the disk that this Primary attaches has all that its application was told of, and the peer's, which went too, no more, but what was under
    /// way then: see [`lost_both_disks`](super::volume::Volume::lost_both_disks). With equal generations no resync would follow. (DRBD leaves the two
    /// disks different.)
    fn brings_back_disk(&self, v: VolumeIndex) -> bool {
        let volume = &self.volumes[v];
        let in_use = volume
            .disk
            .as_ref()
            .is_some_and(|disk| without_role(disk.uuids.current) == without_role(volume.effective_uuid));
        volume.lost_both_disks
            && volume.state.disk == Disk::Negotiating
            && in_use
            && !volume.wrote_without_disk
    }

    /// The UUIDs of this node's disk, as the peer hears of them.
    pub(super) fn told_uuids(&self, v: VolumeIndex) -> Option<Uuids> {
        let volume = &self.volumes[v];
        let mut uuids = volume.disk.as_ref()?.uuids;
        if let Some(offered) = volume.offered_generation.filter(|_| self.offers_generation(v)) {
            let _ = uuids.new_current(offered, volume.state.role);
        }
        Some(uuids)
    }

    /// A diskless Primary's data, or frozen requests: what a change of state thaws (A6, A7).
    ///
    /// The link may have been lost again while this waited for the disk: then nothing goes on with the peer, and what was owed is owed still.
    /// (8.3 goes by the change alone: I/O goes on behind fencing's back.)
    /// `newest`: the newest request of then. An administrator may have let I/O go on since: what came behind it is with the peer.
    pub(super) fn thaw(&mut self, v: VolumeIndex, os: StateWord, ns: StateWord, newest: u64) {
        let now = self.state(v);
        let meets = os.conn < Conn::Connected && ns.conn >= Conn::Connected;
        let is_lost = ns.conn >= Conn::Connected && now.conn < Conn::Connected;
        let connected = meets && !is_lost;
        if connected {
            // Of a Secondary nothing is frozen any more. If its disk is Outdated, what the peer has may be newer, and is no other way.
            let is_old = ns.role == Role::Secondary && ns.disk < Disk::UpToDate;
            let lacks_writes = ns.conn == Conn::WFBitMapS && ns.role == Role::Primary;
            if ns.pdsk < Disk::Inconsistent && !is_old || lacks_writes {
                // It comes without its disk, or is the target of a resync after its crash: it lacks what completes from now on. With equal
                // generations the crash would make it the source if this node is demoted, or crashes too, before that resync has begun.
                // (DRBD forgets the generation here, too.)
                self.begin_owed_generation(v);
            }
            // Also what an admin froze: nobody else would ever send it again, and the peer has all
            // that was completed, so that no new generation is due.
            self.volumes[v].new_current_uuid_owed = false;
            self.volumes[v].offered_generation = None;
            if ns.conn == Conn::WFBitMapS {
                self.leave_peer_out(v);
            } else {
                if ns.conn == Conn::Connected && ns.disk == Disk::UpToDate {
                    self.write_what_own_disk_lacks(v, ns.peer == Role::Primary);
                }
                self.resend_transfer_log(v, newest, ns.conn == Conn::WFBitMapT, ns.peer == Role::Primary);
            }
        }
        if ns.susp_nod {
            // Where fencing asks for it, one that was attached alone is only Consistent until the nodes meet.
            let was_away = matches!(os.disk, Disk::Attaching | Disk::Negotiating)
                || meets && os.disk == Disk::Consistent;
            let attached = was_away && ns.disk == Disk::UpToDate;
            if attached && is_lost {
                self.write_what_own_disk_lacks(v, ns.peer == Role::Primary);
            }
            if attached && (ns.conn < Conn::Connected || is_lost) && !now.susp_fen {
                // Nobody will send them again. What completes now is on this disk only.
                self.begin_owed_generation(v);
                self.leave_peer_out(v);
            }
            // The peer's disk came back over the same link. (DRBD leaves the node frozen until an admin resumes it.)
            let served = os.conn >= Conn::Connected
                && os.pdsk < Disk::UpToDate
                && ns.pdsk == Disk::UpToDate
                && !is_lost;
            if attached || served {
                self.restart_disk_io(v);
            }
            if connected || attached || served {
                let _ = self.change(v, Change::susp_nod(false), ChangeKind::Hard, false);
                self.complete_ready();
            }
        }
        if ns.susp_fen {
            if connected {
                let _ = self.change(v, Change::susp_fen(false), ChangeKind::Hard, false);
                self.complete_ready();
            } else if !goes_on_without_peer(os) && goes_on_without_peer(ns) {
                self.begin_owed_generation(v);
                self.clear_transfer_log();
                let _ = self.change(v, Change::susp_fen(false), ChangeKind::Hard, false);
            }
        }
        self.wake = true;
    }

    /// A11, A12: what the state change asked for, if it still holds (U4, U5).
    pub(super) fn new_current_uuid_after_loss(&mut self, v: VolumeIndex) {
        let state = self.state(v);
        let shared = self.volumes[v].shares_generation();
        if !shared || self.is_left_by_peer(v) {
            // It may have begun a moment ago only, when frozen I/O was let go on.
            self.steps.push_front(Step::NewCurrentUuidDone { v });
            self.steps.push_front(Step::WriteSuperBlockIfDirty { v });
        } else if state.is_susp()
            && state.conn < Conn::Connected
            && !self.has_completed_writes_that_peer_lacks(v)
        {
            // Nothing that the peer lacks has completed, nor does until I/O goes on, and a peer that comes back gets it
            // then. Not so while it stays connected: it lost its disk, and frozen writes that it refused are not
            // sent again when it has attached one.
            self.volumes[v].new_current_uuid_owed = true;
            self.steps.push_front(Step::NewCurrentUuidDone { v });
        } else {
            self.new_current_uuid(v);
            if state.conn >= Conn::Connected {
                self.steps.push_front(Step::SendGeneration { v });
            }
            self.steps.push_front(Step::NewCurrentUuidDone { v });
            self.steps.push_front(Step::WriteSuperBlock { v });
            if let Some(flush) = self.flush_of_lost_primary(v) {
                self.steps.push_front(flush);
            }
        }
    }

    /// A Primary that goes on without the other one has what that may have had flushed, before it says that its data are the newer ones.
    fn flush_of_lost_primary(&self, v: VolumeIndex) -> Option<Step> {
        let state = self.state(v);
        let lost = state.role == Role::Primary && state.conn < Conn::Connected;
        (lost && self.holds_unflushed_writes_of_peer(v)).then_some(Step::FlushData { v })
    }

    /// A12: the generation of what a Primary without a disk writes here. If the link is lost before it begins, nothing has been written
    /// in it, and the Primary may go on with the disk that it had. (DRBD begins it: then there are two, and a split brain.)
    pub(super) fn new_current_uuid_for_peer(&mut self, v: VolumeIndex) {
        let state = self.state(v);
        if state.conn < Conn::Connected && state.role == Role::Secondary {
            self.steps.push_front(Step::NewCurrentUuidDone { v });
        } else {
            self.new_current_uuid_after_loss(v);
        }
    }

    /// The peer, which this node let become Primary, is: U5. (DRBD begins the generation when it is asked: if the promotion fails then,
    /// nobody has written in it, and the disk that the peer attaches later looks as if it had gone another way.)
    pub(super) fn peer_without_disk_is_primary(&mut self, v: VolumeIndex) {
        if std::mem::take(&mut self.volumes[v].promotion_unheard) {
            self.volumes[v].uuid_hold = true;
            self.queue_steps([Step::NewCurrentUuidForPeer { v }]);
        }
    }

    /// Whether the Primary has begun a generation after this node's: it let this node detach, which has not heard that it may, and
    /// goes on alone. Nothing is to begin with these data, also if that Primary has no disk any more.
    fn is_left_by_peer(&self, v: VolumeIndex) -> bool {
        let volume = &self.volumes[v];
        let (Some(disk), Some(peer)) = (&volume.disk, volume.peer_uuids) else { return false };
        let own = without_role(disk.uuids.current);
        volume.state.peer == Role::Primary
            && volume.state.conn >= Conn::Connected
            && without_role(peer.uuids.current) != own
            && without_role(peer.uuids.bitmap) == own
    }

    /// The new data generation that was due when I/O was frozen, if one was: I/O goes on. No write that
    /// the peer lacks completes before it is durable.
    pub(super) fn begin_owed_generation(&mut self, v: VolumeIndex) {
        let owed = self.brings_back_disk(v) | std::mem::take(&mut self.volumes[v].new_current_uuid_owed);
        // A disk that was attached since may have its BITMAP UUID already.
        let shared = self.volumes[v].shares_generation();
        // With a disk that has failed nothing is written in it, and the peer may take over with the one before.
        if !owed || !shared || self.state(v).disk <= Disk::Failed {
            return;
        }
        self.volumes[v].uuid_hold = true;
        self.new_current_uuid(v);
        let flush = self.flush_of_lost_primary(v);
        self.queue_steps(
            flush.into_iter().chain([Step::WriteSuperBlock { v }, Step::NewCurrentUuidDone { v }]),
        );
        if self.state(v).conn >= Conn::Connected {
            self.queue_steps([Step::SendUuids { v }]);
        }
    }

    /// An administrator lets frozen I/O go on. A Primary that was demoted meanwhile has nothing to write in the generation that is due, and
    /// its peer may have taken over: the two would be a split brain. What the peer may lack comes as after a crash of this node, as where the
    /// two meet before that ([`meet_again_with_new_generation`](Self::meet_again_with_new_generation)). (DRBD begins the generation.)
    pub(super) fn settle_owed_generation(&mut self, v: VolumeIndex) {
        let state = self.state(v);
        let was_demoted = state.role == Role::Secondary && state.conn < Conn::Connected;
        if !was_demoted || self.volumes[v].peer_was_primary || self.has_open_writes(v) {
            return self.begin_owed_generation(v);
        }
        let owed = std::mem::take(&mut self.volumes[v].new_current_uuid_owed);
        if owed && self.has_completed_writes_in_open_epochs(v, u64::MAX) {
            self.count_as_crashed(v);
            self.queue_steps([Step::WriteSuperBlockIfDirty { v }]);
        }
    }

    /// A new data generation, in memory; the caller sees to it that it gets to the disk.
    pub(super) fn new_current_uuid(&mut self, v: VolumeIndex) {
        let random = (self.random)();
        let random = self.volumes[v].offered_generation.take().unwrap_or(random);
        let role = self.state(v).role;
        let Some(disk) = &mut self.volumes[v].disk else { return };
        disk.lacked_by_peer = false;
        let lost = match disk.unheard_target.take() {
            Some(target) if disk.uuids.bitmap != 0 => {
                disk.uuids.new_current_beside_target(random, role, target);
                None
            }
            _ => disk.uuids.new_current(random, role),
        };
        let current = disk.uuids.current;
        if let Some(lost) = lost {
            self.log_line(Some(v), super::log_lines::bitmap_uuid_was_set(lost));
        }
        self.volumes[v].effective_uuid = current;
        // Frozen I/O that goes on goes into this one: a promotion may have begun it since it was due.
        self.volumes[v].new_current_uuid_owed = false;
        self.log_uuids(v, super::log_lines::UuidEvent::NewCurrent);
        self.volumes[v].mark_dirty(self.now);
    }

    /// U11: the peer says that the empty disks are equal.
    pub(super) fn skip_initial_sync(&mut self, v: VolumeIndex, peer_current: u64) {
        self.info(Some(v), "Accepted new current UUID, preparing to skip initial sync");
        let role = self.state(v).role;
        if let Some(disk) = &mut self.volumes[v].disk {
            disk.bitmap.clear_all();
            disk.uuids.skip_initial_sync(peer_current, role);
        }
        self.volumes[v].effective_uuid = peer_current;
        self.volumes[v].mark_dirty(self.now);
        let change = Change::disk(Disk::UpToDate).and(Change::pdsk(Disk::UpToDate));
        self.queue_steps([Step::WriteBitmap { v, all: true }]);
        let _ = self.change(v, change, ChangeKind::Hard, true);
        self.log_uuids(v, super::log_lines::UuidEvent::ReceiverUpdated);
        // A state word from before may still be on its way, and the peer would go by that.
        self.queue_steps([Step::SendState { v, word: self.state(v) }]);
    }
}

/// Whether what fencing has frozen may go on: the peer is fenced. Not at a node that was demoted, and has been outdated since, which the peer may
/// have done for to go on itself, whatever became of it then: nobody uses these data, and the generation of one who is fenced would be
/// another way. (DRBD begins it.)
fn goes_on_without_peer(s: StateWord) -> bool {
    let gave_way = s.role == Role::Secondary && matches!(s.disk, Disk::Inconsistent | Disk::Outdated);
    s.pdsk <= Disk::Outdated && !gave_way
}
