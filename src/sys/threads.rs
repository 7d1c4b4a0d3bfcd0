//! The threads of this process, as the kernel sees them: for reports about one that does not get on.

use std::cell::Cell;
use std::fmt;
use std::fs;

thread_local! {
    /// Id of the thread; 0: not asked for yet.
    static OWN_ID: Cell<u32> = const { Cell::new(0) };
}

/// The kernel's id of the calling thread. A system call for the first time only.
pub fn own_id() -> u32 {
    match OWN_ID.get() {
        0 => {
            let id = nix::unistd::gettid().as_raw() as u32;
            OWN_ID.set(id);
            id
        }
        id => id,
    }
}

/// After a fork: the only thread of the child has another id than the one that it comes from.
pub(super) fn forget_own_id() {
    OWN_ID.set(0);
}

/// What a thread does now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub id: u32,
    /// Its name; the kernel keeps 15 characters.
    pub name: String,
    /// The kernel's letter: R runs, S sleeps, D sleeps where no signal reaches it, T is stopped, t traced.
    pub state: char,
    /// The word in memory for whose change it waits: a lock ([`super::sync::Mutex::address`]) or a notification. `None`: it does
    /// something else, or the kernel does not tell (before Linux 2.6.27).
    pub waits_at: Option<usize>,
    /// The kernel's function that it sleeps in, where the kernel tells.
    pub place: String,
}

impl Seen {
    /// A thread of this process. `None`: it has ended.
    pub fn of(id: u32) -> Option<Seen> {
        let file = |name: &str| fs::read_to_string(format!("/proc/self/task/{id}/{name}"));
        let (name, state) = parse_stat(&file("stat").ok()?)?;
        let waits_at = file("syscall").ok().and_then(|text| parse_futex(&text));
        let place = file("wchan").unwrap_or_default();
        Some(Seen { id, name, state, waits_at, place: if place == "0" { String::new() } else { place } })
    }

    /// All threads of this process.
    pub fn all() -> Vec<Seen> {
        let Ok(entries) = fs::read_dir("/proc/self/task") else { return Vec::new() };
        let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let mut all: Vec<Seen> = ids.filter_map(Seen::of).collect();
        all.sort_by_key(|thread| thread.id);
        all
    }

    /// Whether it waits for the system or a debugger: it is no fault of the program that it does not get on, and even
    /// the end of the process would have to wait for it.
    pub fn is_held_by_system(&self) -> bool {
        matches!(self.state, 'D' | 'T' | 't')
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' (thread {}, state {}", self.name, self.id, self.state)?;
        if !self.place.is_empty() {
            write!(f, " in {}", self.place)?;
        }
        write!(f, ")")
    }
}

/// Name and state in the text of /proc/PID/stat: "PID (NAME) STATE ...". The name may have any character.
fn parse_stat(text: &str) -> Option<(String, char)> {
    let (start, rest) = text.rsplit_once(") ")?;
    let (_, name) = start.split_once(" (")?;
    Some((name.to_owned(), rest.chars().next()?))
}

/// The address in the text of /proc/PID/syscall ("NUMBER ARGUMENT ..."), if it is the call that waits for a word.
fn parse_futex(text: &str) -> Option<usize> {
    let mut words = text.split_ascii_whitespace();
    let number: libc::c_long = words.next()?.parse().ok()?;
    let address = words.next()?.strip_prefix("0x")?;
    (number == libc::SYS_futex).then(|| usize::from_str_radix(address, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::super::sync::{channel, Mutex};
    use super::*;
    use std::sync::Arc;
    use std::thread;

    #[test]
    fn stat_and_syscall_are_read() {
        assert_eq!(parse_stat("12 (disk ) (r0) S 1 2"), Some(("disk ) (r0".to_owned(), 'S')));
        assert_eq!(parse_stat("12 disk"), None);
        let futex = libc::SYS_futex;
        assert_eq!(parse_futex(&format!("{futex} 0x7f10 0x80 0x2 0x0 0x0 0x0 0x7f 0x7f\n")), Some(0x7f10));
        assert_eq!(parse_futex(&format!("{} 0x7f10 0x80", futex + 1)), None);
        assert_eq!(parse_futex("running\n"), None);
        assert_eq!(parse_futex("-1 0x7f10 0x80\n"), None);
    }

    #[test]
    fn a_thread_that_waits_for_a_lock_is_seen() {
        let lock = Arc::new(Mutex::new(()));
        let guard = lock.lock();
        let (sender, receiver) = channel();
        let of_thread = Arc::clone(&lock);
        let thread = thread::Builder::new().name("waits".into());
        let thread = thread.spawn(move || {
            sender.send(own_id());
            drop(of_thread.lock());
        });
        let id = receiver.receive().unwrap();
        let here = Seen::of(own_id()).unwrap();
        assert_eq!(here.state, 'R');
        if fs::read_to_string("/proc/self/syscall").is_err() {
            println!("SKIPPED: this kernel does not tell what threads wait for");
        } else {
            while Seen::of(id).unwrap().waits_at != Some(lock.address()) {
                thread::yield_now();
            }
            let seen = Seen::all().into_iter().find(|thread| thread.id == id).unwrap();
            assert_eq!((seen.name.as_str(), seen.state), ("waits", 'S'));
            assert!(seen.to_string().starts_with(&format!("'waits' (thread {id}, state S")), "{seen}");
            assert!(!seen.is_held_by_system());
        }
        drop(guard);
        thread.unwrap().join().unwrap();
    }
}
