//! Sizes that are asked for, or told, while others are on their way: the two nodes come to one.

use super::sizes::{grow_both, pair_about_to_resize_alone, resize, resize_alone, resize_to};
use super::*;

/// Bytes of the device at first.
const SMALL: usize = SECTORS as usize * 512;
/// Sectors that a user asks for, where both disks have room for more.
const WANTED: u64 = SECTORS * 3 / 2;

/// Both nodes are told to grow at once, one of them with the word that new space is the same on both disks. The one that has grown goes by
/// the answer to its own question, not by the other's question, which comes first: the peer goes by that question, and begins a resync.
#[test]
fn a_question_for_the_size_that_crosses_another_is_no_answer() {
    const LARGE: usize = SMALL * 3 / 2;
    for version in [93, 101] {
        let mut pair = synced_pair_at(version, Protocol::C);
        pair.a.set_bytes(LARGE);
        resize(&mut pair.a);
        pair.run();
        pair.b.set_bytes(LARGE);
        for (node, fill) in [(&mut pair.a, 7), (&mut pair.b, 8)] {
            node.data[SMALL..].fill(fill);
        }
        resize_clean(&mut pair.a);
        while pair.a.work() {}
        resize(&mut pair.b);
        while pair.b.work() {}
        let sizes = |pair: &Pair| [&pair.a, &pair.b].map(|node| node.core.volume(V).size_sectors());
        assert_eq!(sizes(&pair), [SECTORS, SECTORS * 3 / 2], "{}", pair.logs());
        pair.run();
        assert_eq!(sizes(&pair), [SECTORS * 3 / 2; 2], "{}", pair.logs());
        pair.assert_equal();
    }
}

/// Says that new space is the same on both disks.
fn resize_clean(node: &mut Node) -> AdminId {
    node.begin(Command::Resize { volume: V, size: 0, assume_peer_has_space: false, assume_clean: true })
}

fn both_sizes(pair: &Pair) -> [u64; 2] {
    [&pair.a, &pair.b].map(|node| node.core.volume(V).size_sectors())
}

/// Both disks have room for twice the size of the device, and each node knows that of the other; `a` is Primary.
fn pair_with_room(version: u32) -> Pair {
    pair_with_room_of(version, &settings(Protocol::C))
}

fn pair_with_room_of(version: u32, net: &NetSettings) -> Pair {
    let mut pair = synced_pair_of(version, net);
    pair.b.set_bytes(2 * SMALL);
    resize(&mut pair.b);
    pair.run();
    pair.a.set_bytes(2 * SMALL);
    resize_to(&mut pair.a, SECTORS);
    pair.run();
    for (node, fill) in [(&mut pair.a, 7), (&mut pair.b, 8)] {
        node.data[SMALL..].fill(fill);
        assert_eq!(node.core.volume(V).peer_size, 2 * SECTORS);
    }
    pair
}

/// The same where the one that is asked has been told to grow before, and is about to.
#[test]
fn a_question_for_the_size_that_comes_when_one_is_due_is_no_answer() {
    for version in [93, 101] {
        let mut pair = pair_with_room(version);
        pair.a.meta_held = Some(Vec::new());
        resize(&mut pair.a);
        while pair.a.work() {}
        resize_clean(&mut pair.b);
        while pair.b.work() {}
        while Pair::deliver(&mut pair.b, &mut pair.a, Socket::Data, pair.now) {}
        pair.a.release_meta();
        pair.run();
        assert_eq!(both_sizes(&pair), [SECTORS * 2; 2], "{}", pair.logs());
        pair.assert_equal();
    }
}

/// `node` has given its disk up; both disks have room for twice the size of the device since, which no node knows. `a` is Primary.
fn pair_that_detached(version: u32, node: fn(&mut Pair) -> &mut Node) -> Pair {
    let mut pair = synced_pair_at(version, Protocol::C);
    node(&mut pair).begin(Command::Detach { volume: V, force: false });
    pair.run();
    for node in [&mut pair.a, &mut pair.b] {
        node.set_bytes(2 * SMALL);
    }
    pair
}

