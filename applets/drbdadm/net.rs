//! Commands on connections. spec/drbdadm.md 4, 14.3.

use drbdbox::conf::model::{Address, HostSection};
use drbdbox::conf::options::Section;
use drbdbox::conf::Dialect;

use super::exec::EXIT_FAILED;
use super::session::{words, Exit, Session};
use super::table::Limit;

impl Session {
    /// My address and the peer's, or my own proxy's inside. `None`: peer unknown; it has been said.
    pub fn addresses(&self, at: usize) -> Result<Option<[String; 2]>, Exit> {
        let me = self.me(at)?;
        let command = |address: Option<&Address>| address.map_or(String::new(), Address::for_command);
        let mine = command(me.address.as_ref());
        let Some(peer) = self.resource(at).peer_host() else {
            let not_available = match self.dialect() {
                Dialect::V83 => self.options.dry_run > 1,
                Dialect::V84 => self.options.dry_run > 0,
            };
            if not_available {
                return Ok(Some([mine, "N/A".to_string()]));
            }
            let what = match self.dialect() {
                Dialect::V83 => "change network config",
                Dialect::V84 => "configure network",
            };
            self.complain(&format!(
                "resource {}: cannot {what} without knowing my peer.\n",
                self.resource(at).name
            ));
            return Ok(None);
        };
        Ok(Some([mine, command(target(me, peer))]))
    }

    /// Status of a command that needs the peer and does not know it.
    fn no_peer(&self) -> u8 {
        match self.options.dry_run {
            0 => EXIT_FAILED,
            _ => 0,
        }
    }

    pub fn connect(&mut self, at: usize) -> Result<u8, Exit> {
        let Some([mine, theirs]) = self.addresses(at)? else {
            return Ok(self.no_peer());
        };
        let settings = self.resource(at).settings.clone();
        let options = self.option_words(&settings, Section::Net);
        let mut call = match self.dialect() {
            Dialect::V83 => {
                let mut call = self.on_minor(at, 0, "net")?;
                call.extend([mine, theirs, self.protocol(at)]);
                call.extend(words(["--set-defaults", "--create-device"]));
                call
            }
            Dialect::V84 => {
                let mut call = words(["connect", &self.resource(at).name, &mine, &theirs]);
                call.extend(self.alternate_addresses(at)?);
                call
            }
        };
        call.extend(options);
        self.setup(at, &self.with_pass_through(call), Limit::Short)
    }

    fn alternate_addresses(&self, at: usize) -> Result<Vec<String>, Exit> {
        let mine = self.me(at)?.alternate.as_ref();
        let theirs = self.resource(at).peer_host().and_then(|p| p.alternate.as_ref());
        Ok(match (mine, theirs) {
            (Some(mine), Some(theirs)) => vec![
                "--alternate-address".to_string(),
                mine.for_command(),
                "--alternate-peer-address".to_string(),
                theirs.for_command(),
            ],
            _ => Vec::new(),
        })
    }

    /// 8.4 form in both dialects. `adjust`: everything the file says.
    pub fn net_options(&mut self, at: usize, adjust: bool) -> Result<u8, Exit> {
        let Some([mine, theirs]) = self.addresses(at)? else {
            return Ok(self.no_peer());
        };
        let call = words(["net-options", &mine, &theirs]);
        let settings = self.resource(at).settings.clone();
        let call = self.with_defaults(call, adjust, &settings, Section::Net);
        self.setup(at, &self.with_pass_through(call), Limit::Short)
    }

    pub fn disconnect(&mut self, at: usize) -> Result<u8, Exit> {
        let call = match self.dialect() {
            Dialect::V83 => self.on_minor(at, 0, "disconnect")?,
            Dialect::V84 => {
                let Some([mine, theirs]) = self.addresses(at)? else {
                    return Ok(self.no_peer());
                };
                words(["disconnect", &mine, &theirs])
            }
        };
        self.setup(at, &self.with_pass_through(call), Limit::Short)
    }
}

/// Where to connect to: the inside of my own proxy if I have one.
pub fn target<'a>(me: &'a HostSection, peer: &'a HostSection) -> Option<&'a Address> {
    match &me.proxy {
        Some(proxy) => proxy.inside.as_ref(),
        None => peer.address.as_ref(),
    }
}
