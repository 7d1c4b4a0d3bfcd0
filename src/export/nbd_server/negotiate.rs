//! The negotiation: from the greeting to the choice of an export.

use std::io::{self, Read, Write};

use super::protocol::{handshake, info, option, reply, transmission, Fields};
use super::protocol::{GREETING, OPTION_MAGIC, OPTION_REPLY_MAGIC};
use crate::export::request::Limits;

/// Longest data of an option that is read: a name has at most 4096 bytes.
const MAX_OPTION_BYTES: u32 = 16 << 10;
/// Longer ones are skipped up to this length; beyond, the client is cut off.
const MAX_SKIPPED_BYTES: u32 = 1 << 20;
/// More options than any client sends.
const MAX_OPTIONS: usize = 256;

/// What a client is told about an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description {
    /// Size in bytes.
    pub size_bytes: u64,
    /// What it can do.
    pub limits: Limits,
}

/// The flags of [`transmission`] for a device that can do so much; without those that are about several connections.
pub fn transmission_flags(limits: &Limits) -> u16 {
    let optional = [
        (limits.read_only, transmission::READ_ONLY),
        (limits.discard, transmission::SEND_TRIM),
        (limits.write_zeroes, transmission::SEND_WRITE_ZEROES),
    ];
    let always = transmission::HAS_FLAGS | transmission::SEND_FLUSH | transmission::SEND_FUA;
    optional.into_iter().filter(|(wanted, _)| *wanted).fold(always, |flags, (_, flag)| flags | flag)
}

impl Description {
    /// The flags of [`transmission`].
    pub fn flags(&self) -> u16 {
        transmission_flags(&self.limits) | transmission::CAN_MULTI_CONN
    }
}

/// The exports of a server, as the negotiation sees them.
pub trait Exports {
    /// What is returned for the chosen one.
    type Export;

    /// Names of all exports.
    fn names(&self) -> Vec<String>;
    /// What is said about one; the empty name is that of the only one.
    fn describe(&self, name: &str) -> Option<Description>;
    /// Takes one into use. `None`: it is not there (any more), or about to go.
    fn enter(&self, name: &str) -> Option<(Description, Self::Export)>;
}

/// Talks with a client until it has chosen an export. `None`: it left, as it may.
///
/// # Errors
/// The connection broke, or the client does not speak the protocol (`InvalidData`).
pub fn negotiate<E: Exports>(stream: &mut (impl Read + Write), exports: &E) -> io::Result<Option<E::Export>> {
    let mut greeting = GREETING.to_be_bytes().to_vec();
    greeting.extend(OPTION_MAGIC.to_be_bytes());
    greeting.extend((handshake::FIXED_NEWSTYLE | handshake::NO_ZEROES).to_be_bytes());
    stream.write_all(&greeting)?;

    let client_flags = u32::from_be_bytes(receive(stream)?);
    let known = u32::from(handshake::FIXED_NEWSTYLE | handshake::NO_ZEROES);
    if client_flags & !known != 0 {
        return Err(malformed("unknown client flags"));
    }
    let no_zeroes = client_flags & u32::from(handshake::NO_ZEROES) != 0;

    for _ in 0..MAX_OPTIONS {
        if u64::from_be_bytes(receive(stream)?) != OPTION_MAGIC {
            return Err(malformed("wrong option magic"));
        }
        let number = u32::from_be_bytes(receive(stream)?);
        let length = u32::from_be_bytes(receive(stream)?);
        if length > MAX_SKIPPED_BYTES {
            return Err(malformed("option too long"));
        }
        if length > MAX_OPTION_BYTES {
            io::copy(&mut Read::by_ref(stream).take(u64::from(length)), &mut io::sink())?;
            answer(stream, number, reply::ERR_TOO_BIG, b"option too long")?;
            continue;
        }
        let mut data = vec![0; length as usize];
        stream.read_exact(&mut data)?;
        match number {
            option::EXPORT_NAME => {
                // This option has no error reply: the connection ends.
                let name = std::str::from_utf8(&data).ok();
                let Some((description, export)) = name.and_then(|name| exports.enter(name)) else {
                    return Ok(None);
                };
                let mut bytes = description.size_bytes.to_be_bytes().to_vec();
                bytes.extend(description.flags().to_be_bytes());
                if !no_zeroes {
                    bytes.extend([0; 124]);
                }
                stream.write_all(&bytes)?;
                return Ok(Some(export));
            }
            option::ABORT => {
                let _ = answer(stream, number, reply::ACK, &[]);
                return Ok(None);
            }
            option::LIST if data.is_empty() => {
                for name in exports.names() {
                    let mut item = (name.len() as u32).to_be_bytes().to_vec();
                    item.extend(name.as_bytes());
                    answer(stream, number, reply::SERVER, &item)?;
                }
                answer(stream, number, reply::ACK, &[])?;
            }
            option::LIST => answer(stream, number, reply::ERR_INVALID, b"LIST takes no data")?,
            option::INFO | option::GO => {
                if let Some(export) = inform(stream, number, &data, exports)? {
                    return Ok(Some(export));
                }
            }
            _ => answer(stream, number, reply::ERR_UNSUP, b"option not supported")?,
        }
    }
    Err(malformed("too many options"))
}

