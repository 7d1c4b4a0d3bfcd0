//! The applet `drbdsetup`: commands to the daemon, one object at a time.
//!
//! | file | holds |
//! |---|---|
//! | `table` | the one table of commands, their arguments and options |
//! | `usage` | usage, help and XML texts made from it |
//! | `getopt`, `values`, `device` | the words of a call taken apart and converted |
//! | `daemon` | asking the daemon; messages and exit statuses of its codes |
//! | `configure`, `query`, `events`, `wait` | the commands |
//! | `live` | progress in place, for people at a terminal |
//! | `nine`, `nine_events` | the forms of `status` and `events2` that DRBD 9 has |
//!
//! Here: which dialect a call means (spec/drbdsetup.md 1, spec/decisions.md 1), and the order in
//! which its parts are looked at (spec/drbdsetup.md 2.1 and 6.1).

mod configure;
mod daemon;
mod device;
mod events;
mod failure;
mod getopt;
pub mod live;
pub mod manual;
mod nine;
mod nine_events;
mod query;
mod table;
mod usage;
mod values;
mod wait;

use daemon::{report, Asker};
use drbdbox::conf::Dialect;
use failure::{out, Outcome};
use table::{Action, Command};

/// Exit status of usage errors.
const USAGE: u8 = 20;

/// Commands that exist only in 8.3's form.
const ONLY_83: [&str; 3] = ["disk", "net", "syncer"];

/// The switches of a command that are no settings, such as `force`: of one form, or of both.
pub fn switches(command: &str, form: Option<Dialect>) -> Vec<&'static str> {
    let forms = [Dialect::V84, Dialect::V83].into_iter().filter(|f| form.is_none_or(|form| form == *f));
    let commands = forms.filter_map(|form| Some((table::find(command, form)?, form)));
    let options = commands.flat_map(|(command, form)| command.native_options(form));
    options
        .filter_map(|spec| match spec.target {
            table::Target::Own(own) if own.kind == table::OwnKind::Switch => Some(own.long),
            _ => None,
        })
        .collect()
}

/// Runs the applet; `args[0]` is its name as called. Returns the exit status.
pub fn main(args: &[String]) -> u8 {
    let called = args.first().map_or("drbdsetup", String::as_str);
    let name = called.rsplit('/').next().unwrap_or(called);
    let program = ["-83", "-84", "-9"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
    // Relative paths of devices mean /path. Failing leaves them as they are.
    let _ = std::env::set_current_dir("/");
    let words = args.get(1..).unwrap_or(&[]);
    let spoken = Dialect::of_program(name);
    let outcome = match shape(words, spoken) {
        Shape::Help => help(program, words, spoken),
        Shape::Old { device, command, rest } => old(program, spoken, &device, &command, rest),
        Shape::New { command, words } => {
            let nine = name.ends_with("-9") || nine::is_asked_for(&words);
            let checked = || daemon::check(command.name, false);
            match command.name {
                "status" if nine => checked().and_then(|()| nine::status(&words)),
                "events2" if nine => checked().and_then(|()| nine_events::run(&words)),
                _ => new(program, spoken, command, &words),
            }
        }
        Shape::Unknown => match spoken {
            Dialect::V83 => invalid_83(words),
            Dialect::V84 => Ok(print_usage(spoken, Some("invalid command"))),
        },
    };
    report(outcome)
}

/// What a call looks like. spec/drbdsetup.md 1.
enum Shape<'a> {
    /// Usage and help.
    Help,
    /// `DEV COMMAND ...`.
    Old { device: String, command: String, rest: &'a [String] },
    /// `COMMAND OBJECT ...`, in either order.
    New { command: &'static Command, words: Vec<String> },
    /// No command in sight.
    Unknown,
}

fn shape(words: &[String], spoken: Dialect) -> Shape<'_> {
    let Some(first) = words.first().map(String::as_str) else {
        return Shape::Help;
    };
    if matches!(first, "help" | "xml-help" | "xml") || first.starts_with('-') {
        return Shape::Help;
    }
    let second = words.get(1).map(String::as_str);
    if matches!(second, Some("--help" | "-h")) && table::find(first, Dialect::V84).is_some() {
        return Shape::Help;
    }
    if let Some(command) = table::find(first, Dialect::V84) {
        return Shape::New { command, words: words[1..].to_vec() };
    }
    let Some(second) = second else {
        return Shape::Unknown;
    };
    if ONLY_83.contains(&first) && !ONLY_83.contains(&second) {
        return Shape::Old { device: second.to_string(), command: first.to_string(), rest: &words[2..] };
    }
    let is_old = table::find(second, Dialect::V83).is_some() || second == "state";
    let common = table::find(second, Dialect::V84);
    match (is_old, common) {
        (true, Some(command)) if spoken == Dialect::V84 => swapped(command, words),
        (true, _) => Shape::Old { device: first.to_string(), command: second.to_string(), rest: &words[2..] },
        (false, Some(command)) => swapped(command, words),
        (false, None) => Shape::Unknown,
    }
}

/// `OBJECT COMMAND ...` of 8.4.
fn swapped<'a>(command: &'static Command, words: &[String]) -> Shape<'a> {
    let object = words.first().cloned();
    let rest = words.get(2..).unwrap_or(&[]).iter().cloned();
    Shape::New { command, words: object.into_iter().chain(rest).collect() }
}

fn print_usage(form: Dialect, extra: Option<&str>) -> u8 {
    out(&usage::general(form, extra));
    USAGE
}

