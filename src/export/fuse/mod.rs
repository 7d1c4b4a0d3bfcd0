//! One file, served by FUSE: what a loop device is put on.
//!
//! The file system exists for this one file. It is mounted for a moment, the file is opened, and the mount is taken off
//! its directory at once: the open file keeps it alive. So no other program ever finds it, nothing is left in the mount
//! table when the program dies, and the file system ends with the last use of the file.
//!
//! Several threads read requests from /dev/fuse, each through a descriptor of its own. The thread that read a request
//! hands it to the [`Backend`](super::request::Backend) itself; the thread that completes it writes the reply.

mod channel;
mod protocol;
mod serve;
mod session;

pub use session::{clean_mount_point, Session};
