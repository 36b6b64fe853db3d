//! Strict JSON: the one check that every body passes before anything reads it.
//!
//! Two readers that disagree about a document are a way around a policy (the first takes the first of two equal keys,
//! the second the last). So an object with a repeated key is refused, at any depth, before anybody looks inside. The
//! reading itself is `serde_json`'s, whose nesting limit of 128 holds here too.

use crate::{Code, Failure};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::{borrow::Cow, collections::HashSet, fmt};

/// Refuses what is not JSON, what nests too deep, and what names a key twice.
pub fn check_strict(bytes: &[u8]) -> Result<(), Failure> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Strict
        .deserialize(&mut reader)
        .and_then(|()| reader.end())
        .map_err(|error| explain(&error))
}

const DUPLICATE: &str = "duplicate key ";

fn explain(error: &serde_json::Error) -> Failure {
    let place = format!("line {}, column {}", error.line(), error.column());
    let text = error.to_string();
    if let Some(rest) = text.strip_prefix(DUPLICATE) {
        let key = rest.rsplit_once(" at line").map_or(rest, |(key, _)| key);
        return Failure::new(
            Code::DuplicateKey,
            format!("The JSON names the key {key} twice in one object ({place})."),
        )
        .hint("Send each key once.");
    }
    if text.starts_with("recursion limit") {
        return Failure::new(
            Code::JsonTooDeep,
            format!("The JSON nests deeper than 127 levels ({place})."),
        )
        .hint("Flatten it.");
    }
    Failure::new(Code::MalformedJson, format!("The body is not JSON: {text}.")).hint("Send one JSON document in UTF-8.")
}

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Strict)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = Keys::default();
        while let Some(Key(key)) = map.next_key()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format_args!("{DUPLICATE}{key:?}")));
            }
            map.next_value_seed(Strict)?;
        }
        Ok(())
    }
}

/// A key as it is after unescaping, borrowed from the input where it has no escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// The keys of one object: a short list is searched faster than a set is built.
#[derive(Default)]
struct Keys<'a> {
    few: Vec<Cow<'a, str>>,
    many: HashSet<Cow<'a, str>>,
}

const FEW: usize = 16;

impl<'a> Keys<'a> {
    /// Whether the key is new.
    fn insert(&mut self, key: Cow<'a, str>) -> bool {
        if self.many.is_empty() {
            if self.few.contains(&key) {
                return false;
            }
            if self.few.len() < FEW {
                self.few.push(key);
                return true;
            }
            self.many.extend(self.few.drain(..));
        }
        self.many.insert(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), Code> {
        check_strict(text.as_bytes()).map_err(|failure| failure.code)
    }

    #[test]
    fn repeated_keys_are_found_at_any_depth_and_in_any_spelling() {
        assert_eq!(check(r#"{"a":1,"b":{"c":[{"d":1,"e":2}]}}"#), Ok(()));
        assert_eq!(check(r#"{"a":1,"a":2}"#), Err(Code::DuplicateKey));
        assert_eq!(check(r#"[{"x":{"a":1,"\u0061":2}}]"#), Err(Code::DuplicateKey));
        let wide: Vec<String> = (0..40).map(|n| format!("\"k{n}\":{n}")).collect();
        assert_eq!(check(&format!("{{{}}}", wide.join(","))), Ok(()));
        assert_eq!(
            check(&format!("{{{},\"k3\":0}}", wide.join(","))),
            Err(Code::DuplicateKey)
        );
    }

    #[test]
    fn depth_and_nonsense_are_refused() {
        assert_eq!(check(&"[".repeat(10_000)), Err(Code::JsonTooDeep));
        assert_eq!(check(&format!("{}{}", "[".repeat(100), "]".repeat(100))), Ok(()));
        for bad in ["", "{", "{} {}", "nul", "{'a':1}", "[1,]", "\u{feff}{}", "NaN"] {
            assert_eq!(check(bad), Err(Code::MalformedJson), "{bad:?}");
        }
        assert_eq!(check_strict(b"\"\xff\"").unwrap_err().code, Code::MalformedJson);
        assert_eq!(
            check("1e999999999"),
            Err(Code::MalformedJson),
            "a number out of range is no number here"
        );
        assert_eq!(check("123456789012345678901234567890"), Ok(()));
    }
}
