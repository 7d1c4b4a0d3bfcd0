//! The fifo: packets and after-change actions, strictly in the order of decision.

use super::admin::AdminWait;
use super::handlers::Handler;
use super::handshake::state_packet;
use super::metadata_flags::has_primary_mark;
use super::resize::{ResizeCause, ResizeOrder};
use super::rules::ChangeKind;
use super::size::SizeChange;
use super::state::{Change, Conn, Disk, Role, StateWord};
use super::types::*;
use super::Resource;
use crate::meta::Layout;
use crate::wire::data::Barrier;
use crate::wire::packet::Packet;
use crate::wire::Socket;

/// An entry of the fifo.
#[allow(missing_docs)] // v: the volume; id: the request
#[derive(Debug)]
pub enum Work {
    /// A packet of the data socket.
    Send { v: VolumeIndex, packet: Packet, payload: Option<Payload>, notify: Option<u64> },
    /// The data of a mirrored write; built when its turn comes.
    SendWrite { id: u64 },
    /// What follows a committed state change.
    After {
        v: VolumeIndex,
        os: StateWord,
        ns: StateWord,
        /// A11, A12: the data that go on are on this node's disk only.
        generation: bool,
        /// The newest request of then.
        newest: u64,
    },
    /// A single step.
    Step(Step),
    /// The admin task that waits for all that was decided before.
    Admin(AdminWait),
}

/// One action of the worker. Those that wait hold the fifo.
#[allow(missing_docs)] // v: the volume; id: the request
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Write the super block and wait until it is durable.
    WriteSuperBlock { v: VolumeIndex },
    /// The same, if it changed since the last time.
    WriteSuperBlockIfDirty { v: VolumeIndex },
    /// Write bitmap pages that differ from the disk, and wait; `all`: every page.
    WriteBitmap { v: VolumeIndex, all: bool },
    /// End the epoch of what was mirrored last.
    CloseEpoch,
    /// Wait until what a peer without a disk wrote here is on the disk.
    AwaitPeerWrites { v: VolumeIndex },
    /// Make the data durable and wait.
    FlushData { v: VolumeIndex },
    /// The super block may tell of a demotion, or of the end of a resync.
    ReleaseMarks { v: VolumeIndex },
    /// Zero the activity log's area and wait.
    ZeroActivityLog { v: VolumeIndex },
    /// Change the full-sync flag in memory.
    FullSync { v: VolumeIndex, on: bool },
    /// Set all bits.
    SetAllBits { v: VolumeIndex },
    /// Clear all bits.
    ClearAllBits { v: VolumeIndex },
    /// The new current UUID of a Primary that lost its peer; decided now (spec/state.md 8.4 U4 to U6).
    NewCurrentUuid { v: VolumeIndex },
    /// The same for what a Primary without a disk writes here.
    NewCurrentUuidForPeer { v: VolumeIndex },
    /// The new current UUID is durable.
    NewCurrentUuidDone { v: VolumeIndex },
    /// Send P_UUIDS.
    SendUuids { v: VolumeIndex },
    /// The same for a new generation: also of a disk that has just failed, so that the peer does not take its older one for the same data.
    SendGeneration { v: VolumeIndex },
    /// Send P_SIZES.
    SendSizes { v: VolumeIndex, trigger_reply: bool, flags: u16 },
    /// Send P_STATE with this word.
    SendState { v: VolumeIndex, word: StateWord },
    /// Begin to send the bitmap, when no application request is in flight.
    SendBitmap { v: VolumeIndex },
    /// Send the bitmap, which no other one answers, and wait until it is sent.
    SendBitmapOfSource { v: VolumeIndex },
    /// The sync UUID of a source (U7).
    SyncUuid { v: VolumeIndex },
    /// Tell it to the target.
    SendSyncUuid { v: VolumeIndex, uuid: u64 },
    /// Run a helper and wait for it.
    Helper { v: VolumeIndex, name: Handler },
    /// Run a helper that nothing waits for.
    StartHelper { v: VolumeIndex, name: Handler },
    /// The crash is made up for.
    ClearCrashedPrimary { v: VolumeIndex },
    /// Unfreeze I/O that was frozen for lack of data, or for fencing: all up to the request `newest`.
    Thaw { v: VolumeIndex, os: StateWord, ns: StateWord, newest: u64 },
    /// After the bits are set: both sides of a full sync that an admin asked for.
    StartedFullSync { v: VolumeIndex },
    /// Close the disk when nothing uses it any more.
    GoDiskless { v: VolumeIndex },
    /// Give the backing device back.
    ReleaseDisk { v: VolumeIndex },
    /// Begin to connect.
    StartReceiver,
    /// Tell what the receiver waits for that all before is done.
    Receiver,
    /// The rest of the cleanup after a connection.
    CleanupTail,
    /// The attach is complete but for its state.
    Attached { v: VolumeIndex },
    /// Resync what an online grow added.
    ResyncGrown { v: VolumeIndex },
    /// The `resize` command, which has waited for a handshake.
    Resize { v: VolumeIndex, order: ResizeOrder },
    /// Ask how large the backing device is, and wait for the answer.
    AskBackingSize { v: VolumeIndex, cause: ResizeCause },
    /// Put the meta data elsewhere on their device.
    MoveMetaData { v: VolumeIndex, layout: Layout },
    /// Write the activity log at its new place, and wait.
    RewriteActivityLog { v: VolumeIndex },
    /// All but the super block is at its new place; the full-sync flag becomes what it was.
    MetaDataMoved { v: VolumeIndex, full_sync: bool },
    /// Bring the size that follows from all limits into effect.
    ChangeSize { v: VolumeIndex, cause: ResizeCause, backing_changed: bool },
    /// The new size is on disk: applications may have it.
    ShowSize { v: VolumeIndex },
    /// The new size is in effect: tell the peer, answer.
    SizeChanged { v: VolumeIndex, cause: ResizeCause, backing_changed: bool, change: SizeChange },
}

