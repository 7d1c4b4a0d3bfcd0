//! The size of the device: what both disks can hold, what was agreed, what the user wants.
//! spec/state.md 12. All sizes are in sectors.

use super::codes::ConfigCode;
use super::log_lines::{pretty_kib, LogLine};
use super::state::{Conn, Disk, Role, StateWord};

/// Sizes that the agreed one is made of. 0: not known, not wanted. spec/state.md 12.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Own maximum (m_size): what the backing device has room for; 0 diskless.
    pub own_max: u64,
    /// The peer's maximum from its last P_SIZES (p_size).
    pub peer_max: u64,
    /// Last agreed size, from the own meta data (la_size).
    pub last_agreed: u64,
    /// What a Primary has shown without its disk, which is being attached: without a peer's disk it counts like the last agreed size.
    pub shown: u64,
    /// Limit set by the user (u_size).
    pub user: u64,
}

/// Flags of a resize, `dds_flags` of P_SIZES. spec/state.md 12.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResizeFlags {
    /// Go on without the peer, it has the room.
    pub assume_peer_has_space: bool,
    /// The new area is the same on both sides.
    pub no_resync: bool,
}

/// A size, and what is to be logged about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sized {
    /// Sectors.
    pub sectors: u64,
    /// Lines, in order.
    pub lines: Vec<LogLine>,
}

/// The size that the limits give. spec/state.md 12.2.
pub fn new_size(limits: &Limits, conn: Conn, assume_peer_has_space: bool) -> Sized {
    let mut lines = Vec::new();
    let own = limits.own_max;
    let peer = if conn < Conn::Connected && assume_peer_has_space {
        lines.push(LogLine::warning("Resize while not connected was forced by the user!"));
        own
    } else {
        limits.peer_max
    };
    let mut sectors = match (own, peer) {
        (own, peer) if own != 0 && peer != 0 && mutant!("peer-size-ignored") => own.max(peer),
        (own, peer) if own != 0 && peer != 0 => own.min(peer),
        (own, peer) if limits.last_agreed != 0 => {
            smaller_unless_zero(limits.last_agreed.max(limits.shown), smaller_unless_zero(own, peer))
        }
        (0, peer) => peer,
        (own, _) => own,
    };
    if sectors == 0 {
        lines.push(LogLine::error("Both nodes diskless!"));
    }
    if limits.user > sectors {
        lines.push(LogLine::error(format!(
            "Requested disk size is too big ({} > {})",
            limits.user >> 1,
            sectors >> 1
        )));
    } else if limits.user != 0 {
        sectors = limits.user;
    }
    Sized { sectors, lines }
}

/// The smaller of those that are not 0.
pub(super) fn smaller_unless_zero(a: u64, b: u64) -> u64 {
    match (a, b) {
        (0, other) | (other, 0) => other,
        (a, b) => a.min(b),
    }
}

/// How the size moved. spec/state.md 12.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeChange {
    /// As it was.
    Unchanged,
    /// Larger than agreed before.
    Grew,
    /// There was no agreed size: the meta data are new. No new area that needs a resync.
    GrewFromZero,
    /// Smaller than agreed before.
    Shrank,
}

/// What to do to bring a size into effect. spec/state.md 12.3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResizePlan {
    /// The exposed size and, in the meta data, the last agreed size from now on.
    pub sectors: u64,
    /// The bitmap must get the capacity for `sectors`; bits of the new area are set, unless
    /// this says no. Without memory: [`bitmap_failed`], nothing is changed.
    pub resize_bitmap: Option<NewBits>,
    /// What changed of the bitmap must be written, then the super block; this line comes before.
    pub write_bitmap: Option<LogLine>,
    /// How the size moved.
    pub change: SizeChange,
    /// Lines before anything is done.
    pub lines: Vec<LogLine>,
    /// Line once the bitmap has the capacity: `size = ...`.
    pub resized_line: Option<LogLine>,
}

/// Bits of an area that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewBits {
    /// Out of sync.
    Set,
    /// In sync (assume-clean).
    Clear,
}

