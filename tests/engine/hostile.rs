//! A peer that speaks the protocol's words in any order, with any content. Whatever it says, the node must
//! neither panic nor hang, and must go on to serve its application and its true peer.

use crate::fixture::Pair;
use drbdbox::control::message::ConnectionOf;
use drbdbox::control::Request;
use drbdbox::core::state::{Conn, Role};
use drbdbox::status::AddressPair;
use drbdbox::wire::handshake::Offer;
use drbdbox::wire::{
    Barrier, BarrierAck, BlockAck, BlockDescription, BlockDigest, BlockRequest, Data, DataFlags, DigestValue,
    OvResult, Packet, Protocol, ProtocolVersion, RangeWrite, Reply, Sizes, Socket, StateChangeRequest,
    SyncParam, Uuids,
};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// xorshift: the same numbers for the same seed. `gentle`: mostly what an honest peer might say at the
/// wrong time, so that a connection lives longer.
struct Random {
    state: u64,
    gentle: bool,
}

impl Random {
    fn number(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }

    fn any(&mut self, values: &[u64]) -> u64 {
        values[self.below(values.len() as u64) as usize]
    }

    /// Mostly within a device of 4 MiB, sometimes far beyond.
    fn sector(&mut self) -> u64 {
        match self.below(12) {
            _ if self.gentle => self.below(1000) * 8,
            0 => self.number() >> self.below(64),
            1 => 8160 + self.below(64),
            _ => self.below(1000) * 8,
        }
    }

    fn size(&mut self) -> u32 {
        match self.below(10) {
            _ if self.gentle => 4096 * (1 + self.below(4)) as u32,
            0 => self.number() as u32,
            1 => 512 * self.below(2000) as u32,
            _ => 4096 * (1 + self.below(4)) as u32,
        }
    }

    fn id(&mut self) -> u64 {
        match self.below(4) {
            0 => u64::MAX,
            1 => self.number(),
            _ => self.below(20),
        }
    }

    fn small(&mut self) -> u32 {
        match self.below(5) {
            0 => self.number() as u32,
            _ => self.below(8) as u32,
        }
    }

    fn digest(&mut self) -> DigestValue {
        let bytes: Vec<u8> = (0..self.any(&[0, 4, 16, 20, 64])).map(|_| self.number() as u8).collect();
        DigestValue::new(&bytes).expect("at most 64 bytes")
    }

    fn state_word(&mut self) -> u32 {
        match self.below(3) {
            0 => self.number() as u32 & 0x7f_ffff,
            // Roles 1 or 2, any connection, any disks: what a confused peer might really say.
            _ => {
                (1 + self.below(2) as u32)
                    | (1 + self.below(2) as u32) << 2
                    | (self.below(24) as u32) << 4
                    | (self.below(9) as u32) << 9
                    | (self.below(9) as u32) << 13
            }
        }
    }

