//! Every API at every backend: what passes as it is, and what is translated.

use crate::world::{World, drain, pieces, user};
use bytes::Bytes;
use forebay_domain::{
    Code, Failure,
    event::{Outcome, Usage},
    model::{Answer, AnswerForm, Endpoint, Hints, ModelRequest},
};
use forebay_testkit::openai::{ANSWER, Reply, chunk, event};
use serde_json::{Value, json};

/// `qwen` on an engine that speaks Anthropic's API.
async fn anthropic() -> World {
    World::with(|engine| json!({ "qwen": { "backends": [{ "url": engine, "engine": "anthropic" }] } })).await
}

async fn ask(world: &World, endpoint: Endpoint, body: &Value) -> Result<Answer, Failure> {
    world
        .send(
            &user(),
            ModelRequest {
                endpoint,
                model: "qwen".to_owned(),
                body: Bytes::from(body.to_string()),
                hints: Hints::default(),
            },
        )
        .await
}

async fn read(world: &World, endpoint: Endpoint, body: &Value) -> String {
    let (text, code) = drain(ask(world, endpoint, body).await.unwrap()).await;
    assert_eq!(code, None, "{text}");
    text
}

fn message(stream: bool) -> Value {
    json!({ "model": "qwen", "max_tokens": 9, "messages": [{ "role": "user", "content": "Why?" }], "stream": stream })
}

/// An answer as Anthropic's API gives it.
const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"So."}], "stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":2,"cache_read_input_tokens":1}}"#;

const MESSAGE_EVENTS: [&str; 6] = [
    r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":4,"output_tokens":1}}}"#,
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"So."}}"#,
    r#"{"type":"content_block_stop","index":0}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":2}}"#,
    r#"{"type":"message_stop"}"#,
];

fn message_events() -> String {
    let named = |data: &&str| {
        let value: Value = serde_json::from_str(data).unwrap();
        format!("event: {}\ndata: {data}\n\n", value["type"].as_str().unwrap())
    };
    MESSAGE_EVENTS.iter().map(named).collect()
}

fn used(input_tokens: u64, output_tokens: u64) -> Usage {
    Usage {
        input_tokens,
        output_tokens,
        estimated: false,
    }
}

#[tokio::test]
async fn a_message_passes_unchanged_where_the_engine_speaks_that_api() {
    let world = anthropic().await;
    world.engine.will(Reply::whole(200, "application/json", MESSAGE));
    assert_eq!(read(&world, Endpoint::Messages, &message(false)).await, MESSAGE);
    let events = message_events();
    world.engine.will(Reply::events().piece(events.clone()));
    assert_eq!(read(&world, Endpoint::Messages, &message(true)).await, events);
    let seen = world.engine.seen();
    assert!(seen.iter().all(|seen| seen.path == "/v1/messages"));
    assert_eq!(seen[0].json(), message(false));
    let all = world.events(2).await;
    assert_eq!(
        all.iter().map(|event| event.usage).collect::<Vec<_>>(),
        [Some(used(4, 2)); 2]
    );
}

#[tokio::test]
async fn a_stream_of_messages_that_breaks_off_is_an_error() {
    let world = anthropic().await;
    let cut = message_events().split("event: message_stop").next().unwrap().to_owned();
    world.engine.will(Reply::events().piece(cut.clone()));
    let answer = ask(&world, Endpoint::Messages, &message(true)).await.unwrap();
    assert_eq!(drain(answer).await, (cut, Some(Code::UpstreamTruncated)));
}

#[tokio::test]
async fn completions_and_embeddings_pass_unchanged() {
    let world = World::new().await;
    let completion =
        r#"{"object":"text_completion", "choices":[{"text":"So."}],"usage":{"prompt_tokens":2,"completion_tokens":1}}"#;
    let embeddings = r#"{"object":"list", "data":[{"embedding":[0.50]}],"usage":{"prompt_tokens":5,"total_tokens":5}}"#;
    for (endpoint, body, answer) in [
        (
            Endpoint::Completions,
            json!({ "model": "qwen", "prompt": "Why?" }),
            completion,
        ),
        (
            Endpoint::Embeddings,
            json!({ "model": "qwen", "input": ["Why?"] }),
            embeddings,
        ),
    ] {
        world.engine.will(Reply::whole(200, "application/json", answer));
        assert_eq!(read(&world, endpoint, &body).await, answer);
        let seen = world.engine.seen().pop().unwrap();
        assert_eq!(seen.path, format!("/v1/{}", endpoint.path()));
        assert_eq!(seen.json()["model"], "org/Qwen");
    }
    for (endpoint, missing) in [(Endpoint::Completions, "prompt"), (Endpoint::Embeddings, "input")] {
        let failure = ask(&world, endpoint, &json!({ "model": "qwen" })).await.err().unwrap();
        assert_eq!(failure.message, format!("`{missing}` is missing."));
    }
    for (field, value) in [
        ("mcp_context", json!({ "providers": ["docs"] })),
        ("tool_execution", json!("client")),
    ] {
        let mut body = json!({ "model": "qwen", "input": [field] });
        world.engine.will(Reply::whole(200, "application/json", embeddings));
        read(&world, Endpoint::Embeddings, &body).await;
        body[field] = value;
        let failure = ask(&world, Endpoint::Embeddings, &body).await.err().unwrap();
        assert!(
            failure
                .message
                .starts_with(&format!("`{field}` has no meaning for embeddings")),
            "{failure:?}"
        );
    }
    let all = world.events(8).await;
    assert_eq!((all[0].usage, all[1].usage), (Some(used(2, 1)), Some(used(5, 0))));
}

