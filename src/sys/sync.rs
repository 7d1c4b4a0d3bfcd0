//! Locks: the one place that says which ones the program uses.
//!
//! Not those of the standard library: they wait with FUTEX_WAIT_BITSET, which Linux 2.6.18 has not, and so
//! spin there (spec/system.md 6.3). These use FUTEX_WAIT and FUTEX_WAKE only, private ones where the kernel
//! has them. The algorithms are those of the standard library.
//!
//! There is no poisoning: a panic in a thread of the daemon ends the whole daemon.
//!
//! A lock knows who has it ([`Holder`]), for the report about a daemon that is stuck. That costs two stores beside the one
//! that takes it, to the same cache line. Who waits for it is not kept: the kernel knows ([`super::threads`]).
//!
//! In debug builds, so in all tests, locks that have a rank ([`Mutex::ranked`]) must be taken in its order: what could become a
//! deadlock, once in a year, is a panic at the first time.

use super::threads;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Waiting in the kernel for a change of a number.
mod futex {
    use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
    use std::time::Duration;

    const FUTEX_WAIT: i32 = 0;
    const FUTEX_WAKE: i32 = 1;

    /// FUTEX_PRIVATE_FLAG, until a kernel before 2.6.22 says that it has none.
    static PRIVATE: AtomicI32 = AtomicI32::new(128);

    /// struct timespec of the system call, whatever the C library calls so.
    #[repr(C)]
    struct Timespec {
        seconds: libc::c_long,
        nanoseconds: libc::c_long,
    }

    fn call(word: &AtomicU32, operation: i32, value: u32, timeout: Option<&Timespec>) -> i32 {
        let timeout = timeout.map_or(std::ptr::null(), std::ptr::from_ref);
        loop {
            let private = PRIVATE.load(Ordering::Relaxed);
            // SAFETY: the kernel reads `word`, which is borrowed for the whole call, and `timeout`, which is null
            // or borrowed. It writes nothing.
            #[allow(unsafe_code)]
            let result =
                unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation | private, value, timeout) };
            if result >= 0 {
                return 0;
            }
            let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
            if error != libc::ENOSYS || private == 0 {
                return error;
            }
            PRIVATE.store(0, Ordering::Relaxed);
        }
    }

    /// Waits while `word` is `expected`, at most that long (for ever without `timeout`). May return for no reason.
    pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
        let timeout = timeout.map(|timeout| Timespec {
            seconds: timeout.as_secs().min(i32::MAX as u64) as libc::c_long,
            nanoseconds: libc::c_long::from(timeout.subsec_nanos() as i32),
        });
        call(word, FUTEX_WAIT, expected, timeout.as_ref());
    }

    /// Wakes at most `count` threads that wait for `word`.
    pub fn wake(word: &AtomicU32, count: i32) {
        call(word, FUTEX_WAKE, count as u32, None);
    }
}

const UNLOCKED: u32 = 0;
const LOCKED: u32 = 1;
/// Locked, and somebody may be waiting.
const CONTENDED: u32 = 2;

/// How often a thread looks at a lock before it waits in the kernel.
const SPINS: u32 = 100;

/// A mutual exclusion lock without poisoning.
#[derive(Debug, Default)]
pub struct Mutex<T> {
    state: AtomicU32,
    /// The thread that took it last. Written by that thread.
    holder: AtomicU32,
    /// How often it was taken. Written by who has it.
    taken: AtomicU32,
    /// 0: none.
    #[cfg(debug_assertions)]
    rank: u8,
    value: UnsafeCell<T>,
}

/// The ranks of the locks that a thread has.
#[cfg(debug_assertions)]
mod order {
    use std::cell::Cell;

    thread_local! {
        /// A bit for each rank.
        static HELD: Cell<u64> = const { Cell::new(0) };
        static IGNORED: Cell<bool> = const { Cell::new(false) };
    }

    #[track_caller]
    pub fn check(rank: u8) {
        let higher = HELD.get() >> rank;
        assert!(
            rank == 0 || higher == 0 || IGNORED.get(),
            "a lock of rank {rank} is taken by a thread that has one of rank {}",
            rank + higher.trailing_zeros() as u8
        );
    }

    pub fn take(rank: u8) {
        HELD.set(HELD.get() | 1 << rank & !1);
    }

    pub fn give_back(rank: u8) {
        HELD.set(HELD.get() & !(1 << rank));
    }

    pub fn ignore() {
        IGNORED.set(true);
    }
}

