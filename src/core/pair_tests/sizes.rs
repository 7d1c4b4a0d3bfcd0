//! Sizes: of the activity log, and of the device when it changes.

use super::*;

/// `syncer --al-extents` comes after `disk` in 8.3: it counts until the first write, and the super block tells it.
#[test]
fn a_number_of_activity_log_slots_counts_until_the_first_write() {
    let mut pair = Pair::new(101);
    let slots = |node: &Node| {
        let disk = node.core.volume(V).disk().unwrap();
        (node.core.volume(V).settings().al_extents, disk.activity_log.len())
    };
    let set = |node: &mut Node, al_extents: u32| {
        let settings = DiskSettings { al_extents, ..node.core.volume(V).settings().clone() };
        assert_eq!(node.command(Command::DiskSettings { volume: V, settings: Box::new(settings) }), 101);
    };
    set(&mut pair.a, 509);
    pair.run();
    assert_eq!(slots(&pair.a), (509, 509));
    let block = SuperBlock::decode(&pair.a.meta[layout().md_offset as usize..][..4096]).unwrap();
    assert!(block.al_slots >= 509, "{}", block.al_slots);
    set(&mut pair.a, 60000);
    pair.run();
    assert_eq!(slots(&pair.a), (3833, 3833));
    assert!(pair.a.log.iter().any(|line| line.contains("al-extents 60000 cut to 3833")), "{}", pair.logs());

    // What a Primary has written to the log is read with the number that it was written with.
    pair.connect(&settings(Protocol::C));
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    let token = pair.a.write(0, 1, 4096);
    pair.run();
    assert!(pair.a.completed[&token].is_ok());
    set(&mut pair.a, 7);
    pair.run();
    assert_eq!(slots(&pair.a), (3833, 3833));
    assert!(pair.a.log.iter().any(|line| line.contains("al-extents 7: 3833 stay in use")), "{}", pair.logs());
    pair.assert_equal();
}

/// `resize` on a Primary, and on a Secondary: the peer looks at its own disk, too, its meta data go to the new end,
/// and the new space is resynced from the Primary.
#[test]
fn a_peer_grows_with_the_node_that_is_told_to() {
    const OLD: usize = 8 << 20;
    for (version, on_primary, new) in [(86, true, 16 << 20), (101, true, OLD + 8192), (95, false, 24 << 20)] {
        let mut pair = Pair::new(version);
        pair.a = Node::with_internal_meta_data(1, OLD);
        pair.b = Node::with_internal_meta_data(2, OLD);
        pair.connect(&settings(Protocol::C));
        pair.a.begin(Command::Primary { volume: V, force: true });
        pair.run();
        pair.a.write(0, 1, 4096);
        pair.run();
        let old = pair.a.core.volume(V).size_sectors();
        let ordering = |pair: &mut Pair| {
            let command =
                Command::Resize { volume: V, size: 0, assume_peer_has_space: false, assume_clean: false };
            let node = if on_primary { &mut pair.a } else { &mut pair.b };
            node.begin(command)
        };

        // One disk that grew is not enough.
        pair.a.set_bytes(new);
        ordering(&mut pair);
        pair.run();
        assert_eq!(pair.a.core.volume(V).size_sectors(), old, "{}", pair.logs());
        pair.b.set_bytes(new);
        pair.a.data[old as usize * 512..].fill(9);
        let id = ordering(&mut pair);
        pair.run();
        let node = if on_primary { &pair.a } else { &pair.b };
        assert_eq!(node.replies[&id], 101, "{}", pair.logs());
        let layout = Layout::new(MetaIndex::Internal, new as u64, LogGeometry::CLASSIC).unwrap();
        for node in [&pair.a, &pair.b] {
            assert_eq!(node.core.volume(V).size_sectors(), layout.usable_sectors(0), "{}", pair.logs());
            let block = SuperBlock::decode(&node.meta[layout.md_offset as usize..][..4096]).unwrap();
            assert_eq!(block.effective_size_sectors, layout.usable_sectors(0));
            block.validate(&layout).unwrap();
        }
        let token = pair.a.write(layout.usable_sectors(0) - 8, 3, 4096);
        pair.run();
        assert!(pair.a.completed[&token].is_ok());
        let resynced = pair.b.log.iter().rfind(|line| line.starts_with("Began resync")).unwrap();
        assert!(resynced.starts_with("Began resync as SyncTarget"), "{resynced}");
        let end = layout.usable_sectors(0) as usize * 512;
        assert!(pair.a.data[..end] == pair.b.data[..end], "the disks differ");
        pair.b.data = pair.a.data.clone();
        pair.assert_equal();
    }
}

