//! `global` and `skip`. spec/config.md 3, 5.1.

use super::explain::Place;
use super::number::Unit;
use super::options::{self, Kind, OptionRow, Section, Spelling};
use super::parser::{Parser, Stop, EXIT_INVALID};
use super::token::{Token, TokenKind};
use super::value::Value;

impl Parser {
    pub(super) fn global(&mut self, start: &Token) -> Result<(), Stop> {
        if !self.config.resources.is_empty() {
            self.note(
                start.line,
                "You should put the global {} section\n\tin front of any resource {} section",
            );
        }
        self.register("global section", "global")?;
        self.expect(b'{')?;
        loop {
            let token = self.next();
            self.statement_line = token.line;
            if token.is(b'}') {
                return Ok(());
            }
            let result = self.global_statement(&token);
            self.recover(token.at, true, result)?;
        }
    }

    fn global_statement(&mut self, token: &Token) -> Result<(), Stop> {
        let known = options::in_file(Section::Global, token.keyword());
        let Some((row, _)) = known else {
            let expected = "dialog-refresh | minor-count | disable-ip-verification";
            return Err(self.unknown(token, Place::Options(Section::Global), expected, false));
        };
        let value = self.global_value(row)?;
        // What is out of range has been recorded.
        let _ = self.config.global.set(row, &value);
        self.expect(b';')
    }

    fn global_value(&mut self, row: &'static OptionRow) -> Result<Value, Stop> {
        match row.kind {
            Kind::Number(_) => {
                let text = self.expect_integer()?;
                self.check_range(row, Spelling::New, &text)?;
                let value = self.number(&text, Unit::One)?;
                Ok(Value::Number(i64::try_from(value).unwrap_or(i64::MAX).min(i64::from(u32::MAX))))
            }
            Kind::Choice(words) => {
                let token = self.next();
                match words.iter().find(|word| word.text == token.keyword()) {
                    Some(word) => Ok(Value::Choice(word.number)),
                    None => {
                        let known: Vec<&str> = words.iter().map(|word| word.text).collect();
                        Err(self.unexpected(&token, &known.join(" | "), false))
                    }
                }
            }
            _ => Ok(Value::Flag(true)),
        }
    }

    /// Balanced braces; the content is read as tokens and forgotten.
    pub(super) fn skip(&mut self) -> Result<(), Stop> {
        let start = self.statement_line;
        let mut token = self.next();
        if token.kind == TokenKind::String {
            token = self.next();
        }
        if !token.is(b'{') {
            return Err(self.unexpected(&token, "[ some_text ] {", false));
        }
        let mut depth = 1u64;
        while depth > 0 {
            let token = self.next();
            match token.kind {
                TokenKind::Operator(b'{') => depth += 1,
                TokenKind::Operator(b'}') => depth -= 1,
                TokenKind::End => {
                    self.errors += 1;
                    self.say(start, "reached eof while parsing this skip block.");
                    return Err(Stop(EXIT_INVALID));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
