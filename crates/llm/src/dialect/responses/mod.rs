//! OpenAI's `responses`: items in, items out, and a stream of events with numbers.

mod output;
mod request;
mod stream;

pub(super) use output::whole;
pub(super) use request::request_to_chat;
pub(super) use stream::Stream;

/// The fields of a request that its answer repeats, and what stands there where the request left them open.
pub(super) const ECHOED: [(&str, &str); 14] = [
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
