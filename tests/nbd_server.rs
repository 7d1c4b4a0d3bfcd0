//! The NBD server, as a client of our own sees it, and as nbdinfo, nbdcopy, qemu-img and fio do where installed.

#![allow(clippy::unwrap_used)] // a test may fail

#[path = "support/nbd_client.rs"]
mod nbd_client;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use drbdbox::export::door::{Detach, Door, DoorError, Holder};
use drbdbox::export::nbd_server::{Listen, NbdDoor, NbdServer};
use drbdbox::export::ram::RamBackend;
use drbdbox::export::request::{Backend, Limits, Request};
use nbd_client::NbdClient;
use nix::errno::Errno;

const MIB: u64 = 1 << 20;
const ALL: Limits = Limits {
    max_io_bytes: 1 << 20,
    discard: true,
    write_zeroes: true,
    max_discard_bytes: 1 << 20,
    read_only: false,
};

struct House {
    _directory: tempfile::TempDir,
    path: PathBuf,
    _server: NbdServer,
    door: NbdDoor,
}

fn house(backend: Arc<dyn Backend>) -> House {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nbd.sock");
    let server = NbdServer::listen(Listen::Unix(path.clone())).unwrap();
    let mut door = server.door("r0");
    door.attach(backend).unwrap();
    House { _directory: directory, path, _server: server, door }
}

/// A client whose steps succeed.
struct Client(NbdClient);

impl Client {
    fn connect(path: &Path) -> Client {
        Client(NbdClient::connect(path, "r0").unwrap())
    }

    fn greet(path: &Path) -> Client {
        Client(NbdClient::greet(path).unwrap())
    }

    fn option(&mut self, number: u32, data: &[u8]) {
        self.0.option(number, data).unwrap();
    }

    fn send(&mut self, flags: u16, command: u16, cookie: u64, offset: u64, length: u32, data: &[u8]) {
        self.0.send(flags, command, cookie, offset, length, data).unwrap();
    }

    /// Error number and cookie of the next reply.
    fn reply(&mut self) -> (u32, u64) {
        self.0.reply().unwrap()
    }

    fn read(&mut self, offset: u64, length: u32) -> Vec<u8> {
        self.send(0, 0, 99, offset, length, &[]);
        assert_eq!(self.reply(), (0, 99));
        let mut data = vec![0; length as usize];
        self.0.stream.read_exact(&mut data).unwrap();
        data
    }

    fn is_cut_off(&mut self) -> bool {
        matches!(self.0.stream.read(&mut [0; 1]), Ok(0) | Err(_))
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8 ^ (at / 4096) as u8).collect()
}

#[test]
fn what_is_written_is_read_back_also_beyond_what_the_backend_takes_at_a_time() {
    let backend = RamBackend::new(16 * MIB, ALL);
    let house = house(backend.clone());
    let mut client = Client::connect(&house.path);
    let data = pattern(5 << 20);
    client.send(0, 1, 1, 512, data.len() as u32, &data);
    assert_eq!(client.reply(), (0, 1));
    assert!(client.read(512, data.len() as u32) == data);
    assert_eq!(backend.counters.writes.load(Ordering::Relaxed), 5);
}

#[test]
fn flush_fua_trim_and_zeroes_reach_the_backend() {
    let backend = RamBackend::new(4 * MIB, ALL);
    backend.poke(0, &pattern(4 << 20));
    let house = house(backend.clone());
    let mut client = Client::connect(&house.path);
    client.send(1, 1, 1, 0, 512, &[7; 512]);
    client.send(0, 3, 2, 0, 0, &[]);
    client.send(0, 4, 3, MIB, MIB as u32, &[]);
    client.send(2, 6, 4, 2 * MIB, 2 * MIB as u32, &[]);
    let mut replies: Vec<_> = (0..4).map(|_| client.reply()).collect();
    replies.sort_unstable();
    assert_eq!(replies, [(0, 1), (0, 2), (0, 3), (0, 4)]);
    assert_eq!(backend.counters.fua_writes.load(Ordering::Relaxed), 1);
    assert_eq!(backend.counters.flushes.load(Ordering::Relaxed), 1);
    assert_eq!(backend.counters.discards.load(Ordering::Relaxed), 1);
    assert_eq!(backend.counters.write_zeroes.load(Ordering::Relaxed), 2);
    assert!(client.read(2 * MIB, 2 * MIB as u32).iter().all(|byte| *byte == 0));
}

