//! Taking a disk and giving it up. spec/state.md 13.2 to 13.5.

use super::activity_log::{ActivityLog, BITS_PER_EXTENT};
use super::bitmap::Bitmap;
use super::codes::ConfigCode;
use super::connection::Phase;
use super::metadata_flags::{bitmap_at_attach, disk_after_attach, last_life, BitmapAtAttach};
use super::resize::knows_peer_disk;
use super::rules::ChangeKind;
use super::size::{check_truncation, new_size, smaller_unless_zero, Limits, ResizeFlags, SizeChange};
use super::state::{Change, Conn, Disk, Role};
use super::steps::{set_all_and_write, FifoWait, Step, Work};
use super::types::*;
use super::uuid::{self, Uuids};
use super::volume::{Flushed, LocalDisk};
use super::Resource;
use crate::meta::activity_log::LogWriter;
use crate::meta::super_block::Cleanness;
use crate::meta::{MetaFlags, SuperBlock};

impl Resource {
    /// Whether a disk may be attached to the volume now; the engine asks before it opens one.
    pub fn may_attach(&self, v: VolumeIndex) -> Result<(), ConfigCode> {
        let volume = &self.volumes[v];
        if volume.state.disk > Disk::Diskless || volume.disk.is_some() {
            return Err(ConfigCode::DiskConfigured);
        }
        Ok(())
    }

    /// Attaches a disk that the engine opened, steps 9 to 25 of spec/state.md 13.3. The answer
    /// comes when all is durable. `Err`: refused, the engine keeps the disk.
    pub(super) fn attach(&mut self, id: AdminId, v: VolumeIndex, disk: AttachedDisk) -> Result<(), i32> {
        self.may_attach(v).map_err(ConfigCode::number)?;
        let AttachedDisk {
            settings,
            super_block,
            layout,
            maximum,
            hot_extents,
            log_lines,
            bitmap,
            can_discard,
            ..
        } = disk;
        let state = self.state(v);
        if maximum < settings.size {
            self.error(Some(v), format!("max capacity {maximum} smaller than disk size {}", settings.size));
            return Err(ConfigCode::DiskTooSmall.number());
        }
        if maximum < self.volumes[v].size {
            return Err(ConfigCode::DiskTooSmall.number());
        }
        let uuids = Uuids::from_slots(super_block.uuids);
        if self.has_lost_other_data(v, uuids.current) {
            return Err(ConfigCode::DataNotCurrent.number());
        }
        self.volumes[v].settings = settings;
        self.heed_user_of_peer(v, super_block.flags, super_block.effective_size_sectors, uuids.current);
        let mut limits = self.limits(v);
        limits.own_max = maximum;
        limits.last_agreed = super_block.effective_size_sectors;
        self.refuse_truncation(v, super_block.flags, &limits).map_err(ConfigCode::number)?;
        let change = Change::disk(Disk::Attaching);
        self.change(v, change, ChangeKind::Soft, true).map_err(|error| error.code())?;
        for (level, text) in log_lines {
            self.out.push(Output::Log { level, volume: Some(v), text });
        }

        let mut super_block = super_block;
        super_block.place(&layout);
        let life = last_life(super_block.flags, state);
        let slots = self.volumes[v].settings.al_extents;
        let log_writer = LogWriter::new(layout.log, slots, disk.logical_block_bytes as usize);
        if log_writer.slots() < slots {
            let text =
                format!("al-extents {slots} cut to {}: the log on disk holds no more", log_writer.slots());
            self.info(Some(v), text);
        }
        // What a damaged super block says must not decide about memory.
        let agreed = super_block.effective_size_sectors.min(maximum);
        let at_attach = bitmap_at_attach(super_block.flags, life);
        let is_marked_good = super_block.calls_disk_good();
        let volume = &mut self.volumes[v];
        volume.settings.al_extents = log_writer.slots();
        volume.crashed_primary = life.crashed_primary;
        volume.left_by_crash = life.discovered;
        volume.degraded = life.degraded;
        volume.force_detach = false;
        volume.io_error_seen = false;
        volume.attach_refused = None;
        volume.al_suspended = false;
        volume.disk = Some(LocalDisk {
            activity_log: ActivityLog::new(log_writer.slots(), &[]),
            log_writer,
            layout,
            maximum,
            can_discard,
            uuids,
            bitmap: Bitmap::from_words(agreed, bitmap),
            dirty_since: None,
            log_busy: false,
            bitmap_busy: false,
            eviction_waits: None,
            full_sync: super_block.flags.contains(MetaFlags::FULL_SYNC),
            moving: false,
            in_use: 0,
            read_error: false,
            meta_failed: false,
            unflushed: false,
            peer_needs_flush: false,
            flushed: Flushed::default(),
            flushes: Vec::new(),
            primary_mark_durable: false,
            good_mark_durable: is_marked_good,
            may_be_marked_good: is_marked_good,
            keep_primary_mark: false,
            keep_inconsistent: false,
            unheard_target: uuids.unfinished_resync(),
            lacked_by_peer: false,
            super_block: SuperBlock { cleanness: Cleanness::Clean, ..super_block },
        });
        // The peer may still have to hear of the disk before this one.
        let size = volume.size_to_be();
        volume.size_before_attach = if knows_peer_disk(volume.state) { size } else { 0 };
        // The size that was agreed last is exposed until the peer says otherwise.
        volume.size_with_disk = Some(size.max(agreed));
        volume.resync_after_negotiation = false;
        // What is under way was for the disk before, or for none, and may come to blocks that have changed since.
        self.writes_come_too_late_for_sync(v);
        let steps = self.size_at_attach(v);
        self.queue_steps(steps);

        let mark = match at_attach {
            BitmapAtAttach::SetAll => {
                self.info(Some(v), "Assuming that all blocks are out of sync (aka FullSync)");
                self.queue_steps(set_all_and_write(v));
                false
            }
            BitmapAtAttach::Read { mark_active_extents } => mark_active_extents,
        };
        match hot_extents {
            Some(hot) if mark && !mutant!("hot-extents-not-marked") => self.mark_hot_extents(v, &hot),
            None if mark => {
                self.warning(Some(v), "The activity log is damaged: all blocks count as out of sync.");
                self.queue_steps(set_all_and_write(v));
            }
            _ => {}
        }
        // The bits are durable before the log that says the same is emptied, and the log before the
        // super block loses the mark of a Primary (spec/metadata.md 13). The super block in front of
        // the log takes 8.4's "unclean" magic away: with it an empty log would count as a lost one.
        if mutant!("log-emptied-first") {
            self.queue_steps([Step::ZeroActivityLog { v }]);
        }
        // What a daemon that died has had written, for a peer perhaps that has died since, may be in the cache still.
        if !mutant!("lost-epoch-not-flushed") {
            self.queue_steps([Step::FlushData { v }]);
        }
        self.queue_steps([
            Step::WriteBitmap { v, all: false },
            Step::WriteSuperBlock { v },
            Step::ZeroActivityLog { v },
            Step::Attached { v },
            Step::WriteSuperBlock { v },
        ]);
        self.queue_work(Work::Admin(super::admin::AdminWait::Attached { id, v }));
        Ok(())
    }

