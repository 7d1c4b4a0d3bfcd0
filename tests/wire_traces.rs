//! Packets that the kernel module sent or accepted, decoded and encoded again.
//! spec/wire-traces.md; the recording is `tests/vectors/wire/traces.txt`.

use drbdbox::wire::{
    handshake, Command, Context, Digest, Features, FeaturesPacket, Frame, Framing, Header, Packet,
    ProtocolVersion, Socket,
};

const TRACES: &str = include_str!("vectors/wire/traces.txt");

/// One line of the recording.
struct Recorded<'a> {
    line: &'a str,
    socket: Socket,
    name: &'a str,
    bytes: Vec<u8>,
    /// What the recorder says of the packet.
    comment: &'a str,
    /// Whether the payload at the end was not recorded, and is zeroes here.
    payload_unknown: bool,
}

fn hex(text: &str) -> impl Iterator<Item = u8> + '_ {
    (0..text.len()).step_by(2).map(move |i| u8::from_str_radix(&text[i..i + 2], 16).expect("hexadecimal"))
}

impl Recorded<'_> {
    fn parse(line: &str) -> Recorded<'_> {
        let (packet, comment) = line.split_once("   ;").unwrap_or((line, ""));
        let mut words = packet.split_whitespace().skip(1);
        let socket = match words.next() {
            Some("D") => Socket::Data,
            Some("M") => Socket::Meta,
            _ => panic!("{line}"),
        };
        let name = words.next().expect("name");
        let mut bytes = Vec::new();
        let mut payload_unknown = false;
        for word in words {
            let word = word.trim_matches(|c| c == '[' || c == ']');
            if let Some(len) = word.strip_prefix('<') {
                let len: usize = len.trim_end_matches('>').parse().expect("length");
                bytes.resize(bytes.len() + len, 0);
                payload_unknown = true;
            } else if let Some((byte, count)) = word.split_once('*') {
                let byte = u8::from_str_radix(byte, 16).expect("byte");
                let count: usize = count.parse().expect("count");
                bytes.resize(bytes.len() + count, byte);
            } else if word != ":" && word != "|" {
                bytes.extend(hex(word));
            }
        }
        Recorded { line, socket, name, bytes, comment, payload_unknown }
    }
}

/// Calls `check` with each packet of the recording; gives their number.
fn each_packet(mut check: impl FnMut(&Recorded<'_>, &Context, Option<Digest>)) -> usize {
    let mut context = Context::new(ProtocolVersion::MAX);
    let mut integrity = None;
    let mut packets = 0;
    for line in TRACES.lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(settings) = line.strip_prefix("= ") {
            let settings: Vec<&str> = settings.split(' ').collect();
            let number = settings[0].parse().expect("version");
            context = Context::new(ProtocolVersion::new(number).expect("version"));
            context.features = Features(u32::from_str_radix(settings[1], 16).expect("features"));
            integrity = Digest::by_name(settings[2]);
            context.peer_integrity_len = integrity.map_or(0, Digest::len);
            continue;
        }
        check(&Recorded::parse(line), &context, integrity);
        packets += 1;
    }
    packets
}

fn is_of_the_handshake(name: &str) -> bool {
    name.starts_with("P_INITIAL") || name == "P_CONNECTION_FEATURES"
}

/// The numbers that the recorder's comment gives must be in what was decoded.
fn check_comment(recorded: &Recorded<'_>, packet: &Packet) {
    let decoded = format!("{packet:?}");
    for part in recorded.comment.split([' ', ',']).filter(|p| p.contains('=')) {
        let field = match part.split_once('=') {
            Some(("d", value)) => format!("d_size: {value},"),
            Some(("u", value)) => format!("u_size: {value},"),
            Some(("c", value)) => format!("c_size: {value},"),
            Some(("max_bio", value)) => format!("max_bio_size: {value},"),
            Some(("dirty", value)) => format!("dirty_bits: {value},"),
            _ => continue,
        };
        assert!(decoded.contains(&field), "{field} {decoded} {}", recorded.line);
    }
    for part in recorded.comment.split(", ") {
        let field = match part.trim().split_once(' ') {
            Some(("sector", value)) => format!("sector: {value},"),
            Some(("size", value)) => format!("size: {value}"),
            Some(("seq", value)) => format!("seq: {value}"),
            Some(("count", value)) => format!("set_size: {value} "),
            Some(("result", value)) => format!("Reply({value})"),
            Some(("rate", value)) => format!("rate: {value},"),
            Some(("integrity", value)) => format!("integrity_alg: {value} "),
            Some(("in", "sync")) => "in_sync: true".to_string(),
            Some(("out", "of sync")) => "in_sync: false".to_string(),
            _ => continue,
        };
        assert!(decoded.contains(&field), "{field} {decoded} {}", recorded.line);
    }
}

