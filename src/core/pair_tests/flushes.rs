//! Flushes: of the application, and for the barriers of a peer. What is durable before what.

use super::writes::pair_with_primary_target;
use super::*;

/// One write at a time: its disk is flushed before the barrier comes, which is with the next write, and
/// once. Several at a time: when the barrier comes.
#[test]
fn the_flush_for_one_write_at_a_time_does_not_wait_for_the_barrier() {
    let mut pair = synced_pair();
    for round in 0..4 {
        pair.a.write(round * 100, 1, 4096);
        pair.run();
    }
    for round in 0..4 {
        let before = pair.b.flushes;
        pair.a.write(round * 100, 2, 4096);
        for socket in [Socket::Data, Socket::Data, Socket::Meta, Socket::Meta] {
            pair.a.work();
            pair.b.work();
            Pair::deliver(&mut pair.a, &mut pair.b, socket, pair.now);
            Pair::deliver(&mut pair.b, &mut pair.a, socket, pair.now);
        }
        pair.b.work();
        assert_eq!(pair.b.flushes, before + 1);
        assert!(pair.a.core.has_open_epochs(V), "the barrier has not been sent");
        pair.run();
        assert_eq!(pair.b.flushes, before + 1);
        assert!(!pair.a.core.has_open_epochs(V));
    }
    // Several at a time come as a surprise once.
    for flushes in [2, 1, 1] {
        let before = pair.b.flushes;
        pair.a.write(0, 3, 4096);
        pair.a.write(100, 3, 4096);
        pair.run();
        assert_eq!(pair.b.flushes, before + flushes);
        assert!(!pair.a.core.has_open_epochs(V));
    }
}

/// P_BARRIER_ACK says that the disk would keep the writes without power.
#[test]
fn an_epoch_whose_flush_failed_is_not_acknowledged() {
    let mut pair = synced_pair();
    pair.b.detach_at_errors();
    pair.b.flushes_fail = true;
    let token = pair.a.write(4000, 99, 8192);
    pair.run();
    assert!(pair.a.completed[&token].is_ok());
    assert_eq!((pair.a.word().1, pair.a.word().3), (Conn::Connected, Disk::Diskless), "{}", pair.logs());
    assert_eq!(pair.a.core.volume(V).out_of_sync_bits(), 2, "{}", pair.logs());
}

/// The same when the disk is given up for another error before the barrier comes.
#[test]
fn what_was_acknowledged_is_durable_before_a_failed_disk_goes() {
    for flushes_fail in [false, true] {
        let mut pair = synced_pair();
        pair.b.detach_at_errors();
        pair.b.flushes_fail = flushes_fail;
        let token = pair.a.write(4000, 99, 8192);
        while pair.a.completed.is_empty() {
            let _ = pair.a.work() | pair.b.work();
            pair.exchange();
        }
        assert!(pair.a.completed[&token].is_ok());
        let flushes = pair.b.flushes;
        pair.b.core.local_error(V, 8000, 8, false);
        pair.b.core.timeout(pair.now);
        if !flushes_fail {
            // The news of the disk are slower than the barrier and its acknowledgement.
            while pair.b.work() {}
            let news = std::mem::take(&mut pair.b.outgoing[Socket::Data as usize]);
            assert!(!news.is_empty(), "{}", pair.logs());
            pair.run();
            assert_eq!(pair.a.word().3, Disk::UpToDate, "{}", pair.logs());
            pair.b.outgoing[Socket::Data as usize] = news;
        }
        pair.run();
        assert_eq!(pair.b.word().2, Disk::Diskless, "{}", pair.logs());
        assert_eq!(pair.b.flushes, flushes + 1, "{}", pair.logs());
        assert_eq!((pair.a.word().1, pair.a.word().3), (Conn::Connected, Disk::Diskless), "{}", pair.logs());
        let bits = pair.a.core.volume(V).out_of_sync_bits();
        assert_eq!(bits, if flushes_fail { 2 } else { 0 }, "{}", pair.logs());
    }
}

/// The Primary is lost before the barrier of what it had acknowledged came. The disk of the peer keeps that all the same, before the
/// peer takes over: the application may have had it flushed, and will not write it again.
#[test]
fn what_a_lost_primary_wrote_is_durable_before_its_peer_takes_over() {
    for at_disk in [false, true] {
        let mut pair = synced_pair();
        let flushes = pair.b.flushes;
        pair.b.held = Some(Vec::new());
        for (sector, fill) in [(4000, 99), (8000, 98), (12000, 97)] {
            pair.a.write(sector, fill, 8192);
        }
        while pair.b.held.as_ref().is_some_and(|held| held.len() < 3) {
            let _ = pair.a.work() | pair.b.work();
            pair.exchange();
        }
        // The end of the link waits for the last one.
        let mut held = pair.b.held.take().unwrap();
        held.truncate(if at_disk { 2 } else { 3 });
        let written = held.len();
        pair.b.carry_out_all(held);
        while pair.a.completed.len() < written {
            let _ = pair.a.work() | pair.b.work();
            pair.exchange();
        }
        assert_eq!(pair.b.flushes, flushes);
        pair.lose_link();
        assert_eq!(pair.b.flushes, flushes + u32::from(!at_disk), "{}", pair.logs());
        assert_eq!(pair.b.command(Command::Primary { volume: V, force: false }), 1, "{}", pair.logs());
        assert_eq!(pair.b.flushes, flushes + 1, "{}", pair.logs());
    }
}