/// While the meta data move, a crash at any time finds all that was known at the old place, or at the new one, or
/// there the order to sync everything.
#[test]
fn a_crash_while_meta_data_move_loses_nothing() {
    const OLD: usize = 128 << 20;
    // The new bitmap begins within the old area, and is longer; then the same length, far away.
    for (old, new) in [(OLD, OLD + 8192), (8 << 20, 16 << 20)] {
        let mut pair = Pair::new(101);
        pair.a = Node::with_internal_meta_data(1, old);
        pair.b = Node::with_internal_meta_data(2, old);
        pair.connect(&settings(Protocol::C));
        pair.a.begin(Command::Primary { volume: V, force: true });
        pair.run();
        pair.b.begin(Command::Disconnect { force: false });
        pair.run();
        for sector in [8, 9000, 16000] {
            pair.a.write(sector, 5, 4096);
        }
        pair.run();
        assert_eq!(pair.a.core.volume(V).out_of_sync_bits(), 3, "{}", pair.logs());
        let words = pair.a.core.volume(V).disk().unwrap().bitmap.words().to_vec();
        let uuids = pair.a.core.volume(V).disk().unwrap().uuids.slots();

        pair.a.set_bytes(new);
        let found = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let record = std::rc::Rc::clone(&found);
        pair.a.watch = Some(Box::new(move |meta| {
            let place =
                |bytes: usize| Layout::new(MetaIndex::Internal, bytes as u64, LogGeometry::CLASSIC).unwrap();
            let read = |layout: &Layout| {
                SuperBlock::decode(&meta[layout.md_offset as usize..][..4096])
                    .ok()
                    .filter(|block| block.validate(layout).is_ok())
            };
            let (mut layout, mut name) = (place(new), "new");
            let block = read(&layout).unwrap_or_else(|| {
                (layout, name) = (place(old), "old");
                read(&layout).expect("no super block")
            });
            assert_eq!(block.uuids, uuids);
            assert!(block.flags.contains(meta::MetaFlags::PRIMARY_IND));
            if block.flags.contains(meta::MetaFlags::FULL_SYNC) {
                name = "full sync";
            } else {
                let area = &meta[layout.al_offset() as usize..][..layout.log.bytes() as usize];
                let mut hot = meta::activity_log::replay(area, &block, layout.log).unwrap().hot;
                hot.sort_unstable();
                assert!(hot.starts_with(&[0, 1]), "{hot:?}");
                let mut on_disk = vec![0; words.len()];
                let bitmap = &meta[layout.bm_offset() as usize..][..words.len() * 8];
                meta::bitmap::decode_words(bitmap, &mut on_disk);
                // In the log's extents the bits on disk may be behind.
                let all_there = on_disk.iter().zip(&words).all(|(disk, known)| disk & known == *known);
                assert!(name == "old" || all_there);
            }
            record.borrow_mut().push(name);
        }));
        let command =
            Command::Resize { volume: V, size: 0, assume_peer_has_space: true, assume_clean: false };
        let id = pair.a.begin(command);
        // An extent that is not active: it has to wait, and then it is in the log at the new place.
        let token = pair.a.write(8192 * 2 - 8, 6, 8192);
        pair.run();
        assert_eq!(pair.a.replies[&id], 101, "{}", pair.logs());
        assert!(pair.a.completed[&token].is_ok());
        pair.a.watch = None;
        let found = found.take();
        let moved = found.iter().position(|name| *name == "full sync").unwrap();
        let done = found.iter().rposition(|name| *name == "full sync").unwrap();
        assert!(done > moved && found[..moved].iter().all(|name| *name == "old"), "{found:?}");
        assert!(found[done + 1..].iter().all(|name| *name == "new") && done + 1 < found.len(), "{found:?}");

        // Killed and started again: all that differs is resynced, and the new space.
        pair.a.core = Node::core(77);
        pair.a.wants_link = false;
        pair.run();
        pair.a.start();
        pair.b.set_bytes(new);
        let command =
            Command::Resize { volume: V, size: 0, assume_peer_has_space: false, assume_clean: false };
        assert_eq!(pair.b.command(command), 101, "{}", pair.logs());
        let net = settings(Protocol::C);
        for node in [&mut pair.a, &mut pair.b] {
            assert_eq!(node.command(Command::Connect(Box::new(net.clone()))), 101);
        }
        pair.run();
        let end = pair.a.core.volume(V).size_sectors() as usize * 512;
        assert!(end > old - (1 << 20) && pair.a.data[..end] == pair.b.data[..end], "{}", pair.logs());
    }
}