/// What [`determine_size`] looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DetermineInput {
    /// With `own_max` for the present size of the backing device.
    pub limits: Limits,
    /// Connection state.
    pub conn: Conn,
    /// Flags of the resize; none at attach.
    pub flags: ResizeFlags,
    /// Size that the device shows now (c_size).
    pub exposed: u64,
    /// Size that the bitmap in memory covers.
    pub bitmap_sectors: u64,
}

/// The size from now on and how to get there. Application I/O is suspended meanwhile. Needs a
/// disk. spec/state.md 12.3.
pub fn determine_size(input: &DetermineInput) -> ResizePlan {
    let assume = input.flags.assume_peer_has_space;
    let Sized { sectors, lines } = new_size(&input.limits, input.conn, assume);
    let last_agreed = input.limits.last_agreed;
    let new_bits = if input.flags.no_resync { NewBits::Clear } else { NewBits::Set };
    let resizes = sectors != input.exposed || sectors != input.bitmap_sectors;
    ResizePlan {
        sectors,
        resize_bitmap: resizes.then_some(new_bits),
        write_bitmap: (sectors != last_agreed)
            .then(|| LogLine::info("Writing the whole bitmap, size changed")),
        change: match sectors.cmp(&last_agreed) {
            std::cmp::Ordering::Equal => SizeChange::Unchanged,
            std::cmp::Ordering::Less => SizeChange::Shrank,
            std::cmp::Ordering::Greater if last_agreed == 0 => SizeChange::GrewFromZero,
            std::cmp::Ordering::Greater => SizeChange::Grew,
        },
        lines,
        resized_line: resizes
            .then(|| LogLine::info(format!("size = {} ({} KB)", pretty_kib(sectors >> 1), sectors >> 1))),
    }
}

/// No memory for a larger bitmap: the size stays. spec/state.md 12.3.
pub fn bitmap_failed(exposed: u64) -> LogLine {
    LogLine::error(if exposed == 0 {
        "OUT OF MEMORY! Could not allocate bitmap!".to_owned()
    } else {
        format!("BM resizing failed. Leaving size unchanged at size = {} KB", exposed >> 1)
    })
}

/// P_SIZES of the peer, as far as sizes go. spec/wire.md 4.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeerSizes {
    /// Its maximum; 0 diskless.
    pub d_size: u64,
    /// Its user's limit.
    pub u_size: u64,
    /// What it exposes; 0: it wants an answer.
    pub c_size: u64,
    /// Flags of its resize.
    pub flags: ResizeFlags,
}

impl PeerSizes {
    /// Whether the peer wants an answer.
    pub fn is_question(&self) -> bool {
        self.c_size == 0
    }
}

/// P_SIZES of this node that the peer is to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeQuestion {
    /// The limit that its user has set, sectors; 0: none.
    pub user: u64,
    /// Size of the device before that, sectors.
    pub before: u64,
    /// What it said of this node's disk: the room there, sectors.
    pub room: u64,
    /// This node has grown, from so many sectors, and goes by the answer: RESIZE_PENDING.
    pub grown_from: Option<u64>,
    /// Its flag: new space is the same on both disks.
    pub no_resync: bool,
}

impl SizeQuestion {
    /// The largest device that the peer may show when it has heard of this, before its answer comes, sectors.
    pub fn largest(&self) -> u64 {
        smaller_unless_zero(self.user, self.room)
    }
}

/// The limit that counts of two that users set at the same time, one at each node; `before`: size of the device before either. The
/// larger one, so that no device shows space that is taken away again; but if one of them makes the device smaller, the smaller one: no
/// space is cut off that has to be resynced then.
pub fn user_limit_of_both(a: u64, b: u64, before: u64) -> u64 {
    let shrinks = |limit: u64| limit != 0 && limit < before;
    if shrinks(a) || shrinks(b) {
        smaller_unless_zero(a, b)
    } else if a == 0 || b == 0 {
        0
    } else {
        a.max(b)
    }
}

/// A size in P_SIZES that ends the connection: these lines, then hard Disconnecting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizeRefused {
    /// Lines, in order.
    pub lines: Vec<LogLine>,
}

