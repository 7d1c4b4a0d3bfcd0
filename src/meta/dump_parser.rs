//! Reading a meta data dump, of 8.3.9 to 9.x (spec/metadata.md 10.2).
//!
//! The four lines that not all releases write are optional, in their order.

use std::io::{self, BufRead};

use thiserror::Error;

use super::dump_scanner::{Scanner, Token};
use super::flags::MetaFlags;

/// What a v08 dump says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    /// Current, bitmap and history UUIDs.
    pub uuids: [u64; 4],
    /// MDF flags.
    pub flags: MetaFlags,
    /// Last agreed size in sectors.
    pub effective_size_sectors: u64,
    /// Bytes of data a bit.
    pub bytes_per_bit: u64,
    /// Identity of the device.
    pub device_uuid: u64,
    /// Peer's maximum bio size in bytes; 0 if the dump does not say.
    pub peer_max_bio_bytes: u64,
    /// Stripes and blocks a stripe of the activity log, if the dump says.
    pub al_stripes: Option<(u64, u64)>,
    /// The bitmap as (count, word), from its start.
    pub bitmap: Vec<(u64, u64)>,
}

/// Why a dump cannot be used. The text is what drbdmeta prints.
#[derive(Debug, Error)]
pub enum ParseError {
    /// Not what the grammar wants.
    #[error("{0}")]
    Syntax(String),
    /// A dump of another format.
    #[error("dump is '{found}' you requested '{wanted}'.")]
    Version {
        /// Format that the dump names.
        found: String,
        /// Format of the command line.
        wanted: &'static str,
    },
    /// The file cannot be read.
    #[error("cannot read the dump: {0}; check the file")]
    Io(#[from] io::Error),
}

struct Parser<R> {
    scanner: Scanner<R>,
    token: Token,
    /// Line of `token`.
    line: u64,
}

impl<R: BufRead> Parser<R> {
    fn advance(&mut self) -> io::Result<()> {
        self.token = self.scanner.token()?;
        self.line = self.scanner.line;
        Ok(())
    }

    /// The complaint about the current token.
    fn expected(&self, what: &str) -> ParseError {
        let line = self.line;
        let mut text = format!("Parse error in line {line}: {what} expected");
        match &self.token {
            Token::End => text += ", but end of file encountered",
            Token::Mark(mark) => text += &format!(", not '{mark}'"),
            Token::Number(_) | Token::Hex32(_) | Token::Hex64(_) => text += ", not some number",
            Token::Text(string) => text += &format!(", not '\"{string}\"'"),
            Token::Keyword(keyword) => text += &format!(", not '{keyword}'"),
            Token::Invalid(byte) => {
                let shown = if byte.is_ascii_graphic() { char::from(*byte) } else { '.' };
                text += &format!("; got invalid input character '\\x{byte:02x}' [{shown}]");
            }
            Token::Malformed(complaint) => text = format!("line {line}: {complaint}\n{text}"),
        }
        ParseError::Syntax(text)
    }

    fn mark(&mut self, mark: char) -> Result<(), ParseError> {
        if self.token != Token::Mark(mark) {
            return Err(self.expected(match mark {
                '{' => "opening brace ({)",
                '}' => "closing brace (})",
                _ => "semicolon (;)",
            }));
        }
        Ok(self.advance()?)
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        matches!(self.token, Token::Keyword(found) if found == keyword)
    }

    fn keyword(&mut self, keyword: &str) -> Result<(), ParseError> {
        if !self.is_keyword(keyword) {
            return Err(self.expected(&format!("keyword '{keyword}'")));
        }
        Ok(self.advance()?)
    }

    fn number(&mut self) -> Result<u64, ParseError> {
        let Token::Number(value) = self.token else {
            return Err(self.expected("number ([0-9], up to 20 digits)"));
        };
        self.advance()?;
        Ok(value)
    }

    fn hex64(&mut self) -> Result<u64, ParseError> {
        let Token::Hex64(value) = self.token else {
            return Err(self.expected("a 16-digit hex number"));
        };
        self.advance()?;
        Ok(value)
    }

    fn hex32(&mut self) -> Result<u32, ParseError> {
        let Token::Hex32(value) = self.token else {
            return Err(self.expected("an 8-digit hex number"));
        };
        self.advance()?;
        Ok(value)
    }

    /// `keyword NUM ;`
    fn number_line(&mut self, keyword: &str) -> Result<u64, ParseError> {
        self.keyword(keyword)?;
        let value = self.number()?;
        self.mark(';')?;
        Ok(value)
    }

    fn bitmap(&mut self) -> Result<Vec<(u64, u64)>, ParseError> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        self.mark('{')?;
        loop {
            let (count, word) = match self.token {
                Token::Hex64(word) => {
                    self.advance()?;
                    (1, word)
                }
                Token::Number(count) => {
                    self.advance()?;
                    self.keyword("times")?;
                    (count, self.hex64()?)
                }
                Token::Mark('}') => break,
                _ => return Err(self.expected("repeat count, 16-digit hex number, or closing brace (})")),
            };
            self.mark(';')?;
            match runs.last_mut() {
                Some(last) if last.1 == word => last.0 = last.0.saturating_add(count),
                _ => runs.push((count, word)),
            }
        }
        self.advance()?;
        Ok(runs)
    }
}

