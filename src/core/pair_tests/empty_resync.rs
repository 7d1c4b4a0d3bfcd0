//! A resync in which the target lacks nothing: who knows that it is over.

use super::*;

/// A source with bits of its own ends when the target has, though that asks for no block: its disk fails, and then it hears that the target is done.
#[test]
fn a_source_with_bits_of_its_own_ends_when_the_target_of_an_empty_resync_has() {
    for version in [96, 101] {
        let mut pair = synced_pair_at(version, Protocol::C);
        pair.lose_link();
        (pair.a.wants_link, pair.b.wants_link) = (true, true);
        for _ in 0..1000 {
            if pair.b.word().1 != Conn::SyncTarget {
                pair.run_once();
            }
        }
        assert_eq!(
            (pair.a.word().1, pair.b.word().1),
            (Conn::SyncSource, Conn::SyncTarget),
            "{}",
            pair.logs()
        );
        pair.a.held = Some(Vec::new());
        pair.a.write(4000, 99, 4096);
        for _ in 0..100 {
            let _ = pair.a.work() | pair.b.work();
            Pair::deliver(&mut pair.a, &mut pair.b, Socket::Meta, pair.now);
            Pair::deliver(&mut pair.b, &mut pair.a, Socket::Meta, pair.now);
            if pair.b.word().1 == Conn::Connected {
                break;
            }
            pair.now += 25;
            pair.b.core.timeout(pair.now);
        }
        assert_eq!(
            (pair.a.word().1, pair.b.word().1),
            (Conn::SyncSource, Conn::Connected),
            "{}",
            pair.logs()
        );
        pair.a.fail_held_write(pair.now);
        pair.run();
        let failed = (Role::Primary, Conn::Connected, Disk::Inconsistent, Disk::UpToDate);
        assert_eq!(pair.a.word(), failed, "{}", pair.logs());
        let beside = (Role::Secondary, Conn::Connected, Disk::UpToDate, Disk::Inconsistent);
        assert_eq!(pair.b.word(), beside, "{}", pair.logs());
        assert_eq!(pair.b.data[4000 * 512], 99, "{}", pair.logs());
    }
}

/// Nobody announces the end of an empty resync to an old peer: the source waits for a while. If its disk is slower than that, the
/// peer has not even heard of the resync.
#[test]
fn an_empty_resync_does_not_end_before_the_target_has_heard_of_it() {
    let mut pair = synced_pair_at(88, Protocol::C);
    pair.b.begin(Command::Disconnect { force: true });
    pair.run();
    pair.a.running = Some(Vec::new());
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.run();
    let helper = pair.a.running.take().and_then(|mut running| running.pop()).expect("before-resync-source");
    pair.a.meta_held = Some(Vec::new());
    pair.a.core.helper_done(pair.now, helper, 0);
    for _ in 0..1000 {
        pair.run_once();
    }
    assert!(pair.a.log.iter().any(|line| line.contains("will sync 0 KB")), "{}", pair.logs());
    let uuid = |packet: &Packet| matches!(packet, Packet::SyncUuid(_));
    while let Some(held) = pair.a.meta_held.take().filter(|held| !held.is_empty()) {
        pair.a.carry_out_all(held);
        pair.a.meta_held = Some(Vec::new());
        while pair.a.work() {}
    }
    pair.a.meta_held = None;
    assert!(pair.a.sent.iter().any(uuid) || pair.a.outgoing[0].iter().any(|wire| uuid(&wire.1)));
    assert_eq!(pair.a.word().1, Conn::SyncSource, "{}", pair.logs());
    for _ in 0..1000 {
        pair.run_once();
    }
    pair.assert_equal();
    assert_eq!(pair.a.core.volume(V).disk().unwrap().uuids.bitmap, 0, "{}", pair.logs());
}

