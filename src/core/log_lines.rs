//! The log lines that people grep for, word for word. spec/state.md 17, 10.1, 15.1.
//!
//! Texts come without the prefix: the caller puts [`device_prefix`] or [`resource_prefix`] before
//! each of them.

use super::codes::{state_code_text, StateError};
use super::handlers::Handler;
use super::state::{Change, Conn, Role, StateWord};
use super::uuid::{PeerUuids, Uuids};
use std::fmt;

/// Level of a line, as in the kernel's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Needs the admin now.
    Alert,
    /// Something failed.
    Error,
    /// Something may be wrong.
    Warning,
    /// Normal.
    Info,
}

/// One line without prefix. A text may hold a line break where DRBD's has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Level.
    pub severity: Severity,
    /// Text.
    pub text: String,
}

impl LogLine {
    /// A line of level alert.
    pub fn alert(text: impl Into<String>) -> LogLine {
        LogLine::at(Severity::Alert, text)
    }

    /// A line of level error.
    pub fn error(text: impl Into<String>) -> LogLine {
        LogLine::at(Severity::Error, text)
    }

    /// A line of level warning.
    pub fn warning(text: impl Into<String>) -> LogLine {
        LogLine::at(Severity::Warning, text)
    }

    /// A line of level info.
    pub fn info(text: impl Into<String>) -> LogLine {
        LogLine::at(Severity::Info, text)
    }

