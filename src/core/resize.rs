//! A change of size at work: the peer's P_SIZES, the `resize` command, and internal meta data that follow the
//! end of their device. The rules are in `size.rs`. spec/state.md 12.
//!
//! Whoever asks for it, the way is the same, in steps of the fifo:
//!
//! 1. The engine looks how large the backing device is now.
//! 2. If it changed and the meta data are internal, they move to its new end.
//! 3. The size that all limits give comes into effect: bits of new space are set, bitmap and super block
//!    written. Only then the application sees a larger device.
//! 4. The peer is told, the administrator answered, a resync of the new space begins.
//!
//! Meta data at the end of a device that grew are found at their old place only by a tool that knows it
//! (`drbdmeta check-resize`), and the areas may overlap. So the move (2) goes, each write durable before the next:
//!
//! | write | a crash after it finds |
//! |---|---|
//! | – | the old meta data, complete; the tool moves them |
//! | super block at the new place with FULL_SYNC. A device that grows moves it by whole 4 KiB blocks behind the old area, of which it overwrites nothing | the new super block: a full sync, with the generation that the data have |
//! | activity log with all extents that are active | the same |
//! | all of the bitmap | the same |
//! | super block without FULL_SYNC | the new meta data, complete |
//!
//! No data are written to the old place before the end of (2), because the device is not larger before (3): not by
//! this node's application, and not by the peer, which learns the new maximum in (4). Meanwhile the log takes no new
//! extents. Nothing waits for the peer, so a frozen or lost one does not hold the move up.

use super::admin::NO_ERROR;
use super::bitmap::SECTORS_PER_BIT;
use super::codes::ConfigCode;
use super::meta_io::MetaOp;
use super::receive::Hold;
use super::rules::ChangeKind;
use super::size::{
    self, AfterSizes, DetermineInput, Limits, NewArea, NewBits, PeerSizes, ResizeFlags, SizeChange,
    SizeQuestion,
};
use super::state::{Change, Conn, Disk, Role, StateWord};
use super::steps::{FifoWait, Step, Work};
use super::types::*;
use super::volume::Volume;
use super::Resource;
use crate::meta::layout::SECTOR_BYTES;
use crate::meta::Layout;
use crate::wire::parameters::Sizes;

/// Who wants the sizes to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResizeCause {
    /// P_SIZES of the peer, which is in [`Hold::Sizes`].
    Peer(ResizeFlags),
    /// The `resize` command.
    Admin(ResizeOrder),
}

/// A `resize` command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResizeOrder {
    /// The command.
    pub id: AdminId,
    /// The user's limit from now on, sectors; 0: none.
    pub size: u64,
    /// What the user says of the peer and of new space.
    pub flags: ResizeFlags,
    /// Size of the device when the command came, sectors.
    pub shown: u64,
}

impl ResizeCause {
    fn flags(self) -> ResizeFlags {
        match self {
            ResizeCause::Peer(flags) | ResizeCause::Admin(ResizeOrder { flags, .. }) => flags,
        }
    }
}

impl Resource {
    pub(super) fn limits(&self, v: VolumeIndex) -> Limits {
        let volume = &self.volumes[v];
        let attaches = volume.state.role == Role::Primary && volume.state.disk < Disk::Negotiating;
        Limits {
            own_max: volume.disk.as_ref().map_or(0, |disk| disk.maximum),
            peer_max: volume.peer_size,
            last_agreed: volume.disk.as_ref().map_or(0, |disk| disk.super_block.effective_size_sectors),
            shown: if attaches { volume.size } else { 0 },
            user: volume.settings.size,
        }
    }

