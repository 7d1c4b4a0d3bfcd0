//! Generation identifiers of data: the four UUIDs of a disk, the events that change them, and
//! (in [`compare`]) what two sets of them say about each other.
//!
//! spec/state.md 8 (slots, operations, events, effective data UUID) and 10.2 (comparison).
//! Random numbers come as arguments.

mod compare;

pub use compare::{compare, CompareContext, Comparison, Correction, Verdict};

use super::codes::ConfigCode;
use super::state::{Conn, Disk, Role, StateWord};
use crate::meta::super_block::UUID_JUST_CREATED;
use crate::wire::parameters::Uuids as UuidsPacket;
use serde::{Deserialize, Serialize};
use std::fmt;

/// CURRENT of a disk that was just created. spec/state.md 8.1.
pub const JUST_CREATED: u64 = UUID_JUST_CREATED;

/// What is added to BITMAP to make the UUID of a resync. spec/state.md 8.1.
const NEW_BITMAP_OFFSET: u64 = 0x0001_0000_0000_0000;

/// The UUID of a resync of data that are of the generation `before`, which the source has in BITMAP. Bit 0 stays.
const fn sync_uuid_of(before: u64) -> u64 {
    before.wrapping_add(NEW_BITMAP_OFFSET)
}

/// The UUID without bit 0, which only tells the role. spec/state.md 8.2.
pub const fn without_role(uuid: u64) -> u64 {
    uuid & !1
}

/// The UUID with bit 0 telling whether this node is Primary. spec/state.md 8.2.
const fn with_role(uuid: u64, role: Role) -> u64 {
    without_role(uuid) | matches!(role, Role::Primary) as u64
}

/// The generation identifiers of one disk. spec/state.md 8.1. Prints as
/// `CURRENT:BITMAP:H0:H1`, 16 upper-case hex digits each (17.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Uuids {
    /// Identity of the data on this disk now.
    pub current: u64,
    /// Identity since which the bitmap records differences; 0: in sync with the last peer.
    pub bitmap: u64,
    /// Predecessors, the younger first.
    pub history: [u64; 2],
}

impl fmt::Display for Uuids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:016X}:{:016X}:{:016X}:{:016X}",
            self.current, self.bitmap, self.history[0], self.history[1]
        )
    }
}

/// The primitive operations of spec/state.md 8.3 and the events of 8.4. Every one of them makes
/// the super block dirty; those that must be on the disk at once say so.
impl Uuids {
    /// U1: after create-md.
    pub const CREATED: Uuids = Uuids { current: JUST_CREATED, bitmap: 0, history: [0, 0] };

    /// The slots in the order of the disk and of P_UUIDS.
    pub const fn slots(self) -> [u64; 4] {
        [self.current, self.bitmap, self.history[0], self.history[1]]
    }

    /// The reverse of [`Self::slots`].
    pub const fn from_slots(slots: [u64; 4]) -> Uuids {
        Uuids { current: slots[0], bitmap: slots[1], history: [slots[2], slots[3]] }
    }

    /// Whether the data are of this generation, or have come from it as far as these UUIDs tell.
    pub fn has(self, generation: u64) -> bool {
        let generation = without_role(generation);
        let told = ![0, JUST_CREATED].contains(&generation);
        told && self.slots().into_iter().any(|slot| without_role(slot) == generation)
    }

    /// set(CURRENT, v): bit 0 follows the own role. The effective data UUID becomes the new
    /// CURRENT too.
    pub fn set_current(&mut self, uuid: u64, role: Role) {
        self.current = with_role(uuid, role);
    }

    /// push(x): into the history, the oldest entry is lost.
    pub fn push_history(&mut self, uuid: u64) {
        if mutant!("history-not-rotated") {
            return;
        }
        self.history = [uuid, self.history[0]];
    }

    /// rset(BITMAP, v): the old BITMAP goes into the history.
    pub fn rotate_bitmap(&mut self, uuid: u64) {
        if self.bitmap != 0 {
            self.push_history(self.bitmap);
        }
        self.bitmap = uuid;
    }

