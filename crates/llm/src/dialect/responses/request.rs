//! A request for a response as a chat.

use super::super::{
    ANTHROPIC,
    field::{
        Map, map, need_text, object, path, refused, rename, take, take_array, take_flag, take_object, take_text,
        text_at, unknown_type, unsaid,
    },
    part,
};
use forebay_domain::Failure;
use serde_json::{Value, json};

const CHAT: &str = "OpenAI's chat API";
/// The gateway's own business, which no engine hears of.
const OURS: [&str; 7] = [
    "store",
    "metadata",
    "include",
    "truncation",
    "max_tool_calls",
    "context_management",
    "background_options",
];
/// What has to be settled before a request is converted.
const UNSETTLED: [&str; 3] = ["previous_response_id", "conversation", "prompt"];
/// What tells of calls that somebody else ran, and holds nothing that a model has to know.
const TRACES: [&str; 4] = [
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_approval_response",
    "web_search_call",
];

/// `before` are the items of the conversation that this request goes on with.
pub(in super::super) fn to_chat(before: Vec<Map>, mut request: Map) -> Result<Map, Failure> {
    for key in UNSETTLED {
        if take(&mut request, key).is_some() {
            return Err(unsaid(key, CHAT));
        }
    }
    if take_flag(&mut request, "background", "")? == Some(true) {
        return Err(unsaid("background", CHAT));
    }
    let wants_logprobs = request.get("include").and_then(Value::as_array).is_some_and(|include| {
        let wanted = "message.output_text.logprobs";
        include.iter().any(|named| named == wanted)
    });
    for key in OURS {
        request.remove(key);
    }
    let messages = messages(before, &mut request)?;
    rename(&mut request, "max_output_tokens", "max_completion_tokens");
    if wants_logprobs || request.get("top_logprobs").is_some_and(|count| !count.is_null()) {
        request.insert("logprobs".to_owned(), true.into());
    }
    convert_text(&mut request)?;
    if let Some(mut reasoning) = take_object(&mut request, "reasoning", "")? {
        rename(&mut reasoning, "effort", "reasoning_effort");
        request.extend(reasoning.remove_entry("reasoning_effort"));
    }
    if let Some(tools) = take_array(&mut request, "tools", "")? {
        let tools: Result<Vec<Value>, Failure> = tools.into_iter().enumerate().map(tool).collect();
        request.insert("tools".to_owned(), tools?.into());
    }
    if let Some(choice) = take(&mut request, "tool_choice") {
        request.insert("tool_choice".to_owned(), tool_choice(choice));
    }
    if request.get("stream") == Some(&Value::Bool(true)) {
        request.insert("stream_options".to_owned(), json!({ "include_usage": true }));
    } else {
        request.remove("stream_options");
    }
    request.insert("messages".to_owned(), messages.into());
    Ok(request)
}

fn convert_text(request: &mut Map) -> Result<(), Failure> {
    let Some(mut text) = take_object(request, "text", "")? else {
        return Ok(());
    };
    request.extend(text.remove_entry("verbosity").filter(|(_, value)| !value.is_null()));
    let Some(mut format) = take_object(&mut text, "format", "text")? else {
        return Ok(());
    };
    let format = match text_at(&format, "type") {
        Some("text") => return Ok(()),
        Some("json_schema") => {
            format.remove("type");
            json!({ "type": "json_schema", "json_schema": format })
        }
        _ => format.into(),
    };
    request.insert("response_format".to_owned(), format);
    Ok(())
}

/// A function or a custom tool as chat writes it. Whatever else there is stays as it is, for the caller to see.
fn tool((index, tool): (usize, Value)) -> Result<Value, Failure> {
    let mut tool = object(tool, &format!("tools[{index}]"))?;
    Ok(match text_at(&tool, "type") {
        Some(kind @ ("function" | "custom")) if !tool.contains_key(kind) => {
            let kind = kind.to_owned();
            tool.remove("type");
            if tool.get("strict").is_some_and(Value::is_null) {
                tool.remove("strict");
            }
            json!({ "type": kind, (kind.clone()): tool })
        }
        _ => tool.into(),
    })
}

fn tool_choice(choice: Value) -> Value {
    let Value::Object(mut choice) = choice else {
        return choice;
    };
    match text_at(&choice, "type") {
        Some(kind @ ("function" | "custom")) if !choice.contains_key(kind) => {
            let kind = kind.to_owned();
            json!({ "type": kind, (kind.clone()): { "name": choice.get("name") } })
        }
        Some("allowed_tools") if !choice.contains_key("allowed_tools") => {
            choice.remove("type");
            if let Some(Value::Array(tools)) = choice.get_mut("tools") {
                for tool in tools {
                    *tool = tool_choice(tool.take());
                }
            }
            json!({ "type": "allowed_tools", "allowed_tools": choice })
        }
        _ => choice.into(),
    }
}

