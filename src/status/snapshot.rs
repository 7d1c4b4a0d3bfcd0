//! The one picture of a daemon: plain data, taken in one moment, from which every text is made.
//!
//! The engine fills it in; the printing functions beside this file read it; it travels over the
//! control socket as it is. Sectors have 512 bytes, a bit of the bitmap stands for 8 sectors.

use super::address::AddressPair;
use crate::conf::settings::{DiskSettings, NetSettings, ResourceSettings};
use crate::conf::Dialect;
use crate::core::state::{Conn, Disk, Role, StateWord};
use serde::{Deserialize, Serialize};

/// Everything that the daemon serves at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Milliseconds on the daemon's clock that [`Progress`] uses too; any epoch.
    pub now_ms: u64,
    /// Dialect of the /proc/drbd text: [`Dialect::V84`] if a resource exists that `new-resource`
    /// made. spec/decisions.md 1.1.
    pub dialect: Dialect,
    /// `GIT-hash: ...`, second line of the /proc/drbd text. spec/decisions.md 2.1.
    pub build_tag: String,
    /// Level of detail of the /proc/drbd text: 0, 1 or 2.
    pub proc_details: u8,
    /// In any order; printing functions sort.
    pub resources: Vec<Resource>,
}

/// One resource with its connection and volumes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    /// Counts the changes of this resource since it was made, 1 at first. A picture with a lower
    /// number is older.
    pub revision: u64,
    /// Its name; `minor-N` where 8.3's commands named none. spec/decisions.md 5.4.
    pub name: String,
    /// Made by `new-resource`, hence deleted by `down`.
    pub explicit: bool,
    /// 8.4's `options`.
    pub settings: ResourceSettings,
    /// The way to the peer.
    pub connection: Connection,
    /// In any order; printing functions sort.
    pub volumes: Vec<Volume>,
    /// The suspension bits while the resource has no volume whose state word carries them.
    pub suspended: Suspended,
}

/// Why I/O is suspended. spec/state.md 14.4.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspended {
    /// `suspend-io`.
    pub user: bool,
    /// No accessible data.
    pub no_data: bool,
    /// The fence-peer handler has not succeeded.
    pub fencing: bool,
}

/// The connection of a resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// State of the connection itself, at most `WFReportParams`. spec/state.md 1.3.
    pub cstate: Conn,
    /// The endpoints while a network configuration exists; `None`: StandAlone.
    pub addresses: Option<AddressPair>,
    /// Settings; those of 8.3's `syncer` are kept without a network configuration.
    pub net: NetSettings,
    /// Protocol version agreed with the peer; 0: never connected.
    pub agreed_version: u32,
    /// The socket's send buffer is full.
    pub congested: bool,
    /// Name of the peer host if the configuration told it.
    pub peer_name: Option<String>,
    /// Application data sent and not answered, sectors.
    pub ap_in_flight: u64,
    /// Resync data sent and not answered, sectors.
    pub rs_in_flight: u64,
}

/// One volume: the device and what is known about the peer's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// N of /dev/drbdN.
    pub minor: u32,
    /// Number within the resource.
    pub number: u16,
    /// The combined word, suspension bits included.
    pub state: StateWord,
    /// Settings; those of 8.3's `syncer` are kept without a disk.
    pub disk_settings: DiskSettings,
    /// What is attached. Present while the disk is beyond Diskless.
    pub backing: Option<Backing>,
    /// Size of the device that applications see, sectors.
    pub size_sectors: u64,
    /// As in /proc/drbd.
    pub counters: Counters,
    /// Bits set in the bitmap.
    pub out_of_sync_bits: u64,
    /// Bits of the bitmap in use.
    pub bitmap_bits: u64,
    /// Running resync or verify; paused ones too.
    pub progress: Option<Progress>,
    /// Write ordering in use.
    pub write_ordering: WriteOrdering,
    /// Activity log updates are suspended because the whole bitmap is set.
    pub al_suspended: bool,
    /// Fifth flag of /proc/drbd: why requests wait.
    pub congestion: Congestion,
    /// Requests from above wait (device frozen or suspended).
    pub blocked_upper: bool,
    /// The backing device is congested.
    pub blocked_lower: bool,
    /// Which timeout `wait-connect` uses.
    pub timeout_class: TimeoutClass,
    /// How often the device is open.
    pub open_count: u32,
}

