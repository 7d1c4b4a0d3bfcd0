//! Primaries whose I/O fencing has frozen: beside whom they go on, in which generation, and what is left of that when they are demoted.

use super::fencing::{fencing_pair, fencing_pair_at};
use super::*;
use crate::core::state::StateWord;
use crate::core::steps::Step;

impl Pair {
    /// `b` is alone, and becomes Primary: `a` is fenced.
    fn b_takes_over(&mut self) {
        self.b.running = Some(Vec::new());
        let id = self.b.begin(Command::Primary { volume: V, force: false });
        while self.b.work() {}
        let fencing = self.b.running.take().and_then(|mut helpers| helpers.pop()).expect("fence-peer runs");
        self.b.core.helper_done(self.now, fencing, 4 << 8);
        while self.b.work() {}
        assert_eq!(self.b.replies[&id], 1, "{}", self.logs());
    }

    /// `a`, which wrote 99 at sector 4000, was demoted while it was frozen. `b` takes over, or has lost that write with its cache; the two meet,
    /// and both have all.
    fn assert_nothing_lost_by_demotion(mut self, takes_over: bool) {
        if takes_over {
            self.b_takes_over();
            self.b.write(5000, 88, 8192);
        } else {
            self.b.data[4000 * 512..][..8192].fill(0x55);
        }
        self.meet_again();
        assert!(!self.logs().contains("Split-Brain"), "{}", self.logs());
        self.assert_equal();
        assert_eq!(self.a.data[5000 * 512], if takes_over { 88 } else { 0 });
        assert_eq!(self.b.data[4000 * 512], 99);
    }

    /// Both nodes are told so; their settings.
    fn allow_two_primaries(&mut self, allow_two_primaries: bool) -> NetSettings {
        let net = NetSettings { allow_two_primaries, ..settings(Protocol::C) };
        for node in [&mut self.a, &mut self.b] {
            assert_eq!(node.command(Command::NetSettings(Box::new(net.clone()))), 101);
        }
        net
    }

    /// The nodes meet, and lose each other while what follows for `a` waits for the disk.
    pub(super) fn meet_and_lose_link_before_anything_follows(&mut self) {
        (self.a.wants_link, self.b.wants_link) = (true, true);
        let mut steps = 0..1000;
        while self.a.core.volume(V).peer_uuids.is_none() && steps.next().is_some() {
            self.run_once();
        }
        // Only the peer's state is still to come.
        self.a.meta_held = Some(Vec::new());
        self.a.core.queue_steps([Step::WriteSuperBlock { v: V }]);
        let mut steps = 0..1000;
        while self.a.word().1 < Conn::Connected && steps.next().is_some() {
            self.run_once();
        }
        assert!(self.a.word().1 >= Conn::Connected, "{}", self.logs());
        assert!(self.a.core.volume(V).state().is_susp(), "{}", self.logs());
        self.lose_link();
        self.a.release_meta();
        while self.a.work() {}
    }
}

/// The peer is fenced: frozen writes complete when the new generation is on disk, not before.
#[test]
fn frozen_writes_wait_for_the_generation_that_fencing_begins() {
    let mut pair = fencing_pair(Fencing::ResourceAndStonith);
    let token = pair.a.write(4000, 99, 4096);
    while pair.a.work() {}
    pair.lose_link();
    assert!(pair.a.core.volume(V).state().susp_fen, "{}", pair.logs());
    assert!(!pair.a.completed.contains_key(&token));
    pair.a.meta_held = Some(Vec::new());
    pair.helper_of_a_ends(4);
    while pair.a.work() {}
    assert!(!pair.a.core.volume(V).state().is_susp(), "{}", pair.logs());
    assert!(!pair.a.completed.contains_key(&token), "the generation is not durable\n{}", pair.logs());
    while let Some(held) = pair.a.meta_held.take().filter(|held| !held.is_empty()) {
        pair.a.carry_out_all(held);
        pair.a.meta_held = Some(Vec::new());
        while pair.a.work() {}
    }
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    assert_ne!(pair.a.super_block().uuids[1], 0);
}

