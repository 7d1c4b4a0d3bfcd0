//! Command lines: `args-8.3.16.jsonl`, `replies-8.3.16.jsonl`, `help-8.4.jsonl`.

use crate::fake_daemon::{directory, run, FakeDaemon};
use crate::fixture::{self, argv, rows, string};
use drbdbox::conf::options;
use drbdbox::conf::value::Value as Setting;
use drbdbox::control::message::{Call, ConnectionOf, Reply, Request, SettingChange};
use drbdbox::core::state::{Conn, Disk, Role};
use drbdbox::status::{AddressPair, Backing, Family, Snapshot};
use serde_json::{json, Map, Value};
use std::process::Output;

/// Rows of `args-8.3.16` that are not compared, or only in part. spec/decisions.md 8,
/// spec/drbdsetup.md 11.
struct Exception {
    /// Words that stand in the command line, one after the other.
    words: &'static [&'static str],
    why: &'static str,
}

const EXCEPTIONS: &[Exception] = &[
    Exception { words: &["primary", "0"], why: "the order of 8.4 is understood" },
    Exception { words: &["disk", "/etc/passwd"], why: "a regular file is a disk too" },
    Exception { words: &["--use-rle=yes"], why: "8.4's form of a switch is understood" },
    Exception { words: &["--after", "256"], why: "inside 8.4's range" },
    Exception { words: &["--al-extents", "3834"], why: "inside 8.4's range" },
    Exception { words: &["--congestion-extents", "3834"], why: "inside 8.4's range" },
    Exception { words: &["10.0.0.1:70000", "10.0.0.2:1"], why: "Q12: ports do not wrap" },
    Exception { words: &["--outdated-wfc-timeout", "-1"], why: "Q5: the original looks at another variable" },
    Exception {
        words: &["--outdated-wfc-timeout", "300001"],
        why: "Q5: the original looks at another variable",
    },
];

fn exception(words: &[String]) -> Option<&'static Exception> {
    EXCEPTIONS.iter().find(|e| words.windows(e.words.len()).any(|window| window == e.words))
}

fn environment(row: &Value) -> Vec<(String, String)> {
    let pairs = row["env"].as_object().into_iter().flatten();
    let text = |v: &Value| v.as_str().unwrap_or("").to_string();
    pairs
        .filter(|(name, _)| *name != "NO_PROC_DRBD")
        .map(|(name, value)| (name.clone(), text(value)))
        .collect()
}

