//! The two generations of DRBD that are spoken here. spec/decisions.md 1.

use serde::{Deserialize, Serialize};

/// Whose wording, defaults and command forms are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Dialect {
    /// As DRBD 8.3.16.
    V83,
    /// As DRBD 8.4.
    V84,
}

impl Dialect {
    /// The dialect that a program's name chooses: 8.4 if it ends in `-84`, else 8.3.
    /// `called` may have a directory. spec/decisions.md 1.1.
    pub fn of_program(called: &str) -> Self {
        if called.ends_with("-84") {
            Dialect::V84
        } else {
            Dialect::V83
        }
    }

    /// `1` or `88`: the API version that the tools of this dialect report. spec/decisions.md 2.1.
    pub fn api_version(self) -> u32 {
        match self {
            Dialect::V83 => 88,
            Dialect::V84 => 1,
        }
    }

    /// The release that the tools of this dialect report. spec/decisions.md 2.1.
    pub fn release(self) -> &'static str {
        match self {
            Dialect::V83 => "8.3.16",
            Dialect::V84 => "8.4.11",
        }
    }
}