/// A peer that crashed must be resynced before frozen I/O goes on with it. The Primary stays frozen, and in the generation that it
/// shares with the peer, until the peer has agreed to be the target.
#[test]
fn a_peer_that_crashed_does_not_thaw_a_frozen_primary_before_a_resync() {
    let mut pair = fencing_pair(Fencing::ResourceAndStonith);
    let token = pair.a.write(4000, 99, 4096);
    while pair.a.work() {}
    pair.lose_link();
    pair.helper_of_a_ends(1);
    pair.a.running = None;
    while pair.a.work() {}
    let before = pair.a.super_block().uuids;
    pair.b.restart(77);
    assert_eq!(pair.b.word().2, Disk::Consistent, "{}", pair.logs());
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    (pair.a.wants_link, pair.b.wants_link) = (true, true);
    let mut steps = 0..1000;
    while !pair.logs().contains("can not thaw IO") && steps.next().is_some() {
        pair.run_once();
    }
    assert!(pair.logs().contains("can not thaw IO"), "{}", pair.logs());
    assert!(pair.a.core.volume(V).state().susp_fen, "{}", pair.logs());
    assert!(!pair.a.completed.contains_key(&token), "{}", pair.logs());
    while pair.a.work() {}
    assert_eq!(pair.a.super_block().uuids, before, "{}", pair.logs());
    pair.run();
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    assert_ne!(pair.a.super_block().uuids[0] | 1, before[0] | 1, "{}", pair.logs());
    pair.assert_equal();
}

/// A peer that has lost with its cache what a frozen Primary's application was told of is not good before that Primary has decided: it may
/// give the connection up, for a resync, or be gone. Also a peer of DRBD's, which says no more than that it is Connected, still frozen.
#[test]
fn a_disk_is_not_good_beside_a_frozen_primary_that_has_not_decided() {
    for (version, outdated) in [(86, false), (101, false), (101, true)] {
        let mut pair = fencing_pair_at(version, Fencing::ResourceAndStonith);
        let token = pair.a.write(4000, 99, 4096);
        while !pair.a.completed.contains_key(&token) {
            pair.run_once();
        }
        pair.lose_link();
        pair.helper_of_a_ends(1);
        pair.b.data[4000 * 512..][..4096].fill(0);
        pair.b.restart(77);
        if outdated {
            assert_eq!(pair.b.command(Command::Outdate { volume: V }), 1, "{}", pair.logs());
        }
        let disk = pair.b.word().2;
        assert_eq!(disk, if outdated { Disk::Outdated } else { Disk::Consistent }, "{}", pair.logs());
        assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        (pair.a.wants_link, pair.b.wants_link) = (true, true);
        while !pair.linked {
            pair.run_once();
        }
        // What `b` says does not come.
        let Pair { a, b, now, .. } = &mut pair;
        for _ in 0..100 {
            while a.work() | b.work() {}
            Pair::deliver(a, b, Socket::Data, *now);
        }
        assert!(pair.b.log.iter().any(|line| line.starts_with("uuid_compare()=0")), "{}", pair.logs());
        assert_eq!(pair.b.word().2, disk, "{}", pair.logs());
        pair.lose_link();
        assert_eq!(pair.b.word().2, disk, "{}", pair.logs());

        pair.a.running = None;
        pair.meet_again();
        pair.assert_equal();
        assert_eq!(pair.b.data[4000 * 512], 99, "{}", pair.logs());
    }
}

/// A frozen Primary that goes on with its peer says no more than that it is Connected, in a word that is frozen still, as DRBD's.
#[test]
fn a_disk_is_good_when_a_frozen_primary_is_connected() {
    for version in [86, 101] {
        let mut pair = fencing_pair_at(version, Fencing::ResourceAndStonith);
        pair.lose_link();
        pair.helper_of_a_ends(1);
        let token = pair.a.write(4000, 99, 4096);
        assert_eq!(pair.b.command(Command::Outdate { volume: V }), 1, "{}", pair.logs());
        pair.a.sent.clear();
        pair.meet_again();
        assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
        pair.assert_equal();
        let words = pair.a.sent.iter().filter_map(|packet| match packet {
            Packet::State(word) => StateWord::from_bits(*word).ok(),
            _ => None,
        });
        let told: Vec<_> = words.map(|word| (word.conn, word.is_susp())).collect();
        assert_eq!(told, [(Conn::WFConnection, true), (Conn::Connected, true)], "{}", pair.logs());
    }
}

