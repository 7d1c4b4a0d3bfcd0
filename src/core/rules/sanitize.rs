//! Sanitizing: how a wanted state is bent before it is checked. spec/state.md 4.

use super::permissions::primary_without_data;
use super::RuleContext;
use crate::conf::settings::{Fencing, OnNoData};
use crate::core::state::{Conn, Disk, Role, StateWord};
use std::fmt;

/// What sanitizing warns of; only the last one of a pass is logged. spec/state.md 4.1, 17.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SanitizeWarning {
    /// A disk went away under a verify.
    VerifyAborted,
    /// A disk went away under a resync.
    ResyncAborted,
    /// Attach while connected, and the connection went away before the handshake.
    LostWhileNegotiating,
    /// The connection state demands a better own disk.
    UpgradedDisk,
    /// The connection state demands a better peer disk.
    UpgradedPeerDisk,
}

impl SanitizeWarning {
    /// The text, level warning.
    pub const fn text(self) -> &'static str {
        match self {
            SanitizeWarning::VerifyAborted => "Online-verify aborted.",
            SanitizeWarning::ResyncAborted => "Resync aborted.",
            SanitizeWarning::LostWhileNegotiating => "Connection lost while negotiating, no data!",
            SanitizeWarning::UpgradedDisk => "Implicitly upgraded disk",
            SanitizeWarning::UpgradedPeerDisk => "Implicitly upgraded pdsk",
        }
    }
}

impl fmt::Display for SanitizeWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// The disk states that a connection state allows. spec/state.md 4.2.
struct Window {
    disk: (Disk, Disk),
    pdsk: (Disk, Disk),
}

const fn window(conn: Conn) -> Window {
    use Disk::{Consistent, DUnknown, Diskless, Inconsistent, Outdated, UpToDate};
    let (disk, pdsk) = match conn {
        Conn::WFBitMapT | Conn::PausedSyncT | Conn::StartingSyncT | Conn::WFSyncUUID | Conn::Behind => {
            ((Inconsistent, Outdated), (UpToDate, UpToDate))
        }
        Conn::VerifyS | Conn::VerifyT => ((UpToDate, UpToDate), (UpToDate, UpToDate)),
        Conn::Connected => ((Diskless, UpToDate), (Diskless, UpToDate)),
        Conn::WFBitMapS | Conn::PausedSyncS | Conn::StartingSyncS | Conn::Ahead => {
            ((UpToDate, UpToDate), (Inconsistent, Consistent))
        }
        Conn::SyncTarget => ((Inconsistent, Inconsistent), (UpToDate, UpToDate)),
        Conn::SyncSource => ((UpToDate, UpToDate), (Inconsistent, Inconsistent)),
        Conn::StandAlone
        | Conn::Disconnecting
        | Conn::Unconnected
        | Conn::Timeout
        | Conn::BrokenPipe
        | Conn::NetworkFailure
        | Conn::ProtocolError
        | Conn::TearDown
        | Conn::WFConnection
        | Conn::WFReportParams => ((Diskless, UpToDate), (Inconsistent, DUnknown)),
    };
    Window { disk, pdsk }
}

