//! How the backends are, and why a request would go where it would, for people.
//!
//! The reasons are those of the decision itself, made as for a request that comes now, without taking a place.

use crate::{
    config::Engine,
    routing::{
        live::Snapshot,
        place::{Tried, Wish, two_numbers},
    },
    settings::{Backend, Model, Settings},
};
use forebay_domain::{
    Action, Principal,
    route::{Cause, Choice, How, Pick, Reason, Standing, Unhealthy, WhenAllAreOut},
};
use forebay_runtime::Clock;
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};

/// How one backend of one model is.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendStatus {
    pub model: String,
    /// Its position among the model's backends.
    pub backend: usize,
    /// Where its API begins. That is the operator's own affair, and no caller's.
    pub url: String,
    pub engine: Option<&'static str>,
    /// `up`, `due_for_trial`, `on_trial`, `ejected`, `resting` or `unhealthy`.
    pub state: &'static str,
    /// Whether it is fit to be asked.
    pub is_up: bool,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// Why it is out, in words.
    pub why: Option<String>,
    pub in_flight: u32,
    pub max_concurrency: Option<u32>,
    pub weight: u32,
    /// Of the first byte of streams, of late.
    pub latency: Option<Duration>,
    pub is_probed: bool,
    pub ejections: u64,
    pub retries: u64,
}

/// Why a request would go where it would.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteExplanation {
    pub model: String,
    /// Why the caller may ask the model.
    pub decision: String,
    /// The model and its fallbacks, in the order in which they would be asked.
    pub steps: Vec<RouteStep>,
}

/// What one model has to say to it.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteStep {
    pub model: String,
    /// The position of the backend that would be asked.
    pub chosen: Option<usize>,
    /// The outcome in one sentence.
    pub outcome: String,
    /// Requests in the queue.
    pub waiting: usize,
    pub backends: Vec<BackendWhy>,
}

/// One backend, and what the decision makes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendWhy {
    pub status: BackendStatus,
    pub reason: String,
}

/// How all backends are.
pub(crate) fn statuses(settings: &Settings, clock: &Clock) -> Vec<BackendStatus> {
    let times = Times::new(clock);
    let all = settings.models.values().flat_map(|model| {
        let backends = model.backends.iter().zip(&model.live_side().lives);
        backends.map(move |(backend, live)| status(model, backend, live.snapshot(times.now), times))
    });
    all.collect()
}

/// `model` is one that the principal may ask.
pub(crate) fn explain(
    settings: &Settings,
    principal: &Principal,
    model: &Arc<Model>,
    affinity: Option<u64>,
) -> RouteExplanation {
    let may_ask = |model: &Model| principal.decide(&Action::model(&model.name));
    let fallbacks = model.fallbacks.iter().filter_map(|name| settings.models.get(name));
    let chain = std::iter::once(model).chain(fallbacks.filter(|model| may_ask(model).is_allowed()));
    let chain: Vec<_> = chain.collect();
    let now = model.live_side().gate.now();
    let steps = chain.iter().enumerate().map(|(at, model)| {
        let is_last_hope = !chain[at + 1..].iter().any(|model| model.has_any_up(now));
        step(model, affinity, WhenAllAreOut::of(is_last_hope))
    });
    RouteExplanation {
        model: model.name.clone(),
        decision: may_ask(model).to_string(),
        steps: steps.collect(),
    }
}

fn step(model: &Model, affinity: Option<u64>, when_all_are_out: WhenAllAreOut) -> RouteStep {
    let routes = model.live_side();
    let times = Times::new(routes.gate.clock());
    let wish = Wish {
        affinity,
        tried: Tried::default(),
        when_all_are_out,
    };
    let random = two_numbers(routes.gate.entropy(), model.backends.len());
    let choice = model.choose(wish, times.now, random);
    let backends = model.backends.iter().zip(&routes.lives).zip(&choice.why);
    let backends = backends.map(|((backend, live), reason)| {
        let snapshot = live.snapshot(times.now);
        BackendWhy {
            reason: reason_in_words(*reason, snapshot.standing, times),
            status: status(model, backend, snapshot, times),
        }
    });
    RouteStep {
        model: model.name.clone(),
        chosen: match choice.pick {
            Pick::Take(index) => Some(index),
            Pick::AllFull | Pick::AllOut | Pick::AllTried => None,
        },
        outcome: outcome(&choice),
        waiting: routes.gate.depth().waiting,
        backends: backends.collect(),
    }
}

