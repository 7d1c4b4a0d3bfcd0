//! The sync handshake: what two nodes that meet do about their data. spec/state.md 10.3.
//!
//! [`sync_handshake`] is pure: it returns the steps (log lines, handlers, bitmap work) in order
//! and the outcome. Handlers block the receiver; their exit codes do not matter here. While they
//! run the state may change: the caller compares the state word afterwards and, if it differs,
//! starts again (spec/state.md 9.4 step 9).

mod policies;

use super::handlers::Handler;
use super::log_lines::{own_uuids, peer_uuids, LogLine};
use super::state::{Conn, Disk};
use super::uuid::{compare, CompareContext, PeerUuids, UuidFlags, Uuids, Verdict};
use crate::conf::settings::{AfterSplitBrain, NetSettings, RrConflict};

/// The settings that decide. spec/state.md 10.3, 10.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policies {
    /// Split brain, no Primary.
    pub after_sb_0pri: AfterSplitBrain,
    /// Split brain, one Primary.
    pub after_sb_1pri: AfterSplitBrain,
    /// Split brain, two Primaries.
    pub after_sb_2pri: AfterSplitBrain,
    /// Policies apply to -100 too.
    pub always_asbp: bool,
    /// The resync goes against a Primary.
    pub rr_conflict: RrConflict,
}

impl From<&NetSettings> for Policies {
    fn from(net: &NetSettings) -> Policies {
        Policies {
            after_sb_0pri: net.after_sb_0pri,
            after_sb_1pri: net.after_sb_1pri,
            after_sb_2pri: net.after_sb_2pri,
            always_asbp: net.always_asbp,
            rr_conflict: net.rr_conflict,
        }
    }
}

/// All that the handshake looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandshakeInput {
    /// Own identifiers.
    pub own: Uuids,
    /// Own set bits as sent in the last P_UUIDS (comm_bm_set).
    pub own_bits_sent: u64,
    /// Own set bits now.
    pub own_bits: u64,
    /// The peer's identifiers, as cached.
    pub peer: PeerUuids,
    /// Protocol, flags, roles (the peer's from its P_STATE).
    pub context: CompareContext,
    /// Own disk state.
    pub disk: Disk,
    /// What the peer has heard of it.
    pub told_disk: Disk,
    /// The remembered disk state, if `disk` is Negotiating. spec/state.md 13.2.
    pub negotiation_disk: Option<Disk>,
    /// Real disk state of the peer. spec/state.md 9.4 step 1.
    pub peer_disk: Disk,
    /// Settings.
    pub policies: Policies,
    /// This node was told to discard its data.
    pub discard_my_data: bool,
    /// This node or the peer asked for a dry run.
    pub dry_run: bool,
    /// A Primary attaches its disk, and works with the other node's good data until then: the side on which this node keeps them.
    pub keeps_data_in_use: Option<Side>,
    /// A request for the role Secondary would be granted now. False inside a handshake of a new
    /// connection (spec/state.md 3.4, 10.4).
    pub can_demote: bool,
}

/// Something to be done, in this order, before the outcome is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Log a line.
    Log(LogLine),
    /// Run a handler and wait for it.
    Run(Handler),
    /// Become Secondary (soft, at once); only if the input said that this is granted.
    Demote,
    /// Set all bits and write the bitmap, protected by the flag FULL_SYNC. If that fails the
    /// handshake is refused. spec/state.md 10.3 step 12, 13.1.
    SetAllBits,
}

/// Why a handshake ends the connection (or the attach, spec/state.md 9.4 step 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    /// Nothing in common.
    UnrelatedData,
    /// One of the nodes speaks a protocol that cannot express what is needed.
    NeedsNewerProtocol,
    /// Split brain that no policy solves.
    SplitBrain,
    /// This node has the newer data, but they are not consistent.
    InconsistentSource,
    /// This node is Primary and would have to become target.
    PrimaryTarget,
    /// Only a dry run.
    DryRun,
}

/// What the handshake decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Connected: no resync.
    Connected,
    /// WFBitMapS: this node becomes SyncSource.
    Source,
    /// WFBitMapT: this node becomes SyncTarget.
    Target,
    /// No connection.
    Refused(RefusalReason),
}

impl Outcome {
    /// The next connection state; `None`: refused.
    pub const fn conn(self) -> Option<Conn> {
        match self {
            Outcome::Connected => Some(Conn::Connected),
            Outcome::Source => Some(Conn::WFBitMapS),
            Outcome::Target => Some(Conn::WFBitMapT),
            Outcome::Refused(_) => None,
        }
    }
}

/// The whole decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// What to do first, in order.
    pub steps: Vec<Step>,
    /// What follows.
    pub outcome: Outcome,
    /// A full sync: the steps end with [`Step::SetAllBits`].
    pub full_sync: bool,
    /// Own identifiers after a correction; if they differ from the input the super block is dirty.
    pub own: Uuids,
    /// The peer's identifiers after a correction; they replace the cached ones.
    pub peer: PeerUuids,
}

