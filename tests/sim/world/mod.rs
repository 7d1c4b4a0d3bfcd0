//! The two nodes, the cable between them, the operators; one event after the other.

mod commands;
mod daemon;
mod ending;
mod faults;
mod helpers;
mod operators;
mod requests;
mod sizes;

pub use helpers::Helper;

use crate::judge::Judge;
use crate::network::{Connection, Item, Wires};
use crate::node::{Node, Outgoing, Purpose, V};
use crate::plan::Plan;
use crate::script::{Parameters, Random};
use drbdbox::conf::settings::OnIoError;
use drbdbox::core::state::{Conn, Disk, StateWord};
use drbdbox::core::types::*;
use drbdbox::wire::Socket;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// What becomes of the lines that tell what happens.
pub enum Trace {
    Off,
    Print,
    Collect(RefCell<Vec<String>>),
}

/// What may happen shortly after something that has to be durable began.
#[derive(Debug, Clone, Copy)]
enum Doom {
    Crash(usize),
    PowerCut(usize),
    /// The power of both fails.
    Outage,
    Reset,
}

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
    pub plan: Plan,
    pub p: Parameters,
    /// Random numbers of this step.
    pub random: Random,
    pub now: Millis,
    pub step: u64,
    pub nodes: [Node; 2],
    pub judge: Judge,
    pub connection: Option<Connection>,
    pub wires: Wires,
    pub healing: bool,
    /// The node that has data the other lacks; only it may be promoted alone.
    pub authority: Option<usize>,
    /// Who was Primary last.
    last_primary: Option<usize>,
    /// The nodes met a limit of the protocol that they speak.
    pub given_up: bool,
    /// When each node saw no good data last.
    pub without_data: [u64; 2],
    /// When each node had no good disk of its own last.
    pub without_disk: [u64; 2],
    /// A handshake found bits and equal generations, and no resync has begun since.
    pub bits_without_resync: bool,
    /// A Primary crashed whose own disk did not count, and protocol A let it acknowledge what the peer never got.
    pub lost_on_the_way: bool,
    /// The node crashed as Primary, with a good disk, and protocol A had let it acknowledge what the peer never got. Since then no node was
    /// promoted, and not both have been good.
    acknowledged_by_crashed: Option<usize>,
    /// A node began a generation for the writes of a Primary without a disk, which has not heard of it.
    pub unheard_generation: Option<u64>,
    /// The node lost its cache when it was Primary, and the two have not mirrored since.
    pub cut_primary: Option<usize>,
    /// The node gave its disk up as Primary, and went on with the peer's: its disk is old, and nothing on it says so.
    pub left_disks: [bool; 2],
    /// Beside the node, which had given its disk up, the peer became good: what that disk says of the peer is not true any more.
    lifted_peers: [bool; 2],
    /// The node is Primary without good data, and the other one has been Primary with them meanwhile.
    left_behind: [bool; 2],
    /// When a Primary without a disk refused the data of its peer last, and the generation that it wanted.
    pub refused_data: Option<(Millis, u64)>,
    /// When the node refused its own disk last: it works with other data.
    refused_disks: [Option<Millis>; 2],
    /// A fault that is due at a step: at a moment at which it does the most harm.
    doom: Option<(u64, Doom)>,
    /// Since which step both nodes have been mirroring: connected, with two good disks.
    pub mirroring_since: Option<u64>,
    /// An operator resumed I/O that was frozen because the peer is not fenced: nothing keeps the nodes apart but good sense.
    pub unfenced: bool,
    /// An operator made the other node Primary by force, over what this one has: a split brain, which this one is to lose.
    pub loser: Option<usize>,
    /// Frozen I/O went on without the peer, which is only Consistent: the link is given up for that.
    pub thaw_aborted: bool,
    /// The node has just said that its data count as UpToDate by force.
    pub forced: [bool; 2],
    /// A disk of the node failed.
    failed_disks: [bool; 2],
    /// Sectors on which the two disks differ; see `note_differences`.
    pub differing: BTreeSet<u64>,
    /// Sectors of the device that the file system uses: fewer before an operator makes the device smaller.
    used: u64,
    /// The smallest size that an operator asked for.
    shrinks_to: Option<u64>,
    /// Size of each node's device a step ago, while its daemon runs.
    sizes: [Option<u64>; 2],
    /// An operator said that space from here on, when it is added, is the same on both disks.
    pub assumed_clean: Option<u64>,
    trace: Trace,
    /// Steps at which something came from outside of the nodes.
    pub planned: Vec<u64>,
    next_token: Token,
    next_write: u64,
    /// Memory that is used again: the events of a step, the outputs of a core.
    events: Vec<(Event, u64)>,
    outputs: Vec<Output>,
    /// When operators look next, while healing.
    next_look: Millis,
    /// When they have each node, should it be alone then, look how large its disk is, while healing.
    next_resize: [Millis; 2],
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
    pub split_brains: u64,
}

