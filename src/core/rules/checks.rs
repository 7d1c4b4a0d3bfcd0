//! The three lists of what is refused. spec/state.md 3.3 (states), 3.4 (requests),
//! 3.5 (transitions).

use super::RuleContext;
use crate::conf::settings::Fencing;
use crate::core::codes::StateError;
use crate::core::state::{Conn, Disk, Role, StateWord};

/// One row of the list of invalid states.
struct InvalidState {
    /// Row of spec/state.md 3.3.
    row: &'static str,
    matches: fn(&StateWord, &RuleContext) -> bool,
    error: StateError,
}

/// spec/state.md 3.3: the first match decides.
const INVALID_STATES: [InvalidState; 15] = [
    InvalidState {
        row: "V1",
        matches: |s, c| {
            c.has_net_config && !c.allow_two_primaries && s.role == Role::Primary && s.peer == Role::Primary
        },
        error: StateError::TwoPrimaries,
    },
    InvalidState {
        row: "V1b",
        matches: |s, c| {
            c.has_net_config
                && !c.allow_two_primaries
                && s.role == Role::Primary
                && c.other_volume_peer_primary
        },
        error: StateError::OtherVolumePeerPrimary,
    },
    InvalidState {
        row: "V2",
        matches: |s, c| s.role == Role::Secondary && c.open_count > 0,
        error: StateError::DeviceInUse,
    },
    InvalidState {
        row: "V3",
        matches: |s, _| s.role == Role::Primary && s.conn < Conn::Connected && s.disk < Disk::UpToDate,
        error: StateError::NoUpToDateDisk,
    },
    InvalidState {
        row: "V4",
        matches: |s, c| {
            c.fencing >= Fencing::ResourceOnly
                && s.role == Role::Primary
                && s.conn < Conn::Connected
                && s.pdsk >= Disk::DUnknown
        },
        error: StateError::PrimaryNop,
    },
    InvalidState {
        row: "V5",
        matches: |s, _| {
            s.role == Role::Primary && s.disk <= Disk::Inconsistent && s.pdsk <= Disk::Inconsistent
        },
        error: StateError::NoUpToDateDisk,
    },
    InvalidState {
        row: "V6",
        matches: |s, _| s.conn > Conn::Connected && s.disk < Disk::Inconsistent,
        error: StateError::NoLocalDisk,
    },
    InvalidState {
        row: "V7",
        matches: |s, _| s.conn > Conn::Connected && s.pdsk < Disk::Inconsistent,
        error: StateError::NoRemoteDisk,
    },
    InvalidState {
        row: "V8",
        matches: |s, _| s.conn > Conn::Connected && s.disk < Disk::UpToDate && s.pdsk < Disk::UpToDate,
        error: StateError::NoUpToDateDisk,
    },
    InvalidState {
        row: "V9",
        matches: |s, _| {
            matches!(s.conn, Conn::Connected | Conn::WFBitMapS | Conn::SyncSource | Conn::PausedSyncS)
                && s.disk == Disk::Outdated
                // Beside a peer without data old ones stay what they are: see `sanitize`, S9.
                && (s.conn != Conn::Connected || s.pdsk >= Disk::Outdated)
        },
        error: StateError::ConnectedOutdates,
    },
    InvalidState {
        row: "V10",
        matches: |s, c| s.conn.is_verify() && !c.verify_alg_set,
        error: StateError::NoVerifyAlg,
    },
    InvalidState {
        row: "V11",
        matches: |s, c| s.conn.is_verify() && c.apv.is_some_and(|apv| apv < 88),
        error: StateError::NotSupported,
    },
    InvalidState {
        row: "V12",
        matches: |s, _| super::permissions::primary_without_data(*s),
        error: StateError::NoUpToDateDisk,
    },
    InvalidState {
        row: "V13",
        matches: |s, _| {
            matches!(s.conn, Conn::StartingSyncS | Conn::StartingSyncT) && s.pdsk == Disk::DUnknown
        },
        error: StateError::NeedConnection,
    },
    InvalidState {
        row: "V14",
        matches: |s, _| s.conn >= Conn::Connected && s.pdsk == Disk::DUnknown,
        error: StateError::ConnectedOutdates,
    },
];

/// May a volume be in this state at all? spec/state.md 3.3.
///
/// # Errors
/// The first matching row of the list.
pub fn valid_state(ns: StateWord, ctx: &RuleContext) -> Result<(), StateError> {
    match INVALID_STATES.iter().find(|rule| (rule.matches)(&ns, ctx)) {
        Some(rule) => {
            log::trace!("state {ns} is invalid by {}", rule.row);
            Err(rule.error)
        }
        None => Ok(()),
    }
}

/// One row of the list of refused requests.
struct RefusedRequest {
    /// Row of spec/state.md 3.4.
    row: &'static str,
    matches: fn(&StateWord, &StateWord, &RuleContext) -> bool,
    error: StateError,
}

