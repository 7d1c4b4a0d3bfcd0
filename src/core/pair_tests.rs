//! Two nodes, a perfect network, perfect disks: the way from fresh meta data to a failover.

use super::resource::Resource;
use super::state::{Conn, Disk, Role};
use super::types::*;
use crate::conf::settings::{DiskSettings, Fencing, NetSettings, OnIoError, Protocol, ResourceSettings};
use crate::conf::Dialect;
use crate::meta::{self, Layout, LogGeometry, MetaFlags, MetaIndex, SuperBlock};
use crate::sys::buffer::Buffer;
use crate::wire::acks::BlockAck;
use crate::wire::{Features, Packet, ProtocolVersion, Socket, ID_SYNCER};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

pub(super) const SECTORS: u64 = 40 * 2048;
pub(super) const V: VolumeIndex = 0;

type Wire = (u16, Packet, Option<Payload>);
/// Gets all of the meta data device.
type Watch = Box<dyn FnMut(&[u8])>;

pub(super) struct Node {
    pub(super) core: Resource,
    pub(super) data: Vec<u8>,
    meta: Vec<u8>,
    pub(super) outgoing: [VecDeque<Wire>; 2],
    bitmaps: bool,
    /// Requests at the disk that come back when [`Pair::run_disk_backwards`] lets them.
    held: Option<Vec<Output>>,
    /// Flushes of the data that it was asked for.
    flushes: u32,
    /// Writes of meta data that the test lets come back.
    meta_held: Option<Vec<Output>>,
    /// Flushes fail.
    flushes_fail: bool,
    /// Writes of the bitmap fail.
    bitmap_fails: bool,
    /// Helpers that end when the test says so; `None`: at once.
    running: Option<Vec<HelperId>>,
    pub(super) wants_link: bool,
    pub(super) replies: HashMap<AdminId, i32>,
    pub(super) completed: HashMap<Token, Result<Option<Vec<u8>>, IoError>>,
    pub(super) log: Vec<String>,
    pub(super) next: u64,
    index: MetaIndex,
    /// Looks at the meta data device after each write.
    watch: Option<Watch>,
}

fn layout() -> Layout {
    Layout::new(MetaIndex::FlexExternal, 256 << 10, LogGeometry::CLASSIC).unwrap()
}

impl Node {
    pub(super) fn new(seed: u64) -> Node {
        Node::with_disk(seed, layout(), SECTORS as usize * 512)
    }

    /// A node whose meta data are at the end of its disk. In memory the two are apart: nothing that is written to
    /// one of them changes the other.
    fn with_internal_meta_data(seed: u64, bytes: usize) -> Node {
        let layout = Layout::new(MetaIndex::Internal, bytes as u64, LogGeometry::CLASSIC).unwrap();
        Node::with_disk(seed, layout, bytes)
    }

    fn with_disk(seed: u64, layout: Layout, bytes: usize) -> Node {
        let mut meta = vec![0; layout.device_bytes as usize];
        let block = SuperBlock::just_created(&layout).encode();
        meta[layout.md_offset as usize..][..block.len()].copy_from_slice(&block);
        let mut node = Node {
            core: Self::core(seed),
            data: vec![0; bytes],
            meta,
            outgoing: [VecDeque::new(), VecDeque::new()],
            bitmaps: false,
            held: None,
            flushes: 0,
            meta_held: None,
            flushes_fail: false,
            bitmap_fails: false,
            running: None,
            wants_link: false,
            replies: HashMap::new(),
            completed: HashMap::new(),
            log: Vec::new(),
            next: 1,
            index: layout.index,
            watch: None,
        };
        node.start();
        node
    }

