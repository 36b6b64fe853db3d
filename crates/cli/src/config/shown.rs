//! The effective configuration as people see it: every key, its value, where it comes from. Secrets are references.

use super::{
    Config,
    check::dotted,
    tree::{Node, Origin},
};
use serde::Serialize;
use serde_json::Value;
use std::{collections::BTreeMap, path::Path};

/// One effective key.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    pub key: String,
    pub value: Value,
    /// `default`, `FILE:LINE`, `env NAME` or a flag.
    pub origin: String,
}

pub(super) fn show(config: &Config, written: &Node, file: Option<&Path>) -> Vec<Shown> {
    let mut leaves = BTreeMap::new();
    collect(&redacted(config), &mut Vec::new(), &mut leaves);
    // A section in which nothing is set has nothing to show.
    leaves.retain(|_, value| *value != Value::Object(serde_json::Map::new()));
    let told = |path: &[String]| {
        let nearest = written.nearest(path);
        if !nearest.is_exact {
            return "default".to_owned();
        }
        match nearest.value {
            Origin::File { line, .. } => match file {
                Some(file) => format!("{}:{line}", file.display()),
                None => "default".to_owned(),
            },
            Origin::Env(name) => format!("env {name}"),
            Origin::Flag(flag) => (*flag).to_owned(),
        }
    };
    leaves
        .into_iter()
        .map(|(path, value)| Shown {
            origin: told(&path),
            key: dotted(&path),
            value,
        })
        .collect()
}

/// Plain data; a password inside a database's URL is not shown.
pub(super) fn redacted(config: &Config) -> Value {
    let mut config = config.clone();
    config.store.url = config.store.url.map(|url| forebay_store::redacted(&url));
    serde_json::to_value(config).expect("a configuration is plain data with text keys")
}

/// Every value by its path, as it really is: for comparing, not for showing.
pub(super) fn leaves(config: &Config) -> BTreeMap<Vec<String>, Value> {
    let mut leaves = BTreeMap::new();
    let value = serde_json::to_value(config).expect("a configuration is plain data with text keys");
    collect(&value, &mut Vec::new(), &mut leaves);
    leaves
}

fn collect(value: &Value, path: &mut Vec<String>, leaves: &mut BTreeMap<Vec<String>, Value>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) if !map.is_empty() => map.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) if items.iter().any(Value::is_object) => items
            .iter()
            .enumerate()
            .map(|(index, item)| (index.to_string(), item))
            .collect(),
        _ => {
            leaves.insert(path.clone(), value.clone());
            return;
        }
    };
    for (segment, child) in children {
        path.push(segment);
        collect(child, path, leaves);
        path.pop();
    }
}
