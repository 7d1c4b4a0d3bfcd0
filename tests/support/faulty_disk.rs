//! A disk that has faults when it is told to: a block device of this machine, served from a file through a door of our
//! own (FUSE and a loop device). For tests/hosts/torture.sh.
//!
//! - `faulty-disk serve FILE MINOR RUNDIR SOCKET` serves FILE, prints the numbers of its block device, takes orders at SOCKET.
//! - `faulty-disk tell SOCKET ORDER...` gives an order; exit 0 when it is carried out.
//!
//! Orders: `delay MIN MAX` milliseconds of each request; `hold` (requests wait) and `go`; `fail reads`, `fail writes`, `fail
//! nothing`; `settle` writes the cache into FILE; `cut SEED` is what a loss of power does to it; `end`.
//!
//! The disk has a volatile write cache, as real ones have: what was not flushed is in memory, and after a loss of power any
//! part of it, by sectors of 512 bytes, is on the disk, and the rest is as it was before.
//!
//! Not the I/O limits of control groups: those need a particular hierarchy to be mounted, know no error, and lose nothing.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use drbdbox::export::door::{Detach, Door};
use drbdbox::export::loop_door::{LoopDoor, LoopDoorConfig};
use drbdbox::export::request::{Answer, Backend, Operation, Request};
use drbdbox::sys::buffer::Buffer;
use nix::errno::Errno;

const SECTOR_BYTES: usize = 512;
/// The cache writes itself out when it has more than this.
const CACHE_SECTORS_MAX: usize = 16 << 20 >> 9;
/// Requests that are served at a time.
const THREADS: usize = 16;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["serve", file, minor, run_directory, socket] => match minor.parse() {
            Ok(minor) => serve(Path::new(file), minor, run_directory.into(), Path::new(socket)),
            Err(_) => return usage(),
        },
        ["tell", socket, order @ ..] if !order.is_empty() => tell(Path::new(socket), &order.join(" ")),
        _ => return usage(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("faulty-disk {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: faulty-disk serve FILE MINOR RUNDIR SOCKET | tell SOCKET ORDER...");
    ExitCode::from(2)
}

fn serve(file: &Path, minor: u32, run_directory: PathBuf, socket: &Path) -> io::Result<()> {
    let disk = Arc::new(FaultyDisk::open(file)?);
    let orders = UnixListener::bind(socket)?;
    // Nodes of the door's own, where no real /dev/drbdN is.
    let nodes = tempfile::Builder::new().prefix("drbdbox-disk.").tempdir_in("/dev")?;
    let mut door = LoopDoor::create(LoopDoorConfig {
        minor,
        device_directory: nodes.path().to_owned(),
        run_directory,
        threads: THREADS,
    })
    .map_err(io::Error::other)?;
    door.attach(disk.clone()).map_err(io::Error::other)?;
    let number = door.device_number().ok_or_else(|| io::Error::other("the door has no device"))?;
    println!("{number}");
    for client in orders.incoming() {
        let mut client = client?;
        let mut order = String::new();
        BufReader::new(&client).read_line(&mut order)?;
        if order.trim() == "end" {
            disk.carry_out("go")?;
            door.detach(Detach::Forced).map_err(io::Error::other)?;
            disk.carry_out("settle")?;
            return client.write_all(b"ok\n");
        }
        let answer = match disk.carry_out(order.trim()) {
            Ok(()) => "ok\n".to_owned(),
            Err(error) => format!("{error}\n"),
        };
        // Who does not wait for the answer shall not end the disk.
        let _ = client.write_all(answer.as_bytes());
    }
    Ok(())
}

fn tell(socket: &Path, order: &str) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(format!("{order}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.trim() {
        "ok" => Ok(()),
        other => Err(io::Error::other(format!("'{other}'"))),
    }
}

/// What is wrong with the disk at the moment.
#[derive(Debug, Default)]
struct Faults {
    delay_ms_min: u64,
    delay_ms_max: u64,
    held: bool,
    reads_fail: bool,
    writes_fail: bool,
    /// State of the generator for delays.
    random: u64,
}