    fn core(seed: u64) -> Resource {
        let mut state = seed;
        let random = Box::new(move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state
        });
        Resource::new("r0", ResourceSettings::defaults(Dialect::V83), random)
    }

    /// A daemon starts: the volume is made, its disk attached.
    fn start(&mut self) {
        let settings = DiskSettings { resync_rate: 1 << 20, ..DiskSettings::defaults(Dialect::V83) };
        self.core.add_volume(0, 0, settings);
        self.attach();
    }

    fn attach(&mut self) {
        let settings = self.core.volume(V).settings().clone();
        let layout = Layout::new(self.index, self.meta.len() as u64, LogGeometry::CLASSIC).unwrap();
        let super_block = SuperBlock::decode(&self.meta[layout.md_offset as usize..][..4096]).unwrap();
        let area = &self.meta[layout.al_offset() as usize..][..layout.log.bytes() as usize];
        let hot = meta::activity_log::replay(area, &super_block, layout.log).unwrap().hot;
        let words = meta::bitmap::words(super_block.effective_size_sectors) as usize;
        let mut bitmap = vec![0; words];
        meta::bitmap::decode_words(&self.meta[layout.bm_offset() as usize..][..words * 8], &mut bitmap);
        let disk = AttachedDisk {
            settings,
            super_block,
            layout,
            maximum: layout.usable_sectors(self.data.len() as u64 / 512),
            logical_block_bytes: 512,
            hot_extents: Some(hot),
            log_lines: Vec::new(),
            bitmap,
            can_discard: true,
        };
        assert_eq!(self.command(Command::Attach { volume: V, disk: Box::new(disk) }), 101);
    }

    fn detach_at_errors(&mut self) {
        let settings = self.core.volume(V).settings().clone();
        let settings = DiskSettings { on_io_error: OnIoError::Detach, ..settings };
        assert_eq!(self.command(Command::DiskSettings { volume: V, settings: Box::new(settings) }), 101);
    }

    fn super_block(&self) -> SuperBlock {
        SuperBlock::decode(&self.meta[layout().md_offset as usize..][..4096]).unwrap()
    }

    /// Gives a command and carries out what needs no peer.
    pub(super) fn command(&mut self, command: Command) -> i32 {
        let id = self.begin(command);
        while self.work() {}
        self.replies.remove(&id).unwrap_or(i32::MIN)
    }

    pub(super) fn begin(&mut self, command: Command) -> AdminId {
        self.next += 1;
        self.core.command(0, self.next, command);
        self.next
    }

    /// Carries out outputs; true if there were any.
    pub(super) fn work(&mut self) -> bool {
        let mut outputs = Vec::new();
        self.core.take_outputs(&mut outputs);
        let any = !outputs.is_empty();
        for output in outputs {
            self.carry_out(output);
        }
        any
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            output @ (Output::DiskRead { .. } | Output::DiskWrite { .. }) if self.held.is_some() => {
                self.held.get_or_insert_default().push(output);
            }
            Output::Send { socket, volume, packet, payload, notify } => {
                self.outgoing[socket as usize].push_back((volume, packet, payload));
                if let Some(notify) = notify {
                    self.core.sent(0, notify);
                }
            }
            Output::SendBitmap { volume } => {
                while let Some((packet, payload)) = self.core.next_bitmap_packet(0, volume) {
                    self.outgoing[Socket::Data as usize].push_back((0, packet, Some(payload)));
                    self.bitmaps = true;
                }
            }
            Output::DiskRead { volume, io, sector, bytes } => {
                let from = sector as usize * 512;
                let buffer = Buffer::from_bytes(&self.data[from..from + bytes as usize]);
                let payload = Payload::whole(Arc::new(buffer));
                self.core.io_done(0, volume, io, IoResult::Done(Some(payload)));
            }
            Output::DiskWrite { volume, io, sector, payload, .. } => {
                self.data[sector as usize * 512..][..payload.len()].copy_from_slice(&payload);
                self.core.io_done(0, volume, io, IoResult::Done(None));
            }
            Output::DiskDiscard { volume, io, sector, bytes, .. } => {
                self.data[sector as usize * 512..][..bytes as usize].fill(0);
                self.core.io_done(0, volume, io, IoResult::Done(None));
            }
            Output::DiskFlush { volume, io } => {
                self.flushes += 1;
                let result = if self.flushes_fail { IoResult::Failed } else { IoResult::Done(None) };
                self.core.io_done(0, volume, io, result);
            }
            output @ Output::MetaWrite { .. } if self.meta_held.is_some() => {
                self.meta_held.get_or_insert_default().push(output);
            }
            Output::MetaWrite { volume, io, pieces, .. }
                if self.bitmap_fails && pieces.iter().any(|(at, _)| *at >= layout().bm_offset()) =>
            {
                self.core.io_done(0, volume, io, IoResult::Failed);
            }
            Output::MetaWrite { volume, io, pieces, .. } => {
                for (offset, bytes) in pieces {
                    self.meta[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
                    if let Some(watch) = &mut self.watch {
                        watch(&self.meta);
                    }
                }
                self.core.io_done(0, volume, io, IoResult::Done(None));
            }
            Output::AskBackingSize { volume } => {
                let (data_bytes, meta_bytes) = (self.data.len() as u64, self.meta.len() as u64);
                self.core.backing_size(0, volume, Ok(BackingSize { data_bytes, meta_bytes }));
            }
            Output::Complete { token, result } => {
                let result = result.map(|payload| payload.map(|payload| payload.to_vec()));
                assert!(self.completed.insert(token, result).is_none(), "completed twice");
            }
            Output::Connect => self.wants_link = true,
            Output::CloseLink { .. } => {
                self.wants_link = false;
                self.core.link_closed(0);
            }
            Output::Helper { id, .. } if self.running.is_some() => {
                self.running.get_or_insert_default().push(id);
            }
            Output::Helper { id, name, .. } => {
                self.log.push(format!("helper {name}"));
                self.core.helper_done(0, id, 0);
            }
            Output::Reply { id, code, .. } => {
                self.replies.insert(id, code);
            }
            Output::Log { text, .. } => self.log.push(text),
            Output::ReleaseDisk { .. } | Output::Resize { .. } | Output::State { .. } => {}
        }
    }

    /// The disk has another size from now on.
    fn set_bytes(&mut self, bytes: usize) {
        self.data.resize(bytes, 0);
        if self.index.is_internal() {
            self.meta.resize(bytes, 0);
        }
    }

    fn word(&self) -> (Role, Conn, Disk, Disk) {
        let word = self.core.volume(V).state();
        (word.role, word.conn, word.disk, word.pdsk)
    }

    pub(super) fn write(&mut self, sector: u64, fill: u8, bytes: usize) -> Token {
        self.next += 1;
        let mut buffer = Buffer::zeroed(bytes);
        buffer.fill(fill);
        self.core.write(0, V, self.next, sector, Payload::whole(Arc::new(buffer)), false);
        self.next
    }
}

