//! The table of `drbd-overview`: one line a device, made from the text of /proc/drbd.
//! spec/system.md 4.1.

use super::colors::{connection_color, painted, replication_color, Palette, LOCAL, PEER};
use crate::conf::Dialect;
use crate::core::state::{Conn, Disk, Role};
use std::collections::BTreeMap;

/// What is known about a minor beside its line in /proc/drbd.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Name of the resource; empty: not known.
    pub name: String,
    /// Volume number, if the configuration has volumes.
    pub volume: Option<u32>,
    /// Minor that it is stacked on.
    pub stacked_on: Option<u32>,
    /// Words about what uses the device: mount point, file system, sizes ...
    pub usage: Vec<String>,
}

/// What is added on a terminal; nothing of it in a pipe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// States in colour.
    pub color: bool,
    /// Speed and end below a progress bar.
    pub finish: bool,
}

/// Printed where a name is not known.
const NOT_FOUND: &str = "??not-found??";

/// A device as /proc/drbd describes it.
struct Device<'a> {
    minor: u32,
    /// Connection, roles, disks, protocol, flags; the protocol is missing while StandAlone, and
    /// all but the first while unconfigured.
    words: Vec<&'a str>,
    /// The line with the progress bar, as it is.
    progress: Option<&'a str>,
    /// The line below it: end and speed.
    finish: Option<&'a str>,
}

/// A word without the key in front of it: `Primary/Secondary` of `ro:Primary/Secondary`.
fn without_key(word: &str) -> &str {
    let keys = ["ro:", "ds:", "st:"];
    keys.iter().find_map(|key| word.strip_prefix(key)).unwrap_or(word)
}

/// Devices of a /proc/drbd text, in its order.
fn devices(text: &str) -> Vec<Device<'_>> {
    let mut found: Vec<Device> = Vec::new();
    for line in text.lines() {
        let device = line.split_once(": cs:").and_then(|(minor, rest)| {
            let minor = minor.trim().parse().ok()?;
            let words = rest.split_whitespace().map(without_key).collect();
            Some(Device { minor, words, progress: None, finish: None })
        });
        match device {
            Some(device) => found.push(device),
            None => {
                let bar = line.contains("sync'ed:") || line.contains("verified:");
                let Some(device) = found.last_mut() else { continue };
                if bar {
                    device.progress = Some(line);
                } else if line.contains("finish:") {
                    device.finish = Some(line);
                }
            }
        }
    }
    found
}

/// The table. Minors whose name is not known are left out if they are not configured. `look`: for a terminal, with more
/// than the original prints.
pub fn table(proc_text: &str, known: &BTreeMap<u32, Known>, form: Dialect, look: Look) -> String {
    let mut rows: Vec<(Vec<String>, Option<String>)> = Vec::new();
    for device in devices(proc_text) {
        let about = known.get(&device.minor);
        let name = about.map_or("", |k| k.name.as_str());
        let unconfigured = device.words.first() == Some(&"Unconfigured");
        if unconfigured && name.is_empty() {
            continue;
        }
        let (width, columns) = match form {
            Dialect::V83 => (3, 5),
            Dialect::V84 => (2, 3),
        };
        let volume = about.and_then(|k| k.volume).unwrap_or(0);
        let name = match form {
            _ if name.is_empty() => NOT_FOUND.to_string(),
            Dialect::V83 => name.to_string(),
            Dialect::V84 => format!("{name}/{volume}"),
        };
        let stacked = about.and_then(|k| k.stacked_on);
        let mut cells = vec![
            format!("{:width$}:{name}", device.minor),
            stacked.map(|minor| format!("^^{minor}")).unwrap_or_default(),
        ];
        cells.extend(device.words.iter().take(columns).map(|w| w.to_string()));
        if unconfigured {
            cells.resize(2 + columns, ".".to_string());
        }
        if let Some(known) = about {
            cells.extend(known.usage.iter().cloned());
        }
        let finish = device.finish.filter(|_| look.finish);
        let progress = device.progress.map(|line| match finish {
            Some(finish) => format!("{line}\n{finish}"),
            None => line.to_string(),
        });
        rows.push((cells, progress));
    }
    let mut widths: Vec<usize> = Vec::new();
    for (cells, _) in &rows {
        for (i, cell) in cells.iter().enumerate() {
            let length = cell.chars().count();
            match widths.get_mut(i) {
                Some(width) => *width = length.max(*width),
                None => widths.push(length),
            }
        }
    }
    let mut out = String::new();
    for (cells, progress) in rows {
        for (i, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let blanks = (width + 1).saturating_sub(cell.chars().count());
            match look.color {
                true => out += &in_color(i, cell),
                false => out += cell,
            }
            out.extend(std::iter::repeat_n(' ', blanks));
        }
        out.push('\n');
        if let Some(line) = progress {
            out += &line;
            out.push('\n');
        }
    }
    out
}

