//! The network: the wires, and pairs of TCP connections between the two nodes.

use crate::script::Random;
use drbdbox::core::types::{Link, Millis, Payload};
use drbdbox::wire::{Context, Features, Frame, Framing, Header, Packet, ProtocolVersion, Socket};
use std::collections::VecDeque;

/// What travels: a packet's bytes and its payload, or the end of the stream.
pub enum Item {
    Packet { bytes: Vec<u8>, payload: Option<Payload> },
    End,
}

/// What lies between the nodes. Where it does not carry anything TCP waits, and the nodes see only that nothing comes.
pub struct Wires {
    pub cable: bool,
    /// Until when nothing reaches each node.
    dead: [Millis; 2],
    /// Until when nothing reaches each node on each socket.
    stalled: [[Millis; 2]; 2],
    /// Until when acknowledgements crawl.
    slow: Millis,
}

impl Wires {
    pub fn new() -> Wires {
        Wires { cable: true, dead: [0; 2], stalled: Default::default(), slow: 0 }
    }

    /// Whether something can reach node `to`.
    pub fn carries(&self, to: usize, socket: Socket, now: Millis) -> bool {
        self.cable && self.dead[to] <= now && self.stalled[to][socket as usize] <= now
    }

    /// Whether the nodes can find each other.
    pub fn joins(&self, now: Millis) -> bool {
        self.cable && self.dead.iter().all(|until| *until <= now)
    }

    /// How easily something arrives.
    pub fn weight(&self, socket: Socket, now: Millis) -> u64 {
        match socket {
            Socket::Meta if self.slow > now => 1,
            _ => 60,
        }
    }

    /// One thing that may be wrong with them, for a while.
    pub fn ail(&mut self, now: Millis, random: &mut Random) -> String {
        let (to, socket) = (random.below(2) as usize, random.below(2) as usize);
        let longest = if random.chance(50) { 1500 } else { 30_000 };
        let until = now + 50 + random.below(longest);
        match random.below(4) {
            0 => {
                self.dead[to] = until;
                format!("nothing reaches node {to} until {until}")
            }
            1 | 2 => {
                self.stalled[to][socket] = until;
                format!("socket {socket} to node {to} stalls until {until}")
            }
            _ => {
                self.slow = until;
                format!("acknowledgements are slow until {until}")
            }
        }
    }
}

/// One pair of sockets between the nodes.
pub struct Connection {
    pub version: ProtocolVersion,
    pub features: Features,
    pub arbiter: usize,
    /// Whether each node's daemon was told that the sockets are there.
    pub told: [bool; 2],
    /// Whether each node still has its ends open.
    pub open: [bool; 2],
    /// Items on their way to each node, for each socket.
    pub to: [[VecDeque<Item>; 2]; 2],
    /// A machine is without power: nothing comes from it, not even the end of the stream.
    pub silent: [bool; 2],
    /// It has lost its power, and may have it again.
    pub cut: [bool; 2],
    /// It was reset: nothing comes through any more.
    broken: bool,
}

impl Connection {
    pub fn new(version: ProtocolVersion, features: Features, arbiter: usize) -> Connection {
        Connection {
            version,
            features,
            arbiter,
            told: [false; 2],
            open: [true; 2],
            to: Default::default(),
            silent: [false; 2],
            cut: [false; 2],
            broken: false,
        }
    }

    pub fn link(&self, node: usize) -> Link {
        Link { version: self.version, features: self.features, arbiter: self.arbiter == node }
    }

    pub fn context(&self) -> Context {
        Context { version: self.version, features: self.features, peer_integrity_len: 0 }
    }

    /// Gives a packet to TCP.
    pub fn send(
        &mut self,
        from: usize,
        socket: Socket,
        volume: u16,
        packet: &Packet,
        payload: Option<Payload>,
    ) {
        if !self.open[from] || self.broken {
            return;
        }
        assert_eq!(packet.socket(), socket, "{packet:?} on the wrong socket");
        let mut bytes = Vec::with_capacity(64);
        let len = payload.as_ref().map_or(0, |payload| payload.len());
        packet.encode_into(&mut bytes, volume, self.version, &[], len);
        self.to[1 - from][socket as usize].push_back(Item::Packet { bytes, payload });
    }

    /// Decodes what a reader of the socket gets.
    pub fn decode(&self, socket: Socket, bytes: &[u8], payload: Option<&Payload>) -> (u16, Packet) {
        let framing = Framing::Agreed(self.version);
        let context = self.context();
        let (header, rest) = bytes.split_at(framing.header_len());
        let header = Header::decode(framing, header).expect("own header");
        let frame = Frame::new(header, socket, &context).expect("own frame");
        assert_eq!(
            frame.payload_len,
            payload.map_or(0, |payload| payload.len()),
            "length of {:?}",
            frame.command
        );
        assert_eq!(frame.fixed_len, rest.len(), "length of {:?}", frame.command);
        let incoming =
            frame.decode(rest, &context).unwrap_or_else(|error| panic!("{:?}: {error}", frame.command));
        (incoming.volume, incoming.packet)
    }

    /// A node closes its ends. What it sent before may still arrive, in part.
    pub fn close(&mut self, node: usize, abruptly: bool, random: &mut Random) {
        if !self.open[node] {
            return;
        }
        self.open[node] = false;
        for socket in 0..2 {
            self.to[node][socket].clear();
            let queue = &mut self.to[1 - node][socket];
            if abruptly {
                let kept = random.below(queue.len() as u64 + 1) as usize;
                queue.truncate(kept);
            }
            queue.push_back(Item::End);
        }
    }

    /// A machine loses its power.
    pub fn fall_silent(&mut self, node: usize, random: &mut Random) {
        self.open[node] = false;
        self.silent[node] = true;
        self.cut[node] = true;
        for socket in 0..2 {
            self.to[node][socket].clear();
            let queue = &mut self.to[1 - node][socket];
            let kept = random.below(queue.len() as u64 + 1) as usize;
            queue.truncate(kept);
        }
    }

    /// The machine is up again and answers with a reset.
    pub fn reset_by(&mut self, node: usize) {
        if std::mem::take(&mut self.silent[node]) {
            for socket in 0..2 {
                let queue = &mut self.to[1 - node][socket];
                queue.clear();
                queue.push_back(Item::End);
            }
        }
    }

    /// Everything on its way is lost, and both sides hear of it.
    pub fn reset(&mut self) {
        self.broken = true;
        for node in 0..2 {
            for socket in 0..2 {
                self.to[node][socket].clear();
                if self.open[node] {
                    self.to[node][socket].push_back(Item::End);
                }
            }
        }
    }

    pub fn is_over(&self) -> bool {
        !self.open[0] && !self.open[1]
    }
}