fn messages(before: Vec<Map>, request: &mut Map) -> Result<Vec<Value>, Failure> {
    let mut transcript = Transcript::default();
    if let Some(instructions) = take_text(request, "instructions", "")? {
        transcript.system(instructions.into());
    }
    for item in before {
        transcript.item(item, "previous_response_id")?;
    }
    match take(request, "input") {
        Some(Value::String(text)) => transcript.message("user", text.into()),
        Some(Value::Array(items)) => {
            for (index, item) in items.into_iter().enumerate() {
                let at = format!("input[{index}]");
                transcript.item(object(item, &at)?, &at)?;
            }
        }
        _ => return Err(refused("input", "must be a text or an array of items")),
    }
    transcript.close();
    Ok(transcript.messages)
}

/// The conversation as it grows. What an assistant did in one turn, which is several items there, is one message here.
#[derive(Default)]
struct Transcript {
    messages: Vec<Value>,
    /// Thoughts that wait for the turn they belong to.
    thoughts: Vec<Map>,
}

impl Transcript {
    fn item(&mut self, mut item: Map, at: &str) -> Result<(), Failure> {
        let kind = take_text(&mut item, "type", at)?;
        match kind.as_deref().unwrap_or("message") {
            "message" => self.said(item, at),
            "reasoning" => {
                self.thoughts.push(item);
                Ok(())
            }
            "function_call" => {
                let id = need_text(&mut item, "call_id", at)?;
                let name = need_text(&mut item, "name", at)?;
                let arguments = need_text(&mut item, "arguments", at)?;
                self.call(part::call(&id, &name, &arguments));
                Ok(())
            }
            "custom_tool_call" => {
                let id = need_text(&mut item, "call_id", at)?;
                let custom =
                    json!({ "name": need_text(&mut item, "name", at)?, "input": need_text(&mut item, "input", at)? });
                self.call(json!({ "id": id, "type": "custom", "custom": custom }));
                Ok(())
            }
            "function_call_output" | "custom_tool_call_output" => {
                let id = need_text(&mut item, "call_id", at)?;
                let output = content(take(&mut item, "output"), &path(at, "output"))?;
                self.result(&id, output);
                Ok(())
            }
            "mcp_call" => self.ran(item, at),
            trace if TRACES.contains(&trace) => Ok(()),
            other => Err(unknown_type(at, other, CHAT)),
        }
    }

    fn said(&mut self, mut item: Map, at: &str) -> Result<(), Failure> {
        let role = need_text(&mut item, "role", at)?;
        let content = content(take(&mut item, "content"), &path(at, "content"))?;
        match role.as_str() {
            "system" | "developer" => self.system(content),
            "user" => self.message("user", content),
            "assistant" => self.speak(content),
            _ => {
                return Err(refused(
                    &path(at, "role"),
                    "must be user, assistant, system or developer",
                ));
            }
        }
        Ok(())
    }

    /// What an assistant said. Text after its calls stays in their message: another one would stand between the calls
    /// and their results.
    fn speak(&mut self, content: Value) {
        let has_spoken = self.messages.last().is_some_and(|last| {
            last["role"] == "assistant" && !last["content"].is_null() && last.get("tool_calls").is_none()
        });
        if has_spoken {
            self.message("assistant", Value::Null);
        }
        let turn = self.turn();
        let mut parts = part::parts(turn.get_mut("content").map(Value::take).unwrap_or_default());
        if parts.is_empty() {
            turn.insert("content".to_owned(), content);
        } else {
            parts.extend(part::parts(content));
            turn.insert("content".to_owned(), parts.into());
        }
    }

    /// A call that a gateway ran: the call and its result.
    fn ran(&mut self, mut item: Map, at: &str) -> Result<(), Failure> {
        let id = need_text(&mut item, "id", at)?;
        let name = need_text(&mut item, "name", at)?;
        let arguments = need_text(&mut item, "arguments", at)?;
        let output = take(&mut item, "output").or_else(|| take(&mut item, "error"));
        let output = output.map(|output| words_of(&output)).unwrap_or_default();
        self.call(part::call(&id, &name, &arguments));
        self.result(&id, output.into());
        Ok(())
    }

    /// Instructions of several hands that stand together become one message: many templates know no second one.
    fn system(&mut self, content: Value) {
        let last = self.messages.last_mut().filter(|last| last["role"] == "system");
        match (last, &content) {
            (Some(last), Value::String(more)) if last["content"].is_string() => {
                let so_far = last["content"].as_str().unwrap_or_default();
                last["content"] = format!("{so_far}\n\n{more}").into();
            }
            _ => self.message("system", content),
        }
    }

    fn message(&mut self, role: &str, content: Value) {
        if role != "assistant" {
            self.close();
        }
        self.messages.push(part::message(role, content));
    }

