//! Two Primaries: writes to the same blocks, frozen I/O.

use super::fencing::fencing_pair;
use super::*;

fn two_primaries() -> Pair {
    two_primaries_at(101)
}

/// Each has the other fenced, by a handler that ends when the test says so. Of `a` both have a write, whose barrier `b` need not have answered.
fn fencing_primaries_with_a_write() -> Pair {
    let mut pair = two_primaries();
    for node in [&mut pair.a, &mut pair.b] {
        node.with_fencing(Fencing::ResourceAndStonith);
        node.running = Some(Vec::new());
    }
    let token = pair.a.write(4000, 99, 8192);
    while !pair.a.completed.contains_key(&token) {
        pair.run_once();
    }
    pair
}

impl Pair {
    /// `b` crashes, and is told to connect.
    fn b_comes_back_after_a_crash(&mut self) {
        self.b.restart(77);
        let net = NetSettings { allow_two_primaries: true, ..settings(Protocol::C) };
        self.b.begin(Command::Connect(Box::new(net)));
    }
}

fn two_primaries_at(version: u32) -> Pair {
    let mut pair = Pair::new(version);
    let net = NetSettings { allow_two_primaries: true, ..settings(Protocol::C) };
    pair.connect(&net);
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    pair.assert_equal();
    let id = pair.b.begin(Command::Primary { volume: V, force: false });
    pair.run();
    assert_eq!(pair.b.replies[&id], 1, "{}", pair.logs());
    pair
}

/// Both nodes are told the same.
fn both(pair: &mut Pair, command: fn() -> Command) {
    for node in [&mut pair.a, &mut pair.b] {
        node.command(command());
    }
}

/// Something is done until a write of `a` is on both disks, and its answer on the way.
fn until_answered(pair: &mut Pair) {
    while !pair.b.outgoing[Socket::Meta as usize].iter().any(|(_, p, _)| matches!(p, Packet::WriteAck(_))) {
        let _ = pair.a.work() | pair.b.work();
        Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now);
        while pair.a.work() | pair.b.work() {}
    }
}

/// A frozen write is on both disks, and the peer's application has written to the same blocks behind it. When the link comes back it
/// is not sent again over that.
#[test]
fn an_answered_write_is_not_sent_again_over_a_later_one_of_the_peer() {
    for demoted in [false, true] {
        let mut pair = two_primaries();
        let token = pair.a.write(112, 11, 8192);
        until_answered(&mut pair);
        pair.a.command(Command::SuspendIo { volume: V });
        pair.run();
        assert!(!pair.a.completed.contains_key(&token), "{}", pair.logs());
        pair.b.write(104, 13, 8192);
        pair.run();
        assert_eq!((pair.a.data[112 * 512], pair.b.data[112 * 512]), (13, 13));
        if demoted {
            let id = pair.b.begin(Command::Secondary { volume: V, open: false });
            pair.run();
            assert_eq!(pair.b.replies[&id], 1, "{}", pair.logs());
        } else {
            pair.b.command(Command::SuspendIo { volume: V });
        }
        pair.lose_link();
        pair.meet_again();
        both(&mut pair, || Command::ResumeIo { volume: V });
        pair.run();
        assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
        assert_eq!((pair.a.data[112 * 512], pair.b.data[112 * 512]), (13, 13), "{}", pair.logs());
        pair.assert_equal();
    }
}

/// The same where the later write has not got to this node when the link is lost: it comes when the link is back.
#[test]
fn an_answered_write_is_not_sent_again_over_one_of_the_peer_that_is_on_its_way() {
    for arbiter_is_frozen in [false, true] {
        let mut pair = two_primaries();
        let token = pair.a.write(112, 11, 8192);
        until_answered(&mut pair);
        both(&mut pair, || Command::SuspendIo { volume: V });
        pair.run();
        pair.b.command(Command::ResumeIo { volume: V });
        let later = pair.b.write(104, 13, 8192);
        while pair.b.work() {}
        pair.b.command(Command::SuspendIo { volume: V });
        pair.lose_link();
        if !arbiter_is_frozen {
            std::mem::swap(&mut pair.a, &mut pair.b);
        }
        pair.meet_again();
        both(&mut pair, || Command::ResumeIo { volume: V });
        pair.run();
        if !arbiter_is_frozen {
            std::mem::swap(&mut pair.a, &mut pair.b);
        }
        assert!(pair.a.completed[&token].is_ok() && pair.b.completed[&later].is_ok(), "{}", pair.logs());
        pair.assert_equal();
    }
}

