//! A peer that sends well-formed nonsense: any packet that the decoder lets through, at any time, in any order.
//! The node must not panic, not touch what is beyond its disk, not go round in circles, complete every
//! request of the application exactly once, and be of use to a decent peer afterwards.

use super::pair_tests::{Node, SECTORS, V};
use super::state::{Conn, Disk, Role};
use super::types::*;
use crate::conf::settings::NetSettings;
use crate::conf::Dialect;
use crate::sys::buffer::Buffer;
use crate::wire::{Command as Kind, Context, Features, Frame, Header, Packet, ProtocolVersion, Socket};
use std::sync::Arc;

/// Rounds of outputs and their results that one input may cause.
const ROUNDS_MAX: usize = 20_000;

/// xorshift: the same noise in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    /// A number of a kind that means something somewhere: small, a sector, a size, all bits, anything.
    fn number(&mut self) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => self.below(8),
            2 => self.below(SECTORS),
            3 => self.below(SECTORS) & !7,
            4 => SECTORS - self.below(16),
            5 => 512 << self.below(14),
            6 => u64::MAX - self.below(2),
            _ => self.roll(),
        }
    }

    /// Bytes that are made of such numbers.
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            match self.below(3) {
                0 => bytes.extend(self.number().to_be_bytes()),
                1 => bytes.extend((self.number() as u32).to_be_bytes()),
                _ => bytes.extend((self.number() as u32).to_le_bytes()),
            }
        }
        bytes.truncate(count);
        bytes
    }
}

struct Noise {
    dice: Dice,
    node: Node,
    now: Millis,
    context: Context,
    /// Writes and reads of the application.
    tokens: Vec<Token>,
    /// Writes of the node since its last barrier.
    epoch_writes: u32,
}

impl Noise {
    fn new(seed: u64) -> Noise {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let versions: Vec<ProtocolVersion> = ProtocolVersion::all().collect();
        let version = match dice.one_in(2) {
            true => ProtocolVersion::MAX,
            false => versions[dice.below(versions.len() as u64) as usize],
        };
        let features = if version.has_volumes() { Features::ANNOUNCED } else { Features::NONE };
        let context = Context { version, features, peer_integrity_len: 0 };
        let mut node = Node::new(seed);
        match dice.below(4) {
            0 => {}
            1 => assert_eq!(node.command(Command::Detach { volume: V, force: false }), 1),
            _ => assert_eq!(node.command(Command::Primary { volume: V, force: true }), 1),
        }
        Noise { dice, node, now: 0, context, tokens: Vec::new(), epoch_writes: 0 }
    }

