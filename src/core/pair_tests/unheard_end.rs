//! The end of a resync that its source does not hear of: what the two make of each other when they meet again.

use super::*;

impl Pair {
    /// A resync from `a` to `b` that is to begin comes to its end as in [`pair_of_unheard_end_with`].
    pub(super) fn end_unheard_by_a(&mut self, before: impl Fn(&mut Node)) {
        let done = |node: &Node| (node.word().1, node.word().2) == (Conn::Connected, Disk::UpToDate);
        while self.a.word().1 != Conn::SyncSource || self.a.core.volume(V).out_of_sync_bits() > 640 {
            self.run_once();
        }
        for _ in 0..80 {
            self.run_without_answered_ping();
        }
        assert!(done(&self.b), "{}", self.logs());
        assert_eq!(self.a.word().1, Conn::SyncSource, "{}", self.logs());
        before(&mut self.a);
        self.lose_link();
    }

    /// `a`, which is Primary, gets a full sync from `b`, and is frozen meanwhile; it comes to the end, and its source does not know yet.
    fn end_unheard_by_source_of_frozen_primary(&mut self) {
        self.b.begin(Command::InvalidateRemote { volume: V });
        while self.a.word().1 != Conn::SyncTarget {
            self.run_once();
        }
        self.a.command(Command::SuspendIo { volume: V });
        while self.a.word().1 != Conn::Connected {
            self.run_once();
        }
        assert_eq!((self.a.word().0, self.a.word().2), (Role::Primary, Disk::UpToDate), "{}", self.logs());
        assert_eq!(self.b.word().1, Conn::SyncSource, "{}", self.logs());
    }

    /// The nodes meet, `a` is to be the source of a resync, and the link is lost before `b` has heard of anything.
    fn meet_unheard_by_b(&mut self) {
        (self.a.wants_link, self.b.wants_link) = (true, true);
        for _ in 0..100 {
            if !self.linked {
                self.run_once();
            }
        }
        for _ in 0..50 {
            let _ = self.a.work() | self.b.work();
            Self::deliver(&mut self.b, &mut self.a, Socket::Data, self.now);
        }
        assert_eq!(
            (self.a.word().1, self.b.word().1),
            (Conn::WFBitMapS, Conn::WFReportParams),
            "{}",
            self.logs()
        );
        self.lose_link();
    }

    /// The nodes are apart: `a` goes on alone, then `b`, or not. When they meet again `b` gets what `a` wrote, or neither loses a thing in silence.
    pub(super) fn assert_alone_is_noticed(mut self, peer_writes: bool) {
        let mut write = |node: fn(&mut Pair) -> &mut Node, fill| {
            if node(&mut self).word().0 != Role::Primary {
                assert_eq!(node(&mut self).command(Command::Primary { volume: V, force: false }), 1);
            }
            let token = node(&mut self).write(4800, fill, 4096);
            self.run();
            assert!(node(&mut self).completed[&token].is_ok(), "{}", self.logs());
            assert_eq!(node(&mut self).command(Command::Secondary { volume: V, open: false }), 1);
        };
        write(|pair| &mut pair.a, 1);
        if peer_writes {
            write(|pair| &mut pair.b, 2);
        }
        let net = Box::new(settings(Protocol::C));
        if self.a.word().1 == Conn::StandAlone {
            assert_eq!(self.a.command(Command::Connect(net)), 101);
        }
        self.meet_again();
        if peer_writes {
            assert!(self.b.log.iter().any(|line| line.contains("Split-Brain detected")), "{}", self.logs());
        } else {
            assert_eq!(self.b.data[4800 * 512], 1, "{}", self.logs());
            self.assert_equal();
        }
    }
}

/// The link of `a`, the source of a resync, is lost when `b` has ended it, and `a` has not heard of that.
fn pair_of_unheard_end(primary: bool) -> Pair {
    pair_of_unheard_end_with(primary, |_| {})
}

