//! The request as it goes upstream: the client's own bytes, with at most three places replaced.
//!
//! The body is never taken apart and put together again. The places of `model`, `stream_options` and the limit of
//! the answer are found, and all else stays as it came: unknown fields, their order, the way numbers are written.

use crate::{
    money::{Has, Limit},
    settings::Backend,
};
use forebay_domain::{Code, Failure, model::Endpoint};
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::{json, value::RawValue};
use std::ops::Range;

/// A checked body, and where it has to change.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    body: &'a [u8],
    /// Where the value of `model` stands; where the field is missing, the empty place at which to insert it.
    model: Range<usize>,
    /// What makes the engine tell its usage at the end of a stream, where the client did not ask for it.
    usage: Option<Edit>,
    endpoint: Endpoint,
    /// Where the limits of the answer stand, empty where they are missing or say nothing.
    limits: Limits,
    /// The value of `messages`, where the API has some.
    pub(crate) messages: Option<&'a str>,
    pub(crate) streams: Streams,
}

#[derive(Debug)]
struct Limits {
    has: Has,
    max_tokens: Range<usize>,
    max_completion_tokens: Range<usize>,
}

/// Put this text there, in place of what stands there.
#[derive(Debug)]
struct Edit {
    at: Range<usize>,
    text: &'static str,
}

/// How the client wants its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    No,
    /// As events, and the closing chunk that tells the usage with them.
    WithUsage,
    /// As events; the closing chunk that tells the usage is for the gateway alone.
    WithoutUsage,
}

/// The fields that the gateway looks at, each as it was written; `null` is a value like any other.
#[derive(Deserialize)]
struct Looked<'a> {
    #[serde(default, borrow, deserialize_with = "as_written")]
    model: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "as_written")]
    messages: Option<&'a RawValue>,
    #[serde(default)]
    prompt: Option<IgnoredAny>,
    #[serde(default)]
    input: Option<IgnoredAny>,
    #[serde(default, borrow, deserialize_with = "as_written")]
    stream: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "as_written")]
    stream_options: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "as_written")]
    max_tokens: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "as_written")]
    max_completion_tokens: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct StreamOptions<'a> {
    #[serde(default, borrow, deserialize_with = "as_written")]
    include_usage: Option<&'a RawValue>,
}

fn as_written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl<'a> Outgoing<'a> {
    pub(crate) fn parse(endpoint: Endpoint, body: &'a [u8]) -> Result<Self, Failure> {
        let open = body.iter().position(|byte| !byte.is_ascii_whitespace());
        let Some(open) = open.filter(|at| body[*at] == b'{') else {
            return Err(invalid("body", "must be a JSON object"));
        };
        let looked: Looked<'_> = serde_json::from_slice(body)
            .map_err(|error| invalid("body", "must be a JSON object with each key once").caused_by(error))?;
        let messages = looked.messages.map(RawValue::get).filter(|raw| raw.starts_with('['));
        match endpoint {
            Endpoint::Chat | Endpoint::Messages if messages.is_none() => {
                return Err(invalid("messages", "must be an array of messages"));
            }
            Endpoint::Completions if looked.prompt.is_none() => return Err(invalid("prompt", "is missing")),
            Endpoint::Embeddings if looked.input.is_none() => return Err(invalid("input", "is missing")),
            Endpoint::Chat
            | Endpoint::Completions
            | Endpoint::Embeddings
            | Endpoint::Responses
            | Endpoint::Messages => {}
        }
        let wants_events = match looked.stream.map_or("false", RawValue::get) {
            "true" => true,
            "false" | "null" => false,
            _ => return Err(invalid("stream", "must be true or false")),
        };
        let inside = open + 1;
        let (streams, usage) = match endpoint {
            // It has no streams, and what `stream` may mean is for the engine to say.
            Endpoint::Embeddings => (Streams::No, None),
            _ if !wants_events => (Streams::No, None),
            // It tells the usage unasked.
            Endpoint::Messages => (Streams::WithUsage, None),
            Endpoint::Chat | Endpoint::Completions | Endpoint::Responses => {
                ask_for_usage(body, inside, looked.stream_options)?
            }
        };
        let is_said = |raw: Option<&RawValue>| raw.is_some_and(|raw| raw.get() != "null");
        let place_of = |raw: Option<&RawValue>| raw.map_or(inside..inside, |raw| place(body, raw));
        Ok(Self {
            body,
            endpoint,
            limits: Limits {
                has: Has {
                    max_tokens: is_said(looked.max_tokens),
                    max_completion_tokens: is_said(looked.max_completion_tokens),
                },
                max_tokens: place_of(looked.max_tokens),
                max_completion_tokens: place_of(looked.max_completion_tokens),
            },
            model: looked.model.map_or(inside..inside, |raw| place(body, raw)),
            usage,
            messages,
            streams,
        })
    }

    /// The body for one backend, which knows the model by its own name; with a limit of the answer, where it has to have
    /// one.
    pub(crate) fn body_for(&self, backend: &Backend, limit: Option<Limit>) -> Vec<u8> {
        let name = &backend.model_json;
        let model = if self.model.is_empty() {
            format!("\"model\":{name},")
        } else {
            name.clone()
        };
        let limit = limit.and_then(|limit| self.limit_for(backend, limit));
        let mut edits = vec![(&self.model, model.as_str())];
        edits.extend(self.usage.as_ref().map(|edit| (&edit.at, edit.text)));
        edits.extend(limit.as_ref().map(|(at, text)| (*at, text.as_str())));
        edits.sort_by_key(|(at, _)| at.start);
        let mut out = Vec::with_capacity(self.body.len() + model.len() + EDIT_BYTES_MAX);
        let mut from = 0;
        for (at, text) in edits {
            out.extend_from_slice(&self.body[from..at.start]);
            out.extend_from_slice(text.as_bytes());
            from = at.end;
        }
        out.extend_from_slice(&self.body[from..]);
        out
    }

    fn limit_for(&self, backend: &Backend, limit: Limit) -> Option<(&Range<usize>, String)> {
        let Limits {
            has,
            max_tokens,
            max_completion_tokens,
        } = &self.limits;
        let field = Limit::missing(self.endpoint, backend.engine, *has)?;
        let at = if field == Limit::MAX_TOKENS {
            max_tokens
        } else {
            max_completion_tokens
        };
        let value = limit.each.to_string();
        let text = if at.is_empty() {
            format!("\"{field}\":{value},")
        } else {
            value
        };
        Some((at, text))
    }
}

