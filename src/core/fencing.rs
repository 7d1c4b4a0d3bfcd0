//! What the exit code of the fence-peer handler says. spec/state.md 14.2.

use super::log_lines::LogLine;
use super::rules::ChangeKind;
use super::state::{Change, Conn, Disk, Role};
use super::types::VolumeIndex;
use super::Resource;
use crate::conf::settings::Fencing;

/// What became of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FenceOutcome {
    /// 3: its disk is Inconsistent or worse.
    PeerInconsistent,
    /// 4: it is outdated.
    PeerOutdated,
    /// 5 on an UpToDate disk: assumed to be dead.
    PeerUnreachable,
    /// 5 otherwise: nothing is known.
    Unknown,
    /// 6: it is Primary, this node must give way.
    PeerPrimary,
    /// 7: it was shot.
    PeerStonithed,
    /// Anything else: the handler is broken or not configured. Frozen I/O stays frozen.
    Broken,
}

/// Meaning of an exit code; `disk`: own disk state. spec/state.md 14.2 step 4.
pub fn outcome(exit_code: i32, disk: Disk) -> FenceOutcome {
    match exit_code {
        3 => FenceOutcome::PeerInconsistent,
        4 => FenceOutcome::PeerOutdated,
        5 if disk == Disk::UpToDate => FenceOutcome::PeerUnreachable,
        5 => FenceOutcome::Unknown,
        6 => FenceOutcome::PeerPrimary,
        7 => FenceOutcome::PeerStonithed,
        _ => FenceOutcome::Broken,
    }
}

impl FenceOutcome {
    /// The text in parentheses.
    const fn text(self) -> &'static str {
        match self {
            FenceOutcome::PeerInconsistent => "peer is inconsistent or worse",
            FenceOutcome::PeerOutdated => "peer was fenced",
            FenceOutcome::PeerUnreachable => "peer is unreachable, assumed to be dead",
            FenceOutcome::Unknown => "peer unreachable, doing nothing since disk != UpToDate",
            FenceOutcome::PeerPrimary => "peer is active",
            FenceOutcome::PeerStonithed => "peer was stonithed",
            FenceOutcome::Broken => "",
        }
    }

    /// The line about the result. spec/state.md 14.2 steps 4, 5.
    pub fn log(self, exit_code: i32) -> LogLine {
        match self {
            FenceOutcome::Broken => LogLine::error(format!("fence-peer helper broken, returned {exit_code}")),
            known => LogLine::info(format!("fence-peer helper returned {exit_code} ({})", known.text())),
        }
    }

    /// A line that comes before [`Self::log`], for outcomes that deserve one.
    pub fn warning(self, policy: Fencing) -> Option<LogLine> {
        match self {
            FenceOutcome::PeerPrimary => Some(LogLine::warning("Peer is primary, outdating myself.")),
            FenceOutcome::PeerStonithed if policy != Fencing::ResourceAndStonith => {
                Some(LogLine::error("fence-peer() = 7 && fencing != Stonith !!!"))
            }
            _ => None,
        }
    }

    /// The request that follows, to be made only below WFReportParams and without STATE_SENT.
    pub fn change(self) -> Option<Change> {
        match self {
            FenceOutcome::PeerInconsistent => Some(Change::pdsk(Disk::Inconsistent)),
            FenceOutcome::PeerOutdated | FenceOutcome::PeerUnreachable | FenceOutcome::PeerStonithed => {
                Some(Change::pdsk(Disk::Outdated))
            }
            FenceOutcome::PeerPrimary => Some(Change::disk(Disk::Outdated)),
            FenceOutcome::Unknown | FenceOutcome::Broken => None,
        }
    }
}

impl Resource {
    /// The result of fence-peer, asynchronous case. spec/state.md 14.2.
    pub(super) fn fenced(&mut self, v: VolumeIndex, exit_status: i32, meetings: u64) {
        if !self.may_use_fence_outcome(v, meetings) {
            return;
        }
        let code = exit_status >> 8 & 0xff;
        let outcome = match outcome(code, self.state(v).disk) {
            FenceOutcome::Broken if mutant!("fence-answer-ignored") => FenceOutcome::PeerOutdated,
            outcome => outcome,
        };
        self.log_fence_outcome(v, outcome, code);
        if let Some(change) = self.change_by_fencing(v, outcome) {
            if self.connection.state < Conn::WFReportParams && !self.connection.state_sent {
                let _ = self.change(v, change, ChangeKind::Soft, true);
            }
        }
    }

