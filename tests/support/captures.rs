//! Recordings of real kernels: pcap files, taken apart into TCP streams, DRBD packets, and links.
//! The files are in `tests/vectors/captures`, whose README says how they were made.

use drbdbox::wire::{
    Command, Context, Digest, Features, FeaturesPacket, Framing, Header, ProtocolVersion, Socket,
};
use flate2::read::GzDecoder;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

/// One of the two machines. In all recordings b is 10.99.0.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// 8.4.11 everywhere (in `versions.apv*` behind a proxy that presents it as an older release).
    A,
    /// 8.4.11, and DRBD 9 in `drbd9/`.
    B,
}

impl Side {
    pub fn other(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }
}

/// A packet as it was on the wire.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Microseconds since the beginning of the recording.
    pub time: u64,
    /// Who sent it.
    pub from: Side,
    /// On which connection.
    pub socket: Socket,
    /// Header and all that belongs to it.
    pub bytes: Vec<u8>,
}

/// A pair of connections that came to know each other's features.
pub struct Link {
    /// What both agreed on.
    pub version: ProtocolVersion,
    /// Features that both have.
    pub features: Features,
    /// The node that accepted the meta connection.
    pub arbiter: Side,
    /// From the first packets on, in the order in which they passed the bridge.
    pub packets: Vec<Recorded>,
    /// Who closed a connection first (FIN or RST), when; `None`: the recording ends before.
    pub closed: Option<(u64, Side)>,
}

/// A recording.
pub struct Capture {
    /// `drbd9/auth`, `versions.apv86`.
    pub name: String,
    pub links: Vec<Link>,
    /// Packets of connections that came to nothing.
    pub strays: Vec<Recorded>,
}

/// All recordings, sorted by name.
pub fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/captures");
    let mut files = Vec::new();
    for directory in [root.clone(), root.join("drbd9")] {
        for entry in std::fs::read_dir(&directory).expect("tests/vectors/captures") {
            let path = entry.expect("entry").path();
            if path.extension().is_some_and(|extension| extension == "gz") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The name of a recording.
pub fn name_of(path: &Path) -> String {
    let stem = path.file_name().expect("name").to_string_lossy().replace(".pcap.gz", "");
    match path.parent().and_then(Path::file_name) {
        Some(parent) if parent == "drbd9" => format!("drbd9/{stem}"),
        _ => stem,
    }
}

/// One end of a connection: address and port.
type End = ([u8; 4], u16);

/// A piece of a TCP stream, in order.
struct Piece<'a> {
    time: u64,
    from: End,
    to: End,
    what: What<'a>,
}

enum What<'a> {
    Syn,
    /// FIN or RST.
    End,
    Data(&'a [u8]),
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    be32(bytes, at).swap_bytes()
}

/// The frames of a pcap file (little endian, microseconds or nanoseconds).
fn frames(file: &[u8]) -> Vec<(u64, &[u8])> {
    let per_microsecond = match le32(file, 0) {
        0xa1b2_c3d4 => 1,
        0xa1b2_3c4d => 1000,
        magic => panic!("no pcap file: {magic:x}"),
    };
    let mut frames = Vec::new();
    let mut at = 24;
    while at + 16 <= file.len() {
        let micros = u64::from(le32(file, at)) * 1_000_000 + u64::from(le32(file, at + 4) / per_microsecond);
        let len = le32(file, at + 8) as usize;
        let Some(frame) = file.get(at + 16..at + 16 + len) else { break };
        frames.push((micros, frame));
        at += 16 + len;
    }
    let begin = frames.first().map_or(0, |frame| frame.0);
    frames.iter_mut().for_each(|frame| frame.0 -= begin);
    frames
}

/// Puts the segments of each direction into order and takes out what was sent again.
fn reassemble<'a>(frames: &[(u64, &'a [u8])], mut sink: impl FnMut(Piece<'a>)) {
    let mut next: HashMap<(End, End), u32> = HashMap::new();
    let mut early: HashMap<(End, End), BTreeMap<u32, &'a [u8]>> = HashMap::new();
    for &(time, frame) in frames {
        // Ethernet, IPv4, TCP.
        if frame.len() < 54 || be16(frame, 12) != 0x0800 || frame[23] != 6 {
            continue;
        }
        let tcp = 14 + usize::from(frame[14] & 15) * 4;
        let total = match be16(frame, 16) {
            0 => frame.len() - 14,
            total => usize::from(total),
        };
        let end = |address: usize, port: usize| {
            let address = [frame[address], frame[address + 1], frame[address + 2], frame[address + 3]];
            (address, be16(frame, port))
        };
        let (from, to) = (end(26, tcp), end(30, tcp + 2));
        let sequence = be32(frame, tcp + 4);
        let flags = frame[tcp + 13];
        let data = frame.get(tcp + usize::from(frame[tcp + 12] >> 4) * 4..14 + total).unwrap_or_default();
        if flags & 2 != 0 {
            next.insert((from, to), sequence.wrapping_add(1));
            early.remove(&(from, to));
            sink(Piece { time, from, to, what: What::Syn });
            continue;
        }
        let expected = next.entry((from, to)).or_insert(sequence);
        let waiting = early.entry((from, to)).or_default();
        if !data.is_empty() {
            let known = waiting.entry(sequence).or_insert(data);
            if known.len() < data.len() {
                *known = data;
            }
        }
        while let Some(start) = waiting.keys().copied().find(|start| expected.wrapping_sub(*start) < 1 << 31)
        {
            let segment = waiting.remove(&start).unwrap_or_default();
            let fresh = segment.get(expected.wrapping_sub(start) as usize..).unwrap_or_default();
            if !fresh.is_empty() {
                *expected = expected.wrapping_add(fresh.len() as u32);
                sink(Piece { time, from, to, what: What::Data(fresh) });
            }
        }
        if flags & 5 != 0 {
            sink(Piece { time, from, to, what: What::End });
        }
    }
}

