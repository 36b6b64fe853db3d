//! What a declared tool says of itself: its definition as the protocol writes it, out of what was declared.

use super::config::{EffectsConfig, Method, ParameterConfig, ParameterType, ToolConfig};
use crate::{call::raw, source::Hints};
use serde_json::{Map, Value, json, value::RawValue};
use std::collections::BTreeSet;

/// A string is no longer than this, where nothing shorter is declared.
const STRING_CHARS_MAX: u32 = 8_192;

/// The schema of the arguments. `needed` are those without which there is no request.
pub(super) fn input_schema(config: &ToolConfig, needed: &BTreeSet<&str>) -> Value {
    let properties: Map<String, Value> = config
        .parameters
        .iter()
        .map(|(name, parameter)| (name.clone(), property(parameter)))
        .collect();
    let is_required = |(name, parameter): &(&String, &ParameterConfig)| {
        (parameter.required || needed.contains(name.as_str())) && parameter.default.is_none()
    };
    let required: Vec<&String> = config
        .parameters
        .iter()
        .filter(is_required)
        .map(|(name, _)| name)
        .collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn property(parameter: &ParameterConfig) -> Value {
    let mut property = json!({"type": parameter.kind.as_str(), "description": parameter.description});
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            property[key] = value;
        }
    };
    put("enum", parameter.allowed.clone().map(Value::Array));
    put("default", parameter.default.clone());
    put("minimum", parameter.minimum.clone().map(Value::Number));
    put("maximum", parameter.maximum.clone().map(Value::Number));
    put("pattern", parameter.pattern.clone().map(Value::String));
    if parameter.kind == ParameterType::String {
        put(
            "maxLength",
            Some(parameter.max_length.unwrap_or(STRING_CHARS_MAX).into()),
        );
    }
    property
}

/// What is declared, and for the rest what the method means.
pub(super) fn hints(effects: EffectsConfig, method: Method) -> Hints {
    let read_only = effects.read_only.unwrap_or(method == Method::Get);
    Hints {
        read_only,
        destructive: effects.destructive.unwrap_or(!read_only),
        idempotent: matches!(method, Method::Get | Method::Put | Method::Delete),
        open_world: true,
    }
}

pub(super) fn definition(name: &str, description: &str, input: &Value, hints: Hints) -> Box<RawValue> {
    raw(&json!({
        "name": name,
        "description": description,
        "inputSchema": input,
        "annotations": {
            "readOnlyHint": hints.read_only,
            "destructiveHint": hints.destructive,
            "idempotentHint": hints.idempotent,
            "openWorldHint": hints.open_world,
        },
    }))
}
