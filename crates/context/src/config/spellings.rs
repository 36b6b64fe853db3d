//! Keys that may be written in more than one way, in the schema.

use schemars::Schema;
use serde_json::Value;

/// Lets the schema take each key in its other spellings too.
pub(super) fn with_other_spellings(schema: &mut Schema) {
    let mut aliased = Vec::new();
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    let mut others = Vec::new();
    for (name, property) in properties.iter_mut() {
        let Some(Value::Array(spellings)) = property
            .as_object_mut()
            .and_then(|one| one.remove("x-forebay-spellings"))
        else {
            continue;
        };
        aliased.push(name.clone());
        for spelling in spellings.iter().filter_map(Value::as_str) {
            let mut other = property.clone();
            other["description"] = format!("The same as `{name}`.").into();
            if let Some(other) = other.as_object_mut() {
                other.remove("default");
            }
            others.push((spelling.to_owned(), other));
        }
    }
    properties.extend(others);
    // Whoever writes it in another spelling does not write it in this one; reading it refuses where there is none.
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| !aliased.iter().any(|aliased| name == aliased));
    }
}
