//! Deliberate defects, for the proof that the simulation finds such: `make sim-mutants`.
//!
//! At its place in the code each is a `mutant!("name")`: false, unless the crate was built with the feature
//! `mutants` and the name is the one that is active. This table is the only other place that knows of it.

#[cfg(not(debug_assertions))]
compile_error!("the feature \"mutants\" puts defects into the core: it is for the simulation only");

use std::sync::atomic::{AtomicUsize, Ordering};

/// A deliberate defect.
#[derive(Debug, Clone, Copy)]
pub struct Mutant {
    /// As in `mutant!("name")`.
    pub name: &'static str,
    /// File of `core`.
    pub file: &'static str,
    /// What goes wrong.
    pub what: &'static str,
}

/// Those that any seed may show.
const GENERAL: &[Mutant] = &[
    Mutant {
        name: "log-not-used",
        file: "admission.rs",
        what: "writes go to the disk without an activity log transaction",
    },
    Mutant {
        name: "primary-mark-lost",
        file: "metadata_flags.rs",
        what: "a Primary writes without PRIMARY_IND in its super block",
    },
    Mutant {
        name: "resync-locks-ignored",
        file: "admission.rs",
        what: "a write goes to blocks whose resync is under way",
    },
    Mutant {
        name: "inconsistent-disk-read",
        file: "admission.rs",
        what: "reads from an Inconsistent disk do not look at the bitmap",
    },
    Mutant {
        name: "completes-before-peer",
        file: "request.rs",
        what: "a write is complete before the peer has acknowledged it",
    },
    Mutant {
        name: "completes-before-disk",
        file: "request.rs",
        what: "a write is complete before the own disk has it",
    },
    Mutant { name: "completes-twice", file: "write_path.rs", what: "the application is told twice" },
    Mutant {
        name: "not-marked-at-loss",
        file: "write_path.rs",
        what: "a write that the peer lacks is not marked out of sync",
    },
    Mutant {
        name: "extent-released-early",
        file: "write_path.rs",
        what: "a write gives its extent back when it is complete, before the barrier is acknowledged",
    },
    Mutant {
        name: "refusal-taken-for-success",
        file: "write_path.rs",
        what: "P_NEG_ACK counts as P_WRITE_ACK",
    },
    Mutant {
        name: "new-uuid-not-awaited",
        file: "write_path.rs",
        what: "writes complete before the new current UUID is durable",
    },
    Mutant {
        name: "acknowledged-on-arrival",
        file: "peer_write.rs",
        what: "P_WRITE_ACK goes out when the data arrive",
    },
    Mutant {
        name: "peer-writes-overtake",
        file: "peer_write.rs",
        what: "writes of the peer to the same blocks are at the disk at the same time",
    },
    Mutant {
        name: "barrier-not-flushed",
        file: "receive.rs",
        what: "a barrier is acknowledged without a flush of the disk",
    },
    Mutant {
        name: "write-before-barrier",
        file: "write_path.rs",
        what: "the barrier of an epoch is sent behind the first write of the next one",
    },
    Mutant {
        name: "resync-acknowledged-on-arrival",
        file: "resync/requests.rs",
        what: "a target clears the bit and acknowledges before the block is on its disk",
    },
    Mutant {
        name: "last-bit-forgotten",
        file: "resync/mod.rs",
        what: "a resync skips the last block of the device",
    },
    Mutant {
        name: "sync-uuid-not-awaited",
        file: "resync/mod.rs",
        what: "the target is told of a sync UUID that is not durable at the source",
    },
    Mutant {
        name: "failed-blocks-forgotten",
        file: "resync/mod.rs",
        what: "a resync with failed blocks ends with UpToDate",
    },
    Mutant {
        name: "target-not-marked-first",
        file: "resync/mod.rs",
        what: "a target asks for blocks before its super block says Inconsistent",
    },
    Mutant {
        name: "interrupted-target-up-to-date",
        file: "connection.rs",
        what: "a target that loses its source calls itself UpToDate",
    },
    Mutant {
        name: "negotiation-without-uuids",
        file: "handshake.rs",
        what: "a word from before the peer heard of a negotiating disk decides about that disk",
    },
    Mutant {
        name: "no-generation-at-loss",
        file: "state_change.rs",
        what: "a Primary that loses its peer goes on with the same current UUID",
    },
    Mutant {
        name: "old-generation-forgotten",
        file: "uuid/mod.rs",
        what: "a new current UUID does not put the old one into BITMAP",
    },
    Mutant { name: "history-not-rotated", file: "uuid/mod.rs", what: "UUIDs do not move into the history" },
    Mutant {
        name: "target-keeps-sync-uuid",
        file: "uuid/mod.rs",
        what: "a target that is done does not take the current UUID of its source",
    },
    Mutant {
        name: "source-keeps-bitmap-uuid",
        file: "uuid/mod.rs",
        what: "a source that is done keeps its BITMAP",
    },
    Mutant {
        name: "inconsistent-not-kept",
        file: "metadata_flags.rs",
        what: "the super block of an Inconsistent disk says Consistent",
    },
    Mutant { name: "connected-mark-lost", file: "metadata_flags.rs", what: "CONNECTED_IND is not set" },
    Mutant {
        name: "crash-not-seen",
        file: "metadata_flags.rs",
        what: "a Primary that crashed does not know it at the next attach",
    },
    Mutant {
        name: "crash-not-kept",
        file: "metadata_flags.rs",
        what: "CRASHED_PRIMARY does not get into the super block",
    },
    Mutant {
        name: "hot-extents-not-marked",
        file: "disk.rs",
        what: "after a crash the active extents are not marked out of sync",
    },
    Mutant {
        name: "log-emptied-first",
        file: "disk.rs",
        what: "the activity log is emptied before its bits are durable",
    },
    Mutant {
        name: "other-data-attached",
        file: "disk.rs",
        what: "a disk with other data than those in use is attached",
    },
    Mutant {
        name: "demotion-without-bitmap",
        file: "steps.rs",
        what: "a demotion does not write the bitmap",
    },
    Mutant {
        name: "demotion-forgets-epochs",
        file: "admin/request.rs",
        what: "a demotion does not wait for the barriers of its writes",
    },
    Mutant {
        name: "marks-without-flush",
        file: "meta_io.rs",
        what: "no flush of the data before the super block loses a mark",
    },
    Mutant {
        name: "lost-epoch-not-flushed",
        file: "connection.rs",
        what: "what a lost peer wrote last is not flushed before this node takes over",
    },
    Mutant {
        name: "lost-target-inconsistent",
        file: "state_change.rs",
        what: "a target that is lost at the end of its resync counts as Inconsistent",
    },
    Mutant {
        name: "bits-cleared-without-flush",
        file: "meta_io.rs",
        what: "bits are cleared on disk before the blocks are durable",
    },
    Mutant {
        name: "evicted-bits-not-written",
        file: "meta_io.rs",
        what: "an extent leaves the log before its bits are on disk",
    },
    Mutant {
        name: "transaction-not-written",
        file: "meta_io.rs",
        what: "an activity log transaction is not written",
    },
    Mutant {
        name: "fewer-bits-set",
        file: "bitmap.rs",
        what: "a write marks one block less than it touches",
    },
    Mutant { name: "page-not-dirty", file: "bitmap.rs", what: "a bitmap page with new bits is not written" },
    Mutant {
        name: "partial-blocks-cleared",
        file: "bitmap.rs",
        what: "a write to a part of a block clears its bit",
    },
    Mutant {
        name: "bitmap-without-open-writes",
        file: "transfer_log.rs",
        what: "writes that one side lacks are not in the bitmap that is exchanged",
    },
    Mutant {
        name: "barrier-not-awaited",
        file: "epochs.rs",
        what: "a barrier is acknowledged before the writes of its epoch are done",
    },
];

