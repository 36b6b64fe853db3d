//! What adds to conversations: each in one transaction, whole or not at all.

use jiff::Timestamp;
use std::sync::LazyLock;

use super::{
    Conversations, StoredConversation, StoredNode, check_nodes, is_word,
    rows::{ConversationRow, columns, expiry_ms},
};
use crate::{
    StoreError,
    many::Insert,
    responses::ResponseOwner,
    sql::{Both, Tx, on_both},
};

/// Nodes to be added at the end of a conversation.
#[derive(Debug, Clone)]
pub struct Append {
    pub id: String,
    pub owner: ResponseOwner,
    /// What it was when it was read; nothing where that does not matter.
    pub version: Option<i64>,
    /// In order. One without a parent belongs to the one before it.
    pub nodes: Vec<StoredNode>,
    pub nodes_max: u64,
    pub bytes_max: u64,
    pub at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

/// What became of them.
#[derive(Debug, Clone)]
pub enum Appended {
    /// They are there, with the conversation as it is now.
    Added(Box<StoredConversation>, Vec<StoredNode>),
    /// The same task has added them before.
    Repeat,
    /// There is no such conversation of this owner.
    Unknown,
    /// It has changed since it was read.
    Changed,
    /// It would have so many nodes and bytes.
    Full { nodes: u64, bytes: u64 },
    /// There is no node that one of them is to belong to.
    NoParent(String),
}

static INSERT_NODES: LazyLock<Insert> = LazyLock::new(|| {
    let columns = [
        "conversation",
        "place",
        "id",
        "parent",
        "role",
        "kind",
        "content",
        "metadata",
        "input_tokens",
        "output_tokens",
        "tokens_estimated",
        "task",
        "created_at_ms",
    ];
    Insert::new("conversation_node", &columns, "")
});
const OF_ID: &str = concat!("SELECT ", columns!(), " FROM conversation WHERE id = $1");
/// The same row, kept for this transaction.
const OF_ID_LOCKED: &str = concat!("SELECT ", columns!(), " FROM conversation WHERE id = $1 FOR UPDATE");
const NODE: &str = "SELECT parent FROM conversation_node WHERE conversation = $1 AND id = $2";
const LAST: &str = "SELECT id FROM conversation_node WHERE conversation = $1 ORDER BY place DESC LIMIT 1";
const CHANGED: &str = "UPDATE conversation SET updated_at_ms = $2, used_at_ms = $2, expires_at_ms = $3, \
     version = version + 1, next_place = next_place + $4, nodes = nodes + $5, bytes = bytes + $6 WHERE id = $1";
const TOUCH: &str = "UPDATE conversation SET used_at_ms = $6, expires_at_ms = $7 \
     WHERE id = $1 AND tenant = $2 AND project = $3 AND kind = $4 AND subject = $5 AND expires_at_ms > $6";

impl Conversations {
    /// Adds nodes at the end.
    pub async fn append(&self, append: &Append) -> Result<Appended, StoreError> {
        check_nodes(&append.nodes)?;
        self.0
            .write(append.clone(), |tx, append| Box::pin(add(tx, append)))
            .await
    }

