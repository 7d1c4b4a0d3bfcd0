//! Resync: who begins it, what ends it, what interrupts it.

use super::super::rules::ChangeKind;
use super::super::state::Change;
use super::*;
use crate::wire::requests::BlockRequest;

/// The two sockets are not ordered: the last acknowledgements of a resync can come when the target's
/// disk is gone and the blocks have changed.
#[test]
fn an_acknowledgement_of_an_earlier_resync_clears_no_bits() {
    let mut pair = synced_pair();
    pair.b.begin(Command::Detach { volume: V, force: false });
    pair.run();
    pair.a.write(4000, 99, 8192);
    pair.run();
    assert_eq!(pair.a.core.volume(V).out_of_sync_bits(), 2, "{}", pair.logs());
    let late = BlockAck { sector: 4000, block_id: ID_SYNCER, size: 8192, seq: 1 };
    pair.a.core.packet(pair.now, Socket::Meta, 0, Packet::RsWriteAck(late), None);
    assert_eq!(pair.a.core.volume(V).out_of_sync_bits(), 2);
}

/// Checksum-based resync: what is equal is not sent; what differs is, and ends up equal.
#[test]
fn a_target_asks_by_digest_when_csums_alg_is_set() {
    for (version, by_digest) in [(88, false), (89, true), (94, true), (101, true)] {
        let mut pair = Pair::new(version);
        let net = NetSettings { csums_alg: "sha1".to_owned(), ..settings(Protocol::C) };
        pair.connect(&net);
        let id = pair.a.begin(Command::Primary { volume: V, force: true });
        pair.run();
        assert_eq!(pair.a.replies[&id], 1, "{}", pair.logs());
        pair.assert_equal();

        pair.b.begin(Command::Disconnect { force: false });
        pair.run();
        for sector in (0..256).step_by(8) {
            pair.a.write(sector, 0, 4096);
        }
        pair.a.write(4096, 99, 16384);
        pair.run();
        assert_eq!(pair.b.command(Command::Connect(Box::new(net))), 101);
        pair.run();
        pair.assert_equal();
        let line = "88 % had equal checksums, eliminated: 128K; transferred 16K total 144K";
        for node in [&pair.a, &pair.b] {
            assert_eq!(node.log.iter().any(|text| text == line), by_digest, "{version}: {}", pair.logs());
        }
    }
}

/// csums-after-crash-only: a target that was no crashed Primary asks for the blocks.
#[test]
fn csums_after_crash_only_leaves_an_ordinary_resync_as_it_is() {
    let mut pair = Pair::new(101);
    let net =
        NetSettings { csums_alg: "sha1".to_owned(), csums_after_crash_only: true, ..settings(Protocol::C) };
    pair.connect(&net);
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    pair.assert_equal();
    assert!(!pair.b.log.iter().any(|text| text.contains("had equal checksums")), "{}", pair.logs());
}

/// Thin resync: the target asks for pieces of rs-discard-granularity whether they are zeroes; what was there is
/// zeroes then. Without the feature, and before it, all blocks are sent.
#[test]
fn a_target_with_rs_discard_granularity_asks_for_thin_pieces() {
    for (version, granularity, expected) in [(101, 65536, 9), (101, 1 << 20, 0), (101, 0, 0), (96, 65536, 0)]
    {
        let mut pair = synced_pair_at(version, Protocol::C);
        let settings_of_disk =
            DiskSettings { rs_discard_granularity: granularity, ..pair.b.core.volume(V).settings().clone() };
        let command = Command::DiskSettings { volume: V, settings: Box::new(settings_of_disk) };
        assert_eq!(pair.b.command(command), 101);
        pair.a.write(0, 99, 1 << 20);
        pair.run();
        pair.b.command(Command::Disconnect { force: false });
        pair.run();
        // Eight pieces of zeroes and one with a byte in it; a part of a piece.
        pair.a.write(128, 0, 9 * 65536);
        pair.a.write(128 * 3 + 9, 7, 512);
        pair.a.write(1920, 0, 32768);
        pair.run();
        assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        pair.run();
        pair.assert_equal();
        let thin = |packet: &&Packet| matches!(packet, Packet::RsThinRequest(request) if request.size == granularity);
        let zeroes =
            |packet: &&Packet| matches!(packet, Packet::RsDeallocated(range) if range.size == granularity);
        assert_eq!(pair.b.sent.iter().filter(thin).count(), expected, "{version} {granularity}");
        assert_eq!(
            pair.a.sent.iter().filter(zeroes).count(),
            expected.saturating_sub(1),
            "{version} {granularity}"
        );
    }
}

