//! Generations of the data: when a new one begins, and whose.

use super::super::rules::ChangeKind;
use super::super::state::{Change, StateWord};
use super::*;
use crate::core::steps::Step;

/// Writes that are frozen when the peer loses its disk are not sent again: when it has attached one the
/// two copies are no longer of one generation.
#[test]
fn a_frozen_primary_begins_a_new_generation_when_its_connected_peer_loses_its_disk() {
    let mut pair = synced_pair();
    pair.a.begin(Command::SuspendIo { volume: V });
    pair.run();
    pair.b.begin(Command::Detach { volume: V, force: false });
    pair.run();
    assert_ne!(pair.a.core.volume(V).disk().unwrap().uuids.bitmap, 0, "{}", pair.logs());
}

/// The nodes of a split brain decide for themselves. The one whose handler runs longer sees the link go
/// meanwhile, and stays away all the same: it does not offer its data until somebody has looked.
#[test]
fn a_split_brain_whose_handler_outlives_the_link_ends_stand_alone() {
    let mut pair = synced_pair();
    for node in [&mut pair.a, &mut pair.b] {
        node.begin(Command::Disconnect { force: true });
    }
    pair.run();
    pair.b.begin(Command::Primary { volume: V, force: true });
    pair.run();
    let tokens = [pair.a.write(4000, 1, 4096), pair.b.write(4000, 2, 4096)];
    pair.run();
    assert!(pair.a.completed[&tokens[0]].is_ok() && pair.b.completed[&tokens[1]].is_ok());
    pair.b.begin(Command::Secondary { volume: V, open: false });
    pair.run();
    pair.b.running = Some(Vec::new());
    pair.connect(&settings(Protocol::C));
    assert_eq!(pair.a.word().1, Conn::StandAlone, "{}", pair.logs());
    assert_eq!(pair.b.word().1, Conn::BrokenPipe, "its receiver is in the handler\n{}", pair.logs());
    while let Some(id) = pair.b.running.as_mut().and_then(Vec::pop) {
        pair.b.core.helper_done(pair.now, id, 0);
        pair.run();
    }
    assert_eq!(pair.b.word().1, Conn::StandAlone, "{}", pair.logs());
}

/// A Primary gives its disk up, loses its peer, and attaches its disk again, which has the data in use: what
/// it writes now is a new generation.
#[test]
fn a_primary_that_attaches_without_its_peer_begins_a_new_generation() {
    let mut pair = synced_pair();
    pair.a.command(Command::Detach { volume: V, force: true });
    // Nothing of this reaches the peer.
    pair.b.core.link_lost(pair.now, LinkFailure { conn: Conn::BrokenPipe, log: None });
    while pair.b.work() {}
    pair.b.command(Command::Disconnect { force: false });
    pair.run();
    pair.a.attach();
    assert_eq!((pair.a.word().1, pair.a.word().2), (Conn::WFConnection, Disk::UpToDate), "{}", pair.logs());
    let token = pair.a.write(4000, 99, 8192);
    pair.run();
    assert!(pair.a.completed[&token].is_ok());
    assert_ne!(pair.a.core.volume(V).disk().unwrap().uuids.bitmap, 0, "{}", pair.logs());
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.run();
    pair.assert_equal();
}

/// The same, and the peer is there again before that generation has begun: what the peer is told of the data is told when it has.
#[test]
fn a_generation_that_begins_at_attach_is_known_to_a_peer_that_comes_back() {
    let mut pair = synced_pair();
    pair.a.command(Command::Detach { volume: V, force: true });
    pair.lose_link();
    pair.a.meta_held = Some(Vec::new());
    pair.a.try_attach();
    for _ in 0..20 {
        while pair.a.work() {}
        if pair.a.word().2 == Disk::UpToDate {
            break;
        }
        pair.a.release_meta();
        pair.a.meta_held = Some(Vec::new());
    }
    assert_eq!((pair.a.word().1, pair.a.word().2), (Conn::WFConnection, Disk::UpToDate), "{}", pair.logs());
    (pair.a.wants_link, pair.b.wants_link) = (true, true);
    pair.run_for_a_while();
    while !pair.linked {
        pair.run_once();
    }
    pair.run_for_a_while();
    pair.a.release_meta();
    pair.run();
    pair.assert_equal();
    let current = |node: &Node| node.core.volume(V).disk().unwrap().uuids.current & !1;
    assert_eq!(current(&pair.a), current(&pair.b), "{}", pair.logs());
}