/// spec/state.md 3.4: all rows are looked at, the last match decides. T7 and T8 are 8.3's form of
/// T8'.
///
/// T0 and T9b are stricter than DRBD, which takes a disk for UpToDate because a resync from it, or a
/// verify, is asked for (4.2). For T0 both disks may be Inconsistent: so an administrator declares
/// which data are the good ones of two disks that were never in use.
const REFUSED_REQUESTS: [RefusedRequest; 15] = [
    RefusedRequest {
        row: "T0",
        matches: |os, ns, _| {
            let (source, target) = match ns.conn {
                Conn::StartingSyncS => (os.disk, os.pdsk),
                Conn::StartingSyncT => (os.pdsk, os.disk),
                _ => return false,
            };
            ns.conn != os.conn && source <= Disk::Inconsistent && target > Disk::Inconsistent
        },
        error: StateError::NoUpToDateDisk,
    },
    RefusedRequest {
        row: "T1",
        matches: |os, ns, _| {
            matches!(ns.conn, Conn::StartingSyncT | Conn::StartingSyncS) && os.conn > Conn::Connected
        },
        error: StateError::ResyncRunning,
    },
    RefusedRequest {
        row: "T2",
        matches: |os, ns, _| ns.conn == Conn::Disconnecting && os.conn == Conn::StandAlone,
        error: StateError::AlreadyStandAlone,
    },
    RefusedRequest {
        row: "T3",
        matches: |os, ns, _| ns.disk > Disk::Attaching && os.disk == Disk::Diskless,
        error: StateError::IsDiskless,
    },
    RefusedRequest {
        row: "T4",
        matches: |os, ns, _| ns.conn == Conn::WFConnection && os.conn < Conn::Unconnected,
        error: StateError::NoNetConfig,
    },
    RefusedRequest {
        row: "T5",
        matches: |os, ns, _| {
            ns.disk == Disk::Outdated && os.disk < Disk::Outdated && os.disk != Disk::Attaching
        },
        error: StateError::LowerThanOutdated,
    },
    RefusedRequest {
        row: "T6",
        matches: |os, ns, _| ns.conn == Conn::Disconnecting && os.conn == Conn::Unconnected,
        error: StateError::InTransientState,
    },
    RefusedRequest {
        row: "T8'",
        matches: |os, ns, c| {
            let starts = ns.conn == Conn::WFReportParams && os.conn == Conn::WFConnection;
            let finishes = ns.conn >= Conn::Connected && os.conn == Conn::WFReportParams;
            c.state_sent && !starts && !finishes
        },
        error: StateError::InTransientState,
    },
    RefusedRequest {
        row: "T9",
        matches: |os, ns, _| {
            os.role != Role::Primary
                && ns.role == Role::Primary
                && ns.pdsk == Disk::UpToDate
                && !matches!(ns.disk, Disk::UpToDate | Disk::Diskless)
                && (ns.conn <= Conn::WFSyncUUID || ns.conn != os.conn)
        },
        error: StateError::InTransientState,
    },
    RefusedRequest {
        row: "T9b",
        matches: |os, ns, _| {
            ns.conn.is_verify()
                && !os.conn.is_verify()
                && (os.disk < Disk::UpToDate || os.pdsk < Disk::UpToDate)
        },
        error: StateError::NoUpToDateDisk,
    },
    RefusedRequest {
        row: "T10",
        matches: |os, ns, _| ns.conn.is_verify() && os.conn < Conn::Connected,
        error: StateError::NeedConnection,
    },
    RefusedRequest {
        row: "T11",
        matches: |os, ns, _| ns.conn.is_verify() && ns.conn != os.conn && os.conn > Conn::Connected,
        error: StateError::ResyncRunning,
    },
    RefusedRequest {
        row: "T12",
        matches: |os, ns, _| {
            matches!(ns.conn, Conn::StartingSyncS | Conn::StartingSyncT) && os.conn < Conn::Connected
        },
        error: StateError::NeedConnection,
    },
    RefusedRequest {
        row: "T13",
        matches: |os, ns, _| {
            matches!(ns.conn, Conn::SyncTarget | Conn::SyncSource) && os.conn < Conn::WFReportParams
        },
        error: StateError::NeedConnection,
    },
    RefusedRequest {
        row: "T14",
        matches: |os, ns, _| {
            ns.conn == Conn::Disconnecting
                && ns.pdsk == Disk::Outdated
                && os.conn < Conn::Connected
                && os.pdsk > Disk::Outdated
        },
        error: StateError::OutdateWithoutConnection,
    },
];

/// May a request lead from `os` to `ns`? spec/state.md 3.4.
///
/// # Errors
/// The last matching row of the list.
pub fn transition_check(os: StateWord, ns: StateWord, ctx: &RuleContext) -> Result<(), StateError> {
    match REFUSED_REQUESTS.iter().rev().find(|rule| (rule.matches)(&os, &ns, ctx)) {
        Some(rule) => {
            log::trace!("change {os} to {ns} is refused by {}", rule.row);
            Err(rule.error)
        }
        None => Ok(()),
    }
}

/// May anything, even a failure of the environment, lead from `os` to `ns`? spec/state.md 3.5.
///
/// # Errors
/// No: the change is dropped. For a lost connection that was lost already this is the normal case.
pub fn hard_transition(os: StateWord, ns: StateWord) -> Result<(), StateError> {
    if ns.disk == Disk::Failed && os.disk == Disk::Diskless {
        return Err(StateError::IsDiskless);
    }
    match (os.conn, ns.conn) {
        (old, new) if old == new => Ok(()),
        (Conn::StandAlone, Conn::Disconnecting) => Err(StateError::AlreadyStandAlone),
        (Conn::StandAlone, Conn::Unconnected) => Ok(()),
        (Conn::StandAlone, _) => Err(StateError::NeedConnection),
        (old, new) if old < Conn::WFReportParams && new >= Conn::Connected => Err(StateError::NeedConnection),
        (old, Conn::Unconnected | Conn::Disconnecting) if old.is_lost() => Ok(()),
        (old, _) if old.is_lost() => Err(StateError::InTransientState),
        (Conn::Disconnecting, Conn::StandAlone) => Ok(()),
        (Conn::Disconnecting, _) => Err(StateError::InTransientState),
        _ => Ok(()),
    }
}