#[test]
fn recorded_packets_are_understood_and_reproduced() {
    let packets = each_packet(|recorded, context, integrity| {
        let line = recorded.line;
        let of_handshake = is_of_the_handshake(recorded.name);
        let framing = match of_handshake {
            true => Framing::First,
            false => context.framing(),
        };
        let (head, rest) = recorded.bytes.split_at(framing.header_len());
        let header = Header::decode(framing, head).expect(line);
        assert_eq!(header.length as usize, rest.len(), "{line}");
        let command = Command::from_number(header.command).expect(line);
        assert_eq!(command.constant(), recorded.name);

        let (packet, digest, payload_len) = match command {
            Command::InitialData => (Packet::InitialData, vec![], 0),
            Command::InitialMeta => (Packet::InitialMeta, vec![], 0),
            Command::ConnectionFeatures => {
                handshake::expect_features(&header).expect(line);
                let features = FeaturesPacket::parse(rest.try_into().expect(line)).expect(line);
                (Packet::ConnectionFeatures(features), vec![], 0)
            }
            _ => {
                let frame = Frame::new(header, recorded.socket, context).expect(line);
                let (fixed, payload) = rest.split_at(frame.fixed_len);
                let incoming = frame.decode(fixed, context).expect(line);
                assert_eq!(frame.payload_len, payload.len(), "{line}");
                if let (Some(digest), false) = (integrity, incoming.digest.is_empty()) {
                    assert_eq!(digest.compute(payload), incoming.digest, "{line}");
                }
                (incoming.packet, incoming.digest.to_vec(), payload.len())
            }
        };
        assert_eq!(packet.socket(), recorded.socket, "{line}");
        check_comment(recorded, &packet);

        let mut encoded = Vec::new();
        packet.encode_into(&mut encoded, header.volume, context.version, &digest, payload_len);
        let mut expected = recorded.bytes[..recorded.bytes.len() - payload_len].to_vec();
        if command == Command::OutOfSync {
            // The kernel leaves the padding uninitialised.
            let padding = expected.len() - 4;
            expected[padding..].fill(0);
        }
        assert_eq!(encoded, expected, "{line}");
        assert!(!recorded.payload_unknown || payload_len > 0, "{line}");
    });
    assert_eq!(packets, 312);
}

/// Section 1: both nodes prove that they know the secret.
#[test]
fn the_recorded_responses_are_right() {
    use drbdbox::wire::auth::Authenticator;

    let auth = Authenticator::new("sha1", "secret string").expect("sha1");
    let (mut challenges, mut responses) = (Vec::new(), Vec::new());
    each_packet(|recorded, context, _| {
        let body = recorded.bytes.get(context.version.header_len()..);
        match recorded.name {
            "P_AUTH_CHALLENGE" => challenges.push(body.expect("challenge").to_vec()),
            "P_AUTH_RESPONSE" => responses.push(body.expect("response").to_vec()),
            _ => {}
        }
    });
    assert_eq!((challenges.len(), responses.len()), (4, 4));
    for (challenges, responses) in challenges.chunks(2).zip(responses.chunks(2)) {
        // Each node answers the challenge of the other.
        assert_eq!(auth.verify(&challenges[1], &responses[0]), Ok(()));
        assert_eq!(auth.verify(&challenges[0], &responses[1]), Ok(()));
        assert!(auth.verify(&challenges[0], &responses[0]).is_err());
    }
}

/// Sections 1 to 3: what both nodes announced leads to the version of the section.
#[test]
fn the_recorded_features_lead_to_the_version() {
    let mut pending: Option<FeaturesPacket> = None;
    let mut agreements = 0;
    each_packet(|recorded, context, _| {
        if recorded.name != "P_CONNECTION_FEATURES" {
            return;
        }
        let body = recorded.bytes[8..].try_into().expect("72 bytes");
        let packet = FeaturesPacket::parse(body).expect("features");
        match pending.take() {
            None => pending = Some(packet),
            Some(first) => {
                let max = ProtocolVersion::new(first.protocol_max).expect("version");
                let agreement = handshake::Offer::up_to(max).agree(&packet).expect("agreement");
                assert_eq!(agreement.version, context.version);
                agreements += 1;
            }
        }
    });
    assert_eq!(agreements, 6);
}
