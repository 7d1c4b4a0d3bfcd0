//! From the table's row to the function: which resources and volumes, in which order, what result.
//! spec/drbdadm.md 3 (steps 13 to 19), 14.2.

use drbdbox::conf::number::{self, Unit};
use drbdbox::conf::Dialect;
use drbdbox::engine::helpers::CALLED_BY_DAEMON;

use super::exec::{complain, suggest};
use super::session::{Exit, Selected, Session, EXIT_USAGE};
use super::table::{Action, Scope};

/// Runs the command of a session to its end.
///
/// # Errors
/// The status of what ended it early.
pub fn run(mut session: Session) -> Result<u8, Exit> {
    let command = session.command;
    if command.action == Action::Status {
        if let Some(result) = session.status_for_people()? {
            return Ok(result);
        }
    }
    let status_84 = command.action == Action::Status && session.dialect() == Dialect::V84;
    // 8.4's status may name a resource, and shows all without.
    let named_status = status_84 && !session.options.names.is_empty();
    if !command.needs_resource() && !named_status {
        let result = session.without_resource()?;
        if result >= 10 {
            complain(&format!("command {} exited with code {result}\n", command.name));
        }
        return Ok(result);
    }
    if session.config.resources.is_empty() {
        complain("no resources defined!\n");
        return if session.is_helper() { Ok(0) } else { Err(Exit(EXIT_USAGE)) };
    }
    session.validate()?;
    let names = session.options.names.clone();
    let all = names.is_empty() || names[0] == "all";
    let mut result = match all {
        true => session.run_all()?,
        false => session.run_named(&names)?,
    };
    let progress = command.action == Action::Adjust { progress: true };
    if !session.deferred.is_empty() || progress {
        result |= session.run_deferred(progress)?;
    }
    if result == 0 {
        session.show_progress(&names);
    }
    Ok(result)
}

impl Session {
    fn run_all(&mut self) -> Result<u8, Exit> {
        let dump = self.command.is_dump();
        let usable: Vec<usize> = (0..self.config.resources.len())
            .filter(|at| {
                let resource = self.resource(*at);
                dump || !resource.ignored && resource.stacked == self.options.stacked
            })
            .collect();
        self.warn_if_nothing_here()?;
        let checks: Vec<Result<(), Exit>> =
            (0..self.config.resources.len()).map(|at| self.check_address(at)).collect();
        checks.into_iter().collect::<Result<(), Exit>>()?;
        self.dump_head();
        let mut result = 0;
        for at in usable {
            let one = self.on_resource(at, Selected::Resource, 1)?;
            result = result.max(one);
        }
        self.dump_tail();
        Ok(result)
    }

    /// Nothing of this mode on this host: not an error for `dump --force`, nor for 8.4's dump.
    fn warn_if_nothing_here(&self) -> Result<(), Exit> {
        let dump = self.command.is_dump();
        let anything = self.config.resources.iter().any(|r| !r.ignored && r.stacked == self.options.stacked);
        if anything || dump && (self.options.force || self.dialect() == Dialect::V84) {
            return Ok(());
        }
        let node = &self.this.name;
        complain(&match self.options.stacked {
            false => format!("WARN: no normal resources defined for this host ({node})!?\n"),
            true => format!("WARN: nothing stacked for this host ({node}), nothing to do in stacked mode!\n"),
        });
        let all_ignored = self.config.resources.iter().all(|r| r.ignored);
        if self.dialect() == Dialect::V84 && all_ignored && !self.options.stacked {
            complain("Misspelled name of the local machine with the 'on' keyword ?\n");
        }
        Err(Exit(EXIT_USAGE))
    }

    fn run_named(&mut self, names: &[String]) -> Result<u8, Exit> {
        let mut result = 0;
        for name in names {
            let (at, selected) = match self.find(name) {
                Err(_) if self.is_helper() => continue,
                found => found?,
            };
            let resource = self.resource(at);
            let dump = self.command.is_dump();
            if !dump && resource.ignored {
                complain(&format!(
                    "'{name}' ignored, since this host ({}) is not mentioned with an 'on' \
                     keyword.\n",
                    self.this.name
                ));
                result = result.max(EXIT_USAGE);
                continue;
            }
            if !dump && resource.stacked != self.options.stacked {
                let (is, not) = match resource.stacked {
                    true => ("stacked", "normal"),
                    false => ("normal", "stacked"),
                };
                complain(&format!("'{name}' is a {is} resource, and not available in {not} mode.\n"));
                result = result.max(EXIT_USAGE);
                continue;
            }
            match self.check_address(at) {
                Err(exit) if !dump => return Err(exit),
                _ => {}
            }
            let one = self.on_resource(at, selected, 0)?;
            result = result.max(one);
        }
        Ok(result)
    }

