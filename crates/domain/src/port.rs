//! The verbs that one capability needs of another.
//!
//! Capabilities never import one another. A trait stands here only for one of the five verbs, and only once some
//! capability needs another's.

use crate::{
    Failure, Principal,
    context::{Context, ContextQuery},
    event::Surface,
    id::{TaskId, TraceId},
    model::{Answer, ModelInfo, ModelRequest, Priority},
    task::{Queued, Share, TaskFault, TypeLimits},
    tool::{ToolAnswer, ToolCall, ToolInfo},
};
use bytes::Bytes;
use jiff::Timestamp;
use std::{future::Future, pin::Pin, time::Duration};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where a call comes from, for the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via {
    pub surface: Surface,
    pub trace: TraceId,
    /// Whether a task is at work. What it calls must not wait for tasks: they may wait for its place.
    pub in_task: bool,
}

/// Ask a model. Implemented by `llm::Router` alone; used by the MCP tool `chat`, and by providers of context for their
/// embeddings.
pub trait AskModel: Send + Sync {
    /// Dropping the future, or the answer's body, cancels the request upstream.
    fn complete<'a>(
        &'a self,
        principal: &'a Principal,
        request: ModelRequest,
        via: Via,
    ) -> BoxFuture<'a, Result<Answer, Failure>>;

    /// The models that this principal may ask, by name.
    fn models(&self, principal: &Principal) -> Vec<ModelInfo>;
}

/// Call a tool. Implemented by `mcp::Catalogue` alone; used by the tool loop of a chat, and by the `mcp` provider of
/// context.
pub trait CallTool: Send + Sync {
    /// The tool of this name, if this principal may see and call it.
    fn find(&self, principal: &Principal, name: &str) -> Option<ToolInfo>;

    /// Why [`Self::find`] has nothing although the name is one of the gateway's: who asks may not call that tool, or its
    /// server does not offer it now. Nothing where the name means nothing here.
    fn withheld(&self, _principal: &Principal, _name: &str) -> Option<Failure> {
        None
    }

    /// The tools of one server that this principal may see and call; empty where there is no such server.
    fn of_server(&self, principal: &Principal, server: &str) -> Vec<ToolInfo>;

    /// Dropping the future cancels the call. A tool's own failure is an answer, not a failure.
    fn call<'a>(
        &'a self,
        principal: &'a Principal,
        call: ToolCall<'a>,
        via: Via,
    ) -> BoxFuture<'a, Result<ToolAnswer, Failure>>;

    /// Reads a resource: its text contents, joined.
    fn read<'a>(&'a self, principal: &'a Principal, uri: &'a str, via: Via) -> BoxFuture<'a, Result<String, Failure>>;
}

/// Read context: the part of "call a tool, read a resource" that looks for what belongs into a prompt. Implemented by
/// `context::Providers` alone; used by `llm`.
pub trait FindContext: Send + Sync {
    /// Fails where a provider is unknown or not allowed (`context:<name>`), or where one fails and the query or the
    /// configuration says that this is to fail the request.
    fn find<'a>(
        &'a self,
        principal: &'a Principal,
        query: &'a ContextQuery,
        via: Via,
    ) -> BoxFuture<'a, Result<Context, Failure>>;
}

/// Do later. Implemented by `forebay-work` alone; used by `mcp` for tools that run as tasks, and by `llm` for responses that
/// nobody waits for.
pub trait DoLater: Send + Sync {
    /// Queues it, with what the configuration says for its type. Once this has answered, it outlives the process.
    fn submit<'a>(&'a self, errand: Errand<'a>) -> BoxFuture<'a, Result<TaskId, Failure>>;

    /// Whether this process runs tasks itself.
    fn works(&self) -> bool;
}

/// What a capability puts off.
pub struct Errand<'a> {
    /// A [`crate::id::TaskType`] that somebody here can run.
    pub task_type: &'a str,
    pub principal: &'a Principal,
    /// JSON.
    pub input: Bytes,
    pub priority: Priority,
    /// How often it may be begun. The configuration may want it less often, and never more.
    pub attempts_max: u32,
    /// How long its output is wanted; the configuration says how long it is kept at most, and where this says nothing.
    pub kept: Option<Duration>,
    /// Whether this process is to run it, where it has a place for it within a moment.
    pub is_wanted_here: bool,
    pub trace: TraceId,
}

/// One run of a task: what it is about, until when, and whom to tell how it goes.
#[derive(Clone, Copy)]
pub struct TaskRun<'a> {
    pub id: &'a TaskId,
    /// Whose work it is, as they stand now: a key that was revoked since has ended the task.
    pub principal: &'a Principal,
    /// JSON, as it was submitted.
    pub input: &'a [u8],
    /// The first is 1.
    pub attempt: u32,
    pub attempts_max: u32,
    pub priority: Priority,
    pub trace: TraceId,
    /// The run is given up then.
    pub deadline: Timestamp,
    pub cancelled: &'a dyn Cancelled,
    pub tell: &'a dyn Tell,
}

/// Whether somebody wants a run to end. One that does not heed it is dropped a little later.
pub trait Cancelled: Send + Sync {
    fn is_cancelled(&self) -> bool;

    /// Completes when it is cancelled.
    fn cancelled(&self) -> BoxFuture<'_, ()>;
}

/// Tells whoever watches a run what it has so far. Nothing of it is kept: the output is what counts.
pub trait Tell: Send + Sync {
    fn tell(&self, piece: Bytes);
}

/// Do later. Each type of task is run by one of these; those that run them (`forebay-work`) know nothing of what they do.
///
/// A run may happen twice, since whoever ran it first may be gone without a word: its effect is made once by the task's
/// id, or its retry allows one attempt.
pub trait RunTask: Send + Sync {
    /// The type of the tasks that it runs: a [`crate::id::TaskType`].
    fn task_type(&self) -> &str;

    fn limits(&self) -> TypeLimits;

    /// How much of a process its runs may take up. What waits long for others leaves room.
    fn share(&self) -> Share {
        Share::Whole
    }

    /// Whether such a task may be submitted from outside. It is asked before anything is queued.
    fn accept(&self, _principal: &Principal, _input: &[u8]) -> Result<(), Failure> {
        Ok(())
    }

    /// How such a task is queued that comes from outside, and that was accepted.
    fn queued(&self, _input: &[u8]) -> Queued {
        Queued {
            retry: self.limits().retry,
            context_id: None,
            priority: None,
            stands_for: None,
        }
    }

    /// Gives the output, which is JSON. Dropping the future ends the run.
    fn run<'a>(&'a self, run: TaskRun<'a>) -> BoxFuture<'a, Result<Bytes, TaskFault>>;
}
