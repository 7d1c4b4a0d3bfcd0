//! DRBD 9's `status`, as text and as JSON. spec/drbdsetup.md 7.1 and 7.2.
//!
//! Offered in addition to 8.4's form. Sizes in a [`View`] are sectors, times milliseconds.

use super::snapshot::{Progress, Resource, Snapshot, Volume, MARKS};
use super::status84::{connection_name, replication_name, write_ordering, yes_no};
use super::wrap::Wrapper;
use crate::core::state::{Conn, Disk, Role};
use std::fmt::Write;

/// Whether a node without disk is meant to be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientFlag {
    /// It should have one.
    No,
    /// It is a client by intention.
    Yes,
    /// Not known.
    Unknown,
}

impl ClientFlag {
    const fn word(self) -> &'static str {
        match self {
            ClientFlag::No => "no",
            ClientFlag::Yes => "yes",
            ClientFlag::Unknown => "unknown",
        }
    }
}

/// A resource as DRBD 9 sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Name.
    pub name: String,
    /// This node's id, if it has one.
    pub node_id: Option<i32>,
    /// Role of this node.
    pub role: Role,
    /// I/O is suspended by: user, no data, fencing, quorum.
    pub suspended: [bool; 4],
    /// I/O errors are forced.
    pub force_io_failures: bool,
    /// `flush` and its like.
    pub write_ordering: &'static str,
    /// Volumes, ascending.
    pub devices: Vec<DeviceView>,
    /// Peers.
    pub connections: Vec<ConnectionView>,
}

/// A volume on this node.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceView {
    /// Volume number.
    pub volume: u32,
    /// N of /dev/drbdN.
    pub minor: u32,
    /// State of the disk.
    pub disk: String,
    /// Meant to have no disk.
    pub client: ClientFlag,
    /// Path of the lower device; empty: none.
    pub backing: String,
    /// Has quorum.
    pub quorum: bool,
    /// Counters, where there are any.
    pub statistics: Option<DeviceStatistics>,
}

/// Counters of a volume.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeviceStatistics {
    /// Sectors.
    pub size: u64,
    /// Sectors.
    pub read: u64,
    /// Sectors.
    pub written: u64,
    /// Activity log transactions.
    pub al_writes: u64,
    /// Bitmap pages.
    pub bm_writes: u64,
    /// Requests from above.
    pub upper_pending: i64,
    /// Requests to the lower device.
    pub lower_pending: i64,
    /// Activity log updates are suspended.
    pub al_suspended: bool,
    /// Blocked above, below.
    pub blocked: [bool; 2],
}

/// A connection to a peer.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionView {
    /// The peer's id.
    pub peer_node_id: i32,
    /// The peer's name, if known.
    pub name: Option<String>,
    /// `Connecting` and its like.
    pub state: String,
    /// The peer's role.
    pub role: Role,
    /// The network is congested.
    pub congested: bool,
    /// Application and resync data in flight, sectors, if known.
    pub in_flight: Option<(u64, u64)>,
    /// Volumes, ascending.
    pub devices: Vec<PeerDeviceView>,
}

/// A volume on a peer.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerDeviceView {
    /// Volume number.
    pub volume: u32,
    /// `SyncSource` and its like.
    pub replication: String,
    /// State of the peer's disk.
    pub disk: String,
    /// Meant to have no disk.
    pub client: ClientFlag,
    /// Resync is paused by: user, peer, dependency.
    pub paused_by: [bool; 3],
    /// Sectors.
    pub received: u64,
    /// Sectors.
    pub sent: u64,
    /// Sectors.
    pub out_of_sync: u64,
    /// Requests that the peer has not answered.
    pub pending: i64,
    /// Requests of the peer that we have not answered.
    pub unacked: i64,
    /// About a running resync or verify; `None`: the kernel told none.
    pub details: Option<SyncDetails>,
}

/// A running resync or verify. Sectors and milliseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SyncDetails {
    /// To do at the start.
    pub total: u64,
    /// Since the start.
    pub since_start_ms: u64,
    /// Paused.
    pub paused_ms: u64,
    /// Youngest mark: time since, done since.
    pub recent: (u64, u64),
    /// Oldest mark: time since, done since.
    pub older: (u64, u64),
    /// Could not be synced.
    pub failed: u64,
    /// Equal by checksum.
    pub same_checksum: u64,
    /// Rate that the controller asks for, KiB/s.
    pub want_kib: u64,
    /// Verify: first sector.
    pub verify_start: u64,
    /// Verify: sector to stop at.
    pub verify_stop: Option<u64>,
    /// Verify: where it is.
    pub verify_position: u64,
    /// Verify: still to do.
    pub verify_left: u64,
    /// Verify: skipped.
    pub verify_skipped: u64,
}

