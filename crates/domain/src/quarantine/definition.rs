//! A definition as an upstream wrote it, and its fingerprint.
//!
//! The fingerprint covers every member but those that are known to be harmless ([`NOT_COVERED`]), not only those that
//! are known to matter: a member that a later version of the protocol adds, and that models then read, is covered before
//! anybody here has heard of it. It is taken from what the upstream sent, before anything is cleaned.

use super::{
    Kind,
    characters::{unwanted, visible},
    fingerprint::Fingerprint,
    hints::Hints,
    node::{DEPTH_MAX, Node, canonical_object as canonical},
};
use crate::json::check_strict;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{collections::BTreeMap, fmt, sync::Arc};

/// Largest definition that is looked at, in bytes.
pub const DEFINITION_BYTES_MAX: usize = 256 * 1024;

/// Longest name or address of a definition, in bytes.
pub const NAME_BYTES_MAX: usize = 512;

/// Members that may change freely: pictures, what goes between programs, and how a call is run. A difference still
/// shows them. Of `_meta` only that may change freely which binds no user interface to a tool: what names one decides
/// what a person sees and clicks.
pub const NOT_COVERED: [&str; 3] = ["_meta", "execution", "icons"];

/// Why a definition is refused outright.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionFault {
    #[error("it has {0} bytes; at most {DEFINITION_BYTES_MAX} are looked at")]
    TooLarge(usize),
    #[error("it nests deeper than {DEPTH_MAX} levels")]
    TooDeep,
    /// No JSON, or one key twice.
    #[error("it cannot be read: {0}")]
    Malformed(String),
    #[error("it is not a JSON object")]
    NotAnObject,
    #[error("its `{0}` is missing, empty or not a text")]
    Nameless(&'static str),
    #[error("its name has {0} bytes; at most {NAME_BYTES_MAX} are taken")]
    NameTooLong(usize),
    /// A name without its hidden characters would be another name. They are shown here.
    #[error("its name holds characters that nobody sees: {0}")]
    HiddenInName(String),
    #[error("the name of a member holds characters that nobody sees: {0}")]
    HiddenInKey(String),
}

/// The name of a tool or prompt, or the address of a resource: as the upstream wrote it, with nothing hidden in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DefinitionName(Arc<str>);

