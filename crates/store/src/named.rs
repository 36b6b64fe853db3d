//! Requests that their senders name, so that each is carried out once however often it is sent.
//!
//! Whoever is about to carry one out says so first, and only the first to say it may. The answer is kept for a day, and
//! given to whoever sends the same request under the same name. An answer that nobody else may keep (it holds a secret) is
//! known to have been given, and no more than that.

use forebay_domain::id::TenantId;
use jiff::{SignedDuration, Timestamp};
use sqlx::Row;
use std::time::Duration;

use crate::{
    StoreError,
    db::Db,
    row::within,
    sql::{Both, Tx, on_both, row_on_both},
};

/// Longest name of a request, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Largest answer that is kept, in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How long a name is remembered.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);
/// Whoever carries a request out says as often as this that it is still at it.
pub const RENEW_EVERY: Duration = Duration::from_secs(30);
/// A request of which nothing was heard for so long was lost with its process.
const SILENT_MAX: SignedDuration = SignedDuration::from_mins(2);
/// Longest text of the columns that tell requests apart.
const WORD_BYTES_MAX: usize = 512;

/// A request's name, and within what it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestName {
    pub tenant: TenantId,
    /// Whose request it is.
    pub principal: String,
    /// What it asks for: method and path.
    pub route: String,
    pub name: String,
}

/// The right to carry a request out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    request: RequestName,
    claim: String,
}

/// An answer that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenAnswer {
    pub status: u16,
    /// With its media type; nothing where it was not to be kept.
    pub body: Option<(String, Vec<u8>)>,
}

/// How it stands with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// It is yours to carry out.
    First(Claim),
    /// Somebody is at it.
    UnderWay,
    /// Somebody was at it, and nobody will say what became of it.
    Lost,
    Answered(GivenAnswer),
    /// The name was used for another request.
    Different,
}

/// The named requests of a store. Cheap to clone.
#[derive(Clone)]
pub struct NamedRequests(Db);

macro_rules! which {
    () => {
        "tenant = $1 AND principal = $2 AND route = $3 AND name = $4"
    };
}

const INSERT: &str = "INSERT INTO named_request \
    (tenant, principal, route, name, request_hash, claim, begun_at_ms, expires_at_ms) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
const TAKE_OVER: &str = concat!(
    "UPDATE named_request SET request_hash = $5, claim = $6, begun_at_ms = $7, expires_at_ms = $8, status = NULL, \
     content_type = NULL, body = NULL WHERE ",
    which!()
);
const FIND: &str = concat!(
    "SELECT request_hash, begun_at_ms, expires_at_ms, status, content_type, body FROM named_request WHERE ",
    which!()
);
const FIND_LOCKED: &str = concat!(
    "SELECT request_hash, begun_at_ms, expires_at_ms, status, content_type, body FROM named_request WHERE ",
    which!(),
    " FOR UPDATE"
);
const ANSWER: &str = concat!(
    "UPDATE named_request SET status = $6, content_type = $7, body = $8 WHERE ",
    which!(),
    " AND claim = $5"
);
const RENEW: &str = concat!(
    "UPDATE named_request SET begun_at_ms = $6 WHERE ",
    which!(),
    " AND claim = $5 AND status IS NULL"
);
const RELEASE: &str = concat!("DELETE FROM named_request WHERE ", which!(), " AND claim = $5");
const SWEEP: &str = "DELETE FROM named_request WHERE expires_at_ms <= $1";

impl NamedRequests {
    pub(crate) fn new(db: Db) -> Self {
        Self(db)
    }

    /// Says that a request is about to be carried out. `hash` stands for all that it asks.
    pub async fn begin(&self, request: &RequestName, hash: [u8; 32], now: Timestamp) -> Result<Begun, StoreError> {
        within("the name of a request", request.name.len(), NAME_BYTES_MAX)?;
        within("the sender of a request", request.principal.len(), WORD_BYTES_MAX)?;
        within("the route of a request", request.route.len(), WORD_BYTES_MAX)?;
        let number = u128::from_le_bytes(self.0.entropy().bytes());
        let new = NewRequest {
            claim: Claim {
                request: request.clone(),
                claim: format!("{number:032x}"),
            },
            hash,
            now,
        };
        self.0.write(new, |tx, new| Box::pin(begin(tx, new))).await
    }

    /// Keeps the answer. One that is too large is only known to have been given.
    pub async fn answered(&self, claim: &Claim, mut answer: GivenAnswer) -> Result<(), StoreError> {
        answer.body = answer.body.filter(|(_, body)| body.len() <= ANSWER_BYTES_MAX);
        self.0
            .write((claim.clone(), answer), |tx, (claim, answer)| {
                Box::pin(async move {
                    let (content_type, body) = match &answer.body {
                        Some((content_type, body)) => (Some(content_type.as_str()), Some(body.as_slice())),
                        None => (None, None),
                    };
                    on_both!(tx, |tx| sqlx::query(ANSWER)
                        .bind(claim.request.tenant.as_str())
                        .bind(&claim.request.principal)
                        .bind(&claim.request.route)
                        .bind(&claim.request.name)
                        .bind(&claim.claim)
                        .bind(i64::from(answer.status))
                        .bind(content_type)
                        .bind(body)
                        .execute(&mut **tx)
                        .await
                        .map(drop))?;
                    Ok(())
                })
            })
            .await
    }

