//! An HTTP server of somebody else's, as unkind as they are.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::net::TcpListener;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query, byte for byte.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

pub(crate) struct Web {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _server: tokio_util::task::AbortOnDropHandle<()>,
}

impl Web {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let router = Router::new().fallback(answer).with_state(asked.clone());
        let server = async move { axum::serve(listener, router).await.unwrap() };
        Self {
            address,
            asked,
            _server: tokio_util::task::AbortOnDropHandle::new(spawn(server)),
        }
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

#[expect(clippy::disallowed_methods, reason = "a server of a test ends with its test")]
fn spawn(server: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
    tokio::spawn(server)
}

async fn answer(
    State(asked): State<Arc<Mutex<Vec<Asked>>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let target = uri.path_and_query().unwrap().to_string();
    asked.lock().unwrap().push(Asked {
        method: method.to_string(),
        target: target.clone(),
        headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    });
    let first = uri.path().split('/').nth(1).unwrap_or_default();
    let typed = |kind: &str, body: String| ([(header::CONTENT_TYPE, kind.to_owned())], body).into_response();
    match first {
        "found" => typed("application/json", found().to_string()),
        "brave" => typed(
            "application/json",
            json!({"web": {"results": [
            {"title": "One", "url": "https://one.example/", "description": "<strong>First</strong> of all"}]}})
            .to_string(),
        ),
        "nothing" => typed("application/json", json!({"query": {}}).to_string()),
        "json" => typed(
            "application/json",
            json!({"data": {"items": [1, 2]}, "target": target}).to_string(),
        ),
        "text" => typed("text/plain", "plain words".to_owned()),
        "image" => typed("image/png", "not for you".to_owned()),
        "liar" => typed("application/json", "{\"data\":".to_owned()),
        "metadata" => (
            StatusCode::FOUND,
            [(header::LOCATION, "http://169.254.169.254/latest/meta-data/")],
        )
            .into_response(),
        "refused" => (StatusCode::UNPROCESSABLE_ENTITY, "`q` is too short").into_response(),
        "broken" => (StatusCode::INTERNAL_SERVER_ERROR, "stack trace").into_response(),
        "forbidden" => StatusCode::FORBIDDEN.into_response(),
        "slow" => {
            tokio::time::sleep(Duration::from_mins(1)).await;
            StatusCode::OK.into_response()
        }
        "trickle" => {
            let drops = stream::repeat(()).then(async |()| {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok::<_, io::Error>(Bytes::from_static(b" "))
            });
            typed_stream(Body::from_stream(drops))
        }
        "huge" => {
            let megabyte = Bytes::from(vec![b' '; 1 << 20]);
            typed_stream(Body::from_stream(stream::iter(
                (0..50).map(move |_| Ok::<_, io::Error>(megabyte.clone())),
            )))
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn typed_stream(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// What a search finds, with everything in it that should not be there.
fn found() -> Value {
    json!({"query": "x", "results": [
        {"url": "https://one.example/a", "title": "One &amp; <b>only</b>", "content": "An <em>excerpt</em>\u{202e}\u{7}", "engine": "e"},
        {"url": "https://sub.two.example/b", "title": "Two", "content": "More"},
        {"url": "javascript:alert(1)", "title": "Evil", "content": "x"},
        {"url": "file:///etc/passwd", "title": "Evil", "content": "x"},
        {"url": "https://one.example/a", "title": "Again", "content": "x"},
        {"title": "Nowhere"},
        "nonsense",
        {"url": "https://two.example.evil.example/", "title": "Three", "content": null}
    ], "answers": []})
}