#[test]
fn what_cannot_be_done_is_refused_and_the_connection_goes_on() {
    let backend = RamBackend::new(MIB, Limits::default());
    let house = house(backend.clone());
    let mut client = Client::connect(&house.path);
    client.send(0, 1, 1, MIB - 512, 1024, &[0; 1024]);
    assert_eq!(client.reply(), (28, 1), "write behind the end");
    client.send(0, 0, 2, u64::MAX - 511, 512, &[]);
    assert_eq!(client.reply(), (22, 2), "offset overflows");
    client.send(0, 0, 3, 100, 512, &[]);
    assert_eq!(client.reply(), (22, 3), "not a sector");
    client.send(0, 0, 4, 0, 512 << 20, &[]);
    assert_eq!(client.reply(), (22, 4), "too long");
    client.send(0, 4, 5, 0, 512, &[]);
    assert_eq!(client.reply(), (22, 5), "trim is not offered");
    client.send(0, 77, 6, 0, 512, &[]);
    assert_eq!(client.reply(), (22, 6), "unknown command");
    client.send(0, 0, 7, 0, 0, &[]);
    assert_eq!(client.reply(), (0, 7), "nothing to read");
    backend.fail(Some(Errno::EIO));
    client.send(0, 0, 8, 0, 512, &[]);
    assert_eq!(client.reply(), (5, 8));
    backend.fail(None);
    assert_eq!(client.read(0, 512), [0; 512]);
}

#[test]
fn garbage_is_cut_off_and_the_server_lives_on() {
    let house = house(RamBackend::new(MIB, ALL));
    let mut client = Client::connect(&house.path);
    client.0.stream.write_all(&[0x55; 28]).unwrap();
    assert!(client.is_cut_off());
    let mut client = Client::connect(&house.path);
    client.send(0, 1, 1, 0, u32::MAX, &[]);
    assert!(client.is_cut_off(), "a write of 4 GiB is not read");
    let mut stream = UnixStream::connect(&house.path).unwrap();
    stream.write_all(&[0xff; 4096]).unwrap();
    assert!(Client::connect(&house.path).read(0, 512) == [0; 512]);
}

#[test]
fn a_write_that_breaks_off_is_not_written() {
    let backend = RamBackend::new(MIB, ALL);
    let mut house = house(backend.clone());
    let mut client = Client::connect(&house.path);
    client.send(0, 1, 1, 0, 4096, &[1; 4000]);
    drop(client);
    while house.door.detach(Detach::Unused).is_err() {
        std::thread::yield_now();
    }
    assert_eq!(backend.counters.writes.load(Ordering::Relaxed), 0);
}

/// Keeps requests until it is told to answer them.
struct Slow {
    ram: Arc<RamBackend>,
    waiting: Mutex<Vec<Request>>,
}

impl Backend for Slow {
    fn size_bytes(&self) -> u64 {
        self.ram.size_bytes()
    }

    fn submit(&self, request: Request) {
        self.waiting.lock().unwrap().push(request);
    }
}

impl Slow {
    fn wait_for(&self, count: usize) -> Vec<Request> {
        loop {
            let mut waiting = self.waiting.lock().unwrap();
            if waiting.len() >= count {
                return std::mem::take(&mut *waiting);
            }
            drop(waiting);
            std::thread::yield_now();
        }
    }
}

#[test]
fn replies_come_in_the_order_of_completion() {
    let slow = Arc::new(Slow { ram: RamBackend::new(MIB, ALL), waiting: Mutex::default() });
    let house = house(slow.clone());
    let mut client = Client::connect(&house.path);
    for cookie in 0..32 {
        client.send(0, 0, cookie, cookie * 512, 512, &[]);
    }
    for request in slow.wait_for(32).into_iter().rev() {
        slow.ram.submit(request);
    }
    for cookie in (0..32).rev() {
        assert_eq!(client.reply(), (0, cookie));
        client.0.stream.read_exact(&mut [0; 512]).unwrap();
    }
}

