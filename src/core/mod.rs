//! The replication logic as a state machine without I/O.
//!
//! A [`resource::Resource`] is one resource on one node. It is told what happened (a packet, a
//! completed write, an admin's wish, a timer) and returns what is to be done. It owns no socket,
//! file, thread or clock: payload bytes are handles that pass through, time and random numbers
//! are arguments. See docs/architecture.md for how the engine drives it.

/// Whether a deliberate defect is active (mutants.rs); in all that is shipped the constant `false`.
#[cfg(feature = "mutants")]
macro_rules! mutant {
    ($name:literal) => {
        $crate::core::mutants::is_active(const { $crate::core::mutants::index_of($name) })
    };
}
#[cfg(not(feature = "mutants"))]
macro_rules! mutant {
    ($name:literal) => {
        false
    };
}

pub mod activity_log;
mod admin;
mod admission;
pub mod bitmap;
pub mod codes;
mod conflicts;
mod connection;
mod continuation;
mod disk;
pub mod epochs;
pub mod fencing;
mod flush;
mod generation;
pub mod handlers;
mod handshake;
pub mod handshake_decision;
pub mod intervals;
pub mod log_lines;
mod meta_io;
pub mod metadata_flags;
#[cfg(feature = "mutants")]
pub mod mutants;
mod peer_write;
mod receive;
pub mod request;
mod resize;
pub mod resource;
pub mod resync;
pub mod rules;
pub mod size;
pub mod speed;
pub mod state;
mod state_change;
mod state_notes;
mod steps;
mod sync_after;
mod transfer_log;
pub mod types;
pub mod uuid;
mod verify;
pub mod volume;
mod write_path;

pub use resource::Resource;

#[cfg(test)]
mod noise_tests;
#[cfg(test)]
mod pair_tests;
