//! Who may ask which model.

use crate::world::{World, chat, failed, principal, user};
use forebay_domain::{Code, Role, port::AskModel};
use serde_json::json;

async fn three_models() -> World {
    World::with(|engine| {
        let model = json!({ "backends": [{ "url": engine, "engine": "llamacpp" }] });
        json!({ "qwen": model, "qwen-large": model, "smol": { "backends": [{ "url": engine }] } })
    })
    .await
}

fn names(world: &World, role: Role, grants: &str) -> Vec<String> {
    world
        .router
        .models(&principal(role, grants))
        .into_iter()
        .map(|model| model.name)
        .collect()
}

#[tokio::test]
async fn a_list_shows_what_its_reader_may_ask() {
    let world = three_models().await;
    assert_eq!(names(&world, Role::User, ""), ["qwen", "qwen-large", "smol"]);
    assert_eq!(names(&world, Role::User, "model:qwen*"), ["qwen", "qwen-large"]);
    assert_eq!(names(&world, Role::Admin, "!model:smol"), ["qwen", "qwen-large"]);
    assert!(names(&world, Role::Viewer, "").is_empty());
    let engines: Vec<_> = world
        .router
        .models(&user())
        .into_iter()
        .map(|model| model.engine)
        .collect();
    assert_eq!(
        engines,
        [Some("llamacpp".to_owned()), Some("llamacpp".to_owned()), None]
    );
}

#[tokio::test]
async fn a_refusal_names_the_rule_and_asks_nobody() {
    let world = three_models().await;
    for (role, grants, model, code) in [
        (Role::Viewer, "", "qwen", Code::Forbidden),
        (Role::User, "model:smol", "qwen", Code::InsufficientScope),
        (Role::User, "!model:q*", "qwen", Code::InsufficientScope),
        // Whoever may not use a name is not told whether it exists.
        (Role::User, "model:smol", "nothing", Code::InsufficientScope),
        (Role::User, "", "nothing", Code::UnknownModel),
        (Role::User, "", "", Code::UnknownModel),
    ] {
        let body = chat().to_string();
        let failure = world
            .ask_as(&principal(role, grants), model, &body)
            .await
            .err()
            .unwrap();
        assert_eq!(failure.code, code, "{role} {grants} {model}");
    }
    let events = world.events(6).await;
    assert_eq!(events[0].outcome, failed(Code::Forbidden));
    assert_eq!(
        events[0].reason.as_deref(),
        Some("role viewer does not allow it; role user does")
    );
    let actions: Vec<_> = events.iter().map(|event| event.action.as_str()).collect();
    let expected = [
        "model:qwen",
        "model:qwen",
        "model:qwen",
        "model:?",
        "model:?",
        "model:?",
    ];
    assert_eq!(
        actions, expected,
        "a name is written down where the configuration has it"
    );
    assert!(world.engine.seen().is_empty());
    assert!(!world.metrics().contains("nothing"), "no label is made up by a caller");
}

#[tokio::test]
async fn an_unknown_model_is_answered_with_those_that_exist() {
    let world = three_models().await;
    let caller = principal(Role::User, "model:qwen* model:gpt");
    let failure = world.ask_as(&caller, "gpt", &chat().to_string()).await.err().unwrap();
    assert_eq!(failure.code, Code::UnknownModel);
    assert_eq!(
        failure.sentence(),
        "There is no model `gpt`. You may use: qwen, qwen-large."
    );
    assert_eq!(
        failure.details,
        Some(json!({ "param": "model", "models": ["qwen", "qwen-large"] }))
    );
}

#[tokio::test]
async fn a_name_that_a_caller_made_up_is_told_only_so_far_and_kept_nowhere() {
    let world = three_models().await;
    let long = format!("a\n{}", "é".repeat(10_000));
    for name in [long.as_str(), "fb_00ff_canary my prompt", "qwen canary", ""] {
        for caller in [
            principal(Role::User, ""),
            principal(Role::Viewer, ""),
            principal(Role::User, "!model:*"),
        ] {
            let failure = world.ask_as(&caller, name, &chat().to_string()).await.err().unwrap();
            assert!(failure.sentence().len() < 400, "{}", failure.sentence());
        }
    }
    for event in world.events(12).await {
        assert_eq!(event.action, "model:?");
        assert!(!format!("{event:?}").contains("canary"), "{event:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_no_chat_request_goes_nowhere() {
    let world = three_models().await;
    let failure = world
        .ask_as(&user(), "qwen", r#"{"model":"qwen"}"#)
        .await
        .err()
        .unwrap();
    assert_eq!(failure.code, Code::InvalidRequest);
    assert_eq!(failure.details, Some(json!({ "param": "messages" })));
    assert_eq!(world.event().await.outcome, failed(Code::InvalidRequest));
    assert!(world.engine.seen().is_empty());
}
