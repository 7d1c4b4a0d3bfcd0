//! Promotion, demotion, and the orderly end: core and door in the right order.
//! spec/system.md 7.4, spec/state.md 7.1.
//!
//! Promotion: core becomes Primary, then the device is opened to applications, then the caller hears
//! of it. Demotion: nobody may use the device any more (that is tested first), what is in
//! caches is written, the device is closed, then core becomes Secondary.

use super::daemon::{is_success, Daemon, Place};
use super::runner::CommandReply;
use crate::control::message::Reply;
use crate::core::codes::{ConfigCode, StateError};
use crate::core::state::{Disk, Role};
use crate::core::types::{Command, Level};
use crate::export::door::{Detach, DoorError, Holder};

fn list(holders: &[Holder]) -> Vec<String> {
    holders.iter().map(|holder| format!("device is {holder}")).collect()
}

impl Daemon {
    /// `primary`.
    pub(super) fn primary(&self, minor: u32, place: &Place, force: bool) -> CommandReply {
        let _role = place.role.lock();
        let runner = &place.runner;
        let before = runner.look(|state| state.core.volume(place.volume).state().role);
        let reply = runner.command(Command::Primary { volume: place.volume, force });
        if !is_success(reply.0) {
            return reply;
        }
        if let Err(error) = self.open_door(minor, place) {
            let text = format!("cannot make the device available: {error}");
            runner.log(Level::Error, Some(place.volume), &text);
            if before != Role::Primary {
                runner.command(Command::Secondary { volume: place.volume, open: false });
            }
            return (ConfigCode::InvalidRequest.number(), vec![text]);
        }
        self.changed(runner);
        reply
    }

    fn open_door(&self, minor: u32, place: &Place) -> Result<(), DoorError> {
        let runner = &place.runner;
        let number = runner.look(|state| state.core.volume(place.volume).number);
        self.shared.doors.create(&self.shared.config, minor, &runner.name, number)?;
        match self.shared.doors.find(minor) {
            Some(door) => door.attach(runner, place.volume),
            None => Ok(()),
        }
    }

    /// `secondary`.
    pub(super) fn secondary(&self, minor: u32, place: &Place) -> CommandReply {
        let _role = place.role.lock();
        let runner = &place.runner;
        let volume = place.volume;
        let door = self.shared.doors.find(minor);
        let was_attached = door.as_ref().is_some_and(|door| door.is_attached());
        let detached = door.as_ref().map_or(Ok(()), |door| door.detach(Detach::Unused));
        match detached {
            Ok(()) => {}
            Err(DoorError::HeldOpen(holders)) => {
                let info = list(&holders);
                for line in &info {
                    runner.log(Level::Info, Some(volume), line);
                }
                let (code, _) = runner.command(Command::Secondary { volume, open: true });
                return (code, info);
            }
            Err(error) => {
                let text = format!("cannot take the device away: {error}");
                runner.log(Level::Error, Some(volume), &text);
                return (StateError::DeviceInUse.code(), vec![text]);
            }
        }
        let reply = runner.command(Command::Secondary { volume, open: false });
        if is_success(reply.0) {
            self.changed(runner);
        } else if was_attached {
            if let Err(error) = self.open_door(minor, place) {
                let text = format!("cannot make the device available again: {error}");
                runner.log(Level::Error, Some(volume), &text);
            }
        }
        reply
    }

    /// 8.4's `down`.
    pub(super) fn down(&self, resource: &str) -> Result<Reply, Reply> {
        let Some(runner) = self.resource(resource) else {
            return Err(Reply::with_info(ConfigCode::ResourceUnknown, "unknown resource"));
        };
        let refused = |(code, mut info): CommandReply, text: &str| {
            info.push(text.to_owned());
            Reply::Code { code, info }
        };
        let minors = self.minors_of(&runner);
        for (minor, place) in &minors {
            let reply = self.secondary(*minor, place);
            if !is_success(reply.0) {
                return Err(refused(reply, "failed to demote"));
            }
        }
        let reply = runner.command(Command::Disconnect { force: false });
        if !is_success(reply.0) && reply.0 != StateError::AlreadyStandAlone.code() {
            return Err(refused(reply, "failed to disconnect"));
        }
        for (minor, place) in &minors {
            let reply = self.detach(*minor, place, false);
            if !is_success(reply.0) {
                return Err(refused(reply, "failed to detach"));
            }
        }
        for (minor, _) in &minors {
            if !self.delete_volume(*minor) {
                let reply = (ConfigCode::MinorConfigured.number(), Vec::new());
                return Err(refused(reply, "failed to delete volume"));
            }
        }
        self.delete_resource(&runner);
        Ok(Reply::ok())
    }

    /// Takes everything down, or nothing: as long as one device is in use, all stay (unless `force`).
    ///
    /// # Errors
    /// Who uses which device.
    pub fn take_all_down(&self, force: bool) -> Result<(), Reply> {
        let minors = self.minors();
        let mut in_use = Vec::new();
        for (minor, _) in &minors {
            let Some(door) = self.shared.doors.find(*minor) else { continue };
            in_use.extend(door.holders().iter().map(|holder| format!("/dev/drbd{minor} is {holder}")));
        }
        if !in_use.is_empty() && !force {
            return Err(Reply::Code { code: StateError::DeviceInUse.code(), info: in_use });
        }
        for (minor, place) in &minors {
            let (code, info) = self.secondary(*minor, place);
            if is_success(code) {
                continue;
            }
            if !force {
                return Err(Reply::Code { code, info });
            }
            // Its users see errors from now on. The meta data still say Primary: as after a crash.
            if let Some(door) = self.shared.doors.find(*minor) {
                if let Err(error) = door.detach(Detach::Forced) {
                    place.runner.log(Level::Error, Some(place.volume), &error.to_string());
                }
            }
            place.runner.command(Command::Secondary { volume: place.volume, open: false });
        }
        for runner in self.resources() {
            let (code, _) = runner.command(Command::Disconnect { force });
            if !is_success(code) && !force {
                // The peer does not agree (it is Primary and fences): it will see the connection go.
                runner.command(Command::Disconnect { force: true });
            }
        }
        for (minor, place) in &minors {
            let attached =
                place.runner.look(|state| state.core.volume(place.volume).state().disk > Disk::Diskless);
            if attached {
                self.detach(*minor, place, force);
            }
            self.delete_volume(*minor);
        }
        for runner in self.resources() {
            self.delete_resource(&runner);
        }
        Ok(())
    }
}
