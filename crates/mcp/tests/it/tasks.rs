//! Tools that run as tasks: in 2025-11-25, and by the extension of later versions.

use crate::{
    actor::Actor,
    support::{Gate, Got, Wish, message_of, modern_request, principal, request},
};
use forebay_domain::{
    Principal, Role,
    port::{BoxFuture, Cancelled, RunTask, TaskRun, Tell},
    task::{Ended, Offer, TaskError, TaskType, WorkerId},
};
use forebay_mcp::ReplyBody;
use forebay_runtime::Tasks;
use forebay_store::queue::{Claim, Claimed};
use forebay_testkit::db::TestDb;
use futures_util::StreamExt;
use rmcp::model::{CreateTaskResult, GetTaskResult};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// How long a worker here has its tasks: nothing is heard of it again after that.
const LEASE: Duration = Duration::from_secs(30);

async fn open() -> Gate {
    Gate::open(Wish {
        tasks: true,
        ..Wish::default()
    })
    .await
}

/// What runs one task after another, as workers do, until the test ends.
struct Worker {
    tasks: Tasks,
}

impl Worker {
    fn start(gate: &Gate) -> Self {
        let tasks = Tasks::new();
        let (queue, run) = (gate.store.queue(), gate.later.call_task(&gate.catalogue));
        let all = tasks.clone();
        tasks.spawn("worker", move |_| async move {
            loop {
                for claimed in claim(&queue).await {
                    let (queue, run) = (queue.clone(), run.clone());
                    all.spawn("run", move |_| async move {
                        let cancel = CancellationToken::new();
                        let (ended, _watching) = tokio::join!(
                            carry_out(run.as_ref(), &claimed, &cancel),
                            watch(&queue, &claimed, &cancel)
                        );
                        queue.settle(&claimed.task.id, claimed.fence, ended).await.unwrap();
                    });
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        Self { tasks }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.tasks.stop().end();
    }
}

async fn claim(queue: &forebay_store::queue::Queue) -> Vec<Claimed> {
    let claim = Claim {
        worker: WorkerId::try_from("w1").unwrap(),
        offer: Offer::default(),
        room: vec![(TaskType::try_from("tools/call").unwrap(), 8)],
        at_most: 8,
        lease: LEASE,
    };
    queue.claim(claim).await.unwrap()
}

/// Runs a claimed task as whoever submitted it.
async fn carry_out(run: &dyn RunTask, claimed: &Claimed, cancel: &CancellationToken) -> Ended {
    let principal = claimed.task.owner.principal().unwrap();
    carry_out_as(run, claimed, &principal, cancel).await
}

async fn carry_out_as(
    run: &dyn RunTask,
    claimed: &Claimed,
    principal: &Principal,
    cancel: &CancellationToken,
) -> Ended {
    let task = TaskRun {
        id: &claimed.task.id,
        principal,
        input: &claimed.input,
        attempt: claimed.task.attempts,
        attempts_max: claimed.task.attempts_max,
        trace: claimed.task.trace,
        deadline: jiff::Timestamp::MAX,
        cancelled: &Token(cancel.clone()),
        tell: &Nobody,
    };
    let ended = match run.run(task).await {
        Ok(output) => Ended::Done(output),
        Err(fault) => Ended::Failed {
            error: TaskError::from(&fault.failure),
            retryable: fault.retryable,
        },
    };
    cancel.cancel();
    ended
}

/// Hears whether its task is to end; ends with the run.
async fn watch(queue: &forebay_store::queue::Queue, claimed: &Claimed, cancel: &CancellationToken) {
    while !cancel.is_cancelled() {
        let held = [(claimed.task.id.clone(), claimed.fence)];
        let beats = queue.heartbeat(&held, LEASE).await.unwrap();
        if beats[0].cancel_wanted {
            cancel.cancel();
        }
        let _ = tokio::time::timeout(Duration::from_millis(5), cancel.cancelled()).await;
    }
}

struct Token(CancellationToken);

impl Cancelled for Token {
    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    fn cancelled(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.cancelled())
    }
}

struct Nobody;

impl Tell for Nobody {
    fn tell(&self, _piece: bytes::Bytes) {}
}

/// A client of 2025-11-25 in a session.
struct Core<'a> {
    gate: &'a Gate,
    user: Principal,
    session: String,
}

impl<'a> Core<'a> {
    async fn open(gate: &'a Gate, user: Principal) -> Self {
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}, "roots": {}},
            "clientInfo": {"name": "t", "version": "0"}});
        let got = gate.post(&user, &[], &request(1, "initialize", &params)).await;
        let session = got.headers["mcp-session-id"].to_str().unwrap().to_owned();
        Self { gate, user, session }
    }

    async fn send(&self, method: &str, params: Value) -> Got {
        let body = request(2, method, &params);
        self.gate
            .post(&self.user, &[("mcp-session-id", &self.session)], &body)
            .await
    }

    async fn ask(&self, method: &str, params: Value) -> Value {
        let got = self.send(method, params).await;
        assert!(got.body["result"].is_object(), "{method}: {got:?}");
        got.body["result"].clone()
    }

    /// The id of a task that calls a tool.
    async fn call(&self, tool: &str) -> String {
        let params = json!({"name": tool, "arguments": {}, "task": {"ttl": 60_000}});
        let begun = self.ask("tools/call", params).await;
        assert_eq!(begun["task"]["status"], "working", "{begun}");
        begun["task"]["taskId"].as_str().unwrap().to_owned()
    }

    async fn until(&self, id: &str, status: &str) -> Value {
        eventually(async || {
            let task = self.ask("tasks/get", json!({"taskId": id})).await;
            (task["status"] == status).then_some(task)
        })
        .await
    }
}

