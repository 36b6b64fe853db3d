//! What tools have changed is changed once, however often a client sends its request.

use crate::{
    responses::{after, ask, asked_for_approval, kinds, refused, send, verdict, with_tools},
    shed::{calls, named, own, world},
    world::{PATIENCE, World, user},
};
use forebay_domain::Code;
use forebay_testkit::openai::Reply;
use serde_json::{Value, json};

fn fails() -> Reply {
    Reply::json(500, &json!({ "error": { "message": "no" } }))
}

fn server() -> Value {
    json!({ "type": "mcp", "server_label": "shed" })
}

/// What the model was last told of a call.
fn told(world: &World) -> String {
    let sent = world.engine.seen().pop().unwrap().json();
    let messages = sent["messages"].as_array().unwrap().clone();
    let result = messages.iter().find(|message| message["role"] == "tool").unwrap();
    result["content"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_call_that_was_agreed_to_runs_once_on_whatever_way_it_is_sent() {
    let (world, shed, first) = asked_for_approval().await;
    let body = with_tools(after(&first, &verdict(&first, true)), server());
    let mut unkept = body.clone();
    unkept["store"] = false.into();
    let mut everything = first["output"].as_array().unwrap().clone();
    everything.extend(verdict(&first, true).as_array().unwrap().clone());
    let alone = with_tools(json!({ "model": "qwen", "input": everything }), server());
    let all = tokio::join!(
        ask(&world, &body),
        ask(&world, &unkept),
        ask(&world, &alone),
        ask(&world, &body)
    );
    assert_eq!(shed.called(), ["write"]);
    let statuses = [all.0, all.1, all.2, all.3].map(|response| {
        assert_eq!(kinds(&response), ["mcp_call", "message"]);
        response["output"][0]["status"].as_str().unwrap().to_owned()
    });
    let ran = statuses.iter().filter(|status| *status == "completed");
    assert_eq!(ran.count(), 1, "{statuses:?}");
    ask(&world, &body).await;
    assert!(told(&world).contains("may have run"), "{}", told(&world));
    assert_eq!(shed.called(), ["write"]);
}

/// Policy, a limit or a budget stood before the tool: nothing was done, so that somebody may agree to it again.
#[tokio::test]
async fn a_call_that_was_agreed_to_and_not_let_run_may_be_agreed_to_again() {
    for code in [Code::RateLimited, Code::SpendingLimitExceeded, Code::Forbidden] {
        let (world, shed, first) = asked_for_approval().await;
        let body = with_tools(after(&first, &verdict(&first, true)), server());
        *shed.refuses.lock().unwrap() = Some(code);
        let response = ask(&world, &body).await;
        assert_eq!(
            (response["output"][0]["status"].as_str(), shed.called().len()),
            (Some("failed"), 0),
            "{response}"
        );
        let response = ask(&world, &body).await;
        assert_eq!(
            (response["output"][0]["status"].as_str(), shed.called().len()),
            (Some("completed"), 1),
            "{response}"
        );
        ask(&world, &body).await;
        assert_eq!(shed.called().len(), 1, "and once alone");
    }
    // Whether a tool that failed did something nobody knows.
    let (world, shed, first) = asked_for_approval().await;
    let body = with_tools(after(&first, &verdict(&first, true)), server());
    *shed.refuses.lock().unwrap() = Some(Code::UpstreamFailed);
    ask(&world, &body).await;
    ask(&world, &body).await;
    assert!(
        shed.called().is_empty() && told(&world).contains("may have run"),
        "{}",
        told(&world)
    );
}

#[tokio::test]
async fn a_call_that_was_agreed_to_has_run_though_the_model_fails() {
    let (world, shed, first) = asked_for_approval().await;
    let body = with_tools(after(&first, &verdict(&first, true)), server());
    world.engine.will(fails());
    let failure = refused(&world, &body).await;
    assert_eq!(failure.details.as_ref().unwrap()["ran"], json!(["write"]));
    assert!(failure.message.contains("`write`"), "{}", failure.message);
    world.engine.will(fails());
    let failure = refused(&world, &body).await;
    assert!(
        failure.details.unwrap().get("ran").is_none(),
        "it did not run this time"
    );
    ask(&world, &body).await;
    assert!(told(&world).contains("may have run"));
    assert_eq!(shed.called(), ["write"]);
}

#[tokio::test]
async fn nothing_runs_before_it_is_written_down() {
    let (world, shed, first) = asked_for_approval().await;
    let mut everything = first["output"].as_array().unwrap().clone();
    everything.extend(verdict(&first, true).as_array().unwrap().clone());
    assert!(world.tasks.shut_down(PATIENCE).await, "the store closes");
    let failure = refused(
        &world,
        &with_tools(json!({ "model": "qwen", "input": everything }), server()),
    )
    .await;
    assert_eq!(failure.code, Code::StoreUnavailable);
    assert!(shed.called().is_empty());
}

#[tokio::test]
async fn what_fails_after_a_tool_has_changed_something_says_so() {
    for (tools, ran) in [
        (&["write", "look", "write"][..], Some(json!(["write"]))),
        (&["look"][..], None),
    ] {
        let (world, shed) = world().await;
        let made: Vec<(&str, &str)> = tools.iter().map(|tool| (*tool, "{}")).collect();
        world.engine.will(calls(&made));
        world.engine.will(fails());
        let failure = world.ask(&named(&["look", "write"])).await.err().unwrap();
        assert_eq!(shed.called().len(), tools.len());
        assert_eq!(failure.details.as_ref().unwrap().get("ran").cloned(), ran);
        assert_eq!(
            failure.message.contains("`write`"),
            ran.is_some(),
            "{}",
            failure.message
        );
    }
    // What was only put off has not run.
    let (world, shed) = world().await;
    let mut body = named(&["write"]);
    own(&mut body, "mine");
    world.engine.will(calls(&[("write", "{}"), ("mine", "{}")]));
    world.ask(&body).await.unwrap();
    assert!(shed.called().is_empty());
}

#[tokio::test]
async fn a_choice_holds_for_the_first_words_of_the_model_after_what_was_agreed_to() {
    let (world, shed, first) = asked_for_approval().await;
    let mut body = with_tools(after(&first, &verdict(&first, true)), server());
    body["tool_choice"] = "required".into();
    body["tools"][0]["require_approval"] = "never".into();
    world.engine.will(calls(&[("look", "{}")]));
    ask(&world, &body).await;
    let sent = world.engine.seen();
    let choices: Vec<Value> = sent.iter().map(|seen| seen.json()["tool_choice"].clone()).collect();
    assert_eq!(choices[choices.len() - 2..], [json!("required"), Value::Null]);
    assert_eq!(shed.called(), ["write", "look"]);
}

#[tokio::test]
async fn somebody_elses_agreement_is_claimed_apart() {
    let (world, shed, first) = asked_for_approval().await;
    let mut everything = first["output"].as_array().unwrap().clone();
    everything.extend(verdict(&first, true).as_array().unwrap().clone());
    let body = with_tools(json!({ "model": "qwen", "input": everything }), server());
    let mut stranger = user();
    stranger.subject = "bob".parse().unwrap();
    send(&world, &stranger, &body).await.unwrap();
    ask(&world, &body).await;
    assert_eq!(
        shed.called(),
        ["write", "write"],
        "nobody uses up what another one agrees to"
    );
}