/// A handler that runs before a resync may end when the disk has gone and come back: what it was to begin is
/// over, and the new handshake decides.
#[test]
fn a_handler_that_ends_after_its_resync_was_called_off_begins_none() {
    let mut pair = synced_pair();
    pair.b.running = Some(Vec::new());
    pair.a.begin(Command::InvalidateRemote { volume: V });
    pair.run();
    assert_eq!(pair.b.word().1, Conn::WFSyncUUID, "{}", pair.logs());
    pair.b.begin(Command::Detach { volume: V, force: false });
    pair.run();
    assert_eq!((pair.b.word().1, pair.b.word().2), (Conn::Connected, Disk::Diskless), "{}", pair.logs());
    assert!(pair.b.core.receiver_ready());
    pair.b.attach();
    for id in pair.b.running.take().unwrap() {
        pair.b.core.helper_done(pair.now, id, 0);
    }
    assert_eq!(pair.b.word().2, Disk::Negotiating, "{}", pair.logs());
    pair.run();
    pair.assert_equal();
}

/// The peer is about to become a sync target when the Primary that ordered it gives its disk up. The peer's data count as
/// old from then on, and both know it; the Primary's disk does not come back beside them and wait for ever.
#[test]
fn a_source_that_leaves_before_the_resync_learns_what_its_target_is() {
    let mut pair = synced_pair_at(97, Protocol::C);
    pair.a.begin(Command::InvalidateRemote { volume: V });
    pair.a.command(Command::Detach { volume: V, force: true });
    pair.run();
    assert_eq!((pair.b.word().1, pair.b.word().2), (Conn::Connected, Disk::Outdated), "{}", pair.logs());
    assert!(pair.a.word().3 < Disk::Outdated, "{:?}{}", pair.a.word(), pair.logs());
    pair.a.attach();
    pair.run();
    assert_ne!(pair.a.word().2, Disk::Negotiating, "{}", pair.logs());
    assert_eq!(pair.a.word().3, Disk::Inconsistent, "{}", pair.logs());
}

/// What fence-peer did to the peer is undone when the peer is in sync again: by the source, and only where fencing
/// is configured.
#[test]
fn a_source_with_fencing_calls_unfence_peer() {
    for fencing in [Fencing::DontCare, Fencing::ResourceOnly] {
        let mut pair = synced_pair();
        for node in [&mut pair.a, &mut pair.b] {
            let settings = DiskSettings { fencing, ..node.core.volume(V).settings().clone() };
            let command = Command::DiskSettings { volume: V, settings: Box::new(settings) };
            assert_eq!(node.command(command), 101);
            node.log.clear();
        }
        pair.b.command(Command::Disconnect { force: true });
        pair.run();
        pair.a.write(4000, 99, 8192);
        pair.run();
        assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        pair.run();
        pair.assert_equal();
        let calls = |node: &Node| node.log.iter().filter(|line| *line == "helper unfence-peer").count();
        let expected = usize::from(fencing != Fencing::DontCare);
        assert_eq!((calls(&pair.a), calls(&pair.b)), (expected, 0), "{fencing:?}\n{}", pair.logs());
    }
}

