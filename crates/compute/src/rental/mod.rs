//! Renting machines: a quote, an intent, a hold, one request to the provider, and from then on a loop that sees to it
//! until the machine is gone and its money is accounted for.
//!
//! Every step can be the last that a process takes. The row is there before the provider is asked; what is set aside is
//! named after the row; and whatever nobody knows is found out by the machine's label. So a restart finds one machine that is
//! tracked, or none and nothing held.

mod body;
mod bootstrap;
pub mod bounds;
mod check;
mod create;
mod extend;
mod holder;
mod label;
mod manage;
mod markets;
mod money;
mod orphans;
mod price;
mod quote;
mod reconcile;
mod record;
mod seats;
mod sight;
mod state;
#[cfg(test)]
mod state_tests;
mod steps;
mod told;
mod types;
mod view;
mod work;

pub use body::{Paying, Why};
pub(crate) use bootstrap::OUR_VARIABLES;
pub use bootstrap::{AGENT_WORDS, DIR_VARIABLE, DIST_PATH, REPORT_PATH};
pub use extend::{Trial, Verdict};
pub(crate) use state::Fact;
pub use steps::Step;
pub use types::{
    Advice, CreateOutcome, CreateRequest, Endpoint, ExtendRequest, MarketReport, MarketState, Mode, OffersReport,
    Quote, QuoteRequest, Quoted, Rental, RentalNews, What, Whose,
};

use crate::{
    config::{MarketsConfig, RentalsConfig},
    market::{Market, local::AgentProgram},
    metrics::Metrics,
    offers::Shelf,
};
use arc_swap::ArcSwap;
use forebay_domain::{Code, Failure, market::Provider};
use forebay_runtime::{
    Clock, Entropy, Tasks,
    child::Launcher,
    looping::{Nudge, drive},
    secret::SecretReader,
};
use forebay_store::{EventLog, Store, ledger::Ledger};
use jiff::Timestamp;
use markets::{MarketMaker, Markets};
use record::Record;
use reqwest::Client;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use steps::Steps;
use tokio::sync::{OnceCell, broadcast, oneshot, watch};
use types::Done;

/// How often a provider is looked at while there are machines of it.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How often what accrues is posted, and what is set aside renewed.
const MONEY_EVERY: Duration = Duration::from_mins(1);
/// News that a slow listener has not heard yet; the oldest are dropped.
const NEWS_MAX: usize = 1_024;
/// How often a change is tried again where somebody else was quicker.
const CHANGES_MAX: u32 = 8;

/// What rentals need of their process.
pub struct RentalsParts {
    pub markets: MarketsConfig,
    pub config: RentalsConfig,
    pub urls: Urls,
    pub store: Store,
    pub clock: Clock,
    pub entropy: Entropy,
    pub secrets: SecretReader,
    /// The runtime's `trusted()`.
    pub http: Client,
    pub launcher: Launcher,
    pub agent: AgentProgram,
    pub tasks: Tasks,
}

/// Where machines reach the gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Urls {
    /// From everywhere: `server.public_url`.
    pub public: Option<String>,
    /// From the machine that the gateway runs on.
    pub local: Option<String>,
}

/// All that is rented. Cheap to clone.
#[derive(Clone)]
pub struct Rentals(Arc<Inner>);

struct Inner {
    markets: ArcSwap<Markets>,
    maker: MarketMaker,
    config: ArcSwap<RentalsConfig>,
    urls: ArcSwap<Urls>,
    store: forebay_store::Rentals,
    ledger: Ledger,
    events: EventLog,
    clock: Clock,
    entropy: Entropy,
    tasks: Tasks,
    /// Which process this is, to other replicas.
    holder: String,
    installation: OnceCell<u32>,
    nudges: BTreeMap<Provider, Nudge>,
    watching: Mutex<BTreeMap<Provider, reconcile::Watching>>,
    shelf: Shelf,
    news: broadcast::Sender<RentalNews>,
    changed: watch::Sender<u64>,
    metrics: Metrics,
    steps: Steps,
}

