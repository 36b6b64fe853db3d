//! Calls in parallel.

use super::{Bench, context, got, lab::Waiting, with_grants};
use crate::support::principal;
use forebay_domain::{Code, Role, event::Outcome as Ending};
use forebay_mcp::{CallContext, Outcome};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn what_fails_takes_nothing_along() {
    let bench = Bench::open().await;
    let calls = json!({"calls": [
        {"tool": "lab__echo", "arguments": {"a": 1}},
        {"tool": "lab__fail"},
        {"tool": "nothing", "arguments": {}},
        {"tool": "lab__refuse"},
        {"tool": "lab__input"},
        {"tool": "lab__ask"},
        {"tool": "calculator", "arguments": {"expression": "6*7"}},
    ]});
    let got = bench.call("call_batch", &calls).await;
    assert!(!got.is_error);
    assert_eq!((&got.told["succeeded"], &got.told["failed"]), (&json!(2), &json!(5)));
    let results = got.told["results"].as_array().unwrap();
    for (index, result) in results.iter().enumerate() {
        assert_eq!(
            (&result["index"], &result["tool"]),
            (&json!(index), &calls["calls"][index]["tool"])
        );
    }
    assert_eq!(results[0]["result"]["structuredContent"], json!({"got": {"a": 1}}));
    assert_eq!(results[1]["ok"], false);
    assert_eq!(results[1]["result"]["content"][0]["text"], "no luck");
    assert_eq!(results[2]["error"]["code"], "UNKNOWN_TOOL");
    assert_eq!(
        results[3]["error"],
        json!({"code": "UPSTREAM_FAILED", "message": "not today", "details": {"rpcCode": -32042, "data": {"until": "tomorrow"}}})
    );
    assert!(
        results[4]["error"]["message"]
            .as_str()
            .unwrap()
            .contains("asks for input")
    );
    assert_eq!(results[4]["error"]["hint"], "Call it directly.");
    assert_eq!(results[5]["error"]["code"], "MISSING_CLIENT_CAPABILITY");
    assert_eq!(results[6]["result"]["structuredContent"]["result"], "42");
}

#[tokio::test]
async fn a_batch_has_failed_when_all_of_it_has() {
    let bench = Bench::open().await;
    let calls = json!({"calls": [{"tool": "lab__fail"}, {"tool": "nothing"}]});
    let got = bench.call("call_batch", &calls).await;
    assert!(got.is_error);
    assert_eq!(got.told["failed"], 2);
}

#[tokio::test]
async fn results_stand_byte_for_byte() {
    let bench = Bench::open().await;
    let got = bench
        .call("call_batch", &json!({"calls": [{"tool": "lab__odd"}]}))
        .await;
    let odd = r#"{ "content":[], "x-odd" : 1.50 , "structuredContent":{"n": 1e2}}"#;
    assert!(got.raw.contains(odd), "{}", got.raw);
}

#[tokio::test]
async fn no_more_calls_run_at_once_than_wanted() {
    let bench = Bench::open().await;
    for (concurrency, expected) in [(Some(2), 2), (Some(16), 9), (None, 8)] {
        bench.lab.waiting.send_replace(Waiting::default());
        let mut calls = json!({"calls": vec![json!({"tool": "lab__wait"}); 9]});
        if let Some(concurrency) = concurrency {
            calls["concurrency"] = json!(concurrency);
        }
        let release = async {
            let mut waiting = bench.lab.waiting.subscribe();
            let full = waiting.wait_for(|waiting| waiting.now == expected);
            full.await.unwrap();
            bench.lab.go.add_permits(9);
        };
        let (got, ()) = tokio::join!(bench.call("call_batch", &calls), release);
        assert_eq!(got.told["succeeded"], 9);
        assert_eq!(bench.lab.waiting.borrow().peak, expected);
    }
}

#[tokio::test]
async fn nothing_begins_after_an_error_where_that_is_wanted() {
    let bench = Bench::open().await;
    let mut calls = json!({
        "calls": [{"tool": "lab__echo"}, {"tool": "lab__fail"}, {"tool": "lab__echo"}],
        "concurrency": 1,
        "stop_on_error": true
    });
    let got = bench.call("call_batch", &calls).await;
    let last = &got.told["results"][2];
    assert_eq!(last["error"]["code"], "CANCELLED");
    assert!(
        last["error"]["message"].as_str().unwrap().starts_with("Not run"),
        "{last}"
    );
    let ended: Vec<_> = bench
        .gate
        .events(3)
        .await
        .into_iter()
        .map(|event| (event.action, event.outcome))
        .collect();
    let expected = [
        ("tool:lab__echo", Ending::Ok),
        ("tool:lab__fail", Ending::ToolError),
        ("tool:call_batch", Ending::Ok),
    ];
    assert_eq!(ended, expected.map(|(action, ending)| (action.to_owned(), ending)));
    calls["stop_on_error"] = json!(false);
    assert_eq!(bench.call("call_batch", &calls).await.told["succeeded"], 2);
}

