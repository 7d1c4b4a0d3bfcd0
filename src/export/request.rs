//! One request of an application, and the way its answer returns to the door it came through.

use std::fmt;
use std::sync::Arc;

use nix::errno::Errno;

use crate::sys::buffer::Buffer;
use crate::sys::sync::Mutex;

/// What serves the requests of a device: the engine, or memory in tests.
///
/// Every method may be called from any thread of a door, and from several at a time.
pub trait Backend: Send + Sync {
    /// Size of the device in bytes, a multiple of 512.
    fn size_bytes(&self) -> u64;

    /// What the device can do besides reading, writing and flushing. Read once per attachment.
    fn limits(&self) -> Limits {
        Limits::default()
    }

    /// The generation of the data, by which a daemon that is started again knows them. `None`: it cannot tell.
    fn generation(&self) -> Option<u64> {
        None
    }

    /// Starts a request. It may block (back pressure, frozen I/O); it then holds up one thread of the door, and only
    /// that. `request.done` may be called before `submit` returns, or later on any thread.
    ///
    /// The door has checked the range: it lies inside [`Backend::size_bytes`] as it was at attachment or at the last
    /// resize, and it consists of whole sectors of 512 bytes.
    fn submit(&self, request: Request);
}

/// What a backend can do, and how much at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest read or write in bytes: a power of two from 4096 to 1 MiB. A door passes on nothing larger.
    pub max_io_bytes: u32,
    /// Discard is done, not just accepted. Without it the device does not advertise it.
    pub discard: bool,
    /// [`Operation::WriteZeroes`] is faster than writing zeroes. Without it the kernel writes zeroes itself.
    pub write_zeroes: bool,
    /// Largest discard or write-zeroes in bytes, at least 4096. Larger ones are split by the door.
    pub max_discard_bytes: u32,
    /// The device refuses writes.
    pub read_only: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_io_bytes: 1 << 20,
            discard: false,
            write_zeroes: false,
            max_discard_bytes: 1 << 30,
            read_only: false,
        }
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Read `len` bytes.
    Read,
    /// Write the payload.
    Write,
    /// Make all writes that were completed before durable. Offset and length are 0.
    Flush,
    /// The content of the range is no longer needed; what a later read returns is undefined.
    Discard,
    /// Reads of the range return zeroes from now on.
    WriteZeroes {
        /// The space may be given back (a discard that leaves zeroes is enough).
        unmap: bool,
    },
}

/// One request, as a door hands it to a [`Backend`].
#[derive(Debug)]
pub struct Request {
    /// What is to be done.
    pub operation: Operation,
    /// Start of the range in bytes, a multiple of 512.
    pub offset: u64,
    /// Length of the range in bytes, a multiple of 512.
    pub len: u32,
    /// The bytes to write, exactly `len` of them; `None` for everything but [`Operation::Write`].
    pub payload: Option<Arc<Buffer>>,
    /// The change must be durable when it completes (force unit access).
    pub fua: bool,
    /// The door's thread that brings it has nothing else to do: the backend may serve it in this thread.
    pub alone: bool,
    /// Takes the answer.
    pub done: Completion,
}

/// The answer to a request: for a read a buffer whose first `len` bytes are the data, else `None`; or an error.
pub type Answer = Result<Option<Arc<Buffer>>, Errno>;

/// What receives answers: a door's channel. `token` and `len` are those given to [`Completion::new`].
pub trait CompletionSink: Send + Sync {
    /// Takes the answer to one request. Called exactly once per [`Completion`]; must not block on the backend.
    fn complete(&self, token: u64, len: u32, answer: Answer);
}

/// Takes the answer to one request, exactly once. One that is dropped unanswered answers EIO, so that no application
/// waits for ever. Making and using it allocates nothing.
#[must_use = "a request must be completed"]
pub struct Completion {
    sink: Option<Arc<dyn CompletionSink>>,
    token: u64,
    len: u32,
}

impl Completion {
    /// A completion that answers to `sink` with the door's own `token` and the request's length in bytes.
    pub fn new(sink: Arc<dyn CompletionSink>, token: u64, len: u32) -> Completion {
        Completion { sink: Some(sink), token, len }
    }