impl Rentals {
    /// Fails where a market is configured that cannot be made. Nothing runs before [`Rentals::start`].
    pub fn new(parts: RentalsParts) -> Result<Self, Failure> {
        Self::with_steps(parts, Steps::all())
    }

    /// For tests: whoever rents here stops for ever once this step is done, as if its process had died.
    #[doc(hidden)]
    pub fn dying_at(parts: RentalsParts, step: Step) -> Result<Self, Failure> {
        Self::with_steps(parts, Steps::up_to(step))
    }

    /// Waits until the last step is done.
    #[doc(hidden)]
    pub async fn died(&self) {
        self.0.steps.died().await;
    }

    fn with_steps(parts: RentalsParts, steps: Steps) -> Result<Self, Failure> {
        parts.config.check()?;
        let maker = MarketMaker {
            secrets: parts.secrets,
            http: parts.http,
            clock: parts.clock.clone(),
            launcher: parts.launcher,
            agent: parts.agent,
            tasks: parts.tasks.clone(),
        };
        let markets = maker.make(parts.markets, None)?;
        let nudges = Provider::ALL.into_iter().map(|provider| (provider, Nudge::new()));
        Ok(Self(Arc::new(Inner {
            markets: ArcSwap::from_pointee(markets),
            maker,
            config: ArcSwap::from_pointee(parts.config),
            urls: ArcSwap::from_pointee(parts.urls),
            store: parts.store.rentals(),
            ledger: parts.store.ledger(),
            events: parts.store.events().clone(),
            shelf: Shelf::new(parts.clock.clone(), parts.tasks.clone()),
            clock: parts.clock,
            holder: holder::draw(&parts.entropy),
            entropy: parts.entropy,
            tasks: parts.tasks,
            installation: OnceCell::new(),
            nudges: nudges.collect(),
            watching: Mutex::default(),
            news: broadcast::channel(NEWS_MAX).0,
            changed: watch::channel(0).0,
            metrics: Metrics::new(),
            steps,
        })))
    }

    /// Starts what looks after machines and their money.
    pub fn start(&self) {
        let inner = &self.0;
        for provider in Provider::ALL {
            let nudge = inner.nudges[&provider].clone();
            let work = reconcile::Reconcile::new(self.clone(), provider);
            drive(&inner.tasks, work, LOOK_EVERY, nudge);
        }
        drive(
            &inner.tasks,
            money::Accruing::new(self.clone()),
            MONEY_EVERY,
            Nudge::new(),
        );
        let leaving = self.clone();
        inner.tasks.spawn("rental_seats", |stop| async move {
            stop.draining().await;
            leaving.leave_seats().await;
        });
    }

    /// Takes over what was configured anew; where that cannot be done, nothing changes.
    pub fn reconfigure(&self, markets: &MarketsConfig, config: &RentalsConfig, urls: Urls) -> Result<(), Failure> {
        config.check()?;
        let before = self.0.markets.load_full();
        let made = self.0.maker.make(markets.clone(), Some(&before))?;
        self.0.markets.store(Arc::new(made));
        self.0.config.store(Arc::new(config.clone()));
        self.0.urls.store(Arc::new(urls));
        Ok(())
    }

    /// News from now on.
    pub fn news(&self) -> broadcast::Receiver<RentalNews> {
        self.0.news.subscribe()
    }