/// Collects steps while the decision is made.
#[derive(Default)]
struct Steps(Vec<Step>);

impl Steps {
    fn log(&mut self, line: LogLine) {
        self.0.push(Step::Log(line));
    }

    fn run(&mut self, handler: Handler) {
        self.0.push(Step::Run(handler));
    }
}

/// What an automatic policy makes of a split brain. spec/state.md 10.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recovery {
    /// ±1.
    Solved(Side),
    /// -100: discard-my-data may still decide.
    Undecided,
    /// -100: this node is the Primary that loses, and stays Primary. The peer, with the same
    /// policy, takes itself for the source; discard-my-data on the peer must not make this node
    /// a source too (8.x does that, and both nodes wait for each other).
    PrimaryStays,
}

/// Which role this node takes in the resync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It brings its data.
    Source,
    /// It gets the peer's.
    Target,
}

impl Side {
    fn verdict(self, full: bool) -> Verdict {
        match self {
            Side::Source => Verdict::Source { full },
            Side::Target => Verdict::Target { full },
        }
    }

    /// "Sync from this|peer node".
    const fn good_node(self) -> &'static str {
        match self {
            Side::Source => "this",
            Side::Target => "peer",
        }
    }
}

/// Compares the identifiers and decides. spec/state.md 10.1 to 10.4.
pub fn sync_handshake(input: &HandshakeInput) -> Handshake {
    let mut steps = Steps::default();
    let (mut own, mut peer) = (input.own, input.peer);
    let verdict = compare_and_log(input, &mut own, &mut peer, &mut steps);
    let (outcome, full_sync) = match decide(input, &own, verdict, &mut steps) {
        Ok((outcome, full)) => (outcome, full),
        Err(reason) => (Outcome::Refused(reason), false),
    };
    Handshake { steps: steps.0, outcome, full_sync, own, peer }
}

/// The log frame of spec/state.md 10.1, with corrections made in between.
fn compare_and_log(
    input: &HandshakeInput,
    own: &mut Uuids,
    peer: &mut PeerUuids,
    steps: &mut Steps,
) -> Verdict {
    steps.log(LogLine::info("drbd_sync_handshake:"));
    steps.log(own_uuids(own, input.own_bits_sent));
    steps.log(peer_uuids(peer));
    let comparison = compare(own, peer, &input.context);
    if let Some(remark) = comparison.remark() {
        steps.log(LogLine::info(remark));
    }
    if let Some(correction) = comparison.correction {
        correction.apply(own, &mut peer.uuids);
        steps.log(if correction.is_own() { own_uuids(own, input.own_bits_sent) } else { peer_uuids(peer) });
    }
    steps.log(LogLine::info(format!(
        "uuid_compare()={} by rule {}",
        comparison.verdict.number(),
        comparison.rule
    )));
    comparison.verdict
}

/// Steps 1 to 13 of spec/state.md 10.3.
fn decide(
    input: &HandshakeInput,
    own: &Uuids,
    verdict: Verdict,
    steps: &mut Steps,
) -> Result<(Outcome, bool), RefusalReason> {
    let context = &input.context;
    let my_disk = match (input.disk, input.negotiation_disk) {
        (Disk::Negotiating, Some(remembered)) => remembered,
        (disk, _) => disk,
    };

    // 1 to 3
    match verdict {
        Verdict::Unrelated => {
            steps.log(LogLine::alert("Unrelated data, aborting!"));
            return Err(RefusalReason::UnrelatedData);
        }
        Verdict::NeedsFeatures { protocol, features } => {
            steps.log(LogLine::alert(format!(
                "To resolve this both sides have to support at least protocol {protocol} and feature flags {features:#x}"
            )));
            return Err(RefusalReason::NeedsNewerProtocol);
        }
        Verdict::NeedsProtocol(protocol) => {
            steps.log(LogLine::alert(format!(
                "To resolve this both sides have to support at least protocol {protocol}"
            )));
            return Err(RefusalReason::NeedsNewerProtocol);
        }
        _ => {}
    }

    // 4
    // Where nothing but the disks' states tells who is the source, the peer goes by what it was told of this one.
    let mine = match (verdict, input.told_disk) {
        (Verdict::NoResync, Disk::Inconsistent) => Disk::Inconsistent,
        _ => my_disk,
    };
    let verdict = by_disk_states(verdict, mine, input.peer_disk, steps);

    // 5 to 8
    let verdict = match verdict {
        Verdict::SplitBrain | Verdict::SplitBrainWithoutBitmap => {
            steps.run(Handler::InitialSplitBrain);
            solve_split_brain(input, own, verdict, steps)?
        }
        other => other,
    };

    // 9, 10
    match verdict {
        Verdict::Source { .. } if my_disk <= Disk::Inconsistent => {
            steps.log(LogLine::error("I shall become SyncSource, but I am inconsistent!"));
            return Err(RefusalReason::InconsistentSource);
        }
        // The real disk state counts: a diskless Primary that attaches may become target.
        Verdict::Target { .. } if context.self_primary && input.disk >= Disk::Consistent => {
            primary_becomes_target(input.policies.rr_conflict, steps)?;
        }
        _ => {}
    }

    // 11
    if input.dry_run {
        steps.log(LogLine::info(dry_run_text(verdict)));
        return Err(RefusalReason::DryRun);
    }

    // 12, 13
    Ok(match verdict {
        Verdict::Source { full } => {
            set_all_bits(full, steps);
            (Outcome::Source, full)
        }
        Verdict::Target { full } => {
            set_all_bits(full, steps);
            (Outcome::Target, full)
        }
        _ => {
            if input.own_bits > 0 {
                steps.log(LogLine::info(format!("No resync, but {} bits in bitmap!", input.own_bits)));
            }
            (Outcome::Connected, false)
        }
    })
}

