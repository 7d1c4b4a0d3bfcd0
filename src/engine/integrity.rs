//! Digests over data on the wire, `data-integrity-alg`. spec/wire.md 5.6, 4.2.
//!
//! Each direction uses what its sender has announced in its last P_PROTOCOL or P_PROTOCOL_UPDATE,
//! from the packet behind it on; so both ends of a socket learn it from the stream itself.

use crate::wire::{Digest, Packet};

/// Whether a digest of the payload stands in front of it.
pub fn is_covered(packet: &Packet) -> bool {
    matches!(packet, Packet::Data(_) | Packet::DataReply(_) | Packet::RsDataReply(_) | Packet::WriteSame(_))
}

/// What a packet announces for those behind it; `None`: it announces nothing. A name that is not
/// known counts as none: core refuses the connection because of it.
pub fn announced(packet: &Packet) -> Option<Option<Digest>> {
    match packet {
        Packet::Protocol(protocol) | Packet::ProtocolUpdate(protocol) => {
            Some(Digest::by_name(&protocol.integrity_alg))
        }
        _ => None,
    }
}