/// A backing device and its meta data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backing {
    /// Path as given to `disk` or `attach`.
    pub lower_device: String,
    /// Path as given; equal to `lower_device` for internal meta data.
    pub meta_device: String,
    /// -3, -1: internal; -2: flexible external; n >= 0: indexed.
    pub meta_index: i32,
    /// Size of the lower device, sectors.
    pub lower_sectors: u64,
    /// Current, bitmap, two history UUIDs.
    pub uuids: [u64; 4],
    /// Flags of the meta data, numbers of spec/state.md 13.1.
    pub md_flags: u32,
}

/// Counters of /proc/drbd, line 2. spec/drbdsetup.md 8.2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// ns: sectors sent.
    pub sent_sectors: u64,
    /// nr: sectors received.
    pub received_sectors: u64,
    /// dw: sectors written to the local disk.
    pub written_sectors: u64,
    /// dr: sectors read from the local disk.
    pub read_sectors: u64,
    /// al: activity log transactions.
    pub al_writes: u32,
    /// bm: bitmap pages written.
    pub bm_writes: u32,
    /// lo: references on the local disk.
    pub local: i32,
    /// pe, application part: requests not answered by the peer.
    pub ap_pending: i32,
    /// pe, resync part.
    pub rs_pending: i32,
    /// ua: requests of the peer not yet answered.
    pub unacked: i32,
    /// ap: requests of applications not yet completed.
    pub ap_bio: i32,
    /// ep: epochs not yet closed.
    pub epochs: i32,
}

/// How writes are kept in order on the local disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WriteOrdering {
    /// `n`.
    None,
    /// `d`.
    Drain,
    /// `f`.
    Flush,
    /// `b`.
    Barrier,
}

impl WriteOrdering {
    /// All, ascending.
    pub const ALL: [WriteOrdering; 4] =
        [WriteOrdering::None, WriteOrdering::Drain, WriteOrdering::Flush, WriteOrdering::Barrier];

    /// Letter behind `wo:`.
    pub const fn letter(self) -> char {
        match self {
            WriteOrdering::None => 'n',
            WriteOrdering::Drain => 'd',
            WriteOrdering::Flush => 'f',
            WriteOrdering::Barrier => 'b',
        }
    }

    /// Word behind `write-ordering:`.
    pub const fn name(self) -> &'static str {
        match self {
            WriteOrdering::None => "none",
            WriteOrdering::Drain => "drain",
            WriteOrdering::Flush => "flush",
            WriteOrdering::Barrier => "barrier",
        }
    }
}

/// Why requests wait, the fifth flag of /proc/drbd. spec/drbdsetup.md 8.2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Congestion {
    /// `-`.
    #[default]
    None,
    /// `d`: application I/O is frozen.
    Frozen,
    /// `c`: the worker is busy with a helper.
    Helper,
    /// `b`: backing device.
    Backing,
    /// `n`: network.
    Network,
    /// `a`: backing device and network.
    Both,
}

impl Congestion {
    /// The first of these reasons that holds, in DRBD's order: the device lets no requests in, the worker waits for a
    /// helper, the backing device has more to do than it can begin, the network takes less than there is to send.
    pub const fn of(frozen: bool, helper: bool, backing: bool, network: bool) -> Congestion {
        match (frozen, helper, backing, network) {
            (true, ..) => Congestion::Frozen,
            (_, true, ..) => Congestion::Helper,
            (_, _, true, true) => Congestion::Both,
            (_, _, true, false) => Congestion::Backing,
            (_, _, false, true) => Congestion::Network,
            (_, _, false, false) => Congestion::None,
        }
    }

    /// The letter.
    pub const fn letter(self) -> char {
        match self {
            Congestion::None => '-',
            Congestion::Frozen => 'd',
            Congestion::Helper => 'c',
            Congestion::Backing => 'b',
            Congestion::Network => 'n',
            Congestion::Both => 'a',
        }
    }
}

/// Which of the three timeouts `wait-connect` and `wait-sync` use. spec/drbdsetup.md 5.7.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeoutClass {
    /// `--wfc-timeout`.
    #[default]
    Normal,
    /// `--degr-wfc-timeout`: attached from a crashed Primary that had no peer.
    Degraded,
    /// `--outdated-wfc-timeout`: the peer's disk is Outdated.
    Outdated,
}

