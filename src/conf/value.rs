//! Values of options: reading with the table's checks, their errors and their text.
//! spec/drbdsetup.md 2.6 and 6.1, spec/decisions.md 3.5.

use serde::{Deserialize, Serialize};
use std::fmt;

use super::number::{self, NumberError};
use super::options::{Kind, OptionRow, Word};
use super::Dialect;

/// A converted value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    /// In the option's unit.
    Number(i64),
    /// `yes` or `no` of the 8.4 flag.
    Flag(bool),
    /// The number of the word.
    Choice(u8),
    /// A string; empty: not set.
    Text(String),
}

/// Why a value is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueError {
    /// Not a number.
    Number(NumberError),
    /// A number outside the ranges of both releases.
    Range {
        /// The option as its dialect names it.
        name: &'static str,
        /// As typed.
        text: String,
        /// After conversion.
        value: u64,
        /// Limits and unit of the dialect that is spoken.
        min: u64,
        /// See `min`.
        max: u64,
        /// `k`, `s` or nothing.
        unit: &'static str,
    },
    /// Not one of the words. The original prints the known words on stdout.
    Word {
        /// The option as its dialect names it.
        name: &'static str,
        /// As typed.
        text: String,
        /// What could have been typed.
        known: &'static [Word],
    },
    /// Neither `yes` nor `no`.
    Flag {
        /// The option as its dialect names it.
        name: &'static str,
        /// As typed.
        text: String,
    },
    /// A string with more than `max` bytes.
    TooLong {
        /// Name of the field in messages (`shared_secret`).
        tag: String,
        /// Bytes allowed.
        max: u16,
        /// Bytes given.
        length: usize,
    },
}

impl ValueError {
    /// The exit status that the original drbdsetup ends with.
    pub fn exit_status(&self) -> u8 {
        match self {
            ValueError::Number(error) => error.exit_status(),
            _ => 20,
        }
    }
}

/// The text that 8.3's drbdsetup prints on stderr.
impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueError::Number(error) => error.fmt(f),
            ValueError::Range { name, text, value, min, max, unit } => {
                write!(f, "{name} {text} => {value}{unit} out of range [{min}..{max}]{unit}")
            }
            ValueError::Word { name, text, .. } => {
                write!(f, "{name}-handler '{text}' not known\nknown {name}-handlers:")
            }
            ValueError::Flag { name, text } => {
                write!(f, "Option --{name}: invalid argument '{text}'")
            }
            ValueError::TooLong { tag, max, length } => write!(
                f,
                "The value for {tag} may only be {} byte long. You requested {}.",
                max + 1,
                length + 1
            ),
        }
    }
}

impl std::error::Error for ValueError {}

impl OptionRow {
    /// Converts and checks `text` as drbdsetup does. Flags take `yes` or `no`. Numbers inside either
    /// release's range are accepted; the error names the range of `dialect`.
    ///
    /// # Errors
    /// See [`ValueError`].
    pub fn parse(&self, text: &str, dialect: Dialect) -> Result<Value, ValueError> {
        let name = self.name_in(dialect);
        match self.kind {
            Kind::Number(unit) => {
                let value = number::parse(text, unit).map_err(ValueError::Number)?;
                let signed = value as i64;
                if self.accepts(signed) {
                    return Ok(Value::Number(signed));
                }
                let range = self.range(dialect);
                Err(ValueError::Range {
                    name,
                    text: text.to_string(),
                    value,
                    min: range.map_or(0, |r| r.min as u64),
                    max: range.map_or(u64::MAX, |r| r.max as u64),
                    unit: unit.letter(),
                })
            }
            Kind::Choice(known) => {
                // Protocols alone may be written in small letters.
                let any_case = self.name == "protocol";
                let found = known
                    .iter()
                    .find(|word| word.text == text || any_case && word.text.eq_ignore_ascii_case(text));
                match found {
                    Some(word) => Ok(Value::Choice(word.number)),
                    None => Err(ValueError::Word { name, text: text.to_string(), known }),
                }
            }
            Kind::Flag => match text {
                "yes" => Ok(Value::Flag(true)),
                "no" => Ok(Value::Flag(false)),
                _ => Err(ValueError::Flag { name, text: text.to_string() }),
            },
            Kind::Text(max) if max > 0 && text.len() > usize::from(max) => {
                Err(ValueError::TooLong { tag: self.tag(), max, length: text.len() })
            }
            Kind::Text(_) | Kind::Hosts => Ok(Value::Text(text.to_string())),
        }
    }

