//! A node of one volume around a `core::Resource`: a disk in memory that is done at once, no sockets, no
//! daemon. What the core wants to send is collected; the test decides what comes back.
//!
//! Whatever happens, nothing may be read or written outside the device or the meta data.

use drbdbox::conf::settings::{DiskSettings, NetSettings, ResourceSettings};
use drbdbox::conf::Dialect;
use drbdbox::core::types::*;
use drbdbox::core::Resource;
use drbdbox::meta::{bitmap, Layout, LogGeometry, MetaIndex, SuperBlock};
use drbdbox::sys::buffer::Buffer;
use drbdbox::wire::{Packet, Socket};
use std::collections::HashMap;
use std::sync::Arc;

/// The volume.
pub const V: VolumeIndex = 0;
/// Bytes of the meta data device.
const META_BYTES: u64 = 256 << 10;

/// A packet that the core sent.
#[derive(Debug, Clone)]
pub struct Sent {
    pub socket: Socket,
    pub packet: Packet,
    pub payload: Option<Payload>,
}

pub struct Node {
    pub core: Resource,
    pub now: Millis,
    /// Content of the disk.
    pub data: Vec<u8>,
    /// Packets of the current link that nobody took yet.
    pub sent: Vec<Sent>,
    pub wants_link: bool,
    pub replies: HashMap<AdminId, i32>,
    pub completed: HashMap<Token, Result<Option<Vec<u8>>, IoError>>,
    pub log: Vec<(Level, String)>,
    /// Writes of the application stay at the disk while this is set.
    pub holds_writes: bool,
    /// Writes of the peer stay at the disk while this is set.
    pub holds_peer: bool,
    held: Vec<Output>,
    /// A write that begins at this sector fails.
    pub fails_at: Option<u64>,
    /// What a look at the backing device finds, if it is not [`Node::data`].
    pub backing_bytes: Option<u64>,
    next: u64,
}

/// Meta data as a node may find them on its disk.
pub struct Meta {
    pub super_block: SuperBlock,
    pub bitmap: Vec<u64>,
    /// Sectors that the device allows.
    pub maximum: u64,
}

impl Meta {
    /// As `create-md` leaves them.
    pub fn just_created(sectors: u64) -> Meta {
        Meta { super_block: SuperBlock::just_created(&layout()), bitmap: Vec::new(), maximum: sectors }
    }
}

pub fn layout() -> Layout {
    Layout::new(MetaIndex::FlexExternal, META_BYTES, LogGeometry::CLASSIC).expect("layout")
}

