//! API keys at rest: who they are for, what they allow, and the hash of their secret. Never the secret.
//!
//! Keys are revoked and never deleted, because the log names them.

use forebay_domain::{
    Code, Failure, Grant, Pattern, Principal, Role,
    id::{KeyId, ProjectId, SubjectId, TenantId},
    key::KeyHash,
};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Row};

use crate::{
    StoreError,
    db::Db,
    many::lists,
    row::{known, moment},
    sql::{Both, Tx, on_both, row_on_both},
};

/// Most keys of one page.
pub const KEYS_PAGE_MAX: u32 = 500;

/// A key to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    pub id: KeyId,
    pub hash: KeyHash,
    pub tenant: TenantId,
    pub project: Option<ProjectId>,
    /// Who acts with it: its name.
    pub subject: SubjectId,
    pub role: Role,
    pub grants: Vec<Grant>,
    /// The tools that lists show to it; all where there is none.
    pub shown: Vec<Pattern>,
    pub created_at: Timestamp,
    /// `None` for the key that the first start makes.
    pub created_by: Option<SubjectId>,
    pub expires_at: Option<Timestamp>,
}

/// A key as it is stored. Times have milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    pub id: KeyId,
    pub hash: KeyHash,
    pub tenant: TenantId,
    pub project: Option<ProjectId>,
    pub subject: SubjectId,
    pub role: Role,
    pub grants: Vec<Grant>,
    /// The tools that lists show to it; all where there is none.
    pub shown: Vec<Pattern>,
    pub created_at: Timestamp,
    pub created_by: Option<SubjectId>,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

impl StoredKey {
    /// Refuses a key that was revoked or has expired.
    pub fn usable(&self, now: Timestamp) -> Result<(), Failure> {
        let refused = |code, message| Err(Failure::new(code, message).hint("Ask an administrator for a new one."));
        if self.revoked_at.is_some() {
            return refused(Code::RevokedKey, "The API key was revoked.");
        }
        if self.expires_at.is_some_and(|end| end <= now) {
            return refused(Code::ExpiredKey, "The API key has expired.");
        }
        Ok(())
    }

    /// The principal that it stands for.
    pub fn principal(&self) -> Principal {
        Principal {
            tenant: self.tenant.clone(),
            project: self.project.clone(),
            subject: self.subject.clone(),
            key: Some(self.id.clone()),
            session: None,
            role: self.role,
            grants: self.grants.clone(),
            shown: self.shown.clone(),
            good_until: self.expires_at,
        }
    }
}

/// Which keys to list, oldest first.
#[derive(Debug, Clone, Default)]
pub struct KeyFilter {
    /// `None` for all tenants.
    pub tenant: Option<TenantId>,
    /// The last key of the page before.
    pub after: Option<KeyId>,
    /// At most [`KEYS_PAGE_MAX`]; 0 means that many.
    pub limit: u32,
}

/// What revoking did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    Now,
    /// It had been revoked already, at this time.
    Before(Timestamp),
}

/// The keys of a store. Cheap to clone.
#[derive(Clone)]
pub struct Keys(Db);

macro_rules! columns {
    () => {
        "id, hash, tenant, project, subject, role, grants, shown, created_at_ms, created_by, expires_at_ms, revoked_at_ms"
    };
}

const INSERT: &str = concat!(
    "INSERT INTO api_key (",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, NULL)"
);
const FIND: &str = concat!("SELECT ", columns!(), " FROM api_key WHERE id = $1");
const FIND_ALL: &str = concat!("SELECT ", columns!(), " FROM api_key WHERE id IN ");
const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM api_key WHERE (created_at_ms, id) > ($1, $2) ORDER BY created_at_ms, id LIMIT $3"
);
const LIST_OF_TENANT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM api_key WHERE (created_at_ms, id) > ($1, $2) AND tenant = $4 ORDER BY created_at_ms, id LIMIT $3"
);
const REVOKE: &str = "UPDATE api_key SET revoked_at_ms = $2 WHERE id = $1 AND revoked_at_ms IS NULL";
const REVOKED_SINCE: &str = "SELECT id, revoked_at_ms FROM api_key WHERE revoked_at_ms IS NOT NULL \
     AND (revoked_at_ms, id) > ($1, $2) ORDER BY revoked_at_ms, id LIMIT $3";
const COUNT_ADMINS: &str = "SELECT COUNT(*) FROM api_key WHERE role = 'admin'";
/// Any constant will do, as long as nothing else takes it.
const FIRST_ADMIN_LOCK: &str = "SELECT pg_advisory_xact_lock(7315001)";

