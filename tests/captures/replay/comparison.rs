//! What the core said beside what the recorded node said.

use super::beginning::bits_of;
use super::player::Replay;
use super::said::Said;
use super::Event;
use crate::captures::Side;
use crate::core_node::V;
use drbdbox::core::state::{Change, Conn, Disk, StateWord};
use drbdbox::core::types::Level;
use drbdbox::wire::*;
use std::collections::BTreeSet;

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

/// What differs from what the recorded node said, and what should not be there at the end, a line each.
pub(super) fn compare(replay: &mut Replay, events: &[Event]) -> Vec<String> {
    let (name, link, model) = (replay.name, replay.link, replay.model);
    let mut problems = std::mem::take(&mut replay.problems);
    let uuids = replay.uuids.clone();
    let bits = bits_of(events);
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
    // Who hears that the initial sync is skipped says what its disk is then; DRBD does not.
    let skips = |e: &Event| matches!(&e.packet, Packet::Uuids(uuids) if uuids.flags & 8 != 0);
    let skipped = events.iter().any(|e| e.from != model && skips(e));
    let good = |packet: &Packet| {
        let Packet::State(word) = packet else { return false };
        StateWord::from_bits(*word)
            .is_ok_and(|word| word.conn == Conn::Connected && word.disks() == "UpToDate/UpToDate")
    };
    let extra = replay.sent.iter().position(|s| good(&s.packet)).filter(|_| skipped);
    let said = Said::new(
        replay
            .sent
            .iter()
            .enumerate()
            .filter(|(i, _)| Some(*i) != extra)
            .map(|(_, s)| (&s.packet, s.payload.as_deref().unwrap_or(&[]))),
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
    check_end(replay, events, &mut problems);
    problems.iter_mut().for_each(|p| p.truncate(600));
    problems
}
