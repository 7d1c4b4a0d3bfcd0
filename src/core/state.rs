//! The state word of a volume: its fields, their numbers and names, and changes to it.
//!
//! spec/state.md 1 (layout, names, order relations) and 6.5 (the word as the peer sees it).

use serde::{Deserialize, Serialize};
use std::fmt;

/// A field of a state word holds a number that names no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("state word {word:#010x}: {field} has the unknown value {value}")]
pub struct UnknownState {
    /// The whole word or value.
    pub word: u32,
    /// Name of the field.
    pub field: &'static str,
    /// What stands in the field.
    pub value: u32,
}

/// An enum whose discriminants and names are the table of spec/state.md 1.2.
macro_rules! state_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$vdoc])* $variant = $number,)*
        }

        impl $name {
            /// All values, ascending.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The number on the wire and in the state word.
            pub const fn number(self) -> u32 {
                self as u32
            }

            /// The name that DRBD prints.
            pub const fn name(self) -> &'static str {
                match self {
                    $($name::$variant => stringify!($variant),)*
                }
            }

            /// The value with this number; `None`: no such state.
            pub const fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some($name::$variant),)*
                    _ => None,
                }
            }

            /// The value with this name, as printed by [`Self::name`].
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|v| v.name() == name)
            }

            /// The name of a number, `TOO_LARGE` for one that names no state.
            pub fn name_of(number: u32) -> &'static str {
                Self::from_number(number).map_or("TOO_LARGE", Self::name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

state_enum! {
    /// Role of a node. spec/state.md 1.2.
    Role {
        /// Not known: the peer is not connected.
        Unknown = 0,
        /// The device may be opened for writing.
        Primary = 1,
        /// The device may not be opened.
        Secondary = 2,
    }
}

state_enum! {
    /// State of a disk, own or the peer's. The order of the numbers is used by the rules:
    /// `DUnknown` sorts between `Outdated` and `Consistent`. spec/state.md 1.2.
    Disk {
        /// No backing device.
        Diskless = 0,
        /// A disk is being attached.
        Attaching = 1,
        /// An error or a detach; `Diskless` follows.
        Failed = 2,
        /// Attached while connected; the handshake decides.
        Negotiating = 3,
        /// Not a usable data set.
        Inconsistent = 4,
        /// Consistent, but known to be old.
        Outdated = 5,
        /// Not known; only for the peer's disk.
        DUnknown = 6,
        /// Consistent, age not known.
        Consistent = 7,
        /// The good data.
        UpToDate = 8,
    }
}

state_enum! {
    /// State of a connection. spec/state.md 1.2.
    Conn {
        /// No network configuration in use.
        StandAlone = 0,
        /// On the way to `StandAlone`.
        Disconnecting = 1,
        /// Between two attempts.
        Unconnected = 2,
        /// Lost: the peer did not answer in time.
        Timeout = 3,
        /// Lost: a socket was closed.
        BrokenPipe = 4,
        /// Lost: ping or meta socket.
        NetworkFailure = 5,
        /// Lost: the peer sent something wrong.
        ProtocolError = 6,
        /// The peer disconnects gracefully.
        TearDown = 7,
        /// Waiting for the peer.
        WFConnection = 8,
        /// Sockets are up, parameters are exchanged.
        WFReportParams = 9,
        /// Connected, nothing else going on.
        Connected = 10,
        /// Full sync by the admin begins, source.
        StartingSyncS = 11,
        /// Full sync by the admin begins, target.
        StartingSyncT = 12,
        /// Bitmap exchange, source.
        WFBitMapS = 13,
        /// Bitmap exchange, target.
        WFBitMapT = 14,
        /// Target waits for the sync UUID.
        WFSyncUUID = 15,
        /// Resync runs, this node is the source.
        SyncSource = 16,
        /// Resync runs, this node is the target.
        SyncTarget = 17,
        /// Online verify, the node that compares.
        VerifyS = 18,
        /// Online verify, the other node.
        VerifyT = 19,
        /// Resync paused, source.
        PausedSyncS = 20,
        /// Resync paused, target.
        PausedSyncT = 21,
        /// Replication suspended by congestion (apv >= 96).
        Ahead = 22,
        /// The peer is `Ahead` (apv >= 96).
        Behind = 23,
    }
}

impl Conn {
    /// `Timeout..=TearDown`: the connection was lost. spec/state.md 1.2.
    pub fn is_lost(self) -> bool {
        (Conn::Timeout..=Conn::TearDown).contains(&self)
    }

    /// A resync or an online verify runs or is paused (16..=21). spec/state.md 1.2.
    pub fn is_sync_or_verify(self) -> bool {
        (Conn::SyncSource..=Conn::PausedSyncT).contains(&self)
    }

    /// `SyncSource`, `SyncTarget` or their paused forms.
    pub fn is_resync(self) -> bool {
        self.is_sync_source() || self.is_sync_target()
    }

    /// `SyncSource` or `PausedSyncS`.
    pub fn is_sync_source(self) -> bool {
        matches!(self, Conn::SyncSource | Conn::PausedSyncS)
    }

    /// `SyncTarget` or `PausedSyncT`.
    pub fn is_sync_target(self) -> bool {
        matches!(self, Conn::SyncTarget | Conn::PausedSyncT)
    }

    /// `VerifyS` or `VerifyT`.
    pub fn is_verify(self) -> bool {
        matches!(self, Conn::VerifyS | Conn::VerifyT)
    }

    /// This state of the peer's word as an own one. spec/state.md 6.5; states that stand in no
    /// request become `StandAlone`.
    pub fn seen_by_peer(self) -> Conn {
        match self {
            Conn::Connected => Conn::Connected,
            Conn::StartingSyncS => Conn::StartingSyncT,
            Conn::StartingSyncT => Conn::StartingSyncS,
            Conn::WFReportParams => Conn::WFReportParams,
            Conn::Disconnecting => Conn::TearDown,
            Conn::VerifyS => Conn::VerifyT,
            _ => Conn::StandAlone,
        }
    }
}

/// Bit positions and widths of the fields, spec/state.md 1.1.
mod layout {
    pub const ROLE: (u32, u32) = (0, 2);
    pub const PEER: (u32, u32) = (2, 2);
    pub const CONN: (u32, u32) = (4, 5);
    pub const DISK: (u32, u32) = (9, 4);
    pub const PDSK: (u32, u32) = (13, 4);
    pub const SUSP: (u32, u32) = (17, 1);
    pub const AFTR_ISP: (u32, u32) = (18, 1);
    pub const PEER_ISP: (u32, u32) = (19, 1);
    pub const USER_ISP: (u32, u32) = (20, 1);
    pub const SUSP_NOD: (u32, u32) = (21, 1);
    pub const SUSP_FEN: (u32, u32) = (22, 1);

    pub const fn mask((shift, width): (u32, u32)) -> u32 {
        ((1 << width) - 1) << shift
    }

    pub const fn get(word: u32, field: (u32, u32)) -> u32 {
        (word & mask(field)) >> field.0
    }

    pub const fn put(value: u32, field: (u32, u32)) -> u32 {
        value << field.0
    }
}

/// The state of one volume. spec/state.md 1.1; the susp bits belong to the resource in 8.4, the
/// word carries them all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StateWord {
    /// Own role.
    pub role: Role,
    /// Role of the peer.
    pub peer: Role,
    /// Connection.
    pub conn: Conn,
    /// Own disk.
    pub disk: Disk,
    /// The peer's disk.
    pub pdsk: Disk,
    /// I/O suspended by the admin.
    pub susp: bool,
    /// Resync paused here because of a dependency (resync-after).
    pub aftr_isp: bool,
    /// Resync paused because the peer pauses.
    pub peer_isp: bool,
    /// Resync paused here by the admin.
    pub user_isp: bool,
    /// I/O suspended: no data accessible.
    pub susp_nod: bool,
    /// I/O suspended: fencing of the peer runs or failed.
    pub susp_fen: bool,
}

