//! Answers in one piece, the record they leave, and which backend gives them.

use crate::world::{ENGINE_KEY, World, chat, drain, failed, settings, trace, user, via};
use bytes::Bytes;
use forebay_domain::{
    Code,
    event::{Actor, Outcome, Surface, Usage},
    model::{AnswerForm, Endpoint, Hints, ModelRequest},
    port::AskModel,
};
use forebay_testkit::openai::{ANSWER, COMPLETION_TOKENS, Engine, PROMPT_TOKENS, Reply, absent_url};
use serde_json::{Value, json};

#[tokio::test]
async fn an_answer_passes_unchanged_and_leaves_one_event() {
    let world = World::new().await;
    let exact = "{ \"choices\" : [ {\"x\":1.50} ],\n\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7}, \"own\":\"\\u00e9\" }";
    world
        .engine
        .will(Reply::whole(200, "application/json; charset=utf-8", exact));
    let body = chat();
    let answer = world.ask(&body).await.unwrap();
    assert_eq!(answer.form(), AnswerForm::Whole);
    assert_eq!(drain(answer).await, (exact.to_owned(), None));

    let event = world.event().await;
    assert_eq!((event.surface, event.trace, event.count), (Surface::OpenAi, trace(), 1));
    assert_eq!(event.actor, Some(Actor::from(&user())));
    assert_eq!((event.action.as_str(), event.outcome), ("model:qwen", Outcome::Ok));
    assert_eq!(event.reason.as_deref(), Some("allowed by `model:*` of role user"));
    assert_eq!(
        (event.bytes_in, event.bytes_out),
        (body.to_string().len() as u64, exact.len() as u64)
    );
    let used = Usage {
        input_tokens: PROMPT_TOKENS,
        output_tokens: COMPLETION_TOKENS,
        estimated: false,
    };
    assert_eq!(event.usage, Some(used));
    assert!(event.duration_us > 0);
}

#[tokio::test]
async fn the_engine_gets_the_body_as_it_came_and_no_header_but_ours() {
    let world = World::new().await;
    let body = r#" {"temperature":0.10, "model":"qwen","messages":[{"role":"user","content":"h\u00e9"}],"x_new":{"a":[1e3]}} "#;
    drain(world.ask_as(&user(), "qwen", body).await.unwrap()).await;
    let seen = &world.engine.seen()[0];
    assert_eq!(
        (seen.method.as_str(), seen.path.as_str()),
        ("POST", "/v1/chat/completions")
    );
    assert_eq!(seen.body, body.replace("\"qwen\"", "\"org/Qwen\""));
    let mut names: Vec<_> = seen.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "accept",
            "authorization",
            "content-length",
            "content-type",
            "host",
            "traceparent",
            "user-agent"
        ]
    );
    assert_eq!(
        seen.header("authorization"),
        Some(format!("Bearer {ENGINE_KEY}").as_str())
    );
    assert!(seen.header("user-agent").unwrap().starts_with("forebay/"));
    let traceparent = seen.header("traceparent").unwrap();
    assert!(traceparent.starts_with(&format!("00-{}-", trace())), "{traceparent}");
    assert_eq!(traceparent.len(), 55);
}

/// Engines that ignore case would take it for the model, whatever was allowed and priced.
#[tokio::test]
async fn a_second_way_to_name_a_model_reaches_no_engine() {
    let world = World::new().await;
    for body in [
        r#"{"model":"qwen","MODEL":"dear","messages":[{"role":"user","content":"h"}]}"#,
        r#"{"Model":"dear","messages":[{"role":"user","content":"h"}],"tools":[{"type":"function","function":{"name":"x"}}]}"#,
    ] {
        let refused = world.ask_as(&user(), "qwen", body).await.map(drop).unwrap_err();
        assert_eq!(refused.code, Code::InvalidRequest, "{refused}");
    }
    assert!(world.engine.seen().is_empty());
}

#[tokio::test]
async fn usage_that_no_engine_told_is_guessed_and_marked() {
    let world = World::new().await;
    world.engine.will(Reply::json(
        200,
        &json!({ "choices": [{ "message": { "content": ANSWER } }] }),
    ));
    world.read(&chat()).await;
    let usage = world.event().await.usage.unwrap();
    assert!(usage.estimated);
    assert_eq!(usage.output_tokens, 6, "words stand for tokens");
    assert!(
        !world.metrics().contains("gen_ai_client_token_usage_bucket"),
        "no guess enters the metrics"
    );
}

#[tokio::test]
async fn the_metrics_count_what_was_asked() {
    let world = World::new().await;
    world.read(&chat()).await;
    world.engine.will(Reply::json(500, &json!({})));
    world.read(&chat()).await;
    let text = world.metrics();
    for line in [
        r#"gen_ai_server_request_duration_seconds_count{gen_ai_request_model="qwen",outcome="ok"} 1"#,
        r#"gen_ai_server_request_duration_seconds_count{gen_ai_request_model="qwen",outcome="upstream_failed"} 1"#,
        r#"gen_ai_client_token_usage_sum{gen_ai_request_model="qwen",gen_ai_token_type="input"} 11.0"#,
        r#"gen_ai_client_token_usage_sum{gen_ai_request_model="qwen",gen_ai_token_type="output"} 7.0"#,
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is missing in\n{text}");
    }
}

fn two_backends(first: &str, second: &str) -> Value {
    json!({ "qwen": { "backends": [{ "url": first }, { "url": second }] } })
}

#[tokio::test]
async fn a_model_without_any_reachable_backend_says_so() {
    let (first, second) = (absent_url().await, absent_url().await);
    let world = World::with(|_| two_backends(&first, &second)).await;
    let failure = world.ask(&chat()).await.err().unwrap();
    assert_eq!(failure.code, Code::UpstreamFailed);
    assert!(failure.message.contains("model `qwen`"), "{}", failure.message);
    assert!(!failure.chain().contains("127.0.0.1"), "{}", failure.chain());
    assert_eq!(world.event().await.outcome, failed(Code::UpstreamFailed));
}

#[tokio::test]
async fn new_settings_hold_for_new_requests_only() {
    let world = World::new().await;
    let other = Engine::start().await;
    world.engine.will(Reply::polite(&chat()).hold_head());
    let body = chat();
    let under_way = world.read(&body);
    let change = async {
        world.engine.asked(1).await;
        world
            .router
            .reconfigure(settings(json!({ "new": { "backends": [{ "url": other.url() }] } })));
        let gone = world.ask(&chat()).await.err().unwrap();
        assert_eq!(gone.code, Code::UnknownModel);
        let new = world.ask_as(&user(), "new", &chat().to_string()).await.unwrap();
        assert_eq!(drain(new).await.1, None);
        world.engine.open_gate();
    };
    let ((text, code), ()) = tokio::join!(under_way, change);
    assert_eq!(code, None);
    assert!(text.contains(ANSWER));
    assert_eq!((world.engine.seen().len(), other.seen().len()), (1, 1));
    assert_eq!(other.seen()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_request_under_way_is_small() {
    let world = World::new().await;
    let request = ModelRequest {
        endpoint: Endpoint::Chat,
        model: "qwen".to_owned(),
        body: Bytes::from(chat().to_string()),
        hints: Hints::default(),
    };
    let user = user();
    let under_way = world.router.complete(&user, request, via());
    // Each is made on the stack and moved; with all that a turn remembers in it that were 19 KB.
    let bytes = size_of_val(&*under_way);
    assert!(bytes <= 16 * 1024, "{bytes} bytes");
}