/// A frozen Primary owes a generation since its peer was outdated, which comes back without a disk: what the application is told from
/// now on the peer's data lack.
#[test]
fn a_peer_without_a_disk_does_not_spare_a_frozen_primary_its_generation() {
    let mut pair = fencing_pair(Fencing::ResourceAndStonith);
    pair.a.running = None;
    pair.a.command(Command::SuspendIo { volume: V });
    let token = pair.a.write(4000, 99, 4096);
    pair.b.begin(Command::Disconnect { force: false });
    pair.run();
    assert_eq!(pair.a.word().3, Disk::Outdated, "{}", pair.logs());
    pair.b.command(Command::Detach { volume: V, force: false });
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.run();
    assert_eq!(pair.a.word(), (Role::Primary, Conn::Connected, Disk::UpToDate, Disk::Diskless));
    pair.a.command(Command::ResumeIo { volume: V });
    pair.run();
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    assert_ne!(pair.a.super_block().uuids[1], 0, "{}", pair.logs());
    pair.b.attach();
    pair.run();
    pair.assert_equal();
}

/// What a Primary writes between its word that the peer is to get all, and the resync, goes to its own disk only. If the link is lost then it
/// is frozen in the generation that both have, and the peer's disk must not be taken for the same data.
#[test]
fn a_primary_frozen_before_its_target_got_anything_begins_a_generation() {
    let mut pair = fencing_pair(Fencing::ResourceAndStonith);
    pair.a.running = Some(Vec::new());
    let id = pair.a.begin(Command::InvalidateRemote { volume: V });
    // A word of the peer comes before its consent, on the other socket, and tells of it.
    pair.run_data();
    assert_eq!(pair.b.word().2, Disk::Outdated, "{}", pair.logs());
    pair.b.begin(Command::PauseSync { volume: V });
    pair.run_data();
    assert!(pair.a.core.volume(V).state().peer_isp, "{}", pair.logs());
    pair.run_for_a_while();
    // The handler of the source runs.
    assert_eq!(pair.a.word().1, Conn::StartingSyncS, "{}", pair.logs());
    assert_eq!(pair.a.replies[&id], 1, "{}", pair.logs());
    let token = pair.a.write(4000, 99, 4096);
    pair.run_for_a_while();
    assert!(pair.a.completed.contains_key(&token), "{}", pair.logs());
    assert_eq!(pair.b.data[4000 * 512], 0);
    // The peer crashes: nothing on its disk says that it is Inconsistent.
    pair.b.restart(77);
    pair.lose_link();
    pair.a.running = None;
    assert!(pair.a.core.volume(V).state().is_susp(), "{}", pair.logs());
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.meet_again();
    assert_eq!(pair.b.data[4000 * 512], 99, "{}", pair.logs());
    pair.assert_equal();
}

/// A node whose Primary was lost is promoted while its I/O is suspended, and the answer of fence-peer comes with the promotion. Its data are the ones
/// that count from now on, also if it crashes before that I/O goes on: the disk says so.
#[test]
fn a_promotion_while_io_is_suspended_begins_a_generation() {
    let mut pair = fencing_pair(Fencing::ResourceAndStonith);
    assert_eq!(pair.b.command(Command::SuspendIo { volume: V }), 1);
    pair.lose_link();
    pair.b_takes_over();
    assert_ne!(pair.b.super_block().uuids[1], 0, "{}", pair.logs());
}

/// A Primary without a disk is frozen, and gets its disk back: what the peer may lack is not sent again, and comes with the generation that is due. That waits
/// still, for an administrator, when the two meet.
#[test]
fn what_the_peer_was_left_out_of_comes_with_the_generation_that_is_owed() {
    let mut pair = synced_pair();
    pair.a.when_data_are_lost(OnNoData::SuspendIo);
    let token = pair.a.write(4000, 99, 4096);
    while pair.a.work() {}
    assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1, "{}", pair.logs());
    pair.lose_link();
    assert_eq!(pair.a.command(Command::SuspendIo { volume: V }), 1, "{}", pair.logs());
    pair.a.attach();
    while pair.a.work() {}
    assert_eq!(pair.a.word().2, Disk::UpToDate, "{}", pair.logs());
    pair.meet_again();
    // The resync waits for the extent of the frozen write.
    assert_eq!(pair.a.command(Command::ResumeIo { volume: V }), 1, "{}", pair.logs());
    pair.run();
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    assert_eq!(pair.b.data[4000 * 512], 99, "{}", pair.logs());
    pair.assert_equal();
}

