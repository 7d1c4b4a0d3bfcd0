//! A node: its daemon (core and what the engine holds for it), its disk, its application.

use crate::application::Application;
use crate::disk::{Disk, Work, SECTOR};
use crate::script::{Parameters, Random};
use crate::world::Helper;
use drbdbox::core::state::{Conn, Disk as DiskState, Role, StateWord};
use drbdbox::core::types::*;
use drbdbox::core::Resource;
use drbdbox::meta::activity_log::replay;
use drbdbox::meta::{bitmap, Layout, LogGeometry, MetaFlags, MetaIndex, SuperBlock};
use drbdbox::wire::Packet;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

pub const V: VolumeIndex = 0;
pub const META_BYTES: u64 = 256 << 10;

/// What waits for its turn at a socket.
pub enum Outgoing {
    Packet { volume: u16, packet: Packet, payload: Option<Payload>, notify: Option<u64> },
    Bitmap { volume: VolumeIndex },
}

/// What an admin's request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Attach,
    Connect,
    Disconnect,
    Primary { force: bool },
    Secondary,
    Invalidate,
    Other,
}

impl Purpose {
    pub fn is_promotion(&self) -> bool {
        matches!(self, Purpose::Primary { .. })
    }
}

/// What ends with the daemon.
pub struct Daemon {
    pub core: Resource,
    pub outbox: [VecDeque<Outgoing>; 2],
    pub notifies: VecDeque<u64>,
    pub helpers: Vec<Helper>,
    /// The engine looks for the peer, or serves a link.
    pub connecting: bool,
    /// CloseLink was asked for and not answered yet.
    pub closing: bool,
    pub disk_open: bool,
    pub asked: HashMap<AdminId, Purpose>,
    /// `up` goes on with this.
    pub connect_next: bool,
    /// The peer was Primary without a disk when it was connected last.
    pub served_primary: bool,
}

pub struct Node {
    pub index: usize,
    pub daemon: Option<Daemon>,
    pub powered: bool,
    pub disk: Disk,
    pub application: Application,
    /// Sizes that the device of its meta data has had, bytes, the present one first. Internal meta data may still be at the end
    /// of a former one.
    places: Vec<u64>,
    kind: MetaIndex,
    next_admin: AdminId,
    hot: Option<(u64, Option<Vec<u32>>)>,
    durable_block: RefCell<Option<(u64, SuperBlock)>>,
}

/// Connected, with two good disks.
pub fn is_good(state: StateWord) -> bool {
    state.conn == Conn::Connected && state.disk == DiskState::UpToDate && state.pdsk == DiskState::UpToDate
}

/// Who is made Primary by force now goes on with its own data, whatever the other disk has: the nodes are apart, or the other one
/// has not attached its disk.
pub fn decides_alone(state: StateWord) -> bool {
    state.conn < Conn::Connected || state.pdsk <= DiskState::Failed
}

/// Where meta data lie on a device of `bytes`.
pub fn layout(index: MetaIndex, bytes: u64) -> Layout {
    Layout::new(index, bytes, LogGeometry::CLASSIC).expect("layout")
}

impl Node {
    pub fn new(index: usize, parameters: &Parameters) -> Node {
        let sectors = parameters.disk_sectors[index];
        let meta_bytes = if parameters.internal { sectors * 512 } else { META_BYTES };
        let mut disk = Disk::new(sectors, meta_bytes);
        let meta_index = if parameters.internal { MetaIndex::Internal } else { MetaIndex::FlexExternal };
        let layout = layout(meta_index, meta_bytes);
        let mut block = SuperBlock::just_created(&layout);
        if parameters.begins_in_sync {
            block.uuids = [0x1234_5678_9abc_def0, 0, 0, 0];
            block.effective_size_sectors = parameters.sectors;
            block.flags.set(MetaFlags::CONSISTENT, true);
            block.flags.set(MetaFlags::WAS_UP_TO_DATE, true);
        }
        disk.write_meta(layout.md_offset, &block.encode());
        let point = disk.meta.flush_begins();
        disk.meta.flush_ends(point);
        Node {
            index,
            daemon: None,
            powered: true,
            disk,
            application: Application::default(),
            places: vec![meta_bytes],
            kind: meta_index,
            next_admin: 0,
            hot: None,
            durable_block: RefCell::default(),
        }
    }

