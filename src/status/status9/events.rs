//! DRBD 9's `events2`: objects of a [`View`], and lines about what changed of them. spec/drbdsetup.md 7.3.

use super::{list, paused_word, speed, suspended_word};
use super::{ConnectionView, DeviceView, PeerDeviceView, View};
use crate::core::state::Role;
use crate::status::counters::Counter;
use crate::status::status84::yes_no;

/// How to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventStyle {
    /// How often `--statistics` was given; the second one adds what `status` has only with `--verbose`.
    pub statistics: u32,
    /// `--full`: all values in every line.
    pub full: bool,
    /// `--diff`: `KEY:OLD->NEW`.
    pub diff: bool,
}

/// When a group of values is there at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Always,
    /// `--statistics` or `--full`.
    Extra,
    /// `--statistics`; a change of it alone makes a line only where counters are asked for.
    Counters,
    /// `--statistics` twice.
    Verbose,
}

/// How `--diff` shows a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrow {
    /// `OLD->NEW`, `UNKNOWN->NEW` at first; as it is if it did not change.
    IfChanged,
    /// As [`Arrow::IfChanged`], but not shown at first (a quirk).
    NotAtFirst,
    /// Always with an arrow; the text is what it begins with.
    Always(&'static str),
    /// Never with an arrow.
    Never,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    name: &'static str,
    value: String,
    arrow: Arrow,
    /// Shown only if `--statistics` was given twice.
    verbose: bool,
}

/// Values that are printed together if one of them changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    level: Level,
    fields: Vec<Field>,
}

/// One object with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Object {
    kind: &'static str,
    key: String,
    /// What `destroy` names.
    short_key: String,
    groups: Vec<Group>,
}

fn field(name: &'static str, value: impl ToString) -> Field {
    Field { name, value: value.to_string(), arrow: Arrow::IfChanged, verbose: false }
}

fn one(name: &'static str, value: impl ToString) -> Group {
    Group { level: Level::Always, fields: vec![field(name, value)] }
}

fn at(level: Level, name: &'static str, value: impl ToString) -> Group {
    Group { level, ..one(name, value) }
}

/// Whether this node could become Primary without force, and how good a choice it is. spec/drbdsetup.md 7.3.
fn promotion(view: &View) -> (bool, u32) {
    const UP_TO_DATE: &str = "UpToDate";
    let replicas = |device: &DeviceView| {
        let peers = view.connections.iter().flat_map(|c| &c.devices).filter(|p| p.volume == device.volume);
        u32::from(device.disk == UP_TO_DATE) + peers.filter(|p| p.disk == UP_TO_DATE).count() as u32
    };
    let fewest = view.devices.iter().map(replicas).min().unwrap_or(0);
    if fewest == 0 || view.devices.iter().any(|device| !device.quorum) {
        return (false, 0);
    }
    let usable =
        |device: &DeviceView| [UP_TO_DATE, "Consistent", "Inconsistent"].contains(&device.disk.as_str());
    let all_usable = view.devices.iter().all(usable);
    let good = view.devices.iter().filter(|device| device.disk == UP_TO_DATE).count() as u32;
    let score = 10_000 * u32::from(all_usable) + 100 * good.min(99) + fewest.min(99);
    let is_primary = |role: Role| role == Role::Primary;
    let primary = is_primary(view.role) || view.connections.iter().any(|c| is_primary(c.role));
    (!primary, score)
}