struct Pair {
    a: Node,
    b: Node,
    now: Millis,
    linked: bool,
    version: ProtocolVersion,
}

impl Pair {
    fn new(version: u32) -> Pair {
        let version = ProtocolVersion::new(version).unwrap();
        Pair { a: Node::new(1), b: Node::new(2), now: 0, linked: false, version }
    }

    fn connect(&mut self, net: &NetSettings) {
        assert_eq!(self.a.command(Command::Connect(Box::new(net.clone()))), 101);
        assert_eq!(self.b.command(Command::Connect(Box::new(net.clone()))), 101);
        self.run();
    }

    /// Lets everything happen that can, timers included, until nothing happens for a while.
    fn run(&mut self) {
        let mut idle = 0;
        while idle < 100 {
            let mut busy = self.a.work() | self.b.work();
            if self.a.wants_link && self.b.wants_link && !self.linked {
                self.linked = true;
                let features =
                    if self.version.number() >= 100 { Features::ANNOUNCED } else { Features::NONE };
                let link = |arbiter| Link { version: self.version, features, arbiter };
                let (a, b) = (link(true), link(false));
                self.a.core.link_up(self.now, a);
                self.b.core.link_up(self.now, b);
                busy = true;
            }
            if self.linked && !(self.a.wants_link && self.b.wants_link) {
                // One side hung up: the other sees the end of the stream.
                self.linked = false;
                for node in [&mut self.a, &mut self.b] {
                    node.outgoing = [VecDeque::new(), VecDeque::new()];
                    if node.wants_link {
                        node.core.link_lost(self.now, LinkFailure { conn: Conn::BrokenPipe, log: None });
                    }
                }
                busy = true;
            }
            for socket in [Socket::Meta, Socket::Data] {
                busy |= Self::deliver(&mut self.a, &mut self.b, socket, self.now);
                busy |= Self::deliver(&mut self.b, &mut self.a, socket, self.now);
            }
            idle = if busy { 0 } else { idle + 1 };
            if !busy {
                self.now += 25;
                self.a.core.timeout(self.now);
                self.b.core.timeout(self.now);
            }
        }
    }

    /// What `b` holds back at its disk comes back, the newest first.
    fn run_disk_backwards(&mut self) {
        self.run();
        while let Some(output) = self.b.held.as_mut().and_then(Vec::pop) {
            let others = self.b.held.take();
            self.b.carry_out(output);
            self.b.held = others;
            self.run();
        }
        self.b.held = None;
    }

