//! Every packet as one enum: its type, its decoder and its encoder.

use super::bytes::{Put, Reader};
use super::command::Scope;
use super::{
    Barrier, BarrierAck, BlockAck, BlockDescription, BlockDigest, BlockRequest, Command, Context, Data,
    DelayProbe, Features, FeaturesPacket, Framing, Header, Malformed, OvResult, Protocol, ProtocolVersion,
    RangeWrite, Reply, Sizes, Socket, StateChangeRequest, SyncParam, Uuids,
};

/// A packet without its payload. The doc comments name the constant of spec/wire.md 5.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// P_DATA; the data to write are the payload.
    Data(Data),
    /// P_DATA_REPLY; the data read are the payload.
    DataReply(Reply),
    /// P_RS_DATA_REPLY; the data read are the payload.
    RsDataReply(Reply),
    /// P_TRIM
    Trim(RangeWrite),
    /// P_ZEROES
    Zeroes(RangeWrite),
    /// P_WSAME; the block to repeat is the payload.
    WriteSame(RangeWrite),
    /// P_BARRIER
    Barrier(Barrier),
    /// P_UNPLUG_REMOTE
    UnplugRemote,
    /// P_OUT_OF_SYNC
    OutOfSync(BlockDescription),
    /// P_RS_DEALLOCATED
    RsDeallocated(BlockDescription),
    /// P_DATA_REQUEST
    DataRequest(BlockRequest),
    /// P_RS_DATA_REQUEST
    RsDataRequest(BlockRequest),
    /// P_RS_THIN_REQ
    RsThinRequest(BlockRequest),
    /// P_CSUM_RS_REQUEST
    CsumRsRequest(BlockDigest),
    /// P_OV_REQUEST
    OvRequest(BlockRequest),
    /// P_OV_REPLY
    OvReply(BlockDigest),
    /// P_BITMAP; words of the bitmap are the payload: [`super::bitmap_code`].
    Bitmap,
    /// P_COMPRESSED_BITMAP; runs of the bitmap are the payload: [`super::bitmap_code`].
    CompressedBitmap,
    /// P_PROTOCOL
    Protocol(Protocol),
    /// P_PROTOCOL_UPDATE
    ProtocolUpdate(Protocol),
    /// P_SYNC_PARAM or P_SYNC_PARAM89, as the version has it.
    SyncParam(SyncParam),
    /// P_SIZES
    Sizes(Sizes),
    /// P_UUIDS
    Uuids(Uuids),
    /// P_SYNC_UUID: the new current UUID of the sync target.
    SyncUuid(u64),
    /// P_STATE: a state word.
    State(u32),
    /// P_STATE_CHG_REQ
    StateChangeRequest(StateChangeRequest),
    /// P_STATE_CHG_REPLY: 1 and above agreed, below 1 a reason.
    StateChangeReply(i32),
    /// P_CONN_ST_CHG_REQ
    ConnectionStateChangeRequest(StateChangeRequest),
    /// P_CONN_ST_CHG_REPLY: as [`Packet::StateChangeReply`].
    ConnectionStateChangeReply(i32),
    /// P_PING
    Ping,
    /// P_PING_ACK
    PingAck,
    /// P_RECV_ACK
    RecvAck(BlockAck),
    /// P_WRITE_ACK
    WriteAck(BlockAck),
    /// P_RS_WRITE_ACK
    RsWriteAck(BlockAck),
    /// P_SUPERSEDED, 8.3's P_DISCARD_ACK
    Superseded(BlockAck),
    /// P_RETRY_WRITE
    RetryWrite(BlockAck),
    /// P_NEG_ACK
    NegAck(BlockAck),
    /// P_NEG_DREPLY
    NegDataReply(BlockAck),
    /// P_NEG_RS_DREPLY
    NegRsDataReply(BlockAck),
    /// P_RS_CANCEL
    RsCancel(BlockAck),
    /// P_RS_IS_IN_SYNC
    RsIsInSync(BlockAck),
    /// P_OV_RESULT
    OvResult(OvResult),
    /// P_BARRIER_ACK
    BarrierAck(BarrierAck),
    /// P_DELAY_PROBE
    DelayProbe(DelayProbe),
    /// P_AUTH_CHALLENGE
    AuthChallenge(Vec<u8>),
    /// P_AUTH_RESPONSE
    AuthResponse(Vec<u8>),
    /// P_INITIAL_DATA: first packet of the data connection.
    InitialData,
    /// P_INITIAL_META: first packet of the meta connection.
    InitialMeta,
    /// P_CONNECTION_FEATURES
    ConnectionFeatures(FeaturesPacket),
}

