//! Lines to stdout and stderr, and questions (spec/metadata.md 6.3).

use std::io::{BufRead, Read, Write};

use super::call::Call;

/// A line to stdout. A reader that went away ends nothing: the work on the disk is done first.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

/// A line to stderr.
macro_rules! say_err {
    ($($text:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

pub(super) use {say, say_err};

/// Longest answer that is read.
const ANSWER_MAX: u64 = 4096;

/// Asks on stdout, reads one line from stdin, a terminal or not. Only `yes` counts.
pub fn confirmed(call: &Call, question: &str) -> bool {
    say!();
    confirmed_without_empty_line(call, question)
}

/// As [`confirmed`]; the empty line in front is already out.
pub fn confirmed_without_empty_line(call: &Call, question: &str) -> bool {
    say!("{question}");
    if call.options.force {
        say!("*** confirmation forced via --force option ***");
        return true;
    }
    let mut stdout = std::io::stdout();
    let _ = write!(stdout, "[need to type 'yes' to confirm] ");
    let _ = stdout.flush();
    let mut answer = Vec::new();
    // An answer that cannot be read is a no.
    let _ = std::io::stdin().lock().take(ANSWER_MAX).read_until(b'\n', &mut answer);
    say!();
    answer == b"yes\n"
}
