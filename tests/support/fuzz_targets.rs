//! What the fuzzer calls, one function a target. `tests/corpus.rs` calls the same functions with every file of
//! `tests/vectors/corpus`. A function returns, or panics: then something is wrong.

#[path = "conf_use.rs"]
mod conf_use;

use crate::core_node::{Meta, Node, Sent, V};
use drbdbox::conf::settings::{DiskSettings, NetSettings};
use drbdbox::conf::Dialect;
use drbdbox::control::frame;
use drbdbox::control::message::{Call, Reply as ControlReply};
use drbdbox::core::state::{Conn, Role};
use drbdbox::core::types::{Command as Admin, Link, Payload};
use drbdbox::meta::activity_log::{replay, LogFormat};
use drbdbox::meta::counters::{layout_v07, BlockV07, Counters};
use drbdbox::meta::dump_parser::DumpReader;
use drbdbox::meta::survey::{Content, Survey};
use drbdbox::meta::{foreign, BlockFile, Format, Layout, LogGeometry, MetaFlags, MetaIndex, SuperBlock};
use drbdbox::sys::buffer::Buffer;
use drbdbox::wire::auth::{self, Authenticator};
use drbdbox::wire::bitmap_code::{Progress, Receiver, Sender};
use drbdbox::wire::handshake::{self, Offer};
use drbdbox::wire::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets. The programs of `fuzz/` and the directories of the corpus have these names.
pub const TARGETS: &[Target] = &[
    ("packets", packets),
    ("bitmap", bitmap),
    ("handshake", handshake),
    ("core", core),
    ("conf", conf),
    ("super_block", super_block),
    ("activity_log", activity_log),
    ("dump", dump_text),
    ("control", control),
];

/// Takes an input apart, from its front. Behind its end there are zeros.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let (head, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        let mut bytes = head.to_vec();
        bytes.resize(count, 0);
        bytes
    }

    fn u8(&mut self) -> u8 {
        self.bytes(1)[0]
    }

    fn u16(&mut self) -> u16 {
        let bytes = self.bytes(2);
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    fn u32(&mut self) -> u32 {
        u32::from(self.u16()) | u32::from(self.u16()) << 16
    }

    fn version(&mut self) -> ProtocolVersion {
        let all: Vec<ProtocolVersion> = ProtocolVersion::all().collect();
        // Most often the newest.
        all[all.len() - 1 - self.u8() as usize % all.len()]
    }
}

/// A stream of packets, as it comes from a socket: version, features, digest, socket, then bytes.
pub fn packets(data: &[u8]) {
    let mut input = Input(data);
    let version = input.version();
    let options = input.u8();
    let features = if version.has_volumes() { Features(u32::from(options & 15)) } else { Features::NONE };
    let context =
        Context { version, features, peer_integrity_len: [0, 4, 16, 20][usize::from(options >> 4 & 3)] };
    let socket = if options & 0x40 == 0 { Socket::Data } else { Socket::Meta };
    let framing = context.framing();
    while input.0.len() >= framing.header_len() {
        let Ok(header) = Header::decode(framing, &input.0[..framing.header_len()]) else { return };
        let Ok(frame) = Frame::new(header, socket, &context) else { return };
        assert!(frame.fixed_len <= FIXED_LEN_MAX && frame.payload_len <= BIO_BYTES_MAX as usize);
        assert_eq!(frame.fixed_len + frame.payload_len, header.length as usize);
        let Some(body) = input.0.get(framing.header_len()..) else { return };
        let Some(fixed) = body.get(..frame.fixed_len) else { return };
        let Ok(incoming) = frame.decode(fixed, &context) else { return };
        again(&incoming, &frame, socket, &context);
        input.0 = body.get(frame.fixed_len + frame.payload_len..).unwrap_or_default();
    }
}

/// What was understood is encoded to something that is understood as the same.
fn again(incoming: &Incoming, frame: &Frame, socket: Socket, context: &Context) {
    let mut bytes = Vec::new();
    let Incoming { packet, volume, digest } = incoming;
    packet.encode_into(&mut bytes, *volume, context.version, digest, frame.payload_len);
    let (head, rest) = bytes.split_at(context.framing().header_len());
    let header = Header::decode(context.framing(), head).expect("header");
    let frame = Frame::new(header, socket, context).expect("frame");
    assert_eq!(rest.len(), frame.fixed_len);
    let back = frame.decode(rest, context).expect("packet");
    assert_eq!((&back.packet, back.digest), (packet, *digest));
}

