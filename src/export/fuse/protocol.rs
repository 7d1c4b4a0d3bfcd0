//! The messages of /dev/fuse, protocol 7, as far as one file needs them. All fields are in the host's byte order.
//!
//! A request is a header of [`HEADER_BYTES`] and arguments that depend on its kind. A write's arguments end at
//! [`HEAD_BYTES`], where its data begins; the arguments of all other kinds of interest end there or before.

/// Length of a request's header: len 0..4, opcode 4..8, unique 8..16, node 16..24, uid, gid, pid, extension, padding.
pub const HEADER_BYTES: usize = 40;
/// Length of the header and arguments of a write; its data follows.
pub const HEAD_BYTES: usize = HEADER_BYTES + 40;
/// The kernel's own minimum for the length of a read from /dev/fuse.
pub const MIN_READ_BYTES: usize = 8192;

/// Node number of the root directory.
pub const ROOT: u64 = 1;
/// Node number of the file.
pub const FILE: u64 = 2;

const MAJOR: u32 = 7;
const MINOR: u32 = 31;
/// Older kernels have shorter answers to a look-up; 7.9 came with Linux 2.6.24.
const OLDEST_MINOR: u32 = 9;

const ASYNC_READ: u32 = 1 << 0;
const BIG_WRITES: u32 = 1 << 5;
const ASYNC_DIO: u32 = 1 << 15;
const MAX_PAGES: u32 = 1 << 22;

const FOPEN_DIRECT_IO: u32 = 1 << 0;
const FOPEN_NOFLUSH: u32 = 1 << 5;
const FOPEN_PARALLEL_DIRECT_WRITES: u32 = 1 << 6;

const FALLOC_FL_PUNCH_HOLE: u32 = 0x02;
const FALLOC_FL_ZERO_RANGE: u32 = 0x10;

/// What the kernel asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call<'a> {
    /// First message of a connection.
    Init { major: u32, minor: u32, max_readahead: u32, flags: u32 },
    /// Find a name in a directory.
    Lookup { parent: u64, name: &'a [u8] },
    /// Attributes of a node.
    GetAttr { node: u64 },
    /// Open a file.
    Open { node: u64 },
    /// Read from the file.
    Read { offset: u64, size: u32 },
    /// Write to the file; the data follows the head.
    Write { offset: u64, size: u32 },
    /// Make the file durable.
    Fsync,
    /// Make a range read as zeroes, with or without giving its space back.
    Zero { offset: u64, length: u64, unmap: bool },
    /// Figures of the file system.
    StatFs,
    /// Done without any action: release, destroy.
    Nothing,
    /// Has no reply: forget, interrupt.
    Silent,
    /// Not supported.
    Other { opcode: u32 },
}

/// A request: its number and what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Number that the reply carries.
    pub unique: u64,
    /// What it asks for.
    pub call: Call<'a>,
}

impl<'a> Message<'a> {
    /// Reads a request from `head`, its first [`HEAD_BYTES`]; `got` is the number of bytes received in all.
    /// `None` if it is cut short or longer than what its kind can be.
    pub fn parse(head: &'a [u8; HEAD_BYTES], got: usize) -> Option<Message<'a>> {
        if got < HEADER_BYTES || u32_at(head, 0) as usize != got {
            return None;
        }
        let present = &head[..got.min(HEAD_BYTES)];
        let has = |bytes: usize| (got >= HEADER_BYTES + bytes).then_some(());
        let node = u64_at(head, 16);
        let call = match u32_at(head, 4) {
            1 => Call::Lookup { parent: node, name: name(&present[HEADER_BYTES..]) },
            2 | 36 | 42 => Call::Silent,
            3 => Call::GetAttr { node },
            14 => Call::Open { node },
            15 => {
                has(24)?;
                Call::Read { offset: u64_at(head, 48), size: u32_at(head, 56) }
            }
            16 => {
                let size = u32_at(head, 56);
                if got != HEAD_BYTES + size as usize {
                    return None;
                }
                Call::Write { offset: u64_at(head, 48), size }
            }
            17 => Call::StatFs,
            18 | 38 => Call::Nothing,
            20 => Call::Fsync,
            26 => {
                has(16)?;
                Call::Init {
                    major: u32_at(head, 40),
                    minor: u32_at(head, 44),
                    max_readahead: u32_at(head, 48),
                    flags: u32_at(head, 52),
                }
            }
            43 => {
                has(28)?;
                let mode = u32_at(head, 64);
                if mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE) == 0 {
                    Call::Other { opcode: 43 }
                } else {
                    Call::Zero {
                        offset: u64_at(head, 48),
                        length: u64_at(head, 56),
                        unmap: mode & FALLOC_FL_PUNCH_HOLE != 0,
                    }
                }
            }
            opcode => Call::Other { opcode },
        };
        Some(Message { unique: u64_at(head, 8), call })
    }
}