impl StateWord {
    /// The state before anything is configured: `0x0000c002`. spec/state.md 1.1.
    pub const UNCONFIGURED: StateWord = StateWord {
        role: Role::Secondary,
        peer: Role::Unknown,
        conn: Conn::StandAlone,
        disk: Disk::Diskless,
        pdsk: Disk::DUnknown,
        susp: false,
        aftr_isp: false,
        peer_isp: false,
        user_isp: false,
        susp_nod: false,
        susp_fen: false,
    };

    /// The 32-bit form, as in P_STATE. spec/state.md 1.1.
    pub const fn to_bits(self) -> u32 {
        use layout::{
            put, AFTR_ISP, CONN, DISK, PDSK, PEER, PEER_ISP, ROLE, SUSP, SUSP_FEN, SUSP_NOD, USER_ISP,
        };
        put(self.role.number(), ROLE)
            | put(self.peer.number(), PEER)
            | put(self.conn.number(), CONN)
            | put(self.disk.number(), DISK)
            | put(self.pdsk.number(), PDSK)
            | put(self.susp as u32, SUSP)
            | put(self.aftr_isp as u32, AFTR_ISP)
            | put(self.peer_isp as u32, PEER_ISP)
            | put(self.user_isp as u32, USER_ISP)
            | put(self.susp_nod as u32, SUSP_NOD)
            | put(self.susp_fen as u32, SUSP_FEN)
    }