/// Bitmap packets: version, number of bits, then pieces with a kind and a length.
pub fn bitmap(data: &[u8]) {
    let mut input = Input(data);
    let version = input.version();
    let bits = u64::from(input.u32() % 1_000_000);
    let mut words = vec![0_u64; bits.div_ceil(64) as usize];
    let mut receiver = Receiver::new(bits, version);
    while !input.is_empty() {
        let kind = input.u8();
        let length = usize::from(input.u16()).min(input.0.len());
        let piece = input.bytes(length);
        let result = match kind & 1 {
            0 => receiver.receive_compressed(&piece, words.as_mut_slice()),
            _ => receiver.receive_plain(&piece, words.as_mut_slice()),
        };
        if !matches!(result, Ok(Progress::More)) {
            break;
        }
    }
    if bits % 64 != 0 {
        assert_eq!(words.last().map_or(0, |word| word >> (bits % 64)), 0, "bits behind the end");
    }
    // What came is sent on, and arrives.
    let mut sender = Sender::new(bits, version, data.len() % 2 == 0);
    let mut receiver = Receiver::new(bits, version);
    let mut back = vec![0_u64; words.len()];
    let mut payload = Vec::new();
    while let Some(packet) = sender.next_packet(words.as_slice(), &mut payload) {
        assert!(payload.len() <= version.bitmap_payload_max());
        match packet {
            Packet::Bitmap => receiver.receive_plain(&payload, back.as_mut_slice()),
            _ => receiver.receive_compressed(&payload, back.as_mut_slice()),
        }
        .expect("own bitmap");
        payload.clear();
    }
    assert_eq!(words, back);
}

/// The bytes of a connection before it is one: first packet, features, challenge, response.
pub fn handshake(data: &[u8]) {
    let mut input = Input(data);
    let header = |input: &mut Input<'_>, framing: Framing| {
        let bytes = input.bytes(framing.header_len());
        Header::decode(framing, &bytes)
    };
    if let Ok(first) = header(&mut input, Framing::First) {
        let _ = handshake::first_packet(&first);
    }
    let Ok(features) = header(&mut input, Framing::First) else { return };
    if let Err(error) = handshake::expect_features(&features) {
        assert!(!error.to_string().is_empty());
        return;
    }
    let body: [u8; handshake::FEATURES_LEN] =
        input.bytes(handshake::FEATURES_LEN).try_into().expect("length");
    let peer = FeaturesPacket::parse(&body).expect("any 72 bytes");
    let agreement = match Offer::default().agree(&peer) {
        Ok(agreement) => agreement,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert!(u32::from(agreement.version.number()) <= peer.protocol_max.max(peer.protocol_min));
    let algorithm = ["sha1", "md5", "sha256"][usize::from(body[71] % 3)];
    let authenticator = Authenticator::new(algorithm, "secret").expect("algorithm");
    let framing = Framing::Agreed(agreement.version);
    let Ok(challenge) = header(&mut input, framing) else { return };
    let Ok(length) = auth::expect_challenge(&challenge) else { return };
    assert!(length <= 4096, "a challenge of {length} bytes would be read");
    let theirs = input.bytes(length);
    let mine = [7; 64];
    if theirs != mine {
        let response = authenticator.respond(&mine, &theirs).expect("response");
        assert_eq!(response.len(), authenticator.response_len());
    } else {
        assert!(authenticator.respond(&mine, &theirs).is_err(), "an answer to the own challenge");
        return;
    }
    let Ok(response) = header(&mut input, framing) else { return };
    let Ok(length) = authenticator.expect_response(&response) else { return };
    let response = input.bytes(length);
    let right = *authenticator.mac(&mine) == *response;
    assert_eq!(authenticator.verify(&mine, &response).is_ok(), right);
}

/// Sectors of the device of [`core`].
const SECTORS: u64 = 16384;
/// Operations of one input.
const OPERATIONS_MAX: usize = 200;
/// Payload that one input may make.
const PAYLOAD_MAX: usize = 2 << 20;

