use super::*;
use crate::core::state::Change;
use proptest::prelude::*;
use Disk::*;
use Role::{Primary, Secondary, Unknown};

const CONNECTED: RuleContext = RuleContext {
    has_net_config: true,
    apv: Some(101),
    verify_alg_set: true,
    effective_uuid_is_current: true,
    ..RuleContext::UNCONFIGURED
};

fn word(role: Role, peer: Role, conn: Conn, disk: Disk, pdsk: Disk) -> StateWord {
    StateWord { role, peer, conn, disk, pdsk, ..StateWord::UNCONFIGURED }
}

/// Primary/Secondary, Connected, UpToDate/UpToDate.
fn pair() -> StateWord {
    word(Primary, Secondary, Conn::Connected, UpToDate, UpToDate)
}

fn committed(os: StateWord, change: Change, kind: ChangeKind, ctx: &RuleContext) -> StateWord {
    match decide(os, change.apply(os), kind, ctx) {
        Ok(Decision::Commit { ns, .. }) => ns,
        other => panic!("{os} with {change:?}: {other:?}"),
    }
}

fn refused(os: StateWord, change: Change, ctx: &RuleContext) -> StateError {
    match decide(os, change.apply(os), ChangeKind::Soft, ctx) {
        Err(refusal) => refusal.error,
        other => panic!("{os} with {change:?}: {other:?}"),
    }
}

/// The first lines of spec/state.md 19.6: losing the peer.
#[test]
fn losing_the_connection_forgets_the_peer() {
    let ns = committed(pair(), Change::conn(Conn::BrokenPipe), ChangeKind::Hard, &CONNECTED);
    assert_eq!(ns, word(Primary, Unknown, Conn::BrokenPipe, UpToDate, DUnknown));
    let stonith = RuleContext { fencing: Fencing::ResourceAndStonith, ..CONNECTED };
    let ns = committed(pair(), Change::conn(Conn::NetworkFailure), ChangeKind::Hard, &stonith);
    assert!(ns.susp_fen);
    let outdated = Change::conn(Conn::Disconnecting).and(Change::pdsk(Outdated));
    let ns = committed(pair(), outdated, ChangeKind::Soft, &stonith);
    assert_eq!((ns.pdsk, ns.susp_fen), (Outdated, false));
}

/// spec/state.md 19.6: the Secondary disconnects from a Primary with fencing.
#[test]
fn primary_with_fencing_refuses_to_let_the_peer_go() {
    let ctx = RuleContext { fencing: Fencing::ResourceOnly, ..CONNECTED };
    let tear_down = Change::conn(Conn::Disconnecting).seen_by_peer();
    let refusal = decide(pair(), tear_down.apply(pair()), ChangeKind::SoftKeepingDisk, &ctx).unwrap_err();
    assert_eq!(refusal.error, StateError::PrimaryNop);
    assert_eq!(refusal.wanted.to_string(), "cs:TearDown ro:Primary/Unknown ds:UpToDate/DUnknown r-----");
    let outdates_itself = Change::conn(Conn::Disconnecting).and(Change::disk(Outdated)).seen_by_peer();
    let ns = committed(pair(), outdates_itself, ChangeKind::SoftKeepingDisk, &ctx);
    assert_eq!(ns, word(Primary, Unknown, Conn::TearDown, UpToDate, Outdated));
}

#[test]
fn a_disk_below_outdated_is_kept_when_the_peer_disconnects() {
    let os = word(Secondary, Primary, Conn::Connected, Diskless, UpToDate);
    let request = Change::conn(Conn::TearDown).and(Change::disk(Outdated));
    assert_eq!(refused(os, request, &CONNECTED), StateError::LowerThanOutdated);
    let ns = committed(os, request, ChangeKind::SoftKeepingDisk, &CONNECTED);
    assert_eq!((ns.disk, ns.conn), (Diskless, Conn::TearDown));
}

