//! What holds of every conversion, whatever is said.

use super::{
    Deed, Errand, Gathered, Map, ToClient, Upstream, chat_to_answer, chat_to_upstream,
    clients::{assemble_message, assemble_response},
    field,
    golden::{CLIENTS, asked, events, folder, relay, upstream_named},
    part, request_to_chat, upstream_to_chat,
};
use forebay_domain::model::Endpoint;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::fs;

/// What somebody did in a conversation, whichever way it is written down.
#[derive(Debug, Clone, PartialEq)]
enum Did {
    Say(&'static str, String),
    Call(String, String, Map),
    Result(String, String),
}

/// A turn: what the user says, then calls with their results, then what the assistant says.
fn turns() -> impl Strategy<Value = Vec<Did>> {
    let text = "[a-z ü世🌍\"\\\\\n]{1,12}";
    let call = (
        "[a-z]{1,6}",
        proptest::collection::btree_map("[a-z]{1,3}", text, 0..3),
        text,
    );
    let calls = proptest::collection::vec(call, 0..4);
    let turn = (text, calls, text);
    proptest::collection::vec(turn, 1..4).prop_map(|turns| {
        let mut did = Vec::new();
        for (number, (asked, calls, answered)) in turns.into_iter().enumerate() {
            did.push(Did::Say("user", asked));
            let id = |at: usize| format!("call_{number}_{at}");
            for (at, (name, arguments, _)) in calls.iter().enumerate() {
                let arguments = arguments
                    .iter()
                    .map(|(key, value)| (key.clone(), value.as_str().into()));
                did.push(Did::Call(id(at), name.clone(), arguments.collect()));
            }
            did.extend(
                calls
                    .into_iter()
                    .enumerate()
                    .map(|(at, (_, _, result))| Did::Result(id(at), result)),
            );
            did.push(Did::Say("assistant", answered));
        }
        did
    })
}

fn written(did: &[Did]) -> Value {
    let mut messages: Vec<Value> = Vec::new();
    for did in did {
        match did {
            Did::Say(role, text) => messages.push(json!({ "role": role, "content": text })),
            Did::Call(id, name, arguments) => {
                if messages.last().is_none_or(|last| last.get("tool_calls").is_none()) {
                    messages.push(json!({ "role": "assistant", "content": null, "tool_calls": [] }));
                }
                let arguments = Value::Object(arguments.clone()).to_string();
                let calls = messages.last_mut().unwrap()["tool_calls"].as_array_mut().unwrap();
                calls.push(part::call(id, name, &arguments));
            }
            Did::Result(id, text) => {
                messages.push(json!({ "role": "tool", "tool_call_id": id, "content": text }));
            }
        }
    }
    messages.into()
}

fn read(messages: &Value) -> Vec<Did> {
    let mut did = Vec::new();
    for message in messages.as_array().unwrap() {
        let text = part::text_of(&message["content"]);
        let text_of = |key: &str| message[key].as_str().unwrap().to_owned();
        match message["role"].as_str().unwrap() {
            "tool" => did.push(Did::Result(text_of("tool_call_id"), text)),
            "user" => did.push(Did::Say("user", text)),
            "assistant" if text.is_empty() => {}
            "assistant" => did.push(Did::Say("assistant", text)),
            role => panic!("{role}"),
        }
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            let text = |pointer: &str| call.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
            let arguments = part::arguments(&text("/function/arguments")).unwrap();
            did.push(Did::Call(text("/id"), text("/function/name"), arguments));
        }
    }
    did
}

