//! What is told of tasks, to whom, and how they are ended.

use super::{Core, Modern, Worker, eventually, open};
use crate::{actor::Actor, support::principal};
use forebay_domain::{Principal, Role};
use serde_json::{Value, json};

#[tokio::test]
async fn a_call_becomes_a_task_and_its_result_is_fetched() {
    let gate = open().await;
    let actor = Actor::join(&gate);
    let client = Core::open(&gate, principal(Role::User)).await;
    let id = client.call("wait").await;
    assert_eq!(
        client.ask("tasks/get", json!({"taskId": id})).await["status"],
        "working",
        "nobody runs it yet"
    );
    let _worker = Worker::start(&gate);
    actor.release.add_permits(1);
    let result = client.ask("tasks/result", json!({"taskId": id})).await;
    assert_eq!(result["content"][0]["text"], "waited");
    assert_eq!(
        result["_meta"]["io.modelcontextprotocol/related-task"],
        json!({"taskId": id})
    );
    let task = client.until(&id, "completed").await;
    assert!(
        task["ttl"].as_u64().unwrap() >= 60_000,
        "it is there for as long as was asked: {task}"
    );
    assert_eq!(task["pollInterval"], 500);
    let again = client.ask("tasks/result", json!({"taskId": id})).await;
    assert_eq!(again, result, "a result is no less there for having been fetched");
    let got = client.send("tasks/cancel", json!({"taskId": id})).await;
    assert_eq!(got.error(), (200, -32602, "invalid_params".to_owned()));
}

#[tokio::test]
async fn what_went_wrong_is_told_as_the_call_itself_would_have() {
    let gate = open().await;
    Actor::join(&gate);
    let _worker = Worker::start(&gate);
    let core = Core::open(&gate, principal(Role::User)).await;
    // A tool that says that it failed.
    let params = json!({"name": "calculator", "arguments": {"expression": 7}, "task": {}});
    let begun = core.ask("tools/call", params).await;
    let id = begun["task"]["taskId"].as_str().unwrap();
    core.until(id, "failed").await;
    let result = core.ask("tasks/result", json!({"taskId": id})).await;
    assert_eq!(result["isError"], true);
    assert_eq!(core.ask("tasks/list", json!({})).await["tasks"][0]["status"], "failed");
    let modern = Modern::new(&gate);
    let params = json!({"name": "calculator", "arguments": {"expression": 7}, "_meta": {"io.forebay/task": {}}});
    let begun = modern.ask("tools/call", params).await;
    let task = modern.until(begun["taskId"].as_str().unwrap(), "completed").await;
    assert_eq!(
        (&task["result"]["isError"], &task["error"]),
        (&json!(true), &Value::Null)
    );
    // An error of the protocol.
    let id = core.call("refuse").await;
    core.until(&id, "failed").await;
    let got = core.send("tasks/result", json!({"taskId": id})).await;
    assert_eq!(got.error().2, "upstream_failed");
    let id = modern.call("refuse").await;
    let task = modern.until(&id, "failed").await;
    assert_eq!(task["error"]["message"], "Mine.", "{task}");
    assert!(task["error"]["code"].is_i64() && task.get("result").is_none());
    // What is refused at once is no task.
    let got = core.send("tools/call", json!({"name": "nothing", "task": {}})).await;
    assert_eq!(got.error(), (200, -32602, "unknown_tool".to_owned()));
    for wrong in [json!(7), json!({"ttl": "long"}), json!({"ttl": -1})] {
        let got = core.send("tools/call", json!({"name": "wait", "task": wrong})).await;
        assert_eq!(got.error(), (200, -32602, "invalid_params".to_owned()), "{wrong}");
    }
}