/// spec/state.md 19.9.
#[test]
fn outdate_while_connected_changes_nothing() {
    let os = pair().seen_by_peer();
    let os = StateWord { conn: Conn::Connected, ..os };
    let wanted = Change::disk(Outdated).apply(os);
    assert_eq!(decide(os, wanted, ChangeKind::Soft, &CONNECTED), Ok(Decision::Unchanged));
}

/// Codes of commands, spec/state.md 7.3 and 19.9.
#[test]
fn refusals_of_commands() {
    let alone = word(Secondary, Unknown, Conn::StandAlone, UpToDate, DUnknown);
    let waiting = word(Secondary, Unknown, Conn::WFConnection, UpToDate, DUnknown);
    let unconfigured = StateWord::UNCONFIGURED;
    let up = Change::role(Primary);
    for (os, change, error) in [
        (word(Secondary, Primary, Conn::Connected, UpToDate, UpToDate), up, StateError::TwoPrimaries),
        (unconfigured, up, StateError::NoUpToDateDisk),
        (word(Secondary, Unknown, Conn::StandAlone, Inconsistent, DUnknown), up, StateError::NoUpToDateDisk),
        (
            word(Primary, Unknown, Conn::StandAlone, UpToDate, DUnknown),
            Change::disk(Outdated),
            StateError::NoUpToDateDisk,
        ),
        (
            word(Secondary, Unknown, Conn::StandAlone, Inconsistent, DUnknown),
            Change::disk(Outdated),
            StateError::LowerThanOutdated,
        ),
        (alone, Change::conn(Conn::Disconnecting), StateError::AlreadyStandAlone),
        (waiting, Change::conn(Conn::StartingSyncT), StateError::NeedConnection),
        (waiting, Change::conn(Conn::VerifyS), StateError::NeedConnection),
        (
            word(Secondary, Secondary, Conn::Connected, Inconsistent, Inconsistent),
            Change::conn(Conn::VerifyS),
            StateError::NoUpToDateDisk,
        ),
        (
            word(Primary, Secondary, Conn::Connected, UpToDate, Inconsistent),
            Change::conn(Conn::VerifyT),
            StateError::NoUpToDateDisk,
        ),
        (
            word(Secondary, Primary, Conn::Connected, Inconsistent, UpToDate),
            Change::conn(Conn::VerifyS),
            StateError::NoUpToDateDisk,
        ),
        (
            word(Primary, Secondary, Conn::Connected, UpToDate, Inconsistent),
            Change::disk(Failed),
            StateError::NoUpToDateDisk,
        ),
        (
            word(Secondary, Secondary, Conn::SyncSource, UpToDate, Inconsistent),
            Change::conn(Conn::StartingSyncS),
            StateError::ResyncRunning,
        ),
        (
            word(Secondary, Unknown, Conn::Unconnected, UpToDate, DUnknown),
            Change::conn(Conn::Disconnecting),
            StateError::InTransientState,
        ),
        (
            waiting,
            Change::conn(Conn::Disconnecting).and(Change::pdsk(Outdated)),
            StateError::OutdateWithoutConnection,
        ),
    ] {
        assert_eq!(refused(os, change, &CONNECTED), error, "{os} {change:?}");
    }
    // "outdate" of a disk that is not there: T5 comes after T3 and decides.
    assert_eq!(refused(unconfigured, Change::disk(Outdated), &CONNECTED), StateError::LowerThanOutdated);
    let open = RuleContext { open_count: 1, ..CONNECTED };
    assert_eq!(refused(pair(), Change::role(Secondary), &open), StateError::DeviceInUse);
}

#[test]
fn two_primaries_by_another_volume() {
    let os = word(Secondary, Secondary, Conn::Connected, UpToDate, UpToDate);
    let ctx = RuleContext { other_volume_peer_primary: true, ..CONNECTED };
    assert_eq!(refused(os, Change::role(Primary), &ctx), StateError::OtherVolumePeerPrimary);
    let allowed = RuleContext { allow_two_primaries: true, ..ctx };
    assert_eq!(committed(os, Change::role(Primary), ChangeKind::Soft, &allowed).role, Primary);
}