    /// P_SIZES. spec/state.md 12.4.
    pub(super) fn receive_sizes(&mut self, v: VolumeIndex, packet: Sizes) {
        let mut peer = peer_sizes(&packet);
        if self.state(v).disk < Disk::Negotiating {
            self.volumes[v].peer_user_size = if peer.d_size == 0 { 0 } else { peer.u_size };
        } else {
            peer.u_size = self.user_size_after(v, &peer);
        }
        let limits = self.limits(v);
        let accepted = match size::receive_sizes(self.state(v), &limits, self.volumes[v].size_told(), &peer) {
            Ok(accepted) => accepted,
            Err(refused) => {
                for line in refused.lines {
                    self.log_line(Some(v), line);
                }
                let _ = self.change_connection(Change::conn(Conn::Disconnecting), ChangeKind::Hard, false);
                return;
            }
        };
        let volume = &mut self.volumes[v];
        volume.size_once_accepted = None;
        volume.peer_attaches =
            volume.state.pdsk < Disk::Negotiating && peer.d_size != 0 && !peer.is_question();
        volume.peer_size = peer.d_size;
        if peer.d_size != 0 && volume.size_with_peer_disk == 0 {
            volume.size_with_peer_disk = peer.c_size;
        }
        volume.peer_max_bio = packet.max_bio_size;
        if let Some(size) = accepted.adopt_user_size {
            volume.settings.size = size;
        }
        if let Some(disk) = &mut volume.disk {
            if disk.super_block.peer_max_bio_bytes < packet.max_bio_size {
                disk.super_block.peer_max_bio_bytes = packet.max_bio_size;
            }
        }
        for line in accepted.lines {
            self.log_line(Some(v), line);
        }
        match accepted.next {
            AfterSizes::DetermineSize => {
                // What the peer says next it says about the new size.
                self.hold = Some(Hold::Sizes { v, sizes: packet });
                let cause = ResizeCause::Peer(peer.flags);
                let state = self.state(v);
                let exchange = matches!(state.conn, Conn::WFReportParams | Conn::WFBitMapS | Conn::WFBitMapT);
                // The answer to a `resize` of this node is about the size that the peer was told. (DRBD looks again: a device that has grown since shows
                // more than the peer knows of, which may just be asked for less.)
                let answers = !peer.is_question() && !self.volumes[v].size_questions.is_empty();
                self.queue_steps([if exchange || answers || state.disk == Disk::Negotiating {
                    // What this node has told the peer of its disk has to count here, too: there is no other word from either
                    // before the handshake, nor one that would come before the bitmap, and they exchange bitmaps of one size.
                    Step::ChangeSize { v, cause, backing_changed: false }
                } else {
                    Step::AskBackingSize { v, cause }
                }]);
            }
            // Its data may be refused yet. (DRBD shows the size at once.)
            AfterSizes::Expose(sectors) if peer.d_size != 0 && !knows_peer_disk(self.state(v)) => {
                self.volumes[v].size_once_accepted = Some(sectors);
            }
            AfterSizes::Expose(sectors) => {
                self.expose(v, sectors);
                self.react_to_sizes(v, &packet, false, SizeChange::Unchanged);
            }
            AfterSizes::Keep => self.react_to_sizes(v, &packet, false, SizeChange::Unchanged),
        }
    }

    /// What P_SIZES says, when it comes into effect: a `resize` of this node that was under way is over, and told.
    ///
    /// A question of the peer that crosses this node's is no answer to it, and has a word of its own about new space. If one of the two
    /// wants a resync there is one: the answer says so. (DRBD goes by what it hears, and takes the question for the answer: one node may begin
    /// a resync, and the other one not.)
    fn heed(&self, v: VolumeIndex, mut packet: Sizes) -> Sizes {
        let oldest = self.volumes[v].size_questions.front();
        if peer_sizes(&packet).is_question() && oldest.is_some_and(|question| !question.no_resync) {
            packet.dds_flags &= !Sizes::NO_RESYNC;
        }
        packet
    }

    /// The question of this node that the P_SIZES answers which is being looked at.
    fn answered_question(&self, v: VolumeIndex) -> Option<&SizeQuestion> {
        match self.hold {
            Some(Hold::Sizes { v: of, sizes }) if of == v && !peer_sizes(&sizes).is_question() => {
                self.volumes[v].size_questions.front()
            }
            _ => None,
        }
    }

    /// What this node has said of the size that its user wants, and the peer had not heard yet when it sent a word that comes now, a question or
    /// not: that limit, and the size of the device before.
    fn unheard_user_size(&self, v: VolumeIndex, is_question: bool) -> Option<(u64, u64)> {
        let Volume { size_questions: questions, size_before_resize, size_before_attach, state, .. } =
            &self.volumes[v];
        let own = self.volumes[v].settings.size;
        let before = questions.front().map(|question| question.before).or(*size_before_resize);
        match (before, questions.back()) {
            (Some(before), Some(question)) if size_before_resize.is_none() => Some((question.user, before)),
            (Some(before), _) => Some((own, before)),
            // The device has been shown in the size that the attached disk has room for.
            _ if is_question && state.disk == Disk::Negotiating && state.role == Role::Primary => {
                Some((own, *size_before_attach))
            }
            _ => None,
        }
    }