/// A whole answer of an engine.
fn answers() -> impl Strategy<Value = Map> {
    let text = "[a-z ü世🌍\"\\\\\n]{1,20}";
    let call = ("[a-z]{1,6}", proptest::collection::btree_map("[a-z]{1,3}", text, 0..3));
    let calls = proptest::collection::vec(call, 0..4);
    let maybe = || proptest::option::of(text);
    (maybe(), maybe(), calls, prop_oneof!["stop", "length", "content_filter"]).prop_map(
        |(reasoning, content, calls, reason)| {
            let calls = calls.into_iter().enumerate().map(|(at, (name, arguments))| {
                let arguments = serde_json::to_string(&arguments).unwrap();
                part::call(&format!("call_{at}"), &name, &arguments)
            });
            let calls: Vec<Value> = calls.collect();
            let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
            if let Some(reasoning) = reasoning {
                message["reasoning_content"] = reasoning.into();
            }
            if !calls.is_empty() {
                message["tool_calls"] = calls.into();
            }
            let choice = json!({ "index": 0, "message": message, "finish_reason": reason, "logprobs": null });
            field::map(json!({
                "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice],
                "usage": { "prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11 },
                "forebay": { "trace_id": "t" },
            }))
        },
    )
}

/// Cuts an answer into chunks: texts at any letter, the calls' pieces mixed with one another in any way.
fn chunks(answer: &Map, cuts: &[usize]) -> Vec<Map> {
    let mut cuts = cuts.iter().copied().cycle();
    let mut chunks = Vec::new();
    let chunk = |delta: Value| {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": null });
        field::map(json!({ "id": "chatcmpl-1", "created": 1, "model": "m", "choices": [choice] }))
    };
    let message = &answer["choices"][0]["message"];
    for key in ["reasoning_content", "content"] {
        let mut rest: Vec<char> = message[key].as_str().unwrap_or_default().chars().collect();
        while !rest.is_empty() {
            let length = (1 + cuts.next().unwrap() % 5).min(rest.len());
            let piece: String = rest.drain(..length).collect();
            chunks.push(chunk(json!({ (key): piece })));
        }
    }
    let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
    let mut rests: Vec<Vec<char>> = Vec::new();
    for (index, call) in calls.iter().enumerate() {
        let function = json!({ "name": call["function"]["name"], "arguments": "" });
        let call = json!({ "index": index, "id": call["id"], "type": "function", "function": function });
        chunks.push(chunk(json!({ "tool_calls": [call] })));
        rests.push(
            calls[index]["function"]["arguments"]
                .as_str()
                .unwrap()
                .chars()
                .collect(),
        );
    }
    loop {
        let open: Vec<usize> = (0..rests.len()).filter(|at| !rests[*at].is_empty()).collect();
        if open.is_empty() {
            break;
        }
        let index = open[cuts.next().unwrap() % open.len()];
        let length = (1 + cuts.next().unwrap() % 7).min(rests[index].len());
        let piece: String = rests[index].drain(..length).collect();
        chunks.push(chunk(
            json!({ "tool_calls": [{ "index": index, "function": { "arguments": piece } }] }),
        ));
    }
    let mut last = chunk(json!({}));
    last["choices"][0]["finish_reason"] = answer["choices"][0]["finish_reason"].clone();
    chunks.push(last);
    let mut usage = answer.clone();
    usage.insert("choices".to_owned(), json!([]));
    chunks.push(usage);
    chunks
}

fn stream(endpoint: Endpoint, chunks: Vec<Map>) -> (ToClient, Vec<(String, Value)>) {
    let mut to = ToClient::new(asked(endpoint));
    let mut out = to.begin();
    for chunk in chunks {
        out.extend(to.chunk(chunk).unwrap());
    }
    out.extend(to.finish().unwrap());
    out.extend(to.last_word(true));
    let events = events(str::from_utf8(&out).unwrap());
    (to, events)
}

/// Anything at all that is made of the words of these APIs.
fn anything() -> impl Strategy<Value = Value> {
    let words = include_str!("../../tests/dialect/words.txt")
        .split_whitespace()
        .collect::<Vec<_>>();
    let word = proptest::sample::select(words);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3_u64).prop_map(Value::from),
        word.clone().prop_map(Value::from),
        Just("data:image/png;base64,AA".into()),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            1 => proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            3 => proptest::collection::hash_map(word.clone(), inner, 0..8)
                .prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map>().into()),
        ]
    })
}

