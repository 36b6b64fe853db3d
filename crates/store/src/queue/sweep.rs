//! What happens by itself: leases lapse, and what has ended is forgotten after a while.

use forebay_domain::{
    Failure,
    id::TaskId,
    task::{Event, LEASE_MAX_MS},
};
use forebay_runtime::{
    Tasks,
    looping::{self, Loop, Nudge},
};
use sqlx::AssertSqlSafe;
use std::time::Duration;

use super::{
    Queue,
    moves::{Scope, Stepped},
};
use crate::{
    StoreError,
    row::known,
    sql::{Both, on_both},
};

/// How often somebody looks for leases that have ended.
const LAPSE_EVERY: Duration = Duration::from_secs(1);
const PRUNE_EVERY: Duration = Duration::from_secs(30);
/// Leases that lapse at once.
const LAPSES_MAX: usize = 256;
/// Tasks that are forgotten in one transaction.
const PRUNED_MAX: usize = 1_000;
const MISDATED: &str =
    "SELECT id FROM task WHERE stage = 'retrying' AND wake_at_ms > $1 AND wake_at_ms - retry_max_ms > $1 LIMIT $2";

pub(super) fn start(tasks: &Tasks, queue: &Queue) {
    looping::drive(tasks, Lapsing(queue.clone()), LAPSE_EVERY, Nudge::new());
    let pruning = Pruning {
        queue: queue.clone(),
        is_counted: false,
    };
    looping::drive(tasks, pruning, PRUNE_EVERY, Nudge::new());
}

struct Lapsing(Queue);

impl Loop for Lapsing {
    type Seen = bool;
    type Action = ();

    fn name(&self) -> &'static str {
        "store.queue.lapse"
    }

    async fn observe(&mut self) -> Result<bool, Failure> {
        Ok(!self.0.lapsed().await?.is_empty())
    }

    fn decide(&self, seen: &bool) -> Vec<()> {
        if *seen { vec![()] } else { Vec::new() }
    }

    async fn act(&mut self, (): ()) -> Result<(), Failure> {
        self.0.lapse().await?;
        Ok(())
    }
}

/// What need not be done often.
struct Pruning {
    queue: Queue,
    /// What has not ended was counted anew since this process began.
    is_counted: bool,
}

impl Loop for Pruning {
    type Seen = ();
    type Action = ();

    fn name(&self) -> &'static str {
        "store.queue.prune"
    }

    async fn observe(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn decide(&self, (): &()) -> Vec<()> {
        vec![()]
    }

    async fn act(&mut self, (): ()) -> Result<(), Failure> {
        if !self.is_counted {
            self.queue.recount().await?;
            self.is_counted = true;
        }
        self.queue.catch_up().await?;
        self.queue.prune().await?;
        Ok(())
    }
}

impl Queue {
    /// Takes tasks from workers that were not heard of for their whole lease, and says how many those were. It is done by
    /// itself every second.
    pub async fn lapse(&self) -> Result<u64, StoreError> {
        let mut lapsed = 0;
        loop {
            let runs = self.lapsed().await?;
            let found = runs.len();
            // Whatever the wall clock says of those that were heard of here.
            let ids = self.leases.unheard(runs, self.db.clock().monotonic());
            let some = self.happens(ids, || Event::Lapse { jitter: self.jitter() }).await?;
            lapsed += some;
            if found < LAPSES_MAX || some == 0 {
                self.metrics.lapsed.inc_by(lapsed);
                return Ok(lapsed);
            }
        }
    }

    /// Makes pending what backs off until a time that lies further ahead than it ever waits, and says how many those were: the
    /// clock has gone back since. It is done by itself.
    pub async fn catch_up(&self) -> Result<u64, StoreError> {
        let now_ms = self.db.clock().now().as_millisecond();
        let rows: Vec<String> = self
            .db
            .read(async {
                on_both!(self.db.pools(), |pool| sqlx::query_scalar(MISDATED)
                    .bind(now_ms)
                    .bind(i64::try_from(LAPSES_MAX).unwrap_or(i64::MAX))
                    .fetch_all(pool)
                    .await)
            })
            .await?;
        let ids = rows.into_iter().map(|id| known("task", TaskId::try_from(id)));
        self.happens(ids.collect::<Result<_, _>>()?, || Event::Due).await
    }

    /// Lets it happen to each, and says to how many it did.
    async fn happens(&self, ids: Vec<TaskId>, event: impl Fn() -> Event) -> Result<u64, StoreError> {
        let steps = ids.into_iter().map(|id| self.step(Scope::All, id, event()));
        let mut done = 0;
        for stepped in futures_util::future::join_all(steps).await {
            done += u64::from(matches!(stepped?, Stepped::Done { .. }));
        }
        Ok(done)
    }

    /// Forgets what has ended and was kept for long enough, and says how many those were. It is done by itself.
    pub async fn prune(&self) -> Result<u64, StoreError> {
        let now_ms = self.db.clock().now().as_millisecond();
        let mut pruned = 0;
        loop {
            let some: u64 = self
                .db
                .write(now_ms, |tx, now_ms| Box::pin(forget(tx, *now_ms)))
                .await?;
            pruned += some;
            self.metrics.pruned.inc_by(some);
            if usize::try_from(some).is_ok_and(|some| some < PRUNED_MAX) {
                return Ok(pruned);
            }
        }
    }

    /// The second half finds leases that were given by a clock which has gone back since.
    async fn lapsed(&self) -> Result<Vec<(TaskId, i64)>, StoreError> {
        let now_ms = self.db.clock().now().as_millisecond();
        let sql = format!(
            "SELECT id, fence FROM task WHERE stage = 'running' AND wake_at_ms <= $1 UNION ALL \
             SELECT id, fence FROM task WHERE stage = 'running' AND wake_at_ms > $2 LIMIT {LAPSES_MAX}"
        );
        let rows: Vec<(String, i64)> = self
            .db
            .read(async {
                on_both!(self.db.pools(), |pool| sqlx::query_as(AssertSqlSafe(sql))
                    .bind(now_ms)
                    .bind(now_ms.saturating_add(LEASE_MAX_MS))
                    .fetch_all(pool)
                    .await)
            })
            .await?;
        rows.into_iter()
            .map(|(id, fence)| Ok((known("task", TaskId::try_from(id))?, fence)))
            .collect()
    }
}

async fn forget(tx: &mut crate::sql::Tx, now_ms: i64) -> Result<u64, StoreError> {
    // Written out, so that it is prepared once and read from the index.
    let lock = match tx {
        Both::Sqlite(_) => "",
        // What somebody is just reviving is theirs, and nobody waits for anybody.
        Both::Postgres(_) => " FOR UPDATE SKIP LOCKED",
    };
    let sql = format!(
        "DELETE FROM task WHERE id IN (SELECT id FROM task WHERE stage IN ('completed', 'failed', 'cancelled', 'dead') \
         AND wake_at_ms <= $1 LIMIT {PRUNED_MAX}{lock}) \
         AND stage IN ('completed', 'failed', 'cancelled', 'dead') AND wake_at_ms <= $1"
    );
    Ok(on_both!(tx, |tx| sqlx::query(AssertSqlSafe(sql))
        .bind(now_ms)
        .execute(&mut **tx)
        .await
        .map(|done| done.rows_affected()))?)
}
