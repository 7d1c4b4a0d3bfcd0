//! Authentication: each node proves that it knows the shared secret. spec/wire.md 3.5.
//!
//! | packet | at | size | |
//! |---|---|---|---|
//! | P_AUTH_CHALLENGE | 0 | 64 | random bytes |
//! | P_AUTH_RESPONSE | 0 | digest | HMAC(secret, the peer's challenge) |
//!
//! Order of either node: send its challenge, receive the peer's, send the response, receive the
//! peer's. Nothing but the challenge enters the HMAC.

use hmac::{Hmac, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use super::command::{log_name, Command, Release};
use super::handshake::Outcome;
use super::{Digest, DigestValue, Header};

/// Bytes of a challenge that is sent, and the least of one that is accepted.
pub const CHALLENGE_LEN: usize = 64;

/// Most bytes of a challenge that is accepted.
pub const CHALLENGE_LEN_MAX: usize = 2 * CHALLENGE_LEN;

/// Why an authentication failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Another packet than the challenge.
    #[error("expected AuthChallenge packet, received: {} (0x{number:04x})", log_name(*number, Release::V84))]
    ExpectedChallenge {
        /// Its number.
        number: u16,
    },
    /// The challenge has too many bytes.
    #[error("AuthChallenge of {received} bytes, at most {CHALLENGE_LEN_MAX} are accepted")]
    ChallengeTooBig {
        /// Bytes that the header announced.
        received: u32,
    },
    /// The challenge has too few bytes.
    #[error("AuthChallenge of {received} bytes, at least {CHALLENGE_LEN} are needed")]
    ChallengeTooSmall {
        /// Bytes that the header announced.
        received: u32,
    },
    /// The peer sent the own challenge back.
    #[error("Peer presented the same challenge!")]
    Reflected,
    /// Another packet than the response.
    #[error("expected AuthResponse packet, received: {} (0x{number:04x})", log_name(*number, Release::V84))]
    ExpectedResponse {
        /// Its number.
        number: u16,
    },
    /// The response has not the length of the digest.
    #[error("AuthResponse of {received} bytes, expected {expected}")]
    ResponseLength {
        /// Bytes of the digest.
        expected: usize,
        /// Bytes that the header announced.
        received: u32,
    },
    /// The peer does not know the secret.
    #[error("Authentication of peer failed")]
    WrongResponse,
    /// The connection ended, or nothing came in time.
    #[error("Authentication of peer failed, trying again.")]
    Interrupted,
}

impl AuthError {
    /// Retry or give up, as 8.4 does.
    pub fn outcome(&self) -> Outcome {
        match self {
            AuthError::ExpectedResponse { .. }
            | AuthError::ResponseLength { .. }
            | AuthError::Interrupted => Outcome::Retry,
            _ => Outcome::StandAlone,
        }
    }
}

/// An HMAC and the secret for it.
#[derive(Clone)]
pub struct Authenticator {
    hash: Digest,
    secret: Vec<u8>,
}

/// Without the secret.
impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authenticator({})", self.hash.name())
    }
}

impl Authenticator {
    /// For `cram-hmac-alg` and `shared-secret`. `None` if the algorithm is unknown; crc32c is no
    /// hash that an HMAC can be made of.
    pub fn new(cram_hmac_alg: &str, shared_secret: &str) -> Option<Authenticator> {
        match Digest::by_name(cram_hmac_alg) {
            None | Some(Digest::Crc32c) => None,
            Some(hash) => Some(Authenticator { hash, secret: shared_secret.as_bytes().to_vec() }),
        }
    }

    /// Bytes of a response.
    pub fn response_len(&self) -> usize {
        self.hash.len()
    }

    /// HMAC(secret, `challenge`).
    pub fn mac(&self, challenge: &[u8]) -> DigestValue {
        fn run<M: Mac + hmac::digest::KeyInit>(secret: &[u8], challenge: &[u8]) -> DigestValue {
            // An HMAC takes a key of any length.
            match <M as Mac>::new_from_slice(secret) {
                Ok(mac) => DigestValue::cut(&mac.chain_update(challenge).finalize().into_bytes()),
                Err(_) => DigestValue::NONE,
            }
        }
        match self.hash {
            Digest::Crc32c => DigestValue::NONE,
            Digest::Md5 => run::<Hmac<Md5>>(&self.secret, challenge),
            Digest::Sha1 => run::<Hmac<Sha1>>(&self.secret, challenge),
            Digest::Sha224 => run::<Hmac<Sha224>>(&self.secret, challenge),
            Digest::Sha256 => run::<Hmac<Sha256>>(&self.secret, challenge),
            Digest::Sha384 => run::<Hmac<Sha384>>(&self.secret, challenge),
            Digest::Sha512 => run::<Hmac<Sha512>>(&self.secret, challenge),
        }
    }

    /// The response to the peer's challenge, unless that is the own one sent back.
    pub fn respond(&self, mine: &[u8], theirs: &[u8]) -> Result<DigestValue, AuthError> {
        if mine == theirs {
            return Err(AuthError::Reflected);
        }
        Ok(self.mac(theirs))
    }

