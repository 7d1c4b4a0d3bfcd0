//! Application requests and the transfer log: who waits for what.
//!
//! The log holds every application request from admission until nothing can happen to it any
//! more; its order is the order of P_DATA on the wire. spec/wire.md 7.3.

use super::types::{Millis, Payload, Token, VolumeIndex};
use std::collections::VecDeque;

/// What an application asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Read.
    Read,
    /// Write; `fua`: durable before it completes.
    Write {
        /// Durable before it completes.
        fua: bool,
    },
    /// Discard; `zeroes`: the range must read as zeroes.
    Discard {
        /// The range must read as zeroes.
        zeroes: bool,
    },
}

/// To whom a request reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// To the application.
    Application(Token),
    /// To the request that it is a part of: index and byte offset in it.
    Part {
        /// Slot of the whole.
        whole: u32,
        /// Where the part begins, in bytes.
        offset: u32,
    },
}

/// An application request (or a part of one that was too big).
#[derive(Debug)]
pub struct Request {
    /// The volume.
    pub volume: VolumeIndex,
    /// What is asked for.
    pub kind: Kind,
    /// First sector.
    pub sector: u64,
    /// Length in bytes.
    pub bytes: u32,
    /// The bytes to write; the bytes read, once they are there.
    pub payload: Option<Payload>,
    /// To whom it reports.
    pub completion: Completion,
    /// When it was admitted.
    pub started: Millis,
    /// When it went to the peer.
    pub sent_at: Millis,
    /// Number of its epoch.
    pub epoch: u32,
    /// LP: the local disk has it.
    pub local_pending: bool,
    /// LO: the local disk did it.
    pub local_ok: bool,
    /// NP: the peer owes an answer.
    pub net_pending: bool,
    /// NQ: waits in the queue of the data socket.
    pub net_queued: bool,
    /// NS: was sent.
    pub net_sent: bool,
    /// NK: the peer did it.
    pub net_ok: bool,
    /// The peer had good data when it was sent: else the next resync overwrites them there.
    pub net_good: bool,
    /// ND: nothing more will come from the peer.
    pub net_done: bool,
    /// SIS: the peer says that the blocks are in sync.
    pub set_in_sync: bool,
    /// Bitmaps were exchanged, or its blocks written here only, or there only, since it was sent: what the peer says about it in
    /// [`set_in_sync`](Self::set_in_sync) comes too late to count.
    pub too_old_for_sync: bool,
    /// The peer's disk went before its barrier was acknowledged: nobody flushes a disk that failed.
    pub peer_disk_went: bool,
    /// Its bits were in the bitmap that this node sent as a source: the resync takes care of it.
    pub in_sent_bitmap: bool,
    /// It is mirrored: goes into an epoch, leaves the log after its barrier's acknowledgement.
    pub replicated: bool,
    /// It was announced by P_OUT_OF_SYNC instead.
    pub announced: bool,
    /// The arbiter of two Primaries wants it again, later.
    pub postponed: bool,
    /// The peer has written to some of its blocks since, behind it on both disks.
    pub overwritten: bool,
    /// The application knows.
    pub completed: bool,
    /// It holds a reference in the activity log.
    pub in_activity_log: bool,
    /// It is done once more, and this disk has it of the first time.
    pub done_before: bool,
}

impl Request {
    /// A request that has not been admitted yet.
    pub fn new(
        volume: VolumeIndex,
        kind: Kind,
        sector: u64,
        bytes: u32,
        payload: Option<Payload>,
        completion: Completion,
    ) -> Request {
        Request {
            volume,
            kind,
            sector,
            bytes,
            payload,
            completion,
            started: 0,
            sent_at: 0,
            epoch: 0,
            local_pending: false,
            local_ok: false,
            net_pending: false,
            net_queued: false,
            net_sent: false,
            net_ok: false,
            net_good: false,
            net_done: false,
            set_in_sync: false,
            too_old_for_sync: false,
            peer_disk_went: false,
            in_sent_bitmap: false,
            replicated: false,
            announced: false,
            postponed: false,
            overwritten: false,
            completed: false,
            in_activity_log: false,
            done_before: false,
        }
    }

    /// Length in sectors.
    pub fn sectors(&self) -> u64 {
        u64::from(self.bytes) / 512
    }

    /// Whether it changes data.
    pub fn is_write(&self) -> bool {
        self.kind != Kind::Read
    }

    /// Whether its bytes are gone, or come behind newer ones: it can no longer be sent to the peer, only marked.
    pub fn is_too_late_to_send(&self) -> bool {
        matches!(self.kind, Kind::Write { .. }) && self.payload.is_none() || self.overwritten
    }

    /// Whether nothing holds its completion back but a suspension of I/O.
    pub fn may_complete(&self) -> bool {
        let at_peer =
            (self.net_pending || self.net_queued) && !(self.is_write() && mutant!("completes-before-peer"));
        let at_disk = self.local_pending && !(self.is_write() && mutant!("completes-before-disk"));
        !self.completed && !self.postponed && !at_disk && !at_peer
    }

