//! Writes: their order, and what becomes of those that a disk refuses.

use super::super::steps::Step;
use super::*;

/// A write that came before the peer was known, and waits, is cut for the version that is agreed on then.
#[test]
fn what_waits_is_cut_for_an_old_peer() {
    let mut pair = Pair::new(86);
    let net = settings(Protocol::C);
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    pair.a.begin(Command::SuspendIo { volume: V });
    pair.run();
    let token = pair.a.write(1000, 3, 512 << 10);
    pair.run();
    assert!(!pair.a.completed.contains_key(&token));
    pair.connect(&net);
    pair.a.begin(Command::ResumeIo { volume: V });
    pair.run();
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    pair.assert_equal();
}

/// The application of a Primary with protocol A need not wait before it writes a block once more: the
/// peer's disk gets all of them, and gets them in order, also if no barrier makes one epoch wait for another.
#[test]
fn writes_of_the_peer_to_the_same_blocks_keep_their_order() {
    let mut pair = Pair::new(101);
    for node in [&mut pair.a, &mut pair.b] {
        let settings = node.core.volume(V).settings().clone();
        let settings =
            DiskSettings { disk_barrier: false, disk_flushes: false, disk_drain: false, ..settings };
        assert_eq!(node.command(Command::DiskSettings { volume: V, settings: Box::new(settings) }), 101);
    }
    pair.connect(&settings(Protocol::A));
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    pair.assert_equal();
    pair.b.held = Some(Vec::new());
    for fill in 1..9 {
        pair.a.write(0, fill, 4096);
        pair.a.work();
    }
    // The third overlaps the second, which waits for the first, and not the first.
    for (sector, fill, bytes) in [(1000, 21, 8192), (1008, 22, 8192), (1016, 23, 4096)] {
        pair.a.write(sector, fill, bytes);
        pair.a.work();
    }
    pair.run_disk_backwards();
    pair.assert_equal();
}

/// The same with a read: a Primary whose own disk is gone gets what it wrote.
#[test]
fn a_read_of_the_peer_waits_for_its_earlier_writes() {
    let mut pair = synced_pair_with(Protocol::A);
    pair.a.begin(Command::Detach { volume: V, force: false });
    pair.run();
    pair.a.write(1008, 40, 4096);
    pair.run();
    pair.b.held = Some(Vec::new());
    // The second waits for the first; the read overlaps only the second.
    pair.a.write(1000, 41, 8192);
    pair.a.write(1008, 42, 8192);
    pair.a.work();
    let token = pair.a.next + 1;
    pair.a.next = token;
    pair.a.core.read(0, V, token, 1016, 4096);
    pair.run_disk_backwards();
    assert_eq!(pair.a.completed[&token].clone().unwrap().unwrap(), [42; 4096], "{}", pair.logs());
}

/// A write is on the own disk alone when that is given up, and then the link is lost. It does not count as done: the node goes
/// on with the data of a peer that never got it.
#[test]
fn a_write_on_a_disk_that_was_given_up_does_not_count() {
    let mut pair = synced_pair();
    let token = pair.a.write(4000, 99, 4096);
    while pair.a.work() {}
    pair.a.outgoing = Default::default();
    pair.a.command(Command::Detach { volume: V, force: true });
    for node in [&mut pair.a, &mut pair.b] {
        node.core.link_lost(pair.now, LinkFailure { conn: Conn::NetworkFailure, log: None });
    }
    pair.linked = false;
    pair.run();
    assert_eq!((pair.a.word().1, pair.a.word().3), (Conn::Connected, Disk::UpToDate), "{}", pair.logs());
    assert!(pair.a.completed[&token].is_err(), "{}", pair.logs());
}

