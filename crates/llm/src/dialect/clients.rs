//! How clients read their streams, and what they are promised of them.

use serde_json::{Value, json};

/// Plays Anthropic's client: puts a message together, and insists on the order that its documentation promises.
pub(super) fn assemble_message(events: &[(String, Value)]) -> Value {
    let mut message = events[0].1["message"].clone();
    let mut open: Option<(u64, String)> = None;
    for (name, event) in &events[1..] {
        let kind = event["type"].as_str().unwrap();
        assert_eq!(name, &format!("event: {kind}"));
        let content = message["content"].as_array_mut().unwrap();
        match kind {
            "content_block_start" => {
                assert_eq!(open, None, "a block begins within another");
                assert_eq!(event["index"], content.len());
                open = Some((content.len() as u64, String::new()));
                content.push(event["content_block"].clone());
            }
            "content_block_delta" => {
                let (index, json) = open.as_mut().unwrap();
                assert_eq!(event["index"], *index);
                let (block, delta) = (content.last_mut().unwrap(), &event["delta"]);
                for (kind, key) in [
                    ("text_delta", "text"),
                    ("thinking_delta", "thinking"),
                    ("signature_delta", "signature"),
                ] {
                    if delta["type"] == kind {
                        let so_far = block[key].as_str().unwrap().to_owned();
                        block[key] = (so_far + delta[key].as_str().unwrap()).into();
                    }
                }
                json.push_str(delta["partial_json"].as_str().unwrap_or_default());
            }
            "content_block_stop" => {
                let (index, json) = open.take().unwrap();
                assert_eq!(event["index"], index);
                if !json.is_empty() {
                    content.last_mut().unwrap()["input"] = serde_json::from_str(&json).unwrap_or_else(|_| json!({}));
                }
            }
            "message_delta" => {
                assert_eq!(open, None);
                for (key, value) in event.as_object().unwrap() {
                    match key.as_str() {
                        "type" => {}
                        "delta" => message
                            .as_object_mut()
                            .unwrap()
                            .extend(value.as_object().unwrap().clone()),
                        _ => message[key] = value.clone(),
                    }
                }
            }
            "message_stop" => assert_eq!(event, &events.last().unwrap().1),
            other => panic!("{other}"),
        }
    }
    assert_eq!(events.last().unwrap().1["type"], "message_stop");
    message
}

/// Plays a client of responses: every item and part begins before it goes on and ends once, and what was told piece by
/// piece is what is told in the end. Gives the last response.
pub(super) fn assemble_response(events: &[(String, Value)]) -> Value {
    let mut items: Vec<(Value, bool)> = Vec::new();
    let mut last = Value::Null;
    for (number, (name, event)) in events.iter().enumerate() {
        let kind = event["type"].as_str().unwrap();
        assert_eq!(name, &format!("event: {kind}"));
        assert_eq!(event["sequence_number"], number);
        if event.get("response").is_some() {
            last = event["response"].clone();
            assert_eq!(number < 2, matches!(kind, "response.created" | "response.in_progress"));
            assert!(number < 2 || number == events.len() - 1);
            continue;
        }
        let at = usize::try_from(event["output_index"].as_u64().unwrap()).unwrap();
        if kind == "response.output_item.added" {
            assert_eq!(at, items.len());
            items.push((event["item"].clone(), false));
            continue;
        }
        let (item, is_done) = &mut items[at];
        assert!(!*is_done, "an item goes on after its end");
        if kind == "response.output_item.done" {
            end_item(item, &event["item"]);
            *is_done = true;
        } else {
            assert_eq!(event["item_id"], item["id"]);
            match event["content_index"].as_u64() {
                Some(index) => tell_part(item, usize::try_from(index).unwrap(), kind, event),
                None if kind.contains("arguments") => go_on(item, "arguments", event),
                None => assert!(kind.contains(item["type"].as_str().unwrap()), "{kind}"),
            }
        }
    }
    let told = last["output"].as_array().unwrap();
    if last["status"] == "failed" {
        assert!(told.iter().all(|item| item["status"] != "in_progress"));
    } else {
        assert!(items.iter().all(|(_, is_done)| *is_done));
        assert!(items.iter().map(|(item, _)| item).eq(told));
    }
    last
}

fn end_item(item: &mut Value, done: &Value) {
    assert_ne!(done["status"], "in_progress");
    let mut as_told = done.clone();
    as_told["status"] = item["status"].clone();
    // A signature comes with the end of a thought, and a result with the end of a call.
    as_told.as_object_mut().unwrap().remove("encrypted_content");
    for key in ["output", "error", "tools"] {
        if let Some(begun) = item.get(key) {
            as_told[key] = begun.clone();
        }
    }
    if done.get("status").is_none() {
        as_told.as_object_mut().unwrap().remove("status");
    }
    assert_eq!(&as_told, item);
    *item = done.clone();
}

fn tell_part(item: &mut Value, index: usize, kind: &str, event: &Value) {
    let parts = item["content"].as_array_mut().unwrap();
    match kind {
        "response.content_part.added" => {
            assert_eq!(index, parts.len());
            parts.push(event["part"].clone());
        }
        "response.content_part.done" => assert_eq!(parts[index], event["part"]),
        "response.output_text.annotation.added" => {
            let annotations = parts[index]["annotations"].as_array_mut().unwrap();
            annotations.push(event["annotation"].clone());
        }
        "response.refusal.delta" | "response.refusal.done" => go_on(&mut parts[index], "refusal", event),
        _ => {
            if kind == "response.output_text.delta" {
                let logprobs = parts[index]["logprobs"].as_array_mut().unwrap();
                logprobs.extend(event["logprobs"].as_array().unwrap().iter().cloned());
            }
            go_on(&mut parts[index], "text", event);
        }
    }
}

fn go_on(holder: &mut Value, key: &str, event: &Value) {
    match event["delta"].as_str() {
        Some(delta) => {
            let so_far = holder[key].as_str().unwrap().to_owned();
            holder[key] = (so_far + delta).into();
        }
        None => assert_eq!(event[key], holder[key]),
    }
}
