//! Making a conversation, where its tenant has room.

use forebay_domain::{conversation::OnFull, id::KeyId};

use super::{
    Conversations, METADATA_BYTES_MAX, NewConversation, StoredConversation,
    change::{find, insert_nodes, weight},
    check_nodes, check_words,
    rows::{columns, expiry_ms},
};
use crate::{
    StoreError,
    row::within,
    sql::{Both, Tx, on_both},
};

/// Conversations that make room for one at most.
const EVICTED_MAX: i64 = 20;

/// How many conversations a tenant may have, and what happens then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    pub most: u32,
    pub on_full: OnFull,
}

/// What became of a new conversation.
#[derive(Debug, Clone)]
pub enum Created {
    New {
        conversation: Box<StoredConversation>,
        /// Those that made room for it.
        evicted: Vec<String>,
    },
    /// It was made before.
    Repeat(Box<StoredConversation>),
    /// The tenant has so many already, and none of them is to make room.
    Full { count: u64 },
}

const INSERT: &str = concat!(
    "INSERT INTO conversation (",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)"
);
const COUNT: &str = "SELECT COUNT(*) FROM conversation WHERE tenant = $1 AND expires_at_ms > $2";
/// Those alone in which nobody has anything to do, now or later. `domain::task::context_lane` names their lanes, and whoever
/// waits in one has another before them.
const OLDEST: &str = "SELECT id FROM conversation AS kept WHERE tenant = $1 AND expires_at_ms > $2 \
     AND NOT EXISTS (SELECT 1 FROM task AS head WHERE head.lane = 'context:' || kept.tenant || ':' || kept.id \
     AND head.lane IS NOT NULL AND head.stage IN ('pending', 'running', 'retrying')) \
     AND NOT EXISTS (SELECT 1 FROM task AS ahead WHERE ahead.lane = 'context:' || kept.tenant || ':' || kept.id \
     AND ahead.lane IS NOT NULL AND ahead.stage = 'scheduled') ORDER BY used_at_ms, id LIMIT $3";
const DELETE: &str = "DELETE FROM conversation WHERE id = $1";
/// Held while those of a tenant are counted and one is written.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7315014, hashtext($1))";

impl Conversations {
    /// Makes a conversation with its first nodes, where its tenant has room. One that is there already stays as it is.
    pub async fn create(&self, new: &NewConversation, room: Room) -> Result<Created, StoreError> {
        check_words([
            new.id.as_str(),
            &new.model,
            new.user_label.as_deref().unwrap_or_default(),
        ])?;
        within(
            "the metadata of a context",
            new.metadata.get().len(),
            METADATA_BYTES_MAX,
        )?;
        check_nodes(&new.nodes)?;
        let input = (new.clone(), room);
        self.0
            .write(input, |tx, (new, room)| Box::pin(create(tx, new, *room)))
            .await
    }
}

async fn create(tx: &mut Tx, new: &NewConversation, room: Room) -> Result<Created, StoreError> {
    let tenant = new.owner.tenant.as_str();
    if let Both::Postgres(tx) = tx {
        sqlx::query(LOCK).bind(tenant).execute(&mut **tx).await?;
    }
    if let Some(there) = find(tx, &new.id).await? {
        // Ids are made of tasks, of which each has one owner.
        if there.owner != new.owner {
            return Err(StoreError::corrupt("a context of somebody else has this id"));
        }
        return Ok(Created::Repeat(Box::new(there)));
    }
    let now_ms = new.created_at.as_millisecond();
    let count: i64 = on_both!(&mut *tx, |tx| sqlx::query_scalar(COUNT)
        .bind(tenant)
        .bind(now_ms)
        .fetch_one(&mut **tx)
        .await)?;
    let count = u64::try_from(count).unwrap_or(0);
    let mut evicted = Vec::new();
    if count >= u64::from(room.most) {
        match room.on_full {
            OnFull::Refuse => return Ok(Created::Full { count }),
            OnFull::EvictOldest => evicted = evict(tx, tenant, now_ms, count + 1 - u64::from(room.most)).await?,
        }
        if evicted.is_empty() {
            return Ok(Created::Full { count });
        }
    }
    insert(tx, new).await?;
    let made = find(tx, &new.id).await?;
    let conversation = Box::new(made.ok_or_else(|| StoreError::corrupt("a context that was just made"))?);
    Ok(Created::New { conversation, evicted })
}

async fn insert(tx: &mut Tx, new: &NewConversation) -> Result<(), StoreError> {
    let at_ms = new.created_at.as_millisecond();
    let places = i64::try_from(new.nodes.len()).unwrap_or(i64::MAX);
    on_both!(&mut *tx, |tx| sqlx::query(INSERT)
        .bind(&new.id)
        .bind(new.owner.tenant.as_str())
        .bind(new.owner.project_text())
        .bind(new.owner.kind.as_str())
        .bind(new.owner.subject.as_str())
        .bind(new.key.as_ref().map(KeyId::as_str))
        .bind(&new.user_label)
        .bind(&new.model)
        .bind(new.metadata.get())
        .bind(at_ms)
        .bind(at_ms)
        .bind(at_ms)
        .bind(expiry_ms(new.expires_at))
        .bind(1_i64)
        .bind(places)
        .bind(places)
        .bind(weight(&new.nodes))
        .execute(&mut **tx)
        .await
        .map(drop))?;
    insert_nodes(tx, &new.id, 0, &new.nodes).await
}

/// Removes so many of a tenant, those first that were not used for longest. Where somebody has set the limit much lower it
/// is reached a few at a time.
async fn evict(tx: &mut Tx, tenant: &str, now_ms: i64, excess: u64) -> Result<Vec<String>, StoreError> {
    let limit = i64::try_from(excess).unwrap_or(i64::MAX).min(EVICTED_MAX);
    let oldest: Vec<String> = on_both!(&mut *tx, |tx| sqlx::query_scalar(OLDEST)
        .bind(tenant)
        .bind(now_ms)
        .bind(limit)
        .fetch_all(&mut **tx)
        .await)?;
    for id in &oldest {
        on_both!(&mut *tx, |tx| sqlx::query(DELETE)
            .bind(id)
            .execute(&mut **tx)
            .await
            .map(drop))?;
    }
    Ok(oldest)
}
