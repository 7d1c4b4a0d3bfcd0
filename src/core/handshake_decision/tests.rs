use super::*;
use crate::core::log_lines::Severity;
use proptest::prelude::*;
use AfterSplitBrain::*;

const NO_POLICY: Policies = Policies {
    after_sb_0pri: Disconnect,
    after_sb_1pri: Disconnect,
    after_sb_2pri: Disconnect,
    always_asbp: false,
    rr_conflict: RrConflict::Disconnect,
};

const X: u64 = 0xA8A8_0000_0000_0010;
const Y: u64 = 0xB9B9_0000_0000_0020;
const Z: u64 = 0xCACA_0000_0000_0030;
const V: u64 = 0xDBDB_0000_0000_0040;
const W: u64 = 0xECEC_0000_0000_0050;

/// One node before the handshake.
#[derive(Debug, Clone, Copy)]
struct Node {
    slots: [u64; 4],
    bits: u64,
    disk: Disk,
    primary: bool,
    crashed: bool,
    discard: bool,
    policies: Policies,
}

const fn node(slots: [u64; 4], bits: u64) -> Node {
    Node {
        slots,
        bits,
        disk: Disk::UpToDate,
        primary: false,
        crashed: false,
        discard: false,
        policies: NO_POLICY,
    }
}

/// The handshake as `own` sees it; `arbiter`: `own` has the flag.
fn input(own: Node, peer: Node, arbiter: bool) -> HandshakeInput {
    HandshakeInput {
        own: Uuids::from_slots(own.slots),
        own_bits_sent: own.bits,
        own_bits: own.bits,
        peer: PeerUuids {
            uuids: Uuids::from_slots(peer.slots),
            bits: peer.bits,
            flags: UuidFlags::to_send(peer.discard, peer.crashed, false, false),
        },
        context: CompareContext {
            apv: 101,
            feature_write_same: true,
            crashed_primary: own.crashed,
            arbiter,
            self_primary: own.primary,
            peer_primary: peer.primary,
        },
        disk: own.disk,
        told_disk: own.disk,
        negotiation_disk: None,
        peer_disk: peer.disk,
        policies: own.policies,
        discard_my_data: own.discard,
        dry_run: false,
        keeps_data_in_use: None,
        can_demote: false,
    }
}

fn both(zero: Node, one: Node) -> (Handshake, Handshake) {
    (sync_handshake(&input(zero, one, false)), sync_handshake(&input(one, zero, true)))
}

/// Steps as text; handlers as `!name`.
fn script(handshake: &Handshake) -> Vec<String> {
    handshake
        .steps
        .iter()
        .map(|step| match step {
            Step::Log(line) => line.text.clone(),
            Step::Run(handler) => format!("!{handler}"),
            Step::Demote => "!demote".to_owned(),
            Step::SetAllBits => "!set-all-bits".to_owned(),
        })
        .collect()
}

/// The script after `uuid_compare()`.
fn after_compare(handshake: &Handshake) -> Vec<String> {
    let script = script(handshake);
    let at = script.iter().position(|line| line.starts_with("uuid_compare()")).unwrap();
    script[at + 1..].to_vec()
}

const ALL_BITS: [&str; 2] =
    ["Writing the whole bitmap, full sync required after drbd_sync_handshake.", "!set-all-bits"];

/// spec/state.md 19.5: node 1's view, no policy.
#[test]
fn unresolved_split_brain() {
    let zero = node([0xB392_3F78_D65F_FF82, 0x243B_A31F_A2FC_7F71, 0, 0], 1);
    let one = node([0xA811_0D13_2343_6314, 0x243B_A31F_A2FC_7F70, 0, 0], 2);
    let (_, at_one) = both(zero, one);
    assert_eq!(
        script(&at_one),
        [
            "drbd_sync_handshake:",
            "self A8110D1323436314:243BA31FA2FC7F70:0000000000000000:0000000000000000 bits:2 flags:0",
            "peer B3923F78D65FFF82:243BA31FA2FC7F71:0000000000000000:0000000000000000 bits:1 flags:0",
            "uuid_compare()=100 by rule 90",
            "!initial-split-brain",
            "Split-Brain detected but unresolved, dropping connection!",
            "!split-brain",
        ]
    );
    assert_eq!(at_one.outcome, Outcome::Refused(RefusalReason::SplitBrain));
    assert_eq!(at_one.outcome.conn(), None);

    // then node 1 discards its data
    let (at_zero, at_one) = both(zero, Node { discard: true, ..one });
    assert_eq!(
        after_compare(&at_zero),
        ["!initial-split-brain", "Split-Brain detected, manually solved. Sync from this node"]
    );
    assert!(script(&at_zero)[2].ends_with("bits:2 flags:1"));
    assert_eq!(after_compare(&at_one)[1], "Split-Brain detected, manually solved. Sync from peer node");
    assert_eq!((at_zero.outcome, at_one.outcome), (Outcome::Source, Outcome::Target));

    // both discard: unresolved
    let (at_zero, at_one) = both(Node { discard: true, ..zero }, Node { discard: true, ..one });
    assert_eq!(at_zero.outcome, at_one.outcome);
    assert_eq!(at_zero.outcome, Outcome::Refused(RefusalReason::SplitBrain));
}

