//! Fencing: what may go on when the peer is fenced, and when a handler's answer counts.

use super::super::rules::ChangeKind;
use super::super::state::Change;
use super::*;

/// A pair with a policy; `a` is Primary. Helpers of `a` end when the test says so.
pub(super) fn fencing_pair(fencing: Fencing) -> Pair {
    fencing_pair_at(101, fencing)
}

pub(super) fn fencing_pair_at(version: u32, fencing: Fencing) -> Pair {
    let mut pair = synced_pair_at(version, Protocol::C);
    for node in [&mut pair.a, &mut pair.b] {
        node.with_fencing(fencing);
    }
    pair.a.running = Some(Vec::new());
    pair
}

impl Node {
    pub(super) fn with_fencing(&mut self, fencing: Fencing) {
        let settings = self.core.volume(V).settings().clone();
        let settings = Box::new(DiskSettings { fencing, ..settings });
        assert_eq!(self.command(Command::DiskSettings { volume: V, settings }), 101);
    }

    /// The daemon crashes and comes back with the settings that it had.
    pub(super) fn restart(&mut self, random: u64) {
        let settings = self.core.volume(V).settings().clone();
        self.core = Node::core(random);
        self.core.add_volume(0, 0, settings);
        self.attach();
        while self.work() {}
    }
}

impl Pair {
    /// A helper of `a` ends.
    pub(super) fn helper_of_a_ends(&mut self, code: i32) {
        let id = self.a.running.as_mut().and_then(Vec::pop).expect("fence-peer runs");
        self.a.core.helper_done(self.now, id, code << 8);
    }

    /// The nodes find each other again after [`lose_link`](Self::lose_link).
    pub(super) fn meet_again(&mut self) {
        (self.a.wants_link, self.b.wants_link) = (true, true);
        self.run();
    }

    /// Nothing reaches the other node any more, and no link comes up.
    pub(super) fn lose_link(&mut self) {
        self.linked = false;
        for node in [&mut self.a, &mut self.b] {
            node.outgoing = Default::default();
            node.core.link_lost(self.now, LinkFailure { conn: Conn::NetworkFailure, log: None });
            while node.work() {}
            node.wants_link = false;
        }
    }
}

/// What fence-peer did before the nodes met again says nothing about the peer after it.
#[test]
fn the_answer_of_a_handler_counts_only_without_a_link_since() {
    let mut pair = fencing_pair(Fencing::ResourceAndStonith);
    pair.lose_link();
    let first = pair.a.running.as_mut().and_then(Vec::pop).expect("fence-peer runs");
    pair.meet_again();
    pair.assert_equal();
    pair.lose_link();
    pair.a.core.helper_done(pair.now, first, 4 << 8);
    while pair.a.work() {}
    assert_eq!(pair.a.word().3, Disk::DUnknown, "{}", pair.logs());
    assert!(pair.a.core.volume(V).state().susp_fen, "{}", pair.logs());
    assert!(pair.a.log.iter().any(|line| line == "Ignoring fence-peer exit code"), "{}", pair.logs());
    // That of the second loss does.
    pair.helper_of_a_ends(4);
    while pair.a.work() {}
    assert_eq!(pair.a.word().3, Disk::Outdated, "{}", pair.logs());
}

/// The same for a promotion that waits for the handler.
#[test]
fn a_promotion_asks_again_if_there_was_a_link_while_the_handler_ran() {
    let mut pair = fencing_pair(Fencing::ResourceOnly);
    assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1);
    pair.run();
    pair.lose_link();
    pair.a.begin(Command::Primary { volume: V, force: false });
    while pair.a.work() {}
    let first = pair.a.running.as_mut().and_then(Vec::pop).expect("fence-peer runs");
    (pair.a.wants_link, pair.b.wants_link) = (true, true);
    for _ in 0..40 {
        pair.run_once();
    }
    pair.lose_link();
    assert_answer_is_late(&mut pair, first);
}

