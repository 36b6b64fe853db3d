//! Responses: conversations that go on, servers named by their label, approvals, and what is kept.

use crate::{
    shed::{Shed, calls, streamed_calls, world},
    world::{World, drain, user},
};
use bytes::Bytes;
use forebay_domain::{
    Action, Code, Failure, Principal,
    model::{Answer, Endpoint, Hints, ModelRequest},
};
use forebay_llm::ResponsesConfig;
use forebay_testkit::openai::{ANSWER, Reply};
use serde_json::{Value, json};
use std::sync::Arc;

const BASE: &str = "http://gateway.test:8080";

pub(crate) async fn send(world: &World, who: &Principal, body: &Value) -> Result<Answer, Failure> {
    let request = ModelRequest {
        endpoint: Endpoint::Responses,
        model: "qwen".to_owned(),
        body: Bytes::from(body.to_string()),
        hints: Hints {
            base_url: Some(BASE.to_owned()),
            ..Hints::default()
        },
    };
    world.send(who, request).await
}

pub(crate) async fn refused(world: &World, body: &Value) -> Failure {
    send(world, &user(), body).await.err().unwrap()
}

/// The whole answer.
pub(crate) async fn ask(world: &World, body: &Value) -> Value {
    let (text, code) = drain(send(world, &user(), body).await.unwrap()).await;
    assert_eq!(code, None, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// The events of a stream.
async fn events(world: &World, body: &Value) -> Vec<Value> {
    let mut body = body.clone();
    body["stream"] = true.into();
    let (text, code) = drain(send(world, &user(), &body).await.unwrap()).await;
    assert_eq!(code, None, "{text}");
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

fn question(input: &Value) -> Value {
    json!({ "model": "qwen", "input": input })
}

pub(crate) fn after(previous: &Value, input: &Value) -> Value {
    json!({ "model": "qwen", "input": input, "previous_response_id": previous["id"] })
}

/// The conversation as the engine got it last.
fn conversation(world: &World) -> Vec<(String, String)> {
    let sent = world.engine.seen().pop().unwrap().json();
    let messages = sent["messages"].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    messages
        .iter()
        .map(|message| (text(&message["role"]), text(&message["content"])))
        .collect()
}

fn said(conversation: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(role, text): &(&str, &str)| ((*role).to_owned(), (*text).to_owned());
    conversation.iter().map(owned).collect()
}

pub(crate) fn kinds(response: &Value) -> Vec<&str> {
    let output = response["output"].as_array().unwrap();
    output.iter().map(|item| item["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_response_goes_on_from_the_one_before() {
    let world = World::new().await;
    let mut first = question(&json!("The word is heron."));
    first["instructions"] = "Be kind.".into();
    let first = ask(&world, &first).await;
    assert_eq!(
        (&first["store"], &first["previous_response_id"]),
        (&json!(true), &Value::Null)
    );
    let second = events(
        &world,
        &after(&first, &json!([{ "role": "user", "content": "Say it." }])),
    )
    .await;
    let second = &second.last().unwrap()["response"];
    assert_eq!(second["previous_response_id"], first["id"]);
    let mut third = after(second, &json!("Again."));
    third["instructions"] = "Be brief.".into();
    ask(&world, &third).await;
    let expected = [
        ("system", "Be brief."),
        ("user", "The word is heron."),
        ("assistant", ANSWER),
        ("user", "Say it."),
        ("assistant", ANSWER),
        ("user", "Again."),
    ];
    assert_eq!(conversation(&world), said(&expected));
}

#[tokio::test]
async fn nobody_goes_on_from_somebody_elses_response() {
    let world = World::new().await;
    let first = ask(&world, &question(&json!("Mine."))).await;
    let mut stranger = user();
    stranger.subject = "bob".parse().unwrap();
    let mut foreigner = user();
    foreigner.tenant = "other".parse().unwrap();
    let seen = world.engine.seen().len();
    let mut namesake = user();
    namesake.project = Some("other".parse().unwrap());
    let mut by_token = user();
    by_token.key = None;
    for who in [&stranger, &foreigner, &namesake, &by_token] {
        let failure = send(&world, who, &after(&first, &json!("And?"))).await.err().unwrap();
        assert_eq!(failure.code, Code::UnknownResponse);
    }
    let failure = refused(&world, &after(&json!({ "id": "resp_none" }), &json!("And?"))).await;
    assert_eq!(failure.code, Code::UnknownResponse);
    let failure = refused(&world, &after(&json!({ "id": 7 }), &json!("And?"))).await;
    assert_eq!(failure.code, Code::InvalidRequest);
    assert_eq!(world.engine.seen().len(), seen, "nothing was asked");
}

#[tokio::test]
async fn a_conversation_is_for_whoever_may_ask_its_models() {
    let backends = |engine: &str| json!({ "backends": [{ "url": engine }] });
    let world = World::with(|engine| json!({ "qwen": backends(engine), "large": backends(engine) })).await;
    let request = ModelRequest {
        endpoint: Endpoint::Responses,
        model: "large".to_owned(),
        body: Bytes::from(json!({ "model": "large", "input": "Hi." }).to_string()),
        hints: Hints::default(),
    };
    let (first, _) = drain(world.send(&user(), request).await.unwrap()).await;
    let first: Value = serde_json::from_str(&first).unwrap();
    let mut lesser = user();
    lesser.grants = vec!["model:qwen".parse().unwrap()];
    let further = after(&first, &json!("And?"));
    let failure = send(&world, &lesser, &further).await.err().unwrap();
    assert_eq!(failure.code, Code::InsufficientScope);
    assert!(failure.message.contains("model:large"), "{}", failure.message);
    assert_eq!(world.engine.seen().len(), 1, "nothing was asked");
    send(&world, &user(), &further).await.unwrap();
}

#[tokio::test]
async fn what_is_not_to_be_kept_is_not_there_afterwards() {
    let world = World::new().await;
    let mut body = question(&json!("Forget this."));
    body["store"] = false.into();
    let first = ask(&world, &body).await;
    assert_eq!(first["store"], false);
    let failure = refused(&world, &after(&first, &json!("And?"))).await;
    assert_eq!(failure.code, Code::UnknownResponse);
    let told = events(&world, &body).await;
    let last = &told.last().unwrap()["response"];
    assert_eq!(
        (&told[0]["response"]["store"], &last["store"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(
        refused(&world, &after(last, &json!("And?"))).await.code,
        Code::UnknownResponse
    );

    // One that is too large to be kept is answered all the same.
    let large = "a".repeat(5 << 20);
    let answer = ask(&world, &question(&json!(large))).await;
    assert_eq!(
        (&answer["status"], &answer["store"]),
        (&json!("completed"), &json!(false))
    );

    let kept = ask(&world, &question(&json!("Keep this."))).await;
    world.router.keep_responses(ResponsesConfig {
        keep: false,
        ..ResponsesConfig::default()
    });
    body["store"] = true.into();
    assert!(
        refused(&world, &body)
            .await
            .message
            .starts_with("`store` must be false")
    );
    assert_eq!(ask(&world, &after(&kept, &json!("And?"))).await["store"], false);
}

#[tokio::test]
async fn an_owner_keeps_as_many_as_it_may() {
    let world = World::new().await;
    world.router.keep_responses(ResponsesConfig {
        max_per_owner: 2,
        ..ResponsesConfig::default()
    });
    let mut all = Vec::new();
    for word in ["One.", "Two.", "Three."] {
        all.push(ask(&world, &question(&json!(word))).await);
    }
    let mut gone = 0;
    for response in &all {
        let mut further = after(response, &json!("And?"));
        further["store"] = false.into();
        match send(&world, &user(), &further).await {
            Ok(answer) => drop(drain(answer).await),
            Err(failure) => {
                assert_eq!(failure.code, Code::UnknownResponse);
                gone += 1;
            }
        }
    }
    assert_eq!(gone, 1);
}

#[tokio::test]
async fn what_is_not_there_yet_is_refused_by_name() {
    let world = World::new().await;
    for (field, value) in [
        ("conversation", json!("conv_1")),
        ("prompt", json!({ "id": "p" })),
        ("background", json!(true)),
        ("store", json!("yes")),
        ("max_tool_calls", json!(0)),
        ("metadata", json!("a note")),
        ("metadata", (0..17).map(|n| (n.to_string(), json!("x"))).collect()),
        ("metadata", json!({ "é".repeat(65): "x" })),
    ] {
        let mut body = question(&json!("Why?"));
        body[field] = value;
        let failure = refused(&world, &body).await;
        assert_eq!(failure.code, Code::InvalidRequest);
        assert!(
            failure.message.starts_with(&format!("`{field}` ")),
            "{}",
            failure.message
        );
    }
    for value in [json!(7), json!("é".repeat(513))] {
        let mut body = question(&json!("Why?"));
        body["metadata"] = json!({ "note": value });
        let failure = refused(&world, &body).await;
        assert!(failure.message.starts_with("`metadata.note` "), "{}", failure.message);
    }
    assert!(world.engine.seen().is_empty(), "nothing was asked");
    let mut body = question(&json!("Why?"));
    body["metadata"] = (10..26)
        .map(|n| ("é".repeat(62) + &n.to_string(), json!("é".repeat(512))))
        .collect();
    assert_eq!(ask(&world, &body).await["metadata"], body["metadata"]);
}

fn server(mut more: Value) -> Value {
    more["type"] = "mcp".into();
    for (key, value) in [("server_label", "shed"), ("require_approval", "never")] {
        if more.get(key).is_none() {
            more[key] = value.into();
        }
    }
    more
}

pub(crate) fn with_tools(mut body: Value, tool: Value) -> Value {
    body["tools"] = Value::Array(vec![tool]);
    body
}

#[tokio::test]
async fn a_server_is_named_by_its_label_and_its_calls_are_items() {
    for stream in [false, true] {
        let (world, shed) = world().await;
        let body = with_tools(
            question(&json!("Look.")),
            server(json!({ "allowed_tools": ["look", "web"] })),
        );
        let response = if stream {
            world.engine.will(streamed_calls("look"));
            let told = events(&world, &body).await;
            let kinds: Vec<&str> = told.iter().map(|event| event["type"].as_str().unwrap()).collect();
            for (at, kind) in [
                "response.mcp_list_tools.in_progress",
                "response.mcp_list_tools.completed",
                "response.mcp_call.in_progress",
                "response.mcp_call_arguments.done",
                "response.mcp_call.completed",
                "response.completed",
            ]
            .windows(2)
            .map(|pair| (pair[0], pair[1]))
            {
                let place = |kind| kinds.iter().position(|told| *told == kind);
                assert!(
                    place(at) < place(kind) && place(at).is_some(),
                    "{at} before {kind}: {kinds:?}"
                );
            }
            told.last().unwrap()["response"].clone()
        } else {
            world.engine.will(calls(&[("look", "{}")]));
            ask(&world, &body).await
        };
        let expected: &[&str] = if stream {
            &["mcp_list_tools", "message", "mcp_call", "message"]
        } else {
            &["mcp_list_tools", "mcp_call", "message"]
        };
        assert_eq!(kinds(&response), expected);
        let names = response["output"][0]["tools"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tool| &tool["name"]);
        assert_eq!(names.collect::<Vec<_>>(), ["look", "web"]);
        let call = &response["output"][expected.len() - 2];
        assert_eq!(
            (&call["server_label"], &call["status"], &call["arguments"]),
            (&json!("shed"), &json!("completed"), &json!("{}"))
        );
        assert!(call["output"].as_str().unwrap().starts_with("look says"), "{call}");
        assert_eq!(shed.called(), ["look"]);
        assert_eq!(response["forebay"]["tools"][0]["status"], "success");
        let offered = world.engine.seen()[0].json()["tools"].clone();
        assert_eq!(offered[1]["function"]["name"], "web");
        assert!(offered[0]["function"]["parameters"]["properties"]["at"].is_object());

        // The list is told once in a conversation, and the model reads the results again.
        let further = ask(&world, &with_tools(after(&response, &json!("And?")), server(json!({})))).await;
        assert_eq!(kinds(&further), ["message"]);
        let roles: Vec<String> = conversation(&world).into_iter().map(|(role, _)| role).collect();
        assert_eq!(roles, ["user", "assistant", "tool", "assistant", "user"]);
    }
}

#[tokio::test]
async fn a_conversation_that_has_read_others_words_stays_tainted() {
    let (world, shed) = world().await;
    world.engine.will(calls(&[("web", "{}")]));
    let read = ask(&world, &with_tools(question(&json!("Read.")), server(json!({})))).await;
    assert_eq!(read["forebay"]["tainted"], true);
    let again = |world: &World| {
        conversation(world)
            .into_iter()
            .find(|(role, _)| role == "tool")
            .unwrap()
            .1
    };
    let first = again(&world);
    assert!(first.contains("<data "), "{first}");

    world.engine.will(calls(&[("write", "{}")]));
    let write = ask(&world, &with_tools(after(&read, &json!("Write.")), server(json!({})))).await;
    assert_eq!(write["forebay"]["tools"][0]["error"]["code"], "tainted_turn");
    assert_eq!(write["output"][0]["error"]["type"], "mcp_protocol_error");
    assert_eq!(shed.called(), ["web"]);
    assert_eq!(again(&world), first, "marked as it was the first time");

    // Not even the client can take it back.
    let mut alone = question(&read["output"]);
    alone["store"] = false.into();
    world.engine.will(calls(&[("write", "{}")]));
    ask(&world, &with_tools(alone, server(json!({})))).await;
    assert_eq!(shed.called(), ["web"]);
    // What only was said after context was read is tainted too.
    let mut informed = question(&json!("Who?"));
    informed["mcp_context"] = json!({ "providers": ["docs"] });
    let informed = ask(&world, &informed).await;
    world.engine.will(calls(&[("write", "{}")]));
    ask(
        &world,
        &with_tools(after(&informed, &json!("Write.")), server(json!({}))),
    )
    .await;
    assert_eq!(shed.called(), ["web"]);

    // And what is looked up for it is looked up for somebody who may change nothing.
    let mut more = after(&read, &json!("Who?"));
    more["mcp_context"] = json!({ "providers": ["docs"] });
    ask(&world, &more).await;
    let may_write = |who: &Principal| who.decide(&Action::EFFECT_WRITE).is_allowed();
    let all = shed.looked_up_for.lock().unwrap();
    assert_eq!(all.iter().map(may_write).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn a_filter_names_so_many_tools_and_no_more() {
    let (world, shed) = world().await;
    world.engine.will(calls(&[("look", "{}")]));
    let mut names = vec!["look"; 256];
    let filter = |names: &[&str]| server(json!({ "allowed_tools": { "tool_names": names } }));
    ask(&world, &with_tools(question(&json!("Look.")), filter(&names))).await;
    assert_eq!(shed.called(), ["look"]);
    names.push("look");
    let failure = refused(&world, &with_tools(question(&json!("Look.")), filter(&names))).await;
    assert_eq!(
        failure.message,
        "`tools[0].allowed_tools.tool_names` must be a list of at most 256 names."
    );
    // What cannot be had at all says why.
    let locked = refused(&world, &with_tools(question(&json!("Look.")), filter(&["locked"]))).await;
    assert_eq!(
        (locked.code, locked.message.as_str()),
        (Code::Forbidden, "This is for others.")
    );
}

pub(crate) async fn asked_for_approval() -> (World, Arc<Shed>, Value) {
    let (world, shed) = world().await;
    let tool = json!({ "type": "mcp", "server_label": "shed" });
    world.engine.will(calls(&[("write", r#"{"at":"home"}"#)]));
    let first = ask(&world, &with_tools(question(&json!("Write.")), tool)).await;
    assert_eq!(kinds(&first), ["mcp_list_tools", "mcp_approval_request"]);
    assert_eq!((&first["status"], shed.called().len()), (&json!("completed"), 0));
    assert_eq!(first["output"][1]["arguments"], r#"{"at":"home"}"#);
    (world, shed, first)
}

pub(crate) fn verdict(first: &Value, approve: bool) -> Value {
    json!([{ "type": "mcp_approval_response", "approval_request_id": first["output"][1]["id"], "approve": approve }])
}

#[tokio::test]
async fn what_was_agreed_to_runs_before_the_model_is_asked() {
    for stream in [false, true] {
        let (world, shed, first) = asked_for_approval().await;
        let body = with_tools(
            after(&first, &verdict(&first, true)),
            json!({ "type": "mcp", "server_label": "shed" }),
        );
        let second = if stream {
            events(&world, &body).await.pop().unwrap()["response"].clone()
        } else {
            ask(&world, &body).await
        };
        assert_eq!(kinds(&second), ["mcp_call", "message"]);
        assert_eq!(second["output"][0]["approval_request_id"], first["output"][1]["id"]);
        assert_eq!(shed.called(), ["write"]);
        let heard = conversation(&world);
        assert_eq!(heard.len(), 3, "{heard:?}");
        assert!(
            heard[2].0 == "tool" && heard[2].1.starts_with("write says"),
            "{heard:?}"
        );
        // It is in the conversation from then on, and does not run again.
        ask(&world, &after(&second, &json!("And?"))).await;
        let roles: Vec<String> = conversation(&world).into_iter().map(|(role, _)| role).collect();
        assert_eq!(roles, ["user", "assistant", "tool", "assistant", "user"]);
        assert_eq!(shed.called(), ["write"]);
    }
}

#[tokio::test]
async fn what_was_not_agreed_to_does_not_run_and_the_model_is_told() {
    let (world, shed, first) = asked_for_approval().await;
    let tool = json!({ "type": "mcp", "server_label": "shed" });
    let second = ask(
        &world,
        &with_tools(after(&first, &verdict(&first, false)), tool.clone()),
    )
    .await;
    assert_eq!(kinds(&second), ["message"]);
    let heard = conversation(&world);
    assert_eq!(
        heard[2],
        ("tool".to_owned(), "The user did not agree to this call.".to_owned())
    );
    ask(&world, &after(&second, &json!("Why?"))).await;
    assert_eq!(conversation(&world)[2], heard[2]);
    assert!(shed.called().is_empty());

    // A verdict on something that was never asked, and on something that the request does not offer.
    let verdict = verdict(&first, true);
    let failure = refused(&world, &with_tools(question(&verdict), tool)).await;
    assert!(failure.message.contains("approval_request_id"), "{}", failure.message);
    let failure = refused(&world, &after(&first, &verdict)).await;
    assert!(failure.message.contains("`write`"), "{}", failure.message);
    assert!(shed.called().is_empty());
}

#[tokio::test]
async fn no_more_is_agreed_to_than_the_request_allows() {
    let (world, shed) = world().await;
    let asks = |id: &str, name: &str| json!({ "type": "mcp_approval_request", "id": id, "server_label": "shed", "name": name, "arguments": "{}" });
    let agrees = |id: &str| json!({ "type": "mcp_approval_response", "approval_request_id": id, "approve": true });
    let input = json!([
        asks("a", "write"),
        asks("b", "look"),
        asks("c", "write"),
        agrees("a"),
        agrees("b"),
        agrees("c")
    ]);
    let rule = json!({ "require_approval": { "never": { "read_only": true } } });
    let mut body = with_tools(question(&input), server(rule));
    body["max_tool_calls"] = 2.into();
    let response = ask(&world, &body).await;
    let mut called = shed.called();
    called.sort_unstable();
    assert_eq!(called, ["look", "write"], "two of three");
    let failed = response["output"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|item| item["status"] == "failed");
    assert_eq!(failed.count(), 1, "{response}");
}

#[tokio::test]
async fn approval_may_be_needed_for_some_tools_only() {
    for (rule, runs) in [
        (json!({ "never": { "tool_names": ["look"] } }), true),
        (json!({ "never": { "read_only": true } }), true),
        (
            json!({ "never": { "read_only": true }, "always": { "tool_names": ["look"] } }),
            false,
        ),
        (json!({ "always": { "tool_names": ["write"] } }), false),
        (json!("always"), false),
        (Value::Null, false),
    ] {
        let (world, shed) = world().await;
        world.engine.will(calls(&[("look", "{}")]));
        let body = with_tools(question(&json!("Look.")), server(json!({ "require_approval": rule })));
        let response = ask(&world, &body).await;
        assert_eq!(shed.called().len(), usize::from(runs), "{rule}");
        assert_eq!(kinds(&response).contains(&"mcp_approval_request"), !runs, "{rule}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_the_gateways_is_refused() {
    let (world, _) = world().await;
    for (more, code, expected) in [
        (
            json!({ "server_url": "https://elsewhere.test/mcp" }),
            Code::InvalidRequest,
            "`tools[0].server_url`",
        ),
        (
            json!({ "server_url": format!("{BASE}.evil/mcp") }),
            Code::InvalidRequest,
            "`tools[0].server_url`",
        ),
        (
            json!({ "connector_id": "connector_gmail" }),
            Code::InvalidRequest,
            "`tools[0].connector_id`",
        ),
        (
            json!({ "headers": { "x-key": "k" } }),
            Code::InvalidRequest,
            "`tools[0].headers`",
        ),
        (
            json!({ "server_label": "none" }),
            Code::UnknownServer,
            "There is no server `none`",
        ),
        (
            json!({ "allowed_tools": ["looks"] }),
            Code::UnknownTool,
            "There is no tool `looks`",
        ),
        (
            json!({ "allowed_tools": { "names": [] } }),
            Code::InvalidRequest,
            "`tools[0].allowed_tools.names`",
        ),
        (
            json!({ "require_approval": "sometimes" }),
            Code::InvalidRequest,
            "`tools[0].require_approval`",
        ),
    ] {
        let failure = refused(&world, &with_tools(question(&json!("Hi.")), server(more))).await;
        assert_eq!(failure.code, code);
        assert!(failure.message.starts_with(expected), "{}", failure.message);
    }
    assert!(world.engine.seen().is_empty(), "nothing was asked");
    for path in ["/mcp", "/servers/shed/mcp"] {
        let own = json!({ "server_url": format!("{BASE}{path}"), "authorization": "fb_1" });
        let response = ask(&world, &with_tools(question(&json!("Hi.")), server(own))).await;
        assert!(!response.to_string().contains("fb_1"));
    }
}

#[tokio::test]
async fn a_choice_and_a_bound_of_calls_are_the_requests_own() {
    let (world, shed) = world().await;
    let mut body = with_tools(question(&json!("Look.")), server(json!({})));
    body["max_tool_calls"] = 1.into();
    body["tool_choice"] = json!({ "type": "mcp", "server_label": "shed", "name": "look" });
    world.engine.will(calls(&[("look", "{}"), ("look", "{}")]));
    let response = ask(&world, &body).await;
    assert_eq!(shed.called(), ["look"]);
    assert_eq!(response["forebay"]["ended"], "calls");
    let sent = world.engine.seen();
    assert_eq!(
        sent[0].json()["tool_choice"],
        json!({ "type": "function", "function": { "name": "look" } })
    );
    body["tool_choice"] = json!({ "type": "mcp", "server_label": "shed" });
    ask(&world, &body).await;
    assert_eq!(world.engine.seen().pop().unwrap().json()["tool_choice"], "required");
    body["tool_choice"] = json!({ "type": "mcp", "server_label": "none" });
    assert!(
        refused(&world, &body)
            .await
            .message
            .starts_with("`tool_choice.server_label`")
    );
}

#[tokio::test]
async fn a_response_that_breaks_off_is_none_and_is_not_kept() {
    let world = World::new().await;
    world
        .engine
        .will(Reply::events().piece("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"So\"}}]}\n\n"));
    let mut body = question(&json!("Why?"));
    body["stream"] = true.into();
    let (text, code) = drain(send(&world, &user(), &body).await.unwrap()).await;
    assert_eq!(code, Some(Code::UpstreamTruncated));
    let last = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .next_back()
        .unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    let response = &last["response"];
    assert_eq!(
        (&response["status"], &response["store"]),
        (&json!("failed"), &json!(false))
    );
    assert_eq!(
        refused(&world, &after(response, &json!("And?"))).await.code,
        Code::UnknownResponse
    );
}