/// The same; `before`: what is done to `a` before the link is lost.
fn pair_of_unheard_end_with(primary: bool, before: impl Fn(&mut Node)) -> Pair {
    let mut pair = synced_pair();
    pair.b.begin(Command::Disconnect { force: true });
    pair.run();
    pair.a.write(4000, 99, 8192);
    pair.run();
    if !primary {
        assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1);
    }
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.end_unheard_by_a(before);
    pair
}

/// A source lost its target, which had ended the resync: this is what the target's data are of, too, and it may be promoted. What the
/// source writes has a name of its own.
#[test]
fn a_source_that_missed_the_end_goes_on_in_another_generation() {
    for (primary, peer_writes) in [(true, false), (true, true), (false, false), (false, true)] {
        pair_of_unheard_end(primary).assert_alone_is_noticed(peer_writes);
    }
}

/// So does one that meets its target again in between, if that has not heard of the next resync.
#[test]
fn a_source_that_missed_the_end_and_met_its_target_in_vain_goes_on_in_another_generation() {
    for (primary, peer_writes) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut pair = pair_of_unheard_end(primary);
        pair.meet_unheard_by_b();
        pair.assert_alone_is_noticed(peer_writes);
    }
}

/// The source of a resync crashes, and has not heard that its target came to the end: the target may be promoted, and has its data. What the
/// source writes when it is back has a name of its own.
#[test]
fn a_source_that_crashed_before_it_heard_of_the_end_goes_on_in_another_generation() {
    let cases = [(true, false), (true, true), (false, false), (false, true)];
    let ways = [(false, false), (false, true), (true, false), (true, true)];
    for ((primary, peer_writes), (equal, link_first)) in cases.iter().flat_map(|&c| ways.map(|way| (c, way)))
    {
        let crash = |a: &mut Node| {
            a.core = Node::core(77);
            a.start();
        };
        let crash_first = |a: &mut Node| {
            if !link_first {
                crash(a);
            }
        };
        let mut pair = if equal {
            // A resync within a generation.
            let mut pair = synced_pair();
            if !primary {
                pair.demote_a();
            }
            pair.b.begin(Command::Invalidate { volume: V });
            pair.end_unheard_by_a(crash_first);
            pair
        } else {
            pair_of_unheard_end_with(primary, crash_first)
        };
        if link_first {
            crash(&mut pair.a);
            while pair.a.work() {}
        }
        pair.assert_alone_is_noticed(peer_writes);
    }
}

/// The same source crashes once more, before the next resync has begun: its target is still of the generation of then.
#[test]
fn a_source_that_crashes_before_the_next_resync_knows_its_target_again() {
    let crash = |node: &mut Node, random| {
        node.core = Node::core(random);
        node.start();
    };
    let mut pair = pair_of_unheard_end_with(false, |a| crash(a, 77));
    for random in [78, 79] {
        assert_eq!(pair.a.command(Command::Primary { volume: V, force: false }), 1);
        let token = pair.a.write(4800, 1, 4096);
        pair.run();
        assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
        assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1);
        assert_eq!(pair.a.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        (pair.a.wants_link, pair.b.wants_link) = (true, true);
        if random == 79 {
            break;
        }
        while pair.a.word().1 != Conn::WFBitMapS {
            pair.run_once();
        }
        while pair.a.work() {}
        crash(&mut pair.a, random);
        pair.lose_link();
    }
    pair.run();
    assert!(!pair.logs().contains("Split-Brain"), "{}", pair.logs());
    pair.assert_equal();
}

/// A source that missed the end of its resync goes on in another generation. That it gets its disk anew, beside a peer without one, is no
/// reason for one more, whose history would lack what the target has.
#[test]
fn a_source_that_missed_the_end_begins_one_generation() {
    let mut pair = pair_of_unheard_end(true);
    let slots = |node: &Node| node.super_block().uuids.map(|uuid| uuid & !1);
    let before = slots(&pair.a);
    assert_eq!(pair.b.command(Command::Detach { volume: V, force: true }), 1);
    pair.meet_again();
    assert_eq!((pair.a.word().2, pair.a.word().3), (Disk::UpToDate, Disk::Diskless), "{}", pair.logs());
    assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1, "{}", pair.logs());
    pair.run();
    assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
    pair.run();
    pair.lose_link();
    pair.a.attach();
    assert_eq!(pair.a.command(Command::Primary { volume: V, force: false }), 1);
    let token = pair.a.write(6000, 98, 4096);
    while pair.a.work() {}
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    assert_eq!(slots(&pair.a), before, "{}", pair.logs());
    pair.b.attach();
    pair.meet_again();
    pair.assert_equal();
    assert_eq!(pair.b.data[6000 * 512], 98);
}

