//! Calls one after another.

use super::Bench;
use forebay_domain::Code;
use serde_json::{Value, json};

#[tokio::test]
async fn later_arguments_take_values_from_earlier_results() {
    let bench = Bench::open().await;
    let steps = json!({"steps": [
        {"tool": "calculator", "arguments": {"expression": "6*7"}, "id": "sum"},
        {"tool": "lab__text"},
        {"tool": "lab__echo", "arguments": {
            "by_id": {"$from": "/sum/structuredContent/result"},
            "deep": [{"by_number": {"$from": "/0/structuredContent/result"}}, 1],
            "text": {"$text": "/1"},
            "block": {"$from": "/1/content/1"},
            "kept": {"$other": "/0"}
        }},
        {"tool": "calculator", "arguments": {"expression": {"$from": "/2/structuredContent/got/by_id"}}},
    ]});
    let got = bench.call("call_chain", &steps).await;
    assert!(!got.is_error, "{got:?}");
    assert_eq!(
        got.told["steps"][2]["result"]["structuredContent"]["got"],
        json!({
            "by_id": "42",
            "deep": [{"by_number": "42"}, 1],
            "text": "one\n\"two\"",
            "block": {"type": "text", "text": "\"two\""},
            "kept": {"$other": "/0"}
        })
    );
    assert_eq!(got.told["steps"][0]["id"], "sum");
    assert_eq!(got.told["steps"].as_array().unwrap().len(), 4);
    assert_eq!(got.told["result"], got.told["steps"][3]["result"]);
    assert_eq!(got.told["result"]["structuredContent"]["result"], "42");
}

#[tokio::test]
async fn values_are_handed_on_byte_for_byte() {
    let bench = Bench::open().await;
    let steps = json!({"steps": [
        {"tool": "lab__odd"},
        {"tool": "lab__echo", "arguments": {"n": {"$from": "/0/x-odd"}}},
    ]});
    let got = bench.call("call_chain", &steps).await;
    assert!(got.raw.contains(r#"{"got":{"n":1.50}}"#), "{}", got.raw);
}

/// The error at the end of a chain that breaks off after so many steps.
async fn breaks(bench: &Bench, steps: Value, ends: usize) -> Value {
    let got = bench.call("call_chain", &json!({"steps": steps})).await;
    assert!(got.is_error);
    assert_eq!(got.told.get("result"), None);
    let told = got.told["steps"].as_array().unwrap();
    assert_eq!(told.len(), ends, "{told:?}");
    let (last, before) = told.split_last().unwrap();
    assert!(before.iter().all(|step| step["ok"] == true), "what was done is kept");
    assert_eq!(last["ok"], false);
    last.clone()
}

#[tokio::test]
async fn a_chain_ends_at_the_first_step_that_fails() {
    let bench = Bench::open().await;
    let echo = json!({"tool": "lab__echo", "arguments": {}});
    let failed = breaks(&bench, json!([echo, {"tool": "lab__fail"}, echo]), 2).await;
    assert_eq!(failed["result"]["content"][0]["text"], "no luck");
    let unknown = breaks(&bench, json!([echo, {"tool": "nothing"}, echo]), 2).await;
    assert_eq!(unknown["error"]["code"], "UNKNOWN_TOOL");
    let nested = breaks(
        &bench,
        json!([{"tool": "call_batch", "arguments": {"calls": [echo]}}, echo]),
        1,
    )
    .await;
    assert_eq!(nested["error"]["code"], "INVALID_ARGUMENTS");
    let big = json!({"tool": "lab__big", "arguments": {"bytes": 1_500_000}});
    let large = breaks(&bench, json!([big, big, echo]), 2).await;
    assert_eq!(large["error"]["code"], "RESULT_TOO_LARGE");
}

#[tokio::test]
async fn a_pointer_that_finds_nothing_says_what_is_there() {
    let bench = Bench::open().await;
    for (reference, expected) in [
        (
            json!({"$from": "/0/structuredContent/results"}),
            "Step 1: `/0/structuredContent/results` finds nothing: `structuredContent` has the keys `got`.",
        ),
        (
            json!({"$from": "/first/nope"}),
            "Step 1: `/first/nope` finds nothing: the result has the keys `content`, `structuredContent`.",
        ),
        (
            json!({"$from": "/0/content/3"}),
            "Step 1: `/0/content/3` finds nothing: `content` is a list of 0.",
        ),
        (
            json!({"$text": "/0"}),
            "Step 1: `/0` finds nothing: the result has no text.",
        ),
    ] {
        let steps = json!([
            {"tool": "lab__echo", "arguments": {"a": 1}, "id": "first"},
            {"tool": "lab__echo", "arguments": {"b": [reference]}},
            {"tool": "lab__echo"},
        ]);
        let last = breaks(&bench, steps, 2).await;
        assert_eq!(last["error"]["code"], "INVALID_ARGUMENTS");
        assert_eq!(last["error"]["message"], expected);
    }
}

#[tokio::test]
async fn a_chain_that_cannot_work_runs_nothing() {
    let bench = Bench::open().await;
    let wrong = |reference: Value| json!({"steps": [{"tool": "lab__echo", "arguments": {"a": reference}, "id": "me"}, {"tool": "lab__echo", "id": "later"}]});
    let echo = json!({"tool": "lab__echo", "id": "x"});
    let refused = [
        wrong(json!({"$from": "/0/structuredContent"})),
        wrong(json!({"$from": "/me/structuredContent"})),
        wrong(json!({"$from": "/later/structuredContent"})),
        wrong(json!({"$from": "/1"})),
        wrong(json!({"$from": "/nobody"})),
        wrong(json!({"$from": ""})),
        wrong(json!({"$text": "me"})),
        json!({"steps": [echo, echo]}),
        json!({"steps": [{"tool": "lab__echo", "id": "0"}]}),
        json!({"steps": []}),
        json!({"steps": vec![json!({"tool": "lab__echo"}); 21]}),
    ];
    for steps in &refused {
        assert_eq!(
            bench.refusal("call_chain", steps).await.code,
            Code::InvalidArguments,
            "{steps}"
        );
    }
    let events = bench.gate.events(refused.len()).await;
    assert!(
        events.iter().all(|event| event.action == "tool:call_chain"),
        "{events:?}"
    );
}
