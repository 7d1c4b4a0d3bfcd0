//! What all resources of a daemon have in common.

use super::doors::{DoorKind, Doors};
use super::helpers::Program;
use super::log::LogSink;
use super::rank;
use super::runner::Runner;
use super::running::Keeper;
use super::watchdog::Watch;
use crate::control::hub::Hub;
use crate::core::types::VolumeIndex;
use crate::sys::sync::{Condvar, Mutex};
use crate::wire::ProtocolVersion;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

/// How a daemon was started.
#[derive(Debug, Clone)]
pub struct Config {
    /// Newest protocol version to offer.
    pub protocol_max: ProtocolVersion,
    /// What runs handlers.
    pub helper: Program,
    /// How applications get at the devices.
    pub door: DoorKind,
    /// Directory of the device nodes: /dev.
    pub device_directory: PathBuf,
    /// RUNDIR. spec/decisions.md 4.
    pub run_directory: PathBuf,
    /// Threads of a door that serve requests.
    pub door_threads: usize,
    /// 8.3's minor_count: minors of 8.3's commands must be lower.
    pub minor_count: u32,
}

/// What all resources of a daemon have in common.
#[derive(Debug)]
pub struct Shared {
    /// How the daemon was started.
    pub config: Config,
    /// Where events are published.
    pub hub: Hub,
    /// Where log lines go.
    pub log: LogSink,
    /// The doors of all minors.
    pub doors: Doors,
    /// Keeps what is configured, for a daemon after this one.
    pub running: Keeper,
    /// Who touches a resource wakes the watchdog.
    pub watch: Watch,
    news: Mutex<News>,
    news_arrived: Condvar,
    /// `News::traffic`, to be looked at without a lock.
    traffic_seen: AtomicBool,
}

/// What the writer of the /proc/drbd text waits for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct News {
    /// A state changed.
    pub state: bool,
    /// Counters changed.
    pub traffic: bool,
    /// The daemon ends.
    pub ended: bool,
}

impl Shared {
    /// For a daemon without resources.
    pub fn new(config: Config, log: LogSink) -> Arc<Shared> {
        Arc::new(Shared {
            config,
            hub: Hub::new(),
            log,
            doors: Doors::default(),
            running: Keeper::default(),
            watch: Watch::default(),
            news: Mutex::ranked(rank::WITHIN_RESOURCE, News::default()),
            news_arrived: Condvar::new(),
            traffic_seen: AtomicBool::new(false),
        })
    }

    /// A state changed.
    pub fn state_changed(&self) {
        self.tell(|news| news.state = true);
    }

    /// What has to survive a restart of the daemon changed.
    pub fn configuration_changed(&self) {
        self.running.changed();
        self.state_changed();
    }

    /// The daemon ends.
    pub fn end(&self) {
        self.tell(|news| news.ended = true);
        self.watch.end();
    }

    /// Something was read, written, sent or received. On the hot path: one load, unless nothing happened
    /// since [`Shared::watch_traffic`].
    pub fn traffic(&self) {
        if !self.traffic_seen.load(Ordering::Relaxed) && !self.traffic_seen.swap(true, Ordering::AcqRel) {
            self.tell(|news| news.traffic = true);
        }
    }

    fn tell(&self, change: impl FnOnce(&mut News)) {
        change(&mut self.news.lock());
        self.news_arrived.notify_all();
    }

    /// Waits for news and takes them. `at_most`: not longer, even if there are none.
    pub fn wait_for_news(&self, at_most: Option<std::time::Duration>) -> News {
        let mut news = self.news.lock();
        while *news == News::default() {
            match at_most {
                None => news = self.news_arrived.wait(news),
                Some(at_most) => {
                    news = self.news_arrived.wait_timeout(news, at_most);
                    break;
                }
            }
        }
        std::mem::take(&mut *news)
    }

    /// Counters are about to be written: tell again when they change.
    pub fn watch_traffic(&self) {
        self.traffic_seen.store(false, Ordering::Release);
    }

    /// The size of a device changed: its door has to know.
    pub fn resized(&self, runner: &Arc<Runner>, volume: VolumeIndex, sectors: u64) {
        let minor = runner.look(|state| state.volumes.get(volume).map(|slot| slot.minor));
        if let Some(slot) = minor.and_then(|minor| self.doors.find(minor)) {
            slot.resize_later(runner, volume, sectors);
        }
    }
}
