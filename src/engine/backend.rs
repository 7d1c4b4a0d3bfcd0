//! What a door sees of a volume.

use super::runner::{Inline, Runner};
use crate::core::types::VolumeIndex;
use crate::export::request::{Backend, Limits, Request};
use crate::sys::time::monotonic_us;
use crate::wire::SECTOR_BYTES;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;

/// Which threads a door has to submit with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoorThreads {
    /// One thread for each request: it may do the disk work of its request itself.
    OnePerRequest,
    /// One thread for all requests of a client: it may only if no other request waits behind.
    OneForAll,
}

/// A request that comes this soon after the last one was done was waiting already.
const AT_ONCE_US: u64 = 10;

/// So many requests in a row must find nothing else in progress before they count as coming singly.
const SINGLE_COUNT: u32 = 8;

/// Guesses whether requests come one at a time (each waits for the answer to the one before it).
#[derive(Debug, Default)]
struct Rhythm {
    /// When the last request was done by its own thread; 0: it was not.
    done_us: AtomicU64,
    /// Requests in a row that found nothing in progress.
    singles: AtomicU32,
    in_progress: AtomicU32,
}

impl Rhythm {
    /// A request comes. True if it seems to be alone.
    fn begin(&self) -> bool {
        let others = self.in_progress.fetch_add(1, Ordering::Relaxed);
        let done = self.done_us.swap(0, Ordering::Relaxed);
        let waited = done != 0 && monotonic_us().saturating_sub(done) < AT_ONCE_US;
        if others > 0 || waited {
            self.singles.store(0, Ordering::Relaxed);
            return false;
        }
        let singles = self.singles.load(Ordering::Relaxed);
        if singles < SINGLE_COUNT {
            self.singles.store(singles + 1, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// The thread that brought a request is free again.
    fn end(&self, alone: bool) {
        self.in_progress.fetch_sub(1, Ordering::Relaxed);
        if alone {
            self.done_us.store(monotonic_us(), Ordering::Relaxed);
        }
    }
}

/// A volume as the backend of a door.
pub struct VolumeBackend {
    runner: Arc<Runner>,
    volume: VolumeIndex,
    threads: DoorThreads,
    rhythm: Rhythm,
}

impl VolumeBackend {
    /// The backend of this volume.
    pub fn new(runner: Arc<Runner>, volume: VolumeIndex, threads: DoorThreads) -> VolumeBackend {
        VolumeBackend { runner, volume, threads, rhythm: Rhythm::default() }
    }
}

impl Backend for VolumeBackend {
    fn size_bytes(&self) -> u64 {
        self.runner.look(|state| state.core.volume(self.volume).size_sectors()) * u64::from(SECTOR_BYTES)
    }

    fn limits(&self) -> Limits {
        let discard = self.runner.look(|state| {
            let disk = state.core.volume(self.volume).disk();
            disk.is_some_and(|disk| disk.can_discard)
        });
        Limits { discard, write_zeroes: true, ..Limits::default() }
    }

    fn submit(&self, request: Request) {
        match self.threads {
            DoorThreads::OnePerRequest => {
                self.runner.submit(self.volume, request, Inline::Always);
            }
            DoorThreads::OneForAll => {
                let alone = self.rhythm.begin();
                let inline = if alone { Inline::Always } else { Inline::Never };
                self.runner.submit(self.volume, request, inline);
                self.rhythm.end(alone);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_on_top_of_each_other_are_not_alone() {
        let rhythm = Rhythm::default();
        for _ in 0..SINGLE_COUNT {
            assert!(!rhythm.begin());
            rhythm.end(false);
        }
        assert!(rhythm.begin());
        assert!(!rhythm.begin());
        rhythm.end(false);
        rhythm.end(true);
        assert!(!rhythm.begin(), "it came at once, or singles must be counted anew");
    }
}