fn objects(view: &View) -> Vec<Object> {
    let name = &view.name;
    let (may_promote, score) = promotion(view);
    let arrows = |name, value: String, first| Field { arrow: Arrow::Always(first), ..field(name, value) };
    let mut objects = vec![Object {
        kind: "resource",
        key: format!("name:{name}"),
        short_key: format!("name:{name}"),
        groups: vec![
            one("role", view.role),
            one("suspended", suspended_word(view)),
            one("force-io-failures", yes_no(view.force_io_failures)),
            at(Level::Extra, "write-ordering", view.write_ordering),
            Group {
                level: Level::Always,
                fields: vec![
                    arrows("may_promote", yes_no(may_promote).to_string(), "UNKNOWN"),
                    arrows("promotion_score", score.to_string(), "0"),
                ],
            },
        ],
    }];
    objects.extend(view.connections.iter().map(|c| connection(name, c)));
    objects.extend(view.devices.iter().map(|d| device(name, d)));
    for c in &view.connections {
        let of = |p: &PeerDeviceView| view.devices.iter().find(|d| d.volume == p.volume);
        let size = |p: &PeerDeviceView| of(p).and_then(|d| d.statistics.as_ref()).map_or(0, |s| s.size);
        objects.extend(c.devices.iter().map(|p| peer_device(&connection_key(name, c), p, size(p))));
    }
    for c in &view.connections {
        for path in &c.paths {
            let key = format!("{} local:{} peer:{}", connection_key(name, c), path.local, path.peer);
            let groups = vec![one("established", yes_no(path.established))];
            objects.push(Object { kind: "path", short_key: key.clone(), key, groups });
        }
    }
    objects
}

/// Key of a connection.
pub fn connection_key(resource: &str, connection: &ConnectionView) -> String {
    let name = connection.name.as_ref().map(|name| format!(" conn-name:{name}")).unwrap_or_default();
    format!("name:{resource} peer-node-id:{}{name}", connection.peer_node_id)
}

fn connection(resource: &str, connection: &ConnectionView) -> Object {
    let key = connection_key(resource, connection);
    let mut groups = vec![
        one("connection", &connection.state),
        one("role", connection.role),
        at(Level::Extra, "congested", yes_no(connection.congested)),
    ];
    if let Some((application, resync)) = connection.in_flight {
        let fields = vec![field("ap-in-flight", application), field("rs-in-flight", resync)];
        groups.push(Group { level: Level::Counters, fields });
    }
    Object { kind: "connection", short_key: key.clone(), key, groups }
}

fn counter(name: &'static str, value: impl ToString, verbose: bool) -> Field {
    Field { arrow: Arrow::Never, verbose, ..field(name, value) }
}

fn counted(of: Counter) -> Field {
    counter(of.name, of.value, of.verbose)
}

fn device(resource: &str, device: &DeviceView) -> Object {
    let backing = if device.backing.is_empty() { "none" } else { &device.backing };
    let quorum = Field { arrow: Arrow::NotAtFirst, ..field("quorum", yes_no(device.quorum)) };
    let fields = vec![
        field("backing_dev", backing),
        field("disk", &device.disk),
        field("client", device.client.word()),
        quorum,
    ];
    let mut groups = vec![Group { level: Level::Always, fields }];
    if let Some(s) = &device.statistics {
        let fields = s.counters().map(counted).to_vec();
        groups.push(Group { level: Level::Counters, fields });
        groups.push(at(Level::Verbose, "al-suspended", yes_no(s.al_suspended)));
        let [upper, lower] = s.blocked;
        groups.push(at(Level::Verbose, "blocked", list(&[(upper, "upper"), (lower, "lower")])));
    }
    let short_key = format!("name:{resource} volume:{}", device.volume);
    Object { kind: "device", key: format!("{short_key} minor:{}", device.minor), short_key, groups }
}

fn peer_device(connection_key: &str, device: &PeerDeviceView, size: u64) -> Object {
    let mut groups = vec![
        one("replication", &device.replication),
        Group {
            level: Level::Always,
            fields: vec![field("peer-disk", &device.disk), field("peer-client", device.client.word())],
        },
        one("resync-suspended", paused_word(device)),
    ];
    if device.is_syncing() {
        let done = counter("done", format!("{:.2}", device.done(size)), false);
        groups.push(Group { level: Level::Always, fields: vec![done] });
    }
    let mut fields = device.statistics.counters().map(counted).to_vec();
    if let Some(details) = device.sync() {
        let (ms, sectors) = details.older;
        let eta = details.seconds_left(device.left(details));
        fields.push(counter("dbdt1", format!("{:.2}", speed(sectors, ms)), true));
        fields.push(counter("eta", eta.map_or("nan".to_string(), |seconds| format!("{seconds:.0}")), true));
    }
    groups.push(Group { level: Level::Counters, fields });
    let key = format!("{connection_key} volume:{}", device.volume);
    Object { kind: "peer-device", short_key: key.clone(), key, groups }
}

