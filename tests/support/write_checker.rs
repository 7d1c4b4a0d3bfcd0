//! Writes to a device, remembers what was acknowledged, and checks later that nothing of it was lost.
//!
//! - `write-checker write DEVICE STATE SECONDS THREADS [KIB]` writes until the time is up, STATE has a file `stop`, or the
//!   device fails (exit 3). KIB: the largest write (32).
//! - `write-checker verify DEVICE STATE` reads everything back; exit 1 with the sectors that lost a write.
//!
//! DEVICE is a block device, a file, or an export of an NBD server: `nbd+unix:///NAME?socket=PATH`. STATE is a directory. Every sector of 512 bytes that is written holds its own number and the number of the write,
//! so that each can be judged by itself: it must hold the last write that was acknowledged, or a later one that was
//! only begun (a torn write of several sectors is allowed until it is acknowledged). `verify` takes what it found as
//! the new state, because after a crash it may not change any more.
//!
//! Each thread has a part of the device of its own and one write in flight, so writes of one sector have an order. Now and
//! then it reads what it wrote, which must be the last write (exit 1), and flushes.

#[path = "nbd_client.rs"]
mod nbd_client;

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use drbdbox::sys::buffer::Buffer;
use nbd_client::NbdClient;

/// First bytes of a sector that this program wrote.
const MAGIC: u64 = 0x6472_6264_6368_6563;
const SECTOR_BYTES: usize = 512;
/// Largest write if nothing else is said.
const MAX_KIB: u64 = 32;
/// Writes start at multiples of 4 KiB, as those of a file system do.
const ALIGN_SECTORS: u64 = 8;
/// How much `verify` reads at a time.
const READ_SECTORS: u64 = 512;
/// One line of a journal: what happened (0 begun, 1 acknowledged), number of the write, first sector, sectors.
const RECORD_BYTES: usize = 32;
/// Errors that are printed before it only counts them.
const MAX_PRINTED: usize = 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["write", device, state, seconds, threads, kib @ ..] if kib.len() < 2 => {
            let kib = kib.first().map_or(Ok(MAX_KIB), |kib| kib.parse());
            match (seconds.parse(), threads.parse(), kib) {
                (Ok(seconds), Ok(threads @ 1..=64), Ok(kib @ 4..=32768)) => {
                    write(device, Path::new(state), Duration::from_secs(seconds), threads, kib * 2)
                }
                _ => return usage(),
            }
        }
        ["verify", device, state] => verify(device, Path::new(state)),
        _ => return usage(),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("write-checker: {error}");
            ExitCode::from(2)
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: write-checker write DEVICE STATE SECONDS THREADS [KIB] | verify DEVICE STATE");
    ExitCode::from(2)
}

// --- devices ---------------------------------------------------------------------------------------------------------

/// What is written to and read from; one request at a time.
enum Device {
    File(File),
    Nbd(NbdClient),
}

impl Device {
    /// Opens it as an application that waits for its writes does: past the page cache.
    fn open(device: &str, write: bool) -> io::Result<Device> {
        let opened = match device.strip_prefix("nbd+unix:///").and_then(|rest| rest.split_once("?socket=")) {
            Some((export, socket)) => NbdClient::connect(Path::new(socket), export).map(Device::Nbd),
            None => OpenOptions::new()
                .read(true)
                .write(write)
                .custom_flags(libc::O_DIRECT)
                .open(device)
                .map(Device::File),
        };
        opened.map_err(|error| io::Error::new(error.kind(), format!("{device}: {error}")))
    }

    fn sectors(&mut self) -> io::Result<u64> {
        let bytes = match self {
            Device::File(file) => file.seek(SeekFrom::End(0))?,
            Device::Nbd(client) => client.size_bytes,
        };
        Ok(bytes / SECTOR_BYTES as u64)
    }

    fn write(&mut self, data: &[u8], first: u64) -> io::Result<()> {
        let offset = first * SECTOR_BYTES as u64;
        match self {
            Device::File(file) => file.write_all_at(data, offset),
            Device::Nbd(client) => client.perform(nbd_client::WRITE, offset, data.len() as u32, data),
        }
    }

    fn read(&mut self, data: &mut [u8], first: u64) -> io::Result<()> {
        let offset = first * SECTOR_BYTES as u64;
        match self {
            Device::File(file) => file.read_exact_at(data, offset),
            Device::Nbd(client) => {
                client.perform(nbd_client::READ, offset, data.len() as u32, &[])?;
                client.stream.read_exact(data)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Device::File(file) => file.sync_data(),
            Device::Nbd(client) => client.perform(nbd_client::FLUSH, 0, 0, &[]),
        }
    }
}

// --- sectors ---------------------------------------------------------------------------------------------------------

/// Pseudo-random bytes that follow from a number (splitmix64).
fn mix(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn fill(sector: &mut [u8], number: u64, write: u64) {
    for (index, word) in sector.chunks_exact_mut(8).enumerate() {
        let value = match index {
            0 => MAGIC,
            1 => number,
            2 => write,
            _ => mix(number ^ write.rotate_left(20) ^ ((index as u64) << 56)),
        };
        word.copy_from_slice(&value.to_le_bytes());
    }
}

/// What a sector holds.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    /// The write of this number.
    Write(u64),
    /// Something that this program never wrote there.
    Foreign,
}

fn read_sector(sector: &[u8], number: u64) -> Content {
    let word = |index: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&sector[index * 8..index * 8 + 8]);
        u64::from_le_bytes(bytes)
    };
    let write = word(2);
    let mut expected = [0; SECTOR_BYTES];
    fill(&mut expected, number, write);
    if sector == expected {
        Content::Write(write)
    } else {
        Content::Foreign
    }
}

