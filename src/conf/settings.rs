//! The settings of a running resource, typed: what `core`, `engine` and `status` read.
//!
//! Field names are the 8.4 option names. Every field is set through the option table
//! (`conf::options`), which knows type, range, unit and both dialects' defaults; nothing else
//! lists options. spec/decisions.md 3, spec/drbdsetup.md 3.1 and 6.3.

use serde::{Deserialize, Serialize};

/// `on-io-error`: what a failed local request does to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnIoError {
    PassOn,
    CallLocalIoError,
    Detach,
}

/// `fencing`: what a Primary does about a peer that it cannot reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Fencing {
    DontCare,
    ResourceOnly,
    ResourceAndStonith,
}

/// `on-no-data-accessible`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnNoData {
    IoError,
    SuspendIo,
}

/// The replication protocol: when a write is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    A,
    B,
    C,
}

/// `read-balancing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadBalancing {
    PreferLocal,
    PreferRemote,
    RoundRobin,
    LeastPending,
    WhenCongestedRemote,
    Striping { kib: u32 },
}

/// The after-split-brain policies, numbers as on the wire (spec/wire.md 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AfterSplitBrain {
    Disconnect = 0,
    DiscardYoungerPrimary = 1,
    DiscardOlderPrimary = 2,
    DiscardZeroChanges = 3,
    DiscardLeastChanges = 4,
    DiscardLocal = 5,
    DiscardRemote = 6,
    Consensus = 7,
    DiscardSecondary = 8,
    CallPriLostAfterSb = 9,
    Violently = 10,
}

impl AfterSplitBrain {
    /// The policy with this number on the wire.
    pub fn from_number(number: u32) -> Option<AfterSplitBrain> {
        use AfterSplitBrain::*;
        let all = [
            Disconnect,
            DiscardYoungerPrimary,
            DiscardOlderPrimary,
            DiscardZeroChanges,
            DiscardLeastChanges,
            DiscardLocal,
            DiscardRemote,
            Consensus,
            DiscardSecondary,
            CallPriLostAfterSb,
            Violently,
        ];
        all.into_iter().find(|policy| *policy as u32 == number)
    }
}

/// `rr-conflict`: the resync direction contradicts the roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RrConflict {
    Disconnect,
    CallPriLost,
    Violently,
}

/// `on-congestion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnCongestion {
    Block,
    PullAhead,
    Disconnect,
}

/// Settings of one backing device (8.4 `disk`; 8.3 `disk` and the volume part of `syncer`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSettings {
    /// Size asked for by the user, sectors; 0: as large as it can be.
    pub size: u64,
    pub max_bio_bvecs: u32,
    pub on_io_error: OnIoError,
    pub fencing: Fencing,
    pub disk_barrier: bool,
    pub disk_flushes: bool,
    pub disk_drain: bool,
    pub md_flushes: bool,
    /// KiB/s.
    pub resync_rate: u32,
    /// Minor to wait for; -1: none.
    pub resync_after: i32,
    pub al_extents: u32,
    pub al_updates: bool,
    pub discard_zeroes_if_aligned: bool,
    pub disable_write_same: bool,
    /// 0.1 s; 0: the fixed resync rate.
    pub c_plan_ahead: u32,
    /// 0.1 s.
    pub c_delay_target: u32,
    /// Sectors.
    pub c_fill_target: u32,
    /// KiB/s.
    pub c_max_rate: u32,
    /// KiB/s.
    pub c_min_rate: u32,
    /// 0.1 s; 0: none.
    pub disk_timeout: u32,
    pub read_balancing: ReadBalancing,
    /// Bytes.
    pub rs_discard_granularity: u32,
}

/// Settings of a connection (8.4 `net`; 8.3 `net` and the connection part of `syncer`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetSettings {
    pub protocol: Protocol,
    /// 0.1 s.
    pub timeout: u32,
    pub max_epoch_size: u32,
    /// Pages of 4 KiB.
    pub max_buffers: u32,
    pub unplug_watermark: u32,
    /// s.
    pub connect_int: u32,
    /// s.
    pub ping_int: u32,
    /// Bytes; 0: left to the kernel.
    pub sndbuf_size: u32,
    /// Bytes; 0: left to the kernel.
    pub rcvbuf_size: u32,
    pub ko_count: u32,
    /// 0.1 s.
    pub ping_timeout: u32,
    pub allow_two_primaries: bool,
    pub always_asbp: bool,
    pub tcp_cork: bool,
    pub use_rle: bool,
    pub csums_after_crash_only: bool,
    /// Empty: no authentication.
    pub cram_hmac_alg: String,
    pub shared_secret: String,
    pub data_integrity_alg: String,
    pub csums_alg: String,
    pub verify_alg: String,
    pub after_sb_0pri: AfterSplitBrain,
    pub after_sb_1pri: AfterSplitBrain,
    pub after_sb_2pri: AfterSplitBrain,
    pub rr_conflict: RrConflict,
    pub on_congestion: OnCongestion,
    /// Sectors.
    pub congestion_fill: u32,
    pub congestion_extents: u32,
    /// 0.1 s; 0: `ping_timeout`.
    pub socket_check_timeout: u32,
    /// One shot: `connect --discard-my-data`.
    pub discard_my_data: bool,
    /// One shot: `connect --dry-run` / `--tentative`.
    pub tentative: bool,
}

/// Settings of a resource (8.4 `options`; 8.3 part of `syncer`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceSettings {
    pub cpu_mask: String,
    pub on_no_data_accessible: OnNoData,
}