/// A whole connected core. The input says how it is set up, then what happens: packets of the peer (well framed, since
/// all else is refused before the core), answers that fit to what the core has sent, time, the application, the
/// administrator, the end of the link.
pub fn core(data: &[u8]) {
    let mut input = Input(data);
    let version = input.version();
    let setup = input.u8();
    let features = if version.has_volumes() { Features::ANNOUNCED } else { Features::NONE };
    let context = Context { version, features, peer_integrity_len: 0 };
    let disk = DiskSettings { resync_rate: 1 << 20, ..DiskSettings::defaults(Dialect::V84) };
    let mut node = Node::new(disk, SECTORS);
    if setup & 1 == 0 {
        let mut meta = Meta::just_created(SECTORS);
        if setup & 2 == 0 {
            meta.super_block.uuids = [0x1234_5678_9abc_def0, 0, 0, 0];
            meta.super_block.effective_size_sectors = SECTORS;
            meta.super_block.flags.set(MetaFlags::CONSISTENT, true);
            meta.super_block.flags.set(MetaFlags::WAS_UP_TO_DATE, true);
        }
        assert_eq!(node.attach(meta), Some(101));
    }
    if setup & 4 != 0 {
        node.command(Admin::Primary { volume: V, force: true });
    }
    let mut net = NetSettings::defaults(Dialect::V84);
    net.verify_alg = "crc32c".into();
    net.csums_alg = if setup & 8 != 0 { "crc32c".into() } else { String::new() };
    net.allow_two_primaries = setup & 16 != 0;
    net.max_buffers = 32;
    let arbiter = setup & 32 != 0;
    node.connect(net.clone());
    // Before both have agreed and the peer is authenticated, nothing that it says counts.
    node.sent.clear();
    let early = Data { sector: 0, block_id: 1, seq: 1, flags: DataFlags(0x102) };
    node.deliver(Socket::Data, 0, Packet::Data(early), payload_of(&[0xee; 512]));
    assert!(node.sent.is_empty() && node.data[..512].iter().all(|byte| *byte == 0));

    let mut world = World { node, context, tokens: Vec::new(), unanswered: Vec::new(), payload: 0 };
    let link = Link { version, features, arbiter };
    world.node.link_up(link);
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        world.operation(&mut input, link, &net);
    }
    world.end();
}

fn payload_of(bytes: &[u8]) -> Option<Payload> {
    (!bytes.is_empty()).then(|| Payload::whole(Arc::new(Buffer::from_bytes(bytes))))
}

struct World {
    node: Node,
    context: Context,
    /// Requests of the application.
    tokens: Vec<u64>,
    /// Packets of the core that may want an answer.
    unanswered: Vec<Sent>,
    payload: usize,
}

impl World {
    fn deliver(&mut self, socket: Socket, volume: u16, packet: Packet, payload: Option<Payload>) {
        let ready = socket == Socket::Meta || self.node.core.receiver_ready();
        if self.node.is_up() && ready {
            self.node.deliver(socket, volume, packet, payload);
            // Buffers of 32 pages, and one packet that came before they were full.
            let limit = 32 * 4096 + 2 * BIO_BYTES_MAX as usize;
            assert!(self.node.held_bytes() <= limit, "{} bytes of the peer wait", self.node.held_bytes());
        }
    }

    fn operation(&mut self, input: &mut Input<'_>, link: Link, net: &NetSettings) {
        self.unanswered.append(&mut self.node.sent);
        if self.unanswered.len() > 256 {
            self.unanswered.drain(..128);
        }
        match input.u8() {
            operation @ (0..=79 | 240..=255) => self.packet(input, operation & 1 == 1),
            80..=139 => self.answer(input),
            140..=159 => {
                let now = self.node.now + u64::from(input.u16()) / 8;
                self.node.advance_to(now);
            }
            160..=189 => self.application(input),
            190..=209 => self.administrator(input),
            210..=219 => {
                if self.node.holds_peer {
                    self.node.release_writes();
                } else {
                    self.node.holds_peer = true;
                }
            }
            _ => {
                // The link breaks, or there is a new one.
                if self.node.is_up() {
                    let failure = drbdbox::core::types::LinkFailure { conn: Conn::BrokenPipe, log: None };
                    self.node.core.link_lost(self.node.now, failure);
                    self.node.settle();
                } else {
                    self.node.release_writes();
                    if self.node.core.connection_state() == Conn::StandAlone {
                        self.node.connect(net.clone());
                    }
                    if self.node.wants_link {
                        self.unanswered.clear();
                        self.node.link_up(link);
                    }
                }
            }
        }
    }

