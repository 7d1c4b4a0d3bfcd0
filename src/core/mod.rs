//! The replication logic as a state machine without I/O.

pub mod codes;
pub mod handlers;
pub mod handshake_decision;
pub mod log_lines;
pub mod rules;
pub mod state;
pub mod uuid;
