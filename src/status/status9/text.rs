//! The text of DRBD 9's `status`. spec/drbdsetup.md 7.1.

use super::{list, paused_word, speed, suspended_word};
use super::{ConnectionView, DeviceView, PeerDeviceView, SyncDetails, View};
use crate::core::state::Disk;
use crate::status::counters::Counter;
use crate::status::status84::yes_no;
use crate::status::wrap::Wrapper;

/// How to print the text.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// How often `--verbose` was given.
    pub verbose: u32,
    /// `--statistics`.
    pub statistics: bool,
    /// stdout is a terminal: a client without disk is told by colour there.
    pub terminal: bool,
    /// Columns.
    pub width: usize,
}

/// The block of one resource, an empty line at its end.
pub fn text(view: &View, style: &Style) -> String {
    let mut text = Wrapper::new(style.width);
    let v = style.verbose > 0;
    text.item(0, &view.name);
    if let (true, Some(id)) = (v, view.node_id) {
        text.item(4, &format!(" node-id:{id}"));
    }
    text.item(4, &format!(" role:{}", view.role));
    if v || view.suspended.contains(&true) {
        text.item(4, &format!(" suspended:{}", suspended_word(view)));
    }
    if v || view.force_io_failures {
        text.item(4, &format!(" force-io-failures:{}", yes_no(view.force_io_failures)));
    }
    if v && style.statistics {
        text.newline();
        text.item(4, &format!("write-ordering:{}", view.write_ordering));
    }
    text.newline();
    let numbered = v || view.devices.len() > 1 || view.devices.iter().any(|d| d.volume != 0);
    for device in &view.devices {
        device_lines(&mut text, device, numbered, style);
    }
    for connection in &view.connections {
        connection_lines(&mut text, connection, style);
        let connected = connection.state == "Connected";
        if (v || style.statistics || connected) && !view.devices.is_empty() {
            for device in &connection.devices {
                let size = view
                    .devices
                    .iter()
                    .find(|d| d.volume == device.volume)
                    .and_then(|d| d.statistics.as_ref())
                    .map_or(0, |s| s.size);
                peer_device_lines(&mut text, device, size, numbered, style);
            }
        }
    }
    text.newline();
    text.finish()
}

fn device_lines(text: &mut Wrapper, device: &DeviceView, numbered: bool, style: &Style) {
    let v = style.verbose > 0;
    let mut items = Vec::new();
    if numbered {
        items.push(format!(" volume:{}", device.volume));
    }
    if v {
        items.push(format!(" minor:{}", device.minor));
    }
    items.push(format!(" disk:{}", device.disk));
    if device.disk == Disk::Diskless.name() && (v || !style.terminal) {
        items.push(format!(" client:{}", device.client.word()));
    }
    if v {
        let path = if device.backing.is_empty() { "none" } else { &device.backing };
        items.push(format!(" backing_dev:{path}"));
    }
    if v || !device.quorum {
        items.push(format!(" quorum:{}", yes_no(device.quorum)));
    }
    print_items(text, 2, items);
    if let Some(s) = &device.statistics {
        let mut items = Vec::new();
        if style.statistics {
            text.newline();
            items.extend(s.counters().iter().filter(|c| v || !c.verbose).map(Counter::to_string));
            if v {
                items.push(format!(" al-suspended:{}", yes_no(s.al_suspended)));
            }
        }
        if v || s.blocked.contains(&true) {
            let [upper, lower] = s.blocked;
            items.push(format!(" blocked:{}", list(&[(upper, "upper"), (lower, "lower")])));
        }
        for item in items {
            text.item(6, &item);
        }
    }
    text.newline();
}

/// Items of a line, the first one with this indent, others four more if the line breaks.
fn print_items(text: &mut Wrapper, indent: usize, items: Vec<String>) {
    for (i, item) in items.iter().enumerate() {
        text.item(if i == 0 { indent } else { indent + 4 }, item);
    }
}

