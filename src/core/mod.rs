//! The replication logic as a state machine without I/O.
//!
//! A [`resource::Resource`] is one resource on one node. It is told what happened (a packet, a
//! completed write, an admin's wish, a timer) and returns what is to be done. It owns no socket,
//! file, thread or clock: payload bytes are handles that pass through, time and random numbers
//! are arguments. See docs/architecture.md for how the engine drives it.

pub mod activity_log;
pub mod bitmap;
pub mod codes;
pub mod fencing;
pub mod handlers;
pub mod handshake_decision;
pub mod intervals;
pub mod log_lines;
pub mod metadata_flags;
pub mod rules;
pub mod size;
pub mod state;
pub mod uuid;
