//! Nodes that have given their disk up, or are about to: which data they go by, and which stay good.

use super::*;
use crate::core::state::StateWord;

impl Pair {
    /// Everything but acknowledgements and answers from `a` to `b` goes its way.
    pub(super) fn run_with_a_slow_meta_socket(&mut self, done: impl Fn(&Pair) -> bool) {
        for _ in 0..200 {
            let _ = self.a.work() | self.b.work();
            if done(self) {
                return;
            }
            Self::deliver(&mut self.a, &mut self.b, Socket::Data, self.now);
            Self::deliver(&mut self.b, &mut self.a, Socket::Data, self.now);
            Self::deliver(&mut self.b, &mut self.a, Socket::Meta, self.now);
        }
        panic!("it does not happen\n{}", self.logs());
    }

    pub(super) fn demote_a(&mut self) {
        let id = self.a.begin(Command::Secondary { volume: V, open: false });
        self.run();
        assert_eq!(self.a.replies[&id], 1, "{}", self.logs());
    }

    /// `a` gives its disk up, with the consent of `b`, before it reads what that has sent on the data socket. `meanwhile`: what `b` does when it has
    /// consented, and `a` does not know.
    pub(super) fn detach_a_before_it_reads(&mut self, meanwhile: impl FnOnce(&mut Node)) {
        self.a.begin(Command::Detach { volume: V, force: false });
        while self.a.work() {}
        while Pair::deliver(&mut self.a, &mut self.b, Socket::Data, self.now) {}
        while self.b.work() {}
        meanwhile(&mut self.b);
        while Pair::deliver(&mut self.b, &mut self.a, Socket::Meta, self.now) {}
        while self.a.work() {}
        assert_eq!(self.a.word().2, Disk::Diskless, "{}", self.logs());
    }

    /// `b` becomes the target of a full sync that `a` does not get on with.
    pub(super) fn full_sync_to_b(&mut self) {
        self.a.held = Some(Vec::new());
        self.b.begin(Command::Invalidate { volume: V });
        self.run();
        assert_eq!(
            (self.b.word().1, self.b.word().2),
            (Conn::SyncTarget, Disk::Inconsistent),
            "{}",
            self.logs()
        );
    }

    /// Both crash, come back, and meet.
    fn both_crash(&mut self, protocol: Protocol) {
        for node in [&mut self.a, &mut self.b] {
            node.restart(77);
            assert_eq!(node.command(Command::Connect(Box::new(settings(protocol)))), 101);
        }
        self.linked = false;
        self.run();
    }

    /// What the disk of `a` held back comes back.
    pub(super) fn release_a(&mut self) {
        let held = self.a.held.take().unwrap_or_default();
        self.a.carry_out_all(held);
        while self.a.work() {}
    }

    /// `b`, whose disk is in this state, and whose meta data are not written, is told to detach: it waits, and attaches it well later.
    fn assert_detach_waits(mut self, disk: Disk) {
        let id = self.b.begin(Command::Detach { volume: V, force: false });
        // An answer on the other socket would be slower than what the peer says.
        for _ in 0..20 {
            let _ = self.b.work() | self.a.work();
            Self::deliver(&mut self.b, &mut self.a, Socket::Data, self.now);
            Self::deliver(&mut self.a, &mut self.b, Socket::Data, self.now);
        }
        assert_eq!(self.b.word().2, disk, "{}", self.logs());
        self.release_meta_data_of_b();
        self.run();
        assert_eq!((self.b.replies[&id], self.b.word().2), (1, Disk::Diskless), "{}", self.logs());
        self.b.attach();
        self.run();
        self.assert_equal();
    }

    /// The meta data writes that `b` held back are done, and all that follow them; no packet is delivered meanwhile.
    fn release_meta_data_of_b(&mut self) {
        while let Some(held) = self.b.meta_held.take().filter(|held| !held.is_empty()) {
            self.b.carry_out_all(held);
            self.b.meta_held = Some(Vec::new());
            while self.b.work() {}
        }
    }
}