    /// The limit of the user after P_SIZES. An own word that the peer has not heard is newer than what it says, unless two users have spoken
    /// at once, or the peer is a Primary that attaches its disk, and shows that; and a peer without a disk has no limit to tell. (DRBD goes by
    /// what it hears last: where two questions cross, the nodes end with two sizes; where another word crosses one, a device grows,
    /// and shrinks again at the answer.)
    fn user_size_after(&self, v: VolumeIndex, peer: &PeerSizes) -> u64 {
        let Volume { state, settings, .. } = &self.volumes[v];
        let shows_disk = state.peer == Role::Primary && state.pdsk < Disk::Negotiating;
        match self.unheard_user_size(v, peer.is_question()) {
            _ if peer.d_size == 0 => settings.size,
            Some((own, before)) if peer.is_question() || shows_disk => {
                size::user_limit_of_both(own, peer.u_size, before)
            }
            Some(_) => settings.size,
            None => peer.u_size,
        }
    }

    /// Whether with this change the nodes would not be Connected any more, but in a resync, a verify or Ahead, before the peer is asked for the
    /// size that the device has here by now: it would not hear of it, and get writes beyond its end. (DRBD makes the change.)
    pub(super) fn leaves_peer_unasked(&self, v: VolumeIndex, change: Change) -> bool {
        self.volumes[v].size_before_resize.is_some() && leaves_connected(change)
    }

    /// Whether the peer has been asked for such a change, and may have agreed: a size that came into effect now it would not hear of.
    fn leaves_connected_if_peer_agrees(&self, v: VolumeIndex) -> bool {
        self.asks_peer_for(v).is_some_and(leaves_connected)
    }

    /// Whether the peer has asked for a size, and has no answer yet.
    fn is_asked_for_size(&self, v: VolumeIndex) -> bool {
        matches!(&self.hold, Some(Hold::Sizes { v: of, sizes }) if *of == v && peer_sizes(sizes).is_question())
    }

    /// Whether the nodes are about to agree on a size: who is the source of what is added depends on the roles.
    pub(super) fn settles_size(&self, v: VolumeIndex) -> bool {
        let state = self.state(v);
        let both_disks = state.disk >= Disk::Inconsistent && state.pdsk >= Disk::Inconsistent;
        let asked = !self.volumes[v].size_questions.is_empty();
        let asks = matches!(self.hold, Some(Hold::Sizes { v: of, .. }) if of == v);
        let looks = matches!(self.fifo_wait, Some(FifoWait::BackingSize { v: of, .. }) if of == v);
        let settles = |step: &Step| match step {
            Step::AskBackingSize { v: of, .. }
            | Step::ChangeSize { v: of, .. }
            | Step::SizeChanged { v: of, .. }
            | Step::ResyncGrown { v: of } => *of == v,
            _ => false,
        };
        state.conn == Conn::Connected && both_disks && (asked || asks || looks || self.is_queued(settles))
    }

    /// Whether such a step has yet to be done.
    fn is_queued(&self, is: impl Fn(&Step) -> bool) -> bool {
        self.steps.iter().any(&is)
            || self.fifo.iter().any(|work| matches!(work, Work::Step(step) if is(step)))
    }

    /// The `resize` command. spec/state.md 12.5.
    pub(super) fn resize(&mut self, v: VolumeIndex, order: ResizeOrder) {
        if self.state(v).conn == Conn::WFReportParams {
            // What the nodes have told each other has to count until both have heard it.
            self.volumes[v].resizes_after_handshake.push(order);
            return;
        }
        if let Err(code) = size::check_resize(self.state(v), self.apv(), order.flags) {
            return self.reply_with(order.id, code, "");
        }
        self.queue_steps([Step::AskBackingSize { v, cause: ResizeCause::Admin(order) }]);
    }

