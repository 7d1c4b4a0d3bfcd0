//! A running resync or verify, drawn in place for a person at a terminal. Nothing is printed elsewhere.
//!
//! The lines go to stderr, so that stdout stays what DRBD prints.

use drbdbox::control::Client;
use drbdbox::status::{people, Snapshot};
use drbdbox::sys::terminal;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

/// Time between two pictures.
pub const PAUSE: Duration = Duration::from_secs(1);

/// Lines that are drawn over the ones before.
#[derive(Debug, Default)]
pub struct Lines {
    drawn: usize,
}

impl Lines {
    /// Draws these in place of what was drawn before.
    pub fn draw(&mut self, lines: &[String]) {
        let width = terminal::width(&std::io::stderr()).unwrap_or(80).saturating_sub(1);
        let mut text = self.back();
        for line in lines {
            text.extend(line.chars().take(width));
            text += "\u{1b}[K\n";
        }
        // What is left of a longer picture.
        text += "\u{1b}[J";
        self.drawn = lines.len();
        put(&text);
    }

    /// Takes away what was drawn.
    pub fn clear(&mut self) {
        if self.drawn > 0 {
            put(&(self.back() + "\u{1b}[J"));
            self.drawn = 0;
        }
    }

    /// To the start of the first line.
    fn back(&self) -> String {
        match self.drawn {
            0 => "\r".to_string(),
            count => format!("\r\u{1b}[{count}A"),
        }
    }
}

fn put(text: &str) {
    let mut stderr = std::io::stderr().lock();
    // A terminal that has gone is no reason to fail.
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// What runs on these minors, one line each.
fn activities(snapshot: &Snapshot, minors: &[u32]) -> Vec<String> {
    let volumes = minors.iter().filter_map(|minor| people::volume_name(snapshot, *minor));
    let busy = volumes.filter(|(_, volume)| people::is_busy(volume));
    busy.map(|(name, volume)| people::activity(&name, volume, snapshot.now_ms)).collect()
}

/// After a command has succeeded: shows what it set going, if a person typed it at a prompt. `invalidate` and `verify`
/// stay until the end; `primary` does not, because the device is there to be used.
pub fn after(command: &str, minors: &[u32]) {
    let stays = matches!(command, "invalidate" | "invalidate-remote" | "verify");
    if !(stays || command == "primary") || !terminal::is_at_prompt() {
        return;
    }
    if stays {
        follow(minors);
    } else {
        remark(minors);
    }
}

/// Says once what runs on these minors.
fn remark(minors: &[u32]) {
    // The peer has to be told and the bitmaps to be exchanged; then it is known how much there is to do.
    let patience = Instant::now() + PAUSE;
    while let Some(snapshot) = Client::look() {
        let volumes = || minors.iter().filter_map(|minor| Some(snapshot.minor(*minor)?.1));
        let begins = volumes().any(|volume| people::expects_resync(volume) && volume.progress.is_none());
        if begins && Instant::now() < patience {
            std::thread::sleep(PAUSE / 10);
            continue;
        }
        let lines = activities(&snapshot, minors);
        if !lines.is_empty() {
            put(&(lines.join("\n") + "\n(drbdadm status --watch shows how it goes on)\n"));
        }
        return;
    }
}

/// Draws until nothing runs any more on these minors, then says what became of it.
fn follow(minors: &[u32]) {
    let mut lines = Lines::default();
    // Minors that were busy, and whether with a verify.
    let mut seen: BTreeMap<u32, bool> = BTreeMap::new();
    while let Some(snapshot) = Client::look() {
        for minor in minors {
            let volume = snapshot.minor(*minor).map(|(_, volume)| volume);
            if let Some(volume) = volume.filter(|volume| people::is_busy(volume)) {
                seen.insert(*minor, volume.state.conn.is_verify());
            }
        }
        let mut picture = activities(&snapshot, minors);
        if picture.is_empty() {
            lines.clear();
            for (minor, was_verify) in seen {
                if let Some((name, volume)) = people::volume_name(&snapshot, minor) {
                    put(&(people::outcome(&name, volume, was_verify) + "\n"));
                }
            }
            return;
        }
        picture.push("(Ctrl-C ends this display, not what it shows)".to_string());
        lines.draw(&picture);
        std::thread::sleep(PAUSE);
    }
    lines.clear();
}

/// The lines of a command that waits anyway (`wait-sync`), drawn while it does.
#[derive(Debug)]
pub struct WhileWaiting {
    lines: Option<Lines>,
    minor: u32,
}

impl WhileWaiting {
    /// Draws only where both output streams are terminals.
    pub fn new(minor: u32) -> WhileWaiting {
        let shown = terminal::can_redraw(&std::io::stderr()) && terminal::can_redraw(&std::io::stdout());
        WhileWaiting { lines: shown.then(Lines::default), minor }
    }

    /// Whether anything is drawn.
    pub fn is_shown(&self) -> bool {
        self.lines.is_some()
    }

    /// Draws what runs now.
    pub fn draw(&mut self) {
        if let (Some(lines), Some(snapshot)) = (&mut self.lines, Client::look()) {
            lines.draw(&activities(&snapshot, &[self.minor]));
        }
    }
}

impl Drop for WhileWaiting {
    fn drop(&mut self) {
        if let Some(lines) = &mut self.lines {
            lines.clear();
        }
    }
}
