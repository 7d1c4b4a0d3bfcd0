//! One side of each recorded link is played against a core that stands where the other side stood.
//!
//! Two nodes are spoken of: the **peer**, whose recorded packets the core gets, in their order, and the **model**, the
//! recorded node that the core stands for. From the model's packets come the core's configuration, meta data and disk
//! content at the beginning, and what its application and its administrator did.
//!
//! What the core sends is compared with what the model sent:
//!
//! | what | how |
//! |---|---|
//! | P_PROTOCOL, P_SYNC_PARAM*, P_SIZES | equal, in order; queue limits are those of the hardware |
//! | P_UUIDS, P_SYNC_UUID | equal, in order, with the core's random generations in place of the model's |
//! | P_STATE | equal, in order, repetitions counted once |
//! | requests for a change of state, and the answers | equal, in order |
//! | P_DATA, P_TRIM, P_ZEROES, P_BARRIER | equal, in order: range, flags, content, and where each epoch ends |
//! | acknowledgements of writes | the same ones: kind, block id, range. Their order is the disk's |
//! | P_BARRIER_ACK | equal, in order: number and count |
//! | reads and their answers | equal, in order: range, block id, content |
//! | answers to resync requests | the same ones: kind, range, content |
//! | resync requests and P_RS_WRITE_ACK | the same blocks; the speed controller cuts them otherwise |
//! | verify | the same requests, digests and results |
//! | bitmaps, P_OUT_OF_SYNC | the same bits |
//!
//! All packets of the peer must have been taken, nothing may be complained about in the log, and the state at the end
//! is that of the recording. Where the core stands for DRBD 9, which tells of its state more often and with other flags,
//! what a node says of itself is not compared.
//!
//! `REPLAY=drbd9/trim` plays those recordings only, `REPLAY_LOG=1` prints what the core logs.

use crate::captures::{files, Capture, Decoder, Link, Side};
use crate::core_node::{layout, Meta, Node, Sent, V};
use drbdbox::conf::settings::{
    AfterSplitBrain, DiskSettings, NetSettings, OnCongestion, OnIoError, Protocol as Mode,
};
use drbdbox::conf::Dialect;
use drbdbox::core::state::{Change, Conn, Disk, Role, StateWord};
use drbdbox::core::types::{Command, Level, Link as CoreLink, Payload};
use drbdbox::meta::{MetaFlags, SuperBlock};
use drbdbox::sys::buffer::Buffer;
use drbdbox::wire::bitmap_code::{Progress, Receiver};
use drbdbox::wire::*;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// A recorded packet behind the handshake.
#[derive(Debug, Clone)]
pub struct Event {
    /// Milliseconds.
    time: u64,
    from: Side,
    socket: Socket,
    volume: u16,
    packet: Packet,
    payload: Vec<u8>,
    /// The model's request that it answers, by the number of the request. (The kernel uses block ids again.)
    answers: Option<usize>,
}

fn events(name: &str, link: &Link, model: Side) -> Vec<Event> {
    let mut decoders = [Decoder::new(link), Decoder::new(link)];
    let mut events = Vec::new();
    for recorded in &link.packets {
        let decoded = decoders[recorded.from as usize].decode(recorded);
        match decoded.packet {
            Packet::InitialData | Packet::InitialMeta | Packet::ConnectionFeatures(_) => continue,
            Packet::AuthChallenge(_) | Packet::AuthResponse(_) => continue,
            packet => events.push(Event {
                time: recorded.time / 1000,
                from: recorded.from,
                socket: recorded.socket,
                volume: decoded.header.volume,
                packet,
                payload: decoded.payload,
                answers: None,
            }),
        }
    }
    if name.ends_with("congestion") && model == Side::A {
        // The network is slow: what b acknowledges is heard later than the bridge has seen it.
        let acks = events.iter_mut().filter(|event| matches!(event.packet, Packet::BarrierAck(_)));
        acks.for_each(|event| event.time += 300);
        events.sort_by_key(|event| event.time);
    }
    events
}

fn payload_of(bytes: &[u8]) -> Option<Payload> {
    (!bytes.is_empty()).then(|| Payload::whole(Arc::new(Buffer::from_bytes(bytes))))
}

/// The packet's sector and bytes, if it speaks of a range of the device.
fn range_of(packet: &Packet, payload: usize) -> Option<(u64, u32)> {
    Some(match packet {
        Packet::Data(p) => (p.sector, payload as u32),
        Packet::DataReply(p) | Packet::RsDataReply(p) => (p.sector, payload as u32),
        Packet::Trim(p) | Packet::Zeroes(p) | Packet::WriteSame(p) => (p.sector, p.size),
        Packet::OutOfSync(p) | Packet::RsDeallocated(p) => (p.sector, p.size),
        Packet::DataRequest(p)
        | Packet::RsDataRequest(p)
        | Packet::RsThinRequest(p)
        | Packet::OvRequest(p) => (p.sector, p.size),
        Packet::CsumRsRequest(p) | Packet::OvReply(p) => (p.sector, p.size),
        Packet::RecvAck(p)
        | Packet::WriteAck(p)
        | Packet::RsWriteAck(p)
        | Packet::Superseded(p)
        | Packet::RetryWrite(p)
        | Packet::NegAck(p)
        | Packet::NegDataReply(p)
        | Packet::NegRsDataReply(p)
        | Packet::RsCancel(p)
        | Packet::RsIsInSync(p) => (p.sector, p.size),
        Packet::OvResult(p) => (p.sector, p.size),
        _ => return None,
    })
}

/// What two nodes that stand at the same place say must be the same, but for what chance decides. Each list is
/// compared as [`compare`] says.
#[derive(Default)]
struct Said {
    /// P_PROTOCOL, P_SYNC_PARAM*, P_SIZES, in their order.
    parameters: Vec<String>,
    /// P_UUIDS.
    uuids: Vec<String>,
    /// Other state words than the last one: role, connection, disks.
    states: Vec<String>,
    /// P_SYNC_UUID.
    sync_uuids: Vec<u64>,
    /// Requests and answers to requests for a change of state.
    changes: Vec<String>,
    /// Writes and barriers, in their order.
    writes: Vec<String>,
    /// Acknowledgements of the peer's writes.
    acks: Vec<String>,
    /// P_BARRIER_ACK, in their order.
    barrier_acks: Vec<String>,
    /// Reads, and answers to reads.
    reads: Vec<String>,
    /// Blocks of 4 KiB that were asked for in a resync, or acknowledged.
    wanted: BTreeSet<u64>,
    written: BTreeSet<u64>,
    /// Answers to the peer's resync requests.
    answers: Vec<String>,
    /// P_OV_REQUEST, P_OV_REPLY, P_OV_RESULT.
    verify: Vec<String>,
    /// Bits of the bitmaps.
    bitmap: BTreeSet<u64>,
    /// P_OUT_OF_SYNC.
    out_of_sync: BTreeSet<u64>,
    /// P_PING_ACK.
    ping_acks: usize,
}

fn blocks(range: (u64, u32)) -> std::ops::Range<u64> {
    range.0 / 8..(range.0 + u64::from(range.1) / 512).div_ceil(8)
}

