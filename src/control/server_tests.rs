//! What the server must survive, and what its clients must get.

use super::access::Access;
use super::client::{Client, ClientError, Next};
use super::hub::Hub;
use super::message::{Call, EventKind, Reply, Request};
use super::server::{Server, Service};
use crate::conf::Dialect;
use crate::core::codes::ConfigCode;
use crate::status::Snapshot;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Answers by the request; `suspend-io` waits until the test lets it go.
struct Engine {
    hub: Hub,
    gate: Mutex<Receiver<()>>,
}

impl Service for Engine {
    fn handle(&self, call: Call) -> Reply {
        match call.request {
            Request::SuspendIo { .. } => {
                let gate = self.gate.lock().expect("not poisoned");
                let _ = gate.recv_timeout(Duration::from_secs(30));
                Reply::ok()
            }
            Request::Primary { minor, .. } if minor > 9 => {
                Reply::with_info(ConfigCode::MinorInvalid, "unknown minor")
            }
            _ => Reply::ok(),
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            now_ms: 1,
            dialect: Dialect::V83,
            build_tag: "GIT-hash: x".into(),
            proc_details: 0,
            resources: Vec::new(),
        }
    }

    fn subscribe(&self) -> super::hub::Subscription {
        self.hub.subscribe()
    }
}

struct Running {
    engine: Arc<Engine>,
    open: Sender<()>,
    path: PathBuf,
    // Declared before the directory: closed before that is removed.
    _server: Server,
    _dir: tempfile::TempDir,
}

fn start() -> Running {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("drbdd.sock");
    let (open, gate) = channel();
    let engine = Arc::new(Engine { hub: Hub::new(), gate: Mutex::new(gate) });
    let server = Server::start(&path, Access::default(), engine.clone()).expect("server starts");
    Running { engine, open, path, _server: server, _dir: dir }
}

fn ask(running: &Running, request: Request) -> Result<Reply, ClientError> {
    Client::connect(&running.path)?.call(&Call::new(request))
}

fn is_alive(running: &Running) -> bool {
    ask(running, Request::Primary { minor: 0, force: false }).ok() == Some(Reply::ok())
}

#[test]
fn commands_and_questions_are_answered() {
    let running = start();
    assert!(is_alive(&running));
    let refused = ask(&running, Request::Primary { minor: 10, force: false }).ok();
    assert_eq!(refused, Some(Reply::with_info(ConfigCode::MinorInvalid, "unknown minor")));
    let text = ask(&running, Request::ProcText).ok();
    let header = "version: 8.3.16 (api:88/proto:86-101)\nGIT-hash: x\n".to_string();
    assert_eq!(text, Some(Reply::Text(header)));
    let snapshot = Client::connect(&running.path).and_then(Client::snapshot).ok();
    assert_eq!(snapshot, Some(running.engine.snapshot()));
}

#[test]
fn garbage_is_refused_and_nobody_else_notices() {
    let running = start();
    let cases: [&[u8]; 4] =
        [b"GET / HTTP/1.0\r\n\r\n", &[0xff; 64], &[3, 0, 0, 0, b'x', b'y', b'z'], &[2, 0, 0, 0, b'1']];
    for bytes in cases {
        let mut stream = UnixStream::connect(&running.path).expect("connects");
        stream.write_all(bytes).expect("is taken");
        stream.shutdown(std::net::Shutdown::Write).expect("shuts down");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(is_alive(&running), "after {bytes:?}");
    }
}

#[test]
fn a_client_that_says_nothing_and_a_command_that_waits_hold_up_nobody() {
    let running = start();
    let _silent = UnixStream::connect(&running.path).expect("connects");
    let path = running.path.clone();
    let waiting = std::thread::spawn(move || {
        let call = Call::new(Request::SuspendIo { minor: 0 });
        Client::connect(&path).and_then(|c| c.call(&call)).ok()
    });
    assert!(is_alive(&running));
    running.open.send(()).expect("the engine listens");
    assert_eq!(waiting.join().ok().flatten(), Some(Reply::ok()));
}

#[test]
fn too_many_clients_are_turned_away_until_some_leave() {
    let running = start();
    let crowd: Vec<UnixStream> = (0..super::server::CLIENTS_MAX)
        .map(|_| UnixStream::connect(&running.path).expect("connects"))
        .collect();
    assert!(!is_alive(&running));
    drop(crowd);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_alive(&running) {
        assert!(Instant::now() < deadline, "places are not given back");
        std::thread::yield_now();
    }
}

#[test]
fn events_arrive_in_order_after_a_snapshot() {
    let running = start();
    let mut stream = Client::connect(&running.path).and_then(Client::subscribe).expect("subscribes");
    let deadline = Some(Instant::now() + Duration::from_secs(20));
    let mut next = || match stream.next(deadline, None).expect("an event") {
        Next::Event(event) => *event,
        other => panic!("{other:?}"),
    };
    assert_eq!(next().kind, EventKind::Start(Box::new(running.engine.snapshot())));
    for name in ["a", "b", "c"] {
        running.engine.hub.publish(EventKind::ResourceDeleted { name: name.into() });
    }
    for (sequence, name) in [(3, "a"), (4, "b"), (5, "c")] {
        let event = next();
        let wanted = EventKind::ResourceDeleted { name: name.into() };
        assert_eq!((event.sequence, event.kind), (sequence, wanted));
    }
}

#[test]
fn a_wait_for_an_event_ends_at_its_deadline() {
    let running = start();
    let mut stream = Client::connect(&running.path).and_then(Client::subscribe).expect("subscribes");
    assert!(matches!(stream.next(None, None), Ok(Next::Event(_))));
    assert_eq!(stream.next(Some(Instant::now()), None).ok(), Some(Next::Deadline));
}

#[test]
fn a_second_daemon_is_refused_and_a_stale_socket_replaced() {
    let running = start();
    let second = Server::start(&running.path, Access::default(), running.engine.clone());
    assert_eq!(second.err().map(|e| e.kind()), Some(std::io::ErrorKind::AddrInUse));
    assert!(is_alive(&running));

    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("drbdd.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
    let third = Server::start(&path, Access::default(), running.engine.clone()).expect("replaces it");
    assert!(Client::connect(&path).is_ok());
    drop(third);
    assert!(!path.exists());
}

#[test]
fn without_a_daemon_the_message_names_the_socket() {
    let error = Client::connect(std::path::Path::new("/nonexistent/drbdd.sock")).err();
    let text = error.map(|e| e.to_string());
    let wanted = "Could not connect to the DRBD daemon (/nonexistent/drbdd.sock): No such file or directory";
    assert_eq!(text.as_deref(), Some(wanted));
}
