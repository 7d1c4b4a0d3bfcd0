//! Readers of events while the recorded calls are made again, and what they have to see.

use super::masked;
use super::node::{Node, LIMIT, PROGRAM};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Instant;

/// What a reader tells about each object, in order.
type Stories = BTreeMap<String, Vec<String>>;

/// A reader that was started before the calls, and its recording.
struct Recorded {
    words: &'static [&'static str],
    file: &'static str,
    /// Scene from which on it is compared: before, the resources of the recorded run were made.
    from: &'static str,
    stories: fn(&str) -> Stories,
    /// How many stories there are.
    count: usize,
}

const SECOND_RUN: &[Recorded] = &[
    Recorded { words: &["events2"], file: "run2-events2", from: "E", stories: stories_of_events2, count: 8 },
    Recorded {
        words: &["events2", "r0"],
        file: "run2-events2-r0",
        from: "E",
        stories: stories_of_events2,
        count: 4,
    },
    Recorded {
        words: &["events2", "--timestamps", "--statistics"],
        file: "run2-events2-ts-stat",
        from: "E",
        stories: stories_of_statistics,
        count: 8,
    },
    Recorded { words: &["events"], file: "run2-events84", from: "E", stories: stories_of_events, count: 4 },
    Recorded {
        words: &["events", "0"],
        file: "run2-events84-minor0",
        from: "E",
        stories: stories_of_events,
        count: 2,
    },
];

const THIRD_RUN: &[Recorded] = &[
    Recorded { words: &["events2"], file: "run3-events2", from: "L0", stories: stories_of_events2, count: 8 },
    Recorded { words: &["events"], file: "run3-events84", from: "L0", stories: stories_of_events, count: 4 },
];

/// Who first notices that a connection ends, and by what, differs from run to run.
const ENDING: [&str; 4] = ["BrokenPipe", "NetworkFailure", "TearDown", "Disconnecting"];

/// What a reader of events2 wrote about each kind of object of each resource, in order. How the two ends of a
/// connection take turns differs from run to run, and so does when a handler is called.
fn stories_of_events2(text: &str) -> Stories {
    let mut stories = Stories::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [action, kind, name, ..] = words[..] else { continue };
        let known = ["create", "change", "destroy"].contains(&action) && kind != "helper";
        // Some notifications of the kernel say nothing.
        let keys = ["name:", "peer-node-id:", "conn-name:", "volume:", "minor:"];
        let empty = words[2..].iter().all(|word| keys.iter().any(|key| word.starts_with(key)));
        let ends = ENDING.iter().any(|state| line.contains(&format!(" connection:{state}")));
        // A connection without a name: see `objects` of `status::events2`.
        let nameless = line.contains(" peer-node-id:0 ") && !line.contains(" conn-name:");
        let says_nothing = empty && action == "change";
        if known && !says_nothing && !ends && !nameless {
            stories.entry(format!("{kind} {name}")).or_default().push(line.to_string());
        }
    }
    stories
}

/// The same with `--timestamps --statistics`: the time must be one, and what is only of that moment is left out.
fn stories_of_statistics(text: &str) -> Stories {
    let of_the_moment = ["al-suspended", "blocked", "congested", "write-ordering"];
    let line = |line: &str| {
        let (time, rest) = line.split_once(' ')?;
        let form: String = time.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
        // The heads of scenes, and the end of the first dump, have none.
        if form != "9999-99-99T99:99:99.999999+99:99" {
            assert!(line.starts_with("## ") || line == "exists -", "{line}");
            return None;
        }
        let masked = masked(rest);
        let words = masked.split(' ').filter(|word| {
            !word.split_once(':').is_some_and(|(key, value)| of_the_moment.contains(&key) || value == "N")
        });
        Some(words.collect::<Vec<_>>().join(" "))
    };
    let lines: Vec<String> = text.lines().filter_map(line).collect();
    stories_of_events2(&lines.join("\n"))
}