/// The adjustments S5 to S14 in order; S1 to S4 are 8.3's form of the hard transition list.
/// spec/state.md 4.1.
///
/// S9 is stricter than DRBD's: old data count as good again only by a handshake with a peer that has
/// data and the same generation. DRBD's rule makes the target of a resync UpToDate when its source
/// loses the disk before the first block was copied. That is right only for the target of space that was added: it had
/// everything else, and mirrors what is written to the new space.
pub fn sanitize(os: StateWord, wanted: StateWord, ctx: &RuleContext) -> (StateWord, Option<SanitizeWarning>) {
    let mut ns = wanted;
    let mut warning = None;

    // S5
    if ns.conn < Conn::Connected {
        ns.peer_isp = false;
        ns.peer = Role::Unknown;
        if ns.pdsk > Disk::DUnknown || ns.pdsk < Disk::Inconsistent {
            ns.pdsk = Disk::DUnknown;
        }
    }
    // S6
    if ns.is_unconfigured() {
        ns.aftr_isp = false;
    }
    // S7. Only a handshake connects: what an administrator asks for before its end is not bent, and refused. (DRBD takes the peer's data then,
    // which it has not heard of yet.)
    let mut resync_aborted = false;
    let asked_too_early = os.conn < Conn::Connected
        && (ns.conn.is_verify() || matches!(ns.conn, Conn::StartingSyncS | Conn::StartingSyncT));
    if ns.conn > Conn::Connected && !asked_too_early && (ns.disk <= Disk::Failed || ns.pdsk <= Disk::Failed) {
        resync_aborted = !ns.conn.is_verify();
        warning = Some(if resync_aborted {
            SanitizeWarning::ResyncAborted
        } else {
            SanitizeWarning::VerifyAborted
        });
        ns.conn = Conn::Connected;
    }
    // S8
    if ns.conn < Conn::Connected && ns.disk == Disk::Negotiating {
        match ctx.negotiation_result {
            Some((disk, pdsk)) if ctx.effective_uuid_is_current => {
                ns.disk = disk;
                ns.pdsk = pdsk;
            }
            _ => {
                warning = Some(SanitizeWarning::LostWhileNegotiating);
                ns.disk = Disk::Diskless;
                ns.pdsk = Disk::DUnknown;
            }
        }
    }
    // S9
    if ns.conn >= Conn::Connected && ns.conn < Conn::Ahead {
        let agreed = ns.conn != Conn::Connected
            || !resync_aborted
                && (os.conn < Conn::Connected
                    || os.disk == Disk::Negotiating
                    || os.pdsk == Disk::Negotiating)
                && ns.disk >= Disk::Outdated
                && ns.pdsk >= Disk::Outdated;
        let lift = |wanted: Disk, stays_good: bool| match wanted {
            Disk::Consistent if resync_aborted && !stays_good => Disk::Outdated,
            Disk::Consistent => Disk::UpToDate,
            Disk::Outdated if agreed || stays_good => Disk::UpToDate,
            other => other,
        };
        // The own disk cannot be outdated while connected.
        let own_good = os.disk > Disk::Outdated || resync_aborted && ctx.lacks_new_space_only;
        let peer_good = os.pdsk > Disk::Outdated && ns.disk >= Disk::Outdated;
        (ns.disk, ns.pdsk) = (lift(ns.disk, own_good), lift(ns.pdsk, peer_good));
    }
    // S10
    let window = window(ns.conn);
    ns.disk = ns.disk.min(window.disk.1);
    if ns.disk < window.disk.0 {
        warning = Some(SanitizeWarning::UpgradedDisk);
        ns.disk = window.disk.0;
    }
    ns.pdsk = ns.pdsk.min(window.pdsk.1);
    if ns.pdsk < window.pdsk.0 {
        warning = Some(SanitizeWarning::UpgradedPeerDisk);
        ns.pdsk = window.pdsk.0;
    }
    // S11
    if ctx.fencing == Fencing::ResourceAndStonith && wants_fencing(ns) && !wants_fencing(os) {
        ns.susp_fen = !mutant!("not-frozen-at-loss");
    }
    // S12
    if ctx.on_no_data == OnNoData::SuspendIo && primary_without_data(ns) && !primary_without_data(os) {
        ns.susp_nod = true;
    }
    // S13, S14
    ns.conn = match (ns.conn, ns.is_sync_paused()) {
        (Conn::SyncSource, true) => Conn::PausedSyncS,
        (Conn::SyncTarget, true) => Conn::PausedSyncT,
        (Conn::PausedSyncS, false) => Conn::SyncSource,
        (Conn::PausedSyncT, false) => Conn::SyncTarget,
        (conn, _) => conn,
    };
    (ns, warning)
}

/// A Primary that cannot see a peer which may have good data (S11).
fn wants_fencing(s: StateWord) -> bool {
    s.role == Role::Primary && s.conn < Conn::Connected && s.pdsk > Disk::Outdated
}
