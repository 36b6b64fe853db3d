//! Against the wordiest engine there can be: each byte is a token, and its template writes tools as JSON with an indent of
//! four, results of tools as JSON, and a page of its own before and after.

use super::*;
use crate::dialect::{self, Upstream};
use proptest::prelude::*;
use serde_json::ser::PrettyFormatter;
use std::{fs, path::Path};

fn map(value: Value) -> Map {
    let Value::Object(map) = value else { panic!("{value}") };
    map
}

fn bound(endpoint: Endpoint, request: Value) -> Bound {
    Bound::of(endpoint, &map(request)).unwrap()
}

fn input(request: Value) -> u64 {
    bound(Endpoint::Chat, request).tokens(1, None).unwrap().input
}

/// What the golden engine reads of a chat, in the form of OpenAI's API or of Anthropic's.
fn golden_count(chat: &Map) -> u64 {
    const PREAMBLE: usize = 500;
    const ON_TOOLS: usize = 700;
    const MARKS: usize = 8;
    let mut tokens = PREAMBLE;
    for tools in ["tools", "functions"]
        .iter()
        .filter_map(|key| chat.get(*key)?.as_array())
    {
        tokens += ON_TOOLS + tools.iter().map(|tool| pretty(tool).len()).sum::<usize>();
    }
    for told in ["system", "response_format", "output_config"] {
        tokens += chat.get(told).map_or(0, |told| said(told, true) + MARKS);
    }
    for message in chat.get("messages").and_then(Value::as_array).into_iter().flatten() {
        let is_result = message["role"] == "tool";
        tokens += MARKS + message["role"].as_str().unwrap_or_default().len() + said(&message["content"], is_result);
        tokens += message["name"].as_str().map_or(0, str::len);
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            tokens += pretty(call).len();
        }
    }
    tokens as u64
}

/// Texts; as JSON where a template writes them so.
fn said(content: &Value, as_json: bool) -> usize {
    match content {
        Value::Null => 0,
        Value::String(text) if as_json => content.to_string().len().max(text.len()),
        Value::String(text) => text.len(),
        Value::Array(parts) => parts
            .iter()
            .map(|part| match part["type"].as_str() {
                Some("text") => part["text"].as_str().map_or(0, str::len),
                Some("image_url" | "image") => 48_169,
                Some("input_audio" | "file" | "document") => 0,
                _ => pretty(part).len(),
            })
            .sum(),
        other => pretty(other).len(),
    }
}

fn pretty(value: &Value) -> String {
    let mut out = Vec::new();
    let mut writer = serde_json::Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(b"    "));
    serde::Serialize::serialize(value, &mut writer).unwrap();
    String::from_utf8(out).unwrap()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z ]{0,200}",
        ".{0,60}",
        "[\\n\\t\"\\\\{}\u{1}]{0,60}",
        "(漢|字|🦀|é|ﷺ){0,60}",
    ]
}

fn data() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{1,12}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn content() -> impl Strategy<Value = Value> {
    let image = json!({ "type": "image_url", "image_url": { "url": "data:image/png;base64,AAAA" } });
    let part = prop_oneof![
        3 => text().prop_map(|text| json!({ "type": "text", "text": text })),
        1 => Just(image),
    ];
    prop_oneof![
        4 => text().prop_map(Value::from),
        1 => prop::collection::vec(part, 0..4).prop_map(Value::from),
    ]
}

fn message() -> impl Strategy<Value = Value> {
    let call = (text(), data()).prop_map(|(name, arguments)| {
        json!({ "id": "call_1", "type": "function", "function": { "name": name, "arguments": arguments.to_string() } })
    });
    let role = prop::sample::select(vec!["system", "user", "assistant", "tool"]);
    (role, content(), prop::collection::vec(call, 0..3)).prop_map(|(role, content, calls)| {
        let mut message = json!({ "role": role, "content": content });
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        message
    })
}

fn chat() -> impl Strategy<Value = Value> {
    let tool = (text(), text(), data()).prop_map(|(name, description, parameters)| {
        let function = json!({ "name": name, "description": description, "parameters": parameters });
        json!({ "type": "function", "function": function })
    });
    let (messages, tools) = (
        prop::collection::vec(message(), 0..6),
        prop::collection::vec(tool, 0..4),
    );
    (messages, tools).prop_map(|(messages, tools)| {
        let mut chat = json!({ "model": "m", "messages": messages });
        if !tools.is_empty() {
            chat["tools"] = tools.into();
        }
        chat
    })
}

