//! Sender against receiver, the vectors of spec/resync.md 3.5, and arbitrary bytes.

use proptest::prelude::*;

use super::*;
use crate::wire::{Malformed, Packet, ProtocolVersion};

fn version(number: u32) -> ProtocolVersion {
    ProtocolVersion::new(number).unwrap()
}

fn bitmap(bits: u64, set: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut words = vec![0; words_for(bits) as usize];
    for bit in set {
        words[(bit / 64) as usize] |= 1 << (bit % 64);
    }
    words
}

/// All packets of a transfer: whether compressed, and the payload.
fn send(words: &[u64], bits: u64, version: ProtocolVersion, use_rle: bool) -> Vec<(bool, Vec<u8>)> {
    let mut sender = Sender::new(bits, version, use_rle);
    let mut packets = Vec::new();
    let mut payload = Vec::new();
    while let Some(packet) = sender.next_packet(words, &mut payload) {
        assert!(payload.len() <= version.bitmap_payload_max());
        packets.push((packet == Packet::CompressedBitmap, payload.clone()));
        assert!(packets.len() < 100_000, "endless transfer");
    }
    assert!(sender.is_complete());
    packets
}

fn receive(packets: &[(bool, Vec<u8>)], bits: u64, version: ProtocolVersion) -> Vec<u64> {
    let mut receiver = Receiver::new(bits, version);
    let mut words = bitmap(bits, []);
    for (i, (compressed, payload)) in packets.iter().enumerate() {
        let progress = if *compressed {
            receiver.receive_compressed(payload, &mut words[..])
        } else {
            receiver.receive_plain(payload, &mut words[..])
        };
        let last = i + 1 == packets.len();
        let expected = if last { Progress::Complete } else { Progress::More };
        assert_eq!(progress, Ok(expected), "packet {i}");
    }
    assert!(receiver.is_complete());
    words
}

fn lengths(packets: &[(bool, Vec<u8>)]) -> Vec<(bool, usize)> {
    packets.iter().map(|(rle, p)| (*rle, p.len())).collect()
}

#[test]
fn vectors_of_the_document() {
    let n = 32758;
    let vectors: [(u64, Vec<u64>, &[u8]); 9] = [
        (2038, (0..2038).collect(), &[0xb2, 0x3f, 0xc5, 0x06]),
        (2038, vec![], &[0x32, 0x3f, 0xc5, 0x06]),
        (n, (0..n).collect(), &[0xb2, 0x7f, 0xc5, 0x5e, 0x00]),
        (n, vec![], &[0x32, 0x7f, 0xc5, 0x5e, 0x00]),
        (n, vec![7], &[0x42, 0x93, 0xbf, 0x5e, 0x2f, 0x00]),
        (n, (1000..n).collect(), &[0x62, 0x3f, 0xb7, 0xe2, 0xaf, 0x5b, 0x0b, 0x00]),
        (
            n,
            (64..128).chain(4000..4100).chain([32757]).collect(),
            &[0x22, 0xdf, 0xc3, 0xf7, 0xf0, 0xf3, 0xde, 0xbe, 0x99, 0x3f, 0x60, 0x27, 0x00],
        ),
        (
            n,
            [0, 1, 2, 100, 20000].into_iter().chain(5000..5004).collect(),
            &[0x92, 0xf9, 0x60, 0xf8, 0x91, 0x8f, 0xfd, 0x1b, 0xcb, 0x00, 0xfc, 0x91, 0x42, 0x00],
        ),
        (4_194_167, vec![4_194_166], &[0x42, 0xbf, 0x45, 0xde, 0x1f, 0x00, 0x00]),
    ];
    for (bits, set, payload) in vectors {
        let words = bitmap(bits, set);
        let packets = vec![(true, payload.to_vec())];
        for number in [90, 101] {
            assert_eq!(send(&words, bits, version(number), true), packets);
            assert_eq!(receive(&packets, bits, version(number)), words);
        }
    }
}

#[test]
fn a_plain_transfer_ends_with_an_empty_packet() {
    let words = bitmap(32758, [0, 1, 2, 100]);
    let packets = send(&words, 32758, version(101), false);
    assert_eq!(lengths(&packets), [(false, 4080), (false, 16), (false, 0)]);
    assert_eq!(packets[0].1[..16], [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0]);
    assert_eq!(receive(&packets, 32758, version(101)), words);
    let packets = send(&words, 32758, version(89), true);
    assert_eq!(lengths(&packets), [(false, 4088), (false, 8), (false, 0)]);
    assert_eq!(receive(&packets, 32758, version(89)), words);
}

#[test]
fn what_would_grow_is_sent_plain() {
    let bits = 32758;
    let words = bitmap(bits, (0..bits).step_by(2));
    let packets = send(&words, bits, version(101), true);
    assert_eq!(lengths(&packets), [(false, 4080), (false, 16), (false, 0)]);
    assert_eq!(receive(&packets, bits, version(101)), words);
}

