//! The replication logic as a state machine without I/O.