/// The Primary lets the Secondary detach, begins a generation of its own, writes into it, and has to give its disk up before the
/// Secondary has the answer. The Secondary knows by then that its data are old: it begins no generation with them.
#[test]
fn who_is_about_to_detach_begins_no_generation_with_old_data() {
    let mut pair = synced_pair();
    let before = pair.b.super_block().uuids[0];
    pair.b.begin(Command::Detach { volume: V, force: false });
    pair.run_with_a_slow_meta_socket(|pair| {
        pair.a.super_block().uuids[1] != 0 && pair.a.outgoing[0].is_empty()
    });
    let token = pair.a.write(4000, 99, 8192);
    while pair.a.work() {}
    assert!(pair.a.completed.get(&token).is_some_and(Result::is_ok), "{}", pair.logs());
    assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
    pair.run_with_a_slow_meta_socket(|pair| pair.b.word().3 == Disk::Diskless);
    while pair.b.work() {}
    let block = pair.b.super_block();
    assert_eq!((block.uuids[0] & !1, block.uuids[1]), (before & !1, 0), "{}", pair.logs());
    pair.lose_link();
    pair.a.attach();
    assert_eq!(pair.a.word().2, Disk::UpToDate, "{}", pair.logs());
    pair.meet_again();
    if pair.b.word().2 == Disk::Diskless {
        pair.b.attach();
        pair.run();
    }
    pair.assert_equal();
    assert_eq!(pair.a.data[4000 * 512], 99, "{}", pair.logs());
}

/// The target of a resync has all blocks, and waits for the last answer, when it asks to be let go. The Primary agrees, and writes in a
/// generation of its own: the target's data are not of that one.
#[test]
fn who_is_about_to_detach_does_not_end_its_resync_in_a_generation_without_its_disk() {
    let mut pair = synced_pair();
    pair.lose_link();
    pair.a.write(2000, 98, 8192);
    pair.a.wants_link = true;
    pair.b.wants_link = true;
    while pair.b.word().1 != Conn::SyncTarget {
        pair.run_once();
    }
    let left = |node: &Node| node.core.volume(V).out_of_sync_bits();
    while left(&pair.a) > 0 && pair.b.word().1 == Conn::SyncTarget {
        pair.now += 25;
        pair.b.core.timeout(pair.now);
        let _ = pair.a.work() | pair.b.work();
        Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now);
        Pair::deliver(&mut pair.b, &mut pair.a, Socket::Data, pair.now);
        Pair::deliver(&mut pair.b, &mut pair.a, Socket::Meta, pair.now);
    }
    assert_eq!(left(&pair.b), 0, "{}", pair.logs());
    assert_eq!(pair.b.word().1, Conn::SyncTarget, "{}", pair.logs());
    // The answer that ends the resync goes out before that to the request.
    let answered = |node: &Node| {
        node.outgoing[Socket::Meta as usize].iter().any(|(_, packet, _)| matches!(packet, Packet::PingAck))
    };
    while pair.b.work() || Pair::deliver(&mut pair.b, &mut pair.a, Socket::Meta, pair.now) || pair.a.work() {}
    assert!(answered(&pair.a), "{}", pair.logs());
    let id = pair.b.begin(Command::Detach { volume: V, force: false });
    while pair.b.work() || Pair::deliver(&mut pair.b, &mut pair.a, Socket::Data, pair.now) || pair.a.work() {}
    assert_eq!(pair.a.word().3, Disk::Failed, "{}", pair.logs());
    while Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now) || pair.b.work() {}
    let token = pair.a.write(4000, 99, 8192);
    while pair.a.work() {}
    assert!(pair.a.completed.get(&token).is_some_and(Result::is_ok), "{}", pair.logs());
    pair.run();
    assert_eq!((pair.b.replies[&id], pair.b.word().2), (1, Disk::Diskless), "{}", pair.logs());
    let current = |node: &Node| node.super_block().uuids[0] & !1;
    assert_ne!(current(&pair.a), current(&pair.b), "{}", pair.logs());
    pair.b.attach();
    pair.run();
    pair.assert_equal();
    assert_eq!(pair.a.data[4000 * 512], 99, "{}", pair.logs());
}

/// The source of a resync gives its disk up, and the target attaches its half-synced one again. The source's own data stay the good
/// ones, also if the target's disk goes while the source attaches.
#[test]
fn a_half_synced_disk_that_the_peer_attaches_makes_no_good_one_old() {
    let mut pair = synced_pair();
    pair.demote_a();
    pair.full_sync_to_b();
    pair.a.command(Command::Detach { volume: V, force: true });
    pair.release_a();
    pair.run();
    assert_eq!((pair.b.word().2, pair.b.word().3), (Disk::Inconsistent, Disk::Diskless), "{}", pair.logs());
    pair.b.command(Command::Detach { volume: V, force: true });
    pair.run();
    pair.b.attach();
    pair.run();
    assert_eq!((pair.a.word().2, pair.a.word().3), (Disk::Diskless, Disk::Inconsistent), "{}", pair.logs());
    pair.a.attach();
    assert_eq!(pair.a.word().2, Disk::Negotiating, "{}", pair.logs());
    pair.b.command(Command::Detach { volume: V, force: true });
    pair.run();
    assert_eq!((pair.a.word().2, pair.b.word().2), (Disk::UpToDate, Disk::Diskless), "{}", pair.logs());
    pair.b.attach();
    pair.run();
    pair.assert_equal();
}

