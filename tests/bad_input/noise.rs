//! Noise on the port, before and during the handshake. spec/wire.md 1.4, 3.4, 10.

use crate::fake_peer::{dial, header_80, until_closed, FakePeer};
use crate::node::{connect_both, new_address, Node};
use drbdbox::core::state::Conn;
use drbdbox::wire::{Features, FeaturesPacket, Packet, ProtocolVersion, Socket};
use std::io::Write;
use std::net::TcpListener;

/// A node that waits for its peer, who will not come.
fn waiting(more: &[&str]) -> Node {
    let node = Node::start();
    node.attach();
    node.connect(new_address(), more);
    node.wait_conn(Conn::WFConnection);
    node
}

/// The node is well: a peer can connect.
fn meets_a_peer(node: Node) {
    node.drbdsetup(&["0", "disconnect"]).ok();
    node.wait_conn(Conn::StandAlone);
    let peer = Node::start();
    peer.attach();
    connect_both(&node, &peer, &[]);
    for node in [&node, &peer] {
        node.wait_conn(Conn::Connected);
    }
}

#[test]
fn strangers_on_the_port_are_sent_away() {
    let node = waiting(&[]);
    let greetings: [&[u8]; 8] = [
        b"GET / HTTP/1.0\r\n\r\n",
        b"SSH-2.0-OpenSSH_4.3\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        &[0; 64],
        &[0xff; 8],
        // A features packet, a state packet, a first packet with a length.
        &header_80(0xfffe, 72),
        &header_80(0x0e, 4),
        &header_80(0xfff2, 1),
    ];
    for greeting in greetings {
        let from = node.log.len();
        let mut stranger = dial(node.address);
        stranger.write_all(greeting).unwrap();
        node.log.wait(from, "Error receiving initial packet");
        until_closed(&stranger);
    }
    // One that says nothing, one that says half a word, one that leaves at once.
    let silent = dial(node.address);
    let mut stammerer = dial(node.address);
    stammerer.write_all(&header_80(0xfff2, 0)[..5]).unwrap();
    drop(dial(node.address));
    until_closed(&silent);
    until_closed(&stammerer);
    assert_eq!(node.volume().state.conn, Conn::WFConnection);
    meets_a_peer(node);
}

#[test]
fn a_crowd_of_silent_strangers_does_not_keep_the_peer_out() {
    let node = waiting(&[]);
    let crowd: Vec<_> = (0..60).map(|_| dial(node.address)).collect();
    FakePeer::accepted(&node);
    drop(crowd);
}

#[test]
fn another_service_where_the_peer_should_be() {
    let node = Node::start();
    node.attach();
    let listener = TcpListener::bind(new_address()).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = (&stream).write_all(b"SSH-2.0-OpenSSH_4.3\r\n");
            std::thread::spawn(move || until_closed(&stream));
        }
    });
    node.connect(address, &[]);
    let hint = format!("{address} is no DRBD: does another service use the port?");
    node.log.wait(0, &format!("Wrong magic value 0x5353482d in protocol version 0; {hint}"));
    assert_eq!(node.volume().state.conn, Conn::WFConnection);
    meets_a_peer(node);
}

fn features(protocol_min: u32, protocol_max: u32) -> Vec<u8> {
    let packet = FeaturesPacket { protocol_min, features: Features::NONE, protocol_max };
    Packet::ConnectionFeatures(packet).to_bytes(0, ProtocolVersion::MAX)
}

