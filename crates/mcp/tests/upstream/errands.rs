//! Upstreams that run calls as tasks: whoever calls sees the result of a call.

use crate::{
    rig::{Rig, context, raw, until},
    server::{Era, Says, Server, offers, tool},
};
use forebay_domain::Code;
use forebay_mcp::{
    CallContext, Client, Outcome,
    call::{ClientCaps, Emission},
    era::Version,
};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const ERAS: [Era; 2] = [Era::Legacy, Era::Modern];
const EXTENSION: &str = "io.modelcontextprotocol/tasks";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// How a task of the script stands, and what else its server says of it.
type State = dyn Fn(usize) -> Value + Send + Sync;

/// A script whose tool `dig` runs as a task only, and stands as `state` says when it is asked for the nth time.
fn digs(era: Era, state: impl Fn(usize) -> Value + Send + Sync + 'static) -> impl Fn(&str, &Value) -> Says {
    let state: Arc<State> = Arc::new(state);
    let asked = AtomicUsize::new(0);
    let mut dig = tool("dig", "Takes long.");
    dig["execution"] = json!({"taskSupport": "required"});
    let others = offers(vec![dig, tool("echo", "Echoes.")]);
    move |method, params| {
        let told = |mut more: Value| {
            more["taskId"] = json!("t1");
            for name in ["pollInterval", "pollIntervalMs"] {
                more[name] = json!(1);
            }
            more
        };
        match method {
            "tools/call" if params["name"] == "dig" => {
                let capable = params["_meta"][CAPABILITIES]["extensions"][EXTENSION].is_object();
                match era {
                    Era::Legacy if params["task"].is_object() => {
                        Says::Result(json!({"task": told(json!({"status": "working"}))}))
                    }
                    Era::Modern if capable => Says::Result(told(json!({"resultType": "task", "status": "working"}))),
                    Era::Legacy => Says::Error(-32601, "as a task only"),
                    Era::Modern => Says::Error(-32021, "as a task only"),
                }
            }
            "tasks/get" => Says::Result(told(state(asked.fetch_add(1, Ordering::SeqCst)))),
            "tasks/result" => Says::Result(json!({
                "content": [{"type": "text", "text": "dug"}], "vendor": 1.50,
                "_meta": {"io.modelcontextprotocol/related-task": {"taskId": "t1"}},
            })),
            "tasks/update" | "tasks/cancel" => Says::Result(json!({})),
            _ => others(method, params),
        }
    }
}

/// At work when it is asked for the first time, done when for the second.
fn done_soon(asked: usize) -> Value {
    if asked == 0 {
        return json!({"status": "working"});
    }
    json!({"status": "completed", "result": {"content": [{"type": "text", "text": "dug"}], "vendor": 1.50}})
}

fn at_work(_asked: usize) -> Value {
    json!({"status": "working"})
}

async fn start(era: Era, state: impl Fn(usize) -> Value + Send + Sync + 'static) -> (Server, Rig) {
    start_with(era, state, json!({})).await
}

async fn start_with(
    era: Era,
    state: impl Fn(usize) -> Value + Send + Sync + 'static,
    mut config: Value,
) -> (Server, Rig) {
    let server = Server::start(era, digs(era, state)).await;
    server.knows_tasks();
    config["url"] = json!(server.url);
    let rig = Rig::start(&[("up", config)]).await;
    rig.ready("up").await;
    (server, rig)
}

/// A client with what it hears.
fn listening(version: Version, caps: &Value) -> (CallContext, mpsc::Receiver<Emission>) {
    let (client, heard) = Client::listening(version, Arc::new(ClientCaps::new(&raw(caps))));
    (CallContext { client, ..context() }, heard)
}

