//! What the model did, as its packets tell: its application's requests, its administrator's commands.

use super::beginning::{bits_of, first, meta_of, speeds};
use super::player::Replay;
use super::said::{blocks, Said};
use super::{payload_of, Event};
use crate::core_node::V;
use drbdbox::core::state::{Change, Conn, Disk, Role, StateWord};
use drbdbox::core::types::Command;
use drbdbox::wire::*;

impl Replay<'_> {
    /// The model did something of its own accord.
    pub(super) fn act(&mut self, events: &[Event], index: usize) {
        let event = &events[index];
        let now = self.node.now;
        match &event.packet {
            Packet::Data(d) => {
                let request = self.request(d.block_id);
                // The model's disk failed with this write, if the next that it says of itself is that.
                let next = first(&events[index..], self.model, |p| match p {
                    Packet::State(word) => Some(StateWord::from_bits(*word).expect("state").disk),
                    Packet::Data(other) if other.block_id != d.block_id => Some(Disk::UpToDate),
                    _ => None,
                });
                if next == Some(Disk::Failed) && self.name.ends_with("io-error") {
                    self.node.fails_at = Some(d.sector);
                }
                let token = self.node.token();
                match payload_of(&event.payload) {
                    Some(payload) => {
                        self.unsent.push_back((request, d.sector, payload.len() as u32));
                        let fua = d.flags.contains(DataFlags::FUA);
                        self.node.core.write(now, V, token, d.sector, payload, fua);
                    }
                    None => self.node.core.flush(now, V, token),
                }
                self.end_of_write();
            }
            Packet::Trim(r) | Packet::Zeroes(r) => {
                let request = self.request(r.block_id);
                let token = self.node.token();
                self.unsent.push_back((request, r.sector, r.size));
                let zeroes = matches!(event.packet, Packet::Zeroes(_));
                self.node.core.discard(now, V, token, r.sector, r.size, zeroes);
                self.end_of_write();
            }
            Packet::OutOfSync(r) => {
                let token = self.node.token();
                let bytes = &self.node.data[r.sector as usize * 512..][..r.size as usize];
                let payload = payload_of(bytes).expect("payload");
                self.node.core.write(now, V, token, r.sector, payload, false);
            }
            Packet::DataRequest(r) => {
                let request = self.request(r.block_id);
                let token = self.node.token();
                self.unsent.push_back((request, r.sector, r.size));
                self.node.core.read(now, V, token, r.sector, r.size);
            }
            Packet::Barrier(barrier) => {
                self.barriers[0].push(barrier.number);
                if self.barriers[1].len() < self.barriers[0].len() {
                    // A flush may have ended the epoch, which is not seen on the wire.
                    let token = self.node.token();
                    self.node.core.flush(now, V, token);
                }
            }
            Packet::Uuids(u) => {
                if u.flags & 8 != 0 {
                    self.node.command(Command::NewCurrentUuid { volume: V, clear_bitmap: true });
                    self.take_sent();
                }
                self.learn_uuids(0, vec![u.current, u.bitmap, u.history[0], u.history[1]]);
            }
            Packet::SyncUuid(u) => {
                self.sync_uuids[0] += 1;
                self.learn_uuids(0, vec![*u]);
                for _ in 0..100 {
                    if self.sync_uuids[1] < self.sync_uuids[0] {
                        self.pass_time();
                    }
                }
            }
            Packet::StateChangeRequest(r) | Packet::ConnectionStateChangeRequest(r) => {
                let change = Change::from_wire(r.mask, r.val).expect("change");
                self.administrator(change);
            }
            Packet::SyncParam(parameters) => self.parameters(events, index, parameters),
            Packet::Sizes(sizes) => self.sizes(events, index, sizes),
            Packet::State(word) => self.state(StateWord::from_bits(*word).expect("state")),
            _ => {}
        }
        self.node.settle();
        self.take_sent();
    }

    /// The model's next request, a write or a read. While its epoch is not full, no write of it may complete.
    pub(super) fn request(&mut self, id: u64) -> usize {
        let request = self.requests;
        self.requests += 1;
        self.newest.insert(id, request);
        if let Some(epoch) = self.epochs[request] {
            self.to_come[epoch] -= 1;
            self.node.holds_writes = self.to_come[epoch] > 0;
        }
        request
    }

    pub(super) fn end_of_write(&mut self) {
        self.node.settle();
        self.take_sent();
        if !self.node.holds_writes {
            self.node.release_writes();
        }
    }

    pub(super) fn administrator(&mut self, change: Change) {
        let volume = V;
        let command = if change.role == Some(Role::Primary) {
            Command::Primary { volume, force: change.disk == Some(Disk::UpToDate) }
        } else if change.conn == Some(Conn::Disconnecting) {
            self.disconnecting = true;
            Command::Disconnect { force: false }
        } else if change.conn == Some(Conn::VerifyS) {
            Command::Verify { volume, start: None, stop: None }
        } else if change.conn == Some(Conn::StartingSyncS) {
            Command::InvalidateRemote { volume }
        } else if change.conn == Some(Conn::StartingSyncT) {
            Command::Invalidate { volume }
        } else if change.disk == Some(Disk::Outdated) {
            Command::Outdate { volume }
        } else if change.role == Some(Role::Secondary) {
            Command::Secondary { volume, open: false }
        } else if change.disk == Some(Disk::Diskless) || change.disk == Some(Disk::Failed) {
            Command::Detach { volume, force: false }
        } else {
            self.problems.push(format!("what did the administrator want? {change:?}"));
            return;
        };
        self.node.command(command);
        self.take_sent();
    }

    /// The model says its state: what changed without a packet that says why, somebody there wanted.
    pub(super) fn state(&mut self, word: StateWord) {
        let Some(last) = self.last_state.replace(word) else { return };
        let volume = V;
        let own = self.node.core.volume(V).state();
        if last.role == Role::Primary && word.role == Role::Secondary && own.role == Role::Primary {
            self.node.command(Command::Secondary { volume, open: false });
        }
        if word.user_isp != last.user_isp && own.user_isp != word.user_isp {
            self.node.command(match word.user_isp {
                true => Command::PauseSync { volume },
                false => Command::ResumeSync { volume },
            });
        }
        if word.disk < last.disk && word.disk <= Disk::Failed && own.disk > Disk::Failed {
            self.node.command(Command::Detach { volume, force: true });
        }
        if word.disk == Disk::Outdated && own.disk == Disk::UpToDate {
            self.node.command(Command::Outdate { volume });
        }
        if word.conn == Conn::StartingSyncT && own.conn == Conn::Connected {
            self.node.command(Command::Invalidate { volume });
        }
        if word.conn == Conn::StartingSyncS && own.conn == Conn::Connected {
            self.node.command(Command::InvalidateRemote { volume });
        }
        if word.role == Role::Primary && own.role == Role::Secondary {
            self.node.command(Command::Primary { volume, force: true });
        }
    }

    /// The peer has no disk, and is about to attach one: what the Primary wrote meanwhile did not pass the wire, but
    /// is in its bitmap.
    pub(super) fn hidden_writes(&mut self, later: &[Event]) {
        let own = self.node.core.volume(V).state();
        if own.role != Role::Primary || own.pdsk != Disk::Diskless {
            return;
        }
        let model = || later.iter().filter(|e| e.from == self.model);
        let spoken = model().map(|e| (&e.packet, e.payload.as_slice()));
        let said = Said::new(spoken, self.link.version, bits_of(later), |uuid| uuid);
        let mut writes = Vec::new();
        for block in said.bitmap {
            let content = model().find_map(|e| match e.packet {
                Packet::RsDataReply(r) if blocks((r.sector, e.payload.len() as u32)).contains(&block) => {
                    e.payload.get((block * 8 - r.sector) as usize * 512..)?.get(..4096)
                }
                _ => None,
            });
            writes.extend(content.and_then(payload_of).map(|content| (block * 8, content)));
        }
        for (sector, content) in writes {
            let token = self.node.token();
            self.node.holds_writes = false;
            self.node.core.write(self.node.now, V, token, sector, content, false);
            self.node.settle();
            self.take_sent();
        }
    }

    /// The administrator of the model changed the speed of resyncs.
    pub(super) fn parameters(&mut self, events: &[Event], index: usize, sync: &SyncParam) {
        if first(&events[..index], self.model, |p| matches!(p, Packet::SyncParam(_)).then_some(())).is_some()
        {
            let settings = speeds(self.node.core.volume(V).settings().clone(), sync);
            self.node.command(Command::DiskSettings { volume: V, settings: Box::new(settings) });
        }
    }

    /// The model says sizes in the middle of a link: a disk is attached, or its device has grown.
    pub(super) fn sizes(&mut self, events: &[Event], index: usize, sizes: &Sizes) {
        let model = self.model;
        let earlier = first(&events[..index], model, |p| matches!(p, Packet::Sizes(_)).then_some(()));
        if earlier.is_none() {
            return;
        }
        let state = first(&events[index..], model, |p| match p {
            Packet::State(word) => Some(StateWord::from_bits(*word).expect("state")),
            _ => None,
        });
        let own = self.node.core.volume(V).state();
        match state {
            Some(state) if state.disk == Disk::Negotiating && own.disk == Disk::Diskless => {
                self.last_state = None;
                let mut meta = meta_of(self.link.version, &events[index..], model, state);
                meta.super_block.uuids = meta.super_block.uuids.map(|uuid| self.core_uuid(uuid));
                self.node.attach(meta);
            }
            _ if own.disk > Disk::Failed && sizes.d_size > self.node.core.volume(V).size_sectors() => {
                let command = Command::Resize {
                    volume: V,
                    size: sizes.u_size,
                    assume_peer_has_space: false,
                    assume_clean: false,
                };
                self.node.command(command);
            }
            _ => {}
        }
    }
}
