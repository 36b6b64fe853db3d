//! `mcp.add_node` and `mcp.delete_node`.

use super::{fault, limits, may_write, output};
use crate::contexts::{
    Inner,
    input::{self, About, NodeRef},
    node, unknown, unknown_node,
};
use bytes::Bytes;
use forebay_api::{ContextNodeAdd, ContextNodeAdded, ContextNodeDeleted};
use forebay_domain::{
    Code, Failure, Principal,
    port::{BoxFuture, RunTask, TaskRun},
    task::{Queued, TaskFault, TypeLimits},
};
use forebay_store::conversations::{Append, Appended, NodeDeleted, StoredConversation, StoredNode};
use std::sync::Arc;

pub(super) struct Add(pub(super) Arc<Inner>);

impl RunTask for Add {
    fn task_type(&self) -> &str {
        input::ADD_NODE
    }

    fn limits(&self) -> TypeLimits {
        limits(input::ADD_NODE)
    }

    fn accept(&self, _principal: &Principal, input: &[u8]) -> Result<(), Failure> {
        let about: About<ContextNodeAdd> = input::read_about(input)?;
        input::check_node(&about.body, &self.0.settings.load()).map(drop)
    }

    fn queued(&self, input: &[u8]) -> Queued {
        input::queued(input, self.limits().retry)
    }

    fn run<'a>(&'a self, run: TaskRun<'a>) -> BoxFuture<'a, Result<Bytes, TaskFault>> {
        Box::pin(self.add(run))
    }
}

impl Add {
    async fn add(&self, run: TaskRun<'_>) -> Result<Bytes, TaskFault> {
        may_write(&run).map_err(TaskFault::lasting)?;
        let About { context, body } = input::read_about::<ContextNodeAdd>(run.input).map_err(TaskFault::lasting)?;
        let settings = self.0.settings.load_full();
        let draft = input::check_node(&body, &settings).map_err(TaskFault::lasting)?;
        let now = self.0.clock.now();
        let mut wanted = draft.node(run.id.as_str(), 0, now);
        wanted.parent.clone_from(&body.parent_id);
        let id = wanted.id.clone();
        let append = Append {
            id: context,
            owner: run.principal.into(),
            version: None,
            nodes: vec![wanted],
            nodes_max: settings.nodes_max(),
            bytes_max: settings.bytes_max(),
            at: now,
            expires_at: settings.expires_at(now),
        };
        let (found, nodes) = self.0.append(&append).await?;
        let node = nodes.iter().find(|node| node.id == id);
        let node = node.ok_or_else(|| TaskFault::lasting(unknown_node(&append.id, &id)))?;
        let whole = if body.return_context {
            Some(self.0.whole(&found).await.map_err(fault)?)
        } else {
            None
        };
        output(&ContextNodeAdded {
            context_id: append.id,
            node: node::shown(node),
            context: whole,
            task_id: None,
        })
        .map_err(TaskFault::lasting)
    }
}

pub(super) struct Delete(pub(super) Arc<Inner>);

impl RunTask for Delete {
    fn task_type(&self) -> &str {
        input::DELETE_NODE
    }

    fn limits(&self) -> TypeLimits {
        limits(input::DELETE_NODE)
    }

    fn accept(&self, _principal: &Principal, input: &[u8]) -> Result<(), Failure> {
        input::read_about::<NodeRef>(input).map(drop)
    }

    fn queued(&self, input: &[u8]) -> Queued {
        input::queued(input, self.limits().retry)
    }

    fn run<'a>(&'a self, run: TaskRun<'a>) -> BoxFuture<'a, Result<Bytes, TaskFault>> {
        Box::pin(self.delete(run))
    }
}

impl Delete {
    async fn delete(&self, run: TaskRun<'_>) -> Result<Bytes, TaskFault> {
        may_write(&run).map_err(TaskFault::lasting)?;
        let About { context, body } = input::read_about::<NodeRef>(run.input).map_err(TaskFault::lasting)?;
        let now = self.0.clock.now();
        let (owner, expires_at) = (run.principal.into(), self.0.settings.load().expires_at(now));
        let deleted = self
            .0
            .conversations
            .delete_node(&context, &owner, &body.node_id, now, expires_at);
        match deleted.await.map_err(|error| fault(error.into()))? {
            NodeDeleted::Gone => self.0.tell(&context),
            // An earlier run did it, and was not heard of again.
            NodeDeleted::NoNode if run.attempt > 1 => {}
            NodeDeleted::NoNode => return Err(TaskFault::lasting(unknown_node(&context, &body.node_id))),
            NodeDeleted::NoConversation => return Err(TaskFault::lasting(unknown(&context))),
        }
        output(&ContextNodeDeleted {
            context_id: context,
            node_id: body.node_id,
            deleted: true,
            task_id: None,
        })
        .map_err(TaskFault::lasting)
    }
}

impl Inner {
    /// Adds nodes, and gives the context as it is then with the nodes that this task made, now or before.
    pub(super) async fn append(&self, append: &Append) -> Result<(StoredConversation, Vec<StoredNode>), TaskFault> {
        let appended = self.conversations.append(append).await;
        match appended.map_err(|error| fault(error.into()))? {
            Appended::Added(found, nodes) => {
                self.tell(&append.id);
                Ok((*found, nodes))
            }
            Appended::Repeat => {
                let found = self.find(&append.owner, &append.id).await.map_err(fault)?;
                let all = self.conversations.nodes(&found).await;
                let mut nodes = all.map_err(|error| fault(error.into()))?;
                nodes.retain(|node| append.nodes.iter().any(|wanted| wanted.task == node.task));
                Ok((found, nodes))
            }
            Appended::Unknown => Err(TaskFault::lasting(unknown(&append.id))),
            Appended::NoParent(parent) => Err(TaskFault::lasting(unknown_node(&append.id, &parent))),
            Appended::Full { nodes, bytes } => Err(TaskFault::lasting(full(append, nodes, bytes))),
            Appended::Changed => {
                let message = format!("The context `{}` was changed meanwhile.", append.id);
                Err(TaskFault::passing(
                    Failure::new(Code::Conflict, message).hint("Try again."),
                ))
            }
        }
    }
}

pub(super) fn full(append: &Append, nodes: u64, bytes: u64) -> Failure {
    let (nodes_max, bytes_max) = (append.nodes_max, append.bytes_max);
    let message = format!(
        "The context `{}` would have {nodes} nodes and {bytes} bytes; it has at most {nodes_max} and {bytes_max}.",
        append.id
    );
    Failure::new(Code::ContextFull, message).hint("Delete nodes of it, or begin a new context.")
}
