//! What an edit changes, for people to read before it is done.
//!
//! No secret is shown: neither ours, nor what stands in other entries and comes into view as context. Of those only
//! the names of members are shown; what is in them is nobody's business here.

use super::{
    document::{self, INPUTS, Slot},
    entry::{BEARER, KEY_TO_COME},
};
use forebay_domain::key::ApiKey;
use jsonc_parser::cst::{CstContainerNode, CstLeafNode, CstNode, CstObject};
use serde_json::Value as Json;
use similar::TextDiff;
use std::path::Path;

const CONTEXT_LINES: usize = 3;
const HIDDEN: &str = "***";

/// A file before and after.
pub(super) struct Change<'a> {
    pub(super) file: &'a Path,
    /// `None` where there is no file yet.
    pub(super) before: Option<&'a str>,
    /// `None` where there will be none any more.
    pub(super) after: Option<&'a str>,
    pub(super) slot: Slot<'a>,
    /// The entry that stood there is ours, so that it may be shown.
    pub(super) was_ours: bool,
    /// The id of the question for the secret, in files that have such.
    pub(super) input: Option<&'a str>,
}

impl Change<'_> {
    /// The difference as a unified diff.
    pub(super) fn shown(&self) -> String {
        let name = self.file.display().to_string();
        let side = |text: Option<&str>, entry| {
            let shown = text.map_or_else(String::new, |text| self.masked(text, entry));
            (if text.is_some() { name.as_str() } else { "/dev/null" }, shown)
        };
        let (old_name, before) = side(self.before, if self.was_ours { View::Ours } else { View::Foreign });
        let (new_name, after) = side(self.after, View::Ours);
        if before == after {
            return format!("--- {old_name}\n+++ {new_name}\n(only secrets, or spaces between entries, change)\n");
        }
        let diff = TextDiff::from_lines(before.as_str(), after.as_str());
        let mut unified = diff.unified_diff();
        unified.context_radius(CONTEXT_LINES).header(old_name, new_name);
        unified.to_string()
    }

    fn masked(&self, text: &str, entry: View) -> String {
        // A text that cannot be read was refused before anybody wants to see it.
        let Ok(root) = document::parse(text) else {
            return String::new();
        };
        for child in root.children() {
            self.mask(&child, View::File, entry);
        }
        root.to_string()
    }

    fn mask(&self, node: &CstNode, view: View, entry: View) {
        match node {
            CstNode::Container(CstContainerNode::ObjectProp(prop)) => {
                let inside = self.inside(view, &prop.decoded_name().unwrap_or_default(), entry);
                // The name itself is shown; what follows it is seen as its place demands.
                for child in prop.children().into_iter().skip(1) {
                    self.mask(&child, inside, entry);
                }
            }
            CstNode::Container(CstContainerNode::Object(object)) => {
                let view = match view {
                    View::Questions if self.is_our_question(object) => View::Ours,
                    View::Questions => View::Foreign,
                    View::File | View::Section | View::Ours | View::Secrets | View::Foreign => view,
                };
                for child in object.children() {
                    self.mask(&child, view, entry);
                }
            }
            CstNode::Container(container @ (CstContainerNode::Root(_) | CstContainerNode::Array(_))) => {
                for child in container.children() {
                    self.mask(&child, view, entry);
                }
            }
            CstNode::Leaf(CstLeafNode::StringLit(text)) => {
                let shown = view.text(&text.decoded_value().unwrap_or_default());
                text.set_raw_value(Json::String(shown).to_string());
            }
            CstNode::Leaf(CstLeafNode::Comment(comment)) => {
                let hidden = if comment.is_line_comment() {
                    format!("// {HIDDEN}")
                } else {
                    format!("/* {HIDDEN} */")
                };
                comment.set_raw_value(hidden);
            }
            CstNode::Leaf(
                CstLeafNode::BooleanLit(_)
                | CstLeafNode::NullKeyword(_)
                | CstLeafNode::NumberLit(_)
                | CstLeafNode::WordLit(_)
                | CstLeafNode::Token(_)
                | CstLeafNode::Whitespace(_)
                | CstLeafNode::Newline(_),
            ) => {}
        }
    }

    /// How the value of the member `name` is seen, by how that is seen which it stands in.
    fn inside(&self, view: View, name: &str, entry: View) -> View {
        match view {
            View::File if name == self.slot.section => View::Section,
            View::File if name == INPUTS => View::Questions,
            View::Section if name == self.slot.name => entry,
            View::Ours if ["headers", "env"].contains(&name) => View::Secrets,
            View::File | View::Section | View::Questions | View::Foreign => View::Foreign,
            View::Ours => View::Ours,
            View::Secrets => View::Secrets,
        }
    }

    fn is_our_question(&self, object: &CstObject) -> bool {
        let id = object.get("id").and_then(|prop| prop.to_serde_value());
        matches!((id, self.input), (Some(Json::String(id)), Some(ours)) if id == ours)
    }
}

