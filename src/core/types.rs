//! What goes into the state machine and what comes out of it.
//!
//! Inputs are methods of [`Resource`](super::resource::Resource); everything that the engine has
//! to do is an [`Output`]. Outputs are in the order of decision: packets of one socket leave in
//! that order, all else may be carried out in any order and by any thread.

use super::state::{Conn, StateWord};
use crate::conf::settings::{DiskSettings, NetSettings, ResourceSettings};
use crate::meta;
use crate::sys::buffer::Buffer;
use crate::wire::features::Features;
use crate::wire::packet::Packet;
use crate::wire::ProtocolVersion;
use crate::wire::Socket;
use std::ops::Deref;
use std::sync::Arc;

/// Time in milliseconds on a clock that never goes back; its zero means nothing.
pub type Millis = u64;

/// A piece of a buffer: what is written, read, sent. Cloning copies no bytes.
#[derive(Debug, Clone)]
pub struct Payload {
    buffer: Arc<Buffer>,
    start: u32,
    len: u32,
}

impl Payload {
    /// The whole buffer.
    pub fn whole(buffer: Arc<Buffer>) -> Payload {
        let len = buffer.len() as u32;
        Payload { buffer, start: 0, len }
    }

    /// `len` bytes from `start` on, within this payload.
    ///
    /// # Panics
    /// If the range does not lie within the payload.
    pub fn slice(&self, start: usize, len: usize) -> Payload {
        assert!(start + len <= self.len as usize, "slice of a payload");
        Payload { buffer: self.buffer.clone(), start: self.start + start as u32, len: len as u32 }
    }

    /// The buffer and where the payload begins in it, for a caller that wants to pass the buffer on.
    pub fn into_buffer(self) -> (Arc<Buffer>, usize) {
        (self.buffer, self.start as usize)
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[self.start as usize..(self.start + self.len) as usize]
    }
}

/// Names a request of the application; chosen by the engine, given back in [`Output::Complete`].
pub type Token = u64;

/// Names an admin request; chosen by the engine, given back in [`Output::Reply`].
pub type AdminId = u64;

/// Names a run of a helper.
pub type HelperId = u64;

/// Index of a volume in its resource, stable as long as the volume exists. Not the volume number.
pub type VolumeIndex = usize;

/// Names a request to the backing device or to the meta data. Opaque for the engine, which hands
/// it back to [`Resource::io_done`](super::resource::Resource::io_done) exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Io {
    /// An application request.
    Request(u64),
    /// A request of the peer.
    Peer(u32),
    /// The flush of an application (a token).
    Flush(Token),
    /// The flush that ends an epoch of the peer.
    EpochFlush,
    /// A write of meta data.
    Meta(u64),
}

/// What an I/O operation came to.
#[derive(Debug)]
pub enum IoResult {
    /// Done; a read brings its bytes.
    Done(Option<Payload>),
    /// Failed.
    Failed,
}

/// An application request failed. The only error that the block layer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoError;

pub use super::log_lines::Severity as Level;

/// What becomes of a range that is not written, but cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clearing {
    /// Nobody needs its content any more. Where the device cannot do that it reads as zeroes.
    Discard,
    /// It reads as zeroes.
    Zero,
    /// It reads as zeroes, and takes no space if the device can do that.
    Free,
}

/// One thing that the engine has to do.
#[allow(missing_docs)] // each variant says what its fields are
#[derive(Debug)]
pub enum Output {
    /// Put a packet into the queue of a socket. After the last byte went to TCP, and if `notify`
    /// is set, call `Resource::sent`.
    Send {
        /// Which socket.
        socket: Socket,
        /// Volume number for the header.
        volume: u16,
        /// Header and fixed part.
        packet: Packet,
        /// Bytes behind the fixed part. An integrity digest is added by the engine.
        payload: Option<Payload>,
        /// What to report when it was sent.
        notify: Option<u64>,
    },
    /// Put a marker into the data socket's queue: when its turn comes, the engine sends what
    /// `Resource::next_bitmap_packet` returns until it returns `None`, with no packet between.
    SendBitmap {
        /// Whose bitmap.
        volume: VolumeIndex,
    },
    /// Read from the backing device into a fresh buffer.
    DiskRead { volume: VolumeIndex, io: Io, sector: u64, bytes: u32 },
    /// Write to the backing device; `fua`: durable before it counts as done.
    DiskWrite { volume: VolumeIndex, io: Io, sector: u64, payload: Payload, fua: bool },
    /// Clear a range of the backing device.
    DiskDiscard { volume: VolumeIndex, io: Io, sector: u64, bytes: u32, how: Clearing },
    /// Flush the backing device's cache.
    DiskFlush { volume: VolumeIndex, io: Io },
    /// Write meta data: all pieces (byte offset on the meta data device, bytes), then, if `flush`,
    /// make them durable. Done only when all of that is.
    MetaWrite { volume: VolumeIndex, io: Io, pieces: Vec<(u64, Buffer)>, flush: bool },
    /// Complete an application request. Reads bring their bytes.
    Complete { token: Token, result: Result<Option<Payload>, IoError> },
    /// Start to establish a connection (connect and listen, for ever, until `CloseLink`). The
    /// engine answers with `Resource::link_up`, or `Resource::link_refused`.
    Connect,
    /// Stop connecting, or shut both sockets down and end their readers. The engine answers with
    /// `Resource::link_closed` when no packet of this link can come any more.
    CloseLink {
        /// Let the meta socket's queue run empty first (a reply to a graceful disconnect).
        drain_meta: bool,
    },
    /// Close the backing device of a volume; all its I/O is done.
    ReleaseDisk { volume: VolumeIndex },
    /// Ask the backing device and its meta data device how large they are now. The engine answers
    /// with `Resource::backing_size`.
    AskBackingSize { volume: VolumeIndex },
    /// The size of the device changed; the door has to know.
    Resize { volume: VolumeIndex, sectors: u64 },
    /// Run a helper: `drbdadm NAME minor-N` (or the resource's name). Answer: `Resource::helper_done`.
    Helper { id: HelperId, name: &'static str, volume: Option<VolumeIndex> },
    /// The answer to an admin request: a number of the tables in `codes`.
    Reply { id: AdminId, code: i32, info: Vec<String> },
    /// A log line, as the kernel's module writes it. Without volume: about the resource.
    Log { level: Level, volume: Option<VolumeIndex>, text: String },
    /// A volume's state changed.
    State { volume: VolumeIndex, old: StateWord, new: StateWord },
    /// The state of the connection of a resource without volumes changed to this one.
    BareConnection { conn: Conn },
}

/// A new link: the socket pair is there, features are agreed, the peer is authenticated.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// The agreed protocol version.
    pub version: ProtocolVersion,
    /// The agreed features.
    pub features: Features,
    /// Whether this node accepted the meta connection (spec/wire.md 1.7).
    pub arbiter: bool,
}

