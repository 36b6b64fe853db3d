//! Requests, and what goes beside them, over a pipe.

use crate::world::{Peer, Wish, call, hooks, listening, raw, said, soon, until};
use forebay_mcp::{
    call::{Emission, LogLevel, RpcError},
    client::{ClientFault, Connection, Heard, Hooks, Limits, Tenancy},
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

async fn modern() -> (Connection, Heard, Peer) {
    let (opened, peer) = Wish::default().over_pipe(Peer::open_modern).await;
    let (connection, heard) = opened.unwrap();
    (connection, heard, peer)
}

async fn legacy(wish: Wish) -> (Connection, Heard, Peer) {
    let (opened, peer) = wish.over_pipe(|peer| peer.open_legacy("2025-11-25")).await;
    let (connection, heard) = opened.unwrap();
    (connection, heard, peer)
}

#[tokio::test]
async fn a_result_comes_back_as_the_bytes_that_were_sent() {
    let (connection, _heard, mut peer) = legacy(Wish::default()).await;
    let odd = r#"{"content":[ ],"unknown":{"n":1.0,"big":123456789012345678901234567890},"é":"\u00e9"}"#;
    let params = json!({"name": "t"});
    let (result, ()) = tokio::join!(call(&connection, &params), async {
        let line = peer.line().await;
        assert_eq!(
            line,
            r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"t"}}"#
        );
        peer.say(&format!(r#"{{"result":{odd},"jsonrpc":"2.0","id":3}}"#)).await;
    });
    assert_eq!(result.unwrap(), odd);
}

#[tokio::test]
async fn an_error_comes_back_with_its_own_code_message_and_data() {
    let (connection, _heard, mut peer) = modern().await;
    let params = json!({"name": "t"});
    let (result, ()) = tokio::join!(call(&connection, &params), async {
        let asked = peer.expect("tools/call").await;
        peer.refuse(&asked, -32042, &json!({"k": [1]})).await;
    });
    let Err(ClientFault::Refused(RpcError { code, message, data })) = result else {
        panic!("it was refused")
    };
    assert_eq!((code, message.as_str()), (-32042, "no"));
    assert_eq!(data.unwrap().get(), r#"{"k":[1]}"#);
}

#[tokio::test]
async fn a_modern_request_carries_version_capabilities_trace_and_log_level() {
    let (connection, _heard, mut peer) = modern().await;
    let params = raw(&json!({"name": "t", "_meta": {"mine": 1, "io.modelcontextprotocol/logLevel": "emergency"}}));
    let hooks = Hooks {
        trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        log_level: Some(LogLevel::Notice),
        caps: Some(raw(&json!({"sampling": {}}))),
        ..hooks()
    };
    let (result, meta) = tokio::join!(soon(connection.request("tools/call", Some(&params), hooks)), async {
        let asked = peer.expect("tools/call").await;
        peer.answer(&asked, &json!({})).await;
        asked["params"]["_meta"].clone()
    });
    result.unwrap();
    assert_eq!(
        meta,
        json!({
            "mine": 1,
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "forebay", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {"sampling": {}},
            "io.modelcontextprotocol/logLevel": "notice",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        })
    );
}

#[tokio::test]
async fn progress_finds_its_request_by_our_token_and_keeps_its_bytes() {
    let (connection, _heard, mut peer) = legacy(Wish::default()).await;
    let params = raw(&json!({"name": "t", "_meta": {"progressToken": "theirs"}}));
    let ((one, mut first), (two, mut second)) = (listening(), listening());
    let (a, b, ()) = tokio::join!(
        soon(connection.request("tools/call", Some(&params), one)),
        soon(connection.request("tools/call", Some(&params), two)),
        async {
            let asked = [peer.expect("tools/call").await, peer.expect("tools/call").await];
            for (n, asked) in asked.iter().enumerate() {
                let token = &asked["params"]["_meta"]["progressToken"];
                assert_eq!(token, &asked["id"], "our own token, which is no other request's");
                peer.tell(
                    "notifications/progress",
                    &json!({"progressToken": token, "progress": n, "extra": "x"}),
                )
                .await;
            }
            peer.tell("notifications/progress", &json!({"progressToken": 999, "progress": 1}))
                .await;
            for asked in asked.iter().rev() {
                peer.answer(asked, &json!({})).await;
            }
        }
    );
    a.unwrap();
    b.unwrap();
    assert_eq!(
        said(&first.recv().await.unwrap()),
        r#"progress {"extra":"x","progress":0,"progressToken":3}"#
    );
    assert_eq!(
        said(&second.recv().await.unwrap()),
        r#"progress {"extra":"x","progress":1,"progressToken":4}"#
    );
    assert!(first.recv().await.is_none() && second.recv().await.is_none());
    assert_eq!(connection.counts().dropped, 1, "the progress of nothing");
}

#[tokio::test]
async fn whoever_asked_for_no_progress_gets_no_token() {
    let (connection, _heard, mut peer) = legacy(Wish::default()).await;
    let params = raw(&json!({"name": "t"}));
    let (hooks, _emissions) = listening();
    let (result, ()) = tokio::join!(soon(connection.request("tools/call", Some(&params), hooks)), async {
        let asked = peer.expect("tools/call").await;
        assert_eq!(asked["params"], json!({"name": "t"}));
        peer.answer(&asked, &json!({})).await;
    });
    result.unwrap();
}

/// How a caller gives up.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Cancels,
    Drops,
    RunsOutOfTime,
}

async fn check_given_up(way: Way) {
    let (connection, _heard, mut peer) = legacy(Wish::default()).await;
    let params = raw(&json!({"name": "t"}));
    let cancel = CancellationToken::new();
    let hooks = Hooks {
        cancel: cancel.clone(),
        timeout: match way {
            Way::RunsOutOfTime => Duration::from_secs(3),
            Way::Cancels | Way::Drops => Duration::from_hours(1),
        },
        ..hooks()
    };
    let mut request = Box::pin(connection.request("tools/call", Some(&params), hooks));
    let asked = tokio::select! {
        _ = &mut request => panic!("nobody answers"),
        asked = peer.expect("tools/call") => asked,
    };
    match way {
        Way::Drops => drop(request),
        Way::Cancels => {
            cancel.cancel();
            assert!(matches!(request.await, Err(ClientFault::Cancelled)));
        }
        Way::RunsOutOfTime => assert!(matches!(request.await, Err(ClientFault::TimedOut(_)))),
    }
    let told = peer.expect("notifications/cancelled").await;
    assert_eq!(told["params"]["requestId"], asked["id"], "{way:?}");
    // Its late answer disturbs nobody.
    peer.answer(&asked, &json!({})).await;
    until(|| connection.counts().strange == 1).await;
    assert!(connection.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_given_up_in_any_way_is_taken_back() {
    for way in [Way::Cancels, Way::Drops, Way::RunsOutOfTime] {
        check_given_up(way).await;
    }
}

#[tokio::test]
async fn questions_reach_the_caller_and_its_answer_goes_back_as_it_is() {
    let (connection, _heard, mut peer) = legacy(Wish::default()).await;
    let params = raw(&json!({"name": "t"}));
    let (hooks, mut emissions) = listening();
    let (result, (), ()) = tokio::join!(
        soon(connection.request("tools/call", Some(&params), hooks)),
        async {
            let asked = peer.expect("tools/call").await;
            peer.say(r#"{"jsonrpc":"2.0","id":"q-1","method":"elicitation/create","params":{"message":"?"}}"#)
                .await;
            assert_eq!(
                peer.line().await,
                r#"{"jsonrpc":"2.0","id":"q-1","result":{"action": "accept","x":1.0}}"#
            );
            peer.say(r#"{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{}}"#)
                .await;
            assert_eq!(
                peer.line().await,
                r#"{"jsonrpc":"2.0","id":7,"error":{"code":-1,"message":"the user declined","data":{"a": 1}}}"#
            );
            peer.say(r#"{"jsonrpc":"2.0","id":8,"method":"sampling/createMessage","params":{}}"#)
                .await;
            let nobody: Value = serde_json::from_str(&peer.line().await).unwrap();
            assert_eq!((&nobody["id"], &nobody["error"]["code"]), (&json!(8), &json!(-32601)));
            peer.say(r#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#).await;
            assert_eq!(peer.line().await, r#"{"jsonrpc":"2.0","id":9,"result":{}}"#);
            peer.answer(&asked, &json!({})).await;
        },
        async {
            let mut question = async || match emissions.recv().await {
                Some(Emission::Question(question)) => question,
                other => panic!("{other:?}"),
            };
            let first = question().await;
            assert_eq!(
                (first.method.as_str(), first.params.unwrap().get()),
                ("elicitation/create", r#"{"message":"?"}"#)
            );
            let answer = serde_json::value::RawValue::from_string(r#"{"action": "accept","x":1.0}"#.to_owned());
            first.reply.send(Ok(answer.unwrap())).unwrap();
            let data = serde_json::value::RawValue::from_string(r#"{"a": 1}"#.to_owned()).unwrap();
            let declined = RpcError {
                code: -1,
                message: "the user declined".to_owned(),
                data: Some(data),
            };
            question().await.reply.send(Err(declined)).unwrap();
            drop(question().await);
        }
    );
    result.unwrap();
}

#[tokio::test]
async fn a_question_that_the_server_takes_back_is_withdrawn() {
    let (connection, mut heard, mut peer) = legacy(Wish::default()).await;
    peer.say(r#"{"jsonrpc":"2.0","id":"q","method":"roots/list"}"#).await;
    let Some(Emission::Question(mut question)) = soon(heard.next()).await else {
        panic!("without a request under way it is the listener's")
    };
    peer.tell("notifications/cancelled", &json!({"requestId": "q"})).await;
    soon(question.reply.closed()).await;
    assert!(connection.is_open());
}

#[tokio::test]
async fn a_modern_server_cannot_ask() {
    let (connection, mut heard, mut peer) = modern().await;
    peer.say(r#"{"jsonrpc":"2.0","id":"q","method":"roots/list"}"#).await;
    peer.tell("notifications/tools/list_changed", &json!({})).await;
    assert_eq!(
        said(&soon(heard.next()).await.unwrap()),
        "notifications/tools/list_changed {}"
    );
    assert_eq!(connection.counts().strange, 1);
}

/// Two requests under way, then a question: which of the two hears it?
async fn check_tenancy(tenancy: Tenancy, expected: &str) {
    let wish = Wish {
        tenancy,
        ..Wish::default()
    };
    let (connection, mut heard, mut peer) = legacy(wish).await;
    let params = raw(&json!({"name": "t"}));
    let ((one, mut first), (two, mut second)) = (listening(), listening());
    let first_request = connection.request("tools/call", Some(&params), one);
    let second_request = connection.request("tools/call", Some(&params), two);
    let asking = async {
        peer.expect("tools/call").await;
        peer.expect("tools/call").await;
        peer.say(r#"{"jsonrpc":"2.0","id":"q","method":"roots/list"}"#).await;
        tokio::select! {
            _ = first.recv() => "first",
            _ = second.recv() => "second",
            _ = heard.next() => "listener",
        }
    };
    let who = tokio::select! {
        biased;
        _ = first_request => "answered",
        _ = second_request => "answered",
        who = soon(asking) => who,
    };
    assert_eq!(who, expected, "{tenancy:?}");
}

#[tokio::test]
async fn a_question_without_an_address_never_reaches_another_caller() {
    check_tenancy(Tenancy::OneCaller, "second").await;
    check_tenancy(Tenancy::ManyCallers, "listener").await;
}

#[tokio::test]
async fn what_is_meant_for_a_call_that_was_given_up_reaches_no_other_tenant() {
    let wish = Wish {
        tenancy: Tenancy::ManyCallers,
        ..Wish::default()
    };
    let (connection, mut heard, mut peer) = legacy(wish).await;
    let params = raw(&json!({"name": "t"}));
    let ((one, _gone), (two, mut other)) = (listening(), listening());
    let first = connection.request("tools/call", Some(&params), one);
    tokio::select! {
        biased;
        _ = first => panic!("nobody answers it"),
        _ = peer.expect("tools/call") => {}
    }
    peer.expect("notifications/cancelled").await;
    // The first call was given up with its future; the second is alone now.
    let second = connection.request("tools/call", Some(&params), two);
    let telling = async {
        peer.expect("tools/call").await;
        peer.tell(
            "notifications/message",
            &json!({"level": "info", "data": "secret of the first"}),
        )
        .await;
        peer.tell("notifications/custom", &json!({"x": "of the first"})).await;
        peer.say(r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create"}"#)
            .await;
        for _ in 0..3 {
            tokio::select! {
                biased;
                got = other.recv() => panic!("{got:?}"),
                _ = heard.next() => {}
            }
        }
        "nobody"
    };
    let who = tokio::select! {
        biased;
        _ = second => "answered",
        who = soon(telling) => who,
    };
    assert_eq!(who, "nobody");
}

#[tokio::test]
async fn what_comes_outside_of_requests_is_heard() {
    let (_connection, mut heard, mut peer) = legacy(Wish::default()).await;
    for (method, params) in [
        ("notifications/tools/list_changed", json!({})),
        ("notifications/resources/updated", json!({"uri": "a:b"})),
        ("notifications/message", json!({"level": "info", "data": 1})),
        ("notifications/odd", json!({"x": 1})),
    ] {
        peer.tell(method, &params).await;
    }
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(said(&soon(heard.next()).await.unwrap()));
    }
    assert_eq!(
        all,
        [
            "notifications/tools/list_changed {}",
            r#"notifications/resources/updated {"uri":"a:b"}"#,
            r#"log {"data":1,"level":"info"}"#,
            r#"notifications/odd {"x":1}"#,
        ]
    );
}

#[tokio::test]
async fn a_server_that_dies_fails_what_is_under_way_and_the_connection_says_so() {
    let (connection, _heard, mut peer) = legacy(Wish::default()).await;
    let params = json!({"name": "t"});
    let (result, ()) = tokio::join!(call(&connection, &params), async {
        peer.expect("tools/call").await;
        drop(peer);
    });
    assert!(matches!(result, Err(ClientFault::Broken { .. })));
    soon(connection.closed()).await;
    assert!(!connection.is_open());
    assert!(matches!(
        call(&connection, &params).await,
        Err(ClientFault::Broken { .. })
    ));
}

#[tokio::test]
async fn closing_lets_go_of_the_pipe_and_so_does_dropping() {
    for closes in [true, false] {
        let (connection, _heard, mut peer) = modern().await;
        let other = connection.clone();
        if closes {
            connection.close().await;
            assert!(!other.is_open());
        } else {
            drop((connection, other));
        }
        soon(peer.ended()).await;
    }
}

#[tokio::test]
async fn further_requests_wait_while_as_many_as_allowed_are_under_way() {
    let wish = Wish {
        limits: Limits {
            under_way_max: 2,
            ..Limits::default()
        },
        ..Wish::default()
    };
    let (connection, _heard, mut peer) = legacy(wish).await;
    let params = json!({"name": "t"});
    let serve = async {
        let first = peer.expect("tools/call").await;
        let second = peer.expect("tools/call").await;
        peer.say(r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#).await;
        let next: Value = serde_json::from_str(&peer.line().await).unwrap();
        assert_eq!(next["id"], "p", "no third request came in between");
        peer.answer(&first, &json!({})).await;
        let third = peer.expect("tools/call").await;
        peer.answer(&second, &json!({})).await;
        peer.answer(&third, &json!({})).await;
    };
    let calls = futures_util::future::join_all((0..3).map(|_| call(&connection, &params)));
    let (results, ()) = tokio::join!(calls, serve);
    assert!(results.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_is_heard_made_again_and_ended() {
    let (connection, mut heard, mut peer) = modern().await;
    let subscription = connection.listen(&raw(&json!({"toolsListChanged": true})));
    let first = peer.expect("subscriptions/listen").await;
    assert_eq!(first["params"]["notifications"], json!({"toolsListChanged": true}));
    let meta = json!({"_meta": {"io.modelcontextprotocol/subscriptionId": first["id"]}});
    peer.tell("notifications/tools/list_changed", &meta).await;
    assert!(said(&soon(heard.next()).await.unwrap()).starts_with("notifications/tools/list_changed"));
    // Ended by the server, in either way.
    peer.tell("notifications/cancelled", &json!({"requestId": first["id"]}))
        .await;
    let second = peer.expect("subscriptions/listen").await;
    assert_ne!(first["id"], second["id"]);
    peer.answer(&second, &json!({})).await;
    let third = peer.expect("subscriptions/listen").await;
    drop(subscription);
    let told = peer.expect("notifications/cancelled").await;
    assert_eq!(told["params"]["requestId"], third["id"]);
}
