//! Who may be outdated, and whose data have to stay good: the only ones that a Primary has.

use super::fencing::fencing_pair;
use super::*;

/// The peer is Primary, and agreed to a full sync from this node: it has no newer data, whatever of the resync it has heard when the
/// link is lost. If its disk goes, too, it needs these.
#[test]
fn the_source_of_a_primary_keeps_its_data() {
    for begun in [false, true] {
        let mut pair = fencing_pair(Fencing::ResourceOnly);
        pair.a.running = None;
        pair.b.held = Some(Vec::new());
        pair.b.begin(Command::InvalidateRemote { volume: V });
        while pair.b.word().1 != Conn::SyncSource {
            pair.run_once();
        }
        if begun {
            pair.run();
            assert_eq!(pair.a.word().1, Conn::SyncTarget, "{}", pair.logs());
        }
        pair.lose_link();
        pair.b.release_held();
        pair.b.running = Some(Vec::new());
        // Where its target cannot be good it is not even asked.
        let id = pair.b.begin(Command::Primary { volume: V, force: false });
        while pair.b.work() {}
        if let Some(helper) = pair.b.running.as_mut().and_then(Vec::pop) {
            pair.b.core.helper_done(pair.now, helper, 6 << 8);
            while pair.b.work() {}
            assert!(pair.b.replies[&id] < 0, "{}", pair.logs());
        }
        assert_eq!(pair.b.word().2, Disk::UpToDate, "{}", pair.logs());
    }
}

/// The peer is Primary, without a disk, and worked with this node's data until the link was lost. It has no others: these do not
/// become old because it lives.
#[test]
fn who_serves_a_primary_without_a_disk_keeps_its_data() {
    let mut pair = fencing_pair(Fencing::ResourceOnly);
    pair.a.running = None;
    pair.a.begin(Command::Detach { volume: V, force: false });
    pair.run();
    let token = pair.a.write(4000, 99, 8192);
    pair.run();
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    pair.lose_link();
    assert_not_outdated_by_a_living_primary(&mut pair);
    pair.meet_again();
    assert_eq!((pair.a.word().1, pair.a.word().3), (Conn::Connected, Disk::UpToDate), "{}", pair.logs());
}

/// The same if the Primary is the target of a resync, asks whether it may detach, and is lost before it can say that it has.
#[test]
fn the_source_of_a_primary_that_detaches_keeps_its_data() {
    let mut pair = fencing_pair(Fencing::ResourceOnly);
    pair.a.running = None;
    pair.b.held = Some(Vec::new());
    pair.b.begin(Command::InvalidateRemote { volume: V });
    pair.run();
    assert_eq!((pair.a.word().1, pair.b.word().1), (Conn::SyncTarget, Conn::SyncSource), "{}", pair.logs());
    pair.a.begin(Command::Detach { volume: V, force: false });
    while pair.b.word().3 != Disk::Failed {
        pair.run_once();
    }
    pair.lose_link();
    pair.b.release_held();
    assert_not_outdated_by_a_living_primary(&mut pair);
}

/// The same if it had no disk, attaches one, and is lost before it has begun to be the target: it goes on with the data of its source.
#[test]
fn the_source_of_a_primary_that_attaches_keeps_its_data() {
    for last in [Conn::WFBitMapS, Conn::SyncSource] {
        let mut pair = fencing_pair(Fencing::ResourceOnly);
        pair.a.running = None;
        assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
        pair.run();
        pair.a.write(4000, 99, 8192);
        pair.run();
        pair.a.attach();
        while pair.b.word().1 != last {
            pair.run_once();
        }
        pair.lose_link();
        assert_not_outdated_by_a_living_primary(&mut pair);
        assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
        pair.meet_again();
        assert_eq!((pair.a.word().1, pair.a.word().3), (Conn::Connected, Disk::UpToDate), "{}", pair.logs());
        pair.a.attach();
        pair.run();
        pair.assert_equal();
    }
}

/// `b` is to be promoted, and fence-peer says that `a` is Primary: no, but `b`'s data stay the good ones.
fn assert_not_outdated_by_a_living_primary(pair: &mut Pair) {
    pair.b.running = Some(Vec::new());
    let id = pair.b.begin(Command::Primary { volume: V, force: false });
    while pair.b.work() {}
    let helper = pair.b.running.as_mut().and_then(Vec::pop).expect("fence-peer runs");
    pair.b.core.helper_done(pair.now, helper, 6 << 8);
    while pair.b.work() {}
    assert_eq!((pair.b.word().0, pair.b.word().2), (Role::Secondary, Disk::UpToDate), "{}", pair.logs());
    assert!(pair.b.replies[&id] < 0, "{}", pair.logs());
    pair.b.running = None;
}