    fn deliver(from: &mut Node, to: &mut Node, socket: Socket, now: Millis) -> bool {
        if socket == Socket::Data && !to.core.receiver_ready() {
            return false;
        }
        let Some((volume, packet, payload)) = from.outgoing[socket as usize].pop_front() else {
            return false;
        };
        if let (Packet::Data(_), Some(version)) = (&packet, from.core.link().map(|link| link.version)) {
            let bytes = payload.as_ref().map_or(0, |payload| payload.len());
            assert!(bytes <= version.max_bio_bytes() as usize, "{bytes} bytes at version {version:?}");
        }
        to.core.packet(now, socket, volume, packet, payload);
        true
    }

    fn assert_equal(&self) {
        assert_eq!(
            self.a.word().1,
            Conn::Connected,
            "{:?} {:?}\n{}",
            self.a.word(),
            self.b.word(),
            self.logs()
        );
        assert_eq!((self.a.word().2, self.a.word().3), (Disk::UpToDate, Disk::UpToDate), "{}", self.logs());
        assert_eq!((self.b.word().2, self.b.word().3), (Disk::UpToDate, Disk::UpToDate));
        assert!(self.a.data == self.b.data, "the disks differ");
        for node in [&self.a, &self.b] {
            assert_eq!(node.core.volume(V).out_of_sync_bits(), 0);
            let counters = node.core.volume(V).counters();
            let pending = [counters.ap_pending, counters.rs_pending, counters.unacked, counters.local];
            assert_eq!(pending, [0; 4]);
        }
        let current = |node: &Node| node.core.volume(V).disk().unwrap().uuids.current & !1;
        assert_eq!(current(&self.a), current(&self.b));
    }

    fn logs(&self) -> String {
        format!("a: {}\n\nb: {}", self.a.log.join("\n   "), self.b.log.join("\n   "))
    }
}

fn settings(protocol: Protocol) -> NetSettings {
    NetSettings { protocol, use_rle: true, ..NetSettings::defaults(Dialect::V83) }
}

/// From fresh meta data over the first sync, a disconnect with writes, a failover, a crash.
fn live(version: u32, protocol: Protocol) {
    let mut pair = Pair::new(version);
    let net = settings(protocol);
    pair.connect(&net);
    let fresh = (Role::Secondary, Conn::Connected, Disk::Inconsistent, Disk::Inconsistent);
    assert_eq!((pair.a.word(), pair.b.word()), (fresh, fresh), "{}", pair.logs());
    pair.a.data.fill(7);
    assert_eq!(pair.a.command(Command::Primary { volume: V, force: false }), -2);

    let id = pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    assert_eq!(pair.a.replies[&id], 1, "{}", pair.logs());
    pair.assert_equal();
    assert_eq!(pair.a.word().0, Role::Primary);

    // Mirrored writes, over more extents than the log has slots for at once, and across limits.
    let tokens: Vec<Token> = (0..40)
        .map(|i| pair.a.write(i * 2048 + 3, i as u8 + 10, 4096 * (1 + i as usize % 3) + 512))
        .collect();
    pair.run();
    assert!(tokens.iter().all(|token| pair.a.completed[token].is_ok()));
    pair.assert_equal();

    // Written while disconnected: only that is resynced.
    assert_eq!(pair.b.begin(Command::Disconnect { force: false }), pair.b.next);
    pair.run();
    assert_eq!((pair.a.word().1, pair.b.word().1), (Conn::WFConnection, Conn::StandAlone), "{}", pair.logs());
    let token = pair.a.write(4000, 99, 8192);
    pair.run();
    assert!(pair.a.completed[&token].is_ok());
    assert_eq!(pair.b.command(Command::Connect(Box::new(net.clone()))), 101);
    pair.run();
    pair.assert_equal();
    let resynced = pair.b.log.iter().rfind(|line| line.starts_with("Began resync")).unwrap();
    assert_eq!(resynced, "Began resync as SyncTarget (will sync 8 KB [2 bits set]).");

    // The other node takes over.
    let id = pair.a.begin(Command::Secondary { volume: V, open: false });
    pair.run();
    assert_eq!(pair.a.replies[&id], 1);
    let id = pair.b.begin(Command::Primary { volume: V, force: false });
    pair.run();
    assert_eq!(pair.b.replies[&id], 1, "{}", pair.logs());
    let token = pair.b.write(9, 123, 4096);
    pair.run();
    assert!(pair.b.completed[&token].is_ok());
    pair.assert_equal();

    // The Primary's daemon is killed with a write on its way, and comes back.
    pair.b.write(5000, 200, 4096);
    pair.b.core = Node::core(77);
    pair.b.wants_link = false;
    pair.run();
    pair.b.start();
    assert_eq!(pair.b.command(Command::Connect(Box::new(net))), 101);
    pair.run();
    pair.assert_equal();
}

