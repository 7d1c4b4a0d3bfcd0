//! What a state permits the application and the resync to do. spec/state.md 5.5.

use crate::core::state::{Conn, Disk, Role, StateWord};

/// May a read be served by the own disk?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalRead {
    /// Always.
    Yes,
    /// Only if no block of it is marked out of sync.
    IfInSync,
    /// Never.
    No,
}

/// New application I/O may start as far as the state goes. The caller also looks at internal
/// suspension, bitmap I/O that waits, and the number of requests in flight.
pub fn may_accept_io(s: StateWord, apv: Option<u8>) -> bool {
    let conn_allows = match s.conn {
        // StartingSyncT is ours: a write that only this node got, and then the loss of the link, would leave
        // two copies that differ and equal generations.
        Conn::StartingSyncT | Conn::WFBitMapT | Conn::WFSyncUUID => false,
        Conn::WFBitMapS => has_out_of_sync(apv),
        _ => true,
    };
    !s.is_susp() && conn_allows && !matches!(s.disk, Disk::Attaching | Disk::Negotiating)
}

/// A write is sent to the peer.
pub fn replicates(s: StateWord) -> bool {
    s.pdsk == Disk::UpToDate
        || (s.pdsk >= Disk::Inconsistent && s.conn >= Conn::WFBitMapT && s.conn < Conn::Ahead)
}

/// A write is announced by P_OUT_OF_SYNC instead of being sent.
pub fn announces_out_of_sync(s: StateWord, apv: Option<u8>) -> bool {
    has_out_of_sync(apv) && matches!(s.conn, Conn::Ahead | Conn::WFBitMapS)
}

/// P_OUT_OF_SYNC exists from protocol 96 on. spec/wire.md 0.2.
fn has_out_of_sync(apv: Option<u8>) -> bool {
    apv.is_some_and(|apv| apv >= 96)
}

/// The own disk takes application I/O ("has ldev"). spec/state.md 1.2.
pub fn has_disk(s: StateWord) -> bool {
    s.disk >= Disk::Inconsistent
}

/// The meta data of the own disk may be used. spec/state.md 1.2.
pub fn has_metadata(s: StateWord) -> bool {
    s.disk >= Disk::Negotiating
}

/// A write can be carried out at all: somewhere to write, and good data on at least one side.
pub fn may_write(s: StateWord) -> bool {
    (has_disk(s) || replicates(s)) && (s.disk == Disk::UpToDate || s.pdsk == Disk::UpToDate)
}

/// May a read be served by the own disk?
pub fn local_read(s: StateWord) -> LocalRead {
    match s.disk {
        Disk::UpToDate => LocalRead::Yes,
        Disk::Inconsistent => LocalRead::IfInSync,
        _ => LocalRead::No,
    }
}

/// May a read be sent to the peer?
pub fn remote_read(s: StateWord) -> bool {
    s.pdsk == Disk::UpToDate
}

/// A Primary without an UpToDate disk on either side. spec/state.md 4.1 S12, 3.3 V12, 5.2 A3.
pub fn primary_without_data(s: StateWord) -> bool {
    s.role == Role::Primary && s.disk < Disk::UpToDate && s.pdsk < Disk::UpToDate
}