/// What follows from P_SIZES of the peer. spec/state.md 12.4 steps 2 to 5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizesAccepted {
    /// Lines, in order.
    pub lines: Vec<LogLine>,
    /// The user's limit from now on, if the peer's is taken over.
    pub adopt_user_size: Option<u64>,
    /// What to do next.
    pub next: AfterSizes,
}

/// Next step after P_SIZES.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterSizes {
    /// [`determine_size`] with the new limits and the peer's flags, then dirty meta data are
    /// written.
    DetermineSize,
    /// No disk here: the device shows this size.
    Expose(u64),
    /// Nothing.
    Keep,
}

/// P_SIZES received; `limits.peer_max` is still the old value and becomes `peer.d_size` unless the
/// peer is refused. Rules of 8.4. spec/state.md 12.4 steps 2 to 5.
///
/// The device of a Primary does not shrink under its application, whatever its own disk is: without one
/// (step 5) or with data that are not good the application goes on with the peer's. (DRBD refuses only for a disk that may be good.)
///
/// # Errors
/// The sizes do not go together.
pub fn receive_sizes(
    s: StateWord,
    limits: &Limits,
    exposed: u64,
    peer: &PeerSizes,
) -> Result<SizesAccepted, SizeRefused> {
    if s.disk < Disk::Negotiating {
        return receive_sizes_diskless(s, exposed, peer);
    }
    let mut lines = Vec::new();
    considerable_difference(&mut lines, "lower level device sizes", peer.d_size, limits.own_max);
    considerable_difference(&mut lines, "user requested size", peer.u_size, limits.user);

    let user = if s.conn == Conn::WFReportParams {
        smaller_unless_zero(limits.user, peer.u_size)
    } else {
        peer.u_size
    };
    let candidate = Limits { peer_max: peer.d_size, user, ..*limits };
    let in_use = s.disk >= Disk::Outdated || s.role == Role::Primary;
    if in_use && (s.conn < Conn::Connected || s.pdsk == Disk::Diskless) {
        let fits = new_size(&candidate, s.conn, false);
        if fits.sectors < exposed && !mutant!("small-peer-accepted") {
            lines.extend(fits.lines);
            lines.push(LogLine::error(format!(
                "The peer's disk size is too small! ({} < {exposed} sectors)",
                fits.sectors
            )));
            return Err(SizeRefused { lines });
        }
    }
    let adopt_user_size = (user != limits.user).then_some(user);
    if adopt_user_size.is_some() {
        lines.push(LogLine::info(format!("Peer sets u_size to {user} sectors (old: {})", limits.user)));
    }
    Ok(SizesAccepted { lines, adopt_user_size, next: AfterSizes::DetermineSize })
}

/// Step 5 without a disk: the peer says how large the device is.
fn receive_sizes_diskless(
    s: StateWord,
    exposed: u64,
    peer: &PeerSizes,
) -> Result<SizesAccepted, SizeRefused> {
    let candidate = [peer.c_size, peer.u_size, peer.d_size].into_iter().find(|&size| size != 0).unwrap_or(0);
    let mut lines = Vec::new();
    // A question tells what the peer has room for, not how large its device is. (DRBD takes the one for the other.) The
    // answer to this node's answer tells.
    let asks = peer.c_size == 0 && s.conn > Conn::WFReportParams && exposed != 0;
    let next = if asks || candidate == 0 || candidate == exposed {
        AfterSizes::Keep
    } else if exposed != 0 && peer.d_size == 0 {
        lines.push(LogLine::warning(format!(
            "Ignored diskless peer device size (peer:{candidate} != me:{exposed} sectors)!"
        )));
        AfterSizes::Keep
    } else if candidate < exposed && s.role == Role::Primary {
        lines.push(LogLine::error(format!(
            "The peer's device size is too small! ({candidate} < {exposed} sectors); demote me first!"
        )));
        return Err(SizeRefused { lines });
    } else {
        AfterSizes::Expose(candidate)
    };
    Ok(SizesAccepted { lines, adopt_user_size: None, next })
}

/// Warns if one differs from the other by more than an eighth of either.
fn considerable_difference(lines: &mut Vec<LogLine>, what: &str, peers: u64, own: u64) {
    let difference = peers.abs_diff(own);
    if peers != 0 && own != 0 && (difference > peers / 8 || difference > own / 8) {
        lines.push(LogLine::warning(format!("Considerable difference in {what}: {peers}s vs. {own}s")));
    }
}