/// What the simulated kernel of the vectors answers to queries.
fn world() -> Snapshot {
    let volumes = [0, 7, 255, 256].map(|minor| {
        let mut volume = fixture::volume(minor);
        volume.state.role = Role::Primary;
        volume.state.peer = Role::Secondary;
        volume.state.conn = Conn::Connected;
        volume.state.disk = Disk::UpToDate;
        volume.state.pdsk = Disk::UpToDate;
        volume.backing = Some(Backing {
            lower_device: "/dev/loop0".into(),
            meta_device: "/dev/loop0".into(),
            meta_index: -3,
            lower_sectors: 0,
            uuids: [1, 2, 3, 4],
            md_flags: 1,
        });
        volume
    });
    fixture::snapshot(vec![fixture::resource("r0", volumes.to_vec())])
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Tags of the vectors that are not the option name with underscores.
const TAGS: &[(&str, &str)] = &[
    ("size", "disk_size"),
    ("disk-flushes", "no_disk_flush"),
    ("disk-barrier", "no_disk_barrier"),
    ("disk-drain", "no_disk_drain"),
    ("md-flushes", "no_md_flush"),
    ("data-integrity-alg", "integrity_alg"),
    ("protocol", "wire_protocol"),
    ("connect-int", "try_connect_int"),
    ("after-sb-0pri", "after_sb_0p"),
    ("after-sb-1pri", "after_sb_1p"),
    ("after-sb-2pri", "after_sb_2p"),
    ("ping-timeout", "ping_timeo"),
    ("congestion-fill", "cong_fill"),
    ("congestion-extents", "cong_extents"),
    ("discard-my-data", "want_lose"),
    ("allow-two-primaries", "two_primaries"),
    ("tcp-cork", "no_cork"),
    ("on-no-data-accessible", "on_no_data"),
    ("tentative", "dry_run"),
    ("resync-rate", "rate"),
    ("resync-after", "after"),
];

fn settings(tags: &mut Map<String, Value>, changes: &[SettingChange]) {
    for change in changes {
        let row = options::find(&change.option).unwrap_or_else(|| panic!("{change:?}"));
        let tag = TAGS
            .iter()
            .find(|(name, _)| *name == row.name)
            .map_or_else(|| row.name.replace('-', "_"), |(_, tag)| tag.to_string());
        let inverted = row.old.is_some_and(|old| old.inverted);
        let value = match &change.value {
            Setting::Number(number) => json!(number),
            Setting::Flag(flag) => json!(i32::from(*flag != inverted)),
            Setting::Choice(number) => json!(number),
            Setting::Text(text) => json!(text),
        };
        tags.insert(tag, value);
    }
}

fn endpoints(tags: &mut Map<String, Value>, pair: &AddressPair) {
    let text = |a: &drbdbox::status::Address| {
        let family = match a.family {
            Family::Ipv4 => 2,
            Family::Ipv6 => 10,
            Family::Sdp | Family::Ssocks => 27,
        };
        format!("af={family} {} port={}", a.ip, a.port)
    };
    tags.insert("my_addr".into(), json!(text(&pair.local)));
    tags.insert("peer_addr".into(), json!(text(&pair.peer)));
}

/// A call in the terms of the vectors; `None`: a question of ours that the original does not ask.
fn as_packet(call: &Call) -> Option<Value> {
    let mut tags = Map::new();
    let flag = |tags: &mut Map<String, Value>, name: &str, set: bool| {
        if set {
            tags.insert(name.into(), json!(1));
        }
    };
    let mut set_defaults_seen = false;
    let packet = match &call.request {
        Request::Primary { force, .. } => {
            flag(&mut tags, "primary_force", *force);
            "primary"
        }
        Request::Secondary { .. } => "secondary",
        Request::Attach { lower_device, meta_device, meta_index, changes, .. } => {
            tags.insert("backing_dev".into(), json!(lower_device));
            tags.insert("meta_dev".into(), json!(meta_device));
            tags.insert("meta_dev_idx".into(), json!(meta_index));
            settings(&mut tags, changes);
            "disk_conf"
        }
        Request::Detach { force, .. } => {
            flag(&mut tags, "detach_force", *force);
            "detach"
        }
        Request::Connect { addresses, changes, .. } => {
            endpoints(&mut tags, addresses);
            settings(&mut tags, changes);
            "net_conf"
        }
        Request::Disconnect { force, .. } => {
            flag(&mut tags, "force", *force);
            "disconnect"
        }
        Request::Resize { size, assume_peer_has_space, assume_clean, .. } => {
            if *size != 0 {
                tags.insert("resize_size".into(), json!(size));
            }
            flag(&mut tags, "resize_force", *assume_peer_has_space);
            flag(&mut tags, "no_resync", *assume_clean);
            "resize"
        }
        Request::Syncer { set_defaults, changes, .. } => {
            set_defaults_seen = *set_defaults;
            settings(&mut tags, changes);
            "syncer_conf"
        }
        Request::Invalidate { .. } => "invalidate",
        Request::InvalidateRemote { .. } => "invalidate_peer",
        Request::PauseSync { .. } => "pause_sync",
        Request::ResumeSync { .. } => "resume_sync",
        Request::SuspendIo { .. } => "suspend_io",
        Request::ResumeIo { .. } => "resume_io",
        Request::Outdate { .. } => "outdate",
        Request::Verify { start, stop, .. } => {
            if let Some(start) = start {
                tags.insert("start_sector".into(), json!(start));
            }
            if let Some(stop) = stop {
                tags.insert("stop_sector".into(), json!(stop));
            }
            "start_ov"
        }
        Request::NewCurrentUuid { clear_bitmap, .. } => {
            flag(&mut tags, "clear_bm", *clear_bitmap);
            "new_c_uuid"
        }
        _ => return None,
    };
    let minor = match &call.request {
        Request::Connect { connection, .. } | Request::Disconnect { connection, .. } => match connection {
            ConnectionOf::Minor(minor) => Some(*minor),
            _ => None,
        },
        request => request.minor(),
    };
    let mut flags = Vec::new();
    if call.create_device {
        flags.push("create-device");
    }
    if set_defaults_seen {
        flags.push("set-defaults");
    }
    Some(json!({"packet": packet, "minor": minor, "flags": flags, "tags": tags}))
}

/// What the vectors say in other words, or about things that are not settings of ours.
fn comparable(request: &Value) -> Value {
    let mut request = request.clone();
    let packet = string(&request, "packet").to_string();
    if let Some(tags) = request["tags"].as_object_mut() {
        for name in ["mind_af", "auto_sndbuf_size", "use_bmbv"] {
            tags.remove(name);
        }
    }
    if let Some(flags) = request["flags"].as_array_mut() {
        // Only syncer looks at it.
        flags.retain(|f| packet == "syncer_conf" || f != "set-defaults");
    }
    request
}

/// Packets that ask for something; ours asks once for everything instead.
fn is_question(request: &Value) -> bool {
    string(request, "packet").starts_with("get_")
}

#[test]
fn command_lines_of_8_3_16() {
    let daemon = FakeDaemon::start();
    let snapshot = world();
    daemon.answers(move |call, _| match call.request {
        Request::Snapshot | Request::Subscribe => Reply::Snapshot(Box::new(snapshot.clone())),
        _ => Reply::ok(),
    });
    let nowhere = directory();
    // Loop devices are not everywhere, nor for everybody; as a disk a regular file does too.
    let disk = nowhere.path().join("disk");
    std::fs::write(&disk, b"").unwrap_or_else(|e| panic!("{e}"));
    let disk = disk.display().to_string();
    let rows = rows("args-8.3.16.jsonl");
    let (mut failed, mut left_out) = (Vec::new(), 0);
    for row in &rows {
        let mut row = row.clone();
        let mut words = argv(&row);
        if words.get(2).map(String::as_str) == Some("disk") {
            let text = row.to_string().replace("/dev/loop0", &disk);
            row = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
            words = argv(&row);
        } else if words.iter().any(|w| w == "/dev/loop0") && !std::path::Path::new("/dev/loop0").exists() {
            println!("left out: {}: no /dev/loop0 here", words.join(" "));
            left_out += 1;
            continue;
        }
        let row = &row;
        if let Some(exception) = exception(&words) {
            println!("left out: {}: {}", words.join(" "), exception.why);
            left_out += 1;
            continue;
        }
        let absent = row["env"]["NO_PROC_DRBD"].is_string();
        let (output, calls) = if absent {
            (run(nowhere.path(), &words, &environment(row)), Vec::new())
        } else {
            daemon.run(&words, &environment(row))
        };
        let mut problems = Vec::new();
        if output.status.code() != row["rc"].as_i64().map(|rc| rc as i32) {
            problems.push(format!("exit status {:?}", output.status.code()));
        }
        // `show` prints the configuration of the simulated kernel, which is empty.
        let shows = words.get(2).map(String::as_str) == Some("show");
        if stdout(&output) != string(row, "stdout") && !shows {
            problems.push(format!("stdout:\n{}", stdout(&output)));
        }
        // Without a driver the texts are ours. spec/decisions.md 7.1.
        if stderr(&output) != string(row, "stderr") && !absent {
            problems.push(format!("stderr:\n{}", stderr(&output)));
        }
        let wanted = row["requests"].as_array().into_iter().flatten();
        let wanted: Vec<Value> = wanted.filter(|r| !is_question(r)).map(comparable).collect();
        let got: Vec<Value> = calls.iter().filter_map(as_packet).map(|r| comparable(&r)).collect();
        if got != wanted {
            problems.push(format!("requests: {}", json!(got)));
        }
        if !problems.is_empty() {
            failed.push(format!("{row}\n{}", problems.join("\n")));
        }
    }
    let agree = rows.len() - failed.len() - left_out;
    println!("args-8.3.16: {agree} of {} rows, {left_out} left out", rows.len());
    assert!(
        failed.is_empty(),
        "{} rows:
{}",
        failed.len(),
        first(&failed)
    );
}

/// Commands that only 8.3 has may stand before their device, too: as 8.4's do. spec/decisions.md 1.7.
#[test]
fn commands_of_8_3_may_stand_before_the_device() {
    let daemon = FakeDaemon::start();
    daemon.answers(|_, _| Reply::ok());
    let disk = daemon.directory().join("disk");
    std::fs::write(&disk, b"").unwrap_or_else(|e| panic!("{e}"));
    let disk = disk.display().to_string();
    let mut count = 0;
    for row in rows("args-8.3.16.jsonl") {
        let words: Vec<String> = argv(&row).iter().map(|w| w.replace("/dev/loop0", &disk)).collect();
        let [_, device, command, ..] = &words[..] else { continue };
        let number = device.strip_prefix("/dev/drbd").unwrap_or(device);
        let is_device = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let only_83 = ["disk", "net", "syncer"].contains(&command.as_str());
        if !(is_device && only_83) || row["env"].is_object() {
            continue;
        }
        let ran = |words: &[String]| {
            let (output, calls) = daemon.run(words, &[]);
            let packets: Vec<Value> = calls.iter().filter_map(as_packet).collect();
            (output.status.code(), stdout(&output), stderr(&output), packets)
        };
        let mut swapped = words.clone();
        swapped.swap(1, 2);
        assert_eq!(ran(&swapped), ran(&words), "{swapped:?}");
        count += 1;
    }
    println!("args-8.3.16, command first: {count} rows");
    assert!(count > 150, "{count}");
}

#[test]
fn replies_of_8_3_16() {
    let daemon = FakeDaemon::start();
    let rows = rows("replies-8.3.16.jsonl");
    let (mut failed, mut left_out) = (Vec::new(), 0);
    for row in &rows {
        let words = argv(row);
        // Q11: the original ends wait-* with 0 after an error of its second question, which we do
        // not ask. 900 stands for no answer at all.
        let second_question = row["reply_codes"]["get_state"].is_i64();
        if second_question || row["reply_code"].as_i64() == Some(900) {
            left_out += 1;
            continue;
        }
        let answers = row.clone();
        daemon.answers(move |call, _| match call.request {
            Request::RemoveNode { .. } => Reply::ok(),
            _ => {
                let packet = as_packet(call).map_or(Value::Null, |p| p["packet"].clone());
                let by_packet = &answers["reply_codes"][packet.as_str().unwrap_or("")];
                let code = by_packet.as_i64().or(answers["reply_code"].as_i64());
                Reply::Code { code: code.unwrap_or(0) as i32, info: Vec::new() }
            }
        });
        let (output, _) = daemon.run(&words, &environment(row));
        let same = output.status.code() == row["rc"].as_i64().map(|rc| rc as i32)
            && stdout(&output) == string(row, "stdout")
            && stderr(&output) == string(row, "stderr");
        if !same {
            failed.push(format!(
                "{row}\nexit status {:?}\nstdout:\n{}stderr:\n{}",
                output.status.code(),
                stdout(&output),
                stderr(&output)
            ));
        }
    }
    let agree = rows.len() - failed.len() - left_out;
    println!("replies-8.3.16: {agree} of {} rows, {left_out} left out", rows.len());
    assert!(
        failed.is_empty(),
        "{} rows:
{}",
        failed.len(),
        first(&failed)
    );
}

#[test]
fn help_of_8_4() {
    let nowhere = directory();
    let rows = rows("help-8.4.jsonl");
    let (mut failed, mut left_out) = (Vec::new(), 0);
    for row in &rows {
        let mut words = argv(row);
        // Without a driver the texts are ours, and four commands end with 0 as they were meant to.
        let absent = string(row, "stderr").contains("modprobe");
        if absent && ["down", "secondary", "disconnect", "detach"].contains(&words[1].as_str()) {
            left_out += 1;
            continue;
        }
        words[0] = "drbdsetup-84".to_string();
        let output = run(nowhere.path(), &words, &environment(row));
        let same = output.status.code() == row["rc"].as_i64().map(|rc| rc as i32)
            && stdout(&output) == string(row, "stdout")
            && (absent || stderr(&output) == string(row, "stderr"));
        if !same {
            failed.push(format!(
                "{row}\nexit status {:?}\nstdout:\n{}stderr:\n{}",
                output.status.code(),
                stdout(&output),
                stderr(&output)
            ));
        }
    }
    let agree = rows.len() - failed.len() - left_out;
    println!("help-8.4: {agree} of {} rows, {left_out} left out", rows.len());
    assert!(
        failed.is_empty(),
        "{} rows:
{}",
        failed.len(),
        first(&failed)
    );
}

/// The first few, so that the rest can still be read.
fn first(failed: &[String]) -> String {
    failed.iter().take(5).cloned().collect::<Vec<_>>().join("\n\n")
}