    /// Says that a request is still being carried out.
    pub async fn renew(&self, claim: &Claim, now: Timestamp) -> Result<(), StoreError> {
        self.0
            .write((claim.clone(), now.as_millisecond()), |tx, (claim, now_ms)| {
                Box::pin(async move {
                    on_both!(tx, |tx| sqlx::query(RENEW)
                        .bind(claim.request.tenant.as_str())
                        .bind(&claim.request.principal)
                        .bind(&claim.request.route)
                        .bind(&claim.request.name)
                        .bind(&claim.claim)
                        .bind(*now_ms)
                        .execute(&mut **tx)
                        .await
                        .map(drop))?;
                    Ok(())
                })
            })
            .await
    }

    /// Forgets a request of which nothing came, so that it may be sent again.
    pub async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        self.0
            .write(claim.clone(), |tx, claim| {
                Box::pin(async move {
                    on_both!(tx, |tx| sqlx::query(RELEASE)
                        .bind(claim.request.tenant.as_str())
                        .bind(&claim.request.principal)
                        .bind(&claim.request.route)
                        .bind(&claim.request.name)
                        .bind(&claim.claim)
                        .execute(&mut **tx)
                        .await
                        .map(drop))?;
                    Ok(())
                })
            })
            .await
    }

    /// Forgets the names that were remembered long enough.
    pub async fn sweep(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.0
            .write(now.as_millisecond(), |tx, now_ms| {
                Box::pin(async move {
                    Ok(on_both!(tx, |tx| sqlx::query(SWEEP)
                        .bind(*now_ms)
                        .execute(&mut **tx)
                        .await
                        .map(|done| done.rows_affected()))?)
                })
            })
            .await
    }
}

struct NewRequest {
    claim: Claim,
    hash: [u8; 32],
    now: Timestamp,
}

impl NewRequest {
    async fn write(&self, tx: &mut Tx, sql: &'static str) -> Result<bool, StoreError> {
        let Claim { request, claim } = &self.claim;
        let expires_at = self.now.saturating_add(REMEMBERED).unwrap_or(Timestamp::MAX);
        let rows = on_both!(tx, |tx| sqlx::query(sql)
            .bind(request.tenant.as_str())
            .bind(&request.principal)
            .bind(&request.route)
            .bind(&request.name)
            .bind(self.hash.as_slice())
            .bind(claim)
            .bind(self.now.as_millisecond())
            .bind(expires_at.as_millisecond())
            .execute(&mut **tx)
            .await
            .map(|done| done.rows_affected()))?;
        Ok(rows == 1)
    }
}

async fn begin(tx: &mut Tx, new: &NewRequest) -> Result<Begun, StoreError> {
    if new.write(tx, INSERT).await? {
        return Ok(Begun::First(new.claim.clone()));
    }
    let find = match tx {
        Both::Sqlite(_) => FIND,
        Both::Postgres(_) => FIND_LOCKED,
    };
    let request = &new.claim.request;
    let row: Option<RequestRow> = on_both!(&mut *tx, |tx| sqlx::query_as(find)
        .bind(request.tenant.as_str())
        .bind(&request.principal)
        .bind(&request.route)
        .bind(&request.name)
        .fetch_optional(&mut **tx)
        .await)?;
    // Whoever had it has just let go of it; the sender will come again.
    let Some(row) = row else { return Ok(Begun::UnderWay) };
    let now_ms = new.now.as_millisecond();
    if row.expires_at_ms <= now_ms {
        new.write(tx, TAKE_OVER).await?;
        return Ok(Begun::First(new.claim.clone()));
    }
    if row.request_hash != new.hash {
        return Ok(Begun::Different);
    }
    row.standing(now_ms)
}

fn ms(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A row of `named_request`, not yet believed.
struct RequestRow {
    request_hash: Vec<u8>,
    begun_at_ms: i64,
    expires_at_ms: i64,
    status: Option<i64>,
    content_type: Option<String>,
    body: Option<Vec<u8>>,
}

row_on_both!(RequestRow, |row| Ok(Self {
    request_hash: row.try_get("request_hash")?,
    begun_at_ms: row.try_get("begun_at_ms")?,
    expires_at_ms: row.try_get("expires_at_ms")?,
    status: row.try_get("status")?,
    content_type: row.try_get("content_type")?,
    body: row.try_get("body")?,
}));

impl RequestRow {
    fn standing(self, now_ms: i64) -> Result<Begun, StoreError> {
        let Some(status) = self.status else {
            let is_lost = self.begun_at_ms.saturating_add(ms(SILENT_MAX)) <= now_ms;
            return Ok(if is_lost { Begun::Lost } else { Begun::UnderWay });
        };
        let status = u16::try_from(status).map_err(|_| StoreError::corrupt("the status of an answer"))?;
        let body = self.content_type.zip(self.body);
        Ok(Begun::Answered(GivenAnswer { status, body }))
    }
}
