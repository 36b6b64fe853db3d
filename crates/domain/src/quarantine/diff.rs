//! The difference between two definitions, for somebody who has to decide.
//!
//! Nothing is left out and nothing is invisible: whoever approves approves what stands here. Long texts are shown
//! around the place where they differ, since what they share was approved before. It refuses no input; what is no JSON
//! object is compared as a whole.

use super::{
    characters::visible,
    node::{Node, canonical, json_text},
};
use serde_json::value::RawValue;
use std::{collections::BTreeSet, fmt::Write};

/// One place in which two definitions differ.
#[derive(Debug, Clone)]
pub struct Change {
    /// A JSON pointer (RFC 6901); empty for the whole.
    pub path: String,
    /// `None` where there was nothing before.
    pub before: Option<Box<RawValue>>,
    /// `None` where there is nothing any more.
    pub after: Option<Box<RawValue>>,
}

/// Every place in which `new` differs from `old`, in the order of the paths. How they are written does not count.
pub fn diff(old: &RawValue, new: &RawValue) -> Vec<Change> {
    let mut changes = Vec::new();
    compare(&mut changes, "", old, new, 0);
    changes
}

fn compare(changes: &mut Vec<Change>, path: &str, old: &RawValue, new: &RawValue, depth: usize) {
    match (Node::open(old, depth), Node::open(new, depth)) {
        (Node::Object(old), Node::Object(new)) => {
            for key in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
                let path = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
                compare_parts(changes, &path, old.get(key).copied(), new.get(key).copied(), depth);
            }
        }
        (Node::Array(old), Node::Array(new)) => {
            for n in 0..old.len().max(new.len()) {
                let path = format!("{path}/{n}");
                compare_parts(changes, &path, old.get(n).copied(), new.get(n).copied(), depth);
            }
        }
        _ if canonical(old) == canonical(new) => {}
        _ => changes.push(change(path, Some(old), Some(new))),
    }
}

fn compare_parts(changes: &mut Vec<Change>, path: &str, old: Option<&RawValue>, new: Option<&RawValue>, depth: usize) {
    match (old, new) {
        (Some(old), Some(new)) => compare(changes, path, old, new, depth + 1),
        (None, None) => {}
        (old, new) => changes.push(change(path, old, new)),
    }
}

fn change(path: &str, before: Option<&RawValue>, after: Option<&RawValue>) -> Change {
    Change {
        path: path.to_owned(),
        before: before.map(ToOwned::to_owned),
        after: after.map(ToOwned::to_owned),
    }
}

/// The changes as text: a line with the path, then what was taken away (`-`) and what came (`+`), as JSON, with every
/// character that may deceive written as its number.
pub fn render(changes: &[Change]) -> String {
    let mut out = String::new();
    for change in changes {
        let path = if change.path.is_empty() { "/" } else { &change.path };
        let (before, after) = shown_pair(change.before.as_deref(), change.after.as_deref());
        // A path holds keys as they are; a line feed in one must not begin a line of its own.
        let path = visible(path).replace('\n', "\\u{a}").replace('\t', "\\u{9}");
        writeln!(out, "{path}").expect("a String takes everything");
        for (sign, value) in [('-', before), ('+', after)] {
            if let Some(value) = value {
                writeln!(out, "  {sign} {}", visible(&value)).expect("a String takes everything");
            }
        }
    }
    out
}

/// Texts longer than this, in characters, are shown around their difference.
const LONG_TEXT_CHARS: usize = 240;
/// How much of what two long texts share is shown on either side, in characters.
const CONTEXT_CHARS: usize = 60;

fn shown_pair(before: Option<&RawValue>, after: Option<&RawValue>) -> (Option<String>, Option<String>) {
    let text = |raw: Option<&RawValue>| match raw.map(|raw| Node::open(raw, 0)) {
        Some(Node::Text(text)) => Some(text.chars().collect::<Vec<_>>()),
        Some(Node::Object(_) | Node::Array(_) | Node::Plain(_)) | None => None,
    };
    match (text(before), text(after)) {
        (Some(before), Some(after)) if before.len().max(after.len()) > LONG_TEXT_CHARS => {
            let (start, end) = shared(&before, &after);
            (Some(cut(&before, start, end)), Some(cut(&after, start, end)))
        }
        _ => (before.map(canonical), after.map(canonical)),
    }
}

