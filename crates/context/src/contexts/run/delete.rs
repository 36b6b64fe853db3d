//! `mcp.delete_context`, and what came of anything that was to be taken away.

use super::{fault, of::Deed};
use crate::contexts::{
    Inner,
    input::{self, About, Whole},
    metrics::Change,
    unknown, unknown_node,
};
use forebay_api::ContextDeleted;
use forebay_domain::{Failure, port::TaskRun, task::TaskFault};
use forebay_store::conversations::{Removal, Removed};
use jiff::Timestamp;

pub(super) struct Delete;

impl Deed for Delete {
    const TYPE: &'static str = input::DELETE;
    type Body = Whole;
    type Output = ContextDeleted;

    async fn run(inner: &Inner, run: TaskRun<'_>, about: About<Whole>) -> Result<ContextDeleted, TaskFault> {
        let context = about.context;
        let removal = removal(&context, run, inner.clock.now());
        let gone = inner.conversations.delete(&removal).await;
        let gone = gone.map_err(|error| fault(error.into()))?;
        if removed(gone, &context, None).map_err(TaskFault::lasting)? {
            inner.metrics.changed(Change::Deleted, 1);
            inner.tell(&context);
        }
        Ok(ContextDeleted {
            id: context,
            deleted: true,
            task_id: None,
        })
    }
}

/// What a run wants to be taken away.
pub(super) fn removal(context: &str, run: TaskRun<'_>, at: Timestamp) -> Removal {
    Removal {
        id: context.to_owned(),
        owner: run.principal.into(),
        task: run.id.as_str().to_owned(),
        at,
    }
}

/// Whether this run took it away, or an earlier one of the same task that was not heard of again.
pub(super) fn removed(came: Removed, context: &str, node: Option<&str>) -> Result<bool, Failure> {
    match came {
        Removed::Gone => Ok(true),
        Removed::Repeat => Ok(false),
        Removed::NoConversation => Err(unknown(context)),
        Removed::NoNode => Err(unknown_node(context, node.unwrap_or_default())),
    }
}