/// The disk of a frozen Primary fails, and then the peer is fenced: without data nothing can be written, and no generation begins that the peer would have
/// gone another way from when it takes over.
#[test]
fn no_generation_begins_with_a_disk_that_has_failed() {
    let mut pair = fencing_pair(Fencing::ResourceAndStonith);
    pair.a.detach_at_errors();
    pair.a.held = Some(Vec::new());
    for sector in [4000, 8000] {
        pair.a.write(sector, 99, 4096);
    }
    while pair.a.work() {}
    pair.lose_link();
    assert!(pair.a.core.volume(V).state().is_susp(), "{}", pair.logs());
    // The other write is at the disk still.
    let mut held = pair.a.held.take().unwrap_or_default();
    let other = held.pop().expect("two writes");
    let [Output::DiskWrite { volume, io, .. }] = held[..] else { panic!("{held:?}") };
    pair.a.core.io_done(pair.now, volume, io, IoResult::Failed);
    while pair.a.work() {}
    assert_eq!(pair.a.word().2, Disk::Failed, "{}", pair.logs());
    // fence-peer, and pri-on-incon-degr.
    while pair.a.running.as_ref().is_some_and(|running| !running.is_empty()) {
        pair.helper_of_a_ends(4);
        while pair.a.work() {}
    }
    pair.a.carry_out(other);
    while pair.a.work() {}
    assert!(!pair.a.core.volume(V).state().is_susp(), "{}", pair.logs());
    assert_eq!(pair.a.super_block().uuids[1], 0, "{}", pair.logs());
}

/// Frozen for two reasons, which both go with the same reconnect: a read that the disk has answered completes.
#[test]
fn a_reconnect_ends_two_freezes_at_once() {
    let mut pair = fencing_pair(Fencing::ResourceAndStonith);
    pair.a.when_data_are_lost(OnNoData::SuspendIo);
    // A target that is Primary, and has not got all yet.
    pair.b.command(Command::PauseSync { volume: V });
    pair.a.running = None;
    pair.a.begin(Command::Invalidate { volume: V });
    for _ in 0..200 {
        pair.run_once();
    }
    assert_eq!(
        (pair.a.word().1, pair.a.word().2),
        (Conn::PausedSyncT, Disk::Inconsistent),
        "{}",
        pair.logs()
    );
    pair.a.running = Some(Vec::new());
    pair.a.write(4000, 7, 4096);
    for _ in 0..200 {
        pair.run_once();
    }
    pair.a.held = Some(Vec::new());
    pair.a.next += 1;
    let token = pair.a.next;
    pair.a.core.read(pair.now, V, token, 4000, 4096);
    while pair.a.work() {}
    let held = pair.a.held.take().unwrap_or_default();
    assert_eq!(held.len(), 1, "the block is in sync: it is read here");
    pair.lose_link();
    let state = pair.a.core.volume(V).state();
    assert!(state.susp_fen && state.susp_nod, "{state}");
    pair.a.carry_out_all(held);
    while let Some(id) = pair.a.running.as_mut().and_then(Vec::pop) {
        pair.a.core.helper_done(pair.now, id, 0);
        while pair.a.work() {}
    }
    pair.a.running = None;
    (pair.a.wants_link, pair.b.wants_link) = (true, true);
    for _ in 0..400 {
        pair.run_once();
    }
    assert!(!pair.a.core.volume(V).state().is_susp(), "{}", pair.logs());
    assert!(pair.a.completed.get(&token).is_some_and(Result::is_ok), "{}", pair.logs());
}

