//! `drbdadm dump`: the configuration as text that can be read again. spec/drbdadm.md 11.1, 14.5.

use super::model::{
    section_of, Address, Config, Global, HostKind, HostSection, Proxy, Resource, Setting, Volume,
};
use super::options::{self, Section};
use super::value::Value;
use super::Dialect;

/// Quotes a value as 8.3 and 8.4.4 do: only if it has a blank, TAB or backslash, or is empty.
/// Other texts that need quotes to be read again (a keyword, a `;`) stay as they are.
pub fn quote(text: &str) -> String {
    if text.is_empty() {
        return "\"\"".to_string();
    }
    if !text.contains([' ', '\t', '\\']) {
        return text.to_string();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// Lines with an indentation.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub text: String,
    pub level: usize,
}

impl Writer {
    pub fn line(&mut self, text: &str) {
        for _ in 0..self.level {
            self.text.push_str("    ");
        }
        self.text.push_str(text);
        self.text.push('\n');
    }

    pub fn open(&mut self, text: &str) {
        self.line(text);
        self.level += 1;
    }

    pub fn close(&mut self, text: &str) {
        self.level = self.level.saturating_sub(1);
        self.line(text);
    }

    /// `NAME` in 24 columns less the indentation, VALUE right aligned in three.
    fn pair(&mut self, name: &str, value: &str) {
        let width = 24usize.saturating_sub(4 * self.level);
        self.line(&format!("{name:<width$} {value:>3};"));
    }

    /// `NAME` in 16 columns whatever the indentation.
    fn wide(&mut self, name: &str, value: &str) {
        self.line(&format!("{name:<16} {value};"));
    }
}

/// The sections of a resource, in the order in which they are printed.
pub(super) fn sections(dialect: Dialect) -> &'static [Section] {
    match dialect {
        Dialect::V83 => &[
            Section::Net,
            Section::Disk,
            Section::Syncer,
            Section::Startup,
            Section::Proxy,
            Section::Handlers,
        ],
        Dialect::V84 => &[
            Section::Options,
            Section::Net,
            Section::Disk,
            Section::Startup,
            Section::Proxy,
            Section::Handlers,
        ],
    }
}

/// One option as it is printed, with a list of hosts already joined.
pub(super) struct Entry {
    pub name: &'static str,
    pub value: Option<String>,
}

/// The entries of a section of a resource; `stacked-timeouts` and `become-primary-on` come last.
pub(super) fn entries(resource: &Resource, dialect: Dialect, section: Section) -> Vec<Entry> {
    let mut entries: Vec<Entry> = section_of(&resource.settings, dialect, section)
        .filter(|(name, _)| *name != "stacked-timeouts")
        .map(|(name, value)| Entry { name, value: value.map(str::to_string) })
        .collect();
    if section == Section::Startup {
        if resource.stacked_timeouts() {
            entries.push(Entry { name: "stacked-timeouts", value: None });
        }
        if !resource.become_primary_on.is_empty() {
            entries
                .push(Entry { name: "become-primary-on", value: Some(resource.become_primary_on.join(" ")) });
        }
    }
    entries
}

/// The options of `global { }` that are not as usual, in the order of the table; `usage-count` is
/// not printed. A switch has no value.
pub(super) fn global_entries(global: &Global) -> Vec<Entry> {
    let usual = Global { usage_count: global.usage_count, ..Global::default() };
    let rows = options::all().iter().filter(|row| row.section == Section::Global);
    rows.filter_map(|row| {
        let value = global.get(row.name)?;
        let differs = usual.get(row.name).as_ref() != Some(&value);
        let printed = (!matches!(value, Value::Flag(_))).then(|| row.format(&value));
        differs.then_some(Entry { name: row.name, value: printed })
    })
    .collect()
}

/// The head: file, `global`, `common`. Only without resource names or with `all`.
pub fn head(config: &Config) -> String {
    let mut out = Writer::default();
    out.line(&format!("# {}", config.file.absolute));
    let global = global_entries(&config.global);
    if !global.is_empty() {
        out.open("global {");
        for entry in global {
            match entry.value {
                Some(value) => out.line(&format!("{} {value};", entry.name)),
                None => out.line(&format!("{};", entry.name)),
            }
        }
        out.close("}");
        out.line("");
    }
    if let Some(common) = &config.common {
        out.open("common {");
        body(&mut out, common, config.dialect);
        out.close("}");
        out.line("");
    }
    out.text
}

/// One resource with the comment before it; `node`: name of this machine.
pub fn resource(config: &Config, resource: &Resource, node: &str) -> String {
    let mut out = Writer::default();
    let name = quote(&resource.name);
    let not = |yes: bool| if yes { "" } else { "not " };
    out.line(&format!(
        "# resource {name} on {node}: {}ignored, {}stacked",
        not(resource.ignored),
        not(resource.stacked)
    ));
    if config.dialect == Dialect::V84 {
        let place = config.position(resource, resource.line);
        out.line(&format!("# defined at {place}"));
    }
    out.open(&format!("resource {name} {{"));
    body(&mut out, resource, config.dialect);
    out.close("}");
    out.line("");
    out.text
}

fn body(out: &mut Writer, resource: &Resource, dialect: Dialect) {
    if dialect == Dialect::V83 {
        if let Some(protocol) = resource.protocol() {
            out.pair("protocol", protocol);
        }
    }
    for section in resource.hosts.iter() {
        host(out, section, dialect);
    }
    for section in sections(dialect) {
        write_section(out, resource, dialect, *section);
    }
}