struct FaultyDisk {
    file: File,
    size_bytes: u64,
    faults: Mutex<Faults>,
    released: Condvar,
    /// Sectors that were written and not flushed, by number.
    cache: Mutex<BTreeMap<u64, [u8; SECTOR_BYTES]>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// splitmix64.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut value = *state;
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl FaultyDisk {
    fn open(path: &Path) -> io::Result<FaultyDisk> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let size_bytes = file.metadata()?.len();
        Ok(FaultyDisk {
            file,
            size_bytes,
            faults: Mutex::default(),
            released: Condvar::new(),
            cache: Mutex::default(),
        })
    }

    fn carry_out(&self, order: &str) -> io::Result<()> {
        let mut faults = lock(&self.faults);
        let words: Vec<&str> = order.split_whitespace().collect();
        let number = |text: &str| text.parse::<u64>().map_err(io::Error::other);
        match words.as_slice() {
            ["delay", min, max] => {
                faults.delay_ms_min = number(min)?;
                faults.delay_ms_max = number(max)?.max(faults.delay_ms_min);
            }
            ["hold"] => faults.held = true,
            ["go"] => faults.held = false,
            ["fail", what @ ("reads" | "writes" | "nothing")] => {
                faults.reads_fail = *what == "reads";
                faults.writes_fail = *what == "writes";
            }
            ["settle"] => return self.write_out(&mut lock(&self.cache)),
            ["cut", seed] => {
                let mut random = number(seed)?;
                let mut cache = lock(&self.cache);
                cache.retain(|_, _| next_random(&mut random) & 1 == 0);
                return self.write_out(&mut cache);
            }
            _ => return Err(io::Error::other(format!("no such order: {order}"))),
        }
        self.released.notify_all();
        Ok(())
    }

    /// Waits as long as the faults say; the error that a request of this kind gets.
    fn suffer(&self, operation: Operation) -> Result<(), Errno> {
        let mut faults = lock(&self.faults);
        let width = faults.delay_ms_max - faults.delay_ms_min + 1;
        let delay_ms = faults.delay_ms_min + next_random(&mut faults.random) % width;
        if delay_ms > 0 {
            drop(faults);
            std::thread::sleep(Duration::from_millis(delay_ms));
            faults = lock(&self.faults);
        }
        while faults.held {
            faults = self.released.wait(faults).unwrap_or_else(PoisonError::into_inner);
        }
        let fails = match operation {
            Operation::Read => faults.reads_fail,
            _ => faults.writes_fail,
        };
        if fails {
            return Err(Errno::EIO);
        }
        Ok(())
    }

    fn write_out(&self, cache: &mut BTreeMap<u64, [u8; SECTOR_BYTES]>) -> io::Result<()> {
        for (number, sector) in std::mem::take(cache) {
            self.file.write_all_at(&sector, number * SECTOR_BYTES as u64)?;
        }
        Ok(())
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Buffer> {
        let mut data = Buffer::zeroed(len);
        let cache = lock(&self.cache);
        self.file.read_exact_at(&mut data, offset)?;
        let first = offset / SECTOR_BYTES as u64;
        for (number, sector) in cache.range(first..first + (len / SECTOR_BYTES) as u64) {
            let at = (number - first) as usize * SECTOR_BYTES;
            data[at..at + SECTOR_BYTES].copy_from_slice(sector);
        }
        Ok(data)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut cache = lock(&self.cache);
        for (index, bytes) in data.chunks_exact(SECTOR_BYTES).enumerate() {
            let mut sector = [0; SECTOR_BYTES];
            sector.copy_from_slice(bytes);
            cache.insert(offset / SECTOR_BYTES as u64 + index as u64, sector);
        }
        if cache.len() > CACHE_SECTORS_MAX {
            self.write_out(&mut cache)?;
        }
        Ok(())
    }

    fn execute(&self, request: &Request) -> Answer {
        self.suffer(request.operation)?;
        let failed = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
        match (request.operation, &request.payload) {
            (Operation::Read, _) => {
                let data = self.read(request.offset, request.len as usize).map_err(failed)?;
                return Ok(Some(Arc::new(data)));
            }
            (Operation::Write, Some(payload)) => self.write(request.offset, payload).map_err(failed)?,
            (Operation::Flush, _) => {}
            _ => return Err(Errno::EOPNOTSUPP),
        }
        if request.fua || request.operation == Operation::Flush {
            self.write_out(&mut lock(&self.cache)).map_err(failed)?;
        }
        Ok(None)
    }
}

impl Backend for FaultyDisk {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn submit(&self, request: Request) {
        let answer = self.execute(&request);
        request.done.complete(answer);
    }
}