/// A Primary loses its peer before a resync to it began, of one generation as both are: what it writes now is a new one.
#[test]
fn a_source_that_loses_its_target_before_the_resync_begins_a_new_generation() {
    let mut pair = synced_pair();
    pair.a.running = Some(Vec::new());
    pair.b.begin(Command::Invalidate { volume: V });
    while pair.a.word().1 != Conn::StartingSyncS {
        pair.run_once();
    }
    let inconsistent = Change::pdsk(Disk::Inconsistent);
    assert!(pair.a.core.change(V, inconsistent, ChangeKind::Hard, false).is_ok());
    pair.b.command(Command::Disconnect { force: true });
    let token = pair.a.write(4000, 99, 4096);
    pair.run();
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    assert_ne!(pair.a.core.volume(V).disk().unwrap().uuids.bitmap, 0, "{}", pair.logs());
}

/// A node gives its disk up beside a Primary, which goes on alone, and is lost when the disk is being attached again. Of the generation of that Primary the
/// node has not heard: its disk is not good all the same.
#[test]
fn a_disk_that_was_left_beside_a_primary_is_not_good_when_that_is_lost() {
    let mut pair = synced_pair();
    assert_eq!(pair.b.command(Command::Detach { volume: V, force: true }), 1, "{}", pair.logs());
    while Pair::deliver(&mut pair.b, &mut pair.a, Socket::Data, pair.now) {}
    let token = pair.a.write(4000, 99, 4096);
    while pair.a.work() {}
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    pair.a.outgoing = Default::default();
    assert_eq!(pair.b.try_attach(), 101, "{}", pair.logs());
    while pair.b.work() {}
    assert_eq!(pair.b.word().2, Disk::Negotiating, "{}", pair.logs());
    pair.lose_link();
    assert_eq!(pair.b.word().2, Disk::Diskless, "{}", pair.logs());
}

/// In the middle of a handshake the peer has seen the UUIDs already: the generation that is due when frozen I/O goes on is not
/// begun behind its back.
#[test]
fn a_thaw_waits_until_a_handshake_is_over() {
    let mut pair = synced_pair();
    pair.a.begin(Command::SuspendIo { volume: V });
    pair.run();
    pair.b.begin(Command::Disconnect { force: false });
    pair.run();
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    while pair.a.word().1 != Conn::WFReportParams {
        pair.run_once();
    }
    while pair.b.word().1 != Conn::Connected {
        let _ = pair.a.work() | pair.b.work();
        Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now);
    }
    assert_eq!(pair.a.word().1, Conn::WFReportParams, "{}", pair.logs());
    pair.a.begin(Command::ResumeIo { volume: V });
    pair.run();
    pair.a.begin(Command::ResumeIo { volume: V });
    pair.run();
    let token = pair.a.write(4000, 99, 4096);
    pair.run();
    assert!(pair.a.completed.get(&token).is_some_and(Result::is_ok), "{}", pair.logs());
    pair.assert_equal();
}