/// The source of a resync crashes. Its target may have come to the end meanwhile: at the next start it does not count as outdated.
#[test]
fn a_target_does_not_count_as_outdated_after_a_crash_of_its_source() {
    let mut pair = Pair::new(101);
    pair.b.held = Some(Vec::new());
    pair.connect(&settings(Protocol::C));
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    assert_eq!(pair.a.word().1, Conn::SyncSource, "{}", pair.logs());
    let flags = pair.a.super_block().flags;
    assert!(flags.contains(MetaFlags::WAS_UP_TO_DATE) && !flags.contains(MetaFlags::PEER_OUT_DATED));
    pair.a.core = Node::core(77);
    pair.a.wants_link = false;
    pair.a.start();
    assert_eq!(pair.a.word(), (Role::Secondary, Conn::StandAlone, Disk::UpToDate, Disk::DUnknown));
}

/// The target of a resync is done, and UpToDate, before its source knows. After a crash just then the source must not take it for outdated:
/// it could become Primary beside it.
#[test]
fn a_source_that_crashes_does_not_take_its_target_for_outdated() {
    let mut pair = fencing_pair(Fencing::ResourceAndStonith);
    pair.b.begin(Command::Disconnect { force: true });
    pair.run();
    pair.helper_of_a_ends(7);
    pair.run();
    pair.a.write(4000, 99, 8192);
    pair.run();
    assert!(pair.a.super_block().flags.contains(MetaFlags::PEER_OUT_DATED), "{}", pair.logs());
    pair.a.running = None;
    pair.b.command(Command::Connect(Box::new(settings(Protocol::C))));
    let mut resyncs = false;
    while !resyncs || pair.a.word().1 != Conn::Connected {
        pair.run_once();
        resyncs |= pair.b.word().1 == Conn::SyncTarget;
        let good = resyncs && pair.b.word().2 == Disk::UpToDate;
        let outdated = pair.a.super_block().flags.contains(MetaFlags::PEER_OUT_DATED);
        assert!(!(good && outdated), "{}", pair.logs());
    }
    pair.run();
    pair.assert_equal();
}

/// The disk of `b` is Outdated. It is to be outdated when the nodes have met as far as `conn`, and the answer comes when the link is lost.
fn assert_outdate_waits_at(pair: &mut Pair, conn: Conn) {
    (pair.a.wants_link, pair.b.wants_link) = (true, true);
    for _ in 0..100 {
        if pair.b.word().1 != conn {
            pair.run_once();
        }
    }
    assert_eq!((pair.b.word().1, pair.b.word().2), (conn, Disk::Outdated), "{}", pair.logs());
    let id = pair.b.begin(Command::Outdate { volume: V });
    while pair.b.work() {}
    assert!(!pair.b.replies.contains_key(&id), "{}", pair.logs());
    pair.lose_link();
    assert_eq!((pair.b.replies[&id], pair.b.word().2), (2, Disk::Outdated), "{}", pair.logs());
}

/// A handler outdates a disk that is Outdated, in the middle of a handshake that may make it good: it hears that it is when the handshake has
/// ended, not before.
#[test]
fn outdating_an_outdated_disk_waits_for_the_end_of_a_handshake() {
    let mut pair = fencing_pair(Fencing::ResourceAndStonith);
    pair.lose_link();
    assert_eq!(pair.b.command(Command::Outdate { volume: V }), 1);
    assert_outdate_waits_at(&mut pair, Conn::WFReportParams);
}

/// So while a Primary without a disk has not said yet that it is Connected, which may make the disk good: it may have given the link up, and have
/// another disk by then.
#[test]
fn outdating_an_outdated_disk_waits_for_a_primary_without_one() {
    let mut pair = fencing_pair(Fencing::ResourceAndStonith);
    pair.a.running = None;
    pair.a.begin(Command::Detach { volume: V, force: false });
    pair.run();
    pair.lose_link();
    assert_eq!(pair.b.command(Command::Outdate { volume: V }), 1);
    assert_outdate_waits_at(&mut pair, Conn::Connected);
    pair.meet_again();
    assert_eq!(pair.b.word().2, Disk::UpToDate, "{}", pair.logs());
}
