//! One snapshot type, and every text that is made from it: /proc/drbd, `show`, `status`, events.
//!
//! spec/drbdsetup.md 5 to 8. Nothing here does I/O.

pub mod address;
pub mod colors;
pub mod counters;
pub mod events;
pub mod events2;
pub mod gi;
pub mod line;
pub mod overview;
pub mod people;
pub mod proc;
pub mod progress;
pub mod show;
pub mod snapshot;
pub mod status84;
pub mod status9;
pub mod wrap;

pub use address::{Address, AddressPair, Family};
pub use snapshot::{
    Backing, Congestion, Connection, Counters, Mark, Progress, Resource, Snapshot, Suspended, TimeoutClass,
    Volume, WriteOrdering,
};