/// From now on the calling thread may take locks in any order: for tests that need a deadlock.
#[doc(hidden)]
pub fn ignore_order() {
    #[cfg(debug_assertions)]
    order::ignore();
}

/// Who has a lock that is not free. Two looks that are equal saw the same thread that had not given it back in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The thread's id, see [`threads::own_id`].
    pub thread: u32,
    /// How often the lock had been taken by then; counts modulo 2^32.
    pub taken: u32,
}

// SAFETY: the lock gives the value to one thread at a time, so it must only be allowed to move between threads.
#[allow(unsafe_code)]
unsafe impl<T: Send> Sync for Mutex<T> {}

/// Holds a [`Mutex`]. Belongs to the thread that locked.
#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard only lends the value, which is Sync.
#[allow(unsafe_code)]
unsafe impl<T: Sync> Sync for MutexGuard<'_, T> {}

impl<T> Mutex<T> {
    /// A lock around `value`.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex::ranked(0, value)
    }

    /// A lock that a thread may take only if those that it has are of lower ranks. `rank`: 1 to 63.
    #[cfg_attr(not(debug_assertions), allow(unused_variables))]
    pub const fn ranked(rank: u8, value: T) -> Mutex<T> {
        assert!(rank < 64);
        Mutex {
            #[cfg(debug_assertions)]
            rank,
            state: AtomicU32::new(UNLOCKED),
            holder: AtomicU32::new(0),
            taken: AtomicU32::new(0),
            value: UnsafeCell::new(value),
        }
    }

    /// Waits for the lock.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        #[cfg(debug_assertions)]
        order::check(self.rank);
        let free = self.state.compare_exchange(UNLOCKED, LOCKED, Ordering::Acquire, Ordering::Relaxed);
        if free.is_err() {
            self.lock_contended(None);
        }
        self.guard()
    }

    /// Waits for the lock, but not for ever.
    ///
    /// # Errors
    /// Who had it when the time was over.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn try_lock_for(&self, at_most: Duration) -> Result<MutexGuard<'_, T>, Holder> {
        #[cfg(debug_assertions)]
        order::check(self.rank);
        let free = self.state.compare_exchange(UNLOCKED, LOCKED, Ordering::Acquire, Ordering::Relaxed);
        if free.is_err() && !self.lock_contended(Some(Instant::now() + at_most)) {
            let (thread, taken) = (self.holder.load(Ordering::Relaxed), self.taken.load(Ordering::Relaxed));
            return Err(Holder { thread, taken });
        }
        Ok(self.guard())
    }

    /// What [`threads::Seen::waits_at`] says of a thread that waits for this lock.
    pub fn address(&self) -> usize {
        self.state.as_ptr() as usize
    }

    /// This thread has just taken it.
    fn guard(&self) -> MutexGuard<'_, T> {
        #[cfg(debug_assertions)]
        order::take(self.rank);
        self.holder.store(threads::own_id(), Ordering::Relaxed);
        self.taken.store(self.taken.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        MutexGuard { mutex: self, not_send: PhantomData }
    }

    /// False: it was not to be had until then.
    #[cold]
    fn lock_contended(&self, until: Option<Instant>) -> bool {
        let mut state = self.spin();
        if state == UNLOCKED {
            match self.state.compare_exchange(UNLOCKED, LOCKED, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        loop {
            // Taken this way it counts as contended: there may be others that wait.
            if state != CONTENDED && self.state.swap(CONTENDED, Ordering::Acquire) == UNLOCKED {
                return true;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return false;
            }
            futex::wait(&self.state, CONTENDED, left);
            state = self.spin();
        }
    }

    /// Looks for a while whether the lock becomes free, unless others wait already.
    fn spin(&self) -> u32 {
        for _ in 0..SPINS {
            let state = self.state.load(Ordering::Relaxed);
            if state != LOCKED {
                return state;
            }
            std::hint::spin_loop();
        }
        self.state.load(Ordering::Relaxed)
    }

    fn unlock(&self) {
        #[cfg(debug_assertions)]
        order::give_back(self.rank);
        if self.state.swap(UNLOCKED, Ordering::Release) == CONTENDED {
            futex::wake(&self.state, 1);
        }
    }

    /// The value, without locking: nobody else can have it meanwhile.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// The value, without locking: nobody else can have it.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard exists, so this thread holds the lock.
        #[allow(unsafe_code)]
        unsafe {
            &*self.mutex.value.get()
        }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and the guard is borrowed mutably.
        #[allow(unsafe_code)]
        unsafe {
            &mut *self.mutex.value.get()
        }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.mutex.unlock();
    }
}

