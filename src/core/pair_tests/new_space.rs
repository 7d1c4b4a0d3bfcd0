//! The resync of space that was added: where it comes from, who waits for it, and what else it brings.

use super::sizes::{grow_both, resize, resize_alone, resize_to};
use super::*;

/// What `a` sees in [`pair_beside_failed_disk`].
const BESIDE_FAILED_DISK: (Role, Conn, Disk, Disk) =
    (Role::Primary, Conn::Connected, Disk::UpToDate, Disk::Inconsistent);

/// The disk of `b` failed (`on-io-error pass_on`), and `a`, Primary, mirrors nothing to it.
fn pair_beside_failed_disk(version: u32) -> Pair {
    pair_beside_failed_disk_with(version, &settings(Protocol::C))
}

fn pair_beside_failed_disk_with(version: u32, net: &NetSettings) -> Pair {
    let mut pair = synced_pair_of(version, net);
    pair.b.core.local_error(V, 4000, 8, true);
    pair.run();
    assert_eq!(pair.a.word(), BESIDE_FAILED_DISK, "{}", pair.logs());
    pair
}

/// Whoever asks for it, and whenever the Primary is demoted that has the question, or has sent it: one of the two is the source of what is
/// added.
#[test]
fn a_demotion_while_the_device_grows_leaves_one_source() {
    const OLD: usize = 8 << 20;
    let mut settling = 0;
    for (primary_asks, rounds) in (0..24).flat_map(|rounds| [(true, rounds), (false, rounds)]) {
        let mut pair = Pair::new(101);
        pair.a = Node::with_internal_meta_data(1, OLD);
        pair.b = Node::with_internal_meta_data(2, OLD);
        pair.connect(&settings(Protocol::C));
        pair.b.begin(Command::Primary { volume: V, force: true });
        pair.run();
        let old = pair.a.core.volume(V).size_sectors();
        pair.a.set_bytes(2 * OLD);
        pair.b.set_bytes(2 * OLD);
        resize(if primary_asks { &mut pair.b } else { &mut pair.a });
        for _ in 0..rounds {
            pair.run_once();
        }
        if !primary_asks && !pair.b.core.settles_size(V) {
            continue;
        }
        settling += 1;
        let id = pair.b.begin(Command::Secondary { volume: V, open: false });
        pair.run();
        assert_eq!(pair.b.replies[&id], 1, "{rounds} {}", pair.logs());
        for node in [&pair.a, &pair.b] {
            assert!(node.core.volume(V).size_sectors() > old, "{rounds} {}", pair.logs());
            let expected = (Role::Secondary, Conn::Connected, Disk::UpToDate, Disk::UpToDate);
            assert_eq!(node.word(), expected, "{rounds} {}", pair.logs());
        }
    }
    assert!(settling > 24, "{settling}");
}

/// The last block of a device may be only a part of one. What is added to it is new, too.
#[test]
fn the_rest_of_the_last_block_is_resynced_with_the_space_behind_it() {
    const SMALL: usize = (SECTORS as usize + 3) * 512;
    let mut pair = Pair::new(97);
    pair.a = Node::with_disk(1, layout(), SMALL);
    pair.b = Node::with_disk(2, layout(), SMALL);
    pair.connect(&settings(Protocol::C));
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    grow_both(&mut pair.a, &mut pair.b, SMALL, 2 * SMALL);
    resize(&mut pair.a);
    pair.run();
    pair.assert_equal();
}

