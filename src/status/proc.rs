//! The text of /proc/drbd. spec/drbdsetup.md 8.
//!
//! Header by dialect; everything below it is 8.3.16's in both (spec/decisions.md 2.1). The dumps
//! of the resync and activity log caches (details 1 and 2) are left out.

use super::snapshot::{Progress, Snapshot, Volume, MARKS};
use super::Resource;
use crate::conf::Dialect;
use crate::core::state::{Conn, StateWord};
use std::fmt::Write;

/// Newest protocol version that we speak, as in `proto:86-101`.
const PROTOCOL_MAX: u32 = 101;

/// Width of the progress bar, characters.
const BAR: u64 = 20;

/// No progress mark for longer than this is `(stalled)`, seconds.
const STALLED_SECONDS: u64 = 180;

/// KiB a bit of the bitmap.
const KIB_PER_BIT: u64 = 4;

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

impl Volume {
    /// Bits still to do of a running resync or verify. `None`: nothing runs.
    pub fn bits_left(&self) -> Option<u64> {
        let progress = self.progress.as_ref()?;
        Some(if self.state.conn.is_verify() {
            progress.verify_left
        } else {
            self.out_of_sync_bits.saturating_sub(progress.failed)
        })
    }

    /// How much of a running resync or verify is done, 0 to 1000, as 8.3 computes it.
    /// spec/drbdsetup.md 8.3 and 8.5. `None`: nothing runs.
    pub fn permille(&self) -> Option<u32> {
        let progress = self.progress.as_ref()?;
        Some(permille(self.bits_left()?, progress.total))
    }
}

impl Volume {
    /// As [`permille`](Self::permille), in 8.4's `sh-status`: what is left is what the bitmap
    /// says, also during verify. spec/drbdsetup.md 8.5.
    pub fn permille_84(&self) -> Option<u32> {
        let progress = self.progress.as_ref()?;
        if progress.total == 0 {
            return Some(1000);
        }
        let left = self.out_of_sync_bits.saturating_sub(progress.failed).min(progress.total);
        Some(permille(left, progress.total))
    }
}

/// 8.3's permille: the shifts keep its products within 32 bits, and its last digit is theirs.
fn permille(left: u64, total: u64) -> u32 {
    if left > total {
        return 0;
    }
    let shift = if total > u64::from(u32::MAX) { 16 } else { 10 };
    let rest = (left >> shift) * 1000 / (1 + (total >> shift));
    1000 - rest.min(1000) as u32
}

/// The two or three lines below a device that syncs or verifies. spec/drbdsetup.md 8.3.
fn progress_block(
    out: &mut String,
    snapshot: &Snapshot,
    resource: &Resource,
    volume: &Volume,
    progress: &Progress,
) {
    let verify = volume.state.conn.is_verify();
    let left = volume.bits_left().unwrap_or(0);
    let total = progress.total;
    let permille = u64::from(permille(left, total));

    let done = permille / 50;
    out.push_str("\t[");
    for _ in 1..done {
        out.push('=');
    }
    out.push('>');
    for _ in done..BAR {
        out.push('.');
    }
    out.push_str("] ");
    let label = if verify { "verified:" } else { "sync'ed:" };
    put!(out, "{label}{:3}.{}% ", permille / 10, permille % 10);
    // More than 4 GiB is shown in MiB.
    if total > 1 << 20 {
        put!(out, "({}/{})M", (left >> 10) * KIB_PER_BIT, (total >> 10) * KIB_PER_BIT);
    } else {
        put!(out, "({}/{})K", left * KIB_PER_BIT, total * KIB_PER_BIT);
    }
    out.push_str("\n\t");

    let seconds_since = |ms: u64| (snapshot.now_ms.saturating_sub(ms) / 1000).max(1);
    // The oldest two marks are about to be replaced.
    let since_mark = |offset: usize| {
        let mark = progress.marks[progress.last_mark.wrapping_add(offset) % MARKS];
        let dt = seconds_since(mark.time_ms);
        (dt, mark.left.saturating_sub(left))
    };
    let (dt, db) = since_mark(2);
    let remaining = u128::from(dt) * u128::from(left / (db / 100 + 1)) / 100;
    put!(
        out,
        "finish: {}:{:02}:{:02} speed: {} (",
        remaining / 3600,
        remaining % 3600 / 60,
        remaining % 60,
        thousands((db / dt).saturating_mul(KIB_PER_BIT)),
    );
    if snapshot.proc_details >= 1 {
        let (dt, db) = since_mark(MARKS - 1);
        put!(out, "{} -- ", thousands((db / dt).saturating_mul(KIB_PER_BIT)));
    }
    let running = seconds_since(progress.start_ms.saturating_add(progress.paused_ms));
    let average = total.saturating_sub(left) / running;
    put!(out, "{})", thousands(average.saturating_mul(KIB_PER_BIT)));
    if matches!(volume.state.conn, Conn::SyncTarget | Conn::VerifyS) {
        put!(out, " want: {}", thousands(progress.want_kib));
    }
    out.push_str(" K/sec");
    if dt > STALLED_SECONDS {
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

    #[test]
    fn permille_stays_in_bounds_for_any_numbers() {
        for total in [0, 1, 1023, 1 << 20, u64::from(u32::MAX), 1 << 33, u64::MAX] {
            for left in [0, total / 2, total, total.saturating_add(1)] {
                assert!(permille(left, total) <= 1000, "{left}/{total}");
            }
        }
    }
}
