//! Requests that wait while I/O is frozen: which are done again, where, and which never.

use super::*;
use crate::core::rules::ChangeKind;
use crate::core::state::Change;
use crate::core::steps::Step;

/// `on-no-data-accessible suspend-io`: the source's disk goes while the target's is not complete, the link, too, and the
/// disk comes back. What was frozen goes on, also what had failed.
#[test]
fn frozen_requests_go_on_with_the_disk_that_comes_back() {
    for fails in [false, true] {
        let mut pair = synced_pair();
        pair.a.when_data_are_lost(OnNoData::SuspendIo);
        pair.b.held = Some(Vec::new());
        pair.a.begin(Command::InvalidateRemote { volume: V });
        pair.run();
        assert_eq!(pair.a.word().1, Conn::SyncSource, "{}", pair.logs());
        pair.a.held = Some(Vec::new());
        let tokens = [pair.a.write(4000, 99, 8192), pair.a.write(4016, 98, 4096)];
        while pair.a.work() {}
        pair.exchange();
        pair.a.command(Command::Detach { volume: V, force: true });
        for request in pair.a.held.take().unwrap() {
            match request {
                Output::DiskWrite { volume, io, .. } if fails => {
                    pair.a.core.io_done(pair.now, volume, io, IoResult::Failed);
                }
                other => pair.a.carry_out(other),
            }
        }
        pair.b.core.link_lost(pair.now, LinkFailure { conn: Conn::BrokenPipe, log: None });
        for request in pair.b.held.take().unwrap() {
            pair.b.carry_out(request);
        }
        while pair.b.work() {}
        pair.b.command(Command::Disconnect { force: false });
        pair.run();
        assert_eq!(pair.a.word().2, Disk::Diskless, "{}", pair.logs());
        assert!(pair.a.core.volume(V).state().susp_nod && pair.a.completed.is_empty(), "{}", pair.logs());
        pair.a.attach();
        pair.run();
        assert!(tokens.iter().all(|token| pair.a.completed[token].is_ok()), "{}", pair.logs());
        assert!(pair.a.data[4000 * 512..][..8192].iter().all(|byte| *byte == 99));
        assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        pair.run();
        if pair.a.word().1 == Conn::StandAlone {
            assert_eq!(pair.a.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
            pair.run();
        }
        pair.assert_equal();
    }
}

/// `on-no-data-accessible suspend-io`, and fencing: a Primary gives its disk up, its writes are for the peer alone, and do not get there. It is
/// frozen, attaches the disk, which fencing makes only Consistent, and meets the peer, which has not heard of anything: these writes go to both.
#[test]
fn frozen_writes_for_the_peer_alone_get_to_the_disk_that_comes_back() {
    let mut pair = synced_pair();
    pair.a.when_data_are_lost(OnNoData::SuspendIo);
    pair.a.with_fencing(Fencing::ResourceAndStonith);
    let before = pair.a.write(4000, 97, 8192);
    while pair.a.work() {}
    assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
    let alone = pair.a.write(8000, 98, 8192);
    pair.a.core.read(pair.now, V, 12345, 12000, 4096);
    while pair.a.work() {}
    pair.lose_link();
    assert!(pair.a.core.volume(V).state().susp_nod && pair.a.completed.is_empty(), "{}", pair.logs());
    pair.a.attach();
    assert_eq!(pair.a.word().2, Disk::Consistent, "{}", pair.logs());
    pair.meet_again();
    assert!(!pair.a.core.volume(V).state().is_susp(), "{}", pair.logs());
    for token in [before, alone, 12345] {
        assert!(pair.a.completed.get(&token).is_some_and(Result::is_ok), "{token}\n{}", pair.logs());
    }
    assert_eq!((pair.a.data[8000 * 512], pair.b.data[8000 * 512]), (98, 98), "{}", pair.logs());
    assert!(pair.a.data == pair.b.data, "the disks differ\n{}", pair.logs());
}

/// The same, and the link is lost again before these writes have gone anywhere: the disk is good, and takes them alone, in a generation of
/// its own. Where fencing freezes the node anew, they wait for that.
#[test]
fn frozen_writes_for_the_peer_alone_do_not_wait_for_a_peer_that_is_lost_again() {
    for fencing in [Fencing::ResourceOnly, Fencing::ResourceAndStonith] {
        let mut pair = synced_pair();
        pair.a.when_data_are_lost(OnNoData::SuspendIo);
        pair.a.with_fencing(fencing);
        assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
        let token = pair.a.write(8000, 98, 8192);
        while pair.a.work() {}
        pair.lose_link();
        assert!(pair.a.core.volume(V).state().susp_nod && pair.a.completed.is_empty(), "{}", pair.logs());
        pair.a.attach();
        assert_eq!(pair.a.word().2, Disk::Consistent, "{}", pair.logs());
        pair.a.running = Some(Vec::new());
        pair.meet_and_lose_link_before_anything_follows();
        let state = pair.a.core.volume(V).state();
        let fenced = fencing == Fencing::ResourceAndStonith;
        assert_eq!((state.disk, state.susp_nod, state.susp_fen), (Disk::UpToDate, false, fenced), "{state}");
        assert_eq!(pair.a.completed.contains_key(&token), !fenced, "{}", pair.logs());
        pair.helper_of_a_ends(4);
        while pair.a.work() {}
        assert!(pair.a.completed.get(&token).is_some_and(Result::is_ok), "{}", pair.logs());
        assert_eq!(pair.a.data[8000 * 512], 98, "{}", pair.logs());
        assert_ne!(pair.a.super_block().uuids[1], 0, "{}", pair.logs());
        pair.a.running = None;
        pair.meet_again();
        pair.assert_equal();
    }
}

/// `on-no-data-accessible suspend-io`: the target of a resync is Primary, and its source's disk goes and comes back while
/// the link stays. What was frozen goes on without a word from an operator.
#[test]
fn frozen_requests_go_on_with_the_disk_of_the_peer_that_comes_back() {
    let mut pair = synced_pair();
    pair.a.when_data_are_lost(OnNoData::SuspendIo);
    pair.a.held = Some(Vec::new());
    pair.b.begin(Command::InvalidateRemote { volume: V });
    pair.run();
    assert_eq!(pair.a.word().1, Conn::SyncTarget, "{}", pair.logs());
    // One write and one read are on their way to the peer when its disk goes, one of each comes behind.
    let write = pair.a.write(40_000, 99, 8192);
    pair.a.core.read(pair.now, V, 1001, 60_000, 4096);
    while pair.a.work() {}
    pair.b.command(Command::Detach { volume: V, force: true });
    pair.run();
    for request in pair.a.held.take().unwrap() {
        pair.a.carry_out(request);
    }
    pair.run();
    assert!(pair.a.core.volume(V).state().susp_nod, "{}", pair.logs());
    let later = pair.a.write(44_000, 98, 8192);
    pair.a.core.read(pair.now, V, 1002, 60_008, 4096);
    pair.run();
    assert!(pair.a.completed.is_empty(), "{}", pair.logs());
    pair.b.attach();
    pair.run();
    assert!(!pair.a.core.volume(V).state().is_susp(), "{}", pair.logs());
    for token in [write, later, 1001, 1002] {
        assert!(pair.a.completed.get(&token).is_some_and(Result::is_ok), "{token}\n{}", pair.logs());
    }
    pair.assert_equal();
}

/// A write that the peer refused while I/O was frozen is sent again when the peer comes back with a disk of
/// the same generation: without a resync nothing else would bring it there.
#[test]
fn a_refused_write_that_was_frozen_is_sent_again() {
    let mut pair = synced_pair();
    let token = pair.a.write(4000, 99, 8192);
    while pair.a.work() {}
    let sent = pair.a.outgoing[Socket::Data as usize].pop_front();
    let Some((_, Packet::Data(data), _)) = sent else { panic!("{sent:?}") };
    pair.a.command(Command::SuspendIo { volume: V });
    let refused = BlockAck { sector: 4000, block_id: data.block_id, size: 8192, seq: 1 };
    pair.a.core.packet(pair.now, Socket::Meta, 0, Packet::NegAck(refused), None);
    pair.b.command(Command::Disconnect { force: true });
    pair.run();
    assert_eq!(pair.a.word().1, Conn::WFConnection, "{}", pair.logs());
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.run();
    pair.a.command(Command::ResumeIo { volume: V });
    pair.run();
    assert!(pair.a.completed[&token].is_ok());
    pair.assert_equal();
}

/// What the peer's disk keeps already is not sent again to a peer that comes back as the source of a resync, though a
/// freeze keeps the application from hearing of it: it leaves the log with the thaw, and an answer would be to nobody.
#[test]
fn a_frozen_write_that_is_durable_on_the_peer_is_not_sent_again() {
    let mut pair = synced_pair_with(Protocol::B);
    pair.a.held = Some(Vec::new());
    let token = pair.a.write(4000, 99, 8192);
    while pair.a.work() {}
    pair.a.core.flush(pair.now, V, 1001);
    pair.run();
    pair.a.command(Command::SuspendIo { volume: V });
    for request in pair.a.held.take().unwrap() {
        pair.a.carry_out(request);
    }
    pair.a.held = Some(Vec::new());
    assert!(!pair.a.completed.contains_key(&token), "{}", pair.logs());
    pair.b.begin(Command::InvalidateRemote { volume: V });
    pair.run();
    assert_eq!(pair.a.word().1, Conn::SyncTarget, "{}", pair.logs());
    pair.b.command(Command::Disconnect { force: true });
    for request in pair.a.held.take().unwrap() {
        pair.a.carry_out(request);
    }
    pair.run();
    // The thaw comes with the resync, before the peer has answered anything.
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::B)))), 101);
    while pair.a.word().1 != Conn::WFBitMapT {
        pair.run_once();
    }
    while pair.a.work() {}
    pair.a.command(Command::ResumeIo { volume: V });
    pair.run();
    assert!(pair.a.completed[&token].is_ok());
    assert!(!pair.a.log.iter().any(|line| line.contains("unknown request")), "{}", pair.logs());
    pair.assert_equal();
}

