//! One volume of a resource: its state, its disk, what is going on with it.

use super::activity_log::ActivityLog;
use super::bitmap::Bitmap;
use super::codes::ConfigCode;
use super::flush::Flush;
use super::intervals::Intervals;
use super::request::Request;
use super::resize::ResizeOrder;
use super::resync::Resync;
use super::size::SizeQuestion;
use super::state::{Conn, Disk, Role, StateWord};
use super::types::{Io, Millis};
use super::uuid::{PeerUuids, Uuids};
use crate::conf::settings::DiskSettings;
use crate::meta;
use crate::meta::activity_log::LogWriter;
use crate::wire::StateChangeRequest;
use std::collections::VecDeque;

/// What /proc/drbd counts. spec/drbdsetup.md 8.2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sectors sent to the peer.
    pub sent: u64,
    /// Sectors received from the peer.
    pub received: u64,
    /// Sectors written to the disk.
    pub written: u64,
    /// Sectors read from the disk.
    pub read: u64,
    /// Sectors of `written` and `read` that were not for a resync or verify; not shown.
    pub application: u64,
    /// Transactions of the activity log.
    pub al_writes: u64,
    /// Writes of bitmap pages.
    pub bm_writes: u64,
    /// Requests at the local disk.
    pub local: u32,
    /// Requests of the application that the peer has not answered.
    pub ap_pending: u32,
    /// Resync requests that have not been answered.
    pub rs_pending: u32,
    /// Requests of the peer that have not been answered.
    pub unacked: u32,
    /// Requests of the application that are not complete.
    pub ap_in_flight: u32,
}

/// A disk in use.
#[derive(Debug)]
pub struct LocalDisk {
    /// Where everything lies on the meta data device.
    pub layout: meta::Layout,
    /// The super block as it was last read or written; fields that change are kept elsewhere.
    pub super_block: meta::SuperBlock,
    /// Largest size that this disk allows, sectors.
    pub maximum: u64,
    /// Whether the backing device can discard.
    pub can_discard: bool,
    /// Generation UUIDs.
    pub uuids: Uuids,
    /// Blocks that may differ from the peer's.
    pub bitmap: Bitmap,
    /// Extents that may have writes in flight.
    pub activity_log: ActivityLog,
    pub(super) log_writer: LogWriter,
    /// The super block on disk is not the current one.
    pub(super) dirty_since: Option<Millis>,
    /// An activity log transaction (or the bitmap write before it) is on the way.
    pub(super) log_busy: bool,
    /// Pages of the bitmap are being written. One write at a time: an older copy of a page must not
    /// overtake a newer one.
    pub(super) bitmap_busy: bool,
    /// Pages that an eviction will write when that is over, and whether it has to flush the data.
    pub(super) eviction_waits: Option<(Vec<u32>, bool)>,
    pub(super) full_sync: bool,
    /// The meta data are on their way to another place on their device.
    pub(super) moving: bool,
    /// Requests at the disk that have not come back, meta data included.
    pub(super) in_use: u32,
    /// A read failed since attach: the bitmap may lack it.
    pub(super) read_error: bool,
    /// A write of meta data failed since attach.
    pub(super) meta_failed: bool,
    /// Data were written since attach; cleared by the flush of a detach.
    pub(super) unflushed: bool,
    /// The peer wrote since the last flush for one of its epochs began; or it was lost as a Primary beside this one.
    pub(super) peer_needs_flush: bool,
    /// What survives a power cut of this machine.
    pub(super) flushed: Flushed,
    /// Flushes of the data that are on their way, with what they will have made durable.
    pub(super) flushes: Vec<(Io, Flushed)>,
    /// The super block on disk has PRIMARY_IND: blocks may change that only the log tells of.
    pub(super) primary_mark_durable: bool,
    /// The super block on disk says that the disk is good: the data on it count after a crash.
    pub(super) good_mark_durable: bool,
    /// A crash may leave such a super block: that it says otherwise is not known to be durable.
    pub(super) may_be_marked_good: bool,
    /// PRIMARY_IND stays in the super block until bitmap and data of a demoted node are durable.
    pub(super) keep_primary_mark: bool,
    /// CONSISTENT stays away from it until the data of a resync are durable.
    pub(super) keep_inconsistent: bool,
    /// This node was the source of a resync when it lost its target, or the target its disk, and the two disks have not met since: the
    /// target may have come to the end, and go on from the generation that this node calls its own. Or it has the CURRENT still that
    /// it had before the resync: this one.
    pub(super) unheard_target: Option<u64>,
    /// The peer refused a write of this generation, which is over, and has not said yet what became of its disk; or was not sent one, before a
    /// resync that both had agreed on.
    pub(super) lacked_by_peer: bool,
}

