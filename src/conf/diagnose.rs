//! What the parser says, and how it goes on behind an error. spec/config.md 13.
//!
//! The first lines are the original's. A reader that explains itself adds the line of the file and advice.

use super::explain::{self, Place};
use super::parser::{Parser, Stop, EXIT_INVALID};
use super::text;
use super::token::{Token, TokenKind};

/// Most errors of one configuration that are told, if reading goes on behind them.
const ERRORS_MAX: u32 = 100;

impl Parser {
    pub(super) fn recovers(&self) -> bool {
        self.reading.recovers && !self.exhausted && self.errors < ERRORS_MAX
    }

    /// Behind a statement: if it failed and reading goes on, skips to its end. `start`: where its
    /// first token is. `inside`: within braces, of which the closing one is left to the caller.
    ///
    /// # Errors
    /// The statement's, if reading ends here.
    pub(super) fn recover(
        &mut self,
        start: usize,
        inside: bool,
        result: Result<(), Stop>,
    ) -> Result<(), Stop> {
        let Err(stop) = result else {
            return Ok(());
        };
        if !self.recovers() {
            return Err(stop);
        }
        self.config.valid = false;
        let mut token = self.last.clone();
        let mut depth = 0u32;
        let mut first = true;
        loop {
            // A word on a further line probably begins the next statement: a semicolon is missing.
            let next_line = token.line > self.statement_line && token.at != start;
            let opens_file_section = matches!(token.keyword(), "resource" | "common" | "global");
            match token.kind {
                TokenKind::End => return Err(stop),
                TokenKind::Operator(b';') if depth == 0 => return Ok(()),
                TokenKind::Operator(b'{') => depth = depth.saturating_add(1),
                TokenKind::Operator(b'}') if depth == 0 => {
                    if inside {
                        self.pushed = Some(token);
                    }
                    return Ok(());
                }
                TokenKind::Operator(b'}') => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                TokenKind::Keyword if next_line && depth == 0 && (first || opens_file_section) => {
                    self.pushed = Some(token);
                    return Ok(());
                }
                _ => {}
            }
            first = false;
            token = self.next();
        }
    }

    /// Prints `FILE:LINE: text`.
    pub(super) fn say(&mut self, line: u32, text: &str) {
        let place = format!("{}:{line}: {text}\n", self.file.display);
        self.messages.push_str(&place);
    }

    /// Prints it, and the configuration is not valid; reading goes on.
    pub(super) fn record_at(&mut self, line: u32, text: &str) {
        self.config.valid = false;
        self.errors += 1;
        self.say(line, text);
        if self.reading.explains && self.last.line == line {
            self.show_last();
        }
    }

    /// What DRBD says and goes on.
    pub(super) fn note(&mut self, line: u32, text: &str) {
        self.warnings += 1;
        self.say(line, text);
    }

    /// What is worth a look and no error: told only if reading explains itself.
    pub(super) fn warn(&mut self, line: u32, text: &str) {
        if self.reading.explains {
            self.warnings += 1;
            self.say(line, &format!("warning: {text}"));
        }
    }

    /// The line of the last token with a caret below it.
    pub(super) fn show_last(&mut self) {
        let (at, length) = (self.last.at, self.last.length);
        self.show(at, length);
    }

    fn show(&mut self, at: usize, length: usize) {
        let (line, column) = self.lexer.line_around(at);
        let text = explain::excerpt(line, column, length);
        self.messages.push_str(&text);
    }

    pub(super) fn advise(&mut self, advice: &str) {
        if !advice.is_empty() {
            self.messages.push_str(&format!("    {advice}\n"));
        }
    }

    /// Records what is not there: no line can be shown.
    pub(super) fn record_missing(&mut self, line: u32, text: &str) {
        self.config.valid = false;
        self.errors += 1;
        self.say(line, text);
    }

    /// A parse error; `numbered`: with the token's number.
    pub(super) fn unexpected(&mut self, token: &Token, expected: &str, numbered: bool) -> Stop {
        self.parse_error(token, expected, numbered);
        if self.reading.explains {
            self.point_at(token, expected);
        }
        Stop(EXIT_INVALID)
    }

    /// The parse error about a token that begins no statement at a place.
    pub(super) fn unknown(&mut self, token: &Token, place: Place, expected: &str, numbered: bool) -> Stop {
        self.parse_error(token, expected, numbered);
        if self.reading.explains {
            self.show(token.at, token.length);
            let advice = explain::unknown_word(token, place);
            self.advise(&advice);
        }
        Stop(EXIT_INVALID)
    }

    fn parse_error(&mut self, token: &Token, expected: &str, numbered: bool) {
        let got = text::clip(&token.text, 20);
        let number = match numbered {
            true => format!(" (TK {})", token.number()),
            false => String::new(),
        };
        self.errors += 1;
        self.say(token.line, &format!("Parse error: '{expected}' expected,\n\tbut got '{got}'{number}"));
    }

    /// Shows a token that is not what had to come, or the place where a semicolon is missing.
    fn point_at(&mut self, token: &Token, expected: &str) {
        let (line, end) = self.previous_end;
        let ends_statement = expected == ";" || expected.ends_with("| ;");
        let missing = ends_statement && (line < token.line || token.is(b'}'));
        if missing {
            self.show(end, 1);
            self.advise(&format!("a ';' is missing here, at the end of line {line}"));
            return;
        }
        self.show(token.at, token.length);
        let advice = explain::other_than_expected(token, expected);
        self.advise(&advice);
    }

    /// What is said when a string was expected and something else came.
    pub(super) fn no_string(&mut self, token: &Token, expected: &str) -> Stop {
        let mut got = text::clip(&token.text, 20);
        if !got.ends_with("...") {
            got.push_str("...");
        }
        let message = match token.kind {
            TokenKind::WordTooLong => format!("Token too long >>>{got}<<<"),
            TokenKind::QuotedTooLong => format!("Double quoted string too long >>>{got}<<<"),
            TokenKind::Unterminated => format!(
                "Unterminated double quoted string\n  we don't allow embedded newlines\n  >>>{got}<<<"
            ),
            _ => return self.unexpected(token, expected, true),
        };
        self.errors += 1;
        self.say(token.line, &message);
        if self.reading.explains {
            self.point_at(token, expected);
        }
        Stop(EXIT_INVALID)
    }
}
