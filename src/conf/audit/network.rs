//! Checks of addresses, ports and authentication.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::model::{Address, HostSection, Resource};
use super::super::number::{self, Unit};
use super::super::options::Section::{Net, Startup};
use super::super::validate;
use super::{last, value, Report, Subject};

/// Default of connect-int and ping-int, and of timeout in tenths of a second. spec/config.md 6.1.
fn number_of(resource: &Resource, option: &str, default: u64) -> u64 {
    number::parse(value(&resource.settings, Net, option), Unit::One).unwrap_or(default)
}

/// An address as one; the zone of an IPv6 address is left out.
fn parsed(address: &Address) -> Option<IpAddr> {
    address.address.split('%').next()?.parse().ok()
}

/// Whether packets to an address stay within networks that one administrator has.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_private_v4(v4),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_private_v4(v4),
            None => is_private_v6(v6),
        },
    }
}

fn is_private_v4(v4: Ipv4Addr) -> bool {
    // 100.64.0.0/10: shared addresses of providers are no private ones.
    v4.is_private() || v4.is_loopback() || v4.is_link_local()
}

fn is_private_v6(v6: Ipv6Addr) -> bool {
    let first = v6.segments()[0];
    // fc00::/7 and fe80::/10.
    v6.is_loopback() || first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80
}

/// The addresses of a host section, with proxies.
fn addresses(host: &HostSection) -> impl Iterator<Item = &Address> {
    let of_proxy = host.proxy.iter().flat_map(|p| p.inside.iter().chain(&p.outside));
    host.address.iter().chain(&host.alternate).chain(of_proxy)
}

fn each<'a>(subject: &'a Subject) -> impl Iterator<Item = (&'a Resource, &'a HostSection, &'a Address)> {
    let hosts = subject.resources().flat_map(|r| r.hosts.iter().map(move |h| (r, h)));
    hosts.flat_map(|(r, h)| addresses(h).map(move |a| (r, h, a)))
}

fn on(resource: &Resource, host: &HostSection) -> String {
    format!("in resource {}, on {}: ", resource.name, host.names(" "))
}

pub(super) fn address(subject: &Subject, report: &mut Report) {
    for (resource, host, address) in each(subject) {
        let family = if address.family == "ipv6" { "IPv6" } else { "IPv4" };
        let fits = parsed(address).is_some_and(|a| a.is_ipv6() == (address.family == "ipv6"));
        if !fits {
            let text = format!("'{}' is no {family} address", address.address);
            report.add(subject.host_place(resource, host), on(resource, host) + &text);
        }
    }
}

pub(super) fn twice(subject: &Subject, report: &mut Report) {
    let mut seen: HashMap<(&str, IpAddr, u64), (&Resource, String)> = HashMap::new();
    for (resource, host, address) in each(subject) {
        let (Some(ip), Ok(port)) = (parsed(address), number::parse(&address.port, Unit::One)) else {
            continue;
        };
        for name in &host.hosts {
            let here = (resource, address.with_port());
            let (other, spelt) = seen.entry((name, ip, port)).or_insert_with(|| here.clone());
            // The same text twice is a conflict that reading the file tells.
            if *spelt != here.1 {
                let text = format!("{} is {spelt} of resource {}", here.1, other.name);
                report.add(subject.host_place(resource, host), on(resource, host) + &text);
            }
        }
    }
}

pub(super) fn address_here(subject: &Subject, report: &mut Report) {
    if subject.full.global.disable_ip_verification {
        return;
    }
    for resource in subject.resources().filter(|r| !r.stacked) {
        if let (Some(message), Some(me)) =
            (validate::missing_address(&subject.full, resource, subject.this), resource.my_host())
        {
            // DRBD's own words, on one line and without its place.
            let text = message.trim_end().rsplit("\n\t").next().unwrap_or("").to_string();
            report.add(subject.host_place(resource, me), on(resource, me) + &text);
        }
    }
}

pub(super) fn no_authentication(subject: &Subject, report: &mut Report) {
    for resource in subject.resources() {
        let of = |option| value(&resource.settings, Net, option);
        if !of("cram-hmac-alg").is_empty() || !of("shared-secret").is_empty() {
            continue;
        }
        let public = resource.hosts.iter().find_map(|host| {
            let open = addresses(host).find(|a| parsed(a).is_some_and(|parsed| !is_private(parsed)));
            open.map(|address| (host, address))
        });
        if let Some((host, address)) = public {
            let text = format!(
                "{} is not a private address, and anybody who reaches the port can be the peer; write net {{ \
                 cram-hmac-alg sha256; shared-secret \"...\"; }}",
                address.address
            );
            report.add(subject.host_place(resource, host), on(resource, host) + &text);
        }
    }
}