    /// The word with these bits; bits above 22 are ignored (spec/wire.md 4.6).
    ///
    /// # Errors
    /// A field holds a number that names no state.
    pub fn from_bits(word: u32) -> Result<StateWord, UnknownState> {
        Ok(StateWord {
            role: role_of(word, layout::ROLE, "role")?,
            peer: role_of(word, layout::PEER, "peer")?,
            conn: conn_of(word)?,
            disk: disk_of(word, layout::DISK, "disk")?,
            pdsk: disk_of(word, layout::PDSK, "pdsk")?,
            susp: layout::get(word, layout::SUSP) == 1,
            aftr_isp: layout::get(word, layout::AFTR_ISP) == 1,
            peer_isp: layout::get(word, layout::PEER_ISP) == 1,
            user_isp: layout::get(word, layout::USER_ISP) == 1,
            susp_nod: layout::get(word, layout::SUSP_NOD) == 1,
            susp_fen: layout::get(word, layout::SUSP_FEN) == 1,
        })
    }

    /// Application I/O is suspended for any reason. spec/state.md 1.1.
    pub const fn is_susp(self) -> bool {
        self.susp || self.susp_nod || self.susp_fen
    }

    /// A resync is paused for any reason: one of the isp bits is set.
    pub const fn is_sync_paused(self) -> bool {
        self.aftr_isp || self.peer_isp || self.user_isp
    }

    /// Nothing is configured: Diskless, StandAlone, Secondary. spec/state.md 5.2 A30.
    pub fn is_unconfigured(self) -> bool {
        self.disk == Disk::Diskless && self.conn == Conn::StandAlone && self.role == Role::Secondary
    }

    /// The peer's word from this node's point of view. spec/state.md 6.5. Applied twice it gives
    /// the word again where conn is Connected, StartingSync*, WFReportParams or StandAlone and
    /// peer_isp = aftr_isp or user_isp.
    pub fn seen_by_peer(self) -> StateWord {
        StateWord {
            role: self.peer,
            peer: self.role,
            conn: self.conn.seen_by_peer(),
            disk: self.pdsk,
            pdsk: self.disk,
            peer_isp: self.aftr_isp || self.user_isp,
            ..self
        }
    }

    /// `Primary/Secondary`, as in /proc/drbd and `drbdsetup role`.
    pub fn roles(self) -> String {
        format!("{}/{}", self.role, self.peer)
    }

    /// `UpToDate/DUnknown`, as in /proc/drbd and `drbdsetup dstate`.
    pub fn disks(self) -> String {
        format!("{}/{}", self.disk, self.pdsk)
    }

