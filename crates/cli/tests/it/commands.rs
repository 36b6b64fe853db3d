//! The commands against a real gateway: data on stdout, words on stderr, exit codes.

use crate::{err, options, out};
use forebay_testkit::{
    gateway::{Gateway, GatewayOptions, command},
    openai::Engine,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, process::Stdio};

async fn gateway(engine: &Engine) -> Gateway {
    let yaml = format!("models: {{stub: {{backends: [{{url: '{}'}}]}}}}", engine.url());
    Gateway::start(options(&yaml)).await
}

async fn json(gateway: &Gateway, arguments: &[&str]) -> Value {
    let output = gateway.cli(&[arguments, &["-o", "json"]].concat()).await;
    assert!(output.status.success(), "{arguments:?}: {}", err(&output));
    serde_json::from_str(&out(&output)).unwrap()
}

#[tokio::test]
async fn a_key_may_show_some_tools_and_call_the_others() {
    let engine = Engine::start().await;
    let gateway = gateway(&engine).await;
    let create = ["key", "create", "--role", "user", "--show", "calc*", "--show", "x__*"];
    let made = json(&gateway, &create).await;
    let key = made["key"].as_str().unwrap();
    let listed = json(&gateway, &["tool", "list", "--key", key]).await;
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["calculator", "search_tools"]);
    let called = gateway
        .cli(&["tool", "call", "gateway_status", "{}", "--key", key])
        .await;
    assert!(called.status.success(), "{}", err(&called));
    let keys = gateway.cli(&["key", "list"]).await;
    assert!(out(&keys).contains("calc* x__*"), "{}", out(&keys));
}