/// A write that came between the loss of the peer and a freeze is on this node's disk only, and not sent again: the peer gets it
/// with a resync.
#[test]
fn a_write_between_loss_and_freeze_comes_with_a_resync() {
    let mut pair = synced_pair();
    // The activity log has the extent from then on.
    pair.a.write(4000, 7, 4096);
    pair.run();
    pair.a.meta_held = Some(Vec::new());
    pair.a.core.queue_steps([Step::WriteSuperBlock { v: V }]);
    pair.b.command(Command::Disconnect { force: true });
    pair.a.core.link_lost(pair.now, LinkFailure { conn: Conn::BrokenPipe, log: None });
    let token = pair.a.write(4000, 99, 8192);
    while pair.a.work() {}
    assert_eq!(pair.a.data[4000 * 512], 99, "{}", pair.logs());
    pair.a.begin(Command::SuspendIo { volume: V });
    pair.a.release_meta();
    pair.run();
    assert!(pair.a.core.volume(V).state().susp && !pair.a.completed.contains_key(&token), "{}", pair.logs());
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.run();
    pair.a.begin(Command::ResumeIo { volume: V });
    pair.run();
    assert!(pair.a.completed.get(&token).is_some_and(Result::is_ok), "{}", pair.logs());
    pair.assert_equal();
}

