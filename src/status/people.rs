//! What people at a terminal see beyond DRBD's own texts: bars, amounts and times that need no arithmetic.

use super::colors::{painted, LOCAL};
use super::progress::{bar, Pace, KIB_PER_BIT};
use super::snapshot::{Snapshot, Volume};
use super::status84::{self, resync_suspended_word, Style};
use crate::core::state::{Conn, Disk};

/// `12 KiB`, `4.0 MiB`, `1.5 TiB`.
pub fn amount(kib: u64) -> String {
    const UNITS: [&str; 4] = ["MiB", "GiB", "TiB", "PiB"];
    if kib < 1024 {
        return format!("{kib} KiB");
    }
    let mut value = kib as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `0:52`, `1:02:33`, `3 days 4 h`.
pub fn duration(seconds: u128) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match hours {
        0 => format!("{minutes}:{:02}", seconds % 60),
        1..48 => format!("{hours}:{:02}:{:02}", minutes % 60, seconds % 60),
        _ => format!("{} days {} h", hours / 24, hours % 24),
    }
}

/// `[===>................] 18.8% of 256.0 MiB, 4.0 MiB/s, 0:52 left`. `None`: neither resync nor verify.
pub fn progress(volume: &Volume, now_ms: u64) -> Option<String> {
    let pace = volume.pace(now_ms)?;
    // DRBD's own permille says 6.3% of a fresh small device.
    let done = u128::from(pace.total.saturating_sub(pace.left)) * 1000;
    let permille = done.checked_div(pace.total.into()).unwrap_or(1000) as u32;
    let total = amount(pace.total.saturating_mul(KIB_PER_BIT));
    Some(format!(
        "{} {}.{}% of {total}, {}",
        bar(permille),
        permille / 10,
        permille % 10,
        outlook(volume, &pace)
    ))
}

/// Speed and end, or why there is none.
fn outlook(volume: &Volume, pace: &Pace) -> String {
    if matches!(volume.state.conn, Conn::PausedSyncS | Conn::PausedSyncT) {
        return format!("paused by {}", resync_suspended_word(volume));
    }
    let speed = format!("{}/s", amount(pace.speed_kib));
    if pace.stalled {
        return format!("{speed}, stalled");
    }
    if pace.speed_kib == 0 {
        return speed;
    }
    format!("{speed}, {} left", duration(pace.remaining_seconds))
}

/// Whether a resync or verify of this volume is under way, from the moment that it was asked for.
pub fn is_busy(volume: &Volume) -> bool {
    (Conn::StartingSyncS..=Conn::PausedSyncT).contains(&volume.state.conn)
}

/// Whether one is under way, or has to follow because the two disks are not equally good.
pub fn expects_resync(volume: &Volume) -> bool {
    let state = &volume.state;
    let unequal = state.disk != state.pdsk && state.disk.min(state.pdsk) >= Disk::Inconsistent;
    is_busy(volume) || (state.conn == Conn::Connected && unequal)
}

/// What is going on with a volume, for a line that is drawn again and again: `r0: resync [==>...] 18.8% ...`.
pub fn activity(name: &str, volume: &Volume, now_ms: u64) -> String {
    let what = if volume.state.conn.is_verify() { "verify" } else { "resync" };
    match progress(volume, now_ms) {
        Some(line) => format!("{name}: {what} {line}"),
        None => format!("{name}: {}", volume.state.conn),
    }
}

/// What became of it: in sync, blocks that differ, or a connection that was lost.
pub fn outcome(name: &str, volume: &Volume, was_verify: bool) -> String {
    let state = &volume.state;
    let kib = volume.out_of_sync_bits.saturating_mul(KIB_PER_BIT);
    match (state.conn, was_verify, kib) {
        (Conn::Connected, true, 0) => format!("{name}: verify done, both copies are equal"),
        (Conn::Connected, true, _) => {
            format!("{name}: verify done, {} differ; disconnect and connect to copy them", amount(kib))
        }
        (Conn::Connected, false, 0) => format!("{name}: resync done"),
        (Conn::Connected, false, _) => {
            format!("{name}: resync over, {} are still out of sync ({})", amount(kib), state.disks())
        }
        (conn, ..) => format!("{name}: {conn}, {} are still out of sync", amount(kib)),
    }
}

/// `r0`, or `r0/1` where the resource has several volumes.
pub fn volume_name(snapshot: &Snapshot, minor: u32) -> Option<(String, &Volume)> {
    let (resource, volume) = snapshot.minor(minor)?;
    let name = match resource.volumes.len() {
        1 => resource.name.clone(),
        _ => format!("{}/{}", resource.name, volume.number),
    };
    Some((name, volume))
}

/// The state of these resources, each as 8.4's `status` has it and with a bar where something runs. Those that the
/// daemon does not know are down.
pub fn board(snapshot: &Snapshot, names: &[String], color: bool, width: usize) -> String {
    let style =
        Style { verbose: false, statistics: false, color, width, progress_at_ms: Some(snapshot.now_ms) };
    let mut out = String::new();
    for name in names {
        match snapshot.resource(name) {
            Some(resource) => out += &status84::text(resource, &style),
            None => {
                let word = if color { painted(LOCAL.bad, "down") } else { "down".to_string() };
                out += &format!("{name} {word}\n\n");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_times_are_short() {
        let amounts = [(0, "0 KiB"), (1023, "1023 KiB"), (1024, "1.0 MiB"), (5 << 30, "5.0 TiB")];
        for (kib, text) in amounts {
            assert_eq!(amount(kib), text);
        }
        assert!(amount(u64::MAX).ends_with(" PiB"));
        for (seconds, text) in [(0, "0:00"), (3599, "59:59"), (3753, "1:02:33"), (273_600, "3 days 4 h")] {
            assert_eq!(duration(seconds), text);
        }
    }
}
