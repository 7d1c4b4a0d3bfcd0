//! What a change of state says about a volume that its word does not tell: noted when it is committed, before anything else can happen.
//! spec/state.md 5.1.

use super::metadata_flags::has_primary_mark;
use super::state::{Conn, Disk, Role, StateWord};
use super::types::*;
use super::{continuation, uuid, Resource};

/// A Primary without a disk connects to the data of this node. Whether it takes them, or hangs up
/// because they are not those that it has lost, is known when its own state says Connected: only then
/// they are a new generation.
fn diskless_primary_connects(os: StateWord, ns: StateWord) -> bool {
    os.conn < Conn::Connected
        && ns.conn >= Conn::Connected
        && ns.peer == Role::Primary
        && ns.pdsk <= Disk::Failed
        && ns.disk >= Disk::Inconsistent
}

impl Resource {
    /// Before the change: whether a Primary goes by the data of this disk. What `served_primary` and `peer_was_primary` say outlives the link.
    pub(super) fn note_use(&mut self, v: VolumeIndex, os: StateWord) -> bool {
        if os.conn >= Conn::Connected {
            self.volumes[v].served_primary = self.serves_primary(v);
            self.volumes[v].peer_was_primary = os.peer == Role::Primary;
        }
        self.is_in_use(v)
    }

    /// Which resync is still to be considered, or was agreed to by whom.
    pub(super) fn note_resync(&mut self, v: VolumeIndex, os: StateWord, ns: StateWord) {
        if ns.conn == Conn::StartingSyncT {
            self.volumes[v].invalidating = true;
        } else if ns.conn.is_sync_target() || !matches!(ns.disk, Disk::Inconsistent | Disk::Outdated) {
            self.volumes[v].invalidating = false;
        }
        self.volumes[v].lacks_new_space_only &= ns.conn == Conn::WFSyncUUID;
        self.volumes[v].gets_new_space_only &= ns.conn == Conn::WFSyncUUID || ns.conn.is_sync_target();
        if ns.conn > Conn::Connected {
            // A full sync was agreed to meanwhile, or is the result: there is no other one to consider.
            self.volumes[v].consider_resync = false;
        }
        let both_inconsistent = os.disk == Disk::Inconsistent && os.pdsk == Disk::Inconsistent;
        if both_inconsistent && os.peer == Role::Secondary && ns.peer == Role::Primary {
            self.volumes[v].consider_resync = true;
        }
        self.volumes[v].target_agreed = match ns.conn {
            Conn::StartingSyncS if os.conn != ns.conn => !self.commits_for_peer,
            Conn::StartingSyncS | Conn::SyncSource | Conn::PausedSyncS => self.volumes[v].target_agreed,
            _ => false,
        };
    }

    /// What the bitmap is about to be used for, and whether it has the peer's bits.
    pub(super) fn note_bitmap(&mut self, v: VolumeIndex, os: StateWord, ns: StateWord) {
        if os.conn != ns.conn && matches!(ns.conn, Conn::WFBitMapS | Conn::WFBitMapT) {
            self.writes_come_too_late_for_sync(v);
        }
        if os.conn != ns.conn && ns.conn == Conn::WFBitMapS {
            // A write that was let in before the fifo comes to the bitmap would be announced behind it, and the bitmap waits for its end.
            self.volumes[v].bitmap_io = true;
        }
        let has_bits = ns.conn.is_sync_target() && !self.volumes[v].gets_new_space_only;
        if ns.conn == Conn::WFBitMapT {
            self.volumes[v].bitmap_lacks_peers = true;
        } else if has_bits || ns.disk == Disk::UpToDate || ns.disk == Disk::Diskless {
            self.volumes[v].bitmap_lacks_peers = false;
        } else if ns.conn == Conn::Connected && ns.disk == Disk::Inconsistent && ns.peer == Role::Primary {
            // Without a resync it mirrors nothing to such a disk, nor says what it writes (spec/wire.md 7.1 step 5).
            self.volumes[v].bitmap_lacks_peers = true;
        }
    }

