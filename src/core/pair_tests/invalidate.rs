//! Data that an administrator gives up for the peer's.

use super::*;

/// `b` is the target of a resync, of which `a` holds the blocks back; a protocol with which the source ends on its own count.
fn pair_with_a_held_resync() -> Pair {
    let mut pair = synced_pair_at(95, Protocol::C);
    pair.b.begin(Command::Disconnect { force: true });
    pair.run();
    pair.a.write(4000, 99, 8192);
    pair.run();
    pair.a.held = Some(Vec::new());
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.run();
    assert_eq!(pair.b.word().1, Conn::SyncTarget, "{}", pair.logs());
    pair
}

/// Below protocol version 96 the source ends a resync before that is durable at the target. If its data were given up then, a crash of the
/// target would leave no good ones.
#[test]
fn the_source_is_not_given_up_before_the_target_would_survive_a_crash() {
    for asked_by_source in [true, false] {
        let mut pair = pair_with_a_held_resync();
        pair.b.meta_held = Some(Vec::new());
        pair.a.release_held();
        for _ in 0..400 {
            pair.run_once();
        }
        assert_eq!((pair.a.word().1, pair.a.word().3), (Conn::Connected, Disk::UpToDate), "{}", pair.logs());
        assert!(!pair.b.super_block().flags.contains(MetaFlags::CONSISTENT), "{}", pair.logs());
        let id = if asked_by_source {
            pair.a.begin(Command::Invalidate { volume: V })
        } else {
            pair.b.begin(Command::InvalidateRemote { volume: V })
        };
        for _ in 0..400 {
            pair.run_once();
        }
        assert_eq!(pair.a.word().2, Disk::UpToDate, "{}", pair.logs());
        while let Some(held) = pair.b.meta_held.take().filter(|held| !held.is_empty()) {
            pair.b.carry_out_all(held);
            pair.b.meta_held = Some(Vec::new());
            pair.run();
        }
        pair.b.meta_held = None;
        pair.run();
        let replies = if asked_by_source { &pair.a.replies } else { &pair.b.replies };
        assert_eq!(replies.get(&id), Some(if asked_by_source { &-10 } else { &1 }), "{}", pair.logs());
        pair.assert_equal();
        let resyncs = pair.a.log.iter().filter(|line| line.contains("Began resync as SyncTarget")).count();
        assert_eq!(resyncs, usize::from(!asked_by_source), "{}", pair.logs());
    }
}

/// Below protocol version 96 the source of a resync may come to its end first. What the target has for UUIDs in the middle of it says nothing
/// of the data that it has in the end: the source, whose data are given up for these later, is to know the right ones.
#[test]
fn uuids_of_the_middle_of_a_resync_do_not_outlive_it() {
    let mut pair = synced_pair_at(95, Protocol::C);
    pair.b.begin(Command::Disconnect { force: true });
    pair.run();
    pair.a.write(4000, 99, 8192);
    pair.run();
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    for _ in 0..400 {
        if pair.b.word().1 != Conn::SyncTarget {
            pair.run_once();
        }
    }
    for _ in 0..40 {
        pair.run_without_answered_ping_of_b();
    }
    let ends = (pair.a.word().1, pair.b.word().1);
    assert_eq!(ends, (Conn::Connected, Conn::SyncTarget), "{}", pair.logs());
    pair.a.begin(Command::Secondary { volume: V, open: false });
    for _ in 0..20 {
        pair.run_without_answered_ping_of_b();
    }
    assert_eq!((pair.a.word().0, pair.b.word().1), (Role::Secondary, Conn::SyncTarget), "{}", pair.logs());
    pair.run();
    pair.assert_equal();
    pair.a.begin(Command::Invalidate { volume: V });
    pair.run();
    assert!(pair.a.log.iter().any(|line| line.starts_with("Began resync as SyncTarget")), "{}", pair.logs());
    pair.assert_equal();
}

impl Pair {
    /// All happens but that a ping of `b` is answered.
    fn run_without_answered_ping_of_b(&mut self) {
        let _ = self.a.work() | self.b.work();
        Self::deliver(&mut self.a, &mut self.b, Socket::Data, self.now);
        Self::deliver(&mut self.b, &mut self.a, Socket::Data, self.now);
        Self::deliver(&mut self.b, &mut self.a, Socket::Meta, self.now);
        if !matches!(self.a.outgoing[Socket::Meta as usize].front(), Some((_, Packet::PingAck, _))) {
            Self::deliver(&mut self.a, &mut self.b, Socket::Meta, self.now);
        }
        self.now += 5;
        self.a.core.timeout(self.now);
        self.b.core.timeout(self.now);
    }
}

