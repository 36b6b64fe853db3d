//! Who goes first among requests that wait for the same model.

use crate::model::Priority;
use std::time::Duration;

/// Waiting so long is worth one step of priority: what is least urgent waits at most three of these behind whatever
/// came later, however much that is.
pub const AGE_STEP: Duration = Duration::from_secs(5);

/// A place in the queue; the smallest goes first. It is the time of arrival, put earlier by what the priority is worth,
/// so that the order never changes while they wait, and ageing costs nothing.
pub fn rank(arrived: Duration, priority: Priority) -> i128 {
    let head_start = AGE_STEP * (priority as u32);
    let micros = |time: Duration| i128::try_from(time.as_micros()).unwrap_or(i128::MAX / 2);
    micros(arrived) - micros(head_start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Priority::{Critical, High, Low, Medium};

    /// Who goes first, of these arrivals in milliseconds.
    fn order(arrivals: &[(u64, Priority)]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..arrivals.len()).collect();
        order.sort_by_key(|index| {
            let (at_ms, priority) = arrivals[*index];
            rank(Duration::from_millis(at_ms), priority)
        });
        order
    }

    #[test]
    fn the_more_urgent_goes_first_until_the_other_has_waited_long_enough() {
        for (arrivals, expected) in [
            (&[(0, Medium), (1, Medium), (2, Medium)][..], &[0, 1, 2][..]),
            (&[(0, Low), (1, Medium), (2, High), (3, Critical)], &[3, 2, 1, 0]),
            (&[(0, Low), (4_999, Medium), (5_001, Medium)], &[1, 0, 2]),
            (&[(0, Low), (14_999, Critical), (15_001, Critical)], &[1, 0, 2]),
            (&[(100, High), (0, High), (50, Critical)], &[2, 1, 0]),
        ] {
            assert_eq!(order(arrivals), expected, "{arrivals:?}");
        }
    }
}
