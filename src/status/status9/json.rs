//! The JSON of DRBD 9's `status`, in the layout of the original. spec/drbdsetup.md 7.2.

use super::{paused_word, speed, ClientFlag, ConnectionView, DeviceView, PeerDeviceView, View};
use crate::status::counters::Counter;

/// What the JSON says if a resync makes no progress.
const NEVER_SECONDS: f64 = 987_654_321.0;

/// All resources as JSON, in the layout of the original (strings are escaped, though).
pub fn json(views: &[View]) -> String {
    let resources: Vec<String> = views.iter().map(json_resource).collect();
    let mut out = String::from("[\n");
    if !resources.is_empty() {
        out += &resources.join("\n,\n");
        out.push('\n');
    }
    out + "]\n\n"
}

/// A string with its quotes.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `{`, lines `"key": value`, `}`, all behind `indent`.
fn json_object(indent: usize, lines: &[String]) -> String {
    let pad = " ".repeat(indent);
    let lines: Vec<String> = lines.iter().map(|line| format!("{pad}  {line}")).collect();
    format!("{pad}{{\n{}\n{pad}}}", lines.join(",\n"))
}

/// `"key": [`, objects, ` ]`.
fn json_array(key: &str, objects: &[String]) -> String {
    if objects.is_empty() {
        format!("\"{key}\": [\n ]")
    } else {
        format!("\"{key}\": [\n{} ]", objects.join(",\n"))
    }
}

fn json_resource(view: &View) -> String {
    let [user, no_data, fencing, quorum] = view.suspended;
    let devices: Vec<String> = view.devices.iter().map(json_device).collect();
    let connections: Vec<String> = view.connections.iter().map(|c| json_connection(c, view)).collect();
    json_object(
        0,
        &[
            format!("\"name\": {}", quoted(&view.name)),
            format!("\"node-id\": {}", view.node_id.unwrap_or(-1)),
            format!("\"role\": \"{}\"", view.role),
            format!("\"suspended\": {}", view.suspended.contains(&true)),
            format!("\"suspended-user\": {user}"),
            format!("\"suspended-no-data\": {no_data}"),
            format!("\"suspended-fencing\": {fencing}"),
            format!("\"suspended-quorum\": {quorum}"),
            format!("\"force-io-failures\": {}", view.force_io_failures),
            format!("\"write-ordering\": \"{}\"", view.write_ordering),
            json_array("devices", &devices),
            json_array("connections", &connections),
        ],
    )
}

fn json_counter(counter: Counter) -> String {
    format!("\"{}\": {}", counter.name, counter.value)
}

fn json_device(device: &DeviceView) -> String {
    let mut lines = vec![
        format!("\"volume\": {}", device.volume),
        format!("\"minor\": {}", device.minor),
        format!("\"disk-state\": {}", quoted(&device.disk)),
        format!("\"client\": {}", device.client == ClientFlag::Yes),
        format!("\"quorum\": {}", device.quorum),
    ];
    if let Some(s) = &device.statistics {
        lines.extend(s.counters().map(json_counter));
    }
    json_object(4, &lines)
}

fn json_connection(connection: &ConnectionView, view: &View) -> String {
    let devices: Vec<String> = connection
        .devices
        .iter()
        .map(|device| {
            let own = view.devices.iter().find(|d| d.volume == device.volume);
            let size = own.and_then(|d| d.statistics.as_ref()).map_or(0, |s| s.size);
            json_peer_device(device, size)
        })
        .collect();
    let mut lines = vec![
        format!("\"peer-node-id\": {}", connection.peer_node_id),
        format!("\"name\": {}", quoted(connection.name.as_deref().unwrap_or(""))),
        // The blank behind the comma is the original's; it is added below.
        format!("\"connection-state\": {}", quoted(&connection.state)),
        format!("\"congested\": {}", connection.congested),
        format!("\"peer-role\": \"{}\"", connection.role),
    ];
    if let Some((application, resync)) = connection.in_flight {
        lines.push(format!("\"ap-in-flight\": {application}"));
        lines.push(format!("\"rs-in-flight\": {resync}"));
    }
    lines.push(json_array("peer_devices", &devices));
    let state = &lines[2];
    json_object(4, &lines).replacen(&format!("{state},\n"), &format!("{state}, \n"), 1)
}

fn json_peer_device(device: &PeerDeviceView, size: u64) -> String {
    let sync = device.sync();
    let verify = sync.is_some() && device.is_verify();
    let mut lines = vec![
        format!("\"volume\": {}", device.volume),
        format!("\"replication-state\": {}", quoted(&device.replication)),
        format!("\"peer-disk-state\": {}", quoted(&device.disk)),
        format!("\"peer-client\": {}", device.client == ClientFlag::Yes),
        format!("\"resync-suspended\": \"{}\"", paused_word(device)),
    ];
    lines.extend(device.statistics.counters().map(json_counter));
    lines.extend([
        format!("\"has-sync-details\": {}", sync.is_some()),
        format!("\"has-online-verify-details\": {verify}"),
        format!("\"percent-in-sync\": {:.2}", device.in_sync(size)),
    ]);
    if let Some(d) = sync {
        lines.extend([
            format!("\"rs-total\": {}", d.total),
            format!("\"rs-dt-start-ms\": {}", d.since_start_ms),
            format!("\"rs-paused-ms\": {}", d.paused_ms),
            format!("\"rs-dt0-ms\": {}", d.recent.0),
            format!("\"rs-db0-sectors\": {}", d.recent.1),
            format!("\"rs-dt1-ms\": {}", d.older.0),
            format!("\"rs-db1-sectors\": {}", d.older.1),
        ]);
        if verify {
            let stop = d.verify_stop.map_or_else(|| "-1".to_string(), |s| s.to_string());
            lines.extend([
                format!("\"ov-start-sector\": {}", d.verify_start),
                format!("\"ov-stop-sector\": {stop}"),
                format!("\"ov-position\": {}", d.verify_position),
                format!("\"ov-left\": {}", d.verify_left),
                format!("\"ov-skipped\": {}", d.verify_skipped),
            ]);
        } else {
            lines.push(format!("\"rs-failed\": {}", d.failed));
            lines.push(format!("\"rs-same-csum\": {}", d.same_checksum));
        }
        let left = device.left(d);
        lines.extend([
            format!("\"want\": {:.2}", d.want_kib as f64 / 1024.0),
            format!("\"db0/dt0 [MiB/s]\": {:.2}", speed(d.recent.1, d.recent.0)),
            format!("\"db1/dt1 [MiB/s]\": {:.2}", speed(d.older.1, d.older.0)),
            format!("\"estimated-seconds-to-finish\": {:.0}", d.seconds_left(left).unwrap_or(NEVER_SECONDS)),
            format!("\"db/dt [MiB/s]\": {:.2}", d.average(left)),
        ]);
    }
    if device.is_syncing() {
        lines.push(format!("\"percent-resync-done\": {:.2}", device.done(size)));
    }
    json_object(8, &lines)
}
