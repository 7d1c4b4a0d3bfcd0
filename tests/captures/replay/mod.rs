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

mod beginning;
mod comparison;
mod model;
mod player;
mod said;

use self::beginning::{after, content};
use self::comparison::compare;
use self::player::Replay;
use crate::captures::{files, Capture, Decoder, Link, Side};
use crate::core_node::V;
use drbdbox::core::types::Payload;
use drbdbox::sys::buffer::Buffer;
use drbdbox::wire::*;
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

/// What a replay came to.
#[derive(Default)]
pub struct Outcome {
    pub packets: usize,
    pub problems: Vec<String>,
}

/// Plays the peer's side of a link. `None`: the link came to nothing.
pub fn replay(name: &str, link: &Link, model: Side, image: &[u8]) -> Option<Outcome> {
    let events = events(name, link, model);
    let mut disk = image.to_vec();
    content(&events, model, &mut disk);
    let mut replay = Replay::new(name, link, model, &events, &disk)?;
    replay.run(&events);
    let problems = compare(&mut replay, &events);
    let state = replay.node.core.volume(V).state();
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
