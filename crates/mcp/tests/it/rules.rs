//! What every built-in tool keeps to, so that every client and every model can use it.

use crate::{
    support::{Gate, Scripted, Wish, principal},
    web::Web,
};
use forebay_domain::Role;
use forebay_mcp::{Kind, Scope, tools};
use serde_json::{Value, json};

async fn all_tools() -> (Gate, Web, Vec<Value>) {
    let folder = std::env::temp_dir();
    let web = Web::start().await;
    let gate = Gate::open(Wish {
        model: Scripted {
            names: vec!["tiny"],
            pieces: vec!["hello".to_owned()],
            ..Scripted::default()
        },
        tools: tools::Config {
            file_reader: tools::FileReaderConfig {
                allowed_paths: vec![folder],
                ..tools::FileReaderConfig::default()
            },
            web_search: tools::WebSearchConfig {
                backend: Some(tools::SearchBackend::Searxng),
                base_url: Some(web.at("/found")),
                ..tools::WebSearchConfig::default()
            },
            ..tools::Config::default()
        },
        ..Wish::default()
    })
    .await;
    let page = gate
        .catalogue
        .list(&principal(Role::Admin), &Scope::Whole, Kind::Tools, None)
        .unwrap();
    let tools = serde_json::from_str(&page.items).unwrap();
    (gate, web, tools)
}

/// Every key of a JSON value, at any depth.
fn keys(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                found.push(key.clone());
                keys(member, found);
            }
        }
        Value::Array(elements) => elements.iter().for_each(|element| keys(element, found)),
        _ => {}
    }
}

#[tokio::test]
async fn definitions_are_plain_enough_for_every_client() {
    let (_gate, _web, tools) = all_tools().await;
    let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "calculator",
            "call_batch",
            "call_chain",
            "chat",
            "file_reader",
            "gateway_status",
            "search_tools",
            "web_search",
        ]
    );
    for tool in &tools {
        let name = tool["name"].as_str().unwrap();
        // One client puts `mcp_` and its own name for the server before it, and models take 64 characters.
        let longest = format!("mcp_forebay_{name}");
        assert!(
            longest.len() <= 64 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
            "{name}"
        );
        assert!(
            tool["title"].is_string() && tool["description"].as_str().unwrap().len() > 40,
            "{name}"
        );
        assert!(tool["annotations"]["readOnlyHint"].is_boolean() && tool["annotations"]["openWorldHint"].is_boolean());
        assert_eq!(tool["inputSchema"]["type"], "object");
        assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{name}");
        assert_eq!(tool["outputSchema"]["type"], "object");
        let mut found = Vec::new();
        keys(&tool["inputSchema"], &mut found);
        for unreadable in ["$ref", "$defs", "oneOf", "anyOf", "allOf"] {
            assert!(!found.iter().any(|key| key == unreadable), "{name} uses {unreadable}");
        }
        for (property, schema) in tool["inputSchema"]["properties"].as_object().unwrap() {
            assert!(schema["description"].is_string(), "{name}.{property} says what it is");
        }
    }
}

#[tokio::test]
async fn results_fit_their_schema_and_stand_in_a_text_block_too() {
    let (gate, _web, tools) = all_tools().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let arguments = json!({
        "calculator": {"expression": "1+1"},
        "call_batch": {"calls": [{"tool": "gateway_status"}]},
        "call_chain": {"steps": [{"tool": "gateway_status"}]},
        "chat": {"prompt": "?"},
        "file_reader": {"path": file.path()},
        "gateway_status": {},
        "search_tools": {"query": "status"},
        "web_search": {"query": "forebay"},
    });
    for tool in &tools {
        let name = tool["name"].as_str().unwrap();
        let call = json!({"name": name, "arguments": arguments[name]});
        let got = gate.modern(&principal(Role::Admin), "tools/call", call).await;
        let result = &got.body["result"];
        assert_eq!(result["isError"], false, "{name}: {got:?}");
        let structured = &result["structuredContent"];
        assert!(
            jsonschema::is_valid(&tool["outputSchema"], structured),
            "{name}: {structured}"
        );
        let blocks = result["content"].as_array().unwrap();
        let same = |block: &Value| {
            serde_json::from_str::<Value>(block["text"].as_str().unwrap()).is_ok_and(|json| &json == structured)
        };
        assert!(blocks.iter().any(same), "{name}: {blocks:?}");
    }
}
