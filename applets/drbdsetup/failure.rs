//! How a command ends before its time: what is printed on which stream, and the exit status.

use drbdbox::conf::value::ValueError;
use drbdbox::conf::Dialect;
use std::fmt::Display;
use std::io::Write;

/// Prints on stdout. A reader that has gone is no reason to fail.
pub fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Prints on stderr.
pub fn err(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// An end with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For stderr, newlines included.
    pub err: String,
    /// For stdout, newlines included.
    pub out: String,
    /// Exit status.
    pub status: u8,
}

impl Failure {
    /// One line on stderr, exit status 20: how arguments are refused.
    pub fn refused(text: impl Display) -> Failure {
        Failure { err: format!("{text}\n"), out: String::new(), status: 20 }
    }

    /// With this on stdout.
    pub fn with_out(mut self, out: String) -> Failure {
        self.out = out;
        self
    }

    /// Prints both; the exit status.
    pub fn print(&self) -> u8 {
        err(&self.err);
        out(&self.out);
        self.status
    }

    /// A value that is refused. spec/drbdsetup.md 2.6 and 6.1.11.
    pub fn of_value(error: &ValueError, form: Dialect) -> Failure {
        let (err, out) = match (error, form) {
            (ValueError::Word { known, .. }, Dialect::V83) => {
                let known = known.iter().map(|word| format!("\t{}\n", word.text));
                (format!("{error}\n"), known.collect())
            }
            (ValueError::Word { name, text, .. } | ValueError::Flag { name, text }, _) => {
                let err = format!("Option --{name}: invalid argument '{text}'\n");
                (err, String::new())
            }
            _ => (format!("{error}\n"), String::new()),
        };
        Failure { err, out, status: error.exit_status() }
    }
}

/// How a command ends.
pub type Outcome = Result<u8, Failure>;
