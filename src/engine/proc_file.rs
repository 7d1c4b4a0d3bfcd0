//! Keeps RUNDIR/proc, the text of /proc/drbd, and the running configuration up to date.
//! spec/system.md 8, spec/decisions.md 4.
//!
//! Also lets resyncs wait for each other ([`sync_after`]), which follows from the same events.
//!
//! One thread. It sleeps until something happens: a state change is written at once, counters at most
//! once a second while there is traffic. An idle daemon does nothing here.

use super::daemon::Daemon;
use super::shared::News;
use super::{running, sync_after};
use crate::control::message::EventKind;
use crate::control::Service;
use crate::status::{proc, Snapshot};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Counters are written at most this often.
const TRAFFIC_PAUSE: Duration = Duration::from_secs(1);

/// Changes that come one upon the other are written together.
const STATE_PAUSE: Duration = Duration::from_millis(20);

/// Where the files are.
#[derive(Debug, Clone)]
pub struct Files {
    /// Text of /proc/drbd.
    pub proc_text: PathBuf,
    /// Running configuration.
    pub running: PathBuf,
}

/// Starts the thread, after a first write: the file's existence says that the daemon is there. It ends
/// when the daemon does ([`super::shared::Shared::end`]), and removes both files then.
///
/// # Errors
/// The file cannot be written, or no thread started.
pub fn start(daemon: Arc<Daemon>, files: Files) -> io::Result<JoinHandle<()>> {
    write(&daemon.snapshot(), &files)?;
    thread::Builder::new().name("proc".into()).stack_size(super::disk::STACK_BYTES).spawn(move || {
        run(&daemon, &files);
        let _ = fs::remove_file(&files.proc_text);
        let _ = fs::remove_file(&files.running);
    })
}

fn write(snapshot: &Snapshot, files: &Files) -> io::Result<()> {
    running::replace(&files.proc_text, proc::text(snapshot).as_bytes(), 0o644)
}

fn run(daemon: &Daemon, files: &Files) {
    let mut pending = News::default();
    let mut written = Instant::now();
    let mut progress = BTreeMap::new();
    loop {
        let pause = if pending.traffic {
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
        pending.configuration |= news.configuration;
        if pending.state {
            sync_after::apply(daemon);
            thread::sleep(STATE_PAUSE);
        }
        if std::mem::take(&mut pending.configuration) {
            if let Err(error) = running::save(daemon, &files.running) {
                log::warn!("{}: {error}", files.running.display());
            }
        }
        if pending.state || (pending.traffic && written.elapsed() >= TRAFFIC_PAUSE) {
            pending = News::default();
            daemon.shared.watch_traffic();
            let snapshot = daemon.snapshot();
            if let Err(error) = write(&snapshot, files) {
                log::warn!("{}: {error}", files.proc_text.display());
            }
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