/// A disk that is attached larger without a peer grows by what that had: no resync is owed that only this node knows of.
#[test]
fn space_that_is_added_without_the_peer_keeps_nobody_waiting() {
    const SMALL: usize = SECTORS as usize * 512;
    for attaches_first in [true, false] {
        let mut pair = Pair::new(97);
        let (a, b) = (Node::with_disk(1, layout(), 2 * SMALL), Node::new(2));
        (pair.a, pair.b) = if attaches_first { (a, b) } else { (b, a) };
        pair.connect(&settings(Protocol::C));
        pair.a.begin(Command::Primary { volume: V, force: true });
        pair.run();
        pair.a.begin(Command::Secondary { volume: V, open: false });
        pair.run();
        let small = if attaches_first { &mut pair.b } else { &mut pair.a };
        small.begin(Command::Disconnect { force: false });
        pair.run();
        let small = if attaches_first { &mut pair.b } else { &mut pair.a };
        small.begin(Command::Detach { volume: V, force: false });
        pair.run();
        let small = if attaches_first { &mut pair.b } else { &mut pair.a };
        small.set_bytes(2 * SMALL);
        small.attach();
        small.begin(Command::Connect(Box::new(settings(Protocol::C))));
        pair.run();
        for node in [&pair.a, &pair.b] {
            assert_eq!(node.core.volume(V).size_sectors(), 2 * SECTORS, "{}", pair.logs());
            let expected = (Role::Secondary, Conn::Connected, Disk::UpToDate, Disk::UpToDate);
            assert_eq!(node.word(), expected, "{}", pair.logs());
        }
    }
}

/// A disk is attached, and the device grows with it, while the other node asks to be Primary, and has said since that it is not yet: each node takes
/// itself for the source of what is added. One of the two becomes the target.
#[test]
fn two_sources_of_new_space_become_one() {
    const SMALL: usize = SECTORS as usize * 512;
    for (version, slow_meta, slow_handler) in
        [(93, false, false), (101, false, false), (101, true, false), (101, false, true), (86, false, true)]
    {
        let mut pair = synced_pair_at(version, Protocol::C);
        pair.demote_a();
        // `a` is the arbiter, and `b` asks.
        let id = pair.b.begin(Command::Primary { volume: V, force: false });
        while pair.b.work() {}
        pair.detach_a_before_it_reads(|b| {
            for command in [Command::PauseSync { volume: V }, Command::ResumeSync { volume: V }] {
                b.begin(command);
                while b.work() {}
            }
        });
        grow_both(&mut pair.a, &mut pair.b, SMALL, 2 * SMALL);
        pair.a.attach();
        pair.run_data_to_b();
        pair.b.meta_held = slow_meta.then(Vec::new);
        pair.a.running = slow_handler.then(Vec::new);
        pair.b.running = slow_handler.then(Vec::new);
        pair.run();
        if slow_meta {
            pair.b.release_meta();
        }
        // The word of the promotion comes when the resync has begun, as if it were the end of it.
        let helpers = [pair.a.running.take(), pair.b.running.take()];
        for (helper, of_a) in helpers.into_iter().zip([true, false]) {
            let node = if of_a { &mut pair.a } else { &mut pair.b };
            helper.into_iter().flatten().for_each(|helper| node.core.helper_done(pair.now, helper, 0));
            pair.run();
        }
        assert_eq!(pair.b.replies[&id], 1, "{}", pair.logs());
        let sources = |pair: &Pair| {
            [&pair.a, &pair.b].map(|node| {
                node.log.iter().any(|line| line.contains("will sync 40960 KB") && line.contains("SyncSource"))
            })
        };
        assert_eq!(sources(&pair), [true; 2], "{}", pair.logs());
        pair.b.write(SECTORS + 8, 5, 4096);
        pair.run();
        assert_eq!(pair.b.data[SMALL], 8, "{}", pair.logs());
        pair.assert_equal();
    }
}