/// Runs, and the device of `a` never gets smaller meanwhile.
fn run_without_shrinking(pair: &mut Pair) {
    let mut idle = 0;
    while idle < 100 {
        let before = pair.a.core.volume(V).size_sectors();
        idle = if pair.run_once() { 0 } else { idle + 1 };
        assert!(pair.a.core.volume(V).size_sectors() >= before, "{}", pair.logs());
    }
}

/// A Primary is told a size, and what its peer says of a disk that it attaches crosses the question: the size that the peer's user wanted
/// before is no answer. Else the device of the Primary grows to all the room there is, and shrinks again when the answer comes.
#[test]
fn a_disk_that_is_attached_does_not_take_back_a_size_that_was_asked_for() {
    for (version, peers) in [(86, 0), (101, 0), (101, WANTED - 800), (101, WANTED + 800)] {
        let mut pair = pair_that_detached(version, |pair| &mut pair.b);
        resize_to(&mut pair.a, WANTED);
        while pair.a.work() {}
        assert_eq!(pair.b.try_attach_with_size(peers), 101);
        run_without_shrinking(&mut pair);
        assert_eq!(both_sizes(&pair), [WANTED; 2], "{}", pair.logs());
        for node in [&pair.a, &pair.b] {
            assert_eq!(node.core.volume(V).settings().size, WANTED, "{}", pair.logs());
        }
        pair.assert_equal();
    }
}

/// The same, and the Primary attaches its disk, and shows all the room that both have: it goes back to what the peer was told at that moment
/// only if that is smaller than the device was before.
#[test]
fn a_size_that_was_asked_for_takes_nothing_back_from_a_primary_that_has_attached_its_disk() {
    for (version, wanted) in
        [(86, SECTORS * 3 / 2), (101, SECTORS * 3 / 2), (86, SECTORS - 800), (101, SECTORS - 800)]
    {
        // The other word may come when the disk is there, and before that is durable.
        for hears_at_once in [false, true] {
            let mut pair = pair_that_detached(version, |pair| &mut pair.a);
            resize(&mut pair.b);
            pair.run();
            assert_eq!(pair.a.core.volume(V).peer_size, 2 * SECTORS, "{}", pair.logs());
            resize_to(&mut pair.b, wanted);
            while pair.b.work() {}
            pair.a.meta_held = hears_at_once.then(Vec::new);
            pair.a.try_attach_with_size(0);
            while pair.a.word().2 == Disk::Attaching && hears_at_once {
                let held = pair.a.meta_held.replace(Vec::new()).unwrap_or_default();
                for output in held {
                    pair.a.meta_held = None;
                    pair.a.carry_out(output);
                    pair.a.meta_held = Some(Vec::new());
                }
                while pair.a.work() {}
            }
            if hears_at_once {
                for _ in 0..20 {
                    Pair::deliver(&mut pair.b, &mut pair.a, Socket::Data, pair.now);
                }
                pair.a.release_meta();
            }
            if wanted > SECTORS {
                run_without_shrinking(&mut pair);
            }
            pair.run();
            let end = if wanted > SECTORS { 2 * SECTORS } else { wanted };
            assert_eq!(both_sizes(&pair), [end; 2], "{}", pair.logs());
            assert_eq!(
                (pair.a.word().1, pair.a.word().2),
                (Conn::Connected, Disk::UpToDate),
                "{}",
                pair.logs()
            );
        }
    }
}

