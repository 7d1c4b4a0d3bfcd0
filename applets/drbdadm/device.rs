//! Commands on minors and their disks: attach, detach, up, down, resize, and all that only hand on
//! their name. spec/drbdadm.md 4, 14.3.

use drbdbox::conf::model::Setting;
use drbdbox::conf::options::Section;
use drbdbox::conf::Dialect;
use drbdbox::sys::child::Stream;
use drbdbox::sys::paths;

use super::deferred::Phase;
use super::exec::{Manner, Program};
use super::session::{words, Exit, Session};
use super::table::{Action, Limit};

/// What 8.3's configuring commands carry.
const CREATE: [&str; 2] = ["--set-defaults", "--create-device"];

impl Session {
    /// Calls drbdsetup for a resource, with the ordinary streams.
    pub fn setup(&self, at: usize, words: &[String], limit: Limit) -> Result<u8, Exit> {
        let name = &self.resource(at).name;
        let manner = Manner::default();
        Ok(self.call(Program::Drbdsetup, words, name, limit, manner)?.0)
    }

    /// `MIN CMD` in 8.3, `CMD MIN` in 8.4.
    pub fn on_minor(&self, at: usize, volume: usize, command: &str) -> Result<Vec<String>, Exit> {
        let minor = self.minor(at, volume)?;
        Ok(match self.dialect() {
            Dialect::V83 => words([&minor, command]),
            Dialect::V84 => words([command, &minor]),
        })
    }

    /// The pass-through words behind `call`.
    pub fn with_pass_through(&self, mut call: Vec<String>) -> Vec<String> {
        call.extend_from_slice(&self.options.pass_through);
        call
    }

    /// A command that only hands on its name.
    pub fn plain(&mut self, at: usize, volume: usize, limit: Limit) -> Result<u8, Exit> {
        let call = self.with_pass_through(self.on_minor(at, volume, self.command.name)?);
        self.setup(at, &call, limit)
    }

    pub fn attach(&mut self, at: usize, volume: usize) -> Result<u8, Exit> {
        if self.dialect() == Dialect::V84 {
            let result = self.apply_al(at, volume)?;
            if result != 0 {
                return Ok(result);
            }
        }
        let disk = self.volume(at, volume)?;
        let paths = [
            disk.disk.clone().unwrap_or_default(),
            disk.meta_device().to_string(),
            disk.meta_index().to_string(),
        ];
        let command = match self.dialect() {
            Dialect::V83 => "disk",
            Dialect::V84 => "attach",
        };
        let mut call = self.on_minor(at, volume, command)?;
        call.extend(paths);
        let options = self.option_words(&self.disk_settings(at, volume)?, Section::Disk);
        match self.dialect() {
            Dialect::V83 => {
                call.extend(words(CREATE));
                call.extend(options);
                // The original hands nothing on here; what was typed behind the command word is
                // ours to pass. spec/decisions.md 1.6.
                call.extend_from_slice(&self.options.typed);
            }
            Dialect::V84 => {
                call.extend(options);
                call = self.with_pass_through(call);
            }
        }
        self.setup(at, &call, Limit::Long)
    }

    pub fn detach(&mut self, at: usize, volume: usize) -> Result<u8, Exit> {
        let limit = match self.command.action {
            Action::Detach => Limit::Long,
            _ => Limit::Short,
        };
        let call = self.with_pass_through(self.on_minor(at, volume, "detach")?);
        self.setup(at, &call, limit)
    }

    pub fn down(&mut self, at: usize) -> Result<u8, Exit> {
        let call = match self.dialect() {
            Dialect::V83 => self.on_minor(at, 0, "down")?,
            Dialect::V84 => words(["down", &self.resource(at).name]),
        };
        let call = self.with_pass_through(call);
        self.setup(at, &call, Limit::Long)
    }

    /// Collects what brings a resource up.
    pub fn up(&mut self, at: usize) -> Result<u8, Exit> {
        match self.dialect() {
            Dialect::V83 => {
                self.defer(Phase::Disk83, "attach", at, move |s| s.attach(at, 0));
                self.defer(Phase::Resource, "syncer", at, move |s| s.syncer(at));
                self.defer(Phase::Net, "connect", at, move |s| s.connect(at));
            }
            Dialect::V84 => {
                self.defer_new_resource(at);
                for volume in 0..self.me(at)?.volumes.len() {
                    self.defer(Phase::Create, "new-minor", at, move |s| s.new_minor(at, volume));
                    self.defer(Phase::Disk, "attach", at, move |s| s.attach(at, volume));
                }
                self.defer(Phase::Net, "connect", at, move |s| s.connect(at));
            }
        }
        Ok(0)
    }

    /// Collects new-resource.
    pub fn defer_new_resource(&mut self, at: usize) {
        self.defer(Phase::Create, "new-resource", at, move |s| s.new_resource(at));
    }

    /// 8.4 form in both dialects.
    pub fn new_resource(&mut self, at: usize) -> Result<u8, Exit> {
        let resource = self.resource(at);
        let mut call = words(["new-resource", &resource.name]);
        let settings = resource.settings.clone();
        call.extend(self.option_words_in(Dialect::V84, &settings, Section::Options));
        let result = self.setup(at, &call, Limit::Short)?;
        if result == 0 {
            self.register_84(&paths::resource_conf_84(&self.resource(at).name));
        }
        Ok(result)
    }

