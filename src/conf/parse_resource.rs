//! Resource bodies, host sections, volumes. spec/config.md 3, 5, 10, 13.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::model::{Address, HostKind, HostSection, MetaDisk, Proxy, Resource, Setting, Volume};
use super::number::Unit;
use super::options::{self, Section};
use super::parser::{Parser, Stop, EXIT_INVALID};
use super::token::{Token, TokenKind};
use super::unique::is_loopback;
use super::Dialect;

/// What DRBD's block devices have as major number.
const DRBD_MAJOR: u64 = 147;

/// A `device` statement.
#[derive(Debug, Default)]
struct Device {
    name: Option<String>,
    minor: Option<u32>,
}

impl Parser {
    /// Behind the opening brace. The end of the file ends it too.
    pub(super) fn resource_body(&mut self, name: String) -> Result<Resource, Stop> {
        let mut resource =
            Resource { name, file: self.file.clone(), line: self.lexer.line(), ..Resource::default() };
        loop {
            let token = self.next();
            self.statement_line = token.line;
            if token.is(b'}') || token.kind == TokenKind::End {
                break;
            }
            self.resource_statement(&mut resource, &token)?;
        }
        if self.config.dialect == Dialect::V84 && self.strict {
            self.check_volumes(&resource);
        }
        Ok(resource)
    }

    fn resource_statement(&mut self, resource: &mut Resource, token: &Token) -> Result<(), Stop> {
        let section = match token.keyword() {
            "protocol" => return self.protocol(resource),
            "on" => {
                let hosts = self.hosts(b'{')?;
                for host in &hosts {
                    let key = format!("{}: on {host}", resource.name);
                    self.register("host section", &key)?;
                }
                self.section_line = self.lexer.line();
                return self.host_section(resource, HostKind::On, hosts, None);
            }
            "_this_host" | "_remote_host" => {
                self.expect(b'{')?;
                self.section_line = self.lexer.line();
                let hosts = vec![token.text.clone()];
                return self.host_section(resource, HostKind::On, hosts, None);
            }
            "floating" => return self.floating(resource, token.line),
            "stacked-on-top-of" => return self.stacked(resource),
            "ignore-on" => {
                let line = token.line;
                self.expect_string()?;
                self.expect(b';')?;
                let text =
                    format!("in resource {}, WARN: The 'ignore-on' keyword is deprecated.", resource.name);
                self.say(line, &text);
                return Ok(());
            }
            "disk" => {
                let next = self.next();
                if next.is(b'{') {
                    return self.section(resource, Section::Disk);
                }
                if next.kind != TokenKind::String {
                    return Err(self.no_string(&next, "TK_STRING | {"));
                }
                self.expect(b';')?;
                self.implicit(&mut resource.volumes).disk = Some(next.text);
                return Ok(());
            }
            "device" => {
                let key = format!("{}:device", resource.name);
                self.register("device statement", &key)?;
                if let Some(device) = self.device()? {
                    let volume = self.implicit(&mut resource.volumes);
                    volume.device = device.name;
                    volume.minor = device.minor;
                }
                return Ok(());
            }
            "meta-disk" | "flexible-meta-disk" => {
                let meta = self.meta_disk(token.text == "flexible-meta-disk")?;
                self.implicit(&mut resource.volumes).meta = Some(meta);
                return Ok(());
            }
            "volume" => return self.volume(&mut resource.volumes, &[]),
            "net" => Section::Net,
            "syncer" => Section::Syncer,
            "handlers" => Section::Handlers,
            "startup" => Section::Startup,
            "proxy" => Section::Proxy,
            "options" => Section::Options,
            _ => {
                return Err(self.unexpected(
                    token,
                    "protocol | on | disk | net | syncer | startup | handlers | ignore-on | \
                     stacked-on-top-of",
                    true,
                ))
            }
        };
        self.expect(b'{')?;
        self.section(resource, section)
    }

    /// An option section of a resource, behind its brace.
    fn section(&mut self, resource: &mut Resource, section: Section) -> Result<(), Stop> {
        let (what, key) = match section {
            Section::Options => ("resource options section".to_string(), "res_options"),
            _ => (format!("{} section", section.word()), section.word()),
        };
        let key = format!("{}:{key}", resource.name);
        self.register(&what, &key)?;
        self.section_line = self.lexer.line();
        let parsed = self.options(section)?;
        resource.settings.extend(parsed.settings);
        if !parsed.become_primary_on.is_empty() {
            resource.become_primary_on = parsed.become_primary_on;
        }
        resource.plugins.extend(parsed.plugins);
        Ok(())
    }

