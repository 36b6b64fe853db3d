//! Rows of somebody else's tables: names and texts, whatever the types were.

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// A row: its columns in their order. What is no text is as JSON has it: `12`, `true`, `{"a":1}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignRow(pub Vec<(String, Option<String>)>);

impl ForeignRow {
    /// The value of the first column of that name; `None` also for NULL.
    pub fn get(&self, column: &str) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| name == column);
        found.and_then(|(_, value)| value.as_deref())
    }

    /// Takes the first column of that name out.
    pub(super) fn take(&mut self, column: &str) -> Option<String> {
        let place = self.0.iter().position(|(name, _)| name == column)?;
        self.0.remove(place).1
    }
}

/// What a statement found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    pub rows: Vec<ForeignRow>,
    /// Rows that were too large, or came after the answer was full. There may be more than these: those past the number
    /// of rows that was asked for were never fetched.
    pub left_out: usize,
}

/// Reads one JSON object. A map would sort its keys and forget those that come twice.
pub(super) fn row(json: &str) -> Result<ForeignRow, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let row = reader.deserialize_map(Columns)?;
    reader.end()?;
    Ok(row)
}

struct Columns;

impl<'de> Visitor<'de> for Columns {
    type Value = ForeignRow;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<ForeignRow, M::Error> {
        let mut columns = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
            columns.push((name, text(value.get())));
        }
        Ok(ForeignRow(columns))
    }
}

fn text(json: &str) -> Option<String> {
    if json == "null" {
        return None;
    }
    // A text that is written as JSON cannot hold is left as it is written.
    serde_json::from_str::<String>(json)
        .ok()
        .or_else(|| Some(json.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_its_columns_as_they_come() {
        let row = row(r#"{"b":"x\n\"","a":12.50,"n":null,"j":{"k":[1, 2]},"t":true,"b":"again"}"#).unwrap();
        let seen: Vec<_> = row
            .0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect();
        let expected = [
            ("b", Some("x\n\"")),
            ("a", Some("12.50")),
            ("n", None),
            ("j", Some("{\"k\":[1, 2]}")),
            ("t", Some("true")),
            ("b", Some("again")),
        ];
        assert_eq!(seen, expected);
        assert_eq!((row.get("b"), row.get("n"), row.get("z")), (Some("x\n\""), None, None));
    }
}
