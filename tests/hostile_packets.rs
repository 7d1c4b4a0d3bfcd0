//! A peer that breaks every rule, one at a time: every packet type of wire's table, on the wrong socket, with the wrong
//! length, with every field at its limits, cut short, too early, again and again. What comes of each is no panic, nothing
//! outside the device, no memory without bound, and, where the connection is dropped, a log line that names the packet.
//!
//! A packet type that is added to the table must be added to [`sample`], or this does not compile.

#[allow(dead_code)]
#[path = "support/core_node.rs"]
mod core_node;
#[path = "support/sample_packets.rs"]
mod sample_packets;

use core_node::{Meta, Node, V};
use drbdbox::conf::settings::{DiskSettings, NetSettings};
use drbdbox::conf::Dialect;
use drbdbox::core::state::{Conn, Disk, StateWord};
use drbdbox::core::types::{Command as Admin, Link, Payload};
use drbdbox::engine::reader::{PacketReader, ReadError};
use drbdbox::meta::MetaFlags;
use drbdbox::sys::buffer::Buffer;
use drbdbox::wire::command::Carrier;
use drbdbox::wire::*;
use sample_packets::{sample, SECTORS};
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;

/// The packet's bytes behind the header, without payload, and the bytes of payload.
fn body(command: Command) -> Option<(Vec<u8>, usize)> {
    let (packet, payload) = sample(command).filter(|_| command.carrier() != Carrier::None)?;
    let mut bytes = Vec::new();
    packet.encode_into(&mut bytes, 0, ProtocolVersion::MAX, &[], payload);
    Some((bytes.split_off(16), payload))
}

fn sockets(command: Command) -> impl Iterator<Item = Socket> {
    [Socket::Data, Socket::Meta].into_iter().filter(move |socket| command.travels_on(*socket))
}

/// Whether a line of the log tells which packet it speaks of.
fn names(line: &str, command: Command) -> bool {
    let number = format!("c: {}, ", command.number());
    line.contains(command.log_name(Release::V84))
        || line.contains(&number)
        // Texts of the kernel that name it in their own way.
        || matches!(command, Command::SyncParam | Command::SyncParam89) && line.contains("SyncParam")
        || command == Command::CompressedBitmap && line.contains("ReportCBitmap")
        || command == Command::Bitmap && line.contains("receive_bitmap_plain")
        || command == Command::BarrierAck && line.contains("BAD! BarrierAck")
}

#[test]
fn what_the_framing_refuses_is_named() {
    let mut refused = 0;
    for version in ProtocolVersion::all() {
        for features in [Features::NONE, Features::ANNOUNCED, Features::WSAME] {
            let context = Context { version, features, peer_integrity_len: 20 };
            for (command, socket) in
                Command::ALL.iter().flat_map(|c| [Socket::Data, Socket::Meta].map(|socket| (*c, socket)))
            {
                let usual = body(command).map_or(0, |(fixed, payload)| fixed.len() + payload) as u32;
                let near = [usual.saturating_sub(1), usual, usual + 1];
                let far = [0, 1, 512, 4096 + 24 + 20, 0xffff, 1 << 20, (1 << 20) + 513, 1 << 31, u32::MAX];
                for length in near.into_iter().chain(far) {
                    let header = Header { command: command.number(), volume: 0, length };
                    match Frame::new(header, socket, &context) {
                        Ok(frame) => {
                            assert!(command.travels_on(socket), "{command:?} on {socket}");
                            assert!(frame.fixed_len <= FIXED_LEN_MAX);
                            assert!(frame.payload_len <= BIO_BYTES_MAX as usize);
                        }
                        Err(error) => {
                            let line = error.to_string();
                            assert!(names(&line, command), "{command:?} on {socket}, {length}: {line}");
                            refused += 1;
                        }
                    }
                }
            }
            for number in (0x37..0x100).chain([0x25, 0x26, 0x2e, 0x35, 0xfff0, 0xffff]) {
                for socket in [Socket::Data, Socket::Meta] {
                    let header = Header { command: number, volume: 0, length: 0 };
                    let error = Frame::new(header, socket, &context).expect_err("unknown");
                    assert!(error.to_string().contains(&format!("(0x{number:04x})")), "{error}");
                }
            }
        }
    }
    assert!(refused > 10_000, "{refused}");
}