/// Both are frozen, and have told their applications of writes whose barriers are still to come. Neither has lost anything when the link comes
/// back: no generation begins, which the other one would not know.
#[test]
fn two_frozen_primaries_meet_again() {
    let mut pair = two_primaries();
    let token = pair.a.write(112, 11, 8192);
    until_answered(&mut pair);
    while pair.a.completed.is_empty() {
        let _ = pair.a.work() | pair.b.work();
        Pair::deliver(&mut pair.b, &mut pair.a, Socket::Meta, pair.now);
    }
    assert!(pair.a.completed[&token].is_ok() && pair.a.core.has_open_epochs(V), "{}", pair.logs());
    both(&mut pair, || Command::SuspendIo { volume: V });
    pair.lose_link();
    pair.meet_again();
    both(&mut pair, || Command::ResumeIo { volume: V });
    pair.run();
    pair.assert_equal();
}

/// I/O of both was suspended, and the link is lost when the second one has just become Primary: nothing has been written since, and no generation
/// begins that would keep the two apart.
#[test]
fn a_promotion_that_loses_the_other_primary_begins_no_generation_while_suspended() {
    let mut pair = Pair::new(101);
    pair.connect(&NetSettings { allow_two_primaries: true, ..settings(Protocol::C) });
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    both(&mut pair, || Command::SuspendIo { volume: V });
    pair.b.meta_held = Some(Vec::new());
    let promotion = pair.b.begin(Command::Primary { volume: V, force: false });
    while pair.b.word().0 != Role::Primary {
        pair.run_once();
    }
    pair.lose_link();
    let token = pair.b.write(4000, 99, 8192);
    pair.b.release_meta();
    while pair.b.work() {}
    assert_eq!((pair.b.replies[&promotion], pair.b.super_block().uuids[1]), (1, 0), "{}", pair.logs());
    pair.meet_again();
    both(&mut pair, || Command::ResumeIo { volume: V });
    pair.run();
    assert!(pair.b.completed[&token].is_ok(), "{}", pair.logs());
    pair.assert_equal();
}

/// A write of the other Primary waits for acknowledgements that were sent before it, and the link is lost: it is not written behind the
/// back of everybody.
#[test]
fn a_write_that_came_too_early_goes_with_its_link() {
    let mut pair = two_primaries();
    pair.a.write(112, 11, 8192);
    until_answered(&mut pair);
    pair.b.write(4000, 13, 8192);
    for _ in 0..100 {
        pair.b.work();
        Pair::deliver(&mut pair.b, &mut pair.a, Socket::Data, pair.now);
        pair.a.work();
    }
    assert!(pair.a.core.early_deadline().is_some(), "{}", pair.logs());
    pair.lose_link();
    while pair.a.work() | pair.b.work() {}
    assert_eq!((pair.a.data[4000 * 512], pair.b.data[4000 * 512]), (0, 13), "{}", pair.logs());
}

/// One of two Primaries crashes, and the other one, frozen, goes on as the source of its resync. Before that has begun the source is demoted and
/// the link is lost, or it crashes, too: what it has acknowledged meanwhile stays.
#[test]
fn what_the_source_acknowledges_before_the_resync_of_a_crashed_primary_stays() {
    for crashes in [false, true] {
        let mut pair = two_primaries();
        let net = Box::new(NetSettings { allow_two_primaries: true, ..settings(Protocol::C) });
        for node in [&mut pair.a, &mut pair.b] {
            node.with_fencing(Fencing::ResourceAndStonith);
            node.running = Some(Vec::new());
        }
        pair.b.write(4000, 99, 8192);
        pair.run();
        pair.lose_link();
        pair.b.restart(77);
        pair.b.begin(Command::Connect(net.clone()));
        (pair.a.wants_link, pair.b.wants_link) = (true, true);
        for _ in 0..500 {
            if pair.a.word().1 == Conn::WFBitMapS {
                break;
            }
            pair.run_once();
        }
        assert_eq!(pair.a.word().1, Conn::WFBitMapS, "{}", pair.logs());
        let token = pair.a.write(4000, 13, 8192);
        while pair.a.work() {}
        assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
        if !crashes {
            assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1, "{}", pair.logs());
        }
        pair.lose_link();
        if crashes {
            pair.a.restart(78);
            pair.a.begin(Command::Connect(net.clone()));
        }
        pair.b.restart(79);
        pair.b.begin(Command::Connect(net));
        (pair.a.running, pair.b.running) = (None, None);
        pair.meet_again();
        pair.assert_equal();
        assert_eq!(pair.a.data[4000 * 512], 13, "{}", pair.logs());
    }
}

