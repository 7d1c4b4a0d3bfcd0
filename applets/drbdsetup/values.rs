//! Options with their values, converted and checked. spec/drbdsetup.md 2.6 and 6.1.

use super::failure::{err, out, Failure};
use super::getopt::{BadOption, Found, Parser};
use super::table::{Command, Own, OwnKind, Target};
use super::usage;
use drbdbox::conf::number;
use drbdbox::conf::options::{Kind, OptionRow, Scope};
use drbdbox::conf::value::Value;
use drbdbox::conf::Dialect;
use drbdbox::control::message::SettingChange;

/// What the options of a command say.
#[derive(Debug, Default)]
pub struct Values {
    /// Settings to change; the last of a repeated option.
    pub changes: Vec<SettingChange>,
    switches: Vec<&'static str>,
    numbers: Vec<(&'static str, i64)>,
    texts: Vec<(&'static str, Option<String>)>,
}

impl Values {
    /// Whether a switch was given.
    pub fn has(&self, name: &str) -> bool {
        self.switches.contains(&name)
    }

    /// The number of an option; the last one wins.
    pub fn number(&self, name: &str) -> Option<i64> {
        let found = self.numbers.iter().rev().find(|(n, _)| *n == name)?;
        Some(found.1)
    }

    /// The text of an option, `Some(None)` if it was given without one; the last one wins.
    pub fn text(&self, name: &str) -> Option<Option<&str>> {
        let found = self.texts.iter().rev().find(|(n, _)| *n == name)?;
        Some(found.1.as_deref())
    }

    fn take(&mut self, found: &Found, program: &str, command: &str, form: Dialect) -> Result<(), Failure> {
        match found.spec.target {
            Target::Own(own) => self.take_own(own, found, program, command, form),
            Target::Setting { row, inverted } => {
                let value = setting(row, inverted, found, form).map_err(|bad| match bad {
                    BadValue::Failure(failure) => failure,
                    BadValue::NoFlag => bad_flag(found, program, command, form),
                })?;
                if row.scope != Scope::Historic {
                    self.changes.retain(|change| change.option != row.name);
                    self.changes.push(SettingChange { option: row.name.to_string(), value });
                }
                Ok(())
            }
        }
    }

    fn take_own(
        &mut self,
        own: Own,
        found: &Found,
        program: &str,
        command: &str,
        form: Dialect,
    ) -> Result<(), Failure> {
        match own.kind {
            OwnKind::Plain => self.switches.push(own.long),
            OwnKind::Switch => match found.value.as_deref() {
                None | Some("yes") => self.switches.push(own.long),
                Some("no") => self.switches.retain(|name| *name != own.long),
                Some(_) => return Err(bad_flag(found, program, command, form)),
            },
            OwnKind::Number { unit, min, max, .. } => {
                let text = found.value.as_deref().unwrap_or("");
                let value = number::parse(text, unit).map_err(|error| Failure {
                    err: format!("{error}\n"),
                    out: String::new(),
                    status: error.exit_status(),
                })?;
                let letter = unit.letter();
                if !(min..=max).contains(&(value as i64)) {
                    return Err(Failure::refused(format!(
                        "{} {text} => {value}{letter} out of range [{min}..{max}]{letter}",
                        own.long
                    )));
                }
                self.numbers.push((own.long, value as i64));
            }
            OwnKind::Text | OwnKind::OptionalText => {
                self.texts.push((own.long, found.value.clone()));
            }
            OwnKind::Address => {
                super::device::address(found.value.as_deref().unwrap_or(""))?;
            }
        }
        Ok(())
    }
}

/// Why a setting's value is refused.
enum BadValue {
    Failure(Failure),
    /// Neither yes nor no.
    NoFlag,
}

fn setting(row: &OptionRow, inverted: bool, found: &Found, form: Dialect) -> Result<Value, BadValue> {
    if row.kind == Kind::Flag {
        let on = match found.value.as_deref() {
            None | Some("yes") => true,
            Some("no") => false,
            Some(_) => return Err(BadValue::NoFlag),
        };
        return Ok(Value::Flag(on != inverted));
    }
    let text = found.value.as_deref().unwrap_or("");
    row.parse(text, form).map_err(|error| BadValue::Failure(Failure::of_value(&error, form)))
}

/// 8.3's flags have no value at all.
fn bad_flag(found: &Found, program: &str, command: &str, form: Dialect) -> Failure {
    match form {
        Dialect::V83 => {
            Failure::refused(format!("{program} {command}: unrecognized option '{}'", found.word))
        }
        Dialect::V84 => Failure::refused(format!(
            "Option --{}: invalid argument '{}'",
            found.spec.long,
            found.value.as_deref().unwrap_or("")
        )),
    }
}

/// Options and the other words of a call.
#[derive(Debug)]
pub struct Parsed {
    /// The options.
    pub values: Values,
    /// Words that are no options.
    pub others: Vec<String>,
}

/// Parses and converts in order; the first error ends. `program` is for messages.
///
/// # Errors
/// The original's texts: 8.3's own, or those of the C library with the general usage (8.4).
pub fn parse(program: &str, command: &Command, words: &[String], form: Dialect) -> Result<Parsed, Failure> {
    let specs = command.accepted_options(form);
    let mut parser = Parser::new(command.name, words, &specs);
    let mut values = Values::default();
    while let Some(found) = parser.next_option() {
        match found {
            Ok(found) => values.take(&found, program, command.name, form)?,
            Err(bad) => return Err(bad_option(&bad, program, command, form)),
        }
    }
    if form == Dialect::V83 {
        let known = command.old.map_or(0, |f| f.arguments.len());
        excess_83(command.name, parser.consumed(), parser.others(), known);
    }
    Ok(Parsed { values, others: parser.others().to_vec() })
}

fn bad_option(bad: &BadOption, program: &str, command: &Command, form: Dialect) -> Failure {
    match (form, bad) {
        (Dialect::V83, BadOption::Unknown { word, .. }) => {
            Failure::refused(format!("{program} {}: unrecognized option '{word}'", command.name))
        }
        (Dialect::V83, BadOption::NoValue { word, .. }) => {
            Failure::refused(format!("{program} {}: option '{word}' requires an argument", command.name))
        }
        (Dialect::V84, _) => {
            Failure::refused(format!("{}: {}", command.name, bad.text())).with_out(usage::general(form, None))
        }
    }
}

/// 8.3: words beyond the known arguments are named and ignored. spec/drbdsetup.md 2.4.7.
pub fn excess_83(command: &str, consumed: &[String], others: &[String], known: usize) {
    if others.len() > known {
        err(&format!("Ignoring excess arguments: {}", others[known..].join(" ")));
        out("\n");
    }
    if std::env::var_os("DRBD_DEBUG_DUMP_ARGV").is_some() {
        dump_argv(command, consumed, others, known);
    }
}

/// What `DRBD_DEBUG_DUMP_ARGV` prints. spec/drbdsetup.md 2.8.
fn dump_argv(command: &str, consumed: &[String], others: &[String], known: usize) {
    let mut text = format!(
        ",-- ARGV dump (optind {}, known_args {known}, argc {}):\n|  0: {command}\n",
        1 + consumed.len(),
        1 + consumed.len() + others.len()
    );
    let known = known.min(others.len());
    let groups = [
        ("-- consumed options:", consumed),
        ("-- known args:", &others[..known]),
        ("-- unexpected args:", &others[known..]),
    ];
    // A head is printed when the words before it have been, so trailing empty groups have none.
    let mut number = 1;
    let words_in_all = consumed.len() + others.len();
    for (head, words) in groups {
        if number > words_in_all {
            break;
        }
        text += head;
        for word in words {
            text += &format!("|  {number}: {word}\n");
            number += 1;
        }
    }
    err(&(text + "`--\n"));
}
