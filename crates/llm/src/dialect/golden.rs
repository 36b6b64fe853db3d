//! Every request, answer and stream in `tests/dialect`, in every dialect it can be turned into.
//!
//! What comes out stands beside it under `expected/`, to be read by people: `UPDATE_GOLDEN=1` writes it anew.

use super::{
    Asked, Broken, FromUpstream, Map, ToClient, Upstream, chat_to_answer, chat_to_upstream, native, request_to_chat,
    upstream_to_chat,
};
use crate::sse::Splitter;
use forebay_domain::{Code, Failure, model::Endpoint};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const CREATED_S: u64 = 1_763_700_000;
pub(super) const CLIENTS: [Endpoint; 4] = [
    Endpoint::Chat,
    Endpoint::Completions,
    Endpoint::Responses,
    Endpoint::Messages,
];

pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialect")
}

fn named(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Chat => "chat",
        Endpoint::Completions => "completions",
        Endpoint::Embeddings => "embeddings",
        Endpoint::Responses => "responses",
        Endpoint::Messages => "messages",
    }
}

pub(super) fn upstream_named(upstream: Upstream) -> &'static str {
    match upstream {
        Upstream::OpenAi => "openai",
        Upstream::Anthropic => "anthropic",
    }
}

pub(super) fn asked(endpoint: Endpoint) -> Asked {
    let request = json!({
        "model": "assistant",
        "instructions": "Be brief.",
        "temperature": 0.5,
        "stream_options": { "include_usage": true },
    });
    Asked::new(endpoint, request.as_object().unwrap(), "0123abcd".to_owned(), CREATED_S)
}

fn check(kind: &str, convert: impl Fn(&[u8]) -> String) {
    check_as(kind, kind, convert, same_json);
}

/// Runs `convert` over each file of a folder, and compares what it makes with what is kept.
fn check_as(kind: &str, into: &str, convert: impl Fn(&[u8]) -> String, same: fn(&str, &str) -> bool) {
    let (given, kept) = (folder().join(kind), folder().join("expected").join(into));
    #[expect(
        clippy::disallowed_methods,
        reason = "how a person asks this test to write the files anew"
    )]
    let renew = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut names = BTreeSet::new();
    let mut wrong = Vec::new();
    for file in fs::read_dir(&given).unwrap() {
        let file = file.unwrap().path();
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let made = convert(&fs::read(&file).unwrap());
        if renew {
            fs::create_dir_all(&kept).unwrap();
            fs::write(kept.join(&name), &made).unwrap();
        }
        let expected = fs::read_to_string(kept.join(&name)).unwrap_or_default();
        if !same(&expected, &made) {
            wrong.push(format!("--- {into}/{name}\nexpected:\n{expected}\nmade:\n{made}"));
        }
        names.insert(name);
    }
    assert!(!names.is_empty(), "no files in {}", given.display());
    assert!(wrong.is_empty(), "UPDATE_GOLDEN=1 renews:\n{}", wrong.join("\n"));
    let kept = fs::read_dir(kept).unwrap();
    let kept: BTreeSet<String> = kept
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(kept, names, "what is kept of {into}, and what there is");
}

fn same_json(left: &str, right: &str) -> bool {
    let read = |text: &str| serde_json::from_str::<Value>(text).ok();
    read(left).is_some() && read(left) == read(right)
}

fn pretty(value: &Value) -> String {
    format!("{}\n", serde_json::to_string_pretty(value).unwrap())
}

fn result(result: Result<Map, Failure>) -> Value {
    match result {
        Ok(map) => map.into(),
        Err(failure) => {
            assert_eq!(failure.code, Code::InvalidRequest);
            json!({ "refused": failure.message, "param": failure.details.unwrap()["param"] })
        }
    }
}

fn broken(result: Result<Map, Broken>) -> Value {
    result.map_or_else(|broken| json!({ "broken": format!("{broken:?}") }), Value::Object)
}