/// The policy table of spec/state.md 19.5: node 0 was Primary at the split and changed one block,
/// node 1 two.
#[test]
fn recovery_policies() {
    const SOURCE: Outcome = Outcome::Source;
    const TARGET: Outcome = Outcome::Target;
    const SPLIT: Outcome = Outcome::Refused(RefusalReason::SplitBrain);
    const PRIMARY: Outcome = Outcome::Refused(RefusalReason::PrimaryTarget);
    let zero = node([X, Z | 1, 0, 0], 1);
    let one = node([Y, Z, 0, 0], 2);
    let policies = |p0, p1| Policies { after_sb_0pri: p0, after_sb_1pri: p1, ..NO_POLICY };
    let younger = DiscardYoungerPrimary;
    for (p0, p1, bits_one, primary, outcomes) in [
        (younger, Disconnect, 2, None, (SOURCE, TARGET)),
        (DiscardOlderPrimary, Disconnect, 2, None, (TARGET, SOURCE)),
        (DiscardZeroChanges, Disconnect, 0, None, (SOURCE, TARGET)),
        (DiscardZeroChanges, Disconnect, 2, None, (SPLIT, SPLIT)),
        (DiscardLeastChanges, Disconnect, 2, None, (TARGET, SOURCE)),
        (Disconnect, DiscardSecondary, 2, Some(0), (SOURCE, TARGET)),
        (younger, Consensus, 2, Some(0), (SOURCE, TARGET)),
        (younger, Consensus, 2, Some(1), (SPLIT, SPLIT)),
        (younger, Violently, 2, Some(1), (SOURCE, PRIMARY)),
        (younger, CallPriLostAfterSb, 2, Some(1), (SOURCE, SPLIT)),
        (younger, CallPriLostAfterSb, 2, Some(0), (SOURCE, TARGET)),
        (Consensus, Disconnect, 2, None, (SPLIT, SPLIT)),
        (younger, DiscardLocal, 2, Some(0), (SPLIT, SPLIT)),
    ] {
        let at = |node: Node, number, bits| Node {
            policies: policies(p0, p1),
            primary: primary == Some(number),
            bits,
            ..node
        };
        let (at_zero, at_one) = both(at(zero, 0, 1), at(one, 1, bits_one));
        assert_eq!((at_zero.outcome, at_one.outcome), outcomes, "{p0:?} {p1:?} Primary {primary:?}");
    }

    let local = |p0, node| Node { policies: policies(p0, Disconnect), ..node };
    let (at_zero, at_one) = both(local(DiscardLocal, zero), local(DiscardRemote, one));
    assert_eq!((at_zero.outcome, at_one.outcome), (TARGET, SOURCE));
    assert_eq!(
        after_compare(&at_zero),
        [
            "!initial-split-brain",
            "Split-Brain detected, 0 primaries, automatically solved. Sync from peer node"
        ]
    );
}

