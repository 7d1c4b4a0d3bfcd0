//! Two daemons' engines in one process: real sockets, real files, no block device.

mod fixture;
mod replication;