/// How many characters two texts share at their start, and after that at their end.
fn shared(one: &[char], other: &[char]) -> (usize, usize) {
    let pairs = one.iter().zip(other);
    let start = pairs.take_while(|(a, b)| a == b).count();
    let pairs = one[start..].iter().rev().zip(other[start..].iter().rev());
    (start, pairs.take_while(|(a, b)| a == b).count())
}

/// A text as JSON, with most of what it shares left out and counted.
fn cut(text: &[char], start: usize, end: usize) -> String {
    let from = start.saturating_sub(CONTEXT_CHARS);
    let to = text.len() - end.saturating_sub(CONTEXT_CHARS);
    let mut shown = json_text(&text[from..to].iter().collect::<String>());
    if from > 0 {
        shown = format!("(the same {from} characters) {shown}");
    }
    if to < text.len() {
        write!(shown, " (the same {} characters)", text.len() - to).expect("a String takes everything");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        serde_json::from_str(text).unwrap()
    }

    fn check(old: &str, new: &str) -> String {
        render(&diff(&raw(old), &raw(new)))
    }

    #[test]
    fn each_change_is_named_by_its_place() {
        let old = r#"{"name":"add","description":"Adds.","inputSchema":{"required":["a","b"],"x/y~":1},"old":{}}"#;
        let new =
            r#"{"name":"add","description":"Adds!","inputSchema":{"required":["a","c","d"],"x/y~":1.0},"new":null}"#;
        assert_eq!(
            check(old, new),
            "/description\n  - \"Adds.\"\n  + \"Adds!\"\n\
             /inputSchema/required/1\n  - \"b\"\n  + \"c\"\n\
             /inputSchema/required/2\n  + \"d\"\n\
             /inputSchema/x~1y~0\n  - 1\n  + 1.0\n\
             /new\n  + null\n\
             /old\n  - {}\n"
        );
    }

    #[test]
    fn what_is_written_otherwise_is_no_change() {
        assert_eq!(check(r#"{"a":"A","b":[1]}"#, r#" {"b":[ 1 ],"a":"\u0041"}"#), "");
        assert_eq!(check("[1]", "{}"), "/\n  - [1]\n  + {}\n");
    }

    #[test]
    fn nothing_hides_in_a_difference() {
        assert_eq!(
            check(r#"{"d":"Adds."}"#, r#"{"d":"Adds.\u200b\u202e\u001b[2J\n"}"#),
            "/d\n  - \"Adds.\"\n  + \"Adds.\\u{200b}\\u{202e}\\u001b[2J\\n\"\n"
        );
        let key = check("{}", "{\"a\u{200b}\":1}");
        assert_eq!(key, "/a\\u{200b}\n  + 1\n");
        assert_eq!(
            check("{}", "{\"d\":{\"a\u{e0041}\":1}}"),
            "/d\n  + {\"a\\u{e0041}\":1}\n"
        );
    }

    #[test]
    fn a_path_stays_on_its_line() {
        assert_eq!(check("{}", r#"{"a\n/x":1}"#), "/a\\u{a}~1x\n  + 1\n");
    }

    #[test]
    fn long_texts_are_shown_where_they_differ() {
        let (head, tail) = ("h".repeat(300), "t".repeat(300));
        let shown = check(
            &format!(r#"{{"d":"{head}one{tail}"}}"#),
            &format!(r#"{{"d":"{head}another{tail}"}}"#),
        );
        let context = (&"h".repeat(60), &"t".repeat(60));
        let same = "(the same 240 characters)";
        assert_eq!(
            shown,
            format!(
                "/d\n  - {same} \"{0}one{1}\" {same}\n  + {same} \"{0}another{1}\" {same}\n",
                context.0, context.1
            )
        );
    }
}
