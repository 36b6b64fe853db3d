//! Answers of models that are kept, so that their owners can read them again and go on with them.
//!
//! An answer belongs to one subject of one project, whichever of its keys asked, and every statement here says whose it
//! wants: what is somebody else's is not there, for anybody. What expired is not there either, and goes with the next
//! sweep. An owner keeps the newest answers up to a number and [`OWNER_BYTES_MAX`]. A conversation is found backwards
//! from its last answer. What was agreed to in one is [claimed](Responses::claim) before it runs.

mod claims;
mod owner;

pub use owner::{OwnerKind, ResponseOwner};

use forebay_domain::id::{KeyId, ProjectId, SubjectId, TenantId};
use jiff::{SignedDuration, Timestamp};
use serde_json::value::RawValue;
use sqlx::Row;
use std::collections::HashMap;

use crate::{
    StoreError,
    db::Db,
    row::{document, known, moment, within},
    sql::{Tx, on_both, row_on_both},
};

/// How long an answer is kept, unless somebody says otherwise: as long as `OpenAI` keeps them.
pub const KEPT_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Most answers that one owner keeps, unless somebody says otherwise.
pub const OWNER_RESPONSES_MAX: u32 = 10_000;

/// Most bytes of answers and of what was asked that one owner keeps.
pub const OWNER_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Largest answer, and largest input of one, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most bytes of a conversation, which is read anew for each request that goes on with it.
pub const CHAIN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most answers of a conversation.
pub const CHAIN_MAX: u32 = 1_000;

/// Longest id, name of a model, or status, in bytes.
pub const WORD_BYTES_MAX: usize = 256;

/// Answers that one unit removes at most.
const SWEEP_RESPONSES_MAX: u32 = 100;

/// Whoever is past a bound loses one part in so many at once, so that it is not past it again with the next answer.
const SLACK: i64 = 16;

/// Counting takes longer the more there is: 2.4 ms for 10,000 answers. Where so many are allowed only some of those that
/// are kept have it done, and all that are large; the bound is passed by a few at most.
const COUNTED_MAX: i64 = 1_000;
const LARGE_BYTES: usize = 64 * 1024;
const COUNTED_ONE_IN: u32 = 16;

/// An answer. Times have milliseconds.
#[derive(Debug, Clone)]
pub struct StoredResponse {
    pub id: String,
    pub owner: ResponseOwner,
    /// The key that asked.
    pub key: Option<KeyId>,
    /// The answer that this one goes on from.
    pub previous_id: Option<String>,
    pub model: String,
    pub status: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    /// What was asked, as items.
    pub input: Box<RawValue>,
    /// The answer as its owner gets it.
    pub body: Box<RawValue>,
}

/// A conversation, oldest answer first.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Empty where there is no such answer.
    pub responses: Vec<StoredResponse>,
    /// Whether the first of them began it. Where it did not, those before it are gone, or past the depth asked for.
    pub whole: bool,
}

/// The kept answers of a store. Cheap to clone.
#[derive(Clone)]
pub struct Responses(Db);

macro_rules! columns {
    () => {
        "id, tenant, project, kind, subject, key_id, previous_id, model, status, created_at_ms, expires_at_ms, input, body"
    };
}

const INSERT: &str = concat!(
    "INSERT INTO response (",
    columns!(),
    ", bytes) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
);
const HELD: &str = "SELECT COUNT(*), CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM response \
     WHERE tenant = $1 AND project = $2 AND kind = $3 AND subject = $4";
/// The newest always stays.
const TRIM: &str = "DELETE FROM response WHERE id IN \
     (SELECT id FROM (SELECT id, ROW_NUMBER() OVER newest AS place, SUM(bytes) OVER newest AS total FROM response \
     WHERE tenant = $1 AND project = $2 AND kind = $3 AND subject = $4 \
     WINDOW newest AS (ORDER BY created_at_ms DESC, id DESC \
     ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)) AS ranked WHERE place > 1 AND (place > $5 OR total > $6))";
const FIND: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM response WHERE id = $1 AND tenant = $2 AND project = $3 AND kind = $4 AND subject = $5 AND expires_at_ms > $6"
);
const DELETE: &str =
    "DELETE FROM response WHERE id = $1 AND tenant = $2 AND project = $3 AND kind = $4 AND subject = $5";
/// Newest first. Each step is somebody's own answer again: a chain does not lead out of what its owner has.
const CHAIN: &str = "WITH RECURSIVE chain (id, previous_id, bytes, place) AS ( \
     SELECT id, previous_id, bytes, CAST(1 AS BIGINT) FROM response \
     WHERE id = $1 AND tenant = $2 AND project = $3 AND kind = $4 AND subject = $5 AND expires_at_ms > $6 \
     UNION ALL SELECT r.id, r.previous_id, r.bytes, c.place + 1 FROM chain AS c JOIN response AS r ON r.id = c.previous_id \
     WHERE r.tenant = $2 AND r.project = $3 AND r.kind = $4 AND r.subject = $5 AND r.expires_at_ms > $6 \
     AND c.place < $7) \
     SELECT id, bytes FROM chain ORDER BY place";