#[tokio::test]
async fn results_have_a_bound_together() {
    let bench = Bench::open().await;
    let big = json!({"tool": "lab__big", "arguments": {"bytes": 1_500_000}});
    let small = json!({"tool": "lab__echo"});
    let calls = json!({"calls": [big, big, big, small], "concurrency": 1});
    let got = bench.call("call_batch", &calls).await;
    let ok: Vec<_> = got.told["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| &result["ok"])
        .collect();
    assert_eq!(ok, [true, true, false, true]);
    let error = &got.told["results"][2]["error"];
    assert_eq!(error["code"], "RESULT_TOO_LARGE");
    assert!(error["message"].as_str().unwrap().contains("1500"), "{error}");
    assert!(got.raw.len() < 16 << 20);
}

#[tokio::test]
async fn the_worst_results_still_fit_the_bound_of_one() {
    let bench = Bench::open().await;
    // As a JSON string within a JSON string, a quotation mark takes the most bytes for one of its own.
    let marks = "\"".repeat(2_000_000);
    for (tool, arguments) in [
        (
            "call_batch",
            json!({"calls": [{"tool": "lab__echo", "arguments": {"q": marks}}]}),
        ),
        (
            "call_chain",
            json!({"steps": [{"tool": "lab__echo", "arguments": {"q": &marks[..1_000_000]}}]}),
        ),
    ] {
        let got = bench.call(tool, &arguments).await;
        assert!(!got.is_error && got.raw.len() > 8 << 20, "{tool}: {}", got.raw.len());
    }
}

#[tokio::test]
async fn there_is_one_level_and_no_more() {
    let bench = Bench::open().await;
    let calls: Vec<Value> = ["call_batch", "call_chain", "search_tools"]
        .map(|tool| json!({"tool": tool, "arguments": {"query": "", "calls": [{"tool": "lab__echo"}]}}))
        .into();
    let got = bench.call("call_batch", &json!({"calls": calls})).await;
    assert!(got.is_error);
    for result in got.told["results"].as_array().unwrap() {
        assert_eq!(result["error"]["code"], "INVALID_ARGUMENTS", "{result}");
        assert!(
            result["error"]["message"].as_str().unwrap().contains("by one another"),
            "{result}"
        );
    }
}

#[tokio::test]
async fn what_does_not_fit_the_schema_runs_nothing() {
    let bench = Bench::open().await;
    for wrong in [
        json!({}),
        json!({"calls": []}),
        json!({"calls": vec![json!({"tool": "lab__echo"}); 51]}),
        json!({"calls": [{"tool": ""}]}),
        json!({"calls": [{"tool": "lab__echo", "args": {}}]}),
        json!({"calls": [{"tool": "lab__echo", "arguments": [1]}]}),
        json!({"calls": [{"tool": "lab__echo"}], "concurrency": 0}),
        json!({"calls": [{"tool": "lab__echo"}], "concurrency": 17}),
        json!({"calls": [{"tool": "lab__echo"}], "concurrency": 8.5}),
    ] {
        assert_eq!(
            bench.refusal("call_batch", &wrong).await.code,
            Code::InvalidArguments,
            "{wrong}"
        );
    }
    let events = bench.gate.events(9).await;
    assert!(
        events.iter().all(|event| event.action == "tool:call_batch"),
        "{events:?}"
    );
}

#[tokio::test]
async fn each_call_is_held_against_the_policy_by_itself() {
    let bench = Bench::open().await;
    let calls = json!({"calls": [{"tool": "lab__echo"}, {"tool": "lab__erase"}, {"tool": "calculator", "arguments": {"expression": "1"}}]});
    for (grants, expected) in [
        (&["!effect:destructive"][..], [true, false, true]),
        (&["tool:call_batch", "tool:lab__*"], [true, true, false]),
        (&["!tool:lab__*"], [false, false, true]),
    ] {
        let narrowed = with_grants(&bench.user, grants);
        let got = got(bench.call_in(&narrowed, "call_batch", &calls, context()).await);
        let ok: Vec<_> = got.told["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|result| &result["ok"])
            .collect();
        assert_eq!(ok, expected, "{grants:?}");
    }
    for (who, code) in [
        (principal(Role::Viewer), Code::Forbidden),
        (with_grants(&bench.user, &["tool:lab__*"]), Code::InsufficientScope),
    ] {
        let refused = bench.call_in(&who, "call_batch", &calls, context()).await.unwrap_err();
        assert_eq!(refused.code, code);
    }
}

#[tokio::test]
async fn whoever_takes_a_batch_back_takes_its_calls_back() {
    let bench = Bench::open().await;
    let calls = json!({"calls": [{"tool": "lab__wait"}, {"tool": "lab__wait"}]});
    let context = context();
    let cancel = context.cancel.clone();
    let take_back = async {
        let mut waiting = bench.lab.waiting.subscribe();
        waiting.wait_for(|waiting| waiting.now == 2).await.unwrap();
        cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(bench.call_in(&bench.user, "call_batch", &calls, context), take_back);
    assert!(matches!(outcome, Ok(Outcome::Cancelled)), "{outcome:?}");
    assert_eq!(bench.lab.waiting.borrow().now, 0, "nobody waits any more");
    for event in bench.gate.events(3).await {
        assert_eq!(event.outcome, Ending::Cancelled, "{}", event.action);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_there_when_the_time_is_over_is_handed_over() {
    tokio::time::resume();
    let bench = Bench::open().await;
    tokio::time::pause();
    let calls = json!({
        "calls": [{"tool": "lab__echo"}, {"tool": "lab__wait"}, {"tool": "lab__echo"}],
        "concurrency": 1.0
    });
    for deadline in [None, Some(Duration::from_secs(20))] {
        let hurried = CallContext { deadline, ..context() };
        let got = got(bench.call_in(&bench.user, "call_batch", &calls, hurried).await);
        let results = got.told["results"].as_array().unwrap();
        assert_eq!(results[0]["ok"], true);
        for (index, words) in [(1, "may have had its effect"), (2, "before this call began")] {
            let error = &results[index]["error"];
            assert_eq!(error["code"], "TOOL_TIMED_OUT");
            assert!(error["message"].as_str().unwrap().contains(words), "{error}");
        }
        assert_eq!(bench.lab.waiting.borrow().now, 0);
    }
}
