//! The second part of a diagnostic: the line with a caret, and what could have been meant. DRBD
//! prints nothing of this; it follows the original's lines on a terminal and in `drbdadm check`.

use super::options::{self, Section};
use super::retired;
use super::text;
use super::token::{Token, TokenKind};

/// Where in the file a word stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Outside of every section.
    Top,
    /// In `resource` or `common`.
    Resource,
    /// In `on` or `floating`.
    Host,
    /// In `stacked-on-top-of`.
    Stacked,
    /// In `volume`.
    Volume,
    /// In `proxy on HOSTS { }` of a host section.
    ProxyHost,
    /// In a section of options.
    Options(Section),
}

impl Place {
    /// All places whose words are statements.
    pub const STATEMENTS: [Place; 6] =
        [Place::Top, Place::Resource, Place::Host, Place::Stacked, Place::Volume, Place::ProxyHost];

    /// The words that may begin a statement here. The parser's arms are the same; a test compares.
    pub fn words(self) -> Vec<&'static str> {
        let words: &[&str] = match self {
            Place::Top => &["global", "common", "resource", "skip", "include"],
            Place::Resource => &[
                "protocol",
                "on",
                "floating",
                "stacked-on-top-of",
                "ignore-on",
                "device",
                "disk",
                "meta-disk",
                "flexible-meta-disk",
                "volume",
                "options",
                "net",
                "syncer",
                "startup",
                "handlers",
                "proxy",
            ],
            Place::Host => &[
                "device",
                "disk",
                "address",
                "meta-disk",
                "flexible-meta-disk",
                "volume",
                "options",
                "proxy",
                "alternate-link-address",
            ],
            Place::Stacked => &["device", "address", "volume", "proxy", "alternate-link-address"],
            Place::Volume => &["device", "disk", "meta-disk", "flexible-meta-disk"],
            Place::ProxyHost => &["inside", "outside", "options"],
            Place::Options(section) => return options::words_of(section),
        };
        words.to_vec()
    }

    fn name(self) -> String {
        match self {
            Place::Top => "the top level of the file".to_string(),
            Place::Resource => "resource { }".to_string(),
            Place::Host => "an `on` section".to_string(),
            Place::Stacked => "a stacked-on-top-of section".to_string(),
            Place::Volume => "volume { }".to_string(),
            Place::ProxyHost => "`proxy on` of a host section".to_string(),
            Place::Options(section) => format!("{} {{ }}", section.word()),
        }
    }
}

/// Most words that are offered.
const NEAREST_MAX: usize = 3;
/// Bytes that are shown before and behind the caret.
const BEFORE_MAX: usize = 60;
const BEHIND_MAX: usize = 40;

/// The line of a file around `column`, and below it a caret of `length` characters.
pub fn excerpt(line: &[u8], column: usize, length: usize) -> String {
    let column = column.min(line.len());
    let start = column.saturating_sub(BEFORE_MAX);
    let end = line.len().min(column.saturating_add(length.clamp(1, BEFORE_MAX)).saturating_add(BEHIND_MAX));
    // One character a byte, so that the caret is below its place.
    let shown: String = line[start..end]
        .iter()
        .map(|byte| match byte {
            b' '..=b'~' => char::from(*byte),
            b'\t' => ' ',
            _ => '?',
        })
        .collect();
    let cut = |is: bool| if is { "..." } else { "" };
    let lead = cut(start > 0);
    let width = length.clamp(1, end.saturating_sub(column).max(1)).min(BEFORE_MAX);
    format!(
        "    {lead}{}{}\n    {}^{}\n",
        shown.trim_end(),
        cut(end < line.len()),
        " ".repeat(lead.len() + column - start),
        "~".repeat(width - 1)
    )
}

/// The known words that are nearest to a word, best first. Short words are near to everything: of one or two
/// letters only the case may be wrong.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Vec<&'a str> {
    let allowed = (word.chars().count() / 3).min(3);
    let lower = word.to_lowercase();
    let mut found: Vec<(usize, &'a str)> = known
        .iter()
        .filter_map(|other| {
            let distance = strsim::damerau_levenshtein(&lower, &other.to_lowercase());
            // A word that was not finished, or has something behind it.
            let part = word.len() >= 4 && (other.starts_with(word) || word.starts_with(other));
            (distance <= allowed || part).then_some((distance, *other))
        })
        .collect();
    found.sort_by_key(|(distance, _)| *distance);
    found.into_iter().map(|(_, other)| other).take(NEAREST_MAX).collect()
}

/// `did you mean 'x', 'y'?`, or nothing.
pub fn meant(word: &str, known: &[&str]) -> String {
    let quoted: Vec<String> = nearest(word, known).iter().map(|word| format!("'{word}'")).collect();
    match quoted.is_empty() {
        true => String::new(),
        false => format!("did you mean {}?", quoted.join(", ")),
    }
}

/// What to say about a token that begins no statement at a place; empty: nothing.
pub fn unknown_word(token: &Token, place: Place) -> String {
    let word = token.text.as_str();
    if !matches!(token.kind, TokenKind::String | TokenKind::Keyword | TokenKind::WordTooLong) {
        return other_token(token);
    }
    if word.starts_with("//") || word == "/" {
        return "a comment begins with '#' and ends with the line".to_string();
    }
    if let Some(retired) = retired::find(word) {
        return format!("'{word}' is a word of {}: {}", retired.of, retired.advice);
    }
    let mut homes: Vec<String> =
        Place::STATEMENTS.iter().filter(|p| p.words().contains(&word)).map(|p| p.name()).collect();
    for section in Section::ALL {
        if options::in_file(section, word).is_some() {
            homes.push(Place::Options(section).name());
        }
    }
    if !homes.is_empty() {
        return format!("'{word}' belongs into {}", homes.join(" or "));
    }
    let known = place.words();
    let meant = meant(word, &known);
    if !meant.is_empty() {
        return meant;
    }
    let everywhere: Vec<&'static str> = options::all().iter().map(|row| row.name).collect();
    match nearest(word, &everywhere).first().and_then(|name| options::find(name)) {
        Some(row) => format!("did you mean '{}'? It belongs into {} {{ }}", row.name, row.section.word()),
        None => format!("known in {}: {}", place.name(), known.join(", ")),
    }
}

