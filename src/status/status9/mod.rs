//! DRBD 9's `status`, as text and as JSON, and its `events2`. spec/drbdsetup.md 7.1 to 7.3.
//!
//! Offered in addition to 8.4's form. Sizes in a [`View`] are sectors, times milliseconds.

pub mod events;
mod from_snapshot;
mod json;
mod text;

pub use from_snapshot::view;
pub use json::json;
pub use text::{text, Style};

pub use super::counters::{DeviceStatistics, PeerStatistics};

use crate::core::state::Role;

/// Whether a node without disk is meant to be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientFlag {
    /// It should have one.
    No,
    /// It is a client by intention.
    Yes,
    /// Not known.
    Unknown,
}

impl ClientFlag {
    const fn word(self) -> &'static str {
        match self {
            ClientFlag::No => "no",
            ClientFlag::Yes => "yes",
            ClientFlag::Unknown => "unknown",
        }
    }
}

/// A resource as DRBD 9 sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Name.
    pub name: String,
    /// This node's id, if it has one.
    pub node_id: Option<i32>,
    /// Role of this node.
    pub role: Role,
    /// I/O is suspended by: user, no data, fencing, quorum.
    pub suspended: [bool; 4],
    /// I/O errors are forced.
    pub force_io_failures: bool,
    /// `flush` and its like.
    pub write_ordering: &'static str,
    /// Volumes, ascending.
    pub devices: Vec<DeviceView>,
    /// Peers.
    pub connections: Vec<ConnectionView>,
}

/// A volume on this node.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceView {
    /// Volume number.
    pub volume: u32,
    /// N of /dev/drbdN.
    pub minor: u32,
    /// State of the disk.
    pub disk: String,
    /// Meant to have no disk.
    pub client: ClientFlag,
    /// Path of the lower device; empty: none.
    pub backing: String,
    /// Has quorum.
    pub quorum: bool,
    /// Counters, where there are any.
    pub statistics: Option<DeviceStatistics>,
}

/// A connection to a peer.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionView {
    /// The peer's id.
    pub peer_node_id: i32,
    /// The peer's name, if known.
    pub name: Option<String>,
    /// `Connecting` and its like.
    pub state: String,
    /// The peer's role.
    pub role: Role,
    /// The network is congested.
    pub congested: bool,
    /// Application and resync data in flight, sectors, if known.
    pub in_flight: Option<(u64, u64)>,
    /// Volumes, ascending.
    pub devices: Vec<PeerDeviceView>,
    /// Ways to the peer.
    pub paths: Vec<PathView>,
}

/// A way to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathView {
    /// `ipv4:10.0.0.1:7788`.
    pub local: String,
    /// As `local`.
    pub peer: String,
    /// It is in use.
    pub established: bool,
}

/// A volume on a peer.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerDeviceView {
    /// Volume number.
    pub volume: u32,
    /// `SyncSource` and its like.
    pub replication: String,
    /// State of the peer's disk.
    pub disk: String,
    /// Meant to have no disk.
    pub client: ClientFlag,
    /// Resync is paused by: user, peer, dependency.
    pub paused_by: [bool; 3],
    /// Counters.
    pub statistics: PeerStatistics,
    /// About a running resync or verify; `None`: the kernel told none.
    pub details: Option<SyncDetails>,
}

/// A running resync or verify. Sectors and milliseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SyncDetails {
    /// To do at the start.
    pub total: u64,
    /// Since the start.
    pub since_start_ms: u64,
    /// Paused.
    pub paused_ms: u64,
    /// Youngest mark: time since, done since.
    pub recent: (u64, u64),
    /// Oldest mark: time since, done since.
    pub older: (u64, u64),
    /// Could not be synced.
    pub failed: u64,
    /// Equal by checksum.
    pub same_checksum: u64,
    /// Rate that the controller asks for, KiB/s.
    pub want_kib: u64,
    /// Verify: first sector.
    pub verify_start: u64,
    /// Verify: sector to stop at.
    pub verify_stop: Option<u64>,
    /// Verify: where it is.
    pub verify_position: u64,
    /// Verify: still to do.
    pub verify_left: u64,
    /// Verify: skipped.
    pub verify_skipped: u64,
}

/// States in which there is progress.
const SYNC_STATES: [&str; 6] =
    ["SyncSource", "SyncTarget", "VerifyS", "VerifyT", "PausedSyncS", "PausedSyncT"];

impl PeerDeviceView {
    /// Whether there is progress to tell about.
    fn is_syncing(&self) -> bool {
        let something = self.details.as_ref().is_none_or(|d| d.total > 0);
        something && SYNC_STATES.contains(&self.replication.as_str())
    }

    fn is_verify(&self) -> bool {
        self.replication.starts_with("Verify")
    }

    /// Details, while they mean something.
    fn sync(&self) -> Option<&SyncDetails> {
        self.details.as_ref().filter(|_| self.is_syncing())
    }

    /// Sectors still to do.
    fn left(&self, details: &SyncDetails) -> u64 {
        if self.is_verify() {
            details.verify_left
        } else {
            self.statistics.out_of_sync.saturating_sub(details.failed)
        }
    }

    /// Percent done of a resync or verify; of a device of `size` sectors if nothing more is known.
    fn done(&self, size: u64) -> f64 {
        match self.sync() {
            Some(details) => ratio(details.total.saturating_sub(self.left(details)), details.total) * 100.0,
            None => self.in_sync(size),
        }
    }

    fn in_sync(&self, size: u64) -> f64 {
        if size == 0 {
            return 0.0;
        }
        100.0 * (1.0 - ratio(self.statistics.out_of_sync, size))
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// MiB/s of sectors in milliseconds.
fn speed(sectors: u64, ms: u64) -> f64 {
    ratio(sectors, ms) * 1000.0 / 2048.0
}

impl SyncDetails {
    fn average(&self, left: u64) -> f64 {
        let running = self.since_start_ms.saturating_sub(self.paused_ms);
        speed(self.total.saturating_sub(left), running)
    }

    /// Seconds until the end; `None`: no progress.
    fn seconds_left(&self, left: u64) -> Option<f64> {
        let (ms, done) = self.older;
        (done > 0).then(|| ms as f64 * left as f64 / done as f64 / 1000.0)
    }
}

fn list(of: &[(bool, &'static str)]) -> String {
    let set: Vec<&str> = of.iter().filter(|(set, _)| *set).map(|(_, w)| *w).collect();
    if set.is_empty() {
        "no".to_string()
    } else {
        set.join(",")
    }
}

fn suspended_word(view: &View) -> String {
    let [user, no_data, fencing, quorum] = view.suspended;
    list(&[(user, "user"), (no_data, "no-data"), (fencing, "fencing"), (quorum, "quorum")])
}

fn paused_word(device: &PeerDeviceView) -> String {
    let [user, peer, dependency] = device.paused_by;
    list(&[(user, "user"), (peer, "peer"), (dependency, "dependency")])
}
