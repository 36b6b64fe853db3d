//! The calls in what a model says.

use crate::dialect::Map;
use forebay_runtime::Entropy;
use serde_json::{Value, json, value::RawValue};

/// One call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    /// As the model wrote them.
    pub(super) written: String,
}

/// Takes the calls out of a message. Some engines give them no ids; the conversation needs some.
pub(super) fn take(message: &mut Map, entropy: &Entropy) -> Vec<Call> {
    let Some(Value::Array(calls)) = message.remove("tool_calls") else {
        return Vec::new();
    };
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Object(_) => value.to_string(),
        _ => String::new(),
    };
    let calls = calls.into_iter().map(|call| {
        let id = text(&call["id"]);
        let random = || format!("call_{:016x}", u64::from_le_bytes(entropy.bytes()));
        Call {
            id: if id.is_empty() { random() } else { id },
            name: text(&call["function"]["name"]),
            written: text(&call["function"]["arguments"]),
        }
    });
    calls.collect()
}

impl Call {
    /// The arguments as an object. Some engines leave them empty where there are none, and some encode them twice.
    pub(super) fn arguments(&self) -> Option<Box<RawValue>> {
        if self.written.trim().is_empty() {
            return RawValue::from_string("{}".to_owned()).ok();
        }
        let object = match serde_json::from_str(&self.written).ok()? {
            Value::Object(object) => object,
            Value::String(inner) => serde_json::from_str::<Map>(&inner).ok()?,
            _ => return None,
        };
        RawValue::from_string(Value::from(object).to_string()).ok()
    }

    /// As it stands in a conversation.
    pub(super) fn value(&self) -> Value {
        json!({
            "id": self.id,
            "type": "function",
            "function": { "name": self.name, "arguments": self.written },
        })
    }

    /// As it stands in a conversation that an engine is to read: some refuse one in which arguments are no object.
    pub(super) fn mended(&self) -> Value {
        let mut value = self.value();
        let arguments = self.arguments();
        value["function"]["arguments"] = arguments.as_deref().map_or("{}", RawValue::get).into();
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_however_they_are_written() {
        for (written, expected) in [
            (json!(r#"{"a": 1}"#), Some(r#"{"a":1}"#)),
            (json!(r#""{\"a\": 1}""#), Some(r#"{"a":1}"#)),
            (json!({"a": 1}), Some(r#"{"a":1}"#)),
            (json!(""), Some("{}")),
            (Value::Null, Some("{}")),
            (json!("[1]"), None),
            (json!(r#"{"a": "#), None),
            (json!(r#""[1]""#), None),
        ] {
            let message = json!({"tool_calls": [{"id": null, "function": {"name": "t", "arguments": written}}]});
            let Value::Object(mut message) = message else { panic!() };
            let calls = take(&mut message, &Entropy::seeded(1));
            assert!(message.is_empty());
            assert_eq!(
                calls[0].arguments().as_deref().map(RawValue::get),
                expected,
                "{written}"
            );
            assert!(calls[0].id.starts_with("call_"));
        }
    }
}
