//! Commands that only print: dump, sh-*, status. spec/drbdadm.md 11, 14.5.

use std::time::Duration;

use drbdbox::conf::options::Section;
use drbdbox::conf::{dump, dump_xml, Dialect};

use super::configuration::highest_minor;
use super::session::{words, Exit, Session, EXIT_USAGE};
use super::table::{Action, Limit};

/// Attempts of sh-b-pri.
const PRIMARY_ATTEMPTS: u32 = 5;
/// Fewest and most minors that sh-mod-parms asks for.
const MINORS_MIN: u32 = 32;

impl Session {
    /// Header of a dump of everything.
    pub fn dump_head(&self) {
        match self.command.action {
            Action::Dump => self.print(&dump::head(&self.config)),
            Action::DumpXml => self.print(&dump_xml::head(&self.config)),
            _ => {}
        }
    }

    /// End of a dump of everything.
    pub fn dump_tail(&self) {
        if self.command.action == Action::DumpXml {
            self.print(dump_xml::tail());
        }
    }

    /// One resource of a dump; `level`: 1 below a header.
    pub fn dump_resource(&self, at: usize, level: usize) {
        let resource = self.resource(at);
        self.print(&match self.command.action {
            Action::Dump => dump::resource(&self.config, resource, &self.this.name),
            _ => dump_xml::resource(&self.config, resource, level),
        });
    }

