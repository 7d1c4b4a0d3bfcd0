//! Log lines as the kernel's module writes them: `block drbd0: ...` about a volume,
//! `drbd r0: ...` about a connection or resource (8.4; 8.3 says `block drbd0: ` there too).
//! spec/state.md 17.
//!
//! One thread writes them. Those who have something to say leave it in a bounded queue and go on:
//! a log that blocks (a full disk, a stopped terminal, a syslog daemon whose files lie on the
//! device) must not hold up the device.

use crate::conf::Dialect;
use crate::core::types::Level;
use crate::sys::sync::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Lines that wait at most; more are counted and dropped.
const QUEUE_MAX: usize = 8192;

/// Writes one line.
pub type Writer = Box<dyn FnMut(Level, &str) + Send>;

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<(Level, String)>,
    dropped: u64,
    closed: bool,
    /// Lines have been taken out of the queue, and are not written yet.
    writing: bool,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    written: Condvar,
}

/// Where log lines go. Dropping it writes what waits.
#[derive(Debug)]
pub struct LogSink {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl LogSink {
    /// A sink that writes with `writer`.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn new(writer: Writer) -> std::io::Result<LogSink> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("log".into())
            .stack_size(super::disk::STACK_BYTES)
            .spawn(move || run(&of_thread, writer))?;
        Ok(LogSink { shared, thread: Some(thread) })
    }

    /// Writes with the `log` crate; alerts have the target `alert`.
    pub fn to_log_crate() -> Writer {
        Box::new(|level, text| match level {
            Level::Alert => log::error!(target: "alert", "{text}"),
            Level::Error => log::error!(target: "drbd", "{text}"),
            Level::Warning => log::warn!(target: "drbd", "{text}"),
            Level::Info => log::info!(target: "drbd", "{text}"),
        })
    }

    /// Adds a line. Never waits.
    pub fn line(&self, level: Level, text: String) {
        let mut queue = self.shared.queue.lock();
        if queue.lines.len() >= QUEUE_MAX {
            queue.dropped += 1;
            return;
        }
        queue.lines.push_back((level, text));
        drop(queue);
        self.shared.arrived.notify_one();
    }

    /// Waits until all lines are written, at most that long. True if they are.
    pub fn wait_until_written(&self, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        let mut queue = self.shared.queue.lock();
        while queue.writing || !queue.lines.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            queue = self.shared.written.wait_timeout(queue, left);
        }
        true
    }
}

impl Drop for LogSink {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.arrived.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, mut writer: Writer) {
    loop {
        let (lines, dropped) = {
            let mut queue = shared.queue.lock();
            queue.writing = false;
            shared.written.notify_all();
            while queue.lines.is_empty() && !queue.closed {
                queue = shared.arrived.wait(queue);
            }
            if queue.lines.is_empty() {
                return;
            }
            queue.writing = true;
            (std::mem::take(&mut queue.lines), std::mem::take(&mut queue.dropped))
        };
        for (level, text) in lines {
            writer(level, &text);
        }
        if dropped > 0 {
            writer(Level::Warning, &format!("drbd: {dropped} log lines lost"));
        }
    }
}

/// What a line begins with. `minor`: of the volume that it is about; `first_minor`: of the resource's
/// first volume.
pub fn prefix(dialect: Dialect, resource: &str, minor: Option<u32>, first_minor: Option<u32>) -> String {
    let minor = match dialect {
        Dialect::V83 => minor.or(first_minor),
        Dialect::V84 => minor,
    };
    match minor {
        Some(minor) => format!("block drbd{minor}: "),
        None => format!("drbd {resource}: "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_written_in_order_before_the_sink_is_gone() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let copy = Arc::clone(&lines);
        let sink = LogSink::new(Box::new(move |_, text| copy.lock().push(text.to_owned()))).unwrap();
        for number in 0..100 {
            sink.line(Level::Info, number.to_string());
        }
        drop(sink);
        assert!(lines.lock().iter().eq((0..100).map(|n| n.to_string()).collect::<Vec<_>>().iter()));
    }

    #[test]
    fn what_waits_is_written_in_time_or_not() {
        let (sender, receiver) = crate::sys::sync::channel::<()>();
        let sink = LogSink::new(Box::new(move |_, _| assert!(receiver.receive().is_some()))).unwrap();
        assert!(sink.wait_until_written(Duration::ZERO));
        sink.line(Level::Info, "a log that blocks".into());
        assert!(!sink.wait_until_written(Duration::from_millis(1)));
        sender.send(());
        assert!(sink.wait_until_written(Duration::from_secs(60)));
    }

    #[test]
    fn prefixes_follow_the_dialect() {
        assert_eq!(prefix(Dialect::V83, "r0", None, Some(3)), "block drbd3: ");
        assert_eq!(prefix(Dialect::V84, "r0", None, Some(3)), "drbd r0: ");
        assert_eq!(prefix(Dialect::V84, "r0", Some(4), Some(3)), "block drbd4: ");
    }
}
