//! What a real 8.4.11 module and its drbdsetup did, call by call, done again with our daemon: `live-8.4.11-calls.jsonl`
//! (all calls of the four recorded runs, in their order), while readers of `events` and `events2` note what happens, as
//! they did there (`live-8.4.11-run*-events*.txt`). As there, one host has two minors that are each other's peers.
//!
//! Counters, percentages and UUIDs differ from run to run and are masked.

#![allow(clippy::unwrap_used)] // a test may fail

#[allow(dead_code)] // Other tests use the rest of it.
#[path = "../bad_input/node.rs"]
mod node;
mod readers;

use drbdbox::core::state::{Conn, Disk, Role, StateWord};
use drbdbox::status::Snapshot;
use node::{new_address, run, Node, Ran, LIMIT, PROGRAM};
use readers::Reader;
use serde_json::Value;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Instant;

/// Size of the devices of the original runs.
const DISK_BYTES: u64 = 64 << 20;

/// Calls that are not compared.
struct Exception {
    words: &'static [&'static str],
    why: &'static str,
}

const EXCEPTIONS: &[Exception] = &[
    Exception { words: &["-t", "1"], why: "8.3's short options are understood" },
    Exception { words: &["--al-extents=10"], why: "inside 8.3's range, hence in effect" },
    Exception { words: &["--al-extents=100000"], why: "Q7: ranges are checked" },
    Exception { words: &["--c-plan-ahead=5000"], why: "Q7: ranges are checked" },
    Exception { words: &["--resync-rate=0"], why: "Q7: ranges are checked" },
    Exception { words: &["--timeout=100000"], why: "Q7: ranges are checked" },
    Exception { words: &["attach", "5"], why: "the disk was mounted there" },
];

/// The endpoints of the recorded runs.
const A: &str = "127.0.0.1:7801";
const B: &str = "127.0.0.1:7802";

/// Refusals that ours does not have: it replays an unclean activity log by itself.
const UNCLEAN: &str = "Failure: (165) Unclean meta-data found.";

/// Calls whose outcome depends on who had the device open at that moment.
const HELD_OPEN: &str = "Device is held open by someone";

struct Row {
    run: u64,
    scene: String,
    argv: Vec<String>,
    rc: i32,
    stdout: String,
    stderr: String,
}

fn rows() -> Vec<Row> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/drbdsetup/live-8.4.11-calls.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let row = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap();
        let string = |key: &str| value[key].as_str().unwrap().to_string();
        let words = value["argv"].as_array().unwrap();
        Row {
            run: value["run"].as_u64().unwrap(),
            scene: string("scene"),
            argv: words.iter().map(|word| word.as_str().unwrap().to_string()).collect(),
            rc: value["rc"].as_i64().unwrap() as i32,
            stdout: string("stdout"),
            stderr: string("stderr"),
        }
    };
    text.lines().map(row).collect()
}

/// The host of a run.
struct Host {
    node: Node,
    /// Endpoints in place of 127.0.0.1:7801 and 7802.
    addresses: [String; 2],
}

impl Host {
    fn start() -> Host {
        let node = Node::start();
        for name in ["ram0", "ram1"] {
            node.make_disk(name, DISK_BYTES);
        }
        for name in ["ram2", "ram3"] {
            std::fs::File::create(node.path(name)).unwrap().set_len(DISK_BYTES).unwrap();
        }
        let ip = new_address().ip();
        Host { node, addresses: [format!("{ip}:7801"), format!("{ip}:7802")] }
    }

    /// A call with the names of this host.
    fn call(&self, argv: &[String]) -> Ran {
        let mut command = Command::new(PROGRAM);
        self.node.environment(&mut command);
        command.arg0("drbdsetup-84").env_remove("COLUMNS");
        if argv[0] == "cat" {
            if let Some(name) = argv[1].strip_prefix("/var/lib/drbd/") {
                return self.last_known(name);
            }
            command.arg("proc");
        }
        let ours = self.node.directory.path().display().to_string();
        for word in argv.iter().skip(1).filter(|_| argv[0] != "cat") {
            let word = word.replace("/dev/ram", &format!("{ours}/ram"));
            let word = word.replace("127.0.0.1:7801", &self.addresses[0]);
            command.arg(word.replace("127.0.0.1:7802", &self.addresses[1]));
        }
        run(command)
    }

    /// What `check-resize` has remembered of a minor; the line that 8.4.11 does not write is left out.
    fn last_known(&self, name: &str) -> Ran {
        let text = std::fs::read_to_string(self.node.path("lib").join(name)).unwrap();
        let out = text.split_inclusive('\n').filter(|line| !line.starts_with("uuid:")).collect();
        Ran { status: 0, out, err: String::new() }
    }

