//! Reciprocal rank fusion: several ranked lists become one.
//!
//! Scores of different sources cannot be compared, ranks can. Something at rank r of a list (from 1) gets 1 / (60 + r)
//! from it; what stands in several lists gets the sum.

use std::{collections::HashMap, hash::Hash};

/// How slowly a rank's worth falls; the value of the paper (Cormack and others, 2009), which everybody uses.
const K: f64 = 60.0;

/// All that stands in the lists, best first, each once with its score. Equals keep the order in which they first appear.
pub(crate) fn fuse<T, Q: Hash + Eq>(lists: Vec<Vec<T>>, key: impl Fn(&T) -> Q) -> Vec<(T, f64)> {
    let mut fused: Vec<(T, f64, usize)> = Vec::new();
    let mut places: HashMap<Q, usize> = HashMap::new();
    for list in lists {
        let mut rank = K;
        for (position, one) in list.into_iter().enumerate() {
            rank += 1.0;
            let place = *places.entry(key(&one)).or_insert(fused.len());
            match fused.get_mut(place) {
                Some((_, score, _)) => *score += 1.0 / rank,
                None => fused.push((one, 1.0 / rank, position)),
            }
        }
    }
    // Stable; among equal scores the better rank, then the earlier list.
    fused.sort_by(|(_, a, first), (_, b, second)| b.total_cmp(a).then(first.cmp(second)));
    fused.into_iter().map(|(one, score, _)| (one, score)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order(lists: &[&str]) -> String {
        let lists = lists.iter().map(|list| list.chars().collect()).collect();
        fuse(lists, |c: &char| *c).into_iter().map(|(c, _)| c).collect()
    }

    #[test]
    fn what_several_lists_know_comes_first() {
        assert_eq!(order(&["abc", "xcy"]), "caxby");
        assert_eq!(order(&["xy", "yx"]), "xy");
        assert_eq!(order(&["abc", ""]), "abc");
        assert_eq!(order(&["ab", "cd"]), "acbd");
        assert_eq!(order(&[]), "");
    }

    #[test]
    fn the_score_is_the_sum() {
        let fused = fuse(vec![vec!['a', 'b'], vec!['b']], |c| *c);
        assert_eq!(fused[0].0, 'b');
        assert!((fused[0].1 - (1.0 / 62.0 + 1.0 / 61.0)).abs() < 1e-12);
        assert!((fused[1].1 - 1.0 / 61.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_doubled_or_out_of_order(lists in prop::collection::vec(prop::collection::vec(0_u8..20, 0..15), 0..5)) {
            let mut expected: Vec<u8> = lists.concat();
            expected.sort_unstable();
            expected.dedup();
            let fused = fuse(lists, |n| *n);
            prop_assert!(fused.is_sorted_by(|a, b| a.1 >= b.1));
            let mut found: Vec<u8> = fused.into_iter().map(|(n, _)| n).collect();
            found.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
