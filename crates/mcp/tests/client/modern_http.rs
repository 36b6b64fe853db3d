//! The modern era over HTTP: every message stands alone, and its headers repeat what it says.

use crate::world::{
    Server, Wish, call, discovered, event, events, hooks, json_response, legacy, listening, live, modern, note, raw,
    said, soon, status, text_response, until,
};
use forebay_mcp::{
    client::{ClientFault, Credential, Hooks, Mode},
    era::Version,
};
use forebay_runtime::Secret;
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::json;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

#[tokio::test]
async fn headers_repeat_the_message_in_a_form_that_headers_can_carry() {
    let server = Server::start(|seen| modern(seen).unwrap_or_else(|| seen.result(&json!({})))).await;
    let (connection, _heard) = Wish::default().over_http(&server.url).await.unwrap();
    assert_eq!(connection.version(), Version::V2026_07_28);
    let hooks = Hooks {
        headers: vec![(
            HeaderName::from_static("mcp-param-region"),
            HeaderValue::from_static("eu"),
        )],
        ..hooks()
    };
    let params = raw(&json!({"name": "wäh", "arguments": {"name": "not this", "uri": 1}}));
    soon(connection.request("tools/call", Some(&params), hooks))
        .await
        .unwrap();
    let params = raw(&json!({"uri": "a://b"}));
    soon(connection.request("resources/read", Some(&params), crate::world::hooks()))
        .await
        .unwrap();
    soon(connection.request("tools/list", None, crate::world::hooks()))
        .await
        .unwrap();
    let seen = server.seen();
    let table: Vec<_> = seen
        .iter()
        .map(|seen| {
            let header = |name| seen.header(name).unwrap_or("-").to_owned();
            [header("mcp-method"), header("mcp-name"), header("mcp-param-region")]
        })
        .collect();
    assert_eq!(
        table,
        [
            ["server/discover", "-", "-"],
            ["tools/call", "=?base64?d8OkaA==?=", "eu"],
            ["resources/read", "a://b", "-"],
            ["tools/list", "-", "-"],
        ]
    );
    for seen in &seen {
        assert_eq!(seen.header("mcp-protocol-version"), Some("2026-07-28"));
        assert_eq!(seen.header("accept"), Some("application/json, text/event-stream"));
        assert_eq!(seen.header("content-type"), Some("application/json"));
        assert_eq!(seen.header("mcp-session-id"), None);
        assert_eq!(seen.header("authorization"), None);
        let meta = &seen.body["params"]["_meta"];
        assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "forebay");
    }
    assert!(server.asked("GET").is_empty() && server.asked("DELETE").is_empty());
}

#[tokio::test]
async fn an_answer_may_be_json_or_the_last_event_of_a_stream() {
    let odd = r#"{"content":[ ],"resultType":"input_required","x":1.0}"#;
    let server = Server::start(move |seen| {
        modern(seen).unwrap_or_else(|| {
            let id = &seen.body["id"];
            let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{odd}}}"#);
            if seen.body["params"]["name"] == "json" {
                return text_response(StatusCode::OK, "application/json; charset=utf-8", answer);
            }
            events(&[
                ": a comment\n\n".to_owned(),
                event(&note(
                    "notifications/progress",
                    &json!({"progressToken": id, "progress": 1}),
                )),
                event(&note("notifications/message", &json!({"level": "info", "data": "d"}))),
                format!("event: message\ndata: {answer}\n\n"),
            ])
        })
    })
    .await;
    let (connection, _heard) = Wish::default().over_http(&server.url).await.unwrap();
    assert_eq!(call(&connection, &json!({"name": "json"})).await.unwrap(), odd);
    let (hooks, mut emissions) = listening();
    let params = raw(&json!({"name": "events", "_meta": {"progressToken": 1}}));
    let result = soon(connection.request("tools/call", Some(&params), hooks)).await;
    assert_eq!(result.unwrap().get(), odd);
    assert_eq!(
        said(&emissions.recv().await.unwrap()),
        r#"progress {"progress":1,"progressToken":3}"#
    );
    assert_eq!(
        said(&emissions.recv().await.unwrap()),
        r#"log {"data":"d","level":"info"}"#
    );
}

#[tokio::test]
async fn answers_by_stream_leave_their_connection_for_the_next_request() {
    let server = Server::start(|seen| modern(seen).unwrap_or_else(|| events(&[event(&seen.answer(&json!({})))]))).await;
    let (connection, _heard) = Wish::default().over_http(&server.url).await.unwrap();
    for _ in 0..50 {
        call(&connection, &json!({"name": "t"})).await.unwrap();
    }
    let connections = server.connections.load(Ordering::SeqCst);
    assert!(connections < 10, "{connections} connections for 50 calls");
}

