//! `drbdadm dump-xml`. spec/drbdadm.md 11.2, 14.5.

use super::dump::{entries, global_entries, sections, write_section, Writer};
use super::model::{section_of, Address, Config, HostKind, HostSection, Resource, Setting, Volume};
use super::options::Section;
use super::Dialect;

/// As 8.3 and 8.4.4 escape: `"` and `\` get a backslash, which is not XML.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\'' => escaped.push_str("&apos;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' | '\\' => {
                escaped.push('\\');
                escaped.push(c);
            }
            _ => escaped.push(c),
        }
    }
    escaped
}

/// The head: file, `global`, `common`. Only without resource names or with `all`; [`tail`] ends it.
pub fn head(config: &Config) -> String {
    let mut out = Writer::default();
    out.open(&format!("<config file=\"{}\">", escape(&config.file.absolute)));
    let global = global_entries(&config.global);
    if !global.is_empty() {
        out.open("<global>");
        for entry in global {
            let name = entry.name;
            match entry.value {
                // The attribute is the last word of the name.
                Some(value) => {
                    let attribute = name.rsplit('-').next().unwrap_or(name);
                    out.line(&format!("<{name} {attribute}=\"{}\"/>", escape(&value)));
                }
                None => out.line(&format!("<{name}/>")),
            }
        }
        out.close("</global>");
    }
    if let Some(common) = &config.common {
        let protocol = protocol(common, config.dialect);
        out.open(&format!("<common{protocol}>"));
        for section in sections(config.dialect) {
            // 8.3 forgets here that this is XML.
            if *section == Section::Proxy && config.dialect == Dialect::V83 {
                write_section(&mut out, common, config.dialect, *section);
            } else {
                resource_section(&mut out, common, config.dialect, *section);
            }
        }
        out.close("</common>");
    }
    out.text
}

/// What ends a dump that began with [`head`].
pub fn tail() -> &'static str {
    "</config>\n"
}

fn protocol(resource: &Resource, dialect: Dialect) -> String {
    match (dialect, resource.protocol()) {
        (Dialect::V83, Some(protocol)) => format!(" protocol=\"{}\"", escape(protocol)),
        _ => String::new(),
    }
}

/// One resource; `level`: 1 below [`head`], else 0.
pub fn resource(config: &Config, resource: &Resource, level: usize) -> String {
    let mut out = Writer { level, ..Writer::default() };
    let place = match config.dialect {
        Dialect::V83 => String::new(),
        Dialect::V84 => format!(" conf-file-line=\"{}\"", escape(&config.position(resource, resource.line))),
    };
    out.open(&format!(
        "<resource name=\"{}\"{}{place}>",
        escape(&resource.name),
        protocol(resource, config.dialect)
    ));
    for section in &resource.hosts {
        host(&mut out, section, config.dialect);
    }
    for section in sections(config.dialect) {
        resource_section(&mut out, resource, config.dialect, *section);
    }
    out.close("</resource>");
    out.text
}

fn option(out: &mut Writer, name: &str, value: Option<&str>) {
    match value {
        Some(value) => out.line(&format!("<option name=\"{name}\" value=\"{}\"/>", escape(value))),
        None => out.line(&format!("<option name=\"{name}\"/>")),
    }
}

fn resource_section(out: &mut Writer, resource: &Resource, dialect: Dialect, section: Section) {
    let entries = entries(resource, dialect, section);
    let plugins = section == Section::Proxy && !resource.plugins.is_empty();
    if entries.is_empty() && !plugins {
        return;
    }
    out.open(&format!("<section name=\"{}\">", section.word()));
    for entry in &entries {
        option(out, entry.name, entry.value.as_deref());
    }
    if plugins {
        out.open("<section name=\"plugin\">");
        for plugin in &resource.plugins {
            out.line(&format!("<option name=\"{}\"/>", escape(plugin)));
        }
        out.close("</section>");
    }
    out.close("</section>");
}

fn plain_section(out: &mut Writer, settings: &[Setting], section: Section, word: &str) {
    let entries: Vec<_> = section_of(settings, Dialect::V84, section).collect();
    if entries.is_empty() {
        return;
    }
    out.open(&format!("<section name=\"{word}\">"));
    for (name, value) in entries {
        option(out, name, value);
    }
    out.close("</section>");
}

fn host(out: &mut Writer, host: &HostSection, dialect: Dialect) {
    match host.kind {
        HostKind::Floating => out.open("<host floating=\"1\">"),
        _ => out.open(&format!("<host name=\"{}\">", escape(&host.names(" ")))),
    }
    plain_section(out, &host.options, Section::Options, "options");
    match dialect {
        Dialect::V83 => {
            for volume in &host.volumes {
                device_and_disk(out, volume);
            }
            address(out, "address", host.address.as_ref());
            for volume in &host.volumes {
                meta_disk(out, volume, dialect);
            }
        }
        Dialect::V84 => {
            for volume in &host.volumes {
                out.open(&format!("<volume vnr=\"{}\">", volume.number));
                plain_section(out, &volume.options, Section::Disk, "disk");
                device_and_disk(out, volume);
                meta_disk(out, volume, dialect);
                out.close("</volume>");
            }
            address(out, "address", host.address.as_ref());
        }
    }
    address(out, "alternate-link-address", host.alternate.as_ref());
    if let Some(proxy) = &host.proxy {
        out.open(&format!("<proxy hostname=\"{}\">", escape(&proxy.hosts.join(" "))));
        address(out, "inside", proxy.inside.as_ref());
        address(out, "outside", proxy.outside.as_ref());
        plain_section(out, &proxy.options, Section::Proxy, "options");
        out.close("</proxy>");
    }
    out.close("</host>");
}

fn device_and_disk(out: &mut Writer, volume: &Volume) {
    out.line(&format!(
        "<device minor=\"{}\">{}</device>",
        volume.minor.unwrap_or(0),
        escape(volume.device.as_deref().unwrap_or(""))
    ));
    out.line(&format!("<disk>{}</disk>", escape(volume.disk.as_deref().unwrap_or(""))));
}

fn address(out: &mut Writer, tag: &str, address: Option<&Address>) {
    if let Some(address) = address {
        out.line(&format!(
            "<{tag} family=\"{}\" port=\"{}\">{}</{tag}>",
            address.family, address.port, address.address
        ));
    }
}

fn meta_disk(out: &mut Writer, volume: &Volume, dialect: Dialect) {
    let Some(meta) = &volume.meta else {
        return;
    };
    let device = escape(&meta.device);
    out.line(&match (meta.index.as_str(), dialect) {
        _ if meta.is_internal() => "<meta-disk>internal</meta-disk>".to_string(),
        ("flexible", Dialect::V83) => {
            format!("<flexible-meta-disk>{device}</flexible-meta-disk>")
        }
        ("flexible", Dialect::V84) => format!("<meta-disk>{device}</meta-disk>"),
        (index, _) => format!("<meta-disk index=\"{index}\">{device}</meta-disk>"),
    });
}