// --- state -----------------------------------------------------------------------------------------------------------

/// What one sector may hold.
#[derive(Debug, Default, Clone)]
struct Expected {
    /// Last write that was acknowledged; 0 if none was.
    acknowledged: u64,
    /// Writes that were begun after it, in order.
    begun: Vec<u64>,
}

type Sectors = HashMap<u64, Expected>;

fn journals(state: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(state)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "journal") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn load(state: &Path) -> io::Result<(Sectors, u64)> {
    let mut sectors = Sectors::new();
    let mut last = 0;
    for path in journals(state)? {
        let mut bytes = Vec::new();
        File::open(&path)?.read_to_end(&mut bytes)?;
        for record in bytes.chunks_exact(RECORD_BYTES) {
            let field = |index: usize| {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&record[index * 8..index * 8 + 8]);
                u64::from_le_bytes(bytes)
            };
            let (kind, write, first, count) = (field(0), field(1), field(2), field(3));
            last = last.max(write);
            for number in first..first + count {
                let sector = sectors.entry(number).or_default();
                if kind == 0 {
                    sector.begun.push(write);
                } else {
                    sector.acknowledged = write;
                    sector.begun.retain(|begun| *begun > write);
                }
            }
        }
    }
    Ok((sectors, last))
}

struct Journal(File);

impl Journal {
    fn create(path: &Path) -> io::Result<Journal> {
        Ok(Journal(OpenOptions::new().append(true).create(true).open(path)?))
    }

    /// In the page cache when it returns, so it survives everything but the end of the machine.
    fn note(&mut self, kind: u64, write: u64, first: u64, count: u64) -> io::Result<()> {
        let mut record = [0; RECORD_BYTES];
        for (slot, value) in record.chunks_exact_mut(8).zip([kind, write, first, count]) {
            slot.copy_from_slice(&value.to_le_bytes());
        }
        self.0.write_all(&record)
    }
}

// --- writing ---------------------------------------------------------------------------------------------------------

fn write(device: &str, state: &Path, time: Duration, threads: u64, sectors_max: u64) -> io::Result<u8> {
    std::fs::create_dir_all(state)?;
    let (_, last) = load(state)?;
    let sectors = Device::open(device, true)?.sectors()?;
    let share = sectors / threads / ALIGN_SECTORS * ALIGN_SECTORS;
    let next = AtomicU64::new(last + 1);
    let over = AtomicBool::new(false);
    let end = Instant::now() + time;
    let parts: Vec<io::Result<Part>> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..threads)
            .map(|thread| {
                let (next, over) = (&next, &over);
                scope.spawn(move || {
                    let mut part = Part {
                        device: Device::open(device, true)?,
                        journal: Journal::create(&state.join(format!("{thread:02}.journal")))?,
                        first: thread * share,
                        sectors: share,
                        sectors_max: sectors_max.min(share),
                        written: Vec::new(),
                        content: HashMap::new(),
                        acknowledged: 0,
                        end: End::Ordered,
                    };
                    let stop = state.join("stop");
                    while Instant::now() < end && !over.load(Ordering::Relaxed) && !stop.exists() {
                        if !part.step(next.fetch_add(1, Ordering::Relaxed))? {
                            over.store(true, Ordering::Relaxed);
                        }
                    }
                    Ok(part)
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))))
            .collect()
    });
    let mut total = 0;
    let mut end = End::Ordered;
    for part in parts {
        let part = part?;
        total += part.acknowledged;
        end = end.max(part.end);
    }
    let how = match end {
        End::Ordered => "",
        End::DeviceFailed => ", then the device failed",
        End::WrongContent => ", then a read returned something else than was written",
    };
    println!("{total} writes acknowledged{how}");
    Ok(end as u8)
}

/// Why a thread ended; the numbers are exit statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Ordered = 0,
    WrongContent = 1,
    DeviceFailed = 3,
}

impl End {
    /// The worse of two.
    fn max(self, other: End) -> End {
        if self == End::WrongContent || other == End::Ordered {
            self
        } else {
            other
        }
    }
}

/// How many of the last writes of a thread are read back, at random.
const REMEMBERED: usize = 64;

/// What one thread does to its part of the device.
struct Part {
    device: Device,
    journal: Journal,
    first: u64,
    sectors: u64,
    /// Of one write.
    sectors_max: u64,
    /// First sector and sectors of some writes that were acknowledged.
    written: Vec<(u64, u64)>,
    /// The last write of each sector.
    content: HashMap<u64, u64>,
    acknowledged: u64,
    end: End,
}