#[test]
fn requests_in_every_dialect() {
    for endpoint in CLIENTS {
        let convert = |given: &[u8]| {
            let request: Map = serde_json::from_slice(given).unwrap();
            let chat = request_to_chat(endpoint, request);
            let mut out = json!({});
            if let Ok(chat) = &chat {
                for upstream in Upstream::ALL {
                    let name = upstream_named(upstream);
                    out[name] = result(chat_to_upstream(upstream, chat.clone()));
                }
            }
            out["chat"] = result(chat);
            pretty(&out)
        };
        check(&format!("requests/{}", named(endpoint)), convert);
    }
}

/// What an upstream of a client's own dialect gets by way of the canonical form says what the client said. Native
/// requests go by their bytes, but a gateway that adds to a request has to take this way.
#[test]
fn a_request_comes_home_unchanged() {
    for (endpoint, upstream) in [
        (Endpoint::Chat, Upstream::OpenAi),
        (Endpoint::Messages, Upstream::Anthropic),
    ] {
        assert!(native(endpoint, upstream));
        let mut count = 0;
        for file in fs::read_dir(folder().join("requests").join(named(endpoint))).unwrap() {
            let file = file.unwrap().path();
            let request: Map = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            let there = request_to_chat(endpoint, request.clone());
            if file.ends_with("unsigned-thoughts.json") {
                // Kept from the upstream on purpose.
                continue;
            }
            let Ok(back) = there.and_then(|chat| chat_to_upstream(upstream, chat)) else {
                continue;
            };
            assert_eq!(normal(back.into()), normal(request.into()), "{}", file.display());
            count += 1;
        }
        assert!(count >= 10, "{count} requests came home");
    }
}

/// Leaves out the freedoms of notation: texts as blocks, places of system messages, defaults.
fn normal(value: Value) -> Value {
    let Value::Object(mut request) = value else {
        return value;
    };
    request.remove("anthropic");
    if request.get("tools").is_some_and(|tools| *tools == json!([])) {
        request.remove("tools");
        request.remove("tool_choice");
    }
    let mut system = Vec::new();
    if let Some(said) = request.remove("system") {
        system.extend(super::part::parts(said));
    }
    let messages = request.remove("messages").unwrap_or_default();
    let messages = messages.as_array().cloned().unwrap_or_default();
    let mut turns = Vec::new();
    for mut message in messages {
        message.as_object_mut().unwrap().remove("anthropic");
        let parts = super::part::parts(message["content"].take())
            .into_iter()
            .map(block)
            .collect::<Vec<_>>();
        message["content"] = parts.clone().into();
        if message["role"] == "system" && request.contains_key("max_tokens") {
            system.extend(parts);
        } else {
            turns.push(message);
        }
    }
    request.insert("messages".to_owned(), turns.into());
    request.insert("system".to_owned(), system.into());
    if let Some(Value::Array(tools)) = request.get_mut("tools") {
        for tool in tools.iter_mut().filter(|tool| tool["type"] == "custom") {
            tool.as_object_mut().unwrap().remove("type");
        }
    }
    request.into()
}

fn block(mut block: Value) -> Value {
    if block["type"] == "tool_result" {
        let parts = super::part::parts(block["content"].take());
        block["content"] = parts.into();
    }
    block
}

#[test]
fn answers_in_every_dialect() {
    for upstream in Upstream::ALL {
        let convert = |given: &[u8]| {
            let answer: Map = serde_json::from_slice(given).unwrap();
            let chat = upstream_to_chat(upstream, answer, CREATED_S);
            let mut out = json!({});
            match chat {
                Ok(chat) => {
                    for endpoint in CLIENTS {
                        out[named(endpoint)] = broken(chat_to_answer(chat.clone(), &asked(endpoint)));
                    }
                }
                chat @ Err(_) => out = broken(chat),
            }
            pretty(&out)
        };
        check(&format!("answers/{}", upstream_named(upstream)), convert);
    }
}

