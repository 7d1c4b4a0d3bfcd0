//! `wait-connect` and `wait-sync`. spec/drbdsetup.md 5.7.
//!
//! Where the original's timeouts are odd (section 11, Q5, Q6), this checks each value, sets the
//! outdated timeout to the degraded one, and has one absolute deadline.

use super::daemon::Asker;
use super::device::plain_number;
use super::failure::{err, Failure, Outcome};
use super::live::{self, WhileWaiting};
use super::values::Values;
use drbdbox::conf::Dialect;
use drbdbox::control::client::Next;
use drbdbox::control::EventKind;
use drbdbox::core::codes::ConfigCode;
use drbdbox::core::state::Conn;
use drbdbox::status::{Resource, TimeoutClass, Volume};
use std::time::{Duration, Instant};

/// Longest timeout, seconds.
const TIMEOUT_MAX: i64 = 300_000;

/// Exit status when the time is over.
const TIMED_OUT: u8 = 5;

/// The three timeouts in seconds; 0: for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Timeouts {
    wfc: i64,
    degraded: i64,
    outdated: i64,
}

impl Timeouts {
    fn of(values: &Values) -> Result<Timeouts, Failure> {
        let timeout = |option: &str, name: &str| -> Result<i64, Failure> {
            let Some(text) = values.text(option) else {
                return Ok(0);
            };
            let value = plain_number(text.unwrap_or(""))? as i64;
            if (0..=TIMEOUT_MAX).contains(&value) {
                return Ok(value);
            }
            let text = format!("{name} => {value} out of range [0..{TIMEOUT_MAX}]");
            Err(Failure::refused(text))
        };
        Ok(Timeouts {
            wfc: timeout("wfc-timeout", "wfc_timeout")?,
            degraded: timeout("degr-wfc-timeout", "degr_wfc_timeout")?,
            outdated: timeout("outdated-wfc-timeout", "outdated_wfc_timeout")?,
        })
    }

    /// Shortens what has to be shorter, with messages, and chooses by class. `None`: for ever.
    fn choose(mut self, class: TimeoutClass, form: Dialect) -> (Option<Duration>, String) {
        let mut messages = String::new();
        // 8.3 looks at them only where they matter.
        if class != TimeoutClass::Normal || form == Dialect::V84 {
            if self.wfc > 0 && (self.wfc < self.degraded || self.degraded == 0) {
                self.degraded = self.wfc;
                messages += &format!(
                    "degr-wfc-timeout has to be shorter than wfc-timeout\n\
                     degr-wfc-timeout implicitly set to wfc-timeout ({}s)\n",
                    self.degraded
                );
            }
            if self.degraded > 0 && (self.degraded < self.outdated || self.outdated == 0) {
                self.outdated = self.degraded;
                messages += &format!(
                    "outdated-wfc-timeout has to be shorter than degr-wfc-timeout\n\
                     outdated-wfc-timeout implicitly set to degr-wfc-timeout ({}s)\n",
                    self.degraded
                );
            }
        }
        let seconds = match class {
            TimeoutClass::Normal => self.wfc,
            TimeoutClass::Degraded => self.degraded,
            TimeoutClass::Outdated => self.outdated,
        };
        let seconds = u64::try_from(seconds).unwrap_or(0);
        let limit = (seconds > 0).then(|| Duration::from_millis(seconds * 1000 - 1));
        (limit, messages)
    }
}

/// Whether a connection's state ends the wait.
fn is_done(sync: bool, after_split_brain_too: bool, conn: Conn) -> bool {
    let reached = if sync { conn == Conn::Connected } else { conn >= Conn::Connected };
    reached || (conn < Conn::Unconnected && !after_split_brain_too)
}

