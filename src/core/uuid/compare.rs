//! The comparison of two sets of generation identifiers. spec/state.md 10.2.

use super::{sync_uuid_of, without_role, PeerUuids, UuidFlags, Uuids, JUST_CREATED};

/// What two sets of identifiers say, from this node's point of view. spec/state.md 10.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// 0: the data are the same.
    NoResync,
    /// 1, 2: this node has the good data.
    Source {
        /// 2: the bitmap is of no use.
        full: bool,
    },
    /// -1, -2: the peer has the good data.
    Target {
        /// -2: the bitmap is of no use.
        full: bool,
    },
    /// 100: both changed the data since they parted; the bitmaps tell where.
    SplitBrain,
    /// -100: both changed the data, and the bitmaps do not tell where.
    SplitBrainWithoutBitmap,
    /// -1000: nothing in common.
    Unrelated,
    /// -1000 - n: a correction is due that needs protocol n on both sides.
    NeedsProtocol(u8),
    /// Below -0x10000: needs a protocol and feature flags on both sides.
    NeedsFeatures {
        /// Protocol version.
        protocol: u8,
        /// Feature flags.
        features: u8,
    },
}

impl Verdict {
    /// The number that `uuid_compare()=` logs.
    pub const fn number(self) -> i32 {
        match self {
            Verdict::NoResync => 0,
            Verdict::Source { full } => 1 + full as i32,
            Verdict::Target { full } => -1 - full as i32,
            Verdict::SplitBrain => 100,
            Verdict::SplitBrainWithoutBitmap => -100,
            Verdict::Unrelated => -1000,
            Verdict::NeedsProtocol(protocol) => -1000 - protocol as i32,
            Verdict::NeedsFeatures { protocol, features } => {
                -(0x1_0000 + protocol as i32 + ((features as i32) << 8))
            }
        }
    }

    /// What the other node finds when this node finds `self`.
    #[must_use]
    pub const fn mirrored(self) -> Verdict {
        match self {
            Verdict::Source { full } => Verdict::Target { full },
            Verdict::Target { full } => Verdict::Source { full },
            other => other,
        }
    }
}

/// What the comparison needs besides the identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompareContext {
    /// Agreed protocol version.
    pub apv: u8,
    /// Both sides announced feature flag 4 (WRITE_SAME): both know rule 41.
    pub feature_write_same: bool,
    /// In-core flag CRASHED_PRIMARY of this node.
    pub crashed_primary: bool,
    /// Arbiter flag of the connection.
    pub arbiter: bool,
    /// This node is Primary.
    pub self_primary: bool,
    /// The peer is Primary.
    pub peer_primary: bool,
}

/// A slot that is wrong because an event did not reach one side, and is put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Correction {
    /// Rule 34: this node was the source and missed the end of the resync (U12).
    OwnMissedFinish,
    /// Rule 35: the peer was the source and missed the end; its cached identifiers change.
    PeerMissedFinish,
    /// Rule 51: the last sync UUID did not arrive here; the peer's cached identifiers change.
    PeerLostSyncUuid,
    /// Rule 71: the last sync UUID did not arrive there (U13).
    OwnLostSyncUuid,
    /// Rule 90: the peer went on beside its target, and that from the generation that the peer had then; its cached identifiers change.
    PeerLeftBesideTarget,
    /// The same of this node.
    OwnLeftBesideTarget,
}

impl Correction {
    /// This node's identifiers change (and with them the super block), not the cached peer's.
    pub const fn is_own(self) -> bool {
        use Correction::{OwnLeftBesideTarget, OwnLostSyncUuid, OwnMissedFinish};
        matches!(self, OwnMissedFinish | OwnLostSyncUuid | OwnLeftBesideTarget)
    }

    /// Makes the correction.
    pub fn apply(self, own: &mut Uuids, peer: &mut Uuids) {
        match self {
            Correction::OwnMissedFinish => own.correct_missed_finish(),
            Correction::PeerMissedFinish => peer.correct_missed_finish(),
            Correction::PeerLostSyncUuid => peer.undo_resync_start(),
            Correction::OwnLostSyncUuid => own.undo_resync_start(),
            Correction::PeerLeftBesideTarget => peer.name_generation_beside_target(),
            Correction::OwnLeftBesideTarget => own.name_generation_beside_target(),
        }
    }
}

/// Outcome of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// What follows.
    pub verdict: Verdict,
    /// Number of the rule that decided, as logged.
    pub rule: u8,
    /// What is to be put right first.
    pub correction: Option<Correction>,
}

impl Comparison {
    const fn by(rule: u8, verdict: Verdict) -> Comparison {
        Comparison { verdict, rule, correction: None }
    }

    /// Rules that repair need protocol 91 on both sides.
    fn corrected(apv: u8, rule: u8, verdict: Verdict, correction: Correction) -> Comparison {
        if apv < APV_CORRECTIONS {
            return Self::by(rule, Verdict::NeedsProtocol(APV_CORRECTIONS));
        }
        Comparison { correction: Some(correction), ..Self::by(rule, verdict) }
    }

