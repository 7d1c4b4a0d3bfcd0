//! One resource at work: the lock around its core, and the carrying out of what core decides.
//!
//! Every thread comes through [`Runner::drive`]: it takes the lock, tells core what happened, puts
//! packets into the outboxes while it holds the lock (their order is that of the decisions),
//! and does everything else after it gave the lock back. No I/O is done under the lock.

use super::attach::Opened;
use super::connector::Target;
use super::disk::{Disk, DiskWork, Done, Job};
use super::link::{self, Link};
use super::log;
use super::outbox::{Outgoing, SendEvents};
use super::reader::PacketReader;
use super::requests::Requests;
use super::shared::Shared;
use super::stop::Stop;
use super::{helpers, rank, snapshot};
use crate::conf::settings::{DiskSettings, NetSettings, ResourceSettings};
use crate::conf::Dialect;
use crate::control::message::EventKind;
use crate::core::codes::ConfigCode;
use crate::core::resource::Resource;
use crate::core::state::{Conn, Role};
use crate::core::types::{
    AdminId, Command, HelperId, Io, IoResult, Level, LinkFailure, Millis, Output, Payload, VolumeIndex,
};
use crate::export::request::{Answer, Completion, Request};
use crate::status::AddressPair;
use crate::sys::sync::{channel, Condvar, Holder, Mutex, MutexGuard, Sender};
use crate::sys::threads;
use crate::sys::time::monotonic_ms;
use crate::wire::handshake::Offer;
use crate::wire::{Packet, Release, Socket};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

/// The answer to an admin request: a number of `core::codes`, and explanations.
pub type CommandReply = (i32, Vec<String>);

/// What the engine knows about a volume.
#[derive(Debug)]
pub struct VolumeSlot {
    /// N of /dev/drbdN.
    pub minor: u32,
    /// Its number in the resource.
    pub number: u16,
    /// The open disk.
    pub disk: Option<Arc<Disk>>,
    /// Paths and placement as they were given to `attach`.
    pub backing: Option<BackingPaths>,
    /// Removed from the resource.
    pub deleted: bool,
}

/// What `attach` was told.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BackingPaths {
    /// Path of the lower device.
    pub lower_device: String,
    /// Path of the meta data device.
    pub meta_device: String,
    /// -3: internal; -2: flexible external; n >= 0: indexed.
    pub meta_index: i32,
}

/// What is behind the lock.
pub struct State {
    /// The replication logic.
    pub core: Resource,
    /// Volumes by their index in core.
    pub volumes: Vec<VolumeSlot>,
    /// Endpoints of the connection.
    pub addresses: Option<AddressPair>,
    /// Settings of the connection that are kept while there is none.
    pub net: NetSettings,
    /// Version that was last agreed on; 0: never connected.
    pub agreed_version: u32,
    /// Counts changes, for readers of events.
    pub revision: u64,
    outputs: Vec<Output>,
    requests: Requests,
    replies: HashMap<AdminId, Sender<CommandReply>>,
    next_admin: AdminId,
    link: Option<Arc<Link>>,
    /// Ends the connector or link that is running.
    stop: Option<Arc<Stop>>,
    after_loss: bool,
    receiver_waits: bool,
    meta_waits: bool,
    /// When the timer thread wakes up by itself.
    timer_wakes: Option<Millis>,
    timer: TimerThread,
    gone: bool,
}

/// Whether a timer thread gets on. Two looks that are equal saw one that had done nothing in between.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimerThread {
    /// Its id.
    pub thread: u32,
    /// How often it had looked what there is to do.
    pub rounds: u64,
}

/// What the watchdog sees of a resource.
#[derive(Debug, Clone, Copy)]
pub(super) struct Glimpse {
    /// There is something to be done, and the timer thread is not doing it (or has not come to it yet).
    pub late: Option<TimerThread>,
    /// The timer thread will have something to do.
    pub expects: bool,
    /// One of its devices may be in use.
    pub is_primary: bool,
}

/// One resource at work.
pub struct Runner {
    /// Its name.
    pub name: String,
    /// Made by 8.4's `new-resource`; whose words its log has.
    pub explicit: bool,
    /// What all resources have in common.
    pub shared: Arc<Shared>,
    state: Mutex<State>,
    receiver_may_go: Condvar,
    timer_changed: Condvar,
    own: Weak<Runner>,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Runner({})", self.name)
    }
}

