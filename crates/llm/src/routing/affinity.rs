//! What makes two prompts alike: how they begin.
//!
//! The key covers the messages up to and with the first of a user: the system prompt, and what a conversation is about.
//! It stays the same while the conversation grows, and tells conversations apart, so that they spread.

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{
    borrow::Cow,
    fmt,
    hash::{DefaultHasher, Hasher},
};

/// So much of a prompt is looked at: more than engines need to tell one from another, and less than takes time.
const BYTES_MAX: usize = 16 << 10;

/// The key of a chat with these messages, a JSON array as the client wrote it.
pub(crate) fn affinity_of_messages(model: &str, messages: &str) -> u64 {
    // The hasher has no key: replicas of the same version agree.
    let mut hasher = DefaultHasher::new();
    hasher.write(model.as_bytes());
    let mut beginning = Beginning {
        hasher: &mut hasher,
        left: BYTES_MAX,
    };
    // It stops early on purpose, which the parser takes for a fault. What was read by then counts.
    let _ = serde_json::Deserializer::from_str(messages).deserialize_seq(&mut beginning);
    hasher.finish()
}

struct Beginning<'h> {
    hasher: &'h mut DefaultHasher,
    left: usize,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(default, borrow)]
    role: Cow<'a, str>,
}

impl<'de> Visitor<'de> for &mut Beginning<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut messages: A) -> Result<(), A::Error> {
        while let Some(raw) = messages.next_element::<&RawValue>()? {
            let bytes = raw.get().as_bytes();
            let seen = &bytes[..bytes.len().min(self.left)];
            self.hasher.write(seen);
            self.left -= seen.len();
            let is_users =
                || serde_json::from_str::<Message<'_>>(raw.get()).is_ok_and(|message| message.role == "user");
            if self.left == 0 || is_users() {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(messages: &str) -> u64 {
        affinity_of_messages("m", messages)
    }

    const SYSTEM: &str = r#"{"role":"system","content":"Be kind."}"#;
    const ASKED: &str = r#"{"content":"Why?","role":"user"}"#;

    #[test]
    fn a_conversation_keeps_its_key_and_no_other_has_it() {
        let first = key(&format!("[{SYSTEM},{ASKED}]"));
        let grown =
            format!(r#"[{SYSTEM}, {ASKED}, {{"role":"assistant","content":"So."}},{{"role":"user","content":"?"}}]"#);
        assert_eq!(key(&grown), first);
        let others = [
            format!("[{ASKED}]"),
            format!(r#"[{SYSTEM},{{"role":"user","content":"How?"}}]"#),
            "[]".to_owned(),
        ];
        for other in others {
            assert_ne!(key(&other), first, "{other}");
        }
        assert_ne!(affinity_of_messages("n", &grown), first);
    }

    #[test]
    fn what_comes_after_the_bound_is_not_looked_at() {
        let long = |end: &str| format!(r#"[{{"role":"user","content":"{}{end}"}}]"#, "x".repeat(BYTES_MAX));
        assert_eq!(key(&long("a")), key(&long("b")));
        assert_eq!(key("[1, \"user\"]"), key("[1,\"user\"]"));
    }
}
