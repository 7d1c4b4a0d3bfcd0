//! Host sections: `on`, `floating`, `stacked-on-top-of`, and the proxy in them. spec/config.md 3, 5.4.

use super::explain::Place;
use super::model::{Address, HostKind, HostSection, Proxy, Resource};
use super::options::Section;
use super::parse_finish::names_or;
use super::parser::{Parser, Stop, EXIT_INVALID, LIST_MAX};
use super::token::{Token, TokenKind};
use super::Dialect;

impl Parser {
    /// The body of `on`, `floating`, `_this_host`, `_remote_host`, behind its brace.
    pub(super) fn host_section(
        &mut self,
        resource: &mut Resource,
        kind: HostKind,
        hosts: Vec<String>,
        address: Option<Address>,
    ) -> Result<(), Stop> {
        let mut host = new_host(kind, hosts, address, self.section_line);
        let errors = self.errors;
        loop {
            let token = self.next();
            self.statement_line = token.line;
            if token.is(b'}') {
                // What an error has hidden is not missing.
                let complete = !self.reading.recovers || self.errors == errors;
                return self.finish_host(resource, host, complete);
            }
            let result = self.host_statement(resource, &mut host, &token);
            self.recover(token.at, true, result)?;
        }
    }

    fn host_statement(
        &mut self,
        resource: &Resource,
        host: &mut HostSection,
        token: &Token,
    ) -> Result<(), Stop> {
        match token.keyword() {
            "disk" => {
                self.register_statement(resource, host, "disk")?;
                self.host_disk(host)?;
            }
            "device" => {
                self.register_statement(resource, host, "device")?;
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
                    self.errors += 1;
                    self.say(line, "address statement not allowed for floating {} host sections");
                    return Err(Stop(EXIT_INVALID));
                }
                self.register_statement(resource, host, "address")?;
                host.address = Some(self.host_address(&host.hosts)?);
            }
            "alternate-link-address" => {
                host.alternate = Some(self.endpoint()?);
                self.expect(b';')?;
            }
            "meta-disk" | "flexible-meta-disk" => {
                self.register_statement(resource, host, "meta-disk")?;
                let meta = self.meta_disk(token.text == "flexible-meta-disk")?;
                if self.config.dialect == Dialect::V83 {
                    self.register_meta(&host.hosts, &meta)?;
                }
                self.implicit(&mut host.volumes).meta = Some(meta);
            }
            "proxy" => host.proxy = Some(self.proxy(&host.hosts)?),
            "volume" => self.volume(&mut host.volumes, &host.hosts)?,
            "options" => {
                self.expect(b'{')?;
                host.options.extend(self.options(Section::Options)?.settings);
                self.limit(host.options.len(), LIST_MAX, "options")?;
            }
            _ => {
                let expected = "disk | device | address | meta-disk | flexible-meta-disk";
                return Err(self.unknown(token, Place::Host, expected, false));
            }
        }
        Ok(())
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
    pub(super) fn stacked(&mut self, resource: &mut Resource) -> Result<(), Stop> {
        let lower = self.expect_string()?;
        self.register("stacked-on-top-of", &format!("stacked:{lower}"))?;
        self.expect(b'{')?;
        self.section_line = self.lexer.line();
        let line = self.section_line;
        let mut host = new_host(HostKind::Stacked(lower), Vec::new(), None, line);
        let errors = self.errors;
        loop {
            let token = self.next();
            if token.is(b'}') {
                let complete = !self.reading.recovers || self.errors == errors;
                return self.finish_host(resource, host, complete);
            }
            let result = self.stacked_statement(&mut host, &token);
            self.recover(token.at, true, result)?;
        }
    }

    fn stacked_statement(&mut self, host: &mut HostSection, token: &Token) -> Result<(), Stop> {
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
            "proxy" => host.proxy = Some(self.proxy(&[])?),
            "volume" => self.volume(&mut host.volumes, &[])?,
            _ => return Err(self.unknown(token, Place::Stacked, "device | address | proxy", false)),
        }
        Ok(())
    }

    /// `proxy on HOSTS { inside …; outside …; }`, behind `proxy`.
    fn proxy(&mut self, hosts: &[String]) -> Result<Proxy, Stop> {
        let on = self.next();
        if on.keyword() != "on" {
            return Err(self.unexpected(&on, "TK_ON", true));
        }
        let mut proxy = Proxy { hosts: self.hosts(b'{')?, ..Proxy::default() };
        loop {
            let token = self.next();
            if token.is(b'}') {
                break;
            }
            let result = self.proxy_statement(hosts, &mut proxy, &token);
            self.recover(token.at, true, result)?;
        }
        for (address, word) in [(&proxy.inside, "inside"), (&proxy.outside, "outside")] {
            if address.is_none() && self.strict {
                let text = format!(
                    "in section: on {} {{ proxy on {} {{ ... }} }}: '{word}' keyword missing.",
                    names_or(hosts, self.config.dialect),
                    proxy.hosts.join(" ")
                );
                let line = self.section_line;
                self.record_at(line, &text);
            }
        }
        Ok(proxy)
    }

    fn proxy_statement(&mut self, hosts: &[String], proxy: &mut Proxy, token: &Token) -> Result<(), Stop> {
        match token.keyword() {
            "inside" => proxy.inside = Some(self.host_address(hosts)?),
            "outside" => proxy.outside = Some(self.host_address(hosts)?),
            "options" => {
                self.expect(b'{')?;
                let parsed = self.options(Section::Proxy)?;
                proxy.options.extend(parsed.settings);
                proxy.plugins.extend(parsed.plugins);
                self.limit(proxy.options.len().max(proxy.plugins.len()), LIST_MAX, "options")?;
            }
            _ => return Err(self.unknown(token, Place::ProxyHost, "inside | outside", false)),
        }
        Ok(())
    }
}

pub(super) fn new_host(
    kind: HostKind,
    hosts: Vec<String>,
    address: Option<Address>,
    line: u32,
) -> HostSection {
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