    /// Resources of this host and mode.
    fn usable(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.config.resources.len()).filter(|at| {
            let resource = self.resource(*at);
            !resource.ignored && resource.stacked == self.options.stacked
        })
    }

    pub fn sh_resources(&self) -> u8 {
        let names: Vec<String> = self.usable().map(|at| dump::quote(&self.resource(at).name)).collect();
        if !names.is_empty() {
            self.print(&format!("{}\n", names.join(" ")));
        }
        0
    }

    pub fn sh_mod_parms(&self) -> u8 {
        let asked = self.config.global.minor_count;
        let count = match (asked, self.dialect()) {
            (0, Dialect::V83) => {
                let highest = highest_minor(self).unwrap_or(0);
                highest.saturating_add(11).clamp(MINORS_MIN, 256)
            }
            (0, Dialect::V84) => {
                let minors = self
                    .config
                    .resources
                    .iter()
                    .filter_map(|r| r.my_host())
                    .map(|h| h.volumes.len() as u32)
                    .sum::<u32>();
                minors.saturating_add(3).clamp(MINORS_MIN, 255)
            }
            (count, _) => count,
        };
        self.print(&format!("minor_count={count}\n"));
        0
    }

    /// The commands that print one fact.
    pub fn sh_print(&self, at: usize, volume: usize) -> Result<u8, Exit> {
        let resource = self.resource(at);
        let me = self.me(at)?;
        let line = match self.command.action {
            Action::ShResource => resource.name.clone(),
            Action::ShIp => me.address.as_ref().map_or("", |a| &a.address).to_string(),
            Action::ShLrOf => return self.sh_lr_of(at),
            action => {
                let volume = self.volume(at, volume)?;
                let device = volume.device.as_deref().unwrap_or("");
                let disk = volume.disk.as_deref().unwrap_or("");
                let bare = |path: &str| path.strip_prefix("/dev/").unwrap_or(path).to_string();
                match action {
                    Action::ShDev => device.to_string(),
                    Action::ShMinor => volume.minor.unwrap_or(0).to_string(),
                    Action::ShLlDev => disk.to_string(),
                    Action::ShMdDev => volume.meta_device().to_string(),
                    Action::ShMdIdx => volume.meta_index().to_string(),
                    _ => {
                        let always = self.config.global.udev_always_use_vnr;
                        let number = match volume.implicit && !always || self.dialect() == Dialect::V83 {
                            true => String::new(),
                            false => format!("/{}", volume.number),
                        };
                        format!(
                            "RESOURCE={}{number}\nDEVICE={}\nDISK={}",
                            resource.name,
                            bare(device),
                            bare(disk)
                        )
                    }
                }
            }
        };
        self.print(&format!("{line}\n"));
        Ok(0)
    }

    fn sh_lr_of(&self, at: usize) -> Result<u8, Exit> {
        let name = &self.resource(at).name;
        if !self.options.stacked {
            self.complain("sh-lower-resource only available in stacked mode\n");
            return Err(Exit(EXIT_USAGE));
        }
        match self.me(at)?.lower() {
            Some(lower) => {
                self.print(&format!("{lower}\n"));
                Ok(0)
            }
            None => {
                self.complain(&format!("'{name}' is not stacked on this host ({})\n", self.this.name));
                Err(Exit(EXIT_USAGE))
            }
        }
    }

    /// `primary`, if the configuration says that this node becomes it at boot.
    pub fn sh_b_pri(&mut self, at: usize, volume: usize) -> Result<u8, Exit> {
        let wanted =
            self.resource(at).become_primary_on.iter().any(|name| *name == self.this.name || name == "both");
        if !wanted {
            return Ok(0);
        }
        let call = self.with_pass_through(self.on_minor(at, volume, "primary")?);
        let mut result = 0;
        for attempt in 0..PRIMARY_ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(Duration::from_secs(1));
            }
            result = self.setup(at, &call, Limit::Short)?;
            if result == 0 {
                break;
            }
        }
        Ok(result)
    }

    pub fn sh_status(&mut self) -> Result<u8, Exit> {
        if self.options.dry_run == 0 {
            self.print(&format!(
                "_drbd_version={}\n_drbd_api={}\n_config_file={}\n\n",
                self.dialect().release(),
                self.dialect().api_version(),
                super::exec::shell_escape(&self.config.file.absolute)
            ));
            if self.dialect() == Dialect::V84 {
                self.print("\n");
            }
        }
        for at in 0..self.config.resources.len() {
            let resource = self.resource(at);
            if resource.ignored {
                continue;
            }
            if self.dialect() == Dialect::V84 {
                self.print(&format!(
                    "_conf_res_name={}\n_conf_file_line={}:{}\n\n",
                    super::exec::shell_escape(&resource.name),
                    super::exec::shell_escape(&resource.file.absolute),
                    resource.line
                ));
            }
            let result = self.sh_status_of(at)?;
            if result != 0 {
                return Ok(result);
            }
        }
        Ok(0)
    }

    fn sh_status_of(&mut self, at: usize) -> Result<u8, Exit> {
        let lower = self.me(at)?.lower().map(str::to_string);
        self.print(&format!("_stacked_on={}\n", lower.as_deref().unwrap_or("")));
        let is_84 = self.dialect() == Dialect::V84;
        if lower.is_none() || !is_84 {
            self.print_stacked_on(lower.as_deref(), 0);
        }
        let volumes = match is_84 {
            true => self.me(at)?.volumes.len(),
            false => 1,
        };
        for volume in 0..volumes {
            if is_84 {
                let number = self.volume(at, volume)?.number;
                if lower.is_some() {
                    self.print_stacked_on(lower.as_deref(), number);
                }
                self.print(&format!("_conf_volume={number}\n"));
            }
            let call = self.on_minor(at, volume, "sh-status")?;
            let result = self.setup(at, &self.with_pass_through(call), Limit::Short)?;
            if result != 0 {
                return Ok(result);
            }
        }
        Ok(0)
    }

    fn print_stacked_on(&self, lower: Option<&str>, number: u32) {
        let below = lower
            .and_then(|name| self.config.resource(name))
            .and_then(|resource| resource.my_host())
            .and_then(|host| host.volumes.iter().find(|v| v.number == number));
        let device = below.and_then(|v| v.device.as_deref()).unwrap_or("");
        let minor = below.and_then(|v| v.minor).map(|m| m.to_string());
        self.print(&format!(
            "_stacked_on_device={device}\n_stacked_on_minor={}\n",
            minor.unwrap_or_default()
        ));
    }

    /// XML in 8.3, text in 8.4, over all resources of this host.
    pub fn status(&mut self) -> Result<u8, Exit> {
        let is_84 = self.dialect() == Dialect::V84;
        let frame = !is_84 && self.options.dry_run == 0;
        if frame {
            self.print(&format!(
                "<drbd-status version=\"{}\" api=\"{}\">\n<resources config_file=\"{}\">\n",
                self.dialect().release(),
                self.dialect().api_version(),
                dump_xml::escape(&self.config.file.absolute)
            ));
        }
        let mut result = 0;
        for at in 0..self.config.resources.len() {
            if self.resource(at).ignored {
                continue;
            }
            result = self.status_of(at)?;
            if result != 0 {
                break;
            }
        }
        if frame {
            self.print("</resources>\n</drbd-status>\n");
        }
        Ok(result)
    }

    /// `drbdsetup MIN status`, in 8.4 `drbdsetup status RES`.
    pub fn status_of(&mut self, at: usize) -> Result<u8, Exit> {
        let call = match self.dialect() {
            Dialect::V83 => self.on_minor(at, 0, "status")?,
            Dialect::V84 => words(["status", &self.resource(at).name]),
        };
        self.setup(at, &self.with_pass_through(call), Limit::Short)
    }

    /// The text of /proc/drbd.
    pub fn proc_text(&mut self) -> Result<u8, Exit> {
        let manner = super::exec::Manner::default();
        let program = super::exec::Program::Drbdsetup;
        Ok(self.call(program, &words(["proc"]), "", Limit::Short, manner)?.0)
    }

    /// Options of a startup section that wait-connect takes.
    pub fn startup_words(&self, at: usize) -> Vec<String> {
        self.option_words(&self.resource(at).settings, Section::Startup)
            .into_iter()
            .filter(|word| word != "--stacked-timeouts")
            .collect()
    }
}