/// Where threads wait for a change behind a [`Mutex`].
///
/// Whoever changes what is waited for does so under that mutex, and notifies under it or after it. A
/// notification that nobody waits for costs no system call: who begins to wait counts himself under the
/// mutex, so a notifier that had the mutex later sees him.
#[derive(Debug, Default)]
pub struct Condvar {
    /// Counts notifications.
    sequence: AtomicU32,
    waiting: AtomicUsize,
}

impl Condvar {
    /// One that nobody waits for.
    pub const fn new() -> Condvar {
        Condvar { sequence: AtomicU32::new(0), waiting: AtomicUsize::new(0) }
    }

    /// Gives the lock up and waits for a notification. May return without one.
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.wait_until(guard, None)
    }

    /// As [`Condvar::wait`], at most that long.
    pub fn wait_timeout<'a, T>(&self, guard: MutexGuard<'a, T>, timeout: Duration) -> MutexGuard<'a, T> {
        self.wait_until(guard, Some(timeout))
    }

    fn wait_until<'a, T>(&self, guard: MutexGuard<'a, T>, timeout: Option<Duration>) -> MutexGuard<'a, T> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // Read under the lock: a notification after this changes it, and the wait ends at once.
        let sequence = self.sequence.load(Ordering::Relaxed);
        let mutex = guard.mutex;
        drop(guard);
        futex::wait(&self.sequence, sequence, timeout);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        mutex.lock()
    }

    /// Wakes one that waits.
    pub fn notify_one(&self) {
        self.notify(1);
    }

    /// Wakes all that wait.
    pub fn notify_all(&self) {
        self.notify(i32::MAX);
    }

    fn notify(&self, count: i32) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.sequence.fetch_add(1, Ordering::Relaxed);
            futex::wake(&self.sequence, count);
        }
    }
}

/// A queue between threads: what one end sends, the other receives, in order.
#[derive(Debug)]
struct Channel<T> {
    content: Mutex<Content<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Content<T> {
    values: std::collections::VecDeque<T>,
    senders: usize,
    receiver: bool,
}

/// The sending end of a channel.
#[derive(Debug)]
pub struct Sender<T>(std::sync::Arc<Channel<T>>);

/// The receiving end of a channel.
#[derive(Debug)]
pub struct Receiver<T>(std::sync::Arc<Channel<T>>);

/// A channel without limit, as that of the standard library, on these locks.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let content = Content { values: Default::default(), senders: 1, receiver: true };
    let channel = std::sync::Arc::new(Channel { content: Mutex::new(content), changed: Condvar::new() });
    (Sender(std::sync::Arc::clone(&channel)), Receiver(channel))
}

impl<T> Sender<T> {
    /// Sends. False: nobody receives any more.
    pub fn send(&self, value: T) -> bool {
        let mut content = self.0.content.lock();
        if content.receiver {
            content.values.push_back(value);
            self.0.changed.notify_one();
        }
        content.receiver
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.content.lock().senders += 1;
        Sender(std::sync::Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.content.lock().senders -= 1;
        // Several threads may share the receiver.
        self.0.changed.notify_all();
    }
}

impl<T> Receiver<T> {
    /// Waits for a value; `None`: there is none and all senders are gone.
    pub fn receive(&self) -> Option<T> {
        let mut content = self.0.content.lock();
        loop {
            if let Some(value) = content.values.pop_front() {
                return Some(value);
            }
            if content.senders == 0 {
                return None;
            }
            content = self.0.changed.wait(content);
        }
    }

