//! `--set KEY=VALUE`: a setting as it is typed.

use forebay_domain::{Code, Failure};
use serde_json::{Map, Value};

/// Its key and its value: text, or JSON where it reads as JSON.
pub(super) fn read<'a>(typed: &'a str, example: &str) -> Result<(&'a str, Value), Failure> {
    let (key, text) = typed.split_once('=').ok_or_else(|| {
        let message = format!("`{typed}` has no `=` in it.");
        Failure::new(Code::InvalidRequest, message).hint(format!("Write for example `--set {example}`."))
    })?;
    Ok((key, serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))))
}

/// Puts a value where its key says: `endpoint.bearer` is a member of `endpoint`. What stands there is not replaced.
pub(super) fn put(document: &mut Map<String, Value>, key: &str, value: Value) -> Result<(), Failure> {
    let refused = |message| Err(Failure::new(Code::InvalidRequest, message));
    let mut inner = document;
    let mut parts = key.split('.').peekable();
    while let Some(part) = parts.next() {
        if part.is_empty() {
            return refused(format!("`{key}` is no name of a setting."));
        }
        if parts.peek().is_none() {
            if inner.insert(part.to_owned(), value).is_some() {
                return refused(format!("`{key}` is set twice."));
            }
            return Ok(());
        }
        let next = inner.entry(part).or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(members) = next else {
            return refused(format!("`{key}` is set within what is no object."));
        };
        inner = members;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_typed_is_put_where_its_key_says() {
        let mut document = Map::new();
        for typed in [
            "timeout=10s",
            "security.rate_limit={\"requests\":5,\"window\":\"1m\"}",
            "security.allowed_domains=[\"a.example\"]",
            "text=a=b",
        ] {
            let (key, value) = read(typed, "").unwrap();
            put(&mut document, key, value).unwrap();
        }
        assert_eq!(
            Value::from(document.clone()),
            json!({"timeout": "10s", "text": "a=b",
                "security": {"rate_limit": {"requests": 5, "window": "1m"}, "allowed_domains": ["a.example"]}})
        );
        for (typed, expected) in [
            ("timeout=1", "`timeout` is set twice."),
            ("security=1", "`security` is set twice."),
            ("text.more=1", "`text.more` is set within what is no object."),
            ("=1", "`` is no name of a setting."),
            ("a..b=1", "`a..b` is no name of a setting."),
        ] {
            let (key, value) = read(typed, "").unwrap();
            assert_eq!(put(&mut document.clone(), key, value).unwrap_err().message, expected);
        }
        let unreadable = read("timeout", "a=1").unwrap_err();
        assert_eq!(unreadable.message, "`timeout` has no `=` in it.");
    }
}
