//! Responses that nobody waits for: queued, made by whoever runs tasks, fetched, and cancelled.

use crate::{
    responses::{after, ask, refused, send},
    world::{World, drain, principal, user},
};
use forebay_domain::{
    Code, Principal, Role,
    port::{BoxFuture, Cancelled, RunTask, TaskRun, Tell},
    task::{Ended, Offer, TaskError, TaskType, WorkerId},
};
use forebay_llm::RespondLater;
use forebay_runtime::Entropy;
use forebay_store::{
    queue::{Body, Claim, Claimed, Scope},
    responses::ResponseOwner,
};
use forebay_testkit::{
    db::TestDb,
    openai::{ANSWER, Reply},
};
use forebay_work::{Metrics, Pool, PoolParts, TasksConfig, TypeConfig};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use std::{
    num::{NonZeroU32, NonZeroU64},
    sync::Arc,
    time::Duration,
};

/// A gateway with tasks, and what runs them.
async fn world() -> (World, Arc<RespondLater>) {
    with_tasks(World::new().await, TasksConfig::default())
}

fn with_tasks(world: World, config: TasksConfig) -> (World, Arc<RespondLater>) {
    let run = Arc::new(RespondLater::new(&world.router));
    let parts = PoolParts {
        store: world.store.clone(),
        clock: world.clock.clone(),
        entropy: Entropy::system(),
        tasks: world.tasks.clone(),
        config,
        patience: Duration::ZERO,
        metrics: Metrics::register(&mut Registry::default()),
    };
    // It is never started: tests do its work.
    let pool = Pool::new(parts, vec![run.clone()]);
    world.router.work_later(Arc::new(pool.submitter()), world.queue.clone());
    (world, run)
}

fn question(input: &str) -> Value {
    json!({"model": "qwen", "input": input, "background": true, "metadata": {"note": "mine"}})
}

/// A response as its owner reads it now.
async fn read(world: &World, who: &Principal, id: &str) -> Option<Value> {
    let found = world.router.unfinished(who, id).await.unwrap();
    found.map(|found| serde_json::from_str(found.body.get()).unwrap())
}

async fn claim(world: &World) -> Vec<Claimed> {
    let claim = Claim {
        worker: WorkerId::try_from("w1").unwrap(),
        offer: Offer::default(),
        room: vec![(TaskType::try_from("responses").unwrap(), 8)],
        at_most: 8,
        lease: Duration::from_secs(30),
    };
    world.queue.claim(claim).await.unwrap()
}

async fn carry_out(run: &RespondLater, claimed: &Claimed) -> Ended {
    let principal = claimed.task.owner.principal().unwrap();
    let task = TaskRun {
        id: &claimed.task.id,
        principal: &principal,
        input: &claimed.input,
        attempt: claimed.task.attempts,
        attempts_max: claimed.task.attempts_max,
        priority: claimed.task.priority,
        trace: claimed.task.trace,
        deadline: jiff::Timestamp::MAX,
        cancelled: &Never,
        tell: &Never,
    };
    match run.run(task).await {
        Ok(output) => Ended::Done(output),
        Err(fault) => Ended::Failed {
            error: TaskError::from(&fault.failure),
            retryable: fault.retryable,
        },
    }
}

/// Runs the one task that there is.
async fn work(world: &World, run: &RespondLater) {
    let claimed = claim(world).await.remove(0);
    let ended = carry_out(run, &claimed).await;
    world
        .queue
        .settle(&claimed.task.id, claimed.fence, ended)
        .await
        .unwrap();
}

struct Never;

impl Cancelled for Never {
    fn is_cancelled(&self) -> bool {
        false
    }

