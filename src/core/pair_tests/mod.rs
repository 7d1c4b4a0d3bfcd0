//! Two nodes, a perfect network, perfect disks: the way from fresh meta data to a failover.

mod attached_sizes;
mod bitmap_exchange;
mod connections;
mod continuation;
mod crossing_sizes;
mod diskless;
mod empty_resync;
mod fencing;
mod flushes;
mod frozen_primary;
mod frozen_requests;
mod generations;
mod invalidate;
mod net_options;
mod new_space;
mod outdating;
mod resync;
mod sizes;
mod two_primaries;
mod unheard_end;
mod verify;
mod writes;

use super::resource::Resource;
use super::state::{Conn, Disk, Role};
use super::types::*;
use crate::conf::settings::{
    DiskSettings, Fencing, NetSettings, OnIoError, OnNoData, Protocol, ResourceSettings,
};
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
    /// What of it was delivered.
    sent: Vec<Packet>,
    bitmaps: bool,
    /// Requests at the disk that come back when [`Pair::run_disk_backwards`] lets them.
    held: Option<Vec<Output>>,
    /// Flushes of the data that it was asked for.
    flushes: u32,
    /// Writes of meta data that the test lets come back.
    meta_held: Option<Vec<Output>>,
    /// Those that the test lets come back.
    flushes_held: Option<Vec<Output>>,
    /// Flushes fail.
    flushes_fail: bool,
    /// Writes of the bitmap fail.
    bitmap_fails: bool,
    /// Packets of a bitmap wait until the test fetches them.
    bitmaps_held: bool,
    /// Helpers that end when the test says so; `None`: at once.
    running: Option<Vec<HelperId>>,
    pub(super) wants_link: bool,
    pub(super) replies: HashMap<AdminId, i32>,
    pub(super) completed: HashMap<Token, Result<Option<Vec<u8>>, IoError>>,
    pub(super) log: Vec<String>,
    pub(super) next: u64,
    index: MetaIndex,
    /// Size of the device that applications see, sectors.
    shown: u64,
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
            sent: Vec::new(),
            bitmaps: false,
            held: None,
            flushes: 0,
            meta_held: None,
            flushes_held: None,
            flushes_fail: false,
            bitmap_fails: false,
            bitmaps_held: false,
            running: None,
            wants_link: false,
            replies: HashMap::new(),
            completed: HashMap::new(),
            log: Vec::new(),
            next: 1,
            index: layout.index,
            shown: 0,
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
        assert_eq!(self.try_attach(), 101);
    }

    /// The user of this node wants the device to have this size.
    fn try_attach_with_size(&mut self, size: u64) -> i32 {
        self.try_attach_with(DiskSettings { size, ..self.core.volume(V).settings().clone() })
    }

    fn try_attach(&mut self) -> i32 {
        self.try_attach_with(self.core.volume(V).settings().clone())
    }

    fn try_attach_with(&mut self, settings: DiskSettings) -> i32 {
        let command = self.attach_command(settings);
        self.command(command)
    }

    fn attach_command(&self, settings: DiskSettings) -> Command {
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
        Command::Attach { volume: V, disk: Box::new(disk) }
    }

    /// `on-no-data-accessible`.
    fn when_data_are_lost(&mut self, on_no_data_accessible: OnNoData) {
        let settings = ResourceSettings { on_no_data_accessible, ..ResourceSettings::defaults(Dialect::V84) };
        assert_eq!(self.command(Command::ResourceSettings(Box::new(settings))), 101);
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
            Output::SendBitmap { .. } if self.bitmaps_held => {}
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
            output @ Output::DiskFlush { .. } if self.flushes_held.is_some() => {
                self.flushes_held.get_or_insert_default().push(output);
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
            Output::Resize { sectors, .. } => self.shown = sectors,
            Output::ReleaseDisk { .. } | Output::State { .. } | Output::BareConnection { .. } => {}
        }
    }

    fn carry_out_all(&mut self, held: Vec<Output>) {
        held.into_iter().for_each(|output| self.carry_out(output));
    }

    /// The requests that were held back at the disk are done, and what follows them is not held back.
    fn release_held(&mut self) {
        let held = self.held.take().expect("nothing is held back");
        self.carry_out_all(held);
    }

    /// The same with writes of meta data.
    fn release_meta(&mut self) {
        let held = self.meta_held.take().expect("nothing is held back");
        self.carry_out_all(held);
    }

    /// The same with flushes.
    fn release_flushes(&mut self) {
        let held = self.flushes_held.take().expect("nothing is held back");
        self.carry_out_all(held);
    }

    /// The disk fails the only request that was held back, a write.
    fn fail_held_write(&mut self, now: Millis) {
        let held = self.held.take().expect("nothing is held back");
        let [Output::DiskWrite { volume, io, .. }] = held[..] else { panic!("{held:?}") };
        self.core.io_done(now, volume, io, IoResult::Failed);
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
            idle = if self.run_once() { 0 } else { idle + 1 };
        }
    }

    /// Lets every node and every socket do one thing; if there is nothing, time passes. True: there was something.
    fn run_once(&mut self) -> bool {
        let mut busy = self.run_once_without_packets();
        busy |= self.exchange();
        if !busy {
            self.now += 25;
            self.a.core.timeout(self.now);
            self.b.core.timeout(self.now);
        }
        busy
    }

    /// The two meet, and have gone two ways; an administrator gives one node's data up.
    fn meet_split_and_solve(&mut self, discards_b: bool) {
        self.meet_again();
        assert!(self.logs().contains("Split-Brain detected"), "{}", self.logs());
        assert!(!self.logs().contains("Unrelated data"), "{}", self.logs());
        let loser = NetSettings { discard_my_data: true, ..settings(Protocol::C) };
        let nets = if discards_b { [settings(Protocol::C), loser] } else { [loser, settings(Protocol::C)] };
        for (node, net) in [&mut self.a, &mut self.b].into_iter().zip(nets) {
            assert_eq!(node.word().1, Conn::StandAlone);
            assert_eq!(node.command(Command::Connect(Box::new(net))), 101);
        }
        self.run();
        self.assert_equal();
    }

    /// Both nodes work. What `a` sends on its data socket comes, and nothing else does.
    fn run_data_to_b(&mut self) {
        for _ in 0..100 {
            let _ = self.a.work() | self.b.work();
            Self::deliver(&mut self.a, &mut self.b, Socket::Data, self.now);
        }
    }

    /// The same with what `b` sends on that socket: acknowledgements, and answers to requests for a change of state, wait.
    fn run_data(&mut self) {
        for _ in 0..100 {
            let _ = self.a.work() | self.b.work();
            Self::deliver(&mut self.a, &mut self.b, Socket::Data, self.now);
            Self::deliver(&mut self.b, &mut self.a, Socket::Data, self.now);
        }
    }

    /// Lets every node do one thing, and the link come up or go, while packets stay where they are.
    fn run_once_without_packets(&mut self) -> bool {
        let mut busy = self.a.work() | self.b.work();
        let waits = |node: &Node| node.wants_link && node.core.volume(V).state().conn == Conn::WFConnection;
        if waits(&self.a) && waits(&self.b) && !self.linked {
            self.linked = true;
            // What was sent since the last link was lost went there.
            for node in [&mut self.a, &mut self.b] {
                node.outgoing = Default::default();
            }
            let features = if self.version.number() >= 100 { Features::ANNOUNCED } else { Features::NONE };
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
                if node.wants_link {
                    node.core.link_lost(self.now, LinkFailure { conn: Conn::BrokenPipe, log: None });
                }
                // What it has decided to send goes with the link, too.
                node.work();
                node.outgoing = [VecDeque::new(), VecDeque::new()];
            }
            busy = true;
        }
        busy
    }

    /// Lets everything happen that needs no timer, as long as that is not too much.
    fn run_for_a_while(&mut self) {
        for _ in 0..50 {
            let _ = self.a.work() | self.b.work() | self.exchange();
        }
    }

    /// Delivers a packet of each socket to each node; true if there was one.
    fn exchange(&mut self) -> bool {
        let mut busy = false;
        for socket in [Socket::Meta, Socket::Data] {
            busy |= Self::deliver(&mut self.a, &mut self.b, socket, self.now);
            busy |= Self::deliver(&mut self.b, &mut self.a, socket, self.now);
        }
        busy
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
        from.sent.push(packet.clone());
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
            assert_eq!(node.core.volume(V).out_of_sync_bits(), 0, "{}", self.logs());
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
    synced_pair_at(101, protocol)
}

fn synced_pair_at(version: u32, protocol: Protocol) -> Pair {
    synced_pair_of(version, &settings(protocol))
}

fn synced_pair_of(version: u32, net: &NetSettings) -> Pair {
    let mut pair = Pair::new(version);
    pair.connect(net);
    pair.a.begin(Command::Primary { volume: V, force: true });
    pair.run();
    pair.assert_equal();
    pair
}