#[test]
fn handlers_of_a_primary_that_loses() {
    let zero = node([X, Z | 1, 0, 0], 1);
    let one = Node {
        primary: true,
        policies: Policies {
            after_sb_0pri: DiscardYoungerPrimary,
            after_sb_1pri: CallPriLostAfterSb,
            ..NO_POLICY
        },
        ..node([Y, Z, 0, 0], 2)
    };
    assert_eq!(
        after_compare(&sync_handshake(&input(one, zero, true))),
        [
            "!initial-split-brain",
            "!pri-lost-after-sb",
            "Split-Brain detected but unresolved, dropping connection!",
            "!split-brain",
        ]
    );
    // The peer takes itself for the source by the same policy, whatever its option says.
    let discarding = Node { discard: true, ..zero };
    assert_eq!(
        sync_handshake(&input(one, discarding, true)).outcome,
        Outcome::Refused(RefusalReason::SplitBrain)
    );
    let may_demote = HandshakeInput { can_demote: true, ..input(one, zero, true) };
    let demoted = sync_handshake(&may_demote);
    assert_eq!(after_compare(&demoted)[1..3], ["!demote", "Successfully gave up primary role."]);

    let rr = |rr_conflict| {
        let policies = Policies { after_sb_1pri: Violently, rr_conflict, ..one.policies };
        sync_handshake(&input(Node { policies, ..one }, zero, true))
    };
    let solved = "Split-Brain detected, 1 primaries, automatically solved. Sync from peer node";
    assert_eq!(
        after_compare(&rr(RrConflict::CallPriLost)),
        ["!initial-split-brain", solved, "!pri-lost", "I shall become SyncTarget, but I am primary!",]
    );
    let violent = rr(RrConflict::Violently);
    assert_eq!(violent.outcome, Outcome::Target);
    assert_eq!(after_compare(&violent)[2], "Becoming SyncTarget, violating the stable-dataassumption");

    // two Primaries
    let two = |primary_zero, node| Node {
        primary: true,
        policies: Policies { after_sb_2pri: CallPriLostAfterSb, ..one.policies },
        slots: if primary_zero { zero.slots } else { one.slots },
        ..node
    };
    let (at_zero, at_one) = both(two(true, zero), two(false, one));
    assert_eq!(
        after_compare(&at_zero)[1],
        "Split-Brain detected, 2 primaries, automatically solved. Sync from this node"
    );
    assert_eq!(at_one.outcome, Outcome::Refused(RefusalReason::SplitBrain));
}

/// The last two rows of the table in spec/state.md 19.5.
#[test]
fn ambiguous_split_brain() {
    let with = |always_asbp, after_sb_0pri, slots| Node {
        policies: Policies { always_asbp, after_sb_0pri, ..NO_POLICY },
        ..node(slots, 3)
    };
    let pair = |asbp, policy| both(with(asbp, policy, [X, 0, Z, V]), with(asbp, policy, [Y, 0, W, Z]));
    let (at_zero, arbiter) = pair(true, DiscardLeastChanges);
    assert_eq!((at_zero.outcome, arbiter.outcome), (Outcome::Source, Outcome::Target));
    assert!(arbiter.full_sync);
    assert_eq!(
        after_compare(&arbiter),
        [
            "!initial-split-brain",
            "Split-Brain detected, 0 primaries, automatically solved. Sync from peer node",
            "Doing a full sync, since UUIDs where ambiguous.",
            ALL_BITS[0],
            ALL_BITS[1],
        ]
    );
    let (at_zero, arbiter) = pair(true, DiscardZeroChanges);
    assert_eq!(at_zero.outcome, Outcome::Refused(RefusalReason::SplitBrain));
    assert_eq!(arbiter.outcome, at_zero.outcome);
    let (at_zero, _) = pair(false, DiscardLeastChanges);
    assert_eq!(at_zero.outcome, Outcome::Refused(RefusalReason::SplitBrain));
}

/// spec/state.md 10.4: neither or both were Primary at the split.
#[test]
fn undecided_age_falls_back_to_least_changes() {
    let with = |slots, bits| Node {
        policies: Policies { after_sb_0pri: DiscardYoungerPrimary, ..NO_POLICY },
        ..node(slots, bits)
    };
    let (at_zero, at_one) = both(with([X, Z, 0, 0], 5), with([Y, Z, 0, 0], 7));
    assert_eq!((at_zero.outcome, at_one.outcome), (Outcome::Target, Outcome::Source));
    assert_eq!(
        after_compare(&at_zero)[1],
        "Discard younger/older primary did not find a decision\nUsing discard-least-changes instead\n"
    );
}

/// spec/state.md 19.4: the first full sync.
#[test]
fn forced_primary_on_a_new_pair() {
    let zero = Node { primary: true, ..node([0x8E84_065D_5DDA_CC01, 4, 0, 0], 8182) };
    let one = Node { disk: Disk::Inconsistent, ..node([4, 0, 0, 0], 8182) };
    let (at_zero, at_one) = both(zero, one);
    assert_eq!(
        script(&at_one)[3..],
        [
            "uuid_compare()=-2 by rule 20",
            "Becoming sync target due to disk states.",
            ALL_BITS[0],
            ALL_BITS[1],
        ]
    );
    assert_eq!(
        script(&at_zero)[3..5],
        ["uuid_compare()=2 by rule 30", "Becoming sync source due to disk states."]
    );
    assert_eq!((at_zero.outcome, at_one.outcome), (Outcome::Source, Outcome::Target));
    assert!(at_zero.full_sync && at_one.full_sync);
}