    /// What the peer's disk still owes, or is owed.
    pub(super) fn note_peer_disk(&mut self, v: VolumeIndex, os: StateWord, ns: StateWord) {
        if os.pdsk >= Disk::Inconsistent && ns.pdsk <= Disk::Failed {
            self.peer_disk_went(v);
        }
        self.note_lost_disks(v, os, ns);
        let unanswered = os.disk == Disk::Negotiating && self.volumes[v].peer_uuids.is_none();
        if ns.conn < Conn::Connected || ns.pdsk < Disk::Inconsistent {
            // Without a disk the peer sends no UUIDs, and those from before came before that news.
            self.volumes[v].late_answers = 0;
        } else if unanswered && ns.disk < Disk::Negotiating {
            self.volumes[v].late_answers += 1;
        }
        let lets_go = os.pdsk > Disk::Failed && ns.pdsk == Disk::Failed && self.commits_for_peer;
        let no_resync = ns.conn == Conn::Connected && ns.disk > Disk::Negotiating;
        self.volumes[v].peer_disk_let_go = no_resync && (lets_go || self.volumes[v].peer_disk_let_go);
        let peer_is_good_again = os.pdsk < Disk::UpToDate && ns.pdsk == Disk::UpToDate;
        if let Some(disk) = self.volumes[v].disk.as_mut().filter(|_| peer_is_good_again) {
            disk.lacked_by_peer = false;
        }
    }

    /// Keeps [`lost_both_disks`](super::volume::Volume::lost_both_disks) up to date. Over this link the peer cannot have gone on without this node. One
    /// that is Primary, too, may have data that only its own disk has.
    fn note_lost_disks(&mut self, v: VolumeIndex, os: StateWord, ns: StateWord) {
        let went = os.pdsk == Disk::UpToDate && ns.pdsk < Disk::Inconsistent && os.disk < Disk::Inconsistent;
        let may_go_on = ns.role == Role::Primary && ns.peer == Role::Secondary && ns.conn >= Conn::Connected;
        let none = ns.disk < Disk::Inconsistent && ns.pdsk < Disk::Inconsistent;
        let lost = may_go_on && none && (went || self.volumes[v].lost_both_disks);
        if lost && self.volumes[v].offered_generation.is_none() {
            self.volumes[v].offered_generation = Some((self.random)());
        }
        self.volumes[v].lost_both_disks = lost;
    }

    /// What the own disk is worth, and what its super block may tell of it.
    pub(super) fn note_own_disk(&mut self, v: VolumeIndex, os: StateWord, ns: StateWord) {
        self.note_unheard_end(v, os, ns);
        let volume = &mut self.volumes[v];
        let left = ns.disk < Disk::Negotiating && ns.peer == Role::Primary && ns.pdsk == Disk::UpToDate;
        volume.disk_left_to_primary |= left && ns.conn >= Conn::Connected;
        volume.disk_left_to_primary &= ns.disk <= Disk::Negotiating;
        let beside_primary = os.role == Role::Primary && os.peer == Role::Primary;
        if let Some(disk) = volume.disk.as_mut().filter(|_| beside_primary && ns.conn < Conn::Connected) {
            // What this node wrote the other one may have had flushed, to a disk that does not count any more. (DRBD leaves it in the cache.)
            disk.peer_needs_flush = true;
        }
        volume.left_by_crash &= continuation::keeps_data(ns);
        volume.wrote_without_disk &= ns.disk != Disk::UpToDate;
        let alone = os.conn < Conn::Connected && ns.conn < Conn::Connected;
        let outdated = alone && os.disk > Disk::Outdated || volume.outdated_alone;
        volume.outdated_alone = outdated && ns.disk == Disk::Outdated && ns.conn <= Conn::Connected;
        self.hold_marks(v, os, ns);
        self.refresh_meta_flags(v);
    }

