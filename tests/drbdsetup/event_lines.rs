//! `events` of 8.3 (`events-8.3.16.jsonl`), of 8.4, and `events2`.

use crate::fake_daemon::FakeDaemon;
use crate::fixture::{self, argv, number, rows, string};
use drbdbox::control::message::{Event, EventKind, Reply, Request};
use drbdbox::core::state::{Conn, Disk, Role, StateWord};
use drbdbox::status::{Resource, Snapshot};
use serde_json::Value;

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(String::from).collect()
}

fn event(sequence: u32, kind: EventKind) -> Event {
    Event { sequence, time_us: 1_763_807_000_123_456, kind }
}

fn serve(daemon: &FakeDaemon, snapshot: Snapshot, events: Vec<Event>) {
    daemon.answers(move |call, _| match call.request {
        Request::Snapshot | Request::Subscribe => Reply::Snapshot(Box::new(snapshot.clone())),
        _ => Reply::ok(),
    });
    daemon.publishes(events);
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.trim_start_matches('#').as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap_or(""), 16).unwrap_or(0);
    digits.chunks(2).map(byte).collect()
}

/// A message of the vectors as our daemon would publish it. `None`: it never sends such a one.
fn of_vector(row: &Value) -> Option<Event> {
    let minor = number(row, "minor") as u32;
    let resource = format!("r{minor}");
    let kind = match string(row, "packet") {
        "state" => {
            let new = fixture::state(row)?;
            let mut volume = fixture::volume(minor);
            volume.state = new;
            let resource = Box::new(fixture::resource(&resource, vec![volume]));
            EventKind::State { resource, minor, old: new, new }
        }
        "sync_progress" => {
            let permille = string(row, "sync_progress").parse().ok()?;
            EventKind::SyncProgress { resource, minor, volume: 0, permille }
        }
        "call_helper" => {
            let helper = string(row, "helper").to_string();
            EventKind::Helper { resource, volume: Some((minor, 0)), helper, status: None }
        }
        "dump_ee" => {
            let data = hex(string(row, "ee_data"));
            EventKind::DigestMismatch {
                resource,
                minor,
                volume: 0,
                reason: string(row, "dump_ee_reason").into(),
                sector: string(row, "ee_sector").parse().ok()?,
                block_id: 0x1234,
                received: hex(string(row, "seen_digest")),
                computed: hex(string(row, "calc_digest")),
                size: data.len() as u32,
                data,
            }
        }
        _ => return None,
    };
    Some(event(number(row, "seq") as u32, kind))
}

#[test]
fn events_of_8_3_16() {
    let input = &rows("events-8.3-input.json")[0];
    let mut first = fixture::volume(0);
    first.state = StateWord {
        role: Role::Secondary,
        peer: Role::Secondary,
        conn: Conn::Connected,
        disk: Disk::Inconsistent,
        pdsk: Disk::Inconsistent,
        ..StateWord::UNCONFIGURED
    };
    let resources =
        vec![fixture::resource("r0", vec![first]), fixture::resource("r1", vec![fixture::volume(1)])];
    let stream = input["stream"].as_array().cloned().unwrap_or_default();
    // The second message number 10 is a stale one, which our daemon does not send.
    let mut last = 0;
    let mut fresh = Vec::new();
    for row in &stream {
        let sequence = number(row, "seq");
        if string(row, "reply_to") == "broadcast" && sequence > last {
            last = sequence;
            fresh.extend(of_vector(row));
        }
    }
    let daemon = FakeDaemon::start();
    serve(&daemon, fixture::snapshot(resources), fresh);
    let rows = rows("events-8.3.16.jsonl");
    let (mut agree, mut left_out) = (0, 0);
    for row in &rows {
        let argv = argv(row);
        // Unfiltered means messages that our daemon does not send.
        if argv.iter().any(|w| w == "-u" || w == "--unfiltered") {
            left_out += 1;
            continue;
        }
        let (output, _) = daemon.run(&argv, &[]);
        let known = |line: &&str| !line.contains(" <other message ");
        let want: Vec<&str> = string(row, "stdout").lines().filter(known).collect();
        let got = String::from_utf8_lossy(&output.stdout);
        assert_eq!(got.lines().collect::<Vec<_>>(), want, "{argv:?}");
        agree += 1;
    }
    println!("events-8.3.16: {agree} of {} rows, {left_out} left out", rows.len());
    assert!(agree >= 2);
}

fn connected(resource: &Resource) -> Resource {
    let mut resource = resource.clone();
    resource.revision += 1;
    resource.connection.addresses = Some(fixture::addresses());
    resource.connection.cstate = Conn::WFConnection;
    resource.volumes[0].state.conn = Conn::WFConnection;
    resource
}