/// Where the node stands when the packet comes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    /// The sockets are there, the peer has said nothing.
    Silence,
    /// Connected, nothing is under way.
    Idle,
    /// Connected, Primary, a write is not acknowledged.
    Writing,
    /// Target of a resync, with requests on their way.
    Target,
    /// Source of a resync.
    Source,
}

const STAGES: [Stage; 5] = [Stage::Silence, Stage::Idle, Stage::Writing, Stage::Target, Stage::Source];

fn link() -> Link {
    Link { version: ProtocolVersion::MAX, features: Features::ANNOUNCED, arbiter: false }
}

fn net() -> NetSettings {
    NetSettings {
        verify_alg: "crc32c".into(),
        csums_alg: String::new(),
        ..NetSettings::defaults(Dialect::V84)
    }
}

fn payload(byte: u8, len: usize) -> Option<Payload> {
    let mut buffer = Buffer::zeroed(len);
    buffer.fill(byte);
    (len > 0).then(|| Payload::whole(Arc::new(buffer)))
}

/// A decent peer, whose data are as old as `current` says, is met.
fn meet(node: &mut Node, current: Option<u64>) {
    node.link_up(link());
    for sent in std::mem::take(&mut node.sent) {
        let packet = match sent.packet {
            Packet::Uuids(uuids) => {
                // The older of two has the other's BITMAP as its CURRENT.
                let (current, bitmap) = match current {
                    Some(newer) if newer > 4 => (newer, uuids.current),
                    Some(older) => (older, 0),
                    None => (uuids.current, 0),
                };
                Packet::Uuids(Uuids { current: current & !1, bitmap, ..uuids })
            }
            Packet::State(word) => {
                let word = StateWord::from_bits(word).expect("state");
                let disk = if current == Some(4) { Disk::Inconsistent } else { Disk::UpToDate };
                let role = drbdbox::core::state::Role::Secondary;
                Packet::State(StateWord { disk, role, ..word }.to_bits())
            }
            packet => packet,
        };
        if sent.socket == Socket::Data {
            node.deliver(Socket::Data, 0, packet, sent.payload);
        }
    }
}