    /// Which generation readers and writers of this node go by: spec/state.md 8.6.
    pub(super) fn note_exposed_data(&mut self, v: VolumeIndex, os: StateWord, ns: StateWord) {
        let volume = &mut self.volumes[v];
        if os.disk < Disk::Consistent && ns.disk >= Disk::Consistent {
            if let Some(disk) = &volume.disk {
                volume.effective_uuid = disk.uuids.current;
            }
        }
        // Without a disk this node exposes the peer's data. So does a Primary that is the target of a resync, also if it was promoted
        // when that had begun, and loses the link before the disk.
        let exposes_peer =
            ns.disk < Disk::Inconsistent || ns.role == Role::Primary && ns.disk < Disk::UpToDate;
        // What a failed disk has begun a generation with, since the peer lacks it, stays the newest, also when the disk has gone: P_UUIDS tells if the
        // peer has another one.
        let exposed = os.disk < Disk::Inconsistent && os.conn >= Conn::Connected && os.pdsk == Disk::UpToDate;
        if exposes_peer && !exposed && ns.conn >= Conn::Connected && ns.pdsk == Disk::UpToDate {
            if let Some(peer) = volume.peer_uuids {
                volume.effective_uuid = peer.uuids.current;
            }
        }
    }

    /// Whether the change begins a data generation (spec/state.md 8.4), and what is to be heard of the peer before one begins.
    pub(super) fn note_generation(
        &mut self,
        v: VolumeIndex,
        os: StateWord,
        ns: StateWord,
        used: bool,
    ) -> bool {
        // The Primary asked whether it may detach; whether it does, its next state word tells. If the link
        // is lost before, both go on with the same data: this node, if it is Primary too, like any that lost its peer.
        let peer_detaches = self.commits_for_peer
            && ns.peer == Role::Primary
            && ns.conn >= Conn::Connected
            && uuid::lost_peer_data(os, ns, 0);
        if meets(os, ns) || ns.disk < Disk::UpToDate {
            self.volumes[v].served_primary = false;
        }
        let awaited_peer = self.volumes[v].generation_awaits_peer && ns.conn < Conn::Connected;
        if diskless_primary_connects(os, ns) || peer_detaches {
            self.volumes[v].generation_awaits_peer = true;
        } else if ns.conn < Conn::Connected {
            self.volumes[v].generation_awaits_peer = false;
        }
        let promoted = uuid::peer_became_diskless_primary(os, ns, 0);
        let stays = ns.peer == Role::Primary && ns.pdsk < Disk::Inconsistent && ns.disk >= Disk::UpToDate;
        let unheard = self.commits_for_peer && promoted || self.volumes[v].promotion_unheard && stays;
        self.volumes[v].promotion_unheard = unheard;
        self.volumes[v].attached_for_primary = uuid::attached_for_diskless_primary(os, ns)
            || self.volumes[v].attached_for_primary && stays && ns.conn >= Conn::Connected;
        self.note_lifted_disk(v, os, ns, used);
        // That of a promotion alone begins with its answer: not one that is only owed while I/O is suspended.
        let promoted_alone =
            os.role == Role::Secondary && ns.role == Role::Primary && ns.conn < Conn::Connected;
        let lost_data = uuid::lost_peer_data(os, ns, 0) && !promoted_alone;
        let lost_peer = lost_data && !self.volumes[v].generation_awaits_peer
            || awaited_peer && ns.role == Role::Primary && ns.disk >= Disk::UpToDate
            || uuid::primary_attached_alone(os, ns)
            || self.leaves_refused_writes(v, os, ns);
        let lost_peer = lost_peer && !mutant!("no-generation-at-loss");
        if lost_peer {
            // No write that the peer lacks completes before the new generation is durable.
            self.volumes[v].uuid_hold = self.volumes[v].disk.is_some();
        }
        lost_peer || promoted && !unheard && !self.volumes[v].generation_awaits_peer
    }

