//! Resource bodies and volumes. spec/config.md 3, 5, 10, 13.

use super::explain::Place;
use super::model::{HostKind, Resource, Setting, Volume};
use super::options::{self, Section};
use super::parse_host::new_host;
use super::parse_statements::leading_number;
use super::parser::{Parser, Stop, LIST_MAX, VOLUMES_MAX};
use super::token::{Token, TokenKind};
use super::Dialect;

/// What the parse error in a resource names.
const RESOURCE_STATEMENTS: &str =
    "protocol | on | disk | net | syncer | startup | handlers | ignore-on | stacked-on-top-of";

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
            if self.recovers() && matches!(token.keyword(), "resource" | "common" | "global") {
                // The brace that ends this resource is missing: what follows is the next one.
                self.unexpected(&token, RESOURCE_STATEMENTS, true);
                self.config.valid = false;
                self.advise("the '}' that ends the section before it is missing");
                self.push_back(token);
                break;
            }
            let result = self.resource_statement(&mut resource, &token);
            self.recover(token.at, true, result)?;
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
                self.note(line, &text);
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
            _ => return Err(self.unknown(token, Place::Resource, RESOURCE_STATEMENTS, true)),
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
            let line = self.statement_line;
            resource.settings.push(Setting { section: Section::Net, row, value, is_default: false, line });
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
        let key = format!("{}:{}", address.address, address.port);
        self.register("IP", &key)?;
        let key = format!("{}: on {}", resource.name, hosts[0]);
        self.register("host section", &key)?;
        let next = self.next();
        if next.is(b';') {
            let host = new_host(HostKind::Floating, hosts, Some(address), self.section_line);
            return self.finish_host(resource, host, true);
        }
        if !next.is(b'{') {
            return Err(self.unexpected(&next, "{ | ;", true));
        }
        self.host_section(resource, HostKind::Floating, hosts, Some(address))
    }

    /// `volume INT { … }`, behind `volume`. `hosts`: of the host section, empty at resource level.
    pub(super) fn volume(&mut self, volumes: &mut Vec<Volume>, hosts: &[String]) -> Result<(), Stop> {
        // From the first volume on it is a file of 8.4. spec/decisions.md 1.2.
        self.config.dialect = Dialect::V84;
        let text = self.expect_integer()?;
        let number = leading_number(&text);
        self.expect(b'{')?;
        let mut volume = Volume { number, ..Volume::default() };
        loop {
            let token = self.next();
            self.statement_line = token.line;
            if token.is(b'}') {
                break;
            }
            let result = self.volume_statement(hosts, &mut volume, &token);
            self.recover(token.at, true, result)?;
        }
        // Of a number given twice the first is used.
        if !volumes.iter().any(|v| v.number == number) {
            volumes.push(volume);
        }
        self.volumes += 1;
        self.limit(self.volumes, VOLUMES_MAX, "volumes in all")?;
        self.limit(volumes.len(), LIST_MAX, "volumes")
    }

    fn volume_statement(&mut self, hosts: &[String], volume: &mut Volume, token: &Token) -> Result<(), Stop> {
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
                    self.limit(volume.options.len(), LIST_MAX, "options")?;
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
            _ => {
                let expected = "device | disk | meta-disk | flex-meta-disk | }";
                return Err(self.unknown(token, Place::Volume, expected, true));
            }
        }
        Ok(())
    }

    /// The implicit volume 0.
    pub(super) fn implicit<'a>(&mut self, volumes: &'a mut Vec<Volume>) -> &'a mut Volume {
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
}