/// The same if the daemon of the peer dies before it knows of the loss: the next one does not know what the cache has.
#[test]
fn what_a_dead_daemon_wrote_is_durable_when_the_disk_is_attached() {
    let mut pair = synced_pair();
    pair.a.write(4000, 99, 8192);
    pair.a.write(8000, 98, 8192);
    while pair.a.completed.len() < 2 {
        let _ = pair.a.work() | pair.b.work();
        pair.exchange();
    }
    let flushes = pair.b.flushes;
    pair.b.core = Node::core(77);
    pair.b.wants_link = false;
    pair.b.start();
    assert_eq!(pair.b.flushes, flushes + 1, "{}", pair.logs());
}

/// A resync has ended, and the super block does not say so yet: after a crash the disk would not count. A flush waits for that.
#[test]
fn a_flush_waits_for_the_mark_of_a_good_disk() {
    let mut pair = pair_with_primary_target();
    assert_eq!(pair.b.command(Command::ResumeSync { volume: V }), 101);
    while pair.b.word().1 != Conn::SyncTarget {
        pair.run_once();
    }
    while pair.b.core.volume(V).out_of_sync_bits() > 0 {
        pair.run_once();
    }
    pair.b.meta_held = Some(Vec::new());
    while pair.b.word().2 != Disk::UpToDate {
        pair.run_once();
    }
    pair.b.core.flush(pair.now, V, 12345);
    while pair.b.work() {}
    assert!(!pair.b.completed.contains_key(&12345), "{}", pair.logs());
    pair.b.release_meta();
    while pair.b.work() {}
    assert_eq!(pair.b.completed.get(&12345), Some(&Ok(None)), "{}", pair.logs());
}

/// The disk of a Primary is not good: what it has written is durable when the peer's disk keeps it.
#[test]
fn a_flush_beside_a_disk_that_is_not_good_waits_for_the_peers() {
    for diskless in [false, true] {
        let mut pair = pair_with_primary_target();
        if diskless {
            let id = pair.b.begin(Command::Detach { volume: V, force: false });
            pair.run();
            assert_eq!((pair.b.replies[&id], pair.b.word().2), (1, Disk::Diskless), "{}", pair.logs());
        }
        let token = pair.b.write(5000, 88, 8192);
        while !pair.b.completed.contains_key(&token) {
            pair.run_once();
        }
        assert!(pair.b.core.has_open_epochs(V));
        pair.b.core.flush(pair.now, V, 12345);
        while pair.b.work() {}
        assert!(!pair.b.completed.contains_key(&12345), "{}", pair.logs());
        pair.run();
        assert_eq!(pair.b.completed.get(&12345), Some(&Ok(None)), "{}", pair.logs());

        // If the peer is lost before, the flush is not done.
        let token = pair.b.write(5000, 77, 8192);
        while !pair.b.completed.contains_key(&token) {
            pair.run_once();
        }
        pair.b.core.flush(pair.now, V, 12346);
        pair.lose_link();
        assert_eq!(pair.b.completed.get(&12346), Some(&Err(IoError)), "{}", pair.logs());
    }
}

/// An application hears of a failed disk by nothing but its log, as long as the peer has the data: a flush that the disk refused is done when the
/// peer's disk would keep all of before without power. Nobody else has it: it fails.
#[test]
fn a_flush_that_the_own_disk_refuses_is_the_peers() {
    for on_io_error in [OnIoError::Detach, OnIoError::PassOn] {
        for alone in [false, true] {
            let mut pair = synced_pair();
            let settings = DiskSettings { on_io_error, ..pair.a.core.volume(V).settings().clone() };
            let settings = Box::new(settings);
            assert_eq!(pair.a.command(Command::DiskSettings { volume: V, settings }), 101);
            pair.run();
            let token = pair.a.write(4000, 99, 8192);
            while !pair.a.completed.contains_key(&token) {
                pair.run_once();
            }
            assert!(pair.a.core.has_open_epochs(V));
            if alone {
                pair.lose_link();
            }
            pair.a.flushes_fail = true;
            pair.a.core.flush(pair.now, V, 12345);
            while pair.a.work() {}
            let refused = pair.a.completed.get(&12345).cloned();
            let expected = alone.then_some(Err(IoError));
            assert_eq!(refused, expected, "{on_io_error:?} {alone}\n{}", pair.logs());
            if !alone {
                let flushes = pair.b.flushes;
                pair.run();
                assert_eq!(pair.a.completed.get(&12345), Some(&Ok(None)), "{on_io_error:?}\n{}", pair.logs());
                assert_eq!(pair.b.flushes, flushes + 1, "{on_io_error:?}\n{}", pair.logs());
            }
        }
    }
}

