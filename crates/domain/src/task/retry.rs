//! When something that failed is tried again.

use std::time::Duration;

/// How often something is tried, and how long between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Runs in all, the first included.
    pub attempts_max: u32,
    /// The longest wait before the second run; it doubles with each further one.
    pub first: Duration,
    pub max: Duration,
}

impl Retry {
    /// What must not run twice.
    pub const NEVER: Self = Self {
        attempts_max: 1,
        first: Duration::ZERO,
        max: Duration::ZERO,
    };

    /// How long to wait after so many attempts: anything from nothing to the whole wait, so that what failed together does
    /// not come back together.
    pub fn next(self, attempt: u32, jitter: u64) -> Duration {
        let longest = self.longest(attempt);
        let longest_ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(jitter.checked_rem(longest_ms.saturating_add(1)).unwrap_or(jitter))
    }

    fn longest(self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.max)
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts_max: 5,
            first: Duration::from_secs(1),
            max: Duration::from_mins(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_are_spread_over_all_of_it() {
        let retry = Retry {
            attempts_max: 9,
            first: Duration::from_secs(1),
            max: Duration::from_secs(6),
        };
        let longest = |attempt| retry.longest(attempt).as_secs();
        assert_eq!([0, 1, 2, 3, 4, u32::MAX].map(longest), [1, 1, 2, 4, 6, 6]);
        assert_eq!(retry.next(1, 1_000), Duration::from_secs(1));
        assert_eq!(retry.next(1, 1_001), Duration::ZERO);
        assert_eq!(Retry::NEVER.next(1, u64::MAX), Duration::ZERO);
        let endless = Retry {
            first: Duration::MAX,
            max: Duration::MAX,
            ..retry
        };
        assert_eq!(endless.next(3, 7), Duration::from_millis(7));
    }
}
