//! Finding tools, and showing some of them.

use super::{Bench, context, got, with_grants};
use crate::support::principal;
use forebay_domain::{Principal, Role};
use forebay_mcp::{
    Kind, Scope,
    source::{Hints, Tool},
};
use serde_json::{Value, json};
use std::sync::Arc;

use super::lab::{Lab, READS, tool};

/// Issue trackers and files, as servers describe them.
fn shop() -> Vec<Arc<Tool>> {
    let define = |name: &str, description: &str, arguments: &[&str]| {
        let properties: serde_json::Map<String, Value> = arguments
            .iter()
            .map(|name| ((*name).to_owned(), json!({"type": "string"})))
            .collect();
        json!({
            "name": name,
            "title": name,
            "description": description,
            "inputSchema": {"type": "object", "properties": properties},
            "x-unknown": 1
        })
    };
    let erases = Hints {
        read_only: false,
        destructive: true,
        ..READS
    };
    vec![
        tool(
            &define(
                "createIssue",
                "Opens a new issue in a repository.",
                &["repository", "title"],
            ),
            READS,
        ),
        tool(
            &define(
                "list_issues",
                "Lists the issues of a repository.",
                &["repository", "state"],
            ),
            READS,
        ),
        tool(&define("delete_file", "Removes a file.", &["path"]), erases),
        tool(
            &define(
                "read_file",
                "Reads a file; see also the issue tracker.",
                &["path", "encoding"],
            ),
            READS,
        ),
        tool(&define("naïve_plan", "Révise un plan.", &["guests"]), READS),
        tool(
            &json!({"name": "strange", "description": 7, "inputSchema": null}),
            READS,
        ),
    ]
}

impl Bench {
    async fn search(&self, who: &Principal, arguments: &Value) -> (Vec<String>, u64) {
        let got = got(self.call_in(who, "search_tools", arguments, context()).await);
        let tools = got.told["tools"].as_array().unwrap().iter();
        let names = tools.map(|tool| tool["name"].as_str().unwrap().to_owned()).collect();
        (names, got.told["total"].as_u64().unwrap())
    }

    async fn found(&self, query: &str) -> Vec<String> {
        self.search(&self.user, &json!({"query": query, "server": "shop"}))
            .await
            .0
    }
}

async fn open() -> Bench {
    let bench = Bench::open().await;
    bench.gate.catalogue.join(Arc::new(Lab::with("shop", shop())));
    bench
}

#[tokio::test]
async fn tools_are_found_by_their_words_best_first() {
    let bench = open().await;
    for (query, expected) in [
        (
            "create issue",
            &["shop__createIssue", "shop__list_issues", "shop__read_file"][..],
        ),
        ("CREATE", &["shop__createIssue"]),
        ("encod", &["shop__read_file"]),
        ("reading files", &["shop__read_file", "shop__delete_file"]),
        ("naive planning", &["shop__na_ve_plan"]),
        ("REVISE", &["shop__na_ve_plan"]),
        ("shop__read_file", &["shop__read_file"]),
        ("strange", &["shop__strange"]),
        ("zebra", &[]),
    ] {
        let found = bench.found(query).await;
        assert_eq!(
            &found[..expected.len().min(found.len())],
            expected,
            "{query}: {found:?}"
        );
        assert_eq!(found.is_empty(), expected.is_empty(), "{query}: {found:?}");
        assert_eq!(found, bench.found(query).await, "the same question has the same answer");
    }
}

#[tokio::test]
async fn a_tool_is_returned_with_its_definition() {
    let bench = open().await;
    let got = bench
        .call("search_tools", &json!({"query": "list issues", "limit": 1}))
        .await;
    let tool = &got.told["tools"][0];
    assert_eq!(
        (&tool["name"], &tool["server"], &tool["description"]),
        (
            &json!("shop__list_issues"),
            &json!("shop"),
            &json!("Lists the issues of a repository.")
        )
    );
    assert!(tool["inputSchema"]["properties"]["state"].is_object() && tool["score"].as_f64().unwrap() > 0.0);
    assert!(got.told["total"].as_u64().unwrap() > 1);
}

#[tokio::test]
async fn without_words_all_tools_come_by_name() {
    let bench = open().await;
    let (names, total) = bench.search(&bench.user, &json!({"query": " ", "limit": 50})).await;
    assert!(names.is_sorted() && names.len() as u64 == total, "{names:?}");
    assert!(names.contains(&"calculator".to_owned()) && names.contains(&"lab__echo".to_owned()));
    let (first, all) = bench.search(&bench.user, &json!({"query": "", "limit": 2.0})).await;
    assert_eq!((first, all), (names[..2].to_vec(), total));
}