/// A point up to which all writes of data are durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flushed {
    /// [`ActivityLog::clock`]: extents that were released up to then.
    pub(super) log_clock: u64,
    /// [`Bitmap::clears`]: blocks whose bits were cleared up to then.
    pub(super) bitmap_clears: u64,
}

impl LocalDisk {
    /// A flush of the data begins.
    pub(super) fn flush_begins(&mut self, io: Io) {
        let point = Flushed { log_clock: self.activity_log.clock(), bitmap_clears: self.bitmap.clears() };
        self.flushes.push((io, point));
    }

    /// It ended.
    pub(super) fn flush_ended(&mut self, io: Io, ok: bool) {
        let Some(index) = self.flushes.iter().position(|(known, _)| *known == io) else { return };
        let (_, point) = self.flushes.remove(index);
        if ok {
            self.flushed.log_clock = self.flushed.log_clock.max(point.log_clock);
            self.flushed.bitmap_clears = self.flushed.bitmap_clears.max(point.bitmap_clears);
        }
    }
}

/// The state word that the peer sends when the handshake has made it Connected (spec/state.md 5.2 A18).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstWord {
    /// It came, or there is no connection.
    Came,
    /// It is on its way.
    Due,
    /// It is on its way, and was sent before the peer heard that the initial sync is skipped.
    Overtaken,
}

/// One volume.
#[derive(Debug)]
pub struct Volume {
    /// Its number in the resource.
    pub number: u16,
    /// Its minor.
    pub minor: u32,
    pub(super) state: StateWord,
    pub(super) disk: Option<LocalDisk>,
    pub(super) settings: DiskSettings,
    /// Exposed size, sectors.
    pub(super) size: u64,
    pub(super) deleted: bool,

    /// Identity of the data that this node exposes (spec/state.md 8.6).
    pub(super) effective_uuid: u64,
    /// What the peer said in its last P_UUIDS.
    pub(super) peer_uuids: Option<PeerUuids>,
    /// They are those of a disk that has gone since.
    pub(super) peer_uuids_outlive_disk: bool,
    /// Disks that negotiated over this link and were given up before the peer's UUIDs came, which answer them: so many will come before
    /// those for the next disk.
    pub(super) late_answers: u32,
    /// This node has agreed to the end of the peer's disk, and the peer has not said yet that it is gone: what it began with that disk is over.
    pub(super) peer_disk_let_go: bool,
    /// Own bits as last sent in P_UUIDS.
    pub(super) bits_sent: u64,
    /// The peer's own maximum, sectors; 0: no disk or not known.
    pub(super) peer_size: u64,
    /// The size that the peer's user wants, as a node without a disk has heard; 0: none, or not known.
    pub(super) peer_user_size: u64,
    /// The peer's disk, as its last state word said, or will when it is there: the target of a resync that has ended is UpToDate. `pdsk` is also
    /// what this node makes of it.
    pub(super) peer_told: Disk,
    /// Its role, as it told it last, or was allowed to have. A word that is of the end of a resync alone does not change what this node goes by.
    pub(super) peer_told_role: Role,
    /// The peer has ordered this node to give its data up, and hears of it when its disk keeps what the application has had flushed, up to the
    /// request of this number.
    pub(super) order_to_give_up: Option<(StateChangeRequest, u64)>,
    /// Without a disk this node wrote to the peer. Its own disk lacks that, even if it is of the generation that this node
    /// knows of: the peer began another one for these writes, and may not have come to say so.
    pub(super) wrote_without_disk: bool,
    /// [`Resource::serves_primary`](super::Resource::serves_primary), as it was before the last change of state of the link that
    /// was there last.
    pub(super) served_primary: bool,
    /// So was the peer: Primary.
    pub(super) peer_was_primary: bool,
    /// This node had no disk when the peer was Primary with a good one: what it attaches is older, though it may not have heard of the generation
    /// of that Primary. Until the two have decided about it.
    pub(super) disk_left_to_primary: bool,
    /// The disk was only Consistent, and is UpToDate because a peer without a disk is connected: the one that the peer does not use may
    /// be newer still. Unless a Primary went by these data meanwhile, this one is Consistent again when the link is lost. (DRBD leaves
    /// it UpToDate, and promotes it where a peer that is out of reach is taken for dead.)
    pub(super) lifted_beside_none: bool,
    /// The disk is Outdated because somebody has called it so while the peer was out of reach, and was not before: whatever the peer has written
    /// since is of another generation.
    pub(super) outdated_alone: bool,
    /// Source: the peer agreed to this full sync, and so to its data being old.
    pub(super) target_agreed: bool,
    /// The peer's limit of a request, bytes.
    pub(super) peer_max_bio: u32,
    /// What attaching while connected would come to without the peer: (disk, pdsk).
    pub(super) negotiation: Option<(Disk, Disk)>,

