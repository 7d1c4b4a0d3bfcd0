//! The rules of the state word, as pure functions of old state, wanted state and settings.
//!
//! | question | function | spec/state.md |
//! |---|---|---|
//! | what does a wanted state become? | [`sanitize`] | 4 |
//! | may a volume be in that state? | [`valid_state`] | 3.3 |
//! | may it go there by request? | [`transition_check`] | 3.4 |
//! | may it go there at all? | [`hard_transition`] | 3.5 |
//! | must the peer agree? | [`is_cluster_wide`] | 6.1 |
//! | all of them, in order | [`decide`] | 3.2 |
//! | what may an application do? | [`may_accept_io`] and those beside it | 5.5 |
//!
//! Where 8.3.16 and 8.4.11 differ the rules are 8.4.11's; 8.3's S1 to S4 have the effect of the
//! hard transition list.

mod checks;
mod permissions;
mod sanitize;

pub use checks::{hard_transition, transition_check, valid_state};
pub use permissions::{
    announces_out_of_sync, has_disk, has_metadata, local_read, may_accept_io, may_write,
    primary_without_data, remote_read, replicates, LocalRead,
};
pub use sanitize::{sanitize, SanitizeWarning};

use super::codes::StateError;
use super::state::{Conn, Disk, Role, StateWord};
use crate::conf::settings::{Fencing, OnNoData};

/// What the rules need to know besides the word itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleContext {
    /// Fencing policy in force, see [`RuleContext::fencing_in_force`].
    pub fencing: Fencing,
    /// `on-no-data-accessible` of the resource.
    pub on_no_data: OnNoData,
    /// `allow-two-primaries` of the connection.
    pub allow_two_primaries: bool,
    /// A network configuration exists (conn >= Unconnected, or being disconnected).
    pub has_net_config: bool,
    /// The peer is Primary on another volume of the connection.
    pub other_volume_peer_primary: bool,
    /// How many openers the device has.
    pub open_count: u32,
    /// Agreed protocol version; `None`: no connection since start.
    pub apv: Option<u8>,
    /// `verify-alg` is set.
    pub verify_alg_set: bool,
    /// Own parameters went out for a new connection that is not Connected yet (STATE_SENT).
    pub state_sent: bool,
    /// Disk states that an attach while connected will end with: own, peer's. spec/state.md 13.2.
    pub negotiation_result: Option<(Disk, Disk)>,
    /// The effective data UUID is the CURRENT UUID of the attached disk. spec/state.md 8.6.
    pub effective_uuid_is_current: bool,
    /// This node waits in WFSyncUUID for the resync of space that was added to a good disk. spec/state.md 12.5.
    pub lacks_new_space_only: bool,
}

impl RuleContext {
    /// Nothing configured: no disk, no net, all policies at their defaults.
    pub const UNCONFIGURED: RuleContext = RuleContext {
        fencing: Fencing::DontCare,
        on_no_data: OnNoData::IoError,
        allow_two_primaries: false,
        has_net_config: false,
        other_volume_peer_primary: false,
        open_count: 0,
        apv: None,
        verify_alg_set: false,
        state_sent: false,
        negotiation_result: None,
        effective_uuid_is_current: false,
        lacks_new_space_only: false,
    };

    /// The policy that the rules see: the configured one if the current disk is usable, else
    /// dont-care. spec/state.md 3.3.
    pub fn fencing_in_force(configured: Fencing, current_disk: Disk) -> Fencing {
        if current_disk >= Disk::Inconsistent {
            configured
        } else {
            Fencing::DontCare
        }
    }
}

/// How a change is asked for. spec/state.md 3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Imposed by the environment: only the hard transition list can stop it.
    Hard,
    /// May be refused.
    Soft,
    /// As `Soft`, but a disk that is below Outdated stays as it is instead of refusing to become
    /// Outdated: the peer's disconnect request. spec/state.md 3.6 step 2, 6.4.
    SoftKeepingDisk,
}

/// What [`decide`] allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The sanitized state is the present one: code 2, nothing happens.
    Unchanged,
    /// Commit this state.
    Commit {
        /// The new state.
        ns: StateWord,
        /// To be logged before the state change line.
        warning: Option<SanitizeWarning>,
    },
}

/// A change that [`decide`] refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("state change refused: {error}")]
pub struct Refusal {
    /// Why.
    pub error: StateError,
    /// The sanitized wanted state, for the log. spec/state.md 17.3.
    pub wanted: StateWord,
}

/// Steps 1 to 5 of the commit algorithm, without the assignment. spec/state.md 3.2.
///
/// # Errors
/// The change is refused; whether that is logged depends on the request.
pub fn decide(
    os: StateWord,
    wanted: StateWord,
    kind: ChangeKind,
    ctx: &RuleContext,
) -> Result<Decision, Refusal> {
    let (mut ns, warning) = sanitize(os, wanted, ctx);
    if kind == ChangeKind::SoftKeepingDisk && ns.disk == Disk::Outdated && os.disk < Disk::Outdated {
        ns.disk = os.disk;
    }
    if ns == os {
        return Ok(Decision::Unchanged);
    }
    let checked = hard_transition(os, ns).and_then(|()| match kind {
        ChangeKind::Hard => Ok(()),
        ChangeKind::Soft | ChangeKind::SoftKeepingDisk => soft_checks(os, ns, ctx),
    });
    match checked {
        Ok(()) => Ok(Decision::Commit { ns, warning }),
        Err(error) => Err(Refusal { error, wanted: ns }),
    }
}

/// Step 4: a state that is invalid for the reason for which the old one is already invalid is not
/// refused for that reason.
fn soft_checks(os: StateWord, ns: StateWord, ctx: &RuleContext) -> Result<(), StateError> {
    match valid_state(ns, ctx) {
        Err(error) if valid_state(os, ctx) != Err(error) => Err(error),
        _ => transition_check(os, ns, ctx),
    }
}

/// The checks before a cluster-wide request is sent, and while its reply is awaited: without the
/// exemption for an old state that is invalid too. spec/state.md 6.2 steps 2, 3, 7.
///
/// # Errors
/// The request is refused on this node already.
pub fn check_request(os: StateWord, wanted: StateWord, ctx: &RuleContext) -> Result<StateWord, Refusal> {
    let (ns, _) = sanitize(os, wanted, ctx);
    hard_transition(os, ns)
        .and_then(|()| valid_state(ns, ctx))
        .and_then(|()| transition_check(os, ns, ctx))
        .map(|()| ns)
        .map_err(|error| Refusal { error, wanted: ns })
}

/// The change needs the peer's consent; `ns` is sanitized. spec/state.md 6.1.
pub fn is_cluster_wide(os: StateWord, ns: StateWord) -> bool {
    let becomes = |conn: Conn| ns.conn == conn && os.conn != conn;
    if os.conn < Conn::Connected {
        return false;
    }
    let both_connected = ns.conn >= Conn::Connected
        && ((os.role != Role::Primary && ns.role == Role::Primary)
            || becomes(Conn::StartingSyncT)
            || becomes(Conn::StartingSyncS)
            || (os.disk != Disk::Failed && ns.disk == Disk::Failed));
    both_connected
        || ns.conn == Conn::Disconnecting
        || (os.conn == Conn::Connected && matches!(ns.conn, Conn::VerifyS | Conn::WFReportParams))
}

#[cfg(test)]
mod tests;
