//! Makes the inputs in `tests/vectors/corpus` that the recordings and the other vectors give.
//!
//! ```text
//! cargo test --test captures make_corpus -- --ignored
//! ```

use crate::captures::{files, Capture, Decoded, Decoder, Link, Recorded, Side};
use drbdbox::control::frame;
use drbdbox::control::message::{Call, Request};
use drbdbox::meta::activity_log::{LogWriter, SlotUpdate};
use drbdbox::meta::counters::{layout_v07, BlockV07, Counters};
use drbdbox::meta::{Layout, LogGeometry, MetaFlags, MetaIndex, SuperBlock};
use drbdbox::wire::{Command, Packet, ProtocolVersion, Socket};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Longest packet that an input contains.
const PACKET_MAX: usize = 700;
/// Packets in an input for the core.
const CORE_PACKETS_MAX: usize = 120;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

/// Writes an input, under a name that tells where it is from.
fn put(target: &str, name: &str, bytes: &[u8]) {
    let directory = root().join("corpus").join(target);
    std::fs::create_dir_all(&directory).expect("directory");
    std::fs::write(directory.join(name.replace('/', "-")), bytes).expect("input");
}

/// What `fuzz_targets` makes a version of.
fn version_byte(version: ProtocolVersion) -> u8 {
    let all: Vec<ProtocolVersion> = ProtocolVersion::all().collect();
    (all.len() - 1 - all.iter().position(|other| *other == version).expect("version")) as u8
}

fn take_apart(link: &Link) -> Vec<(&Recorded, Decoded)> {
    let mut decoders = [Decoder::new(link), Decoder::new(link)];
    link.packets.iter().map(|packet| (packet, decoders[packet.from as usize].decode(packet))).collect()
}

fn is_first(packet: &Packet) -> bool {
    matches!(packet, Packet::InitialData | Packet::InitialMeta | Packet::ConnectionFeatures(_))
}

/// A version, with features and digest or without, and a packet type.
type Kind = (ProtocolVersion, u32, usize, u16);

/// One packet of each type, as it came from a socket, if one of them is new.
fn packets(name: &str, link: &Link, known: &mut BTreeSet<Kind>) {
    for side in [Side::A, Side::B] {
        for socket in [Socket::Data, Socket::Meta] {
            let mut integrity = 0;
            let mut seen = BTreeSet::new();
            let mut bytes = Vec::new();
            for (recorded, decoded) in take_apart(link) {
                let short = recorded.bytes.len() <= PACKET_MAX;
                if (recorded.from, recorded.socket) != (side, socket) || is_first(&decoded.packet) || !short {
                    continue;
                }
                if matches!(decoded.packet, Packet::Data(_)) {
                    integrity = decoded.digest.len();
                }
                if seen.insert(decoded.header.command) {
                    bytes.extend_from_slice(&recorded.bytes);
                }
            }
            let digest = [0, 4, 16, 20].iter().position(|len| *len == integrity).expect("digest") as u8;
            let options = link.features.0 as u8 & 15 | digest << 4 | (socket as u8) << 6;
            let kinds: BTreeSet<Kind> =
                seen.iter().map(|number| (link.version, link.features.0, integrity, *number)).collect();
            if !kinds.is_subset(known) {
                known.extend(kinds);
                let input = [vec![version_byte(link.version), options], bytes].concat();
                put("packets", &format!("{name}-{side:?}-{socket}"), &input);
            }
        }
    }
}

fn bitmaps(name: &str, link: &Link, bits: u32, known: &mut BTreeSet<Vec<u8>>) {
    for side in [Side::A, Side::B] {
        let mut input = vec![version_byte(link.version)];
        input.extend(bits.to_le_bytes());
        let empty = input.len();
        for (recorded, decoded) in take_apart(link) {
            let kind = match decoded.packet {
                Packet::CompressedBitmap => 0,
                Packet::Bitmap => 1,
                _ => continue,
            };
            if recorded.from == side {
                input.push(kind);
                input.extend((decoded.payload.len() as u16).to_le_bytes());
                input.extend(&decoded.payload);
            }
        }
        if input.len() > empty && known.insert(input.clone()) {
            put("bitmap", &format!("{name}-{side:?}"), &input);
        }
    }
}

fn handshake(name: &str, link: &Link) {
    for side in [Side::A, Side::B] {
        let mut input = Vec::new();
        for (recorded, decoded) in take_apart(link) {
            let wanted = is_first(&decoded.packet)
                || matches!(decoded.packet, Packet::AuthChallenge(_) | Packet::AuthResponse(_));
            if recorded.from == side && recorded.socket == Socket::Data && wanted {
                input.extend(&recorded.bytes);
            }
        }
        put("handshake", &format!("{name}-{side:?}"), &input);
    }
}