/// A verify compares what both disks held when the other side read its block: a write that comes behind the digest gets to
/// the disk behind the comparison, or two equal blocks would count as different.
#[test]
fn a_write_of_the_peer_waits_until_a_verify_has_compared_its_blocks() {
    let mut pair = Pair::new(101);
    let net = NetSettings { verify_alg: "crc32c".to_owned(), ..settings(Protocol::C) };
    pair.connect(&net);
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    pair.assert_equal();
    pair.a.write(0, 1, 512);
    pair.run();
    pair.b.held = Some(Vec::new());
    pair.b.begin(Command::Verify { volume: V, start: None, stop: Some(64) });
    pair.run();
    assert_eq!(pair.b.held.as_ref().map(Vec::len), Some(8), "the digests are there\n{}", pair.logs());
    let token = pair.a.write(0, 99, 8192);
    pair.run();
    pair.run_disk_backwards();
    assert!(pair.a.completed[&token].is_ok());
    pair.assert_equal();
}

/// A Secondary marks what it cannot read. Where the bits cannot be written when it gives the disk up, the
/// super block says that any block may be out of sync.
#[test]
fn bits_of_a_failed_disk_are_written_or_stand_for_all() {
    for bitmap_fails in [false, true] {
        let mut pair = synced_pair();
        pair.b.detach_at_errors();
        pair.b.bitmap_fails = bitmap_fails;
        pair.b.core.local_error(V, 4000, 8, false);
        pair.run();
        assert_eq!(pair.b.word().2, Disk::Diskless, "{}", pair.logs());
        assert_eq!(pair.b.super_block().flags.contains(MetaFlags::FULL_SYNC), bitmap_fails);
        pair.b.bitmap_fails = false;
        pair.b.attach();
        pair.run();
        pair.assert_equal();
        let bits = if bitmap_fails { "will sync 40960 KB" } else { "will sync 4 KB" };
        assert!(pair.b.log.iter().any(|line| line.contains(bits)), "{}", pair.logs());
    }
}

/// Protocol B acknowledges what the peer's memory has: where the link is lost before the peer's disk has it,
/// the application hears of the write only when the new generation is durable.
#[test]
fn a_received_write_waits_for_the_new_generation_when_the_peer_is_lost() {
    let mut pair = synced_pair_with(Protocol::B);
    pair.a.held = Some(Vec::new());
    pair.b.held = Some(Vec::new());
    let token = pair.a.write(4000, 99, 8192);
    pair.run();
    pair.a.core.link_lost(pair.now, LinkFailure { conn: Conn::BrokenPipe, log: None });
    pair.a.meta_held = Some(Vec::new());
    pair.a.release_held();
    while pair.a.work() {}
    assert!(!pair.a.completed.contains_key(&token), "{}", pair.logs());
    pair.a.release_meta();
    while pair.a.work() {}
    assert!(pair.a.completed[&token].is_ok());
}

/// The same for a write that was cut: the peer's disk has the part that is done last, but not the one that counted as done when it had been
/// sent.
#[test]
fn the_rest_of_a_cut_write_waits_for_the_new_generation_when_the_peer_is_lost() {
    let mut pair = Pair::new(86);
    pair.connect(&NetSettings { max_epoch_size: 1, ..settings(Protocol::A) });
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    pair.a.held = Some(Vec::new());
    let token = pair.a.write(0, 99, 64 << 10);
    while pair.a.work() {}
    while !matches!(pair.a.outgoing[Socket::Data as usize].front(), None | Some((_, Packet::Barrier(_), _))) {
        Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now);
    }
    Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now);
    while pair.b.work() {}
    while Pair::deliver(&mut pair.b, &mut pair.a, Socket::Meta, pair.now) {}
    let mut at_disk = pair.a.held.take().unwrap();
    assert_eq!(at_disk.len(), 2, "{}", pair.logs());
    pair.a.carry_out(at_disk.pop().unwrap());
    while pair.a.work() {}
    pair.a.core.link_lost(pair.now, LinkFailure { conn: Conn::BrokenPipe, log: None });
    pair.a.meta_held = Some(Vec::new());
    while pair.a.work() {}
    pair.a.carry_out(at_disk.pop().unwrap());
    while pair.a.work() {}
    assert!(!pair.a.completed.contains_key(&token), "{}", pair.logs());
    pair.a.release_meta();
    while pair.a.work() {}
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
}