/// Whether a thread may do the disk work that follows from its own input itself.
pub enum Inline<'a> {
    /// It has other things to do.
    Never,
    /// It serves one request at a time.
    Always,
    /// It is the data reader: if core lets it read nothing more for now, or if nothing else has come.
    Reader(DataReader<'a>),
}

/// The data reader, while it carries out what follows from a packet.
pub struct DataReader<'a> {
    /// What it reads from.
    pub packets: &'a mut PacketReader,
    /// Set when an acknowledgement of an epoch waits in the outbox that nobody is at: the next packet may
    /// bring another acknowledgement, to go with it in one system call. Nobody waits for that of an epoch.
    pub owes_pass: &'a mut bool,
}

impl Inline<'_> {
    fn allows(&mut self, reader_held: bool) -> bool {
        match self {
            Inline::Never => false,
            Inline::Always => true,
            Inline::Reader(reader) => reader_held || reader.packets.is_idle(),
        }
    }

    /// Whether this thread will see to it that an acknowledgement of an epoch is sent. False: not later.
    fn defers(&mut self) -> bool {
        match self {
            Inline::Reader(reader) if reader.packets.has_more() => {
                *reader.owes_pass = true;
                true
            }
            _ => false,
        }
    }
}

/// What is to be done without the lock.
enum Todo {
    Disk(Arc<Disk>, VolumeIndex, Job),
    /// There is no disk that could do it.
    NoDisk(VolumeIndex, Io),
    Complete(Completion, Answer),
    Connect(Target, Arc<Stop>),
    NoConnector(io::Error),
    CloseLink(Option<Arc<Stop>>, bool),
    Release(Arc<Disk>),
    AskBackingSize(Option<Arc<Disk>>, VolumeIndex),
    Resize(VolumeIndex, u64),
    Helper(helpers::Run),
}

impl State {
    /// Whether the data socket takes less than there is to send.
    pub fn is_congested(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.data.is_full())
    }
}

/// The todos of one round, and the sockets that got packets.
#[derive(Default)]
struct Batch {
    todo: Vec<Todo>,
    link: Option<Arc<Link>>,
    data: bool,
    meta: bool,
    /// Only acknowledgements of epochs went into the outbox of the meta socket.
    meta_has_time: bool,
    /// Core lets the data reader read nothing more for now.
    reader_held: bool,
}

thread_local! {
    /// Memory for lists of todos.
    static SPARE: RefCell<Vec<Vec<Todo>>> = const { RefCell::new(Vec::new()) };
}

impl Batch {
    fn new() -> Batch {
        let todo = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        Batch { todo, ..Batch::default() }
    }

    fn give_back(self) {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < 4 {
                spare.push(self.todo);
            }
        });
    }
}