    /// The six flags: suspended or running, then aftr_isp, peer_isp, user_isp, susp_fen,
    /// susp_nod. spec/state.md 17.3.
    pub fn flags(self) -> String {
        let one = |set: bool, letter: char| if set { letter } else { '-' };
        [
            if self.is_susp() { 's' } else { 'r' },
            one(self.aftr_isp, 'a'),
            one(self.peer_isp, 'p'),
            one(self.user_isp, 'u'),
            one(self.susp_fen, 'F'),
            one(self.susp_nod, 'N'),
        ]
        .iter()
        .collect()
    }
}

impl Default for StateWord {
    fn default() -> Self {
        Self::UNCONFIGURED
    }
}

/// `cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate r-----`, spec/state.md 17.3.
impl fmt::Display for StateWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cs:{} ro:{} ds:{} {}", self.conn, self.roles(), self.disks(), self.flags())
    }
}

fn role_of(word: u32, field: (u32, u32), name: &'static str) -> Result<Role, UnknownState> {
    let value = layout::get(word, field);
    Role::from_number(value).ok_or(UnknownState { word, field: name, value })
}

fn disk_of(word: u32, field: (u32, u32), name: &'static str) -> Result<Disk, UnknownState> {
    let value = layout::get(word, field);
    Disk::from_number(value).ok_or(UnknownState { word, field: name, value })
}

fn conn_of(word: u32) -> Result<Conn, UnknownState> {
    let value = layout::get(word, layout::CONN);
    Conn::from_number(value).ok_or(UnknownState { word, field: "conn", value })
}

/// A change to a state word: the fields that it sets. On the wire a mask and a value
/// (spec/wire.md 4.7); spec/state.md 19.1 lists the requests that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub struct Change {
    /// New own role.
    pub role: Option<Role>,
    /// New role of the peer.
    pub peer: Option<Role>,
    /// New connection state.
    pub conn: Option<Conn>,
    /// New own disk state.
    pub disk: Option<Disk>,
    /// New state of the peer's disk.
    pub pdsk: Option<Disk>,
    /// Suspended by the admin.
    pub susp: Option<bool>,
    /// Resync paused by a dependency.
    pub aftr_isp: Option<bool>,
    /// Resync paused by the peer.
    pub peer_isp: Option<bool>,
    /// Resync paused by the admin.
    pub user_isp: Option<bool>,
    /// Suspended: no data.
    pub susp_nod: Option<bool>,
    /// Suspended: fencing.
    pub susp_fen: Option<bool>,
}

/// A request for a state change whose mask covers a field in part, or whose value names no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadChange {
    /// A field of the mask is neither all zeros nor all ones.
    #[error("state change request: mask {mask:#x} covers only a part of {field}")]
    PartialMask {
        /// The mask.
        mask: u32,
        /// Name of the field.
        field: &'static str,
    },
    /// A masked field of the value names no state.
    #[error("state change request: {0}")]
    Unknown(#[from] UnknownState),
}

macro_rules! change_setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        $($(#[$doc])*
        pub const fn $name(value: $type) -> Change {
            Change { $name: Some(value), ..Change::NONE }
        })*
    };
}

impl Change {
    /// Changes nothing.
    pub const NONE: Change = Change {
        role: None,
        peer: None,
        conn: None,
        disk: None,
        pdsk: None,
        susp: None,
        aftr_isp: None,
        peer_isp: None,
        user_isp: None,
        susp_nod: None,
        susp_fen: None,
    };

    change_setters! {
        /// Sets the own role.
        role: Role,
        /// Sets the peer's role.
        peer: Role,
        /// Sets the connection state.
        conn: Conn,
        /// Sets the own disk state.
        disk: Disk,
        /// Sets the peer's disk state.
        pdsk: Disk,
        /// Sets or clears the admin's suspension.
        susp: bool,
        /// Sets or clears the pause by dependency.
        aftr_isp: bool,
        /// Sets or clears the pause by the peer.
        peer_isp: bool,
        /// Sets or clears the pause by the admin.
        user_isp: bool,
        /// Sets or clears the suspension for lack of data.
        susp_nod: bool,
        /// Sets or clears the suspension by fencing.
        susp_fen: bool,
    }