    /// 8.4 form in both dialects.
    pub fn new_minor(&mut self, at: usize, volume: usize) -> Result<u8, Exit> {
        let number = self.volume(at, volume)?.number.to_string();
        let minor = self.minor(at, volume)?;
        let call = words(["new-minor", &self.resource(at).name, &minor, &number]);
        let result = self.setup(at, &call, Limit::Short)?;
        if result == 0 {
            let minor = self.volume(at, volume)?.minor.unwrap_or(0);
            self.register_84(&paths::minor_conf_84(minor));
        }
        Ok(result)
    }

    /// 8.4 form in both dialects. `adjust`: everything the file says.
    pub fn resource_options(&mut self, at: usize, adjust: bool) -> Result<u8, Exit> {
        let resource = self.resource(at);
        let call = words(["resource-options", &resource.name]);
        let settings = resource.settings.clone();
        let call = self.with_defaults(call, adjust, &settings, Section::Options);
        self.setup(at, &self.with_pass_through(call), Limit::Short)
    }

    /// 8.4 form in both dialects. `adjust`: everything the file says.
    pub fn disk_options(&mut self, at: usize, volume: usize, adjust: bool) -> Result<u8, Exit> {
        let call = words(["disk-options", &self.minor(at, volume)?]);
        let settings: Vec<Setting> = self
            .disk_settings(at, volume)?
            .into_iter()
            .filter(|s| s.row.scope == drbdbox::conf::options::Scope::Any)
            .collect();
        let call = self.with_defaults(call, adjust, &settings, Section::Disk);
        self.setup(at, &self.with_pass_through(call), Limit::Long)
    }

    /// `--set-defaults` and the options of a section, for adjust.
    pub fn with_defaults(
        &self,
        mut call: Vec<String>,
        adjust: bool,
        settings: &[Setting],
        section: Section,
    ) -> Vec<String> {
        if adjust {
            call.push("--set-defaults".to_string());
            call.extend(self.option_words_in(Dialect::V84, settings, section));
        }
        call
    }

    /// 8.3's syncer; in 8.4 what it stands for. spec/decisions.md 1.5.
    pub fn syncer(&mut self, at: usize) -> Result<u8, Exit> {
        if self.dialect() == Dialect::V84 {
            return self.syncer_84(at);
        }
        let mut call = self.on_minor(at, 0, "syncer")?;
        call.extend(words(CREATE));
        let mut settings = self.resource(at).settings.clone();
        let of_volume = self.disk_settings(at, 0)?;
        if !self.volume(at, 0)?.options.is_empty() {
            settings.retain(|s| s.section != Section::Disk);
            settings.extend(of_volume.into_iter().filter(|s| s.section == Section::Disk));
        }
        call.extend(self.option_words(&settings, Section::Syncer));
        self.setup(at, &self.with_pass_through(call), Limit::Short)
    }

    fn syncer_84(&mut self, at: usize) -> Result<u8, Exit> {
        let mut result = self.new_resource(at)?;
        for volume in 0..self.me(at)?.volumes.len() {
            if result == 0 {
                result = self.new_minor(at, volume)?;
            }
        }
        if result == 0 {
            result = self.resource_options(at, true)?;
        }
        let running = self.running_resource(at)?;
        let Some(running) = running.filter(|_| result == 0) else {
            return Ok(result);
        };
        let here = running.hosts.iter().find(|h| h.names("") == "_this_host");
        let attached: Vec<u32> = here
            .map(|h| h.volumes.iter())
            .into_iter()
            .flatten()
            .filter(|v| v.disk.is_some())
            .map(|v| v.number)
            .collect();
        for volume in 0..self.me(at)?.volumes.len() {
            let number = self.volume(at, volume)?.number;
            if result == 0 && attached.contains(&number) {
                result = self.disk_options(at, volume, true)?;
            }
        }
        let connected = here.is_some_and(|h| h.address.is_some());
        if result == 0 && connected {
            self.choose_peer(at);
            result = self.net_options(at, true)?;
        }
        Ok(result)
    }

    pub fn resize(&mut self, at: usize, volume: usize) -> Result<u8, Exit> {
        let result = self.resize_call(at, volume, Stream::Inherit)?;
        if result == 0 {
            // Only remembers the size: its own result does not count.
            let call = self.on_minor(at, volume, "check-resize")?;
            self.setup(at, &call, Limit::Short)?;
        }
        Ok(result)
    }

    fn resize_call(&mut self, at: usize, volume: usize, stderr: Stream) -> Result<u8, Exit> {
        let mut call = self.on_minor(at, volume, "resize")?;
        let settings = self.disk_settings(at, volume)?;
        if let Some(size) = drbdbox::conf::model::lookup(&settings, Section::Disk, "size") {
            call.push(format!("--size={}", size.value));
        }
        let call = self.with_pass_through(call);
        let name = &self.resource(at).name;
        let manner = Manner { stderr, ..Manner::default() };
        Ok(self.call(Program::Drbdsetup, &call, name, Limit::Short, manner)?.0)
    }

    pub fn check_resize(&mut self, at: usize, volume: usize) -> Result<u8, Exit> {
        if self.resize_call(at, volume, Stream::Null)? != 0 {
            return self.meta_command(at, volume, "check-resize");
        }
        let call = self.on_minor(at, volume, "check-resize")?;
        self.setup(at, &call, Limit::Short)?;
        Ok(0)
    }
}