    fn words(&self, line: &str) {
        let words: Vec<String> = line.split(' ').map(String::from).collect();
        self.call(&words).ok();
    }

    /// What was said, with the names of the original's host.
    fn renamed(&self, text: &str) -> String {
        let ours = self.node.directory.path().display().to_string();
        let text = text.replace(&format!("{ours}/ram"), "/dev/ram");
        let text = text.replace(&self.addresses[0], "127.0.0.1:7801");
        text.replace(&self.addresses[1], "127.0.0.1:7802")
    }

    /// What the recorded run did before its first call.
    fn prepare(&self, run: u64) {
        if run == 4 {
            return self.connect_fresh("");
        }
        if run != 2 {
            return;
        }
        for (resource, minor) in [("r0", 0), ("r1", 1)] {
            self.words(&format!("drbdsetup new-resource {resource}"));
            self.words(&format!("drbdsetup new-minor {resource} {minor} 0"));
            let disk = format!("/dev/ram{minor} /dev/ram{minor} internal");
            self.words(&format!("drbdsetup attach {minor} {disk} --resync-rate=2M --c-plan-ahead=0"));
        }
        self.words("drbdsetup new-resource r5");
        self.words("drbdsetup new-minor r5 5 0");
    }

    /// Waits until this holds for both minors. The recorded run waited, too, or was slower.
    fn wait(&self, what: &str, condition: impl Fn(Conn) -> bool) {
        let deadline = Instant::now() + LIMIT;
        let conn = |minor| self.node.snapshot().minor(minor).map(|(_, volume)| volume.state.conn);
        while ![0, 1].iter().all(|minor| conn(*minor).is_some_and(&condition)) {
            assert!(Instant::now() < deadline, "{what}: {:?} {:?}", conn(0), conn(1));
            std::thread::yield_now();
        }
    }

    /// What the third run did before a scene: new meta data, both connected; before the split brain, both Primary on
    /// their own; before the timeouts, connected again.
    fn prepare_scene(&self, scene: &str) {
        if scene == "P" {
            self.words(&format!("drbdsetup connect r1 {B} {A}"));
            return self.wait("connected", |conn| conn == Conn::Connected);
        }
        if !["L0", "M", "N"].contains(&scene) {
            return;
        }
        for resource in ["r0", "r1"] {
            if self.node.snapshot().resource(resource).is_some() {
                self.words(&format!("drbdsetup down {resource}"));
            }
        }
        self.connect_fresh(if scene == "M" { " --fencing=resource-only" } else { "" });
        if scene == "L0" {
            return;
        }
        self.words("drbdsetup new-current-uuid 0 --clear-bitmap");
        self.wait_states("in sync", |states| states.iter().all(|s| s.disks() == "UpToDate/UpToDate"));
        if scene == "N" {
            self.words(&format!("drbdsetup disconnect {A} {B}"));
            self.wait_states("left", |[a, b]| (a.conn, b.conn) == (Conn::StandAlone, Conn::WFConnection));
            self.words(&format!("drbdsetup disconnect {B} {A}"));
            self.words("drbdsetup primary 0");
            self.words("drbdsetup primary 1");
        }
    }

    /// Two minors with new meta data, connected with each other.
    fn connect_fresh(&self, disk_options: &str) {
        for name in ["ram0", "ram1"] {
            self.node.make_disk(name, DISK_BYTES);
        }
        for (resource, minor) in [("r0", 0), ("r1", 1)] {
            self.words(&format!("drbdsetup new-resource {resource}"));
            self.words(&format!("drbdsetup new-minor {resource} {minor} 0"));
            let disk = format!("/dev/ram{minor} /dev/ram{minor} internal --c-plan-ahead=0{disk_options}");
            self.words(&format!("drbdsetup attach {minor} {disk}"));
        }
        self.words(&format!("drbdsetup connect r0 {A} {B}"));
        self.words(&format!("drbdsetup connect r1 {B} {A}"));
        self.wait("connected", |conn| conn == Conn::Connected);
    }