/// A Primary attaches its disk, and its peer is told a size when it knows how much room that has, but not yet what comes of it. That is refused:
/// the Primary cannot tell it from a size that was said before, and the bitmaps that are exchanged have one size.
#[test]
fn a_size_that_is_asked_for_in_the_middle_of_an_attach_is_refused() {
    for version in [86, 101] {
        let mut pair = pair_that_detached(version, |pair| &mut pair.a);
        resize(&mut pair.b);
        pair.run();
        pair.a.try_attach_with_size(0);
        while !matches!(pair.a.outgoing[Socket::Data as usize].front(), Some((_, Packet::Sizes(_), _))) {
            assert!(Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now), "{}", pair.logs());
        }
        Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now);
        while pair.b.work() {}
        let id = resize_to(&mut pair.b, WANTED);
        while pair.b.work() {}
        run_without_shrinking(&mut pair);
        assert_eq!(pair.b.replies[&id], 130, "{}", pair.logs());
        assert_eq!(both_sizes(&pair), [2 * SECTORS; 2], "{}", pair.logs());
        assert_eq!((pair.a.word().1, pair.a.word().2), (Conn::Connected, Disk::UpToDate), "{}", pair.logs());
        let id = resize_to(&mut pair.b, WANTED);
        pair.run();
        assert_eq!(pair.b.replies[&id], 101, "{}", pair.logs());
        assert_eq!(both_sizes(&pair), [WANTED; 2], "{}", pair.logs());
    }
}

/// A node without a disk knows of no size that a user wants: its answer takes none back, and when it attaches a disk it goes by what the
/// peer has told it.
#[test]
fn a_size_that_was_asked_for_while_the_peer_has_no_disk_stays() {
    for (version, wanted) in
        [(86, SECTORS * 3 / 2), (101, SECTORS * 3 / 2), (86, SECTORS - 800), (101, SECTORS - 800)]
    {
        let mut pair = pair_that_detached(version, |pair| &mut pair.b);
        resize_to(&mut pair.a, wanted);
        pair.run();
        assert_eq!(pair.a.core.volume(V).settings().size, wanted, "{}", pair.logs());
        assert_eq!(pair.b.try_attach_with_size(0), 101);
        run_without_shrinking(&mut pair);
        assert_eq!(both_sizes(&pair), [wanted; 2], "{}", pair.logs());
        assert_eq!((pair.b.word().1, pair.b.word().2), (Conn::Connected, Disk::UpToDate), "{}", pair.logs());
    }
}

/// A node has grown and written alone, and attaches its disk beside one that lacks that. The user of that peer has wanted a size meanwhile, for a
/// device that was smaller: it takes nothing of what was written.
#[test]
fn a_size_that_was_asked_for_beside_old_data_cuts_nothing_off() {
    const LARGE: usize = 2 * SMALL;
    const TOO_SMALL: usize = SMALL * 3 / 2 + 4096;
    for (version, room, assume_peer_has_space) in [
        (86, LARGE, false),
        (101, LARGE, false),
        (86, LARGE, true),
        (101, LARGE, true),
        (101, TOO_SMALL, false),
        (101, TOO_SMALL, true),
    ] {
        let mut pair = synced_pair_at(version, Protocol::C);
        pair.b.begin(Command::Disconnect { force: false });
        pair.run();
        pair.a.set_bytes(LARGE);
        assert_eq!(resize_alone(&mut pair.a), 101);
        pair.a.write(2 * SECTORS - 8, 7, 4096);
        pair.run();
        pair.a.begin(Command::Secondary { volume: V, open: false });
        pair.run();
        pair.a.begin(Command::Detach { volume: V, force: false });
        pair.run();
        pair.b.set_bytes(room);
        let resize = Command::Resize { volume: V, size: WANTED, assume_peer_has_space, assume_clean: false };
        assert_eq!(pair.b.command(resize), 101);
        assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        pair.run();
        assert_eq!((pair.a.word().1, pair.a.word().2), (Conn::Connected, Disk::Diskless), "{}", pair.logs());

        let attached = pair.a.try_attach_with_size(0);
        pair.run();
        assert_eq!(pair.a.super_block().effective_size_sectors, 2 * SECTORS, "{}", pair.logs());
        if room == TOO_SMALL {
            assert_eq!(attached, 170, "{}", pair.logs());
            continue;
        }
        assert_eq!(attached, 101, "{}", pair.logs());
        assert_eq!(both_sizes(&pair), [2 * SECTORS; 2], "{}", pair.logs());
        pair.assert_equal();
    }
}

