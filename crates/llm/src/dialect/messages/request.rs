//! A request in Anthropic's API as a chat.
//!
//! What only that API can say is kept under the key `anthropic` of the object it belongs to.

use super::super::{
    ANTHROPIC,
    field::{Map, map, need_text, object, path, refused, rename, take, take_array, take_flag, take_object, text_at},
    part,
};
use forebay_domain::Failure;
use serde_json::{Value, json};

/// The fields of a request that chat has no word for.
const ONLY_HERE: [&str; 11] = [
    "cache_control",
    "container",
    "context_management",
    "diagnostics",
    "inference_geo",
    "mcp_servers",
    "service_tier",
    "speed",
    "thinking",
    "user_profile_id",
    "workspace_id",
];

pub(in super::super) fn request_to_chat(mut request: Map) -> Result<Map, Failure> {
    let mut only = Map::new();
    for key in ONLY_HERE {
        only.extend(request.remove_entry(key).filter(|(_, value)| !value.is_null()));
    }
    if request.get("max_tokens").and_then(Value::as_u64).is_none() {
        return Err(refused("max_tokens", "must be a number"));
    }
    rename(&mut request, "max_tokens", "max_completion_tokens");
    rename(&mut request, "stop_sequences", "stop");
    let messages = messages(&mut request)?;
    if let Some(mut metadata) = take_object(&mut request, "metadata", "")? {
        rename(&mut metadata, "user_id", "user");
        request.extend(metadata.remove_entry("user"));
    }
    convert_output(&mut request, &mut only)?;
    convert_tools(&mut request)?;
    if request.get("stream") == Some(&Value::Bool(true)) {
        request.insert("stream_options".to_owned(), json!({ "include_usage": true }));
    }
    if messages.last().is_some_and(|last| last["role"] == "assistant") {
        // The client has written the beginning of the answer, and waits for the rest of it.
        request.insert("continue_final_message".to_owned(), true.into());
        request.insert("add_generation_prompt".to_owned(), false.into());
    }
    request.insert("messages".to_owned(), messages.into());
    keep(&mut request, only);
    Ok(request)
}

/// Puts away what chat cannot say.
fn keep(holder: &mut Map, only: Map) {
    if !only.is_empty() {
        holder.insert(ANTHROPIC.to_owned(), only.into());
    }
}

fn convert_output(request: &mut Map, only: &mut Map) -> Result<(), Failure> {
    let Some(mut config) = take_object(request, "output_config", "")? else {
        return Ok(());
    };
    rename(&mut config, "effort", "reasoning_effort");
    request.extend(config.remove_entry("reasoning_effort"));
    if let Some(format) = take_object(&mut config, "format", "output_config")? {
        if text_at(&format, "type") != Some("json_schema") {
            return Err(refused("output_config.format", "must be of the type `json_schema`"));
        }
        let schema = json!({ "name": "answer", "schema": format.get("schema"), "strict": true });
        let format = json!({ "type": "json_schema", "json_schema": schema });
        request.insert("response_format".to_owned(), format);
    }
    if !config.is_empty() {
        only.insert("output_config".to_owned(), config.into());
    }
    Ok(())
}

fn convert_tools(request: &mut Map) -> Result<(), Failure> {
    if let Some(tools) = take_array(request, "tools", "")? {
        let tools: Result<Vec<Value>, Failure> = tools.into_iter().enumerate().map(tool).collect();
        request.insert("tools".to_owned(), tools?.into());
    }
    let Some(mut choice) = take_object(request, "tool_choice", "")? else {
        return Ok(());
    };
    let kind = need_text(&mut choice, "type", "tool_choice")?;
    let converted = match kind.as_str() {
        "auto" | "none" => kind.into(),
        "any" => "required".into(),
        "tool" => json!({ "type": "function", "function": { "name": need_text(&mut choice, "name", "tool_choice")? } }),
        _ => return Err(refused("tool_choice.type", "must be auto, any, tool or none")),
    };
    request.insert("tool_choice".to_owned(), converted);
    if take_flag(&mut choice, "disable_parallel_tool_use", "tool_choice")? == Some(true) {
        request.insert("parallel_tool_calls".to_owned(), false.into());
    }
    Ok(())
}

fn tool((index, tool): (usize, Value)) -> Result<Value, Failure> {
    let at = format!("tools[{index}]");
    let mut tool = object(tool, &at)?;
    if tool.get("type").is_some_and(|kind| kind != "custom" && !kind.is_null()) {
        // A tool that Anthropic runs or defines.
        return Ok(json!({ "type": ANTHROPIC, (ANTHROPIC): tool }));
    }
    tool.remove("type");
    let mut function = map(json!({ "name": need_text(&mut tool, "name", &at)? }));
    rename(&mut tool, "input_schema", "parameters");
    for key in ["description", "parameters", "strict"] {
        function.extend(tool.remove_entry(key).filter(|(_, value)| !value.is_null()));
    }
    let mut converted = map(json!({ "type": "function", "function": function }));
    keep(&mut converted, tool);
    Ok(converted.into())
}