/// A disk turns out to be old when it is attached, for the peer's newer one goes at the same time: the peer hears of it, and is not
/// promoted on top of old data.
#[test]
fn the_peer_hears_that_an_attached_disk_is_old() {
    let mut pair = synced_pair();
    pair.demote_a();
    pair.a.begin(Command::Detach { volume: V, force: false });
    pair.run();
    pair.b.begin(Command::Primary { volume: V, force: false });
    pair.run();
    pair.b.write(4000, 99, 8192);
    pair.run();
    pair.b.begin(Command::Secondary { volume: V, open: false });
    pair.run();
    pair.a.attach();
    assert_eq!(pair.a.word().2, Disk::Negotiating, "{}", pair.logs());
    pair.b.command(Command::Detach { volume: V, force: true });
    pair.run();
    assert_eq!((pair.a.word().2, pair.b.word().2), (Disk::Outdated, Disk::Diskless), "{}", pair.logs());
    assert_ne!(pair.b.word().3, Disk::UpToDate, "{}", pair.logs());
    let id = pair.b.begin(Command::Primary { volume: V, force: false });
    pair.run();
    assert_eq!(pair.b.replies[&id], -2, "{}", pair.logs());
    pair.b.attach();
    pair.run();
    pair.assert_equal();
    assert_eq!(pair.a.data[4000 * 512], 99, "{}", pair.logs());
}

/// The target of a resync is promoted, loses the link, then its disk: its application worked with the data of the source.
#[test]
fn a_target_that_is_promoted_works_with_the_data_of_its_source() {
    let mut pair = synced_pair();
    pair.demote_a();
    pair.full_sync_to_b();
    let id = pair.b.begin(Command::Primary { volume: V, force: false });
    pair.run();
    assert_eq!(pair.b.replies[&id], 1, "{}", pair.logs());
    pair.lose_link();
    pair.b.command(Command::Detach { volume: V, force: true });
    assert_eq!((pair.b.word().0, pair.b.word().2), (Role::Primary, Disk::Diskless), "{}", pair.logs());
    pair.release_a();
    pair.meet_again();
    assert_eq!((pair.b.word().1, pair.b.word().3), (Conn::Connected, Disk::UpToDate), "{}", pair.logs());
    pair.b.attach();
    pair.run();
    pair.assert_equal();
}

/// A disk is attached, given up and attached again before the peer's answer to the first time comes. It is no answer to the second: of
/// what was written in between the bitmap that comes with it does not tell.
#[test]
fn a_disk_that_is_attached_twice_waits_for_the_second_answer() {
    let mut pair = synced_pair();
    assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
    pair.run();
    pair.a.write(4000, 98, 8192);
    pair.run();
    pair.a.attach();
    while Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now) || pair.b.work() {}
    assert_eq!((pair.a.word().2, pair.b.word().1), (Disk::Negotiating, Conn::WFBitMapS), "{}", pair.logs());
    assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
    let token = pair.a.write(8000, 99, 8192);
    while !pair.a.completed.contains_key(&token) || pair.a.core.has_open_epochs(V) {
        while pair.a.work()
            || pair.b.work()
            || Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now)
            || Pair::deliver(&mut pair.b, &mut pair.a, Socket::Meta, pair.now)
        {}
        pair.now += 25;
        pair.a.core.timeout(pair.now);
    }
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    pair.a.attach();
    pair.run();
    assert!(!pair.a.log.iter().any(|line| line.contains("ProtocolError")), "{}", pair.logs());
    pair.assert_equal();
}

/// Nor are the UUIDs that the peer sent when the disk went, for the generation that it began then, and its state word of before it heard of the
/// attach. (The nodes would go on at different times: where both disks grew, they exchanged bitmaps of two sizes.)
#[test]
fn a_disk_that_is_attached_waits_for_the_word_of_a_peer_that_has_heard_of_it() {
    let mut pair = synced_pair();
    assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
    while Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now) || pair.a.work() | pair.b.work() {}
    assert_eq!(pair.b.command(Command::PauseSync { volume: V }), 101);
    pair.a.attach();
    while Pair::deliver(&mut pair.b, &mut pair.a, Socket::Data, pair.now) || pair.a.work() {}
    assert_eq!((pair.a.word().1, pair.a.word().2), (Conn::Connected, Disk::Negotiating), "{}", pair.logs());
    assert_eq!(pair.b.command(Command::ResumeSync { volume: V }), 101);
    pair.run();
    pair.assert_equal();
}