/// A node hears of a size that the peer's user wants while it attaches its disk.
#[test]
fn a_size_that_was_asked_for_during_an_attach_stays() {
    for version in [86, 101] {
        let mut pair = pair_that_detached(version, |pair| &mut pair.b);
        pair.b.meta_held = Some(Vec::new());
        pair.b.try_attach_with_size(0);
        resize_to(&mut pair.a, WANTED);
        for _ in 0..20 {
            pair.run_once();
        }
        assert_eq!(pair.b.word().2, Disk::Attaching, "{}", pair.logs());
        pair.b.release_meta();
        run_without_shrinking(&mut pair);
        assert_eq!(both_sizes(&pair), [WANTED; 2], "{}", pair.logs());
        pair.assert_equal();
    }
}

/// Both nodes are told a size before they hear of each other. Whoever hears of it first, they come to one size; no device shrinks if nobody
/// wanted a smaller one than there was.
#[test]
fn two_sizes_that_cross_come_to_one() {
    let (less, more, most) = (SECTORS - 800, SECTORS + 800, 2 * SECTORS);
    for (at_a, at_b, end) in [
        (more, more + 80, more + 80),
        (more + 80, more, more + 80),
        (0, more, most),
        (more, 0, most),
        (less, 0, less),
        (0, less, less),
        (less, less - 80, less - 80),
        (less, more, less),
        (more, less, less),
        (SECTORS, more, more),
        (more, SECTORS, more),
        (less, SECTORS, less),
        (SECTORS, less, less),
    ] {
        // How much `b` has done when it hears of the command of `a`; and whether its meta data are not durable then.
        for (version, turns, held) in [(86, 0, false), (101, 1, false), (86, 20, false), (101, 20, true)] {
            let mut pair = pair_with_room(version);
            resize_to(&mut pair.a, at_a);
            while pair.a.work() {}
            pair.b.meta_held = held.then(Vec::new);
            resize_to(&mut pair.b, at_b);
            for _ in 0..turns {
                pair.b.work();
            }
            if held {
                for _ in 0..20 {
                    Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now);
                }
                pair.b.release_meta();
            }
            if end >= SECTORS {
                run_without_shrinking(&mut pair);
            }
            pair.run();
            assert_eq!(both_sizes(&pair), [end; 2], "{at_a} {at_b} {turns}: {}", pair.logs());
            for node in [&pair.a, &pair.b] {
                let word = (node.word().1, node.word().2);
                assert_eq!(word, (Conn::Connected, Disk::UpToDate), "{}", pair.logs());
                assert_eq!(node.core.volume(V).out_of_sync_bits(), 0, "{}", pair.logs());
            }
            let bytes = end as usize * 512;
            assert!(pair.a.data[..bytes] == pair.b.data[..bytes], "{}", pair.logs());
        }
    }
}

/// A node is told one size, and another before the peer has answered: that answer is about the first one.
#[test]
fn an_answer_does_not_take_back_a_size_that_was_asked_for_since() {
    for version in [86, 101] {
        let mut pair = pair_with_room(version);
        for wanted in [SECTORS + 800, SECTORS + 1600, 0] {
            resize_to(&mut pair.a, wanted);
            while pair.a.work() {}
        }
        run_without_shrinking(&mut pair);
        assert_eq!(both_sizes(&pair), [2 * SECTORS; 2], "{}", pair.logs());
        pair.assert_equal();
    }
}