/// What is sent or started after a size came into effect. spec/state.md 12.4 step 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SizeReaction {
    /// P_SIZES, no answer wanted, with the peer's flags.
    pub send_sizes: bool,
    /// The new area needs a resync now, or does not (assume-clean, logged).
    pub new_area: Option<NewArea>,
}

/// What happens to an area that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewArea {
    /// Resync now, [`grown_area_source`] says from where.
    Resync,
    /// [`ASSUME_CLEAN`] is logged.
    AssumeClean,
    /// RESYNC_AFTER_NEG := 1: when both disks are there.
    AfterNegotiation,
}

/// Logged for [`NewArea::Resync`].
pub const GROWN_AREA: &str = "Resync of new storage after online grow";
/// Logged for [`NewArea::AssumeClean`].
pub const ASSUME_CLEAN: &str = "Resync of new storage suppressed with --assume-clean";

/// After P_SIZES came into effect. `exposed`: the size now; `backing_changed`: the own backing
/// device is of another size than before; `answered`: it answers a question of this node, which has grown.
/// spec/state.md 12.4 step 7.
///
/// A peer that shows less grows when it hears of this device, and has a new area then, though this node may see nothing grow: both take part
/// in its resync. (In DRBD the peer alone waits for it.)
pub fn after_sizes(
    s: StateWord,
    peer: &PeerSizes,
    exposed: u64,
    backing_changed: bool,
    answered: bool,
    change: SizeChange,
) -> SizeReaction {
    if s.conn <= Conn::WFReportParams {
        return SizeReaction::default();
    }
    let has_disks = s.disk >= Disk::Negotiating && peer.d_size != 0;
    let peer_grows = has_disks && !peer.is_question() && peer.c_size < exposed;
    let grows = change == SizeChange::Grew || peer_grows;
    let has_new_area = answered || (grows && s.conn == Conn::Connected);
    let both_disks = s.disk >= Disk::Inconsistent && s.pdsk >= Disk::Inconsistent;
    SizeReaction {
        send_sizes: peer.c_size != exposed || backing_changed,
        new_area: has_new_area.then_some(match (both_disks, peer.flags.no_resync) {
            (false, _) => NewArea::AfterNegotiation,
            (true, true) => NewArea::AssumeClean,
            (true, false) => NewArea::Resync,
        }),
    }
}

/// This node is the source of the resync of a grown area: the Primary if the roles differ, else
/// the arbiter. spec/state.md 12.5. Unless only one of the disks is good: that one is. (DRBD goes by the roles, and takes
/// the disk of a Primary for good that failed under `on-io-error pass_on`.)
pub fn grown_area_source(s: StateWord, arbiter: bool) -> bool {
    let (own_is_good, peer_is_good) = (s.disk == Disk::UpToDate, s.pdsk == Disk::UpToDate);
    if own_is_good != peer_is_good {
        own_is_good
    } else if s.role == s.peer {
        arbiter
    } else {
        s.role == Role::Primary
    }
}

/// Whether internal meta data would move into the part of the device that is in use: the backing device
/// became smaller than what is `exposed`, and the user did not ask for so little. spec/state.md 12.3.
pub fn implicit_shrink(maximum: u64, exposed: u64, user: u64) -> Option<LogLine> {
    let asked_for = user != 0 && user <= maximum;
    (maximum < exposed && !asked_for).then(|| not_implicitly(maximum))
}

/// Whether a `resize` would make the device smaller, which its user did not ask for: the device was not larger than `size` when the
/// command came (`shown`), and has grown since (`exposed`), at this node or at the peer. An application may use that. `size`: 0: no limit.
pub fn late_shrink(size: u64, shown: u64, exposed: u64) -> Option<LogLine> {
    let shrinks = size != 0 && size < exposed;
    (shrinks && size >= shown).then(|| not_implicitly(size))
}

fn not_implicitly(size: u64) -> LogLine {
    LogLine::warning(format!("Implicit shrink not allowed. Use --size={size}s for explicit shrink."))
}