impl Keys {
    pub(crate) fn new(db: Db) -> Self {
        Self(db)
    }

    /// Stores a key; an id that is there already is a conflict.
    pub async fn create(&self, key: &NewKey) -> Result<(), StoreError> {
        self.0
            .write(key.clone(), |tx, key| Box::pin(async move { insert(tx, key).await }))
            .await
    }

    pub async fn find(&self, id: &KeyId) -> Result<Option<StoredKey>, StoreError> {
        let row: Option<KeyRow> = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| sqlx::query_as(FIND)
                    .bind(id.as_str())
                    .fetch_optional(pool)
                    .await)
            })
            .await?;
        row.map(StoredKey::try_from).transpose()
    }

    /// Those of these keys that there are, in no order.
    pub async fn find_all(&self, ids: &[KeyId]) -> Result<Vec<StoredKey>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for list in lists(ids) {
            let places: Vec<String> = (1..=list.len()).map(|number| format!("${number}")).collect();
            let sql = format!("{FIND_ALL}({})", places.join(", "));
            let rows: Vec<KeyRow> = self
                .0
                .read(async {
                    on_both!(self.0.pools(), |pool| {
                        let mut query = sqlx::query_as(AssertSqlSafe(sql));
                        for id in &list {
                            query = query.bind(id.as_str());
                        }
                        query.fetch_all(pool).await
                    })
                })
                .await?;
            for row in rows {
                found.push(StoredKey::try_from(row)?);
            }
        }
        Ok(found)
    }

    /// One page; if it is full, there may be more after its last key.
    pub async fn list(&self, filter: &KeyFilter) -> Result<Vec<StoredKey>, StoreError> {
        let (created_ms, id) = match &filter.after {
            None => (i64::MIN, String::new()),
            Some(id) => {
                let unknown = || StoreError::UnknownKey(id.to_string());
                let last = self.find(id).await?.ok_or_else(unknown)?;
                (last.created_at.as_millisecond(), id.to_string())
            }
        };
        let limit = match filter.limit {
            0 => KEYS_PAGE_MAX,
            limit => limit.min(KEYS_PAGE_MAX),
        };
        let tenant = filter.tenant.as_ref().map(TenantId::as_str);
        let rows: Vec<KeyRow> = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| {
                    let list = sqlx::query_as(if tenant.is_some() { LIST_OF_TENANT } else { LIST });
                    let list = list.bind(created_ms).bind(&id).bind(i64::from(limit));
                    let list = if let Some(tenant) = tenant {
                        list.bind(tenant)
                    } else {
                        list
                    };
                    list.fetch_all(pool).await
                })
            })
            .await?;
        rows.into_iter().map(StoredKey::try_from).collect()
    }

    /// Revokes a key for ever; `None` if there is none of that id. Doing it again changes nothing.
    pub async fn revoke(&self, id: &KeyId, now: Timestamp) -> Result<Option<Revocation>, StoreError> {
        let input = (id.clone(), now.as_millisecond());
        let revoked_now = self
            .0
            .write(input, |tx, (id, now_ms)| {
                Box::pin(async move {
                    let changed = on_both!(tx, |tx| sqlx::query(REVOKE)
                        .bind(id.as_str())
                        .bind(*now_ms)
                        .execute(&mut **tx)
                        .await
                        .map(|done| done.rows_affected()))?;
                    Ok(changed == 1)
                })
            })
            .await?;
        if revoked_now {
            return Ok(Some(Revocation::Now));
        }
        let stored = self.find(id).await?;
        Ok(stored.and_then(|stored| stored.revoked_at).map(Revocation::Before))
    }

    /// The keys revoked at `since` or later. The times come from the clocks of the replicas, and a revocation commits a
    /// little after its time: whoever watches has to look back by more than that.
    pub async fn revoked_since(&self, since: Timestamp) -> Result<Vec<KeyId>, StoreError> {
        let (mut at_ms, mut id) = (since.as_millisecond(), String::new());
        let mut keys = Vec::new();
        loop {
            let page: Vec<(String, i64)> = self
                .0
                .read(async {
                    on_both!(self.0.pools(), |pool| sqlx::query_as(REVOKED_SINCE)
                        .bind(at_ms)
                        .bind(&id)
                        .bind(i64::from(KEYS_PAGE_MAX))
                        .fetch_all(pool)
                        .await)
                })
                .await?;
            let Some(last) = page.last() else { return Ok(keys) };
            (id, at_ms) = last.clone();
            for (id, _) in page {
                keys.push(known("key id", KeyId::try_from(id))?);
            }
        }
    }

    /// Whether there was ever an admin key, be it revoked by now: then a start makes none.
    pub async fn any_admin(&self) -> Result<bool, StoreError> {
        let (admins,): (i64,) = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| sqlx::query_as(COUNT_ADMINS)
                    .fetch_one(pool)
                    .await)
            })
            .await?;
        Ok(admins > 0)
    }

    /// Stores the first admin key unless there was ever one; true if it was stored. Of replicas that start together,
    /// exactly one stores its own.
    pub async fn ensure_first_admin(&self, key: &NewKey) -> Result<bool, StoreError> {
        self.0
            .write(key.clone(), |tx, key| {
                Box::pin(async move {
                    if let Both::Postgres(tx) = tx {
                        sqlx::query(FIRST_ADMIN_LOCK).execute(&mut **tx).await?;
                    }
                    let (admins,): (i64,) = on_both!(tx, |tx| sqlx::query_as(COUNT_ADMINS).fetch_one(&mut **tx).await)?;
                    if admins > 0 {
                        return Ok(false);
                    }
                    insert(tx, key).await.map(|()| true)
                })
            })
            .await
    }
}