    /// Waits until the states of both minors are so.
    fn wait_states(&self, what: &str, condition: impl Fn([StateWord; 2]) -> bool) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let snapshot = self.node.snapshot();
            let [a, b] = [0, 1].map(|minor| snapshot.minor(minor).map(|(_, volume)| volume.state));
            if a.zip(b).is_some_and(|(a, b)| condition([a, b])) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {a:?} {b:?}");
        }
    }

    /// The same for calls of the third run.
    fn settle_third(&self, row: &Row) {
        let words: Vec<&str> = row.argv.iter().skip(1).map(String::as_str).collect();
        match (row.scene.as_str(), &words[..]) {
            ("L0", ["new-current-uuid", ..]) => {
                self.wait_states("in sync", |states| states.iter().all(|s| s.disks() == "UpToDate/UpToDate"));
            }
            ("L1" | "M", ["primary", "0"]) => {
                self.wait_states("the peer knows", |[a, b]| {
                    a.conn < Conn::Connected || b.peer == Role::Primary
                });
            }
            ("L1" | "M", ["disconnect", ..]) => {
                self.wait_states("disconnected", |[a, b]| {
                    (a.conn, b.conn) == (Conn::StandAlone, Conn::WFConnection)
                });
            }
            ("O", ["detach", "1"]) => {
                self.wait_states("the peer knows", |[a, b]| {
                    (a.pdsk, b.disk) == (Disk::Diskless, Disk::Diskless)
                });
            }
            ("O", ["disconnect", ..]) => {
                self.wait_states("left", |[a, b]| (a.conn, b.conn) == (Conn::WFConnection, Conn::StandAlone))
            }
            ("P", ["secondary", "0"]) => {
                self.wait_states("the peer knows", |[_, b]| b.peer == Role::Secondary)
            }
            ("P", ["disconnect", ..]) => {
                self.wait_states("left", |[a, b]| (a.conn, b.conn) == (Conn::StandAlone, Conn::WFConnection))
            }
            ("N", ["connect", "r1", _, _]) => self.wait("split brain", |conn| conn == Conn::StandAlone),
            ("N", ["connect", "r0", ..]) => self.wait_states("connected or alone", |[a, b]| {
                b.conn == Conn::StandAlone
                    || a.conn == Conn::Connected && b.conn == Conn::Connected && b.disk == Disk::UpToDate
            }),
            _ => {}
        }
    }

    /// What follows from a call, and not at once.
    fn settle(&self, row: &Row) {
        if row.run == 3 && row.rc == 0 {
            return self.settle_third(row);
        }
        if row.run != 2 || row.rc != 0 {
            return;
        }
        let words: Vec<&str> = row.argv.iter().skip(1).map(String::as_str).collect();
        match words[..] {
            ["connect", "r1", ..] => self.wait("connected", |conn| conn == Conn::Connected),
            ["primary", "0", "--force"] => {
                self.wait("resync", |conn| matches!(conn, Conn::SyncSource | Conn::SyncTarget));
            }
            ["pause-sync", ..] | ["resume-sync", ..] => {
                // The peer hears of it, and a resync pauses or goes on.
                let deadline = Instant::now() + LIMIT;
                let is_settled = |snapshot: &Snapshot| {
                    let states = [0, 1].map(|minor| snapshot.minor(minor).unwrap().1.state);
                    let [a, b] = states;
                    let linked = a.conn >= Conn::Connected;
                    let told = !linked || (a.user_isp, a.peer_isp) == (b.peer_isp, b.user_isp);
                    let paused = |conn| matches!(conn, Conn::PausedSyncS | Conn::PausedSyncT);
                    told && states
                        .iter()
                        .all(|s| s.conn <= Conn::Connected || paused(s.conn) == s.is_sync_paused())
                };
                while !is_settled(&self.node.snapshot()) {
                    assert!(Instant::now() < deadline, "{}", row.argv.join(" "));
                }
            }
            ["disk-options", "0", option] if option.starts_with("--resync-after") => {
                let waits = option == "--resync-after=1";
                self.wait("dependency", |conn| {
                    matches!(conn, Conn::PausedSyncS | Conn::PausedSyncT) == waits
                });
            }
            ["disconnect", ..] => self.wait("disconnected", |conn| conn < Conn::Connected),
            ["disk-options", "0", "--resync-rate=100M"] if row.scene == "K" => {
                self.wait("end of the verify", |conn| conn == Conn::Connected);
            }
            ["verify", ..] => self.wait("verify", |conn| conn.is_verify()),
            _ => {}
        }
    }
}