/// Both write to the same blocks at the same time: both complete, and both disks end with the same data.
#[test]
fn two_primaries_that_write_the_same_blocks_stay_equal() {
    for version in [89, 96, 100, 101] {
        let mut pair = two_primaries_at(version);
        let mut tokens = Vec::new();
        let mut seed = 7u64;
        for round in 0..60u8 {
            // The same range; from version 100 on also ranges that overlap in part.
            let shift = if version >= 100 { u64::from(round) % 3 * 4 } else { 0 };
            tokens.push((true, pair.a.write(104, round, 4096)));
            tokens.push((false, pair.b.write(104 - shift, 100 + round, 4096 + (shift as usize * 512))));
            tokens.push((true, pair.a.write(1000, round, 4096)));
            if round % 4 == 3 {
                pair.run();
            } else {
                // Something happens in between, in any order.
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                for step in 0..seed >> 61 {
                    let socket = if (seed >> step) & 2 == 0 { Socket::Meta } else { Socket::Data };
                    pair.a.work();
                    pair.b.work();
                    Pair::deliver(&mut pair.a, &mut pair.b, socket, pair.now);
                    Pair::deliver(&mut pair.b, &mut pair.a, socket, pair.now);
                }
            }
        }
        pair.run();
        for (on_a, token) in tokens {
            let node = if on_a { &pair.a } else { &pair.b };
            assert!(node.completed.get(&token).is_some_and(Result::is_ok), "version {version}");
        }
        pair.assert_equal();
    }
}

/// One of two Primaries lets the other detach, and the link is lost with the answer: that one keeps its disk, and may have this one fenced. What
/// this one's application wrote meanwhile has not been acknowledged, and no generation has begun that the other does not know.
#[test]
fn who_lets_the_other_primary_detach_goes_on_when_it_has() {
    for answered in [false, true] {
        let mut pair = two_primaries();
        for node in [&mut pair.a, &mut pair.b] {
            node.with_fencing(Fencing::ResourceAndStonith);
        }
        let detach = pair.b.begin(Command::Detach { volume: V, force: false });
        while pair.a.word().3 != Disk::Failed {
            pair.run_once();
        }
        let token = pair.a.write(4000, 99, 8192);
        while pair.a.work() {}
        assert!(!pair.a.completed.contains_key(&token), "{}", pair.logs());
        if answered {
            pair.run();
            assert_eq!((pair.b.replies[&detach], pair.b.word().2), (1, Disk::Diskless), "{}", pair.logs());
            assert_ne!(pair.a.super_block().uuids[1], 0, "{}", pair.logs());
            pair.b.attach();
        } else {
            (pair.a.running, pair.b.running) = (Some(Vec::new()), Some(Vec::new()));
            pair.lose_link();
            assert_eq!(
                (pair.a.super_block().uuids[1], pair.b.super_block().uuids[1]),
                (0, 0),
                "{}",
                pair.logs()
            );
            assert!(!pair.a.completed.contains_key(&token), "{}", pair.logs());
            pair.meet_again();
        }
        pair.run();
        assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
        pair.assert_equal();
    }
}

/// The same without fencing: each goes on alone, with a generation of its own.
#[test]
fn who_loses_the_other_primary_before_it_has_detached_begins_a_generation() {
    let mut pair = two_primaries();
    pair.b.begin(Command::Detach { volume: V, force: false });
    while pair.a.word().3 != Disk::Failed {
        pair.run_once();
    }
    let token = pair.a.write(4000, 99, 8192);
    while pair.a.work() {}
    pair.lose_link();
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    assert_ne!(pair.a.super_block().uuids[1], 0, "{}", pair.logs());
}