/// A cell in the colours of its states; other cells as they are.
fn in_color(column: usize, cell: &str) -> String {
    // Behind name and stacking.
    let state = column.checked_sub(2);
    let pair = |paint: fn(&Palette, &str) -> String| match cell.split_once('/') {
        Some((local, peer)) => format!("{}/{}", paint(&LOCAL, local), paint(&PEER, peer)),
        None => cell.to_string(),
    };
    match state {
        Some(0) => Conn::from_name(cell).map_or(cell.to_string(), |conn| {
            let color = if conn < Conn::Connected { connection_color(conn) } else { replication_color(conn) };
            painted(color, cell)
        }),
        Some(1) => {
            pair(|palette, word| painted(Role::from_name(word).map_or("", |role| palette.role(role)), word))
        }
        Some(2) => {
            pair(|palette, word| painted(Disk::from_name(word).map_or("", |disk| palette.disk(disk)), word))
        }
        _ => cell.to_string(),
    }
}

/// Names and stacking from the output of `drbdadm sh-status`.
pub fn names(sh_status: &str) -> BTreeMap<u32, Known> {
    let mut known = BTreeMap::new();
    let mut minor = None;
    let mut current = Known::default();
    for line in sh_status.lines() {
        let Some((name, value)) = line.split_once('=') else {
            if line == "_sh_status_process" {
                if let Some(minor) = minor.take() {
                    known.insert(minor, std::mem::take(&mut current));
                }
                current = Known::default();
            }
            continue;
        };
        match name {
            "_minor" => minor = value.parse().ok(),
            "_res_name" => current.name = value.replace('\\', ""),
            "_volume" => current.volume = value.parse().ok(),
            "_stacked_on_minor" => current.stacked_on = value.parse().ok(),
            _ => {}
        }
    }
    // A lower device tells who is stacked on it, unless something else uses it.
    let stacked: Vec<(u32, u32, String)> =
        known.iter().filter_map(|(minor, k)| Some((k.stacked_on?, *minor, k.name.clone()))).collect();
    for (lower, upper, name) in stacked {
        if let Some(k) = known.get_mut(&lower) {
            k.usage = vec!["ll-dev".into(), "of:".into(), upper.to_string(), name];
        }
    }
    known
}

/// Mounted devices from the output of `df -TPhl -x tmpfs`: mount point, type, sizes by minor.
pub fn mounts(df: &str) -> BTreeMap<u32, Vec<String>> {
    let mut found = BTreeMap::new();
    for line in df.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [device, kind, size, used, free, percent, mount, ..] = words[..] else {
            continue;
        };
        if let Some(minor) = device.strip_prefix("/dev/drbd").and_then(|n| n.parse().ok()) {
            let cells = [mount, kind, size, used, free, percent];
            found.insert(minor, cells.map(String::from).to_vec());
        }
    }
    found
}

