//! A daemon that does not get on says so, and ends if that is better than to stay. What is better, and why:
//! docs/architecture.md, "A daemon that is stuck".
//!
//! One thread. It sleeps until somebody touches a resource ([`Watch::wake`]), then looks several times within the limit
//! whether the locks can be had, and whether the resources' timer threads do what is due. When nobody has touched a resource
//! since its last look, and no timer is expected, it sleeps again.
//!
//! A lock counts as stuck when the same thread has it at every look and has not given it back in between; a timer thread, when
//! something is due at every look and it has done nothing in between. A look counts only if the pause before it was as long as
//! it should have been: when the process was stopped, or the machine is so slow that this thread comes late itself, the others
//! have had no time to get on either. So the clock alone never condemns anybody.

use super::daemon::Daemon;
use super::runner::{Runner, TimerThread};
use crate::core::types::Level;
use crate::sys::sync::{Condvar, Holder, Mutex};
use crate::sys::threads::Seen;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Looks within the limit.
const LOOKS: u32 = 6;

/// For so long a look waits for a lock at most.
const PATIENCE: Duration = Duration::from_millis(100);

/// For so long the log may take to write the report, before the daemon ends in any case.
const LOG_LIMIT: Duration = Duration::from_secs(5);

/// Wakes the watchdog. Part of what all resources have in common.
#[derive(Debug, Default)]
pub struct Watch {
    awake: AtomicBool,
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Watch {
    /// Somebody touches a resource. On the hot path: one load, but for the first time after a look.
    pub fn wake(&self) {
        if !self.awake.load(Ordering::Relaxed) && !self.awake.swap(true, Ordering::AcqRel) {
            drop(self.ended.lock());
            self.changed.notify_all();
        }
    }

    /// The daemon ends.
    pub fn end(&self) {
        *self.ended.lock() = true;
        self.changed.notify_all();
    }

    /// Waits until somebody touches a resource. False: the daemon ends.
    fn wait(&self) -> bool {
        let mut ended = self.ended.lock();
        while !*ended && !self.awake.load(Ordering::Acquire) {
            ended = self.changed.wait(ended);
        }
        !*ended
    }

    /// Lets time pass. False: the daemon ends.
    fn pause(&self, length: Duration) -> bool {
        let until = Instant::now() + length;
        let mut ended = self.ended.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if *ended || left.is_zero() {
                return !*ended;
            }
            ended = self.changed.wait_timeout(ended, left);
        }
    }
}

/// What may be stuck.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// The lock of the list of resources.
    List,
    /// The lock of the resource of that name.
    Lock(String),
    /// Its timer thread.
    Timer(String),
}

/// Why it may be. If two looks find the same, nothing has moved in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Evidence {
    Held(Holder),
    Late(TimerThread),
}

impl Evidence {
    /// The thread that does not get on.
    fn thread(self) -> u32 {
        match self {
            Evidence::Held(holder) => holder.thread,
            Evidence::Late(timer) => timer.thread,
        }
    }
}

#[derive(Debug)]
struct Suspect {
    evidence: Evidence,
    since: Instant,
    /// Looks that count, after the first.
    looks: u32,
    reported: bool,
}

/// What was found again and again.
#[derive(Debug, Default)]
struct Suspects(BTreeMap<Subject, Suspect>);

impl Suspects {
    /// Takes what a look has found; `counts`: nobody was kept from getting on since the last one. Returns what gets on again after
    /// it was reported, and for how long it did not.
    fn look(&mut self, found: &[(Subject, Evidence)], counts: bool) -> Vec<(Subject, Duration)> {
        let mut over = Vec::new();
        let is_found = |subject: &Subject, evidence: &Evidence| {
            found.iter().any(|(other, fresh)| other == subject && fresh == evidence)
        };
        self.0.retain(|subject, suspect| {
            let stays = is_found(subject, &suspect.evidence);
            if !stays && suspect.reported {
                over.push((subject.clone(), suspect.since.elapsed()));
            }
            stays
        });
        for (subject, evidence) in found {
            match self.0.get_mut(subject) {
                Some(suspect) => suspect.looks += u32::from(counts),
                None => {
                    let fresh =
                        Suspect { evidence: *evidence, since: Instant::now(), looks: 0, reported: false };
                    self.0.insert(subject.clone(), fresh);
                }
            }
        }
        over
    }

