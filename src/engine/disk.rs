//! A backing device at work: its threads, and what they do.
//!
//! Jobs come from every thread that gets disk outputs from core. A thread that has nothing better to
//! do does its own job at once (`Disk::perform`); the others go to the pool. Pool threads block in
//! the device's system calls, and report to core when a job is done. They are started when there is
//! more to do than there are idle threads, up to [`THREADS_MAX`], and live as long as the disk.

use super::rank;
use crate::core::types::{BackingSize, Clearing, Io, IoResult, Payload};
use crate::sys::block_device::{BlockDevice, Kind};
use crate::sys::buffer::Buffer;
use crate::sys::sync::{Condvar, Mutex};
use crate::sys::time::monotonic_ms;
use crate::wire::SECTOR_BYTES;
use nix::errno::Errno;
use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Requests that one disk works on at a time.
const THREADS_MAX: usize = 16;

pub use crate::sys::process::STACK_BYTES;

/// One request to a disk.
#[derive(Debug)]
pub struct Job {
    /// What to tell core when it is done.
    pub io: Io,
    /// What to do.
    pub work: DiskWork,
}

/// What a disk can do. Sectors and bytes of the data device, unless noted.
#[derive(Debug)]
pub enum DiskWork {
    /// Read into a fresh buffer.
    Read {
        /// First sector.
        sector: u64,
        /// Bytes.
        bytes: u32,
    },
    /// Write.
    Write {
        /// First sector.
        sector: u64,
        /// What to write.
        payload: Payload,
        /// Durable before it counts as done.
        fua: bool,
    },
    /// Give space back, or make it read as zeroes.
    Discard {
        /// First sector.
        sector: u64,
        /// Bytes.
        bytes: u32,
        /// What becomes of it.
        how: Clearing,
    },
    /// Make everything durable that was written.
    Flush,
    /// Write to the meta data device: byte offsets and bytes; then make them durable.
    Meta {
        /// What to write where.
        pieces: Vec<(u64, Buffer)>,
        /// Make them durable.
        flush: bool,
    },
}

/// Takes what came of a job.
pub type Done = Arc<dyn Fn(Io, IoResult) + Send + Sync>;

/// An open backing device with its meta data device.
pub struct Disk {
    data: Arc<BlockDevice>,
    meta: Arc<BlockDevice>,
    /// Held while a logical block is read, changed and written back.
    rewrite: Mutex<()>,
    pool: Mutex<Pool>,
    for_threads: Condvar,
    done: Done,
    name: String,
    /// Second in which an error was logged last.
    error_logged: AtomicU64,
    /// The last field: it is dropped when the devices are closed.
    closing: Closing,
}

/// Tells that a disk is closed.
#[derive(Debug, Default)]
pub struct Closed {
    closed: Mutex<bool>,
    changed: Condvar,
}

impl Closed {
    /// Waits until it is, at most that long. True if it is.
    pub fn wait(&self, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        let mut closed = self.closed.lock();
        while !*closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            closed = self.changed.wait_timeout(closed, left);
        }
        true
    }
}

/// Sets [`Closed`] when it is dropped.
struct Closing(Arc<Closed>);

impl Drop for Closing {
    fn drop(&mut self) {
        *self.0.closed.lock() = true;
        self.0.changed.notify_all();
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Disk({})", self.data.path().display())
    }
}

#[derive(Debug, Default)]
struct Pool {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Disk {
    /// A disk on open devices; `meta` is `data` itself for internal meta data. `name` is that of its threads.
    pub fn new(data: Arc<BlockDevice>, meta: Arc<BlockDevice>, name: &str, done: Done) -> Disk {
        Disk {
            data,
            meta,
            rewrite: Mutex::new(()),
            pool: Mutex::ranked(rank::WITHIN_RESOURCE, Pool::default()),
            for_threads: Condvar::new(),
            done,
            name: name.to_owned(),
            error_logged: AtomicU64::new(u64::MAX),
            closing: Closing(Arc::default()),
        }
    }

    /// Where to wait until the devices are closed: after [`Disk::close`] and the end of all work.
    pub fn closed(&self) -> Arc<Closed> {
        Arc::clone(&self.closing.0)
    }

