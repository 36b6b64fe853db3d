//! What is known of one backend from one moment to the next.

use crate::{
    routing::lease::End,
    settings::{Backend, Probe},
};
use forebay_domain::route::{Candidate, Health, Standing, Taken, Unhealthy};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

/// After so long without a measurement half of the last one is believed, so that a backend that was slow once is tried
/// again.
const LATENCY_HALF_LIFE: Duration = Duration::from_secs(10);
/// How much of the last estimate the next one keeps at most.
const LATENCY_KEPT: f64 = 0.7;

/// The live side of one backend. It outlives the configuration that names it.
#[derive(Debug)]
pub(crate) struct Live {
    identity: u64,
    /// Held for moments only, never across an await.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    in_flight: u32,
    health: Health,
    latency: Option<Latency>,
    counts: Counts,
    next_probe: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Latency {
    seconds: f64,
    at: Duration,
}

/// What happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) ejections: u64,
    /// Requests that failed here and were sent elsewhere.
    pub(crate) retries: u64,
}

/// How a backend is, at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Snapshot {
    pub(crate) in_flight: u32,
    pub(crate) standing: Standing,
    pub(crate) latency: Option<Duration>,
    pub(crate) counts: Counts,
}

/// Whether a choice may use a backend that is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Force {
    No,
    Yes,
}

/// What a request's end changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    PutOut,
    BackIn,
}

impl Live {
    pub(crate) fn new(backend: &Backend) -> Self {
        // The hasher has no key: the same address gets the same number in every process of this version.
        let mut hasher = DefaultHasher::new();
        backend.place().hash(&mut hasher);
        Self {
            identity: hasher.finish(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with a backend's state")
    }

    pub(crate) fn candidate(&self, backend: &Backend, is_tried: bool, now: Duration) -> Candidate {
        let state = self.state();
        Candidate {
            identity: self.identity,
            weight: backend.weight,
            in_flight: state.in_flight,
            limit: backend.limit,
            latency: state.latency.map(|latency| latency.faded(now)),
            standing: state.health.standing(now),
            is_tried,
        }
    }

    pub(crate) fn snapshot(&self, now: Duration) -> Snapshot {
        let state = self.state();
        Snapshot {
            in_flight: state.in_flight,
            standing: state.health.standing(now),
            latency: state.latency.map(|latency| latency.faded(now)),
            counts: state.counts,
        }
    }

    /// Takes a place, unless somebody else took the last one since it was looked at.
    pub(crate) fn take(&self, limit: Option<u32>, force: Force, now: Duration) -> Option<Taken> {
        let mut state = self.state();
        let is_full = limit.is_some_and(|limit| state.in_flight >= limit);
        let is_out = force == Force::No && !state.health.standing(now).is_usable();
        if is_full || is_out {
            return None;
        }
        state.in_flight += 1;
        Some(state.health.take(now))
    }

    /// An answer has begun. `latency` is told where it says something about the backend.
    pub(crate) fn began(&self, taken: Taken, latency: Option<Duration>, now: Duration) -> Change {
        let mut state = self.state();
        if let Some(latency) = latency {
            state.measured(latency, now);
        }
        Change::back_in(state.health.began(taken))
    }

    pub(crate) fn ended(&self, taken: Taken, end: End, now: Duration) -> Change {
        let mut state = self.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        let health = &mut state.health;
        let is_out = match end {
            End::Ok => return Change::back_in(health.succeeded(taken)),
            End::Failed => health.failed(taken, now),
            End::Rejected => health.rejected(taken, now),
            End::Rests(asked_for) => {
                health.rests(taken, asked_for, now);
                false
            }
            End::GivenUp => {
                health.given_up(taken);
                false
            }
        };
        if !is_out {
            return Change::None;
        }
        state.counts.ejections += 1;
        Change::PutOut
    }

    pub(crate) fn retried(&self) {
        self.state().counts.retries += 1;
    }

    /// Whether it is time for a probe; if so, the next one comes an interval later.
    pub(crate) fn is_due(&self, probe: &Probe, now: Duration) -> bool {
        let mut state = self.state();
        let is_due = now >= state.next_probe;
        if is_due {
            state.next_probe = now + probe.interval;
        }
        is_due
    }

    /// What a probe found; `None` where it found it up. True where that is news.
    pub(crate) fn probed(&self, found: Option<Unhealthy>, now: Duration) -> bool {
        let mut state = self.state();
        let is_down = |health: &Health| matches!(health.standing(now), Standing::Unhealthy { .. });
        let before = is_down(&state.health);
        state.health.probed(found, now);
        before != is_down(&state.health)
    }

    /// Forgets what was held against it: what that was about has changed.
    pub(crate) fn forgive(&self) {
        self.state().health = Health::default();
    }
}

impl Change {
    fn back_in(is_back: bool) -> Self {
        if is_back { Self::BackIn } else { Self::None }
    }
}

impl State {
    fn measured(&mut self, latency: Duration, now: Duration) {
        let new = latency.as_secs_f64();
        let seconds = match self.latency {
            Some(old) => {
                let kept = LATENCY_KEPT * old.belief(now);
                old.seconds * kept + new * (1.0 - kept)
            }
            None => new,
        };
        self.latency = Some(Latency { seconds, at: now });
    }
}

impl Latency {
    /// From 1 for a fresh measurement down to 0.
    fn belief(self, now: Duration) -> f64 {
        let age = now.saturating_sub(self.at).as_secs_f64();
        (-age / LATENCY_HALF_LIFE.as_secs_f64()).exp2()
    }

    fn faded(self, now: Duration) -> Duration {
        Duration::from_secs_f64(self.seconds * self.belief(now))
    }
}