/// Number of marks of a [`Progress`].
pub const MARKS: usize = 8;

/// A point in time of a resync or verify.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When, milliseconds on the clock of [`Snapshot::now_ms`].
    pub time_ms: u64,
    /// Bits left then.
    pub left: u64,
}

/// What the progress block of /proc/drbd is computed from. spec/drbdsetup.md 8.3. Bits unless
/// noted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Bits to do at the start.
    pub total: u64,
    /// Bits that could not be synced.
    pub failed: u64,
    /// Verify: bits not yet compared.
    pub verify_left: u64,
    /// Verify: sector where it started.
    pub verify_start_sector: u64,
    /// Verify: sector to stop at, exclusive.
    pub verify_stop_sector: Option<u64>,
    /// Resync: next bit to look at.
    pub resync_position: u64,
    /// Bits found equal by checksum.
    pub same_checksum: u64,
    /// Start, milliseconds.
    pub start_ms: u64,
    /// Time spent paused, milliseconds.
    pub paused_ms: u64,
    /// Rolling marks.
    pub marks: [Mark; MARKS],
    /// Index of the youngest mark.
    pub last_mark: usize,
    /// The rate that the controller asks for now, KiB/s.
    pub want_kib: u64,
}

impl Snapshot {
    /// The volume with this minor, and its resource.
    pub fn minor(&self, minor: u32) -> Option<(&Resource, &Volume)> {
        self.volumes().find(|(_, v)| v.minor == minor)
    }

    /// The resource of this name.
    pub fn resource(&self, name: &str) -> Option<&Resource> {
        self.resources.iter().find(|r| r.name == name)
    }

    /// Every volume with its resource, in no order.
    pub fn volumes(&self) -> impl Iterator<Item = (&Resource, &Volume)> {
        self.resources.iter().flat_map(|r| r.volumes.iter().map(move |v| (r, v)))
    }
}

impl Resource {
    /// The highest role of its volumes: Unknown < Secondary < Primary. spec/state.md 1.3.
    pub fn role(&self) -> Role {
        if self.volumes.iter().any(|v| v.state.role == Role::Primary) {
            Role::Primary
        } else {
            Role::Secondary
        }
    }

    /// The highest role that the peer has.
    pub fn peer_role(&self) -> Role {
        let rank = |role| match role {
            Role::Unknown => 0,
            Role::Secondary => 1,
            Role::Primary => 2,
        };
        let roles = self.volumes.iter().map(|v| v.state.peer);
        roles.max_by_key(|&r| rank(r)).unwrap_or(Role::Unknown)
    }

    /// Why I/O is suspended, of the resource as a whole.
    pub fn suspended(&self) -> Suspended {
        let any = |bit: fn(&StateWord) -> bool| self.volumes.iter().any(|v| bit(&v.state));
        Suspended {
            user: self.suspended.user || any(|s| s.susp),
            no_data: self.suspended.no_data || any(|s| s.susp_nod),
            fencing: self.suspended.fencing || any(|s| s.susp_fen),
        }
    }

    /// Its volumes, ascending by number.
    pub fn volumes_sorted(&self) -> Vec<&Volume> {
        let mut volumes: Vec<&Volume> = self.volumes.iter().collect();
        volumes.sort_by_key(|v| v.number);
        volumes
    }
}

impl Volume {
    /// 8.3's "Unconfigured": StandAlone and Diskless, whatever the role. spec/drbdsetup.md 5.
    pub fn is_unconfigured(&self) -> bool {
        self.state.conn == Conn::StandAlone && self.state.disk == Disk::Diskless
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fifth_flag_names_the_first_reason_that_holds() {
        let of = |causes: &str| {
            let has = |cause| causes.contains(cause);
            Congestion::of(has('d'), has('c'), has('b'), has('n')).letter()
        };
        for (causes, letter) in
            [("", '-'), ("n", 'n'), ("b", 'b'), ("bn", 'a'), ("cbn", 'c'), ("dcbn", 'd'), ("db", 'd')]
        {
            assert_eq!(of(causes), letter, "{causes}");
        }
    }
}
