//! A pair of nodes, each with a file as its disk.

use drbdbox::conf::Dialect;
use drbdbox::control::message::{ConnectionOf, SettingChange};
use drbdbox::control::{Call, Reply, Request, Service};
use drbdbox::core::state::StateWord;
use drbdbox::core::types::Level;
use drbdbox::engine::backend::VolumeBackend;
use drbdbox::engine::daemon::Daemon;
use drbdbox::engine::doors::DoorKind;
use drbdbox::engine::helpers::Program;
use drbdbox::engine::log::LogSink;
use drbdbox::engine::shared::{Config, Shared};
use drbdbox::export::request::{Answer, Backend, Completion, Operation, Request as IoRequest};
use drbdbox::meta::{image, Layout, LogGeometry, MetaIndex, SuperBlock};
use drbdbox::status::{Address, AddressPair, Family, Volume};
use drbdbox::sys::block_device::{BlockDevice, Claim, OpenMode};
use drbdbox::sys::buffer::Buffer;
use drbdbox::wire::ProtocolVersion;
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::mpsc::{channel, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A wait that takes longer than this has failed.
const LIMIT: Duration = Duration::from_secs(60);

pub struct Node {
    pub daemon: Arc<Daemon>,
    pub disk: PathBuf,
    pub address: Address,
    pub log: Arc<Mutex<Vec<String>>>,
    backend: Option<Arc<VolumeBackend>>,
}

pub struct Pair {
    pub nodes: [Node; 2],
    _directory: tempfile::TempDir,
}

/// Settings as a test states them.
pub fn changes(list: &[(&str, &str)]) -> Vec<SettingChange> {
    let change = |(option, text): &(&str, &str)| {
        let row = drbdbox::conf::options::find(option).expect("an option");
        let value = row.parse(text, Dialect::V84).expect("a value");
        SettingChange { option: (*option).to_owned(), value }
    };
    list.iter().map(change).collect()
}

impl Pair {
    /// Two nodes with disks of `bytes`, attached, not connected. Resource `r0`, minor 0.
    pub fn new(bytes: u64) -> Pair {
        Pair::with(bytes, [ProtocolVersion::MAX; 2])
    }

    pub fn with(bytes: u64, versions: [ProtocolVersion; 2]) -> Pair {
        let directory = tempfile::tempdir().unwrap();
        let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let mut names = ["alice", "bob"].into_iter().zip(ports).zip(versions);
        let nodes = [(); 2].map(|()| {
            let ((name, port), version) = names.next().unwrap();
            let address = Address {
                family: Family::Ipv4,
                ip: "127.0.0.1".parse().unwrap(),
                port: port.local_addr().unwrap().port(),
            };
            Node::new(name, directory.path().join(name), address, version, bytes)
        });
        Pair { nodes, _directory: directory }
    }

    /// Connects both nodes.
    pub fn connect(&self, settings: &[(&str, &str)]) {
        for node in [0, 1] {
            let addresses =
                AddressPair { local: self.nodes[node].address, peer: self.nodes[1 - node].address };
            let request = Request::Connect {
                connection: ConnectionOf::Resource("r0".into()),
                addresses,
                changes: changes(settings),
            };
            self.nodes[node].ok(request);
        }
    }

    /// Waits until both nodes' state words satisfy `condition`.
    pub fn wait(&self, what: &str, condition: impl Fn(StateWord) -> bool) {
        for node in &self.nodes {
            node.wait(what, &condition);
        }
    }

    /// Makes node 0 the source of the first sync, and waits until both have the same data.
    pub fn initial_sync(&self) {
        self.nodes[0].ok(Request::Primary { minor: 0, force: true });
        self.wait_in_sync();
    }

    /// Waits until both are connected and UpToDate.
    pub fn wait_in_sync(&self) {
        use drbdbox::core::state::{Conn, Disk};
        self.wait("in sync", |s| {
            s.conn == Conn::Connected && s.disk == Disk::UpToDate && s.pdsk == Disk::UpToDate
        });
    }

    /// The data area of both disks must be the same.
    pub fn assert_same_data(&self) {
        let size = self.nodes[0].volume().size_sectors * 512;
        let data = [0, 1].map(|node: usize| self.nodes[node].raw(0, size as usize));
        let different = data[0].iter().zip(&data[1]).position(|(a, b)| a != b);
        assert_eq!(different, None, "first byte that differs");
    }
}

impl Node {
    fn new(name: &str, directory: PathBuf, address: Address, version: ProtocolVersion, bytes: u64) -> Node {
        std::fs::create_dir(&directory).unwrap();
        let disk = directory.join("disk");
        create_disk(&disk, bytes);
        let log = Arc::new(Mutex::new(Vec::new()));
        let daemon = start_daemon(name, directory.clone(), version, &log);
        let mut node = Node { daemon, disk, address, log, backend: None };
        node.configure();
        node
    }

    fn configure(&mut self) {
        self.ok(Request::NewResource { name: "r0".into(), changes: Vec::new() });
        self.ok(Request::NewMinor { resource: "r0".into(), minor: 0, volume: 0 });
        self.attach();
        let place = self.daemon.minor(0).unwrap();
        self.backend = Some(Arc::new(VolumeBackend::new(place.runner, place.volume)));
    }

    pub fn attach(&self) {
        let path = self.disk.display().to_string();
        self.ok(Request::Attach {
            minor: 0,
            lower_device: path.clone(),
            meta_device: path,
            meta_index: -3,
            changes: changes(&[("resync-rate", "1000M"), ("c-plan-ahead", "0")]),
        });
    }

    /// Adds a volume with a disk of its own.
    pub fn add_volume(&self, volume: u32, minor: u32, bytes: u64) {
        self.add_volume_of("r0", volume, minor, bytes);
    }

    /// Adds a volume to a resource.
    pub fn add_volume_of(&self, resource: &str, volume: u32, minor: u32, bytes: u64) {
        let disk = self.disk.with_extension(minor.to_string());
        create_disk(&disk, bytes);
        self.ok(Request::NewMinor { resource: resource.into(), minor, volume });
        let path = disk.display().to_string();
        let (lower_device, meta_device) = (path.clone(), path);
        self.ok(Request::Attach { minor, lower_device, meta_device, meta_index: -3, changes: Vec::new() });
    }

    /// Writes the running configuration, as a daemon does after each change.
    pub fn save_running(&self) {
        drbdbox::engine::running::save(&self.daemon, &self.directory().join("running")).unwrap();
    }

    /// Ends the daemon; its files stay. (Not a crash: that would leave the disk open in this process.)
    pub fn lose_daemon(&mut self) {
        self.backend = None;
        self.daemon.take_all_down(false).unwrap();
    }

    /// A new daemon with the running configuration of the old one.
    pub fn start_again(&mut self) {
        let (directory, running) = (self.directory(), self.directory().join("running"));
        self.daemon = start_daemon("again", directory, ProtocolVersion::MAX, &self.log);
        drbdbox::engine::running::restore(&self.daemon, &running);
    }

    fn directory(&self) -> PathBuf {
        self.disk.parent().expect("a directory").to_path_buf()
    }

    /// Sends a request; its code and explanations.
    pub fn call(&self, request: Request) -> (i32, Vec<String>) {
        match self.daemon.handle(Call::new(request)) {
            Reply::Code { code, info } => (code, info),
            other => panic!("{other:?}"),
        }
    }

    /// Sends a request that must succeed.
    pub fn ok(&self, request: Request) {
        let shown = format!("{request:?}");
        let (code, info) = self.call(request);
        assert!(matches!(code, 1..=4 | 101), "{shown}: {code} {info:?}\n{}", self.log_text());
    }

    pub fn log_text(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    pub fn volume(&self) -> Volume {
        let snapshot = self.daemon.snapshot();
        let (_, volume) = snapshot.minor(0).expect("minor 0");
        volume.clone()
    }

    pub fn wait(&self, what: &str, condition: impl Fn(StateWord) -> bool) {
        self.wait_for(what, 0, condition);
    }

    /// Waits for a state that may never come; whether it came.
    pub fn wait_briefly(&self, condition: impl Fn(StateWord) -> bool) -> bool {
        let events = self.daemon.subscribe();
        let deadline = Instant::now() + Duration::from_millis(500);
        while !condition(self.volume().state) {
            if Instant::now() >= deadline {
                return false;
            }
            events.receive(Duration::from_millis(50));
        }
        true
    }

    pub fn wait_for_minor(&self, minor: u32, condition: impl Fn(StateWord) -> bool) {
        self.wait_for("minor", minor, condition);
    }

    fn wait_for(&self, what: &str, minor: u32, condition: impl Fn(StateWord) -> bool) {
        let events = self.daemon.subscribe();
        let deadline = Instant::now() + LIMIT;
        loop {
            let snapshot = self.daemon.snapshot();
            let state = snapshot.minor(minor).expect("the minor").1.state;
            if condition(state) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {state:?}\n{}", self.log_text());
            events.receive(Duration::from_millis(500));
        }
    }

    /// Starts a request of an application.
    pub fn submit(
        &self,
        operation: Operation,
        offset: u64,
        len: u32,
        bytes: Option<&[u8]>,
    ) -> Receiver<Answer> {
        let (sender, receiver) = channel();
        let backend = self.backend.as_ref().unwrap();
        backend.submit(IoRequest {
            operation,
            offset,
            len,
            payload: bytes.map(|bytes| Arc::new(Buffer::from_bytes(bytes))),
            fua: false,
            alone: true,
            done: Completion::call(move |answer| {
                let _ = sender.send(answer);
            }),
        });
        receiver
    }

    pub fn start_write(&self, offset: u64, bytes: &[u8]) -> Receiver<Answer> {
        self.submit(Operation::Write, offset, bytes.len() as u32, Some(bytes))
    }

    pub fn write(&self, offset: u64, bytes: &[u8]) {
        self.answer(self.start_write(offset, bytes)).unwrap();
    }

    pub fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let answer = self.answer(self.submit(Operation::Read, offset, len as u32, None));
        answer.unwrap().expect("data")[..len].to_vec()
    }

    pub fn answer(&self, receiver: Receiver<Answer>) -> Answer {
        receiver.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("no answer\n{}", self.log_text()))
    }

    /// Bytes of the disk itself.
    pub fn raw(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        std::fs::File::open(&self.disk).unwrap().read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of port {}\n{}", self.address.port, self.log_text());
        }
        self.backend = None;
        let _ = self.daemon.take_all_down(true);
    }
}

