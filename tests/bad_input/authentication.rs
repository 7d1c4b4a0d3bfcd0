//! Secrets that do not fit, versions that do not meet, settings that differ. spec/wire.md 3.4, 3.5; spec/state.md 9.2.

use crate::fake_peer::{header_100, FakePeer};
use crate::node::{connect_both, new_address, Node};
use crate::sample_packets::sample;
use drbdbox::core::state::Conn;
use drbdbox::wire::{Command, Packet, ProtocolVersion, Release, Socket};

const SHA1: [&str; 2] = ["--cram-hmac-alg", "sha1"];

fn secret(alg: &str, text: &str) -> Vec<String> {
    ["--cram-hmac-alg", alg, "--shared-secret", text].map(String::from).to_vec()
}

fn pair() -> [Node; 2] {
    let nodes = [Node::start(), Node::start()];
    for node in &nodes {
        node.attach();
    }
    nodes
}

fn connect(nodes: &[Node; 2], settings: [&[String]; 2]) {
    for (i, settings) in settings.into_iter().enumerate() {
        let words: Vec<&str> = settings.iter().map(String::as_str).collect();
        nodes[i].connect(nodes[1 - i].address, &words);
    }
}

/// Both nodes are well: with the right settings they find each other.
fn meet_after_all(nodes: &[Node; 2]) {
    for node in nodes {
        node.drbdsetup(&["0", "disconnect"]);
        node.wait_conn(Conn::StandAlone);
    }
    connect_both(&nodes[0], &nodes[1], &[SHA1[0], SHA1[1], "--shared-secret", "right"]);
    for node in nodes {
        node.wait_conn(Conn::Connected);
    }
}

#[test]
fn a_wrong_secret_is_given_up_and_said() {
    let nodes = pair();
    connect(&nodes, [&secret("sha1", "right"), &secret("sha1", "wrong")]);
    for node in &nodes {
        let at = node.log.wait(0, "Authentication of peer failed");
        node.log.wait(at, "Discarding network configuration.");
        node.wait_conn(Conn::StandAlone);
    }
    meet_after_all(&nodes);
}

#[test]
fn another_algorithm_never_connects() {
    let nodes = pair();
    // Responses of another length are tried again (spec/wire.md 3.5): the secret may be about to be changed.
    connect(&nodes, [&secret("sha1", "right"), &secret("md5", "right")]);
    for node in &nodes {
        node.log.wait(0, "AuthResponse of ");
        assert_eq!(node.volume().state.conn, Conn::WFConnection);
    }
    meet_after_all(&nodes);
}

#[test]
fn a_secret_on_one_side_only() {
    let nodes = pair();
    connect(&nodes, [&secret("sha1", "right"), &[]]);
    let at = nodes[0].log.wait(0, "expected AuthChallenge packet, received: ReportProtocol (0x000b)");
    nodes[0].log.wait(at, "Discarding network configuration.");
    nodes[0].wait_conn(Conn::StandAlone);
    // The other one has seen the challenge, or that the connection is gone.
    let at = nodes[1].log.wait(0, "conn( WFConnection -> WFReportParams )");
    nodes[1].log.wait(at, "conn( Unconnected -> WFConnection )");
    meet_after_all(&nodes);
}

#[test]
fn an_algorithm_that_does_not_exist_is_refused_by_the_command() {
    let node = Node::start();
    node.attach();
    let peer = crate::node::new_address();
    let text = "The 'cram-hmac-alg' you specified is not known in the kernel.";
    node.try_connect(peer, &["--cram-hmac-alg", "rot13", "--shared-secret", "x"]).refused(10, text);
    let text = "The 'data-integrity-alg' you specified is not known in the kernel.";
    node.try_connect(peer, &["--data-integrity-alg", "rot13"]).refused(10, text);
    assert_eq!(node.volume().state.conn, Conn::StandAlone);
}

#[test]
fn settings_that_must_be_equal_are_compared() {
    let nodes = pair();
    for (one, other, line) in [
        (&["--data-integrity-alg", "md5"][..], &[][..], "incompatible setting of the data-integrity-alg"),
        (&["--allow-two-primaries"], &[], "incompatible setting of the two-primaries options"),
        (&["--after-sb-0pri", "discard-younger-primary"], &[], "incompatible after-sb-0pri settings"),
    ] {
        let from = nodes.each_ref().map(|node| node.log.len());
        nodes[0].connect(nodes[1].address, one);
        nodes[1].connect(nodes[0].address, other);
        // Whoever reads the other's settings first gives up; the other one may only see the connection go.
        let found = |i: usize| nodes[i].log.text().lines().skip(from[i]).any(|text| text.contains(line));
        for (i, node) in nodes.iter().enumerate() {
            node.wait("StandAlone or alone", |volume| {
                volume.state.conn == Conn::StandAlone
                    || (volume.state.conn == Conn::WFConnection
                        && nodes[1 - i].volume().state.conn == Conn::StandAlone)
            });
        }
        assert!(found(0) || found(1), "{line}\n{}\n{}", nodes[0].log.text(), nodes[1].log.text());
        for node in &nodes {
            node.drbdsetup(&["0", "disconnect"]);
            node.wait_conn(Conn::StandAlone);
        }
    }
    meet_after_all(&nodes);
}

/// Every packet type of wire's table in the place of the challenge, and some in that of the response (a failure there
/// is tried again a second later).
#[test]
fn no_other_packet_counts_before_the_peer_is_authenticated() {
    let node = Node::start();
    let disk = node.attach();
    // The sockets are looked at after the ping timeout.
    let settings = [SHA1[0], SHA1[1], "--shared-secret", "right", "--ping-timeout", "1"];
    node.connect(new_address(), &settings);
    // The data; the meta data are at the end.
    let data = || {
        let mut bytes = std::fs::read(&disk).unwrap();
        bytes.truncate(bytes.len() / 2);
        bytes
    };
    let before = data();
    for command in Command::ALL {
        let Some((packet, payload)) = sample(*command) else { continue };
        let name = command.log_name(Release::V84);
        let number = command.number();
        let mut bytes = Vec::new();
        packet.encode_into(&mut bytes, 0, ProtocolVersion::MAX, &[], payload);
        bytes.resize(bytes.len() + payload, 0xee);
        if bytes[0] != 0x86 {
            // Packets of the first phase, in the header that is right now.
            bytes = [header_100(0, number, (bytes.len() - 8) as u32), bytes[8..].to_vec()].concat();
        }
        // There are two types of P_SYNC_PARAM.
        bytes[6..8].copy_from_slice(&number.to_be_bytes());
        for place in [Command::AuthChallenge, Command::AuthResponse] {
            let some =
                [Command::Data, Command::State, Command::AuthChallenge, Command::Ping].contains(command);
            if place == *command || place == Command::AuthResponse && !some {
                continue;
            }
            let from = node.log.len();
            let peer = FakePeer::agree(&node, ProtocolVersion::MAX);
            if place == Command::AuthResponse {
                peer.send(Packet::AuthChallenge(vec![1; 64]));
            }
            // What comes on the other socket is not even read.
            peer.raw(Socket::Meta, &bytes);
            peer.raw(Socket::Data, &bytes);
            let expected = place.log_name(Release::V84);
            node.log.wait(from, &format!("expected {expected} packet, received: {name} (0x{number:04x})"));
            peer.until_dropped();
            if place == Command::AuthChallenge {
                node.wait_conn(Conn::StandAlone);
                node.connect(new_address(), &settings);
            }
        }
    }
    assert!(data() == before, "something was written");
}