/// What one side sent, and between it the writes of the other, for the core.
fn core(name: &str, link: &Link) {
    for peer in [Side::A, Side::B] {
        // In sync, Secondary or (if the other side wrote) Primary.
        let writes = take_apart(link)
            .iter()
            .any(|(recorded, decoded)| recorded.from != peer && matches!(decoded.packet, Packet::Data(_)));
        let created = take_apart(link).iter().any(|(recorded, decoded)| {
            recorded.from != peer && matches!(&decoded.packet, Packet::Uuids(uuids) if uuids.current == 4)
        });
        let mut input = vec![version_byte(link.version)];
        input.push(u8::from(created) * 2 + u8::from(writes) * 4 + u8::from(name.contains("csums")) * 8);
        let mut packets = 0;
        for (recorded, decoded) in take_apart(link) {
            if is_first(&decoded.packet) || packets == CORE_PACKETS_MAX {
                continue;
            }
            let header = if recorded.bytes[0] == 0x86 { 16 } else { 8 };
            let fixed = recorded.bytes.len() - header - decoded.payload.len() - decoded.digest.len();
            let length = decoded.header.length as usize - decoded.digest.len();
            if recorded.from == peer {
                if length > usize::from(u16::MAX) || matches!(decoded.packet, Packet::AuthChallenge(_)) {
                    continue;
                }
                packets += 1;
                input.push(recorded.socket as u8);
                input.push(decoded.header.command as u8);
                input.extend((length as u16).to_le_bytes());
                input.extend(&recorded.bytes[header..header + fixed]);
                if matches!(decoded.packet, Packet::Bitmap | Packet::CompressedBitmap) {
                    input.extend(&decoded.payload);
                }
                // What the core has sent is answered now and then.
                input.extend([80, 0]);
            } else if let Packet::Data(data) = &decoded.packet {
                input.extend([160, 0x60 | 3]);
                input.extend((data.sector as u16).to_le_bytes());
                input.extend([80, 0]);
            }
        }
        put("core", &format!("{name}-{peer:?}"), &input);
    }
}

#[test]
#[ignore = "writes tests/vectors/corpus"]
fn make_corpus() {
    let (mut versions, mut kinds, mut maps) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for path in files() {
        let capture = Capture::read(&path);
        let bits = if capture.name.contains("versions") { 1526 } else { 4086 };
        for (index, link) in capture.links.iter().enumerate() {
            let name = format!("{}-{index}", capture.name);
            bitmaps(&name, link, bits, &mut maps);
            // One of each kind of link is enough.
            let authenticates = link.packets.iter().any(|packet| {
                crate::captures::command_number(&packet.bytes) == Command::AuthChallenge.number()
            });
            if versions.insert((link.version, authenticates, capture.name.starts_with("drbd9"))) {
                handshake(&name, link);
            }
            packets(&name, link, &mut kinds);
            if index < 2 {
                core(&name, link);
            }
        }
    }
    for entry in std::fs::read_dir(root().join("drbdadm")).expect("drbdadm") {
        let directory = entry.expect("entry").path();
        let Ok(bytes) = std::fs::read(directory.join("drbd.conf")) else { continue };
        let name = directory.file_name().expect("name").to_string_lossy().into_owned();
        if bytes.len() < 3000 && !bytes.windows(7).any(|word| word == b"include") {
            put("conf", &name, &bytes);
        }
    }
    let layouts = [
        ("internal", Layout::new(MetaIndex::Internal, 1 << 30, LogGeometry::CLASSIC)),
        ("flexible", Layout::new(MetaIndex::FlexExternal, 1 << 20, LogGeometry::CLASSIC)),
    ];
    for (name, layout) in layouts {
        let layout = layout.expect("layout");
        put("super_block", name, &SuperBlock::just_created(&layout).encode());
    }
    for (name, block_bytes) in [("83", 512), ("84", 4096)] {
        let mut writer = LogWriter::new(LogGeometry::CLASSIC, 61, block_bytes);
        let mut area = writer.initial_area().to_vec();
        for number in 0..3 {
            let updates = [SlotUpdate { slot: number, extent: number * 7 }];
            let write = writer.transaction(&updates).expect("transaction");
            let at = write.offset as usize;
            area[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
        }
        put("activity_log", name, &[[2_u8, 0, 61, 0].as_slice(), &area].concat());
    }
    for (name, index, is_fixed) in
        [("v07", MetaIndex::Internal, false), ("v07-fixed", MetaIndex::Internal, true)]
    {
        let layout = layout_v07(index, is_fixed, 1 << 30).expect("layout");
        put("super_block", name, &BlockV07::just_created(&layout).encode());
    }
    let counters = Counters { flags: MetaFlags(7), counts: [2, 3, 4, 5] };
    put("super_block", "v06", &counters.encode_v06());
    for (file, format, end) in [
        ("06-dump-and-restore.txt", "v08", Some("bm {")),
        ("04-overwrite-and-conversion.txt", "v07", Some("bm {")),
        ("14-8.3.9-and-v06.txt", "v06", None),
    ] {
        let text = std::fs::read_to_string(root().join("metadata").join(file)).expect("vectors");
        let start = format!("version \"{format}\";");
        for (index, part) in text.split(&start).skip(1).take(12).enumerate() {
            // Up to the brace behind the bitmap, or behind the counters.
            let from = end.map_or(0, |end| part.find(end).unwrap_or(0));
            let end = part[from..].find('}').map_or(part.len(), |at| from + at + 1);
            put("dump", &format!("{format}-{index}"), format!("{start}{}\n", &part[..end]).as_bytes());
        }
    }
    let calls = [
        ("detach", Call::new(Request::Detach { minor: 0, force: false })),
        ("new-minor", Call::new(Request::NewMinor { resource: "r0".into(), minor: 1, volume: 0 })),
        ("delete", Call::new(Request::DeleteResource { name: "r0".into() })),
    ];
    for (name, call) in calls {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, &call).expect("call");
        put("control", name, &bytes);
    }
}