/// The peer waits for the resync of new space, which this node, its source, has not begun yet: it has nothing that a Primary
/// without a disk could use.
#[test]
fn the_source_of_new_space_does_not_leave_before_it_begins() {
    const SMALL: usize = SECTORS as usize * 512;
    let mut pair = synced_pair_at(97, Protocol::C);
    for node in [&mut pair.a, &mut pair.b] {
        node.set_bytes(2 * SMALL);
    }
    pair.a.running = Some(Vec::new());
    resize(&mut pair.a);
    pair.run();
    let (before, waits) = (pair.a.word(), pair.b.word());
    assert_eq!((before.1, waits.1, waits.2), (Conn::Connected, Conn::WFSyncUUID, Disk::Outdated));
    let id = pair.a.begin(Command::Detach { volume: V, force: false });
    pair.run();
    assert_eq!(pair.a.replies[&id], -10, "{}", pair.logs());
    assert_eq!((pair.a.word(), pair.b.word()), (before, waits), "{}", pair.logs());
    for id in pair.a.running.take().into_iter().flatten() {
        pair.a.core.helper_done(pair.now, id, 0);
    }
    pair.run();
    pair.assert_equal();
}

/// Nobody asks the peer when that disk fails, or is detached by force. The peer had all but the new space, and has what is written there:
/// the Primary goes on with its disk, in a generation of their own.
#[test]
fn a_peer_that_waits_for_new_space_is_good_when_its_source_loses_the_disk() {
    const SMALL: usize = SECTORS as usize * 512;
    for version in [86, 97, 101] {
        let mut pair = synced_pair_at(version, Protocol::C);
        for node in [&mut pair.a, &mut pair.b] {
            node.set_bytes(2 * SMALL);
        }
        pair.a.running = Some(Vec::new());
        resize(&mut pair.a);
        pair.run();
        assert_eq!((pair.b.word().1, pair.b.word().2), (Conn::WFSyncUUID, Disk::Outdated), "{}", pair.logs());
        pair.a.begin(Command::Detach { volume: V, force: true });
        pair.a.write(8, 5, 4096);
        pair.run();
        let token = pair.a.write(2 * SECTORS - 8, 6, 4096);
        pair.run();
        assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
        for (node, pdsk) in [(&pair.a, Disk::UpToDate), (&pair.b, Disk::Diskless)] {
            assert_eq!((node.word().1, node.word().3), (Conn::Connected, pdsk), "{}", pair.logs());
        }
        assert_eq!(pair.b.word().2, Disk::UpToDate, "{}", pair.logs());
        for id in pair.a.running.take().into_iter().flatten() {
            pair.a.core.helper_done(pair.now, id, 0);
        }
        pair.run();
        pair.a.attach();
        pair.run();
        pair.assert_equal();
        assert_eq!((pair.a.data[8 * 512], pair.a.data[2 * SMALL - 1]), (5, 6), "{}", pair.logs());
    }
}

/// A node that has asked for a full sync does not begin the resync of new space before the peer has answered.
#[test]
fn new_space_waits_for_the_answer_to_a_full_sync() {
    const SMALL: usize = SECTORS as usize * 512;
    for (version, primary_asks, handler_is_slow) in
        [(86, false, false), (101, false, false), (101, true, false), (101, true, true)]
    {
        for remote in [false, true] {
            let mut pair = synced_pair_at(version, Protocol::C);
            grow_both(&mut pair.a, &mut pair.b, SMALL, 2 * SMALL);
            if handler_is_slow {
                pair.a.running = Some(Vec::new());
            }
            let Pair { a, b, now, .. } = &mut pair;
            let (asks, grows) = if primary_asks { (a, b) } else { (b, a) };
            let command = match remote {
                true => Command::InvalidateRemote { volume: V },
                false => Command::Invalidate { volume: V },
            };
            let id = asks.begin(command);
            while asks.work() {}
            resize(grows);
            while grows.work() {}
            while Pair::deliver(grows, asks, Socket::Data, *now) {
                while asks.work() {}
            }
            for id in pair.a.running.take().into_iter().flatten() {
                pair.a.core.helper_done(pair.now, id, 0);
            }
            pair.run();
            let replies = if primary_asks { &pair.a.replies } else { &pair.b.replies };
            assert_eq!(replies[&id], 1, "{}", pair.logs());
            for node in [&pair.a, &pair.b] {
                assert_eq!(node.core.volume(V).size_sectors(), 2 * SECTORS, "{}", pair.logs());
            }
            pair.assert_equal();
        }
    }
}

