//! Checks about this machine and about the configuration as a whole.

use super::super::check::Choice;
use super::super::options::Section::Handlers;
use super::super::validate;
use super::{Report, Subject};

/// What drbdadm says of the configuration before it runs a command on a resource.
pub(super) fn refused(subject: &Subject, report: &mut Report) {
    told(report, &subject.messages);
    let choice = Choice { no_terminal: true, ..Choice::default() };
    let mut config = subject.full.clone();
    let mut messages = String::new();
    validate::validate_all(&mut config, subject.this, &choice, &mut messages);
    told(report, &messages);
    let mut messages = String::new();
    let _ = validate::convert_names(&mut config, subject.this, &mut messages);
    told(report, &messages);
}

/// Messages of drbdadm as findings: `PLACE: TEXT`, and lines that belong to it.
fn told(report: &mut Report, messages: &str) {
    let mut lines = messages.lines().peekable();
    while let Some(first) = lines.next() {
        let (place, text) = split_place(first);
        let mut text = text.to_string();
        // The second line of a conflict has a place of its own.
        let belongs = |line: &&str| split_place(line).0.is_empty() || line.ends_with("first used here.");
        while let Some(more) = lines.next_if(belongs) {
            text.push(' ');
            text.push_str(more.trim_start());
        }
        report.add(place.to_string(), text);
    }
}

/// `FILE:LINE` in front of a message, and the rest.
fn split_place(line: &str) -> (&str, &str) {
    let mut from = 0;
    while let Some(colon) = line[from..].find(':').map(|at| from + at) {
        let digits = line[colon + 1..].bytes().take_while(u8::is_ascii_digit).count();
        let end = colon + 1 + digits;
        if digits > 0 && !line.starts_with('\t') && line[end..].starts_with(':') {
            return (&line[..end], line[end + 1..].trim_start());
        }
        from = colon + 1;
    }
    ("", line)
}

/// The first word of a handler's command, if it is a path.
fn program(command: &str) -> Option<&str> {
    let word = command.split_whitespace().next()?.trim_end_matches(';');
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
    (word.starts_with('/') && word.chars().all(plain)).then_some(word)
}

pub(super) fn handler_program(subject: &Subject, report: &mut Report) {
    for resource in subject.raw.common.iter().chain(&subject.raw.resources) {
        for setting in resource.settings.iter().filter(|s| s.section == Handlers) {
            if let Some(program) = program(&setting.value).filter(|path| !subject.machine.is_executable(path))
            {
                let place = format!("{}:{}", resource.file.display, setting.line);
                report.add(
                    place,
                    format!("handler {}: {program} is not there or not executable", setting.row.name),
                );
            }
        }
    }
}

pub(super) fn one_host(subject: &Subject, report: &mut Report) {
    for resource in subject.resources().filter(|r| r.hosts.len() < 2) {
        let text = match resource.hosts.len() {
            0 => "no host: nothing can be configured",
            _ => "one host only: there is no peer to connect to",
        };
        report.add(subject.place(resource), format!("in resource {}: {text}", resource.name));
    }
}

pub(super) fn many_hosts(subject: &Subject, report: &mut Report) {
    for resource in subject.resources().filter(|r| r.hosts.len() > 2 && r.me.is_some()) {
        let text = format!(
            "in resource {}: {} host sections, and a resource has one peer: commands need --peer NAME",
            resource.name,
            resource.hosts.len()
        );
        report.add(subject.place(resource), text);
    }
}

pub(super) fn not_here(subject: &Subject, report: &mut Report) {
    let here = subject.resources().any(|r| !r.ignored);
    let place = subject.full.file.display.clone();
    if subject.full.resources.is_empty() {
        report.add(place, "no resource is defined");
    } else if !here {
        let text = format!(
            "no resource has an `on` section for this host ({}); the names must be what `uname -n` prints",
            subject.this.name
        );
        report.add(place, text);
    }
}

pub(super) fn almost(subject: &Subject, report: &mut Report) {
    let this = subject.this.name.as_str();
    let short = |name: &str| name.split('.').next().unwrap_or("").to_ascii_lowercase();
    for resource in subject.resources().filter(|r| r.ignored) {
        for host in &resource.hosts {
            for name in host.hosts.iter().filter(|name| short(name) == short(this) && !this.is_empty()) {
                let text = format!(
                    "in resource {}: 'on {name}' is not this host, whose name is '{this}': names are compared letter \
                     by letter",
                    resource.name
                );
                report.add(subject.host_place(resource, host), text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_front_of_messages() {
        assert_eq!(split_place("a.conf:12: in resource r0:"), ("a.conf:12", "in resource r0:"));
        assert_eq!(split_place("/a:b/c:7: x"), ("/a:b/c:7", "x"));
        assert_eq!(split_place("\tprotocol definition missing."), ("", "\tprotocol definition missing."));
        assert_eq!(split_place("no place: 7 of it"), ("", "no place: 7 of it"));
    }

    #[test]
    fn programs_of_commands() {
        assert_eq!(program("/usr/lib/x.sh a; b"), Some("/usr/lib/x.sh"));
        assert_eq!(program("/sbin/x;reboot -f"), None);
        assert_eq!(program("echo o > /proc/sysrq-trigger ; halt -f"), None);
        assert_eq!(program("$HOME/x"), None);
    }
}
