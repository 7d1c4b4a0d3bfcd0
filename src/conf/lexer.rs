//! Bytes to tokens. spec/config.md 2.
//!
//! The longest match wins; of equal length: keyword, IPv4, IPv6, integer, quoted string, word,
//! errors, any other byte.

use super::text;
use super::token::{is_keyword, Token, TokenKind};

/// Longest word.
const WORD_MAX: usize = 80;
/// Longest quoted string; an escape counts one.
const QUOTED_MAX: usize = 255;
/// Most digits of an integer.
const DIGITS_MAX: usize = 8;

/// Reads tokens from the bytes of one file.
#[derive(Debug)]
pub struct Lexer {
    bytes: Vec<u8>,
    at: usize,
    line: u32,
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'_' | b'-')
}

fn count(bytes: &[u8], limit: usize, holds: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take(limit).take_while(|byte| holds(**byte)).count()
}

impl Lexer {
    /// Starts at line 1.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self::at_line(bytes, 1)
    }

    /// Starts at another line: a file that is read as if it followed another.
    pub fn at_line(bytes: Vec<u8>, line: u32) -> Self {
        Lexer { bytes, at: 0, line }
    }

    /// The line that has been reached.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// The next token; [`TokenKind::End`] for ever at the end of the file.
    pub fn next_token(&mut self) -> Token {
        self.skip_blanks();
        let rest = &self.bytes[self.at..];
        let Some(&first) = rest.first() else {
            return self.token(TokenKind::End, 0, String::new());
        };
        if matches!(first, b'{' | b'}' | b';' | b'[' | b']') {
            let text = char::from(first).to_string();
            return self.token(TokenKind::Operator(first), 1, text);
        }
        if first == b'"' {
            return self.quoted();
        }
        let word = count(rest, WORD_MAX + 1, is_word);
        let mut best = match word {
            0 if first == b':' => (TokenKind::Operator(b':'), 1),
            0 => (TokenKind::Other, 1),
            n if n > WORD_MAX => (TokenKind::WordTooLong, n),
            n => (TokenKind::String, n),
        };
        // Each rule above it in the order of the specification wins if it is at least as long.
        for (kind, length) in [
            (TokenKind::Integer, integer(rest)),
            (TokenKind::Ipv6, ipv6(rest)),
            (TokenKind::Ipv4, ipv4(rest)),
        ] {
            if length > 0 && length >= best.1 {
                best = (kind, length);
            }
        }
        let text = text::from_bytes(&rest[..best.1]);
        if best.0 == TokenKind::String && is_keyword(&text) {
            best.0 = TokenKind::Keyword;
        }
        self.token(best.0, best.1, text)
    }

    fn token(&mut self, kind: TokenKind, length: usize, text: String) -> Token {
        let at = self.at;
        self.at += length;
        Token { kind, text, line: self.line, at, length }
    }

    /// The line around a byte, and how many bytes of it are before that byte: for messages.
    pub fn line_around(&self, at: usize) -> (&[u8], usize) {
        let at = at.min(self.bytes.len());
        let (before, behind) = self.bytes.split_at(at);
        let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1);
        let end = behind.iter().position(|b| *b == b'\n').map_or(self.bytes.len(), |p| at + p);
        (&self.bytes[start..end], at - start)
    }

    fn skip_blanks(&mut self) {
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'\n' => self.line = self.line.saturating_add(1),
                b' ' | b'\t' | b'\r' => {}
                b'#' => {
                    let rest = &self.bytes[self.at..];
                    self.at += count(rest, rest.len(), |b| b != b'\n');
                    continue;
                }
                _ => return,
            }
            self.at += 1;
        }
    }

    /// At a double quote.
    fn quoted(&mut self) -> Token {
        let rest = &self.bytes[self.at..];
        let mut length = 1;
        let mut units = 0;
        let mut value = Vec::new();
        loop {
            match (rest.get(length), rest.get(length + 1)) {
                (Some(b'"'), _) => {
                    let text = text::from_bytes(&value);
                    return self.token(TokenKind::String, length + 1, text);
                }
                (None, _) => {
                    return self.token(TokenKind::Other, 1, "\"".to_string());
                }
                (Some(byte), _) if units == QUOTED_MAX && *byte != b'\n' => {
                    let text = text::from_bytes(&rest[..length + 1]);
                    return self.token(TokenKind::QuotedTooLong, length + 1, text);
                }
                (Some(b'\n'), _) | (Some(b'\\'), None | Some(b'\n')) => {
                    let text = text::from_bytes(&rest[..length + 1]);
                    return self.token(TokenKind::Unterminated, length + 1, text);
                }
                (Some(b'\\'), Some(escaped)) => {
                    value.push(*escaped);
                    length += 2;
                }
                (Some(byte), _) => {
                    value.push(*byte);
                    length += 1;
                }
            }
            units += 1;
        }
    }
}

fn integer(bytes: &[u8]) -> usize {
    let digits = count(bytes, DIGITS_MAX, |b| b.is_ascii_digit());
    match (digits, bytes.get(digits)) {
        (0, _) => 0,
        (n, Some(b'M' | b'K' | b'G' | b's')) => n + 1,
        (n, _) => n,
    }
}

