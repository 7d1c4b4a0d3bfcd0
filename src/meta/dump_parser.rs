//! Reading a meta data dump: of v08 by 8.3.9 to 9.x, of v07 and v06 (spec/metadata.md 10.2).
//!
//! The four lines of v08 that not all releases write are optional, in their order. The bitmap is read run by run: that of a
//! large device does not fit into memory.

use std::io::{self, BufRead};

use thiserror::Error;

use super::counters::Counters;
use super::dump_scanner::{Scanner, Token};
use super::flags::MetaFlags;
use super::Format;

/// What a v08 dump says in front of the bitmap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldsV08 {
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
}

/// What a dump says in front of the bitmap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fields {
    /// DRBD 0.6, which has no bitmap.
    V06(Counters),
    /// DRBD 0.7.
    V07 {
        /// Counters and flags.
        counters: Counters,
        /// Last agreed size in sectors.
        effective_size_sectors: u64,
    },
    /// DRBD 8.
    V08(FieldsV08),
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
    /// A number that no field holds.
    #[error("line {line}: {value} is out of range (0...4294967295)")]
    Range {
        /// Line of the dump.
        line: u64,
        /// What is there.
        value: u64,
    },
    /// The file cannot be read.
    #[error("cannot read the dump: {0}")]
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

    /// `{ NUM ; NUM ; NUM ; NUM ; NUM ; }`
    fn counters(&mut self) -> Result<Counters, ParseError> {
        self.keyword("gc")?;
        self.mark('{')?;
        let mut numbers = [0; 5];
        for number in &mut numbers {
            let line = self.line;
            let value = self.number()?;
            *number = u32::try_from(value).map_err(|_| ParseError::Range { line, value })?;
            self.mark(';')?;
        }
        self.mark('}')?;
        let [flags, counts @ ..] = numbers;
        Ok(Counters { flags: MetaFlags(flags), counts })
    }

    fn fields_v08(&mut self) -> Result<FieldsV08, ParseError> {
        self.keyword("uuid")?;
        self.mark('{')?;
        let mut uuids = [0; 4];
        for uuid in &mut uuids {
            *uuid = self.hex64()?;
            self.mark(';')?;
        }
        self.keyword("flags")?;
        let flags = MetaFlags(self.hex32()?);
        self.mark(';')?;
        self.mark('}')?;
        let effective_size_sectors = self.number_line("la-size-sect")?;
        let bytes_per_bit = self.number_line("bm-byte-per-bit")?;
        self.keyword("device-uuid")?;
        let device_uuid = self.hex64()?;
        self.mark(';')?;
        let has_bio_line = self.is_keyword("la-peer-max-bio-size");
        let peer_max_bio_bytes = if has_bio_line { self.number_line("la-peer-max-bio-size")? } else { 0 };
        let al_stripes = if self.is_keyword("al-stripes") {
            let stripes = self.number_line("al-stripes")?;
            Some((stripes, self.number_line("al-stripe-size-4k")?))
        } else {
            None
        };
        if !has_bio_line && !self.is_keyword("bm") {
            return Err(self.expected("keyword 'bm' or 'la-peer-max-bio-size'"));
        }
        Ok(FieldsV08 {
            uuids,
            flags,
            effective_size_sectors,
            bytes_per_bit,
            device_uuid,
            peer_max_bio_bytes,
            al_stripes,
        })
    }
}

/// A dump that is being read.
pub struct DumpReader<R> {
    parser: Parser<R>,
    in_bitmap: bool,
}

impl<R: BufRead> DumpReader<R> {
    /// Reads all in front of the bitmap's first run.
    pub fn open(input: R, format: Format) -> Result<(Fields, DumpReader<R>), ParseError> {
        let mut parser = Parser { scanner: Scanner::new(input), token: Token::End, line: 1 };
        parser.advance()?;
        parser.keyword("version")?;
        let Token::Text(version) = parser.token.clone() else {
            return Err(parser.expected("short quoted string (\"..up to 20 characters, no newline..\")"));
        };
        if version != format.name() {
            return Err(ParseError::Version { found: version, wanted: format.name() });
        }
        parser.advance()?;
        parser.mark(';')?;
        let fields = match format {
            Format::V06 => Fields::V06(parser.counters()?),
            Format::V07 => {
                let counters = parser.counters()?;
                Fields::V07 { counters, effective_size_sectors: parser.number_line("la-size-sect")? }
            }
            Format::V08 => Fields::V08(parser.fields_v08()?),
        };
        let in_bitmap = format != Format::V06;
        if in_bitmap {
            parser.keyword("bm")?;
            parser.mark('{')?;
        }
        Ok((fields, DumpReader { parser, in_bitmap }))
    }

    /// The next words of the bitmap, as (count, word). After the last ones, what follows must be the end: `None`.
    pub fn next_run(&mut self) -> Result<Option<(u64, u64)>, ParseError> {
        let parser = &mut self.parser;
        if self.in_bitmap {
            let run = match parser.token {
                Token::Hex64(word) => {
                    parser.advance()?;
                    Some((1, word))
                }
                Token::Number(count) => {
                    parser.advance()?;
                    parser.keyword("times")?;
                    Some((count, parser.hex64()?))
                }
                Token::Mark('}') => None,
                _ => {
                    let what = "repeat count, 16-digit hex number, or closing brace (})";
                    return Err(parser.expected(what));
                }
            };
            if run.is_some() {
                parser.mark(';')?;
                return Ok(run);
            }
            parser.advance()?;
            self.in_bitmap = false;
        }
        match parser.token {
            Token::End => Ok(None),
            _ => Err(parser.expected("end of file")),
        }
    }

