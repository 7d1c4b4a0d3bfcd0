//! What drbdadm shows to people at a terminal: the status in colour with bars, `status --watch`, and the progress of
//! what a command set going. In a pipe everything is as DRBD has it.

use drbdbox::control::Client;
use drbdbox::status::{people, Snapshot};
use drbdbox::sys::{host, local_time, terminal};
use std::io::{stdout, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use super::session::{Exit, Options, Selected, Session, EXIT_USAGE};
use crate::drbdsetup::live;

impl Options {
    /// Whether `status` is to be read by a person: on a terminal, and nothing asks for another program or its output.
    pub fn is_for_people(&self) -> bool {
        terminal::can_redraw(&stdout())
            && self.drbdsetup.is_none()
            && self.dry_run == 0
            && self.verbose == 0
            && self.pass_through.is_empty()
    }
}

impl Session {
    /// `status` on a terminal. `None`: it is not for people, or no daemon answers; then the usual way has the messages.
    ///
    /// # Errors
    /// `--watch` where nothing can be drawn; a resource that is not in the configuration.
    pub fn status_for_people(&mut self) -> Result<Option<u8>, Exit> {
        if !self.options.is_for_people() {
            if self.options.watch {
                self.complain("status --watch draws on a terminal; in a pipe use: drbdsetup events2\n");
                return Err(Exit(EXIT_USAGE));
            }
            return Ok(None);
        }
        let names = self.names_of_status()?;
        if self.options.watch {
            watch(&names);
        }
        let Some(snapshot) = Client::look() else { return Ok(None) };
        self.print(&board(&snapshot, &names));
        Ok(Some(0))
    }

    fn names_of_status(&mut self) -> Result<Vec<String>, Exit> {
        let typed = std::mem::take(&mut self.options.names);
        if typed.is_empty() || typed[0] == "all" {
            let usable = self.config.resources.iter().filter(|r| !r.ignored);
            return Ok(usable.map(|r| r.name.clone()).collect());
        }
        typed.iter().map(|name| self.find(name).map(|(at, _)| self.resource(at).name.clone())).collect()
    }

    /// After success: what the command set going on its minors.
    pub fn show_progress(&mut self, names: &[String]) {
        if self.options.dry_run > 0 {
            return;
        }
        let mut minors = Vec::new();
        let all = names.is_empty() || names[0] == "all";
        for at in 0..self.config.resources.len() {
            let usable = !self.resource(at).ignored && self.resource(at).stacked == self.options.stacked;
            if all && usable {
                minors.extend(self.minors_of(at, Selected::Resource));
            }
        }
        for name in names.iter().filter(|_| !all) {
            if let Ok((at, selected)) = self.find(name) {
                minors.extend(self.minors_of(at, selected));
            }
        }
        live::after(self.command.name, &minors);
    }

    fn minors_of(&self, at: usize, selected: Selected) -> Vec<u32> {
        let volumes = self.resource(at).my_host().map_or(&[][..], |host| &host.volumes);
        let wanted = |number: usize| match selected {
            Selected::Resource => true,
            Selected::Volume(volume) => number == volume,
        };
        let numbered = volumes.iter().enumerate().filter(|(number, _)| wanted(*number));
        numbered.filter_map(|(_, volume)| volume.minor).collect()
    }
}

fn board(snapshot: &Snapshot, names: &[String]) -> String {
    let out = stdout();
    let width = terminal::width(&out).unwrap_or(80);
    people::board(snapshot, names, terminal::takes_colors(&out), width)
}

/// Draws until it is interrupted, over the picture before.
fn watch(names: &[String]) -> ! {
    // The terminal is left as it is: Ctrl-C may come at any moment.
    put("\u{1b}[2J");
    loop {
        let head = format!("{}  {}  (Ctrl-C ends this)", host::node_name(), time_of_day());
        let body = match Client::look() {
            Some(snapshot) => board(&snapshot, names),
            None => "No daemon answers. Waiting for one.\n".to_string(),
        };
        put(&picture(&head, &body, terminal::height(&stdout()).unwrap_or(24)));
        std::thread::sleep(live::PAUSE);
    }
}

/// What is drawn over the picture before on a terminal of so many lines. A picture that is too long would scroll.
fn picture(head: &str, body: &str, height: usize) -> String {
    let mut lines: Vec<&str> = [head, ""].into_iter().chain(body.lines()).collect();
    // The cursor is below the last line.
    let lines_max = height.saturating_sub(1);
    let hidden = (lines.len() + 1).saturating_sub(lines_max);
    let more = format!("... {hidden} more lines: enlarge the window, or name resources");
    if lines.len() > lines_max {
        lines.truncate(lines_max.saturating_sub(1));
        lines.push(&more);
    }
    let drawn: String = lines.iter().map(|line| format!("{line}\u{1b}[K\n")).collect();
    // Lines that are too long for a narrow window are cut, not wrapped.
    format!("\u{1b}[?7l\u{1b}[H{drawn}\u{1b}[?7h\u{1b}[J")
}

/// `2026-01-31 12:34:56`.
fn time_of_day() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let stamp = local_time::iso_8601(since.as_micros() as u64);
    stamp.chars().take(19).collect::<String>().replace('T', " ")
}

fn put(text: &str) {
    let mut out = stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        // The terminal has gone.
        std::process::exit(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_never_scrolls_and_says_what_is_hidden() {
        let plain = |height| picture("head", "1\n2\n3\n", height).replace("\u{1b}[K", "");
        assert_eq!(plain(6), "\u{1b}[?7l\u{1b}[Hhead\n\n1\n2\n3\n\u{1b}[?7h\u{1b}[J");
        let cut = plain(5);
        assert!(cut.contains("Hhead\n\n1\n... 2 more lines: "), "{cut}");
        for height in 0..8 {
            assert!(plain(height).matches('\n').count() < height.max(2), "{height}");
        }
    }
}