pub(super) fn resize(node: &mut Node) -> AdminId {
    resize_to(node, 0)
}

pub(super) fn resize_to(node: &mut Node, size: u64) -> AdminId {
    node.begin(Command::Resize { volume: V, size, assume_peer_has_space: false, assume_clean: false })
}

/// Both disks grow, and hold other things in the new space.
pub(super) fn grow_both(a: &mut Node, b: &mut Node, from: usize, to: usize) {
    for (node, fill) in [(a, 7), (b, 8)] {
        node.set_bytes(to);
        node.data[from..].fill(fill);
    }
}

/// What a node has told of its disk at connect counts until it can tell the peer more.
#[test]
fn a_disk_that_grew_unnoticed_does_not_change_the_size_at_connect() {
    const SMALL: usize = SECTORS as usize * 512;
    let mut pair = Pair::new(97);
    pair.a = Node::with_disk(1, layout(), 2 * SMALL);
    pair.connect(&settings(Protocol::C));
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    pair.b.begin(Command::Disconnect { force: false });
    pair.run();
    pair.a.write(8, 5, 4096);
    pair.b.set_bytes(2 * SMALL);
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.run();
    for node in [&pair.a, &pair.b] {
        assert_eq!(node.core.volume(V).size_sectors(), SECTORS, "{}", pair.logs());
    }
    let id = resize(&mut pair.a);
    pair.run();
    assert_eq!(pair.a.replies[&id], 101, "{}", pair.logs());
    for node in [&pair.a, &pair.b] {
        assert_eq!(node.core.volume(V).size_sectors(), 2 * SECTORS, "{}", pair.logs());
    }
    pair.assert_equal();
}

pub(super) fn resize_alone(node: &mut Node) -> i32 {
    let command = Command::Resize { volume: V, size: 0, assume_peer_has_space: true, assume_clean: false };
    node.command(command)
}

/// Once an operator has said that the peer has the space, what the peer said before counts no more: neither does the
/// device shrink again, nor is its disk refused. Nor does a peer change anything that is refused for its size.
#[test]
fn a_disk_that_was_told_to_grow_alone_stays_large() {
    const SMALL: usize = SECTORS as usize * 512;
    let mut pair = synced_pair_at(97, Protocol::C);
    pair.b.begin(Command::Disconnect { force: false });
    pair.run();
    pair.a.set_bytes(2 * SMALL);
    assert_eq!(resize_alone(&mut pair.a), 101);
    let stays = |pair: &mut Pair| {
        let id = resize(&mut pair.a);
        pair.run();
        assert_eq!(pair.a.replies[&id], 101, "{}", pair.logs());
        assert_eq!(pair.a.core.volume(V).size_sectors(), 2 * SECTORS, "{}", pair.logs());
        pair.a.begin(Command::Secondary { volume: V, open: false });
        pair.run();
        pair.a.begin(Command::Detach { volume: V, force: false });
        pair.run();
        pair.a.attach();
        pair.a.begin(Command::Primary { volume: V, force: false });
        pair.run();
        assert_eq!(pair.a.core.volume(V).size_sectors(), 2 * SECTORS, "{}", pair.logs());
    };
    assert_eq!(pair.a.word().1, Conn::WFConnection);
    stays(&mut pair);
    let net = settings(Protocol::C);
    assert_eq!(pair.b.command(Command::Connect(Box::new(net.clone()))), 101);
    pair.run();
    assert!(pair.a.log.iter().any(|line| line.starts_with("The peer's disk size is too small!")));
    assert_eq!(pair.a.word().1, Conn::StandAlone, "{}", pair.logs());
    stays(&mut pair);

    pair.b.set_bytes(2 * SMALL);
    assert_eq!(resize_alone(&mut pair.b), 101);
    assert_eq!(pair.a.command(Command::Connect(Box::new(net))), 101);
    pair.run();
    pair.assert_equal();
}