/// STATE_SENT lets only the connection itself go on. spec/state.md 3.4 T8'.
#[test]
fn between_own_state_and_the_peers_only_conn_changes() {
    let ctx = RuleContext { state_sent: true, ..CONNECTED };
    let os = word(Secondary, Unknown, Conn::WFConnection, UpToDate, DUnknown);
    assert_eq!(refused(os, Change::role(Primary), &ctx), StateError::InTransientState);
    let os = committed(os, Change::conn(Conn::WFReportParams), ChangeKind::Soft, &ctx);
    assert_eq!(refused(os, Change::role(Primary), &ctx), StateError::InTransientState);
    assert_eq!(refused(os, Change::conn(Conn::Disconnecting), &ctx), StateError::InTransientState);
    let connect = Change::conn(Conn::Connected).and(Change::peer(Secondary)).and(Change::pdsk(UpToDate));
    committed(os, connect, ChangeKind::Soft, &ctx);
}

/// A demotion inside the handshake always fails. spec/state.md 3.4 last line, 10.4.
#[test]
fn no_demotion_inside_the_handshake() {
    let ctx = RuleContext { state_sent: true, ..CONNECTED };
    let os = word(Primary, Unknown, Conn::WFReportParams, UpToDate, DUnknown);
    assert_eq!(refused(os, Change::role(Secondary), &ctx), StateError::InTransientState);
}

/// An old state that is invalid for the same reason does not block an unrelated change.
/// spec/state.md 3.2 step 4; but 6.2 has no such exemption.
#[test]
fn a_state_invalid_before_may_stay_so() {
    let os = word(Primary, Unknown, Conn::WFConnection, Diskless, DUnknown);
    assert_eq!(valid_state(os, &CONNECTED), Err(StateError::NoUpToDateDisk));
    let ns = committed(os, Change::susp(true), ChangeKind::Soft, &CONNECTED);
    assert!(ns.susp);
    assert_eq!(
        check_request(os, Change::susp(true).apply(os), &CONNECTED).map_err(|r| r.error),
        Err(StateError::NoUpToDateDisk)
    );
}

/// The first failure of a connection counts, and nothing but StandAlone follows Disconnecting.
#[test]
fn hard_transition_list() {
    use Conn::*;
    let at = |conn| word(Secondary, Unknown, conn, UpToDate, DUnknown);
    let hard = |old, new| hard_transition(at(old), at(new));
    assert_eq!(hard(BrokenPipe, NetworkFailure), Err(StateError::InTransientState));
    assert_eq!(hard(Disconnecting, BrokenPipe), Err(StateError::InTransientState));
    assert_eq!(hard(StandAlone, BrokenPipe), Err(StateError::NeedConnection));
    assert_eq!(hard(StandAlone, Disconnecting), Err(StateError::AlreadyStandAlone));
    assert_eq!(hard(WFConnection, Connected), Err(StateError::NeedConnection));
    assert_eq!(hard(WFReportParams, Connected), Ok(()));
    assert_eq!(hard(WFConnection, Disconnecting), Ok(()));
    assert_eq!(hard(TearDown, Unconnected), Ok(()));
    assert_eq!(hard(Disconnecting, StandAlone), Ok(()));
    assert_eq!(hard(StandAlone, Unconnected), Ok(()));
    let diskless = word(Secondary, Unknown, WFConnection, Diskless, DUnknown);
    let failed = StateWord { disk: Failed, ..diskless };
    assert_eq!(hard_transition(diskless, failed), Err(StateError::IsDiskless));
}

#[test]
fn cluster_wide_changes() {
    let both = word(Secondary, Secondary, Conn::Connected, UpToDate, UpToDate);
    let wide = |os: StateWord, change: Change| {
        let (ns, _) = sanitize(os, change.apply(os), &CONNECTED);
        is_cluster_wide(os, ns)
    };
    assert!(wide(both, Change::role(Primary)));
    assert!(wide(both, Change::disk(Failed)));
    assert!(wide(both, Change::conn(Conn::StartingSyncS)));
    assert!(wide(both, Change::conn(Conn::VerifyS)));
    assert!(wide(both, Change::conn(Conn::Disconnecting)));
    assert!(!wide(pair(), Change::role(Secondary)));
    assert!(!wide(pair(), Change::user_isp(true)));
    assert!(!wide(both, Change::conn(Conn::BrokenPipe)));
    let alone = word(Secondary, Unknown, Conn::WFConnection, UpToDate, DUnknown);
    assert!(!wide(alone, Change::role(Primary)));
    assert!(!wide(alone, Change::conn(Conn::Disconnecting)));
}