/// A read error that `on-io-error pass_on` survives marks a block that the target of a resync knows nothing of.
#[test]
fn a_source_with_bits_of_its_own_ends_when_the_target_has() {
    for version in [86, 96, 101] {
        let mut pair = synced_pair_at(version, Protocol::C);
        pair.b.command(Command::Disconnect { force: false });
        pair.run();
        pair.a.write(4000, 99, 8192);
        pair.run();
        pair.b.held = Some(Vec::new());
        assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        pair.run();
        assert_eq!(pair.a.word().1, Conn::SyncSource, "{}", pair.logs());
        pair.a.core.local_error(V, 8000, 8, false);
        assert_eq!(pair.a.core.volume(V).out_of_sync_bits(), 3);
        pair.run_disk_backwards();
        assert_eq!((pair.a.word().1, pair.b.word().1), (Conn::Connected, Conn::Connected), "{}", pair.logs());
        assert_eq!(pair.a.core.volume(V).out_of_sync_bits(), 1, "the block that could not be read");
        // It is this disk that is not good. The peer, which is, and says so, gets what is written from now on.
        let failed = (Role::Primary, Conn::Connected, Disk::Inconsistent, Disk::UpToDate);
        assert_eq!(pair.a.word(), failed, "{}", pair.logs());
        assert_eq!(
            (pair.b.word().2, pair.b.word().3),
            (Disk::UpToDate, Disk::Inconsistent),
            "{}",
            pair.logs()
        );
        pair.a.write(6000, 7, 4096);
        pair.run();
        assert_eq!(pair.b.data[6000 * 512], 7, "{}", pair.logs());
        pair.a.begin(Command::Invalidate { volume: V });
        pair.run();
        pair.assert_equal();
    }
}

/// The source cannot read a block that the target has asked for (`on-io-error pass_on`), and a write brings it, before the source reads or before
/// its word of that comes: the target lacks nothing, is good, and gets what is written from then on.
#[test]
fn a_block_that_a_write_brings_instead_of_the_source_has_not_failed() {
    for (version, written_first) in [(86, false), (91, true), (96, false), (101, false), (101, true)] {
        let mut pair = pair_whose_source_cannot_read(version, written_first);
        let is_over = |pair: &Pair| pair.a.word().1 == Conn::Connected;
        let mut steps = 0..1000;
        while !is_over(&pair) && steps.next().is_some() {
            pair.run_once();
        }
        assert!(is_over(&pair), "{version}: {}", pair.logs());
        pair.a.write(6000, 7, 4096);
        pair.run();
        assert!(!pair.logs().contains("failed blocks"), "{version}: {}", pair.logs());
        if written_first {
            // Nothing has been written there since: it is this disk that is not good.
            let failed = (Role::Primary, Conn::Connected, Disk::Inconsistent, Disk::UpToDate);
            assert_eq!(pair.a.word(), failed, "{version}: {}", pair.logs());
            assert_eq!(pair.b.data[6000 * 512], 7, "{version}: {}", pair.logs());
            pair.a.begin(Command::Invalidate { volume: V });
            pair.run();
        }
        pair.assert_equal();
        assert_eq!(pair.b.data[4000 * 512], 77);
    }
}

/// `a` is the source, and has failed to read what `b` has asked for. Its application wrote there, before that (`written_first`) or behind it, and
/// `b` has this first.
fn pair_whose_source_cannot_read(version: u32, written_first: bool) -> Pair {
    let mut pair = synced_pair_at(version, Protocol::C);
    pair.b.command(Command::Disconnect { force: false });
    pair.run();
    pair.a.write(4000, 99, 8192);
    pair.run();
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    let asks = |packet: &Packet| matches!(packet, Packet::RsDataRequest(_));
    let has_asked =
        |pair: &Pair| pair.b.outgoing[Socket::Data as usize].iter().any(|(_, packet, _)| asks(packet));
    let mut steps = 0..1000;
    while pair.b.word().1 != Conn::SyncTarget && steps.next().is_some() {
        pair.run_once();
    }
    while !has_asked(&pair) && steps.next().is_some() {
        if !pair.b.work() {
            pair.now += 25;
            pair.b.core.timeout(pair.now);
        }
    }
    assert!(has_asked(&pair), "{}", pair.logs());
    if written_first {
        pair.a.write(4000, 77, 8192);
        while pair.a.work() {}
    }
    pair.a.held = Some(Vec::new());
    pair.run();
    if !written_first {
        pair.a.write(4000, 77, 8192);
        while pair.a.work() {}
    }
    let held = pair.a.held.take().unwrap_or_default();
    let [Output::DiskRead { volume, io, .. }] = held[..] else { panic!("{held:?}\n{}", pair.logs()) };
    pair.a.core.io_done(pair.now, volume, io, IoResult::Failed);
    pair.run_data_to_b();
    pair
}

