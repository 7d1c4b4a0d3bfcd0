//! DRBD 9's `events2`: with `--full`, `--diff`, `--poll`, or under a name that ends in `-9`. spec/drbdsetup.md 7.3.

use super::daemon::Asker;
use super::failure::{out, Failure, Outcome};
use super::getopt::Parser;
use super::nine::option;
use super::table::{OwnKind, Spec};
use drbdbox::conf::Dialect;
use drbdbox::control::client::Next;
use drbdbox::control::{Event, EventKind};
use drbdbox::status::status84::chosen;
use drbdbox::status::status9::events::{self, EventStyle};
use drbdbox::status::status9::{view, View};
use drbdbox::status::{events2, Resource, Snapshot};
use drbdbox::sys::local_time;
use drbdbox::sys::sync::Mutex;
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Options of 9's `events2`; colours are accepted and not used.
const OPTIONS: [Spec; 7] = [
    option("timestamps", 'T', OwnKind::Plain),
    option("statistics", 's', OwnKind::Plain),
    option("now", 'n', OwnKind::Plain),
    option("poll", 'p', OwnKind::Plain),
    option("full", 'f', OwnKind::Plain),
    option("diff", 'i', OwnKind::Plain),
    option("color", 'c', OwnKind::OptionalText),
];

#[derive(Debug, Clone, Default)]
struct Options {
    style: EventStyle,
    timestamps: bool,
    now: bool,
    poll: bool,
    object: String,
}

fn parse(words: &[String]) -> Result<Options, Failure> {
    let mut parser = Parser::new("events2", words, &OPTIONS);
    let mut options = Options { object: "all".to_string(), ..Options::default() };
    while let Some(found) = parser.next_option() {
        match found.map(|found| found.spec.long) {
            Ok("timestamps") => options.timestamps = true,
            Ok("statistics") => options.style.statistics += 1,
            Ok("now") => options.now = true,
            Ok("poll") => options.poll = true,
            Ok("full") => options.style.full = true,
            Ok("diff") => options.style.diff = true,
            Ok(_) => {}
            Err(bad) => return Err(Failure::refused(format!("events2: {}", bad.text()))),
        }
    }
    match parser.others() {
        [] => {}
        [object] => options.object.clone_from(object),
        [_, excess @ ..] => {
            return Err(Failure::refused(format!("Excess arguments: {}", excess.join(" "))));
        }
    }
    Ok(options)
}

/// What has been told, and how to tell more.
struct Teller {
    options: Options,
    /// Resources by name, each with the revision that was told.
    known: BTreeMap<String, (u64, View)>,
    /// Milliseconds on the daemon's clock, minus those since 1970.
    clock: i128,
}

impl Teller {
    fn print(&self, time_us: u64, lines: &[String]) {
        let stamp = if self.options.timestamps { local_time::iso_8601(time_us) + " " } else { String::new() };
        let text: String = lines.iter().map(|line| format!("{stamp}{line}\n")).collect();
        out(&text);
    }

    fn wants(&self, name: &str) -> bool {
        self.options.object == "all" || self.options.object == name
    }

    /// Everything, as if nothing had been told.
    fn dump(&mut self, snapshot: &Snapshot, time_us: u64) {
        let mut lines = Vec::new();
        self.known.clear();
        for resource in chosen(snapshot, &self.options.object) {
            let view = view(snapshot.now_ms, resource);
            lines.extend(events::existing(&view, &self.options.style));
            self.known.insert(resource.name.clone(), (resource.revision, view));
        }
        lines.push("exists -".to_string());
        self.print(time_us, &lines);
    }

    /// What is different now.
    fn update(&mut self, snapshot: &Snapshot, time_us: u64, counters: bool) {
        let gone: Vec<String> =
            self.known.keys().filter(|name| snapshot.resource(name).is_none()).cloned().collect();
        for name in gone {
            self.destroy(&name, time_us);
        }
        for resource in chosen(snapshot, &self.options.object) {
            self.tell(resource, snapshot.now_ms, time_us, counters);
        }
    }