/// The same with a write that the peer has acknowledged, and the application has not heard of for the freeze: of one generation,
/// nothing but this node's memory tells that the peer may have lost it.
#[test]
fn an_acknowledged_write_that_was_frozen_is_sent_again() {
    for (version, protocol) in [(86, Protocol::C), (97, Protocol::B), (101, Protocol::C)] {
        let mut pair = synced_pair_at(version, protocol);
        let token = pair.a.write(4000, 99, 8192);
        while pair.a.work() {}
        pair.a.command(Command::SuspendIo { volume: V });
        while pair.a.core.log.iter().any(|(_, request)| request.net_pending) {
            pair.run_once();
        }
        assert!(pair.a.core.has_open_epochs(V) && !pair.a.completed.contains_key(&token), "{}", pair.logs());
        pair.b.command(Command::Disconnect { force: true });
        pair.run();
        pair.b.data[4000 * 512..][..8192].fill(0x55);
        assert_eq!(pair.b.command(Command::Connect(Box::new(settings(protocol)))), 101);
        pair.run();
        pair.a.begin(Command::ResumeIo { volume: V });
        pair.run();
        assert!(pair.a.completed.get(&token).is_some_and(Result::is_ok), "{version}\n{}", pair.logs());
        pair.assert_equal();
        assert!(!pair.a.core.has_open_epochs(V));
    }
}