/// Protocol B: a Primary without a disk is demoted when its last write waits for the activity log of its peer (a kernel does not wait for
/// the barrier). The mark that it relies on stays until the write is there, and the peer goes on listening.
#[test]
fn the_last_write_of_a_primary_without_a_disk_gets_to_the_disk() {
    let mut pair = synced_pair_with(Protocol::B);
    assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
    pair.run();
    pair.b.meta_held = Some(Vec::new());
    // Two extents, one transaction each. The disk is free to write the super block first.
    let tokens = [pair.a.write(16384, 98, 4096), pair.a.write(32768, 99, 4096)];
    while !tokens.iter().all(|token| pair.a.completed.contains_key(token)) {
        assert!(pair.run_once(), "{}", pair.logs());
    }
    let mut word = pair.a.core.volume(V).state();
    word.role = Role::Secondary;
    let word = crate::core::handshake::state_packet(word);
    pair.b.core.packet(pair.now, Socket::Data, 0, word, None);
    while pair.b.work() {}
    assert_eq!(pair.b.core.volume(V).state().peer, Role::Secondary, "{}", pair.logs());
    assert_eq!(pair.b.core.volume(V).counters().unacked, 2, "{}", pair.logs());
    while let Some(mut held) = pair.b.meta_held.take().filter(|held| !held.is_empty()) {
        let last = held.pop();
        last.into_iter().for_each(|output| pair.b.carry_out(output));
        pair.b.meta_held = Some(held);
        pair.run();
    }
    pair.b.meta_held = None;
    pair.run();
    assert_eq!((pair.b.data[16384 * 512], pair.b.data[32768 * 512]), (98, 99), "{}", pair.logs());
    assert_eq!(pair.b.core.volume(V).counters().unacked, 0, "{}", pair.logs());
}

/// The peer lets a node without a disk become Primary, and loses its own disk before the answer gets there: the promotion fails, and no
/// generation has begun that nobody wrote in.
#[test]
fn a_promotion_without_data_begins_no_generation() {
    let mut pair = synced_pair();
    pair.demote_a();
    pair.a.begin(Command::Detach { volume: V, force: false });
    pair.run();
    let before = pair.b.super_block().uuids;
    let id = pair.a.begin(Command::Primary { volume: V, force: false });
    let agreed = |pair: &Pair| pair.b.core.volume(V).state().peer == Role::Primary;
    while !agreed(&pair) {
        let _ = pair.a.work() | pair.b.work();
        Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now);
    }
    while pair.b.work() {}
    assert_eq!(pair.b.command(Command::Detach { volume: V, force: true }), 1);
    while pair.a.word().3 != Disk::Diskless {
        let _ = pair.a.work() | pair.b.work();
        Pair::deliver(&mut pair.b, &mut pair.a, Socket::Data, pair.now);
    }
    pair.run();
    assert_eq!(pair.a.replies[&id], -2, "{}", pair.logs());
    assert_eq!(pair.b.super_block().uuids, before, "{}", pair.logs());
    pair.a.attach();
    pair.run();
    pair.a.begin(Command::Primary { volume: V, force: false });
    pair.run();
    let token = pair.a.write(4000, 99, 8192);
    pair.run();
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    pair.b.attach();
    pair.run();
    pair.assert_equal();
}

/// One that succeeds begins it before the first write completes.
#[test]
fn a_primary_without_a_disk_writes_in_a_generation_of_its_own() {
    let mut pair = synced_pair();
    pair.demote_a();
    pair.a.begin(Command::Detach { volume: V, force: false });
    pair.run();
    assert_eq!(pair.b.super_block().uuids[1], 0, "{}", pair.logs());
    pair.a.begin(Command::Primary { volume: V, force: false });
    pair.run();
    assert_ne!(pair.b.super_block().uuids[1], 0, "{}", pair.logs());
    let token = pair.a.write(4000, 99, 8192);
    pair.run();
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    pair.lose_link();
    pair.meet_again();
    assert_eq!((pair.a.word().1, pair.a.word().3), (Conn::Connected, Disk::UpToDate), "{}", pair.logs());
    pair.a.attach();
    pair.run();
    pair.assert_equal();
}

