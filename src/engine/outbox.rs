//! The sending end of one socket of a link: a queue of packets, and whoever is at the socket.
//!
//! Fed by every thread that gets `Output::Send` from core, under the resource's lock, so that the
//! order is that of the decisions. Emptied by one thread at a time:
//!
//! - A thread that finds the socket free sends at once, without waiting (no thread hop with one
//!   request at a time). It never blocks: a meta reader, a data reader or a door must not hang on
//!   a peer that does not read.
//! - A thread that finds somebody at the socket leaves its packet to that one (batches under
//!   load: one system call for up to [`BATCH_PACKETS`] packets).
//! - What the socket does not take now, and what is left after [`ROUNDS_MAX`] batches, is taken
//!   over by the sender thread of the socket ([`Outbox::run`]), which may block and knows the
//!   send time-out of spec/wire.md 9.3.
//!
//! On the way of a packet: one lock to queue it, one to take it, no allocation; the header is made
//! in memory that is kept, the payload goes to the kernel from where it is.

use super::{integrity, rank};
use crate::core::types::{Payload, VolumeIndex};
use crate::sys::send::send_parts;
use crate::sys::sync::{Condvar, Mutex};
use crate::wire::{Digest, DigestValue, Packet, ProtocolVersion, Socket};
use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most packets in one batch; each has at most two parts.
const BATCH_PACKETS: usize = 32;

/// No further packet is added to a batch of this many bytes of payload.
const BATCH_BYTES: usize = 512 << 10;

/// Batches that a passing thread sends before it hands the socket over to the sender thread.
const ROUNDS_MAX: usize = 3;

/// One thing that waits for its turn at the socket.
#[derive(Debug)]
pub enum Outgoing {
    /// A packet.
    Packet {
        /// Volume number for its header.
        volume: u16,
        /// Header and fixed part.
        packet: Packet,
        /// Bytes behind the fixed part.
        payload: Option<Payload>,
        /// To be reported when the last byte went to TCP.
        notify: Option<u64>,
    },
    /// The whole bitmap of a volume, with no packet between.
    Bitmap {
        /// Volume in core.
        volume: VolumeIndex,
        /// Its number.
        number: u16,
    },
}

/// What the outbox tells the resource, and asks it for.
pub trait SendEvents: Send + Sync {
    /// These packets went to TCP.
    fn sent(&self, notifies: &[u64]);
    /// The next packet of a bitmap; `None`: it is complete.
    fn next_bitmap_packet(&self, volume: VolumeIndex) -> Option<(Packet, Payload)>;
    /// A send made no progress for the send time-out.
    fn send_expired(&self, socket: Socket);
    /// A send made progress after it had expired.
    fn send_progressed(&self);
    /// The socket is broken. Called once.
    fn send_failed(&self, socket: Socket, error: io::Error);
}

/// Who is at the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Nobody,
    /// A thread that does not block.
    Passing,
    /// The sender thread, or it is on its way.
    Sender,
}

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<Outgoing>,
    holder: Holder,
    closed: bool,
}

/// A packet of the batch: its bytes in `Transmit::heads`, and the payload behind them.
#[derive(Debug)]
struct Item {
    head: Range<usize>,
    payload: Option<Payload>,
}

/// What is being sent; belongs to the holder.
#[derive(Debug)]
struct Transmit {
    heads: Vec<u8>,
    items: Vec<Item>,
    notifies: Vec<u64>,
    /// Bytes of the batch that TCP has taken.
    progress: usize,
    /// Algorithm that the own P_PROTOCOL has announced.
    integrity: Option<Digest>,
}

/// The sending end of a socket.
#[derive(Debug)]
pub struct Outbox {
    socket: Socket,
    stream: Arc<TcpStream>,
    version: ProtocolVersion,
    queue: Mutex<Queue>,
    /// Signalled when the sender thread has work, and on close.
    for_sender: Condvar,
    /// Signalled when everything has been sent, and on close.
    drained: Condvar,
    transmit: Mutex<Transmit>,
}

/// How an attempt to send ended.
enum Progress {
    Done,
    /// The socket takes no more now.
    Full,
    Broken,
}

