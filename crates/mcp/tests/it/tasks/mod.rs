//! Tools that run as tasks: in 2025-11-25, and by the extension of later versions. Here are the clients and the workers.

mod asking;
mod following;
mod running;
mod starting;

use crate::support::{Gate, Got, Wish, modern_request, principal, request};
use forebay_domain::{
    Principal, Role,
    port::{BoxFuture, Cancelled, RunTask, TaskRun, Tell},
    task::{Ended, Offer, TaskError, TaskType, WorkerId},
};
use forebay_runtime::Tasks;
use forebay_store::queue::{Claim, Claimed, Queue};
use rmcp::model::{CreateTaskResult, GetTaskResult};
use serde_json::{Value, json};
use std::time::Duration;
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
        let (queue, run, worker) = (gate.store.queue(), gate.call_task.clone(), gate.pool.worker().clone());
        let all = tasks.clone();
        tasks.spawn("worker", move |_| async move {
            loop {
                for claimed in claim_as(&queue, &worker).await {
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

/// What the gateway's own workers get.
async fn claim(gate: &Gate) -> Vec<Claimed> {
    claim_as(&gate.store.queue(), gate.pool.worker()).await
}

async fn claim_as(queue: &Queue, worker: &WorkerId) -> Vec<Claimed> {
    let claim = Claim {
        worker: worker.clone(),
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
        priority: claimed.task.priority,
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
async fn watch(queue: &Queue, claimed: &Claimed, cancel: &CancellationToken) {
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
        assert_eq!(
            begun["status"], "working",
            "however far a worker has come with it by now"
        );
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

/// The worker is gone without a word, and its lease ends.
async fn lose(gate: &Gate) {
    assert_eq!(claim(gate).await.len(), 1);
    gate.clock.advance(LEASE + Duration::from_secs(1));
    gate.store.queue().lapse().await.unwrap();
}