pub(super) fn half_authentication(subject: &Subject, report: &mut Report) {
    for resource in subject.resources() {
        let given = |option| !value(&resource.settings, Net, option).is_empty();
        let (has, lacks) = match (given("cram-hmac-alg"), given("shared-secret")) {
            (true, false) => ("cram-hmac-alg", "shared-secret"),
            (false, true) => ("shared-secret", "cram-hmac-alg"),
            _ => continue,
        };
        let place = subject.option_place(resource, Net, has);
        report.add(place, format!("in resource {}: {has} without {lacks}", resource.name));
    }
}

pub(super) fn readable_secret(subject: &Subject, report: &mut Report) {
    for resource in subject.raw.common.iter().chain(&subject.raw.resources) {
        if let Some(secret) = last(&resource.settings, Net, "shared-secret") {
            if subject.machine.is_readable_by_others(&resource.file.absolute) {
                let place = format!("{}:{}", resource.file.display, secret.line);
                report.add(place, "other users can read this file and its shared-secret; chmod 0600");
            }
        }
    }
}

/// The sections of a resource that have an address which is one.
fn ends(resource: &Resource) -> Vec<(&HostSection, &Address, IpAddr)> {
    let hosts = resource.hosts.iter();
    hosts.filter_map(|h| h.address.as_ref().and_then(|a| Some((h, a, parsed(a)?)))).collect()
}

pub(super) fn loopback(subject: &Subject, report: &mut Report) {
    for resource in subject.resources() {
        let ends = ends(resource);
        let others = ends.iter().any(|(_, _, ip)| !ip.is_loopback());
        for (host, address, _) in ends.iter().filter(|(_, _, ip)| others && ip.is_loopback()) {
            let text = format!("{} is reached from this host only", address.address);
            report.add(subject.host_place(resource, host), on(resource, host) + &text);
        }
    }
}

pub(super) fn families(subject: &Subject, report: &mut Report) {
    for resource in subject.resources() {
        let ends = ends(resource);
        let Some((_, first, _)) = ends.first() else {
            continue;
        };
        for (host, address, _) in ends.iter().filter(|(_, a, _)| a.family != first.family) {
            let text = format!("family {}, but {} is {}", address.family, first.address, first.family);
            report.add(subject.host_place(resource, host), on(resource, host) + &text);
        }
    }
}

pub(super) fn outgoing_port(subject: &Subject, report: &mut Report) {
    let Some((low, high)) = subject.machine.outgoing_ports() else {
        return;
    };
    for resource in subject.resources() {
        let Some((me, address)) = resource.my_host().and_then(|h| Some((h, h.address.as_ref()?))) else {
            continue;
        };
        let port = number::parse(&address.port, Unit::One).unwrap_or(0);
        if (u64::from(low)..=u64::from(high)).contains(&port) {
            let text = format!(
                "port {port} is one of those for outgoing connections ({low} to {high}) and may be taken"
            );
            report.add(subject.host_place(resource, me), on(resource, me) + &text);
        }
    }
}

pub(super) fn timeouts(subject: &Subject, report: &mut Report) {
    for resource in subject.resources() {
        let timeout = number_of(resource, "timeout", 60);
        for option in ["connect-int", "ping-int"] {
            let interval = number_of(resource, option, 10);
            let given =
                ["timeout", option].map(|o| last(&resource.settings, Net, o)).into_iter().flatten().next();
            if let Some(setting) = given.filter(|_| timeout >= interval.saturating_mul(10)) {
                let text = format!(
                    "in resource {}: timeout {timeout} (tenths of a second) must be shorter than {option} {interval} \
                     (seconds)",
                    resource.name
                );
                report.add(subject.setting_place(resource, setting), text);
            }
        }
        let wait = |option| {
            let setting = last(&resource.settings, Startup, option)?;
            Some((setting, number::parse(&setting.value, Unit::One).ok().filter(|n| *n > 0)?))
        };
        let order = ["wfc-timeout", "degr-wfc-timeout", "outdated-wfc-timeout"];
        for pair in order.windows(2) {
            if let (Some((_, longer)), Some((setting, shorter))) = (wait(pair[0]), wait(pair[1])) {
                if shorter > longer {
                    let text = format!(
                        "in resource {}: {} {shorter} is longer than {} {longer}, which is used instead",
                        resource.name, pair[1], pair[0]
                    );
                    report.add(subject.setting_place(resource, setting), text);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_networks() {
        for (text, private) in [
            ("10.1.1.1", true),
            ("172.31.0.1", true),
            ("172.32.0.1", false),
            ("192.168.10.1", true),
            ("169.254.1.1", true),
            ("127.0.0.1", true),
            ("100.64.0.1", false),
            ("192.0.2.1", false),
            ("8.8.8.8", false),
            ("::1", true),
            ("fd00::1", true),
            ("fe80::1", true),
            ("2001:db8::1", false),
            ("::ffff:10.1.1.1", true),
        ] {
            assert_eq!(text.parse().map(is_private), Ok(private), "{text}");
        }
    }
}