/// The peer, the target of a resync that began anew, gives its disk up, attaches it, and loses it before it could send the UUIDs: what it
/// said of the disk before the resync decides nothing, and this node's slots stay.
#[test]
fn a_disk_that_went_before_its_uuids_were_sent_is_not_taken_for_the_one_before() {
    let mut pair = synced_pair();
    pair.lose_link();
    pair.run();
    pair.a.write(4000, 99, 8192);
    pair.run();
    for again in [true, false] {
        (pair.a.wants_link, pair.b.wants_link) = (true, true);
        while pair.b.word().1 != Conn::SyncTarget {
            pair.run_once();
        }
        if again {
            pair.lose_link();
        }
    }
    assert_eq!(pair.b.command(Command::Detach { volume: V, force: true }), 1);
    pair.run();
    assert_eq!(pair.b.word().2, Disk::Diskless, "{}", pair.logs());
    let before = pair.a.super_block().uuids;
    pair.b.meta_held = Some(Vec::new());
    pair.b.try_attach();
    while pair.b.word().2 != Disk::Negotiating {
        pair.b.release_meta();
        pair.b.meta_held = Some(Vec::new());
        while pair.b.work() {}
    }
    assert_eq!(pair.b.command(Command::Detach { volume: V, force: true }), 1);
    pair.b.release_meta();
    pair.run();
    assert_eq!(pair.b.word().2, Disk::Diskless, "{}", pair.logs());
    assert_eq!(pair.a.super_block().uuids, before, "{}", pair.logs());
    pair.b.attach();
    pair.run();
    pair.assert_equal();
}

