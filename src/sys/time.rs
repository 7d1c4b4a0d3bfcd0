//! Time: the monotonic clock that timeouts count on, and the wall clock for generation UUIDs and logs.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{clock_gettime, ClockId};

/// Milliseconds of the monotonic clock; its zero is arbitrary (the boot, on Linux). Does not jump.
pub fn monotonic_ms() -> u64 {
    monotonic_us() / 1000
}

/// Microseconds of the monotonic clock.
pub fn monotonic_us() -> u64 {
    match clock_gettime(ClockId::CLOCK_MONOTONIC) {
        Ok(time) => time.tv_sec() as u64 * 1_000_000 + time.tv_nsec() as u64 / 1000,
        // No Linux lacks this clock; a clock that stands still only makes timeouts late.
        Err(_) => 0,
    }
}

/// Seconds since 1970 of the wall clock; 0 if it is set before that.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_does_not_run_backwards() {
        let first = monotonic_us();
        let second = monotonic_us();
        assert!(first > 0 && second >= first);
        assert!(monotonic_ms() >= first / 1000);
    }
}
