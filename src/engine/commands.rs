//! Commands that configure a volume, a connection or a resource.

use super::attach;
use super::connector;
use super::daemon::{is_success, Daemon, Place};
use super::options::{check_algorithms, check_net, Reset, Settings};
use super::runner::{BackingPaths, CommandReply, Runner, State};
use crate::conf::options::Section;
use crate::conf::settings::{Fencing, NetSettings};
use crate::conf::Dialect;
use crate::control::message::{Call, ConnectionOf, Reply, Request, SettingChange};
use crate::core::codes::ConfigCode;
use crate::core::state::{Conn, Role, StateWord};
use crate::core::types::{Command, Level};
use crate::status::AddressPair;
use crate::sys::net::{self, BufferSizes};
use std::sync::Arc;
use std::time::Duration;

/// How long a detached disk may take to be closed.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

impl Daemon {
    /// Carries out a request about a minor or a connection.
    pub(super) fn configure(&self, call: &Call) -> Result<Reply, Reply> {
        match &call.request {
            Request::Attach { minor, lower_device, meta_device, meta_index, changes } => {
                let place = self.minor_of(call, *minor)?;
                let paths = BackingPaths {
                    lower_device: lower_device.clone(),
                    meta_device: meta_device.clone(),
                    meta_index: *meta_index,
                };
                self.attach(call, *minor, &place, paths, changes)
            }
            Request::DiskOptions { minor, set_defaults, changes } => {
                let place = self.minor_of(call, *minor)?;
                if place.runner.look(|state| state.core.volume(place.volume).disk().is_none()) {
                    return Err(ConfigCode::NoDisk.into());
                }
                let reset = match set_defaults {
                    true => Reset::Section(Section::Disk, Dialect::V84),
                    false => Reset::Nothing,
                };
                self.change_settings(call, &place, reset, changes)
            }
            Request::Syncer { minor, set_defaults, changes } => {
                let place = self.minor_of(call, *minor)?;
                let reset = match set_defaults {
                    true => Reset::Section(Section::Syncer, Dialect::V83),
                    false => Reset::Nothing,
                };
                self.change_settings(call, &place, reset, changes)
            }
            Request::ResourceOptions { name, set_defaults, changes } => {
                self.resource_options(name, *set_defaults, changes)
            }
            Request::Connect { connection, addresses, changes } => {
                let runner = match connection {
                    ConnectionOf::Minor(minor) => self.minor_of(call, *minor)?.runner,
                    ConnectionOf::Resource(name) => self
                        .resource(name)
                        .ok_or_else(|| Reply::with_info(ConfigCode::ResourceUnknown, "unknown resource"))?,
                    ConnectionOf::Addresses(_) => return Err(ConfigCode::InvalidRequest.into()),
                };
                self.connect(call.form, &runner, *addresses, changes)
            }
            Request::NetOptions { addresses, set_defaults, changes } => {
                self.net_options(addresses, *set_defaults, changes)
            }
            Request::Disconnect { connection, force } => {
                let runner = match connection {
                    ConnectionOf::Minor(minor) => self.minor_of(call, *minor)?.runner,
                    ConnectionOf::Resource(name) => self
                        .resource(name)
                        .ok_or_else(|| Reply::with_info(ConfigCode::ResourceUnknown, "unknown resource"))?,
                    ConnectionOf::Addresses(addresses) => self
                        .connection(addresses)
                        .ok_or_else(|| Reply::with_info(ConfigCode::InvalidRequest, "unknown connection"))?,
                };
                let reply = runner.command(Command::Disconnect { force: *force });
                self.changed(&runner);
                Ok(reply.into())
            }
            Request::Primary { minor, force } => {
                let place = self.minor_of(call, *minor)?;
                Ok(self.primary(*minor, &place, *force).into())
            }
            Request::Secondary { minor } => {
                let place = self.minor_of(call, *minor)?;
                Ok(self.secondary(*minor, &place).into())
            }
            Request::Detach { minor, force } => {
                let place = self.minor_of(call, *minor)?;
                Ok(self.detach(*minor, &place, *force).into())
            }
            Request::RemoveNode { minor } => {
                let place = self.minor_of(call, *minor)?;
                if place.runner.look(|state| state.core.volume(place.volume).state().role) == Role::Primary {
                    return Err(ConfigCode::MinorConfigured.into());
                }
                self.shared.doors.remove(*minor);
                Ok(Reply::ok())
            }
            Request::Resize {
                minor,
                size,
                assume_peer_has_space,
                assume_clean,
                al_stripes,
                al_stripe_size_kib,
            } => {
                let place = self.minor_of(call, *minor)?;
                check_log_layout(&place, *al_stripes, *al_stripe_size_kib)?;
                let reply = place.runner.command(Command::Resize {
                    volume: place.volume,
                    size: *size,
                    assume_peer_has_space: *assume_peer_has_space,
                    assume_clean: *assume_clean,
                });
                self.changed(&place.runner);
                Ok(reply.into())
            }
            other => {
                let minor = other.minor().ok_or(ConfigCode::UnknownRequest)?;
                let place = self.minor_of(call, minor)?;
                let command = volume_command(other, &place).ok_or(ConfigCode::UnknownRequest)?;
                Ok(place.runner.command(command).into())
            }
        }
    }

