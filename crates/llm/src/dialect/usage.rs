//! What was used, in three dialects.
//!
//! OpenAI's input counts include what came from a cache, Anthropic's do not.

use super::field::{Map, map};
use serde_json::{Value, json};

/// Anthropic's usage as chat's.
pub(super) fn from_anthropic(usage: &Map) -> Map {
    let count = |key: &str| usage.get(key).and_then(Value::as_u64).unwrap_or(0);
    let (read, written) = (count("cache_read_input_tokens"), count("cache_creation_input_tokens"));
    let input = count("input_tokens").saturating_add(read).saturating_add(written);
    let output = count("output_tokens");
    let mut out = map(json!({
        "prompt_tokens": input,
        "completion_tokens": output,
        "total_tokens": input.saturating_add(output),
        "prompt_tokens_details": { "cached_tokens": read, "cache_write_tokens": written },
    }));
    let thought = usage
        .get("output_tokens_details")
        .map(|details| &details["thinking_tokens"]);
    if let Some(thought) = thought.and_then(Value::as_u64) {
        let details = json!({ "reasoning_tokens": thought });
        out.insert("completion_tokens_details".to_owned(), details);
    }
    out
}

/// The figures of a chat usage; zero where the engine told none.
struct Counts {
    input: u64,
    output: u64,
    total: u64,
    cached: u64,
    written: u64,
    reasoning: u64,
}

impl Counts {
    fn of(usage: Option<&Map>) -> Self {
        let usage = usage.cloned().map_or(Value::Null, Value::Object);
        let count = |value: &Value| value.as_u64().unwrap_or(0);
        let (input, output) = (count(&usage["prompt_tokens"]), count(&usage["completion_tokens"]));
        let total = usage["total_tokens"].as_u64();
        Self {
            input,
            output,
            total: total.unwrap_or(input.saturating_add(output)),
            cached: count(&usage["prompt_tokens_details"]["cached_tokens"]),
            written: count(&usage["prompt_tokens_details"]["cache_write_tokens"]),
            reasoning: count(&usage["completion_tokens_details"]["reasoning_tokens"]),
        }
    }
}

/// Chat's usage as Anthropic's.
pub(super) fn to_anthropic(usage: Option<&Map>) -> Value {
    let counts = Counts::of(usage);
    let fresh = counts
        .input
        .saturating_sub(counts.cached)
        .saturating_sub(counts.written);
    let mut out = json!({
        "input_tokens": fresh,
        "cache_creation_input_tokens": counts.written,
        "cache_read_input_tokens": counts.cached,
        "output_tokens": counts.output,
    });
    if counts.reasoning > 0 {
        out["output_tokens_details"] = json!({ "thinking_tokens": counts.reasoning });
    }
    out
}

/// Chat's usage as that of a response; `null` where the engine told none.
pub(super) fn to_responses(usage: Option<&Map>) -> Value {
    if usage.is_none() {
        return Value::Null;
    }
    let counts = Counts::of(usage);
    json!({
        "input_tokens": counts.input,
        "input_tokens_details": { "cached_tokens": counts.cached, "cache_write_tokens": counts.written },
        "output_tokens": counts.output,
        "output_tokens_details": { "reasoning_tokens": counts.reasoning },
        "total_tokens": counts.total,
    })
}