/// An invalidate of a frozen Primary reaches the peer, and the link is lost before the answer. The peer has begun to be the source, and the
/// generation that the Primary owes would have shown who has the data: it begins when the two meet again.
#[test]
fn a_frozen_primary_is_not_taken_for_the_target_of_a_resync_that_it_did_not_hear_of() {
    for version in [96, 101] {
        let mut pair = synced_pair_at(version, Protocol::C);
        pair.a.write(4000, 99, 8192);
        pair.run();
        assert_eq!(pair.a.command(Command::SuspendIo { volume: V }), 1);
        let token = pair.a.write(9000, 7, 4096);
        pair.a.begin(Command::Invalidate { volume: V });
        for _ in 0..200 {
            let _ = pair.a.work() | pair.b.work();
            Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now);
        }
        assert_eq!(pair.b.word().1, Conn::SyncSource, "{}", pair.logs());
        pair.lose_link();
        assert_eq!((pair.a.word().2, pair.a.super_block().uuids[1]), (Disk::UpToDate, 0), "{}", pair.logs());
        pair.meet_again();
        assert!(!pair.a.log.iter().any(|line| line.contains("but I am primary")), "{}", pair.logs());
        pair.a.begin(Command::ResumeIo { volume: V });
        pair.run();
        assert!(pair.a.completed.get(&token).is_some_and(Result::is_ok), "{}", pair.logs());
        pair.assert_equal();
        assert_eq!((pair.b.data[4000 * 512], pair.b.data[9000 * 512]), (99, 7), "{}", pair.logs());
    }
}

/// A frozen Primary wants its peer to become the target of a resync, and tells it of the generation that it owes. If the link is lost then, it has
/// not begun: the peer may take over without a split brain.
#[test]
fn a_generation_begins_when_the_peer_has_become_the_target() {
    for takes_over in [false, true] {
        let mut pair = super::generations::frozen_pair_with_an_open_epoch(101);
        let generations = |node: &Node| node.super_block().uuids.map(crate::core::uuid::without_role);
        let before = generations(&pair.a);
        let net = || Command::Connect(Box::new(settings(Protocol::C)));
        assert_eq!(pair.b.command(net()), 101);
        let aborted = |pair: &Pair| pair.a.log.iter().any(|line| line.contains("a resync must bring"));
        while !aborted(&pair) {
            pair.run_once();
        }
        pair.lose_link();
        assert_eq!(generations(&pair.a), before, "{}", pair.logs());
        if takes_over {
            pair.a.core = Node::core(77);
            pair.a.start();
            assert_eq!(pair.b.command(Command::Primary { volume: V, force: false }), 1, "{}", pair.logs());
            assert_eq!(pair.a.command(net()), 101);
        }
        pair.meet_again();
        if !takes_over {
            pair.a.begin(Command::ResumeIo { volume: V });
            pair.run();
        }
        assert!(!pair.logs().contains("Split-Brain"), "{}", pair.logs());
        pair.assert_equal();
        assert_ne!(generations(&pair.a), before, "{}", pair.logs());
    }
}

/// A Primary lost its peer, frozen, while it was demoted: what its application has heard to be done the peer may have lost with its cache, so
/// that a resync has to bring it. Until then the peer may take over, also if the two meet in between: nothing has gone another way.
#[test]
fn a_peer_may_take_over_from_a_node_that_was_demoted_while_frozen() {
    for (takes_over, met_as_primary) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut pair = fencing_pair(Fencing::ResourceAndStonith);
        let token = pair.a.write(4000, 99, 8192);
        while !pair.a.completed.contains_key(&token) {
            pair.run_once();
        }
        pair.a.running = None;
        if met_as_primary {
            pair.lose_link();
            (pair.a.wants_link, pair.b.wants_link) = (true, true);
            while !pair.a.log.iter().any(|line| line.contains("a resync must bring")) {
                pair.run_once();
            }
        }
        let demotion = pair.a.begin(Command::Secondary { volume: V, open: false });
        while pair.a.work() {}
        pair.lose_link();
        assert_eq!((pair.a.replies[&demotion], pair.a.word().0), (1, Role::Secondary), "{}", pair.logs());
        assert_eq!(pair.a.command(Command::Outdate { volume: V }), 1);
        if !met_as_primary && !takes_over {
            // It is the source at once.
            (pair.a.wants_link, pair.b.wants_link) = (true, true);
            while pair.a.word().1 != Conn::WFBitMapS {
                pair.run_once();
            }
            pair.lose_link();
        }
        pair.assert_nothing_lost_by_demotion(takes_over);
    }
}

