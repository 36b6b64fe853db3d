//! The loops of the ledger: holds that nobody ends, limits that others have set, and what may be forgotten.

use forebay_domain::{
    Failure,
    id::{HoldId, TenantId},
    ledger::Request,
};
use forebay_runtime::{
    Tasks,
    looping::{self, Loop, Nudge},
};
use std::time::Duration;

use super::{
    Ledger,
    prune::{PRUNE_EVERY, Pruning},
};
use crate::{StoreError, row::known, sql::on_both};

/// How often somebody looks for holds that are overdue.
const LAPSE_EVERY: Duration = Duration::from_secs(5);
/// How old the limits may be that this process goes by.
const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// Holds that lapse at once.
const LAPSES_MAX: usize = 256;

/// What goes on is for whoever looks after it to end, or to renew.
const OVERDUE: &str = "SELECT id FROM ledger_hold WHERE state = 'open' AND lapses_at_ms <= $1 AND rate = 0 \
     ORDER BY lapses_at_ms LIMIT $2";
const UNDER: &str = "SELECT hold_id FROM ledger_txn WHERE once_key = $1";
const OPEN: &str = "SELECT COUNT(*) FROM ledger_hold WHERE state = 'open'";

pub(super) fn start(tasks: &Tasks, ledger: &Ledger) {
    looping::drive(tasks, Lapsing(ledger.clone()), LAPSE_EVERY, Nudge::new());
    looping::drive(tasks, Refreshing(ledger.clone()), REFRESH_EVERY, Nudge::new());
    looping::drive(tasks, Pruning::new(ledger.clone()), PRUNE_EVERY, Nudge::new());
}

struct Lapsing(Ledger);

impl Loop for Lapsing {
    type Seen = bool;
    type Action = ();

    fn name(&self) -> &'static str {
        "store.ledger.lapse"
    }

    async fn observe(&mut self) -> Result<bool, Failure> {
        let db = &self.0.db;
        let open: i64 = db
            .read(async { on_both!(db.pools(), |pool| sqlx::query_scalar(OPEN).fetch_one(pool).await) })
            .await?;
        self.0.metrics.open.set(open);
        Ok(!self.0.overdue().await?.is_empty())
    }

    fn decide(&self, seen: &bool) -> Vec<()> {
        if *seen { vec![()] } else { Vec::new() }
    }

    async fn act(&mut self, (): ()) -> Result<(), Failure> {
        self.0.lapse().await?;
        Ok(())
    }
}

struct Refreshing(Ledger);

impl Loop for Refreshing {
    type Seen = ();
    type Action = ();

    fn name(&self) -> &'static str {
        "store.ledger.limits"
    }

    async fn observe(&mut self) -> Result<(), Failure> {
        Ok(self.0.refresh().await?)
    }

    fn decide(&self, (): &()) -> Vec<()> {
        Vec::new()
    }

    async fn act(&mut self, (): ()) -> Result<(), Failure> {
        Ok(())
    }
}

impl Ledger {
    /// Posts in full what is overdue, and says how many holds that were. It is done by itself every few seconds.
    pub async fn lapse(&self) -> Result<u64, StoreError> {
        let mut lapsed = 0;
        loop {
            let overdue = self.overdue().await?;
            let found = overdue.len();
            let requests = overdue.into_iter().map(|hold| self.submit(Request::Lapse { hold }));
            for became in futures_util::future::join_all(requests).await {
                let outcome = became?.map_err(StoreError::from)?;
                lapsed += u64::from(!outcome.is_repeat);
            }
            if found < LAPSES_MAX {
                return Ok(lapsed);
            }
        }
    }

    /// The hold that was made under an idempotency key, whatever has become of it since.
    pub async fn hold_under(&self, tenant: &TenantId, key: &str) -> Result<Option<HoldId>, StoreError> {
        // As a request to make it is named.
        let key = format!("{tenant} hold {key}");
        let db = &self.db;
        let row: Option<(String,)> = db
            .read(async {
                on_both!(db.pools(), |pool| sqlx::query_as(UNDER)
                    .bind(&key)
                    .fetch_optional(pool)
                    .await)
            })
            .await?;
        row.map(|(id,)| known("hold", HoldId::try_from(id))).transpose()
    }

    async fn overdue(&self) -> Result<Vec<HoldId>, StoreError> {
        let now_ms = self.db.clock().now().as_millisecond();
        let rows: Vec<String> = self
            .db
            .read(async {
                on_both!(self.db.pools(), |pool| sqlx::query_scalar(OVERDUE)
                    .bind(now_ms)
                    .bind(i64::try_from(LAPSES_MAX).unwrap_or(i64::MAX))
                    .fetch_all(pool)
                    .await)
            })
            .await?;
        rows.into_iter().map(|id| known("hold", HoldId::try_from(id))).collect()
    }
}
