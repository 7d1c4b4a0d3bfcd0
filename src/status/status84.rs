//! 8.4's `status`: a block of text per resource; and the words that it shares with `events2`.
//! spec/drbdsetup.md 6.6, 7.5.

use super::colors::{connection_color, painted, replication_color, LOCAL, PEER};
use super::counters::{DeviceStatistics, PeerStatistics};
use super::people;
use super::snapshot::{Resource, Snapshot, Suspended, Volume};
use super::wrap::Wrapper;
use crate::core::state::Conn;

/// How to print.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// `--verbose`.
    pub verbose: bool,
    /// `--statistics`.
    pub statistics: bool,
    /// With escape sequences.
    pub color: bool,
    /// Columns.
    pub width: usize,
    /// With a line about each running resync and verify, at this time of the snapshot's clock. DRBD has no such line.
    pub progress_at_ms: Option<u64>,
}

/// The resources of an object (`all` or a name), by name.
pub fn chosen<'a>(snapshot: &'a Snapshot, object: &str) -> Vec<&'a Resource> {
    let all = object == "all";
    let wanted = |r: &&Resource| all || r.name == object;
    let mut resources: Vec<&Resource> = snapshot.resources.iter().filter(wanted).collect();
    resources.sort_by(|a, b| a.name.cmp(&b.name));
    resources
}

/// Name of a connection's state: `Connecting` for WFConnection, `Connected` for everything from
/// WFReportParams on.
pub fn connection_name(cstate: Conn) -> &'static str {
    match cstate {
        Conn::WFConnection => "Connecting",
        state if state >= Conn::WFReportParams => "Connected",
        state => state.name(),
    }
}

/// Name of a replication state: `Off` while not connected, `Established` for Connected.
pub fn replication_name(conn: Conn) -> &'static str {
    match conn {
        Conn::Connected => "Established",
        state if state < Conn::Connected => "Off",
        state => state.name(),
    }
}

/// `no`, or a list of those that are set.
fn list(of: &[(bool, &'static str)]) -> String {
    let set: Vec<&str> = of.iter().filter(|(set, _)| *set).map(|(_, w)| *w).collect();
    if set.is_empty() {
        "no".to_string()
    } else {
        set.join(",")
    }
}

/// Value behind `suspended:`.
pub fn suspended_word(suspended: Suspended) -> String {
    list(&[(suspended.user, "user"), (suspended.no_data, "no-data"), (suspended.fencing, "fencing")])
}

/// Value behind `blocked:`.
pub fn blocked_word(volume: &Volume) -> String {
    list(&[(volume.blocked_upper, "upper"), (volume.blocked_lower, "lower")])
}

/// Value behind `resync-suspended:`.
pub fn resync_suspended_word(volume: &Volume) -> String {
    list(&[
        (volume.state.user_isp, "user"),
        (volume.state.peer_isp, "peer"),
        (volume.state.aftr_isp, "dependency"),
    ])
}

/// `yes` or `no`.
pub fn yes_no(set: bool) -> &'static str {
    if set {
        "yes"
    } else {
        "no"
    }
}

/// KiB of the bits that are out of sync.
pub fn out_of_sync_kib(volume: &Volume) -> u64 {
    volume.out_of_sync_bits.saturating_mul(4)
}

/// A word in its colour.
fn colored(style: &Style, color: &str, word: &str) -> String {
    if style.color && !color.is_empty() {
        painted(color, word)
    } else {
        word.to_string()
    }
}

/// The block of one resource, an empty line at its end.
pub fn text(resource: &Resource, style: &Style) -> String {
    let mut text = Wrapper::new(style.width);
    let (v, s) = (style.verbose, style.statistics);
    text.item(0, &resource.name);
    let role = resource.role();
    let word = colored(style, LOCAL.role(role), role.name());
    text.item(4, &format!(" role:{word}"));
    let suspended = resource.suspended();
    if v || suspended != Suspended::default() {
        text.item(4, &format!(" suspended:{}", suspended_word(suspended)));
    }
    if v && s {
        text.newline();
        text.item(4, &format!("write-ordering:{}", write_ordering(resource)));
    }
    text.newline();

    let volumes = resource.volumes_sorted();
    let numbered = v || volumes.len() > 1 || volumes.iter().any(|volume| volume.number != 0);
    for volume in &volumes {
        device(&mut text, volume, numbered, style);
    }
    if resource.connection.addresses.is_some() {
        connection(&mut text, resource, style);
        let cstate = resource.connection.cstate;
        if v || s || cstate >= Conn::WFReportParams {
            for volume in &volumes {
                peer_device(&mut text, volume, numbered, style);
            }
        }
    }
    text.newline();
    text.finish()
}

/// Write ordering of a resource: that of its first volume, `flush` without any.
pub fn write_ordering(resource: &Resource) -> &'static str {
    let volumes = resource.volumes_sorted();
    volumes.first().map_or("flush", |v| v.write_ordering.name())
}