#[tokio::test]
async fn closing_the_stream_is_how_a_request_is_taken_back() {
    let (sender, answers) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::start(move |seen| {
        modern(seen).unwrap_or_else(|| {
            let (stream, response) = live();
            sender.send(stream).unwrap();
            response
        })
    })
    .await;
    let mut answers = answers;
    let (connection, _heard) = Wish::default().over_http(&server.url).await.unwrap();
    let params = json!({"name": "t"});
    let stream = tokio::select! {
        _ = call(&connection, &params) => panic!("nobody answers"),
        stream = soon(answers.recv()) => stream.unwrap(),
    };
    soon(stream.closed()).await;
    assert!(server.asked("notifications/cancelled").is_empty());
}

#[tokio::test]
async fn a_stream_that_breaks_is_a_broken_request_and_is_not_taken_up() {
    let server = Server::start(|seen| modern(seen).unwrap_or_else(|| events(&["id: 1\ndata:\n\n".to_owned()]))).await;
    let (connection, _heard) = Wish::default().over_http(&server.url).await.unwrap();
    assert!(matches!(
        call(&connection, &json!({"name": "t"})).await,
        Err(ClientFault::Broken { .. })
    ));
    assert!(connection.is_open());
    assert!(server.asked("GET").is_empty());
}

#[tokio::test]
async fn a_subscription_is_a_stream_for_the_listener() {
    let streams = Arc::new(Mutex::new(Vec::new()));
    let kept = streams.clone();
    let server = Server::start(move |seen| {
        modern(seen).unwrap_or_else(|| {
            let (stream, response) = live();
            stream
                .send(event(&note("notifications/subscriptions/acknowledged", &json!({}))))
                .unwrap();
            stream
                .send(event(&note("notifications/resources/updated", &json!({"uri": "a:b"}))))
                .unwrap();
            kept.lock().unwrap().push(stream);
            response
        })
    })
    .await;
    let (connection, mut heard) = Wish::default().over_http(&server.url).await.unwrap();
    let subscription = connection.listen(&raw(&json!({"resourceSubscriptions": ["a:b"]})));
    assert_eq!(
        said(&soon(heard.next()).await.unwrap()),
        "notifications/subscriptions/acknowledged {}"
    );
    assert_eq!(
        said(&soon(heard.next()).await.unwrap()),
        r#"notifications/resources/updated {"uri":"a:b"}"#
    );
    assert_eq!(
        server.asked("subscriptions/listen")[0].body["params"]["notifications"],
        json!({"resourceSubscriptions": ["a:b"]})
    );
    let stream = streams.lock().unwrap().pop().unwrap();
    drop(subscription);
    soon(stream.closed()).await;
}

#[tokio::test]
async fn a_status_says_what_to_do() {
    for (code, expected) in [
        (401, "refused the gateway's credentials"),
        (403, "refused the gateway's credentials"),
        (404, "breaks the protocol: it answered with status 404"),
        (408, "the connection broke"),
        (418, "breaks the protocol"),
        (429, "takes no requests for now (status 429)"),
        (500, "the connection broke"),
        (503, "takes no requests for now (status 503)"),
        (307, "redirects (status 307)"),
    ] {
        let server = Server::start(move |seen| {
            modern(seen).unwrap_or_else(|| {
                let mut response = status(code);
                let headers = response.headers_mut();
                headers.insert("retry-after", "7".parse().unwrap());
                headers.insert("location", "http://127.0.0.1:1/".parse().unwrap());
                response
            })
        })
        .await;
        let wish = Wish {
            credential: Credential::Bearer(Secret::new("s3cret".to_owned())),
            ..Wish::default()
        };
        let (connection, _heard) = wish.over_http(&server.url).await.unwrap();
        let fault = call(&connection, &json!({"name": "t"})).await.unwrap_err();
        assert!(fault.to_string().contains(expected), "{code}: {fault}");
        if let ClientFault::Busy { retry_after, .. } = &fault {
            assert_eq!(retry_after.unwrap().as_secs(), 7);
        }
        let failure = fault.into_failure("docs");
        assert!(
            failure.message.starts_with("The MCP server `docs` failed: "),
            "{failure}"
        );
        assert_eq!(server.seen()[1].header("authorization"), Some("Bearer s3cret"));
    }
}

