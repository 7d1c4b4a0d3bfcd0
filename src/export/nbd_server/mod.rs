//! An NBD server: a device for those who need no kernel device (qemu, libnbd, fio), also without root.
//!
//! One server listens on a Unix or TCP socket and has an export for each attached [`NbdDoor`]. Any number of clients
//! may use an export at a time; a flush of one covers the writes of all.

pub(super) mod connection;
mod negotiate;
mod protocol;
pub(super) mod server;

pub(super) use negotiate::transmission_flags;
pub use server::{Listen, NbdDoor, NbdServer};

/// Largest read or write that is served: what the protocol lets a client assume if nothing else is agreed on.
const MAX_PAYLOAD_BYTES: u32 = 32 << 20;