    /// Reads the rest; returns how many words the bitmap has.
    pub fn count_words(mut self) -> Result<u64, ParseError> {
        let mut words = 0_u64;
        while let Some((count, _)) = self.next_run()? {
            words = words.saturating_add(count);
        }
        Ok(words)
    }
}

/// A whole dump; runs of equal words are one.
#[cfg(test)]
pub(super) fn parse(text: &str, format: Format) -> Result<(Fields, Vec<(u64, u64)>), ParseError> {
    let (fields, mut reader) = DumpReader::open(text.as_bytes(), format)?;
    let mut runs: Vec<(u64, u64)> = Vec::new();
    while let Some((count, word)) = reader.next_run()? {
        match runs.last_mut() {
            Some(last) if last.1 == word => last.0 += count,
            _ => runs.push((count, word)),
        }
    }
    Ok((fields, runs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str = "version \"v08\";\nuuid { 0x6F1B3A2C4D5E6F71; 0x1122334455667788; \
        0x0102030405060708; 0xf0e0d0c0b0a09080; flags 0x00000091; }\nla-size-sect 130992;\n\
        bm-byte-per-bit 4096;\ndevice-uuid 0xCAFEBABE00112233;\n";
    const BITMAP: &str = "bm { 3 times 0xFFFFFFFFFFFFFFFF; 0x0000000000000001; 0x0000000000000001; }";

    fn parse_v08(text: &str) -> Result<(FieldsV08, Vec<(u64, u64)>), String> {
        match parse(text, Format::V08).map_err(|error| error.to_string())? {
            (Fields::V08(fields), runs) => Ok((fields, runs)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn dumps_of_all_releases_are_read() {
        for (lines, bio, stripes) in [
            ("", 0, None),
            ("la-peer-max-bio-size 131072;\n", 131072, None),
            ("al-stripes 1; al-stripe-size-4k 8; # x\n", 0, Some((1, 8))),
            ("la-peer-max-bio-size 4096;\nal-stripes 4;\nal-stripe-size-4k 4;\n", 4096, Some((4, 4))),
        ] {
            let (dump, runs) = parse_v08(&format!("{HEAD}{lines}{BITMAP}")).unwrap();
            assert_eq!(dump.uuids[3], 0xF0E0_D0C0_B0A0_9080);
            assert_eq!(dump.flags, MetaFlags(0x91));
            assert_eq!((dump.peer_max_bio_bytes, dump.al_stripes), (bio, stripes));
            assert_eq!(runs, [(3, u64::MAX), (2, 1)]);
        }
    }

    #[test]
    fn dumps_of_counters_are_read() {
        let counters = Counters { flags: MetaFlags(7), counts: [2, 3, 4, u32::MAX] };
        let gc = "gc {\n    7; 2; 3; 4; 4294967295;\n}\n";
        let text = format!("version \"v07\";\n{gc}la-size-sect 1000;\n{BITMAP}");
        let v07 = Fields::V07 { counters, effective_size_sectors: 1000 };
        assert_eq!(parse(&text, Format::V07).unwrap(), (v07, vec![(3, u64::MAX), (2, 1)]));
        let text = format!("version \"v06\";\n{gc}");
        assert_eq!(parse(&text, Format::V06).unwrap(), (Fields::V06(counters), vec![]));
        for (text, format, error) in [
            (format!("{text}bm {{ }}"), Format::V06, "Parse error in line 5: end of file expected, not 'bm'"),
            (text.clone(), Format::V07, "dump is 'v06' you requested 'v07'."),
            (
                text.replace("4294967295", "4294967296"),
                Format::V06,
                "line 3: 4294967296 is out of range (0...4294967295)",
            ),
        ] {
            assert_eq!(parse(&text, format).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn complaints_name_line_and_token() {
        let error = |text: &str| parse_v08(text).unwrap_err();
        assert_eq!(
            error(&format!("{HEAD}version")),
            "Parse error in line 6: keyword 'bm' or 'la-peer-max-bio-size' expected, not 'version'"
        );
        assert_eq!(
            error(&HEAD.replace("130992;", "130992,")),
            "Parse error in line 3: semicolon (;) expected; got invalid input character '\\x2c' [,]"
        );
        assert_eq!(
            error("version \"\";"),
            "line 1: invalid string: \"\" ...\nParse error in line 1: short quoted string \
             (\"..up to 20 characters, no newline..\") expected"
        );
        assert_eq!(
            error(""),
            "Parse error in line 1: keyword 'version' expected, but end of file encountered"
        );
    }

    proptest! {
        #[test]
        fn parse_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for (format, head) in [
                (Format::V08, format!("{HEAD}bm {{ ")),
                (Format::V07, "version \"v07\"; gc { 1; 2; 3; 4; 5; } la-size-sect 8; bm { ".to_string()),
                (Format::V06, "version \"v06\"; gc { 1; 2; ".to_string()),
            ] {
                for start in ["", &head] {
                    let text = [start.as_bytes(), &bytes].concat();
                    let _ = DumpReader::open(text.as_slice(), format).map(|(_, rest)| rest.count_words());
                }
            }
        }
    }
}