    /// Every field of the word: the change that makes any state this one.
    pub const fn to(word: StateWord) -> Change {
        Change {
            role: Some(word.role),
            peer: Some(word.peer),
            conn: Some(word.conn),
            disk: Some(word.disk),
            pdsk: Some(word.pdsk),
            susp: Some(word.susp),
            aftr_isp: Some(word.aftr_isp),
            peer_isp: Some(word.peer_isp),
            user_isp: Some(word.user_isp),
            susp_nod: Some(word.susp_nod),
            susp_fen: Some(word.susp_fen),
        }
    }

    /// Both changes; where both set a field, `other` wins.
    #[must_use]
    pub fn and(self, other: Change) -> Change {
        Change {
            role: other.role.or(self.role),
            peer: other.peer.or(self.peer),
            conn: other.conn.or(self.conn),
            disk: other.disk.or(self.disk),
            pdsk: other.pdsk.or(self.pdsk),
            susp: other.susp.or(self.susp),
            aftr_isp: other.aftr_isp.or(self.aftr_isp),
            peer_isp: other.peer_isp.or(self.peer_isp),
            user_isp: other.user_isp.or(self.user_isp),
            susp_nod: other.susp_nod.or(self.susp_nod),
            susp_fen: other.susp_fen.or(self.susp_fen),
        }
    }

    /// The wanted state: `os` with the fields of the change. Nothing is checked or sanitized.
    #[must_use]
    pub fn apply(self, os: StateWord) -> StateWord {
        StateWord {
            role: self.role.unwrap_or(os.role),
            peer: self.peer.unwrap_or(os.peer),
            conn: self.conn.unwrap_or(os.conn),
            disk: self.disk.unwrap_or(os.disk),
            pdsk: self.pdsk.unwrap_or(os.pdsk),
            susp: self.susp.unwrap_or(os.susp),
            aftr_isp: self.aftr_isp.unwrap_or(os.aftr_isp),
            peer_isp: self.peer_isp.unwrap_or(os.peer_isp),
            user_isp: self.user_isp.unwrap_or(os.user_isp),
            susp_nod: self.susp_nod.unwrap_or(os.susp_nod),
            susp_fen: self.susp_fen.unwrap_or(os.susp_fen),
        }
    }

    /// The mask of the wire form. spec/wire.md 4.7.
    pub fn mask(self) -> u32 {
        let all = |set: bool, field| if set { layout::mask(field) } else { 0 };
        all(self.role.is_some(), layout::ROLE)
            | all(self.peer.is_some(), layout::PEER)
            | all(self.conn.is_some(), layout::CONN)
            | all(self.disk.is_some(), layout::DISK)
            | all(self.pdsk.is_some(), layout::PDSK)
            | all(self.susp.is_some(), layout::SUSP)
            | all(self.aftr_isp.is_some(), layout::AFTR_ISP)
            | all(self.peer_isp.is_some(), layout::PEER_ISP)
            | all(self.user_isp.is_some(), layout::USER_ISP)
            | all(self.susp_nod.is_some(), layout::SUSP_NOD)
            | all(self.susp_fen.is_some(), layout::SUSP_FEN)
    }

    /// The value of the wire form: the set fields, zero elsewhere. spec/wire.md 4.7.
    pub fn val(self) -> u32 {
        self.apply(StateWord::UNCONFIGURED).to_bits() & self.mask()
    }

