//! The older era over HTTP: sessions, streams that are taken up again, questions on the way.

use crate::world::{
    Seen, Server, Wish, call, event, event_with, events, initialized, json_response, legacy, listening, live, note,
    raw, said, soon, status, text_response, until,
};
use axum::response::Response;
use forebay_mcp::{
    call::Emission,
    client::{ClientFault, Connection, Hooks},
};
use http::StatusCode;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_session_is_kept_named_and_given_back() {
    let server = Server::start(|seen| legacy(seen).unwrap_or_else(|| seen.result(&json!({})))).await;
    let (connection, _heard) = Wish::default().over_http(&server.url).await.unwrap();
    assert_eq!(
        server.asked("GET").len(),
        1,
        "before anything is asked, it is known who hears the server's questions"
    );
    call(&connection, &json!({"name": "t"})).await.unwrap();
    connection
        .notify("notifications/roots/list_changed", None)
        .await
        .unwrap();
    connection.close().await;
    assert!(!connection.is_open());
    let initialize = &server.asked("initialize")[0];
    assert_eq!(initialize.header("mcp-session-id"), None);
    assert_eq!(initialize.header("mcp-protocol-version"), None);
    for asked in ["notifications/initialized", "tools/call", "GET", "DELETE"] {
        let seen = &server.asked(asked)[0];
        assert_eq!(seen.header("mcp-session-id"), Some("s-1"), "{asked}");
        assert_eq!(seen.header("mcp-protocol-version"), Some("2025-11-25"), "{asked}");
        assert_eq!(seen.header("mcp-method"), None, "{asked}");
    }
    let seen = &server.asked("tools/call")[0];
    assert_eq!(
        seen.text,
        r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"t"}}"#
    );
}

/// A server with this answer to a call.
async fn answering(script: impl Fn(&Seen) -> Response + Send + Sync + 'static) -> (Server, Connection) {
    let server = Server::start(move |seen| legacy(seen).unwrap_or_else(|| script(seen))).await;
    let (connection, _heard) = Wish::default().over_http(&server.url).await.unwrap();
    (server, connection)
}

#[tokio::test]
async fn a_session_that_is_forgotten_ends_the_connection() {
    let forgets = |code: u16, error: Option<(i64, &'static str)>| {
        move |seen: &Seen| match error {
            Some((number, message)) => seen.error(code, number, message),
            None => status(code),
        }
    };
    for (code, error) in [
        (404, None),
        (404, Some((-32001, "Session not found"))),
        (400, Some((-32000, "Bad Request: No valid session ID provided"))),
    ] {
        let (_server, connection) = answering(forgets(code, error)).await;
        let fault = call(&connection, &json!({"name": "t"})).await.unwrap_err();
        assert!(
            matches!(fault, ClientFault::SessionExpired),
            "{code} {error:?}: {fault}"
        );
        assert!(!connection.is_open());
        let again = call(&connection, &json!({"name": "t"})).await.unwrap_err();
        assert!(matches!(again, ClientFault::SessionExpired));
    }
    for (code, error) in [
        (404, Some((-32601, "no such method"))),
        (400, Some((-32602, "no such tool"))),
    ] {
        let (_server, connection) = answering(forgets(code, error)).await;
        let fault = call(&connection, &json!({"name": "t"})).await.unwrap_err();
        assert!(matches!(fault, ClientFault::Refused(_)), "{code} {error:?}: {fault}");
        assert!(connection.is_open());
    }
}

