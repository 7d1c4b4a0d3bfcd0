//! Bad input: what a daemon and its commands do with wrong configurations, wrong peers, noise on the port, disks that
//! cannot be used, and a host that lacks something. Each must give a clear message and the right state, and never
//! end, hang or harm what comes later.
//!
//! Real daemons on addresses of 127.0.0.0/8, each with files of its own; the commands are called as a user calls
//! them. `fake_peer` is a peer that a test scripts packet by packet.

#![allow(clippy::unwrap_used)] // a test may fail

mod authentication;
mod configuration;
mod control_socket;
mod daemon_process;
mod disks;
mod doors;
mod fake_peer;
mod fuzz;
mod listening;
mod nbd;
mod node;
mod noise;
mod packets;
// Other tests use the rest of it.
#[allow(dead_code)]
#[path = "../support/sample_packets.rs"]
mod sample_packets;
