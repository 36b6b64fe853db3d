//! The ways to ask a model: OpenAI's API, and Anthropic's messages. Bodies pass through; see `llm`.
//!
//! Every route stands twice, with `/v1` before it and without, since clients differ in what they take for the base of
//! an API.

mod ask;
mod models;
pub(crate) mod responses;

use crate::{app::App, door::Caller};
use axum::{
    Extension,
    extract::{Request, State},
    response::Response,
};
use forebay_domain::model::Endpoint;
use std::sync::Arc;

macro_rules! asking {
    ($($(#[doc = $doc:tt])* $name:ident $path:tt $endpoint:ident $answer:tt;)*) => {$(
        $(#[doc = $doc])*
        #[utoipa::path(post, path = $path, tag = "openai", request_body = Value,
            params(
                ("x-forebay-mcp-context" = Option<String>, Header, description = "a JSON object like the field `mcp_context`, which wins"),
                ("x-forebay-priority" = Option<String>, Header, description = "low, medium, high or critical, among those that wait for the same model"),
            ),
            responses((status = 200, body = Value, description = $answer)))]
        pub(crate) async fn $name(
            State(app): State<Arc<App>>,
            Extension(caller): Extension<Caller>,
            request: Request,
        ) -> Response {
            super::ask::answer(&app, &caller, Endpoint::$endpoint, request).await
        }
    )*};
}

/// The routes as they are documented.
pub(crate) mod v1 {
    pub(crate) use super::models::v1::{__path_list, __path_show, list, show};
    use super::{App, Arc, Caller, Endpoint, Extension, Request, Response, State};

    asking! {
        /// Asks a model; streamed where the body says `"stream": true`.
        chat "/v1/chat/completions" Chat "OpenAI's chat completion, or its chunks as server-sent events";
        /// Asks a model to go on with a prompt.
        completions "/v1/completions" Completions "OpenAI's completion, or its chunks as server-sent events";
        /// Turns texts into vectors.
        embeddings "/v1/embeddings" Embeddings "OpenAI's list of embeddings";
        /// Asks a model in the form of OpenAI's Responses API.
        responses "/v1/responses" Responses "OpenAI's response, or its events";
        /// Asks a model in the form of Anthropic's Messages API. Errors have Anthropic's form too.
        messages "/v1/messages" Messages "Anthropic's message, or its events";
    }
}

/// The same without `/v1`.
pub(crate) mod bare {
    pub(crate) use super::models::bare::{__path_list, __path_show, list, show};
    use super::{App, Arc, Caller, Endpoint, Extension, Request, Response, State};

    asking! {
        /// The same as `/v1/chat/completions`.
        chat "/chat/completions" Chat "OpenAI's chat completion, or its chunks as server-sent events";
        /// The same as `/v1/completions`.
        completions "/completions" Completions "OpenAI's completion, or its chunks as server-sent events";
        /// The same as `/v1/embeddings`.
        embeddings "/embeddings" Embeddings "OpenAI's list of embeddings";
        /// The same as `/v1/responses`.
        responses "/responses" Responses "OpenAI's response, or its events";
        /// The same as `/v1/messages`.
        messages "/messages" Messages "Anthropic's message, or its events";
    }
}