impl Runner {
    /// A resource without volumes, StandAlone, and its timer thread.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        name: &str,
        explicit: bool,
        settings: ResourceSettings,
        net: NetSettings,
        shared: Arc<Shared>,
    ) -> io::Result<Arc<Runner>> {
        let random = Box::new(|| {
            crate::sys::random::number().unwrap_or_else(|_| crate::sys::time::monotonic_us().rotate_left(32))
        });
        let runner = Arc::new_cyclic(|own| Runner {
            name: name.to_owned(),
            explicit,
            shared,
            state: Mutex::ranked(
                rank::RESOURCE,
                State {
                    core: Resource::new(name, settings, random),
                    volumes: Vec::new(),
                    addresses: None,
                    net,
                    agreed_version: 0,
                    revision: 1,
                    outputs: Vec::new(),
                    requests: Requests::default(),
                    replies: HashMap::new(),
                    next_admin: 1,
                    link: None,
                    stop: None,
                    after_loss: false,
                    receiver_waits: false,
                    meta_waits: false,
                    timer_wakes: None,
                    timer: TimerThread::default(),
                    gone: false,
                },
            ),
            receiver_may_go: Condvar::new(),
            timer_changed: Condvar::new(),
            own: own.clone(),
        });
        let of_thread = Arc::clone(&runner);
        runner.thread("timer").spawn(move || of_thread.run_timers())?;
        Ok(runner)
    }

    /// A thread of this resource, to be spawned.
    pub fn thread(&self, purpose: &str) -> thread::Builder {
        thread::Builder::new().name(format!("{purpose} {}", self.name)).stack_size(super::disk::STACK_BYTES)
    }

    /// Whose words the log has.
    pub fn dialect(&self) -> Dialect {
        if self.explicit {
            Dialect::V84
        } else {
            Dialect::V83
        }
    }

    fn me(&self) -> Arc<Runner> {
        // Whoever calls a method holds a strong reference.
        self.own.upgrade().unwrap_or_else(|| unreachable!("a method of a dropped value"))
    }

    /// Tells core something and carries out what follows. `f` must only call core.
    pub fn drive<R>(&self, inline: Inline, f: impl FnOnce(&mut Resource, Millis) -> R) -> R {
        self.drive_state(inline, |state, now| f(&mut state.core, now))
    }

    /// As [`Runner::drive`], for inputs that belong together with a change of the engine's own state.
    pub fn drive_state<R>(&self, inline: Inline, f: impl FnOnce(&mut State, Millis) -> R) -> R {
        self.shared.watch.wake();
        let mut batch = Batch::new();
        let result = {
            let mut state = self.state.lock();
            let result = f(&mut state, monotonic_ms());
            self.distribute(&mut state, &mut batch);
            result
        };
        self.carry_out(batch, inline);
        result
    }

    /// Looks at the state, without changing anything in core.
    pub fn look<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        self.shared.watch.wake();
        f(&mut self.state.lock())
    }

    /// For the watchdog: looks at the state, if it can be had within that time.
    ///
    /// # Errors
    /// Who has it.
    pub(super) fn glimpse(&self, at_most: Duration) -> Result<Glimpse, Holder> {
        let state = self.state.try_lock_for(at_most)?;
        let is_due = state.timer_wakes.is_some_and(|wakes| wakes <= monotonic_ms());
        let is_primary = state.core.volumes().any(|(_, volume)| volume.state().role == Role::Primary);
        Ok(Glimpse {
            late: (is_due && !state.gone).then_some(state.timer),
            expects: state.timer_wakes.is_some() && !state.gone,
            is_primary,
        })
    }

    /// Where threads wait for this resource's lock.
    pub(super) fn lock_address(&self) -> usize {
        self.state.address()
    }

    /// Sorts core's outputs: packets into the outboxes, the rest into the batch.
    fn distribute(&self, state: &mut State, batch: &mut Batch) {
        let mut outputs = std::mem::take(&mut state.outputs);
        state.core.take_outputs(&mut outputs);
        let mut changes = self.changes(state, &outputs).into_iter();
        for output in outputs.drain(..) {
            // In its turn: the log line about it comes first.
            if matches!(output, Output::State { .. } | Output::BareConnection { .. }) {
                if let Some(change) = changes.next() {
                    self.shared.hub.publish(change);
                }
                self.shared.state_changed();
            }
            self.distribute_one(state, batch, output);
        }
        state.outputs = outputs;
        batch.reader_held = !state.core.receiver_ready();
        let meta_may_go = state.meta_waits && state.core.link().is_some();
        if state.receiver_waits && !batch.reader_held || meta_may_go {
            self.receiver_may_go.notify_all();
        }
        let next = state.core.next_timeout();
        if let Some(next) = next {
            if state.timer_wakes.is_none_or(|wakes| next < wakes) {
                state.timer_wakes = Some(next);
                self.timer_changed.notify_all();
            }
        }
    }

    /// The changes of state among core's outputs, each with the picture of the resource behind it: the picture of now
    /// with the later changes taken back.
    fn changes(&self, state: &mut State, outputs: &[Output]) -> Vec<EventKind> {
        let is_change =
            |output: &&Output| matches!(output, Output::State { .. } | Output::BareConnection { .. });
        let changes: Vec<&Output> = outputs.iter().filter(is_change).collect();
        if changes.is_empty() {
            return Vec::new();
        }
        state.revision += changes.len() as u64;
        let mut picture = snapshot::resource(self, state);
        let mut events = Vec::with_capacity(changes.len());
        for change in changes.into_iter().rev() {
            match *change {
                Output::State { volume, old, new } => {
                    let minor = state.volumes.get(volume).map_or(u32::MAX, |slot| slot.minor);
                    let resource = Box::new(picture.clone());
                    events.push(EventKind::State { resource, minor, old, new });
                    snapshot::take_back(&mut picture, minor, old, state.addresses);
                }
                Output::BareConnection { conn } => {
                    snapshot::set_connection(&mut picture, conn, state.addresses);
                    events.push(EventKind::Resource(Box::new(picture.clone())));
                    picture.revision -= 1;
                }
                _ => {}
            }
        }
        events.reverse();
        events
    }

    fn distribute_one(&self, state: &mut State, batch: &mut Batch, output: Output) {
        let disk = |volume: VolumeIndex, io, work| {
            let disk = state.volumes.get(volume).and_then(|slot| slot.disk.clone());
            Some(match disk {
                Some(disk) => Todo::Disk(disk, volume, Job { io, work }),
                None => Todo::NoDisk(volume, io),
            })
        };
        let todo = match output {
            Output::Send { socket, volume, packet, payload, notify } => {
                let outgoing = Outgoing::Packet { volume, packet, payload, notify };
                push(state, batch, socket, outgoing);
                None
            }
            Output::SendBitmap { volume } => {
                let number = state.volumes.get(volume).map_or(0, |slot| slot.number);
                push(state, batch, Socket::Data, Outgoing::Bitmap { volume, number });
                None
            }
            Output::DiskRead { volume, io, sector, bytes } => {
                disk(volume, io, DiskWork::Read { sector, bytes })
            }
            Output::DiskWrite { volume, io, sector, payload, fua } => {
                disk(volume, io, DiskWork::Write { sector, payload, fua })
            }
            Output::DiskDiscard { volume, io, sector, bytes, how } => {
                disk(volume, io, DiskWork::Discard { sector, bytes, how })
            }
            Output::DiskFlush { volume, io } => disk(volume, io, DiskWork::Flush),
            Output::MetaWrite { volume, io, pieces, flush } => {
                disk(volume, io, DiskWork::Meta { pieces, flush })
            }
            Output::Complete { token, result } => state
                .requests
                .complete(token, result)
                .map(|(completion, answer)| Todo::Complete(completion, answer)),
            Output::Connect => self.prepare_connect(state),
            Output::CloseLink { drain_meta } => Some(Todo::CloseLink(state.stop.clone(), drain_meta)),
            Output::ReleaseDisk { volume } => {
                let slot = state.volumes.get_mut(volume);
                slot.and_then(|slot| {
                    slot.backing = None;
                    slot.disk.take()
                })
                .map(Todo::Release)
            }
            Output::AskBackingSize { volume } => {
                let disk = state.volumes.get(volume).and_then(|slot| slot.disk.clone());
                Some(Todo::AskBackingSize(disk, volume))
            }
            Output::Resize { volume, sectors } => Some(Todo::Resize(volume, sectors)),
            Output::Helper { id, name, volume } => {
                Some(Todo::Helper(self.helper_run(state, id, name, volume)))
            }
            Output::Reply { id, code, info } => {
                if let Some(sender) = state.replies.remove(&id) {
                    // Nobody may be waiting any more.
                    let _ = sender.send((code, info));
                }
                None
            }
            Output::Log { level, volume, text } => {
                self.log_in(state, level, volume, &text);
                None
            }
            // Published by who calls this.
            Output::State { .. } | Output::BareConnection { .. } => None,
        };
        batch.todo.extend(todo);
    }

    fn prepare_connect(&self, state: &mut State) -> Option<Todo> {
        let (net, addresses) = (state.core.net_settings()?.clone(), state.addresses?);
        let stop = match Stop::new() {
            Ok(stop) => Arc::new(stop),
            Err(error) => return Some(Todo::NoConnector(error)),
        };
        state.stop = Some(Arc::clone(&stop));
        let target = Target {
            local: addresses.local.socket_address(),
            peer: addresses.peer.socket_address(),
            net,
            offer: Offer::up_to(self.shared.config.protocol_max),
            release: match self.dialect() {
                Dialect::V83 => Release::V83,
                Dialect::V84 => Release::V84,
            },
            after_loss: std::mem::take(&mut state.after_loss),
        };
        Some(Todo::Connect(target, stop))
    }

    /// Does what a batch says, and what follows from it if this thread does disk work itself.
    fn carry_out(&self, mut batch: Batch, mut inline: Inline) {
        loop {
            if let Some(link) = batch.link.take() {
                // Acknowledgements first: somebody waits for them.
                let has_time = std::mem::take(&mut batch.meta_has_time);
                if std::mem::take(&mut batch.meta) || has_time && !inline.defers() {
                    link.meta.pass(self);
                }
                if std::mem::take(&mut batch.data) {
                    link.data.pass(self);
                }
            }
            let mut own = None;
            for todo in batch.todo.drain(..) {
                match todo {
                    Todo::Disk(disk, volume, job) => {
                        // Only the last one can be this thread's own.
                        if let Some((disk, _, job)) = own.replace((disk, volume, job)) {
                            Disk::enqueue(&disk, job);
                        }
                    }
                    other => self.carry_out_one(other),
                }
            }
            let Some((disk, volume, job)) = own else { break };
            if disk.is_busy() || !inline.allows(batch.reader_held) {
                disk.enqueue(job);
                break;
            }
            let result = disk.perform(job.work);
            let mut state = self.state.lock();
            state.core.io_done(monotonic_ms(), volume, job.io, result);
            self.distribute(&mut state, &mut batch);
        }
        batch.give_back();
    }

    fn carry_out_one(&self, todo: Todo) {
        match todo {
            Todo::Disk(disk, _, job) => disk.enqueue(job),
            Todo::NoDisk(volume, io) => self.io_done(volume, io, IoResult::Failed),
            Todo::Complete(completion, answer) => completion.complete(answer),
            Todo::Connect(target, stop) => link::start(self.me(), target, stop),
            Todo::NoConnector(error) => {
                let text = format!("cannot connect: {error}");
                self.drive(Inline::Never, |core, now| {
                    core.link_refused(now, vec![(Level::Error, text)]);
                });
            }
            Todo::CloseLink(Some(stop), drain_meta) => {
                stop.stop(drain_meta);
                self.wake_receiver();
            }
            Todo::CloseLink(None, _) => self.drive(Inline::Never, |core, now| core.link_closed(now)),
            Todo::Release(disk) => disk.close(),
            Todo::AskBackingSize(disk, volume) => {
                let size = match disk {
                    Some(disk) => disk.size().map_err(|error| error.to_string()),
                    None => Err("there is no lower device".to_owned()),
                };
                self.drive(Inline::Never, |core, now| core.backing_size(now, volume, size));
            }
            Todo::Resize(volume, sectors) => self.shared.resized(&self.me(), volume, sectors),
            Todo::Helper(run) => helpers::start(self.me(), run),
        }
    }

    /// Logs a line about a volume or the resource.
    pub fn log_in(&self, state: &State, level: Level, volume: Option<VolumeIndex>, text: &str) {
        let minor = |v: VolumeIndex| state.volumes.get(v).map(|slot| slot.minor);
        let first = state.volumes.iter().find(|slot| !slot.deleted);
        let prefix =
            log::prefix(self.dialect(), &self.name, volume.and_then(minor), first.map(|slot| slot.minor));
        for line in text.lines() {
            self.shared.log.line(level, format!("{prefix}{line}"));
        }
    }

    /// As [`Runner::log_in`], for those who do not hold the lock.
    pub fn log(&self, level: Level, volume: Option<VolumeIndex>, text: &str) {
        self.look(|state| self.log_in(state, level, volume, text));
    }

    /// Asks core for something, and waits for its answer.
    pub fn command(&self, command: Command) -> CommandReply {
        let (sender, receiver) = channel();
        self.drive_state(Inline::Never, |state, now| {
            let id = state.next_admin;
            state.next_admin += 1;
            state.replies.insert(id, sender);
            state.core.command(now, id, command);
        });
        // The sender is only dropped unanswered when the resource goes.
        receiver.receive().unwrap_or_else(|| (ConfigCode::Interrupted.number(), Vec::new()))
    }

    /// Hands an opened disk to core, and waits for its answer.
    pub fn attach(&self, volume: VolumeIndex, paths: BackingPaths, opened: Opened) -> CommandReply {
        let Opened { data, meta, attached } = opened;
        let runner = self.own.clone();
        let done: Done = Arc::new(move |io, result| {
            if let Some(runner) = runner.upgrade() {
                runner.io_done(volume, io, result);
            }
        });
        let disk = Arc::new(Disk::new(data, meta, &format!("disk {}", self.name), done));
        let taken = self.look(|state| {
            let slot = state.volumes.get_mut(volume)?;
            // Somebody else may have been faster since the disk was opened.
            if slot.disk.is_none() {
                slot.disk = Some(disk);
                slot.backing = Some(paths);
                return Some(());
            }
            None
        });
        if taken.is_none() {
            return (ConfigCode::DiskConfigured.number(), Vec::new());
        }
        self.command(Command::Attach { volume, disk: Box::new(attached) })
    }

    /// What is needed to run a helper. spec/state.md 15.1, spec/decisions.md 5.6.
    fn helper_run(
        &self,
        state: &State,
        id: HelperId,
        name: &'static str,
        volume: Option<VolumeIndex>,
    ) -> helpers::Run {
        let slot = volume.and_then(|v| state.volumes.get(v));
        let about = slot.map(|slot| (slot.minor, slot.number));
        let slot = slot.or_else(|| state.volumes.iter().find(|slot| !slot.deleted));
        let of_resource = self.explicit && helpers::is_about_resource(name);
        let object = match slot {
            Some(slot) if !of_resource => format!("minor-{}", slot.minor),
            _ => self.name.clone(),
        };
        helpers::Run {
            id,
            name,
            object,
            volume,
            about,
            peer: state.addresses.map(|addresses| addresses.peer),
        }
    }

    /// Adds a volume.
    pub fn add_volume(&self, number: u16, minor: u32, settings: DiskSettings) -> VolumeIndex {
        self.drive_state(Inline::Never, |state, _| {
            let volume = state.core.add_volume(number, minor, settings);
            state.volumes.resize_with(state.volumes.len().max(volume), || VolumeSlot {
                minor: 0,
                number: 0,
                disk: None,
                backing: None,
                deleted: true,
            });
            let slot = VolumeSlot { minor, number, disk: None, backing: None, deleted: false };
            if volume < state.volumes.len() {
                state.volumes[volume] = slot;
            } else {
                state.volumes.push(slot);
            }
            state.revision += 1;
            volume
        })
    }

    /// Removes a volume. False: it is in use.
    pub fn remove_volume(&self, volume: VolumeIndex) -> bool {
        self.drive_state(Inline::Never, |state, _| {
            let removed = state.core.remove_volume(volume);
            if removed {
                state.volumes[volume].deleted = true;
                state.revision += 1;
            }
            removed
        })
    }

    /// Serves a request of an application.
    pub fn submit(&self, volume: VolumeIndex, request: Request, inline: Inline) {
        self.shared.traffic();
        self.drive_state(inline, |state, now| {
            let State { core, requests, .. } = state;
            requests.submit(core, now, volume, request);
        });
    }

    /// Reports disk work that a pool thread has done.
    pub fn io_done(&self, volume: VolumeIndex, io: Io, result: IoResult) {
        self.shared.traffic();
        self.drive(Inline::Never, |core, now| core.io_done(now, volume, io, result));
    }

    /// A packet came. Returns whether the data reader may read the next one.
    pub fn packet(&self, socket: Socket, received: super::reader::Received, inline: Inline) -> bool {
        if received.payload.is_some() {
            self.shared.traffic();
        }
        self.drive(inline, |core, now| {
            let super::reader::Received { volume, packet, payload } = received;
            core.packet(now, socket, volume, packet, payload);
            core.receiver_ready()
        })
    }

    /// Waits until core takes the next packet of the data socket, or the link is stopped.
    pub fn wait_for_receiver(&self, stop: &Stop) {
        let mut state = self.state.lock();
        while !state.core.receiver_ready() && !stop.is_stopped() {
            state.receiver_waits = true;
            state = self.receiver_may_go.wait(state);
        }
        state.receiver_waits = false;
    }

    /// Waits until core takes packets of a new link at all (not during a promotion), or it is stopped.
    pub fn wait_for_link(&self, stop: &Stop) {
        let mut state = self.state.lock();
        while state.core.link().is_none() && !stop.is_stopped() {
            state.meta_waits = true;
            state = self.receiver_may_go.wait(state);
        }
        state.meta_waits = false;
    }

    /// Wakes a data reader that waits for core, because its link is being stopped.
    pub fn wake_receiver(&self) {
        let _state = self.state.lock();
        self.receiver_may_go.notify_all();
    }

    /// The sockets are up.
    pub fn link_up(&self, link: Arc<Link>, description: crate::core::types::Link) {
        self.drive_state(Inline::Never, |state, now| {
            state.link = Some(link);
            state.agreed_version = u32::from(description.version.number());
            state.core.link_up(now, description);
        });
    }

    /// All threads of the link have ended.
    pub fn link_closed(&self, stop: &Arc<Stop>) {
        self.drive_state(Inline::Never, |state, now| {
            if state.stop.as_ref().is_some_and(|s| Arc::ptr_eq(s, stop)) {
                state.stop = None;
            }
            state.after_loss = state.link.take().is_some();
            state.core.link_closed(now);
        });
    }

    /// The connector gave up, and its thread ends. True if core has asked it to end as well.
    pub fn link_refused(&self, stop: &Arc<Stop>, lines: Vec<(Level, String)>) {
        self.drive(Inline::Never, |core, now| core.link_refused(now, lines));
        let closed = stop.is_stopped();
        self.look(|state| {
            if state.stop.as_ref().is_some_and(|s| Arc::ptr_eq(s, stop)) {
                state.stop = None;
            }
        });
        if closed {
            self.link_closed(stop);
        }
    }

    /// A reader or sender has lost the link.
    pub fn link_lost(&self, failure: LinkFailure) {
        self.drive(Inline::Never, |core, now| core.link_lost(now, failure));
    }

    /// Ends the threads. Volumes must have been removed, the connection must be StandAlone.
    pub fn end(&self) {
        let mut state = self.state.lock();
        state.gone = true;
        state.replies.clear();
        self.timer_changed.notify_all();
    }

    /// The timer thread ends although there is something to do.
    #[cfg(test)]
    pub(super) fn lose_timer_thread(self: &Arc<Runner>) {
        let of_others = Arc::strong_count(self) - 1;
        self.end();
        while Arc::strong_count(self) > of_others {
            thread::yield_now();
        }
        self.look(|state| {
            state.gone = false;
            state.timer_wakes = Some(0);
        });
    }

    /// The timer thread: sleeps until core has something to do, without ever looking in between.
    fn run_timers(&self) {
        let mut state: MutexGuard<State> = self.state.lock();
        state.timer.thread = threads::own_id();
        loop {
            state.timer.rounds += 1;
            if state.gone {
                return;
            }
            let now = monotonic_ms();
            match state.timer_wakes {
                None => state = self.timer_changed.wait(state),
                Some(wakes) if wakes > now => {
                    let pause = Duration::from_millis(wakes - now);
                    state = self.timer_changed.wait_timeout(state, pause);
                }
                Some(_) => {
                    let mut batch = Batch::new();
                    // The real next time; `distribute` only makes it earlier.
                    state.timer_wakes = None;
                    if state.core.next_timeout().is_some_and(|next| next <= now) {
                        state.core.timeout(now);
                    }
                    self.distribute(&mut state, &mut batch);
                    drop(state);
                    self.carry_out(batch, Inline::Never);
                    state = self.state.lock();
                }
            }
        }
    }
}