    fn tell(&mut self, resource: &Resource, now_ms: u64, time_us: u64, counters: bool) {
        let old = self.known.get(&resource.name);
        if old.is_some_and(|(revision, _)| *revision > resource.revision) {
            return;
        }
        let new = view(now_ms, resource);
        let lines = events::change(old.map(|(_, view)| view), Some(&new), &self.options.style, counters);
        self.known.insert(resource.name.clone(), (resource.revision, new));
        self.print(time_us, &lines);
    }

    fn destroy(&mut self, name: &str, time_us: u64) {
        let old = self.known.remove(name);
        let lines = events::change(old.as_ref().map(|(_, view)| view), None, &self.options.style, false);
        self.print(time_us, &lines);
    }

    fn helper(&self, event: &Event) {
        let EventKind::Helper { resource, volume, helper, status } = &event.kind else { return };
        let connection = self.known.get(resource).and_then(|(_, view)| view.connections.first());
        let key = match connection {
            Some(connection) => events::connection_key(resource, connection),
            None => format!("name:{resource}"),
        };
        // A wait status; the text has the exit code.
        let exit = status.map(|status| status >> 8 & 0xff);
        self.print(event.time_us, &[events2::helper_with_key(&key, *volume, helper, exit)]);
    }
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// `events2 [RESOURCE] [OPTIONS]`.
pub fn run(words: &[String]) -> Outcome {
    let options = parse(words)?;
    let (now, poll) = (options.now, options.poll);
    let object = options.object.clone();
    let asker = Asker { object: &object, form: Dialect::V84 };
    let mut stream = asker.events()?;
    let teller = Arc::new(Mutex::new(Teller { options, known: BTreeMap::new(), clock: 0 }));
    let stdout = std::io::stdout();
    let mut first = true;
    loop {
        let next = stream.next(None, Some(&stdout));
        let event = match next.map_err(|error| asker.stream_failed(&error))? {
            Next::Event(event) => *event,
            Next::WatchedClosed | Next::Deadline => return Ok(0),
        };
        let mut told = teller.lock();
        let now_ms = u64::try_from(told.clock + i128::from(event.time_us / 1000)).unwrap_or(0);
        match &event.kind {
            EventKind::Start(snapshot) => {
                told.clock = i128::from(snapshot.now_ms) - i128::from(event.time_us / 1000);
                if std::mem::take(&mut first) {
                    told.dump(snapshot, event.time_us);
                    drop(told);
                    match (now, poll) {
                        (true, false) => return Ok(0),
                        (true, true) => {
                            answer_polls(&teller, &object, true);
                            return Ok(0);
                        }
                        (false, true) => {
                            let (teller, object) = (Arc::clone(&teller), object.clone());
                            std::thread::spawn(move || {
                                answer_polls(&teller, &object, false);
                                std::process::exit(0);
                            });
                        }
                        (false, false) => {}
                    }
                } else {
                    told.update(snapshot, event.time_us, false);
                }
            }
            EventKind::Skipped(count) => told.print(event.time_us, &[format!("- skipped {count}")]),
            EventKind::State { resource, .. } | EventKind::Resource(resource)
                if told.wants(&resource.name) =>
            {
                told.tell(resource, now_ms, event.time_us, false);
            }
            EventKind::ResourceDeleted { name } => told.destroy(name, event.time_us),
            EventKind::Helper { resource, .. } if told.wants(resource) => told.helper(&event),
            // How far it is, is in the picture of the resource.
            EventKind::SyncProgress { resource, .. } if told.wants(resource) => {
                if let Ok(snapshot) = asker.snapshot() {
                    told.update(&snapshot, event.time_us, false);
                }
            }
            _ => {}
        }
    }
}

/// `--poll`: for every `n` on stdin, everything (`whole`) or what changed, counters included; until the end of stdin.
fn answer_polls(teller: &Mutex<Teller>, object: &str, whole: bool) {
    let asker = Asker { object, form: Dialect::V84 };
    for byte in std::io::stdin().lock().bytes() {
        match byte {
            Ok(b'n') => {
                let mut told = teller.lock();
                let Ok(snapshot) = asker.snapshot() else { return };
                match whole {
                    true => told.dump(&snapshot, now_us()),
                    false => told.update(&snapshot, now_us(), true),
                }
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}