/// A Primary has grown when it has heard a question, which the peer, who asked, does only when the answer comes. The user of the peer names a size
/// before that: it may not take back what the Primary shows already. Once the answer is there, it may.
#[test]
fn a_resize_before_the_answer_to_another_takes_back_no_space() {
    for (version, wanted) in [(86, WANTED), (101, WANTED), (101, SECTORS)] {
        let mut pair = synced_pair_at(version, Protocol::C);
        for node in [&mut pair.a, &mut pair.b] {
            node.set_bytes(2 * SMALL);
        }
        resize(&mut pair.b);
        while pair.b.work() {}
        while Pair::deliver(&mut pair.b, &mut pair.a, Socket::Data, pair.now) {}
        while pair.a.work() {}
        assert_eq!(both_sizes(&pair), [2 * SECTORS, SECTORS], "{}", pair.logs());
        let id = resize_to(&mut pair.b, wanted);
        run_without_shrinking(&mut pair);
        assert_eq!(pair.b.replies[&id], 170, "{}", pair.logs());
        assert_eq!(both_sizes(&pair), [2 * SECTORS; 2], "{}", pair.logs());
        pair.assert_equal();
        let id = resize_to(&mut pair.b, wanted);
        pair.run();
        assert_eq!(pair.b.replies[&id], 101, "{}", pair.logs());
        assert_eq!(both_sizes(&pair), [wanted; 2], "{}", pair.logs());
    }
}

/// A node hears of a size while it moves its meta data for another one, which the peer hears of before it has an answer: for both nodes the
/// two cross.
#[test]
fn two_sizes_that_cross_while_meta_data_move_come_to_one() {
    const OLD: usize = 8 << 20;
    let mut pair = Pair::new(101);
    pair.a = Node::with_internal_meta_data(1, OLD + (4 << 20));
    pair.b = Node::with_internal_meta_data(2, OLD);
    pair.connect(&settings(Protocol::C));
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    let old = pair.a.core.volume(V).size_sectors();
    pair.b.set_bytes(OLD + (2 << 20));
    resize_to(&mut pair.b, old);
    pair.run();
    assert_eq!(both_sizes(&pair), [old; 2], "{}", pair.logs());

    pair.b.set_bytes(OLD + (4 << 20));
    pair.b.meta_held = Some(Vec::new());
    resize_to(&mut pair.b, old + 800);
    while pair.b.work() {}
    resize_to(&mut pair.a, old + 1600);
    while pair.a.work() {}
    assert_eq!(both_sizes(&pair), [old + 1600, old], "{}", pair.logs());
    for _ in 0..20 {
        Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now);
    }
    pair.b.release_meta();
    run_without_shrinking(&mut pair);
    assert_eq!(both_sizes(&pair), [old + 1600; 2], "{}", pair.logs());
    assert_eq!((pair.a.word().1, pair.b.word().2), (Conn::Connected, Disk::UpToDate), "{}", pair.logs());
}

/// A command that is refused in the end leaves no size behind that would count when the nodes meet again.
#[test]
fn a_resize_that_is_refused_is_forgotten() {
    let (mut pair, _) = pair_about_to_resize_alone(true);
    pair.release_meta_of_a();
    pair.run();
    pair.a.set_bytes(pair.a.data.len() + (1 << 20));
    pair.a.meta_held = Some(Vec::new());
    let before = pair.a.core.volume(V).size_sectors();
    let id = resize_to(&mut pair.a, before - 800);
    while pair.a.work() {}
    pair.b.begin(Command::Invalidate { volume: V });
    for _ in 0..100 {
        pair.run_once();
    }
    pair.release_meta_of_a();
    pair.run();
    assert_eq!(pair.a.replies[&id], 130, "{}", pair.logs());
    pair.lose_link();
    pair.meet_again();
    assert_eq!(both_sizes(&pair), [before; 2], "{}", pair.logs());
    assert_eq!(pair.a.word().1, Conn::Connected, "{}", pair.logs());
}