    fn attach(
        &self,
        call: &Call,
        minor: u32,
        place: &Place,
        paths: BackingPaths,
        changes: &[SettingChange],
    ) -> Result<Reply, Reply> {
        let runner = &place.runner;
        let mut settings = runner.look(|state| settings_of(state, place));
        settings.reset(Reset::Section(Section::Disk, call.form));
        settings.apply(changes)?;
        let protocol_a = runner.look(|state| {
            state.core.net_settings().map_or(Fencing::DontCare, |net| match net.protocol {
                crate::conf::settings::Protocol::A => settings.disk.fencing,
                _ => Fencing::DontCare,
            })
        });
        if let Err(code) = runner.look(|state| state.core.may_attach(place.volume)) {
            return Err(code.into());
        }
        if protocol_a == Fencing::ResourceAndStonith {
            return Err(ConfigCode::StonithAndProtoA.into());
        }
        self.check_resync_after(minor, settings.disk.resync_after)?;
        let lower = paths.lower_device.clone();
        let reply = attach::attach(runner, place.volume, paths, settings.disk, call.form);
        if is_success(reply.0) {
            if let Some(door) = self.shared.doors.find(minor) {
                door.link_disk(&self.shared.config, Some(&lower));
            }
            self.changed(runner);
        }
        Ok(reply.into())
    }

    /// Gives the disk of a volume up, and waits until it is closed.
    pub(super) fn detach(&self, minor: u32, place: &Place, force: bool) -> CommandReply {
        let runner = &place.runner;
        let closed = runner.look(|state| {
            let disk = state.volumes.get(place.volume)?.disk.as_ref()?;
            Some(disk.closed())
        });
        let reply = runner.command(Command::Detach { volume: place.volume, force });
        if is_success(reply.0) {
            if let Some(closed) = closed.filter(|_| !force) {
                // What comes next (drbdmeta, a second attach) wants to open it.
                closed.wait(CLOSE_LIMIT);
            }
            if let Some(door) = self.shared.doors.find(minor) {
                door.link_disk(&self.shared.config, None);
            }
            self.changed(runner);
        }
        reply
    }

    /// `disk-options` and 8.3's `syncer`.
    fn change_settings(
        &self,
        call: &Call,
        place: &Place,
        reset: Reset,
        changes: &[SettingChange],
    ) -> Result<Reply, Reply> {
        let runner = &place.runner;
        let before = runner.look(|state| settings_of(state, place));
        let mut settings = before.clone();
        settings.reset(reset);
        settings.apply(changes)?;
        check_running(runner, &before.net, &settings.net)?;
        check_algorithms(&settings.net, call.form)?;
        let minor = runner.look(|state| state.core.volume(place.volume).minor);
        if settings.disk.resync_after >= 0 && call.form == Dialect::V83 {
            // 8.3 makes the minor to wait for.
            let after = settings.disk.resync_after as u32;
            if self.minor(after).is_none() && after < self.shared.config.minor_count {
                self.minor_of(
                    &Call { create_device: true, resource_name: None, device_name: None, ..call.clone() },
                    after,
                )?;
            }
        }
        self.check_resync_after(minor, settings.disk.resync_after)?;
        let mut reply = (ConfigCode::NoError.number(), Vec::new());
        if settings.resource != before.resource {
            reply = runner.command(Command::ResourceSettings(Box::new(settings.resource)));
        }
        if settings.net != before.net {
            reply = set_net(runner, settings.net);
        }
        if settings.disk != before.disk || call.form == Dialect::V83 {
            let settings = Box::new(settings.disk);
            reply = runner.command(Command::DiskSettings { volume: place.volume, settings });
        }
        self.changed(runner);
        Ok(reply.into())
    }

    /// Follows the minors that wait for each other.
    ///
    /// # Errors
    /// 132: no minor; 133: a circle.
    fn check_resync_after(&self, minor: u32, after: i32) -> Result<(), Reply> {
        if after < -1 || after > super::daemon::MINOR_MAX as i32 {
            return Err(ConfigCode::SyncAfterInvalid.into());
        }
        let mut next = after;
        for _ in 0..=self.minors().len() {
            let Ok(number) = u32::try_from(next) else { return Ok(()) };
            if number == minor {
                return Err(ConfigCode::SyncAfterCycle.into());
            }
            let Some(place) = self.minor(number) else { return Ok(()) };
            next = place.runner.look(|state| state.core.volume(place.volume).settings().resync_after);
        }
        Err(ConfigCode::SyncAfterCycle.into())
    }

