//! Upstreams that break the rules: each fails what it has to fail, and nothing else.

use crate::world::{
    Peer, Server, Wish, call, event, events, json_response, listening, live, modern, note, raw, said, soon,
    text_response, until,
};
use forebay_domain::Code;
use forebay_mcp::{
    call::Emission,
    client::{ClientFault, Connection, Heard},
};
use http::StatusCode;
use serde_json::json;
use tokio::sync::mpsc::error::TryRecvError;

async fn over_pipe() -> (Connection, Heard, Peer) {
    let (opened, peer) = Wish::default().over_pipe(|peer| peer.open_legacy("2025-11-25")).await;
    let (connection, heard) = opened.unwrap();
    (connection, heard, peer)
}

#[tokio::test]
async fn chatter_on_the_output_of_a_program_is_skipped_and_counted() {
    let (connection, _heard, mut peer) = over_pipe().await;
    let params = json!({"name": "t"});
    let (result, ()) = tokio::join!(call(&connection, &params), async {
        let asked = peer.expect("tools/call").await;
        for chatter in [
            "Listening on stdio",
            "",
            "  \r",
            "{\"level\":30,\"msg\":\"hi\"}",
            "[]",
            "null",
            "\u{1b}[1mbold",
        ] {
            peer.say(chatter).await;
        }
        peer.say(r#"{"jsonrpc":"2.0","id":12345,"result":{}}"#).await;
        peer.say(r#"{"jsonrpc":"2.0","id":"3","result":{}}"#).await;
        peer.answer(&asked, &json!({"ok": true})).await;
    });
    assert_eq!(result.unwrap(), r#"{"ok":true}"#);
    let counts = connection.counts();
    assert_eq!((counts.junk, counts.strange), (4, 2));
}

#[tokio::test]
async fn a_line_that_is_too_long_fails_its_request_and_no_other() {
    let huge = "x".repeat(2 << 20);
    for form in [
        format!(r#"{{"jsonrpc":"2.0","id":3,"result":{{"x":"{huge}"}}}}"#),
        format!(r#"{{"result":{{"x":"{huge}"}},"jsonrpc":"2.0","id":3}}"#),
    ] {
        let (connection, _heard, mut peer) = over_pipe().await;
        let params = json!({"name": "t"});
        let (first, second, ()) = tokio::join!(call(&connection, &params), call(&connection, &params), async {
            peer.expect("tools/call").await;
            let second = peer.expect("tools/call").await;
            peer.say(&form).await;
            peer.answer(&second, &json!({})).await;
        });
        let fault = first.unwrap_err();
        assert!(matches!(fault, ClientFault::TooLarge { .. }), "{fault}");
        assert_eq!(fault.into_failure("s").code, Code::ResultTooLarge);
        second.unwrap();
        assert!(connection.is_open());
    }
}

#[tokio::test]
async fn a_message_that_repeats_a_key_is_refused() {
    let (connection, _heard, mut peer) = over_pipe().await;
    let params = json!({"name": "t"});
    let (result, ()) = tokio::join!(call(&connection, &params), async {
        peer.expect("tools/call").await;
        peer.say(r#"{"jsonrpc":"2.0","id":3,"result":{"isError":true,"isError":false}}"#)
            .await;
    });
    assert!(result.unwrap_err().to_string().contains("names a key twice"));

    for streams in [false, true] {
        let server = Server::start(move |seen| {
            modern(seen).unwrap_or_else(|| {
                let id = &seen.body["id"];
                let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"a":1,"a":2}}}}"#);
                if streams {
                    events(&[format!("data: {answer}\n\n")])
                } else {
                    text_response(StatusCode::OK, "application/json", answer)
                }
            })
        })
        .await;
        let (connection, _heard) = Wish::default().over_http(&server.url).await.unwrap();
        let fault = call(&connection, &json!({"name": "t"})).await.unwrap_err();
        assert!(fault.to_string().contains("names a key twice"), "{fault}");
        assert!(connection.is_open());
    }
}

#[tokio::test]
async fn a_body_or_an_event_that_is_too_long_fails_its_request_and_no_other() {
    let server = Server::start(|seen| {
        modern(seen).unwrap_or_else(|| {
            let huge = json!({"x": "x".repeat(2 << 20)});
            match seen.body["params"]["name"].as_str() {
                Some("whole") => seen.result(&huge),
                Some("pieces") => {
                    let (stream, response) = live();
                    tokio::spawn(async move {
                        while stream.send("x".repeat(1 << 16)).is_ok() {
                            tokio::task::yield_now().await;
                        }
                    });
                    let (_, body) = response.into_parts();
                    text_response(StatusCode::OK, "application/json", body)
                }
                Some("event") => events(&[event(&seen.answer(&huge))]),
                Some("endless line") => {
                    let (stream, response) = live();
                    tokio::spawn(async move {
                        while stream.send("x".repeat(1 << 16)).is_ok() {
                            tokio::task::yield_now().await;
                        }
                    });
                    response
                }
                _ => seen.result(&json!({})),
            }
        })
    })
    .await;
    let (connection, _heard) = Wish::default().over_http(&server.url).await.unwrap();
    for name in ["whole", "pieces", "event", "endless line"] {
        let fault = call(&connection, &json!({"name": name})).await.unwrap_err();
        assert!(matches!(fault, ClientFault::TooLarge { .. }), "{name}: {fault}");
        call(&connection, &json!({"name": "small"})).await.unwrap();
    }
}

#[tokio::test]
async fn many_events_that_are_long_together_are_not_too_long() {
    let server = Server::start(|seen| {
        modern(seen).unwrap_or_else(|| {
            let log = event(&note("notifications/message", &json!({"data": "x".repeat(300 << 10)})));
            let mut all = vec![log; 10];
            all.push(event(&seen.answer(&json!({}))));
            events(&all)
        })
    })
    .await;
    let (connection, _heard) = Wish::default().over_http(&server.url).await.unwrap();
    call(&connection, &json!({"name": "t"})).await.unwrap();
}

#[tokio::test]
async fn a_flood_of_notifications_holds_up_nobody() {
    const FLOOD: usize = 3000;
    let (connection, mut heard, mut peer) = over_pipe().await;
    let params = raw(&json!({"name": "t", "_meta": {"progressToken": 0}}));
    let (hooks, mut emissions) = listening();
    let (result, ()) = tokio::join!(soon(connection.request("tools/call", Some(&params), hooks)), async {
        let asked = peer.expect("tools/call").await;
        for n in 0..FLOOD {
            peer.tell(
                "notifications/progress",
                &json!({"progressToken": asked["id"], "progress": n}),
            )
            .await;
            peer.tell("notifications/tools/list_changed", &json!({})).await;
            peer.tell("notifications/resources/updated", &json!({"uri": n})).await;
        }
        peer.answer(&asked, &json!({})).await;
    });
    result.unwrap();
    let mut told = 0;
    loop {
        match emissions.try_recv() {
            Ok(Emission::Progress(_)) => told += 1,
            Ok(other) => panic!("{other:?}"),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
        }
    }
    assert_eq!(told, 64, "as many as the queue holds");
    assert_eq!(connection.counts().dropped, (FLOOD - told) as u64);
    drop((connection, peer));
    let (mut changes, mut updates) = (0, 0);
    while let Some(emission) = soon(heard.next()).await {
        if said(&emission).contains("list_changed") {
            changes += 1;
        } else {
            updates += 1;
        }
    }
    assert_eq!((changes, updates), (1, 255));
    assert_eq!(heard.dropped(), (FLOOD - updates) as u64);
}

#[tokio::test]
async fn a_flood_of_questions_is_refused_beyond_a_number() {
    let (connection, _heard, mut peer) = over_pipe().await;
    let mut busy = 0;
    for n in 0..100 {
        peer.say(&json!({"jsonrpc": "2.0", "id": n, "method": "roots/list"}).to_string())
            .await;
    }
    for _ in 0..36 {
        let answer: serde_json::Value = serde_json::from_str(&peer.line().await).unwrap();
        assert_eq!(answer["error"]["code"], -32000);
        busy += 1;
    }
    assert_eq!(busy, 36, "64 wait");
    assert!(connection.is_open());
}

#[tokio::test]
async fn a_server_that_reads_nothing_does_not_stop_us_from_reading_it() {
    let (connection, mut heard, mut peer) = over_pipe().await;
    for n in 0..5000 {
        peer.say(&json!({"jsonrpc": "2.0", "id": n, "method": "ping"}).to_string())
            .await;
    }
    peer.tell("notifications/tools/list_changed", &json!({})).await;
    assert_eq!(
        said(&soon(heard.next()).await.unwrap()),
        "notifications/tools/list_changed {}"
    );
    until(|| connection.counts().dropped > 0).await;
}

#[tokio::test]
async fn an_answer_to_something_else_is_no_answer() {
    let server = Server::start(|seen| {
        modern(seen)
            .unwrap_or_else(|| json_response(StatusCode::OK, &json!({"jsonrpc": "2.0", "id": 77, "result": {}})))
    })
    .await;
    let (connection, _heard) = Wish::default().over_http(&server.url).await.unwrap();
    let fault = call(&connection, &json!({"name": "t"})).await.unwrap_err();
    assert!(matches!(fault, ClientFault::Protocol(_)), "{fault}");
    assert_eq!(connection.counts().strange, 1);
}