/// Reads a whole v08 dump.
pub fn parse_v08(input: impl BufRead) -> Result<Dump, ParseError> {
    let mut parser = Parser { scanner: Scanner::new(input), token: Token::End, line: 1 };
    parser.advance()?;
    parser.keyword("version")?;
    let Token::Text(version) = parser.token.clone() else {
        return Err(parser.expected("short quoted string (\"..up to 20 characters, no newline..\")"));
    };
    if version != "v08" {
        return Err(ParseError::Version { found: version, wanted: "v08" });
    }
    parser.advance()?;
    parser.mark(';')?;
    parser.keyword("uuid")?;
    parser.mark('{')?;
    let mut uuids = [0; 4];
    for uuid in &mut uuids {
        *uuid = parser.hex64()?;
        parser.mark(';')?;
    }
    parser.keyword("flags")?;
    let flags = MetaFlags(parser.hex32()?);
    parser.mark(';')?;
    parser.mark('}')?;
    let effective_size_sectors = parser.number_line("la-size-sect")?;
    let bytes_per_bit = parser.number_line("bm-byte-per-bit")?;
    parser.keyword("device-uuid")?;
    let device_uuid = parser.hex64()?;
    parser.mark(';')?;
    let has_bio_line = parser.is_keyword("la-peer-max-bio-size");
    let peer_max_bio_bytes = if has_bio_line { parser.number_line("la-peer-max-bio-size")? } else { 0 };
    let al_stripes = if parser.is_keyword("al-stripes") {
        let stripes = parser.number_line("al-stripes")?;
        Some((stripes, parser.number_line("al-stripe-size-4k")?))
    } else {
        None
    };
    if !parser.is_keyword("bm") {
        return Err(parser.expected(if has_bio_line {
            "keyword 'bm'"
        } else {
            "keyword 'bm' or 'la-peer-max-bio-size'"
        }));
    }
    parser.advance()?;
    let bitmap = parser.bitmap()?;
    if parser.token != Token::End {
        return Err(parser.expected("end of file"));
    }
    Ok(Dump {
        uuids,
        flags,
        effective_size_sectors,
        bytes_per_bit,
        device_uuid,
        peer_max_bio_bytes,
        al_stripes,
        bitmap,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str = "version \"v08\";\nuuid { 0x6F1B3A2C4D5E6F71; 0x1122334455667788; \
        0x0102030405060708; 0xf0e0d0c0b0a09080; flags 0x00000091; }\nla-size-sect 130992;\n\
        bm-byte-per-bit 4096;\ndevice-uuid 0xCAFEBABE00112233;\n";
    const BITMAP: &str = "bm { 3 times 0xFFFFFFFFFFFFFFFF; 0x0000000000000001; 0x0000000000000001; }";

    fn parse(text: &str) -> Result<Dump, String> {
        parse_v08(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn dumps_of_all_releases_are_read() {
        for (lines, bio, stripes) in [
            ("", 0, None),
            ("la-peer-max-bio-size 131072;\n", 131072, None),
            ("al-stripes 1; al-stripe-size-4k 8; # x\n", 0, Some((1, 8))),
            ("la-peer-max-bio-size 4096;\nal-stripes 4;\nal-stripe-size-4k 4;\n", 4096, Some((4, 4))),
        ] {
            let dump = parse(&format!("{HEAD}{lines}{BITMAP}")).unwrap();
            assert_eq!(dump.uuids[3], 0xF0E0_D0C0_B0A0_9080);
            assert_eq!(dump.flags, MetaFlags(0x91));
            assert_eq!((dump.peer_max_bio_bytes, dump.al_stripes), (bio, stripes));
            assert_eq!(dump.bitmap, [(3, u64::MAX), (2, 1)]);
        }
    }

    #[test]
    fn complaints_name_line_and_token() {
        assert_eq!(
            parse(&format!("{HEAD}version")).unwrap_err(),
            "Parse error in line 6: keyword 'bm' or 'la-peer-max-bio-size' expected, not 'version'"
        );
        assert_eq!(
            parse(&HEAD.replace("130992;", "130992,")).unwrap_err(),
            "Parse error in line 3: semicolon (;) expected; got invalid input character '\\x2c' [,]"
        );
        assert_eq!(
            parse("version \"\";").unwrap_err(),
            "line 1: invalid string: \"\" ...\nParse error in line 1: short quoted string \
             (\"..up to 20 characters, no newline..\") expected"
        );
        assert_eq!(
            parse("").unwrap_err(),
            "Parse error in line 1: keyword 'version' expected, but end of file encountered"
        );
    }

    proptest! {
        #[test]
        fn parse_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_v08(bytes.as_slice());
            let mut text = format!("{HEAD}bm {{ ").into_bytes();
            text.extend(bytes);
            let _ = parse_v08(text.as_slice());
        }
    }
}
