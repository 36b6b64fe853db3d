//! Upstream servers that were registered at run time, beside those that the configuration names.
//!
//! The settings are kept as JSON that whoever runs upstreams reads and checks; they name secrets by reference. There are
//! at most [`UPSTREAMS_MAX`] of them. A name belongs to whoever took it first: another tenant can neither see it given
//! away nor take it over.

use forebay_domain::{
    id::{SubjectId, TenantId},
    quarantine::ServerName,
};
use jiff::Timestamp;
use serde_json::value::RawValue;
use sqlx::Row;

use crate::{
    StoreError,
    db::Db,
    row::{document, known, moment, within},
    sql::{Both, Tx, on_both, row_on_both},
};

/// Most servers that may be registered at run time.
pub const UPSTREAMS_MAX: u32 = 1000;

/// Largest settings of one server, in bytes.
pub const CONFIG_BYTES_MAX: usize = 64 * 1024;

/// A server to be registered, or new settings for one that is.
#[derive(Debug, Clone)]
pub struct NewUpstream {
    pub name: ServerName,
    /// `None` for one that all tenants share.
    pub tenant: Option<TenantId>,
    /// Its settings, with references to secrets and no secrets.
    pub config: Box<RawValue>,
    pub by: SubjectId,
    pub at: Timestamp,
}

/// A server that is registered. Times have milliseconds.
#[derive(Debug, Clone)]
pub struct StoredUpstream {
    pub name: ServerName,
    pub tenant: Option<TenantId>,
    pub config: Box<RawValue>,
    pub created_at: Timestamp,
    pub created_by: Option<SubjectId>,
    pub updated_at: Timestamp,
}

/// What registering did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    Created,
    Replaced,
    /// The name belongs to another tenant; nothing was changed.
    Taken,
    /// There are [`UPSTREAMS_MAX`] already; nothing was changed.
    Full,
}

/// The registered servers of a store. Cheap to clone.
#[derive(Clone)]
pub struct Upstreams(Db);

macro_rules! columns {
    () => {
        "name, tenant, config, created_at_ms, created_by, updated_at_ms"
    };
}

const UPSERT: &str = concat!(
    "INSERT INTO upstream (",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $4) \
     ON CONFLICT (name) DO UPDATE SET config = excluded.config, updated_at_ms = excluded.updated_at_ms \
     WHERE upstream.tenant IS NOT DISTINCT FROM excluded.tenant"
);
const COUNT: &str = "SELECT COUNT(*) FROM upstream";
const FIND: &str = concat!("SELECT ", columns!(), " FROM upstream WHERE name = $1");
const LIST: &str = concat!("SELECT ", columns!(), " FROM upstream ORDER BY name LIMIT $1");
const REMOVE: &str = "DELETE FROM upstream WHERE name = $1";
/// Held while one is counted and written; any constant will do, as long as nothing else takes it.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7315003)";

impl Upstreams {
    pub(crate) fn new(db: Db) -> Self {
        Self(db)
    }

    /// Registers a server, or gives one of the same tenant new settings.
    pub async fn put(&self, upstream: &NewUpstream) -> Result<Put, StoreError> {
        within(
            "the settings of an upstream",
            upstream.config.get().len(),
            CONFIG_BYTES_MAX,
        )?;
        self.0
            .write(upstream.clone(), |tx, upstream| Box::pin(put(tx, upstream)))
            .await
    }

    /// All of them, by name.
    pub async fn list(&self) -> Result<Vec<StoredUpstream>, StoreError> {
        let rows: Vec<UpstreamRow> = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| sqlx::query_as(LIST)
                    .bind(i64::from(UPSTREAMS_MAX))
                    .fetch_all(pool)
                    .await)
            })
            .await?;
        rows.into_iter().map(StoredUpstream::try_from).collect()
    }

    pub async fn get(&self, name: &ServerName) -> Result<Option<StoredUpstream>, StoreError> {
        let row: Option<UpstreamRow> = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| sqlx::query_as(FIND)
                    .bind(name.as_str())
                    .fetch_optional(pool)
                    .await)
            })
            .await?;
        row.map(StoredUpstream::try_from).transpose()
    }

    /// Whether there was one of that name. What was approved of its tools stays known, should the name come back.
    pub async fn remove(&self, name: &ServerName) -> Result<bool, StoreError> {
        self.0
            .write(name.clone(), |tx, name| {
                Box::pin(async move {
                    let gone = on_both!(tx, |tx| sqlx::query(REMOVE)
                        .bind(name.as_str())
                        .execute(&mut **tx)
                        .await
                        .map(|done| done.rows_affected()))?;
                    Ok(gone == 1)
                })
            })
            .await
    }
}

async fn put(tx: &mut Tx, upstream: &NewUpstream) -> Result<Put, StoreError> {
    if let Both::Postgres(tx) = tx {
        sqlx::query(LOCK).execute(&mut **tx).await?;
    }
    let known: Option<UpstreamRow> = on_both!(tx, |tx| sqlx::query_as(FIND)
        .bind(upstream.name.as_str())
        .fetch_optional(&mut **tx)
        .await)?;
    if known.is_none() {
        let (count,): (i64,) = on_both!(tx, |tx| sqlx::query_as(COUNT).fetch_one(&mut **tx).await)?;
        if count >= i64::from(UPSTREAMS_MAX) {
            return Ok(Put::Full);
        }
    }
    let changed = on_both!(tx, |tx| sqlx::query(UPSERT)
        .bind(upstream.name.as_str())
        .bind(upstream.tenant.as_ref().map(TenantId::as_str))
        .bind(upstream.config.get())
        .bind(upstream.at.as_millisecond())
        .bind(upstream.by.as_str())
        .execute(&mut **tx)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(match (changed, known) {
        (0, _) => Put::Taken,
        (_, None) => Put::Created,
        (_, Some(_)) => Put::Replaced,
    })
}

/// A row of `upstream`, not yet believed.
struct UpstreamRow {
    name: String,
    tenant: Option<String>,
    config: String,
    created_at_ms: i64,
    created_by: Option<String>,
    updated_at_ms: i64,
}

row_on_both!(UpstreamRow, |row| Ok(Self {
    name: row.try_get("name")?,
    tenant: row.try_get("tenant")?,
    config: row.try_get("config")?,
    created_at_ms: row.try_get("created_at_ms")?,
    created_by: row.try_get("created_by")?,
    updated_at_ms: row.try_get("updated_at_ms")?,
}));

impl TryFrom<UpstreamRow> for StoredUpstream {
    type Error = StoreError;
    fn try_from(row: UpstreamRow) -> Result<Self, StoreError> {
        Ok(Self {
            name: known("upstream", ServerName::try_from(row.name))?,
            tenant: known("tenant", row.tenant.map(TenantId::try_from).transpose())?,
            config: document("the settings of an upstream", row.config)?,
            created_at: moment(row.created_at_ms)?,
            created_by: known("creator", row.created_by.map(SubjectId::try_from).transpose())?,
            updated_at: moment(row.updated_at_ms)?,
        })
    }
}
