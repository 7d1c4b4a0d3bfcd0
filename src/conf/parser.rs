//! The parser: files, top level statements, and what all statements share. spec/config.md 3, 4, 13.
//!
//! Resource bodies are in `parse_resource`, host sections in `parse_host`, option sections in `parse_options`; what is
//! said is in `diagnose`.
//! Messages are collected in the order in which the original prints them.

use super::explain::Place;
use super::lexer::Lexer;
use super::model::{Config, FileName, Global, Resource};
use super::number::{self, Unit};
use super::token::{Token, TokenKind};
use super::unique::Registry;
use super::Dialect;

/// Exit status of a configuration that is not valid.
pub const EXIT_INVALID: u8 = 10;
/// Most resources.
const RESOURCES_MAX: usize = 10_000;
/// Most keys that are kept unique.
const KEYS_MAX: usize = 300_000;
/// Most host names, plugins or volumes in one place.
pub(super) const LIST_MAX: usize = 1_000;
/// Most volumes that host sections inherit, all together.
pub(super) const INHERITED_MAX: usize = 100_000;
/// Most volumes that are written out, all together: each gets all options of its resource.
pub(super) const VOLUMES_MAX: usize = 100_000;

/// The input ends here: the exit status. The reason is in the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop(pub u8);

/// How a configuration is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// Behind the original's lines: the line of the file, and what could have been meant.
    pub explains: bool,
    /// An error does not end it: the next statement is read.
    pub recovers: bool,
}

/// Reads one or several files into a [`Config`].
#[derive(Debug)]
pub struct Parser {
    pub(super) lexer: Lexer,
    pub(super) file: FileName,
    /// F: line of the first token of the statement.
    pub(super) statement_line: u32,
    /// S: line where the innermost section started.
    pub(super) section_line: u32,
    /// Whether conflicts and missing statements are looked for; not in the output of `show`.
    pub(super) strict: bool,
    pub(super) config: Config,
    /// What the original has printed on stderr so far.
    pub messages: String,
    /// Errors that were recorded or ended a statement.
    pub errors: u32,
    /// What was said and is no error, if reading explains itself.
    pub warnings: u32,
    pub(super) reading: Reading,
    /// The token that was read last, and where the one before it ended.
    pub(super) last: Token,
    pub(super) previous_end: (u32, usize),
    /// A token that is read again.
    pub(super) pushed: Option<Token>,
    /// Too many of something: no use in going on.
    pub(super) exhausted: bool,
    pub(super) depth: u32,
    pub(super) included: u32,
    pub(super) bytes_read: usize,
    /// Volumes that host sections have inherited.
    pub(super) inherited: usize,
    /// Volumes that are written out.
    pub(super) volumes: usize,
}

impl Parser {
    /// For a program that speaks `dialect` by its name.
    pub fn new(dialect: Dialect) -> Self {
        Parser {
            lexer: Lexer::new(Vec::new()),
            file: FileName::default(),
            statement_line: 0,
            section_line: 0,
            strict: true,
            config: Config {
                file: FileName::default(),
                dialect,
                global: Global::default(),
                common: None,
                resources: Vec::new(),
                registry: Registry::default(),
                last_line: 0,
                valid: true,
            },
            messages: String::new(),
            errors: 0,
            warnings: 0,
            reading: Reading::default(),
            last: Token::nothing(),
            previous_end: (0, 0),
            pushed: None,
            exhausted: false,
            depth: 0,
            included: 0,
            bytes_read: 0,
            inherited: 0,
            volumes: 0,
        }
    }

    /// The same, with another way of reading.
    pub fn with(dialect: Dialect, reading: Reading) -> Self {
        Parser { reading, ..Parser::new(dialect) }
    }

    /// Reads a file's bytes as if they followed what was read before. The first file is the main one.
    ///
    /// # Errors
    /// What ends the program at once; the reason is in `messages`.
    pub fn read(&mut self, file: FileName, bytes: Vec<u8>) -> Result<(), Stop> {
        if self.config.file == FileName::default() {
            self.config.file = file.clone();
        }
        self.file = file;
        // The lines of a further file are counted on.
        let line = self.lexer.line();
        self.lexer = Lexer::at_line(bytes, line);
        self.top_level()?;
        self.config.last_line = self.statement_line;
        Ok(())
    }

    /// The configuration and the messages so far.
    pub fn finish(self) -> (Config, String) {
        (self.config, self.messages)
    }

    /// Reads what `drbdsetup show` printed: 8.3's sections as the body of a resource, or 8.4's
    /// `resource NAME { }`, of which the first is used. Nothing is registered or missed.
    /// spec/drbdadm.md 7, 14.4.
    ///
    /// # Errors
    /// A parse error; the reason is in the second value of the pair.
    pub fn read_running(
        dialect: Dialect,
        name: &str,
        bytes: Vec<u8>,
    ) -> Result<Option<Resource>, (Stop, String)> {
        let mut parser = Parser::new(dialect);
        parser.strict = false;
        parser.file = FileName { display: name.to_string(), absolute: name.to_string() };
        parser.lexer = Lexer::new(bytes);
        let result = match dialect {
            Dialect::V83 => parser.resource_body(String::new()).map(Some),
            Dialect::V84 => parser.running_resource(),
        };
        result.map_err(|stop| (stop, parser.messages))
    }