    /// A packet: its type, a length, and the fields.
    fn packet(&mut self, input: &mut Input<'_>, meta: bool) {
        let socket = if meta { Socket::Meta } else { Socket::Data };
        let number = input.u8();
        let volume = u16::from(number >> 7);
        let command = u16::from(number & 0x7f);
        let length = u32::from(input.u16());
        let header = Header { command, volume, length };
        let Ok(frame) = Frame::new(header, socket, &self.context) else { return };
        let fixed = input.bytes(frame.fixed_len);
        let Ok(incoming) = frame.decode(&fixed, &self.context) else { return };
        self.payload += frame.payload_len;
        if self.payload > PAYLOAD_MAX {
            return;
        }
        let payload = match incoming.packet {
            Packet::Bitmap | Packet::CompressedBitmap => input.bytes(frame.payload_len),
            _ => vec![number; frame.payload_len],
        };
        self.deliver(socket, volume, incoming.packet, payload_of(&payload));
    }

    /// An answer to something that the core has sent.
    fn answer(&mut self, input: &mut Input<'_>) {
        let choice = input.u8();
        if self.unanswered.is_empty() {
            return;
        }
        let at = usize::from(choice >> 4) % self.unanswered.len();
        let Sent { packet, payload, .. } = self.unanswered.remove(at);
        let bytes = payload.as_ref().map_or(0, |payload| payload.len() as u32);
        let ack = |sector, block_id, size| BlockAck { sector, block_id, size, seq: u32::from(choice) };
        let mut content = |size: u32| {
            self.payload += size as usize;
            payload_of(&vec![choice; size as usize])
        };
        let (answer, payload) = match packet {
            Packet::Data(Data { sector, block_id, .. })
            | Packet::Trim(RangeWrite { sector, block_id, .. })
            | Packet::Zeroes(RangeWrite { sector, block_id, .. }) => {
                let size = match packet {
                    Packet::Data(_) => bytes,
                    Packet::Trim(range) | Packet::Zeroes(range) => range.size,
                    _ => 0,
                };
                let kinds = [
                    Packet::WriteAck,
                    Packet::RecvAck,
                    Packet::NegAck,
                    Packet::Superseded,
                    Packet::RetryWrite,
                    Packet::RsWriteAck,
                ];
                (kinds[usize::from(choice & 15) % kinds.len()](ack(sector, block_id, size)), None)
            }
            Packet::Barrier(barrier) => {
                let set_size = u32::from(choice & 3);
                (Packet::BarrierAck(BarrierAck { number: barrier.number, set_size }), None)
            }
            Packet::RsDataRequest(BlockRequest { sector, block_id, size })
            | Packet::RsThinRequest(BlockRequest { sector, block_id, size }) => match choice & 7 {
                0 => (Packet::RsCancel(ack(sector, block_id, size)), None),
                1 => (Packet::NegRsDataReply(ack(sector, block_id, size)), None),
                2 => (Packet::RsDeallocated(BlockDescription { sector, size }), None),
                _ => (Packet::RsDataReply(Reply { sector, block_id }), content(size)),
            },
            Packet::CsumRsRequest(BlockDigest { sector, block_id, size, .. }) => match choice & 3 {
                0 => (Packet::RsDataReply(Reply { sector, block_id }), content(size)),
                _ => (Packet::RsIsInSync(ack(sector, block_id, size)), None),
            },
            Packet::RsDataReply(Reply { sector, block_id }) => match choice & 3 {
                0 => (Packet::NegAck(ack(sector, block_id, bytes)), None),
                _ => (Packet::RsWriteAck(ack(sector, block_id, bytes)), None),
            },
            Packet::DataRequest(BlockRequest { sector, block_id, size }) => match choice & 3 {
                0 => (Packet::NegDataReply(ack(sector, block_id, size)), None),
                _ => (Packet::DataReply(Reply { sector, block_id }), content(size)),
            },
            Packet::OvRequest(BlockRequest { sector, block_id, size }) => {
                let digest = Digest::Crc32c.compute(&[choice & 1]);
                (Packet::OvReply(BlockDigest { sector, block_id, size, digest }), None)
            }
            Packet::OvReply(BlockDigest { sector, size, .. }) => {
                (Packet::OvResult(OvResult { sector, size, seq: 1, in_sync: choice & 1 == 0 }), None)
            }
            Packet::StateChangeRequest(_) => {
                (Packet::StateChangeReply([1, 1, 2, -10][usize::from(choice & 3)]), None)
            }
            Packet::ConnectionStateChangeRequest(_) => (Packet::ConnectionStateChangeReply(1), None),
            Packet::Ping => (Packet::PingAck, None),
            // What the core says of itself, the peer says of itself too.
            packet => (packet, payload),
        };
        if self.payload <= PAYLOAD_MAX {
            self.deliver(answer.socket(), 0, answer, payload);
        }
    }

