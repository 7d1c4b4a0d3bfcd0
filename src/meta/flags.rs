//! The MDF flags of the super block (spec/metadata.md 2.2).

use std::fmt;

/// A set of MDF bits. Bits without a name are carried along unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct MetaFlags(pub u32);

impl MetaFlags {
    /// No bit.
    pub const NONE: MetaFlags = MetaFlags(0);
    /// Local disk state better than Inconsistent.
    pub const CONSISTENT: MetaFlags = MetaFlags(0x001);
    /// The node was Primary; decides on replay of the activity log.
    pub const PRIMARY_IND: MetaFlags = MetaFlags(0x002);
    /// The node was connected.
    pub const CONNECTED_IND: MetaFlags = MetaFlags(0x004);
    /// "Set all bits" has not reached the disk yet.
    pub const FULL_SYNC: MetaFlags = MetaFlags(0x008);
    /// Local disk state better than Outdated.
    pub const WAS_UP_TO_DATE: MetaFlags = MetaFlags(0x010);
    /// Inconsistent <= peer's disk state <= Outdated.
    pub const PEER_OUT_DATED: MetaFlags = MetaFlags(0x020);
    /// The node was found to be a crashed Primary.
    pub const CRASHED_PRIMARY: MetaFlags = MetaFlags(0x040);
    /// 8.4: the activity log is applied and empty. 8.3 carries it along, so it may be stale.
    pub const AL_CLEAN: MetaFlags = MetaFlags(0x080);
    /// 8.4.2: `al-updates no`.
    pub const AL_DISABLED: MetaFlags = MetaFlags(0x100);

    /// Every named bit with its name.
    pub const NAMES: &'static [(MetaFlags, &'static str)] = &[
        (MetaFlags::CONSISTENT, "CONSISTENT"),
        (MetaFlags::PRIMARY_IND, "PRIMARY_IND"),
        (MetaFlags::CONNECTED_IND, "CONNECTED_IND"),
        (MetaFlags::FULL_SYNC, "FULL_SYNC"),
        (MetaFlags::WAS_UP_TO_DATE, "WAS_UP_TO_DATE"),
        (MetaFlags::PEER_OUT_DATED, "PEER_OUT_DATED"),
        (MetaFlags::CRASHED_PRIMARY, "CRASHED_PRIMARY"),
        (MetaFlags::AL_CLEAN, "AL_CLEAN"),
        (MetaFlags::AL_DISABLED, "AL_DISABLED"),
    ];

    /// The seven flags that get-gi shows and set-gi takes, in that order (spec/metadata.md 7.1).
    pub const GENERATION_FLAGS: [MetaFlags; 7] = [
        MetaFlags::CONSISTENT,
        MetaFlags::WAS_UP_TO_DATE,
        MetaFlags::PRIMARY_IND,
        MetaFlags::CONNECTED_IND,
        MetaFlags::FULL_SYNC,
        MetaFlags::PEER_OUT_DATED,
        MetaFlags::CRASHED_PRIMARY,
    ];

    /// True if all bits of `other` are set.
    pub const fn contains(self, other: MetaFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Sets or clears all bits of `other`.
    pub fn set(&mut self, other: MetaFlags, on: bool) {
        if on {
            self.0 |= other.0;
        } else {
            self.0 &= !other.0;
        }
    }

    /// This set together with `other`.
    #[must_use]
    pub const fn with(self, other: MetaFlags) -> MetaFlags {
        MetaFlags(self.0 | other.0)
    }

    /// This set without the bits of `other`.
    #[must_use]
    pub const fn without(self, other: MetaFlags) -> MetaFlags {
        MetaFlags(self.0 & !other.0)
    }
}

impl std::ops::BitOr for MetaFlags {
    type Output = MetaFlags;

    fn bitor(self, other: MetaFlags) -> MetaFlags {
        self.with(other)
    }
}

impl fmt::Debug for MetaFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)?;
        let names: Vec<&str> =
            MetaFlags::NAMES.iter().filter(|(flag, _)| self.contains(*flag)).map(|(_, name)| *name).collect();
        write!(f, "({})", names.join("|"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unnamed_bits_stay_and_named_ones_print() {
        let mut flags = MetaFlags(0x8000_0000) | MetaFlags::CONSISTENT;
        flags.set(MetaFlags::PRIMARY_IND, true);
        flags.set(MetaFlags::CONSISTENT, false);
        assert_eq!(flags, MetaFlags(0x8000_0002));
        assert_eq!(format!("{flags:?}"), "0x80000002(PRIMARY_IND)");
    }
}