impl Said {
    fn new<'a>(
        packets: impl Iterator<Item = (&'a Packet, &'a [u8])>,
        version: ProtocolVersion,
        bits: u64,
        uuid: impl Fn(u64) -> u64,
    ) -> Said {
        let mut said = Said::default();
        let mut receiver: Option<Receiver> = None;
        let mut words: Vec<u64> = Vec::new();
        for (packet, payload) in packets {
            let name = packet.command(version).constant();
            let (sector, size) = range_of(packet, payload.len()).unwrap_or((0, 0));
            let sum = crc32fast::hash(payload);
            match packet {
                Packet::Protocol(_) | Packet::ProtocolUpdate(_) => {
                    said.parameters.push(format!("{packet:?}"))
                }
                Packet::SyncParam(parameters) => {
                    let controller = parameters.controller.filter(|_| version.number() >= 95);
                    said.parameters.push(format!("{:?}", SyncParam { controller, ..parameters.clone() }));
                }
                Packet::Sizes(sizes) => {
                    // The limits of the queue are those of the model's hardware.
                    let limits = sizes.queue_limits.is_some();
                    let Sizes { d_size, u_size, c_size, max_bio_size, dds_flags, .. } = sizes;
                    said.parameters.push(format!(
                        "P_SIZES {d_size} {u_size} {c_size} {max_bio_size} {dds_flags} {limits}"
                    ));
                }
                Packet::Uuids(u) => {
                    let id = |x: u64| uuid(x & !1) | x & 1;
                    said.uuids.push(format!(
                        "{:x} {:x} {:x} {:x} flags {:x} dirty {}",
                        id(u.current),
                        id(u.bitmap),
                        id(u.history[0]),
                        id(u.history[1]),
                        u.flags,
                        u.dirty_bits
                    ));
                }
                Packet::State(word) => {
                    let s = StateWord::from_bits(*word).expect("state");
                    let text = format!("{}/{} {} {}/{}", s.role, s.peer, s.conn, s.disk, s.pdsk);
                    if said.states.last() != Some(&text) {
                        said.states.push(text);
                    }
                }
                Packet::SyncUuid(id) => said.sync_uuids.push(uuid(id & !1)),
                Packet::StateChangeRequest(r) | Packet::ConnectionStateChangeRequest(r) => {
                    said.changes.push(format!("{name} {:x} {:x}", r.mask, r.val));
                }
                Packet::StateChangeReply(code) | Packet::ConnectionStateChangeReply(code) => {
                    said.changes.push(format!("{name} {code}"));
                }
                Packet::Data(d) => {
                    said.writes.push(format!("{name} {sector} {size} flags {:x} sum {sum:x}", d.flags.0));
                }
                Packet::Trim(r) | Packet::Zeroes(r) | Packet::WriteSame(r) => {
                    said.writes.push(format!("{name} {sector} {size} flags {:x} sum {sum:x}", r.flags.0));
                }
                Packet::Barrier(_) => said.writes.push("P_BARRIER".to_owned()),
                Packet::OutOfSync(_) => said.out_of_sync.extend(blocks((sector, size))),
                Packet::RecvAck(a)
                | Packet::WriteAck(a)
                | Packet::Superseded(a)
                | Packet::RetryWrite(a)
                | Packet::NegAck(a) => {
                    said.acks.push(format!("{name} {sector} {size} id {:x}", a.block_id));
                }
                Packet::BarrierAck(a) => said.barrier_acks.push(format!("{:x} {}", a.number, a.set_size)),
                Packet::DataRequest(_) => said.reads.push(format!("{name} {sector} {size}")),
                Packet::DataReply(r) => {
                    said.reads.push(format!("{name} {sector} {size} {:x} {sum:x}", r.block_id))
                }
                Packet::NegDataReply(r) => {
                    said.reads.push(format!("{name} {sector} {size} {:x}", r.block_id))
                }
                Packet::RsDataRequest(_) | Packet::RsThinRequest(_) | Packet::CsumRsRequest(_) => {
                    said.wanted.extend(blocks((sector, size)));
                }
                Packet::RsWriteAck(_) => said.written.extend(blocks((sector, size))),
                Packet::RsDataReply(_)
                | Packet::RsDeallocated(_)
                | Packet::RsIsInSync(_)
                | Packet::RsCancel(_)
                | Packet::NegRsDataReply(_) => {
                    said.answers.push(format!("{name} {sector} {size} {sum:x}"));
                }
                Packet::OvRequest(_) => said.verify.push(format!("{name} {sector} {size}")),
                Packet::OvReply(r) => said.verify.push(format!("{name} {sector} {size} {:?}", r.digest)),
                Packet::OvResult(r) => said.verify.push(format!("{name} {sector} {size} {}", r.in_sync)),
                Packet::Bitmap | Packet::CompressedBitmap => {
                    let receiver = receiver.get_or_insert_with(|| Receiver::new(bits, version));
                    words.resize(bits.div_ceil(64) as usize, 0);
                    let progress = match packet {
                        Packet::Bitmap => receiver.receive_plain(payload, words.as_mut_slice()),
                        _ => receiver.receive_compressed(payload, words.as_mut_slice()),
                    };
                    if progress.expect("bitmap") == Progress::Complete {
                        *receiver = Receiver::new(bits, version);
                    }
                    said.bitmap =
                        (0..bits).filter(|bit| words[*bit as usize / 64] >> (bit % 64) & 1 == 1).collect();
                }
                Packet::PingAck => said.ping_acks += 1,
                _ => {}
            }
        }
        for list in [&mut said.acks, &mut said.answers, &mut said.verify] {
            list.sort();
        }
        said
    }
}

/// A replay under way.
struct Replay<'a> {
    name: &'a str,
    link: &'a Link,
    model: Side,
    node: Node,
    /// What the core has sent, and was taken out of the node.
    sent: Vec<Sent>,
    /// Recorded packets of the peer that the core has not got yet: data, meta.
    queues: [VecDeque<Event>; 2],
    /// The model's request that has a block id now.
    newest: HashMap<u64, usize>,
    /// The core's block ids of the model's requests.
    ids: HashMap<usize, u64>,
    /// Requests of the model that the core has not sent yet: number, sector, bytes.
    unsent: VecDeque<(usize, u64, u32)>,
    /// Requests of the model so far.
    requests: usize,
    /// Epoch of each request of the model; reads have none.
    epochs: Vec<Option<usize>>,
    /// Writes of the model that were not given to the core yet, by epoch.
    to_come: Vec<usize>,
    /// Barrier numbers of the model in the order of its barriers, and those of the core.
    barriers: [Vec<u32>; 2],
    /// Resync requests of the core that are not answered.
    requested: BTreeMap<u64, u32>,
    /// Answers of the peer to the model's resync requests that the core has not asked for yet.
    pool: Vec<Event>,
    /// Digests for a verify that the core has not asked for yet.
    digests: Vec<Event>,
    /// Blocks of the pool that the core has got.
    answered: BTreeSet<u64>,
    /// P_SYNC_UUID: of the model, of the core.
    sync_uuids: [usize; 2],
    /// Sectors of resync answers and verify requests or replies that the core has sent.
    replied: BTreeMap<u64, usize>,
    verifies: BTreeMap<u64, usize>,
    /// Change requests that the core waits for an answer to.
    changes: usize,
    /// Generations: the model's and the core's.
    uuids: HashMap<u64, u64>,
    said_uuids: [Vec<Vec<u64>>; 2],
    delivered: usize,
    last_state: Option<StateWord>,
    disconnecting: bool,
    problems: Vec<String>,
}