/// What the fifo waits for.
#[allow(missing_docs)] // v: the volume
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FifoWait {
    /// A write of meta data.
    Meta(u64),
    /// A helper.
    Helper(HelperId),
    /// Application requests in flight, before the bitmap is sent.
    Drain(VolumeIndex),
    /// The bitmap is being sent.
    BitmapSend(VolumeIndex),
    /// Writes of a peer without a disk.
    PeerWrites(VolumeIndex),
    /// Pages of the bitmap that are being written by somebody else.
    BitmapFree(VolumeIndex),
    /// I/O at the disk that is to be closed.
    DiskIdle(VolumeIndex),
    /// Writes of bitmap and activity log to the place that they are to leave.
    MetaDataIdle(VolumeIndex),
    /// The size of a backing device.
    BackingSize { v: VolumeIndex, cause: ResizeCause },
}

/// What follows the end of a helper.
#[allow(missing_docs)] // v: the volume; meetings: how many there had been when it began
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HelperThen {
    /// The fifo goes on.
    Fifo,
    /// The sync handshake goes on.
    Handshake,
    /// A resync starts on this side.
    StartResync { v: VolumeIndex, side: Conn },
    /// The promotion that waits for fencing goes on.
    Admin { meetings: u64 },
    /// Fencing was tried.
    Fenced { v: VolumeIndex, meetings: u64 },
    /// Nothing.
    Nothing,
}

impl Resource {
    /// Works on the fifo until it is empty or has to wait. True: something was done.
    pub(super) fn run_fifo(&mut self) -> bool {
        let mut progress = false;
        loop {
            match self.fifo_wait {
                Some(FifoWait::Drain(v)) if !self.has_requests_under_way(v) || !self.may_send_bitmap(v) => {
                    self.fifo_wait = None;
                    self.begin_bitmap_send(v);
                    progress = true;
                    continue;
                }
                Some(FifoWait::DiskIdle(v))
                    if self.volumes[v].disk.as_ref().is_none_or(|disk| disk.in_use == 0) =>
                {
                    self.fifo_wait = None;
                }
                Some(FifoWait::PeerWrites(v)) if !self.writes_for_diskless_peer(v) => {
                    self.fifo_wait = None;
                }
                Some(FifoWait::BitmapFree(v))
                    if self.volumes[v].disk.as_ref().is_none_or(|disk| !disk.bitmap_busy) =>
                {
                    self.fifo_wait = None;
                }
                Some(FifoWait::MetaDataIdle(v))
                    if self.volumes[v]
                        .disk
                        .as_ref()
                        .is_none_or(|disk| !disk.bitmap_busy && !disk.log_busy) =>
                {
                    self.fifo_wait = None;
                }
                Some(FifoWait::BitmapSend(_)) if self.connection.link.is_none() => self.fifo_wait = None,
                Some(_) => return progress,
                None => {}
            }
            if let Some(step) = self.steps.pop_front() {
                self.run_step(step);
            } else if let Some(work) = self.fifo.pop_front() {
                self.run_work(work);
            } else {
                return progress;
            }
            progress = true;
        }
    }

