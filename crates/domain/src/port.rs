//! The verbs that one capability needs of another.
//!
//! Capabilities never import one another. A trait stands here only for one of the five verbs, and only once some
//! capability needs another's.

use crate::{
    Failure, Principal,
    event::Surface,
    id::TraceId,
    model::{Answer, ModelInfo, ModelRequest},
};
use std::{future::Future, pin::Pin};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where a call comes from, for the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via {
    pub surface: Surface,
    pub trace: TraceId,
}

/// Ask a model. Implemented by `llm::Router` alone; used by the MCP tool `chat`.
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