/// Why a packet of the peer must wait.
enum Wait {
    /// For the core's timers.
    Time,
    /// For something that the model does later.
    Model,
}

/// What a replay came to.
#[derive(Default)]
pub struct Outcome {
    pub packets: usize,
    pub problems: Vec<String>,
}

fn first<'a, T>(events: &'a [Event], from: Side, pick: impl Fn(&'a Packet) -> Option<T>) -> Option<T> {
    events.iter().filter(|event| event.from == from).find_map(|event| pick(&event.packet))
}

/// The disk of the model at the beginning of the link: what was known before, and what it sends in the link without
/// having been told.
fn content(events: &[Event], model: Side, image: &mut [u8]) {
    let mut fresh: BTreeSet<u64> = BTreeSet::new();
    for event in events {
        let Some((sector, size)) = range_of(&event.packet, event.payload.len()) else { continue };
        let (Packet::RsDataReply(_)
        | Packet::DataReply(_)
        | Packet::RsDeallocated(_)
        | Packet::Data(_)
        | Packet::Trim(_)
        | Packet::Zeroes(_)) = event.packet
        else {
            continue;
        };
        let speaks = event.from == model
            && matches!(
                event.packet,
                Packet::RsDataReply(_) | Packet::DataReply(_) | Packet::RsDeallocated(_)
            );
        for index in 0..u64::from(size) / 512 {
            if fresh.insert(sector + index) && speaks {
                let into = &mut image[(sector + index) as usize * 512..][..512];
                match event.payload.get(index as usize * 512..) {
                    Some(bytes) if !bytes.is_empty() => into.copy_from_slice(&bytes[..512]),
                    _ => into.fill(0),
                }
            }
        }
    }
}

/// What a link leaves on the disks.
fn after(events: &[Event], image: &mut [u8]) {
    for event in events {
        let Some((sector, size)) = range_of(&event.packet, event.payload.len()) else { continue };
        let at = sector as usize * 512;
        match event.packet {
            Packet::Data(_) | Packet::RsDataReply(_) => {
                image[at..at + event.payload.len()].copy_from_slice(&event.payload);
            }
            Packet::Trim(_) | Packet::Zeroes(_) | Packet::RsDeallocated(_) => {
                image[at..at + size as usize].fill(0);
            }
            _ => {}
        }
    }
}

/// The settings of a disk with the speeds that a P_SYNC_PARAM tells.
fn speeds(mut disk: DiskSettings, sync: &SyncParam) -> DiskSettings {
    disk.resync_rate = sync.rate;
    if let Some(controller) = sync.controller {
        disk.c_plan_ahead = controller.plan_ahead;
        disk.c_delay_target = controller.delay_target;
        disk.c_fill_target = controller.fill_target;
        disk.c_max_rate = controller.max_rate;
    }
    disk
}

fn policy(number: u32) -> AfterSplitBrain {
    AfterSplitBrain::from_number(number).expect("policy")
}

