//! From a request to its answer, and through the script of faults.

use super::{Answer, Ask, Fault, Route, Seen, Shared, Vendor, control, line::Cut, line::Listening};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, Request, State},
    response::Response,
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::json;
use std::{convert::Infallible, io, sync::Arc};
use tokio::time::Instant;

const REQUEST_BYTES_MAX: usize = 16 << 20;
/// Of the log; the oldest go first.
const SEEN_MAX: usize = 20_000;

pub(super) async fn run<V: Vendor>(listening: Listening, shared: Arc<Shared<V>>) {
    let app: Router = Router::new().fallback(handle::<V>).with_state(shared);
    let _ = axum::serve(listening, app.into_make_service_with_connect_info::<Cut>()).await;
}

async fn handle<V: Vendor>(
    State(shared): State<Arc<Shared<V>>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    request: Request,
) -> Response {
    let Some(mut seen) = read(request).await else {
        return whole(Answer::empty(400));
    };
    if let Some(rest) = seen.path.strip_prefix("/_fake/") {
        return whole(control::answer(&shared, rest, &seen));
    }
    let routes = shared.vendor.lock().unwrap().routes();
    let (route, parameters) = match find(routes, &seen.method, &seen.path) {
        Ok(found) => found,
        Err(stranger) => {
            log(&shared, seen);
            return whole(stranger);
        }
    };
    seen.route = route.name;
    log(&shared, seen.clone());
    let fault = shared.script.lock().unwrap().next(route.name);
    let act = |special| shared.act(&seen, &parameters, special);
    match fault {
        Fault::Pass => whole(act(None)),
        Fault::Special(name) => whole(act(Some(name))),
        Fault::Instead(answer) => whole(answer),
        Fault::DropBefore => {
            cut.hang_up();
            whole(Answer::empty(500))
        }
        Fault::Held => {
            pass_gate(&shared).await;
            whole(act(None))
        }
        Fault::DropAfter => {
            act(None);
            cut.hang_up();
            whole(Answer::empty(500))
        }
        Fault::Afterwards(answer) => {
            act(None);
            whole(answer)
        }
        Fault::Empty => whole(Answer::empty(act(None).status)),
        Fault::Garbage => whole(Answer {
            status: act(None).status,
            ..Answer::html(200)
        }),
        Fault::Truncated => truncated(&act(None)),
        Fault::Endless => endless(&act(None)),
        Fault::HeldAfter => {
            let answer = act(None);
            pass_gate(&shared).await;
            whole(answer)
        }
    }
}

impl<V: Vendor> Shared<V> {
    fn act(&self, seen: &Seen, parameters: &[String], special: Option<&'static str>) -> Answer {
        let now = self.now();
        let mut vendor = self.vendor.lock().unwrap();
        vendor.pass(now);
        vendor.answer(&Ask {
            seen,
            parameters,
            now,
            special,
        })
    }
}

async fn pass_gate<V: Vendor>(shared: &Shared<V>) {
    shared.gate.acquire().await.expect("the gate is never closed").forget();
}

fn log<V: Vendor>(shared: &Shared<V>, seen: Seen) {
    shared.log.send_modify(|log| {
        if log.len() >= SEEN_MAX {
            log.remove(0);
        }
        log.push(seen);
    });
}

/// The route, or how a provider answers what it does not know.
fn find(routes: &'static [Route], method: &str, path: &str) -> Result<(&'static Route, Vec<String>), Answer> {
    let fitting = || {
        let fits = |route: &'static Route| Some((route, route.parameters(path)?));
        routes.iter().filter_map(fits)
    };
    let found = fitting().find(|(route, _)| route.method == method);
    found.ok_or_else(|| match fitting().next() {
        Some(_) => Answer::json(405, &json!({ "detail": "Method Not Allowed" })),
        None => Answer::json(404, &json!({ "detail": "Not Found" })),
    })
}

async fn read(request: Request) -> Option<Seen> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, REQUEST_BYTES_MAX).await.ok()?;
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), text(value)));
    let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
    Some(Seen {
        route: "",
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: query.into_owned().collect(),
        headers: headers.collect(),
        body,
        at: Instant::now(),
    })
}

fn head(answer: &Answer) -> http::response::Builder {
    let head = Response::builder().status(answer.status);
    let headers = answer.headers.iter();
    headers.fold(head, |head, (name, value)| head.header(name, value))
}

fn whole(answer: Answer) -> Response {
    head(&answer)
        .body(Body::from(answer.body))
        .expect("a fake's headers are headers")
}

/// Announces all of the answer, sends half of it, and ends the connection.
fn truncated(answer: &Answer) -> Response {
    let half = answer.body.slice(..answer.body.len() / 2);
    let end = async {
        // The half has to leave first: only whoever is not ready is flushed.
        tokio::task::yield_now().await;
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    };
    let pieces = stream::once(async { Ok(half) }).chain(stream::once(end));
    head(answer)
        .header("content-length", answer.body.len())
        .body(Body::from_stream(pieces))
        .expect("a fake's headers are headers")
}

/// Spaces before the answer, for ever: no parser can say that it is wrong so far.
fn endless(answer: &Answer) -> Response {
    let spaces = Bytes::from_static(&[b' '; 16 << 10]);
    let pieces = stream::repeat_with(move || Ok::<_, Infallible>(spaces.clone()));
    head(answer)
        .body(Body::from_stream(pieces))
        .expect("a fake's headers are headers")
}