    fn packet(&mut self) -> (Packet, usize) {
        let (sector, block_id, seq, size) = (self.sector(), self.id(), self.small(), self.size());
        let flags = DataFlags(self.number() as u32 & 0x7ff);
        let bytes = (size % (64 << 10) / 512 * 512) as usize;
        let ack = BlockAck { sector, block_id, size, seq };
        let range = RangeWrite { sector, block_id, seq, flags, size };
        let request = BlockRequest { sector, block_id, size };
        let kind = match self.gentle {
            true => self.any(&[
                0, 1, 2, 3, 6, 7, 9, 12, 14, 15, 16, 18, 27, 28, 29, 31, 32, 33, 35, 37, 38, 39, 40, 43,
            ]),
            false => self.below(44),
        };
        let packet = match kind {
            0..=3 => return (Packet::Data(Data { sector, block_id, seq, flags }), bytes),
            4 => return (Packet::DataReply(Reply { sector, block_id }), bytes.max(512)),
            5 => return (Packet::RsDataReply(Reply { sector, block_id }), bytes.max(512)),
            6 => Packet::Trim(range),
            7 => Packet::Zeroes(range),
            8 => return (Packet::WriteSame(range), 512),
            9 | 10 => Packet::Barrier(Barrier { number: self.small() }),
            11 => Packet::UnplugRemote,
            12 => Packet::OutOfSync(BlockDescription { sector, size }),
            13 => Packet::RsDeallocated(BlockDescription { sector, size }),
            14 => Packet::DataRequest(request),
            15 => Packet::RsDataRequest(request),
            16 => Packet::RsThinRequest(request),
            17 => Packet::CsumRsRequest(BlockDigest { sector, block_id, size, digest: self.digest() }),
            18 => Packet::OvRequest(request),
            19 => Packet::OvReply(BlockDigest { sector, block_id, size, digest: self.digest() }),
            20 => return (Packet::Bitmap, self.any(&[0, 8, 128, 256, 4064]) as usize),
            21 => return (Packet::CompressedBitmap, 2 + self.below(200) as usize),
            22 => Packet::Protocol(protocol(self.small())),
            23 => Packet::ProtocolUpdate(protocol(self.small())),
            24 => Packet::SyncParam(sync_param(self.small())),
            25 => Packet::Sizes(sizes(self.sector(), self.sector())),
            26 => Packet::Uuids(Uuids {
                current: self.number() >> self.below(64),
                bitmap: self.number() >> self.below(64),
                history: [self.number() >> self.below(64), 0],
                dirty_bits: self.sector(),
                flags: self.below(16),
            }),
            27 => Packet::SyncUuid(self.number()),
            28..=30 => Packet::State(self.state_word()),
            31 => Packet::StateChangeRequest(StateChangeRequest {
                mask: self.state_word() & self.number() as u32,
                val: self.state_word(),
            }),
            32 => Packet::ConnectionStateChangeRequest(StateChangeRequest {
                mask: self.state_word() & self.number() as u32,
                val: self.state_word(),
            }),
            33 => Packet::StateChangeReply(self.small() as i32 - 3),
            34 => Packet::ConnectionStateChangeReply(self.small() as i32 - 3),
            35 => Packet::Ping,
            36 => Packet::PingAck,
            37 => Packet::RecvAck(ack),
            38 => Packet::WriteAck(ack),
            39 => Packet::RsWriteAck(ack),
            40 => Packet::NegAck(ack),
            41 => match self.below(5) {
                0 => Packet::Superseded(ack),
                1 => Packet::RetryWrite(ack),
                2 => Packet::NegDataReply(ack),
                3 => Packet::NegRsDataReply(ack),
                _ => Packet::RsCancel(ack),
            },
            42 => match self.below(2) {
                0 => Packet::RsIsInSync(ack),
                _ => Packet::OvResult(OvResult { sector, size, seq, in_sync: self.below(2) == 0 }),
            },
            _ => Packet::BarrierAck(BarrierAck { number: self.small(), set_size: self.small() }),
        };
        (packet, 0)
    }
}

fn protocol(two_primaries: u32) -> Protocol {
    Protocol {
        protocol: 3,
        after_sb_0p: 0,
        after_sb_1p: 0,
        after_sb_2p: 0,
        conn_flags: 0,
        two_primaries: u32::from(two_primaries == 1),
        integrity_alg: String::new(),
    }
}

fn sync_param(rate: u32) -> SyncParam {
    SyncParam { rate, verify_alg: "md5".into(), csums_alg: String::new(), controller: None }
}

fn sizes(d_size: u64, c_size: u64) -> Sizes {
    Sizes { d_size, u_size: 0, c_size, max_bio_size: 1 << 20, dds_flags: 0, queue_limits: None }
}

/// The false peer: its two sockets.
struct False {
    data: TcpStream,
    meta: TcpStream,
}

impl False {
    /// Connects and shakes hands; `None` if the node was not listening at the moment.
    fn connect(address: std::net::SocketAddr) -> Option<False> {
        let open = |packet: Packet| {
            let mut stream = TcpStream::connect(address).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
            stream.set_write_timeout(Some(Duration::from_secs(5))).ok()?;
            stream.write_all(&packet.to_bytes(0, ProtocolVersion::MAX)).ok()?;
            Some(stream)
        };
        let (mut data, meta) = (open(Packet::InitialData)?, open(Packet::InitialMeta)?);
        let mut offer = Offer::default().packet();
        offer.features.0 &= !4;
        data.write_all(&Packet::ConnectionFeatures(offer).to_bytes(0, ProtocolVersion::MAX)).ok()?;
        let mut features = [0; 80];
        data.read_exact(&mut features).ok()?;
        Some(False { data, meta })
    }

    /// Lets the node read everything before the end.
    fn part(mut self) {
        for stream in [&mut self.meta, &mut self.data] {
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.set_read_timeout(Some(Duration::from_millis(300)));
            let mut rest = [0; 65536];
            while stream.read(&mut rest).is_ok_and(|count| count > 0) {}
        }
    }