/// The peer gives a link up of which this node has heard nothing yet, sees that this disk is outdated, and goes on alone. What it said on that link
/// is read then, before its end is seen: it does not make the disk good.
#[test]
fn what_the_peer_said_before_it_gave_the_link_up_makes_no_old_disk_good() {
    for version in [90, 101] {
        for has_disk in [true, false] {
            let mut pair = fencing_pair_at(version, Fencing::ResourceOnly);
            pair.a.running = None;
            assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1);
            pair.run();
            pair.lose_link();
            pair.b.command(Command::Outdate { volume: V });
            if !has_disk {
                pair.a.command(Command::Detach { volume: V, force: false });
            }
            (pair.a.wants_link, pair.b.wants_link) = (true, true);
            for _ in 0..10 {
                let _ = pair.run_once_without_packets();
            }
            assert_eq!(pair.b.word().1, Conn::WFReportParams, "{}", pair.logs());
            for _ in 0..100 {
                Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now);
                pair.b.work();
            }
            assert_eq!(pair.b.word().2, Disk::Outdated, "{}", pair.logs());
            pair.lose_link();
            assert_eq!(pair.b.word().2, Disk::Outdated, "{}", pair.logs());
            if has_disk {
                pair.meet_again();
                pair.assert_equal();
            }
        }
    }
}

/// So does each of two nodes with an old disk: it goes by a peer that is there, whatever that waits for itself.
#[test]
fn two_old_disks_become_good_together() {
    for version in [90, 101] {
        let mut pair = fencing_pair_at(version, Fencing::ResourceOnly);
        assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1);
        pair.run();
        pair.lose_link();
        for node in [&mut pair.a, &mut pair.b] {
            node.command(Command::Outdate { volume: V });
            assert_eq!(node.word().2, Disk::Outdated);
        }
        pair.meet_again();
        pair.assert_equal();
    }
}

/// A forced promotion of an Outdated disk, which fence-peer allows: what the peer has stays the one before.
#[test]
fn a_forced_promotion_behind_fencing_begins_one_generation() {
    let mut pair = fencing_pair(Fencing::ResourceOnly);
    pair.a.running = None;
    assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1, "{}", pair.logs());
    pair.run();
    pair.lose_link();
    pair.a.command(Command::Outdate { volume: V });
    let before = pair.a.super_block().uuids;
    pair.a.running = Some(Vec::new());
    let id = pair.a.begin(Command::Primary { volume: V, force: true });
    while pair.a.work() {}
    while !pair.a.replies.contains_key(&id) {
        pair.helper_of_a_ends(4);
        while pair.a.work() {}
    }
    assert_eq!(pair.a.replies[&id], 1, "{}", pair.logs());
    let after = pair.a.super_block().uuids;
    assert_eq!((after[1] & !1, after[2]), (before[0] & !1, before[2]), "{}", pair.logs());
}

/// fence-peer says that the peer is outdated, of before the nodes met: that does not count, and it is asked again.
fn assert_answer_is_late(pair: &mut Pair, first: HelperId) {
    pair.a.core.helper_done(pair.now, first, 4 << 8);
    while pair.a.work() {}
    assert_eq!((pair.a.word().0, pair.a.word().3), (Role::Secondary, Disk::DUnknown), "{}", pair.logs());
    pair.helper_of_a_ends(4);
    while pair.a.work() {}
    assert_eq!((pair.a.word().0, pair.a.word().3), (Role::Primary, Disk::Outdated), "{}", pair.logs());
}

/// A promotion is asked for when the parameters of a new connection are out already. Nobody is fenced before it is known what comes of
/// them: the peer may be Connected, and good again, though this node never gets as far.
#[test]
fn nobody_is_fenced_in_a_handshake() {
    for version in [90, 101] {
        let mut pair = fencing_pair_at(version, Fencing::ResourceOnly);
        assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1);
        pair.run();
        pair.lose_link();
        pair.b.command(Command::Outdate { volume: V });
        (pair.a.wants_link, pair.b.wants_link) = (true, true);
        while pair.a.word().1 != Conn::WFReportParams {
            pair.run_once();
        }
        let id = pair.a.begin(Command::Primary { volume: V, force: false });
        while pair.b.word().1 != Conn::Connected {
            let _ = pair.a.work() | pair.b.work();
            Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now);
            // That it is there it says.
            Pair::deliver(&mut pair.b, &mut pair.a, Socket::Meta, pair.now);
            Pair::deliver(&mut pair.a, &mut pair.b, Socket::Meta, pair.now);
        }
        assert_eq!(pair.a.running.as_ref().map(Vec::len), Some(0), "{}", pair.logs());
        assert_eq!(
            (pair.a.word().1, pair.b.word().2),
            (Conn::WFReportParams, Disk::UpToDate),
            "{}",
            pair.logs()
        );
        pair.lose_link();
        assert_eq!(pair.a.word().0, Role::Secondary, "{}", pair.logs());
        pair.helper_of_a_ends(4);
        while pair.a.work() {}
        assert_eq!((pair.a.word().0, pair.a.word().3), (Role::Primary, Disk::Outdated), "{}", pair.logs());
        assert_eq!(pair.a.replies[&id], 1, "{}", pair.logs());
    }
}