/// States in which there is progress.
const SYNC_STATES: [&str; 6] =
    ["SyncSource", "SyncTarget", "VerifyS", "VerifyT", "PausedSyncS", "PausedSyncT"];

/// What the JSON says if a resync makes no progress.
const NEVER_SECONDS: f64 = 987_654_321.0;

impl PeerDeviceView {
    /// Whether there is progress to tell about.
    fn is_syncing(&self) -> bool {
        let something = self.details.as_ref().is_none_or(|d| d.total > 0);
        something && SYNC_STATES.contains(&self.replication.as_str())
    }

    fn is_verify(&self) -> bool {
        self.replication.starts_with("Verify")
    }

    /// Details, while they mean something.
    fn sync(&self) -> Option<&SyncDetails> {
        self.details.as_ref().filter(|_| self.is_syncing())
    }

    /// Sectors still to do.
    fn left(&self, details: &SyncDetails) -> u64 {
        if self.is_verify() {
            details.verify_left
        } else {
            self.out_of_sync.saturating_sub(details.failed)
        }
    }

    /// Percent done of a resync or verify; of a device of `size` sectors if nothing more is known.
    fn done(&self, size: u64) -> f64 {
        match self.sync() {
            Some(details) => ratio(details.total.saturating_sub(self.left(details)), details.total) * 100.0,
            None => self.in_sync(size),
        }
    }