/// A Primary whose disk goes in the middle of a handshake, behind the peer's UUIDs and before its state, does not go on with
/// the older data of the peer.
#[test]
fn a_primary_that_loses_its_disk_in_a_handshake_does_not_take_older_data() {
    let mut pair = synced_pair();
    pair.b.begin(Command::Disconnect { force: false });
    pair.run();
    let token = pair.a.write(4000, 99, 8192);
    pair.run();
    assert!(pair.a.completed[&token].is_ok());
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    while pair.a.core.volume(V).peer_uuids.is_none() {
        pair.run_once();
    }
    assert_eq!(pair.a.word().1, Conn::WFReportParams, "{}", pair.logs());
    pair.a.command(Command::Detach { volume: V, force: true });
    pair.run();
    assert_ne!(pair.a.word().3, Disk::UpToDate, "{}", pair.logs());
    pair.a.core.read(pair.now, V, 1001, 4000, 8192);
    pair.run();
    assert!(pair.a.completed[&1001].is_err(), "{}", pair.logs());
    // Its own disk has what it needs.
    pair.a.attach();
    assert_eq!(pair.a.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.run();
    pair.assert_equal();
}

/// The source of a resync loses its disk: the half-synced data of the target are not what it works with, and
/// its own disk is welcome again.
#[test]
fn a_source_that_lost_its_disk_may_attach_it_again() {
    let mut pair = synced_pair();
    pair.b.held = Some(Vec::new());
    pair.a.begin(Command::InvalidateRemote { volume: V });
    pair.run();
    assert_eq!(pair.a.word().1, Conn::SyncSource, "{}", pair.logs());
    pair.a.begin(Command::Detach { volume: V, force: true });
    pair.run();
    assert_eq!((pair.a.word().2, pair.a.word().3), (Disk::Diskless, Disk::Inconsistent), "{}", pair.logs());
    let uuids = pair.b.core.volume(V).disk().unwrap().uuids;
    let uuids = crate::wire::parameters::Uuids {
        current: uuids.current,
        bitmap: uuids.bitmap,
        history: uuids.history,
        dirty_bits: 10240,
        flags: 0,
    };
    pair.a.core.packet(pair.now, Socket::Data, 0, Packet::Uuids(uuids), None);
    pair.a.attach();
    pair.run_disk_backwards();
    pair.assert_equal();
}

/// A write that waits is done when it can be: after a demotion that would be in the next life as Primary, over what
/// the peer wrote meanwhile.
#[test]
fn a_write_that_waits_keeps_the_primary_primary() {
    let mut pair = synced_pair();
    pair.a.command(Command::SuspendIo { volume: V });
    let token = pair.a.write(0, 7, 512);
    pair.run();
    let demotion = Command::Secondary { volume: V, open: false };
    assert_eq!(
        pair.a.command(demotion),
        crate::core::codes::StateError::DeviceInUse.code(),
        "{}",
        pair.logs()
    );
    pair.a.begin(Command::ResumeIo { volume: V });
    pair.run();
    assert!(pair.a.completed.contains_key(&token), "{}", pair.logs());
    assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1, "{}", pair.logs());
}

/// Answers of fence-peer that a reader of the log has to see: the peer is Primary, too, or was shot though nobody
/// wanted that.
#[test]
fn a_strange_answer_of_fence_peer_is_in_the_log() {
    for (code, line) in
        [(6, "Peer is primary, outdating myself."), (7, "fence-peer() = 7 && fencing != Stonith !!!")]
    {
        let mut pair = synced_pair();
        let settings = pair.a.core.volume(V).settings().clone();
        let settings = Box::new(DiskSettings { fencing: Fencing::ResourceOnly, ..settings });
        assert_eq!(pair.a.command(Command::DiskSettings { volume: V, settings }), 101);
        pair.a.running = Some(Vec::new());
        pair.b.command(Command::Disconnect { force: true });
        pair.run();
        let id = pair.a.running.as_mut().and_then(Vec::pop).expect("fence-peer runs");
        pair.a.core.helper_done(pair.now, id, code << 8);
        pair.run();
        let at = |text: &str| pair.a.log.iter().position(|line| line.contains(text));
        let (warning, result) = (at(line), at(&format!("fence-peer helper returned {code}")));
        assert!(warning.is_some() && warning < result, "{}", pair.logs());
    }
}

