//! The application: what it asks for, and what it is told.

use super::World;
use crate::application::{Kind, Request};
use crate::disk::{tag_of, tagged};
use crate::node::V;
use drbdbox::conf::settings::Protocol;
use drbdbox::core::state::{Conn, Disk};
use drbdbox::core::types::*;

impl World {
    pub(super) fn submit(&mut self, n: usize) {
        if self.nodes[n].daemon.is_none() {
            return;
        }
        let size = self.nodes[n].application.size.min(self.used);
        if size == 0 {
            return;
        }
        let extents = (size / 8192).max(1);
        let application = &self.nodes[n].application;
        let (mut sector, mut sectors) = application.range(&mut self.random, size, extents);
        if self.p.resizes && self.random.chance(30) {
            // Where the device ended once, or ends.
            let end = *self.random.pick(&[self.p.sectors, size]);
            sector = end.saturating_sub(self.random.below(64)).min(size - sectors);
        }
        if self.p.two_primaries && self.random.chance(60) {
            // Where the other node writes, too.
            sector = self.random.below(48);
            if self.p.version.number() < 100 {
                (sector, sectors) = (sector / 16 * 16, 16);
            }
        }
        // Not drawn: below protocol 100 two writes that overlap and are not equal. Of the one that the arbiter refuses there, all
        // is lost at one node, and only what overlaps at the other (spec/wire.md 7.8; seed 55).
        let differs = |r: &Request| (r.sector, r.sectors) != (sector, sectors);
        let meets = |r: &Request| r.sector < sector + sectors && sector < r.sector + r.sectors;
        let other = &self.nodes[1 - n].application.in_flight;
        if self.p.version.number() < 100 && other.values().any(|r| meets(r) && differs(r)) {
            return;
        }
        let kind = self.random.below(100);
        if kind >= 92 {
            return self.begin(n, Request::new(Kind::Flush, sector, 0, self.step));
        }
        if application.overlaps(sector, sectors) && !(self.p.overlapping && kind < 62) {
            return;
        }
        let kind = match kind {
            0..=61 => {
                let number = self.next_write;
                self.next_write += 1;
                let tags = (sector..sector + sectors).map(|sector| number << 32 | sector).collect();
                Kind::Write { tags, fua: self.random.chance(5) }
            }
            62..=86 => Kind::Read,
            n => Kind::Discard { zeroes: n % 2 == 0 },
        };
        self.begin(n, Request::new(kind, sector, sectors, self.step));
    }

    pub(super) fn begin(&mut self, n: usize, request: Request) {
        let token = self.next_token;
        self.next_token += 1;
        let (sector, sectors, now) = (request.sector, request.sectors, self.now);
        self.event_outside(|| {
            let tag = match &request.kind {
                Kind::Write { tags, .. } => tags[0],
                _ => 0,
            };
            let kind = match &request.kind {
                Kind::Write { fua: true, .. } => "write (fua)",
                Kind::Write { .. } => "write",
                Kind::Read => "read",
                Kind::Discard { zeroes: true } => "write zeroes",
                Kind::Discard { .. } => "discard",
                Kind::Flush => "flush",
            };
            format!("{n}: application {kind} #{token} {sector}+{sectors} tag {tag:#x}")
        });
        self.nodes[n].application.in_flight.insert(token, request.clone());
        let Some(daemon) = &mut self.nodes[n].daemon else { return };
        let bytes = (sectors * 512) as u32;
        match request.kind {
            Kind::Read => daemon.core.read(now, V, token, sector, bytes),
            Kind::Write { tags, fua } => {
                for (at, tag) in (sector..).zip(&tags) {
                    self.judge.began(request.began, at, *tag);
                }
                daemon.core.write(now, V, token, sector, tagged(tags.into_iter()), fua);
            }
            Kind::Discard { zeroes } => {
                for at in sector..sector + sectors {
                    self.judge.began(request.began, at, 0);
                }
                daemon.core.discard(now, V, token, sector, bytes, zeroes);
            }
            Kind::Flush => daemon.core.flush(now, V, token),
        }
        self.outputs(n);
    }

