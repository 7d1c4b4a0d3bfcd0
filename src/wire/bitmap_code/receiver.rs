//! Merges the packets of a bitmap transfer. spec/resync.md 3.2, 3.3.

use super::vli::BitReader;
use super::{mask, words_for, MergeWords, Statistics, ENCODING_RLE_VLI, WORD_BITS};
use crate::wire::{Malformed, ProtocolVersion};

/// Whether a transfer goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The next packet on the data socket must be of this transfer.
    More,
    /// That was the last packet.
    Complete,
}

/// The position of a transfer that is being received.
#[derive(Debug, Clone)]
pub struct Receiver {
    bits: u64,
    version: ProtocolVersion,
    /// First bit that has not come.
    bit: u64,
    /// First word of the next plain packet.
    word: u64,
    complete: bool,
    may_be_shorter: bool,
    statistics: Statistics,
}

impl Receiver {
    /// A transfer of a bitmap of `bits` bits: the same number on both nodes.
    pub fn new(bits: u64, version: ProtocolVersion) -> Receiver {
        Receiver {
            bits,
            version,
            bit: 0,
            word: 0,
            complete: false,
            may_be_shorter: false,
            statistics: Statistics::default(),
        }
    }

    /// A transfer from a node whose device may be smaller still: it may end earlier. The end of a compressed one shows in what follows it only.
    pub fn of_smaller_device(bits: u64, version: ProtocolVersion) -> Receiver {
        Receiver { may_be_shorter: true, ..Receiver::new(bits, version) }
    }

    /// Whether what has come may be all.
    pub fn may_end_here(&self) -> bool {
        self.complete || self.may_be_shorter
    }

    /// Bits of the bitmap.
    pub fn bits(&self) -> u64 {
        self.bits
    }

    /// Whether the last packet has come.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Bytes and packets so far.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Merges the payload of a P_BITMAP. Bits behind the end of the bitmap are ignored.
    pub fn receive_plain<M: MergeWords + ?Sized>(
        &mut self,
        payload: &[u8],
        into: &mut M,
    ) -> Result<Progress, Malformed> {
        if self.complete {
            return Err(Malformed::BitmapAfterEnd);
        }
        let words_left = words_for(self.bits) - self.word;
        let words = words_left.min(self.version.bitmap_payload_max() as u64 / 8);
        let want = words as usize * 8;
        let shorter = self.may_be_shorter && payload.len() < want && payload.len() % 8 == 0;
        if payload.len() != want && !shorter {
            return Err(Malformed::PlainBitmapSize { want, size: payload.len() });
        }
        self.statistics.count_plain(self.version.header_len() + payload.len());
        for bytes in payload.chunks_exact(8) {
            let mut word = [0; 8];
            word.copy_from_slice(bytes);
            let word = u64::from_le_bytes(word) & mask(self.word, self.bits);
            if word != 0 {
                into.merge(self.word, word);
            }
            self.word += 1;
        }
        self.bit = self.bits.min(self.word * WORD_BITS);
        Ok(self.finish(payload.is_empty()))
    }

    /// Merges the payload of a P_COMPRESSED_BITMAP. When it is malformed, the runs in front of
    /// the mistake have been merged: those blocks are resynchronised needlessly, no more.
    pub fn receive_compressed<M: MergeWords + ?Sized>(
        &mut self,
        payload: &[u8],
        into: &mut M,
    ) -> Result<Progress, Malformed> {
        if self.complete {
            return Err(Malformed::BitmapAfterEnd);
        }
        let length = payload.len() as u32;
        if payload.len() > self.version.bitmap_payload_max() {
            return Err(Malformed::CompressedBitmapTooLarge { length });
        }
        let (encoding, runs) = match payload.split_first() {
            Some((encoding, runs)) if !runs.is_empty() => (*encoding, runs),
            _ => return Err(Malformed::CompressedBitmapTooSmall { length }),
        };
        if encoding & 0x0f != ENCODING_RLE_VLI {
            return Err(Malformed::UnknownBitmapEncoding { encoding });
        }
        self.statistics.count_compressed(self.version.header_len() + payload.len());
        let mut set = encoding & 0x80 != 0;
        let mut reader = BitReader::new(runs, encoding >> 4 & 7);
        while let Some(run) = reader.next() {
            let len = run.map_err(|bits| Malformed::BitmapCode {
                have: reader.have(),
                bits: bits as usize,
                look_ahead: reader.look_ahead(),
                position: reader.position(),
                length: runs.len(),
            })?;
            let end = self.bit.saturating_add(len);
            if end > self.bits {
                return Err(Malformed::BitmapOverflow { end: end - 1 });
            }
            if set {
                merge_run(into, self.bit, end);
            }
            self.bit = end;
            set = !set;
        }
        self.word = self.bit / WORD_BITS;
        Ok(self.finish(self.bit == self.bits))
    }

    fn finish(&mut self, complete: bool) -> Progress {
        self.complete = complete;
        if complete {
            Progress::Complete
        } else {
            Progress::More
        }
    }
}

/// Sets the bits from `start` up to but without `end`.
fn merge_run<M: MergeWords + ?Sized>(into: &mut M, start: u64, end: u64) {
    for index in start / WORD_BITS..words_for(end) {
        let before = mask(index, start);
        into.merge(index, mask(index, end) & !before);
    }
}
