//! Checks a whole configuration against the schema and the types, and tells all that is wrong at once.

use super::{
    Config, file, later,
    mistake::Mistake,
    schema::{self, Schema},
    tree::Node,
};
use jsonschema::{ValidationError, error::ValidationErrorKind};
use serde_json::Value;

/// Farther than this from every known key, a key is no slip of the finger.
const SIMILARITY_MIN: f64 = 0.7;

/// The typed configuration, and every mistake in what was written. What is wrong is put aside, so that the rest can be
/// checked all the same; the configuration is of use only where there is no mistake.
pub(super) fn check(written: &Node, schema: &Schema) -> (Config, Vec<Mistake>) {
    let mut value = written.to_json();
    leave_out_empty(&mut value, schema, &mut Vec::new());
    let mut checker = Checker {
        written,
        schema,
        mistakes: Vec::new(),
    };
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(schema.as_json())
        .expect("schemars generates a valid schema");
    let mut wrong = Vec::new();
    for error in validator.iter_errors(&value) {
        checker.explain(&error, &mut wrong);
    }
    for path in &wrong {
        put_aside(&mut value, path);
    }
    let config = checker.read(value);
    (config, checker.mistakes)
}

type Path = Vec<String>;

struct Checker<'a> {
    written: &'a Node,
    schema: &'a Schema,
    mistakes: Vec<Mistake>,
}

impl Checker<'_> {
    /// Turns one finding of the validator into mistakes, and names what they are about.
    fn explain(&mut self, error: &ValidationError<'_>, wrong: &mut Vec<Path>) {
        let path = segments(error);
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                for key in unexpected {
                    let path = joined(&path, key);
                    self.unknown_key(&path);
                    wrong.push(path);
                }
            }
            ValidationErrorKind::Required { property } => {
                let path = joined(&path, property.as_str().unwrap_or_default());
                let expected = self.schema.at(&path).map(schema::describe).unwrap_or_default();
                self.tell(&path, format!("it is missing; expected {expected}"), None);
                wrong.push(path[..path.len() - 1].to_vec());
            }
            ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
                match meant(&path, context) {
                    Some(inner) if !self.is_secret(&path) => {
                        for error in inner {
                            self.explain(error, wrong);
                        }
                    }
                    _ => {
                        self.unfit(&path, error.instance());
                        wrong.push(path);
                    }
                }
            }
            _ => {
                self.unfit(&path, error.instance());
                wrong.push(path);
            }
        }
    }

    /// Reads the types. Values that only a type can judge (an address, a name) are found here.
    fn read(&mut self, mut value: Value) -> Config {
        loop {
            let error = match serde_path_to_error::deserialize::<_, Config>(&value) {
                Ok(config) => return config,
                Err(error) => error,
            };
            let path: Path = error.path().iter().map(ToString::to_string).collect();
            let words = error.into_inner().to_string();
            // Some errors end in the value itself.
            let words = words.split(": \"").next().unwrap_or_default().to_owned();
            // What is missing now was put aside, or was told by the schema.
            if !words.starts_with("missing field") && !self.is_told_within(&path) {
                self.tell(&path, words, None);
            }
            if !put_aside(&mut value, &path) {
                return Config::default();
            }
        }
    }

    fn unknown_key(&mut self, path: &[String]) {
        if let Some(name) = later::section(path) {
            let hint = "A later version brings it; remove it until then.".to_owned();
            return self.tell(path, format!("`{name}` is not in this version"), Some(hint));
        }
        if path == [file::CHART_KEY] {
            let hint = format!(
                "Values of a chart are taken where `{}` stands alone and holds `mcp`.",
                file::CHART_KEY
            );
            return self.tell(path, "there is no such key".to_owned(), Some(hint));
        }
        let (key, parent) = path.split_last().expect("an unknown key has a name");
        let siblings = self.schema.at(parent).map(schema::keys).unwrap_or_default();
        let hint = match nearest(key, &siblings).or_else(|| self.elsewhere(key)) {
            Some(known) => format!("Did you mean `{known}`?"),
            None if siblings.is_empty() => "Nothing may stand here.".to_owned(),
            None => format!("Here may stand: `{}`.", siblings.join("`, `")),
        };
        self.tell(path, "there is no such key".to_owned(), Some(hint));
    }

    /// A key that is right, and in the wrong section.
    fn elsewhere(&self, key: &str) -> Option<String> {
        let same = |leaf: &schema::Leaf| leaf.path.last().is_some_and(|last| last == key);
        let mut found = self
            .schema
            .leaves()
            .into_iter()
            .filter(same)
            .map(|leaf| leaf.path.join("."));
        found.next().filter(|_| found.next().is_none())
    }

    fn unfit(&mut self, path: &[String], value: &Value) {
        let Some(node) = self.schema.at(path) else {
            return self.tell(path, "it cannot stand here".to_owned(), None);
        };
        let choices = schema::choices(node);
        let hint = value
            .as_str()
            .and_then(|word| nearest(word, &choices))
            .map(|word| format!("Did you mean `{word}`?"));
        self.tell(
            path,
            format!("expected {}, found {}", schema::describe(node), found(value)),
            hint,
        );
    }

    /// What lacks a part that was refused has not become wrong by that.
    fn is_told_within(&self, path: &[String]) -> bool {
        let within = format!("{}.", dotted(path));
        self.mistakes.iter().any(|mistake| mistake.path.starts_with(&within))
    }

    fn is_secret(&self, path: &[String]) -> bool {
        self.schema.at(path).is_some_and(schema::is_secret)
    }

    fn tell(&mut self, path: &[String], problem: String, hint: Option<String>) {
        self.mistakes.push(mistake(self.written, path, problem, hint));
    }
}

