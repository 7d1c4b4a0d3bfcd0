//! A peer whose packets a test writes: handshake and parameters as a node sends them, up to any point.

use crate::node::{Node, LIMIT};
use crate::sample_packets::plain_protocol;
use drbdbox::core::state::{Conn, Disk, Role, StateWord};
use drbdbox::engine::reader::PacketReader;
use drbdbox::wire::{
    BlockAck, Context, Features, FeaturesPacket, Packet, ProtocolVersion, Sizes, Socket, SyncParam, Uuids,
};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How the peer presents itself.
#[derive(Debug, Clone, Copy)]
pub struct Character {
    /// Newest protocol.
    pub version: ProtocolVersion,
    /// Size of its disk in sectors; `None`: as large as the node's.
    pub sectors: Option<u64>,
    /// State of its disk; `None`: as the node's.
    pub disk: Option<Disk>,
    /// UUID of its data; `None`: the node's.
    pub current: Option<u64>,
    pub role: Role,
    /// Protocol A, B or C: 1 to 3.
    pub protocol: u32,
}

impl Default for Character {
    fn default() -> Character {
        Character {
            version: ProtocolVersion::MAX,
            sectors: None,
            disk: None,
            current: None,
            role: Role::Secondary,
            protocol: 3,
        }
    }
}

/// Two connections to a node.
pub struct FakePeer {
    pub data: Arc<TcpStream>,
    pub meta: Arc<TcpStream>,
    pub context: Context,
    data_reader: PacketReader,
    meta_reader: PacketReader,
}