/// Puts a packet into the outbox of its socket; forgets it if there is no link.
fn push(state: &State, batch: &mut Batch, socket: Socket, outgoing: Outgoing) {
    let Some(link) = &state.link else { return };
    let (outbox, flag) = match (socket, &outgoing) {
        (Socket::Data, _) => (&link.data, &mut batch.data),
        (Socket::Meta, Outgoing::Packet { packet: Packet::BarrierAck(_), .. }) => {
            (&link.meta, &mut batch.meta_has_time)
        }
        (Socket::Meta, _) => (&link.meta, &mut batch.meta),
    };
    if outbox.push(outgoing) {
        *flag = true;
        if batch.link.is_none() {
            batch.link = Some(Arc::clone(link));
        }
    }
}

impl SendEvents for Runner {
    fn sent(&self, notifies: &[u64]) {
        self.drive(Inline::Never, |core, now| {
            for notify in notifies {
                core.sent(now, *notify);
            }
        });
    }

    fn next_bitmap_packet(&self, volume: VolumeIndex) -> Option<(Packet, Payload)> {
        self.drive(Inline::Never, |core, now| core.next_bitmap_packet(now, volume))
    }

    fn send_expired(&self, socket: Socket) {
        self.drive(Inline::Never, |core, now| core.send_expired(now, socket));
    }

    fn send_progressed(&self) {
        self.drive(Inline::Never, |core, _| core.send_progressed());
    }

    fn send_failed(&self, socket: Socket, error: io::Error) {
        let name = match socket {
            Socket::Data => "sock_sendmsg",
            Socket::Meta => "msock_sendmsg",
        };
        let number = error.raw_os_error().unwrap_or(0);
        self.link_lost(LinkFailure {
            conn: Conn::BrokenPipe,
            log: Some((Level::Error, format!("{name} returned -{number}"))),
        });
    }
}