impl Outbox {
    /// An empty outbox for a socket in blocking mode that has its send time-out set.
    pub fn new(socket: Socket, stream: Arc<TcpStream>, version: ProtocolVersion) -> Outbox {
        Outbox {
            socket,
            stream,
            version,
            queue: Mutex::ranked(
                rank::WITHIN_RESOURCE,
                Queue { waiting: VecDeque::with_capacity(64), holder: Holder::Nobody, closed: false },
            ),
            for_sender: Condvar::new(),
            drained: Condvar::new(),
            transmit: Mutex::new(Transmit {
                heads: Vec::with_capacity(BATCH_PACKETS * 64),
                items: Vec::with_capacity(BATCH_PACKETS),
                notifies: Vec::with_capacity(BATCH_PACKETS),
                progress: 0,
                integrity: None,
            }),
        }
    }

    /// Adds to the queue. To be called under the resource's lock. True if nobody is at the socket: the
    /// caller has to call [`Outbox::pass`] when it holds no lock.
    #[must_use]
    pub fn push(&self, outgoing: Outgoing) -> bool {
        let mut queue = self.queue.lock();
        if queue.closed {
            return false;
        }
        queue.waiting.push_back(outgoing);
        queue.holder == Holder::Nobody
    }

    /// Whether more waits than TCP takes now. A bitmap that is being sent counts as such.
    pub fn is_full(&self) -> bool {
        self.queue.lock().holder == Holder::Sender
    }

    /// Sends what waits, unless somebody is at it already. Does not block.
    pub fn pass(&self, events: &dyn SendEvents) {
        {
            let mut queue = self.queue.lock();
            if queue.holder != Holder::Nobody || queue.waiting.is_empty() || queue.closed {
                return;
            }
            queue.holder = Holder::Passing;
        }
        for _ in 0..ROUNDS_MAX {
            let mut transmit = self.transmit.lock();
            if !self.take_batch(&mut transmit) {
                break; // a bitmap: for the sender thread
            }
            match self.send_batch(&mut transmit, false, events) {
                Progress::Done => {}
                Progress::Full => break,
                Progress::Broken => return,
            }
            let notifies = std::mem::take(&mut transmit.notifies);
            drop(transmit);
            // Still at the socket: what follows from the report is sent by the next round, and not by a call
            // within a call.
            self.report(notifies, events);
            if self.leave_if_empty() {
                return;
            }
        }
        let mut queue = self.queue.lock();
        queue.holder = Holder::Sender;
        self.for_sender.notify_one();
    }

    /// The sender thread: takes over what would block. Returns after [`Outbox::close`] or when the socket is
    /// broken.
    pub fn run(&self, events: &dyn SendEvents) {
        loop {
            {
                let mut queue = self.queue.lock();
                while queue.holder != Holder::Sender && !queue.closed {
                    queue = self.for_sender.wait(queue);
                }
                if queue.closed {
                    return;
                }
            }
            loop {
                let mut transmit = self.transmit.lock();
                // A batch that a passing thread could not finish comes first.
                if transmit.items.is_empty() && !self.take_batch(&mut transmit) {
                    drop(transmit);
                    if !self.send_bitmap(events) {
                        return;
                    }
                } else {
                    match self.send_batch(&mut transmit, true, events) {
                        Progress::Done => {}
                        Progress::Full | Progress::Broken => return,
                    }
                    let notifies = std::mem::take(&mut transmit.notifies);
                    drop(transmit);
                    self.report(notifies, events);
                }
                if self.leave_if_empty() {
                    break;
                }
            }
        }
    }

    /// Takes no more packets, forgets those that wait and ends the sender thread.
    pub fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        queue.waiting.clear();
        self.for_sender.notify_all();
        self.drained.notify_all();
        // Also wakes a sender that is blocked in the kernel. Fails if the peer was faster.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Waits until everything was sent, at most that long.
    pub fn wait_drained(&self, at_most: Duration) {
        let deadline = Instant::now() + at_most;
        let mut queue = self.queue.lock();
        while !queue.closed && (queue.holder != Holder::Nobody || !queue.waiting.is_empty()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = self.drained.wait_timeout(queue, left);
        }
    }