/// What to say about a token that is not what had to come; empty: nothing. `expected`: as in the parse error.
pub fn other_than_expected(token: &Token, expected: &str) -> String {
    let text = expected.contains("TK_STRING");
    let advice = match token.kind {
        TokenKind::Other if token.text == "=" => "an option and its value stand side by side, without '='",
        TokenKind::Operator(b':') if text => "behind a word there is no ':'",
        TokenKind::Operator(b'{' | b';') if text => "a name or value is missing here",
        TokenKind::Operator(b'[') if expected == ";" => "there is no index here",
        TokenKind::Keyword if text => {
            return format!(
                "'{0}' is a word of the language; as a name or value it is written \"{0}\"",
                token.text
            )
        }
        TokenKind::Integer | TokenKind::Ipv4 | TokenKind::Ipv6 if text => {
            return format!("as a name or value it is written in quotes: \"{}\"", token.text)
        }
        TokenKind::String | TokenKind::Integer | TokenKind::Keyword if expected.ends_with("| ;") => {
            "a ';' is missing, or this is part of the value: a value with blanks is written in quotes"
        }
        _ => match expected {
            ":" => "the port is missing: IP:PORT",
            "[" | "TK_IPADDR6" => "it is written ipv6 [ADDRESS]:PORT",
            _ if expected.contains("<ipv4 address>") => {
                "an address is a number: 10.1.1.1:7788, or ipv6 [fd00::1]:7788; names of hosts are not looked up"
            }
            _ => return other_token(token),
        },
    };
    advice.to_string()
}

fn other_token(token: &Token) -> String {
    let advice = match token.kind {
        TokenKind::End => "the file ends within a section: a '}' is missing",
        TokenKind::Other if token.text == "\"" => "the closing '\"' is missing",
        TokenKind::Other if token.at == 0 && text::to_bytes(&token.text) == [0xef] => {
            "the file seems to begin with a byte order mark; save it without"
        }
        TokenKind::Other if !token.text.is_ascii() => {
            "only quoted texts and comments may have characters beyond ASCII; quotes are '\"'"
        }
        TokenKind::Other | TokenKind::Ipv6 | TokenKind::Operator(b':') => {
            "a text with other characters than A-Z a-z 0-9 / . _ - is written in quotes"
        }
        TokenKind::WordTooLong => "a word has at most 80 characters; longer ones are written in quotes",
        TokenKind::QuotedTooLong => "a text has at most 255 characters",
        _ => "",
    };
    advice.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_is_below_its_place() {
        assert_eq!(
            excerpt(b"  net { timeuot 60; }", 8, 7),
            "      net { timeuot 60; }\n            ^~~~~~~\n"
        );
        assert_eq!(excerpt(b"\tx\xff;", 1, 1), "     x?;\n     ^\n");
        assert_eq!(excerpt(b"", 5, 0), "    \n    ^\n");
        let long = [b'a'; 1000];
        let text = excerpt(&long, 500, 3);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("    ...aaa") && lines[0].ends_with("aaa..."));
        assert_eq!(lines[1].find('^'), Some(4 + 3 + BEFORE_MAX));
    }

    /// At each place exactly its words begin a statement.
    #[test]
    fn the_words_of_a_place_are_those_of_the_parser() {
        use super::super::model::FileName;
        use super::super::parser::Parser;
        use super::super::Dialect;
        let mut places: Vec<Place> = Place::STATEMENTS.to_vec();
        places.extend(Section::ALL.map(Place::Options));
        let all: std::collections::BTreeSet<&str> = places.iter().flat_map(|p| p.words()).collect();
        for place in places {
            let before = match place {
                Place::Top => String::new(),
                Place::Resource => "resource r {".to_string(),
                Place::Host => "resource r { on a {".to_string(),
                Place::Stacked => "resource r { stacked-on-top-of q {".to_string(),
                Place::Volume => "resource r { on a { volume 0 {".to_string(),
                Place::ProxyHost => "resource r { on a { proxy on b {".to_string(),
                Place::Options(Section::Global) => "global {".to_string(),
                Place::Options(section) => format!("resource r {{ {} {{", section.word()),
            };
            for word in &all {
                let mut parser = Parser::new(Dialect::V83);
                let file = FileName { display: "x".into(), absolute: "/x".into() };
                let _ = parser.read(file, format!("{before} {word}").into_bytes());
                let refused = parser.messages.contains(&format!("but got '{}'", text::clip(word, 20)));
                assert_eq!(refused, !place.words().contains(word), "{before} {word}: {}", parser.messages);
            }
        }
    }

    #[test]
    fn nearest_words_come_first() {
        let net = options::words_of(Section::Net);
        assert_eq!(nearest("timeuot", &net)[0], "timeout");
        assert_eq!(nearest("pingint", &net), ["ping-int"]);
        assert_eq!(nearest("after-sb-1pr", &net)[0], "after-sb-1pri");
        assert!(nearest("frobnicate", &net).is_empty());
        assert!(nearest("D", &["A", "B", "C"]).is_empty());
        assert_eq!(nearest("Timeout", &net)[0], "timeout");
    }
}