/// A Primary whose disk failed (`on-io-error pass_on`) is no source of new space: its disk would count as good, without what was
/// written where it failed. The peer has that.
#[test]
fn new_space_comes_from_the_good_disk() {
    const SMALL: usize = SECTORS as usize * 512;
    for (version, primary_grows) in [(86, true), (101, true), (101, false)] {
        let mut pair = synced_pair_at(version, Protocol::C);
        pair.a.write(4000, 5, 4096);
        pair.run();
        pair.a.data[4000 * 512..][..4096].fill(4);
        pair.a.core.local_error(V, 4000, 8, true);
        pair.run();
        let failed = (Role::Primary, Conn::Connected, Disk::Inconsistent, Disk::UpToDate);
        assert_eq!(pair.a.word(), failed, "{}", pair.logs());
        grow_both(&mut pair.a, &mut pair.b, SMALL, 2 * SMALL);
        resize(if primary_grows { &mut pair.a } else { &mut pair.b });
        pair.run();
        assert_eq!(pair.a.core.volume(V).size_sectors(), 2 * SECTORS, "{}", pair.logs());
        assert_eq!((pair.a.data[4000 * 512], pair.a.data[SMALL]), (5, 8), "{}", pair.logs());
        pair.assert_equal();
    }
}

/// The disk of a Secondary failed (`on-io-error pass_on`), and the Primary mirrors nothing to it: the resync of new space does not make it
/// good, if the Primary, as DRBD, does not tell the Secondary what else it lacks. The next one does.
#[test]
fn new_space_does_not_make_a_failed_disk_good() {
    const SMALL: usize = SECTORS as usize * 512;
    for version in [86, 96, 101] {
        for written in [false, true] {
            let mut pair = pair_beside_failed_disk(version);
            if written {
                pair.a.write(8000, 5, 4096);
            }
            grow_both(&mut pair.a, &mut pair.b, SMALL, 2 * SMALL);
            resize(&mut pair.a);
            pair.a.bitmaps_held = true;
            for _ in 0..1000 {
                pair.run_once();
                while pair.a.core.next_bitmap_packet(pair.now, V).is_some() {}
            }
            pair.a.bitmaps_held = false;
            pair.run();
            assert_eq!(pair.b.core.volume(V).size_sectors(), 2 * SECTORS, "{}", pair.logs());
            assert_eq!(pair.b.data[SMALL], 7, "{}", pair.logs());
            assert_eq!(pair.a.word(), BESIDE_FAILED_DISK, "{}", pair.logs());
            assert_eq!((pair.b.word().1, pair.b.word().2), (Conn::Connected, Disk::Inconsistent));
            pair.lose_link();
            pair.meet_again();
            pair.assert_equal();
            if written {
                assert_eq!(pair.b.data[8000 * 512], 5);
            }
        }
    }
}

/// What was written while the peer's disk was not good (`on-io-error pass_on`) that lacks, and knows nothing of it: the resync of new space
/// makes the disk good, so it has to bring that, too.
#[test]
fn the_resync_of_new_space_brings_what_the_peer_did_not_get() {
    const SMALL: usize = SECTORS as usize * 512;
    for version in [86, 101] {
        for under_way in [false, true] {
            let mut pair = pair_beside_failed_disk(version);
            pair.a.held = under_way.then(Vec::new);
            pair.a.write(8000, 5, 4096);
            pair.run_for_a_while();
            grow_both(&mut pair.a, &mut pair.b, SMALL, 2 * SMALL);
            resize(&mut pair.a);
            pair.run_for_a_while();
            for output in pair.a.held.take().into_iter().flatten() {
                pair.a.carry_out(output);
            }
            pair.run();
            assert_eq!((pair.b.data[8000 * 512], pair.b.data[SMALL]), (5, 7), "{}", pair.logs());
            pair.assert_equal();
        }
    }
}

