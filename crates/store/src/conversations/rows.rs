//! Rows of conversations and nodes, not yet believed.

use forebay_domain::{
    conversation::{ContentKind, NodeRole},
    event::Usage,
    id::{KeyId, SubjectId, TenantId},
};
use jiff::Timestamp;
use sqlx::Row;

use super::{StoredConversation, StoredNode};
use crate::{
    StoreError,
    responses::{OwnerKind, ResponseOwner},
    row::{document, known, moment},
    sql::row_on_both,
};

/// Stands where a conversation never expires.
const NEVER_MS: i64 = i64::MAX;

pub(super) fn expiry_ms(expires_at: Option<Timestamp>) -> i64 {
    expires_at.map_or(NEVER_MS, Timestamp::as_millisecond)
}

macro_rules! columns {
    () => {
        "id, tenant, project, kind, subject, key_id, user_label, model, metadata, created_at_ms, updated_at_ms, \
         used_at_ms, expires_at_ms, version, next_place, nodes, bytes"
    };
}

macro_rules! node_columns {
    () => {
        "id, parent, role, kind, content, metadata, input_tokens, output_tokens, tokens_estimated, task, created_at_ms"
    };
}

pub(super) use {columns, node_columns};

pub(super) struct ConversationRow {
    id: String,
    tenant: String,
    project: String,
    kind: String,
    subject: String,
    key_id: Option<String>,
    user_label: Option<String>,
    model: String,
    metadata: String,
    created_at_ms: i64,
    updated_at_ms: i64,
    expires_at_ms: i64,
    version: i64,
    next_place: i64,
    nodes: i64,
    bytes: i64,
}

row_on_both!(ConversationRow, |row| Ok(Self {
    id: row.try_get("id")?,
    tenant: row.try_get("tenant")?,
    project: row.try_get("project")?,
    kind: row.try_get("kind")?,
    subject: row.try_get("subject")?,
    key_id: row.try_get("key_id")?,
    user_label: row.try_get("user_label")?,
    model: row.try_get("model")?,
    metadata: row.try_get("metadata")?,
    created_at_ms: row.try_get("created_at_ms")?,
    updated_at_ms: row.try_get("updated_at_ms")?,
    expires_at_ms: row.try_get("expires_at_ms")?,
    version: row.try_get("version")?,
    next_place: row.try_get("next_place")?,
    nodes: row.try_get("nodes")?,
    bytes: row.try_get("bytes")?,
}));

impl TryFrom<ConversationRow> for StoredConversation {
    type Error = StoreError;
    fn try_from(row: ConversationRow) -> Result<Self, StoreError> {
        let project = match row.project.as_str() {
            "" => None,
            name => Some(known("project", name.parse())?),
        };
        let kind = OwnerKind::parse(&row.kind).ok_or_else(|| StoreError::corrupt("the kind of an owner"))?;
        let expires_at = match row.expires_at_ms {
            NEVER_MS => None,
            ms => Some(moment(ms)?),
        };
        Ok(Self {
            id: row.id,
            owner: ResponseOwner {
                tenant: known("tenant", TenantId::try_from(row.tenant))?,
                project,
                kind,
                subject: known("subject", SubjectId::try_from(row.subject))?,
            },
            key: row.key_id.map(|id| known("key", KeyId::try_from(id))).transpose()?,
            user_label: row.user_label,
            model: row.model,
            metadata: document("metadata of a conversation", row.metadata)?,
            created_at: moment(row.created_at_ms)?,
            updated_at: moment(row.updated_at_ms)?,
            expires_at,
            version: row.version,
            next_place: row.next_place,
            nodes: count(row.nodes),
            bytes: count(row.bytes),
        })
    }
}

pub(super) struct NodeRow {
    id: String,
    parent: Option<String>,
    role: String,
    kind: String,
    content: String,
    metadata: String,
    input_tokens: Option<i64>,
    output_tokens: Option<i64>,
    tokens_estimated: Option<bool>,
    task: String,
    created_at_ms: i64,
}

row_on_both!(NodeRow, |row| Ok(Self {
    id: row.try_get("id")?,
    parent: row.try_get("parent")?,
    role: row.try_get("role")?,
    kind: row.try_get("kind")?,
    content: row.try_get("content")?,
    metadata: row.try_get("metadata")?,
    input_tokens: row.try_get("input_tokens")?,
    output_tokens: row.try_get("output_tokens")?,
    tokens_estimated: row.try_get("tokens_estimated")?,
    task: row.try_get("task")?,
    created_at_ms: row.try_get("created_at_ms")?,
}));

impl TryFrom<NodeRow> for StoredNode {
    type Error = StoreError;
    fn try_from(row: NodeRow) -> Result<Self, StoreError> {
        let usage = match (row.input_tokens, row.output_tokens) {
            (Some(input), Some(output)) => Some(Usage {
                input_tokens: count(input),
                output_tokens: count(output),
                estimated: row.tokens_estimated.unwrap_or(false),
            }),
            _ => None,
        };
        Ok(Self {
            id: row.id,
            parent: row.parent,
            role: NodeRole::parse(&row.role).ok_or_else(|| StoreError::corrupt("the role of a node"))?,
            kind: ContentKind::parse(&row.kind).ok_or_else(|| StoreError::corrupt("the kind of a content"))?,
            content: row.content,
            metadata: document("metadata of a node", row.metadata)?,
            usage,
            task: row.task,
            created_at: moment(row.created_at_ms)?,
        })
    }
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
