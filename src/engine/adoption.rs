//! A daemon that is started again after a crash goes on where the one before was: with the device of a Primary whose
//! users (a mounted file system) wait in the kernel. Only if nothing has happened to the data meanwhile; else the device
//! goes, and they see errors, as they must: they know another content than the one that the disk has now.
//!
//! Nobody but the peer can tell: it may have been promoted when it lost this node. So this node asks (by the handshake of
//! a connection), and becomes Primary as an administrator would make it so, which the peer has to agree to.

use super::daemon::{is_success, Daemon, Place};
use super::doors::DoorSlot;
use crate::core::state::Conn;
use crate::core::types::Level;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For so long the peer is waited for. What was under way waits in the kernel for as long at least.
const PEER_LIMIT: Duration = Duration::from_secs(30);

const NOT_ASKED: &str = "the peer, which may have newer data, cannot be asked";

/// What is to be done about an orphan.
enum Decision {
    Adopt,
    Wait,
    LetGo(&'static str),
    /// Somebody else has decided.
    Nothing,
}

/// Decides about the devices that the daemon before this one left, of all minors that there are: one thread for each, as
/// long as it takes. Call it when the resources are back, and before clients may give orders.
pub fn start(daemon: &Arc<Daemon>) {
    for (minor, place) in daemon.minors() {
        let Some(door) = daemon.shared.doors.find(minor).filter(|door| door.orphan().is_some()) else {
            continue;
        };
        let of_thread = Arc::clone(daemon);
        let (kept_door, kept_place) = (Arc::clone(&door), place.clone());
        let spawned =
            place.runner.thread("adopt").spawn(move || decide(&of_thread, minor, &kept_place, &kept_door));
        if let Err(error) = spawned {
            place.runner.log(Level::Error, Some(place.volume), &format!("cannot start a thread: {error}"));
            door.disown();
        }
    }
}

fn decide(daemon: &Daemon, minor: u32, place: &Place, door: &DoorSlot) {
    // First the subscription, then the look at the state: no change is missed.
    let events = daemon.shared.hub.subscribe();
    let until = Instant::now() + PEER_LIMIT;
    let let_go = |why: &str| {
        let text = format!("the device that was in use when the daemon died does not go on: {why}");
        place.runner.log(Level::Error, Some(place.volume), &text);
        door.disown();
    };
    loop {
        match look(place, door) {
            Decision::Nothing => return,
            Decision::LetGo(why) => return let_go(why),
            Decision::Adopt => {
                let (code, info) = daemon.primary(minor, place, false);
                if !is_success(code) {
                    let_go(&format!("this node cannot become Primary: {code} {info:?}"));
                }
                return;
            }
            Decision::Wait if Instant::now() >= until => return let_go(NOT_ASKED),
            Decision::Wait => {
                let _ = events.receive(until.saturating_duration_since(Instant::now()));
            }
        }
    }
}

fn look(place: &Place, door: &DoorSlot) -> Decision {
    let Some(seen) = door.orphan() else { return Decision::Nothing };
    place.runner.look(|state| {
        if state.volumes.get(place.volume).is_none_or(|slot| slot.deleted) {
            Decision::Nothing
        } else if state.core.continues(place.volume, seen) {
            Decision::Adopt
        } else if state.core.may_continue(place.volume, seen) {
            match state.core.volume(place.volume).state().conn {
                Conn::StandAlone => Decision::LetGo(NOT_ASKED),
                _ => Decision::Wait,
            }
        } else {
            Decision::LetGo("the data may be others than its users know")
        }
    })
}