/// Step 4: one disk is Inconsistent and the other is better.
fn by_disk_states(verdict: Verdict, mine: Disk, peers: Disk, steps: &mut Steps) -> Verdict {
    let side = if mine == Disk::Inconsistent && peers > Disk::Inconsistent {
        Side::Target
    } else if peers == Disk::Inconsistent && mine > Disk::Inconsistent {
        Side::Source
    } else {
        return verdict;
    };
    let full = matches!(
        verdict,
        Verdict::SplitBrainWithoutBitmap | Verdict::Source { full: true } | Verdict::Target { full: true }
    );
    steps.log(LogLine::info(match side {
        Side::Source => "Becoming sync source due to disk states.",
        Side::Target => "Becoming sync target due to disk states.",
    }));
    side.verdict(full)
}

/// Steps 6 to 8: automatic policies, then discard-my-data, then the end.
fn solve_split_brain(
    input: &HandshakeInput,
    own: &Uuids,
    verdict: Verdict,
    steps: &mut Steps,
) -> Result<Verdict, RefusalReason> {
    let forced = verdict == Verdict::SplitBrainWithoutBitmap;
    let recovery = if !forced || input.policies.always_asbp {
        policies::recover(input, own, steps)
    } else {
        Recovery::Undecided
    };
    // No policy gives up what an application works with for a disk that is only being attached. (For DRBD that disk has the Primary's data:
    // discard-secondary gives up those in use, and all that was written to them.)
    let recovery = match recovery {
        Recovery::Solved(side) if input.keeps_data_in_use.is_some_and(|kept| kept != side) => {
            Recovery::Undecided
        }
        other => other,
    };
    if let Recovery::Solved(side) = recovery {
        let primaries = u8::from(input.context.self_primary) + u8::from(input.context.peer_primary);
        steps.log(LogLine::warning(format!(
            "Split-Brain detected, {primaries} primaries, automatically solved. Sync from {} node",
            side.good_node()
        )));
        if forced {
            steps.log(LogLine::warning("Doing a full sync, since UUIDs where ambiguous."));
        }
        return Ok(side.verdict(forced));
    }
    let peer_discards = input.peer.flags.contains(UuidFlags::DISCARD_MY_DATA);
    let side = match (recovery, input.discard_my_data, peer_discards) {
        (Recovery::Undecided, true, false) => Side::Target,
        (Recovery::Undecided, false, true) => Side::Source,
        _ => {
            steps.log(LogLine::alert("Split-Brain detected but unresolved, dropping connection!"));
            steps.run(Handler::SplitBrain);
            return Err(RefusalReason::SplitBrain);
        }
    };
    steps.log(LogLine::warning(format!(
        "Split-Brain detected, manually solved. Sync from {} node",
        side.good_node()
    )));
    Ok(side.verdict(false))
}

/// Step 10: `rr-conflict`.
fn primary_becomes_target(policy: RrConflict, steps: &mut Steps) -> Result<(), RefusalReason> {
    match policy {
        RrConflict::Violently => {
            steps.log(LogLine::warning("Becoming SyncTarget, violating the stable-dataassumption"));
            return Ok(());
        }
        RrConflict::CallPriLost => steps.run(Handler::PriLost),
        RrConflict::Disconnect => {}
    }
    steps.log(LogLine::error("I shall become SyncTarget, but I am primary!"));
    Err(RefusalReason::PrimaryTarget)
}

fn dry_run_text(verdict: Verdict) -> String {
    let (side, full) = match verdict {
        Verdict::Source { full } => (Conn::SyncSource, full),
        Verdict::Target { full } => (Conn::SyncTarget, full),
        _ => {
            return "dry-run connect: No resync, would become Connected immediately.".to_owned();
        }
    };
    let kind = if full { "full" } else { "bit-map based" };
    format!("dry-run connect: Would become {side}, doing a {kind} resync.")
}

/// Step 12.
fn set_all_bits(full: bool, steps: &mut Steps) {
    if full {
        steps.log(LogLine::info("Writing the whole bitmap, full sync required after drbd_sync_handshake."));
        steps.0.push(Step::SetAllBits);
    }
}

#[cfg(test)]
mod tests;