/// Those that only seeds with two Primaries and fencing can show.
const TWO_PRIMARIES: &[Mutant] = &[
    Mutant {
        name: "superseded-write-applied",
        file: "conflicts.rs",
        what: "the arbiter of two Primaries lets the peer's write over its own one that is under way",
    },
    Mutant {
        name: "conflict-order-ignored",
        file: "conflicts.rs",
        what: "a write of the other Primary does not wait for an own one to the same blocks",
    },
    Mutant {
        name: "early-write-not-awaited",
        file: "conflicts.rs",
        what: "a write of the other Primary does not wait for the acknowledgements that were sent before it",
    },
    Mutant {
        name: "retry-taken-for-superseded",
        file: "conflicts.rs",
        what: "what the arbiter wants again is done",
    },
    Mutant {
        name: "overwritten-write-sent-again",
        file: "conflicts.rs",
        what: "a frozen write is sent again over a later one of the other Primary",
    },
    Mutant {
        name: "outdated-disk-promoted",
        file: "admin/role.rs",
        what: "a node is promoted on an Outdated disk without force",
    },
    Mutant {
        name: "not-frozen-at-loss",
        file: "rules/sanitize.rs",
        what: "resource-and-stonith: a Primary that loses its peer goes on",
    },
    Mutant {
        name: "fence-answer-ignored",
        file: "fencing.rs",
        what: "a fence-peer handler that is broken has fenced the peer",
    },
];

