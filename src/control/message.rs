//! What travels over the control socket. Codes are those of spec/state.md 2, requests those of
//! spec/drbdsetup.md 3.2 and 6.2 in 8.4's model: resource, connection, volumes.

use crate::conf::value::Value;
use crate::conf::Dialect;
use crate::core::codes::{state_code, ConfigCode, StateError, StateResult};
use crate::core::state::StateWord;
use crate::status::{AddressPair, Resource, Snapshot};
use serde::{Deserialize, Serialize};

/// One call of a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Form of the command: which checks apply in which order, and which release's defaults.
    /// spec/decisions.md 1.7 and 3.4.
    pub form: Dialect,
    /// 8.3's `--create-device`: make the minor of the request if it does not exist.
    pub create_device: bool,
    /// `DRBD_RESOURCE`: resource of a minor that `create_device` makes. spec/decisions.md 5.4.
    pub resource_name: Option<String>,
    /// `DRBDBOX_DEVICE`: the name of its device in drbd.conf, if that is not `/dev/drbdN`. The original leaves the link
    /// to udev, which sees nothing of our nodes. spec/config.md 4.2, spec/drbdsetup.md 11.
    #[serde(default)]
    pub device_name: Option<String>,
    /// What to do.
    pub request: Request,
}

impl Call {
    /// A call in 8.4's form.
    pub fn new(request: Request) -> Call {
        Call { form: Dialect::V84, create_device: false, resource_name: None, device_name: None, request }
    }
}

/// A setting to change: name in the option table (8.4's name) and value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingChange {
    /// 8.4 name of the option; 8.3's inverted switches are already turned round.
    pub option: String,
    /// Its value, in the option's default unit.
    pub value: Value,
}

/// What names a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConnectionOf {
    /// 8.3: that of this minor's resource.
    Minor(u32),
    /// 8.4 `connect`: that of this resource.
    Resource(String),
    /// 8.4 `net-options`, `disconnect`: the one with these endpoints.
    Addresses(AddressPair),
}