fn node_at(stage: Stage) -> Node {
    let settings = DiskSettings { resync_rate: 1 << 20, ..DiskSettings::defaults(Dialect::V84) };
    let mut node = Node::new(settings, SECTORS);
    let mut meta = Meta::just_created(SECTORS);
    meta.super_block.uuids = [0x1234_5678_9abc_def0, 0, 0, 0];
    meta.super_block.effective_size_sectors = SECTORS;
    meta.super_block.flags.set(MetaFlags::CONSISTENT, true);
    meta.super_block.flags.set(MetaFlags::WAS_UP_TO_DATE, true);
    assert_eq!(node.attach(meta), Some(101));
    node.connect(net());
    match stage {
        Stage::Silence => node.link_up(link()),
        Stage::Idle => meet(&mut node, None),
        Stage::Writing => {
            meet(&mut node, None);
            node.core.command(node.now, 1 << 40, Admin::Primary { volume: V, force: false });
            node.settle();
            node.deliver(Socket::Meta, 0, Packet::PingAck, None);
            node.deliver(Socket::Meta, 0, Packet::StateChangeReply(1), None);
            let (token, data) = (node.token(), payload(1, 4096).expect("payload"));
            node.core.write(node.now, V, token, 8, data, false);
            node.settle();
        }
        Stage::Target => {
            meet(&mut node, Some(0xaaaa_0000));
            assert_eq!(node.core.volume(V).state().conn, Conn::WFBitMapT);
            let words = vec![0xff; (SECTORS / 64) as usize];
            node.deliver(
                Socket::Data,
                0,
                Packet::Bitmap,
                Some(Payload::whole(Arc::new(Buffer::from_bytes(&words)))),
            );
            node.deliver(Socket::Data, 0, Packet::Bitmap, None);
            node.deliver(Socket::Data, 0, Packet::SyncUuid(0x7777_0000), None);
            let now = node.now + 500;
            node.advance_to(now);
        }
        Stage::Source => {
            meet(&mut node, Some(4));
            assert_eq!(node.core.volume(V).state().conn, Conn::WFBitMapS);
            let words = vec![0; (SECTORS / 64) as usize];
            let words = Some(Payload::whole(Arc::new(Buffer::from_bytes(&words))));
            node.deliver(Socket::Data, 0, Packet::Bitmap, words);
            node.deliver(Socket::Data, 0, Packet::Bitmap, None);
        }
    }
    let expected = match stage {
        Stage::Silence => Conn::WFReportParams,
        Stage::Idle | Stage::Writing => Conn::Connected,
        Stage::Target => Conn::SyncTarget,
        Stage::Source => Conn::SyncSource,
    };
    assert_eq!(node.core.volume(V).state().conn, expected, "{stage:?}: {:?}", node.log);
    node.sent.clear();
    node
}

/// A packet comes; what its fields make of the node is checked.
fn spoil(
    node: &mut Node,
    command: Command,
    socket: Socket,
    fixed: &[u8],
    bytes: usize,
) -> Result<(), String> {
    let context = Context { version: link().version, features: link().features, peer_integrity_len: 0 };
    let length = (fixed.len() + bytes) as u32;
    let header = Header { command: command.number(), volume: 0, length };
    let from = node.log.len();
    let decoded = Frame::new(header, socket, &context).and_then(|frame| frame.decode(fixed, &context));
    match decoded {
        Err(error) => {
            let line = error.to_string();
            return if names(&line, command) { Ok(()) } else { Err(format!("refused with: {line}")) };
        }
        Ok(incoming) => {
            if socket == Socket::Meta || node.core.receiver_ready() {
                node.deliver(socket, 0, incoming.packet, payload(0xee, bytes));
            }
        }
    }
    if node.is_up() {
        return Ok(());
    }
    let lines = &node.log[from..];
    // What was asked for by agreement needs no complaint.
    let agreed = matches!(command, Command::StateChangeRequest | Command::ConnectionStateChangeRequest);
    match agreed || lines.iter().any(|(_, line)| names(line, command)) {
        true => Ok(()),
        false => Err(format!("dropped with: {lines:?}")),
    }
}

/// Whatever happened, a decent peer is welcome.
fn recover(mut node: Node) -> Result<(), String> {
    for _ in 0..2 {
        node.command(Admin::Disconnect { force: true });
        node.command(Admin::ResumeIo { volume: V });
        let now = node.now + 100_000;
        node.advance_to(now);
    }
    node.connect(net());
    if !node.wants_link {
        return Err(format!("it does not connect any more: {:?}", node.core.connection_state()));
    }
    meet(&mut node, None);
    match node.core.volume(V).state().conn >= Conn::Connected || !node.is_up() {
        true => Ok(()),
        false => Err(format!("a decent peer is not welcome: {:?}", node.core.volume(V).state())),
    }
}

/// Values of a field of four bytes that mean trouble.
const FOURS: [u32; 6] = [0, 511, 0x7fff_ffff, 0x8000_0000, 0xffff_fe00, u32::MAX];
/// And of eight.
const EIGHTS: [u64; 4] = [SECTORS - 1, SECTORS, (1 << 54) - 1, u64::MAX];

