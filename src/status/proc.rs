//! The text of /proc/drbd. spec/drbdsetup.md 8.

use super::Snapshot;

/// The whole text.
pub fn text(_snapshot: &Snapshot) -> String {
    String::new()
}
