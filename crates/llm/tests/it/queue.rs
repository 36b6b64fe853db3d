//! What waits while all backends have as many requests as they may have.

use crate::world::{World, chat, drain, principal, until, user};
use forebay_domain::{
    Code, Failure, Role,
    model::{Hints, Priority},
};
use forebay_testkit::openai::Reply;
use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use serde_json::{Value, json};
use std::time::Duration;

async fn limited(queue: Value) -> World {
    World::still(|engine| {
        let backend = json!({ "url": engine, "max_concurrency": 2 });
        json!({ "qwen": { "backends": [backend], "queue": queue } })
    })
    .await
}

/// Asks with these words and this priority.
async fn ask(world: &World, words: &str, priority: Priority) -> Result<(), Failure> {
    let mut body = chat();
    body["messages"][0]["content"] = words.into();
    let hints = Hints {
        priority,
        ..Hints::default()
    };
    let answer = world.ask_hinting(&user(), "qwen", &body.to_string(), hints).await?;
    assert_eq!(drain(answer).await.1, None);
    Ok(())
}

fn hold(world: &World, count: usize) {
    (0..count).for_each(|_| world.engine.will(Reply::polite(&chat()).hold_head()));
}

fn waiting(world: &World) -> usize {
    let told = world.router.explain_route(&user(), "qwen", None).unwrap();
    told.steps[0].waiting
}

/// The words of the requests that reached the engine.
fn reached(world: &World) -> Vec<String> {
    let words =
        |seen: &forebay_testkit::openai::Seen| seen.json()["messages"][0]["content"].as_str().unwrap().to_owned();
    world.engine.seen().iter().map(words).collect()
}

#[tokio::test]
async fn the_more_urgent_goes_first_and_no_more_than_the_limit_at_a_time() {
    let world = limited(json!({})).await;
    hold(&world, 7);
    let mut running = FuturesUnordered::new();
    let arrivals = [
        ("a", Priority::Medium),
        ("b", Priority::Medium),
        ("low", Priority::Low),
        ("first", Priority::Medium),
        ("second", Priority::Medium),
        ("high", Priority::High),
        ("critical", Priority::Critical),
    ];
    for (count, (words, priority)) in (1..).zip(arrivals) {
        running.push(ask(&world, words, priority));
        let lined_up = until(|| reached(&world).len() + waiting(&world) == count);
        tokio::select! {
            () = lined_up => {}
            _ = running.next() => panic!("nothing is let through"),
        }
        world.clock.advance(Duration::from_millis(1));
    }
    let text = world.metrics();
    assert!(text.contains("forebay_model_queue_depth{model=\"qwen\"} 5"), "{text}");
    assert!(
        text.contains("forebay_backend_requests_in_flight{model=\"qwen\",backend=\"0\"} 2"),
        "{text}"
    );
    for done in 1..=7 {
        world.engine.open_gate();
        running.next().await.unwrap().unwrap();
        let so_far = (done + 2).min(7);
        let refilled = until(|| reached(&world).len() == so_far);
        tokio::select! {
            () = refilled => {}
            Some(_) = running.next() => panic!("only one was let through"),
        }
    }
    let expected = ["a", "b", "critical", "high", "first", "second", "low"];
    assert_eq!(reached(&world), expected);
}