/// The same, while the device of the target grows again, which the source, in its handler, has not heard of: its bitmap ends earlier than the
/// target's.
#[test]
fn the_bitmap_of_a_source_that_has_not_grown_yet_is_shorter() {
    const SMALL: usize = SECTORS as usize * 512;
    for (version, use_rle) in [(86, false), (97, true), (101, true), (101, false)] {
        let mut pair =
            pair_beside_failed_disk_with(version, &NetSettings { use_rle, ..settings(Protocol::C) });
        pair.a.write(8000, 5, 4096);
        grow_both(&mut pair.a, &mut pair.b, SMALL, 2 * SMALL);
        resize_to(&mut pair.a, SECTORS * 3 / 2);
        pair.a.running = Some(Vec::new());
        // The target is asked while it still writes the first of the two sizes.
        pair.b.meta_held = Some(Vec::new());
        pair.run();
        resize(&mut pair.b);
        pair.b.release_meta();
        pair.run();
        let helper =
            pair.a.running.take().and_then(|mut running| running.pop()).expect("before-resync-source");
        let sizes = |pair: &Pair| [&pair.a, &pair.b].map(|node| node.core.volume(V).size_sectors());
        assert_eq!(sizes(&pair), [SECTORS * 3 / 2, SECTORS * 2], "{}", pair.logs());
        pair.a.core.helper_done(pair.now, helper, 0);
        pair.run();
        assert_eq!(sizes(&pair), [SECTORS * 2; 2], "{}", pair.logs());
        assert_eq!((pair.b.data[8000 * 512], pair.b.data[SMALL]), (5, 7), "{}", pair.logs());
        pair.assert_equal();
    }
}