/// spec/state.md 19.3 first row and 19.2 last row.
#[test]
fn equal_data() {
    let fresh = Node { disk: Disk::Inconsistent, ..node([4, 0, 0, 0], 77) };
    let (at_zero, _) = both(fresh, fresh);
    assert_eq!(at_zero.outcome, Outcome::Connected);
    assert_eq!(after_compare(&at_zero), ["No resync, but 77 bits in bitmap!"]);

    let same = node([X, 0, 0, 0], 0);
    let worse = Node { disk: Disk::Inconsistent, ..same };
    let (at_worse, at_good) = both(worse, same);
    assert_eq!(after_compare(&at_worse), ["Becoming sync target due to disk states."]);
    assert_eq!((at_worse.outcome, at_good.outcome), (Outcome::Target, Outcome::Source));
    assert!(!at_worse.full_sync);
}

/// spec/state.md 19.7: a diskless Primary attaches and becomes target.
#[test]
fn a_primary_that_attaches_may_be_target() {
    let kept =
        node([0x8EAF_A083_BE76_F440, 0x1860_DDCA_C8FB_D52A, 0xB3AA_3A73_6D5E_A97E, 0xB3A9_3A73_6D5E_A97F], 3);
    let attaching = Node {
        primary: true,
        crashed: true,
        disk: Disk::Negotiating,
        ..node([0x1860_DDCA_C8FB_D52B, 0, 0xB3AA_3A73_6D5E_A97E, 0xB3A9_3A73_6D5E_A97F], 1024)
    };
    let at_primary = sync_handshake(&HandshakeInput {
        negotiation_disk: Some(Disk::UpToDate),
        ..input(attaching, kept, false)
    });
    assert_eq!(at_primary.outcome, Outcome::Target);
    let seen = Node { disk: Disk::Consistent, ..attaching };
    let at_kept = sync_handshake(&input(kept, seen, true));
    assert_eq!(at_kept.outcome, Outcome::Source);
    assert_eq!(script(&at_kept)[3], "uuid_compare()=1 by rule 70");

    let attached = Node { disk: Disk::UpToDate, ..attaching };
    let refused = sync_handshake(&input(attached, kept, false));
    assert_eq!(refused.outcome, Outcome::Refused(RefusalReason::PrimaryTarget));
}

/// spec/state.md 19.9, last but one row.
#[test]
fn dry_run() {
    let zero = node([X, Z | 1, 0, 0], 1);
    let one = Node { discard: true, ..node([Y, Z, 0, 0], 2) };
    let dry = |own, peer| sync_handshake(&HandshakeInput { dry_run: true, ..input(own, peer, false) });
    let last = |handshake: &Handshake| script(handshake).last().cloned().unwrap();
    let at_zero = dry(zero, one);
    assert_eq!(last(&at_zero), "dry-run connect: Would become SyncSource, doing a bit-map based resync.");
    assert_eq!(at_zero.outcome, Outcome::Refused(RefusalReason::DryRun));
    assert_eq!(
        last(&dry(one, zero)),
        "dry-run connect: Would become SyncTarget, doing a bit-map based resync."
    );
    assert_eq!(
        last(&dry(node([X, 0, 0, 0], 0), node([Y, 0, X, 0], 0))),
        "dry-run connect: Would become SyncTarget, doing a full resync."
    );
    let same = node([X, 0, 0, 0], 0);
    assert_eq!(last(&dry(same, same)), "dry-run connect: No resync, would become Connected immediately.");
}

#[test]
fn refusals_before_any_policy() {
    let unrelated = sync_handshake(&input(node([X, 0, 0, 0], 0), node([Y, 0, Z, W], 0), false));
    assert_eq!(after_compare(&unrelated), ["Unrelated data, aborting!"]);
    let Some(Step::Log(line)) = unrelated.steps.last() else {
        panic!("no log line");
    };
    assert_eq!(line.severity, Severity::Alert);

    let mut old = input(node([X, Y, 0, 0], 0), node([X, 0, 0, 0], 0), false);
    old.context.apv = 90;
    assert_eq!(
        after_compare(&sync_handshake(&old)),
        ["To resolve this both sides have to support at least protocol 91"]
    );

    let mut feature = input(node([X, 0, 0, 0], 0), node([X, 0, 0, 0], 0), false);
    feature.context.crashed_primary = true;
    feature.context.peer_primary = true;
    feature.context.feature_write_same = false;
    let refused = sync_handshake(&feature);
    assert_eq!(
        script(&refused)[3..],
        [
            "Equivalent unrotated UUIDs, but current primary present.",
            "uuid_compare()=-66661 by rule 41",
            "To resolve this both sides have to support at least protocol 101 and feature flags 0x4",
        ]
    );

    let bad = Node { disk: Disk::Inconsistent, ..node([Y, X, 0, 0], 4) };
    let older = Node { disk: Disk::Inconsistent, ..node([X, 0, 0, 0], 0) };
    let (at_bad, at_older) = both(bad, older);
    assert_eq!(after_compare(&at_bad), ["I shall become SyncSource, but I am inconsistent!"]);
    assert_eq!(at_older.outcome, Outcome::Target);
}

