//! A prompt's answer as events: its pieces as the model says them, then the node that is kept.

use crate::{
    app::App,
    contexts::work::{self, Gone, Sent},
    door::Caller,
    errors,
};
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use forebay_domain::{Failure, id::TraceId, port::BoxFuture};
use forebay_work::{Delta, Deltas};
use futures_util::stream;
use http::{HeaderValue, header};
use serde_json::{Map, Value, json};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::time::{Interval, MissedTickBehavior, interval_at};

/// So that nobody on the way takes a model that thinks for a connection that is dead.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
const ALIVE: Bytes = Bytes::from_static(b": alive\n\n");
const RESTART: Bytes = Bytes::from_static(b"event: restart\ndata: {}\n\n");

struct Telling {
    deltas: Deltas,
    ended: BoxFuture<'static, Result<Map<String, Value>, Failure>>,
    /// The attempt whose pieces were told last.
    attempt: Option<u32>,
    /// A piece of a later attempt, behind the news that it begins anew.
    next: Option<Bytes>,
    alive: Interval,
    gone: Option<Gone>,
    trace: TraceId,
}

pub(super) fn answer(app: &Arc<App>, caller: &Caller, sent: &Sent, gone: Gone) -> Response {
    let deltas = app.work.watch().deltas(&sent.id);
    let (whole, principal, task) = (app.clone(), caller.principal.clone(), sent.clone());
    let ended = Box::pin(async move { work::wait_to_the_end(&whole, &principal, &task).await });
    let mut alive = interval_at(tokio::time::Instant::now() + SIGN_OF_LIFE, SIGN_OF_LIFE);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let telling = Telling {
        deltas,
        ended,
        attempt: None,
        next: None,
        alive,
        gone: Some(gone),
        trace: caller.trace,
    };
    let events = stream::unfold(Some(telling), |telling| async move {
        let mut telling = telling?;
        match telling.next().await {
            Told::Piece(event) => Some((Ok::<_, Infallible>(event), Some(telling))),
            Told::Last(event) => {
                if let Some(gone) = telling.gone.take() {
                    gone.stayed();
                }
                Some((Ok(event), None))
            }
        }
    });
    let mut response = Body::from_stream(events).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that buffer would hold a stream back until it ends.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

enum Told {
    Piece(Bytes),
    Last(Bytes),
}

impl Telling {
    async fn next(&mut self) -> Told {
        if let Some(piece) = self.next.take() {
            return Told::Piece(piece);
        }
        loop {
            tokio::select! {
                // Pieces first, so that none of them is left when the node comes.
                biased;
                delta = self.deltas.next() => match delta {
                    Some(Delta::Piece { attempt, bytes }) => return Told::Piece(self.piece(attempt, &bytes)),
                    // Another attempt may tell more; what was missed stands in the node.
                    Some(Delta::Missed) | None => {}
                },
                came = &mut self.ended => return Told::Last(last(came, self.trace)),
                _ = self.alive.tick() => return Told::Piece(ALIVE),
            }
        }
    }

    fn piece(&mut self, attempt: u32, bytes: &Bytes) -> Bytes {
        let event = event("delta", bytes);
        if self.attempt.replace(attempt).is_none_or(|before| before == attempt) {
            return event;
        }
        self.next = Some(event);
        RESTART
    }
}

fn last(came: Result<Map<String, Value>, Failure>, trace: TraceId) -> Bytes {
    match came {
        Ok(output) => event("node", Value::Object(output).to_string().as_bytes()),
        Err(failure) => {
            errors::log(&failure, trace);
            let problem = json!(errors::problem_of(&failure, trace));
            event("error", problem.to_string().as_bytes())
        }
    }
}

/// What is told is one line: JSON has no line breaks of its own.
fn event(name: &str, data: &[u8]) -> Bytes {
    let mut event = format!("event: {name}\ndata: ").into_bytes();
    event.extend_from_slice(data);
    event.extend_from_slice(b"\n\n");
    event.into()
}