/// Before version 96 a source ends when it has no bits left. A block that the target has asked for may be read yet, because a write
/// cleared its bit: the application writes it again when that is read, or the target would get the old block last.
#[test]
fn a_block_that_is_read_for_the_target_at_the_end_is_not_overtaken() {
    let mut pair = synced_pair_at(91, Protocol::C);
    pair.b.command(Command::Disconnect { force: false });
    pair.run();
    pair.a.write(0, 1, 4096);
    pair.run();
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    while pair.b.word().1 != Conn::SyncTarget {
        pair.run_once();
    }
    let asks = |node: &Node| {
        node.outgoing[Socket::Data as usize]
            .iter()
            .any(|(_, packet, _)| matches!(packet, Packet::RsDataRequest(_)))
    };
    while !asks(&pair.b) {
        if !pair.b.work() {
            pair.now += 25;
            pair.b.core.timeout(pair.now);
        }
    }
    pair.a.held = Some(Vec::new());
    pair.a.write(0, 2, 4096);
    pair.run();
    let held = pair.a.held.replace(Vec::new()).unwrap_or_default();
    assert!(matches!(held[..], [Output::DiskWrite { .. }]), "{held:?}\n{}", pair.logs());
    for output in held {
        let others = pair.a.held.take();
        pair.a.carry_out(output);
        pair.a.held = others;
    }
    pair.run();
    assert_eq!(pair.a.word().1, Conn::Connected, "{}", pair.logs());
    let held = pair.a.held.as_deref().unwrap_or_default();
    assert!(matches!(held, [Output::DiskRead { .. }]), "{held:?}\n{}", pair.logs());
    let token = pair.a.write(0, 3, 4096);
    pair.run();
    pair.a.release_held();
    pair.run();
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    assert_eq!((pair.a.data[0], pair.b.data[0]), (3, 3), "{}", pair.logs());
    pair.assert_equal();
}

/// A word that the peer sent before its promotion may come behind its request to be promoted: the first resync
/// waits for the word that says Primary, and for the UUIDs before it.
#[test]
fn a_late_word_does_not_use_up_the_first_resync() {
    let mut pair = Pair::new(101);
    pair.connect(&settings(Protocol::C));
    let late = crate::core::handshake::state_packet(pair.a.core.volume(V).state());
    pair.a.begin(Command::Primary { volume: V, force: true });
    while pair.b.core.volume(V).state().peer != Role::Primary {
        let busy = pair.a.work()
            | Pair::deliver(&mut pair.a, &mut pair.b, Socket::Meta, pair.now)
            | Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now)
            | pair.b.work()
            | Pair::deliver(&mut pair.b, &mut pair.a, Socket::Meta, pair.now);
        assert!(busy, "{}", pair.logs());
    }
    pair.b.core.packet(pair.now, Socket::Data, 0, late, None);
    pair.run();
    pair.assert_equal();
}

/// `c-min-rate` makes a resync step back for the application: what the resync itself moves does not count,
/// also while it is at the disk.
#[test]
fn a_resync_does_not_step_back_for_itself() {
    let mut pair = synced_pair();
    let application = |node: &Node| node.core.volume(V).counters().application;
    let before = (application(&pair.a), application(&pair.b));
    pair.b.held = Some(Vec::new());
    pair.a.begin(Command::InvalidateRemote { volume: V });
    pair.run();
    assert!(!pair.b.held.as_ref().unwrap().is_empty(), "{}", pair.logs());
    assert_eq!((application(&pair.a), application(&pair.b)), before);
    pair.run_disk_backwards();
    pair.assert_equal();
    assert_eq!((application(&pair.a), application(&pair.b)), before);
    pair.a.write(0, 1, 4096);
    pair.run();
    assert_eq!((application(&pair.a), application(&pair.b)), (before.0 + 8, before.1 + 8));
}

