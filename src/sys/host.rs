//! What this machine is called and which addresses it has. spec/config.md 11.

use std::net::Ipv6Addr;

/// Node name, as uname(2) has it.
pub fn node_name() -> String {
    nix::sys::utsname::uname().map(|uts| uts.nodename().to_string_lossy().into_owned()).unwrap_or_default()
}

/// IPv4 addresses of interfaces that are up, as text.
pub fn ipv4_addresses() -> Vec<String> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    interfaces
        .filter(|i| i.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP))
        .filter_map(|i| Some(i.address?.as_sockaddr_in()?.ip().to_string()))
        .collect()
}

/// IPv6 addresses of all interfaces.
pub fn ipv6_addresses() -> Vec<Ipv6Addr> {
    std::fs::read_to_string("/proc/net/if_inet6").map(|text| parse_if_inet6(&text)).unwrap_or_default()
}

/// Whether SELinux refuses what its policy does not allow: `Some(false)` if it only writes it down, `None` without SELinux.
pub fn selinux_enforces() -> Option<bool> {
    // The second place is that of kernels before Linux 3.0.
    let read = |path| std::fs::read_to_string(path).ok();
    let text = read("/sys/fs/selinux/enforce").or_else(|| read("/selinux/enforce"))?;
    Some(text.trim() == "1")
}

/// Each line starts with 32 hexadecimal digits.
fn parse_if_inet6(text: &str) -> Vec<Ipv6Addr> {
    text.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter_map(|digits| u128::from_str_radix(digits, 16).ok())
        .map(Ipv6Addr::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_addresses_of_the_kernel_are_read() {
        let text = "00000000000000000000000000000001 01 80 10 80       lo\n";
        assert_eq!(parse_if_inet6(text), [Ipv6Addr::LOCALHOST]);
    }
}
