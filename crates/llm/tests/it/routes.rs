//! Which backend is asked, what is tried again elsewhere, and who is out of use.

use crate::world::{ENGINE_KEY, World, chat, drain, principal, settings, streamed, until, user};
use forebay_domain::{Code, Role, event::Outcome};
use forebay_testkit::openai::{End, Engine, Reply, absent_url};
use serde_json::{Value, json};
use std::time::Duration;

/// The backends of `qwen`, the first of which is drawn first nearly always.
fn prefer_first(urls: &[&str]) -> Value {
    let backends = urls.iter().enumerate().map(|(index, url)| {
        let weight = if index == 0 { 1000 } else { 1 };
        json!({ "url": url, "weight": weight })
    });
    json!({ "qwen": { "backends": backends.collect::<Vec<_>>(), "affinity": false } })
}

async fn two() -> (World, Engine) {
    let second = Engine::start().await;
    let world = World::still(|engine| prefer_first(&[engine, &second.url()])).await;
    (world, second)
}

fn failing(status: u16) -> Reply {
    Reply::json(status, &json!({ "error": { "message": "no" } }))
}

/// Puts the first backend out of use.
async fn put_out(world: &World) {
    for _ in 0..3 {
        world.engine.will(failing(503));
        assert_eq!(world.read(&chat()).await.1, None, "the other one answers");
    }
    assert_eq!(world.state(0), ("ejected", 0));
    world.clock.advance(Duration::from_millis(1));
}

#[tokio::test]
async fn before_the_first_byte_another_backend_is_asked() {
    for body in [chat(), streamed()] {
        for reply in [
            Reply::silent(End::Reset),
            Reply::silent(End::Cut),
            failing(500),
            failing(502),
            failing(503),
            failing(504),
            failing(429),
            failing(401),
            failing(404),
            failing(408),
            Reply::whole(200, "text/html", "<html>"),
        ] {
            let (world, second) = two().await;
            world.engine.will(reply.clone());
            assert_eq!(world.read(&body).await.1, None, "{reply:?}");
            assert_eq!((world.engine.seen().len(), second.seen().len()), (1, 1), "{reply:?}");
            assert_eq!(world.engine.seen()[0].body, second.seen()[0].body);
            let text = world.metrics();
            assert!(
                text.contains("forebay_backend_retries_total{model=\"qwen\",backend=\"0\"} 1"),
                "{text}"
            );
            assert_eq!(world.event().await.outcome, Outcome::Ok, "one event for both attempts");
        }
    }
}

#[tokio::test]
async fn what_is_the_requests_own_fault_or_has_begun_is_not_repeated() {
    for (body, reply, code) in [
        (chat(), failing(400), Code::InvalidRequest),
        (chat(), failing(422), Code::InvalidRequest),
        (
            streamed(),
            Reply::events().piece("data: {}\n\n").end(End::Cut),
            Code::UpstreamTruncated,
        ),
    ] {
        let (world, second) = two().await;
        world.engine.will(reply.clone());
        assert_eq!(world.read(&body).await.1, Some(code), "{reply:?}");
        assert!(second.seen().is_empty(), "{reply:?}");
    }
}

