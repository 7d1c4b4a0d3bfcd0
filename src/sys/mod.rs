//! The operating system: direct I/O, buffers, sockets, locks, processes.

pub mod block_device;
pub mod buffer;
pub mod build;
pub mod child;
pub mod host;
pub mod local_time;
pub mod minor_lock;
pub mod mounts;
pub mod net;
pub mod netlink;
pub mod paths;
pub mod process;
pub mod random;
pub mod send;
pub mod sync;
pub mod syslog;
pub mod terminal;
pub mod threads;
pub mod time;
