//! Signing keys that all replicas share: one signs at a time, and those before it still verify for a while.
//!
//! A key is written once and never changed. Where replicas want a new one at the same moment, one makes it and the
//! others take it. The secrets stand in the database as they are, since every replica needs them: whoever can read the
//! database can sign. They protect what the gateway hands to clients and takes back from them, and nothing else.

use jiff::Timestamp;
use sqlx::Row;
use std::{fmt, time::Duration};

use crate::{
    StoreError,
    db::Db,
    row::moment,
    sql::{Both, Tx, on_both, row_on_both},
};

/// Bytes of a secret: as many as SHA-256 has, which is what HMAC wants.
pub const SECRET_BYTES: usize = 32;

/// Bytes of a key's id.
const ID_BYTES: usize = 8;

/// Most keys of one purpose that verify at once.
const VERIFYING_MAX: u32 = 64;

/// What a key signs. A key of one purpose verifies nothing of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Purpose(&'static str);

impl Purpose {
    /// The state that a client carries from one round of an MCP request to the next.
    pub const REQUEST_STATE: Self = Self("mcp.request_state");

    pub const fn named(name: &'static str) -> Self {
        Self(name)
    }

    pub fn as_str(self) -> &'static str {
        self.0
    }
}

/// How long a key signs, and how long it verifies after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    pub sign_for: Duration,
    /// At least as long as anything that was signed may live.
    pub verify_for: Duration,
}

/// A key. `Debug` does not show its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// Names the key beside a signature; no secret.
    pub id: String,
    pub secret: [u8; SECRET_BYTES],
    pub created_at: Timestamp,
    pub sign_until: Timestamp,
    pub retire_at: Timestamp,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("id", &self.id)
            .field("created_at", &self.created_at)
            .field("sign_until", &self.sign_until)
            .field("retire_at", &self.retire_at)
            .finish_non_exhaustive()
    }
}

/// The signing keys of a store. Cheap to clone.
#[derive(Clone)]
pub struct Signing(Db);

macro_rules! columns {
    () => {
        "id, secret, created_at_ms, sign_until_ms, retire_at_ms"
    };
}

const CURRENT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM signing_key WHERE purpose = $1 AND sign_until_ms > $2 ORDER BY sign_until_ms DESC, id LIMIT 1"
);
const VERIFYING: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM signing_key WHERE purpose = $1 AND retire_at_ms > $2 ORDER BY sign_until_ms DESC, id LIMIT $3"
);
const INSERT: &str = concat!(
    "INSERT INTO signing_key (",
    columns!(),
    ", purpose) VALUES ($1, $2, $3, $4, $5, $6)"
);
const REMOVE_RETIRED: &str = "DELETE FROM signing_key WHERE purpose = $1 AND retire_at_ms <= $2";
/// Held while a key is looked for and made.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7315004, hashtext($1))";

impl Signing {
    pub(crate) fn new(db: Db) -> Self {
        Self(db)
    }

    /// The key that signs at `now`; a new one where none does. Making one also removes those that no longer verify.
    pub async fn current_or_create(
        &self,
        purpose: Purpose,
        now: Timestamp,
        rotation: Rotation,
    ) -> Result<SigningKey, StoreError> {
        let now_ms = now.as_millisecond();
        let row: Option<KeyRow> = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| sqlx::query_as(CURRENT)
                    .bind(purpose.as_str())
                    .bind(now_ms)
                    .fetch_optional(pool)
                    .await)
            })
            .await?;
        if let Some(row) = row {
            return row.try_into();
        }
        let sign_until_ms = now_ms.saturating_add(whole_ms(rotation.sign_for));
        let number = u64::from_le_bytes(self.0.entropy().bytes::<ID_BYTES>());
        let new = NewKey {
            purpose,
            now_ms,
            key: KeyRow {
                id: format!("{number:016x}"),
                secret: self.0.entropy().bytes::<SECRET_BYTES>().to_vec(),
                created_at_ms: now_ms,
                sign_until_ms,
                retire_at_ms: sign_until_ms.saturating_add(whole_ms(rotation.verify_for)),
            },
        };
        let row = self.0.write(new, |tx, new| Box::pin(create(tx, new))).await?;
        row.try_into()
    }

    /// The keys that verify at `now`, the newest first.
    pub async fn verify_set(&self, purpose: Purpose, now: Timestamp) -> Result<Vec<SigningKey>, StoreError> {
        let rows: Vec<KeyRow> = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| sqlx::query_as(VERIFYING)
                    .bind(purpose.as_str())
                    .bind(now.as_millisecond())
                    .bind(i64::from(VERIFYING_MAX))
                    .fetch_all(pool)
                    .await)
            })
            .await?;
        rows.into_iter().map(SigningKey::try_from).collect()
    }
}

fn whole_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A key to be stored, unless somebody else was faster.
struct NewKey {
    purpose: Purpose,
    now_ms: i64,
    key: KeyRow,
}

async fn create(tx: &mut Tx, new: &NewKey) -> Result<KeyRow, StoreError> {
    let purpose = new.purpose.as_str();
    if let Both::Postgres(tx) = tx {
        sqlx::query(LOCK).bind(purpose).execute(&mut **tx).await?;
    }
    let current: Option<KeyRow> = on_both!(tx, |tx| sqlx::query_as(CURRENT)
        .bind(purpose)
        .bind(new.now_ms)
        .fetch_optional(&mut **tx)
        .await)?;
    if let Some(current) = current {
        return Ok(current);
    }
    on_both!(tx, |tx| sqlx::query(REMOVE_RETIRED)
        .bind(purpose)
        .bind(new.now_ms)
        .execute(&mut **tx)
        .await
        .map(drop))?;
    on_both!(tx, |tx| sqlx::query(INSERT)
        .bind(&new.key.id)
        .bind(&new.key.secret)
        .bind(new.key.created_at_ms)
        .bind(new.key.sign_until_ms)
        .bind(new.key.retire_at_ms)
        .bind(purpose)
        .execute(&mut **tx)
        .await
        .map(drop))?;
    Ok(new.key.clone())
}

/// A row of `signing_key`, not yet believed.
#[derive(Clone)]
struct KeyRow {
    id: String,
    secret: Vec<u8>,
    created_at_ms: i64,
    sign_until_ms: i64,
    retire_at_ms: i64,
}

row_on_both!(KeyRow, |row| Ok(Self {
    id: row.try_get("id")?,
    secret: row.try_get("secret")?,
    created_at_ms: row.try_get("created_at_ms")?,
    sign_until_ms: row.try_get("sign_until_ms")?,
    retire_at_ms: row.try_get("retire_at_ms")?,
}));

impl TryFrom<KeyRow> for SigningKey {
    type Error = StoreError;
    fn try_from(row: KeyRow) -> Result<Self, StoreError> {
        let secret = row
            .secret
            .try_into()
            .map_err(|_| StoreError::corrupt("the secret of a signing key"))?;
        Ok(Self {
            id: row.id,
            secret,
            created_at: moment(row.created_at_ms)?,
            sign_until: moment(row.sign_until_ms)?,
            retire_at: moment(row.retire_at_ms)?,
        })
    }
}