/// The peer attaches an older disk, and the Primary loses its own between the UUIDs of that disk and the word that it is there: it does not go
/// on with these data, nor is a write done that only they have.
#[test]
fn a_primary_that_loses_its_disk_does_not_take_an_older_one_that_the_peer_attaches() {
    let mut pair = synced_pair();
    assert_eq!(pair.b.command(Command::Detach { volume: V, force: true }), 1);
    pair.run();
    pair.a.write(4000, 99, 8192);
    pair.run();
    pair.b.attach();
    while pair.b.work() {}
    let attaches = |packet: &Packet| matches!(packet, Packet::State(word) if StateWord::from_bits(*word).unwrap().disk == Disk::Negotiating);
    while !pair.b.outgoing[Socket::Data as usize].front().is_some_and(|(_, packet, _)| attaches(packet)) {
        assert!(Pair::deliver(&mut pair.b, &mut pair.a, Socket::Data, pair.now), "{}", pair.logs());
        while pair.a.work() {}
    }
    pair.a.command(Command::Detach { volume: V, force: true });
    while pair.a.work() {}
    let token = pair.a.write(6000, 98, 4096);
    pair.run();
    assert_ne!(pair.a.word().3, Disk::UpToDate, "{}", pair.logs());
    assert!(pair.a.completed[&token].is_err(), "{}", pair.logs());
    pair.a.attach();
    assert_eq!(pair.a.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.run();
    pair.assert_equal();
}

/// A disk is given up by force while it is attached, and does not stay. The peer has not heard of it at all, and answers the next one.
#[test]
fn a_disk_that_is_given_up_by_force_while_it_is_attached_does_not_stay() {
    for connected in [true, false] {
        let mut pair = synced_pair();
        assert_eq!(pair.b.command(Command::Detach { volume: V, force: true }), 1);
        pair.run();
        if !connected {
            pair.lose_link();
        }
        pair.b.log.clear();
        pair.b.meta_held = Some(Vec::new());
        pair.b.try_attach();
        assert_eq!(pair.b.word().2, Disk::Attaching, "{}", pair.logs());
        assert_eq!(pair.b.command(Command::Detach { volume: V, force: true }), 1);
        pair.release_meta_data_of_b();
        pair.run();
        assert_eq!(pair.b.word().2, Disk::Diskless, "{}", pair.logs());
        assert!(!pair.a.log.iter().any(|line| line.contains("Diskless -> Failed")), "{}", pair.logs());
        pair.b.attach();
        if !connected {
            pair.meet_again();
        }
        pair.run();
        pair.assert_equal();
    }
}

/// `b` has given its disk up, and attaches it again; its meta data writes are held back.
fn pair_that_attaches_b() -> Pair {
    let mut pair = synced_pair();
    assert_eq!(pair.b.command(Command::Detach { volume: V, force: true }), 1);
    pair.run();
    pair.b.meta_held = Some(Vec::new());
    pair.b.try_attach();
    pair
}

/// A disk is to go before it is attached, and the order waits for that: the peer, which would hear of the detach first, would
/// not answer the disk when it negotiates, and the answer would be waited for at the next attach.
#[test]
fn a_detach_waits_for_the_end_of_the_attach() {
    pair_that_attaches_b().assert_detach_waits(Disk::Attaching);
}

/// The same, and the peer has not heard yet of the disk that negotiates: what tells it waits in the fifo for the super block.
#[test]
fn a_detach_waits_until_the_peer_has_answered_an_attached_disk() {
    let mut pair = pair_that_attaches_b();
    for _ in 0..20 {
        pair.b.work();
        if pair.b.word().2 == Disk::Attaching {
            pair.b.release_meta();
            pair.b.meta_held = Some(Vec::new());
        }
    }
    assert_eq!(pair.b.word().2, Disk::Negotiating, "{}", pair.logs());
    pair.assert_detach_waits(Disk::Negotiating);
}

/// A Primary without a disk attaches it, and the peer gives its own up while writes of before wait for its activity log, which is
/// not written any more: they fail, instead of holding up all that was decided since, the end of that disk first.
#[test]
fn a_write_that_waits_for_the_log_of_a_failed_disk_fails() {
    let mut pair = synced_pair();
    assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
    pair.run();
    pair.b.meta_held = Some(Vec::new());
    let tokens = [pair.a.write(16384, 98, 4096), pair.a.write(32768, 99, 4096)];
    pair.run();
    assert_eq!(pair.b.core.volume(V).counters().unacked, 2, "{}", pair.logs());
    pair.a.attach();
    pair.run();
    assert_eq!(pair.b.word().1, Conn::SyncSource, "{}", pair.logs());
    assert_eq!(pair.b.command(Command::Detach { volume: V, force: true }), 1);
    for _ in 0..20 {
        pair.b.release_meta();
        pair.b.meta_held = Some(Vec::new());
        pair.run();
    }
    pair.b.meta_held = None;
    assert_eq!(pair.b.word().2, Disk::Diskless, "{}", pair.logs());
    assert!(tokens.iter().all(|token| pair.a.completed.contains_key(token)), "{}", pair.logs());
    assert_eq!(pair.b.core.volume(V).counters().unacked, 0, "{}", pair.logs());
    assert_eq!(pair.a.word().3, Disk::Diskless, "{}", pair.logs());
}

/// A frozen Primary without a disk meets a disk that becomes good only by the word that it is Connected: what it writes there from then on is
/// of a generation that its own disk does not have.
#[test]
fn a_frozen_primary_without_a_disk_writes_in_a_generation_of_its_own() {
    let mut pair = synced_pair();
    pair.a.when_data_are_lost(OnNoData::SuspendIo);
    pair.b.with_fencing(Fencing::ResourceOnly);
    pair.demote_a();
    pair.a.begin(Command::Detach { volume: V, force: false });
    pair.run();
    pair.a.begin(Command::Primary { volume: V, force: false });
    while pair.a.word().0 != Role::Primary {
        pair.run_once();
    }
    // The peer does not hear of that.
    pair.lose_link();
    assert!(pair.a.core.volume(V).state().is_susp(), "{}", pair.logs());
    let before = pair.b.super_block().uuids[0] & !1;
    pair.b.restart(77);
    assert_eq!(pair.b.word().2, Disk::Consistent, "{}", pair.logs());
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.meet_again();
    let token = pair.a.write(4000, 99, 4096);
    pair.run();
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    assert_ne!(pair.b.super_block().uuids[0] & !1, before, "{}", pair.logs());
    pair.a.restart(78);
    pair.a.wants_link = false;
    pair.run();
    assert_eq!(pair.a.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.run();
    pair.assert_equal();
    assert_eq!(pair.a.data[4000 * 512], 99, "{}", pair.logs());
}

/// After a split brain a node without its disk is made Primary: it works with the data of the other one. When it attaches the disk, no policy
/// gives these data up for those that are on it; the other way round one may.
#[test]
fn the_data_that_a_primary_works_with_are_not_given_up_for_a_disk_that_it_attaches() {
    use crate::conf::settings::AfterSplitBrain::{self, *};
    let policies: [(AfterSplitBrain, AfterSplitBrain, usize, bool); 3] = [
        (DiscardSecondary, Disconnect, 4096, false),
        (Violently, DiscardLeastChanges, 1 << 16, false),
        (Violently, DiscardLeastChanges, 4096, true),
    ];
    for (after_sb_1pri, after_sb_0pri, changed, solved) in policies {
        let net = NetSettings { after_sb_0pri, after_sb_1pri, ..settings(Protocol::C) };
        let mut pair = synced_pair();
        pair.b.command(Command::Disconnect { force: true });
        pair.run();
        pair.a.write(0, 7, changed);
        pair.run();
        assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1, "{}", pair.logs());
        pair.a.command(Command::Disconnect { force: true });
        assert_eq!(pair.a.command(Command::Detach { volume: V, force: false }), 1, "{}", pair.logs());
        assert_eq!(pair.b.command(Command::Primary { volume: V, force: false }), 1, "{}", pair.logs());
        pair.b.write(4000, 9, 8192);
        pair.run();
        assert_eq!(pair.b.command(Command::Secondary { volume: V, open: false }), 1, "{}", pair.logs());
        pair.connect(&net);
        let id = pair.a.begin(Command::Primary { volume: V, force: false });
        pair.run();
        assert_eq!(pair.a.replies[&id], 1, "{}", pair.logs());
        let token = pair.a.write(5000, 99, 4096);
        pair.run();
        assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
        pair.a.try_attach();
        pair.run();
        assert!(pair.logs().contains("uuid_compare()=100 by rule 90"), "{}", pair.logs());
        let now = if solved { Disk::UpToDate } else { Disk::Diskless };
        assert_eq!((pair.a.word().2, pair.b.word().2), (now, Disk::UpToDate), "{}", pair.logs());
        assert_eq!(pair.b.data[5000 * 512], 99, "{}", pair.logs());
        pair.a.core.read(pair.now, V, 12345, 5000, 4096);
        pair.run();
        assert_eq!(pair.a.completed[&12345], Ok(Some(vec![99; 4096])), "{}", pair.logs());
    }
}

/// A Primary without a disk writes to the peer's only. The peer's disk fails before the generation for that has begun, and is attached anew: it begins
/// then. Else the Primary's own disk would count as equal when it is attached.
#[test]
fn a_disk_that_is_attached_for_a_primary_without_one_begins_a_generation() {
    for version in [86, 101] {
        let mut pair = synced_pair_at(version, Protocol::C);
        pair.demote_a();
        assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1, "{}", pair.logs());
        pair.run();
        pair.b.meta_held = Some(Vec::new());
        let promotion = pair.a.begin(Command::Primary { volume: V, force: false });
        pair.run_with_a_slow_meta_socket(|pair| {
            pair.b.meta_held.as_ref().is_some_and(|held| !held.is_empty())
        });
        for output in pair.b.meta_held.take().expect("held") {
            let Output::MetaWrite { volume, io, .. } = output else { panic!("{output:?}") };
            pair.b.core.io_done(pair.now, volume, io, IoResult::Failed);
        }
        pair.run();
        assert_eq!(pair.a.replies[&promotion], 1, "{}", pair.logs());
        assert_eq!((pair.a.word().0, pair.a.word().3), (Role::Primary, Disk::Diskless), "{}", pair.logs());
        pair.b.attach();
        pair.run();
        let token = pair.a.write(4000, 99, 8192);
        pair.run();
        assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
        pair.a.attach();
        pair.run();
        assert_eq!(pair.a.data[4000 * 512], 99, "{}", pair.logs());
        pair.assert_equal();
    }
}

