//! Noise on the control socket: it harms nobody but its sender.

use crate::node::{Node, LIMIT};
use drbdbox::control::Client;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

fn connect(node: &Node) -> UnixStream {
    let stream = UnixStream::connect(node.socket()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

fn message(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u32).to_le_bytes(), text].concat()
}

fn works(node: &Node) {
    node.drbdsetup(&["0", "cstate"]).ok();
}

#[test]
fn garbage_gets_an_answer_or_the_door() {
    let node = Node::start();
    node.attach();
    let deep = [vec![b'['; 60_000], vec![b']'; 60]].concat();
    let cases: Vec<Vec<u8>> = vec![
        message(b"hello"),
        message(b"{}"),
        message(b"null"),
        message(b"{\"request\":\"Nonsense\"}"),
        message(&[0xff; 1000]),
        message(&deep),
        u32::MAX.to_le_bytes().to_vec(),
        vec![0xff; 70_000],
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        vec![0; 4],
    ];
    for bytes in cases {
        let mut stream = connect(&node);
        // It may be closed before all is sent.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 4096);
        works(&node);
    }
    assert!(!node.log.text().contains("panic"), "{}", node.log.text());
}

#[test]
fn slow_clients_and_readers_stall_nobody() {
    let node = Node::start();
    node.attach();
    let mut slow: Vec<UnixStream> = (0..60).map(|_| connect(&node)).collect();
    for stream in &mut slow {
        stream.write_all(&100u32.to_le_bytes()[..3]).unwrap();
    }
    // Readers of events that read nothing.
    let silent: Vec<_> =
        (0..10).map(|_| Client::connect(&node.socket()).unwrap().subscribe().unwrap()).collect();
    for _ in 0..300 {
        works(&node);
    }
    for _ in 0..100 {
        // Each is an event.
        node.drbdsetup(&["0", "syncer", "-r", "10M"]).ok();
    }
    drop(silent);
    drop(slow);
    works(&node);
}

#[test]
fn too_many_clients_are_sent_away() {
    let node = Node::start();
    node.attach();
    let crowd: Vec<UnixStream> = (0..200).map(|_| connect(&node)).collect();
    node.log.wait(0, "128 clients already, one more refused");
    drop(crowd);
    let deadline = std::time::Instant::now() + LIMIT;
    while node.drbdsetup(&["0", "cstate"]).status != 0 {
        assert!(std::time::Instant::now() < deadline);
    }
}