impl<'a> Replay<'a> {
    /// The core with all that the model had, before the link.
    fn new(name: &'a str, link: &'a Link, model: Side, events: &[Event], image: &[u8]) -> Option<Replay<'a>> {
        let protocol = first(events, model, |p| if let Packet::Protocol(p) = p { Some(p) } else { None })?;
        let sizes = first(events, model, |p| if let Packet::Sizes(p) = p { Some(p) } else { None })?;
        let sync = first(events, model, |p| if let Packet::SyncParam(p) = p { Some(p) } else { None })?;
        let state = first(events, model, |p| if let Packet::State(p) = p { Some(*p) } else { None })?;
        let state = StateWord::from_bits(state).expect("state");
        let mut disk = speeds(DiskSettings::defaults(Dialect::V84), sync);
        disk.size = sizes.u_size;
        if name.ends_with("io-error") {
            disk.on_io_error = OnIoError::Detach;
        }
        if name.ends_with("trim") {
            disk.rs_discard_granularity = 65536;
        }
        let mut node = Node::new(disk, image.len() as u64 / 512);
        node.now = events[0].time;
        node.data.copy_from_slice(image);
        let grown =
            events.iter().filter(|event| event.from == model).filter_map(|event| match &event.packet {
                Packet::Sizes(sizes) => Some(sizes.d_size),
                _ => None,
            });
        node.backing_bytes = Some(grown.max().unwrap_or(0) * 512);
        if state.disk > Disk::Diskless {
            node.attach(meta_of(link.version, events, model, state));
        }
        if state.role == Role::Primary {
            node.command(Command::Primary { volume: V, force: false });
        }
        let mut net = NetSettings::defaults(Dialect::V84);
        net.protocol = [Mode::A, Mode::B, Mode::C][protocol.protocol as usize - 1];
        net.allow_two_primaries = protocol.two_primaries != 0;
        net.after_sb_0pri = policy(protocol.after_sb_0p);
        net.after_sb_1pri = policy(protocol.after_sb_1p);
        net.after_sb_2pri = policy(protocol.after_sb_2p);
        net.discard_my_data = protocol.conn_flags & Protocol::DISCARD_MY_DATA != 0;
        net.data_integrity_alg = protocol.integrity_alg.clone();
        net.verify_alg = sync.verify_alg.clone();
        net.csums_alg = sync.csums_alg.clone();
        net.ko_count = 0;
        net.ping_int = 120;
        if name.ends_with("congestion") {
            net.on_congestion = OnCongestion::PullAhead;
            net.congestion_fill = 256;
        }
        node.connect(net);
        let mut replay = Replay {
            name,
            link,
            model,
            node,
            sent: Vec::new(),
            queues: [VecDeque::new(), VecDeque::new()],
            newest: HashMap::new(),
            ids: HashMap::new(),
            unsent: VecDeque::new(),
            requests: 0,
            epochs: Vec::new(),
            to_come: vec![0],
            barriers: [Vec::new(), Vec::new()],
            requested: BTreeMap::new(),
            pool: Vec::new(),
            digests: Vec::new(),
            answered: BTreeSet::new(),
            sync_uuids: [0; 2],
            replied: BTreeMap::new(),
            verifies: BTreeMap::new(),
            changes: 0,
            uuids: HashMap::new(),
            said_uuids: [Vec::new(), Vec::new()],
            delivered: 0,
            last_state: Some(state),
            disconnecting: false,
            problems: Vec::new(),
        };
        for event in events.iter().filter(|event| event.from == model) {
            match &event.packet {
                Packet::Data(_) | Packet::Trim(_) | Packet::Zeroes(_) => {
                    replay.epochs.push(Some(replay.to_come.len() - 1));
                    *replay.to_come.last_mut().expect("epoch") += 1;
                }
                Packet::DataRequest(_) => replay.epochs.push(None),
                Packet::Barrier(_) => replay.to_come.push(0),
                _ => {}
            }
        }
        let link =
            CoreLink { version: link.version, features: link.features, arbiter: link.arbiter == model };
        replay.node.link_up(link);
        replay.take_sent();
        Some(replay)
    }

    /// Learns from what the core has sent.
    fn take_sent(&mut self) {
        for sent in std::mem::take(&mut self.node.sent) {
            let range = range_of(&sent.packet, sent.payload.as_ref().map_or(0, |p| p.len()));
            match &sent.packet {
                Packet::Ping => self.node.deliver(Socket::Meta, 0, Packet::PingAck, None),
                Packet::Data(Data { block_id, .. })
                | Packet::Trim(RangeWrite { block_id, .. })
                | Packet::Zeroes(RangeWrite { block_id, .. })
                | Packet::DataRequest(BlockRequest { block_id, .. }) => {
                    let (sector, bytes) = range.expect("range");
                    let mine = self.unsent.iter().position(|u| (u.1, u.2) == (sector, bytes));
                    if let Some((id, ..)) = mine.and_then(|at| self.unsent.remove(at)) {
                        self.ids.insert(id, *block_id);
                    }
                }
                Packet::Barrier(barrier) => self.barriers[1].push(barrier.number),
                Packet::RsDataRequest(_) | Packet::RsThinRequest(_) | Packet::CsumRsRequest(_) => {
                    let (sector, bytes) = range.expect("range");
                    self.requested.insert(sector, bytes);
                }
                Packet::RsDataReply(_) | Packet::RsDeallocated(_) => {
                    *self.replied.entry(range.expect("range").0).or_default() += 1;
                }
                Packet::OvRequest(_) | Packet::OvReply(_) => {
                    *self.verifies.entry(range.expect("range").0).or_default() += 1;
                }
                Packet::StateChangeRequest(_) | Packet::ConnectionStateChangeRequest(_) => self.changes += 1,
                Packet::Uuids(u) => {
                    self.learn_uuids(1, vec![u.current, u.bitmap, u.history[0], u.history[1]])
                }
                Packet::SyncUuid(u) => {
                    self.sync_uuids[1] += 1;
                    self.answered.clear();
                    self.learn_uuids(1, vec![*u]);
                }
                _ => {}
            }
            self.sent.push(sent);
        }
        if !self.node.sent.is_empty() {
            self.take_sent();
        }
    }

    /// The n-th P_UUIDS (or P_SYNC_UUID) of the model and that of the core say the same.
    fn learn_uuids(&mut self, whose: usize, uuids: Vec<u64>) {
        self.said_uuids[whose].push(uuids);
        let index = self.said_uuids[whose].len() - 1;
        let Some(others) = self.said_uuids[1 - whose].get(index) else { return };
        let mine = &self.said_uuids[whose][index];
        if mine.len() == others.len() {
            for (a, b) in mine.iter().zip(others) {
                let (model, core) = if whose == 0 { (a, b) } else { (b, a) };
                if *model & !1 != 0 && *core & !1 != 0 {
                    self.uuids.entry(*model & !1).or_insert(*core & !1);
                }
            }
        }
    }

    fn core_uuid(&self, uuid: u64) -> u64 {
        self.uuids.get(&(uuid & !1)).copied().unwrap_or(uuid & !1) | uuid & 1
    }

    /// Whether the core can have this packet of the peer now, with the model's numbers made the core's.
    fn ready(&self, event: &Event) -> Result<Packet, Wait> {
        let mut packet = event.packet.clone();
        match &mut packet {
            Packet::WriteAck(a)
            | Packet::RecvAck(a)
            | Packet::NegAck(a)
            | Packet::Superseded(a)
            | Packet::RetryWrite(a)
            | Packet::NegDataReply(a) => {
                // The epoch ends when one of its writes is complete: not before the model's has.
                let open = event.answers.and_then(|r| self.epochs[r]).is_some_and(|e| self.to_come[e] > 0);
                match event.answers.and_then(|request| self.ids.get(&request)) {
                    Some(id) if !open => a.block_id = *id,
                    _ => return Err(Wait::Model),
                }
            }
            Packet::DataReply(r) => {
                let id = event.answers.and_then(|request| self.ids.get(&request));
                r.block_id = *id.ok_or(Wait::Model)?;
            }
            Packet::BarrierAck(a) => {
                let at = self.barriers[0].iter().position(|number| *number == a.number).ok_or(Wait::Model)?;
                a.number = *self.barriers[1].get(at).ok_or(Wait::Time)?;
            }
            Packet::RsWriteAck(a) if !self.replied.contains_key(&a.sector) => return Err(Wait::Time),
            Packet::OvReply(r) if !self.verifies.contains_key(&r.sector) => return Err(Wait::Time),
            Packet::OvResult(r) if !self.verifies.contains_key(&r.sector) => return Err(Wait::Time),
            Packet::StateChangeReply(_) | Packet::ConnectionStateChangeReply(_) if self.changes == 0 => {
                return Err(Wait::Time);
            }
            // The model was the source of a resync when these came.
            Packet::RsDataRequest(_) | Packet::CsumRsRequest(_) | Packet::RsThinRequest(_)
                if self.sync_uuids[1] < self.sync_uuids[0] =>
            {
                return Err(Wait::Time);
            }
            Packet::Uuids(u) => {
                u.current = self.core_uuid(u.current);
                u.bitmap = self.core_uuid(u.bitmap);
                u.history = u.history.map(|uuid| self.core_uuid(uuid));
            }
            Packet::SyncUuid(u) => *u = self.core_uuid(*u),
            _ => {}
        }
        if event.socket == Socket::Data && !self.node.core.receiver_ready() {
            // With two Primaries it may wait for acknowledgements that passed the bridge later.
            return Err(if self.name.ends_with("dual-primary") { Wait::Model } else { Wait::Time });
        }
        Ok(packet)
    }

    /// Gives the core what it can have; time goes on for it where that is needed.
    /// `answers`: the answers to resync requests too, which may have to wait for the core to ask.
    fn drain(&mut self, answers: bool) {
        let mut patience = 400;
        while self.node.is_up() {
            let mut progress = self.answer() | self.answer_verify();
            let mut time = false;
            // The epoch that the model still fills holds its acknowledgements back, and all that needs them.
            let mut model = false;
            for queue in [1, 0] {
                let Some(event) = self.queues[queue].front() else { continue };
                let is_answer = matches!(
                    event.packet,
                    Packet::RsDataReply(_)
                        | Packet::RsDeallocated(_)
                        | Packet::RsIsInSync(_)
                        | Packet::RsCancel(_)
                );
                if matches!(&event.packet, Packet::OvReply(r) if !self.verifies.contains_key(&r.sector)) {
                    // The model had asked for more at a time.
                    self.digests.extend(self.queues[queue].pop_front());
                    progress = true;
                    continue;
                }
                if is_answer {
                    self.pool.extend(self.queues[queue].pop_front());
                    self.delivered += 1;
                    progress = true;
                    continue;
                }
                let aside = !self.pool.is_empty() || !self.digests.is_empty();
                if aside && queue == 0 && !matches!(event.packet, Packet::OvReply(_)) {
                    time = true;
                    continue;
                }
                match self.ready(event) {
                    Ok(packet) => {
                        let event = self.queues[queue].pop_front().expect("event");
                        self.give(event, packet);
                        progress = true;
                    }
                    Err(Wait::Time) => time = true,
                    Err(Wait::Model) => model = true,
                }
            }
            if progress {
                patience = 400;
                continue;
            }
            time |= answers && !(self.pool.is_empty() && self.digests.is_empty());
            if !time || model || patience == 0 {
                return;
            }
            patience -= 1;
            self.pass_time();
        }
    }

    /// The next timer fires, or a little time goes by.
    fn pass_time(&mut self) {
        let next = self.node.core.next_timeout().unwrap_or(u64::MAX).min(self.node.now + 50);
        self.node.advance_to(next.max(self.node.now + 1));
        self.take_sent();
    }

    fn give(&mut self, event: Event, packet: Packet) {
        self.delivered += 1;
        match &packet {
            // Pings of the core are answered at once.
            Packet::PingAck => return,
            Packet::StateChangeReply(_) | Packet::ConnectionStateChangeReply(_) => self.changes -= 1,
            _ => {}
        }
        self.node.deliver(event.socket, event.volume, packet, payload_of(&event.payload));
        self.take_sent();
    }

    /// Gives the core a digest that it has asked for by now. True: there was one.
    fn answer_verify(&mut self) -> bool {
        let asked = |event: &Event| matches!(&event.packet, Packet::OvReply(r) if self.verifies.contains_key(&r.sector));
        let Some(at) = self.digests.iter().position(asked) else { return false };
        let event = self.digests.remove(at);
        let packet = event.packet.clone();
        self.give(event, packet);
        true
    }

    /// Answers a resync request of the core from what the peer has answered the model. Sizes of the requests may
    /// differ, which the speed controller decides; the content of every block is what the peer sent. True: it had one.
    fn answer(&mut self) -> bool {
        let parts = |event: &Event| blocks(range_of(&event.packet, event.payload.len()).expect("range"));
        let found = self.requested.iter().map(|(sector, bytes)| (*sector, *bytes)).find(|range| {
            blocks(*range).all(|block| self.pool.iter().any(|event| parts(event).contains(&block)))
        });
        let Some((sector, bytes)) = found else { return false };
        self.requested.remove(&sector);
        let wanted = blocks((sector, bytes));
        let used: Vec<&Event> =
            self.pool.iter().filter(|e| parts(e).start < wanted.end && parts(e).end > wanted.start).collect();
        let all = |is: fn(&Packet) -> bool| used.iter().all(|event| is(&event.packet));
        let (socket, volume) = (used[0].socket, used[0].volume);
        let block_id = ID_SYNCER;
        let (socket, packet, payload) = if all(|p| matches!(p, Packet::RsIsInSync(_))) {
            (socket, Packet::RsIsInSync(BlockAck { sector, block_id, size: bytes, seq: 0 }), None)
        } else if all(|p| matches!(p, Packet::RsDeallocated(_))) {
            (socket, Packet::RsDeallocated(BlockDescription { sector, size: bytes }), None)
        } else {
            let start = sector as usize * 512;
            let mut content = self.node.data[start..start + bytes as usize].to_vec();
            for event in &used {
                let (at, size) = range_of(&event.packet, event.payload.len()).expect("range");
                for offset in (0..size as usize).step_by(512) {
                    let to = (at as usize * 512 + offset).wrapping_sub(start);
                    let Some(into) = content.get_mut(to..to.wrapping_add(512)) else { continue };
                    match event.packet {
                        Packet::RsDataReply(_) => into.copy_from_slice(&event.payload[offset..offset + 512]),
                        Packet::RsDeallocated(_) => into.fill(0),
                        _ => {}
                    }
                }
            }
            (Socket::Data, Packet::RsDataReply(Reply { sector, block_id }), payload_of(&content))
        };
        // Answers whose blocks are all used up go.
        let still: Vec<(u64, u32)> = self.requested.iter().map(|(s, b)| (*s, *b)).collect();
        let bitmap: Vec<bool> = self
            .pool
            .iter()
            .map(|event| {
                let range = parts(event);
                let done = self.answered.range(range.clone()).count() as u64
                    + range.clone().filter(|b| wanted.contains(b) && !self.answered.contains(b)).count()
                        as u64;
                done < range.end - range.start || still.iter().any(|r| blocks(*r).any(|b| range.contains(&b)))
            })
            .collect();
        self.answered.extend(wanted);
        let mut keep = bitmap.into_iter();
        self.pool.retain(|_| keep.next().unwrap_or(true));
        self.node.deliver(socket, volume, packet, payload);
        self.take_sent();
        true
    }

    /// The model did something of its own accord.
    fn act(&mut self, events: &[Event], index: usize) {
        let event = &events[index];
        let now = self.node.now;
        match &event.packet {
            Packet::Data(d) => {
                let request = self.request(d.block_id);
                // The model's disk failed with this write, if the next that it says of itself is that.
                let next = first(&events[index..], self.model, |p| match p {
                    Packet::State(word) => Some(StateWord::from_bits(*word).expect("state").disk),
                    Packet::Data(other) if other.block_id != d.block_id => Some(Disk::UpToDate),
                    _ => None,
                });
                if next == Some(Disk::Failed) && self.name.ends_with("io-error") {
                    self.node.fails_at = Some(d.sector);
                }
                let token = self.node.token();
                match payload_of(&event.payload) {
                    Some(payload) => {
                        self.unsent.push_back((request, d.sector, payload.len() as u32));
                        let fua = d.flags.contains(DataFlags::FUA);
                        self.node.core.write(now, V, token, d.sector, payload, fua);
                    }
                    None => self.node.core.flush(now, V, token),
                }
                self.end_of_write();
            }
            Packet::Trim(r) | Packet::Zeroes(r) => {
                let request = self.request(r.block_id);
                let token = self.node.token();
                self.unsent.push_back((request, r.sector, r.size));
                let zeroes = matches!(event.packet, Packet::Zeroes(_));
                self.node.core.discard(now, V, token, r.sector, r.size, zeroes);
                self.end_of_write();
            }
            Packet::OutOfSync(r) => {
                let token = self.node.token();
                let bytes = &self.node.data[r.sector as usize * 512..][..r.size as usize];
                let payload = payload_of(bytes).expect("payload");
                self.node.core.write(now, V, token, r.sector, payload, false);
            }
            Packet::DataRequest(r) => {
                let request = self.request(r.block_id);
                let token = self.node.token();
                self.unsent.push_back((request, r.sector, r.size));
                self.node.core.read(now, V, token, r.sector, r.size);
            }
            Packet::Barrier(barrier) => {
                self.barriers[0].push(barrier.number);
                if self.barriers[1].len() < self.barriers[0].len() {
                    // A flush may have ended the epoch, which is not seen on the wire.
                    let token = self.node.token();
                    self.node.core.flush(now, V, token);
                }
            }
            Packet::Uuids(u) => {
                if u.flags & 8 != 0 {
                    self.node.command(Command::NewCurrentUuid { volume: V, clear_bitmap: true });
                    self.take_sent();
                }
                self.learn_uuids(0, vec![u.current, u.bitmap, u.history[0], u.history[1]]);
            }
            Packet::SyncUuid(u) => {
                self.sync_uuids[0] += 1;
                self.learn_uuids(0, vec![*u]);
                for _ in 0..100 {
                    if self.sync_uuids[1] < self.sync_uuids[0] {
                        self.pass_time();
                    }
                }
            }
            Packet::StateChangeRequest(r) | Packet::ConnectionStateChangeRequest(r) => {
                let change = Change::from_wire(r.mask, r.val).expect("change");
                self.administrator(change);
            }
            Packet::SyncParam(parameters) => self.parameters(events, index, parameters),
            Packet::Sizes(sizes) => self.sizes(events, index, sizes),
            Packet::State(word) => self.state(StateWord::from_bits(*word).expect("state")),
            _ => {}
        }
        self.node.settle();
        self.take_sent();
    }

    /// The model's next request, a write or a read. While its epoch is not full, no write of it may complete.
    fn request(&mut self, id: u64) -> usize {
        let request = self.requests;
        self.requests += 1;
        self.newest.insert(id, request);
        if let Some(epoch) = self.epochs[request] {
            self.to_come[epoch] -= 1;
            self.node.holds_writes = self.to_come[epoch] > 0;
        }
        request
    }

    fn end_of_write(&mut self) {
        self.node.settle();
        self.take_sent();
        if !self.node.holds_writes {
            self.node.release_writes();
        }
    }

    fn administrator(&mut self, change: Change) {
        let volume = V;
        let command = if change.role == Some(Role::Primary) {
            Command::Primary { volume, force: change.disk == Some(Disk::UpToDate) }
        } else if change.conn == Some(Conn::Disconnecting) {
            self.disconnecting = true;
            Command::Disconnect { force: false }
        } else if change.conn == Some(Conn::VerifyS) {
            Command::Verify { volume, start: None, stop: None }
        } else if change.conn == Some(Conn::StartingSyncS) {
            Command::InvalidateRemote { volume }
        } else if change.conn == Some(Conn::StartingSyncT) {
            Command::Invalidate { volume }
        } else if change.disk == Some(Disk::Outdated) {
            Command::Outdate { volume }
        } else if change.role == Some(Role::Secondary) {
            Command::Secondary { volume, open: false }
        } else if change.disk == Some(Disk::Diskless) || change.disk == Some(Disk::Failed) {
            Command::Detach { volume, force: false }
        } else {
            self.problems.push(format!("what did the administrator want? {change:?}"));
            return;
        };
        self.node.command(command);
        self.take_sent();
    }

    /// The model says its state: what changed without a packet that says why, somebody there wanted.
    fn state(&mut self, word: StateWord) {
        let Some(last) = self.last_state.replace(word) else { return };
        let volume = V;
        let own = self.node.core.volume(V).state();
        if last.role == Role::Primary && word.role == Role::Secondary && own.role == Role::Primary {
            self.node.command(Command::Secondary { volume, open: false });
        }
        if word.user_isp != last.user_isp && own.user_isp != word.user_isp {
            self.node.command(match word.user_isp {
                true => Command::PauseSync { volume },
                false => Command::ResumeSync { volume },
            });
        }
        if word.disk < last.disk && word.disk <= Disk::Failed && own.disk > Disk::Failed {
            self.node.command(Command::Detach { volume, force: true });
        }
        if word.disk == Disk::Outdated && own.disk == Disk::UpToDate {
            self.node.command(Command::Outdate { volume });
        }
        if word.conn == Conn::StartingSyncT && own.conn == Conn::Connected {
            self.node.command(Command::Invalidate { volume });
        }
        if word.conn == Conn::StartingSyncS && own.conn == Conn::Connected {
            self.node.command(Command::InvalidateRemote { volume });
        }
        if word.role == Role::Primary && own.role == Role::Secondary {
            self.node.command(Command::Primary { volume, force: true });
        }
    }

    /// The peer has no disk, and is about to attach one: what the Primary wrote meanwhile did not pass the wire, but
    /// is in its bitmap.
    fn hidden_writes(&mut self, later: &[Event]) {
        let own = self.node.core.volume(V).state();
        if own.role != Role::Primary || own.pdsk != Disk::Diskless {
            return;
        }
        let model = || later.iter().filter(|e| e.from == self.model);
        let spoken = model().map(|e| (&e.packet, e.payload.as_slice()));
        let said = Said::new(spoken, self.link.version, bits_of(later), |uuid| uuid);
        let mut writes = Vec::new();
        for block in said.bitmap {
            let content = model().find_map(|e| match e.packet {
                Packet::RsDataReply(r) if blocks((r.sector, e.payload.len() as u32)).contains(&block) => {
                    e.payload.get((block * 8 - r.sector) as usize * 512..)?.get(..4096)
                }
                _ => None,
            });
            writes.extend(content.and_then(payload_of).map(|content| (block * 8, content)));
        }
        for (sector, content) in writes {
            let token = self.node.token();
            self.node.holds_writes = false;
            self.node.core.write(self.node.now, V, token, sector, content, false);
            self.node.settle();
            self.take_sent();
        }
    }

    /// The administrator of the model changed the speed of resyncs.
    fn parameters(&mut self, events: &[Event], index: usize, sync: &SyncParam) {
        if first(&events[..index], self.model, |p| matches!(p, Packet::SyncParam(_)).then_some(())).is_some()
        {
            let settings = speeds(self.node.core.volume(V).settings().clone(), sync);
            self.node.command(Command::DiskSettings { volume: V, settings: Box::new(settings) });
        }
    }

    /// The model says sizes in the middle of a link: a disk is attached, or its device has grown.
    fn sizes(&mut self, events: &[Event], index: usize, sizes: &Sizes) {
        let model = self.model;
        let earlier = first(&events[..index], model, |p| matches!(p, Packet::Sizes(_)).then_some(()));
        if earlier.is_none() {
            return;
        }
        let state = first(&events[index..], model, |p| match p {
            Packet::State(word) => Some(StateWord::from_bits(*word).expect("state")),
            _ => None,
        });
        let own = self.node.core.volume(V).state();
        match state {
            Some(state) if state.disk == Disk::Negotiating && own.disk == Disk::Diskless => {
                self.last_state = None;
                let mut meta = meta_of(self.link.version, &events[index..], model, state);
                meta.super_block.uuids = meta.super_block.uuids.map(|uuid| self.core_uuid(uuid));
                self.node.attach(meta);
            }
            _ if own.disk > Disk::Failed && sizes.d_size > self.node.core.volume(V).size_sectors() => {
                let command = Command::Resize {
                    volume: V,
                    size: sizes.u_size,
                    assume_peer_has_space: false,
                    assume_clean: false,
                };
                self.node.command(command);
            }
            _ => {}
        }
    }

    fn run(&mut self, events: &[Event]) {
        for (index, event) in events.iter().enumerate() {
            let of_resync = matches!(
                event.packet,
                Packet::RsDataRequest(_)
                    | Packet::CsumRsRequest(_)
                    | Packet::RsThinRequest(_)
                    | Packet::RsWriteAck(_)
            );
            self.drain(event.from == self.model && !of_resync);
            self.node.advance_to(event.time);
            self.take_sent();
            if !self.node.is_up() {
                let rest = events[index..].iter().filter(|event| event.from != self.model);
                self.queues[0].extend(rest.cloned());
                break;
            }
            if event.from == self.model {
                self.act(events, index);
            } else {
                if matches!(event.packet, Packet::Sizes(_)) {
                    self.drain(true);
                    self.hidden_writes(&events[index..]);
                }
                if let Packet::Data(d) = &event.packet {
                    let refused = first(&events[index..], self.model, |p| match p {
                        Packet::NegAck(ack) | Packet::WriteAck(ack) if ack.block_id == d.block_id => {
                            Some(matches!(p, Packet::NegAck(_)))
                        }
                        _ => None,
                    });
                    if refused == Some(true) {
                        self.node.fails_at = Some(d.sector);
                    }
                }
                let mut event = event.clone();
                event.answers = match &event.packet {
                    Packet::WriteAck(BlockAck { block_id, .. })
                    | Packet::RecvAck(BlockAck { block_id, .. })
                    | Packet::NegAck(BlockAck { block_id, .. })
                    | Packet::Superseded(BlockAck { block_id, .. })
                    | Packet::RetryWrite(BlockAck { block_id, .. })
                    | Packet::NegDataReply(BlockAck { block_id, .. })
                    | Packet::DataReply(Reply { block_id, .. }) => self.newest.get(block_id).copied(),
                    _ => None,
                };
                self.queues[event.socket as usize].push_back(event);
            }
        }
        self.drain(true);
        // What timers still want to do.
        for _ in 0..40 {
            let now = self.node.now + 50;
            self.node.advance_to(now);
            self.take_sent();
            self.drain(true);
        }
    }
}

