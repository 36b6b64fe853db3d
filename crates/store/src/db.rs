//! One way to read and one way to write, over both databases.

use forebay_domain::port::BoxFuture;
use forebay_runtime::{Clock, Entropy};
use sqlx::PgPool;
use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::oneshot;

use crate::{
    StoreError,
    metrics::Metrics,
    sql::{Both, Pools, Tx, on_both},
    writer::{Ran, Unit, Writer},
};

/// The longest that anybody waits for the database, queueing and retries included.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
const ATTEMPTS_MAX: u32 = 6;
/// The longest pause before the first retry; it doubles with each.
const PAUSE_MS: u64 = 10;

/// Some statements that commit together or not at all. It may run more than once, so it only touches the transaction;
/// what it needs is its input. It never begins a transaction of its own.
pub(crate) type WriteUnit<I, T> = for<'t> fn(&'t mut Tx, &'t I) -> BoxFuture<'t, Result<T, StoreError>>;

#[derive(Clone)]
pub(crate) struct Db(Arc<Inner>);

struct Inner {
    pools: Pools,
    writer: Both<Writer, PgPool>,
    clock: Clock,
    entropy: Entropy,
    metrics: Metrics,
    reachable: AtomicBool,
}

/// What a [`Db`] is made of.
pub(crate) struct DbParts {
    pub pools: Pools,
    pub writer: Both<Writer, PgPool>,
    pub clock: Clock,
    pub entropy: Entropy,
    pub metrics: Metrics,
}

impl Db {
    pub(crate) fn new(parts: DbParts) -> Self {
        Self(Arc::new(Inner {
            pools: parts.pools,
            writer: parts.writer,
            clock: parts.clock,
            entropy: parts.entropy,
            metrics: parts.metrics,
            reachable: AtomicBool::new(true),
        }))
    }

    pub(crate) fn pools(&self) -> &Pools {
        &self.0.pools
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn entropy(&self) -> &Entropy {
        &self.0.entropy
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Whether the last write or ping was answered, and no connection has broken since. A read that was only too slow
    /// tells nothing about the database: whoever asks for too much must not close the gateway to all others.
    pub(crate) fn is_reachable(&self) -> bool {
        self.0.reachable.load(Ordering::Relaxed)
    }

    /// Waits for a read, within bounds.
    pub(crate) async fn read<T, E: Into<StoreError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StoreError> {
        let outcome = bounded(async { work.await.map_err(Into::into) }).await;
        if outcome.as_ref().is_err_and(StoreError::is_disconnection) {
            self.note(false);
        }
        outcome
    }

    /// Runs a unit and returns once it is committed: on SQLite in the writer's next group, on PostgreSQL in a transaction
    /// of its own, again where it lost against another.
    pub(crate) async fn write<I, T>(&self, input: I, unit: WriteUnit<I, T>) -> Result<T, StoreError>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
    {
        let outcome = match &self.0.writer {
            Both::Sqlite(writer) => bounded(write_sqlite(writer, input, unit)).await,
            Both::Postgres(pool) => bounded(self.write_postgres(pool, &input, unit)).await,
        };
        self.note_answer(&outcome);
        outcome
    }

    /// Asks for a sign of life, and notes the answer.
    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        if let Both::Sqlite(writer) = &self.0.writer
            && writer.is_closed()
        {
            self.note(false);
            return Err(StoreError::unavailable("it is closing"));
        }
        let outcome = bounded(async {
            on_both!(self.pools(), |pool| sqlx::query(
                "SELECT COUNT(*) FROM audit_chain WHERE chain_id = ''"
            )
            .execute(pool)
            .await
            .map(drop))?;
            Ok(())
        })
        .await;
        self.note_answer(&outcome);
        outcome
    }

    fn note_answer<T>(&self, outcome: &Result<T, StoreError>) {
        self.note(!matches!(outcome, Err(StoreError::Unavailable { .. })));
    }

    fn note(&self, reachable: bool) {
        self.0.reachable.store(reachable, Ordering::Relaxed);
    }

    async fn write_postgres<I, T>(&self, pool: &PgPool, input: &I, unit: WriteUnit<I, T>) -> Result<T, StoreError> {
        let mut attempt = 1;
        loop {
            match self.attempt_postgres(pool, input, unit).await {
                Err(StoreError::Contended(_)) if attempt < ATTEMPTS_MAX => {
                    let pause_ms = self.0.entropy.below(PAUSE_MS << attempt) + 1;
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn attempt_postgres<I, T>(&self, pool: &PgPool, input: &I, unit: WriteUnit<I, T>) -> Result<T, StoreError> {
        let mut tx = Both::Postgres(pool.begin().await?);
        // On an error the transaction is dropped, and with it rolled back.
        let value = unit(&mut tx, input).await?;
        let started = self.0.clock.monotonic();
        if let Both::Postgres(tx) = tx {
            tx.commit().await?;
        }
        let took = self.0.clock.monotonic().saturating_sub(started);
        self.0.metrics.commit_seconds.observe(took.as_secs_f64());
        Ok(value)
    }
}

async fn bounded<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| Err(StoreError::unavailable("it did not answer in time")))
}

/// Hands the unit to the writer. Dropping this future leaves the unit queued: it is done, or not, but never by half.
async fn write_sqlite<I, T>(writer: &Writer, input: I, unit: WriteUnit<I, T>) -> Result<T, StoreError>
where
    I: Send + Sync + 'static,
    T: Send + 'static,
{
    let (sender, answer) = oneshot::channel();
    let work = Work {
        input,
        unit,
        result: None,
        sender,
    };
    let closing = || StoreError::unavailable("it is closing");
    writer.send(Box::new(work)).await.map_err(|_| closing())?;
    // What the writer leaves unanswered was there when it ended.
    answer.await.unwrap_or_else(|_| Err(not_begun()))
}

fn not_begun() -> StoreError {
    StoreError::unavailable("the write could not begin")
}

/// A unit with what it works on, and what came of it once it has run.
struct Work<I, T> {
    input: I,
    unit: WriteUnit<I, T>,
    result: Option<Result<T, StoreError>>,
    sender: oneshot::Sender<Result<T, StoreError>>,
}

impl<I: Send + Sync, T: Send> Unit for Work<I, T> {
    fn run<'t>(&'t mut self, tx: &'t mut Tx) -> BoxFuture<'t, Ran> {
        Box::pin(async move {
            let result = (self.unit)(tx, &self.input).await;
            let error = result.as_ref().err();
            let full = error.filter(|error| matches!(error, StoreError::Full(_))).cloned();
            let keep = result.is_ok();
            self.result = Some(result);
            Ran { keep, full }
        })
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let outcome = match (self.result, committed) {
            (Some(result), committed) => result.and_then(|value| committed.map(|()| value)),
            (None, Err(error)) if error.is_unavailable() => Err(error),
            // What was wrong was another's.
            (None, _) => Err(not_begun()),
        };
        // Whoever asked may have gone away.
        self.sender.send(outcome).ok();
    }
}