    /// Those that are stuck.
    fn stuck(&mut self) -> impl Iterator<Item = (&Subject, &mut Suspect)> {
        self.0.iter_mut().filter(|(_, suspect)| suspect.looks >= LOOKS)
    }
}

/// What one look has found.
#[derive(Default)]
struct Found {
    suspects: Vec<(Subject, Evidence)>,
    /// Something is expected to happen by itself.
    expects: bool,
    /// Resources whose lock is free and whose devices may be in use.
    in_use: Vec<String>,
}

/// Starts the thread. It calls `end` when the daemon should end at once because it is stuck, after it has told the log why.
/// `limit`: how long something may not get on. It ends when the daemon does ([`super::shared::Shared::end`]).
///
/// # Errors
/// No thread can be started.
pub fn start(daemon: &Arc<Daemon>, limit: Duration, end: Box<dyn Fn() + Send>) -> io::Result<JoinHandle<()>> {
    let watchdog = Watchdog {
        daemon: Arc::clone(daemon),
        pause: limit / LOOKS,
        known: Vec::new(),
        suspects: Suspects::default(),
        end,
    };
    thread::Builder::new()
        .name("watchdog".into())
        .stack_size(super::disk::STACK_BYTES)
        .spawn(move || watchdog.run())
}

struct Watchdog {
    daemon: Arc<Daemon>,
    /// Between two looks.
    pause: Duration,
    /// The resources, as the list last had them.
    known: Vec<Weak<Runner>>,
    suspects: Suspects,
    end: Box<dyn Fn() + Send>,
}

impl Watchdog {
    fn run(mut self) {
        let daemon = Arc::clone(&self.daemon);
        let watch = &daemon.shared.watch;
        let mut goes_on = false;
        loop {
            if !goes_on && !watch.wait() {
                return;
            }
            let begin = Instant::now();
            if !watch.pause(self.pause) {
                return;
            }
            let counts = begin.elapsed() < self.pause + self.pause / 2;
            watch.awake.store(false, Ordering::Release);
            let found = self.look();
            for (subject, length) in self.suspects.look(&found.suspects, counts) {
                let text = format!("{} gets on again, after {} s", name_of(&subject), length.as_secs());
                daemon.shared.log.line(Level::Warning, text);
            }
            if self.judge(&found) {
                (self.end)();
                return;
            }
            goes_on = found.expects || !found.suspects.is_empty();
        }
    }

