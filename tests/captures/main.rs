//! Recordings of real kernels, 8.4 at every protocol version and DRBD 9, against this implementation.
//!
//! `bytes`: every packet is understood, and encoded again to the same bytes. `replay`: one side of each
//! recording is played against a core that stands where the other side stood.

#[path = "../support/captures.rs"]
mod captures;

// Other tests use other parts of it.
#[allow(dead_code)]
#[path = "../support/core_node.rs"]
mod core_node;

mod bytes;
mod corpus;
mod replay;