    fn run_work(&mut self, work: Work) {
        match work {
            Work::Send { v, packet, payload, notify } => self.emit(Socket::Data, v, packet, payload, notify),
            Work::SendWrite { id } => self.emit_write(id),
            Work::After { v, os, ns, generation, newest } => self.plan_after(v, os, ns, generation, newest),
            Work::Step(step) => self.run_step(step),
            Work::Admin(wait) => self.admin_reached(wait),
        }
    }

    /// The after-change actions of spec/state.md 5.2, in its order, as steps.
    fn plan_after(&mut self, v: VolumeIndex, os: StateWord, ns: StateWord, generation: bool, newest: u64) {
        use Conn::*;
        debug_assert!(self.steps.is_empty());
        let mut steps = std::mem::take(&mut self.steps);
        let mut add = |step| steps.push_back(step);
        let connected = ns.conn >= Connected;
        let disk_ok = self.volumes[v].disk.is_some() && ns.disk >= Disk::Inconsistent;
        let lower = |word: StateWord| {
            word.role == Role::Primary && word.disk < Disk::UpToDate && word.pdsk < Disk::UpToDate
        };

        // A1'
        let both = |word: StateWord| word.disk == Disk::UpToDate && word.pdsk == Disk::UpToDate;
        if !both(os) && both(ns) && connected {
            add(Step::ClearCrashedPrimary { v });
        }
        // A3. The handler may take its time, or this node down, and what has become of the disk counts. (DRBD writes the super block behind it.)
        if lower(ns) && !lower(os) {
            add(Step::WriteSuperBlockIfDirty { v });
            add(Step::Helper { v, name: Handler::PriOnIncon });
        }
        // A6, A7
        if ns.is_susp() {
            add(Step::Thaw { v, os, ns, newest });
        }
        // A8
        if !os.conn.is_sync_source() && ns.conn.is_sync_source() && disk_ok {
            add(Step::SyncUuid { v });
        }
        // A9
        if os.pdsk == Disk::Diskless && ns.pdsk > Disk::Diskless && ns.pdsk != Disk::DUnknown && connected {
            add(Step::SendUuids { v });
            add(Step::SendState { v, word: ns });
        }
        // A10
        if os.conn != WFBitMapS && ns.conn == WFBitMapS {
            add(Step::SendBitmap { v });
        }
        // A11, A12
        if generation {
            // A failed disk goes when it is in: it may still take that, and this node goes by it without the disk, too.
            let takes_it = disk_ok || self.volumes[v].disk.is_some() && ns.disk == Disk::Failed;
            add(if takes_it { Step::NewCurrentUuid { v } } else { Step::NewCurrentUuidDone { v } });
        }
        // A13, A14. Also in a resync: the mark PRIMARY_IND goes only when the bits are on disk.
        let demoted = os.role == Role::Primary && ns.role == Role::Secondary;
        if disk_ok && has_primary_mark(os) && !has_primary_mark(ns) {
            if demoted {
                // Frozen ones: the bitmap is written now, and the log of a Secondary is read by nobody.
                self.mark_open_writes(v);
                // Nobody would look at these bits if this node crashed before it has met the peer again: the two are of one generation, and
                // the one that is owed is owed in memory only. (DRBD leaves it at that.) The other one of two Primaries has its cache if it is
                // Primary still, and rule 41 may refuse who has crashed.
                let alone = ns.conn < Conn::Connected && !self.volumes[v].peer_was_primary;
                if alone && self.volumes[v].new_current_uuid_owed && self.has_uncertain_writes(v) {
                    self.count_as_crashed(v);
                }
            }
            release_primary_mark(v).for_each(&mut add);
        }
        // A15
        if connected && os.disk == Disk::Attaching && ns.disk == Disk::Negotiating {
            add(Step::SendSizes { v, trigger_reply: false, flags: 0 });
            add(Step::SendUuids { v });
            add(Step::SendState { v, word: ns });
        }
        // A16, A18, A19, A23, A26, A27: the peer has to know.
        let mut tell = connected && (os.aftr_isp != ns.aftr_isp || os.user_isp != ns.user_isp);
        tell |= os.conn == WFReportParams && connected;
        tell |= os.conn != Ahead && ns.conn == Ahead;
        if tell {
            add(Step::SendState { v, word: ns });
        }
        // A20
        if os.conn != ns.conn && matches!(ns.conn, StartingSyncS | StartingSyncT) {
            for step in set_all_and_write(v) {
                add(step);
            }
            add(Step::StartedFullSync { v });
        }
        // A21
        if os.disk != Disk::Failed && ns.disk == Disk::Failed {
            if self.volumes[v].io_error_seen
                && self.volumes[v].settings.on_io_error == crate::conf::settings::OnIoError::CallLocalIoError
            {
                add(Step::Helper { v, name: Handler::LocalIoError });
            }
            // The peer has heard of a disk only when it negotiated, and would answer this one as if it did.
            if connected && os.disk != Disk::Attaching {
                add(Step::SendState { v, word: ns });
            }
            add(Step::WriteSuperBlockIfDirty { v });
            add(Step::GoDiskless { v });
        }
        // A22
        if os.disk != Disk::Diskless && ns.disk == Disk::Diskless {
            if connected {
                add(Step::SendState { v, word: ns });
            }
            add(Step::ReleaseDisk { v });
        }
        // A23. A31 comes before it: with a crash in between both disks would be good ones, of one generation.
        if os.disk == Disk::UpToDate && ns.disk == Disk::Inconsistent && connected {
            add(Step::WriteSuperBlockIfDirty { v });
            add(Step::SendState { v, word: ns });
        }
        // A24
        if ns.disk > Disk::Negotiating
            && ns.pdsk > Disk::Negotiating
            && ns.conn == Connected
            && self.volumes[v].resync_after_negotiation
        {
            add(Step::ResyncGrown { v });
        }
        // A31 comes before A26 here: the peer may hear that the resync is over only when the disk says so, too.
        let finished = os.disk < Disk::UpToDate && os.conn >= SyncSource && ns.conn == Connected;
        if finished {
            add(Step::FlushData { v });
            add(Step::ReleaseMarks { v });
            add(Step::WriteSuperBlockIfDirty { v });
            add(Step::SendState { v, word: ns });
        }
        // The peer was to be the source and leaves before it began: it took this disk for what it was before.
        let called_off = matches!(os.conn, StartingSyncT | WFBitMapT | WFSyncUUID) && ns.conn == Connected;
        if called_off && ns.disk > Disk::Failed {
            add(Step::WriteSuperBlockIfDirty { v });
            add(Step::SendState { v, word: ns });
        }
        // The peer, which has no disk, takes one that negotiates for a good one.
        if os.disk == Disk::Negotiating && ns.disk == Disk::Outdated && ns.conn == Connected {
            add(Step::SendState { v, word: ns });
        }
        // A27
        let stop_sector = self.connection.version.is_some_and(|version| version.has_stop_sector());
        // The peer counts the blocks that are left and sees none missing; where the next verify begins says it here.
        let stopped = self.volumes[v].resync.verify_start > 0;
        if os.conn == VerifyS && ns.conn == Connected && (stop_sector || stopped) {
            add(Step::SendState { v, word: ns });
        }
        // A28
        if os.conn > Connected && os.conn < Ahead && (ns.conn == Connected || ns.conn >= Ahead) && disk_ok {
            add(Step::WriteBitmap { v, all: false });
        }
        // A29
        if os.conn == StandAlone && ns.conn == Unconnected {
            add(Step::StartReceiver);
        }
        // A31
        add(Step::WriteSuperBlockIfDirty { v });
        self.steps = steps;
    }