    fn application(&mut self, input: &mut Input<'_>) {
        let kind = input.u8();
        if self.node.core.volume(V).state().role != Role::Primary {
            return;
        }
        let token = self.node.token();
        let sector = u64::from(input.u16()) % (SECTORS - 256);
        let bytes = 512 << (kind & 7);
        let now = self.node.now;
        self.tokens.push(token);
        match kind >> 5 {
            0 => self.node.core.read(now, V, token, sector, bytes),
            1 => self.node.core.flush(now, V, token),
            2 => self.node.core.discard(now, V, token, sector, bytes, kind & 16 != 0),
            _ => {
                let payload = payload_of(&vec![kind; bytes as usize]).expect("payload");
                self.node.core.write(now, V, token, sector, payload, kind & 8 != 0);
            }
        }
        self.node.settle();
    }

    fn administrator(&mut self, input: &mut Input<'_>) {
        let volume = V;
        let command = match input.u8() % 13 {
            0 => Admin::Invalidate { volume },
            1 => Admin::InvalidateRemote { volume },
            2 => Admin::Verify { volume, start: None, stop: None },
            3 => Admin::PauseSync { volume },
            4 => Admin::ResumeSync { volume },
            5 => Admin::Secondary { volume, open: false },
            6 => Admin::Primary { volume, force: true },
            7 => Admin::Outdate { volume },
            8 => Admin::Detach { volume, force: true },
            9 => Admin::Disconnect { force: false },
            10 => Admin::Resize { volume, size: 0, assume_peer_has_space: false, assume_clean: false },
            11 => Admin::NewCurrentUuid { volume, clear_bitmap: true },
            _ => Admin::SuspendIo { volume },
        };
        self.node.command(command);
    }

    /// The connection ends; whatever the peer said, no request of the application stays open.
    fn end(&mut self) {
        self.node.release_writes();
        for _ in 0..2 {
            self.node.command(Admin::Disconnect { force: true });
            self.node.command(Admin::ResumeIo { volume: V });
            let now = self.node.now + 20_000;
            self.node.advance_to(now);
        }
        assert_eq!(self.node.core.connection_state(), Conn::StandAlone);
        for token in &self.tokens {
            let done = self.node.completed.contains_key(token);
            assert!(done, "request {token} was never completed: {:#?}", self.node.log);
        }
        let counters = self.node.core.volume(V).counters();
        let pending = [counters.ap_pending, counters.unacked, counters.local, counters.rs_pending];
        assert_eq!(pending, [0; 4]);
    }
}

/// A drbd.conf, read as both dialects, with all that is done to it before anybody is called.
pub fn conf(data: &[u8]) {
    // Files of the machine are no part of the input.
    if data.windows(7).any(|word| word == b"include") {
        return;
    }
    for dialect in [Dialect::V83, Dialect::V84] {
        conf_use::use_all(data, dialect);
    }
}

/// A device with nothing but these blocks.
#[derive(Default)]
struct Sparse {
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Sparse {
    const BYTES: u64 = 1 << 30;
}

impl BlockFile for Sparse {
    fn size_bytes(&self) -> u64 {
        Sparse::BYTES
    }

    fn logical_block_bytes(&self) -> usize {
        4096
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        buffer.fill(0);
        if let Some(block) = self.blocks.get(&offset) {
            let len = block.len().min(buffer.len());
            buffer[..len].copy_from_slice(&block[..len]);
        }
        Ok(())
    }

    fn write_at(&self, _: u64, _: &[u8]) -> std::io::Result<()> {
        panic!("looking writes nothing")
    }

