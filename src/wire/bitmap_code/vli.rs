//! The code words of run lengths. spec/resync.md 3.3.
//!
//! A stream of bits: bit k is bit k % 8 of byte k / 8. A code word is a prefix, then data bits,
//! least significant first; the value is the base of its prefix plus the data.
//!
//! | prefix in the order of the stream | data bits | values |
//! |---|---|---|
//! | 0 | 1 | 1 ... 2 |
//! | 10 | 1 | 3 ... 4 |
//! | 110 | 2 | 5 ... 8 |
//! | 1110 | 3 | 9 ... 16 |
//! | 11110 | 5 | 17 ... 48 |
//! | 111110 | 8 | 49 ... 304 |
//! | 11111100 | 13 | 305 ... 8496 |
//! | 11111110 | 21 | 8497 ... 2105648 |
//! | 11111101 | 34 | 2105649 ... 17181974832 |
//! | 11111111 | 56 | 17181974833 ... 72057611219902768 |

struct Level {
    /// Prefix as a number, first bit lowest.
    prefix: u64,
    prefix_bits: u32,
    data_bits: u32,
    /// First value.
    base: u64,
}

const fn level(prefix: u64, prefix_bits: u32, data_bits: u32, base: u64) -> Level {
    Level { prefix, prefix_bits, data_bits, base }
}

const LEVELS: [Level; 10] = [
    level(0x00, 1, 1, 1),
    level(0x01, 2, 1, 3),
    level(0x03, 3, 2, 5),
    level(0x07, 4, 3, 9),
    level(0x0f, 5, 5, 17),
    level(0x1f, 6, 8, 49),
    level(0x3f, 8, 13, 305),
    level(0x7f, 8, 21, 8497),
    level(0xbf, 8, 34, 2_105_649),
    level(0xff, 8, 56, 17_181_974_833),
];

/// Largest value that has a code word.
pub const VALUE_MAX: u64 = 72_057_611_219_902_768;

/// The code word of `value`, first bit lowest, and its length in bits. `None` for 0 and above
/// [`VALUE_MAX`].
pub fn encode(value: u64) -> Option<(u64, u32)> {
    if value > VALUE_MAX {
        return None;
    }
    let level = LEVELS.iter().rev().find(|level| level.base <= value)?;
    let data = value - level.base;
    Some((level.prefix | data << level.prefix_bits, level.prefix_bits + level.data_bits))
}

/// The value of the code word at the front of `bits`, and its length in bits. The error is the
/// number of bits it would need when there are only `have`; 0 if its prefix is cut.
pub fn decode(bits: u64, have: u32) -> Result<(u64, u32), u32> {
    for level in &LEVELS {
        let prefix_mask = (1 << level.prefix_bits) - 1;
        if bits & prefix_mask != level.prefix {
            continue;
        }
        if have < level.prefix_bits {
            return Err(0);
        }
        let len = level.prefix_bits + level.data_bits;
        if have < len {
            return Err(len);
        }
        let data = bits >> level.prefix_bits & ((1 << level.data_bits) - 1);
        return Ok((level.base + data, len));
    }
    Err(0)
}

/// Appends code words to bytes.
pub(super) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Bytes that may be added.
    room: usize,
    start: usize,
    /// Bits written.
    bits: usize,
}

impl<'a> BitWriter<'a> {
    /// Writes behind what is in `out`, at most `room` bytes.
    pub(super) fn new(out: &'a mut Vec<u8>, room: usize) -> BitWriter<'a> {
        let start = out.len();
        BitWriter { out, room, start, bits: 0 }
    }

    /// Appends a code word of `len` bits; false if it does not fit completely.
    pub(super) fn put(&mut self, code: u64, len: u32) -> bool {
        let end = self.bits + len as usize;
        if end > self.room * 8 {
            return false;
        }
        self.out.resize(self.start + end.div_ceil(8), 0);
        let mut code = u128::from(code) << (self.bits % 8);
        for byte in &mut self.out[self.start + self.bits / 8..] {
            *byte |= code as u8;
            code >>= 8;
        }
        self.bits = end;
        true
    }

    /// Bytes written, a begun one counting.
    pub(super) fn bytes(&self) -> usize {
        self.bits.div_ceil(8)
    }

    /// Bits of the last byte that are not used.
    pub(super) fn unused_bits(&self) -> u8 {
        (self.bytes() * 8 - self.bits) as u8
    }
}

/// Takes code words from bytes.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits consumed.
    at: usize,
    /// Bits there are.
    end: usize,
}

