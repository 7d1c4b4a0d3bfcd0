//! The parser: files, top level statements, and what all statements share. spec/config.md 3, 4, 13.
//!
//! Resource and host bodies are in `parse_resource`, option sections in `parse_options`.
//! Messages are collected in the order in which the original prints them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::lexer::Lexer;
use super::model::{Config, FileName, Global, Resource, UsageCount};
use super::number::{self, Unit};
use super::pattern;
use super::text;
use super::token::{Token, TokenKind};
use super::unique::Registry;
use super::Dialect;

/// Exit status of a configuration that is not valid.
pub const EXIT_INVALID: u8 = 10;
/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Most bytes of all files together.
const TOTAL_BYTES_MAX: usize = 32 << 20;
/// Most resources.
const RESOURCES_MAX: usize = 10_000;
/// Most keys that are kept unique.
const KEYS_MAX: usize = 300_000;
/// Most host names, plugins or volumes in one place.
pub(super) const LIST_MAX: usize = 1_000;
/// Most volumes that host sections inherit, all together.
pub(super) const INHERITED_MAX: usize = 200_000;
/// Deepest nesting of includes: below the number of files that a process may open.
const INCLUDE_DEPTH_MAX: u32 = 100;
/// Most files that one configuration may include.
const INCLUDES_MAX: u32 = 10_000;

