//! What a real 8.4.11 module and its drbdsetup said: `live-8.4.11-part.jsonl` (queries with the
//! /proc/drbd text of that moment, and every call that failed).

use crate::fake_daemon::{directory, FakeDaemon};
use crate::fixture::{self, argv, rows, string};
use drbdbox::control::message::{Reply, Request};
use drbdbox::core::state::{Conn, Disk, Role};
use drbdbox::status::{Backing, Counters, Progress, Resource, Snapshot, Volume, WriteOrdering};
use serde_json::Value;

/// Size of the devices of the original run, KiB.
const SIZE_KIB: u64 = 65496;

/// Rows that are not compared.
struct Exception {
    words: &'static [&'static str],
    why: &'static str,
}

const EXCEPTIONS: &[Exception] = &[
    Exception { words: &["wait-connect", "0", "-t"], why: "8.3's short options are understood" },
    Exception {
        words: &["attach", "0", "/etc/drbd.conf"],
        why: "depends on the files of the host; the same message as for /dev/nosuch",
    },
];

/// The number behind `key:` in a line.
fn counter(line: &str, key: &str) -> u64 {
    let found = line.split_whitespace().find_map(|word| word.strip_prefix(key));
    found.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// The two parts of `a/b` behind `key:`.
fn pair<'a>(line: &'a str, key: &str) -> (&'a str, &'a str) {
    let found = line.split_whitespace().find_map(|word| word.strip_prefix(key));
    found.and_then(|value| value.split_once('/')).unwrap_or(("", ""))
}

/// A volume from its lines in /proc/drbd.
fn volume(minor: u32, first: &str, rest: &[&str]) -> Volume {
    let mut volume = fixture::volume(minor);
    volume.write_ordering = WriteOrdering::Flush;
    if first.contains("cs:Unconfigured") {
        return volume;
    }
    let state = &mut volume.state;
    let conn = first.split_whitespace().find_map(|w| w.strip_prefix("cs:")).unwrap_or("");
    state.conn = Conn::from_name(conn).unwrap_or_else(|| panic!("{first}"));
    let (role, peer) = pair(first, "ro:");
    state.role = Role::from_name(role).unwrap_or_else(|| panic!("{first}"));
    state.peer = Role::from_name(peer).unwrap_or_else(|| panic!("{first}"));
    let (disk, pdsk) = pair(first, "ds:");
    state.disk = Disk::from_name(disk).unwrap_or_else(|| panic!("{first}"));
    state.pdsk = Disk::from_name(pdsk).unwrap_or_else(|| panic!("{first}"));
    let flags: Vec<char> = first.split_whitespace().last().unwrap_or("").chars().collect();
    state.susp = flags.first() == Some(&'s');
    state.aftr_isp = flags.get(1) == Some(&'a');
    state.peer_isp = flags.get(2) == Some(&'p');
    state.user_isp = flags.get(3) == Some(&'u');
    volume.al_suspended = flags.get(5) == Some(&'s');
    volume.blocked_upper = volume.state.susp;
    volume.size_sectors = SIZE_KIB * 2;
    let line = rest.first().copied().unwrap_or("");
    volume.counters = Counters {
        sent_sectors: counter(line, "ns:") * 2,
        received_sectors: counter(line, "nr:") * 2,
        written_sectors: counter(line, "dw:") * 2,
        read_sectors: counter(line, "dr:") * 2,
        al_writes: counter(line, "al:") as u32,
        bm_writes: counter(line, "bm:") as u32,
        local: counter(line, "lo:") as i32,
        ap_pending: counter(line, "pe:") as i32,
        unacked: counter(line, "ua:") as i32,
        ap_bio: counter(line, "ap:") as i32,
        rs_pending: 0,
        epochs: 1,
    };
    volume.out_of_sync_bits = counter(line, "oos:") / 4;
    if volume.state.disk > Disk::Diskless {
        volume.backing = Some(Backing {
            lower_device: String::new(),
            meta_device: String::new(),
            meta_index: -3,
            lower_sectors: 0,
            uuids: [0; 4],
            md_flags: 0,
        });
    }
    // A paused resync shows no amounts; all of them began with everything to do.
    let paused = matches!(volume.state.conn, Conn::PausedSyncS | Conn::PausedSyncT);
    let paused = paused.then_some((volume.out_of_sync_bits * 4, SIZE_KIB));
    if let Some((left, total)) = amounts(rest).or(paused) {
        volume.progress = Some(Progress { total: total / 4, verify_left: left / 4, ..Progress::default() });
    }
    volume
}