    fn run_step(&mut self, step: Step) {
        match step {
            // Where the bitmap could not be written the log must keep what it says, and the super block too.
            Step::WriteSuperBlock { v } | Step::WriteBitmap { v, .. } | Step::ZeroActivityLog { v }
                if self.attach_failed(v) => {}
            // The old meta data may be the only ones, or the new super block must go on to say that the bitmap
            // beside it is worth nothing.
            Step::WriteSuperBlock { v }
            | Step::WriteBitmap { v, .. }
            | Step::RewriteActivityLog { v }
            | Step::MetaDataMoved { v, .. }
                if self.move_failed(v) => {}
            Step::Attached { v } if self.attach_failed(v) => {
                let _ = self.change(v, Change::disk(Disk::Failed), ChangeKind::Hard, true);
            }
            Step::WriteSuperBlock { v } => self.write_super_block(v),
            Step::WriteSuperBlockIfDirty { v } => {
                if self.volumes[v].disk.as_ref().is_some_and(|disk| disk.dirty_since.is_some()) {
                    self.write_super_block(v);
                }
            }
            Step::WriteBitmap { v, all } => self.write_bitmap(v, all),
            Step::CloseEpoch => {
                self.epochs.close(self.now);
                if let Some(number) = self.epochs.take_closed(self.now) {
                    self.emit(Socket::Data, 0, Packet::Barrier(Barrier { number }), None, None);
                }
            }
            Step::AwaitPeerWrites { v } => self.fifo_wait = Some(FifoWait::PeerWrites(v)),
            Step::FlushData { v } => self.flush_data(v),
            // What had to be durable first is not: the next attach must not take the disk for better.
            Step::ReleaseMarks { v } if self.volumes[v].io_error_seen => {}
            Step::ReleaseMarks { v } => {
                if let Some(disk) = &mut self.volumes[v].disk {
                    disk.keep_primary_mark = false;
                    disk.keep_inconsistent = false;
                }
            }
            Step::ZeroActivityLog { v } => self.zero_activity_log(v),
            // The bitmap that was to say it is not on the disk.
            Step::FullSync { v, on: false } if self.volumes[v].io_error_seen => {}
            Step::FullSync { v, on } => {
                if let Some(disk) = &mut self.volumes[v].disk {
                    disk.full_sync = on;
                }
                self.volumes[v].mark_dirty(self.now);
            }
            Step::SetAllBits { v } => {
                if let Some(disk) = &mut self.volumes[v].disk {
                    disk.bitmap.set_all();
                }
            }
            Step::ClearAllBits { v } => {
                self.resume_al_updates(v);
                if let Some(disk) = &mut self.volumes[v].disk {
                    disk.bitmap.clear_all();
                }
            }
            Step::NewCurrentUuid { v } => self.new_current_uuid_after_loss(v),
            Step::NewCurrentUuidForPeer { v } => self.new_current_uuid_for_peer(v),
            Step::NewCurrentUuidDone { v } => {
                self.volumes[v].uuid_hold = false;
                // Writes of the peer may have waited for it, too.
                self.wake = true;
                self.complete_ready();
            }
            Step::SendUuids { v } => self.send_uuids(v, 0),
            Step::SendGeneration { v } => self.send_generation(v),
            Step::SendSizes { v, trigger_reply, flags } => self.send_sizes(v, trigger_reply, flags),
            Step::SendState { v, word } => {
                self.emit(Socket::Data, v, state_packet(word), None, None);
            }
            Step::SendBitmap { v } => {
                self.volumes[v].bitmap_io = self.may_send_bitmap(v);
                if self.volumes[v].bitmap_io {
                    self.fifo_wait = Some(FifoWait::Drain(v));
                }
            }
            Step::SendBitmapOfSource { v } => {
                if self.state(v).conn.is_sync_source() {
                    self.send_bitmap(v);
                }
            }
            Step::SyncUuid { v } => self.rotate_sync_uuid(v),
            // The target must not have one that this disk could not be told of. Nor does a node send one that has become the target itself.
            Step::SendSyncUuid { v, uuid }
                if self.state(v).disk > Disk::Failed && !self.becomes_target(v) =>
            {
                self.emit(Socket::Data, v, Packet::SyncUuid(uuid), None, None);
                self.sync_uuid_sent(v);
            }
            Step::SendSyncUuid { .. } => {}
            Step::Helper { v, name } => {
                let id = self.run_helper(Some(v), name, HelperThen::Fifo);
                self.fifo_wait = Some(FifoWait::Helper(id));
            }
            Step::StartHelper { v, name } => {
                self.run_helper(Some(v), name, HelperThen::Nothing);
            }
            Step::ClearCrashedPrimary { v } => {
                let volume = &mut self.volumes[v];
                volume.crashed_primary = false;
                if let Some(peer) = &mut volume.peer_uuids {
                    peer.flags = peer.flags.without_crash();
                }
                self.refresh_meta_flags(v);
            }
            Step::Thaw { v, os, ns, newest } => self.thaw(v, os, ns, newest),
            Step::StartedFullSync { v } => self.started_full_sync(v),
            Step::GoDiskless { v } => self.go_diskless(v),
            Step::ReleaseDisk { v } => {
                if self.volumes[v].disk.as_ref().is_some_and(|disk| disk.in_use > 0) {
                    // A barrier of the peer came since it became Diskless, and has it flushed.
                    self.steps.push_front(step);
                    self.fifo_wait = Some(FifoWait::DiskIdle(v));
                } else if self.volumes[v].disk.take().is_some() {
                    self.forget_activity_log(v);
                    self.out.push(Output::ReleaseDisk { volume: v });
                }
            }
            Step::StartReceiver => self.start_receiver(),
            Step::Receiver => self.receiver_step_done(),
            Step::CleanupTail => self.cleanup_tail(),
            Step::Attached { v } => self.attached(v),
            Step::ResyncGrown { v } => self.resync_grown(v),
            Step::Resize { v, order } => self.resize(v, order),
            Step::AskBackingSize { v, cause } => self.ask_backing_size(v, cause),
            Step::MoveMetaData { v, layout } => self.move_meta_data(v, layout),
            Step::RewriteActivityLog { v } => self.rewrite_activity_log(v),
            Step::MetaDataMoved { v, full_sync } => self.meta_data_moved(v, full_sync),
            Step::ChangeSize { v, cause, backing_changed } => self.change_size(v, cause, backing_changed),
            Step::ShowSize { v } => self.show_size(v),
            Step::SizeChanged { v, cause, backing_changed, change } => {
                self.size_changed(v, cause, backing_changed, change);
            }
        }
    }

