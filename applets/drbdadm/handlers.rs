//! Handlers: the daemon calls `drbdadm NAME minor-N`, the configuration says what is run.
//! spec/drbdadm.md 9.

use drbdbox::conf::options::Section;
use drbdbox::conf::Dialect;

use super::exec::{Manner, Program};
use super::session::{words, Exit, Session};
use super::table::Limit;

impl Session {
    /// `whole`: a resource was named, not one of its volumes.
    pub fn handler(&mut self, at: usize, volume: usize, whole: bool) -> Result<u8, Exit> {
        let name = self.command.name;
        let Some(setting) = self.resource(at).setting(Section::Handlers, name) else {
            return Ok(0);
        };
        let script = setting.value.clone();
        if self.resource(at).peer.is_none() {
            let peer = self.peer_by_environment(at);
            self.config.resources[at].peer = peer;
        }
        self.child_environment = self.environment(at, volume, whole)?;
        let call = words(["-c", &script]);
        let resource = self.resource(at).name.clone();
        let manner = Manner::default();
        let (result, _) = self.call(Program::Shell, &call, &resource, Limit::Verbose, manner)?;
        Ok(result)
    }

    /// The section with the address that the daemon told.
    fn peer_by_environment(&self, at: usize) -> Option<usize> {
        let family = std::env::var("DRBD_PEER_AF").ok()?;
        let address = std::env::var("DRBD_PEER_ADDRESS").ok()?;
        let parsed = address.parse::<std::net::IpAddr>().ok();
        self.resource(at).hosts.iter().position(|host| {
            host.address.as_ref().is_some_and(|a| {
                let same = a.address == address
                    || parsed.is_some() && a.address.parse::<std::net::IpAddr>().ok() == parsed;
                a.family == family && same
            })
        })
    }

    fn environment(&self, at: usize, volume: usize, whole: bool) -> Result<Vec<(String, String)>, Exit> {
        let resource = self.resource(at);
        let me = self.me(at)?;
        let is_84 = self.dialect() == Dialect::V84;
        let minors = match whole && is_84 {
            true => {
                me.volumes.iter().filter_map(|v| v.minor).map(|m| m.to_string()).collect::<Vec<_>>().join(" ")
            }
            false => self.minor(at, volume)?,
        };
        let mut list = vec![
            ("DRBD_RESOURCE", resource.name.clone()),
            ("DRBD_MINOR", minors),
            ("DRBD_CONF", self.config.file.absolute.clone()),
        ];
        if let Some(peer) = resource.peer_host() {
            if let Some(address) = &peer.address {
                list.push(("DRBD_PEER_AF", address.family.to_string()));
                list.push(("DRBD_PEER_ADDRESS", address.address.clone()));
            }
            let first = peer.hosts.first().cloned().unwrap_or_default();
            list.push(("DRBD_PEER", first));
            list.push(("DRBD_PEERS", peer.names(" ")));
        }
        if is_84 && !whole {
            let volume = self.volume(at, volume)?;
            list.push(("DRBD_VOLUME", volume.number.to_string()));
            let disk = volume.disk.clone().unwrap_or_default();
            list.push(("DRBD_LL_DISK", disk));
        }
        Ok(list.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
    }
}