/// `invalidate-remote` needs no bitmap: a word that the target sent before it may come when this node is a source
/// already, and says Connected. That is not the end of the resync.
#[test]
fn a_word_from_before_the_resync_does_not_end_it() {
    let mut pair = synced_pair();
    let early = crate::core::handshake::state_packet(pair.b.core.volume(V).state());
    pair.b.held = Some(Vec::new());
    pair.b.running = Some(Vec::new());
    pair.a.begin(Command::InvalidateRemote { volume: V });
    pair.run();
    assert_eq!(pair.a.word().1, Conn::SyncSource, "{}", pair.logs());
    pair.a.core.packet(pair.now, Socket::Data, 0, early, None);
    pair.run();
    assert_eq!(pair.a.word().1, Conn::SyncSource, "{}", pair.logs());
    for id in pair.b.running.take().unwrap() {
        pair.b.core.helper_done(pair.now, id, 0);
    }
    pair.run();
    assert_eq!((pair.a.word().1, pair.b.word().1), (Conn::SyncSource, Conn::SyncTarget), "{}", pair.logs());
    pair.run_disk_backwards();
    pair.assert_equal();
}

/// A pair whose `b` is the target of a resync of one request, which has not begun; its disk holds requests back.
fn pair_in_resync(net: &NetSettings) -> Pair {
    let mut pair = Pair::new(101);
    pair.connect(net);
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    pair.assert_equal();
    pair.b.command(Command::Disconnect { force: false });
    pair.run();
    pair.a.write(4000, 99, 8192);
    pair.run();
    pair.b.held = Some(Vec::new());
    assert_eq!(pair.b.command(Command::Connect(Box::new(net.clone()))), 101);
    pair.run();
    assert_eq!((pair.a.word().1, pair.b.word().1), (Conn::SyncSource, Conn::SyncTarget), "{}", pair.logs());
    pair
}

/// Checksum-based resync, `on-io-error pass_on`: a target that cannot read its own block gets the source's.
#[test]
fn a_target_that_cannot_read_its_block_asks_for_the_sources() {
    let mut pair = pair_in_resync(&NetSettings { csums_alg: "sha1".to_owned(), ..settings(Protocol::C) });
    let reads = pair.b.held.take().unwrap();
    assert!(matches!(reads[..], [Output::DiskRead { .. }]), "{reads:?}");
    for read in reads {
        let Output::DiskRead { volume, io, .. } = read else { continue };
        pair.b.core.io_done(pair.now, volume, io, IoResult::Failed);
    }
    pair.run();
    pair.assert_equal();
}

/// A target that ends with failed blocks says so with its state alone: what failed there need not be known here.
#[test]
fn a_source_ends_with_a_target_that_failed() {
    let mut pair = pair_in_resync(&settings(Protocol::C));
    let mut word = pair.b.core.volume(V).state();
    word.conn = Conn::Connected;
    assert_eq!(word.disk, Disk::Inconsistent);
    pair.a.core.packet(pair.now, Socket::Data, 0, crate::core::handshake::state_packet(word), None);
    pair.run();
    assert_eq!((pair.a.word().1, pair.a.word().3), (Conn::Connected, Disk::Inconsistent), "{}", pair.logs());
    assert_eq!(pair.a.core.volume(V).out_of_sync_bits(), 2);
}

/// The end of a resync waits for the ping that went out for it, not for one of before, whose answer says nothing of the last
/// acknowledgements.
#[test]
fn the_end_of_a_resync_waits_for_its_own_ping() {
    let mut pair = pair_in_resync(&settings(Protocol::C));
    pair.b.core.request_ping();
    for write in pair.b.held.take().unwrap() {
        pair.b.carry_out(write);
    }
    while pair.b.work() {}
    let answer = || (0, Packet::PingAck, None);
    assert_eq!(
        pair.b.outgoing[Socket::Meta as usize].iter().filter(|(_, p, _)| *p == Packet::Ping).count(),
        2
    );
    pair.a.outgoing[Socket::Meta as usize].push_back(answer());
    Pair::deliver(&mut pair.a, &mut pair.b, Socket::Meta, pair.now);
    assert_eq!(pair.b.word().1, Conn::SyncTarget, "{}", pair.logs());
    pair.a.outgoing[Socket::Meta as usize].push_back(answer());
    Pair::deliver(&mut pair.a, &mut pair.b, Socket::Meta, pair.now);
    assert_eq!(pair.b.word().1, Conn::Connected, "{}", pair.logs());
}