    /// The state of the volume, while the daemon runs.
    pub fn state(&self) -> Option<StateWord> {
        self.daemon.as_ref().map(|daemon| daemon.core.volume(V).state())
    }

    pub fn is_primary(&self) -> bool {
        self.state().is_some_and(|state| state.role == Role::Primary)
    }

    /// Whether an order of this kind has not been answered yet.
    pub fn is_asked(&self, kind: impl Fn(&Purpose) -> bool) -> bool {
        self.daemon.as_ref().is_some_and(|daemon| daemon.asked.values().any(kind))
    }

    /// The daemon starts, with a volume and nothing else.
    pub fn start(&mut self, parameters: &Parameters, random: &mut Random) {
        let mut stream = random.fork();
        let source = Box::new(move || stream.next());
        let mut core = Resource::new("r0", parameters.resource.clone(), source);
        core.add_volume(0, 0, parameters.disk[self.index].clone());
        self.daemon = Some(Daemon {
            core,
            outbox: Default::default(),
            notifies: VecDeque::new(),
            helpers: Vec::new(),
            connecting: false,
            closing: false,
            disk_open: false,
            asked: HashMap::new(),
            connect_next: false,
            served_primary: false,
        });
        self.powered = true;
    }

    /// A new number for an admin's request.
    pub fn ask(&mut self, purpose: Purpose) -> AdminId {
        self.next_admin += 1;
        if let Some(daemon) = &mut self.daemon {
            daemon.asked.insert(self.next_admin, purpose);
        }
        self.next_admin
    }

    /// Meta data as `read` shows them (offset, length): where they are, and their super block.
    fn find_meta(&self, read: impl Fn(u64, u64) -> Vec<u8>) -> (Layout, SuperBlock) {
        let candidates = self.places.iter().map(|bytes| layout(self.kind, *bytes));
        let mut found = candidates.filter_map(|layout| {
            let block = SuperBlock::decode(&read(layout.md_offset, 4096)).ok()?;
            block.validate(&layout).ok().map(|()| (layout, block))
        });
        found.next().unwrap_or_else(|| panic!("node {} has no super block", self.index))
    }

    /// Where its meta data are.
    pub fn layout(&self) -> Layout {
        match self.places[..] {
            [bytes] => layout(self.kind, bytes),
            _ => self.find_meta(|offset, bytes| self.disk.read_meta(offset, bytes)).0,
        }
    }

    /// How large the device of its meta data is, bytes.
    pub fn meta_bytes(&self) -> u64 {
        self.places[0]
    }

    /// Sectors that a device may have on its disk.
    pub fn maximum(&self) -> u64 {
        layout(self.kind, self.places[0]).usable_sectors(self.disk.data.sectors())
    }

    /// What the device was at least when it was in use last.
    pub fn agreed(&self) -> u64 {
        self.super_block().effective_size_sectors.max(self.durable_super_block().effective_size_sectors)
    }

    /// Its disk gets another size, sectors. What is behind the data that it may hold now is junk.
    pub fn set_disk_sectors(&mut self, sectors: u64, random: &mut Random) {
        let before = self.maximum();
        self.disk.data.resize(sectors, 0);
        if self.kind == MetaIndex::Internal {
            self.disk.meta.resize(sectors, Arc::new([0; SECTOR]));
            self.places.insert(0, sectors * 512);
        }
        for _ in 0..20 {
            let added = self.maximum().saturating_sub(before);
            let first = before + random.below(added.max(1));
            for sector in first..(first + 1 + random.below(20)).min(before + added) {
                self.disk.data.write(sector, (self.index as u64 + 3) << 56 | sector);
                self.disk.data.make_durable(sector);
            }
        }
    }