/// A client of 2026-07-28 that names the extension.
struct Modern<'a> {
    gate: &'a Gate,
    user: Principal,
    caps: Value,
}

impl<'a> Modern<'a> {
    fn new(gate: &'a Gate) -> Self {
        let caps = json!({"elicitation": {}, "roots": {}, "extensions": {"io.modelcontextprotocol/tasks": {}}});
        Self {
            gate,
            user: principal(Role::User),
            caps,
        }
    }

    async fn send(&self, method: &str, params: Value) -> Got {
        let id = params["taskId"].as_str().map(str::to_owned);
        let (mut headers, body) = modern_request(method, params);
        headers.extend(id.map(|id| ("mcp-name", id)));
        let mut body: Value = serde_json::from_str(&body).unwrap();
        body["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = self.caps.clone();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.gate.post(&self.user, &headers, &body.to_string()).await
    }

    async fn ask(&self, method: &str, params: Value) -> Value {
        let got = self.send(method, params).await;
        assert!(got.body["result"].is_object(), "{method}: {got:?}");
        got.body["result"].clone()
    }

    /// The id of a task that calls a tool.
    async fn call(&self, tool: &str) -> String {
        let params = json!({"name": tool, "arguments": {}, "_meta": {"io.forebay/task": true}});
        let begun = self.ask("tools/call", params).await;
        serde_json::from_value::<CreateTaskResult>(begun.clone()).expect("as the Rust SDK reads it");
        assert_eq!(begun["resultType"], "task");
        // A worker may have begun it, and the tool may have asked something, before the answer was written.
        let at_once = ["working", "input_required"];
        assert!(at_once.contains(&begun["status"].as_str().unwrap()), "{begun}");
        begun["taskId"].as_str().unwrap().to_owned()
    }

    async fn until(&self, id: &str, status: &str) -> Value {
        eventually(async || {
            let task = self.ask("tasks/get", json!({"taskId": id})).await;
            serde_json::from_value::<GetTaskResult>(task.clone()).expect("as the Rust SDK reads it");
            (task["status"] == status).then_some(task)
        })
        .await
    }
}

async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("it comes about in time")
}

