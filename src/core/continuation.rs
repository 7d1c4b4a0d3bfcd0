//! Whether an application may go on after the daemon died under it: the data must still be those that it saw.
//!
//! A kernel device can outlive the daemon that served it, with a file system mounted on it that knows what it has read
//! and written. Nothing else may ever appear behind it: not what the peer wrote in the meantime, not another copy. So
//! the disk that a crashed Primary left counts as continued from its attachment on, until anything happens that could
//! change a block of it other than the application's own writes; that is for good. And the peer has to have been asked:
//! only the handshake tells whether it has newer data.

use super::resource::Resource;
use super::state::{Conn, Disk, Role, StateWord};
use super::types::VolumeIndex;

/// Whether the data stay those of the crash in this state.
pub(super) fn keeps_data(s: StateWord) -> bool {
    let target = matches!(
        s.conn,
        Conn::StartingSyncT | Conn::WFBitMapT | Conn::WFSyncUUID | Conn::SyncTarget | Conn::PausedSyncT
    );
    let disk = matches!(s.disk, Disk::Attaching | Disk::Negotiating | Disk::Consistent | Disk::UpToDate);
    disk && !target && s.conn != Conn::Behind && s.peer != Role::Primary
}

impl Resource {
    /// Whether the data of the volume may still turn out to be those that its application saw when the daemon died,
    /// which knew the generation `seen`. Once `false`, it stays so.
    pub fn may_continue(&self, v: VolumeIndex, seen: u64) -> bool {
        let volume = self.volume(v);
        let one_primary = !self.net.as_ref().is_some_and(|net| net.allow_two_primaries);
        let known = volume.disk.as_ref().is_some_and(|disk| disk.uuids.has(seen));
        volume.left_by_crash && one_primary && known
    }

    /// Whether they are: this node's disk is UpToDate, and a peer has said that it is Secondary and has nothing newer.
    pub fn continues(&self, v: VolumeIndex, seen: u64) -> bool {
        let s = self.volume(v).state;
        let asked =
            matches!(s.conn, Conn::Connected | Conn::WFBitMapS | Conn::SyncSource | Conn::PausedSyncS);
        let answered =
            matches!(s.pdsk, Disk::Inconsistent | Disk::Outdated | Disk::Consistent | Disk::UpToDate);
        self.may_continue(v, seen)
            && asked
            && answered
            && s.disk == Disk::UpToDate
            && s.peer == Role::Secondary
    }
}
