//! What tools ask while they run as tasks, and who can answer.

use super::{Core, Modern, Worker, carry_out, claim, eventually, open};
use crate::{
    actor::Actor,
    support::{Gate, Wish, message_of, principal, request},
};
use forebay_domain::Role;
use forebay_mcp::ReplyBody;
use forebay_testkit::db::TestDb;
use forebay_work::TasksConfig;
use futures_util::StreamExt;
use serde_json::json;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn what_a_task_asks_is_answered_by_whoever_comes_for_it() {
    let gate = open().await;
    Actor::join(&gate);
    let _worker = Worker::start(&gate);
    let client = Modern::new(&gate);
    let id = client.call("ask_two").await;
    let task = eventually(async || {
        let task = client.ask("tasks/get", json!({"taskId": id})).await;
        let asked = task["inputRequests"].as_object().map_or(0, serde_json::Map::len);
        (asked == 2).then_some(task)
    })
    .await;
    assert_eq!(task["status"], "input_required");
    let asked = task["inputRequests"].as_object().unwrap();
    let key = |method: &str| {
        asked
            .iter()
            .find(|(_, asked)| asked["method"] == method)
            .unwrap()
            .0
            .clone()
    };
    let (form, roots) = (key("elicitation/create"), key("roots/list"));
    assert_eq!(asked[&form]["params"]["message"], "One?");
    let answer = json!({"taskId": id, "inputResponses": {(&form): {"action": "accept"}, "nobody asked": {}}});
    let taken = client.ask("tasks/update", answer.clone()).await;
    assert_eq!((&taken["resultType"], taken.get("status")), (&json!("complete"), None));
    let task = client.ask("tasks/get", json!({"taskId": id})).await;
    let left: Vec<&String> = task["inputRequests"].as_object().unwrap().keys().collect();
    assert_eq!((&task["status"], left), (&json!("input_required"), vec![&roots]));
    client.ask("tasks/update", answer).await;
    client
        .ask(
            "tasks/update",
            json!({"taskId": id, "inputResponses": {(&roots): {"roots": []}}}),
        )
        .await;
    let task = client.until(&id, "completed").await;
    assert_eq!(
        task["result"]["content"][0]["text"],
        r#"{"action":"accept"} {"roots":[]}"#
    );
    // Rounds of questions by way of a result are asked the same way.
    let id = client.call("input").await;
    for key in ["first", "second"] {
        let asked = eventually(async || {
            let task = client.ask("tasks/get", json!({"taskId": id})).await;
            let asked = task["inputRequests"].as_object()?.clone();
            asked.into_iter().find(|(_, asked)| asked["params"]["message"] == key)
        })
        .await;
        let answers = json!({(asked.0): {"action": "accept", "content": {"said": key}}});
        client
            .ask("tasks/update", json!({"taskId": id, "inputResponses": answers}))
            .await;
    }
    let task = client.until(&id, "completed").await;
    assert!(
        task["result"]["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("second"),
        "{task}"
    );
}

#[tokio::test]
async fn a_client_of_2025_11_25_is_asked_while_it_waits_for_the_result() {
    let gate = open().await;
    Actor::join(&gate);
    let _worker = Worker::start(&gate);
    let client = Core::open(&gate, principal(Role::User)).await;
    let id = client.call("ask").await;
    client.until(&id, "input_required").await;
    let waiting = request(9, "tasks/result", &json!({"taskId": id}));
    let headers = [("mcp-session-id", client.session.as_str())];
    let ReplyBody::Events(mut events) = gate.send(&client.user, &headers, &waiting).await.body else {
        panic!("a stream, on which the client is asked")
    };
    let mut messages = async || {
        loop {
            let chunk = events.next().await.expect("more to come");
            if let Some(message) = message_of(std::str::from_utf8(&chunk).unwrap()) {
                return message;
            }
        }
    };
    let question = messages().await;
    assert_eq!(question["method"], "elicitation/create");
    let related = json!({"taskId": id});
    assert_eq!(
        question["params"]["_meta"]["io.modelcontextprotocol/related-task"],
        related
    );
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}});
    assert_eq!(gate.post(&client.user, &headers, &answer.to_string()).await.status, 202);
    let result = messages().await;
    assert_eq!(
        (&result["id"], &result["result"]["content"][0]["text"]),
        (&json!(9), &json!(r#"{"action":"decline"}"#))
    );
}

/// A gateway that shares its database, and its neighbour.
async fn neighbours(work: TasksConfig) -> (Gate, Gate) {
    let wish = || Wish {
        tasks: true,
        work: work.clone(),
        ..Wish::default()
    };
    let one = Gate::on(TestDb::postgres().await, wish()).await;
    let other = one.another_with(wish()).await;
    (one, other)
}

/// Has the one task run that another gateway began, and settles it.
async fn run_at(gate: &Gate) {
    let claimed = claim(gate).await.remove(0);
    let ended = carry_out(gate.call_task.as_ref(), &claimed, &CancellationToken::new()).await;
    gate.store
        .queue()
        .settle(&claimed.task.id, claimed.fence, ended)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_tool_that_runs_where_its_client_does_not_come_hears_so_at_once() {
    let (one, other) = neighbours(TasksConfig::default()).await;
    let _actors = (Actor::join(&one), Actor::join(&other));
    let client = Modern::new(&one);
    let id = client.call("ask").await;
    assert!(
        claim(&other).await.is_empty(),
        "its client came to the other one, which has it first"
    );
    one.clock.advance(Duration::from_secs(30));
    run_at(&other).await;
    let task = client.ask("tasks/get", json!({"taskId": id})).await;
    assert_eq!(
        (&task["status"], &task["error"]["code"]),
        (&json!("failed"), &json!(-32021)),
        "{task}"
    );
    let message = task["error"]["message"].as_str().unwrap();
    assert!(message.contains("does not speak to"), "{message}");
}

#[tokio::test]
async fn where_the_gateway_runs_no_tasks_nobody_is_asked() {
    let none = TasksConfig {
        workers: 0,
        ..TasksConfig::default()
    };
    let (one, other) = neighbours(none).await;
    let _actors = (Actor::join(&one), Actor::join(&other));
    let client = Modern::new(&one);
    for tool in ["ask", "input"] {
        let id = client.call(tool).await;
        run_at(&other).await;
        let task = client.ask("tasks/get", json!({"taskId": id})).await;
        assert_eq!(task["error"]["code"], -32021, "{tool}: {task}");
    }
}

#[tokio::test]
async fn answers_that_come_to_another_process_are_refused() {
    let (one, other) = neighbours(TasksConfig::default()).await;
    let _actors = (Actor::join(&one), Actor::join(&other));
    let _worker = Worker::start(&one);
    let id = Modern::new(&one).call("ask").await;
    let task = Modern::new(&one).until(&id, "input_required").await;
    let key = task["inputRequests"]
        .as_object()
        .unwrap()
        .keys()
        .next()
        .unwrap()
        .clone();
    let answer = json!({"taskId": id, "inputResponses": {key: {"action": "accept"}}});
    let elsewhere = Modern::new(&other);
    let got = elsewhere.send("tasks/update", answer.clone()).await;
    assert_eq!(got.error(), (200, -32000, "conflict".to_owned()));
    let nothing = json!({"taskId": id, "inputResponses": {}});
    assert_eq!(
        elsewhere.ask("tasks/update", nothing).await["resultType"],
        "complete",
        "there is nothing to lose"
    );
    Modern::new(&one).ask("tasks/update", answer.clone()).await;
    elsewhere.until(&id, "completed").await;
    assert_eq!(
        elsewhere.ask("tasks/update", answer).await["resultType"],
        "complete",
        "it needs no answer any more"
    );
}

#[tokio::test]
async fn the_only_process_there_is_asks_again_after_a_restart() {
    let wish = || Wish {
        tasks: true,
        ..Wish::default()
    };
    let gate = Gate::open(wish()).await;
    Actor::join(&gate);
    let id = Modern::new(&gate).call("ask").await;
    gate.kill().await;
    let next = gate.another_with(wish()).await;
    Actor::join(&next);
    let _worker = Worker::start(&next);
    Modern::new(&next).until(&id, "input_required").await;
}

#[tokio::test]
async fn a_tool_that_asks_first_becomes_a_task_once_it_is_answered() {
    let gate = open().await;
    Actor::join(&gate);
    let client = Modern::new(&gate);
    let params = json!({"name": "input_first", "arguments": {}});
    let asked = client.ask("tools/call", params.clone()).await;
    assert_eq!(asked["resultType"], "input_required");
    assert!(
        asked.get("taskId").is_none() && asked["inputRequests"]["first"].is_object(),
        "{asked}"
    );
    let mut answered = params;
    answered["inputResponses"] = json!({"first": {"action": "accept", "content": {"said": "one"}}});
    answered["requestState"] = asked["requestState"].clone();
    let begun = client.ask("tools/call", answered).await;
    assert_eq!(begun["resultType"], "task");
    assert!(begun.get("requestState").is_none(), "{begun}");
    // What it knows by now goes with it, and what it asks from now on it asks as a task.
    let _worker = Worker::start(&gate);
    let id = begun["taskId"].as_str().unwrap();
    let task = client.until(id, "input_required").await;
    let (key, question) = task["inputRequests"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(question["params"]["message"], "second");
    let answers = json!({key: {"action": "accept", "content": {"said": "two"}}});
    client
        .ask("tasks/update", json!({"taskId": id, "inputResponses": answers}))
        .await;
    let text = client.until(id, "completed").await["result"]["content"][0]["text"].to_string();
    assert!(text.contains("one") && text.contains("two"), "{text}");
}