/// The target of a resync is Primary, and frozen; it comes to the end, and the link is lost before its source does. For both the source
/// would be the source again, which a Primary refuses. The source has no block of its own: the Primary goes on with what it has.
#[test]
fn a_frozen_primary_whose_source_missed_the_end_of_the_resync_becomes_the_source() {
    let mut pair = synced_pair();
    pair.end_unheard_by_source_of_frozen_primary();
    pair.lose_link();
    pair.meet_again();
    assert!(pair.a.log.iter().any(|line| line.starts_with("Began resync as SyncSource")), "{}", pair.logs());
    pair.assert_equal();
    assert_eq!(pair.a.command(Command::ResumeIo { volume: V }), 1);
    let token = pair.a.write(4000, 99, 8192);
    pair.run();
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    pair.assert_equal();
}

/// So it does if it gave its disk up before the source had heard of the end, and has attached it alone: fencing keeps that from being more than
/// Consistent. Frozen, it has written nothing to the disk of the source meanwhile.
#[test]
fn a_frozen_primary_that_attaches_the_disk_of_an_unheard_end_becomes_the_source() {
    let mut pair = synced_pair();
    pair.a.with_fencing(Fencing::ResourceOnly);
    pair.end_unheard_by_source_of_frozen_primary();
    pair.a.begin(Command::Detach { volume: V, force: false });
    pair.run();
    assert_eq!((pair.a.word().2, pair.b.word().1), (Disk::Diskless, Conn::Connected), "{}", pair.logs());
    pair.b.restart(77);
    pair.lose_link();
    pair.a.attach();
    assert_eq!(pair.a.word().2, Disk::Consistent, "{}", pair.logs());
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.meet_again();
    assert!(pair.a.log.iter().any(|line| line.starts_with("Began resync as SyncSource")), "{}", pair.logs());
    pair.assert_equal();
}

/// So it does if the source crashed before it heard of the end: it has the bits that the resync was for, and says that they are these.
#[test]
fn the_bits_of_an_unheard_resync_are_no_newer_writes() {
    let crash = |node: &mut Node| {
        node.core = Node::core(77);
        node.start();
    };
    // A resync of what one node wrote alone, and one within a generation; the nodes may have met in vain since.
    for (alone, in_vain) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut pair = synced_pair();
        if alone {
            pair.b.begin(Command::Disconnect { force: true });
            pair.run();
            for sector in [0, 9000, 18000] {
                pair.a.write(sector, 99, 8192);
            }
            pair.run();
        }
        pair.demote_a();
        pair.b.begin(match alone {
            true => Command::Connect(Box::new(settings(Protocol::C))),
            false => Command::Invalidate { volume: V },
        });
        while pair.b.word().1 != Conn::SyncTarget {
            pair.run_once();
        }
        pair.b.begin(Command::Primary { volume: V, force: false });
        while pair.b.word().0 != Role::Primary {
            pair.run_once();
        }
        pair.b.begin(Command::SuspendIo { volume: V });
        pair.end_unheard_by_a(crash);
        assert_eq!(pair.a.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        assert!(pair.a.core.volume(V).out_of_sync_bits() > 0, "{}", pair.logs());
        if in_vain {
            pair.meet_unheard_by_b();
        }
        pair.meet_again();
        assert!(
            pair.b.log.iter().any(|line| line.starts_with("Began resync as SyncSource")),
            "{}",
            pair.logs()
        );
        pair.assert_equal();
    }
}