fn create_disk(path: &std::path::Path, bytes: u64) {
    std::fs::File::create(path).unwrap().set_len(bytes).unwrap();
    let device = BlockDevice::open(path, OpenMode { read_only: false, claim: Claim::Exclusive }).unwrap();
    let layout = Layout::new(MetaIndex::Internal, bytes, LogGeometry::CLASSIC).unwrap();
    image::write_super_block(&device, &layout, &SuperBlock::just_created(&layout), true).unwrap();
}

fn start_daemon(
    name: &str,
    directory: PathBuf,
    protocol_max: ProtocolVersion,
    log: &Arc<Mutex<Vec<String>>>,
) -> Arc<Daemon> {
    let lines = Arc::clone(log);
    let name = name.to_owned();
    let writer = Box::new(move |level: Level, text: &str| {
        let line = format!("{name} {level:?}: {text}");
        if std::env::var_os("DRBDBOX_TEST_LOG").is_some() {
            eprintln!("{line}");
        }
        lines.lock().unwrap().push(line);
    });
    let config = Config {
        protocol_max,
        helper: Program { executable: "/bin/true".into(), name: "/sbin/drbdadm".into() },
        door: DoorKind::None,
        device_directory: directory.clone(),
        run_directory: directory,
        door_threads: 1,
        minor_count: 32,
    };
    Daemon::new(Shared::new(config, LogSink::new(writer).unwrap()))
}