    pub(super) crashed_primary: bool,
    /// The data are those that this node had when it crashed as Primary: continuation.rs.
    pub(super) left_by_crash: bool,
    pub(super) new_current_uuid_owed: bool,
    /// The generation that is owed, which the peer is told of already, so that a resync follows. It begins when the peer has become the
    /// target: a peer that takes over before has not gone another way.
    pub(super) offered_generation: Option<u64>,
    /// The peer's disk went when this Primary had lost its own, over the same link: what was under way then may be on one of the two only,
    /// which are of one generation. When this one is attached, the peer is offered another.
    pub(super) lost_both_disks: bool,
    /// A new generation begins when the peer, a Primary without a disk, says that it is one, Connected. Requests of this node, if it
    /// is Primary too, wait for that: if the link is lost before, the peer may have its disk still, and go on with it.
    pub(super) generation_awaits_peer: bool,
    /// A peer without a disk was let become Primary, and has not said that it is: it may fail to, for the data go at the same moment. The
    /// generation of what it writes here begins when it says so, or writes.
    pub(super) promotion_unheard: bool,
    /// This disk was attached beside a Primary without one, which has not said yet that it works with it.
    pub(super) attached_for_primary: bool,
    pub(super) first_word: FirstWord,
    pub(super) consider_resync: bool,
    pub(super) resync_after_negotiation: bool,
    /// Size of the device when the two nodes met or, if the peer had no disk then, when its disk came; sectors, 0: it has not come.
    pub(super) size_with_peer_disk: u64,
    /// What the peer is still to answer about the size, the oldest first.
    pub(super) size_questions: VecDeque<SizeQuestion>,
    /// Size of the device before a `resize` that has come into effect, and that the peer has not been told yet, sectors. Until then the
    /// nodes stay Connected: `leaves_peer_unasked`.
    pub(super) size_before_resize: Option<u64>,
    /// The size before the device grew last, sectors.
    pub(super) grown_from: u64,
    /// Size of the device with the disk that is being attached, or of which the peer has not heard yet, sectors. Until then `size` is what it
    /// was: that disk may be given up, and the peer's data are no larger.
    pub(super) size_with_disk: Option<u64>,
    /// Size of the device without the own disk, which is being attached: that of the peer, if it has a disk, sectors; else 0.
    pub(super) size_before_attach: u64,
    /// The peer has told how large the disk is that it attaches, and not yet that it is there.
    pub(super) peer_attaches: bool,
    /// What the peer said of the device, for a node without a disk: it counts when its data are accepted.
    pub(super) size_once_accepted: Option<u64>,
    /// The resync of an area that was added waits for the answer to an own request for a change of both nodes, or for the end of a resync
    /// whose target is done.
    pub(super) grown_waits: bool,
    /// WFSyncUUID for space that was added: the peer has not begun its resync, and of all the rest this disk, which was UpToDate,
    /// still has what a good one has.
    pub(super) lacks_new_space_only: bool,
    /// Target of space that was added: the resync began without the peer's bitmap, and brings nothing of what only that tells of.
    pub(super) gets_new_space_only: bool,
    /// So does a resync, whose handler has ended, on this side.
    pub(super) start_waits: Option<Conn>,
    /// `resize` commands that wait until the nodes know each other's sizes.
    pub(super) resizes_after_handshake: Vec<ResizeOrder>,
    pub(super) degraded: bool,
    pub(super) discard_my_data: bool,
    pub(super) al_suspended: bool,
    pub(super) force_detach: bool,
    pub(super) io_error_seen: bool,
    /// Why a disk is given up at the end of its attach.
    pub(super) attach_refused: Option<ConfigCode>,
    /// An invalidate has begun, and no resync yet: the data have been given up.
    pub(super) invalidating: bool,
    /// A peer has, or may have, newer data, and its bits are not in the own bitmap yet: no block counts as in sync.
    pub(super) bitmap_lacks_peers: bool,
    /// A bulk operation on the bitmap is to come, waits for application I/O to drain, or runs.
    pub(super) bitmap_io: bool,