fn messages(request: &mut Map) -> Result<Vec<Value>, Failure> {
    let mut out = Vec::new();
    if let Some(system) = take(request, "system") {
        let content = part::content(blocks(system, "system")?);
        out.push(part::message("system", content));
    }
    let Some(messages) = take_array(request, "messages", "")? else {
        return Err(refused("messages", "is missing"));
    };
    for (index, message) in messages.into_iter().enumerate() {
        let at = format!("messages[{index}]");
        let mut message = object(message, &at)?;
        let content = take(&mut message, "content").ok_or_else(|| refused(&path(&at, "content"), "is missing"))?;
        let content = split(content, &path(&at, "content"))?;
        match text_at(&message, "role") {
            Some("user") => user(content, &mut out),
            Some("assistant") => out.push(assistant(content)),
            Some("system") => out.push(part::message("system", part::content(content.parts))),
            _ => return Err(refused(&path(&at, "role"), "must be user, assistant or system")),
        }
    }
    Ok(out)
}

/// A content, by what becomes of its blocks.
#[derive(Default)]
struct Content {
    parts: Vec<Value>,
    calls: Vec<Value>,
    results: Vec<Value>,
    thoughts: Vec<Value>,
}

/// Results of tools come first in a message there, and are messages of their own here.
fn user(content: Content, out: &mut Vec<Value>) {
    let has_results = !content.results.is_empty();
    out.extend(content.results);
    if !content.parts.is_empty() || !has_results {
        let content = match part::content(content.parts) {
            Value::Null => "".into(),
            content => content,
        };
        out.push(part::message("user", content));
    }
}

fn assistant(content: Content) -> Value {
    let mut message = map(json!({ "role": "assistant", "content": part::content(content.parts) }));
    if !content.calls.is_empty() {
        message.insert("tool_calls".to_owned(), content.calls.into());
    }
    let thoughts = content.thoughts.iter().filter_map(|block| block["thinking"].as_str());
    let thoughts = thoughts.collect::<Vec<_>>().join("\n\n");
    if !thoughts.is_empty() {
        message.insert("reasoning_content".to_owned(), thoughts.into());
    }
    if !content.thoughts.is_empty() {
        message.insert(ANTHROPIC.to_owned(), json!({ "thinking": content.thoughts }));
    }
    message.into()
}

fn blocks(content: Value, at: &str) -> Result<Vec<Value>, Failure> {
    Ok(split(content, at)?.parts)
}

fn split(content: Value, at: &str) -> Result<Content, Failure> {
    let mut out = Content::default();
    let blocks = match content {
        Value::String(text) => {
            out.parts.push(part::text(text).into());
            return Ok(out);
        }
        Value::Array(blocks) => blocks,
        _ => return Err(refused(at, "must be a text or an array of blocks")),
    };
    for (index, block) in blocks.into_iter().enumerate() {
        let at = format!("{at}[{index}]");
        let block = object(block, &at)?;
        match text_at(&block, "type") {
            Some("tool_use") => out.calls.push(tool_use(block, &at)?),
            Some("tool_result") => out.results.push(tool_result(block, &at)?),
            Some("thinking" | "redacted_thinking") => out.thoughts.push(block.into()),
            _ => out.parts.push(self::block(block, &at)?.into()),
        }
    }
    Ok(out)
}

fn tool_use(mut block: Map, at: &str) -> Result<Value, Failure> {
    let id = need_text(&mut block, "id", at)?;
    let name = need_text(&mut block, "name", at)?;
    let input = take_object(&mut block, "input", at)?.unwrap_or_default();
    let mut call = map(part::call(&id, &name, &Value::Object(input).to_string()));
    block.remove("type");
    keep(&mut call, block);
    Ok(call.into())
}

fn tool_result(mut block: Map, at: &str) -> Result<Value, Failure> {
    let id = need_text(&mut block, "tool_use_id", at)?;
    let parts = match take(&mut block, "content") {
        Some(content) => blocks(content, &path(at, "content"))?,
        None => Vec::new(),
    };
    let content = match part::content(parts) {
        Value::Null => "".into(),
        content => content,
    };
    let mut message = map(json!({ "role": "tool", "tool_call_id": id, "content": content }));
    block.remove("type");
    keep(&mut message, block);
    Ok(message.into())
}

/// A block as a part; one that chat has no part for travels as it is.
fn block(mut block: Map, at: &str) -> Result<Map, Failure> {
    let whole = block.clone();
    let travels = || map(json!({ "type": ANTHROPIC, (ANTHROPIC): whole }));
    let kind = text_at(&block, "type").unwrap_or_default().to_owned();
    let mut part = match kind.as_str() {
        "text" => part::text(need_text(&mut block, "text", at)?),
        "image" | "document" => {
            let source = take_object(&mut block, "source", at)?.unwrap_or_default();
            let Some(part) = from_source(&kind, source, &mut block) else {
                return Ok(travels());
            };
            part
        }
        "" => return Err(refused(&path(at, "type"), "is missing")),
        _ => return Ok(travels()),
    };
    block.remove("type");
    block.retain(|_, value| !value.is_null());
    keep(&mut part, block);
    Ok(part)
}

/// A picture or a document that chat has a part for.
fn from_source(kind: &str, mut source: Map, block: &mut Map) -> Option<Map> {
    let how = text_at(&source, "type")?.to_owned();
    let mut text = |key: &str| match source.remove(key) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    match (kind, how.as_str()) {
        ("image", "base64") => Some(part::image(part::data_url(&text("media_type")?, &text("data")?))),
        ("image", "url") => Some(part::image(text("url")?)),
        ("document", "base64") => {
            let data = part::data_url(&text("media_type")?, &text("data")?);
            let name = match take(block, "title") {
                Some(Value::String(title)) => Some(title),
                _ => None,
            };
            Some(part::file(data, name))
        }
        ("document", "url") => Some(map(json!({ "type": "file", "file": { "file_url": text("url")? } }))),
        _ => None,
    }
}
