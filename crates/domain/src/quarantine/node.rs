//! Looks into raw JSON without losing how it was written: numbers stay as they stand, and each part knows its place.
//!
//! The reading is `serde_json`'s, level by level. It refuses nothing: what it cannot open, or what lies deeper than
//! [`DEPTH_MAX`], is taken for one opaque text, so that no stored definition can overflow a stack.

use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Deepest level that is looked into. Each level is read once more for each one above it, which this bounds as well.
pub(super) const DEPTH_MAX: usize = 64;

/// One value of a document.
pub(super) enum Node<'a> {
    Object(BTreeMap<String, &'a RawValue>),
    Array(Vec<&'a RawValue>),
    Text(String),
    /// A number, `true`, `false`, `null`, or what could not be opened: as it is written.
    Plain(&'a str),
}

impl<'a> Node<'a> {
    pub(super) fn open(raw: &'a RawValue, depth: usize) -> Self {
        let text = raw.get();
        let opened = match text.as_bytes().first() {
            _ if depth > DEPTH_MAX => None,
            Some(b'{') => serde_json::from_str(text).ok().map(Self::Object),
            Some(b'[') => serde_json::from_str(text).ok().map(Self::Array),
            Some(b'"') => serde_json::from_str(text).ok().map(Self::Text),
            _ => None,
        };
        opened.unwrap_or(Self::Plain(text))
    }
}

/// The canonical form: keys sorted by their bytes, no blanks, each text escaped in one way, numbers as they are written.
pub(super) fn canonical(raw: &RawValue) -> String {
    let mut out = String::with_capacity(raw.get().len());
    write_canonical(&mut out, raw, 0);
    out
}

/// The canonical form of an object with these members.
pub(super) fn canonical_object(members: &BTreeMap<String, &RawValue>) -> String {
    let mut out = String::new();
    write_object(&mut out, members.iter(), 0);
    out
}

fn write_canonical(out: &mut String, raw: &RawValue, depth: usize) {
    match Node::open(raw, depth) {
        Node::Object(members) => write_object(out, members.iter(), depth),
        Node::Array(items) => {
            out.push('[');
            for (n, item) in items.into_iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                write_canonical(out, item, depth + 1);
            }
            out.push(']');
        }
        Node::Text(text) => write_text(out, &text),
        Node::Plain(text) => out.push_str(text),
    }
}

fn write_object<'m>(out: &mut String, members: impl Iterator<Item = (&'m String, &'m &'m RawValue)>, depth: usize) {
    out.push('{');
    for (n, (key, value)) in members.enumerate() {
        if n > 0 {
            out.push(',');
        }
        write_text(out, key);
        out.push(':');
        write_canonical(out, value, depth + 1);
    }
    out.push('}');
}

fn write_text(out: &mut String, text: &str) {
    out.push_str(&json_text(text));
}

/// A text as JSON writes it.
pub(super) fn json_text(text: &str) -> String {
    serde_json::to_string(text).expect("a text is always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        canonical(&serde_json::from_str::<Box<RawValue>>(text).unwrap())
    }

    #[test]
    fn order_blanks_and_escapes_do_not_count_and_numbers_stay() {
        let one = of(r#"{ "b" : [1.0, 1e2, -0], "a":"\u0041\n\/" , "\u0061b":null}"#);
        assert_eq!(one, r#"{"a":"A\n/","ab":null,"b":[1.0,1e2,-0]}"#);
        assert_ne!(of("1.0"), of("1"), "a number is what was written");
        assert_ne!(of("[1,2]"), of("[2,1]"), "the order of a list counts");
        assert_eq!(
            of("123456789012345678901234567890.5"),
            "123456789012345678901234567890.5"
        );
    }

    #[test]
    fn the_canonical_form_is_its_own() {
        let one = of(r#"{"z":{"y":[{"b":1,"a":"é\u00e9"}]}}"#);
        assert_eq!(of(&one), one);
    }

    #[test]
    fn what_is_too_deep_is_one_text_and_no_overflow() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(of(&deep).len(), deep.len());
    }
}
