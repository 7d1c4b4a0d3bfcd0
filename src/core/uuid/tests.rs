use super::*;
use proptest::prelude::*;

const X: u64 = 0xA1A1_A1A1_A1A1_A1A0;
const Y: u64 = 0xB2B2_B2B2_B2B2_B2B0;
const Z: u64 = 0xC3C3_C3C3_C3C3_C3C2;
const W: u64 = 0xD4D4_D4D4_D4D4_D4D4;
const V: u64 = 0xE5E5_E5E5_E5E5_E5E6;
const X_NEXT: u64 = X + NEW_BITMAP_OFFSET;

const PLAIN: CompareContext = CompareContext {
    apv: 101,
    feature_write_same: true,
    crashed_primary: false,
    arbiter: false,
    self_primary: false,
    peer_primary: false,
};

fn uuids(slots: [u64; 4]) -> Uuids {
    Uuids::from_slots(slots)
}

fn of_peer(slots: [u64; 4]) -> PeerUuids {
    PeerUuids { uuids: uuids(slots), bits: 0, flags: UuidFlags::default() }
}

/// Number and rule as in `uuid_compare()=<hg> by rule <r>`.
fn result(own: [u64; 4], peer: &PeerUuids, ctx: &CompareContext) -> (i32, u8) {
    let comparison = compare(&uuids(own), peer, ctx);
    (comparison.verdict.number(), comparison.rule)
}

/// The rows of spec/state.md 19.2.
#[test]
fn known_comparisons() {
    type Row = ([u64; 4], [u64; 4], (i32, u8), (i32, u8));
    let rows: [Row; 19] = [
        ([4, 0, 0, 0], [4, 0, 0, 0], (0, 10), (0, 10)),
        ([4, 0, 0, 0], [X, 4, 0, 0], (-2, 20), (2, 30)),
        ([0, 0, 0, 0], [X, 0, 0, 0], (-2, 20), (2, 30)),
        ([0, 0, 0, 0], [4, 0, 0, 0], (2, 30), (-2, 20)),
        ([0, 0, 0, 0], [0, 0, 0, 0], (-2, 20), (-2, 20)),
        ([X, Y, Z, 0], [X, 0, Y, Z], (1, 34), (-1, 35)),
        ([X, Y, 0, 0], [X, 0, 0, 0], (1, 36), (-1, 37)),
        ([X, 0, 0, 0], [X, 0, 0, 0], (0, 40), (0, 40)),
        ([X, 0, 0, 0], [Y, X, 0, 0], (-1, 50), (1, 70)),
        ([X, 0, 0, 0], [Y, X_NEXT, X, 0], (-1, 51), (1, 71)),
        ([X, 0, 0, 0], [Y, 0, X, 0], (-2, 60), (2, 80)),
        ([X, 0, 0, 0], [Y, Z, W, X], (-2, 60), (2, 80)),
        ([X, Z, 0, 0], [Y, Z, 0, 0], (100, 90), (100, 90)),
        ([X, 0, Z, V], [Y, 0, W, Z], (-100, 100), (-100, 100)),
        ([X, 0, 0, 0], [Y, 0, 0, 0], (-100, 100), (-100, 100)),
        ([X, 0, 0, 0], [Y, 0, Z, W], (-1000, 100), (-1000, 100)),
        ([X, V, Z, W], [Y, 0, V, Y], (-1000, 100), (-1000, 100)),
        // not in the table: "forked at a lost sync UUID" below
        ([W, X, 0, 0], [Y, X_NEXT, X, 0], (100, 90), (100, 90)),
        // bit 0 does not count
        ([X | 1, Z, 0, 0], [Y, Z | 1, 0, 0], (100, 90), (100, 90)),
    ];
    for (one, other, expected, mirrored) in rows {
        assert_eq!(result(one, &of_peer(other), &PLAIN), expected);
        assert_eq!(result(other, &of_peer(one), &PLAIN), mirrored);
    }
}