#[tokio::test]
async fn tasks_are_announced_in_the_versions_that_know_them() {
    let (with, without) = (open().await, Gate::open(Wish::default()).await);
    let user = principal(Role::User);
    let core = json!({"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}});
    for (gate, version, tasks) in [
        (&with, "2025-11-25", core),
        (&with, "2025-06-18", Value::Null),
        (&without, "2025-11-25", Value::Null),
    ] {
        let params =
            json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}});
        let got = gate.post(&user, &[], &request(1, "initialize", &params)).await;
        let capabilities = &got.body["result"]["capabilities"];
        assert_eq!(
            (&capabilities["tasks"], &capabilities["extensions"]),
            (&tasks, &Value::Null),
            "{version}"
        );
    }
    let discovered = Modern::new(&with).ask("server/discover", json!({})).await;
    let extensions = json!({"io.modelcontextprotocol/tasks": {}});
    assert_eq!(discovered["capabilities"]["extensions"], extensions);
    assert_eq!(discovered["capabilities"]["tasks"], Value::Null);
    let discovered = Modern::new(&without).ask("server/discover", json!({})).await;
    assert_eq!(discovered["capabilities"]["extensions"], Value::Null);
    let got = Modern::new(&without).send("tasks/get", json!({"taskId": "x"})).await;
    assert_eq!(got.error(), (404, -32601, "unknown_method".to_owned()));
}

#[tokio::test]
async fn every_tool_says_that_it_can_run_as_a_task_to_those_who_would_ask() {
    let gate = open().await;
    Actor::join(&gate);
    let listed = Core::open(&gate, principal(Role::User))
        .await
        .ask("tools/list", json!({}))
        .await;
    let tools = listed["tools"].as_array().unwrap();
    assert!(tools.len() > 10);
    assert!(
        tools
            .iter()
            .all(|tool| tool["execution"] == json!({"taskSupport": "optional"})),
        "{tools:?}"
    );
    let listed = Modern::new(&gate).ask("tools/list", json!({})).await;
    assert!(
        listed["tools"][0]["execution"].is_null(),
        "the extension has no such member"
    );
}

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

#[tokio::test]
async fn the_extension_has_to_be_named_and_older_versions_have_no_tasks() {
    let gate = open().await;
    Actor::join(&gate).release.add_permits(9);
    let unnamed = Modern {
        caps: json!({}),
        ..Modern::new(&gate)
    };
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let got = unnamed.send(method, json!({"taskId": "x", "inputResponses": {}})).await;
        assert_eq!(
            got.error(),
            (400, -32021, "missing_client_capability".to_owned()),
            "{method}"
        );
        let needed = &got.body["error"]["data"]["requiredCapabilities"]["extensions"];
        assert!(needed["io.modelcontextprotocol/tasks"].is_object());
    }
    let meta = json!({"io.forebay/task": true});
    let wanted = json!({"name": "wait", "arguments": {}, "_meta": meta});
    assert_eq!(unnamed.ask("tools/call", wanted).await["content"][0]["text"], "waited");
    let named = Modern::new(&gate);
    let core = json!({"name": "wait", "arguments": {}, "task": {"ttl": 1}});
    assert_eq!(
        named.ask("tools/call", core.clone()).await["resultType"],
        "complete",
        "that member means nothing now"
    );
    for method in ["tasks/list", "tasks/result"] {
        assert_eq!(
            named.send(method, json!({"taskId": "x"})).await.error().1,
            -32601,
            "{method}"
        );
    }
    let user = principal(Role::User);
    let session = gate.open_session(&user, "2025-06-18").await;
    let headers = [("mcp-session-id", session.as_str())];
    let got = gate.post(&user, &headers, &request(2, "tools/call", &core)).await;
    assert_eq!(got.body["result"]["content"][0]["text"], "waited");
    let got = gate.post(&user, &headers, &request(2, "tasks/list", &json!({}))).await;
    assert_eq!(got.error().1, -32601);
    let got = gate.plain(&user, &request(2, "tools/call", &core)).await;
    assert_eq!(got.body["result"]["content"][0]["text"], "waited");
}

#[tokio::test]
async fn the_header_names_the_task() {
    let gate = open().await;
    let client = Modern::new(&gate);
    let (headers, body) = modern_request("tasks/get", json!({"taskId": "x"}));
    let mut headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(
        gate.post(&client.user, &headers, &body).await.error().1,
        -32020,
        "it is missing"
    );
    headers.push(("mcp-name", "y"));
    assert_eq!(gate.post(&client.user, &headers, &body).await.error().1, -32020);
    assert_eq!(client.send("tasks/get", json!({"taskId": "x"})).await.error().1, -32602);
}