    fn result(&mut self, id: &str, output: Value) {
        self.close();
        let mut message = part::message("tool", output);
        message["tool_call_id"] = id.into();
        self.messages.push(message);
    }

    fn call(&mut self, call: Value) {
        let turn = self.turn();
        match turn.get_mut("tool_calls") {
            Some(Value::Array(calls)) => calls.push(call),
            _ => {
                turn.insert("tool_calls".to_owned(), vec![call].into());
            }
        }
    }

    /// The assistant's message to which the next item belongs, with the thoughts that led to it.
    fn turn(&mut self) -> &mut Map {
        if self.messages.last().is_none_or(|last| last["role"] != "assistant") {
            self.messages.push(json!({ "role": "assistant", "content": null }));
        }
        let thoughts = std::mem::take(&mut self.thoughts);
        let Some(Value::Object(turn)) = self.messages.last_mut() else {
            unreachable!("an object was pushed above where there was none")
        };
        for thought in thoughts {
            think(turn, thought);
        }
        turn
    }

    /// Thoughts that led to nothing are a turn of their own.
    fn close(&mut self) {
        if !self.thoughts.is_empty() {
            let turn = self.turn();
            turn.insert("content".to_owned(), "".into());
        }
    }
}

/// What a call came to, in words: its output, or its error in one of the API's forms.
pub(crate) fn words_of(output: &Value) -> String {
    let Value::Object(error) = output else {
        return output.as_str().map_or_else(|| output.to_string(), str::to_owned);
    };
    let words = error.get("content").map(part::text_of).filter(|text| !text.is_empty());
    let words = words.or_else(|| text_at(error, "message").map(str::to_owned));
    words.unwrap_or_else(|| output.to_string())
}

/// Adds a thought to a message, and to what Anthropic wants to see of it again.
fn think(turn: &mut Map, mut thought: Map) {
    let texts = |key: &str| thought.get(key).map(part::text_of).filter(|text| !text.is_empty());
    let text = texts("content").or_else(|| texts("summary"));
    let sealed = match take(&mut thought, "encrypted_content") {
        Some(Value::String(sealed)) => Some(sealed),
        _ => None,
    };
    if let Some(text) = &text {
        let so_far = text_at(turn, "reasoning_content");
        let joined = so_far.map_or_else(|| text.clone(), |so_far| format!("{so_far}\n\n{text}"));
        turn.insert("reasoning_content".to_owned(), joined.into());
    }
    let block = match (text, sealed) {
        (Some(text), Some(signature)) => json!({ "type": "thinking", "thinking": text, "signature": signature }),
        (None, Some(data)) => json!({ "type": "redacted_thinking", "data": data }),
        (_, None) => return,
    };
    let only = turn.entry(ANTHROPIC).or_insert_with(|| json!({ "thinking": [] }));
    if let Some(blocks) = only["thinking"].as_array_mut() {
        blocks.push(block);
    }
}

fn content(content: Option<Value>, at: &str) -> Result<Value, Failure> {
    match content {
        Some(Value::String(text)) => Ok(text.into()),
        Some(Value::Array(parts)) => {
            let parts = parts.into_iter().enumerate();
            let parts = parts.map(|(index, value)| {
                let at = format!("{at}[{index}]");
                content_part(object(value, &at)?, &at).map(Value::Object)
            });
            Ok(part::content(parts.collect::<Result<_, _>>()?))
        }
        _ => Err(refused(at, "must be a text or an array of parts")),
    }
}

fn content_part(mut given: Map, at: &str) -> Result<Map, Failure> {
    match text_at(&given, "type") {
        Some("input_text" | "output_text" | "text") => Ok(part::text(need_text(&mut given, "text", at)?)),
        Some("refusal") => Ok(map(
            json!({ "type": "refusal", "refusal": need_text(&mut given, "refusal", at)? }),
        )),
        Some("input_image") => {
            let Some(url) = take_text(&mut given, "image_url", at)? else {
                return Err(refused(at, "must have an `image_url`; files are not kept here"));
            };
            let mut image = part::image(url);
            if let Some(detail) = take(&mut given, "detail") {
                image["image_url"]["detail"] = detail;
            }
            Ok(image)
        }
        Some("input_file") => {
            if take(&mut given, "file_id").is_some() {
                return Err(refused(at, "must have its `file_data`; files are not kept here"));
            }
            let name = take_text(&mut given, "filename", at)?;
            if let Some(url) = take_text(&mut given, "file_url", at)? {
                return Ok(map(json!({ "type": "file", "file": { "file_url": url } })));
            }
            Ok(part::file(need_text(&mut given, "file_data", at)?, name))
        }
        Some("input_audio") => Ok(given),
        other => {
            let other = other.unwrap_or_default();
            Err(refused(at, format_args!("is of the unknown type `{other}`")))
        }
    }
}
