//! `Mcp-Param-*` (2026-07-28): headers that repeat single arguments of a tool call, for those who route by them.
//!
//! A header has to say what the body says; one that is missing, or says more than the body, is refused.

use crate::{
    era::{Refusal, mismatch, single},
    header_value::decode,
    source::{ParamHeader, Tool},
};
use http::HeaderMap;
use serde_json::{Value, value::RawValue};

/// Holds the headers of a call against its arguments.
pub(crate) fn check(headers: &HeaderMap, tool: &Tool, arguments: Option<&RawValue>) -> Result<(), Refusal> {
    if tool.headers.is_empty() {
        return Ok(());
    }
    // Arguments that are no object are refused later, by whoever reads them.
    let arguments = arguments.and_then(|raw| serde_json::from_str(raw.get()).ok());
    let arguments: Value = arguments.unwrap_or_default();
    for param in &tool.headers {
        check_one(headers, param, arguments.pointer(&param.pointer))?;
    }
    Ok(())
}

fn check_one(headers: &HeaderMap, param: &ParamHeader, argument: Option<&Value>) -> Result<(), Refusal> {
    let name = format!("mcp-param-{}", param.header.to_ascii_lowercase());
    let header = single(headers, &name)?;
    let argument = argument.filter(|value| !value.is_null());
    let (header, argument) = match (header, argument) {
        (None, None) => return Ok(()),
        (Some(header), Some(argument)) => (header, argument),
        (None, Some(_)) => {
            let message = format!(
                "The header {name} is missing; it repeats the argument `{}`.",
                param.pointer
            );
            return Err(mismatch(message));
        }
        (Some(_), None) => {
            let message = format!(
                "The header {name} repeats the argument `{}`, which is not there.",
                param.pointer
            );
            return Err(mismatch(message));
        }
    };
    let Some(told) = decode(header) else {
        return Err(mismatch(format!(
            "The header {name} is not valid Base64 of UTF-8 text."
        )));
    };
    if is_same(&told, argument) {
        return Ok(());
    }
    let message = format!(
        "The header {name} does not say what the argument `{}` says.",
        param.pointer
    );
    Err(mismatch(message))
}

fn is_same(told: &str, argument: &Value) -> bool {
    match argument {
        Value::String(text) => told == text,
        Value::Bool(yes) => told == if *yes { "true" } else { "false" },
        // Numbers are compared as numbers, as the specification asks: `42.0` is `42`.
        Value::Number(number) => told == number.to_string() || number.as_f64().is_some_and(|n| told.parse() == Ok(n)),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Hints;
    use http::{HeaderName, HeaderValue};
    use std::time::Duration;

    fn judge(header: Option<&str>, arguments: &str) -> bool {
        let tool = Tool {
            name: "t".to_owned(),
            raw: RawValue::from_string("{}".to_owned()).unwrap(),
            hints: Hints {
                read_only: true,
                destructive: false,
                idempotent: true,
                open_world: false,
            },
            headers: vec![ParamHeader {
                header: "Region".to_owned(),
                pointer: "/where/region".to_owned(),
            }],
            time_limit: Duration::from_secs(1),
        };
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            let name: HeaderName = "mcp-param-region".parse().unwrap();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let arguments = RawValue::from_string(arguments.to_owned()).unwrap();
        check(&headers, &tool, Some(&arguments)).is_ok()
    }

    #[test]
    fn a_header_says_what_its_argument_says() {
        for (header, arguments, expected) in [
            (Some("us-west1"), r#"{"where":{"region":"us-west1"}}"#, true),
            (Some("us-west2"), r#"{"where":{"region":"us-west1"}}"#, false),
            (Some("=?base64?SGVsbG8=?="), r#"{"where":{"region":"Hello"}}"#, true),
            (Some("=?base64?SGVsbG8?="), r#"{"where":{"region":"Hello"}}"#, false),
            (Some("SGVsbG8="), r#"{"where":{"region":"SGVsbG8="}}"#, true),
            (Some("42.0"), r#"{"where":{"region":42}}"#, true),
            (Some("43"), r#"{"where":{"region":42}}"#, false),
            (Some("true"), r#"{"where":{"region":true}}"#, true),
            (Some("True"), r#"{"where":{"region":true}}"#, false),
            (Some("[]"), r#"{"where":{"region":[]}}"#, false),
            (None, r#"{"where":{"region":"x"}}"#, false),
            (None, r#"{"where":{"region":null}}"#, true),
            (None, r"{}", true),
            (Some("x"), r"{}", false),
        ] {
            assert_eq!(judge(header, arguments), expected, "{header:?} {arguments}");
        }
    }
}
