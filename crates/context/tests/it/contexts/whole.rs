//! A context from its beginning to its end, and whose it is.

use super::world::{Ears, World, ann, asked, fault, user};
use crate::world::World as ProvidersWorld;
use forebay_api::{ContextInfo, ContextNodeAdd, ContextPrompted};
use forebay_domain::{Code, Failure};
use forebay_testkit::{
    db::TestDb,
    openai::{ANSWER, COMPLETION_TOKENS, PROMPT_TOKENS, Reply},
};
use serde_json::{Value, json};

#[tokio::test]
async fn a_model_reads_what_was_said_before_and_what_it_says_is_kept() {
    for db in TestDb::both().await {
        let world = World::new(&db).await;
        let body = json!({
            "model_id": "qwen", "metadata": { "session": "user123" }, "user_id": "user123", "priority": "medium",
            "nodes": [{ "content": "Be brief.", "content_type": "text", "metadata": { "role": "system" } }],
            "return_context": true,
        });
        let made: ContextInfo = serde_json::from_value(world.create(&ann(), body).await.unwrap()).unwrap();
        assert_eq!(
            (made.model_id.as_str(), made.user_id.as_deref()),
            ("qwen", Some("user123"))
        );
        assert_eq!(
            (made.node_count, made.metadata["session"].as_str()),
            (1, Some("user123"))
        );
        assert!(made.expires_at.unwrap() > made.created_at);
        let first = world
            .prompt(
                &ann(),
                &made.id,
                json!({ "prompt": "Which city?", "metadata": { "n": 1 }, "max_tokens": 9 }),
            )
            .await
            .unwrap();
        assert_eq!(world.read(), ["system: Be brief.", "user: Which city?"]);
        let sent = world.engine.seen()[0].json();
        assert_eq!((&sent["max_tokens"], &sent["stream"]), (&json!(9), &Value::Null));
        let first: ContextPrompted = serde_json::from_value(first).unwrap();
        let usage = first.usage.unwrap();
        assert_eq!(
            (usage.prompt_tokens, usage.completion_tokens),
            (PROMPT_TOKENS, COMPLETION_TOKENS)
        );
        assert_eq!((first.context.is_none(), usage.estimated), (true, false));
        assert_eq!(
            (first.node.content.as_str(), first.node.usage),
            (Some(ANSWER), Some(usage))
        );
        assert_eq!(first.node.parent_id.as_ref(), Some(&first.prompt_node.id));
        assert_eq!(first.prompt_node.metadata["n"], 1);
        assert_eq!(first.node.metadata["finish_reason"], "stop");
        world
            .prompt(&ann(), &made.id, json!({ "prompt": "And how large?" }))
            .await
            .unwrap();
        let answer = format!("assistant: {ANSWER}");
        assert_eq!(
            world.read(),
            [
                "system: Be brief.",
                "user: Which city?",
                &answer,
                "user: And how large?"
            ],
            "{}",
            db.name()
        );
        let kept = world.get(&ann(), &made.id).await;
        assert_eq!((kept.node_count, kept.nodes.unwrap()[2].clone()), (5, first.node));
        assert_eq!(world.metric(r#"forebay_context_prompts_total{outcome="ok"}"#), 2);
        assert_eq!(world.metric(r#"forebay_context_changes_total{change="created"}"#), 1);
        assert_eq!(world.metric("forebay_context_prompt_duration_seconds_count"), 2);
    }
}

#[tokio::test]
async fn a_streamed_answer_is_told_piece_by_piece_and_kept_as_one() {
    let db = TestDb::sqlite();
    let world = World::new(&db).await;
    let id = world.make(&ann(), &[]).await;
    let task = world
        .prompt_task(&ann(), &id, json!({ "prompt": "Which city?", "stream": true }))
        .await
        .unwrap();
    let ears = Ears::default();
    let output = world.run_as(&ann(), &task, &world.task_id(), 1, &ears).await.unwrap();
    let heard = ears.heard.lock().unwrap().clone();
    assert!(heard.len() > 1);
    assert_eq!(
        (heard.concat(), output["node"]["content"].as_str()),
        (ANSWER.to_owned(), Some(ANSWER))
    );
    assert_eq!(output["usage"]["completion_tokens"], COMPLETION_TOKENS);
    assert_eq!(
        world.said(&ann(), &id).await,
        ["user: Which city?", &format!("assistant: {ANSWER}")]
    );
}

#[tokio::test]
async fn what_an_engine_does_not_count_is_estimated() {
    let db = TestDb::sqlite();
    let world = World::new(&db).await;
    let id = world.make(&ann(), &[]).await;
    let message = json!({ "role": "assistant", "content": "Four" });
    world.engine.will(Reply::json(
        200,
        &json!({ "choices": [{ "index": 0, "message": message }] }),
    ));
    let output = world.prompt(&ann(), &id, json!({ "prompt": "2 + 2?" })).await.unwrap();
    let usage = json!({ "prompt_tokens": 6, "completion_tokens": 5, "total_tokens": 11, "estimated": true });
    assert_eq!(output["usage"], usage);
}

#[tokio::test]
async fn calls_of_the_clients_tools_go_back_and_forth_through_the_nodes() {
    let db = TestDb::sqlite();
    let world = World::new(&db).await;
    let id = world.make(&ann(), &[]).await;
    let piece = |index: u64, call: Value| {
        let mut call = call;
        call["index"] = json!(index);
        let delta = json!({ "tool_calls": [call] });
        forebay_testkit::openai::event(&forebay_testkit::openai::chunk("qwen", &delta, None))
    };
    let end = forebay_testkit::openai::chunk("qwen", &json!({}), Some("tool_calls"));
    let reply = Reply::events()
        .piece(piece(
            0,
            json!({ "id": "call_1", "type": "function", "function": { "name": "f", "arguments": "{\"a\"" } }),
        ))
        .piece(piece(
            1,
            json!({ "id": "call_2", "type": "function", "function": { "name": "g", "arguments": "{}" } }),
        ))
        .piece(piece(0, json!({ "function": { "arguments": ":1}" } })))
        .piece(forebay_testkit::openai::event(&end))
        .piece("data: [DONE]\n\n");
    world.engine.will(reply);
    let tools = json!([{ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } }]);
    let asked_with = json!({ "prompt": "Do it.", "tools": tools, "stream": true });
    let output = world.prompt(&ann(), &id, asked_with).await.unwrap();
    let calls = json!([
        { "id": "call_1", "type": "function", "function": { "name": "f", "arguments": "{\"a\":1}" } },
        { "id": "call_2", "type": "function", "function": { "name": "g", "arguments": "{}" } },
    ]);
    assert_eq!(output["node"]["metadata"]["tool_calls"], calls);
    assert_eq!(world.engine.seen()[0].json()["tools"], tools);
    for call in ["call_1", "call_2"] {
        let node = json!({ "content": "42", "role": "tool", "metadata": { "tool_call_id": call } });
        let node: ContextNodeAdd = serde_json::from_value(node).unwrap();
        let task = world.contexts.add_node(&ann(), &id, &node, &asked()).await.unwrap();
        world.run(&ann(), &task).await.unwrap();
    }
    world.prompt(&ann(), &id, json!({ "prompt": "So?" })).await.unwrap();
    let messages = world.engine.seen()[1].json()["messages"].clone();
    assert_eq!(
        messages[1],
        json!({ "role": "assistant", "content": "", "tool_calls": calls })
    );
    assert_eq!(
        messages[3],
        json!({ "role": "tool", "content": "42", "tool_call_id": "call_2" })
    );
}

#[tokio::test]
async fn what_providers_find_goes_into_the_prompt_and_is_cited() {
    let db = TestDb::sqlite();
    let world = World::new(&db).await;
    let config = json!({ "providers": { "m": { "type": "mcp", "config": { "tool": "search" } } } });
    let providers = ProvidersWorld::new(config).await;
    providers
        .tools
        .says(&json!({ "results": [{ "id": "7", "snippet": "Paris has two million people." }] }).to_string());
    world.introduce(&providers);
    let id = world.make(&ann(), &[("user", "Hello."), ("assistant", "Hi.")]).await;
    let output = world
        .prompt(
            &ann(),
            &id,
            json!({ "prompt": "How many people?", "mcp_context": { "providers": ["m"] } }),
        )
        .await
        .unwrap();
    let sent = world.engine.seen()[0].json()["messages"].to_string();
    assert!(sent.contains("two million") && sent.contains("Hello."), "{sent}");
    assert_eq!(output["node"]["metadata"]["forebay"]["context"][0]["provider"], "m");
    // What was found for one prompt is no part of the conversation.
    assert_eq!(world.said(&ann(), &id).await[2], "user: How many people?");
}

#[tokio::test]
async fn nodes_and_contexts_are_taken_away() {
    for db in TestDb::both().await {
        let world = World::new(&db).await;
        let id = world
            .make(&ann(), &[("system", "S"), ("user", "A"), ("assistant", "B")])
            .await;
        let mut news = world.contexts.news();
        let node = world.get(&ann(), &id).await.nodes.unwrap()[1].id.clone();
        let task = world.contexts.delete_node(&ann(), &id, &node, &asked()).await.unwrap();
        let output = world.run(&ann(), &task).await.unwrap();
        assert_eq!(output, json!({ "context_id": id, "node_id": node, "deleted": true }));
        assert_eq!(
            world.said(&ann(), &id).await,
            ["system: S", "assistant: B"],
            "{}",
            db.name()
        );
        assert_eq!(fault(world.run(&ann(), &task).await), (Code::UnknownNode, false));
        let task = world.contexts.delete(&ann(), &id, &asked()).await.unwrap();
        assert_eq!(
            world.run(&ann(), &task).await.unwrap(),
            json!({ "id": id, "deleted": true })
        );
        assert_eq!(fault(world.run(&ann(), &task).await), (Code::UnknownContext, false));
        assert_eq!(
            world.contexts.get(&ann(), &id).await.unwrap_err().code,
            Code::UnknownContext
        );
        assert_eq!([news.try_recv().unwrap(), news.try_recv().unwrap()], [id.clone(), id]);
    }
}

#[tokio::test]
async fn nobody_else_sees_touches_or_asks_in_a_context() {
    for db in TestDb::both().await {
        let world = World::new(&db).await;
        let id = world.make(&ann(), &[("user", "A")]).await;
        let node = world.get(&ann(), &id).await.nodes.unwrap()[0].id.clone();
        let prompt = json!({ "prompt": "Hi" });
        let own = world.prompt_task(&ann(), &id, prompt.clone()).await.unwrap();
        let code = |outcome: Result<(), Failure>| outcome.unwrap_err().code;
        for stranger in [user("acme", "bob", &[]), user("other", "ann", &[])] {
            let asked = asked();
            assert_eq!(
                code(world.contexts.get(&stranger, &id).await.map(drop)),
                Code::UnknownContext
            );
            assert!(
                world
                    .contexts
                    .list(&stranger, None, None)
                    .await
                    .unwrap()
                    .contexts
                    .is_empty()
            );
            let refused = world.prompt_task(&stranger, &id, prompt.clone()).await.map(drop);
            assert_eq!(code(refused), Code::UnknownContext);
            let refused = world.contexts.delete(&stranger, &id, &asked).await.map(drop);
            assert_eq!(code(refused), Code::UnknownContext);
            let refused = world
                .contexts
                .delete_node(&stranger, &id, &node, &asked)
                .await
                .map(drop);
            assert_eq!(code(refused), Code::UnknownContext);
            // A task that was submitted without asking first.
            assert_eq!(fault(world.run(&stranger, &own).await), (Code::UnknownContext, false));
        }
        // What a key may do counts when its task runs.
        for grants in [&["!contexts:*"], &["tool:*"]] {
            let narrowed = user("acme", "ann", grants);
            assert_eq!(fault(world.run(&narrowed, &own).await).0, Code::InsufficientScope);
            let refused = world.contexts.get(&narrowed, &id).await.map(drop);
            assert_eq!(code(refused), Code::InsufficientScope);
        }
        let no_model = user("acme", "ann", &["!model:*"]);
        assert_eq!(
            fault(world.run(&no_model, &own).await),
            (Code::InsufficientScope, false)
        );
        let refused = world.create(&no_model, json!({ "model_id": "qwen" })).await;
        assert_eq!(fault(refused).0, Code::InsufficientScope);
        let refused = world.create(&ann(), json!({ "model_id": "gpt-9" })).await;
        assert_eq!(fault(refused), (Code::UnknownModel, false));
        assert!(world.engine.seen().is_empty(), "{}", db.name());
        assert_eq!(world.said(&ann(), &id).await, ["user: A"]);
    }
}

#[tokio::test]
async fn a_walk_over_the_pages_meets_each_once() {
    let db = TestDb::sqlite();
    let world = World::new(&db).await;
    for _ in 0..5 {
        world.make(&ann(), &[("user", "A")]).await;
    }
    let (mut cursor, mut met) = (None, Vec::new());
    loop {
        let page = world.contexts.list(&ann(), Some(2), cursor.as_deref()).await.unwrap();
        assert!(
            page.contexts
                .iter()
                .all(|one| one.nodes.is_none() && one.node_count == 1)
        );
        met.extend(page.contexts.into_iter().map(|one| one.id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    met.sort();
    met.dedup();
    assert_eq!(met.len(), 5);
    for (limit, cursor) in [(Some(0), None), (Some(1_001), None), (None, Some("nonsense"))] {
        let refused = world.contexts.list(&ann(), limit, cursor).await.unwrap_err();
        assert_eq!(refused.code, Code::InvalidRequest);
    }
}
