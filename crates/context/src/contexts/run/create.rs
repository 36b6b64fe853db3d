//! `mcp.create_context`.

use super::{fault, limits, output};
use crate::contexts::{Inner, info, input, metrics::Change, node};
use bytes::Bytes;
use forebay_api::ContextCreate;
use forebay_domain::{
    Code, Failure, Principal,
    port::{BoxFuture, RunTask, TaskRun},
    task::{Queued, TaskFault, TypeLimits},
};
use forebay_store::conversations::{Created, NewConversation, StoredNode};
use std::sync::Arc;

pub(super) struct Create(pub(super) Arc<Inner>);

impl RunTask for Create {
    fn task_type(&self) -> &str {
        input::CREATE
    }

    fn limits(&self) -> TypeLimits {
        limits(input::CREATE)
    }

    fn accept(&self, principal: &Principal, input: &[u8]) -> Result<(), Failure> {
        self.0.open()?;
        self.0.may_create(principal, &input::read(input)?).map(drop)
    }

    fn queued(&self, input: &[u8]) -> Queued {
        input::queued(input::CREATE, input, input::RETRY)
    }

    fn run<'a>(&'a self, run: TaskRun<'a>) -> BoxFuture<'a, Result<Bytes, TaskFault>> {
        Box::pin(self.create(run))
    }
}

impl Create {
    async fn create(&self, run: TaskRun<'_>) -> Result<Bytes, TaskFault> {
        let wanted: ContextCreate = input::read(run.input).map_err(TaskFault::lasting)?;
        let drafts = self.0.may_create(run.principal, &wanted).map_err(TaskFault::lasting)?;
        let settings = self.0.settings.load_full();
        let (now, task) = (self.0.clock.now(), run.id.as_str());
        let mut nodes = Vec::with_capacity(drafts.len());
        for (place, draft) in drafts.into_iter().enumerate() {
            let before: Option<&StoredNode> = nodes.last();
            let parent = before.map(|node| node.id.clone());
            let mut node = draft.node(task, place, now);
            node.parent = parent;
            nodes.push(node);
        }
        let bytes: u64 = nodes.iter().map(StoredNode::weight).sum();
        if bytes > settings.bytes_max() {
            let message = format!(
                "Its nodes have {bytes} bytes; a context has at most {}.",
                settings.bytes_max()
            );
            return Err(TaskFault::lasting(
                Failure::new(Code::ContextFull, message).hint("Begin with less."),
            ));
        }
        let new = NewConversation {
            id: node::context_id(task),
            owner: run.principal.into(),
            key: run.principal.key.clone(),
            user_label: wanted.user_id.clone(),
            model: wanted.model_id.clone(),
            metadata: node::metadata(&wanted.metadata).map_err(TaskFault::lasting)?,
            created_at: node::kept(now),
            expires_at: settings.expires_at(now).map(node::kept),
            nodes,
        };
        let created = self.0.conversations.create(&new, settings.room()).await;
        let made = match created.map_err(|error| fault(error.into()))? {
            Created::New { conversation, evicted } => {
                self.0.metrics.changed(Change::Created, 1);
                self.0
                    .metrics
                    .changed(Change::Evicted, u64::try_from(evicted.len()).unwrap_or(0));
                for id in &evicted {
                    self.0.tell(id);
                }
                conversation
            }
            Created::Repeat(conversation) => conversation,
            Created::Full { count } => {
                self.0.metrics.changed(Change::Refused, 1);
                return Err(TaskFault::lasting(full(count, settings.contexts_max.get())));
            }
        };
        if wanted.return_context == Some(false) {
            return output(&info(&made, None)).map_err(TaskFault::lasting);
        }
        output(&self.0.whole(&made).await.map_err(fault)?).map_err(TaskFault::lasting)
    }
}

fn full(count: u64, most: u32) -> Failure {
    let message = format!("Your tenant has {count} contexts; `mcp.max_contexts` allows {most}.");
    Failure::new(Code::ContextLimit, message)
        .hint("Delete one that nobody needs, or ask an administrator for more.")
        .details(serde_json::json!({ "limit": most, "count": count }))
}
