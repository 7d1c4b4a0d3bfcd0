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
use crate::sys::paths;
use log::Level;
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

/// Where the files are.
#[derive(Debug, Clone)]
pub struct Files {
    /// Text of /proc/drbd.
    pub proc_text: PathBuf,
    /// Running configuration.
    pub running: PathBuf,
}

/// A file that is kept up to date. That it cannot be written is said once, not with every try.
struct Kept {
    path: PathBuf,
    /// What holds until it is written again.
    meanwhile: &'static str,
    fails: bool,
}

impl Kept {
    fn new(path: &Path, meanwhile: &'static str) -> Kept {
        Kept { path: path.to_owned(), meanwhile, fails: false }
    }

    /// What the log has to say after a try.
    fn line(&mut self, result: io::Result<()>) -> Option<(Level, String)> {
        match (result, self.fails) {
            (Err(error), false) => {
                self.fails = true;
                let failure = paths::write_failure(&self.path, &error);
                Some((
                    Level::Error,
                    format!("{failure}. {}. It is tried again every second.", self.meanwhile),
                ))
            }
            (Ok(()), true) => {
                self.fails = false;
                Some((Level::Info, format!("{}: written again", self.path.display())))
            }
            _ => None,
        }
    }

    fn tried(&mut self, result: io::Result<()>) {
        if let Some((level, line)) = self.line(result) {
            log::log!(level, "{line}");
        }
    }
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
    let mut proc_text =
        Kept::new(&files.proc_text, "Replication goes on; the text shows the state of before");
    let mut configuration = Kept::new(
        &files.running,
        "Replication goes on; a daemon that is started again would not know the changes",
    );
    loop {
        let pause = if pending.traffic || proc_text.fails || configuration.fails {
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
        let is_time = written.elapsed() >= TRAFFIC_PAUSE;
        if std::mem::take(&mut pending.configuration) || (configuration.fails && is_time) {
            configuration.tried(running::save(daemon, &files.running));
        }
        if pending.state || ((pending.traffic || proc_text.fails || configuration.fails) && is_time) {
            pending = News::default();
            daemon.shared.watch_traffic();
            let snapshot = daemon.snapshot();
            proc_text.tried(write(&snapshot, files));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_is_told_once_and_so_is_its_return() {
        let mut kept = Kept::new(Path::new("/run/drbd/proc"), "The text shows the state of before");
        let full = || Err(io::Error::from_raw_os_error(libc::ENOSPC));
        assert_eq!(kept.line(Ok(())), None);
        let (level, line) = kept.line(full()).unwrap();
        assert_eq!(level, Level::Error);
        for part in ["/run/drbd/proc: No space", "df -h /run/drbd", "of before", "again every second"] {
            assert!(line.contains(part), "{line}");
        }
        assert_eq!(kept.line(full()), None);
        assert_eq!(kept.line(Ok(())).map(|(level, _)| level), Some(Level::Info));
        assert_eq!(kept.line(Ok(())), None);
    }
}
