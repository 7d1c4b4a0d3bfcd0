//! The flags of the super block that follow the state, and what they say at the next attach.
//! spec/state.md 13.1 to 13.3. The bits themselves: [`MetaFlags`].

use super::state::{Conn, Disk, Role, StateWord};
use crate::conf::settings::Fencing;
use crate::meta::flags::MetaFlags;

/// Whether blocks change here that after a crash only this node's activity log tells of: it is
/// Primary, or a Primary without a disk writes here. spec/state.md 13.1, PRIMARY_IND.
pub fn has_primary_mark(s: StateWord) -> bool {
    s.role == Role::Primary || (s.pdsk < Disk::Inconsistent && s.peer == Role::Primary)
}

/// Whether the peer's disk counts as old: what PEER_OUT_DATED stands for.
fn peer_is_old(s: StateWord) -> bool {
    s.pdsk >= Disk::Inconsistent && s.pdsk <= Disk::Outdated
}

/// The flags after a committed change. Below Inconsistent they stay as they are (so a Primary that
/// detaches leaves PRIMARY_IND). Bits that do not follow the state are carried along, but AL_CLEAN
/// is cleared: the log is in use. spec/state.md 13.1.
pub fn recomputed(old: MetaFlags, s: StateWord, crashed_primary: bool) -> MetaFlags {
    if s.disk < Disk::Inconsistent {
        return old;
    }
    // The target of a resync is done before its source hears of it, or has never begun. (DRBD calls it outdated.)
    let resyncs = s.conn.is_sync_source() || matches!(s.conn, Conn::StartingSyncS | Conn::WFBitMapS);
    let peer_outdated = peer_is_old(s) && !resyncs;
    let connected = s.conn > Conn::WFReportParams;
    let mut flags = old;
    let crashed_primary = crashed_primary && !mutant!("crash-not-kept");
    for (flag, on) in [
        (MetaFlags::CONSISTENT, s.disk > Disk::Inconsistent || mutant!("inconsistent-not-kept")),
        (MetaFlags::PRIMARY_IND, has_primary_mark(s) && !mutant!("primary-mark-lost")),
        (MetaFlags::CONNECTED_IND, connected && !mutant!("connected-mark-lost")),
        (MetaFlags::WAS_UP_TO_DATE, s.disk > Disk::Outdated),
        (MetaFlags::PEER_OUT_DATED, peer_outdated),
        (MetaFlags::CRASHED_PRIMARY, crashed_primary),
        (MetaFlags::AL_CLEAN, false),
    ] {
        flags.set(flag, on);
    }
    flags
}

/// What is shown of the flags of a disk in use: as DRBD does, the target of a resync counts as outdated.
pub fn shown(flags: MetaFlags, s: StateWord) -> MetaFlags {
    let mut shown = flags;
    if peer_is_old(s) {
        shown.set(MetaFlags::PEER_OUT_DATED, true);
    }
    shown
}

/// What the flags on the disk say about how the node went down. spec/state.md 13.3 steps 17, 18.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastLife {
    /// In-core flag CRASHED_PRIMARY.
    pub crashed_primary: bool,
    /// The crash is discovered now: the blocks of active extents are to be marked out of sync.
    pub discovered: bool,
    /// It was Primary without a peer: `degr-wfc-timeout` applies.
    pub degraded: bool,
}

/// `s`: the state while attaching. spec/state.md 13.3 steps 17, 18.
pub fn last_life(flags: MetaFlags, s: StateWord) -> LastLife {
    let was_primary = flags.contains(MetaFlags::PRIMARY_IND);
    // A frozen Primary that gets its disk back did not crash.
    let discovered = was_primary && !(s.role == Role::Primary && s.susp_nod);
    LastLife {
        crashed_primary: (flags.contains(MetaFlags::CRASHED_PRIMARY) || discovered)
            && !mutant!("crash-not-seen"),
        discovered,
        degraded: s.role != Role::Primary && was_primary && !flags.contains(MetaFlags::CONNECTED_IND),
    }
}

