//! The protocol version that two nodes agree on, and what each version adds.
//!
//! | version | release | adds |
//! |---|---|---|
//! | 86 | 8.0 | |
//! | 87 | 8.2.0 | data-integrity-alg |
//! | 88 | 8.2.2 | online verify |
//! | 89 | 8.3.0 | P_SYNC_PARAM89, checksum based resync |
//! | 90 | 8.3.2 | compressed bitmap, verify start sector, skip initial sync |
//! | 91 | 8.3.3 | more rules to compare UUIDs |
//! | 92-94 | 8.3.8 | dry run, P_SIZES flags |
//! | 95 | 8.3.9 | large header, 128 KiB requests, resync controller |
//! | 96 | 8.3.10 | Ahead/Behind |
//! | 97 | 8.3.14 | verify stop sector |
//! | 100 | 8.4.0 | volumes, acks chosen by flags, 1 MiB requests; no verify stop sector |
//! | 101 | 8.4.2 | verify stop sector again |
//!
//! spec/wire.md 0.1, 0.2, 2.4.

use std::fmt;

/// A protocol version (apv) from [`MIN`](ProtocolVersion::MIN) to [`MAX`](ProtocolVersion::MAX).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolVersion(u8);

impl ProtocolVersion {
    /// The oldest version that is spoken: that of DRBD 8.0.
    pub const MIN: ProtocolVersion = ProtocolVersion(86);
    /// The newest version that is spoken: that of DRBD 8.4.
    pub const MAX: ProtocolVersion = ProtocolVersion(101);
    /// The newest version of DRBD 8.3.
    pub const MAX_83: ProtocolVersion = ProtocolVersion(97);

    /// `number` as a version; `None` outside [`MIN`](Self::MIN)..=[`MAX`](Self::MAX).
    pub fn new(number: u32) -> Option<ProtocolVersion> {
        let number = u8::try_from(number).ok()?;
        (Self::MIN.0..=Self::MAX.0).contains(&number).then_some(ProtocolVersion(number))
    }

    /// All versions, oldest first.
    pub fn all() -> impl Iterator<Item = ProtocolVersion> {
        (Self::MIN.0..=Self::MAX.0).map(ProtocolVersion)
    }

    /// The plain number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// P_PROTOCOL names the data-integrity-alg; data packets may carry a digest (87).
    pub fn has_integrity_alg(self) -> bool {
        self.0 >= 87
    }

    /// Online verify, and verify-alg in the sync parameters (88).
    pub fn has_online_verify(self) -> bool {
        self.0 >= 88
    }

    /// Checksum based resync: csums-alg, P_CSUM_RS_REQUEST, P_RS_IS_IN_SYNC (89).
    pub fn has_csums(self) -> bool {
        self.0 >= 89
    }

    /// P_SYNC_PARAM89 replaces P_SYNC_PARAM (89).
    pub fn has_sync_param89(self) -> bool {
        self.0 >= 89
    }

    /// P_COMPRESSED_BITMAP may be sent (90).
    pub fn has_compressed_bitmap(self) -> bool {
        self.0 >= 90
    }

    /// The verify target takes its start sector from the first P_OV_REQUEST (90).
    pub fn has_verify_start_sector(self) -> bool {
        self.0 >= 90
    }

    /// The flag of P_UUIDS that skips the initial sync is honoured (90).
    pub fn has_skip_initial_sync(self) -> bool {
        self.0 >= 90
    }

    /// The additional rules to compare UUIDs (91). spec/state.md.
    pub fn has_uuid_rules_of_91(self) -> bool {
        self.0 >= 91
    }

    /// P_PROTOCOL may say dry-run (92).
    pub fn has_dry_run(self) -> bool {
        self.0 >= 92
    }

    /// The flags of P_SIZES are honoured (93).
    pub fn has_sizes_flags(self) -> bool {
        self.0 >= 93
    }

    /// P_SYNC_PARAM89 carries the four values of the resync controller (95).
    pub fn has_resync_controller(self) -> bool {
        self.0 >= 95
    }

    /// The end of a resync that had nothing to do is announced by P_STATE (95).
    pub fn announces_empty_resync(self) -> bool {
        self.0 >= 95
    }

