//! DRBD Proxy: commands for drbd-proxy-ctl, which is not ours. spec/drbdadm.md 13.2.

use drbdbox::conf::model::{section_of, Address, Proxy};
use drbdbox::conf::options::Section;
use drbdbox::conf::parser::EXIT_INVALID;
use drbdbox::conf::text::byte_length;
use drbdbox::conf::Dialect;

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
}