proptest! {
    // Each case is a whole stream in every dialect.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn it_does_not_matter_where_the_network_cuts(cuts in proptest::collection::vec(0..4000_usize, 0..12), at in 0..1000_usize) {
        for upstream in Upstream::ALL {
            let files = fs::read_dir(folder().join("streams").join(upstream_named(upstream))).unwrap();
            let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
            files.sort();
            let bytes = fs::read(&files[at % files.len()]).unwrap();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            for endpoint in CLIENTS {
                prop_assert_eq!(relay(upstream, endpoint, &pieces), relay(upstream, endpoint, &[&bytes]));
            }
        }
    }
}

proptest! {
    #[test]
    fn a_conversation_comes_back_from_anthropics_api(did in turns(), system in "[a-z]{1,8}") {
        let mut messages = written(&did);
        messages.as_array_mut().unwrap().insert(0, json!({ "role": "system", "content": system }));
        let chat = field::map(json!({ "model": "m", "messages": messages }));
        let there = chat_to_upstream(Upstream::Anthropic, chat).unwrap();
        prop_assert_eq!(&there["system"], &json!(system));
        let mut roles = there["messages"].as_array().unwrap().windows(2);
        prop_assert!(roles.all(|pair| pair[0]["role"] != pair[1]["role"]));
        let mut back = request_to_chat(Endpoint::Messages, there).unwrap();
        back["messages"].as_array_mut().unwrap().remove(0);
        prop_assert_eq!(read(&back["messages"]), did);
    }

    #[test]
    fn a_stream_tells_what_the_whole_answer_tells(answer in answers(), cuts in proptest::collection::vec(1..100_usize, 3..20)) {
        let chunks = chunks(&answer, &cuts);
        let mut gathered = Gathered::default();
        for chunk in &chunks {
            gathered.chunk(chunk).unwrap();
        }
        prop_assert_eq!(gathered.finish_reason(), answer["choices"][0]["finish_reason"].as_str());
        prop_assert_eq!(gathered.answer().unwrap(), answer.clone());

        let (to, told) = stream(Endpoint::Responses, chunks.clone());
        let whole = chat_to_answer(answer.clone(), &asked(Endpoint::Responses)).unwrap();
        prop_assert_eq!(assemble_response(&told), Value::Object(whole.clone()));
        prop_assert_eq!(to.response(), Some(&whole));

        let (_, told) = stream(Endpoint::Messages, chunks);
        let whole = chat_to_answer(answer, &asked(Endpoint::Messages)).unwrap();
        prop_assert_eq!(assemble_message(&told), Value::Object(whole));
    }

    #[test]
    fn nothing_that_anybody_says_is_too_odd(document in anything(), more in proptest::collection::vec(anything(), 0..6)) {
        let Value::Object(document) = document else { return Ok(()) };
        for endpoint in CLIENTS {
            let Ok(chat) = request_to_chat(endpoint, document.clone()) else { continue };
            for upstream in Upstream::ALL {
                let _ = chat_to_upstream(upstream, chat.clone());
            }
        }
        for upstream in Upstream::ALL {
            for endpoint in CLIENTS {
                if let Ok(chat) = upstream_to_chat(upstream, document.clone(), 0) {
                    let _ = chat_to_answer(chat, &asked(endpoint));
                }
                let first = Value::Object(document.clone());
                let events = std::iter::once(&first).chain(&more);
                let events: String = events.flat_map(|event| ["data: ".to_owned(), event.to_string(), "\n\n".to_owned()]).collect();
                relay(upstream, endpoint, &[events.as_bytes()]);
            }
        }
    }
}

