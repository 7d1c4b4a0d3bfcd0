//! The operating system: direct I/O, buffers, sockets, locks, processes.

pub mod buffer;
pub mod paths;