/// `(LEFT/TOTAL)K` of a progress line.
fn amounts(lines: &[&str]) -> Option<(u64, u64)> {
    let line = lines.iter().find(|l| l.contains("% ("))?;
    let (_, inner) = line.split_once("% (")?;
    let (left, rest) = inner.split_once('/')?;
    let (total, _) = rest.split_once(')')?;
    Some((left.parse().ok()?, total.parse().ok()?))
}

/// The world that a /proc/drbd text describes; minor N is volume 0 of `rN`, as in the run.
fn world(text: &str) -> Snapshot {
    let lines: Vec<&str> = text.lines().collect();
    let mut resources: Vec<Resource> = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let Some((minor, _)) = line.split_once(": cs:") else {
            continue;
        };
        let Ok(minor) = minor.trim().parse::<u32>() else {
            continue;
        };
        let volume = volume(minor, line, lines.get(i + 1..).unwrap_or(&[]));
        let mut resource = fixture::resource(&format!("r{minor}"), Vec::new());
        // The letter of the protocol stands there while there is a network configuration.
        if line.split_whitespace().any(|word| matches!(word, "A" | "B" | "C")) {
            resource.connection.addresses = Some(fixture::addresses());
            resource.connection.cstate = volume.state.conn.min(Conn::WFReportParams);
        }
        resource.volumes.push(volume);
        resources.push(resource);
    }
    fixture::snapshot(resources)
}

/// Resources without volumes are not in /proc/drbd; their names are those that were printed.
fn add_empty(snapshot: &mut Snapshot, printed: &str) {
    for line in printed.lines() {
        let named =
            line.strip_prefix("_res_name=").or_else(|| line.split_once(" role:").map(|(name, _)| name));
        let Some(name) = named.filter(|n| !n.is_empty() && !n.starts_with(' ')) else {
            continue;
        };
        if snapshot.resource(name).is_none() {
            snapshot.resources.push(fixture::resource(name, Vec::new()));
        }
    }
}

/// The code and the explanations of a message.
fn reply_of(stderr: &str) -> Option<Reply> {
    let (_, rest) = stderr.split_once(": Failure: (").or(stderr.split_once(" failed: ("))?;
    let code = rest.split_once(')')?.0.parse().ok()?;
    let info = stderr.split_once("additional info from kernel:\n").map_or("", |(_, info)| info);
    Some(Reply::Code { code, info: info.lines().map(String::from).collect() })
}

#[test]
fn calls_of_a_real_8_4_11() {
    compare(false);
}

/// 8.4 exchanges them itself.
#[test]
fn the_object_may_stand_before_the_command() {
    compare(true);
}

/// Whether the first two words of a call can be exchanged: a command and its object.
fn has_an_object(words: &[String]) -> bool {
    let [_, command, object, ..] = words else { return false };
    let plain = |word: &str| !word.is_empty() && !word.starts_with('-');
    plain(object) && plain(command) && !["help", "xml-help", "cat"].contains(&command.as_str())
}