/// A resync to this node began, and was interrupted, while a forced promotion waited for fence-peer: the generation that ends with
/// the promotion is that of the resync, not the one of when it was asked for.
#[test]
fn a_forced_promotion_of_a_half_synced_disk_begins_one_generation() {
    let mut pair = fencing_pair(Fencing::ResourceOnly);
    assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1);
    pair.run();
    pair.lose_link();
    let id = pair.a.begin(Command::Primary { volume: V, force: true });
    while pair.a.work() {}
    let first = pair.a.running.take().and_then(|mut helpers| helpers.pop()).expect("fence-peer runs");
    pair.meet_again();
    pair.b.held = Some(Vec::new());
    pair.b.begin(Command::InvalidateRemote { volume: V });
    pair.run();
    assert_eq!((pair.a.word().1, pair.a.word().2), (Conn::SyncTarget, Disk::Inconsistent), "{}", pair.logs());
    pair.lose_link();
    let before = pair.a.super_block().uuids;
    pair.a.running = Some(vec![first]);
    while !pair.a.replies.contains_key(&id) {
        pair.helper_of_a_ends(4);
        while pair.a.work() {}
    }
    assert_eq!(pair.a.replies[&id], 1, "{}", pair.logs());
    let after = pair.a.super_block().uuids;
    assert_eq!((after[1] & !1, after[2]), (before[0] & !1, before[2]), "{}", pair.logs());
}

/// The nodes meet while a forced promotion waits for fence-peer, and this one has the good data: nothing is left to be forced. A new
/// generation would push the sync UUID out, which is all that the target knows.
#[test]
fn a_promotion_forces_nothing_that_is_good_meanwhile() {
    let mut pair = fencing_pair(Fencing::ResourceOnly);
    pair.lose_link();
    pair.a.write(4000, 99, 8192);
    while pair.a.work() {}
    assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1, "{}", pair.logs());
    assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
    pair.a.attach();
    assert_eq!(pair.a.word().2, Disk::Consistent, "{}", pair.logs());
    pair.a.running = Some(Vec::new());
    let id = pair.a.begin(Command::Primary { volume: V, force: true });
    while pair.a.work() {}
    let first = pair.a.running.take().and_then(|mut helpers| helpers.pop()).expect("fence-peer runs");
    pair.b.held = Some(Vec::new());
    pair.meet_again();
    assert_eq!((pair.a.word().1, pair.a.word().2), (Conn::SyncSource, Disk::UpToDate), "{}", pair.logs());
    let before = pair.a.super_block().uuids;
    pair.a.core.helper_done(pair.now, first, 4 << 8);
    pair.run();
    assert_eq!((pair.a.replies[&id], pair.a.word().0), (1, Role::Primary), "{}", pair.logs());
    assert_eq!(
        pair.a.super_block().uuids.map(|uuid| uuid & !1),
        before.map(|uuid| uuid & !1),
        "{}",
        pair.logs()
    );
    pair.lose_link();
    pair.run_disk_backwards();
    pair.meet_again();
    pair.assert_equal();
}

impl Pair {
    /// Lets every node and every socket do one thing. A ping of `a` is not answered, nor comes anything behind the answer. Helpers of
    /// `a` end.
    pub(super) fn run_without_answered_ping(&mut self) {
        let _ = self.a.work() | self.b.work();
        Pair::deliver(&mut self.a, &mut self.b, Socket::Meta, self.now);
        Pair::deliver(&mut self.a, &mut self.b, Socket::Data, self.now);
        Pair::deliver(&mut self.b, &mut self.a, Socket::Data, self.now);
        if !matches!(self.b.outgoing[Socket::Meta as usize].front(), Some((_, Packet::PingAck, _))) {
            Pair::deliver(&mut self.b, &mut self.a, Socket::Meta, self.now);
        }
        self.now += 5;
        self.b.core.timeout(self.now);
        if let Some(id) = self.a.running.as_mut().and_then(Vec::pop) {
            self.a.core.helper_done(self.now, id, 0);
        }
    }
}

