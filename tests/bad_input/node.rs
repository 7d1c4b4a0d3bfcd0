//! A node: a daemon process with its own directories and address, its log, and its commands.

use drbdbox::control::client::Next;
use drbdbox::control::Client;
use drbdbox::status::{Snapshot, Volume};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A wait that takes longer than this has failed.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Size of a node's disk.
pub const DISK_BYTES: u64 = 4 << 20;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_drbdbox");

/// Port of every node; the addresses differ.
const PORT: u16 = 7789;

/// Settings of a connection that make a node notice soon what is wrong.
pub const QUICK: [&str; 4] = ["--ping-timeout", "5", "--connect-int", "1"];
/// `timeout` has to be shorter than `connect-int`.
const QUICK_TIMEOUT: [&str; 2] = ["--timeout", "9"];

/// An address that nobody else uses.
pub fn new_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let process = std::process::id();
    let [.., high, low] = process.to_be_bytes();
    // 127.0 and 127.1 are what others use.
    let ip = Ipv4Addr::new(127, high % 250 + 2, low, NEXT.fetch_add(1, Ordering::Relaxed));
    SocketAddr::new(IpAddr::V4(ip), PORT)
}

/// The lines of a daemon's log.
#[derive(Default)]
pub struct Log {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Log {
    /// A test that fails while it looks at the lines leaves them to those who print them.
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn add(&self, line: String) {
        if std::env::var_os("DRBDBOX_TEST_LOG").is_some() {
            eprintln!("{line}");
        }
        self.lines().push(line);
        self.more.notify_all();
    }

    pub fn len(&self) -> usize {
        self.lines().len()
    }

    pub fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// Waits for a line at or behind `from` that holds `text`; the number of the line behind it.
    #[track_caller]
    pub fn wait(&self, from: usize, text: &str) -> usize {
        let deadline = Instant::now() + LIMIT;
        let mut lines = self.lines();
        loop {
            if let Some(at) = lines.iter().skip(from).position(|line| line.contains(text)) {
                return from + at + 1;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "not in the log behind line {from}: {text}");
            lines = self.more.wait_timeout(lines, left).unwrap().0;
        }
    }
}

/// What a command ended with.
#[derive(Debug)]
pub struct Ran {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// The command must have succeeded.
    #[track_caller]
    pub fn ok(self) -> Ran {
        assert_eq!(self.status, 0, "{self:?}");
        self
    }

    /// The command must have ended with this status and said this on stderr.
    #[track_caller]
    pub fn refused(self, status: i32, text: &str) -> Ran {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.err.contains(text), "not on stderr: {text}\n{self:?}");
        self
    }
}

pub struct Node {
    pub directory: tempfile::TempDir,
    pub address: SocketAddr,
    pub log: Arc<Log>,
    door: &'static str,
    options: &'static [&'static str],
    daemon: Option<Child>,
}

impl Node {
    /// A daemon without device nodes and without resources.
    pub fn start() -> Node {
        Node::with_door("none")
    }

    /// A daemon without resources.
    pub fn with_door(door: &'static str) -> Node {
        let mut node = Node::stopped(door);
        node.start_daemon();
        node
    }

