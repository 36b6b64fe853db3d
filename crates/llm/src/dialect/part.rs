//! The pieces of a message's content, in chat's own form.

use super::field::{Map, map};
use serde_json::{Value, json};

pub(super) fn text(text: impl Into<String>) -> Map {
    map(json!({ "type": "text", "text": text.into() }))
}

pub(super) fn image(url: impl Into<String>) -> Map {
    map(json!({ "type": "image_url", "image_url": { "url": url.into() } }))
}

/// A file with its bytes as a data URL.
pub(super) fn file(data: impl Into<String>, name: Option<String>) -> Map {
    let mut file = map(json!({ "file_data": data.into() }));
    if let Some(name) = name {
        file.insert("filename".to_owned(), name.into());
    }
    map(json!({ "type": "file", "file": file }))
}

/// A content of these parts: a plain text where one part is all there is to say, for engines whose templates know no
/// parts.
pub(super) fn content(parts: Vec<Value>) -> Value {
    if parts.is_empty() {
        return Value::Null;
    }
    if let [only] = parts.as_slice()
        && only["type"] == "text"
        && only.as_object().is_some_and(|part| part.len() == 2)
        && only["text"].is_string()
    {
        return only["text"].clone();
    }
    parts.into()
}

/// The parts of a content, whichever way it is written.
pub(super) fn parts(content: Value) -> Vec<Value> {
    match content {
        Value::Null => Vec::new(),
        Value::String(said) => vec![text(said).into()],
        Value::Array(parts) => parts,
        other => vec![other],
    }
}

/// All text of a content.
pub(super) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

/// Media type and base64 data of a data URL.
pub(super) fn split_data_url(url: &str) -> Option<(&str, &str)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let media = head.strip_suffix(";base64")?;
    let media = media.split(';').next().unwrap_or_default();
    (!media.is_empty()).then_some((media, data))
}

pub(super) fn data_url(media: &str, data: &str) -> String {
    format!("data:{media};base64,{data}")
}

/// A message with this content, which may be large.
pub(super) fn message(role: &str, content: Value) -> Value {
    let mut message = map(json!({ "role": role }));
    message.insert("content".to_owned(), content);
    message.into()
}

/// A tool call as a chat message holds it.
pub(super) fn call(id: &str, name: &str, arguments: &str) -> Value {
    json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } })
}

/// The arguments of a call as an object. Some engines leave them empty where there are none, and some encode them
/// twice.
pub(super) fn arguments(text: &str) -> Option<Map> {
    if text.trim().is_empty() {
        return Some(Map::new());
    }
    match serde_json::from_str(text).ok()? {
        Value::Object(arguments) => Some(arguments),
        Value::String(inner) => match serde_json::from_str(&inner).ok()? {
            Value::Object(arguments) => Some(arguments),
            _ => None,
        },
        _ => None,
    }
}

/// Takes away the numbers that blocks bear in chunks.
pub(super) fn unnumber(blocks: &mut [Value]) {
    for block in blocks.iter_mut().filter_map(Value::as_object_mut) {
        block.remove("index");
    }
}