    fn cancelled(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

impl Tell for Never {
    fn tell(&self, _piece: bytes::Bytes) {}
}

#[tokio::test]
async fn a_response_is_queued_then_made_then_there() {
    let (world, run) = world().await;
    let queued = ask(&world, &question("Why?")).await;
    assert_eq!(
        (
            &queued["status"],
            &queued["background"],
            &queued["output"],
            &queued["metadata"]["note"]
        ),
        (&json!("queued"), &json!(true), &json!([]), &json!("mine"))
    );
    assert!(world.engine.seen().is_empty(), "nobody has asked yet");
    let id = queued["id"].as_str().unwrap();
    assert_eq!(read(&world, &user(), id).await.unwrap(), queued);
    let claimed = claim(&world).await.remove(0);
    assert_eq!(read(&world, &user(), id).await.unwrap()["status"], "in_progress");
    let ended = carry_out(&run, &claimed).await;
    world
        .queue
        .settle(&claimed.task.id, claimed.fence, ended)
        .await
        .unwrap();
    let made = read(&world, &user(), id).await.unwrap();
    assert_eq!(
        (&made["status"], &made["background"], &made["id"]),
        (&json!("completed"), &json!(true), &json!(id))
    );
    assert_eq!(made["output"][0]["content"][0]["text"], ANSWER);
    assert_eq!(made["created_at"], queued["created_at"], "it is as old as its request");
    let kept = world.router.unfinished(&user(), id).await.unwrap().unwrap();
    assert!(kept.input.get().contains("Why?"), "what was asked is kept with it");
    // Conversations go on from it like from any other.
    let next = ask(&world, &after(&made, &json!("And then?"))).await;
    assert_eq!(next["previous_response_id"], json!(id));
}

#[tokio::test]
async fn a_response_is_as_old_as_its_request_however_late_it_is_made() {
    let still = World::still(|engine| json!({ "qwen": { "backends": [{ "url": engine }] } })).await;
    let (world, run) = with_tasks(still, TasksConfig::default());
    let queued = ask(&world, &question("Why?")).await;
    world.clock.advance(Duration::from_mins(10));
    let id = queued["id"].as_str().unwrap();
    assert_eq!(read(&world, &user(), id).await.unwrap(), queued);
    let claimed = claim(&world).await.remove(0);
    let ended = carry_out(&run, &claimed).await;
    world
        .queue
        .settle(&claimed.task.id, claimed.fence, ended)
        .await
        .unwrap();
    let made = world.router.unfinished(&user(), id).await.unwrap().unwrap();
    let body: Value = serde_json::from_str(made.body.get()).unwrap();
    assert_eq!(body["created_at"], queued["created_at"]);
    let in_time = ask(&world, &json!({"model": "qwen", "input": "Why?"})).await;
    let owner = ResponseOwner::from(&user());
    let in_time = in_time["id"].as_str().unwrap();
    let kept = world.store.responses().get(in_time, &owner, world.clock.now()).await;
    assert_eq!(kept.unwrap().unwrap().expires_at, made.expires_at, "it is kept as long");
}

#[tokio::test]
async fn what_was_made_is_not_asked_for_again() {
    let (world, run) = world().await;
    ask(&world, &question("Why?")).await;
    let claimed = claim(&world).await.remove(0);
    let first = carry_out(&run, &claimed).await;
    // Its worker died before it could say so, and another one begins again.
    let second = carry_out(&run, &claimed).await;
    assert_eq!(first, second);
    assert!(matches!(first, Ended::Done(_)), "{first:?}");
    assert_eq!(world.engine.seen().len(), 1);
    assert_eq!(claimed.task.attempts_max, 3);
}

#[tokio::test]
async fn what_may_change_something_is_begun_once() {
    let (world, _run) = world().await;
    let mut body = question("Why?");
    body["tools"] = json!([{"type": "function", "name": "f", "parameters": {"type": "object"}}]);
    ask(&world, &body).await;
    assert_eq!(claim(&world).await[0].task.attempts_max, 1);
}

#[tokio::test]
async fn what_is_wrong_with_it_is_told_at_once() {
    let (world, _run) = world().await;
    for (field, value) in [
        ("stream", json!(true)),
        ("store", json!(false)),
        ("background", json!("yes")),
        ("conversation", json!("conv_1")),
        ("metadata", json!("a note")),
    ] {
        let mut body = question("Why?");
        body[field] = value;
        let failure = refused(&world, &body).await;
        assert_eq!(failure.code, Code::InvalidRequest, "{field}");
        assert!(
            failure.message.starts_with(&format!("`{field}` ")),
            "{}",
            failure.message
        );
    }
    let mut body = question("Why?");
    body["previous_response_id"] = json!("resp_nothing");
    assert_eq!(refused(&world, &body).await.code, Code::UnknownResponse);
    let kept_out = principal(Role::User, "!model:qwen");
    let failure = send(&world, &kept_out, &question("Why?")).await.err().unwrap();
    assert_eq!(failure.code, Code::InsufficientScope);
    let large = question(&"é".repeat(600_000));
    assert_eq!(refused(&world, &large).await.code, Code::BodyTooLarge);
    assert!(claim(&world).await.is_empty(), "nothing of it was queued");
    let failure = {
        let alone = World::new().await;
        refused(&alone, &question("Why?")).await
    };
    assert!(failure.message.contains("runs no tasks"), "{}", failure.message);
}

#[tokio::test]
async fn a_failure_is_the_response() {
    let (world, run) = world().await;
    let queued = ask(&world, &question("Why?")).await;
    let id = queued["id"].as_str().unwrap();
    world
        .engine
        .will(Reply::json(400, &json!({"error": {"message": "No such luck."}})));
    work(&world, &run).await;
    let failed = read(&world, &user(), id).await.unwrap();
    assert_eq!(failed["status"], "failed");
    assert!(
        failed["error"]["message"].as_str().unwrap().contains("No such luck."),
        "{failed}"
    );
    assert!(failed["error"]["code"].is_string());
    world.router.cancel_response(&user(), id).await.unwrap();
    assert_eq!(
        read(&world, &user(), id).await.unwrap()["status"],
        "failed",
        "it stays what it came to"
    );
}

#[tokio::test]
async fn it_is_cancelled_before_it_is_made_or_while_it_is() {
    let (world, run) = world().await;
    let queued = ask(&world, &question("Why?")).await;
    let id = queued["id"].as_str().unwrap();
    for _ in 0..2 {
        world.router.cancel_response(&user(), id).await.unwrap();
        assert_eq!(read(&world, &user(), id).await.unwrap()["status"], "cancelled");
    }
    assert!(claim(&world).await.is_empty());
    let queued = ask(&world, &question("Why?")).await;
    let id = queued["id"].as_str().unwrap();
    let claimed = claim(&world).await.remove(0);
    world.router.cancel_response(&user(), id).await.unwrap();
    assert_eq!(
        read(&world, &user(), id).await.unwrap()["status"],
        "in_progress",
        "its run ends as soon as it hears"
    );
    let ended = Ended::Cancelled;
    world
        .queue
        .settle(&claimed.task.id, claimed.fence, ended)
        .await
        .unwrap();
    assert_eq!(read(&world, &user(), id).await.unwrap()["status"], "cancelled");
    assert!(world.engine.seen().is_empty());
    let plain = ask(&world, &json!({"model": "qwen", "input": "Why?"})).await;
    for id in [plain["id"].as_str().unwrap(), "resp_nothing"] {
        let failure = world.router.cancel_response(&user(), id).await.unwrap_err();
        assert_eq!(failure.code, Code::InvalidRequest, "{id}");
    }
    drop(run);
}

#[tokio::test]
async fn what_comes_to_its_end_was_never_cancelled() {
    for db in TestDb::both().await {
        let (world, run) = with_tasks(World::on(db).await, TasksConfig::default());
        let queued = ask(&world, &question("Why?")).await;
        let id = queued["id"].as_str().unwrap();
        let claimed = claim(&world).await.remove(0);
        let ended = carry_out(&run, &claimed).await;
        // Too late: the answer is there, and its worker is about to say so.
        world.router.cancel_response(&user(), id).await.unwrap();
        let told = read(&world, &user(), id).await.unwrap();
        assert_eq!(told["status"], "in_progress");
        world
            .queue
            .settle(&claimed.task.id, claimed.fence, ended)
            .await
            .unwrap();
        assert_eq!(read(&world, &user(), id).await.unwrap()["status"], "completed");
    }
}

/// Deletes it, as the route does: the task, then what was kept.
async fn delete(world: &World, id: &str) -> (bool, bool) {
    let owner = ResponseOwner::from(&user());
    (
        world.router.forget_response(&user(), id).await.unwrap(),
        world.store.responses().delete(id, &owner).await.unwrap(),
    )
}

#[tokio::test]
async fn what_was_deleted_is_not_made_again() {
    for db in TestDb::both().await {
        let (world, run) = with_tasks(World::on(db).await, TasksConfig::default());
        let queued = ask(&world, &question("Why?")).await;
        let id = queued["id"].as_str().unwrap();
        let claimed = claim(&world).await.remove(0);
        carry_out(&run, &claimed).await;
        // Its worker died before it could say so; another one is about to begin, or has just begun.
        assert_eq!(delete(&world, id).await, (true, true));
        let again = carry_out(&run, &claimed).await;
        assert!(
            matches!(&again, Ended::Failed { error, retryable: false } if error.code == "cancelled"),
            "{again:?}"
        );
        assert_eq!(world.engine.seen().len(), 1, "nobody is asked again");
        assert_eq!(read(&world, &user(), id).await, None);
        assert_eq!(delete(&world, id).await, (false, false));
    }
}

#[tokio::test]
async fn what_failed_or_was_cancelled_can_be_deleted() {
    for db in TestDb::both().await {
        let (world, run) = with_tasks(World::on(db).await, TasksConfig::default());
        let failed = ask(&world, &question("Why?")).await;
        world
            .engine
            .will(Reply::json(400, &json!({"error": {"message": "No such luck."}})));
        work(&world, &run).await;
        let cancelled = ask(&world, &question("Why not?")).await;
        world
            .router
            .cancel_response(&user(), cancelled["id"].as_str().unwrap())
            .await
            .unwrap();
        for (response, status) in [(failed, "failed"), (cancelled, "cancelled")] {
            let id = response["id"].as_str().unwrap();
            assert_eq!(read(&world, &user(), id).await.unwrap()["status"], status);
            let mut stranger = user();
            stranger.subject = "bob".parse().unwrap();
            assert!(!world.router.forget_response(&stranger, id).await.unwrap());
            assert_eq!(delete(&world, id).await, (true, false));
            assert_eq!(read(&world, &user(), id).await, None, "with all that was asked");
        }
    }
}

#[tokio::test]
async fn the_configuration_says_how_long_and_how_often() {
    let mut config = TasksConfig {
        result_hours: NonZeroU32::new(5).unwrap(),
        ..TasksConfig::default()
    };
    let responses = TypeConfig {
        concurrency: None,
        timeout_s: NonZeroU64::new(120),
        attempts_max: NonZeroU32::new(2),
    };
    config.types.insert("responses".to_owned(), responses);
    let (world, run) = with_tasks(World::new().await, config);
    ask(&world, &question("Why?")).await;
    let claimed = claim(&world).await.remove(0);
    assert_eq!(
        (claimed.task.attempts_max, claimed.task.timeout),
        (2, Duration::from_mins(2))
    );
    let ended = carry_out(&run, &claimed).await;
    let (id, fence) = (&claimed.task.id, claimed.fence);
    world.queue.settle(id, fence, ended).await.unwrap();
    let task = world.queue.get(&Scope::All, id, Body::Output).await.unwrap().unwrap();
    let kept = task.expires_at.unwrap().duration_since(task.completed_at.unwrap());
    assert_eq!(kept.as_hours(), 5);
}

#[tokio::test]
async fn it_is_whose_it_is() {
    let (world, run) = world().await;
    let queued = ask(&world, &question("Why?")).await;
    let id = queued["id"].as_str().unwrap();
    let changed = |change: fn(&mut Principal)| {
        let mut other = user();
        change(&mut other);
        other
    };
    let strangers = [
        changed(|other| other.subject = "bob".parse().unwrap()),
        changed(|other| other.tenant = "other".parse().unwrap()),
        changed(|other| other.project = Some("team".parse().unwrap())),
        changed(|other| other.key = None),
    ];
    let check = async || {
        for stranger in &strangers {
            assert_eq!(read(&world, stranger, id).await, None, "{stranger:?}");
            assert!(world.router.cancel_response(stranger, id).await.is_err());
        }
    };
    check().await;
    work(&world, &run).await;
    check().await;
    let another_key = changed(|other| other.key = Some("k2".parse().unwrap()));
    assert_eq!(read(&world, &another_key, id).await.unwrap()["status"], "completed");
    let answer = drain(send(&world, &user(), &question("Again?")).await.unwrap()).await;
    assert_eq!(answer.1, None);
    let failure = run.accept(&user(), b"{}").unwrap_err();
    assert!(failure.hint.unwrap().contains("POST /v1/responses"));
}
