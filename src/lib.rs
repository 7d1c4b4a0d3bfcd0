//! drbdbox: the replication of DRBD as a library, in user space.
//!
//! The modules are floors; each uses only floors below it:
//!
//! | floor | module | holds |
//! |---|---|---|
//! | 6 | [`engine`] | threads and I/O: carries out what `core` decides |
//! | 5 | [`export`] | doors to a block device: FUSE + loop, NBD server |
//! | 5 | [`control`] | the Unix socket between drbdsetup and drbdd |
//! | 4 | [`status`] | one snapshot type, and every text that is made from it |
//! | 3 | [`core`] | the replication logic, pure: no sockets, files, threads, clocks |
//! | 2 | [`conf`] | drbd.conf, and the one table of options |
//! | 2 | [`meta`] | the on-disk format |
//! | 2 | [`wire`] | the network format |
//! | 1 | [`sys`] | the operating system |

pub mod conf;
pub mod control;
pub mod core;
pub mod engine;
pub mod export;
pub mod meta;
pub mod status;
pub mod sys;
pub mod wire;