proptest! {
    #[test]
    fn the_bound_is_never_below_what_the_golden_engine_counts(chat in chat()) {
        let golden = golden_count(chat.as_object().unwrap());
        prop_assert!(input(chat) >= golden);
    }

    #[test]
    fn nothing_panics_over_a_request(request in data(), key in "[a-z_]{1,12}") {
        let request = json!({ (key): request, "tools": request, "messages": request, "n": 1 });
        for endpoint in Endpoint::ALL {
            let _ = Bound::of(endpoint, request.as_object().unwrap());
        }
    }
}

/// Every request that is kept for the translation, as each upstream gets it.
#[test]
fn what_a_translation_makes_of_a_request_is_within_its_bound() {
    let mut checked = 0;
    for endpoint in [
        Endpoint::Chat,
        Endpoint::Completions,
        Endpoint::Responses,
        Endpoint::Messages,
    ] {
        let name = if endpoint == Endpoint::Chat {
            "chat"
        } else {
            endpoint.path()
        };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/dialect/requests")
            .join(name);
        for file in fs::read_dir(&folder).unwrap() {
            let file = file.unwrap().path();
            let request: Map = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            let Ok(bound) = Bound::of(endpoint, &request) else {
                continue;
            };
            let Ok(chat) = dialect::request_to_chat(endpoint, request) else {
                continue;
            };
            let Ok(tokens) = bound.tokens(1, None) else { continue };
            for upstream in Upstream::ALL {
                if let Ok(sent) = dialect::chat_to_upstream(upstream, chat.clone()) {
                    assert!(tokens.input >= golden_count(&sent), "{} {upstream:?}", file.display());
                    checked += 1;
                }
            }
        }
    }
    assert!(checked >= 40, "{checked} requests were checked");
}

#[test]
fn what_has_no_size_in_the_request_needs_a_context() {
    let user = |content: Value| json!({ "messages": [{ "role": "user", "content": content }] });
    for (request, expected) in [
        (
            user(json!([{ "type": "video_url", "video_url": { "url": "http://h" } }])),
            "video_url",
        ),
        (user(json!([{ "type": "file", "file": { "file_id": "f" } }])), "file"),
        (
            user(json!([{ "type": "document", "source": { "type": "url", "url": "http://h" } }])),
            "source",
        ),
        (
            json!({ "messages": [{ "role": "assistant", "audio": { "id": "a" } }] }),
            "audio",
        ),
        (
            user(json!([{ "type": "image_url", "Image_URL": { "url": "http://h" } }])),
            "Image_URL",
        ),
        (json!({ "messages": [], "chat_template": "{{ 9 }}" }), "chat_template"),
        (json!({ "messages": [], "mcp_servers": [{}] }), "mcp_servers"),
        (
            json!({ "messages": [], "anthropic": { "container": "c" } }),
            "container",
        ),
        (
            json!({ "messages": [], "tools": [{ "type": "web_search_20250305", "name": "web_search" }] }),
            "web_search_20250305",
        ),
    ] {
        let bound = bound(Endpoint::Chat, request);
        assert_eq!(bound.tokens(9, None), Err(expected));
        assert_eq!(bound.tokens(9, Some(1_000)), Ok(Tokens::new(1_000, 9)), "{expected}");
    }
}

#[test]
fn a_tools_arguments_are_no_attachments() {
    let tool = json!({ "type": "function", "function": { "name": "f", "parameters": { "properties": {
        "file_id": { "type": "string" }, "image_url": "http://h", "source": { "type": "url" } } } } });
    let chat = json!({ "tools": [tool], "messages": [
        { "role": "assistant", "content": [{ "type": "tool_use", "input": { "file_id": "x", "image_url": "y" } }] }] });
    let tokens = bound(Endpoint::Chat, chat).tokens(0, None).unwrap();
    assert!(tokens.input < 5_000, "{tokens:?}");
}

