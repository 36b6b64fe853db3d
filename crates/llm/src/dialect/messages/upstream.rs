//! A canonical request as Anthropic's API takes it.

use super::super::{
    ANTHROPIC,
    field::{
        Map, map, need_text, object, path, refused, take, take_array, take_flag, take_object, take_text, text_at,
        unknown_type, unsaid,
    },
    part,
};
use forebay_domain::Failure;
use serde_json::{Value, json};

const WHOSE: &str = "Anthropic's API";
/// The API wants a limit. Every model there can do as much.
const MAX_TOKENS_DEFAULT: u64 = 4096;
/// Hints and labels: an answer without them is the same answer.
const DROPPED: [&str; 14] = [
    "add_generation_prompt",
    "continue_final_message",
    "metadata",
    "modalities",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "seed",
    "service_tier",
    "store",
    "stream_options",
    "verbosity",
];
/// What changes the answer, unless it has its neutral value.
const REFUSED: [(&str, &str); 11] = [
    ("audio", "null"),
    ("frequency_penalty", "0"),
    ("function_call", "null"),
    ("functions", "null"),
    ("logit_bias", "{}"),
    ("logprobs", "false"),
    ("moderation", "null"),
    ("n", "1"),
    ("presence_penalty", "0"),
    ("top_logprobs", "0"),
    ("web_search_options", "null"),
];

pub(in super::super) fn from_chat(mut chat: Map) -> Result<Map, Failure> {
    let mut out = take_object(&mut chat, ANTHROPIC, "")?.unwrap_or_default();
    refuse(&mut chat)?;
    let user = take(&mut chat, "user").or_else(|| take(&mut chat, "safety_identifier"));
    for key in DROPPED {
        chat.remove(key);
    }
    let limits = [take(&mut chat, "max_completion_tokens"), take(&mut chat, "max_tokens")];
    let limit = limits.into_iter().flatten().next();
    out.insert(
        "max_tokens".to_owned(),
        limit.unwrap_or_else(|| MAX_TOKENS_DEFAULT.into()),
    );
    if let Some(user) = user {
        out.insert("metadata".to_owned(), json!({ "user_id": user }));
    }
    match take(&mut chat, "stop") {
        None => {}
        Some(Value::String(stop)) => {
            out.insert("stop_sequences".to_owned(), json!([stop]));
        }
        Some(stops) => {
            out.insert("stop_sequences".to_owned(), stops);
        }
    }
    convert_output(&mut chat, &mut out)?;
    convert_tools(&mut chat, &mut out)?;
    convert_messages(&mut chat, &mut out)?;
    chat.retain(|_, value| !value.is_null());
    out.extend(chat);
    Ok(out)
}

fn refuse(chat: &mut Map) -> Result<(), Failure> {
    for (key, neutral) in REFUSED {
        let Some(value) = take(chat, key) else { continue };
        let neutral: Value = serde_json::from_str(neutral).unwrap_or_default();
        let is_neutral = value == neutral || value.is_number() && value.as_f64() == neutral.as_f64();
        if !is_neutral {
            return Err(unsaid(key, WHOSE));
        }
    }
    match chat.get("modalities") {
        Some(Value::Array(kinds)) if kinds.iter().any(|kind| kind != "text") => Err(unsaid("modalities", WHOSE)),
        _ => Ok(()),
    }
}

fn convert_output(chat: &mut Map, out: &mut Map) -> Result<(), Failure> {
    let mut config = take_object(out, "output_config", "")?.unwrap_or_default();
    match take_text(chat, "reasoning_effort", "")?.as_deref() {
        None => {}
        Some("none") => {
            out.insert("thinking".to_owned(), json!({ "type": "disabled" }));
        }
        Some("minimal") => {
            config.insert("effort".to_owned(), "low".into());
        }
        Some(effort) => {
            config.insert("effort".to_owned(), effort.into());
        }
    }
    if let Some(mut format) = take_object(chat, "response_format", "")? {
        match text_at(&format, "type") {
            Some("text") => {}
            Some("json_schema") => {
                let mut inner = take_object(&mut format, "json_schema", "response_format")?.unwrap_or_default();
                let schema = take_object(&mut inner, "schema", "response_format.json_schema")?
                    .ok_or_else(|| refused("response_format.json_schema.schema", "is missing"))?;
                let format = json!({ "type": "json_schema", "schema": schema });
                config.insert("format".to_owned(), format);
            }
            // There is nothing like "some JSON": it takes a schema.
            _ => return Err(unsaid("response_format.type", WHOSE)),
        }
    }
    if !config.is_empty() {
        out.insert("output_config".to_owned(), config.into());
    }
    Ok(())
}

