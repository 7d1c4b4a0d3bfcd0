//! Option sections: `net`, `disk`, `syncer`, `options`, `startup`, `handlers`, `proxy`.
//! spec/config.md 3.1, 3.3, 6; spec/decisions.md 3.2.

use super::explain::Place;
use super::model::{Setting, Settings};
use super::options::{self, Kind, OptionRow, Section, Spelling};
use super::parser::{Parser, Stop, EXIT_INVALID, LIST_MAX};
use super::text;
use super::token::{Token, TokenKind};
use super::Dialect;

/// What a section held.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub settings: Settings,
    pub become_primary_on: Vec<String>,
    pub plugins: Vec<String>,
}

/// Most plugins of a section; the proxy itself takes 10.
const PLUGINS_MAX: usize = 64;
/// Most names of `become-primary-on`.
const PRIMARIES_MAX: usize = 100;
/// Longest line of a plugin section; the original cuts there.
const PLUGIN_LINE_MAX: usize = 255;

impl Parser {
    /// Behind the opening brace, to the closing one. `section`: the word in the file.
    pub(super) fn options(&mut self, section: Section) -> Result<Parsed, Stop> {
        let mut parsed = Parsed::default();
        loop {
            let token = self.next();
            self.statement_line = token.line;
            if token.is(b'}') {
                return Ok(parsed);
            }
            let result = self.option_statement(section, &token, &mut parsed);
            self.recover(token.at, true, result)?;
            self.limit(parsed.settings.len(), LIST_MAX, "options")?;
        }
    }

    fn option_statement(&mut self, section: Section, token: &Token, parsed: &mut Parsed) -> Result<(), Stop> {
        let word = token.keyword();
        if options::is_forgotten(word) {
            self.value()?;
            return self.expect(b';');
        }
        if !self.strict && section == Section::Net && word == "discard-my-data" {
            let mut end = self.next();
            if matches!(end.keyword(), "yes" | "no") {
                end = self.next();
            }
            return self.flag_end(section, true, end).map(|_| ());
        }
        if section == Section::Proxy && word == "plugin" {
            return self.plugins(&mut parsed.plugins);
        }
        if let Some((row, spelling)) = options::in_file(section, word) {
            return self.option(section, row, spelling, parsed);
        }
        let in_syncer = section == Section::Syncer && self.config.dialect == Dialect::V84;
        let expected = match in_syncer {
            true => "a syncer option keyword",
            false => "an option keyword",
        };
        Err(self.unknown(token, Place::Options(section), expected, false))
    }

    fn option(
        &mut self,
        section: Section,
        row: &'static OptionRow,
        spelling: Spelling,
        parsed: &mut Parsed,
    ) -> Result<(), Stop> {
        if row.kind == Kind::Hosts {
            parsed.become_primary_on = self.hosts(b';')?;
            self.limit(parsed.become_primary_on.len(), PRIMARIES_MAX, "host names")?;
            return Ok(());
        }
        let mut setting = Setting {
            section: match section {
                Section::Proxy => Section::Proxy,
                _ => row.section,
            },
            row,
            value: String::new(),
            is_default: false,
            line: self.statement_line,
        };
        if row.kind == Kind::Flag {
            let mut token = self.next();
            let mut takes_word = spelling != Spelling::Inverted && row.name != "stacked-timeouts";
            setting.value = match spelling {
                Spelling::Inverted => "no".to_string(),
                _ => "yes".to_string(),
            };
            if takes_word && matches!(token.keyword(), "yes" | "no") {
                setting.value = token.text;
                token = self.next();
                takes_word = false;
            }
            setting.is_default = self.flag_end(section, takes_word, token)?;
        } else {
            setting.value = self.value()?;
            if row.checked {
                self.check_range(row, spelling, &setting.value)?;
            }
            if row.name == "protocol" {
                self.check_protocol(&setting.value);
            }
            let token = self.next();
            setting.is_default = self.option_end(section, token)?;
        }
        parsed.settings.push(setting);
        Ok(())
    }

    /// `[_is_default] ;` behind a flag; `takes_word`: `yes` or `no` could have come.
    fn flag_end(&mut self, section: Section, takes_word: bool, token: Token) -> Result<bool, Stop> {
        let ends = token.is(b';') || token.keyword() == "_is_default";
        if !ends && takes_word && self.config.dialect == Dialect::V84 {
            return Err(self.unexpected(&token, "yes | no | ;", false));
        }
        self.option_end(section, token)
    }

