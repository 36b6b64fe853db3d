//! The ledger: what is about to be spent is held, and then settled at what it came to, or voided.
//!
//! One [`Ledger`] moves money, in this process and beside other replicas. What is decided is decided by
//! [`forebay_domain::ledger::Book`]; here are the rows that it needs and makes, and who waits for whom. A movement that was
//! answered is committed. Where the database cannot be asked, nothing is admitted.

mod asking;
mod budgets;
mod error;
mod glance;
mod heads;
mod known;
mod lapse;
mod later;
mod load;
mod mark;
mod metrics;
mod news;
mod prune;
mod rows;
mod transactions;
mod windows;
mod write;
mod writer;

pub use budgets::{BUDGETS_PAGE_MAX, BudgetKey, BudgetPage};
pub use error::{HoldError, LedgerFault, refusal};
pub use later::LATER_MAX;
pub use mark::Mark;
pub use news::{Lapse, LedgerNews};
pub use transactions::{Page, TRANSACTIONS_PAGE_MAX, Transaction, TransactionQuery};

pub use forebay_domain::ledger::Posting;
use forebay_domain::{
    id::{HoldId, TraceId},
    ledger::{
        Admission, Ask, BudgetRule, HoldRecord, NewHold, Outcome, Overrun, Payer, Purpose, Refusal, Request, Standing,
        admit,
    },
    money::{Usd, UsdRate},
};
use forebay_runtime::Tasks;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use tokio::sync::{broadcast, mpsc, watch};
use tracing::warn;

use crate::{
    StoreError,
    db::Db,
    groups::{Companions, Groups},
    row::moment,
    sql::Both,
};
use asking::Unheard;
use known::Known;
use later::Later;
use metrics::Metrics;
use windows::Look;
use write::Ids;
use writer::{Became, GroupWriter, Job};

/// Cheap to clone; all clones are one ledger.
#[derive(Clone)]
pub struct Ledger {
    db: Db,
    jobs: mpsc::Sender<Job>,
    later: Later,
    known: Known,
    metrics: Metrics,
    news: broadcast::Sender<LedgerNews>,
    moved: watch::Sender<u64>,
}

/// What somebody wants to set aside.
#[derive(Debug, Clone)]
pub struct HoldRequest {
    pub payer: Payer,
    pub purpose: Purpose,
    pub ask: Ask,
    pub trace: TraceId,
    /// The same key of the same tenant is the same hold.
    pub idempotency_key: Option<String>,
    /// When it is posted in full unless somebody has said by then what became of it.
    pub lapses_at: Timestamp,
    /// Refused where no hard limit counts.
    pub needs_limit: bool,
}

/// What is set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    pub id: HoldId,
    pub amount: Usd,
    pub rate: UsdRate,
    pub lapses_at: Timestamp,
    /// The soft limits that it goes beyond.
    pub warnings: Vec<Overrun>,
    /// The hard limit that what is left of it goes beyond: less was set aside than before, and that is never refused.
    pub beyond: Option<Box<Overrun>>,
    /// It was made before, under the same key.
    pub is_repeat: bool,
}

/// What a hold came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// All of it since the start, whatever has accrued by then included.
    pub actual: Usd,
    pub estimated: bool,
}

/// What became of a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// It came to more than was set aside, and was posted in full.
    pub above_hold: bool,
    /// The hold had ended before, and nothing was changed.
    pub is_repeat: bool,
}

/// What became of a change to what is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// By how much what is posted changed; no more is given back than was posted.
    pub amount: Usd,
    /// It was done before, and nothing was changed.
    pub is_repeat: bool,
}

/// Starts the ledger. What writes ends with `recording`; what is not waited for is done before that, with `spending`.
pub(crate) async fn start(spending: &Tasks, recording: &Tasks, db: Db) -> Result<Ledger, StoreError> {
    let (jobs, queue) = mpsc::channel(writer::QUEUE_MAX);
    let (news, _) = broadcast::channel(news::NEWS_MAX);
    let moved = watch::Sender::new(0);
    let (known, metrics) = (Known::default(), Metrics::new());
    let (later, left) = later::queue(metrics.clone());
    let companions = match db.pools() {
        Both::Sqlite(_) => Companions::Half,
        Both::Postgres(_) => Companions::All,
    };
    let writer = GroupWriter {
        db: db.clone(),
        jobs: Groups::new(queue, writer::GROUP_MAX, companions),
        known: known.clone(),
        metrics: metrics.clone(),
        news: news.clone(),
        ids: Ids {
            group: 0,
            process: db.entropy().bytes(),
        },
        moved: moved.clone(),
    };
    recording.spawn("store.ledger", |stop| writer.run(stop));
    let ledger = Ledger {
        db,
        jobs,
        later,
        known,
        metrics,
        news,
        moved,
    };
    // Whoever asks first must not be taken for somebody without limits.
    ledger.refresh().await?;
    let insisting = ledger.clone();
    spending.spawn("store.ledger.later", |stop| left.run(stop, insisting));
    lapse::start(spending, &ledger);
    Ok(ledger)
}