/// Whatever differs from run to run.
fn masked(text: &str) -> String {
    const COUNTERS: &[&str] = &[
        "ns",
        "nr",
        "dw",
        "dr",
        "al",
        "bm",
        "lo",
        "pe",
        "ua",
        "ap",
        "oos",
        "read",
        "written",
        "al-writes",
        "bm-writes",
        "upper-pending",
        "lower-pending",
        "received",
        "sent",
        "pending",
        "unacked",
        "done",
    ];
    let mut lines = Vec::new();
    for line in text.lines() {
        // The header, details that ours leaves out, and explanations that only ours gives.
        let left_out =
            ["version: ", "GIT-hash: ", "srcversion: ", "\tresync: used", "\tact_log: used", "\tblocked on"];
        let position = line.contains("% sector pos: ");
        // A connection without a name: see `objects` of `status::events2`.
        if line.starts_with("exists ") && line.contains(" peer-node-id:0 ") && !line.contains("conn-name:") {
            continue;
        }
        if left_out.iter().any(|start| line.starts_with(start)) || position {
            continue;
        }
        if line.starts_with("\t[") {
            lines.push("\tBAR".to_string());
            continue;
        }
        if line.starts_with("\tfinish: ") {
            // The target says what it wants.
            lines.push(format!("\tFINISH{}", if line.contains(" want: ") { " want" } else { "" }));
            continue;
        }
        if let Some(rest) = line.strip_prefix("_resynced_percent=") {
            lines.push(format!("_resynced_percent={}", if rest.is_empty() { "" } else { "P" }));
            continue;
        }
        let word = |word: &str| match word.split_once(':') {
            Some(("out-of-sync", _)) => None,
            Some((key, _)) if COUNTERS.contains(&key) => Some(format!("{key}:N")),
            None if is_flags(word) => Some(without_congestion(word)),
            _ => Some(mask_uuids(word)),
        };
        let words: Vec<String> = line.split(' ').filter_map(word).collect();
        lines.push(words.join(" "));
    }
    lines.join("\n")
}

/// Whether these are the flags of a device in /proc/drbd.
fn is_flags(word: &str) -> bool {
    word.len() == 6 && word.starts_with(['r', 's']) && word.bytes().all(|byte| b"rsapudcbn-".contains(&byte))
}

/// The fifth flag says what is congested just now. The recorded kernel (Linux 6.1) has no such thing any more.
fn without_congestion(flags: &str) -> String {
    format!("{}-{}", &flags[..4], &flags[5..])
}

/// `UUID` for 16 hexadecimal digits.
fn mask_uuids(word: &str) -> String {
    let is_uuid = |part: &str| part.len() == 16 && part.bytes().all(|b| b.is_ascii_hexdigit());
    let parts: Vec<&str> = word.split(':').map(|part| if is_uuid(part) { "UUID" } else { part }).collect();
    parts.join(":")
}

/// Explanations of ours behind a refusal that had none.
fn without_own_info(got: &str, want: &str) -> String {
    match got.split_once("additional info from kernel:") {
        Some((before, _)) if !want.contains("additional info") => before.trim_end().to_string(),
        _ => got.to_string(),
    }
}

#[test]
fn every_call_of_the_recorded_runs() {
    let mut host: Option<(u64, Host)> = None;
    let (mut agree, mut left_out, mut failed) = (0, 0, Vec::new());
    // Settings that a call left out would have changed are not compared until the scene ends.
    let mut spoiled = String::new();
    let mut readers = Vec::new();
    let mut scene = String::new();
    for row in rows() {
        if host.as_ref().is_none_or(|(run, _)| *run != row.run) {
            let new = Host::start();
            new.prepare(row.run);
            readers.drain(..).for_each(|reader: Reader| reader.compare());
            if row.run == 3 {
                readers.extend(readers::of_third_run(&new.node));
            }
            host = Some((row.run, new));
            scene.clear();
        }
        let (_, host) = host.as_ref().unwrap();
        if row.run == 3 && row.scene != scene {
            host.prepare_scene(&row.scene);
        }
        scene.clone_from(&row.scene);
        if row.run == 2 && row.scene == "E" && host.node.snapshot().resource("r5").is_some() {
            host.words("drbdsetup down r5");
            readers.extend(readers::of_second_run(&host.node));
        }
        let line = row.argv.join(" ");
        let exception =
            EXCEPTIONS.iter().find(|e| row.argv.windows(e.words.len()).any(|window| window == e.words));
        if let Some(exception) = exception {
            println!("left out: {line}: {}", exception.why);
            spoiled.clone_from(&row.scene);
            left_out += 1;
            continue;
        }
        if row.run == 4 {
            println!("left out: {line}: see outdate_does_not_make_inconsistent_data_good");
            left_out += 1;
            continue;
        }
        let spoils = spoiled == row.scene && ["show", "disconnect"].contains(&row.argv[1].as_str());
        if row.stderr.contains(HELD_OPEN) || row.stderr.contains(UNCLEAN) || spoils {
            left_out += 1;
            continue;
        }
        let got = host.call(&row.argv);
        let (out, err) = (masked(&host.renamed(&got.out)), masked(&host.renamed(&got.err)));
        let (want_out, want_err) = (masked(&row.stdout), masked(&row.stderr));
        let err = without_own_info(&err, &want_err);
        if (got.status, &out, err.trim_end()) == (row.rc, &want_out, want_err.trim_end()) {
            agree += 1;
        } else {
            failed.push(format!(
                "{} {line}\n--- want {}\n{want_out}\n{want_err}\n--- got {}\n{out}\n{err}",
                row.scene, row.rc, got.status
            ));
        }
        host.settle(&row);
    }
    println!("live-8.4.11-calls: {agree} calls, {left_out} left out");
    assert!(failed.is_empty(), "{} calls:\n{}", failed.len(), failed.join("\n\n"));
    assert_eq!((agree, left_out), (781, 21));
}