/// Writes of several epochs wait in the fifo for something else. Each epoch gets its barrier, also the last one, though no write
/// comes behind it: the activity log would keep its extents, and a resync would wait for them.
#[test]
fn epochs_that_were_closed_before_they_were_sent_get_their_barriers() {
    let mut pair = Pair::new(101);
    pair.connect(&NetSettings { max_epoch_size: 2, ..settings(Protocol::C) });
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    // The activity log has the extent from then on.
    pair.a.write(0, 7, 4096);
    pair.run();
    pair.a.meta_held = Some(Vec::new());
    pair.a.core.queue_steps([Step::WriteSuperBlock { v: V }]);
    pair.a.core.timeout(pair.now);
    for sector in (0..32).step_by(8) {
        pair.a.write(sector, 1, 4096);
    }
    while pair.a.work() {}
    assert_eq!(pair.a.core.epochs.writes, 0, "two epochs are full");
    assert!(pair.a.outgoing[Socket::Data as usize].is_empty(), "{}", pair.logs());
    pair.a.release_meta();
    pair.run();
    assert!(!pair.a.core.has_open_epochs(V), "{}", pair.logs());
    pair.assert_equal();
}

/// A write that a lost Primary left at the disk comes before one of the node that takes over.
#[test]
fn an_own_write_waits_for_one_of_the_peer_that_is_at_the_disk() {
    let mut pair = synced_pair();
    pair.b.held = Some(Vec::new());
    pair.a.write(4000, 99, 8192);
    pair.run();
    pair.a.command(Command::Disconnect { force: true });
    pair.run();
    assert_eq!(pair.b.command(Command::Primary { volume: V, force: false }), 1, "{}", pair.logs());
    let token = pair.b.write(4008, 100, 4096);
    while pair.b.work() {}
    assert_eq!(pair.b.held.as_ref().unwrap().len(), 1, "two at the disk");
    pair.run_disk_backwards();
    assert!(pair.b.completed[&token].is_ok());
    assert_eq!(pair.b.data[4008 * 512], 100);
}

/// `b` has given up its disk and refused a write of `a`, which is done. The news of the disk are held up: they are what is returned.
fn pair_with_a_refused_write() -> (Pair, VecDeque<Wire>) {
    let mut pair = synced_pair();
    assert_eq!(pair.b.command(Command::Detach { volume: V, force: true }), 1);
    let news = std::mem::take(&mut pair.b.outgoing[Socket::Data as usize]);
    assert!(!news.is_empty(), "{}", pair.logs());
    let token = pair.a.write(4000, 99, 8192);
    pair.run();
    assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
    assert!(!pair.a.core.has_open_epochs(V), "{}", pair.logs());
    assert_eq!(pair.a.word().3, Disk::UpToDate, "{}", pair.logs());
    (pair, news)
}

/// What the peer refused it gets when it has a disk again, whatever this node hears first: that the disk is gone, or that it is no longer
/// Primary itself; and also if it hears nothing more before it dies.
#[test]
fn a_refused_write_comes_with_a_resync_behind_a_demotion() {
    for dies in [false, true] {
        let (mut pair, news) = pair_with_a_refused_write();
        assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1, "{}", pair.logs());
        if dies {
            pair.lose_link();
            pair.a.core = Node::core(77);
            pair.a.start();
            pair.b.attach();
            let net = Box::new(settings(Protocol::C));
            assert_eq!(pair.a.command(Command::Connect(net)), 101);
            pair.meet_again();
        } else {
            pair.b.outgoing[Socket::Data as usize].extend(news);
            pair.run();
            assert_eq!(pair.a.word().3, Disk::Diskless, "{}", pair.logs());
            pair.b.attach();
            pair.run();
        }
        pair.assert_equal();
        assert_eq!(pair.b.data[4000 * 512], 99);
    }
}