/// Protocol A: a Primary is frozen, with a discard and a later write of the same blocks whose barriers were not acknowledged, and comes back as the
/// target of a resync. The bytes of the write are gone: the discard is not sent over what the peer has of it.
#[test]
fn a_discard_is_not_sent_again_over_a_later_write() {
    let mut pair = synced_pair_with(Protocol::A);
    pair.a.next += 1;
    let token = pair.a.next;
    pair.a.core.discard(pair.now, V, token, 4000, 16384, true);
    for done in 1..3 {
        for _ in 0..10 {
            let _ = pair.a.work() | pair.b.work();
            Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now);
        }
        assert_eq!(pair.a.completed.len(), done, "{}", pair.logs());
        if done == 1 {
            pair.a.write(4000, 99, 8192);
        }
    }
    assert_eq!(pair.b.data[4000 * 512], 99);
    assert!(pair.a.core.has_open_epochs(V));
    pair.a.command(Command::SuspendIo { volume: V });
    pair.lose_link();
    let _ = pair.a.core.change(V, Change::disk(Disk::Inconsistent), ChangeKind::Hard, false);
    while pair.a.work() {}
    pair.meet_again();
    pair.a.command(Command::ResumeIo { volume: V });
    pair.run();
    assert!(pair.a.log.iter().any(|line| line.starts_with("Began resync as SyncTarget")), "{}", pair.logs());
    pair.assert_equal();
    assert_eq!(pair.b.data[4000 * 512..][..8192], [99; 8192], "{}", pair.logs());
}

/// A frozen Primary meets its peer while its disk is going, for which all that follows waits, and an administrator lets I/O go on. What starts then is
/// sent once, beside what was frozen.
#[test]
fn what_starts_before_frozen_requests_are_sent_again_is_sent_once() {
    for protocol in [Protocol::A, Protocol::C] {
        let mut pair = synced_pair_at(101, protocol);
        pair.a.when_data_are_lost(OnNoData::SuspendIo);
        pair.b.held = Some(Vec::new());
        pair.a.begin(Command::Invalidate { volume: V });
        pair.run_for_a_while();
        assert_eq!(
            (pair.a.word().1, pair.a.word().2),
            (Conn::SyncTarget, Disk::Inconsistent),
            "{}",
            pair.logs()
        );
        pair.a.meta_held = Some(Vec::new());
        let mut tokens = vec![pair.a.write(4000, 99, 8192)];
        while pair.a.work() {}
        // The activity log's.
        let stuck = pair.a.meta_held.take().unwrap();
        pair.lose_link();
        pair.b.held = None;
        (pair.a.wants_link, pair.b.wants_link) = (true, true);
        while pair.a.word().1 != Conn::WFReportParams {
            pair.run_once();
        }
        assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1, "{}", pair.logs());
        pair.run_for_a_while();
        let state = pair.a.core.volume(V).state();
        assert!(state.conn == Conn::Connected && state.susp_nod, "{state}\n{}", pair.logs());
        pair.a.begin(Command::ResumeIo { volume: V });
        tokens.push(pair.a.write(6000, 97, 8192));
        tokens.push(pair.a.next + 1);
        pair.a.next += 1;
        pair.a.core.read(pair.now, V, pair.a.next, 8000, 4096);
        pair.run_for_a_while();
        pair.a.carry_out_all(stuck);
        pair.a.sent.clear();
        pair.run();
        assert_eq!(pair.a.word().1, Conn::Connected, "{}", pair.logs());
        assert!(tokens.iter().all(|token| pair.a.completed.contains_key(token)), "{}", pair.logs());
        let asked = pair.a.sent.iter().filter(|packet| matches!(packet, Packet::DataRequest(_))).count();
        let written = pair.a.sent.iter().filter(|packet| matches!(packet, Packet::Data(_))).count();
        assert_eq!((asked, written), (1, 2), "{protocol:?}\n{}", pair.logs());
    }
}
