//! The two nodes, the cable between them, the operators; one event after the other.

use crate::application::{Kind, Request};
use crate::disk::{tag_of, tagged, Work, SECTOR};
use crate::judge::Judge;
use crate::network::{Connection, Item};
use crate::node::{disk_work, Node, Outgoing, Purpose, V};
use crate::script::{Parameters, Random};
use drbdbox::conf::settings::{OnIoError, Protocol};
use drbdbox::core::state::{Conn, Disk, Role, StateWord};
use drbdbox::core::types::*;
use drbdbox::wire::Socket;

/// One thing that can happen next.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A packet goes from the daemon to TCP.
    Push(usize, Socket),
    /// The daemon hears that a packet is in TCP's hands.
    Notify(usize),
    /// A packet, or the end of the stream, reaches a daemon.
    Deliver(usize, Socket),
    Disk(usize),
    Helper(usize),
    Timer(usize),
    /// The engine has closed the link.
    LinkClosed(usize),
    /// The two connectors find each other.
    Establish,
    /// A daemon is told of its sockets.
    Tell(usize),
    Submit(usize),
    /// The application closed its device: the demotion begins.
    Demote(usize),
    Operator,
    Fault,
    /// Time passes.
    Time,
}

pub struct World {
    pub p: Parameters,
    pub random: Random,
    pub now: Millis,
    pub step: u64,
    pub nodes: [Node; 2],
    pub judge: Judge,
    pub connection: Option<Connection>,
    pub cable: bool,
    pub healing: bool,
    /// The node that has data the other lacks; only it may be promoted alone.
    pub authority: Option<usize>,
    /// Who was Primary last.
    last_primary: Option<usize>,
    /// The nodes met a limit of the protocol that they speak.
    pub given_up: bool,
    /// When each node saw no good data last.
    pub without_data: [u64; 2],
    /// A handshake found bits and equal generations, and no resync has begun since.
    pub bits_without_resync: bool,
    /// A Primary crashed whose own disk did not count, and protocol A let it acknowledge what the peer never got.
    pub lost_on_the_way: bool,
    /// A disk of the node failed.
    failed_disks: [bool; 2],
    trace: bool,
    /// The expensive checks run at every step.
    pub closely: bool,
    next_token: Token,
    next_write: u64,
    /// When operators look next, while healing.
    next_look: Millis,
    pub stats: Stats,
}

#[derive(Debug, Default, Clone, Copy)]
pub struct Stats {
    pub crashes: u64,
    pub power_cuts: u64,
    pub links: u64,
    pub resyncs: u64,
    pub promotions: u64,
    pub errors: u64,
}

impl World {
    pub fn new(seed: u64, trace: bool) -> World {
        let mut random = Random::new(seed);
        let p = Parameters::new(&mut random);
        if trace {
            eprintln!("{p:#?}");
        }
        let mut nodes = [Node::new(0, &p), Node::new(1, &p)];
        let mut judge = Judge::default();
        for _ in 0..60 {
            let first = random.below(p.sectors - 64);
            for sector in first..first + 1 + random.below(40) {
                let junk = |node: u64| (node + 1) << 56 | sector;
                for (index, node) in nodes.iter_mut().enumerate() {
                    let tag = if p.begins_in_sync { junk(0) } else { junk(index as u64) };
                    if p.begins_in_sync || random.chance(60) {
                        node.disk.data.write(sector, tag);
                    }
                }
                judge.initial(sector, *nodes[0].disk.data.read(sector));
            }
        }
        for node in &mut nodes {
            let point = node.disk.data.flush_begins();
            node.disk.data.flush_ends(point);
        }
        World {
            p,
            random,
            now: 1000,
            step: 0,
            nodes,
            judge,
            connection: None,
            cable: true,
            healing: false,
            authority: None,
            last_primary: None,
            given_up: false,
            without_data: [0; 2],
            bits_without_resync: false,
            lost_on_the_way: false,
            failed_disks: [false; 2],
            trace,
            closely: std::env::var_os("SIM_CLOSELY").is_some(),
            next_token: 1,
            next_write: 1,
            next_look: 0,
            stats: Stats::default(),
        }
    }