    pub(super) fn ask_backing_size(&mut self, v: VolumeIndex, cause: ResizeCause) {
        if self.volumes[v].meta_disk().is_none() {
            self.resize_failed(v, cause, ConfigCode::NoDisk, "");
            return;
        }
        self.fifo_wait = Some(FifoWait::BackingSize { v, cause });
        self.out.push(Output::AskBackingSize { volume: v });
    }

    /// How large the backing device is now; `Err`: why nobody can tell.
    pub fn backing_size(&mut self, now: Millis, v: VolumeIndex, size: Result<BackingSize, String>) {
        self.now = self.now.max(now);
        match self.fifo_wait {
            Some(FifoWait::BackingSize { v: asked, cause }) if asked == v => {
                self.fifo_wait = None;
                self.use_backing_size(v, cause, size);
            }
            _ => {}
        }
        self.settle();
    }

    fn use_backing_size(&mut self, v: VolumeIndex, cause: ResizeCause, size: Result<BackingSize, String>) {
        let size = match size {
            Ok(size) => size,
            Err(text) => return self.resize_failed(v, cause, ConfigCode::MetaDataIo, &text),
        };
        let exposed = self.volumes[v].size_to_be();
        let user = match cause {
            ResizeCause::Admin(order) => order.size,
            ResizeCause::Peer(_) => self.volumes[v].settings.size,
        };
        let Some(disk) = self.volumes[v].meta_disk() else {
            return self.resize_failed(v, cause, ConfigCode::NoDisk, "");
        };
        let old = disk.layout;
        let layout = match Layout::new(old.index, size.meta_bytes, old.log) {
            Ok(layout) => layout,
            Err(error) => {
                return self.resize_failed(v, cause, ConfigCode::DiskTooSmall, &error.to_string());
            }
        };
        let maximum = layout.usable_sectors(size.data_bytes / SECTOR_BYTES);
        let moves = (layout.md_offset, layout.bm_offset()) != (old.md_offset, old.bm_offset());
        if let Some(line) = size::implicit_shrink(maximum, exposed, user).filter(|_| moves) {
            self.log_line(Some(v), line);
            return self.resize_failed(v, cause, ConfigCode::ImplicitShrink, "");
        }
        let backing_changed = disk.maximum != maximum;
        disk.maximum = maximum;
        if moves {
            self.steps.push_back(Step::MoveMetaData { v, layout });
        }
        self.steps.push_back(Step::ChangeSize { v, cause, backing_changed });
    }

    /// The size stays. The peer that has asked for another is told what this node has.
    fn resize_failed(&mut self, v: VolumeIndex, cause: ResizeCause, code: ConfigCode, text: &str) {
        if !text.is_empty() {
            self.error(Some(v), format!("The size of the lower device is not used: {text}"));
        }
        match cause {
            ResizeCause::Admin(order) => self.reply_with(order.id, code, text),
            ResizeCause::Peer(_) => self.steps.push_back(Step::SizeChanged {
                v,
                cause,
                backing_changed: false,
                change: SizeChange::Unchanged,
            }),
        }
    }

    /// Begins to move the meta data. No other write of them may be on its way to the old place, and until all is at
    /// the new one the activity log takes no new extents.
    pub(super) fn move_meta_data(&mut self, v: VolumeIndex, layout: Layout) {
        let volume = &mut self.volumes[v];
        if volume.io_error_seen || volume.state.disk < Disk::Negotiating {
            return;
        }
        let Some(disk) = &mut volume.disk else { return };
        if disk.log_busy || disk.bitmap_busy {
            self.steps.push_front(Step::MoveMetaData { v, layout });
            self.fifo_wait = Some(FifoWait::MetaDataIdle(v));
            return;
        }
        disk.log_busy = true;
        disk.moving = true;
        disk.layout = layout;
        disk.super_block.place(&layout);
        let unsafely = mutant!("moved-without-full-sync");
        let full_sync = std::mem::replace(&mut disk.full_sync, !unsafely);
        let steps = [
            Step::WriteSuperBlock { v },
            Step::RewriteActivityLog { v },
            Step::WriteBitmap { v, all: true },
            Step::MetaDataMoved { v, full_sync },
            Step::WriteSuperBlock { v },
        ];
        for step in steps.into_iter().rev() {
            self.steps.push_front(step);
        }
        self.info(Some(v), "Writing the whole bitmap, md moved");
    }