/// May the `resize` command run? spec/state.md 12.5.
///
/// # Errors
/// Disk, resync, role or protocol forbid it.
pub fn check_resize(s: StateWord, apv: Option<u8>, flags: ResizeFlags) -> Result<(), ConfigCode> {
    if s.disk < Disk::Inconsistent {
        return Err(ConfigCode::NoDisk);
    }
    if s.conn > Conn::Connected {
        return Err(ConfigCode::ResizeDuringResync);
    }
    if s.role == Role::Secondary && s.peer == Role::Secondary {
        return Err(ConfigCode::NoPrimary);
    }
    if flags.no_resync && apv.is_some_and(|apv| apv < 93) {
        return Err(ConfigCode::NeedApv93);
    }
    Ok(())
}

/// A disk whose meta data say CONSISTENT may not be attached with a smaller size than agreed,
/// unless the user asked for exactly that size (then a warning). spec/state.md 13.3 step 14.
///
/// # Errors
/// The line to log, code 170.
pub fn check_truncation(size: u64, limits: &Limits) -> Result<Option<LogLine>, (ConfigCode, LogLine)> {
    let agreed = limits.last_agreed;
    if size >= agreed {
        Ok(None)
    } else if size == limits.user {
        Ok(Some(LogLine::warning(format!(
            "truncating a consistent device during attach ({size} < {agreed})"
        ))))
    } else {
        let line = LogLine::warning(format!("refusing to truncate a consistent device ({size} < {agreed})"));
        Err((ConfigCode::ImplicitShrink, line))
    }
}

/// Largest request that this implementation sends or takes, bytes. spec/state.md 12.6, 8.4.
pub const MAX_BIO_BYTES: u32 = 1 << 20;
/// Largest request of protocols 95 to 99, bytes.
const MAX_BIO_BYTES_95: u32 = 128 << 10;
/// Largest request of protocols up to 94, bytes.
const MAX_BIO_BYTES_94: u32 = 32 << 10;
/// What the peer takes at least, before it said anything, bytes.
const MIN_BIO_BYTES: u32 = 4096;

/// `max_bio_size` in P_SIZES. `backing`: limit of the backing device; `None`: diskless.
/// spec/state.md 12.6.
pub fn bio_bytes_to_send(apv: u8, backing: Option<u32>) -> u32 {
    let own = backing.unwrap_or(MAX_BIO_BYTES).min(MAX_BIO_BYTES);
    match apv {
        ..=94 => MAX_BIO_BYTES_94,
        95..=99 => own.min(MAX_BIO_BYTES_95),
        _ => own,
    }
}

