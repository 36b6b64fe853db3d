//! JSON pointers (RFC 6901) into raw JSON: what is found is handed on byte for byte.

use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// How many of the names that are there are told to whoever asked for another.
const NAMES_MAX: usize = 20;

/// The longest name that is told whole, in characters.
const NAME_CHARS_MAX: usize = 64;

/// The parts of a pointer, unescaped. None where it is no pointer, or the empty one.
pub(super) fn parts(pointer: &str) -> Option<Vec<String>> {
    let parts = pointer.strip_prefix('/')?.split('/');
    Some(parts.map(|part| part.replace("~1", "/").replace("~0", "~")).collect())
}

/// What the parts lead to, or what there is in its place.
pub(super) fn find<'a>(raw: &'a RawValue, parts: &[String]) -> Result<&'a RawValue, String> {
    let mut here = raw;
    for (depth, part) in parts.iter().enumerate() {
        here = step(here, part).map_err(|there| match depth.checked_sub(1) {
            None => format!("the result {there}"),
            Some(before) => format!("`{}` {there}", shortened(&parts[before])),
        })?;
    }
    Ok(here)
}

fn step<'a>(here: &'a RawValue, part: &str) -> Result<&'a RawValue, String> {
    match here.get().trim_start().as_bytes().first() {
        Some(b'{') => member(here, part),
        Some(b'[') => element(here, part),
        Some(_) | None => Err("is neither an object nor a list".to_owned()),
    }
}

fn member<'a>(here: &'a RawValue, part: &str) -> Result<&'a RawValue, String> {
    let members: BTreeMap<String, &'a RawValue> = serde_json::from_str(here.get()).unwrap_or_default();
    if let Some(value) = members.get(part) {
        return Ok(value);
    }
    let mut names: Vec<String> = members
        .keys()
        .take(NAMES_MAX)
        .map(|name| format!("`{}`", shortened(name)))
        .collect();
    if members.len() > NAMES_MAX {
        names.push(format!("and {} more", members.len() - NAMES_MAX));
    }
    Err(match names.as_slice() {
        [] => "has no keys".to_owned(),
        names => format!("has the keys {}", names.join(", ")),
    })
}

fn element<'a>(here: &'a RawValue, part: &str) -> Result<&'a RawValue, String> {
    let elements: Vec<&'a RawValue> = serde_json::from_str(here.get()).unwrap_or_default();
    let is_plain = part == "0" || !part.starts_with(['0', '+']);
    let index = part.parse::<usize>().ok().filter(|_| is_plain);
    index
        .and_then(|index| elements.get(index).copied())
        .ok_or_else(|| format!("is a list of {}", elements.len()))
}

fn shortened(name: &str) -> String {
    let mut short: String = name.chars().take(NAME_CHARS_MAX).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, pointer: &str, expected: Result<&str, &str>) {
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        let parts = parts(pointer).unwrap();
        let found = find(&raw, &parts).map(RawValue::get);
        assert_eq!(found, expected.map_err(str::to_owned), "{pointer} in {json}");
    }

    #[test]
    fn what_is_found_is_handed_on_as_it_stands() {
        check(r#"{"a": {"b" : 1.50}}"#, "/a", Ok(r#"{"b" : 1.50}"#));
        check(r#"{"a": {"b" : 1.50}}"#, "/a/b", Ok("1.50"));
        check(r#"{"a":[10,[20, 30]]}"#, "/a/1/0", Ok("20"));
        check(r#"{"a/b":{"m~n":"x"}}"#, "/a~1b/m~0n", Ok(r#""x""#));
        check(r#"{"":7}"#, "/", Ok("7"));
        check(
            r#"{"\u0061":12345678901234567890123}"#,
            "/a",
            Ok("12345678901234567890123"),
        );
    }

    #[test]
    fn what_is_not_found_is_answered_with_what_is_there() {
        check(r#"{"a":1,"b":2}"#, "/c", Err("the result has the keys `a`, `b`"));
        check(r#"{"a":{}}"#, "/a/b", Err("`a` has no keys"));
        check(r#"{"a":[1,2]}"#, "/a/2", Err("`a` is a list of 2"));
        check(r#"{"a":[1,2]}"#, "/a/01", Err("`a` is a list of 2"));
        check(r#"{"a":[1,2]}"#, "/a/-", Err("`a` is a list of 2"));
        check(r#"{"a":"text"}"#, "/a/0", Err("`a` is neither an object nor a list"));
    }

    #[test]
    fn only_a_slash_begins_a_pointer() {
        assert_eq!(parts(""), None);
        assert_eq!(parts("a/b"), None);
    }
}