    fn protocol(&mut self, resource: &mut Resource) -> Result<(), Stop> {
        let key = format!("{}: protocol", resource.name);
        self.register("protocol statement", &key)?;
        let value = self.expect_string()?;
        self.expect(b';')?;
        self.check_protocol(&value);
        if let Some(row) = options::find("protocol") {
            resource.settings.push(Setting { section: Section::Net, row, value, is_default: false });
        }
        Ok(())
    }

    fn floating(&mut self, resource: &mut Resource, line: u32) -> Result<(), Stop> {
        self.section_line = line;
        let address = self.endpoint()?;
        let host = match address.family {
            "ipv6" => format!("ipv6 {}", address.with_port()),
            _ => address.with_port(),
        };
        let hosts = vec![host];
        let key = format!("{}: on {}", resource.name, hosts[0]);
        self.register("host section", &key)?;
        let key = format!("{}:{}", address.address, address.port);
        self.register("IP", &key)?;
        let next = self.next();
        if next.is(b';') {
            let host = new_host(HostKind::Floating, hosts, Some(address), self.section_line);
            return self.finish_host(resource, host);
        }
        if !next.is(b'{') {
            return Err(self.unexpected(&next, "{ | ;", true));
        }
        self.host_section(resource, HostKind::Floating, hosts, Some(address))
    }

    /// The body of `on`, `floating`, `_this_host`, `_remote_host`, behind its brace.
    fn host_section(
        &mut self,
        resource: &mut Resource,
        kind: HostKind,
        hosts: Vec<String>,
        address: Option<Address>,
    ) -> Result<(), Stop> {
        let mut host = new_host(kind, hosts, address, self.section_line);
        loop {
            let token = self.next();
            self.statement_line = token.line;
            match token.keyword() {
                "disk" => {
                    self.register_statement(resource, &host, "disk")?;
                    self.host_disk(&mut host)?;
                }
                "device" => {
                    self.register_statement(resource, &host, "device")?;
                    if let Some(device) = self.device()? {
                        self.register_device(&host.hosts, device.name.as_deref(), device.minor)?;
                        let volume = self.implicit(&mut host.volumes);
                        volume.device = device.name;
                        volume.minor = device.minor;
                    }
                }
                "address" => {
                    if host.kind == HostKind::Floating {
                        let line = self.statement_line;
                        self.say(line, "address statement not allowed for floating {} host sections");
                        return Err(Stop(EXIT_INVALID));
                    }
                    self.register_statement(resource, &host, "address")?;
                    host.address = Some(self.host_address(&host.hosts)?);
                }
                "alternate-link-address" => {
                    host.alternate = Some(self.endpoint()?);
                    self.expect(b';')?;
                }
                "meta-disk" | "flexible-meta-disk" => {
                    self.register_statement(resource, &host, "meta-disk")?;
                    let meta = self.meta_disk(token.text == "flexible-meta-disk")?;
                    if self.config.dialect == Dialect::V83 {
                        self.register_meta(&host.hosts, &meta)?;
                    }
                    self.implicit(&mut host.volumes).meta = Some(meta);
                }
                "proxy" => host.proxy = Some(self.proxy(resource, &host.hosts)?),
                "volume" => self.volume(&mut host.volumes, &host.hosts)?,
                "options" => {
                    self.expect(b'{')?;
                    host.options.extend(self.options(Section::Options)?.settings);
                }
                _ if token.is(b'}') => return self.finish_host(resource, host),
                _ => {
                    return Err(self.unexpected(
                        &token,
                        "disk | device | address | meta-disk | flexible-meta-disk",
                        false,
                    ))
                }
            }
        }
    }

    fn host_disk(&mut self, host: &mut HostSection) -> Result<(), Stop> {
        let next = self.next();
        if next.is(b'{') {
            let parsed = self.options(Section::Disk)?;
            self.implicit(&mut host.volumes).options.extend(parsed.settings);
            return Ok(());
        }
        if next.kind != TokenKind::String {
            let expected = match self.config.dialect {
                Dialect::V83 => "TK_STRING",
                Dialect::V84 => "TK_STRING | {",
            };
            return Err(self.no_string(&next, expected));
        }
        self.expect(b';')?;
        if self.config.dialect == Dialect::V83 {
            self.register_disk(&host.hosts, &next.text)?;
        }
        self.implicit(&mut host.volumes).disk = Some(next.text);
        Ok(())
    }

