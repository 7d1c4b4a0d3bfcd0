//! The operating system: direct I/O, buffers, sockets, locks, processes.

pub mod block_device;
pub mod buffer;
pub mod minor_lock;
pub mod paths;
pub mod net;
pub mod process;
pub mod random;
pub mod time;