#[tokio::test]
async fn a_stream_that_breaks_is_taken_up_where_it_broke() {
    // The server closes after an event that only primes, then again in mid-stream, then answers.
    let server = Server::start(move |seen| {
        legacy(seen).unwrap_or_else(|| match (seen.asks(), seen.header("last-event-id")) {
            ("tools/call", None) => events(&["id: e1\nretry: 20\ndata:\n\n".to_owned()]),
            ("GET", Some("e1")) => {
                let progress = note("notifications/progress", &json!({"progressToken": 3, "progress": 1}));
                events(&[event_with("e2", &progress)])
            }
            ("GET", Some("e2")) => {
                let answer = json!({"jsonrpc": "2.0", "id": 3, "result": {"done": true}});
                events(&[event_with("e3", &answer)])
            }
            other => panic!("{other:?}"),
        })
    })
    .await;
    let (connection, _heard) = Wish::default().over_http(&server.url).await.unwrap();
    let (hooks, mut emissions) = listening();
    let params = raw(&json!({"name": "t", "_meta": {"progressToken": "p"}}));
    let result = soon(connection.request("tools/call", Some(&params), hooks)).await;
    assert_eq!(result.unwrap().get(), r#"{"done":true}"#);
    assert_eq!(
        said(&emissions.recv().await.unwrap()),
        r#"progress {"progress":1,"progressToken":3}"#
    );
    let resumed: Vec<Seen> = server
        .asked("GET")
        .into_iter()
        .filter(|seen| seen.header("last-event-id").is_some())
        .collect();
    assert_eq!(resumed.len(), 2);
    assert!(resumed.iter().all(|seen| seen.header("mcp-session-id") == Some("s-1")));
}

#[tokio::test]
async fn the_pause_that_a_server_asks_for_is_kept() {
    let began = Arc::new(Mutex::new(None));
    let ended = began.clone();
    let (_server, connection) = answering(move |seen| {
        if seen.asks() == "tools/call" {
            *ended.lock().unwrap() = Some(tokio::time::Instant::now());
            events(&["id: e1\nretry: 300\ndata:\n\n".to_owned()])
        } else {
            let waited = ended.lock().unwrap().unwrap().elapsed();
            let answer = json!({"jsonrpc": "2.0", "id": 3, "result": {"ms": waited.as_millis()}});
            events(&[event(&answer)])
        }
    })
    .await;
    let result: Value = serde_json::from_str(&call(&connection, &json!({"name": "t"})).await.unwrap()).unwrap();
    assert!(result["ms"].as_u64().unwrap() >= 300, "{result}");
}

#[tokio::test]
async fn a_stream_that_cannot_be_taken_up_is_lost_after_some_attempts() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = attempts.clone();
    let (_server, connection) = answering(move |seen| {
        if seen.asks() == "tools/call" {
            events(&["id: e1\nretry: 10\ndata:\n\n".to_owned()])
        } else {
            counted.fetch_add(1, Ordering::SeqCst);
            status(500)
        }
    })
    .await;
    let fault = call(&connection, &json!({"name": "t"})).await.unwrap_err();
    assert!(matches!(fault, ClientFault::Broken { .. }), "{fault}");
    assert_eq!(attempts.load(Ordering::SeqCst), 5);

    let (_server, connection) = answering(|_| events(&["data:\n\n".to_owned()])).await;
    let fault = call(&connection, &json!({"name": "t"})).await.unwrap_err();
    assert!(
        matches!(fault, ClientFault::Broken { .. }),
        "without an id there is nothing to take up: {fault}"
    );
}

