//! The schema of the configuration: generated from the types, and asked what a key means.

use super::Config;
use serde_json::Value;
use std::collections::BTreeSet;

/// The mark on every leaf that says when a change of it takes effect.
const RELOAD_MARK: &str = "x-forebay-reload";

/// When a changed key takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// As soon as the file is read again.
    Live,
    /// When the gateway is started again.
    Restart,
}

/// One key that holds a value, lists and names written as `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    pub path: Vec<String>,
    pub reload: Option<Reload>,
}

pub struct Schema(Value);

impl Schema {
    pub fn of_config() -> Self {
        let mut schema = schemars::schema_for!(Config).to_value();
        for name in beneath(&schema, &["McpConfig", "tools"]) {
            if let Some(properties) = schema["$defs"][&name].get_mut("properties") {
                also_in_camel_case(properties);
            }
        }
        Self(schema)
    }

    pub fn as_json(&self) -> &Value {
        &self.0
    }

    /// What may stand at a path.
    pub(super) fn at(&self, path: &[String]) -> Option<&Value> {
        path.iter()
            .try_fold(&self.0, |node, segment| self.child(node, segment))
            .map(|node| self.resolve(node))
    }

    fn child<'a>(&'a self, node: &'a Value, segment: &str) -> Option<&'a Value> {
        let node = self.resolve(node);
        if let Some(property) = node.get("properties").and_then(|all| all.get(segment)) {
            return Some(property);
        }
        [node.get("additionalProperties"), node.get("items")]
            .into_iter()
            .flatten()
            .find(|inner| inner.is_object())
            .or_else(|| forms(node).find_map(|form| self.child(form, segment)))
    }

    /// Whether what stands at a path is a secret by reference, or may be one.
    pub(super) fn may_be_secret(&self, path: &[String]) -> bool {
        self.at(path)
            .is_some_and(|node| is_secret(node) || forms(node).any(|form| is_secret(self.resolve(form))))
    }

    /// Follows references, and sees through "this or nothing".
    fn resolve<'a>(&'a self, mut node: &'a Value) -> &'a Value {
        loop {
            if let Some(reference) = node.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').unwrap_or(reference);
                node = self.0.pointer(pointer).expect("schemars refers to its own definitions");
                continue;
            }
            let Some(either) = node.get("anyOf").and_then(Value::as_array) else {
                return node;
            };
            let something: Vec<_> = either
                .iter()
                .filter(|one| one.get("type") != Some(&"null".into()))
                .collect();
            match something[..] {
                [one] => node = one,
                _ => return node,
            }
        }
    }

    /// Every key that holds a value.
    pub fn leaves(&self) -> Vec<Leaf> {
        let mut leaves = Vec::new();
        self.collect(&self.0, &mut Vec::new(), &mut leaves);
        leaves
    }

    fn collect(&self, node: &Value, path: &mut Vec<String>, leaves: &mut Vec<Leaf>) {
        let reload = reload(node);
        let inner = self.resolve(node);
        let properties = inner.get("properties").and_then(Value::as_object);
        let many = [inner.get("additionalProperties"), inner.get("items")];
        let many = many
            .into_iter()
            .flatten()
            .find(|each| each.is_object() && !is_scalar(self.resolve(each)));
        if reload.is_some() || (properties.is_none() && many.is_none()) {
            leaves.push(Leaf {
                path: path.clone(),
                reload,
            });
            return;
        }
        for (name, property) in properties.into_iter().flatten() {
            path.push(name.clone());
            self.collect(property, path, leaves);
            path.pop();
        }
        if let Some(each) = many {
            path.push("*".to_owned());
            self.collect(each, path, leaves);
            path.pop();
        }
    }

    /// When a change at this path takes effect; a path inside a leaf is that leaf.
    pub fn reload(&self, path: &[String]) -> Option<Reload> {
        let mut node = &self.0;
        for segment in path {
            node = self.child(node, segment)?;
            if let Some(reload) = reload(node) {
                return Some(reload);
            }
        }
        None
    }
}

