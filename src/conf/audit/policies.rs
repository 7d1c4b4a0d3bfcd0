//! Checks of options that must fit together.

use std::collections::{HashMap, HashSet};

use super::super::model::{Resource, Setting};
use super::super::number::{self, Unit};
use super::super::options::Section::{Disk, Handlers, Net};
use super::super::Dialect;
use super::{flag, last, value, Report, Subject};

/// Policies that decide a split brain without asking which data are wanted.
const LOSSY: &[(&str, &[&str])] = &[
    (
        "after-sb-0pri",
        &[
            "discard-younger-primary",
            "discard-older-primary",
            "discard-least-changes",
            "discard-local",
            "discard-remote",
        ],
    ),
    ("after-sb-1pri", &["violently-as0p", "discard-secondary"]),
    ("after-sb-2pri", &["violently-as0p"]),
    ("rr-conflict", &["violently"]),
];

/// Values of options that call a handler: option, value, handler.
const CALLING: &[(&str, &str, &str)] = &[
    ("on-io-error", "call-local-io-error", "local-io-error"),
    ("after-sb-1pri", "call-pri-lost-after-sb", "pri-lost-after-sb"),
    ("after-sb-2pri", "call-pri-lost-after-sb", "pri-lost-after-sb"),
    ("rr-conflict", "call-pri-lost", "pri-lost"),
];

/// Most names of a circle that are shown.
const SHOWN_MAX: usize = 20;

fn name(resource: &Resource) -> String {
    format!("in resource {}: ", resource.name)
}

/// Every list of disk options of a resource.
fn disk_lists(resource: &Resource) -> impl Iterator<Item = &Vec<Setting>> {
    let of_volumes = resource.hosts.iter().flat_map(|h| &h.volumes).map(|v| &v.options);
    of_volumes.chain(std::iter::once(&resource.settings))
}

pub(super) fn two_primaries_protocol(subject: &Subject, report: &mut Report) {
    for resource in subject.resources().filter(|r| flag(r, Net, "allow-two-primaries")) {
        let protocol = subject.protocol(resource);
        if matches!(protocol.as_str(), "A" | "B") {
            let place = subject.option_place(resource, Net, "allow-two-primaries");
            let text = format!("allow-two-primaries needs protocol C, not {protocol}; drbdsetup refuses it");
            report.add(place, name(resource) + &text);
        }
    }
}

pub(super) fn stonith_protocol(subject: &Subject, report: &mut Report) {
    for resource in subject.resources().filter(|r| subject.protocol(r) == "A") {
        if let Some(fencing) = subject.fencing(resource).filter(|s| s.value == "resource-and-stonith") {
            let text = "fencing resource-and-stonith needs protocol B or C, not A; drbdsetup refuses it";
            report.add(subject.setting_place(resource, fencing), name(resource) + text);
        }
    }
}

pub(super) fn congestion_protocol(subject: &Subject, report: &mut Report) {
    for resource in subject.resources() {
        let policy = value(&resource.settings, Net, "on-congestion");
        let protocol = subject.protocol(resource);
        if !matches!(policy, "" | "block") && matches!(protocol.as_str(), "B" | "C") {
            let place = subject.option_place(resource, Net, "on-congestion");
            let text =
                format!("on-congestion {policy} needs protocol A, not {protocol}; drbdsetup refuses it");
            report.add(place, name(resource) + &text);
        }
    }
}

pub(super) fn after_cycle(subject: &Subject, report: &mut Report) {
    let mut waits: HashMap<&str, (&Resource, &Setting, &str)> = HashMap::new();
    for resource in subject.resources() {
        for list in disk_lists(resource) {
            if let Some(after) = last(list, Disk, "resync-after") {
                let target = match subject.dialect() {
                    Dialect::V83 => after.value.as_str(),
                    Dialect::V84 => after.value.split('/').next().unwrap_or(""),
                };
                // A volume may wait for another one of its resource.
                let itself = target == resource.name && after.value.contains('/');
                if !itself {
                    waits.insert(&resource.name, (resource, after, target));
                }
            }
        }
    }
    // Everyone waits for one other at most: each walk ends at its end, at one that was seen, or in a circle.
    let mut seen: HashSet<&str> = HashSet::new();
    for start in subject.resources().map(|r| r.name.as_str()) {
        let mut walk: Vec<&str> = Vec::new();
        let mut at = start;
        while seen.insert(at) {
            walk.push(at);
            match waits.get(at) {
                Some((_, _, next)) => at = next,
                None => break,
            }
        }
        let circle = walk.iter().position(|name| *name == at).filter(|_| waits.contains_key(at));
        if let (Some(first), Some((resource, setting, _))) = (circle, waits.get(at)) {
            let mut names = walk.split_off(first);
            names.truncate(SHOWN_MAX);
            names.push(at);
            let text = format!("they wait for each other: {}", names.join(" after "));
            report.add(subject.setting_place(resource, setting), name(resource) + &text);
        }
    }
}