/// The target's disk goes and comes back, and a block of before is to be done once more, all before an acknowledgement of the first
/// resync has arrived: the block was written here since, and the acknowledgement is not for that. The target, if it is no
/// kernel, does not even ask before it knows that no old answer is on its way; the source does not send before.
#[test]
fn a_late_acknowledgement_is_not_for_the_same_block_in_the_next_resync() {
    for asks_at_once in [false, true] {
        let mut pair = pair_in_resync(&settings(Protocol::C));
        for write in pair.b.held.take().unwrap() {
            pair.b.carry_out(write);
        }
        while pair.b.work() {}
        let mut late = std::mem::take(&mut pair.b.outgoing[Socket::Meta as usize]);
        assert!(late.iter().any(|(_, packet, _)| matches!(packet, Packet::RsWriteAck(_))), "{late:?}");
        pair.b.command(Command::Detach { volume: V, force: true });
        // The meta socket of `b` is slow.
        let run_slowly = |pair: &mut Pair, late: &mut VecDeque<Wire>| {
            for _ in 0..100 {
                pair.now += 1;
                pair.a.core.timeout(pair.now);
                pair.b.core.timeout(pair.now);
                let _ = pair.a.work() | pair.b.work();
                Pair::deliver(&mut pair.a, &mut pair.b, Socket::Meta, pair.now);
                Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now);
                Pair::deliver(&mut pair.b, &mut pair.a, Socket::Data, pair.now);
                late.append(&mut pair.b.outgoing[Socket::Meta as usize]);
            }
        };
        run_slowly(&mut pair, &mut late);
        assert_eq!(pair.a.word().3, Disk::Diskless, "{}", pair.logs());
        pair.a.write(4000, 77, 8192);
        pair.b.held = Some(Vec::new());
        pair.b.attach();
        run_slowly(&mut pair, &mut late);
        let words = (pair.a.word().1, pair.b.word().1);
        assert_eq!(words, (Conn::SyncSource, Conn::SyncTarget), "{}", pair.logs());
        if asks_at_once {
            let request = BlockRequest { sector: 4000, block_id: ID_SYNCER, size: 8192 };
            pair.a.core.packet(pair.now, Socket::Data, 0, Packet::RsDataRequest(request), None);
            while pair.a.work() {}
        }
        for (volume, packet, payload) in late {
            pair.a.core.packet(pair.now, Socket::Meta, volume, packet, payload);
        }
        let bits = pair.a.core.volume(V).out_of_sync_bits();
        assert_eq!(bits, 2, "the target lacks the last write\n{}", pair.logs());
        if !asks_at_once {
            pair.run_disk_backwards();
            pair.assert_equal();
        }
    }
}

/// A target that was allowed to detach asks for a block before it hears of that, and acknowledges it when the source has written that
/// block again, on its own disk only.
#[test]
fn an_acknowledgement_of_a_target_that_may_detach_clears_no_bits() {
    let mut pair = pair_in_resync(&settings(Protocol::C));
    let mask = crate::wire::StateChangeRequest { mask: 0x1e00, val: (Disk::Failed as u32) << 9 };
    pair.a.core.packet(pair.now, Socket::Data, 0, Packet::StateChangeRequest(mask), None);
    while pair.a.work() {}
    assert_eq!((pair.a.word().1, pair.a.word().3), (Conn::Connected, Disk::Failed), "{}", pair.logs());
    // The target's word from before comes behind the answer.
    let word = pair.b.core.volume(V).state();
    pair.a.core.packet(pair.now, Socket::Data, 0, crate::core::handshake::state_packet(word), None);
    let request = BlockRequest { sector: 4000, block_id: ID_SYNCER, size: 8192 };
    pair.a.core.packet(pair.now, Socket::Data, 0, Packet::RsDataRequest(request), None);
    while pair.a.work() {}
    let answer = pair.a.outgoing[Socket::Data as usize].pop_back();
    assert!(matches!(answer, Some((_, Packet::RsDataReply(_), _))), "{answer:?}\n{}", pair.logs());
    pair.b.command(Command::Detach { volume: V, force: true });
    pair.run();
    assert_eq!(pair.a.word().3, Disk::Failed, "{}", pair.logs());
    let token = pair.a.write(4000, 77, 8192);
    pair.run();
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    let late = BlockAck { sector: 4000, block_id: ID_SYNCER, size: 8192, seq: 1 };
    pair.a.core.packet(pair.now, Socket::Meta, 0, Packet::RsWriteAck(late), None);
    pair.run();
    assert_eq!(pair.a.core.volume(V).out_of_sync_bits(), 2, "{}", pair.logs());
}