/// Rule 40 and, with a Primary around, rule 41.
#[test]
fn crashed_primaries() {
    let same = [X, 0, 0, 0];
    let crashed_peer = PeerUuids { flags: UuidFlags::CRASHED_PRIMARY, ..of_peer(same) };
    let crashed = CompareContext { crashed_primary: true, ..PLAIN };
    let arbiter = CompareContext { arbiter: true, ..crashed };
    assert_eq!(result(same, &of_peer(same), &crashed), (1, 40));
    assert_eq!(result(same, &crashed_peer, &PLAIN), (-1, 40));
    assert_eq!(result(same, &crashed_peer, &crashed), (1, 40));
    assert_eq!(result(same, &crashed_peer, &arbiter), (-1, 40));

    let primary = CompareContext { self_primary: true, ..PLAIN };
    let peer_primary = CompareContext { peer_primary: true, ..crashed };
    let both = CompareContext { self_primary: true, ..peer_primary };
    let old_peer = CompareContext { feature_write_same: false, ..primary };
    assert_eq!(result(same, &crashed_peer, &primary), (1, 41));
    assert_eq!(result(same, &of_peer(same), &peer_primary), (-1, 41));
    assert_eq!(result(same, &of_peer(same), &both), (-100, 41));
    assert_eq!(result(same, &crashed_peer, &old_peer), (-66661, 41));
    assert_eq!(result(same, &of_peer(same), &old_peer), (0, 40));
}

#[test]
fn old_protocols() {
    let old = CompareContext { apv: 90, ..PLAIN };
    let middle = CompareContext { apv: 95, ..PLAIN };
    for (one, other, rule) in
        [([X, Y, Z, 0], [X, 0, Y, Z], 30), ([X, 0, Y, Z], [X, Y, Z, 0], 30), ([Y, V, X, 0], [X, 0, 0, 0], 71)]
    {
        assert_eq!(result(one, &of_peer(other), &old), (-1091, rule));
    }
    // Below 96 the sync UUID is random; the histories tell.
    assert_eq!(result([X, 0, Z, 0], &of_peer([Y, V, X, Z]), &middle), (-1, 51));
    assert_eq!(result([Y, V, X, Z], &of_peer([X, 0, Z, 0]), &middle), (1, 71));
    assert_eq!(result([X, 0, Z, 0], &of_peer([Y, V, X, Z]), &PLAIN), (-2, 60));
    assert_eq!(result([X, 0, 0, 0], &of_peer([Y, X_NEXT, X, 0]), &old), (-1091, 51));
}

/// The target of a resync that never heard of its beginning becomes Primary by force: a split brain, of two generations that come
/// from the one of before the resync. The source's bitmap tells what has changed since.
#[test]
fn forked_at_a_lost_sync_uuid() {
    let (target, source) = (uuids([W, X, 0, 0]), uuids([Y, X_NEXT, X, Z]));
    for apv in [91, 95, 96, 101] {
        let context = CompareContext { apv, ..PLAIN };
        let target = if apv < 96 { uuids([W, X, Z, 0]) } else { target };
        let source = if apv < 96 { uuids([Y, V, X, Z]) } else { source };
        for (own, peer) in [(target, source), (source, target)] {
            let comparison = compare(&own, &of_peer(peer.slots()), &context);
            assert_eq!((comparison.verdict, comparison.rule), (Verdict::SplitBrain, 90), "{apv}");
            let (mut one, mut other) = (own, peer);
            comparison.correction.unwrap().apply(&mut one, &mut other);
            assert_eq!((one.bitmap, other.bitmap), (X, X));
        }
    }
    let old = CompareContext { apv: 90, ..PLAIN };
    let middle = CompareContext { apv: 95, ..PLAIN };
    assert_eq!(result([W, X, Z, 0], &of_peer([Y, V, X, Z]), &old), (-100, 100), "the histories");
    // The source began a generation since: the histories have nothing in common any more, and the sync UUID tells.
    let (target, source) = ([W, X, Z, 0], [Y, X_NEXT, X, V]);
    for (context, expected) in [(&old, (-100, 100)), (&middle, (100, 90)), (&PLAIN, (100, 90))] {
        assert_eq!(result(target, &of_peer(source), context), expected);
        assert_eq!(result(source, &of_peer(target), context), expected);
    }
}