    fn is_closed(&self) -> bool {
        self.queue.lock().closed
    }

    /// Gives the socket up if nothing waits for it.
    fn leave_if_empty(&self) -> bool {
        let mut queue = self.queue.lock();
        if queue.waiting.is_empty() || queue.closed {
            queue.holder = Holder::Nobody;
            self.drained.notify_all();
            return true;
        }
        false
    }

    /// Fills an empty batch from the queue. False if a bitmap is at its front, or nothing.
    fn take_batch(&self, transmit: &mut Transmit) -> bool {
        let mut queue = self.queue.lock();
        let mut bytes = 0;
        while transmit.items.len() < BATCH_PACKETS && bytes < BATCH_BYTES {
            match queue.waiting.pop_front() {
                None => break,
                Some(Outgoing::Packet { volume, packet, payload, notify }) => {
                    bytes += payload.as_ref().map_or(0, |p| p.len());
                    // Digests are expensive: not under the lock that others need to queue.
                    if transmit.integrity.is_some() && integrity::is_covered(&packet) {
                        drop(queue);
                        self.add(transmit, volume, &packet, payload, notify);
                        queue = self.queue.lock();
                    } else {
                        self.add(transmit, volume, &packet, payload, notify);
                    }
                }
                Some(bitmap) => {
                    queue.waiting.push_front(bitmap);
                    break;
                }
            }
        }
        !transmit.items.is_empty()
    }

    fn add(
        &self,
        transmit: &mut Transmit,
        volume: u16,
        packet: &Packet,
        payload: Option<Payload>,
        notify: Option<u64>,
    ) {
        let bytes: &[u8] = payload.as_deref().unwrap_or(&[]);
        let digest = match transmit.integrity {
            Some(algorithm) if integrity::is_covered(packet) => algorithm.compute(bytes),
            _ => DigestValue::NONE,
        };
        let start = transmit.heads.len();
        packet.encode_into(&mut transmit.heads, volume, self.version, &digest, bytes.len());
        let head = start..transmit.heads.len();
        if let Some(algorithm) = integrity::announced(packet) {
            transmit.integrity = algorithm;
        }
        transmit.items.push(Item { head, payload: payload.filter(|p| !p.is_empty()) });
        transmit.notifies.extend(notify);
    }

    /// Sends the batch from where it stopped. `wait`: until it is through or the outbox is closed.
    fn send_batch(&self, transmit: &mut Transmit, wait: bool, events: &dyn SendEvents) -> Progress {
        let mut expired_at = None;
        let outcome = loop {
            let mut parts: [&[u8]; 2 * BATCH_PACKETS] = [&[]; 2 * BATCH_PACKETS];
            let used = gather(&transmit.heads, &transmit.items, &mut parts);
            match send_parts(&self.stream, &parts[..used], &mut transmit.progress, wait) {
                Ok(true) => break Progress::Done,
                Ok(false) => return Progress::Full,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if expired_at.replace(transmit.progress).is_some_and(|at| at < transmit.progress) {
                        events.send_progressed();
                    }
                    events.send_expired(self.socket);
                    if self.is_closed() {
                        break Progress::Broken;
                    }
                }
                Err(error) => {
                    self.fail(error, events);
                    break Progress::Broken;
                }
            }
        };
        transmit.items.clear();
        transmit.heads.clear();
        transmit.progress = 0;
        if expired_at.is_some() && matches!(outcome, Progress::Done) {
            events.send_progressed();
        }
        outcome
    }

    /// The socket is broken: tells it once.
    fn fail(&self, error: io::Error, events: &dyn SendEvents) {
        let was_closed = {
            let mut queue = self.queue.lock();
            queue.waiting.clear();
            queue.holder = Holder::Nobody;
            self.drained.notify_all();
            std::mem::replace(&mut queue.closed, true)
        };
        self.for_sender.notify_all();
        if !was_closed {
            events.send_failed(self.socket, error);
        }
    }

    /// Reports what was sent, and gives the list's memory back for the next batch.
    fn report(&self, mut notifies: Vec<u64>, events: &dyn SendEvents) {
        if !notifies.is_empty() {
            events.sent(&notifies);
        }
        notifies.clear();
        self.transmit.lock().notifies = notifies;
    }

    /// Sends the bitmap at the front of the queue. False: closed or broken.
    fn send_bitmap(&self, events: &dyn SendEvents) -> bool {
        let Some(Outgoing::Bitmap { volume, number }) = self.queue.lock().waiting.pop_front() else {
            return !self.is_closed();
        };
        loop {
            let mut complete = false;
            let mut transmit = self.transmit.lock();
            while transmit.items.len() < BATCH_PACKETS {
                match events.next_bitmap_packet(volume) {
                    Some((packet, payload)) => {
                        self.add(&mut transmit, number, &packet, Some(payload), None);
                    }
                    None => {
                        complete = true;
                        break;
                    }
                }
            }
            if !transmit.items.is_empty() {
                match self.send_batch(&mut transmit, true, events) {
                    Progress::Done => {}
                    Progress::Full | Progress::Broken => return false,
                }
            }
            if complete {
                return true;
            }
        }
    }
}