    /// A completion that calls a function (allocates; for tests and rare requests).
    pub fn call(function: impl FnOnce(Answer) + Send + 'static) -> Completion {
        Completion::new(Arc::new(Call(Mutex::new(Some(Box::new(function))))), 0, 0)
    }

    /// Delivers the answer.
    pub fn complete(mut self, answer: Answer) {
        if let Some(sink) = self.sink.take() {
            sink.complete(self.token, self.len, answer);
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            sink.complete(self.token, self.len, Err(Errno::EIO));
        }
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Completion(token {}, {} bytes)", self.token, self.len)
    }
}

type Function = Box<dyn FnOnce(Answer) + Send>;

struct Call(Mutex<Option<Function>>);

impl CompletionSink for Call {
    fn complete(&self, _token: u64, _len: u32, answer: Answer) {
        let function = self.0.lock().take();
        if let Some(function) = function {
            function(answer);
        }
    }
}

/// Submits a request without payload as requests of at most `piece_bytes`; `whole` gets the first error or `Ok`.
pub fn submit_in_pieces(
    backend: &dyn Backend,
    operation: Operation,
    mut offset: u64,
    mut length: u64,
    piece_bytes: u64,
    fua: bool,
    whole: Completion,
) {
    let piece_bytes = (piece_bytes & !511).clamp(4096, 1 << 31);
    let pieces = Arc::new(Pieces { state: Mutex::new((Some(whole), Ok(None))) });
    while length > 0 {
        let len = length.min(piece_bytes);
        backend.submit(Request {
            operation,
            offset,
            len: len as u32,
            payload: None,
            fua,
            alone: false,
            done: Completion::new(Arc::new(Piece(Arc::clone(&pieces))), 0, 0),
        });
        offset += len;
        length -= len;
    }
}

/// The pieces of one request; the last one to go answers for all.
struct Pieces {
    state: Mutex<(Option<Completion>, Answer)>,
}

struct Piece(Arc<Pieces>);

impl CompletionSink for Piece {
    fn complete(&self, _token: u64, _len: u32, answer: Answer) {
        if let Err(errno) = answer {
            self.0.state.lock().1 = Err(errno);
        }
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        if let Some(whole) = state.0.take() {
            whole.complete(std::mem::replace(&mut state.1, Ok(None)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_completion_answers_once() {
        let (sender, receiver) = channel();
        Completion::call(move |answer| sender.send(answer.map(|_| ())).unwrap()).complete(Ok(None));
        assert_eq!(receiver.recv(), Ok(Ok(())));
        assert!(receiver.recv().is_err());
    }

    #[test]
    fn pieces_cover_the_whole_and_the_last_one_answers() {
        let backend = crate::export::ram::RamBackend::new(1 << 20, Limits::default());
        backend.poke(0, &[1; 1 << 20]);
        let zero = |errno| {
            backend.fail(errno);
            let (sender, receiver) = channel();
            let whole = Completion::call(move |answer| sender.send(answer.map(|_| ())).unwrap());
            let operation = Operation::WriteZeroes { unmap: true };
            submit_in_pieces(&*backend, operation, 4096, 10_240, 4096, false, whole);
            receiver.recv().unwrap()
        };
        assert_eq!(zero(Some(Errno::EIO)), Err(Errno::EIO));
        assert_eq!(zero(None), Ok(()));
        assert_eq!(backend.counters.write_zeroes.load(std::sync::atomic::Ordering::Relaxed), 6);
        let mut bytes = vec![0; 1 << 20];
        backend.peek(0, &mut bytes);
        let zeroes: Vec<usize> = (0..1 << 20).filter(|at| bytes[*at] == 0).collect();
        assert_eq!(zeroes, (4096..4096 + 10_240).collect::<Vec<usize>>());
    }

    #[test]
    fn a_dropped_completion_answers_eio() {
        let (sender, receiver) = channel();
        drop(Completion::call(move |answer| sender.send(answer.map(|_| ())).unwrap()));
        assert_eq!(receiver.recv(), Ok(Err(Errno::EIO)));
    }
}