pub(super) fn protocol_a_fencing(subject: &Subject, report: &mut Report) {
    for resource in subject.resources().filter(|r| subject.protocol(r) == "A") {
        if let Some(fencing) = subject.fencing(resource) {
            let text = format!(
                "fencing {} with protocol A: writes that the lost Primary had acknowledged may be missing on the \
                 peer that takes over; use protocol C",
                fencing.value
            );
            report.add(subject.setting_place(resource, fencing), name(resource) + &text);
        }
    }
}

pub(super) fn two_primaries_fencing(subject: &Subject, report: &mut Report) {
    for resource in subject.resources().filter(|r| flag(r, Net, "allow-two-primaries")) {
        if subject.fencing(resource).is_none() {
            let place = subject.option_place(resource, Net, "allow-two-primaries");
            let text = "allow-two-primaries without fencing: if the connection is lost both nodes go on writing, and \
                        one node's data are lost; use fencing resource-and-stonith";
            report.add(place, name(resource) + text);
        }
    }
}

pub(super) fn fencing_handler(subject: &Subject, report: &mut Report) {
    for resource in subject.resources().filter(|r| !subject.handler(r, "fence-peer")) {
        if let Some(fencing) = subject.fencing(resource) {
            let effect = match fencing.value.as_str() {
                "resource-and-stonith" => "I/O stays frozen when the peer is lost",
                _ => "a lost peer is not outdated",
            };
            let text = format!("fencing {} without a handler fence-peer: {effect}", fencing.value);
            report.add(subject.setting_place(resource, fencing), name(resource) + &text);
        }
    }
}

pub(super) fn handler_in_vain(subject: &Subject, report: &mut Report) {
    for resource in subject.resources().filter(|r| subject.fencing(r).is_none()) {
        if let Some(handler) = last(&resource.settings, Handlers, "fence-peer") {
            let text = "the handler fence-peer is never called: fencing is dont-care";
            report.add(subject.setting_place(resource, handler), name(resource) + text);
        }
    }
}

pub(super) fn policy_handler(subject: &Subject, report: &mut Report) {
    for resource in subject.resources() {
        for (option, calling, handler) in CALLING.iter().filter(|(_, _, h)| !subject.handler(resource, h)) {
            for setting in disk_lists(resource).flatten() {
                if setting.row.name == *option && setting.value == *calling {
                    let text = format!("{option} {calling}: there is no handler {handler}");
                    report.add(subject.setting_place(resource, setting), name(resource) + &text);
                }
            }
        }
    }
}

pub(super) fn automatic_loss(subject: &Subject, report: &mut Report) {
    for resource in subject.resources() {
        for (option, lossy) in LOSSY {
            let Some(setting) = last(&resource.settings, Net, option) else {
                continue;
            };
            if lossy.contains(&setting.value.as_str()) || setting.value.starts_with("discard-node-") {
                let text =
                    format!("{option} {} throws away one node's changes without asking", setting.value);
                report.add(subject.setting_place(resource, setting), name(resource) + &text);
            }
        }
    }
}

pub(super) fn proxy_protocol(subject: &Subject, report: &mut Report) {
    for resource in subject.resources().filter(|r| r.hosts.iter().any(|h| h.proxy.is_some())) {
        let protocol = subject.protocol(resource);
        if matches!(protocol.as_str(), "B" | "C") {
            let place = subject.option_place(resource, Net, "protocol");
            let text = format!("protocol {protocol} waits for the far host behind the proxy; use protocol A");
            report.add(place, name(resource) + &text);
        }
    }
}

pub(super) fn volatile_writes(subject: &Subject, report: &mut Report) {
    for resource in subject.resources() {
        for setting in disk_lists(resource).flatten() {
            let flushes = matches!(setting.row.name, "disk-flushes" | "md-flushes" | "disk-drain");
            if setting.section == Disk && flushes && setting.value == "no" {
                let text = format!(
                    "{} is off: after a power failure the disks may differ unless their write cache survives it",
                    setting.row.name
                );
                report.add(subject.setting_place(resource, setting), name(resource) + &text);
            }
        }
    }
}

pub(super) fn full_resync(subject: &Subject, report: &mut Report) {
    for resource in subject.resources() {
        for setting in disk_lists(resource).flatten() {
            if setting.row.name == "al-updates" && setting.value == "no" {
                let text = "al-updates no: after a crash of a Primary the whole device is copied";
                report.add(subject.setting_place(resource, setting), name(resource) + text);
            }
        }
    }
}

pub(super) fn slow_resync(subject: &Subject, report: &mut Report) {
    // 8.4's controller is on by default.
    let defaults_are_slow = subject.dialect() == Dialect::V83;
    for resource in subject.resources().filter(|_| defaults_are_slow) {
        let controlled = disk_lists(resource).any(|list| {
            last(list, Disk, "resync-rate").is_some()
                || last(list, Disk, "c-plan-ahead")
                    .is_some_and(|s| number::parse(&s.value, Unit::One) != Ok(0))
        });
        if !controlled && resource.hosts.len() > 1 {
            let text = "no resync rate: 250 KiB/s are used; write syncer { rate ...; }";
            report.add(subject.place(resource), name(resource) + text);
        }
    }
}