/// The name in the arguments of a look-up, up to its zero byte. One that is cut off here is longer than our file's.
fn name(arguments: &[u8]) -> &[u8] {
    let end = arguments.iter().position(|byte| *byte == 0).unwrap_or(arguments.len());
    &arguments[..end]
}

/// The header of a reply that has `body` bytes behind it. `errno` is positive or 0.
pub fn reply_header(unique: u64, errno: i32, body: usize) -> [u8; 16] {
    let mut header = [0; 16];
    put(&mut header, 0, &(16 + body as u32).to_ne_bytes());
    put(&mut header, 4, &(-errno).to_ne_bytes());
    put(&mut header, 8, &unique.to_ne_bytes());
    header
}

/// The answer to [`Call::Init`]; `None` if the kernel's protocol is too old.
pub fn init_reply(
    major: u32,
    minor: u32,
    max_readahead: u32,
    flags: u32,
    max_io_bytes: u32,
) -> Option<Vec<u8>> {
    if major < MAJOR || (major == MAJOR && minor < OLDEST_MINOR) {
        return None;
    }
    let mut reply = vec![0; if major == MAJOR && minor < 23 { 24 } else { 64 }];
    put(&mut reply, 0, &MAJOR.to_ne_bytes());
    put(&mut reply, 4, &MINOR.to_ne_bytes());
    put(&mut reply, 8, &max_readahead.to_ne_bytes());
    let wanted = ASYNC_READ | BIG_WRITES | ASYNC_DIO | MAX_PAGES;
    put(&mut reply, 12, &(flags & wanted).to_ne_bytes());
    // Requests of asynchronous direct I/O count as background requests; the kernel's own limit of 12 would cap the
    // queue depth. A loop device has 128 requests, which may be split.
    put(&mut reply, 16, &1024u16.to_ne_bytes());
    put(&mut reply, 18, &1024u16.to_ne_bytes());
    put(&mut reply, 20, &max_io_bytes.to_ne_bytes());
    if reply.len() == 64 {
        put(&mut reply, 24, &1u32.to_ne_bytes());
        put(&mut reply, 28, &((max_io_bytes / 4096).max(1) as u16).to_ne_bytes());
    }
    Some(reply)
}

/// The answer to [`Call::Lookup`] of the file. Nothing may be cached: the size can change.
pub fn entry_reply(size: u64) -> [u8; 128] {
    let mut reply = [0; 128];
    put(&mut reply, 0, &FILE.to_ne_bytes());
    put(&mut reply, 40, &attributes(FILE, size));
    reply
}

/// The answer to [`Call::GetAttr`].
pub fn attributes_reply(node: u64, size: u64) -> [u8; 104] {
    let mut reply = [0; 104];
    put(&mut reply, 16, &attributes(node, size));
    reply
}

fn attributes(node: u64, size: u64) -> [u8; 88] {
    let (mode, size) = if node == ROOT { (0o040_700u32, 0) } else { (0o100_600u32, size) };
    let mut attributes = [0; 88];
    put(&mut attributes, 0, &node.to_ne_bytes());
    put(&mut attributes, 8, &size.to_ne_bytes());
    put(&mut attributes, 16, &(size / 512).to_ne_bytes());
    put(&mut attributes, 60, &mode.to_ne_bytes());
    put(&mut attributes, 64, &1u32.to_ne_bytes());
    put(&mut attributes, 80, &4096u32.to_ne_bytes());
    attributes
}

/// The answer to [`Call::Open`]: no page cache of the file's own, writes side by side, no call at close.
pub fn open_reply() -> [u8; 16] {
    let mut reply = [0; 16];
    let flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES | FOPEN_NOFLUSH;
    put(&mut reply, 8, &flags.to_ne_bytes());
    reply
}