/// The same if the disk of `a` goes, too: a generation begins with what it has, and what the peer has left is not that. Also when the link is lost,
/// `a` goes by its own disk.
#[test]
fn a_refused_write_is_kept_by_a_disk_that_goes_behind_it() {
    for hears in [false, true] {
        let (mut pair, news) = pair_with_a_refused_write();
        assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1, "{}", pair.logs());
        assert_eq!(pair.a.word().2, Disk::Diskless, "{}", pair.logs());
        assert_ne!(pair.a.super_block().uuids[1], 0, "{}", pair.logs());
        // No other change of state makes the peer's data the newer ones.
        for command in [Command::PauseSync { volume: V }, Command::ResumeSync { volume: V }] {
            assert_eq!(pair.a.command(command), 101, "{}", pair.logs());
        }
        if hears {
            pair.b.outgoing[Socket::Data as usize].extend(news);
            pair.run_for_a_while();
        }
        pair.lose_link();
        pair.b.attach();
        assert_eq!(pair.a.try_attach(), 101, "{hears}\n{}", pair.logs());
        pair.meet_again();
        pair.assert_equal();
        assert_eq!(pair.b.data[4000 * 512], 99);
    }
}

/// The same if the link is lost instead and a freeze follows: other frozen writes would be sent again, this one is done.
#[test]
fn a_refused_write_comes_with_a_resync_behind_a_freeze() {
    let (mut pair, _) = pair_with_a_refused_write();
    pair.a.command(Command::SuspendIo { volume: V });
    pair.lose_link();
    pair.b.attach();
    pair.meet_again();
    pair.a.command(Command::ResumeIo { volume: V });
    pair.run();
    pair.assert_equal();
    assert_eq!(pair.b.data[4000 * 512], 99);
}

/// The peer agrees to have its data replaced, and then this node's disk fails: the write that the peer answers meanwhile is on no disk that
/// counts. Whichever of the two the node hears of first.
#[test]
fn a_write_is_not_done_that_only_a_peer_has_that_has_given_its_data_up() {
    for state_first in [false, true] {
        let mut pair = synced_pair();
        pair.a.detach_at_errors();
        pair.a.held = Some(Vec::new());
        pair.a.begin(Command::InvalidateRemote { volume: V });
        while pair.a.work() {}
        let token = pair.a.write(4000, 99, 8192);
        while pair.a.work() {}
        pair.a.fail_held_write(pair.now);
        if state_first {
            std::mem::swap(&mut pair.a, &mut pair.b);
            pair.run_with_a_slow_meta_socket(|pair| pair.b.word().3 != Disk::UpToDate);
            std::mem::swap(&mut pair.a, &mut pair.b);
        }
        pair.run();
        assert!(pair.a.word().2 < Disk::UpToDate && pair.b.word().2 < Disk::UpToDate, "{}", pair.logs());
        assert_eq!(pair.a.completed.get(&token), Some(&Err(IoError)), "{}", pair.logs());
    }
}

/// A Primary that is the target of a resync, paused; `a` is Secondary.
pub(super) fn pair_with_primary_target() -> Pair {
    let mut pair = synced_pair();
    pair.b.command(Command::Disconnect { force: false });
    pair.run();
    pair.a.write(4000, 99, 8192);
    pair.run();
    let demotion = pair.a.begin(Command::Secondary { volume: V, open: false });
    assert_eq!(pair.b.command(Command::PauseSync { volume: V }), 101);
    pair.b.command(Command::Connect(Box::new(settings(Protocol::C))));
    pair.run();
    let promotion = pair.b.begin(Command::Primary { volume: V, force: false });
    pair.run();
    assert_eq!((pair.a.replies[&demotion], pair.b.replies[&promotion]), (1, 1), "{}", pair.logs());
    assert_eq!((pair.b.word().0, pair.b.word().1), (Role::Primary, Conn::PausedSyncT), "{}", pair.logs());
    pair
}