/// The options INFO and GO: what the export is like, and with GO its use.
fn inform<E: Exports>(
    stream: &mut (impl Read + Write),
    number: u32,
    data: &[u8],
    exports: &E,
) -> io::Result<Option<E::Export>> {
    let Some((name, wanted)) = parse_query(data) else {
        answer(stream, number, reply::ERR_INVALID, b"malformed option")?;
        return Ok(None);
    };
    let Some(mut description) = exports.describe(name) else {
        answer(stream, number, reply::ERR_UNKNOWN, b"no such export, or not primary")?;
        return Ok(None);
    };
    let mut entered = None;
    if number == option::GO {
        match exports.enter(name) {
            Some((current, export)) => {
                description = current;
                entered = Some(export);
            }
            None => {
                answer(stream, number, reply::ERR_SHUTDOWN, b"the export is going away")?;
                return Ok(None);
            }
        }
    }
    let mut export = info::EXPORT.to_be_bytes().to_vec();
    export.extend(description.size_bytes.to_be_bytes());
    export.extend(description.flags().to_be_bytes());
    answer(stream, number, reply::INFO, &export)?;
    if wanted.contains(&info::NAME) {
        let mut bytes = info::NAME.to_be_bytes().to_vec();
        bytes.extend(name.as_bytes());
        answer(stream, number, reply::INFO, &bytes)?;
    }
    let mut sizes = info::BLOCK_SIZE.to_be_bytes().to_vec();
    for bytes in [512u32, 4096, super::MAX_PAYLOAD_BYTES] {
        sizes.extend(bytes.to_be_bytes());
    }
    answer(stream, number, reply::INFO, &sizes)?;
    answer(stream, number, reply::ACK, &[])?;
    Ok(entered)
}

/// Name of the export and the kinds of information asked for.
fn parse_query(data: &[u8]) -> Option<(&str, Vec<u16>)> {
    let mut fields = Fields(data);
    let length = fields.u32()? as usize;
    let name = std::str::from_utf8(fields.bytes(length)?).ok()?;
    let count = fields.u16()?;
    let kinds = (0..count).map(|_| fields.u16()).collect::<Option<Vec<u16>>>()?;
    fields.0.is_empty().then_some((name, kinds))
}

fn answer(stream: &mut impl Write, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let mut bytes = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
    for field in [option, kind, data.len() as u32] {
        bytes.extend(field.to_be_bytes());
    }
    bytes.extend(data);
    stream.write_all(&bytes)
}

fn receive<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct One;

    impl Exports for One {
        type Export = ();

        fn names(&self) -> Vec<String> {
            vec!["r0".to_owned()]
        }

        fn describe(&self, name: &str) -> Option<Description> {
            (name == "r0").then(|| Description { size_bytes: 1 << 20, limits: Limits::default() })
        }

        fn enter(&self, name: &str) -> Option<(Description, ())> {
            self.describe(name).map(|description| (description, ()))
        }
    }

    /// A client that has said everything before it listens.
    struct Script {
        said: io::Cursor<Vec<u8>>,
        heard: Vec<u8>,
    }

    impl Read for Script {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.said.read(into)
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.heard.extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn run(said: Vec<u8>) -> (io::Result<Option<()>>, Vec<u8>) {
        let mut script = Script { said: io::Cursor::new(said), heard: Vec::new() };
        let result = negotiate(&mut script, &One);
        (result, script.heard)
    }

    fn option_bytes(number: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = OPTION_MAGIC.to_be_bytes().to_vec();
        bytes.extend(number.to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn an_old_client_gets_size_flags_and_zeroes() {
        let (result, heard) = run([&1u32.to_be_bytes()[..], &option_bytes(1, b"r0")].concat());
        assert!(matches!(result, Ok(Some(()))));
        assert_eq!(heard.len(), 18 + 8 + 2 + 124);
        assert_eq!(heard[18..26], (1u64 << 20).to_be_bytes());
    }

    #[test]
    fn unknown_options_are_refused_politely_and_the_talk_goes_on() {
        let go = [&2u32.to_be_bytes()[..], b"r0", &0u16.to_be_bytes()].concat();
        let said = [&3u32.to_be_bytes()[..], &option_bytes(8, b""), &option_bytes(7, &go)].concat();
        let (result, heard) = run(said);
        assert!(matches!(result, Ok(Some(()))));
        let mut fields = Fields(&heard[18..]);
        assert_eq!(fields.u64(), Some(OPTION_REPLY_MAGIC));
        assert_eq!(fields.u32(), Some(8));
        assert_eq!(fields.u32(), Some(reply::ERR_UNSUP));
    }

    #[test]
    fn an_unknown_export_is_no_reason_to_hang_up() {
        let query = [&2u32.to_be_bytes()[..], b"r9", &0u16.to_be_bytes()].concat();
        let said = [&3u32.to_be_bytes()[..], &option_bytes(7, &query), &option_bytes(2, b"")].concat();
        let (result, heard) = run(said);
        assert!(matches!(result, Ok(None)));
        let mut fields = Fields(&heard[18 + 12..]);
        assert_eq!(fields.u32(), Some(reply::ERR_UNKNOWN));
    }

    #[test]
    fn an_endless_option_is_not_read() {
        let mut said = 3u32.to_be_bytes().to_vec();
        said.extend(OPTION_MAGIC.to_be_bytes());
        said.extend(7u32.to_be_bytes());
        said.extend(u32::MAX.to_be_bytes());
        assert_eq!(run(said).0.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    proptest! {
        #[test]
        fn garbage_ends_the_talk(said in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(!matches!(run(said).0, Ok(Some(()))));
        }

        #[test]
        fn garbage_in_options_does_no_harm(number in 0u32..16, data in proptest::collection::vec(any::<u8>(), 0..64)) {
            let said = [&3u32.to_be_bytes()[..], &option_bytes(number, &data), &option_bytes(2, b"")].concat();
            let _ = run(said);
        }
    }
}