    fn host_address(&mut self, hosts: &[String]) -> Result<Address, Stop> {
        let address = self.endpoint()?;
        self.expect(b';')?;
        self.register_address(hosts, &address)?;
        Ok(address)
    }

    /// `stacked-on-top-of STRING {`: device, address, proxy; a volume has one device.
    fn stacked(&mut self, resource: &mut Resource) -> Result<(), Stop> {
        let lower = self.expect_string()?;
        self.register("stacked-on-top-of", &format!("stacked:{lower}"))?;
        self.expect(b'{')?;
        self.section_line = self.lexer.line();
        let line = self.section_line;
        let mut host = new_host(HostKind::Stacked(lower), Vec::new(), None, line);
        loop {
            let token = self.next();
            match token.keyword() {
                "device" => {
                    if let Some(device) = self.device()? {
                        let volume = self.implicit(&mut host.volumes);
                        volume.device = device.name;
                        volume.minor = device.minor;
                    }
                }
                "address" => host.address = Some(self.host_address(&[])?),
                "alternate-link-address" => {
                    host.alternate = Some(self.endpoint()?);
                    self.expect(b';')?;
                }
                "proxy" => host.proxy = Some(self.proxy(resource, &[])?),
                "volume" => self.volume(&mut host.volumes, &[])?,
                _ if token.is(b'}') => return self.finish_host(resource, host),
                _ => return Err(self.unexpected(&token, "device | address | proxy", false)),
            }
        }
    }

    /// `proxy on HOSTS { inside …; outside …; }`, behind `proxy`.
    fn proxy(&mut self, resource: &Resource, hosts: &[String]) -> Result<Proxy, Stop> {
        let on = self.next();
        if on.keyword() != "on" {
            return Err(self.unexpected(&on, "TK_ON", true));
        }
        let mut proxy = Proxy { hosts: self.hosts(b'{')?, ..Proxy::default() };
        loop {
            let token = self.next();
            match token.keyword() {
                "inside" => proxy.inside = Some(self.host_address(hosts)?),
                "outside" => proxy.outside = Some(self.host_address(hosts)?),
                "options" => {
                    self.expect(b'{')?;
                    proxy.options.extend(self.options(Section::Proxy)?.settings);
                }
                _ if token.is(b'}') => break,
                _ => return Err(self.unexpected(&token, "inside | outside", false)),
            }
        }
        for (address, word) in [(&proxy.inside, "inside"), (&proxy.outside, "outside")] {
            if address.is_none() && self.strict {
                let text = format!(
                    "in section: on {} {{ proxy on {} {{ ... }} }}: '{word}' keyword missing.",
                    names_or(hosts, self.config.dialect),
                    proxy.hosts.join(" ")
                );
                let line = self.section_line;
                let _ = resource;
                self.record_at(line, &text);
            }
        }
        Ok(proxy)
    }

    /// `volume INT { … }`, behind `volume`. `hosts`: of the host section, empty at resource level.
    fn volume(&mut self, volumes: &mut Vec<Volume>, hosts: &[String]) -> Result<(), Stop> {
        // From the first volume on it is a file of 8.4. spec/decisions.md 1.2.
        self.config.dialect = Dialect::V84;
        let text = self.expect_integer()?;
        let number = leading_number(&text);
        self.expect(b'{')?;
        let mut volume = Volume { number, ..Volume::default() };
        loop {
            let token = self.next();
            self.statement_line = token.line;
            match token.keyword() {
                "device" => {
                    if let Some(device) = self.device()? {
                        self.register_device(hosts, device.name.as_deref(), device.minor)?;
                        volume.device = device.name;
                        volume.minor = device.minor;
                    }
                }
                "disk" => {
                    let next = self.next();
                    if next.is(b'{') {
                        volume.options.extend(self.options(Section::Disk)?.settings);
                    } else if next.kind == TokenKind::String {
                        self.expect(b';')?;
                        volume.disk = Some(next.text);
                    } else {
                        return Err(self.no_string(&next, "TK_STRING | {"));
                    }
                }
                "meta-disk" | "flexible-meta-disk" => {
                    volume.meta = Some(self.meta_disk(token.text == "flexible-meta-disk")?);
                }
                _ if token.is(b'}') => break,
                _ => {
                    return Err(self.unexpected(
                        &token,
                        "device | disk | meta-disk | flex-meta-disk | }",
                        true,
                    ))
                }
            }
        }
        // Of a number given twice the first is used.
        if !volumes.iter().any(|v| v.number == number) {
            volumes.push(volume);
        }
        Ok(())
    }

