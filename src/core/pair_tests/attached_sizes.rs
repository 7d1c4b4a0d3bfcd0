//! Sizes of disks that are being attached: what they make of the device.

use super::sizes::{resize, resize_alone};
use super::*;

/// The device of a Primary without its disk grows with that of the peer, which gives its disk up then. With its own disk, which has the room,
/// the Primary keeps the size that it has shown.
#[test]
fn a_disk_that_has_the_room_does_not_take_back_what_a_primary_has_shown() {
    const SMALL: usize = SECTORS as usize * 512;
    let mut pair = Pair::new(101);
    pair.a = Node::with_disk(1, layout(), 2 * SMALL);
    pair.connect(&settings(Protocol::C));
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    pair.full_sync_to_b();
    assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
    pair.release_a();
    pair.run();
    pair.b.set_bytes(2 * SMALL);
    resize(&mut pair.b);
    pair.run();
    assert_eq!(pair.a.core.volume(V).size_sectors(), 2 * SECTORS, "{}", pair.logs());
    assert_eq!(pair.b.command(Command::Detach { volume: V, force: true }), 1);
    pair.lose_link();
    pair.meet_again();
    let attached = pair.a.try_attach();
    assert_eq!(attached, 101, "{}", pair.logs());
    pair.run();
    assert_eq!(pair.a.core.volume(V).size_sectors(), 2 * SECTORS, "{}", pair.logs());
    assert_eq!(pair.a.super_block().effective_size_sectors, 2 * SECTORS, "{}", pair.logs());
}

/// Nor does one change it while a disk that is attached negotiates: the bitmaps that are exchanged then have one size.
#[test]
fn a_disk_that_grew_unnoticed_does_not_change_the_size_at_attach() {
    const SMALL: usize = SECTORS as usize * 512;
    for version in [86, 101] {
        let mut pair = synced_pair_at(version, Protocol::C);
        pair.a.begin(Command::Detach { volume: V, force: false });
        pair.run();
        pair.a.write(8, 5, 4096);
        pair.run();
        pair.a.attach();
        for node in [&mut pair.a, &mut pair.b] {
            node.set_bytes(2 * SMALL);
        }
        pair.run();
        assert!(!pair.a.log.iter().any(|line| line.contains("ProtocolError")), "{}", pair.logs());
        pair.assert_equal();
        for node in [&pair.a, &pair.b] {
            assert_eq!(node.core.volume(V).size_sectors(), SECTORS, "{}", pair.logs());
        }
        resize(&mut pair.a);
        pair.run();
        assert_eq!(pair.b.core.volume(V).size_sectors(), 2 * SECTORS, "{}", pair.logs());
        pair.assert_equal();
    }
}

/// What the peer says of its disk counts also if it says so while this node's is being attached: else the bitmaps that are
/// exchanged then have two sizes.
#[test]
fn sizes_that_come_during_an_attach_count() {
    const SMALL: usize = SECTORS as usize * 512;
    for version in [86, 101] {
        let mut pair = synced_pair_at(version, Protocol::C);
        pair.b.begin(Command::Detach { volume: V, force: false });
        pair.run();
        pair.a.write(8, 5, 4096);
        pair.run();
        pair.a.begin(Command::Secondary { volume: V, open: false });
        pair.run();
        pair.a.begin(Command::Detach { volume: V, force: false });
        pair.run();
        for node in [&mut pair.a, &mut pair.b] {
            node.set_bytes(2 * SMALL);
        }
        pair.a.meta_held = Some(Vec::new());
        pair.a.try_attach();
        pair.b.attach();
        while pair.a.core.volume(V).peer_size != 2 * SECTORS {
            pair.run_once();
        }
        assert_eq!(pair.a.word().2, Disk::Attaching, "{}", pair.logs());
        pair.a.release_meta();
        // All of it, before the peer says more.
        while pair.a.work() {}
        pair.run();
        for node in [&pair.a, &pair.b] {
            assert_eq!(node.core.volume(V).size_sectors(), 2 * SECTORS, "{}", pair.logs());
            assert!(!node.log.iter().any(|line| line.contains("ProtocolError")), "{}", pair.logs());
        }
        pair.assert_equal();
    }
}

