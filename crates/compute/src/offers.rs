//! What all providers offer, at once: each within its own time, and what one said a moment ago while it is asked again.
//!
//! Whoever waits does not ask: one task asks a provider for one wish, and all that want the same wait for it. A provider
//! that takes its time is left out of this list, or is in it with what it offered before, which is said; what it says in
//! the end is in the next. Its time is counted from when it was asked: a list that comes later waits for what is left of it.

use crate::{
    market::{Market, MarketFault, Wanted},
    rental::{MarketReport, MarketState, OffersReport, Rentals},
};
use forebay_domain::market::{Offer, Provider};
use forebay_runtime::{Clock, Tasks};
use futures_util::future::join_all;
use moka::sync::Cache;
use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{sync::watch, time::timeout};

/// For so long an answer is as good as new.
const FRESH: Duration = Duration::from_secs(15);
/// Older offers are not shown at all.
const STALE_MAX: Duration = Duration::from_mins(10);
/// Wishes whose answers are kept.
const WISHES_MAX: u64 = 256;
/// Most offers of one list.
pub(crate) const OFFERS_MAX: usize = 2_000;

/// Answers of providers, by what was wanted.
#[derive(Clone)]
pub(crate) struct Shelf {
    slots: Cache<String, Arc<Slot>>,
    clock: Clock,
    tasks: Tasks,
}

/// What one provider said to one wish.
struct Slot {
    kept: Mutex<Kept>,
    /// Counts answers, good or bad.
    answers: watch::Sender<u64>,
}

#[derive(Default)]
struct Kept {
    offers: Option<(Arc<Vec<Offer>>, Duration)>,
    fault: Option<MarketFault>,
    /// Since when it is being asked.
    asked_at: Option<Duration>,
}

impl Slot {
    fn new() -> Self {
        Self {
            kept: Mutex::default(),
            answers: watch::channel(0).0,
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("nobody panics while holding it")
    }
}

impl Shelf {
    pub(crate) fn new(clock: Clock, tasks: Tasks) -> Self {
        let slots = Cache::builder()
            .max_capacity(WISHES_MAX)
            .time_to_idle(STALE_MAX)
            .build();
        Self { slots, clock, tasks }
    }

    async fn offers(
        &self,
        market: Arc<dyn Market>,
        wanted: &Wanted,
        limit: Duration,
    ) -> (MarketReport, Arc<Vec<Offer>>) {
        let provider = market.provider();
        let slot = self
            .slots
            .get_with(format!("{provider} {wanted:?}"), || Arc::new(Slot::new()));
        let mut answers = slot.answers.subscribe();
        if let Some((offers, age)) = self.aged(&slot).filter(|(_, age)| *age < FRESH) {
            return (report(provider, MarketState::Cached, Some(age), None, &offers), offers);
        }
        let asked_at = self.ask(&slot, market, wanted);
        let left = limit.saturating_sub(self.clock.monotonic().saturating_sub(asked_at));
        let has_answered = timeout(left, answers.changed()).await.is_ok();
        let fault = slot.kept().fault.as_ref().map(ToString::to_string);
        let state = match (has_answered, &fault) {
            (false, _) => MarketState::Slow,
            (true, Some(_)) => MarketState::Failed,
            (true, None) => MarketState::Fresh,
        };
        let (offers, age) = match self.aged(&slot).filter(|(_, age)| *age < STALE_MAX) {
            Some((offers, age)) => (offers, Some(age)),
            None => (Arc::default(), None),
        };
        let fault = fault.filter(|_| state == MarketState::Failed);
        (report(provider, state, age, fault, &offers), offers)
    }

    fn aged(&self, slot: &Slot) -> Option<(Arc<Vec<Offer>>, Duration)> {
        let (offers, at) = slot.kept().offers.clone()?;
        Some((offers, self.clock.monotonic().saturating_sub(at)))
    }

    /// Asks, unless somebody does. Gives when that began.
    fn ask(&self, slot: &Arc<Slot>, market: Arc<dyn Market>, wanted: &Wanted) -> Duration {
        let now = self.clock.monotonic();
        let mut kept = slot.kept();
        if let Some(asked_at) = kept.asked_at {
            return asked_at;
        }
        kept.asked_at = Some(now);
        drop(kept);
        let (asking, wanted, clock) = (Asking(slot.clone()), wanted.clone(), self.clock.clone());
        self.tasks.spawn("offers", |stop| async move {
            let answer = tokio::select! {
                answer = market.offers(&wanted) => answer,
                () = stop.draining() => return,
            };
            let mut kept = asking.0.kept();
            match answer {
                Ok(offers) => {
                    let fitting = offers.into_iter().filter(|offer| wanted.takes(offer)).take(OFFERS_MAX);
                    kept.offers = Some((Arc::new(fitting.collect()), clock.monotonic()));
                    kept.fault = None;
                }
                Err(fault) => kept.fault = Some(fault),
            }
        });
        now
    }
}

/// Whatever ends the asking, the next may ask again and whoever waits is told.
struct Asking(Arc<Slot>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.kept().asked_at = None;
        self.0.answers.send_modify(|count| *count += 1);
    }
}

fn report(
    provider: Provider,
    state: MarketState,
    age: Option<Duration>,
    fault: Option<String>,
    offers: &[Offer],
) -> MarketReport {
    MarketReport {
        provider,
        state,
        age,
        fault,
        offers: offers.len(),
    }
}

impl Rentals {
    /// What can be rented now, cheapest first. A provider that is slow or fails keeps nobody from the others' offers.
    pub async fn offers(&self, wanted: &Wanted, provider: Option<Provider>) -> OffersReport {
        let limit = self.offers_limit();
        let asked = Provider::ALL
            .into_iter()
            .filter(|one| provider.is_none_or(|wanted| wanted == *one));
        let asked = asked.map(|provider| async move {
            match self.market(provider) {
                Some(market) => self.shelf().offers(market, wanted, limit).await,
                None => (report(provider, MarketState::Off, None, None, &[]), Arc::default()),
            }
        });
        let answers = join_all(asked).await;
        let mut offers: Vec<Offer> = answers.iter().flat_map(|(_, offers)| offers.iter().cloned()).collect();
        offers.sort_by(|one, other| (one.rate, &one.id).cmp(&(other.rate, &other.id)));
        offers.truncate(wanted.limit.min(OFFERS_MAX));
        OffersReport {
            offers,
            markets: answers.into_iter().map(|(report, _)| report).collect(),
        }
    }
}
