//! `resync-after` across resources: whose resync waits for whose. spec/state.md 11.4.

use super::daemon::{Daemon, Place};
use super::runner::Inline;
use crate::core::state::{Disk, StateWord};
use std::collections::BTreeMap;

/// A minor as its dependants see it.
#[derive(Debug, Clone, Copy)]
struct Member {
    state: StateWord,
    after: i32,
}

/// Pauses and resumes resyncs until every volume is as its dependency wants it. Called after state changes
/// and changes of settings.
pub fn apply(daemon: &Daemon) {
    let places = daemon.minors();
    // A resync that is resumed may pause another one; a chain is at most as long as there are minors.
    for _ in 0..=places.len() {
        let members = places.iter().map(|(minor, place)| (*minor, look(place)));
        let members: BTreeMap<u32, Member> = members.collect();
        if members.values().all(|member| member.after < 0 && !member.state.aftr_isp) {
            return;
        }
        let mut changed = false;
        for (minor, place) in &places {
            let waits = must_wait(&members, *minor);
            if members.get(minor).is_some_and(|member| member.state.aftr_isp != waits) {
                changed = true;
                place.runner.drive(Inline::Never, |core, now| {
                    core.pause_by_dependency(now, place.volume, waits);
                });
            }
        }
        if !changed {
            return;
        }
    }
}

fn look(place: &Place) -> Member {
    place.runner.look(|state| {
        let volume = state.core.volume(place.volume);
        Member { state: volume.state(), after: volume.settings().resync_after }
    })
}

/// Whether a minor that it depends on, directly or through others, is busy or paused.
fn must_wait(members: &BTreeMap<u32, Member>, minor: u32) -> bool {
    let Some(own) = members.get(&minor).filter(|own| own.state.disk > Disk::Diskless) else {
        return false;
    };
    let mut after = own.after;
    for _ in 0..members.len() {
        let Some(before) = u32::try_from(after).ok().and_then(|minor| members.get(&minor)) else {
            return false;
        };
        if before.state.disk == Disk::Diskless {
            return false;
        }
        if before.state.conn.is_sync_or_verify() || before.state.is_sync_paused() {
            return true;
        }
        after = before.after;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::state::Conn;

    fn member(conn: Conn, after: i32) -> Member {
        let state = StateWord { conn, disk: Disk::UpToDate, ..StateWord::UNCONFIGURED };
        Member { state, after }
    }

    #[test]
    fn the_whole_chain_counts_until_a_minor_that_is_not_there() {
        let mut members = BTreeMap::from([
            (0, member(Conn::SyncTarget, -1)),
            (1, member(Conn::Connected, 0)),
            (2, member(Conn::Connected, 1)),
            (3, member(Conn::Connected, 9)),
        ]);
        let waiting = |members: &_| [0, 1, 2, 3].map(|minor| must_wait(members, minor));
        assert_eq!(waiting(&members), [false, true, true, false]);
        if let Some(first) = members.get_mut(&0) {
            first.state.conn = Conn::Connected;
        }
        assert_eq!(waiting(&members), [false; 4]);
        if let Some(second) = members.get_mut(&1) {
            second.state.user_isp = true;
        }
        assert_eq!(waiting(&members), [false, false, true, false]);
    }

    #[test]
    fn a_circle_ends() {
        let members = BTreeMap::from([(0, member(Conn::Connected, 1)), (1, member(Conn::Connected, 0))]);
        assert!(!must_wait(&members, 0));
    }
}