/// A Primary without its disk is asked for a verify, which it cannot do, while it meets a peer with older data: it is no reason to go on with
/// these. With its disk it brings its own.
#[test]
fn a_verify_in_a_handshake_connects_to_no_older_data() {
    let mut pair = synced_pair();
    let net = settings(Protocol::C);
    pair.b.begin(Command::Disconnect { force: true });
    pair.run();
    let token = pair.a.write(4000, 99, 8192);
    pair.run();
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
    pair.run();
    assert_eq!(pair.b.command(Command::Connect(Box::new(net.clone()))), 101);
    for _ in 0..100 {
        if pair.a.word().1 != Conn::WFReportParams {
            pair.run_once();
        }
    }
    let handshake = (Role::Primary, Conn::WFReportParams, Disk::Diskless, Disk::DUnknown);
    assert_eq!(pair.a.word(), handshake, "{}", pair.logs());
    let id = pair.a.begin(Command::Verify { volume: V, start: None, stop: None });
    while pair.a.work() {}
    assert_eq!(pair.a.word(), handshake, "{}", pair.logs());
    pair.run();
    assert!(pair.a.replies[&id] < 0, "{}", pair.logs());
    assert!(pair.a.log.iter().any(|line| line.starts_with("Can only connect to data")), "{}", pair.logs());
    assert_eq!(pair.b.core.volume(V).disk().unwrap().uuids.bitmap, 0, "{}", pair.logs());
    pair.a.attach();
    assert_eq!(pair.a.command(Command::Connect(Box::new(net))), 101);
    pair.run();
    pair.assert_equal();
    assert_eq!(pair.b.data[4000 * 512], 99);
}