#[tokio::test]
async fn whether_a_tool_may_be_called_is_asked_when_it_runs() {
    let gate = open().await;
    let actor = Actor::join(&gate);
    let client = Modern::new(&gate);
    let id = client.call("write").await;
    let claimed = claim(&gate.store.queue()).await.remove(0);
    let mut narrowed = principal(Role::User);
    narrowed.grants.push("!tool:write".parse().unwrap());
    let run = gate.later.call_task(&gate.catalogue);
    let ended = carry_out_as(run.as_ref(), &claimed, &narrowed, &CancellationToken::new()).await;
    gate.store
        .queue()
        .settle(&claimed.task.id, claimed.fence, ended)
        .await
        .unwrap();
    let task = client.until(&id, "failed").await;
    assert_eq!(task["error"]["data"]["code"], "insufficient_scope");
    assert_eq!(actor.written.load(std::sync::atomic::Ordering::SeqCst), 0);
}

/// The worker is gone without a word, and its lease ends.
async fn lose(gate: &Gate) {
    assert_eq!(claim(&gate.store.queue()).await.len(), 1);
    gate.clock.advance(LEASE + Duration::from_secs(1));
    gate.store.queue().lapse().await.unwrap();
}

#[tokio::test]
async fn a_tool_that_may_not_be_called_twice_is_not_and_others_are() {
    let gate = open().await;
    let actor = Actor::join(&gate);
    let client = Core::open(&gate, principal(Role::User)).await;
    let once = client.call("write").await;
    lose(&gate).await;
    let task = client.ask("tasks/get", json!({"taskId": once})).await;
    assert_eq!(task["status"], "failed");
    let got = client.send("tasks/result", json!({"taskId": once})).await;
    assert_eq!(got.error().2, "call_lost", "it may have run, and nobody says otherwise");
    let again = client.call("wait").await;
    lose(&gate).await;
    assert_eq!(
        client.ask("tasks/get", json!({"taskId": again})).await["status"],
        "working"
    );
    // Its next turn comes a moment later.
    gate.clock.advance(Duration::from_mins(10));
    actor.release.add_permits(1);
    let _worker = Worker::start(&gate);
    client.until(&again, "completed").await;
    assert_eq!(actor.written.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_tool_that_calls_others_is_begun_once_whatever_it_says_of_itself() {
    let gate = open().await;
    let client = Modern::new(&gate);
    for (tool, attempts) in [("call_batch", 1), ("call_chain", 1), ("search_tools", 3)] {
        client.call(tool).await;
        assert_eq!(
            claim(&gate.store.queue()).await[0].task.attempts_max,
            attempts,
            "{tool}"
        );
    }
}

#[tokio::test]
async fn a_task_outlives_its_gateway() {
    for database in TestDb::both().await {
        let wish = Wish {
            tasks: true,
            ..Wish::default()
        };
        let gate = Gate::on(database, wish).await;
        Actor::join(&gate);
        let id = Modern::new(&gate).call("wait").await;
        gate.kill().await;
        let next = gate.another().await;
        next.front.work_later(next.later.clone());
        Actor::join(&next).release.add_permits(1);
        let client = Modern::new(&next);
        assert_eq!(
            client.ask("tasks/get", json!({"taskId": id})).await["status"],
            "working"
        );
        let _worker = Worker::start(&next);
        let task = client.until(&id, "completed").await;
        assert_eq!(task["result"]["content"][0]["text"], "waited");
    }
}

#[tokio::test]
async fn what_is_submitted_by_other_ways_names_a_tool_and_its_arguments() {
    let gate = open().await;
    let run = gate.later.call_task(&gate.catalogue);
    let user = principal(Role::User);
    let accept = |input: &str| {
        run.accept(&user, input.as_bytes())
            .map_err(|failure| failure.code.as_str())
    };
    assert_eq!(
        accept(r#"{"name":"calculator","arguments":{"expression":"1"}}"#),
        Ok(())
    );
    assert_eq!(accept(r#"{"name":"nothing"}"#), Err("unknown_tool"));
    assert_eq!(accept(r#"{"tool":"calculator"}"#), Err("invalid_params"));
    assert_eq!(run.limits().retry.attempts_max, 1, "nobody knows what it does");
    let viewer = principal(Role::Viewer);
    let refused = run.accept(&viewer, br#"{"name":"calculator"}"#).unwrap_err();
    assert_eq!(refused.code.as_str(), "forbidden");
    let _kept: Arc<dyn RunTask> = run.clone();
}