fn device(text: &mut Wrapper, volume: &Volume, numbered: bool, style: &Style) {
    let (v, s) = (style.verbose, style.statistics);
    if numbered {
        text.item(2, &format!(" volume:{}", volume.number));
    }
    if v {
        text.item(6, &format!(" minor:{}", volume.minor));
    }
    let disk = volume.state.disk;
    let word = colored(style, LOCAL.disk(disk), disk.name());
    text.item(if numbered { 6 } else { 2 }, &format!(" disk:{word}"));
    if s {
        text.newline();
        for counter in DeviceStatistics::of(volume).counters().iter().filter(|c| v || !c.verbose) {
            text.item(6, &counter.to_string());
        }
        if v {
            text.item(6, &format!(" al-suspended:{}", yes_no(volume.al_suspended)));
        }
    }
    if v || volume.blocked_upper || volume.blocked_lower {
        text.item(6, &format!(" blocked:{}", blocked_word(volume)));
    }
    text.newline();
}

fn connection(text: &mut Wrapper, resource: &Resource, style: &Style) {
    let connection = &resource.connection;
    let connected = connection.cstate >= Conn::WFReportParams;
    text.item(2, "peer");
    if style.verbose || !connected {
        let color = connection_color(connection.cstate);
        let word = colored(style, color, connection_name(connection.cstate));
        text.item(6, &format!(" connection:{word}"));
    }
    if style.verbose || connected {
        let role = resource.peer_role();
        let word = colored(style, PEER.role(role), role.name());
        text.item(6, &format!(" role:{word}"));
    }
    if style.verbose || connection.congested {
        text.item(6, &format!(" congested:{}", yes_no(connection.congested)));
    }
    text.newline();
}

fn peer_device(text: &mut Wrapper, volume: &Volume, numbered: bool, style: &Style) {
    let (v, s) = (style.verbose, style.statistics);
    let state = &volume.state;
    let mut first = true;
    let mut item = |text: &mut Wrapper, item: String| {
        text.item(if first { 4 } else { 8 }, &item);
        first = false;
    };
    if numbered {
        item(text, format!(" volume:{}", volume.number));
    }
    if v || state.conn >= Conn::Connected {
        let color = replication_color(state.conn);
        let word = colored(style, color, replication_name(state.conn));
        item(text, format!(" replication:{word}"));
    }
    let word = colored(style, PEER.disk(state.pdsk), state.pdsk.name());
    item(text, format!(" peer-disk:{word}"));
    if (Conn::SyncSource..=Conn::PausedSyncT).contains(&state.conn) {
        item(text, format!(" done:{}", done(volume)));
    }
    if v || state.is_sync_paused() {
        item(text, format!(" resync-suspended:{}", resync_suspended_word(volume)));
    }
    text.newline();
    if let Some(line) = style.progress_at_ms.and_then(|now| people::progress(volume, now)) {
        text.item(4, &line);
        text.newline();
    }
    if s {
        for counter in PeerStatistics::of(volume).counters().iter().filter(|c| v || !c.verbose) {
            text.item(8, &counter.to_string());
        }
        text.newline();
    }
}

/// Percent of the device that is in sync, two decimals.
pub fn done(volume: &Volume) -> String {
    let size = volume.size_sectors / 2;
    let percent =
        if size == 0 { 100.0 } else { 100.0 * (1.0 - out_of_sync_kib(volume) as f64 / size as f64) };
    format!("{:.2}", percent.clamp(0.0, 100.0))
}