impl DefinitionName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for DefinitionName {
    type Error = DefinitionFault;
    fn try_from(text: &str) -> Result<Self, DefinitionFault> {
        if text.is_empty() {
            return Err(DefinitionFault::Nameless("name"));
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(DefinitionFault::NameTooLong(text.len()));
        }
        // Not even those that belong in a sentence: in a name a line feed or a tab does no work.
        let hidden = |c: char| unwanted(c).is_some() || c.is_control();
        if text.chars().any(hidden) {
            return Err(DefinitionFault::HiddenInName(visible(text)));
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for DefinitionName {
    type Error = DefinitionFault;
    fn try_from(text: String) -> Result<Self, DefinitionFault> {
        Self::try_from(text.as_str())
    }
}

impl From<DefinitionName> for String {
    fn from(name: DefinitionName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for DefinitionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A definition that was read. It borrows what the upstream sent.
#[derive(Debug, Clone)]
pub struct Definition<'a> {
    name: DefinitionName,
    members: BTreeMap<String, &'a RawValue>,
}

impl<'a> Definition<'a> {
    /// Reads one definition, strictly: no key twice, bounded in size and depth, and a name that hides nothing.
    pub fn parse(kind: Kind, raw: &'a RawValue) -> Result<Self, DefinitionFault> {
        let members = members(raw)?;
        let identity = kind.identity();
        let name = members.get(identity).map(|name| Node::open(name, 1));
        let name = match name {
            Some(Node::Text(name)) if !name.is_empty() => DefinitionName::try_from(name)?,
            Some(Node::Text(_) | Node::Object(_) | Node::Array(_) | Node::Plain(_)) | None => {
                return Err(DefinitionFault::Nameless(identity));
            }
        };
        Ok(Self { name, members })
    }

    pub fn name(&self) -> &DefinitionName {
        &self.name
    }

    /// A member as it was written: `inputSchema`, `annotations`, or one that nobody here knows.
    pub fn member(&self, key: &str) -> Option<&'a RawValue> {
        self.members.get(key).copied()
    }

    /// A member that is a text: `title`, `description`.
    pub fn text(&self, key: &str) -> Option<String> {
        match Node::open(self.member(key)?, 1) {
            Node::Text(text) => Some(text),
            Node::Object(_) | Node::Array(_) | Node::Plain(_) => None,
        }
    }

    pub fn hints(&self) -> Hints {
        Hints::of(self.member("annotations"))
    }

    /// What the fingerprint covers, in the one form that equal definitions share.
    pub fn canonical(&self) -> String {
        let interface = self.interface();
        let mut covered = self.members.clone();
        covered.retain(|key, _| !NOT_COVERED.contains(&key.as_str()));
        covered.extend(interface.as_deref().map(|interface| (META.to_owned(), interface)));
        canonical(&covered)
    }

    /// What of `_meta` binds a user interface, where anything does.
    fn interface(&self) -> Option<Box<RawValue>> {
        let Node::Object(mut members) = Node::open(self.member(META)?, 1) else {
            return None;
        };
        members.retain(|key, _| names_interface(key));
        let text = canonical(&members);
        (!members.is_empty()).then(|| RawValue::from_string(text).expect("a canonical form is JSON"))
    }

    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.canonical())
    }
}

const META: &str = "_meta";

/// Whether a member of `_meta` binds a user interface: one of its words is `ui` (`ui`, `ui/resourceUri`, `toolUi`), or it
/// is the older name of the same.
fn names_interface(key: &str) -> bool {
    let mut words = String::with_capacity(key.len());
    let mut before = ' ';
    for c in key.chars() {
        if c.is_ascii_uppercase() && !before.is_ascii_uppercase() {
            words.push(' ');
        }
        words.push(if c.is_ascii_alphanumeric() { c } else { ' ' });
        before = c;
    }
    // `UIResource` is two words, `UID` and `UUID` are one each.
    let begins = |word: &str| {
        let rest = word.strip_prefix("UI").and_then(|rest| rest.chars().nth(1));
        rest.is_some_and(|second| second.is_ascii_lowercase())
    };
    key == "openai/outputTemplate"
        || words
            .split(' ')
            .any(|word| word.eq_ignore_ascii_case("ui") || begins(word))
}

/// The members of a definition that is small, strict and not too deep.
pub(super) fn members(raw: &RawValue) -> Result<BTreeMap<String, &RawValue>, DefinitionFault> {
    let text = raw.get();
    if text.len() > DEFINITION_BYTES_MAX {
        return Err(DefinitionFault::TooLarge(text.len()));
    }
    check_strict(text.as_bytes()).map_err(|failure| DefinitionFault::Malformed(failure.message))?;
    if depth(text) > DEPTH_MAX {
        return Err(DefinitionFault::TooDeep);
    }
    match Node::open(raw, 0) {
        Node::Object(members) => Ok(members),
        Node::Array(_) | Node::Text(_) | Node::Plain(_) => Err(DefinitionFault::NotAnObject),
    }
}

/// How deep well-formed JSON nests.
fn depth(json: &str) -> usize {
    let (mut now, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                now += 1;
                deepest = deepest.max(now);
            }
            b'}' | b']' if !in_text => now = now.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        serde_json::from_str(text).unwrap()
    }

    fn fingerprint(text: &str) -> Fingerprint {
        Definition::parse(Kind::Tool, &raw(text)).unwrap().fingerprint()
    }

    const TOOL: &str = r#"{"name":"add","description":"Adds.","inputSchema":{"type":"object","properties":{"a":{"type":"number"}}},"annotations":{"readOnlyHint":true},"icons":[{"src":"x"}],"_meta":{"v":1}}"#;