    /// As [`Receiver::receive`], at most that long.
    pub fn receive_timeout(&self, timeout: Duration) -> Option<T> {
        let deadline = Instant::now() + timeout;
        let mut content = self.0.content.lock();
        loop {
            if let Some(value) = content.values.pop_front() {
                return Some(value);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if content.senders == 0 || left.is_zero() {
                return None;
            }
            content = self.0.changed.wait_timeout(content, left);
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut content = self.0.content.lock();
        content.receiver = false;
        content.values.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    #[test]
    fn one_thread_at_a_time() {
        let counter = Arc::new(Mutex::new(0u64));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let counter = Arc::clone(&counter);
                thread::spawn(move || {
                    for _ in 0..50_000 {
                        let mut value = counter.lock();
                        let read = *value;
                        std::hint::black_box(read);
                        *value = read + 1;
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*counter.lock(), 200_000);
    }

    #[test]
    fn a_lock_that_is_not_to_be_had_tells_who_has_it() {
        let lock = Arc::new(Mutex::new(1));
        let patience = Duration::from_millis(1);
        let (inside, is_inside) = channel();
        let (leave, may_leave) = channel::<()>();
        let of_thread = Arc::clone(&lock);
        let thread = thread::spawn(move || {
            let guard = of_thread.lock();
            inside.send(threads::own_id());
            may_leave.receive();
            drop(guard);
            let _guard = of_thread.lock();
            inside.send(threads::own_id());
            may_leave.receive();
        });
        let id = is_inside.receive().unwrap();
        let first = lock.try_lock_for(patience).unwrap_err();
        assert_eq!(first.thread, id);
        assert_eq!(lock.try_lock_for(patience).unwrap_err(), first);
        leave.send(());
        assert_eq!(is_inside.receive(), Some(id));
        // The same thread, but it has given the lock back in between.
        let second = lock.try_lock_for(patience).unwrap_err();
        assert!(second.thread == id && second.taken != first.taken, "{first:?} {second:?}");
        leave.send(());
        thread.join().unwrap();
        assert_eq!(lock.try_lock_for(patience).map(|guard| *guard), Ok(1));
    }

    /// Only where it is checked.
    #[cfg(debug_assertions)]
    #[test]
    fn locks_are_taken_in_the_order_of_their_ranks() {
        let locks = [0, 1, 2, 2].map(|rank| Arc::new(Mutex::ranked(rank, ())));
        let may_take = |order: &'static [usize]| {
            let locks = locks.clone();
            let take = move || drop(order.iter().map(|at| locks[*at].lock()).collect::<Vec<_>>());
            thread::spawn(take).join().is_ok()
        };
        // One without a rank at any time.
        assert!(may_take(&[0, 1, 2]) && may_take(&[1, 0]) && may_take(&[2, 0]));
        assert!(!may_take(&[2, 1]) && !may_take(&[2, 3]) && !may_take(&[1, 2, 3]));
        // A lock that was given back does not count; nobody has one of those who panicked.
        drop(locks[2].lock());
        drop(locks[1].lock());
        let mut guard = locks[2].lock();
        guard = Condvar::new().wait_timeout(guard, Duration::from_millis(1));
        drop(guard);
        drop(locks[1].lock());
    }

    #[test]
    fn who_waits_for_a_while_gets_a_lock_that_becomes_free() {
        let lock = Arc::new(Mutex::new(()));
        let guard = lock.lock();
        let of_thread = Arc::clone(&lock);
        let thread = thread::spawn(move || of_thread.try_lock_for(Duration::from_secs(600)).is_ok());
        drop(guard);
        assert!(thread.join().unwrap());
    }

    #[test]
    fn all_who_share_a_receiver_hear_of_the_end() {
        for _ in 0..50 {
            let (sender, receiver) = channel::<()>();
            let receiver = Arc::new(receiver);
            let threads = [(); 4].map(|()| {
                let receiver = Arc::clone(&receiver);
                thread::spawn(move || receiver.receive())
            });
            thread::yield_now();
            drop(sender);
            assert!(threads.into_iter().all(|thread| thread.join().unwrap().is_none()));
        }
    }

    #[test]
    fn no_notification_is_lost() {
        // Two threads hand a number to and fro.
        let shared = Arc::new((Mutex::new(0u32), Condvar::new()));
        let threads = [0, 1].map(|odd| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (number, changed) = &*shared;
                for _ in 0..10_000 {
                    let mut number = number.lock();
                    while *number % 2 != odd {
                        number = changed.wait(number);
                    }
                    *number += 1;
                    changed.notify_one();
                }
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*shared.0.lock(), 20_000);
    }

    #[test]
    fn a_wait_ends_in_time() {
        let (number, changed) = (Mutex::new(0), Condvar::new());
        let start = Instant::now();
        let guard = changed.wait_timeout(number.lock(), Duration::from_millis(20));
        assert_eq!(*guard, 0);
        assert!(start.elapsed() >= Duration::from_millis(1));
    }

    #[test]
    fn a_channel_keeps_the_order_and_ends_with_its_senders() {
        let (sender, receiver) = channel();
        let second = sender.clone();
        let thread = thread::spawn(move || {
            for number in 0..1000 {
                assert!(sender.send(number));
            }
        });
        assert!((0..1000).all(|number| receiver.receive() == Some(number)));
        thread.join().unwrap();
        assert_eq!(receiver.receive_timeout(Duration::from_millis(1)), None);
        drop(receiver);
        assert!(!second.send(1));
    }
}