/// The log of both ends in spec/state.md 19.2.
#[test]
fn a_lost_sync_uuid_is_corrected_and_made_again() {
    let mut target = uuids([X, 0, 0, 0]);
    let mut source = uuids([Y, X_NEXT, X, 0]);
    let mut cached = of_peer(source.slots());

    let there = compare(&target, &cached, &PLAIN);
    assert_eq!(there.remark(), Some("Lost last syncUUID packet, corrected:"));
    there.correction.unwrap().apply(&mut target, &mut cached.uuids);
    assert_eq!(
        cached.uuids.to_string(),
        "B2B2B2B2B2B2B2B0:A1A1A1A1A1A1A1A0:0000000000000000:0000000000000000"
    );

    let mut cached_target = target;
    let here = compare(&source, &of_peer(target.slots()), &PLAIN);
    assert_eq!(here.remark(), Some("Last syncUUID did not get through, corrected:"));
    assert!(here.correction.unwrap().is_own());
    here.correction.unwrap().apply(&mut source, &mut cached_target);
    assert_eq!(source, cached.uuids);

    let sync_uuid = source.start_as_source(0, 0);
    assert_eq!(source.to_string(), "B2B2B2B2B2B2B2B0:A1A2A1A1A1A1A1A0:A1A1A1A1A1A1A1A0:0000000000000000");
    target.start_as_target(sync_uuid, Role::Secondary);
    assert_eq!(target, uuids([0xA1A2_A1A1_A1A1_A1A0, 0, 0, 0]));
    target.finish_as_target(cached.uuids, Role::Secondary);
    source.finish_as_source();
    let done = "B2B2B2B2B2B2B2B0:0000000000000000:A1A2A1A1A1A1A1A0:A1A1A1A1A1A1A1A0";
    assert_eq!(target.to_string(), done);
    assert_eq!(source.to_string(), done);
}

/// After rule 34 both sides agree that the resync is over, and the next sync UUID is random but for what tells its generation.
#[test]
fn a_missed_finish_is_corrected() {
    let mut source = uuids([X, Y, Z, 0]);
    let target = of_peer([X, 0, Y, Z]);
    let mut cached = target;
    let comparison = compare(&source, &target, &PLAIN);
    comparison.correction.unwrap().apply(&mut source, &mut cached.uuids);
    assert_eq!(source, target.uuids);
    assert_eq!(source.start_as_source(0x1234_5678_9ABC_DEF0, 0), X ^ 0x9ABC_DEF2);
    assert_eq!(source.unfinished_resync(), Some(X));

    let mut own = target.uuids;
    let mut peer = uuids([X, Y, Z, 0]);
    let comparison = compare(&own, &of_peer(peer.slots()), &PLAIN);
    comparison.correction.unwrap().apply(&mut own, &mut peer);
    assert_eq!(peer, own);
}

/// spec/state.md 19.3: the life of a pair.
#[test]
fn history_of_a_pair() {
    let (primary, secondary) = (Role::Primary, Role::Secondary);
    let mut zero = Uuids::CREATED;
    zero.new_current_by_admin(0xB8EB_D7F4_CA93_6CA4, secondary);
    zero.forget_bitmap();
    let mut one = Uuids::CREATED;
    one.skip_initial_sync(zero.current, secondary);
    assert_eq!(zero, uuids([0xB8EB_D7F4_CA93_6CA4, 0, 0, 0]));
    assert_eq!(one, zero);

    zero.set_role(primary);
    assert_eq!(zero.current, 0xB8EB_D7F4_CA93_6CA5);
    assert_eq!(zero.new_current(0x7DE4_F2EA_37B2_B58C, primary), None);
    assert_eq!(zero, uuids([0x7DE4_F2EA_37B2_B58D, 0xB8EB_D7F4_CA93_6CA5, 0, 0]));

    let announced = zero;
    assert_eq!(result(zero.slots(), &of_peer(one.slots()), &PLAIN), (1, 70));
    let sync_uuid = zero.start_as_source(0, 0);
    one.start_as_target(sync_uuid, secondary);
    assert_eq!(zero, uuids([0x7DE4_F2EA_37B2_B58D, 0xB8EC_D7F4_CA93_6CA5, 0xB8EB_D7F4_CA93_6CA5, 0]));
    assert_eq!(one, uuids([0xB8EC_D7F4_CA93_6CA4, 0, 0, 0]));

    one.finish_as_target(announced, secondary);
    zero.finish_as_source();
    assert_eq!(zero, uuids([0x7DE4_F2EA_37B2_B58D, 0, 0xB8EC_D7F4_CA93_6CA5, 0xB8EB_D7F4_CA93_6CA5]));
    assert_eq!(one, uuids([0x7DE4_F2EA_37B2_B58C, 0, 0xB8EC_D7F4_CA93_6CA4, 0xB8EB_D7F4_CA93_6CA5]));
}

