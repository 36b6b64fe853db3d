//! `web_search` against search engines that are kind and that are not.

use crate::{
    support::{Gate, Wish, principal},
    web::Web,
};
use forebay_domain::{Code, Role, port::CallTool};
use forebay_mcp::{
    declared::{RateLimitConfig, Span},
    tools::{self, SearchBackend, WebSearchConfig},
};
use forebay_runtime::SecretRef;
use serde_json::{Value, json};
use std::{num::NonZeroU32, time::Duration};

fn searxng(web: &Web, path: &str) -> WebSearchConfig {
    WebSearchConfig {
        backend: Some(SearchBackend::Searxng),
        base_url: Some(web.at(path)),
        timeout: Span(Duration::from_millis(500)),
        ..WebSearchConfig::default()
    }
}

fn with(web_search: WebSearchConfig) -> tools::Config {
    tools::Config {
        web_search,
        ..tools::Config::default()
    }
}

async fn gate(config: WebSearchConfig) -> Gate {
    Gate::open(Wish {
        tools: with(config),
        ..Wish::default()
    })
    .await
}

async fn search(gate: &Gate, arguments: Value) -> Value {
    let call = json!({"name": "web_search", "arguments": arguments});
    let got = gate.modern(&principal(Role::User), "tools/call", call).await;
    got.body["result"].clone()
}

/// The code of a result that is an error.
fn code(result: &Value) -> String {
    assert_eq!(result["isError"], true, "{result}");
    let told: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
    told["code"].as_str().unwrap().to_lowercase()
}

#[tokio::test]
async fn results_are_plain_text_and_lead_to_the_web_alone() {
    let web = Web::start().await;
    let gate = gate(searxng(&web, "/found/")).await;
    let result = search(&gate, json!({"query": "a&b #c"})).await;
    let expected = json!({"results": [
        {"title": "One & only", "url": "https://one.example/a", "snippet": "An excerpt"},
        {"title": "Two", "url": "https://sub.two.example/b", "snippet": "More"},
        {"title": "Three", "url": "https://two.example.evil.example/", "snippet": ""},
    ]});
    assert_eq!(result["structuredContent"], expected);
    assert!(
        result["content"][0]["text"]
            .as_str()
            .unwrap()
            .starts_with("1. One & only\n   https://one.example/a\n")
    );
    assert_eq!(web.asked()[0].target, "/found/search?q=a%26b+%23c&format=json");
    let one = search(&gate, json!({"query": "x", "count": 1})).await;
    assert_eq!(one["structuredContent"]["results"].as_array().unwrap().len(), 1);
    let user = principal(Role::User);
    let tool = gate.catalogue.find(&user, "web_search").unwrap();
    assert!(!tool.is_trusted && tool.hints.read_only && tool.hints.open_world);
}

#[tokio::test]
async fn brave_gets_its_key_in_a_header_and_nowhere_else() {
    let web = Web::start().await;
    let config = WebSearchConfig {
        backend: Some(SearchBackend::Brave),
        base_url: Some(web.at("/brave")),
        api_key: Some(SecretRef::Env("FOREBAY_TOOL_KEY".to_owned())),
        ..WebSearchConfig::default()
    };
    let gate = gate(config).await;
    let result = search(&gate, json!({"query": "x", "count": 3})).await;
    let expected = json!([{"title": "One", "url": "https://one.example/", "snippet": "First of all"}]);
    assert_eq!(result["structuredContent"]["results"], expected);
    let asked = &web.asked()[0];
    assert_eq!(asked.target, "/brave/web/search?q=x&count=3");
    assert_eq!(asked.headers["x-subscription-token"], "s3cret");
    assert!(!result.to_string().contains("s3cret"));
}