impl Ledger {
    /// Replaces the limits of the configuration.
    pub fn configure(&self, rules: Vec<BudgetRule>) {
        self.known.configure(rules);
    }

    /// Whether any limit counts for a payer, as far as this process knows: what another replica has set counts here within
    /// a second or so. A hold is judged by what is set when it is made.
    pub fn limits(&self, payer: &Payer) -> bool {
        self.known.limits(payer)
    }

    /// What somebody may want to be told from now on.
    pub fn news(&self) -> broadcast::Receiver<LedgerNews> {
        self.news.subscribe()
    }

    /// Changes whenever money was moved by this process; [`Ledger::mark`] knows of others too.
    pub fn moved(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// Sets something aside, or says which limit is against it. Whoever stops waiting has no hold, unless it has a key.
    pub async fn hold(&self, request: HoldRequest) -> Result<Hold, HoldError> {
        self.room().await?;
        let id = self.new_id();
        let key = request.idempotency_key;
        let is_named = key.is_some();
        let new = NewHold {
            id: id.clone(),
            payer: request.payer,
            purpose: request.purpose,
            ask: request.ask,
            trace: request.trace,
            key,
            lapses_at_ms: request.lapses_at.as_millisecond(),
            needs_limit: request.needs_limit,
        };
        // Whoever named it may ask again by its name.
        let unheard = Unheard::new(self, (!is_named).then_some(id));
        let became = self.asked(Request::Hold(Box::new(new))).await;
        // Where the answer was lost, it may have been made all the same.
        if !matches!(&became, Err(HoldError::Store(error)) if error.is_unavailable()) {
            unheard.heard();
        }
        held(became?)
    }

    /// Sets so much aside from now on, in place of what is left of it. It is judged as a new hold would be, unless it asks
    /// for no more than there is.
    pub async fn renew(&self, hold: &HoldId, ask: Ask, lapses_at: Timestamp) -> Result<Hold, HoldError> {
        let request = Request::Renew {
            hold: hold.clone(),
            ask,
            lapses_at_ms: lapses_at.as_millisecond(),
        };
        held(self.asked(request).await?)
    }

    /// Posts what has accrued since the start, less what was posted of it, and gives that difference. What is set aside
    /// becomes so much less.
    pub async fn accrue(&self, hold: &HoldId, total: Usd) -> Result<Usd, StoreError> {
        let hold = hold.clone();
        Ok(self.done(Request::Accrue { hold, total }).await?.posted)
    }

    /// Ends a hold at what it came to, which counts from now on even where it is more than was set aside.
    pub async fn settle(&self, hold: &HoldId, settlement: Settlement) -> Result<Settled, StoreError> {
        let outcome = self.done(settling(hold.clone(), settlement)).await?;
        Ok(Settled {
            above_hold: outcome.above_hold,
            is_repeat: outcome.is_repeat,
        })
    }

    /// Ends a hold of which nothing was spent beyond what had accrued.
    pub async fn void(&self, hold: &HoldId) -> Result<Applied, StoreError> {
        let hold = hold.clone();
        Ok(applied(&self.done(Request::Void { hold }).await?))
    }

    /// Whoever is about to spend without a hold waits here while too much of what was spent is still to be written.
    pub async fn room(&self) -> Result<(), StoreError> {
        self.later.room().await
    }

    /// Returns once all that was left so far without being waited for is written, or it has taken too long: whoever says
    /// that something is over that cost money waits here first, so that no end of the process comes in between.
    pub async fn caught_up(&self) {
        self.later.caught_up().await;
    }

    /// Settles without being waited for, before the store closes and however often it takes.
    pub fn settle_soon(&self, hold: HoldId, settlement: Settlement) {
        self.soon(settling(hold, settlement));
    }

    /// Voids without being waited for.
    pub fn void_soon(&self, hold: HoldId) {
        self.soon(Request::Void { hold });
    }

    /// Posts what was spent without a hold, since it has a price and no limit counts for it.
    pub fn post_soon(&self, posting: Posting) {
        let id = self.new_id().as_str().to_owned();
        self.soon(Request::Post {
            id,
            posting: Box::new(posting),
        });
    }

    /// Gives back what a hold has posted, the newest of it first. Windows no longer count it at the time at which it was
    /// posted, so that it leaves no room that was never there.
    pub async fn refund(&self, hold: &HoldId, amount: Usd, key: &str) -> Result<Applied, StoreError> {
        let request = Request::Refund {
            hold: hold.clone(),
            amount,
            key: key.to_owned(),
        };
        Ok(applied(&self.done(request).await?))
    }

    /// Corrects what was posted of a hold by what the provider's own bill says: more counts from now on, less is given back.
    pub async fn adjust(&self, hold: &HoldId, difference: Usd, key: &str) -> Result<Applied, StoreError> {
        let request = Request::Adjust {
            hold: hold.clone(),
            difference,
            key: key.to_owned(),
        };
        Ok(applied(&self.done(request).await?))
    }

    /// How all limits stand that count for a payer.
    pub async fn standings(&self, payer: &Payer) -> Result<Vec<Standing>, StoreError> {
        let purses = payer.purses().into_iter().collect();
        let now_ms = self.db.clock().now().as_millisecond();
        let look = Look::new(purses, &self.known.configured(), now_ms);
        let facts = self.db.read(look.alone(self.db.pools())).await?;
        Ok(facts.standings(payer))
    }

    /// Whether something would be admitted now. Advice: a hold asks again.
    pub async fn judge(&self, payer: &Payer, ask: Ask) -> Result<Result<Admission, Overrun>, StoreError> {
        Ok(admit(&self.standings(payer).await?, ask))
    }

    pub(crate) fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// An identifier that is found near others of its time.
    fn new_id(&self) -> HoldId {
        let id = TraceId::new(self.db.clock().now(), self.db.entropy().bytes());
        HoldId::try_from(id.to_string()).expect("hex digits are an identifier")
    }

    fn soon(&self, request: Request) {
        let fits = request.check().map_err(LedgerFault::Invalid);
        if let Err(fault) = fits {
            self.metrics.lost.inc();
            warn!(cause = fault.to_string(), "a movement of money makes no sense");
        } else if !self.later.leave(request) {
            self.metrics.lost.inc();
        }
    }

    async fn submit(&self, request: Request) -> Result<Became, StoreError> {
        asking::submit(&self.jobs, request).await
    }

    /// Something that limits may be against.
    async fn asked(&self, request: Request) -> Result<Outcome, HoldError> {
        request.check().map_err(HoldError::Invalid)?;
        let became = asking::submit_in_time(&self.jobs, request).await?;
        became.map_err(|refusal| match refusal {
            Refusal::Limit(overrun) => HoldError::Refused(overrun),
            Refusal::NoLimit => HoldError::NoLimit,
            Refusal::Conflict => HoldError::Conflict,
            Refusal::UnknownHold | Refusal::TooMuch => HoldError::Store(refusal.into()),
        })
    }

    /// Something that nothing but the database can be against.
    async fn done(&self, request: Request) -> Result<Outcome, StoreError> {
        request.check().map_err(LedgerFault::Invalid)?;
        let became = asking::submit_in_time(&self.jobs, request).await?;
        became.map_err(StoreError::from)
    }
}

fn settling(hold: HoldId, settlement: Settlement) -> Request {
    Request::Settle {
        hold,
        actual: settlement.actual,
        estimated: settlement.estimated,
    }
}

fn held(outcome: Outcome) -> Result<Hold, HoldError> {
    let record: HoldRecord = outcome
        .hold
        .ok_or_else(|| StoreError::corrupt("an outcome without its hold"))?;
    Ok(Hold {
        id: record.id,
        amount: record.amount,
        rate: record.rate,
        lapses_at: moment(record.lapses_at_ms)?,
        warnings: outcome.warnings,
        beyond: outcome.beyond,
        is_repeat: outcome.is_repeat,
    })
}

fn applied(outcome: &Outcome) -> Applied {
    Applied {
        amount: outcome.posted,
        is_repeat: outcome.is_repeat,
    }
}