/// So it does where the resync was due because the source had crashed as a Primary: that does not say that it has written since.
#[test]
fn a_source_that_crashed_before_the_resync_has_not_written_since() {
    let mut pair = synced_pair();
    for sector in [0, 9000, 18000] {
        pair.a.write(sector, 5, 4096);
    }
    pair.run();
    pair.lose_link();
    pair.a.core = Node::core(77);
    pair.a.start();
    assert_eq!(pair.a.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    (pair.a.wants_link, pair.b.wants_link) = (true, true);
    while pair.b.word().1 != Conn::SyncTarget {
        pair.run_once();
    }
    pair.b.begin(Command::Primary { volume: V, force: false });
    while pair.b.word().0 != Role::Primary {
        pair.run_once();
    }
    assert_eq!(pair.b.word().1, Conn::SyncTarget, "{}", pair.logs());
    pair.b.begin(Command::SuspendIo { volume: V });
    pair.end_unheard_by_a(|_| {});
    pair.meet_again();
    assert!(pair.b.log.iter().any(|line| line.starts_with("Began resync as SyncSource")), "{}", pair.logs());
    pair.assert_equal();
}

/// The same with I/O suspended; the source attaches its disk anew before I/O goes on. What it knew of the target went with the disk: its
/// BITMAP UUID stays all the same.
#[test]
fn an_owed_generation_does_not_push_out_a_sync_uuid() {
    let mut pair = pair_of_unheard_end_with(true, |a| {
        a.begin(Command::SuspendIo { volume: V });
    });
    let bitmap = pair.a.super_block().uuids[1];
    assert_ne!(bitmap, 0, "{}", pair.logs());
    assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1, "{}", pair.logs());
    pair.run();
    pair.a.attach();
    pair.run();
    pair.a.begin(Command::ResumeIo { volume: V });
    pair.run();
    assert!(!pair.a.core.volume(V).state().is_susp(), "{}", pair.logs());
    assert_eq!(pair.a.super_block().uuids[1] & !1, bitmap & !1, "{}", pair.logs());
    pair.meet_again();
    pair.assert_equal();
}

/// The source of a resync crashes and goes on in another generation, and its target, which has not heard of any of the tries to begin it, is made Primary by
/// force: a split brain, which an administrator solves, and not two nodes that have nothing to do with each other.
#[test]
fn a_source_and_its_unbegun_target_that_go_on_are_a_split_brain() {
    for discards_b in [true, false] {
        let bitmap = |node: &Node| node.core.volume(V).disk().unwrap().uuids.bitmap;
        let mut pair = synced_pair();
        pair.demote_a();
        pair.b.meta_held = Some(Vec::new());
        pair.b.begin(Command::Invalidate { volume: V });
        for _ in 0..200 {
            if bitmap(&pair.a) == 0 {
                pair.run_once();
            }
        }
        let first = bitmap(&pair.a);
        assert_ne!(first, 0, "{}", pair.logs());
        pair.lose_link();
        pair.b.meta_held = None;
        pair.b.restart(77);
        assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        (pair.a.wants_link, pair.b.wants_link) = (true, true);
        for _ in 0..500 {
            if bitmap(&pair.a) == first {
                pair.run_once();
            }
        }
        assert_ne!(bitmap(&pair.a), first, "{}", pair.logs());
        pair.lose_link();
        // It does not know how far the target has got.
        pair.a.restart(78);
        assert_eq!(pair.a.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        for (node, force, fill) in [(&mut pair.a, false, 98), (&mut pair.b, true, 99)] {
            assert_eq!(node.command(Command::Primary { volume: V, force }), 1, "{}", node.log.join("\n"));
            node.write(4000, fill, 4096);
            while node.work() {}
            assert_eq!(node.command(Command::Secondary { volume: V, open: false }), 1);
        }
        pair.meet_split_and_solve(discards_b);
        assert_eq!(pair.a.data[4000 * 512], if discards_b { 98 } else { 99 }, "{}", pair.logs());
    }
}