/// Takes one packet off the front of a stream.
fn cut(stream: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = match stream.get(..8)? {
        [0x83, 0x74, 0x02, 0x67, ..] => 8 + usize::from(be16(stream, 6)),
        [0x83, 0x5a, ..] => 8 + be32(stream, 4) as usize,
        [0x86, 0x20, 0xec, 0x20, ..] => 16 + be32(stream.get(..16)?, 8) as usize,
        other => panic!("not the beginning of a packet: {other:x?}"),
    };
    (stream.len() >= length).then(|| {
        let rest = stream.split_off(length);
        std::mem::replace(stream, rest)
    })
}

/// The number of the packet's type.
pub fn command_number(bytes: &[u8]) -> u16 {
    match bytes[0..2] {
        [0x83, 0x74] => be16(bytes, 4),
        [0x83, 0x5a] => be16(bytes, 2),
        _ => be16(bytes, 6),
    }
}

/// A TCP connection.
struct Connection {
    opened_by: End,
    socket: Option<Socket>,
    link: Option<usize>,
    /// Bytes that are no whole packet yet, by the side that sent them.
    streams: HashMap<End, Vec<u8>>,
    packets: Vec<Recorded>,
    features: HashMap<End, FeaturesPacket>,
    ended: bool,
}

fn side(end: End) -> Side {
    if end.0 == [10, 99, 0, 2] {
        Side::B
    } else {
        Side::A
    }
}

impl Capture {
    /// Reads a file.
    pub fn read(path: &Path) -> Capture {
        let packed = std::fs::read(path).expect("recording");
        let mut file = Vec::new();
        GzDecoder::new(packed.as_slice()).read_to_end(&mut file).expect("gzip");
        let mut capture = Capture { name: name_of(path), links: Vec::new(), strays: Vec::new() };
        let mut connections: Vec<Connection> = Vec::new();
        // The newest connection between two ends.
        let mut newest: HashMap<(End, End), usize> = HashMap::new();
        reassemble(&frames(&file), |piece| {
            let pair = (piece.from.min(piece.to), piece.from.max(piece.to));
            match piece.what {
                What::Syn => {
                    let again =
                        newest.get(&pair).is_some_and(|index| connections[*index].opened_by != piece.from);
                    if !again {
                        newest.insert(pair, connections.len());
                        connections.push(Connection {
                            opened_by: piece.from,
                            socket: None,
                            link: None,
                            streams: HashMap::new(),
                            packets: Vec::new(),
                            features: HashMap::new(),
                            ended: false,
                        });
                    }
                }
                What::End => {
                    let Some(index) = newest.get(&pair) else { return };
                    connections[*index].ended = true;
                    if let Some(link) = connections[*index].link {
                        capture.links[link].closed.get_or_insert((piece.time, side(piece.from)));
                    }
                }
                What::Data(data) => {
                    let index = *newest.get(&pair).expect("a connection begins with SYN");
                    let stream = connections[index].streams.entry(piece.from).or_default();
                    stream.extend_from_slice(data);
                    while let Some(bytes) = connections[index].streams.get_mut(&piece.from).and_then(cut) {
                        capture.packet(&mut connections, index, piece.time, piece.from, bytes);
                    }
                }
            }
        });
        for connection in connections {
            capture.strays.extend(connection.packets);
        }
        capture
    }