    /// Whether a write of moving meta data has failed.
    pub(super) fn move_failed(&self, v: VolumeIndex) -> bool {
        let volume = &self.volumes[v];
        volume.io_error_seen && volume.disk.as_ref().is_some_and(|disk| disk.moving)
    }

    /// The log at its new place says what it said at the old one; what was in the area before is gone.
    pub(super) fn rewrite_activity_log(&mut self, v: VolumeIndex) {
        let Some(disk) = &mut self.volumes[v].disk else { return };
        let (writer, area) = disk.log_writer.rewritten();
        disk.log_writer = writer;
        let piece = (disk.layout.al_offset(), area);
        if let Some(id) = self.start_meta_write(v, vec![piece], MetaOp::Step) {
            self.fifo_wait = Some(FifoWait::Meta(id));
        }
    }

    pub(super) fn meta_data_moved(&mut self, v: VolumeIndex, full_sync: bool) {
        let Some(disk) = &mut self.volumes[v].disk else { return };
        disk.full_sync = full_sync;
        disk.moving = false;
        disk.log_busy = false;
        self.wake = true;
    }

    /// The size that all limits give comes into effect. spec/state.md 12.3.
    pub(super) fn change_size(&mut self, v: VolumeIndex, cause: ResizeCause, backing_changed: bool) {
        if self.volumes[v].meta_disk().is_none() {
            return self.resize_failed(v, cause, ConfigCode::NoDisk, "");
        }
        if let ResizeCause::Admin(order) = cause {
            let ResizeOrder { size, flags, .. } = order;
            let conn = self.state(v).conn;
            if conn == Conn::WFReportParams {
                // The nodes have met since the command came.
                return self.resize(v, order);
            }
            let leaves = self.volumes[v].peer_attaches || self.leaves_connected_if_peer_agrees(v);
            if conn > Conn::Connected || conn == Conn::Connected && leaves {
                // A resync has come in between, in which the peer hears of no size. Or one is about to: the peer would take this size for one
                // that was said before it had told of its disk.
                return self.resize_failed(v, cause, ConfigCode::ResizeDuringResync, "");
            }
            // The peer may have grown by a question of this node already, which grows itself when it has the answer.
            let asked = self.volumes[v].size_questions.iter().map(SizeQuestion::largest);
            let largest = asked.fold(self.volumes[v].size, u64::max);
            if let Some(line) = size::late_shrink(size, order.shown, largest) {
                self.log_line(Some(v), line);
                return self.resize_failed(v, cause, ConfigCode::ImplicitShrink, "");
            }
            if flags.assume_peer_has_space && conn < Conn::Connected {
                // What the peer said is out of date: it must limit this node no more, at the next attach or resize.
                self.volumes[v].peer_size = 0;
            }
            let (heard, before) = (self.volumes[v].settings.size, self.volumes[v].size);
            self.volumes[v].settings.size = if self.is_asked_for_size(v) {
                // The peer hears of this size before it has the answer: for it the two commands cross.
                size::user_limit_of_both(size, heard, before)
            } else {
                size
            };
            self.volumes[v].size_before_resize = Some(before);
        }
        let mut flags = match (cause, &self.hold) {
            (ResizeCause::Peer(_), Some(Hold::Sizes { sizes, .. })) => {
                peer_sizes(&self.heed(v, *sizes)).flags
            }
            _ => cause.flags(),
        };
        // A peer that assumes the space means this node's. Where the link was lost meanwhile, the peer's own room counts still.
        flags.assume_peer_has_space &= matches!(cause, ResizeCause::Admin(_));
        let (change, steps) = self.determine_size(v, flags);
        self.steps.extend(steps);
        self.steps.push_back(Step::SizeChanged { v, cause, backing_changed, change });
    }