/// A node shows the size of its peer while its own disk is being attached, which is larger, for it grew alone. The super block that is written
/// then, or when the disk has been refused, does not take that over: what was acknowledged behind that size would be cut off, unnoticed.
#[test]
fn a_disk_keeps_its_size_when_a_smaller_peer_comes_during_its_attach() {
    const SMALL: usize = SECTORS as usize * 512;
    const LAST: u64 = 2 * SECTORS - 8;
    for (version, marks) in [(86, true), (101, true), (101, false)] {
        let mut pair = synced_pair_at(version, Protocol::C);
        pair.b.begin(Command::Disconnect { force: false });
        pair.run();
        pair.a.set_bytes(2 * SMALL);
        assert_eq!(resize_alone(&mut pair.a), 101);
        let token = pair.a.write(LAST, 5, 4096);
        if marks {
            // Its extent is marked at the next attach: the bitmap is written first.
            pair.a.write(8, 5, 4096);
        }
        pair.run();
        assert!(pair.a.completed[&token].is_ok());
        assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
        pair.demote_a();
        pair.a.meta_held = Some(Vec::new());
        let command = pair.a.attach_command(pair.a.core.volume(V).settings().clone());
        let id = pair.a.begin(command);
        while pair.a.work() {}
        assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        for _ in 0..100 {
            pair.run_once();
        }
        assert_eq!(pair.a.word().2, Disk::Attaching, "{}", pair.logs());
        assert_eq!(pair.a.core.volume(V).size_sectors(), SECTORS, "{}", pair.logs());
        pair.release_meta_of_a();
        pair.run();
        assert_eq!(pair.a.replies.get(&id), Some(&170), "{}", pair.logs());
        assert_eq!(pair.a.super_block().effective_size_sectors, 2 * SECTORS, "{}", pair.logs());

        // The peer gets the room.
        pair.b.begin(Command::Disconnect { force: false });
        pair.run();
        pair.b.set_bytes(2 * SMALL);
        assert_eq!(resize_alone(&mut pair.b), 101);
        assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        pair.run();
        pair.a.attach();
        pair.run();
        assert_eq!(pair.b.data[LAST as usize * 512], 5, "{}", pair.logs());
        pair.assert_equal();
    }
}

/// Both disks are attached at once, and one of them has grown since: what the nodes have told each other of them counts until the bitmaps are
/// exchanged, which have one size then.
#[test]
fn a_disk_that_grows_while_both_are_attached_does_not_change_the_size_of_the_bitmaps() {
    const SMALL: usize = SECTORS as usize * 512;
    for version in [86, 101] {
        for source_has_grown in [false, true] {
            let mut pair = synced_pair_at(version, Protocol::C);
            pair.b.begin(Command::Detach { volume: V, force: false });
            pair.run();
            pair.a.write(8, 5, 4096);
            pair.run();
            pair.demote_a();
            pair.a.begin(Command::Detach { volume: V, force: false });
            pair.run();
            let Pair { a, b, .. } = &mut pair;
            let (grown, large) = if source_has_grown { (a, b) } else { (b, a) };
            grown.set_bytes(2 * SMALL);
            large.set_bytes(3 * SMALL);
            grown.attach();
            large.attach();
            grown.set_bytes(3 * SMALL);
            pair.run();
            for node in [&pair.a, &pair.b] {
                assert_eq!(node.core.volume(V).size_sectors(), 2 * SECTORS, "{}", pair.logs());
                assert!(!node.log.iter().any(|line| line.contains("ProtocolError")), "{}", pair.logs());
            }
            assert_eq!(
                (pair.a.word().1, pair.a.word().3),
                (Conn::Connected, Disk::UpToDate),
                "{}",
                pair.logs()
            );
            assert_eq!(pair.b.data[8 * 512], 5, "{}", pair.logs());
        }
    }
}

/// A peer that had the larger size when the two met, before this node's disk came, takes part in no resync of new space: none begins.
#[test]
fn a_disk_that_grows_to_the_size_of_the_peer_at_attach_waits_for_no_resync() {
    const SMALL: usize = SECTORS as usize * 512;
    for version in [86, 101] {
        let mut pair = synced_pair_at(version, Protocol::C);
        pair.a.begin(Command::Secondary { volume: V, open: false });
        pair.run();
        pair.b.begin(Command::Detach { volume: V, force: false });
        pair.run();
        pair.b.begin(Command::Disconnect { force: false });
        pair.run();
        for node in [&mut pair.a, &mut pair.b] {
            node.set_bytes(2 * SMALL);
        }
        assert_eq!(resize_alone(&mut pair.a), 101);
        assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        pair.run();
        assert_eq!(pair.b.core.volume(V).size_sectors(), 2 * SECTORS, "{}", pair.logs());
        pair.b.attach();
        pair.run();
        for node in [&pair.a, &pair.b] {
            assert_eq!((node.word().1, node.word().2), (Conn::Connected, Disk::UpToDate), "{}", pair.logs());
            assert_eq!(node.core.volume(V).size_sectors(), 2 * SECTORS, "{}", pair.logs());
        }
    }
}

