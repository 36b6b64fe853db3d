//! What only the parts themselves can judge: secrets that are there, backends that make sense, a store that has a form.

use super::{
    Config,
    check::mistake,
    mistake::Mistake,
    schema::{self, Schema},
    tree::{Node, Shape},
};
use forebay_llm::Settings;
use forebay_runtime::{SecretRef, secret::SecretReader};
use std::{collections::BTreeMap, path::Path};

/// Every secret that the configuration refers to, with the key that does.
pub(super) fn secrets(written: &Node, schema: &Schema) -> Vec<(Vec<String>, SecretRef)> {
    let mut found = Vec::new();
    collect(written, schema, &mut Vec::new(), &mut found);
    found
}

fn collect(node: &Node, schema: &Schema, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, SecretRef)>) {
    if schema.at(path).is_some_and(schema::is_secret) {
        if let Ok(reference) = serde_json::from_value(node.to_json()) {
            found.push((path.clone(), reference));
        }
        return;
    }
    let children: Vec<(String, &Node)> = match &node.shape {
        Shape::Scalar(_) => Vec::new(),
        Shape::List(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| (index.to_string(), item))
            .collect(),
        Shape::Map(entries) => entries.iter().map(|(key, entry)| (key.clone(), &entry.node)).collect(),
    };
    for (segment, child) in children {
        path.push(segment);
        collect(child, schema, path, found);
        path.pop();
    }
}

/// Asks the parts. A secret that cannot be read is told once, at the key that refers to it.
pub(super) fn judge(
    config: &Config,
    written: &Node,
    schema: &Schema,
    data: &Path,
    reader: &SecretReader,
) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for (path, reference) in secrets(written, schema) {
        if let Err(fault) = reader.read(&reference) {
            let hint = Some("Set what it refers to, or refer to something else.".to_owned());
            mistakes.push(mistake(written, &path, fault.to_string(), hint));
        }
    }
    for (name, model) in &config.models.0 {
        let alone = forebay_llm::Config(BTreeMap::from([(name.clone(), model.clone())]));
        if let Err(fault) = Settings::parse(&alone, reader)
            && fault.source.is_none()
        {
            let path = segments(&fault.path, name);
            mistakes.push(mistake(written, &path, fault.problem, None));
        }
    }
    let is_readable = config
        .store
        .password
        .as_ref()
        .is_none_or(|reference| reader.read(reference).is_ok());
    if is_readable && let Err(failure) = config.store.resolve(data, reader) {
        let path = ["store".to_owned(), "url".to_owned()];
        mistakes.push(mistake(written, &path, failure.message, failure.hint));
    }
    mistakes
}

/// The segments of `models.NAME.backends[0].url`, whose name may hold dots itself.
fn segments(path: &str, name: &str) -> Vec<String> {
    let rest = path
        .strip_prefix("models.")
        .and_then(|rest| rest.strip_prefix(name))
        .unwrap_or_default();
    let parts = rest.split(['.', '[', ']']).filter(|part| !part.is_empty());
    ["models", name].into_iter().chain(parts).map(str::to_owned).collect()
}