/// No text of [`ask_for_usage`] and no limit of an answer is longer.
const EDIT_BYTES_MAX: usize = 96;

/// How the client wants its stream, and what has to change so that the engine tells its usage all the same.
fn ask_for_usage(body: &[u8], inside: usize, options: Option<&RawValue>) -> Result<(Streams, Option<Edit>), Failure> {
    let hidden = |at, text| Ok((Streams::WithoutUsage, Some(Edit { at, text })));
    let Some(raw) = options else {
        return hidden(inside..inside, r#""stream_options":{"include_usage":true},"#);
    };
    let at = place(body, raw);
    if raw.get() == "null" {
        return hidden(at, r#"{"include_usage":true}"#);
    }
    if !raw.get().starts_with('{') {
        return Err(invalid("stream_options", "must be an object"));
    }
    let options: StreamOptions<'_> = serde_json::from_str(raw.get())
        .map_err(|error| invalid("stream_options", "must be an object with each key once").caused_by(error))?;
    match options.include_usage {
        Some(wanted) if wanted.get() == "true" => Ok((Streams::WithUsage, None)),
        Some(other) if matches!(other.get(), "false" | "null") => hidden(place(body, other), "true"),
        Some(_) => Err(invalid("stream_options.include_usage", "must be true or false")),
        None => {
            let inside = at.start + 1;
            let is_empty = raw.get()[1..].trim_start().starts_with('}');
            let text = if is_empty {
                r#""include_usage":true"#
            } else {
                r#""include_usage":true,"#
            };
            hidden(inside..inside, text)
        }
    }
}

/// Where in the body a value stands that was borrowed from it.
fn place(body: &[u8], raw: &RawValue) -> Range<usize> {
    let start = raw.get().as_ptr().addr() - body.as_ptr().addr();
    start..start + raw.get().len()
}

fn invalid(field: &str, expected: &str) -> Failure {
    Failure::new(Code::InvalidRequest, format!("`{field}` {expected}."))
        .hint("Send a request as the API at this path describes it.")
        .details(json!({ "param": field }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Settings, TurnsConfig};
    use forebay_runtime::secret::SecretReader;
    use serde_json::Value;

    fn edited(body: &str) -> Result<(Streams, String), String> {
        let config: Config =
            serde_json::from_str(r#"{"m":{"backends":[{"url":"http://h","model":"org/\"M\""}]}}"#).unwrap();
        let settings = Settings::parse(&config, &TurnsConfig::default(), &SecretReader::new(|_| None)).unwrap();
        let outgoing = Outgoing::parse(Endpoint::Chat, body.as_bytes()).map_err(|failure| {
            assert_eq!(failure.code, Code::InvalidRequest);
            failure.message
        })?;
        let out = outgoing.body_for(&settings.models["m"].backends[0], None);
        let text = String::from_utf8(out).unwrap();
        serde_json::from_str::<Value>(&text).unwrap();
        Ok((outgoing.streams, text))
    }

    fn check(body: &str, streams: Streams, expected: &str) {
        assert_eq!(edited(body), Ok((streams, expected.to_owned())), "{body}");
    }

    #[test]
    fn only_the_name_changes_byte_for_byte() {
        check(
            r#" { "zeta": 1.50e+02, "model" : "m" ,"messages":[ {"content":"\u00e9"} ], "x":{"model":"m"}, "seed":18446744073709551616 } "#,
            Streams::No,
            r#" { "zeta": 1.50e+02, "model" : "org/\"M\"" ,"messages":[ {"content":"\u00e9"} ], "x":{"model":"m"}, "seed":18446744073709551616 } "#,
        );
        check(
            r#"{"messages":[]}"#,
            Streams::No,
            r#"{"model":"org/\"M\"","messages":[]}"#,
        );
        check(
            r#"{"messages":[],"model":null,"stream":null,"stream_options":7}"#,
            Streams::No,
            r#"{"messages":[],"model":"org/\"M\"","stream":null,"stream_options":7}"#,
        );
    }

    #[test]
    fn a_stream_is_made_to_tell_its_usage() {
        for (options, streams, expected) in [
            (
                r#","stream_options":null"#,
                Streams::WithoutUsage,
                r#","stream_options":{"include_usage":true}"#,
            ),
            (
                r#","stream_options":{ }"#,
                Streams::WithoutUsage,
                r#","stream_options":{"include_usage":true }"#,
            ),
            (
                r#","stream_options":{"a":1}"#,
                Streams::WithoutUsage,
                r#","stream_options":{"include_usage":true,"a":1}"#,
            ),
            (
                r#","stream_options":{"include_usage":false,"a":1}"#,
                Streams::WithoutUsage,
                r#","stream_options":{"include_usage":true,"a":1}"#,
            ),
            (
                r#","stream_options":{"include_usage": true}"#,
                Streams::WithUsage,
                r#","stream_options":{"include_usage": true}"#,
            ),
        ] {
            check(
                &format!(r#"{{"model":"m","messages":[],"stream":true{options}}}"#),
                streams,
                &format!(r#"{{"model":"org/\"M\"","messages":[],"stream":true{expected}}}"#),
            );
        }
        check(
            r#"{"messages":[],"stream":true}"#,
            Streams::WithoutUsage,
            r#"{"model":"org/\"M\"","stream_options":{"include_usage":true},"messages":[],"stream":true}"#,
        );
        check(
            r#"{"stream_options":{},"messages":[],"stream":true,"model":"m"}"#,
            Streams::WithoutUsage,
            r#"{"stream_options":{"include_usage":true},"messages":[],"stream":true,"model":"org/\"M\""}"#,
        );
    }

    #[test]
    fn a_limit_stands_where_its_field_says_nothing() {
        let check = |engine: &str, body: &str, expected: &str| {
            let json = format!(r#"{{"m":{{"backends":[{{"url":"http://h","engine":"{engine}"}}]}}}}"#);
            let config: Config = serde_json::from_str(&json).unwrap();
            let settings = Settings::parse(&config, &TurnsConfig::default(), &SecretReader::new(|_| None)).unwrap();
            let outgoing = Outgoing::parse(Endpoint::Chat, body.as_bytes()).unwrap();
            let out = outgoing.body_for(&settings.models["m"].backends[0], Some(Limit { each: 64 }));
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        let (vllm, openai) = ("vllm", "openai");
        check(
            vllm,
            r#"{"model":"m","messages":[]}"#,
            r#"{"max_tokens":64,"model":"m","messages":[]}"#,
        );
        check(
            vllm,
            r#"{"messages":[], "max_tokens" : null}"#,
            r#"{"model":"m","messages":[], "max_tokens" : 64}"#,
        );
        check(
            vllm,
            r#"{"model":"m","messages":[],"max_tokens":9}"#,
            r#"{"model":"m","messages":[],"max_tokens":9}"#,
        );
        check(
            vllm,
            r#"{"model":"m","messages":[],"max_completion_tokens":64}"#,
            r#"{"max_tokens":64,"model":"m","messages":[],"max_completion_tokens":64}"#,
        );
        check(
            openai,
            r#"{"model":"m","messages":[],"max_completion_tokens":null}"#,
            r#"{"model":"m","messages":[],"max_completion_tokens":64}"#,
        );
        check(
            openai,
            r#"{"model":"m","messages":[],"max_tokens":5}"#,
            r#"{"model":"m","messages":[],"max_tokens":5}"#,
        );
    }

    #[test]
    fn what_is_no_chat_request_is_refused_by_name() {
        for (body, expected) in [
            ("", "`body` must be a JSON object."),
            ("[[]]", "`body` must be a JSON object."),
            ("{", "`body` must be a JSON object with each key once."),
            (r#"{"model":"m"}"#, "`messages` must be an array of messages."),
            (r#"{"messages":{}}"#, "`messages` must be an array of messages."),
            (r#"{"messages":[],"stream":"yes"}"#, "`stream` must be true or false."),
            (r#"{"messages":[],"stream":1}"#, "`stream` must be true or false."),
            (
                r#"{"messages":[],"stream":true,"stream_options":[]}"#,
                "`stream_options` must be an object.",
            ),
            (
                r#"{"messages":[],"stream":true,"stream_options":{"include_usage":1}}"#,
                "`stream_options.include_usage` must be true or false.",
            ),
        ] {
            assert_eq!(edited(body), Err(expected.to_owned()), "{body}");
        }
    }
}
