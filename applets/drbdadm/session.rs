//! One call of drbdadm: what was asked, the configuration, and what is put off.

use std::io::IsTerminal;

use drbdbox::conf::check::{Choice, ThisHost};
use drbdbox::conf::model::{Config, HostSection, Resource, Volume};
use drbdbox::conf::options::Section;
use drbdbox::conf::{inherit, model, Dialect};
use drbdbox::sys::host;

use super::deferred::Deferred;
use super::table::Command;

/// Ends drbdadm with this status; what there is to say has been said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(pub u8);

/// Status of a wrong command line.
pub const EXIT_USAGE: u8 = 3;

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub stacked: bool,
    pub dry_run: u32,
    pub verbose: u32,
    pub config_file: Option<String>,
    pub config_to_test: Option<String>,
    pub drbdsetup: Option<String>,
    pub drbdmeta: Option<String>,
    pub proxy_ctl: Option<String>,
    pub sh_varname: Option<String>,
    pub force: bool,
    pub peer: Option<String>,
    /// Draw the status again and again.
    pub watch: bool,
    /// Words for drbdsetup and drbdmeta.
    pub pass_through: Vec<String>,
    /// Those of them that were typed as options behind the command word.
    pub typed: Vec<String>,
    /// Resource names.
    pub names: Vec<String>,
}

/// One call.
pub struct Session {
    pub options: Options,
    pub command: &'static Command,
    /// Base name of argv[0] without `-83`, `-84`.
    pub program: String,
    /// Directory of argv[0] with its slash, or nothing.
    pub directory: String,
    pub this: ThisHost,
    pub config: Config,
    pub deferred: Vec<Deferred>,
    /// For handlers.
    pub child_environment: Vec<(String, String)>,
    pub no_terminal: bool,
    /// Children's complaints are thrown away (`adjust-with-progress`).
    pub quiet: bool,
}

/// Which volumes of a resource a command works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selected {
    /// The resource, with all its volumes.
    Resource,
    /// One volume, by its place in my host section.
    Volume(usize),
}

impl Session {
    /// Node name: pretended or real; the note about the pretence is printed.
    pub fn this_host() -> ThisHost {
        let pretended = std::env::var("__DRBD_NODE__").ok().filter(|name| !name.is_empty());
        if let Some(name) = &pretended {
            super::exec::complain(&format!(
                "\n   found __DRBD_NODE__ in environment\n   PRETENDING that I am >>{name}<<\n\n"
            ));
        }
        ThisHost {
            name: pretended.unwrap_or_else(host::node_name),
            ipv4: host::ipv4_addresses(),
            ipv6: host::ipv6_addresses(),
        }
    }

    /// Whether standard input or output is no terminal.
    pub fn no_terminal() -> bool {
        !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal()
    }

    /// How sections are chosen for this call.
    pub fn choice(&self) -> Choice {
        Choice {
            by_proxy: matches!(
                self.command.action,
                super::table::Action::ProxyUp | super::table::Action::ProxyDown
            ),
            peer: self.options.peer.clone(),
            tell_ignored_peer: self.options.dry_run > 1,
            no_terminal: self.no_terminal,
        }
    }

    /// The dialect in force.
    pub fn dialect(&self) -> Dialect {
        self.config.dialect
    }

    /// A resource by its place in the configuration.
    pub fn resource(&self, at: usize) -> &Resource {
        &self.config.resources[at]
    }

    /// My host section of a resource that is not ignored.
    ///
    /// # Errors
    /// There is none: a command was called that it should not have been.
    pub fn me(&self, at: usize) -> Result<&HostSection, Exit> {
        self.resource(at).my_host().ok_or(Exit(42))
    }

    /// A volume of my host section.
    ///
    /// # Errors
    /// There is none.
    pub fn volume(&self, at: usize, volume: usize) -> Result<&Volume, Exit> {
        self.me(at)?.volumes.get(volume).ok_or(Exit(42))
    }

    /// Minor of a volume, as a word.
    ///
    /// # Errors
    /// There is no such volume.
    pub fn minor(&self, at: usize, volume: usize) -> Result<String, Exit> {
        Ok(self.volume(at, volume)?.minor.unwrap_or(0).to_string())
    }

    /// `--NAME=VALUE`, switches of 8.3 `--NAME`: the options of a section as words.
    pub fn option_words(&self, settings: &[model::Setting], section: Section) -> Vec<String> {
        self.option_words_in(self.dialect(), settings, section)
    }

    /// The same, in a given dialect.
    pub fn option_words_in(
        &self,
        dialect: Dialect,
        settings: &[model::Setting],
        section: Section,
    ) -> Vec<String> {
        model::section_of(settings, dialect, section)
            .map(|(name, value)| match value {
                Some(value) => format!("--{name}={value}"),
                None => format!("--{name}"),
            })
            .collect()
    }

    /// The options that configure the disk of a volume.
    ///
    /// # Errors
    /// There is no such volume.
    pub fn disk_settings(&self, at: usize, volume: usize) -> Result<Vec<model::Setting>, Exit> {
        let volume = self.volume(at, volume)?;
        Ok(inherit::disk_settings(self.resource(at), volume).to_vec())
    }

    /// Protocol of a resource; empty: none.
    pub fn protocol(&self, at: usize) -> String {
        self.resource(at).protocol().unwrap_or("").to_string()
    }
}

/// Words from text.
pub fn words<const N: usize>(list: [&str; N]) -> Vec<String> {
    list.iter().map(|word| word.to_string()).collect()
}
