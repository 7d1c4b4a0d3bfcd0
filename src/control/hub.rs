//! Where events are published and from where every reader gets them, each at its own pace.
//!
//! Publishing never waits. A reader's queue is bounded; what does not fit any more is counted,
//! and after the queue has been read empty the reader is told how many events it missed, so that
//! it can start again from a snapshot.

use super::message::{Event, EventKind};
use crate::sys::sync::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Events that wait for one reader at most.
pub const QUEUE_MAX: usize = 4096;

/// First number of an event: a module that was just loaded starts there. spec/drbdsetup.md 5.6.
const FIRST_SEQUENCE: u32 = 3;

/// The place where events are published.
#[derive(Debug)]
pub struct Hub {
    state: Mutex<HubState>,
}

#[derive(Debug)]
struct HubState {
    next_state_message: u32,
    next_notification: u32,
    readers: Vec<Weak<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    content: Mutex<Content>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Content {
    events: VecDeque<Arc<Event>>,
    skipped: u64,
}

impl Default for Hub {
    fn default() -> Self {
        Hub::new()
    }
}

impl Hub {
    /// A hub without readers.
    pub fn new() -> Hub {
        Hub {
            state: Mutex::new(HubState {
                next_state_message: FIRST_SEQUENCE,
                next_notification: FIRST_SEQUENCE,
                readers: Vec::new(),
            }),
        }
    }

    /// Gives the event its number and hands it to every reader. Never waits for one. Publish
    /// under the resource's lock, so that the order is that of the changes.
    pub fn publish(&self, kind: EventKind) {
        let mut hub = self.state.lock();
        let counter =
            if kind.is_state_message() { &mut hub.next_state_message } else { &mut hub.next_notification };
        let sequence = *counter;
        *counter = counter.wrapping_add(1);
        let event = Arc::new(Event { sequence, time_us: now_us(), kind });
        hub.readers.retain(|reader| {
            let Some(queue) = reader.upgrade() else {
                return false;
            };
            let mut content = queue.content.lock();
            if content.skipped > 0 || content.events.len() >= QUEUE_MAX {
                content.skipped += 1;
            } else {
                content.events.push_back(Arc::clone(&event));
            }
            queue.arrived.notify_one();
            true
        });
    }

    /// A new reader: gets everything that is published from now on.
    pub fn subscribe(&self) -> Subscription {
        let queue = Arc::new(Queue::default());
        self.state.lock().readers.push(Arc::downgrade(&queue));
        Subscription { queue }
    }

    /// Readers at the moment.
    pub fn readers(&self) -> usize {
        let hub = self.state.lock();
        hub.readers.iter().filter(|r| r.strong_count() > 0).count()
    }
}

/// Microseconds since 1970.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
}

/// What one wait brought.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    /// The next event.
    Event(Arc<Event>),
    /// This many events were lost after the last one; a snapshot taken now makes up for them.
    Skipped(u64),
    /// Nothing in that time.
    Nothing,
}

/// One reader's end.
#[derive(Debug)]
pub struct Subscription {
    queue: Arc<Queue>,
}

impl Subscription {
    /// The next event; waits for it at most that long.
    pub fn receive(&self, wait: Duration) -> Received {
        let deadline = Instant::now() + wait;
        let mut content = self.queue.content.lock();
        loop {
            if let Some(event) = content.events.pop_front() {
                return Received::Event(event);
            }
            if content.skipped > 0 {
                return Received::Skipped(std::mem::take(&mut content.skipped));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Received::Nothing;
            }
            content = self.queue.arrived.wait_timeout(content, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deleted(name: &str) -> EventKind {
        EventKind::ResourceDeleted { name: name.into() }
    }

    #[test]
    fn every_reader_gets_every_event_in_order() {
        let hub = Hub::new();
        let readers = [hub.subscribe(), hub.subscribe()];
        hub.publish(deleted("a"));
        hub.publish(deleted("b"));
        for reader in &readers {
            let got: Vec<_> = std::iter::from_fn(|| match reader.receive(Duration::ZERO) {
                Received::Event(e) => Some((e.sequence, e.kind.clone())),
                _ => None,
            })
            .collect();
            assert_eq!(got, [(3, deleted("a")), (4, deleted("b"))]);
        }
    }

    #[test]
    fn a_reader_that_falls_behind_learns_how_much_it_missed_and_goes_on() {
        let hub = Hub::new();
        let reader = hub.subscribe();
        for _ in 0..QUEUE_MAX + 7 {
            hub.publish(deleted("x"));
        }
        for _ in 0..QUEUE_MAX {
            assert!(matches!(reader.receive(Duration::ZERO), Received::Event(_)));
        }
        assert_eq!(reader.receive(Duration::ZERO), Received::Skipped(7));
        hub.publish(deleted("y"));
        assert!(matches!(reader.receive(Duration::ZERO), Received::Event(_)));
        assert_eq!(reader.receive(Duration::ZERO), Received::Nothing);
    }

    #[test]
    fn a_reader_that_went_away_is_forgotten() {
        let hub = Hub::new();
        drop(hub.subscribe());
        hub.publish(deleted("x"));
        assert_eq!(hub.readers(), 0);
    }
}