    fn resource_options(
        &self,
        name: &str,
        set_defaults: bool,
        changes: &[SettingChange],
    ) -> Result<Reply, Reply> {
        let Some(runner) = self.resource(name) else {
            return Err(Reply::with_info(ConfigCode::ResourceUnknown, "unknown resource"));
        };
        let mut settings = Settings::defaults(Dialect::V84);
        if !set_defaults {
            settings.resource = runner.look(|state| state.core.settings().clone());
        }
        settings.apply(changes)?;
        let reply = runner.command(Command::ResourceSettings(Box::new(settings.resource)));
        self.changed(&runner);
        Ok(reply.into())
    }

    /// 8.3 `net`, 8.4 `connect`.
    fn connect(
        &self,
        form: Dialect,
        runner: &Arc<Runner>,
        addresses: AddressPair,
        changes: &[SettingChange],
    ) -> Result<Reply, Reply> {
        if form == Dialect::V84 {
            self.check_addresses(&addresses)?;
        }
        if runner.look(|state| state.core.net_settings().is_some()) {
            return Err(ConfigCode::NetConfigured.into());
        }
        let (mut settings, fencing, primary) = runner.look(|state| {
            let settings = Settings { net: state.net.clone(), ..Settings::defaults(form) };
            (settings, strictest_fencing(state), has_primary(state))
        });
        settings.reset(Reset::Section(Section::Net, form));
        settings.apply(changes)?;
        check_net(&settings.net, fencing, primary, form)?;
        if form == Dialect::V83 {
            self.check_addresses(&addresses)?;
        }
        check_algorithms(&settings.net, form)?;
        check_port(runner, &addresses)?;
        let kept = NetSettings { discard_my_data: false, tentative: false, ..settings.net.clone() };
        runner.look(|state| {
            state.addresses = Some(addresses);
            state.net = kept;
        });
        let reply = runner.command(Command::Connect(Box::new(settings.net)));
        self.changed(runner);
        Ok(reply.into())
    }

    /// Every address and port belongs to one connection.
    fn check_addresses(&self, addresses: &AddressPair) -> Result<(), Reply> {
        for runner in self.resources() {
            let used = runner.look(|state| state.core.net_settings().and(state.addresses));
            let Some(used) = used else { continue };
            if used.local.socket_address() == addresses.local.socket_address() {
                return Err(ConfigCode::LocalAddr.into());
            }
            if used.peer.socket_address() == addresses.peer.socket_address() {
                return Err(ConfigCode::PeerAddr.into());
            }
        }
        Ok(())
    }

    fn net_options(
        &self,
        addresses: &AddressPair,
        set_defaults: bool,
        changes: &[SettingChange],
    ) -> Result<Reply, Reply> {
        let runner = self
            .connection(addresses)
            .ok_or_else(|| Reply::with_info(ConfigCode::InvalidRequest, "unknown connection"))?;
        let before = runner.look(|state| state.core.net_settings().unwrap_or(&state.net).clone());
        let mut settings = Settings { net: before.clone(), ..Settings::defaults(Dialect::V84) };
        if set_defaults {
            settings.reset(Reset::Section(Section::Net, Dialect::V84));
        }
        settings.apply(changes)?;
        let net = settings.net;
        let (version, fencing, primary) = runner.look(|state| {
            let link = state.core.link();
            (link.map(|link| link.version), strictest_fencing(state), has_primary(state))
        });
        let announced =
            |net: &NetSettings| (net.protocol, net.allow_two_primaries, net.data_integrity_alg.clone());
        if version.is_some_and(|v| !v.has_volumes()) && announced(&before) != announced(&net) {
            return Err(ConfigCode::NeedApv100.into());
        }
        if before.allow_two_primaries
            && !net.allow_two_primaries
            && runner.look(|state| has_two_primaries(state))
        {
            return Err(ConfigCode::NeedAllowTwoPrimaries.into());
        }
        check_net(&net, fencing, primary, Dialect::V84)?;
        check_running(&runner, &before, &net)?;
        check_algorithms(&net, Dialect::V84)?;
        let reply = set_net(&runner, net);
        self.changed(&runner);
        Ok(reply.into())
    }
}

