//! A canonical request as an OpenAI-compatible engine takes it.
//!
//! It is that already, but for what only Anthropic's API can say, and for tools that somebody else was to run.

use super::{
    ANTHROPIC,
    field::{Map, refused, unknown_type, unsaid},
    part,
};
use forebay_domain::Failure;
use serde_json::{Value, json};

const WHOSE: &str = "OpenAI's chat API";
/// What an Anthropic request may hold and cannot do without.
const NEEDED: [&str; 3] = ["container", "mcp_servers", "inference_geo"];

pub(super) fn from_chat(mut chat: Map) -> Result<Map, Failure> {
    if let Some(Value::Object(only)) = chat.remove(ANTHROPIC) {
        for key in NEEDED {
            if only.get(key).is_some_and(|value| !value.is_null()) {
                return Err(unsaid(key, WHOSE));
            }
        }
    }
    if let Some(Value::Array(messages)) = chat.get_mut("messages") {
        for (index, message) in messages.iter_mut().enumerate() {
            strip_message(message, &format!("messages[{index}]"))?;
        }
        hoist(messages);
    }
    let tools = chat.get("tools").and_then(Value::as_array);
    if tools.is_none_or(Vec::is_empty) {
        // Nothing to choose among: engines refuse a choice then, where other APIs allow it.
        chat.remove("tools");
        chat.remove("parallel_tool_calls");
        if chat
            .get("tool_choice")
            .is_some_and(|choice| choice == "auto" || choice == "none")
        {
            chat.remove("tool_choice");
        }
    }
    if let Some(Value::Array(tools)) = chat.get_mut("tools") {
        for (index, tool) in tools.iter_mut().enumerate() {
            check_tool(tool, &format!("tools[{index}]"))?;
        }
    }
    if let Some(choice) = chat.get("tool_choice") {
        check_kind(choice, "tool_choice")?;
    }
    Ok(chat)
}

/// Chat keeps what a tool or a choice says under the name of its type. What stands there otherwise belongs to another
/// API, and nobody has taken care of it.
fn check_kind(value: &Value, at: &str) -> Result<(), Failure> {
    let Some(kind) = value.as_object().and_then(|object| object.get("type")?.as_str()) else {
        return Ok(());
    };
    if kind == ANTHROPIC || value.get(kind).is_none() {
        let named = value[ANTHROPIC]["type"].as_str().unwrap_or(kind);
        return Err(refused(
            at,
            format_args!("is of the type `{named}`, which nobody runs here"),
        ));
    }
    Ok(())
}

fn check_tool(tool: &mut Value, at: &str) -> Result<(), Failure> {
    check_kind(tool, at)?;
    if let Value::Object(tool) = tool {
        tool.remove(ANTHROPIC);
    }
    Ok(())
}

fn strip_message(message: &mut Value, at: &str) -> Result<(), Failure> {
    let Value::Object(message) = message else {
        return Ok(());
    };
    message.remove(ANTHROPIC);
    for call in message
        .get_mut("tool_calls")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Value::Object(call) = call {
            call.remove(ANTHROPIC);
        }
    }
    let Some(Value::Array(parts)) = message.get_mut("content") else {
        return Ok(());
    };
    for (index, part) in parts.iter_mut().enumerate() {
        let Value::Object(part) = part else { continue };
        let at = format!("{at}.content[{index}]");
        let only = part.remove(ANTHROPIC);
        if part.get("type").is_some_and(|kind| kind == ANTHROPIC) {
            let kind = only
                .as_ref()
                .and_then(|block| block["type"].as_str())
                .unwrap_or_default();
            return Err(unknown_type(&at, kind, WHOSE));
        }
        if part.get("file").is_some_and(|file| file.get("file_url").is_some()) {
            return Err(unsaid(&format!("{at}.file.file_url"), WHOSE));
        }
    }
    Ok(())
}

/// Chat knows only text in the answer of a tool. Pictures and files go into a message of the user right after, which
/// is where engines look for them.
fn hoist(messages: &mut Vec<Value>) {
    let mut out = Vec::with_capacity(messages.len());
    let mut waiting: Vec<Value> = Vec::new();
    for mut message in messages.drain(..) {
        if message["role"] == "tool" {
            waiting.extend(attachments(&mut message));
        } else if !waiting.is_empty() {
            let mut parts = std::mem::take(&mut waiting);
            if message["role"] == "user" {
                parts.extend(part::parts(message["content"].take()));
                message["content"] = parts.into();
            } else {
                out.push(json!({ "role": "user", "content": parts }));
            }
        }
        out.push(message);
    }
    if !waiting.is_empty() {
        out.push(json!({ "role": "user", "content": waiting }));
    }
    *messages = out;
}

/// Takes out of a tool's message what is no text, and says there where it went.
fn attachments(message: &mut Value) -> Vec<Value> {
    let Some(Value::Array(parts)) = message.get_mut("content") else {
        return Vec::new();
    };
    let (texts, others): (Vec<Value>, Vec<Value>) = parts.drain(..).partition(|part| part["type"] == "text");
    *parts = texts;
    if others.is_empty() {
        return others;
    }
    if parts.is_empty() {
        parts.push(part::text("The result follows in the next message.").into());
    }
    let id = message["tool_call_id"].as_str().unwrap_or_default();
    let note = format!("What the tool call {id} returned beside text:");
    std::iter::once(part::text(note).into()).chain(others).collect()
}