/// Nobody has seen any of an answer in one piece before it is whole.
#[tokio::test]
async fn a_whole_answer_that_is_none_is_asked_of_another() {
    for reply in [
        Reply::begin(200, "application/json").piece("{").end(End::Cut),
        Reply::begin(200, "application/json").piece("{").end(End::Reset),
        Reply::whole(200, "application/json", r#"{"choices":[{"message""#),
        Reply::json(200, &json!({ "choices": 7 })),
        Reply::json(200, &json!({ "error": "dead" })),
    ] {
        let (world, second) = two().await;
        for asked in 1..=3 {
            world.engine.will(reply.clone());
            assert_eq!(world.read(&chat()).await.1, None, "{reply:?}");
            assert_eq!(
                (world.engine.seen().len(), second.seen().len()),
                (asked, asked),
                "{reply:?}"
            );
        }
        assert_eq!(world.state(0), ("ejected", 0), "it counts as a failure: {reply:?}");
        assert_eq!(world.state(1), ("up", 0));
    }
    let (world, second) = two().await;
    for engine in [&world.engine, &second] {
        engine.will(Reply::json(200, &json!({ "error": "dead" })));
    }
    assert_eq!(
        world.read(&chat()).await.1,
        Some(Code::UpstreamFailed),
        "where all fail"
    );
}

/// Nor of a stream before its first event.
#[tokio::test]
async fn a_stream_that_begins_with_an_error_is_asked_of_another() {
    let error = "data: {\"error\":{\"message\":\"no room\"}}\n\n";
    for reply in [
        Reply::events().piece(error),
        Reply::events().piece(&error[..9]).piece(&error[9..]).gate(),
        Reply::events().piece(error.trim_end()),
        Reply::events().end(End::Reset),
        Reply::events().end(End::Cut),
        Reply::events(),
        Reply::events().piece("data: {\"id\""),
        Reply::events().piece(": thinking\n"),
    ] {
        let (world, second) = two().await;
        world.engine.will(reply.clone());
        assert_eq!(world.read(&streamed()).await.1, None, "{reply:?}");
        assert_eq!((world.engine.seen().len(), second.seen().len()), (1, 1), "{reply:?}");
        assert_eq!(world.event().await.outcome, Outcome::Ok, "one event for both attempts");
    }
    // Where all say so, it is an answer that is none, and no stream.
    let (world, second) = two().await;
    for engine in [&world.engine, &second] {
        engine.will(Reply::events().piece(error));
    }
    let failure = world.ask(&streamed()).await.map(drop).unwrap_err();
    assert_eq!(failure.code, Code::UpstreamFailed);
    assert!(failure.message.contains("reported an error"), "{failure}");
    // A word, and be it a comment, has gone out.
    for first in [": thinking\n\n", "data: {}\n\n"] {
        let (world, second) = two().await;
        world.engine.will(Reply::events().piece(first).piece(error));
        assert_eq!(world.read(&streamed()).await.1, Some(Code::UpstreamFailed), "{first}");
        assert!(second.seen().is_empty(), "{first}");
    }
}

#[tokio::test]
async fn attempts_are_bounded_and_refused_connections_are_none() {
    let (first, second, absent) = (Engine::start().await, Engine::start().await, absent_url().await);
    let world = World::still(|engine| {
        let mut config = prefer_first(&[&absent, engine, &first.url(), &second.url()]);
        config["qwen"]["retry"] = json!({ "attempts": 2 });
        config
    })
    .await;
    for engine in [&world.engine, &first, &second] {
        engine.will(failing(503));
    }
    assert_eq!(world.read(&chat()).await.1, Some(Code::UpstreamFailed));
    let asked: usize = [&world.engine, &first, &second]
        .map(|engine| engine.seen().len())
        .iter()
        .sum();
    assert_eq!(asked, 2);
}

#[tokio::test]
async fn a_slow_one_is_left_for_another_only_where_that_is_configured() {
    let never_begins = Reply::json(200, &json!({})).hold_head();
    let never_ends = Reply::begin(200, "application/json").piece("{").gate();
    for (reply, on_timeout, expected) in [
        (&never_begins, false, (Some(Code::UpstreamTimedOut), 0)),
        (&never_begins, true, (None, 1)),
        (&never_ends, false, (Some(Code::UpstreamTimedOut), 0)),
        (&never_ends, true, (None, 1)),
    ] {
        let second = Engine::start().await;
        let world = World::still(|engine| {
            let mut config = prefer_first(&[engine, &second.url()]);
            config["qwen"]["timeouts"] = json!({ "begin_s": 1, "idle_s": 1 });
            config["qwen"]["retry"] = json!({ "on_timeout": on_timeout });
            config
        })
        .await;
        world.engine.will(reply.clone());
        let code = world.read(&chat()).await.1;
        assert_eq!((code, second.seen().len()), expected, "{on_timeout} {reply:?}");
        world.engine.left(1).await;
    }
}

#[tokio::test]
async fn a_backend_that_fails_is_put_out_and_comes_back_on_trial() {
    let (world, second) = two().await;
    put_out(&world).await;
    for _ in 0..5 {
        assert_eq!(world.read(&chat()).await.1, None);
    }
    assert_eq!(
        (world.engine.seen().len(), second.seen().len()),
        (3, 8),
        "it is left alone"
    );

    world.clock.advance(Duration::from_secs(5));
    assert_eq!(world.state(0), ("due_for_trial", 0));
    world.engine.will(failing(503));
    assert_eq!(world.read(&chat()).await.1, None);
    assert_eq!(world.state(0), ("ejected", 0), "one failure is enough on trial");
    world.clock.advance(Duration::from_secs(6));
    assert_eq!(world.state(0), ("ejected", 0), "and it is out for longer");
    world.clock.advance(Duration::from_secs(4));
    assert_eq!(world.read(&chat()).await.1, None);
    assert_eq!(world.state(0), ("up", 0));
    assert_eq!((world.engine.seen().len(), second.seen().len()), (5, 9));
    assert!(
        world
            .metrics()
            .contains("forebay_backend_ejections_total{model=\"qwen\",backend=\"0\"} 2")
    );
}

#[tokio::test]
async fn one_request_alone_is_on_trial() {
    let (world, second) = two().await;
    put_out(&world).await;
    world.clock.advance(Duration::from_secs(5));
    world.engine.will(Reply::polite(&chat()).hold_head());
    let body = chat();
    let trial = world.read(&body);
    let others = async {
        world.engine.asked(4).await;
        assert_eq!(world.state(0), ("on_trial", 1));
        for _ in 0..4 {
            assert_eq!(world.read(&chat()).await.1, None);
        }
        assert_eq!(second.seen().len(), 7);
        world.engine.open_gate();
    };
    let ((_, code), ()) = tokio::join!(trial, others);
    assert_eq!((code, world.state(0)), (None, ("up", 0)));
}

#[tokio::test]
async fn streams_that_break_count_and_clients_that_leave_do_not() {
    let (world, _second) = two().await;
    for _ in 0..4 {
        world.engine.will(Reply::events().piece("data: {}\n\n").gate());
        let answer = world.ask(&streamed()).await.unwrap();
        assert_eq!(world.state(0), ("up", 1));
        drop(answer);
        assert_eq!(
            world.state(0),
            ("up", 0),
            "a client that has gone frees its place at once"
        );
    }
    for state in ["up", "up", "ejected"] {
        world.engine.will(Reply::events().piece("data: {}\n\n").end(End::Cut));
        assert_eq!(world.read(&streamed()).await.1, Some(Code::UpstreamTruncated));
        assert_eq!(world.state(0), (state, 0));
    }
}

#[tokio::test]
async fn where_all_are_out_the_least_bad_is_asked_and_said_to_be() {
    let world = World::still(|engine| prefer_first(&[engine])).await;
    for _ in 0..4 {
        world.engine.will(failing(500));
        assert_eq!(world.read(&chat()).await.1, Some(Code::UpstreamFailed));
    }
    assert_eq!(
        (world.state(0).0, world.engine.seen().len()),
        ("ejected", 4),
        "it is asked all the same"
    );
    let told = world.router.explain_route(&user(), "qwen", None).unwrap();
    assert_eq!(told.steps[0].chosen, Some(0));
    assert_eq!(
        told.steps[0].outcome,
        "all backends are out of use; backend 0 is tried all the same"
    );
    assert_eq!(
        told.steps[0].backends[0].reason,
        "chosen for want of a better one: it failed several times in a row: out of use until 2026-11-21T12:00:05Z"
    );
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(world.read(&chat()).await.1, None);
    assert_eq!(world.state(0).0, "up");
}

#[tokio::test]
async fn one_that_takes_no_more_rests_as_long_as_it_says() {
    let (world, second) = two().await;
    world.engine.will(failing(429).header("retry-after", "7"));
    assert_eq!(world.read(&chat()).await.1, None);
    assert_eq!(world.state(0), ("resting", 0));
    world.clock.advance(Duration::from_secs(6));
    assert_eq!(world.read(&chat()).await.1, None);
    assert_eq!((world.engine.seen().len(), second.seen().len()), (1, 2));
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.read(&chat()).await.1, None);
    assert_eq!(world.engine.seen().len(), 2);
}

