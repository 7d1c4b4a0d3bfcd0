//! Requests wait in a queue of this program, not in the kernel.
//!
//! On Linux 2.6.18 whoever submits a request sends it himself, and it may be the thread that also writes back the disks
//! below this device: it must never have to wait for the reader of the socket (spec/system.md 0, D8). So the reader only
//! reads; threads of this queue wait for the disk, the peer, or the end of a freeze. What may wait is bounded by the
//! kernel, which has no more than 192 requests under way.

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::export::request::{Backend, Limits, Operation, Request};
use crate::sys::process::STACK_BYTES;
use crate::sys::sync::{channel, Receiver, Sender};

/// A backend whose [`Backend::submit`] never waits, and whose writes are durable when they are complete.
pub struct Deferred {
    inner: Arc<dyn Backend>,
    /// `None` when it comes to an end.
    queue: Option<Sender<Request>>,
    threads: Vec<JoinHandle<()>>,
}

impl Deferred {
    /// In front of `inner`, with so many threads.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(inner: Arc<dyn Backend>, threads: usize, name: &str) -> std::io::Result<Deferred> {
        let (queue, requests) = channel();
        let requests = Arc::new(requests);
        let mut deferred = Deferred { inner, queue: Some(queue), threads: Vec::new() };
        for number in 0..threads.max(1) {
            let (inner, requests) = (Arc::clone(&deferred.inner), Arc::clone(&requests));
            let thread = std::thread::Builder::new()
                .name(format!("{name}{number}"))
                .stack_size(STACK_BYTES)
                .spawn(move || submit_all(&*inner, &requests))?;
            deferred.threads.push(thread);
        }
        Ok(deferred)
    }
}

/// Fed by the reader of the socket; blocks in the backend.
fn submit_all(inner: &dyn Backend, requests: &Receiver<Request>) {
    while let Some(request) = requests.receive() {
        inner.submit(request);
    }
}

impl Backend for Deferred {
    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn submit(&self, mut request: Request) {
        request.fua |= request.operation == Operation::Write;
        // Dropped, the request is answered with an error.
        if let Some(queue) = &self.queue {
            queue.send(request);
        }
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::request::Completion;
    use crate::sys::buffer::Buffer;
    use crate::sys::sync::{Condvar, Mutex};

    /// Holds every request until it is let go, and notes which ones are to be durable.
    #[derive(Default)]
    struct Frozen {
        open: Mutex<bool>,
        changed: Condvar,
        durable: Mutex<Vec<bool>>,
    }

    impl Backend for Frozen {
        fn size_bytes(&self) -> u64 {
            1 << 20
        }

        fn submit(&self, request: Request) {
            let mut open = self.open.lock();
            while !*open {
                open = self.changed.wait(open);
            }
            drop(open);
            self.durable.lock().push(request.fua);
            request.done.complete(Ok(None));
        }
    }

    #[test]
    fn nobody_waits_to_hand_a_request_in_and_writes_are_durable() {
        let frozen = Arc::new(Frozen::default());
        let deferred = Deferred::start(frozen.clone(), 2, "test").unwrap();
        let (answers, answered) = channel();
        for _ in 0..192 {
            let answers = answers.clone();
            // Returns though the backend takes nothing: else this test does not end.
            deferred.submit(Request {
                operation: Operation::Write,
                offset: 0,
                len: 512,
                payload: Some(Arc::new(Buffer::zeroed(512))),
                fua: false,
                alone: false,
                done: Completion::call(move |answer| {
                    answers.send(answer.is_ok());
                }),
            });
        }
        *frozen.open.lock() = true;
        frozen.changed.notify_all();
        assert!((0..192).all(|_| answered.receive() == Some(true)));
        drop(deferred);
        assert_eq!(*frozen.durable.lock(), vec![true; 192]);
    }
}
