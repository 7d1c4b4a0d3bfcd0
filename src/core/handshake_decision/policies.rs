//! Automatic recovery from a split brain. spec/state.md 10.4.

use super::{HandshakeInput, Recovery, Side, Step, Steps};
use crate::conf::settings::AfterSplitBrain;
use crate::core::handlers::Handler;
use crate::core::log_lines::LogLine;
use crate::core::uuid::Uuids;

const SOURCE: Recovery = Recovery::Solved(Side::Source);
const TARGET: Recovery = Recovery::Solved(Side::Target);

/// Chooses the policy by the number of Primaries and follows it.
pub(super) fn recover(input: &HandshakeInput, own: &Uuids, steps: &mut Steps) -> Recovery {
    match (input.context.self_primary, input.context.peer_primary) {
        (false, false) => without_primary(input, own, steps),
        (true, true) => with_two_primaries(input, own, steps),
        (self_primary, _) => with_one_primary(input, own, self_primary, steps),
    }
}

fn configuration_error(steps: &mut Steps) -> Recovery {
    steps.log(LogLine::error("Configuration error."));
    Recovery::Undecided
}

/// after-sb-0pri.
fn without_primary(input: &HandshakeInput, own: &Uuids, steps: &mut Steps) -> Recovery {
    use AfterSplitBrain as Policy;
    // Bit 0 of BITMAP: the node was Primary at the split.
    let was_primary = own.bitmap & 1 == 1;
    let peer_was_primary = input.peer.uuids.bitmap & 1 == 1;
    match (input.policies.after_sb_0pri, was_primary, peer_was_primary) {
        (Policy::Disconnect, _, _) => Recovery::Undecided,
        (Policy::DiscardLocal, _, _) => TARGET,
        (Policy::DiscardRemote, _, _) => SOURCE,
        (Policy::DiscardYoungerPrimary, false, true) | (Policy::DiscardOlderPrimary, true, false) => TARGET,
        (Policy::DiscardYoungerPrimary, true, false) | (Policy::DiscardOlderPrimary, false, true) => SOURCE,
        (Policy::DiscardYoungerPrimary | Policy::DiscardOlderPrimary, _, _) => {
            steps.log(LogLine::warning(
                "Discard younger/older primary did not find a decision\nUsing discard-least-changes instead\n",
            ));
            match zero_changes(input) {
                Recovery::Undecided => least_changes(input),
                decided => decided,
            }
        }
        (Policy::DiscardZeroChanges, _, _) => zero_changes(input),
        (Policy::DiscardLeastChanges, _, _) => least_changes(input),
        (
            Policy::Consensus | Policy::DiscardSecondary | Policy::CallPriLostAfterSb | Policy::Violently,
            _,
            _,
        ) => configuration_error(steps),
    }
}

/// The node without changes is discarded.
fn zero_changes(input: &HandshakeInput) -> Recovery {
    match (input.own_bits_sent, input.peer.bits) {
        (0, 0) => by_arbiter(input),
        (_, 0) => SOURCE,
        (0, _) => TARGET,
        _ => Recovery::Undecided,
    }
}

/// The node with fewer changes is discarded.
fn least_changes(input: &HandshakeInput) -> Recovery {
    match input.own_bits_sent.cmp(&input.peer.bits) {
        std::cmp::Ordering::Less => TARGET,
        std::cmp::Ordering::Greater => SOURCE,
        std::cmp::Ordering::Equal => by_arbiter(input),
    }
}

fn by_arbiter(input: &HandshakeInput) -> Recovery {
    if input.context.arbiter {
        TARGET
    } else {
        SOURCE
    }
}

/// after-sb-1pri.
fn with_one_primary(input: &HandshakeInput, own: &Uuids, self_primary: bool, steps: &mut Steps) -> Recovery {
    use AfterSplitBrain as Policy;
    match input.policies.after_sb_1pri {
        Policy::Disconnect => Recovery::Undecided,
        Policy::Consensus => match without_primary(input, own, steps) {
            TARGET if !self_primary => TARGET,
            SOURCE if self_primary => SOURCE,
            _ => Recovery::Undecided,
        },
        Policy::Violently => without_primary(input, own, steps),
        Policy::DiscardSecondary if self_primary => SOURCE,
        Policy::DiscardSecondary => TARGET,
        Policy::CallPriLostAfterSb => match without_primary(input, own, steps) {
            TARGET if self_primary => give_up_primary(input, steps),
            other => other,
        },
        Policy::DiscardYoungerPrimary
        | Policy::DiscardOlderPrimary
        | Policy::DiscardZeroChanges
        | Policy::DiscardLeastChanges
        | Policy::DiscardLocal
        | Policy::DiscardRemote => configuration_error(steps),
    }
}

/// after-sb-2pri.
fn with_two_primaries(input: &HandshakeInput, own: &Uuids, steps: &mut Steps) -> Recovery {
    use AfterSplitBrain as Policy;
    match input.policies.after_sb_2pri {
        Policy::Disconnect => Recovery::Undecided,
        Policy::Violently => without_primary(input, own, steps),
        Policy::CallPriLostAfterSb => match without_primary(input, own, steps) {
            TARGET => give_up_primary(input, steps),
            other => other,
        },
        Policy::DiscardYoungerPrimary
        | Policy::DiscardOlderPrimary
        | Policy::DiscardZeroChanges
        | Policy::DiscardLeastChanges
        | Policy::DiscardLocal
        | Policy::DiscardRemote
        | Policy::Consensus
        | Policy::DiscardSecondary => configuration_error(steps),
    }
}

/// call-pri-lost-after-sb on the Primary that loses.
fn give_up_primary(input: &HandshakeInput, steps: &mut Steps) -> Recovery {
    if input.can_demote {
        steps.0.push(Step::Demote);
        steps.log(LogLine::warning("Successfully gave up primary role."));
        TARGET
    } else {
        steps.run(Handler::PriLostAfterSb);
        Recovery::PrimaryStays
    }
}
