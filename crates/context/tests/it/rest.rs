//! `rest`: a service that answers as it should, and as it should not.

use crate::world::World;
use axum::{
    Router,
    body::Body,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use forebay_domain::{Code, context::Strategy};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::net::TcpListener;

type Heard = Arc<Mutex<Vec<(HashMap<String, String>, HeaderMap, Value)>>>;

struct Service {
    address: SocketAddr,
    heard: Heard,
    tasks: forebay_runtime::Tasks,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.tasks.stop().end();
    }
}

async fn service() -> Service {
    let heard = Heard::default();
    let endless = || stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from(vec![b' '; 64 << 10])));
    let broken = || {
        let begin = stream::iter([Ok(Bytes::from_static(b"{\"results\": [{\"text\":"))]);
        begin.chain(stream::iter([Err(io::Error::other("cut"))]))
    };
    let html = "<html><body>Sign in</body></html>";
    let app = Router::new()
        .route("/v1/search", get(answer))
        .route("/v1/find", post(find))
        .route("/v1/slow", get(std::future::pending::<()>))
        .route("/v1/huge", get(async move || Body::from_stream(endless())))
        .route("/v1/broken", get(async move || Body::from_stream(broken())))
        .route(
            "/v1/html",
            get(async move || ([(header::CONTENT_TYPE, "text/html")], html)),
        )
        .route(
            "/v1/fails",
            get(async || (StatusCode::SERVICE_UNAVAILABLE, "secret trace")),
        )
        .route(
            "/v1/away",
            get(async || {
                (
                    StatusCode::FOUND,
                    [(header::LOCATION, "http://169.254.169.254/latest/")],
                )
            }),
        )
        .with_state(heard.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = forebay_runtime::Tasks::new();
    tasks.spawn("service", |_| async move { axum::serve(listener, app).await.unwrap() });
    Service { address, heard, tasks }
}

async fn answer(
    State(heard): State<Heard>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    heard.lock().unwrap().push((query, headers, Value::Null));
    let results = json!({ "took": 3, "results": [
        { "id": 1, "title": "First", "snippet": "one", "url": "https://x/1" },
        { "id": 2, "snippet": "two" },
    ] });
    axum::Json(results).into_response()
}

async fn find(State(heard): State<Heard>, headers: HeaderMap, axum::Json(body): axum::Json<Value>) -> Response {
    heard.lock().unwrap().push((HashMap::new(), headers, body));
    axum::Json(json!({ "data": { "hits": [{ "nr": "a", "words": "from a body" }] } })).into_response()
}

async fn world(service: &Service, config: Value) -> World {
    let mut config = config;
    config["base_url"] = format!("http://{}/v1/", service.address).into();
    World::new(json!({
        "providers": { "api": { "type": "rest", "config": config } },
        "allow_addresses": ["127.0.0.1"],
    }))
    .await
}

#[tokio::test]
async fn an_answer_becomes_items_in_its_order() {
    let service = service().await;
    let auth = json!({ "type": "bearer", "token": { "env": "TOKEN" } });
    let config = json!({ "path": "/search?q={query}&n={limit}", "auth": auth, "headers": { "x-a": "b" } });
    let world = world(&service, config).await;
    let found = world.look("api", "red & blue?", Strategy::Hybrid).await;
    let shown: Vec<_> = found
        .items
        .iter()
        .map(|item| {
            (
                item.id.as_str(),
                item.text.as_str(),
                item.source.as_str(),
                item.title.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("1", "one", "https://x/1", Some("First")),
            ("2", "two", "127.0.0.1", None)
        ]
    );
    assert_eq!(found.reports[0].strategy, Strategy::Keyword, "it takes words");
    let heard = service.heard.lock().unwrap();
    let (query, headers, _) = &heard[0];
    assert_eq!((query["q"].as_str(), query["n"].as_str()), ("red & blue?", "8"));
    assert_eq!(headers["authorization"], "Bearer s3cret");
    assert_eq!(
        (&headers["x-a"], &headers["accept"]),
        (&"b".parse().unwrap(), &"application/json".parse().unwrap())
    );
}

#[tokio::test]
async fn a_body_is_filled_and_its_answer_read_where_the_configuration_says() {
    let service = service().await;
    let config = json!({
        "path": "/find", "body": { "filter": { "text": "{query}" }, "size": "{limit}" },
        "items": "/data/hits", "fields": { "id": "nr", "text": "words" },
    });
    let world = world(&service, config).await;
    assert_eq!(world.texts("api", "say \"x\"").await, ["from a body"]);
    let heard = service.heard.lock().unwrap();
    assert_eq!(heard[0].2, json!({ "filter": { "text": "say \"x\"" }, "size": 8 }));
}

#[tokio::test]
async fn whatever_it_does_wrong_is_a_failure_that_says_so() {
    let service = service().await;
    let check = async |path: &str, code: Code, message: &str| {
        let config = json!({ "path": format!("{path}?q={{query}}"), "timeout_ms": 500 });
        let world = world(&service, config).await;
        let (found, told) = world.failure("api", "x").await;
        assert_eq!(found, code, "{path}: {told}");
        assert!(told.contains(message), "{path}: {told}");
        assert!(!told.contains("secret") && !told.contains("169.254"), "{told}");
    };
    check("/slow", Code::UpstreamTimedOut, "did not answer within 500 ms").await;
    check("/huge", Code::UpstreamTruncated, "more than 8388608 bytes").await;
    check("/broken", Code::UpstreamFailed, "127.0.0.1").await;
    check("/html", Code::UpstreamFailed, "something that is no JSON").await;
    check("/fails", Code::UpstreamFailed, "answered 503 (Service Unavailable)").await;
    check(
        "/away",
        Code::UpstreamFailed,
        "answered 302 (a redirect, which is not followed)",
    )
    .await;
    check("/none", Code::UpstreamFailed, "answered 404 (Not Found)").await;
}

#[tokio::test]
async fn what_is_not_listed_is_not_reached() {
    let service = service().await;
    let config = json!({ "providers": { "api": { "type": "rest", "config": {
        "base_url": format!("http://{}/v1", service.address) } } } });
    let world = World::new(config).await;
    let (code, message) = world.failure("api", "x").await;
    assert_eq!(code, Code::AddressNotAllowed, "{message}");
    assert!(service.heard.lock().unwrap().is_empty());
    let metadata =
        json!({ "providers": { "api": { "type": "rest", "config": { "base_url": "http://169.254.169.254/" } } } });
    assert_eq!(
        World::new(metadata).await.failure("api", "x").await.0,
        Code::AddressNotAllowed
    );
}
