//! The choice by table, and what holds whatever the numbers are.

use super::*;
use proptest::prelude::*;

fn up(identity: u64) -> Candidate {
    Candidate {
        identity,
        weight: 1,
        in_flight: 0,
        limit: None,
        latency: None,
        standing: Standing::Up,
        is_tried: false,
    }
}

fn busy(identity: u64, in_flight: u32) -> Candidate {
    Candidate {
        in_flight,
        ..up(identity)
    }
}

fn standing(identity: u64, standing: Standing) -> Candidate {
    Candidate {
        standing,
        ..up(identity)
    }
}

fn tried(candidate: Candidate) -> Candidate {
    Candidate {
        is_tried: true,
        ..candidate
    }
}

fn limited(identity: u64, in_flight: u32, limit: u32) -> Candidate {
    Candidate {
        limit: Some(limit),
        ..busy(identity, in_flight)
    }
}

const RESTING: Standing = Standing::Resting {
    until: Duration::from_secs(9),
};
const EJECTED: Standing = Standing::Ejected {
    since: Duration::from_secs(1),
    until: Duration::from_secs(6),
    cause: Cause::Failures,
};
const UNHEALTHY: Standing = Standing::Unhealthy {
    since: Duration::from_secs(1),
    found: Unhealthy::Unreachable,
};

const RULE: Rule = Rule {
    affinity: None,
    affinity_bound_percent: 125,
    when_all_are_out: WhenAllAreOut::TryTheLeastBad,
};

/// The index that is chosen with these two numbers, or the first letters of why none is, and all reasons.
fn check(candidates: &[Candidate], random: [u64; 2], pick: Pick, why: &[Reason]) {
    let choice = choose(candidates, RULE, random);
    assert_eq!((choice.pick, choice.why.as_slice()), (pick, why), "{candidates:?}");
}

#[test]
fn each_candidate_has_its_reason() {
    use Reason::{AtLimit, Chosen, NotChosen, Out, Tried};
    check(&[up(1)], [0, 0], Pick::Take(0), &[Chosen(How::OnlyOne)]);
    check(
        &[standing(1, EJECTED), tried(up(2)), limited(3, 4, 4), up(4)],
        [0, 0],
        Pick::Take(3),
        &[Out(EJECTED), Tried, AtLimit(4), Chosen(How::OnlyOne)],
    );
    check(
        &[busy(1, 3), busy(2, 1), up(3)],
        [0, 0],
        Pick::Take(1),
        &[NotChosen, Chosen(How::LeastOfTwo { other: 0 }), NotChosen],
    );
    check(
        &[standing(1, Standing::DueForTrial), tried(up(2))],
        [0, 0],
        Pick::Take(0),
        &[Chosen(How::OnlyOne), Tried],
    );
    check(
        &[limited(1, 1, 1), standing(2, UNHEALTHY)],
        [0, 0],
        Pick::AllFull,
        &[AtLimit(1), Out(UNHEALTHY)],
    );
    check(
        &[tried(up(1)), tried(standing(2, RESTING))],
        [0, 0],
        Pick::AllTried,
        &[Tried, Tried],
    );
    check(&[], [0, 0], Pick::AllTried, &[]);
}

#[test]
fn where_all_are_out_the_least_bad_are_tried_and_said_to_be() {
    use Reason::{Chosen, Out, Tried};
    let all = [standing(1, UNHEALTHY), standing(2, EJECTED), standing(3, RESTING)];
    check(
        &all,
        [0, 0],
        Pick::Take(2),
        &[Out(UNHEALTHY), Out(EJECTED), Chosen(How::LeastBad)],
    );
    check(
        &[all[0], all[1], tried(all[2])],
        [0, 0],
        Pick::Take(1),
        &[Out(UNHEALTHY), Chosen(How::LeastBad), Tried],
    );
    let full = Candidate {
        standing: EJECTED,
        ..limited(1, 2, 2)
    };
    check(&[full], [0, 0], Pick::AllFull, &[Out(EJECTED)]);
    let give_up = Rule {
        when_all_are_out: WhenAllAreOut::GiveUp,
        ..RULE
    };
    assert_eq!(choose(&all, give_up, [0, 0]).pick, Pick::AllOut);
    let shared: Vec<usize> = (0..4)
        .map(|random| match choose(&[all[1]; 4], RULE, [random, 0]).pick {
            Pick::Take(index) => index,
            pick => panic!("{pick:?}"),
        })
        .collect();
    assert_eq!(shared, [0, 1, 2, 3], "they share what comes");
}

