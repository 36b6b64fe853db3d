//! OpenAI's API: `/v1/models` and `/v1/chat/completions`. Bodies pass through; see `llm`.

use crate::{
    app::App,
    door::Caller,
    errors::{self, Dialect},
    http::body,
};
use axum::{
    Extension, Json,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use forebay_domain::{
    Failure,
    event::Surface,
    id::TraceId,
    json,
    model::{Answer, AnswerForm, Endpoint, Hints, ModelRequest},
    port::{AskModel, Via},
};
use futures_util::StreamExt;
use http::{HeaderValue, header};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{borrow::Cow, sync::Arc};

/// The models that the caller may ask.
#[utoipa::path(get, path = "/v1/models", tag = "openai",
    responses((status = 200, body = Value, description = "OpenAI's list of models")))]
pub(crate) async fn models(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Json<Value> {
    let created = app.started_at.as_second();
    let models: Vec<Value> = app
        .models
        .models(&caller.principal)
        .into_iter()
        .map(|model| json!({"id": model.name, "object": "model", "created": created, "owned_by": "forebay"}))
        .collect();
    Json(json!({"object": "list", "data": models}))
}

/// Asks a model; streamed where the body says `"stream": true`.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "openai", request_body = Value,
    responses((status = 200, body = Value, description = "OpenAI's chat completion, or its chunks as server-sent events")))]
pub(crate) async fn chat(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    match ask(&app, &caller, request).await {
        Ok(answer) => pass_on(answer, caller.trace),
        Err(failure) => errors::respond(Dialect::OpenAi, &failure, caller.trace),
    }
}

async fn ask(app: &App, caller: &Caller, request: Request) -> Result<Answer, Failure> {
    let (parts, stream) = request.into_parts();
    body::require_json(&parts.headers)?;
    let body = body::read(stream, app.body_bytes_max).await?;
    json::check_strict(&body)?;
    let model = model_of(&body)?;
    let via = Via {
        surface: Surface::OpenAi,
        trace: caller.trace,
    };
    app.models
        .complete(
            &caller.principal,
            ModelRequest {
                endpoint: Endpoint::Chat,
                model,
                body,
                hints: Hints::default(),
            },
            via,
        )
        .await
}

fn model_of(body: &[u8]) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        model: Cow<'a, str>,
    }
    let named: Named<'_> = serde_json::from_slice(body).map_err(|_| {
        Failure::new(
            forebay_domain::Code::InvalidRequest,
            "The body names no `model`, or not as text.",
        )
        .hint("Send a JSON object with `model` and `messages`; `GET /v1/models` lists the models.")
        .details(json!({"param": "model"}))
    })?;
    Ok(named.model.into_owned())
}

/// The body goes out as it comes in, chunk by chunk. A stream that fails midway ends with an error event, since its
/// status has long been sent; a whole answer that fails midway breaks off, which every client notices.
fn pass_on(answer: Answer, trace: TraceId) -> Response {
    let Answer { form, body } = answer;
    let body = body.map(move |chunk| match (chunk, form) {
        (Err(failure), AnswerForm::Events) => {
            errors::log(&failure, trace);
            Ok(Bytes::from(format!("data: {}\n\n", errors::open_ai_body(&failure))))
        }
        (chunk, _) => chunk,
    });
    let kind = match form {
        AnswerForm::Whole => "application/json",
        AnswerForm::Events => "text/event-stream",
    };
    let mut response = Body::from_stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if form == AnswerForm::Events {
        // Proxies that buffer would hold a stream back until it ends.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    }
    response
}