/// A mistake with the place where it was written: of the value, or else of what it is missing from.
pub(super) fn mistake(written: &Node, path: &[String], problem: String, hint: Option<String>) -> Mistake {
    let nearest = written.nearest(path);
    let origin = Some(nearest.key.clone());
    Mistake {
        origin,
        path: dotted(path),
        problem,
        hint,
    }
}

/// A path as people write it: `models.qwen.backends[0].url`.
pub(super) fn dotted(path: &[String]) -> String {
    path.iter().fold(String::new(), |mut text, part| {
        if part.parse::<usize>().is_ok() {
            text.push_str(&["[", part, "]"].concat());
        } else {
            let dot = if text.is_empty() { "" } else { "." };
            text.push_str(&[dot, part].concat());
        }
        text
    })
}

/// A known key without a value, mostly a section whose keys are all commented out, counts as not written.
fn leave_out_empty(value: &mut Value, schema: &Schema, path: &mut Path) {
    let Value::Object(map) = value else { return };
    map.retain(|key, inner| {
        path.push(key.clone());
        leave_out_empty(inner, schema, path);
        let is_left_out = inner.is_null() && schema.at(path).is_some();
        path.pop();
        !is_left_out
    });
}

/// The alternative that was meant: the one whose faults lie deeper than "this is something else altogether".
fn meant<'a, 'b>(path: &[String], alternatives: &'a [Vec<ValidationError<'b>>]) -> Option<&'a [ValidationError<'b>]> {
    let is_meant = |errors: &&Vec<ValidationError<'b>>| {
        let other = |error: &ValidationError<'b>| {
            matches!(
                error.kind(),
                ValidationErrorKind::Type { .. } | ValidationErrorKind::Constant { .. }
            ) && segments(error) == path
        };
        !errors.iter().any(other)
    };
    // Of forms that differ by the key that they have, it is the one whose key is there.
    let is_begun = |errors: &&Vec<ValidationError<'b>>| {
        let lacks = |error: &ValidationError<'b>| {
            matches!(error.kind(), ValidationErrorKind::Required { .. }) && segments(error) == path
        };
        !errors.iter().any(lacks)
    };
    let only = |found: Vec<&'a Vec<ValidationError<'b>>>| match found[..] {
        [one] => Some(one.as_slice()),
        _ => None,
    };
    only(alternatives.iter().filter(is_meant).collect())
        .or_else(|| only(alternatives.iter().filter(is_meant).filter(is_begun).collect()))
}

fn segments(error: &ValidationError<'_>) -> Path {
    let pointer = error.instance_path().to_string();
    pointer
        .split('/')
        .skip(1)
        .map(|part| part.replace("~1", "/").replace("~0", "~"))
        .collect()
}

fn joined(path: &[String], key: &str) -> Path {
    path.iter().cloned().chain([key.to_owned()]).collect()
}

/// What stands there, without showing it: text may be a secret in the wrong place.
fn found(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Number(number) => number.to_string(),
        Value::String(_) => "text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "keys".to_owned(),
    }
}

/// The known word that was probably meant, whatever its case and its separators.
fn nearest(word: &str, known: &[&str]) -> Option<String> {
    let plain = |word: &str| word.to_lowercase().replace(['_', '-', ' '], "");
    let word = plain(word);
    let scored = known
        .iter()
        .map(|known| (strsim::normalized_damerau_levenshtein(&word, &plain(known)), known));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(score, _)| *score >= SIMILARITY_MIN)
        .map(|(_, known)| (*known).to_owned())
}

/// Takes out what is wrong. In a list that means the whole list, since the others would change their places. False
/// where there is nothing to take out.
fn put_aside(value: &mut Value, path: &[String]) -> bool {
    let Some((last, above)) = path.split_last() else {
        return false;
    };
    let parent = above.iter().try_fold(&mut *value, |node, segment| match node {
        Value::Object(map) => map.get_mut(segment),
        Value::Array(items) => segment.parse().ok().and_then(|index: usize| items.get_mut(index)),
        _ => None,
    });
    if let Some(Value::Object(map)) = parent
        && map.remove(last).is_some()
    {
        return true;
    }
    put_aside(value, above)
}
