//! The one table of commands: usage, help and dispatch read it. spec/drbdadm.md 4, 14.
//!
//! The order of the rows is the order of the usage texts of both dialects.

use drbdbox::conf::Dialect;

/// What a command does; one arm each in `dispatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Attach,
    DiskOptions,
    Detach,
    Connect,
    NetOptions,
    Disconnect,
    Up,
    ResourceOptions,
    Down,
    /// `drbdsetup` with the command's own name and nothing else.
    Plain(Limit),
    /// `drbdsetup` first, `drbdmeta` if that fails.
    SetupThenMeta,
    Outdate,
    Resize,
    CheckResize,
    Syncer,
    Adjust {
        progress: bool,
    },
    WaitConnect,
    WaitConInt,
    Dump,
    DumpXml,
    CreateMd,
    /// `drbdmeta` with the command's own name.
    Meta,
    HiddenCommands,
    Status,
    ShNop,
    ShResources,
    ShResource,
    ShModParms,
    ShDev,
    ShUdev,
    /// Whose a device of the kernel is.
    ShUdevBacking,
    ShMinor,
    ShLlDev,
    ShMdDev,
    ShMdIdx,
    ShIp,
    ShLrOf,
    ShBPri,
    ShStatus,
    ProxyUp,
    ProxyDown,
    NewResource,
    NewMinor,
    Handler,
    Proc,
    /// Of a file, not of a resource.
    Check,
}

/// How long a called program may take. spec/drbdadm.md 5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// 5 s.
    Short,
    /// 121 s.
    Long,
    /// 600 s.
    Verbose,
    /// For ever.
    Forever,
}

/// What an 8.4 command works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// No resource.
    Nothing,
    /// Whole resources; a volume is refused.
    Resource,
    /// Volumes; all of them if none is named.
    Volumes,
    /// One volume, which must be named unless it is implicit.
    OneVolume,
    /// A resource or a volume, as named.
    Either,
}

/// Which options of drbdsetup a command hands on. spec/drbdadm.md 14.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Options {
    None,
    /// All of `disk`, with `size` and `max-bio-bvecs`.
    Attach,
    /// Those of `disk` that can be changed.
    Disk,
    /// All of `net`, with `tentative` and `discard-my-data`.
    Connect,
    /// Those of `net` that can be changed.
    Net,
    Resource,
    /// The switches that drbdsetup's command of the same name has: `--force` and its like.
    Switches,
    /// Whatever there is: for drbdmeta.
    Any,
}

/// One command.
#[derive(Debug)]
pub struct Command {
    pub name: &'static str,
    pub action: Action,
    /// List of 8.3's usage that shows it: 1 usage, 2 scripts, 3 handlers, 4 experts; 0: none.
    pub level_83: u8,
    /// The same for 8.4.
    pub level_84: u8,
    pub scope: Scope,
    pub options: Options,
    /// Check that my address exists.
    pub address: bool,
    /// Say why there is no peer.
    pub peer: bool,
    /// Called with the file that was registered for a minor.
    pub registered: bool,
}

const fn command(name: &'static str, levels: (u8, u8), scope: Scope, action: Action) -> Command {
    Command {
        name,
        action,
        level_83: levels.0,
        level_84: levels.1,
        scope,
        options: Options::None,
        address: false,
        peer: false,
        registered: false,
    }
}

const fn handler(name: &'static str, level_84: u8) -> Command {
    let level_83 = if level_84 == 0 { 0 } else { 3 };
    let mut made = command(name, (level_83, level_84), Scope::Either, Action::Handler);
    made.registered = true;
    made
}

impl Command {
    const fn options(mut self, options: Options) -> Command {
        self.options = options;
        self
    }

    const fn address(mut self) -> Command {
        self.address = true;
        self
    }

    const fn peer(mut self) -> Command {
        self.peer = true;
        self
    }

    const fn registered(mut self) -> Command {
        self.registered = true;
        self
    }

    const fn whole(mut self) -> Command {
        self.scope = Scope::Resource;
        self
    }

    /// Whether it takes resource names.
    pub fn needs_resource(&self) -> bool {
        self.scope != Scope::Nothing
    }

    /// The list of the usage of `dialect` that shows it.
    pub fn level(&self, dialect: Dialect) -> u8 {
        match dialect {
            Dialect::V83 => self.level_83,
            Dialect::V84 => self.level_84,
        }
    }

    /// Whether it is one of the two dumps, which differ in many small things.
    pub fn is_dump(&self) -> bool {
        matches!(self.action, Action::Dump | Action::DumpXml)
    }
}

use Action::Plain;
use Limit::{Long, Short};
use Scope::{Nothing, OneVolume, Resource, Volumes};