    /// `drbdmeta check-resize`: internal meta data go to the end of their device.
    fn move_meta_data(&mut self) {
        let (old, new) = (self.layout(), layout(self.kind, self.places[0]));
        if old == new {
            return;
        }
        let mut block = self.super_block();
        let words = self.stored_words(block.effective_size_sectors);
        let log = self.disk.read_meta(old.al_offset(), old.log.bytes());
        let mut bitmap = vec![0; (words.len() * 8).next_multiple_of(SECTOR)];
        bitmap::encode_words(&words, &mut bitmap);
        block.place(&new);
        self.disk.write_meta(new.bm_offset(), &bitmap);
        self.disk.write_meta(new.al_offset(), &log);
        self.disk.write_meta(new.md_offset, &block.encode());
        let point = self.disk.meta.flush_begins();
        self.disk.meta.flush_ends(point);
    }

    pub fn super_block(&self) -> SuperBlock {
        self.find_meta(|offset, bytes| self.disk.read_meta(offset, bytes)).1
    }

    /// The super block that would be there after a power cut.
    pub fn durable_super_block(&self) -> SuperBlock {
        let changes = self.disk.meta.changes();
        let mut cached = self.durable_block.borrow_mut();
        match &*cached {
            Some((at, block)) if *at == changes => block.clone(),
            _ => {
                let block = self.read_durable_super_block();
                *cached = Some((changes, block.clone()));
                block
            }
        }
    }

    fn read_durable_super_block(&self) -> SuperBlock {
        let durable = |offset: u64, len: u64| {
            let sectors = offset / 512..(offset + len) / 512;
            sectors.flat_map(|sector| self.disk.meta.durable(sector)[..].iter().copied()).collect()
        };
        self.find_meta(durable).1
    }

    /// Active extents by the log on disk; `None`: it cannot be read.
    pub fn hot_extents(&mut self) -> Option<&Vec<u32>> {
        if self.hot.as_ref().is_none_or(|(changes, _)| *changes != self.disk.meta.changes()) {
            let layout = self.layout();
            let area = self.disk.read_meta(layout.al_offset(), layout.log.bytes());
            let hot = replay(&area, &self.super_block(), layout.log).ok().map(|replay| replay.hot);
            self.hot = Some((self.disk.meta.changes(), hot));
        }
        self.hot.as_ref().and_then(|(_, hot)| hot.as_ref())
    }

    /// Words of the bitmap on disk, without what a device that was larger, or was to grow when the power went, left behind the end.
    pub fn bitmap_words(&self, sectors: u64) -> Vec<u64> {
        let mut words = self.stored_words(sectors);
        let surplus = words.len() as u64 * 64 - bitmap::bits(sectors);
        if let Some(last) = words.last_mut() {
            *last &= u64::MAX >> surplus;
        }
        words
    }

    fn stored_words(&self, sectors: u64) -> Vec<u64> {
        let count = bitmap::words(sectors);
        let bytes = self.disk.read_meta(self.layout().bm_offset(), count * 8);
        let mut words = vec![0; count as usize];
        bitmap::decode_words(&bytes, &mut words);
        words
    }

    /// The disk as an attach finds it.
    pub fn open_disk(&mut self, parameters: &Parameters) -> AttachedDisk {
        self.move_meta_data();
        let super_block = self.super_block();
        let hot_extents = self.hot_extents().cloned();
        let full_sync = super_block.flags.contains(MetaFlags::FULL_SYNC);
        let bitmap = match full_sync {
            true => Vec::new(),
            false => self.stored_words(super_block.effective_size_sectors),
        };
        AttachedDisk {
            settings: parameters.disk[self.index].clone(),
            super_block,
            layout: self.layout(),
            maximum: self.maximum(),
            logical_block_bytes: 512,
            hot_extents,
            log_lines: Vec::new(),
            bitmap,
            can_discard: true,
        }
    }
}

/// Disk work out of an output; the rest comes back.
#[allow(clippy::result_large_err)] // the other half of the outputs, not an error
pub fn disk_work(output: Output) -> Result<(Io, Work), Output> {
    Ok(match output {
        Output::DiskRead { io, sector, bytes, .. } => (io, Work::Read { sector, bytes }),
        Output::DiskWrite { io, sector, payload, fua, .. } => (io, Work::Write { sector, payload, fua }),
        Output::DiskDiscard { io, sector, bytes, .. } => (io, Work::Discard { sector, bytes }),
        Output::DiskFlush { io, .. } => (io, Work::Flush),
        Output::MetaWrite { io, pieces, flush, .. } => (io, Work::Meta { pieces, flush }),
        other => return Err(other),
    })
}
