//! adjust in 8.4's way: volume by volume, option by option. spec/drbdadm.md 14.4.

use drbdbox::conf::model::{HostSection, Resource, Setting, Volume};
use drbdbox::conf::number;
use drbdbox::conf::options::{self, Kind, OptionRow, Scope, Section};
use drbdbox::conf::Dialect;

use super::adjust::{address_differs, disks_differ};
use super::deferred::Phase;
use super::net::target;
use super::session::{words, Exit, Session};
use super::table::Limit;

/// `-v` given so often: differences are told.
const VERBOSE_DIFFERENCES: u32 = 3;

impl Session {
    /// Compares and collects.
    pub fn adjust_84(&mut self, at: usize) -> Result<u8, Exit> {
        let running = self.running_resource(at)?;
        if running.is_none() {
            self.defer_new_resource(at);
        }
        let mut here: Option<HostSection> = None;
        let mut there: Option<HostSection> = None;
        let mut settings: Vec<Setting> = Vec::new();
        if let Some(running) = &running {
            let section = |name: &str| running.hosts.iter().find(|h| h.names("") == name);
            here = section("_this_host").cloned();
            there = section("_remote_host").cloned();
            settings.clone_from(&running.settings);
        }
        self.adjust_volumes(at, here.as_ref())?;
        if running.is_some() && self.differs(at, &settings, Section::Options, |_| true) {
            self.defer(Phase::Resource, "resource-options", at, move |s| s.resource_options(at, true));
        }
        self.adjust_proxy(at)?;
        self.adjust_connection(at, here.as_ref(), there.as_ref(), &settings)
    }

    fn adjust_connection(
        &mut self,
        at: usize,
        here: Option<&HostSection>,
        there: Option<&HostSection>,
        settings: &[Setting],
    ) -> Result<u8, Exit> {
        let running = here.and_then(|h| h.address.clone()).zip(there.and_then(|h| h.address.clone()));
        let me = self.me(at)?;
        let Some(peer) = self.resource(at).peer_host() else {
            if running.is_none() {
                self.defer(Phase::Net, "connect", at, move |s| s.connect(at));
            }
            return Ok(0);
        };
        let same = running.as_ref().is_some_and(|(mine, theirs)| {
            !address_differs(Some(mine), me.address.as_ref())
                && !address_differs(Some(theirs), target(me, peer))
        });
        if !same {
            if let Some((mine, theirs)) = running {
                let old = [mine.for_command(), theirs.for_command()];
                self.tell("Network addresses differ:", || format!(" {} {}", old[0], old[1]));
                self.defer(Phase::NetPrerequisites, "disconnect", at, move |s| {
                    let call = words(["disconnect", &old[0], &old[1]]);
                    s.setup(at, &s.with_pass_through(call), Limit::Short)
                });
            }
            self.defer(Phase::Net, "connect", at, move |s| s.connect(at));
        } else if self.differs(at, settings, Section::Net, |_| true) {
            self.defer(Phase::Net, "net-options", at, move |s| s.net_options(at, true));
        }
        Ok(0)
    }

    fn adjust_volumes(&mut self, at: usize, here: Option<&HostSection>) -> Result<(), Exit> {
        let running: &[Volume] = here.map_or(&[], |h| &h.volumes);
        let wanted = self.me(at)?.volumes.clone();
        for gone in running.iter().filter(|r| !wanted.iter().any(|w| w.number == r.number)) {
            self.defer_removal(at, gone);
        }
        for (volume, new) in wanted.iter().enumerate() {
            let old = running.iter().find(|r| r.number == new.number);
            self.adjust_volume(at, volume, new, old)?;
        }
        Ok(())
    }