/// Those that only seeds with disks of changing sizes can show.
const SIZES: &[Mutant] = &[
    Mutant {
        name: "peer-size-ignored",
        file: "size.rs",
        what: "the device is as large as the larger of the two disks",
    },
    Mutant {
        name: "small-peer-accepted",
        file: "size.rs",
        what: "a peer whose disk is smaller than the device in use is accepted",
    },
    Mutant {
        name: "new-space-not-marked",
        file: "bitmap.rs",
        what: "space that is added is not marked out of sync",
    },
    Mutant {
        name: "partial-last-block-not-marked",
        file: "resize.rs",
        what: "a last block that becomes a whole one is not marked out of sync",
    },
    Mutant {
        name: "new-size-shown-early",
        file: "resize.rs",
        what: "the application sees a larger device before its size is on disk",
    },
    Mutant {
        name: "moved-without-full-sync",
        file: "resize.rs",
        what: "meta data move without FULL_SYNC in the first super block",
    },
    Mutant {
        name: "new-space-not-resynced",
        file: "resize.rs",
        what: "no resync begins when the device has grown",
    },
];

/// All of them, and which seeds may show them, if not any: seed mod 8.
const TABLES: [(Option<u64>, &[Mutant]); 3] = [(None, GENERAL), (Some(5), SIZES), (Some(7), TWO_PRIMARIES)];

/// All of them, those of seeds of a special kind with that (seed mod 8).
pub fn all() -> impl Iterator<Item = (Option<u64>, &'static Mutant)> {
    TABLES.iter().flat_map(|(kind, mutants)| mutants.iter().map(|mutant| (*kind, mutant)))
}

static ACTIVE: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Makes one of [`all`] active in this process, or none. False: there is none of this name.
pub fn activate(name: Option<&str>) -> bool {
    let index = name.and_then(|name| all().position(|(_, mutant)| mutant.name == name));
    ACTIVE.store(index.unwrap_or(usize::MAX), Ordering::Relaxed);
    name.is_none() || index.is_some()
}

pub(super) fn is_active(index: usize) -> bool {
    ACTIVE.load(Ordering::Relaxed) == index
}

/// The place of a name in [`all`], when the crate is compiled.
pub(super) const fn index_of(name: &str) -> usize {
    let (mut table, mut before) = (0, 0);
    while table < TABLES.len() {
        let mutants = TABLES[table].1;
        let mut index = 0;
        while index < mutants.len() {
            if is_equal(mutants[index].name.as_bytes(), name.as_bytes()) {
                return before + index;
            }
            index += 1;
        }
        before += index;
        table += 1;
    }
    panic!("no such mutant in the table")
}

const fn is_equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut index = 0;
    while index < a.len() {
        if a[index] != b[index] {
            return false;
        }
        index += 1;
    }
    true
}