#[tokio::test]
async fn an_error_of_the_protocol_is_handed_on_whatever_its_status() {
    for code in [200, 400, 404, 500] {
        let server =
            Server::start(move |seen| modern(seen).unwrap_or_else(|| seen.error(code, -32601, "no such method"))).await;
        let (connection, _heard) = Wish::default().over_http(&server.url).await.unwrap();
        let fault = call(&connection, &json!({"name": "t"})).await.unwrap_err();
        assert!(
            matches!(&fault, ClientFault::Refused(error) if error.code == -32601),
            "{code}: {fault}"
        );
        assert!(connection.is_open());
    }
}

#[tokio::test]
async fn what_cannot_be_reached_was_not_asked() {
    let server = Server::start(|seen| modern(seen).unwrap()).await;
    let (connection, _heard) = Wish::default().over_http(&server.url).await.unwrap();
    drop(connection);
    let opened = Wish::default().over_http("http://127.0.0.1:1/mcp").await;
    assert!(matches!(opened, Err(ClientFault::Unreachable { .. })));
}

/// How each mode fares with a server that answers `server/discover` so.
async fn check_opening(
    mode: Mode,
    discover: impl Fn(&crate::world::Seen) -> axum::response::Response + Send + Sync + 'static,
) -> Result<&'static str, ClientFault> {
    let server = Server::start(move |seen| match seen.asks() {
        "server/discover" => discover(seen),
        _ => legacy(seen).unwrap(),
    })
    .await;
    let (connection, _heard) = Wish::mode(mode).over_http(&server.url).await?;
    Ok(connection.version().as_str())
}

#[tokio::test]
async fn the_era_is_found_by_what_the_first_answer_says() {
    let older = "2025-11-25";
    assert_eq!(
        check_opening(Mode::Auto, |seen| seen.result(&discovered()))
            .await
            .unwrap(),
        "2026-07-28"
    );
    for code in [400, 404, 405, 406, 500] {
        assert_eq!(
            check_opening(Mode::Auto, move |_| status(code)).await.unwrap(),
            older,
            "{code}"
        );
        let error =
            move |seen: &crate::world::Seen| seen.error(code, -32000, "Bad Request: Unsupported protocol version");
        assert_eq!(check_opening(Mode::Auto, error).await.unwrap(), older, "{code}");
    }
    let html = |_: &crate::world::Seen| text_response(StatusCode::OK, "text/html", "<p>hello</p>");
    assert_eq!(check_opening(Mode::Auto, html).await.unwrap(), older);
    let old = |seen: &crate::world::Seen| seen.result(&json!({"supportedVersions": ["2025-06-18"]}));
    assert_eq!(check_opening(Mode::Auto, old).await.unwrap(), older);
    assert_eq!(
        check_opening(Mode::Legacy, |_| panic!("it is not asked"))
            .await
            .unwrap(),
        older
    );
    let unsupported = |seen: &crate::world::Seen| {
        let error = json!({"code": -32022, "message": "", "data": {"supported": ["2099-01-01"]}});
        json_response(
            StatusCode::BAD_REQUEST,
            &json!({"jsonrpc": "2.0", "id": seen.body["id"], "error": error}),
        )
    };
    assert!(matches!(
        check_opening(Mode::Auto, unsupported).await,
        Err(ClientFault::Version(_))
    ));
    assert!(matches!(
        check_opening(Mode::Modern, |_| status(404)).await,
        Err(ClientFault::Protocol(_))
    ));
    assert!(matches!(
        check_opening(Mode::Auto, |_| status(401)).await,
        Err(ClientFault::Unauthorized(_))
    ));
    let modern_refusal = |seen: &crate::world::Seen| seen.error(400, -32021, "needs sampling");
    assert!(matches!(
        check_opening(Mode::Auto, modern_refusal).await,
        Err(ClientFault::Refused(error)) if error.code == -32021
    ));
}

#[tokio::test]
async fn an_interrupted_caller_does_not_end_the_connection_for_others() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let server = Server::start(move |seen| {
        modern(seen).unwrap_or_else(|| {
            counted.fetch_add(1, Ordering::SeqCst);
            if seen.body["params"]["name"] == "slow" {
                let (stream, response) = live();
                tokio::spawn(async move { stream.closed().await });
                return response;
            }
            seen.result(&json!({}))
        })
    })
    .await;
    let (connection, _heard) = Wish::default().over_http(&server.url).await.unwrap();
    let slow = json!({"name": "slow"});
    tokio::select! {
        _ = call(&connection, &slow) => panic!("it is never answered"),
        () = until(|| count.load(Ordering::SeqCst) == 1) => {}
    }
    call(&connection, &json!({"name": "fast"})).await.unwrap();
}