    fn at(severity: Severity, text: impl Into<String>) -> LogLine {
        LogLine { severity, text: text.into() }
    }
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Prefix of lines about a volume. spec/state.md 17.
pub fn device_prefix(minor: u32) -> String {
    format!("block drbd{minor}: ")
}

/// Prefix of 8.4's lines about a resource or its connection. spec/state.md 17.
pub fn resource_prefix(resource: &str) -> String {
    format!("drbd {resource}: ")
}

/// An item of a state change line; nothing if nothing changed.
fn item<T: PartialEq + fmt::Display>(line: &mut String, name: &str, old: T, new: T) {
    if old != new {
        line.push_str(&format!("{name}( {old} -> {new} ) "));
    }
}

fn pause_items(line: &mut String, os: StateWord, ns: StateWord) {
    let bit = u8::from;
    item(line, "aftr_isp", bit(os.aftr_isp), bit(ns.aftr_isp));
    item(line, "peer_isp", bit(os.peer_isp), bit(ns.peer_isp));
    item(line, "user_isp", bit(os.user_isp), bit(ns.user_isp));
}

fn susp_item(line: &mut String, os: StateWord, ns: StateWord) {
    item(line, "susp", u8::from(os.is_susp()), u8::from(ns.is_susp()));
}

/// The state change line of 8.3, ending with a blank; printed even if empty. spec/state.md 17.1.
pub fn state_change_83(os: StateWord, ns: StateWord) -> LogLine {
    let mut line = String::new();
    main_items(&mut line, os, ns);
    susp_item(&mut line, os, ns);
    pause_items(&mut line, os, ns);
    LogLine::info(line)
}

fn main_items(line: &mut String, os: StateWord, ns: StateWord) {
    item(line, "role", os.role, ns.role);
    item(line, "peer", os.peer, ns.peer);
    item(line, "conn", os.conn, ns.conn);
    item(line, "disk", os.disk, ns.disk);
    item(line, "pdsk", os.pdsk, ns.pdsk);
}

fn unless_empty(line: String) -> Option<LogLine> {
    (!line.is_empty()).then(|| LogLine::info(line))
}

/// 8.4, change of one volume: the device line. spec/state.md 17.2.
pub fn volume_change_84(os: StateWord, ns: StateWord) -> Option<LogLine> {
    let mut line = String::new();
    main_items(&mut line, os, ns);
    pause_items(&mut line, os, ns);
    unless_empty(line)
}

/// 8.4, change of one volume: the resource line, only about suspension. spec/state.md 17.2.
pub fn susp_change_84(os: StateWord, ns: StateWord) -> Option<LogLine> {
    let mut line = String::new();
    susp_item(&mut line, os, ns);
    unless_empty(line)
}

/// 8.4, change of a connection: one device line a volume, if it has items, and the line of the
/// connection. `volumes`: old and new word of each. spec/state.md 17.2.
pub fn connection_change_84(volumes: &[(StateWord, StateWord)]) -> (Vec<Option<LogLine>>, Option<LogLine>) {
    let Some((&(first, _), others)) = volumes.split_first() else {
        return (Vec::new(), None);
    };
    let same = |get: &dyn Fn(&StateWord) -> u32| others.iter().all(|(os, _)| get(os) == get(&first));
    let shared = Change {
        role: same(&|s| s.role.number()).then_some(first.role),
        peer: same(&|s| s.peer.number()).then_some(first.peer),
        conn: same(&|s| s.conn.number()).then_some(first.conn),
        disk: same(&|s| s.disk.number()).then_some(first.disk),
        pdsk: same(&|s| s.pdsk.number()).then_some(first.pdsk),
        ..Change::NONE
    };

    // A device line leaves out what is shared: there the new word is made equal to the old.
    let per_volume = volumes.iter().map(|&(os, ns)| volume_change_84(os, shared.apply(ns))).collect();

    let highest = volumes.iter().fold(None, |highest: Option<StateWord>, &(_, ns)| {
        Some(match highest {
            None => ns,
            Some(h) => StateWord {
                role: highest_role(h.role, ns.role),
                peer: highest_role(h.peer, ns.peer),
                conn: h.conn.max(ns.conn),
                disk: h.disk.max(ns.disk),
                pdsk: h.pdsk.max(ns.pdsk),
                ..h
            },
        })
    });
    let connection = highest.and_then(|ns| {
        let kept = Change {
            role: shared.role.map_or(Some(first.role), |_| None),
            peer: shared.peer.map_or(Some(first.peer), |_| None),
            conn: shared.conn.map_or(Some(first.conn), |_| None),
            disk: shared.disk.map_or(Some(first.disk), |_| None),
            pdsk: shared.pdsk.map_or(Some(first.pdsk), |_| None),
            ..Change::NONE
        };
        let mut line = String::new();
        main_items(&mut line, first, kept.apply(ns));
        susp_item(&mut line, first, ns);
        unless_empty(line)
    });
    (per_volume, connection)
}

/// The higher of two roles in the order Unknown, Secondary, Primary. spec/state.md 1.3.
pub fn highest_role(a: Role, b: Role) -> Role {
    let rank = |role| match role {
        Role::Unknown => 0,
        Role::Secondary => 1,
        Role::Primary => 2,
    };
    if rank(a) >= rank(b) {
        a
    } else {
        b
    }
}

/// A refused change: three lines, none for -18. spec/state.md 17.3.
pub fn refused_change(os: StateWord, wanted: StateWord, error: StateError) -> Vec<LogLine> {
    if error == StateError::InTransientState {
        return Vec::new();
    }
    vec![
        LogLine::error(format!("State change failed: {}", state_code_text(error.code()))),
        LogLine::error(format!("  state = {{ {os} }}")),
        LogLine::error(format!(" wanted = {{ {wanted} }}")),
    ]
}

/// 8.4: a refused change of a connection, after the lines of the volume that refused.
/// `old`: WFReportParams for an established link. spec/state.md 17.3.
pub fn refused_connection_change(old: Conn, change: Change, error: StateError) -> Vec<LogLine> {
    vec![
        LogLine::error(format!("State change failed: {}", state_code_text(error.code()))),
        LogLine::error(format!(" mask = {:#x} val = {:#x}", change.mask(), change.val())),
        LogLine::error(format!(" old_conn:{old} wanted_conn:{}", change.conn.unwrap_or(Conn::StandAlone))),
    ]
}

/// The peer refused a cluster-wide change. spec/state.md 17.3.
pub fn refused_by_peer(code: i32) -> LogLine {
    LogLine::error(format!("Requested state change failed by peer: {} ({code})", state_code_text(code)))
}

/// What happened to the UUIDs. spec/state.md 17.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UuidEvent {
    /// The disk was attached.
    Attached,
    /// A new generation.
    NewCurrent,
    /// A resync starts, this node is the source.
    SyncUuidOfSource,
    /// A resync starts, this node is the target.
    SyncUuidOfTarget,
    /// A resync is done.
    Updated,
    /// The initial sync is skipped, on the node that asked for it.
    ClearedBitmap,
    /// P_UUIDS of the peer changed them.
    ReceiverUpdated,
}

