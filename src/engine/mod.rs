//! Threads and I/O: carries out what core decides.
//!
//! | file | thread or thing |
//! |---|---|
//! | [`runner`] | one resource: the lock around core, and what follows from each of its decisions |
//! | [`link`], [`connector`], [`pairing`], [`reader`], [`outbox`] | the connection: receiver, meta reader, two senders |
//! | [`disk`], [`attach`] | a backing device: its pool of threads; how it is opened |
//! | [`backend`], [`requests`], [`doors`], [`role`] | how applications get in and out |
//! | [`adoption`] | whether those of a daemon that died go on |
//! | [`daemon`], [`commands`], [`options`] | all resources; what drbdsetup asks for |
//! | [`helpers`] | handlers |
//! | [`watchdog`] | a daemon that does not get on says so |
//! | [`proc_file`], [`running`], [`kept_file`], [`snapshot`], [`log`] | what others can see |
//!
//! Rules: one lock a resource; no I/O under it; packets enter the outboxes under it, so their order is
//! that of core's decisions. A thread that reads from the peer never blocks in a send. A thread that fails tells
//! core; one that panics ends the daemon.
//!
//! # What a write costs
//!
//! Primary, protocol C, one 4 KiB write at a time through a door whose thread serves one request:
//!
//! | step | thread | locks of core | system calls | copies of the data |
//! |---|---|---|---|---|
//! | the door gives it in | door | 1 | | |
//! | to the peer | door | | sendmsg | into the socket |
//! | to the disk | door | | pwrite | none (O_DIRECT from the same buffer) |
//! | the disk is done | door | 1 | | |
//! | the peer's ack | meta reader | 1 | recv | |
//! | the application hears | meta reader or door, whoever was last | | the door's | |
//!
//! The peer: one recv (data and header at once), a copy of what came in the stash into an aligned buffer,
//! one lock, pwrite by the reader itself, one lock, sendmsg of the ack by the reader; and a second recv
//! that finds nothing, which is how it knows that it has the time. No thread is woken on either side
//! but those that the kernel wakes with data. Buffers come from a pool, lists of outputs are reused.
//!
//! With many requests at a time: whoever finds a socket busy leaves its packet in the queue, so up to
//! 32 packets go out with one sendmsg; disk work goes to the pool of the disk, with one wake-up each
//! while threads are idle, and none when all are busy.

/// The order in which a thread may take the locks that are held while other code runs. The others are held for a moment only,
/// or with nothing else.
mod rank {
    /// The role of a volume ([`super::daemon::Place::role`]): while it changes.
    pub const ROLE: u8 = 1;
    /// The door of a minor.
    pub const DOOR: u8 = 2;
    /// The list of resources and minors.
    pub const LIST: u8 = 3;
    /// A resource.
    pub const RESOURCE: u8 = 4;
    /// What is held under a resource's lock, with nothing else.
    pub const WITHIN_RESOURCE: u8 = 5;
}

pub mod adoption;
pub mod attach;
pub mod backend;
mod commands;
pub mod connector;
pub mod daemon;
pub mod disk;
pub mod doors;
pub mod helpers;
mod integrity;
mod kept_file;
pub mod link;
pub mod log;
pub mod options;
pub mod outbox;
pub mod pairing;
pub mod proc_file;
pub mod reader;
pub mod requests;
mod role;
pub mod runner;
pub mod running;
pub mod shared;
pub mod snapshot;
pub mod stop;
mod sync_after;
pub mod watchdog;