    #[test]
    fn whatever_may_matter_changes_the_fingerprint_and_nothing_else_does() {
        let first = fingerprint(TOOL);
        for (from, to) in [
            ("\"add\"", "\"sub\""),
            ("Adds.", "Adds!"),
            ("Adds.", "Adds.\u{200b}"),
            ("\"number\"", "\"string\""),
            ("true", "false"),
            ("\"icons\"", "\"unheardOf\""),
            ("\"name\"", "\"title\":\"Add\",\"name\""),
            ("\"name\"", "\"outputSchema\":{},\"name\""),
            ("\"v\":1", "\"ui\":{\"resourceUri\":\"ui://a\"}"),
            ("\"v\":1", "\"v\":1,\"ui/resourceUri\":\"ui://a\""),
            ("\"v\":1", "\"v\":1,\"io.example/mcp-ui\":1"),
            ("\"v\":1", "\"v\":1,\"uiTemplate\":1"),
            ("\"v\":1", "\"v\":1,\"x/toolUi\":1"),
            ("\"v\":1", "\"v\":1,\"x/UIResource\":1"),
            ("\"v\":1", "\"v\":1,\"openai/outputTemplate\":\"ui://a\""),
        ] {
            let changed = TOOL.replacen(from, to, 1);
            assert_ne!(changed, TOOL);
            assert_ne!(fingerprint(&changed), first, "{from} -> {to}");
        }
        for (from, to) in [
            ("\"src\":\"x\"", "\"src\":\"y\""),
            ("\"v\":1", "\"v\":2"),
            (
                "\"v\":1",
                "\"build\":1,\"guide\":2,\"UUID\":4,\"toolUid\":5,\"x.quick/id\":3",
            ),
            ("\"_meta\"", "\"execution\":{\"taskSupport\":\"optional\"},\"_meta\""),
            (":", " : "),
            ("Adds.", "\\u0041dds."),
        ] {
            let changed = TOOL.replace(from, to);
            assert_ne!(changed, TOOL);
            assert_eq!(fingerprint(&changed), first, "{from} -> {to}");
        }
    }

    #[test]
    fn an_interface_that_is_swapped_is_another_definition() {
        let with = |uri: &str, version: &str| {
            let meta = format!(r#""_meta":{{"v":{version},"ui":{{"resourceUri":"{uri}"}}}}"#);
            fingerprint(&TOOL.replace(r#""_meta":{"v":1}"#, &meta))
        };
        assert_ne!(with("ui://a", "1"), with("ui://b", "1"));
        assert_eq!(
            with("ui://a", "1"),
            with("ui://a", "2"),
            "the rest of `_meta` stays free"
        );
    }

    #[test]
    fn a_fingerprint_survives_its_text_form() {
        let one = fingerprint(TOOL);
        assert_eq!(Fingerprint::parse(&one.to_string()), Some(one));
        assert_eq!(Fingerprint::parse("12"), None);
        assert_eq!(Fingerprint::parse(&"g".repeat(64)), None);
    }

    #[test]
    fn what_cannot_be_judged_is_refused() {
        let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(513));
        let large = format!(r#"{{"name":"a","description":"{}"}}"#, "x".repeat(DEFINITION_BYTES_MAX));
        let deep = format!(
            r#"{{"name":"a","x":{}{}}}"#,
            "[".repeat(DEPTH_MAX),
            "]".repeat(DEPTH_MAX)
        );
        for (text, part) in [
            (r#"{"name":"a","name":"b"}"#, "twice"),
            (r#"{"name":"a","x":{"y":1,"\u0079":2}}"#, "twice"),
            ("[]", "object"),
            ("{}", "`name`"),
            (r#"{"name":""}"#, "`name`"),
            (r#"{"name":7}"#, "`name`"),
            (r#"{"name":"a\u200bb"}"#, r"a\u{200b}b"),
            (r#"{"name":"a\nb"}"#, "nobody sees"),
            (r#"{"name":"a\u0000b"}"#, "nobody sees"),
            (r#"{"name":"\ud800"}"#, "cannot be read"),
            (&long, "513 bytes"),
            (&large, "at most 262144"),
            (&deep, "deeper than 64"),
        ] {
            let fault = Definition::parse(Kind::Tool, &raw(text)).map(|_| ()).unwrap_err();
            assert!(fault.to_string().contains(part), "{text:.60}: {fault}");
        }
        let shallow = format!(
            r#"{{"name":"a","x":{}"[\"["{}}}"#,
            "[".repeat(DEPTH_MAX - 1),
            "]".repeat(DEPTH_MAX - 1)
        );
        assert!(Definition::parse(Kind::Tool, &raw(&shallow)).is_ok());
    }

    #[test]
    fn each_kind_has_its_own_identity() {
        let both = raw(r#"{"name":"n","uri":"file:///a","uriTemplate":"file:///{x}","title":"T","size":3}"#);
        for (kind, name) in Kind::ALL.into_iter().zip(["n", "n", "file:///a", "file:///{x}", "n"]) {
            let definition = Definition::parse(kind, &both).unwrap();
            assert_eq!(definition.name().as_str(), name, "{kind}");
        }
        let definition = Definition::parse(Kind::Resource, &both).unwrap();
        assert_eq!(definition.text("title").as_deref(), Some("T"));
        assert_eq!(definition.text("size"), None);
        assert_eq!(definition.member("size").map(RawValue::get), Some("3"));
    }
}
