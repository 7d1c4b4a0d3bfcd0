//! The table: one line a super block.

use super::report::{DeviceReport, MetaReport};
use drbdbox::core::log_lines::pretty_kib;

/// Headings.
const COLUMNS: [&str; 10] =
    ["device", "meta data", "size", "role", "disk", "log", "out of sync", "current UUID", "data at", "next"];

/// The table without a last newline; empty if nothing was found.
pub fn of(reports: &[DeviceReport]) -> String {
    let rows: Vec<[String; 10]> = reports
        .iter()
        .flat_map(|report| report.meta_data.iter().map(move |found| row(report, found)))
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let width = |i: usize| rows.iter().map(|row| row[i].len()).chain([COLUMNS[i].len()]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        padded.join("  ").trim_end().to_string()
    };
    let mut lines = vec![line(COLUMNS.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

fn row(report: &DeviceReport, found: &MetaReport) -> [String; 10] {
    let size = match found.fields.last_agreed_sectors {
        0 => "never attached".to_string(),
        sectors => pretty_kib(sectors / 2),
    };
    let mut place = format!("{} {}", found.format, found.fields.index);
    if found.former_device_bytes.is_some() {
        place += ", old end";
    }
    if !found.damage.is_empty() {
        place += ", damaged";
    }
    let next = found.next.split_once(": ").map_or(found.next.as_str(), |(word, _)| word);
    [
        report.device.clone(),
        place,
        size,
        found.fields.role.to_string(),
        found.fields.disk.to_string(),
        if found.fields.is_clean { "clean" } else { "unclean" }.to_string(),
        out_of_sync(found),
        found.fields.current_uuid.clone(),
        found.data.as_ref().map_or("elsewhere".to_string(), |data| format!("byte {}", data.starts_at)),
        next.to_string(),
    ]
}

/// `all`, `12 MB`, or `12 MB + 8192 KB` with what the activity log may add.
fn out_of_sync(found: &MetaReport) -> String {
    match &found.out_of_sync {
        None => "not known".to_string(),
        Some(out) if out.everything => "all".to_string(),
        Some(out) => {
            let mut text = pretty_kib(out.bytes / 1024);
            if out.activity_log_bytes > 0 {
                text += &format!(" + {}", pretty_kib(out.activity_log_bytes / 1024));
            }
            text
        }
    }
}
