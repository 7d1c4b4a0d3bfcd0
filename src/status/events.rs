//! Lines of `events`, 8.3's and 8.4's. spec/drbdsetup.md 5.6 and 6.7.

use super::line::percent;
use crate::core::codes::{event_code_text, ConfigCode};
use crate::core::state::StateWord;
use std::fmt::Write;

/// What an event is about, as a line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// 8.3: `0`.
    Minor(u32),
    /// 8.4: `0,r0[0]`.
    Volume {
        /// N of /dev/drbdN.
        minor: u32,
        /// Resource.
        resource: &'a str,
        /// Volume number.
        number: u16,
    },
    /// 8.4: `- r0`.
    Resource(&'a str),
}

impl std::fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::Minor(minor) => write!(f, "{minor}"),
            Subject::Volume { minor, resource, number } => write!(f, "{minor},{resource}[{number}]"),
            Subject::Resource(name) => write!(f, "- {name}"),
        }
    }
}

/// Which of the states of a change a line shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// `ST`: the state now.
    Now,
    /// `ST-prev` (8.4).
    Before,
    /// `ST-new` (8.4).
    After,
}

/// `SEQ ST MINOR { cs:CONN ro:R/R ds:D/D FLAGS }`. The flags here know the user's suspension only.
pub fn state(sequence: u32, which: Which, subject: Subject, state: &StateWord) -> String {
    let word = match which {
        Which::Now => "ST",
        Which::Before => "ST-prev",
        Which::After => "ST-new",
    };
    let flag = |set: bool, letter: char, clear: char| if set { letter } else { clear };
    let flags: String = [
        flag(state.susp, 's', 'r'),
        flag(state.aftr_isp, 'a', '-'),
        flag(state.peer_isp, 'p', '-'),
        flag(state.user_isp, 'u', '-'),
    ]
    .iter()
    .collect();
    format!(
        "{sequence} {word} {subject} {{ cs:{} ro:{} ds:{} {flags} }}\n",
        state.conn,
        state.roles(),
        state.disks()
    )
}

/// `SEQ SP MINOR P.P`.
pub fn progress(sequence: u32, subject: Subject, permille: u32) -> String {
    format!("{sequence} SP {subject} {}\n", percent(permille))
}

/// `SEQ UH MINOR NAME`: a handler is being called.
pub fn helper(sequence: u32, subject: Subject, name: &str) -> String {
    format!("{sequence} UH {subject} {name}\n")
}

/// `SEQ UH-post MINOR NAME 0xXXXX` (8.4): it has returned with this wait status.
pub fn helper_done(sequence: u32, subject: Subject, name: &str, status: u32) -> String {
    format!("{sequence} UH-post {subject} {name} {status:#06x}\n")
}

/// `SEQ R - RES` (8.4): something about a resource without volumes.
pub fn resource(sequence: u32, name: &str) -> String {
    format!("{sequence} R {}\n", Subject::Resource(name))
}

/// `SEQ ZZ MINOR ret_code: C TEXT` (8.3): an answer without a state.
pub fn answer(sequence: u32, minor: u32, code: i32) -> String {
    let text = match code {
        0..=4 | 101 => event_code_text(code),
        _ => match ConfigCode::from_number(code).and_then(ConfigCode::text_83) {
            Some(text) => text,
            None if (-19..0).contains(&code) => event_code_text(code),
            None => "Unknown return code",
        },
    };
    format!("{sequence} ZZ {minor} ret_code: {code} {text}\n")
}

/// `SEQ ?? MINOR <other message N>`.
pub fn other(sequence: u32, subject: Subject, kind: u32) -> String {
    format!("{sequence} ?? {subject} <other message {kind}>\n")
}

/// A block whose digest was wrong.
#[derive(Debug, Clone, Copy)]
pub struct BadBlock<'a> {
    /// For example `digest failed`.
    pub reason: &'a str,
    /// First sector.
    pub sector: u64,
    /// The sender's id of the block.
    pub block_id: u64,
    /// Length, bytes.
    pub size: u32,
    /// Digest that came with it.
    pub received: &'a [u8],
    /// Digest that was computed.
    pub computed: &'a [u8],
    /// Its content.
    pub data: &'a [u8],
}

/// Longest dump of a block, bytes.
pub const DUMP_MAX: usize = 32768;

/// Bytes on a line of a dump.
const DUMP_LINE: usize = 16;

/// `SEQ DE MINOR` and the block. A remainder below 16 bytes is not printed.
pub fn bad_block(sequence: u32, subject: Subject, block: &BadBlock) -> String {
    let mut out = format!("{sequence} DE {subject}\n");
    let _ = write!(
        out,
        "\tdumping ee, reason: {}\n\tsector: {} block_id: {:#x} size: {}\n\
         \treceived digest: {}\n\tverified digest: {}\n",
        block.reason,
        block.sector,
        block.block_id,
        block.size,
        hex(block.received),
        hex(block.computed)
    );
    if block.size as usize > DUMP_MAX {
        let _ = writeln!(out, "\tWARNING truncating data to {DUMP_MAX}!");
    }
    let length = block.data.len().min(DUMP_MAX);
    dump(&mut out, &block.data[..length]);
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Hexadecimal and characters; equal lines are replaced by one ` *`.
fn dump(out: &mut String, data: &[u8]) {
    let mut before: Option<&[u8]> = None;
    let mut starred = false;
    for (i, line) in data.chunks_exact(DUMP_LINE).enumerate() {
        if before == Some(line) {
            if !starred {
                out.push_str(" *\n");
            }
            starred = true;
            continue;
        }
        (before, starred) = (Some(line), false);
        let _ = write!(out, " {:04x}:", i * DUMP_LINE);
        for (j, byte) in line.iter().enumerate() {
            let gap = if j == DUMP_LINE / 2 { "  " } else { " " };
            let _ = write!(out, "{gap}{byte:02x}");
        }
        out.push_str("  ");
        let printable = |b: u8| if b.is_ascii_graphic() { b as char } else { '.' };
        out.extend(line.iter().map(|&b| printable(b)));
        out.push('\n');
    }
    let _ = writeln!(out, " {:04x}.", data.len());
}
