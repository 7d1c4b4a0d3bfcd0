//! What a seed means: random numbers, and the settings of a run.

use crate::node::layout;
use drbdbox::conf::settings::{
    AfterSplitBrain, DiskSettings, Fencing, NetSettings, OnIoError, OnNoData, Protocol, ResourceSettings,
};
use drbdbox::conf::Dialect;
use drbdbox::meta::MetaIndex;
use drbdbox::wire::{Features, ProtocolVersion};

/// Splitmix64.
pub struct Random(u64);

impl Random {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        let next = self.ahead(0);
        self.0 = self.0.wrapping_add(Random::STEP);
        next
    }

    /// The number that comes when `count` others have been drawn.
    pub fn ahead(&self, count: u64) -> u64 {
        let mut z = self.0.wrapping_add(Random::STEP.wrapping_mul(count + 1));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn fork(&mut self) -> Random {
        Random(self.next())
    }

    /// 0 .. `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// True with this likelihood in percent.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn per_mille(&mut self, n: u64) -> bool {
        self.below(1000) < n
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// The settings of a run.
#[derive(Debug, Clone)]
pub struct Parameters {
    pub version: ProtocolVersion,
    pub features: Features,
    pub net: NetSettings,
    pub disk: [DiskSettings; 2],
    pub resource: ResourceSettings,
    /// Sizes of the two backing devices.
    pub disk_sectors: [u64; 2],
    /// Size of the device.
    pub sectors: u64,
    /// The disks begin UpToDate and equal; else with different junk and fresh meta data.
    pub begins_in_sync: bool,
    /// The application may have overlapping requests in flight.
    pub overlapping: bool,
    /// Requests that it has in flight at most.
    pub depth: u64,
    /// Disk errors per 1000 requests.
    pub io_errors: u64,
    /// Steps in which things go wrong.
    pub chaos_steps: u64,
    /// Weights of what operators and the world do, of 10000 steps.
    pub operators: u64,
    pub faults: u64,
    pub power_cuts: bool,
    /// Disks are slow sometimes: up to this many milliseconds.
    pub slow_ms: u64,
    pub verify: bool,
    /// Disks grow and shrink, and operators change the size of the device.
    pub resizes: bool,
    /// The meta data are at the end of the data devices.
    pub internal: bool,
    /// Both nodes may be Primary at the same time.
    pub two_primaries: bool,
}

impl Parameters {
    /// Resyncs are as fast as they can be from now on: what is left is their end, not what meets them on the way.
    pub fn hurry(&mut self) {
        for disk in &mut self.disk {
            disk.resync_rate = 1 << 20;
            disk.c_plan_ahead = 0;
            disk.c_min_rate = 0;
            disk.rs_discard_granularity = if disk.rs_discard_granularity > 0 { 65536 } else { 0 };
        }
        self.net.max_buffers = 2048;
    }

    /// The policy of both nodes.
    pub fn fencing(&self) -> Fencing {
        self.disk[0].fencing
    }

    pub fn new(random: &mut Random) -> Parameters {
        let version = *random.pick(&[86, 87, 90, 91, 93, 94, 95, 96, 96, 97, 97, 100, 101, 101, 101]);
        let features = match version {
            101 => Features(random.below(16) as u32),
            _ => Features::NONE,
        };
        let protocol = *random.pick(&[Protocol::A, Protocol::B, Protocol::C, Protocol::C, Protocol::C]);
        let two_sizes = random.chance(15);
        let big = random.chance(4);
        let sectors = if big { 300 * 2048 } else { 40 * 2048 } + random.below(4) * random.below(30);
        let larger = if two_sizes { random.below(5000) } else { 0 };
        let disk_sectors =
            if random.chance(50) { [sectors, sectors + larger] } else { [sectors + larger, sectors] };
        let fencing = match random.below(10) {
            0 => Fencing::ResourceOnly,
            1 if protocol != Protocol::A => Fencing::ResourceAndStonith,
            _ => Fencing::DontCare,
        };
        let io_errors = if random.chance(12) { 1 + random.below(4) } else { 0 };
        let verify = version >= 88 && random.chance(10);
        // Digests are the engine's business; a slow one would only slow the simulation down.
        let digest = if random.chance(99) { "crc32c" } else { "md5" };
        let csums = version >= 89 && random.chance(15);
        let plan_ahead = *random.pick(&[0, 0, 20]);
        let rate = *random.pick(&[1 << 20, 250, 30 << 10]);
        let on_io_error = *random.pick(&[OnIoError::Detach, OnIoError::Detach, OnIoError::PassOn]);
        let power_cuts = random.chance(60);
        let mut disk_of = |_| DiskSettings {
            al_extents: *random.pick(&[7, 7, 127]),
            resync_rate: rate,
            c_plan_ahead: plan_ahead,
            c_max_rate: 100 << 10,
            c_fill_target: 100,
            c_min_rate: *random.pick(&[0, 250, 4096]),
            fencing,
            on_io_error,
            disk_flushes: power_cuts || random.chance(50),
            disk_drain: true,
            // What is small makes the resync of a large device long.
            rs_discard_granularity: *random.pick(if big { &[0, 0, 0, 65536] } else { &[0, 0, 4096, 16384] }),
            ..DiskSettings::defaults(Dialect::V83)
        };
        let disk = [disk_of(0), disk_of(1)];
        let net = NetSettings {
            protocol,
            use_rle: random.chance(60),
            max_buffers: *random.pick(&[32, 128, 2048, 2048]),
            max_epoch_size: *random.pick(&[20, 2048]),
            ko_count: *random.pick(&[0, 2, 7]),
            timeout: *random.pick(&[20, 60]),
            ping_int: *random.pick(&[1, 10]),
            verify_alg: if verify { digest.to_owned() } else { String::new() },
            csums_alg: if csums { digest.to_owned() } else { String::new() },
            ..NetSettings::defaults(Dialect::V83)
        };
        let on_no_data = if random.chance(15) { OnNoData::SuspendIo } else { OnNoData::IoError };
        Parameters {
            version: ProtocolVersion::new(version).expect("version"),
            features,
            net,
            disk,
            resource: ResourceSettings {
                on_no_data_accessible: on_no_data,
                ..ResourceSettings::defaults(Dialect::V83)
            },
            disk_sectors,
            sectors,
            begins_in_sync: big || random.chance(70),
            overlapping: random.chance(10),
            depth: *random.pick(&[1, 3, 8, 30]),
            io_errors,
            chaos_steps: 500 + random.below(4000),
            operators: *random.pick(&[0, 10, 30, 80]),
            faults: *random.pick(&[0, 5, 15, 40, 100]),
            power_cuts,
            slow_ms: *random.pick(&[0, 0, 200, 8000]),
            verify,
            resizes: false,
            internal: false,
            two_primaries: false,
        }
    }

    /// What only a part of all seeds has, from random numbers of its own: so the other seeds mean what they always meant.
    pub fn specialize(&mut self, seed: u64) {
        let mut random = Random::new(seed ^ 0x0005_1e57_a7e5_0f5e);
        if seed % 8 == 5 {
            self.resizes = true;
            self.internal = random.chance(40);
            if self.internal {
                // Room for the meta data.
                self.disk_sectors = self.disk_sectors.map(|sectors| sectors + 128);
                let maximum = |sectors| layout(MetaIndex::Internal, sectors * 512).usable_sectors(sectors);
                self.sectors = self.disk_sectors.map(maximum).into_iter().min().unwrap_or(0);
            }
            self.operators = self.operators.max(30);
        }
        if seed % 8 == 7 {
            self.two_primaries = true;
            self.operators = self.operators.max(30);
            let fencing = if random.chance(60) { Fencing::ResourceAndStonith } else { Fencing::DontCare };
            for disk in &mut self.disk {
                disk.fencing = fencing;
            }
            self.net.allow_two_primaries = true;
            self.net.protocol = Protocol::C;
            use AfterSplitBrain::*;
            self.net.after_sb_0pri =
                *random.pick(&[Disconnect, Disconnect, DiscardZeroChanges, DiscardLeastChanges]);
            self.net.after_sb_1pri = *random.pick(&[Disconnect, Disconnect, Consensus, DiscardSecondary]);
            self.net.after_sb_2pri = *random.pick(&[Disconnect, Disconnect, Violently, CallPriLostAfterSb]);
        }
    }
}