/// One of two Primaries lets the other detach, and loses its own disk before the other has the answer. The other keeps its disk, and says so.
#[test]
fn who_does_not_detach_in_the_end_says_so() {
    let mut pair = two_primaries();
    let detach = pair.b.begin(Command::Detach { volume: V, force: false });
    pair.run_with_a_slow_meta_socket(|pair| pair.a.word().3 == Disk::Failed);
    assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
    pair.run_with_a_slow_meta_socket(|pair| pair.b.word().3 <= Disk::Failed);
    pair.run();
    assert_eq!((pair.b.replies[&detach], pair.b.word().2), (-2, Disk::UpToDate), "{}", pair.logs());
    assert_eq!(pair.a.word().3, Disk::UpToDate, "{}", pair.logs());
    let token = pair.a.write(4000, 99, 8192);
    pair.run();
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    assert_eq!(pair.b.data[4000 * 512], 99);
}

/// One of two Primaries is demoted, and the link is lost before the other's disk keeps what was written last. It is a Primary that lost its
/// peer until then: no generation begins with a demotion behind the back of the other, which has it fenced and goes on.
#[test]
fn a_demotion_that_loses_the_other_primary_begins_no_generation_while_frozen() {
    let mut pair = fencing_primaries_with_a_write();
    let demotion = pair.a.begin(Command::Secondary { volume: V, open: false });
    while pair.a.work() {}
    assert_eq!(pair.a.word().0, Role::Primary, "{}", pair.logs());
    pair.lose_link();
    assert_eq!((pair.a.replies[&demotion], pair.a.word().0), (1, Role::Secondary), "{}", pair.logs());
    assert_eq!(pair.a.super_block().uuids[1], 0, "{}", pair.logs());
    assert_eq!(pair.a.command(Command::Outdate { volume: V }), 1);
    let fencing = pair.b.running.take().and_then(|mut helpers| helpers.pop()).expect("fence-peer runs");
    pair.b.core.helper_done(pair.now, fencing, 4 << 8);
    let token = pair.b.write(5000, 88, 8192);
    while pair.b.work() {}
    assert!(pair.b.completed[&token].is_ok(), "{}", pair.logs());
    pair.a.running = None;
    pair.meet_again();
    pair.assert_equal();
    assert_eq!(pair.a.data[5000 * 512], 88);
}

/// It is outdated while its own handler runs, which shoots the other then: that has gone on, or was about to, and nothing begins with old data. If it
/// has not, the node that was demoted has what the other one has lost with its cache.
#[test]
fn a_demoted_node_that_is_outdated_begins_no_generation_when_it_has_shot_its_peer() {
    for goes_on in [true, false] {
        let mut pair = fencing_primaries_with_a_write();
        pair.lose_link();
        assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1, "{}", pair.logs());
        assert_eq!(pair.a.command(Command::Outdate { volume: V }), 1);
        let fencing = pair.b.running.take().and_then(|mut helpers| helpers.pop()).expect("fence-peer runs");
        if goes_on {
            pair.b.core.helper_done(pair.now, fencing, 4 << 8);
            let token = pair.b.write(5000, 88, 8192);
            while pair.b.work() {}
            assert!(pair.b.completed[&token].is_ok(), "{}", pair.logs());
        } else {
            pair.b.data[4000 * 512..][..8192].fill(0x55);
        }
        pair.helper_of_a_ends(7);
        while pair.a.work() {}
        pair.b_comes_back_after_a_crash();
        pair.a.running = None;
        pair.meet_again();
        pair.assert_equal();
        assert_eq!(pair.b.data[4000 * 512], 99, "{goes_on} {}", pair.logs());
        assert_eq!(pair.a.data[5000 * 512], if goes_on { 88 } else { 0 }, "{}", pair.logs());
    }
}

/// An administrator who forces the promotion of such a node means its data: it goes on, in the generation that it owes.
#[test]
fn a_node_that_was_outdated_while_frozen_goes_on_when_its_promotion_is_forced() {
    let mut pair = fencing_pair(Fencing::ResourceAndStonith);
    pair.lose_link();
    assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1, "{}", pair.logs());
    assert_eq!(pair.a.command(Command::Outdate { volume: V }), 1);
    pair.helper_of_a_ends(7);
    while pair.a.work() {}
    assert!(pair.a.core.volume(V).state().is_susp(), "{}", pair.logs());
    assert_eq!(pair.a.super_block().uuids[1], 0, "{}", pair.logs());
    let before = pair.a.super_block().uuids[0] & !1;
    assert_eq!(pair.a.command(Command::Primary { volume: V, force: true }), 1, "{}", pair.logs());
    let token = pair.a.write(4000, 99, 8192);
    while pair.a.work() {}
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    assert_eq!(pair.a.super_block().uuids[1] & !1, before, "{}", pair.logs());
}