/// So it may when an administrator has resumed the I/O of the node that was demoted: that has nothing to write in a generation of its own. Also
/// where the peer may be Primary, too, and was not.
#[test]
fn a_peer_may_take_over_from_a_demoted_node_whose_io_is_resumed() {
    for (takes_over, two_primaries) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut pair = fencing_pair(Fencing::ResourceAndStonith);
        pair.allow_two_primaries(two_primaries);
        let token = pair.a.write(4000, 99, 8192);
        while !pair.a.completed.contains_key(&token) {
            pair.run_once();
        }
        pair.lose_link();
        assert!(pair.a.core.volume(V).state().susp_fen, "{}", pair.logs());
        assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1);
        assert_eq!(pair.a.command(Command::Outdate { volume: V }), 1);
        pair.helper_of_a_ends(0);
        assert_eq!(pair.a.command(Command::ResumeIo { volume: V }), 1);
        assert!(!pair.a.core.volume(V).state().is_susp(), "{}", pair.logs());
        pair.a.running = None;
        pair.assert_nothing_lost_by_demotion(takes_over);
    }
}

/// The same, and both lose their power before they meet again: what the peer has lost with its cache comes from the node that was demoted. Also
/// where the peer may be Primary, too, and was not.
#[test]
fn a_node_that_was_demoted_while_frozen_remembers_what_its_peer_may_have_lost() {
    for allow_two_primaries in [false, true] {
        let mut pair = fencing_pair(Fencing::ResourceAndStonith);
        let net = pair.allow_two_primaries(allow_two_primaries);
        let token = pair.a.write(4000, 99, 8192);
        while !pair.a.completed.contains_key(&token) {
            pair.run_once();
        }
        pair.a.running = None;
        let demotion = pair.a.begin(Command::Secondary { volume: V, open: false });
        while pair.a.work() {}
        pair.lose_link();
        assert_eq!((pair.a.replies[&demotion], pair.a.word().0), (1, Role::Secondary), "{}", pair.logs());
        pair.b.data[4000 * 512..][..8192].fill(0x55);
        for (node, random) in [(&mut pair.a, 77), (&mut pair.b, 78)] {
            node.restart(random);
            assert_eq!(node.command(Command::Connect(Box::new(net.clone()))), 101);
        }
        pair.meet_again();
        pair.assert_equal();
        assert_eq!(pair.b.data[4000 * 512], 99, "{}", pair.logs());
    }
}

/// A frozen Primary meets its peer, and loses it again while what is to be done before it goes on waits for the disk: it stays frozen, owes what
/// it owed, and goes on when the peer is there, or fenced.
#[test]
fn a_frozen_primary_that_loses_its_peer_again_before_it_goes_on_stays_frozen() {
    for (resync, comes_back) in [(false, true), (false, false), (true, true), (true, false)] {
        let mut pair = fencing_pair(Fencing::ResourceAndStonith);
        if resync {
            // Its barrier is not acknowledged.
            let token = pair.a.write(4000, 99, 8192);
            let mut steps = 0..1000;
            while !pair.a.completed.contains_key(&token) && steps.next().is_some() {
                pair.run_once();
            }
        }
        let token = pair.a.write(5000, 98, 8192);
        while pair.a.work() {}
        pair.lose_link();
        pair.helper_of_a_ends(1);
        if resync {
            // It gives the first link up, for the generation that it owes.
            (pair.a.wants_link, pair.b.wants_link) = (true, true);
            let mut steps = 0..1000;
            while !pair.logs().contains("a resync must bring") && steps.next().is_some() {
                pair.run_once();
            }
            pair.lose_link();
            pair.helper_of_a_ends(1);
        }
        pair.meet_and_lose_link_before_anything_follows();
        assert!(pair.a.core.volume(V).state().susp_fen, "{resync}\n{}", pair.logs());
        assert!(!pair.a.completed.contains_key(&token), "{}", pair.logs());
        if comes_back {
            pair.a.running = None;
            pair.meet_again();
        } else {
            pair.helper_of_a_ends(4);
            while pair.a.work() {}
            assert_ne!(pair.a.super_block().uuids[1], 0, "{}", pair.logs());
        }
        assert!(!pair.a.core.volume(V).state().is_susp(), "{}", pair.logs());
        assert!(pair.a.completed.get(&token).is_some_and(Result::is_ok), "{}", pair.logs());
        pair.a.running = None;
        pair.meet_again();
        pair.assert_equal();
    }
}

impl Pair {
    /// Attaches the disks of the nodes that `order` names; at a blank there is a `pause`.
    fn attach_in(&mut self, order: &str, pause: fn(&mut Pair)) {
        for name in order.chars() {
            let node = match name {
                'a' => &mut self.a,
                'b' => &mut self.b,
                _ => {
                    pause(self);
                    continue;
                }
            };
            assert_eq!(node.try_attach(), 101, "{order} {}", self.logs());
        }
    }
}