/// What happens to the bitmap at attach. spec/state.md 13.3 steps 21, 22 and 8.4 differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BitmapAtAttach {
    /// Set all bits and write them: it must have been done and was not finished, or nobody knows
    /// what was written (crashed without activity log).
    SetAll,
    /// Read it.
    Read {
        /// Then set the bits of the active extents and write.
        mark_active_extents: bool,
    },
}

/// Which bits are to be believed. spec/state.md 13.3 steps 21, 22.
pub fn bitmap_at_attach(flags: MetaFlags, life: LastLife) -> BitmapAtAttach {
    // Also for a frozen Primary that gets its disk back: not a crash, but if the disk had failed its last
    // bits were not written, and the log on disk is all that tells of them.
    let was_primary = flags.contains(MetaFlags::PRIMARY_IND);
    let log_was_off = (life.crashed_primary || was_primary) && flags.contains(MetaFlags::AL_DISABLED);
    if flags.contains(MetaFlags::FULL_SYNC) || log_was_off {
        BitmapAtAttach::SetAll
    } else {
        BitmapAtAttach::Read { mark_active_extents: was_primary }
    }
}

/// Disk states that an attach ends with: own and the peer's. While connected they are only
/// remembered, and the disk becomes Negotiating. spec/state.md 13.2.
pub fn disk_after_attach(flags: MetaFlags, fencing: Fencing) -> (Disk, Disk) {
    let peer_outdated = flags.contains(MetaFlags::PEER_OUT_DATED);
    let disk = if !flags.contains(MetaFlags::CONSISTENT) {
        Disk::Inconsistent
    } else if !flags.contains(MetaFlags::WAS_UP_TO_DATE) {
        Disk::Outdated
    } else if peer_outdated || fencing == Fencing::DontCare {
        Disk::UpToDate
    } else {
        Disk::Consistent
    };
    (disk, if peer_outdated { Disk::Outdated } else { Disk::DUnknown })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flags in get-gi order: CONSISTENT:WAS_UP_TO_DATE:PRIMARY:CONNECTED:FULL_SYNC:
    /// PEER_OUT_DATED:CRASHED.
    fn flags(text: &str) -> MetaFlags {
        let mut flags = MetaFlags::NONE;
        for (digit, &flag) in text.split(':').zip(&MetaFlags::GENERATION_FLAGS) {
            flags.set(flag, digit == "1");
        }
        flags
    }

    fn printed(flags: MetaFlags) -> String {
        let digits: Vec<_> = MetaFlags::GENERATION_FLAGS
            .iter()
            .map(|&flag| if flags.contains(flag) { "1" } else { "0" })
            .collect();
        digits.join(":")
    }

    const PAIR: StateWord = StateWord {
        role: Role::Primary,
        peer: Role::Secondary,
        conn: Conn::Connected,
        disk: Disk::UpToDate,
        pdsk: Disk::UpToDate,
        ..StateWord::UNCONFIGURED
    };

    /// spec/state.md 19.8.
    #[test]
    fn attach_states() {
        for (text, dont_care, fencing) in [
            ("0:0:0:0:0:0:0", Disk::Inconsistent, Disk::Inconsistent),
            ("1:0:0:0:0:0:0", Disk::Outdated, Disk::Outdated),
            ("1:0:0:0:1:0:0", Disk::Outdated, Disk::Outdated),
            ("1:1:0:0:0:0:0", Disk::UpToDate, Disk::Consistent),
            ("1:1:0:0:1:0:0", Disk::UpToDate, Disk::Consistent),
            ("1:1:1:0:0:0:0", Disk::UpToDate, Disk::Consistent),
            ("1:1:1:1:0:0:0", Disk::UpToDate, Disk::Consistent),
        ] {
            let flags = flags(text);
            let no_peer = |disk| (disk, Disk::DUnknown);
            assert_eq!(disk_after_attach(flags, Fencing::DontCare), no_peer(dont_care), "{text}");
            assert_eq!(disk_after_attach(flags, Fencing::ResourceOnly), no_peer(fencing), "{text}");
        }
        let fenced = flags("1:1:0:0:0:1:0");
        assert_eq!(disk_after_attach(fenced, Fencing::ResourceAndStonith), (Disk::UpToDate, Disk::Outdated));
    }

    /// The flags of spec/state.md 19.3.
    #[test]
    fn flags_of_a_pair() {
        let of = |s| printed(recomputed(MetaFlags::AL_CLEAN, s, false));
        let fresh =
            StateWord { role: Role::Secondary, disk: Disk::Inconsistent, pdsk: Disk::Inconsistent, ..PAIR };
        assert_eq!(of(fresh), "0:0:0:1:0:1:0");
        assert_eq!(of(StateWord { role: Role::Secondary, ..PAIR }), "1:1:0:1:0:0:0");
        assert_eq!(of(PAIR), "1:1:1:1:0:0:0");
        let alone = StateWord { conn: Conn::WFConnection, peer: Role::Unknown, pdsk: Disk::DUnknown, ..PAIR };
        assert_eq!(of(alone), "1:1:1:0:0:0:0");
        let outdated = StateWord { role: Role::Secondary, disk: Disk::Outdated, ..alone };
        assert_eq!(of(outdated), "1:0:0:0:0:0:0");
        let diskless_primary =
            StateWord { role: Role::Secondary, peer: Role::Primary, pdsk: Disk::Diskless, ..PAIR };
        assert_eq!(of(diskless_primary), "1:1:1:1:0:0:0");
    }

    #[test]
    fn a_disk_on_its_way_out_keeps_its_flags() {
        for disk in [Disk::Failed, Disk::Diskless, Disk::Attaching, Disk::Negotiating] {
            let primary = flags("1:1:1:1:0:0:0");
            assert_eq!(recomputed(primary, StateWord { disk, ..PAIR }, false), primary);
        }
    }

    #[test]
    fn unknown_bits_and_full_sync_stay() {
        let old = MetaFlags(0x8000_0000) | MetaFlags::FULL_SYNC | MetaFlags::AL_DISABLED;
        let new = recomputed(old, PAIR, true);
        assert!(new.contains(old) && new.contains(MetaFlags::CRASHED_PRIMARY));
    }

    /// spec/state.md 13.3 steps 17, 18, 21, 22 and 19.9.
    #[test]
    fn crashes_are_discovered() {
        let attaching = StateWord { disk: Disk::Attaching, ..StateWord::UNCONFIGURED };
        let crashed = last_life(flags("1:1:1:1:0:0:0"), attaching);
        assert_eq!(crashed, LastLife { crashed_primary: true, discovered: true, degraded: false });
        assert_eq!(
            bitmap_at_attach(flags("1:1:1:1:0:0:0"), crashed),
            BitmapAtAttach::Read { mark_active_extents: true }
        );
        let alone = last_life(flags("1:1:1:0:0:0:0"), attaching);
        assert!(alone.degraded && alone.discovered);
        let again = last_life(flags("1:1:0:1:0:0:1"), attaching);
        assert_eq!(again, LastLife { crashed_primary: true, discovered: false, degraded: false });
        let clean = last_life(flags("1:1:0:1:0:0:0"), attaching);
        assert!(!clean.crashed_primary && !clean.degraded);

        let frozen = StateWord { role: Role::Primary, susp_nod: true, ..attaching };
        let back = last_life(flags("1:1:1:1:0:0:0"), frozen);
        assert!(!back.crashed_primary && !back.discovered);
        assert_eq!(
            bitmap_at_attach(flags("1:1:1:1:0:0:0"), back),
            BitmapAtAttach::Read { mark_active_extents: true }
        );

        assert_eq!(bitmap_at_attach(flags("1:1:0:0:1:0:0"), clean), BitmapAtAttach::SetAll);
        let without_log = flags("1:1:1:1:0:0:0") | MetaFlags::AL_DISABLED;
        assert_eq!(bitmap_at_attach(without_log, crashed), BitmapAtAttach::SetAll);
        assert_eq!(bitmap_at_attach(without_log, back), BitmapAtAttach::SetAll);
        let without_log = flags("1:1:0:1:0:0:0") | MetaFlags::AL_DISABLED;
        assert_eq!(bitmap_at_attach(without_log, clean), BitmapAtAttach::Read { mark_active_extents: false });
    }
}