    fn runners(&self) -> impl Iterator<Item = Arc<Runner>> + '_ {
        self.known.iter().filter_map(Weak::upgrade)
    }

    fn look(&mut self) -> Found {
        let mut found = Found::default();
        let patience = PATIENCE.min(self.pause / 4);
        match self.daemon.resources_within(patience) {
            Ok(runners) => self.known = runners.iter().map(Arc::downgrade).collect(),
            Err(holder) => found.suspects.push((Subject::List, Evidence::Held(holder))),
        }
        for runner in self.runners() {
            let name = || runner.name.clone();
            match runner.glimpse(patience) {
                Ok(seen) => {
                    found.expects |= seen.expects;
                    found
                        .suspects
                        .extend(seen.late.map(|timer| (Subject::Timer(name()), Evidence::Late(timer))));
                    found.in_use.extend(seen.is_primary.then(name));
                }
                Err(holder) => found.suspects.push((Subject::Lock(name()), Evidence::Held(holder))),
            }
        }
        found
    }

    /// Reports what is stuck. True: the daemon had better end.
    fn judge(&mut self, found: &Found) -> bool {
        let stuck: Vec<(Subject, u32, Duration, bool)> = self
            .suspects
            .stuck()
            .map(|(subject, suspect)| {
                let told = std::mem::replace(&mut suspect.reported, true);
                (subject.clone(), suspect.evidence.thread(), suspect.since.elapsed(), told)
            })
            .collect();
        if stuck.is_empty() {
            return false;
        }
        let seen: Vec<Option<Seen>> = stuck.iter().map(|(_, thread, ..)| Seen::of(*thread)).collect();
        let held_by_system = seen.iter().flatten().any(Seen::is_held_by_system);
        let ends = found.in_use.is_empty() && !held_by_system;
        let news = stuck.iter().any(|(.., told)| !told);
        if !news && !ends {
            return false;
        }
        let log = |level, text| self.daemon.shared.log.line(level, text);
        let all = Seen::all();
        for ((subject, thread, length, _), seen) in stuck.iter().zip(&seen) {
            for line in self.report(subject, *thread, *length, seen.as_ref(), &all) {
                log(Level::Error, line);
            }
        }
        if ends {
            let text =
                "drbd: the daemon is stuck, which is a defect in the program: it ends at once. What it has \
                        acknowledged is on disk; a daemon that is started again goes on";
            log(Level::Alert, text.to_owned());
            self.daemon.shared.log.wait_until_written(LOG_LIMIT);
        } else if held_by_system {
            let text = "drbd: the daemon goes on, since the system holds the thread (memory that is paged out, a device \
                        that does not answer, a debugger): its own log may say why";
            log(Level::Alert, text.to_owned());
        } else {
            let names = found.in_use.join(", ");
            log(
                Level::Alert,
                format!(
                    "drbd: the daemon is stuck, which is a defect in the program. It goes on for the devices that still work \
                     ({names}), and ends when they are Secondary; move their services away, or end it with kill -9"
                ),
            );
        }
        ends
    }

    /// What the log has to say about something that is stuck.
    fn report(
        &self,
        subject: &Subject,
        thread: u32,
        length: Duration,
        seen: Option<&Seen>,
        all: &[Seen],
    ) -> Vec<String> {
        let mut locks = HashMap::from([(self.daemon.list_address(), Subject::List)]);
        locks
            .extend(self.runners().map(|runner| (runner.lock_address(), Subject::Lock(runner.name.clone()))));
        let lock_of = |thread: &Seen| locks.get(&thread.waits_at?);
        let who = match seen {
            Some(seen) => seen.to_string(),
            None => format!("thread {thread}, which has ended"),
        };
        let waits = match seen.and_then(lock_of) {
            Some(lock) => format!(", which waits for {}", what_of(lock)),
            None => String::new(),
        };
        let (name, seconds) = (name_of(subject), length.as_secs());
        let first = match subject {
            Subject::Timer(_) => {
                format!("{name} has not done what is due for {seconds} s: {who}{waits}")
            }
            _ => format!("{name} has been held for {seconds} s by {who}{waits}"),
        };
        let waiting = all.iter().filter(|thread| lock_of(thread) == Some(subject));
        std::iter::once(first).chain(waiting.map(|thread| format!("{name}: {thread} waits for it"))).collect()
    }
}

/// How a log line about it begins.
fn name_of(subject: &Subject) -> String {
    match subject {
        Subject::List => "drbd: the list of resources".to_owned(),
        Subject::Lock(name) => format!("drbd {name}: the resource's lock"),
        Subject::Timer(name) => format!("drbd {name}: the resource's timer"),
    }
}

