//! How far long work is: a line on a terminal, nothing elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Work that is done before this is not talked about.
const QUIET: Duration = Duration::from_secs(1);
/// Between two updates of the line.
const UPDATE: Duration = Duration::from_millis(200);

/// A line on stderr that is rewritten, from a second after the start of the work on.
pub struct Progress {
    what: &'static str,
    next: Instant,
    is_shown: bool,
    has_terminal: bool,
}

impl Progress {
    /// Progress of `what`, which begins now.
    pub fn new(what: &'static str) -> Progress {
        Progress {
            what,
            next: Instant::now() + QUIET,
            is_shown: false,
            has_terminal: std::io::stderr().is_terminal(),
        }
    }

    /// `done` of `total` of any unit are done.
    pub fn show(&mut self, done: u64, total: u64) {
        if !self.has_terminal {
            return;
        }
        if let Some(line) = self.line(Instant::now(), done, total) {
            let mut stderr = std::io::stderr();
            let _ = write!(stderr, "\r{line}");
            let _ = stderr.flush();
        }
    }

    /// The line, if it is time for one.
    fn line(&mut self, now: Instant, done: u64, total: u64) -> Option<String> {
        if now < self.next {
            return None;
        }
        self.next = now + UPDATE;
        self.is_shown = true;
        let percent = (u128::from(done) * 100).checked_div(u128::from(total)).unwrap_or(100);
        Some(format!("{}: {percent} %", self.what))
    }

    /// Removes the line, so that what is printed next begins at the margin.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            let blanks = " ".repeat(self.what.len() + ": 100 %".len());
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
        let mut at = |milliseconds, done| progress.line(start + Duration::from_millis(milliseconds), done, 8);
        assert_eq!(at(999, 1), None);
        assert_eq!(at(1000, 2).as_deref(), Some("work: 25 %"));
        assert_eq!(at(1199, 3), None);
        assert_eq!(at(1200, 8).as_deref(), Some("work: 100 %"));
        assert_eq!(progress.line(start + 2 * QUIET, 0, 0).as_deref(), Some("work: 100 %"));
        progress.is_shown = false;
    }
}