    /// The data device.
    pub fn data(&self) -> &Arc<BlockDevice> {
        &self.data
    }

    /// The device with the meta data.
    pub fn meta(&self) -> &Arc<BlockDevice> {
        &self.meta
    }

    /// How large the devices are now.
    pub fn size(&self) -> io::Result<BackingSize> {
        let data_bytes = self.data.refresh_size()?;
        Ok(BackingSize { data_bytes, meta_bytes: self.meta.refresh_size()? })
    }

    /// Hands a job to a thread of the pool.
    pub fn enqueue(self: &Arc<Self>, job: Job) {
        let mut pool = self.pool.lock();
        pool.jobs.push_back(job);
        if pool.jobs.len() > pool.idle && pool.threads < THREADS_MAX {
            pool.threads += 1;
            drop(pool);
            self.add_thread();
        } else {
            drop(pool);
            self.for_threads.notify_one();
        }
    }

    fn add_thread(self: &Arc<Self>) {
        let disk = Arc::clone(self);
        let spawned =
            thread::Builder::new().name(self.name.clone()).stack_size(STACK_BYTES).spawn(move || run(&disk));
        if let Err(error) = spawned {
            let alone = {
                let mut pool = self.pool.lock();
                pool.threads -= 1;
                pool.threads == 0
            };
            log::warn!("{}: no thread for the disk: {error}", self.name);
            if alone {
                // Nobody else would ever do it.
                while let Some(job) = self.take_job() {
                    self.run_job(job);
                }
            }
        }
    }

    fn take_job(&self) -> Option<Job> {
        self.pool.lock().jobs.pop_front()
    }

    /// Whether the disk has jobs that wait.
    pub fn is_busy(&self) -> bool {
        !self.pool.lock().jobs.is_empty()
    }

    /// Whether it has more to do than it can begin.
    pub fn is_full(&self) -> bool {
        let pool = self.pool.lock();
        pool.threads >= THREADS_MAX && pool.idle == 0 && !pool.jobs.is_empty()
    }

    /// Ends the threads when the jobs are done.
    pub fn close(&self) {
        self.pool.lock().closed = true;
        self.for_threads.notify_all();
    }

    fn run_job(&self, job: Job) {
        let result = self.perform(job.work);
        (self.done)(job.io, result);
    }

    /// Does a job on the calling thread.
    pub fn perform(&self, work: DiskWork) -> IoResult {
        let device = if matches!(work, DiskWork::Meta { .. }) { &self.meta } else { &self.data };
        let (what, result) = match work {
            DiskWork::Read { sector, bytes } => ("read", self.read(sector, bytes).map(Some)),
            DiskWork::Write { sector, payload, fua } => {
                ("write", self.write(sector, &payload, fua).map(|()| None))
            }
            DiskWork::Discard { sector, bytes, how } => {
                ("discard", self.clear(sector, bytes, how).map(|()| None))
            }
            DiskWork::Flush => ("flush", self.data.sync().map(|()| None)),
            DiskWork::Meta { pieces, flush } => {
                ("meta data write", self.write_meta(&pieces, flush).map(|()| None))
            }
        };
        match result {
            Ok(payload) => IoResult::Done(payload),
            Err(error) => {
                // Core says what follows from it; the system's reason is only known here. A dying disk
                // fails with every request.
                let second = monotonic_ms() / 1000;
                if self.error_logged.swap(second, Ordering::Relaxed) != second {
                    log::error!("{}: {what}: {error}", device.path().display());
                }
                IoResult::Failed
            }
        }
    }

    fn read(&self, sector: u64, bytes: u32) -> io::Result<Payload> {
        let mut buffer = Buffer::for_overwrite(bytes as usize);
        self.data.read_at(byte_of(sector), &mut buffer)?;
        Ok(Payload::whole(Arc::new(buffer)))
    }

    fn write(&self, sector: u64, bytes: &[u8], fua: bool) -> io::Result<()> {
        self.write_to(&self.data, byte_of(sector), bytes, fua)
    }