/// spec/state.md 19.4: the first full sync. BITMAP 4 gives a random sync UUID, here with the upper half of CURRENT.
#[test]
fn first_full_sync() {
    let mut zero = Uuids::CREATED;
    let mut one = Uuids::CREATED;
    assert_eq!(zero.new_current(0x8E84_065D_5DDA_CC00, Role::Primary), None);
    assert_eq!(zero.to_string(), "8E84065D5DDACC01:0000000000000004:0000000000000000:0000000000000000");
    let announced = zero;
    assert_eq!(result(one.slots(), &of_peer(zero.slots()), &PLAIN), (-2, 20));
    let sync_uuid = zero.start_as_source(0x359A_A361_3312_13CD, 0);
    assert_eq!(sync_uuid, 0x8E84_065D_5DDA_CC01 ^ 0x3312_13CF);
    one.start_as_target(sync_uuid, Role::Secondary);
    one.finish_as_target(announced, Role::Secondary);
    zero.finish_as_source();
    assert_eq!(one.to_string(), "8E84065D5DDACC00:0000000000000000:8E84065D6EC8DFCE:0000000000000004");
    assert_eq!(zero.to_string(), "8E84065D5DDACC01:0000000000000000:8E84065D6EC8DFCE:0000000000000004");
}

#[test]
fn a_lost_bitmap_uuid_is_reported() {
    let mut own = uuids([X, Y, 0, 0]);
    assert_eq!(own.new_current(Z, Role::Secondary), Some(Y));
    assert_eq!(own, uuids([Z, X, 0, 0]));
    assert_eq!(own.set_bitmap(V | 1), Some(X));
    assert_eq!(own.bitmap, V);
    assert_eq!(own.set_bitmap(0), None);
    assert_eq!(own, uuids([Z, 0, V, 0]));
}

/// U4, U5: spec/state.md 8.4 with notes a to d.
#[test]
fn when_the_peers_data_are_lost() {
    let pair = StateWord {
        role: Role::Primary,
        peer: Role::Secondary,
        conn: Conn::Connected,
        disk: Disk::UpToDate,
        pdsk: Disk::UpToDate,
        ..StateWord::UNCONFIGURED
    };
    let lost = StateWord { peer: Role::Unknown, conn: Conn::BrokenPipe, pdsk: Disk::DUnknown, ..pair };
    let both_secondary = |s| StateWord { role: Role::Secondary, ..s };
    assert!(lost_peer_data(pair, lost, 0));
    assert!(!lost_peer_data(pair, lost, X));
    assert!(!lost_peer_data(both_secondary(pair), both_secondary(lost), 0));
    let detached = StateWord { pdsk: Disk::Failed, ..pair };
    assert!(lost_peer_data(pair, detached, 0));
    let fenced = StateWord { pdsk: Disk::Outdated, ..lost };
    assert!(lost_peer_data(lost, fenced, 0));
    assert!(!lost_peer_data(detached, StateWord { pdsk: Disk::Diskless, ..pair }, 0));
    // The peer was promised that it may detach, a late word called its disk Outdated, and it goes.
    assert!(lost_peer_data(StateWord { pdsk: Disk::Outdated, ..pair }, detached, 0));
    assert!(!lost_peer_data(fenced, lost, 0), "that generation has begun");

    let primary_elsewhere =
        StateWord { role: Role::Secondary, peer: Role::Primary, pdsk: Disk::Diskless, ..pair };
    let before = StateWord { peer: Role::Secondary, ..primary_elsewhere };
    assert!(peer_became_diskless_primary(before, primary_elsewhere, 0));
    assert!(!peer_became_diskless_primary(primary_elsewhere, primary_elsewhere, 0));

    assert!(promotion_needs_new_current(lost, true, false));
    let old = StateWord { disk: Disk::Inconsistent, ..lost };
    assert!(!promotion_needs_new_current(old, true, false));
    assert!(!promotion_needs_new_current(lost, false, false));
    assert!(!promotion_needs_new_current(pair, true, false));
    assert!(promotion_needs_new_current(pair, false, true));
}

#[test]
fn admins_new_current_uuid() {
    let alone = StateWord { disk: Disk::Inconsistent, ..StateWord::UNCONFIGURED };
    let connected = StateWord { conn: Conn::Connected, ..alone };
    let check = |s, clear| check_new_current_uuid(s, Some(101), JUST_CREATED, clear);
    assert_eq!(check(alone, false), Ok(NewCurrentUuid::Alone));
    assert_eq!(check(connected, true), Ok(NewCurrentUuid::SkipInitialSync));
    assert_eq!(check(connected, false), Err(ConfigCode::Connected));
    assert_eq!(check_new_current_uuid(connected, Some(89), JUST_CREATED, true), Err(ConfigCode::Connected));
    assert_eq!(check(StateWord::UNCONFIGURED, true), Err(ConfigCode::NoDisk));
}

