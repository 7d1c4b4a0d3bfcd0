//! DRBD Proxy: commands for drbd-proxy-ctl, which is not ours. spec/drbdadm.md 13.2.

use drbdbox::conf::model::{lookup, section_of, Address, Proxy, Setting};
use drbdbox::conf::number::{self, Unit};
use drbdbox::conf::options::Section;
use drbdbox::conf::parser::{Parser, EXIT_INVALID};
use drbdbox::conf::text::byte_length;
use drbdbox::conf::Dialect;
use drbdbox::sys::child::Stream;

use super::deferred::Phase;
use super::exec::{Manner, Program};
use super::session::{words, Exit, Session};
use super::table::Limit;

/// Longest name of a connection.
const NAME_MAX: usize = 124;

impl Session {
    /// Both proxies; `None`: with `all` there is nothing to do.
    fn proxies(&self, at: usize) -> Result<Option<(Proxy, Proxy)>, Exit> {
        let resource = self.resource(at);
        let name = &resource.name;
        let node = &self.this.name;
        let all = self.options.names.first().is_some_and(|n| n == "all");
        let fail = |text: String| {
            self.complain(&text);
            Err(Exit(EXIT_INVALID))
        };
        let Some(mine) = self.me(at)?.proxy.clone() else {
            if all {
                return Ok(None);
            }
            return fail(format!("There is no proxy config for host {node} in resource {name}.\n"));
        };
        if !mine.hosts.contains(node) {
            if all {
                return Ok(None);
            }
            return fail(format!("The proxy config in resource {name} is not for {node}.\n"));
        }
        let Some(peer) = resource.peer_host() else {
            return fail(format!("Cannot determine the peer in resource {name}.\n"));
        };
        match peer.proxy.clone() {
            Some(theirs) => Ok(Some((mine, theirs))),
            None => fail(format!("There is no proxy config for the peer in resource {name}.\n")),
        }
    }

    fn connection_name(&self, at: usize, mine: &Proxy, theirs: &Proxy) -> Result<String, Exit> {
        let name = &self.resource(at).name;
        let (mine, theirs) = (mine.hosts.join("_"), theirs.hosts.join("_"));
        let connection = match self.dialect() {
            Dialect::V83 => format!("{mine}-{name}-{theirs}"),
            Dialect::V84 => format!("{name}-{theirs}-{mine}"),
        };
        if byte_length(&connection) > NAME_MAX {
            self.complain(&format!("The connection name in resource {name} got too long.\n"));
            return Err(Exit(EXIT_INVALID));
        }
        Ok(connection)
    }

    fn proxy_call(&self, at: usize, commands: &[String]) -> Result<u8, Exit> {
        let call: Vec<String> = commands.iter().flat_map(|command| words(["-c", command])).collect();
        let name = &self.resource(at).name;
        let manner = Manner::default();
        Ok(self.call(Program::ProxyCtl, &call, name, Limit::Short, manner)?.0)
    }

    pub fn proxy_up(&mut self, at: usize) -> Result<u8, Exit> {
        let Some((mine, theirs)) = self.proxies(at)? else {
            return Ok(0);
        };
        let connection = self.connection_name(at, &mine, &theirs)?;
        let text = |address: Option<&Address>| address.map_or(String::new(), Address::with_port);
        let add = format!(
            "add connection {connection} {} {} {} {}",
            text(mine.inside.as_ref()),
            text(theirs.outside.as_ref()),
            text(mine.outside.as_ref()),
            text(self.me(at)?.address.as_ref())
        );
        let result = self.proxy_call(at, &[add])?;
        if result != 0 {
            return Ok(result);
        }
        self.proxy_settings(at)
    }

    /// One call with every option and all plugins; none if there are neither.
    fn proxy_settings(&mut self, at: usize) -> Result<u8, Exit> {
        let Some((mine, theirs)) = self.proxies(at)? else {
            return Ok(0);
        };
        let connection = self.connection_name(at, &mine, &theirs)?;
        let resource = self.resource(at);
        // In 8.4 the host's proxy section has inherited what the resource says.
        let (settings, plugins) = match self.dialect() {
            Dialect::V83 => (&resource.settings, &resource.plugins),
            Dialect::V84 => (&mine.options, &mine.plugins),
        };
        let mut commands: Vec<String> = section_of(settings, self.dialect(), Section::Proxy)
            .map(|(name, value)| format!("set {name} {connection} {}", value.unwrap_or("")))
            .collect();
        if !plugins.is_empty() {
            let lines = plugins.iter().map(String::as_str);
            for (index, line) in lines.chain(std::iter::once("END")).enumerate() {
                commands.push(format!("set plugin {connection} {index} {line}"));
            }
        }
        if commands.is_empty() {
            return Ok(0);
        }
        self.proxy_call(at, &commands)
    }

