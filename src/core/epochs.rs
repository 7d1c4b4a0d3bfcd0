//! Epochs: the writes between two barriers. Both ends' book-keeping. spec/wire.md 7.4 and 7.5.

use super::types::Millis;
use std::collections::VecDeque;

/// How long a barrier may wait for the next write, to travel in one segment with it. It has no
/// effect on when a write completes; what is behind it is only how long the activity log keeps an
/// extent.
pub const BARRIER_DELAY_MS: Millis = 20;

/// Epochs of writes that this node sends.
#[derive(Debug, Default)]
pub struct SendEpochs {
    /// Number of the epoch that a write decided now belongs to.
    pub current: u32,
    /// Mirrored writes decided in it.
    pub writes: u32,
    /// The epoch of the last write that was sent, and how many of its writes were.
    sent: Option<(u32, u32)>,
    /// Epochs whose barrier was sent: number, writes, when.
    unacknowledged: VecDeque<(u32, u32, Millis)>,
    /// Epochs of which the peer refused a write, a second Primary's: their acknowledgement may have any count,
    /// or never come.
    disturbed: Vec<u32>,
    /// When the barrier of a closed epoch goes out at the latest.
    pub barrier_due: Option<Millis>,
}

/// A barrier acknowledgement that does not fit. spec/wire.md 7.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongBarrierAck {
    /// No epoch waits for one.
    NoEpoch,
    /// Another epoch is the oldest.
    Expected(u32),
    /// The epoch has another number of writes.
    Writes(u32),
}

impl SendEpochs {
    /// Notes that one more mirrored write belongs to the current epoch.
    pub fn add_write(&mut self) -> u32 {
        self.writes += 1;
        self.current
    }

    /// Closes the current epoch unless it is empty.
    pub fn close(&mut self, now: Millis) {
        if self.writes > 0 {
            self.current = self.current.wrapping_add(1);
            self.writes = 0;
            self.barrier_due.get_or_insert(now + BARRIER_DELAY_MS);
        }
    }

    /// A write of `epoch` is about to be sent. Returns the barrier that must precede it.
    pub fn before_send(&mut self, epoch: u32, now: Millis) -> Option<u32> {
        let barrier = match self.sent {
            Some((number, _)) if number != epoch => self.take_barrier(now),
            _ => None,
        };
        let writes = self.sent.map_or(0, |(_, writes)| writes);
        self.sent = Some((epoch, writes + 1));
        if epoch != self.current {
            // It was closed while its writes waited. That the barrier of the one before went out does not bring its own.
            self.barrier_due.get_or_insert(now + BARRIER_DELAY_MS);
        }
        barrier
    }

    /// The barrier of the last epoch that was sent from, if that epoch is closed.
    pub fn take_closed(&mut self, now: Millis) -> Option<u32> {
        match self.sent {
            Some((number, _)) if number != self.current => self.take_barrier(now),
            _ => None,
        }
    }

    fn take_barrier(&mut self, now: Millis) -> Option<u32> {
        let (number, writes) = self.sent.take()?;
        self.unacknowledged.push_back((number, writes, now));
        self.barrier_due = None;
        Some(number)
    }

    /// The peer finished an epoch.
    pub fn acknowledge(&mut self, number: u32, writes: u32) -> Result<(), WrongBarrierAck> {
        let (expected, expected_writes, _) = *self.unacknowledged.front().ok_or(WrongBarrierAck::NoEpoch)?;
        if expected != number {
            return Err(WrongBarrierAck::Expected(expected));
        }
        let disturbed = self.disturbed.contains(&number);
        self.disturbed.retain(|other| *other != number);
        if expected_writes != writes && !(disturbed && writes < expected_writes) {
            return Err(WrongBarrierAck::Writes(expected_writes));
        }
        self.unacknowledged.pop_front();
        Ok(())
    }

    /// The peer refused a write of this epoch.
    pub fn disturb(&mut self, number: u32) {
        if !self.disturbed.contains(&number) {
            self.disturbed.push(number);
        }
    }

    /// The oldest epoch, if it waits for nothing but an acknowledgement that may never come, and `number`,
    /// a later one, was acknowledged.
    pub fn take_disturbed(&mut self, number: u32) -> Option<u32> {
        let (oldest, _, _) = *self.unacknowledged.front()?;
        let later = oldest != number && self.unacknowledged.iter().any(|(other, _, _)| *other == number);
        if !later || !self.disturbed.contains(&oldest) {
            return None;
        }
        self.unacknowledged.pop_front();
        self.disturbed.retain(|other| *other != oldest);
        Some(oldest)
    }

