//! Whole numbers as they are read: to a schema `8.0` is an integer, and models write it; whoever reads integers wants `8`.

use serde_json::Value;

/// 2^53: beyond it not every whole number can be written with a point.
const LARGEST: f64 = 9_007_199_254_740_992.0;

/// Takes the point out of each whole number where the schema wants an integer, and touches nothing else: nothing beyond
/// 2^53, and nothing below `anyOf`, `$ref` or `additionalProperties`, which no schema of ours has numbers below.
pub(super) fn make(schema: &Value, value: &mut Value) {
    match value {
        Value::Number(number) if wants_integer(&schema["type"]) => {
            let written = number.as_f64().filter(|_| number.is_f64());
            if let Some(whole) = written.filter(|size| size.fract() == 0.0 && size.abs() <= LARGEST) {
                *value = as_i64(whole).into();
            }
        }
        Value::Array(items) => {
            for item in items {
                make(&schema["items"], item);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                make(&schema["properties"][name.as_str()], member);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn wants_integer(wanted: &Value) -> bool {
    match wanted {
        Value::Array(any) => any.iter().any(|one| one == "integer") && !any.iter().any(|one| one == "number"),
        one => one == "integer",
    }
}

#[expect(clippy::cast_possible_truncation, reason = "checked to be whole and no larger")]
fn as_i64(whole: f64) -> i64 {
    whole as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_integer_may_be_written_with_a_point_and_nothing_else_is_touched() {
        let whole = json!({"type": "integer"});
        let schema = json!({"properties": {
            "hours": whole, "idle": whole, "huge": whole, "ports": {"type": "array", "items": whole},
            "priority": {"type": ["string", "integer"]}, "ratio": {"type": ["integer", "number"]},
            "disk": {"type": "number"}, "named": {"properties": {"lines": whole}}, "body": {"type": "object"},
        }});
        let mut sent = json!({
            "hours": 8.0, "idle": -1.0, "huge": 1e30, "ports": [8000.0, 22], "priority": 3.0, "ratio": 2.0, "disk": 2.0,
            "named": {"lines": 5.0}, "body": {"hours": 8.0}, "other": 1.0,
        });
        make(&schema, &mut sent);
        let expected = json!({
            "hours": 8, "idle": -1, "huge": 1e30, "ports": [8000, 22], "priority": 3, "ratio": 2.0, "disk": 2.0,
            "named": {"lines": 5}, "body": {"hours": 8.0}, "other": 1.0,
        });
        assert_eq!(sent, expected);
    }
}
