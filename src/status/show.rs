//! `show`: the running configuration in the form of drbd.conf. spec/drbdsetup.md 5.5 and 6.4.

use super::snapshot::{Backing, Resource, Snapshot, Volume};
use crate::conf::options::{self, in_section, Kind, OptionRow, Scope, Section};
use crate::conf::value::Value;
use crate::conf::Dialect;
use std::fmt::Write;

/// Appends what a `String` cannot refuse.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {
        let _ = write!($out, $($arg)*);
    };
}

/// The value of an option in a running resource. `None`: no setting of one.
fn value(resource: &Resource, volume: Option<&Volume>, row: &OptionRow) -> Option<Value> {
    match row.section {
        Section::Options => resource.settings.get(row.name),
        Section::Net => resource.connection.net.get(row.name),
        Section::Disk => volume?.disk_settings.get(row.name),
        _ => None,
    }
}

/// `show` of one minor as 8.3 prints it. spec/drbdsetup.md 5.5.
pub fn show_83(resource: &Resource, volume: &Volume) -> String {
    let mut out = String::new();
    let disk = volume.backing.as_ref();
    let net = resource.connection.addresses;
    if disk.is_some() {
        section_83(&mut out, Section::Disk, resource, volume);
    }
    if net.is_some() {
        section_83(&mut out, Section::Net, resource, volume);
    }
    section_83(&mut out, Section::Syncer, resource, volume);
    if net.is_some() {
        let protocol = options::find("protocol").and_then(|row| {
            let value = resource.connection.net.get(row.name)?;
            Some(row.format(&value))
        });
        put!(out, "protocol {};\n", protocol.unwrap_or_default());
    }
    if disk.is_some() || net.is_some() {
        put!(out, "_this_host {{\n\tdevice\t\t\tminor {};\n", volume.minor);
        if let Some(backing) = disk {
            put!(out, "\tdisk\t\t\t\"{}\";\n", backing.lower_device);
            meta_disk_83(&mut out, backing);
        }
        if let Some(pair) = net {
            put!(out, "\taddress\t\t\t{};\n", pair.local);
        }
        out.push_str("}\n");
    }
    if let Some(pair) = net {
        put!(out, "_remote_host {{\n\taddress\t\t\t{};\n}}\n", pair.peer);
    }
    out
}

fn meta_disk_83(out: &mut String, backing: &Backing) {
    let device = &backing.meta_device;
    match backing.meta_index {
        -2 => {
            put!(out, "\tflexible-meta-disk\t\"{device}\";\n");
        }
        index @ 0.. => {
            put!(out, "\tmeta-disk\t\t\"{device}\" [ {index} ];\n");
        }
        _ => out.push_str("\tmeta-disk\t\tinternal;\n"),
    }
}

/// One section of 8.3: its own options, then those of 8.4 that 8.3 has not, where they differ
/// from the default (spec/decisions.md 3.3).
fn section_83(out: &mut String, section: Section, resource: &Resource, volume: &Volume) {
    let mut lines = String::new();
    let old = in_section(Dialect::V83, section).into_iter();
    let new = options::all()
        .iter()
        .filter(|row| row.old.is_none() && row.scope == Scope::Any && row.name != "protocol")
        .filter(|row| row.section_in(Dialect::V83) == section);
    for row in old.chain(new) {
        if let Some(value) = value(resource, Some(volume), row) {
            line_83(&mut lines, row, &value);
        }
    }
    if !lines.is_empty() {
        put!(out, "{} {{\n{lines}}}\n", section.word());
    }
}

fn line_83(out: &mut String, row: &OptionRow, value: &Value) {
    let name = row.name_in(Dialect::V83);
    let is_default = *value == row.default_value(Dialect::V83);
    let mark = if is_default { " _is_default" } else { "" };
    match value {
        Value::Flag(_) if is_default => {}
        Value::Flag(_) if row.old.is_some() => {
            put!(out, "\t{name:16};\n");
        }
        Value::Text(text) => {
            if !text.is_empty() {
                // The original prints the value as it is, and its adjust cannot read back a secret with a quotation mark.
                let text = text.replace('\\', "\\\\").replace('"', "\\\"");
                put!(out, "\t{name:16}\t\"{text}\";\n");
            }
        }
        _ if is_default && row.old.is_none() => {}
        _ => {
            put!(out, "\t{name:16}\t{}{mark};", row.format(value));
            let unit = row.unit_text(Dialect::V83);
            if !unit.is_empty() {
                put!(out, " # {unit}");
            }
            out.push('\n');
        }
    }
}