#[tokio::test]
async fn nobody_finds_what_they_may_not_use() {
    let bench = open().await;
    let file = json!({"query": "file"});
    for (grants, expected) in [
        (&["!effect:destructive"][..], &["shop__read_file"][..]),
        (&["tool:search_tools", "tool:shop__delete*"], &["shop__delete_file"]),
        (&["!tool:shop__*"], &[]),
    ] {
        let (mut found, total) = bench.search(&with_grants(&bench.user, grants), &file).await;
        found.retain(|name| name.starts_with("shop"));
        assert_eq!(found, expected, "{grants:?}");
        assert!(total >= found.len() as u64);
    }
    assert!(
        bench
            .call_in(&principal(Role::Viewer), "search_tools", &file, context())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn what_comes_and_goes_is_found_and_not() {
    let bench = Bench::open().await;
    assert!(bench.found("issue").await.is_empty());
    bench.gate.catalogue.join(Arc::new(Lab::with("shop", shop())));
    assert!(!bench.found("issue").await.is_empty());
    bench.gate.catalogue.leave("shop");
    assert!(bench.found("issue").await.is_empty());
}

#[tokio::test]
async fn definitions_have_a_bound_together() {
    let bench = Bench::open().await;
    let huge = |index: u32| json!({"name": format!("huge{index}"), "description": "x".repeat(400_000), "inputSchema": {"type": "object"}});
    let tools = (0..4).map(|index| tool(&huge(index), READS)).collect();
    bench.gate.catalogue.join(Arc::new(Lab::with("shop", tools)));
    let got = bench.call("search_tools", &json!({"query": "huge"})).await;
    let tools = got.told["tools"].as_array().unwrap();
    let whole: Vec<_> = tools.iter().map(|tool| tool.get("truncated").is_none()).collect();
    assert_eq!(whole, [true, true, false, false]);
    assert!(tools[3].get("description").is_none() && tools[3]["name"] == "shop__huge3");
}

#[tokio::test]
async fn a_key_is_shown_what_it_says_and_may_call_the_rest() {
    let bench = open().await;
    let shown = Principal {
        shown: vec!["shop__list_*".parse().unwrap(), "calculator".parse().unwrap()],
        ..bench.user.clone()
    };
    let listed = |who: &Principal, scope: &Scope| {
        let page = bench.gate.catalogue.list(who, scope, Kind::Tools, None).unwrap();
        let tools: Vec<Value> = serde_json::from_str(&page.items).unwrap();
        tools
            .iter()
            .map(|tool| tool["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        listed(&shown, &Scope::Whole),
        ["calculator", "search_tools", "shop__list_issues"]
    );
    assert_eq!(listed(&shown, &Scope::Server("shop".into())), ["list_issues"]);
    let narrowed = with_grants(&shown, &["!tool:search_tools", "!tool:calculator"]);
    assert_eq!(
        listed(&narrowed, &Scope::Whole),
        ["shop__list_issues"],
        "showing allows nothing"
    );
    let (found, _) = bench.search(&shown, &json!({"query": "echo"})).await;
    assert_eq!(found, ["lab__echo"]);
    got(bench
        .call_in(
            &shown,
            "call_chain",
            &json!({"steps": [{"tool": "lab__text"}, {"tool": "lab__echo", "arguments": {"a": {"$text": "/0"}}}]}),
            context(),
        )
        .await);
}

#[tokio::test]
async fn a_large_catalogue_is_searched_whole() {
    let bench = Bench::open().await;
    let define = |index: u32| {
        json!({
            "name": format!("tool_{index:05}"),
            "description": format!("Does thing number {index} with the widget of kind {}.", index % 100),
            "inputSchema": {"type": "object", "properties": {format!("argument{}", index % 7): {"type": "string"}}}
        })
    };
    let tools = (0..10_000).map(|index| tool(&define(index), READS)).collect();
    bench.gate.catalogue.join(Arc::new(Lab::with("shop", tools)));
    let (found, total) = bench.search(&bench.user, &json!({"query": "widget"})).await;
    assert_eq!((found.len(), total), (10, 10_000));
    assert!(found.is_sorted(), "equal ones by name");
    assert_eq!(bench.found("tool_07777").await[0], "shop__tool_07777");
    assert_eq!(bench.found("number 4242").await[0], "shop__tool_04242");
}