#[tokio::test]
async fn what_waited_long_goes_before_what_is_more_urgent() {
    let world = limited(json!({})).await;
    hold(&world, 4);
    let mut running = FuturesUnordered::new();
    let late = Duration::from_secs(11);
    for (count, (words, priority, then)) in (1..).zip([
        ("a", Priority::Medium, Duration::ZERO),
        ("b", Priority::Medium, Duration::ZERO),
        ("low", Priority::Low, late),
        ("high", Priority::High, Duration::ZERO),
    ]) {
        running.push(ask(&world, words, priority));
        tokio::select! {
            () = until(|| reached(&world).len() + waiting(&world) == count) => {}
            _ = running.next() => panic!("nothing is let through"),
        }
        world.clock.advance(then);
    }
    for _ in 0..4 {
        world.engine.open_gate();
        running.next().await.unwrap().unwrap();
    }
    assert_eq!(reached(&world), ["a", "b", "low", "high"]);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_says_when_to_come_back() {
    let world = limited(json!({ "max": 1 })).await;
    hold(&world, 2);
    let held = join_all(["a", "b", "waits"].map(|words| ask(&world, words, Priority::Medium)));
    let refused = async {
        until(|| waiting(&world) == 1).await;
        world.clock.advance(Duration::from_secs(9));
        let failure = ask(&world, "too many", Priority::Critical).await.unwrap_err();
        assert_eq!(
            (failure.code, failure.retry_after),
            (Code::Overloaded, Some(Duration::from_secs(9)))
        );
        assert!(
            failure.message.contains("as many requests wait as may wait"),
            "{}",
            failure.message
        );
        assert!(
            world
                .metrics()
                .contains("forebay_model_queue_refusals_total{model=\"qwen\"} 1")
        );
        (0..2).for_each(|_| world.engine.open_gate());
    };
    let (held, ()) = tokio::join!(held, refused);
    assert!(held.iter().all(Result::is_ok));
    assert!(!reached(&world).contains(&"too many".to_owned()));
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let world = limited(json!({ "wait_s": 1 })).await;
    hold(&world, 2);
    let held = join_all(["a", "b"].map(|words| ask(&world, words, Priority::Medium)));
    let waits = async {
        world.engine.asked(2).await;
        let failure = ask(&world, "c", Priority::Medium).await.unwrap_err();
        let retry_after_s = failure.retry_after.map(|after| after.as_secs());
        assert_eq!((failure.code, retry_after_s), (Code::Overloaded, Some(1)));
        assert!(
            failure.message.contains("none had room within 1 s"),
            "{}",
            failure.message
        );
        assert_eq!(waiting(&world), 0);
        (0..2).for_each(|_| world.engine.open_gate());
    };
    tokio::join!(held, waits);
    assert_eq!(reached(&world).len(), 2);
}

#[tokio::test]
async fn who_leaves_the_queue_leaves_at_once_and_holds_up_nobody() {
    let world = limited(json!({})).await;
    hold(&world, 2);
    let held = join_all(["a", "b"].map(|words| ask(&world, words, Priority::Medium)));
    let others = async {
        world.engine.asked(2).await;
        {
            let mut leaves = Box::pin(ask(&world, "leaves", Priority::Critical));
            tokio::select! {
                () = until(|| waiting(&world) == 1) => {}
                _ = &mut leaves => panic!("it waits"),
            }
        }
        assert_eq!(waiting(&world), 0);
        let stays = ask(&world, "stays", Priority::Low);
        let open = async {
            until(|| waiting(&world) == 1).await;
            (0..2).for_each(|_| world.engine.open_gate());
        };
        tokio::join!(stays, open).0.unwrap();
    };
    tokio::join!(held, others);
    assert_eq!(reached(&world), ["a", "b", "stays"]);
    assert_eq!(world.state(0), ("up", 0));
}

#[tokio::test]
async fn a_full_model_is_answered_for_by_its_fallback() {
    let world = World::still(|engine| {
        let backend = json!({ "url": engine, "max_concurrency": 1 });
        json!({
            "qwen": { "backends": [backend], "queue": { "max": 0 }, "fallbacks": ["small"] },
            "small": { "backends": [{ "url": engine }] },
        })
    })
    .await;
    hold(&world, 1);
    let held = ask(&world, "a", Priority::Medium);
    let second = async {
        world.engine.asked(1).await;
        ask(&world, "b", Priority::Medium).await.unwrap();
        let alone = principal(Role::User, "model:qwen");
        let failure = world.ask_as(&alone, "qwen", &chat().to_string()).await.err().unwrap();
        assert_eq!(failure.code, Code::Overloaded);
        world.engine.open_gate();
    };
    tokio::join!(held, second).0.unwrap();
    let models: Vec<_> = world
        .engine
        .seen()
        .iter()
        .map(|seen| seen.json()["model"].clone())
        .collect();
    assert_eq!(models, ["qwen", "small"]);
}