/// What a client asks for. `minor` is N of /dev/drbdN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// 8.4 `new-resource`.
    NewResource {
        /// Its name.
        name: String,
        /// `cpu-mask`, `on-no-data-accessible`.
        changes: Vec<SettingChange>,
    },
    /// 8.4 `new-minor`.
    NewMinor {
        /// Resource that it belongs to.
        resource: String,
        /// N of /dev/drbdN.
        minor: u32,
        /// Volume number.
        volume: u32,
    },
    /// 8.4 `del-minor`.
    DeleteMinor {
        /// Minor.
        minor: u32,
    },
    /// 8.4 `del-resource`.
    DeleteResource {
        /// Its name.
        name: String,
    },
    /// 8.3 `disk`, 8.4 `attach`. Resets the disk settings to the defaults of the call's form
    /// first (spec/decisions.md 3.4).
    Attach {
        /// Minor.
        minor: u32,
        /// Path of the lower device.
        lower_device: String,
        /// Path of the meta data device; equal to `lower_device` if internal.
        meta_device: String,
        /// -3: internal; -2: flexible external; n >= 0: indexed; anything else: 116.
        meta_index: i32,
        /// Changes to the disk settings.
        changes: Vec<SettingChange>,
    },
    /// 8.4 `disk-options`.
    DiskOptions {
        /// Minor.
        minor: u32,
        /// Start from the defaults.
        set_defaults: bool,
        /// Changes to the disk settings.
        changes: Vec<SettingChange>,
    },
    /// `detach`.
    Detach {
        /// Minor.
        minor: u32,
        /// Without waiting for I/O.
        force: bool,
    },
    /// 8.3 `net`, 8.4 `connect`. Resets the net settings to the defaults of the call's form
    /// first.
    Connect {
        /// `Minor` or `Resource`.
        connection: ConnectionOf,
        /// Both endpoints.
        addresses: AddressPair,
        /// Changes to the net settings, `protocol` among them.
        changes: Vec<SettingChange>,
    },
    /// 8.4 `net-options`.
    NetOptions {
        /// Both endpoints.
        addresses: AddressPair,
        /// Start from the defaults.
        set_defaults: bool,
        /// Changes to the net settings.
        changes: Vec<SettingChange>,
    },
    /// `disconnect`.
    Disconnect {
        /// `Minor` (8.3) or `Addresses` (8.4).
        connection: ConnectionOf,
        /// Without asking the peer.
        force: bool,
    },
    /// 8.3 `syncer`: settings of volume, connection and resource at once.
    Syncer {
        /// Minor.
        minor: u32,
        /// Start from the defaults.
        set_defaults: bool,
        /// Changes to any setting of 8.3's `syncer`.
        changes: Vec<SettingChange>,
    },
    /// 8.4 `resource-options`.
    ResourceOptions {
        /// Resource.
        name: String,
        /// Start from the defaults.
        set_defaults: bool,
        /// Changes to the resource settings.
        changes: Vec<SettingChange>,
    },
    /// `primary`.
    Primary {
        /// Minor.
        minor: u32,
        /// `--force`, `--overwrite-data-of-peer`.
        force: bool,
    },
    /// `secondary`.
    Secondary {
        /// Minor.
        minor: u32,
    },
    /// 8.4 `down`: demote, disconnect, detach, delete volumes and resource. (8.3's `down` is
    /// three requests and [`Request::RemoveNode`].)
    Down {
        /// Resource.
        resource: String,
    },
    /// End of 8.3's `down`: /dev/drbdN goes, the minor stays. spec/decisions.md 7.2.
    RemoveNode {
        /// Minor.
        minor: u32,
    },
    /// `outdate`.
    Outdate {
        /// Minor.
        minor: u32,
    },
    /// `invalidate`.
    Invalidate {
        /// Minor.
        minor: u32,
    },
    /// `invalidate-remote`.
    InvalidateRemote {
        /// Minor.
        minor: u32,
    },
    /// `pause-sync`.
    PauseSync {
        /// Minor.
        minor: u32,
    },
    /// `resume-sync`.
    ResumeSync {
        /// Minor.
        minor: u32,
    },
    /// `suspend-io`.
    SuspendIo {
        /// Minor.
        minor: u32,
    },
    /// `resume-io`.
    ResumeIo {
        /// Minor.
        minor: u32,
    },
    /// `verify`.
    Verify {
        /// Minor.
        minor: u32,
        /// First sector; `None`: where the last verify stopped.
        start: Option<u64>,
        /// Sector to stop at, exclusive.
        stop: Option<u64>,
    },
    /// `resize`.
    Resize {
        /// Minor.
        minor: u32,
        /// Sectors; 0: as large as possible.
        size: u64,
        /// `--assume-peer-has-space`.
        assume_peer_has_space: bool,
        /// `--assume-clean`.
        assume_clean: bool,
        /// 8.4 `--al-stripes`.
        al_stripes: Option<u32>,
        /// 8.4 `--al-stripe-size-kB`.
        al_stripe_size_kib: Option<u32>,
    },
    /// `new-current-uuid`.
    NewCurrentUuid {
        /// Minor.
        minor: u32,
        /// `--clear-bitmap`.
        clear_bitmap: bool,
    },
    /// Everything, as one [`Snapshot`]. Answered by the server.
    Snapshot,
    /// The text of /proc/drbd. Answered by the server.
    ProcText,
    /// Events from now on, after a snapshot. Answered by the server.
    Subscribe,
    /// End the daemon.
    Stop,
}

impl Request {
    /// The minor that it is about, if one is named.
    pub fn minor(&self) -> Option<u32> {
        use Request::*;
        match self {
            NewMinor { minor, .. }
            | DeleteMinor { minor }
            | Attach { minor, .. }
            | DiskOptions { minor, .. }
            | Detach { minor, .. }
            | Syncer { minor, .. }
            | Primary { minor, .. }
            | Secondary { minor }
            | RemoveNode { minor }
            | Outdate { minor }
            | Invalidate { minor }
            | InvalidateRemote { minor }
            | PauseSync { minor }
            | ResumeSync { minor }
            | SuspendIo { minor }
            | ResumeIo { minor }
            | Verify { minor, .. }
            | Resize { minor, .. }
            | NewCurrentUuid { minor, .. } => Some(*minor),
            Connect { connection, .. } | Disconnect { connection, .. } => match connection {
                ConnectionOf::Minor(minor) => Some(*minor),
                _ => None,
            },
            NewResource { .. }
            | DeleteResource { .. }
            | NetOptions { .. }
            | ResourceOptions { .. }
            | Down { .. }
            | Snapshot
            | ProcText
            | Subscribe
            | Stop => None,
        }
    }
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// Outcome of a command.
    Code {
        /// `SS_*` or `ERR_*` number; 1 to 4 and 101 are success.
        code: i32,
        /// Lines for "additional info from kernel:" (8.4's form only).
        info: Vec<String>,
    },
    /// To [`Request::Snapshot`].
    Snapshot(Box<Snapshot>),
    /// To [`Request::ProcText`].
    Text(String),
    /// One of many to [`Request::Subscribe`].
    Event(Box<Event>),
}