/// A disk that has failed and goes on (`on-io-error pass_on`) is not what a Primary without one writes to, also if that has not heard of it:
/// with its own disk it would go on without such a write.
#[test]
fn a_write_to_a_disk_that_has_failed_is_not_done() {
    let mut pair = synced_pair();
    pair.b.core.local_error(V, 8000, 8, false);
    pair.b.core.timeout(pair.now);
    while pair.b.work() {}
    let news = std::mem::take(&mut pair.b.outgoing[Socket::Data as usize]);
    assert!(!news.is_empty(), "{}", pair.logs());
    assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
    let token = pair.a.write(4000, 99, 8192);
    pair.run();
    assert_eq!(pair.a.completed.get(&token), Some(&Err(IoError)), "{}", pair.logs());
    pair.b.outgoing[Socket::Data as usize].extend(news);
    pair.run();
    assert_eq!((pair.a.word().2, pair.a.word().3), (Disk::Diskless, Disk::Inconsistent), "{}", pair.logs());
    pair.a.attach();
    pair.run();
    pair.assert_equal();
}

/// A Primary without its disk loses its peer with a write under way, is frozen, and demoted: the write is still to be done, and is sent again when the
/// peer is back, which has no Primary to log it for.
#[test]
fn what_was_frozen_when_a_node_without_a_disk_was_demoted_is_written() {
    for version in [86, 101] {
        let mut pair = synced_pair_at(version, Protocol::A);
        pair.a.when_data_are_lost(OnNoData::SuspendIo);
        pair.a.begin(Command::Detach { volume: V, force: false });
        pair.run();
        pair.b.held = Some(Vec::new());
        pair.a.write(4000, 99, 8192);
        pair.run_for_a_while();
        let id = pair.a.begin(Command::Secondary { volume: V, open: false });
        pair.run_for_a_while();
        pair.lose_link();
        pair.b.held = None;
        pair.b.restart(77);
        pair.run();
        assert_eq!(pair.a.word().0, Role::Secondary, "{}", pair.logs());
        assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::A)))), 101);
        pair.meet_again();
        assert_eq!(pair.a.replies.get(&id), Some(&1), "{}", pair.logs());
        assert_eq!(pair.b.data[4000 * 512..][..8192], [99; 8192]);
        assert!(!pair.b.super_block().flags.contains(MetaFlags::PRIMARY_IND), "{}", pair.logs());
        pair.a.attach();
        pair.run();
        pair.assert_equal();
    }
}

/// The Secondary lets the Primary detach, and both crash before that one has heard it: it wrote to its disk until then, by protocol A more than
/// reached the other.
#[test]
fn a_primary_that_crashes_before_it_hears_that_it_may_detach_has_the_data() {
    for version in [86, 101] {
        let mut pair = synced_pair_at(version, Protocol::A);
        pair.a.begin(Command::Detach { volume: V, force: false });
        pair.run_data_to_b();
        assert_eq!((pair.a.word().2, pair.b.word().3), (Disk::UpToDate, Disk::Failed), "{}", pair.logs());
        pair.a.write(5000, 88, 8192);
        pair.run_data_to_b();
        assert!(!pair.b.super_block().flags.contains(MetaFlags::PRIMARY_IND), "{}", pair.logs());
        let token = pair.a.write(4000, 99, 8192);
        while pair.a.work() {}
        assert!(pair.a.completed.contains_key(&token), "{}", pair.logs());
        pair.a.outgoing = Default::default();
        pair.both_crash(Protocol::A);
        pair.assert_equal();
        assert_eq!((pair.b.data[4000 * 512], pair.b.data[5000 * 512]), (99, 88), "{}", pair.logs());
    }
}

/// The same, and that one hears it: from then on the Secondary's disk alone has what is written.
#[test]
fn what_is_written_behind_the_end_of_the_primarys_disk_survives_a_crash_of_both() {
    for version in [86, 101] {
        let mut pair = synced_pair_at(version, Protocol::C);
        // A write, and the barrier behind it, come after the word that the disk has been given up, and before the one that it is gone.
        (pair.a.flushes_held, pair.b.held) = (Some(Vec::new()), Some(Vec::new()));
        pair.a.write(6000, 97, 8192);
        pair.a.begin(Command::Detach { volume: V, force: false });
        pair.run_for_a_while();
        assert_eq!((pair.a.word().2, pair.b.word().3), (Disk::Failed, Disk::Failed), "{}", pair.logs());
        let token = pair.a.write(4000, 99, 8192);
        pair.b.release_held();
        pair.run_for_a_while();
        pair.a.write(8000, 98, 8192);
        pair.a.release_flushes();
        pair.run_for_a_while();
        assert!(pair.a.completed.contains_key(&token), "{}", pair.logs());
        pair.both_crash(Protocol::C);
        pair.assert_equal();
        assert_eq!(pair.a.data[4000 * 512], 99, "{}", pair.logs());
    }
}
