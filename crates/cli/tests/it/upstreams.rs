//! `forebay upstream` and the section `upstreams:`, with a second gateway as the upstream.

use crate::{err, mcp_forms::Person, options, out};
use forebay_testkit::gateway::{Gateway, command};
use serde_json::{Value, json};
use std::{fs, time::Duration};

/// What is waited for at most, on a machine that is busy with other work.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long to leave a gateway alone between two looks at it.
const PAUSE: Duration = Duration::from_millis(50);
const TOKEN: &str = "FOREBAY_UPSTREAM_FAR";
/// No test counts requests.
const LIMITS: &str = "limits: {requests_per_minute: 100000}";

async fn json(gateway: &Gateway, arguments: &[&str]) -> Value {
    let output = gateway.cli(&[arguments, &["-o", "json"]].concat()).await;
    assert!(output.status.success(), "{arguments:?}: {}", err(&output));
    serde_json::from_str(&out(&output)).unwrap()
}

/// Waits until a command says what it should.
async fn until(gateway: &Gateway, arguments: &[&str], holds: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let told = async {
        loop {
            last = json(gateway, arguments).await;
            if holds(&last) {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, told).await.is_ok();
    assert!(in_time, "{arguments:?} never said it: {last}\n{}", gateway.log());
    last
}

/// The tools of the upstream, as a caller sees them.
fn far_tools(tools: &Value) -> Vec<&str> {
    let names = tools
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap());
    names.filter(|name| name.starts_with("far__")).collect()
}

/// A gateway, and another one that may be its upstream.
async fn pair() -> (Gateway, Gateway) {
    let far = Gateway::start(options(LIMITS)).await;
    let near = Gateway::start(options(LIMITS).env(TOKEN, far.admin_key())).await;
    (near, far)
}

async fn add(near: &Gateway, far: &Gateway) {
    let url = format!("{}/mcp", far.url());
    let added = near
        .cli(&[
            "upstream",
            "add",
            "far",
            &url,
            "--bearer-env",
            TOKEN,
            "--hold-first-seen",
        ])
        .await;
    assert!(added.status.success(), "{}", err(&added));
}

#[tokio::test]
async fn an_upstream_is_added_looked_at_approved_and_removed() {
    let (near, far) = pair().await;
    add(&near, &far).await;
    let listed = until(&near, &["upstream", "list"], |all| all[0]["state"] == "ready").await;
    assert!(listed[0]["held"].as_u64().unwrap() >= 4, "{listed}");
    assert_eq!(far_tools(&json(&near, &["tool", "list"]).await), Vec::<&str>::new());
    let found = json(&near, &["doctor"]).await;
    let check = found
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["what"] == "upstream far");
    assert!(
        check.unwrap()["to_do"]
            .as_str()
            .unwrap()
            .contains("upstream approve far"),
        "{found}"
    );

    // Without a terminal nobody can be asked.
    let unasked = near.cli(&["upstream", "approve", "far", "calculator"]).await;
    let words = err(&unasked);
    assert_eq!(
        (unasked.status.code(), out(&unasked).as_str()),
        (Some(1), ""),
        "{words}"
    );
    assert!(
        words.contains("tool `calculator`: nobody has approved it before"),
        "{words}"
    );
    assert!(words.contains("+ \"calculator\"") && words.contains("--yes"), "{words}");
    assert!(!words.contains('\u{1b}'), "colours are for terminals: {words:?}");
    for (arguments, code) in [
        (&["far", "--yes"][..], 1),
        (&["far", "nothing", "--yes"], 5),
        (&["nobody"], 5),
    ] {
        let refused = near.cli(&[&["upstream", "approve"], arguments].concat()).await;
        assert_eq!(refused.status.code(), Some(code), "{arguments:?}: {}", err(&refused));
    }
    let dry = json(&near, &["upstream", "approve", "far", "calculator", "--dry-run"]).await;
    assert_eq!(
        (&dry["dry_run"], &dry["approved"][0]["name"]),
        (&json!(true), &json!("calculator"))
    );
    assert_eq!(far_tools(&json(&near, &["tool", "list"]).await), Vec::<&str>::new());

    let approved = json(&near, &["upstream", "approve", "far", "calculator", "--yes"]).await;
    assert_eq!(approved["approved"].as_array().unwrap().len(), 1, "{approved}");
    until(&near, &["tool", "list"], |tools| {
        far_tools(tools) == ["far__calculator"]
    })
    .await;
    let called = near
        .cli(&["tool", "call", "far__calculator", r#"{"expression":"6 * 7"}"#])
        .await;
    assert!(out(&called).contains("42"), "{}", err(&called));

    let shown = near.cli(&["upstream", "show", "far"]).await;
    let text = out(&shown);
    assert!(
        text.contains("`forebay upstream add`") && text.contains(&far.url()["http://".len()..]),
        "{text}"
    );
    assert!(
        text.contains("tool `gateway_status`: nobody has approved it before"),
        "{text}"
    );
    let whole = near.cli(&["upstream", "show", "far", "-o", "yaml"]).await;
    assert!(out(&whole).contains("description:"), "{}", out(&whole));
    assert!(
        !(out(&whole) + &text).contains(far.admin_key()),
        "a secret is never shown"
    );

    assert_eq!(json(&near, &["upstream", "refresh", "far"]).await["name"], "far");
    assert_eq!(json(&near, &["upstream", "remove", "far"]).await["name"], "far");
    assert_eq!(json(&near, &["upstream", "list"]).await, json!([]));
    assert_eq!(near.cli(&["upstream", "show", "far"]).await.status.code(), Some(5));
    let forgotten = json(&near, &["upstream", "forget", "far"]).await;
    assert!(
        forgotten["forgotten"].as_u64().unwrap() >= 4,
        "known also when it is gone: {forgotten}"
    );
    assert_eq!(near.cli(&["upstream", "forget", "far"]).await.status.code(), Some(5));
}

#[tokio::test]
async fn what_an_upstream_shares_with_others_is_told() {
    let (near, far) = pair().await;
    add(&near, &far).await;
    // Both are gateways, so the upstream lists resources that are the gateway's own.
    let warned = |all: &Value| all[0]["warnings"].as_array().is_some_and(|all| !all.is_empty());
    let listed = until(&near, &["upstream", "list"], warned).await;
    let table = out(&near.cli(&["upstream", "list"]).await);
    let count = listed[0]["warnings"].as_array().unwrap().len().to_string();
    let column = |line: usize| table.lines().nth(line).unwrap().split_whitespace().nth(4).unwrap();
    assert_eq!((column(0), column(1)), ("WARNINGS", count.as_str()), "{table}");
    let text = out(&near.cli(&["upstream", "show", "far"]).await);
    assert!(
        text.contains("is kept by `forebay`, so only `/servers/far/mcp` offers what it stands for"),
        "{text}"
    );
    let line = near.logged("names that two definitions claim").await;
    assert!(line.contains("far") && line.contains("forebay"), "{line}");
    assert_eq!(
        near.log().matches("names that two definitions claim").count(),
        3,
        "told once for each of the gateway's own servers, `contexts`, `forebay` and `gpu`"
    );
}

#[tokio::test]
async fn instructions_are_approved_by_that_name() {
    let (near, far) = pair().await;
    let help = out(&near.cli(&["upstream", "approve", "--help"]).await);
    assert!(help.contains("`instructions`") && help.contains("prompts"), "{help}");
    add(&near, &far).await;
    until(&near, &["upstream", "list"], |all| all[0]["state"] == "ready").await;
    let approved = json(&near, &["upstream", "approve", "far", "instructions", "--yes"]).await;
    let approved = approved["approved"].as_array().unwrap();
    assert_eq!(approved.len(), 1, "{approved:?}");
    assert_eq!(approved[0]["kind"], "instructions", "{approved:?}");
}

#[tokio::test]
async fn what_was_added_is_there_after_a_restart() {
    let (near, far) = pair().await;
    add(&near, &far).await;
    until(&near, &["upstream", "list"], |all| all[0]["state"] == "ready").await;
    json(&near, &["upstream", "approve", "far", "--all", "--yes"]).await;
    let folder = near.stop().await.folder;
    let near = Gateway::again(options(LIMITS).env(TOKEN, far.admin_key()), folder).await;
    until(&near, &["tool", "list"], |tools| far_tools(tools).len() >= 4).await;
}

#[tokio::test]
async fn a_program_of_the_configuration_serves_and_ends_with_the_gateway() {
    let far = Gateway::start(options(LIMITS)).await;
    let near = Gateway::start(options("").env("FAR_KEY", far.admin_key())).await;
    near.logged("following the configuration").await;
    // The bridge of this very binary is an MCP server over pipes.
    let yaml = format!(
        "{LIMITS}\nupstreams:\n  far:\n    command: '{}'\n    args: [stdio, --url, '{}']\n    env: {{FOREBAY_KEY: {{env: FAR_KEY}}}}\n",
        env!("CARGO_BIN_EXE_forebay"),
        far.url()
    );
    fs::write(near.config_file(), yaml).unwrap();
    until(&near, &["tool", "list"], |tools| {
        far_tools(tools).contains(&"far__calculator")
    })
    .await;
    let shown = json(&near, &["upstream", "show", "far"]).await;
    assert_eq!(shown["upstream"]["transport"], "stdio", "{shown}");
    assert!(
        !shown.to_string().contains(far.url()),
        "arguments are not shown: {shown}"
    );
    let called = near
        .cli(&["tool", "call", "far__calculator", r#"{"expression":"6 * 7"}"#])
        .await;
    assert!(out(&called).contains("42"), "{}", err(&called));
    assert_eq!(near.cli(&["upstream", "remove", "far"]).await.status.code(), Some(5));

    fs::write(near.config_file(), LIMITS).unwrap();
    until(&near, &["tool", "list"], |tools| far_tools(tools).is_empty()).await;
    let ended = near.stop().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
}

#[tokio::test]
async fn a_person_sees_the_difference_and_is_asked() {
    let (near, far) = pair().await;
    add(&near, &far).await;
    until(&near, &["upstream", "list"], |all| all[0]["state"] == "ready").await;
    let folder = tempfile::tempdir().unwrap();
    let approve = || {
        let mut approve = command(&options(""), folder.path());
        approve.args([
            "upstream",
            "approve",
            "far",
            "calculator",
            "--url",
            near.url(),
            "--key",
            near.admin_key(),
        ]);
        approve
    };
    for (answer, code, offered) in [("\n", 5, 0), ("yes\n", 0, 1)] {
        let mut person = Person::start(approve());
        person.asked(1).await;
        assert!(
            person.heard.contains("\u{1b}[32m  + \"calculator\""),
            "{:?}",
            person.heard
        );
        person.says(answer).await;
        assert_eq!(person.code().await, Some(code), "{answer:?}");
        until(&near, &["tool", "list"], |tools| far_tools(tools).len() == offered).await;
    }
    let mut plain = approve();
    plain.env("NO_COLOR", "1").arg("--dry-run");
    assert_eq!(Person::start(plain).code().await, Some(5), "it waits no longer");
}
