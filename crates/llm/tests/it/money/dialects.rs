//! Every API at every sort of engine, whole and streamed: nothing passes without its hold.

use super::*;
use forebay_testkit::openai::polite_events;

const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"So."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":11,"output_tokens":7}}"#;

const MESSAGE_EVENTS: [&str; 6] = [
    r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":11,"output_tokens":1}}}"#,
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"So."}}"#,
    r#"{"type":"content_block_stop","index":0}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":7}}"#,
    r#"{"type":"message_stop"}"#,
];

/// One request in each API, and the field that limits its answer where it goes.
fn request(endpoint: Endpoint, stream: bool) -> Value {
    let said = json!([{ "role": "user", "content": "Why?" }]);
    match endpoint {
        Endpoint::Chat => json!({ "model": "qwen", "messages": said, "stream": stream }),
        Endpoint::Completions => json!({ "model": "qwen", "prompt": "Why?", "stream": stream }),
        Endpoint::Embeddings => json!({ "model": "qwen", "input": ["Why?"] }),
        Endpoint::Responses => json!({ "model": "qwen", "input": "Why?", "stream": stream }),
        Endpoint::Messages => json!({ "model": "qwen", "messages": said, "stream": stream, "max_tokens": 300 }),
    }
}

fn reply(sent_to: Endpoint, stream: bool) -> Reply {
    match (sent_to, stream) {
        (Endpoint::Messages, false) => Reply::whole(200, "application/json", MESSAGE),
        (Endpoint::Messages, true) => {
            let named = |data: &&str| {
                let value: Value = serde_json::from_str(data).unwrap();
                format!("event: {}\ndata: {data}\n\n", value["type"].as_str().unwrap())
            };
            Reply::events().piece(MESSAGE_EVENTS.iter().map(named).collect::<String>())
        }
        (Endpoint::Embeddings, _) => {
            let usage = json!({ "prompt_tokens": 25, "total_tokens": 25 });
            Reply::json(
                200,
                &json!({ "object": "list", "data": [{ "embedding": [0.5] }], "usage": usage }),
            )
        }
        (Endpoint::Completions, false) => {
            let usage = json!({ "prompt_tokens": 11, "completion_tokens": 7 });
            Reply::json(
                200,
                &json!({ "object": "text_completion", "choices": [{ "text": "So." }], "usage": usage }),
            )
        }
        (_, true) => polite_events("m", true).into_iter().fold(Reply::events(), Reply::piece),
        (_, false) => Reply::polite(&json!({ "model": "m" })),
    }
}

/// What the limit of the answer is called where it goes, and what it says.
fn limited(endpoint: Endpoint, sent: &Value) -> Option<u64> {
    let expected = match endpoint {
        Endpoint::Embeddings => return None,
        Endpoint::Completions => 16,
        Endpoint::Messages => 300,
        Endpoint::Chat | Endpoint::Responses => 4_096,
    };
    assert_eq!(sent["max_tokens"], expected, "{sent}");
    Some(expected)
}

#[tokio::test]
async fn every_api_holds_and_settles_at_every_engine() {
    let mut asked = 0;
    for engine in ["vllm", "anthropic"] {
        for endpoint in Endpoint::ALL {
            for stream in [false, true] {
                let sent_to = match (engine, endpoint) {
                    ("anthropic", Endpoint::Embeddings) => continue,
                    ("anthropic", _) => Endpoint::Messages,
                    (_, Endpoint::Responses | Endpoint::Messages) => Endpoint::Chat,
                    (_, other) => other,
                };
                if stream && endpoint == Endpoint::Embeddings {
                    continue;
                }
                let world = World::with(
                    |url| json!({ "qwen": { "backends": [{ "url": url, "engine": engine }], "price": price() } }),
                )
                .await;
                let what = format!("{endpoint:?} at {engine}, streamed: {stream}");
                let body = request(endpoint, stream);
                limit(&world, "0.50");
                let refused = ask(&world, endpoint, &body).await.err().expect(&what);
                assert_eq!(refused.code, Code::SpendingLimitExceeded, "{what}");
                assert!(world.engine.seen().is_empty(), "{what}");

                limit(&world, "100");
                world.engine.will(reply(sent_to, stream));
                let (text, code) = drain(ask(&world, endpoint, &body).await.unwrap()).await;
                assert_eq!(code, None, "{what}: {text}");
                assert_eq!(settled(&world).await, POLITE, "{what}");
                let movements = movements(&world, 2).await;
                assert_eq!(kinds(&movements), [TxnKind::Hold, TxnKind::Settle], "{what}");
                assert!(!movements[1].estimated && !movements[1].above_hold, "{what}");
                let output = limited(endpoint, &world.engine.seen()[0].json()).unwrap_or(0);
                let least = usd("0.002").micros() * i64::try_from(output).unwrap();
                assert!(movements[0].held.micros() >= least, "{what}: {:?}", movements[0].held);
                asked += 1;
            }
        }
    }
    assert_eq!(asked, 17);
}

/// OpenAI's newer models refuse the older field.
#[tokio::test]
async fn an_engine_of_openai_gets_the_limit_in_its_newer_field() {
    let world = World::with(|url| {
        json!({ "qwen": { "backends": [{ "url": url, "engine": "openai" }], "price": price(), "output_tokens_max": 99 } })
    })
    .await;
    limit(&world, "100");
    for endpoint in [Endpoint::Chat, Endpoint::Responses] {
        drain(ask(&world, endpoint, &request(endpoint, false)).await.unwrap()).await;
    }
    for seen in world.engine.seen() {
        let sent = seen.json();
        assert_eq!(sent["max_completion_tokens"], 99, "{sent}");
        assert!(sent.get("max_tokens").is_none(), "{sent}");
    }
}

/// Of a gateway with a limit it is told what `context_tokens` is for.
#[tokio::test]
async fn what_has_no_size_is_asked_only_of_a_model_with_a_known_context() {
    let film = json!([{ "type": "video_url", "video_url": { "url": "http://h/film" } }]);
    let body = json!({ "model": "qwen", "max_tokens": 9, "messages": [{ "role": "user", "content": film }] });
    let world = priced().await;
    limit(&world, "100");
    let refused = world.ask(&body).await.err().unwrap();
    assert_eq!(refused.code, Code::UnpricedModel);
    assert!(refused.hint.unwrap().contains("models.qwen.context_tokens"));
    assert!(world.engine.seen().is_empty());
    let backends = json!([{ "url": world.engine.url() }]);
    let config = json!({ "qwen": { "backends": backends, "price": price(), "context_tokens": 2_000 } });
    world.router.reconfigure(crate::world::settings(config));
    assert_eq!(world.read(&body).await.1, None);
    assert_eq!(settled(&world).await, POLITE);
    assert_eq!(movements(&world, 2).await[0].held, usd("2.018002"));
}