fn any_uuids() -> impl Strategy<Value = Uuids> {
    let slot = || prop::sample::select(&[0, 4, X, Y, Z, X_NEXT, W, X | 1, Y | 1]);
    (slot(), slot(), slot(), slot()).prop_map(|(c, b, h0, h1)| uuids([c, b, h0, h1]))
}

fn known_to(current: u64, other: &Uuids) -> bool {
    other.slots()[1..].iter().any(|&slot| without_role(slot) == without_role(current))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Both nodes compute alone and must agree: one source, one target. Exceptions: CURRENT 0 on
    /// both; each side's CURRENT among the other's old ones (both call themselves older).
    #[test]
    fn comparison_is_mirrored(
        one in any_uuids(),
        other in any_uuids(),
        apv in 86u8..=101,
        flags in any::<[bool; 6]>(),
    ) {
        let [one_crashed, other_crashed, one_primary, other_primary, arbiter, feature] = flags;
        let flag = |crashed: bool| if crashed { UuidFlags::CRASHED_PRIMARY } else { UuidFlags::default() };
        let ctx = CompareContext {
            apv,
            feature_write_same: feature,
            crashed_primary: one_crashed,
            arbiter,
            self_primary: one_primary,
            peer_primary: other_primary,
        };
        let there = CompareContext {
            crashed_primary: other_crashed,
            arbiter: !arbiter,
            self_primary: other_primary,
            peer_primary: one_primary,
            ..ctx
        };
        let here = compare(&one, &PeerUuids { uuids: other, bits: 0, flags: flag(other_crashed) }, &ctx);
        let there = compare(&other, &PeerUuids { uuids: one, bits: 0, flags: flag(one_crashed) }, &there);
        let both_zero = without_role(one.current) == 0 && without_role(other.current) == 0;
        let crossed = without_role(one.current) != without_role(other.current)
            && known_to(one.current, &other)
            && known_to(other.current, &one);
        if !both_zero && !crossed {
            prop_assert_eq!(there.verdict, here.verdict.mirrored());
            let pairs = [
                (10, 10), (20, 30), (34, 35), (36, 37), (30, 30), (40, 40), (41, 41),
                (50, 70), (51, 71), (60, 80), (90, 90), (100, 100),
            ];
            let rules = (here.rule.min(there.rule), here.rule.max(there.rule));
            prop_assert!(pairs.contains(&rules), "rules {:?}", rules);
        }
    }

    /// A correction leaves the two sets in the relation that the verdict says, without a further
    /// correction.
    #[test]
    fn corrections_hold(one in any_uuids(), other in any_uuids()) {
        let peer = PeerUuids { uuids: other, bits: 0, flags: UuidFlags::default() };
        let first = compare(&one, &peer, &PLAIN);
        if let Some(correction) = first.correction {
            let (mut own, mut corrected) = (one, peer);
            correction.apply(&mut own, &mut corrected.uuids);
            prop_assert!(own != one || corrected != peer);
            prop_assert_eq!(own.current, one.current);
        }
    }

    /// The source's sync UUID stands in its BITMAP, which is what the target's CURRENT is found by
    /// after an interruption: the pair goes on as source and target.
    #[test]
    fn an_interrupted_resync_goes_on(base in any_uuids(), random in 16u64..) {
        let mut source = base;
        let mut target = base;
        target.bitmap = 0;
        let _ = source.new_current(random, Role::Primary);
        let sync_uuid = source.start_as_source(random.wrapping_add(2), 0);
        target.start_as_target(sync_uuid, Role::Secondary);
        let fresh = without_role(target.current) == JUST_CREATED || without_role(target.current) == 0;
        if !fresh && without_role(source.current) != without_role(target.current) && !known_to(source.current, &target) {
            prop_assert_eq!(result(source.slots(), &of_peer(target.slots()), &PLAIN), (1, 70));
            prop_assert_eq!(result(target.slots(), &of_peer(source.slots()), &PLAIN), (-1, 50));
        }
    }
}

/// A target that never gets the sync UUID stays known to the source, however often it is tried.
#[test]
fn the_history_keeps_the_target_of_an_interrupted_resync() {
    let target = 0x1234_5678_9ABC_DEF0;
    let mut source = Uuids { current: 0x51B2_475A_9755_B178, bitmap: target, history: [0, 0] };
    for _ in 0..5 {
        source.start_as_source(0, target);
        assert!(source.history.contains(&target), "{source}");
    }
}

