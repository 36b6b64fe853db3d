//! Items out of somebody's JSON: where the list stands, and what the parts of an item are called. Pure.

use crate::{
    config::FieldsConfig,
    item::{ITEMS_MAX, Item},
};
use serde_json::Value;

/// Under which names a list usually stands, where the answer is no list itself.
const LISTS: &[&str] = &[
    "results",
    "items",
    "data",
    "documents",
    "hits",
    "matches",
    "records",
    "result",
];
const IDS: &[&str] = &["id", "_id", "uuid", "key", "url"];
const TEXTS: &[&str] = &[
    "text",
    "content",
    "snippet",
    "body",
    "description",
    "summary",
    "document",
    "page_content",
    "abstract",
    "answer",
];
const TITLES: &[&str] = &["title", "name", "heading", "subject"];
const SOURCES: &[&str] = &["url", "source", "link", "uri", "href", "path"];

/// How an answer is read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Picker {
    /// A JSON pointer to the list.
    items: Option<String>,
    fields: FieldsConfig,
}

impl Picker {
    pub(crate) fn parse(items: Option<&String>, fields: &FieldsConfig) -> Result<Self, String> {
        if let Some(pointer) = items
            && !pointer.is_empty()
            && !pointer.starts_with('/')
        {
            return Err(format!(
                "`items` is a JSON pointer such as `/data/results`, not `{pointer}`"
            ));
        }
        Ok(Self {
            items: items.cloned(),
            fields: fields.clone(),
        })
    }

    /// The items in their order; what has no text is left out. `place` names the source of what does not name its own.
    pub(crate) fn pick(&self, answer: &Value, place: &str, limit: usize) -> Result<Vec<Item>, String> {
        let list = self.list(answer)?;
        let limit = limit.min(ITEMS_MAX);
        let items = list
            .iter()
            .enumerate()
            .filter_map(|(index, one)| self.item(one, index, place));
        Ok(items.take(limit).collect())
    }

    fn list<'a>(&self, answer: &'a Value) -> Result<Vec<&'a Value>, String> {
        if let Some(pointer) = &self.items {
            return match answer.pointer(pointer) {
                Some(Value::Array(list)) => Ok(list.iter().collect()),
                Some(Value::Null) => Ok(Vec::new()),
                Some(one @ Value::Object(_)) => Ok(vec![one]),
                Some(_) => Err(format!("has no list at `{pointer}`")),
                None => Err(format!("has nothing at `{pointer}`")),
            };
        }
        match answer {
            Value::Array(list) => Ok(list.iter().collect()),
            Value::Object(members) => {
                let list = LISTS.iter().find_map(|name| members.get(*name)?.as_array());
                Ok(list.map_or_else(|| vec![answer], |list| list.iter().collect()))
            }
            Value::String(_) => Ok(vec![answer]),
            Value::Null | Value::Bool(_) | Value::Number(_) => Err("is neither a list nor an object".to_owned()),
        }
    }

    fn item(&self, one: &Value, index: usize, place: &str) -> Option<Item> {
        if let Value::String(text) = one {
            return Item::new(&index.to_string(), text, place, None);
        }
        let id = part(one, self.fields.id.as_deref(), IDS);
        let title = part(one, self.fields.title.as_deref(), TITLES);
        let source = part(one, self.fields.source.as_deref(), SOURCES);
        let text = match part(one, self.fields.text.as_deref(), TEXTS) {
            Some(text) => text,
            // A title alone says something; nothing at all, and the item is told whole, as long as nobody said where
            // its text stands.
            None if self.fields.text.is_some() => title.clone()?,
            None => lines(one)?,
        };
        Item::new(
            &id.unwrap_or_else(|| index.to_string()),
            &text,
            &source.unwrap_or_else(|| place.to_owned()),
            title.as_deref(),
        )
    }
}

/// One part of an item: where the configuration says, or under one of its usual names.
fn part(one: &Value, named: Option<&str>, usual: &[&str]) -> Option<String> {
    match named {
        Some(pointer) if pointer.starts_with('/') => one.pointer(pointer).and_then(plain),
        Some(name) => one.get(name).and_then(plain),
        None => usual.iter().find_map(|name| one.get(*name).and_then(plain)),
    }
}

/// A value as text; nothing is no text.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.trim().is_empty()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Array(list) => {
            let texts: Vec<String> = list.iter().filter_map(plain).collect();
            (!texts.is_empty()).then(|| texts.join(" "))
        }
        Value::Null | Value::Object(_) => None,
    }
}

/// All plain members of an object, a line each: `name: value`.
pub(crate) fn lines(one: &Value) -> Option<String> {
    let members = one.as_object()?.iter();
    let lines: Vec<String> = members
        .filter_map(|(name, value)| Some(format!("{name}: {}", plain(value)?)))
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(items: Option<&str>, fields: Value, answer: &Value, expected: Result<&str, &str>) {
        let fields: FieldsConfig = serde_json::from_value(fields).unwrap();
        let items = items.map(ToOwned::to_owned);
        let picked = Picker::parse(items.as_ref(), &fields).and_then(|picker| picker.pick(answer, "here", 10));
        let shown = picked.map(|items| {
            let one = |item: &Item| {
                format!(
                    "{}|{}|{}|{}",
                    item.id,
                    item.text,
                    item.source,
                    item.title.as_deref().unwrap_or("-")
                )
            };
            items.iter().map(one).collect::<Vec<_>>().join(" ; ")
        });
        assert_eq!(shown.as_deref().map_err(String::as_str), expected, "{answer}");
    }

    #[test]
    fn usual_names_are_found() {
        let none = || json!({});
        check(
            None,
            none(),
            &json!([{ "id": 7, "text": "t", "url": "u", "title": "T" }]),
            Ok("7|t|u|T"),
        );
        check(
            None,
            none(),
            &json!({ "results": ["a", " ", "b"] }),
            Ok("0|a|here|- ; 2|b|here|-"),
        );
        check(
            None,
            none(),
            &json!({ "data": [{ "snippet": "s" }], "count": 1 }),
            Ok("0|s|here|-"),
        );
        check(
            None,
            none(),
            &json!({ "id": "x", "price": 3, "ok": true, "no": null }),
            Ok("x|id: x\nok: true\nprice: 3|here|-"),
        );
        check(None, none(), &json!({ "results": [] }), Ok(""));
        check(None, none(), &json!(17), Err("is neither a list nor an object"));
    }

    #[test]
    fn what_the_configuration_names_is_taken_and_nothing_else() {
        let fields = || json!({ "text": "/doc/words", "id": "nr" });
        let answer =
            json!({ "r": { "hits": [{ "nr": 1, "doc": { "words": ["a", "b"] } }, { "nr": 2, "text": "no" }] } });
        check(Some("/r/hits"), fields(), &answer, Ok("1|a b|here|-"));
        check(Some("/r/none"), fields(), &answer, Err("has nothing at `/r/none`"));
        check(
            Some("/r/hits/0/nr"),
            fields(),
            &answer,
            Err("has no list at `/r/hits/0/nr`"),
        );
        check(
            Some("hits"),
            fields(),
            &answer,
            Err("`items` is a JSON pointer such as `/data/results`, not `hits`"),
        );
    }

    #[test]
    fn no_more_than_wanted() {
        let many: Value = (0..1000).map(|n| n.to_string()).collect();
        let picker = Picker::parse(None, &FieldsConfig::default()).unwrap();
        assert_eq!(picker.pick(&many, "here", 3).unwrap().len(), 3);
        assert_eq!(picker.pick(&many, "here", 5000).unwrap().len(), ITEMS_MAX);
    }
}