    /// `al-extents` was set, in 8.3 by `syncer` after `disk`: takes effect at once as long as nothing was written that
    /// needs the log, else at the next attach. spec/drbdsetup.md 3.2.
    ///
    /// The number has to be in the super block before the first transaction. While both nodes are Secondary it will be:
    /// before the first write comes the super block with PRIMARY_IND, behind this one in the fifo.
    pub(super) fn resize_activity_log(&mut self, v: VolumeIndex) {
        let volume = &mut self.volumes[v];
        let wanted = volume.settings.al_extents;
        let Some(disk) = &mut volume.disk else { return };
        let now = disk.activity_log.len();
        volume.settings.al_extents = now;
        if wanted == now {
            return;
        }
        let idle = volume.state.role != Role::Primary && volume.state.peer != Role::Primary && !disk.log_busy;
        let writer = disk.log_writer.resized(wanted).filter(|_| idle && disk.activity_log.is_empty());
        let Some(writer) = writer else {
            return self
                .info(Some(v), format!("al-extents {wanted}: {now} stay in use until the next attach"));
        };
        let slots = writer.slots();
        volume.settings.al_extents = slots;
        disk.activity_log = ActivityLog::new(slots, &[]);
        disk.log_writer = writer;
        if slots < wanted {
            self.info(Some(v), format!("al-extents {wanted} cut to {slots}: the log on disk holds no more"));
        }
        self.queue_steps([Step::WriteSuperBlock { v }]);
    }