fn outcome(choice: &Choice) -> String {
    match choice.pick {
        Pick::Take(index) if choice.why[index] == Reason::Chosen(How::LeastBad) => {
            format!("all backends are out of use; backend {index} is tried all the same")
        }
        Pick::Take(index) => format!("backend {index} takes it"),
        Pick::AllFull => "it waits: each backend that is up has as many requests as it may have".to_owned(),
        Pick::AllOut => "all backends are out of use; the next fallback is asked".to_owned(),
        Pick::AllTried => "there is no backend".to_owned(),
    }
}

/// A moment on both clocks: health is kept in one that never jumps, people read the other.
#[derive(Clone, Copy)]
struct Times {
    now: Duration,
    wall: Timestamp,
}

impl Times {
    fn new(clock: &Clock) -> Self {
        Self {
            now: clock.monotonic(),
            wall: clock.now(),
        }
    }

    fn at(self, time: Duration) -> Timestamp {
        let moved = match time.checked_sub(self.now) {
            Some(ahead) => self.wall.checked_add(ahead),
            None => self.wall.checked_sub(self.now.saturating_sub(time)),
        };
        moved.unwrap_or(self.wall)
    }
}

fn status(model: &Model, backend: &Backend, snapshot: Snapshot, times: Times) -> BackendStatus {
    let standing = snapshot.standing;
    let (since, until) = match standing {
        Standing::Up | Standing::DueForTrial | Standing::OnTrial => (None, None),
        Standing::Ejected { since, until, .. } => (Some(since), Some(until)),
        Standing::Resting { until } => (None, Some(until)),
        Standing::Unhealthy { since, .. } => (Some(since), None),
    };
    BackendStatus {
        model: model.name.clone(),
        backend: backend.index,
        url: base(backend).to_owned(),
        engine: backend.engine.map(Engine::as_str),
        state: state(standing),
        is_up: standing.is_usable(),
        since: since.map(|time| times.at(time)),
        until: until.map(|time| times.at(time)),
        why: (standing != Standing::Up).then(|| standing_in_words(standing, times)),
        in_flight: snapshot.in_flight,
        max_concurrency: backend.limit,
        weight: backend.weight,
        latency: snapshot.latency,
        is_probed: backend.probe.is_some(),
        ejections: snapshot.counts.ejections,
        retries: snapshot.counts.retries,
    }
}

fn base(backend: &Backend) -> &str {
    let (base, _) = backend.place();
    base
}

fn state(standing: Standing) -> &'static str {
    match standing {
        Standing::Up => "up",
        Standing::DueForTrial => "due_for_trial",
        Standing::OnTrial => "on_trial",
        Standing::Ejected { .. } => "ejected",
        Standing::Resting { .. } => "resting",
        Standing::Unhealthy { .. } => "unhealthy",
    }
}

fn standing_in_words(standing: Standing, times: Times) -> String {
    match standing {
        Standing::Up => "it is up".to_owned(),
        Standing::DueForTrial => "it was out of use, and is due for one request on trial".to_owned(),
        Standing::OnTrial => "it was out of use, and one request is on trial there".to_owned(),
        Standing::Ejected { until, cause, .. } => {
            let why = match cause {
                Cause::Failures => "it failed several times in a row",
                Cause::Credentials => "it rejected the gateway's own credentials",
            };
            format!("{why}: out of use until {}", shown(times.at(until)))
        }
        Standing::Resting { until } => format!("it takes no more requests until {}", shown(times.at(until))),
        Standing::Unhealthy { since, found } => {
            let what = match found {
                Unhealthy::Unreachable => "it cannot be reached".to_owned(),
                Unhealthy::TimedOut => "it does not answer in time".to_owned(),
                Unhealthy::Status(status) => format!("it answers with status {status}"),
            };
            format!("probes find since {} that {what}", shown(times.at(since)))
        }
    }
}

fn shown(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn reason_in_words(reason: Reason, standing: Standing, times: Times) -> String {
    match reason {
        Reason::Chosen(How::OnlyOne) => "chosen: the only one that can take it".to_owned(),
        Reason::Chosen(How::Affinity) => "chosen: prompts that begin like this belong here".to_owned(),
        Reason::Chosen(How::AffinityOverflow) => {
            "chosen: prompts that begin like this overflow to here, since where they belong has too much to do"
                .to_owned()
        }
        Reason::Chosen(How::LeastOfTwo { other }) => {
            format!("chosen: drawn with backend {other}, and has no more to do than that")
        }
        Reason::Chosen(How::LeastBad) => {
            format!(
                "chosen for want of a better one: {}",
                standing_in_words(standing, times)
            )
        }
        Reason::NotChosen => "it could take it, and was not chosen".to_owned(),
        Reason::Tried => "the request was there already".to_owned(),
        Reason::AtLimit(limit) => format!("it has {limit} requests, as many as it may have"),
        Reason::Out(standing) => standing_in_words(standing, times),
    }
}