/// What may happen while a Primary without a disk attaches one.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mishap {
    MetaWriteFails,
    ForcedDetach,
    LinkLost,
    PeerLosesDisk,
    FailsAndLinkLost,
    None,
}

impl Pair {
    /// Writes of meta data of `a` come back, one in each turn. The one that is done, or fails, is the oldest.
    fn turn_with_slow_meta_data(&mut self, fails: bool) {
        let mut held = self.a.meta_held.take().unwrap_or_default();
        if !held.is_empty() {
            let output = held.remove(0);
            match (fails, output) {
                (true, Output::MetaWrite { volume, io, .. }) => {
                    self.a.core.io_done(self.now, volume, io, IoResult::Failed)
                }
                (_, output) => self.a.carry_out(output),
            }
        }
        self.a.meta_held = Some(held);
        let _ = self.a.work() | self.b.work() | self.exchange();
    }
}

/// A Primary without its disk attaches one, with which the device would be larger, and that comes to nothing, or the peer does not hear of it:
/// the device stays as large as the peer's, and applications have seen no other size.
#[test]
fn a_device_does_not_grow_with_a_disk_that_does_not_stay() {
    use Mishap::*;
    for mishap in [MetaWriteFails, ForcedDetach, LinkLost, PeerLosesDisk, FailsAndLinkLost, None] {
        for moment in 0..9 {
            attach_larger_disk_with(mishap, moment);
        }
    }
}

fn attach_larger_disk_with(mishap: Mishap, moment: i32) {
    const SECTORS: u64 = 2048;
    const SMALL: usize = SECTORS as usize * 512;
    use Mishap::*;
    let mut pair = Pair::new(101);
    pair.a = Node::with_disk(1, layout(), SMALL);
    pair.b = Node::with_disk(2, layout(), SMALL);
    pair.connect(&settings(Protocol::C));
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    pair.a.begin(Command::Detach { volume: V, force: false });
    pair.run();
    pair.a.write(8, 5, 4096);
    pair.run();
    pair.a.set_bytes(2 * SMALL);
    pair.b.set_bytes(2 * SMALL);
    resize(&mut pair.b);
    pair.run();
    assert_eq!(pair.a.core.volume(V).peer_size, 2 * SECTORS, "{}", pair.logs());
    assert_eq!(pair.a.core.volume(V).size_sectors(), SECTORS, "{}", pair.logs());

    let command = pair.a.attach_command(pair.a.core.volume(V).settings().clone());
    pair.a.meta_held = Some(Vec::new());
    pair.a.begin(command);
    for turn in 0..40 {
        let now = turn == moment;
        let before = (pair.a.shown, pair.a.core.volume(V).size_sectors());
        match mishap {
            ForcedDetach if now => {
                pair.a.begin(Command::Detach { volume: V, force: true });
            }
            PeerLosesDisk if now => {
                pair.b.begin(Command::Detach { volume: V, force: true });
            }
            LinkLost if now => pair.lose_link(),
            FailsAndLinkLost if turn == moment + 1 => pair.lose_link(),
            _ => {}
        }
        pair.turn_with_slow_meta_data(now && matches!(mishap, MetaWriteFails | FailsAndLinkLost));
        let after = (pair.a.shown, pair.a.core.volume(V).size_sectors());
        let at = format!("{mishap:?} {moment} {turn}: {before:?} {after:?}");
        assert!(after.0 >= before.0 && after.1 >= before.1, "{at} {}", pair.logs());
        assert!(after.0 <= after.1, "{at} {}", pair.logs());
    }
    pair.release_meta_of_a();
    pair.run();
    if !pair.linked {
        pair.meet_again();
    }
    let at = format!("{mishap:?} {moment}: {:?} {:?}", pair.a.word(), pair.b.word());
    assert_eq!(pair.a.word().1, Conn::Connected, "{at} {}", pair.logs());
    assert_eq!(pair.a.shown.max(SECTORS), pair.a.core.volume(V).size_sectors(), "{at} {}", pair.logs());
    if pair.b.word().2 == Disk::Diskless {
        return;
    }
    let token = pair.a.write(pair.a.core.volume(V).size_sectors() - 8, 6, 4096);
    pair.run();
    assert!(pair.a.completed[&token].is_ok(), "{at} {}", pair.logs());
    if pair.a.word().2 == Disk::Diskless {
        pair.a.attach();
        pair.run();
    }
    pair.assert_equal();
    assert_eq!(
        [pair.a.core.volume(V).size_sectors(), pair.b.core.volume(V).size_sectors()],
        [2 * SECTORS; 2]
    );
    assert_eq!(pair.a.shown, 2 * SECTORS, "{at} {}", pair.logs());
    assert!(!pair.logs().contains("beyond end"), "{at} {}", pair.logs());
}
