//! One request to a model, in whichever API it was written: read, handed over, and the answer passed on as it comes.

use crate::{
    app::App,
    door::Caller,
    errors::{self, Dialect},
    http::{base_url, body},
};
use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use forebay_domain::{
    Code, Failure,
    event::Surface,
    id::TraceId,
    json,
    model::{Answer, Endpoint, Hints, ModelRequest, Priority},
    port::{AskModel, Via},
};
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use serde_json::json;
use std::{borrow::Cow, convert::Infallible};

const CONTEXT: &str = "x-forebay-mcp-context";
const PRIORITY: &str = "x-forebay-priority";

/// The answer, or the failure in the words of the endpoint's own API.
pub(super) async fn answer(app: &App, caller: &Caller, endpoint: Endpoint, request: Request) -> Response {
    match ask(app, caller, endpoint, request).await {
        Ok(answer) => pass_on(endpoint, answer, caller.trace),
        Err(failure) => errors::respond(dialect(endpoint), &failure, caller.trace),
    }
}

fn dialect(endpoint: Endpoint) -> Dialect {
    match endpoint {
        Endpoint::Chat | Endpoint::Completions | Endpoint::Embeddings | Endpoint::Responses => Dialect::OpenAi,
        Endpoint::Messages => Dialect::Anthropic,
    }
}

async fn ask(app: &App, caller: &Caller, endpoint: Endpoint, request: Request) -> Result<Answer, Failure> {
    let (parts, stream) = request.into_parts();
    body::require_json(&parts.headers)?;
    let base_url = Some(base_url(app, &parts.headers));
    let hints = Hints {
        base_url,
        ..hints(&parts.headers)?
    };
    let body = body::read(stream, app.body_bytes_max).await?;
    json::check_strict(&body)?;
    let request = ModelRequest {
        endpoint,
        model: model_of(&body)?,
        body,
        hints,
    };
    let via = Via {
        surface: Surface::OpenAi,
        trace: caller.trace,
        in_task: false,
    };
    app.models.complete(&caller.principal, request, via).await
}

/// What the headers say of the request. The context in one of them is read where the body's own would be.
fn hints(headers: &HeaderMap) -> Result<Hints, Failure> {
    let priority = match single(headers, PRIORITY)? {
        None => Priority::default(),
        Some(word) => word.to_str().ok().and_then(Priority::parse).ok_or_else(|| {
            unfit(PRIORITY, "is no priority")
                .hint("Send `low`, `medium`, `high` or `critical`, or a number from 1 to 4.")
        })?,
    };
    let context = single(headers, CONTEXT)?.map(|value| Bytes::copy_from_slice(value.as_bytes()));
    Ok(Hints {
        context,
        priority,
        base_url: None,
    })
}

fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a HeaderValue>, Failure> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err(unfit(name, "is there more than once").hint("Send it once.")),
    }
}

fn unfit(name: &'static str, what: &str) -> Failure {
    Failure::new(Code::InvalidRequest, format!("The header `{name}` {what}.")).details(json!({"param": name}))
}

fn model_of(body: &[u8]) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        model: Cow<'a, str>,
    }
    let named: Named<'_> = serde_json::from_slice(body).map_err(|_| {
        Failure::new(Code::InvalidRequest, "The body names no `model`, or not as text.")
            .hint("Send a JSON object with `model`; `GET /v1/models` lists the models.")
            .details(json!({"param": "model"}))
    })?;
    Ok(named.model.into_owned())
}

/// A whole answer goes out in one piece, a stream chunk by chunk as it comes in. A stream that fails midway ends with an
/// error event, since its status has long been sent.
fn pass_on(endpoint: Endpoint, answer: Answer, trace: TraceId) -> Response {
    let (kind, mut response) = match answer {
        Answer::Whole(document) => ("application/json", document.into_response()),
        Answer::Events(body) => {
            let events = body.map(move |chunk| {
                Ok::<_, Infallible>(chunk.unwrap_or_else(|failure| {
                    errors::log(&failure, trace);
                    error_event(endpoint, &failure, trace)
                }))
            });
            let mut response = Body::from_stream(events).into_response();
            // Proxies that buffer would hold a stream back until it ends.
            let unbuffered = HeaderValue::from_static("no");
            response.headers_mut().insert("x-accel-buffering", unbuffered);
            ("text/event-stream", response)
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A failure as the last event of a stream, in the form that the endpoint's own clients raise.
fn error_event(endpoint: Endpoint, failure: &Failure, trace: TraceId) -> Bytes {
    let event = match endpoint {
        Endpoint::Chat | Endpoint::Completions | Endpoint::Embeddings => {
            format!("data: {}\n\n", errors::open_ai_body(failure))
        }
        Endpoint::Messages => format!("event: error\ndata: {}\n\n", errors::anthropic_body(failure, trace)),
        Endpoint::Responses => {
            let mut body = errors::open_ai_body(failure);
            body["type"] = json!("error");
            for member in ["code", "message", "param"] {
                body[member] = body["error"][member].clone();
            }
            format!("event: error\ndata: {body}\n\n")
        }
    };
    Bytes::from(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_failure_ends_a_stream_in_the_form_of_its_api() {
        let failure = Failure::new(Code::UpstreamTruncated, "The engine broke off.");
        let trace = TraceId::from_bytes([1; 16]).unwrap();
        for endpoint in Endpoint::ALL {
            let event = error_event(endpoint, &failure, trace);
            let event = str::from_utf8(&event).unwrap();
            let (head, data) = event.trim_end().split_once("data: ").unwrap();
            let data: Value = serde_json::from_str(data).unwrap();
            let (named, of_type) = (head.trim_end(), data["type"].as_str());
            let expected = match endpoint {
                Endpoint::Chat | Endpoint::Completions | Endpoint::Embeddings => ("", None),
                Endpoint::Responses | Endpoint::Messages => ("event: error", Some("error")),
            };
            assert_eq!((named, of_type), expected, "{event}");
            assert_eq!(data["error"]["forebay_code"], "upstream_truncated", "{event}");
            assert!(event.ends_with("\n\n"), "{event}");
        }
    }
}