    fn packet(&mut self, connections: &mut [Connection], index: usize, time: u64, from: End, bytes: Vec<u8>) {
        let connection = &mut connections[index];
        let number = command_number(&bytes);
        let socket = match Command::from_number(number) {
            Some(Command::InitialData) => *connection.socket.insert(Socket::Data),
            Some(Command::InitialMeta) => *connection.socket.insert(Socket::Meta),
            _ => connection.socket.expect("the first packet names the socket"),
        };
        if number == Command::ConnectionFeatures.number() {
            let body = bytes[8..].try_into().expect("features");
            connection.features.insert(from, FeaturesPacket::parse(body).expect("features"));
        }
        let recorded = Recorded { time, from: side(from), socket, bytes };
        if let Some(link) = connection.link {
            self.links[link].packets.push(recorded);
            return;
        }
        connection.packets.push(recorded);
        if connection.features.len() == 2 {
            self.begin_link(connections, index);
        } else if socket == Socket::Meta && number != Command::InitialMeta.number() {
            panic!("{}: a packet on a meta connection that belongs to no link", self.name);
        }
    }

    /// The features of both sides have passed: this data connection and the newest meta connection are a link.
    fn begin_link(&mut self, connections: &mut [Connection], data: usize) {
        let offered: Vec<FeaturesPacket> = connections[data].features.values().copied().collect();
        let number = offered[0].protocol_max.min(offered[1].protocol_max);
        let meta = connections
            .iter()
            .rposition(|c| c.socket == Some(Socket::Meta) && c.link.is_none() && !c.ended)
            .expect("a meta connection");
        let link = self.links.len();
        let mut packets = Vec::new();
        for index in [data, meta] {
            connections[index].link = Some(link);
            packets.append(&mut connections[index].packets);
        }
        packets.sort_by_key(|packet| packet.time);
        self.links.push(Link {
            version: ProtocolVersion::new(number).expect("version"),
            features: offered[0].features & offered[1].features,
            arbiter: side(connections[meta].opened_by).other(),
            packets,
            closed: None,
        });
    }
}

/// Takes the packets of one sender apart, as the receiver does: with the digest that it announced.
#[derive(Clone)]
pub struct Decoder {
    pub context: Context,
    pub integrity: Option<Digest>,
}

/// What a decoder makes of a packet.
pub struct Decoded {
    pub header: Header,
    pub packet: drbdbox::wire::Packet,
    pub digest: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Decoder {
    pub fn new(link: &Link) -> Decoder {
        let context = Context { version: link.version, features: link.features, peer_integrity_len: 0 };
        Decoder { context, integrity: None }
    }

    /// # Panics
    /// If the library refuses the packet.
    pub fn decode(&mut self, recorded: &Recorded) -> Decoded {
        use drbdbox::wire::{handshake, Frame, Packet};
        let command = Command::from_number(command_number(&recorded.bytes)).expect("a packet of 8.4");
        let of_handshake =
            matches!(command, Command::InitialData | Command::InitialMeta | Command::ConnectionFeatures);
        let framing = if of_handshake { Framing::First } else { self.context.framing() };
        let (head, rest) = recorded.bytes.split_at(framing.header_len());
        let header = Header::decode(framing, head).expect("header");
        assert_eq!(header.length as usize, rest.len());
        let (packet, digest, payload) = match command {
            Command::InitialData | Command::InitialMeta => {
                assert_eq!(handshake::first_packet(&header), Some(recorded.socket));
                let data = command == Command::InitialData;
                (if data { Packet::InitialData } else { Packet::InitialMeta }, vec![], &rest[..0])
            }
            Command::ConnectionFeatures => {
                handshake::expect_features(&header).expect("features");
                let features = FeaturesPacket::parse(rest.try_into().expect("72 bytes")).expect("features");
                (Packet::ConnectionFeatures(features), vec![], &rest[..0])
            }
            _ => {
                let frame = Frame::new(header, recorded.socket, &self.context)
                    .unwrap_or_else(|error| panic!("{command:?}: {error}"));
                let (fixed, payload) = rest.split_at(frame.fixed_len);
                let incoming = frame
                    .decode(fixed, &self.context)
                    .unwrap_or_else(|error| panic!("{command:?} {fixed:x?}: {error}"));
                assert_eq!(frame.payload_len, payload.len());
                (incoming.packet, incoming.digest.to_vec(), payload)
            }
        };
        if let Packet::Protocol(protocol) | Packet::ProtocolUpdate(protocol) = &packet {
            self.integrity = Digest::by_name(&protocol.integrity_alg);
            assert_eq!(self.integrity.is_some(), !protocol.integrity_alg.is_empty());
            self.context.peer_integrity_len = self.integrity.map_or(0, Digest::len);
        }
        Decoded { header, packet, digest, payload: payload.to_vec() }
    }
}
