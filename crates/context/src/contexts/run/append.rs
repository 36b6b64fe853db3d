//! Adding nodes to a context, once for each task.

use super::fault;
use crate::contexts::{Inner, unknown, unknown_node};
use forebay_domain::{Code, Failure, task::TaskFault};
use forebay_store::conversations::{Append, Appended, StoredConversation, StoredNode};
use std::time::Duration;

/// The wait before the database is asked again to take what was paid for.
const KEEP_AGAIN: Duration = Duration::from_millis(500);

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

    /// The same with what was paid for: while the database does not take it that is tried again, for as long as this run may
    /// go on, or it would be paid for once more.
    pub(super) async fn keep(&self, append: &Append) -> Result<(StoredConversation, Vec<StoredNode>), TaskFault> {
        loop {
            match self.append(append).await {
                Err(fault) if matches!(fault.failure.code, Code::StoreFull | Code::StoreUnavailable) => {
                    tokio::time::sleep(KEEP_AGAIN).await;
                }
                came => return came,
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