fn connection_lines(text: &mut Wrapper, connection: &ConnectionView, style: &Style) {
    let v = style.verbose > 0;
    let connected = connection.state == "Connected";
    let mut items: Vec<String> = connection.name.iter().cloned().collect();
    if v || connection.name.is_none() {
        items.push(format!(" node-id:{}", connection.peer_node_id));
    }
    if v || !connected {
        items.push(format!(" connection:{}", connection.state));
    }
    if v || connected {
        items.push(format!(" role:{}", connection.role));
    }
    if v || connection.congested {
        items.push(format!(" congested:{}", yes_no(connection.congested)));
    }
    print_items(text, 2, items);
    if let (true, Some((application, resync))) = (v || connection.congested, connection.in_flight) {
        text.newline();
        text.item(6, &format!(" ap-in-flight:{application}"));
        text.item(6, &format!(" rs-in-flight:{resync}"));
    }
    text.newline();
}

fn peer_device_lines(text: &mut Wrapper, device: &PeerDeviceView, size: u64, numbered: bool, style: &Style) {
    let (v, s) = (style.verbose > 0, style.statistics);
    let mut items = Vec::new();
    if numbered {
        items.push(format!(" volume:{}", device.volume));
    }
    let off = device.replication == "Off";
    if v || !(off || device.replication == "Established") {
        items.push(format!(" replication:{}", device.replication));
    }
    if v || s || !(off && device.disk == Disk::DUnknown.name()) {
        items.push(format!(" peer-disk:{}", device.disk));
        if device.disk == Disk::Diskless.name() && (v || !style.terminal) {
            items.push(format!(" peer-client:{}", device.client.word()));
        }
        if device.is_syncing() {
            items.push(format!(" done:{:.2}", device.done(size)));
        }
        if v || device.paused_by.contains(&true) {
            items.push(format!(" resync-suspended:{}", paused_word(device)));
        }
    }
    print_items(text, 4, items);
    text.newline();
    if s {
        let counters = device.statistics.counters();
        let mut items: Vec<String> =
            counters.iter().filter(|c| v || !c.verbose).map(Counter::to_string).collect();
        if let Some(details) = device.sync() {
            items.extend(detail_items(device, details, style.verbose));
        }
        for item in items {
            text.item(8, &item);
        }
        text.newline();
    }
}

fn detail_items(device: &PeerDeviceView, details: &SyncDetails, verbose: u32) -> Vec<String> {
    let mut items = Vec::new();
    let left = device.left(details);
    let d = details;
    if verbose > 1 {
        items.push(format!(" rs-total:{}", d.total));
        items.push(format!(" rs-dt-start-ms:{}", d.since_start_ms));
        items.push(format!(" rs-paused-ms:{}", d.paused_ms));
        items.push(format!(" rs-dt0-ms:{}", d.recent.0));
        items.push(format!(" rs-db0-sectors:{}", d.recent.1));
        items.push(format!(" rs-dt1-ms:{}", d.older.0));
        items.push(format!(" rs-db1-sectors:{}", d.older.1));
        if device.is_verify() {
            items.push(format!(" ov-start-sector:{}", d.verify_start));
            items.push(format!(" ov-stop-sector:{}", d.verify_stop.unwrap_or(u64::MAX)));
            items.push(format!(" ov-position:{}", d.verify_position));
            items.push(format!(" ov-left:{}", d.verify_left));
            items.push(format!(" ov-skipped:{}", d.verify_skipped));
        } else {
            items.push(format!(" rs-failed:{}", d.failed));
            items.push(format!(" rs-same-csum:{}", d.same_checksum));
        }
        items.push(format!(" want:{:.2}", d.want_kib as f64 / 1024.0));
        items.push(format!(" dbdt:{:.2}", d.average(left)));
        items.push(format!(" dbdt0:{:.2}", speed(d.recent.1, d.recent.0)));
    }
    if verbose > 0 {
        items.push(format!(" dbdt1:{:.2}", speed(d.older.1, d.older.0)));
        match d.seconds_left(left) {
            Some(seconds) => items.push(format!(" eta:{seconds:.0}")),
            None => items.push(" eta:nan".to_string()),
        }
    }
    items
}