    /// Writes of the application that are in the transfer log.
    pub(super) writes: Intervals,
    /// Writes of the peer, and resync writes, that are at the disk. Owners: peer request numbers.
    pub(super) peer_writes: Intervals,
    /// Own blocks that are read to be compared with the peer's digest; its writes wait for that. Owners: as above.
    pub(super) compared: Intervals,
    /// Ranges that a resync or verify has locked against application writes.
    pub(super) locks: Intervals,
    /// Requests of the application that could not be started yet, in order.
    pub(super) waiting: VecDeque<Request>,
    /// Flushes of the application that are not done.
    pub(super) flushes: Vec<Flush>,
    /// Requests of the peer that wait for something, in the order in which they came.
    pub(super) blocked_peer_requests: Vec<u32>,
    /// Extents that writes of a diskless peer wait for.
    pub(super) peer_extents: VecDeque<u32>,
    /// No write that the peer lacks may complete: the new current UUID is not durable yet.
    pub(super) uuid_hold: bool,
    pub(super) resync: Resync,
    /// Counts beginnings and ends of resyncs: tells requests of an earlier one.
    pub(super) resyncs: u64,
    /// There was a resync since connect.
    pub(super) resynced: bool,
    pub(super) counters: Counters,
    /// Packets with a sequence number sent since connect.
    pub(super) packet_seq: u32,
    /// Highest sequence number of the peer's acknowledgements.
    pub(super) peer_seq: u32,
}

