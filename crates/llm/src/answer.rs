//! What an engine's bytes say: an answer, a chunk of one, an error, or nonsense.
//!
//! Read by looking, not by taking apart: a chunk is searched for the few keys that matter and parsed only where one is
//! found. A quote inside a JSON string is always escaped, so `"usage"` never matches inside somebody's text.

mod messages;
mod said;

pub(crate) use messages::read_event as read_message_event;
pub(crate) use said::said;

use crate::{money::Tokens, sse};
use forebay_domain::model::Endpoint;
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::{Value, value::RawValue};

/// A larger figure is no count of tokens.
const TOKENS_MAX: u64 = 1_000_000_000;

/// What one event of a stream says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A comment or a blank line, as engines send to keep a connection open.
    Nothing,
    Chunk(Chunk),
    /// `[DONE]`.
    Done,
    /// The engine failed, and perhaps said why.
    Error(Option<String>),
    Nonsense,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) usage: Option<Tokens>,
    /// The closing chunk that tells the usage and no output.
    pub(crate) is_usage_alone: bool,
    /// Whether the output ends here; `None` where the chunk does not say.
    pub(crate) finishes: Option<bool>,
}

/// The fields of an answer or a chunk that the gateway looks at.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(default, borrow)]
    error: Option<&'a RawValue>,
    #[serde(default, borrow)]
    object: Option<&'a RawValue>,
    #[serde(default, borrow)]
    usage: Option<&'a RawValue>,
    #[serde(default)]
    choices: Option<Vec<IgnoredAny>>,
    /// What embeddings have in place of choices.
    #[serde(default)]
    data: Option<IgnoredAny>,
}

impl Document<'_> {
    fn is_error(&self) -> bool {
        self.error.is_some() || self.object.is_some_and(|object| object.get() == "\"error\"")
    }

    fn usage(&self) -> Option<Tokens> {
        let counts: Counts = serde_json::from_str(self.usage?.get()).ok()?;
        let is_credible = counts.prompt_tokens.max(counts.completion_tokens) <= TOKENS_MAX;
        is_credible.then_some(Tokens {
            input: counts.prompt_tokens,
            cached: counts.prompt_tokens_details.map_or(0, |details| details.cached_tokens),
            written: 0,
            output: counts.completion_tokens,
        })
    }
}

#[derive(Deserialize)]
struct Counts {
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    /// An engine whose figures cannot be read as such has told them all the same.
    #[serde(default, deserialize_with = "if_readable")]
    prompt_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    cached_tokens: u64,
}

fn if_readable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Details>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).ok())
}

/// Reads one event of a stream.
pub(crate) fn read_event(event: &[u8]) -> Said {
    let Some(data) = sse::data(event) else {
        return if sse::has_field(event, b"error") {
            Said::Error(None)
        } else {
            Said::Nothing
        };
    };
    let Ok(data) = str::from_utf8(&data) else {
        return Said::Nonsense;
    };
    match data.trim_ascii() {
        "" => Said::Nothing,
        "[DONE]" => Said::Done,
        json => read_chunk(json),
    }
}

/// Whether an event that nobody closed is complete all the same.
pub(crate) fn is_whole_event(event: &[u8]) -> bool {
    sse::data(event).is_some_and(|data| {
        let data = data.trim_ascii();
        data == b"[DONE]" || serde_json::from_slice::<IgnoredAny>(data).is_ok()
    })
}

fn read_chunk(json: &str) -> Said {
    if !(json.starts_with('{') && json.ends_with('}')) {
        return Said::Nonsense;
    }
    let mut chunk = Chunk {
        finishes: finishes(json),
        ..Chunk::default()
    };
    if holds(json, "\"usage\"") || holds(json, "\"error\"") {
        let Ok(document) = serde_json::from_str::<Document<'_>>(json) else {
            return Said::Nonsense;
        };
        if document.is_error() {
            return Said::Error(engine_message(json));
        }
        chunk.usage = document.usage();
        chunk.is_usage_alone = chunk.usage.is_some() && document.choices.is_none_or(|choices| choices.is_empty());
    }
    Said::Chunk(chunk)
}