/// The target never heard that it is one: it calls its disk UpToDate, and its Primary freezes until it is fenced.
#[test]
fn a_target_that_never_began_is_fenced() {
    let mut pair = fencing_pair(Fencing::ResourceAndStonith);
    pair.run();
    pair.b.begin(Command::Invalidate { volume: V });
    while pair.b.work() {}
    Pair::deliver(&mut pair.b, &mut pair.a, Socket::Data, pair.now);
    while pair.a.work() {}
    pair.helper_of_a_ends(0);
    while pair.a.work() {}
    assert_eq!((pair.a.word().1, pair.a.word().3), (Conn::SyncSource, Disk::Inconsistent), "{}", pair.logs());
    pair.lose_link();
    assert_eq!((pair.a.word().3, pair.b.word().2), (Disk::DUnknown, Disk::UpToDate), "{}", pair.logs());
    assert!(pair.a.core.volume(V).state().susp_fen, "{}", pair.logs());
    pair.helper_of_a_ends(4);
    while pair.a.work() {}
    assert!(!pair.a.core.volume(V).state().is_susp(), "{}", pair.logs());
}

/// The target has all, and calls its disk UpToDate; the link is lost before its source comes to the same end.
#[test]
fn a_target_that_may_be_done_is_fenced() {
    for told in [false, true] {
        let mut pair = fencing_pair(Fencing::ResourceAndStonith);
        let word = |node: &Node| (node.word().1, node.word().2);
        pair.b.begin(Command::Disconnect { force: true });
        pair.run();
        pair.helper_of_a_ends(4);
        let token = pair.a.write(4000, 99, 8192);
        pair.run();
        assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
        assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        while pair.a.word().1 != Conn::SyncSource {
            pair.run_once();
            if let Some(id) = pair.a.running.as_mut().and_then(Vec::pop) {
                pair.a.core.helper_done(pair.now, id, 0);
            }
        }
        for _ in 0..80 {
            pair.run_without_answered_ping();
            if !told && word(&pair.b) == (Conn::Connected, Disk::UpToDate) {
                break;
            }
        }
        assert_eq!(word(&pair.b), (Conn::Connected, Disk::UpToDate), "{}", pair.logs());
        assert_eq!((pair.a.word().1, pair.a.word().3), (Conn::SyncSource, Disk::Inconsistent));
        pair.lose_link();
        assert_eq!(pair.a.word().3, Disk::DUnknown, "{}", pair.logs());
        assert!(pair.a.core.volume(V).state().susp_fen, "{}", pair.logs());
    }
}

/// A target in the middle of a resync cannot be good: nobody is asked, and the Primary goes on.
#[test]
fn a_target_in_the_middle_of_a_resync_is_not_fenced() {
    let mut pair = fencing_pair(Fencing::ResourceAndStonith);
    pair.a.held = Some(Vec::new());
    pair.b.begin(Command::Invalidate { volume: V });
    for _ in 0..200 {
        pair.run_once();
        if let Some(id) = pair.a.running.as_mut().and_then(Vec::pop) {
            pair.a.core.helper_done(pair.now, id, 0);
        }
    }
    assert_eq!((pair.a.word().1, pair.b.word().1), (Conn::SyncSource, Conn::SyncTarget), "{}", pair.logs());
    let held = pair.a.held.take().unwrap_or_default();
    assert!(!held.is_empty());
    pair.lose_link();
    pair.a.carry_out_all(held);
    while pair.a.work() {}
    assert_eq!(pair.a.word().3, Disk::Inconsistent, "{}", pair.logs());
    assert!(!pair.a.core.volume(V).state().is_susp(), "{}", pair.logs());
}