/// Bits of the bitmap: the device is as large as anybody says.
fn bits_of(events: &[Event]) -> u64 {
    let sizes = events.iter().filter_map(|event| match &event.packet {
        Packet::Sizes(sizes) => Some(sizes.c_size.max(sizes.d_size)),
        _ => None,
    });
    sizes.max().unwrap_or(0).div_ceil(8)
}

/// The meta data that the model spoke of.
fn meta_of(version: ProtocolVersion, events: &[Event], model: Side, state: StateWord) -> Meta {
    let sizes =
        first(events, model, |p| if let Packet::Sizes(p) = p { Some(p) } else { None }).expect("P_SIZES");
    let uuids =
        first(events, model, |p| if let Packet::Uuids(p) = p { Some(p) } else { None }).expect("P_UUIDS");
    let mut block = SuperBlock::just_created(&layout());
    block.uuids = [uuids.current & !1, uuids.bitmap, uuids.history[0], uuids.history[1]];
    let size = if sizes.c_size == 0 { sizes.d_size } else { sizes.c_size };
    block.effective_size_sectors = if uuids.current & !1 == 4 && uuids.dirty_bits == 0 { 0 } else { size };
    let crashed = uuids.flags & 2 != 0;
    let consistent = uuids.flags & 4 == 0 && state.disk != Disk::Inconsistent;
    block.flags.set(MetaFlags::CONSISTENT, consistent);
    block.flags.set(MetaFlags::WAS_UP_TO_DATE, consistent && state.disk != Disk::Outdated);
    block.flags.set(MetaFlags::CRASHED_PRIMARY, crashed);
    block.flags.set(MetaFlags::AL_CLEAN, true);
    let bits = size.div_ceil(8);
    let mut bitmap = vec![0_u64; bits.div_ceil(64) as usize];
    let spoken = Said::new(
        events.iter().filter(|e| e.from == model).map(|e| (&e.packet, e.payload.as_slice())),
        version,
        bits,
        |uuid| uuid,
    );
    let other = Said::new(
        events.iter().filter(|e| e.from != model).map(|e| (&e.packet, e.payload.as_slice())),
        version,
        bits,
        |uuid| uuid,
    );
    if uuids.dirty_bits >= bits {
        (0..bits).for_each(|bit| bitmap[bit as usize / 64] |= 1 << (bit % 64));
    } else if uuids.dirty_bits > 0 {
        let set: Vec<u64> = match spoken.bitmap.is_empty() {
            true => (0..uuids.dirty_bits).collect(),
            // A target answers with its own bits and the source's: those that the source does not have are its own.
            false => {
                let (theirs, own): (Vec<u64>, Vec<u64>) =
                    spoken.bitmap.iter().partition(|bit| other.bitmap.contains(bit));
                own.into_iter().chain(theirs).take(uuids.dirty_bits as usize).collect()
            }
        };
        set.into_iter().for_each(|bit| bitmap[bit as usize / 64] |= 1 << (bit % 64));
    }
    Meta { super_block: block, bitmap, maximum: sizes.d_size }
}