#[test]
fn a_client_that_does_not_listen_holds_up_nobody_else() {
    let house = house(RamBackend::new(64 * MIB, ALL));
    let mut deaf = Client::connect(&house.path);
    for cookie in 0..8 {
        deaf.send(0, 0, cookie, 0, 32 << 20, &[]);
    }
    // Its replies fill the socket; what it may have in progress is used up. Others are served.
    let mut other = Client::connect(&house.path);
    assert_eq!(other.read(0, 512), [0; 512]);
    for _ in 0..8 {
        assert_eq!(deaf.reply().0, 0);
        let mut data = vec![0; 32 << 20];
        deaf.0.stream.read_exact(&mut data).unwrap();
    }
}

#[test]
fn an_export_in_use_is_held_open_and_a_claimed_one_lets_nobody_in() {
    let mut house = house(RamBackend::new(MIB, ALL));
    let client = Client::connect(&house.path);
    match house.door.detach(Detach::Unused) {
        Err(DoorError::HeldOpen(holders)) => {
            let pid = std::process::id();
            assert!(
                matches!(&holders[..], [Holder::Client { name }] if name.contains(&format!("pid {pid} "))),
                "{holders:?}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(house.door.is_attached());
    drop(client);
    while house.door.claim().is_err() {
        std::thread::yield_now();
    }
    let mut late = Client::greet(&house.path);
    late.option(1, b"r0");
    assert!(late.is_cut_off());
    house.door.release();
    let client = Client::connect(&house.path);
    house.door.detach(Detach::Forced).unwrap();
    assert!({ client }.is_cut_off());
    assert!(!house.door.is_attached());
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nbd.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let server = NbdServer::listen(Listen::Unix(path.clone())).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(NbdServer::listen(Listen::Unix(path.clone())).is_err());
    drop(server);
    assert!(!path.exists());
}

fn run(program: &str, arguments: &[&str]) -> Option<String> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program} {arguments:?}: {text}{errors}");
            Some(text)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("SKIPPED: {program} is not installed");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

#[test]
fn the_programs_of_the_field_can_use_it() {
    let backend = RamBackend::new(8 * MIB, ALL);
    backend.poke(0, &pattern(8 << 20));
    let house = house(backend.clone());
    let uri = format!("nbd+unix:///r0?socket={}", house.path.display());
    let copy = house.path.with_file_name("copy");
    let copy = copy.to_str().unwrap();
    if let Some(text) = run("nbdinfo", &[&uri]) {
        assert!(text.contains("export-size: 8388608"), "{text}");
        assert!(text.contains("can_fua: true") && text.contains("can_trim: true"), "{text}");
    }
    if let Some(text) = run("nbdinfo", &["--list", &uri]) {
        assert!(text.contains("export=\"r0\""), "{text}");
    }
    if run("nbdcopy", &[&uri, copy]).is_some() {
        assert!(std::fs::read(copy).unwrap() == pattern(8 << 20));
        backend.poke(0, &[0; 4096]);
        run("nbdcopy", &["--flush", copy, &uri]);
        let mut bytes = vec![0; 8 << 20];
        backend.peek(0, &mut bytes);
        assert!(bytes == pattern(8 << 20));
    }
    if run("qemu-img", &["convert", "-f", "raw", "-O", "raw", &uri, copy]).is_some() {
        assert!(std::fs::read(copy).unwrap() == pattern(8 << 20));
        run("qemu-img", &["convert", "-n", "-f", "raw", "-O", "raw", copy, &uri]);
    }
    let fio = ["--name=v", "--ioengine=nbd", "--rw=randwrite", "--bs=4k", "--size=8m", "--iodepth=32"];
    let uri_option = format!("--uri={uri}");
    let mut arguments = fio.to_vec();
    arguments.extend([
        uri_option.as_str(),
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_state_save=0",
        "--thread",
    ]);
    let engines = Command::new("fio").arg("--enghelp").output();
    match engines {
        Ok(output) if String::from_utf8_lossy(&output.stdout).contains("nbd") => {
            run("fio", &arguments);
        }
        _ => println!("SKIPPED: fio with an nbd engine is not installed"),
    }
}
