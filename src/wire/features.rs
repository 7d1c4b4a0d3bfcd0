//! The feature flags that both nodes announce in their first packets. spec/wire.md 3.3.

use std::fmt;
use std::ops::{BitAnd, BitOr};

/// A set of feature flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Features(pub u32);

impl Features {
    /// None: what 8.3 announces.
    pub const NONE: Features = Features(0);
    /// P_TRIM may be sent.
    pub const TRIM: Features = Features(1);
    /// P_RS_THIN_REQ and P_RS_DEALLOCATED may be sent.
    pub const THIN_RESYNC: Features = Features(2);
    /// P_WSAME may be sent; P_SIZES is 24 bytes longer; discards up to 128 MiB.
    pub const WSAME: Features = Features(4);
    /// P_ZEROES may be sent; P_TRIM need not read back as zeroes.
    pub const WZEROES: Features = Features(8);
    /// What this program announces: all. WSAME only because rule 41 of the UUID comparison asks for
    /// it; P_SIZES then says that this node cannot write the same. spec/wire.md 12.1.
    pub const ANNOUNCED: Features = Features(1 | 2 | 4 | 8);

    /// Flags and the words that name them in the log.
    const WORDS: [(Features, &'static str); 4] = [
        (Features::TRIM, "TRIM"),
        (Features::THIN_RESYNC, "THIN_RESYNC"),
        (Features::WSAME, "WRITE_SAME"),
        (Features::WZEROES, "WRITE_ZEROES"),
    ];

    /// Whether all flags of `other` are in `self`.
    pub fn contains(self, other: Features) -> bool {
        self.0 & other.0 == other.0
    }

    /// Largest range, in bytes, of P_TRIM, P_ZEROES and P_WSAME. spec/wire.md 2.4.
    pub fn max_discard_bytes(self) -> u32 {
        if self.contains(Features::WSAME) {
            128 << 20
        } else {
            4 << 20
        }
    }
}

impl BitAnd for Features {
    type Output = Features;

    fn bitand(self, other: Features) -> Features {
        Features(self.0 & other.0)
    }
}

impl BitOr for Features {
    type Output = Features;

    fn bitor(self, other: Features) -> Features {
        Features(self.0 | other.0)
    }
}

/// As in 8.4's log: `0xb TRIM THIN_RESYNC WRITE_ZEROES.`
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)?;
        for (flag, word) in Features::WORDS {
            if self.contains(flag) {
                write!(f, " {word}")?;
            }
        }
        f.write_str(if self.0 == 0 { " none." } else { "." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_names_the_flags() {
        let text = |flags| Features(flags).to_string();
        assert_eq!(text(0xf), "0xf TRIM THIN_RESYNC WRITE_SAME WRITE_ZEROES.");
        assert_eq!(text(0xb), "0xb TRIM THIN_RESYNC WRITE_ZEROES.");
        assert_eq!(text(0), "0x0 none.");
    }

    #[test]
    fn write_same_raises_the_discard_limit() {
        assert_eq!(Features(0xb).max_discard_bytes(), 4 << 20);
        assert_eq!(Features(0xf).max_discard_bytes(), 128 << 20);
    }
}
