//! One client: its requests go to the backend from the thread that reads them, its replies are sent by the threads
//! that complete them.
//!
//! A client that does not take its replies holds up nobody but itself: a completing thread never waits for the socket.
//! What the socket does not take at once is left to the connection's own sending thread, and what may be unanswered
//! or unsent at a time is bounded.

use std::collections::VecDeque;
use std::io::{self, BufReader, IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{recv, sendmsg, shutdown, MsgFlags, Shutdown};

use super::protocol::{command, command_flag, encode_reply, RequestHeader, REPLY_BYTES, REQUEST_BYTES};
use super::server::Export;
use super::MAX_PAYLOAD_BYTES;
use crate::export::request::{submit_in_pieces, Answer, Completion, CompletionSink, Operation, Request};
use crate::sys::buffer::Buffer;
use crate::sys::sync::{Condvar, Mutex, MutexGuard};

/// Requests of a client that may be unanswered or whose replies may be unsent.
const MAX_REQUESTS: usize = 256;
/// The same in bytes of payload. One request of the largest size is admitted in any case.
const MAX_BYTES: usize = 64 << 20;

/// A connection to a client, after the negotiation.
pub struct Connection {
    socket: Socket,
    /// What it uses.
    pub export: Arc<Export>,
    /// Who it is, for messages.
    pub client: String,
    state: Mutex<State>,
    /// The sender has work, or the connection ended.
    work: Condvar,
    /// A request was finished, or the connection ended.
    room: Condvar,
}

#[derive(Default)]
struct State {
    unsent: VecDeque<Reply>,
    /// The sending thread has taken a reply from the queue and is sending it.
    sending: bool,
    requests: usize,
    bytes: usize,
    ended: bool,
    /// Nobody waits for what the backend still has.
    abandoned: bool,
}

/// Data of a reply: the first bytes of a buffer.
type Piece = (Arc<Buffer>, usize);

/// A reply on its way.
struct Reply {
    header: [u8; REPLY_BYTES],
    data: Vec<Piece>,
    /// Bytes of the whole that the socket has taken.
    sent: usize,
    /// What it counts in [`State::bytes`].
    weight: usize,
}

impl Connection {
    /// A connection in transmission.
    pub fn new(socket: Socket, export: Arc<Export>, client: String) -> Arc<Connection> {
        Arc::new(Connection {
            socket,
            export,
            client,
            state: Mutex::new(State::default()),
            work: Condvar::new(),
            room: Condvar::new(),
        })
    }

    /// Its socket.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.0.as_fd()
    }

    /// Ends the connection: the threads that serve it return, replies are dropped.
    pub fn end(&self) {
        self.lock().ended = true;
        let _ = shutdown(self.socket.0.as_raw_fd(), Shutdown::Both);
        self.work.notify_all();
        self.room.notify_all();
    }

    /// As [`Connection::end`], and [`Connection::serve`] returns though the backend still has requests. Their answers
    /// go nowhere.
    pub fn abandon(&self) {
        self.lock().abandoned = true;
        self.end();
    }

    /// Serves requests until the client leaves. Returns when all its requests are completed.
    ///
    /// Fed by the socket; blocks in its reads, for room, and in the backend; wakes the sender.
    pub fn serve(self: &Arc<Connection>) {
        let mut reader = BufReader::with_capacity(16 << 10, &self.socket);
        loop {
            match self.next_request(&mut reader) {
                Ok(true) => {}
                Ok(false) => {
                    // A polite client waits for nothing more, but writes in progress are still written.
                    self.wait_until_idle();
                    break;
                }
                Err(error) => {
                    if error.kind() != io::ErrorKind::UnexpectedEof {
                        log::info!("NBD client {}: {error}", self.client);
                    }
                    break;
                }
            }
        }
        self.end();
        self.wait_until_idle();
    }

    /// Reads and submits one request. `false`: the client says goodbye.
    fn next_request(self: &Arc<Connection>, reader: &mut BufReader<&Socket>) -> io::Result<bool> {
        let mut header = [0; REQUEST_BYTES];
        reader.read_exact(&mut header)?;
        let header = RequestHeader::decode(&header)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "wrong request magic"))?;
        if header.command == command::DISCONNECT {
            return Ok(false);
        }
        let is_write = header.command == command::WRITE;
        if is_write && header.length > MAX_PAYLOAD_BYTES {
            // Its data would have to be read to get at the next request.
            return Err(io::Error::new(io::ErrorKind::InvalidData, "write too large"));
        }
        let carries_data = is_write || header.command == command::READ;
        let weight = if carries_data { header.length.min(MAX_PAYLOAD_BYTES) as usize } else { 0 };
        self.take_room(weight)?;
        let gathered = Gathered {
            connection: Arc::clone(self),
            cookie: header.cookie,
            data_bytes: if header.command == command::READ { header.length as usize } else { 0 },
            weight,
            pieces: Mutex::new(Pieces::default()),
        };
        // From here on the reply, whatever it is, gives the room back.
        let gathered = Arc::new(gathered);
        if is_write {
            let payload = self.read_payload(reader, header.length);
            if payload.is_err() {
                gathered.fail(Errno::EIO);
            }
            let payload = payload?;
            let alone = self.is_alone(reader);
            match self.check(&header) {
                Ok(()) => self.write(&header, payload, alone, &gathered),
                Err(errno) => gathered.fail(errno),
            }
            return Ok(true);
        }
        if let Err(errno) = self.check(&header) {
            gathered.fail(errno);
            return Ok(true);
        }
        let alone = self.is_alone(reader);
        let fua = header.flags & command_flag::FUA != 0;
        match header.command {
            command::READ => self.read(&header, alone, &gathered),
            command::FLUSH => self.export.backend.submit(Request {
                operation: Operation::Flush,
                offset: 0,
                len: 0,
                payload: None,
                fua: false,
                alone,
                done: gathered.piece(0),
            }),
            command::TRIM => self.spread(Operation::Discard, &header, fua, &gathered),
            command::WRITE_ZEROES if !self.export.limits.write_zeroes => {
                self.write_zeroes(&header, &gathered)
            }
            command::WRITE_ZEROES => {
                let unmap = header.flags & command_flag::NO_HOLE == 0;
                self.spread(Operation::WriteZeroes { unmap }, &header, fua, &gathered);
            }
            _ => gathered.fail(Errno::EINVAL),
        }
        Ok(true)
    }

    /// Whether the client waits for the request that was just read, and for nothing else: then this thread
    /// has nothing to read, and may serve it itself.
    fn is_alone(&self, reader: &BufReader<&Socket>) -> bool {
        reader.buffer().is_empty() && self.lock().requests == 1
    }

    /// Whether the export can do what is asked for.
    fn check(&self, header: &RequestHeader) -> Result<(), Errno> {
        let limits = &self.export.limits;
        let (changes, supported) = match header.command {
            command::READ => (false, header.length <= MAX_PAYLOAD_BYTES),
            command::FLUSH => return Ok(()),
            command::WRITE => (true, true),
            command::TRIM => (true, limits.discard),
            command::WRITE_ZEROES => (true, true),
            _ => (false, false),
        };
        if !supported {
            return Err(Errno::EINVAL);
        }
        if changes && limits.read_only {
            return Err(Errno::EPERM);
        }
        if header.offset % 512 != 0 || header.length % 512 != 0 {
            return Err(Errno::EINVAL);
        }
        match header.offset.checked_add(u64::from(header.length)) {
            Some(end) if end <= self.export.size_bytes() => Ok(()),
            _ if changes => Err(Errno::ENOSPC),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The data of a write, in buffers of what the backend takes at a time.
    fn read_payload(&self, reader: &mut BufReader<&Socket>, length: u32) -> io::Result<Vec<Buffer>> {
        let mut payload = Vec::new();
        for (_, len) in pieces(length, self.export.limits.max_io_bytes) {
            let mut buffer = Buffer::for_overwrite(len as usize);
            // What was read along with the header, and the rest into its place.
            let along = reader.buffer().len().min(buffer.len());
            reader.read_exact(&mut buffer[..along])?;
            reader.get_mut().read_exact(&mut buffer[along..])?;
            payload.push(buffer);
        }
        Ok(payload)
    }

    fn write(&self, header: &RequestHeader, payload: Vec<Buffer>, alone: bool, gathered: &Arc<Gathered>) {
        let alone = alone && payload.len() == 1;
        let mut offset = header.offset;
        for (index, buffer) in payload.into_iter().enumerate() {
            let len = buffer.len() as u32;
            self.export.backend.submit(Request {
                operation: Operation::Write,
                offset,
                len,
                payload: Some(Arc::new(buffer)),
                fua: header.flags & command_flag::FUA != 0,
                alone,
                done: gathered.piece(index),
            });
            offset += u64::from(len);
        }
    }

    /// Zeroes for a client that was not offered this. (Linux 6.12 does not take the offer of an earlier server back.)
    fn write_zeroes(&self, header: &RequestHeader, gathered: &Arc<Gathered>) {
        let piece_bytes = self.export.limits.max_io_bytes.max(512);
        let zeroes = Arc::new(Buffer::zeroed(header.length.min(piece_bytes) as usize));
        for (index, (start, len)) in pieces(header.length, piece_bytes).enumerate() {
            // One buffer for all but the last.
            let payload = match len as usize == zeroes.len() {
                true => Arc::clone(&zeroes),
                false => Arc::new(Buffer::zeroed(len as usize)),
            };
            self.export.backend.submit(Request {
                operation: Operation::Write,
                offset: header.offset + u64::from(start),
                len,
                payload: Some(payload),
                fua: header.flags & command_flag::FUA != 0,
                alone: false,
                done: gathered.piece(index),
            });
        }
    }

    fn read(&self, header: &RequestHeader, alone: bool, gathered: &Arc<Gathered>) {
        let alone = alone && header.length <= self.export.limits.max_io_bytes;
        for (index, (start, len)) in pieces(header.length, self.export.limits.max_io_bytes).enumerate() {
            self.export.backend.submit(Request {
                operation: Operation::Read,
                offset: header.offset + u64::from(start),
                len,
                payload: None,
                fua: false,
                alone,
                done: Completion::new(Arc::clone(gathered) as Arc<dyn CompletionSink>, index as u64, len),
            });
        }
    }

    fn spread(&self, operation: Operation, header: &RequestHeader, fua: bool, gathered: &Arc<Gathered>) {
        let piece_bytes = u64::from(self.export.limits.max_discard_bytes);
        let length = u64::from(header.length);
        let done = gathered.piece(0);
        submit_in_pieces(&*self.export.backend, operation, header.offset, length, piece_bytes, fua, done);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn take_room(&self, weight: usize) -> io::Result<()> {
        let mut state = self.lock();
        loop {
            if state.ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let full = state.requests >= MAX_REQUESTS || state.bytes + weight > MAX_BYTES;
            if !full || state.requests == 0 {
                state.requests += 1;
                state.bytes += weight;
                return Ok(());
            }
            state = self.room.wait(state);
        }
    }

    fn wait_until_idle(&self) {
        let mut state = self.lock();
        while state.requests > 0 && !state.abandoned {
            state = self.room.wait(state);
        }
    }

    /// Gives a request's room back.
    fn finish(&self, state: &mut State, weight: usize) {
        state.requests -= 1;
        state.bytes -= weight;
        self.room.notify_all();
    }

    /// Sends a reply as far as the socket takes it now, and leaves the rest to the sender.
    fn reply(&self, mut reply: Reply) {
        let mut state = self.lock();
        if state.ended {
            return self.finish(&mut state, reply.weight);
        }
        if state.unsent.is_empty() && !state.sending {
            match reply.send(&self.socket, MsgFlags::MSG_DONTWAIT) {
                Ok(()) => return self.finish(&mut state, reply.weight),
                Err(Errno::EAGAIN) => {}
                Err(_) => {
                    self.finish(&mut state, reply.weight);
                    drop(state);
                    return self.end();
                }
            }
        }
        state.unsent.push_back(reply);
        self.work.notify_one();
    }

    /// Sends what the completing threads could not, until the connection ends.
    ///
    /// Fed by them; blocks in the send; wakes the reader when there is room again.
    pub fn send_replies(&self) {
        let mut state = self.lock();
        loop {
            if state.ended {
                while let Some(reply) = state.unsent.pop_front() {
                    self.finish(&mut state, reply.weight);
                }
                return;
            }
            let Some(mut reply) = state.unsent.pop_front() else {
                state = self.work.wait(state);
                continue;
            };
            state.sending = true;
            drop(state);
            let result = reply.send(&self.socket, MsgFlags::empty());
            if result.is_err() {
                self.end();
            }
            state = self.lock();
            state.sending = false;
            self.finish(&mut state, reply.weight);
        }
    }
}

impl Reply {
    /// Sends what is left of it.
    ///
    /// # Errors
    /// EAGAIN with `MSG_DONTWAIT`: the rest must follow later. Others: the connection is gone.
    fn send(&mut self, socket: &Socket, flags: MsgFlags) -> Result<(), Errno> {
        const PARTS: usize = 8;
        loop {
            let mut slices = [IoSlice::new(&[]); PARTS];
            let mut used = 0;
            let mut skip = self.sent;
            let data = self.data.iter().map(|(buffer, len)| &buffer[..*len]);
            for part in std::iter::once(&self.header[..]).chain(data) {
                if skip >= part.len() {
                    skip -= part.len();
                    continue;
                }
                if used < PARTS {
                    slices[used] = IoSlice::new(&part[skip..]);
                    used += 1;
                }
                skip = 0;
            }
            if used == 0 {
                return Ok(());
            }
            let flags = flags | MsgFlags::MSG_NOSIGNAL;
            match sendmsg::<()>(socket.0.as_raw_fd(), &slices[..used], &[], flags, None) {
                Ok(sent) => self.sent += sent,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// The pieces of one request; the last one to go sends the reply.
struct Gathered {
    connection: Arc<Connection>,
    cookie: u64,
    /// What a reply without error carries.
    data_bytes: usize,
    weight: usize,
    pieces: Mutex<Pieces>,
}

#[derive(Default)]
struct Pieces {
    data: Vec<Option<Piece>>,
    error: Option<Errno>,
}

impl Gathered {
    fn piece(self: &Arc<Gathered>, index: usize) -> Completion {
        Completion::new(Arc::clone(self) as Arc<dyn CompletionSink>, index as u64, 0)
    }

    fn fail(&self, errno: Errno) {
        self.pieces.lock().error = Some(errno);
    }
}

impl CompletionSink for Gathered {
    fn complete(&self, token: u64, len: u32, answer: Answer) {
        let index = token as usize;
        let mut pieces = self.pieces.lock();
        match answer {
            Ok(Some(buffer)) if len > 0 && buffer.len() >= len as usize => {
                if pieces.data.len() <= index {
                    pieces.data.resize(index + 1, None);
                }
                pieces.data[index] = Some((buffer, len as usize));
            }
            Ok(_) if len == 0 => {}
            Ok(_) => pieces.error = Some(Errno::EIO),
            Err(errno) => pieces.error = Some(errno),
        }
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        let pieces = self.pieces.get_mut();
        let mut data: Vec<Piece> = pieces.data.drain(..).flatten().collect();
        let complete = data.iter().map(|(_, len)| len).sum::<usize>() == self.data_bytes;
        let result = match pieces.error {
            Some(errno) => Err(errno),
            None if complete => Ok(()),
            None => Err(Errno::EIO),
        };
        if result.is_err() {
            data.clear();
        }
        self.connection.reply(Reply {
            header: encode_reply(self.cookie, result),
            data,
            sent: 0,
            weight: self.weight,
        });
    }
}

/// Start and length of the pieces of a range.
fn pieces(length: u32, piece_bytes: u32) -> impl Iterator<Item = (u32, u32)> {
    let piece_bytes = piece_bytes.max(512);
    (0..length.div_ceil(piece_bytes)).map(move |index| {
        let start = index * piece_bytes;
        (start, piece_bytes.min(length - start))
    })
}

/// A connected socket, Unix or TCP.
#[derive(Debug)]
pub struct Socket(pub OwnedFd);

impl Read for &Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0.as_raw_fd(), into, MsgFlags::empty())?)
    }

    /// In one call, though it comes in pieces: the kernel's client sends page by page.
    fn read_exact(&mut self, mut into: &mut [u8]) -> io::Result<()> {
        while !into.is_empty() {
            match recv(self.0.as_raw_fd(), into, MsgFlags::MSG_WAITALL) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => into = &mut into[len..],
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}