#[tokio::test]
async fn a_task_belongs_to_who_made_it() {
    let gate = open().await;
    Actor::join(&gate);
    let mine = Core::open(&gate, principal(Role::User)).await;
    let id = mine.call("wait").await;
    let changed = |change: fn(&mut Principal)| {
        let mut other = principal(Role::User);
        change(&mut other);
        other
    };
    for stranger in [
        changed(|other| other.subject = "tom".parse().unwrap()),
        changed(|other| other.tenant = "other".parse().unwrap()),
        changed(|other| other.project = Some("team".parse().unwrap())),
        changed(|other| other.key = None),
        changed(|other| {
            other.tenant = "other".parse().unwrap();
            other.role = Role::Admin;
        }),
    ] {
        let theirs = Core::open(&gate, stranger.clone()).await;
        for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
            let got = theirs.send(method, json!({"taskId": id})).await;
            assert_eq!(
                got.error(),
                (200, -32602, "unknown_task".to_owned()),
                "{method} {stranger:?}"
            );
        }
        assert_eq!(theirs.ask("tasks/list", json!({})).await["tasks"], json!([]));
        let modern = Modern {
            user: stranger,
            ..Modern::new(&gate)
        };
        for (method, more) in [
            ("tasks/get", Value::Null),
            ("tasks/update", json!({})),
            ("tasks/cancel", Value::Null),
        ] {
            let got = modern.send(method, json!({"taskId": id, "inputResponses": more})).await;
            assert_eq!(got.error(), (200, -32602, "unknown_task".to_owned()), "{method}");
        }
    }
    let another_key = changed(|other| other.key = Some("k2".parse().unwrap()));
    let me_again = Core::open(&gate, another_key).await;
    assert_eq!(
        me_again.ask("tasks/get", json!({"taskId": id})).await["status"],
        "working"
    );
}

#[tokio::test]
async fn tasks_are_listed_page_by_page() {
    let gate = open().await;
    Actor::join(&gate);
    let client = Core::open(&gate, principal(Role::User)).await;
    let mut begun = Vec::new();
    for _ in 0..53 {
        begun.push(client.call("wait").await);
    }
    let first = client.ask("tasks/list", json!({})).await;
    let second = client.ask("tasks/list", json!({"cursor": first["nextCursor"]})).await;
    assert!(second.get("nextCursor").is_none());
    let ids = |page: &Value| -> Vec<String> {
        let tasks = page["tasks"].as_array().unwrap().iter();
        tasks.map(|task| task["taskId"].as_str().unwrap().to_owned()).collect()
    };
    begun.reverse();
    assert_eq!(
        [ids(&first), ids(&second)].concat(),
        begun,
        "the newest first, each of them once"
    );
    let got = client.send("tasks/list", json!({"cursor": "no cursor"})).await;
    assert_eq!(got.error(), (200, -32602, "invalid_params".to_owned()));
}

#[tokio::test]
async fn a_task_is_cancelled_before_it_runs_and_while_it_does() {
    let gate = open().await;
    let actor = Actor::join(&gate);
    let client = Core::open(&gate, principal(Role::User)).await;
    let id = client.call("write").await;
    let task = client.ask("tasks/cancel", json!({"taskId": id})).await;
    assert_eq!(task["status"], "cancelled");
    let _worker = Worker::start(&gate);
    let running = client.call("write").await;
    eventually(async || (actor.written.load(std::sync::atomic::Ordering::SeqCst) == 1).then_some(())).await;
    let task = client.ask("tasks/cancel", json!({"taskId": running})).await;
    assert_eq!(task["status"], "cancelled", "at once, for those who rely on it");
    let got = client.send("tasks/result", json!({"taskId": running})).await;
    assert_eq!(got.error().2, "cancelled");
    // The extension tells how it stands, and takes a cancellation as often as it comes.
    let modern = Modern::new(&gate);
    modern.until(&running, "cancelled").await;
    for _ in 0..2 {
        let ended = modern.ask("tasks/cancel", json!({"taskId": running})).await;
        assert_eq!(ended["resultType"], "complete");
        assert!(ended.get("taskId").is_none());
    }
    let written = actor.written.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(written, 1, "what was cancelled first never ran");
}
