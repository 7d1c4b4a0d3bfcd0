//! 8.4's `events2`: objects, and what changed of them. spec/drbdsetup.md 6.8.
//!
//! Every picture of a resource is turned into objects with keys and values; what a reader was told and the next picture
//! give the lines of a change.

use super::counters::{Counter, DeviceStatistics, PeerStatistics};
use super::snapshot::{Resource, Volume};
use super::status84::{
    blocked_word, connection_name, replication_name, resync_suspended_word, suspended_word, write_ordering,
    yes_no,
};
use std::collections::BTreeMap;

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Exists,
    Create,
    Change,
    Destroy,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Action::Exists => "exists",
            Action::Create => "create",
            Action::Change => "change",
            Action::Destroy => "destroy",
        }
    }
}

/// When a value is printed in a `change` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// If it changed.
    Changed,
    /// `--statistics`, if it changed since the object's last line; that alone makes no line.
    StatisticsChanged,
    /// `--statistics`, in every line.
    StatisticsAlways,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    name: &'static str,
    value: String,
    when: When,
}

/// One object with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Object {
    kind: &'static str,
    key: String,
    fields: Vec<Field>,
}

fn field(name: &'static str, value: impl ToString, when: When) -> Field {
    Field { name, value: value.to_string(), when }
}

fn counted(counter: Counter) -> Field {
    field(counter.name, counter.value, When::StatisticsAlways)
}

/// The objects of a resource, in the order of the initial dump.
///
/// The connection of a resource comes when it gets addresses and goes with them. The original's initial dump shows it
/// without them too, but then without `conn-name:`, and drbdmon gives up at such a line.
fn objects(resource: &Resource) -> Vec<Object> {
    use When::{Changed, StatisticsChanged};
    let name = &resource.name;
    let mut objects = vec![Object {
        kind: "resource",
        key: format!("name:{name}"),
        fields: vec![
            field("role", resource.role(), Changed),
            field("suspended", suspended_word(resource.suspended()), Changed),
            field("write-ordering", write_ordering(resource), StatisticsChanged),
        ],
    }];
    let connection = &resource.connection;
    let connected = connection.addresses.is_some();
    if connected {
        objects.push(Object {
            kind: "connection",
            key: connection_key(name),
            fields: vec![
                field("connection", connection_name(connection.cstate), Changed),
                field("role", resource.peer_role(), Changed),
                field("congested", yes_no(connection.congested), StatisticsChanged),
            ],
        });
    }
    let volumes = resource.volumes_sorted();
    for volume in &volumes {
        let mut fields = vec![field("disk", volume.state.disk, Changed)];
        fields.extend(DeviceStatistics::of(volume).counters().map(counted));
        fields.push(field("al-suspended", yes_no(volume.al_suspended), StatisticsChanged));
        fields.push(field("blocked", blocked_word(volume), StatisticsChanged));
        let key = format!("name:{name} volume:{} minor:{}", volume.number, volume.minor);
        objects.push(Object { kind: "device", key, fields });
    }
    if connected {
        objects.extend(volumes.iter().map(|volume| peer_device(name, volume)));
    }
    objects
}

fn connection_key(resource: &str) -> String {
    format!("name:{resource} peer-node-id:0 conn-name:peer")
}

fn peer_device(resource: &str, volume: &Volume) -> Object {
    let mut fields = vec![
        field("replication", replication_name(volume.state.conn), When::Changed),
        field("peer-disk", volume.state.pdsk, When::Changed),
        field("resync-suspended", resync_suspended_word(volume), When::Changed),
    ];
    fields.extend(PeerStatistics::of(volume).counters().map(counted));
    let key = format!("{} volume:{}", connection_key(resource), volume.number);
    Object { kind: "peer-device", key, fields }
}

/// A whole object.
fn full(action: Action, object: &Object, statistics: bool) -> String {
    let mut line = format!("{} {} {}", action.word(), object.kind, object.key);
    if action != Action::Destroy {
        for field in &object.fields {
            if statistics || field.when == When::Changed {
                line += &format!(" {}:{}", field.name, field.value);
            }
        }
    }
    line
}

/// What changed of an object; `None`: nothing that is worth a line.
fn changed(told: &Object, new: &Object, statistics: bool) -> Option<String> {
    let mut line = format!("{} {} {}", Action::Change.word(), new.kind, new.key);
    let mut worth_it = false;
    for (before, after) in told.fields.iter().zip(&new.fields) {
        let differs = before.value != after.value;
        let printed = match after.when {
            When::Changed => differs,
            When::StatisticsChanged => statistics && differs,
            When::StatisticsAlways => statistics,
        };
        worth_it |= differs && after.when == When::Changed;
        if printed {
            line += &format!(" {}:{}", after.name, after.value);
        }
    }
    worth_it.then_some(line)
}