/// A change of the activity log's layout under a running device is not possible here.
///
/// # Errors
/// 166 to 169, in the order of the kernel's checks.
fn check_log_layout(place: &Place, stripes: Option<u32>, stripe_kib: Option<u32>) -> Result<(), Reply> {
    const LOG_KIB_MIN: u32 = 32;
    const LOG_KIB_MAX: u32 = 16 << 20;
    const BLOCK_KIB: u32 = 4;
    let (current, connected) = place.runner.look(|state| {
        let volume = state.core.volume(place.volume);
        (volume.disk().map(|disk| disk.layout.log), volume.state().conn >= Conn::Connected)
    });
    // Without a disk core refuses.
    let Some(log) = current else { return Ok(()) };
    let wanted = (stripes.unwrap_or(log.stripes), stripe_kib.unwrap_or(log.stripe_blocks * BLOCK_KIB));
    if wanted == (log.stripes, log.stripe_blocks * BLOCK_KIB) {
        return Ok(());
    }
    // The kernel computes with 32 bits.
    let kib = wanted.0.wrapping_mul(wanted.1);
    Err(match kib {
        _ if kib > LOG_KIB_MAX => ConfigCode::LayoutTooBig.into(),
        _ if kib < LOG_KIB_MIN => ConfigCode::LayoutTooSmall.into(),
        _ if !connected => ConfigCode::LayoutConnected.into(),
        _ => Reply::with_info(
            ConfigCode::LayoutNoFit,
            "the layout of an attached disk's activity log cannot be changed here: detach, then drbdmeta create-md \
             --al-stripes ... --al-stripe-size-kB ...",
        ),
    })
}

/// The commands that go to core as they are.
fn volume_command(request: &Request, place: &Place) -> Option<Command> {
    let volume = place.volume;
    Some(match request {
        Request::Outdate { .. } => Command::Outdate { volume },
        Request::Invalidate { .. } => Command::Invalidate { volume },
        Request::InvalidateRemote { .. } => Command::InvalidateRemote { volume },
        Request::PauseSync { .. } => Command::PauseSync { volume },
        Request::ResumeSync { .. } => Command::ResumeSync { volume },
        Request::SuspendIo { .. } => Command::SuspendIo { volume },
        Request::ResumeIo { .. } => Command::ResumeIo { volume },
        Request::Verify { start, stop, .. } => Command::Verify { volume, start: *start, stop: *stop },
        Request::NewCurrentUuid { clear_bitmap, .. } => {
            Command::NewCurrentUuid { volume, clear_bitmap: *clear_bitmap }
        }
        _ => return None,
    })
}

fn settings_of(state: &State, place: &Place) -> Settings {
    Settings {
        disk: state.core.volume(place.volume).settings().clone(),
        net: state.core.net_settings().unwrap_or(&state.net).clone(),
        resource: state.core.settings().clone(),
    }
}

/// Tells who connects, not only the log, that another program has the port.
fn check_port(runner: &Runner, addresses: &AddressPair) -> Result<(), Reply> {
    let local = addresses.local.socket_address();
    match net::listen(local, BufferSizes::default()) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let text = connector::listen_error(local, &error);
            runner.log(Level::Error, None, &text);
            Err(Reply::with_info(ConfigCode::LocalAddr, text))
        }
        // What else is wrong may be over when the receiver listens.
        _ => Ok(()),
    }
}

fn strictest_fencing(state: &State) -> Fencing {
    let all = state.core.volumes().map(|(_, volume)| volume.settings().fencing);
    all.max().unwrap_or(Fencing::DontCare)
}

fn has_two_primaries(state: &State) -> bool {
    let both = |word: StateWord| word.role == Role::Primary && word.peer == Role::Primary;
    state.core.volumes().any(|(_, volume)| both(volume.state()))
}

fn has_primary(state: &State) -> bool {
    state.core.volumes().any(|(_, volume)| volume.state().role == Role::Primary)
}

/// Changes the settings of the connection, or those that are kept while there is none.
fn set_net(runner: &Arc<Runner>, net: NetSettings) -> CommandReply {
    let configured = runner.look(|state| {
        state.net = NetSettings { discard_my_data: false, tentative: false, ..net.clone() };
        state.core.net_settings().is_some()
    });
    if configured {
        runner.command(Command::NetSettings(Box::new(net)))
    } else {
        (ConfigCode::NoError.number(), Vec::new())
    }
}

/// Algorithms must not change under a running resync or verify.
fn check_running(runner: &Runner, before: &NetSettings, after: &NetSettings) -> Result<(), ConfigCode> {
    let (resync, verify) = runner.look(|state| {
        let any = |test: fn(Conn) -> bool| state.core.volumes().any(|(_, v)| test(v.state().conn));
        (any(Conn::is_resync), any(Conn::is_verify))
    });
    if resync && before.csums_alg != after.csums_alg {
        return Err(ConfigCode::CsumsResyncRunning);
    }
    if verify && before.verify_alg != after.verify_alg {
        return Err(ConfigCode::VerifyRunning);
    }
    Ok(())
}
