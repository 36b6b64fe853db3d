//! Rows of a table as items.

use crate::{item::Item, words::rank};
use forebay_store::foreign::{Hit, Table};
use sha2::{Digest, Sha256};

/// A row that was found. A single text stands for itself, several are told with their names.
pub(super) fn item(table: &Table, hit: &Hit) -> Option<Item> {
    let filled = hit.row.0.iter().filter_map(|(column, value)| {
        let value = value.as_deref()?;
        (!value.trim().is_empty()).then_some((column.as_str(), value))
    });
    let columns: Vec<(&str, &str)> = filled.collect();
    let text = match columns.as_slice() {
        [(_, only)] => (*only).to_owned(),
        several => {
            let lines: Vec<String> = several
                .iter()
                .map(|(column, value)| format!("{column}: {value}"))
                .collect();
            lines.join("\n")
        }
    };
    let title = columns
        .iter()
        .find(|(column, _)| ["title", "name", "subject"].contains(column))
        .map(|(_, value)| *value);
    // A view has no key; what tells its rows apart is what stands in them.
    let key = if hit.key.is_empty() {
        hex::encode(&Sha256::digest(&text)[..6])
    } else {
        hit.key.clone()
    };
    let name = format!("{}#{key}", table.name.strip_prefix("public.").unwrap_or(&table.name));
    Item::new(&name, &text, &name, title)
}

/// PostgreSQL's rank does not know which words are rare; among the best rows that decides. What has none of the words as
/// they are written (but, say, in another form) keeps its place at the end.
pub(super) fn reranked(items: &[Item], words: &[String]) -> Vec<Item> {
    let texts: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
    let mut places = rank(&texts, words);
    let rest: Vec<usize> = (0..items.len()).filter(|place| !places.contains(place)).collect();
    places.extend(rest);
    places.into_iter().map(|place| items[place].clone()).collect()
}