/// What a reader has been told.
#[derive(Debug)]
pub struct Told {
    statistics: bool,
    /// The last picture of each resource, and its objects as the lines have them.
    resources: BTreeMap<String, (Resource, Vec<Object>)>,
}

impl Told {
    /// Nothing yet.
    pub fn new(statistics: bool) -> Told {
        Told { statistics, resources: BTreeMap::new() }
    }

    /// The last picture of a resource.
    pub fn resource(&self, name: &str) -> Option<&Resource> {
        self.resources.get(name).map(|(resource, _)| resource)
    }

    /// The resources that there are.
    pub fn names(&self) -> Vec<String> {
        self.resources.keys().cloned().collect()
    }

    /// Lines of the initial dump of a resource. `exists -` follows the last one.
    pub fn existing(&mut self, resource: &Resource) -> Vec<String> {
        let objects = objects(resource);
        let lines = objects.iter().map(|object| full(Action::Exists, object, self.statistics)).collect();
        self.resources.insert(resource.name.clone(), (resource.clone(), objects));
        lines
    }

    /// Lines of a change of a resource, or of its creation.
    pub fn change(&mut self, resource: &Resource) -> Vec<String> {
        let (old, mut told) = match self.resources.remove(&resource.name) {
            Some((old, told)) => (Some(old), told),
            None => (None, Vec::new()),
        };
        let mut lines = Vec::new();
        if let Some(middle) = old.and_then(|old| between(&old, resource)) {
            lines.extend(self.difference(&mut told, objects(&middle)));
        }
        lines.extend(self.difference(&mut told, objects(resource)));
        self.resources.insert(resource.name.clone(), (resource.clone(), told));
        lines
    }

    /// Lines of a resource that went.
    pub fn gone(&mut self, name: &str) -> Vec<String> {
        let told = self.resources.remove(name).map(|(_, told)| told);
        self.difference(&mut told.unwrap_or_default(), Vec::new())
    }

    /// Lines that lead from what was told to what is.
    fn difference(&self, told: &mut Vec<Object>, new: Vec<Object>) -> Vec<String> {
        let same = |a: &Object, b: &Object| a.kind == b.kind && a.key == b.key;
        let mut lines = Vec::new();
        let old = std::mem::take(told);
        for object in new {
            let before = old.iter().find(|before| same(before, &object));
            let line = match before {
                None => Some(full(Action::Create, &object, self.statistics)),
                Some(before) => changed(before, &object, self.statistics),
            };
            match (line, before) {
                (None, Some(before)) => told.push(before.clone()),
                (line, _) => {
                    lines.extend(line);
                    told.push(object);
                }
            }
        }
        // What depends on something else goes first.
        for object in old.iter().rev() {
            if !told.iter().any(|after| same(after, object)) {
                lines.push(full(Action::Destroy, object, self.statistics));
            }
        }
        lines
    }
}

/// A connection comes and goes as StandAlone.
fn between(old: &Resource, new: &Resource) -> Option<Resource> {
    let (had, has) = (old.connection.addresses, new.connection.addresses);
    match (had, has) {
        (None, Some(_)) => {
            let mut middle = old.clone();
            middle.connection.addresses = has;
            Some(middle)
        }
        (Some(_), None) => {
            let mut middle = new.clone();
            middle.connection.addresses = had;
            Some(middle)
        }
        _ => None,
    }
}

/// A handler is called (`status` none) or has returned with an exit status.
pub fn helper(
    resource: &str,
    volume: Option<(u32, u16)>,
    has_peer: bool,
    name: &str,
    status: Option<u32>,
) -> String {
    let peer = if has_peer { " conn-name:peer" } else { "" };
    helper_with_key(&format!("name:{resource} peer-node-id:0{peer}"), volume, name, status)
}

/// As [`helper`], behind the key of a connection.
pub fn helper_with_key(
    connection_key: &str,
    volume: Option<(u32, u16)>,
    name: &str,
    status: Option<u32>,
) -> String {
    let volume = volume.map(|(minor, number)| format!(" volume:{number} minor:{minor}")).unwrap_or_default();
    let key = format!("{connection_key}{volume}");
    match status {
        None => format!("call helper {key} helper:{name}"),
        Some(status) => format!("response helper {key} helper:{name} status:{status}"),
    }
}