fn ipv4(bytes: &[u8]) -> usize {
    let mut length = 0;
    for group in 0..4 {
        if group > 0 {
            if bytes.get(length) != Some(&b'.') {
                return 0;
            }
            length += 1;
        }
        let digits = count(&bytes[length..], 3, |b| b.is_ascii_digit());
        if digits == 0 {
            return 0;
        }
        length += digits;
    }
    length
}

fn ipv6(bytes: &[u8]) -> usize {
    let hex = |at: usize| count(bytes.get(at..).unwrap_or(&[]), 4, |b| b.is_ascii_hexdigit());
    let colon = |at: usize| bytes.get(at) == Some(&b':');
    let mut longest = 0;
    // ::ffff:1.2.3.4
    if bytes.len() > 7 && bytes[..7].eq_ignore_ascii_case(b"::ffff:") {
        let length = ipv4(&bytes[7..]);
        if length > 0 {
            longest = 7 + length;
        }
    }
    // P: no group, or one to six with colons between them; `at` is behind them.
    let mut at = 0;
    for groups in 0..=6 {
        if groups > 0 {
            if groups > 1 {
                if !colon(at) {
                    break;
                }
                at += 1;
            }
            let digits = hex(at);
            if digits == 0 {
                break;
            }
            at += digits;
        }
        if !colon(at) {
            continue;
        }
        for between in [0, hex(at + 1)] {
            let second = at + 1 + between;
            if colon(second) {
                longest = longest.max(ipv6_suffix(bytes, second + 1));
            }
        }
    }
    longest
}

/// S: no group, or one to six with colons between them, then perhaps `%WORD`. Returns its end.
fn ipv6_suffix(bytes: &[u8], start: usize) -> usize {
    let mut end = start;
    for groups in 0..6 {
        let next = if groups == 0 {
            end
        } else if bytes.get(end) == Some(&b':') {
            end + 1
        } else {
            break;
        };
        let digits = count(bytes.get(next..).unwrap_or(&[]), 4, |b| b.is_ascii_hexdigit());
        if digits == 0 {
            break;
        }
        end = next + digits;
    }
    if bytes.get(end) == Some(&b'%') {
        let zone = count(&bytes[end + 1..], usize::MAX, is_word);
        if zone > 0 {
            end += 1 + zone;
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(input: &str) -> Vec<(TokenKind, String)> {
        let mut lexer = Lexer::new(input.as_bytes().to_vec());
        let mut all = Vec::new();
        loop {
            let token = lexer.next_token();
            if token.kind == TokenKind::End {
                return all;
            }
            all.push((token.kind, token.text));
        }
    }

    #[test]
    fn longest_match_wins() {
        use TokenKind::*;
        for (input, kind) in [
            ("no", Keyword),
            ("nodes", String),
            ("\"no\"", String),
            ("10.1.1.999", Ipv4),
            ("10.1.1.1a", String),
            ("12345678", Integer),
            ("10M", Integer),
            ("10m", String),
            ("123456789", String),
            ("fe80::1%eth0", Ipv6),
            ("1:2:3:4:5:6:7:8", Ipv6),
            ("::ffff:10.1.1.1", Ipv6),
            ("//", String),
            ("fd00::1:7788", Ipv6),
        ] {
            assert_eq!(tokens(input), [(kind, input.replace('"', ""))], "{input}");
        }
        assert_eq!(
            tokens("10.1.1.1:7788;").iter().map(|t| t.0).collect::<Vec<_>>(),
            [Ipv4, Operator(b':'), Integer, Operator(b';')]
        );
        assert_eq!(
            tokens("/dev/pci-0000:00:1f.2").iter().map(|t| t.0).collect::<Vec<_>>(),
            [String, Ipv6, String]
        );
    }

    #[test]
    fn limits_of_words_and_strings() {
        assert_eq!(tokens(&"x".repeat(80))[0].0, TokenKind::String);
        assert_eq!(tokens(&"x".repeat(81))[0].0, TokenKind::WordTooLong);
        let quoted = |n| format!("\"{}\"", "x".repeat(n));
        assert_eq!(tokens(&quoted(255))[0].0, TokenKind::String);
        assert_eq!(tokens(&quoted(256))[0].0, TokenKind::QuotedTooLong);
        assert_eq!(tokens("\"a\nb\"")[0].0, TokenKind::Unterminated);
        assert_eq!(tokens("\"a\\\nb\"")[0].1, "\"a\\");
        assert_eq!(tokens("\"abc")[0], (TokenKind::Other, "\"".to_string()));
        assert_eq!(tokens(r#""a\"b\\c\n""#)[0].1, r#"a"b\cn"#);
    }

    proptest! {
        /// Any input ends, every byte is consumed at most once.
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let length = bytes.len();
            let mut lexer = Lexer::new(bytes);
            let mut seen = 0;
            while lexer.next_token().kind != TokenKind::End {
                seen += 1;
                prop_assert!(seen <= length);
            }
        }

        #[test]
        fn address_like_bytes_end(text in "[0-9a-f:.%/]{0,60}") {
            let length = text.len();
            prop_assert!(tokens(&text).len() <= length);
        }
    }
}
