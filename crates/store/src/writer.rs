//! SQLite's one writer: it owns the only connection that writes, and commits units in groups.
//!
//! An fsync costs far more than a statement, so whatever waits while one group commits shares the next commit. An idle
//! writer commits a single unit at once; a busy one waits for as many units as last time, for at most a millisecond.
//! Each unit has a savepoint: one that fails is undone alone. Nobody is answered before the commit.

use forebay_domain::port::BoxFuture;
use forebay_runtime::{Clock, Stop, Tasks};
use sqlx::SqlitePool;
use std::time::Duration;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    StoreError,
    metrics::Metrics,
    sql::{Both, Tx},
};

/// Units that may wait; whoever comes after them waits for room, within its own patience.
const QUEUE_UNITS_MAX: usize = 1024;
const GROUP_UNITS_MAX: usize = 256;
/// How long a busy writer waits for the companions that the last group had.
const LINGER: Duration = Duration::from_millis(1);

/// Something to be done inside the writer's transaction.
pub(crate) type Unit = Box<dyn for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Ran> + Send>;

/// A unit that ran: whether its changes stay, and whom to tell what became of the commit.
pub(crate) struct Ran {
    pub keep: bool,
    pub answer: Box<dyn FnOnce(Result<(), StoreError>) + Send>,
}

pub(crate) type Writer = mpsc::Sender<Unit>;

/// Starts the writer over a pool of exactly one connection.
pub(crate) fn start(tasks: &Tasks, pool: SqlitePool, clock: Clock, metrics: Metrics) -> Writer {
    let (sender, units) = mpsc::channel(QUEUE_UNITS_MAX);
    tasks.spawn("store.writer", |stop| run(stop, pool, units, clock, metrics));
    sender
}

async fn run(stop: Stop, pool: SqlitePool, mut units: mpsc::Receiver<Unit>, clock: Clock, metrics: Metrics) {
    let mut previous = 1;
    loop {
        let mut group = Vec::new();
        tokio::select! {
            biased;
            _ = units.recv_many(&mut group, GROUP_UNITS_MAX) => {}
            () = stop.draining(), if !units.is_closed() => {
                // What is queued is still done; the next turn finds it, or the end.
                units.close();
                continue;
            }
        }
        if group.is_empty() {
            break;
        }
        if previous > 1 {
            linger(&mut units, &mut group, previous).await;
        }
        previous = group.len();
        metrics
            .group_size
            .observe(f64::from(u32::try_from(previous).unwrap_or(u32::MAX)));
        commit_group(&pool, group, &clock, &metrics).await;
    }
    pool.close().await;
}

async fn linger(units: &mut mpsc::Receiver<Unit>, group: &mut Vec<Unit>, expected: usize) {
    let deadline = Instant::now() + LINGER;
    while group.len() < expected.min(GROUP_UNITS_MAX) {
        let room = GROUP_UNITS_MAX - group.len();
        match tokio::time::timeout_at(deadline, units.recv_many(group, room)).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
}

/// Runs and commits one group, then answers every unit of it.
async fn commit_group(pool: &SqlitePool, group: Vec<Unit>, clock: &Clock, metrics: &Metrics) {
    let mut ran = Vec::with_capacity(group.len());
    let outcome = run_group(pool, group, &mut ran, clock, metrics).await;
    for unit in ran {
        (unit.answer)(outcome.clone());
    }
}

/// On an early return the transaction is dropped, and with it rolled back; units that did not run are dropped too, which
/// tells their callers that the store is unavailable.
async fn run_group(
    pool: &SqlitePool,
    group: Vec<Unit>,
    ran: &mut Vec<Ran>,
    clock: &Clock,
    metrics: &Metrics,
) -> Result<(), StoreError> {
    let mut tx = Both::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?);
    for unit in group {
        savepoint(&mut tx, "SAVEPOINT unit").await?;
        let done = unit(&mut tx).await;
        let keep = done.keep;
        ran.push(done);
        if !keep {
            // Fails where SQLite itself gave up the transaction (a full disk); then the whole group has failed.
            savepoint(&mut tx, "ROLLBACK TO unit").await?;
        }
        savepoint(&mut tx, "RELEASE unit").await?;
    }
    let started = clock.monotonic();
    commit(tx).await?;
    metrics
        .commit_seconds
        .observe(clock.monotonic().saturating_sub(started).as_secs_f64());
    Ok(())
}

async fn savepoint(tx: &mut Tx, statement: &'static str) -> Result<(), StoreError> {
    crate::sql::on_both!(tx, |tx| sqlx::query(statement).execute(&mut **tx).await.map(drop))?;
    Ok(())
}

pub(crate) async fn commit(tx: Tx) -> Result<(), StoreError> {
    crate::sql::on_both!(tx, |tx| tx.commit().await)?;
    Ok(())
}