    pub fn proxy_down(&mut self, at: usize) -> Result<u8, Exit> {
        let Some((mine, theirs)) = self.proxies(at)? else {
            return Ok(0);
        };
        let connection = self.connection_name(at, &mine, &theirs)?;
        self.proxy_call(at, &[format!("del connection {connection}")])
    }

    /// What of adjust is the proxy's: collects. spec/drbdadm.md 13.2.
    pub fn adjust_proxy(&mut self, at: usize) -> Result<(), Exit> {
        let for_me = self.me(at)?.proxy.as_ref().is_some_and(|p| p.hosts.contains(&self.this.name));
        if !for_me || self.resource(at).peer_host().is_none_or(|p| p.proxy.is_none()) {
            return Ok(());
        }
        let Some((mine, theirs)) = self.proxies(at)? else {
            return Ok(());
        };
        let connection = self.connection_name(at, &mine, &theirs)?;
        let manner = Manner { stdout: Stream::Catch, stderr: Stream::Null, always: true };
        let call = words(["-c", &format!("show proxy-settings {connection}")]);
        let name = &self.resource(at).name;
        let (_, output) = self.call(Program::ProxyCtl, &call, name, Limit::Short, manner)?;
        if !output.trim_ascii_start().starts_with(b"proxy") {
            return Ok(());
        }
        // The answer is a section; as the body of a resource it can be read with our parser.
        let source = format!("drbd-proxy-ctl show proxy-settings {connection}");
        let running = Parser::read_running(Dialect::V83, &source, output).map_err(|(stop, text)| {
            self.complain(&text);
            Exit(stop.0)
        })?;
        let running = running.unwrap_or_default();
        let resource = self.resource(at);
        let memory = |settings: &[Setting]| {
            lookup(settings, Section::Proxy, "memlimit").and_then(|s| number::parse(&s.value, Unit::One).ok())
        };
        let again = match (memory(&resource.settings), memory(&running.settings)) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(a), Some(b)) => by_more_than_2_percent(a, b),
        };
        let wanted = match self.dialect() {
            Dialect::V83 => resource.plugins.clone(),
            Dialect::V84 => mine.plugins.clone(),
        };
        let moved = wanted.iter().enumerate().any(|(index, plugin)| {
            let place = running.plugins.iter().position(|p| p == plugin);
            place.is_some_and(|place| place != index)
        });
        if again || moved {
            let first = self.proxy_phase(Phase::Disk83);
            self.defer(first, "proxy-down", at, move |s| s.proxy_down(at));
            let second = self.proxy_phase(Phase::Resource);
            self.defer(second, "proxy-up", at, move |s| s.proxy_up(at));
            return Ok(());
        }
        let mut commands = Vec::new();
        for (index, plugin) in wanted.iter().enumerate() {
            if running.plugins.get(index) != Some(plugin) {
                commands.push(format!("set plugin {connection} {index} {plugin}"));
            }
        }
        if wanted.len() < running.plugins.len() {
            commands.push(format!("set plugin {connection} {} end", wanted.len()));
        }
        if !commands.is_empty() {
            let last = self.proxy_phase(Phase::Net);
            self.defer(last, "proxy-plugins", at, move |s| s.proxy_call(at, &commands));
        }
        Ok(())
    }

    /// 8.4 does all of it before the network.
    fn proxy_phase(&self, phase_83: Phase) -> Phase {
        match self.dialect() {
            Dialect::V83 => phase_83,
            Dialect::V84 => Phase::NetPrerequisites,
        }
    }
}

/// Whether two numbers differ by more than 2 % of the smaller one.
fn by_more_than_2_percent(a: u64, b: u64) -> bool {
    u128::from(a.abs_diff(b)) * 100 > u128::from(a.min(b)) * 2
}

#[cfg(test)]
mod tests {
    use super::by_more_than_2_percent;

    #[test]
    fn two_percent_of_the_smaller() {
        for (a, b, more) in
            [(100, 102, false), (100, 103, true), (50, 51, false), (49, 50, true), (u64::MAX, 0, true)]
        {
            assert_eq!((by_more_than_2_percent(a, b), by_more_than_2_percent(b, a)), (more, more), "{a} {b}");
        }
    }
}
