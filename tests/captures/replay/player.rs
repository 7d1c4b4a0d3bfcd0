//! The core in the place of the recorded node: it gets the peer's packets, and does what the model did.

use super::beginning::{first, meta_of, policy, speeds};
use super::said::blocks;
use super::{payload_of, range_of, Event};
use crate::captures::{Link, Side};
use crate::core_node::{Node, Sent, V};
use drbdbox::conf::settings::{DiskSettings, NetSettings, OnCongestion, OnIoError, Protocol as Mode};
use drbdbox::conf::Dialect;
use drbdbox::core::state::{Disk, Role, StateWord};
use drbdbox::core::types::{Command, Link as CoreLink};
use drbdbox::wire::*;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// A replay under way.
pub(super) struct Replay<'a> {
    pub(super) name: &'a str,
    pub(super) link: &'a Link,
    pub(super) model: Side,
    pub(super) node: Node,
    /// What the core has sent, and was taken out of the node.
    pub(super) sent: Vec<Sent>,
    /// Recorded packets of the peer that the core has not got yet: data, meta.
    pub(super) queues: [VecDeque<Event>; 2],
    /// The model's request that has a block id now.
    pub(super) newest: HashMap<u64, usize>,
    /// The core's block ids of the model's requests.
    pub(super) ids: HashMap<usize, u64>,
    /// Requests of the model that the core has not sent yet: number, sector, bytes.
    pub(super) unsent: VecDeque<(usize, u64, u32)>,
    /// Requests of the model so far.
    pub(super) requests: usize,
    /// Epoch of each request of the model; reads have none.
    pub(super) epochs: Vec<Option<usize>>,
    /// Writes of the model that were not given to the core yet, by epoch.
    pub(super) to_come: Vec<usize>,
    /// Barrier numbers of the model in the order of its barriers, and those of the core.
    pub(super) barriers: [Vec<u32>; 2],
    /// Resync requests of the core that are not answered.
    pub(super) requested: BTreeMap<u64, u32>,
    /// Answers of the peer to the model's resync requests that the core has not asked for yet.
    pub(super) pool: Vec<Event>,
    /// Digests for a verify that the core has not asked for yet.
    pub(super) digests: Vec<Event>,
    /// Blocks of the pool that the core has got.
    pub(super) answered: BTreeSet<u64>,
    /// P_SYNC_UUID: of the model, of the core.
    pub(super) sync_uuids: [usize; 2],
    /// Sectors of resync answers and verify requests or replies that the core has sent.
    pub(super) replied: BTreeMap<u64, usize>,
    pub(super) verifies: BTreeMap<u64, usize>,
    /// Change requests that the core waits for an answer to.
    pub(super) changes: usize,
    /// Generations: the model's and the core's.
    pub(super) uuids: HashMap<u64, u64>,
    pub(super) said_uuids: [Vec<Vec<u64>>; 2],
    pub(super) delivered: usize,
    pub(super) last_state: Option<StateWord>,
    pub(super) disconnecting: bool,
    pub(super) problems: Vec<String>,
}

/// Why a packet of the peer must wait.
enum Wait {
    /// For the core's timers.
    Time,
    /// For something that the model does later.
    Model,
}

impl<'a> Replay<'a> {
    /// The core with all that the model had, before the link.
    pub(super) fn new(
        name: &'a str,
        link: &'a Link,
        model: Side,
        events: &[Event],
        image: &[u8],
    ) -> Option<Replay<'a>> {
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
    pub(super) fn take_sent(&mut self) {
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
    pub(super) fn learn_uuids(&mut self, whose: usize, uuids: Vec<u64>) {
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

    pub(super) fn core_uuid(&self, uuid: u64) -> u64 {
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
    pub(super) fn drain(&mut self, answers: bool) {
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
    pub(super) fn pass_time(&mut self) {
        let next = self.node.core.next_timeout().unwrap_or(u64::MAX).min(self.node.now + 50);
        self.node.advance_to(next.max(self.node.now + 1));
        self.take_sent();
    }

    pub(super) fn give(&mut self, event: Event, packet: Packet) {
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
    pub(super) fn answer_verify(&mut self) -> bool {
        let asked = |event: &Event| matches!(&event.packet, Packet::OvReply(r) if self.verifies.contains_key(&r.sector));
        let Some(at) = self.digests.iter().position(asked) else { return false };
        let event = self.digests.remove(at);
        let packet = event.packet.clone();
        self.give(event, packet);
        true
    }

    /// Answers a resync request of the core from what the peer has answered the model. Sizes of the requests may
    /// differ, which the speed controller decides; the content of every block is what the peer sent. True: it had one.
    pub(super) fn answer(&mut self) -> bool {
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

    pub(super) fn run(&mut self, events: &[Event]) {
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
