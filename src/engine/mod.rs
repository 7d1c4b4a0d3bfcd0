//! Threads and I/O: carries out what core decides.

pub mod connector;
mod integrity;
pub mod outbox;
pub mod pairing;
pub mod stop;