/// A disk that failed (`on-io-error pass_on`) is not declared good because the node with the good data asks to have them replaced: it
/// asked before it heard of the failure.
#[test]
fn a_disk_that_failed_is_no_source_for_one_that_is_good() {
    let mut pair = Pair::new(101);
    pair.connect(&settings(Protocol::C));
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    pair.assert_equal();
    pair.b.core.local_error(V, 4000, 8, true);
    pair.b.core.timeout(pair.now);
    let crossing = pair.a.begin(Command::Invalidate { volume: V });
    pair.run();
    assert_eq!(pair.a.replies[&crossing], -10, "the peer refuses\n{}", pair.logs());
    let again = pair.a.begin(Command::Invalidate { volume: V });
    pair.run();
    assert_eq!(pair.a.replies[&again], -2, "{}", pair.logs());
    let remote = pair.b.begin(Command::InvalidateRemote { volume: V });
    pair.run();
    assert_eq!(pair.b.replies[&remote], -2, "{}", pair.logs());
    assert_eq!(
        pair.a.word(),
        (Role::Primary, Conn::Connected, Disk::UpToDate, Disk::Inconsistent),
        "{}",
        pair.logs()
    );
    let right = pair.b.begin(Command::Invalidate { volume: V });
    pair.run();
    assert_eq!(pair.b.replies[&right], 1, "{}", pair.logs());
    pair.assert_equal();
}

/// The same where the disk is gone, and the node that would give its data up for it has not heard of that: they are the only good ones.
#[test]
fn a_disk_that_is_gone_is_no_source() {
    let mut pair = synced_pair();
    assert_eq!(pair.b.command(Command::Detach { volume: V, force: true }), 1);
    let news = std::mem::take(&mut pair.b.outgoing[Socket::Data as usize]);
    assert!(!news.is_empty(), "{}", pair.logs());
    let crossing = pair.a.begin(Command::Invalidate { volume: V });
    pair.run();
    assert_eq!(pair.a.replies[&crossing], -10, "the peer refuses\n{}", pair.logs());
    pair.b.outgoing[Socket::Data as usize].extend(news);
    pair.run();
    let alone = (Role::Primary, Conn::Connected, Disk::UpToDate, Disk::Diskless);
    assert_eq!(pair.a.word(), alone, "{}", pair.logs());
}

/// The handler may throw away a snapshot of the data from before the resync.
#[test]
fn after_resync_target_is_called_when_the_disk_says_that_its_data_are_good() {
    let mut pair = Pair::new(101);
    pair.connect(&settings(Protocol::C));
    pair.a.begin(Command::Primary { volume: V, force: true });
    let left = |node: &Node| node.core.volume(V).out_of_sync_bits();
    while pair.b.word().1 != Conn::SyncTarget || left(&pair.b) == SECTORS / 8 {
        pair.run_once();
    }
    pair.b.meta_held = Some(Vec::new());
    pair.run();
    let called = |node: &Node| node.log.iter().any(|line| line == "helper after-resync-target");
    assert_eq!((pair.b.word().1, pair.b.word().2), (Conn::Connected, Disk::UpToDate), "{}", pair.logs());
    assert!(!called(&pair.b), "{}", pair.logs());
    pair.b.release_meta();
    pair.run();
    assert!(called(&pair.b), "{}", pair.logs());
    assert!(pair.b.super_block().flags.contains(MetaFlags::CONSISTENT));
    pair.assert_equal();
}