    /// set_bm(0).
    pub fn clear_bitmap(&mut self) {
        self.rotate_bitmap(0);
    }

    /// set_bm(v): bit 0 is cleared. Returns the BITMAP that is lost, to be warned of
    /// (`bm UUID was already set: ...`), if there was one.
    #[must_use]
    pub fn set_bitmap(&mut self, uuid: u64) -> Option<u64> {
        if uuid == 0 {
            self.clear_bitmap();
            return None;
        }
        let lost = (self.bitmap != 0).then_some(self.bitmap);
        self.bitmap = without_role(uuid);
        lost
    }

    /// new_current: U2, U4, U5, U6, U6b. CURRENT becomes BITMAP, the random UUID becomes CURRENT.
    /// Must be on the disk before anything builds on it. Log: `new current UUID ...`. Returns the
    /// BITMAP that is lost, to be warned of, if there was one.
    #[must_use]
    pub fn new_current(&mut self, random: u64, role: Role) -> Option<u64> {
        let lost = (self.bitmap != 0).then_some(self.bitmap);
        if !mutant!("old-generation-forgotten") {
            self.bitmap = self.current;
        }
        self.set_current(random, role);
        lost
    }

    /// A new generation of a source that may have missed the end of its resync. The target is in the middle of it: then its CURRENT is
    /// this node's BITMAP, which stays. Or it has not begun: then its CURRENT is `target`. Or it has ended in this node's generation,
    /// and may have gone on from there: this one is noted in the last slot of the history. If the target went on, the two have the
    /// first slot in common, and are a split brain. (DRBD begins none, and takes this node's data for old.)
    ///
    /// From then on no [`unfinished_resync`](Self::unfinished_resync) is told any more: the new CURRENT is not the target's.
    pub fn new_current_beside_target(&mut self, random: u64, role: Role, target: u64) {
        if self.bitmap == sync_uuid_of(self.history[0]) {
            // Bit 0 of a sync UUID has no meaning (spec/state.md 8.2).
            self.bitmap ^= 1;
        }
        if without_role(self.history[1]) == without_role(target) {
            self.history[0] = self.history[1];
        }
        self.history[1] = self.current;
        self.set_current(random, role);
    }

    /// U3, U14: bit 0 of CURRENT follows the role. After a promotion or demotion in core only.
    pub fn set_role(&mut self, role: Role) {
        self.current = with_role(self.current, role);
    }

    /// U7: a resync starts with this node as the source. Returns the sync UUID to be sent; it
    /// must be on the disk before. Log: `updated sync UUID ...`.
    ///
    /// `peer`: the target's CURRENT. If it stands in the history, because earlier sync UUIDs did not reach the target, this one is made
    /// of it, as at the first try, and that slot comes first: without it the two nodes would have nothing in common after the next
    /// interruption. (DRBD pushes the sync UUIDs that nobody got.)
    ///
    /// One that is random, because both nodes are of the same generation, shares its upper half with CURRENT, for
    /// [`unfinished_resync`](Self::unfinished_resync).
    pub fn start_as_source(&mut self, random: u64, peer: u64) -> u64 {
        let is_peers =
            |uuid: u64| ![0, JUST_CREATED].contains(&uuid) && without_role(uuid) == without_role(peer);
        let [before, older] = self.history;
        let again = match (is_peers(before), is_peers(older)) {
            (true, _) => Some([before, older]),
            (false, true) => Some([older, before]),
            _ => None,
        };
        if let Some(history) = again.filter(|_| self.bitmap != 0 && !is_peers(self.bitmap)) {
            self.bitmap = sync_uuid_of(history[0]);
            self.history = history;
            return self.bitmap;
        }
        let sync_uuid = match self.bitmap {
            0 | JUST_CREATED => self.current ^ u64::from(random as u32 | 2),
            bitmap => sync_uuid_of(bitmap),
        };
        self.rotate_bitmap(sync_uuid);
        sync_uuid
    }