    fn mark_hot_extents(&mut self, v: VolumeIndex, hot: &[u32]) {
        let Some(disk) = &mut self.volumes[v].disk else { return };
        let mut marked = 0;
        for extent in hot {
            let first = u64::from(*extent) * BITS_PER_EXTENT;
            if first < disk.bitmap.bits() {
                marked += disk.bitmap.set_bits(first, first + BITS_PER_EXTENT - 1);
            }
        }
        let size = super::log_lines::pretty_kib(marked * 4);
        self.info(Some(v), format!("Marked additional {size} as out-of-sync based on AL."));
    }

    /// A consistent disk is not attached if that would cut off a part of it (step 14).
    fn refuse_truncation(
        &mut self,
        v: VolumeIndex,
        flags: MetaFlags,
        limits: &Limits,
    ) -> Result<(), ConfigCode> {
        if !flags.contains(MetaFlags::CONSISTENT) {
            return Ok(());
        }
        let size = new_size(limits, self.state(v).conn, false).sectors;
        let (result, line) = match check_truncation(size, limits) {
            Ok(line) => (Ok(()), line),
            Err((code, line)) => (Err(code), Some(line)),
        };
        if let Some(line) = line {
            self.log_line(Some(v), line);
        }
        result
    }

    /// A disk that is attached beside one whose device was limited takes part in that. (DRBD tells the peer of no limit, which is lost then:
    /// the device grows.) But it loses nothing by that which the peer's data lack: its user has not meant that.
    /// `agreed`: the size of the disk, sectors.
    fn heed_user_of_peer(&mut self, v: VolumeIndex, flags: MetaFlags, agreed: u64, current: u64) {
        let volume = &mut self.volumes[v];
        let is_newer = flags.contains(MetaFlags::CONSISTENT)
            && volume.peer_uuids.is_some_and(|peer| !peer.uuids.has(current));
        let cuts = volume.peer_user_size < agreed;
        if knows_peer_disk(volume.state) && !(is_newer && cuts) {
            volume.settings.size = smaller_unless_zero(volume.settings.size, volume.peer_user_size);
        }
    }

    /// The size that all limits give comes into effect (step 20). What is new is resynced, unless the peer has had it since the two met, or
    /// since its disk came: it sees nothing new, and takes part in no resync. So is what the peer's device has not had before, though the
    /// own disk was larger already. (DRBD goes by the own disk only: then one of the two alone waits for the resync.)
    fn size_at_attach(&mut self, v: VolumeIndex) -> impl Iterator<Item = Step> {
        let (change, steps) = self.determine_size(v, ResizeFlags::default());
        let volume = &mut self.volumes[v];
        let size = volume.size_to_be();
        let new_for_disk = change == SizeChange::Grew && size > volume.size_with_peer_disk;
        // The peer may have told of its disk, and be about to say that it uses it.
        let before = volume.size_once_accepted.unwrap_or(volume.size_before_attach);
        let new_for_peer = before != 0 && size > before;
        volume.resync_after_negotiation |= new_for_disk || new_for_peer;
        steps
    }

    /// Bitmap and log are in order: the state of the disk shows (steps 23 to 25).
    pub(super) fn attached(&mut self, v: VolumeIndex) {
        let Some(disk) = &self.volumes[v].disk else { return };
        let (flags, current) = (disk.super_block.flags, disk.uuids.current);
        let agreed = disk.super_block.effective_size_sectors;
        // Asked before, but the peer with the data in use may have gone since, or have told how large its disk is.
        self.heed_user_of_peer(v, flags, agreed, current);
        let limits = self.limits(v);
        let refused = if self.volumes[v].force_detach {
            Some(ConfigCode::Interrupted)
        } else if self.has_lost_other_data(v, current) {
            Some(ConfigCode::DataNotCurrent)
        } else if limits.own_max < self.volumes[v].size {
            Some(ConfigCode::DiskTooSmall)
        } else {
            self.refuse_truncation(v, flags, &limits).err()
        };
        if refused.is_some() {
            self.volumes[v].attach_refused = refused;
            let _ = self.change(v, Change::disk(Disk::Failed), ChangeKind::Hard, true);
            return;
        }
        let mut steps = self.size_at_attach(v).peekable();
        if steps.peek().is_some() {
            self.steps.extend(steps);
            self.steps.push_back(Step::Attached { v });
            return;
        }
        let Some(disk) = &self.volumes[v].disk else { return };
        let (weight, bits) = (disk.bitmap.weight(), disk.bitmap.bits());
        let kib = super::log_lines::pretty_kib(weight * 4);
        self.info(Some(v), format!("{kib} ({weight} bits) marked out-of-sync by on disk bit-map."));
        let state = self.state(v);
        if weight == bits && bits > 0 && state.conn < Conn::Connected {
            self.volumes[v].al_suspended = true;
            self.info(Some(v), "Suspended AL updates");
        }
        let (disk_state, pdsk) = disk_after_attach(flags, self.fencing(v));
        let change = if state.conn == Conn::Connected {
            self.volumes[v].negotiation = Some((disk_state, pdsk));
            self.volumes[v].peer_uuids = None;
            Change::disk(Disk::Negotiating)
        } else {
            self.volumes[v].negotiation = None;
            let change = Change::disk(disk_state);
            if pdsk == Disk::Outdated {
                change.and(Change::pdsk(pdsk))
            } else {
                change
            }
        };
        let role = state.role;
        if let Some(disk) = &mut self.volumes[v].disk {
            disk.uuids.set_role(role);
        }
        if self.change(v, change, ChangeKind::Soft, true).is_err() {
            let _ = self.change(v, Change::disk(Disk::Diskless), ChangeKind::Hard, false);
        }
    }

