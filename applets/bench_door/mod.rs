//! `drbdbox bench-door`: a door to a plain disk, without replication. `make bench` measures it beside the real thing, so
//! that what replication costs can be told from what the door costs; and what the least of all mirrors makes of the same
//! machine ([`mirror`]), so that what drbdbox costs can be told from what a second copy costs.

mod mirror;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};

use drbdbox::export::door::{Detach, Door, DoorError};
use drbdbox::export::loop_door::{LoopDoor, LoopDoorConfig};
use drbdbox::export::nbd_kernel::{NbdKernelDoor, NbdKernelDoorConfig};
use drbdbox::export::nbd_server::{Listen, NbdServer};
use drbdbox::export::request::{Answer, Backend, Operation, Request};
use drbdbox::sys::block_device::{BlockDevice, Claim, OpenMode};
use drbdbox::sys::buffer::Buffer;

/// Threads that do the I/O of the NBD server's requests: fio's 32 in flight, and no more than that.
const DISK_THREADS: usize = 32;
/// Threads of the door fuse+loop; each does its request itself.
const DOOR_THREADS: usize = 8;
/// The minor of the device: far from those of real resources.
const MINOR: u32 = 999;

/// Runs until SIGTERM or SIGINT. Prints where the door is when it is open.
pub fn main(args: &[String]) -> u8 {
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    let result = match words.as_slice() {
        ["fuse-loop", disk] => open(Path::new(disk)).and_then(|disk| serve_loop(Arc::new(Disk(disk)))),
        ["nbd", disk] => {
            open(Path::new(disk)).and_then(Pool::start).and_then(|pool| serve_nbd_device(Arc::new(pool)))
        }
        ["mirror", disk, peer] => open(Path::new(disk))
            .and_then(|disk| mirror::Mirror::connect(disk, peer))
            .and_then(|mirror| serve_loop(Arc::new(mirror))),
        ["mirror-peer", disk, address] => {
            open(Path::new(disk)).and_then(|disk| mirror::serve_peer(&disk, address))
        }
        ["nbd-server", disk, socket] => serve_nbd(Path::new(disk), PathBuf::from(socket)),
        _ => {
            eprintln!(
                "Usage: drbdbox bench-door fuse-loop DISK | nbd DISK | nbd-server DISK SOCKET | mirror DISK PEER | \
                 mirror-peer DISK ADDRESS"
            );
            return 1;
        }
    };
    match result {
        Ok(()) => 0,
        Err(what) => {
            eprintln!("drbdbox bench-door: {what}");
            1
        }
    }
}

fn serve_loop(backend: Arc<dyn Backend>) -> Result<(), String> {
    serve_device(backend, |device_directory, run_directory| {
        let config = LoopDoorConfig { minor: MINOR, device_directory, run_directory, threads: DOOR_THREADS };
        Ok(Box::new(LoopDoor::create(config)?))
    })
}

fn serve_nbd_device(backend: Arc<dyn Backend>) -> Result<(), String> {
    serve_device(backend, |device_directory, run_directory| {
        let threads = DOOR_THREADS;
        let config =
            NbdKernelDoorConfig { minor: MINOR, device_directory, run_directory, threads, netlink: true };
        Ok(Box::new(NbdKernelDoor::create(config)?))
    })
}

/// `make`: the door, by the directories of its node and of its record.
fn serve_device(
    backend: Arc<dyn Backend>,
    make: impl FnOnce(PathBuf, PathBuf) -> Result<Box<dyn Door>, DoorError>,
) -> Result<(), String> {
    let signals = block_signals()?;
    let run_directory = std::env::temp_dir().join(format!("drbdbox-bench-door-{}", std::process::id()));
    let mut door = make(PathBuf::from("/dev"), run_directory.clone()).map_err(|error| error.to_string())?;
    let served = serve(&mut *door, backend, &format!("/dev/drbd{MINOR}"), &signals);
    door.remove();
    let _ = std::fs::remove_dir_all(run_directory);
    served
}

fn serve_nbd(disk: &Path, socket: PathBuf) -> Result<(), String> {
    let signals = block_signals()?;
    let pool = Pool::start(open(disk)?)?;
    let place = format!("nbd+unix:///bare?socket={}", socket.display());
    let server = NbdServer::listen(Listen::Unix(socket)).map_err(|error| error.to_string())?;
    serve(&mut server.door("bare"), Arc::new(pool), &place, &signals)
}

fn serve(
    door: &mut dyn Door,
    backend: Arc<dyn Backend>,
    place: &str,
    signals: &SigSet,
) -> Result<(), String> {
    door.attach(backend).map_err(|error| error.to_string())?;
    println!("{place}");
    signals.wait().map_err(|errno| format!("wait for a signal: {errno}"))?;
    door.detach(Detach::Forced).map_err(|error| error.to_string())
}

/// To be called before the first thread is started, which inherits it.
fn block_signals() -> Result<SigSet, String> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().map_err(|errno| format!("block signals: {errno}"))?;
    Ok(signals)
}

fn open(disk: &Path) -> Result<BlockDevice, String> {
    BlockDevice::open(disk, OpenMode { read_only: false, claim: Claim::Exclusive })
        .map_err(|error| error.to_string())
}

/// Does each request at once, on the thread that brings it.
struct Disk(BlockDevice);

impl Backend for Disk {
    fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }

    fn submit(&self, request: Request) {
        let answer = carry_out(&self.0, &request);
        request.done.complete(answer);
    }
}

fn carry_out(disk: &BlockDevice, request: &Request) -> Answer {
    let result = match (request.operation, &request.payload) {
        (Operation::Read, _) => {
            let mut data = Buffer::for_overwrite(request.len as usize);
            return match disk.read_at(request.offset, &mut data) {
                Ok(()) => Ok(Some(Arc::new(data))),
                Err(error) => Err(errno_of(&error)),
            };
        }
        (Operation::Write, Some(payload)) => disk.write_at(request.offset, &payload[..request.len as usize]),
        (Operation::Flush, _) => disk.sync(),
        _ => return Err(Errno::EOPNOTSUPP),
    };
    match result {
        Ok(()) if request.fua => disk.sync().map_err(|error| errno_of(&error)).map(|()| None),
        Ok(()) => Ok(None),
        Err(error) => Err(errno_of(&error)),
    }
}

fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// Does the requests on threads of its own: the NBD server brings all of a client's on one.
struct Pool {
    disk: Arc<BlockDevice>,
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    requests: Mutex<VecDeque<Request>>,
    filled: Condvar,
}

impl Pool {
    fn start(disk: BlockDevice) -> Result<Pool, String> {
        let pool = Pool { disk: Arc::new(disk), queue: Arc::new(Queue::default()) };
        for _ in 0..DISK_THREADS {
            let (disk, queue) = (Arc::clone(&pool.disk), Arc::clone(&pool.queue));
            std::thread::Builder::new()
                .name("disk".into())
                .spawn(move || loop {
                    let request = queue.next();
                    let answer = carry_out(&disk, &request);
                    request.done.complete(answer);
                })
                .map_err(|error| format!("start a thread: {error}"))?;
        }
        Ok(pool)
    }
}

impl Queue {
    fn next(&self) -> Request {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(request) = requests.pop_front() {
                return request;
            }
            requests = self.filled.wait(requests).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Backend for Pool {
    fn size_bytes(&self) -> u64 {
        self.disk.size_bytes()
    }

    fn submit(&self, request: Request) {
        self.queue.requests.lock().unwrap_or_else(PoisonError::into_inner).push_back(request);
        self.queue.filled.notify_one();
    }
}
