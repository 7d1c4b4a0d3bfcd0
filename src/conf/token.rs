//! Tokens of drbd.conf: kinds, keywords and the numbers in parse errors. spec/config.md 2.2, 2.3.

use super::options::{self, Kind, OptionRow, Section, Spelling};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// `{ } ; [ ] :`
    Operator(u8),
    /// A word of the language, unquoted.
    Keyword,
    /// Four numbers with dots; the values are not checked.
    Ipv4,
    /// Something with two colons.
    Ipv6,
    /// At most eight digits and a unit letter.
    Integer,
    /// A word or a quoted string.
    String,
    /// More than 80 bytes without quotes.
    WordTooLong,
    /// More than 255 bytes in quotes.
    QuotedTooLong,
    /// A line end or a last backslash within quotes.
    Unterminated,
    /// A byte that starts nothing.
    Other,
    /// End of the file.
    End,
}

/// One token and where it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Its text; of a quoted string without quotes and escapes.
    pub text: String,
    /// Line, from 1.
    pub line: u32,
    /// Where it starts in its file, in bytes.
    pub at: usize,
    /// Bytes of it, with quotes and escapes.
    pub length: usize,
}

impl Token {
    /// Before the first one.
    pub fn nothing() -> Token {
        Token { kind: TokenKind::End, text: String::new(), line: 0, at: 0, length: 0 }
    }

    /// Whether it is this operator.
    pub fn is(&self, operator: u8) -> bool {
        self.kind == TokenKind::Operator(operator)
    }

    /// The keyword's text; empty for everything else.
    pub fn keyword(&self) -> &str {
        match self.kind {
            TokenKind::Keyword => &self.text,
            _ => "",
        }
    }

    /// The number in `(TK n)`: 8.3.16's, or 8.4.4's where 8.3.16 has none. spec/decisions.md 3.6.
    pub fn number(&self) -> u16 {
        match self.kind {
            TokenKind::Operator(byte) => u16::from(byte),
            TokenKind::Ipv4 => 279,
            TokenKind::Integer => 280,
            TokenKind::String => 281,
            TokenKind::Other => 282,
            TokenKind::WordTooLong => 307,
            TokenKind::QuotedTooLong => 308,
            TokenKind::Unterminated => 309,
            TokenKind::Ipv6 => 315,
            TokenKind::End => 0,
            TokenKind::Keyword => KEYWORDS
                .iter()
                .find(|(word, _)| *word == self.text)
                .map(|(_, number)| *number)
                .or_else(|| options::lookup(&self.text).map(option_number))
                .unwrap_or(319),
        }
    }
}

/// Keywords that are no options, and their token numbers.
const KEYWORDS: &[(&str, u16)] = &[
    ("global", 258),
    ("resource", 259),
    ("on", 260),
    ("stacked-on-top-of", 261),
    ("ignore-on", 262),
    ("net", 263),
    ("disk", 264),
    ("skip", 265),
    ("syncer", 266),
    ("startup", 267),
    ("handlers", 271),
    ("common", 272),
    ("address", 273),
    ("alternate-link-address", 274),
    ("device", 274),
    ("minor", 275),
    ("meta-disk", 276),
    ("flexible-meta-disk", 277),
    ("ask", 294),
    ("yes", 295),
    ("no", 296),
    ("_is_default", 297),
    ("_this_host", 298),
    ("_remote_host", 299),
    ("proxy", 300),
    ("inside", 301),
    ("outside", 302),
    ("plugin", 306),
    ("sci", 310),
    ("sdp", 311),
    ("ssocks", 312),
    ("ipv4", 313),
    ("ipv6", 314),
    ("include", 317),
    ("floating", 318),
    ("volume", 321),
    ("options", 323),
];

/// Whether an unquoted word is a word of the language.
pub fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|(known, _)| *known == word)
        || options::is_forgotten(word)
        // Of the options that never stand in a file only this one is a word of the language.
        || options::lookup(word).is_some_and(|(row, _)| row.scope != options::Scope::OneShot || row.token != 0)
}

/// Options share a token number by section and type.
fn option_number((row, spelling): (&OptionRow, Spelling)) -> u16 {
    if row.token != 0 {
        return row.token;
    }
    // 8.4's new names count as 8.4's tokens, also where 8.3 has the same option under another name.
    let old = row.old.filter(|old| spelling != Spelling::New || old.name == row.name);
    let is_flag = row.kind == Kind::Flag;
    match old {
        Some(old) => match old.section {
            Section::Disk if is_flag => 283,
            Section::Disk => 284,
            Section::Net if is_flag => 285,
            Section::Net if row.in_proxy => 8478,
            Section::Net => 286,
            Section::Syncer if is_flag => 287,
            Section::Syncer | Section::Options => 288,
            // `wait-after-sb` has a letter, `stacked-timeouts` has none.
            Section::Startup if is_flag && row.short().is_some() => 289,
            Section::Startup if is_flag || row.kind == Kind::Hosts => 291,
            Section::Startup => 290,
            Section::Handlers | Section::Global => 292,
            Section::Proxy => 8496,
        },
        None => match row.section {
            Section::Disk if is_flag => 283,
            Section::Disk => 285,
            Section::Net if is_flag => 286,
            Section::Net => 288,
            Section::Proxy => 12593,
            _ => 292,
        },
    }
}
