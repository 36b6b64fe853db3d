//! Declared tools: what is declared is called and nothing beside it, however unkind the endpoint or the caller.

use crate::{
    support::{Gate, Wish, keyed, principal, secrets},
    web::Web,
};
use forebay_domain::{Code, Failure, Role, port::CallTool};
use forebay_mcp::{
    Kind, Scope,
    declared::{Config, Declared, DeclaredParts, Kit, Origin, ToolConfig},
    tools,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};

struct Place {
    gate: Gate,
    declared: Declared,
}

fn kit(gate: &Gate, allowed: &[&str]) -> Kit {
    let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
    Kit {
        secrets: secrets(),
        clock: gate.clock.clone(),
        allow: allowed.try_into().unwrap(),
    }
}

fn config(tools: Value) -> Config {
    serde_json::from_value(tools).unwrap()
}

impl Place {
    async fn new(tools: Value) -> Self {
        Self::with(tools, &["127.0.0.1"], Wish::default()).await
    }

    async fn with(tools: Value, allowed: &[&str], wish: Wish) -> Self {
        let gate = Gate::open(wish).await;
        let parts = DeclaredParts {
            catalogue: gate.catalogue.clone(),
            store: gate.store.clone(),
            kit: kit(&gate, allowed),
        };
        let declared = Declared::start(&config(tools), parts).unwrap();
        Self { gate, declared }
    }

    async fn call(&self, name: &str, arguments: Value) -> Value {
        let call = json!({"name": name, "arguments": arguments});
        let got = self.gate.modern(&principal(Role::User), "tools/call", call).await;
        let body = &got.body;
        if body["error"].is_null() {
            body["result"].clone()
        } else {
            body["error"].clone()
        }
    }

    /// The code of a call that failed.
    async fn fails(&self, name: &str, arguments: Value) -> String {
        let result = self.call(name, arguments).await;
        if let Some(code) = result["data"]["code"].as_str() {
            return code.to_owned();
        }
        assert_eq!(result["isError"], true, "{result}");
        let text = result["content"][0]["text"].as_str().unwrap();
        match serde_json::from_str::<Value>(text) {
            Ok(told) => told["code"].as_str().unwrap().to_lowercase(),
            Err(_) => text.to_owned(),
        }
    }

