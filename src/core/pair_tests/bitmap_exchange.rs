//! What precedes a resync: the bitmaps, and the sync UUID. Disks go meanwhile, and come back.

use super::super::steps::Step;
use super::*;

/// A disk goes in the middle of the exchange of the bitmaps. The peer waits for the rest and would take any other packet for
/// a violation of the protocol: it gets one without bits.
#[test]
fn a_bitmap_whose_disk_goes_is_sent_to_its_end() {
    let mut pair = synced_pair();
    pair.b.begin(Command::Disconnect { force: false });
    pair.run();
    pair.a.write(4000, 99, 8192);
    pair.run();
    pair.b.bitmaps_held = true;
    let net = NetSettings { use_rle: false, ..settings(Protocol::C) };
    assert_eq!(pair.b.command(Command::Connect(Box::new(net))), 101);
    while pair.b.core.bitmap_send.is_none() {
        pair.run_once();
    }
    let mut packets = Vec::new();
    packets.extend(pair.b.core.next_bitmap_packet(pair.now, V));
    assert_eq!(packets.len(), 1, "{}", pair.logs());
    pair.b.core.command(pair.now, 7000, Command::Detach { volume: V, force: true });
    while pair.b.work() {}
    let behind = std::mem::take(&mut pair.b.outgoing[Socket::Data as usize]);
    packets.extend(std::iter::from_fn(|| pair.b.core.next_bitmap_packet(pair.now, V)));
    let packets = packets.into_iter().map(|(packet, payload)| (0, packet, Some(payload)));
    pair.b.outgoing[Socket::Data as usize].extend(packets.chain(behind));
    pair.run();
    let protocol_error = |node: &Node| node.log.iter().any(|line| line.contains("ProtocolError"));
    assert!(!protocol_error(&pair.a) && !protocol_error(&pair.b), "{}", pair.logs());
    assert_eq!((pair.a.word().1, pair.a.word().3), (Conn::Connected, Disk::Diskless), "{}", pair.logs());
    pair.b.bitmaps_held = false;
    pair.b.attach();
    pair.run();
    pair.assert_equal();
}

/// Nothing that was decided behind a bitmap is done before the bitmap is on its way, and another one waits for the end of the first.
#[test]
fn what_is_decided_behind_a_bitmap_waits_for_its_end() {
    let mut pair = synced_pair();
    assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
    pair.run();
    pair.a.write(4000, 99, 8192);
    pair.run();
    pair.b.bitmaps_held = true;
    let flushes = pair.b.flushes;
    pair.a.attach();
    pair.run();
    assert_eq!(
        (pair.b.word().1, pair.b.core.bitmap_send.is_some()),
        (Conn::WFBitMapS, true),
        "{}",
        pair.logs()
    );
    assert_eq!(pair.b.flushes, flushes, "the mark of a Primary that it served goes\n{}", pair.logs());
    while let Some((packet, payload)) = pair.b.core.next_bitmap_packet(pair.now, V) {
        pair.b.outgoing[Socket::Data as usize].push_back((0, packet, Some(payload)));
    }
    pair.b.bitmaps_held = false;
    pair.run();
    assert!(pair.b.flushes > flushes, "{}", pair.logs());
    pair.assert_equal();
}

/// A source that begins a resync and gives its disk up: the target does not wait for ever.
#[test]
fn a_sync_uuid_of_a_source_without_disk_is_dropped() {
    let mut pair = synced_pair();
    pair.a.begin(Command::Detach { volume: V, force: false });
    pair.run();
    assert_eq!(pair.b.word().3, Disk::Diskless);
    pair.b.core.packet(pair.now, Socket::Data, 0, Packet::SyncUuid(0x1234), None);
    assert!(pair.b.core.receiver_ready());
}

/// `a`, Secondary, is the source, and its before-resync-source runs; its super block is not written before the test says so.
fn pair_with_a_source_in_its_handler() -> (Pair, HelperId) {
    let mut pair = synced_pair();
    pair.b.begin(Command::Disconnect { force: true });
    pair.run();
    pair.a.running = Some(Vec::new());
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.run();
    assert_eq!((pair.a.word().1, pair.b.word().1), (Conn::WFBitMapS, Conn::WFSyncUUID), "{}", pair.logs());
    pair.a.begin(Command::Secondary { volume: V, open: false });
    pair.run();
    let helper = pair.a.running.take().and_then(|mut running| running.pop()).expect("before-resync-source");
    pair.a.meta_held = Some(Vec::new());
    (pair, helper)
}

