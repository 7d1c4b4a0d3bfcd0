//! One good packet of each type of wire's table.

use drbdbox::wire::*;

/// Sectors of the device that they speak of.
pub const SECTORS: u64 = 16384;

/// P_PROTOCOL of a node without policies.
pub fn plain_protocol(protocol: u32) -> Protocol {
    Protocol {
        protocol,
        after_sb_0p: 0,
        after_sb_1p: 0,
        after_sb_2p: 0,
        conn_flags: 0,
        two_primaries: 0,
        integrity_alg: String::new(),
    }
}

/// A packet of this type that a decent peer may send, and its bytes of payload; `None`: nobody ever sends it.
pub fn sample(command: Command) -> Option<(Packet, usize)> {
    let range = RangeWrite { sector: 8, block_id: 5, seq: 1, flags: DataFlags(0x102), size: 4096 };
    let request = BlockRequest { sector: 8, block_id: ID_SYNCER, size: 4096 };
    let description = BlockDescription { sector: 8, size: 4096 };
    let digest = Digest::Crc32c.compute(&[0; 4096]);
    let hashed = BlockDigest { sector: 8, block_id: ID_SYNCER, size: 4096, digest };
    let ack = BlockAck { sector: 8, block_id: 5, size: 4096, seq: 1 };
    let change = StateChangeRequest { mask: 3, val: 2 };
    let protocol = plain_protocol(3);
    let controller =
        ResyncController { plan_ahead: 20, delay_target: 10, fill_target: 100, max_rate: 102_400 };
    let sync_param = SyncParam {
        rate: 250,
        verify_alg: "crc32c".into(),
        csums_alg: String::new(),
        controller: Some(controller),
    };
    let empty = |packet| Some((packet, 0));
    match command {
        Command::Data => {
            Some((Packet::Data(Data { sector: 8, block_id: 5, seq: 1, flags: DataFlags(0x102) }), 4096))
        }
        Command::DataReply => Some((Packet::DataReply(Reply { sector: 8, block_id: 5 }), 4096)),
        Command::RsDataReply => Some((Packet::RsDataReply(Reply { sector: 8, block_id: ID_SYNCER }), 4096)),
        Command::Barrier => empty(Packet::Barrier(Barrier { number: 1 })),
        Command::Bitmap => Some((Packet::Bitmap, 256)),
        Command::BecomeSyncTarget | Command::BecomeSyncSource => None,
        Command::UnplugRemote => empty(Packet::UnplugRemote),
        Command::DataRequest => empty(Packet::DataRequest(request)),
        Command::RsDataRequest => empty(Packet::RsDataRequest(request)),
        // The one of these that version 101 has.
        Command::SyncParam | Command::SyncParam89 => empty(Packet::SyncParam(sync_param)),
        Command::Protocol => empty(Packet::Protocol(protocol)),
        Command::Uuids => empty(Packet::Uuids(Uuids {
            current: 0x1234_5678_9abc_def0,
            bitmap: 0,
            history: [0, 0],
            dirty_bits: 0,
            flags: 0,
        })),
        Command::Sizes => empty(Packet::Sizes(Sizes {
            d_size: SECTORS,
            u_size: 0,
            c_size: SECTORS,
            max_bio_size: 1 << 20,
            dds_flags: 0,
            queue_limits: None,
        })),
        Command::State => empty(Packet::State(0x0001_10aa)),
        Command::SyncUuid => empty(Packet::SyncUuid(0x1234)),
        Command::AuthChallenge => empty(Packet::AuthChallenge(vec![1; 64])),
        Command::AuthResponse => empty(Packet::AuthResponse(vec![1; 20])),
        Command::StateChangeRequest => empty(Packet::StateChangeRequest(change)),
        Command::Ping => empty(Packet::Ping),
        Command::PingAck => empty(Packet::PingAck),
        Command::RecvAck => empty(Packet::RecvAck(ack)),
        Command::WriteAck => empty(Packet::WriteAck(ack)),
        Command::RsWriteAck => empty(Packet::RsWriteAck(ack)),
        Command::Superseded => empty(Packet::Superseded(ack)),
        Command::NegAck => empty(Packet::NegAck(ack)),
        Command::NegDataReply => empty(Packet::NegDataReply(ack)),
        Command::NegRsDataReply => empty(Packet::NegRsDataReply(ack)),
        Command::BarrierAck => empty(Packet::BarrierAck(BarrierAck { number: 0, set_size: 1 })),
        Command::StateChangeReply => empty(Packet::StateChangeReply(1)),
        Command::OvRequest => empty(Packet::OvRequest(request)),
        Command::OvReply => empty(Packet::OvReply(hashed)),
        Command::OvResult => {
            empty(Packet::OvResult(OvResult { sector: 8, size: 4096, seq: 1, in_sync: true }))
        }
        Command::CsumRsRequest => empty(Packet::CsumRsRequest(hashed)),
        Command::RsIsInSync => empty(Packet::RsIsInSync(ack)),
        Command::CompressedBitmap => Some((Packet::CompressedBitmap, 8)),
        Command::DelayProbe => empty(Packet::DelayProbe(DelayProbe { seq: 1, offset_us: 2 })),
        Command::OutOfSync => empty(Packet::OutOfSync(description)),
        Command::RsCancel => empty(Packet::RsCancel(ack)),
        Command::ConnectionStateChangeRequest => empty(Packet::ConnectionStateChangeRequest(change)),
        Command::ConnectionStateChangeReply => empty(Packet::ConnectionStateChangeReply(1)),
        Command::RetryWrite => empty(Packet::RetryWrite(ack)),
        Command::ProtocolUpdate => empty(Packet::ProtocolUpdate(protocol)),
        Command::Trim => empty(Packet::Trim(range)),
        Command::RsThinRequest => empty(Packet::RsThinRequest(request)),
        Command::RsDeallocated => empty(Packet::RsDeallocated(description)),
        Command::WriteSame => Some((Packet::WriteSame(range), 512)),
        Command::Zeroes => empty(Packet::Zeroes(range)),
        Command::InitialMeta => empty(Packet::InitialMeta),
        Command::InitialData => empty(Packet::InitialData),
        Command::ConnectionFeatures => empty(Packet::ConnectionFeatures(FeaturesPacket {
            protocol_min: 86,
            features: Features::NONE,
            protocol_max: 101,
        })),
    }
}
