//! Reads the one file: which it is, and its YAML.
//!
//! A file is bounded in size, depth and aliases; a key that stands twice, or a second document, is refused.

use super::{
    mistake::Mistake,
    tree::{Entry, Node, Origin, Shape, Written},
};
use serde_saphyr::{DuplicateKeyPolicy, Error, Options, budget::BudgetBreach};
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;
const DEPTH_MAX: usize = 32;
const ALIASES_MAX: usize = 1000;
const NODES_MAX: usize = 100_000;
pub(super) const CHART_KEY: &str = "aim_engine";
/// Ports of a Kubernetes Service, and which metrics are scraped.
const CHART_SECTIONS: [&str; 2] = ["service", "monitoring"];

/// Reads and parses a file.
pub(super) fn read(path: &Path) -> Result<Node, Mistake> {
    let text = text(path).map_err(|error| Mistake::of_file(format!("the file cannot be read: {error}")))?;
    parse(&text)
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// Parses one YAML document that holds keys, or nothing.
pub(super) fn parse(text: &str) -> Result<Node, Mistake> {
    let root = match serde_saphyr::from_str_with_options::<Option<Written>>(text, options()) {
        Ok(Some(Written(root))) if !root.is_null() => root,
        Ok(_) => empty(),
        Err(error) => return Err(syntax(&error)),
    };
    if matches!(root.shape, Shape::Map(_)) {
        Ok(out_of_chart_values(root))
    } else {
        let first = Origin::File { line: 1, column: 1 };
        Err(Mistake::at(
            first,
            "the file has to hold keys such as `server:` and `models:`",
        ))
    }
}

/// Values of a Helm chart hold the configuration below a key of their own, and beside it what is for the chart alone.
fn out_of_chart_values(mut root: Node) -> Node {
    let Shape::Map(entries) = &mut root.shape else {
        return root;
    };
    let is_alone = entries.len() == 1;
    if let Some(Entry { node, .. }) = entries.get_mut(CHART_KEY)
        && let Shape::Map(values) = &mut node.shape
        && is_alone
        && values.contains_key("mcp")
    {
        for key in CHART_SECTIONS {
            values.remove(key);
        }
        root.shape = Shape::Map(std::mem::take(values));
    }
    root
}

/// One value as an environment variable holds it: a word, a number, a list `[a, b]`, keys `{a: b}`.
pub(super) fn parse_value(text: &str) -> Result<Shape, Mistake> {
    match serde_saphyr::from_str_with_options::<Written>(text, options()) {
        Ok(Written(node)) => Ok(node.shape),
        Err(error) => Err(syntax(&error)),
    }
}

pub(super) fn empty() -> Node {
    Node {
        origin: Origin::File { line: 1, column: 1 },
        shape: Shape::Map(std::collections::BTreeMap::new()),
    }
}

/// Everything below comes from the same place: an environment variable or a flag.
pub(super) fn with_origin(shape: Shape, origin: &Origin) -> Node {
    let again = |node: Node| with_origin(node.shape, origin);
    let shape = match shape {
        Shape::Scalar(value) => Shape::Scalar(value),
        Shape::List(items) => Shape::List(items.into_iter().map(again).collect()),
        Shape::Map(entries) => Shape::Map(
            entries
                .into_iter()
                .map(|(key, entry)| {
                    (
                        key,
                        Entry {
                            key: origin.clone(),
                            node: again(entry.node),
                        },
                    )
                })
                .collect(),
        ),
    };
    Node {
        origin: origin.clone(),
        shape,
    }
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_aliases: ALIASES_MAX,
            max_nodes: NODES_MAX,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: NODES_MAX },
        duplicate_keys: DuplicateKeyPolicy::Error,
        with_snippet: false,
    }
}

fn syntax(error: &Error) -> Mistake {
    let error = error.without_snippet();
    let words = match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("the key `{key}` stands twice here"),
        Error::MultipleDocuments { .. }
        | Error::Budget {
            breach: BudgetBreach::Documents { .. },
            ..
        } => "a second document begins here; the file has to be one".to_owned(),
        Error::AliasReplayLimitExceeded { .. } | Error::Budget { .. } => {
            "it is larger, nests deeper or repeats more by aliases than any real configuration".to_owned()
        }
        // The place stands in front of the mistake already.
        other => other
            .to_string()
            .split(" at line ")
            .next()
            .unwrap_or_default()
            .to_owned(),
    };
    match error.location() {
        Some(place) if place.line() > 0 => Mistake::at(
            Origin::File {
                line: place.line(),
                column: place.column(),
            },
            words,
        ),
        _ => Mistake::of_file(words),
    }
}
