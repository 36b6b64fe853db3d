//! Routing: which of a model's backends takes a request, and why.
//!
//! Pure: what is known of each backend, the moment and two random numbers are parameters. A choice comes with a reason
//! for each candidate, and people are shown the same reasons that decided: there is no second account of it.
//!
//! It refuses to leave a request without a backend because all of them look bad. Where every one is out, the least bad
//! are tried, and the choice says so.

mod health;
mod queue;

pub use health::{Cause, Health, Standing, Taken, Unhealthy};
pub use queue::{AGE_STEP, rank};

use std::time::Duration;

/// Latencies that differ by less than this factor are taken for equal: below it they tell of prompts, not of backends.
const LATENCY_FACTOR: u64 = 2;

/// What is known of one backend when a request is to be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The same for the same backend in every process, so that replicas agree on where a prompt belongs.
    pub identity: u64,
    /// Its share among the backends; never 0.
    pub weight: u32,
    pub in_flight: u32,
    /// So many requests at one time at most.
    pub limit: Option<u32>,
    /// How long the first byte took of late; `None` where nobody knows.
    pub latency: Option<Duration>,
    pub standing: Standing,
    /// This request was there already.
    pub is_tried: bool,
}

impl Candidate {
    fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.in_flight >= limit)
    }
}

/// How to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Requests with the same key begin with the same text, which a backend that has seen it need not read again.
    pub affinity: Option<u64>,
    /// A backend may have so many percent of its share of the load, and one request more, before affinity is given up.
    pub affinity_bound_percent: u32,
    pub when_all_are_out: WhenAllAreOut,
}

/// What to do where no backend is fit to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenAllAreOut {
    TryTheLeastBad,
    /// Somebody else can take the request.
    GiveUp,
}

impl WhenAllAreOut {
    /// `is_last_hope`: nobody else can take the request.
    pub fn of(is_last_hope: bool) -> Self {
        if is_last_hope {
            Self::TryTheLeastBad
        } else {
            Self::GiveUp
        }
    }
}

/// What became of a choice, with a reason for each candidate in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub pick: Pick,
    pub why: Vec<Reason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// The candidate at this index.
    Take(usize),
    /// Those that could take it have all the requests that they may have: wait.
    AllFull,
    /// None is fit to be asked, and the rule says to give up then.
    AllOut,
    /// The request was at every one.
    AllTried,
}

/// Why a candidate was taken, or was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Chosen(How),
    /// It could have been.
    NotChosen,
    Tried,
    AtLimit(u32),
    /// It is out of use, or on trial with another request.
    Out(Standing),
}

/// What spoke for the one that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    OnlyOne,
    /// The prompt belongs there.
    Affinity,
    /// The prompt belongs elsewhere, where there is too much to do; it overflows to here.
    AffinityOverflow,
    /// It has less to do than the other one that was drawn.
    LeastOfTwo {
        other: usize,
    },
    /// All are out, and nothing speaks against this one as much as against others.
    LeastBad,
}

/// Chooses among the candidates.
pub fn choose(candidates: &[Candidate], rule: Rule, random: [u64; 2]) -> Choice {
    let mut why: Vec<Reason> = candidates.iter().map(first_look).collect();
    let (pick, how) = decide(candidates, &why, rule, random);
    if let Pick::Take(index) = pick {
        why[index] = Reason::Chosen(how);
    }
    Choice { pick, why }
}

/// What speaks against one before it is compared with others.
fn first_look(candidate: &Candidate) -> Reason {
    match candidate.limit {
        _ if candidate.is_tried => Reason::Tried,
        _ if !candidate.standing.is_usable() => Reason::Out(candidate.standing),
        Some(limit) if candidate.is_full() => Reason::AtLimit(limit),
        Some(_) | None => Reason::NotChosen,
    }
}

fn decide(candidates: &[Candidate], why: &[Reason], rule: Rule, random: [u64; 2]) -> (Pick, How) {
    let with = |wanted: fn(&Reason) -> bool| -> Vec<usize> {
        let matching = why.iter().enumerate().filter(|(_, reason)| wanted(reason));
        matching.map(|(index, _)| index).collect()
    };
    let open = with(|reason| matches!(reason, Reason::NotChosen));
    match open[..] {
        [] => {}
        [only] => return (Pick::Take(only), How::OnlyOne),
        _ => {
            let (index, how) = choose_open(candidates, &open, rule, random);
            return (Pick::Take(index), how);
        }
    }
    if why.iter().any(|reason| matches!(reason, Reason::AtLimit(_))) {
        return (Pick::AllFull, How::OnlyOne);
    }
    let out = with(|reason| matches!(reason, Reason::Out(_)));
    let pick = match rule.when_all_are_out {
        _ if out.is_empty() => Pick::AllTried,
        WhenAllAreOut::GiveUp => Pick::AllOut,
        WhenAllAreOut::TryTheLeastBad => choose_least_bad(candidates, &out, random),
    };
    (pick, How::LeastBad)
}