impl World {
    pub fn new(plan: Plan, trace: Trace) -> World {
        let mut random = Random::new(plan.seed);
        let mut p = Parameters::new(&mut random);
        p.specialize(plan.seed);
        p.chaos_steps = plan.steps.unwrap_or(u64::MAX).min(p.chaos_steps);
        let mut nodes = [Node::new(0, &p), Node::new(1, &p)];
        let mut judge = Judge::new(p.sectors);
        judge.shared = p.two_primaries;
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
        let world = World {
            plan,
            p,
            random,
            now: 1000,
            step: 0,
            nodes,
            judge,
            connection: None,
            wires: Wires::new(),
            healing: false,
            authority: None,
            last_primary: None,
            given_up: false,
            without_data: [0; 2],
            without_disk: [0; 2],
            bits_without_resync: false,
            lost_on_the_way: false,
            acknowledged_by_crashed: None,
            unheard_generation: None,
            cut_primary: None,
            left_disks: [false; 2],
            left_behind: [false; 2],
            lifted_peers: [false; 2],
            refused_data: None,
            refused_disks: [None; 2],
            doom: None,
            mirroring_since: None,
            unfenced: false,
            loser: None,
            thaw_aborted: false,
            forced: [false; 2],
            failed_disks: [false; 2],
            differing: BTreeSet::new(),
            used: u64::MAX,
            shrinks_to: None,
            sizes: [None; 2],
            assumed_clean: None,
            trace,
            planned: Vec::new(),
            next_token: 1,
            next_write: 1,
            events: Vec::new(),
            outputs: Vec::new(),
            next_look: 0,
            next_resize: [0; 2],
            stats: Stats::default(),
        };
        world.say(|| format!("{:#?}", world.p));
        world
    }

    pub fn say(&self, text: impl FnOnce() -> String) {
        let line = || format!("{:>6} {:>8} {}", self.step, self.now, text());
        match &self.trace {
            Trace::Off => {}
            Trace::Print => eprintln!("{}", line()),
            Trace::Collect(lines) => lines.borrow_mut().push(line()),
        }
    }

    /// What was collected.
    pub fn take_lines(&mut self) -> Vec<String> {
        match &self.trace {
            Trace::Collect(lines) => lines.take(),
            _ => Vec::new(),
        }
    }

    /// Tells of something that comes from outside of the nodes: an application, an operator, a fault.
    pub(super) fn event_outside(&self, text: impl FnOnce() -> String) {
        self.say(|| format!("!! {}", text()));
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
            let asked_for = self.p.clone();
            self.p.hurry();
            self.tell_settings();
            self.until("first sync", 2_000_000, |world| world.at_rest());
            self.p = asked_for;
            self.tell_settings();
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
        text + &format!("\n  now {} cable {} authority {:?}", self.now, self.wires.cable, self.authority)
    }

    pub fn state(&self, n: usize) -> Option<StateWord> {
        self.nodes[n].state()
    }

    // ---- events ----