    /// Keeps [`lifted_beside_none`](super::volume::Volume::lifted_beside_none) up to date. `used`: a Primary went by the data before
    /// the change.
    fn note_lifted_disk(&mut self, v: VolumeIndex, os: StateWord, ns: StateWord, used: bool) {
        let unknown = match self.volumes[v].negotiation {
            Some((disk, _)) if os.disk == Disk::Negotiating => disk == Disk::Consistent,
            _ => os.disk == Disk::Consistent,
        };
        let beside_none =
            ns.conn == Conn::Connected && ns.disk == Disk::UpToDate && ns.pdsk < Disk::Inconsistent;
        let lifted = unknown || self.volumes[v].lifted_beside_none && !used;
        self.volumes[v].lifted_beside_none = beside_none && lifted && !self.is_in_use(v);
    }

    /// The sizes that the two nodes go by.
    pub(super) fn note_size(&mut self, v: VolumeIndex, os: StateWord, ns: StateWord) {
        if ns.is_unconfigured() {
            // spec/state.md 12.1
            self.volumes[v].peer_size = 0;
            self.volumes[v].peer_user_size = 0;
        }
        self.expose_accepted_size(v, os, ns);
        let given_up = os.disk == Disk::Attaching || ns.conn < Conn::Connected;
        if ns.disk > Disk::Negotiating {
            self.use_size_with_disk(v);
        } else if ns.disk < Disk::Attaching && given_up {
            // The peer has not heard of the disk, or if it has, says how large its device is when the two meet again. (In DRBD the larger size
            // stays: what is written there is beyond the end of the peer's device, or that is refused when it comes back.)
            self.volumes[v].size_with_disk = None;
        }
        let volume = &mut self.volumes[v];
        if ns.disk >= Disk::Negotiating {
            // With a disk of its own the node goes by that.
            volume.size_once_accepted = None;
        }
        if meets(os, ns) {
            volume.size_with_peer_disk = if ns.pdsk > Disk::Negotiating { volume.size } else { 0 };
        }
    }

    /// Whether a Primary is demoted, or loses its own good disk, before it has heard that the peer's disk, which refused its writes, is gone:
    /// by then it is nobody's loss, and the peer may attach it again.
    fn leaves_refused_writes(&self, v: VolumeIndex, os: StateWord, ns: StateWord) -> bool {
        let demoted = ns.role == Role::Secondary;
        let own_disk_lost = os.disk == Disk::UpToDate && ns.disk < Disk::UpToDate;
        os.role == Role::Primary
            && (demoted || own_disk_lost)
            && ns.pdsk == Disk::UpToDate
            && self.has_completed_writes_that_peer_lacks(v)
    }

    /// Whether the generation that this node goes on in may be its target's, too, from now on. As long as the next resync has not begun
    /// this stays as it was: the target may have heard nothing of it, and be promoted.
    fn note_unheard_end(&mut self, v: VolumeIndex, os: StateWord, ns: StateWord) {
        let apart = ns.conn < Conn::Connected || ns.pdsk < Disk::Inconsistent;
        let met = !apart && ns.disk > Disk::Negotiating && ns.conn != Conn::WFBitMapS;
        let lost = os.conn.is_sync_source() && apart && self.target_may_be_good(v);
        let volume = &mut self.volumes[v];
        let Some(disk) = &mut volume.disk else { return };
        if met {
            disk.unheard_target = None;
        } else if lost {
            disk.unheard_target = Some(volume.peer_uuids.map_or(0, |peer| peer.uuids.current));
        }
    }

    /// The super block may tell of a demotion, or of the end of a resync, only when the data and the
    /// bitmap are durable; a write of it that was decided before comes in between.
    fn hold_marks(&mut self, v: VolumeIndex, os: StateWord, ns: StateWord) {
        let Some(disk) = &mut self.volumes[v].disk else { return };
        if ns.disk < Disk::Inconsistent {
            return;
        }
        match (has_primary_mark(os), has_primary_mark(ns)) {
            (true, false) => disk.keep_primary_mark = true,
            (_, true) => disk.keep_primary_mark = false,
            (false, false) => {}
        }
        if os.disk < Disk::UpToDate && os.conn >= Conn::SyncSource && ns.conn == Conn::Connected {
            disk.keep_inconsistent = true;
        }
    }
}

fn meets(os: StateWord, ns: StateWord) -> bool {
    os.conn < Conn::Connected && ns.conn >= Conn::Connected
}