#[tokio::test]
async fn a_chat_is_translated_for_an_engine_of_anthropics_api() {
    let world = anthropic().await;
    let mut body = json!({ "model": "qwen", "messages": [{ "role": "system", "content": "Be kind." },
        { "role": "user", "content": "Why?" }] });
    world.engine.will(Reply::whole(200, "application/json", MESSAGE));
    let answer: Value = serde_json::from_str(&read(&world, Endpoint::Chat, &body).await).unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "So.");
    assert_eq!(
        (&answer["model"], &answer["object"]),
        (&json!("qwen"), &json!("chat.completion"))
    );
    assert_eq!(answer["usage"]["total_tokens"], 6);
    assert!(answer.get("forebay").is_none(), "the gateway only translated");
    body["stream"] = true.into();
    world.engine.will(Reply::events().piece(message_events()));
    let text = read(&world, Endpoint::Chat, &body).await;
    assert!(
        text.contains(r#""content":"So.""#) && text.ends_with("data: [DONE]\n\n"),
        "{text}"
    );
    assert!(!text.contains("\"usage\":{"), "nobody asked for it");
    let asked = world.engine.seen()[1].json();
    assert_eq!((&asked["model"], &asked["stream"]), (&json!("qwen"), &json!(true)));
    assert!(asked["system"].to_string().contains("Be kind.") && asked.get("stream_options").is_none());
    let all = world.events(2).await;
    assert!(
        all.iter()
            .all(|event| event.outcome == Outcome::Ok && event.usage == Some(used(4, 2))),
        "{all:?}"
    );
}

#[tokio::test]
async fn responses_and_messages_are_answered_by_any_engine() {
    let world = World::new().await;
    let body = json!({ "model": "qwen", "input": "Why?", "instructions": "Be kind." });
    let response: Value = serde_json::from_str(&read(&world, Endpoint::Responses, &body).await).unwrap();
    assert_eq!(response["object"], "response");
    assert_eq!(response["output"][0]["content"][0]["text"], ANSWER);
    assert_eq!(
        (&response["model"], &response["store"]),
        (&json!("qwen"), &json!(true)),
        "{response}"
    );
    let sent = world.engine.seen()[0].clone();
    assert_eq!(
        (sent.path.as_str(), &sent.json()["model"]),
        ("/v1/chat/completions", &json!("org/Qwen"))
    );
    assert_eq!(
        sent.json()["messages"][0],
        json!({ "role": "system", "content": "Be kind." })
    );

    let answer: Value = serde_json::from_str(&read(&world, Endpoint::Messages, &message(false)).await).unwrap();
    assert_eq!(
        (&answer["type"], &answer["content"][0]["text"]),
        (&json!("message"), &json!(ANSWER))
    );
    let text = read(&world, Endpoint::Messages, &message(true)).await;
    assert!(
        text.starts_with("event: message_start\n") && text.contains("event: message_stop\n"),
        "{text}"
    );

    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    let answer = ask(&world, Endpoint::Responses, &streamed).await.unwrap();
    assert_eq!(answer.form(), AnswerForm::Events);
    let (text, code) = drain(answer).await;
    assert_eq!(code, None);
    assert!(
        text.starts_with("event: response.created\n") && text.contains("event: response.completed\n"),
        "{text}"
    );
    assert!(text.contains(r#""total_tokens":18"#), "{text}");
}

#[tokio::test]
async fn a_translated_stream_that_breaks_off_never_looks_complete() {
    let world = World::new().await;
    let first = event(&chunk("m", &json!({ "content": "So" }), None));
    world.engine.will(Reply::events().piece(first));
    let answer = ask(&world, Endpoint::Messages, &message(true)).await.unwrap();
    let (text, code) = drain(answer).await;
    assert_eq!(code, Some(Code::UpstreamTruncated));
    assert!(text.contains("So") && !text.contains("message_stop"), "{text}");
    assert_eq!(world.event().await.outcome, Outcome::Failed(Code::UpstreamTruncated));
}

#[tokio::test]
async fn a_client_that_leaves_a_translated_stream_ends_it() {
    let world = World::new().await;
    let first = event(&chunk("m", &json!({ "content": "So" }), None));
    world.engine.will(Reply::events().piece(first).gate());
    let mut answer = ask(&world, Endpoint::Messages, &message(true)).await.unwrap();
    futures_util::StreamExt::next(pieces(&mut answer))
        .await
        .unwrap()
        .unwrap();
    drop(answer);
    world.engine.left(1).await;
    assert_eq!(world.event().await.outcome, Outcome::Cancelled);
}