impl Volume {
    /// Whether there is a disk, and the peer, which this node is apart from, may have data of the generation that it calls its own: so that what is
    /// written from now on needs another one.
    pub(super) fn shares_generation(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.uuids.bitmap == 0 || disk.unheard_target.is_some())
    }

    /// Whether the disk is worse than what a crash may leave in its super block.
    pub(super) fn is_marked_too_good(&self) -> bool {
        let is_old = matches!(self.state.disk, Disk::Inconsistent | Disk::Outdated);
        is_old && self.disk.as_ref().is_some_and(|disk| disk.may_be_marked_good)
    }

    pub(super) fn new(number: u16, minor: u32, settings: DiskSettings) -> Volume {
        Volume {
            number,
            minor,
            state: StateWord::UNCONFIGURED,
            disk: None,
            settings,
            size: 0,
            deleted: false,
            effective_uuid: 0,
            peer_uuids: None,
            peer_uuids_outlive_disk: false,
            late_answers: 0,
            peer_disk_let_go: false,
            bits_sent: 0,
            peer_size: 0,
            peer_user_size: 0,
            peer_told: Disk::DUnknown,
            peer_told_role: Role::Unknown,
            order_to_give_up: None,
            served_primary: false,
            disk_left_to_primary: false,
            peer_was_primary: false,
            lifted_beside_none: false,
            outdated_alone: false,
            target_agreed: false,
            wrote_without_disk: false,
            peer_max_bio: 0,
            negotiation: None,
            crashed_primary: false,
            left_by_crash: false,
            new_current_uuid_owed: false,
            offered_generation: None,
            lost_both_disks: false,
            generation_awaits_peer: false,
            promotion_unheard: false,
            attached_for_primary: false,
            first_word: FirstWord::Came,
            consider_resync: false,
            resync_after_negotiation: false,
            size_with_peer_disk: 0,
            size_questions: VecDeque::new(),
            size_before_resize: None,
            grown_from: 0,
            size_with_disk: None,
            size_before_attach: 0,
            peer_attaches: false,
            size_once_accepted: None,
            grown_waits: false,
            lacks_new_space_only: false,
            gets_new_space_only: false,
            start_waits: None,
            resizes_after_handshake: Vec::new(),
            degraded: false,
            discard_my_data: false,
            al_suspended: false,
            force_detach: false,
            io_error_seen: false,
            attach_refused: None,
            invalidating: false,
            bitmap_lacks_peers: false,
            bitmap_io: false,
            writes: Intervals::default(),
            peer_writes: Intervals::default(),
            compared: Intervals::default(),
            locks: Intervals::default(),
            waiting: VecDeque::new(),
            flushes: Vec::new(),
            blocked_peer_requests: Vec::new(),
            peer_extents: VecDeque::new(),
            uuid_hold: false,
            resync: Resync::default(),
            resyncs: 0,
            resynced: false,
            counters: Counters::default(),
            packet_seq: 0,
            peer_seq: 0,
        }
    }

    /// The state word.
    pub fn state(&self) -> StateWord {
        self.state
    }

    /// The disk, if there is one.
    pub fn disk(&self) -> Option<&LocalDisk> {
        self.disk.as_ref()
    }

    /// Settings of the disk; they outlive a detach.
    pub fn settings(&self) -> &DiskSettings {
        &self.settings
    }

    /// Size of the device, sectors; 0: not known yet.
    pub fn size_sectors(&self) -> u64 {
        self.size
    }

    /// The size that the attached disk gives the device, whoever has heard of it.
    pub(super) fn size_to_be(&self) -> u64 {
        self.size_with_disk.unwrap_or(self.size)
    }

    /// The size that the peer is told: without a disk that may be used, what the device has without it.
    pub(super) fn size_told(&self) -> u64 {
        if self.state.disk >= Disk::Negotiating {
            self.size_to_be()
        } else {
            self.size
        }
    }

    /// What /proc/drbd counts.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The resync or verify that runs, or the last one.
    pub fn resync(&self) -> &Resync {
        &self.resync
    }

    /// Blocks out of sync.
    pub fn out_of_sync_bits(&self) -> u64 {
        self.disk.as_ref().map_or(0, |disk| disk.bitmap.weight())
    }

    /// Whether updates of the activity log are suspended.
    pub fn al_suspended(&self) -> bool {
        self.al_suspended
    }

    /// Whether it was a Primary without its peer when it went down (spec/state.md 13.3 step 18).
    pub fn degraded(&self) -> bool {
        self.degraded
    }

    /// The peer's last known generation UUIDs.
    pub fn peer_uuids(&self) -> Option<&PeerUuids> {
        self.peer_uuids.as_ref()
    }

    /// The disk, if the state lets it be used for data.
    pub(super) fn usable_disk(&mut self) -> Option<&mut LocalDisk> {
        if self.state.disk >= Disk::Inconsistent {
            self.disk.as_mut()
        } else {
            None
        }
    }

    /// The disk, if its meta data may be used.
    pub(super) fn meta_disk(&mut self) -> Option<&mut LocalDisk> {
        if self.state.disk >= Disk::Negotiating {
            self.disk.as_mut()
        } else {
            None
        }
    }

    /// Next sequence number for P_DATA and acknowledgements (spec/wire.md 5.4).
    pub(super) fn next_seq(&mut self) -> u32 {
        self.packet_seq = self.packet_seq.wrapping_add(1);
        self.packet_seq
    }

    /// Notes that the super block in memory is newer than on disk.
    pub(super) fn mark_dirty(&mut self, now: Millis) {
        if let Some(disk) = &mut self.disk {
            disk.dirty_since.get_or_insert(now);
        }
    }
}