/// A Primary, frozen and without its peer, which has acknowledged a write, but not the barrier behind it.
pub(super) fn frozen_pair_with_an_open_epoch(version: u32) -> Pair {
    let mut pair = synced_pair_at(version, Protocol::C);
    let token = pair.a.write(4000, 99, 8192);
    while !pair.a.completed.contains_key(&token) {
        pair.run_once();
    }
    pair.a.begin(Command::SuspendIo { volume: V });
    while pair.a.work() {}
    assert!(pair.a.core.volume(V).state().susp, "{}", pair.logs());
    pair.b.command(Command::Disconnect { force: true });
    pair.run();
    pair
}

/// What the peer acknowledged before a freeze, but not its barrier, may have been lost with its cache: it gets it again when it
/// comes back, whatever the freeze does to generations, and with its disk or before that.
#[test]
fn what_a_peer_may_have_lost_with_its_cache_comes_again_after_a_freeze() {
    for (version, diskless) in [(86, false), (96, false), (101, false), (101, true)] {
        let mut pair = frozen_pair_with_an_open_epoch(version);
        pair.b.data[4000 * 512..][..8192].fill(0x55);
        if diskless {
            assert_eq!(pair.b.command(Command::Detach { volume: V, force: false }), 1, "{}", pair.logs());
        }
        assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        if diskless {
            for _ in 0..200 {
                pair.run_once();
            }
            pair.lose_link();
            pair.b.attach();
            (pair.a.wants_link, pair.b.wants_link) = (true, true);
        }
        pair.run();
        assert!(pair.a.core.volume(V).state().susp, "{}", pair.logs());
        pair.a.begin(Command::ResumeIo { volume: V });
        pair.run();
        pair.assert_equal();
    }
}

/// The same where it comes back without its disk: there is nothing to resync yet, and the two are together. The disk gets it when it is attached.
#[test]
fn a_frozen_primary_meets_a_peer_that_has_left_its_disk_with_an_open_epoch() {
    let mut pair = frozen_pair_with_an_open_epoch(101);
    pair.b.data[4000 * 512..][..8192].fill(0x55);
    assert_eq!(pair.b.command(Command::Detach { volume: V, force: false }), 1);
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    for _ in 0..1000 {
        pair.run_once();
    }
    assert_eq!((pair.a.word().1, pair.a.word().3), (Conn::Connected, Disk::Diskless), "{}", pair.logs());
    pair.a.begin(Command::ResumeIo { volume: V });
    pair.run();
    pair.b.attach();
    pair.run();
    pair.assert_equal();
}

/// A frozen Primary that wrote nothing since has not diverged from a peer that took over: no split brain.
#[test]
fn a_peer_that_took_over_from_a_frozen_primary_is_ahead_of_it() {
    for version in [86, 96, 101] {
        let mut pair = frozen_pair_with_an_open_epoch(version);
        assert_eq!(pair.b.command(Command::Primary { volume: V, force: false }), 1, "{}", pair.logs());
        pair.b.write(9000, 5, 4096);
        pair.run();
        assert_eq!(pair.b.command(Command::Secondary { volume: V, open: false }), 1, "{}", pair.logs());
        assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        pair.run();
        let logged = |text: &str| pair.a.log.iter().any(|line| line.contains(text));
        assert!(logged("I shall become SyncTarget, but I am primary!"), "{}", pair.logs());
        assert!(!logged("Split-Brain"), "{}", pair.logs());
    }
}

/// Two fresh nodes, Connected; each other's state words of that are still on their way. `a` skips the initial sync.
fn skipping_the_initial_sync() -> Pair {
    let mut pair = Pair::new(101);
    let net = settings(Protocol::C);
    for node in [&mut pair.a, &mut pair.b] {
        assert_eq!(node.command(Command::Connect(Box::new(net.clone()))), 101);
    }
    while pair.a.word().1 != Conn::Connected || pair.b.word().1 != Conn::Connected {
        pair.run_once();
    }
    pair.b.work();
    let word = |packet: &Packet| matches!(packet, Packet::State(_));
    assert!(pair.b.outgoing[Socket::Data as usize].iter().any(|(_, packet, _)| word(packet)));
    let clear = Command::NewCurrentUuid { volume: V, clear_bitmap: true };
    assert_eq!(pair.a.command(clear), 101);
    pair
}

