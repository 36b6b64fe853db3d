//! OpenAI's `responses`: items in, items out, and a stream of events with numbers.

mod deeds;
mod output;
mod request;
mod stream;

pub(crate) use deeds::{Deed, Errand};
pub(crate) use output::unfinished;
pub(super) use output::whole;
pub(super) use request::to_chat;
pub(crate) use request::words_of;
pub(super) use stream::Stream;

use super::field::Map;
use serde_json::Value;

/// The fields of a request that its answer repeats, and what stands there where the request left them open.
const ECHOED: [(&str, &str); 14] = [
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("reasoning", r#"{"effort":null,"summary":null}"#),
    ("store", "true"),
    ("temperature", "null"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", r#""auto""#),
    ("tools", "[]"),
    ("top_p", "null"),
    ("truncation", r#""disabled""#),
];

/// What a response repeats of its request; never what its tools' servers are to be shown.
pub(super) fn echo(request: &Map) -> Map {
    let echo = ECHOED.iter().filter_map(|(key, _)| {
        let value = request.get(*key).filter(|value| !value.is_null())?;
        Some(((*key).to_owned(), value.clone()))
    });
    let mut echo: Map = echo.collect();
    let tools = echo.get_mut("tools").and_then(Value::as_array_mut);
    for tool in tools.into_iter().flatten().filter_map(Value::as_object_mut) {
        tool.remove("authorization");
        tool.remove("headers");
    }
    echo
}
