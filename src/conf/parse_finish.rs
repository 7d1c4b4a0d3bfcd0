//! The end of a host section or resource: inheritance, missing statements, unique names.
//! spec/config.md 5.5, 10, 13.2.

use super::model::{Address, HostKind, HostSection, MetaDisk, Resource, Volume};
use super::parser::{Parser, Stop, INHERITED_MAX};
use super::unique::is_loopback;
use super::Dialect;

impl Parser {
    /// Inheritance from the resource level, missing statements, the order of volumes.
    /// `complete`: nothing in it was skipped.
    pub(super) fn finish_host(
        &mut self,
        resource: &mut Resource,
        mut host: HostSection,
        complete: bool,
    ) -> Result<(), Stop> {
        for outer in &resource.volumes {
            self.inherit(&mut host, outer)?;
        }
        if host.lower().is_none() && self.config.dialect == Dialect::V84 {
            for meta in host.volumes.iter().filter_map(|v| v.meta.as_ref()) {
                self.register_meta(&host.hosts, meta)?;
            }
        }
        if self.strict && complete && host.hosts.first().map(String::as_str) != Some("_this_host") {
            self.check_missing(resource, &host);
        }
        host.volumes.sort_by_key(|v| v.number);
        resource.hosts.push(host);
        Ok(())
    }

    fn inherit(&mut self, host: &mut HostSection, outer: &Volume) -> Result<(), Stop> {
        self.inherited += 1;
        self.limit(self.inherited, INHERITED_MAX, "inherited volumes")?;
        if !host.volumes.iter().any(|v| v.number == outer.number) {
            host.volumes.push(Volume {
                number: outer.number,
                // 8.4.4 forgets that such a volume was not written out.
                implicit: outer.implicit && self.config.dialect == Dialect::V83,
                ..Volume::default()
            });
        }
        let Some(at) = host.volumes.iter().position(|v| v.number == outer.number) else {
            return Ok(());
        };
        let volume = &mut host.volumes[at];
        let mut device = None;
        let mut disk = None;
        let mut meta = None;
        if volume.minor.is_none() && volume.device.is_none() && outer.minor.is_some() {
            volume.device.clone_from(&outer.device);
            volume.minor = outer.minor;
            device = Some((outer.device.as_deref(), outer.minor));
        } else if volume.device.is_none() && outer.device.is_some() {
            // Only the name is inherited; the minor stays as it is. spec/config.md 9.
            volume.device.clone_from(&outer.device);
        }
        let stacked = matches!(host.kind, HostKind::Stacked(_));
        if volume.disk.is_none() && !stacked {
            volume.disk.clone_from(&outer.disk);
            disk = outer.disk.as_deref();
        }
        if volume.meta.is_none() && !stacked {
            volume.meta.clone_from(&outer.meta);
            meta = outer.meta.as_ref();
        }
        if let Some((name, minor)) = device {
            self.register_device(&host.hosts, name, minor)?;
        }
        if let Some(disk) = disk {
            self.register_disk(&host.hosts, disk)?;
        }
        if let (Some(meta), Dialect::V83) = (meta, self.config.dialect) {
            self.register_meta(&host.hosts, meta)?;
        }
        Ok(())
    }

    fn check_missing(&mut self, resource: &Resource, host: &HostSection) {
        let stacked = host.lower().is_some();
        let mut missing = Vec::new();
        let of_volume = |volume: &Volume, missing: &mut Vec<&str>| {
            if volume.minor.is_none() && volume.device.is_none() {
                missing.push("device");
            }
            if volume.disk.is_none() && !stacked {
                missing.push("disk");
            }
        };
        match self.config.dialect {
            Dialect::V83 => {
                let nothing = Volume::default();
                let volume = host.first_volume().unwrap_or(&nothing);
                of_volume(volume, &mut missing);
                if host.address.is_none() {
                    missing.push("address");
                }
                if volume.meta.is_none() && !stacked {
                    missing.push("meta-disk");
                }
            }
            Dialect::V84 => {
                if host.address.is_none() {
                    missing.push("address");
                }
                for volume in &host.volumes {
                    of_volume(volume, &mut missing);
                    if volume.meta.is_none() && !stacked {
                        missing.extend(["meta-disk", "meta-index"]);
                    }
                }
            }
        }
        for word in missing {
            let text = format!(
                "in resource {}, on {} {{ ... }}: '{word}' keyword missing.",
                resource.name,
                names_or(&host.hosts, self.config.dialect)
            );
            self.record_missing(host.line, &text);
        }
    }

    /// All host sections of a resource must have the same volumes (8.4).
    pub(super) fn check_volumes(&mut self, resource: &Resource) {
        let Some((first, others)) = resource.hosts.split_first() else {
            return;
        };
        let line = self.lexer.line();
        let has = |host: &HostSection, number| host.volumes.iter().any(|v| v.number == number);
        for other in others {
            let place = format!(
                "in resource {}, on {} {{ ... }}: volume",
                resource.name,
                names_or(&first.hosts, Dialect::V84)
            );
            let theirs = names_or(&other.hosts, Dialect::V84);
            for volume in first.volumes.iter().filter(|v| !has(other, v.number)) {
                let text = format!("{place} {} not defined on {theirs}", volume.number);
                self.record_at(line, &text);
            }
            for volume in other.volumes.iter().filter(|v| !has(first, v.number)) {
                let text = format!("{place} {} missing (present on {theirs})", volume.number);
                self.record_at(line, &text);
            }
        }
    }

    pub(super) fn register_statement(
        &mut self,
        resource: &Resource,
        host: &HostSection,
        word: &str,
    ) -> Result<(), Stop> {
        for name in &host.hosts {
            let key = format!("{}:{name}:{word}", resource.name);
            self.register(&format!("{word} statement"), &key)?;
        }
        Ok(())
    }

    pub(super) fn register_device(
        &mut self,
        hosts: &[String],
        name: Option<&str>,
        minor: Option<u32>,
    ) -> Result<(), Stop> {
        for host in hosts {
            if let Some(minor) = minor {
                self.register("device-minor", &format!("device-minor:{host}:{minor}"))?;
            }
            if let Some(name) = name {
                self.register("device", &format!("device:{host}:{name}"))?;
            }
        }
        Ok(())
    }

    pub(super) fn register_disk(&mut self, hosts: &[String], disk: &str) -> Result<(), Stop> {
        for host in hosts {
            self.register("disk", &format!("disk:{host}:{disk}"))?;
        }
        Ok(())
    }

    pub(super) fn register_meta(&mut self, hosts: &[String], meta: &MetaDisk) -> Result<(), Stop> {
        if meta.is_internal() {
            return Ok(());
        }
        for host in hosts {
            let key = format!("{host}:{}[{}]", meta.device, meta.index);
            self.register("meta-disk", &key)?;
        }
        Ok(())
    }

    pub(super) fn register_address(&mut self, hosts: &[String], address: &Address) -> Result<(), Stop> {
        let key = format!("{}:{}", address.address, address.port);
        if !is_loopback(&address.address) {
            return self.register("IP", &key);
        }
        for host in hosts {
            self.register("IP", &format!("{host}:{key}"))?;
        }
        Ok(())
    }
}

/// Host names; a stacked section has none yet: 8.4 says so, 8.3 prints nothing useful.
pub(super) fn names_or(hosts: &[String], dialect: Dialect) -> String {
    match (hosts.is_empty(), dialect) {
        (true, Dialect::V84) => "UNKNOWN".to_string(),
        _ => hosts.join(" "),
    }
}