/// What the application has had flushed is on the own disk, and may be in the cache of the peer's still. A Primary gives its own disk up, whoever
/// orders that, when the peer's keeps it, too; so does what is flushed meanwhile.
#[test]
fn a_primary_gives_its_disk_up_when_the_peers_keeps_what_was_flushed() {
    let orders: [(bool, fn() -> Command); 3] = [
        (true, || Command::Invalidate { volume: V }),
        (false, || Command::InvalidateRemote { volume: V }),
        (true, || Command::Detach { volume: V, force: false }),
    ];
    for (version, (by_primary, order)) in
        [86, 95, 101].into_iter().flat_map(|v| orders.map(|order| (v, order)))
    {
        let mut pair = synced_pair_at(version, Protocol::C);
        let write = pair.a.write(4000, 99, 8192);
        while !pair.a.completed.contains_key(&write) {
            pair.run_once();
        }
        pair.a.core.flush(pair.now, V, 12345);
        while pair.a.work() {}
        assert!(pair.a.completed.contains_key(&12345), "{}", pair.logs());
        let newest = pair.a.core.log.newest();
        assert!(pair.a.core.has_completed_writes_in_open_epochs(V, newest), "{}", pair.logs());
        let node = if by_primary { &mut pair.a } else { &mut pair.b };
        let id = node.begin(order());
        while node.work() {}
        while Pair::deliver(&mut pair.b, &mut pair.a, Socket::Data, pair.now) {}
        assert!(pair.a.core.gives_disk_up(V), "{:?} {version}", order());
        // More comes, and is flushed, before the disk has gone.
        let write = pair.a.write(8000, 98, 8192);
        while pair.a.work() {}
        while Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now) {}
        let lacks = |pair: &Pair, newest| pair.a.core.has_completed_writes_in_open_epochs(V, newest);
        assert!(pair.a.word().2 == Disk::UpToDate && lacks(&pair, newest), "{:?} {version}", order());
        while pair.b.work() {}
        while Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now) {}
        while pair.b.work() {}
        while Pair::deliver(&mut pair.b, &mut pair.a, Socket::Meta, pair.now) {}
        while pair.a.work() {}
        assert!(pair.a.completed.contains_key(&write), "{:?} {version}\n{}", order(), pair.logs());
        pair.a.core.flush(pair.now, V, 12346);
        let newest = pair.a.core.log.newest();
        while pair.a.work() {}
        assert!(lacks(&pair, newest), "{:?} {version}\n{}", order(), pair.logs());
        assert!(!pair.a.completed.contains_key(&12346), "{:?} {version}\n{}", order(), pair.logs());
        pair.run();
        assert!(pair.a.completed.contains_key(&12346), "{:?} {version}\n{}", order(), pair.logs());
        let node = if by_primary { &pair.a } else { &pair.b };
        assert_eq!(node.replies.get(&id), Some(&1), "{:?} {version}\n{}", order(), pair.logs());
        assert_eq!(pair.b.data[8000 * 512..][..8192], [98; 8192]);
        if !matches!(order(), Command::Detach { .. }) {
            assert!(
                pair.a.log.iter().any(|line| line.starts_with("Began resync as SyncTarget")),
                "{}",
                pair.logs()
            );
            pair.assert_equal();
        }
    }
}

/// The link is lost while the disk of a Secondary is flushed for a barrier. What the peer has the acknowledgements of is durable before the two meet
/// again: what is resynced to it from here would be newer than this disk after a crash, and no bit say so. So it is before this node is
/// Primary with it.
#[test]
fn a_flush_for_a_lost_link_is_over_before_the_next_one() {
    for takes_over in [false, true] {
        let mut pair = synced_pair();
        let token = pair.a.write(4000, 99, 8192);
        pair.b.flushes_held = Some(Vec::new());
        pair.run();
        assert!(pair.a.completed.contains_key(&token), "{}", pair.logs());
        assert_eq!(pair.b.flushes_held.as_ref().map(Vec::len), Some(1), "{}", pair.logs());
        pair.lose_link();
        let id = takes_over.then(|| pair.b.begin(Command::Primary { volume: V, force: false }));
        for node in [&mut pair.a, &mut pair.b] {
            node.wants_link = true;
        }
        pair.run_for_a_while();
        assert_eq!(pair.b.word().1, Conn::NetworkFailure, "{}", pair.logs());
        assert!(id.is_none_or(|id| !pair.b.replies.contains_key(&id)), "{}", pair.logs());
        pair.b.release_flushes();
        while pair.b.work() {}
        assert_eq!(id.map(|id| pair.b.replies[&id]), takes_over.then_some(1), "{}", pair.logs());
        assert_eq!(pair.b.word().1, Conn::WFConnection, "{}", pair.logs());
    }
}
