//! Editing a client's file: one entry goes in or out, and nothing else changes.
//!
//! These files are JSON as people write it, with comments and trailing commas; a syntax tree that keeps every byte is
//! edited, never the values. Each edit is checked against what stood there before, and one that would touch anything
//! of somebody else's is refused: see [`Fault::Touched`].

use super::entry::{Entry, OWNED, OWNED_INSIDE, Value};
use jsonc_parser::{
    ParseOptions,
    cst::{CstInputValue, CstNode, CstObject, CstObjectProp, CstRootNode},
};
use serde_json::Value as Json;

/// The member of VS Code's file that holds what its user is asked for.
pub(super) const INPUTS: &str = "inputs";
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Why a file is left alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("line {line}, column {column}: {what}")]
    Syntax { line: usize, column: usize, what: String },
    #[error("{0} is not an object")]
    NoObject(String),
    #[error("`{0}` is not a list")]
    NoList(&'static str),
    #[error("it names `{0}` twice, so nobody can say which one counts")]
    Twice(String),
    #[error("the edit would change more than the entry `{0}`")]
    Touched(String),
}

/// Where an entry stands: the file's member that holds the servers, and the entry's name in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot<'a> {
    pub(super) section: &'a str,
    pub(super) name: &'a str,
}

/// A secret that VS Code asks its user for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Input {
    pub(super) id: String,
    pub(super) description: String,
}

impl Input {
    fn tree(&self) -> CstInputValue {
        let text = |text: &str| CstInputValue::String(text.to_owned());
        CstInputValue::Object(vec![
            ("type".to_owned(), text("promptString")),
            ("id".to_owned(), text(&self.id)),
            ("description".to_owned(), text(&self.description)),
            ("password".to_owned(), CstInputValue::Bool(true)),
        ])
    }
}

/// What becomes of an entry that stands in the slot already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Former {
    /// It is ours: what we do not write into it stays.
    Merge,
    /// It is somebody else's, and goes.
    Replace,
}

/// All entries of the section, in their order.
pub(super) fn entries(text: &str, section: &str) -> Result<Vec<(String, Json)>, Fault> {
    let Some(object) = section_of(&parse(text)?, section)? else {
        return Ok(Vec::new());
    };
    let pair = |prop: CstObjectProp| Some((prop.decoded_name()?, prop.to_serde_value().unwrap_or_default()));
    Ok(object.properties().into_iter().filter_map(pair).collect())
}

/// The text with the entry in it.
pub(super) fn put(
    text: &str,
    slot: Slot,
    entry: &Entry,
    former: Former,
    input: Option<&Input>,
) -> Result<String, Fault> {
    edit(text, slot, |root| {
        let section = root.object_value_or_set().object_value_or_set(slot.section);
        match section.get(slot.name) {
            None => {
                section.append(slot.name, tree(entry));
            }
            Some(prop) => match (prop.object_value(), former) {
                (Some(object), Former::Merge) => {
                    for name in OWNED {
                        unambiguous(&object, name)?;
                    }
                    merge(&object, entry);
                }
                (Some(_), Former::Replace) | (None, Former::Merge | Former::Replace) => prop.set_value(tree(entry)),
            },
        }
        if let Some(input) = input {
            ask(&root.object_value_or_set(), input)?;
        }
        Ok(())
    })
}

/// The text as [`put`] would have made it of `before`, with the entry exactly as it stands in `with`. `None` where
/// there is none, or `before` has one already.
pub(super) fn put_again(before: &str, with: &str, slot: Slot, input: Option<&Input>) -> Result<Option<String>, Fault> {
    let standing = section_of(&parse(with)?, slot.section)?.and_then(|section| section.get(slot.name)?.value());
    let Some(standing) = standing else {
        return Ok(None);
    };
    if entries(before, slot.section)?.iter().any(|(name, _)| name == slot.name) {
        return Ok(None);
    }
    let made = edit(before, slot, |root| {
        let section = root.object_value_or_set().object_value_or_set(slot.section);
        section.append(slot.name, copy(&standing));
        if let Some(input) = input {
            ask(&root.object_value_or_set(), input)?;
        }
        Ok(())
    })?;
    Ok(Some(made))
}