    /// The change that a request of a peer describes, still from the peer's point of view.
    ///
    /// # Errors
    /// The mask covers a part of a field only, or the value names no state: DRBD sends neither.
    pub fn from_wire(mask: u32, val: u32) -> Result<Change, BadChange> {
        let covered = |field: (u32, u32), name| match layout::get(mask, field) {
            0 => Ok(false),
            _ if mask & layout::mask(field) == layout::mask(field) => Ok(true),
            _ => Err(BadChange::PartialMask { mask, field: name }),
        };
        let bit = |field, name| covered(field, name).map(|set| set.then(|| layout::get(val, field) == 1));
        let role = |field, name| {
            covered(field, name)?.then(|| role_of(val, field, name).map_err(BadChange::from)).transpose()
        };
        let disk = |field, name| {
            covered(field, name)?.then(|| disk_of(val, field, name).map_err(BadChange::from)).transpose()
        };
        Ok(Change {
            role: role(layout::ROLE, "role")?,
            peer: role(layout::PEER, "peer")?,
            conn: covered(layout::CONN, "conn")?.then(|| conn_of(val)).transpose()?,
            disk: disk(layout::DISK, "disk")?,
            pdsk: disk(layout::PDSK, "pdsk")?,
            susp: bit(layout::SUSP, "susp")?,
            aftr_isp: bit(layout::AFTR_ISP, "aftr_isp")?,
            peer_isp: bit(layout::PEER_ISP, "peer_isp")?,
            user_isp: bit(layout::USER_ISP, "user_isp")?,
            susp_nod: bit(layout::SUSP_NOD, "susp_nod")?,
            susp_fen: bit(layout::SUSP_FEN, "susp_fen")?,
        })
    }

