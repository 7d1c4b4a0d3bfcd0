//! The Unix socket between drbdsetup and drbdd: messages, events, client, server.
//!
//! A connection carries one call and one answer, or one call and a stream of events. Messages
//! are JSON behind a length ([`frame`]); only root, the user that runs the daemon, and groups
//! that were let in may ask ([`access`]).

pub mod access;
pub mod client;
pub mod frame;
pub mod hub;
pub mod message;
pub mod server;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod server_tests;

pub use access::Access;
pub use client::{Client, ClientError, EventStream};
pub use hub::{Hub, Subscription};
pub use message::{Call, Event, EventKind, Reply, Request};
pub use server::{Server, Service};
