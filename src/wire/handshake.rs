//! First packets, features, and the agreement on a version. spec/wire.md 3.1 to 3.4.
//!
//! | P_CONNECTION_FEATURES | at | size | |
//! |---|---|---|---|
//! | protocol_min | 0 | 4 | |
//! | feature_flags | 4 | 4 | |
//! | protocol_max | 8 | 4 | 0: as min |
//! | reserved | 12 | 60 | 0; node ids of DRBD 9 |
//!
//! All of these have the 8-byte header. Each node sends its features first, then receives.

use std::fmt;

use super::bytes::{Put, Reader};
use super::command::{log_name, Command, Release};
use super::{Features, Header, Malformed, ProtocolVersion, Socket};

/// Bytes of P_CONNECTION_FEATURES behind its header.
pub const FEATURES_LEN: usize = 72;

/// P_CONNECTION_FEATURES, 8.3's P_HAND_SHAKE: versions and features of the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeaturesPacket {
    /// Oldest version.
    pub protocol_min: u32,
    /// Features.
    pub features: Features,
    /// Newest version; 0: the same as `protocol_min`.
    pub protocol_max: u32,
}

impl FeaturesPacket {
    /// Reads the [`FEATURES_LEN`] bytes behind the header.
    pub fn parse(bytes: &[u8; FEATURES_LEN]) -> Result<FeaturesPacket, Malformed> {
        FeaturesPacket::decode(&mut Reader::new(bytes))
    }

    pub(super) fn decode(fields: &mut Reader<'_>) -> Result<FeaturesPacket, Malformed> {
        let packet = FeaturesPacket {
            protocol_min: fields.u32()?,
            features: Features(fields.u32()?),
            protocol_max: fields.u32()?,
        };
        fields.array::<60>()?;
        Ok(packet)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.u32(self.protocol_min);
        out.u32(self.features.0);
        out.u32(self.protocol_max);
        out.extend_from_slice(&[0; 60]);
    }
}

/// The versions and features that this node offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Oldest version.
    pub min: ProtocolVersion,
    /// Newest version.
    pub max: ProtocolVersion,
    /// Features.
    pub features: Features,
}

impl Offer {
    /// All that this program speaks, up to version `max`. Below version 100 it presents itself as
    /// DRBD 8.3, which announces no features. spec/wire.md 12.1.
    pub fn up_to(max: ProtocolVersion) -> Offer {
        Offer {
            min: ProtocolVersion::MIN,
            max,
            features: if max.has_volumes() { Features::ANNOUNCED } else { Features::NONE },
        }
    }

    /// The packet that announces it.
    pub fn packet(&self) -> FeaturesPacket {
        FeaturesPacket {
            protocol_min: u32::from(self.min.number()),
            features: self.features,
            protocol_max: u32::from(self.max.number()),
        }
    }

    /// What both nodes have in common.
    pub fn agree(&self, peer: &FeaturesPacket) -> Result<Agreement, HandshakeError> {
        let peer_max = match peer.protocol_max {
            0 => peer.protocol_min,
            max => max,
        };
        let mine = u32::from(self.max.number());
        let compatible = mine >= peer.protocol_min && peer_max >= u32::from(self.min.number());
        match ProtocolVersion::new(mine.min(peer_max)) {
            Some(version) if compatible => Ok(Agreement { version, features: self.features & peer.features }),
            _ => Err(HandshakeError::Incompatible {
                min: self.min,
                max: self.max,
                peer_min: peer.protocol_min,
                peer_max,
            }),
        }
    }
}

impl Default for Offer {
    fn default() -> Self {
        Offer::up_to(ProtocolVersion::MAX)
    }
}

/// What two nodes have agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    /// The newest version that both speak.
    pub version: ProtocolVersion,
    /// The features that both have.
    pub features: Features,
}

impl Agreement {
    /// The lines for the log; 8.3 has no line on features.
    pub fn log_lines(&self, release: Release) -> Vec<String> {
        let mut lines =
            vec![format!("Handshake successful: Agreed network protocol version {}", self.version)];
        if release == Release::V84 {
            lines.push(format!("Feature flags enabled on protocol level: {}", self.features));
        }
        lines
    }
}

/// What becomes of a connection that fails before it carries data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Closed and tried again, without end.
    Retry,
    /// `Discarding network configuration.`: StandAlone until the administrator connects.
    StandAlone,
}

/// Why a handshake failed. spec/wire.md 3.4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandshakeError {
    /// Nothing, or too little, came in time.
    ShortRead {
        /// Bytes that came, with the header.
        received: usize,
    },
    /// The header is none.
    Header(Malformed),
    /// Another packet than the features.
    UnexpectedPacket {
        /// Its number.
        number: u16,
    },
    /// The features packet has not its one length.
    WrongLength {
        /// Bytes that the header announced.
        received: u32,
    },
    /// No version that both speak.
    Incompatible {
        /// Own oldest version.
        min: ProtocolVersion,
        /// Own newest version.
        max: ProtocolVersion,
        /// The peer's oldest version.
        peer_min: u32,
        /// The peer's newest version.
        peer_max: u32,
    },
}

impl HandshakeError {
    /// Retry or give up.
    pub fn outcome(&self) -> Outcome {
        match self {
            HandshakeError::ShortRead { .. } | HandshakeError::Header(_) => Outcome::Retry,
            _ => Outcome::StandAlone,
        }
    }