#[tokio::test]
async fn a_tool_that_runs_as_a_task_only_answers_like_any_other() {
    for era in ERAS {
        let (server, rig) = start(era, done_soon).await;
        let result: Value = serde_json::from_str(&rig.result("up__dig", &json!({})).await).unwrap();
        assert_eq!(result["content"][0]["text"], "dug");
        assert_eq!(result["vendor"], 1.5);
        assert!(
            result.get("_meta").is_none(),
            "the upstream's task is nobody's: {result}"
        );
        let polls = server.seen("tasks/get");
        assert_eq!(polls.len(), 2);
        for (headers, message) in polls {
            assert_eq!(message["params"]["taskId"], "t1");
            let named = headers.get("mcp-name").map(|name| name.to_str().unwrap());
            assert_eq!(named, (era == Era::Modern).then_some("t1"), "the header that routes it");
        }
        assert_eq!(server.seen("tasks/result").len(), usize::from(era == Era::Legacy));
        assert!(server.seen("tasks/cancel").is_empty());
        rig.result("up__echo", &json!({})).await;
        let echoed = &server.seen("tools/call")[1].1["params"];
        assert!(
            echoed.get("task").is_none(),
            "a tool that says nothing of tasks is called as ever"
        );
    }
}

#[tokio::test]
async fn a_server_that_names_no_tasks_is_asked_for_none() {
    for era in ERAS {
        let server = Server::start(era, digs(era, done_soon)).await;
        let rig = Rig::start(&[("up", json!({"url": server.url}))]).await;
        rig.ready("up").await;
        let refused = rig.call("up__dig", &json!({})).await;
        assert!(matches!(refused, Ok(Outcome::Refused(_))), "{refused:?}");
        assert!(server.seen("tasks/get").is_empty());
    }
}

