//! GNU-style parsing of long and short options mixed with other words. spec/drbdsetup.md 2.4.

use super::table::{Spec, ValueRule};

/// An option that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub spec: Spec,
    /// Its value, where one was given.
    pub value: Option<String>,
    /// The word that it stands in, for messages.
    pub word: String,
}

/// What is wrong with the options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadOption {
    /// Not known, ambiguous, or with a value that it cannot have.
    Unknown {
        /// The word that 8.3 names in its message.
        word: String,
        /// What glibc's own message says after `CMD: ` (8.4).
        text: String,
    },
    /// Its value is missing.
    NoValue {
        /// The word that 8.3 names in its message.
        word: String,
        /// What glibc's own message says after `CMD: ` (8.4).
        text: String,
    },
}

impl BadOption {
    /// What the C library's own message says.
    pub fn text(&self) -> &str {
        match self {
            BadOption::Unknown { text, .. } | BadOption::NoValue { text, .. } => text,
        }
    }
}

/// Walks over the words behind the command word.
#[derive(Debug)]
pub struct Parser<'a> {
    command: &'a str,
    words: &'a [String],
    specs: &'a [Spec],
    next: usize,
    /// Rest of a bundle of short options, and the word that it stands in.
    bundle: Option<(Vec<char>, usize)>,
    consumed: Vec<String>,
    others: Vec<String>,
}

impl<'a> Parser<'a> {
    /// `command` stands in front of `words`.
    pub fn new(command: &'a str, words: &'a [String], specs: &'a [Spec]) -> Parser<'a> {
        Parser { command, words, specs, next: 0, bundle: None, consumed: Vec::new(), others: Vec::new() }
    }

    /// The next option; `None` when all words have been looked at.
    pub fn next_option(&mut self) -> Option<Result<Found, BadOption>> {
        if let Some((rest, at)) = self.bundle.take() {
            return Some(self.short(rest, at));
        }
        loop {
            let at = self.next;
            let word = self.words.get(at)?;
            self.next += 1;
            if word == "--" {
                self.others.extend_from_slice(&self.words[self.next..]);
                self.next = self.words.len();
                return None;
            }
            if let Some(body) = word.strip_prefix("--") {
                self.consumed.push(word.clone());
                return Some(self.long(body, word));
            }
            match word.strip_prefix('-') {
                Some(body) if !body.is_empty() => {
                    self.consumed.push(word.clone());
                    return Some(self.short(body.chars().collect(), at));
                }
                _ => self.others.push(word.clone()),
            }
        }
    }

    /// Words that are no options, once [`next_option`](Self::next_option) has said `None`.
    pub fn others(&self) -> &[String] {
        &self.others
    }

    /// Words of options and their values.
    pub fn consumed(&self) -> &[String] {
        &self.consumed
    }

    /// The option of a long name: exact, or an unambiguous beginning of a native one. Messages
    /// name `body`, which includes the value.
    fn lookup(&self, name: &str, body: &str) -> Result<Spec, String> {
        if let Some(spec) = self.specs.iter().find(|s| s.long == name) {
            return Ok(*spec);
        }
        let mut similar = self.specs.iter().filter(|s| s.native && s.long.starts_with(name));
        match (similar.next(), similar.next()) {
            (Some(spec), None) => Ok(*spec),
            (Some(first), Some(second)) => {
                let mut text = format!("option '--{body}' is ambiguous; possibilities:");
                for spec in [first, second].into_iter().chain(similar) {
                    text += &format!(" '--{}'", spec.long);
                }
                Err(text)
            }
            (None, _) => Err(format!("unrecognized option '--{body}'")),
        }
    }

    fn long(&mut self, body: &str, word: &str) -> Result<Found, BadOption> {
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (body, None),
        };
        let unknown = |text: String| BadOption::Unknown { word: word.to_string(), text };
        let spec = self.lookup(name, body).map_err(unknown)?;
        let value = match (spec.value(), value) {
            (ValueRule::None, Some(_)) => {
                let text = format!("option '--{}' doesn't allow an argument", spec.long);
                return Err(unknown(text));
            }
            (ValueRule::Required, None) => match self.take_value() {
                Some(value) => Some(value),
                None => {
                    return Err(BadOption::NoValue {
                        word: word.to_string(),
                        text: format!("option '--{}' requires an argument", spec.long),
                    })
                }
            },
            (_, value) => value,
        };
        Ok(Found { spec, value, word: word.to_string() })
    }

    /// The next word as a value.
    fn take_value(&mut self) -> Option<String> {
        let value = self.words.get(self.next)?.clone();
        self.next += 1;
        self.consumed.push(value.clone());
        Some(value)
    }

    fn short(&mut self, mut rest: Vec<char>, at: usize) -> Result<Found, BadOption> {
        let word = self.words[at].clone();
        let letter = rest.remove(0);
        let found = self.specs.iter().find(|s| s.short == Some(letter));
        let Some(spec) = found.copied() else {
            // The original names the word that its parser consumed last: the one before, while
            // it is still inside of a bundle.
            let before = match at.checked_sub(1) {
                Some(before) => self.words[before].clone(),
                None => self.command.to_string(),
            };
            return Err(BadOption::Unknown {
                word: if rest.is_empty() { word } else { before },
                text: format!("invalid option -- '{letter}'"),
            });
        };
        let value = match spec.value() {
            ValueRule::Required if rest.is_empty() => match self.take_value() {
                Some(value) => Some(value),
                None => {
                    return Err(BadOption::NoValue {
                        word,
                        text: format!("option requires an argument -- '{letter}'"),
                    })
                }
            },
            ValueRule::Required => Some(rest.iter().collect()),
            ValueRule::None | ValueRule::Optional => {
                if !rest.is_empty() {
                    self.bundle = Some((rest, at));
                }
                None
            }
        };
        Ok(Found { spec, value, word })
    }
}