#[test]
fn plain_and_compressed_packets_alternate() {
    let bits = 4_194_167;
    // Noise of a linear congruential generator, between long runs.
    let mut state: u32 = 1;
    let noise: Vec<u64> = (100_000..160_000)
        .filter(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 31 == 1
        })
        .collect();
    let words = bitmap(bits, noise.into_iter().chain(2_000_000..bits));
    let packets = send(&words, bits, version(101), true);
    let kinds: Vec<bool> = packets.iter().map(|p| p.0).collect();
    assert_eq!(kinds, [true, false, true]);
    assert_eq!(packets[0].1.len(), 4080);
    assert_eq!(packets[1].1.len(), 4080);
    assert_eq!(receive(&packets, bits, version(101)), words);
}

#[test]
fn an_empty_bitmap_is_one_empty_packet() {
    for use_rle in [false, true] {
        let packets = send(&[], 0, version(101), use_rle);
        assert_eq!(lengths(&packets), [(false, 0)]);
        receive(&packets, 0, version(101));
    }
}

#[test]
fn plain_packets_of_another_length_are_refused() {
    let mut words = bitmap(2038, []);
    let mut receiver = Receiver::new(2038, version(101));
    for size in [0, 8, 255, 248, 264, 4080] {
        assert_eq!(
            receiver.receive_plain(&vec![0xff; size], &mut words[..]),
            Err(Malformed::PlainBitmapSize { want: 256, size })
        );
    }
    assert_eq!(words, bitmap(2038, []));
    assert_eq!(receiver.receive_plain(&[0xff; 256], &mut words[..]), Ok(Progress::More));
    assert_eq!(words, bitmap(2038, 0..2038));
    assert_eq!(receiver.receive_plain(&[], &mut words[..]), Ok(Progress::Complete));
    assert_eq!(receiver.receive_plain(&[], &mut words[..]), Err(Malformed::BitmapAfterEnd));
}

#[test]
fn compressed_packets_that_make_no_sense_are_refused() {
    let decode = |bits, payload: &[u8]| {
        let mut words = bitmap(bits, []);
        let error =
            Receiver::new(bits, version(101)).receive_compressed(payload, &mut words[..]).unwrap_err();
        error.to_string()
    };
    assert_eq!(decode(64, &[0x02]), "ReportCBitmap packet too small (l:1)");
    assert_eq!(decode(64, &[]), "ReportCBitmap packet too small (l:0)");
    assert_eq!(decode(64, &[0; 4081]), "ReportCBitmap packet too large");
    assert_eq!(decode(64, &[0x91, 0]), "receive_bitmap_c: unknown encoding 145");
    // 2038 bits, set and clear, for a bitmap of one bit less.
    for first in [0xb2, 0x32] {
        assert_eq!(
            decode(2037, &[first, 0x3f, 0xc5, 0x06]),
            "bitmap overflow (e:2037) while decoding bm RLE packet"
        );
    }
    // The code word of 2038 has 21 bits, 16 came.
    assert_eq!(decode(2038, &[0xb2, 0x3f, 0xc5]), "bitmap decoding error: h:13 b:21 la:0x0000053f l:0/2");
}

#[test]
fn bits_behind_the_end_are_never_set() {
    let bits = 65;
    let mut words = vec![0; 3];
    let mut receiver = Receiver::new(bits, version(101));
    receiver.receive_plain(&[0xff; 16], &mut words[..]).unwrap();
    assert_eq!(words, [u64::MAX, 1, 0]);
}

/// A bitmap as runs of random lengths, so that each code word is met.
fn runs() -> impl Strategy<Value = (u64, Vec<u64>)> {
    let run = prop_oneof![1u64..4, 1u64..70, 1u64..10_000];
    (any::<bool>(), prop::collection::vec(run, 0..300)).prop_map(|(mut set, runs)| {
        let bits = runs.iter().sum();
        let mut words = bitmap(bits, []);
        let mut start = 0;
        for len in runs {
            if set {
                for bit in start..start + len {
                    words[(bit / 64) as usize] |= 1 << (bit % 64);
                }
            }
            start += len;
            set = !set;
        }
        (bits, words)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sent_is_received((bits, words) in runs(), number in 86u32..=101, rle: bool) {
        let packets = send(&words, bits, version(number), rle);
        prop_assert_eq!(receive(&packets, bits, version(number)), words);
    }

    #[test]
    fn any_bytes_stay_within_the_bitmap(
        bits in 0u64..5000,
        packets in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..64)), 0..8),
    ) {
        let mut words = vec![0; words_for(bits) as usize + 1];
        let mut receiver = Receiver::new(bits, version(101));
        for (compressed, mut payload) in packets {
            if compressed {
                if let Some(first) = payload.first_mut() {
                    *first = *first & 0xf0 | 2;
                }
                let _ = receiver.receive_compressed(&payload, &mut words[..]);
            } else {
                let _ = receiver.receive_plain(&payload, &mut words[..]);
            }
        }
        for index in 0..words.len() as u64 {
            prop_assert_eq!(words[index as usize] & !mask(index, bits), 0);
        }
    }
}
