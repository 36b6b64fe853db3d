//! The client against a server that is not always kind.
#![expect(
    clippy::unwrap_used,
    reason = "a part that does not work shall fail its test at once"
)]

use axum::{
    Router,
    http::{StatusCode, header},
    routing::{delete, get, post},
};
use forebay_api::{
    Client, ClientError,
    client::{ChatMessage, ChatRequest},
};
use forebay_domain::{Code, ErrorKind, Failure};
use futures_util::StreamExt;
use serde_json::json;
use url::Url;

async fn serve(router: Router) -> Url {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "the server ends with its test")]
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/").parse().unwrap()
}

fn client(base: &Url) -> Client {
    #[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    Client::new(base, Some("fb_1_2"), http).unwrap()
}

fn question() -> ChatRequest {
    let message = ChatMessage {
        role: "user",
        content: "hi".to_owned(),
    };
    ChatRequest {
        model: "m".to_owned(),
        messages: vec![message],
        temperature: None,
        max_tokens: None,
    }
}

async fn streamed(events: &'static str) -> Vec<Result<String, String>> {
    let answer = move || async move { ([(header::CONTENT_TYPE, "text/event-stream")], events) };
    let base = serve(Router::new().route("/v1/chat/completions", post(answer))).await;
    let pieces = client(&base).chat_streamed(&question()).await.unwrap();
    pieces
        .map(|piece| piece.map_err(|error| error.problem.code.clone()))
        .collect()
        .await
}

#[tokio::test]
async fn an_error_is_read_in_every_dialect() {
    let problem =
        json!({"type": "t", "title": "T", "status": 401, "detail": "No.", "code": "revoked_key", "hint": "Ask."});
    let rpc = json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "No such tool.", "data": {"code": "unknown_tool"}}});
    let openai = json!({"error": {"message": "Slow down.", "type": "x", "code": "rate_limit_exceeded", "forebay_code": "rate_limited"}});
    let router = Router::new()
        .route(
            "/api/v1/status",
            get(|| async move { (StatusCode::UNAUTHORIZED, problem.to_string()) }),
        )
        .route("/api/v1/mcp", post(|| async move { rpc.to_string() }))
        .route(
            "/v1/models",
            get(|| async move { (StatusCode::TOO_MANY_REQUESTS, openai.to_string()) }),
        );
    let client = client(&serve(router).await);

    let revoked = client.status().await.unwrap_err();
    assert_eq!(
        (revoked.code(), revoked.kind()),
        (Some(Code::RevokedKey), ErrorKind::Unauthenticated)
    );
    assert_eq!(Failure::from(revoked).sentence(), "No. Ask.");
    assert_eq!(
        client.call_tool("x", &json!({})).await.unwrap_err().code(),
        Some(Code::UnknownTool)
    );
    assert_eq!(client.models().await.unwrap_err().code(), Some(Code::RateLimited));
}

#[tokio::test]
async fn a_code_of_a_later_version_keeps_its_kind() {
    let problem = json!({"type": "t", "title": "T", "status": 403, "detail": "No.", "code": "not_in_this_country"});
    let router = Router::new().route(
        "/api/v1/status",
        get(|| async move { (StatusCode::FORBIDDEN, problem.to_string()) }),
    );
    let refused = client(&serve(router).await).status().await.unwrap_err();
    assert_eq!((refused.code(), refused.kind()), (None, ErrorKind::Forbidden));
    assert_eq!(refused.problem.code, "not_in_this_country");
}

#[tokio::test]
async fn nobody_and_strangers_are_told_apart_from_a_gateway() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let nobody = client(&gone).status().await.unwrap_err();
    assert_eq!(nobody.code(), Some(Code::GatewayUnreachable));
    assert!(nobody.problem.hint.as_deref().unwrap().contains("forebay serve"));

    let shop = Router::new().fallback(|| async { (StatusCode::NOT_FOUND, "<h1>Not here</h1>") });
    let stranger = client(&serve(shop).await).status().await.unwrap_err();
    assert_eq!(stranger.code(), Some(Code::GatewayUnreachable));
    assert!(stranger.problem.detail.contains("404"), "{stranger}");
}

#[tokio::test]
async fn a_streamed_answer_has_an_end_or_is_an_error() {
    let whole = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n\
                 data: {\"choices\":[{\"delta\":{\"content\":\"Par\"}}]}\n\n: still here\n\n\
                 data: {\"choices\":[{\"delta\":{\"content\":\"is\"}}]}\n\n\
                 data: {\"choices\":[],\"usage\":{}}\n\ndata: [DONE]\n\n";
    assert_eq!(streamed(whole).await, [Ok("Par".to_owned()), Ok("is".to_owned())]);
    let broken = "data: {\"choices\":[{\"delta\":{\"content\":\"Par\"}}]}\n\n";
    assert_eq!(
        streamed(broken).await,
        [Ok("Par".to_owned()), Err("upstream_truncated".to_owned())]
    );
    let failed = "data: {\"error\":{\"message\":\"Gone.\",\"forebay_code\":\"upstream_failed\"}}\n\n";
    assert_eq!(streamed(failed).await, [Err("upstream_failed".to_owned())]);
}

#[tokio::test]
async fn an_id_from_the_command_line_stays_one_segment() {
    let router = Router::new()
        .route("/api/v1/keys/{id}", delete(|| async { StatusCode::NO_CONTENT }))
        .fallback(|| async { "" });
    let asked = client(&serve(router).await)
        .revoke_key("../../x?y#z")
        .await
        .unwrap_err();
    assert!(
        asked.problem.detail.contains("204"),
        "the route was met, its empty answer is none: {asked}"
    );
}

#[test]
fn a_key_that_cannot_be_sent_is_refused_without_being_shown() {
    #[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let refused: ClientError = Client::new(&"http://a".parse().unwrap(), Some("fb_\nsecret"), http)
        .err()
        .unwrap();
    assert_eq!(refused.code(), Some(Code::InvalidKey));
    assert!(!format!("{refused} {refused:?}").contains("secret"));
}