    /// The source of a resync that has not heard of its end, and is of the same generation still: the CURRENT that the target had before,
    /// as far as the slots tell.
    pub fn unfinished_resync(&self) -> Option<u64> {
        let before = self.history[0];
        if self.bitmap == 0 {
            None
        } else if before != 0 && self.bitmap == sync_uuid_of(before) {
            Some(before)
        } else {
            (self.bitmap >> 32 == self.current >> 32).then_some(self.current)
        }
    }

    /// The generation that this node left by [`new_current_beside_target`](Self::new_current_beside_target), as far as the slots tell. A sync
    /// UUID that tells what it was made of has bit 0 the other way since; one that is random has the upper half of that generation.
    fn generation_beside_target(&self) -> Option<u64> {
        let [before, left] = self.history;
        let told = self.bitmap ^ 1 == sync_uuid_of(before) || self.bitmap >> 32 == left >> 32;
        (self.bitmap != 0 && left != 0 && told).then_some(left)
    }

    /// What BITMAP says is named by the generation that was left, as of any node that went on alone.
    fn name_generation_beside_target(&mut self) {
        self.bitmap = self.history[1];
    }

    /// U8: the target got the sync UUID. Log: `updated sync uuid ...`.
    pub fn start_as_target(&mut self, sync_uuid: u64, role: Role) {
        self.set_current(sync_uuid, role);
        self.bitmap = 0;
    }

    /// U9 on the target: no block failed. `peer`: the peer's UUIDs from its last P_UUIDS. Log:
    /// `updated UUIDs ...`; the cached UUIDs of the peer become the own ones.
    pub fn finish_as_target(&mut self, peer: Uuids, role: Role) {
        let sync_uuid = self.current;
        self.bitmap = peer.bitmap;
        self.history = peer.history;
        self.rotate_bitmap(sync_uuid);
        if !mutant!("target-keeps-sync-uuid") {
            self.set_current(peer.current, role);
        }
        self.clear_bitmap();
    }

    /// U9 on the source: no block failed. Log: `updated UUIDs ...`.
    pub fn finish_as_source(&mut self) {
        if mutant!("source-keeps-bitmap-uuid") {
            return;
        }
        self.clear_bitmap();
    }

    /// U10, first part: `new-current-uuid`. Log: `new current UUID ...`.
    pub fn new_current_by_admin(&mut self, random: u64, role: Role) {
        self.clear_bitmap();
        // BITMAP is 0 now: nothing is lost.
        let _ = self.new_current(random, role);
    }

    /// U10, second part, when the initial sync is skipped: after P_UUIDS with flag 8 went out.
    /// Log: `cleared bitmap UUID ...`.
    pub fn forget_bitmap(&mut self) {
        self.bitmap = 0;
    }

    /// U11: the peer skips the initial sync. Log: `receiver updated UUIDs to ...`.
    pub fn skip_initial_sync(&mut self, peer_current: u64, role: Role) {
        self.set_current(peer_current, role);
        self.bitmap = 0;
    }

    /// U12, rule 34: the peer finished a resync that this node did not see finish.
    fn correct_missed_finish(&mut self) {
        self.push_history(self.bitmap);
        self.bitmap = 0;
    }

    /// U13, rule 71; rule 51 for the peer's: the start of the last resync is undone.
    fn undo_resync_start(&mut self) {
        self.bitmap = self.history[0];
        self.history[0] = self.history[1];
    }
}

/// FLAGS of P_UUIDS. spec/state.md 8.5. Unknown bits are kept for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct UuidFlags(pub u64);

impl UuidFlags {
    /// The connect option is still set.
    pub const DISCARD_MY_DATA: UuidFlags = UuidFlags(UuidsPacket::DISCARD_MY_DATA);
    /// The node crashed as Primary.
    pub const CRASHED_PRIMARY: UuidFlags = UuidFlags(UuidsPacket::CRASHED_PRIMARY);
    /// The disk state that the node negotiates about is Inconsistent.
    pub const INCONSISTENT: UuidFlags = UuidFlags(UuidsPacket::INCONSISTENT);
    /// The initial sync is skipped.
    pub const SKIP_INITIAL_SYNC: UuidFlags = UuidFlags(UuidsPacket::SKIP_INITIAL_SYNC);
    /// The source of a resync has missed its end, if there was one, and acknowledged nothing alone since. Not in the specification.
    pub const UNHEARD_END: UuidFlags = UuidFlags(UuidsPacket::UNHEARD_END);