/// A node that takes its peer's disk for Inconsistent does not mirror its writes to it.
#[test]
fn writes_are_mirrored_when_the_initial_sync_was_skipped_right_after_connecting() {
    let mut pair = skipping_the_initial_sync();
    pair.run();
    pair.assert_equal();
    let id = pair.a.begin(Command::Primary { volume: V, force: false });
    pair.run();
    assert_eq!(pair.a.replies[&id], 1);
    pair.a.write(8, 5, 4096);
    pair.run();
    pair.assert_equal();
}

/// DRBD does not send another state word then.
#[test]
fn an_overtaken_word_of_a_kernel_does_not_count() {
    let mut pair = skipping_the_initial_sync();
    while pair.b.word().2 != Disk::UpToDate {
        pair.run_once();
    }
    let says_good = |packet: &Packet| {
        let Packet::State(bits) = packet else { return false };
        StateWord::from_bits(*bits).is_ok_and(|word| word.disk == Disk::UpToDate)
    };
    pair.b.work();
    pair.b.outgoing[Socket::Data as usize].retain(|(_, packet, _)| !says_good(packet));
    pair.run();
    pair.assert_equal();
}

/// This node does, for a peer that goes by the last word it got.
#[test]
fn who_hears_that_the_initial_sync_is_skipped_says_what_its_disk_is() {
    let mut pair = skipping_the_initial_sync();
    pair.run();
    let last = pair.b.sent.iter().rev().find_map(|packet| match packet {
        Packet::State(bits) => Some(StateWord::from_bits(*bits).unwrap().disk),
        _ => None,
    });
    assert_eq!(last, Some(Disk::UpToDate));
}

/// A Primary without a disk has written to its peer, and loses it before it hears of the generation that the peer began for that.
/// Its own disk lacks these writes, though it is of the last generation that this node has heard of.
#[test]
fn a_primary_does_not_fall_back_to_its_disk_behind_what_it_wrote_to_the_peer() {
    for attaches in ["later", "before", "negotiates"] {
        let mut pair = synced_pair();
        let id = pair.a.begin(Command::Detach { volume: V, force: false });
        let mut token = None;
        for _ in 0..200 {
            let _ = pair.a.work() | pair.b.work();
            // What the peer says about its generation is still on its way.
            let told = |packet: &Wire| matches!(packet.1, Packet::Uuids(_));
            if !pair.b.outgoing[Socket::Data as usize].front().is_some_and(told) {
                Pair::deliver(&mut pair.b, &mut pair.a, Socket::Data, pair.now);
            }
            Pair::deliver(&mut pair.b, &mut pair.a, Socket::Meta, pair.now);
            Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now);
            Pair::deliver(&mut pair.a, &mut pair.b, Socket::Meta, pair.now);
            if pair.a.replies.contains_key(&id) && token.is_none() {
                token = Some(pair.a.write(4000, 99, 8192));
            }
        }
        let token = token.expect("detached");
        assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
        match attaches {
            "later" => {
                pair.lose_link();
                assert_eq!(pair.a.try_attach(), 150, "{}", pair.logs());
            }
            "before" => {
                pair.a.meta_held = Some(Vec::new());
                pair.a.try_attach();
                assert_eq!(pair.a.word().2, Disk::Attaching, "{}", pair.logs());
                pair.lose_link();
                pair.a.release_meta();
                while pair.a.work() {}
            }
            _ => {
                pair.a.attach();
                assert_eq!(pair.a.word().2, Disk::Negotiating, "{}", pair.logs());
                pair.lose_link();
            }
        }
        assert_eq!(pair.a.word().2, Disk::Diskless, "{attaches}\n{}", pair.logs());
        // Only when nobody works with it any more.
        assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1, "{}", pair.logs());
        pair.a.attach();
        pair.meet_again();
        pair.assert_equal();
        assert_eq!(pair.a.data[4000 * 512], 99);
    }
}

