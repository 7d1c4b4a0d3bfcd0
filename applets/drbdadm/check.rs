//! `drbdadm check [FILE]`: everything that can be said about a configuration, at once.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use drbdbox::conf::audit::{self, Machine, Node, Severity};
use drbdbox::conf::check::ThisHost;
use drbdbox::conf::parser::{Parser, Reading, EXIT_INVALID};
use drbdbox::sys::mounts::Users;
use drbdbox::wire::auth::Authenticator;
use drbdbox::wire::digest::Digest;

use super::configuration;
use super::exec::complain;
use super::session::{Exit, Options, EXIT_USAGE};
use super::Called;

/// This machine.
struct Local {
    users: Users,
}

impl Machine for Local {
    fn node(&self, path: &str) -> Node {
        match std::fs::metadata(path) {
            Err(_) => Node::Missing,
            Ok(meta) if meta.file_type().is_block_device() => Node::Block(meta.rdev()),
            Ok(meta) if meta.is_file() => Node::File(meta.dev(), meta.ino()),
            Ok(_) => Node::Other,
        }
    }

    fn use_of(&self, path: &str) -> Option<String> {
        self.users.of(path)
    }

    fn is_executable(&self, path: &str) -> bool {
        let meta = std::fs::metadata(path);
        meta.is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    }

    fn is_readable_by_others(&self, path: &str) -> bool {
        std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o004 != 0)
    }

    fn knows_digest(&self, name: &str) -> bool {
        Digest::by_name(name).is_some()
    }

    fn authenticates(&self, name: &str) -> bool {
        Authenticator::new(name, "x").is_some()
    }

    fn digests(&self) -> Vec<&'static str> {
        Digest::all().map(Digest::name).collect()
    }

    fn outgoing_ports(&self) -> Option<(u16, u16)> {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
        let mut numbers = text.split_whitespace().map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}

/// Reads and checks a file: the one that is named, or the one that every other command reads.
///
/// # Errors
/// The file cannot be read, or the command line is wrong; it has been said.
pub(super) fn run(called: &Called, this: &ThisHost, options: &Options) -> Result<u8, Exit> {
    if options.names.len() > 1 {
        complain("check takes one file\n");
        return Err(Exit(EXIT_USAGE));
    }
    let named = options.names.first().or(options.config_file.as_ref());
    let (file, bytes) = configuration::file(called.dialect, named.map(String::as_str))?;
    let display = file.display.clone();
    let mut parser = Parser::with(called.dialect, Reading { explains: true, recovers: true });
    let stopped = parser.read(file, bytes).is_err();
    let (mut errors, mut warnings) = (parser.errors, parser.warnings);
    if stopped && errors == 0 {
        errors = 1;
    }
    let (config, messages) = parser.finish();
    super::print(&messages);
    let machine = Local { users: Users::read() };
    for finding in audit::run(config, this, &machine) {
        match finding.severity {
            Severity::Error => errors += 1,
            Severity::Warning => warnings += 1,
        }
        super::print(&finding.line());
    }
    super::print(&summary(&display, errors, warnings));
    Ok(if errors > 0 { EXIT_INVALID } else { 0 })
}

fn summary(file: &str, errors: u32, warnings: u32) -> String {
    let count = |number: u32, word: &str| match number {
        1 => format!("1 {word}"),
        _ => format!("{number} {word}s"),
    };
    format!("{file}: {}, {}\n", count(errors, "error"), count(warnings, "warning"))
}

/// The checks, for `drbdadm help check`.
pub(super) fn help() -> String {
    let mut text = String::from(
        "\nReads FILE, or the file that every command reads, and tells everything that is wrong with it at once.\n\
         Exit status: 0 without errors, 10 with errors. Warnings do not count.\n\nCHECKS:\n",
    );
    for check in audit::CHECKS {
        text.push_str(&format!("  {:<23} {:<8} {}\n", check.name, check.severity.word(), check.help));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts() {
        assert_eq!(summary("a.conf", 1, 2), "a.conf: 1 error, 2 warnings\n");
        let local = Local { users: Users::default() };
        assert!(!local.is_executable("/"));
        assert!(
            local.authenticates("sha1") && !local.authenticates("crc32c") && local.knows_digest("crc32c")
        );
    }
}
