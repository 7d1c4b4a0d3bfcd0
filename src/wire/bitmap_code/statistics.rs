//! How well a bitmap was compressed, for the log. spec/resync.md 3.6.

use super::words_for;
use crate::wire::{ProtocolVersion, Release};

/// Which way the bitmap went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the peer.
    Send,
    /// From the peer.
    Receive,
}

/// Packets and bytes, with their headers, of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Bytes of P_BITMAP packets.
    pub plain_bytes: u64,
    /// Number of P_BITMAP packets.
    pub plain_packets: u64,
    /// Bytes of P_COMPRESSED_BITMAP packets.
    pub rle_bytes: u64,
    /// Number of P_COMPRESSED_BITMAP packets.
    pub rle_packets: u64,
}

impl Statistics {
    pub(super) fn count_plain(&mut self, bytes: usize) {
        self.plain_packets += 1;
        self.plain_bytes += bytes as u64;
    }

    pub(super) fn count_compressed(&mut self, bytes: usize) {
        self.rle_packets += 1;
        self.rle_bytes += bytes as u64;
    }

    /// The line for the log; `None` if nothing was saved. `bits`: of the bitmap.
    pub fn log_line(
        &self,
        direction: Direction,
        bits: u64,
        version: ProtocolVersion,
        release: Release,
    ) -> Option<String> {
        let total = self.plain_bytes + self.rle_bytes;
        let words = words_for(bits);
        let header = version.header_len() as u64;
        let payload_max = version.bitmap_payload_max() as u64;
        let packets = match release {
            Release::V83 => words.div_ceil(payload_max / 8),
            // 8.4 divides words by bytes.
            Release::V84 => words.div_ceil(payload_max),
        };
        let plain = header * (packets + 1) + 8 * words;
        if total == 0 || total >= plain {
            return None;
        }
        // Above this number 1000 times the total no longer fits 32 bits.
        let ratio =
            if total > u64::from(u32::MAX / 1000) { total / (plain / 1000) } else { total * 1000 / plain };
        let saved = 1000 - ratio.min(1000);
        Some(format!(
            "{} bitmap stats [Bytes(packets)]: plain {}({}), RLE {}({}), total {total}; \
             compression: {}.{}%",
            match direction {
                Direction::Send => "send",
                Direction::Receive => "receive",
            },
            self.plain_bytes,
            self.plain_packets,
            self.rle_bytes,
            self.rle_packets,
            saved / 10,
            saved % 10,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_document() {
        let mut statistics = Statistics::default();
        statistics.count_compressed(16 + 5);
        let line = |bits| statistics.log_line(Direction::Send, bits, ProtocolVersion::MAX, Release::V84);
        assert_eq!(
            line(32758).unwrap(),
            "send bitmap stats [Bytes(packets)]: plain 0(0), RLE 21(1), total 21; \
             compression: 99.5%"
        );
        assert_eq!(line(0), None);
    }

    #[test]
    fn a_plain_transfer_has_no_line() {
        let mut statistics = Statistics::default();
        for payload in [4080, 16, 0] {
            statistics.count_plain(16 + payload);
        }
        for release in [Release::V83, Release::V84] {
            assert_eq!(statistics.log_line(Direction::Receive, 32758, ProtocolVersion::MAX, release), None);
        }
    }
}