/// The text without the entry, and without the question for its secret unless another entry needs that.
pub(super) fn take(text: &str, slot: Slot, input: Option<&Input>) -> Result<String, Fault> {
    edit(text, slot, |root| {
        let Some(object) = root.object_value() else {
            return Ok(());
        };
        if let Some(prop) = object
            .object_value(slot.section)
            .and_then(|section| section.get(slot.name))
        {
            prop.remove();
        }
        if let Some(input) = input
            && !root.to_string().contains(&format!("${{input:{}}}", input.id))
        {
            ask_no_more(&object, &input.id);
        }
        Ok(())
    })
}

/// The question in a file that asks for the secret of this id.
pub(super) fn question(object: &CstObject, id: &str) -> Option<CstNode> {
    let inputs = object.array_value(INPUTS)?;
    let has_id = |node: &CstNode| {
        let object = node.as_object();
        object.and_then(|object| object.get("id")?.to_serde_value()) == Some(Json::String(id.to_owned()))
    };
    inputs.elements().into_iter().find(has_id)
}

/// Reads a file as people write it, and no further: what else JSON5 allows, the clients do not.
pub(super) fn parse(text: &str) -> Result<CstRootNode, Fault> {
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    CstRootNode::parse(text.trim_start_matches(BYTE_ORDER_MARK), &options).map_err(|error| Fault::Syntax {
        line: error.line_display(),
        column: error.column_display(),
        what: error.kind().to_string(),
    })
}

/// The object of the section, where there is one, and nothing about it is doubtful.
fn section_of(root: &CstRootNode, section: &str) -> Result<Option<CstObject>, Fault> {
    let Some(value) = root.value() else {
        return Ok(None);
    };
    let object = value
        .as_object()
        .ok_or_else(|| Fault::NoObject("the whole file".to_owned()))?;
    unambiguous(&object, section)?;
    let Some(prop) = object.get(section) else {
        return Ok(None);
    };
    let found = prop
        .object_value()
        .ok_or_else(|| Fault::NoObject(format!("`{section}`")))?;
    Ok(Some(found))
}

fn unambiguous(object: &CstObject, name: &str) -> Result<(), Fault> {
    let named = |prop: &CstObjectProp| prop.decoded_name().as_deref() == Some(name);
    if object.properties().iter().filter(|prop| named(prop)).count() > 1 {
        return Err(Fault::Twice(name.to_owned()));
    }
    Ok(())
}

/// Parses, lets `change` work on the tree, and makes sure that nothing else has changed.
fn edit(text: &str, slot: Slot, change: impl FnOnce(&CstRootNode) -> Result<(), Fault>) -> Result<String, Fault> {
    let root = parse(text)?;
    if let Some(section) = section_of(&root, slot.section)? {
        unambiguous(&section, slot.name)?;
    }
    if let Some(object) = root.object_value() {
        unambiguous(&object, INPUTS)?;
    }
    let before = others(&root, slot);
    change(&root)?;
    let mark: String = text.chars().take_while(|c| *c == BYTE_ORDER_MARK).collect();
    let made = format!("{mark}{root}");
    let same = parse(&made).is_ok_and(|root| others(&root, slot) == before);
    if same {
        Ok(made)
    } else {
        Err(Fault::Touched(slot.name.to_owned()))
    }
}

/// Everything that is not ours, as it is written, in its order.
fn others(root: &CstRootNode, slot: Slot) -> Vec<String> {
    let Some(object) = root.object_value() else {
        return Vec::new();
    };
    let named = |prop: &CstObjectProp, name: &str| prop.decoded_name().as_deref() == Some(name);
    let mut texts = Vec::new();
    for prop in object.properties() {
        if named(&prop, slot.section) {
            let entries = prop
                .object_value()
                .map(|section| section.properties())
                .unwrap_or_default();
            let foreign = entries.iter().filter(|entry| !named(entry, slot.name));
            texts.extend(foreign.map(ToString::to_string));
        } else if !named(&prop, INPUTS) {
            texts.push(prop.to_string());
        }
    }
    texts
}

fn tree(entry: &Entry) -> CstInputValue {
    let members = entry
        .0
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value_tree(value)));
    CstInputValue::Object(members.collect())
}