    /// When the oldest barrier went out that the peer has to answer and has not.
    pub fn oldest_barrier(&self) -> Option<Millis> {
        let mut owed = self.unacknowledged.iter().filter(|(number, _, _)| !self.disturbed.contains(number));
        owed.next().map(|(_, _, sent)| *sent)
    }

    /// The connection is gone: nothing will be acknowledged.
    pub fn reset(&mut self) {
        self.current = self.current.wrapping_add(1);
        self.writes = 0;
        self.sent = None;
        self.unacknowledged.clear();
        self.disturbed.clear();
        self.barrier_due = None;
    }
}

/// An epoch of writes that the peer sent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PeerEpoch {
    /// Its number, once its barrier is there.
    pub number: Option<u32>,
    /// Its writes.
    pub writes: u32,
    /// Those that are not finished.
    pub active: u32,
}

/// Epochs of writes that the peer sends. The last one is the current one.
#[derive(Debug)]
pub struct PeerEpochs {
    first: u64,
    epochs: VecDeque<PeerEpoch>,
    /// Writes of the epoch before the current one.
    writes_before: u32,
    /// The epoch and its number of writes that the last flush of the disks was for.
    flushed: Option<(u64, u32)>,
}

impl Default for PeerEpochs {
    fn default() -> Self {
        PeerEpochs {
            first: 0,
            epochs: VecDeque::from([PeerEpoch::default()]),
            writes_before: 0,
            flushed: None,
        }
    }
}

impl PeerEpochs {
    /// A write arrived; `active`: it goes to the disk. Returns the epoch that it belongs to.
    pub fn add_write(&mut self, active: bool) -> u64 {
        self.add(true, active)
    }

    /// A write arrived that is refused, and is answered later; `counted`: the peer counts it. Returns the epoch that it belongs to.
    pub fn add_refused(&mut self, counted: bool) -> u64 {
        self.add(counted, true)
    }

    fn add(&mut self, counted: bool, active: bool) -> u64 {
        let index = self.epochs.len() - 1;
        let epoch = &mut self.epochs[index];
        epoch.writes += u32::from(counted);
        epoch.active += u32::from(active);
        self.first + index as u64
    }

    /// A write is finished, its acknowledgement queued.
    pub fn finish_write(&mut self, epoch: u64) {
        if let Some(epoch) = epoch.checked_sub(self.first).and_then(|i| self.epochs.get_mut(i as usize)) {
            debug_assert!(epoch.active > 0);
            epoch.active = epoch.active.saturating_sub(1);
        }
    }

    /// The barrier of the current epoch arrived.
    pub fn barrier(&mut self, number: u32) {
        if let Some(epoch) = self.epochs.back_mut() {
            epoch.number = Some(number);
        }
    }

    /// Whether any write of any epoch is not finished.
    pub fn any_active(&self) -> bool {
        self.epochs.iter().any(|epoch| epoch.active > 0)
    }

    /// Whether there are writes whose barrier was not acknowledged.
    pub fn has_writes(&self) -> bool {
        self.epochs.iter().any(|epoch| epoch.writes > 0)
    }

    /// Begins a new current epoch.
    pub fn begin(&mut self) {
        self.writes_before = self.epochs.back().map_or(0, |epoch| epoch.writes);
        self.epochs.push_back(PeerEpoch::default());
    }

    /// Whether nothing more is likely to come before the barrier of the current epoch: the peer's
    /// application writes one block after the other, and this one is done.
    pub fn is_likely_over(&self) -> bool {
        let current = self.epochs.back().copied().unwrap_or_default();
        current.writes == 1 && self.writes_before == 1 && current.number.is_none() && !self.any_active()
    }

    /// The disks are being flushed, when no write is active.
    pub fn flush_begins(&mut self) {
        self.flushed = Some(self.now());
    }

    /// Whether a flush has begun since the last write of the current epoch.
    pub fn flush_has_begun(&self) -> bool {
        self.flushed == Some(self.now())
    }

    fn now(&self) -> (u64, u32) {
        let index = self.epochs.len() - 1;
        (self.first + index as u64, self.epochs[index].writes)
    }

    /// The oldest epoch, if it is finished: its number and how many writes it had.
    pub fn take_finished(&mut self) -> Option<(u32, u32)> {
        let oldest = *self.epochs.front()?;
        if self.epochs.len() < 2 || oldest.active > 0 && !mutant!("barrier-not-awaited") {
            return None;
        }
        let number = oldest.number?;
        self.epochs.pop_front();
        self.first += 1;
        Some((number, oldest.writes))
    }

    /// Number of epochs.
    pub fn len(&self) -> usize {
        self.epochs.len()
    }

