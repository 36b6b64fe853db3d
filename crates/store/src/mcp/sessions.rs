//! MCP sessions at rest, so that another replica, or the same one after a restart, can go on with them.
//!
//! A session's id is what its client shows to use it, so only its SHA-256 is kept: a copy of the database opens no
//! session. Whose a session is stands beside it; whether the one who asks is that owner is for the asker's door to
//! compare. An expired session is not found, and goes with the next sweep.

use forebay_domain::id::{KeyId, SessionId, SubjectId, TenantId};
use jiff::Timestamp;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use sqlx::Row;
use std::collections::BTreeSet;

use crate::{
    StoreError,
    db::Db,
    row::{document, known, moment, within},
    sql::{Tx, on_both, row_on_both},
};

/// Largest capabilities, description of a client or list of subscriptions, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 64 * 1024;

/// Longest scope, in bytes; version and log level are words of the protocol.
pub const WORD_BYTES_MAX: usize = 256;

/// Sessions that one statement touches or removes at most.
const BATCH_SESSIONS_MAX: usize = 500;

/// SHA-256 of a session's id: what the tables know it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionHash([u8; 32]);

impl SessionHash {
    pub(crate) fn of(id: &SessionId) -> Self {
        Self(Sha256::digest(id.as_str().as_bytes()).into())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Whose a session is. Another key of the same subject is somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOwner {
    pub tenant: TenantId,
    pub subject: SubjectId,
    pub key: Option<KeyId>,
}

/// A session, without its id. Times have milliseconds.
#[derive(Debug, Clone)]
pub struct McpSession {
    pub owner: SessionOwner,
    /// The protocol version that its handshake agreed on.
    pub version: String,
    /// Which of the gateway's servers it was opened on.
    pub scope: String,
    /// The client's capabilities as it sent them.
    pub caps: Box<RawValue>,
    pub client_info: Option<Box<RawValue>>,
    pub log_level: Option<String>,
    /// Addresses of the resources that it wants to hear about.
    pub subscriptions: BTreeSet<String>,
    pub created_at: Timestamp,
    pub touched_at: Timestamp,
    pub expires_at: Timestamp,
}

/// The sessions of a store. Cheap to clone.
#[derive(Clone)]
pub struct McpSessions(Db);

macro_rules! columns {
    () => {
        "tenant, subject, key_id, version, scope, caps, client_info, log_level, subscriptions, created_at_ms, \
         touched_at_ms, expires_at_ms"
    };
}

const INSERT: &str = concat!(
    "INSERT INTO mcp_session (id_hash, ",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
);
const FIND: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM mcp_session WHERE id_hash = $1 AND expires_at_ms > $2"
);
const SET_SUBSCRIPTIONS: &str = "UPDATE mcp_session SET subscriptions = $2 WHERE id_hash = $1";
const SET_LOG_LEVEL: &str = "UPDATE mcp_session SET log_level = $2 WHERE id_hash = $1";
const REMOVE: &str = "DELETE FROM mcp_session WHERE id_hash = $1";
const REMOVE_OF_KEY: &str = "DELETE FROM mcp_session WHERE key_id = $1";
/// In portions, because what hangs on a session goes with it.
const SWEEP: &str = "DELETE FROM mcp_session WHERE id_hash IN \
     (SELECT id_hash FROM mcp_session WHERE expires_at_ms <= $1 ORDER BY expires_at_ms LIMIT $2)";

impl McpSessions {
    pub(crate) fn new(db: Db) -> Self {
        Self(db)
    }

    /// Stores a new session; an id that is there already is a conflict.
    pub async fn put(&self, id: &SessionId, session: &McpSession) -> Result<(), StoreError> {
        let subscriptions = subscriptions_text(&session.subscriptions)?;
        within(
            "the capabilities of a client",
            session.caps.get().len(),
            DOCUMENT_BYTES_MAX,
        )?;
        let client_bytes = session.client_info.as_ref().map_or(0, |info| info.get().len());
        within("the description of a client", client_bytes, DOCUMENT_BYTES_MAX)?;
        let log_level = session.log_level.as_deref().unwrap_or_default();
        for word in [&session.version, &session.scope, log_level] {
            within("a word of a session", word.len(), WORD_BYTES_MAX)?;
        }
        let input = (SessionHash::of(id), session.clone(), subscriptions);
        self.0
            .write(input, |tx, (hash, session, subscriptions)| {
                Box::pin(insert(tx, *hash, session, subscriptions))
            })
            .await
    }