/// Each of two nodes has had its disk grow, or sees both disks large, and is told to grow before it hears of the other; one of them with the word
/// that new space is the same on both disks. Whichever way they hear of it, both begin the resync that the other command asks for.
#[test]
fn two_commands_to_grow_that_cross_come_to_the_same_end() {
    const LARGE: usize = SMALL * 3 / 2;
    for (clean_a, knows_a, knows_b) in [true, false]
        .into_iter()
        .flat_map(|clean| [(clean, false, false), (clean, true, false), (clean, false, true)])
    {
        let mut pair = synced_pair();
        // The peer hears of a large disk while its own is small still.
        if knows_b {
            pair.a.set_bytes(LARGE);
            resize(&mut pair.a);
            pair.run();
        }
        if knows_a {
            pair.b.set_bytes(LARGE);
            resize(&mut pair.b);
            pair.run();
        }
        grow_both(&mut pair.a, &mut pair.b, SMALL, LARGE);
        for (node, assume_clean) in [(&mut pair.a, clean_a), (&mut pair.b, !clean_a)] {
            node.begin(Command::Resize { volume: V, size: 0, assume_peer_has_space: false, assume_clean });
            while node.work() {}
        }
        pair.run();
        for node in [&pair.a, &pair.b] {
            assert_eq!(node.core.volume(V).size_sectors(), SECTORS * 3 / 2, "{}", pair.logs());
        }
        pair.assert_equal();
    }
}

/// The disk of a Primary has grown when the answer to its question comes, and the user of the peer has asked for a size meanwhile that is more than
/// the two had: the device does not show all the room first, which the peer does not know of.
#[test]
fn an_answer_is_about_the_size_that_was_told() {
    for version in [86, 101] {
        let mut pair = synced_pair_at(version, Protocol::C);
        pair.b.set_bytes(2 * SMALL);
        resize(&mut pair.b);
        pair.run();
        resize(&mut pair.a);
        pair.run_data_to_b();
        pair.a.set_bytes(2 * SMALL);
        resize_to(&mut pair.b, WANTED);
        run_without_shrinking(&mut pair);
        assert_eq!(both_sizes(&pair), [WANTED; 2], "{}", pair.logs());
        pair.assert_equal();
        resize(&mut pair.a);
        pair.run();
        assert_eq!(both_sizes(&pair), [2 * SECTORS; 2], "{}", pair.logs());
    }
}

/// A node that is told a size while another command is under way, which waits for the peer, names it for the device of that moment: what it grows by
/// before its turn comes is not taken back, unless the size was less from the first.
#[test]
fn a_resize_that_waits_for_another_command_takes_back_no_space() {
    for (version, wanted) in
        [(93, WANTED), (101, WANTED), (101, SECTORS), (93, SECTORS - 800), (101, SECTORS - 800)]
    {
        let mut pair = synced_pair_at(version, Protocol::C);
        pair.a.begin(Command::Secondary { volume: V, open: false });
        pair.run();
        for node in [&mut pair.a, &mut pair.b] {
            node.set_bytes(2 * SMALL);
        }
        let promotion = pair.a.begin(Command::Primary { volume: V, force: false });
        let id = resize_to(&mut pair.a, wanted);
        pair.a.work();
        Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now);
        resize_clean(&mut pair.b);
        // The answer about the role waits.
        pair.run_data();
        assert_eq!(pair.a.word().0, Role::Secondary, "{}", pair.logs());
        assert_eq!(both_sizes(&pair), [2 * SECTORS; 2], "{}", pair.logs());
        if wanted >= SECTORS {
            run_without_shrinking(&mut pair);
        }
        pair.run();
        let (code, end) = if wanted < SECTORS { (101, wanted) } else { (170, 2 * SECTORS) };
        assert_eq!((pair.a.replies[&promotion], pair.a.replies[&id]), (1, code), "{}", pair.logs());
        assert_eq!(both_sizes(&pair), [end; 2], "{}", pair.logs());
    }
}