impl Reply {
    /// Success of a configuration command.
    pub fn ok() -> Reply {
        ConfigCode::NoError.into()
    }

    /// A code with an explanation.
    pub fn with_info(code: ConfigCode, info: impl Into<String>) -> Reply {
        Reply::Code { code: code.number(), info: vec![info.into()] }
    }
}

impl From<ConfigCode> for Reply {
    fn from(code: ConfigCode) -> Reply {
        Reply::Code { code: code.number(), info: Vec::new() }
    }
}

impl From<StateResult> for Reply {
    fn from(result: StateResult) -> Reply {
        Reply::Code { code: state_code(result), info: Vec::new() }
    }
}

impl From<StateError> for Reply {
    fn from(error: StateError) -> Reply {
        Err(error).into()
    }
}

/// Something that happened in the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Number within the daemon's life, from 3; state messages and notifications are counted
    /// apart. spec/drbdsetup.md 5.6 and 6.7.
    pub sequence: u32,
    /// When, microseconds since 1970.
    pub time_us: u64,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum EventKind {
    /// First event of a stream, and again after [`EventKind::Skipped`]: everything.
    Start(Box<Snapshot>),
    /// The reader was too slow; this many events are missing here.
    Skipped(u64),
    /// A state word changed.
    State {
        /// The resource after the change.
        resource: Box<Resource>,
        /// Volume's minor.
        minor: u32,
        /// Word before.
        old: StateWord,
        /// Word after.
        new: StateWord,
    },
    /// A resource was made, or something of it changed that is in no state word (connection,
    /// settings, volumes that came or went).
    Resource(Box<Resource>),
    /// A resource was deleted.
    ResourceDeleted {
        /// Its name.
        name: String,
    },
    /// A handler is about to be called, or has returned.
    Helper {
        /// Resource.
        resource: String,
        /// Minor and volume number, if it is about a volume.
        volume: Option<(u32, u16)>,
        /// Name of the handler.
        helper: String,
        /// Wait status of the handler (exit code n is `n << 8`); `None`: being called.
        status: Option<u32>,
    },
    /// A resync made progress.
    SyncProgress {
        /// Resource.
        resource: String,
        /// Minor.
        minor: u32,
        /// Volume number.
        volume: u16,
        /// 0 to 1000.
        permille: u32,
    },
    /// A block whose digest was wrong.
    DigestMismatch {
        /// Resource.
        resource: String,
        /// Minor.
        minor: u32,
        /// Volume number.
        volume: u16,
        /// For example `digest failed`.
        reason: String,
        /// First sector.
        sector: u64,
        /// The sender's id of the block.
        block_id: u64,
        /// Digest that came with it.
        received: Vec<u8>,
        /// Digest that was computed.
        computed: Vec<u8>,
        /// Length of the block, bytes.
        size: u32,
        /// The block, cut off after 32768 bytes.
        data: Vec<u8>,
    },
}

impl EventKind {
    /// Counted with the state messages (`events`), not with the notifications (`events2`).
    pub fn is_state_message(&self) -> bool {
        !matches!(self, EventKind::Resource(_) | EventKind::ResourceDeleted { .. })
    }

    /// The minor that it is about, if it is about one.
    pub fn minor(&self) -> Option<u32> {
        match self {
            EventKind::State { minor, .. }
            | EventKind::SyncProgress { minor, .. }
            | EventKind::DigestMismatch { minor, .. } => Some(*minor),
            EventKind::Helper { volume, .. } => volume.map(|(minor, _)| minor),
            EventKind::Start(_)
            | EventKind::Skipped(_)
            | EventKind::Resource(_)
            | EventKind::ResourceDeleted { .. } => None,
        }
    }
}