    /// A resource by name, `minor-N`, or in 8.4 `NAME/VOLUME`.
    pub fn find(&mut self, name: &str) -> Result<(usize, Selected), Exit> {
        let by_name = |name: &str| self.config.resources.iter().position(|r| r.name == name);
        let is_84 = self.dialect() == Dialect::V84;
        if let Some(at) = by_name(name) {
            if !(is_84 && self.resource(at).ignored && !self.command.is_dump()) {
                return Ok((at, Selected::Resource));
            }
        }
        if let (true, Some((resource, number))) = (is_84, name.split_once('/')) {
            let number = parse_number(number)?;
            let found = by_name(resource).and_then(|at| {
                let volumes = &self.resource(at).my_host()?.volumes;
                let volume = volumes.iter().position(|v| u64::from(v.number) == number)?;
                Some((at, Selected::Volume(volume)))
            });
            return found.ok_or_else(|| self.undefined(name));
        }
        if let Some(number) = name.strip_prefix("minor-") {
            let number = parse_number(number)?;
            for at in 0..self.config.resources.len() {
                let Some(me) = self.resource(at).my_host() else {
                    continue;
                };
                let has = |minor: Option<u32>| minor.map(u64::from) == Some(number);
                if let Some(volume) = me.volumes.iter().position(|v| has(v.minor)) {
                    if self.resource(at).stacked {
                        self.options.stacked = true;
                    }
                    return Ok((at, Selected::Volume(volume)));
                }
            }
        }
        Err(self.undefined(name))
    }

    /// The daemon calls for a handler: what is not in the configuration has none.
    pub fn is_helper(&self) -> bool {
        self.command.action == Action::Handler && std::env::var_os(CALLED_BY_DAEMON).is_some()
    }

    fn undefined(&self, name: &str) -> Exit {
        let here = match self.dialect() {
            Dialect::V83 => "",
            Dialect::V84 => " (for this host)",
        };
        complain(&format!("'{name}' not defined in your config{here}.\n"));
        let known: Vec<&str> = self.config.resources.iter().map(|r| r.name.as_str()).collect();
        suggest(name, &known);
        Exit(EXIT_USAGE)
    }

    /// One resource: volumes chosen, framed, run; ends the program on 20 and more.
    fn on_resource(&mut self, at: usize, selected: Selected, level: usize) -> Result<u8, Exit> {
        let command = self.command;
        if command.peer && !command.is_dump() {
            self.choose_peer(at);
        }
        if command.is_dump() {
            self.dump_resource(at, level);
            return Ok(0);
        }
        let selected = self.fit_scope(at, selected)?;
        let collects = matches!(command.action, Action::Up | Action::Adjust { .. });
        let result = self.framed(at, !collects, |session| session.on_selected(at, selected))?;
        if result >= 20 {
            let name = self.resource(at).name.clone();
            self.complain_of_result(command.name, &name, result);
            return Err(Exit(result));
        }
        Ok(result)
    }

    /// 8.4: whether the command works on what was named. spec/drbdadm.md 14.2.
    fn fit_scope(&self, at: usize, selected: Selected) -> Result<Selected, Exit> {
        let name = self.command.name;
        let me = self.me(at)?;
        let explicit = match selected {
            Selected::Resource => false,
            Selected::Volume(volume) => me.volumes.get(volume).is_some_and(|v| !v.implicit),
        };
        if self.dialect() == Dialect::V83 {
            return Ok(Selected::Volume(0));
        }
        let all = self.options.names.first().is_some_and(|n| n == "all");
        if all && self.command.scope == Scope::OneVolume {
            return Ok(selected);
        }
        match (self.command.scope, selected) {
            (Scope::Resource, Selected::Volume(_)) if explicit => {
                complain(&format!(
                    "{name} operates on whole resources, but you specified a specific volume!\n"
                ));
                Err(Exit(EXIT_USAGE))
            }
            (Scope::Resource, _) => Ok(Selected::Resource),
            (Scope::OneVolume, Selected::Resource) => match me.volumes.as_slice() {
                [only] if only.implicit => Ok(Selected::Volume(0)),
                _ => {
                    complain(&format!(
                        "{name} requires a specific volume id, but none is specified.\n\
                         Try '{name} minor-<minor_number>' or '{name} {}/<vnr>'\n",
                        self.resource(at).name
                    ));
                    Err(Exit(EXIT_USAGE))
                }
            },
            (_, selected) => Ok(selected),
        }
    }