/// A disk that grew when it was attached alone, by what the peer had said of its own, and comes back to a peer whose device is smaller: the
/// space is new for the device that the two have, and both take part in its resync.
#[test]
fn a_disk_that_is_larger_than_the_device_in_use_brings_new_space() {
    const SMALL: usize = SECTORS as usize * 512;
    for version in [86, 101] {
        let mut pair = synced_pair_at(version, Protocol::C);
        pair.demote_a();
        pair.b.begin(Command::Detach { volume: V, force: false });
        pair.run();
        for node in [&mut pair.a, &mut pair.b] {
            node.set_bytes(2 * SMALL);
        }
        let crash_a = |pair: &mut Pair| {
            pair.a.core = Node::core(77);
            pair.a.wants_link = false;
            pair.run();
        };
        let start_a = |pair: &mut Pair| {
            pair.a.start();
            assert_eq!(pair.a.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
            pair.run();
        };
        crash_a(&mut pair);
        start_a(&mut pair);
        assert_eq!(pair.b.core.volume(V).peer_size, 2 * SECTORS, "{}", pair.logs());
        crash_a(&mut pair);
        pair.b.attach();
        assert_eq!(pair.b.core.volume(V).size_sectors(), 2 * SECTORS, "{}", pair.logs());
        pair.b.begin(Command::Detach { volume: V, force: true });
        start_a(&mut pair);
        assert_eq!(pair.b.core.volume(V).size_sectors(), SECTORS, "{}", pair.logs());
        pair.a.data[SMALL..].fill(7);
        pair.b.data[SMALL..].fill(8);
        pair.b.attach();
        pair.run();
        for node in [&pair.a, &pair.b] {
            assert_eq!(node.core.volume(V).size_sectors(), 2 * SECTORS, "{}", pair.logs());
        }
        pair.assert_equal();
    }
}

/// The target of a resync has ended, and asks for another size, before the source knows that it may end: the new space is no part of that
/// resync, none of whose blocks has failed, but of the next one. Until that begins the peer has all that is written.
#[test]
fn new_space_behind_the_end_of_a_resync_is_no_failed_block_of_it() {
    const SMALL: usize = SECTORS as usize * 512;
    for version in [86, 97, 101] {
        for ends_while_it_grows in [false, true] {
            let mut pair = synced_pair_at(version, Protocol::C);
            pair.b.begin(Command::Disconnect { force: false });
            pair.run();
            pair.a.write(8, 5, 4096);
            pair.run();
            pair.b.command(Command::Connect(Box::new(settings(Protocol::C))));
            while !(pair.b.word().1 == Conn::SyncTarget && pair.a.core.volume(V).out_of_sync_bits() == 0) {
                pair.run_once();
            }
            // The answer to the source's ping, which orders its end, is slow.
            let Pair { a, b, now, .. } = &mut pair;
            let mut without_answers = |a: &mut Node, b: &mut Node, done: &dyn Fn(&Node, &Node) -> bool| {
                for _ in 0..100 {
                    while a.work() | b.work() {}
                    if done(a, b) {
                        break;
                    }
                    *now += 3;
                    a.core.timeout(*now);
                    b.core.timeout(*now);
                    Pair::deliver(a, b, Socket::Meta, *now);
                    Pair::deliver(a, b, Socket::Data, *now);
                    Pair::deliver(b, a, Socket::Data, *now);
                    if !matches!(b.outgoing[Socket::Meta as usize].front(), Some((_, Packet::PingAck, _))) {
                        Pair::deliver(b, a, Socket::Meta, *now);
                    }
                }
            };
            without_answers(a, b, &|_, b| {
                b.word().1 == Conn::Connected && b.outgoing[Socket::Data as usize].is_empty()
            });
            assert_eq!((a.word().1, b.word().1), (Conn::SyncSource, Conn::Connected), "{}", pair.logs());
            grow_both(a, b, SMALL, 2 * SMALL);
            a.running = Some(Vec::new());
            a.meta_held = ends_while_it_grows.then(Vec::new);
            resize(b);
            without_answers(a, b, &|a, _| a.core.volume(V).size_sectors() == 2 * SECTORS);
            assert_eq!(a.core.volume(V).size_sectors(), 2 * SECTORS, "{}", pair.logs());
            pair.run();
            if let Some(held) = pair.a.meta_held.take() {
                pair.a.carry_out_all(held);
                pair.run();
            }
            assert_eq!(pair.b.word().1, Conn::WFSyncUUID, "{}", pair.logs());
            let token = pair.a.write(4000, 6, 4096);
            pair.run();
            assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
            while let Some(id) = pair.a.running.as_mut().and_then(Vec::pop) {
                pair.a.core.helper_done(pair.now, id, 0);
                pair.run();
            }
            assert_eq!(pair.b.data[4000 * 512], 6, "{}", pair.logs());
            pair.assert_equal();
        }
    }
}

/// Sectors of the disks in the tests below, before one of them grows.
const SMALL: u64 = 2048;

/// Two nodes without a disk that are connected. The disk of one of them has grown while it was alone, and each takes the size of its own
/// disk for that of the device.
fn pair_without_disks_of_two_sizes(version: u32, large_is_a: bool) -> Pair {
    let bytes = SMALL as usize * 512;
    let mut pair = Pair::new(version);
    pair.a = Node::with_disk(1, layout(), bytes);
    pair.b = Node::with_disk(2, layout(), bytes);
    pair.connect(&settings(Protocol::C));
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    pair.demote_a();
    pair.lose_link();
    grow_both(&mut pair.a, &mut pair.b, bytes, 2 * bytes);
    assert_eq!(resize_alone(if large_is_a { &mut pair.a } else { &mut pair.b }), 101);
    for node in [&mut pair.a, &mut pair.b] {
        node.command(Command::Detach { volume: V, force: false });
    }
    pair.meet_again();
    let sizes = if large_is_a { [2 * SMALL, SMALL] } else { [SMALL, 2 * SMALL] };
    let expected = (Role::Secondary, Conn::Connected, Disk::Diskless, Disk::Diskless);
    for (node, sectors) in [&pair.a, &pair.b].into_iter().zip(sizes) {
        assert_eq!((node.word(), node.core.volume(V).size_sectors()), (expected, sectors), "{}", pair.logs());
    }
    pair
}

/// Both disks are good, and of one size: nobody waits for a resync of new space.
fn assert_grown(pair: &Pair) {
    let expected = (Role::Secondary, Conn::Connected, Disk::UpToDate, Disk::UpToDate);
    for node in [&pair.a, &pair.b] {
        assert_eq!(
            (node.word(), node.core.volume(V).size_sectors()),
            (expected, 2 * SMALL),
            "{}",
            pair.logs()
        );
    }
}

/// Attached at once, the smaller disk grows when its node hears of the other one: both take part in the resync of what is new to it,
/// whoever is its source. So they do if the smaller disk comes first.
#[test]
fn a_larger_disk_that_is_attached_beside_a_smaller_one_brings_new_space() {
    for version in [86, 101] {
        for (large_is_a, at_once) in [(true, true), (false, true), (true, false), (false, false)] {
            let mut pair = pair_without_disks_of_two_sizes(version, large_is_a);
            (if large_is_a { &mut pair.b } else { &mut pair.a }).attach();
            if !at_once {
                pair.run();
            }
            (if large_is_a { &mut pair.a } else { &mut pair.b }).attach();
            pair.run();
            assert_grown(&pair);
            pair.assert_equal();
        }
    }
}

/// Attached behind the larger disk, the smaller one grows to what the peer has had since it came: the peer sees nothing grow, and nobody
/// waits for a resync.
#[test]
fn a_disk_that_is_attached_behind_a_larger_one_waits_for_no_resync() {
    for (version, large_is_a) in [(86, true), (101, true), (86, false), (101, false)] {
        let mut pair = pair_without_disks_of_two_sizes(version, large_is_a);
        (if large_is_a { &mut pair.a } else { &mut pair.b }).attach();
        pair.run();
        (if large_is_a { &mut pair.b } else { &mut pair.a }).attach();
        pair.run();
        assert_grown(&pair);
    }
}

/// Whatever a node has heard of the peer's disk at whatever moment of its own attach: both wait for the resync, or none does.
#[test]
fn disks_of_two_sizes_come_to_one_size_whenever_they_are_attached() {
    let cases = [(true, true), (true, false), (false, true), (false, false)];
    let moments = (1..4).flat_map(|heard| [0, 1, 2, 4].map(|turns| (heard, turns)));
    for ((heard, turns), heard_before) in moments.flat_map(|moment| [(moment, false), (moment, true)]) {
        for (large_is_a, a_is_first) in cases {
            let mut pair = pair_without_disks_of_two_sizes(101, large_is_a);
            let Pair { a, b, now, .. } = &mut pair;
            let (first, second) = if a_is_first { (a, b) } else { (b, a) };
            first.attach();
            let mut hear = |second: &mut Node, packets| {
                for _ in 0..packets {
                    Pair::deliver(first, second, Socket::Data, *now);
                    while second.work() {}
                }
            };
            if heard_before {
                hear(second, heard);
            }
            let command = second.attach_command(second.core.volume(V).settings().clone());
            second.begin(command);
            for _ in 0..turns {
                second.work();
            }
            if !heard_before {
                hear(second, heard);
            }
            pair.run();
            assert_grown(&pair);
            // What it has heard then counts for no other attach.
            (if a_is_first { &mut pair.b } else { &mut pair.a })
                .begin(Command::Detach { volume: V, force: false });
            pair.run();
            (if a_is_first { &mut pair.b } else { &mut pair.a }).attach();
            pair.run();
            assert_grown(&pair);
        }
    }
}
