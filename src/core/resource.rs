//! One resource on one node: the state machine's trunk.
//!
//! Everything that has to happen in the order of decision goes through one queue, the `fifo`:
//! packets of the data socket and the actions after a state change. An item that has to wait for
//! the disk or a helper holds back all items behind it (spec/wire.md 7.1, spec/state.md 3.1).
//! The other files of this folder add the branches: each is an `impl Resource` of its own.

use super::admin::Task;
use super::conflicts::Superseded;
use super::connection::{Connection, Phase};
use super::epochs::{PeerEpochs, SendEpochs};
use super::peer_write::PeerRequest;
use super::receive::Hold;
use super::request::{Slab, TransferLog, Whole};
use super::state::{Conn, StateWord};
use super::steps::{FifoWait, HelperThen, Step, Work};
use super::types::*;
use super::volume::{LocalDisk, Volume};
use crate::conf::settings::{DiskSettings, NetSettings, ResourceSettings};
use crate::wire::bitmap_code;
use crate::wire::packet::Packet;
use crate::wire::Socket;
use std::collections::{HashMap, VecDeque};

/// Source of random numbers: UUIDs.
pub type Random = Box<dyn FnMut() -> u64 + Send>;

/// A resource: its connection and its volumes.
pub struct Resource {
    pub(super) name: String,
    pub(super) settings: ResourceSettings,
    pub(super) net: Option<NetSettings>,
    pub(super) volumes: Vec<Volume>,
    pub(super) now: Millis,
    pub(super) random: Random,
    pub(super) out: Vec<Output>,

    pub(super) connection: Connection,
    pub(super) log: TransferLog,
    pub(super) wholes: Slab<Whole>,
    pub(super) epochs: SendEpochs,
    pub(super) peer_requests: Slab<PeerRequest>,
    /// Bytes of the requests of the peer.
    pub(super) peer_bytes: u64,
    pub(super) peer_epochs: PeerEpochs,
    pub(super) hold: Option<Hold>,
    /// Writes of the peer that are not answered yet, for own ones that replace them.
    pub(super) superseded: Vec<Superseded>,
    /// Flushes for an epoch of the peer that have not come back.
    pub(super) epoch_flushes: u32,
    pub(super) bitmap_send: Option<(VolumeIndex, bitmap_code::Sender)>,
    pub(super) bitmap_receive: Option<(VolumeIndex, bitmap_code::Receiver)>,

    pub(super) fifo: VecDeque<Work>,
    pub(super) steps: VecDeque<Step>,
    pub(super) fifo_wait: Option<FifoWait>,
    /// What follows a write of meta data, by its number.
    pub(super) meta_ops: HashMap<u64, super::meta_io::MetaOp>,
    pub(super) helpers: HashMap<HelperId, HelperThen>,
    pub(super) next_id: u64,

    /// Commands that wait for their turn; of a `resize` with the size of the device when it came, sectors.
    pub(super) admin: VecDeque<(AdminId, Command, u64)>,
    pub(super) task: Option<Task>,
    /// Counts committed state changes: who waits for one compares.
    pub(super) changes: u64,
    /// The change that is being committed is one that the peer asked for.
    pub(super) commits_for_peer: bool,
    /// Something ended that a waiting request may have waited for.
    pub(super) wake: bool,
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resource")
            .field("name", &self.name)
            .field("volumes", &self.volumes)
            .finish_non_exhaustive()
    }
}

