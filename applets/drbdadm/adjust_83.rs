//! adjust in 8.3's way: three flags. spec/drbdadm.md 7.

use drbdbox::conf::model::{Resource, Setting};
use drbdbox::conf::number::{self, Unit};
use drbdbox::conf::options::{Kind, Scope, Section};
use drbdbox::conf::Dialect;

use super::adjust::{address_differs, disks_differ};
use super::deferred::Phase;
use super::net::target;
use super::session::{Exit, Session};

impl Session {
    /// Compares and collects.
    pub fn adjust_83(&mut self, at: usize) -> Result<u8, Exit> {
        let running = self.running_resource(at)?.unwrap_or_default();
        let here = running.hosts.iter().find(|h| h.names("") == "_this_host");
        let running_volume = here.and_then(|h| h.first_volume());
        let wanted = self.volume(at, 0)?;

        let attach = self.differ(at, &running, Section::Disk)?
            || running_volume.and_then(|v| v.minor) != wanted.minor
            || disks_differ(running_volume, wanted);
        let running_protocol = running.protocol().map(str::to_string);
        let connect = self.differ(at, &running, Section::Net)?
            || self.addresses_differ(at, &running)?
            || running_protocol.as_deref() != self.resource(at).protocol();
        let mut syncer = self.differ(at, &running, Section::Syncer)?;
        if !attach && !connect && !syncer {
            syncer = self.link_is_wrong(at)?;
        }
        self.adjust_proxy(at)?;
        let has_disk = running_volume.is_some_and(|v| v.disk.is_some());
        if attach {
            if has_disk {
                self.defer(Phase::Disk83, "detach", at, move |s| s.detach(at, 0));
            }
            self.defer(Phase::Disk83, "attach", at, move |s| s.attach(at, 0));
        }
        if syncer {
            self.defer(Phase::Resource, "syncer", at, move |s| s.syncer(at));
        }
        if connect {
            if running_protocol.is_some() && self.resource(at).peer.is_some() {
                self.defer(Phase::Disk83, "disconnect", at, move |s| s.disconnect(at));
            }
            self.defer(Phase::Net, "connect", at, move |s| s.connect(at));
        }
        Ok(0)
    }

    fn addresses_differ(&self, at: usize, running: &Resource) -> Result<bool, Exit> {
        let section = |name: &str| running.hosts.iter().find(|h| h.names("") == name);
        let here = section("_this_host").and_then(|h| h.address.as_ref());
        let there = section("_remote_host").and_then(|h| h.address.as_ref());
        let me = self.me(at)?;
        let Some(peer) = self.resource(at).peer_host() else {
            return Ok(there.is_some());
        };
        Ok(here.is_none()
            || address_differs(here, me.address.as_ref())
            || address_differs(there, target(me, peer)))
    }

    /// Whether the options of a section differ.
    fn differ(&self, at: usize, running: &Resource, section: Section) -> Result<bool, Exit> {
        let mut wanted = self.resource(at).settings.clone();
        if !self.volume(at, 0)?.options.is_empty() {
            wanted.retain(|s| s.section != Section::Disk);
            wanted.extend(self.disk_settings(at, 0)?);
        }
        Ok(settings_differ(&running.settings, &wanted, section))
    }
}

/// Every running option must be in the file with an equal value, or be a default; every option of
/// the file must be running.
fn settings_differ(running: &[Setting], wanted: &[Setting], section: Section) -> bool {
    let of_section = |settings: &[Setting]| -> Vec<Setting> {
        settings
            .iter()
            .filter(|s| s.section_in(Dialect::V83) == section && s.row.name != "protocol")
            // What 8.3's show cannot tell must not look like a difference: adjust would detach.
            .filter(|s| s.row.old.is_some() && s.row.scope != Scope::Historic)
            .filter(|s| s.printed(Dialect::V83).is_some())
            .cloned()
            .collect()
    };
    let (running, wanted) = (of_section(running), of_section(wanted));
    let mut marked = vec![false; wanted.len()];
    for setting in &running {
        match wanted.iter().position(|w| w.row.name == setting.row.name) {
            Some(found) => {
                if !values_equal(setting, &wanted[found]) {
                    return true;
                }
                marked[found] = true;
            }
            None if !setting.is_default => return true,
            None => {}
        }
    }
    !marked.iter().all(|m| *m)
}

/// Switches are equal; numbers by value, where a bare one counts ones; everything else by text.
fn values_equal(a: &Setting, b: &Setting) -> bool {
    if a.row.kind == Kind::Flag {
        return a.value == b.value;
    }
    let number = |text: &str| number::parse(text, Unit::One).ok();
    match (number(&a.value), number(&b.value)) {
        (Some(a), Some(b)) => a == b,
        _ => a.value == b.value,
    }
}