/// More writes wait for frozen I/O to go on than the activity log has slots for: it is not written for them meanwhile.
#[test]
fn frozen_writes_do_not_push_each_other_out_of_the_activity_log() {
    let mut pair = Pair::new(101);
    let few = DiskSettings { al_extents: 7, ..pair.a.core.volume(V).settings().clone() };
    assert_eq!(pair.a.command(Command::DiskSettings { volume: V, settings: Box::new(few) }), 101);
    pair.connect(&settings(Protocol::C));
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    pair.a.begin(Command::SuspendIo { volume: V });
    pair.run();
    let written = |node: &Node| node.core.volume(V).counters().al_writes;
    let before = written(&pair.a);
    let tokens: Vec<Token> = (0..9).map(|extent| pair.a.write(extent * 8192, 1, 4096)).collect();
    for _ in 0..100 {
        pair.run_once();
    }
    assert_eq!(written(&pair.a), before, "{}", pair.logs());
    pair.a.begin(Command::ResumeIo { volume: V });
    pair.run();
    assert!(tokens.iter().all(|token| pair.a.completed[token].is_ok()), "{}", pair.logs());
    pair.assert_equal();
}

/// A disk is attached anew. An older write to a block has come to both disks now, but a newer one is on its way to the peer, and was for the
/// disk that went: the block stays marked.
#[test]
fn a_write_of_before_an_attach_clears_no_bits_of_the_disk() {
    let mut pair = pair_with_primary_target();
    let token = pair.b.write(6000, 1, 4096);
    while !pair.b.completed.contains_key(&token) {
        pair.run_once();
    }
    assert!(pair.b.core.has_open_epochs(V), "{}", pair.logs());
    pair.b.write(6000, 2, 4096);
    while pair.b.work() {}
    pair.b.begin(Command::Detach { volume: V, force: true });
    while pair.b.work() {}
    assert_eq!(pair.b.word().2, Disk::Diskless, "{}", pair.logs());
    pair.b.attach();
    while pair.b.work() {}
    let marked = |pair: &Pair| pair.b.core.volume(V).disk().unwrap().bitmap.count_sectors(6000, 8) > 0;
    assert!(marked(&pair), "{}", pair.logs());
    while pair.b.core.has_open_epochs(V) && Pair::deliver(&mut pair.b, &mut pair.a, Socket::Data, pair.now) {
        while pair.a.work() || Pair::deliver(&mut pair.a, &mut pair.b, Socket::Meta, pair.now) {}
        while pair.b.work() {}
        let newest = pair.a.data[6000 * 512];
        assert!(newest == 2 || marked(&pair), "{}", pair.logs());
    }
    assert_eq!(pair.b.command(Command::ResumeSync { volume: V }), 101);
    pair.run();
    pair.assert_equal();
}

/// The own disk fails a write to a block, and an older one to it, whose barrier was on its way, has come to both disks: the block stays
/// marked, and is not read from here.
#[test]
fn an_older_write_does_not_hide_that_the_disk_failed_a_newer_one() {
    let mut pair = pair_with_primary_target();
    let older = pair.b.write(6000, 1, 4096);
    while !pair.b.completed.contains_key(&older) {
        pair.run_once();
    }
    assert!(pair.b.core.has_open_epochs(V), "{}", pair.logs());
    pair.b.held = Some(Vec::new());
    let newer = pair.b.write(6000, 2, 4096);
    while pair.b.work() {}
    pair.b.fail_held_write(pair.now);
    while !pair.b.completed.contains_key(&newer) {
        pair.run_once();
    }
    assert_eq!(pair.b.completed[&newer], Ok(None), "{}", pair.logs());
    assert!(pair.b.core.volume(V).disk().unwrap().bitmap.count_sectors(6000, 8) > 0, "{}", pair.logs());
    assert_eq!(pair.b.command(Command::ResumeSync { volume: V }), 101);
    pair.run();
    pair.assert_equal();
}

