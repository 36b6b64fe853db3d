//! The catalogue's one way to call: limits, records, metrics, bounds.

use crate::support::{Gate, Scripted, Wish, keyed, principal, trace};
use forebay_domain::{
    Code, Role,
    event::{Outcome as Ending, Surface},
    port::Via,
};
use forebay_mcp::{Call, CallContext, Client, Outcome};
use serde_json::{json, value::RawValue};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

fn context() -> CallContext {
    CallContext {
        via: Via {
            surface: Surface::Mcp,
            trace: trace(),
            in_task: false,
        },
        cancel: CancellationToken::new(),
        deadline: None,
        client: Client::nobody(),
        retry: None,
        cost: None,
    }
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn talkative(pieces: Vec<String>, pause: Duration) -> Wish {
    Wish {
        model: Scripted {
            names: vec!["tiny"],
            pieces,
            pause,
        },
        ..Wish::default()
    }
}

#[tokio::test]
async fn every_call_leaves_one_event_that_says_nothing_of_its_content() {
    let gate = Gate::open(Wish::default()).await;
    let user = principal(Role::User);
    let viewer = principal(Role::Viewer);
    for (caller, tool, arguments) in [
        (&user, "calculator", r#"{"expression":"40+2"}"#),
        (&user, "calculator", r#"{"expression":"canary"}"#),
        (&user, "calculator", r#"{"canary":1}"#),
        (&user, "fb_00ff_canary my prompt", "{}"),
        (&user, "canary", "{}"),
        // It exists, but not in this configuration: its name is one of ours.
        (&user, "file_reader", "{}"),
        (&viewer, "calculator", r#"{"expression":"1"}"#),
    ] {
        let _outcome = gate
            .catalogue
            .call(caller, Call::of(tool, &raw(arguments)), context())
            .await;
    }
    let events = gate.events(7).await;
    let seen: Vec<_> = events
        .iter()
        .map(|event| (event.action.as_str(), event.outcome))
        .collect();
    assert_eq!(
        seen,
        [
            ("tool:calculator", Ending::Ok),
            ("tool:calculator", Ending::ToolError),
            ("tool:calculator", Ending::Failed(Code::InvalidArguments)),
            ("tool:?", Ending::Failed(Code::UnknownTool)),
            ("tool:?", Ending::Failed(Code::UnknownTool)),
            ("tool:file_reader", Ending::Failed(Code::UnknownTool)),
            ("tool:calculator", Ending::Failed(Code::Forbidden)),
        ]
    );
    assert_eq!(events[0].trace, trace());
    assert_eq!(events[0].bytes_in, 21);
    assert!(events[0].bytes_out > 50);
    assert!(
        events[6]
            .reason
            .as_deref()
            .unwrap()
            .contains("role viewer does not allow it")
    );
    assert!(!format!("{events:?}").contains("canary"));
}

#[tokio::test]
async fn calls_are_counted_by_how_they_ended() {
    let gate = Gate::open(Wish::default()).await;
    for arguments in [
        r#"{"expression":"1"}"#,
        r#"{"expression":"2"}"#,
        r#"{"expression":"?"}"#,
    ] {
        gate.catalogue
            .call(
                &principal(Role::User),
                Call::of("calculator", &raw(arguments)),
                context(),
            )
            .await
            .unwrap();
    }
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &gate.registry).unwrap();
    for line in [
        "mcp_tool_execution_total{status=\"success\"} 2",
        "mcp_tool_execution_total{status=\"error\"} 1",
        "mcp_tool_execution_duration_seconds_count{status=\"success\"} 2",
        "forebay_tool_call_seconds_count{tool=\"calculator\",outcome=\"ok\"} 2",
        "forebay_tool_call_seconds_count{tool=\"calculator\",outcome=\"tool_error\"} 1",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn what_was_not_let_run_is_counted_apart_from_what_failed() {
    let gate = Gate::open(Wish {
        calls_per_minute: 1,
        ..Wish::default()
    })
    .await;
    let call = async |role| {
        let arguments = raw(r#"{"expression":"1"}"#);
        let call = Call::of("calculator", &arguments);
        gate.catalogue.call(&principal(role), call, context()).await
    };
    call(Role::Viewer).await.unwrap_err();
    call(Role::User).await.unwrap();
    call(Role::User).await.unwrap_err();
    call(Role::User).await.unwrap_err();
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &gate.registry).unwrap();
    for line in [
        "mcp_tool_execution_total{status=\"success\"} 1",
        "mcp_tool_execution_total{status=\"denied\"} 1",
        "mcp_tool_execution_total{status=\"rate_limited\"} 2",
        "mcp_tool_rate_limit_hits_total{tool=\"calculator\"} 2",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn a_limit_holds_for_each_subject_and_tool() {
    let gate = Gate::open(Wish {
        calls_per_minute: 2,
        ..Wish::default()
    })
    .await;
    let user = principal(Role::User);
    let call = json!({"name": "calculator", "arguments": {"expression": "1"}});
    for _ in 0..2 {
        assert_eq!(gate.modern(&user, "tools/call", call.clone()).await.status, 200);
    }
    let got = gate.modern(&user, "tools/call", call.clone()).await;
    assert_eq!(got.error(), (429, -32000, "rate_limited".to_owned()));
    assert!(got.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    let other = json!({"name": "gateway_status", "arguments": {}});
    assert_eq!(gate.modern(&user, "tools/call", other).await.status, 200);
    assert_eq!(
        gate.modern(&keyed(Role::User, "k2"), "tools/call", call.clone())
            .await
            .status,
        429,
        "one subject, two keys"
    );
    gate.clock.advance(Duration::from_mins(1));
    assert_eq!(gate.modern(&user, "tools/call", call).await.status, 200);
}

#[tokio::test]
async fn a_model_is_asked_and_its_answer_handed_on() {
    let gate = Gate::open(talkative(vec!["Paris".to_owned(), "!".to_owned()], Duration::ZERO)).await;
    let call =
        json!({"name": "chat", "arguments": {"prompt": "Capital of France?", "system": "Short.", "max_tokens": 9}});
    let got = gate.modern(&principal(Role::User), "tools/call", call).await;
    let structured = &got.body["result"]["structuredContent"];
    assert_eq!(got.body["result"]["content"][0]["text"], "Paris!");
    assert_eq!(
        (&structured["model"], &structured["usage"]["prompt_tokens"]),
        (&json!("tiny"), &json!(3))
    );
}

#[tokio::test]
async fn without_a_model_there_is_no_chat() {
    let gate = Gate::open(Wish::default()).await;
    let call = json!({"name": "chat", "arguments": {"prompt": "?"}});
    let got = gate.modern(&principal(Role::User), "tools/call", call).await;
    assert_eq!(got.error(), (200, -32602, "unknown_tool".to_owned()));
}

#[tokio::test]
async fn a_result_has_a_bound() {
    let gate = Gate::open(talkative(vec!["x".repeat(6 << 20)], Duration::ZERO)).await;
    let call = json!({"name": "chat", "arguments": {"prompt": "Go on for ever."}});
    let got = gate.modern(&principal(Role::User), "tools/call", call).await;
    assert_eq!(got.body["result"]["isError"], true);
    assert!(
        got.body["result"]["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("RESULT_TOO_LARGE")
    );
    assert_eq!(gate.events(1).await[0].outcome, Ending::Failed(Code::ResultTooLarge));
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let gate = Gate::open(talkative(vec!["x".repeat(1 << 20); 12], Duration::ZERO)).await;
    let call = json!({"name": "chat", "arguments": {"prompt": "?"}, "_meta": {"progressToken": 1}});
    let got = gate.modern(&principal(Role::User), "tools/call", call).await;
    let last = got.messages().pop().unwrap_or(got.body);
    assert!(
        last["result"]["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("UPSTREAM_TRUNCATED"),
        "{last}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_has_a_deadline_and_can_be_taken_back() {
    tokio::time::resume();
    let gate = Gate::open(talkative(vec!["late".to_owned()], Duration::from_hours(1))).await;
    tokio::time::pause();
    let user = principal(Role::User);
    let arguments = raw(r#"{"prompt":"?"}"#);
    let hurried = CallContext {
        deadline: Some(Duration::from_secs(5)),
        ..context()
    };
    let failure = gate
        .catalogue
        .call(&user, Call::of("chat", &arguments), hurried)
        .await
        .unwrap_err();
    assert_eq!(failure.code, Code::ToolTimedOut);
    let cancelled = context();
    cancelled.cancel.cancel();
    let outcome = gate
        .catalogue
        .call(&user, Call::of("chat", &arguments), cancelled)
        .await
        .unwrap();
    assert!(matches!(outcome, Outcome::Cancelled));
    tokio::time::resume();
    let events = gate.events(2).await;
    assert_eq!(events[0].outcome, Ending::Failed(Code::ToolTimedOut));
    assert_eq!(events[1].outcome, Ending::Cancelled);
}