    /// Looks at all sizes again; the result counts here at once. What is returned has to be done then.
    pub(super) fn determine_size(
        &mut self,
        v: VolumeIndex,
        flags: ResizeFlags,
    ) -> (SizeChange, impl Iterator<Item = Step>) {
        let mut steps = [None; 3];
        let volume = &self.volumes[v];
        let exposed = volume.size_to_be();
        let Some(disk) = &volume.disk else { return (SizeChange::Unchanged, steps.into_iter().flatten()) };
        let mut limits = self.limits(v);
        if let Some(question) = self.answered_question(v) {
            // By more of this disk the peer grows when it hears of the question behind that one, whose flags count then. (DRBD takes all that it
            // has: one node may begin a resync of the new space, and the other one not.)
            limits.own_max = limits.own_max.min(question.room.max(exposed));
        }
        let plan = size::determine_size(&DetermineInput {
            limits,
            conn: volume.state.conn,
            flags,
            exposed,
            bitmap_sectors: if disk.bitmap.bits() == exposed.div_ceil(8) { exposed } else { 0 },
        });
        for line in plan.lines {
            self.log_line(Some(v), line);
        }
        if let (Some(bits), Some(disk)) = (plan.resize_bitmap, &mut self.volumes[v].disk) {
            let agreed = disk.super_block.effective_size_sectors;
            disk.bitmap.resize(plan.sectors, bits == NewBits::Set);
            let partial = agreed % SECTORS_PER_BIT != 0 && !mutant!("partial-last-block-not-marked");
            if bits == NewBits::Set && agreed < plan.sectors && partial {
                // The last block was a part of one; the rest of it is new.
                disk.bitmap.set_sectors(agreed, 1);
            }
            let resync = &mut self.volumes[v].resync;
            if bits == NewBits::Set && resync.target_done {
                resync.added_behind_end.get_or_insert(agreed / SECTORS_PER_BIT * SECTORS_PER_BIT);
            }
        }
        if let Some(line) = plan.resized_line {
            self.log_line(Some(v), line);
        }
        if plan.change == SizeChange::Grew {
            self.volumes[v].grown_from = exposed;
        }
        let volume = &mut self.volumes[v];
        let waits = volume.size_with_disk.is_some();
        *volume.size_with_disk.as_mut().unwrap_or(&mut volume.size) = plan.sectors;
        let writes = plan.write_bitmap.is_some();
        if let Some(line) = plan.write_bitmap {
            self.log_line(Some(v), line);
            if let Some(disk) = &mut self.volumes[v].disk {
                disk.super_block.effective_size_sectors = plan.sectors;
            }
            steps[0] = Some(Step::WriteBitmap { v, all: false });
            steps[1] = Some(Step::WriteSuperBlock { v });
        }
        // An application that has used new space finds it there after a crash: it sees it when the size is on
        // disk. What is cut off it must not use any more.
        if waits {
            // It is shown when the disk is used, or the peer has heard of it: `use_size_with_disk`.
        } else if plan.sectors > exposed && writes && !mutant!("new-size-shown-early") {
            steps[2] = Some(Step::ShowSize { v });
        } else if plan.sectors != exposed {
            self.show_size(v);
        }
        (plan.change, steps.into_iter().flatten())
    }

    /// The attached disk is used, or the peer has heard of it: the device has its size, and shows that when what is being written of it is
    /// durable.
    pub(super) fn use_size_with_disk(&mut self, v: VolumeIndex) {
        let volume = &mut self.volumes[v];
        let Some(sectors) = volume.size_with_disk.take() else { return };
        if std::mem::replace(&mut volume.size, sectors) != sectors {
            self.queue_steps([Step::ShowSize { v }]);
        }
    }

    /// Without a disk the device is as large as the peer says, once its data are accepted.
    pub(super) fn expose_accepted_size(&mut self, v: VolumeIndex, os: StateWord, ns: StateWord) {
        if ns.disk >= Disk::Negotiating || knows_peer_disk(os) || !knows_peer_disk(ns) {
            return;
        }
        if let Some(sectors) = self.volumes[v].size_once_accepted.take() {
            self.expose(v, sectors);
        }
    }

    fn expose(&mut self, v: VolumeIndex, sectors: u64) {
        if knows_peer_disk(self.state(v)) {
            self.volumes[v].size_before_attach = sectors;
        }
        if self.volumes[v].size != sectors {
            self.volumes[v].size = sectors;
            self.show_size(v);
        }
    }

    pub(super) fn show_size(&mut self, v: VolumeIndex) {
        self.out.push(Output::Resize { volume: v, sectors: self.volumes[v].size });
    }