/// The sync UUID is so long on its way, or the handler of the target takes so long, that the source has ended the resync, crashes, and goes on; its target
/// is made Primary by force. A split brain, which an administrator solves, and not two nodes that have nothing to do with each other.
#[test]
fn a_source_that_ended_an_empty_resync_alone_and_its_target_that_go_on_are_a_split_brain() {
    // How far the target has got: it has heard of the resync, or begun it.
    for (version, heard, begun, kind) in [86, 94].into_iter().flat_map(|version| {
        [(false, false), (true, false), (true, true)]
            .into_iter()
            .flat_map(move |(heard, begun)| (0..4).map(move |kind| (version, heard, begun, kind)))
    }) {
        let (discards_b, a_goes_on) = (kind & 1 == 0, kind & 2 == 0);
        let mut pair = synced_pair_at(version, Protocol::C);
        pair.lose_link();
        if !a_goes_on {
            assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1);
        }
        pair.a.running = Some(Vec::new());
        pair.meet_again();
        let helper =
            pair.a.running.take().and_then(|mut running| running.pop()).expect("before-resync-source");
        pair.a.core.helper_done(pair.now, helper, 0);
        while pair.a.work() {}
        pair.b.running = Some(Vec::new());
        while heard && Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now) {}
        for _ in 0..1000 {
            let _ = pair.a.work() | pair.b.work();
            Pair::deliver(&mut pair.a, &mut pair.b, Socket::Meta, pair.now);
            Pair::deliver(&mut pair.b, &mut pair.a, Socket::Meta, pair.now);
            pair.now += 25;
            pair.a.core.timeout(pair.now);
            pair.b.core.timeout(pair.now);
        }
        assert_eq!(
            (pair.a.word().1, pair.b.word().1),
            (Conn::Connected, Conn::WFSyncUUID),
            "{}",
            pair.logs()
        );
        let helper = pair.b.running.take().and_then(|mut running| running.pop());
        assert_eq!(helper.is_some(), heard, "{}", pair.logs());
        if let Some(helper) = helper.filter(|_| begun) {
            pair.b.core.helper_done(pair.now, helper, 0);
            while pair.b.work() {}
            assert_eq!(pair.b.word().1, Conn::SyncTarget, "{}", pair.logs());
        }
        pair.lose_link();
        pair.a.restart(78);
        assert_eq!(pair.a.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        if a_goes_on {
            assert_eq!(pair.a.command(Command::Primary { volume: V, force: false }), 1, "{}", pair.logs());
            pair.a.write(4000, 98, 4096);
            while pair.a.work() {}
            assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1);
        }
        assert_eq!(pair.b.command(Command::Primary { volume: V, force: true }), 1, "{}", pair.logs());
        pair.b.write(8000, 99, 4096);
        while pair.b.work() {}
        assert_eq!(pair.b.command(Command::Secondary { volume: V, open: false }), 1);
        pair.meet_split_and_solve(discards_b);
        let [at_a, at_b] = [4000, 8000].map(|sector| pair.a.data[sector * 512]);
        assert_eq!((at_a == 98, at_b == 99), (discards_b && a_goes_on, !discards_b), "{}", pair.logs());
    }
}

/// An empty resync that is paused, and a write that fails on the target meanwhile: there is something to do after all. Below protocol 96 the
/// source may have ended it on its own count; it answers all the same.
#[test]
fn a_write_that_fails_in_an_empty_resync_is_fetched() {
    for version in [94, 95, 101] {
        let mut pair = synced_pair_at(version, Protocol::C);
        pair.b.begin(Command::Disconnect { force: true });
        pair.run();
        assert_eq!(pair.a.command(Command::PauseSync { volume: V }), 101);
        assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        pair.run();
        assert_eq!(pair.b.word().1, Conn::PausedSyncT, "{}", pair.logs());
        pair.a.write(3200, 98, 4096);
        pair.run();
        pair.b.held = Some(Vec::new());
        pair.a.write(4000, 99, 8192);
        pair.run();
        pair.b.fail_held_write(pair.now);
        pair.run();
        assert_eq!(pair.b.core.volume(V).out_of_sync_bits(), 2, "{}", pair.logs());
        assert_eq!(pair.a.command(Command::ResumeSync { volume: V }), 101);
        pair.run();
        pair.assert_equal();
    }
}
