//! A request to what runs on a machine, and its answer.

use super::{
    ANSWER_BYTES_MAX, Sent,
    answer::{Answered, Form, collect, shown},
    headers::Headers,
};
use crate::app::App;
use forebay_compute::rental::Rental;
use forebay_domain::{Code, Failure, market::Provider};
use forebay_mcp::call::CallContext;
use forebay_runtime::http::{AllowList, Guarded, Rules, Schemes};
use futures_util::StreamExt;
use http::{HeaderValue, Method, header};
use serde_json::json;
use std::time::Duration;
use url::Url;

const BEGIN_MAX: Duration = Duration::from_mins(5);

pub(super) async fn machine(
    app: &App,
    (rental, url, method): (&Rental, Url, Method),
    wish: Sent,
    context: &CallContext,
) -> Result<Answered, Failure> {
    let mut request = reqwest::Request::new(method, url);
    let Headers { kept, left_out } = Headers::of(&wish.headers)?;
    *request.headers_mut() = kept;
    if let Some((bytes, media_type)) = wish.body {
        let headers = request.headers_mut();
        headers
            .entry(header::CONTENT_TYPE)
            .or_insert(HeaderValue::from_static(media_type));
        *request.body_mut() = Some(bytes.into());
    }
    let answer = open(app, rental, request).await?;
    let status = answer.status().as_u16();
    let media_type = answer
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media_type = media_type.unwrap_or_default().to_owned();
    let form = match media_type.split(';').next().unwrap_or_default().trim() {
        "text/event-stream" | "application/x-ndjson" => Form::Stream,
        "application/json" => Form::Json,
        _ => Form::Text,
    };
    let chunks = answer.bytes_stream().map(|chunk| {
        chunk.map_err(|error| {
            Failure::new(Code::UpstreamTruncated, "The machine broke off its answer.").caused_by(error.without_url())
        })
    });
    let body = collect(chunks.boxed(), form, context).await?;
    // It was used, so it is not idle.
    app.rentals.touch(&rental.id).await?;
    let mut told = json!({"status": status, "content_type": media_type, "body": shown(&body, form)});
    if !left_out.is_empty() {
        told["headers_left_out"] = json!(left_out);
    }
    Ok(Answered {
        bytes: body.len(),
        told,
    })
}

async fn open(app: &App, rental: &Rental, request: reqwest::Request) -> Result<reqwest::Response, Failure> {
    if rental.provider() == Provider::Local {
        let asked = tokio::time::timeout(BEGIN_MAX, app.http.execute(request)).await;
        return asked
            .map_err(|_| Failure::new(Code::UpstreamTimedOut, "The machine did not answer in time."))?
            .map_err(|error| {
                Failure::new(Code::UpstreamFailed, "The machine could not be reached.").caused_by(error.without_url())
            });
    }
    app.guarded.open(request).await
}

/// The client for what providers say of their machines.
pub(crate) fn guarded(allow: AllowList) -> Guarded {
    Guarded::new(Rules {
        schemes: Schemes::HttpAndHttps,
        allow,
        body_bytes_max: ANSWER_BYTES_MAX,
        deadline: BEGIN_MAX,
    })
}
