//! The formats that commands work on.

/// A format, as the command line and the first line of a dump name it. v09 is only recognized
/// ([`super::conversion::Generation`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// DRBD 0.6: a file.
    V06,
    /// DRBD 0.7.
    V07,
    /// DRBD 8.0 to 8.4.
    V08,
}

impl Format {
    /// `v06`, `v07` or `v08`.
    pub fn name(self) -> &'static str {
        match self {
            Format::V06 => "v06",
            Format::V07 => "v07",
            Format::V08 => "v08",
        }
    }

    /// The format of this name.
    pub fn parse(name: &str) -> Option<Format> {
        [Format::V06, Format::V07, Format::V08].into_iter().find(|format| format.name() == name)
    }
}