    /// Whether the data that this node or its peer works with are other ones than these, and out of
    /// reach. Logged.
    fn has_lost_other_data(&mut self, v: VolumeIndex, current: u64) -> bool {
        let (state, effective) = (self.state(v), self.volumes[v].effective_uuid);
        let newer =
            self.volumes[v].wrote_without_disk && state.role == Role::Primary && state.pdsk != Disk::UpToDate;
        let lost =
            uuid::refuses_attach(state, effective, current) && !mutant!("other-data-attached") || newer;
        if lost {
            self.log_other_data(v);
        }
        lost
    }

    /// Why a disk is refused: the node or its peer works with other data.
    pub(super) fn log_other_data(&mut self, v: VolumeIndex) {
        let exposed = self.volumes[v].effective_uuid;
        self.error(Some(v), format!("Can only attach to data with current UUID={exposed:016X}"));
    }

    /// Whether a write of meta data has failed during an attach.
    pub(super) fn attach_failed(&self, v: VolumeIndex) -> bool {
        self.state(v).disk == Disk::Attaching && self.volumes[v].io_error_seen
    }

    /// All references to a failed disk are to go, then the disk (spec/state.md 13.5).
    pub(super) fn go_diskless(&mut self, v: VolumeIndex) {
        let works = !self.volumes[v].io_error_seen && !self.volumes[v].force_detach;
        let linked = self.connection.phase == Phase::Up;
        let barrier_to_come = linked && self.peer_epochs.has_writes() && self.data_needs_flushes(v);
        let Some(disk) = &mut self.volumes[v].disk else { return };
        if disk.in_use > 0 {
            self.steps.push_front(Step::GoDiskless { v });
            self.fifo_wait = Some(FifoWait::DiskIdle(v));
            return;
        }
        if disk.peer_needs_flush && barrier_to_come {
            // Of these writes the peer has the acknowledgement, and the barrier is still to come, whatever it is that the
            // disk goes for. If they cannot be made durable, the peer has to learn it: see `epoch_flushed`.
            self.steps.push_front(Step::GoDiskless { v });
            if self.volumes[v].force_detach {
                self.lose_epoch();
            } else {
                self.flush_for_epoch(v);
                self.fifo_wait = Some(FifoWait::DiskIdle(v));
            }
            return;
        }
        if std::mem::take(&mut disk.unflushed) && works {
            // Without the disk this node answers barriers at once: the peer takes the data for durable
            // and keeps no record of them.
            self.steps.push_front(Step::GoDiskless { v });
            self.flush_data(v);
            return;
        }
        let dirty = !disk.bitmap.dirty_pages(true).is_empty();
        // What failed may be the data alone: the bits may still find their way.
        if dirty && !disk.meta_failed {
            self.steps.push_front(Step::GoDiskless { v });
            self.write_bitmap(v, false);
            return;
        }
        if dirty && disk.read_error && !disk.full_sync {
            // Blocks that could not be read are marked here only: the peer wrote them without an error, and
            // there is no activity log that stands for them.
            disk.full_sync = true;
            self.steps.push_front(Step::GoDiskless { v });
            self.write_super_block(v);
            return;
        }
        let _ = self.change(v, Change::disk(Disk::Diskless), ChangeKind::Hard, false);
    }

    /// Refreshes what follows from a new role: bit 0 of the current UUID.
    pub(super) fn uuid_follows_role(&mut self, v: VolumeIndex, role: Role) {
        if let Some(disk) = &mut self.volumes[v].disk {
            disk.uuids.set_role(role);
        }
    }
}