const SWEEP: &str = "DELETE FROM response WHERE id IN \
     (SELECT id FROM response WHERE expires_at_ms <= $1 ORDER BY expires_at_ms LIMIT $2)";

impl Responses {
    pub(crate) fn new(db: Db) -> Self {
        Self(db)
    }

    /// Keeps an answer; an id that is there already is a conflict. Where its owner has more than `most` of them the
    /// oldest make room; gives how many.
    pub async fn put(&self, response: &StoredResponse, most: u32) -> Result<u64, StoreError> {
        let previous = response.previous_id.as_deref().unwrap_or_default();
        for word in [&response.id, previous, &response.model, &response.status] {
            within("a word of an answer", word.len(), WORD_BYTES_MAX)?;
        }
        for part in [&response.input, &response.body] {
            within("an answer that is to be kept", part.get().len(), DOCUMENT_BYTES_MAX)?;
        }
        let input = (response.clone(), i64::from(most.max(1)));
        let put = self
            .0
            .write(input, |tx, (response, most)| Box::pin(put(tx, response, *most)));
        let gone = put.await?;
        self.0.metrics().responses_evicted.inc_by(gone);
        Ok(gone)
    }

    /// The owner's answer of that id.
    pub async fn get(
        &self,
        id: &str,
        owner: &ResponseOwner,
        now: Timestamp,
    ) -> Result<Option<StoredResponse>, StoreError> {
        let row: Option<ResponseRow> = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| sqlx::query_as(FIND)
                    .bind(id)
                    .bind(owner.tenant.as_str())
                    .bind(owner.project_text())
                    .bind(owner.kind.as_str())
                    .bind(owner.subject.as_str())
                    .bind(now.as_millisecond())
                    .fetch_optional(pool)
                    .await)
            })
            .await?;
        row.map(StoredResponse::try_from).transpose()
    }

    /// Forgets an answer; whether the owner had one of that id. Conversations that went on from it lose their beginning.
    pub async fn delete(&self, id: &str, owner: &ResponseOwner) -> Result<bool, StoreError> {
        let input = (id.to_owned(), owner.clone());
        self.0
            .write(input, |tx, (id, owner)| {
                Box::pin(async move {
                    let gone = on_both!(tx, |tx| sqlx::query(DELETE)
                        .bind(id)
                        .bind(owner.tenant.as_str())
                        .bind(owner.project_text())
                        .bind(owner.kind.as_str())
                        .bind(owner.subject.as_str())
                        .execute(&mut **tx)
                        .await
                        .map(|done| done.rows_affected()))?;
                    Ok(gone == 1)
                })
            })
            .await
    }

    /// The conversation that ends with an answer, at most `depth_max` of them.
    pub async fn chain(
        &self,
        id: &str,
        owner: &ResponseOwner,
        depth_max: u32,
        now: Timestamp,
    ) -> Result<Chain, StoreError> {
        let links: Vec<(String, i64)> = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| sqlx::query_as(CHAIN)
                    .bind(id)
                    .bind(owner.tenant.as_str())
                    .bind(owner.project_text())
                    .bind(owner.kind.as_str())
                    .bind(owner.subject.as_str())
                    .bind(now.as_millisecond())
                    .bind(i64::from(depth_max.clamp(1, CHAIN_MAX)))
                    .fetch_all(pool)
                    .await)
            })
            .await?;
        let bytes: i64 = links.iter().map(|(_, bytes)| *bytes).sum();
        within(
            "a conversation",
            usize::try_from(bytes).unwrap_or(usize::MAX),
            CHAIN_BYTES_MAX,
        )?;
        let mut found = self.of_ids(&links).await?;
        // From the newest back to where one has just gone away.
        let newest_first = links.iter().map_while(|(id, _)| found.remove(id));
        let mut responses = newest_first.collect::<Vec<_>>();
        responses.reverse();
        let whole = responses.first().is_some_and(|first| first.previous_id.is_none());
        Ok(Chain { responses, whole })
    }

    async fn of_ids(&self, links: &[(String, i64)]) -> Result<HashMap<String, StoredResponse>, StoreError> {
        if links.is_empty() {
            return Ok(HashMap::new());
        }
        let rows: Vec<ResponseRow> = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| {
                    let mut query =
                        sqlx::QueryBuilder::new(concat!("SELECT ", columns!(), " FROM response WHERE id IN ("));
                    let mut list = query.separated(", ");
                    for (id, _) in links {
                        list.push_bind(id);
                    }
                    query.push(")");
                    query.build_query_as().persistent(false).fetch_all(pool).await
                })
            })
            .await?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in rows {
            let response = StoredResponse::try_from(row)?;
            found.insert(response.id.clone(), response);
        }
        Ok(found)
    }

    /// Removes what expired by `now`, and says how many answers that were.
    pub async fn sweep(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.0
            .write(now.as_millisecond(), |tx, now_ms| Box::pin(claims::sweep(tx, *now_ms)))
            .await?;
        let mut swept = 0;
        loop {
            let gone = self
                .0
                .write(now.as_millisecond(), |tx, now_ms| Box::pin(sweep(tx, *now_ms)))
                .await?;
            swept += gone;
            if gone < u64::from(SWEEP_RESPONSES_MAX) {
                return Ok(swept);
            }
        }
    }
}

