//! The items of a request for a response, as they are kept.

use serde_json::{Value, json};

/// What is kept of a request.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(super) previous_id: Option<String>,
    pub(super) input: Vec<Value>,
}

impl Draft {
    /// `id` is that of the response, from which the items get ids that came without.
    pub(super) fn of(input: Option<&Value>, previous_id: Option<String>, id: &str) -> Self {
        Self {
            previous_id,
            input: input_items(input, id),
        }
    }
}

/// What was asked, item by item.
pub(crate) fn input_items(input: Option<&Value>, id: &str) -> Vec<Value> {
    let items = match input {
        Some(Value::String(text)) => vec![json!({ "role": "user", "content": text })],
        Some(Value::Array(items)) => items.clone(),
        _ => Vec::new(),
    };
    let items = items.into_iter().enumerate();
    items.map(|(at, item)| spelt_out(item, id, at)).collect()
}

/// An item without the abbreviations that a request may use.
fn spelt_out(mut item: Value, id: &str, at: usize) -> Value {
    let Value::Object(fields) = &mut item else { return item };
    let kind = fields.entry("type").or_insert_with(|| "message".into());
    let prefix = match kind.as_str() {
        Some("message") => "msg",
        Some("reasoning") => "rs",
        Some("function_call") => "fc",
        Some("function_call_output") => "fco",
        _ => "item",
    };
    if prefix == "msg" {
        fields.entry("status").or_insert_with(|| "completed".into());
        let part = match fields.get("role").and_then(Value::as_str) {
            Some("assistant") => json!({ "type": "output_text", "annotations": [] }),
            _ => json!({ "type": "input_text" }),
        };
        if let Some(content @ Value::String(_)) = fields.get_mut("content") {
            let mut part = part;
            part["text"] = content.take();
            *content = json!([part]);
        }
    }
    fields
        .entry("id")
        .or_insert_with(|| format!("{prefix}_{id}_in_{at}").into());
    item
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_abbreviated_is_kept_in_full() {
        let said = |input: Value| Draft::of(Some(&input), None, "1").input;
        let part = json!({ "type": "input_text", "text": "Hi." });
        let message = json!({ "type": "message", "role": "user", "status": "completed", "content": [part] });
        let with_id = |id: &str| {
            let mut message = message.clone();
            message["id"] = id.into();
            message
        };
        assert_eq!(said(json!("Hi.")), [with_id("msg_1_in_0")]);
        let output = json!({ "type": "function_call_output", "call_id": "c", "output": "x" });
        let kept = said(json!([{ "id": "mine", "role": "user", "content": "Hi." }, output]));
        assert_eq!(kept[0], with_id("mine"));
        assert_eq!(
            (&kept[1]["id"], &kept[1]["output"]),
            (&json!("fco_1_in_1"), &json!("x"))
        );
        let spoken = said(json!([{ "role": "assistant", "content": "Ho." }]));
        assert_eq!(spoken[0]["content"][0]["type"], "output_text");
    }
}
