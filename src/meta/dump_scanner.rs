//! Words of a meta data dump (spec/metadata.md 10.2).

use std::io::{self, BufRead};

/// Longest string between quotes.
const STRING_MAX: usize = 20;
/// Most digits of a decimal number.
const DIGITS_MAX: usize = 19;
/// Longest word that is kept; the rest of a longer one is skipped.
const WORD_MAX: usize = 80;

/// Keywords; all must stand alone.
pub const KEYWORDS: &[&str] = &[
    "version",
    "uuid",
    "gc",
    "flags",
    "la-size-sect",
    "bm-byte-per-bit",
    "device-uuid",
    "la-peer-max-bio-size",
    "al-stripes",
    "al-stripe-size-4k",
    "bm",
    "times",
];

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// `{`, `}` or `;`.
    Mark(char),
    /// Decimal number.
    Number(u64),
    /// `0x` and eight digits.
    Hex32(u32),
    /// `0x` and sixteen digits.
    Hex64(u64),
    /// What is between quotes.
    Text(String),
    /// One of [`KEYWORDS`].
    Keyword(&'static str),
    /// A character that nothing begins with.
    Invalid(u8),
    /// Something that looks like a token but is none; the text is the scanner's complaint.
    Malformed(String),
    /// End of file.
    End,
}

/// Cuts a dump into tokens.
pub struct Scanner<R> {
    input: R,
    /// Number of the line that is being read, from 1.
    pub line: u64,
    /// The word that is being read: dumps of large bitmaps have millions.
    word: String,
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

impl<R: BufRead> Scanner<R> {
    /// Reads from the start of `input`.
    pub fn new(input: R) -> Scanner<R> {
        Scanner { input, line: 1, word: String::with_capacity(WORD_MAX) }
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            match self.input.fill_buf() {
                Ok(buffer) => return Ok(buffer.first().copied()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn skip(&mut self) {
        self.input.consume(1);
    }

    /// The next token. Errors are those of reading.
    pub fn token(&mut self) -> io::Result<Token> {
        loop {
            match self.peek()? {
                None => return Ok(Token::End),
                Some(b'\n') => {
                    self.line += 1;
                    self.skip();
                }
                Some(b' ' | b'\t' | b'\r') => self.skip(),
                Some(b'#') => {
                    while self.peek()?.is_some_and(|byte| byte != b'\n') {
                        self.skip();
                    }
                }
                Some(mark @ (b'{' | b'}' | b';')) => {
                    self.skip();
                    return Ok(Token::Mark(char::from(mark)));
                }
                Some(b'"') => return self.text(),
                Some(byte) if is_word_byte(byte) => return self.word(),
                Some(byte) => {
                    self.skip();
                    return Ok(Token::Invalid(byte));
                }
            }
        }
    }

    fn text(&mut self) -> io::Result<Token> {
        self.skip();
        let mut text = Vec::new();
        let mut closed = false;
        while let Some(byte) = self.peek()? {
            match byte {
                b'"' => {
                    self.skip();
                    closed = true;
                    break;
                }
                b'\r' | b'\n' => break,
                _ if text.len() == STRING_MAX => break,
                _ => {
                    text.push(byte);
                    self.skip();
                }
            }
        }
        let shown = String::from_utf8_lossy(&text).into_owned();
        if closed && !text.is_empty() {
            return Ok(Token::Text(shown.replace('\\', "")));
        }
        let quote = if closed { "\"" } else { "" };
        Ok(Token::Malformed(format!("invalid string: \"{shown}{quote} ...")))
    }

    fn word(&mut self) -> io::Result<Token> {
        self.word.clear();
        // In pieces as large as the buffer gives them: this is where the time goes.
        while self.peek()?.is_some_and(is_word_byte) {
            let buffer = self.input.fill_buf()?;
            let len = buffer.iter().position(|byte| !is_word_byte(*byte)).unwrap_or(buffer.len());
            let room = WORD_MAX.saturating_sub(self.word.len());
            self.word.extend(buffer[..len.min(room)].iter().map(|byte| char::from(*byte)));
            self.input.consume(len);
        }
        Ok(classify(&self.word))
    }
}

fn classify(word: &str) -> Token {
    if let Some(digits) = word.strip_prefix("0x") {
        if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let value = u64::from_str_radix(digits, 16);
            return match (digits.len(), value) {
                (16, Ok(value)) => Token::Hex64(value),
                (8, Ok(value)) => Token::Hex32(value as u32),
                _ => Token::Malformed(format!(
                    "invalid hex number (only 8 or 16 hex digits accepted): {word} ..."
                )),
            };
        }
    }
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        return match word.parse() {
            Ok(value) if word.len() <= DIGITS_MAX => Token::Number(value),
            _ => Token::Malformed(format!("number too big: {word} ...")),
        };
    }
    if let Some(keyword) = KEYWORDS.iter().find(|keyword| **keyword == word) {
        return Token::Keyword(keyword);
    }
    Token::Malformed(format!("unknown token: {word} ..."))
}