/// The source's disk fails a write of the target, a Primary: at once, while the request is in the transfer log still, the block is read
/// from the source, whose content the resync brings. An older write to it, which has come to both disks, does not clear it again.
#[test]
fn a_block_is_out_of_sync_as_soon_as_the_peer_refuses_it() {
    let mut pair = pair_with_primary_target();
    let older = pair.b.write(6000, 1, 4096);
    while !pair.b.completed.contains_key(&older) {
        pair.run_once();
    }
    pair.a.held = Some(Vec::new());
    let newer = pair.b.write(6000, 2, 4096);
    for _ in 0..20 {
        pair.b.work();
        Pair::deliver(&mut pair.b, &mut pair.a, Socket::Data, pair.now);
        pair.a.work();
    }
    assert!(pair.b.core.has_open_epochs(V), "{}", pair.logs());
    pair.a.fail_held_write(pair.now);
    // The end of the older epoch takes longer.
    pair.a.work();
    pair.a.outgoing[Socket::Meta as usize].make_contiguous().reverse();
    let marked = |pair: &Pair| pair.b.core.volume(V).disk().unwrap().bitmap.count_sectors(6000, 8) > 0;
    while !pair.b.completed.contains_key(&newer) {
        pair.run_once();
    }
    assert_eq!(pair.b.completed[&newer], Err(IoError), "{}", pair.logs());
    assert!(pair.b.core.has_open_epochs(V), "{}", pair.logs());
    assert!(marked(&pair), "{}", pair.logs());
    pair.b.core.read(pair.now, V, 12345, 6000, 4096);
    for _ in 0..100 {
        pair.run_once();
        assert!(marked(&pair), "{}", pair.logs());
    }
    assert_eq!(pair.b.completed.get(&12345), Some(&Ok(Some(vec![1; 4096]))), "{}", pair.logs());
    assert!(!pair.b.core.has_open_epochs(V), "{}", pair.logs());
    assert_eq!(pair.b.command(Command::ResumeSync { volume: V }), 101);
    pair.run();
    pair.assert_equal();
    assert_eq!(pair.b.data[6000 * 512], 1);
}

/// A Secondary whose disk has failed (`on-io-error pass_on`) stays so until somebody does something about it: a promotion does not wait for
/// that, and hold up the command that does.
#[test]
fn a_node_whose_disk_failed_says_that_it_cannot_be_promoted() {
    for force in [false, true] {
        let mut pair = synced_pair();
        pair.demote_a();
        pair.a.core.local_error(V, 4000, 8, true);
        pair.a.core.timeout(pair.now);
        pair.run();
        let failed = (Role::Secondary, Conn::Connected, Disk::Inconsistent, Disk::UpToDate);
        assert_eq!(pair.a.word(), failed, "{}", pair.logs());
        let promotion = pair.a.begin(Command::Primary { volume: V, force });
        let remedy = pair.a.begin(Command::Invalidate { volume: V });
        pair.run();
        assert_eq!(pair.a.replies.get(&promotion), Some(&-18), "{}", pair.logs());
        assert_eq!(pair.a.replies.get(&remedy), Some(&1), "{}", pair.logs());
        pair.assert_equal();
    }
}