fn value_tree(value: &Value) -> CstInputValue {
    let text = |text: &String| CstInputValue::String(text.clone());
    match value {
        Value::Text(value) => text(value),
        Value::List(items) => CstInputValue::Array(items.iter().map(text).collect()),
        Value::Map(pairs) => {
            let members = pairs.iter().map(|(name, value)| ((*name).to_owned(), text(value)));
            CstInputValue::Object(members.collect())
        }
    }
}

/// A value of a file, to be written elsewhere.
fn copy(node: &CstNode) -> CstInputValue {
    if let Some(object) = node.as_object() {
        let member = |prop: CstObjectProp| Some((prop.decoded_name()?, copy(&prop.value()?)));
        return CstInputValue::Object(object.properties().into_iter().filter_map(member).collect());
    }
    if let Some(array) = node.as_array() {
        return CstInputValue::Array(array.elements().iter().map(copy).collect());
    }
    match node.to_serde_value() {
        Some(Json::String(text)) => CstInputValue::String(text),
        Some(Json::Bool(truth)) => CstInputValue::Bool(truth),
        Some(Json::Null | Json::Array(_) | Json::Object(_)) | None => CstInputValue::Null,
        Some(Json::Number(_)) => CstInputValue::Number(node.to_string()),
    }
}

/// Brings an entry of ours up to date. What already says the right thing keeps its bytes.
fn merge(object: &CstObject, entry: &Entry) {
    for name in OWNED {
        match (entry.get(name), object.get(name)) {
            (Some(value), None) => {
                object.append(name, value_tree(value));
            }
            (Some(Value::Map(pairs)), Some(prop)) => match prop.object_value() {
                Some(inner) => merge_map(&inner, pairs),
                None => prop.set_value(value_tree(&Value::Map(pairs.clone()))),
            },
            (Some(value @ (Value::Text(_) | Value::List(_))), Some(prop)) => {
                if prop.to_serde_value() != serde_json::to_value(value).ok() {
                    prop.set_value(value_tree(value));
                }
            }
            (None, Some(prop)) => drop_member(name, prop, entry),
            (None, None) => {}
        }
    }
}

fn merge_map(object: &CstObject, pairs: &[(&'static str, String)]) {
    let wanted = |name: &str| pairs.iter().find(|(wanted, _)| *wanted == name);
    for prop in object.properties() {
        let name = prop.decoded_name().unwrap_or_default();
        let ours = OWNED_INSIDE.iter().any(|owned| owned.eq_ignore_ascii_case(&name));
        if ours && wanted(&name).is_none() {
            prop.remove();
        }
    }
    for (name, value) in pairs {
        match object.get(name) {
            Some(prop) if prop.to_serde_value() == Some(Json::String(value.clone())) => {}
            Some(prop) => prop.set_value(CstInputValue::String(value.clone())),
            None => {
                object.append(name, CstInputValue::String(value.clone()));
            }
        }
    }
}

/// A member of ours that is not wanted any more, for instance `url` after a change to stdio.
fn drop_member(name: &str, prop: CstObjectProp, entry: &Entry) {
    match (name, prop.object_value()) {
        // Clients that do not ask for it may still have been told, and rightly.
        ("type", _) if prop.to_serde_value() == Some(Json::String(entry.transport().as_str().to_owned())) => {}
        (_, Some(inner)) => {
            merge_map(&inner, &[]);
            if inner.properties().is_empty() {
                prop.remove();
            }
        }
        (_, None) => prop.remove(),
    }
}

fn ask(object: &CstObject, input: &Input) -> Result<(), Fault> {
    if question(object, &input.id).is_some() {
        return Ok(());
    }
    if object.get(INPUTS).is_some_and(|prop| prop.array_value().is_none()) {
        return Err(Fault::NoList(INPUTS));
    }
    object.array_value_or_set(INPUTS).append(input.tree());
    Ok(())
}

fn ask_no_more(object: &CstObject, id: &str) {
    if let Some(question) = question(object, id) {
        question.remove();
    }
    if let Some(prop) = object.get(INPUTS)
        && prop.array_value().is_some_and(|inputs| inputs.elements().is_empty())
    {
        prop.remove();
    }
}

#[cfg(test)]
mod tests;