    /// What is logged about the rule itself, before the corrected dump. spec/state.md 10.2.
    pub const fn remark(&self) -> Option<&'static str> {
        if let (90, Some(correction)) = (self.rule, self.correction) {
            return Comparison { rule: if correction.is_own() { 71 } else { 51 }, ..*self }.remark();
        }
        Some(match (self.rule, self.verdict) {
            (_, Verdict::NeedsProtocol(_)) => return None,
            (34, _) => "was SyncSource, missed the resync finished event, corrected myself:",
            (35, _) => "was SyncTarget, peer missed the resync finished event, corrected peer:",
            (36, _) => "was SyncSource (peer failed to write sync_uuid)",
            (37, _) => "was SyncTarget (failed to write sync_uuid)",
            (51, _) => "Lost last syncUUID packet, corrected:",
            (71, _) => "Last syncUUID did not get through, corrected:",
            (41, Verdict::NeedsFeatures { .. }) => "Equivalent unrotated UUIDs, but current primary present.",
            (41, Verdict::SplitBrainWithoutBitmap) => {
                "Equivalent unrotated UUIDs, but both are primary. Can not resolve this."
            }
            _ => return None,
        })
    }
}

/// From this version on both sides know the rules that correct slots. spec/wire.md 0.2.
const APV_CORRECTIONS: u8 = 91;
/// From this version on the sync UUID tells what it was made of. spec/state.md 10.2.
const APV_BITMAP_OFFSET: u8 = 96;
/// What rule 41 asks of both sides.
const RULE_41: Verdict = Verdict::NeedsFeatures { protocol: 101, features: 4 };

const SOURCE: Verdict = Verdict::Source { full: false };
const SOURCE_FULL: Verdict = Verdict::Source { full: true };
const TARGET: Verdict = Verdict::Target { full: false };
const TARGET_FULL: Verdict = Verdict::Target { full: true };

/// Compares the own identifiers with the peer's; nothing is changed. spec/state.md 10.2, first
/// match in order. Both nodes compute it independently and come to mirrored results, except where
/// both CURRENT are 0 (both become target).
pub fn compare(own: &Uuids, peer: &PeerUuids, ctx: &CompareContext) -> Comparison {
    let s = masked(own);
    let p = masked(&peer.uuids);
    let fresh = |uuid: u64| uuid == JUST_CREATED || uuid == 0;

    if s.current == JUST_CREATED && p.current == JUST_CREATED {
        return Comparison::by(10, Verdict::NoResync);
    }
    if fresh(s.current) && p.current != JUST_CREATED {
        return Comparison::by(20, TARGET_FULL);
    }
    if s.current != JUST_CREATED && fresh(p.current) {
        return Comparison::by(30, SOURCE_FULL);
    }
    if s.current == p.current {
        compare_same_data(&s, &p, peer.flags, ctx)
    } else {
        let differ = compare_different_data(&s, &p, ctx.apv);
        match went_on_beside_target(own, &peer.uuids) {
            Some(correction) if differ.verdict == Verdict::Unrelated && ctx.apv >= APV_CORRECTIONS => {
                Comparison::corrected(ctx.apv, 90, Verdict::SplitBrain, correction)
            }
            _ => differ,
        }
    }
}

/// One of the two is a source that began a generation beside its target ([`Uuids::new_current_beside_target`]), and the other one went on from
/// the generation before that: it had ended that resync, or never begun it and was made Primary by force. Since the two were of that
/// generation each has in its bitmap all that it has written, the source also what the resync was for. (For DRBD the two are unrelated.)
fn went_on_beside_target(own: &Uuids, peer: &Uuids) -> Option<Correction> {
    let is_beside = |source: &Uuids, target: &Uuids| {
        let before = source.generation_beside_target().map(without_role);
        target.bitmap != 0 && before == Some(without_role(target.bitmap))
    };
    if is_beside(peer, own) {
        Some(Correction::PeerLeftBesideTarget)
    } else {
        is_beside(own, peer).then_some(Correction::OwnLeftBesideTarget)
    }
}