    fn in_sync(&self, size: u64) -> f64 {
        if size == 0 {
            return 0.0;
        }
        100.0 * (1.0 - ratio(self.out_of_sync, size))
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// MiB/s of sectors in milliseconds.
fn speed(sectors: u64, ms: u64) -> f64 {
    ratio(sectors, ms) * 1000.0 / 2048.0
}

impl SyncDetails {
    fn average(&self, left: u64) -> f64 {
        let running = self.since_start_ms.saturating_sub(self.paused_ms);
        speed(self.total.saturating_sub(left), running)
    }

    /// Seconds until the end; `None`: no progress.
    fn seconds_left(&self, left: u64) -> Option<f64> {
        let (ms, done) = self.older;
        (done > 0).then(|| ms as f64 * left as f64 / done as f64 / 1000.0)
    }
}

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

fn list(of: &[(bool, &'static str)]) -> String {
    let set: Vec<&str> = of.iter().filter(|(set, _)| *set).map(|(_, w)| *w).collect();
    if set.is_empty() {
        "no".to_string()
    } else {
        set.join(",")
    }
}

fn suspended_word(view: &View) -> String {
    let [user, no_data, fencing, quorum] = view.suspended;
    list(&[(user, "user"), (no_data, "no-data"), (fencing, "fencing"), (quorum, "quorum")])
}

fn paused_word(device: &PeerDeviceView) -> String {
    let [user, peer, dependency] = device.paused_by;
    list(&[(user, "user"), (peer, "peer"), (dependency, "dependency")])
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
            if v {
                items.push(format!(" size:{}", s.size / 2));
            }
            items.push(format!(" read:{}", s.read / 2));
            items.push(format!(" written:{}", s.written / 2));
            if v {
                items.push(format!(" al-writes:{}", s.al_writes));
                items.push(format!(" bm-writes:{}", s.bm_writes));
                items.push(format!(" upper-pending:{}", s.upper_pending));
                items.push(format!(" lower-pending:{}", s.lower_pending));
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
        let mut items =
            vec![format!(" received:{}", device.received / 2), format!(" sent:{}", device.sent / 2)];
        if v || device.out_of_sync != 0 {
            items.push(format!(" out-of-sync:{}", device.out_of_sync / 2));
        }
        if v {
            items.push(format!(" pending:{}", device.pending));
            items.push(format!(" unacked:{}", device.unacked));
        }
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

fn json_device(device: &DeviceView) -> String {
    let mut lines = vec![
        format!("\"volume\": {}", device.volume),
        format!("\"minor\": {}", device.minor),
        format!("\"disk-state\": {}", quoted(&device.disk)),
        format!("\"client\": {}", device.client == ClientFlag::Yes),
        format!("\"quorum\": {}", device.quorum),
    ];
    if let Some(s) = &device.statistics {
        lines.extend([
            format!("\"size\": {}", s.size / 2),
            format!("\"read\": {}", s.read / 2),
            format!("\"written\": {}", s.written / 2),
            format!("\"al-writes\": {}", s.al_writes),
            format!("\"bm-writes\": {}", s.bm_writes),
            format!("\"upper-pending\": {}", s.upper_pending),
            format!("\"lower-pending\": {}", s.lower_pending),
        ]);
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
        format!("\"received\": {}", device.received / 2),
        format!("\"sent\": {}", device.sent / 2),
        format!("\"out-of-sync\": {}", device.out_of_sync / 2),
        format!("\"pending\": {}", device.pending),
        format!("\"unacked\": {}", device.unacked),
        format!("\"has-sync-details\": {}", sync.is_some()),
        format!("\"has-online-verify-details\": {verify}"),
        format!("\"percent-in-sync\": {:.2}", device.in_sync(size)),
    ];
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

/// Sectors a bit of the bitmap.
const SECTORS_PER_BIT: u64 = 8;

/// A resource of ours in DRBD 9's terms: one peer, no quorum, no intended clients.
pub fn view(snapshot: &Snapshot, resource: &Resource) -> View {
    let suspended = resource.suspended();
    let connection = &resource.connection;
    let volumes = resource.volumes_sorted();
    let in_use = connection.addresses.is_some();
    let connections = in_use.then(|| ConnectionView {
        peer_node_id: 1,
        name: connection.peer_name.clone(),
        state: connection_name(connection.cstate).to_string(),
        role: resource.peer_role(),
        congested: connection.congested,
        in_flight: Some((connection.ap_in_flight, connection.rs_in_flight)),
        devices: volumes.iter().map(|v| peer_device_view(snapshot, v)).collect(),
    });
    View {
        name: resource.name.clone(),
        node_id: Some(0),
        role: resource.role(),
        suspended: [suspended.user, suspended.no_data, suspended.fencing, false],
        force_io_failures: false,
        write_ordering: write_ordering(resource),
        devices: volumes.iter().map(|v| device_view(v)).collect(),
        connections: connections.into_iter().collect(),
    }
}

fn device_view(volume: &Volume) -> DeviceView {
    let c = &volume.counters;
    DeviceView {
        volume: volume.number.into(),
        minor: volume.minor,
        disk: volume.state.disk.name().to_string(),
        client: ClientFlag::No,
        backing: volume.backing.as_ref().map(|b| b.lower_device.clone()).unwrap_or_default(),
        quorum: true,
        statistics: Some(DeviceStatistics {
            size: volume.size_sectors,
            read: c.read_sectors,
            written: c.written_sectors,
            al_writes: c.al_writes.into(),
            bm_writes: c.bm_writes.into(),
            upper_pending: c.ap_bio.into(),
            lower_pending: c.local.into(),
            al_suspended: volume.al_suspended,
            blocked: [volume.blocked_upper, volume.blocked_lower],
        }),
    }
}

fn peer_device_view(snapshot: &Snapshot, volume: &Volume) -> PeerDeviceView {
    let c = &volume.counters;
    let state = &volume.state;
    // Under the connection states of 9, replication is off until the handshake is done.
    let replication = if state.conn < Conn::Connected { "Off" } else { replication_name(state.conn) };
    let left = volume.bits_left().unwrap_or(0);
    PeerDeviceView {
        volume: volume.number.into(),
        replication: replication.to_string(),
        disk: state.pdsk.name().to_string(),
        client: ClientFlag::No,
        paused_by: [state.user_isp, state.peer_isp, state.aftr_isp],
        received: c.received_sectors,
        sent: c.sent_sectors,
        out_of_sync: volume.out_of_sync_bits.saturating_mul(SECTORS_PER_BIT),
        pending: i64::from(c.ap_pending) + i64::from(c.rs_pending),
        unacked: c.unacked.into(),
        details: volume.progress.as_ref().map(|p| sync_details(snapshot, volume, p, left)),
    }
}

fn sync_details(snapshot: &Snapshot, volume: &Volume, progress: &Progress, left: u64) -> SyncDetails {
    let sectors = |bits: u64| bits.saturating_mul(SECTORS_PER_BIT);
    let since = |ms: u64| snapshot.now_ms.saturating_sub(ms);
    let mark = |offset: usize| {
        let mark = progress.marks[progress.last_mark.wrapping_add(offset) % MARKS];
        (since(mark.time_ms), sectors(mark.left.saturating_sub(left)))
    };
    SyncDetails {
        total: sectors(progress.total),
        since_start_ms: since(progress.start_ms),
        paused_ms: progress.paused_ms,
        recent: mark(MARKS - 1),
        older: mark(2),
        failed: sectors(progress.failed),
        same_checksum: sectors(progress.same_checksum),
        want_kib: progress.want_kib,
        verify_start: progress.verify_start_sector,
        verify_stop: progress.verify_stop_sector,
        verify_position: sectors(volume.bitmap_bits.saturating_sub(progress.verify_left)),
        verify_left: sectors(progress.verify_left),
        verify_skipped: 0,
    }
}
