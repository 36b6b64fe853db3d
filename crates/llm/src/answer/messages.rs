//! What the bytes of an engine say that speaks Anthropic's API.

use super::{Chunk, Said, TOKENS_MAX, Whole, engine_message};
use crate::{money::Tokens, sse};
use serde::{Deserialize, de::IgnoredAny};
use std::borrow::Cow;

/// A message, or an event of a stream.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(default, borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    content: Option<IgnoredAny>,
    #[serde(default)]
    usage: Option<Counts>,
    /// What the first event begins.
    #[serde(default)]
    message: Option<Begun>,
}

#[derive(Deserialize)]
struct Begun {
    #[serde(default)]
    usage: Option<Counts>,
}

/// What came from a cache, or went into one, is input like any other, counted apart here and priced apart.
#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "the API calls them so")]
struct Counts {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
}

impl Counts {
    fn usage(&self) -> Option<Tokens> {
        let input = [
            self.input_tokens,
            self.cache_read_input_tokens,
            self.cache_creation_input_tokens,
        ];
        let input_tokens: u64 = input.into_iter().flatten().fold(0, u64::saturating_add);
        let output = self.output_tokens.unwrap_or(0);
        let is_credible = input_tokens.max(output) <= TOKENS_MAX;
        is_credible.then_some(Tokens {
            input: input_tokens,
            cached: self.cache_read_input_tokens.unwrap_or(0),
            written: self.cache_creation_input_tokens.unwrap_or(0),
            output,
        })
    }
}

pub(super) fn read_whole(text: &str) -> Whole {
    match serde_json::from_str::<Document<'_>>(text) {
        Ok(document) if document.kind == "error" => Whole::Error(engine_message(text)),
        Ok(document) if document.content.is_some() => Whole::Answer(document.usage.and_then(|counts| counts.usage())),
        Ok(_) | Err(_) => Whole::Nonsense,
    }
}

/// Reads one event of a stream.
pub(crate) fn read_event(event: &[u8]) -> Said {
    let Some(data) = sse::data(event) else {
        return Said::Nothing;
    };
    let data = data.trim_ascii();
    if data.is_empty() {
        return Said::Nothing;
    }
    let Ok(document) = serde_json::from_slice::<Document<'_>>(data) else {
        return Said::Nonsense;
    };
    match &*document.kind {
        "ping" => Said::Nothing,
        "message_stop" => Said::Done,
        "error" => Said::Error(str::from_utf8(data).ok().and_then(engine_message)),
        _ => {
            let begun = document.message.and_then(|message| message.usage);
            let counts = document.usage.or(begun);
            Said::Chunk(Chunk {
                usage: counts.and_then(|counts| counts.usage()),
                ..Chunk::default()
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: u64, output: u64) -> Tokens {
        Tokens::new(input, output)
    }

    fn chunk(usage: Option<Tokens>) -> Said {
        Said::Chunk(Chunk {
            usage,
            ..Chunk::default()
        })
    }

    #[test]
    fn events_are_told_apart() {
        for (data, expected) in [
            (r#"{"type":"ping"}"#, Said::Nothing),
            (r#"{"type":"message_stop"}"#, Said::Done),
            (
                r#"{"type":"message_start","message":{"content":[],"usage":{"input_tokens":3,"output_tokens":1,"cache_read_input_tokens":4}}}"#,
                chunk(Some(Tokens {
                    cached: 4,
                    ..usage(7, 1)
                })),
            ),
            (
                r#"{"type":"message_delta","delta":{},"usage":{"output_tokens":9}}"#,
                chunk(Some(usage(0, 9))),
            ),
            (
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"message_stop"}}"#,
                chunk(None),
            ),
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                Said::Error(Some("Overloaded".to_owned())),
            ),
            ("{", Said::Nonsense),
        ] {
            assert_eq!(
                read_event(format!("event: x\ndata: {data}\n\n").as_bytes()),
                expected,
                "{data}"
            );
        }
        assert_eq!(read_event(b": ping\n\n"), Said::Nothing);
    }

    #[test]
    fn whole_messages_are_told_from_errors_and_nonsense() {
        for (body, expected) in [
            (
                r#"{"type":"message","content":[],"usage":{"input_tokens":1,"output_tokens":2}}"#,
                Whole::Answer(Some(usage(1, 2))),
            ),
            (
                r#"{"type":"error","error":{"message":"no"}}"#,
                Whole::Error(Some("no".to_owned())),
            ),
            (r#"{"choices":[{}]}"#, Whole::Nonsense),
            ("[]", Whole::Nonsense),
        ] {
            assert_eq!(read_whole(body), expected, "{body}");
        }
    }
}
