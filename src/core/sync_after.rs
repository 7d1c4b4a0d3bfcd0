//! `resync-after`: a volume whose resync waits for that of another minor. spec/state.md 11.4.
//!
//! The other minor may belong to another resource, so the engine, which sees all of them, decides;
//! this is what follows from it in one resource.

use super::rules::ChangeKind;
use super::state::Change;
use super::types::{Millis, VolumeIndex};
use super::Resource;

impl Resource {
    /// Pauses the resync of a volume because of its dependency, or lets it go on. Nothing happens if it
    /// is so already.
    pub fn pause_by_dependency(&mut self, now: Millis, v: VolumeIndex, paused: bool) {
        self.now = self.now.max(now);
        if self.state(v).aftr_isp != paused {
            let _ = self.change(v, Change::aftr_isp(paused), ChangeKind::Hard, true);
        }
        self.settle();
    }
}
