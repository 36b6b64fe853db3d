//! What an endpoint answered, as the result of a tool.

use crate::call::{Complete, raw};
use bytes::Bytes;
use forebay_domain::{Code, Failure};
use http::{Response, header};
use serde_json::{Value, json};

/// How much of an error's body is told.
const ERROR_CHARS_MAX: usize = 1_000;

/// `pointer` leads to the part that is the result.
pub(super) fn read(response: &Response<Bytes>, pointer: Option<&str>) -> Result<Complete, Failure> {
    let status = response.status();
    if status.is_redirection() {
        let message = format!(
            "The endpoint answered with a redirect ({}), and none is followed.",
            status.as_u16()
        );
        return Err(Failure::new(Code::UpstreamFailed, message).hint("The operator must declare where it leads."));
    }
    if !status.is_success() {
        return Ok(refused(response));
    }
    if response.body().is_empty() {
        return Ok(complete(&json!({"content": [], "isError": false})));
    }
    match kind(response) {
        Kind::Json => {
            let value: Value = serde_json::from_slice(response.body()).map_err(|fault| {
                Failure::new(
                    Code::UpstreamFailed,
                    "The endpoint's answer is not the JSON that it is said to be.",
                )
                .caused_by(fault)
            })?;
            let part = pointer.map_or(Some(&value), |pointer| value.pointer(pointer));
            let part = part.ok_or_else(|| {
                let message = "The endpoint's answer does not have the part that is the result.";
                Failure::new(Code::UpstreamFailed, message)
            })?;
            Ok(complete(&result(part)))
        }
        Kind::Text if pointer.is_none() => Ok(complete(&text(&lossy(response.body())))),
        Kind::Text => Err(Failure::new(
            Code::UpstreamFailed,
            "The endpoint answered with text, where JSON was expected.",
        )),
        Kind::Other(kind) => {
            let message = format!("The endpoint answered with `{kind}`, which is neither JSON nor text.");
            Err(Failure::new(Code::UpstreamFailed, message))
        }
    }
}

enum Kind {
    Json,
    Text,
    Other(String),
}

fn kind(response: &Response<Bytes>) -> Kind {
    let value = response.headers().get(header::CONTENT_TYPE);
    let whole = value.and_then(|value| value.to_str().ok()).unwrap_or("text/plain");
    let essence = whole.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || essence.ends_with("+json") {
        Kind::Json
    } else if essence.starts_with("text/") || essence.ends_with("/xml") || essence.ends_with("+xml") {
        Kind::Text
    } else {
        Kind::Other(essence.chars().take(100).collect())
    }
}

fn result(part: &Value) -> Value {
    match part {
        Value::String(said) => text(said),
        Value::Object(_) => {
            let mut result = text(&part.to_string());
            result["structuredContent"] = part.clone();
            result
        }
        other => text(&other.to_string()),
    }
}

fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}], "isError": false})
}

fn complete(result: &Value) -> Complete {
    Complete {
        raw: raw(result),
        is_error: false,
        failed: None,
    }
}

/// An error of the endpoint's own: a model may be able to mend its call.
fn refused(response: &Response<Bytes>) -> Complete {
    let status = response.status();
    let said: String = lossy(response.body())
        .chars()
        .filter(|c| !c.is_control() || *c == '\n')
        .take(ERROR_CHARS_MAX)
        .collect();
    let message = format!("The endpoint answered {}: {said}", status.as_u16());
    let mut result = text(message.trim_end_matches([':', ' ']));
    result["isError"] = json!(true);
    Complete {
        raw: raw(&result),
        is_error: true,
        failed: status.is_server_error().then_some(Code::UpstreamFailed),
    }
}

fn lossy(body: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, kind: &str, body: &str, pointer: Option<&str>) -> Result<(Value, bool), String> {
        let mut response = Response::new(Bytes::copy_from_slice(body.as_bytes()));
        *response.status_mut() = status.try_into().unwrap();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, kind.parse().unwrap());
        let complete = read(&response, pointer).map_err(|failure| failure.message)?;
        Ok((serde_json::from_str(complete.raw.get()).unwrap(), complete.is_error))
    }

    #[test]
    fn an_answer_becomes_a_result() {
        let ok = |kind, body, pointer| answer(200, kind, body, pointer).unwrap().0;
        let object = ok("application/json; charset=utf-8", r#"{"a":{"b":[1,2]}}"#, None);
        assert_eq!(object["structuredContent"], json!({"a": {"b": [1, 2]}}));
        assert_eq!(object["content"][0]["text"], r#"{"a":{"b":[1,2]}}"#);
        let part = ok("application/problem+json", r#"{"a":{"b":[1,2]}}"#, Some("/a/b"));
        assert_eq!(
            (&part["content"][0]["text"], part.get("structuredContent")),
            (&json!("[1,2]"), None)
        );
        assert_eq!(ok("application/json", r#""hi""#, None)["content"][0]["text"], "hi");
        assert_eq!(ok("text/csv", "a,b", None)["content"][0]["text"], "a,b");
        assert_eq!(ok("text/plain", "", None)["content"], json!([]));
    }

    #[test]
    fn what_is_no_result_is_an_error() {
        for (status, kind, body, pointer, says) in [
            (200, "application/json", "{", None, "not the JSON"),
            (200, "application/json", "{}", Some("/a"), "does not have the part"),
            (200, "text/plain", "x", Some("/a"), "JSON was expected"),
            (200, "image/png", "x", None, "neither JSON nor text"),
            (302, "text/plain", "x", None, "redirect (302)"),
        ] {
            let said = answer(status, kind, body, pointer).unwrap_err();
            assert!(said.contains(says), "{said}");
        }
        let (result, is_error) = answer(422, "text/plain", &format!("no\u{7} {}", "x".repeat(5_000)), None).unwrap();
        let said = result["content"][0]["text"].as_str().unwrap();
        assert!(is_error && result["isError"] == true && said.starts_with("The endpoint answered 422: no x"));
        assert!(said.len() < 1_100);
        assert_eq!(
            answer(500, "text/plain", "", None).unwrap().0["content"][0]["text"],
            "The endpoint answered 500"
        );
    }
}
