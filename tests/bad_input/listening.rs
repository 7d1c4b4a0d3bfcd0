//! Addresses that cannot be listened on. spec/state.md 16.2: StandAlone; the command says why.

use crate::nbd::Client;
use crate::node::{new_address, Node};
use drbdbox::core::state::Conn;
use std::net::{SocketAddr, TcpListener};

#[test]
fn a_port_that_is_taken() {
    let node = Node::start();
    node.attach();
    let _other_program = TcpListener::bind(node.address).unwrap();
    let ran = node.try_connect(new_address(), &[]);
    let ran = ran.refused(10, "0: Failure: (102) Local address(port) already in use.");
    for part in [&node.address.to_string(), "another program listens on this port", "ss -ltnp"] {
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
        node.log.wait(0, part);
    }
    assert_eq!(node.volume().state.conn, Conn::StandAlone);
    drop(_other_program);
    node.connect(new_address(), &[]);
    node.wait_conn(Conn::WFConnection);
}

#[test]
fn an_address_that_is_not_of_this_host() {
    let mut node = Node::start();
    node.attach();
    // TEST-NET-1: no host has it.
    node.address = SocketAddr::from(([192, 0, 2, 1], 7789));
    node.connect(new_address(), &[]);
    node.log.wait(0, "(192.0.2.1:7789: Cannot assign requested address");
    node.log.wait(0, "no interface of this host has this address), will try again");
    assert_eq!(node.volume().state.conn, Conn::WFConnection);
    node.drbdsetup(&["0", "disconnect"]).ok();
    node.wait_conn(Conn::StandAlone);
}

#[test]
fn a_port_that_somebody_takes_while_the_nodes_are_connected() {
    let [one, mut other] = [Node::start(), Node::start()];
    for node in [&one, &other] {
        node.attach();
    }
    crate::node::connect_both(&one, &other, &[]);
    one.wait_conn(Conn::Connected);
    let _thief = TcpListener::bind(one.address).unwrap();
    let from = one.log.len();
    other.kill();
    let at = one.log.wait(from, "bind before listen failed, err = -98");
    one.log.wait(from, "another program listens on this port");
    one.log.wait(at, "Discarding network configuration.");
    one.wait_conn(Conn::StandAlone);
}

#[test]
fn two_resources_cannot_have_one_address() {
    let node = Node::start();
    node.attach();
    node.connect(new_address(), &[]);
    let (own, peer) = (node.address.to_string(), new_address().to_string());
    node.drbdsetup(&["1", "net", &own, &peer, "C", "--create-device"])
        .refused(10, "1: Failure: (102) Local address(port) already in use.");
}

#[test]
fn the_socket_of_the_nbd_server_is_taken() {
    let node = Node::with_door("nbd-server");
    let _other_program = std::os::unix::net::UnixListener::bind(node.path("run/nbd.sock")).unwrap();
    node.attach();
    node.log.wait(0, "nbd.sock");
    node.log.wait(0, "the device cannot be used here until that is solved");
    let ran = node.drbdsetup(&["0", "primary", "-o"]);
    assert_eq!(ran.status, 10, "{ran:?}");
    assert!(ran.err.contains("nbd.sock"), "{ran:?}");
    assert_eq!(node.volume().state.role, drbdbox::core::state::Role::Secondary);
    drop(_other_program);
    std::fs::remove_file(node.path("run/nbd.sock")).unwrap();
    node.drbdsetup(&["0", "primary", "-o"]).ok();
    assert_eq!(Client::open(&node, "minor-0").read(0, 512).map(|bytes| bytes.len()), Ok(512));
}
