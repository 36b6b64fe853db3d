//! Lays environment variables and flags over what the file says.

use super::{
    file,
    mistake::Mistake,
    schema::{self, Schema},
    tree::{Entry, Node, Origin, Shape},
};
use crate::env::{Env, OVERRIDE_PREFIX};
use serde_json::Value;

/// Rust programs are used to this variable, so it is heeded too.
const LOG_VARIABLE: &str = "RUST_LOG";

/// A key that a flag sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagValue {
    pub flag: &'static str,
    pub path: &'static [&'static str],
    /// A plain value; null where the key counts as not written.
    pub value: Value,
}

/// Every variable that overrides a key, in the order of their names, and then every flag.
pub(super) fn lay(root: &mut Node, env: &Env, flags: &[FlagValue], schema: &Schema) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    if let Some(filter) = env.get(LOG_VARIABLE) {
        let path = ["telemetry", "log", "filter"].map(str::to_owned);
        set(root, &path, text(filter), &Origin::Env(LOG_VARIABLE.to_owned()));
    }
    for (name, value) in env.overrides() {
        let origin = Origin::Env(name.to_owned());
        let path = path_of(root, name);
        match parse(schema, &path, value) {
            Ok(shape) => set(root, &path, shape, &origin),
            Err(fault) => {
                let mistake = Mistake::at(origin, format!("its value cannot be read: {}", fault.problem));
                mistakes.push(Mistake {
                    path: super::check::dotted(&path),
                    ..mistake
                });
            }
        }
    }
    for FlagValue { flag, path, value } in flags {
        let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
        set(root, &path, Shape::Scalar(value.clone()), &Origin::Flag(flag));
    }
    mistakes
}

fn text(value: &str) -> Shape {
    Shape::Scalar(Value::String(value.to_owned()))
}

/// Where text is wanted the value is taken as it is, so that a name such as `0123` stays one; elsewhere it is YAML.
fn parse(schema: &Schema, path: &[String], value: &str) -> Result<Shape, Mistake> {
    let wants_text = schema.at(path).is_some_and(|node| {
        !schema::choices(node).is_empty() || (schema::has_type(node, "string") && !schema::is_secret(node))
    });
    if wants_text {
        Ok(text(value))
    } else {
        file::parse_value(value)
    }
}

/// `FOREBAY__MODELS__QWEN_2__BACKENDS__0__URL` is `models.qwen-2.backends.0.url` where such a model is written: a
/// variable's name can hold neither lower case nor `-` everywhere.
fn path_of(root: &Node, name: &str) -> Vec<String> {
    let mut node = Some(root);
    let segments = name.strip_prefix(OVERRIDE_PREFIX).unwrap_or(name).split("__");
    segments
        .map(|segment| {
            let plain = segment.to_lowercase();
            let (key, next) = match node.map(|node| &node.shape) {
                Some(Shape::Map(entries)) => {
                    let same = entries.iter().find(|(key, _)| as_in_a_variable(key) == plain);
                    same.map_or((plain, None), |(key, entry)| (key.clone(), Some(&entry.node)))
                }
                Some(Shape::List(items)) => {
                    let item = plain.parse().ok().and_then(|index: usize| items.get(index));
                    (plain, item)
                }
                Some(Shape::Scalar(_)) | None => (plain, None),
            };
            node = next;
            key
        })
        .collect()
}

fn as_in_a_variable(key: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '_'
        }
    };
    key.chars().map(plain).collect()
}

/// Sets one value, making the sections on the way. What stood there before is replaced as a whole.
fn set(node: &mut Node, path: &[String], shape: Shape, origin: &Origin) {
    let Some((first, rest)) = path.split_first() else {
        *node = file::with_origin(shape, origin);
        return;
    };
    if let (Shape::List(items), Ok(index)) = (&mut node.shape, first.parse::<usize>())
        && let Some(item) = items.get_mut(index)
    {
        return set(item, rest, shape, origin);
    }
    if !matches!(node.shape, Shape::Map(_)) {
        *node = file::with_origin(file::empty().shape, origin);
    }
    let Shape::Map(entries) = &mut node.shape else { return };
    let made = || Entry {
        key: origin.clone(),
        node: file::with_origin(Shape::Scalar(Value::Null), origin),
    };
    let entry = entries.entry(first.clone()).or_insert_with(made);
    if rest.is_empty() {
        entry.key = origin.clone();
    }
    set(&mut entry.node, rest, shape, origin);
}
