//! Flushes of the application: all that it has heard of is durable, on a disk that counts. spec/wire.md 7.1, "Empty flush".
//!
//! The own disk counts if its super block says that it is good. If it is not good, the peer's does: it keeps what its barriers'
//! acknowledgements stand for. Beside another Primary, and when this node is about to give its own disk up, both have to keep it: after a
//! crash of both, either may be the one that counts. (DRBD waits for the own disk only.)

use super::rules;
use super::state::{Conn, Disk, Role};
use super::types::*;
use super::Resource;

/// A flush that is not done.
#[derive(Debug)]
pub struct Flush {
    token: Token,
    /// The own disk has not come back with it.
    at_disk: bool,
    /// The newest request of before.
    newest: u64,
    /// Both disks have to keep it.
    at_both: bool,
}

impl Resource {
    /// The application wants all that it heard of to be durable.
    pub fn flush(&mut self, now: Millis, v: VolumeIndex, token: Token) {
        self.now = self.now.max(now);
        let (state, newest) = (self.state(v), self.log.newest());
        let at_both = state.peer == Role::Primary || self.gives_disk_up(v);
        if rules::replicates(state) {
            self.epochs.close(self.now);
            if state.disk != Disk::UpToDate || at_both {
                self.flush_barrier();
            }
        }
        let at_disk = match self.usable_disk(v) {
            Some(disk) => {
                disk.in_use += 1;
                disk.flush_begins(Io::Flush(token));
                self.out.push(Output::DiskFlush { volume: v, io: Io::Flush(token) });
                true
            }
            None => false,
        };
        self.volumes[v].flushes.push(Flush { token, at_disk, newest, at_both });
        self.settle();
    }

    /// This Primary is about to give its good disk up for the peer's: what the application has had flushed on the own one may be in the cache
    /// of the peer's still. Has the peer flush it. The newest request of that; `None`: there is nothing to wait for.
    pub(super) fn flush_before_giving_up(&mut self, v: VolumeIndex) -> Option<u64> {
        let state = self.state(v);
        let counts = state.role == Role::Primary && state.disk == Disk::UpToDate;
        let newest = self.log.newest();
        if !counts || self.peer_keeps(v, newest) {
            return None;
        }
        self.epochs.close(self.now);
        self.flush_barrier();
        Some(newest)
    }

    /// Whether the peer's disk keeps what the application heard of up to this request, or is not there to keep it.
    pub(super) fn peer_keeps(&self, v: VolumeIndex, newest: u64) -> bool {
        self.state(v).conn < Conn::Connected || !self.has_completed_writes_in_open_epochs(v, newest)
    }

    /// The own disk is done with a flush.
    pub(super) fn flush_io_done(&mut self, v: VolumeIndex, token: Token, ok: bool) {
        if let Some(disk) = &mut self.volumes[v].disk {
            disk.in_use -= 1;
            disk.flush_ended(Io::Flush(token), ok);
        }
        if !ok {
            self.local_error(v, 0, 0, true);
        }
        // Refused or not: whose disk counts is decided when it is completed. One that refuses does not count any more.
        if let Some(flush) = self.volumes[v].flushes.iter_mut().find(|flush| flush.token == token) {
            flush.at_disk = false;
        }
    }

    /// Completes flushes that are done.
    pub(super) fn complete_flushes(&mut self) {
        for v in 0..self.volumes.len() {
            for flush in std::mem::take(&mut self.volumes[v].flushes) {
                match self.flush_result(v, &flush) {
                    Some(result) => self.out.push(Output::Complete { token: flush.token, result }),
                    None => self.volumes[v].flushes.push(flush),
                }
            }
        }
    }

    fn flush_result(&self, v: VolumeIndex, flush: &Flush) -> Option<Result<Option<Payload>, IoError>> {
        if flush.at_disk {
            return None;
        }
        let (volume, state) = (&self.volumes[v], self.state(v));
        // Asked for only where it counts: it looks through the transfer log.
        let at_peer = || self.has_completed_writes_in_open_epochs(v, flush.newest);
        if state.disk == Disk::UpToDate {
            let marked = volume.disk.as_ref().is_some_and(|disk| disk.good_mark_durable);
            // Without the peer: it is the new generation that says whose data count.
            let shared = flush.at_both && (volume.uuid_hold || at_peer());
            return (marked && !shared).then_some(Ok(None));
        }
        if state.is_susp() || at_peer() {
            return None;
        }
        Some(if state.pdsk == Disk::UpToDate { Ok(None) } else { Err(IoError) })
    }
}
