//! A daemon that answers what a test tells it, and remembers what it was asked.

use drbdbox::control::frame;
use drbdbox::control::message::{Call, Event, EventKind, Reply, Request};
use drbdbox::status::Snapshot;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

type Answer = Box<dyn Fn(&Call, usize) -> Reply + Send>;

/// It, its directory, and what it was asked.
pub struct FakeDaemon {
    dir: tempfile::TempDir,
    calls: Arc<Mutex<Vec<Call>>>,
    answer: Arc<Mutex<Answer>>,
    events: Arc<Mutex<Vec<Event>>>,
    stop: Arc<Mutex<bool>>,
    thread: Option<JoinHandle<()>>,
}

/// A place for a daemon's files.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap_or_else(|e| panic!("temporary directory: {e}"))
}

/// Runs the binary as `argv[0]` with its files in `dir`.
pub fn run(dir: &Path, argv: &[String], env: &[(String, String)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drbdbox"));
    std::os::unix::process::CommandExt::arg0(&mut command, &argv[0]);
    command
        .args(&argv[1..])
        .env_remove("COLUMNS")
        .env_remove("DRBD_RESOURCE")
        .env("DRBDBOX_RUNDIR", dir)
        .env("DRBDBOX_LIBDIR", dir)
        .env("DRBDBOX_LOCKDIR", dir)
        .stdin(Stdio::null());
    for (name, value) in env {
        command.env(name, value);
    }
    command.output().unwrap_or_else(|e| panic!("{argv:?}: {e}"))
}

impl FakeDaemon {
    /// Starts it; it answers success until told otherwise.
    pub fn start() -> FakeDaemon {
        let dir = directory();
        let listener = UnixListener::bind(dir.path().join("drbdd.sock"))
            .unwrap_or_else(|e| panic!("control socket: {e}"));
        let calls = Arc::new(Mutex::new(Vec::new()));
        let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(|_, _| Reply::ok())));
        let stop = Arc::new(Mutex::new(false));
        let events = Arc::new(Mutex::new(Vec::new()));
        let (seen, script, ended) = (calls.clone(), answer.clone(), stop.clone());
        let follow = events.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if *ended.lock().unwrap_or_else(|e| panic!("{e}")) {
                    return;
                }
                let Ok(stream) = stream else { return };
                serve(&stream, &seen, &script, &follow);
            }
        });
        FakeDaemon { dir, calls, answer, events, stop, thread: Some(thread) }
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        self.dir.path()
    }

    /// From now on, answers with this; the number counts the calls since [`run`](Self::run).
    pub fn answers(&self, answer: impl Fn(&Call, usize) -> Reply + Send + 'static) {
        *self.answer.lock().unwrap_or_else(|e| panic!("{e}")) = Box::new(answer);
    }

    /// From now on, these events follow the snapshot of a stream; then the stream ends.
    pub fn publishes(&self, events: Vec<Event>) {
        *self.events.lock().unwrap_or_else(|e| panic!("{e}")) = events;
    }

    /// Runs the binary against it; the output, and what it was asked.
    pub fn run(&self, argv: &[String], env: &[(String, String)]) -> (Output, Vec<Call>) {
        self.calls.lock().unwrap_or_else(|e| panic!("{e}")).clear();
        let output = run(self.dir.path(), argv, env);
        let calls = self.calls.lock().unwrap_or_else(|e| panic!("{e}")).clone();
        (output, calls)
    }
}

impl Drop for FakeDaemon {
    fn drop(&mut self) {
        if let Ok(mut stop) = self.stop.lock() {
            *stop = true;
        }
        let _ = UnixStream::connect(self.dir.path().join("drbdd.sock"));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    mut stream: &UnixStream,
    calls: &Mutex<Vec<Call>>,
    answer: &Mutex<Answer>,
    events: &Mutex<Vec<Event>>,
) {
    // A connection without a question only looks whether a daemon is there.
    let Ok(Some(call)) = frame::read::<Call>(&mut stream, frame::REQUEST_MAX) else {
        return;
    };
    let number = {
        let mut calls = calls.lock().unwrap_or_else(|e| panic!("{e}"));
        calls.push(call.clone());
        calls.len()
    };
    let answer = answer.lock().unwrap_or_else(|e| panic!("{e}"));
    let mut reply = answer(&call, number);
    if let (Request::Subscribe, Reply::Snapshot(snapshot)) = (&call.request, &reply) {
        reply = first_event(snapshot.clone());
    }
    // The reader may have left.
    let _ = frame::write(&mut stream, &reply);
    if matches!(call.request, Request::Subscribe) {
        for event in events.lock().unwrap_or_else(|e| panic!("{e}")).iter() {
            let _ = frame::write(&mut stream, &Reply::Event(Box::new(event.clone())));
        }
    }
}

fn first_event(snapshot: Box<Snapshot>) -> Reply {
    Reply::Event(Box::new(Event { sequence: 0, time_us: 0, kind: EventKind::Start(snapshot) }))
}