#[test]
fn a_pair_lives_at_every_version() {
    for version in ProtocolVersion::all() {
        live(u32::from(version.number()), Protocol::C);
    }
}

#[test]
fn a_pair_lives_with_protocols_a_and_b() {
    for version in [96, 101] {
        live(version, Protocol::A);
        live(version, Protocol::B);
    }
}

/// A pair after its first sync; `a` is Primary.
fn synced_pair() -> Pair {
    synced_pair_with(Protocol::C)
}

fn synced_pair_with(protocol: Protocol) -> Pair {
    let mut pair = Pair::new(101);
    pair.connect(&settings(protocol));
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    pair.assert_equal();
    pair
}

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

/// Writes that are frozen when the peer loses its disk are not sent again: when it has attached one the
/// two copies are no longer of one generation.
#[test]
fn a_frozen_primary_begins_a_new_generation_when_its_connected_peer_loses_its_disk() {
    let mut pair = synced_pair();
    pair.a.begin(Command::SuspendIo { volume: V });
    pair.run();
    pair.b.begin(Command::Detach { volume: V, force: false });
    pair.run();
    assert_ne!(pair.a.core.volume(V).disk().unwrap().uuids.bitmap, 0, "{}", pair.logs());
}

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

/// Both write to the same blocks at the same time: both complete, and both disks end with the same data.
#[test]
fn two_primaries_that_write_the_same_blocks_stay_equal() {
    for version in [89, 96, 100, 101] {
        let mut pair = Pair::new(version);
        let net = NetSettings { allow_two_primaries: true, ..settings(Protocol::C) };
        pair.connect(&net);
        pair.a.begin(Command::Primary { volume: V, force: true });
        pair.run();
        pair.assert_equal();
        let id = pair.b.begin(Command::Primary { volume: V, force: false });
        pair.run();
        assert_eq!(pair.b.replies[&id], 1, "{}", pair.logs());

        let mut tokens = Vec::new();
        let mut seed = 7u64;
        for round in 0..60u8 {
            // The same range; from version 100 on also ranges that overlap in part.
            let shift = if version >= 100 { u64::from(round) % 3 * 4 } else { 0 };
            tokens.push((true, pair.a.write(104, round, 4096)));
            tokens.push((false, pair.b.write(104 - shift, 100 + round, 4096 + (shift as usize * 512))));
            tokens.push((true, pair.a.write(1000, round, 4096)));
            if round % 4 == 3 {
                pair.run();
            } else {
                // Something happens in between, in any order.
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                for step in 0..seed >> 61 {
                    let socket = if (seed >> step) & 2 == 0 { Socket::Meta } else { Socket::Data };
                    pair.a.work();
                    pair.b.work();
                    Pair::deliver(&mut pair.a, &mut pair.b, socket, pair.now);
                    Pair::deliver(&mut pair.b, &mut pair.a, socket, pair.now);
                }
            }
        }
        pair.run();
        for (on_a, token) in tokens {
            let node = if on_a { &pair.a } else { &pair.b };
            assert!(node.completed.get(&token).is_some_and(Result::is_ok), "version {version}");
        }
        pair.assert_equal();
    }
}

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