/// The answer to [`Call::Write`].
pub fn write_reply(size: u32) -> [u8; 8] {
    let mut reply = [0; 8];
    put(&mut reply, 0, &size.to_ne_bytes());
    reply
}

/// The answer to [`Call::StatFs`]. The block size becomes the discard granularity of the loop device.
pub fn statfs_reply(size: u64) -> [u8; 80] {
    let mut reply = [0; 80];
    put(&mut reply, 0, &(size / 4096).to_ne_bytes());
    put(&mut reply, 24, &1u64.to_ne_bytes());
    put(&mut reply, 40, &4096u32.to_ne_bytes());
    put(&mut reply, 44, &255u32.to_ne_bytes());
    put(&mut reply, 48, &4096u32.to_ne_bytes());
    reply
}

fn put(into: &mut [u8], at: usize, bytes: &[u8]) {
    into[at..at + bytes.len()].copy_from_slice(bytes);
}

fn u32_at(bytes: &[u8; HEAD_BYTES], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_ne_bytes(field)
}

fn u64_at(bytes: &[u8; HEAD_BYTES], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(opcode: u32, arguments: &[u8], len: usize) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        put(&mut head, 0, &(len as u32).to_ne_bytes());
        put(&mut head, 4, &opcode.to_ne_bytes());
        put(&mut head, 8, &77u64.to_ne_bytes());
        put(&mut head, 16, &1u64.to_ne_bytes());
        put(&mut head, HEADER_BYTES, arguments);
        head
    }

    #[test]
    fn a_write_is_recognised_only_with_all_its_data() {
        let mut arguments = [0; 40];
        put(&mut arguments, 8, &4096u64.to_ne_bytes());
        put(&mut arguments, 16, &512u32.to_ne_bytes());
        let head = message(16, &arguments, 80 + 512);
        let parsed = Message::parse(&head, 80 + 512).unwrap();
        assert_eq!(parsed, Message { unique: 77, call: Call::Write { offset: 4096, size: 512 } });
        assert_eq!(Message::parse(&head, 80 + 511), None);
        assert_eq!(Message::parse(&message(16, &arguments, 80 + 511), 80 + 511), None);
    }

    #[test]
    fn a_lookup_carries_the_name() {
        let head = message(1, b"drbd0\0", 46);
        assert_eq!(Message::parse(&head, 46).unwrap().call, Call::Lookup { parent: 1, name: b"drbd0" });
    }

    #[test]
    fn punching_a_hole_gives_zeroes() {
        let mut arguments = [0; 32];
        put(&mut arguments, 8, &8192u64.to_ne_bytes());
        put(&mut arguments, 16, &4096u64.to_ne_bytes());
        put(&mut arguments, 24, &3u32.to_ne_bytes());
        let head = message(43, &arguments, 72);
        let call = Message::parse(&head, 72).unwrap().call;
        assert_eq!(call, Call::Zero { offset: 8192, length: 4096, unmap: true });
        put(&mut arguments, 24, &0u32.to_ne_bytes());
        let head = message(43, &arguments, 72);
        let call = Message::parse(&head, 72).unwrap().call;
        assert_eq!(call, Call::Other { opcode: 43 });
    }

    #[test]
    fn the_answer_to_init_has_the_length_that_the_kernel_expects() {
        assert_eq!(init_reply(7, 45, 131_072, u32::MAX, 1 << 20).unwrap().len(), 64);
        assert_eq!(init_reply(7, 13, 131_072, u32::MAX, 1 << 20).unwrap().len(), 24);
        assert_eq!(init_reply(7, 8, 131_072, 0, 1 << 20), None);
    }

    proptest! {
        #[test]
        fn no_message_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), HEAD_BYTES), got in 0usize..2_000_000) {
            let mut head = [0; HEAD_BYTES];
            head.copy_from_slice(&bytes);
            let _ = Message::parse(&head, got);
            put(&mut head, 0, &(got as u32).to_ne_bytes());
            for opcode in 0..64u32 {
                put(&mut head, 4, &opcode.to_ne_bytes());
                let _ = Message::parse(&head, got);
            }
        }
    }
}
