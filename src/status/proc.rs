//! The text of /proc/drbd. spec/drbdsetup.md 8.
//!
//! Header by dialect; everything below it is 8.3.16's in both (spec/decisions.md 2.1). The dumps
//! of the resync and activity log caches (details 1 and 2) are left out.

use super::progress::{bar, KIB_PER_BIT};
use super::snapshot::{Progress, Snapshot, Volume};
use super::Resource;
use crate::conf::Dialect;
use crate::core::state::{Conn, StateWord};
use std::fmt::Write;

/// Newest protocol version that we speak, as in `proto:86-101`.
const PROTOCOL_MAX: u32 = 101;

/// Sectors a bit of the bitmap.
const SECTORS_PER_BIT: u64 = 8;

/// The whole text: two header lines, then the devices.
pub fn text(snapshot: &Snapshot) -> String {
    let mut out = header(snapshot.dialect, PROTOCOL_MAX, &snapshot.build_tag);
    out.push_str(&devices(snapshot));
    out
}

/// The two header lines. The init script drops them by number. spec/drbdsetup.md 8.1.
pub fn header(dialect: Dialect, protocol_max: u32, build_tag: &str) -> String {
    format!(
        "version: {} (api:{}/proto:86-{protocol_max})\n{build_tag}\n",
        dialect.release(),
        dialect.api_version(),
    )
}

/// The devices, by minor. spec/drbdsetup.md 8.2.
pub fn devices(snapshot: &Snapshot) -> String {
    let mut volumes: Vec<_> = snapshot.volumes().collect();
    volumes.sort_by_key(|(_, v)| v.minor);
    let mut out = String::new();
    let mut expected = 0;
    for (resource, volume) in volumes {
        if volume.minor != expected {
            out.push('\n');
        }
        expected = volume.minor.saturating_add(1);
        device(&mut out, snapshot, resource, volume);
    }
    out
}

/// Appends what a `String` cannot refuse.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {
        let _ = write!($out, $($arg)*);
    };
}

fn device(out: &mut String, snapshot: &Snapshot, resource: &Resource, volume: &Volume) {
    let state = &volume.state;
    if state.is_unconfigured() {
        put!(out, "{:2}: cs:Unconfigured\n", volume.minor);
        return;
    }
    let protocol = match resource.connection.addresses {
        Some(_) => protocol_letter(resource),
        None => ' ',
    };
    put!(
        out,
        "{:2}: cs:{} ro:{} ds:{} {protocol} {}{}{}\n",
        volume.minor,
        state.conn,
        state.roles(),
        state.disks(),
        flags(state),
        volume.congestion.letter(),
        if volume.al_suspended { 's' } else { '-' },
    );
    let c = &volume.counters;
    put!(
        out,
        "    ns:{} nr:{} dw:{} dr:{} al:{} bm:{} lo:{} pe:{} ua:{} ap:{} ep:{} wo:{} oos:{}\n",
        c.sent_sectors / 2,
        c.received_sectors / 2,
        c.written_sectors / 2,
        c.read_sectors / 2,
        c.al_writes,
        c.bm_writes,
        c.local,
        c.ap_pending.saturating_add(c.rs_pending),
        c.unacked,
        c.ap_bio,
        c.epochs,
        volume.write_ordering.letter(),
        volume.out_of_sync_bits.saturating_mul(KIB_PER_BIT),
    );
    let shown = matches!(state.conn, Conn::SyncSource | Conn::SyncTarget | Conn::VerifyS | Conn::VerifyT);
    if let (true, Some(progress)) = (shown, &volume.progress) {
        progress_block(out, snapshot, resource, volume, progress);
    }
}

/// `A`, `B` or `C`.
fn protocol_letter(resource: &Resource) -> char {
    use crate::conf::settings::Protocol;
    match resource.connection.net.protocol {
        Protocol::A => 'A',
        Protocol::B => 'B',
        Protocol::C => 'C',
    }
}

/// The first four of the six flags. spec/drbdsetup.md 8.2.
fn flags(state: &StateWord) -> String {
    let set = |bit: bool, letter: char, clear: char| if bit { letter } else { clear };
    [
        set(state.is_susp(), 's', 'r'),
        set(state.aftr_isp, 'a', '-'),
        set(state.peer_isp, 'p', '-'),
        set(state.user_isp, 'u', '-'),
    ]
    .iter()
    .collect()
}

/// The two or three lines below a device that syncs or verifies. spec/drbdsetup.md 8.3.
fn progress_block(
    out: &mut String,
    snapshot: &Snapshot,
    resource: &Resource,
    volume: &Volume,
    progress: &Progress,
) {
    let Some(pace) = volume.pace(snapshot.now_ms) else { return };
    let permille = pace.permille;
    put!(out, "\t{}", bar(permille));
    let label = if volume.state.conn.is_verify() { "verified:" } else { "sync'ed:" };
    put!(out, " {label}{:3}.{}% ", permille / 10, permille % 10);
    // More than 4 GiB is shown in MiB.
    let (left, total) = (pace.left, pace.total);
    if total > 1 << 20 {
        put!(out, "({}/{})M", (left >> 10) * KIB_PER_BIT, (total >> 10) * KIB_PER_BIT);
    } else {
        put!(out, "({}/{})K", left * KIB_PER_BIT, total * KIB_PER_BIT);
    }
    let remaining = pace.remaining_seconds;
    put!(
        out,
        "\n\tfinish: {}:{:02}:{:02} speed: {} (",
        remaining / 3600,
        remaining % 3600 / 60,
        remaining % 60,
        thousands(pace.speed_kib),
    );
    if snapshot.proc_details >= 1 {
        put!(out, "{} -- ", thousands(pace.speed_now_kib));
    }
    put!(out, "{})", thousands(pace.average_kib));
    if matches!(volume.state.conn, Conn::SyncTarget | Conn::VerifyS) {
        put!(out, " want: {}", thousands(progress.want_kib));
    }
    out.push_str(" K/sec");
    if pace.stalled {
        out.push_str(" (stalled)");
    }
    out.push('\n');

    if snapshot.proc_details >= 1 {
        position_line(out, resource, volume, progress);
    }
}

/// `\t 61% sector pos: A/B`, details 1. spec/drbdsetup.md 8.3.
fn position_line(out: &mut String, resource: &Resource, volume: &Volume, progress: &Progress) {
    let bits = volume.bitmap_bits;
    let position = if volume.state.conn.is_verify() {
        bits.saturating_sub(progress.verify_left)
    } else {
        progress.resync_position
    };
    put!(
        out,
        "\t{:3}% sector pos: {}/{}",
        position / (bits / 100 + 1),
        position.saturating_mul(SECTORS_PER_BIT),
        bits.saturating_mul(SECTORS_PER_BIT),
    );
    if let (Some(stop), true) = (
        progress.verify_stop_sector,
        volume.state.conn.is_verify() && resource.connection.agreed_version >= 97,
    ) {
        put!(out, " stop sector: {stop}");
    }
    out.push('\n');
}

/// A number with at most two commas, as 8.3.16 groups it.
fn thousands(value: u64) -> String {
    match value {
        0..1000 => value.to_string(),
        1000..1_000_000 => format!("{},{:03}", value / 1000, value % 1000),
        _ => format!("{},{:03},{:03}", value / 1_000_000, value / 1000 % 1000, value % 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_twice_at_most() {
        for (value, text) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (999_999, "999,999"), (1_832_519_376, "1832,519,376")]
        {
            assert_eq!(thousands(value), text);
        }
    }
}