/// The source of a Primary's resync refuses a write, and its disk stays the good one: the resync brings the block as it is there. When the
/// Primary is demoted later it leaves nothing that the peer lacks, and begins no generation.
#[test]
fn what_the_source_refused_its_target_begins_no_generation() {
    let mut pair = synced_pair();
    assert_eq!(pair.a.command(Command::PauseSync { volume: V }), 101);
    assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
    pair.run();
    pair.a.write(2000, 98, 8192);
    pair.run();
    pair.b.held = Some(Vec::new());
    pair.a.attach();
    pair.run();
    assert_eq!((pair.a.word().1, pair.b.word().1), (Conn::PausedSyncT, Conn::PausedSyncS), "{}", pair.logs());
    pair.a.write(2000, 99, 4096);
    pair.run();
    for output in pair.b.held.take().into_iter().flatten() {
        match output {
            Output::DiskWrite { volume, io, .. } => {
                pair.b.core.io_done(pair.now, volume, io, IoResult::Failed)
            }
            output => pair.b.carry_out(output),
        }
    }
    pair.run();
    assert!(pair.b.sent.iter().any(|packet| matches!(packet, Packet::NegAck(_))), "{}", pair.logs());
    assert_eq!(pair.a.command(Command::ResumeSync { volume: V }), 101);
    pair.run();
    pair.assert_equal();
    let id = pair.a.begin(Command::Secondary { volume: V, open: false });
    pair.run();
    assert_eq!(pair.a.replies[&id], 1, "{}", pair.logs());
    pair.assert_equal();
}

/// A write that is only announced as out of sync, for the peer is about to be the target of a resync, and the link is lost before that is
/// sent: when the nodes meet again, and no resync follows, nobody waits for it.
#[test]
fn a_write_does_not_wait_for_an_announcement_that_went_with_the_link() {
    let mut pair = synced_pair();
    for node in [&mut pair.a, &mut pair.b] {
        node.with_fencing(Fencing::ResourceAndStonith);
    }
    pair.lose_link();
    pair.a.begin(Command::ResumeIo { volume: V });
    pair.a.write(4000, 98, 4096);
    while pair.a.work() {}
    pair.b.bitmaps_held = true;
    pair.meet_again();
    assert_eq!((pair.a.word().1, pair.b.word().1), (Conn::WFBitMapS, Conn::WFBitMapT), "{}", pair.logs());
    let token = pair.a.write(6000, 99, 4096);
    let mut announced = false;
    for _ in 0..20 {
        let mut outputs = Vec::new();
        pair.a.core.take_outputs(&mut outputs);
        for output in outputs {
            match output {
                Output::Send { packet: Packet::OutOfSync(_), .. } => announced = true,
                output => pair.a.carry_out(output),
            }
        }
    }
    assert!(announced && !pair.a.completed.contains_key(&token), "{}", pair.logs());
    pair.a.running = Some(Vec::new());
    pair.lose_link();
    assert!(pair.a.core.volume(V).state().is_susp(), "{}", pair.logs());
    // fence-peer does not come to an end.
    pair.a.running = None;
    pair.b.bitmaps_held = false;
    assert_eq!(pair.b.command(Command::Detach { volume: V, force: true }), 1);
    pair.meet_again();
    assert_eq!((pair.a.word().1, pair.a.word().3), (Conn::Connected, Disk::Diskless), "{}", pair.logs());
    assert!(pair.a.completed.get(&token).is_some_and(Result::is_ok), "{}", pair.logs());
    pair.b.attach();
    pair.run();
    pair.assert_equal();
    assert_eq!(pair.b.data[6000 * 512], 99);
}

/// A write fails that only the disk of a Primary has which is not the good one: from then on the block is not read from there, for the next
/// resync brings the old content back. Also while the barrier of the write is on its way.
#[test]
fn what_a_failed_write_left_on_a_disk_that_is_not_good_is_not_read() {
    let mut pair = pair_with_primary_target();
    assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
    let token = pair.b.write(6000, 99, 4096);
    for _ in 0..100 {
        if !pair.b.completed.contains_key(&token) {
            pair.run_once();
        }
    }
    assert_eq!(pair.b.completed.get(&token), Some(&Err(IoError)), "{}", pair.logs());
    assert!(pair.b.core.has_open_epochs(V), "{}", pair.logs());
    pair.b.core.read(pair.now, V, 1001, 6000, 4096);
    pair.run();
    assert_eq!(pair.b.completed.get(&1001), Some(&Err(IoError)), "{}", pair.logs());
    pair.a.attach();
    assert_eq!(pair.b.command(Command::ResumeSync { volume: V }), 101);
    pair.run();
    pair.assert_equal();
}

