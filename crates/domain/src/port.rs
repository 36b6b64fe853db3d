//! The verbs that one capability needs of another.
//!
//! Capabilities never import one another. A trait stands here only for one of the five verbs, and only once some
//! capability needs another's.

use crate::{
    Failure, Principal,
    context::{Context, ContextQuery},
    event::Surface,
    id::TraceId,
    model::{Answer, ModelInfo, ModelRequest},
    tool::{ToolAnswer, ToolCall, ToolInfo},
};
use std::{future::Future, pin::Pin};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where a call comes from, for the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via {
    pub surface: Surface,
    pub trace: TraceId,
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