    /// It is used now, whatever comes of it: it neither expires nor makes room while somebody is at work on it. Whether it
    /// is there.
    pub async fn touch(
        &self,
        id: &str,
        owner: &ResponseOwner,
        now: Timestamp,
        expires_at: Option<Timestamp>,
    ) -> Result<bool, StoreError> {
        if !is_word(id) {
            return Ok(false);
        }
        let input = (
            id.to_owned(),
            owner.clone(),
            now.as_millisecond(),
            expiry_ms(expires_at),
        );
        self.0
            .write(input, |tx, (id, owner, now_ms, expires_at_ms)| {
                Box::pin(async move {
                    let touched = on_both!(tx, |tx| sqlx::query(TOUCH)
                        .bind(id)
                        .bind(owner.tenant.as_str())
                        .bind(owner.project_text())
                        .bind(owner.kind.as_str())
                        .bind(owner.subject.as_str())
                        .bind(*now_ms)
                        .bind(*expires_at_ms)
                        .execute(&mut **tx)
                        .await
                        .map(|done| done.rows_affected()))?;
                    Ok(touched == 1)
                })
            })
            .await
    }
}

pub(super) async fn find(tx: &mut Tx, id: &str) -> Result<Option<StoredConversation>, StoreError> {
    let statement = match tx {
        Both::Sqlite(_) => OF_ID,
        Both::Postgres(_) => OF_ID_LOCKED,
    };
    let row: Option<ConversationRow> = on_both!(tx, |tx| sqlx::query_as(statement)
        .bind(id)
        .fetch_optional(&mut **tx)
        .await)?;
    row.map(StoredConversation::try_from).transpose()
}

/// The owner's, if it has not expired.
pub(super) async fn find_own(
    tx: &mut Tx,
    id: &str,
    owner: &ResponseOwner,
    at: Timestamp,
) -> Result<Option<StoredConversation>, StoreError> {
    let found = find(tx, id).await?;
    let is_good =
        |found: &StoredConversation| found.owner == *owner && found.expires_at.is_none_or(|expires_at| expires_at > at);
    Ok(found.filter(is_good))
}

async fn add(tx: &mut Tx, append: &Append) -> Result<Appended, StoreError> {
    let Some(found) = find_own(tx, &append.id, &append.owner, append.at).await? else {
        return Ok(Appended::Unknown);
    };
    for node in &append.nodes {
        if parent_of(tx, &found.id, &node.id).await?.is_some() {
            return Ok(Appended::Repeat);
        }
    }
    if append.version.is_some_and(|version| version != found.version) {
        return Ok(Appended::Changed);
    }
    let new = u64::try_from(append.nodes.len()).unwrap_or(u64::MAX);
    let bytes: u64 = append.nodes.iter().map(StoredNode::weight).sum();
    let (nodes, bytes) = (found.nodes.saturating_add(new), found.bytes.saturating_add(bytes));
    if nodes > append.nodes_max || bytes > append.bytes_max {
        return Ok(Appended::Full { nodes, bytes });
    }
    let mut nodes = append.nodes.clone();
    let mut before: Option<String> = on_both!(&mut *tx, |tx| sqlx::query_scalar(LAST)
        .bind(&found.id)
        .fetch_optional(&mut **tx)
        .await)?;
    for node in &mut nodes {
        match &node.parent {
            None => node.parent = before.take(),
            Some(parent) if before.as_ref() == Some(parent) => {}
            Some(parent) => {
                if parent_of(tx, &found.id, parent).await?.is_none() {
                    return Ok(Appended::NoParent(parent.clone()));
                }
            }
        }
        before = Some(node.id.clone());
    }
    insert_nodes(tx, &found.id, found.next_place, &nodes).await?;
    let places = i64::try_from(nodes.len()).unwrap_or(i64::MAX);
    let change = Change {
        places,
        nodes: places,
        bytes: weight(&nodes),
    };
    changed(tx, &found.id, append.at, append.expires_at, change).await?;
    let now = find(tx, &found.id).await?;
    let now = now.ok_or_else(|| StoreError::corrupt("a context that was just changed"))?;
    Ok(Appended::Added(Box::new(now), nodes))
}

/// The parent of a node, where there is such a node: it may have none.
pub(super) async fn parent_of(
    tx: &mut Tx,
    conversation: &str,
    node: &str,
) -> Result<Option<Option<String>>, StoreError> {
    Ok(on_both!(tx, |tx| sqlx::query_scalar(NODE)
        .bind(conversation)
        .bind(node)
        .fetch_optional(&mut **tx)
        .await)?)
}

/// By how much a conversation grows.
#[derive(Clone, Copy)]
pub(super) struct Change {
    pub(super) places: i64,
    pub(super) nodes: i64,
    pub(super) bytes: i64,
}

pub(super) async fn changed(
    tx: &mut Tx,
    id: &str,
    at: Timestamp,
    expires_at: Option<Timestamp>,
    change: Change,
) -> Result<(), StoreError> {
    on_both!(tx, |tx| sqlx::query(CHANGED)
        .bind(id)
        .bind(at.as_millisecond())
        .bind(expiry_ms(expires_at))
        .bind(change.places)
        .bind(change.nodes)
        .bind(change.bytes)
        .execute(&mut **tx)
        .await
        .map(drop))?;
    Ok(())
}

pub(super) async fn insert_nodes(
    tx: &mut Tx,
    conversation: &str,
    first: i64,
    nodes: &[StoredNode],
) -> Result<(), StoreError> {
    let mut place = first;
    for (sql, part) in INSERT_NODES.of(tx, nodes) {
        on_both!(&mut *tx, |tx| {
            let mut query = sqlx::query(sql);
            for node in part {
                let usage = node.usage.as_ref();
                let tokens = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
                query = query
                    .bind(conversation)
                    .bind(place)
                    .bind(&node.id)
                    .bind(&node.parent)
                    .bind(node.role.as_str())
                    .bind(node.kind.as_str())
                    .bind(&node.content)
                    .bind(node.metadata.get())
                    .bind(usage.map(|usage| tokens(usage.input_tokens)))
                    .bind(usage.map(|usage| tokens(usage.output_tokens)))
                    .bind(usage.map(|usage| usage.estimated))
                    .bind(&node.task)
                    .bind(node.created_at.as_millisecond());
                place += 1;
            }
            query.execute(&mut **tx).await.map(drop)
        })?;
    }
    Ok(())
}

pub(super) fn weight(nodes: &[StoredNode]) -> i64 {
    let bytes: u64 = nodes.iter().map(StoredNode::weight).sum();
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
