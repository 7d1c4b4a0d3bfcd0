//! Online verify: when it begins, what it gives way to, and its end.

use super::resync::hammered_until;
use super::*;
use crate::wire::acks::OvResult;

/// A verify takes two good disks for granted: it does not make one of a disk that is not.
#[test]
fn a_verify_is_refused_where_a_disk_is_not_up_to_date() {
    let mut pair = Pair::new(101);
    pair.connect(&NetSettings { verify_alg: "crc32c".to_owned(), ..settings(Protocol::C) });
    let fresh = (Role::Secondary, Conn::Connected, Disk::Inconsistent, Disk::Inconsistent);
    let verify = pair.b.begin(Command::Verify { volume: V, start: None, stop: None });
    pair.run();
    assert_eq!(pair.b.replies[&verify], -2, "{}", pair.logs());
    // A peer that asks all the same.
    let request = crate::wire::StateChangeRequest { mask: 0x1f0, val: (Conn::VerifyS as u32) << 4 };
    pair.a.core.packet(pair.now, Socket::Data, 0, Packet::StateChangeRequest(request), None);
    while pair.a.work() {}
    let reply = pair.a.outgoing[Socket::Meta as usize].pop_front();
    assert!(matches!(reply, Some((_, Packet::StateChangeReply(-2), _))), "{reply:?}");
    assert_eq!((pair.a.word(), pair.b.word()), (fresh, fresh), "{}", pair.logs());
}

/// Equal disks; `b`, whose disk answers nothing, has begun to verify the first blocks.
fn verifying_pair() -> Pair {
    let mut pair = Pair::new(101);
    pair.connect(&NetSettings { verify_alg: "crc32c".to_owned(), ..settings(Protocol::C) });
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    pair.assert_equal();
    pair.b.held = Some(Vec::new());
    pair.b.begin(Command::Verify { volume: V, start: None, stop: Some(64) });
    pair.run();
    assert_eq!((pair.a.word().1, pair.b.word().1), (Conn::VerifyT, Conn::VerifyS), "{}", pair.logs());
    pair
}

/// `on-io-error pass_on`: an error during a verify makes the disk Inconsistent, as at any other time, and ends the verify; the
/// application reads what this disk lacks from the peer.
#[test]
fn a_disk_that_fails_in_a_verify_is_not_good_any_more() {
    for fails_at_a in [true, false] {
        let mut pair = verifying_pair();
        let node = if fails_at_a { &mut pair.a } else { &mut pair.b };
        node.core.local_error(V, 4000, 8, true);
        node.core.timeout(pair.now);
        pair.run_disk_backwards();
        let (failed, other) = if fails_at_a { (&pair.a, &pair.b) } else { (&pair.b, &pair.a) };
        let of = |node: &Node| (node.word().1, node.word().2, node.word().3);
        assert_eq!(of(failed), (Conn::Connected, Disk::Inconsistent, Disk::UpToDate), "{}", pair.logs());
        assert_eq!(of(other), (Conn::Connected, Disk::UpToDate, Disk::Inconsistent), "{}", pair.logs());
        pair.b.data[4000 * 512..][..4096].fill(44);
        if fails_at_a {
            pair.a.core.read(pair.now, V, 1001, 4000, 4096);
            pair.run();
            assert_eq!(pair.a.completed[&1001].clone().unwrap().unwrap(), [44; 4096], "{}", pair.logs());
        }
    }
}

/// The peer comes to its decision about a resync when a verify has begun here: it is not left waiting.
#[test]
fn a_verify_gives_way_to_a_resync_that_the_peer_wants() {
    let mut pair = verifying_pair();
    let mut word = pair.b.core.volume(V).state();
    assert_eq!(word.conn, Conn::VerifyS);
    word.conn = Conn::WFBitMapT;
    pair.a.core.packet(pair.now, Socket::Data, 0, crate::core::handshake::state_packet(word), None);
    assert_eq!(pair.a.word().1, Conn::Connected, "decided anew: of one generation\n{}", pair.logs());
}

