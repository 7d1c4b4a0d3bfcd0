//! The replication logic as a state machine without I/O.

pub mod codes;
pub mod state;
