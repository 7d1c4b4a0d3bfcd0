//! The operating system: direct I/O, buffers, sockets, locks, processes.

pub mod buffer;
pub mod child;
pub mod host;
pub mod paths;