#[test]
fn every_field_at_its_limits_and_beyond() {
    let mut failures = Vec::new();
    for command in Command::ALL {
        let Some((fixed, bytes)) = body(*command) else { continue };
        let mut bodies = vec![fixed.clone()];
        for at in (0..fixed.len().min(48)).step_by(4) {
            for value in FOURS {
                let mut other = fixed.clone();
                let end = (at + 4).min(other.len());
                other[at..end].copy_from_slice(&value.to_be_bytes()[..end - at]);
                bodies.push(other);
            }
            if at % 8 == 0 && at + 8 <= fixed.len() {
                for value in EIGHTS {
                    let mut other = fixed.clone();
                    other[at..at + 8].copy_from_slice(&value.to_be_bytes());
                    bodies.push(other);
                }
            }
        }
        for socket in sockets(*command) {
            for stage in STAGES {
                for (index, fixed) in bodies.iter().enumerate() {
                    let mut node = node_at(stage);
                    // Printed only if the test fails.
                    println!("{command:?} {stage:?} {fixed:02x?}");
                    let result = spoil(&mut node, *command, socket, fixed, bytes);
                    // That takes its time: where nothing seems to have happened, now and then.
                    let look = index % 16 == 0 || !node.is_up();
                    let result = result.and_then(|()| if look { recover(node) } else { Ok(()) });
                    if let Err(text) = result {
                        failures.push(format!("{command:?} {stage:?} {fixed:02x?}: {text}"));
                    }
                }
            }
        }
    }
    failures.dedup_by_key(|line| line[..line.len().min(60)].to_owned());
    assert!(failures.is_empty(), "{}\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_packet_again_and_again() {
    let mut failures = Vec::new();
    for command in Command::ALL {
        let Some((fixed, bytes)) = body(*command) else { continue };
        for socket in sockets(*command) {
            for stage in STAGES {
                let mut node = node_at(stage);
                let mut result = Ok(());
                for _ in 0..100 {
                    if !node.is_up() {
                        break;
                    }
                    result = result.and_then(|()| spoil(&mut node, *command, socket, &fixed, bytes));
                }
                // An answer to each at most, and what the node does of itself.
                assert!(node.sent.len() < 1000, "{command:?}: {} packets", node.sent.len());
                assert!(node.log.len() < 1000, "{command:?}: {} lines", node.log.len());
                if let Err(text) = result.and_then(|()| recover(node)) {
                    failures.push(format!("{command:?} {stage:?}: {text}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_packet_cut_short() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
    let address = listener.local_addr().expect("address");
    let context = Context::new(ProtocolVersion::MAX);
    for command in Command::ALL {
        let Some((packet, payload)) = sample(*command).filter(|_| command.carrier() != Carrier::None) else {
            continue;
        };
        let mut bytes = Vec::new();
        packet.encode_into(&mut bytes, 0, context.version, &[], payload);
        bytes.resize(bytes.len() + payload, 0xee);
        for socket in sockets(*command) {
            for cut in [0, 1, 15, 16, 17, bytes.len() - 1] {
                if cut >= bytes.len() {
                    continue;
                }
                let mut sender = TcpStream::connect(address).expect("connect");
                let (receiver, _) = listener.accept().expect("accept");
                let mut reader = PacketReader::new(Arc::new(receiver), socket, context);
                sender.write_all(&bytes[..cut]).expect("write");
                sender.shutdown(Shutdown::Write).expect("shutdown");
                match reader.receive() {
                    Err(error @ ReadError::Closed) => {
                        let (_, line) = error.failure(socket).log.expect("a line");
                        assert!(line.contains("shut down by peer"), "{line}");
                    }
                    // Some are refused by their header.
                    Err(ReadError::Malformed(error)) => {
                        assert!(names(&error.to_string(), *command), "{command:?}: {error}");
                    }
                    other => panic!("{command:?} cut at {cut}: {other:?}"),
                }
            }
        }
    }
}