/// `show` of 8.4: these resources, with all their volumes or only one of them; an empty line
/// between two. spec/drbdsetup.md 6.4.
pub fn show_84(
    snapshot: &Snapshot,
    chosen: impl Fn(&Resource) -> bool,
    only_minor: Option<u32>,
    defaults_too: bool,
) -> String {
    let mut resources: Vec<_> = snapshot.resources.iter().filter(|r| chosen(r)).collect();
    resources.sort_by(|a, b| a.name.cmp(&b.name));
    let texts: Vec<String> =
        resources.iter().map(|resource| resource_84(resource, only_minor, defaults_too)).collect();
    texts.join("\n")
}

fn resource_84(resource: &Resource, only_minor: Option<u32>, defaults_too: bool) -> String {
    let mut out = format!("resource {} {{\n", resource.name);
    let mut volumes = resource.volumes_sorted();
    if !volumes.is_empty() {
        section_84(&mut out, 4, Section::Options, resource, None, defaults_too);
    }
    volumes.retain(|v| only_minor.is_none_or(|minor| v.minor == minor));
    let addresses = resource.connection.addresses;
    if let Some(pair) = addresses {
        section_84(&mut out, 4, Section::Net, resource, None, defaults_too);
        put!(out, "    _remote_host {{\n        address\t\t\t{};\n    }}\n", pair.peer);
    }
    out.push_str("    _this_host {\n");
    if let Some(pair) = addresses {
        put!(out, "        address\t\t\t{};\n", pair.local);
    }
    for volume in volumes {
        volume_84(&mut out, resource, volume, defaults_too);
    }
    out.push_str("    }\n}\n");
    out
}

fn volume_84(out: &mut String, resource: &Resource, volume: &Volume, defaults_too: bool) {
    put!(out, "        volume {} {{\n            device\t\t\tminor {};\n", volume.number, volume.minor);
    if let Some(backing) = &volume.backing {
        let device = &backing.meta_device;
        let meta_disk = match backing.meta_index {
            -2 => format!("\"{device}\""),
            index @ 0.. => format!("\"{device}\" [ {index} ]"),
            _ => "internal".to_string(),
        };
        put!(
            out,
            "            disk\t\t\t\"{}\";\n            meta-disk\t\t\t{meta_disk};\n",
            backing.lower_device
        );
        section_84(out, 12, Section::Disk, resource, Some(volume), defaults_too);
    }
    out.push_str("        }\n");
}

fn section_84(
    out: &mut String,
    indent: usize,
    section: Section,
    resource: &Resource,
    volume: Option<&Volume>,
    defaults_too: bool,
) {
    put!(out, "{:indent$}{} {{\n", "", section.word());
    for row in in_section(Dialect::V84, section) {
        if row.scope == Scope::OneShot {
            continue;
        }
        let Some(value) = value(resource, volume, row) else {
            continue;
        };
        let is_default = value == row.default_value(Dialect::V84);
        if is_default && !defaults_too {
            continue;
        }
        let text = match (&value, row.kind) {
            (Value::Text(text), Kind::Text(_)) => quoted(text),
            _ => row.format(&value),
        };
        put!(out, "{:indent$}    {:16}\t{text};", "", row.name);
        let unit = row.unit_text(Dialect::V84);
        match (unit.is_empty(), is_default) {
            (true, true) => out.push_str(" # default"),
            (true, false) => {}
            (false, true) => {
                put!(out, " # {unit}, default");
            }
            (false, false) => {
                put!(out, " # {unit}");
            }
        }
        out.push('\n');
    }
    put!(out, "{:indent$}}}\n", "");
}

/// In double quotes, with `"` and `\` escaped.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_with_quotation_marks_can_be_read_back() {
        let row = options::find("shared-secret").unwrap();
        let mut out = String::new();
        line_83(&mut out, row, &Value::Text(r#"a "b\c"; }"#.into()));
        assert_eq!(out, "\tshared-secret   \t\"a \\\"b\\\\c\\\"; }\";\n");
    }
}