impl Resource {
    /// A resource without volumes, StandAlone.
    pub fn new(name: &str, settings: ResourceSettings, random: Random) -> Resource {
        Resource {
            name: name.to_owned(),
            settings,
            net: None,
            volumes: Vec::new(),
            now: 0,
            random,
            out: Vec::new(),
            connection: Connection::default(),
            log: TransferLog::default(),
            wholes: Slab::default(),
            epochs: SendEpochs::default(),
            peer_requests: Slab::default(),
            peer_bytes: 0,
            peer_epochs: PeerEpochs::default(),
            epoch_flushes: 0,
            hold: None,
            superseded: Vec::new(),
            bitmap_send: None,
            bitmap_receive: None,
            fifo: VecDeque::new(),
            steps: VecDeque::new(),
            fifo_wait: None,
            meta_ops: HashMap::new(),
            helpers: HashMap::new(),
            next_id: 1,
            admin: VecDeque::new(),
            task: None,
            changes: 0,
            commits_for_peer: false,
            wake: false,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its settings.
    pub fn settings(&self) -> &ResourceSettings {
        &self.settings
    }

    /// Settings of the connection; `None` while StandAlone without configuration.
    pub fn net_settings(&self) -> Option<&NetSettings> {
        self.net.as_ref()
    }

    /// The link to the peer while there is one.
    pub fn link(&self) -> Option<&Link> {
        self.connection.link.as_ref()
    }

    /// State of the connection as a whole: below Connected, or WFReportParams.
    pub fn connection_state(&self) -> Conn {
        self.connection.state
    }

    /// All volumes with their indices.
    pub fn volumes(&self) -> impl Iterator<Item = (VolumeIndex, &Volume)> {
        self.volumes.iter().enumerate().filter(|(_, volume)| !volume.deleted)
    }

    /// A volume.
    ///
    /// # Panics
    /// If there never was such a volume.
    pub fn volume(&self, v: VolumeIndex) -> &Volume {
        &self.volumes[v]
    }

    /// Number of epochs that the peer has not finished, at least 1 (`ep` of /proc/drbd).
    pub fn epochs(&self) -> usize {
        self.peer_epochs.len()
    }

    /// Adds a volume, unconfigured. The same number must not be in use.
    pub fn add_volume(&mut self, number: u16, minor: u32, settings: DiskSettings) -> VolumeIndex {
        let mut volume = Volume::new(number, minor, settings);
        volume.state.conn = self.connection.state.min(Conn::WFReportParams);
        self.volumes.push(volume);
        self.volumes.len() - 1
    }

    /// Removes a volume. False: it has a disk, or is in use.
    pub fn remove_volume(&mut self, v: VolumeIndex) -> bool {
        let volume = &mut self.volumes[v];
        let idle = volume.disk.is_none() && volume.counters.ap_in_flight == 0 && volume.waiting.is_empty();
        let connected = volume.state.conn >= Conn::Connected;
        if idle && !connected {
            volume.deleted = true;
        }
        volume.deleted
    }

    /// Moves the outputs since the last call behind `into`. They are in the order of decision.
    pub fn take_outputs(&mut self, into: &mut Vec<Output>) {
        into.append(&mut self.out);
    }

    /// The next point in time at which [`Resource::timeout`] has something to do.
    pub fn next_timeout(&self) -> Option<Millis> {
        let volumes = self.volumes.iter().filter_map(Volume::next_timeout).min();
        [
            volumes,
            self.connection.next_timeout(self.net.as_ref()),
            self.epochs.barrier_due,
            self.task_timeout(),
            self.early_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Time has come for something.
    pub fn timeout(&mut self, now: Millis) {
        self.now = self.now.max(now);
        self.connection_timers();
        self.early_timer();
        if self.epochs.barrier_due.is_some_and(|due| due <= self.now) {
            self.epochs.barrier_due = None;
            self.flush_barrier();
        }
        for v in 0..self.volumes.len() {
            self.resync_timers(v);
            let dirty = self.volumes[v].disk.as_ref().and_then(|disk| disk.dirty_since);
            if dirty.is_some_and(|since| since + super::meta_io::DIRTY_LIMIT_MS <= self.now) {
                if let Some(disk) = &mut self.volumes[v].disk {
                    // Until the write is on its way the timer must not fire again.
                    disk.dirty_since = Some(self.now);
                }
                self.warning(Some(v), "md_sync_timer expired! Worker calls drbd_md_sync().");
                self.fifo.push_back(Work::Step(Step::WriteSuperBlockIfDirty { v }));
            }
        }
        self.settle();
    }

    /// Carries everything on that can go on, until nothing can.
    pub(super) fn settle(&mut self) {
        loop {
            let mut progress = self.run_fifo();
            progress |= self.answer_superseded();
            progress |= self.run_hold();
            progress |= self.run_cleanup();
            progress |= self.run_pending_link();
            progress |= self.run_admin();
            progress |= self.run_orders_to_give_up();
            if self.wake {
                self.wake = false;
                self.retry_waiting();
                progress = true;
            }
            if !progress {
                break;
            }
        }
        self.complete_flushes();
        #[cfg(debug_assertions)]
        self.assert_invariants();
    }

    /// What must hold between any two inputs (spec/core-walkthrough.md 7, those that are cheap).
    #[cfg(debug_assertions)]
    fn assert_invariants(&self) {
        for (v, volume) in self.volumes() {
            let in_flight = self.log.iter().filter(|(_, r)| r.volume == v && !r.completed).count();
            assert_eq!(in_flight, volume.counters.ap_in_flight as usize, "requests in flight of volume {v}");
            let pending = self.log.iter().filter(|(_, r)| r.volume == v && r.net_pending).count();
            assert_eq!(pending, volume.counters.ap_pending as usize, "requests at the peer of volume {v}");
        }
    }

    /// A number that was never used before.
    pub(super) fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// The version agreed with the peer that is, or was last, connected.
    pub(super) fn apv(&self) -> Option<u8> {
        self.connection.version.map(|version| version.number())
    }

    /// Puts a packet of the data socket into the fifo.
    pub(super) fn send(&mut self, v: VolumeIndex, packet: Packet) {
        self.send_with(v, packet, None, None);
    }

    /// Puts a packet with payload of the data socket into the fifo.
    pub(super) fn send_with(
        &mut self,
        v: VolumeIndex,
        packet: Packet,
        payload: Option<Payload>,
        notify: Option<u64>,
    ) {
        if self.fifo_is_idle() {
            self.emit(Socket::Data, v, packet, payload, notify);
        } else {
            self.fifo.push_back(Work::Send { v, packet, payload, notify });
        }
    }

    /// Sends a packet of the data socket beside the fifo (spec/wire.md 7.1, "Sent directly").
    pub(super) fn send_directly(&mut self, v: VolumeIndex, packet: Packet) {
        self.emit(Socket::Data, v, packet, None, None);
    }

    /// Sends a packet on the meta socket.
    pub(super) fn send_meta(&mut self, v: VolumeIndex, packet: Packet) {
        self.emit(Socket::Meta, v, packet, None, None);
    }

    pub(super) fn emit(
        &mut self,
        socket: Socket,
        v: VolumeIndex,
        packet: Packet,
        payload: Option<Payload>,
        notify: Option<u64>,
    ) {
        if self.connection.phase != Phase::Up {
            return;
        }
        let volume = self.volumes.get(v).map_or(0, |volume| volume.number);
        self.out.push(Output::Send { socket, volume, packet, payload, notify });
    }

    pub(super) fn fifo_is_idle(&self) -> bool {
        self.fifo.is_empty() && self.steps.is_empty() && self.fifo_wait.is_none()
    }

    pub(super) fn info(&mut self, volume: Option<VolumeIndex>, text: impl Into<String>) {
        self.out.push(Output::Log { level: Level::Info, volume, text: text.into() });
    }

    pub(super) fn log_line(&mut self, volume: Option<VolumeIndex>, line: super::log_lines::LogLine) {
        self.out.push(Output::Log { level: line.severity, volume, text: line.text });
    }

    pub(super) fn warning(&mut self, volume: Option<VolumeIndex>, text: impl Into<String>) {
        self.out.push(Output::Log { level: Level::Warning, volume, text: text.into() });
    }

    pub(super) fn error(&mut self, volume: Option<VolumeIndex>, text: impl Into<String>) {
        self.out.push(Output::Log { level: Level::Error, volume, text: text.into() });
    }

    /// The volume that a packet's header names. Below version 100 there is exactly one.
    pub(super) fn volume_of_packet(&self, number: u16) -> Option<VolumeIndex> {
        if self.connection.version.is_some_and(|version| version.has_volumes()) {
            self.volumes().find(|(_, volume)| volume.number == number).map(|(v, _)| v)
        } else {
            self.volumes().next().map(|(v, _)| v)
        }
    }

    /// The disk, if data can be read from and written to it.
    pub(super) fn usable_disk(&mut self, v: VolumeIndex) -> Option<&mut LocalDisk> {
        self.volumes[v].usable_disk()
    }

    pub(super) fn state(&self, v: VolumeIndex) -> StateWord {
        self.volumes[v].state
    }
}