async fn put(tx: &mut Tx, response: &StoredResponse, most: i64) -> Result<u64, StoreError> {
    on_both!(&mut *tx, |tx| sqlx::query(INSERT)
        .bind(&response.id)
        .bind(response.owner.tenant.as_str())
        .bind(response.owner.project_text())
        .bind(response.owner.kind.as_str())
        .bind(response.owner.subject.as_str())
        .bind(response.key.as_ref().map(KeyId::as_str))
        .bind(&response.previous_id)
        .bind(&response.model)
        .bind(&response.status)
        .bind(response.created_at.as_millisecond())
        .bind(response.expires_at.as_millisecond())
        .bind(response.input.get())
        .bind(response.body.get())
        .bind(length(response.input.get().len() + response.body.get().len()))
        .execute(&mut **tx)
        .await
        .map(drop))?;
    if is_counted(response, most) {
        trim(tx, &response.owner, most).await
    } else {
        Ok(0)
    }
}

/// Whether keeping this answer is the moment to count. Ids are drawn, so that they draw for this too.
fn is_counted(response: &StoredResponse, most: i64) -> bool {
    let bytes = response.input.get().len() + response.body.get().len();
    let drawn = response
        .id
        .bytes()
        .fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    most <= COUNTED_MAX || bytes >= LARGE_BYTES || drawn.is_multiple_of(COUNTED_ONE_IN)
}

/// Removes the oldest of an owner that is past a bound.
async fn trim(tx: &mut Tx, owner: &ResponseOwner, most: i64) -> Result<u64, StoreError> {
    let (count, bytes): (i64, i64) = on_both!(&mut *tx, |tx| sqlx::query_as(HELD)
        .bind(owner.tenant.as_str())
        .bind(owner.project_text())
        .bind(owner.kind.as_str())
        .bind(owner.subject.as_str())
        .fetch_one(&mut **tx)
        .await)?;
    let bytes_max = length(OWNER_BYTES_MAX);
    if count <= most && bytes <= bytes_max {
        return Ok(0);
    }
    let gone = on_both!(tx, |tx| sqlx::query(TRIM)
        .bind(owner.tenant.as_str())
        .bind(owner.project_text())
        .bind(owner.kind.as_str())
        .bind(owner.subject.as_str())
        .bind(most - most / SLACK)
        .bind(bytes_max - bytes_max / SLACK)
        .execute(&mut **tx)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(gone)
}

async fn sweep(tx: &mut Tx, now_ms: i64) -> Result<u64, StoreError> {
    let gone = on_both!(tx, |tx| sqlx::query(SWEEP)
        .bind(now_ms)
        .bind(i64::from(SWEEP_RESPONSES_MAX))
        .execute(&mut **tx)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(gone)
}

fn length(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A row of `response`, not yet believed.
struct ResponseRow {
    id: String,
    tenant: String,
    project: String,
    kind: String,
    subject: String,
    key_id: Option<String>,
    previous_id: Option<String>,
    model: String,
    status: String,
    created_at_ms: i64,
    expires_at_ms: i64,
    input: String,
    body: String,
}

row_on_both!(ResponseRow, |row| Ok(Self {
    id: row.try_get("id")?,
    tenant: row.try_get("tenant")?,
    project: row.try_get("project")?,
    kind: row.try_get("kind")?,
    subject: row.try_get("subject")?,
    key_id: row.try_get("key_id")?,
    previous_id: row.try_get("previous_id")?,
    model: row.try_get("model")?,
    status: row.try_get("status")?,
    created_at_ms: row.try_get("created_at_ms")?,
    expires_at_ms: row.try_get("expires_at_ms")?,
    input: row.try_get("input")?,
    body: row.try_get("body")?,
}));

impl TryFrom<ResponseRow> for StoredResponse {
    type Error = StoreError;
    fn try_from(row: ResponseRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            owner: ResponseOwner {
                tenant: known("tenant", TenantId::try_from(row.tenant))?,
                project: match row.project.as_str() {
                    "" => None,
                    name => Some(known("project", ProjectId::try_from(name))?),
                },
                kind: OwnerKind::parse(&row.kind).ok_or_else(|| StoreError::corrupt("the kind of an owner"))?,
                subject: known("subject", SubjectId::try_from(row.subject))?,
            },
            key: known("key id", row.key_id.map(KeyId::try_from).transpose())?,
            previous_id: row.previous_id,
            model: row.model,
            status: row.status,
            created_at: moment(row.created_at_ms)?,
            expires_at: moment(row.expires_at_ms)?,
            input: document("the input of an answer", row.input)?,
            body: document("an answer", row.body)?,
        })
    }
}
