//! Alerts on their way out: what was told when, and what webhooks have yet to take.
//!
//! Telling and queueing are one transaction, so that an alert is told once however many replicas see its cause. A delivery
//! is handed out for a while at a time; where nobody reports what became of it, it comes again. So a webhook may hear of
//! an alert twice, by the same id.

use forebay_domain::id::TenantId;
use jiff::Timestamp;
use sqlx::Row;
use std::time::Duration;

use crate::{
    StoreError,
    db::Db,
    row::{moment, within},
    sql::{Both, Tx, on_both, row_on_both},
};

/// Largest body of an alert, in bytes.
pub const BODY_BYTES_MAX: usize = 16 << 10;
/// Deliveries that wait at once for one webhook.
pub const WAITING_MAX: u32 = 10_000;
/// As many of them as only what is urgent may take.
pub const RESERVED: u32 = 1_000;
/// What no webhook had room for is told again after so long.
const NO_ROOM_PAUSE: Duration = Duration::from_mins(1);
const WORD_BYTES_MAX: usize = 512;

/// Something that is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAlert {
    pub id: String,
    /// Whose affair it is; nobody's in particular where `None`.
    pub tenant: Option<TenantId>,
    pub kind: &'static str,
    /// What it is about: the same kind about the same thing is not told again for a while.
    pub thing: String,
    /// It finds room where other alerts no longer do.
    pub is_urgent: bool,
    /// What webhooks get.
    pub body: String,
    pub at: Timestamp,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It is new, and on its way to this many webhooks.
    New { queued: u32 },
    /// It was told a while ago.
    Already,
}

/// An alert that a webhook has to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub id: String,
    pub webhook: String,
    pub body: String,
    pub created_at: Timestamp,
    /// This one counted.
    pub attempts: u32,
}

/// The alerts of a store. Cheap to clone.
#[derive(Clone)]
pub struct Alerts(Db);

/// Nothing is written where it was told after `$5`.
const TELL: &str = "INSERT INTO alert_told (tenant, kind, thing, told_at_ms) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (tenant, kind, thing) DO UPDATE SET told_at_ms = $4 WHERE alert_told.told_at_ms <= $5";
const COUNT: &str = "SELECT COUNT(*) FROM alert_delivery WHERE webhook = $1";
const TOLD_AT: &str = "UPDATE alert_told SET told_at_ms = $4 WHERE tenant = $1 AND kind = $2 AND thing = $3";
const QUEUE: &str = "INSERT INTO alert_delivery (id, webhook, body, created_at_ms, due_at_ms, attempts) \
    VALUES ($1, $2, $3, $4, $4, 0) ON CONFLICT DO NOTHING";
const TAKE_SQLITE: &str = "UPDATE alert_delivery SET due_at_ms = $2, attempts = attempts + 1 WHERE (id, webhook) IN \
    (SELECT id, webhook FROM alert_delivery WHERE due_at_ms <= $1 ORDER BY due_at_ms LIMIT $3) \
    RETURNING id, webhook, body, created_at_ms, attempts";
const TAKE_POSTGRES: &str = "UPDATE alert_delivery SET due_at_ms = $2, attempts = attempts + 1 WHERE (id, webhook) IN \
    (SELECT id, webhook FROM alert_delivery WHERE due_at_ms <= $1 ORDER BY due_at_ms LIMIT $3 FOR UPDATE SKIP LOCKED) \
    RETURNING id, webhook, body, created_at_ms, attempts";
const DONE: &str = "DELETE FROM alert_delivery WHERE id = $1 AND webhook = $2";
const LATER: &str = "UPDATE alert_delivery SET due_at_ms = $3 WHERE id = $1 AND webhook = $2";
const SWEEP: &str = "DELETE FROM alert_told WHERE told_at_ms <= $1";

struct Telling {
    alert: NewAlert,
    webhooks: Vec<String>,
    told_before_ms: i64,
}

impl Alerts {
    pub(crate) fn new(db: Db) -> Self {
        Self(db)
    }

    /// Notes that something is told, unless it was within `again_after`, and queues it for the webhooks.
    pub async fn tell(
        &self,
        alert: NewAlert,
        webhooks: Vec<String>,
        again_after: Duration,
    ) -> Result<Told, StoreError> {
        within("an alert", alert.body.len(), BODY_BYTES_MAX)?;
        within("what an alert is about", alert.thing.len(), WORD_BYTES_MAX)?;
        let again_ms = i64::try_from(again_after.as_millis()).unwrap_or(i64::MAX);
        let telling = Telling {
            told_before_ms: alert.at.as_millisecond().saturating_sub(again_ms),
            alert,
            webhooks,
        };
        self.0.write(telling, |tx, telling| Box::pin(tell(tx, telling))).await
    }

