//! How often a tool is begun as a task, as whom, and by whom.

use super::{Core, Modern, Worker, carry_out_as, claim, lose, open};
use crate::{
    actor::Actor,
    support::{Gate, Wish, principal},
};
use forebay_domain::Role;
use forebay_testkit::db::TestDb;
use forebay_work::{TasksConfig, TypeConfig};
use serde_json::json;
use std::{
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn whether_a_tool_may_be_called_is_asked_when_it_runs() {
    let gate = open().await;
    let actor = Actor::join(&gate);
    let client = Modern::new(&gate);
    let id = client.call("write").await;
    let claimed = claim(&gate).await.remove(0);
    let mut narrowed = principal(Role::User);
    narrowed.grants.push("!tool:write".parse().unwrap());
    let run = gate.call_task.clone();
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
        assert_eq!(claim(&gate).await[0].task.attempts_max, attempts, "{tool}");
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
        // Where there may be others, the one that began it had it to itself for a moment.
        next.clock.advance(Duration::from_secs(30));
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
async fn the_configuration_says_how_long_and_how_often() {
    let mut work = TasksConfig {
        result_hours: NonZeroU32::new(3).unwrap(),
        ..TasksConfig::default()
    };
    let calls = TypeConfig {
        concurrency: None,
        timeout_s: NonZeroU64::new(120),
        attempts_max: NonZeroU32::new(2),
    };
    work.types.insert("tools/call".to_owned(), calls);
    let wish = Wish {
        tasks: true,
        work,
        ..Wish::default()
    };
    let gate = Gate::open(wish).await;
    let actor = Actor::join(&gate);
    let client = Core::open(&gate, principal(Role::User)).await;
    client.call("write").await;
    client.call("wait").await;
    let claimed = claim(&gate).await;
    let limits: Vec<_> = claimed
        .iter()
        .map(|claimed| (claimed.task.attempts_max, claimed.task.timeout))
        .collect();
    // The configuration lets nothing be begun more often than the tool itself does.
    assert_eq!(limits, [(1, Duration::from_mins(2)), (2, Duration::from_mins(2))]);
    for claimed in claimed {
        let given_back = forebay_domain::task::Ended::Unbegun;
        gate.store
            .queue()
            .settle(&claimed.task.id, claimed.fence, given_back)
            .await
            .unwrap();
    }
    actor.release.add_permits(5);
    let _worker = Worker::start(&gate);
    let ttl_ms = async |task: serde_json::Value| {
        let begun = client
            .ask("tools/call", json!({"name": "wait", "arguments": {}, "task": task}))
            .await;
        let ended = client
            .until(begun["task"]["taskId"].as_str().unwrap(), "completed")
            .await;
        ended["ttl"].as_u64().unwrap()
    };
    let hours = 3_600_000;
    assert_eq!(ttl_ms(json!({})).await, 3 * hours, "as the configuration says");
    assert_eq!(ttl_ms(json!({"ttl": hours})).await, hours, "as the client wishes");
    assert_eq!(
        ttl_ms(json!({"ttl": 9 * hours})).await,
        3 * hours,
        "but no longer than that"
    );
}
