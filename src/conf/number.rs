//! Numbers with unit letters, as drbdadm and drbdsetup read them. spec/config.md 8, spec/drbdsetup.md 2.6.

use thiserror::Error;

/// What a bare number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// The thing itself: bytes, seconds, pages, pieces.
    One,
    /// 1024 bytes. Printed as `k`; 8.3's drbdadm prints `K` for `rate`.
    Kibi,
    /// 512 bytes, printed as `s`.
    Sector,
}

impl Unit {
    /// The letter behind a printed number: `k`, `s` or nothing.
    pub fn letter(self) -> &'static str {
        match self {
            Unit::One => "",
            Unit::Kibi => "k",
            Unit::Sector => "s",
        }
    }

    fn shift(self) -> u32 {
        match self {
            Unit::One => 0,
            Unit::Kibi => 10,
            Unit::Sector => 9,
        }
    }
}

/// Why a text is not a number.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NumberError {
    /// The text is empty. The original tools exit with 100.
    #[error("missing number argument")]
    Missing,
    /// No digits, an unknown unit, or more behind it.
    #[error("{0} is not a valid number")]
    Invalid(String),
    /// Does not fit 64 bits after conversion.
    #[error("{0}: out of range")]
    TooLarge(String),
}

impl NumberError {
    /// The exit status that the original tools end with.
    pub fn exit_status(&self) -> u8 {
        match self {
            NumberError::Missing => 100,
            _ => 20,
        }
    }
}

/// Converts `text` to a count of `unit`, rounding up. A sign is accepted and wraps modulo 2^64;
/// more than 64 bits before the unit saturate.
///
/// # Errors
/// See [`NumberError`].
pub fn parse(text: &str, unit: Unit) -> Result<u64, NumberError> {
    let bytes = text.as_bytes();
    let Some(&last) = bytes.last() else {
        return Err(NumberError::Missing);
    };
    let invalid = || NumberError::Invalid(text.to_string());
    let (digits, unit_shift) = match last {
        b'k' | b'K' => (&bytes[..bytes.len() - 1], Some(10)),
        b'm' | b'M' => (&bytes[..bytes.len() - 1], Some(20)),
        b'g' | b'G' => (&bytes[..bytes.len() - 1], Some(30)),
        b's' => (&bytes[..bytes.len() - 1], Some(9)),
        _ => (bytes, None),
    };
    let start = digits
        .iter()
        .position(|b| !matches!(b, b' ' | b'\t' | b'\n' | 11 | 12 | b'\r'))
        .ok_or_else(invalid)?;
    let (negative, digits) = match digits[start] {
        b'-' => (true, &digits[start + 1..]),
        b'+' => (false, &digits[start + 1..]),
        _ => (false, &digits[start..]),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(invalid());
    }
    let magnitude = digits
        .iter()
        .try_fold(0u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
    // Like strtoull: what does not fit saturates, and a sign changes only what fits.
    let value = match magnitude {
        None => u64::MAX,
        Some(value) if negative => value.wrapping_neg(),
        Some(value) => value,
    };
    let Some(from) = unit_shift else {
        return Ok(value);
    };
    let to = unit.shift();
    if from >= to {
        let by = from - to;
        if value > u64::MAX >> by {
            return Err(NumberError::TooLarge(text.to_string()));
        }
        Ok(value << by)
    } else {
        let by = to - from;
        Ok((value >> by) + u64::from(value & ((1 << by) - 1) != 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_convert_and_round_up() {
        for (text, unit, value) in [
            ("3M", Unit::Kibi, 3072),
            ("1M", Unit::Sector, 2048),
            ("100", Unit::Sector, 100),
            ("512k", Unit::One, 524_288),
            ("60s", Unit::One, 30_720),
            ("1s", Unit::Kibi, 1),
            ("5s", Unit::Kibi, 3),
            ("017", Unit::One, 17),
            (" 7", Unit::One, 7),
            ("-5", Unit::One, u64::MAX - 4),
            ("99999999999999999999", Unit::One, u64::MAX),
        ] {
            assert_eq!(parse(text, unit), Ok(value), "{text}");
        }
    }

    #[test]
    fn nonsense_is_named() {
        assert_eq!(parse("", Unit::One), Err(NumberError::Missing));
        for text in ["k", "10X", "1T", "1KiB", "1.5M", "abc", "0x10", "--1", " "] {
            assert_eq!(parse(text, Unit::One), Err(NumberError::Invalid(text.to_string())));
        }
        assert_eq!(
            parse("18446744073709551615k", Unit::One),
            Err(NumberError::TooLarge("18446744073709551615k".to_string()))
        );
    }
}