/// Another `verify`, for all of the device, has nothing to do: the one that runs has asked for all blocks up to its stop, and ends when they
/// are compared.
#[test]
fn a_verify_stops_where_it_was_told_to_when_it_began() {
    let mut pair = verifying_pair();
    let id = pair.b.begin(Command::Verify { volume: V, start: Some(800), stop: None });
    pair.run();
    assert_eq!(pair.b.replies[&id], 2, "{}", pair.logs());
    pair.run_disk_backwards();
    assert_eq!((pair.a.word().1, pair.b.word().1), (Conn::Connected, Conn::Connected), "{}", pair.logs());
}

#[test]
fn a_verify_comes_to_a_block_that_is_written_all_the_time() {
    let mut pair = synced_pair();
    let net = NetSettings { verify_alg: "sha1".to_owned(), ..settings(Protocol::C) };
    for node in [&mut pair.a, &mut pair.b] {
        assert_eq!(node.command(Command::NetSettings(Box::new(net.clone()))), 101);
    }
    pair.run();
    pair.a.begin(Command::Verify { volume: V, start: Some(4000), stop: Some(4064) });
    let over = |pair: &Pair| {
        pair.a.log.iter().any(|line| line.starts_with("Online verify ") && line.contains("done"))
    };
    assert!(hammered_until(&mut pair, 4003, over), "{}", pair.logs());
    pair.run();
    pair.assert_equal();
}

/// Below version 97 the peer cannot know where a verify is to stop: it is told that it is over. One that is to stop before it begins
/// compares one block.
#[test]
fn a_verify_that_stops_is_over_on_both_sides() {
    for (version, start, stop) in
        [(88, 0, 4001), (93, 0, 4001), (97, 0, 4001), (100, 0, 4001), (101, 0, 4001), (101, 8000, 64)]
    {
        let mut pair = Pair::new(version);
        pair.connect(&NetSettings { verify_alg: "sha1".to_owned(), ..settings(Protocol::C) });
        pair.a.begin(Command::Primary { volume: V, force: true });
        pair.run();
        pair.a.begin(Command::Verify { volume: V, start: Some(start), stop: Some(stop) });
        pair.run();
        assert!(pair.a.log.iter().any(|line| line.starts_with("Online verify done")), "{}", pair.logs());
        assert_eq!(pair.b.word().1, Conn::Connected, "{version}: {}", pair.logs());
    }
}

/// The answers come in the opposite order, that for the last block first.
#[test]
fn a_verify_that_stops_is_over_when_all_blocks_are_compared() {
    let mut pair = verifying_pair();
    while let Some(output) = pair.b.held.as_mut().and_then(Vec::pop) {
        assert_eq!(pair.b.word().1, Conn::VerifyS, "{}", pair.logs());
        let others = pair.b.held.take();
        pair.b.carry_out(output);
        pair.b.held = others;
        pair.run();
    }
    assert_eq!((pair.a.word().1, pair.b.word().1), (Conn::Connected, Conn::Connected), "{}", pair.logs());
}

/// What a verify found that has been given up comes when a resync has begun. The source has nothing to bring there: for the target it would be
/// a block that has failed.
#[test]
fn a_late_find_of_a_verify_is_not_a_failed_block_of_a_resync() {
    for version in [86, 95, 101] {
        let mut pair = synced_pair_at(version, Protocol::C);
        pair.lose_link();
        pair.a.write(4000, 99, 8192);
        pair.run();
        pair.a.held = Some(Vec::new());
        pair.meet_again();
        assert_eq!(pair.a.word().1, Conn::SyncSource, "{}", pair.logs());
        let find = OvResult { sector: 8000, size: 4096, seq: 1, in_sync: false };
        pair.a.core.packet(pair.now, Socket::Meta, 0, Packet::OvResult(find), None);
        pair.a.release_held();
        pair.run();
        pair.assert_equal();
    }
}
