//! Writes to a device, remembers what was acknowledged, and checks later that nothing of it was lost.
//!
//! - `write-checker write DEVICE STATE SECONDS THREADS` writes until the time is up or the device fails (exit 3).
//! - `write-checker verify DEVICE STATE` reads everything back; exit 1 with the sectors that lost a write.
//!
//! STATE is a directory. Every sector of 512 bytes that is written holds its own number and the number of the write,
//! so that each can be judged by itself: it must hold the last write that was acknowledged, or a later one that was
//! only begun (a torn write of several sectors is allowed until it is acknowledged). `verify` takes what it found as
//! the new state, because after a crash it may not change any more.
//!
//! Each thread has a part of the device of its own and one write in flight, so writes of one sector have an order.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use drbdbox::sys::buffer::Buffer;

/// First bytes of a sector that this program wrote.
const MAGIC: u64 = 0x6472_6264_6368_6563;
const SECTOR_BYTES: usize = 512;
/// Largest write: 64 sectors.
const MAX_SECTORS: u64 = 64;
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
        ["write", device, state, seconds, threads] => match (seconds.parse(), threads.parse()) {
            (Ok(seconds), Ok(threads)) if (1..=64).contains(&threads) => {
                write(Path::new(device), Path::new(state), seconds, threads)
            }
            _ => return usage(),
        },
        ["verify", device, state] => verify(Path::new(device), Path::new(state)),
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
    eprintln!("usage: write-checker write DEVICE STATE SECONDS THREADS | verify DEVICE STATE");
    ExitCode::from(2)
}

/// Opens the device as an application that waits for its writes does: past the page cache.
fn open(device: &Path, write: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(libc::O_DIRECT)
        .open(device)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", device.display())))
}

fn device_sectors(device: &mut File) -> io::Result<u64> {
    use std::io::{Seek, SeekFrom};
    Ok(device.seek(SeekFrom::End(0))? / SECTOR_BYTES as u64)
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

fn write(device: &Path, state: &Path, seconds: u64, threads: u64) -> io::Result<u8> {
    std::fs::create_dir_all(state)?;
    let (_, last) = load(state)?;
    let sectors = device_sectors(&mut open(device, true)?)?;
    let share = sectors / threads / ALIGN_SECTORS * ALIGN_SECTORS;
    let next = AtomicU64::new(last + 1);
    let failed = AtomicBool::new(false);
    let end = Instant::now() + Duration::from_secs(seconds);
    let written: Vec<io::Result<u64>> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..threads)
            .map(|thread| {
                let (next, failed) = (&next, &failed);
                scope.spawn(move || {
                    let journal = Journal::create(&state.join(format!("{thread:02}.journal")))?;
                    let part = thread * share..(thread + 1) * share;
                    write_part(&open(device, true)?, journal, part, next, failed, end)
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))))
            .collect()
    });
    let mut total = 0;
    for count in written {
        total += count?;
    }
    let failed = failed.load(Ordering::Relaxed);
    println!("{total} writes acknowledged{}", if failed { ", then the device failed" } else { "" });
    Ok(if failed { 3 } else { 0 })
}

/// One thread. Returns how many of its writes were acknowledged.
fn write_part(
    device: &File,
    mut journal: Journal,
    part: std::ops::Range<u64>,
    next: &AtomicU64,
    failed: &AtomicBool,
    end: Instant,
) -> io::Result<u64> {
    let mut acknowledged = 0;
    while Instant::now() < end && !failed.load(Ordering::Relaxed) {
        let write = next.fetch_add(1, Ordering::Relaxed);
        let random = mix(write ^ part.start.rotate_left(32));
        // Mostly small writes; half of them into few places, so that sectors are written again and again.
        let count = if random % 4 == 0 { (random >> 8) % (MAX_SECTORS / 8) * 8 + 8 } else { 8 };
        let room = (part.end - part.start - count) / ALIGN_SECTORS;
        let places = if random & 16 == 0 { room.min(256) } else { room };
        let first = part.start + (random >> 20) % (places + 1) * ALIGN_SECTORS;
        let mut data = Buffer::for_overwrite(count as usize * SECTOR_BYTES);
        for (index, sector) in data.chunks_exact_mut(SECTOR_BYTES).enumerate() {
            fill(sector, first + index as u64, write);
        }
        journal.note(0, write, first, count)?;
        if device.write_all_at(&data, first * SECTOR_BYTES as u64).is_err() {
            failed.store(true, Ordering::Relaxed);
            break;
        }
        journal.note(1, write, first, count)?;
        acknowledged += 1;
    }
    Ok(acknowledged)
}

// --- checking --------------------------------------------------------------------------------------------------------

fn verify(device: &Path, state: &Path) -> io::Result<u8> {
    let (sectors, _) = load(state)?;
    let mut numbers: Vec<u64> = sectors.keys().copied().collect();
    numbers.sort_unstable();
    let mut file = open(device, false)?;
    let end = device_sectors(&mut file)?;
    let mut block = Buffer::zeroed(READ_SECTORS as usize * SECTOR_BYTES);
    let mut lost = 0;
    let mut found: Vec<(u64, u64)> = Vec::with_capacity(numbers.len());
    let mut in_block = None;
    for number in numbers {
        let start = number / READ_SECTORS * READ_SECTORS;
        if in_block != Some(start) {
            // The last piece of the device is shorter.
            let bytes = (end - start).min(READ_SECTORS) as usize * SECTOR_BYTES;
            file.read_exact_at(&mut block[..bytes], start * SECTOR_BYTES as u64)?;
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