/// Else a crash near its end would cost all of a resync.
#[test]
fn a_resync_goes_on_where_it_was_when_the_target_crashed() {
    let mut pair = Pair::new(101);
    let slow = DiskSettings { resync_rate: 4096, ..DiskSettings::defaults(Dialect::V83) };
    for node in [&mut pair.a, &mut pair.b] {
        let settings = Box::new(slow.clone());
        assert_eq!(node.command(Command::DiskSettings { volume: V, settings }), 101);
    }
    pair.a.data.fill(3);
    pair.connect(&settings(Protocol::C));
    pair.a.begin(Command::Primary { volume: V, force: true });
    let left = |node: &Node| node.core.volume(V).out_of_sync_bits();
    while pair.b.word().1 != Conn::SyncTarget || left(&pair.b) > SECTORS / 8 / 4 {
        pair.run_once();
    }
    pair.b.core = Node::core(77);
    pair.b.wants_link = false;
    pair.run();
    pair.b.start();
    let after_crash = left(&pair.b);
    assert!(after_crash < SECTORS / 8 * 3 / 4, "{after_crash}");
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.run();
    pair.assert_equal();
}

/// A block that the application writes all the time, a part of it only, so that it stays out of sync until the resync
/// has had its turn. True if `over` becomes true meanwhile.
pub(super) fn hammered_until(pair: &mut Pair, sector: u64, over: impl Fn(&Pair) -> bool) -> bool {
    let mut token = pair.a.write(sector, 1, 512);
    for round in 0..2000 {
        if over(pair) {
            return true;
        }
        pair.run_once();
        pair.now += 5;
        pair.a.core.timeout(pair.now);
        pair.b.core.timeout(pair.now);
        if pair.a.completed.contains_key(&token) {
            // The next write begins before the last one's barrier is answered.
            token = pair.a.write(sector, round as u8, 512);
        }
    }
    false
}

#[test]
fn a_source_comes_to_a_block_that_is_written_all_the_time() {
    let mut pair = synced_pair();
    pair.b.begin(Command::Disconnect { force: false });
    pair.run();
    pair.a.write(4000, 99, 65536);
    pair.run();
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    let over = |pair: &Pair| pair.b.word().2 == Disk::UpToDate && pair.b.word().1 == Conn::Connected;
    assert!(hammered_until(&mut pair, 4003, over), "{}", pair.logs());
    pair.run();
    pair.assert_equal();
}

#[test]
fn a_primary_that_is_the_target_comes_to_a_block_that_is_written_all_the_time() {
    for throttle in [0, 4] {
        let mut pair = synced_pair();
        let disk = DiskSettings { c_min_rate: throttle, ..pair.a.core.volume(V).settings().clone() };
        pair.a.begin(Command::DiskSettings { volume: V, settings: Box::new(disk) });
        pair.a.begin(Command::Detach { volume: V, force: false });
        pair.run();
        pair.a.write(4000, 99, 65536);
        pair.run();
        pair.a.attach();
        let over = |pair: &Pair| pair.a.word().2 == Disk::UpToDate && pair.a.word().1 == Conn::Connected;
        assert!(hammered_until(&mut pair, 4003, over), "{}", pair.logs());
        pair.run();
        pair.assert_equal();
    }
}

/// A Secondary without a disk, whose peer attaches an Inconsistent disk of another generation and gives it up again: its own disk is still
/// the one with the data that it worked with.
#[test]
fn inconsistent_data_of_a_peer_that_attaches_are_not_the_ones_in_use() {
    let mut pair = synced_pair();
    pair.b.begin(Command::Disconnect { force: true });
    pair.run();
    pair.a.write(4000, 99, 8192);
    pair.run();
    let _ = pair.b.core.change(V, Change::disk(Disk::Inconsistent), ChangeKind::Hard, false);
    while pair.b.work() {}
    pair.b.command(Command::Detach { volume: V, force: true });
    assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1, "{}", pair.logs());
    pair.a.command(Command::Detach { volume: V, force: false });
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.run();
    let diskless = (Role::Secondary, Conn::Connected, Disk::Diskless, Disk::Diskless);
    assert_eq!((pair.a.word(), pair.b.word()), (diskless, diskless), "{}", pair.logs());
    pair.b.attach();
    pair.run();
    assert_eq!(pair.b.word().2, Disk::Inconsistent, "{}", pair.logs());
    pair.b.command(Command::Detach { volume: V, force: true });
    pair.run();
    pair.a.attach();
    pair.run();
    assert_eq!(pair.a.word().2, Disk::UpToDate, "{}", pair.logs());
    pair.b.attach();
    pair.run();
    pair.assert_equal();
}