/// The device has grown, and the peer has not been asked yet: it would not hear of the size in a resync or a verify, and get writes beyond its
/// end. None begins, whoever wants it.
#[test]
fn no_resync_or_verify_begins_between_a_new_size_and_the_question_for_it() {
    let commands = [
        || Command::Invalidate { volume: V },
        || Command::InvalidateRemote { volume: V },
        || Command::Verify { volume: V, start: None, stop: None },
    ];
    let net = NetSettings { verify_alg: "crc32c".to_owned(), ..settings(Protocol::C) };
    for (version, of_peer) in [(93, true), (101, true), (93, false), (101, false)] {
        for command in commands {
            let mut pair = pair_with_room_of(version, &net);
            pair.a.meta_held = Some(Vec::new());
            resize(&mut pair.a);
            while pair.a.work() {}
            assert_eq!(both_sizes(&pair), [SECTORS * 2, SECTORS], "{}", pair.logs());
            let id = if of_peer { &mut pair.b } else { &mut pair.a }.begin(command());
            pair.run_for_a_while();
            assert_eq!(pair.a.word().1, Conn::Connected, "{}", pair.logs());
            pair.a.release_meta();
            pair.run();
            assert_eq!(both_sizes(&pair), [SECTORS * 2; 2], "{}", pair.logs());
            let node = if of_peer { &pair.b } else { &pair.a };
            assert!(node.replies.contains_key(&id), "{}", pair.logs());
            pair.assert_equal();
        }
    }
}

/// Nor does a node pull ahead of its peer.
#[test]
fn no_node_pulls_ahead_between_a_new_size_and_the_question_for_it() {
    use crate::conf::settings::OnCongestion;
    for version in [97, 101] {
        let net = settings(Protocol::A);
        let net = NetSettings { on_congestion: OnCongestion::PullAhead, congestion_fill: 100, ..net };
        let mut pair = pair_with_room_of(version, &net);
        pair.a.write(0, 4, 4096);
        pair.run();
        for sector in [0, 64] {
            pair.a.write(sector, 5, 32768);
        }
        while pair.a.work() {}
        pair.a.meta_held = Some(Vec::new());
        resize(&mut pair.a);
        while pair.a.work() {}
        assert_eq!(both_sizes(&pair), [SECTORS * 2, SECTORS], "{}", pair.logs());
        pair.a.write(128, 6, 32768);
        while pair.a.work() {}
        assert_eq!(pair.a.word().1, Conn::Connected, "{}", pair.logs());
        pair.a.release_meta();
        pair.run();
        assert_eq!(both_sizes(&pair), [SECTORS * 2; 2], "{}", pair.logs());
        pair.assert_equal();
    }
}

/// The peer has been asked for a resync before the size comes into effect, and may have agreed.
#[test]
fn a_size_that_comes_into_effect_when_the_peer_has_been_asked_for_a_resync_is_refused() {
    let (mut pair, resize) = pair_about_to_resize_alone(true);
    let sizes = both_sizes(&pair);
    let invalidate = pair.a.begin(Command::InvalidateRemote { volume: V });
    while pair.a.work() {}
    pair.release_meta_of_a();
    pair.run();
    assert_eq!((pair.a.replies[&resize], pair.a.replies[&invalidate]), (130, 1), "{}", pair.logs());
    assert_eq!(both_sizes(&pair), sizes, "{}", pair.logs());
    assert_eq!((pair.a.word().1, pair.b.word().2), (Conn::Connected, Disk::UpToDate), "{}", pair.logs());
}