    /// The session of that id, unless it has expired.
    pub async fn find(&self, id: &SessionId, now: Timestamp) -> Result<Option<McpSession>, StoreError> {
        let hash = SessionHash::of(id);
        let row: Option<SessionRow> = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| sqlx::query_as(FIND)
                    .bind(hash.bytes())
                    .bind(now.as_millisecond())
                    .fetch_optional(pool)
                    .await)
            })
            .await?;
        row.map(McpSession::try_from).transpose()
    }

    /// Notes that these sessions were used at `now`, and puts their end off to `expires_at`. A later touch by somebody
    /// else stays, and what had expired stays so. Says how many were moved on.
    pub async fn touch(&self, ids: &[SessionId], now: Timestamp, expires_at: Timestamp) -> Result<u64, StoreError> {
        // In one order, so that two replicas do not wait for one another.
        let hashes: Vec<SessionHash> = ids
            .iter()
            .map(SessionHash::of)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let mut touched = 0;
        for part in hashes.chunks(BATCH_SESSIONS_MAX) {
            let input = (part.to_vec(), now.as_millisecond(), expires_at.as_millisecond());
            touched += self
                .0
                .write(input, |tx, (hashes, now_ms, expires_at_ms)| {
                    Box::pin(touch(tx, hashes, *now_ms, *expires_at_ms))
                })
                .await?;
        }
        Ok(touched)
    }

    /// Replaces the subscriptions; the last one who does so wins. False if there is no such session.
    pub async fn set_subscriptions(&self, id: &SessionId, uris: &BTreeSet<String>) -> Result<bool, StoreError> {
        let text = subscriptions_text(uris)?;
        self.set(SET_SUBSCRIPTIONS, id, Some(text)).await
    }

    /// Sets the lowest level of log messages that the client wants. False if there is no such session.
    pub async fn set_log_level(&self, id: &SessionId, level: Option<&str>) -> Result<bool, StoreError> {
        within("a word of a session", level.map_or(0, str::len), WORD_BYTES_MAX)?;
        self.set(SET_LOG_LEVEL, id, level.map(ToOwned::to_owned)).await
    }

    async fn set(&self, sql: &'static str, id: &SessionId, value: Option<String>) -> Result<bool, StoreError> {
        let input = (sql, SessionHash::of(id), value);
        self.0
            .write(input, |tx, (sql, hash, value)| {
                Box::pin(async move {
                    let changed = on_both!(tx, |tx| sqlx::query(*sql)
                        .bind(hash.bytes())
                        .bind(value)
                        .execute(&mut **tx)
                        .await
                        .map(|done| done.rows_affected()))?;
                    Ok(changed == 1)
                })
            })
            .await
    }

    /// Ends a session, with its streams. Whether there was one.
    pub async fn remove(&self, id: &SessionId) -> Result<bool, StoreError> {
        self.0
            .write(SessionHash::of(id), |tx, hash| {
                Box::pin(async move {
                    let gone = on_both!(tx, |tx| sqlx::query(REMOVE)
                        .bind(hash.bytes())
                        .execute(&mut **tx)
                        .await
                        .map(|done| done.rows_affected()))?;
                    Ok(gone == 1)
                })
            })
            .await
    }

    /// Ends every session of a key, and says how many there were.
    pub async fn remove_of_key(&self, key: &KeyId) -> Result<u64, StoreError> {
        self.0
            .write(key.clone(), |tx, key| {
                Box::pin(async move {
                    let gone = on_both!(tx, |tx| sqlx::query(REMOVE_OF_KEY)
                        .bind(key.as_str())
                        .execute(&mut **tx)
                        .await
                        .map(|done| done.rows_affected()))?;
                    Ok(gone)
                })
            })
            .await
    }

    /// Removes what expired by `now`, and says how many sessions that were.
    pub async fn sweep(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut swept = 0;
        loop {
            let gone = self
                .0
                .write(now.as_millisecond(), |tx, now_ms| Box::pin(sweep(tx, *now_ms)))
                .await?;
            swept += gone;
            if usize::try_from(gone).unwrap_or(usize::MAX) < BATCH_SESSIONS_MAX {
                return Ok(swept);
            }
        }
    }
}

