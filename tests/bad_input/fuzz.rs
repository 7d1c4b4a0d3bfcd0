//! Random bytes, always the same ones, at every stage of a connection. (`core::noise_tests` does the same to the core
//! alone, with many more packets.)

use crate::fake_peer::{dial, header_100, Character, FakePeer};
use crate::node::{connect_both, new_address, Node};
use drbdbox::core::state::Conn;
use drbdbox::wire::{Packet, ProtocolVersion, Socket};
use std::io::Write;

/// Connections that are spoilt.
const ROUNDS: u64 = 30;

/// xorshift.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> usize {
        (self.roll() % limit) as usize
    }

    fn bytes(&mut self, limit: u64) -> Vec<u8> {
        let count = self.below(limit);
        (0..count).map(|_| self.roll() as u8).collect()
    }

    fn socket(&mut self) -> Socket {
        [Socket::Data, Socket::Meta][self.below(2)]
    }
}

/// Spoils one connection.
fn spoil(node: &Node, dice: &mut Dice) {
    match dice.below(6) {
        0 => {
            let mut stranger = dial(node.address);
            let _ = stranger.write_all(&dice.bytes(100));
        }
        1 => {
            let peer = FakePeer::meet(node);
            peer.raw(dice.socket(), &dice.bytes(200));
            peer.close();
        }
        2 => {
            let peer = FakePeer::agree(node, ProtocolVersion::MAX);
            peer.raw(dice.socket(), &dice.bytes(400));
            peer.close();
        }
        3 => {
            let peer = FakePeer::connected(node, Character::default());
            peer.raw(dice.socket(), &dice.bytes(4000));
            peer.close();
        }
        4 => {
            // Headers that are right, and anything behind them.
            let peer = FakePeer::accepted(node);
            for _ in 0..30 {
                let socket = dice.socket();
                let body = dice.bytes(80);
                let header = header_100(0, dice.below(0x38) as u16, body.len() as u32);
                peer.raw(socket, &[header, body].concat());
            }
            peer.close();
        }
        _ => {
            // Parameters with some bits turned over.
            let peer = FakePeer::agree(node, ProtocolVersion::MAX);
            let mut bytes = [
                Packet::State(0x0000_4500).to_bytes(0, ProtocolVersion::MAX),
                crate::fake_peer::sync_param().to_bytes(0, ProtocolVersion::MAX),
                Packet::Ping.to_bytes(0, ProtocolVersion::MAX),
            ]
            .concat();
            for _ in 0..4 {
                let at = dice.below(bytes.len() as u64);
                bytes[at] ^= 1 << dice.below(8);
            }
            peer.raw(Socket::Data, &bytes);
            peer.close();
        }
    }
}

#[test]
fn noise_of_any_kind_leaves_a_node_that_works() {
    let node = Node::start();
    node.attach();
    let mut dice = Dice(0x5eed);
    for _ in 0..ROUNDS {
        if node.snapshot().minor(0).is_none_or(|(_, volume)| volume.state.conn == Conn::StandAlone) {
            node.connect(new_address(), &[]);
        }
        spoil(&node, &mut dice);
        node.wait("the end of the connection", |volume| {
            matches!(volume.state.conn, Conn::StandAlone | Conn::WFConnection)
        });
    }
    node.drbdsetup(&["0", "disconnect"]);
    node.wait_conn(Conn::StandAlone);
    let peer = Node::start();
    peer.attach();
    connect_both(&node, &peer, &[]);
    // The noise may have changed what the disks say of each other, but they talk.
    node.wait("a connection", |volume| volume.state.conn >= Conn::Connected);
}
