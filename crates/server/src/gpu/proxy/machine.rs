//! A request to what runs on a machine, and its answer.

use super::{
    ANSWER_BYTES_MAX, Sent,
    answer::{Answered, Form, collect, shown},
    headers::Headers,
};
use crate::app::App;
use forebay_compute::rental::Rental;
use forebay_domain::{Code, Failure};
use forebay_mcp::call::CallContext;
use forebay_runtime::{
    Clock,
    http::{AllowList, Guarded, Rules, Schemes},
};
use futures_util::StreamExt;
use http::{HeaderValue, Method, header};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::time::Duration;
use tokio::sync::oneshot;
use url::Url;

const BEGIN_MAX: Duration = Duration::from_mins(5);
/// How often a machine is noted as used while a request to it lasts: more often than the shortest time after which one is
/// idle, which is a minute.
const USED_EVERY: SignedDuration = SignedDuration::from_secs(15);

/// Until it is dropped a machine is in use, whatever becomes of the request.
struct InUse {
    clock: Clock,
    over: Option<oneshot::Sender<Timestamp>>,
}

impl Drop for InUse {
    fn drop(&mut self) {
        // Noted is when its use ended, and not when there was time to write so.
        if let Some(over) = self.over.take() {
            let _nobody_notes_any_more = over.send(self.clock.now());
        }
    }
}

/// Notes that a machine is used. It holds nobody up, and fails nothing.
fn in_use(app: &App, rental: &str) -> InUse {
    let (over, mut is_over) = oneshot::channel();
    let (rentals, clock, id) = (app.rentals.clone(), app.clock.clone(), rental.to_owned());
    app.tasks.spawn("gpu.proxy.use", |stop| async move {
        let note = async |at: Timestamp| {
            if let Err(failure) = rentals.touch(&id, at).await {
                tracing::warn!(
                    rental.id = id,
                    error = failure.chain(),
                    "that a machine is used was not noted"
                );
            }
        };
        let last = loop {
            let now = clock.now();
            note(now).await;
            let next = now.saturating_add(USED_EVERY).unwrap_or(Timestamp::MAX);
            tokio::select! {
                biased;
                // Whoever has it always says when it ended.
                ended = &mut is_over => break ended.unwrap_or(now),
                () = stop.draining() => break clock.now(),
                () = clock.reaches(next) => {}
            }
        };
        note(last).await;
    });
    InUse {
        clock: app.clock.clone(),
        over: Some(over),
    }
}

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
    // It is in use from the first byte to the last, also where it refuses, breaks off, or nobody waits any more.
    let _in_use = in_use(app, &rental.id);
    let answer = app.guarded.open(request).await?;
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
    let mut told = json!({"status": status, "content_type": media_type, "body": shown(&body, form)});
    if !left_out.is_empty() {
        told["headers_left_out"] = json!(left_out);
    }
    Ok(Answered {
        bytes: body.len(),
        told,
    })
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
