//! What happens twice, at once, or breaks off in the middle.

use super::world::{Ears, World, ann, asked, fault, user};
use forebay_api::{ContextCreate, ContextNodeAdd, ContextPrompt};
use forebay_context::contexts::Asked;
use forebay_domain::Code;
use forebay_testkit::{
    db::TestDb,
    openai::{ANSWER, End, Reply, chunk, event},
};
use serde_json::{Value, json};

#[tokio::test]
async fn a_task_that_runs_again_does_nothing_again() {
    for db in TestDb::both().await {
        let world = World::new(&db).await;
        let new: ContextCreate =
            serde_json::from_value(json!({ "model_id": "qwen", "nodes": [{ "content": "A" }] })).unwrap();
        let create = world.contexts.create(&ann(), &new, &asked()).await.unwrap();
        let task = world.task_id();
        let ears = Ears::default();
        let first = world.run_as(&ann(), &create, &task, 1, &ears).await.unwrap();
        let again = world.run_as(&ann(), &create, &task, 2, &ears).await.unwrap();
        assert_eq!(first, again);
        assert_eq!(world.contexts.list(&ann(), None, None).await.unwrap().contexts.len(), 1);

        let id = first["id"].as_str().unwrap();
        let prompt = world
            .prompt_task(&ann(), id, json!({ "prompt": "Which city?", "return_context": true }))
            .await;
        let (prompt, task) = (prompt.unwrap(), world.task_id());
        let first = world.run_as(&ann(), &prompt, &task, 1, &ears).await.unwrap();
        let again = world.run_as(&ann(), &prompt, &task, 2, &ears).await.unwrap();
        assert_eq!(first, again);
        assert_eq!(world.engine.seen().len(), 1, "{}: a model is asked once", db.name());

        let node: ContextNodeAdd = serde_json::from_value(json!({ "content": "B" })).unwrap();
        let add = world.contexts.add_node(&ann(), id, &node, &asked()).await.unwrap();
        let task = world.task_id();
        let first = world.run_as(&ann(), &add, &task, 1, &ears).await.unwrap();
        assert_eq!(first, world.run_as(&ann(), &add, &task, 2, &ears).await.unwrap());
        assert_eq!(world.said(&ann(), id).await.len(), 4);

        let node = first["node"]["id"].as_str().unwrap();
        let remove = world.contexts.delete_node(&ann(), id, node, &asked()).await.unwrap();
        let task = world.task_id();
        let first = world.run_as(&ann(), &remove, &task, 1, &ears).await.unwrap();
        assert_eq!(first, world.run_as(&ann(), &remove, &task, 2, &ears).await.unwrap());

        let delete = world.contexts.delete(&ann(), id, &asked()).await.unwrap();
        let task = world.task_id();
        let first = world.run_as(&ann(), &delete, &task, 1, &ears).await.unwrap();
        assert_eq!(first, world.run_as(&ann(), &delete, &task, 2, &ears).await.unwrap());
    }
}

#[tokio::test]
async fn what_was_never_there_was_not_deleted_however_often_it_is_tried() {
    for db in TestDb::both().await {
        let world = World::new(&db).await;
        let id = world.make(&ann(), &[("user", "A")]).await;
        let ears = Ears::default();
        let node = world
            .contexts
            .delete_node(&ann(), &id, "node_none", &asked())
            .await
            .unwrap();
        let context = world.contexts.delete(&ann(), &id, &asked()).await.unwrap();
        // Somebody else was quicker.
        world.run(&ann(), &context).await.unwrap();
        for (task, expected) in [(&node, Code::UnknownContext), (&context, Code::UnknownContext)] {
            // Its first run was lost before it came to the database.
            let came = world.run_as(&ann(), task, &world.task_id(), 2, &ears).await;
            assert_eq!(fault(came), (expected, false), "{}", db.name());
        }
    }
}