/// The input ends here: the exit status. The reason is in the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop(pub u8);

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
    depth: u32,
    included: u32,
    bytes_read: usize,
    /// Volumes that host sections have inherited.
    pub(super) inherited: usize,
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
            depth: 0,
            included: 0,
            bytes_read: 0,
            inherited: 0,
        }
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
    fn top_level(&mut self) -> Result<(), Stop> {
        loop {
            let token = self.next();
            self.statement_line = token.line;
            match token.keyword() {
                "global" => self.global(&token)?,
                "common" => {
                    self.register("resource section", "common")?;
                    self.expect(b'{')?;
                    let common = self.resource_body(String::new())?;
                    if !common.hosts.is_empty() {
                        let line = self.section_line;
                        self.record_at(line, "in the common section, there are no host sections allowed.");
                    }
                    self.config.common = Some(common);
                }
                "resource" => {
                    let name = self.expect_string()?;
                    self.register("resource section", &name)?;
                    self.expect(b'{')?;
                    let resource = self.resource_body(name)?;
                    self.config.resources.push(resource);
                    self.limit(self.config.resources.len(), RESOURCES_MAX, "resources")?;
                }
                "skip" => self.skip()?,
                "include" => {
                    let name = self.expect_string()?;
                    self.expect(b';')?;
                    self.include(&name, token.line)?;
                }
                _ if token.kind == TokenKind::End => return Ok(()),
                _ => {
                    return Err(self.unexpected(&token, "global | common | resource | skip | include", false))
                }
            }
        }
    }

    fn global(&mut self, start: &Token) -> Result<(), Stop> {
        if !self.config.resources.is_empty() {
            self.say(
                start.line,
                "You should put the global {} section\n\tin front of any resource {} section",
            );
        }
        self.register("global section", "global")?;
        self.expect(b'{')?;
        loop {
            let token = self.next();
            self.statement_line = token.line;
            match token.keyword() {
                "disable-ip-verification" => self.config.global.disable_ip_verification = true,
                "udev-always-use-vnr" => self.config.global.udev_always_use_vnr = true,
                "minor-count" => {
                    self.config.global.minor_count = self.global_number("minor-count", 1, 256)?;
                }
                "dialog-refresh" => {
                    self.config.global.dialog_refresh = self.global_number("dialog-refresh", 0, 600)?;
                }
                "cmd-timeout-short" => {
                    self.config.global.command_timeouts[0] =
                        self.global_number("cmd-timeout-short", 0, 900)?;
                }
                "cmd-timeout-medium" => {
                    self.config.global.command_timeouts[1] =
                        self.global_number("cmd-timeout-medium", 0, 900)?;
                }
                "cmd-timeout-long" => {
                    self.config.global.command_timeouts[2] =
                        self.global_number("cmd-timeout-long", 0, 900)?;
                }
                "usage-count" => {
                    let value = self.next();
                    self.config.global.usage_count = match value.keyword() {
                        "yes" => UsageCount::Yes,
                        "no" => UsageCount::No,
                        "ask" => UsageCount::Ask,
                        _ => return Err(self.unexpected(&value, "yes | no | ask", false)),
                    };
                }
                _ if token.is(b'}') => return Ok(()),
                _ => {
                    return Err(self.unexpected(
                        &token,
                        "dialog-refresh | minor-count | disable-ip-verification",
                        false,
                    ))
                }
            }
            self.expect(b';')?;
        }
    }

    fn global_number(&mut self, name: &str, min: u64, max: u64) -> Result<u32, Stop> {
        let text = self.expect_integer()?;
        let value = self.number(&text, Unit::One)?;
        // minor-count up to 256 is 8.3.16's; 8.4 allows 255. spec/config.md 5.1.
        let shown_max = match (self.config.dialect, name) {
            (Dialect::V84, "minor-count") => 255,
            _ => max,
        };
        if !(min..=max).contains(&value) {
            let line = self.statement_line;
            self.record_at(line, &format!("{name} {text} => {value} out of range [{min}..{shown_max}]."));
        }
        Ok(u32::try_from(value).unwrap_or(u32::MAX))
    }

    /// Balanced braces; the content is read as tokens and forgotten.
    fn skip(&mut self) -> Result<(), Stop> {
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
                    self.say(start, "reached eof while parsing this skip block.");
                    return Err(Stop(EXIT_INVALID));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn include(&mut self, name: &str, line: u32) -> Result<(), Stop> {
        let failed = format!("Failed to open include file '{name}'.");
        if self.config.file.absolute == STANDARD_INPUT {
            self.messages
                .push_str(&format!("chdir(\"{STANDARD_INPUT}\") failed: No such file or directory\n"));
            return Err(Stop(3));
        }
        let directory = match self.file.absolute.rfind('/') {
            Some(at) => self.file.absolute[..at.max(1)].to_string(),
            None => "/".to_string(),
        };
        let names = pattern::expand(Path::new(&directory), name);
        if names.is_empty() && !pattern::is_pattern(name) {
            self.record_at(line, &failed);
        }
        for display in names {
            let path = Path::new(&directory).join(&display);
            self.included += 1;
            let allowed = self.depth < INCLUDE_DEPTH_MAX
                && self.included <= INCLUDES_MAX
                && self.bytes_read <= TOTAL_BYTES_MAX;
            let read = match allowed {
                true => read_limited(&path),
                false => Err(io::Error::other("too many files; does one include itself?")),
            };
            let bytes = match read {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.record_at(line, &failed);
                    // The original does not say which of the files that match, nor why.
                    if display != name || error.kind() == io::ErrorKind::PermissionDenied {
                        self.messages.push_str(&format!("\t{display}: {error}\n"));
                    }
                    continue;
                }
            };
            self.bytes_read += bytes.len();
            let file = FileName { absolute: absolute_name(&path), display };
            let outer_file = std::mem::replace(&mut self.file, file);
            let outer_lexer = std::mem::replace(&mut self.lexer, Lexer::new(bytes));
            self.depth += 1;
            let result = self.top_level();
            self.depth -= 1;
            result?;
            self.file = outer_file;
            self.lexer = outer_lexer;
        }
        Ok(())
    }

    pub(super) fn next(&mut self) -> Token {
        self.lexer.next_token()
    }

    /// Prints `FILE:LINE: text`.
    pub(super) fn say(&mut self, line: u32, text: &str) {
        let place = format!("{}:{line}: {text}\n", self.file.display);
        self.messages.push_str(&place);
    }

    /// Prints it, and the configuration is not valid; reading goes on.
    pub(super) fn record_at(&mut self, line: u32, text: &str) {
        self.config.valid = false;
        self.say(line, text);
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
        Err(Stop(EXIT_INVALID))
    }

    /// A parse error; `numbered`: with the token's number.
    pub(super) fn unexpected(&mut self, token: &Token, expected: &str, numbered: bool) -> Stop {
        let got = text::clip(&token.text, 20);
        let number = match numbered {
            true => format!(" (TK {})", token.number()),
            false => String::new(),
        };
        self.say(token.line, &format!("Parse error: '{expected}' expected,\n\tbut got '{got}'{number}"));
        Stop(EXIT_INVALID)
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
        self.say(token.line, &message);
        Stop(EXIT_INVALID)
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
            Stop(error.exit_status())
        })
    }
}

/// The name of standard input in messages.
pub const STANDARD_INPUT: &str = "STDIN";

/// A file's bytes, unless there are too many of them (a device, for instance).
///
/// # Errors
/// Those of opening and reading, and `InvalidData` above 16 MiB.
pub fn read_limited(path: &Path) -> std::io::Result<Vec<u8>> {
    read_stream(File::open(path)?)
}

/// As [`read_limited`], from an open stream.
///
/// # Errors
/// Those of reading, and `InvalidData` above 16 MiB.
pub fn read_stream(stream: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "larger than 16 MiB"));
    }
    Ok(bytes)
}

/// The directory resolved, the last component as it is. spec/config.md 1.
pub fn absolute_name(path: &Path) -> String {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = std::fs::canonicalize(directory).unwrap_or_else(|_| directory.to_path_buf());
    match path.file_name() {
        Some(name) => directory.join(name).to_string_lossy().into_owned(),
        None => directory.to_string_lossy().into_owned(),
    }
}