    /// The request that follows. A Primary that worked with this node's data when the link was lost, without a disk or as the target of
    /// a resync, has no newer ones: it needs these. (DRBD outdates them, and takes them for good again when the two meet.)
    pub(super) fn change_by_fencing(&self, v: VolumeIndex, outcome: FenceOutcome) -> Option<Change> {
        let needed = outcome == FenceOutcome::PeerPrimary && self.volumes[v].served_primary;
        outcome.change().filter(|_| !needed)
    }

    /// Whether the peer is Primary, and works with the data of this node: it has no disk, or an old one.
    pub(super) fn serves_primary(&self, v: VolumeIndex) -> bool {
        let (volume, state) = (&self.volumes[v], self.state(v));
        // Whether it has taken these data it may not have said, nor whether it has given up good ones for them.
        let without_disk =
            state.pdsk < Disk::Inconsistent && (volume.served_primary || !volume.generation_awaits_peer);
        let inconsistent = state.conn == Conn::Connected && state.pdsk == Disk::Inconsistent;
        // It may have its disk back, and goes on with these data until a resync to that has ended.
        let unbegun =
            state.conn == Conn::WFBitMapS || state.conn.is_sync_source() && !volume.resync.target_began;
        let attached = volume.served_primary && unbegun;
        let old = inconsistent || attached || self.target_is_old(v);
        state.peer == Role::Primary && (without_disk || old)
    }

    /// Whether the peer was out of reach for as long as the handler ran: since its disk was outdated it may have become
    /// good again by a handshake. `meetings`: how many there had been when the handler began. (DRBD counts the links that got
    /// as far as Connected on this node; the peer may have been there before this node was.) spec/state.md 14.2 step 6.
    pub(super) fn may_use_fence_outcome(&mut self, v: VolumeIndex, meetings: u64) -> bool {
        let valid = meetings == self.connection.meetings;
        if !valid {
            self.info(Some(v), "Ignoring fence-peer exit code");
        }
        valid
    }

    /// What the log says of it: a warning first where one is due.
    pub(super) fn log_fence_outcome(&mut self, v: VolumeIndex, outcome: FenceOutcome, code: i32) {
        let warning = outcome.warning(self.fencing(v));
        if let Some(line) = warning.filter(|_| self.change_by_fencing(v, outcome) == outcome.change()) {
            self.log_line(Some(v), line);
        }
        self.log_line(Some(v), outcome.log(code));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// spec/state.md 14.2 and 19.6.
    #[test]
    fn exit_codes() {
        let outdated = Some(Change::pdsk(Disk::Outdated));
        for (code, disk, change, text) in [
            (
                3,
                Disk::UpToDate,
                Some(Change::pdsk(Disk::Inconsistent)),
                "fence-peer helper returned 3 (peer is inconsistent or worse)",
            ),
            (4, Disk::Consistent, outdated, "fence-peer helper returned 4 (peer was fenced)"),
            (
                5,
                Disk::UpToDate,
                outdated,
                "fence-peer helper returned 5 (peer is unreachable, assumed to be dead)",
            ),
            (
                5,
                Disk::Consistent,
                None,
                "fence-peer helper returned 5 (peer unreachable, doing nothing since disk != UpToDate)",
            ),
            (
                6,
                Disk::UpToDate,
                Some(Change::disk(Disk::Outdated)),
                "fence-peer helper returned 6 (peer is active)",
            ),
            (7, Disk::UpToDate, outdated, "fence-peer helper returned 7 (peer was stonithed)"),
            (0, Disk::UpToDate, None, "fence-peer helper broken, returned 0"),
            (1, Disk::UpToDate, None, "fence-peer helper broken, returned 1"),
        ] {
            let outcome = outcome(code, disk);
            assert_eq!(outcome.change(), change);
            assert_eq!(outcome.log(code).text, text);
        }
        let stonithed = outcome(7, Disk::UpToDate);
        assert!(stonithed.warning(Fencing::ResourceOnly).is_some());
        assert!(stonithed.warning(Fencing::ResourceAndStonith).is_none());
        assert_eq!(
            outcome(6, Disk::UpToDate).warning(Fencing::ResourceOnly).unwrap().text,
            "Peer is primary, outdating myself."
        );
    }
}