/// A node was demoted while frozen, its handler does not end, and nobody has outdated it: the other one comes back after a crash.
#[test]
fn a_node_that_was_demoted_while_frozen_has_what_the_other_primary_lost() {
    let mut pair = fencing_primaries_with_a_write();
    pair.lose_link();
    assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1, "{}", pair.logs());
    pair.b.data[4000 * 512..][..8192].fill(0x55);
    pair.b_comes_back_after_a_crash();
    (pair.a.running, pair.b.running) = (None, None);
    pair.meet_again();
    pair.assert_equal();
    assert_eq!(pair.b.data[4000 * 512], 99, "{}", pair.logs());
}

/// One of two Primaries loses the link, is frozen, demoted and outdated, and the other goes on, and gives its disk up. The two meet before
/// that is attached again: until then the one does not know what its data are to the other's, and neither begins nor offers the
/// generation that it owes, also if it has written what may have been lost with the other's cache.
#[test]
fn an_old_disk_begins_no_generation_beside_a_peer_without_a_disk() {
    for open_epoch in [false, true] {
        let mut pair = two_primaries();
        for node in [&mut pair.a, &mut pair.b] {
            node.with_fencing(Fencing::ResourceAndStonith);
            node.running = Some(Vec::new());
        }
        let token = pair.a.write(4000, 99, 8192);
        while !pair.a.completed.contains_key(&token) || !open_epoch && pair.now < 100_000 {
            pair.run_once();
        }
        pair.lose_link();
        assert!(pair.a.core.volume(V).state().susp_fen, "{}", pair.logs());
        assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1, "{}", pair.logs());
        assert_eq!(pair.a.command(Command::Outdate { volume: V }), 1, "{}", pair.logs());
        let fencing = pair.b.running.take().and_then(|mut helpers| helpers.pop()).expect("fence-peer runs");
        pair.b.core.helper_done(pair.now, fencing, 4 << 8);
        let token = pair.b.write(5000, 88, 8192);
        while pair.b.work() {}
        assert!(pair.b.completed[&token].is_ok(), "{}", pair.logs());
        assert_eq!(pair.b.command(Command::Secondary { volume: V, open: false }), 1, "{}", pair.logs());
        assert_eq!(pair.b.command(Command::Detach { volume: V, force: false }), 1, "{}", pair.logs());
        pair.a.running = None;
        let before = pair.a.super_block().uuids;
        (pair.a.wants_link, pair.b.wants_link) = (true, true);
        for _ in 0..500 {
            pair.run_once();
        }
        assert_eq!(pair.a.super_block().uuids, before, "{}", pair.logs());
        if open_epoch {
            // They connect again and again.
            pair.lose_link();
        }
        pair.b.attach();
        (pair.a.wants_link, pair.b.wants_link) = (true, true);
        for _ in 0..1000 {
            pair.run_once();
        }
        pair.assert_equal();
        assert_eq!((pair.a.data[5000 * 512], pair.a.data[4000 * 512]), (88, 99));
    }
}

/// The disk of one of two Primaries is not good any more (`on-io-error pass_on`), and no resync runs: what the other writes then it
/// is not told of, so that its own bits say nothing of its blocks. Also when the other is no Primary any more.
#[test]
fn reads_beside_a_primary_that_does_not_mirror_are_its() {
    for demoted in [false, true] {
        let mut pair = two_primaries();
        pair.a.core.local_error(V, 8000, 8, true);
        pair.run();
        assert_eq!(pair.a.word().2, Disk::Inconsistent, "{}", pair.logs());
        let token = pair.b.write(4000, 99, 8192);
        pair.run();
        assert!(pair.b.completed[&token].is_ok(), "{}", pair.logs());
        if demoted {
            let id = pair.b.begin(Command::Secondary { volume: V, open: false });
            pair.run();
            assert_eq!(pair.b.replies[&id], 1, "{}", pair.logs());
        }
        pair.a.core.read(pair.now, V, 12345, 4000, 4096);
        pair.run();
        let read = pair.a.completed[&12345].clone().ok().flatten();
        assert_eq!(read, Some(vec![99; 4096]), "{}", pair.logs());
    }
}