/// The disk states of a resync, spec/state.md 11.1 and 19.7.
#[test]
fn disk_states_follow_the_connection() {
    let handshake = word(Secondary, Unknown, Conn::WFReportParams, UpToDate, DUnknown);
    let peer_reports = |conn| Change::conn(conn).and(Change::peer(Secondary)).and(Change::pdsk(UpToDate));
    let go = |conn| committed(handshake, peer_reports(conn), ChangeKind::Soft, &CONNECTED);
    let source = go(Conn::WFBitMapS);
    assert_eq!((source.disk, source.pdsk), (UpToDate, Consistent));
    let target = go(Conn::WFBitMapT);
    assert_eq!((target.disk, target.pdsk), (Outdated, UpToDate));
    let target = committed(target, Change::conn(Conn::WFSyncUUID), ChangeKind::Soft, &CONNECTED);
    let target = committed(
        target,
        Change::conn(Conn::SyncTarget).and(Change::disk(Inconsistent)),
        ChangeKind::Soft,
        &CONNECTED,
    );
    assert_eq!((target.disk, target.pdsk), (Inconsistent, UpToDate));
    let paused = committed(target, Change::user_isp(true), ChangeKind::Soft, &CONNECTED);
    assert_eq!(paused.conn, Conn::PausedSyncT);
    let (attached, warning) = {
        let os = word(Primary, Secondary, Conn::Connected, Negotiating, UpToDate);
        sanitize(os, Change::conn(Conn::WFBitMapT).apply(os), &CONNECTED)
    };
    assert_eq!(attached.disk, Inconsistent);
    assert_eq!(warning, Some(SanitizeWarning::UpgradedDisk));
}

#[test]
fn losing_a_disk_ends_resync_and_verify() {
    let os = word(Primary, Secondary, Conn::SyncSource, UpToDate, Inconsistent);
    let (ns, warning) = sanitize(os, Change::pdsk(Failed).apply(os), &CONNECTED);
    assert_eq!((ns.conn, ns.pdsk), (Conn::Connected, Failed));
    assert_eq!(warning, Some(SanitizeWarning::ResyncAborted));
    let os = word(Primary, Secondary, Conn::VerifyS, UpToDate, UpToDate);
    let (ns, warning) = sanitize(os, Change::pdsk(Failed).apply(os), &CONNECTED);
    assert_eq!(ns.conn, Conn::Connected);
    assert_eq!(warning, Some(SanitizeWarning::VerifyAborted));
}