    /// Carries out what the node wants, until it wants nothing.
    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if !self.node.work() {
                return;
            }
        }
        panic!("it goes round in circles:\n{}", self.node.log.join("\n"));
    }

    fn is_up(&self) -> bool {
        self.node.core.link().is_some()
    }

    /// A link, with most of the parameters of a decent peer.
    fn meet(&mut self) {
        let Context { version, features, .. } = self.context;
        self.epoch_writes = 0;
        for queue in &mut self.node.outgoing {
            queue.clear();
        }
        self.node.core.link_up(self.now, Link { version, features, arbiter: self.dice.one_in(2) });
        self.settle();
        let sent: Vec<Packet> = self.node.outgoing[0].drain(..).map(|(_, packet, _)| packet).collect();
        for packet in sent {
            if self.dice.one_in(12) {
                continue;
            }
            let packet = match packet {
                Packet::Uuids(mut uuids) => {
                    let known = [uuids.current, uuids.current & !1, 4, 0x1000, uuids.bitmap];
                    uuids.current = known[self.dice.below(5) as usize];
                    uuids.bitmap = known[self.dice.below(5) as usize];
                    uuids.flags = self.dice.below(16);
                    Packet::Uuids(uuids)
                }
                Packet::State(word) => {
                    let mut state = super::state::StateWord::from_bits(word).unwrap();
                    let disks = [Disk::UpToDate, Disk::Inconsistent, Disk::Consistent, Disk::Negotiating];
                    state.disk = disks[self.dice.below(4) as usize];
                    state.role = if self.dice.one_in(6) { Role::Primary } else { Role::Secondary };
                    Packet::State(state.to_bits())
                }
                other => other,
            };
            self.deliver(Socket::Data, 0, packet, None);
        }
    }

    fn deliver(&mut self, socket: Socket, volume: u16, packet: Packet, payload: Option<Payload>) {
        if !self.is_up() || (socket == Socket::Data && !self.node.core.receiver_ready()) {
            return;
        }
        self.node.core.packet(self.now, socket, volume, packet, payload);
        self.settle();
    }

    /// A packet as it comes out of the decoder; `None`: it did not let it through.
    fn noise(&mut self, socket: Socket) -> Option<(u16, Packet, Option<Payload>)> {
        let command = Kind::ALL[self.dice.below(Kind::ALL.len() as u64) as usize].number();
        let volume = if self.dice.one_in(12) { self.dice.roll() as u16 } else { 0 };
        let length = match self.dice.below(6) {
            0 => self.dice.below(100) as u32,
            1 => 24 + 512 * self.dice.below(17) as u32,
            2 => 28 + 512,
            _ => [0, 4, 8, 16, 24, 28, 32, 48][self.dice.below(8) as usize],
        };
        let frame = Frame::new(Header { command, volume, length }, socket, &self.context).ok()?;
        let mut fixed = self.dice.bytes(frame.fixed_len);
        // A block id that the node knows.
        if fixed.len() >= 16 && self.dice.one_in(2) {
            let id = [u64::MAX, 1, 2, 3, 4, 5, 6, 7][self.dice.below(8) as usize];
            fixed[8..16].copy_from_slice(&id.to_ne_bytes());
        }
        let packet = frame.decode(&fixed, &self.context).ok()?.packet;
        let payload = self.dice.bytes(frame.payload_len);
        let payload = (!payload.is_empty()).then(|| Payload::whole(Arc::new(Buffer::from_bytes(&payload))));
        Some((volume, packet, payload))
    }

    /// An answer that fits to something that the node has sent.
    fn plausible(&mut self) -> Option<(Packet, Option<Payload>)> {
        let (_, packet, payload) = self.node.outgoing[0].pop_front()?;
        let ack = |sector, block_id, size| crate::wire::BlockAck { sector, block_id, size, seq: 1 };
        let data = |bytes: u32| Some(Payload::whole(Arc::new(Buffer::zeroed(bytes as usize))));
        let answer = match packet {
            Packet::Data(data) => {
                self.epoch_writes += 1;
                let ack = ack(data.sector, data.block_id, payload.map_or(0, |p| p.len() as u32));
                match self.dice.below(16) {
                    0 => Packet::NegAck(ack),
                    1 => Packet::RecvAck(ack),
                    2 => Packet::Superseded(ack),
                    3 => Packet::RsWriteAck(ack),
                    _ => Packet::WriteAck(ack),
                }
            }
            Packet::Trim(r) | Packet::Zeroes(r) => Packet::WriteAck(ack(r.sector, r.block_id, r.size)),
            Packet::Barrier(barrier) => Packet::BarrierAck(crate::wire::BarrierAck {
                number: barrier.number,
                set_size: match self.dice.one_in(20) {
                    true => self.dice.below(3) as u32,
                    false => std::mem::take(&mut self.epoch_writes),
                },
            }),
            Packet::RsDataRequest(r) => match self.dice.below(6) {
                0 => Packet::RsCancel(ack(r.sector, r.block_id, r.size)),
                1 => Packet::RsIsInSync(ack(r.sector, r.block_id, r.size)),
                2 => Packet::NegRsDataReply(ack(r.sector, r.block_id, r.size)),
                _ => {
                    let reply = crate::wire::Reply { sector: r.sector, block_id: r.block_id };
                    return Some((Packet::RsDataReply(reply), data(r.size)));
                }
            },
            Packet::DataRequest(r) => match self.dice.below(3) {
                0 => Packet::NegDataReply(ack(r.sector, r.block_id, r.size)),
                _ => {
                    let reply = crate::wire::Reply { sector: r.sector, block_id: r.block_id };
                    return Some((Packet::DataReply(reply), data(r.size)));
                }
            },
            Packet::OvRequest(r) => match self.dice.below(3) {
                0 => Packet::NegRsDataReply(ack(r.sector, r.block_id, r.size)),
                _ => Packet::OvReply(crate::wire::BlockDigest {
                    sector: r.sector,
                    block_id: r.block_id,
                    size: r.size,
                    digest: crate::wire::Digest::Crc32c.compute(&[1]),
                }),
            },
            Packet::StateChangeRequest(_) => {
                Packet::StateChangeReply([1, 1, -10, 2, -18][self.dice.below(5) as usize])
            }
            Packet::ConnectionStateChangeRequest(_) => Packet::ConnectionStateChangeReply(1),
            // A bitmap is answered with the same bitmap.
            Packet::Bitmap | Packet::CompressedBitmap => return Some((packet, payload)),
            Packet::State(_) if self.node.core.volume(V).state().conn == Conn::WFSyncUUID => {
                Packet::SyncUuid(self.dice.number())
            }
            _ => return None,
        };
        Some((answer, None))
    }

    fn application(&mut self) {
        let bytes = 512 << self.dice.below(6);
        let sector = self.dice.below(SECTORS - 4096);
        self.node.next += 1;
        let token = self.node.next;
        match self.dice.below(3) {
            0 => self.node.core.read(self.now, V, token, sector, bytes),
            _ => {
                self.node.next -= 1;
                self.node.write(sector, 9, bytes as usize);
            }
        }
        self.tokens.push(token);
        self.settle();
    }

    fn administrator(&mut self) {
        let volume = V;
        let command = match self.dice.below(8) {
            0 => Command::Invalidate { volume },
            1 => Command::InvalidateRemote { volume },
            2 => Command::Verify { volume, start: None, stop: None },
            3 => Command::PauseSync { volume },
            4 => Command::ResumeSync { volume },
            5 => Command::Secondary { volume, open: false },
            6 => Command::Primary { volume, force: true },
            _ => Command::Outdate { volume },
        };
        self.node.begin(command);
        self.settle();
    }

    fn live(&mut self, steps: usize) {
        self.settle();
        for _ in 0..steps {
            if self.node.core.connection_state() == Conn::StandAlone {
                self.node.begin(Command::Connect(Box::new(settings())));
                self.settle();
            }
            if !self.is_up() && self.node.wants_link {
                self.meet();
            }
            match self.dice.below(16) {
                0 => {
                    self.now += self.dice.below(1500);
                    self.node.core.timeout(self.now);
                    self.settle();
                }
                1 | 2 if self.node.core.volume(V).state().role == Role::Primary => self.application(),
                3 if self.dice.one_in(3) => self.administrator(),
                4..=11 => {
                    for _ in 0..self.dice.below(20) {
                        if let Some((packet, payload)) = self.plausible() {
                            self.deliver(packet.socket(), 0, packet, payload);
                        }
                    }
                }
                socket => {
                    let socket = if socket % 2 == 0 { Socket::Data } else { Socket::Meta };
                    if let Some((volume, packet, payload)) = self.noise(socket) {
                        self.deliver(socket, volume, packet, payload);
                    }
                }
            }
        }
    }

    /// The connection ends; whatever the peer said, no request of the application stays open.
    fn end(&mut self) {
        for _ in 0..2 {
            self.node.begin(Command::Disconnect { force: true });
            self.settle();
            // A peer may ask for that (spec/state.md 6.5).
            self.node.begin(Command::ResumeIo { volume: V });
            self.settle();
            for _ in 0..200 {
                self.now += 500;
                self.node.core.timeout(self.now);
                self.settle();
            }
        }
        assert_eq!(self.node.core.connection_state(), Conn::StandAlone, "{}", self.node.log.join("\n"));
        let open = self.tokens.iter().filter(|token| !self.node.completed.contains_key(token)).count();
        assert_eq!(open, 0, "requests that nobody answered\n{}", self.node.log.join("\n"));
        let counters = self.node.core.volume(V).counters();
        let pending = [counters.ap_pending, counters.unacked, counters.local, counters.rs_pending];
        assert_eq!(pending, [0; 4], "{}", self.node.log.join("\n"));
    }
}

fn settings() -> NetSettings {
    NetSettings {
        use_rle: true,
        verify_alg: "crc32c".into(),
        ko_count: 3,
        ..NetSettings::defaults(Dialect::V83)
    }
}

#[test]
fn nonsense_does_no_lasting_harm() {
    // DRBDBOX_NOISE_SEED runs that seed only, DRBDBOX_NOISE_SEEDS as many as it says.
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match (number("DRBDBOX_NOISE_SEED"), number("DRBDBOX_NOISE_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 1..1 + count.unwrap_or(300),
    };
    for seed in seeds {
        // Printed only if the test fails.
        println!("seed {seed}");
        let mut noise = Noise::new(seed);
        noise.live(300);
        noise.end();
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.node.log.join("\n"));
        }
    }
}