impl EventStyle {
    fn has(&self, level: Level) -> bool {
        match level {
            Level::Always => true,
            Level::Extra => self.statistics > 0 || self.full,
            Level::Counters => self.statistics > 0,
            Level::Verbose => self.statistics > 1,
        }
    }

    /// ` name:value`, for a value that was another one before, or is new.
    fn shown(&self, field: &Field, before: Option<&Field>) -> String {
        let name = field.name;
        let new = &field.value;
        if field.verbose && self.statistics < 2 {
            return String::new();
        }
        let old = before.map(|before| before.value.as_str());
        match (field.arrow, old) {
            _ if !self.diff => format!(" {name}:{new}"),
            (Arrow::Never, _) => format!(" {name}:{new}"),
            (Arrow::Always(first), _) => format!(" {name}:{}->{new}", old.unwrap_or(first)),
            (Arrow::NotAtFirst, None) => String::new(),
            (Arrow::IfChanged, None) => format!(" {name}:UNKNOWN->{new}"),
            (_, Some(old)) if old == new => format!(" {name}:{new}"),
            (_, Some(old)) => format!(" {name}:{old}->{new}"),
        }
    }

    fn whole(&self, action: &str, object: &Object) -> String {
        let mut line = format!("{action} {} {}", object.kind, object.key);
        for group in object.groups.iter().filter(|group| self.has(group.level)) {
            line.extend(group.fields.iter().map(|field| self.shown(field, None)));
        }
        line
    }

    /// `counters`: they make a line, too.
    fn changed(&self, old: &Object, new: &Object, counters: bool) -> Option<String> {
        let mut line = format!("change {} {}", new.kind, new.key);
        let mut worth_it = false;
        for group in new.groups.iter().filter(|group| self.has(group.level)) {
            let before = old.groups.iter().find(|before| before.fields[0].name == group.fields[0].name);
            let differs = before.is_none_or(|before| before != group);
            worth_it |= differs && (counters || group.level != Level::Counters);
            if differs || self.full {
                for field in &group.fields {
                    let before = before.and_then(|g| g.fields.iter().find(|f| f.name == field.name));
                    line += &self.shown(field, before);
                }
            }
        }
        worth_it.then_some(line)
    }
}

/// Lines of the initial dump of a resource. `exists -` follows the last one.
pub fn existing(view: &View, style: &EventStyle) -> Vec<String> {
    objects(view).iter().map(|object| style.whole("exists", object)).collect()
}

/// Lines of a change of a resource: `None` as `old`: it was created; as `new`: destroyed. `counters`: a counter that
/// changed makes a line, too.
pub fn change(old: Option<&View>, new: Option<&View>, style: &EventStyle, counters: bool) -> Vec<String> {
    let old = old.map(objects).unwrap_or_default();
    let new = new.map(objects).unwrap_or_default();
    let same = |a: &Object, b: &Object| a.kind == b.kind && a.key == b.key;
    let mut lines = Vec::new();
    for object in &new {
        match old.iter().find(|before| same(before, object)) {
            None => lines.push(style.whole("create", object)),
            Some(before) => lines.extend(style.changed(before, object, counters)),
        }
    }
    // What depends on something else goes first; the volumes of a connection go with it.
    for kind in ["path", "connection", "device", "resource"] {
        for object in old.iter().filter(|object| object.kind == kind) {
            if !new.iter().any(|after| same(after, object)) {
                lines.push(format!("destroy {kind} {}", object.short_key));
            }
        }
    }
    lines
}