#[tokio::test]
async fn a_client_that_knows_the_question_answers_for_itself() {
    let (server, rig) = start(Era::Modern, done_soon).await;
    let (plain, _heard) = listening(Version::V2026_07_28, &json!({}));
    let refused = rig.call_with("up__dig", plain).await;
    assert!(
        matches!(&refused, Ok(Outcome::Refused(error)) if error.code == -32021),
        "{refused:?}"
    );
    let (able, _heard) = listening(Version::V2026_07_28, &json!({"extensions": {EXTENSION: {}}}));
    let done = rig.call_with("up__dig", able).await;
    assert!(matches!(done, Ok(Outcome::Complete(_))), "{done:?}");
    let (older, _heard) = listening(Version::V2025_06_18, &json!({}));
    let done = rig.call_with("up__dig", older).await;
    assert!(matches!(done, Ok(Outcome::Complete(_))), "it cannot know: {done:?}");
    assert_eq!(server.seen("tools/call").len(), 3);
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_takes_its_task_back() {
    for era in ERAS {
        let (server, rig) = start_with(era, at_work, json!({"timeout_s": 1})).await;
        let cancel = CancellationToken::new();
        let taken_back = CallContext {
            cancel: cancel.clone(),
            ..context()
        };
        let (outcome, ()) = tokio::join!(rig.call_with("up__dig", taken_back), async {
            until(|| !server.seen("tasks/get").is_empty()).await;
            cancel.cancel();
        });
        assert!(matches!(outcome, Ok(Outcome::Cancelled)), "{outcome:?}");
        until(|| server.seen("tasks/cancel").len() == 1).await;
        assert_eq!(server.seen("tasks/cancel")[0].1["params"]["taskId"], "t1");
        let late = rig.call("up__dig", &json!({})).await.unwrap_err();
        assert_eq!(late.code, Code::ToolTimedOut);
        until(|| server.seen("tasks/cancel").len() == 2).await;
    }
}

#[tokio::test]
async fn a_task_is_found_again_after_the_connection_was_lost() {
    let (server, rig) = start(
        Era::Modern,
        |asked| if asked < 3 { at_work(asked) } else { done_soon(asked) },
    )
    .await;
    let (outcome, ()) = tokio::join!(rig.call_with("up__dig", context()), async {
        until(|| !server.seen("tasks/get").is_empty()).await;
        server.stop().await;
        server.again().await;
    });
    assert!(matches!(outcome, Ok(Outcome::Complete(_))), "{outcome:?}");
    assert_eq!(server.seen("tools/call").len(), 1, "and is not begun twice");
}

#[tokio::test]
async fn a_task_that_its_upstream_has_forgotten_or_ended_fails_with_a_reason() {
    for era in ERAS {
        let (server, rig) = start(era, |_| json!({"status": "cancelled"})).await;
        let failure = rig.call("up__dig", &json!({})).await.unwrap_err();
        assert_eq!(failure.code, Code::UpstreamFailed);
        assert!(failure.message.contains("taken the call back"), "{failure:?}");
        let again = digs(era, done_soon);
        server.becomes(move |method, params| match method {
            "tasks/get" => Says::Error(-32602, "Task not found"),
            _ => again(method, params),
        });
        let failure = rig.call("up__dig", &json!({})).await.unwrap_err();
        assert!(failure.message.contains("knows nothing of the task"), "{failure:?}");
        let (_server, rig) = start(era, |_| json!({"status": "thinking"})).await;
        let failure = rig.call("up__dig", &json!({})).await.unwrap_err();
        assert!(failure.message.contains("does not know"), "{failure:?}");
    }
}

#[tokio::test]
async fn what_a_task_asks_is_asked_once_and_answered() {
    let question = json!({"method": "elicitation/create", "params": {"message": "Where?"}});
    let (server, rig) = start(Era::Modern, move |asked| match asked {
        0 | 1 => json!({"status": "input_required", "inputRequests": {"where": question}}),
        _ => done_soon(asked),
    })
    .await;
    let (context, mut heard) = listening(Version::V2025_06_18, &json!({"elicitation": {}}));
    let (outcome, ()) = tokio::join!(rig.call_with("up__dig", context), async {
        let Some(Emission::Question(question)) = heard.recv().await else {
            panic!("it asks")
        };
        assert_eq!(question.method, "elicitation/create");
        assert!(question.params.unwrap().get().contains("Where?"));
        question.reply.send(Ok(raw(&json!({"action": "accept"})))).unwrap();
    });
    assert!(matches!(outcome, Ok(Outcome::Complete(_))), "{outcome:?}");
    assert!(heard.recv().await.is_none(), "once, however often it stands there");
    let updates = server.seen("tasks/update");
    assert_eq!(updates.len(), 1);
    assert_eq!(
        updates[0].1["params"]["inputResponses"],
        json!({"where": {"action": "accept"}})
    );
    assert_eq!(updates[0].0["mcp-name"], "t1");
}

#[tokio::test]
async fn a_task_that_nobody_could_follow_is_no_answer() {
    let (server, rig) = start(Era::Modern, done_soon).await;
    let others = digs(Era::Modern, done_soon);
    server.becomes(move |method, params| match method {
        "tools/call" => Says::Result(json!({"resultType": "task", "taskId": "t1", "status": "working"})),
        _ => others(method, params),
    });
    let (plain, _heard) = listening(Version::V2026_07_28, &json!({}));
    let failure = rig.call_with("up__dig", plain).await.unwrap_err();
    assert!(failure.message.contains("breaks the protocol"), "{failure:?}");
}

#[tokio::test]
async fn a_task_that_has_ended_as_it_was_made_is_asked_for_its_result() {
    let (server, rig) = start(Era::Modern, |_| done_soon(1)).await;
    let others = digs(Era::Modern, |_| done_soon(1));
    server.becomes(move |method, params| match method {
        "tools/call" => Says::Result(json!({"resultType": "task", "taskId": "t1", "status": "completed"})),
        _ => others(method, params),
    });
    assert!(rig.result("up__dig", &json!({})).await.contains("dug"));
    server.becomes(digs(Era::Modern, |_| json!({"status": "completed"})));
    let failure = rig.call("up__dig", &json!({})).await.unwrap_err();
    assert!(failure.message.contains("without a result"), "{failure:?}");
}