/// A source gives its disk up while it still writes the sync UUID that it then sends, and its last word before that, which crosses the
/// target's consent, says that the disk is there.
#[test]
fn a_sync_uuid_that_crosses_the_consent_to_a_detach_is_dropped() {
    let (mut pair, helper) = pair_with_a_source_in_its_handler();
    pair.a.core.helper_done(pair.now, helper, 0);
    while pair.a.work() {}
    pair.a.begin(Command::Detach { volume: V, force: false });
    // The consent, on the other socket, is slow.
    pair.run_data();
    assert_eq!((pair.a.word().1, pair.b.word().1), (Conn::SyncSource, Conn::Connected), "{}", pair.logs());
    pair.a.release_meta();
    pair.run_data_to_b();
    pair.run();
    assert!(pair.b.core.receiver_ready(), "{}", pair.logs());
    assert_eq!(pair.b.word().3, Disk::Diskless, "{}", pair.logs());
    // What it was dropped for is over: the next one is waited for again.
    pair.a.attach();
    pair.run();
    pair.assert_equal();
    pair.b.core.packet(pair.now, Socket::Data, 0, Packet::SyncUuid(0x1234), None);
    assert!(!pair.b.core.receiver_ready(), "{}", pair.logs());
}

/// The same, but that last word says that the source waits for a bitmap: the target begins another exchange, which the late sync UUID is not
/// of, and which it must not keep from going on.
#[test]
fn a_sync_uuid_that_comes_in_another_exchange_of_bitmaps_is_dropped() {
    let (mut pair, helper) = pair_with_a_source_in_its_handler();
    // A word of this waits for the super block.
    let word = pair.a.core.volume(V).state();
    pair.a.core.queue_steps([Step::WriteSuperBlock { v: V }, Step::SendState { v: V, word }]);
    pair.a.core.helper_done(pair.now, helper, 0);
    while pair.a.work() {}
    // This overtakes it.
    pair.a.begin(Command::Detach { volume: V, force: false });
    pair.run_data_to_b();
    assert_eq!((pair.a.word().1, pair.b.word().1), (Conn::SyncSource, Conn::Connected), "{}", pair.logs());
    pair.a.release_meta();
    pair.run_data_to_b();
    assert_eq!((pair.a.word().1, pair.b.word().1), (Conn::SyncSource, Conn::WFBitMapT), "{}", pair.logs());
    pair.run();
    assert!(pair.b.core.receiver_ready(), "{}", pair.logs());
    assert_eq!(pair.b.word().3, Disk::Diskless, "{}", pair.logs());
    pair.a.attach();
    pair.run();
    pair.assert_equal();
}

/// The target gives its disk up before half of the source's bitmap has come, or when it has, and attaches it again: what comes then of that
/// bitmap is not for the disk that negotiates.
#[test]
fn the_rest_of_a_bitmap_is_not_for_the_next_disk() {
    for half_first in [false, true] {
        rest_of_bitmap_comes_to_next_disk(half_first);
    }
}

fn rest_of_bitmap_comes_to_next_disk(half_first: bool) {
    let mut pair = Pair::new(101);
    pair.connect(&NetSettings { use_rle: false, ..settings(Protocol::C) });
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    pair.assert_equal();
    pair.lose_link();
    pair.a.write(4000, 99, 8192);
    while pair.a.work() {}
    (pair.a.wants_link, pair.b.wants_link) = (true, true);
    let is_bitmap = |pair: &Pair| {
        let next = pair.a.outgoing[Socket::Data as usize].front();
        next.is_some_and(|(_, packet, _)| matches!(packet, Packet::Bitmap))
    };
    for _ in 0..200 {
        if !pair.linked {
            pair.run_once();
            continue;
        }
        let _ = pair.a.work() | pair.b.work();
        if !is_bitmap(&pair) {
            Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now);
        }
        Pair::deliver(&mut pair.b, &mut pair.a, Socket::Data, pair.now);
    }
    assert_eq!(pair.b.word().1, Conn::WFBitMapT, "{}", pair.logs());
    if half_first {
        assert!(Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now));
    }
    assert_eq!(pair.b.command(Command::Detach { volume: V, force: true }), 1);
    while pair.b.work() {}
    if !half_first {
        assert!(Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now));
    }
    assert!(is_bitmap(&pair), "{}", pair.logs());
    pair.b.attach();
    while pair.b.work() {}
    assert_eq!((pair.b.word().1, pair.b.word().2), (Conn::Connected, Disk::Negotiating), "{}", pair.logs());
    pair.run();
    assert!(!pair.logs().contains("ProtocolError"), "{}", pair.logs());
    pair.assert_equal();
}

/// The handler of the source ends when the target has lost its disk and is attaching it again: the sync UUID of a resync that is over
/// for the target is no reason not to read what the source says next.
#[test]
fn a_late_sync_uuid_does_not_hold_up_a_disk_that_negotiates() {
    let mut pair = synced_pair();
    pair.b.begin(Command::Disconnect { force: true });
    pair.run();
    pair.a.write(4000, 99, 8192);
    pair.run();
    pair.a.running = Some(Vec::new());
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.run();
    assert_eq!((pair.a.word().1, pair.b.word().1), (Conn::WFBitMapS, Conn::WFSyncUUID), "{}", pair.logs());
    pair.b.command(Command::Detach { volume: V, force: true });
    pair.b.attach();
    assert_eq!(pair.b.word().2, Disk::Negotiating, "{}", pair.logs());
    for id in pair.a.running.take().unwrap() {
        pair.a.core.helper_done(pair.now, id, 0);
    }
    pair.run();
    pair.assert_equal();
}