fn choose_open(candidates: &[Candidate], open: &[usize], rule: Rule, random: [u64; 2]) -> (usize, How) {
    if let Some(key) = rule.affinity {
        let (first, second) = owners(candidates, open, key);
        if is_within_bound(candidates, open, first, rule.affinity_bound_percent) {
            return (first, How::Affinity);
        }
        if is_within_bound(candidates, open, second, rule.affinity_bound_percent) {
            return (second, How::AffinityOverflow);
        }
    }
    let (index, other) = least_of_two(candidates, open, random);
    (index, How::LeastOfTwo { other })
}

/// Those that are out in the mildest way share what comes, so that an outage does not end as a stampede to one.
fn choose_least_bad(candidates: &[Candidate], out: &[usize], random: [u64; 2]) -> Pick {
    let badness = |index: usize| candidates[index].standing.badness();
    let mildest = out.iter().map(|index| badness(*index)).min();
    let mut open = out.to_vec();
    open.retain(|index| Some(badness(*index)) == mildest && !candidates[*index].is_full());
    match open[..] {
        [] => Pick::AllFull,
        [only] => Pick::Take(only),
        _ => Pick::Take(least_of_two(candidates, &open, random).0),
    }
}

/// Draws two by weight, and takes the one with less to do; where they are equal, the first.
fn least_of_two(candidates: &[Candidate], open: &[usize], random: [u64; 2]) -> (usize, usize) {
    let first = draw(candidates, open.iter().copied(), random[0]);
    let rest = open.iter().copied().filter(|index| *index != first);
    let second = draw(candidates, rest, random[1]);
    if is_busier(&candidates[first], &candidates[second]) {
        (second, first)
    } else {
        (first, second)
    }
}

fn draw(candidates: &[Candidate], among: impl Iterator<Item = usize> + Clone, random: u64) -> usize {
    let weight = |index: usize| u64::from(candidates[index].weight.max(1));
    let total: u64 = among.clone().map(weight).sum();
    let mut left = random.checked_rem(total).unwrap_or(0);
    let mut drawn = 0;
    for index in among {
        drawn = index;
        let Some(next) = left.checked_sub(weight(index)) else {
            break;
        };
        left = next;
    }
    drawn
}

/// Compares `(in flight / weight + 1) × latency`. Two idle ones of about the same latency are equal, whatever their
/// weights: then the draw alone decides, and that was by weight.
fn is_busier(one: &Candidate, other: &Candidate) -> bool {
    let (own_latency, other_latency) = comparable(one.latency, other.latency);
    let load = |candidate: &Candidate| u128::from(candidate.in_flight) + u128::from(candidate.weight.max(1));
    let weight = |candidate: &Candidate| u128::from(candidate.weight.max(1));
    load(one) * u128::from(own_latency) * weight(other) > load(other) * u128::from(other_latency) * weight(one)
}

fn comparable(one: Option<Duration>, other: Option<Duration>) -> (u64, u64) {
    let (Some(one), Some(other)) = (one, other) else {
        return (1, 1);
    };
    let millis = |latency: Duration| u64::try_from(latency.as_millis()).unwrap_or(u64::MAX).max(1);
    let (one, other) = (millis(one), millis(other));
    if one.max(other) < one.min(other).saturating_mul(LATENCY_FACTOR) {
        (1, 1)
    } else {
        (one, other)
    }
}

/// The two with the highest claims on a key: weighted rendezvous hashing, so that a backend that comes or goes moves
/// only the keys that are or were its own.
fn owners(candidates: &[Candidate], open: &[usize], key: u64) -> (usize, usize) {
    let claim = |index: usize| claim(&candidates[index], key);
    let best = |among: &mut dyn Iterator<Item = usize>| among.max_by(|a, b| claim(*a).total_cmp(&claim(*b)));
    let first = best(&mut open.iter().copied()).unwrap_or(0);
    let second = best(&mut open.iter().copied().filter(|index| *index != first));
    (first, second.unwrap_or(first))
}

#[expect(clippy::cast_precision_loss, reason = "53 bits of a hash are as good as 64")]
fn claim(candidate: &Candidate, key: u64) -> f64 {
    let hash = mixed(candidate.identity ^ mixed(key));
    // Strictly between 0 and 1, so that its logarithm is negative and finite.
    let uniform = ((hash >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
    f64::from(candidate.weight.max(1)) / -uniform.ln()
}

/// The finaliser of splitmix64: each bit of the input changes half of the output.
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Whether it has no more than its share of the load as it is, stretched by the bound, and one request more.
fn is_within_bound(candidates: &[Candidate], open: &[usize], index: usize, bound_percent: u32) -> bool {
    let in_flight = |index: usize| u128::from(candidates[index].in_flight);
    let weight = |index: usize| u128::from(candidates[index].weight.max(1));
    let load: u128 = open.iter().map(|index| in_flight(*index)).sum();
    let weights: u128 = open.iter().map(|index| weight(*index)).sum();
    in_flight(index) * weights * 100 <= load * weight(index) * u128::from(bound_percent) + weights * 100
}

#[cfg(test)]
mod tests;
