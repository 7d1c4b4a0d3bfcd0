//! One call: device, format, place of the meta data, and how a command fails.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::in_use;
use super::options::Options;
use super::EXIT_USAGE;
use drbdbox::meta::{Format, MetaIndex};
use drbdbox::status::snapshot::Snapshot;

/// Major number of the module's devices.
const DRBD_MAJOR: u64 = 147;

/// What a command works on.
#[derive(Debug)]
pub struct Call {
    /// Name as printed.
    pub program: String,
    /// Arguments as given, joined with blanks.
    pub command_line: String,
    /// Name of the command.
    pub command: &'static str,
    /// The command never writes.
    pub reads_only: bool,
    /// Options.
    pub options: Options,
    /// Minor of DEVICE; `None` for `-`: no lock, no record of the last known device.
    pub minor: Option<u32>,
    /// Path of the device with the meta data.
    pub device: String,
    /// FORMAT.
    pub format: Format,
    /// Place of the meta data there.
    pub index: MetaIndex,
    /// v07's "internal": the last 128 MiB.
    pub is_fixed: bool,
    /// First argument of the command.
    pub argument: Option<String>,
}

impl Call {
    /// True with at least `level` times `-v`.
    pub fn is_verbose(&self, level: u32) -> bool {
        self.options.verbose >= level
    }
}

/// How a call ends before its time.
#[derive(Debug)]
pub struct Failure {
    /// Exit status.
    pub code: u8,
    /// For stderr; empty: nothing is printed.
    pub text: String,
    /// The usage text follows.
    pub with_usage: bool,
}

impl Failure {
    /// An exit status with a text.
    pub fn new(code: u8, text: impl Into<String>) -> Failure {
        Failure { code, text: text.into(), with_usage: false }
    }

    /// An exit status without a text.
    pub fn silent(code: u8) -> Failure {
        Failure::new(code, "")
    }

    /// A usage error.
    pub fn with_usage(text: String) -> Failure {
        Failure { with_usage: true, ..Failure::new(EXIT_USAGE, text) }
    }

    /// Prints the text, if there is one.
    pub fn print(&self) {
        if !self.text.is_empty() {
            super::say_err!("{}", self.text);
        }
    }
}

/// Base name without the suffix of a dialect (spec/decisions.md 1.3).
pub fn program_name(called: &str) -> String {
    let base = called.rsplit('/').next().unwrap_or(called);
    let plain = ["-83", "-84", "-9"].iter().find_map(|suffix| base.strip_suffix(suffix));
    plain.unwrap_or(base).to_string()
}

/// FORMAT with its arguments.
#[derive(Debug)]
pub struct Place {
    /// The format that was named.
    pub format: Format,
    /// MD-DEVICE.
    pub device: String,
    /// INDEX; without a meaning for v06.
    pub index: MetaIndex,
    /// v07's "internal": the last 128 MiB.
    pub is_fixed: bool,
}

impl Place {
    /// Another minor than the call's may have the device; 8.3.16 would write under its feet.
    pub fn refuse_if_attached(&self, snapshot: &Snapshot) -> Result<(), Failure> {
        match in_use::minor_with(snapshot, &self.device, Some(self.index.number())) {
            Some(minor) => Err(Failure::new(
                EXIT_USAGE,
                format!("{} is attached to minor {minor}! Detach it first.", self.device),
            )),
            None => Ok(()),
        }
    }
}

/// Reads the words from FORMAT on; returns what follows FORMAT's arguments.
pub fn parse_format(words: &[String]) -> Result<(Place, &[String]), Failure> {
    let usage = |text: String| Failure::new(EXIT_USAGE, text);
    let name = words.get(1).ok_or_else(|| usage("Format identifier missing".into()))?;
    let format = Format::parse(name).ok_or_else(|| {
        let hint = match name.as_str() {
            "v09" => "\nMeta data of DRBD 9 are found by 'scan', and converted by 'v08 ... create-md'.",
            _ => "",
        };
        usage(format!("Unknown format '{name}'.{hint}"))
    })?;
    let arguments = if format == Format::V06 { 1 } else { 2 };
    if words.len() < 2 + arguments {
        return Err(usage("Too few arguments for format".into()));
    }
    let rest = &words[2 + arguments..];
    let device = words[2].clone();
    if format == Format::V06 {
        if device.parse::<u8>().is_err() {
            return Err(usage(format!("'{device}' is not a valid minor number.")));
        }
        let index = MetaIndex::FlexExternal;
        return Ok((Place { format, device, index, is_fixed: false }, rest));
    }
    let word = &words[3];
    let index =
        MetaIndex::parse(word).ok_or_else(|| usage(format!("'{word}' is not a valid index number.")))?;
    let is_fixed = format == Format::V07 && word == "internal";
    Ok((Place { format, device, index, is_fixed }, rest))
}