#[test]
fn corrections_reach_the_caller() {
    let source = node([X, Y, Z, 0], 9);
    let target = node([X, 0, Y, Z], 9);
    let (at_source, at_target) = both(source, target);
    assert_eq!(at_source.own, Uuids::from_slots([X, 0, Y, Z]));
    assert_eq!(at_source.peer.uuids, Uuids::from_slots([X, 0, Y, Z]));
    assert_eq!(at_target.peer.uuids, at_source.own);
    assert_eq!(script(&at_source)[3], "was SyncSource, missed the resync finished event, corrected myself:");
    assert!(script(&at_source)[4].starts_with("self "));
    assert!(script(&at_target)[4].starts_with("peer "));
}

fn any_node() -> impl Strategy<Value = Node> {
    let slot = || prop::sample::select(&[0, 4, X, Y, Z, X | 1, Z | 1]);
    let disk = prop::sample::select(&[Disk::Inconsistent, Disk::Outdated, Disk::Consistent, Disk::UpToDate]);
    let slots = (slot(), slot(), slot(), slot());
    (slots, 0u64..3, disk, any::<[bool; 3]>()).prop_map(|((c, b, h, i), bits, disk, flags)| Node {
        disk,
        primary: flags[0],
        crashed: flags[1],
        discard: flags[2],
        ..node([c, b, h, i], bits)
    })
}

fn any_policies() -> impl Strategy<Value = Policies> {
    let one = || {
        prop::sample::select(&[
            Disconnect,
            DiscardYoungerPrimary,
            DiscardOlderPrimary,
            DiscardZeroChanges,
            DiscardLeastChanges,
            DiscardSecondary,
            Consensus,
            CallPriLostAfterSb,
            Violently,
        ])
    };
    (one(), one(), one(), any::<bool>()).prop_map(|(p0, p1, p2, always_asbp)| Policies {
        after_sb_0pri: p0,
        after_sb_1pri: p1,
        after_sb_2pri: p2,
        always_asbp,
        rr_conflict: RrConflict::Violently,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// With equal settings both nodes never take the same side, and never agree on Connected with
    /// one of them alone, but for data where each knows the other's as old, or CURRENT 0 on both.
    #[test]
    fn one_source_one_target(zero in any_node(), one in any_node(), policies in any_policies()) {
        let zero = Node { policies, ..zero };
        let one = Node { policies, ..one };
        let known = |current: u64, slots: [u64; 4]| slots[1..].iter().any(|s| s | 1 == current | 1);
        let crossed = zero.slots[0] | 1 != one.slots[0] | 1
            && known(zero.slots[0], one.slots) && known(one.slots[0], zero.slots);
        let both_zero = zero.slots[0] | 1 == 1 && one.slots[0] | 1 == 1;
        let (at_zero, at_one) = both(zero, one);
        if !crossed && !both_zero {
            let allowed = match (at_zero.outcome, at_one.outcome) {
                (Outcome::Refused(_), _) | (_, Outcome::Refused(_)) => true,
                (Outcome::Source, Outcome::Target) | (Outcome::Target, Outcome::Source) => {
                    at_zero.full_sync == at_one.full_sync
                }
                (a, b) => a == Outcome::Connected && b == Outcome::Connected,
            };
            prop_assert!(allowed, "{:?} and {:?}", at_zero, at_one);
        }
    }

    /// Nobody gives away data that are worse than the other's.
    #[test]
    fn the_source_is_never_inconsistent(zero in any_node(), one in any_node(), policies in any_policies()) {
        let (at_zero, _) = both(Node { policies, ..zero }, Node { policies, ..one });
        if at_zero.outcome == Outcome::Source {
            prop_assert!(zero.disk > Disk::Inconsistent);
        }
        prop_assert_eq!(at_zero.steps.contains(&Step::SetAllBits), at_zero.full_sync);
    }
}