/// Rules 34 to 41: CURRENT is the same.
fn compare_same_data(s: &Uuids, p: &Uuids, peer_flags: UuidFlags, ctx: &CompareContext) -> Comparison {
    if p.bitmap == 0 && s.bitmap != 0 {
        if ctx.apv < APV_CORRECTIONS {
            return Comparison::by(30, Verdict::NeedsProtocol(APV_CORRECTIONS));
        }
        return if s.bitmap == p.history[0] && s.history[0] == p.history[1] {
            Comparison::corrected(ctx.apv, 34, SOURCE, Correction::OwnMissedFinish)
        } else {
            Comparison::by(36, SOURCE)
        };
    }
    if s.bitmap == 0 && p.bitmap != 0 {
        if ctx.apv < APV_CORRECTIONS {
            return Comparison::by(30, Verdict::NeedsProtocol(APV_CORRECTIONS));
        }
        return if s.history[0] == p.bitmap && s.history[1] == p.history[0] {
            Comparison::corrected(ctx.apv, 35, TARGET, Correction::PeerMissedFinish)
        } else {
            Comparison::by(37, TARGET)
        };
    }

    let peer_crashed = peer_flags.contains(UuidFlags::CRASHED_PRIMARY);
    let any_crashed = ctx.crashed_primary || peer_crashed;
    if any_crashed && (ctx.self_primary || ctx.peer_primary) {
        let verdict = match (ctx.self_primary, ctx.peer_primary) {
            _ if !ctx.feature_write_same => RULE_41,
            (true, true) => Verdict::SplitBrainWithoutBitmap,
            (true, false) => SOURCE,
            _ => TARGET,
        };
        return Comparison::by(41, verdict);
    }
    let verdict = match (ctx.crashed_primary, peer_crashed) {
        (false, false) => Verdict::NoResync,
        (true, false) => SOURCE,
        (false, true) => TARGET,
        (true, true) if ctx.arbiter => TARGET,
        (true, true) => SOURCE,
    };
    Comparison::by(40, verdict)
}

/// Rules 50 to 100: CURRENT differs.
fn compare_different_data(s: &Uuids, p: &Uuids, apv: u8) -> Comparison {
    // A resync was started by `source`, and `target` never got its sync UUID.
    let made_of = |source: &Uuids, target: &Uuids| {
        target.current == source.history[0] && sync_uuid_of(target.current) == source.bitmap
    };
    let lost_sync_uuid = |source: &Uuids, target: &Uuids| match apv < APV_BITMAP_OFFSET {
        true => target.current == source.history[0] && target.history[0] == source.history[1],
        false => made_of(source, target),
    };
    if s.current == p.bitmap {
        return Comparison::by(50, TARGET);
    }
    if lost_sync_uuid(p, s) {
        return Comparison::corrected(apv, 51, TARGET, Correction::PeerLostSyncUuid);
    }
    if p.history.contains(&s.current) {
        return Comparison::by(60, TARGET_FULL);
    }
    if s.bitmap == p.current {
        return Comparison::by(70, SOURCE);
    }
    if lost_sync_uuid(s, p) {
        return Comparison::corrected(apv, 71, SOURCE, Correction::OwnLostSyncUuid);
    }
    if s.history.contains(&p.current) {
        return Comparison::by(80, SOURCE_FULL);
    }
    if s.bitmap == p.bitmap && s.bitmap != 0 {
        return Comparison::by(90, Verdict::SplitBrain);
    }
    // Both went on from where a resync began of which the target never heard. (For DRBD the two are unrelated.) This program's sync
    // UUID tells at any version what it was made of, also where the source began a generation since, which moved its history.
    let forked = |source: &Uuids, target: &Uuids| {
        let before = Uuids { current: target.bitmap, ..*target };
        let is_fork = lost_sync_uuid(source, &before) || made_of(source, &before);
        source.bitmap != 0 && before.current != 0 && is_fork
    };
    for (is_fork, correction) in
        [(forked(p, s), Correction::PeerLostSyncUuid), (forked(s, p), Correction::OwnLostSyncUuid)]
    {
        if is_fork && apv >= APV_CORRECTIONS {
            return Comparison::corrected(apv, 90, Verdict::SplitBrain, correction);
        }
        if is_fork {
            return Comparison::by(100, Verdict::SplitBrainWithoutBitmap);
        }
    }
    // The source has ended it, which it does below protocol 95 without a word of its target if the resync is empty, and below 96 on its own count: the
    // target has not heard of it, or has come no further than the sync UUID. The bitmaps tell of all that was written since, as they do where it
    // has not ended.
    let ended_alone = |source: &Uuids, target: &Uuids| {
        let [ended, before] = source.history;
        let is_random = [source.current, source.bitmap].iter().any(|uuid| uuid >> 32 == ended >> 32);
        let unheard = target.bitmap == before && ended == sync_uuid_of(before);
        let heard = target.bitmap == ended && (ended == sync_uuid_of(before) || is_random);
        ![0, JUST_CREATED].contains(&target.bitmap) && (unheard || heard)
    };
    if ended_alone(p, s) || ended_alone(s, p) {
        return Comparison::by(100, Verdict::SplitBrainWithoutBitmap);
    }
    // Zero slots match each other too: unrelated disks without history are a split brain.
    if s.history.iter().any(|uuid| p.history.contains(uuid)) {
        return Comparison::by(100, Verdict::SplitBrainWithoutBitmap);
    }
    Comparison::by(100, Verdict::Unrelated)
}

fn masked(uuids: &Uuids) -> Uuids {
    Uuids::from_slots(uuids.slots().map(without_role))
}