/// Why a link is to be given up. spec/wire.md 9.5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFailure {
    /// The state that follows: Timeout .. ProtocolError, or Disconnecting.
    pub conn: Conn,
    /// What to log, with its level.
    pub log: Option<(Level, String)>,
}

/// How large a backing device is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackingSize {
    /// The data device, bytes.
    pub data_bytes: u64,
    /// The meta data device, bytes; the same device if the meta data are internal.
    pub meta_bytes: u64,
}

/// A disk that the engine opened and whose meta data it read, ready to be attached.
#[derive(Debug)]
pub struct AttachedDisk {
    /// Its settings.
    pub settings: DiskSettings,
    /// The super block.
    pub super_block: meta::SuperBlock,
    /// Where everything lies.
    pub layout: meta::Layout,
    /// Largest size that it allows, sectors (spec/state.md 12.1, m_size).
    pub maximum: u64,
    /// Logical block of the meta data device, bytes.
    pub logical_block_bytes: u32,
    /// Extents that were active when the log was last written; `None`: the log is damaged, it may
    /// have been any.
    pub hot_extents: Option<Vec<u32>>,
    /// Log lines about reading the activity log.
    pub log_lines: Vec<(Level, String)>,
    /// The bitmap as it is on disk; not read (empty) if the super block asks for a full sync.
    pub bitmap: Vec<u64>,
    /// Whether the backing device can discard.
    pub can_discard: bool,
}

/// What an administrator can ask of a resource. spec/state.md 7.
#[allow(missing_docs)] // the volume, and what the variant's name says
#[derive(Debug)]
pub enum Command {
    /// Begin to connect with these settings.
    Connect(Box<NetSettings>),
    /// End the connection.
    Disconnect { force: bool },
    /// Take a disk.
    Attach { volume: VolumeIndex, disk: Box<AttachedDisk> },
    /// Give the disk up.
    Detach { volume: VolumeIndex, force: bool },
    /// Become Primary.
    Primary { volume: VolumeIndex, force: bool },
    /// Become Secondary. `open`: the device is held open by someone.
    Secondary { volume: VolumeIndex, open: bool },
    /// Mark the own disk as outdated.
    Outdate { volume: VolumeIndex },
    /// Become the target of a full resync.
    Invalidate { volume: VolumeIndex },
    /// Become the source of a full resync.
    InvalidateRemote { volume: VolumeIndex },
    /// Pause the resync.
    PauseSync { volume: VolumeIndex },
    /// Take the pause back.
    ResumeSync { volume: VolumeIndex },
    /// Freeze application I/O.
    SuspendIo { volume: VolumeIndex },
    /// Let it go on.
    ResumeIo { volume: VolumeIndex },
    /// Compare the disks.
    Verify { volume: VolumeIndex, start: Option<u64>, stop: Option<u64> },
    /// Look at the disks' sizes again; `size` in sectors as asked for by the user, 0: none.
    Resize { volume: VolumeIndex, size: u64, assume_peer_has_space: bool, assume_clean: bool },
    /// Begin a new data generation.
    NewCurrentUuid { volume: VolumeIndex, clear_bitmap: bool },
    /// Change the settings of a disk, but for its size.
    DiskSettings { volume: VolumeIndex, settings: Box<DiskSettings> },
    /// Change the settings of the connection.
    NetSettings(Box<NetSettings>),
    /// Change the settings of the resource.
    ResourceSettings(Box<ResourceSettings>),
}