    /// The line for the log.
    pub fn log_text(&self, release: Release) -> String {
        let name = Command::ConnectionFeatures.log_name(release);
        match self {
            HandshakeError::ShortRead { received } => {
                format!("short read receiving handshake packet: l={received}")
            }
            HandshakeError::Header(error) => error.to_string(),
            HandshakeError::UnexpectedPacket { number } => {
                format!("expected {name} packet, received: {} (0x{number:04x})", log_name(*number, release))
            }
            HandshakeError::WrongLength { received } => {
                format!("expected {name} length: {FEATURES_LEN}, received: {received}")
            }
            HandshakeError::Incompatible { min, max, peer_min, peer_max } => format!(
                "incompatible DRBD dialects: I support {min}-{max}, peer supports {peer_min}-{peer_max}"
            ),
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.log_text(Release::V84))
    }
}

impl std::error::Error for HandshakeError {}

/// Checks that a header is the one of a features packet: [`FEATURES_LEN`] bytes follow.
pub fn expect_features(header: &Header) -> Result<(), HandshakeError> {
    if header.command != Command::ConnectionFeatures.number() {
        return Err(HandshakeError::UnexpectedPacket { number: header.command });
    }
    if header.length as usize != FEATURES_LEN {
        return Err(HandshakeError::WrongLength { received: header.length });
    }
    Ok(())
}

/// Which connection a first packet opens; `None` if it is no first packet. spec/wire.md 1.1.
pub fn first_packet(header: &Header) -> Option<Socket> {
    match Command::from_number(header.command) {
        Some(Command::InitialData) if header.length == 0 => Some(Socket::Data),
        Some(Command::InitialMeta) if header.length == 0 => Some(Socket::Meta),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Framing;

    fn peer(protocol_min: u32, protocol_max: u32, features: u32) -> FeaturesPacket {
        FeaturesPacket { protocol_min, features: Features(features), protocol_max }
    }

    fn agreed(number: u32, features: u32) -> Result<Agreement, HandshakeError> {
        Ok(Agreement { version: ProtocolVersion::new(number).unwrap(), features: Features(features) })
    }

    #[test]
    fn the_newest_common_version_and_the_common_features() {
        let offer = Offer::default();
        assert_eq!(offer.agree(&peer(86, 101, 0xb)), agreed(101, 0xb));
        assert_eq!(offer.agree(&peer(86, 97, 0)), agreed(97, 0));
        assert_eq!(offer.agree(&peer(86, 124, 0xff)), agreed(101, 0xf));
        assert_eq!(offer.agree(&peer(90, 0, 0)), agreed(90, 0));
        let as_83 = Offer::up_to(ProtocolVersion::MAX_83);
        assert_eq!(as_83.packet(), peer(86, 97, 0));
        assert_eq!(as_83.agree(&peer(86, 101, 0xf)), agreed(97, 0));
    }

    #[test]
    fn disjoint_ranges_are_given_up() {
        for packet in [peer(110, 122, 0xf), peer(80, 85, 0), peer(0, 0, 0), peer(85, 0, 0)] {
            let error = Offer::default().agree(&packet).unwrap_err();
            assert_eq!(error.outcome(), Outcome::StandAlone);
        }
        assert_eq!(
            Offer::default().agree(&peer(110, 122, 0)).unwrap_err().to_string(),
            "incompatible DRBD dialects: I support 86-101, peer supports 110-122"
        );
    }

    #[test]
    fn other_packets_are_named_as_the_release_names_them() {
        let barrier = Header { command: 3, volume: 0, length: 8 };
        let error = expect_features(&barrier).unwrap_err();
        assert_eq!(error.outcome(), Outcome::StandAlone);
        assert_eq!(error.log_text(Release::V83), "expected HandShake packet, received: Barrier (0x0003)");
        let short = Header { command: 0xfffe, volume: 0, length: 71 };
        assert_eq!(
            expect_features(&short).unwrap_err().log_text(Release::V84),
            "expected ConnectionFeatures length: 72, received: 71"
        );
        let silence = HandshakeError::ShortRead { received: 0 };
        assert_eq!(silence.outcome(), Outcome::Retry);
    }

    #[test]
    fn the_log_lines_of_an_agreement() {
        let agreement = agreed(101, 0xb).unwrap();
        assert_eq!(
            agreement.log_lines(Release::V84),
            [
                "Handshake successful: Agreed network protocol version 101",
                "Feature flags enabled on protocol level: 0xb TRIM THIN_RESYNC WRITE_ZEROES."
            ]
        );
        assert_eq!(agreement.log_lines(Release::V83).len(), 1);
    }

    #[test]
    fn first_packets_tell_the_sockets_apart() {
        let read = |bytes: [u8; 8]| first_packet(&Header::decode(Framing::First, &bytes).unwrap());
        assert_eq!(read([0x83, 0x74, 0x02, 0x67, 0xff, 0xf2, 0, 0]), Some(Socket::Data));
        assert_eq!(read([0x83, 0x74, 0x02, 0x67, 0xff, 0xf1, 0, 0]), Some(Socket::Meta));
        assert_eq!(read([0x83, 0x74, 0x02, 0x67, 0xff, 0xfe, 0, 72]), None);
    }
}
