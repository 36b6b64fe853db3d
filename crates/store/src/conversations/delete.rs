//! What takes conversations and their nodes away: each in one transaction, with the name of the task that did it, so that
//! the same task knows later that it was done.

use jiff::{SignedDuration, Timestamp};

use super::{
    Conversations, SWEEP_MAX,
    change::{Change, changed, find_own, parent_of},
    is_word,
};
use crate::{
    StoreError,
    responses::ResponseOwner,
    sql::{Tx, on_both},
};

/// How long it is known which task took something away: longer than one that died is kept for somebody to try again.
const KNOWN_FOR: SignedDuration = SignedDuration::from_hours(31 * 24);

/// Something that is to go, and the task that wants it.
#[derive(Debug, Clone)]
pub struct Removal {
    pub id: String,
    pub owner: ResponseOwner,
    pub task: String,
    pub at: Timestamp,
}

/// What became of what was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    Gone,
    /// The same task took it away before.
    Repeat,
    NoConversation,
    NoNode,
}

const WEIGHT: &str = "SELECT CAST(OCTET_LENGTH(content) + OCTET_LENGTH(metadata) AS BIGINT) FROM conversation_node \
     WHERE conversation = $1 AND id = $2";
const RELINK: &str = "UPDATE conversation_node SET parent = $3 WHERE conversation = $1 AND parent = $2";
const DELETE_NODE: &str = "DELETE FROM conversation_node WHERE conversation = $1 AND id = $2";
const DELETE: &str = "DELETE FROM conversation WHERE id = $1";
const SWEEP: &str = "DELETE FROM conversation WHERE id IN \
     (SELECT id FROM conversation WHERE expires_at_ms <= $1 ORDER BY expires_at_ms LIMIT $2) AND expires_at_ms <= $1";
const REMEMBER: &str = "INSERT INTO conversation_removal (task, at_ms) VALUES ($1, $2)";
const REMEMBERED: &str = "SELECT COUNT(*) FROM conversation_removal WHERE task = $1";
const FORGET: &str = "DELETE FROM conversation_removal WHERE at_ms <= $1";

impl Conversations {
    /// Takes a node away. What belonged to it belongs to what it belonged to.
    pub async fn delete_node(
        &self,
        removal: &Removal,
        node: &str,
        expires_at: Option<Timestamp>,
    ) -> Result<Removed, StoreError> {
        if !is_word(&removal.id) {
            return Ok(Removed::NoConversation);
        }
        if !is_word(node) {
            return Ok(Removed::NoNode);
        }
        let input = (removal.clone(), node.to_owned(), expires_at);
        self.0
            .write(input, |tx, (removal, node, expires_at)| {
                Box::pin(delete_node(tx, removal, node, *expires_at))
            })
            .await
    }

    /// Takes a conversation away with all its nodes.
    pub async fn delete(&self, removal: &Removal) -> Result<Removed, StoreError> {
        if !is_word(&removal.id) {
            return Ok(Removed::NoConversation);
        }
        self.0
            .write(removal.clone(), |tx, removal| Box::pin(delete(tx, removal)))
            .await
    }

    /// Removes some of those that expired by `now`, and says how many, and whether there are more.
    pub async fn sweep(&self, now: Timestamp) -> Result<(u64, bool), StoreError> {
        let known_from = now.checked_sub(KNOWN_FOR).unwrap_or(Timestamp::MIN);
        let gone = self
            .0
            .write((now, known_from), |tx, (now, known_from)| {
                Box::pin(async move {
                    on_both!(&mut *tx, |tx| sqlx::query(FORGET)
                        .bind(known_from.as_millisecond())
                        .execute(&mut **tx)
                        .await
                        .map(drop))?;
                    Ok(on_both!(tx, |tx| sqlx::query(SWEEP)
                        .bind(now.as_millisecond())
                        .bind(i64::from(SWEEP_MAX))
                        .execute(&mut **tx)
                        .await
                        .map(|done| done.rows_affected()))?)
                })
            })
            .await?;
        Ok((gone, gone == u64::from(SWEEP_MAX)))
    }
}

async fn delete(tx: &mut Tx, removal: &Removal) -> Result<Removed, StoreError> {
    if find_own(tx, &removal.id, &removal.owner, removal.at).await?.is_none() {
        return before(tx, removal, Removed::NoConversation).await;
    }
    on_both!(&mut *tx, |tx| sqlx::query(DELETE)
        .bind(&removal.id)
        .execute(&mut **tx)
        .await
        .map(drop))?;
    remember(tx, removal).await
}

async fn delete_node(
    tx: &mut Tx,
    removal: &Removal,
    node: &str,
    expires_at: Option<Timestamp>,
) -> Result<Removed, StoreError> {
    let id = &removal.id;
    if find_own(tx, id, &removal.owner, removal.at).await?.is_none() {
        return before(tx, removal, Removed::NoConversation).await;
    }
    let Some(parent) = parent_of(tx, id, node).await? else {
        return before(tx, removal, Removed::NoNode).await;
    };
    let bytes: i64 = on_both!(&mut *tx, |tx| sqlx::query_scalar(WEIGHT)
        .bind(id)
        .bind(node)
        .fetch_one(&mut **tx)
        .await)?;
    on_both!(&mut *tx, |tx| sqlx::query(RELINK)
        .bind(id)
        .bind(node)
        .bind(&parent)
        .execute(&mut **tx)
        .await
        .map(drop))?;
    on_both!(&mut *tx, |tx| sqlx::query(DELETE_NODE)
        .bind(id)
        .bind(node)
        .execute(&mut **tx)
        .await
        .map(drop))?;
    let change = Change {
        places: 0,
        nodes: -1,
        bytes: -bytes,
    };
    changed(tx, id, removal.at, expires_at, change).await?;
    remember(tx, removal).await
}

async fn remember(tx: &mut Tx, removal: &Removal) -> Result<Removed, StoreError> {
    on_both!(tx, |tx| sqlx::query(REMEMBER)
        .bind(&removal.task)
        .bind(removal.at.as_millisecond())
        .execute(&mut **tx)
        .await
        .map(drop))?;
    Ok(Removed::Gone)
}

/// What is not there: the same task may have taken it away.
async fn before(tx: &mut Tx, removal: &Removal, otherwise: Removed) -> Result<Removed, StoreError> {
    let known: i64 = on_both!(tx, |tx| sqlx::query_scalar(REMEMBERED)
        .bind(&removal.task)
        .fetch_one(&mut **tx)
        .await)?;
    Ok(if known > 0 { Removed::Repeat } else { otherwise })
}