fn convert_tools(chat: &mut Map, out: &mut Map) -> Result<(), Failure> {
    let is_parallel = take_flag(chat, "parallel_tool_calls", "")?.unwrap_or(true);
    let choice = take(chat, "tool_choice");
    let tools = take_array(chat, "tools", "")?.unwrap_or_default();
    if tools.is_empty() {
        return Ok(());
    }
    let tools: Result<Vec<Value>, Failure> = tools.into_iter().enumerate().map(tool).collect();
    out.insert("tools".to_owned(), tools?.into());
    let mut choice = match choice {
        None => Map::new(),
        Some(Value::String(mode)) => match mode.as_str() {
            "auto" | "none" => map(json!({ "type": mode })),
            "required" => map(json!({ "type": "any" })),
            _ => {
                return Err(refused(
                    "tool_choice",
                    "must be none, auto, required or name a function",
                ));
            }
        },
        Some(mut choice) => match choice.pointer_mut("/function/name").map(Value::take) {
            Some(name) => map(json!({ "type": "tool", "name": name })),
            None => return Err(unsaid("tool_choice", WHOSE)),
        },
    };
    if !is_parallel && choice.get("type").is_none_or(|kind| kind != "none") {
        choice.entry("type").or_insert_with(|| "auto".into());
        choice.insert("disable_parallel_tool_use".to_owned(), true.into());
    }
    if !choice.is_empty() {
        out.insert("tool_choice".to_owned(), choice.into());
    }
    Ok(())
}

fn tool((index, tool): (usize, Value)) -> Result<Value, Failure> {
    let at = format!("tools[{index}]");
    let mut tool = object(tool, &at)?;
    let only = take_object(&mut tool, ANTHROPIC, &at)?;
    match text_at(&tool, "type") {
        Some("function") => {}
        Some(ANTHROPIC) => return Ok(only.unwrap_or_default().into()),
        other => return Err(unknown_type(&at, other.unwrap_or_default(), WHOSE)),
    }
    let mut function = take_object(&mut tool, "function", &at)?.unwrap_or_default();
    let mut out = only.unwrap_or_default();
    let name = need_text(&mut function, "name", &path(&at, "function"))?;
    out.insert("name".to_owned(), name.into());
    let schema = take(&mut function, "parameters");
    let schema = schema.unwrap_or_else(|| json!({ "type": "object", "properties": {} }));
    out.insert("input_schema".to_owned(), schema);
    out.extend(
        function
            .remove_entry("description")
            .filter(|(_, value)| !value.is_null()),
    );
    out.extend(function.remove_entry("strict").filter(|(_, value)| *value == true));
    Ok(out.into())
}

