//! What ends a turn, or one of its calls: the section `turns:`, and whatever breaks between two hops.

use crate::{
    shed::{Shed, answer, calls, named, statuses, streamed_calls, world},
    world::{PATIENCE, World, drain, pieces, settings_of, user},
};
use forebay_domain::{Code, model::Answer};
use forebay_testkit::openai::{ANSWER, End, Reply, chunk, event};
use futures_util::StreamExt;
use serde_json::{Value, json, value::RawValue};
use std::sync::{Arc, atomic::Ordering};

/// A gateway whose section `turns:` was changed while it ran.
async fn bounded(turns: Value) -> (World, Arc<Shed>) {
    let (world, shed) = world().await;
    let models = json!({ "qwen": { "backends": [{ "url": world.engine.url() }] } });
    world.router.reconfigure(settings_of(models, turns));
    (world, shed)
}

#[tokio::test]
async fn rounds_end_as_configured() {
    let (world, shed) = bounded(json!({ "rounds_max": 2 })).await;
    for _ in 0..9 {
        world.engine.will(calls(&[("look", "{}")]));
    }
    let answer = answer(&world, &named(&["look"])).await;
    assert_eq!((shed.called().len(), world.engine.seen().len()), (2, 3));
    assert_eq!(answer["forebay"]["ended"], "rounds");
}

#[tokio::test]
async fn calls_end_as_configured() {
    let (world, shed) = bounded(json!({ "calls_max": 3 })).await;
    world.engine.will(calls(&[("look", "{}"); 4]));
    let answer = answer(&world, &named(&["look"])).await;
    assert_eq!(shed.called().len(), 3);
    let tools = answer["forebay"]["tools"].as_array().unwrap();
    assert_eq!(
        (&tools[3]["status"], &tools[3]["error"]["code"]),
        (&json!("refused"), &json!("overloaded"))
    );
    assert_eq!(answer["forebay"]["ended"], "calls");
    assert!(
        world.engine.seen()[1].json().get("tools").is_none(),
        "asked once more, without tools"
    );
    assert_eq!(answer["choices"][0]["message"]["content"], ANSWER);
}

#[tokio::test]
async fn so_many_calls_run_at_one_time_as_configured() {
    for (most, turns) in [(1, json!({ "parallel_max": 1 })), (4, json!({}))] {
        let (world, shed) = bounded(turns).await;
        world.engine.will(calls(&[("look", "{}"); 4]));
        let answer = answer(&world, &named(&["look"])).await;
        assert_eq!(statuses(&answer), [("look", "success"); 4]);
        assert_eq!(shed.most.load(Ordering::Relaxed), most);
    }
}

#[tokio::test]
async fn of_a_long_result_the_model_gets_the_beginning() {
    let (world, _) = bounded(json!({ "result_bytes_max": 1025 })).await;
    world.engine.will(calls(&[("long", "{}")]));
    answer(&world, &named(&["long"])).await;
    let sent = world.engine.seen()[1].json();
    let told = sent["messages"][2]["content"].as_str().unwrap();
    assert_eq!(
        told,
        format!("{}\n[976 bytes more are left out]", "é".repeat(512)),
        "no letter is cut"
    );
}

