//! A descriptor of /dev/fuse: requests are read from it, and their replies written to the same one.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::stat::SFlag;

use super::protocol::{reply_header, write_reply, HEAD_BYTES};
use crate::export::door::DeviceNumber;
use crate::export::kernel_device::open_node;
use crate::export::request::{Answer, CompletionSink};

const FUSE: DeviceNumber = DeviceNumber { major: 10, minor: 229 };
/// _IOR(229, 0, uint32_t)
const FUSE_DEV_IOC_CLONE: u32 = 0x8004_e500;

/// One descriptor of /dev/fuse.
#[derive(Debug)]
pub struct Channel {
    device: File,
}

impl Channel {
    /// Opens /dev/fuse. `scratch` is a directory for device nodes.
    ///
    /// # Errors
    /// No such driver, no privilege.
    pub fn open(scratch: &Path) -> io::Result<Channel> {
        let device = open_node(Path::new("/dev/fuse"), SFlag::S_IFCHR, FUSE, true, 0, scratch)?;
        set_blocking(&device)?;
        Ok(Channel { device })
    }

    /// A second channel to the same file system. Where the kernel cannot do that (before 4.2), the same descriptor.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn another(&self, scratch: &Path) -> io::Result<Channel> {
        let other = Channel::open(scratch)?;
        let own = self.device.as_raw_fd() as u32;
        // SAFETY: the ioctl reads one u32 at the address.
        #[allow(unsafe_code)]
        let result = unsafe {
            libc::ioctl(other.device.as_raw_fd(), FUSE_DEV_IOC_CLONE as _, std::ptr::addr_of!(own))
        };
        if result == 0 {
            return Ok(other);
        }
        Ok(Channel { device: self.device.try_clone()? })
    }

    /// The number of the descriptor, for the mount options.
    pub fn descriptor(&self) -> i32 {
        self.device.as_raw_fd()
    }

    /// Waits for a request; `head` gets its first bytes, `data` the rest. Returns the length.
    ///
    /// # Errors
    /// ENODEV: the file system is gone. EINTR, ENOENT, EAGAIN: read again.
    pub fn receive(&self, head: &mut [u8; HEAD_BYTES], data: &mut [u8]) -> io::Result<usize> {
        (&self.device).read_vectored(&mut [IoSliceMut::new(head), IoSliceMut::new(data)])
    }

    /// Answers a request with `body`, or with an error and no body.
    pub fn reply(&self, unique: u64, result: Result<&[u8], Errno>) {
        let (errno, body) = match result {
            Ok(body) => (0, body),
            Err(errno) => (errno as i32, &[][..]),
        };
        let header = reply_header(unique, errno, body.len());
        loop {
            match (&self.device).write_vectored(&[IoSlice::new(&header), IoSlice::new(body)]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // ENOENT: the request was aborted meanwhile. ENODEV, EPERM: the file system is gone. Nobody waits.
                Err(_) | Ok(_) => return,
            }
        }
    }

    /// Takes the descriptor away from the file system, although other threads may be using it. Once all channels of a
    /// file system are disconnected, the kernel fails its requests.
    pub fn disconnect(&self) -> io::Result<()> {
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        // SAFETY: both descriptors are open and ours. The number stays valid: it only leads elsewhere.
        #[allow(unsafe_code)]
        let result = unsafe { libc::dup3(null.as_raw_fd(), self.device.as_raw_fd(), libc::O_CLOEXEC) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// Completions of everything but reads: `token` is the request's number, `len` what a write wrote, 0 for the rest.
impl CompletionSink for Channel {
    fn complete(&self, token: u64, len: u32, answer: Answer) {
        match answer {
            Ok(_) if len == 0 => self.reply(token, Ok(&[])),
            Ok(_) => self.reply(token, Ok(&write_reply(len))),
            Err(errno) => self.reply(token, Err(errno)),
        }
    }
}

/// Completions of reads.
pub struct ReadReplies(pub Arc<Channel>);

impl CompletionSink for ReadReplies {
    fn complete(&self, token: u64, len: u32, answer: Answer) {
        match &answer {
            Ok(buffer) => {
                let data = buffer.as_ref().and_then(|buffer| buffer.get(..len as usize));
                self.0.reply(token, data.ok_or(Errno::EIO));
            }
            Err(errno) => self.0.reply(token, Err(*errno)),
        }
    }
}

fn set_blocking(file: &File) -> io::Result<()> {
    use nix::fcntl::{fcntl, FcntlArg, OFlag};
    let flags = OFlag::from_bits_truncate(fcntl(file, FcntlArg::F_GETFL)?);
    fcntl(file, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(())
}