impl Part {
    /// One write, and what follows it. False: this was the last step.
    fn step(&mut self, write: u64) -> io::Result<bool> {
        let random = mix(write ^ self.first.rotate_left(32));
        // Mostly small writes; half of them into few places, so that sectors are written again and again.
        let units_max = (self.sectors_max / ALIGN_SECTORS).max(1);
        let units = if random % 4 == 0 { (random >> 8) % units_max + 1 } else { 1 };
        let count = units * ALIGN_SECTORS;
        let room = (self.sectors - count) / ALIGN_SECTORS;
        let places = if random & 16 == 0 { room.min(256) } else { room };
        let first = self.first + (random >> 20) % (places + 1) * ALIGN_SECTORS;
        let mut data = Buffer::for_overwrite(count as usize * SECTOR_BYTES);
        for (index, sector) in data.chunks_exact_mut(SECTOR_BYTES).enumerate() {
            fill(sector, first + index as u64, write);
        }
        self.journal.note(0, write, first, count)?;
        let mut done = self.device.write(&data, first);
        if done.is_ok() {
            self.journal.note(1, write, first, count)?;
            self.acknowledged += 1;
            self.remember(write, first, count);
            let random = mix(random);
            if random % 32 == 0 {
                done = self.device.flush();
            } else if random % 8 == 1 {
                done = self.read_back((random >> 8) as usize);
            }
        }
        if done.is_err() && self.end == End::Ordered {
            self.end = End::DeviceFailed;
        }
        Ok(self.end == End::Ordered)
    }

    fn remember(&mut self, write: u64, first: u64, count: u64) {
        if self.written.len() == REMEMBERED {
            self.written.swap_remove(write as usize % REMEMBERED);
        }
        self.written.push((first, count));
        self.content.extend((first..first + count).map(|number| (number, write)));
    }

    /// Reads what one of the last writes wrote; other writes may have written to it since.
    fn read_back(&mut self, index: usize) -> io::Result<()> {
        let Some((first, count)) = self.written.get(index % self.written.len().max(1)).copied() else {
            return Ok(());
        };
        let mut data = Buffer::zeroed(count as usize * SECTOR_BYTES);
        self.device.read(&mut data, first)?;
        for (index, sector) in data.chunks_exact(SECTOR_BYTES).enumerate() {
            let number = first + index as u64;
            let (content, expected) = (read_sector(sector, number), self.content.get(&number));
            if expected.is_some_and(|write| content != Content::Write(*write)) {
                eprintln!("sector {number}, read by its writer: {content:?}, expected {expected:?}");
                self.end = End::WrongContent;
                return Ok(());
            }
        }
        Ok(())
    }
}

// --- checking --------------------------------------------------------------------------------------------------------

fn verify(device: &str, state: &Path) -> io::Result<u8> {
    let (sectors, _) = load(state)?;
    let mut numbers: Vec<u64> = sectors.keys().copied().collect();
    numbers.sort_unstable();
    let mut device = Device::open(device, false)?;
    let end = device.sectors()?;
    let mut block = Buffer::zeroed(READ_SECTORS as usize * SECTOR_BYTES);
    let mut lost = 0;
    let mut found: Vec<(u64, u64)> = Vec::with_capacity(numbers.len());
    let mut in_block = None;
    for number in numbers {
        let start = number / READ_SECTORS * READ_SECTORS;
        if in_block != Some(start) {
            // The last piece of the device is shorter.
            let bytes = (end - start).min(READ_SECTORS) as usize * SECTOR_BYTES;
            device.read(&mut block[..bytes], start)?;
            in_block = Some(start);
        }
        let at = (number - start) as usize * SECTOR_BYTES;
        let content = read_sector(&block[at..at + SECTOR_BYTES], number);
        let expected = &sectors[&number];
        let fine = match content {
            Content::Write(write) => write == expected.acknowledged || expected.begun.contains(&write),
            Content::Foreign => expected.acknowledged == 0,
        };
        if !fine {
            lost += 1;
            if lost <= MAX_PRINTED {
                eprintln!("sector {number}: {content:?}, expected {expected:?}");
            }
        }
        if let Content::Write(write) = content {
            found.push((number, write));
        }
    }
    if lost > 0 {
        eprintln!("{lost} sectors lost a write that was acknowledged");
        return Ok(1);
    }
    println!("{} sectors checked", sectors.len());
    replace_state(state, &found)?;
    Ok(0)
}

/// What was found is what must be there from now on.
fn replace_state(state: &Path, found: &[(u64, u64)]) -> io::Result<()> {
    let fresh = state.join("verified.new");
    let mut bytes = Vec::with_capacity(found.len() * RECORD_BYTES);
    for (number, write) in found {
        for value in [1, *write, *number, 1] {
            bytes.extend_from_slice(&u64::to_le_bytes(value));
        }
    }
    std::fs::write(&fresh, bytes)?;
    for path in journals(state)? {
        std::fs::remove_file(path)?;
    }
    // Sorts before the journals of the threads.
    std::fs::rename(fresh, state.join("00-verified.journal"))
}
