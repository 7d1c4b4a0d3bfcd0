//! Threads and I/O: carries out what core decides.

pub mod attach;
pub mod backend;
mod commands;
pub mod connector;
pub mod daemon;
pub mod disk;
pub mod doors;
pub mod helpers;
mod integrity;
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
