//! The options: anywhere on the command line, long ones may be abbreviated (spec/metadata.md 6.1).

use super::call::Failure;
use super::{CREATE_MD, DUMP_MD, EXIT_ERROR, EXIT_USAGE, RESTORE_MD, SHOW_GI};
use drbdbox::meta::LogGeometry;

/// Largest `--peer-max-bio-size` in bytes.
const PEER_MAX_BIO_MAX: u64 = 128 * 1024;

/// What the options say.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Every question is answered with yes.
    pub force: bool,
    /// How often `-v` was given.
    pub verbose: u32,
    /// Known signatures do not stop create-md.
    pub ignore_sanity_checks: bool,
    /// Nothing is written.
    pub dry_run: bool,
    /// Bytes.
    pub peer_max_bio_bytes: Option<u32>,
    /// Stripes of the activity log.
    al_stripes: Option<u32>,
    /// Blocks of 4 KiB a stripe.
    al_stripe_blocks: Option<u32>,
    /// JSON instead of text.
    pub json: bool,
    /// Only for v09; 0 means nothing for v08.
    node_id: Option<u64>,
}

#[derive(Clone, Copy, PartialEq)]
enum Name {
    Force,
    Verbose,
    IgnoreSanityChecks,
    DryRun,
    PeerMaxBioSize,
    AlStripes,
    AlStripeSizeKb,
    InitializeBitmap,
    NodeId,
    Json,
}

/// One option.
struct Row {
    long: &'static str,
    short: Option<char>,
    /// What the value is, if one follows.
    value: Option<&'static str>,
    name: Name,
    help: &'static str,
}

/// Every option.
const TABLE: &[Row] = &[
    Row {
        long: "force",
        short: Some('f'),
        value: None,
        name: Name::Force,
        help: "every question is answered with yes",
    },
    Row {
        long: "verbose",
        short: Some('v'),
        value: None,
        name: Name::Verbose,
        help: "says why; twice: every request",
    },
    Row {
        long: "ignore-sanity-checks",
        short: None,
        value: None,
        name: Name::IgnoreSanityChecks,
        help: "create-md: known signatures do not stop it",
    },
    Row { long: "dry-run", short: None, value: None, name: Name::DryRun, help: "nothing is written" },
    Row {
        long: "peer-max-bio-size",
        short: Some('p'),
        value: Some("BYTES"),
        name: Name::PeerMaxBioSize,
        help: "create-md: what the peer can take",
    },
    Row {
        long: "al-stripes",
        short: Some('s'),
        value: Some("N"),
        name: Name::AlStripes,
        help: "create-md, restore-md: stripes of the activity log",
    },
    Row {
        long: "al-stripe-size-kB",
        short: Some('z'),
        value: Some("KB"),
        name: Name::AlStripeSizeKb,
        help: "create-md, restore-md: size of a stripe",
    },
    Row {
        long: "initialize-bitmap",
        short: Some('b'),
        value: Some("HOW"),
        name: Name::InitializeBitmap,
        help: "accepted; the first attach sets all bits",
    },
    Row {
        long: "node-id",
        short: Some('i'),
        value: Some("N"),
        name: Name::NodeId,
        help: "accepted; for v09 only",
    },
    Row { long: "json", short: None, value: None, name: Name::Json, help: "show-gi, scan: for programs" },
];

/// Every option as the manual writes it, and what it does.
pub fn described() -> impl Iterator<Item = (String, &'static str)> {
    TABLE.iter().map(|row| {
        let value = row.value.map_or(String::new(), |value| format!(" {value}"));
        let short = row.short.map_or(String::new(), |short| format!("`-{short}`, "));
        (format!("{short}`--{}`{value}", row.long), row.help)
    })
}

/// The list of options on stdout.
pub fn print_help() {
    for row in TABLE {
        let value = row.value.map_or(String::new(), |value| format!(" {value}"));
        let short = row.short.map_or(String::new(), |short| format!("-{short}, "));
        super::ui::say!("  {:30} {}", format!("{short}--{}{value}", row.long), row.help);
    }
}

/// Splits the command line into options and words. The words keep their order.
pub fn parse(program: &str, args: &[String]) -> Result<(Options, Vec<String>), Failure> {
    let usage_error = |text: String| Failure::with_usage(format!("{program}: {text}"));
    let mut options = Options::default();
    let mut words = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            words.extend(args.by_ref().cloned());
        } else if let Some(long) = arg.strip_prefix("--") {
            let (given, value) = match long.split_once('=') {
                Some((given, value)) => (given, Some(value.to_string())),
                None => (long, None),
            };
            let row = find_long(given).map_err(usage_error)?;
            let full = row.long;
            let value = match (row.value.is_some(), value) {
                (true, None) => Some(
                    args.next()
                        .cloned()
                        .ok_or_else(|| usage_error(format!("option '--{full}' requires an argument")))?,
                ),
                (false, Some(_)) => {
                    return Err(usage_error(format!("option '--{full}' doesn't allow an argument")))
                }
                (_, value) => value,
            };
            options.set(row.name, value.as_deref().unwrap_or(""))?;
        } else if arg.len() > 1 && arg.starts_with('-') {
            let mut letters = arg[1..].chars();
            while let Some(letter) = letters.next() {
                let Some(row) = TABLE.iter().find(|row| row.short == Some(letter)) else {
                    return Err(usage_error(format!("invalid option -- '{letter}'")));
                };
                if row.value.is_none() {
                    options.set(row.name, "")?;
                    continue;
                }
                let attached = letters.as_str();
                let value = if attached.is_empty() {
                    args.next()
                        .cloned()
                        .ok_or_else(|| usage_error(format!("option requires an argument -- '{letter}'")))?
                } else {
                    attached.to_string()
                };
                options.set(row.name, &value)?;
                break;
            }
        } else {
            words.push(arg.clone());
        }
    }
    Ok((options, words))
}