fn holds(json: &str, key: &str) -> bool {
    memchr::memmem::find(json.as_bytes(), key.as_bytes()).is_some()
}

/// What the last `finish_reason` in the chunk says: `null`, or a reason.
fn finishes(json: &str) -> Option<bool> {
    const KEY: &str = "\"finish_reason\"";
    let at = memchr::memmem::rfind(json.as_bytes(), KEY.as_bytes())?;
    let value = json[at + KEY.len()..].trim_ascii_start().strip_prefix(':')?;
    Some(value.trim_ascii_start().starts_with('"'))
}

/// What a whole answer says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Whole {
    Answer(Option<Tokens>),
    Error(Option<String>),
    /// Not JSON, or not an answer to a chat request.
    Nonsense,
}

pub(crate) fn read_whole(endpoint: Endpoint, body: &[u8]) -> Whole {
    let Ok(text) = str::from_utf8(body) else {
        return Whole::Nonsense;
    };
    if !text.trim_ascii_start().starts_with('{') {
        return Whole::Nonsense;
    }
    if endpoint == Endpoint::Messages {
        return messages::read_whole(text);
    }
    let Ok(document) = serde_json::from_str::<Document<'_>>(text) else {
        return Whole::Nonsense;
    };
    let is_answer = match endpoint {
        Endpoint::Embeddings => document.data.is_some(),
        Endpoint::Chat | Endpoint::Completions | Endpoint::Responses | Endpoint::Messages => document.choices.is_some(),
    };
    if document.is_error() {
        Whole::Error(engine_message(text))
    } else if is_answer {
        Whole::Answer(document.usage())
    } else {
        Whole::Nonsense
    }
}