/// A Primary is the target of a resync, loses the link, and then its disk: what its application knows are the data of the peer, whatever
/// the half-synced disk is called.
#[test]
fn a_primary_that_loses_a_half_synced_disk_goes_on_with_its_source() {
    let mut pair = synced_pair();
    pair.b.held = Some(Vec::new());
    pair.b.begin(Command::InvalidateRemote { volume: V });
    pair.run();
    assert_eq!(pair.a.word().1, Conn::SyncTarget, "{}", pair.logs());
    pair.lose_link();
    pair.a.command(Command::Detach { volume: V, force: true });
    assert_eq!((pair.a.word().0, pair.a.word().2), (Role::Primary, Disk::Diskless), "{}", pair.logs());
    pair.b.release_held();
    while pair.b.work() {}
    pair.meet_again();
    assert_eq!((pair.a.word().1, pair.a.word().3), (Conn::Connected, Disk::UpToDate), "{}", pair.logs());
    pair.a.attach();
    pair.run();
    pair.assert_equal();
}

/// A Primary loses the target of a full sync, which has not heard of its beginning, goes on alone, and loses its disk. What the target has
/// stays old: it is refused by the Primary that comes back without a disk, and begins no generation for it.
#[test]
fn old_data_begin_no_generation_for_a_primary_without_a_disk() {
    let mut pair = synced_pair();
    pair.b.begin(Command::Invalidate { volume: V });
    while pair.a.word().1 != Conn::SyncSource {
        pair.run_once();
    }
    assert_eq!((pair.b.word().1, pair.b.word().2), (Conn::WFSyncUUID, Disk::Outdated), "{}", pair.logs());
    // The daemon of the target dies: the next one finds the data Outdated, as they are on disk.
    pair.b.core = Node::core(77);
    pair.b.start();
    pair.lose_link();
    assert_eq!(pair.b.word().2, Disk::Outdated, "{}", pair.logs());
    pair.a.write(4000, 99, 8192);
    pair.a.command(Command::Detach { volume: V, force: true });
    assert_eq!((pair.a.word().0, pair.a.word().2), (Role::Primary, Disk::Diskless), "{}", pair.logs());
    let before = pair.b.super_block().uuids[0];
    (pair.a.wants_link, pair.b.wants_link) = (true, true);
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.run();
    assert_eq!((pair.a.word().1, pair.b.word().1), (Conn::StandAlone, Conn::WFConnection), "{}", pair.logs());
    assert_eq!(pair.b.super_block().uuids[0] & !1, before & !1, "{}", pair.logs());
    assert_ne!(pair.b.word().2, Disk::UpToDate, "{}", pair.logs());
}

/// A disk that negotiates is neither good nor old before the peer has answered.
#[test]
fn a_disk_that_negotiates_is_not_outdated_and_not_made_good_by_that() {
    let mut pair = synced_pair();
    pair.a.begin(Command::Detach { volume: V, force: false });
    pair.run();
    pair.a.write(4000, 99, 8192);
    pair.run();
    pair.a.attach();
    assert_eq!(pair.a.word().2, Disk::Negotiating, "{}", pair.logs());
    assert_eq!(pair.a.command(Command::Outdate { volume: V }), -16, "{}", pair.logs());
    assert_eq!(pair.a.word().2, Disk::Negotiating, "{}", pair.logs());
    pair.run();
    pair.assert_equal();
}

/// A disk comes to a node whose own is old, with data of the same generation: the resync that the one begins is the other's, too.
#[test]
fn an_old_disk_and_one_that_is_attached_begin_the_same_resync() {
    let mut pair = synced_pair();
    pair.a.begin(Command::Secondary { volume: V, open: false });
    pair.run();
    let net = settings(Protocol::C);
    pair.b.begin(Command::Disconnect { force: false });
    pair.run();
    assert_eq!(pair.b.command(Command::Outdate { volume: V }), 1, "{}", pair.logs());
    pair.a.begin(Command::Detach { volume: V, force: false });
    pair.run();
    assert_eq!(pair.b.command(Command::Connect(Box::new(net))), 101);
    pair.run();
    assert_eq!((pair.a.word().2, pair.b.word().2), (Disk::Diskless, Disk::Outdated), "{}", pair.logs());
    pair.a.attach();
    pair.run();
    assert_eq!(pair.b.word().2, Disk::UpToDate, "{}", pair.logs());
    pair.assert_equal();
}