    /// Checks that the header is that of a response; gives the bytes to read.
    pub fn expect_response(&self, header: &Header) -> Result<usize, AuthError> {
        if header.command != Command::AuthResponse.number() {
            return Err(AuthError::ExpectedResponse { number: header.command });
        }
        let expected = self.response_len();
        if header.length as usize != expected {
            return Err(AuthError::ResponseLength { expected, received: header.length });
        }
        Ok(expected)
    }

    /// Checks the peer's response to the own challenge, in a time that does not depend on how
    /// much of it is right.
    pub fn verify(&self, mine: &[u8], response: &[u8]) -> Result<(), AuthError> {
        let right = self.mac(mine);
        let differences = right.iter().zip(response).fold(0, |differences, (a, b)| differences | (a ^ b));
        if right.is_empty() || right.len() != response.len() || differences != 0 {
            return Err(AuthError::WrongResponse);
        }
        Ok(())
    }

    /// The line for the log when the peer's response was right.
    pub fn success_text(&self, release: Release) -> String {
        let len = self.response_len();
        match release {
            Release::V83 => format!("Peer authenticated using {len} bytes of '{}' HMAC", self.hash.name()),
            Release::V84 => format!("Peer authenticated using {len} bytes HMAC"),
        }
    }
}

/// Checks that the header is that of a challenge; gives the bytes to read.
pub fn expect_challenge(header: &Header) -> Result<usize, AuthError> {
    if header.command != Command::AuthChallenge.number() {
        return Err(AuthError::ExpectedChallenge { number: header.command });
    }
    let received = header.length;
    let len = received as usize;
    if len > CHALLENGE_LEN_MAX {
        return Err(AuthError::ChallengeTooBig { received });
    }
    if len < CHALLENGE_LEN {
        return Err(AuthError::ChallengeTooSmall { received });
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 00 01 .. 3f, the challenge of spec/wire-traces.md 14.
    fn challenge() -> Vec<u8> {
        (0..64).collect()
    }

    fn authenticator(name: &str) -> Authenticator {
        Authenticator::new(name, "secret string").unwrap()
    }

    fn header(command: u16, length: u32) -> Header {
        Header { command, volume: 0, length }
    }

    #[test]
    fn known_responses() {
        for (name, mac) in [
            ("sha1", "a616a999b9d75fe18657c894897615a927728719"),
            ("md5", "ba07ce023b8b68fce93abad8485c64eb"),
            ("sha256", "33b793c810fe0252d89867742c7889e086e771b920fdbb25a47b4ba6097fb2e1"),
        ] {
            assert_eq!(format!("{:?}", authenticator(name).mac(&challenge())), mac);
        }
    }

    #[test]
    fn only_the_right_response_is_accepted() {
        for name in ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"] {
            let auth = authenticator(name);
            let mut response = auth.mac(&challenge()).to_vec();
            assert_eq!(response.len(), auth.response_len());
            assert_eq!(auth.verify(&challenge(), &response), Ok(()));
            assert!(auth.verify(&challenge(), &response[1..]).is_err());
            assert!(auth.verify(&challenge(), &[]).is_err());
            response[3] ^= 1;
            let error = auth.verify(&challenge(), &response).unwrap_err();
            assert_eq!(error.outcome(), Outcome::StandAlone);
            assert_eq!(error.to_string(), "Authentication of peer failed");
        }
    }

    #[test]
    fn the_own_challenge_gets_no_response() {
        let auth = authenticator("sha1");
        let error = auth.respond(&challenge(), &challenge()).unwrap_err();
        assert_eq!(error.outcome(), Outcome::StandAlone);
        assert!(auth.respond(&[1; 64], &challenge()).is_ok());
    }

    #[test]
    fn algorithms_that_make_no_hmac_are_refused() {
        for name in ["", "crc32c", "rot13"] {
            assert!(Authenticator::new(name, "secret string").is_none());
        }
    }

    #[test]
    fn challenges_are_bounded() {
        assert_eq!(expect_challenge(&header(0x10, 64)), Ok(64));
        assert_eq!(expect_challenge(&header(0x10, 128)), Ok(128));
        for (command, length) in [(0x10, 63), (0x10, 129), (0x10, u32::MAX), (0x0b, 64)] {
            let error = expect_challenge(&header(command, length)).unwrap_err();
            assert_eq!(error.outcome(), Outcome::StandAlone);
        }
    }

    #[test]
    fn a_response_of_another_kind_is_tried_again() {
        let auth = authenticator("sha1");
        assert_eq!(auth.expect_response(&header(0x11, 20)), Ok(20));
        for (command, length) in [(0x11, 19), (0x11, u32::MAX), (0x10, 20)] {
            let error = auth.expect_response(&header(command, length)).unwrap_err();
            assert_eq!(error.outcome(), Outcome::Retry);
        }
    }
}
