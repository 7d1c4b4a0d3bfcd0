//! Who may ask and who may order on the control socket.
//!
//! Root and the user that runs the daemon may do everything. Beside them a group may be let in to do the same, and
//! another one to look. Membership is what /etc/group says (or the primary group of the asking process) at the moment of
//! the call. Who may only look sees no secrets and no content of disks.

use super::message::{Event, EventKind, Request};
use crate::status::{Resource, Snapshot};
use nix::unistd::{Gid, Group, Uid, User};
use std::fmt;

/// What a client may do. Each includes the ones before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Nothing.
    None,
    /// See the state.
    Look,
    /// Change it, and see secrets.
    Change,
}

/// Groups that are let in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Access {
    /// May do what root may.
    pub change: Option<Gid>,
    /// May see the state.
    pub look: Option<Gid>,
}

/// No such group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownGroup(String);

impl fmt::Display for UnknownGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: neither a group of /etc/group nor a number", self.0)
    }
}

/// A group by its name or number.
///
/// # Errors
/// There is none of this name.
pub fn group(text: &str) -> Result<Gid, UnknownGroup> {
    if let Ok(number) = text.parse() {
        return Ok(Gid::from_raw(number));
    }
    match Group::from_name(text) {
        Ok(Some(group)) => Ok(group.gid),
        _ => Err(UnknownGroup(text.to_string())),
    }
}

impl Access {
    /// What a process of this user, with this primary group, may do.
    pub fn right_of(&self, uid: Uid, gid: Gid) -> Right {
        let is_member = |of: Option<Gid>| of.is_some_and(|of| of == gid || is_listed(uid, of));
        if uid.is_root() || uid == nix::unistd::geteuid() || is_member(self.change) {
            Right::Change
        } else if is_member(self.look) {
            Right::Look
        } else {
            Right::None
        }
    }

    /// Mode of the socket, and the group that it is given to. One group can be left to the kernel; with two, everybody
    /// gets as far as [`right_of`](Self::right_of).
    pub fn of_socket(&self) -> (u32, Option<Gid>) {
        match (self.change, self.look) {
            (None, None) => (0o600, None),
            (Some(one), None) | (None, Some(one)) => (0o660, Some(one)),
            (Some(change), Some(look)) if change == look => (0o660, Some(change)),
            (Some(_), Some(_)) => (0o666, None),
        }
    }
}

/// Whether /etc/group lists the user as a member, or /etc/passwd has it as the user's own.
fn is_listed(uid: Uid, of: Gid) -> bool {
    let Ok(Some(user)) = User::from_uid(uid) else { return false };
    user.gid == of || matches!(Group::from_gid(of), Ok(Some(group)) if group.mem.contains(&user.name))
}

/// Whether a request changes nothing.
pub fn is_question(request: &Request) -> bool {
    matches!(request, Request::Snapshot | Request::ProcText | Request::Subscribe)
}

/// Takes out of a picture what is not for everybody.
pub fn hide_secrets(snapshot: &mut Snapshot) {
    snapshot.resources.iter_mut().for_each(hide_secrets_of);
}

fn hide_secrets_of(resource: &mut Resource) {
    resource.connection.net.shared_secret.clear();
}

/// Takes out of an event what is not for everybody.
pub fn hide_secrets_in(event: &mut Event) {
    match &mut event.kind {
        EventKind::Start(snapshot) => hide_secrets(snapshot),
        EventKind::State { resource, .. } | EventKind::Resource(resource) => hide_secrets_of(resource),
        EventKind::DigestMismatch { data, .. } => data.clear(),
        EventKind::Skipped(_)
        | EventKind::ResourceDeleted { .. }
        | EventKind::Helper { .. }
        | EventKind::SyncProgress { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_give_their_rights_and_nobody_else_has_any() {
        let (user, own) = (Uid::from_raw(4_000_000_000), Gid::from_raw(4_000_000_001));
        let other = Gid::from_raw(4_000_000_002);
        let none = Access::default();
        assert_eq!(none.right_of(user, own), Right::None);
        assert_eq!(none.right_of(Uid::from_raw(0), other), Right::Change);
        assert_eq!(none.right_of(nix::unistd::geteuid(), other), Right::Change);
        let look = Access { look: Some(own), ..none };
        assert_eq!(look.right_of(user, own), Right::Look);
        assert_eq!(look.right_of(user, other), Right::None);
        let change = Access { change: Some(own), look: Some(other) };
        assert_eq!(change.right_of(user, own), Right::Change);
        assert_eq!(change.right_of(user, other), Right::Look);
    }

    #[test]
    fn root_alone_has_the_socket_unless_a_group_is_named() {
        let gid = |number| Some(Gid::from_raw(number));
        for (change, look, wanted) in [
            (None, None, (0o600, None)),
            (gid(7), None, (0o660, gid(7))),
            (None, gid(8), (0o660, gid(8))),
            (gid(7), gid(7), (0o660, gid(7))),
            (gid(7), gid(8), (0o666, None)),
        ] {
            assert_eq!(Access { change, look }.of_socket(), wanted);
        }
        assert_eq!(group("12"), Ok(Gid::from_raw(12)));
        assert!(group("no-such-group").unwrap_err().to_string().contains("no-such-group"));
    }
}