    /// Changes whenever a machine does, on whichever replica. What has changed is to be looked up.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The providers that are configured.
    pub fn providers(&self) -> Vec<Provider> {
        self.0.markets.load().by_provider.keys().copied().collect()
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    pub(crate) fn shelf(&self) -> &Shelf {
        &self.0.shelf
    }

    pub(crate) fn offers_limit(&self) -> Duration {
        Duration::from_millis(self.0.config.load().offers_timeout_ms.into())
    }

    pub(crate) fn market(&self, provider: Provider) -> Option<Arc<dyn Market>> {
        self.0.markets.load().by_provider.get(&provider).cloned()
    }

    fn market_or_refuse(&self, provider: Provider) -> Done<Arc<dyn Market>> {
        self.market(provider).ok_or_else(|| {
            let message = format!("no market `{provider}` is configured here");
            Failure::new(Code::UnknownOffer, message)
                .hint("List offers to see which providers there are; an operator adds others under `markets:`.")
        })
    }

    /// Which account a provider is asked with now.
    fn account(&self, provider: Provider) -> Option<String> {
        self.0.markets.load().accounts.get(&provider).cloned()
    }

    /// Does it to its end, whether or not whoever wants it still waits.
    async fn outliving<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = Done<T>> + Send + 'static,
    ) -> Done<T> {
        let (tell, told) = oneshot::channel();
        self.0.tasks.spawn(name, move |_| async move {
            // Whoever asked may have gone away; what was begun goes on.
            tell.send(work.await).ok();
        });
        told.await.map_err(|_| {
            Failure::new(Code::Cancelled, "the gateway is ending").hint("Look at the list of your machines.")
        })?
    }

    async fn installation(&self) -> Done<u32> {
        let drawn = self.0.installation.get_or_try_init(|| self.0.store.installation());
        Ok(*drawn.await?)
    }

    fn nudge(&self, provider: Provider) {
        self.0.nudges[&provider].nudge();
    }

    /// Makes a change durable, then visible. Where somebody else was quicker it is made of what they wrote; where it
    /// changes nothing, nothing is written.
    async fn change(&self, record: Record, edit: impl Fn(&mut Record) -> Vec<Fact> + Send) -> Done<Record> {
        let mut record = record;
        for _ in 0..CHANGES_MAX {
            let mut edited = record.clone();
            let facts = edit(&mut edited);
            if edited.is_as(&record) {
                return Ok(record);
            }
            let mut row = edited.to_row()?;
            if self.0.store.save(&mut row).await? {
                edited.row = row;
                self.tell(&edited, facts);
                return Ok(edited);
            }
            record = self.read(&record.id).await?;
        }
        Err(Failure::new(Code::Conflict, "the machine is being changed by others").hint("Try again in a moment."))
    }

    async fn read(&self, id: &str) -> Done<Record> {
        match self.0.store.get(id).await? {
            Some(row) => Record::read(row),
            None => Err(unknown(id)),
        }
    }

    fn tell(&self, record: &Record, facts: Vec<Fact>) {
        self.0.changed.send_modify(|count| *count += 1);
        for fact in facts {
            self.0.metrics.fact(record.provider, &fact);
            let Ok(rental) = record.view().map(Arc::new) else {
                continue;
            };
            if fact == Fact::Ambiguous {
                self.watching(record.provider, |watching| watching.unclear.insert(record.id.clone()));
            }
            let news = match fact {
                Fact::Ambiguous => RentalNews::AmbiguousCreate(rental),
                Fact::Found => RentalNews::Found(rental),
                Fact::Ending => RentalNews::Ending(rental),
                Fact::Ended => RentalNews::Ended(rental),
                Fact::PriceDrift { to, .. } => RentalNews::PriceRise { rental, to, at: None },
                Fact::EndFails => RentalNews::DestroyFailing {
                    rental,
                    failures: record.body.ending.failures,
                    since: record.body.ending.since.unwrap_or(record.row.created_at),
                },
            };
            self.say(news);
        }
    }

    fn say(&self, news: RentalNews) {
        // Nobody may be listening.
        self.0.news.send(news).ok();
    }
}

fn unknown(id: &str) -> Failure {
    let shown: String = id.chars().take(80).collect();
    Failure::new(Code::UnknownInstance, format!("there is no machine `{shown}` of yours"))
        .hint("List your machines to see their ids.")
}