/// The option with this long name, or the only one that begins so.
fn find_long(given: &str) -> Result<&'static Row, String> {
    let matches: Vec<&Row> = TABLE.iter().filter(|row| row.long.starts_with(given)).collect();
    let exact = matches.iter().find(|row| row.long == given);
    match (exact, matches.as_slice()) {
        (Some(row), _) | (None, [row]) => Ok(row),
        (None, []) => Err(format!("unrecognized option '--{given}'")),
        (None, _) => {
            let names: Vec<String> = matches.iter().map(|row| format!("'--{}'", row.long)).collect();
            Err(format!("option '--{given}' is ambiguous; possibilities: {}", names.join(" ")))
        }
    }
}

/// A number with an optional unit K, M, G (binary) or s (sectors).
fn number_with_unit(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match &text[digits.len()..] {
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        "s" => 512,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn not_a_number(text: &str) -> Failure {
    Failure::new(EXIT_USAGE, format!("{text} is not a valid number"))
}

impl Options {
    fn set(&mut self, name: Name, value: &str) -> Result<(), Failure> {
        let number = || number_with_unit(value).ok_or_else(|| not_a_number(value));
        // Far too large is as wrong as too large.
        let number32 = || number().map(|value| u32::try_from(value).unwrap_or(u32::MAX));
        match name {
            Name::Force => self.force = true,
            Name::Verbose => self.verbose += 1,
            Name::IgnoreSanityChecks => self.ignore_sanity_checks = true,
            Name::DryRun => self.dry_run = true,
            Name::Json => self.json = true,
            Name::PeerMaxBioSize => {
                let bytes = number()?;
                if bytes > PEER_MAX_BIO_MAX {
                    return Err(Failure::new(EXIT_ERROR, "peer-max-bio-size out of range (0...128k)"));
                }
                self.peer_max_bio_bytes = Some(bytes as u32);
            }
            Name::AlStripes => self.al_stripes = Some(number32()?),
            Name::AlStripeSizeKb => self.al_stripe_blocks = Some(number32()? / 4),
            Name::InitializeBitmap => {
                // The bitmap is never touched at creation (spec/decisions.md 6.1).
                if !["automatic", "zeroout", "pwrite", "skip"].contains(&value) {
                    return Err(Failure::new(
                        EXIT_ERROR,
                        format!(
                            "invalid initialize-bitmap-mode \"{value}\", \
                             should be one of automatic|zeroout|pwrite|skip"
                        ),
                    ));
                }
            }
            Name::NodeId => {
                let id = number()?;
                if id > 31 {
                    return Err(Failure::new(EXIT_ERROR, "node-id out of range (0...31)"));
                }
                self.node_id = Some(id);
            }
        }
        Ok(())
    }

    /// True if the striping of the activity log was given.
    pub fn has_striping(&self) -> bool {
        self.al_stripes.is_some() || self.al_stripe_blocks.is_some()
    }

    /// The activity log that the options ask for; what they do not say is as in `default`.
    pub fn log_geometry(&self, default: LogGeometry) -> Result<LogGeometry, Failure> {
        let stripes = self.al_stripes.unwrap_or(default.stripes);
        let blocks = self.al_stripe_blocks.unwrap_or(default.stripe_blocks);
        LogGeometry::new(stripes, blocks).ok_or_else(|| {
            let small = u64::from(stripes) * u64::from(blocks) < 8;
            let what = if small { "small" } else { "large" };
            Failure::new(EXIT_ERROR, format!("invalid (too {what}) al-stripe* settings"))
        })
    }

    /// Options that only some commands take.
    pub fn check_command(&self, command: &str) -> Result<(), Failure> {
        let refused = |text: String| Err(Failure::new(EXIT_ERROR, text));
        if self.peer_max_bio_bytes.is_some() && command != CREATE_MD {
            return refused("The --peer-max-bio-size option is only allowed with create-md".into());
        }
        if self.has_striping() {
            if command != CREATE_MD && command != RESTORE_MD {
                return refused(
                    "The --al-stripe* options are only allowed with create-md and restore-md".into(),
                );
            }
            self.log_geometry(LogGeometry::CLASSIC)?;
        }
        if self.json && command != SHOW_GI {
            return refused("The --json option is only allowed with show-gi and scan".into());
        }
        match self.node_id {
            Some(_) if command == DUMP_MD => {
                refused("The dump-md command does not accept the --node-id option".into())
            }
            Some(id) if id != 0 => {
                super::say_err!("Not v09, implicitly set --node-id = 0");
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