    /// The flags of data packets beyond RW_SYNC exist: FUA, FLUSH, DISCARD (95).
    pub fn has_flush_flags(self) -> bool {
        self.0 >= 95
    }

    /// Packets over 32 KiB take the header with a 32-bit length (95 to 99).
    pub fn has_large_header(self) -> bool {
        (95..100).contains(&self.0)
    }

    /// Ahead/Behind, P_OUT_OF_SYNC, P_RS_CANCEL; writes are admitted in WFBitMapS (96).
    pub fn has_out_of_sync(self) -> bool {
        self.0 >= 96
    }

    /// A verify has a stop sector and its end is announced by P_STATE (97, but not 100).
    pub fn has_stop_sector(self) -> bool {
        self.0 >= 97 && self.0 != 100
    }

    /// Every packet has the 16-byte header with a volume number (100).
    pub fn has_volumes(self) -> bool {
        self.0 >= 100
    }

    /// Flags of the write alone decide which acks it gets (100).
    pub fn has_ack_flags(self) -> bool {
        self.0 >= 100
    }

    /// P_CONN_ST_CHG_REQ and P_CONN_ST_CHG_REPLY (100).
    pub fn has_connection_state_change(self) -> bool {
        self.0 >= 100
    }

    /// P_PROTOCOL_UPDATE (100).
    pub fn has_protocol_update(self) -> bool {
        self.0 >= 100
    }

    /// P_RETRY_WRITE (100).
    pub fn has_retry_write(self) -> bool {
        self.0 >= 100
    }

    /// Bytes of the header of ordinary packets.
    pub fn header_len(self) -> usize {
        if self.has_volumes() {
            16
        } else {
            8
        }
    }

    /// The largest write or request, in bytes, that the version allows: what P_SIZES announces at
    /// most. Below version 95 the peer's own announcement limits it further:
    /// [`max_bio_to`](Self::max_bio_to).
    pub fn max_bio_bytes(self) -> u32 {
        match self.0 {
            ..=94 => 32 << 10,
            95..=99 => 128 << 10,
            _ => 1 << 20,
        }
    }

    /// The largest write or request, in bytes, that may be sent to a peer whose P_SIZES said
    /// `peer_max_bio_size`; never less than one page. spec/wire.md 2.4, 12.8.
    pub fn max_bio_to(self, peer_max_bio_size: u32) -> u32 {
        if self.0 < 95 {
            self.max_bio_bytes().min(peer_max_bio_size.max(4096))
        } else {
            self.max_bio_bytes()
        }
    }

    /// No write crosses a multiple of this many bytes: receivers before 8.4 look for conflicting
    /// writes by such blocks. spec/wire.md 12.8.
    pub fn boundary_bytes(self) -> u32 {
        self.max_bio_bytes()
    }

    /// Largest payload of a bitmap packet in bytes: 4096 with the header. spec/wire.md 6.
    pub fn bitmap_payload_max(self) -> usize {
        4096 - self.header_len()
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u32) -> ProtocolVersion {
        ProtocolVersion::new(number).unwrap()
    }

    #[test]
    fn only_versions_in_range_exist() {
        for number in [0, 85, 102, 110, 256 + 86, u32::MAX] {
            assert_eq!(ProtocolVersion::new(number), None, "{number}");
        }
        assert_eq!(ProtocolVersion::all().count(), 16);
    }

    #[test]
    fn the_stop_sector_came_with_97_and_is_missing_in_100() {
        let with: Vec<u8> =
            ProtocolVersion::all().filter(|v| v.has_stop_sector()).map(ProtocolVersion::number).collect();
        assert_eq!(with, [97, 98, 99, 101]);
    }

    #[test]
    fn sizes_grow_with_the_version() {
        assert_eq!(version(94).max_bio_bytes(), 32768);
        assert_eq!(version(95).max_bio_bytes(), 131072);
        assert_eq!(version(100).max_bio_bytes(), 1048576);
        assert_eq!(version(93).max_bio_to(4096), 4096);
        assert_eq!(version(93).max_bio_to(0), 4096);
        assert_eq!(version(101).max_bio_to(4096), 1048576);
        assert_eq!(version(99).bitmap_payload_max(), 4088);
        assert_eq!(version(100).bitmap_payload_max(), 4080);
    }
}