/// Old data become good by a handshake only. Stricter than spec/state.md 4.1 S9.
#[test]
fn old_data_stay_old_when_the_source_loses_its_disk() {
    for conn in [Conn::WFBitMapT, Conn::WFSyncUUID] {
        let os = word(Secondary, Secondary, conn, Outdated, UpToDate);
        let failed = committed(os, Change::pdsk(Failed), ChangeKind::Hard, &CONNECTED);
        assert_eq!((failed.conn, failed.disk, failed.pdsk), (Conn::Connected, Outdated, Failed));
        let diskless = committed(failed, Change::pdsk(Diskless), ChangeKind::Hard, &CONNECTED);
        assert_eq!((diskless.disk, diskless.pdsk), (Outdated, Diskless));
        assert_eq!(refused(diskless, Change::role(Primary), &CONNECTED), StateError::NoUpToDateDisk);
    }
    // But for space that was added all was good.
    let grown = RuleContext { lacks_new_space_only: true, ..CONNECTED };
    let os = word(Secondary, Primary, Conn::WFSyncUUID, Outdated, UpToDate);
    let failed = committed(os, Change::pdsk(Failed), ChangeKind::Hard, &grown);
    assert_eq!((failed.conn, failed.disk, failed.pdsk), (Conn::Connected, UpToDate, Failed));
    let lost = committed(os, Change::conn(Conn::BrokenPipe), ChangeKind::Hard, &grown);
    assert_eq!((lost.conn, lost.disk), (Conn::BrokenPipe, Outdated));

    let os = word(Secondary, Secondary, Conn::WFBitMapS, UpToDate, Consistent);
    let failed = committed(os, Change::disk(Failed), ChangeKind::Hard, &CONNECTED);
    assert_eq!((failed.conn, failed.disk, failed.pdsk), (Conn::Connected, Failed, Outdated));

    let handshake = word(Secondary, Unknown, Conn::WFReportParams, Outdated, DUnknown);
    let beside = |pdsk| {
        let change = Change::conn(Conn::Connected).and(Change::peer(Secondary)).and(Change::pdsk(pdsk));
        committed(handshake, change, ChangeKind::Soft, &CONNECTED)
    };
    assert_eq!(beside(UpToDate).disk, UpToDate);
    assert_eq!(beside(Diskless).disk, Outdated);
    let connected = word(Secondary, Secondary, Conn::Connected, UpToDate, Diskless);
    let (same, _) = sanitize(connected, Change::disk(Outdated).apply(connected), &CONNECTED);
    assert_eq!(same, connected, "a connected disk cannot be outdated");
}

/// Attach while connected, link lost before the handshake. spec/state.md 4.1 S8.
#[test]
fn losing_the_link_while_negotiating() {
    let os = word(Secondary, Primary, Conn::Connected, Negotiating, UpToDate);
    let lost = Change::conn(Conn::NetworkFailure).apply(os);
    let known = RuleContext { negotiation_result: Some((Consistent, DUnknown)), ..CONNECTED };
    let (ns, warning) = sanitize(os, lost, &known);
    assert_eq!((ns.disk, ns.pdsk, warning), (Consistent, DUnknown, None));
    let other_data = RuleContext { effective_uuid_is_current: false, ..known };
    let (ns, warning) = sanitize(os, lost, &other_data);
    assert_eq!((ns.disk, ns.pdsk), (Diskless, DUnknown));
    assert_eq!(warning, Some(SanitizeWarning::LostWhileNegotiating));
}

/// spec/state.md 19.9: diskless Primary loses the peer, suspend-io.
#[test]
fn no_data_accessible_suspends() {
    let os = word(Primary, Secondary, Conn::Connected, Diskless, UpToDate);
    let ctx = RuleContext { on_no_data: OnNoData::SuspendIo, ..CONNECTED };
    let ns = committed(os, Change::conn(Conn::Timeout), ChangeKind::Hard, &ctx);
    assert!(ns.susp_nod && ns.is_susp());
    assert!(!may_accept_io(ns, Some(101)));
}

/// spec/state.md 5.5.
#[test]
fn permissions_of_states() {
    let ahead = word(Primary, Secondary, Conn::Ahead, UpToDate, Consistent);
    assert!(!replicates(ahead) && announces_out_of_sync(ahead, Some(96)));
    let source = word(Primary, Secondary, Conn::WFBitMapS, UpToDate, Consistent);
    assert!(!replicates(source));
    assert!(may_accept_io(source, Some(96)) && !may_accept_io(source, Some(95)));
    let sync = word(Primary, Secondary, Conn::SyncSource, UpToDate, Inconsistent);
    assert!(replicates(sync) && may_write(sync));
    let target = word(Primary, Secondary, Conn::SyncTarget, Inconsistent, UpToDate);
    assert_eq!(local_read(target), LocalRead::IfInSync);
    assert!(remote_read(target) && replicates(target));
    let diskless = word(Primary, Secondary, Conn::Connected, Diskless, UpToDate);
    assert!(may_write(diskless) && local_read(diskless) == LocalRead::No);
    let lost = word(Primary, Unknown, Conn::WFConnection, Diskless, DUnknown);
    assert!(!may_write(lost) && !remote_read(lost));
    assert!(!may_accept_io(word(Primary, Secondary, Conn::WFBitMapT, Outdated, UpToDate), Some(101)));
    assert!(!may_accept_io(word(Primary, Secondary, Conn::StartingSyncT, Outdated, UpToDate), Some(101)));
}