fn convert_messages(chat: &mut Map, out: &mut Map) -> Result<(), Failure> {
    let Some(messages) = take_array(chat, "messages", "")? else {
        return Err(refused("messages", "is missing"));
    };
    let mut system: Vec<Value> = Vec::new();
    let mut turns: Vec<(&'static str, Vec<Value>)> = Vec::new();
    for (index, message) in messages.into_iter().enumerate() {
        let at = format!("messages[{index}]");
        let mut message = object(message, &at)?;
        let role = need_text(&mut message, "role", &at)?;
        let (role, blocks) = match role.as_str() {
            "system" | "developer" => {
                system.extend(content(&mut message, &at)?);
                continue;
            }
            "user" => ("user", content(&mut message, &at)?),
            "tool" => ("user", vec![tool_result(&mut message, &at)?]),
            "assistant" => ("assistant", assistant(&mut message, &at)?),
            _ => return Err(unsaid(&path(&at, "role"), WHOSE)),
        };
        match turns.last_mut() {
            _ if blocks.is_empty() => {}
            Some((last, so_far)) if *last == role => so_far.extend(blocks),
            _ => turns.push((role, blocks)),
        }
    }
    let turns = turns.into_iter();
    let turns = turns.map(|(role, blocks)| json!({ "role": role, "content": plain(blocks) }));
    out.insert("messages".to_owned(), turns.collect());
    if !system.is_empty() {
        out.insert("system".to_owned(), plain(system));
    }
    Ok(())
}

/// One block of nothing but text is written as text.
fn plain(blocks: Vec<Value>) -> Value {
    part::content(blocks)
}

fn content(message: &mut Map, at: &str) -> Result<Vec<Value>, Failure> {
    let at = path(at, "content");
    let parts = part::parts(message.remove("content").unwrap_or_default());
    let mut blocks = Vec::with_capacity(parts.len());
    for (index, part) in parts.into_iter().enumerate() {
        let at = format!("{at}[{index}]");
        blocks.extend(block(object(part, &at)?, &at)?);
    }
    Ok(blocks)
}

/// A part as a block; none for a text without a letter, which the API refuses.
fn block(mut given: Map, at: &str) -> Result<Option<Value>, Failure> {
    let only = take_object(&mut given, ANTHROPIC, at)?;
    let kind = need_text(&mut given, "type", at)?;
    let mut out = match kind.as_str() {
        ANTHROPIC => return Ok(only.map(Value::Object)),
        "text" | "refusal" => {
            let text = need_text(&mut given, &kind, at)?;
            if text.is_empty() {
                return Ok(None);
            }
            part::text(text)
        }
        "image_url" => {
            let url = match take(&mut given, "image_url") {
                Some(Value::String(url)) => Some(url),
                Some(Value::Object(mut image)) => take_text(&mut image, "url", at)?,
                _ => None,
            };
            image(&url.unwrap_or_default(), &path(at, "image_url.url"))?
        }
        "file" => {
            let file = take_object(&mut given, "file", at)?.unwrap_or_default();
            document(file, &path(at, "file"))?
        }
        other => return Err(unknown_type(at, other, WHOSE)),
    };
    // `cache_control` and whatever else the client said of this part. OpenAI's own hint for its cache is a hint.
    given.remove("prompt_cache_breakpoint");
    out.extend(given);
    out.extend(only.unwrap_or_default());
    Ok(Some(out.into()))
}

fn image(url: &str, at: &str) -> Result<Map, Failure> {
    let source = if let Some((media, data)) = part::split_data_url(url) {
        json!({ "type": "base64", "media_type": media, "data": data })
    } else if url.starts_with("https://") || url.starts_with("http://") {
        json!({ "type": "url", "url": url })
    } else {
        return Err(refused(at, "must be a data URL in base64 or a web address"));
    };
    Ok(map(json!({ "type": "image", "source": source })))
}

fn document(mut file: Map, at: &str) -> Result<Map, Failure> {
    let source = if let Some(url) = take_text(&mut file, "file_url", at)? {
        json!({ "type": "url", "url": url })
    } else {
        let data = take_text(&mut file, "file_data", at)?.unwrap_or_default();
        match part::split_data_url(&data) {
            Some((media, data)) => json!({ "type": "base64", "media_type": media, "data": data }),
            None => return Err(refused(&path(at, "file_data"), "must be a data URL in base64")),
        }
    };
    let mut out = map(json!({ "type": "document", "source": source }));
    if let Some(name) = take_text(&mut file, "filename", at)? {
        out.insert("title".to_owned(), name.into());
    }
    Ok(out)
}

fn assistant(message: &mut Map, at: &str) -> Result<Vec<Value>, Failure> {
    for key in ["audio", "function_call"] {
        if take(message, key).is_some() {
            return Err(unsaid(&path(at, key), WHOSE));
        }
    }
    let only = take_object(message, ANTHROPIC, at)?;
    let mut blocks = match only.and_then(|mut only| take(&mut only, "thinking")) {
        Some(Value::Array(blocks)) => blocks,
        _ => Vec::new(),
    };
    part::unnumber(&mut blocks);
    // It takes back only what it once gave out, and that bears its signature. Thoughts of other models do not.
    blocks.retain(|block| {
        block["type"] != "thinking" || block["signature"].as_str().is_some_and(|text| !text.is_empty())
    });
    blocks.extend(content(message, at)?);
    if let Some(refusal) = take_text(message, "refusal", at)?.filter(|text| !text.is_empty()) {
        blocks.push(part::text(refusal).into());
    }
    for (index, call) in take_array(message, "tool_calls", at)?
        .unwrap_or_default()
        .into_iter()
        .enumerate()
    {
        let at = format!("{at}.tool_calls[{index}]");
        blocks.push(tool_use(object(call, &at)?, &at)?);
    }
    Ok(blocks)
}

fn tool_use(mut call: Map, at: &str) -> Result<Value, Failure> {
    let Some(mut function) = take_object(&mut call, "function", at)? else {
        return Err(unsaid(at, WHOSE));
    };
    let arguments = take_text(&mut function, "arguments", at)?.unwrap_or_default();
    let input = part::arguments(&arguments)
        .ok_or_else(|| refused(&path(at, "function.arguments"), "must hold a JSON object"))?;
    let mut out = take_object(&mut call, ANTHROPIC, at)?.unwrap_or_default();
    out.extend(map(json!({
        "type": "tool_use",
        "id": tool_id(&need_text(&mut call, "id", at)?),
        "name": need_text(&mut function, "name", at)?,
        "input": input,
    })));
    Ok(out.into())
}

fn tool_result(message: &mut Map, at: &str) -> Result<Value, Failure> {
    let id = need_text(message, "tool_call_id", at)?;
    let mut out = take_object(message, ANTHROPIC, at)?.unwrap_or_default();
    out.extend(map(json!({ "type": "tool_result", "tool_use_id": tool_id(&id) })));
    let blocks = content(message, at)?;
    if !blocks.is_empty() {
        out.insert("content".to_owned(), plain(blocks));
    }
    Ok(out.into())
}

/// Ids of calls as the API takes them: some engines put dots and colons into theirs.
fn tool_id(id: &str) -> String {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    id.chars()
        .map(|letter| if fits(letter) { letter } else { '_' })
        .collect()
}