/// Connects as soon as the node listens.
pub fn dial(address: SocketAddr) -> TcpStream {
    let deadline = Instant::now() + LIMIT;
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => {
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                stream.set_write_timeout(Some(LIMIT)).unwrap();
                return stream;
            }
            Err(error) => assert!(Instant::now() < deadline, "{address}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the other end closes the connection; what it sent until then.
pub fn until_closed(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the node keeps the connection open: {error}"),
    }
    bytes
}

impl FakePeer {
    /// Both connections, each with its first packet.
    pub fn meet(node: &Node) -> FakePeer {
        FakePeer::meet_with(node, ProtocolVersion::MAX)
    }

    fn meet_with(node: &Node, version: ProtocolVersion) -> FakePeer {
        let open = |packet: Packet| {
            let mut stream = dial(node.address);
            stream.write_all(&packet.to_bytes(0, version)).unwrap();
            Arc::new(stream)
        };
        let (data, meta) = (open(Packet::InitialData), open(Packet::InitialMeta));
        let context = Context::new(version);
        let data_reader = PacketReader::new(Arc::clone(&data), Socket::Data, context);
        let meta_reader = PacketReader::new(Arc::clone(&meta), Socket::Meta, context);
        FakePeer { data, meta, context, data_reader, meta_reader }
    }

    /// Up to the agreement on a version.
    pub fn agree(node: &Node, version: ProtocolVersion) -> FakePeer {
        let mut peer = FakePeer::meet_with(node, version);
        let number = u32::from(version.number());
        peer.send(Packet::ConnectionFeatures(FeaturesPacket {
            protocol_min: 86,
            features: Features::NONE,
            protocol_max: number,
        }));
        let mut features = [0; 80];
        (&*peer.data).read_exact(&mut features).unwrap();
        peer.data_reader = PacketReader::new(Arc::clone(&peer.data), Socket::Data, peer.context);
        peer
    }

    /// Up to the exchanged states. With the node's own UUIDs, so that nothing has to be synchronized.
    pub fn connected(node: &Node, character: Character) -> FakePeer {
        let mut peer = FakePeer::agree(node, character.version);
        let (sizes, uuids, state) = peer.node_parameters();
        peer.send(Packet::Protocol(plain_protocol(character.protocol)));
        peer.send(sync_param());
        let sectors = character.sectors.unwrap_or(sizes.d_size);
        peer.send(Packet::Sizes(Sizes { d_size: sectors, c_size: sectors, ..sizes }));
        if let Some(uuids) = uuids {
            let current =
                character.current.unwrap_or(uuids.current) & !1 | u64::from(character.role == Role::Primary);
            peer.send(Packet::Uuids(Uuids { current, flags: 0, ..uuids }));
        }
        let word = StateWord {
            role: character.role,
            peer: Role::Unknown,
            conn: Conn::WFConnection,
            disk: character.disk.unwrap_or(state.disk),
            pdsk: Disk::DUnknown,
            ..StateWord::UNCONFIGURED
        };
        peer.send(Packet::State(word.to_bits()));
        peer
    }

    /// [`FakePeer::connected`], and the node sees it so.
    pub fn accepted(node: &Node) -> FakePeer {
        let peer = FakePeer::connected(node, Character::default());
        node.wait_conn(Conn::Connected);
        peer
    }

    /// Reads the node's parameters.
    fn node_parameters(&mut self) -> (Sizes, Option<Uuids>, StateWord) {
        let (mut sizes, mut uuids) = (None, None);
        loop {
            match self.receive() {
                Packet::Sizes(packet) => sizes = Some(packet),
                Packet::Uuids(packet) => uuids = Some(packet),
                Packet::State(word) => {
                    return (sizes.expect("sizes"), uuids, StateWord::from_bits(word).unwrap())
                }
                Packet::Protocol(_) | Packet::SyncParam(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Sends a packet without payload, for volume 0, on the socket where it belongs.
    pub fn send(&self, packet: Packet) {
        self.send_for(0, packet);
    }

    pub fn send_for(&self, volume: u16, packet: Packet) {
        let socket = packet.socket();
        self.raw(socket, &packet.to_bytes(volume, self.context.version));
    }

    /// Sends a packet with payload.
    pub fn send_data(&self, packet: Packet, payload: &[u8]) {
        let mut bytes = Vec::new();
        packet.encode_into(&mut bytes, 0, self.context.version, &[], payload.len());
        bytes.extend_from_slice(payload);
        self.raw(packet.socket(), &bytes);
    }

    /// Sends bytes. The node may have closed the connection already.
    pub fn raw(&self, socket: Socket, bytes: &[u8]) {
        let mut stream = match socket {
            Socket::Data => &*self.data,
            Socket::Meta => &*self.meta,
        };
        let _ = stream.write_all(bytes);
    }

    /// The next packet on the data socket.
    pub fn receive(&mut self) -> Packet {
        self.data_reader.receive().expect("a packet").packet
    }

    /// The next packet on the meta socket.
    pub fn receive_meta(&mut self) -> Packet {
        self.meta_reader.receive().expect("a packet").packet
    }

    /// The next write of the node on the data socket: sector, block id, sequence number, bytes.
    pub fn receive_write(&mut self) -> BlockAck {
        loop {
            let received = self.data_reader.receive().expect("a packet");
            if let Packet::Data(data) = received.packet {
                let size = received.payload.map_or(0, |payload| payload.len() as u32);
                return BlockAck { sector: data.sector, block_id: data.block_id, size, seq: 1 };
            }
        }
    }

    /// Answers pings, and agrees to changes of state, until it is dropped.
    pub fn keep_alive(self) -> KeptAlive {
        let streams = [Arc::clone(&self.data), Arc::clone(&self.meta)];
        let FakePeer { data, meta, context, data_reader, meta_reader } = self;
        let answer = |mut reader: PacketReader, meta: Arc<TcpStream>| {
            std::thread::spawn(move || {
                while let Ok(received) = reader.receive() {
                    let answer = match received.packet {
                        Packet::Ping => Packet::PingAck,
                        Packet::StateChangeRequest(_) => Packet::StateChangeReply(1),
                        _ => continue,
                    };
                    let _ = (&*meta).write_all(&answer.to_bytes(0, context.version));
                }
            });
        };
        answer(data_reader, Arc::clone(&meta));
        answer(meta_reader, meta);
        drop(data);
        KeptAlive(streams)
    }

    /// Waits until the node has closed both connections.
    pub fn until_dropped(&self) {
        until_closed(&self.data);
        until_closed(&self.meta);
    }

    /// Ends what it sends on the data socket.
    pub fn close_data(&self) {
        let _ = self.data.shutdown(Shutdown::Write);
    }

    /// Ends what it sends on the meta socket.
    pub fn close_meta(&self) {
        let _ = self.meta.shutdown(Shutdown::Write);
    }

    pub fn close(&self) {
        let _ = self.data.shutdown(Shutdown::Both);
        let _ = self.meta.shutdown(Shutdown::Both);
    }
}

/// A peer that answers pings, and nothing else.
pub struct KeptAlive([Arc<TcpStream>; 2]);

impl Drop for KeptAlive {
    fn drop(&mut self) {
        for stream in &self.0 {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

pub fn sync_param() -> Packet {
    Packet::SyncParam(SyncParam {
        rate: 250,
        verify_alg: String::new(),
        csums_alg: String::new(),
        controller: Some(drbdbox::wire::ResyncController {
            plan_ahead: 0,
            delay_target: 10,
            fill_target: 0,
            max_rate: 0,
        }),
    })
}

/// Bytes of a header of 16 bytes.
pub fn header_100(volume: u16, command: u16, length: u32) -> Vec<u8> {
    let mut bytes = 0x8620_ec20_u32.to_be_bytes().to_vec();
    bytes.extend(volume.to_be_bytes());
    bytes.extend(command.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend([0; 4]);
    bytes
}

/// Bytes of a header of 8 bytes.
pub fn header_80(command: u16, length: u16) -> Vec<u8> {
    let mut bytes = 0x8374_0267_u32.to_be_bytes().to_vec();
    bytes.extend(command.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}