/// So it does when the source crashes after one of the tries, and goes on alone.
#[test]
fn a_source_that_goes_on_after_a_crash_keeps_its_target() {
    let (target, current) = (0x1234_5678_9ABC_DEF0, 0x51B2_475A_9755_B178);
    let mut source = Uuids { current, bitmap: target, history: [0, 0] };
    assert_eq!(source.unfinished_resync(), None);
    for _ in 0..5 {
        source.start_as_source(0, target);
        let mut alone = source;
        alone.new_current_beside_target(7, Role::Primary, source.unfinished_resync().expect("a resync"));
        assert!(alone.history.contains(&target) && alone.history.contains(&current), "{alone}");
        assert_eq!(without_role(alone.bitmap), without_role(source.bitmap));
        assert_eq!(alone.unfinished_resync(), None, "{alone}");
        // The next try says so again.
        alone.start_as_source(0, target);
        assert!(alone.unfinished_resync().is_some(), "{alone}");
    }
}

/// A source that goes on beside its target, and a target that goes on from the generation before, without having heard of any resync, or after
/// the end of the last one: a split brain, after any further try of a resync, too. Nodes that have done none of this are unrelated as before.
#[test]
fn a_source_and_its_target_that_went_on_are_a_split_brain() {
    let common = 0x1234_5678_9ABC_DEF0;
    for tries in 1..4 {
        let mut source = Uuids { current: common, bitmap: 0, history: [0, 0] };
        for _ in 0..tries {
            source.start_as_source(0x7200_ED7A, common);
        }
        source.new_current_beside_target(0xED23_247F_89FA_0ED4, Role::Primary, common);
        for history in [[0, 0], [V, W]] {
            let target = [0x9A42_1B58_59D3_AA70, common, history[0], history[1]];
            let own = source.slots();
            assert_eq!(result(own, &of_peer(target), &PLAIN).0.abs(), 100, "{tries} {source}");
            assert_eq!(result(target, &of_peer(own), &PLAIN).0.abs(), 100, "{tries} {source}");
            let comparison = compare(&source, &of_peer(target), &PLAIN);
            if let Some(correction) = comparison.correction {
                assert_eq!(correction, Correction::OwnLeftBesideTarget);
                let mut peer = uuids(target);
                correction.apply(&mut source, &mut peer);
                assert_eq!(result(source.slots(), &of_peer(target), &PLAIN), (100, 90), "{source}");
                // The target gives its data up, and does not hear of that resync either.
                source.start_as_source(0, target[0]);
                assert_eq!(result(source.slots(), &of_peer(target), &PLAIN), (100, 90), "{source}");
                source = uuids(own);
            }
        }
    }
    let others = of_peer([Y, common, V, W]);
    assert_eq!(result([X, Z, 2, common], &others, &PLAIN), (-1000, 100));
}

/// A source that has ended a resync by itself, and a target that goes on from the generation before or from the sync UUID, are a split brain. Nodes of which
/// one goes on from any other old generation of the other one are unrelated as before, and so are disks that were new once.
#[test]
fn a_source_that_ended_a_resync_alone_and_its_target_are_a_split_brain() {
    let common = 0x1234_5678_9ABC_DEF0;
    for before in [common, 0] {
        let mut source = Uuids { current: X, bitmap: before, history: [0, 0] };
        let sync_uuid = source.start_as_source(0x7200_ED7A, common);
        source.finish_as_source();
        let mut later = source;
        assert_eq!(later.new_current(W, Role::Secondary), None);
        for source in [source, later] {
            for bitmap in [before, sync_uuid].into_iter().filter(|uuid| *uuid != 0) {
                let target = [Y, bitmap, V, Z];
                assert_eq!(result(source.slots(), &of_peer(target), &PLAIN), (-100, 100), "{source}");
                assert_eq!(result(target, &of_peer(source.slots()), &PLAIN), (-100, 100), "{source}");
            }
        }
    }
    for unrelated in
        [[X, 0, common, W], [X, 0, W, common], [X, 0, JUST_CREATED + NEW_BITMAP_OFFSET, JUST_CREATED]]
    {
        for bitmap in [common, JUST_CREATED] {
            assert_eq!(result(unrelated, &of_peer([Y, bitmap, V, Z]), &PLAIN), (-1000, 100));
        }
    }
}