#[test]
fn what_is_no_features_packet_is_told() {
    let mut node = waiting(&[]);
    let wrong_length = {
        let mut bytes = header_80(0xfffe, 71);
        bytes.extend([0; 71]);
        bytes
    };
    let cases: [(Vec<u8>, &str, Conn); 8] = [
        (
            features(1, 74),
            "incompatible DRBD dialects: I support 86-101, peer supports 1-74",
            Conn::StandAlone,
        ),
        (
            features(110, 122),
            "incompatible DRBD dialects: I support 86-101, peer supports 110-122",
            Conn::StandAlone,
        ),
        (
            features(74, 0),
            "incompatible DRBD dialects: I support 86-101, peer supports 74-74",
            Conn::StandAlone,
        ),
        (
            header_80(0x0b, 24),
            "expected HandShake packet, received: ReportProtocol (0x000b)",
            Conn::StandAlone,
        ),
        (wrong_length, "expected HandShake length: 72, received: 71", Conn::StandAlone),
        (b"HTTP/1.0 400 Bad Request\r\n".to_vec(), "Wrong magic value 0x48545450", Conn::WFConnection),
        (header_80(0xfffe, 72), "short read receiving handshake packet: l=8", Conn::WFConnection),
        (Vec::new(), "short read receiving handshake packet: l=0", Conn::WFConnection),
    ];
    for (bytes, line, conn) in cases {
        let from = node.log.len();
        let peer = FakePeer::meet(&node);
        peer.raw(Socket::Data, &bytes);
        node.log.wait(from, line);
        peer.until_dropped();
        if conn == Conn::StandAlone {
            node.log.wait(from, "Discarding network configuration.");
            node.wait_conn(Conn::StandAlone);
            node.connect(new_address(), &[]);
        }
        node.wait_conn(Conn::WFConnection);
    }
    FakePeer::accepted(&node).close();
    node.wait_conn(Conn::WFConnection);
    // Killed in the middle of it all, it comes back and waits.
    node.kill();
    node.start_daemon();
    node.wait_conn(Conn::WFConnection);
    meets_a_peer(node);
}

#[test]
fn what_is_no_authentication_is_told() {
    let node = waiting(&["--cram-hmac-alg", "sha1", "--shared-secret", "right"]);
    let agree = || FakePeer::agree(&node, ProtocolVersion::MAX);
    let challenge = |peer: &mut FakePeer| match peer.receive() {
        Packet::AuthChallenge(bytes) => bytes,
        other => panic!("{other:?}"),
    };
    type Script<'a> = &'a dyn Fn(&mut FakePeer);
    let cases: [(Script, &str, Conn); 7] = [
        (
            &|peer| {
                let mine = challenge(peer);
                peer.send(Packet::AuthChallenge(mine));
            },
            "Peer presented the same challenge!",
            Conn::StandAlone,
        ),
        (
            &|peer| peer.send(Packet::AuthChallenge(vec![1; 63])),
            "AuthChallenge of 63 bytes, at least 64 are needed",
            Conn::StandAlone,
        ),
        (
            &|peer| peer.raw(Socket::Data, &crate::fake_peer::header_100(0, 0x10, u32::MAX)),
            "AuthChallenge of 4294967295 bytes, at most 128 are accepted",
            Conn::StandAlone,
        ),
        (
            &|peer| {
                peer.send(Packet::AuthChallenge(vec![1; 64]));
                peer.send(Packet::AuthResponse(vec![1; 20]));
            },
            "Authentication of peer failed",
            Conn::StandAlone,
        ),
        (
            &|peer| {
                peer.send(Packet::AuthChallenge(vec![1; 64]));
                peer.send(Packet::AuthResponse(vec![1; 19]));
            },
            "AuthResponse of 19 bytes, expected 20",
            Conn::WFConnection,
        ),
        (
            &|peer| peer.raw(Socket::Data, &header_80(0x10, 64)),
            "Authentication of peer failed, trying again.",
            Conn::WFConnection,
        ),
        (&|peer| peer.close(), "Authentication of peer failed, trying again.", Conn::WFConnection),
    ];
    for (script, line, conn) in cases {
        let from = node.log.len();
        let mut peer = agree();
        script(&mut peer);
        node.log.wait(from, line);
        peer.until_dropped();
        if conn == Conn::StandAlone {
            node.wait_conn(Conn::StandAlone);
            node.connect(new_address(), &["--cram-hmac-alg", "sha1", "--shared-secret", "right"]);
        }
        node.wait_conn(Conn::WFConnection);
    }
    meets_a_peer(node);
}