    fn adjust_volume(
        &mut self,
        at: usize,
        volume: usize,
        new: &Volume,
        old: Option<&Volume>,
    ) -> Result<(), Exit> {
        let same_minor = old.is_some_and(|o| o.minor == new.minor);
        if !same_minor {
            if let Some(old) = old {
                self.defer_removal(at, old);
            }
            let phase = match old {
                // The resource is new too, or it is there: either way before any disk.
                None => Phase::Create,
                Some(_) => Phase::DiskPrerequisites,
            };
            self.defer(phase, "new-minor", at, move |s| s.new_minor(at, volume));
            self.defer(Phase::Disk, "attach", at, move |s| s.attach(at, volume));
            return Ok(());
        }
        let Some(old) = old else {
            return Ok(());
        };
        let settings = self.disk_settings(at, volume)?;
        let differs = |which: &dyn Fn(&OptionRow) -> bool| {
            first_difference(&old.options, &settings, Section::Disk, which)
        };
        let other_bio = differs(&|row| row.name == "max-bio-bvecs").is_some();
        let attached = old.disk.is_some();
        if disks_differ(Some(old), new) || attached && other_bio {
            if attached {
                let minor = self.minor(at, volume)?;
                self.defer_detach(at, minor);
            }
            self.defer(Phase::Disk, "attach", at, move |s| s.attach(at, volume));
            return Ok(());
        }
        if let Some(text) = differs(&|row| row.scope == Scope::Any) {
            self.tell(&text, String::new);
            self.defer(Phase::Disk, "disk-options", at, move |s| s.disk_options(at, volume, true));
        }
        if let Some(text) = differs(&|row| row.name == "size") {
            self.tell(&text, String::new);
            self.defer(Phase::Disk, "resize", at, move |s| s.resize(at, volume));
        }
        Ok(())
    }

    /// detach, if there is a disk, and del-minor.
    fn defer_removal(&mut self, at: usize, running: &Volume) {
        let minor = running.minor.unwrap_or(0).to_string();
        if running.disk.is_some() {
            self.defer_detach(at, minor.clone());
        }
        self.defer(Phase::Create, "del-minor", at, move |s| {
            let call = words(["del-minor", &minor]);
            s.setup(at, &s.with_pass_through(call), Limit::Short)
        });
    }

    fn defer_detach(&mut self, at: usize, minor: String) {
        self.defer(Phase::Create, "detach", at, move |s| {
            let call = words(["detach", &minor]);
            s.setup(at, &s.with_pass_through(call), Limit::Long)
        });
    }

    fn differs(
        &self,
        at: usize,
        running: &[Setting],
        section: Section,
        which: impl Fn(&OptionRow) -> bool,
    ) -> bool {
        let wanted: &Resource = self.resource(at);
        match first_difference(running, &wanted.settings, section, &which) {
            Some(text) => {
                self.tell(&text, String::new);
                true
            }
            None => false,
        }
    }

    fn tell(&self, text: &str, more: impl Fn() -> String) {
        if self.options.verbose >= VERBOSE_DIFFERENCES {
            self.complain(&format!("{text}{}\n", more()));
        }
    }
}

/// The first option of a section whose values differ; missing means default. The text says how.
fn first_difference(
    running: &[Setting],
    wanted: &[Setting],
    section: Section,
    which: &dyn Fn(&OptionRow) -> bool,
) -> Option<String> {
    let rows = options::in_section(Dialect::V84, section);
    rows.into_iter().filter(|row| row.scope != Scope::OneShot && which(row)).find_map(|row| {
        let last = |settings: &[Setting]| {
            let of_row = |s: &&Setting| s.section == section && s.row.name == row.name;
            settings.iter().rfind(of_row).map(|s| s.value.clone())
        };
        let (old, new) = (last(running), last(wanted));
        let value = |text: &Option<String>| canonical(row, text.as_deref());
        if value(&old) == value(&new) {
            return None;
        }
        let name = row.name;
        Some(match (old, new) {
            (Some(old), Some(new)) => {
                format!("Value of '{name}' differs: r={old} c={new}")
            }
            (Some(old), None) => format!("Only in running config {name}: {old}"),
            (None, new) => {
                format!("Only in config file {name}: {}", new.unwrap_or_default())
            }
        })
    })
}

/// A value in a form that can be compared; nothing is the default.
fn canonical(row: &OptionRow, text: Option<&str>) -> String {
    let default = row.default_value(Dialect::V84);
    let text = match text {
        Some(text) => text.to_string(),
        None => row.format(&default),
    };
    match row.kind {
        Kind::Number(unit) => match number::parse(&text, unit) {
            Ok(value) => value.to_string(),
            // A name instead of a minor, for instance.
            Err(_) => text,
        },
        Kind::Choice(_) if row.name == "protocol" => text.to_ascii_uppercase(),
        _ => text,
    }
}
