//! Anthropic's `messages`, as clients speak it and as upstreams do.

mod answer;
mod incoming;
mod outgoing;
mod request;
mod upstream;

pub(super) use answer::{from_upstream, whole};
pub(super) use incoming::Incoming;
pub(super) use outgoing::Stream;
pub(super) use request::request_to_chat;
pub(super) use upstream::from_chat;

use serde_json::Value;

/// Why the model stopped, in chat's words.
fn finish_reason(stop_reason: &str) -> &'static str {
    match stop_reason {
        // `pause_turn`: a long turn that wants to be continued, so it is not the end.
        "max_tokens" | "model_context_window_exceeded" | "pause_turn" => "length",
        "tool_use" => "tool_calls",
        "refusal" => "content_filter",
        _ => "stop",
    }
}

/// Why the model stopped, in Anthropic's words: the reason, and the sequence at which it was stopped.
fn stop_reason(finish_reason: &str, stop: Option<&str>, has_calls: bool) -> (&'static str, Value) {
    let reason = match finish_reason {
        "length" => "max_tokens",
        "content_filter" => "refusal",
        // Some engines say `stop` of calls too, where the request named the tool.
        _ if has_calls => "tool_use",
        "stop" if stop.is_some() => return ("stop_sequence", stop.into()),
        _ => "end_turn",
    };
    (reason, Value::Null)
}