impl Packet {
    /// Decodes a sub-header whose length [`Frame::new`](super::Frame::new) has checked.
    pub(super) fn decode_fields(
        command: Command,
        fields: &mut Reader<'_>,
        context: &Context,
    ) -> Result<Packet, Malformed> {
        Ok(match command {
            Command::Data => Packet::Data(Data::decode(fields)?),
            Command::DataReply => Packet::DataReply(Reply::decode(fields)?),
            Command::RsDataReply => Packet::RsDataReply(Reply::decode(fields)?),
            Command::Trim => Packet::Trim(RangeWrite::decode(fields)?),
            Command::Zeroes => Packet::Zeroes(RangeWrite::decode(fields)?),
            Command::WriteSame => Packet::WriteSame(RangeWrite::decode(fields)?),
            Command::Barrier => Packet::Barrier(Barrier::decode(fields)?),
            Command::UnplugRemote => Packet::UnplugRemote,
            Command::OutOfSync => Packet::OutOfSync(BlockDescription::decode(fields)?),
            Command::RsDeallocated => Packet::RsDeallocated(BlockDescription::decode(fields)?),
            Command::DataRequest => Packet::DataRequest(BlockRequest::decode(fields)?),
            Command::RsDataRequest => Packet::RsDataRequest(BlockRequest::decode(fields)?),
            Command::RsThinRequest => Packet::RsThinRequest(BlockRequest::decode(fields)?),
            Command::CsumRsRequest => Packet::CsumRsRequest(BlockDigest::decode(fields)?),
            Command::OvRequest => Packet::OvRequest(BlockRequest::decode(fields)?),
            Command::OvReply => Packet::OvReply(BlockDigest::decode(fields)?),
            Command::Bitmap => Packet::Bitmap,
            Command::CompressedBitmap => Packet::CompressedBitmap,
            Command::Protocol => Packet::Protocol(Protocol::decode(fields)?),
            Command::ProtocolUpdate => Packet::ProtocolUpdate(Protocol::decode(fields)?),
            Command::SyncParam | Command::SyncParam89 => {
                Packet::SyncParam(SyncParam::decode(fields, context.version)?)
            }
            Command::Sizes => {
                let with_limits = context.features.contains(Features::WSAME);
                Packet::Sizes(Sizes::decode(fields, with_limits)?)
            }
            Command::Uuids => Packet::Uuids(Uuids::decode(fields)?),
            Command::SyncUuid => Packet::SyncUuid(fields.u64()?),
            Command::State => Packet::State(fields.u32()?),
            Command::StateChangeRequest => Packet::StateChangeRequest(StateChangeRequest::decode(fields)?),
            Command::StateChangeReply => Packet::StateChangeReply(fields.u32()? as i32),
            Command::ConnectionStateChangeRequest => {
                Packet::ConnectionStateChangeRequest(StateChangeRequest::decode(fields)?)
            }
            Command::ConnectionStateChangeReply => Packet::ConnectionStateChangeReply(fields.u32()? as i32),
            Command::Ping => Packet::Ping,
            Command::PingAck => Packet::PingAck,
            Command::RecvAck => Packet::RecvAck(BlockAck::decode(fields)?),
            Command::WriteAck => Packet::WriteAck(BlockAck::decode(fields)?),
            Command::RsWriteAck => Packet::RsWriteAck(BlockAck::decode(fields)?),
            Command::Superseded => Packet::Superseded(BlockAck::decode(fields)?),
            Command::RetryWrite => Packet::RetryWrite(BlockAck::decode(fields)?),
            Command::NegAck => Packet::NegAck(BlockAck::decode(fields)?),
            Command::NegDataReply => Packet::NegDataReply(BlockAck::decode(fields)?),
            Command::NegRsDataReply => Packet::NegRsDataReply(BlockAck::decode(fields)?),
            Command::RsCancel => Packet::RsCancel(BlockAck::decode(fields)?),
            Command::RsIsInSync => Packet::RsIsInSync(BlockAck::decode(fields)?),
            Command::OvResult => Packet::OvResult(OvResult::decode(fields)?),
            Command::BarrierAck => Packet::BarrierAck(BarrierAck::decode(fields)?),
            Command::DelayProbe => Packet::DelayProbe(DelayProbe::decode(fields)?),
            Command::AuthChallenge => Packet::AuthChallenge(fields.rest().to_vec()),
            Command::AuthResponse => Packet::AuthResponse(fields.rest().to_vec()),
            Command::InitialData => Packet::InitialData,
            Command::InitialMeta => Packet::InitialMeta,
            Command::ConnectionFeatures => Packet::ConnectionFeatures(FeaturesPacket::decode(fields)?),
            Command::BecomeSyncTarget | Command::BecomeSyncSource => {
                return Err(Malformed::UnexpectedPacket { socket: Socket::Data, number: command.number() })
            }
        })
    }