/// One write at a time: its disk is flushed before the barrier comes, which is with the next write, and
/// once. Several at a time: when the barrier comes.
#[test]
fn the_flush_for_one_write_at_a_time_does_not_wait_for_the_barrier() {
    let mut pair = synced_pair();
    for round in 0..4 {
        pair.a.write(round * 100, 1, 4096);
        pair.run();
    }
    for round in 0..4 {
        let before = pair.b.flushes;
        pair.a.write(round * 100, 2, 4096);
        for socket in [Socket::Data, Socket::Data, Socket::Meta, Socket::Meta] {
            pair.a.work();
            pair.b.work();
            Pair::deliver(&mut pair.a, &mut pair.b, socket, pair.now);
            Pair::deliver(&mut pair.b, &mut pair.a, socket, pair.now);
        }
        pair.b.work();
        assert_eq!(pair.b.flushes, before + 1);
        assert!(pair.a.core.has_open_epochs(V), "the barrier has not been sent");
        pair.run();
        assert_eq!(pair.b.flushes, before + 1);
        assert!(!pair.a.core.has_open_epochs(V));
    }
    // Several at a time come as a surprise once.
    for flushes in [2, 1, 1] {
        let before = pair.b.flushes;
        pair.a.write(0, 3, 4096);
        pair.a.write(100, 3, 4096);
        pair.run();
        assert_eq!(pair.b.flushes, before + flushes);
        assert!(!pair.a.core.has_open_epochs(V));
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

/// The nodes of a split brain decide for themselves. The one whose handler runs longer sees the link go
/// meanwhile, and stays away all the same: it does not offer its data until somebody has looked.
#[test]
fn a_split_brain_whose_handler_outlives_the_link_ends_stand_alone() {
    let mut pair = synced_pair();
    for node in [&mut pair.a, &mut pair.b] {
        node.begin(Command::Disconnect { force: true });
    }
    pair.run();
    pair.b.begin(Command::Primary { volume: V, force: true });
    pair.run();
    let tokens = [pair.a.write(4000, 1, 4096), pair.b.write(4000, 2, 4096)];
    pair.run();
    assert!(pair.a.completed[&tokens[0]].is_ok() && pair.b.completed[&tokens[1]].is_ok());
    pair.b.begin(Command::Secondary { volume: V, open: false });
    pair.run();
    pair.b.running = Some(Vec::new());
    pair.connect(&settings(Protocol::C));
    assert_eq!(pair.a.word().1, Conn::StandAlone, "{}", pair.logs());
    assert_eq!(pair.b.word().1, Conn::BrokenPipe, "its receiver is in the handler\n{}", pair.logs());
    while let Some(id) = pair.b.running.as_mut().and_then(Vec::pop) {
        pair.b.core.helper_done(pair.now, id, 0);
        pair.run();
    }
    assert_eq!(pair.b.word().1, Conn::StandAlone, "{}", pair.logs());
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

/// Answers of fence-peer that a reader of the log has to see: the peer is Primary, too, or was shot though nobody
/// wanted that.
#[test]
fn a_strange_answer_of_fence_peer_is_in_the_log() {
    for (code, line) in
        [(6, "Peer is primary, outdating myself."), (7, "fence-peer() = 7 && fencing != Stonith !!!")]
    {
        let mut pair = synced_pair();
        let settings = pair.a.core.volume(V).settings().clone();
        let settings = Box::new(DiskSettings { fencing: Fencing::ResourceOnly, ..settings });
        assert_eq!(pair.a.command(Command::DiskSettings { volume: V, settings }), 101);
        pair.a.running = Some(Vec::new());
        pair.b.command(Command::Disconnect { force: true });
        pair.run();
        let id = pair.a.running.as_mut().and_then(Vec::pop).expect("fence-peer runs");
        pair.a.core.helper_done(pair.now, id, code << 8);
        pair.run();
        let at = |text: &str| pair.a.log.iter().position(|line| line.contains(text));
        let (warning, result) = (at(line), at(&format!("fence-peer helper returned {code}")));
        assert!(warning.is_some() && warning < result, "{}", pair.logs());
    }
}

/// A Primary gives its disk up, loses its peer, and attaches its disk again, which has the data in use: what
/// it writes now is a new generation.
#[test]
fn a_primary_that_attaches_without_its_peer_begins_a_new_generation() {
    let mut pair = synced_pair();
    pair.a.command(Command::Detach { volume: V, force: true });
    // Nothing of this reaches the peer.
    pair.b.core.link_lost(pair.now, LinkFailure { conn: Conn::BrokenPipe, log: None });
    while pair.b.work() {}
    pair.b.command(Command::Disconnect { force: false });
    pair.run();
    pair.a.attach();
    assert_eq!((pair.a.word().1, pair.a.word().2), (Conn::WFConnection, Disk::UpToDate), "{}", pair.logs());
    let token = pair.a.write(4000, 99, 8192);
    pair.run();
    assert!(pair.a.completed[&token].is_ok());
    assert_ne!(pair.a.core.volume(V).disk().unwrap().uuids.bitmap, 0, "{}", pair.logs());
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.run();
    pair.assert_equal();
}

/// A read error that `on-io-error pass_on` survives marks a block that the target of a resync knows nothing of.
#[test]
fn a_source_with_bits_of_its_own_ends_when_the_target_has() {
    let mut pair = synced_pair();
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
}

/// P_BARRIER_ACK says that the disk would keep the writes without power.
#[test]
fn an_epoch_whose_flush_failed_is_not_acknowledged() {
    let mut pair = synced_pair();
    pair.b.detach_at_errors();
    pair.b.flushes_fail = true;
    let token = pair.a.write(4000, 99, 8192);
    pair.run();
    assert!(pair.a.completed[&token].is_ok());
    assert_eq!((pair.a.word().1, pair.a.word().3), (Conn::Connected, Disk::Diskless), "{}", pair.logs());
    assert_eq!(pair.a.core.volume(V).out_of_sync_bits(), 2, "{}", pair.logs());
}

/// A write that the peer refused while I/O was frozen is sent again when the peer comes back with a disk of
/// the same generation: without a resync nothing else would bring it there.
#[test]
fn a_refused_write_that_was_frozen_is_sent_again() {
    let mut pair = synced_pair();
    let token = pair.a.write(4000, 99, 8192);
    while pair.a.work() {}
    let sent = pair.a.outgoing[Socket::Data as usize].pop_front();
    let Some((_, Packet::Data(data), _)) = sent else { panic!("{sent:?}") };
    pair.a.command(Command::SuspendIo { volume: V });
    let refused = BlockAck { sector: 4000, block_id: data.block_id, size: 8192, seq: 1 };
    pair.a.core.packet(pair.now, Socket::Meta, 0, Packet::NegAck(refused), None);
    pair.b.command(Command::Disconnect { force: true });
    pair.run();
    assert_eq!(pair.a.word().1, Conn::WFConnection, "{}", pair.logs());
    assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.run();
    pair.a.command(Command::ResumeIo { volume: V });
    pair.run();
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
    for output in pair.a.held.take().unwrap() {
        pair.a.carry_out(output);
    }
    while pair.a.work() {}
    assert!(!pair.a.completed.contains_key(&token), "{}", pair.logs());
    for output in pair.a.meta_held.take().unwrap() {
        pair.a.carry_out(output);
    }
    while pair.a.work() {}
    assert!(pair.a.completed[&token].is_ok());
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

/// The source of a resync loses its disk: the half-synced data of the target are not what it works with, and
/// its own disk is welcome again.
#[test]
fn a_source_that_lost_its_disk_may_attach_it_again() {
    let mut pair = synced_pair();
    pair.b.held = Some(Vec::new());
    pair.a.begin(Command::InvalidateRemote { volume: V });
    pair.run();
    assert_eq!(pair.a.word().1, Conn::SyncSource, "{}", pair.logs());
    pair.a.begin(Command::Detach { volume: V, force: true });
    pair.run();
    assert_eq!((pair.a.word().2, pair.a.word().3), (Disk::Diskless, Disk::Inconsistent), "{}", pair.logs());
    let uuids = pair.b.core.volume(V).disk().unwrap().uuids;
    let uuids = crate::wire::parameters::Uuids {
        current: uuids.current,
        bitmap: uuids.bitmap,
        history: uuids.history,
        dirty_bits: 10240,
        flags: 0,
    };
    pair.a.core.packet(pair.now, Socket::Data, 0, Packet::Uuids(uuids), None);
    pair.a.attach();
    pair.run_disk_backwards();
    pair.assert_equal();
}

/// A word that the peer sent before its promotion may come behind its request to be promoted: the first resync
/// waits for the word that says Primary, and for the UUIDs before it.
#[test]
fn a_late_word_does_not_use_up_the_first_resync() {
    let mut pair = Pair::new(101);
    pair.connect(&settings(Protocol::C));
    let late = super::handshake::state_packet(pair.a.core.volume(V).state());
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
    let early = super::handshake::state_packet(pair.b.core.volume(V).state());
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