#[tokio::test]
async fn one_that_rejects_our_key_is_out_and_explain_says_so() {
    let (world, _second) = two().await;
    world.engine.will(failing(401));
    assert_eq!(world.read(&chat()).await.1, None);
    let told = world.router.explain_route(&user(), "qwen", Some(1)).unwrap();
    assert_eq!(told.decision, "allowed by `model:*` of role user");
    let reasons: Vec<_> = told.steps[0].backends.iter().map(|why| why.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "it rejected the gateway's own credentials: out of use until 2026-11-21T12:00:30Z",
            "chosen: the only one that can take it"
        ]
    );
    let refused = world.router.explain_route(&principal(Role::Viewer, ""), "qwen", None);
    assert_eq!(refused.unwrap_err().code, Code::Forbidden);
    let unknown = world.router.explain_route(&user(), "gwen", None);
    assert_eq!(unknown.unwrap_err().code, Code::UnknownModel);
}

#[tokio::test]
async fn what_is_known_of_a_backend_outlives_the_configuration() {
    let (world, second) = two().await;
    put_out(&world).await;
    let changed = |key: Value| {
        let first = json!({ "url": world.engine.url(), "api_key": key });
        settings(json!({ "qwen": { "backends": [{ "url": second.url(), "weight": 7 }, first] } }))
    };
    world.router.reconfigure(changed(Value::Null));
    assert_eq!(
        (world.state(0).0, world.state(1).0),
        ("up", "ejected"),
        "it is known by its address"
    );
    world.router.reconfigure(changed(json!({ "env": "ENGINE_KEY" })));
    assert_eq!(world.state(1).0, "up", "with another key it may work");
}