    /// `[_is_default] ;`
    fn option_end(&mut self, section: Section, token: Token) -> Result<bool, Stop> {
        if token.is(b';') {
            return Ok(false);
        }
        if token.keyword() == "_is_default" {
            self.expect(b';')?;
            return Ok(true);
        }
        Err(match self.config.dialect {
            Dialect::V83 => self.unexpected(&token, "_is_default | ;", false),
            Dialect::V84 => self.unexpected(&token, ";", section != Section::Syncer),
        })
    }

    /// STRING, INT or `on`.
    fn value(&mut self) -> Result<String, Stop> {
        let token = self.next();
        match token.kind {
            TokenKind::String | TokenKind::Integer => Ok(token.text),
            TokenKind::Keyword if token.text == "on" => Ok(token.text),
            _ => Err(self.no_string(&token, "TK_STRING | TK_INTEGER")),
        }
    }

    /// Records a number outside the ranges of both releases.
    pub(super) fn check_range(
        &mut self,
        row: &OptionRow,
        spelling: Spelling,
        typed: &str,
    ) -> Result<(), Stop> {
        let value = self.number(typed, row.unit())?;
        if row.accepts(value as i64) {
            return Ok(());
        }
        let dialect = self.config.dialect;
        let name = match spelling {
            Spelling::New => row.name,
            _ => row.name_in(dialect),
        };
        // 8.3 prints the rate of its syncer section with a capital letter.
        let unit = match name {
            "rate" => "K",
            _ => row.unit().letter(),
        };
        if let Some(range) = row.range_of_drbdadm(dialect) {
            let (min, max) = (range.min as u64, range.max as u64);
            let line = self.statement_line;
            self.record_at(
                line,
                &format!("{name} {typed} => {value}{unit} out of range [{min}..{max}]{unit}."),
            );
        }
        Ok(())
    }

    /// 8.4 looks at the protocol while it reads, 8.3 leaves it to drbdsetup.
    pub(super) fn check_protocol(&mut self, protocol: &str) {
        let known = ["A", "B", "C"].iter().any(|p| p.eq_ignore_ascii_case(protocol));
        if !known && self.config.dialect == Dialect::V84 {
            self.config.valid = false;
            self.errors += 1;
            self.messages.push_str(&format!("unknown protocol '{protocol}', should be one of A,B,C\n"));
        }
    }

    /// Strings up to `end`, at least one.
    pub(super) fn hosts(&mut self, end: u8) -> Result<Vec<String>, Stop> {
        let mut hosts = Vec::new();
        loop {
            let token = self.next();
            if token.is(end) {
                if hosts.is_empty() {
                    return Err(self.unexpected(&token, "TK_STRING", true));
                }
                return Ok(hosts);
            }
            if token.kind != TokenKind::String {
                let expected = format!("TK_STRING | '{}'", char::from(end));
                return Err(self.no_string(&token, &expected));
            }
            hosts.push(token.text);
            self.limit(hosts.len(), LIST_MAX, "host names")?;
        }
    }

    /// `plugin { words ; … }`, a line each.
    fn plugins(&mut self, lines: &mut Vec<String>) -> Result<(), Stop> {
        let statement = self.statement_line;
        let fatal = |parser: &mut Parser, text: &str| {
            parser.errors += 1;
            parser.say(statement, text);
            Stop(EXIT_INVALID)
        };
        if !self.next().is(b'{') {
            return Err(fatal(self, "expected \"{\" after \"proxy\" keyword"));
        }
        let mut words: Vec<String> = Vec::new();
        // Bytes of the line, with a blank behind each word.
        let mut used = 0usize;
        loop {
            let token = self.next();
            match token.kind {
                TokenKind::Operator(b';') => {
                    let line = std::mem::take(&mut words).join(" ");
                    used = 0;
                    lines.push(line);
                    self.limit(lines.len(), PLUGINS_MAX, "plugins")?;
                }
                TokenKind::Operator(b'}') if words.is_empty() => return Ok(()),
                TokenKind::Operator(b'}') => {
                    return Err(fatal(self, "Missing \";\" before  \"}\""));
                }
                TokenKind::End => return Err(fatal(self, "Unexpected end-of-file")),
                _ => {
                    used += text::byte_length(&token.text) + 1;
                    if used <= PLUGIN_LINE_MAX + 1 {
                        words.push(token.text);
                    }
                }
            }
        }
    }
}
