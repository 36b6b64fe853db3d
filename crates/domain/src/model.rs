//! Asking a model: the request and the answer as every surface hands them over.
//!
//! Bodies stay bytes. What the gateway does not know must reach the other side as it came, so nothing here is a typed
//! copy of somebody's API.

use crate::Failure;
use bytes::Bytes;
use futures_core::Stream;
use std::pin::Pin;

/// One chat completion to be asked of a configured model.
#[derive(Debug, Clone)]
pub struct ModelRequest {
    /// The name under which the configuration lists the model.
    pub model: String,
    /// The whole body as the client sent it: a JSON object, already checked by `json::check_strict`.
    pub body: Bytes,
}

/// An answer on its way. Dropping it cancels the upstream request.
pub struct Answer {
    pub form: AnswerForm,
    pub body: Pin<Box<dyn Stream<Item = Result<Bytes, Failure>> + Send>>,
}

/// How the answer is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerForm {
    /// One JSON document.
    Whole,
    /// Server-sent events, chunk by chunk as the engine sends them, ending in `data: [DONE]`.
    Events,
}

/// A model as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    pub name: String,
    /// The engine behind it, where configured (`vllm`, `llamacpp`, …).
    pub engine: Option<String>,
}
