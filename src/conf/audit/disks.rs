//! Checks of backing devices, meta data and minors.

use std::collections::HashMap;

use super::super::model::{HostSection, MetaDisk, Resource, Volume};
use super::super::number::{self, Unit};
use super::{Node, Report, Subject};

/// Largest minor and volume. spec/decisions.md 3.5.
const MINOR_MAX: u32 = 1_048_575;
const VOLUME_MAX: u32 = 65_535;

fn on(resource: &Resource, host: &HostSection) -> String {
    format!("in resource {}, on {}: ", resource.name, host.names(" "))
}

/// The meta data of a volume, if it is on a device of its own.
fn external(volume: &Volume) -> Option<&MetaDisk> {
    volume.meta.as_ref().filter(|meta| !meta.is_internal())
}

/// Every volume of every host, but stacked ones.
fn each<'a>(subject: &'a Subject) -> impl Iterator<Item = (&'a Resource, &'a HostSection, &'a Volume)> {
    subject.resources().flat_map(|r| subject.volumes(r).map(move |(h, v)| (r, h, v)))
}

impl Subject<'_> {
    /// Whether a host section is this machine's.
    fn is_here(&self, resource: &Resource, host: &HostSection) -> bool {
        resource.my_host().is_some_and(|me| std::ptr::eq(me, host))
    }

    /// A key that two paths to one device share: on this machine the device's number.
    fn identity(&self, here: bool, path: &str) -> String {
        match here.then(|| self.machine.node(path)) {
            Some(Node::Block(number)) => format!("device {number}"),
            Some(Node::File(system, number)) => format!("file {system} {number}"),
            _ => path.to_string(),
        }
    }
}

pub(super) fn numbers(subject: &Subject, report: &mut Report) {
    for resource in subject.resources() {
        for host in &resource.hosts {
            for volume in &host.volumes {
                let minor = volume.minor.filter(|minor| *minor > MINOR_MAX);
                if let Some(minor) = minor {
                    let text = format!("minor {minor} is above {MINOR_MAX}");
                    report.add(subject.host_place(resource, host), on(resource, host) + &text);
                }
                if volume.number > VOLUME_MAX {
                    let text = format!("volume {} is above {VOLUME_MAX}", volume.number);
                    report.add(subject.host_place(resource, host), on(resource, host) + &text);
                }
            }
        }
    }
}

pub(super) fn same_device(subject: &Subject, report: &mut Report) {
    for (resource, host, volume) in each(subject) {
        let (Some(disk), Some(meta)) = (&volume.disk, external(volume)) else {
            continue;
        };
        let here = subject.is_here(resource, host);
        if subject.identity(here, disk) == subject.identity(here, &meta.device) {
            let text = format!(
                "disk {disk} and meta-disk {} are the same device: the data would overwrite the meta data; write \
                 meta-disk internal;",
                meta.device
            );
            report.add(subject.host_place(resource, host), on(resource, host) + &text);
        }
    }
}

/// What is known of one device that holds meta data.
#[derive(Default)]
struct Areas<'a> {
    /// The first one with the whole device.
    flexible: Option<(&'a Resource, &'a MetaDisk)>,
    /// The first one with an index.
    indexed: Option<(&'a Resource, &'a MetaDisk)>,
    /// The first one of each index.
    by_index: HashMap<u64, (&'a Resource, &'a MetaDisk)>,
}

impl<'a> Areas<'a> {
    /// Adds an area: whose it overlaps, if it does, and how.
    fn add(&mut self, resource: &'a Resource, meta: &'a MetaDisk) -> Option<(&'a Resource, &'static str)> {
        // What the same text says twice, reading the file tells.
        let unsaid = |other: &MetaDisk| other.device != meta.device || other.index != meta.index;
        let flexible = meta.index == "flexible";
        let same = match flexible {
            true => *self.flexible.get_or_insert((resource, meta)),
            false => {
                let index = number::parse(&meta.index, Unit::One).unwrap_or(u64::MAX);
                self.indexed.get_or_insert((resource, meta));
                *self.by_index.entry(index).or_insert((resource, meta))
            }
        };
        if !std::ptr::eq(same.1, meta) && unsaid(same.1) {
            return Some((same.0, "is the same area as that"));
        }
        let other = if flexible { self.indexed } else { self.flexible };
        other.map(|(resource, _)| (resource, "with an index and a flexible one overlap: this one and that"))
    }
}