/// The link is lost when both nodes have agreed to a promotion: who is frozen from its first moment on begins no generation until the
/// peer is fenced. If it is this node that is fenced, the peer's generation is not another one of the same parent.
#[test]
fn a_promotion_that_loses_the_link_begins_no_generation_while_frozen() {
    let mut pair = fencing_pair(Fencing::ResourceAndStonith);
    assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1);
    pair.run();
    let before = pair.a.super_block().uuids;
    pair.a.meta_held = Some(Vec::new());
    let promotion = pair.a.begin(Command::Primary { volume: V, force: false });
    pair.run();
    assert_eq!(pair.a.word().0, Role::Primary, "{}", pair.logs());
    pair.lose_link();
    while let Some(held) = pair.a.meta_held.take().filter(|held| !held.is_empty()) {
        pair.a.carry_out_all(held);
        pair.a.meta_held = Some(Vec::new());
        while pair.a.work() {}
    }
    pair.a.meta_held = None;
    pair.run();
    assert_eq!(pair.a.replies.get(&promotion), Some(&1), "{}", pair.logs());
    assert!(pair.a.core.volume(V).state().susp_fen, "{}", pair.logs());
    let now = pair.a.super_block().uuids;
    assert_eq!(
        now.map(crate::core::uuid::without_role),
        before.map(crate::core::uuid::without_role),
        "{}",
        pair.logs()
    );
    // The peer is fenced: what is owed begins.
    pair.helper_of_a_ends(7);
    pair.run();
    assert!(!pair.a.core.volume(V).state().is_susp(), "{}", pair.logs());
    assert_ne!(pair.a.super_block().uuids[1], 0, "{}", pair.logs());
}

impl Pair {
    /// `b` has missed what `a` wrote when the two were apart, and is only Consistent, for it cannot know that it has missed nothing. `a` has
    /// given its disk up. They have not met since.
    fn newest_data_given_up() -> Pair {
        let mut pair = fencing_pair(Fencing::ResourceAndStonith);
        pair.lose_link();
        assert_eq!(pair.b.command(Command::Detach { volume: V, force: false }), 1);
        pair.helper_of_a_ends(3);
        let token = pair.a.write(4000, 99, 8192);
        while pair.a.work() {}
        assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
        pair.b.attach();
        assert_eq!(pair.b.word().2, Disk::Consistent, "{}", pair.logs());
        pair.b.running = Some(Vec::new());
        pair
    }

    /// Fence-peer cannot reach `a`: `b` is not promoted.
    fn assert_b_is_not_promoted(&mut self) {
        assert_eq!(self.b.word().2, Disk::Consistent, "{}", self.logs());
        let id = self.b.begin(Command::Primary { volume: V, force: false });
        while self.b.work() {}
        let helper = self.b.running.as_mut().and_then(Vec::pop).expect("fence-peer runs");
        self.b.core.helper_done(self.now, helper, 5 << 8);
        while self.b.work() {}
        assert_eq!(self.b.replies[&id], -2, "{}", self.logs());
    }
}

/// A Primary that has given its disk up does not take the older data of its peer: it is still not known to the peer that they are good.
#[test]
fn data_that_a_primary_without_a_disk_refuses_are_not_the_good_ones() {
    let mut pair = Pair::newest_data_given_up();
    pair.a.running = None;
    assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
    pair.meet_again();
    assert_eq!((pair.a.word().0, pair.a.word().1), (Role::Primary, Conn::StandAlone), "{}", pair.logs());
    pair.assert_b_is_not_promoted();
}

/// A Secondary that has given its disk up tells nothing about how new that is. Its peer serves it, and is promoted beside it; alone it is what
/// it was before, unless it has been promoted.
#[test]
fn a_peer_without_a_disk_makes_an_unknown_disk_good_as_long_as_it_is_there() {
    for promoted in [false, true] {
        let mut pair = Pair::newest_data_given_up();
        assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1);
        assert_eq!(pair.a.command(Command::Detach { volume: V, force: false }), 1);
        pair.meet_again();
        assert_eq!((pair.b.word().1, pair.b.word().2), (Conn::Connected, Disk::UpToDate), "{}", pair.logs());
        if !promoted {
            pair.lose_link();
            pair.assert_b_is_not_promoted();
            pair.meet_again();
            assert_eq!(pair.b.word().2, Disk::UpToDate, "{}", pair.logs());
            continue;
        }
        let id = pair.b.begin(Command::Primary { volume: V, force: false });
        pair.run();
        assert_eq!(pair.b.replies[&id], 1, "{}", pair.logs());
        pair.b.begin(Command::Secondary { volume: V, open: false });
        pair.run();
        pair.lose_link();
        assert_eq!((pair.b.word().0, pair.b.word().2), (Role::Secondary, Disk::UpToDate), "{}", pair.logs());
    }
}