fn subscriptions_text(uris: &BTreeSet<String>) -> Result<String, StoreError> {
    let text = serde_json::to_string(uris).map_err(|_| StoreError::corrupt("subscriptions"))?;
    within("the subscriptions of a session", text.len(), DOCUMENT_BYTES_MAX)?;
    Ok(text)
}

async fn insert(tx: &mut Tx, hash: SessionHash, session: &McpSession, subscriptions: &str) -> Result<(), StoreError> {
    on_both!(tx, |tx| sqlx::query(INSERT)
        .bind(hash.bytes())
        .bind(session.owner.tenant.as_str())
        .bind(session.owner.subject.as_str())
        .bind(session.owner.key.as_ref().map(KeyId::as_str))
        .bind(&session.version)
        .bind(&session.scope)
        .bind(session.caps.get())
        .bind(session.client_info.as_ref().map(|info| info.get()))
        .bind(&session.log_level)
        .bind(subscriptions)
        .bind(session.created_at.as_millisecond())
        .bind(session.touched_at.as_millisecond())
        .bind(session.expires_at.as_millisecond())
        .execute(&mut **tx)
        .await
        .map(drop))?;
    Ok(())
}

async fn touch(tx: &mut Tx, hashes: &[SessionHash], now_ms: i64, expires_at_ms: i64) -> Result<u64, StoreError> {
    let touched = on_both!(tx, |tx| {
        let mut query = sqlx::QueryBuilder::new("UPDATE mcp_session SET touched_at_ms = ");
        query.push_bind(now_ms);
        query.push(", expires_at_ms = ").push_bind(expires_at_ms);
        query.push(" WHERE touched_at_ms < ").push_bind(now_ms);
        query.push(" AND expires_at_ms > ").push_bind(now_ms);
        query.push(" AND id_hash IN (");
        let mut list = query.separated(", ");
        for hash in hashes {
            list.push_bind(hash.bytes());
        }
        query.push(")");
        query
            .build()
            .persistent(false)
            .execute(&mut **tx)
            .await
            .map(|done| done.rows_affected())
    })?;
    Ok(touched)
}

async fn sweep(tx: &mut Tx, now_ms: i64) -> Result<u64, StoreError> {
    let limit = i64::try_from(BATCH_SESSIONS_MAX).unwrap_or(i64::MAX);
    let gone = on_both!(tx, |tx| sqlx::query(SWEEP)
        .bind(now_ms)
        .bind(limit)
        .execute(&mut **tx)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(gone)
}

/// A row of `mcp_session`, not yet believed.
struct SessionRow {
    tenant: String,
    subject: String,
    key_id: Option<String>,
    version: String,
    scope: String,
    caps: String,
    client_info: Option<String>,
    log_level: Option<String>,
    subscriptions: String,
    created_at_ms: i64,
    touched_at_ms: i64,
    expires_at_ms: i64,
}

row_on_both!(SessionRow, |row| Ok(Self {
    tenant: row.try_get("tenant")?,
    subject: row.try_get("subject")?,
    key_id: row.try_get("key_id")?,
    version: row.try_get("version")?,
    scope: row.try_get("scope")?,
    caps: row.try_get("caps")?,
    client_info: row.try_get("client_info")?,
    log_level: row.try_get("log_level")?,
    subscriptions: row.try_get("subscriptions")?,
    created_at_ms: row.try_get("created_at_ms")?,
    touched_at_ms: row.try_get("touched_at_ms")?,
    expires_at_ms: row.try_get("expires_at_ms")?,
}));

impl TryFrom<SessionRow> for McpSession {
    type Error = StoreError;
    fn try_from(row: SessionRow) -> Result<Self, StoreError> {
        let client_info = row
            .client_info
            .map(|text| document("the description of a client", text));
        Ok(Self {
            owner: SessionOwner {
                tenant: known("tenant", TenantId::try_from(row.tenant))?,
                subject: known("subject", SubjectId::try_from(row.subject))?,
                key: known("key id", row.key_id.map(KeyId::try_from).transpose())?,
            },
            version: row.version,
            scope: row.scope,
            caps: document("the capabilities of a client", row.caps)?,
            client_info: client_info.transpose()?,
            log_level: row.log_level,
            subscriptions: known("subscriptions", serde_json::from_str(&row.subscriptions))?,
            created_at: moment(row.created_at_ms)?,
            touched_at: moment(row.touched_at_ms)?,
            expires_at: moment(row.expires_at_ms)?,
        })
    }
}
