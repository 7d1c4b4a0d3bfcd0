//! The door nbd: /dev/drbdN is the kernel's NBD client on one end of a socket pair; this program serves the other.
//!
//! Two ways to tell the kernel ([`link`]): netlink (Linux 4.12 and later), and the ioctls that every kernel has since
//! long before Linux 2.6.18, where this is the only door (spec/system.md 6.4 to 6.5, 7.2).
//!
//! A kernel that has no flags cannot ask for a flush: there every write is durable, on both nodes, before it is
//! complete. And its threads send their requests themselves, so somebody must always read them ([`deferred`]).
//!
//! The kernel keeps a device made by netlink, with the requests that wait, for a while after the death of the daemon that
//! served it. One that is started again goes on with it if the data are still those that its users know
//! ([`Door::adopt`](super::door::Door::adopt)); else it takes it away. A device made by ioctl goes with its daemon.
//!
//! Requests are served by the same [`Connection`](super::nbd_server) as those of an NBD server's clients.

mod deferred;
mod door;
mod ioctl;
mod link;
mod netlink;
mod service;

pub use door::{NbdKernelDoor, NbdKernelDoorConfig};
pub use link::{is_available, Orphan};