    fn running_resource(&mut self) -> Result<Option<Resource>, Stop> {
        if self.next().keyword() != "resource" {
            return Ok(None);
        }
        let name = self.next();
        if !self.next().is(b'{') {
            return Ok(None);
        }
        self.resource_body(name.text).map(Some)
    }

    /// file = { global | common | resource | skip | include }
    pub(super) fn top_level(&mut self) -> Result<(), Stop> {
        loop {
            let token = self.next();
            self.statement_line = token.line;
            if token.kind == TokenKind::End {
                return Ok(());
            }
            let result = self.top_statement(&token);
            let result = self.recover(token.at, false, result);
            // The end of the file within a section has been told.
            match result {
                Err(_) if self.recovers() && self.last.kind == TokenKind::End => return Ok(()),
                result => result?,
            }
        }
    }

    fn top_statement(&mut self, token: &Token) -> Result<(), Stop> {
        match token.keyword() {
            "global" => self.global(token),
            "common" => {
                self.register("resource section", "common")?;
                self.expect(b'{')?;
                let common = self.resource_body(String::new())?;
                if !common.hosts.is_empty() {
                    let line = self.section_line;
                    self.record_at(line, "in the common section, there are no host sections allowed.");
                }
                self.config.common = Some(common);
                Ok(())
            }
            "resource" => {
                let name = self.expect_string()?;
                self.register("resource section", &name)?;
                self.expect(b'{')?;
                let resource = self.resource_body(name)?;
                self.config.resources.push(resource);
                self.limit(self.config.resources.len(), RESOURCES_MAX, "resources")
            }
            "skip" => self.skip(),
            "include" => {
                let name = self.expect_string()?;
                self.expect(b';')?;
                self.include(&name, token.line)
            }
            _ => {
                let expected = "global | common | resource | skip | include";
                Err(self.unknown(token, Place::Top, expected, false))
            }
        }
    }

    pub(super) fn next(&mut self) -> Token {
        let token = match self.pushed.take() {
            Some(token) => token,
            None => self.lexer.next_token(),
        };
        self.previous_end = (self.last.line, self.last.at + self.last.length);
        self.last = token.clone();
        token
    }

    /// The token is read again.
    pub(super) fn push_back(&mut self, token: Token) {
        self.pushed = Some(token);
    }

    /// Registers a key at the current statement.
    pub(super) fn register(&mut self, what: &str, key: &str) -> Result<(), Stop> {
        if !self.strict {
            return Ok(());
        }
        self.limit(self.config.registry.len(), KEYS_MAX, "names and numbers")?;
        let line = self.statement_line;
        let file = &self.file.display;
        match self.config.registry.register(what, key, file, line) {
            Ok(()) => Ok(()),
            Err(text) => {
                self.messages.push_str(&text);
                self.errors += 1;
                if self.reading.explains {
                    self.show_last();
                }
                if self.recovers() {
                    self.config.valid = false;
                    return Ok(());
                }
                Err(Stop(EXIT_INVALID))
            }
        }
    }

    /// Ends reading if there are too many of something: no input may take all memory or all day.
    pub(super) fn limit(&mut self, count: usize, max: usize, what: &str) -> Result<(), Stop> {
        if count <= max {
            return Ok(());
        }
        let line = self.lexer.line();
        self.say(line, &format!("more than {max} {what}."));
        self.errors += 1;
        self.exhausted = true;
        Err(Stop(EXIT_INVALID))
    }

    pub(super) fn expect(&mut self, operator: u8) -> Result<(), Stop> {
        let token = self.next();
        self.check(&token, operator)
    }

    pub(super) fn check(&mut self, token: &Token, operator: u8) -> Result<(), Stop> {
        if token.is(operator) {
            return Ok(());
        }
        let expected = char::from(operator).to_string();
        Err(self.unexpected(token, &expected, true))
    }

    pub(super) fn expect_string(&mut self) -> Result<String, Stop> {
        let token = self.next();
        if token.kind == TokenKind::String {
            return Ok(token.text);
        }
        Err(self.no_string(&token, "TK_STRING"))
    }

    pub(super) fn expect_integer(&mut self) -> Result<String, Stop> {
        let token = self.next();
        match token.kind {
            TokenKind::Integer => Ok(token.text),
            _ => Err(self.unexpected(&token, "TK_INTEGER", true)),
        }
    }

    /// A number with a unit; what is none ends the program without a position.
    pub(super) fn number(&mut self, text: &str, unit: Unit) -> Result<u64, Stop> {
        number::parse(text, unit).map_err(|error| {
            self.messages.push_str(&format!("{error}\n"));
            self.errors += 1;
            if self.reading.explains {
                let line = self.last.line;
                self.say(line, "here:");
                self.show_last();
                self.advise("a number may have one letter behind it: K, M or G, or s for sectors");
            }
            Stop(error.exit_status())
        })
    }
}
