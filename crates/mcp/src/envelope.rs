//! The JSON-RPC envelope, parsed once. `params` stay the client's own bytes.
//!
//! Refuses what is not JSON, repeated keys, nesting without end, and ids that are neither strings nor integers. It
//! looks at nothing beyond the envelope.

use bytes::Bytes;
use forebay_domain::{Code, Failure, json::check_strict};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt};

/// The id of a request as JSON text: a string or an integer, to be echoed as it came.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Id(Box<str>);

impl Id {
    /// Reads the JSON text of an id; strings are brought into one spelling, so that equal ids compare equal.
    pub fn parse(json: &str) -> Option<Self> {
        if json.starts_with('"') {
            let text: String = serde_json::from_str(json).ok()?;
            return serde_json::to_string(&text).ok().map(|json| Self(json.into()));
        }
        let digits = json.strip_prefix('-').unwrap_or(json);
        let whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        whole.then(|| Self(json.into()))
    }

    pub fn as_json(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A call that wants an answer, or (without an id) one that does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub id: Id,
    pub method: String,
    pub params: Option<Bytes>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    pub method: String,
    pub params: Option<Bytes>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Request(Request),
    Notification(Notification),
    Response(Response),
}

/// An answer to something that the gateway asked, still raw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub id: Option<Id>,
    pub answer: Answer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Result(Bytes),
    Error(Bytes),
}

/// One element of a batch: a message, or why it is none.
pub type Element = Result<Message, Refused>;

/// A body as it was sent.
#[derive(Debug)]
pub enum Incoming {
    One(Message),
    Batch(Vec<Element>),
}

/// Why an envelope was refused, with the id where it could be read.
#[derive(Debug)]
pub struct Refused {
    pub id: Option<Id>,
    pub failure: Box<Failure>,
}

/// Reads a body. The largest batch accepted has `batch_max` elements.
pub fn read(body: &Bytes, batch_max: usize) -> Result<Incoming, Refused> {
    check_strict(body).map_err(|failure| Refused {
        id: None,
        failure: Box::new(failure),
    })?;
    match body.iter().find(|b| !b.is_ascii_whitespace()) {
        Some(b'{') => one(body, body).map(Incoming::One),
        Some(b'[') => batch(body, batch_max).map(Incoming::Batch),
        _ => Err(refused(None, "The body must be one JSON-RPC message: a JSON object.")),
    }
}

fn batch(body: &Bytes, batch_max: usize) -> Result<Vec<Element>, Refused> {
    let elements: Vec<&RawValue> =
        serde_json::from_slice(body).map_err(|error| refused(None, &format!("The batch cannot be read: {error}.")))?;
    if elements.is_empty() {
        return Err(refused(None, "A batch needs at least one message."));
    }
    if elements.len() > batch_max {
        let message = format!(
            "A batch has at most {batch_max} messages, this one has {}.",
            elements.len()
        );
        return Err(refused(None, &message));
    }
    Ok(elements
        .into_iter()
        .map(|element| one(body, element.get().as_bytes()))
        .collect())
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    jsonrpc: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    method: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
}

/// Tells `null` from absent, which `Option` alone does not.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads one message that stands somewhere within `body`.
fn one(body: &Bytes, text: &[u8]) -> Result<Message, Refused> {
    let wire: Wire<'_> = serde_json::from_slice(text).map_err(|error| {
        let what = if error.is_data() {
            "not a JSON-RPC message"
        } else {
            "not JSON"
        };
        refused(None, &format!("The message is {what}: {error}."))
    })?;
    let id = match wire.id {
        None => None,
        Some(raw) => Some(Id::parse(raw.get()).ok_or_else(|| refused(None, "`id` must be a string or an integer."))?),
    };
    if wire.jsonrpc.as_deref() != Some("2.0") {
        return Err(refused(id, "`jsonrpc` must be the string \"2.0\"."));
    }
    let Some(method) = wire.method else {
        let slice = |raw: &RawValue| body.slice_ref(raw.get().as_bytes());
        let answer = match (wire.result, wire.error) {
            (Some(result), None) => Answer::Result(slice(result)),
            (None, Some(error)) => Answer::Error(slice(error)),
            (Some(_), Some(_)) | (None, None) => return Err(refused(id, "A request needs a `method`.")),
        };
        return Ok(Message::Response(Response { id, answer }));
    };
    let Ok(method) = serde_json::from_str::<String>(method.get()) else {
        return Err(refused(id, "`method` must be a string."));
    };
    let params = match wire.params {
        None => None,
        Some(raw) if raw.get().starts_with('{') => Some(body.slice_ref(raw.get().as_bytes())),
        Some(_) => return Err(refused(id, "`params` must be a JSON object.")),
    };
    Ok(match id {
        Some(id) => Message::Request(Request { id, method, params }),
        None => Message::Notification(Notification { method, params }),
    })
}

