//! Online verify: blocks are compared by digest while both sides are in use. spec/resync.md 10.

use super::log_lines;
use super::peer_write::PeerRequest;
use super::resync::{Answer, Finishing, MARKS, TURN_MS};
use super::state::Conn;
use super::types::*;
use super::Resource;
use crate::wire::acks::OvResult;
use crate::wire::digest::{Digest, DigestValue};
use crate::wire::packet::Packet;
use crate::wire::requests::{BlockDigest, BlockRequest};
use crate::wire::ID_SYNCER;

impl Resource {
    fn verify_digest(&self) -> Option<Digest> {
        self.net.as_ref().and_then(|net| Digest::by_name(&net.verify_alg))
    }

    pub(super) fn verify_started(&mut self, v: VolumeIndex, conn: Conn) {
        self.begin_counting(v);
        let bits = self.volumes[v].disk.as_ref().map_or(0, |disk| disk.bitmap.bits());
        let resync = &mut self.volumes[v].resync;
        let mut first = 0;
        if conn == Conn::VerifyS {
            first = (resync.verify_start / 8).min(bits.saturating_sub(1));
            resync.next_turn = Some(self.now);
        }
        resync.position = first;
        resync.total = bits - first;
        resync.verify_left = resync.total;
        resync.verify_run = None;
        resync.marks = [(resync.total, self.now); MARKS];
        if conn == Conn::VerifyS {
            self.info(Some(v), format!("Starting Online Verify from sector {}", first * 8));
        }
    }

    pub(super) fn verify_turn(&mut self, v: VolumeIndex) {
        let volume = &mut self.volumes[v];
        let blocks = volume.resync.controller.turn(&volume.settings);
        let stop = volume.resync.verify_stop;
        for _ in 0..blocks {
            let volume = &mut self.volumes[v];
            let sector = volume.resync.position * 8;
            // The answer to the last block ends the verify, also to the only one where it is to stop before it begins.
            let resync = &volume.resync;
            let asked = resync.outstanding_blocks > 0 || resync.verify_left < resync.total;
            if sector >= volume.size || asked && stop.is_some_and(|stop| sector >= stop) {
                return;
            }
            let sectors = 8.min(volume.size - sector);
            // Locked first: else a busy application would never let it have its turn.
            volume.locks.insert(sector, sector, sectors);
            if volume.writes.any(sector, 8) {
                self.flush_barrier();
                break;
            }
            volume.resync.outstanding.insert(sector, sectors);
            volume.resync.outstanding_blocks += 1;
            volume.resync.position += 1;
            volume.resync.controller.requested(1);
            volume.counters.rs_pending += 1;
            let request = BlockRequest { sector, block_id: ID_SYNCER, size: (sectors * 512) as u32 };
            self.send(v, Packet::OvRequest(request));
        }
        self.volumes[v].resync.next_turn = Some(self.now + TURN_MS);
    }

    /// VerifyT: the first request tells where the verify begins.
    pub(super) fn verify_requested(&mut self, v: VolumeIndex, sector: u64) {
        let has_start = self.connection.version.is_some_and(|version| version.has_verify_start_sector());
        let volume = &mut self.volumes[v];
        let bits = volume.disk.as_ref().map_or(0, |disk| disk.bitmap.bits());
        let resync = &mut volume.resync;
        if volume.state.conn == Conn::VerifyT
            && resync.verify_left == bits
            && resync.position == 0
            && has_start
        {
            resync.total = bits.saturating_sub(sector / 8);
            resync.verify_left = resync.total;
            resync.marks = [(resync.total, self.now); MARKS];
            self.info(Some(v), format!("Online Verify start sector: {sector}"));
        }
        self.volumes[v].resync.position = sector / 8 + 1;
    }

    /// VerifyT: the digest of an own block goes to the peer.
    pub(super) fn answer_verify(&mut self, request: &PeerRequest, payload: Option<Payload>) {
        let (v, sector, size) = (request.volume, request.sector, request.bytes);
        let Some(algorithm) = self.verify_digest() else {
            self.acknowledge(v, Packet::NegRsDataReply, sector, size, request.block_id);
            return;
        };
        let digest = match payload {
            Some(payload) => algorithm.compute(&payload),
            None => DigestValue::zeroes(algorithm.len()),
        };
        self.volumes[v].counters.rs_pending += 1;
        self.send(v, Packet::OvReply(BlockDigest { sector, block_id: ID_SYNCER, size, digest }));
    }

    /// VerifyS: the own block was read; is it the same?
    pub(super) fn compare_verify(
        &mut self,
        request: &PeerRequest,
        payload: Option<Payload>,
        digest: DigestValue,
    ) {
        let (v, sector, size) = (request.volume, request.sector, request.bytes);
        let own = self.verify_digest().zip(payload).map(|(algorithm, payload)| algorithm.compute(&payload));
        let in_sync = own == Some(digest);
        self.resync_answered(v, sector, u64::from(size) / 512, Answer::Cancelled);
        let seq = self.volumes[v].next_seq();
        self.send_meta(v, Packet::OvResult(OvResult { sector, size, seq, in_sync }));
        self.verify_result(v, sector, u64::from(size) / 512, in_sync);
    }

    /// A block was compared.
    pub(super) fn verify_result(&mut self, v: VolumeIndex, sector: u64, sectors: u64, in_sync: bool) {
        // Late ones, of a verify that has been given up, are not for the source of a resync: its target, which marks the block for itself, would not
        // know that it has to bring it.
        let conn = self.state(v).conn;
        let sends_what_is_marked = conn.is_sync_source() || conn == Conn::WFBitMapS;
        if !in_sync && !sends_what_is_marked {
            if let Some(disk) = &mut self.volumes[v].disk {
                disk.bitmap.set_sectors(sector, sectors);
            }
        }
        let resync = &mut self.volumes[v].resync;
        let run = resync.verify_run;
        let ended = match run {
            Some((start, len)) if !in_sync && start + len == sector => {
                resync.verify_run = Some((start, len + sectors));
                None
            }
            _ => {
                resync.verify_run = (!in_sync).then_some((sector, sectors));
                run
            }
        };
        resync.verify_left = resync.verify_left.saturating_sub(1);
        let left = resync.verify_left;
        // Answers may come in any order. (DRBD ends with that for the last block, and does not see what is written to the others.)
        let asked_all = resync.verify_stop.is_some_and(|stop| resync.position * 8 >= stop);
        let stops = asked_all && resync.outstanding_blocks == 0;
        let over = conn.is_verify() && (left == 0 || stops && conn == Conn::VerifyS);
        if let Some((start, len)) = ended {
            self.log_line(Some(v), log_lines::out_of_sync_range(start, len));
        }
        self.advance_marks(v);
        if over {
            self.verify_over(v);
        }
    }

    /// All blocks of a verify were compared.
    pub(super) fn verify_over(&mut self, v: VolumeIndex) {
        if let Some((start, len)) = self.volumes[v].resync.verify_run.take() {
            self.log_line(Some(v), log_lines::out_of_sync_range(start, len));
        }
        if self.volumes[v].resync.finishing == Finishing::No {
            self.volumes[v].resync.finishing = Finishing::Ping;
            self.finish_behind_ping(v);
        }
    }
}
