//! Keeps RUNDIR/proc, the text of /proc/drbd, up to date. spec/system.md 8, spec/decisions.md 4.
//!
//! Also writes what of the running configuration no command has written ([`super::running::Keeper`]).
//! Also lets resyncs wait for each other ([`sync_after`]), which follows from the same events.
//!
//! One thread. It sleeps until something happens: a state change is written at once, counters at most
//! once a second while there is traffic. An idle daemon does nothing here.

use super::daemon::Daemon;
use super::kept_file::{replace, Kept};
use super::shared::News;
use super::sync_after;
use crate::control::message::EventKind;
use crate::control::Service;
use crate::status::{proc, Snapshot};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Counters are written at most this often.
const TRAFFIC_PAUSE: Duration = Duration::from_secs(1);

/// Changes that come one upon the other are written together.
const STATE_PAUSE: Duration = Duration::from_millis(20);

/// Starts the thread, after a first write: the file's existence says that the daemon is there. It ends
/// when the daemon does ([`super::shared::Shared::end`]), and removes the file then, and the running configuration.
///
/// # Errors
/// The file cannot be written, or no thread started.
pub fn start(daemon: Arc<Daemon>, path: PathBuf) -> io::Result<JoinHandle<()>> {
    write(&daemon.snapshot(), &path)?;
    thread::Builder::new().name("proc".into()).stack_size(super::disk::STACK_BYTES).spawn(move || {
        run(&daemon, &path);
        let _ = fs::remove_file(&path);
        daemon.shared.running.end();
    })
}

fn write(snapshot: &Snapshot, path: &Path) -> io::Result<()> {
    replace(path, proc::text(snapshot).as_bytes(), 0o644)
}

fn run(daemon: &Daemon, path: &Path) {
    let mut pending = News::default();
    let mut written = Instant::now();
    let mut progress = BTreeMap::new();
    let mut proc_text = Kept::new(path, "Replication goes on; the text shows the state of before");
    let running = &daemon.shared.running;
    loop {
        let fails = proc_text.fails || running.fails();
        let pause = if pending.traffic || fails {
            Some((written + TRAFFIC_PAUSE).saturating_duration_since(Instant::now()))
        } else {
            None
        };
        let news = daemon.shared.wait_for_news(pause);
        if news.ended {
            return;
        }
        pending.traffic |= news.traffic;
        pending.state |= news.state;
        if pending.state {
            sync_after::apply(daemon);
            thread::sleep(STATE_PAUSE);
        }
        let is_time = written.elapsed() >= TRAFFIC_PAUSE;
        if is_time && running.fails() {
            running.changed();
        }
        running.write(daemon);
        if pending.state || ((pending.traffic || fails) && is_time) {
            pending = News::default();
            daemon.shared.watch_traffic();
            let snapshot = daemon.snapshot();
            proc_text.tried(write(&snapshot, path));
            written = Instant::now();
            publish_progress(daemon, &snapshot, &mut progress);
        }
    }
}

/// Tells readers of events how far resyncs are, if that changed by a thousandth.
fn publish_progress(daemon: &Daemon, snapshot: &Snapshot, last: &mut BTreeMap<u32, u32>) {
    last.retain(|minor, _| snapshot.minor(*minor).is_some_and(|(_, volume)| volume.progress.is_some()));
    for (resource, volume) in snapshot.volumes() {
        let Some(permille) = volume.permille() else { continue };
        if last.insert(volume.minor, permille) != Some(permille) {
            daemon.shared.hub.publish(EventKind::SyncProgress {
                resource: resource.name.clone(),
                minor: volume.minor,
                volume: volume.number,
                permille,
            });
        }
    }
}