fn differ<T: std::fmt::Debug + PartialEq>(what: &str, model: &[T], core: &[T], problems: &mut Vec<String>) {
    if model == core {
        return;
    }
    let at = model.iter().zip(core).position(|(a, b)| a != b).unwrap_or(model.len().min(core.len()));
    let show = |list: &[T]| format!("{:?}", &list[at..(at + 4).min(list.len())]);
    problems.push(format!(
        "{what}: model {} core {}, from {at} on: model {} core {}",
        model.len(),
        core.len(),
        show(model),
        show(core)
    ));
}

fn differ_sets(what: &str, model: &BTreeSet<u64>, core: &BTreeSet<u64>, problems: &mut Vec<String>) {
    if model != core {
        let missing: Vec<_> = model.difference(core).take(8).collect();
        let extra: Vec<_> = core.difference(model).take(8).collect();
        problems.push(format!("{what}: {} {} missing {missing:?} extra {extra:?}", model.len(), core.len()));
    }
}

/// The core ends as the recording implies.
fn check_end(replay: &Replay, events: &[Event], problems: &mut Vec<String>) {
    let state = replay.node.core.volume(V).state();
    let mut expected: [Option<StateWord>; 2] = [None, None];
    let mut ended_by: Option<Side> = None;
    for event in events {
        match &event.packet {
            Packet::State(word) => {
                expected[usize::from(event.from != replay.model)] = StateWord::from_bits(*word).ok();
            }
            // No initial sync: both disks are good then, and 8.4 sends no P_STATE for that.
            Packet::Uuids(uuids) if uuids.flags & 8 != 0 => {
                expected.iter_mut().flatten().for_each(|word| word.disk = Disk::UpToDate);
            }
            Packet::StateChangeRequest(r) | Packet::ConnectionStateChangeRequest(r) => {
                let change = Change::from_wire(r.mask, r.val).expect("change");
                if change.conn == Some(Conn::Disconnecting) {
                    ended_by = Some(event.from);
                }
            }
            _ => {}
        }
    }
    let mut say = |what: &str, right: bool| {
        if !right {
            problems.push(format!("end: {what}: {state:?}, expected {expected:?}"));
        }
    };
    let [Some(own), Some(peer)] = expected else { return say("no P_STATE", false) };
    say("role", state.role == own.role);
    say("disk", state.disk == own.disk);
    match ended_by {
        Some(side) if side == replay.model => say("StandAlone", state.conn == Conn::StandAlone),
        Some(_) => say("waits", matches!(state.conn, Conn::Unconnected | Conn::WFConnection)),
        None if state.conn >= Conn::Connected => {
            say("peer", (state.peer, state.pdsk) == (peer.role, peer.disk));
            say("connection", state.conn == own.conn || own.conn <= Conn::WFReportParams);
        }
        // A link that broke, or a split brain.
        None => say("the link ended", replay.link.closed.is_some()),
    }
}