/// Every command.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    command("attach", (1, 1), Volumes, Action::Attach).options(Options::Attach),
    command("disk-options", (0, 1), Volumes, Action::DiskOptions).options(Options::Disk),
    command("detach", (1, 1), Volumes, Action::Detach).options(Options::Switches),
    command("connect", (1, 1), Resource, Action::Connect).options(Options::Connect).address().peer(),
    command("net-options", (0, 1), Resource, Action::NetOptions).options(Options::Net).address().peer(),
    command("disconnect", (1, 1), Resource, Action::Disconnect).options(Options::Switches),
    command("up", (1, 1), Resource, Action::Up).address().peer(),
    command("resource-options", (0, 1), Resource, Action::ResourceOptions).options(Options::Resource),
    command("down", (1, 1), Resource, Action::Down),
    command("primary", (1, 1), Volumes, Plain(Long)).options(Options::Switches),
    command("secondary", (1, 1), Volumes, Plain(Long)),
    command("invalidate", (1, 1), Volumes, Action::SetupThenMeta),
    command("invalidate-remote", (1, 1), Volumes, Plain(Long)).address(),
    command("outdate", (1, 1), Volumes, Action::Outdate),
    command("resize", (1, 1), Volumes, Action::Resize).address(),
    command("syncer", (1, 0), Resource, Action::Syncer).address(),
    command("verify", (1, 1), Volumes, Plain(Short)).address(),
    command("pause-sync", (1, 1), Volumes, Plain(Short)).address(),
    command("resume-sync", (1, 1), Volumes, Plain(Short)).address(),
    command("adjust", (1, 1), Resource, Action::Adjust { progress: false }).address().peer(),
    command("adjust-with-progress", (0, 1), Resource, Action::Adjust { progress: true }).address().peer(),
    command("wait-connect", (1, 1), Volumes, Action::WaitConnect).address(),
    command("wait-con-int", (1, 1), Nothing, Action::WaitConInt),
    command("role", (1, 1), Volumes, Plain(Short)),
    command("cstate", (1, 1), Volumes, Plain(Short)),
    command("dstate", (1, 1), Volumes, Action::SetupThenMeta),
    command("dump", (1, 1), Resource, Action::Dump).address(),
    command("dump-xml", (1, 1), Resource, Action::DumpXml).address(),
    command("create-md", (1, 1), Volumes, Action::CreateMd).options(Options::Any),
    command("show-gi", (1, 1), Volumes, Action::SetupThenMeta),
    command("get-gi", (1, 1), Volumes, Action::SetupThenMeta),
    command("dump-md", (1, 1), Volumes, Action::Meta),
    command("wipe-md", (1, 1), Volumes, Action::Meta),
    command("apply-al", (0, 1), Volumes, Action::Meta),
    command("hidden-commands", (1, 1), Nothing, Action::HiddenCommands),

    command("status", (2, 0), Nothing, Action::Status),
    command("sh-nop", (2, 2), Nothing, Action::ShNop),
    command("sh-resources", (2, 2), Nothing, Action::ShResources),
    command("sh-resource", (2, 2), Resource, Action::ShResource),
    command("sh-mod-parms", (2, 2), Nothing, Action::ShModParms),
    command("sh-dev", (2, 2), Volumes, Action::ShDev),
    command("sh-udev", (2, 2), OneVolume, Action::ShUdev).registered(),
    command("sh-minor", (2, 2), Volumes, Action::ShMinor),
    command("sh-ll-dev", (2, 2), Volumes, Action::ShLlDev),
    command("sh-md-dev", (2, 2), Volumes, Action::ShMdDev),
    command("sh-md-idx", (2, 2), Volumes, Action::ShMdIdx),
    command("sh-ip", (2, 2), Resource, Action::ShIp),
    command("sh-lr-of", (2, 2), Resource, Action::ShLrOf),
    command("sh-b-pri", (2, 2), Volumes, Action::ShBPri),
    command("sh-status", (2, 2), Nothing, Action::ShStatus),
    command("proxy-up", (2, 2), Resource, Action::ProxyUp).peer(),
    command("proxy-down", (2, 2), Resource, Action::ProxyDown).peer(),
    command("new-resource", (0, 2), Resource, Action::NewResource),

    handler("before-resync-target", 3),
    handler("after-resync-target", 3),
    handler("before-resync-source", 3),
    handler("pri-on-incon-degr", 3),
    handler("pri-lost-after-sb", 3),
    handler("fence-peer", 3).whole(),
    handler("unfence-peer", 0).whole(),
    handler("local-io-error", 3),
    handler("pri-lost", 3),
    handler("initial-split-brain", 3),
    handler("split-brain", 3),
    handler("out-of-sync", 3),

    command("sh-new-minor", (0, 4), Volumes, Action::NewMinor),
    command("new-minor", (0, 0), Volumes, Action::NewMinor),
    command("suspend-io", (4, 4), Volumes, Plain(Short)),
    command("resume-io", (4, 4), Volumes, Plain(Short)),
    command("set-gi", (4, 4), OneVolume, Action::Meta),
    command("new-current-uuid", (4, 4), Volumes, Plain(Short)).options(Options::Switches),
    command("check-resize", (4, 4), Volumes, Action::CheckResize),
    command("proc", (0, 0), Nothing, Action::Proc),
    command("check", (0, 0), Nothing, Action::Check),
    command("sh-udev-backing", (0, 0), Nothing, Action::ShUdevBacking),
];

/// Old names and what they are now.
pub const DEPRECATED: &[(&str, &str)] = &[("state", "role"), ("outdate-peer", "fence-peer")];

/// The command of this name.
pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|c| c.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for (i, command) in COMMANDS.iter().enumerate() {
            assert!(COMMANDS[i + 1..].iter().all(|c| c.name != command.name));
        }
    }

    #[test]
    fn every_handler_of_the_configuration_is_a_command() {
        use drbdbox::conf::options::{all, Section};
        for row in all().iter().filter(|r| r.section == Section::Handlers) {
            assert!(find(row.name).is_some_and(|c| c.action == Action::Handler), "{}", row.name);
        }
    }
}