    fn sync(&self) -> std::io::Result<()> {
        panic!("looking writes nothing")
    }
}

/// The last 4 KiB of a device, and the first.
pub fn super_block(data: &[u8]) {
    let _ = foreign::detect(data);
    let mut whole = data.to_vec();
    whole.resize(4096, 0);
    let mut device = Sparse::default();
    device.blocks.insert(Sparse::BYTES - 4096, whole.clone());
    device.blocks.insert(0, whole);
    for found in Survey::of(&device, &[Sparse::BYTES / 2], &mut |_, _| ()).findings {
        if let Content::V08(found) = found.content {
            let pages = found.plausible_sectors().div_ceil(8 * 32768);
            assert!(pages * 4096 <= found.layout.bitmap_bytes().next_multiple_of(4096));
        }
    }
    counters(data);
    let Ok(block) = SuperBlock::decode(data) else { return };
    let bytes = block.encode();
    assert_eq!(SuperBlock::decode(&bytes).as_ref(), Ok(&block));
    let _ = block.log_geometry();
    for (index, device_bytes) in
        [(MetaIndex::Internal, 1 << 30), (MetaIndex::FlexExternal, 1 << 20), (MetaIndex::Internal, 40 << 10)]
    {
        if let Ok(layout) = block.layout(index, device_bytes) {
            let _ = (block.validate(&layout), block.validate_for_attach(&layout));
        }
        if let Ok(layout) = Layout::new(index, device_bytes, LogGeometry::CLASSIC) {
            let _ = (block.validate(&layout), block.validate_for_attach(&layout));
        }
    }
}

/// v06's file, and v07's block at each of its places.
fn counters(data: &[u8]) {
    if let Some(counters) = Counters::decode_v06(data) {
        assert_eq!(counters.encode_v06(), data[..24]);
    }
    let Some(block) = BlockV07::read(data) else { return };
    assert_eq!(BlockV07::read(&block.encode()).as_ref(), Some(&block));
    for (index, is_fixed) in
        [(MetaIndex::Internal, true), (MetaIndex::Internal, false), (MetaIndex::Indexed(1), false)]
    {
        let layout = layout_v07(index, is_fixed, Sparse::BYTES).expect("layout");
        let sectors = block.plausible_sectors(&layout);
        assert!(sectors.div_ceil(8 * 32768) * 4096 <= layout.bitmap_bytes());
        let _ = block.validate(&layout);
    }
}

/// A super block's flags and slots, then the activity log's area.
pub fn activity_log(data: &[u8]) {
    let mut input = Input(data);
    let layout = Layout::new(MetaIndex::FlexExternal, 256 << 10, LogGeometry::CLASSIC).expect("layout");
    let mut block = SuperBlock::just_created(&layout);
    block.flags = MetaFlags(u32::from(input.u16()));
    block.al_slots = u32::from(input.u16());
    let area = layout.log.bytes() as usize;
    let mut bytes = input.0.to_vec();
    bytes.resize(area, 0);
    if let Ok(replay) = replay(&bytes, &block, layout.log) {
        assert!(replay.hot.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(replay.hot.len() <= 65_536);
        let units = if replay.format == LogFormat::V84 { 4096 } else { 512 };
        assert!(replay.next_position as usize * units <= area);
    }
}

/// The text of `drbdmeta dump-md`, of each format.
pub fn dump_text(data: &[u8]) {
    for format in [Format::V06, Format::V07, Format::V08] {
        let words = DumpReader::open(data, format).and_then(|(_, rest)| rest.count_words());
        assert!(words.is_ok() || words.is_err_and(|error| !error.to_string().is_empty()));
    }
}

/// What comes in on the daemon's socket, or goes out.
pub fn control(data: &[u8]) {
    let call: Result<Option<Call>, _> = frame::read(&mut &data[..], frame::REQUEST_MAX);
    if let Ok(Some(call)) = call {
        let _ = call.request.minor();
        let mut bytes = Vec::new();
        frame::write(&mut bytes, &call).expect("a call");
        let back: Option<Call> = frame::read(&mut bytes.as_slice(), 16 * frame::REQUEST_MAX).expect("a call");
        assert_eq!(format!("{back:?}"), format!("{:?}", Some(call)));
    }
    let _: Result<Option<ControlReply>, _> = frame::read(&mut &data[..], frame::REQUEST_MAX);
}