    fn one_event(&mut self) {
        self.step += 1;
        self.random = self.plan.stream(self.step);
        let mut events = std::mem::take(&mut self.events);
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
                if waits && may_read && self.wires.carries(n, socket, self.now) {
                    events.push((Event::Deliver(n, socket), self.wires.weight(socket, self.now)));
                }
            }
            if !daemon.notifies.is_empty() {
                events.push((Event::Notify(n), 30));
            }
            if self.nodes[n].disk.jobs.iter().any(|job| job.due <= self.now) {
                events.push((Event::Disk(n), 80));
            }
            if daemon.helpers.iter().any(|helper| helper.due <= self.now) {
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
        if self.doom.is_some_and(|(step, _)| step <= self.step) {
            return self.meet_doom();
        }
        if !self.healing && self.plan.allows(self.step) {
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
        // The first to arrive, where each has a time of arrival of its own: so the choice among the others does
        // not change when one of them is not there.
        let arrivals = self.random.fork();
        let arrival = |event: &Event, weight: u64| arrivals.ahead(event.place()) / weight;
        let possible = events.drain(..).filter(|(_, weight)| *weight > 0);
        let first = possible.min_by_key(|(event, weight)| arrival(event, *weight));
        self.events = events;
        if let Some((event, _)) = first {
            self.carry_out(event, urgent);
        }
    }

    fn connectors_meet(&self) -> bool {
        let looking = |n: usize| {
            self.nodes[n].daemon.as_ref().is_some_and(|daemon| daemon.connecting && !daemon.closing)
        };
        self.wires.joins(self.now)
            && looking(0)
            && looking(1)
            && self.connection.as_ref().is_none_or(|connection| connection.is_over())
    }

    fn carry_out(&mut self, event: Event, urgent: bool) {
        if matches!(event, Event::Submit(_) | Event::Operator | Event::Fault) {
            self.planned.push(self.step);
        }
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
                let mut connection = Connection::new(self.p.version, self.p.features, arbiter);
                // Both dialled at once, and one of them took the other pair of sockets for the real one.
                if !self.healing && self.plan.allows(self.step) && self.random.chance(5) {
                    self.planned.push(self.step);
                    let n = self.random.below(2) as usize;
                    self.event_outside(|| format!("node {n} drops the connection: crossed"));
                    connection.close(n, false, &mut self.random);
                }
                self.connection = Some(connection);
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
            let helpers = self.nodes.iter().filter_map(|node| node.daemon.as_ref());
            let helpers = helpers.flat_map(|daemon| daemon.helpers.iter().map(|helper| helper.due));
            let next = timers.chain(jobs).chain(helpers).filter(|time| *time > self.now).min();
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
        let may_fail = !self.healing && self.plan.allows(self.step) && self.p.io_errors > 0;
        let fails = may_fail && self.random.per_mille(self.p.io_errors);
        let (io, result) = if fails {
            self.stats.errors += 1;
            self.failed_disks[n] = true;
            // Also where the peer's has gone, and this node has not heard of that yet.
            let alone =
                self.state(n).is_some_and(|state| state.pdsk != Disk::UpToDate) || !self.is_local(1 - n);
            if self.failed_disks[0] && self.failed_disks[1]
                || alone && self.p.disk[n].on_io_error == OnIoError::PassOn
            {
                // What only the two failed disks have is nobody's promise; nor what only a failed one
                // has that goes on: it is Inconsistent, and older data of the peer count more.
                self.judge.lenient = true;
            }
            let io = self.nodes[n].disk.fail(index, &mut self.random);
            self.planned.push(self.step);
            self.event_outside(|| format!("{n}: disk error {io:?}"));
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
}

impl Event {
    /// A number of its own for each event.
    fn place(&self) -> u64 {
        let node = |first: u64, n: usize| first + n as u64;
        match *self {
            Event::Push(n, socket) => node(2 * n as u64, socket as usize),
            Event::Deliver(n, socket) => node(4 + 2 * n as u64, socket as usize),
            Event::Notify(n) => node(8, n),
            Event::Disk(n) => node(10, n),
            Event::Helper(n) => node(12, n),
            Event::Timer(n) => node(14, n),
            Event::LinkClosed(n) => node(16, n),
            Event::Tell(n) => node(18, n),
            Event::Demote(n) => node(20, n),
            Event::Submit(n) => node(22, n),
            Event::Establish => 24,
            Event::Operator => 25,
            Event::Fault => 26,
            Event::Time => 27,
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
        self.split_brains += other.split_brains;
    }
}