    fn send(&mut self, packet: &Packet, payload: &[u8]) -> bool {
        let mut bytes = Vec::new();
        packet.encode_into(&mut bytes, 0, ProtocolVersion::MAX, &[], payload.len());
        bytes.extend_from_slice(payload);
        let stream = match packet.socket() {
            Socket::Data => &mut self.data,
            Socket::Meta => &mut self.meta,
        };
        stream.write_all(&bytes).is_ok()
    }

    /// What an honest peer says first.
    fn introduce(&mut self, random: &mut Random, current: u64, bitmap: u64) {
        let uuids = Uuids { current, bitmap, history: [0, 0], dirty_bits: 0, flags: 0 };
        // Secondary, UpToDate or Inconsistent, nothing known about this node.
        let disk = if bitmap == 0 { random.any(&[4, 8]) as u32 } else { 8 };
        let word = 2 | 8 << 4 | disk << 9 | 6 << 13;
        for packet in [
            Packet::Protocol(protocol(0)),
            Packet::SyncParam(sync_param(1000)),
            Packet::Sizes(sizes(8112, 8112)),
            Packet::Uuids(uuids),
            Packet::State(word),
        ] {
            self.send(&packet, &[]);
        }
    }
}

#[test]
fn nothing_that_a_peer_says_brings_a_node_down() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        before(info);
    }));
    let seeds: u64 = std::env::var("DRBDBOX_TEST_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(40);
    let first: u64 = std::env::var("DRBDBOX_TEST_FIRST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let pair = Pair::new(4 << 20);
    let node = &pair.nodes[0];
    pair.connect(&[("ping-timeout", "5"), ("verify-alg", "md5")]);
    pair.initial_sync();
    let connection = || ConnectionOf::Resource("r0".into());
    pair.nodes[1].ok(Request::Disconnect { connection: connection(), force: false });
    for seed in first..first + seeds {
        if seed % 11 == 0 {
            let role = node.volume().state.role;
            let request = match role {
                Role::Primary => Request::Secondary { minor: 0 },
                _ => Request::Primary { minor: 0, force: true },
            };
            node.call(request);
        }
        if node.volume().state.conn == Conn::StandAlone {
            let addresses = AddressPair { local: node.address, peer: pair.nodes[1].address };
            let changes = crate::fixture::changes(&[("ping-timeout", "5"), ("verify-alg", "md5")]);
            node.call(Request::Connect { connection: connection(), addresses, changes });
        }
        let state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = Random { state, gentle: seed % 3 > 0 };
        let Some(mut peer) = False::connect(node.address.socket_address()) else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        if random.below(4) > 0 {
            let uuids = node.volume().backing.map_or([0; 4], |backing| backing.uuids);
            // The same data, or newer data that follow from this node's, or anything.
            let (current, bitmap) = match random.below(8) {
                0..=2 => (uuids[0], 0),
                3..=5 => (random.number(), uuids[0]),
                6 => (uuids[1], 0),
                _ => (random.any(&[4, 0x1234]), 0),
            };
            peer.introduce(&mut random, current & !1, bitmap & !1);
            node.wait_briefly(|s| s.conn >= Conn::Connected || s.conn < Conn::WFConnection);
            if random.gentle && matches!(node.volume().state.conn, Conn::WFBitMapS | Conn::WFBitMapT) {
                peer.send(&Packet::Bitmap, &[random.number() as u8; 128]);
                peer.send(&Packet::Bitmap, &[]);
                if node.volume().state.conn == Conn::WFBitMapT {
                    peer.send(&Packet::SyncUuid(random.number()), &[]);
                }
                node.wait_briefly(|s| s.conn >= Conn::SyncSource || s.conn < Conn::WFConnection);
            }
        }
        for _ in 0..random.below(60) {
            let (packet, len) = random.packet();
            let payload: Vec<u8> = match packet {
                Packet::CompressedBitmap | Packet::Bitmap => {
                    (0..len).map(|_| random.number() as u8).collect()
                }
                _ => vec![seed as u8; len],
            };
            if !peer.send(&packet, &payload) {
                break;
            }
        }
        peer.part();
        assert_eq!(PANICS.load(Ordering::SeqCst), 0, "seed {seed}\n{}", node.log_text());
        // The lock is free, and whoever asks gets an answer.
        node.volume();
    }
}