/// The command of a help text: the dialect's own, else the other one's.
fn find_for_help(program: &str, name: &str, spoken: Dialect) -> Option<(&'static Command, Dialect)> {
    let name = match (name, spoken) {
        ("state", Dialect::V83) => {
            query::state_is_deprecated(program);
            "role"
        }
        _ => name,
    };
    let other = match spoken {
        Dialect::V83 => Dialect::V84,
        Dialect::V84 => Dialect::V83,
    };
    [spoken, other].into_iter().find_map(|form| Some((table::find(name, form)?, form)))
}

fn help(program: &str, words: &[String], spoken: Dialect) -> Outcome {
    let first = words.first().map(String::as_str);
    // `primary --help` is `--help primary`.
    let (first, second) = match (first, words.get(1).map(String::as_str)) {
        (Some(command), Some(ask @ ("--help" | "-h"))) if !command.starts_with('-') => {
            (Some(ask), Some(command))
        }
        pair => pair,
    };
    let xml = match spoken {
        Dialect::V83 => first == Some("xml") || first == Some("xml-help"),
        Dialect::V84 => first == Some("xml-help"),
    };
    let asks_84 = matches!(first, Some("help" | "xml-help" | "--help" | "-h"));
    match (spoken, first, second) {
        (_, None, _) => Ok(print_usage(spoken, None)),
        (Dialect::V83, Some(_), None) => Ok(print_usage(spoken, Some(" Insufficient arguments"))),
        (Dialect::V84, Some(_), None) if asks_84 => Ok(print_usage(spoken, None)),
        (Dialect::V84, Some(_), _) if !asks_84 => Ok(print_usage(spoken, Some("invalid command"))),
        (_, Some(_), Some(name)) => match find_for_help(program, name, spoken) {
            Some((command, form)) if xml => {
                out(&usage::xml(command, form));
                Ok(0)
            }
            Some((command, form)) => {
                out(&usage::command(command, form));
                Ok(0)
            }
            None => Ok(print_usage(spoken, Some("unknown command"))),
        },
        (Dialect::V84, Some(_), None) => Ok(print_usage(spoken, Some("invalid command"))),
    }
}

/// 8.3: words without a command. spec/drbdsetup.md 2.1.6 to 2.1.9.
fn invalid_83(words: &[String]) -> Outcome {
    if words.len() < 2 {
        return Ok(print_usage(Dialect::V83, Some(" Insufficient arguments")));
    }
    daemon::check(&words[1], false)?;
    Ok(print_usage(Dialect::V83, Some("invalid command")))
}

/// A call in 8.3's form. spec/drbdsetup.md 2.1.
fn old(program: &str, spoken: Dialect, device: &str, name: &str, rest: &[String]) -> Outcome {
    let form = Dialect::V83;
    let name = if name == "state" {
        query::state_is_deprecated(program);
        "role"
    } else {
        name
    };
    let Some(command) = table::find(name, form) else {
        return Ok(print_usage(spoken, Some("invalid command")));
    };
    daemon::check(name, asks_for_device(command, rest))?;
    let minor = device::minor(device)?;
    match command.action {
        Action::Configure => {
            let outcome = configure::run_83(program, command, device, minor, rest)?;
            show_progress(outcome, command, minor)
        }
        Action::Down83 => configure::down_83(program, device, minor, rest),
        Action::Query => query::run_83(name, device, minor, rest),
        Action::CheckResize => {
            values::excess_83(name, &[], rest, 0);
            query::check_resize(form, device, minor)
        }
        Action::Events => {
            let parsed = values::parse(program, command, rest, form)?;
            events::run_83(device, minor, &parsed.values)
        }
        Action::Wait => {
            let parsed = values::parse(program, command, rest, form)?;
            let asker = Asker { object: device, form };
            wait::run(name, &asker, minor, &parsed.values)
        }
        Action::Events2 => Ok(print_usage(spoken, Some("invalid command"))),
    }
}

/// After a command that succeeded.
fn show_progress(status: u8, command: &Command, minor: u32) -> Outcome {
    if status == 0 {
        live::after(command.name, &[minor]);
    }
    Ok(status)
}

/// Whether the call has `--create-device`, which starts a daemon. spec/decisions.md 7.1.
fn asks_for_device(command: &Command, words: &[String]) -> bool {
    if !command.old.is_some_and(|f| f.configures) {
        return false;
    }
    let specs = command.accepted_options(Dialect::V83);
    let mut parser = getopt::Parser::new(command.name, words, &specs);
    while let Some(found) = parser.next_option() {
        match found {
            Ok(found) if found.spec.long == "create-device" => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

/// A call in 8.4's form. spec/drbdsetup.md 6.1.
fn new(program: &str, spoken: Dialect, command: &Command, words: &[String]) -> Outcome {
    daemon::check(command.name, command.name == "new-resource")?;
    let call = configure::take_apart_84(program, command, words, spoken)?;
    match command.action {
        Action::Configure | Action::Down83 => {
            let minor = device::minor_of_object(&call.object);
            let outcome = configure::run_84(command, call)?;
            minor.map_or(Ok(outcome), |minor| show_progress(outcome, command, minor))
        }
        Action::Query => query::run_84(command.name, &call),
        Action::CheckResize => {
            let minor = device::minor_84(&call.object)?;
            query::check_resize(Dialect::V84, &call.object, minor)
        }
        Action::Events => events::run_84(&call),
        Action::Events2 => events::events2(&call),
        Action::Wait => {
            let minor = device::minor_84(&call.object)?;
            let asker = Asker { object: &call.object, form: Dialect::V84 };
            wait::run(command.name, &asker, minor, &call.values)
        }
    }
}