/// Makes all calls; `swapped`: those that have an object, with it in front.
fn compare(swapped: bool) {
    let disk = directory().keep().join("disk");
    std::fs::write(&disk, b"").unwrap_or_else(|e| panic!("{e}"));
    let daemon = FakeDaemon::start();
    let general = {
        let usage = daemon.run(&["drbdsetup-84".to_string()], &[]).0;
        String::from_utf8_lossy(&usage.stdout).into_owned()
    };
    let rows = rows("live-8.4.11-part.jsonl");
    let (mut failed, mut left_out) = (Vec::new(), 0);
    for row in &rows {
        let mut words = argv(row);
        let stderr = string(row, "stderr");
        if let Some(why) = reason_to_leave_out(row, &words) {
            println!("left out: {}: {why}", words.join(" "));
            left_out += 1;
            continue;
        }
        words[0] = "drbdsetup-84".to_string();
        if swapped {
            if !has_an_object(&words) {
                left_out += 1;
                continue;
            }
            words.swap(1, 2);
        }
        for word in &mut words {
            if word.starts_with("/dev/ram") {
                *word = disk.display().to_string();
            }
        }
        let mut snapshot = world(string(row, "proc"));
        if row["proc"].is_string() && row["rc"] == 0 {
            add_empty(&mut snapshot, string(row, "stdout"));
        }
        let reply = reply_of(stderr);
        let known = row["proc"].is_string();
        daemon.answers(move |call, _| match (&call.request, &reply) {
            (Request::Snapshot | Request::Subscribe, None) => Reply::Snapshot(Box::new(snapshot.clone())),
            (Request::Snapshot, Some(_)) if known => Reply::Snapshot(Box::new(snapshot.clone())),
            (_, Some(reply)) => reply.clone(),
            _ => Reply::ok(),
        });
        let (output, _) = daemon.run(&words, &[]);
        let mut stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if stdout == general {
            stdout = "GENERAL USAGE\n".to_string();
        }
        let got_stderr = String::from_utf8_lossy(&output.stderr);
        let same = output.status.code() == row["rc"].as_i64().map(|rc| rc as i32)
            && stdout == string(row, "stdout")
            && got_stderr == stderr;
        if !same {
            failed.push(format!(
                "{row}\nexit status {:?}\nstdout:\n{stdout}stderr:\n{got_stderr}",
                output.status.code()
            ));
        }
    }
    if let Some(dir) = disk.parent() {
        let _ = std::fs::remove_dir_all(dir);
    }
    let agree = rows.len() - failed.len() - left_out;
    let order = if swapped { ", object first" } else { "" };
    println!("live-8.4.11{order}: {agree} of {} rows, {left_out} left out", rows.len());
    assert!(
        failed.is_empty(),
        "{} rows:\n{}",
        failed.len(),
        failed.iter().take(12).cloned().collect::<Vec<_>>().join("\n\n")
    );
}

fn reason_to_leave_out(row: &Value, words: &[String]) -> Option<&'static str> {
    let stderr = string(row, "stderr");
    if let Some(exception) =
        EXCEPTIONS.iter().find(|e| words.get(1..).is_some_and(|rest| rest.starts_with_words(e.words)))
    {
        return Some(exception.why);
    }
    match words.get(1).map(String::as_str) {
        Some("wait-connect" | "wait-sync") if row["rc"] == 5 => Some("waits for its timeout"),
        Some("show-gi" | "get-gi") if row["rc"] == 1 => Some("the state is not recorded"),
        _ if stderr.contains("minor not available") => Some("the state is not recorded"),
        Some("status") if string(row, "stdout").contains("size:32768 ") => {
            Some("resized; the size is not recorded")
        }
        Some("status" | "sh-status") if string(row, "proc").contains(" sync'ed:") => {
            Some("the resync had moved on when /proc/drbd was read")
        }
        _ => None,
    }
}

/// Comparison of owned with borrowed words.
trait StartsWithWords {
    fn starts_with_words(&self, words: &[&str]) -> bool;
}

impl StartsWithWords for [String] {
    fn starts_with_words(&self, words: &[&str]) -> bool {
        self.len() >= words.len() && self.iter().zip(words).all(|(a, b)| a == b)
    }
}