#[tokio::test]
async fn a_key_is_made_used_listed_and_revoked() {
    let engine = Engine::start().await;
    let gateway = gateway(&engine).await;
    let made = json(
        &gateway,
        &[
            "key",
            "create",
            "--role",
            "user",
            "--tenant",
            "acme",
            "--grant",
            "tool:calc*",
            "--expires-in",
            "30d",
        ],
    )
    .await;
    let fields: BTreeSet<&str> = made.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        BTreeSet::from(["id", "key"]),
        "scripts may rely on exactly these"
    );
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());

    let called = gateway
        .cli(&["tool", "call", "calculator", r#"{"expression":"6 * 7"}"#, "--key", key])
        .await;
    assert_eq!(
        (called.status.code(), out(&called).contains("42")),
        (Some(0), true),
        "{}",
        err(&called)
    );
    let refused = gateway.cli(&["key", "list", "--key", key]).await;
    assert_eq!(
        (refused.status.code(), out(&refused).as_str()),
        (Some(3), ""),
        "{}",
        err(&refused)
    );
    let why = json(&gateway, &["explain", "tool:chat", "--as", id]).await;
    assert_eq!(why["allowed"], false, "{why}");

    let listed = json(&gateway, &["key", "list", "--tenant", "acme"]).await;
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert!(!listed.to_string().contains(key.rsplit_once('_').unwrap().1));
    assert_eq!(gateway.cli(&["key", "revoke", id]).await.status.code(), Some(0));
    let late = gateway.cli(&["tool", "list", "--key", key]).await;
    assert_eq!(late.status.code(), Some(3));
    assert!(err(&late).contains("forebay explain revoked_key"), "{}", err(&late));
    assert_eq!(
        gateway.cli(&["key", "revoke", "0000000000000000"]).await.status.code(),
        Some(5)
    );

    let audit = json(&gateway, &["audit", "tail"]).await;
    assert!(
        audit
            .as_array()
            .unwrap()
            .iter()
            .any(|event| event["action"] == "keys:write"),
        "{audit}"
    );
    assert_eq!(json(&gateway, &["audit", "verify"]).await["ok"], true);
}

#[tokio::test]
async fn explaining_a_route_says_which_backend_takes_it() {
    let engine = Engine::start().await;
    let gateway = gateway(&engine).await;
    let told = json(&gateway, &["explain", "route", "stub"]).await;
    assert_eq!(
        (&told["model"], &told["steps"][0]["chosen"]),
        (&json!("stub"), &json!(0))
    );
    let text = out(&gateway.cli(&["explain", "route", "stub"]).await);
    assert!(text.contains("takes it") && text.contains("chosen: "), "{text}");
    for (arguments, status, word) in [
        (&["explain", "route", "none"], 5, "stub"),
        (&["explain", "tool:chat", "stub"], 1, "`route`"),
    ] {
        let refused = gateway.cli(arguments).await;
        assert_eq!(refused.status.code(), Some(status), "{arguments:?}");
        assert!(err(&refused).contains(word), "{}", err(&refused));
    }
}

#[tokio::test]
async fn explaining_a_tool_says_whether_lists_show_it() {
    let engine = Engine::start().await;
    let gateway = gateway(&engine).await;
    let create = ["key", "create", "--role", "user", "--show", "calc*"];
    let made = json(&gateway, &create).await;
    let id = made["id"].as_str().unwrap();
    for (tool, shown) in [("calculator", true), ("gateway_status", false), ("search_tools", true)] {
        let told = json(&gateway, &["explain", &format!("tool:{tool}"), "--as", id]).await;
        assert_eq!(told["allowed"], true, "showing is no permission: {told}");
        assert_eq!(
            (&told["shown"], &told["is_shown"]),
            (&json!(["calc*"]), &json!(shown)),
            "{told}"
        );
    }
    let text = out(&gateway.cli(&["explain", "tool:gateway_status", "--as", id]).await);
    assert!(
        text.contains("only calc* and `search_tools`") && text.contains("forbids nothing"),
        "{text}"
    );
    let text = out(&gateway.cli(&["explain", "tool:calculator", "--as", id]).await);
    assert!(!text.contains("forbids nothing"), "{text}");
    let all = json(&gateway, &["explain", "tool:gateway_status"]).await;
    assert_eq!((all.get("shown"), all.get("is_shown")), (None, None), "{all}");
}

#[tokio::test]
async fn a_model_answers_streamed_and_whole() {
    let engine = Engine::start().await;
    let gateway = gateway(&engine).await;
    let streamed = gateway.cli(&["chat", "hi"]).await;
    assert!(streamed.status.success(), "{}", err(&streamed));
    let whole = gateway.cli(&["chat", "--no-stream", "hi"]).await;
    assert_eq!((out(&streamed), out(&whole).is_empty()), (out(&whole), false));
    assert_eq!(
        format!(
            "{}\n",
            json(&gateway, &["chat", "hi"]).await["answer"].as_str().unwrap()
        ),
        out(&whole)
    );
    assert_eq!(json(&gateway, &["model", "list"]).await, serde_json::json!(["stub"]));
    let unknown = gateway.cli(&["chat", "--model", "other", "hi"]).await;
    assert_eq!(unknown.status.code(), Some(5), "{}", err(&unknown));
}

#[tokio::test]
async fn a_failing_tool_fails_for_the_shell() {
    let engine = Engine::start().await;
    let gateway = gateway(&engine).await;
    for (arguments, code) in [
        (&["tool", "call", "calculator", r#"{"expression":"1 / 0"}"#][..], 5),
        (&["tool", "call", "no_such_tool"], 5),
        (&["tool", "call", "calculator", "{}"], 1),
        (&["tool", "call", "calculator", "{"], 1),
        (&["tool", "call", "calculator", r#"{"a":1,"a":2}"#], 1),
        (&["tool", "call", "calculator", "[]"], 1),
        (&["explain", "no_such_code"], 1),
        (&["explain", "--trace", "4bf92f3577b34da6a3ce929d0e0e4736"], 5),
        (&["no-such-command"], 1),
        (&["key", "create", "--role", "king"], 1),
    ] {
        let output = gateway.cli(arguments).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", err(&output));
        assert_eq!(out(&output), "", "{arguments:?}");
        assert!(err(&output).starts_with("error: "), "{arguments:?}: {}", err(&output));
    }
}

#[tokio::test]
async fn doctor_says_what_is_wrong_and_what_to_do() {
    let engine = Engine::start().await;
    let gateway = gateway(&engine).await;
    let well = gateway.cli(&["doctor"]).await;
    assert_eq!(well.status.code(), Some(0), "{}{}", out(&well), err(&well));
    for check in [
        "configuration",
        "data directory",
        "gateway",
        "key",
        "store",
        "models",
        "backend 0 of stub",
    ] {
        assert!(out(&well).contains(check), "{check}: {}", out(&well));
    }
    let stranger = gateway.cli(&["doctor", "--key", "fb_0000000000000000_00"]).await;
    assert_eq!(stranger.status.code(), Some(3), "{}", out(&stranger));
    let nowhere = gateway.cli(&["doctor", "--url", "http://127.0.0.1:1"]).await;
    assert_eq!(nowhere.status.code(), Some(4), "{}", out(&nowhere));
    assert!(out(&nowhere).contains("forebay serve"), "{}", out(&nowhere));
    drop(engine);
    let without_engine = gateway.cli(&["doctor", "-o", "json"]).await;
    assert_eq!(without_engine.status.code(), Some(5), "{}", out(&without_engine));
}

#[tokio::test]
async fn doctor_shows_each_engine_the_key_in_the_way_of_its_api() {
    let engine = Engine::start().await;
    let url = engine.url();
    let config = format!(
        "models:\n  claude: {{ backends: [{{ url: '{url}', engine: anthropic, api_key: {{ env: ENGINE_KEY }} }}] }}\n  \
         qwen: {{ backends: [{{ url: '{url}', api_key: {{ env: ENGINE_KEY }}, probe: {{ interval_s: 0 }} }}] }}\n"
    );
    let gateway = Gateway::start(options(&config).env("ENGINE_KEY", "sk-doctor-1")).await;
    let told = gateway.cli(&["doctor"]).await;
    assert_eq!(told.status.code(), Some(0), "{}{}", out(&told), err(&told));
    let seen = engine.seen();
    let [claude, qwen] = &seen[..] else {
        panic!("each is asked once: {seen:?}");
    };
    assert_eq!((claude.path.as_str(), qwen.path.as_str()), ("/v1/models", "/v1/models"));
    assert_eq!(claude.header("x-api-key"), Some("sk-doctor-1"));
    assert_eq!(claude.header("anthropic-version"), Some("2023-06-01"));
    assert_eq!(claude.header("authorization"), None);
    assert_eq!(qwen.header("authorization"), Some("Bearer sk-doctor-1"));
    assert_eq!(
        (qwen.header("x-api-key"), qwen.header("anthropic-version")),
        (None, None)
    );
}

#[tokio::test]
async fn a_data_directory_is_enough_to_find_its_gateway() {
    let engine = Engine::start().await;
    let gateway = gateway(&engine).await;
    let run = |more: &'static [&'static str]| {
        let elsewhere = tempfile::tempdir().unwrap();
        let mut command = command(&options(""), elsewhere.path());
        command
            .args(["status", "-o", "json", "--data"])
            .arg(gateway.data())
            .args(more);
        async move { (command.output().await.unwrap(), elsewhere) }
    };
    let (found, _folder) = run(&[]).await;
    assert_eq!(found.status.code(), Some(0), "{}", err(&found));
    assert!(out(&found).contains(gateway.url()));
    let (kept, _folder) = run(&["--url", "http://gateway.example"]).await;
    assert_eq!(kept.status.code(), Some(3), "{}", err(&kept));
    assert!(
        err(&kept).contains("There is no key for the gateway at http://gateway.example")
            && err(&kept).contains("--data or FOREBAY_DATA"),
        "{}",
        err(&kept)
    );
}

#[tokio::test]
async fn what_needs_no_gateway_works_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &'static [&'static str]| {
        let output = command(&options(""), folder.path()).args(arguments).output();
        async move { output.await.unwrap() }
    };
    for (arguments, expected) in [
        (&["--version"][..], "forebay "),
        (&["help", "key", "create"], "Examples:"),
        (&["explain", "insufficient_scope"], "# `insufficient_scope`"),
        (&["explain", "rate_limited", "-o", "json"], "\"code\": \"rate_limited\""),
        (&["explain", "model_not_found"], "# `unknown_model`"),
        (&["completions", "bash"], "_forebay"),
        (&["man"], ".TH"),
        (&["openapi"], "/api/v1/keys"),
        (&["config", "validate"], "ok\n"),
        (&["config", "show"], "limits.requests_per_minute"),
        (&["config", "show", "-o", "yaml"], "requests_per_minute: 100"),
    ] {
        let output = run(arguments).await;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", err(&output));
        assert!(out(&output).contains(expected), "{arguments:?}: {}", out(&output));
    }
    assert_eq!(run(&["man", "--dir", "man"]).await.status.code(), Some(0));
    assert!(folder.path().join("man/forebay-key-create.1").exists());
    let nobody = run(&["status", "--url", "http://127.0.0.1:1", "--key", "k"]).await;
    assert_eq!(nobody.status.code(), Some(4));
    assert!(err(&nobody).contains("forebay serve"), "{}", err(&nobody));
    let doctor = run(&["doctor", "--data", "none", "--url", "http://127.0.0.1:1"]).await;
    assert!(
        out(&doctor).contains("if a gateway has its data elsewhere"),
        "{}",
        out(&doctor)
    );
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let GatewayOptions { program, .. } = options("");
    let script = format!(
        "{} config schema | head -c 1 >/dev/null; exit \"${{PIPESTATUS[0]}}\"",
        program.display()
    );
    let mut bash = tokio::process::Command::new("bash");
    let output = bash
        .args(["-c", &script])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""));
}
