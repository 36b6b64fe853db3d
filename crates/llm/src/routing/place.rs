//! Finding a request its place, as things are now.

use crate::{
    routing::{Routes, lease::Lease, live::Force},
    settings::Model,
};
use forebay_domain::route::{Candidate, Choice, How, Pick, Reason, Rule, WhenAllAreOut, choose};
use forebay_runtime::Entropy;
use std::{sync::Arc, time::Duration};

/// The backends where a request was already, by their positions. The settings allow fewer than it has bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tried(u32);

impl Tried {
    pub(crate) fn add(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    pub(crate) fn has(self, index: usize) -> bool {
        self.0 & (1 << index) != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn count(self) -> u32 {
        self.0.count_ones()
    }
}

/// What a request wants of a place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) affinity: Option<u64>,
    pub(crate) tried: Tried,
    pub(crate) when_all_are_out: WhenAllAreOut,
}

impl Model {
    /// The choice as it would be made now.
    pub(super) fn choose(&self, wish: Wish, now: Duration, random: [u64; 2]) -> Choice {
        let routes = self.live_side();
        let candidates: Vec<Candidate> = self
            .backends
            .iter()
            .zip(&routes.lives)
            .map(|(backend, live)| live.candidate(backend, wish.tried.has(backend.index), now))
            .collect();
        let rule = Rule {
            affinity: wish.affinity.filter(|_| self.affinity),
            affinity_bound_percent: self.affinity_bound_percent,
            when_all_are_out: wish.when_all_are_out,
        };
        choose(&candidates, rule, random)
    }

    /// Chooses and takes. What was free may be gone a moment later: then it chooses anew.
    pub(super) fn place(self: &Arc<Self>, wish: Wish, now: Duration, entropy: &Entropy) -> Result<Lease, Pick> {
        let Routes { lives, .. } = self.live_side();
        for _ in 0..=self.backends.len() {
            let choice = self.choose(wish, now, two_numbers(entropy, lives.len()));
            let Pick::Take(index) = choice.pick else {
                return Err(choice.pick);
            };
            let force = match choice.why[index] {
                Reason::Chosen(How::LeastBad) => Force::Yes,
                _ => Force::No,
            };
            if let Some(taken) = lives[index].take(self.backends[index].limit, force, now) {
                return Ok(Lease::new(self, index, taken, now));
            }
        }
        // Others were faster each time; whoever waits is told when one of them is done.
        Err(Pick::AllFull)
    }

    /// Whether a request would find a backend that is fit to be asked.
    pub(crate) fn has_any_up(&self, now: Duration) -> bool {
        let lives = &self.live_side().lives;
        lives.iter().any(|live| live.snapshot(now).standing.is_usable())
    }

    /// Whether requests may have to wait for a place.
    pub(super) fn has_limits(&self) -> bool {
        self.backends.iter().any(|backend| backend.limit.is_some())
    }
}

/// None are needed where there is nothing to draw.
pub(super) fn two_numbers(entropy: &Entropy, backends: usize) -> [u64; 2] {
    if backends < 2 {
        return [0, 0];
    }
    let bytes: [u8; 16] = entropy.bytes();
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
    [number(0), number(8)]
}
