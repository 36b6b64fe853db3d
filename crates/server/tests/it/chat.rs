//! Chat through the gateway: whole, streamed, cut off, and never with the caller's credentials.

use crate::rig::{Rig, eventually};
use forebay_testkit::openai::{ANSWER, End, Reply, chunk, event};
use serde_json::{Value, json};

fn ask(stream: bool) -> Value {
    json!({"model": "stub", "stream": stream, "messages": [{"role": "user", "content": "prompt-canary-77"}], "x_unknown": {"a": [1, 2]}})
}

#[tokio::test]
async fn unknown_fields_survive_and_our_keys_stay_here() {
    let rig = Rig::start().await;
    let request = rig
        .request("POST", "/v1/chat/completions", "")
        .bearer_auth(&rig.admin)
        .header("cookie", "session=cookie-canary");
    let response = request.json(&ask(false)).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let told = response.content_length();
    let body = response.bytes().await.unwrap();
    assert_eq!(told, Some(body.len() as u64), "a whole answer tells its length");
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], ANSWER);
    let seen = &rig.engine.seen()[0];
    assert_eq!(seen.json()["x_unknown"], json!({"a": [1, 2]}));
    assert_eq!(seen.header("authorization"), Some("Bearer sk-backend-canary-3f1c"));
    let secret = rig.admin.rsplit('_').next().unwrap();
    for (name, value) in &seen.headers {
        assert!(
            !value.contains(secret) && !value.contains("cookie-canary"),
            "{name}: {value}"
        );
    }
}

#[tokio::test]
async fn a_stream_passes_and_a_failing_one_ends_with_an_error_event() {
    let rig = Rig::start().await;
    let whole = rig.post("/v1/chat/completions", &rig.admin, &ask(true)).await;
    assert_eq!(whole.headers()["content-type"], "text/event-stream");
    let text = whole.text().await.unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let begun = event(&chunk("stub", &json!({"content": "The"}), None));
    rig.engine.will(Reply::events().piece(begun).end(End::Cut));
    let cut = rig
        .post("/v1/chat/completions", &rig.admin, &ask(true))
        .await
        .text()
        .await
        .unwrap();
    let last = cut.trim_end().rsplit("data: ").next().unwrap();
    let error: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("{cut}"));
    assert_eq!(error["error"]["forebay_code"], "upstream_truncated", "{cut}");
    assert!(!cut.contains("[DONE]"));
}

#[tokio::test]
async fn a_client_that_goes_cancels_upstream_and_leaves_an_event() {
    let rig = Rig::start().await;
    rig.engine.will(
        Reply::events()
            .piece(event(&chunk("stub", &json!({"content": "The"}), None)))
            .gate(),
    );
    let response = rig.post("/v1/chat/completions", &rig.admin, &ask(true)).await;
    assert_eq!(response.status(), 200);
    drop(response);
    rig.engine.left(1).await;
    eventually("the event says that it was cancelled", || async {
        let events: Value = rig.get("/api/v1/events?limit=1000").await.json().await.unwrap();
        let mut events = events["events"].as_array().unwrap().iter();
        events.any(|event| event["action"] == "model:stub" && event["outcome"] == "cancelled")
    })
    .await;
}

#[tokio::test]
async fn usage_is_recorded_and_the_trace_explains() {
    let rig = Rig::start().await;
    let response = rig.post("/v1/chat/completions", &rig.admin, &ask(false)).await;
    let trace = response.headers()["x-trace-id"].to_str().unwrap().to_owned();
    let path = format!("/api/v1/explain?trace={trace}");
    eventually("the trace has both events", || async {
        let told: Value = rig.get(&path).await.json().await.unwrap();
        told["events"].as_array().is_some_and(|events| events.len() == 2)
    })
    .await;
    let told: Value = rig.get(&path).await.json().await.unwrap();
    let model = told["events"]
        .as_array()
        .unwrap()
        .iter()
        .find(|event| event["action"] == "model:stub")
        .unwrap();
    assert_eq!(model["input_tokens"], forebay_testkit::openai::PROMPT_TOKENS);
    assert_eq!(model["output_tokens"], forebay_testkit::openai::COMPLETION_TOKENS);
    assert_eq!(model["usage_estimated"], false);
    assert!(!told.to_string().contains("prompt-canary-77"), "no prompts in events");
}

#[tokio::test]
async fn a_model_that_is_not_there_is_named_with_those_that_are() {
    let rig = Rig::start().await;
    let response = rig
        .post(
            "/v1/chat/completions",
            &rig.admin,
            &json!({"model": "gpt-9", "messages": []}),
        )
        .await;
    assert_eq!(response.status(), 404);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["code"], "model_not_found");
    assert!(body["error"]["message"].as_str().unwrap().contains("stub"), "{body}");
    let narrow = rig.key("acme", "n", forebay_domain::Role::User, &["model:other"]).await;
    let listed: Value = rig
        .request("GET", "/v1/models", &narrow)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(listed["data"], json!([]));
}