    /// The type of the packet; P_SYNC_PARAM has another one from version 89 on.
    pub fn command(&self, version: ProtocolVersion) -> Command {
        match self {
            Packet::Data(_) => Command::Data,
            Packet::DataReply(_) => Command::DataReply,
            Packet::RsDataReply(_) => Command::RsDataReply,
            Packet::Trim(_) => Command::Trim,
            Packet::Zeroes(_) => Command::Zeroes,
            Packet::WriteSame(_) => Command::WriteSame,
            Packet::Barrier(_) => Command::Barrier,
            Packet::UnplugRemote => Command::UnplugRemote,
            Packet::OutOfSync(_) => Command::OutOfSync,
            Packet::RsDeallocated(_) => Command::RsDeallocated,
            Packet::DataRequest(_) => Command::DataRequest,
            Packet::RsDataRequest(_) => Command::RsDataRequest,
            Packet::RsThinRequest(_) => Command::RsThinRequest,
            Packet::CsumRsRequest(_) => Command::CsumRsRequest,
            Packet::OvRequest(_) => Command::OvRequest,
            Packet::OvReply(_) => Command::OvReply,
            Packet::Bitmap => Command::Bitmap,
            Packet::CompressedBitmap => Command::CompressedBitmap,
            Packet::Protocol(_) => Command::Protocol,
            Packet::ProtocolUpdate(_) => Command::ProtocolUpdate,
            Packet::SyncParam(_) if version.has_sync_param89() => Command::SyncParam89,
            Packet::SyncParam(_) => Command::SyncParam,
            Packet::Sizes(_) => Command::Sizes,
            Packet::Uuids(_) => Command::Uuids,
            Packet::SyncUuid(_) => Command::SyncUuid,
            Packet::State(_) => Command::State,
            Packet::StateChangeRequest(_) => Command::StateChangeRequest,
            Packet::StateChangeReply(_) => Command::StateChangeReply,
            Packet::ConnectionStateChangeRequest(_) => Command::ConnectionStateChangeRequest,
            Packet::ConnectionStateChangeReply(_) => Command::ConnectionStateChangeReply,
            Packet::Ping => Command::Ping,
            Packet::PingAck => Command::PingAck,
            Packet::RecvAck(_) => Command::RecvAck,
            Packet::WriteAck(_) => Command::WriteAck,
            Packet::RsWriteAck(_) => Command::RsWriteAck,
            Packet::Superseded(_) => Command::Superseded,
            Packet::RetryWrite(_) => Command::RetryWrite,
            Packet::NegAck(_) => Command::NegAck,
            Packet::NegDataReply(_) => Command::NegDataReply,
            Packet::NegRsDataReply(_) => Command::NegRsDataReply,
            Packet::RsCancel(_) => Command::RsCancel,
            Packet::RsIsInSync(_) => Command::RsIsInSync,
            Packet::OvResult(_) => Command::OvResult,
            Packet::BarrierAck(_) => Command::BarrierAck,
            Packet::DelayProbe(_) => Command::DelayProbe,
            Packet::AuthChallenge(_) => Command::AuthChallenge,
            Packet::AuthResponse(_) => Command::AuthResponse,
            Packet::InitialData => Command::InitialData,
            Packet::InitialMeta => Command::InitialMeta,
            Packet::ConnectionFeatures(_) => Command::ConnectionFeatures,
        }
    }