/// The engine's own words about an error, in any of the forms that engines use.
pub(crate) fn engine_message(json: &str) -> Option<String> {
    let document: Value = serde_json::from_str(json).ok()?;
    let places = [
        document.pointer("/error/message"),
        document.get("error"),
        document.get("message"),
        document.get("detail"),
    ];
    let text = places.into_iter().flatten().find_map(Value::as_str)?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// How many words stand in an answer: a guess at its tokens where the engine does not count them.
pub(crate) fn words(body: &[u8]) -> u64 {
    let text = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let choices = text["choices"].as_array().map_or(&[][..], Vec::as_slice);
    let contents = choices
        .iter()
        .filter_map(|choice| choice["message"]["content"].as_str());
    contents.map(|content| content.split_whitespace().count() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: u64, output: u64) -> Tokens {
        Tokens::new(input, output)
    }

    #[test]
    fn what_is_read_from_a_cache_is_told_apart() {
        let read = |details: &str| {
            let body = format!(
                r#"{{"choices":[],"usage":{{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{details}}}}}"#
            );
            let Whole::Answer(Some(tokens)) = read_whole(Endpoint::Chat, body.as_bytes()) else {
                panic!("{body}")
            };
            (tokens.input, tokens.cached, tokens.output)
        };
        assert_eq!(read(r#"{"cached_tokens":4,"audio_tokens":0}"#), (9, 4, 2));
        for details in ["null", "{}", "7", r#"{"cached_tokens":-1}"#] {
            assert_eq!(read(details), (9, 0, 2), "{details}");
        }
    }

    fn chunk(usage: Option<Tokens>, is_usage_alone: bool, finishes: Option<bool>) -> Said {
        Said::Chunk(Chunk {
            usage,
            is_usage_alone,
            finishes,
        })
    }

    #[test]
    fn events_are_told_apart() {
        for (event, expected) in [
            (": ping\n\n", Said::Nothing),
            ("\n", Said::Nothing),
            ("data: \n\n", Said::Nothing),
            ("data: [DONE]\n\n", Said::Done),
            ("data:[DONE] \r\n\r\n", Said::Done),
            (
                r#"data: {"choices":[{"finish_reason":null}]}"#,
                chunk(None, false, Some(false)),
            ),
            (
                r#"data: {"choices":[{"finish_reason" : "stop"}]}"#,
                chunk(None, false, Some(true)),
            ),
            (
                r#"data: {"choices":[{"delta":{"content":"\"usage\":{\"prompt_tokens\":9},\"error\":1"}}]}"#,
                chunk(None, false, None),
            ),
            (
                r#"data: {"choices":[{"delta":{"content":"usage"}}]}"#,
                chunk(None, false, None),
            ),
            (r#"data: {"choices":[],"usage":null}"#, chunk(None, false, None)),
            (
                r#"data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
                chunk(Some(usage(3, 4)), true, None),
            ),
            (
                r#"data: {"usage":{"prompt_tokens":3}}"#,
                chunk(Some(usage(3, 0)), true, None),
            ),
            (
                r#"data: {"choices":[{"index":0}],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
                chunk(Some(usage(3, 4)), false, None),
            ),
            (
                r#"data: {"choices":[],"usage":{"prompt_tokens":-1}}"#,
                chunk(None, false, None),
            ),
            (
                r#"data: {"choices":[],"usage":{"prompt_tokens":99999999999}}"#,
                chunk(None, false, None),
            ),
            (
                r#"data: {"error":{"message":"out of memory"}}"#,
                Said::Error(Some("out of memory".to_owned())),
            ),
            (
                r#"data: {"object":"error","message":"gone"}"#,
                Said::Error(Some("gone".to_owned())),
            ),
            (r#"data: {"choices":[],"error":null}"#, chunk(None, false, None)),
            ("error: {\"code\":500}\n\n", Said::Error(None)),
            ("data: <html>\n\n", Said::Nonsense),
            (r#"data: {"usage":{]}"#, Said::Nonsense),
            ("data: {\ndata: \"choices\":[]}\n\n", chunk(None, false, None)),
        ] {
            assert_eq!(read_event(event.as_bytes()), expected, "{event}");
        }
        assert_eq!(read_event(b"data: {\"a\":\"\xff\"}\n\n"), Said::Nonsense);
    }

    #[test]
    fn whole_answers_are_told_from_errors_and_nonsense() {
        for (body, expected) in [
            (
                r#" {"choices":[{}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
                Whole::Answer(Some(usage(1, 2))),
            ),
            (r#"{"choices":[{}]}"#, Whole::Answer(None)),
            (r#"{"choices":[{}],"error":null,"usage":null}"#, Whole::Answer(None)),
            (
                r#"{"error":{"message":"no"},"choices":[]}"#,
                Whole::Error(Some("no".to_owned())),
            ),
            (r#"{"error":"no"}"#, Whole::Error(Some("no".to_owned()))),
            (r#"{"error":{}}"#, Whole::Error(None)),
            ("{}", Whole::Nonsense),
            (r#"{"choices":7}"#, Whole::Nonsense),
            ("[]", Whole::Nonsense),
            ("<html>", Whole::Nonsense),
            (r#"{"choices":[{}]"#, Whole::Nonsense),
            ("", Whole::Nonsense),
        ] {
            assert_eq!(read_whole(Endpoint::Chat, body.as_bytes()), expected, "{body}");
        }
        assert_eq!(read_whole(Endpoint::Chat, b"{\"choices\":[\"\xff\"]}"), Whole::Nonsense);
    }

    #[test]
    fn engines_words_are_found_in_all_their_forms() {
        for (body, expected) in [
            (r#"{"error":{"message":"a","code":400}}"#, Some("a")),
            (r#"{"error":"b"}"#, Some("b")),
            (r#"{"object":"error","message":"c"}"#, Some("c")),
            (r#"{"detail":"d"}"#, Some("d")),
            (r#"{"detail":[{"loc":[]}]}"#, None),
            ("<html>", None),
        ] {
            assert_eq!(engine_message(body).as_deref(), expected, "{body}");
        }
    }
}