/// What a node knows of the peer's disk it forgets when it has neither a disk nor a connection itself.
#[test]
fn an_unconfigured_node_knows_no_size_of_its_peer() {
    let mut pair = synced_pair_at(97, Protocol::C);
    assert_eq!(pair.b.core.volume(V).peer_size, SECTORS);
    pair.b.begin(Command::Disconnect { force: false });
    pair.run();
    assert_eq!(pair.b.core.volume(V).peer_size, SECTORS);
    pair.b.begin(Command::Detach { volume: V, force: false });
    pair.run();
    assert_eq!(pair.b.core.volume(V).peer_size, 0);
}

/// The disk of the peer has more room than the two agreed on. That it asks how large this node is does not tell how large it is.
#[test]
fn a_node_without_a_disk_does_not_grow_by_a_question() {
    const SMALL: usize = SECTORS as usize * 512;
    for version in [86, 101] {
        let mut pair = synced_pair_at(version, Protocol::C);
        pair.a.begin(Command::Detach { volume: V, force: false });
        pair.run();
        pair.b.set_bytes(2 * SMALL);
        let id = resize(&mut pair.b);
        pair.run();
        assert_eq!(pair.b.replies[&id], 101, "{}", pair.logs());
        for node in [&pair.a, &pair.b] {
            assert_eq!(node.core.volume(V).size_sectors(), SECTORS, "{}", pair.logs());
        }
        assert_eq!(pair.a.word(), (Role::Primary, Conn::Connected, Disk::Diskless, Disk::UpToDate));
        pair.a.set_bytes(2 * SMALL);
        pair.a.attach();
        pair.run();
        for node in [&pair.a, &pair.b] {
            assert_eq!(node.core.volume(V).size_sectors(), 2 * SECTORS, "{}", pair.logs());
        }
        pair.assert_equal();
    }
}

/// The peer of a Primary that grows has lost its disk when it hears of that. The application may write to the new space before the Primary
/// has said how large the device is now: the peer refuses that like all other writes.
#[test]
fn a_node_without_a_disk_gets_writes_to_space_that_it_has_not_heard_of() {
    const SMALL: usize = SECTORS as usize * 512;
    for version in [86, 101] {
        let mut pair = synced_pair_at(version, Protocol::C);
        pair.b.set_bytes(2 * SMALL);
        resize(&mut pair.b);
        pair.run();
        assert_eq!(pair.a.core.volume(V).size_sectors(), SECTORS, "{}", pair.logs());
        pair.a.set_bytes(2 * SMALL);
        resize(&mut pair.a);
        while pair.a.work() {}
        assert_eq!(pair.a.core.volume(V).size_sectors(), 2 * SECTORS, "{}", pair.logs());
        let token = pair.a.write(SECTORS + 8, 5, 4096);
        pair.b.detach_at_errors();
        pair.b.core.local_error(V, 4000, 8, true);
        pair.run();
        assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
        assert_eq!((pair.a.word().1, pair.b.word().1), (Conn::Connected, Conn::Connected), "{}", pair.logs());
        for node in [&pair.a, &pair.b] {
            assert_eq!(node.core.volume(V).size_sectors(), 2 * SECTORS, "{}", pair.logs());
            assert!(!node.log.iter().any(|line| line.contains("ProtocolError")), "{}", pair.logs());
        }
        assert_eq!(pair.b.word().2, Disk::Diskless, "{}", pair.logs());
        pair.b.attach();
        pair.run();
        pair.assert_equal();
    }
}