fn refused(id: Option<Id>, message: &str) -> Refused {
    Refused {
        id,
        failure: Box::new(
            Failure::new(Code::InvalidRequest, message)
                .hint("Send {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"…\",\"params\":{…}}."),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str) -> Result<Incoming, (Option<String>, Code)> {
        read(&Bytes::from(body.to_owned()), 3)
            .map_err(|refused| (refused.id.map(|id| id.to_string()), refused.failure.code))
    }

    #[test]
    fn a_message_is_a_request_a_notification_or_a_response() {
        let request = |id: &str, params: Option<&str>| {
            Message::Request(Request {
                id: Id::parse(id).unwrap(),
                method: "m".to_owned(),
                params: params.map(|p| Bytes::from(p.to_owned())),
            })
        };
        let answer = |answer| {
            Message::Response(Response {
                id: Id::parse("1"),
                answer,
            })
        };
        for (body, expected) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#, request("1", None)),
            (
                r#" {"jsonrpc":"2.0","id":"a","method":"m","params":{"x": 1.0}}"#,
                request("\"a\"", Some(r#"{"x": 1.0}"#)),
            ),
            (
                r#"{"jsonrpc":"2.0","id":-7,"method":"m","extra":[]}"#,
                request("-7", None),
            ),
            (
                r#"{"jsonrpc":"2.0","id":123456789012345678901234567890,"method":"m"}"#,
                request("123456789012345678901234567890", None),
            ),
            (
                r#"{"jsonrpc":"2.0","method":"m"}"#,
                Message::Notification(Notification {
                    method: "m".to_owned(),
                    params: None,
                }),
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{"x": 1.0}}"#,
                answer(Answer::Result(Bytes::from_static(br#"{"x": 1.0}"#))),
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}"#,
                answer(Answer::Error(Bytes::from_static(br#"{"code":1,"message":""}"#))),
            ),
        ] {
            let Ok(Incoming::One(message)) = check(body) else {
                panic!("{body}")
            };
            assert_eq!(message, expected, "{body}");
        }
        assert_eq!(Id::parse(r#""\u0061""#), Id::parse("\"a\""), "one spelling");
    }

    #[test]
    fn what_is_no_message_is_refused_with_its_id_where_it_has_one() {
        let deep = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":{}",
            "[".repeat(10_000)
        );
        for (body, id, code) in [
            ("", None, Code::MalformedJson),
            ("{", None, Code::MalformedJson),
            (&deep, None, Code::JsonTooDeep),
            (
                r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}"#,
                None,
                Code::DuplicateKey,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":1,"a":2}}"#,
                None,
                Code::DuplicateKey,
            ),
            ("7", None, Code::InvalidRequest),
            ("[]", None, Code::InvalidRequest),
            ("[{},{},{},{}]", None, Code::InvalidRequest),
            (r#"{"id":1,"method":"m"}"#, Some("1"), Code::InvalidRequest),
            (
                r#"{"jsonrpc":"1.0","id":"q","method":"m"}"#,
                Some("\"q\""),
                Code::InvalidRequest,
            ),
            (r#"{"jsonrpc":2.0,"id":1,"method":"m"}"#, None, Code::InvalidRequest),
            (
                r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#,
                None,
                Code::InvalidRequest,
            ),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"m"}"#, None, Code::InvalidRequest),
            (r#"{"jsonrpc":"2.0","id":1e3,"method":"m"}"#, None, Code::InvalidRequest),
            (r#"{"jsonrpc":"2.0","id":{},"method":"m"}"#, None, Code::InvalidRequest),
            (r#"{"jsonrpc":"2.0","id":1}"#, Some("1"), Code::InvalidRequest),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":3}"#,
                Some("1"),
                Code::InvalidRequest,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"result":1,"error":{}}"#,
                Some("1"),
                Code::InvalidRequest,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[1]}"#,
                Some("1"),
                Code::InvalidRequest,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"m","params":null}"#,
                Some("1"),
                Code::InvalidRequest,
            ),
        ] {
            let start: String = body.chars().take(80).collect();
            assert_eq!(check(body).unwrap_err(), (id.map(str::to_owned), code), "{start}");
        }
    }

    #[test]
    fn a_batch_keeps_its_good_messages_beside_its_bad_ones() {
        let Ok(Incoming::Batch(elements)) =
            check(r#"[{"jsonrpc":"2.0","id":1,"method":"a"}, 7, {"jsonrpc":"2.0","method":"b"}]"#)
        else {
            panic!("a batch of three")
        };
        assert!(matches!(&elements[0], Ok(Message::Request(request)) if request.method == "a"));
        assert!(elements[1].is_err());
        assert!(matches!(&elements[2], Ok(Message::Notification(_))));
    }
}