/// Waits. `command` is `wait-connect` or `wait-sync`.
pub fn run(command: &str, asker: &Asker, minor: u32, values: &Values) -> Outcome {
    let timeouts = Timeouts::of(values)?;
    let stubborn = match (values.text("wait-after-sb"), asker.form) {
        (None, _) => false,
        (Some(value), Dialect::V84) => value.is_none_or(|v| v == "yes"),
        (Some(_), Dialect::V83) => true,
    };
    let sync = command == "wait-sync";
    let started = Instant::now();
    let mut deadline = None;
    let mut stream = asker.events()?;
    let mut first = true;
    let stdout = std::io::stdout();
    let mut live = sync.then(|| WhileWaiting::new(minor)).filter(WhileWaiting::is_shown);
    loop {
        let redraw = live.is_some().then(|| Instant::now() + live::PAUSE);
        let until = match (deadline, redraw) {
            (Some(deadline), Some(redraw)) => Some(redraw.min(deadline)),
            (deadline, redraw) => deadline.or(redraw),
        };
        let next = stream.next(until, Some(&stdout));
        let event = match next.map_err(|error| asker.stream_failed(&error))? {
            Next::Event(event) => event,
            Next::Deadline if deadline.is_some_and(|at| Instant::now() >= at) => return Ok(TIMED_OUT),
            Next::Deadline => {
                live.iter_mut().for_each(WhileWaiting::draw);
                continue;
            }
            Next::WatchedClosed => return Ok(0),
        };
        // Which pictures say something about our minor; `None`: it does not exist.
        let found: Option<(&Resource, &Volume)> = match &event.kind {
            EventKind::Start(snapshot) => snapshot.minor(minor),
            EventKind::State { resource, minor: of, .. } if *of == minor => volume_of(resource, minor),
            EventKind::Resource(resource) => match volume_of(resource, minor) {
                Some(found) => Some(found),
                None => continue,
            },
            _ => continue,
        };
        let Some((resource, volume)) = found else {
            if first && asker.form == Dialect::V84 {
                // 8.4 looks at its timeouts before it asks.
                err(&timeouts.choose(TimeoutClass::Normal, asker.form).1);
            }
            return Err(unknown_minor(asker, first));
        };
        if first {
            first = false;
            let (limit, messages) = timeouts.choose(volume.timeout_class, asker.form);
            err(&messages);
            deadline = limit.map(|limit| started + limit);
        }
        let conn = volume.state.conn;
        if is_done(sync, stubborn, conn) {
            return Ok(0);
        }
        if asker.form == Dialect::V84 && !sync && conn < Conn::Unconnected {
            err(&format!(
                "\ndrbd{minor} ({}[{}]) is {conn}, but I'm configured to wait anways (--wait-after-sb)\n",
                resource.name, volume.number
            ));
        }
    }
}

fn volume_of(resource: &Resource, minor: u32) -> Option<(&Resource, &Volume)> {
    let volume = resource.volumes.iter().find(|v| v.minor == minor)?;
    Some((resource, volume))
}

fn unknown_minor(asker: &Asker, first: bool) -> Failure {
    match asker.form {
        Dialect::V84 if first => {
            Failure::refused("error determining which timeout to use: minor not available")
        }
        _ => asker.code(ConfigCode::MinorInvalid.number(), &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::find;
    use super::super::values::parse;
    use super::*;
    use serde_json::Value;

    /// The timeouts that 8.3.16 sets to the wrong value: outdated to wfc where it was to become
    /// the degraded one (spec/drbdsetup.md 11, Q5).
    fn original_sets_outdated_wrongly(timeouts: &Timeouts, class: TimeoutClass) -> bool {
        let Timeouts { wfc, mut degraded, outdated } = *timeouts;
        if wfc > 0 && (wfc < degraded || degraded == 0) {
            degraded = wfc;
        }
        class == TimeoutClass::Outdated
            && degraded > 0
            && (degraded < outdated || outdated == 0)
            && degraded != wfc
    }

    #[test]
    fn limits_and_messages_are_those_of_8_3_16() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/drbdsetup/wait-8.3.16.jsonl");
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let (mut agree, mut left_out, mut rows) = (0, 0, 0);
        for line in text.lines() {
            let row: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
            rows += 1;
            let words: Vec<String> = row["argv"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|w| w.as_str().map(String::from))
                .collect();
            let command = find(&words[2], Dialect::V83).unwrap_or_else(|| panic!("{line}"));
            let values = parse("drbdsetup", command, &words[3..], Dialect::V83)
                .unwrap_or_else(|e| panic!("{line}: {}", e.err))
                .values;
            if let Some(conn) = row["conn"].as_str() {
                let Some(conn) = Conn::from_name(conn) else {
                    left_out += 1;
                    continue;
                };
                let done = is_done(words[2] == "wait-sync", values.text("wait-after-sb").is_some(), conn);
                assert_eq!(done, row["returns_immediately"].as_bool() == Some(true), "{line}");
                agree += 1;
                continue;
            }
            let class = match row["timeout_type"].as_u64() {
                Some(1) => TimeoutClass::Degraded,
                Some(2) => TimeoutClass::Outdated,
                _ => TimeoutClass::Normal,
            };
            let timeouts = Timeouts::of(&values).unwrap_or_else(|e| panic!("{line}: {}", e.err));
            if original_sets_outdated_wrongly(&timeouts, class) {
                left_out += 1;
                continue;
            }
            let (limit, messages) = timeouts.choose(class, Dialect::V83);
            let want = row["poll_timeout_ms"].as_u64();
            assert_eq!(limit.map(|l| l.as_millis() as u64), want, "{line}");
            assert_eq!(messages, row["stderr"].as_str().unwrap_or(""), "{line}");
            agree += 1;
        }
        println!("wait-8.3.16: {agree} of {rows} rows, {left_out} left out");
        assert!(agree > 100);
    }
}