    pub(super) fn completed(&mut self, n: usize, token: Token, result: Result<Option<Payload>, IoError>) {
        let request = self.nodes[n].application.in_flight.remove(&token);
        let Some(request) = request else { panic!("node {n} completes #{token}, which is not in flight") };
        self.say(|| {
            format!("{n}: application #{token} is {}", if result.is_ok() { "done" } else { "failed" })
        });
        let (step, began, sector) = (self.step, request.began, request.sector);
        // Below protocol C the only good disk may be the peer's, and need not have it yet.
        let promised = self.p.net.protocol == Protocol::C || self.is_local(n);
        match (&request.kind, &result) {
            (Kind::Write { .. } | Kind::Discard { zeroes: true }, Ok(_)) if !promised => {
                for (sector, tag) in request.tags() {
                    self.judge.unknown(step, began, sector, tag);
                }
            }
            (Kind::Read, Ok(payload)) => {
                let Some(payload) = payload else { panic!("a read without bytes") };
                assert_eq!(payload.len() as u64, request.sectors * 512, "bytes read");
                // What an older disk shows says nothing of the data that count.
                let judged = if self.is_left_behind(n) { 0 } else { request.sectors };
                for index in 0..judged {
                    let tag = tag_of(payload, index as usize);
                    if let Err(text) = self.judge.read(step, began, sector + index, tag) {
                        panic!("node {n} read #{token}: {text}");
                    }
                }
            }
            (Kind::Write { tags, fua }, Ok(_)) => {
                self.check_acknowledged(n, &request);
                let tags = tags.clone();
                for (at, tag) in (sector..).zip(tags) {
                    self.judge.acknowledged(step, began, at, tag, *fua && self.is_local(n));
                }
                self.judge.acknowledged += 1;
            }
            (Kind::Discard { zeroes: true }, Ok(_)) => {
                self.check_acknowledged(n, &request);
                for at in sector..sector + request.sectors {
                    self.judge.acknowledged(step, began, at, 0, false);
                }
            }
            (Kind::Discard { .. }, _) | (Kind::Write { .. }, Err(_)) => {
                for index in 0..request.sectors {
                    let tag = match &request.kind {
                        Kind::Write { tags, .. } => tags[index as usize],
                        _ => 0,
                    };
                    self.judge.unknown(step, began, sector + index, tag);
                }
            }
            (Kind::Flush, Ok(_)) => self.judge.flushed(began),
            _ => {}
        }
        if result.is_err() {
            self.judge.failed += 1;
            self.say(|| "application error".to_owned());
            // Only the peer was given it, and has gone.
            let alone = self.state(n).is_some_and(|state| state.conn < Conn::Connected);
            let gone = alone && self.without_disk[n] >= began;
            // A disk may refuse it, and the application need not hear of that if the other has it, too.
            let errors = self.p.io_errors > 0 || self.stats.errors > 0;
            let mirrored = !alone && self.mirroring_since.is_some_and(|since| since < began);
            let refused = errors && !mirrored;
            let explained = gone || refused || !self.has_data(n) || self.without_data[n] >= began;
            assert!(
                explained,
                "node {n}: I/O error for {:?} without a reason: {}",
                request.kind,
                self.summary()
            );
        }
    }

    pub fn is_local(&self, n: usize) -> bool {
        self.state(n).is_some_and(|state| state.disk == Disk::UpToDate)
    }

    /// Whether a Primary has lost its source, and an operator lets its application go on with what its disk has in sync, while
    /// another Primary goes on with the good data, or has done. Or the Primary has not noticed yet: the source need not fence whose disk is
    /// not good, for no write is done there without the source.
    fn is_left_behind(&self, n: usize) -> bool {
        let goes_on = self.nodes[1 - n].is_primary() || self.left_behind[n];
        let source_alone = self.state(1 - n).is_some_and(|source| source.conn < Conn::Connected);
        let cut_off = !self.is_local(n) && source_alone;
        (!self.has_data(n) || cut_off) && self.authority == Some(1 - n) && goes_on
    }

    /// Whether the node can see good data at all. The peer's may be gone before it hears of that.
    pub fn has_data(&self, n: usize) -> bool {
        self.state(n).is_some_and(|state| {
            state.disk == Disk::UpToDate || state.pdsk == Disk::UpToDate && self.is_local(1 - n)
        })
    }
}