    fn write_to(&self, device: &BlockDevice, offset: u64, bytes: &[u8], durable: bool) -> io::Result<()> {
        let unit = device.logical_block_bytes();
        let whole_blocks = offset % unit as u64 == 0 && bytes.len() % unit == 0;
        let _rewrite = (!whole_blocks).then(|| self.rewrite.lock());
        if durable {
            device.write_durable_at(offset, bytes)
        } else {
            device.write_at(offset, bytes)
        }
    }

    fn clear(&self, sector: u64, bytes: u32, how: Clearing) -> io::Result<()> {
        let (offset, bytes) = (byte_of(sector), u64::from(bytes));
        let unit = self.data.logical_block_bytes() as u64;
        let whole_blocks = offset % unit == 0 && bytes % unit == 0;
        let result = match how {
            Clearing::Discard => self.data.discard(offset, bytes),
            Clearing::Free if whole_blocks => self.data.punch_hole(offset, bytes),
            Clearing::Free | Clearing::Zero => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
        };
        match result {
            Err(error) if is_unsupported(&error) => {}
            result => return result,
        }
        // Without discard, zeroes: so that both nodes have the same content.
        if whole_blocks {
            return self.data.zero_out(offset, bytes);
        }
        let _rewrite = self.rewrite.lock();
        self.data.zero_out(offset, bytes)
    }

    fn write_meta(&self, pieces: &[(u64, Buffer)], flush: bool) -> io::Result<()> {
        if let ([(offset, bytes)], true) = (pieces, flush) {
            return self.write_to(&self.meta, *offset, bytes, true);
        }
        for (offset, bytes) in pieces {
            self.write_to(&self.meta, *offset, bytes, false)?;
        }
        if flush {
            self.meta.sync()?;
        }
        Ok(())
    }
}

/// A thread of the pool, until [`Disk::close`].
fn run(disk: &Disk) {
    loop {
        let job = {
            let mut pool = disk.pool.lock();
            loop {
                if let Some(job) = pool.jobs.pop_front() {
                    break job;
                }
                if pool.closed {
                    pool.threads -= 1;
                    return;
                }
                pool.idle += 1;
                pool = disk.for_threads.wait(pool);
                pool.idle -= 1;
            }
        };
        disk.run_job(job);
    }
}

fn byte_of(sector: u64) -> u64 {
    sector * u64::from(SECTOR_BYTES)
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EOPNOTSUPP | Errno::ENOTTY | Errno::EINVAL | Errno::ENODEV | Errno::ENOSYS)
    )
}