    /// What the option is when nothing is said. spec/decisions.md 3.4.
    pub fn default_value(&self, dialect: Dialect) -> Value {
        let number = match dialect {
            Dialect::V83 => self.default_83,
            Dialect::V84 => self.default_84,
        };
        match self.kind {
            Kind::Number(_) => Value::Number(number),
            Kind::Choice(_) => Value::Choice(number as u8),
            Kind::Flag => Value::Flag(number != 0),
            Kind::Text(_) | Kind::Hosts => Value::Text(String::new()),
        }
    }

    /// The text of a value as `show` prints it: number with unit letter, word, `yes`/`no`, or the
    /// bare string (quoting is the printer's).
    pub fn format(&self, value: &Value) -> String {
        match value {
            Value::Number(number) => format!("{number}{}", self.unit().letter()),
            Value::Flag(true) => "yes".to_string(),
            Value::Flag(false) => "no".to_string(),
            Value::Choice(number) => self.word(*number).unwrap_or("").to_string(),
            Value::Text(text) => text.clone(),
        }
    }

    /// The word with this number.
    pub fn word(&self, number: u8) -> Option<&'static str> {
        match self.kind {
            Kind::Choice(known) => known.iter().find(|w| w.number == number).map(|w| w.text),
            _ => None,
        }
    }

    /// The name of a string in the message about its length.
    fn tag(&self) -> String {
        match self.name {
            "data-integrity-alg" => "integrity_alg".to_string(),
            name => name.replace('-', "_"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::find;
    use super::*;

    fn error(name: &str, text: &str, dialect: Dialect) -> String {
        let row = find(name).expect("a known option");
        row.parse(text, dialect).expect_err("a refused value").to_string()
    }

    #[test]
    fn messages_of_the_original() {
        let v83 = Dialect::V83;
        for (name, text, message) in [
            ("size", "-1", "size -1 => 18446744073709551615s out of range [0..2199023255552]s"),
            ("timeout", "601", "timeout 601 => 601 out of range [1..600]"),
            ("c-max-rate", "249k", "c-max-rate 249k => 249k out of range [250..4194304]k"),
            (
                "resync-after",
                "-2",
                "after -2 => 18446744073709551614 out of range [18446744073709551615..255]",
            ),
            ("on-io-error", "x", "on-io-error-handler 'x' not known\nknown on-io-error-handlers:"),
        ] {
            assert_eq!(error(name, text, v83), message);
        }
        assert_eq!(
            error("data-integrity-alg", &"x".repeat(64), v83),
            "The value for integrity_alg may only be 64 byte long. You requested 65."
        );
    }

    #[test]
    fn either_release_range_is_accepted() {
        let row = find("al-extents").expect("a known option");
        for (text, good) in [("6", false), ("7", true), ("65534", true), ("65535", false)] {
            assert_eq!(row.parse(text, Dialect::V83).is_ok(), good, "{text}");
            assert_eq!(row.parse(text, Dialect::V84).is_ok(), good, "{text}");
        }
        assert!(error("al-extents", "6", Dialect::V83).ends_with("[7..3833]"));
        assert!(error("al-extents", "6", Dialect::V84).ends_with("[67..65534]"));
    }

    #[test]
    fn default_values_are_words_of_the_table() {
        for row in super::super::options::all() {
            for dialect in [Dialect::V83, Dialect::V84] {
                let default = row.default_value(dialect);
                if let Value::Choice(_) = default {
                    let text = row.format(&default);
                    assert_eq!(row.parse(&text, dialect), Ok(default), "{}", row.name);
                }
            }
        }
    }
}