/// One option section, in dump's syntax.
pub(super) fn write_section(out: &mut Writer, resource: &Resource, dialect: Dialect, section: Section) {
    let entries = entries(resource, dialect, section);
    let in_proxy = section == Section::Proxy;
    let plugged = in_proxy && !resource.plugins.is_empty();
    if entries.is_empty() && !plugged {
        return;
    }
    out.open(&format!("{} {{", section.word()));
    for entry in entries {
        match &entry.value {
            // Host names are never quoted.
            Some(hosts) if entry.name == "become-primary-on" => out.pair(entry.name, hosts),
            Some(value) => out.pair(entry.name, &quote(value)),
            None => out.line(&format!("{};", entry.name)),
        }
    }
    if in_proxy {
        plugins(out, &resource.plugins);
    }
    out.close("}");
}

fn plain_section(out: &mut Writer, settings: &[Setting], dialect: Dialect, section: Section) {
    let entries: Vec<_> = section_of(settings, dialect, section).collect();
    if entries.is_empty() {
        return;
    }
    out.open(&format!("{} {{", section.word()));
    for (name, value) in entries {
        match value {
            Some(value) => out.pair(name, &quote(value)),
            None => out.line(&format!("{name};")),
        }
    }
    out.close("}");
}

fn host(out: &mut Writer, host: &HostSection, dialect: Dialect) {
    match (&host.kind, &host.address) {
        (HostKind::Stacked(lower), _) => {
            out.open(&format!("stacked-on-top-of {} {{", quote(lower)));
            let names: String = host.hosts.iter().map(|n| format!("{n} ")).collect();
            out.line(&format!("# on {names}"));
        }
        (HostKind::Floating, Some(address)) => {
            out.open(&format!("floating {} {} {{", address.family, address.with_port()));
        }
        _ => match host.hosts.first().map(String::as_str) {
            Some(name @ ("_this_host" | "_remote_host")) => out.open(&format!("{name} {{")),
            _ => out.open(&format!("on {} {{", host.names(" "))),
        },
    }
    // 8.3 has no `options` here, but our reader accepts them in both dialects.
    plain_section(out, &host.options, Dialect::V84, Section::Options);
    let stacked = host.lower().is_some();
    match dialect {
        Dialect::V83 => {
            for volume in &host.volumes {
                device(out, volume);
                if !stacked {
                    disk(out, volume);
                }
            }
            address(out, host);
            for volume in host.volumes.iter().filter(|_| !stacked) {
                meta_disk(out, volume, dialect);
            }
        }
        Dialect::V84 => {
            for volume in &host.volumes {
                if !volume.implicit {
                    out.open(&format!("volume {} {{", volume.number));
                }
                plain_section(out, &volume.options, dialect, Section::Disk);
                device(out, volume);
                if !stacked {
                    disk(out, volume);
                    meta_disk(out, volume, dialect);
                }
                if !volume.implicit {
                    out.close("}");
                }
            }
            address(out, host);
        }
    }
    if let Some(alternate) = &host.alternate {
        out.line(&format!("alternate-link-address {} {};", alternate.family, alternate.with_port()));
    }
    if let Some(section) = &host.proxy {
        proxy(out, section);
    }
    out.close("}");
}

fn device(out: &mut Writer, volume: &Volume) {
    let blanks = 19usize.saturating_sub(4 * out.level);
    let name = match &volume.device {
        Some(name) => format!("{} ", quote(name)),
        None => String::new(),
    };
    let minor = volume.minor.unwrap_or(0);
    out.line(&format!("device{:blanks$}{name}minor {minor};", ""));
}

fn disk(out: &mut Writer, volume: &Volume) {
    if let Some(disk) = &volume.disk {
        out.pair("disk", &quote(disk));
    }
}

fn address(out: &mut Writer, host: &HostSection) {
    if host.kind == HostKind::Floating {
        return;
    }
    if let Some(own) = &host.address {
        out.wide("address", &family_and_port(own));
    }
}

fn family_and_port(address: &Address) -> String {
    format!("{} {}", address.family, address.with_port())
}

fn meta_disk(out: &mut Writer, volume: &Volume, dialect: Dialect) {
    let Some(meta) = &volume.meta else {
        return;
    };
    let device = quote(&meta.device);
    match meta.index.as_str() {
        _ if meta.is_internal() => out.pair("meta-disk", "internal"),
        "flexible" if dialect == Dialect::V84 => out.wide("meta-disk", &device),
        "flexible" => out.line(&format!("flexible-meta-disk {device};")),
        index => out.wide("meta-disk", &format!("{device} [{index}]")),
    }
}

fn proxy(out: &mut Writer, proxy: &Proxy) {
    out.open(&format!("proxy on {} {{", proxy.hosts.join(" ")));
    if let Some(inside) = &proxy.inside {
        out.wide("inside", &family_and_port(inside));
    }
    if let Some(outside) = &proxy.outside {
        out.wide("outside", &family_and_port(outside));
    }
    plain_options(out, proxy);
    out.close("}");
}

fn plain_options(out: &mut Writer, proxy: &Proxy) {
    if proxy.options.is_empty() && proxy.plugins.is_empty() {
        return;
    }
    out.open("options {");
    for (name, value) in section_of(&proxy.options, Dialect::V84, Section::Proxy) {
        match value {
            Some(value) => out.pair(name, &quote(value)),
            None => out.line(&format!("{name};")),
        }
    }
    plugins(out, &proxy.plugins);
    out.close("}");
}

fn plugins(out: &mut Writer, plugins: &[String]) {
    if plugins.is_empty() {
        return;
    }
    out.open("plugin {");
    for plugin in plugins {
        out.line(&format!("{plugin};"));
    }
    out.close("}");
}
