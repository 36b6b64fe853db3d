//! `mcp.add_node` and `mcp.delete_node`.

use super::{
    delete::{removal, removed},
    fault,
    of::Deed,
};
use crate::contexts::{
    Inner,
    input::{self, About, NodeRef},
    node, unknown_node,
};
use forebay_api::{ContextNodeAdd, ContextNodeAdded, ContextNodeDeleted};
use forebay_domain::{Failure, port::TaskRun, task::TaskFault};
use forebay_store::conversations::Append;

pub(super) struct Add;

impl Deed for Add {
    const TYPE: &'static str = input::ADD_NODE;
    type Body = ContextNodeAdd;
    type Output = ContextNodeAdded;

    fn check(inner: &Inner, body: &ContextNodeAdd) -> Result<(), Failure> {
        input::check_node(body, &inner.settings.load()).map(drop)
    }

    async fn run(inner: &Inner, run: TaskRun<'_>, about: About<ContextNodeAdd>) -> Result<ContextNodeAdded, TaskFault> {
        let About { context, body } = about;
        let settings = inner.settings.load_full();
        let draft = input::check_node(&body, &settings).map_err(TaskFault::lasting)?;
        let now = inner.clock.now();
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
        let (found, nodes) = inner.append(&append).await?;
        let node = nodes.iter().find(|node| node.id == id);
        let node = node.ok_or_else(|| TaskFault::lasting(unknown_node(&append.id, &id)))?;
        let whole = if body.return_context {
            Some(inner.whole(&found).await.map_err(fault)?)
        } else {
            None
        };
        Ok(ContextNodeAdded {
            context_id: append.id,
            node: node::shown(node),
            context: whole,
            task_id: None,
        })
    }
}

pub(super) struct Delete;

impl Deed for Delete {
    const TYPE: &'static str = input::DELETE_NODE;
    type Body = NodeRef;
    type Output = ContextNodeDeleted;

    async fn run(inner: &Inner, run: TaskRun<'_>, about: About<NodeRef>) -> Result<ContextNodeDeleted, TaskFault> {
        let About { context, body } = about;
        let removal = removal(&context, run, inner.clock.now());
        let expires_at = inner.settings.load().expires_at(removal.at);
        let gone = inner
            .conversations
            .delete_node(&removal, &body.node_id, expires_at)
            .await;
        let gone = gone.map_err(|error| fault(error.into()))?;
        if removed(gone, &context, Some(&body.node_id)).map_err(TaskFault::lasting)? {
            inner.tell(&context);
        }
        Ok(ContextNodeDeleted {
            context_id: context,
            node_id: body.node_id,
            deleted: true,
            task_id: None,
        })
    }
}