fn any_word() -> impl Strategy<Value = StateWord> {
    let role = || prop::sample::select(Role::ALL);
    let disk = || prop::sample::select(Disk::ALL);
    let conn = prop::sample::select(Conn::ALL);
    (role(), role(), conn, disk(), disk(), any::<u8>()).prop_map(|(role, peer, conn, disk, pdsk, bits)| {
        StateWord {
            susp: bits & 1 != 0,
            aftr_isp: bits & 2 != 0,
            peer_isp: bits & 4 != 0,
            user_isp: bits & 8 != 0,
            susp_nod: bits & 16 != 0,
            susp_fen: bits & 32 != 0,
            ..word(role, peer, conn, disk, pdsk)
        }
    })
}

fn any_context() -> impl Strategy<Value = RuleContext> {
    let fencing =
        prop::sample::select(&[Fencing::DontCare, Fencing::ResourceOnly, Fencing::ResourceAndStonith]);
    (fencing, any::<[bool; 8]>(), 86u8..=101).prop_map(|(fencing, b, apv)| RuleContext {
        fencing,
        on_no_data: if b[0] { OnNoData::SuspendIo } else { OnNoData::IoError },
        allow_two_primaries: b[1],
        has_net_config: b[2],
        other_volume_peer_primary: b[3],
        open_count: u32::from(b[4]),
        apv: Some(apv),
        verify_alg_set: b[5],
        state_sent: b[6],
        negotiation_result: b[7].then_some((Consistent, DUnknown)),
        effective_uuid_is_current: true,
        lacks_new_space_only: false,
    })
}

proptest! {
    /// Twice is once, apart from what S14 (resuming a paused resync) and S8 (negotiation lost)
    /// leave for the next pass, as in DRBD.
    #[test]
    fn sanitize_is_idempotent(os in any_word(), wanted in any_word(), ctx in any_context()) {
        let (once, _) = sanitize(os, wanted, &ctx);
        let resumes = matches!(wanted.conn, Conn::PausedSyncS | Conn::PausedSyncT) && !wanted.is_sync_paused();
        if wanted.disk != Negotiating && !resumes {
            let (twice, _) = sanitize(os, once, &ctx);
            prop_assert_eq!(once, twice);
        }
    }

    /// A disconnected node never claims to know a peer that is up.
    #[test]
    fn disconnected_states_know_no_peer(os in any_word(), wanted in any_word(), ctx in any_context()) {
        let (ns, _) = sanitize(os, wanted, &ctx);
        if ns.conn < Conn::Connected {
            prop_assert!(ns.peer == Unknown && !ns.peer_isp);
            prop_assert!((Inconsistent..=DUnknown).contains(&ns.pdsk));
        }
    }

    /// A hard change is stopped by the hard list only, and a soft one by no less.
    #[test]
    fn soft_implies_hard(os in any_word(), wanted in any_word(), ctx in any_context()) {
        let soft = decide(os, wanted, ChangeKind::Soft, &ctx);
        let hard = decide(os, wanted, ChangeKind::Hard, &ctx);
        if soft.is_ok() {
            prop_assert_eq!(soft, hard);
        }
        if let Ok(Decision::Commit { ns, .. }) = hard {
            prop_assert_eq!(hard_transition(os, ns), Ok(()));
        }
    }

    /// Replicated and announced at once would be sent twice.
    #[test]
    fn a_write_is_sent_or_announced(s in any_word(), ctx in any_context()) {
        let (s, _) = sanitize(s, s, &ctx);
        prop_assert!(!(replicates(s) && announces_out_of_sync(s, ctx.apv)));
    }
}
