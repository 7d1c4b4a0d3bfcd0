//! Noise on the control socket: it harms nobody but its sender.

use crate::node::{self, Node, Ran, LIMIT};
use drbdbox::control::client::Next;
use drbdbox::control::{hub, Call, Client, EventKind, Reply, Request};
use drbdbox::core::state::Conn;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Instant;

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
    let deadline = Instant::now() + LIMIT;
    while node.drbdsetup(&["0", "cstate"]).status != 0 {
        assert!(Instant::now() < deadline);
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

/// Asks the daemon, without a process for it.
fn ask(node: &Node, request: Request) -> Reply {
    Client::connect(&node.socket()).unwrap().call(&Call::new(request)).unwrap()
}

/// Suspends and resumes I/O once: two changes of state.
fn toggle(node: &Node) {
    assert_eq!(ask(node, Request::SuspendIo { minor: 0 }), Reply::Code { code: 1, info: Vec::new() });
    assert_eq!(ask(node, Request::ResumeIo { minor: 0 }), Reply::Code { code: 1, info: Vec::new() });
}

#[test]
fn a_reader_that_slept_learns_what_it_missed_and_how_things_are() {
    let node = Node::start();
    node.attach();
    let mut sleeper = Client::connect(&node.socket()).unwrap().subscribe().unwrap();
    for _ in 0..hub::QUEUE_MAX {
        toggle(&node);
    }
    ask(&node, Request::SuspendIo { minor: 0 });
    let mut next = || match sleeper.next(Some(Instant::now() + LIMIT), None).unwrap() {
        Next::Event(event) => *event,
        other => panic!("{other:?}"),
    };
    assert!(matches!(next().kind, EventKind::Start(_)));
    // What it gets of the past is without a gap; then there is one, and its size is told.
    let (mut states, mut notifications) = (None, None);
    let skipped = loop {
        let event = next();
        if let EventKind::Skipped(count) = event.kind {
            break count;
        }
        let last: &mut Option<u32> =
            if event.kind.is_state_message() { &mut states } else { &mut notifications };
        assert!(last.is_none_or(|last| event.sequence == last + 1), "{last:?} {}", event.sequence);
        *last = Some(event.sequence);
    };
    assert!(skipped > 0);
    // Then it is as if it had just come.
    let EventKind::Start(snapshot) = next().kind else { panic!("no snapshot behind the gap") };
    assert!(snapshot.minor(0).unwrap().1.state.susp);
    ask(&node, Request::ResumeIo { minor: 0 });
    let resumed = |kind: &EventKind| match kind {
        EventKind::State { new, .. } => !new.susp,
        _ => false,
    };
    while !resumed(&next().kind) {}
}

#[test]
fn a_program_that_does_not_read_events2_gets_to_the_state_of_now() {
    let node = Node::start();
    node.attach();
    let mut command = node.command(&["drbdsetup", "events2"]);
    let mut events2 = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(events2.stdout.take().unwrap()).lines().map(Result::unwrap);
    while lines.next().unwrap() != "exists -" {}
    for _ in 0..hub::QUEUE_MAX {
        toggle(&node);
    }
    ask(&node, Request::SuspendIo { minor: 0 });
    // The last change that anybody sees.
    ask(&node, Request::Primary { minor: 0, force: true });
    let (mut suspended, mut gaps) = (false, 0);
    for line in lines {
        if line.starts_with("- skipped ") {
            gaps += 1;
        }
        match line.split_once(" suspended:").map(|(_, value)| value.starts_with("user")) {
            // Each line is a change against what was said before.
            Some(value) => assert_ne!(std::mem::replace(&mut suspended, value), value, "{line}"),
            None => assert!(!line.starts_with("exists"), "{line}"),
        }
        if line.contains("role:Primary") {
            break;
        }
    }
    assert!(suspended && gaps > 0, "{suspended} {gaps}");
    events2.kill().unwrap();
    events2.wait().unwrap();
}

#[test]
fn fifty_readers_are_told_of_changes_and_not_of_every_block() {
    let nodes = [Node::start(), Node::start()];
    let [one, other] = &nodes;
    one.attach();
    other.attach();
    let subscribe = || Client::connect(&one.socket()).unwrap().subscribe().unwrap();
    // They do not read.
    let crowd: Vec<_> = (0..49).map(|_| subscribe()).collect();
    let mut reader = subscribe();
    node::connect_both(one, other, &[]);
    one.drbdsetup(&["0", "primary", "--force"]).ok();
    one.wait("in sync", |volume| volume.state.conn == Conn::Connected && volume.out_of_sync_bits == 0);
    let mut events = 0;
    loop {
        match reader.next(Some(Instant::now() + LIMIT), None).unwrap() {
            Next::Event(event) => match &event.kind {
                EventKind::State { old, new, .. } if old.conn.is_resync() && new.conn == Conn::Connected => {
                    break
                }
                _ => events += 1,
            },
            other => panic!("{other:?}"),
        }
    }
    // 1014 blocks were copied.
    assert!(events < 100, "{events}");
    assert_eq!(crowd.len(), 49);
}
