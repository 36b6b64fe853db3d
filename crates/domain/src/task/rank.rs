//! Who comes first: the more urgent, and whoever has waited longer.

use crate::model::Priority;

/// A task that has waited for so long stands where a new one stands that is one step more urgent.
pub const AGEING_STEP_MS: i64 = 60_000;

/// The place in the queue: the smallest comes first. What waits grows more urgent without anybody touching it, since
/// everything else that comes later gets a larger number.
pub fn rank(priority: Priority, ready_at_ms: i64) -> i64 {
    ready_at_ms.saturating_sub(i64::from(priority as u8) * AGEING_STEP_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urgency_wins_until_somebody_has_waited_a_step_longer() {
        let now = 1_800_000_000_000;
        assert!(rank(Priority::Critical, now) < rank(Priority::Low, now));
        assert!(rank(Priority::Medium, now) < rank(Priority::Medium, now + 1));
        let steps = 3;
        let waited = now - steps * AGEING_STEP_MS;
        assert_eq!(rank(Priority::Low, waited), rank(Priority::Critical, now));
        assert!(
            rank(Priority::Low, waited - 1) < rank(Priority::Critical, now),
            "the lowest waits three steps longer, and no more"
        );
        rank(Priority::Critical, i64::MIN);
    }
}