/// Plays the peer's side of a link. `None`: the link came to nothing.
pub fn replay(name: &str, link: &Link, model: Side, image: &[u8]) -> Option<Outcome> {
    let events = events(name, link, model);
    let mut disk = image.to_vec();
    content(&events, model, &mut disk);
    let mut replay = Replay::new(name, link, model, &events, &disk)?;
    replay.run(&events);
    let mut problems = std::mem::take(&mut replay.problems);
    let uuids = replay.uuids.clone();
    let bits = bits_of(&events);
    let mine = |uuid: u64| uuids.get(&uuid).copied().unwrap_or(uuid);
    // A Primary that agreed to a disconnect begins a new generation; whether P_UUIDS of it still gets out is chance.
    let disconnected = events.iter().position(|e| {
        e.from != model
            && matches!(&e.packet, Packet::ConnectionStateChangeRequest(r) | Packet::StateChangeRequest(r)
                if Change::from_wire(r.mask, r.val).is_ok_and(|c| c.conn == Some(Conn::Disconnecting)))
    });
    let recorded = Said::new(
        events
            .iter()
            .enumerate()
            .filter(|(i, e)| {
                !(disconnected.is_some_and(|at| *i > at) && matches!(e.packet, Packet::Uuids(_)))
            })
            .map(|(_, e)| e)
            .filter(|e| e.from == model)
            .map(|e| (&e.packet, e.payload.as_slice())),
        link.version,
        bits,
        mine,
    );
    let said = Said::new(
        replay.sent.iter().map(|s| (&s.packet, s.payload.as_deref().unwrap_or(&[]))),
        link.version,
        bits,
        |uuid| uuid,
    );
    let (mut recorded, mut said) = (recorded, said);
    // DRBD 9 speaks of itself in its own way: more often, with other flags.
    let strict = !(name.starts_with("drbd9") && model == Side::B);
    if name.ends_with("dual-primary") {
        // Who wrote first where both write is decided by who hears first of the other: the core acknowledges what
        // the model did, but may find other conflicts.
        let written = |acks: &[String]| -> BTreeSet<String> {
            acks.iter().filter_map(|ack| ack.split_once(' ').map(|(_, what)| what.to_owned())).collect()
        };
        let missing: Vec<_> = written(&recorded.acks).difference(&written(&said.acks)).cloned().collect();
        differ("acks", &missing, &[], &mut problems);
        // 8.4 never acknowledges an epoch with a superseded write (spec/wire.md 7.8).
        let known: BTreeSet<&String> = said.barrier_acks.iter().collect();
        let missing: Vec<_> = recorded.barrier_acks.iter().filter(|ack| !known.contains(ack)).collect();
        differ("barrier acks", &missing, &[], &mut problems);
        // The link ended in the middle of it, and the model's P_UUIDS of what follows just got out.
        recorded.uuids.truncate(said.uuids.len());
    } else {
        differ("acks", &recorded.acks, &said.acks, &mut problems);
        differ("barrier acks", &recorded.barrier_acks, &said.barrier_acks, &mut problems);
    }
    if strict {
        differ("parameters", &recorded.parameters, &said.parameters, &mut problems);
        if name.ends_with("io-error") {
            // Whether the first write after the loss of a disk comes before or behind this is chance.
            for uuids in recorded.uuids.iter_mut().chain(&mut said.uuids) {
                uuids.truncate(uuids.find(" dirty").unwrap_or(uuids.len()));
            }
        }
        differ("uuids", &recorded.uuids, &said.uuids, &mut problems);
        differ("states", &recorded.states, &said.states, &mut problems);
        differ("sync uuids", &recorded.sync_uuids, &said.sync_uuids, &mut problems);
        differ("changes", &recorded.changes, &said.changes, &mut problems);
    }
    differ("writes", &recorded.writes, &said.writes, &mut problems);
    differ("reads", &recorded.reads, &said.reads, &mut problems);
    differ("answers", &recorded.answers, &said.answers, &mut problems);
    // What is on the model's disk where somebody wrote behind DRBD's back never passed the wire.
    let strange: BTreeSet<String> = events
        .iter()
        .filter_map(|event| match &event.packet {
            Packet::OvResult(r) if event.from != model && !r.in_sync => {
                Some(format!("P_OV_REPLY {} ", r.sector))
            }
            _ => None,
        })
        .collect();
    for list in [&mut recorded.verify, &mut said.verify] {
        list.retain(|line| !strange.iter().any(|start| line.starts_with(start.as_str())));
    }
    differ("verify", &recorded.verify, &said.verify, &mut problems);
    differ_sets("wanted", &recorded.wanted, &said.wanted, &mut problems);
    differ_sets("written", &recorded.written, &said.written, &mut problems);
    differ_sets("out of sync", &recorded.out_of_sync, &said.out_of_sync, &mut problems);
    differ_sets("bitmap", &recorded.bitmap, &said.bitmap, &mut problems);
    // DRBD 9 asks for some changes in another way; answers to that are for nobody. And when the link has ended by
    // agreement, pings and a Primary's P_UUIDS of its new generation may come behind the agreement.
    let up = replay.node.is_up();
    let needed = |event: &&Event| match event.packet {
        Packet::StateChangeReply(_) | Packet::ConnectionStateChangeReply(_) => strict,
        Packet::Ping | Packet::PingAck => strict && up,
        Packet::Uuids(_) => up,
        _ => true,
    };
    let left: Vec<_> = replay
        .queues
        .iter()
        .flatten()
        .chain(&replay.digests)
        .chain(&replay.pool)
        .filter(needed)
        .map(|e| format!("{:?}", e.packet))
        .collect();
    if !left.is_empty() {
        let count = left.len();
        let left = &left[..count.min(3)];
        problems.push(format!("{count} packets not delivered, up {}: {left:?}", replay.node.is_up()));
    }
    for (level, text) in &replay.node.log {
        let expected = text.starts_with("Out of sync: start=") && !recorded.verify.is_empty()
            || text.starts_with("Local IO failed in ") && name.ends_with("io-error");
        if (*level == Level::Error || text.contains("ASSERT")) && !expected {
            problems.push(format!("log: {text}"));
        }
    }
    let state = replay.node.core.volume(V).state();
    check_end(&replay, &events, &mut problems);
    problems.iter_mut().for_each(|p| p.truncate(600));
    if std::env::var_os("REPLAY_LOG").is_some() {
        for (_, text) in &replay.node.log {
            println!("      {text}");
        }
    }
    println!(
        "{name} {model:?} link: {} delivered, {} sent, end {} {}/{} {}/{}",
        replay.delivered,
        replay.sent.len(),
        state.conn,
        state.role,
        state.peer,
        state.disk,
        state.pdsk
    );
    Some(Outcome { packets: replay.delivered, problems })
}

#[test]
fn the_other_side_of_each_recording_is_a_core() {
    let only = std::env::var("REPLAY").ok();
    let mut failed = Vec::new();
    let (mut replays, mut packets) = (0, 0);
    for path in files() {
        let name = crate::captures::name_of(&path);
        if only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        let capture = Capture::read(&path);
        let mut image = vec![0; 17 << 20];
        for (index, link) in capture.links.iter().enumerate() {
            for model in [Side::A, Side::B] {
                let Some(outcome) = replay(&name, link, model, &image) else { continue };
                replays += 1;
                packets += outcome.packets;
                for problem in outcome.problems {
                    failed.push(format!("{name} link {index} core for {model:?}: {problem}"));
                }
            }
            after(&events(&name, link, Side::B), &mut image);
        }
    }
    println!("{replays} replays, {packets} packets");
    for line in &failed {
        println!("PROBLEM {line}");
    }
    assert!(failed.is_empty(), "{} differences", failed.len());
    assert!(only.is_some() || replays == 210, "{replays} replays");
}
