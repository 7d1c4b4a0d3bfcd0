//! Two daemons' engines in one process: real sockets, real files, no block device.

#![allow(clippy::unwrap_used)]

mod fixture;
mod hostile;
mod life;
mod replication;
mod stuck;