    /// Never: there is always a current epoch.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The connection is gone: all epochs are forgotten.
    pub fn reset(&mut self) {
        self.first += self.epochs.len() as u64;
        self.epochs.clear();
        self.epochs.push_back(PeerEpoch::default());
        self.writes_before = 0;
        self.flushed = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barrier_goes_before_the_first_write_of_a_newer_epoch() {
        let mut epochs = SendEpochs::default();
        let first = epochs.add_write();
        assert_eq!(epochs.before_send(first, 0), None);
        assert_eq!(epochs.take_closed(0), None, "the epoch is open");
        epochs.close(5);
        assert_eq!(epochs.barrier_due, Some(5 + BARRIER_DELAY_MS));
        let second = epochs.add_write();
        assert_eq!(epochs.before_send(second, 6), Some(first));
        assert_eq!(epochs.acknowledge(first, 2), Err(WrongBarrierAck::Writes(1)));
        assert_eq!(epochs.acknowledge(second, 1), Err(WrongBarrierAck::Expected(first)));
        assert_eq!(epochs.acknowledge(first, 1), Ok(()));
        assert_eq!(epochs.acknowledge(first, 1), Err(WrongBarrierAck::NoEpoch));
    }

    #[test]
    fn an_epoch_with_a_refused_write_may_stay_unacknowledged() {
        let mut epochs = SendEpochs::default();
        for epoch in 0..3 {
            for _ in 0..2 {
                let number = epochs.add_write();
                assert_eq!(number, epoch);
                epochs.before_send(number, 0);
            }
            epochs.close(0);
        }
        assert_eq!(epochs.take_closed(0), Some(2));
        epochs.disturb(0);
        assert_eq!(epochs.take_disturbed(0), None);
        assert_eq!(epochs.take_disturbed(1), Some(0), "its acknowledgement will not come");
        assert_eq!(epochs.acknowledge(1, 2), Ok(()));
        epochs.disturb(2);
        assert_eq!(epochs.oldest_barrier(), None);
        assert_eq!(epochs.acknowledge(2, 1), Ok(()), "without the refused write");
    }

    /// The fifo was held back while two epochs filled up: no write comes behind them to bring the second barrier.
    #[test]
    fn the_barrier_of_an_epoch_that_was_closed_before_it_was_sent_is_due() {
        let mut epochs = SendEpochs::default();
        let first = epochs.add_write();
        epochs.close(0);
        let second = epochs.add_write();
        epochs.close(0);
        assert_eq!(epochs.before_send(first, 5), None);
        assert_eq!(epochs.before_send(second, 5), Some(first));
        assert_eq!(epochs.barrier_due, Some(5 + BARRIER_DELAY_MS));
        assert_eq!(epochs.take_closed(25), Some(second));
        assert_eq!(epochs.barrier_due, None);
    }

    #[test]
    fn an_empty_epoch_has_no_barrier() {
        let mut epochs = SendEpochs::default();
        epochs.close(0);
        epochs.close(0);
        assert_eq!((epochs.current, epochs.barrier_due, epochs.take_closed(0)), (0, None, None));
    }

    #[test]
    fn peer_epochs_finish_in_order() {
        let mut epochs = PeerEpochs::default();
        let a = epochs.add_write(true);
        epochs.add_write(false);
        epochs.barrier(7);
        epochs.begin();
        let b = epochs.add_write(true);
        epochs.barrier(8);
        epochs.begin();
        epochs.finish_write(b);
        assert_eq!(epochs.take_finished(), None, "the older one is active");
        epochs.finish_write(a);
        assert_eq!(epochs.take_finished(), Some((7, 2)));
        assert_eq!(epochs.take_finished(), Some((8, 1)));
        assert_eq!(epochs.take_finished(), None);
    }

    #[test]
    fn a_flush_counts_for_the_writes_before_it_only() {
        let mut epochs = PeerEpochs::default();
        assert!(!epochs.is_likely_over());
        let write = |epochs: &mut PeerEpochs| {
            let epoch = epochs.add_write(true);
            epochs.finish_write(epoch);
        };
        write(&mut epochs);
        assert!(!epochs.is_likely_over(), "nothing is known about the peer's application yet");
        epochs.flush_begins();
        assert!(epochs.flush_has_begun());
        epochs.barrier(1);
        epochs.begin();
        assert!(!epochs.flush_has_begun());
        let active = epochs.add_write(true);
        assert!(!epochs.is_likely_over());
        epochs.finish_write(active);
        assert!(epochs.is_likely_over());
        epochs.flush_begins();
        write(&mut epochs);
        assert!(!epochs.flush_has_begun());
        assert!(!epochs.is_likely_over());
        epochs.flush_begins();
        epochs.reset();
        assert!(!epochs.flush_has_begun() && !epochs.is_likely_over());
    }
}
