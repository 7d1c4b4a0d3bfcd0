//! A device of sectors in memory for tests: keeps every request, and shows what a power failure may leave.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;

use super::image::BlockFile;

const SECTOR: usize = 512;

/// What is on a device: sectors that are not zero.
pub type Sectors = BTreeMap<u64, [u8; SECTOR]>;

/// How many random choices of sectors are shown at each moment.
const ANY_SECTORS: usize = 6;

/// The same tosses in every run.
struct Coin(u64);

impl Coin {
    fn toss(&mut self) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 40 & 1 == 1
    }
}

#[derive(Clone)]
enum Request {
    Write(u64, Vec<u8>),
    Sync,
}

/// A device with everything that was asked of it since [`CrashDevice::new`].
pub struct CrashDevice {
    bytes: u64,
    before: Sectors,
    now: RefCell<Sectors>,
    requests: RefCell<Vec<Request>>,
    /// Bytes that cannot be read: first, and first behind.
    pub unreadable: Vec<(u64, u64)>,
}

fn apply(sectors: &mut Sectors, offset: u64, bytes: &[u8]) {
    assert!(offset % SECTOR as u64 == 0 && bytes.len() % SECTOR == 0, "whole sectors");
    for (number, sector) in (offset / SECTOR as u64..).zip(bytes.chunks_exact(SECTOR)) {
        let sector: [u8; SECTOR] = sector.try_into().unwrap();
        match sector == [0; SECTOR] {
            true => sectors.remove(&number),
            false => sectors.insert(number, sector),
        };
    }
}

impl CrashDevice {
    /// A device of `bytes` with that content.
    pub fn new(bytes: u64, content: Sectors) -> CrashDevice {
        CrashDevice {
            bytes,
            now: RefCell::new(content.clone()),
            before: content,
            requests: RefCell::default(),
            unreadable: Vec::new(),
        }
    }

    /// What is on it.
    pub fn content(&self) -> Sectors {
        self.now.borrow().clone()
    }

    /// Calls `check` with the device as it may be after a power failure at any moment. What was not flushed may
    /// be there or not: no write of it, each of them alone, all but each, either half of each, and any of all sectors.
    pub fn after_every_crash(&self, mut check: impl FnMut(CrashDevice)) {
        let mut coin = Coin(0x9e37_79b9_7f4a_7c15);
        let mut durable = self.before.clone();
        let mut pending: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut show = |durable: &Sectors, writes: &[(u64, &[u8])]| {
            let mut content = durable.clone();
            writes.iter().for_each(|(offset, bytes)| apply(&mut content, *offset, bytes));
            check(CrashDevice::new(self.bytes, content));
        };
        show(&durable, &[]);
        for request in self.requests.borrow().iter() {
            match request {
                Request::Sync => {
                    pending.iter().for_each(|(offset, bytes)| apply(&mut durable, *offset, bytes));
                    pending.clear();
                }
                Request::Write(offset, bytes) => pending.push((*offset, bytes.clone())),
            }
            let all: Vec<(u64, &[u8])> = pending.iter().map(|(at, bytes)| (*at, bytes.as_slice())).collect();
            show(&durable, &all);
            for (i, (offset, bytes)) in all.iter().enumerate() {
                show(&durable, &all[i..=i]);
                show(&durable, &[&all[..i], &all[i + 1..]].concat());
                let half = (bytes.len() / 2).next_multiple_of(SECTOR);
                show(&durable, &[&all[..i], &[(*offset, &bytes[..half])]].concat());
                show(&durable, &[&all[..i], &[(*offset + half as u64, &bytes[half..])]].concat());
            }
            for _ in 0..ANY_SECTORS {
                let sectors = all
                    .iter()
                    .flat_map(|(offset, bytes)| (*offset..).step_by(SECTOR).zip(bytes.chunks_exact(SECTOR)));
                let some: Vec<(u64, &[u8])> = sectors.filter(|_| coin.toss()).collect();
                show(&durable, &some);
            }
        }
    }
}

impl BlockFile for CrashDevice {
    fn size_bytes(&self) -> u64 {
        self.bytes
    }

    fn logical_block_bytes(&self) -> usize {
        SECTOR
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if offset + buffer.len() as u64 > self.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = offset + buffer.len() as u64;
        if self.unreadable.iter().any(|(bad, after)| *bad < end && offset < *after) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let now = self.now.borrow();
        for (number, sector) in (offset / SECTOR as u64..).zip(buffer.chunks_mut(SECTOR)) {
            sector.copy_from_slice(now.get(&number).map_or(&[0; SECTOR][..], |s| &s[..]));
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, buffer: &[u8]) -> io::Result<()> {
        if offset + buffer.len() as u64 > self.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        apply(&mut self.now.borrow_mut(), offset, buffer);
        self.requests.borrow_mut().push(Request::Write(offset, buffer.to_vec()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.requests.borrow_mut().push(Request::Sync);
        Ok(())
    }
}
