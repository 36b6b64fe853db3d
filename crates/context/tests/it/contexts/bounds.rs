//! What there is room for: contexts of a tenant, nodes and bytes of a context, tokens of a prompt, money, and time.

use super::world::{World, ann, asked, fault, user};
use crate::world::until;
use forebay_api::ContextNodeAdd;
use forebay_domain::{
    Code,
    ledger::{self, BudgetRule, Enforcement, Window},
    money::Usd,
};
use forebay_store::queue::Scope;
use forebay_testkit::{
    db::TestDb,
    openai::{ANSWER, Reply},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn a_tenant_that_has_all_it_may_have_is_told_so_or_loses_its_oldest() {
    for db in TestDb::both().await {
        let world = World::new(&db).await;
        world.set(json!({}), Some(2));
        let (bob, new) = (user("acme", "bob", &[]), json!({ "model_id": "qwen" }));
        let first = world.make(&ann(), &[]).await;
        world.clock.advance(Duration::from_secs(1));
        let second = world.make(&bob, &[]).await;
        let refused = world.create(&ann(), new.clone()).await.unwrap_err();
        assert_eq!((refused.failure.code, refused.retryable), (Code::ContextLimit, false));
        assert!(
            refused.failure.message.contains("`mcp.max_contexts` allows 2"),
            "{}",
            refused.failure.message
        );
        world.create(&user("other", "ann", &[]), new.clone()).await.unwrap();

        // What is asked in now is not the oldest.
        world.clock.advance(Duration::from_secs(1));
        world.prompt(&ann(), &first, json!({ "prompt": "Hi" })).await.unwrap();
        world.set(json!({ "on_full": "evict_oldest" }), Some(2));
        let mut news = world.contexts.news();
        world.clock.advance(Duration::from_secs(1));
        world.create(&ann(), new).await.unwrap();
        assert_eq!(news.try_recv().unwrap(), second, "{}", db.name());
        assert_eq!(
            world.contexts.get(&bob, &second).await.unwrap_err().code,
            Code::UnknownContext
        );
        assert_eq!(world.said(&ann(), &first).await.len(), 2);
        assert_eq!(world.metric(r#"forebay_context_changes_total{change="evicted"}"#), 1);
        assert_eq!(world.metric(r#"forebay_context_changes_total{change="refused"}"#), 1);
    }
}

#[tokio::test]
async fn a_context_in_which_there_is_something_to_do_makes_no_room() {
    for db in TestDb::both().await {
        let world = World::new(&db).await;
        world.set(json!({ "on_full": "evict_oldest" }), Some(2));
        let (queue, who, new) = (world.store.queue(), ann(), json!({ "model_id": "qwen" }));
        let oldest = world.make(&who, &[]).await;
        world.clock.advance(Duration::from_secs(1));
        let idle = world.make(&who, &[]).await;
        let asked_in = async |id: &str, run_at| {
            let mut task = world.prompt_task(&who, id, json!({ "prompt": "Hi" })).await.unwrap();
            task.run_at = run_at;
            queue.submit(task).await.unwrap().id
        };
        let waiting = asked_in(&oldest, None).await;
        world.clock.advance(Duration::from_secs(1));
        let made = world.create(&who, new.clone()).await.unwrap();
        let there = async || {
            let listed = world.contexts.list(&who, None, None).await.unwrap().contexts;
            listed.into_iter().map(|one| one.id).collect::<Vec<_>>()
        };
        let newest = made["id"].as_str().unwrap().to_owned();
        assert_eq!(
            there().await,
            [newest.clone(), oldest.clone()],
            "{}: {idle} went",
            db.name()
        );

        // What is to be done tomorrow is promised today.
        let tomorrow = world.clock.now() + Duration::from_hours(24);
        let ahead = asked_in(&newest, Some(tomorrow)).await;
        let refused = world.create(&who, new.clone()).await;
        assert_eq!(fault(refused), (Code::ContextLimit, false));
        assert_eq!(there().await, [newest.clone(), oldest.clone()]);

        for (task, gone) in [(ahead, &newest), (waiting, &oldest)] {
            queue.cancel(&Scope::own(&who), &task).await.unwrap();
            world.clock.advance(Duration::from_secs(1));
            world.create(&who, new.clone()).await.unwrap();
            assert!(!there().await.contains(gone), "{}", db.name());
        }
    }
}

#[tokio::test]
async fn a_model_reads_as_much_as_there_is_room_for_and_the_system_always() {
    let db = TestDb::sqlite();
    let world = World::new(&db).await;
    let long = "x".repeat(4 * 40);
    let nodes = [
        ("system", "S"),
        ("user", long.as_str()),
        ("assistant", "B"),
        ("user", "C"),
        ("assistant", "D"),
    ];
    let id = world.make(&ann(), &nodes).await;
    let ask = json!({ "prompt": "E" });
    // Five tokens each, but for the long one with 44.
    world.set(json!({ "tokens_max": 40 }), None);
    let output = world.prompt(&ann(), &id, ask.clone()).await.unwrap();
    assert_eq!(world.read(), ["system: S", "user: C", "assistant: D", "user: E"]);
    assert_eq!(output["node"]["metadata"]["nodes_left_out"], 2);
    assert_eq!(world.metric("forebay_context_nodes_left_out_total"), 2);
    assert_eq!(world.get(&ann(), &id).await.node_count, 7, "nothing of it is gone");

    world.set(json!({ "tokens_max": 40, "truncation": "refuse" }), None);
    assert_eq!(
        fault(world.prompt(&ann(), &id, ask.clone()).await),
        (Code::PromptTooLong, false)
    );
    world.set(json!({ "tokens_max": 16 }), None);
    let refused = world.prompt(&ann(), &id, json!({ "prompt": "x".repeat(400) })).await;
    assert_eq!(fault(refused), (Code::PromptTooLong, false));

    // The model itself reads and says 4,096 tokens: what it is to say is not there to be read.
    world.set(json!({}), None);
    let most = json!({ "prompt": "E", "max_tokens": 4_096 - 20 });
    world.prompt(&ann(), &id, most).await.unwrap();
    assert_eq!(world.read(), ["system: S", "user: E"]);
    let all = json!({ "prompt": "E", "max_tokens": 4_096 });
    let refused = world.prompt(&ann(), &id, all).await.unwrap_err().failure;
    assert_eq!(refused.code, Code::PromptTooLong);
    assert!(
        refused
            .hint
            .as_deref()
            .is_some_and(|hint| hint.contains("`max_tokens`")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_context_has_so_many_nodes_and_bytes() {
    for db in TestDb::both().await {
        let world = World::new(&db).await;
        world.set(json!({ "nodes_max": 4, "bytes_max": 200, "node_bytes_max": 100 }), None);
        let id = world.make(&ann(), &[("user", "A"), ("assistant", "B")]).await;
        world.prompt(&ann(), &id, json!({ "prompt": "Hi" })).await.unwrap();
        let (code, _) = fault(world.prompt(&ann(), &id, json!({ "prompt": "Hi" })).await);
        assert_eq!(
            (code, world.engine.seen().len()),
            (Code::ContextFull, 1),
            "{}: refused before it is asked",
            db.name()
        );
        let node: ContextNodeAdd = serde_json::from_value(json!({ "content": "C" })).unwrap();
        let task = world.contexts.add_node(&ann(), &id, &node, &asked()).await.unwrap();
        assert_eq!(fault(world.run(&ann(), &task).await), (Code::ContextFull, false));
        let large = |bytes: usize| json!({ "content": "x".repeat(bytes) });
        let refused = world
            .create(&ann(), json!({ "model_id": "qwen", "nodes": [large(101)] }))
            .await;
        assert_eq!(fault(refused).0, Code::BodyTooLarge);
        let refused = world
            .create(&ann(), json!({ "model_id": "qwen", "nodes": vec![large(70); 3] }))
            .await;
        assert_eq!(fault(refused).0, Code::ContextFull);
        let refused = world
            .create(&ann(), json!({ "model_id": "qwen", "nodes": vec![large(1); 5] }))
            .await;
        assert_eq!(fault(refused).0, Code::ContextFull);
    }
}

#[tokio::test]
async fn an_answer_that_was_paid_for_is_kept_past_the_bound() {
    for db in TestDb::both().await {
        let world = World::new(&db).await;
        world.set(json!({ "bytes_max": 8 }), None);
        let id = world.make(&ann(), &[]).await;
        world.prompt(&ann(), &id, json!({ "prompt": "Hi" })).await.unwrap();
        assert_eq!(world.said(&ann(), &id).await.len(), 2, "{}", db.name());
        let refused = world.prompt(&ann(), &id, json!({ "prompt": "Hi" })).await;
        assert_eq!(fault(refused), (Code::ContextFull, false));
        assert_eq!(world.engine.seen().len(), 1, "and nothing more is asked");
    }
}

#[tokio::test]
async fn a_prompt_past_a_budget_is_refused_before_anything_is_asked() {
    let db = TestDb::sqlite();
    let world = World::with(&db, json!({ "price": { "input": 1_000, "output": 1_000 } })).await;
    let id = world.make(&ann(), &[]).await;
    world.prompt(&ann(), &id, json!({ "prompt": "Hi" })).await.unwrap();
    world.store.ledger().configure(vec![BudgetRule {
        scope: ledger::Scope::Tenant,
        of: None,
        window: Window {
            minutes: 60,
            limit: Usd::from_micros(10_000),
            enforcement: Enforcement::Hard,
        },
    }]);
    let refused = world.prompt(&ann(), &id, json!({ "prompt": "Hi" })).await;
    assert_eq!(fault(refused), (Code::SpendingLimitExceeded, false));
    assert_eq!(world.engine.seen().len(), 1);
    assert_eq!(
        world.said(&ann(), &id).await,
        ["user: Hi", &format!("assistant: {ANSWER}")]
    );
}

#[tokio::test]
async fn what_nobody_uses_expires_and_is_removed() {
    for db in TestDb::both().await {
        let world = World::new(&db).await;
        world.set(json!({ "idle_hours": 2 }), None);
        let (used, idle) = (
            world.make(&ann(), &[]).await,
            world.make(&ann(), &[("user", "A")]).await,
        );
        world.clock.advance(Duration::from_hours(1));
        world.prompt(&ann(), &used, json!({ "prompt": "Hi" })).await.unwrap();
        world.clock.advance(Duration::from_hours(1));
        assert_eq!(
            world.contexts.get(&ann(), &idle).await.unwrap_err().code,
            Code::UnknownContext
        );
        assert_eq!(world.said(&ann(), &used).await.len(), 2);
        world.contexts.start(&world.tasks);
        until("the idle one is removed", || async {
            world.metric(r#"forebay_context_changes_total{change="expired"}"#) == 1
        })
        .await;
        let tally = world.store.conversations().tally(world.clock.now()).await.unwrap();
        assert_eq!(
            (tally.conversations, tally.expired, tally.nodes),
            (1, 0, 2),
            "{}",
            db.name()
        );
        assert_eq!(world.metric("forebay_contexts"), 1);
        assert_eq!(world.metric("forebay_context_nodes"), 2);
    }
}

#[tokio::test]
async fn the_more_urgent_prompt_is_asked_first_where_an_engine_is_busy() {
    let db = TestDb::sqlite();
    let (world, who) = (World::narrow(&db).await, ann());
    let mut prompts = Vec::new();
    for (words, priority) in [
        ("first", "medium"),
        ("low", "low"),
        ("high", "high"),
        ("critical", "critical"),
    ] {
        let id = world.make(&who, &[]).await;
        let body = json!({ "prompt": words, "priority": priority });
        prompts.push(world.prompt_task(&who, &id, body).await.unwrap());
        world
            .engine
            .will(Reply::polite(&json!({ "model": "qwen" })).hold_head());
    }
    let waiting = || world.router.explain_route(&who, "qwen", None).unwrap().steps[0].waiting;
    let mut running = FuturesUnordered::new();
    for (count, task) in (1..).zip(&prompts) {
        running.push(world.run(&who, task));
        tokio::select! {
            () = until("it waits, or is asked", || async { world.engine.seen().len() + waiting() == count }) => {}
            _ = running.next() => panic!("nothing is answered yet"),
        }
    }
    assert_eq!(world.read(), ["user: first"]);
    for _ in &prompts {
        world.engine.open_gate();
    }
    while let Some(answered) = running.next().await {
        answered.unwrap();
    }
    let reached = world.engine.seen();
    let words: Vec<_> = reached
        .iter()
        .map(|seen| seen.json()["messages"][0]["content"].clone())
        .collect();
    assert_eq!(words, ["first", "critical", "high", "low"]);
}