#[test]
fn a_picture_counts_as_one_and_not_by_its_bytes() {
    let part = |url: String| json!([{ "type": "image_url", "image_url": { "url": url } }]);
    let chat = |content: Value| json!({ "messages": [{ "role": "user", "content": content }] });
    let data = format!("data:image/png;base64,{}", "A".repeat(1 << 20));
    let one = input(chat(part(data.clone())));
    assert!((IMAGE_TOKENS..IMAGE_TOKENS + 1_000).contains(&one), "{one}");
    let anthropic = json!([{ "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "A".repeat(9_000) } }]);
    assert!((IMAGE_TOKENS..IMAGE_TOKENS + 1_000).contains(&input(chat(anthropic))));
    let text = input(chat(data.clone().into()));
    assert!(text > 1 << 20, "what is said is text, however it looks: {text}");
    let hidden = input(chat(json!([{ "type": "text", "text": data }])));
    assert!(hidden > 1 << 20, "{hidden}");
    let spoken = json!([{ "type": "input_audio", "input_audio": { "data": "A".repeat(160_000), "format": "mp3" } }]);
    assert!((10_000..13_000).contains(&input(chat(spoken))));
}

#[test]
fn the_output_is_what_the_request_allows() {
    let output = |endpoint, request: Value| {
        let bound = bound(endpoint, request);
        bound.tokens(bound.each(4_096), None).unwrap().output
    };
    for (endpoint, request, expected) in [
        (Endpoint::Chat, json!({}), 4_096),
        (Endpoint::Chat, json!({ "max_tokens": null }), 4_096),
        (Endpoint::Chat, json!({ "max_tokens": 10 }), 10),
        (
            Endpoint::Chat,
            json!({ "max_tokens": 10, "max_completion_tokens": 30 }),
            30,
        ),
        (Endpoint::Chat, json!({ "max_tokens": 10, "n": 3 }), 30),
        (Endpoint::Chat, json!({ "max_tokens": 10, "n_predict": 500 }), 500),
        (Endpoint::Chat, json!({ "n_predict": 5 }), 4_096),
        (Endpoint::Chat, json!({ "max_tokens": 10, "n_cmpl": 4 }), 40),
        (
            Endpoint::Chat,
            json!({ "max_tokens": 10, "prediction": { "type": "content", "content": "" } }),
            54,
        ),
        (Endpoint::Responses, json!({ "max_output_tokens": 7 }), 7),
        (Endpoint::Messages, json!({ "max_tokens": 9 }), 9),
        (
            Endpoint::Completions,
            json!({ "prompt": "a", "max_tokens": 2, "n": 2, "best_of": 5 }),
            10,
        ),
        (
            Endpoint::Completions,
            json!({ "prompt": ["a", "b"], "max_tokens": 2, "n": 2 }),
            8,
        ),
        (
            Endpoint::Completions,
            json!({ "prompt": [[1, 2], [3]], "max_tokens": 2 }),
            4,
        ),
        (Endpoint::Completions, json!({ "prompt": [1, 2], "max_tokens": 2 }), 2),
        (Endpoint::Embeddings, json!({ "input": ["a", "b"] }), 0),
        (
            Endpoint::Chat,
            json!({ "max_tokens": u64::MAX, "n": u64::MAX }),
            u64::MAX,
        ),
    ] {
        assert_eq!(output(endpoint, request.clone()), expected, "{request}");
    }
}

#[test]
fn a_limit_that_may_be_read_in_two_ways_is_refused() {
    for field in ["max_tokens", "max_completion_tokens", "n_predict", "n", "best_of"] {
        for value in [json!(-1), json!(2.5), json!("9"), json!(1e3), json!([1])] {
            let refused = Bound::of(Endpoint::Chat, &map(json!({ (field): value }))).unwrap_err();
            assert_eq!(refused.code, Code::InvalidRequest);
            assert!(
                refused
                    .message
                    .starts_with(&format!("`{field}` must be a whole number")),
                "{refused}"
            );
        }
    }
}

#[test]
fn a_limit_in_another_case_is_refused() {
    for field in [
        "MAX_TOKENS",
        "Max_Completion_Tokens",
        "N_Predict",
        "N",
        "Best_Of",
        "Chat_Template",
    ] {
        let refused = Bound::of(Endpoint::Chat, &map(json!({ "max_tokens": 9, (field): 100_000 }))).unwrap_err();
        assert_eq!(refused.code, Code::InvalidRequest);
        assert!(
            refused.message.starts_with(&format!("`{field}` may be read as")),
            "{refused}"
        );
    }
}

#[test]
fn a_context_is_a_bound_for_each_text() {
    let long = "x".repeat(9_000);
    let one = bound(Endpoint::Embeddings, json!({ "input": long }));
    assert_eq!(one.tokens(0, Some(512)).unwrap().input, 512);
    let two = bound(Endpoint::Embeddings, json!({ "input": [long, long] }));
    assert_eq!(two.tokens(0, Some(512)).unwrap().input, 1_024);
    let chat = bound(Endpoint::Chat, json!({ "max_tokens": 9_000 }));
    assert_eq!(chat.tokens(9_000, Some(2_048)).unwrap().output, 2_048);
}
