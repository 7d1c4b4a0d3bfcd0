//! DRBD 9's `status`: `status-9.jsonl`.

use crate::fake_daemon::FakeDaemon;
use crate::fixture::{self, number, rows, string};
use drbdbox::control::message::Reply;
use drbdbox::core::state::{Conn, Role};
use drbdbox::status::status9::{
    json, text, ClientFlag, ConnectionView, DeviceStatistics, DeviceView, PeerDeviceView, Style, SyncDetails,
    View,
};
use serde_json::Value;

fn flag(row: &Value, key: &str) -> bool {
    number(row, key) != 0
}

fn unsigned(row: &Value, key: &str) -> u64 {
    number(row, key) as u64
}

fn client(row: &Value) -> ClientFlag {
    match number(row, "client") {
        1 => ClientFlag::Yes,
        3 => ClientFlag::Unknown,
        _ => ClientFlag::No,
    }
}

fn device(row: &Value) -> DeviceView {
    let statistics = DeviceStatistics {
        size: unsigned(row, "size"),
        read: unsigned(row, "read"),
        written: unsigned(row, "written"),
        al_writes: unsigned(row, "al"),
        al_suspended: flag(row, "als"),
        blocked: [flag(row, "ub"), flag(row, "lb")],
        ..DeviceStatistics::default()
    };
    DeviceView {
        volume: unsigned(row, "vol") as u32,
        minor: unsigned(row, "minor") as u32,
        disk: string(row, "disk").into(),
        client: client(row),
        backing: string(row, "backing").into(),
        quorum: row["quorum"].as_i64() != Some(0),
        statistics: (!flag(row, "nostat")).then_some(statistics),
    }
}

fn peer_device(row: &Value) -> PeerDeviceView {
    let details = SyncDetails {
        total: unsigned(row, "rs_total"),
        since_start_ms: unsigned(row, "dt_start"),
        paused_ms: unsigned(row, "paused"),
        recent: (unsigned(row, "dt0"), unsigned(row, "db0")),
        older: (unsigned(row, "dt1"), unsigned(row, "db1")),
        failed: unsigned(row, "failed"),
        same_checksum: unsigned(row, "same_csum"),
        want_kib: unsigned(row, "rate"),
        verify_start: 0,
        verify_stop: row["ov_stop"].as_u64(),
        verify_position: unsigned(row, "ov_pos"),
        verify_left: unsigned(row, "ov_left"),
        verify_skipped: 0,
    };
    PeerDeviceView {
        volume: unsigned(row, "vol") as u32,
        replication: string(row, "repl").into(),
        disk: string(row, "pdisk").into(),
        client: client(row),
        paused_by: [flag(row, "su"), flag(row, "sp"), flag(row, "sd")],
        received: unsigned(row, "received"),
        sent: unsigned(row, "sent"),
        out_of_sync: unsigned(row, "oos"),
        pending: number(row, "pending"),
        unacked: number(row, "unacked"),
        details: (number(row, "rs_total") >= 0).then_some(details),
    }
}

fn view(objects: &[Value]) -> View {
    let of_kind = |kind: &'static str| objects.iter().filter(move |o| string(o, "kind") == kind);
    let role = |row: &Value| Role::from_name(string(row, "role")).unwrap_or(Role::Unknown);
    let resource = of_kind("res").next().unwrap_or(&Value::Null);
    let connections = of_kind("conn").map(|row| ConnectionView {
        peer_node_id: number(row, "peer") as i32,
        name: row["name"].as_str().map(String::from),
        state: string(row, "cstate").into(),
        role: role(row),
        congested: flag(row, "congested"),
        in_flight: row["ap"].is_u64().then(|| (unsigned(row, "ap"), unsigned(row, "rs"))),
        devices: of_kind("pd").filter(|pd| pd["peer"] == row["peer"]).map(peer_device).collect(),
    });
    View {
        name: string(resource, "name").into(),
        node_id: resource["node_id"].as_i64().map(|id| id as i32),
        role: role(resource),
        suspended: ["susp", "susp_nod", "susp_fen", "susp_quorum"].map(|key| flag(resource, key)),
        force_io_failures: flag(resource, "fail_io"),
        write_ordering: "flush",
        devices: of_kind("dev").map(device).collect(),
        connections: connections.collect(),
    }
}

/// The original begins the next object on the rest of a line that was exactly full, with a wrong
/// indent (spec/drbdsetup.md 7.6): no line of ours is as long as its indent there.
fn has_the_wrapping_bug(text: &str) -> bool {
    let full = |line: &str| line.chars().count() == 80;
    text.lines().zip(text.lines().skip(1)).any(|(line, next)| full(line) && next.starts_with("      data"))
}

#[test]
fn situations_read_as_in_9_22() {
    let forms = [
        ("status", 0, false, false),
        ("status --verbose", 1, false, false),
        ("status --statistics", 0, true, false),
        ("status --verbose --statistics", 1, true, false),
        ("status --verbose --verbose --statistics", 2, true, false),
        ("status (stdout is a tty)", 0, false, true),
    ];
    let (mut agree, mut left_out, mut failed) = (0, 0, Vec::new());
    for row in rows("status-9.jsonl") {
        let resources = row["input"].as_array().cloned().unwrap_or_default();
        let views: Vec<View> =
            resources.iter().map(|objects| view(objects.as_array().map_or(&[][..], |o| o))).collect();
        let mut check = |form: &str, got: String| match row[form].as_str() {
            None => {}
            Some(want) if got == want => agree += 1,
            Some(want) if has_the_wrapping_bug(want) => left_out += 1,
            Some(want) => failed.push(format!("{} {form}\n--- want\n{want}--- got\n{got}", row["name"])),
        };
        for (form, verbose, statistics, terminal) in forms {
            let style = Style { verbose, statistics, terminal, width: 80 };
            // Without resources the command prints a text of its own.
            if !views.is_empty() {
                check(form, views.iter().map(|v| text(v, &style)).collect());
            }
        }
        check("status --json", json(&views));
    }
    println!("status-9: {agree} texts, {left_out} left out");
    let some: Vec<String> = failed.iter().take(8).cloned().collect();
    assert!(failed.is_empty(), "{} texts:\n{}", failed.len(), some.join("\n"));
}

#[test]
fn json_is_json_and_tells_the_state() {
    let mut resource = fixture::resource("r\"0", vec![fixture::volume(3)]);
    resource.connection.addresses = Some(fixture::addresses());
    resource.connection.cstate = Conn::WFConnection;
    resource.volumes[0].state.conn = Conn::WFConnection;
    let snapshot = fixture::snapshot(vec![resource]);
    let daemon = FakeDaemon::start();
    daemon.answers(move |_, _| Reply::Snapshot(Box::new(snapshot.clone())));
    let words = ["drbdsetup", "status", "--json"].map(String::from);
    let (output, _) = daemon.run(&words, &[]);
    let parsed: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(parsed[0]["name"], "r\"0");
    assert_eq!(parsed[0]["devices"][0]["minor"], 3);
    assert_eq!(parsed[0]["connections"][0]["connection-state"], "Connecting");
    assert_eq!(parsed[0]["connections"][0]["peer_devices"][0]["replication-state"], "Off");

    let words = ["drbdsetup-9", "status", "nosuch"].map(String::from);
    let (output, _) = daemon.run(&words, &[]);
    assert_eq!(output.status.code(), Some(10));
}