impl UuidEvent {
    const fn text(self) -> &'static str {
        match self {
            UuidEvent::Attached => "attached to UUIDs",
            UuidEvent::NewCurrent => "new current UUID",
            UuidEvent::SyncUuidOfSource => "updated sync UUID",
            UuidEvent::SyncUuidOfTarget => "updated sync uuid",
            UuidEvent::Updated => "updated UUIDs",
            UuidEvent::ClearedBitmap => "cleared bitmap UUID",
            UuidEvent::ReceiverUpdated => "receiver updated UUIDs to",
        }
    }
}

/// The UUIDs after an event. spec/state.md 17.5.
pub fn uuids(event: UuidEvent, uuids: &Uuids) -> LogLine {
    LogLine::info(format!("{} {uuids}", event.text()))
}

/// The same without a usable disk. spec/state.md 8.6, 17.5.
pub fn effective_uuid(event: UuidEvent, effective: u64) -> LogLine {
    LogLine::info(format!("{} effective data uuid: {effective:016X}", event.text()))
}

/// A new current UUID overwrites a BITMAP that was in use. spec/state.md 8.3.
pub fn bitmap_uuid_was_set(lost: u64) -> LogLine {
    LogLine::warning(format!("bm UUID was already set: {lost:016X}"))
}

/// The own side of the handshake dump; flags are always 0. spec/state.md 10.1.
pub fn own_uuids(uuids: &Uuids, bits: u64) -> LogLine {
    LogLine::info(format!("self {uuids} bits:{bits} flags:0"))
}

/// The peer's side of the handshake dump. spec/state.md 10.1.
pub fn peer_uuids(peer: &PeerUuids) -> LogLine {
    LogLine::info(format!("peer {} bits:{} flags:{:X}", peer.uuids, peer.bits, peer.flags.0))
}

/// Before a helper is called; `program`: see decisions.md 5.6. spec/state.md 15.1.
pub fn helper_command(program: &str, handler: Handler, id: &str) -> LogLine {
    LogLine::info(format!("helper command: {program} {handler} {id}"))
}

/// After a helper ended. `status`: its wait status, or a negative errno if it could not be
/// started. spec/state.md 15.1.
pub fn helper_exit(program: &str, handler: Handler, id: &str, status: i32) -> LogLine {
    let text =
        format!("helper command: {program} {handler} {id} exit code {} ({status:#x})", (status >> 8) & 0xff);
    if status == 0 {
        LogLine::info(text)
    } else {
        LogLine::warning(text)
    }
}

/// A resync starts. 4 KiB a bit. spec/state.md 11.1, 17.6.
pub fn began_resync(conn: Conn, bits: u64) -> LogLine {
    LogLine::info(format!(
        "Began resync as {conn} (will sync {} KB [{bits} bits set]).",
        bits.saturating_mul(4)
    ))
}

/// A resync or a verify ended. Seconds; KiB/s. spec/state.md 11.3 step 5.
pub fn resync_done(verify: bool, total: u64, paused: u64, rate: u64) -> LogLine {
    let what = if verify { "Online verify" } else { "Resync" };
    LogLine::info(format!("{what} done (total {total} sec; paused {paused} sec; {rate} K/sec)"))
}

/// A verify found differences. spec/state.md 11.3 step 6.
pub fn verify_found(bits: u64) -> LogLine {
    LogLine::alert(format!("Online verify found {bits} 4k block out of sync!"))
}

/// A range of differences that a verify found; sectors. spec/state.md 11.3.
pub fn out_of_sync_range(start: u64, sectors: u64) -> LogLine {
    LogLine::error(format!("Out of sync: start={start}, size={sectors} (sectors)"))
}

