//! The counters of a device and of the peer's half of it, in the order in which every form of `status` and `events2`
//! names them. spec/drbdsetup.md 6.6, 6.8 and 7.1 to 7.3.

use super::snapshot::Volume;
use std::fmt;

/// Sectors a bit of the bitmap.
pub const SECTORS_PER_BIT: u64 = 8;

/// A counter as it is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// Its name.
    pub name: &'static str,
    /// KiB of data, or how many.
    pub value: i64,
    /// `status` has it only with `--verbose`.
    pub verbose: bool,
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " {}:{}", self.name, self.value)
    }
}

const fn counter(name: &'static str, value: i64, verbose: bool) -> Counter {
    Counter { name, value, verbose }
}

fn kib(name: &'static str, sectors: u64, verbose: bool) -> Counter {
    counter(name, i64::try_from(sectors / 2).unwrap_or(i64::MAX), verbose)
}

/// What is counted about a device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeviceStatistics {
    /// Sectors.
    pub size: u64,
    /// Sectors.
    pub read: u64,
    /// Sectors.
    pub written: u64,
    /// Activity log transactions.
    pub al_writes: u32,
    /// Bitmap pages.
    pub bm_writes: u32,
    /// Requests from above.
    pub upper_pending: i32,
    /// Requests to the lower device.
    pub lower_pending: i32,
    /// Activity log updates are suspended.
    pub al_suspended: bool,
    /// Blocked above, below.
    pub blocked: [bool; 2],
}

impl DeviceStatistics {
    /// Those of a volume.
    pub fn of(volume: &Volume) -> DeviceStatistics {
        let c = &volume.counters;
        DeviceStatistics {
            size: volume.size_sectors,
            read: c.read_sectors,
            written: c.written_sectors,
            al_writes: c.al_writes,
            bm_writes: c.bm_writes,
            upper_pending: c.ap_bio,
            lower_pending: c.local,
            al_suspended: volume.al_suspended,
            blocked: [volume.blocked_upper, volume.blocked_lower],
        }
    }

    /// The counters.
    pub fn counters(&self) -> [Counter; 7] {
        [
            kib("size", self.size, true),
            kib("read", self.read, false),
            kib("written", self.written, false),
            counter("al-writes", self.al_writes.into(), true),
            counter("bm-writes", self.bm_writes.into(), true),
            counter("upper-pending", self.upper_pending.into(), true),
            counter("lower-pending", self.lower_pending.into(), true),
        ]
    }
}

/// What is counted about the peer's half of a device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PeerStatistics {
    /// Sectors.
    pub received: u64,
    /// Sectors.
    pub sent: u64,
    /// Sectors.
    pub out_of_sync: u64,
    /// Requests that the peer has not answered.
    pub pending: i64,
    /// Requests of the peer that we have not answered.
    pub unacked: i64,
}

impl PeerStatistics {
    /// Those of a volume.
    pub fn of(volume: &Volume) -> PeerStatistics {
        let c = &volume.counters;
        PeerStatistics {
            received: c.received_sectors,
            sent: c.sent_sectors,
            out_of_sync: volume.out_of_sync_bits.saturating_mul(SECTORS_PER_BIT),
            pending: i64::from(c.ap_pending) + i64::from(c.rs_pending),
            unacked: c.unacked.into(),
        }
    }

    /// The counters.
    pub fn counters(&self) -> [Counter; 5] {
        [
            kib("received", self.received, false),
            kib("sent", self.sent, false),
            kib("out-of-sync", self.out_of_sync, self.out_of_sync == 0),
            counter("pending", self.pending, true),
            counter("unacked", self.unacked, true),
        ]
    }
}