    /// Hands out what is due, for `lease`: whoever takes it says within that time what became of it.
    pub async fn take(&self, now: Timestamp, lease: Duration, max: u32) -> Result<Vec<Delivery>, StoreError> {
        let now_ms = now.as_millisecond();
        let until_ms = now_ms.saturating_add(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX));
        let rows: Vec<DeliveryRow> = self
            .0
            .write((now_ms, until_ms, max), |tx, (now_ms, until_ms, max)| {
                Box::pin(async move {
                    let take = match tx {
                        Both::Sqlite(_) => TAKE_SQLITE,
                        Both::Postgres(_) => TAKE_POSTGRES,
                    };
                    Ok(on_both!(tx, |tx| sqlx::query_as(take)
                        .bind(*now_ms)
                        .bind(*until_ms)
                        .bind(i64::from(*max))
                        .fetch_all(&mut **tx)
                        .await)?)
                })
            })
            .await?;
        rows.into_iter().map(Delivery::try_from).collect()
    }

    /// It was taken, or is given up.
    pub async fn done(&self, delivery: &Delivery) -> Result<(), StoreError> {
        let input = (delivery.id.clone(), delivery.webhook.clone());
        self.0
            .write(input, |tx, (id, webhook)| {
                Box::pin(async move {
                    on_both!(tx, |tx| sqlx::query(DONE)
                        .bind(id)
                        .bind(webhook)
                        .execute(&mut **tx)
                        .await
                        .map(drop))?;
                    Ok(())
                })
            })
            .await
    }

    /// It is tried again then.
    pub async fn later(&self, delivery: &Delivery, due_at: Timestamp) -> Result<(), StoreError> {
        let input = (delivery.id.clone(), delivery.webhook.clone(), due_at.as_millisecond());
        self.0
            .write(input, |tx, (id, webhook, due_at_ms)| {
                Box::pin(async move {
                    on_both!(tx, |tx| sqlx::query(LATER)
                        .bind(id)
                        .bind(webhook)
                        .bind(*due_at_ms)
                        .execute(&mut **tx)
                        .await
                        .map(drop))?;
                    Ok(())
                })
            })
            .await
    }

    /// Forgets what was told before that time.
    pub async fn sweep(&self, before: Timestamp) -> Result<(), StoreError> {
        self.0
            .write(before.as_millisecond(), |tx, before_ms| {
                Box::pin(async move {
                    on_both!(tx, |tx| sqlx::query(SWEEP)
                        .bind(*before_ms)
                        .execute(&mut **tx)
                        .await
                        .map(drop))?;
                    Ok(())
                })
            })
            .await
    }
}

async fn tell(tx: &mut Tx, telling: &Telling) -> Result<Told, StoreError> {
    let Telling {
        alert,
        webhooks,
        told_before_ms,
    } = telling;
    let at_ms = alert.at.as_millisecond();
    let told = on_both!(&mut *tx, |tx| sqlx::query(TELL)
        .bind(alert.tenant.as_ref().map_or("", TenantId::as_str))
        .bind(alert.kind)
        .bind(&alert.thing)
        .bind(at_ms)
        .bind(*told_before_ms)
        .execute(&mut **tx)
        .await
        .map(|done| done.rows_affected()))?;
    if told == 0 {
        return Ok(Told::Already);
    }
    let room = i64::from(WAITING_MAX - if alert.is_urgent { 0 } else { RESERVED });
    let mut queued = 0;
    for webhook in webhooks {
        let waiting: i64 = on_both!(&mut *tx, |tx| sqlx::query_scalar(COUNT)
            .bind(webhook)
            .fetch_one(&mut **tx)
            .await)?;
        // Where nobody takes them, new ones have no room; what they tell stands in the events all the same.
        if waiting >= room {
            continue;
        }
        on_both!(&mut *tx, |tx| sqlx::query(QUEUE)
            .bind(&alert.id)
            .bind(webhook)
            .bind(&alert.body)
            .bind(at_ms)
            .execute(&mut **tx)
            .await
            .map(drop))?;
        queued += 1;
    }
    if queued == 0 && !webhooks.is_empty() {
        // Nobody was told, so it does not count as told for as long as otherwise.
        let pause_ms = i64::try_from(NO_ROOM_PAUSE.as_millis()).unwrap_or(i64::MAX);
        on_both!(&mut *tx, |tx| sqlx::query(TOLD_AT)
            .bind(alert.tenant.as_ref().map_or("", TenantId::as_str))
            .bind(alert.kind)
            .bind(&alert.thing)
            .bind(told_before_ms.saturating_add(pause_ms).min(at_ms))
            .execute(&mut **tx)
            .await
            .map(drop))?;
    }
    Ok(Told::New { queued })
}

/// A row of `alert_delivery`, not yet believed.
struct DeliveryRow {
    id: String,
    webhook: String,
    body: String,
    created_at_ms: i64,
    attempts: i64,
}

row_on_both!(DeliveryRow, |row| Ok(Self {
    id: row.try_get("id")?,
    webhook: row.try_get("webhook")?,
    body: row.try_get("body")?,
    created_at_ms: row.try_get("created_at_ms")?,
    attempts: row.try_get("attempts")?,
}));

impl TryFrom<DeliveryRow> for Delivery {
    type Error = StoreError;
    fn try_from(row: DeliveryRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            webhook: row.webhook,
            body: row.body,
            created_at: moment(row.created_at_ms)?,
            attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
        })
    }
}
