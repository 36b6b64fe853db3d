//! When a child that ended is started again: after a wait that doubles, is jittered and bounded, and starts afresh once
//! the child was healthy for a while. There is no number of attempts after which it is given up.

use super::process::Patience;
use crate::Entropy;
use std::time::Duration;

/// How a supervisor treats its child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// The longest wait after the first end in a row.
    pub first: Duration,
    /// The longest wait at all.
    pub max: Duration,
    /// A child that ran for so long was healthy: when it ends, the wait is the first one.
    pub healthy_after: Duration,
    /// How long whoever attends to the child may finish once draining begins.
    pub linger: Duration,
    /// How the child is ended.
    pub patience: Patience,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            max: Duration::from_secs(30),
            healthy_after: Duration::from_mins(1),
            linger: Duration::ZERO,
            patience: Patience::default(),
        }
    }
}

impl Restart {
    /// How many ends in a row the one that just happened makes.
    pub(super) fn ends_in_a_row(&self, before: u32, ran_for: Duration) -> u32 {
        if ran_for >= self.healthy_after {
            1
        } else {
            before.saturating_add(1)
        }
    }

    /// Between half of the doubling wait and the whole of it, so that what failed together does not return together.
    pub(super) fn wait(&self, ends_in_a_row: u32, entropy: &Entropy) -> Duration {
        let half = self.longest_wait(ends_in_a_row) / 2;
        let half_us = u64::try_from(half.as_micros()).unwrap_or(u64::MAX - 1);
        half + Duration::from_micros(entropy.below(half_us + 1))
    }

    fn longest_wait(&self, ends_in_a_row: u32) -> Duration {
        let doublings = ends_in_a_row.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound() {
        let longest_ms = |ends| Restart::default().longest_wait(ends).as_millis();
        let expected = [
            100, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000,
        ];
        for (ends, expected) in (0..).zip(expected) {
            assert_eq!(longest_ms(ends), expected, "after {ends}");
        }
        assert_eq!(longest_ms(u32::MAX), 30_000);
    }

    #[test]
    fn waits_are_jittered_between_half_and_whole() {
        let (restart, entropy) = (Restart::default(), Entropy::seeded(1));
        for ends in 1..40 {
            let longest = restart.longest_wait(ends);
            let waits: Vec<Duration> = (0..50).map(|_| restart.wait(ends, &entropy)).collect();
            assert!(
                waits.iter().all(|wait| (longest / 2..=longest).contains(wait)),
                "after {ends}"
            );
            assert!(waits.iter().any(|wait| *wait != waits[0]), "after {ends}: no jitter");
        }
    }

    #[test]
    fn only_health_makes_ends_forgotten() {
        let restart = Restart::default();
        let ends = |before, ran_s| restart.ends_in_a_row(before, Duration::from_secs(ran_s));
        assert_eq!(
            (ends(0, 0), ends(3, 59), ends(3, 60), ends(u32::MAX, 1)),
            (1, 4, 1, u32::MAX)
        );
    }
}