    /// The implicit volume 0.
    fn implicit<'a>(&mut self, volumes: &'a mut Vec<Volume>) -> &'a mut Volume {
        if volumes.iter().any(|v| !v.implicit) && self.strict {
            let line = self.lexer.line();
            self.record_at(line, "Explicit and implicit volumes not allowed");
        }
        match volumes.iter().position(|v| v.number == 0) {
            Some(at) => &mut volumes[at],
            None => {
                volumes.push(Volume { implicit: true, ..Volume::default() });
                let last = volumes.len() - 1;
                &mut volumes[last]
            }
        }
    }

    /// Behind `device`: `STRING [minor INT] ;` or `minor INT ;`. Another token is swallowed and
    /// counts as no statement. spec/config.md 13.1.
    fn device(&mut self) -> Result<Option<Device>, Stop> {
        let first = self.next();
        let mut device = Device::default();
        if first.keyword() == "minor" {
            device.minor = Some(leading_number(&self.expect_integer()?));
            self.expect(b';')?;
            return Ok(Some(device));
        }
        if first.kind != TokenKind::String {
            return Ok(None);
        }
        let name = match first.text.starts_with("drbd") {
            true => format!("/dev/{}", first.text),
            false => first.text,
        };
        let line = self.statement_line;
        let suffix = name.strip_prefix("/dev/drbd");
        if suffix.is_none() {
            self.record_at(
                line,
                "device name must start with /dev/drbd\n\t(/dev/ is optional, but drbd is required)",
            );
        }
        let next = self.next();
        if next.keyword() == "minor" {
            let minor = leading_number(&self.expect_integer()?);
            self.expect(b';')?;
            device.minor = Some(minor);
            match suffix {
                Some(digits) if is_digits(digits) && leading_number(digits) != minor => self.record_at(
                    line,
                    &format!(
                        "explicit minor number must match with device name\n\
                             \tTry \"device /dev/drbd{minor} minor {minor};\",\n\
                             \tor leave off either device name or explicit minor.\n\
                             \tArbitrary device names must start with /dev/drbd_\n\
                             \tmind the '_'! (/dev/ is optional, but drbd_ is required)"
                    ),
                ),
                Some(suffix) if !is_digits(suffix) && !suffix.starts_with('_') => self.record_at(
                    line,
                    "arbitrary device name must start with /dev/drbd_\n\
                     \tmind the '_'! (/dev/ is optional, but drbd_ is required)",
                ),
                _ => {}
            }
        } else if next.is(b';') {
            device.minor = match suffix {
                Some(digits) if is_digits(digits) => Some(leading_number(digits)),
                _ => minor_of_node(&name),
            };
            if device.minor.is_none() {
                self.record_at(line, "no minor given nor device name contains a minor number");
                // The statement is there; only its number is not.
                device.minor = Some(0);
                device.name = Some(name);
                return Ok(Some(device));
            }
        } else {
            return Err(self.unexpected(&next, "minor | ;", false));
        }
        device.name = Some(name);
        Ok(Some(device))
    }

    /// Behind `meta-disk` or `flexible-meta-disk`.
    fn meta_disk(&mut self, flexible: bool) -> Result<MetaDisk, Stop> {
        let device = self.expect_string()?;
        let made = |index: &str| MetaDisk { device: device.clone(), index: index.to_string() };
        if device == "internal" {
            self.expect(b';')?;
            return Ok(made("internal"));
        }
        let next = self.next();
        if flexible {
            self.check(&next, b';')?;
            return Ok(made("flexible"));
        }
        if next.is(b';') {
            // 8.3 refuses this; decisions: what one dialect accepts is accepted.
            return Ok(made("flexible"));
        }
        if !next.is(b'[') {
            return Err(match self.config.dialect {
                Dialect::V83 => self.unexpected(&next, "[", true),
                Dialect::V84 => self.unexpected(&next, "[ | ;", false),
            });
        }
        let index = self.expect_integer()?;
        self.expect(b']')?;
        self.expect(b';')?;
        Ok(made(&index))
    }

    /// `[FAMILY] ADDR:PORT`.
    pub(super) fn endpoint(&mut self) -> Result<Address, Stop> {
        let first = self.next();
        let (family, address) = match first.keyword() {
            "ipv6" => {
                self.expect(b'[')?;
                let address = self.next();
                if address.kind != TokenKind::Ipv6 {
                    return Err(self.unexpected(&address, "TK_IPADDR6", true));
                }
                self.expect(b']')?;
                ("ipv6", address.text)
            }
            "ipv4" => ("ipv4", self.ipv4()?),
            "sdp" => ("sdp", self.ipv4()?),
            "ssocks" | "sci" => ("ssocks", self.ipv4()?),
            _ if first.kind == TokenKind::Ipv4 => ("ipv4", first.text),
            _ => return Err(self.unexpected(&first, "ssocks | sdp | ipv4 | ipv6 | <ipv4 address> ", false)),
        };
        self.expect(b':')?;
        let port = self.expect_integer()?;
        let value = self.number(&port, Unit::One)?;
        if !(1..=65535).contains(&value) && self.strict {
            let line = self.statement_line;
            let text = format!("port {port} => {value} out of range [1..65535].");
            // The original checks it twice.
            self.record_at(line, &text);
            self.record_at(line, &text);
        }
        Ok(Address { family, address, port })
    }

    fn ipv4(&mut self) -> Result<String, Stop> {
        let token = self.next();
        match token.kind {
            TokenKind::Ipv4 => Ok(token.text),
            _ => Err(self.unexpected(&token, "TK_IPADDR", true)),
        }
    }

    /// Inheritance from the resource level, missing statements, the order of volumes.
    fn finish_host(&mut self, resource: &mut Resource, mut host: HostSection) -> Result<(), Stop> {
        if host.lower().is_none() {
            for outer in &resource.volumes {
                self.inherit(&mut host, outer)?;
            }
            if self.config.dialect == Dialect::V84 {
                for meta in host.volumes.iter().filter_map(|v| v.meta.as_ref()) {
                    self.register_meta(&host.hosts, meta)?;
                }
            }
        }
        if self.strict && host.hosts.first().map(String::as_str) != Some("_this_host") {
            self.check_missing(resource, &host);
        }
        host.volumes.sort_by_key(|v| v.number);
        resource.hosts.push(host);
        Ok(())
    }

    fn inherit(&mut self, host: &mut HostSection, outer: &Volume) -> Result<(), Stop> {
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
        if volume.disk.is_none() {
            volume.disk.clone_from(&outer.disk);
            disk = outer.disk.as_deref();
        }
        if volume.meta.is_none() {
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
            self.record_at(host.line, &text);
        }
    }

    /// All host sections of a resource must have the same volumes (8.4).
    fn check_volumes(&mut self, resource: &Resource) {
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

    fn register_statement(
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

    fn register_device(
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

    fn register_disk(&mut self, hosts: &[String], disk: &str) -> Result<(), Stop> {
        for host in hosts {
            self.register("disk", &format!("disk:{host}:{disk}"))?;
        }
        Ok(())
    }

    fn register_meta(&mut self, hosts: &[String], meta: &MetaDisk) -> Result<(), Stop> {
        if meta.is_internal() {
            return Ok(());
        }
        for host in hosts {
            let key = format!("{host}:{}[{}]", meta.device, meta.index);
            self.register("meta-disk", &key)?;
        }
        Ok(())
    }

    fn register_address(&mut self, hosts: &[String], address: &Address) -> Result<(), Stop> {
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

fn new_host(kind: HostKind, hosts: Vec<String>, address: Option<Address>, line: u32) -> HostSection {
    HostSection {
        kind,
        hosts,
        volumes: Vec::new(),
        address,
        alternate: None,
        proxy: None,
        options: Vec::new(),
        line,
    }
}

/// Host names; a stacked section has none yet: 8.4 says so, 8.3 prints nothing useful.
fn names_or(hosts: &[String], dialect: Dialect) -> String {
    match (hosts.is_empty(), dialect) {
        (true, Dialect::V84) => "UNKNOWN".to_string(),
        _ => hosts.join(" "),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// As atoi(3): the digits at the start, 0 without any; what does not fit saturates.
fn leading_number(text: &str) -> u32 {
    text.bytes()
        .take_while(u8::is_ascii_digit)
        .fold(0u32, |value, digit| value.saturating_mul(10).saturating_add(u32::from(digit - b'0')))
}

/// The minor of an existing DRBD block device.
fn minor_of_node(name: &str) -> Option<u32> {
    let meta = std::fs::metadata(name).ok()?;
    if !meta.file_type().is_block_device() || nix::sys::stat::major(meta.rdev()) != DRBD_MAJOR {
        return None;
    }
    u32::try_from(nix::sys::stat::minor(meta.rdev())).ok()
}