    fn names(&self) -> Vec<String> {
        let page = self
            .gate
            .catalogue
            .list(
                &principal(Role::User),
                &Scope::Server("tools".into()),
                Kind::Tools,
                None,
            )
            .unwrap();
        let tools: Vec<Value> = serde_json::from_str(&page.items).unwrap();
        tools
            .iter()
            .map(|tool| tool["name"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// A tool with one argument in the path and one in the query.
fn tool(url: &str) -> Value {
    json!({
        "description": "Looks something up.",
        "parameters": {
            "id": {"type": "string", "description": "Which one."},
            "q": {"type": "string", "description": "What of it."},
            "n": {"type": "integer", "description": "How many.", "default": 3}
        },
        "endpoint": {"url": url}
    })
}

fn created(value: Value) -> ToolConfig {
    serde_json::from_value(value).unwrap()
}

fn code<T: std::fmt::Debug>(result: Result<T, Failure>) -> Code {
    result.unwrap_err().code
}

#[tokio::test]
async fn a_tool_calls_its_endpoint_with_its_arguments_in_their_places() {
    let web = Web::start().await;
    let mut post = tool(&web.at("/json/{id}"));
    post["endpoint"]["method"] = json!("POST");
    post["endpoint"]["headers"] = json!({"x-plain": "1", "x-secret": {"env": "FOREBAY_TOOL_KEY"}});
    post["endpoint"]["bearer"] = json!({"env": "FOREBAY_TOOL_KEY"});
    post["endpoint"]["result"] = json!("/data/items");
    let place = Place::new(json!({"look_up": tool(&web.at("/json/{id}?q={q}")), "send": post})).await;
    let result = place.call("look_up", json!({"id": "a b", "q": "c&d"})).await;
    assert_eq!(
        result["structuredContent"]["data"],
        json!({"items": [1, 2]}),
        "{result}"
    );
    let result = place.call("send", json!({"id": "7", "q": "\"}", "n": -5.0})).await;
    assert_eq!(result["content"][0]["text"], "[1,2]");

    let [get, post] = &web.asked()[..] else {
        panic!("two requests")
    };
    assert_eq!(
        (get.method.as_str(), get.target.as_str()),
        ("GET", "/json/a%20b?q=c%26d&n=3")
    );
    assert!(get.headers.get("authorization").is_none());
    assert_eq!((post.method.as_str(), post.target.as_str()), ("POST", "/json/7"));
    assert_eq!(post.body, json!({"q": "\"}", "n": -5}));
    assert_eq!(
        (&post.headers["x-plain"], &post.headers["x-secret"]),
        (&"1".parse().unwrap(), &"s3cret".parse().unwrap())
    );
    assert_eq!(post.headers["authorization"], "Bearer s3cret");

    let user = principal(Role::User);
    let (look_up, send) = (
        place.gate.catalogue.find(&user, "look_up").unwrap(),
        place.gate.catalogue.find(&user, "send").unwrap(),
    );
    assert!(look_up.hints.read_only && look_up.hints.open_world && !look_up.is_trusted);
    assert!(!send.hints.read_only && send.hints.destructive);
    let schema: Value = serde_json::from_str(look_up.input_schema.get()).unwrap();
    assert_eq!(schema["required"], json!(["id"]), "without it there is no path");
    assert_eq!(schema["additionalProperties"], false);
}

#[tokio::test]
async fn arguments_cannot_leave_their_place() {
    let web = Web::start().await;
    let place = Place::new(json!({"look_up": tool(&web.at("/json/{id}?q={q}"))})).await;
    for wrong in [
        json!({}),
        json!({"id": 7}),
        json!({"id": "a", "extra": 1}),
        json!({"id": ""}),
        json!({"id": "../../admin"}),
        json!({"id": ".."}),
        json!({"id": "a\r\nHost: evil"}),
    ] {
        assert_eq!(
            place.fails("look_up", wrong.clone()).await,
            "invalid_arguments",
            "{wrong}"
        );
    }
    assert!(web.asked().is_empty(), "nothing was sent");
    for id in [
        "@evil.example",
        "%0d%0aX-Evil:%201",
        "%2e%2e%2fadmin",
        "?q=other",
        "//evil.example/",
        "x#y",
    ] {
        let result = place
            .call("look_up", json!({"id": id, "q": "%0d%0aX-Evil: 1\r\nX-Evil: 2"}))
            .await;
        assert_eq!(result["isError"], false, "{id}: {result}");
    }
    for asked in web.asked() {
        let (path, query) = asked.target.split_once('?').unwrap();
        assert_eq!(path.matches('/').count(), 2, "{path}");
        assert!(path.starts_with("/json/") && asked.headers.get("x-evil").is_none());
        assert_eq!(query, "q=%250d%250aX-Evil%3A+1%0D%0AX-Evil%3A+2&n=3");
    }
}

#[tokio::test]
async fn an_endpoint_that_misbehaves_is_an_error_in_time() {
    let web = Web::start().await;
    let at = |path: &str, timeout: &str| {
        let mut tool = tool(&web.at(path));
        tool["timeout"] = json!(timeout);
        tool
    };
    let place = Place::new(json!({
        "metadata": at("/metadata", "5s"), "slow": at("/slow", "300ms"), "trickle": at("/trickle", "300ms"),
        "huge": at("/huge", "20s"), "image": at("/image", "5s"), "liar": at("/liar", "5s"),
        "refused": at("/refused", "5s"), "broken": at("/broken", "5s"), "nobody": at("/nobody", "5s"),
    }))
    .await;
    for (name, expected) in [
        ("metadata", "upstream_failed"),
        ("slow", "upstream_timed_out"),
        ("trickle", "upstream_timed_out"),
        ("huge", "upstream_truncated"),
        ("image", "upstream_failed"),
        ("liar", "upstream_failed"),
        ("refused", "The endpoint answered 422: `q` is too short"),
        ("broken", "The endpoint answered 500: stack trace"),
        ("nobody", "The endpoint answered 404"),
    ] {
        assert_eq!(place.fails(name, json!({"id": "1"})).await, expected, "{name}");
    }
    assert_eq!(web.asked().len(), 9, "no redirect was followed, nothing was repeated");
}

#[tokio::test]
async fn addresses_that_are_not_public_are_refused_unless_listed() {
    let web = Web::start().await;
    let tools = json!({
        "loopback": tool(&web.at("/json")), "metadata": tool("http://169.254.169.254/latest"),
        "mapped": tool("http://[::ffff:169.254.169.254]/"), "short": tool("http://127.1/"),
    });
    let place = Place::with(tools, &[], Wish::default()).await;
    for name in ["loopback", "metadata", "mapped", "short"] {
        assert_eq!(
            place.fails(name, json!({"id": "1"})).await,
            "address_not_allowed",
            "{name}"
        );
    }
    assert!(web.asked().is_empty());
}

#[tokio::test]
async fn the_limit_of_a_tool_is_shared_by_all_its_callers() {
    let web = Web::start().await;
    let mut limited = tool(&web.at("/json"));
    limited["security"] = json!({"rateLimit": {"requests": 2, "window": "1m"}});
    let place = Place::new(json!({"limited": limited.clone()})).await;
    let call = async |key: &str| {
        let call = json!({"name": "limited", "arguments": {"id": "1"}});
        place
            .gate
            .modern(&keyed(Role::User, key), "tools/call", call)
            .await
            .body
    };
    call("k1").await;
    call("k2").await;
    assert_eq!(call("k3").await["error"]["data"]["code"], "rate_limited");
    // What did not change keeps what was used of it.
    let more = json!({"limited": limited, "other": tool(&web.at("/json"))});
    place.declared.reconfigure(&config(more)).unwrap();
    assert_eq!(call("k3").await["error"]["data"]["code"], "rate_limited");
    assert_eq!(web.asked().len(), 2);
    place.gate.clock.advance(Duration::from_mins(1));
    assert!(call("k3").await["error"].is_null());
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &place.gate.registry).unwrap();
    assert!(
        text.contains("mcp_tool_rate_limit_hits_total{tool=\"limited\"} 2"),
        "{text}"
    );
}

#[tokio::test]
async fn tools_come_and_go_at_run_time() {
    let web = Web::start().await;
    let place = Place::new(json!([{"name": "own", "description": "x", "endpoint": {"url": web.at("/json")}}])).await;
    let by = principal(Role::Admin);
    let new = created(tool(&web.at("/json")));
    let made = place.declared.create("made", &new, &by).await.unwrap();
    assert_eq!((made.origin, made.is_offered, &made.config), (Origin::Api, true, &new));
    assert_eq!(place.names(), ["made", "own"]);
    assert_eq!(place.call("made", json!({"id": "1"})).await["isError"], false);
    assert_eq!(code(place.declared.create("made", &new, &by).await), Code::Conflict);
    assert_eq!(code(place.declared.create("own", &new, &by).await), Code::Conflict);
    assert_eq!(code(place.declared.delete("own").await), Code::Conflict);
    assert_eq!(code(place.declared.delete("nothing").await), Code::UnknownTool);

    // Another replica, or the next process, finds it in the store.
    let parts = DeclaredParts {
        catalogue: place.gate.catalogue.clone(),
        store: place.gate.store.clone(),
        kit: kit(&place.gate, &["127.0.0.1"]),
    };
    let other = Declared::start(&Config::default(), parts).unwrap();
    assert!(other.list().is_empty());
    other.sync().await.unwrap();
    assert_eq!(other.get("made").unwrap().config, new);
    other.delete("made").await.unwrap();
    place.declared.sync().await.unwrap();
    let left: Vec<String> = place.declared.list().into_iter().map(|tool| tool.name).collect();
    assert_eq!(left, ["own"]);

    // What the file says wins over what was created, and what it says no more is gone.
    place.declared.reconfigure(&Config::default()).unwrap();
    assert!(place.declared.list().is_empty());
    let wrong = config(json!({"a": {"description": "x"}}));
    assert_eq!(code(place.declared.reconfigure(&wrong)), Code::InvalidConfig);
}

#[tokio::test]
async fn over_the_api_neither_secrets_nor_trust_nor_built_in_names_are_to_be_had() {
    let place = Place::new(json!({})).await;
    let by = principal(Role::Admin);
    let with = |url: &str, key: &str, value: Value| {
        let mut tool = tool(url);
        match key {
            "trusted_output" | "security" | "parameters" | "description" => tool[key] = value,
            _ => tool["endpoint"][key] = value,
        }
        tool
    };
    let https = "https://api.example.com/{id}";
    for (name, wrong, says) in [
        (
            "a",
            with(https, "bearer", json!({"env": "FOREBAY_ADMIN"})),
            "FOREBAY_TOOL_",
        ),
        (
            "a",
            with(https, "headers", json!({"x": {"file": "/etc/passwd"}})),
            "FOREBAY_TOOL_",
        ),
        (
            "a",
            with(https, "bearer", json!({"env": "FOREBAY_TOOL_GONE"})),
            "not set",
        ),
        (
            "a",
            with("http://api.example.com", "bearer", json!({"env": "FOREBAY_TOOL_KEY"})),
            "https",
        ),
        (
            "a",
            with(https, "headers", json!({"host": "evil"})),
            "set by the gateway",
        ),
        ("a", with(https, "trusted_output", json!(true)), "trusted"),
        (
            "a",
            with(https, "security", json!({"allowedDomains": ["*.example.org"]})),
            "allowed_domains",
        ),
        ("a", with(https, "parameters", json!({})), "no parameter"),
        ("a", with(https, "description", json!("")), "description"),
        ("a", with("https://{id}.example.com/", "result", json!("/a")), "host"),
        ("a", with(https, "result", json!("a")), "pointer"),
        ("a", json!({"description": "x"}), "endpoint"),
        ("calculator", tool(https), "built-in"),
        ("call_batch", tool(https), "built-in"),
        ("up__tool", tool(https), "no `__`"),
        ("a/b", tool(https), "letters"),
    ] {
        let failure = place.declared.create(name, &created(wrong), &by).await.unwrap_err();
        assert_eq!(failure.code, Code::InvalidParams, "{failure}");
        assert!(failure.message.contains(says), "{says}: {failure}");
    }
    assert!(place.declared.list().is_empty());
}

#[tokio::test]
async fn another_spelling_of_a_built_in_tool_is_that_tool() {
    let web = Web::start().await;
    let wish = Wish {
        tools: tools::Config {
            web_search: tools::WebSearchConfig {
                backend: Some(tools::SearchBackend::Searxng),
                base_url: Some(web.at("/found")),
                ..tools::WebSearchConfig::default()
            },
            ..tools::Config::default()
        },
        ..Wish::default()
    };
    let place = Place::with(json!({}), &[], wish).await;
    let by = principal(Role::Admin);
    let asked = json!({"description": "Search the web", "parameters": {"query": {"type": "string"}}});
    place
        .declared
        .create("web-search", &created(asked.clone()), &by)
        .await
        .unwrap();
    let user = principal(Role::User);
    let found = place.gate.catalogue.find(&user, "web-search").unwrap();
    assert_eq!(found.description.as_deref(), Some("Search the web"));
    assert!(!found.is_trusted);
    let result = place.call("web-search", json!({"query": "x"})).await;
    assert_eq!(
        result["structuredContent"]["results"][0]["title"], "One & only",
        "{result}"
    );

    // Whoever may not use the tool may not use it by another name.
    let mut denied = user.clone();
    denied.grants = vec!["!tool:web_search".parse().unwrap()];
    let call = json!({"name": "web-search", "arguments": {"query": "x"}});
    let got = place.gate.modern(&denied, "tools/call", call).await;
    assert_eq!(got.body["error"]["data"]["code"], "insufficient_scope", "{got:?}");

    // Without the tool there is nothing behind its other spelling.
    place.gate.catalogue.reconfigure(tools::Config::default()).unwrap();
    assert!(place.gate.catalogue.find(&user, "web-search").is_none());
    assert_eq!(
        code(place.declared.create("file-reader", &created(asked), &by).await),
        Code::Conflict
    );
}

/// Its other name says what its own says, to whoever calls and to a model's turn.
#[tokio::test]
async fn another_name_of_a_built_in_tool_says_why_there_is_none() {
    let wish = Wish {
        tools: tools::Config {
            disabled: BTreeSet::from(["gateway_status".to_owned()]),
            ..tools::Config::default()
        },
        ..Wish::default()
    };
    let entries = json!({"web-search": {"enabled": true}, "gateway-status": {"enabled": true}});
    let place = Place::with(entries, &[], wish).await;
    assert!(place.names().is_empty(), "{:?}", place.names());
    let why = |name: &str| CallTool::withheld(&place.gate.catalogue, &principal(Role::User), name);
    for (names, setting) in [
        (["web_search", "web-search"], "`tools.web_search`"),
        (["gateway_status", "gateway-status"], "`tools.disabled`"),
    ] {
        for name in names {
            let told = why(name).unwrap();
            assert_eq!(told.code, Code::UnknownTool);
            assert!(told.hint.as_deref().unwrap().contains(setting), "{name}: {told:?}");
            assert_eq!(place.fails(name, json!({})).await, "unknown_tool");
        }
    }
    assert!(why("calculator").is_none() && why("nobodys-tool").is_none());
}