/// The minor of DEVICE (spec/metadata.md 11, spec/decisions.md 6.5); `None` for `-`.
pub fn minor_of(device: &str) -> Result<Option<u32>, Failure> {
    if device == "-" {
        return Ok(None);
    }
    let digits = device.strip_prefix("/dev/drbd").unwrap_or(device);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        if let Ok(minor) = digits.parse() {
            return Ok(Some(minor));
        }
    }
    let usage = |text: String| Err(Failure::new(EXIT_USAGE, text));
    match std::fs::metadata(device) {
        Err(_) => usage(format!(
            "Could not determine device minor number of '{device}'.\n\
             Try /dev/drbd<minor-number> or just <minor-number> instead."
        )),
        Ok(metadata) if !metadata.file_type().is_block_device() => {
            usage(format!("{device} is not a block device!"))
        }
        Ok(metadata) => {
            let major = nix::sys::stat::major(metadata.rdev());
            if major == DRBD_MAJOR {
                // Minors of Linux have 20 bits.
                return Ok(Some(nix::sys::stat::minor(metadata.rdev()) as u32));
            }
            match minor_of_link(device) {
                Some(minor) => Ok(Some(minor)),
                None => usage(format!(
                    "{device} does not appear to be a DRBD (major {major}, expected {DRBD_MAJOR})!"
                )),
            }
        }
    }
}

/// The minor of a link to a node of ours, such as /dev/drbd/by-res/r0: its major is that of the
/// door behind it.
fn minor_of_link(device: &str) -> Option<u32> {
    let target = std::fs::canonicalize(device).ok()?;
    let digits = target.to_str()?.strip_prefix("/dev/drbd")?;
    digits.parse().ok()
}

/// True if a disk is attached to the minor: by our daemon, or by a real module (spec/decisions.md 6.4).
pub fn is_configured(daemon: Option<&Snapshot>, minor: u32) -> bool {
    daemon.is_some_and(|snapshot| snapshot.minor(minor).is_some_and(|(_, v)| v.backing.is_some()))
        || std::fs::read_to_string("/proc/drbd").is_ok_and(|text| module_has_minor(&text, minor))
}

/// Looks for the minor's entry in the text of /proc/drbd.
fn module_has_minor(text: &str, minor: u32) -> bool {
    let start = format!("{minor}: ");
    text.lines()
        .find_map(|line| line.trim_start().strip_prefix(&start))
        .is_some_and(|entry| !entry.contains("cs:Unconfigured") && !entry.contains("ds:Diskless"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attached_minors_of_a_module() {
        let text = "version: 8.3.16 (api:88/proto:86-97)\n\
            0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----\n\
            \x20   ns:0 nr:0\n 1: cs:Unconfigured\n 2: cs:StandAlone ro:Secondary/Unknown ds:Diskless/DUnknown\n\
            \x2011: cs:StandAlone ro:Secondary/Unknown ds:UpToDate/DUnknown r----\n";
        let attached: Vec<u32> = (0..13).filter(|m| module_has_minor(text, *m)).collect();
        assert_eq!(attached, [0, 11]);
    }

    #[test]
    fn minors_are_numbers_or_nodes() {
        assert_eq!(minor_of("0").unwrap(), Some(0));
        assert_eq!(minor_of("/dev/drbd17").unwrap(), Some(17));
        assert_eq!(minor_of("-").unwrap(), None);
        assert_eq!(minor_of("foo").unwrap_err().code, 20);
        assert_eq!(minor_of("/dev").unwrap_err().text, "/dev is not a block device!");
    }
}