/// Both disks go before either node has heard of the other's, with writes under way. What the peer was not sent, or refused, is on one of
/// them only: whichever is attached first, or both at once, they become equal, and nothing is lost that the application was told of.
#[test]
fn disks_that_went_at_the_same_time_become_equal() {
    for version in [86, 93, 101] {
        for (order, policy) in ["ab", "a b", "ba", "b a"]
            .into_iter()
            .flat_map(|order| [OnNoData::SuspendIo, OnNoData::IoError].map(|policy| (order, policy)))
        {
            let mut pair = synced_pair_at(version, Protocol::C);
            for node in [&mut pair.a, &mut pair.b] {
                node.when_data_are_lost(policy);
            }
            let done = pair.a.write(4000, 9, 4096);
            pair.run();
            assert!(pair.a.completed[&done].is_ok(), "{}", pair.logs());
            // The own disk does it at once.
            let token = pair.a.write(8, 5, 4096);
            while pair.a.work() {}
            assert_eq!(pair.a.data[8 * 512], 5);
            for node in [&mut pair.a, &mut pair.b] {
                assert_eq!(node.command(Command::Detach { volume: V, force: true }), 1);
            }
            pair.run();
            assert_eq!(
                (pair.a.word().2, pair.a.word().3),
                (Disk::Diskless, Disk::Diskless),
                "{}",
                pair.logs()
            );
            assert_eq!(pair.b.data[8 * 512], 0, "{}", pair.logs());
            let refused = pair.a.completed.get(&token).cloned();
            pair.attach_in(order, Pair::run);
            pair.run();
            let at = format!("{version} {order} {policy:?} {refused:?}");
            assert!(
                pair.a.data == pair.b.data,
                "{at} {:?} {:?} {}",
                pair.a.word(),
                pair.b.word(),
                pair.logs()
            );
            pair.assert_equal();
            assert_eq!(pair.a.data[4000 * 512], 9);
        }
    }
}

/// The same, and the peer's disk has done a write that the own one has not, and which the application has not been told of when its I/O is frozen:
/// it is done again, whoever has attached a disk first.
#[test]
fn a_write_that_only_a_lost_disk_of_the_peer_has_is_done_again() {
    for (version, order) in
        [86, 101].into_iter().flat_map(|version| ["ab", "ba", "a b"].map(|order| (version, order)))
    {
        let mut pair = synced_pair_at(version, Protocol::C);
        for node in [&mut pair.a, &mut pair.b] {
            node.when_data_are_lost(OnNoData::SuspendIo);
            node.detach_at_errors();
        }
        pair.run();
        pair.a.held = Some(Vec::new());
        let token = pair.a.write(8, 5, 4096);
        while pair.a.work() {}
        while Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now) {}
        while pair.b.work() {}
        assert_eq!(pair.b.data[8 * 512], 5);
        let failed = std::mem::take(&mut pair.a.held);
        // Another one fails on the peer's disk, before that hears what has happened to the first.
        (pair.a.held, pair.b.held) = (Some(Vec::new()), Some(Vec::new()));
        let other = pair.a.write(4000, 6, 4096);
        while pair.a.work() {}
        while Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now) {}
        while pair.b.work() {}
        pair.b.fail_held_write(pair.now);
        pair.a.fail_held_write(pair.now);
        pair.a.held = failed;
        pair.a.fail_held_write(pair.now);
        while pair.b.work() {}
        while pair.a.work() {}
        while Pair::deliver(&mut pair.b, &mut pair.a, Socket::Data, pair.now) {}
        assert!(pair.a.core.volume(V).state().is_susp(), "{}", pair.logs());
        pair.run_for_a_while();
        assert_eq!((pair.a.word().2, pair.a.word().3), (Disk::Diskless, Disk::Diskless), "{}", pair.logs());
        assert!(!pair.a.completed.contains_key(&token), "{}", pair.logs());
        pair.attach_in(order, Pair::run_for_a_while);
        pair.run();
        for token in [token, other] {
            assert!(pair.a.completed[&token].is_ok(), "{version} {order} {}", pair.logs());
        }
        assert_eq!([pair.a.data[8 * 512], pair.b.data[8 * 512]], [5, 5], "{version} {order} {}", pair.logs());
        pair.assert_equal();
    }
}