/// A write of the other Primary was on its way when that one was shot: who reads it here, after the freeze, hears of it when the new
/// generation is durable. Else a crash could bring back what was there before it, from a disk of the same generation.
#[test]
fn a_read_beside_a_primary_that_is_gone_waits_for_the_generation() {
    let mut pair = two_primaries();
    for node in [&mut pair.a, &mut pair.b] {
        node.with_fencing(Fencing::ResourceAndStonith);
        node.running = Some(Vec::new());
    }
    pair.b.write(4000, 99, 8192);
    while pair.a.data[4000 * 512] != 99 {
        while pair.a.work() | pair.b.work() {}
        Pair::deliver(&mut pair.b, &mut pair.a, Socket::Data, pair.now);
    }
    pair.lose_link();
    pair.a.core.read(pair.now, V, 12345, 4000, 4096);
    let fencing = pair.a.running.take().and_then(|mut helpers| helpers.pop()).expect("fence-peer runs");
    pair.a.meta_held = Some(Vec::new());
    pair.a.core.helper_done(pair.now, fencing, 7 << 8);
    while pair.a.work() {}
    assert!(!pair.a.completed.contains_key(&12345), "{}", pair.logs());
    pair.a.release_meta();
    while pair.a.work() {}
    assert_ne!(pair.a.super_block().uuids[1], 0, "{}", pair.logs());
    assert_eq!(pair.a.completed[&12345].clone().ok().flatten(), Some(vec![99; 4096]), "{}", pair.logs());
}

/// After a crash of both Primaries either disk may be the one that counts: a flush waits for the peer's, or for the generation without it.
#[test]
fn a_flush_beside_another_primary_waits_for_its_disk() {
    for lost in [false, true] {
        let mut pair = two_primaries();
        let token = pair.a.write(4000, 99, 8192);
        while !pair.a.completed.contains_key(&token) {
            pair.run_once();
        }
        assert!(pair.a.core.has_open_epochs(V));
        pair.a.core.flush(pair.now, V, 12345);
        while pair.a.work() {}
        assert!(!pair.a.completed.contains_key(&12345), "{}", pair.logs());
        if lost {
            pair.a.meta_held = Some(Vec::new());
            pair.lose_link();
            assert!(!pair.a.completed.contains_key(&12345), "{}", pair.logs());
            pair.a.release_meta();
            while pair.a.work() {}
        } else {
            pair.run();
        }
        assert_eq!(pair.a.completed.get(&12345), Some(&Ok(None)), "{}", pair.logs());
    }
}

/// What a Primary wrote may be in its cache still, and the other one have had it flushed to its own disk. If that goes, with the link, it does not
/// count any more: this one is to have it before it goes on alone.
#[test]
fn what_the_other_primary_may_have_had_flushed_is_durable_before_the_generation_without_it() {
    let mut pair = two_primaries();
    let token = pair.a.write(4000, 99, 8192);
    pair.run();
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    let flushes = pair.a.flushes;
    pair.a.meta_held = Some(Vec::new());
    pair.lose_link();
    assert_eq!(pair.a.flushes, flushes + 1, "{}", pair.logs());
    assert_eq!(pair.a.super_block().uuids[1], 0, "{}", pair.logs());
    pair.a.release_meta();
    while pair.a.work() {}
    assert_ne!(pair.a.super_block().uuids[1], 0, "{}", pair.logs());
}

