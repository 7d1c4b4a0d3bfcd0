//! The application on a node: one that never has two overlapping requests in flight, or one that does.

use crate::script::Random;
use drbdbox::core::types::Token;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
pub enum Kind {
    Read,
    Write { tags: Vec<u64>, fua: bool },
    Discard { zeroes: bool },
    Flush,
}

#[derive(Debug, Clone)]
pub struct Request {
    pub kind: Kind,
    pub sector: u64,
    pub sectors: u64,
    /// Step at which it was submitted.
    pub began: u64,
    /// The other node had written all of it, and may have lost it since with its cache.
    pub peer_had_it: bool,
}

impl Request {
    /// Submitted at step `began`.
    pub fn new(kind: Kind, sector: u64, sectors: u64, began: u64) -> Request {
        Request { kind, sector, sectors, began, peer_had_it: false }
    }

    /// What it writes: sectors and their tags.
    pub fn tags(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let sectors = match self.kind {
            Kind::Write { .. } | Kind::Discard { .. } => self.sectors,
            Kind::Read | Kind::Flush => 0,
        };
        (0..sectors).map(|index| {
            let tag = match &self.kind {
                Kind::Write { tags, .. } => tags[index as usize],
                _ => 0,
            };
            (self.sector + index, tag)
        })
    }
}

#[derive(Default)]
pub struct Application {
    /// The device is open: requests may be submitted.
    pub open: bool,
    /// It closes the device as soon as nothing is in flight, for a demotion.
    pub closing: bool,
    pub in_flight: BTreeMap<Token, Request>,
    /// Size of the device as it is shown, sectors.
    pub size: u64,
}

impl Application {
    pub fn overlaps(&self, sector: u64, sectors: u64) -> bool {
        self.in_flight.values().any(|r| r.sector < sector + sectors && sector < r.sector + r.sectors)
    }

    /// A range, mostly near one of a few places, so that requests meet.
    pub fn range(&self, random: &mut Random, size: u64, extents: u64) -> (u64, u64) {
        let sectors = match random.below(20) {
            0 => 1 + random.below(8),
            1 => 8 * (1 + random.below(256)),
            2..=5 => 1 + random.below(64),
            _ => 8 * (1 + random.below(8)),
        };
        let sectors = sectors.min(size);
        let place = random.below(extents) * 8192;
        let offset = match random.below(6) {
            0 => random.below(8192),
            1 => 8192 - random.below(16),
            2 => random.below(64),
            _ => 8 * random.below(32),
        };
        let sector = if random.chance(4) { size - sectors } else { (place + offset).min(size - sectors) };
        (sector, sectors)
    }
}