/// The kept streams that end well are well-formed in the eyes of a client, and those that do not never look complete.
#[test]
fn a_stream_that_broke_never_looks_complete() {
    let (mut whole, mut broken) = (0, 0);
    for upstream in Upstream::ALL {
        for file in fs::read_dir(folder().join("streams").join(upstream_named(upstream))).unwrap() {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            for endpoint in CLIENTS {
                let out = String::from_utf8(relay(upstream, endpoint, &[&bytes])).unwrap();
                let mut told = events(&out);
                let is_broken = told
                    .last()
                    .unwrap()
                    .1
                    .as_str()
                    .is_some_and(|data| data.starts_with(": "));
                if is_broken {
                    told.pop();
                    broken += 1;
                    assert!(!out.contains("[DONE]") && !out.contains("message_stop"), "{out}");
                    assert!(!out.contains("event: response.completed"), "{out}");
                }
                match endpoint {
                    Endpoint::Responses => {
                        let response = assemble_response(&told);
                        assert_eq!(response["status"] == "failed", is_broken, "{out}");
                    }
                    Endpoint::Messages if !is_broken => {
                        assemble_message(&told);
                        whole += 1;
                    }
                    _ => {}
                }
            }
        }
    }
    assert!(whole >= 20 && broken >= 20, "{whole} whole, {broken} broken");
}

/// What the gateway did on the way stands between what the model said before and after.
#[test]
fn the_gateways_own_deeds_take_their_place_among_the_models_words() {
    let chunk = |delta: Value, reason: Option<&str>| {
        field::map(json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": reason }] }))
    };
    let errand = |key: usize, approval: Option<&str>| Errand {
        key,
        server: "docs".to_owned(),
        name: "search".to_owned(),
        arguments: r#"{"q":1}"#.to_owned(),
        approval: approval.map(str::to_owned),
    };
    let ended = |key: usize, result| Deed::Ended { key, result };
    let error = json!({ "type": "mcp_protocol_error", "code": -32603, "message": "It failed." });
    for endpoint in CLIENTS {
        let mut to = ToClient::new(asked(endpoint));
        let tools = vec![json!({ "name": "search", "input_schema": {} })];
        let server = "docs".to_owned();
        let mut out = to.tell(Deed::Lists { server, tools });
        assert_eq!(out.is_empty(), endpoint != Endpoint::Responses, "{endpoint:?}");
        out.extend(to.chunk(chunk(json!({ "content": "I look." }), None)).unwrap());
        for deed in [
            Deed::Calls(errand(0, Some("mcpr_1"))),
            Deed::Calls(errand(1, None)),
            // Nobody began this one.
            ended(2, Ok(String::new())),
            ended(1, Err(error.clone())),
            ended(0, Ok("found".to_owned())),
        ] {
            out.extend(to.tell(deed));
        }
        out.extend(to.chunk(chunk(json!({ "content": "It is there." }), None)).unwrap());
        out.extend(to.tell(Deed::Asks(errand(0, None))));
        out.extend(to.chunk(chunk(json!({}), Some("stop"))).unwrap());
        out.extend(to.finish().unwrap());
        out.extend(to.last_word(true));
        let events = events(str::from_utf8(&out).unwrap());
        if endpoint == Endpoint::Responses {
            let response = assemble_response(&events);
            let output = response["output"].as_array().unwrap();
            let kinds: Vec<_> = output.iter().map(|item| item["type"].as_str().unwrap()).collect();
            let expected = [
                "mcp_list_tools",
                "message",
                "mcp_call",
                "mcp_call",
                "message",
                "mcp_approval_request",
            ];
            assert_eq!(kinds, expected);
            let call = |at: usize| (&output[at]["status"], &output[at]["output"], &output[at]["error"]);
            assert_eq!(call(2), (&json!("completed"), &json!("found"), &Value::Null));
            assert_eq!(call(3), (&json!("failed"), &Value::Null, &error));
            assert_eq!(output[2]["approval_request_id"], "mcpr_1");
            assert_eq!(response["store"], true);
        }
    }
}