/// The same where it is the resync of the space that was added before, whose handler ends: it begins when the peer has been asked.
#[test]
fn no_resync_of_new_space_begins_between_the_next_size_and_the_question_for_it() {
    for (version, clean) in [(93, false), (101, false), (93, true), (101, true)] {
        let mut pair = pair_with_room(version);
        pair.a.running = Some(Vec::new());
        resize_to(&mut pair.a, WANTED);
        pair.run();
        let helper =
            pair.a.running.take().and_then(|mut running| running.pop()).expect("before-resync-source");
        pair.a.meta_held = Some(Vec::new());
        let id = if clean { resize_clean(&mut pair.a) } else { resize(&mut pair.a) };
        while pair.a.work() {}
        assert_eq!(both_sizes(&pair), [SECTORS * 2, WANTED], "{}", pair.logs());
        pair.a.core.helper_done(pair.now, helper, 0);
        pair.run_for_a_while();
        pair.a.release_meta();
        pair.run();
        assert_eq!(pair.a.replies[&id], 101, "{}", pair.logs());
        assert_eq!(both_sizes(&pair), [SECTORS * 2; 2], "{}", pair.logs());
        let bytes = if clean { WANTED as usize * 512 } else { 2 * SMALL };
        assert!(pair.a.data[..bytes] == pair.b.data[..bytes], "{}", pair.logs());
        for node in [&pair.a, &pair.b] {
            assert_eq!((node.word().1, node.word().2), (Conn::Connected, Disk::UpToDate), "{}", pair.logs());
        }
    }
}

/// The handler before the resync of new space takes so long that a disk goes meanwhile, and may be back. The source begins no resync from
/// the disk that comes back; what goes on at the other end it hears when the handler is over.
#[test]
fn the_resync_of_new_space_is_not_for_the_next_disk() {
    for (version, of_source, back) in
        [(93, true, true), (101, true, true), (101, false, true), (101, false, false)]
    {
        let mut pair = pair_with_room(version);
        pair.a.running = Some(Vec::new());
        resize(&mut pair.a);
        pair.run();
        let helper =
            pair.a.running.take().and_then(|mut running| running.pop()).expect("before-resync-source");
        assert_eq!(
            (pair.a.word().1, pair.b.word().1),
            (Conn::Connected, Conn::WFSyncUUID),
            "{}",
            pair.logs()
        );
        let node = if of_source { &mut pair.a } else { &mut pair.b };
        node.begin(Command::Detach { volume: V, force: true });
        pair.run();
        pair.a.write(3, 4, 4096);
        pair.run();
        let node = if of_source { &mut pair.a } else { &mut pair.b };
        if back {
            node.attach();
        }
        while pair.a.work() {}
        pair.a.core.helper_done(pair.now, helper, 0);
        while pair.a.work() {}
        let begins = if of_source { Conn::Connected } else { Conn::SyncSource };
        assert_eq!(pair.a.word().1, begins, "{}", pair.logs());
        pair.run();
        if !back {
            pair.b.attach();
            pair.run();
        }
        pair.assert_equal();
    }
}

/// The disk of the asking node grows between two `resize` commands, of which the peer has heard neither: the answer to the first is about the disk
/// as it was then, and what of new space is the same on both disks the second one says, by which the peer grows.
#[test]
fn the_answer_to_a_resize_is_about_the_disk_of_then() {
    for version in [93, 95, 101] {
        for clean_first in [true, false] {
            let mut pair = synced_pair_at(version, Protocol::C);
            let order = |pair: &mut Pair, clean: bool| {
                if clean {
                    resize_clean(&mut pair.a);
                } else {
                    resize(&mut pair.a);
                }
                while pair.a.work() {}
            };
            order(&mut pair, clean_first);
            grow_both(&mut pair.a, &mut pair.b, SMALL, 2 * SMALL);
            order(&mut pair, !clean_first);
            pair.run();
            assert_eq!(both_sizes(&pair), [2 * SECTORS; 2], "{}", pair.logs());
            for node in [&pair.a, &pair.b] {
                let done = (Conn::Connected, Disk::UpToDate);
                assert_eq!((node.word().1, node.word().2), done, "{version} {clean_first}\n{}", pair.logs());
            }
            assert_eq!(pair.a.data == pair.b.data, clean_first, "{version} {clean_first}\n{}", pair.logs());
        }
    }
}