/// What it is, within a sentence.
fn what_of(subject: &Subject) -> String {
    match subject {
        Subject::List => "the list of resources".to_owned(),
        Subject::Lock(name) => format!("the lock of resource {name}"),
        Subject::Timer(name) => format!("the timer of resource {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::doors::DoorKind;
    use super::super::helpers::Program;
    use super::super::log::LogSink;
    use super::super::shared::{Config, Shared};
    use super::*;
    use crate::conf::settings::ResourceSettings;
    use crate::conf::Dialect;
    use crate::sys::sync::channel;
    use crate::wire::ProtocolVersion;

    /// A timer thread that has died, with work that is due.
    #[test]
    fn a_timer_that_does_nothing_ends_the_daemon() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let of_sink = Arc::clone(&lines);
        let sink = LogSink::new(Box::new(move |_, text| of_sink.lock().push(text.to_owned()))).unwrap();
        let daemon = Daemon::new(Shared::new(config(), sink));
        let runner = daemon.make_resource("r0", true, ResourceSettings::defaults(Dialect::V84)).unwrap();
        let (sender, ended) = channel();
        let end = Box::new(move || assert!(sender.send(())));
        start(&daemon, Duration::from_millis(300), end).unwrap();
        runner.lose_timer_thread();
        assert!(ended.receive_timeout(Duration::from_secs(60)).is_some(), "{:?}", lines.lock());
        let text = lines.lock().join("\n");
        assert!(text.contains("drbd r0: the resource's timer has not done what is due for"), "{text}");
        assert!(text.contains("which has ended"), "{text}");
        runner.end();
    }

    fn config() -> Config {
        Config {
            protocol_max: ProtocolVersion::MAX,
            helper: Program::default(),
            door: DoorKind::None,
            device_directory: "/nonexistent".into(),
            run_directory: "/nonexistent".into(),
            door_threads: 1,
            minor_count: 32,
        }
    }

    fn held(name: &str, taken: u32) -> (Subject, Evidence) {
        (Subject::Lock(name.to_owned()), Evidence::Held(Holder { thread: 7, taken }))
    }

    fn stuck(suspects: &mut Suspects) -> Vec<Subject> {
        suspects.stuck().map(|(subject, _)| subject.clone()).collect()
    }

    #[test]
    fn a_lock_that_nobody_gives_back_is_stuck_after_all_looks() {
        let mut suspects = Suspects::default();
        for _ in 0..LOOKS {
            suspects.look(&[held("r0", 5)], true);
            assert_eq!(stuck(&mut suspects), []);
        }
        suspects.look(&[held("r0", 5)], true);
        assert_eq!(stuck(&mut suspects), [Subject::Lock("r0".into())]);
    }

    #[test]
    fn a_lock_that_is_always_taken_but_changes_hands_is_not() {
        let mut suspects = Suspects::default();
        for taken in 0..100 {
            suspects.look(&[held("r0", taken)], true);
            assert_eq!(stuck(&mut suspects), []);
        }
    }

    /// A process that was stopped for an hour, a machine that is suspended, one that is hopelessly slow.
    #[test]
    fn looks_that_come_late_condemn_nobody() {
        let mut suspects = Suspects::default();
        for _ in 0..100 {
            suspects.look(&[held("r0", 5)], false);
        }
        assert_eq!(stuck(&mut suspects), []);
        for _ in 0..LOOKS {
            suspects.look(&[held("r0", 5)], true);
        }
        assert_eq!(stuck(&mut suspects), [Subject::Lock("r0".into())]);
    }

    #[test]
    fn what_gets_on_again_is_told_if_it_was_reported() {
        let mut suspects = Suspects::default();
        for _ in 0..=LOOKS {
            assert!(suspects.look(&[held("r0", 5), held("r1", 9)], true).is_empty());
        }
        suspects.0.get_mut(&Subject::Lock("r0".into())).unwrap().reported = true;
        let over = suspects.look(&[], true);
        assert!(matches!(&over[..], [(Subject::Lock(name), _)] if name == "r0"), "{over:?}");
        assert_eq!(stuck(&mut suspects), []);
        // It begins anew.
        suspects.look(&[held("r0", 5)], true);
        assert_eq!(stuck(&mut suspects), []);
    }

    #[test]
    fn a_watch_wakes_who_waits_and_ends_who_pauses() {
        let watch = Arc::new(Watch::default());
        watch.wake();
        assert!(watch.wait());
        let of_thread = Arc::clone(&watch);
        let thread = thread::spawn(move || of_thread.pause(Duration::from_secs(600)));
        watch.end();
        assert!(!thread.join().unwrap());
        assert!(!watch.wait());
    }
}