#[test]
fn a_slow_one_gets_less_and_small_differences_count_for_nothing() {
    let with = |in_flight, millis: u64| Candidate {
        latency: Some(Duration::from_millis(millis)),
        ..busy(millis, in_flight)
    };
    for (first, second, expected) in [
        (with(0, 100), with(0, 190), 0),
        (with(0, 190), with(0, 100), 0),
        (with(0, 200), with(0, 100), 1),
        (with(1, 100), with(0, 300), 0),
        (with(3, 100), with(0, 300), 1),
        (with(3, 100), with(1, 100), 1),
        (with(9, 100), up(2), 1),
    ] {
        let choice = choose(&[first, second], RULE, [0, 0]);
        assert_eq!(choice.pick, Pick::Take(expected), "{first:?} {second:?}");
    }
}

/// Numbers that look random, the same in each run.
struct Numbers(u64);

impl Numbers {
    fn two(&mut self) -> [u64; 2] {
        [0, 1].map(|_| {
            self.0 += 1;
            mixed(self.0)
        })
    }
}

/// How ten thousand requests spread, each staying for the time of `staying` others.
fn spread(mut candidates: Vec<Candidate>, staying: usize, key: impl Fn(usize) -> Option<u64>) -> Vec<u32> {
    let mut numbers = Numbers(0);
    let (mut counts, mut under_way) = (vec![0; candidates.len()], Vec::new());
    for request in 0..10_000 {
        let rule = Rule {
            affinity: key(request),
            ..RULE
        };
        let Pick::Take(index) = choose(&candidates, rule, numbers.two()).pick else {
            panic!("one is open");
        };
        counts[index] += 1;
        candidates[index].in_flight += 1;
        under_way.push(index);
        if under_way.len() > staying {
            candidates[under_way.remove(0)].in_flight -= 1;
        }
    }
    counts
}

#[test]
fn ten_thousand_choices_spread_by_weight() {
    let weights = |weights: &[u32]| -> Vec<Candidate> {
        let with = |(index, weight): (u64, &u32)| Candidate {
            weight: *weight,
            ..up(index)
        };
        (0..).zip(weights).map(with).collect()
    };
    for staying in [0, 20, 200] {
        for all in [&[1, 1, 1, 1][..], &[3, 1], &[5, 3, 2]] {
            let counts = spread(weights(all), staying, |_| None);
            let total: u32 = all.iter().sum();
            for (count, weight) in counts.iter().zip(all) {
                let fair = 10_000 * weight / total;
                assert!(
                    count.abs_diff(fair) <= fair / 8,
                    "{counts:?} of {all:?}, {staying} under way"
                );
            }
        }
    }
}

#[test]
fn a_prompt_stays_where_it_belongs_while_there_is_room() {
    let candidates: Vec<Candidate> = (1..=4).map(up).collect();
    let counts = spread(candidates.clone(), 0, |_| Some(77));
    assert_eq!(counts.iter().filter(|count| **count > 0).count(), 1, "{counts:?}");
    let counts = spread(candidates, 40, |_| Some(77));
    assert!(
        counts.iter().all(|count| *count > 0),
        "too much for one overflows: {counts:?}"
    );
    let owner = *counts.iter().max().unwrap();
    assert!(
        (2_500..=3_500).contains(&owner),
        "its share and a quarter more: {counts:?}"
    );
}

#[test]
fn many_prompts_spread_over_all() {
    let candidates = (1..=4).map(up).collect();
    let counts = spread(candidates, 40, |request| Some(mixed(request as u64 % 500)));
    for count in &counts {
        assert!((2_000..=3_000).contains(count), "{counts:?}");
    }
}