/// A size in KiB with a unit: `32 MB`. spec/state.md 12.3.
pub fn pretty_kib(kib: u64) -> String {
    let mut size = kib;
    let mut unit = 0;
    const UNITS: [char; 6] = ['K', 'M', 'G', 'T', 'P', 'E'];
    while size >= 10_000 && unit < UNITS.len() - 1 {
        size = (size >> 10) + u64::from(size & (1 << 9) != 0);
        unit += 1;
    }
    format!("{size} {}B", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::state::Disk;
    use crate::core::uuid::UuidFlags;

    fn word(role: Role, peer: Role, conn: Conn, disk: Disk, pdsk: Disk) -> StateWord {
        StateWord { role, peer, conn, disk, pdsk, ..StateWord::UNCONFIGURED }
    }

    fn texts(lines: &[LogLine]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    const PAIR: StateWord = StateWord {
        role: Role::Primary,
        peer: Role::Secondary,
        conn: Conn::Connected,
        disk: Disk::UpToDate,
        pdsk: Disk::UpToDate,
        ..StateWord::UNCONFIGURED
    };

    /// spec/state.md 17.1.
    #[test]
    fn one_line_in_8_3() {
        let ns = StateWord {
            susp_fen: true,
            ..word(Role::Primary, Role::Unknown, Conn::BrokenPipe, Disk::UpToDate, Disk::DUnknown)
        };
        assert_eq!(
            state_change_83(PAIR, ns).text,
            "peer( Secondary -> Unknown ) conn( Connected -> BrokenPipe ) pdsk( UpToDate -> DUnknown ) susp( 0 -> 1 ) "
        );
        let paused = StateWord { conn: Conn::PausedSyncS, user_isp: true, ..PAIR };
        let running = StateWord { conn: Conn::SyncSource, ..PAIR };
        assert_eq!(
            state_change_83(running, paused).text,
            "conn( SyncSource -> PausedSyncS ) user_isp( 0 -> 1 ) "
        );
        let frozen = StateWord { susp_fen: true, ..PAIR };
        let both = StateWord { susp: true, ..frozen };
        assert_eq!(state_change_83(frozen, both).text, "");
    }

    /// spec/state.md 17.2 and 19.6.
    #[test]
    fn device_and_connection_lines_in_8_4() {
        let ns = StateWord {
            susp_fen: true,
            ..word(Role::Primary, Role::Unknown, Conn::BrokenPipe, Disk::UpToDate, Disk::DUnknown)
        };
        let (volumes, connection) = connection_change_84(&[(PAIR, ns)]);
        assert_eq!(volumes, [None]);
        assert_eq!(
            connection.unwrap().text,
            "peer( Secondary -> Unknown ) conn( Connected -> BrokenPipe ) pdsk( UpToDate -> DUnknown ) susp( 0 -> 1 ) "
        );

        let syncing = StateWord { conn: Conn::SyncSource, pdsk: Disk::Inconsistent, ..PAIR };
        let torn = StateWord { peer: Role::Unknown, conn: Conn::BrokenPipe, ..syncing };
        let ns = StateWord { susp_fen: false, ..ns };
        let (volumes, connection) = connection_change_84(&[(PAIR, ns), (syncing, torn)]);
        let volumes: Vec<_> = volumes.into_iter().map(|line| line.unwrap().text).collect();
        assert_eq!(
            volumes,
            [
                "conn( Connected -> BrokenPipe ) pdsk( UpToDate -> DUnknown ) ",
                "conn( SyncSource -> BrokenPipe ) "
            ]
        );
        assert_eq!(connection.unwrap().text, "peer( Secondary -> Unknown ) ");

        assert_eq!(volume_change_84(PAIR, PAIR), None);
        assert_eq!(connection_change_84(&[]), (Vec::new(), None));
        let suspended = StateWord { susp: true, ..PAIR };
        assert_eq!(volume_change_84(PAIR, suspended), None);
        assert_eq!(susp_change_84(PAIR, suspended).unwrap().text, "susp( 0 -> 1 ) ");
    }

    /// spec/state.md 19.6, resource-only: the Secondary disconnects.
    #[test]
    fn refusals() {
        let wanted = word(Role::Primary, Role::Unknown, Conn::TearDown, Disk::UpToDate, Disk::DUnknown);
        assert_eq!(
            texts(&refused_change(PAIR, wanted, StateError::PrimaryNop)),
            [
                "State change failed: Refusing to be Primary while peer is not outdated",
                "  state = { cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate r----- }",
                " wanted = { cs:TearDown ro:Primary/Unknown ds:UpToDate/DUnknown r----- }",
            ]
        );
        assert!(refused_change(PAIR, wanted, StateError::InTransientState).is_empty());
        let change = Change::conn(Conn::TearDown);
        assert_eq!(
            texts(&refused_connection_change(Conn::WFReportParams, change, StateError::PrimaryNop)),
            [
                "State change failed: Refusing to be Primary while peer is not outdated",
                " mask = 0x1f0 val = 0x70",
                " old_conn:WFReportParams wanted_conn:TearDown",
            ]
        );
        let outdate = Change::disk(Disk::Outdated);
        assert_eq!(
            texts(&refused_connection_change(Conn::WFConnection, outdate, StateError::NoUpToDateDisk))[1..],
            [" mask = 0x1e00 val = 0xa00", " old_conn:WFConnection wanted_conn:StandAlone",]
        );
        assert_eq!(
            refused_by_peer(-7).text,
            "Requested state change failed by peer: Refusing to be Primary while peer is not outdated (-7)"
        );
    }

    /// spec/state.md 19.2, 19.4, 19.5, 19.9.
    #[test]
    fn lines_of_the_examples() {
        let own = Uuids::from_slots([0xA811_0D13_2343_6314, 0x243B_A31F_A2FC_7F70, 0, 0]);
        let peer = PeerUuids {
            uuids: Uuids::from_slots([0x1860_DDCA_C8FB_D52B, 0, 0, 0]),
            bits: 1024,
            flags: UuidFlags::CRASHED_PRIMARY,
        };
        let lines = [
            own_uuids(&own, 2),
            peer_uuids(&peer),
            uuids(UuidEvent::SyncUuidOfTarget, &own),
            effective_uuid(UuidEvent::ReceiverUpdated, 0xDEB6_D415_98B3_F64E),
            began_resync(Conn::SyncSource, 8182),
            resync_done(false, 9, 0, 3636),
            helper_exit("/sbin/drbdadm", Handler::FencePeer, "r0", 0x400),
            helper_exit("H", Handler::BeforeResyncSource, "minor-0", -2),
        ];
        assert_eq!(
            texts(&lines),
            [
                "self A8110D1323436314:243BA31FA2FC7F70:0000000000000000:0000000000000000 bits:2 flags:0",
                "peer 1860DDCAC8FBD52B:0000000000000000:0000000000000000:0000000000000000 bits:1024 flags:2",
                "updated sync uuid A8110D1323436314:243BA31FA2FC7F70:0000000000000000:0000000000000000",
                "receiver updated UUIDs to effective data uuid: DEB6D41598B3F64E",
                "Began resync as SyncSource (will sync 32728 KB [8182 bits set]).",
                "Resync done (total 9 sec; paused 0 sec; 3636 K/sec)",
                "helper command: /sbin/drbdadm fence-peer r0 exit code 4 (0x400)",
                "helper command: H before-resync-source minor-0 exit code 255 (0xfffffffe)",
            ]
        );
        assert_eq!(device_prefix(0), "block drbd0: ");
        assert_eq!(resource_prefix("r0"), "drbd r0: ");
    }

    #[test]
    fn pretty_sizes() {
        assert_eq!(pretty_kib(0), "0 KB");
        assert_eq!(pretty_kib(9999), "9999 KB");
        assert_eq!(pretty_kib(32728), "32 MB");
        assert_eq!(pretty_kib(u64::MAX), "16384 EB");
    }
}
