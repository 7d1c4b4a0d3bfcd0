//! Threads and I/O: carries out what core decides.

pub mod connector;
pub mod disk;
mod integrity;
pub mod outbox;
pub mod pairing;
pub mod reader;
pub mod stop;