/// How much of a part of the file may be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    File,
    Section,
    Questions,
    Ours,
    Secrets,
    Foreign,
}

impl View {
    fn text(self, text: &str) -> String {
        match self {
            Self::Ours if ApiKey::parse(text).is_none() => text.to_owned(),
            Self::Ours | Self::Secrets => secret(text),
            Self::File | Self::Section | Self::Questions | Self::Foreign => HIDDEN.to_owned(),
        }
    }
}

/// A credential as it may be shown: which key it is, or where it comes from, never what it is.
fn secret(text: &str) -> String {
    let (bearer, credential) = text.strip_prefix(BEARER).map_or(("", text), |rest| (BEARER, rest));
    let is_reference = credential.starts_with("${") && credential.ends_with('}')
        || credential
            .strip_prefix('$')
            .is_some_and(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
    let shown = match ApiKey::parse(credential) {
        Some(key) => format!("fb_{}_{HIDDEN}", key.id()),
        None if is_reference || credential == KEY_TO_COME => credential.to_owned(),
        None => HIDDEN.to_owned(),
    };
    format!("{bearer}{shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "fb_0123456789abcdef_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn shown(before: Option<&str>, after: Option<&str>) -> String {
        let change = Change {
            file: Path::new("f.json"),
            before,
            after,
            slot: Slot {
                section: "servers",
                name: "forebay",
            },
            was_ours: true,
            input: Some("forebay-key"),
        };
        change.shown()
    }

    #[test]
    fn nothing_of_others_and_no_secret_of_ours_is_shown() {
        let before = r#"{
  // sk-comment
  "token": "sk-top",
  "servers": {
    "other": { "args": ["--key", "sk-args"], "env": { "A": "sk-env" } }
  },
  "inputs": [{ "id": "x", "default": "sk-input" }]
}
"#;
        let entry = format!(
            r#",
    "forebay": {{
      "url": "http://127.0.0.1:8080/mcp",
      "headers": {{ "Authorization": "Bearer {KEY}", "X-Other": "sk-header" }},
      "env": {{ "A": "${{env:A}}", "B": "$B" }}
    }}
  }},"#
        );
        let after = before.replace("\n  },", &entry);
        let text = shown(Some(before), Some(&after));
        assert!(!text.contains("sk-"), "{text}");
        assert!(!text.contains("0123456789abcdef0123"), "{text}");
        for part in [
            r#"+      "url": "http://127.0.0.1:8080/mcp""#,
            r#""Authorization": "Bearer fb_0123456789abcdef_***""#,
            r#"{ "A": "${env:A}", "B": "$B" }"#,
            r#""other": { "args": ["***", "***"], "env": { "A": "***" } }"#,
            "--- f.json\n+++ f.json\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn a_change_that_only_masks_hide_is_still_told() {
        let with = |key: &str| format!(r#"{{"servers": {{"forebay": {{"headers": {{"Authorization": "{key}"}}}}}}}}"#);
        let text = shown(Some(&with("Bearer a")), Some(&with("Bearer b")));
        assert!(text.contains("only secrets"), "{text}");
    }

    #[test]
    fn a_file_that_comes_or_goes_is_named_so() {
        let text = "{\n  \"servers\": {}\n}\n";
        assert!(shown(None, Some(text)).starts_with("--- /dev/null\n+++ f.json\n"));
        assert!(shown(Some(text), None).starts_with("--- f.json\n+++ /dev/null\n"));
    }
}