#[test]
fn a_layout_of_the_log_that_cannot_be_had_is_refused() {
    let host = Host::start();
    host.prepare(2);
    let resize = |stripes: u32, kib: u32| {
        let line = format!("drbdsetup resize 0 --al-stripes={stripes} --al-stripe-size-kB={kib}");
        let words: Vec<String> = line.split(' ').map(String::from).collect();
        host.call(&words)
    };
    for (stripes, kib) in [(4, 4), (1, 4), (1024, 16_777_216)] {
        resize(stripes, kib).refused(10, "(168) Resulting AL are too small");
    }
    resize(1023, 16_777_216).refused(10, "(167) Resulting AL area too big");
    resize(2, 64).refused(10, "(166) DRBD need to be connected for online MD layout change");
    // As it is.
    resize(1, 32).ok();
}

/// The kernel lets the other side of a connection take half-synced data for good ones (run 4 of the recording).
#[test]
fn outdate_does_not_make_inconsistent_data_good() {
    let host = Host::start();
    host.prepare(4);
    let states =
        || host.node.drbdsetup(&["0", "dstate"]).ok().out + &host.node.drbdsetup(&["1", "dstate"]).ok().out;
    let before = states();
    host.node.drbdsetup(&["0", "outdate"]).refused(5, "(-16) Disk state is lower than outdated");
    assert_eq!(states(), before);
}

/// 8.3's form: it looks at each timeout by itself. Who waits for another one than the second that is meant takes too long.
fn gives_up_after_a_second(node: &Node, timeouts: [&str; 3]) {
    let [wfc, degraded, outdated] = timeouts;
    let ran = node.drbdsetup(&["0", "wait-connect", "-t", wfc, "-d", degraded, "-o", outdated]);
    assert_eq!((ran.status, ran.err.as_str()), (5, ""), "{timeouts:?}");
}

/// Which timeout counts follows from how the node came up, and from what it knows of the peer.
#[test]
fn each_of_the_three_timeouts_has_its_situation() {
    let [one, other] = [Node::start(), Node::start()];
    for node in [&one, &other] {
        let disk = node.make_disk("disk", node::DISK_BYTES);
        let words = ["0", "disk", &disk, &disk, "internal", "--create-device", "--fencing", "resource-only"];
        node.drbdsetup(&words).ok();
        node.drbdsetup(&["0", "syncer", "-r", "700M"]).ok();
    }
    one.connect(other.address, &[]);
    gives_up_after_a_second(&one, ["1", "300", "300"]);

    other.connect(one.address, &[]);
    one.drbdsetup(&["0", "primary", "--force"]).ok();
    one.wait("in sync", |v| v.state.conn == Conn::Connected && v.state.disks() == "UpToDate/UpToDate");
    one.drbdsetup(&["0", "disconnect"]).ok();
    other.drbdsetup(&["0", "disconnect"]).ok();
    one.connect(other.address, &[]);
    one.wait("the peer is known to be outdated", |v| v.state.pdsk == Disk::Outdated);
    gives_up_after_a_second(&one, ["300", "300", "1"]);

    // A Primary without a peer, whose host crashed.
    let mut lone = Node::start();
    lone.attach();
    lone.connect(other.address, &[]);
    lone.drbdsetup(&["0", "primary", "--force"]).ok();
    lone.kill();
    lone.start_daemon();
    lone.wait_conn(Conn::WFConnection);
    gives_up_after_a_second(&lone, ["300", "1", "1"]);
}
