//! The daemon: all resources, and the commands about them. spec/drbdsetup.md 3.2 and 6.2.
//!
//! A command is carried out on the thread of the client that sent it; it may wait (for the peer, a
//! handler, the disk). Nothing is locked meanwhile but the role of the volume that a promotion or
//! demotion is about, so that a handler can call drbdsetup back.

use super::options::Settings;
use super::rank;
use super::runner::{CommandReply, Runner};
use super::shared::Shared;
use super::snapshot;
use crate::conf::settings::ResourceSettings;
use crate::conf::Dialect;
use crate::control::hub::Subscription;
use crate::control::message::{Call, EventKind, Reply, Request};
use crate::control::Service;
use crate::core::codes::ConfigCode;
use crate::core::types::{Level, VolumeIndex};
use crate::status::{AddressPair, Snapshot};
use crate::sys::sync::{Holder, Mutex};
use crate::sys::time::monotonic_ms;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Largest minor. spec/decisions.md 3.5.
pub const MINOR_MAX: u32 = 1_048_575;

/// Largest volume number.
const VOLUME_MAX: u32 = 65535;

/// Where a minor is.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its resource.
    pub runner: Arc<Runner>,
    /// Its volume in core.
    pub volume: VolumeIndex,
    /// Held while its role changes: core and door together.
    pub role: Arc<Mutex<()>>,
}

#[derive(Debug, Default)]
struct Registry {
    resources: BTreeMap<String, Arc<Runner>>,
    minors: BTreeMap<u32, Place>,
}

/// Ends the daemon's main loop.
type StopRequest = Box<dyn Fn() + Send>;

/// All resources of a daemon.
pub struct Daemon {
    /// What they have in common.
    pub shared: Arc<Shared>,
    registry: Mutex<Registry>,
    /// Told when a client asks the daemon to end.
    stop: Mutex<Option<StopRequest>>,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon").field("registry", &self.registry).finish_non_exhaustive()
    }
}

impl From<CommandReply> for Reply {
    fn from((code, info): CommandReply) -> Reply {
        Reply::Code { code, info }
    }
}

/// Whether a reply's code means success.
pub fn is_success(code: i32) -> bool {
    matches!(code, 1..=4 | 101)
}

impl Daemon {
    /// A daemon without resources.
    pub fn new(shared: Arc<Shared>) -> Arc<Daemon> {
        Arc::new(Daemon {
            shared,
            registry: Mutex::ranked(rank::LIST, Registry::default()),
            stop: Mutex::default(),
        })
    }

    /// What to call when a client asks the daemon to end.
    pub fn on_stop_request(&self, stop: StopRequest) {
        *self.stop.lock() = Some(stop);
    }

    /// All resources.
    pub fn resources(&self) -> Vec<Arc<Runner>> {
        self.registry.lock().resources.values().cloned().collect()
    }

    /// All resources, if the list can be had within that time.
    ///
    /// # Errors
    /// Who has it.
    pub(super) fn resources_within(&self, at_most: Duration) -> Result<Vec<Arc<Runner>>, Holder> {
        Ok(self.registry.try_lock_for(at_most)?.resources.values().cloned().collect())
    }

    /// Where threads wait for the list of resources.
    pub(super) fn list_address(&self) -> usize {
        self.registry.address()
    }

    /// All minors.
    pub fn minors(&self) -> Vec<(u32, Place)> {
        self.registry.lock().minors.iter().map(|(minor, place)| (*minor, place.clone())).collect()
    }

    /// The minors of a resource.
    pub fn minors_of(&self, runner: &Arc<Runner>) -> Vec<(u32, Place)> {
        let mut minors = self.minors();
        minors.retain(|(_, place)| Arc::ptr_eq(&place.runner, runner));
        minors
    }

    /// A resource.
    pub fn resource(&self, name: &str) -> Option<Arc<Runner>> {
        self.registry.lock().resources.get(name).cloned()
    }

    /// Where a minor is.
    pub fn minor(&self, minor: u32) -> Option<Place> {
        self.registry.lock().minors.get(&minor).cloned()
    }

    /// The minor of a command; made if the call says so (8.3's `--create-device`).
    ///
    /// # Errors
    /// 127, or why it cannot be made.
    pub fn minor_of(&self, call: &Call, minor: u32) -> Result<Place, Reply> {
        if let Some(place) = self.minor(minor) {
            if call.create_device {
                self.make_door(minor, &place)?;
                self.name_device(minor, call);
            }
            return Ok(place);
        }
        if !call.create_device || minor >= self.shared.config.minor_count {
            return Err(match call.form {
                Dialect::V83 => ConfigCode::MinorInvalid.into(),
                Dialect::V84 => Reply::with_info(ConfigCode::MinorInvalid, "unknown minor"),
            });
        }
        let wanted = call.resource_name.clone().unwrap_or_else(|| format!("minor-{minor}"));
        let taken = |name: &str| {
            let runner = self.resource(name);
            runner.is_some_and(|r| r.look(|state| state.core.volumes().any(|(_, v)| v.number == 0)))
        };
        // One volume a resource in 8.3: a name that is taken gets no second volume 0.
        let name = if taken(&wanted) { format!("minor-{minor}") } else { wanted };
        let settings = ResourceSettings::defaults(Dialect::V83);
        let runner = self.make_resource(&name, false, settings)?;
        let place = self.make_volume(&runner, minor, 0, Dialect::V83)?;
        self.name_device(minor, call);
        Ok(place)
    }