#[tokio::test]
async fn a_tool_that_hangs_is_given_up_and_the_model_answers_without_it() {
    for stream in [false, true] {
        let (world, shed) = bounded(json!({ "timeout_s": 1 })).await;
        let mut body = named(&["sleep", "look"]);
        body["stream"] = stream.into();
        world.engine.will(if stream {
            streamed_calls("sleep")
        } else {
            calls(&[("look", "{}"), ("sleep", "{}")])
        });
        let (text, code) = world.read(&body).await;
        assert_eq!(code, None, "{text}");
        assert!(
            text.contains(r#""ended":"time""#) && text.contains(r#""code":"tool_timed_out""#),
            "{text}"
        );
        assert!(text.contains("Paris."), "what else was found out is not lost: {text}");
        let seen = world.engine.seen();
        assert!(seen.len() == 2 && seen[1].json().get("tools").is_none());
        assert!(shed.called().contains(&"sleep".to_owned()));
    }
}

#[tokio::test]
async fn what_a_tainted_turn_may_not_do_is_configured() {
    for (deny, called) in [
        (json!([]), vec!["write", "look"]),
        (json!(["tool:look", "effect:write"]), vec![]),
        (json!(["tool:lo*"]), vec!["write"]),
    ] {
        let (world, shed) = bounded(json!({ "tainted": { "deny": deny } })).await;
        let mut body = named(&["write", "look"]);
        body["mcp_context"] = json!({ "providers": ["docs"] });
        world.engine.will(calls(&[("write", "{}"), ("look", "{}")]));
        let answer = answer(&world, &body).await;
        assert_eq!(shed.called(), called, "{deny}");
        let tools = answer["forebay"]["tools"].as_array().unwrap();
        let tainted = tools.iter().filter(|tool| tool["error"]["code"] == "tainted_turn");
        assert_eq!(tainted.count(), 2 - called.len(), "{tools:?}");
    }
}

/// Reads on until this is so: what came meanwhile. Reading is what keeps a turn going.
async fn read_until(answer: &mut Answer, is_so: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    let read = async {
        while !is_so(&text) {
            let piece = pieces(answer).next().await.expect("the answer goes on").unwrap();
            text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, read)
        .await
        .expect("it comes about in time");
    text
}

#[tokio::test]
async fn while_tools_and_engines_are_at_work_the_client_of_a_stream_hears_something() {
    let (world, shed) = bounded(json!({ "keep_alive_s": 1 })).await;
    let mut body = named(&["wait"]);
    body["stream"] = true.into();
    world.engine.will(streamed_calls("wait"));
    let second = event(&chunk("m", &json!({ "content": "So." }), Some("stop")));
    world
        .engine
        .will(Reply::events().piece(second).piece("data: [DONE]\n\n").hold_head());
    let mut answer = world.ask_as(&user(), "qwen", &body.to_string()).await.unwrap();
    let is_comment = |text: &str| text.lines().any(|line| line.starts_with(':'));
    let text = read_until(&mut answer, is_comment).await;
    assert!(
        text.contains("Wait. ") && world.engine.seen().len() == 1,
        "the tool is at work: {text}"
    );
    shed.released.notify_one();
    read_until(&mut answer, |_| world.engine.seen().len() == 2).await;
    let text = read_until(&mut answer, is_comment).await;
    assert!(!text.contains("So."), "the engine is at work: {text}");
    world.engine.open_gate();
    let (text, code) = drain(answer).await;
    assert!(
        code.is_none() && text.contains("So.") && text.ends_with("data: [DONE]\n\n"),
        "{text}"
    );
}

/// Engines keep what they have read as long as it stays the same to the byte.
#[tokio::test]
async fn each_hop_begins_with_the_very_bytes_of_the_hop_before() {
    #[derive(serde::Deserialize)]
    struct Asked<'a> {
        #[serde(borrow)]
        messages: &'a RawValue,
        #[serde(borrow)]
        tools: &'a RawValue,
    }
    let (world, _) = world().await;
    for name in ["look", "web", "look"] {
        world.engine.will(calls(&[(name, r#"{"z":1,"a":2}"#)]));
    }
    let mut body = named(&["web", "look"]);
    body["mcp_context"] = json!({ "providers": ["docs"] });
    answer(&world, &body).await;
    let seen = world.engine.seen();
    let asked: Vec<Asked<'_>> = seen
        .iter()
        .map(|seen| serde_json::from_slice(&seen.body).unwrap())
        .collect();
    assert_eq!(asked.len(), 4);
    for hops in asked.windows(2) {
        let before = hops[0].messages.get().strip_suffix(']').unwrap();
        assert!(hops[1].messages.get().starts_with(before), "{}", hops[1].messages);
        assert_eq!(hops[0].tools.get(), hops[1].tools.get());
    }
}

#[tokio::test]
async fn what_breaks_in_a_later_hop_fails_the_whole() {
    let error = json!({ "error": { "message": "the engine broke inside", "type": "server_error" } });
    let half = r#"{"object":"chat.completion","choices":[{"index":0,"mess"#;
    for (reply, expected) in [
        (Reply::json(200, &error), Code::UpstreamFailed),
        (Reply::whole(200, "application/json", half), Code::UpstreamFailed),
        (
            Reply::begin(200, "application/json")
                .announcing(4096)
                .piece(half)
                .end(End::Cut),
            Code::UpstreamTruncated,
        ),
        (Reply::json(500, &error), Code::UpstreamFailed),
    ] {
        let (world, shed) = world().await;
        world.engine.will(calls(&[("look", "{}")]));
        world.engine.will(reply);
        let failure = world.ask(&named(&["look"])).await.err().unwrap();
        assert_eq!((failure.code, shed.called().len()), (expected, 1), "{failure}");
        let events = world.events(2).await;
        assert_eq!(
            events
                .iter()
                .filter(|event| event.outcome == crate::world::failed(expected))
                .count(),
            1
        );
    }
}

#[tokio::test]
async fn what_breaks_in_a_later_hop_ends_the_stream_without_its_last_word() {
    let begun = event(&chunk("m", &json!({ "content": "So" }), None));
    let error = event(&json!({ "error": { "message": "the engine broke inside" } }));
    let half = "data: {\"choices\":[{\"delta\":{\"con\n\n";
    let json_error = json!({ "error": { "message": "no events here" } });
    for (reply, expected) in [
        (Reply::events().piece(begun.clone()).piece(error), Code::UpstreamFailed),
        (Reply::events().piece(begun.clone()).piece(half), Code::UpstreamFailed),
        (Reply::events().piece(begun), Code::UpstreamTruncated),
        (Reply::json(200, &json_error), Code::UpstreamFailed),
    ] {
        let (world, _) = world().await;
        let mut body = named(&["look"]);
        body["stream"] = true.into();
        world.engine.will(streamed_calls("look"));
        world.engine.will(reply);
        let (text, code) = world.read(&body).await;
        assert_eq!(code, Some(expected), "{text}");
        assert!(
            text.contains("Wait. ") && !text.contains("[DONE]") && !text.contains("finish_reason\":\"stop"),
            "{text}"
        );
    }
}
