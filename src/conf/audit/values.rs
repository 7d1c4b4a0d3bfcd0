//! Checks of single options.

use super::super::model::{Resource, Setting};
use super::super::number::{self, Unit};
use super::super::options::{Kind, Scope, Section};
use super::super::value::ValueError;
use super::super::{explain, Dialect};
use super::{last, Report, Subject};

/// What the log of 32 KiB in 8.3's format holds. spec/decisions.md 3.5.
const AL_EXTENTS_ON_DISK: u64 = 3833;
/// Hexadecimal digits of a cpu-mask, and a comma every eight.
const MASK_CHARACTERS: &str = "0123456789abcdefABCDEF,";

/// Every option that stands in the files: `FILE:LINE`, the resource (none: common), and the option.
fn all(subject: &Subject) -> Vec<(String, Option<String>, Setting)> {
    let mut found = Vec::new();
    let resources = subject.raw.resources.iter().map(|r| (r, Some(r.name.clone())));
    for (resource, name) in subject.raw.common.iter().map(|c| (c, None)).chain(resources) {
        for setting in lists(resource).into_iter().flatten() {
            let place = format!("{}:{}", resource.file.display, setting.line);
            found.push((place, name.clone(), setting.clone()));
        }
    }
    found
}

/// The option lists of a resource: each is what one section holds, or some sections of different names.
fn lists(resource: &Resource) -> Vec<&Vec<Setting>> {
    let mut lists = vec![&resource.settings];
    lists.extend(resource.volumes.iter().map(|v| &v.options));
    for host in &resource.hosts {
        lists.push(&host.options);
        lists.extend(host.volumes.iter().map(|v| &v.options));
        lists.extend(host.proxy.iter().map(|p| &p.options));
    }
    lists
}

fn of(resource: &Option<String>) -> String {
    match resource {
        Some(name) => format!("in resource {name}: "),
        None => "in common: ".to_string(),
    }
}

pub(super) fn refused(subject: &Subject, report: &mut Report) {
    let dialect = subject.dialect();
    for (place, resource, setting) in all(subject) {
        let row = setting.row;
        let for_drbdsetup = !matches!(setting.section, Section::Proxy | Section::Handlers);
        // A name, until drbdadm has looked it up; what drbdadm checks has been told.
        let is_name = row.name == "resync-after" || setting.value.starts_with("discard-node-");
        let told = matches!(row.kind, Kind::Number(_)) && row.checked
            || row.name == "protocol" && dialect == Dialect::V84;
        if !for_drbdsetup || is_name || told {
            continue;
        }
        let Err(problem) = row.parse(&setting.value, dialect) else {
            continue;
        };
        let text = match problem {
            ValueError::Word { name, text, known } => {
                let words: Vec<&'static str> = known.iter().map(|w| w.text).collect();
                let meant = explain::meant(&text, &words);
                let blank = if meant.is_empty() { "" } else { " " };
                format!("{name}: '{text}' is not known; {meant}{blank}known: {}", words.join(", "))
            }
            other => other.to_string(),
        };
        report.add(place, of(&resource) + &text);
    }
}

pub(super) fn digests(subject: &Subject, report: &mut Report) {
    for (place, resource, setting) in all(subject) {
        let is_digest = setting.row.name.ends_with("-alg") && matches!(setting.row.kind, Kind::Text(_));
        let name = setting.value.as_str();
        let option = setting.row.name;
        let fits = |name: &str| match option {
            "cram-hmac-alg" => subject.machine.authenticates(name),
            _ => subject.machine.knows_digest(name),
        };
        if !is_digest || name.is_empty() || fits(name) {
            continue;
        }
        let known: Vec<&str> = subject.machine.digests().into_iter().filter(|name| fits(name)).collect();
        let known = known.join(", ");
        report.add(place, format!("{}{option}: '{name}' is not known; known: {known}", of(&resource)));
    }
}

pub(super) fn cpu_masks(subject: &Subject, report: &mut Report) {
    for (place, resource, setting) in all(subject) {
        let fits = setting.value.chars().all(|c| MASK_CHARACTERS.contains(c));
        if setting.row.name == "cpu-mask" && !fits {
            let text = format!("{}cpu-mask: '{}' is not hexadecimal", of(&resource), setting.value);
            report.add(place, text);
        }
    }
}

pub(super) fn al_extents(subject: &Subject, report: &mut Report) {
    for (place, resource, setting) in all(subject) {
        let number = number::parse(&setting.value, Unit::One).unwrap_or(0);
        if setting.row.name == "al-extents" && number > AL_EXTENTS_ON_DISK {
            let text = format!(
                "{}al-extents {number}: a log of 32 KiB in 8.3's format holds {AL_EXTENTS_ON_DISK}; \
                 only so many are used there",
                of(&resource)
            );
            report.add(place, text);
        }
    }
}

pub(super) fn twice(subject: &Subject, report: &mut Report) {
    let owners = subject.raw.common.iter().chain(&subject.raw.resources);
    for resource in owners {
        let name = (!resource.name.is_empty()).then(|| resource.name.clone());
        for list in lists(resource) {
            for (i, setting) in list.iter().enumerate() {
                let before = last(&list[..i], setting.section, setting.row.name);
                // 8.3 reads several `after`.
                if let Some(before) = before.filter(|_| setting.row.name != "resync-after") {
                    let place = format!("{}:{}", resource.file.display, setting.line);
                    let text = format!(
                        "{}'{}' stands in line {} already; this one holds",
                        of(&name),
                        setting.row.name_in(subject.dialect()),
                        before.line
                    );
                    report.add(place, text);
                }
            }
        }
    }
}

pub(super) fn in_vain(subject: &Subject, report: &mut Report) {
    for (place, resource, setting) in all(subject) {
        if setting.row.scope == Scope::Historic {
            report.add(place, format!("{}'{}' has no effect", of(&resource), setting.row.name));
        }
    }
    for resource in &subject.raw.resources {
        for host in resource.hosts.iter().filter(|h| !h.options.is_empty()) {
            let place = subject.host_place(resource, host);
            let text = "options { } of a host section is read and not used; write it into the resource";
            report.add(place, format!("in resource {}: {text}", resource.name));
        }
    }
    // The controller's options without the controller.
    for resource in subject.resources().filter(|_| subject.dialect() == Dialect::V83) {
        let lists = resource.hosts.iter().flat_map(|h| &h.volumes).map(|v| &v.options);
        for list in lists.chain(std::iter::once(&resource.settings)) {
            let planned = last(list, Section::Disk, "c-plan-ahead");
            let planned = planned.or_else(|| last(&resource.settings, Section::Disk, "c-plan-ahead"));
            let off = planned.is_none_or(|s| number::parse(&s.value, Unit::One) == Ok(0));
            // c-min-rate is about the application, not about the controller.
            let of_controller = ["c-delay-target", "c-fill-target", "c-max-rate"];
            for setting in list.iter().filter(|s| off && of_controller.contains(&s.row.name)) {
                let text = format!(
                    "in resource {}: '{}' has no effect without c-plan-ahead (8.3: 0 by default)",
                    resource.name, setting.row.name
                );
                report.add(subject.setting_place(resource, setting), text);
            }
        }
    }
}