    /// A daemon with more options, without device nodes and without resources.
    pub fn with_options(options: &'static [&'static str]) -> Node {
        let mut node = Node::stopped("none");
        node.options = options;
        node.start_daemon();
        node
    }

    /// The directories of a node; no daemon.
    pub fn stopped(door: &'static str) -> Node {
        let directory = tempfile::tempdir().unwrap();
        for name in ["run", "lib", "lock"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        Node { directory, address: new_address(), log: Arc::default(), door, options: &[], daemon: None }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("run/drbdd.sock")
    }

    /// A command of the program in this node's environment.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(words);
        self.environment(&mut command);
        command
    }

    /// Sets what makes a command one of this node.
    pub fn environment(&self, command: &mut Command) {
        command
            .env("DRBDBOX_RUNDIR", self.path("run"))
            .env("DRBDBOX_LIBDIR", self.path("lib"))
            .env("DRBDBOX_LOCKDIR", self.path("lock"))
            .env("DRBDD_AUTOSTART", "no")
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
    }

    /// Starts the daemon; returns when it answers.
    pub fn start_daemon(&mut self) {
        let from = self.log.len();
        self.spawn_daemon();
        let deadline = Instant::now() + LIMIT;
        while Client::connect(&self.socket()).is_err() {
            let ended = self.daemon.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "{ended:?}\n{}", self.log.text());
            std::thread::sleep(Duration::from_millis(2));
        }
        self.log.wait(from, "compatible with DRBD");
    }

    /// Starts the daemon and reads its log; does not wait for it.
    pub fn spawn_daemon(&mut self) {
        let mut command = self.command(&["drbdd", "--foreground", "--door", self.door]);
        command.arg("--device-directory").arg(self.directory.path()).args(["--usermode-helper", "/bin/true"]);
        command.args(self.options);
        let mut daemon = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = daemon.stderr.take().unwrap();
        let log = Arc::clone(&self.log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                log.add(line.unwrap_or_else(|error| error.to_string()));
            }
        });
        self.daemon = Some(daemon);
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.daemon.as_ref().unwrap().id() as i32)
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits for the end of the daemon.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.daemon.as_mut().unwrap().try_wait().unwrap() {
                self.daemon = None;
                return status;
            }
            assert!(Instant::now() < deadline, "the daemon does not end\n{}", self.log.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait_for_end();
    }

    /// Runs an applet. One that takes too long has failed.
    pub fn run(&self, words: &[&str]) -> Ran {
        run(self.command(words))
    }

    pub fn drbdsetup(&self, words: &[&str]) -> Ran {
        self.run(&[&["drbdsetup"], words].concat())
    }

    /// A file with meta data inside, as the disk of a minor.
    pub fn make_disk(&self, name: &str, bytes: u64) -> String {
        let path = self.path(name);
        std::fs::File::create(&path).unwrap().set_len(bytes).unwrap();
        let path = path.display().to_string();
        self.run(&["drbdmeta", "--force", "0", "v08", &path, "internal", "create-md"]).ok();
        path
    }

    /// Attaches a new disk of [`DISK_BYTES`] to minor 0.
    pub fn attach(&self) -> String {
        let disk = self.make_disk("disk", DISK_BYTES);
        self.drbdsetup(&["0", "disk", &disk, &disk, "internal", "--create-device"]).ok();
        self.drbdsetup(&["0", "syncer", "-r", "700M"]).ok();
        disk
    }

    /// Gives minor 0 a connection to `peer`.
    pub fn connect(&self, peer: SocketAddr, more: &[&str]) {
        self.try_connect(peer, more).ok();
    }

    pub fn try_connect(&self, peer: SocketAddr, more: &[&str]) -> Ran {
        let (own, peer) = (self.address.to_string(), peer.to_string());
        let words: &[&str] = &["0", "net", &own, &peer, "C", "--create-device"];
        self.drbdsetup(&[words, &QUICK, &QUICK_TIMEOUT, more].concat())
    }

    pub fn snapshot(&self) -> Snapshot {
        Client::connect(&self.socket()).unwrap().snapshot().unwrap()
    }

    /// Volume of minor 0.
    pub fn volume(&self) -> Volume {
        self.snapshot().minor(0).expect("minor 0").1.clone()
    }

    /// Waits until minor 0 satisfies `condition`.
    #[track_caller]
    pub fn wait(&self, what: &str, condition: impl Fn(&Volume) -> bool) -> Volume {
        let mut events = Client::connect(&self.socket()).unwrap().subscribe().unwrap();
        let deadline = Instant::now() + LIMIT;
        loop {
            let volume = self.volume();
            if condition(&volume) {
                return volume;
            }
            assert!(Instant::now() < deadline, "{what}: {:?}\n{}", volume.state, self.log.text());
            let next = events.next(Some(Instant::now() + Duration::from_millis(500)), None);
            assert!(matches!(next, Ok(Next::Event(_) | Next::Deadline)), "{next:?}\n{}", self.log.text());
        }
    }

    /// Waits for a connection state of minor 0.
    #[track_caller]
    pub fn wait_conn(&self, conn: drbdbox::core::state::Conn) {
        self.wait(conn.name(), |volume| volume.state.conn == conn);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}", self.address, self.log.text());
        }
    }
}

/// Runs a command. One that takes too long has failed.
pub fn run(mut command: Command) -> Ran {
    let shown = format!("{command:?}");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_raw(child.id() as i32);
    let (done, ended) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let output = child.wait_with_output().unwrap();
        let _ = done.send(());
        output
    });
    let in_time = ended.recv_timeout(LIMIT).is_ok();
    if !in_time {
        let _ = kill(pid, Signal::SIGKILL);
    }
    let output = waiter.join().unwrap();
    assert!(in_time, "takes too long: {shown}");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let status = output.status.code().unwrap_or(-1);
    Ran { status, out: text(&output.stdout), err: text(&output.stderr) }
}

/// Connects minor 0 of two nodes with each other.
pub fn connect_both(one: &Node, other: &Node, more: &[&str]) {
    one.connect(other.address, more);
    other.connect(one.address, more);
}

/// Whether a path exists, link or not.
pub fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}