fn arbitrary() -> impl Strategy<Value = Candidate> {
    let standing = prop_oneof![
        Just(Standing::Up),
        Just(Standing::Up),
        Just(Standing::Up),
        Just(Standing::DueForTrial),
        Just(Standing::OnTrial),
        Just(EJECTED),
        Just(RESTING),
        Just(UNHEALTHY),
    ];
    let numbers = (any::<u64>(), 0..5_u32, 0..40_u32, prop::option::of(0..40_u32));
    let latency = prop::option::of((0..100_000_u64).prop_map(Duration::from_micros));
    (numbers, latency, standing, any::<bool>()).prop_map(
        |((identity, weight, in_flight, limit), latency, standing, is_tried)| Candidate {
            identity,
            weight,
            in_flight,
            limit,
            latency,
            standing,
            is_tried,
        },
    )
}

proptest! {
    #[test]
    fn what_is_taken_may_be_taken(
        candidates in prop::collection::vec(arbitrary(), 0..8),
        affinity in prop::option::of(any::<u64>()),
        random in any::<[u64; 2]>(),
    ) {
        let choice = choose(&candidates, Rule { affinity, ..RULE }, random);
        prop_assert_eq!(choice.why.len(), candidates.len());
        let may = |candidate: &Candidate| !candidate.is_tried && !candidate.is_full();
        let chosen: Vec<usize> = (0..candidates.len())
            .filter(|index| matches!(choice.why[*index], Reason::Chosen(_)))
            .collect();
        match choice.pick {
            Pick::Take(index) => {
                prop_assert_eq!(chosen, vec![index]);
                prop_assert!(may(&candidates[index]));
                let is_better_there = candidates.iter().any(|candidate| !candidate.is_tried && candidate.standing.is_usable());
                prop_assert_eq!(candidates[index].standing.is_usable(), is_better_there);
            }
            Pick::AllFull | Pick::AllTried | Pick::AllOut => {
                prop_assert!(chosen.is_empty());
                prop_assert!(!candidates.iter().any(|candidate| may(candidate) && candidate.standing.is_usable()));
                prop_assert_eq!(choice.pick == Pick::AllTried, candidates.iter().all(|candidate| candidate.is_tried));
            }
        }
    }

    #[test]
    fn affinity_never_overloads_one(
        weights in prop::collection::vec(1..5_u32, 2..8),
        keys in prop::collection::vec(0..3_u64, 1..200),
        bound in 100..200_u32,
    ) {
        let mut candidates: Vec<Candidate> = (0..).zip(&weights).map(|(identity, weight)| Candidate {
            weight: *weight,
            ..up(identity)
        }).collect();
        let all: u32 = weights.iter().sum();
        for (placed, key) in (0..).zip(keys) {
            let rule = Rule { affinity: Some(key), affinity_bound_percent: bound, ..RULE };
            let choice = choose(&candidates, rule, [mixed(placed), mixed(!placed)]);
            let Pick::Take(index) = choice.pick else { panic!("one is open") };
            let load: u32 = candidates.iter().map(|candidate| candidate.in_flight).sum();
            let share = f64::from(load) * f64::from(weights[index]) / f64::from(all);
            if matches!(choice.why[index], Reason::Chosen(How::Affinity | How::AffinityOverflow)) {
                let bound = share * f64::from(bound) / 100.0 + 1.0;
                prop_assert!(f64::from(candidates[index].in_flight) <= bound + 1e-9);
            }
            candidates[index].in_flight += 1;
        }
    }

    #[test]
    fn a_backend_that_goes_moves_only_its_own_prompts(count in 3..8_u64, key in any::<u64>(), gone in any::<prop::sample::Index>()) {
        let candidates: Vec<Candidate> = (1..=count).map(up).collect();
        let rule = Rule { affinity: Some(key), ..RULE };
        let before = choose(&candidates, rule, [0, 0]).pick;
        let gone = gone.index(candidates.len());
        let mut fewer = candidates.clone();
        fewer[gone].standing = EJECTED;
        let after = choose(&fewer, rule, [0, 0]).pick;
        prop_assert!(before == after || before == Pick::Take(gone));
    }
}