/// The parts of a batch in order; neighbouring heads become one part. Returns how many.
fn gather<'a>(heads: &'a [u8], items: &'a [Item], parts: &mut [&'a [u8]]) -> usize {
    let mut used = 0;
    let mut start = 0;
    for item in items {
        if let Some(payload) = &item.payload {
            parts[used] = &heads[start..item.head.end];
            parts[used + 1] = payload;
            used += 2;
            start = item.head.end;
        }
    }
    if start < heads.len() {
        parts[used] = &heads[start..];
        used += 1;
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::buffer::Buffer;
    use crate::wire::{Barrier, Context, Data, DataFlags, Frame, Header};
    use std::io::Read;
    use std::net::TcpListener;

    #[derive(Default)]
    struct Events {
        sent: Mutex<Vec<u64>>,
        expired: Mutex<usize>,
        failed: Mutex<usize>,
        bitmap: Mutex<usize>,
        changed: Condvar,
    }

    impl SendEvents for Events {
        fn sent(&self, notifies: &[u64]) {
            self.sent.lock().extend(notifies);
            self.changed.notify_all();
        }
        fn next_bitmap_packet(&self, _: VolumeIndex) -> Option<(Packet, Payload)> {
            let mut left = self.bitmap.lock();
            *left = left.checked_sub(1)?;
            let words = Payload::whole(Arc::new(Buffer::zeroed(4064)));
            Some((Packet::Bitmap, words))
        }
        fn send_expired(&self, _: Socket) {
            *self.expired.lock() += 1;
            self.changed.notify_all();
        }
        fn send_progressed(&self) {}
        fn send_failed(&self, _: Socket, _: io::Error) {
            *self.failed.lock() += 1;
        }
    }

    const VERSION: ProtocolVersion = ProtocolVersion::MAX;

    fn pair() -> (Arc<Outbox>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let far = listener.accept().unwrap().0;
        (Arc::new(Outbox::new(Socket::Data, Arc::new(near), VERSION)), far)
    }

    fn write(number: u64, bytes: usize) -> Outgoing {
        Outgoing::Packet {
            volume: 3,
            packet: Packet::Data(Data {
                sector: number,
                block_id: number,
                seq: number as u32,
                flags: DataFlags(0),
            }),
            payload: Some(Payload::whole(Arc::new(Buffer::from_bytes(&vec![number as u8; bytes])))),
            notify: Some(number),
        }
    }

    /// Reads one packet with its payload.
    fn read(far: &mut TcpStream) -> (Packet, Vec<u8>) {
        let context = Context::new(VERSION);
        let mut head = [0; 16];
        far.read_exact(&mut head).unwrap();
        let header = Header::decode(context.framing(), &head).unwrap();
        let frame = Frame::new(header, Socket::Data, &context).unwrap();
        let mut fixed = vec![0; frame.fixed_len];
        far.read_exact(&mut fixed).unwrap();
        let packet = frame.decode(&fixed, &context).unwrap().packet;
        let mut payload = vec![0; frame.payload_len];
        far.read_exact(&mut payload).unwrap();
        (packet, payload)
    }

    #[test]
    fn an_idle_socket_is_used_by_the_thread_that_has_a_packet() {
        let (outbox, mut far) = pair();
        let events = Events::default();
        assert!(outbox.push(write(1, 4096)));
        outbox.pass(&events);
        assert_eq!(*events.sent.lock(), [1]);
        let (packet, payload) = read(&mut far);
        assert!(matches!(packet, Packet::Data(Data { sector: 1, .. })));
        assert_eq!(payload, [1; 4096]);
    }

    #[test]
    fn what_a_full_socket_refuses_is_sent_by_the_sender_thread_in_order() {
        let (outbox, mut far) = pair();
        let events = Arc::new(Events::default());
        let sender = {
            let (outbox, events) = (outbox.clone(), events.clone());
            std::thread::spawn(move || outbox.run(&*events))
        };
        const COUNT: u64 = 200;
        for number in 0..COUNT {
            if outbox.push(write(number, 128 << 10)) {
                outbox.pass(&*events);
            }
        }
        assert!(events.sent.lock().len() < COUNT as usize, "nobody reads");
        assert!(outbox.is_full());
        for number in 0..COUNT {
            let (packet, payload) = read(&mut far);
            assert!(matches!(packet, Packet::Data(Data { sector, .. }) if sector == number));
            assert!(payload.iter().all(|&b| b == number as u8));
        }
        outbox.wait_drained(Duration::from_secs(60));
        assert!(!outbox.is_full());
        let mut sent = events.sent.lock();
        while sent.len() < COUNT as usize {
            sent = events.changed.wait(sent);
        }
        assert!(sent.iter().copied().eq(0..COUNT));
        drop(sent);
        outbox.close();
        sender.join().unwrap();
        assert_eq!(*events.failed.lock(), 0);
    }

    #[test]
    fn a_peer_that_does_not_read_is_reported_and_close_ends_the_sender() {
        let (outbox, _far) = pair();
        crate::sys::net::set_send_timeout(&outbox.stream, Some(Duration::from_millis(5))).unwrap();
        let events = Arc::new(Events::default());
        for number in 0..100 {
            if outbox.push(write(number, 128 << 10)) {
                outbox.pass(&*events);
            }
        }
        let sender = {
            let (outbox, events) = (outbox.clone(), events.clone());
            std::thread::spawn(move || outbox.run(&*events))
        };
        let mut expired = events.expired.lock();
        while *expired < 2 {
            expired = events.changed.wait(expired);
        }
        drop(expired);
        outbox.close();
        sender.join().unwrap();
    }

    #[test]
    fn no_packet_gets_into_a_bitmap() {
        let (outbox, mut far) = pair();
        let events = Arc::new(Events::default());
        *events.bitmap.lock() = 100;
        let sender = {
            let (outbox, events) = (outbox.clone(), events.clone());
            std::thread::spawn(move || outbox.run(&*events))
        };
        assert!(outbox.push(Outgoing::Bitmap { volume: 0, number: 0 }));
        let barrier = Packet::Barrier(Barrier { number: 7 });
        let _ =
            outbox.push(Outgoing::Packet { volume: 0, packet: barrier.clone(), payload: None, notify: None });
        outbox.pass(&*events);
        for _ in 0..100 {
            assert_eq!(read(&mut far).0, Packet::Bitmap);
        }
        assert_eq!(read(&mut far).0, barrier);
        outbox.close();
        sender.join().unwrap();
    }

    #[test]
    fn a_broken_socket_is_reported_once() {
        let (outbox, far) = pair();
        let events = Events::default();
        drop(far);
        while *events.failed.lock() == 0 {
            if outbox.push(write(0, 128 << 10)) {
                outbox.pass(&events);
            }
        }
        assert!(!outbox.push(write(0, 0)));
        outbox.pass(&events);
        assert_eq!(*events.failed.lock(), 1);
    }
}