    /// A command on volumes visits all of them if none is named, and stops at the first failure.
    fn on_selected(&mut self, at: usize, selected: Selected) -> Result<u8, Exit> {
        let volumes = match (self.command.scope, selected) {
            (Scope::Volumes, Selected::Resource) => 0..self.me(at)?.volumes.len(),
            (Scope::OneVolume, Selected::Resource) => {
                complain("volume not specified\n");
                return Ok(1);
            }
            (_, Selected::Volume(volume)) => volume..volume + 1,
            (_, Selected::Resource) => return self.on_volume(at, Selected::Resource),
        };
        for volume in volumes {
            let result = self.on_volume(at, Selected::Volume(volume))?;
            if result != 0 {
                return Ok(result);
            }
        }
        Ok(0)
    }

    fn without_resource(&mut self) -> Result<u8, Exit> {
        match self.command.action {
            Action::HiddenCommands => {
                self.print(&super::usage::hidden_commands(self.dialect()));
                Ok(0)
            }
            Action::WaitConInt => self.wait_con_int(),
            Action::Status => self.status(),
            Action::ShResources => Ok(self.sh_resources()),
            Action::ShModParms => Ok(self.sh_mod_parms()),
            Action::ShStatus => self.sh_status(),
            Action::Proc => self.proc_text(),
            _ => Ok(0),
        }
    }

    fn on_volume(&mut self, at: usize, selected: Selected) -> Result<u8, Exit> {
        let volume = match selected {
            Selected::Volume(volume) => volume,
            Selected::Resource => 0,
        };
        let whole = selected == Selected::Resource;
        match self.command.action {
            Action::Attach => self.attach(at, volume),
            Action::DiskOptions => self.disk_options(at, volume, false),
            Action::Detach => self.detach(at, volume),
            Action::Connect => self.connect(at),
            Action::NetOptions => self.net_options(at, false),
            Action::Disconnect => self.disconnect(at),
            Action::Up => self.up(at),
            Action::ResourceOptions => self.resource_options(at, false),
            Action::Down => self.down(at),
            Action::Plain(limit) => self.plain(at, volume, limit),
            Action::SetupThenMeta => self.setup_then_meta(at, volume),
            Action::Outdate => self.outdate(at, volume),
            Action::Resize => self.resize(at, volume),
            Action::CheckResize => self.check_resize(at, volume),
            Action::Syncer => self.syncer(at),
            Action::Adjust { .. } => self.adjust(at),
            Action::WaitConnect => self.wait_connect(at, volume),
            Action::CreateMd => self.create_md(at, volume),
            Action::Meta => self.meta(at, volume),
            Action::ShResource
            | Action::ShDev
            | Action::ShUdev
            | Action::ShMinor
            | Action::ShLlDev
            | Action::ShMdDev
            | Action::ShMdIdx
            | Action::ShIp
            | Action::ShLrOf => self.sh_print(at, volume),
            Action::ShBPri => self.sh_b_pri(at, volume),
            Action::ProxyUp => self.proxy_up(at),
            Action::ProxyDown => self.proxy_down(at),
            Action::NewResource => self.new_resource(at),
            Action::NewMinor => self.new_minor(at, volume),
            Action::Handler => self.handler(at, volume, whole),
            Action::Status => self.status_of(at),
            Action::Dump
            | Action::DumpXml
            | Action::WaitConInt
            | Action::HiddenCommands
            | Action::ShNop
            | Action::ShResources
            | Action::ShModParms
            | Action::ShStatus
            | Action::Check
            | Action::ShUdevBacking
            | Action::Proc => Ok(0),
        }
    }
}

/// A number of `minor-N` or `/N`; a unit letter is taken.
fn parse_number(text: &str) -> Result<u64, Exit> {
    number::parse(text, Unit::One).map_err(|error| {
        complain(&format!("{error}\n"));
        Exit(error.exit_status())
    })
}
