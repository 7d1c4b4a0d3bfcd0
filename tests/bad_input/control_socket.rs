//! Noise on the control socket: it harms nobody but its sender.

use crate::node::{self, Node, Ran, LIMIT};
use drbdbox::control::Client;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;

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

/// Groups that no host has; they are in no table, hence the primary group of a process decides.
const ADMINS: u32 = 54_321;
const LOOKERS: u32 = 54_322;
const OTHERS: u32 = 54_323;

/// Runs drbdsetup as somebody in this group.
fn as_member(node: &Node, group: u32, words: &[&str]) -> Ran {
    let mut command = node.command(&[&["drbdsetup"], words].concat());
    command.uid(54_320).gid(group);
    node::run(command)
}

#[test]
fn one_group_may_order_another_may_look_and_nobody_else_gets_in() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: groups of the control socket: needs root");
        return;
    }
    let node = Node::with_options(&["--admin-group", "54321", "--status-group", "54322"]);
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(node.directory.path(), open).unwrap();
    let mut probe = node.command(&["--version"]);
    if probe.uid(54_320).gid(OTHERS).output().is_err() {
        println!("SKIPPED: groups of the control socket: another user cannot execute {}", node::PROGRAM);
        return;
    }
    node.attach();
    let secret = "not for everybody";
    node.connect(node::new_address(), &["--cram-hmac-alg", "sha1", "--shared-secret", secret]);

    as_member(&node, OTHERS, &["0", "role"]).refused(10, "(152) Permission denied");
    as_member(&node, OTHERS, &["proc"]).refused(10, "(152) Permission denied");
    as_member(&node, OTHERS, &["events2", "--now"]).refused(10, "(152) Permission denied");

    assert_eq!(as_member(&node, LOOKERS, &["0", "role"]).ok().out, "Secondary/Unknown\n");
    as_member(&node, LOOKERS, &["events2", "--now"]).ok();
    let shown = as_member(&node, LOOKERS, &["0", "show"]).ok().out;
    assert!(shown.contains("cram-hmac-alg") && !shown.contains(secret), "{shown}");
    for order in [&["0", "primary", "--force"][..], &["0", "syncer", "-r", "1M"], &["0", "down"]] {
        as_member(&node, LOOKERS, order).refused(10, "(152) Permission denied");
    }
    assert_eq!(node.drbdsetup(&["0", "role"]).ok().out, "Secondary/Unknown\n");

    as_member(&node, ADMINS, &["0", "primary", "--force"]).ok();
    assert!(as_member(&node, ADMINS, &["0", "show"]).ok().out.contains(secret));
    assert_eq!(node.drbdsetup(&["0", "role"]).ok().out, "Primary/Unknown\n");
}

#[test]
fn without_groups_the_socket_is_closed_to_everybody_but_root() {
    let node = Node::start();
    let mode = std::fs::metadata(node.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
