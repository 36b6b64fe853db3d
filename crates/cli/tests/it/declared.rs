//! Providers and tools made on the command line, also in the words of other gateways.

use crate::{err, options, out};
use forebay_testkit::gateway::Gateway;
use serde_json::{Value, json};

async fn printed(gateway: &Gateway, arguments: &[&str]) -> Value {
    let output = gateway.cli(&[arguments, &["-o", "json"]].concat()).await;
    assert!(output.status.success(), "{arguments:?}: {}", err(&output));
    serde_json::from_str(&out(&output)).unwrap()
}

#[tokio::test]
async fn what_would_be_made_can_be_seen_before() {
    let gateway = Gateway::start(options("")).await;
    let postgres =
        "create-provider postgres --type postgresql --host localhost --port 5432 --database ai_context --dry-run";
    let postgres: Vec<&str> = postgres.split(' ').collect();
    assert_eq!(
        printed(&gateway, &postgres).await,
        json!({"name": "postgres", "type": "postgresql",
            "config": {"host": "localhost", "port": 5432, "database": "ai_context"}})
    );
    let search = [
        "create-tool",
        "web-search",
        "--description",
        "Search the web",
        "--parameters",
        "query:string",
    ];
    assert_eq!(
        printed(&gateway, &[&search[..], &["--dry-run"]].concat()).await,
        json!({"name": "web-search", "description": "Search the web",
            "parameters": {"query": {"type": "string", "required": true}}})
    );
    assert_eq!(
        printed(&gateway, &["provider", "list"]).await,
        json!({"providers": []}),
        "nothing was made"
    );
}

#[tokio::test]
async fn a_tool_is_declared_with_all_that_it_may_say() {
    let gateway = Gateway::start(options("")).await;
    let typed = [
        "tool create note --description Keep --parameters text:string --endpoint https://notes.example.com/api",
        "--method post --allowed-domains notes.example.com,*.example.org --rate-limit 100/1m --timeout 10s",
        "--set endpoint.bearer={\"env\":\"FOREBAY_TOOL_NOTES\"} --set effects.destructive=false",
    ]
    .join(" ");
    let typed: Vec<&str> = typed.split(' ').collect();
    let expected = json!({"name": "note", "description": "Keep",
        "parameters": {"text": {"type": "string", "required": true}},
        "endpoint": {"url": "https://notes.example.com/api", "method": "POST", "bearer": {"env": "FOREBAY_TOOL_NOTES"}},
        "security": {"allowed_domains": ["notes.example.com", "*.example.org"],
            "rate_limit": {"requests": 100, "window": "1m"}},
        "timeout": "10s", "effects": {"destructive": false}});
    assert_eq!(
        printed(&gateway, &[&typed[..], &["--dry-run"]].concat()).await,
        expected
    );
    let bare = &typed[..typed.len() - 4];
    printed(&gateway, bare).await;
    for (more, expected) in [
        (&["--rate-limit", "100"][..], "write for example 100/1m"),
        (&["--rate-limit", "0/1m"], "--rate-limit"),
        (&["--set", "timeout=3s"], "`timeout` is set twice"),
        (&["--set", "timeout"], "has no `=`"),
    ] {
        let arguments: Vec<&str> = bare
            .iter()
            .copied()
            .filter(|one| !["--rate-limit", "100/1m"].contains(one))
            .collect();
        let output = gateway.cli(&[&arguments[..], more].concat()).await;
        assert!(
            !output.status.success() && err(&output).contains(expected),
            "{more:?}: {}",
            err(&output)
        );
    }
    let outside = "tool create t --description d --endpoint https://notes.example.com/ --allowed-domains example.org";
    let output = gateway.cli(&outside.split(' ').collect::<Vec<_>>()).await;
    assert!(
        !output.status.success() && err(&output).contains("notes.example.com"),
        "{}",
        err(&output)
    );
}

#[tokio::test]
async fn a_provider_and_a_tool_are_made_seen_and_taken_away() {
    let gateway = Gateway::start(options("")).await;
    let set = ["--set", "base_url=https://wiki.example.com", "--set", "timeout_ms=700"];
    printed(
        &gateway,
        &[&["provider", "create", "wiki", "--type", "rest"], &set[..]].concat(),
    )
    .await;
    let shown = printed(&gateway, &["provider", "show", "wiki"]).await;
    assert_eq!(
        (&shown["origin"], &shown["config"]["timeout_ms"]),
        (&json!("api"), &json!(700)),
        "{shown}"
    );
    let url = [
        "--parameters",
        "city:string,days?:integer",
        "--endpoint",
        "https://weather.example.com/{city}",
    ];
    printed(
        &gateway,
        &[&["tool", "create", "weather", "--description", "w"], &url[..]].concat(),
    )
    .await;
    let text = out(&gateway.cli(&["tool", "declared"]).await);
    assert!(
        text.contains("weather") && text.contains("https://weather.example.com/{city}"),
        "{text}"
    );
    for (arguments, status) in [
        (&["provider", "delete", "wiki"], 0),
        (&["provider", "show", "wiki"], 5),
        (&["tool", "delete", "weather"], 0),
        (&["tool", "delete", "weather"], 5),
    ] {
        assert_eq!(
            gateway.cli(arguments).await.status.code(),
            Some(status),
            "{arguments:?}"
        );
    }
    for arguments in [
        &["provider", "create", "w", "--type", "rest", "--set", "base_url"][..],
        &["tool", "create", "t", "--parameters", "query"],
        &["tool", "create", "t", "--parameters", "q:string,q:string"],
    ] {
        assert_eq!(gateway.cli(arguments).await.status.code(), Some(1), "{arguments:?}");
    }
    let nameless = ["tool", "create", "t", "--endpoint", "https://weather.example.com/"];
    let refused = err(&gateway.cli(&nameless).await);
    assert!(refused.contains("--description <TEXT>"), "{refused}");
}