#[tokio::test]
async fn only_allowed_domains_are_shown_and_the_limit_is_everybodys() {
    let web = Web::start().await;
    let config = WebSearchConfig {
        allowed_domains: vec!["*.two.example".to_owned()],
        rate_limit: Some(RateLimitConfig {
            requests: NonZeroU32::new(2).unwrap(),
            window: Span(Duration::from_mins(1)),
        }),
        ..searxng(&web, "/found")
    };
    let gate = gate(config.clone()).await;
    let result = search(&gate, json!({"query": "x"})).await;
    let expected = json!([{"title": "Two", "url": "https://sub.two.example/b", "snippet": "More"}]);
    assert_eq!(result["structuredContent"]["results"], expected);
    // Another setting changes; what was used of the allowance stays used.
    let changed = WebSearchConfig { results: 5, ..config };
    assert!(gate.catalogue.reconfigure(with(changed)).unwrap());
    search(&gate, json!({"query": "x"})).await;
    assert_eq!(code(&search(&gate, json!({"query": "x"})).await), "rate_limited");
    assert_eq!(web.asked().len(), 2);
    gate.clock.advance(Duration::from_mins(1));
    assert_eq!(search(&gate, json!({"query": "x"})).await["isError"], false);
}

#[tokio::test]
async fn an_engine_that_misbehaves_is_an_error_in_time() {
    let web = Web::start().await;
    for (path, expected) in [
        ("/slow", Code::UpstreamTimedOut),
        ("/trickle", Code::UpstreamTimedOut),
        ("/huge", Code::UpstreamTruncated),
        ("/liar", Code::UpstreamFailed),
        ("/text", Code::UpstreamFailed),
        ("/forbidden", Code::UpstreamFailed),
        ("/metadata", Code::UpstreamFailed),
        ("/nothing", Code::UpstreamFailed),
    ] {
        let mut config = searxng(&web, path);
        if path == "/huge" {
            config.timeout = Span(Duration::from_secs(20));
        }
        let gate = gate(config).await;
        assert_eq!(
            code(&search(&gate, json!({"query": "x"})).await),
            expected.as_str(),
            "{path}"
        );
    }
}

#[tokio::test]
async fn what_cannot_work_is_refused_when_it_is_configured() {
    let web = Web::start().await;
    let gate = gate(WebSearchConfig::default()).await;
    assert!(gate.catalogue.find(&principal(Role::User), "web_search").is_none());
    let missing = Some(SecretRef::Env("NOT_THERE".to_owned()));
    for (wrong, says) in [
        (
            WebSearchConfig {
                base_url: None,
                ..searxng(&web, "")
            },
            "base_url",
        ),
        (
            WebSearchConfig {
                backend: None,
                ..searxng(&web, "")
            },
            "backend",
        ),
        (
            WebSearchConfig {
                base_url: Some("ftp://a".to_owned()),
                ..searxng(&web, "")
            },
            "http",
        ),
        (
            WebSearchConfig {
                backend: Some(SearchBackend::Brave),
                ..WebSearchConfig::default()
            },
            "api_key",
        ),
        (
            WebSearchConfig {
                api_key: missing,
                ..searxng(&web, "")
            },
            "NOT_THERE",
        ),
        (
            WebSearchConfig {
                results: 21,
                ..searxng(&web, "")
            },
            "results",
        ),
        (
            WebSearchConfig {
                allowed_domains: vec!["*".to_owned()],
                ..searxng(&web, "")
            },
            "allowed_domains",
        ),
    ] {
        let failure = gate.catalogue.reconfigure(with(wrong.clone())).unwrap_err();
        assert_eq!(failure.code, Code::InvalidConfig);
        assert!(failure.message.contains(says), "{}", failure.message);
        assert!(with(wrong).check(&crate::support::secrets()).is_err());
    }
    let off = |name: &str| tools::Config {
        disabled: [name.to_owned()].into(),
        ..tools::Config::default()
    };
    assert!(gate.catalogue.reconfigure(off("shell")).is_err());
    assert!(gate.catalogue.reconfigure(off("calculator")).unwrap());
    assert!(gate.catalogue.find(&principal(Role::User), "calculator").is_none());
}
