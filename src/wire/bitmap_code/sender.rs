//! Makes the packets of a bitmap transfer. spec/resync.md 3.4.

use super::vli::{self, BitWriter};
use super::{mask, words_for, ReadWords, Statistics, ENCODING_RLE_VLI, WORD_BITS};
use crate::wire::{Packet, ProtocolVersion};

/// The position of a transfer that is being sent.
#[derive(Debug, Clone)]
pub struct Sender {
    bits: u64,
    version: ProtocolVersion,
    compress: bool,
    /// First bit that is not sent.
    bit: u64,
    /// First word of the next plain packet.
    word: u64,
    complete: bool,
    statistics: Statistics,
}

impl Sender {
    /// A transfer of a bitmap of `bits` bits. It is compressed, where that is shorter, if the
    /// option `use_rle` is on and the version has it.
    pub fn new(bits: u64, version: ProtocolVersion, use_rle: bool) -> Sender {
        Sender {
            bits,
            version,
            compress: use_rle && version.has_compressed_bitmap(),
            bit: 0,
            word: 0,
            complete: false,
            statistics: Statistics::default(),
        }
    }

    /// Puts the payload of the next packet into `payload`, in place of what is there, and gives
    /// [`Packet::Bitmap`] or [`Packet::CompressedBitmap`]; `None` after the last packet.
    pub fn next_packet<W: ReadWords + ?Sized>(&mut self, words: &W, payload: &mut Vec<u8>) -> Option<Packet> {
        payload.clear();
        if self.complete {
            return None;
        }
        let header_len = self.version.header_len();
        if self.compress && self.bit < self.bits && self.fill_compressed(words, payload) {
            self.statistics.count_compressed(header_len + payload.len());
            return Some(Packet::CompressedBitmap);
        }
        self.fill_plain(words, payload);
        self.statistics.count_plain(header_len + payload.len());
        Some(Packet::Bitmap)
    }

    /// Whether the last packet has been made.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Bytes and packets so far.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// False, with the position and `payload` as before, if plain words are shorter.
    fn fill_compressed<W: ReadWords + ?Sized>(&mut self, words: &W, payload: &mut Vec<u8>) -> bool {
        let first_set = words.word(self.bit / WORD_BITS) >> (self.bit % WORD_BITS) & 1 == 1;
        let mut set = first_set;
        let mut bit = self.bit;
        payload.push(0);
        let mut writer = BitWriter::new(payload, self.version.bitmap_payload_max() - 1);
        while bit < self.bits {
            let end = run_end(words, bit, self.bits, set);
            match vli::encode(end - bit) {
                Some((code, len)) if writer.put(code, len) => {}
                _ => break,
            }
            bit = end;
            set = !set;
        }
        let (bytes, unused) = (writer.bytes(), writer.unused_bits());
        if bytes == 0 || bit - self.bit < bytes as u64 * 8 {
            payload.clear();
            return false;
        }
        payload[0] = ENCODING_RLE_VLI | unused << 4 | u8::from(first_set) << 7;
        self.bit = bit;
        self.word = bit / WORD_BITS;
        self.complete = bit == self.bits;
        true
    }

    fn fill_plain<W: ReadWords + ?Sized>(&mut self, words: &W, payload: &mut Vec<u8>) {
        let per_packet = self.version.bitmap_payload_max() as u64 / 8;
        let end = words_for(self.bits).min(self.word + per_packet);
        for index in self.word..end {
            let word = words.word(index) & mask(index, self.bits);
            payload.extend_from_slice(&word.to_le_bytes());
        }
        self.complete = payload.is_empty();
        self.word = end;
        self.bit = self.bits.min(end * WORD_BITS);
    }
}

/// The first bit from `from` on that is not `set`, or `bits`.
fn run_end<W: ReadWords + ?Sized>(words: &W, from: u64, bits: u64, set: bool) -> u64 {
    let flip = if set { u64::MAX } else { 0 };
    let mut index = from / WORD_BITS;
    let mut others = (words.word(index) ^ flip) & u64::MAX << (from % WORD_BITS);
    loop {
        if others != 0 {
            let end = index * WORD_BITS + u64::from(others.trailing_zeros());
            return end.min(bits);
        }
        index += 1;
        if index * WORD_BITS >= bits {
            return bits;
        }
        others = words.word(index) ^ flip;
    }
}
