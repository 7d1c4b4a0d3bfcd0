//! How fast a resync may go: the fixed rate, or the controller. spec/resync.md 6.

use crate::conf::settings::DiskSettings;
use std::collections::VecDeque;

/// Sectors of a block of 4 KiB.
const SECTORS_PER_BLOCK: i64 = 8;

/// The controller's memory, in sectors.
#[derive(Debug, Clone, Default)]
pub struct Controller {
    plan: VecDeque<i64>,
    planned: i64,
    in_flight: i64,
    /// Sectors that arrived since the last turn.
    pub arrived: u64,
    /// KiB/s that the last turn aimed at ("want" in /proc/drbd).
    pub want: u32,
    /// Turns since the start; a rate below a block a turn is spread over several.
    turns: u32,
}

impl Controller {
    /// Starts anew.
    pub fn reset(&mut self) {
        *self = Controller::default();
    }

    /// A turn of 100 ms: how many blocks may be requested in it (spec/resync.md 6.2 and 6.3).
    pub fn turn(&mut self, settings: &DiskSettings) -> u64 {
        let arrived = std::mem::take(&mut self.arrived) as i64;
        self.turns = self.turns.wrapping_add(1);
        if settings.c_plan_ahead == 0 {
            self.in_flight = (self.in_flight - arrived).max(0);
            return self.fixed(settings.resync_rate);
        }
        self.in_flight -= arrived;
        let steps = settings.c_plan_ahead as usize;
        if self.plan.len() != steps {
            self.plan = VecDeque::from(vec![0; steps]);
            self.planned = 0;
        }
        let goal = if self.in_flight + arrived == 0 {
            i64::from(settings.c_plan_ahead) * (i64::from(settings.resync_rate) / 5)
        } else if settings.c_fill_target > 0 {
            i64::from(settings.c_fill_target)
        } else {
            arrived * i64::from(settings.c_delay_target)
        };
        let correction = (goal - self.in_flight - self.planned) / steps as i64;
        for entry in &mut self.plan {
            *entry += correction;
        }
        self.planned += correction * steps as i64;
        let now = self.plan.pop_front().unwrap_or(0);
        self.plan.push_back(0);
        self.planned -= now;
        let limit = i64::from(settings.c_max_rate) / 5;
        let blocks = (arrived + now).clamp(0, limit) / SECTORS_PER_BLOCK;
        self.want = (40 * blocks) as u32;
        blocks as u64
    }

    /// Blocks a turn for a fixed rate in KiB/s. A rate below one block a turn gets one every few turns.
    fn fixed(&mut self, rate: u32) -> u64 {
        self.want = rate;
        match rate / 40 {
            0 => u64::from(self.turns % (40 / rate.max(1)) == 0),
            blocks => u64::from(blocks),
        }
    }

    /// Blocks were requested.
    pub fn requested(&mut self, blocks: u64) {
        self.in_flight += blocks as i64 * SECTORS_PER_BLOCK;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::Dialect;

    fn settings() -> DiskSettings {
        DiskSettings {
            resync_rate: 250,
            c_plan_ahead: 20,
            c_fill_target: 100,
            ..DiskSettings::defaults(Dialect::V84)
        }
    }

    fn run(settings: &DiskSettings, turns: usize) -> Vec<u64> {
        let mut controller = Controller::default();
        let mut turn = || {
            let blocks = controller.turn(settings);
            controller.requested(blocks);
            controller.arrived = blocks * 8;
            blocks
        };
        (0..turns).map(|_| turn()).collect()
    }

    /// The computed vectors of spec/resync.md 6.3.
    #[test]
    fn the_controller_follows_the_vectors() {
        let expected = [
            6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 24, 26, 28, 24, 25, 26, 27, 28,
            29, 30, 31, 32, 33,
        ];
        assert_eq!(run(&settings(), 30), expected);
        let delay = DiskSettings { c_fill_target: 0, ..settings() };
        let expected = [6, 9, 13, 20, 31, 48, 74, 114, 176, 272, 421, 652, 1010, 1565, 2426, 2560, 2560];
        assert_eq!(run(&delay, 17), expected);
    }

    /// The captured vector: nobody answers, seven blocks go out in the first turn.
    #[test]
    fn without_answers_the_controller_waits() {
        let mut controller = Controller::default();
        assert_eq!(controller.turn(&settings()), 6);
        controller.requested(7);
        let next: Vec<u64> = (0..12).map(|_| controller.turn(&settings())).collect();
        assert_eq!(next, vec![0; 12]);
        assert_eq!(controller.turn(&settings()), 1);
    }

    #[test]
    fn a_fixed_rate_is_kept_even_below_a_block_a_turn() {
        let fixed = |rate| DiskSettings { resync_rate: rate, c_plan_ahead: 0, ..settings() };
        assert_eq!(run(&fixed(4000), 2), vec![100, 100]);
        assert_eq!(run(&fixed(20), 40).iter().sum::<u64>(), 20, "one block in two turns");
    }
}
