//! A device in memory: what doors are tested and measured with.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use nix::errno::Errno;

use super::request::{Backend, Limits, Operation, Request};
use crate::sys::buffer::Buffer;
use crate::sys::sync::Mutex;

/// Bytes in memory that can be told to fail, and that count what reached them.
pub struct RamBackend {
    stripes: Vec<Mutex<Vec<u8>>>,
    size_bytes: AtomicU64,
    limits: Limits,
    /// What was submitted so far.
    pub counters: Counters,
    failing: Mutex<Option<Errno>>,
    /// 0: none.
    generation: AtomicU64,
}

/// How many requests of each kind were submitted.
#[derive(Debug, Default)]
pub struct Counters {
    /// Reads.
    pub reads: AtomicU64,
    /// Writes, with or without FUA.
    pub writes: AtomicU64,
    /// Writes with FUA.
    pub fua_writes: AtomicU64,
    /// Flushes.
    pub flushes: AtomicU64,
    /// Discards.
    pub discards: AtomicU64,
    /// Write-zeroes.
    pub write_zeroes: AtomicU64,
}

const STRIPE: usize = 1 << 20;

impl RamBackend {
    /// `size_bytes` zero bytes that can do all of `limits`.
    pub fn new(size_bytes: u64, limits: Limits) -> Arc<RamBackend> {
        let stripes = size_bytes.div_ceil(STRIPE as u64);
        Arc::new(RamBackend {
            stripes: (0..stripes).map(|_| Mutex::new(vec![0; STRIPE])).collect(),
            size_bytes: AtomicU64::new(size_bytes),
            limits,
            counters: Counters::default(),
            failing: Mutex::new(None),
            generation: AtomicU64::new(0),
        })
    }

    /// Gives the content a name ([`Backend::generation`]).
    pub fn set_generation(&self, generation: u64) {
        self.generation.store(generation, Ordering::Relaxed);
    }

    /// Answers every request with this error from now on, or none.
    pub fn fail(&self, errno: Option<Errno>) {
        *self.failing.lock() = errno;
    }

    /// Pretends to be smaller than the memory behind it.
    pub fn set_size_bytes(&self, size_bytes: u64) {
        assert!(size_bytes <= (self.stripes.len() * STRIPE) as u64);
        self.size_bytes.store(size_bytes, Ordering::Relaxed);
    }

    /// Reads behind the back of the door.
    pub fn peek(&self, offset: u64, into: &mut [u8]) {
        self.each(offset, into.len(), |memory, range| into[range].copy_from_slice(memory));
    }

    /// Writes behind the back of the door.
    pub fn poke(&self, offset: u64, bytes: &[u8]) {
        self.each(offset, bytes.len(), |memory, range| memory.copy_from_slice(&bytes[range]));
    }

    fn each(&self, offset: u64, len: usize, mut act: impl FnMut(&mut [u8], std::ops::Range<usize>)) {
        let mut done = 0;
        while done < len {
            let position = offset as usize + done;
            let inside = position % STRIPE;
            let piece = (STRIPE - inside).min(len - done);
            let mut stripe = self.stripes[position / STRIPE].lock();
            act(&mut stripe[inside..inside + piece], done..done + piece);
            done += piece;
        }
    }

    fn execute(&self, request: &Request) -> Result<Option<Arc<Buffer>>, Errno> {
        let end = request.offset.checked_add(u64::from(request.len)).ok_or(Errno::EINVAL)?;
        if end > (self.stripes.len() * STRIPE) as u64 {
            return Err(Errno::EINVAL);
        }
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        let failing = *self.failing.lock();
        match request.operation {
            Operation::Read => count(&self.counters.reads),
            Operation::Write => count(&self.counters.writes),
            Operation::Flush => count(&self.counters.flushes),
            Operation::Discard => count(&self.counters.discards),
            Operation::WriteZeroes { .. } => count(&self.counters.write_zeroes),
        };
        if let Some(errno) = failing {
            return Err(errno);
        }
        let len = request.len as usize;
        match request.operation {
            Operation::Read => {
                let mut buffer = Buffer::zeroed(len);
                self.peek(request.offset, &mut buffer);
                return Ok(Some(Arc::new(buffer)));
            }
            Operation::Write => {
                if request.fua {
                    count(&self.counters.fua_writes);
                }
                let payload = request.payload.as_ref().ok_or(Errno::EINVAL)?;
                self.poke(request.offset, payload.get(..len).ok_or(Errno::EINVAL)?);
            }
            Operation::Flush => {}
            Operation::Discard | Operation::WriteZeroes { .. } => {
                self.each(request.offset, len, |memory, _| memory.fill(0));
            }
        }
        Ok(None)
    }
}

impl Backend for RamBackend {
    fn size_bytes(&self) -> u64 {
        self.size_bytes.load(Ordering::Relaxed)
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn generation(&self) -> Option<u64> {
        Some(self.generation.load(Ordering::Relaxed)).filter(|generation| *generation != 0)
    }

    fn submit(&self, request: Request) {
        let answer = self.execute(&request);
        request.done.complete(answer);
    }
}