#[tokio::test]
async fn what_was_asked_before_is_told_whatever_has_changed_since() {
    for db in TestDb::both().await {
        let world = World::new(&db).await;
        let queue = world.store.queue();
        let id = world.make(&ann(), &[]).await;
        let named = |name: &str| Asked {
            idempotency_key: Some(name.to_owned()),
            ..asked()
        };
        let wish = json!({ "prompt": "Which city?", "stream": true, "user_id": "ann" });
        let prompt: ContextPrompt = serde_json::from_value(wish).unwrap();
        let node: ContextNodeAdd = serde_json::from_value(json!({ "content": "Rome" })).unwrap();
        let new: ContextCreate =
            serde_json::from_value(json!({ "model_id": "qwen", "nodes": [{ "content": "Rome" }] })).unwrap();
        let contexts = &world.contexts;
        let who = ann();
        let mut first = Vec::new();
        for task in [
            contexts.prompt(&who, &id, &prompt, &named("prompt")).await,
            contexts.add_node(&who, &id, &node, &named("node")).await,
            contexts.create(&who, &new, &named("create")).await,
            contexts.delete(&who, &id, &named("delete")).await,
        ] {
            first.push(queue.submit(task.unwrap()).await.unwrap().id);
        }
        // Now none of them could be asked for anew: the bound is lower, and the context is gone.
        world.set(json!({ "node_bytes_max": 1 }), None);
        let delete = contexts.delete(&who, &id, &asked()).await.unwrap();
        world.run(&who, &delete).await.unwrap();
        let told = ContextPrompt {
            stream: false,
            return_context: true,
            user_id: None,
            ..prompt.clone()
        };
        let again = [
            contexts.prompt(&who, &id, &told, &named("prompt")).await,
            contexts.add_node(&who, &id, &node, &named("node")).await,
            contexts.create(&who, &new, &named("create")).await,
            contexts.delete(&who, &id, &named("delete")).await,
        ];
        for (task, id) in again.into_iter().zip(first) {
            let repeat = queue.submit(task.unwrap()).await.unwrap();
            assert_eq!((repeat.id, repeat.is_repeat), (id, true), "{}", db.name());
        }
        let refused = [
            contexts.prompt(&who, &id, &prompt, &named("other")).await,
            contexts.add_node(&who, &id, &node, &named("other")).await,
            contexts.create(&who, &new, &named("other")).await,
            contexts.delete(&who, &id, &named("other")).await,
            // Names are their sender's.
            contexts.delete(&user("acme", "bob", &[]), &id, &named("delete")).await,
        ];
        let codes = refused.map(|refused| refused.unwrap_err().code);
        let (large, gone) = (Code::BodyTooLarge, Code::UnknownContext);
        assert_eq!(codes, [large, large, large, gone, gone]);
    }
}

#[tokio::test]
async fn a_context_that_changes_under_a_prompt_is_asked_again_and_one_that_goes_is_not() {
    for db in TestDb::both().await {
        let world = World::new(&db).await;
        let id = world.make(&ann(), &[("user", "A")]).await;
        let prompt = world
            .prompt_task(&ann(), &id, json!({ "prompt": "Which city?" }))
            .await
            .unwrap();
        let node: ContextNodeAdd = serde_json::from_value(json!({ "content": "B" })).unwrap();
        let add = world.contexts.add_node(&ann(), &id, &node, &asked()).await.unwrap();
        let delete = world.contexts.delete(&ann(), &id, &asked()).await.unwrap();
        let (who, task) = (ann(), world.task_id());
        let ears = Ears::default();
        for (attempt, change, expected) in [
            (1, &add, (Code::Conflict, true)),
            (2, &delete, (Code::UnknownContext, false)),
        ] {
            world.engine.will(Reply::polite(&json!({})).hold_head());
            let meanwhile = async {
                world.engine.asked(usize::try_from(attempt).unwrap()).await;
                world.run(&who, change).await.unwrap();
                world.engine.open_gate();
            };
            let (outcome, ()) = tokio::join!(world.run_as(&who, &prompt, &task, attempt, &ears), meanwhile);
            assert_eq!(fault(outcome), expected, "{}", db.name());
        }
    }
}

