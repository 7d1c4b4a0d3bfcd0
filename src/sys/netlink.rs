//! Generic netlink: a request to a family of the kernel, and its answer. Native byte order, as the kernel has it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{recv, send, socket, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType};

/// Header of a netlink message (16 bytes) and of a generic one behind it (4 bytes).
const HEADER: usize = 20;
/// Type of the answer that says how it ended.
const ERROR: u16 = 2;
/// NLM_F_REQUEST | NLM_F_ACK.
const REQUEST_WITH_ACK: u16 = 1 | 4;
/// Set in the type of an attribute that holds others.
const NESTED: u16 = 0x8000;

/// The family that knows the others: its id, its request for one, and the attributes of that.
mod control {
    pub const ID: u16 = 0x10;
    pub const GET_FAMILY: u8 = 3;
    pub const FAMILY_ID: u16 = 1;
    pub const FAMILY_NAME: u16 = 2;
}

/// The attributes of a request.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// Appends a number of 32 bits.
    #[must_use]
    pub fn u32(self, kind: u16, value: u32) -> Attributes {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Appends a number of 64 bits.
    #[must_use]
    pub fn u64(self, kind: u16, value: u64) -> Attributes {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Appends a text; the kernel wants its end marked.
    #[must_use]
    pub fn text(self, kind: u16, value: &str) -> Attributes {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Appends an attribute that holds others.
    #[must_use]
    pub fn nested(self, kind: u16, inner: &Attributes) -> Attributes {
        self.bytes(kind | NESTED, &inner.0)
    }

    fn bytes(mut self, kind: u16, value: &[u8]) -> Attributes {
        let len = (4 + value.len()) as u16;
        self.0.extend(len.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }
}

/// The attributes of an answer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Answer(Vec<u8>);

impl Answer {
    /// The first attribute of this type.
    pub fn find(&self, wanted: u16) -> Option<&[u8]> {
        let mut rest = &self.0[..];
        while rest.len() >= 4 {
            let len = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
            let kind = u16::from_ne_bytes([rest[2], rest[3]]) & !NESTED;
            let value = rest.get(4..len)?;
            if kind == wanted {
                return Some(value);
            }
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        None
    }

    /// A number of 32 bits.
    pub fn u32(&self, wanted: u16) -> Option<u32> {
        self.find(wanted)?.try_into().ok().map(u32::from_ne_bytes)
    }

    /// A number of 16 bits.
    pub fn u16(&self, wanted: u16) -> Option<u16> {
        self.find(wanted)?.try_into().ok().map(u16::from_ne_bytes)
    }
}

/// A family of generic netlink, ready for requests.
#[derive(Debug)]
pub struct Family {
    socket: OwnedFd,
    id: u16,
    sequence: u32,
}

impl Family {
    /// The family of this name.
    ///
    /// # Errors
    /// ENOENT: the kernel has none, or not its module. Others: no generic netlink.
    pub fn find(name: &str) -> io::Result<Family> {
        let protocol = SockProtocol::NetlinkGeneric;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        let mut family = Family { socket, id: control::ID, sequence: 0 };
        let wanted = Attributes::default().text(control::FAMILY_NAME, name);
        let answer = family.request(control::GET_FAMILY, &wanted)?;
        family.id = answer.u16(control::FAMILY_ID).ok_or(Errno::ENOENT)?;
        Ok(family)
    }

    /// Sends a request and waits for its end. The answer is empty if there is none but that it worked.
    ///
    /// # Errors
    /// The kernel's answer, or the socket's error.
    pub fn request(&mut self, command: u8, attributes: &Attributes) -> io::Result<Answer> {
        self.sequence += 1;
        let message = encode(self.id, command, self.sequence, attributes);
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut answer = Answer::default();
        let mut buffer = vec![0; 16 << 10];
        loop {
            let len = match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(len) => len,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            for message in messages(&buffer[..len]).filter(|message| message.sequence == self.sequence) {
                if message.kind != ERROR {
                    answer = Answer(message.body.get(HEADER - 16..).unwrap_or_default().to_vec());
                    continue;
                }
                let code = message.body.get(..4).and_then(|code| code.try_into().ok());
                return match code.map_or(-libc::EIO, i32::from_ne_bytes) {
                    0 => Ok(answer),
                    code => Err(io::Error::from_raw_os_error(-code)),
                };
            }
        }
    }
}

fn encode(family: u16, command: u8, sequence: u32, attributes: &Attributes) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + attributes.0.len());
    message.extend(((HEADER + attributes.0.len()) as u32).to_ne_bytes());
    message.extend(family.to_ne_bytes());
    message.extend(REQUEST_WITH_ACK.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes()); // from: the kernel fills it in
    message.extend([command, 1, 0, 0]); // version 1
    message.extend(&attributes.0);
    message
}

/// A message of the kernel.
struct Message<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

/// The messages of a datagram.
fn messages(mut rest: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(rest.get(4..6)?.try_into().ok()?);
        let sequence = u32::from_ne_bytes(rest.get(8..12)?.try_into().ok()?);
        let body = rest.get(16..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, sequence, body })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_again() {
        let inner = Attributes::default().u32(1, 7);
        let all = Attributes::default().text(2, "nbd").nested(7, &inner).u64(9, 1 << 40).u32(3, 5);
        assert_eq!(all.0.len() % 4, 0);
        let answer = Answer(all.0);
        assert_eq!(answer.find(2), Some(&b"nbd\0"[..]));
        assert_eq!(answer.u32(3), Some(5));
        assert_eq!(Answer(answer.find(7).unwrap().to_vec()).u32(1), Some(7));
        assert_eq!(answer.find(8), None);
        for garbage in [&[1, 0][..], &[3, 0, 1, 0], &[255, 255, 1, 0, 9], &[0; 8]] {
            let _ = Answer(garbage.to_vec()).find(1);
        }
    }

    #[test]
    fn the_kernel_knows_its_controller_and_no_nonsense() {
        let Ok(mut control) = Family::find("nlctrl") else {
            println!("SKIPPED: no generic netlink");
            return;
        };
        assert_eq!(control.id, control::ID);
        let again = Attributes::default().text(control::FAMILY_NAME, "nlctrl");
        assert_eq!(
            control.request(control::GET_FAMILY, &again).unwrap().u16(control::FAMILY_ID),
            Some(control::ID)
        );
        let error = Family::find("no such family").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }
}