impl<'a> BitReader<'a> {
    /// Reads `bytes` without the last `unused` bits.
    pub(super) fn new(bytes: &'a [u8], unused: u8) -> BitReader<'a> {
        BitReader { bytes, at: 0, end: (bytes.len() * 8).saturating_sub(usize::from(unused)) }
    }

    /// Bits left.
    pub(super) fn have(&self) -> usize {
        self.end - self.at
    }

    /// Bytes that are consumed completely.
    pub(super) fn position(&self) -> usize {
        self.at / 8
    }

    /// Bits left, cut to 64, first one lowest.
    pub(super) fn look_ahead(&self) -> u64 {
        let mut wide: u128 = 0;
        let first = self.at / 8;
        let last = self.bytes.len().min(first + 9);
        for (i, byte) in self.bytes[first..last].iter().enumerate() {
            wide |= u128::from(*byte) << (8 * i);
        }
        let bits = (wide >> (self.at % 8)) as u64;
        match self.have() {
            have if have < 64 => bits & ((1 << have) - 1),
            _ => bits,
        }
    }

    /// The next value; `None` at the end. The error is that of [`decode`].
    pub(super) fn next(&mut self) -> Option<Result<u64, u32>> {
        if self.have() == 0 {
            return None;
        }
        Some(decode(self.look_ahead(), self.have().min(64) as u32).map(|(value, len)| {
            self.at += len as usize;
            value
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bits of a code word in the order of the stream.
    fn text(value: u64) -> String {
        let (code, len) = encode(value).unwrap();
        (0..len).map(|i| if code >> i & 1 == 1 { '1' } else { '0' }).collect()
    }

    #[test]
    fn samples_of_the_document() {
        for (value, bits) in [
            (1, "00"),
            (2, "01"),
            (3, "100"),
            (4, "101"),
            (5, "11000"),
            (8, "11011"),
            (9, "1110000"),
            (16, "1110111"),
            (17, "1111000000"),
            (48, "1111011111"),
            (49, "11111000000000"),
            (304, "11111011111111"),
            (305, "111111000000000000000"),
            (8496, "111111001111111111111"),
        ] {
            assert_eq!(text(value), bits, "{value}");
        }
        assert_eq!(text(8497), format!("11111110{}", "0".repeat(21)));
        assert_eq!(text(2_105_648), format!("11111110{}", "1".repeat(21)));
        assert_eq!(text(2_105_649), format!("11111101{}", "0".repeat(34)));
        assert_eq!(text(17_181_974_833), format!("11111111{}", "0".repeat(56)));
        assert_eq!(text(VALUE_MAX), "1".repeat(64));
    }

    #[test]
    fn the_levels_cover_all_values_without_gaps() {
        let mut next = 1;
        for level in &LEVELS {
            assert_eq!(level.base, next);
            next += 1 << level.data_bits;
        }
        assert_eq!(next - 1, VALUE_MAX);
        assert_eq!(encode(0), None);
        assert_eq!(encode(VALUE_MAX + 1), None);
    }

    #[test]
    fn code_words_lead_back_and_need_all_their_bits() {
        for level in &LEVELS {
            for value in [level.base, level.base + (1 << (level.data_bits - 1))] {
                let (code, len) = encode(value).unwrap();
                assert_eq!(decode(code, len), Ok((value, len)));
                assert_eq!(decode(code | (!0u64).checked_shl(len).unwrap_or(0), 64), Ok((value, len)));
                assert_eq!(decode(code, len - 1), Err(len));
                assert_eq!(decode(code, level.prefix_bits - 1), Err(0));
            }
        }
    }
}