/// The names of all definitions that stand beneath a property of a definition.
fn beneath(schema: &Value, [definition, property]: &[&str; 2]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![&schema["$defs"][definition]["properties"][property]];
    while let Some(node) = open.pop() {
        match node {
            Value::Object(members) => {
                let name = members.get("$ref").and_then(Value::as_str);
                if let Some(name) = name.and_then(|name| name.strip_prefix("#/$defs/"))
                    && found.insert(name.to_owned())
                {
                    open.push(&schema["$defs"][name]);
                }
                open.extend(members.values());
            }
            Value::Array(items) => open.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    found
}

/// Declared tools may be written in camelCase too, which their types read and their schema does not say.
fn also_in_camel_case(properties: &mut Value) {
    let Some(properties) = properties.as_object_mut() else {
        return;
    };
    let others: Vec<(String, Value)> = properties
        .iter()
        .filter(|(name, _)| name.contains('_'))
        .map(|(name, property)| {
            let mut other = property.clone();
            other["description"] = format!("The same as `{name}`.").into();
            (camel_case(name), other)
        })
        .collect();
    properties.extend(others);
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |text, word| {
        let (head, tail) = word.split_at(word.len().min(1));
        text + &head.to_uppercase() + tail
    })
}

fn reload(node: &Value) -> Option<Reload> {
    match node.get(RELOAD_MARK)?.as_str()? {
        "live" => Some(Reload::Live),
        "restart" => Some(Reload::Restart),
        _ => None,
    }
}

fn is_scalar(node: &Value) -> bool {
    node.get("properties").is_none() && node.get("additionalProperties").is_none() && node.get("items").is_none()
}

/// The forms of which a value has one.
fn forms(node: &Value) -> impl Iterator<Item = &Value> {
    let all = [node.get("oneOf"), node.get("anyOf")];
    all.into_iter().flatten().filter_map(Value::as_array).flatten()
}

/// Whether a value of these stands elsewhere: `{env: NAME}` or `{file: PATH}`.
pub(super) fn is_secret(node: &Value) -> bool {
    let names = |one: &Value| Some(one.get("properties")?.as_object()?.keys().cloned().collect::<Vec<_>>());
    let forms = node
        .get("oneOf")
        .and_then(Value::as_array)
        .map(|all| all.iter().filter_map(names).flatten().collect());
    forms == Some(BTreeSet::from(["env".to_owned(), "file".to_owned()]))
}

/// The keys that may stand in a section.
pub(super) fn keys(node: &Value) -> Vec<&str> {
    node.get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect()
}

/// The words that may stand here, where there is a choice.
pub(super) fn choices(node: &Value) -> Vec<&str> {
    let consts = node.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let consts = consts.flat_map(|one| [one.get("const"), one.get("enum").and_then(|all| all.get(0))]);
    let listed = node.get("enum").and_then(Value::as_array).into_iter().flatten();
    consts.flatten().chain(listed).filter_map(Value::as_str).collect()
}

pub(super) fn has_type(node: &Value, wanted: &str) -> bool {
    match node.get("type") {
        Some(Value::String(only)) => only == wanted,
        Some(Value::Array(several)) => several.iter().any(|one| one == wanted),
        _ => false,
    }
}

/// What may stand here, in words.
pub(super) fn describe(node: &Value) -> String {
    if is_secret(node) {
        return "a reference to a secret, `{env: NAME}` or `{file: PATH}`".to_owned();
    }
    let choices = choices(node);
    if !choices.is_empty() {
        return format!("one of `{}`", choices.join("`, `"));
    }
    let names: Vec<&str> = forms(node).flat_map(keys).collect();
    if !names.is_empty() {
        return format!("exactly one of the keys `{}`", names.join("`, `"));
    }
    let has = |wanted| has_type(node, wanted);
    let range = match (node.get("minimum"), node.get("maximum")) {
        (Some(min), Some(max)) => format!(" from {min} to {max}"),
        (Some(min), None) => format!(" of at least {min}"),
        (None, Some(max)) => format!(" of at most {max}"),
        (None, None) => String::new(),
    };
    if has("integer") {
        format!("a whole number{range}")
    } else if has("number") {
        format!("a number{range}")
    } else if has("boolean") {
        "`true` or `false`".to_owned()
    } else if has("array") {
        "a list".to_owned()
    } else if has("object") {
        match &keys(node)[..] {
            [] => "names, each with its own keys".to_owned(),
            keys => format!("keys such as `{}`", keys[..keys.len().min(3)].join("`, `")),
        }
    } else if node.get("format") == Some(&"uri".into()) {
        "a URL".to_owned()
    } else {
        let examples = node.get("examples").and_then(Value::as_array).into_iter().flatten();
        let examples: Vec<&str> = examples.filter_map(Value::as_str).collect();
        match &examples[..] {
            [] => "text".to_owned(),
            examples => format!("text such as `{}`", examples.join("`, `")),
        }
    }
}
