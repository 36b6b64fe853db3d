//! Taking fields out of JSON objects, and refusing them by name.
//!
//! `null` is as good as nothing: every API here reads it so.

use forebay_domain::{Code, Failure};
use serde_json::{Value, json};
use std::fmt;

pub(crate) type Map = serde_json::Map<String, Value>;

/// The request is at fault, here: the sentence goes on after the field's name.
pub(super) fn refused(param: &str, how: impl fmt::Display) -> Failure {
    Failure::new(Code::InvalidRequest, format!("`{param}` {how}."))
        .hint("Change that field; where it is not needed, leave it out.")
        .details(json!({ "param": param }))
}

/// A field that would change what the answer means, and has no place on the other side.
pub(super) fn unsaid(param: &str, whose: &str) -> Failure {
    refused(
        param,
        format_args!("cannot be said in {whose}, in which this model is asked"),
    )
}

/// Something of a type that has no place on the other side.
pub(super) fn unknown_type(param: &str, kind: &str, whose: &str) -> Failure {
    refused(
        param,
        format_args!("is of the type `{kind}`, for which {whose}, in which this model is asked, has no place"),
    )
}

/// Takes a field out; `None` where it is missing or `null`.
pub(super) fn take(map: &mut Map, key: &str) -> Option<Value> {
    map.remove(key).filter(|value| !value.is_null())
}

pub(super) fn take_text(map: &mut Map, key: &str, at: &str) -> Result<Option<String>, Failure> {
    match take(map, key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(refused(&path(at, key), "must be a text")),
    }
}

pub(super) fn take_array(map: &mut Map, key: &str, at: &str) -> Result<Option<Vec<Value>>, Failure> {
    match take(map, key) {
        None => Ok(None),
        Some(Value::Array(array)) => Ok(Some(array)),
        Some(_) => Err(refused(&path(at, key), "must be an array")),
    }
}

pub(super) fn take_object(map: &mut Map, key: &str, at: &str) -> Result<Option<Map>, Failure> {
    match take(map, key) {
        None => Ok(None),
        Some(value) => object(value, &path(at, key)).map(Some),
    }
}

pub(super) fn take_flag(map: &mut Map, key: &str, at: &str) -> Result<Option<bool>, Failure> {
    match take(map, key) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(flag)),
        Some(_) => Err(refused(&path(at, key), "must be true or false")),
    }
}

pub(super) fn need_text(map: &mut Map, key: &str, at: &str) -> Result<String, Failure> {
    take_text(map, key, at)?.ok_or_else(|| refused(&path(at, key), "is missing"))
}

pub(super) fn object(value: Value, at: &str) -> Result<Map, Failure> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(refused(at, "must be an object")),
    }
}

/// Moves a field under another name, where it is there.
pub(super) fn rename(map: &mut Map, from: &str, to: &str) {
    if let Some(value) = take(map, from) {
        map.insert(to.to_owned(), value);
    }
}

/// An object out of `json!({…})`.
pub(super) fn map(value: Value) -> Map {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

pub(super) fn text_at<'a>(map: &'a Map, key: &str) -> Option<&'a str> {
    map.get(key).and_then(Value::as_str)
}

pub(super) fn path(at: &str, key: &str) -> String {
    if at.is_empty() {
        key.to_owned()
    } else {
        format!("{at}.{key}")
    }
}