pub(super) fn overlap(subject: &Subject, report: &mut Report) {
    let mut disks: HashMap<(&str, String), &Resource> = HashMap::new();
    for (resource, host, volume) in each(subject) {
        let here = subject.is_here(resource, host);
        for name in &host.hosts {
            if let Some(disk) = &volume.disk {
                disks.insert((name, subject.identity(here, disk)), resource);
            }
        }
    }
    let mut areas: HashMap<(&str, String), Areas> = HashMap::new();
    for (resource, host, volume) in each(subject) {
        let Some(meta) = external(volume) else {
            continue;
        };
        let here = subject.is_here(resource, host);
        for name in &host.hosts {
            let key = (name.as_str(), subject.identity(here, &meta.device));
            let mut tell = |what: String| {
                let text = format!("meta-disk {} {what}", meta.device);
                report.add(subject.host_place(resource, host), on(resource, host) + &text);
            };
            if let Some(other) = disks.get(&key).filter(|r| r.name != resource.name) {
                tell(format!("is the disk of resource {}", other.name));
            }
            if let Some((other, how)) = areas.entry(key).or_default().add(resource, meta) {
                tell(format!("{how} of resource {}", other.name));
            }
        }
    }
}

pub(super) fn twice(subject: &Subject, report: &mut Report) {
    let mut seen: HashMap<(String, String), (&Resource, &str)> = HashMap::new();
    for (resource, host, volume) in each(subject) {
        let Some(disk) = &volume.disk else {
            continue;
        };
        let here = subject.is_here(resource, host);
        for name in &host.hosts {
            let key = (name.clone(), subject.identity(here, disk));
            if let Some((other, path)) = seen.insert(key, (resource, disk)) {
                let text = format!("disk {disk} is the disk {path} of resource {} too", other.name);
                report.add(subject.host_place(resource, host), on(resource, host) + &text);
            }
        }
    }
}

pub(super) fn device_name(subject: &Subject, report: &mut Report) {
    for resource in subject.resources() {
        for host in &resource.hosts {
            for volume in &host.volumes {
                let number = volume.device.as_deref().and_then(minor_of);
                if let (Some(number), Some(minor)) = (number, volume.minor.filter(|m| Some(*m) != number)) {
                    let text = format!("device /dev/drbd{number} has minor {minor}");
                    report.add(subject.host_place(resource, host), on(resource, host) + &text);
                }
            }
        }
    }
}

/// The number in `/dev/drbdN`.
fn minor_of(path: &str) -> Option<u32> {
    path.strip_prefix("/dev/drbd")?.parse().ok()
}

pub(super) fn drbd_disk(subject: &Subject, report: &mut Report) {
    for (resource, host, volume) in each(subject) {
        let disk = volume.disk.as_deref().unwrap_or("");
        if minor_of(disk).is_some() || disk.starts_with("/dev/drbd_") || disk.starts_with("/dev/drbd/") {
            let text = format!(
                "{disk} is a device of DRBD; for a third copy write stacked-on-top-of RESOURCE {{ }}"
            );
            report.add(subject.host_place(resource, host), on(resource, host) + &text);
        }
    }
}

/// The devices of this host's volumes: what each is, and its path.
fn of_this_host<'a>(
    subject: &'a Subject,
) -> impl Iterator<Item = (&'a Resource, &'a HostSection, &'static str, &'a str)> {
    each(subject).filter(|(r, h, _)| subject.is_here(r, h)).flat_map(|(r, h, v)| {
        let disk = v.disk.as_deref().map(|path| (r, h, "disk", path));
        let meta = external(v).map(|meta| (r, h, "meta-disk", meta.device.as_str()));
        disk.into_iter().chain(meta)
    })
}

pub(super) fn missing(subject: &Subject, report: &mut Report) {
    for (resource, host, word, path) in of_this_host(subject) {
        let text = match subject.machine.node(path) {
            Node::Missing => "does not exist on this host",
            Node::Other => "is neither a block device nor a regular file",
            Node::Block(_) | Node::File(..) => continue,
        };
        let text = format!("{word} {path} {text}");
        report.add(subject.host_place(resource, host), on(resource, host) + &text);
    }
}

pub(super) fn in_use(subject: &Subject, report: &mut Report) {
    for (resource, host, word, path) in of_this_host(subject) {
        if let Some(user) = subject.machine.use_of(path) {
            let text =
                format!("{word} {path} is {user}: it cannot be attached, and what is on it would be changed");
            report.add(subject.host_place(resource, host), on(resource, host) + &text);
        }
    }
}