    /// All bits of `other` are set.
    pub const fn contains(self, other: UuidFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags that this node sends. spec/state.md 8.5.
    pub fn to_send(
        discard_my_data: bool,
        crashed_primary: bool,
        negotiating_inconsistent: bool,
        skip_initial_sync: bool,
    ) -> UuidFlags {
        let bit = |set: bool, flag: UuidFlags| if set { flag.0 } else { 0 };
        UuidFlags(
            bit(discard_my_data, Self::DISCARD_MY_DATA)
                | bit(crashed_primary, Self::CRASHED_PRIMARY)
                | bit(negotiating_inconsistent, Self::INCONSISTENT)
                | bit(skip_initial_sync, Self::SKIP_INITIAL_SYNC),
        )
    }

    /// Without the crash mark: both are Connected again. spec/state.md 5.2 A1.
    #[must_use]
    pub const fn without_crash(self) -> UuidFlags {
        UuidFlags(self.0 & !Self::CRASHED_PRIMARY.0)
    }
}

/// What the peer said in its last P_UUIDS. spec/state.md 8.1, 9.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerUuids {
    /// The identifiers.
    pub uuids: Uuids,
    /// Number of set bits (SIZE).
    pub bits: u64,
    /// FLAGS.
    pub flags: UuidFlags,
}

impl From<&UuidsPacket> for PeerUuids {
    fn from(packet: &UuidsPacket) -> PeerUuids {
        PeerUuids {
            uuids: Uuids { current: packet.current, bitmap: packet.bitmap, history: packet.history },
            bits: packet.dirty_bits,
            flags: UuidFlags(packet.flags),
        }
    }
}

impl From<&PeerUuids> for UuidsPacket {
    fn from(sent: &PeerUuids) -> UuidsPacket {
        UuidsPacket {
            current: sent.uuids.current,
            bitmap: sent.uuids.bitmap,
            history: sent.uuids.history,
            dirty_bits: sent.bits,
            flags: sent.flags.0,
        }
    }
}

/// This node loses the data of its peer, and the data that it goes on with need a name of their
/// own: U4. `bitmap`: the own BITMAP slot. spec/state.md 8.4, 5.2 A11.
pub fn lost_peer_data(os: StateWord, ns: StateWord, bitmap: u64) -> bool {
    use Disk::{
        Attaching, Consistent, DUnknown, Diskless, Failed, Inconsistent, Negotiating, Outdated, UpToDate,
    };
    // A disk that is fenced is Outdated, and that has begun the generation. One that a connected peer calls so may be of this one still.
    let may_share = os.pdsk != Outdated || os.conn >= Conn::Connected;
    let lost = match os.pdsk {
        Inconsistent | Consistent | UpToDate | Outdated if may_share => {
            matches!(ns.pdsk, Diskless | Attaching | Failed | Negotiating | Outdated | DUnknown)
        }
        DUnknown => matches!(ns.pdsk, Diskless | Failed | Outdated),
        _ => false,
    };
    // A target to be, whose resync has not begun: its data are of this generation, and it calls them Inconsistent, or only old.
    let lost = lost
        || os.pdsk == Inconsistent
            && ns.pdsk == Inconsistent
            && os.conn >= Conn::Connected
            && ns.conn < Conn::Connected;
    let written = ns.role == Role::Primary || ns.peer == Role::Primary;
    lost && written && bitmap == 0 && ns.disk >= Disk::UpToDate
}

/// A Primary gets its disk while the peer is out of reach, or has none: what it writes from now on the peer will lack,
/// and when the peer's disk was lost the generation could not be named. spec/state.md 8.4 U4.
pub fn primary_attached_alone(os: StateWord, ns: StateWord) -> bool {
    os.role == Role::Primary
        && ns.role == Role::Primary
        && matches!(os.disk, Disk::Attaching | Disk::Negotiating)
        && ns.disk == Disk::UpToDate
        && (ns.conn < Conn::Connected || ns.pdsk < Disk::Inconsistent)
}