#[tokio::test]
async fn a_fallback_answers_for_who_may_ask_it() {
    let absent = absent_url().await;
    let world = World::still(|engine| {
        let own_name = json!({ "url": engine, "model": "org/Small", "api_key": { "env": "ENGINE_KEY" } });
        json!({
            "qwen": { "backends": [{ "url": absent }], "fallbacks": ["secret", "small"] },
            "small": { "backends": [own_name] },
            "secret": { "backends": [{ "url": absent }] },
        })
    })
    .await;
    let caller = principal(Role::User, "model:qwen model:small");
    let answer = world.ask_as(&caller, "qwen", &chat().to_string()).await.unwrap();
    assert_eq!(drain(answer).await.1, None);
    let seen = world.engine.seen();
    assert_eq!(seen[0].json()["model"], "org/Small");
    assert_eq!(
        seen[0].header("authorization"),
        Some(format!("Bearer {ENGINE_KEY}").as_str())
    );
    let told = world.router.explain_route(&caller, "qwen", None).unwrap();
    let models: Vec<_> = told.steps.iter().map(|step| step.model.as_str()).collect();
    assert_eq!(models, ["qwen", "small"], "what they may not ask is not there for them");

    let caller = principal(Role::User, "model:qwen");
    let failure = world.ask_as(&caller, "qwen", &chat().to_string()).await.err().unwrap();
    assert_eq!(failure.message, "No backend of model `qwen` can be reached; 1 tried.");
    assert_eq!(world.engine.seen().len(), 1);
}

#[tokio::test]
async fn prompts_that_begin_alike_go_to_one_backend_and_others_spread() {
    let engines = [Engine::start().await, Engine::start().await, Engine::start().await];
    let world = World::still(|_| {
        let backends = engines.each_ref().map(|engine| json!({ "url": engine.url() }));
        json!({ "qwen": { "backends": backends } })
    })
    .await;
    let ask = async |words: &str, more: usize| {
        let mut body = chat();
        body["messages"][0]["content"] = words.into();
        let messages = body["messages"].as_array_mut().unwrap();
        messages.extend((0..more).map(|_| json!({ "role": "assistant", "content": "And then?" })));
        assert_eq!(world.read(&body).await.1, None);
    };
    for more in 0..12 {
        ask("Tell me a story.", more).await;
    }
    let counts = engines.each_ref().map(|engine| engine.seen().len());
    assert!(counts.contains(&12), "{counts:?}");
    for number in 0..60 {
        ask(&format!("Tell me story {number}."), 0).await;
    }
    for engine in &engines {
        assert!(engine.seen().len() >= 8, "{}", engine.seen().len());
    }
}

#[tokio::test]
async fn a_popular_prompt_overloads_no_backend() {
    let engines = [Engine::start().await, Engine::start().await];
    let world = World::still(|_| {
        let backends = engines.each_ref().map(|engine| json!({ "url": engine.url() }));
        json!({ "qwen": { "backends": backends } })
    })
    .await;
    for engine in &engines {
        (0..20).for_each(|_| engine.will(Reply::events().piece("data: {}\n\n").gate()));
    }
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(world.ask(&streamed()).await.unwrap());
    }
    let mut loads = [world.state(0).1, world.state(1).1];
    loads.sort_unstable();
    assert_eq!(loads.iter().sum::<u32>(), 20);
    assert!(
        (11..=14).contains(&loads[1]),
        "a share, a quarter more and one: {loads:?}"
    );
    drop(answers);
    until(|| world.state(0).1 + world.state(1).1 == 0).await;
}