/// A peer whose data a Primary without a disk refuses, when the two connect or when it attaches them, does not tell it how large the
/// device is: its own disk may have less room.
#[test]
fn a_peer_that_is_refused_for_its_data_does_not_change_the_size() {
    const SMALL: usize = SECTORS as usize * 512;
    for attaches_later in [false, true] {
        let mut pair = synced_pair_at(97, Protocol::C);
        pair.b.begin(Command::Disconnect { force: false });
        pair.run();
        pair.b.set_bytes(2 * SMALL);
        assert_eq!(resize_alone(&mut pair.b), 101);
        pair.a.command(Command::Detach { volume: V, force: true });
        if attaches_later {
            pair.b.command(Command::Detach { volume: V, force: false });
        }
        assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        pair.run();
        if attaches_later {
            assert_eq!(pair.a.word(), (Role::Primary, Conn::Connected, Disk::Diskless, Disk::Diskless));
            pair.b.attach();
            pair.run();
        }
        assert_eq!(pair.a.word().1, Conn::StandAlone, "{}", pair.logs());
        assert_eq!(pair.a.core.volume(V).size_sectors(), SECTORS, "{}", pair.logs());
        pair.a.attach();
        assert_eq!(pair.a.word().2, Disk::UpToDate, "{}", pair.logs());
        assert_eq!(pair.a.core.volume(V).size_sectors(), SECTORS, "{}", pair.logs());
    }
}

/// Other settings of the disk change on a node that has just told the peer which size its user wants: that size is none of them. Else the
/// peer, which has been started anew, goes by it, and the node does not.
#[test]
fn the_size_that_the_user_wants_is_no_setting_that_changes_with_the_others() {
    const WANTED: u64 = SECTORS - 800;
    for version in [86, 101] {
        let mut pair = synced_pair_at(version, Protocol::C);
        let old = pair.a.core.volume(V).settings().clone();
        let resize =
            Command::Resize { volume: V, size: WANTED, assume_peer_has_space: false, assume_clean: false };
        pair.a.begin(resize);
        pair.run();
        assert_eq!(pair.b.core.volume(V).size_sectors(), WANTED, "{}", pair.logs());
        pair.b.core = Node::core(77);
        pair.b.wants_link = false;
        pair.run();
        pair.b.start();
        assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        while pair.a.word().1 != Conn::WFReportParams {
            pair.run_once();
        }
        let changed = Box::new(DiskSettings { c_min_rate: 1234, ..old });
        assert_eq!(pair.a.command(Command::DiskSettings { volume: V, settings: changed }), 101);
        pair.run();
        assert_eq!(pair.a.core.volume(V).settings().c_min_rate, 1234);
        for node in [&pair.a, &pair.b] {
            assert_eq!(node.core.volume(V).size_sectors(), WANTED, "{}", pair.logs());
        }
        pair.assert_equal();
    }
}

/// Told to change its size while the two nodes tell each other their sizes for the first time, a node does it when that is over.
#[test]
fn resize_waits_for_the_handshake() {
    const SMALL: usize = SECTORS as usize * 512;
    let mut pair = synced_pair_at(97, Protocol::C);
    pair.b.begin(Command::Disconnect { force: false });
    pair.run();
    for node in [&mut pair.a, &mut pair.b] {
        node.set_bytes(2 * SMALL);
    }
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    while pair.a.word().1 != Conn::WFReportParams {
        pair.run_once();
    }
    let id = resize(&mut pair.a);
    pair.run();
    assert_eq!(pair.a.replies[&id], 130, "it ended in a resync: {}", pair.logs());
    pair.a.begin(Command::Secondary { volume: V, open: false });
    pair.run();

    // Without a resync, and without a link in the end.
    for lost in [true, false] {
        pair.b.begin(Command::Disconnect { force: false });
        pair.run();
        assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        while pair.a.word().1 != Conn::WFReportParams {
            pair.run_once();
        }
        let id = resize(&mut pair.a);
        assert!(!pair.a.replies.contains_key(&id));
        if lost {
            pair.b.begin(Command::Disconnect { force: true });
        }
        pair.run();
        assert_eq!(pair.a.replies[&id], if lost { 101 } else { 131 }, "{}", pair.logs());
        if lost {
            assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
            pair.run();
        }
        let sizes = [&pair.a, &pair.b].map(|node| node.core.volume(V).size_sectors());
        assert_eq!(sizes[0], sizes[1], "{}", pair.logs());
        assert_eq!(pair.a.word().1, Conn::Connected, "{}", pair.logs());
    }
}