async fn insert(tx: &mut Tx, key: &NewKey) -> Result<(), StoreError> {
    let grants = serde_json::to_string(&key.grants).map_err(|_| StoreError::corrupt("grants"))?;
    let shown = serde_json::to_string(&key.shown).map_err(|_| StoreError::corrupt("patterns"))?;
    on_both!(tx, |tx| sqlx::query(INSERT)
        .bind(key.id.as_str())
        .bind(&key.hash.0[..])
        .bind(key.tenant.as_str())
        .bind(key.project.as_ref().map(ProjectId::as_str))
        .bind(key.subject.as_str())
        .bind(key.role.as_str())
        .bind(&grants)
        .bind(&shown)
        .bind(key.created_at.as_millisecond())
        .bind(key.created_by.as_ref().map(SubjectId::as_str))
        .bind(key.expires_at.map(Timestamp::as_millisecond))
        .execute(&mut **tx)
        .await
        .map(drop))?;
    Ok(())
}

/// A row of `api_key`, not yet believed.
struct KeyRow {
    id: String,
    hash: Vec<u8>,
    tenant: String,
    project: Option<String>,
    subject: String,
    role: String,
    grants: String,
    shown: String,
    created_at_ms: i64,
    created_by: Option<String>,
    expires_at_ms: Option<i64>,
    revoked_at_ms: Option<i64>,
}

row_on_both!(KeyRow, |row| Ok(Self {
    id: row.try_get("id")?,
    hash: row.try_get("hash")?,
    tenant: row.try_get("tenant")?,
    project: row.try_get("project")?,
    subject: row.try_get("subject")?,
    role: row.try_get("role")?,
    grants: row.try_get("grants")?,
    shown: row.try_get("shown")?,
    created_at_ms: row.try_get("created_at_ms")?,
    created_by: row.try_get("created_by")?,
    expires_at_ms: row.try_get("expires_at_ms")?,
    revoked_at_ms: row.try_get("revoked_at_ms")?,
}));

impl TryFrom<KeyRow> for StoredKey {
    type Error = StoreError;
    fn try_from(row: KeyRow) -> Result<Self, StoreError> {
        let hash = row
            .hash
            .try_into()
            .map_err(|_| StoreError::corrupt("the hash of a key"))?;
        Ok(Self {
            id: known("key id", KeyId::try_from(row.id))?,
            hash: KeyHash(hash),
            tenant: known("tenant", TenantId::try_from(row.tenant))?,
            project: known("project", row.project.map(ProjectId::try_from).transpose())?,
            subject: known("subject", SubjectId::try_from(row.subject))?,
            role: row.role.parse().map_err(|_| StoreError::corrupt("the role of a key"))?,
            grants: serde_json::from_str(&row.grants).map_err(|_| StoreError::corrupt("the grants of a key"))?,
            shown: serde_json::from_str(&row.shown).map_err(|_| StoreError::corrupt("the patterns of a key"))?,
            created_at: moment(row.created_at_ms)?,
            created_by: known("creator", row.created_by.map(SubjectId::try_from).transpose())?,
            expires_at: row.expires_at_ms.map(moment).transpose()?,
            revoked_at: row.revoked_at_ms.map(moment).transpose()?,
        })
    }
}
