//! What a door sees of a volume.

use super::runner::{Inline, Runner};
use crate::core::types::VolumeIndex;
use crate::export::request::{Backend, Limits, Request};
use crate::wire::SECTOR_BYTES;
use std::sync::Arc;

/// A volume as the backend of a door.
pub struct VolumeBackend {
    runner: Arc<Runner>,
    volume: VolumeIndex,
}

impl VolumeBackend {
    /// The backend of this volume.
    pub fn new(runner: Arc<Runner>, volume: VolumeIndex) -> VolumeBackend {
        VolumeBackend { runner, volume }
    }
}

impl Backend for VolumeBackend {
    fn size_bytes(&self) -> u64 {
        self.runner.look(|state| state.core.volume(self.volume).size_sectors()) * u64::from(SECTOR_BYTES)
    }

    fn limits(&self) -> Limits {
        let discard = self.runner.look(|state| {
            let disk = state.core.volume(self.volume).disk();
            disk.is_some_and(|disk| disk.can_discard)
        });
        Limits { discard, write_zeroes: true, ..Limits::default() }
    }

    fn generation(&self) -> Option<u64> {
        self.runner.look(|state| {
            let disk = state.core.volume(self.volume).disk();
            disk.map(|disk| disk.uuids.current)
        })
    }

    fn submit(&self, request: Request) {
        let inline = if request.alone { Inline::Always } else { Inline::Never };
        self.runner.submit(self.volume, request, inline);
    }
}