    /// The peer's request from this node's point of view. spec/state.md 6.5.
    #[must_use]
    pub fn seen_by_peer(self) -> Change {
        let pauses = match (self.aftr_isp, self.user_isp) {
            (None, None) => None,
            (a, u) => Some(a.unwrap_or(false) || u.unwrap_or(false)),
        };
        Change {
            role: self.peer,
            peer: self.role,
            conn: self.conn.map(Conn::seen_by_peer),
            disk: self.pdsk,
            pdsk: self.disk,
            peer_isp: pauses,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn word(role: Role, peer: Role, conn: Conn, disk: Disk, pdsk: Disk) -> StateWord {
        StateWord { role, peer, conn, disk, pdsk, ..StateWord::UNCONFIGURED }
    }

    /// spec/state.md 19.1 and spec/wire.md 4.6.
    #[test]
    fn known_words() {
        use Conn::*;
        use Disk::*;
        use Role::*;
        let waiting = word(Primary, Unknown, WFConnection, UpToDate, DUnknown);
        let frozen = StateWord { susp_fen: true, ..waiting };
        let paused =
            StateWord { user_isp: true, ..word(Primary, Secondary, PausedSyncS, UpToDate, Inconsistent) };
        for (state, bits) in [
            (StateWord::UNCONFIGURED, 0x0000_c002),
            (waiting, 0x0000_d081),
            (frozen, 0x0040_d081),
            (word(Primary, Secondary, Connected, UpToDate, UpToDate), 0x0001_10a9),
            (word(Primary, Secondary, SyncSource, UpToDate, Inconsistent), 0x0000_9109),
            (word(Secondary, Primary, SyncTarget, Inconsistent, UpToDate), 0x0001_0916),
            (paused, 0x0010_9149),
            (word(Secondary, Unknown, WFConnection, UpToDate, DUnknown), 0x0000_d082),
            (word(Secondary, Secondary, Connected, UpToDate, UpToDate), 0x0001_10aa),
            (word(Primary, Secondary, Ahead, UpToDate, Consistent), 0x0000_f169),
        ] {
            assert_eq!(state.to_bits(), bits, "{state}");
            assert_eq!(StateWord::from_bits(bits), Ok(state));
        }
        assert!(frozen.is_susp() && !waiting.is_susp());
        assert_eq!(frozen.to_string(), "cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown s---F-");
    }

    /// The requests of spec/state.md 19.1 and what the peer makes of them, spec/wire.md 4.7.
    #[test]
    fn known_requests() {
        let up = Change::role(Role::Primary);
        for (change, mask, val) in [
            (up, 0x3, 0x1),
            (up.and(Change::disk(Disk::UpToDate)), 0x1e03, 0x1001),
            (Change::conn(Conn::Disconnecting), 0x1f0, 0x10),
            (Change::conn(Conn::Disconnecting).and(Change::pdsk(Disk::Outdated)), 0x1e1f0, 0xa010),
            (Change::conn(Conn::Disconnecting).and(Change::disk(Disk::Outdated)), 0x1ff0, 0xa10),
            (Change::disk(Disk::Outdated), 0x1e00, 0xa00),
            (Change::conn(Conn::StartingSyncT), 0x1f0, 0xc0),
            (Change::conn(Conn::StartingSyncS), 0x1f0, 0xb0),
            (Change::conn(Conn::VerifyS), 0x1f0, 0x120),
            (Change::disk(Disk::Failed), 0x1e00, 0x400),
        ] {
            assert_eq!((change.mask(), change.val()), (mask, val));
            assert_eq!(Change::from_wire(mask, val), Ok(change));
        }
        let seen = |mask, val| Change::from_wire(mask, val).unwrap().seen_by_peer();
        assert_eq!(seen(0x3, 0x1), Change::peer(Role::Primary));
        let torn = seen(0x1f0, 0x10);
        assert_eq!((torn.mask(), torn.val()), (0x1f0, 0x70));
        assert_eq!(seen(0x1e1f0, 0xa010), Change::conn(Conn::TearDown).and(Change::disk(Disk::Outdated)));
        assert_eq!(seen(0x1e00, 0x400), Change::pdsk(Disk::Failed));
        assert_eq!(seen(0x1f0, 0xb0), Change::conn(Conn::StartingSyncT));
        assert_eq!(seen(0x1f0, 0x120), Change::conn(Conn::VerifyT));
        assert_eq!(seen(0x10_0000, 0x10_0000), Change::user_isp(true).and(Change::peer_isp(true)));
    }

    #[test]
    fn requests_that_name_no_state_are_refused() {
        assert!(matches!(Change::from_wire(0x1, 0x1), Err(BadChange::PartialMask { field: "role", .. })));
        assert!(matches!(
            Change::from_wire(0x1f0, 24 << 4),
            Err(BadChange::Unknown(UnknownState { field: "conn", value: 24, .. }))
        ));
        assert!(StateWord::from_bits(9 << 9).is_err());
        assert!(StateWord::from_bits(3).is_err());
    }

    #[test]
    fn numbers_and_names() {
        assert_eq!(Conn::name_of(24), "TOO_LARGE");
        assert_eq!(Conn::from_name("Behind"), Some(Conn::Behind));
        assert_eq!(Conn::Behind.number(), 23);
        assert_eq!(Disk::from_number(9), None);
        assert!(Disk::Outdated < Disk::DUnknown && Disk::DUnknown < Disk::Consistent);
    }

    proptest! {
        #[test]
        fn bits_round_trip(bits in any::<u32>()) {
            if let Ok(state) = StateWord::from_bits(bits) {
                prop_assert_eq!(state.to_bits(), bits & 0x7f_ffff);
                prop_assert_eq!(Change::to(state).apply(StateWord::UNCONFIGURED), state);
            }
        }

        #[test]
        fn wire_changes_touch_only_what_the_mask_covers(mask in any::<u32>(), val in any::<u32>(), bits in any::<u32>()) {
            if let (Ok(change), Ok(os)) = (Change::from_wire(mask, val), StateWord::from_bits(bits)) {
                let ns = change.apply(os).to_bits();
                prop_assert_eq!(ns & !mask, os.to_bits() & !mask);
                prop_assert_eq!(ns & change.mask(), val & change.mask());
            }
        }

        #[test]
        fn the_peers_view_twice_is_the_own_view(bits in any::<u32>(), conn in 0usize..5) {
            let conn = [
                Conn::StandAlone, Conn::Connected, Conn::StartingSyncS, Conn::StartingSyncT, Conn::WFReportParams,
            ][conn];
            if let Ok(state) = StateWord::from_bits(bits) {
                let state = StateWord { conn, peer_isp: state.aftr_isp || state.user_isp, ..state };
                prop_assert_eq!(state.seen_by_peer().seen_by_peer(), state);
            }
        }
    }
}
