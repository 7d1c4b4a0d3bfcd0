//! Bytes of a configuration file as text, without loss.
//!
//! drbd.conf is bytes: comments and quoted strings may hold any encoding. Inside the program all is
//! `String`; a byte that is not UTF-8 becomes one character of a private plane and turns into the
//! same byte again when it is written.

/// First character of the 256 that stand for bytes that are not UTF-8.
const FIRST: u32 = 0x0010_FF00;

/// Text of bytes. The characters U+10FF00 and up, if they occur in the input, are kept as bytes too.
pub fn from_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let (valid, after) = match std::str::from_utf8(rest) {
            Ok(valid) => (valid, rest.len()),
            Err(error) => {
                let (valid, _) = rest.split_at(error.valid_up_to());
                (std::str::from_utf8(valid).unwrap_or(""), valid.len())
            }
        };
        valid.chars().for_each(|c| push_char(&mut text, c));
        // What follows the valid part is not UTF-8: one byte of it at a time.
        if let Some(byte) = rest.get(after) {
            push_byte(&mut text, *byte);
        }
        rest = rest.get(after + 1..).unwrap_or(&[]);
    }
    text
}

fn push_char(text: &mut String, c: char) {
    if (c as u32) < FIRST {
        text.push(c);
    } else {
        let mut buffer = [0; 4];
        for byte in c.encode_utf8(&mut buffer).bytes() {
            push_byte(text, byte);
        }
    }
}

fn push_byte(text: &mut String, byte: u8) {
    if let Some(c) = char::from_u32(FIRST + u32::from(byte)) {
        text.push(c);
    }
}

/// The bytes that [`from_bytes`] was given.
pub fn to_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut buffer = [0; 4];
    for c in text.chars() {
        match (c as u32).checked_sub(FIRST) {
            Some(byte) => bytes.push(byte as u8),
            None => bytes.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes()),
        }
    }
    bytes
}

/// Length in bytes of the file, not of the text.
pub fn byte_length(text: &str) -> usize {
    text.chars().map(|c| if (c as u32) < FIRST { c.len_utf8() } else { 1 }).sum()
}

/// The first `limit` bytes of a token, with `...` appended if there are more. A character may be cut.
pub fn clip(text: &str, limit: usize) -> String {
    let bytes = to_bytes(text);
    if bytes.len() <= limit {
        return text.to_string();
    }
    let mut clipped = from_bytes(&bytes[..limit]);
    clipped.push_str("...");
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let text = from_bytes(&bytes);
            prop_assert_eq!(to_bytes(&text), bytes.clone());
            prop_assert_eq!(byte_length(&text), bytes.len());
        }
    }

    #[test]
    fn private_characters_are_not_mistaken_for_bytes() {
        let input = "\u{10ff41}".as_bytes();
        assert_eq!(to_bytes(&from_bytes(input)), input);
    }

    #[test]
    fn clip_counts_bytes() {
        assert_eq!(clip("exactly", 7), "exactly");
        assert_eq!(to_bytes(&clip("资源", 4)), b"\xe8\xb5\x84\xe6...");
    }
}