    /// The socket on which to send the packet.
    pub fn socket(&self) -> Socket {
        self.command(ProtocolVersion::MAX).socket()
    }

    /// Appends header, sub-header and digest. The caller sends `payload_len` bytes of payload
    /// right behind them.
    ///
    /// `digest`: of the payload, by the own data-integrity-alg, in P_DATA, P_*DATA_REPLY and
    /// P_WSAME; else empty. `volume` is ignored for packets of the whole connection and below
    /// version 100, `version` for the packets of the handshake.
    ///
    /// # Panics
    /// If the packet is too long for the header of the version: see [`super::header`].
    pub fn encode_into(
        &self,
        out: &mut Vec<u8>,
        volume: u16,
        version: ProtocolVersion,
        digest: &[u8],
        payload_len: usize,
    ) {
        let command = self.command(version);
        let framing = match self {
            Packet::InitialData | Packet::InitialMeta | Packet::ConnectionFeatures(_) => Framing::First,
            _ => Framing::Agreed(version),
        };
        // Room for the header, which is written when the length behind it is known.
        let start = out.len();
        let fields = start + framing.header_len();
        out.resize(fields, 0);
        self.encode_fields(version, out);
        out.extend_from_slice(digest);
        let length = out.len() - fields + payload_len;
        let header = Header {
            command: command.number(),
            volume: match command.scope() {
                Scope::Volume => volume,
                Scope::Connection => 0,
            },
            length: u32::try_from(length).unwrap_or(u32::MAX),
        };
        header.encode(framing, &mut out[start..fields]);
    }

    /// The packet as bytes of its own, for one without payload and digest.
    pub fn to_bytes(&self, volume: u16, version: ProtocolVersion) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        self.encode_into(&mut out, volume, version, &[], 0);
        out
    }

    fn encode_fields(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        match self {
            Packet::Data(data) => data.encode(out),
            Packet::DataReply(reply) | Packet::RsDataReply(reply) => reply.encode(out),
            Packet::Trim(range) | Packet::Zeroes(range) | Packet::WriteSame(range) => range.encode(out),
            Packet::Barrier(barrier) => barrier.encode(out),
            Packet::OutOfSync(range) | Packet::RsDeallocated(range) => range.encode(out),
            Packet::DataRequest(request)
            | Packet::RsDataRequest(request)
            | Packet::RsThinRequest(request)
            | Packet::OvRequest(request) => request.encode(out),
            Packet::CsumRsRequest(digest) | Packet::OvReply(digest) => digest.encode(out),
            Packet::Protocol(protocol) | Packet::ProtocolUpdate(protocol) => protocol.encode(version, out),
            Packet::SyncParam(param) => param.encode(version, out),
            Packet::Sizes(sizes) => sizes.encode(out),
            Packet::Uuids(uuids) => uuids.encode(out),
            Packet::SyncUuid(uuid) => out.u64(*uuid),
            Packet::State(word) => out.u32(*word),
            Packet::StateChangeRequest(request) | Packet::ConnectionStateChangeRequest(request) => {
                request.encode(out)
            }
            Packet::StateChangeReply(result) | Packet::ConnectionStateChangeReply(result) => {
                out.u32(*result as u32)
            }
            Packet::RecvAck(ack)
            | Packet::WriteAck(ack)
            | Packet::RsWriteAck(ack)
            | Packet::Superseded(ack)
            | Packet::RetryWrite(ack)
            | Packet::NegAck(ack)
            | Packet::NegDataReply(ack)
            | Packet::NegRsDataReply(ack)
            | Packet::RsCancel(ack)
            | Packet::RsIsInSync(ack) => ack.encode(out),
            Packet::OvResult(result) => result.encode(out),
            Packet::BarrierAck(ack) => ack.encode(out),
            Packet::DelayProbe(probe) => probe.encode(out),
            Packet::AuthChallenge(bytes) | Packet::AuthResponse(bytes) => out.extend_from_slice(bytes),
            Packet::ConnectionFeatures(features) => features.encode(out),
            Packet::UnplugRemote
            | Packet::Bitmap
            | Packet::CompressedBitmap
            | Packet::Ping
            | Packet::PingAck
            | Packet::InitialData
            | Packet::InitialMeta => {}
        }
    }
}