    /// The size is in effect, and durable. spec/state.md 12.4 step 7, and 12.5.
    pub(super) fn size_changed(
        &mut self,
        v: VolumeIndex,
        cause: ResizeCause,
        backing_changed: bool,
        change: SizeChange,
    ) {
        match cause {
            ResizeCause::Peer(_) => {
                // Else the connection was lost meanwhile.
                if let Some(Hold::Sizes { sizes, .. }) = self.hold {
                    self.hold = None;
                    self.react_to_sizes(v, &sizes, backing_changed, change);
                }
            }
            ResizeCause::Admin(ResizeOrder { id, flags, .. }) => {
                let before = self.volumes[v].size_before_resize.take();
                if self.state(v).conn == Conn::Connected {
                    let volume = &self.volumes[v];
                    let question = SizeQuestion {
                        user: volume.settings.size,
                        before: before.unwrap_or(volume.size),
                        room: self.limits(v).own_max,
                        grown_from: (change == SizeChange::Grew).then_some(volume.grown_from),
                        no_resync: flags.no_resync,
                    };
                    self.volumes[v].size_questions.push_back(question);
                    let mut dds_flags = 0;
                    if flags.assume_peer_has_space {
                        dds_flags |= Sizes::FORCED;
                    }
                    if flags.no_resync {
                        dds_flags |= Sizes::NO_RESYNC;
                    }
                    self.send_uuids(v, 0);
                    self.send_sizes(v, true, dds_flags);
                }
                self.start_unless_it_waits(v);
                // So may a request of this node.
                self.changes += 1;
                self.reply_after_fifo(id, NO_ERROR);
            }
        }
    }

    /// What follows from P_SIZES once the size is in effect. spec/state.md 12.4 step 7.
    fn react_to_sizes(&mut self, v: VolumeIndex, packet: &Sizes, backing_changed: bool, change: SizeChange) {
        let exposed = self.volumes[v].size_told();
        let packet = &self.heed(v, *packet);
        let peer = peer_sizes(packet);
        let questions = &mut self.volumes[v].size_questions;
        let question = if peer.is_question() { None } else { questions.pop_front() };
        // Where another size has crossed this node's, the device may be as small again.
        let grown_from = question.and_then(|question| question.grown_from).filter(|from| *from < exposed);
        let answered = grown_from.is_some();
        let mut state = self.state(v);
        if self.volumes[v].resync.added_behind_end.is_some() {
            // For the peer, which is done with the resync, it is over.
            state.conn = Conn::Connected;
        }
        let reaction = size::after_sizes(state, &peer, exposed, backing_changed, answered, change);
        if reaction.send_sizes {
            self.send_sizes(v, false, packet.dds_flags);
        }
        let not_marked = question.is_some_and(|question| question.no_resync) && !peer.flags.no_resync;
        if let (Some(from), true, Some(disk)) = (grown_from, not_marked, &mut self.volumes[v].disk) {
            disk.bitmap.set_sectors(from, exposed.saturating_sub(from));
            self.queue_steps([Step::WriteBitmap { v, all: false }]);
        }
        match reaction.new_area {
            Some(NewArea::Resync) if mutant!("new-space-not-resynced") => {}
            Some(NewArea::Resync) => self.queue_steps([Step::ResyncGrown { v }]),
            Some(NewArea::AssumeClean) => self.info(Some(v), size::ASSUME_CLEAN),
            Some(NewArea::AfterNegotiation) => self.volumes[v].resync_after_negotiation = true,
            None => {}
        }
    }
}

/// Whether the nodes are connected, and the peer has a disk that is not just being attached.
pub(super) fn knows_peer_disk(state: StateWord) -> bool {
    state.conn >= Conn::Connected && state.pdsk > Disk::Failed
}

/// Whether from Connected this leads to a state in which the peer is asked for no size.
fn leaves_connected(change: Change) -> bool {
    change.conn.is_some_and(|conn| conn > Conn::Connected)
}

fn peer_sizes(packet: &Sizes) -> PeerSizes {
    let flags = ResizeFlags {
        assume_peer_has_space: packet.dds_flags & Sizes::FORCED != 0,
        no_resync: packet.dds_flags & Sizes::NO_RESYNC != 0,
    };
    PeerSizes { d_size: packet.d_size, u_size: packet.u_size, c_size: packet.c_size, flags }
}
