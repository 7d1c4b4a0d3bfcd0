//! The door nbd: /dev/drbdN is the kernel's NBD client on one end of a socket pair; this program serves the other.
//!
//! Two ways to tell the kernel ([`link`]): netlink (Linux 4.12 and later), and the ioctls that every kernel has since
//! long before Linux 2.6.18, where this is the only door (spec/system.md 6.4 to 6.5, 7.2).
//!
//! A kernel that has no flags cannot ask for a flush: there every write is durable, on both nodes, before it is
//! complete. And its threads send their requests themselves, so somebody must always read them ([`deferred`]).
//!
//! Requests are served by the same [`Connection`](super::nbd_server) as those of an NBD server's clients.

mod deferred;
mod door;
mod ioctl;
mod link;
mod netlink;
mod service;

pub use door::{clean_device, NbdKernelDoor, NbdKernelDoorConfig};
pub use link::is_available;