/// The same if it is the Primary that has no disk, and goes on with the data of its peer.
#[test]
fn data_that_a_primary_without_a_disk_takes_are_the_good_ones() {
    let mut pair = fencing_pair(Fencing::ResourceAndStonith);
    pair.a.running = None;
    pair.a.begin(Command::Secondary { volume: V, open: false });
    pair.run();
    pair.lose_link();
    for node in [&mut pair.a, &mut pair.b] {
        assert_eq!(node.command(Command::Detach { volume: V, force: false }), 1);
    }
    pair.b.attach();
    assert_eq!(pair.b.word().2, Disk::Consistent, "{}", pair.logs());
    pair.meet_again();
    pair.a.begin(Command::Primary { volume: V, force: false });
    pair.run();
    assert_eq!((pair.a.word().0, pair.b.word().2), (Role::Primary, Disk::UpToDate), "{}", pair.logs());
    pair.lose_link();
    assert_eq!(pair.b.word().2, Disk::UpToDate, "{}", pair.logs());
}

/// A Primary without a disk, frozen or not, is out of reach, and somebody outdates the peer: what it has are the data that the Primary knows of,
/// which are good again when the two meet.
#[test]
fn who_was_outdated_is_good_again_for_a_primary_that_needs_its_data() {
    for on_no_data_accessible in [OnNoData::IoError, OnNoData::SuspendIo] {
        let mut pair = fencing_pair(Fencing::ResourceOnly);
        pair.a.running = None;
        pair.a.when_data_are_lost(on_no_data_accessible);
        assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
        pair.run();
        pair.lose_link();
        assert_eq!(pair.b.command(Command::Outdate { volume: V }), 1);
        assert_eq!(pair.b.word().2, Disk::Outdated, "{}", pair.logs());
        pair.meet_again();
        assert_eq!((pair.a.word().2, pair.a.word().3), (Disk::Diskless, Disk::UpToDate), "{}", pair.logs());
        assert_eq!(pair.b.word().2, Disk::UpToDate, "{}", pair.logs());
        let token = pair.a.write(4000, 99, 8192);
        pair.run();
        assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
        pair.a.attach();
        pair.run();
        pair.assert_equal();
        assert_eq!(pair.b.data[4000 * 512], 99);
    }
}

/// An administrator who says that the peer's data do not count does not say that it has been fenced.
#[test]
fn invalidate_remote_does_not_stand_for_a_fenced_peer() {
    let mut pair = fencing_pair(Fencing::ResourceAndStonith);
    pair.a.running = Some(Vec::new());
    pair.lose_link();
    pair.a.begin(Command::Disconnect { force: false });
    while pair.a.work() {}
    assert_eq!(pair.a.word().1, Conn::StandAlone, "{}", pair.logs());
    let token = pair.a.write(4000, 99, 8192);
    assert_eq!(pair.a.command(Command::InvalidateRemote { volume: V }), -7, "{}", pair.logs());
    assert!(!pair.a.completed.contains_key(&token), "{}", pair.logs());
    assert_eq!(pair.a.word().3, Disk::DUnknown, "{}", pair.logs());
    pair.a.command(Command::ResumeIo { volume: V });
    while pair.a.work() {}
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    assert_eq!(pair.a.command(Command::InvalidateRemote { volume: V }), 1, "{}", pair.logs());
}

/// A peer whose disk is Outdated takes it for good by the words of a handshake of which this node hears nothing. When that link is lost, the peer does not
/// count as fenced any more.
#[test]
fn who_may_have_been_lifted_by_a_handshake_counts_as_fenced_no_more() {
    let mut pair = fencing_pair(Fencing::ResourceOnly);
    pair.a.running = None;
    pair.demote_a();
    pair.b.begin(Command::Disconnect { force: false });
    pair.run();
    // It was fenced, and nobody has been promoted.
    assert_eq!(pair.b.command(Command::Outdate { volume: V }), 1, "{}", pair.logs());
    assert!(pair.a.core.change(V, Change::pdsk(Disk::Outdated), ChangeKind::Hard, false).is_ok());
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    let mut steps = 0..1000;
    while pair.a.word().1 != Conn::WFReportParams && steps.next().is_some() {
        pair.run_once();
    }
    for _ in 0..100 {
        let _ = pair.a.work() | pair.b.work();
        Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now);
        Pair::deliver(&mut pair.a, &mut pair.b, Socket::Meta, pair.now);
        Pair::deliver(&mut pair.b, &mut pair.a, Socket::Meta, pair.now);
    }
    assert_eq!((pair.b.word().2, pair.a.word().1), (Disk::UpToDate, Conn::WFReportParams), "{}", pair.logs());
    pair.lose_link();
    assert_eq!(pair.a.word().3, Disk::DUnknown, "{}", pair.logs());
}