    /// Whether it is a mirrored write that the application knows of, and that the peer could not do.
    pub fn is_refused(&self) -> bool {
        self.is_write() && self.replicated && self.completed && !self.net_pending && !self.net_ok
    }

    /// Whether nothing can happen to it any more.
    pub fn may_leave(&self) -> bool {
        self.completed && !self.local_pending && (!(self.replicated || self.announced) || self.net_done)
    }
}

/// Requests by number; numbers ascend in the order of admission and are never used twice.
#[derive(Debug, Default)]
pub struct TransferLog {
    first: u64,
    entries: VecDeque<Option<Request>>,
    len: usize,
}

impl TransferLog {
    /// Adds a request and returns its number. Numbers begin at 1.
    pub fn push(&mut self, request: Request) -> u64 {
        if self.first == 0 {
            self.first = 1;
        }
        self.entries.push_back(Some(request));
        self.len += 1;
        self.first + self.entries.len() as u64 - 1
    }

    /// The number of the newest request that ever was here.
    pub fn newest(&self) -> u64 {
        (self.first + self.entries.len() as u64).saturating_sub(1)
    }

    /// The request with this number, if it is still there.
    pub fn get(&self, id: u64) -> Option<&Request> {
        self.entries.get(usize::try_from(id.checked_sub(self.first)?).ok()?)?.as_ref()
    }

    /// The request with this number, if it is still there.
    pub fn get_mut(&mut self, id: u64) -> Option<&mut Request> {
        self.entries.get_mut(usize::try_from(id.checked_sub(self.first)?).ok()?)?.as_mut()
    }

    /// Takes a request out.
    pub fn remove(&mut self, id: u64) -> Option<Request> {
        let index = usize::try_from(id.checked_sub(self.first)?).ok()?;
        let request = self.entries.get_mut(index)?.take()?;
        self.len -= 1;
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.first += 1;
        }
        Some(request)
    }

    /// All requests in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Request)> {
        (self.first..).zip(&self.entries).filter_map(|(id, r)| r.as_ref().map(|r| (id, r)))
    }

    /// Numbers of all requests in order; the requests may be changed while walking along them.
    pub fn ids(&self) -> Vec<u64> {
        self.iter().map(|(id, _)| id).collect()
    }

    /// Number of requests.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no request is there.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A request that was cut into parts.
#[derive(Debug)]
pub struct Whole {
    /// The application's name for it.
    pub token: Token,
    /// Parts that are not complete.
    pub left: u32,
    /// Whether a part failed.
    pub failed: bool,
    /// Where the parts of a read are put together.
    pub read: Option<crate::sys::buffer::Buffer>,
}

/// Values under small numbers that are used again.
#[derive(Debug)]
pub struct Slab<T> {
    entries: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Adds a value and returns its number.
    pub fn insert(&mut self, value: T) -> u32 {
        match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = Some(value);
                index
            }
            None => {
                self.entries.push(Some(value));
                (self.entries.len() - 1) as u32
            }
        }
    }

    /// The value under this number.
    pub fn get(&self, index: u32) -> Option<&T> {
        self.entries.get(index as usize)?.as_ref()
    }

    /// The value under this number.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.entries.get_mut(index as usize)?.as_mut()
    }

    /// Takes the value under this number out.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let value = self.entries.get_mut(index as usize)?.take()?;
        self.free.push(index);
        Some(value)
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All values, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().flatten()
    }

    /// All values with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0u32..).zip(&self.entries).filter_map(|(i, v)| v.as_ref().map(|v| (i, v)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(sector: u64) -> Request {
        Request::new(0, Kind::Read, sector, 512, None, Completion::Application(sector))
    }

    #[test]
    fn numbers_stay_valid_while_others_leave() {
        let mut log = TransferLog::default();
        let ids: Vec<u64> = (0..4).map(|s| log.push(request(s))).collect();
        assert_eq!(ids, vec![1, 2, 3, 4]);
        assert_eq!(log.remove(2).unwrap().sector, 1);
        assert_eq!(log.remove(1).unwrap().sector, 0);
        assert!(log.get(1).is_none() && log.get(2).is_none());
        assert_eq!(log.get(3).unwrap().sector, 2);
        assert_eq!(log.push(request(9)), 5);
        assert_eq!(log.ids(), vec![3, 4, 5]);
        assert_eq!(log.len(), 3);
        assert!(log.remove(2).is_none());
    }

    #[test]
    fn slab_numbers_are_used_again() {
        let mut slab = Slab::default();
        let a = slab.insert('a');
        let b = slab.insert('b');
        assert_eq!(slab.remove(a), Some('a'));
        assert_eq!(slab.remove(a), None);
        assert_eq!(slab.insert('c'), a);
        assert_eq!(slab.iter().map(|(i, c)| (i, *c)).collect::<Vec<_>>(), vec![(a, 'c'), (b, 'b')]);
        assert_eq!(slab.len(), 2);
    }
}