    pub fn say(&self, text: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>6} {:>8} {}", self.step, self.now, text());
        }
    }

    /// The whole run.
    pub fn run(&mut self) {
        for n in 0..2 {
            self.start(n);
        }
        if !self.p.begins_in_sync {
            self.first_sync();
        }
        for _ in 0..self.p.chaos_steps {
            self.one_event();
        }
        self.heal();
    }

    /// Fresh meta data: one node is made Primary by force, once both are connected.
    fn first_sync(&mut self) {
        self.until("connected", 60_000, |world| {
            world.nodes.iter().all(|node| node.state().is_some_and(|s| s.conn == Conn::Connected))
        });
        let n = self.random.below(2) as usize;
        if n == 1 {
            let nodes = &self.nodes;
            let disk = &nodes[1].disk;
            self.judge.rebase(0, |sector| disk.possible(sector), |sector| disk.data.versions(sector));
        }
        self.promote(n, true);
        // The rest of the first sync is part of the chaos, sometimes.
        if self.random.chance(50) {
            self.until("first sync", 2_000_000, |world| world.at_rest());
        } else {
            self.until("promoted", 60_000, |world| world.nodes[n].application.open);
        }
    }

    fn until(&mut self, what: &str, limit: Millis, done: impl Fn(&World) -> bool) {
        let end = self.now + limit;
        self.healing = true;
        while !done(self) {
            assert!(self.now < end, "{what}: not reached; {}", self.summary());
            self.one_event();
        }
        self.healing = false;
    }

    pub fn summary(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            match &node.daemon {
                None => text += &format!("\n  node {}: down", node.index),
                Some(daemon) => {
                    let volume = daemon.core.volume(V);
                    text += &format!(
                        "\n  node {}: {} link={} ready={} oos={} {:?} ep={} in flight {} jobs {} asked {:?} next timeout {:?} {}",
                        node.index,
                        volume.state(),
                        daemon.core.link().is_some(),
                        daemon.core.receiver_ready(),
                        volume.out_of_sync_bits(),
                        volume.counters(),
                        daemon.core.epochs(),
                        node.application.in_flight.len(),
                        node.disk.jobs.len(),
                        daemon.asked,
                        daemon.core.next_timeout(),
                        volume.disk().map_or(String::new(), |disk| {
                            let bits = std::iter::successors(disk.bitmap.next_set(0), |bit| disk.bitmap.next_set(bit + 1));
                            let bits: Vec<u64> = bits.take(8).collect();
                            format!("{} bits {bits:?}", disk.uuids)
                        }),
                    );
                }
            }
        }
        text + &format!("\n  now {} cable {} authority {:?}", self.now, self.cable, self.authority)
    }

    fn state(&self, n: usize) -> Option<StateWord> {
        self.nodes[n].state()
    }

    // ---- events ----

    fn one_event(&mut self) {
        self.step += 1;
        let mut events: Vec<(Event, u64)> = Vec::with_capacity(24);
        let mut urgent = false;
        for n in 0..2 {
            let Some(daemon) = &self.nodes[n].daemon else { continue };
            let open = self.connection.as_ref().filter(|c| c.open[n] && c.told[n]);
            for socket in [Socket::Data, Socket::Meta] {
                if open.is_some() && !daemon.outbox[socket as usize].is_empty() {
                    events.push((Event::Push(n, socket), 60));
                }
                let may_read = match socket {
                    Socket::Data => daemon.core.receiver_ready(),
                    Socket::Meta => daemon.core.link().is_some(),
                };
                let waits = open.is_some_and(|c| !c.to[n][socket as usize].is_empty());
                if waits && may_read && self.cable {
                    events.push((Event::Deliver(n, socket), 60));
                }
            }
            if !daemon.notifies.is_empty() {
                events.push((Event::Notify(n), 30));
            }
            if self.nodes[n].disk.jobs.iter().any(|job| job.due <= self.now) {
                events.push((Event::Disk(n), 80));
            }
            if !daemon.helpers.is_empty() {
                events.push((Event::Helper(n), 10));
            }
            if daemon.core.next_timeout().is_some_and(|time| time <= self.now) {
                events.push((Event::Timer(n), 100));
            }
            if daemon.closing {
                events.push((Event::LinkClosed(n), 20));
            }
            let untold = self.connection.as_ref().is_some_and(|c| c.open[n] && !c.told[n]);
            if untold && daemon.connecting && !daemon.closing {
                events.push((Event::Tell(n), 30));
            }
            let application = &self.nodes[n].application;
            if application.closing && application.in_flight.is_empty() {
                events.push((Event::Demote(n), 50));
            }
        }
        if self.connectors_meet() {
            events.push((Event::Establish, 20));
        }
        urgent |= !events.is_empty();
        if !self.healing {
            for n in 0..2 {
                let application = &self.nodes[n].application;
                if application.open
                    && !application.closing
                    && (application.in_flight.len() as u64) < self.p.depth
                {
                    events.push((Event::Submit(n), 25));
                }
            }
            let total = 400;
            events.push((Event::Operator, (self.p.operators * total).div_ceil(10_000)));
            events.push((Event::Fault, (self.p.faults * total).div_ceil(10_000)));
        }
        events.push((Event::Time, if urgent { 8 } else { 100 }));
        let total: u64 = events.iter().map(|(_, weight)| weight).sum();
        let mut at = self.random.below(total.max(1));
        for (event, weight) in events {
            if at < weight {
                self.carry_out(event, urgent);
                return;
            }
            at -= weight;
        }
    }

    fn connectors_meet(&self) -> bool {
        let looking = |n: usize| {
            self.nodes[n].daemon.as_ref().is_some_and(|daemon| daemon.connecting && !daemon.closing)
        };
        self.cable
            && looking(0)
            && looking(1)
            && self.connection.as_ref().is_none_or(|connection| connection.is_over())
    }

    fn carry_out(&mut self, event: Event, urgent: bool) {
        match event {
            Event::Push(n, socket) => self.push(n, socket),
            Event::Notify(n) => {
                let now = self.now;
                if let Some(daemon) = &mut self.nodes[n].daemon {
                    // Several at once, as the engine does.
                    let count = 1 + self.random.below(daemon.notifies.len() as u64);
                    for _ in 0..count {
                        if let Some(notify) = daemon.notifies.pop_front() {
                            daemon.core.sent(now, notify);
                        }
                    }
                }
                self.outputs(n);
            }
            Event::Deliver(n, socket) => self.deliver(n, socket),
            Event::Disk(n) => self.disk_event(n),
            Event::Helper(n) => self.helper(n),
            Event::Timer(n) => {
                let now = self.now;
                if let Some(daemon) = &mut self.nodes[n].daemon {
                    daemon.core.timeout(now);
                }
                self.outputs(n);
            }
            Event::LinkClosed(n) => {
                if let Some(connection) = &mut self.connection {
                    let abruptly = self.random.chance(40);
                    connection.close(n, abruptly, &mut self.random);
                }
                let now = self.now;
                self.say(|| format!("{n}: link closed"));
                if let Some(daemon) = &mut self.nodes[n].daemon {
                    daemon.closing = false;
                    daemon.connecting = false;
                    daemon.outbox = Default::default();
                    daemon.notifies.clear();
                    daemon.core.link_closed(now);
                }
                self.outputs(n);
            }
            Event::Establish => {
                self.stats.links += 1;
                let arbiter = self.random.below(2) as usize;
                self.say(|| format!("a connection, arbiter {arbiter}"));
                self.connection = Some(Connection::new(self.p.version, self.p.features, arbiter));
            }
            Event::Tell(n) => {
                let now = self.now;
                if let (Some(connection), Some(daemon)) = (&mut self.connection, &mut self.nodes[n].daemon) {
                    connection.told[n] = true;
                    daemon.core.link_up(now, connection.link(n));
                }
                self.say(|| format!("{n}: link up"));
                self.outputs(n);
            }
            Event::Submit(n) => self.submit(n),
            Event::Demote(n) => {
                let purpose = Purpose::Secondary;
                self.nodes[n].application.closing = false;
                self.nodes[n].application.open = false;
                self.command(n, purpose, Command::Secondary { volume: V, open: false });
            }
            Event::Operator => self.operator(),
            Event::Fault => self.fault(),
            Event::Time => self.time(urgent),
        }
        self.update_authority();
        self.check_every_step();
    }

    fn time(&mut self, urgent: bool) {
        if urgent {
            self.now += 1 + self.random.below(15);
        } else {
            let timers = self.nodes.iter().filter_map(|node| node.daemon.as_ref()?.core.next_timeout());
            let jobs = self.nodes.iter().flat_map(|node| node.disk.jobs.iter().map(|job| job.due));
            let next = timers.chain(jobs).filter(|time| *time > self.now).min();
            let limit = self.now + if self.healing { 1000 } else { 100 };
            self.now = next.unwrap_or(limit).min(limit);
        }
        if self.healing && self.now >= self.next_look {
            self.next_look = self.now + 1000;
            self.mend();
        }
    }

    fn push(&mut self, n: usize, socket: Socket) {
        let now = self.now;
        let (Some(daemon), Some(connection)) = (&mut self.nodes[n].daemon, &mut self.connection) else {
            return;
        };
        let queue = &mut daemon.outbox[socket as usize];
        match queue.front() {
            Some(Outgoing::Bitmap { volume }) => {
                let volume = *volume;
                let number = daemon.core.volume(volume).number;
                match daemon.core.next_bitmap_packet(now, volume) {
                    Some((packet, payload)) => {
                        connection.send(n, socket, number, &packet, Some(payload));
                    }
                    None => {
                        queue.pop_front();
                    }
                }
            }
            Some(Outgoing::Packet { .. }) => {
                if let Some(Outgoing::Packet { volume, packet, payload, notify }) = queue.pop_front() {
                    connection.send(n, socket, volume, &packet, payload);
                    daemon.notifies.extend(notify);
                }
            }
            None => {}
        }
        self.outputs(n);
    }

    fn deliver(&mut self, n: usize, socket: Socket) {
        let Some(connection) = &mut self.connection else { return };
        let Some(item) = connection.to[n][socket as usize].pop_front() else { return };
        let now = self.now;
        match item {
            Item::Packet { bytes, payload } => {
                let (volume, packet) = connection.decode(socket, &bytes, payload.as_ref());
                self.say(|| format!("{n}: <- {socket:?} {packet:?}"));
                if let Some(daemon) = &mut self.nodes[n].daemon {
                    daemon.core.packet(now, socket, volume, packet, payload);
                }
            }
            Item::End => {
                self.say(|| format!("{n}: <- {socket:?} end"));
                let conn = match socket {
                    Socket::Data => Conn::BrokenPipe,
                    Socket::Meta => Conn::NetworkFailure,
                };
                if let Some(daemon) = &mut self.nodes[n].daemon {
                    daemon.core.link_lost(now, LinkFailure { conn, log: None });
                }
            }
        }
        self.outputs(n);
    }

    fn disk_event(&mut self, n: usize) {
        let now = self.now;
        let ready: Vec<usize> = {
            let jobs = self.nodes[n].disk.jobs.iter().enumerate();
            jobs.filter(|(_, job)| job.due <= now).map(|(index, _)| index).collect()
        };
        let Some(index) = (!ready.is_empty()).then(|| *self.random.pick(&ready)) else { return };
        let fails = !self.healing && self.p.io_errors > 0 && self.random.per_mille(self.p.io_errors);
        let (io, result) = if fails {
            self.stats.errors += 1;
            self.failed_disks[n] = true;
            let alone = self.state(n).is_some_and(|state| state.pdsk != Disk::UpToDate);
            if self.failed_disks[0] && self.failed_disks[1]
                || alone && self.p.disk[n].on_io_error == OnIoError::PassOn
            {
                // What only the two failed disks have is nobody's promise; nor what only a failed one
                // has that goes on: it is Inconsistent, and older data of the peer count more.
                self.judge.lenient = true;
            }
            let io = self.nodes[n].disk.fail(index, &mut self.random);
            self.say(|| format!("{n}: disk error {io:?}"));
            (io, IoResult::Failed)
        } else {
            let (io, payload) = self.nodes[n].disk.perform(index);
            self.say(|| format!("{n}: disk done {io:?}"));
            (io, IoResult::Done(payload))
        };
        if let Some(daemon) = &mut self.nodes[n].daemon {
            daemon.core.io_done(now, V, io, result);
        }
        self.outputs(n);
    }

    fn helper(&mut self, n: usize) {
        let now = self.now;
        let Some(daemon) = &mut self.nodes[n].daemon else { return };
        let index = self.random.below(daemon.helpers.len() as u64) as usize;
        let (id, name) = daemon.helpers.swap_remove(index);
        let code = match name {
            "fence-peer" => {
                let other = 1 - n;
                match self.state(other) {
                    None => 5,
                    Some(state) if state.role == Role::Primary => 6,
                    Some(state) if state.disk <= Disk::Inconsistent => 3,
                    Some(state) if state.disk == Disk::Outdated => 4,
                    Some(_) => {
                        // Ask it over another network, and look again.
                        if self.nodes[other].daemon.as_ref().is_some_and(|daemon| daemon.asked.is_empty()) {
                            self.command(other, Purpose::Other, Command::Outdate { volume: V });
                        }
                        if self.random.chance(90) {
                            if let Some(daemon) = &mut self.nodes[n].daemon {
                                daemon.helpers.push((id, name));
                            }
                            return;
                        }
                        1
                    }
                }
            }
            "before-resync-target" | "before-resync-source" if !self.healing && self.random.chance(2) => 1,
            _ => 0,
        };
        self.say(|| format!("{n}: helper {name} returns {code}"));
        if let Some(daemon) = &mut self.nodes[n].daemon {
            daemon.core.helper_done(now, id, code << 8);
        }
        self.outputs(n);
    }

    // ---- what a daemon wants ----

    fn outputs(&mut self, n: usize) {
        loop {
            let mut outputs = Vec::new();
            let Some(daemon) = &mut self.nodes[n].daemon else { return };
            daemon.core.take_outputs(&mut outputs);
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                self.output(n, output);
            }
        }
    }

    fn output(&mut self, n: usize, output: Output) {
        match output {
            Output::Log { level, text, .. } => self.logged(n, level, &text),
            Output::State { old, new, .. } => self.state_changed(n, old, new),
            Output::Complete { token, result } => self.completed(n, token, result),
            output @ (Output::DiskRead { .. }
            | Output::DiskWrite { .. }
            | Output::DiskDiscard { .. }
            | Output::DiskFlush { .. }
            | Output::MetaWrite { .. }) => {
                let Ok((io, work)) = disk_work(output) else { return };
                self.disk_submitted(n, io, work);
            }
            Output::AskBackingSize { volume } => {
                let node = &mut self.nodes[n];
                let data_bytes = node.disk.data.sectors() * 512;
                let size = BackingSize { data_bytes, meta_bytes: node.layout.device_bytes };
                let Some(daemon) = &mut node.daemon else { return };
                daemon.core.backing_size(self.now, volume, Ok(size));
            }
            output => {
                let Some(daemon) = &mut self.nodes[n].daemon else { return };
                match output {
                    Output::Send { socket, volume, packet, payload, notify } => {
                        if self.trace {
                            eprintln!("{:>6} {:>8} {n}: -> {socket:?} {packet:?}", self.step, self.now);
                        }
                        let open = self.connection.as_ref().is_some_and(|c| c.open[n] && c.told[n]);
                        assert!(open, "node {n} sends {packet:?} without a link");
                        let packet = Outgoing::Packet { volume, packet, payload, notify };
                        daemon.outbox[socket as usize].push_back(packet);
                    }
                    Output::SendBitmap { volume } => {
                        daemon.outbox[Socket::Data as usize].push_back(Outgoing::Bitmap { volume });
                    }
                    Output::Connect => {
                        assert!(!daemon.connecting, "node {n} connects twice");
                        daemon.connecting = true;
                    }
                    Output::CloseLink { drain_meta } => {
                        assert!(!daemon.closing, "node {n} closes twice");
                        self.close_link(n, drain_meta);
                    }
                    Output::ReleaseDisk { .. } => {
                        daemon.disk_open = false;
                        assert!(self.nodes[n].disk.jobs.is_empty(), "node {n} released a disk with I/O");
                    }
                    Output::Helper { id, name, .. } => daemon.helpers.push((id, name)),
                    Output::Reply { id, code, .. } => self.replied(n, id, code),
                    _ => {}
                }
            }
        }
    }

    fn close_link(&mut self, n: usize, drain_meta: bool) {
        let Some(daemon) = &mut self.nodes[n].daemon else { return };
        daemon.closing = true;
        if let Some(connection) = self.connection.as_mut().filter(|c| c.open[n]) {
            if drain_meta && connection.told[n] {
                while let Some(Outgoing::Packet { volume, packet, payload, .. }) =
                    daemon.outbox[Socket::Meta as usize].pop_front()
                {
                    connection.send(n, Socket::Meta, volume, &packet, payload);
                }
                connection.close(n, false, &mut self.random);
            } else {
                let abruptly = self.random.chance(40);
                connection.close(n, abruptly, &mut self.random);
            }
        }
        daemon.outbox = Default::default();
        daemon.notifies.clear();
    }

    fn disk_submitted(&mut self, n: usize, io: Io, work: Work) {
        let late = self.p.slow_ms > 0 && self.random.chance(5);
        let due = self.now + if late { self.random.below(self.p.slow_ms) } else { 0 };
        self.say(|| match &work {
            Work::Read { sector, bytes } => format!("{n}: read {sector}+{} {io:?}", bytes / 512),
            Work::Write { sector, payload, .. } => {
                format!("{n}: write {sector}+{} {io:?} tag {:#x}", payload.len() / SECTOR, tag_of(payload, 0))
            }
            Work::Discard { sector, bytes } => format!("{n}: discard {sector}+{} {io:?}", bytes / 512),
            Work::Flush => format!("{n}: flush {io:?}"),
            Work::Meta { pieces, .. } => {
                let pieces: Vec<_> = pieces.iter().map(|(at, bytes)| (at / 512, bytes.len() / 512)).collect();
                format!("{n}: meta write {pieces:?} {io:?}")
            }
        });
        assert!(self.nodes[n].daemon.as_ref().is_some_and(|d| d.disk_open), "node {n}: I/O without a disk");
        self.check_disk_work(n, io, &work);
        self.nodes[n].disk.submit(io, work, due);
    }

    // ---- the application ----

    fn submit(&mut self, n: usize) {
        let Some(daemon) = &self.nodes[n].daemon else { return };
        let size = daemon.core.volume(V).size_sectors();
        if size == 0 {
            return;
        }
        let extents = (size / 8192).max(1);
        let application = &self.nodes[n].application;
        let (sector, sectors) = application.range(&mut self.random, size, extents);
        let kind = self.random.below(100);
        if kind >= 92 {
            return self.begin(n, Request { kind: Kind::Flush, sector, sectors: 0, began: self.step });
        }
        if application.overlaps(sector, sectors) && !(self.p.overlapping && kind < 62) {
            return;
        }
        let kind = match kind {
            0..=61 => {
                let number = self.next_write;
                self.next_write += 1;
                let tags = (sector..sector + sectors).map(|sector| number << 32 | sector).collect();
                Kind::Write { tags, fua: self.random.chance(5) }
            }
            62..=86 => Kind::Read,
            n => Kind::Discard { zeroes: n % 2 == 0 },
        };
        self.begin(n, Request { kind, sector, sectors, began: self.step });
    }

    fn begin(&mut self, n: usize, request: Request) {
        let token = self.next_token;
        self.next_token += 1;
        let (sector, sectors, now) = (request.sector, request.sectors, self.now);
        self.say(|| {
            let tag = match &request.kind {
                Kind::Write { tags, .. } => tags[0],
                _ => 0,
            };
            let kind = match &request.kind {
                Kind::Write { fua: true, .. } => "write (fua)",
                Kind::Write { .. } => "write",
                Kind::Read => "read",
                Kind::Discard { zeroes: true } => "write zeroes",
                Kind::Discard { .. } => "discard",
                Kind::Flush => "flush",
            };
            format!("{n}: application {kind} #{token} {sector}+{sectors} tag {tag:#x}")
        });
        self.nodes[n].application.in_flight.insert(token, request.clone());
        let Some(daemon) = &mut self.nodes[n].daemon else { return };
        let bytes = (sectors * 512) as u32;
        match request.kind {
            Kind::Read => daemon.core.read(now, V, token, sector, bytes),
            Kind::Write { tags, fua } => {
                for (at, tag) in (sector..).zip(&tags) {
                    self.judge.began(request.began, at, *tag);
                }
                daemon.core.write(now, V, token, sector, tagged(tags.into_iter()), fua);
            }
            Kind::Discard { zeroes } => {
                for at in sector..sector + sectors {
                    self.judge.began(request.began, at, 0);
                }
                daemon.core.discard(now, V, token, sector, bytes, zeroes);
            }
            Kind::Flush => daemon.core.flush(now, V, token),
        }
        self.outputs(n);
    }

    fn completed(&mut self, n: usize, token: Token, result: Result<Option<Payload>, IoError>) {
        let request = self.nodes[n].application.in_flight.remove(&token);
        let Some(request) = request else { panic!("node {n} completes #{token}, which is not in flight") };
        self.say(|| {
            format!("{n}: application #{token} is {}", if result.is_ok() { "done" } else { "failed" })
        });
        let (step, began, sector) = (self.step, request.began, request.sector);
        // Below protocol C the only good disk may be the peer's, and need not have it yet.
        let promised = self.p.net.protocol == Protocol::C || self.is_local(n);
        match (&request.kind, &result) {
            (Kind::Write { .. } | Kind::Discard { zeroes: true }, Ok(_)) if !promised => {
                for (sector, tag) in request.tags() {
                    self.judge.unknown(step, began, sector, tag);
                }
            }
            (Kind::Read, Ok(payload)) => {
                let Some(payload) = payload else { panic!("a read without bytes") };
                assert_eq!(payload.len() as u64, request.sectors * 512, "bytes read");
                for index in 0..request.sectors {
                    let tag = tag_of(payload, index as usize);
                    if let Err(text) = self.judge.read(step, began, sector + index, tag) {
                        panic!("node {n} read #{token}: {text}");
                    }
                }
            }
            (Kind::Write { tags, fua }, Ok(_)) => {
                self.check_acknowledged(n, &request);
                let tags = tags.clone();
                for (at, tag) in (sector..).zip(tags) {
                    self.judge.acknowledged(step, began, at, tag, *fua && self.is_local(n));
                }
                self.judge.acknowledged += 1;
            }
            (Kind::Discard { zeroes: true }, Ok(_)) => {
                self.check_acknowledged(n, &request);
                for at in sector..sector + request.sectors {
                    self.judge.acknowledged(step, began, at, 0, false);
                }
            }
            (Kind::Discard { .. }, _) | (Kind::Write { .. }, Err(_)) => {
                for index in 0..request.sectors {
                    let tag = match &request.kind {
                        Kind::Write { tags, .. } => tags[index as usize],
                        _ => 0,
                    };
                    self.judge.unknown(step, began, sector + index, tag);
                }
            }
            (Kind::Flush, Ok(_)) if self.is_local(n) => self.judge.flushed(began),
            _ => {}
        }
        if result.is_err() {
            self.judge.failed += 1;
            self.say(|| "application error".to_owned());
            let explained = self.p.io_errors > 0
                || self.stats.errors > 0
                || !self.has_data(n)
                || self.without_data[n] >= began;
            assert!(
                explained,
                "node {n}: I/O error for {:?} without a reason: {}",
                request.kind,
                self.summary()
            );
        }
    }

    fn is_local(&self, n: usize) -> bool {
        self.state(n).is_some_and(|state| state.disk == Disk::UpToDate)
    }

    /// Whether the node can see good data at all. The peer's may be gone before it hears of that.
    pub fn has_data(&self, n: usize) -> bool {
        self.state(n).is_some_and(|state| {
            state.disk == Disk::UpToDate || state.pdsk == Disk::UpToDate && self.is_local(1 - n)
        })
    }

    // ---- operators ----

    fn command(&mut self, n: usize, purpose: Purpose, command: Command) {
        let now = self.now;
        self.say(|| format!("{n}: command {command:?}").chars().take(100).collect());
        let id = self.nodes[n].ask(purpose);
        if let Some(daemon) = &mut self.nodes[n].daemon {
            daemon.core.command(now, id, command);
        }
        self.outputs(n);
    }

    fn replied(&mut self, n: usize, id: AdminId, code: i32) {
        let Some(daemon) = &mut self.nodes[n].daemon else { return };
        let Some(purpose) = daemon.asked.remove(&id) else { panic!("node {n}: a reply to nobody") };
        self.say(|| format!("{n}: reply {code} to {purpose:?}"));
        let stand_alone = self.state(n).is_some_and(|state| state.conn == Conn::StandAlone);
        match purpose {
            Purpose::Primary { .. } if code == 1 || code == 2 => {
                self.stats.promotions += 1;
                let alone = self.state(n).is_some_and(|state| state.conn < Conn::Connected);
                let lost_on_the_way = std::mem::take(&mut self.lost_on_the_way);
                if alone && self.is_local(n) && self.p.net.protocol != Protocol::C || lost_on_the_way {
                    // What the former Primary had acknowledged may be lost.
                    self.rebase_judge(if self.is_local(n) { n } else { 1 - n });
                }
                self.nodes[n].application.open = true;
            }
            // The newest data are the peer's: without it nothing can be attached here.
            Purpose::Attach if code == 150 && self.healing && stand_alone => self.connect(n),
            Purpose::Secondary => {
                let primary = self.nodes[n].is_primary();
                self.nodes[n].application.open = primary;
            }
            _ => {}
        }
    }

    /// The application goes on with what is on the disk of node `n`.
    pub fn rebase_judge(&mut self, n: usize) {
        let disk = &self.nodes[n].disk;
        let versions = |sector| disk.data.versions(sector);
        self.judge.rebase(self.step, |sector| disk.possible(sector), versions);
    }

    fn start(&mut self, n: usize) {
        self.say(|| format!("{n}: start"));
        self.nodes[n].start(&self.p, &mut self.random);
        if let Some(connection) = &mut self.connection {
            connection.reset_by(n);
        }
        self.attach(n);
        if let Some(daemon) = &mut self.nodes[n].daemon {
            daemon.connect_next = true;
        }
        self.connect_if_wanted(n);
    }

    fn connect_if_wanted(&mut self, n: usize) {
        let Some(daemon) = &mut self.nodes[n].daemon else { return };
        if std::mem::take(&mut daemon.connect_next) {
            self.connect(n);
        }
    }

    fn attach(&mut self, n: usize) {
        let Some(daemon) = &self.nodes[n].daemon else { return };
        if daemon.disk_open || daemon.core.may_attach(V).is_err() {
            return;
        }
        let disk = self.nodes[n].open_disk(&self.p);
        if let Some(daemon) = &mut self.nodes[n].daemon {
            daemon.disk_open = true;
        }
        self.command(n, Purpose::Attach, Command::Attach { volume: V, disk: Box::new(disk) });
    }

    fn connect(&mut self, n: usize) {
        let net = Box::new(self.p.net.clone());
        self.command(n, Purpose::Connect, Command::Connect(net));
    }

    /// Whether an operator with good sense would promote this node.
    fn may_promote(&self, n: usize) -> bool {
        let other = 1 - n;
        let asked = |n: usize| {
            let daemon = self.nodes[n].daemon.as_ref();
            // A demotion counts until it is answered: it may wait for the peer.
            let of_role = |p: &Purpose| matches!(p, Purpose::Primary { .. } | Purpose::Secondary);
            daemon.is_some_and(|daemon| daemon.asked.values().any(of_role))
        };
        // Whose data it would be: its own, or the peer's.
        let own_data = self.state(n).is_some_and(|state| state.disk == Disk::UpToDate);
        let source = if own_data { n } else { other };
        let entitled = self.authority.is_none_or(|authority| authority == source);
        entitled && !self.nodes[other].is_primary() && !asked(other) && !asked(n)
    }

    fn promote(&mut self, n: usize, force: bool) {
        self.command(n, Purpose::Primary { force }, Command::Primary { volume: V, force });
    }

    fn idle_admin(&self, n: usize) -> bool {
        self.nodes[n].daemon.as_ref().is_some_and(|daemon| daemon.asked.is_empty())
    }

    fn operator(&mut self) {
        let n = self.random.below(2) as usize;
        let Some(state) = self.state(n) else {
            return self.start(n);
        };
        if !self.idle_admin(n) && self.random.chance(90) {
            return;
        }
        match self.random.below(24) {
            0..=5 if state.role == Role::Secondary && self.may_promote(n) => self.promote(n, false),
            0..=2 if self.nodes[n].application.open => self.nodes[n].application.closing = true,
            6..=7 => {
                let force = self.random.chance(20);
                self.command(n, Purpose::Other, Command::Disconnect { force });
            }
            8..=12 if state.conn == Conn::StandAlone => self.connect(n),
            13 => {
                let force = self.random.chance(20);
                self.command(n, Purpose::Other, Command::Detach { volume: V, force });
            }
            14..=17 => self.attach(n),
            18 => {
                let good = state.conn == Conn::Connected && state.pdsk == Disk::UpToDate;
                if good {
                    self.command(n, Purpose::Other, Command::Invalidate { volume: V });
                }
            }
            19 => {
                let good = state.conn == Conn::Connected && state.disk == Disk::UpToDate;
                if good {
                    self.command(n, Purpose::Other, Command::InvalidateRemote { volume: V });
                }
            }
            20 => self.command(n, Purpose::Other, Command::PauseSync { volume: V }),
            21 => self.command(n, Purpose::Other, Command::ResumeSync { volume: V }),
            22 => self.command(n, Purpose::Other, Command::SuspendIo { volume: V }),
            23 if self.p.verify => {
                self.command(n, Purpose::Other, Command::Verify { volume: V, start: None, stop: None });
            }
            _ => self.command(n, Purpose::Other, Command::ResumeIo { volume: V }),
        }
    }

    // ---- faults ----

    fn fault(&mut self) {
        let n = self.random.below(2) as usize;
        match self.random.below(12) {
            0 | 1 => {
                self.say(|| "fault: cable out".to_owned());
                self.cable = false;
            }
            2..=5 => self.cable = true,
            6 => {
                self.say(|| "fault: connection reset".to_owned());
                if let Some(connection) = &mut self.connection {
                    connection.reset();
                }
            }
            7 | 8 if self.nodes[n].daemon.is_some() => self.crash(n, false),
            9 if self.p.power_cuts && self.nodes[n].daemon.is_some() => self.crash(n, true),
            _ => {
                for n in 0..2 {
                    if self.nodes[n].daemon.is_none() {
                        self.start(n);
                    }
                }
            }
        }
    }

    fn crash(&mut self, n: usize, power_cut: bool) {
        self.say(|| format!("{n}: {}", if power_cut { "power cut" } else { "crash" }));
        let other = 1 - n;
        self.check_coverage(&format!("before the crash of node {n}"));
        let primary = self.nodes[n].is_primary();
        self.stats.crashes += 1;
        self.stats.power_cuts += u64::from(power_cut);
        // Protocol A acknowledges what TCP has. If an invalidate takes the own disk away while such writes are
        // on their way, this crash loses them, and the operator who ordered the invalidate accepted that: what
        // the other node has got by then is the data from now on. (If the other node is lost instead, see
        // `update_authority`; protocol B acknowledges what the other node has.)
        let exposed = self.state(n).is_some_and(|s| s.role == Role::Primary && s.disk < Disk::UpToDate);
        self.lost_on_the_way |= exposed && self.p.net.protocol == Protocol::A;
        let node = &mut self.nodes[n];
        node.daemon = None;
        node.powered = !power_cut;
        node.application.open = false;
        node.application.closing = false;
        let step = self.step;
        for (_, request) in std::mem::take(&mut node.application.in_flight) {
            self.judge.unknown += 1;
            for index in 0..request.sectors {
                let tag = match &request.kind {
                    Kind::Write { tags, .. } => tags[index as usize],
                    Kind::Discard { .. } => 0,
                    _ => break,
                };
                self.judge.unknown(step, request.began, request.sector + index, tag);
            }
        }
        node.disk.stop(power_cut, &mut self.random);
        if power_cut {
            // The former Primary is the source of the next resync, if it crashed.
            if primary || self.authority == Some(n) || self.last_primary == Some(n) {
                self.judge.cache_lost();
            }
            if !primary && self.authority.is_none() {
                // What it had in its cache may be on the other disk only.
                self.authority = Some(other);
            }
        }
        if let Some(connection) = &mut self.connection {
            if power_cut {
                connection.fall_silent(n, &mut self.random);
            } else {
                connection.close(n, true, &mut self.random);
            }
        }
        self.check_coverage(&format!("after the crash of node {n}"));
    }

    /// A Secondary without its peer that has a generation of its own.
    fn began_generation_alone(&self, n: usize, state: StateWord) -> bool {
        let disk = self.nodes[n].daemon.as_ref().and_then(|daemon| daemon.core.volume(V).disk());
        state.conn < Conn::Connected
            && state.disk == Disk::UpToDate
            && disk.is_some_and(|disk| disk.uuids.bitmap != 0)
    }

    /// Follows which node has data that the other one lacks.
    fn update_authority(&mut self) {
        self.last_primary = (0..2).find(|n| self.nodes[*n].is_primary()).or(self.last_primary);
        // Protocols A and B acknowledge what is still on its way to the peer, all acknowledge what is in
        // its cache. Where the own disk does not count, nobody has it when the peer is lost; and reads of
        // the own disk may have shown it.
        if self.p.net.protocol != Protocol::C || self.p.power_cuts {
            let exposed = |s: StateWord| s.role == Role::Primary && s.disk < Disk::UpToDate;
            self.judge.lenient |= (0..2)
                .filter_map(|n| self.state(n))
                .any(|state| exposed(state) && state.pdsk != Disk::UpToDate);
        }
        let states = [self.state(0), self.state(1)];
        if let [Some(a), Some(b)] = states {
            let good = |s: StateWord| {
                s.conn == Conn::Connected && s.disk == Disk::UpToDate && s.pdsk == Disk::UpToDate
            };
            if good(a) && good(b) {
                self.authority = None;
                return;
            }
        }
        for (n, state) in states.into_iter().enumerate() {
            let Some(state) = state else { continue };
            if state.role == Role::Primary {
                if state.disk == Disk::UpToDate && state.pdsk != Disk::UpToDate {
                    self.authority = Some(n);
                } else if state.disk < Disk::UpToDate && state.pdsk == Disk::UpToDate {
                    self.authority = Some(1 - n);
                }
            } else if state.conn.is_sync_source() || state.conn == Conn::WFBitMapS {
                self.authority = Some(n);
            } else if self.authority.is_none() && self.began_generation_alone(n, state) {
                // The peer was lost in the middle of the demotion.
                self.authority = Some(n);
            }
        }
    }

    // ---- the end ----

    /// Faults are over. Everything has to come to rest, with equal disks.
    fn heal(&mut self) {
        self.say(|| "healing".to_owned());
        self.healing = true;
        self.cable = true;
        let begun = self.now;
        let mut rest_since = None;
        loop {
            self.one_event();
            if self.given_up {
                return;
            }
            if !self.at_rest() {
                rest_since = None;
            } else if self.now >= *rest_since.get_or_insert(self.now) + 20_000 {
                break;
            }
            let spent = self.now - begun;
            if spent >= 4_000_000 && self.passed_on() && !(0..2).any(|n| self.is_local(n)) {
                // The last good disk failed under pass_on, and the other one is older: only an operator
                // who forces one of them to be Primary can say which data are to be kept.
                self.given_up = true;
                return;
            }
            assert!(spent < 4_000_000, "it does not come to rest: {}", self.summary());
        }
        self.check_rest();
    }

    pub fn at_rest(&self) -> bool {
        self.nodes.iter().all(|node| {
            let Some(daemon) = &node.daemon else { return false };
            let state = daemon.core.volume(V).state();
            state.conn == Conn::Connected
                && state.disk == Disk::UpToDate
                && state.pdsk == Disk::UpToDate
                && node.application.in_flight.is_empty()
                && daemon.asked.is_empty()
        })
    }

    /// What operators do, once a second, when they want everything to be well again.
    fn mend(&mut self) {
        for n in 0..2 {
            let Some(state) = self.state(n) else {
                self.start(n);
                continue;
            };
            if !self.idle_admin(n) {
                continue;
            }
            if state.disk == Disk::Diskless {
                self.attach(n);
            } else if state.conn == Conn::StandAlone {
                self.connect(n);
            } else if state.user_isp {
                self.command(n, Purpose::Other, Command::ResumeSync { volume: V });
            } else if state.susp {
                self.command(n, Purpose::Other, Command::ResumeIo { volume: V });
            }
        }
        // What ended with failed blocks, or was outdated by the other, needs another handshake.
        if self.now % 60_000 < 1000 {
            let stuck = self.nodes.iter().any(|node| {
                node.state().is_some_and(|s| {
                    s.conn == Conn::Connected && (s.disk != Disk::UpToDate || s.pdsk != Disk::UpToDate)
                })
            });
            // A Primary whose disk failed under pass_on lets nobody go who has good data.
            let failed = (0..2).find(|n| {
                let good = |s: StateWord| {
                    s.conn == Conn::Connected && s.disk == Disk::Inconsistent && s.pdsk == Disk::UpToDate
                };
                self.nodes[*n].is_primary() && self.state(*n).is_some_and(good)
            });
            let n = usize::from(self.nodes[0].is_primary());
            if let Some(n) = failed.filter(|n| self.idle_admin(*n)) {
                self.command(n, Purpose::Other, Command::Invalidate { volume: V });
            } else if stuck && self.idle_admin(n) {
                self.command(n, Purpose::Other, Command::Disconnect { force: false });
            }
        }
    }
}

impl Stats {
    pub fn add(&mut self, other: &Stats) {
        self.crashes += other.crashes;
        self.power_cuts += other.power_cuts;
        self.links += other.links;
        self.resyncs += other.resyncs;
        self.promotions += other.promotions;
        self.errors += other.errors;
    }
}