#[test]
fn events_of_8_4_show_before_after_and_now() {
    let mut before = fixture::resource("r0", vec![fixture::volume(0)]);
    before.volumes[0].state.disk = Disk::UpToDate;
    let after = connected(&before);
    let (old, new) = (before.volumes[0].state, after.volumes[0].state);
    let changed = EventKind::State { resource: Box::new(after), minor: 0, old, new };
    let helper = |status| EventKind::Helper {
        resource: "r0".into(),
        volume: Some((0, 0)),
        helper: "fence-peer".into(),
        status,
    };
    let events = vec![
        event(3, changed),
        event(4, helper(None)),
        event(5, helper(Some(0x0700))),
        event(3, EventKind::Resource(Box::new(fixture::resource("empty", Vec::new())))),
    ];
    let daemon = FakeDaemon::start();
    serve(&daemon, fixture::snapshot(vec![before]), events);
    let (output, _) = daemon.run(&words("drbdsetup events"), &[]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "1 ST 0,r0[0] { cs:StandAlone ro:Secondary/Unknown ds:UpToDate/DUnknown r--- }\n\
         3 ST-prev 0,r0[0] { cs:StandAlone ro:Secondary/Unknown ds:UpToDate/DUnknown r--- }\n\
         3 ST-new 0,r0[0] { cs:WFConnection ro:Secondary/Unknown ds:UpToDate/DUnknown r--- }\n\
         3 ST 0,r0[0] { cs:WFConnection ro:Secondary/Unknown ds:UpToDate/DUnknown r--- }\n\
         4 UH 0,r0[0] fence-peer\n\
         5 UH-post 0,r0[0] fence-peer 0x0700\n\
         3 R - empty\n"
    );
}

#[test]
fn events2_tells_what_came_changed_and_went() {
    let before = fixture::resource("r0", vec![fixture::volume(0)]);
    let with_peer = connected(&before);
    let mut running = with_peer.clone();
    running.revision += 1;
    running.volumes[0].state.disk = Disk::Attaching;
    running.volumes[0].counters.read_sectors = 8;
    let mut counted = running.clone();
    counted.revision += 1;
    counted.volumes[0].counters.read_sectors = 16;
    let stale = before.clone();
    let events = vec![
        event(3, EventKind::Resource(Box::new(with_peer))),
        event(4, EventKind::Resource(Box::new(running))),
        event(5, EventKind::Resource(Box::new(counted))),
        event(6, EventKind::Resource(Box::new(stale))),
        event(
            7,
            EventKind::Helper {
                resource: "r0".into(),
                volume: Some((0, 0)),
                helper: "split-brain".into(),
                status: Some(0x0100),
            },
        ),
        event(0, EventKind::Skipped(9)),
        event(8, EventKind::ResourceDeleted { name: "r0".into() }),
    ];
    let daemon = FakeDaemon::start();
    serve(&daemon, fixture::snapshot(vec![before]), events);
    let (output, _) = daemon.run(&words("drbdsetup events2"), &[]);
    let peer = "name:r0 peer-node-id:0 conn-name:peer";
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!(
            "exists resource name:r0 role:Secondary suspended:no\n\
             exists device name:r0 volume:0 minor:0 disk:Diskless\n\
             exists -\n\
             create connection {peer} connection:StandAlone role:Unknown\n\
             create peer-device {peer} volume:0 replication:Off peer-disk:DUnknown resync-suspended:no\n\
             change connection {peer} connection:Connecting\n\
             change device name:r0 volume:0 minor:0 disk:Attaching\n\
             response helper {peer} volume:0 minor:0 helper:split-brain status:1\n\
             - skipped 9\n\
             destroy peer-device {peer} volume:0\n\
             destroy device name:r0 volume:0 minor:0\n\
             destroy connection {peer}\n\
             destroy resource name:r0\n"
        )
    );

    let (output, _) = daemon.run(&words("drbdsetup events2 r0 --statistics --now"), &[]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "exists resource name:r0 role:Secondary suspended:no write-ordering:barrier\n\
         exists device name:r0 volume:0 minor:0 disk:Diskless size:0 read:0 written:0 al-writes:0 \
         bm-writes:0 upper-pending:0 lower-pending:0 al-suspended:no blocked:no\nexists -\n"
    );
    assert_eq!(output.status.code(), Some(0));

    // Statistics alone make no line; what changed of them comes with the next one.
    let mut full = fixture::resource("r0", vec![fixture::volume(0)]);
    let mut step = |change: fn(&mut Resource)| {
        full.revision += 1;
        change(&mut full);
        EventKind::Resource(Box::new(full.clone()))
    };
    let kinds = [
        step(|r| r.volumes[0].blocked_upper = true),
        step(|r| r.volumes[0].al_suspended = true),
        step(|r| r.volumes[0].state.disk = Disk::Attaching),
        step(|r| r.volumes[0].blocked_upper = false),
    ];
    let events = (3..).zip(kinds).map(|(sequence, kind)| event(sequence, kind)).collect();
    serve(&daemon, fixture::snapshot(vec![fixture::resource("r0", vec![fixture::volume(0)])]), events);
    let (output, _) = daemon.run(&words("drbdsetup events2 --statistics"), &[]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, changes) = text.split_once("exists -\n").unwrap_or_else(|| panic!("{text}"));
    assert_eq!(
        changes,
        "change device name:r0 volume:0 minor:0 disk:Attaching size:0 read:0 written:0 al-writes:0 bm-writes:0 \
         upper-pending:0 lower-pending:0 al-suspended:yes blocked:upper\n"
    );

    // A resource that is not there may come: the original says so in live-8.4.11.
    let (output, _) = daemon.run(&words("drbdsetup events2 nosuch --now"), &[]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "exists -\n");
    assert_eq!(output.status.code(), Some(0));
}
