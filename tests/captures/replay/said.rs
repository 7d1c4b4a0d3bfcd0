//! What one node says on a link, in a form that can be compared.

use super::range_of;
use drbdbox::core::state::StateWord;
use drbdbox::wire::bitmap_code::{Progress, Receiver};
use drbdbox::wire::*;
use std::collections::BTreeSet;

/// What two nodes that stand at the same place say must be the same, but for what chance decides. Each list is
/// compared as [`compare`] says.
#[derive(Default)]
pub(super) struct Said {
    /// P_PROTOCOL, P_SYNC_PARAM*, P_SIZES, in their order.
    pub(super) parameters: Vec<String>,
    /// P_UUIDS.
    pub(super) uuids: Vec<String>,
    /// Other state words than the last one: role, connection, disks.
    pub(super) states: Vec<String>,
    /// P_SYNC_UUID.
    pub(super) sync_uuids: Vec<u64>,
    /// Requests and answers to requests for a change of state.
    pub(super) changes: Vec<String>,
    /// Writes and barriers, in their order.
    pub(super) writes: Vec<String>,
    /// Acknowledgements of the peer's writes.
    pub(super) acks: Vec<String>,
    /// P_BARRIER_ACK, in their order.
    pub(super) barrier_acks: Vec<String>,
    /// Reads, and answers to reads.
    pub(super) reads: Vec<String>,
    /// Blocks of 4 KiB that were asked for in a resync, or acknowledged.
    pub(super) wanted: BTreeSet<u64>,
    pub(super) written: BTreeSet<u64>,
    /// Answers to the peer's resync requests.
    pub(super) answers: Vec<String>,
    /// P_OV_REQUEST, P_OV_REPLY, P_OV_RESULT.
    pub(super) verify: Vec<String>,
    /// Bits of the bitmaps.
    pub(super) bitmap: BTreeSet<u64>,
    /// P_OUT_OF_SYNC.
    pub(super) out_of_sync: BTreeSet<u64>,
    /// P_PING_ACK.
    pub(super) ping_acks: usize,
}

pub(super) fn blocks(range: (u64, u32)) -> std::ops::Range<u64> {
    range.0 / 8..(range.0 + u64::from(range.1) / 512).div_ceil(8)
}