/// A write that the arbiter refused is to be done again when the arbiter's own is here. The link is lost, and that one fails (`on-io-error
/// pass_on`): nobody has good data, and the write fails. This disk has it, and the peer has not: its blocks are marked, and their extent is kept in the
/// activity log by nobody.
#[test]
fn a_write_that_is_to_be_done_again_and_fails_is_marked() {
    let mut pair = two_primaries();
    if !pair.a.core.link().is_some_and(|link| link.arbiter) {
        std::mem::swap(&mut pair.a, &mut pair.b);
    }
    let settings =
        DiskSettings { on_io_error: OnIoError::PassOn, ..pair.b.core.volume(V).settings().clone() };
    let settings = Box::new(settings);
    assert_eq!(pair.b.command(Command::DiskSettings { volume: V, settings }), 101);
    pair.run();
    pair.b.held = Some(Vec::new());
    let token = pair.b.write(112, 5, 8192);
    pair.a.write(104, 6, 8192);
    while pair.a.work() | pair.b.work() {}
    while Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now) {}
    while Pair::deliver(&mut pair.b, &mut pair.a, Socket::Data, pair.now) {}
    while pair.a.work() | pair.b.work() {}
    let refusal = |(_, packet, _): &(_, Packet, _)| matches!(packet, Packet::RetryWrite(_));
    assert!(pair.a.outgoing[Socket::Meta as usize].iter().any(refusal), "{}", pair.logs());
    while Pair::deliver(&mut pair.a, &mut pair.b, Socket::Meta, pair.now) {}
    let own = std::mem::take(pair.b.held.as_mut().expect("held"));
    assert_eq!(own.len(), 1, "{own:?}");
    pair.b.held = None;
    pair.b.carry_out_all(own);
    pair.b.held = Some(Vec::new());
    while pair.b.work() {}
    pair.lose_link();
    assert!(!pair.b.completed.contains_key(&token), "{}", pair.logs());
    pair.b.fail_held_write(pair.now);
    while pair.b.work() {}
    assert_eq!(pair.b.word().2, Disk::Inconsistent, "{}", pair.logs());
    assert!(pair.b.completed[&token].is_err(), "{}", pair.logs());
    let disk = pair.b.core.volume(V).disk().expect("it passes errors on");
    assert_eq!(disk.bitmap.count_sectors(112, 16), 2, "{}", pair.logs());
    assert_eq!(disk.activity_log.used(), 0, "{}", pair.logs());
}

/// Both write to the same block, and the arbiter's write stays: the other one's is done when that is on the arbiter's disk. Before, a crash of the
/// arbiter, whose disk a resync may come from, or a read there, would bring back what was there before both.
#[test]
fn a_superseded_write_is_done_when_the_one_that_stays_is_on_the_disk() {
    for version in [86, 101] {
        let mut pair = two_primaries_at(version);
        pair.a.held = Some(Vec::new());
        pair.a.write(4000, 11, 4096);
        let token = pair.b.write(4000, 22, 4096);
        // Nor is the barrier behind it answered before.
        pair.b.core.flush(pair.now, V, 12345);
        pair.run_for_a_while();
        assert!(!pair.b.completed.contains_key(&token), "{}", pair.logs());
        assert_eq!(pair.b.word().1, Conn::Connected, "{}", pair.logs());
        let held = pair.a.held.take().unwrap_or_default();
        assert!(matches!(held[..], [Output::DiskWrite { .. }]), "{held:?}\n{}", pair.logs());
        pair.a.carry_out_all(held);
        pair.run();
        assert!(pair.b.completed[&token].is_ok(), "{}", pair.logs());
        assert!(!pair.b.core.has_open_epochs(V), "{}", pair.logs());
        assert_eq!([&pair.a, &pair.b].map(|node| node.data[4000 * 512]), [11; 2], "{}", pair.logs());
        pair.assert_equal();
    }
}

/// The arbiter has no disk, and the link is lost before its own write, which was to replace the other one's, is there: that one stays, is on the other
/// disk only, and comes with the next resync.
#[test]
fn an_arbiter_without_a_disk_supersedes_nothing() {
    for version in [86, 101] {
        let mut pair = two_primaries_at(version);
        assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
        // Neither the news of the disk nor the write arrive.
        pair.a.write(4000, 11, 4096);
        let token = pair.b.write(4000, 22, 4096);
        for _ in 0..50 {
            let _ = pair.a.work() | pair.b.work();
            Pair::deliver(&mut pair.b, &mut pair.a, Socket::Data, pair.now);
            Pair::deliver(&mut pair.b, &mut pair.a, Socket::Meta, pair.now);
            Pair::deliver(&mut pair.a, &mut pair.b, Socket::Meta, pair.now);
        }
        assert!(pair.b.completed[&token].is_ok(), "{}", pair.logs());
        pair.lose_link();
        let disk = pair.b.core.volume(V).disk().expect("a disk");
        assert_eq!(disk.bitmap.count_sectors(4000, 8), 1, "{}", pair.logs());
    }
}