/// The device of a Primary grows by such a handshake, and the link is lost: the size that the node was told is smaller now. An application may use
/// what has been added: it is cut off only if the size was smaller than the device when it was named.
#[test]
fn a_resize_that_has_waited_takes_back_no_space() {
    const SMALL: usize = SECTORS as usize * 512;
    for wanted in [SECTORS, SECTORS * 3 / 2, SECTORS - 800] {
        let mut pair = synced_pair();
        pair.b.begin(Command::Disconnect { force: false });
        pair.run();
        for node in [&mut pair.a, &mut pair.b] {
            node.set_bytes(2 * SMALL);
            node.restart(77);
        }
        assert_eq!(pair.a.command(Command::Primary { volume: V, force: false }), 1, "{}", pair.logs());
        for node in [&mut pair.a, &mut pair.b] {
            assert_eq!(node.core.volume(V).size_sectors(), SECTORS);
            assert_eq!(node.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        }
        let mut steps = 0..1000;
        while pair.a.word().1 != Conn::WFReportParams && steps.next().is_some() {
            pair.run_once();
        }
        let id = resize_to(&mut pair.a, wanted);
        while pair.a.core.volume(V).size_sectors() == SECTORS && steps.next().is_some() {
            pair.run_once();
        }
        assert_eq!(pair.a.word().1, Conn::WFReportParams, "{}", pair.logs());
        assert_eq!(pair.a.core.volume(V).size_sectors(), 2 * SECTORS, "{}", pair.logs());
        pair.lose_link();
        let (code, size) = if wanted < SECTORS { (101, wanted) } else { (170, 2 * SECTORS) };
        assert_eq!(
            (pair.a.replies[&id], pair.a.core.volume(V).size_sectors()),
            (code, size),
            "{}",
            pair.logs()
        );
        // Who says it again means it.
        let again = resize_to(&mut pair.a, wanted);
        while pair.a.work() {}
        assert_eq!(pair.a.replies[&again], 101, "{}", pair.logs());
        assert_eq!(pair.a.core.volume(V).size_sectors(), wanted, "{}", pair.logs());
    }
}

/// The meta data of `a`, Primary, are about to move for a `resize` that takes the peer's space for granted.
pub(super) fn pair_about_to_resize_alone(connected: bool) -> (Pair, AdminId) {
    const OLD: usize = 8 << 20;
    let mut pair = Pair::new(101);
    pair.a = Node::with_internal_meta_data(1, OLD);
    pair.b = Node::with_internal_meta_data(2, OLD + (1 << 20));
    pair.connect(&settings(Protocol::C));
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    if !connected {
        pair.b.begin(Command::Disconnect { force: false });
        pair.run();
    }
    pair.a.set_bytes(OLD + (2 << 20));
    pair.a.meta_held = Some(Vec::new());
    let command = Command::Resize { volume: V, size: 0, assume_peer_has_space: true, assume_clean: false };
    let id = pair.a.begin(command);
    while pair.a.work() {}
    assert_eq!(pair.a.meta_held.as_ref().map(Vec::len), Some(1), "{}", pair.logs());
    (pair, id)
}

impl Pair {
    /// Writes of meta data that `a` holds back come back, and no other one is held.
    pub(super) fn release_meta_of_a(&mut self) {
        self.a.release_meta();
        while self.a.work() {}
    }
}

/// A change of size takes its time, and the nodes tell each other their sizes meanwhile: what they have said has to count until both have
/// heard it. Else the device of a Primary grows, and shrinks again when the peer has said how much room it has.
#[test]
fn a_resize_that_has_begun_waits_for_the_handshake() {
    let (mut pair, id) = pair_about_to_resize_alone(false);
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    for _ in 0..50 {
        pair.run_once();
    }
    assert_eq!(pair.a.word().1, Conn::WFReportParams, "{}", pair.logs());
    pair.release_meta_of_a();
    pair.run();
    let alone = pair.a.log.iter().any(|line| line.starts_with("Resize while not connected"));
    assert!(!alone, "{}", pair.logs());
    assert_eq!(pair.a.replies[&id], 130, "it ended in a resync: {}", pair.logs());
    let end = pair.b.core.volume(V).disk().unwrap().maximum;
    for node in [&pair.a, &pair.b] {
        assert_eq!(node.core.volume(V).size_sectors(), end, "{}", pair.logs());
        assert_eq!(node.word().1, Conn::Connected, "{}", pair.logs());
    }
}

/// The same, and the link is lost meanwhile: when the device grows without the peer, what that has said does not count any more.
#[test]
fn a_device_that_grows_without_the_peer_stays_large() {
    let (mut pair, id) = pair_about_to_resize_alone(true);
    pair.lose_link();
    pair.release_meta_of_a();
    assert_eq!(pair.a.replies[&id], 101, "{}", pair.logs());
    let large = pair.a.core.volume(V).disk().unwrap().maximum;
    assert_eq!(pair.a.core.volume(V).size_sectors(), large, "{}", pair.logs());
    let id = resize(&mut pair.a);
    while pair.a.work() {}
    assert_eq!(pair.a.replies[&id], 101, "{}", pair.logs());
    assert_eq!(pair.a.core.volume(V).size_sectors(), large, "{}", pair.logs());
}

/// A peer that has no more room asks a Primary that has for its size, and says that the Primary has the space; the link is lost while
/// the Primary moves its meta data. It does not grow without the peer, which has no room for that.
#[test]
fn a_peer_that_assumes_space_does_not_assume_its_own() {
    let mut pair = Pair::new(101);
    pair.a = Node::with_internal_meta_data(1, 8 << 20);
    pair.b = Node::with_internal_meta_data(2, 8 << 20);
    pair.connect(&settings(Protocol::C));
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    let before = pair.a.core.volume(V).size_sectors();
    pair.a.set_bytes(10 << 20);
    pair.a.meta_held = Some(Vec::new());
    let command = Command::Resize { volume: V, size: 0, assume_peer_has_space: true, assume_clean: false };
    pair.b.begin(command);
    while pair.a.meta_held.as_ref().is_some_and(Vec::is_empty) {
        pair.run_once();
    }
    pair.lose_link();
    pair.release_meta_of_a();
    assert!(pair.a.core.volume(V).disk().unwrap().maximum > before, "{}", pair.logs());
    assert_eq!(pair.a.core.volume(V).size_sectors(), before, "{}", pair.logs());
}

/// A resize takes its time, and a resync comes in between: the peer would not hear of the new size, and get writes beyond its end.
#[test]
fn a_resize_that_has_begun_is_refused_when_a_resync_has_come_in_between() {
    let (mut pair, id) = pair_about_to_resize_alone(true);
    let before = pair.a.core.volume(V).size_sectors();
    let invalidation = pair.b.begin(Command::Invalidate { volume: V });
    for _ in 0..100 {
        pair.run_once();
    }
    assert_eq!(pair.a.word().1, Conn::StartingSyncS, "{}", pair.logs());
    pair.release_meta_of_a();
    pair.run();
    assert_eq!((pair.a.replies[&id], pair.b.replies[&invalidation]), (130, 1), "{}", pair.logs());
    for node in [&pair.a, &pair.b] {
        assert_eq!(node.core.volume(V).size_sectors(), before, "{}", pair.logs());
    }
    let end = before as usize * 512;
    assert!(pair.a.data[..end] == pair.b.data[..end], "{}", pair.logs());
}