#[tokio::test]
async fn questions_on_the_way_are_answered_by_a_post() {
    let stream = Arc::new(Mutex::new(None));
    let kept = stream.clone();
    let server = Server::start(move |seen| {
        legacy(seen).unwrap_or_else(|| {
            if seen.asks() == "tools/call" {
                let (stream, response) = live();
                let question =
                    json!({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {"message": "?"}});
                stream.send(event(&question)).unwrap();
                *kept.lock().unwrap() = Some(stream);
                return response;
            }
            assert_eq!(seen.text, r#"{"jsonrpc":"2.0","id":"q","result":{"action":"decline"}}"#);
            let answer = json!({"jsonrpc": "2.0", "id": 3, "result": {}});
            let stream = kept.lock().unwrap().take().unwrap();
            stream.send(event(&answer)).unwrap();
            status(202)
        })
    })
    .await;
    let (connection, _heard) = Wish::default().over_http(&server.url).await.unwrap();
    let (hooks, mut emissions) = listening();
    let params = raw(&json!({"name": "t"}));
    let (result, ()) = tokio::join!(soon(connection.request("tools/call", Some(&params), hooks)), async {
        let Some(Emission::Question(question)) = soon(emissions.recv()).await else {
            panic!("a question")
        };
        question.reply.send(Ok(raw(&json!({"action": "decline"})))).unwrap();
    });
    result.unwrap();
}

#[tokio::test]
async fn a_request_that_is_taken_back_is_told_by_a_post() {
    let (server, connection) = answering(|_| {
        let (stream, response) = live();
        tokio::spawn(async move { stream.closed().await });
        response
    })
    .await;
    let cancel = CancellationToken::new();
    let hooks = Hooks {
        cancel: cancel.clone(),
        ..crate::world::hooks()
    };
    let params = raw(&json!({"name": "t"}));
    let (result, ()) = tokio::join!(soon(connection.request("tools/call", Some(&params), hooks)), async {
        until(|| server.asked("tools/call").len() == 1).await;
        cancel.cancel();
    });
    assert!(matches!(result, Err(ClientFault::Cancelled)));
    until(|| server.asked("notifications/cancelled").len() == 1).await;
    assert_eq!(
        server.asked("notifications/cancelled")[0].body["params"]["requestId"],
        3
    );
}

#[tokio::test]
async fn what_the_server_says_by_itself_is_heard_and_its_stream_taken_up() {
    let server = Server::start(|seen| match (seen.asks(), seen.header("last-event-id")) {
        ("GET", None) => events(&[
            "retry: 10\n\n".to_owned(),
            event_with("g1", &note("notifications/tools/list_changed", &json!({}))),
        ]),
        ("GET", Some("g1")) => events(&[event_with(
            "g2",
            &note("notifications/prompts/list_changed", &json!({})),
        )]),
        ("GET", Some(_)) => status(405),
        _ => legacy(seen).unwrap_or_else(|| seen.result(&json!({}))),
    })
    .await;
    let (connection, mut heard) = Wish::default().over_http(&server.url).await.unwrap();
    assert_eq!(
        said(&soon(heard.next()).await.unwrap()),
        "notifications/tools/list_changed {}"
    );
    assert_eq!(
        said(&soon(heard.next()).await.unwrap()),
        "notifications/prompts/list_changed {}"
    );
    until(|| server.asked("GET").len() == 3).await;
    assert!(connection.is_open());
}

#[tokio::test]
async fn a_question_on_the_standing_stream_reaches_the_request_under_way() {
    let (stream, receiver) = tokio::sync::mpsc::unbounded_channel::<String>();
    let receiver = Mutex::new(Some(receiver));
    let server = Server::start(move |seen| match seen.asks() {
        "GET" => {
            let receiver = receiver.lock().unwrap().take().unwrap();
            let pieces = futures_util::stream::unfold(receiver, |mut receiver| async move {
                let piece = receiver.recv().await?;
                Some((Ok::<_, std::convert::Infallible>(piece), receiver))
            });
            text_response(
                StatusCode::OK,
                "text/event-stream",
                axum::body::Body::from_stream(pieces),
            )
        }
        "tools/call" => {
            let question = json!({"jsonrpc": "2.0", "id": 1, "method": "roots/list"});
            stream.send(event(&question)).unwrap();
            let (answer, response) = live();
            tokio::spawn(async move { answer.closed().await });
            response
        }
        _ => legacy(seen).unwrap_or_else(|| status(202)),
    })
    .await;
    let (connection, _heard) = Wish::default().over_http(&server.url).await.unwrap();
    until(|| server.asked("GET").len() == 1).await;
    let (hooks, mut emissions) = listening();
    let params = raw(&json!({"name": "t"}));
    tokio::select! {
        _ = connection.request("tools/call", Some(&params), hooks) => panic!("it is never answered"),
        emission = soon(emissions.recv()) => assert_eq!(said(&emission.unwrap()), "? roots/list"),
    }
}

#[tokio::test]
async fn a_change_on_the_stream_of_a_request_is_everybodys_affair() {
    let server = Server::start(|seen| {
        legacy(seen).unwrap_or_else(|| {
            events(&[
                event(&note("notifications/tools/list_changed", &json!({}))),
                event(&note("notifications/odd", &json!({}))),
                event(&seen.answer(&json!({}))),
            ])
        })
    })
    .await;
    let (connection, mut heard) = Wish::default().over_http(&server.url).await.unwrap();
    let (hooks, mut emissions) = listening();
    let params = raw(&json!({"name": "t"}));
    soon(connection.request("tools/call", Some(&params), hooks))
        .await
        .unwrap();
    assert_eq!(
        said(&soon(heard.next()).await.unwrap()),
        "notifications/tools/list_changed {}"
    );
    assert_eq!(said(&emissions.recv().await.unwrap()), "notifications/odd {}");
}

#[tokio::test]
async fn a_server_without_sessions_is_served_too() {
    let server = Server::start(|seen| match seen.asks() {
        "server/discover" => status(400),
        "initialize" => seen.result(&initialized("2025-03-26")),
        "notifications/initialized" => status(202),
        "GET" => status(405),
        _ => seen.result(&json!({})),
    })
    .await;
    let (connection, _heard) = Wish::default().over_http(&server.url).await.unwrap();
    assert_eq!(connection.version().as_str(), "2025-03-26");
    call(&connection, &json!({"name": "t"})).await.unwrap();
    connection.close().await;
    assert!(server.asked("DELETE").is_empty());
    assert_eq!(server.asked("tools/call")[0].header("mcp-session-id"), None);
}

#[tokio::test]
async fn a_batch_in_an_event_is_read_message_by_message() {
    let (_server, connection) = answering(|seen| {
        let batch = json!([note("notifications/odd", &json!({})), seen.answer(&json!({"a": 1}))]);
        events(&[event(&batch)])
    })
    .await;
    assert_eq!(call(&connection, &json!({"name": "t"})).await.unwrap(), r#"{"a":1}"#);
}

#[tokio::test]
async fn a_handshake_that_fails_says_why() {
    for (script, expected) in [
        (initialized("2026-07-28"), "speaks `2026-07-28`"),
        (initialized("1.0"), "speaks `1.0`"),
        (json!({}), "answered the handshake with something else"),
    ] {
        let server = Server::start(move |seen| match seen.asks() {
            "server/discover" | "GET" => status(404),
            _ => seen.result(&script),
        })
        .await;
        let fault = Wish::default().over_http(&server.url).await.err().unwrap();
        assert!(fault.to_string().contains(expected), "{fault}");
    }
    let server = Server::start(|seen| match seen.asks() {
        "server/discover" => status(404),
        _ => json_response(StatusCode::OK, &json!({"jsonrpc": "2.0", "id": 99, "result": {}})),
    })
    .await;
    let fault = Wish::default().over_http(&server.url).await.err().unwrap();
    assert!(matches!(fault, ClientFault::Protocol(_)), "{fault}");
}

#[tokio::test]
async fn a_request_without_an_answer_ends_with_its_time() {
    let (_server, connection) = answering(|_| {
        let (stream, response) = live();
        tokio::spawn(async move { stream.closed().await });
        response
    })
    .await;
    let hooks = Hooks::within(Duration::from_millis(50));
    let params = raw(&json!({"name": "t"}));
    let fault = soon(connection.request("tools/call", Some(&params), hooks))
        .await
        .unwrap_err();
    assert!(matches!(fault, ClientFault::TimedOut(_)));
}