/// Whether a device can discard: what its queue says in /sys.
pub fn can_discard(device: &BlockDevice) -> bool {
    if device.kind() == Kind::RegularFile {
        return false;
    }
    let Ok(metadata) = std::fs::metadata(device.path()) else {
        return false;
    };
    let number = metadata.rdev();
    let (major, minor) = (libc::major(number), libc::minor(number));
    let device = format!("/sys/dev/block/{major}:{minor}");
    // A partition has no queue of its own.
    ["queue", "../queue"].into_iter().any(|queue| {
        let path = Path::new(&device).join(queue).join("discard_max_bytes");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.trim().parse().unwrap_or(0u64) > 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::block_device::{Claim, OpenMode};
    use std::sync::mpsc;

    fn disk() -> (tempfile::NamedTempFile, Arc<Disk>, mpsc::Receiver<(Io, IoResult)>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let mode = OpenMode { read_only: false, claim: Claim::Exclusive };
        let device = Arc::new(BlockDevice::open(file.path(), mode).unwrap());
        let (sender, receiver) = mpsc::channel();
        let sender = Mutex::new(sender);
        let done: Done = Arc::new(move |io, result| sender.lock().send((io, result)).unwrap());
        let disk = Disk::new(device.clone(), device, "test disk", done);
        (file, Arc::new(disk), receiver)
    }

    #[test]
    fn jobs_are_done_and_reported_once_each() {
        let (_file, disk, receiver) = disk();
        const COUNT: u64 = 200;
        for number in 0..COUNT {
            let bytes = Buffer::from_bytes(&[number as u8; 4096]);
            disk.enqueue(Job {
                io: Io::Request(number),
                work: DiskWork::Write {
                    sector: number * 8,
                    payload: Payload::whole(Arc::new(bytes)),
                    fua: number % 16 == 0,
                },
            });
        }
        let mut done: Vec<Io> = receiver.iter().take(COUNT as usize).map(|d| d.0).collect();
        done.sort_by_key(|io| match io {
            Io::Request(number) => *number,
            other => panic!("{other:?}"),
        });
        assert!(done.into_iter().eq((0..COUNT).map(Io::Request)));
        for number in [0, 77, COUNT - 1] {
            let IoResult::Done(Some(data)) = disk.perform(DiskWork::Read { sector: number * 8, bytes: 4096 })
            else {
                panic!("read failed");
            };
            assert!(data.iter().all(|&b| b == number as u8));
        }
        disk.close();
    }

    #[test]
    fn a_disk_is_full_when_jobs_wait_for_a_thread() {
        let (_file, plain, _receiver) = disk();
        let gate = Arc::new(Mutex::new(()));
        let of_done = Arc::clone(&gate);
        let done: Done = Arc::new(move |_, _| drop(of_done.lock()));
        let disk = Arc::new(Disk::new(plain.data.clone(), plain.data.clone(), "slow disk", done));
        let enqueue = |number| disk.enqueue(Job { io: Io::Request(number), work: DiskWork::Flush });
        let closed = gate.lock();
        (0..THREADS_MAX as u64).for_each(enqueue);
        while disk.is_busy() {
            thread::yield_now();
        }
        assert!(!disk.is_full());
        enqueue(99);
        assert!(disk.is_full());
        drop(closed);
        while disk.is_full() {
            thread::yield_now();
        }
        disk.close();
    }

    #[test]
    fn a_discard_without_support_zeroes() {
        let (_file, disk, _receiver) = disk();
        let ones = Payload::whole(Arc::new(Buffer::from_bytes(&[1; 8192])));
        disk.perform(DiskWork::Write { sector: 0, payload: ones, fua: false });
        let discard = DiskWork::Discard { sector: 8, bytes: 4096, how: Clearing::Discard };
        assert!(matches!(disk.perform(discard), IoResult::Done(None)));
        let IoResult::Done(Some(data)) = disk.perform(DiskWork::Read { sector: 0, bytes: 8192 }) else {
            panic!("read failed");
        };
        assert!(data[..4096].iter().all(|&b| b == 1) && data[4096..].iter().all(|&b| b == 0));
    }

    /// What a thin resync found to be zeroes takes no space where the file system can do that, and no byte beside it
    /// changes.
    #[test]
    fn a_range_is_freed_and_reads_as_zeroes() {
        let (file, disk, _receiver) = disk();
        let blocks = || std::fs::metadata(file.path()).unwrap().blocks();
        for (sector, bytes) in [(128, 65536), (129, 65536 - 512)] {
            let ones = Payload::whole(Arc::new(Buffer::from_bytes(&[1; 1 << 18])));
            disk.perform(DiskWork::Write { sector: 0, payload: ones, fua: true });
            let before = blocks();
            let free = DiskWork::Discard { sector, bytes, how: Clearing::Free };
            assert!(matches!(disk.perform(free), IoResult::Done(None)));
            disk.perform(DiskWork::Flush);
            let IoResult::Done(Some(data)) = disk.perform(DiskWork::Read { sector: 0, bytes: 1 << 18 })
            else {
                panic!("read failed");
            };
            let cleared = sector as usize * 512..sector as usize * 512 + bytes as usize;
            for (at, byte) in data.iter().enumerate() {
                assert_eq!(*byte == 0, cleared.contains(&at), "byte {at}");
            }
            if sector == 128 && blocks() >= before {
                eprintln!(
                    "SKIPPED: freeing space: the file system of {} has no holes",
                    file.path().display()
                );
            }
        }
    }

    #[test]
    fn requests_beyond_the_end_fail() {
        let (_file, disk, _receiver) = disk();
        let read = DiskWork::Read { sector: 2048, bytes: 512 };
        assert!(matches!(disk.perform(read), IoResult::Failed));
    }
}