/// The largest request in effect. `peer`: from P_SIZES, or as remembered in the meta data;
/// `apv`: `None` while conn < WFReportParams. spec/state.md 12.6.
pub fn bio_bytes_in_effect(apv: Option<u8>, backing: Option<u32>, peer: u32) -> u32 {
    let peer = match apv {
        None => peer.max(MIN_BIO_BYTES),
        Some(..=93) => peer.clamp(MIN_BIO_BYTES, MAX_BIO_BYTES_94),
        Some(94) => MAX_BIO_BYTES_94,
        Some(95..=99) => MAX_BIO_BYTES_95,
        Some(_) => MAX_BIO_BYTES,
    };
    backing.unwrap_or(MAX_BIO_BYTES).min(MAX_BIO_BYTES).min(peer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECONDARY: StateWord =
        StateWord { conn: Conn::WFReportParams, disk: Disk::UpToDate, ..StateWord::UNCONFIGURED };
    const PAIR: StateWord = StateWord {
        role: Role::Primary,
        peer: Role::Secondary,
        conn: Conn::Connected,
        pdsk: Disk::UpToDate,
        ..SECONDARY
    };

    fn limits(own_max: u64, peer_max: u64, last_agreed: u64, user: u64) -> Limits {
        Limits { own_max, peer_max, last_agreed, shown: 0, user }
    }

    fn texts(lines: &[LogLine]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    /// spec/state.md 12.2.
    #[test]
    fn sizes_from_limits() {
        for (limits, size) in [
            (limits(1000, 800, 0, 0), 800),
            (limits(1000, 800, 500, 0), 800),
            (limits(1000, 0, 800, 0), 800),
            (limits(700, 0, 800, 0), 700),
            (limits(0, 900, 800, 0), 800),
            (limits(1000, 0, 0, 0), 1000),
            (limits(0, 900, 0, 0), 900),
            (limits(1000, 800, 0, 600), 600),
        ] {
            assert_eq!(new_size(&limits, Conn::Connected, false).sectors, size, "{limits:?}");
        }
        let forced = new_size(&limits(1000, 0, 800, 0), Conn::StandAlone, true);
        assert_eq!(forced.sectors, 1000);
        assert_eq!(texts(&forced.lines), ["Resize while not connected was forced by the user!"]);
        let nothing = new_size(&limits(0, 0, 0, 0), Conn::StandAlone, false);
        assert_eq!(texts(&nothing.lines), ["Both nodes diskless!"]);
        let too_big = new_size(&limits(1000, 0, 0, 2000), Conn::StandAlone, false);
        assert_eq!(too_big.sectors, 1000);
        assert_eq!(texts(&too_big.lines), ["Requested disk size is too big (1000 > 500)"]);
    }

    /// spec/state.md 19.9: the peer's disk is smaller.
    #[test]
    fn a_peer_that_is_too_small_is_refused() {
        let peer = PeerSizes { d_size: 8112, c_size: 8112, ..PeerSizes::default() };
        let refused = receive_sizes(SECONDARY, &limits(12208, 0, 12208, 0), 12208, &peer).unwrap_err();
        assert_eq!(
            texts(&refused.lines),
            [
                "Considerable difference in lower level device sizes: 8112s vs. 12208s",
                "The peer's disk size is too small! (8112 < 12208 sectors)",
            ]
        );
        let there = PeerSizes { d_size: 12208, c_size: 12208, ..PeerSizes::default() };
        let small = receive_sizes(SECONDARY, &limits(8112, 0, 8112, 0), 8112, &there).unwrap();
        assert_eq!(small.next, AfterSizes::DetermineSize);
        // An Inconsistent disk may shrink.
        let fresh = StateWord { disk: Disk::Inconsistent, ..SECONDARY };
        assert!(receive_sizes(fresh, &limits(12208, 0, 12208, 0), 12208, &peer).is_ok());
        // But not under an application: the Primary was the target of a resync, and told to grow alone.
        let primary = StateWord { role: Role::Primary, ..fresh };
        assert!(receive_sizes(primary, &limits(12208, 0, 12208, 0), 12208, &peer).is_err());
        // Attach on the peer while connected.
        let attach = StateWord { pdsk: Disk::Diskless, ..PAIR };
        assert!(receive_sizes(attach, &limits(12208, 0, 12208, 0), 12208, &peer).is_err());
    }

    #[test]
    fn the_smaller_user_size_wins_at_connect() {
        let peer = PeerSizes { d_size: 1000, u_size: 800, c_size: 800, ..PeerSizes::default() };
        let accepted = receive_sizes(SECONDARY, &limits(1000, 0, 0, 0), 0, &peer).unwrap();
        assert_eq!(accepted.adopt_user_size, Some(800));
        assert_eq!(texts(&accepted.lines), ["Peer sets u_size to 800 sectors (old: 0)"]);
        let kept = receive_sizes(SECONDARY, &limits(1000, 0, 0, 500), 500, &peer).unwrap();
        assert_eq!(kept.adopt_user_size, None);
        // Once connected the peer's is taken over, also to no limit.
        let resize = PeerSizes { u_size: 0, ..peer };
        let accepted = receive_sizes(PAIR, &limits(1000, 1000, 800, 800), 800, &resize).unwrap();
        assert_eq!(accepted.adopt_user_size, Some(0));
    }

    #[test]
    fn of_two_limits_at_once_one_counts() {
        for (a, b, limit) in [
            (1200, 1100, 1200),
            (1200, 0, 0),
            (1000, 1100, 1100),
            (900, 1100, 900),
            (900, 0, 900),
            (900, 800, 800),
        ] {
            assert_eq!(user_limit_of_both(a, b, 1000), limit);
            assert_eq!(user_limit_of_both(b, a, 1000), limit);
            // A node may have heard of the other limit before it says its own.
            assert_eq!(user_limit_of_both(a, limit, 1000), limit);
        }
    }

    #[test]
    fn diskless_nodes_follow_the_peer() {
        let diskless = StateWord { disk: Disk::Diskless, ..SECONDARY };
        let primary = StateWord { role: Role::Primary, ..diskless };
        let peer = |d_size, u_size, c_size| PeerSizes { d_size, u_size, c_size, ..PeerSizes::default() };
        let next = |s, exposed, peer| receive_sizes(s, &Limits::default(), exposed, &peer).map(|a| a.next);
        assert_eq!(next(diskless, 0, peer(1000, 0, 800)), Ok(AfterSizes::Expose(800)));
        assert_eq!(next(diskless, 0, peer(1000, 900, 0)), Ok(AfterSizes::Expose(900)));
        assert_eq!(next(diskless, 0, peer(1000, 0, 0)), Ok(AfterSizes::Expose(1000)));
        assert_eq!(next(diskless, 0, peer(0, 0, 0)), Ok(AfterSizes::Keep));
        assert_eq!(next(diskless, 800, peer(0, 0, 700)), Ok(AfterSizes::Keep));
        assert_eq!(next(primary, 800, peer(1000, 0, 900)), Ok(AfterSizes::Expose(900)));
        let refused = next(primary, 800, peer(700, 0, 700)).unwrap_err();
        assert_eq!(
            texts(&refused.lines),
            ["The peer's device size is too small! (700 < 800 sectors); demote me first!"]
        );
        assert_eq!(next(diskless, 800, peer(700, 0, 700)), Ok(AfterSizes::Expose(700)));
    }

    fn determine(limits: Limits, exposed: u64) -> ResizePlan {
        determine_size(&DetermineInput {
            limits,
            conn: Conn::Connected,
            flags: ResizeFlags::default(),
            exposed,
            bitmap_sectors: exposed,
        })
    }

    /// spec/state.md 12.3.
    #[test]
    fn sizes_come_into_effect() {
        let first = determine(limits(65456, 0, 0, 0), 0);
        assert_eq!(first.change, SizeChange::GrewFromZero);
        assert_eq!(first.resize_bitmap, Some(NewBits::Set));
        assert_eq!(first.resized_line.unwrap().text, "size = 32 MB (32728 KB)");
        assert_eq!(first.write_bitmap.unwrap().text, "Writing the whole bitmap, size changed");

        let same = determine(limits(1000, 1000, 1000, 0), 1000);
        assert_eq!((same.change, same.resize_bitmap), (SizeChange::Unchanged, None));
        assert_eq!(same.write_bitmap, None);

        let attached = determine(limits(1000, 0, 1000, 0), 0);
        assert_eq!(attached.change, SizeChange::Unchanged);
        assert!(attached.resize_bitmap.is_some() && attached.write_bitmap.is_none());

        let grown = determine(limits(2000, 2000, 1000, 0), 1000);
        assert_eq!((grown.sectors, grown.change), (2000, SizeChange::Grew));
        assert_eq!(determine(limits(2000, 900, 1000, 0), 1000).change, SizeChange::Shrank);
    }

    /// spec/state.md 12.4 step 7 and 12.5.
    #[test]
    fn after_a_grow() {
        let peer = PeerSizes { d_size: 2000, c_size: 0, ..PeerSizes::default() };
        let answer = after_sizes(PAIR, &peer, 2000, false, false, SizeChange::Grew);
        assert!(answer.send_sizes);
        assert_eq!(answer.new_area, Some(NewArea::Resync));
        let settled = PeerSizes { c_size: 2000, ..peer };
        let reply = after_sizes(PAIR, &settled, 2000, false, true, SizeChange::Unchanged);
        assert!(!reply.send_sizes);
        assert_eq!(reply.new_area, Some(NewArea::Resync));
        let clean = PeerSizes { flags: ResizeFlags { no_resync: true, ..ResizeFlags::default() }, ..settled };
        let reply = after_sizes(PAIR, &clean, 2000, false, true, SizeChange::Unchanged);
        assert_eq!(reply.new_area, Some(NewArea::AssumeClean));
        let no_disk = StateWord { pdsk: Disk::Diskless, ..PAIR };
        let reply = after_sizes(no_disk, &settled, 2000, false, true, SizeChange::Unchanged);
        assert_eq!(reply.new_area, Some(NewArea::AfterNegotiation));
        let handshake = after_sizes(SECONDARY, &peer, 2000, true, true, SizeChange::Grew);
        assert_eq!(handshake, SizeReaction::default());

        assert!(grown_area_source(PAIR, false));
        assert!(!grown_area_source(PAIR.seen_by_peer(), true));
        let two = StateWord { peer: Role::Primary, ..PAIR };
        assert!(grown_area_source(two, true) && !grown_area_source(two, false));
        let failed = StateWord { disk: Disk::Inconsistent, ..PAIR };
        assert!(!grown_area_source(failed, true) && grown_area_source(failed.seen_by_peer(), false));
    }

    #[test]
    fn resize_command() {
        let check =
            |s, clean| check_resize(s, Some(92), ResizeFlags { no_resync: clean, ..ResizeFlags::default() });
        assert_eq!(check(PAIR, false), Ok(()));
        assert_eq!(check(PAIR, true), Err(ConfigCode::NeedApv93));
        assert_eq!(
            check(StateWord { conn: Conn::SyncSource, ..PAIR }, false),
            Err(ConfigCode::ResizeDuringResync)
        );
        assert_eq!(check(StateWord { role: Role::Secondary, ..PAIR }, false), Err(ConfigCode::NoPrimary));
        assert_eq!(check(StateWord { disk: Disk::Diskless, ..PAIR }, false), Err(ConfigCode::NoDisk));
        assert_eq!(check(SECONDARY, false), Ok(()));
    }

    #[test]
    fn truncation_at_attach() {
        assert_eq!(check_truncation(1000, &limits(0, 0, 1000, 0)), Ok(None));
        let asked = check_truncation(900, &limits(0, 0, 1000, 900)).unwrap().unwrap();
        assert_eq!(asked.text, "truncating a consistent device during attach (900 < 1000)");
        let (code, line) = check_truncation(900, &limits(0, 0, 1000, 0)).unwrap_err();
        assert_eq!(code, ConfigCode::ImplicitShrink);
        assert_eq!(line.text, "refusing to truncate a consistent device (900 < 1000)");
    }

    /// spec/state.md 12.6, columns 8.4.
    #[test]
    fn request_sizes() {
        assert_eq!(bio_bytes_to_send(94, None), 32768);
        assert_eq!(bio_bytes_to_send(97, Some(1 << 20)), 131072);
        assert_eq!(bio_bytes_to_send(101, Some(0x1fe00)), 0x1fe00);
        assert_eq!(bio_bytes_in_effect(Some(101), Some(1 << 22), 4096), 1 << 20);
        assert_eq!(bio_bytes_in_effect(Some(96), None, 4096), 131072);
        assert_eq!(bio_bytes_in_effect(Some(90), None, 8192), 8192);
        assert_eq!(bio_bytes_in_effect(Some(90), None, 0), 4096);
        assert_eq!(bio_bytes_in_effect(None, None, 0), 4096);
    }

    proptest! {
        /// Both nodes come to one size, which fits on both disks and is within both user limits.
        #[test]
        fn both_nodes_agree(a in 1u64..1 << 40, b in 1u64..1 << 40, ua in 0u64..1 << 40, ub in 0u64..1 << 40) {
            let fresh = StateWord { disk: Disk::Inconsistent, ..SECONDARY };
            let agree = |own: u64, user: u64, peer_max: u64, peer_user: u64| {
                let mine = limits(own, 0, 0, user);
                let peer = PeerSizes { d_size: peer_max, u_size: peer_user, ..PeerSizes::default() };
                let accepted = receive_sizes(fresh, &mine, 0, &peer).unwrap();
                let mine = Limits { peer_max, user: accepted.adopt_user_size.unwrap_or(user), ..mine };
                determine(mine, 0).sectors
            };
            let (at_a, at_b) = (agree(a, ua, b, ub), agree(b, ub, a, ua));
            prop_assert_eq!(at_a, at_b);
            prop_assert!(at_a <= a.min(b));
        }
    }
}