/// The Primary lets the Secondary give its data up, and has to give its own disk up before that has begun: it works with the disk of the
/// Secondary, which is still good.
#[test]
fn who_does_not_become_the_target_after_all_serves_a_primary_that_lost_its_disk() {
    let mut pair = synced_pair();
    pair.a.meta_held = Some(Vec::new());
    let invalidate = pair.b.begin(Command::Invalidate { volume: V });
    pair.run_with_a_slow_meta_socket(|pair| pair.a.word().1 == Conn::StartingSyncS);
    assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
    pair.a.release_meta();
    pair.run_with_a_slow_meta_socket(|pair| pair.b.word().3 <= Disk::Failed);
    pair.run();
    assert_eq!(pair.b.replies[&invalidate], 2, "{}", pair.logs());
    assert_eq!((pair.b.word().2, pair.a.word().3), (Disk::UpToDate, Disk::UpToDate), "{}", pair.logs());
    let token = pair.a.write(4000, 99, 8192);
    pair.run();
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
}

/// The Primary gives its disk up, and attaches it again, before it hears that its data are to be given up: that was for the disk before, and what is
/// to become of this one the other node decides.
#[test]
fn an_order_to_give_up_the_disk_before_is_not_for_the_one_that_negotiates() {
    for version in [86, 95, 101] {
        let mut pair = synced_pair_at(version, Protocol::C);
        let id = pair.b.begin(Command::InvalidateRemote { volume: V });
        while pair.b.work() {}
        pair.detach_a_before_it_reads(|_| {});
        pair.run_data_to_b();
        pair.a.attach();
        pair.run_data_to_b();
        assert_eq!(
            (pair.a.word().2, pair.b.word().1),
            (Disk::Negotiating, Conn::WFBitMapS),
            "{}",
            pair.logs()
        );
        pair.run();
        assert!(pair.b.replies[&id] < 0, "{} {}", pair.b.replies[&id], pair.logs());
        pair.assert_equal();
    }
}

/// The bitmap of a disk that is given up cannot be written, nor when the disk is attached again: the super block says as long that all is out of sync.
#[test]
fn a_full_sync_outlives_a_bitmap_that_cannot_be_written() {
    let mut pair = synced_pair();
    pair.b.bitmap_fails = true;
    pair.b.begin(Command::Invalidate { volume: V });
    pair.run();
    let full_sync = |pair: &Pair| pair.b.super_block().flags.contains(MetaFlags::FULL_SYNC);
    assert_eq!((pair.b.word().2, full_sync(&pair)), (Disk::Diskless, true), "{}", pair.logs());
    let id = pair.b.begin(pair.b.attach_command(pair.b.core.volume(V).settings().clone()));
    pair.run();
    assert!(pair.b.replies[&id] != 101, "{}", pair.logs());
    assert_eq!((pair.b.word().2, full_sync(&pair)), (Disk::Diskless, true), "{}", pair.logs());
    pair.b.bitmap_fails = false;
    pair.b.data[4000 * 512] ^= 1;
    pair.b.attach();
    pair.run();
    assert!(!full_sync(&pair), "{}", pair.logs());
    pair.assert_equal();
}

/// The source of a resync has come to its end, and the word of that of the target, which gives its data up again, is on its way still. If the link is
/// lost before the target hears that it may, its disk is UpToDate, and has to be fenced.
#[test]
fn a_target_that_does_not_know_of_the_next_resync_is_to_be_fenced() {
    let mut pair = pair_with_a_held_resync();
    pair.a.with_fencing(Fencing::ResourceAndStonith);
    pair.a.release_held();
    while pair.a.word().1 != Conn::Connected || pair.b.word().1 != Conn::Connected {
        pair.b.meta_held.get_or_insert_default();
        pair.run_once();
    }
    assert_eq!((pair.b.word().2, pair.a.word().3), (Disk::UpToDate, Disk::UpToDate), "{}", pair.logs());
    pair.b.begin(Command::Invalidate { volume: V });
    while pair.b.work() {}
    while Pair::deliver(&mut pair.b, &mut pair.a, Socket::Data, pair.now) {}
    while pair.a.work() {}
    assert!(matches!(pair.a.word().1, Conn::StartingSyncS | Conn::SyncSource), "{}", pair.logs());
    pair.lose_link();
    let state = pair.a.core.volume(V).state();
    assert!(state.susp_fen && state.pdsk == Disk::DUnknown, "{state}\n{}", pair.logs());
}
