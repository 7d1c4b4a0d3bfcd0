//! Every recorded packet is decoded and encoded again, byte for byte.

use crate::captures::{command_number, files, Capture, Decoder, Recorded, Side};
use drbdbox::wire::auth::Authenticator;
use drbdbox::wire::{Command, Packet};
use std::collections::BTreeMap;

/// The bytes of a packet, with zeros where its sender left what was in its memory, or put what means nothing to
/// the receiver. All else must come out of the encoder as it went into the decoder.
fn canonical(recorded: &Recorded, payload: usize) -> Vec<u8> {
    let mut bytes = recorded.bytes[..recorded.bytes.len() - payload].to_vec();
    let command = Command::from_number(command_number(&bytes)).expect("known");
    let long_header = bytes[0] == 0x86;
    let body = if long_header { 16 } else { 8 };
    if long_header && command.scope() == drbdbox::wire::command::Scope::Connection {
        // DRBD 9 names volume 65535, and P_UNPLUG_REMOTE of 8.4 any. spec/wire.md 2.3.
        bytes[4..6].fill(0);
    }
    match command {
        // Node ids of DRBD 9. spec/wire.md 3.1.
        Command::ConnectionFeatures => bytes[body + 12..body + 20].fill(0),
        // Padding that 8.4 and DRBD 9 leave uninitialised.
        Command::OutOfSync => bytes[body + 12..body + 16].fill(0),
        Command::DataRequest | Command::RsDataRequest | Command::OvRequest | Command::CsumRsRequest => {
            bytes[body + 20..body + 24].fill(0);
        }
        _ => {}
    }
    bytes
}

#[test]
fn every_recorded_packet_is_reproduced() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut links = 0;
    for path in files() {
        let capture = Capture::read(&path);
        let name = &capture.name;
        // What came to nothing has only first packets.
        for stray in &capture.strays {
            let command = Command::from_number(command_number(&stray.bytes)).expect("known");
            assert!(matches!(command, Command::InitialData | Command::InitialMeta), "{name} {command:?}");
        }
        links += capture.links.len();
        for link in &capture.links {
            let mut decoders = [Decoder::new(link), Decoder::new(link)];
            for recorded in &link.packets {
                let decoded = decoders[recorded.from as usize].decode(recorded);
                let decoder = &decoders[recorded.from as usize];
                let what = format!("{name} at {} us: {:?}", recorded.time, decoded.packet);
                assert_eq!(decoded.packet.socket(), recorded.socket, "{what}");
                if let (Some(digest), false) = (decoder.integrity, decoded.digest.is_empty()) {
                    assert_eq!(*digest.compute(&decoded.payload), *decoded.digest, "{what}");
                }
                let mut encoded = Vec::new();
                let (volume, payload) = (decoded.header.volume, decoded.payload.len());
                decoded.packet.encode_into(&mut encoded, volume, link.version, &decoded.digest, payload);
                assert_eq!(encoded, canonical(recorded, payload), "{what}");
                *counts.entry(decoded.packet.command(link.version).constant()).or_default() += 1;
            }
        }
    }
    let total: usize = counts.values().sum();
    println!("{links} links, {total} packets: {counts:?}");
    assert_eq!((links, total, counts.len()), (107, 108_256, 43));
}

/// Each node proves that it knows the secret; those whose secrets differ do not.
#[test]
fn the_recorded_responses_are_right() {
    let mut proofs = 0;
    for path in files() {
        let capture = Capture::read(&path);
        for (index, link) in capture.links.iter().enumerate() {
            let mut challenges: [Option<Vec<u8>>; 2] = [None, None];
            let mut responses: [Option<Vec<u8>>; 2] = [None, None];
            let mut decoder = Decoder::new(link);
            for recorded in link.packets.iter().take(12) {
                match decoder.decode(recorded).packet {
                    Packet::AuthChallenge(bytes) => challenges[recorded.from as usize] = Some(bytes),
                    Packet::AuthResponse(bytes) => responses[recorded.from as usize] = Some(bytes),
                    _ => {}
                }
            }
            for side in [Side::A, Side::B] {
                let (Some(challenge), Some(response)) =
                    (&challenges[side.other() as usize], &responses[side as usize])
                else {
                    continue;
                };
                let algorithm = if capture.name.ends_with("md5") { "md5" } else { "sha1" };
                let differ = capture.name.ends_with("auth") && index == 0;
                let secret = match (differ, side) {
                    (false, _) => "FooFunFactory",
                    (true, Side::A) => "wrong on a",
                    (true, Side::B) => "wrong on b",
                };
                let verify = |secret| {
                    let authenticator = Authenticator::new(algorithm, secret).expect("algorithm");
                    authenticator.verify(challenge, response)
                };
                assert_eq!(verify(secret), Ok(()), "{} {side:?}", capture.name);
                assert!(verify("another").is_err());
                proofs += 1;
            }
        }
    }
    assert_eq!(proofs, 102);
}