impl Said {
    pub(super) fn new<'a>(
        packets: impl Iterator<Item = (&'a Packet, &'a [u8])>,
        version: ProtocolVersion,
        bits: u64,
        uuid: impl Fn(u64) -> u64,
    ) -> Said {
        let mut said = Said::default();
        let mut receiver: Option<Receiver> = None;
        let mut words: Vec<u64> = Vec::new();
        for (packet, payload) in packets {
            let name = packet.command(version).constant();
            let (sector, size) = range_of(packet, payload.len()).unwrap_or((0, 0));
            let sum = crc32fast::hash(payload);
            match packet {
                Packet::Protocol(_) | Packet::ProtocolUpdate(_) => {
                    said.parameters.push(format!("{packet:?}"))
                }
                Packet::SyncParam(parameters) => {
                    let controller = parameters.controller.filter(|_| version.number() >= 95);
                    said.parameters.push(format!("{:?}", SyncParam { controller, ..parameters.clone() }));
                }
                Packet::Sizes(sizes) => {
                    // The limits of the queue are those of the model's hardware.
                    let limits = sizes.queue_limits.is_some();
                    let Sizes { d_size, u_size, c_size, max_bio_size, dds_flags, .. } = sizes;
                    said.parameters.push(format!(
                        "P_SIZES {d_size} {u_size} {c_size} {max_bio_size} {dds_flags} {limits}"
                    ));
                }
                Packet::Uuids(u) => {
                    let id = |x: u64| uuid(x & !1) | x & 1;
                    said.uuids.push(format!(
                        "{:x} {:x} {:x} {:x} flags {:x} dirty {}",
                        id(u.current),
                        id(u.bitmap),
                        id(u.history[0]),
                        id(u.history[1]),
                        u.flags,
                        u.dirty_bits
                    ));
                }
                Packet::State(word) => {
                    let s = StateWord::from_bits(*word).expect("state");
                    let text = format!("{}/{} {} {}/{}", s.role, s.peer, s.conn, s.disk, s.pdsk);
                    if said.states.last() != Some(&text) {
                        said.states.push(text);
                    }
                }
                Packet::SyncUuid(id) => said.sync_uuids.push(uuid(id & !1)),
                Packet::StateChangeRequest(r) | Packet::ConnectionStateChangeRequest(r) => {
                    said.changes.push(format!("{name} {:x} {:x}", r.mask, r.val));
                }
                Packet::StateChangeReply(code) | Packet::ConnectionStateChangeReply(code) => {
                    said.changes.push(format!("{name} {code}"));
                }
                Packet::Data(d) => {
                    said.writes.push(format!("{name} {sector} {size} flags {:x} sum {sum:x}", d.flags.0));
                }
                Packet::Trim(r) | Packet::Zeroes(r) | Packet::WriteSame(r) => {
                    said.writes.push(format!("{name} {sector} {size} flags {:x} sum {sum:x}", r.flags.0));
                }
                Packet::Barrier(_) => said.writes.push("P_BARRIER".to_owned()),
                Packet::OutOfSync(_) => said.out_of_sync.extend(blocks((sector, size))),
                Packet::RecvAck(a)
                | Packet::WriteAck(a)
                | Packet::Superseded(a)
                | Packet::RetryWrite(a)
                | Packet::NegAck(a) => {
                    said.acks.push(format!("{name} {sector} {size} id {:x}", a.block_id));
                }
                Packet::BarrierAck(a) => said.barrier_acks.push(format!("{:x} {}", a.number, a.set_size)),
                Packet::DataRequest(_) => said.reads.push(format!("{name} {sector} {size}")),
                Packet::DataReply(r) => {
                    said.reads.push(format!("{name} {sector} {size} {:x} {sum:x}", r.block_id))
                }
                Packet::NegDataReply(r) => {
                    said.reads.push(format!("{name} {sector} {size} {:x}", r.block_id))
                }
                Packet::RsDataRequest(_) | Packet::RsThinRequest(_) | Packet::CsumRsRequest(_) => {
                    said.wanted.extend(blocks((sector, size)));
                }
                Packet::RsWriteAck(_) => said.written.extend(blocks((sector, size))),
                Packet::RsDataReply(_)
                | Packet::RsDeallocated(_)
                | Packet::RsIsInSync(_)
                | Packet::RsCancel(_)
                | Packet::NegRsDataReply(_) => {
                    said.answers.push(format!("{name} {sector} {size} {sum:x}"));
                }
                Packet::OvRequest(_) => said.verify.push(format!("{name} {sector} {size}")),
                Packet::OvReply(r) => said.verify.push(format!("{name} {sector} {size} {:?}", r.digest)),
                Packet::OvResult(r) => said.verify.push(format!("{name} {sector} {size} {}", r.in_sync)),
                Packet::Bitmap | Packet::CompressedBitmap => {
                    let receiver = receiver.get_or_insert_with(|| Receiver::new(bits, version));
                    words.resize(bits.div_ceil(64) as usize, 0);
                    let progress = match packet {
                        Packet::Bitmap => receiver.receive_plain(payload, words.as_mut_slice()),
                        _ => receiver.receive_compressed(payload, words.as_mut_slice()),
                    };
                    if progress.expect("bitmap") == Progress::Complete {
                        *receiver = Receiver::new(bits, version);
                    }
                    said.bitmap =
                        (0..bits).filter(|bit| words[*bit as usize / 64] >> (bit % 64) & 1 == 1).collect();
                }
                Packet::PingAck => said.ping_acks += 1,
                _ => {}
            }
        }
        for list in [&mut said.acks, &mut said.answers, &mut said.verify] {
            list.sort();
        }
        said
    }
}
