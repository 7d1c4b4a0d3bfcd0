//! The loop of a thread that serves the file.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;

use nix::errno::Errno;

use super::channel::{Channel, ReadReplies};
use super::protocol::{self, Call, Message, HEAD_BYTES, MIN_READ_BYTES};
use crate::export::request::{
    submit_in_pieces, Backend, Completion, CompletionSink, Limits, Operation, Request,
};
use crate::sys::buffer::Buffer;

/// Data of up to this length is copied into a buffer of its own size; of longer writes the whole buffer, which has room
/// for the longest, goes on, and the thread takes another.
const COPIED_BYTES: usize = 64 << 10;

/// What the threads of a file share.
pub struct Served {
    /// Who answers.
    pub backend: Arc<dyn Backend>,
    /// What the backend could do when the file was made.
    pub limits: Limits,
    /// Name of the file.
    pub name: String,
    /// Its size in bytes.
    pub size_bytes: AtomicU64,
    /// Flushes reach the backend.
    pub admitted: AtomicBool,
    /// The threads are to end.
    pub stopping: AtomicBool,
}

impl Served {
    /// Checks a range in bytes: whole sectors, inside the device.
    fn check(&self, offset: u64, length: u64) -> Result<(), Errno> {
        if offset % 512 != 0 || length % 512 != 0 {
            return Err(Errno::EINVAL);
        }
        match offset.checked_add(length) {
            Some(end) if end <= self.size_bytes.load(Ordering::Acquire) => Ok(()),
            _ => Err(Errno::ENOSPC),
        }
    }

    fn max_io_bytes(&self) -> usize {
        self.limits.max_io_bytes as usize
    }
}

/// Serves requests from `channel` until the file system is gone or the file is stopped.
///
/// Fed by the kernel; blocks in the read from /dev/fuse and in [`Backend::submit`]; wakes nobody but the kernel.
pub fn serve(served: &Arc<Served>, channel: &Arc<Channel>) {
    let thread = Thread {
        served,
        channel,
        replies: Arc::clone(channel) as Arc<dyn CompletionSink>,
        reads: Arc::new(ReadReplies(Arc::clone(channel))),
    };
    let mut head = [0; HEAD_BYTES];
    let data_bytes = served.max_io_bytes().max(MIN_READ_BYTES);
    let mut data = Buffer::for_overwrite(data_bytes);
    while !served.stopping.load(Ordering::Acquire) {
        let got = match channel.receive(&mut head, &mut data) {
            Ok(0) => return,
            Ok(got) => got,
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN | libc::ENOENT) => continue,
                Some(libc::ENODEV) => return,
                _ => {
                    log::error!("{}: /dev/fuse: {error}", served.name);
                    return;
                }
            },
        };
        match Message::parse(&head, got) {
            Some(Message { unique, call: Call::Write { offset, size } }) => {
                let len = size as usize;
                let payload = if len <= COPIED_BYTES {
                    Buffer::from_bytes(&data[..len])
                } else {
                    let mut payload = std::mem::replace(&mut data, Buffer::for_overwrite(data_bytes));
                    payload.truncate(len);
                    payload
                };
                thread.write(unique, offset, size, payload);
            }
            Some(message) => thread.answer(message),
            None => log::error!("{}: /dev/fuse: malformed request of {got} bytes", served.name),
        }
    }
}

struct Thread<'a> {
    served: &'a Arc<Served>,
    channel: &'a Arc<Channel>,
    replies: Arc<dyn CompletionSink>,
    reads: Arc<dyn CompletionSink>,
}

impl Thread<'_> {
    fn write(&self, unique: u64, offset: u64, size: u32, payload: Buffer) {
        if self.served.limits.read_only {
            return self.channel.reply(unique, Err(Errno::EROFS));
        }
        if let Err(errno) = self.served.check(offset, u64::from(size)) {
            return self.channel.reply(unique, Err(errno));
        }
        self.served.backend.submit(Request {
            operation: Operation::Write,
            offset,
            len: size,
            payload: Some(Arc::new(payload)),
            fua: false, // the block layer turns FUA into a flush: a loop device has none
            alone: true,
            done: Completion::new(Arc::clone(&self.replies), unique, size),
        });
    }

    fn answer(&self, message: Message<'_>) {
        let unique = message.unique;
        let size = self.served.size_bytes.load(Ordering::Acquire);
        match message.call {
            Call::Read { offset, size } => match self.served.check(offset, u64::from(size)) {
                Ok(()) => self.served.backend.submit(Request {
                    operation: Operation::Read,
                    offset,
                    len: size,
                    payload: None,
                    fua: false,
                    alone: true,
                    done: Completion::new(Arc::clone(&self.reads), unique, size),
                }),
                Err(errno) => self.channel.reply(unique, Err(errno)),
            },
            Call::Fsync if !self.served.admitted.load(Ordering::Acquire) => {
                self.channel.reply(unique, Ok(&[]));
            }
            Call::Fsync => self.served.backend.submit(Request {
                operation: Operation::Flush,
                offset: 0,
                len: 0,
                payload: None,
                fua: false,
                alone: true,
                done: Completion::new(Arc::clone(&self.replies), unique, 0),
            }),
            Call::Zero { offset, length, unmap } => self.zero(unique, offset, length, unmap),
            Call::GetAttr { node } => {
                self.channel.reply(unique, Ok(&protocol::attributes_reply(node, size)));
            }
            Call::Lookup { parent: protocol::ROOT, name } if name == self.served.name.as_bytes() => {
                self.channel.reply(unique, Ok(&protocol::entry_reply(size)));
            }
            Call::Lookup { .. } => self.channel.reply(unique, Err(Errno::ENOENT)),
            Call::Open { node: protocol::FILE } => {
                self.channel.reply(unique, Ok(&protocol::open_reply()));
            }
            Call::Open { .. } => self.channel.reply(unique, Err(Errno::EISDIR)),
            Call::StatFs => self.channel.reply(unique, Ok(&protocol::statfs_reply(size))),
            Call::Init { major, minor, max_readahead, flags } => {
                let max_io_bytes = self.served.limits.max_io_bytes;
                match protocol::init_reply(major, minor, max_readahead, flags, max_io_bytes) {
                    Some(reply) => self.channel.reply(unique, Ok(&reply)),
                    None => self.channel.reply(unique, Err(Errno::EPROTO)),
                }
            }
            Call::Nothing => self.channel.reply(unique, Ok(&[])),
            Call::Silent => {}
            Call::Other { .. } | Call::Write { .. } => self.channel.reply(unique, Err(Errno::ENOSYS)),
        }
    }

    /// Hands a write-zeroes on, in pieces that the backend takes.
    fn zero(&self, unique: u64, offset: u64, length: u64, unmap: bool) {
        if !self.served.limits.write_zeroes {
            // The kernel takes this for the whole file system: from now on it writes zeroes itself.
            return self.channel.reply(unique, Err(Errno::ENOSYS));
        }
        if self.served.limits.read_only {
            return self.channel.reply(unique, Err(Errno::EROFS));
        }
        if let Err(errno) = self.served.check(offset, length) {
            return self.channel.reply(unique, Err(errno));
        }
        let whole = Completion::new(Arc::clone(&self.replies), unique, 0);
        submit_in_pieces(
            &*self.served.backend,
            Operation::WriteZeroes { unmap },
            offset,
            length,
            u64::from(self.served.limits.max_discard_bytes),
            false,
            whole,
        );
    }
}
