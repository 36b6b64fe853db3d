//! Conversations that are kept, and their nodes in order. The API calls one a context.
//!
//! One belongs to one subject of one project, whichever of its keys made it, and every statement here says whose it wants:
//! what is somebody else's is not there, for anybody. What expired is not there either, and goes with the next sweep.
//! Nodes are only ever added over the [version](StoredConversation::version) that was read, so that nobody answers to
//! nodes that are no more; and each carries the task that made it, so that no task adds its nodes twice. What a task took
//! away is remembered with its name for a while.

mod change;
mod create;
mod delete;
mod rows;

pub use change::{Append, Appended};
pub use create::{Created, Room};
pub use delete::{Removal, Removed};

use forebay_domain::{
    conversation::{ContentKind, NodeRole},
    event::Usage,
    id::KeyId,
};
use jiff::Timestamp;
use serde_json::value::RawValue;
use std::fmt;

use crate::{
    StoreError,
    db::Db,
    responses::ResponseOwner,
    row::{moment, within},
    sql::on_both,
};
use rows::{ConversationRow, NodeRow, columns, node_columns};

/// Largest content of a node, in bytes.
pub const NODE_BYTES_MAX: usize = 1 << 20;
/// Largest metadata of a conversation, and of a node, in bytes.
pub const METADATA_BYTES_MAX: usize = 64 * 1024;
/// Longest id, label or name of a model, in bytes.
pub const WORD_BYTES_MAX: usize = 256;
/// Most nodes of a conversation, whatever somebody else allows.
pub const NODES_MAX: u64 = 10_000;
/// Most conversations of one page.
pub const PAGE_MAX: u32 = 1_000;
/// Most conversations that are asked for at once by their ids.
pub const STAMPS_MAX: usize = 256;
/// Conversations that one unit removes at most: each takes its nodes along.
const SWEEP_MAX: u32 = 20;

/// A conversation without its nodes. Times have milliseconds.
#[derive(Debug, Clone)]
pub struct StoredConversation {
    pub id: String,
    pub owner: ResponseOwner,
    /// The key that made it.
    pub key: Option<KeyId>,
    /// What somebody calls the user; nobody is known by it.
    pub user_label: Option<String>,
    pub model: String,
    pub metadata: Box<RawValue>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    /// How often it was changed.
    pub version: i64,
    next_place: i64,
    pub nodes: u64,
    /// What its nodes weigh, see [`StoredNode::weight`].
    pub bytes: u64,
}

/// A conversation that is to be.
#[derive(Debug, Clone)]
pub struct NewConversation {
    pub id: String,
    pub owner: ResponseOwner,
    pub key: Option<KeyId>,
    pub user_label: Option<String>,
    pub model: String,
    pub metadata: Box<RawValue>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub nodes: Vec<StoredNode>,
}

/// A node.
#[derive(Debug, Clone)]
pub struct StoredNode {
    pub id: String,
    /// Another node of the same conversation.
    pub parent: Option<String>,
    pub role: NodeRole,
    pub kind: ContentKind,
    /// A text, or a JSON document.
    pub content: String,
    pub metadata: Box<RawValue>,
    /// What a model took for it.
    pub usage: Option<Usage>,
    /// What made it.
    pub task: String,
    pub created_at: Timestamp,
}

impl StoredNode {
    /// The bytes that count against the bound of its conversation.
    pub fn weight(&self) -> u64 {
        u64::try_from(self.content.len() + self.metadata.get().len()).unwrap_or(u64::MAX)
    }
}

/// Some of an owner's conversations, the newest first.
#[derive(Debug, Clone)]
pub struct ConversationPage {
    pub conversations: Vec<StoredConversation>,
    /// Where the next page begins, where there is one.
    pub next: Option<ConversationCursor>,
}

/// A place in the list of an owner's conversations, opaque to whoever holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationCursor {
    created_at_ms: i64,
    id: String,
}

impl fmt::Display for ConversationCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.created_at_ms, self.id)
    }
}

impl std::str::FromStr for ConversationCursor {
    type Err = StoreError;
    fn from_str(text: &str) -> Result<Self, StoreError> {
        let read = || {
            let (ms, id) = text.split_once('.')?;
            let is_number = !ms.is_empty() && ms.bytes().all(|byte| byte.is_ascii_digit());
            let is_id = !id.is_empty() && id.len() <= WORD_BYTES_MAX && !id.contains('\0');
            (is_number && is_id).then_some(Self {
                created_at_ms: ms.parse().ok()?,
                id: id.to_owned(),
            })
        };
        read().ok_or_else(|| StoreError::Cursor {
            text: text.chars().take(64).collect(),
        })
    }
}

/// How much is kept of everybody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConversationTally {
    pub conversations: u64,
    pub nodes: u64,
    pub bytes: u64,
    /// Those that have expired and are not removed yet; they count nowhere else.
    pub expired: u64,
}

/// The conversations of a store. Cheap to clone.
#[derive(Clone)]
pub struct Conversations(Db);

