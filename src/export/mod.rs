//! Doors: how an application gets a block device.
//!
//! A [`door::Door`] takes an application's requests and hands them to a [`request::Backend`] (the engine).
//! Requests are answered through [`request::Completion`], in any order, on any thread.
//!
//! | door | what the application sees |
//! |---|---|
//! | [`loop_door`] | /dev/drbdN, a loop device on a file that this program serves by FUSE |
//! | [`nbd_kernel`] | /dev/drbdN, an NBD device of the kernel whose server this program is |
//! | [`nbd_server`] | an NBD export on a Unix or TCP socket |

pub mod door;
pub mod fuse;
pub mod holders;
pub mod kernel_device;
pub mod loop_device;
pub mod loop_door;
pub mod nbd_kernel;
pub mod nbd_server;
pub mod node;
pub mod place;
pub mod predecessor;
pub mod ram;
pub mod request;