    /// Gives the device of a minor the name that the call's configuration has for it.
    fn name_device(&self, minor: u32, call: &Call) {
        let Some(door) = self.shared.doors.find(minor) else { return };
        if call.device_name.is_some() && door.device_name() != call.device_name {
            door.link_name(&self.shared.config, call.device_name.as_deref());
            self.shared.configuration_changed();
        }
    }

    /// The resource of that name; made if there is none.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn make_resource(
        &self,
        name: &str,
        explicit: bool,
        settings: ResourceSettings,
    ) -> Result<Arc<Runner>, Reply> {
        let mut registry = self.registry.lock();
        if let Some(runner) = registry.resources.get(name) {
            return Ok(Arc::clone(runner));
        }
        let dialect = if explicit { Dialect::V84 } else { Dialect::V83 };
        let net = Settings::defaults(dialect).net;
        let runner = Runner::start(name, explicit, settings, net, Arc::clone(&self.shared))
            .map_err(|error| Reply::with_info(ConfigCode::NoMemory, error.to_string()))?;
        registry.resources.insert(name.to_owned(), Arc::clone(&runner));
        drop(registry);
        self.changed(&runner);
        Ok(runner)
    }

    /// Makes a volume and its door.
    ///
    /// # Errors
    /// The door's that cannot be worked around: a real driver serves the minor.
    pub fn make_volume(
        &self,
        runner: &Arc<Runner>,
        minor: u32,
        number: u16,
        dialect: Dialect,
    ) -> Result<Place, Reply> {
        let place = {
            let mut registry = self.registry.lock();
            if registry.minors.contains_key(&minor) {
                return Err(ConfigCode::MinorExists.into());
            }
            let settings = Settings::defaults(dialect).disk;
            let volume = runner.add_volume(number, minor, settings);
            let place =
                Place { runner: Arc::clone(runner), volume, role: Arc::new(Mutex::ranked(rank::ROLE, ())) };
            registry.minors.insert(minor, place.clone());
            place
        };
        if let Err(reply) = self.make_door(minor, &place) {
            self.delete_volume(minor);
            return Err(reply);
        }
        self.changed(runner);
        Ok(place)
    }

    /// Makes the door of a minor, if it has none.
    fn make_door(&self, minor: u32, place: &Place) -> Result<(), Reply> {
        let runner = &place.runner;
        let number = runner.look(|state| state.core.volume(place.volume).number);
        let Err(error) = self.shared.doors.create(&self.shared.config, minor, &runner.name, number) else {
            return Ok(());
        };
        let text = error.to_string();
        runner.log(Level::Error, Some(place.volume), &text);
        if self.shared.doors.is_taken(&self.shared.config, minor) {
            let hint = "unload the drbd kernel module, or choose another minor";
            return Err(Reply::with_info(ConfigCode::InvalidRequest, format!("{text}; {hint}")));
        }
        // The disk can be replicated without a device; becoming Primary will fail.
        let hint = "the device cannot be used here until that is solved; it is replicated all the same";
        runner.log(Level::Warning, Some(place.volume), hint);
        Ok(())
    }

    /// Removes a volume. False: in use.
    pub fn delete_volume(&self, minor: u32) -> bool {
        let Some(place) = self.minor(minor) else { return true };
        if !place.runner.remove_volume(place.volume) {
            return false;
        }
        self.shared.doors.remove(minor);
        self.registry.lock().minors.remove(&minor);
        self.changed(&place.runner);
        true
    }

    /// Removes a resource without volumes.
    pub fn delete_resource(&self, runner: &Arc<Runner>) {
        self.registry.lock().resources.remove(&runner.name);
        runner.end();
        self.shared.hub.publish(EventKind::ResourceDeleted { name: runner.name.clone() });
        self.shared.configuration_changed();
    }

    /// Something changed that a restarted daemon has to know, and readers of events.
    pub fn changed(&self, runner: &Arc<Runner>) {
        runner.look(|state| {
            state.revision += 1;
            let resource = Box::new(snapshot::resource(runner, state));
            self.shared.hub.publish(EventKind::Resource(resource));
        });
        self.shared.configuration_changed();
    }

    /// The resource whose connection has these endpoints.
    pub fn connection(&self, addresses: &AddressPair) -> Option<Arc<Runner>> {
        self.resources().into_iter().find(|runner| {
            runner.look(|state| {
                state.core.net_settings().is_some() && state.addresses.as_ref() == Some(addresses)
            })
        })
    }

    fn new_resource(&self, call: &Call) -> Result<Reply, Reply> {
        let Request::NewResource { name, changes } = &call.request else {
            return Err(ConfigCode::UnknownRequest.into());
        };
        if name.is_empty() || name.contains('/') || name.len() > 127 {
            return Err(Reply::with_info(ConfigCode::InvalidRequest, "invalid resource name"));
        }
        let mut settings = Settings::defaults(Dialect::V84);
        settings.apply(changes)?;
        self.make_resource(name, true, settings.resource)?;
        Ok(Reply::ok())
    }

    fn new_minor(&self, resource: &str, minor: u32, volume: u32) -> Result<Reply, Reply> {
        let invalid = |text: &str| Err(Reply::with_info(ConfigCode::InvalidRequest, text));
        let Some(runner) = self.resource(resource) else {
            return Err(Reply::with_info(ConfigCode::ResourceUnknown, "unknown resource"));
        };
        if minor > MINOR_MAX {
            return invalid("requested minor out of range");
        }
        let number = match u16::try_from(volume) {
            Ok(number) if volume <= VOLUME_MAX => number,
            _ => return invalid("requested volume id out of range"),
        };
        if let Some(place) = self.minor(minor) {
            if !Arc::ptr_eq(&place.runner, &runner) {
                return invalid("minor exists in different resource");
            }
            if runner.look(|state| state.core.volume(place.volume).number) != number {
                return invalid("minor exists as different volume");
            }
            self.make_door(minor, &place)?;
            return Ok(Reply::ok());
        }
        if runner.look(|state| state.core.volumes().any(|(_, v)| v.number == number)) {
            return Err(ConfigCode::MinorExists.into());
        }
        self.make_volume(&runner, minor, number, Dialect::V84)?;
        Ok(Reply::ok())
    }

    fn delete_minor(&self, minor: u32) -> Result<Reply, Reply> {
        if self.minor(minor).is_none() {
            return Err(Reply::with_info(ConfigCode::MinorInvalid, "unknown minor"));
        }
        if !self.delete_volume(minor) {
            return Err(ConfigCode::MinorConfigured.into());
        }
        Ok(Reply::ok())
    }

    fn delete_resource_by_name(&self, name: &str) -> Result<Reply, Reply> {
        let Some(runner) = self.resource(name) else {
            return Err(Reply::with_info(ConfigCode::ResourceUnknown, "unknown resource"));
        };
        if runner.look(|state| state.core.net_settings().is_some()) {
            return Err(ConfigCode::NetConfigured.into());
        }
        if !self.minors_of(&runner).is_empty() {
            return Err(ConfigCode::ResourceInUse.into());
        }
        self.delete_resource(&runner);
        Ok(Reply::ok())
    }

    /// A client asks the daemon to end.
    fn stop_requested(&self) -> Result<Reply, Reply> {
        self.take_all_down(false)?;
        if let Some(stop) = &*self.stop.lock() {
            stop();
        }
        Ok(Reply::ok())
    }

    fn dispatch(&self, call: &Call) -> Result<Reply, Reply> {
        match &call.request {
            Request::NewResource { .. } => self.new_resource(call),
            Request::NewMinor { resource, minor, volume } => self.new_minor(resource, *minor, *volume),
            Request::DeleteMinor { minor } => self.delete_minor(*minor),
            Request::DeleteResource { name } => self.delete_resource_by_name(name),
            Request::Down { resource } => self.down(resource),
            Request::Stop => self.stop_requested(),
            Request::Snapshot | Request::ProcText | Request::Subscribe => {
                Err(ConfigCode::UnknownRequest.into())
            }
            _ => self.configure(call),
        }
    }
}

impl Service for Daemon {
    fn handle(&self, call: Call) -> Reply {
        let reply = self.dispatch(&call).unwrap_or_else(|reply| reply);
        // What it did is kept before anybody hears of it.
        self.shared.running.write(self);
        log::debug!("{:?}: {reply:?}", call.request);
        reply
    }

    fn snapshot(&self) -> Snapshot {
        let runners = self.resources();
        let explicit = runners.iter().any(|runner| runner.explicit);
        Snapshot {
            now_ms: monotonic_ms(),
            dialect: if explicit { Dialect::V84 } else { Dialect::V83 },
            build_tag: crate::sys::build::tag(),
            proc_details: 0,
            resources: runners.iter().map(|r| r.look(|state| snapshot::resource(r, state))).collect(),
        }
    }

    fn subscribe(&self) -> Subscription {
        self.shared.hub.subscribe()
    }
}