/// The peer became a Primary without a disk, it writes here only: U5. spec/state.md 8.4, 5.2 A12.
pub fn peer_became_diskless_primary(os: StateWord, ns: StateWord, bitmap: u64) -> bool {
    ns.pdsk < Disk::Inconsistent
        && os.peer != Role::Primary
        && ns.peer == Role::Primary
        && bitmap == 0
        && ns.disk >= Disk::UpToDate
}

/// This node attached its disk beside a Primary without one, which writes here only from now on: as U5. (DRBD begins the generation when the peer
/// is promoted. If it could not be written because this disk failed then, the next attach of the peer would find equal data.)
pub fn attached_for_diskless_primary(os: StateWord, ns: StateWord) -> bool {
    os.conn >= Conn::Connected
        && matches!(os.disk, Disk::Attaching | Disk::Negotiating)
        && ns.disk >= Disk::UpToDate
        && ns.peer == Role::Primary
        && ns.pdsk < Disk::Inconsistent
}

/// A promotion that was committed needs a new current UUID: U2. `shared`: the peer may have data of this node's generation.
/// spec/state.md 7.1 step 5.
pub fn promotion_needs_new_current(s: StateWord, shared: bool, forced: bool) -> bool {
    let alone = s.conn < Conn::Connected || s.pdsk <= Disk::Failed;
    // Data that are not good, because the peer was lost in the middle, begin no generation.
    s.disk >= Disk::Inconsistent && (forced || alone && shared && s.disk == Disk::UpToDate)
}

/// Which kind of `new-current-uuid` the admin gets. spec/state.md 8.4 U10.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewCurrentUuid {
    /// StandAlone: a new generation.
    Alone,
    /// Connected, both just created: the initial sync is skipped. The peer is told by flag 8.
    SkipInitialSync,
}

/// May the admin set a new current UUID now? spec/state.md 8.4 U10.
///
/// # Errors
/// No disk, or neither StandAlone nor able to skip the initial sync.
pub fn check_new_current_uuid(
    s: StateWord,
    apv: Option<u8>,
    current: u64,
    clear_bitmap: bool,
) -> Result<NewCurrentUuid, ConfigCode> {
    if s.disk < Disk::Inconsistent {
        return Err(ConfigCode::NoDisk);
    }
    let skips = s.conn == Conn::Connected
        && apv.is_some_and(|apv| apv >= 90)
        && current == JUST_CREATED
        && clear_bitmap;
    match s.conn {
        _ if skips => Ok(NewCurrentUuid::SkipInitialSync),
        Conn::StandAlone => Ok(NewCurrentUuid::Alone),
        _ => Err(ConfigCode::Connected),
    }
}

/// P_UUIDS from a peer that skips the initial sync is to be followed: U11. spec/state.md 8.4.
pub fn accepts_skipped_sync(conn: Conn, apv: u8, own_current: u64, flags: UuidFlags) -> bool {
    flags.contains(UuidFlags::SKIP_INITIAL_SYNC)
        && conn == Conn::Connected
        && apv >= 90
        && own_current == JUST_CREATED
}

/// A diskless Primary may not connect to other data than those it has lost. `effective`: the
/// effective data UUID. spec/state.md 8.6.
pub fn refuses_peer_data(s: StateWord, effective: u64, peer_current: u64) -> bool {
    (s.conn < Conn::Connected || s.pdsk == Disk::Diskless)
        && s.disk < Disk::Inconsistent
        && s.role == Role::Primary
        && without_role(effective) != without_role(peer_current)
}

/// Other data than those in use may not be attached. spec/state.md 13.3 step 12.
pub fn refuses_attach(s: StateWord, effective: u64, current: u64) -> bool {
    s.pdsk != Disk::UpToDate
        && effective != 0
        && (s.role == Role::Primary || s.peer == Role::Primary)
        && without_role(effective) != without_role(current)
}

#[cfg(test)]
mod tests;
