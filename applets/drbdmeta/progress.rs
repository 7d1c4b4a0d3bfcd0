//! How far long work is: a line on a terminal, nothing elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use drbdbox::core::log_lines::pretty_kib;

/// Work that is done before this is not talked about.
const QUIET: Duration = Duration::from_secs(1);
/// Between two updates of the line.
const UPDATE: Duration = Duration::from_millis(200);

/// A line on stderr that is rewritten, from a second after the start of the work on.
pub struct Progress {
    what: &'static str,
    next: Instant,
    /// Characters on the terminal now.
    shown: usize,
    has_terminal: bool,
}

impl Progress {
    /// Progress of `what`, which begins now.
    pub fn new(what: &'static str) -> Progress {
        Progress {
            what,
            next: Instant::now() + QUIET,
            shown: 0,
            has_terminal: std::io::stderr().is_terminal(),
        }
    }

    /// As [`Progress::new`], for work whose result goes to stdout meanwhile: a terminal there shows that it goes on.
    pub fn beside_stdout(what: &'static str) -> Progress {
        let mut progress = Progress::new(what);
        progress.has_terminal &= !std::io::stdout().is_terminal();
        progress
    }

    /// `done` of `total` of any unit are done.
    pub fn show(&mut self, done: u64, total: u64) {
        let percent = (u128::from(done) * 100).checked_div(u128::from(total)).unwrap_or(100);
        self.update(|| format!("{percent} %"));
    }

    /// So many bytes are done; nobody knows of how many.
    pub fn show_bytes(&mut self, done: u64) {
        self.update(|| pretty_kib(done / 1024));
    }

    fn update(&mut self, amount: impl Fn() -> String) {
        if !self.has_terminal {
            return;
        }
        if let Some(line) = self.line(Instant::now(), amount) {
            let mut stderr = std::io::stderr();
            let _ = write!(stderr, "\r{line}");
            let _ = stderr.flush();
        }
    }

    /// The line, if it is time for one; as long as the one before, at least.
    fn line(&mut self, now: Instant, amount: impl Fn() -> String) -> Option<String> {
        if now < self.next {
            return None;
        }
        self.next = now + UPDATE;
        let line = format!("{}: {}", self.what, amount());
        let line = format!("{line:width$}", width = self.shown);
        self.shown = line.len();
        Some(line)
    }

    /// Removes the line, so that what is printed next begins at the margin.
    pub fn end(&mut self) {
        if self.shown > 0 {
            let blanks = " ".repeat(std::mem::take(&mut self.shown));
            let mut stderr = std::io::stderr();
            let _ = write!(stderr, "\r{blanks}\r");
            let _ = stderr.flush();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_work_is_talked_about_and_not_too_often() {
        let mut progress = Progress::new("work");
        let start = progress.next - QUIET;
        let mut at = |milliseconds, amount: &str| {
            progress.line(start + Duration::from_millis(milliseconds), || amount.to_string())
        };
        assert_eq!(at(999, "12 %"), None);
        assert_eq!(at(1000, "10000 KB").as_deref(), Some("work: 10000 KB"));
        assert_eq!(at(1199, "25 %"), None);
        // Nothing of the longer line stays.
        assert_eq!(at(1200, "10 MB").as_deref(), Some("work: 10 MB   "));
        progress.shown = 0;
    }
}