/// The Secondary asks for a full sync, the Primary agrees, and the link is lost before the answer gets through: the Secondary is UpToDate
/// as before, and what the Primary acknowledged since is not on its disk only, of the same generation.
#[test]
fn nothing_is_acknowledged_before_the_target_has_heard_of_its_invalidate() {
    let mut pair = synced_pair();
    pair.b.begin(Command::Invalidate { volume: V });
    while !matches!(pair.a.word().1, Conn::StartingSyncS | Conn::WFBitMapS) {
        pair.run_once();
    }
    for queue in &mut pair.a.outgoing {
        queue.clear();
    }
    let token = pair.a.write(4000, 9, 4096);
    while pair.a.work() {}
    assert!(!pair.a.completed.contains_key(&token), "{}", pair.logs());
    pair.lose_link();
    while pair.a.work() {}
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    assert_ne!(pair.a.super_block().uuids[1], 0, "{}", pair.logs());
    pair.meet_again();
    pair.assert_equal();
}

/// The target of a full sync loses its disk before it has begun: what the source writes from then on is of another generation. When its
/// disk goes, too, and the target's comes back, that is not taken for the one with these writes.
#[test]
fn a_target_whose_disk_fails_before_the_resync_begins_is_not_of_the_generation_that_goes_on() {
    let mut pair = synced_pair();
    pair.b.detach_at_errors();
    pair.b.bitmap_fails = true;
    let before = pair.a.super_block().uuids[0];
    pair.b.begin(Command::Invalidate { volume: V });
    pair.run();
    assert_eq!((pair.a.word().1, pair.a.word().3), (Conn::Connected, Disk::Diskless), "{}", pair.logs());
    let token = pair.a.write(4000, 99, 8192);
    pair.run();
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    assert_ne!(pair.a.super_block().uuids[0] & !1, before & !1, "{}", pair.logs());

    pair.b.bitmap_fails = false;
    assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
    pair.b.attach();
    pair.run();
    assert_eq!((pair.a.word().1, pair.a.word().2), (Conn::StandAlone, Disk::Diskless), "{}", pair.logs());
    pair.a.attach();
    if pair.b.word().2 == Disk::Diskless {
        pair.b.attach();
    }
    assert_eq!(pair.a.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.run();
    pair.assert_equal();
    assert_eq!(pair.b.data[4000 * 512], 99, "{}", pair.logs());
}

/// Both disks of a Primary's data go before a generation could begin, and its own comes back: what it writes the peer's lacks.
#[test]
fn a_primary_that_attaches_beside_a_peer_without_a_disk_begins_a_new_generation() {
    let mut pair = synced_pair();
    pair.a.running = Some(Vec::new());
    pair.b.begin(Command::Invalidate { volume: V });
    for _ in 0..50 {
        pair.run_once();
    }
    assert_eq!(pair.a.word().1, Conn::StartingSyncS, "{}", pair.logs());
    pair.a.begin(Command::Detach { volume: V, force: true });
    for _ in 0..50 {
        pair.run_once();
    }
    for id in pair.a.running.take().unwrap() {
        pair.a.core.helper_done(pair.now, id, 0);
    }
    pair.run();
    pair.b.begin(Command::Detach { volume: V, force: true });
    pair.run();
    assert_eq!((pair.a.word().2, pair.b.word().2), (Disk::Diskless, Disk::Diskless), "{}", pair.logs());
    pair.a.attach();
    pair.run();
    let alone = (Role::Primary, Conn::Connected, Disk::UpToDate, Disk::Diskless);
    assert_eq!(pair.a.word(), alone, "{}", pair.logs());
    let token = pair.a.write(4000, 99, 4096);
    pair.run();
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    assert_ne!(pair.a.super_block().uuids[1], 0, "{}", pair.logs());
    pair.b.attach();
    pair.run();
    pair.assert_equal();
}

/// The Primary detaches, and the link is lost before the peer has begun the generation that is due for that: nothing was written in it.
/// The Primary goes on with the disk that it had, in a generation of its own, and there is no other one.
#[test]
fn no_generation_begins_for_a_primary_that_left_before_it_wrote_in_it() {
    let mut pair = synced_pair();
    // The generation waits behind what is being written.
    pair.b.meta_held = Some(Vec::new());
    pair.b.core.queue_steps([Step::WriteSuperBlock { v: V }]);
    let id = pair.a.begin(Command::Detach { volume: V, force: false });
    // That goes to both disks still.
    let mirrored = pair.a.write(8000, 98, 4096);
    pair.run_for_a_while();
    assert_eq!((pair.a.replies[&id], pair.b.word().3), (1, Disk::Diskless), "{}", pair.logs());
    assert!(pair.a.completed[&mirrored].is_ok(), "{}", pair.logs());
    // What the peer gets now it may not write yet.
    let lost = pair.a.write(6000, 97, 4096);
    pair.run_for_a_while();
    pair.lose_link();
    assert!(pair.a.completed[&lost].is_err(), "{}", pair.logs());
    pair.a.attach();
    let token = pair.a.write(4000, 99, 8192);
    while pair.a.work() {}
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    pair.b.release_meta();
    while pair.b.work() {}
    pair.meet_again();
    pair.assert_equal();
    assert_eq!((pair.a.data[4000 * 512], pair.a.data[8000 * 512]), (99, 98));
}

/// A write of a Primary without a disk is done when the generation that it goes into is on the disk of the peer: the disk that the
/// Primary had is older, whatever happens then.
#[test]
fn no_write_of_a_primary_without_a_disk_is_done_before_its_generation() {
    let mut pair = synced_pair();
    // The peer's activity log has the extent already.
    pair.a.begin(Command::Detach { volume: V, force: false });
    pair.run();
    pair.a.write(4000, 98, 4096);
    pair.run();
    pair.a.attach();
    pair.run();
    pair.assert_equal();
    let before = pair.b.super_block().uuids[0] & !1;
    pair.b.meta_held = Some(Vec::new());
    pair.a.begin(Command::Detach { volume: V, force: false });
    pair.run_for_a_while();
    let token = pair.a.write(4000, 99, 4096);
    for _ in 0..20 {
        pair.run_for_a_while();
        let done = pair.a.completed.contains_key(&token);
        assert!(!done || pair.b.super_block().uuids[0] & !1 != before, "{}", pair.logs());
        let mut held = pair.b.meta_held.take().unwrap();
        if !held.is_empty() {
            pair.b.carry_out(held.remove(0));
        }
        pair.b.meta_held = Some(held);
    }
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
}

/// Old data are to be made good by force in the middle of a handshake, which ends with a resync of them: the promotion waits for that, and is one
/// of a target like any other. Half-synced data begin no generation.
#[test]
fn nothing_is_forced_once_the_data_come_from_the_peer() {
    for version in [86, 101] {
        let mut pair = synced_pair_at(version, Protocol::C);
        pair.b.begin(Command::Disconnect { force: false });
        pair.run();
        pair.a.write(4000, 5, 4096);
        pair.run();
        pair.demote_a();
        assert_eq!(pair.b.command(Command::Outdate { volume: V }), 1, "{}", pair.logs());
        assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        while pair.b.word().1 != Conn::WFReportParams {
            pair.run_once();
        }
        let id = pair.b.begin(Command::Primary { volume: V, force: true });
        pair.run();
        assert_eq!(pair.b.replies[&id], 1, "{}", pair.logs());
        let forced = |line: &String| line.starts_with("Forced to") || line.starts_with("new current UUID");
        assert!(!pair.b.log.iter().any(forced), "{}", pair.logs());
        assert_eq!((pair.b.word().0, pair.b.data[4000 * 512]), (Role::Primary, 5), "{}", pair.logs());
        pair.assert_equal();
    }
}
