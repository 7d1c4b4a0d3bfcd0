//! The colours of states on a terminal. spec/drbdsetup.md 7.5.

use crate::core::state::{Conn, Disk, Role};

/// What is on this node.
pub const LOCAL: Palette =
    Palette { primary: "\u{1b}[1;36m", good: "\u{1b}[1;32m", bad: "\u{1b}[1;31m", transitional: "\u{1b}[1m" };
/// What is on the peer.
pub const PEER: Palette =
    Palette { primary: "\u{1b}[36m", good: "\u{1b}[32m", bad: "\u{1b}[31m", transitional: "" };
const STOP: &str = "\u{1b}[0m";

/// Starts of escape sequences.
#[derive(Debug)]
pub struct Palette {
    primary: &'static str,
    /// All is well.
    pub good: &'static str,
    /// Something is wrong.
    pub bad: &'static str,
    transitional: &'static str,
}

impl Palette {
    /// Of a role; empty: none.
    pub fn role(&self, role: Role) -> &'static str {
        match role {
            Role::Primary => self.primary,
            Role::Secondary => "",
            Role::Unknown => self.transitional,
        }
    }

    /// Of a disk's state; empty: none.
    pub fn disk(&self, disk: Disk) -> &'static str {
        match disk {
            Disk::UpToDate => self.good,
            Disk::Diskless | Disk::Inconsistent | Disk::Outdated => self.bad,
            _ => self.transitional,
        }
    }
}

/// Of a connection's state; empty: none.
pub fn connection_color(cstate: Conn) -> &'static str {
    match cstate {
        Conn::StandAlone | Conn::WFConnection => LOCAL.bad,
        state if state >= Conn::WFReportParams => "",
        _ => LOCAL.transitional,
    }
}

/// Of a replication state; empty: none.
pub fn replication_color(conn: Conn) -> &'static str {
    match conn {
        Conn::SyncSource => PEER.bad,
        Conn::SyncTarget | Conn::PausedSyncT => LOCAL.bad,
        Conn::Connected | Conn::VerifyS | Conn::VerifyT | Conn::PausedSyncS | Conn::Ahead => "",
        Conn::Behind => LOCAL.transitional,
        _ => "",
    }
}

/// A word in a colour.
pub fn painted(color: &str, word: &str) -> String {
    if color.is_empty() {
        word.to_string()
    } else {
        format!("{color}{word}{STOP}")
    }
}