/// The same if it was frozen, is to be done again with the disk that the peer has attached, and fails then: the next resync brings the old
/// content back.
#[test]
fn what_a_write_left_that_was_to_be_done_again_does_not_stay() {
    let mut pair = pair_with_primary_target();
    pair.b.when_data_are_lost(OnNoData::SuspendIo);
    assert_eq!(pair.a.command(Command::Detach { volume: V, force: true }), 1);
    let token = pair.b.write(6000, 99, 4096);
    for _ in 0..100 {
        if pair.b.core.has_requests_under_way(V) || !pair.b.core.volume(V).state().susp_nod {
            pair.run_once();
        }
    }
    assert!(pair.b.core.volume(V).state().susp_nod && pair.b.core.has_open_epochs(V), "{}", pair.logs());
    pair.a.bitmaps_held = true;
    pair.a.attach();
    pair.run();
    assert_eq!(pair.b.word().1, Conn::WFBitMapT, "{}", pair.logs());
    assert!(!pair.b.core.volume(V).state().is_susp(), "{}", pair.logs());
    pair.b.when_data_are_lost(OnNoData::IoError);
    pair.lose_link();
    assert_eq!(pair.b.completed.get(&token), Some(&Err(IoError)), "{}", pair.logs());
    pair.a.bitmaps_held = false;
    assert_eq!(pair.b.command(Command::ResumeSync { volume: V }), 101);
    pair.meet_again();
    pair.assert_equal();
}

/// A bitmap is to be sent, and behind what the fifo writes first. Another write would have to be announced behind the bitmap, which waits until
/// no request is under way.
#[test]
fn a_write_waits_while_a_bitmap_is_to_be_sent() {
    let mut pair = synced_pair();
    pair.b.begin(Command::Disconnect { force: false });
    pair.run();
    pair.a.write(4000, 99, 8192);
    pair.run();
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    for _ in 0..1000 {
        if pair.a.core.volume(V).peer_uuids().is_some() {
            break;
        }
        pair.run_once();
    }
    pair.a.meta_held = Some(Vec::new());
    pair.a.core.queue_steps([Step::WriteSuperBlock { v: V }]);
    pair.run_for_a_while();
    assert_eq!((pair.a.word().1, pair.b.word().1), (Conn::WFBitMapS, Conn::WFBitMapT), "{}", pair.logs());
    // The activity log has the extent.
    let token = pair.a.write(5000, 5, 4096);
    pair.run_for_a_while();
    pair.a.release_meta();
    pair.run();
    assert!(pair.a.completed.contains_key(&token), "{}", pair.logs());
    pair.assert_equal();
}

/// Nor is it gone where the own disk fails, too: the older one of the peer is not what the application goes on with.
#[test]
fn a_refused_write_is_not_undone_when_the_own_disk_fails() {
    for detach in [false, true] {
        let (mut pair, news) = pair_with_a_refused_write();
        if detach {
            pair.a.detach_at_errors();
        }
        pair.a.core.local_error(V, 8000, 8, true);
        pair.a.core.timeout(pair.now);
        pair.run();
        assert_eq!((pair.a.word().0, pair.a.word().3), (Role::Primary, Disk::UpToDate), "{}", pair.logs());
        pair.b.outgoing[Socket::Data as usize].extend(news);
        pair.run();
        assert_eq!(pair.a.word().3, Disk::Diskless, "{}", pair.logs());
        assert_eq!(pair.b.try_attach(), 150, "{detach}\n{}", pair.logs());
    }
}
