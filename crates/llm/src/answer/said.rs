//! How much a model said, where its engine does not tell how much that was.

/// How many bytes of an event are words of the model, as JSON writes them: all texts but those whose key says that they are
/// something else. An engine's own count may be missing; this one is never below it.
pub(crate) fn said(event: &[u8]) -> u64 {
    const NOT_SAID: [&[u8]; 10] = [
        b"id",
        b"object",
        b"model",
        b"role",
        b"type",
        b"system_fingerprint",
        b"service_tier",
        b"finish_reason",
        b"stop_reason",
        b"encrypted_content",
    ];
    let (mut said, mut key): (usize, &[u8]) = (0, b"");
    let mut rest = event;
    while let Some(start) = memchr::memchr(b'"', rest) {
        let text = &rest[start + 1..];
        let length = text_length(text);
        let after = text[length.min(text.len())..].get(1..).unwrap_or_default();
        if after.trim_ascii_start().starts_with(b":") {
            key = &text[..length];
        } else if !NOT_SAID.contains(&key) {
            said += length;
        }
        rest = after;
    }
    said as u64
}

/// How long a JSON text is whose quote has been read.
fn text_length(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &text[at..]) {
        if text[at + found] == b'"' {
            return at + found;
        }
        at = (at + found + 2).min(text.len());
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_an_event_are_counted() {
        for (event, expected) in [
            (
                r#"data: {"id":"chatcmpl-1","model":"m","choices":[{"delta":{"role":"assistant","content":"Paris"}}]}"#,
                5,
            ),
            (
                r#"data: {"choices":[{"delta":{"content":"a\"b\n"},"finish_reason":"stop"}]}"#,
                6,
            ),
            (r#"data: {"delta":{"type":"text_delta","text":"So."}}"#, 3),
            (
                r#"data: {"delta":{"type":"input_json_delta","partial_json":"{\"a\":1}"}}"#,
                9,
            ),
            (
                r#"data: {"choices":[{"delta":{"tool_calls":[{"id":"c","function":{"name":"f","arguments":"{}"}}]}}]}"#,
                3,
            ),
            (r#"data: {"choices":[{"delta":{"content":"cut"#, 3),
            (r#"data: {"choices":[{"delta":{"content":"cut\"#, 4),
            ("data: [DONE]", 0),
            (": ping", 0),
        ] {
            assert_eq!(said(event.as_bytes()), expected, "{event}");
        }
    }
}