/// A stream as one client gets it: how the turn drives the two ends.
pub(super) fn relay(upstream: Upstream, endpoint: Endpoint, pieces: &[&[u8]]) -> Vec<u8> {
    let mut splitter = Splitter::new();
    let mut pieces = pieces.iter();
    let (mut from, mut to) = (FromUpstream::new(upstream, CREATED_S), ToClient::new(asked(endpoint)));
    let mut out = Vec::new();
    let ended = loop {
        let Some(event) = splitter.next_event().unwrap() else {
            if let Some(piece) = pieces.next() {
                splitter.push(piece);
                continue;
            }
            break from.may_end().then_some(()).ok_or(Broken::Unfinished);
        };
        match from.event(&event).map(|chunk| chunk.map(|chunk| to.chunk(chunk))) {
            Ok(None) => {}
            Ok(Some(Ok(bytes))) => out.extend(bytes),
            Ok(Some(Err(broken))) | Err(broken) => break Err(broken),
        }
    };
    match ended.and_then(|()| to.finish()) {
        Ok(bytes) => {
            out.extend(bytes);
            out.extend(to.last_word(true));
        }
        Err(broken) => {
            let failure = Failure::new(Code::UpstreamTruncated, "It broke off.").hint("Try again.");
            out.extend(to.abort(&failure));
            out.extend(format!(": {broken:?}\n\n").bytes());
        }
    }
    out
}

/// The events of a stream, each with its name and its data.
pub(super) fn events(stream: &str) -> Vec<(String, Value)> {
    let mut events = Vec::new();
    for event in stream.split("\n\n").filter(|event| !event.is_empty()) {
        let mut lines = event.lines().peekable();
        let name = lines.next_if(|line| line.starts_with("event: ")).unwrap_or_default();
        let data = lines.next().unwrap();
        let json = data
            .strip_prefix("data: ")
            .and_then(|json| serde_json::from_str(json).ok());
        events.push((name.to_owned(), json.unwrap_or_else(|| data.into())));
        assert_eq!(lines.next(), None, "{event}");
    }
    events
}

fn same_stream(left: &str, right: &str) -> bool {
    !left.is_empty() && events(left) == events(right)
}

#[test]
fn streams_in_every_dialect() {
    for upstream in Upstream::ALL {
        for endpoint in CLIENTS {
            let kind = format!("streams/{}", upstream_named(upstream));
            let into = format!("{kind}/to-{}", named(endpoint));
            let convert = |given: &[u8]| String::from_utf8(relay(upstream, endpoint, &[given])).unwrap();
            check_as(&kind, &into, convert, same_stream);
        }
    }
}

/// A response is kept and shown: what was meant for a tool's server alone is not in it.
#[test]
fn a_response_repeats_no_credentials() {
    let request = json!({
        "model": "m",
        "tools": [{
            "type": "mcp", "server_label": "docs", "authorization": "hidden-1", "headers": { "x-key": "hidden-2" },
        }],
    });
    let asked = Asked::new(Endpoint::Responses, request.as_object().unwrap(), "1".to_owned(), 1);
    let chat = json!({ "choices": [{ "message": { "content": "x" }, "finish_reason": "stop" }] });
    let answer = chat_to_answer(chat.as_object().unwrap().clone(), &asked).unwrap();
    assert_eq!(answer["tools"], json!([{ "type": "mcp", "server_label": "docs" }]));
    assert!(!Value::Object(answer).to_string().contains("hidden"));
}

#[test]
fn each_endpoint_has_its_native_upstream() {
    for (endpoint, expected) in [
        (Endpoint::Chat, vec![Upstream::OpenAi]),
        (Endpoint::Completions, vec![Upstream::OpenAi]),
        (Endpoint::Embeddings, vec![Upstream::OpenAi]),
        (Endpoint::Responses, vec![]),
        (Endpoint::Messages, vec![Upstream::Anthropic]),
    ] {
        let found: Vec<Upstream> = Upstream::ALL
            .into_iter()
            .filter(|upstream| native(endpoint, *upstream))
            .collect();
        assert_eq!(found, expected, "{endpoint:?}");
    }
    for upstream in Upstream::ALL {
        assert!(native(upstream.endpoint(), upstream));
    }
}
