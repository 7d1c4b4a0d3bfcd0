//! How far a resync or verify is, how fast, and when it ends: the numbers of /proc/drbd.
//! spec/drbdsetup.md 8.3 and 8.5.

use super::snapshot::{Volume, MARKS};

/// Width of the progress bar, characters.
const BAR: u32 = 20;

/// No progress mark for longer than this is `(stalled)`, seconds.
const STALLED_SECONDS: u64 = 180;

/// KiB a bit of the bitmap.
pub const KIB_PER_BIT: u64 = 4;

/// A running resync or verify at one moment. Bits unless noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Done, 0 to 1000.
    pub permille: u32,
    /// Still to do.
    pub left: u64,
    /// To do at the start.
    pub total: u64,
    /// Until the end, if it goes on like this.
    pub remaining_seconds: u128,
    /// Over the last marks, about 20 seconds; KiB/s.
    pub speed_kib: u64,
    /// Since the mark before the last one; KiB/s.
    pub speed_now_kib: u64,
    /// Since the start, pauses left out; KiB/s.
    pub average_kib: u64,
    /// Nothing has moved for minutes.
    pub stalled: bool,
}

impl Volume {
    /// Bits still to do of a running resync or verify. `None`: nothing runs.
    pub fn bits_left(&self) -> Option<u64> {
        let progress = self.progress.as_ref()?;
        Some(if self.state.conn.is_verify() {
            progress.verify_left
        } else {
            self.out_of_sync_bits.saturating_sub(progress.failed)
        })
    }

    /// How much of a running resync or verify is done, 0 to 1000, as 8.3 computes it. `None`: nothing runs.
    pub fn permille(&self) -> Option<u32> {
        let progress = self.progress.as_ref()?;
        Some(permille(self.bits_left()?, progress.total))
    }

    /// As [`permille`](Self::permille), in 8.4's `sh-status`: what is left is what the bitmap
    /// says, also during verify. spec/drbdsetup.md 8.5.
    pub fn permille_84(&self) -> Option<u32> {
        let progress = self.progress.as_ref()?;
        if progress.total == 0 {
            return Some(1000);
        }
        let left = self.out_of_sync_bits.saturating_sub(progress.failed).min(progress.total);
        Some(permille(left, progress.total))
    }

    /// Amounts and speeds at a time of the snapshot's clock. `None`: nothing runs.
    pub fn pace(&self, now_ms: u64) -> Option<Pace> {
        let progress = self.progress.as_ref()?;
        let left = self.bits_left()?;
        let total = progress.total;
        let seconds_since = |ms: u64| (now_ms.saturating_sub(ms) / 1000).max(1);
        // The oldest two marks are about to be replaced.
        let since_mark = |offset: usize| {
            let mark = progress.marks[progress.last_mark.wrapping_add(offset) % MARKS];
            (seconds_since(mark.time_ms), mark.left.saturating_sub(left))
        };
        let speed = |(seconds, bits): (u64, u64)| (bits / seconds).saturating_mul(KIB_PER_BIT);
        let marked @ (seconds, bits) = since_mark(2);
        let running = seconds_since(progress.start_ms.saturating_add(progress.paused_ms));
        Some(Pace {
            permille: permille(left, total),
            left,
            total,
            remaining_seconds: u128::from(seconds) * u128::from(left / (bits / 100 + 1)) / 100,
            speed_kib: speed(marked),
            speed_now_kib: speed(since_mark(MARKS - 1)),
            average_kib: speed((running, total.saturating_sub(left))),
            stalled: seconds > STALLED_SECONDS,
        })
    }
}

/// 8.3's permille: the shifts keep its products within 32 bits, and its last digit is theirs.
fn permille(left: u64, total: u64) -> u32 {
    if left > total {
        return 0;
    }
    let shift = if total > u64::from(u32::MAX) { 16 } else { 10 };
    let rest = (left >> shift) * 1000 / (1 + (total >> shift));
    1000 - rest.min(1000) as u32
}

/// `[=========>..........]`, for 0 to 1000.
pub fn bar(permille: u32) -> String {
    let done = permille / 50;
    let mut out = String::from("[");
    out.extend((1..done).map(|_| '='));
    out.push('>');
    out.extend((done..BAR).map(|_| '.'));
    out.push(']');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permille_stays_in_bounds_for_any_numbers() {
        for total in [0, 1, 1023, 1 << 20, u64::from(u32::MAX), 1 << 33, u64::MAX] {
            for left in [0, total / 2, total, total.saturating_add(1)] {
                assert!(permille(left, total) <= 1000, "{left}/{total}");
            }
        }
    }
}