const FIND: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM conversation WHERE id = $1 AND tenant = $2 AND project = $3 AND kind = $4 AND subject = $5 AND expires_at_ms > $6"
);
/// Only those that were there when their conversation was read.
const NODES: &str = concat!(
    "SELECT ",
    node_columns!(),
    " FROM conversation_node WHERE conversation = $1 AND place < $2 ORDER BY place"
);
const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM conversation WHERE tenant = $1 AND project = $2 AND kind = $3 AND subject = $4 AND expires_at_ms > $5 \
     AND (created_at_ms, id) < ($6, $7) ORDER BY created_at_ms DESC, id DESC LIMIT $8"
);
const TALLY: &str = "SELECT COUNT(*), CAST(COALESCE(SUM(nodes), 0) AS BIGINT), CAST(COALESCE(SUM(bytes), 0) AS BIGINT), \
     (SELECT COUNT(*) FROM conversation WHERE expires_at_ms <= $1) FROM conversation WHERE expires_at_ms > $1";

impl Conversations {
    pub(crate) fn new(db: Db) -> Self {
        Self(db)
    }

    /// The owner's conversation of that id, without its nodes.
    pub async fn get(
        &self,
        id: &str,
        owner: &ResponseOwner,
        now: Timestamp,
    ) -> Result<Option<StoredConversation>, StoreError> {
        if !is_word(id) {
            return Ok(None);
        }
        let row: Option<ConversationRow> = self
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
        row.map(StoredConversation::try_from).transpose()
    }

    /// The nodes of a conversation that was found, in order. Some may be gone by now; the version tells.
    pub async fn nodes(&self, conversation: &StoredConversation) -> Result<Vec<StoredNode>, StoreError> {
        let rows: Vec<NodeRow> = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| sqlx::query_as(NODES)
                    .bind(&conversation.id)
                    .bind(conversation.next_place)
                    .fetch_all(pool)
                    .await)
            })
            .await?;
        rows.into_iter().map(StoredNode::try_from).collect()
    }

    /// The owner's conversations, the newest first, from a place on.
    pub async fn list(
        &self,
        owner: &ResponseOwner,
        limit: u32,
        after: Option<&ConversationCursor>,
        now: Timestamp,
    ) -> Result<ConversationPage, StoreError> {
        let limit = limit.clamp(1, PAGE_MAX);
        let (before_ms, before_id) = after.map_or((i64::MAX, ""), |after| (after.created_at_ms, &after.id));
        let rows: Vec<ConversationRow> = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| sqlx::query_as(LIST)
                    .bind(owner.tenant.as_str())
                    .bind(owner.project_text())
                    .bind(owner.kind.as_str())
                    .bind(owner.subject.as_str())
                    .bind(now.as_millisecond())
                    .bind(before_ms)
                    .bind(before_id)
                    .bind(i64::from(limit) + 1)
                    .fetch_all(pool)
                    .await)
            })
            .await?;
        let is_more = rows.len() > limit as usize;
        let kept = rows.into_iter().take(limit as usize).map(StoredConversation::try_from);
        let conversations: Vec<_> = kept.collect::<Result<_, _>>()?;
        let last = conversations.last().filter(|_| is_more);
        let next = last.map(|last| ConversationCursor {
            created_at_ms: last.created_at.as_millisecond(),
            id: last.id.clone(),
        });
        Ok(ConversationPage { conversations, next })
    }

    /// When those of these conversations that are there were last changed, whoever owns them: for those who have been told
    /// their ids before. At most [`STAMPS_MAX`] of them.
    pub async fn stamps(&self, ids: &[String], now: Timestamp) -> Result<Vec<(String, Timestamp)>, StoreError> {
        let ids: Vec<&String> = ids.iter().filter(|id| is_word(id)).take(STAMPS_MAX).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<(String, i64)> = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| {
                    let mut query =
                        sqlx::QueryBuilder::new("SELECT id, updated_at_ms FROM conversation WHERE expires_at_ms > ");
                    query.push_bind(now.as_millisecond()).push(" AND id IN (");
                    let mut list = query.separated(", ");
                    for id in &ids {
                        list.push_bind(id.as_str());
                    }
                    query.push(")");
                    query.build_query_as().persistent(false).fetch_all(pool).await
                })
            })
            .await?;
        rows.into_iter().map(|(id, ms)| Ok((id, moment(ms)?))).collect()
    }

    /// How many there are, of everybody.
    pub async fn tally(&self, now: Timestamp) -> Result<ConversationTally, StoreError> {
        let (conversations, nodes, bytes, expired): (i64, i64, i64, i64) = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| sqlx::query_as(TALLY)
                    .bind(now.as_millisecond())
                    .fetch_one(pool)
                    .await)
            })
            .await?;
        let count = |number| u64::try_from(number).unwrap_or(0);
        Ok(ConversationTally {
            conversations: count(conversations),
            nodes: count(nodes),
            bytes: count(bytes),
            expired: count(expired),
        })
    }
}

/// Whether a text can be an id at all: PostgreSQL refuses some that nobody has.
fn is_word(text: &str) -> bool {
    text.len() <= WORD_BYTES_MAX && !text.contains('\0')
}

fn check_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<(), StoreError> {
    for word in words {
        within("a word of a context", word.len(), WORD_BYTES_MAX)?;
    }
    Ok(())
}

fn check_nodes(nodes: &[StoredNode]) -> Result<(), StoreError> {
    for node in nodes {
        check_words([node.id.as_str(), node.parent.as_deref().unwrap_or_default(), &node.task])?;
        within("the content of a node", node.content.len(), NODE_BYTES_MAX)?;
        within("the metadata of a node", node.metadata.get().len(), METADATA_BYTES_MAX)?;
    }
    Ok(())
}
