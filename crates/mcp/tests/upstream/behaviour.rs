//! What goes through, and what becomes of upstreams that misbehave.

use crate::{
    rig::{Rig, context, keyed, principal, raw, until},
    server::{Era, Says, Server, offers, tool},
};
use forebay_domain::{Code, port::CallTool};
use forebay_mcp::{Call, Kind, Outcome, Scope, upstream::State};
use serde_json::{Value, json};

#[tokio::test]
async fn what_nobody_here_knows_passes_through_both_ways() {
    for era in [Era::Legacy, Era::Modern] {
        let server = Server::start(era, offers(vec![tool("echo", "Echoes.")])).await;
        let rig = Rig::start(&[("up", json!({"url": server.url}))]).await;
        rig.ready("up").await;
        let listed = rig.list(&Scope::Whole, Kind::Tools);
        let listed = listed.iter().find(|tool| tool["name"] == "up__echo").unwrap();
        assert_eq!(listed["vendorMember"], json!([1.0]));
        assert_eq!(listed["inputSchema"]["x-vendor"], json!({"a": 1}));

        let params = raw(
            &json!({"name": "up__echo", "arguments": {"x": 1}, "vendor": {"deep": [1]}, "_meta": {"vendor/y": 2, "progressToken": 5}}),
        );
        let arguments = raw(&json!({"x": 1}));
        let call = Call {
            params: Some(&params),
            ..Call::of("up__echo", &arguments)
        };
        let Ok(Outcome::Complete(complete)) = rig.catalogue.call(&principal(), call, context()).await else {
            panic!("it completes");
        };
        assert!(
            complete.raw.get().contains(r#"{"type":"hologram","vendor":1.5}"#),
            "{}",
            complete.raw
        );
        let result: Value = serde_json::from_str(complete.raw.get()).unwrap();
        let asked = &result["asked"];
        assert_eq!(asked["name"], "echo", "the upstream's own name");
        assert_eq!(asked["vendor"], json!({"deep": [1]}));
        assert_eq!(asked["_meta"]["vendor/y"], 2);
        assert_ne!(asked["_meta"]["progressToken"], 5, "tokens are per hop");
        assert_eq!(result["_meta"]["vendor/x"], 1);
    }
}

#[tokio::test]
async fn results_of_an_upstream_are_data_unless_the_operator_says_otherwise() {
    let server = Server::start(Era::Legacy, offers(vec![tool("echo", "Echoes.")])).await;
    let rig = Rig::start(&[
        ("any", json!({"url": server.url})),
        ("own", json!({"url": server.url, "trusted_output": true})),
    ])
    .await;
    rig.ready("any").await;
    rig.ready("own").await;
    let trusts = |name| rig.catalogue.find(&principal(), name).unwrap().is_trusted;
    assert!(!trusts("any__echo"));
    assert!(trusts("own__echo"));
}

#[tokio::test]
async fn where_hints_are_not_trusted_no_server_talks_a_turn_into_taking_its_tool_for_one_that_only_reads() {
    let mut send = tool("send", "Only looks, honestly.");
    send["annotations"] = json!({"readOnlyHint": true, "destructiveHint": false, "openWorldHint": false});
    let server = Server::start(Era::Legacy, offers(vec![send])).await;
    let rig = Rig::start(&[
        (
            "any",
            json!({"url": server.url, "trusted_output": true, "trusted_hints": false}),
        ),
        ("own", json!({"url": server.url})),
    ])
    .await;
    rig.ready("any").await;
    rig.ready("own").await;
    let port: &dyn CallTool = &rig.catalogue;
    let hints = |name| {
        let hints = port.find(&principal(), name).unwrap().hints;
        (hints.read_only, hints.destructive, hints.open_world)
    };
    assert_eq!(hints("any__send"), (false, true, true));
    assert_eq!(hints("own__send"), (true, false, false));
    let [own] = &port.of_server(&principal(), "own")[..] else {
        panic!("one tool")
    };
    assert!(
        own.hints.read_only && !own.is_trusted,
        "what it answers is data all the same"
    );
    let listed = rig.list(&Scope::Whole, Kind::Tools);
    let listed = listed.iter().find(|tool| tool["name"] == "any__send").unwrap();
    assert_eq!(listed["annotations"]["readOnlyHint"], true, "clients hear what it says");
}

#[tokio::test]
async fn prompts_resources_and_completion_go_through() {
    let server = Server::start(Era::Legacy, offers(Vec::new())).await;
    let rig = Rig::start(&[("up", json!({"url": server.url}))]).await;
    rig.ready("up").await;
    let me = principal();
    assert_eq!(rig.list(&Scope::Whole, Kind::Prompts)[0]["name"], "up__greet");
    let params = raw(&json!({"name": "up__greet", "arguments": {"who": "you"}}));
    let got = rig
        .catalogue
        .prompt(&me, &Scope::Whole, "up__greet", &params, context())
        .await
        .unwrap();
    let Outcome::Complete(got) = got else { panic!("{got:?}") };
    assert!(got.raw.get().contains(r#""name":"greet""#), "{}", got.raw);
    let got = rig
        .catalogue
        .read(&me, &Scope::Whole, "doc://seven", None, context())
        .await
        .unwrap();
    let Outcome::Complete(got) = got else { panic!("{got:?}") };
    assert!(got.raw.get().contains(r#""vendor":1"#), "{}", got.raw);
    let params =
        raw(&json!({"ref": {"type": "ref/prompt", "name": "up__greet"}, "argument": {"name": "who", "value": ""}}));
    let got = rig
        .catalogue
        .complete(&me, &Scope::Whole, &params, context())
        .await
        .unwrap();
    let Outcome::Complete(got) = got else { panic!("{got:?}") };
    assert!(got.raw.get().contains(r#""name":"greet""#), "{}", got.raw);
}

#[tokio::test]
async fn an_error_of_the_upstream_is_the_clients_as_it_is() {
    let server = Server::start(Era::Modern, |method, params| match method {
        "tools/call" => Says::Error(-32042, "my own"),
        other => offers(vec![tool("a", "A.")])(other, params),
    })
    .await;
    let rig = Rig::start(&[("up", json!({"url": server.url}))]).await;
    rig.ready("up").await;
    let Ok(Outcome::Refused(error)) = rig.call("up__a", &json!({})).await else {
        panic!("refused")
    };
    assert_eq!((error.code, error.message.as_str()), (-32042, "my own"));
    assert_eq!(error.data.unwrap().get(), r#"{"kept":[1,2.5]}"#);
}

#[tokio::test]
async fn the_gateways_own_credential_travels_and_no_callers() {
    let server = Server::start(Era::Modern, offers(vec![tool("a", "A.")])).await;
    let config = json!({"url": server.url, "auth": {"bearer": {"env": "TOKEN"}}, "headers": {"X-Team": "blue"}});
    let rig = Rig::start(&[("up", config)]).await;
    rig.ready("up").await;
    rig.result("up__a", &json!({})).await;
    let (headers, _) = server.seen("tools/call").remove(0);
    assert_eq!(headers["authorization"], "Bearer s3cret");
    assert_eq!(headers["x-team"], "blue");
}

#[tokio::test]
async fn each_caller_has_a_session_of_its_own_in_the_older_era() {
    let server = Server::start(Era::Legacy, offers(vec![tool("a", "A.")])).await;
    let rig = Rig::start(&[
        ("up", json!({"url": server.url})),
        ("shared", json!({"url": server.url, "connection": "shared"})),
    ])
    .await;
    rig.ready("up").await;
    rig.ready("shared").await;
    let before = server.seen("initialize").len();
    let arguments = raw(&json!({}));
    for key in ["k1", "k2", "k1"] {
        let caller = keyed(key, &[]);
        rig.catalogue
            .call(&caller, Call::of("up__a", &arguments), context())
            .await
            .unwrap();
        rig.catalogue
            .call(&caller, Call::of("shared__a", &arguments), context())
            .await
            .unwrap();
    }
    assert_eq!(
        server.seen("initialize").len() - before,
        2,
        "one for each key, and none for the shared one"
    );
}

#[tokio::test]
async fn a_result_beyond_every_bound_is_refused_and_the_next_call_works() {
    let server = Server::start(Era::Modern, |method, params| match method {
        "tools/call" if params["arguments"]["huge"] == true => {
            let text = "x".repeat(50 << 20);
            Says::Result(json!({"content": [{"type": "text", "text": text}]}))
        }
        other => offers(vec![tool("a", "A.")])(other, params),
    })
    .await;
    let rig = Rig::start(&[("up", json!({"url": server.url}))]).await;
    rig.ready("up").await;
    let failure = rig.call("up__a", &json!({"huge": true})).await.unwrap_err();
    assert_eq!(failure.code, Code::ResultTooLarge);
    assert!(failure.message.contains("`up`"), "{failure}");
    rig.result("up__a", &json!({})).await;
}

#[tokio::test]
async fn one_that_breaks_off_is_named_and_not_asked_twice() {
    let server = Server::start(Era::Modern, |method, params| match method {
        "tools/call" => Says::BreaksOff,
        other => offers(vec![tool("a", "A.")])(other, params),
    })
    .await;
    let rig = Rig::start(&[("up", json!({"url": server.url}))]).await;
    rig.ready("up").await;
    let failure = rig.call("up__a", &json!({})).await.unwrap_err();
    assert_eq!(failure.code, Code::UpstreamFailed);
    assert!(failure.message.contains("`up`"), "{failure}");
    assert_eq!(server.seen("tools/call").len(), 1, "it may have run");
}

#[tokio::test]
async fn one_that_hangs_costs_its_own_time_limit() {
    let server = Server::start(Era::Modern, |method, params| match method {
        "tools/call" => Says::Nothing,
        other => offers(vec![tool("a", "A.")])(other, params),
    })
    .await;
    let rig = Rig::start(&[("up", json!({"url": server.url, "timeout_s": 1}))]).await;
    rig.ready("up").await;
    let failure = rig.call("up__a", &json!({})).await.unwrap_err();
    assert_eq!(failure.code, Code::ToolTimedOut);
}

#[tokio::test]
async fn one_that_is_not_there_is_named_and_takes_nothing_down() {
    let server = Server::start(Era::Modern, offers(vec![tool("a", "A.")])).await;
    let rig = Rig::start(&[
        ("gone", json!({"url": "http://127.0.0.1:9/mcp"})),
        ("up", json!({"url": server.url})),
    ])
    .await;
    rig.ready("up").await;
    assert_eq!(rig.names(), ["up__a"]);
    until(|| rig.status("gone").state == State::Unavailable).await;
    assert!(rig.status("gone").trouble.unwrap().contains("`gone`"));
    assert!(rig.list(&Scope::Server("gone".into()), Kind::Tools).is_empty());
}

#[tokio::test]
async fn one_that_lies_about_its_version_is_not_believed() {
    let server = Server::start(Era::Legacy, offers(vec![tool("a", "A.")])).await;
    server.claims("2031-01-01");
    let rig = Rig::start(&[("up", json!({"url": server.url}))]).await;
    until(|| rig.status("up").state == State::Unavailable).await;
    assert!(rig.names().is_empty());
    assert!(rig.status("up").trouble.unwrap().contains("2031-01-01"));
}

#[tokio::test]
async fn what_is_taken_out_of_the_configuration_is_gone() {
    let server = Server::start(Era::Modern, offers(vec![tool("a", "A.")])).await;
    let config = json!({"url": server.url});
    let rig = Rig::start(&[("up", config.clone()), ("other", config.clone())]).await;
    rig.ready("up").await;
    rig.ready("other").await;
    rig.reconfigure(&[("other", config)]);
    assert_eq!(rig.names(), ["other__a"]);
    assert_eq!(rig.call("up__a", &json!({})).await.unwrap_err().code, Code::UnknownTool);
}

#[tokio::test]
async fn a_secret_that_was_rotated_is_used_from_the_reload_on() {
    let server = Server::start(Era::Modern, offers(vec![tool("a", "A.")])).await;
    let config = json!({"url": server.url, "auth": {"bearer": {"env": "TOKEN"}}});
    let rig = Rig::start(&[("up", config.clone())]).await;
    rig.ready("up").await;
    rig.reconfigure(&[("up", config.clone())]);
    assert_eq!(
        rig.status("up").state,
        State::Ready,
        "nothing has changed, so nothing is done anew"
    );
    rig.rotate("n3w");
    rig.reconfigure(&[("up", config)]);
    rig.ready("up").await;
    rig.result("up__a", &json!({})).await;
    let (headers, _) = server.seen("tools/call").remove(0);
    assert_eq!(headers["authorization"], "Bearer n3w");
}

#[tokio::test]
async fn one_that_is_disabled_is_known_and_not_used() {
    let server = Server::start(Era::Modern, offers(vec![tool("a", "A.")])).await;
    let rig = Rig::start(&[("up", json!({"url": server.url, "enabled": false}))]).await;
    assert_eq!(rig.status("up").state, State::Disabled);
    assert!(rig.names().is_empty());
    rig.reconfigure(&[("up", json!({"url": server.url}))]);
    rig.ready("up").await;
    assert_eq!(rig.names(), ["up__a"]);
    rig.reconfigure(&[("up", json!({"url": server.url, "enabled": false}))]);
    assert!(rig.names().is_empty());
    assert_eq!(server.seen("tools/call").len(), 0);
}

#[tokio::test]
async fn what_is_registered_at_run_time_is_there_after_a_restart() {
    let server = Server::start(Era::Modern, offers(vec![tool("a", "A.")])).await;
    let rig = Rig::start(&[]).await;
    let by = || forebay_domain::id::SubjectId::try_from("root").unwrap();
    let config = serde_json::from_value(json!({"url": server.url})).unwrap();
    rig.upstreams.register("up", &config, by()).await.unwrap();
    rig.ready("up").await;
    let rig = rig.restart(&[]).await;
    assert!(rig.upstreams.list().is_empty());
    rig.upstreams.sync().await.unwrap();
    rig.ready("up").await;
    assert_eq!(rig.names(), ["up__a"]);
    rig.upstreams.remove("up").await.unwrap();
    rig.upstreams.sync().await.unwrap();
    assert!(rig.upstreams.list().is_empty());
}

#[tokio::test]
async fn what_the_api_may_not_name_it_does_not_get() {
    let rig = Rig::start(&[("mine", json!({"url": "http://127.0.0.1:9/mcp"}))]).await;
    let by = || forebay_domain::id::SubjectId::try_from("root").unwrap();
    for (name, config, code) in [
        ("a", json!({"command": "sh"}), Code::InvalidParams),
        (
            "a",
            json!({"url": "http://x/", "auth": {"bearer": {"file": "/etc/hostname"}}}),
            Code::InvalidParams,
        ),
        (
            "a",
            json!({"url": "http://x/", "auth": {"bearer": {"env": "TOKEN"}}}),
            Code::InvalidParams,
        ),
        ("a", json!({"url": "http://user:password@x/"}), Code::InvalidParams),
        ("a", json!({"url": "ftp://x/"}), Code::InvalidParams),
        (
            "a",
            json!({"url": "http://x/", "headers": {"Mcp-Session-Id": "1"}}),
            Code::InvalidParams,
        ),
        ("forebay", json!({"url": "http://x/"}), Code::InvalidParams),
        ("a__b", json!({"url": "http://x/"}), Code::InvalidParams),
        ("mine", json!({"url": "http://x/"}), Code::Conflict),
    ] {
        let config = serde_json::from_value(config).unwrap();
        let failure = rig.upstreams.register(name, &config, by()).await.unwrap_err();
        assert_eq!(failure.code, code, "{name} {config:?}: {failure}");
    }
}