#[tokio::test]
async fn a_prompt_that_fails_leaves_the_context_as_it_was() {
    let db = TestDb::sqlite();
    let world = World::new(&db).await;
    let id = world.make(&ann(), &[("user", "A")]).await;
    let whole = json!({ "prompt": "Which city?" });
    world
        .engine
        .will(Reply::json(500, &json!({ "error": { "message": "out of memory" } })));
    assert_eq!(
        fault(world.prompt(&ann(), &id, whole.clone()).await),
        (Code::UpstreamFailed, true)
    );
    world.engine.will(Reply::json(200, &json!({ "choices": "none" })));
    let (code, _) = fault(world.prompt(&ann(), &id, whole.clone()).await);
    assert_eq!(code, Code::UpstreamFailed);

    // Somebody has seen the beginning: it is not asked again behind their back.
    let begun = event(&chunk("qwen", &json!({ "content": "The capital" }), None));
    let streamed = json!({ "prompt": "Which city?", "stream": true });
    world.engine.will(Reply::events().piece(begun.clone()).end(End::Reset));
    let (_, is_retried) = fault(world.prompt(&ann(), &id, streamed.clone()).await);
    assert!(!is_retried);
    let broken: Value = json!({ "error": { "message": "out of memory" } });
    world.engine.will(
        Reply::events()
            .piece(begun)
            .piece(event(&broken))
            .piece("data: [DONE]\n\n"),
    );
    let (code, is_retried) = fault(world.prompt(&ann(), &id, streamed).await);
    assert_eq!((code, is_retried), (Code::UpstreamFailed, false));

    assert_eq!(world.said(&ann(), &id).await, ["user: A"]);
    assert_eq!(world.metric(r#"forebay_context_prompts_total{outcome="failed"}"#), 4);
    world.prompt(&ann(), &id, whole).await.unwrap();
    assert_eq!(world.read(), ["user: A", "user: Which city?"]);
}

#[tokio::test]
async fn a_prompt_that_is_cancelled_lets_its_engine_go() {
    let db = TestDb::sqlite();
    let world = World::new(&db).await;
    let id = world.make(&ann(), &[]).await;
    let task = world
        .prompt_task(&ann(), &id, json!({ "prompt": "Which city?" }))
        .await
        .unwrap();
    world.engine.will(Reply::polite(&json!({})).hold_head());
    let ears = Ears::default();
    let cancelling = async {
        world.engine.asked(1).await;
        ears.stop.cancel();
    };
    let (who, drawn) = (ann(), world.task_id());
    let (outcome, ()) = tokio::join!(world.run_as(&who, &task, &drawn, 1, &ears), cancelling);
    assert_eq!(fault(outcome), (Code::Cancelled, false));
    world.engine.left(1).await;
    assert!(world.said(&ann(), &id).await.is_empty());
}

#[tokio::test]
async fn what_is_too_large_for_an_output_stands_in_the_context() {
    let db = TestDb::sqlite();
    let world = World::new(&db).await;
    world.set(json!({ "tokens_max": 16_777_216, "truncation": "oldest" }), None);
    let id = world.make(&ann(), &[]).await;
    for _ in 0..3 {
        let node: ContextNodeAdd = serde_json::from_value(json!({ "content": "x".repeat(500_000) })).unwrap();
        let task = world.contexts.add_node(&ann(), &id, &node, &asked()).await.unwrap();
        world.run(&ann(), &task).await.unwrap();
    }
    let output = world
        .prompt(&ann(), &id, json!({ "prompt": "So?", "return_context": true }))
        .await
        .unwrap();
    assert!(output.get("context").is_none());
    assert_eq!(output["node"]["content"], ANSWER);
    assert_eq!(world.get(&ann(), &id).await.nodes.unwrap().len(), 5);
}