    /// Runs a helper; the answer goes to `then`.
    pub(super) fn run_helper(
        &mut self,
        volume: Option<VolumeIndex>,
        name: Handler,
        then: HelperThen,
    ) -> HelperId {
        let id = self.fresh_id();
        self.helpers.insert(id, then);
        self.out.push(Output::Helper { id, name: name.name(), volume });
        id
    }

    /// Whether all that follows from changes of state waits for the end of a helper.
    pub fn waits_for_helper(&self) -> bool {
        matches!(self.fifo_wait, Some(FifoWait::Helper(_)))
    }

    /// A helper ended with this exit status.
    pub fn helper_done(&mut self, now: Millis, id: HelperId, exit_status: i32) {
        self.now = self.now.max(now);
        match self.helpers.remove(&id) {
            Some(HelperThen::Fifo) => {
                if self.fifo_wait == Some(FifoWait::Helper(id)) {
                    self.fifo_wait = None;
                }
            }
            Some(HelperThen::Handshake) => self.handshake_step_done(true),
            Some(HelperThen::StartResync { v, side }) => self.resync_handler_done(v, side, exit_status),
            Some(HelperThen::Admin { meetings }) => self.admin_helper_done(exit_status, meetings),
            Some(HelperThen::Fenced { v, meetings }) => self.fenced(v, exit_status, meetings),
            Some(HelperThen::Nothing) | None => {}
        }
        self.settle();
    }
}

/// PRIMARY_IND goes from the super block when nobody needs the activity log any more. What a Primary without a disk wrote last may wait for
/// that still, which counts only with the mark.
pub(super) fn release_primary_mark(v: VolumeIndex) -> impl Iterator<Item = Step> {
    let bitmap = (!mutant!("demotion-without-bitmap")).then_some(Step::WriteBitmap { v, all: false });
    [Some(Step::AwaitPeerWrites { v }), Some(Step::FlushData { v }), bitmap, Some(Step::ReleaseMarks { v })]
        .into_iter()
        .flatten()
}

/// Set all bits and write them; until they are on disk the super block says so instead
/// (spec/resync.md 12.4).
pub(super) fn set_all_and_write(v: VolumeIndex) -> [Step; 6] {
    [
        Step::FullSync { v, on: true },
        Step::WriteSuperBlock { v },
        Step::SetAllBits { v },
        Step::WriteBitmap { v, all: true },
        Step::FullSync { v, on: false },
        Step::WriteSuperBlock { v },
    ]
}