/// What a reader of `events` wrote about each minor: the changes of its state, and its helpers.
fn stories_of_events(text: &str) -> Stories {
    let mut stories = Stories::new();
    let mut before = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        let (_, Some(kind), Some(volume), Some(rest)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        match kind {
            "ST-prev" => {
                before.insert(volume.to_string(), rest.to_string());
            }
            "ST-new" => {
                let change = format!("{} -> {rest}", before.remove(volume).unwrap());
                if !ENDING.iter().any(|state| change.contains(&format!("cs:{state} "))) {
                    stories.entry(volume.to_string()).or_default().push(change);
                }
            }
            // 8.4.11 says nothing about a helper of a connection; ours does.
            "UH" | "UH-post" if rest.starts_with("fence-peer") => {}
            "UH" | "UH-post" => {
                stories.entry(format!("helpers of {volume}")).or_default().push(format!("{kind} {rest}"));
            }
            // ST is the state of now, R tells nothing, and how often SP comes depends on the speed.
            "ST" | "R" | "-" | "SP" => {}
            _ => assert!(line.starts_with("## "), "{line}"),
        }
    }
    stories
}

/// A reader that writes into a file.
pub struct Reader {
    recorded: &'static Recorded,
    child: Child,
    path: PathBuf,
}

fn start(node: &Node, recorded: &'static Recorded) -> Reader {
    let path = node.path(recorded.file);
    let mut command = Command::new(PROGRAM);
    node.environment(&mut command);
    let file = File::create(&path).unwrap();
    let child = command.arg0("drbdsetup-84").args(recorded.words).stdout(file).spawn().unwrap();
    Reader { recorded, child, path }
}

/// Starts them; returns when all have written what there was before.
fn start_all(node: &Node, all: &'static [Recorded], command: &str) -> Vec<Reader> {
    let of_command = all.iter().filter(|recorded| recorded.words[0] == command);
    let readers: Vec<Reader> = of_command.map(|recorded| start(node, recorded)).collect();
    let first = if command == "events2" { "exists -" } else { " ST " };
    let deadline = Instant::now() + LIMIT;
    for reader in &readers {
        while !reader.text().contains(first) {
            assert!(Instant::now() < deadline, "{}", reader.recorded.file);
            std::thread::yield_now();
        }
    }
    readers
}

/// The readers of the second run.
pub fn of_second_run(node: &Node) -> Vec<Reader> {
    let mut readers = start_all(node, SECOND_RUN, "events");
    readers.extend(start_all(node, SECOND_RUN, "events2"));
    readers
}

/// The readers of the third run, which began without resources. Of such a world `events` says nothing, so that nobody
/// would know when it listens: it is shown a minor that goes again.
pub fn of_third_run(node: &Node) -> Vec<Reader> {
    node.drbdsetup(&["new-resource", "passing"]).ok();
    node.drbdsetup(&["new-minor", "passing", "9", "0"]).ok();
    let mut readers = start_all(node, THIRD_RUN, "events");
    node.drbdsetup(&["down", "passing"]).ok();
    readers.extend(start_all(node, THIRD_RUN, "events2"));
    readers
}

impl Reader {
    fn text(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap()
    }

    /// The stories must be those of the recording.
    pub fn compare(&self) {
        let Recorded { file, from, stories, count, .. } = self.recorded;
        let path = format!("{}/tests/vectors/drbdsetup/live-8.4.11-{file}.txt", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let begins = text.find(&format!("## {from}:")).unwrap();
        let text = &text[begins..];
        let mut want = stories(text);
        if *file == "run3-events84" {
            // The kernel takes a deleted volume out of its connection by way of another state.
            let last = want.get_mut("1,r1[0]").and_then(Vec::pop).unwrap();
            assert!(last.contains("{ cs:WFReportParams ro:Secondary/Unknown ds:Diskless/DUnknown r--- }"));
        }
        assert_eq!(want.len(), *count, "{file}: {:?}", want.keys());
        let deadline = Instant::now() + LIMIT;
        while stories(&self.text()) != want {
            if Instant::now() > deadline {
                self.show_difference(&want);
            }
            std::thread::yield_now();
        }
        println!("live-8.4.11-{file}: {} lines", want.values().map(Vec::len).sum::<usize>());
    }

    fn show_difference(&self, want: &Stories) -> ! {
        let got = (self.recorded.stories)(&self.text());
        let mut shown = String::new();
        for name in want.keys().chain(got.keys().filter(|name| !want.contains_key(*name))) {
            let none = Vec::new();
            let (want, got) = (want.get(name).unwrap_or(&none), got.get(name).unwrap_or(&none));
            if want != got {
                shown += &format!("{name}\n--- want\n{}\n--- got\n{}\n\n", want.join("\n"), got.join("\n"));
            }
        }
        panic!("{}\n{shown}", self.recorded.file);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
