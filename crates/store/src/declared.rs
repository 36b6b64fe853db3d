//! What was declared at run time, beside what the configuration says: providers of context, and tools.
//!
//! The settings are kept as JSON that whoever runs them reads and checks; they name secrets by reference. A name of a
//! sort is taken once for the whole installation, and nobody takes it over: it is deleted first.

use forebay_domain::id::SubjectId;
use jiff::Timestamp;
use serde_json::value::RawValue;
use sqlx::Row;

use crate::{
    StoreError,
    db::Db,
    row::{document, known, moment, within},
    sql::{Both, Tx, on_both, row_on_both},
};

/// Most of one sort that may be declared.
pub const DECLARED_MAX: u32 = 1000;

/// Largest settings of one, in bytes.
pub const CONFIG_BYTES_MAX: usize = 64 * 1024;

/// Longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// What is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Provider,
    Tool,
}

impl Sort {
    fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Tool => "tool",
        }
    }
}

/// Something to be declared.
#[derive(Debug, Clone)]
pub struct NewDeclared {
    pub name: String,
    /// Its settings, with references to secrets and no secrets.
    pub config: Box<RawValue>,
    pub by: SubjectId,
    pub at: Timestamp,
}

/// Something that is declared. Times have milliseconds.
#[derive(Debug, Clone)]
pub struct StoredDeclared {
    pub name: String,
    pub config: Box<RawValue>,
    pub created_at: Timestamp,
    pub created_by: SubjectId,
}

/// What declaring did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    Created,
    /// The name is taken; nothing was changed.
    Taken,
    /// There are [`DECLARED_MAX`] already; nothing was changed.
    Full,
}

/// What is declared of one sort. Cheap to clone.
#[derive(Clone)]
pub struct Declared {
    db: Db,
    sort: Sort,
}

macro_rules! columns {
    () => {
        "name, config, created_at_ms, created_by"
    };
}

const INSERT: &str = concat!(
    "INSERT INTO declared (",
    columns!(),
    ", sort) VALUES ($1, $2, $3, $4, $5)"
);
const COUNT: &str = "SELECT COUNT(*) FROM declared WHERE sort = $1";
const FIND: &str = concat!("SELECT ", columns!(), " FROM declared WHERE sort = $1 AND name = $2");
const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM declared WHERE sort = $1 ORDER BY name LIMIT $2"
);
const DELETE: &str = "DELETE FROM declared WHERE sort = $1 AND name = $2";
/// Held while one is counted and written; any constant will do, as long as nothing else takes it.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7315005)";

impl Declared {
    pub(crate) fn new(db: Db, sort: Sort) -> Self {
        Self { db, sort }
    }

    /// Declares something under a name that is free.
    pub async fn put(&self, new: &NewDeclared) -> Result<Put, StoreError> {
        within("a name", new.name.len(), NAME_BYTES_MAX)?;
        within("the settings", new.config.get().len(), CONFIG_BYTES_MAX)?;
        let input = (self.sort, new.clone());
        self.db
            .write(input, |tx, (sort, new)| Box::pin(put(tx, *sort, new)))
            .await
    }

    /// All of them, by name.
    pub async fn list(&self) -> Result<Vec<StoredDeclared>, StoreError> {
        let rows: Vec<DeclaredRow> = self
            .db
            .read(async {
                on_both!(self.db.pools(), |pool| sqlx::query_as(LIST)
                    .bind(self.sort.as_str())
                    .bind(i64::from(DECLARED_MAX))
                    .fetch_all(pool)
                    .await)
            })
            .await?;
        rows.into_iter().map(StoredDeclared::try_from).collect()
    }

    pub async fn get(&self, name: &str) -> Result<Option<StoredDeclared>, StoreError> {
        let row: Option<DeclaredRow> = self
            .db
            .read(async {
                on_both!(self.db.pools(), |pool| sqlx::query_as(FIND)
                    .bind(self.sort.as_str())
                    .bind(name)
                    .fetch_optional(pool)
                    .await)
            })
            .await?;
        row.map(StoredDeclared::try_from).transpose()
    }

    /// Whether there was one of that name.
    pub async fn delete(&self, name: &str) -> Result<bool, StoreError> {
        let input = (self.sort, name.to_owned());
        self.db
            .write(input, |tx, (sort, name)| {
                Box::pin(async move {
                    let gone = on_both!(tx, |tx| sqlx::query(DELETE)
                        .bind(sort.as_str())
                        .bind(name)
                        .execute(&mut **tx)
                        .await
                        .map(|done| done.rows_affected()))?;
                    Ok(gone == 1)
                })
            })
            .await
    }
}

async fn put(tx: &mut Tx, sort: Sort, new: &NewDeclared) -> Result<Put, StoreError> {
    if let Both::Postgres(tx) = tx {
        sqlx::query(LOCK).execute(&mut **tx).await?;
    }
    let (count,): (i64,) = on_both!(&mut *tx, |tx| sqlx::query_as(COUNT)
        .bind(sort.as_str())
        .fetch_one(&mut **tx)
        .await)?;
    let taken: Option<DeclaredRow> = on_both!(&mut *tx, |tx| sqlx::query_as(FIND)
        .bind(sort.as_str())
        .bind(&new.name)
        .fetch_optional(&mut **tx)
        .await)?;
    if taken.is_some() {
        return Ok(Put::Taken);
    }
    if count >= i64::from(DECLARED_MAX) {
        return Ok(Put::Full);
    }
    on_both!(tx, |tx| sqlx::query(INSERT)
        .bind(&new.name)
        .bind(new.config.get())
        .bind(new.at.as_millisecond())
        .bind(new.by.as_str())
        .bind(sort.as_str())
        .execute(&mut **tx)
        .await
        .map(drop))?;
    Ok(Put::Created)
}

/// A row of `declared`, not yet believed.
struct DeclaredRow {
    name: String,
    config: String,
    created_at_ms: i64,
    created_by: String,
}

row_on_both!(DeclaredRow, |row| Ok(Self {
    name: row.try_get("name")?,
    config: row.try_get("config")?,
    created_at_ms: row.try_get("created_at_ms")?,
    created_by: row.try_get("created_by")?,
}));

impl TryFrom<DeclaredRow> for StoredDeclared {
    type Error = StoreError;
    fn try_from(row: DeclaredRow) -> Result<Self, StoreError> {
        Ok(Self {
            name: row.name,
            config: document("declared settings", row.config)?,
            created_at: moment(row.created_at_ms)?,
            created_by: known("creator", SubjectId::try_from(row.created_by))?,
        })
    }
}