impl Node {
    /// A node with an unconfigured volume, and a disk of zeros that is not attached.
    pub fn new(settings: DiskSettings, sectors: u64) -> Node {
        let mut state = 1_u64;
        let random = Box::new(move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state
        });
        let mut core = Resource::new("r0", ResourceSettings::defaults(Dialect::V84), random);
        core.add_volume(0, 0, settings);
        Node {
            core,
            now: 0,
            data: vec![0; sectors as usize * 512],
            sent: Vec::new(),
            wants_link: false,
            replies: HashMap::new(),
            completed: HashMap::new(),
            log: Vec::new(),
            holds_writes: false,
            holds_peer: false,
            held: Vec::new(),
            fails_at: None,
            backing_bytes: None,
            next: 1,
        }
    }

    /// Attaches the disk; the answer's code.
    pub fn attach(&mut self, meta: Meta) -> Option<i32> {
        self.fails_at = None;
        let settings = self.core.volume(V).settings().clone();
        let words = bitmap::words(meta.super_block.effective_size_sectors) as usize;
        let mut words_on_disk = meta.bitmap;
        words_on_disk.resize(words, 0);
        let disk = AttachedDisk {
            settings,
            super_block: meta.super_block,
            layout: layout(),
            maximum: meta.maximum,
            logical_block_bytes: 512,
            hot_extents: Some(Vec::new()),
            log_lines: Vec::new(),
            bitmap: words_on_disk,
            can_discard: true,
        };
        self.command(Command::Attach { volume: V, disk: Box::new(disk) })
    }

    /// Asks for a connection.
    pub fn connect(&mut self, net: NetSettings) -> Option<i32> {
        self.command(Command::Connect(Box::new(net)))
    }

    /// Gives a command and carries out what follows; `None`: it is not answered yet.
    pub fn command(&mut self, command: Command) -> Option<i32> {
        let id = self.token();
        self.core.command(self.now, id, command);
        self.settle();
        self.replies.remove(&id)
    }

    /// A number that was never used before.
    pub fn token(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn link_up(&mut self, link: Link) {
        self.sent.clear();
        self.core.link_up(self.now, link);
        self.settle();
    }

    pub fn is_up(&self) -> bool {
        self.core.link().is_some()
    }

    /// A packet of the peer.
    pub fn deliver(&mut self, socket: Socket, volume: u16, packet: Packet, payload: Option<Payload>) {
        self.core.packet(self.now, socket, volume, packet, payload);
        self.settle();
    }

    /// Time goes on; timers that are due by then fire in their order.
    pub fn advance_to(&mut self, now: Millis) {
        // A timer that fires again and again without time going on is an error, found by the limit.
        let mut at_once = 0;
        while at_once < 1000 {
            match self.core.next_timeout() {
                Some(due) if due <= now => {
                    at_once = if due > self.now { 0 } else { at_once + 1 };
                    self.now = self.now.max(due);
                    self.core.timeout(self.now);
                    self.settle();
                }
                _ => {
                    self.now = self.now.max(now);
                    return;
                }
            }
        }
        panic!("timers that never rest: {:?} at {}", self.core.next_timeout(), self.now);
    }

    /// Carries out what the core wants, until it wants nothing.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let mut outputs = Vec::new();
            self.core.take_outputs(&mut outputs);
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                self.carry_out(output);
            }
        }
        panic!("it goes round in circles");
    }

    /// Bytes of the writes that are held.
    pub fn held_bytes(&self) -> usize {
        let bytes = |output: &Output| match output {
            Output::DiskWrite { payload, .. } => payload.len(),
            _ => 0,
        };
        self.held.iter().map(bytes).sum()
    }

    /// Writes that were held come back.
    pub fn release_writes(&mut self) {
        self.holds_writes = false;
        self.holds_peer = false;
        for output in std::mem::take(&mut self.held) {
            self.carry_out(output);
        }
        self.settle();
    }

    /// Where a request lies in the data. It must.
    fn range(&self, sector: u64, bytes: usize) -> std::ops::Range<usize> {
        let start = sector.checked_mul(512).and_then(|start| usize::try_from(start).ok());
        let end = start.and_then(|start| start.checked_add(bytes));
        match (start, end) {
            (Some(start), Some(end)) if end <= self.data.len() && bytes % 512 == 0 => start..end,
            _ => panic!("the disk has {} bytes: sector {sector}, {bytes} bytes", self.data.len()),
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::DiskWrite { io: Io::Request(_), .. } if self.holds_writes => self.held.push(output),
            Output::DiskWrite { io: Io::Peer(_), .. } if self.holds_peer => self.held.push(output),
            Output::Send { socket, packet, payload, notify, .. } => {
                self.sent.push(Sent { socket, packet, payload });
                if let Some(notify) = notify {
                    self.core.sent(self.now, notify);
                }
            }
            Output::SendBitmap { volume } => {
                while let Some((packet, payload)) = self.core.next_bitmap_packet(self.now, volume) {
                    self.sent.push(Sent { socket: Socket::Data, packet, payload: Some(payload) });
                }
            }
            Output::DiskRead { volume, io, sector, bytes } => {
                let range = self.range(sector, bytes as usize);
                let payload = Payload::whole(Arc::new(Buffer::from_bytes(&self.data[range])));
                self.core.io_done(self.now, volume, io, IoResult::Done(Some(payload)));
            }
            Output::DiskWrite { volume, io, sector, .. } if self.fails_at == Some(sector) => {
                self.core.io_done(self.now, volume, io, IoResult::Failed);
            }
            Output::DiskWrite { volume, io, sector, payload, .. } => {
                let range = self.range(sector, payload.len());
                self.data[range].copy_from_slice(&payload);
                self.core.io_done(self.now, volume, io, IoResult::Done(None));
            }
            Output::DiskDiscard { volume, io, sector, bytes, .. } => {
                let range = self.range(sector, bytes as usize);
                self.data[range].fill(0);
                self.core.io_done(self.now, volume, io, IoResult::Done(None));
            }
            Output::DiskFlush { volume, io } => self.core.io_done(self.now, volume, io, IoResult::Done(None)),
            Output::MetaWrite { volume, io, pieces, .. } => {
                for (offset, bytes) in &pieces {
                    assert!(offset + bytes.len() as u64 <= META_BYTES, "meta data at {offset}");
                }
                self.core.io_done(self.now, volume, io, IoResult::Done(None));
            }
            Output::AskBackingSize { volume } => {
                let data_bytes = self.backing_bytes.unwrap_or(self.data.len() as u64);
                let size = BackingSize { data_bytes, meta_bytes: META_BYTES };
                self.core.backing_size(self.now, volume, Ok(size));
            }
            Output::Complete { token, result } => {
                let result = result.map(|payload| payload.map(|payload| payload.to_vec()));
                assert!(self.completed.insert(token, result).is_none(), "request {token} completed twice");
            }
            Output::Connect => self.wants_link = true,
            Output::CloseLink { .. } => {
                self.wants_link = false;
                self.core.link_closed(self.now);
            }
            Output::Helper { id, .. } => self.core.helper_done(self.now, id, 0),
            Output::Reply { id, code, .. } => {
                self.replies.insert(id, code);
            }
            Output::Log { level, text, .. } => self.log.push((level, text)),
            Output::ReleaseDisk { .. }
            | Output::Resize { .. }
            | Output::State { .. }
            | Output::BareConnection { .. } => {}
        }
    }
}