/// Physical volumes from the output of `pvs --noheadings --units g -o
/// pv_name,vg_name,pv_size,pv_used`.
pub fn physical_volumes(pvs: &str) -> BTreeMap<u32, Vec<String>> {
    let mut found = BTreeMap::new();
    for line in pvs.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [device, rest @ ..] = &words[..] else {
            continue;
        };
        if let Some(minor) = device.strip_prefix("/dev/drbd").and_then(|n| n.parse().ok()) {
            let cells = std::iter::once("lvm-pv:").chain(rest.iter().copied());
            found.insert(minor, cells.map(String::from).collect());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROC: &str = "version: 8.3.16 (api:88/proto:86-101)\nGIT-hash: x\n\
 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----\n    ns:0 nr:0 oos:0\n\
 1: cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent A r-----\n    ns:0 oos:9\n\
\t[=>..................] sync'ed: 10.0% (921600/1024000)K\n\tfinish: 0:00:27 speed: 1 (1) K/sec\n\
 2: cs:StandAlone ro:Secondary/Unknown ds:UpToDate/DUnknown   r-----\n    ns:0 oos:0\n\
 3: cs:Unconfigured\n 4: cs:Unconfigured\n\n\
 7: cs:WFConnection ro:Secondary/Unknown ds:UpToDate/DUnknown C r-----\n    ns:0 oos:0\n";

    const SH_STATUS: &str = "_minor=0\n_res_name=r0\n_sh_status_process\n\n\
        _minor=1\n_res_name=r1\n_sh_status_process\n\
        _minor=2\n_res_name=r2\n_stacked_on_minor=0\n_sh_status_process\n\
        _minor=3\n_res_name=r3\n_sh_status_process\n";

    fn known() -> BTreeMap<u32, Known> {
        let mut known = names(SH_STATUS);
        let df = "Filesystem Type Size Used Avail Use% Mounted on\n\
                  /dev/drbd0 ext3 2.3G 68M 2.2G 4% /data\n";
        for (minor, cells) in mounts(df) {
            known.entry(minor).or_default().usage = cells;
        }
        known
    }

    #[test]
    fn the_table_of_8_3() {
        let mut known = known();
        let volumes = physical_volumes("  /dev/drbd7 vg0 10.00g 4.00g\n");
        for (minor, cells) in volumes {
            known.entry(minor).or_default().usage = cells;
        }
        let want = [
            "  0:r0                Connected    Primary/Secondary UpToDate/UpToDate     C      r----- \
             /data   ext3 2.3G   68M   2.2G 4% ",
            "  1:r1                SyncSource   Primary/Secondary UpToDate/Inconsistent A      r----- ",
            "\t[=>..................] sync'ed: 10.0% (921600/1024000)K",
            "  2:r2            ^^0 StandAlone   Secondary/Unknown UpToDate/DUnknown     r----- ",
            "  3:r3                Unconfigured .                 .                     .      .      ",
            "  7:??not-found??     WFConnection Secondary/Unknown UpToDate/DUnknown     C      r----- \
             lvm-pv: vg0  10.00g 4.00g ",
        ];
        let got = table(PROC, &known, Dialect::V83, Look::default());
        assert_eq!(got.lines().collect::<Vec<_>>(), want);
    }

    #[test]
    fn the_table_of_8_4() {
        let got = table(PROC, &known(), Dialect::V84, Look::default());
        let first = got.lines().next().unwrap_or("");
        let want = " 0:r0/0              Connected    Primary/Secondary UpToDate/UpToDate     \
                    /data ext3 2.3G 68M 2.2G 4% ";
        assert_eq!(first, want);
    }

    #[test]
    fn a_lower_device_tells_who_is_on_it() {
        let known = names(SH_STATUS);
        assert_eq!(known[&0].usage, ["ll-dev", "of:", "2", "r2"]);
    }

    #[test]
    fn a_terminal_gets_colours_and_the_end_of_a_resync() {
        let got = table(PROC, &known(), Dialect::V83, Look { color: true, finish: true });
        let lines: Vec<&str> = got.lines().collect();
        assert!(lines[0].contains(" \u{1b}[1;36mPrimary\u{1b}[0m/Secondary "), "{got}");
        assert!(
            lines[1].contains("\u{1b}[1;32mUpToDate\u{1b}[0m/\u{1b}[31mInconsistent\u{1b}[0m A "),
            "{got}"
        );
        assert_eq!(lines[2], "\t[=>..................] sync'ed: 10.0% (921600/1024000)K");
        assert_eq!(lines[3], "\tfinish: 0:00:27 speed: 1 (1) K/sec");
        // Without the escapes the columns are where they were.
        let plain = table(PROC, &known(), Dialect::V83, Look { color: false, finish: true });
        let mut stripped = String::new();
        for (i, part) in got.split('\u{1b}').enumerate() {
            stripped += if i == 0 { part } else { part.split_once('m').map_or("", |(_, rest)| rest) };
        }
        assert_eq!(stripped, plain);
    }
}
