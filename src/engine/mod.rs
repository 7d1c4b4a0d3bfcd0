//! Threads and I/O: carries out what core decides.

mod integrity;
pub mod outbox;
pub mod pairing;
