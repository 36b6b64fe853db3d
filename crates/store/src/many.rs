//! Statements over many rows, of a few fixed sizes so that each is prepared once.

use std::fmt::Write;

use crate::sql::{Both, Tx};

/// Rows of one statement, largest first: few statements take any number of rows.
const CHUNKS: [usize; 7] = [64, 32, 16, 8, 4, 2, 1];
/// Values of one list, smallest first.
const LISTS: [usize; 5] = [1, 4, 16, 64, 256];

/// A statement with `VALUES …` in it, for both databases.
pub(crate) struct Insert {
    sqlite: [String; CHUNKS.len()],
    postgres: [String; CHUNKS.len()],
}

impl Insert {
    /// `tail` is what stands behind the rows, such as `ON CONFLICT …`.
    pub(crate) fn new(table: &str, columns: &[&str], tail: &str) -> Self {
        let head = format!("INSERT INTO {table} ({}) VALUES ", columns.join(", "));
        // PostgreSQL knows the types by the columns.
        Self::around(&head, &vec![""; columns.len()], tail)
    }

    /// Rows between two texts, each value of the type that PostgreSQL is told.
    pub(crate) fn around(head: &str, types: &[&str], tail: &str) -> Self {
        // Without names on SQLite, as `placeholder` says.
        let sqlite = CHUNKS.map(|rows| statement(head, types, tail, rows, |_, _| "?".to_owned()));
        let cast = |number: usize, named: &str| match named {
            "" => format!("${number}"),
            named => format!("${number}::{named}"),
        };
        let postgres = CHUNKS.map(|rows| statement(head, types, tail, rows, cast));
        Self { sqlite, postgres }
    }

    /// The statements that take all of `rows`, each with its part of them.
    pub(crate) fn of<'a, R>(&'static self, tx: &Tx, mut rows: &'a [R]) -> Vec<(&'static str, &'a [R])> {
        let statements = match tx {
            Both::Sqlite(_) => &self.sqlite,
            Both::Postgres(_) => &self.postgres,
        };
        let mut parts = Vec::new();
        for (size, sql) in CHUNKS.iter().zip(statements) {
            while let Some((chunk, rest)) = rows.split_at_checked(*size) {
                parts.push((sql.as_str(), chunk));
                rows = rest;
            }
        }
        parts
    }
}

fn statement(head: &str, types: &[&str], tail: &str, rows: usize, placeholder: fn(usize, &str) -> String) -> String {
    let mut sql = head.to_owned();
    for row in 0..rows {
        let separator = if row == 0 { "(" } else { ", (" };
        sql.push_str(separator);
        for (column, named) in types.iter().enumerate() {
            let comma = if column == 0 { "" } else { ", " };
            let placeholder = placeholder(row * types.len() + column + 1, named);
            write!(sql, "{comma}{placeholder}").expect("a String takes everything");
        }
        sql.push(')');
    }
    sql.push_str(tail);
    sql
}

/// The values in lists of a few lengths: the last value fills each up. What is looked up twice is found once all the same,
/// by `IN`, or by whoever reads the rows.
pub(crate) fn lists<T: Clone>(values: &[T]) -> Vec<Vec<T>> {
    let longest = LISTS.last().copied().unwrap_or(1);
    let fill = |part: &[T]| {
        let length = LISTS
            .into_iter()
            .find(|length| *length >= part.len())
            .unwrap_or(longest);
        let mut list = part.to_vec();
        if let Some(last) = part.last() {
            list.resize(length, last.clone());
        }
        list
    };
    values.chunks(longest).map(fill).collect()
}

/// The placeholder of a number. SQLite takes `$7` for a name and looks it up among all names before it, so that binding a
/// statement of many takes time in the square of their number. A bare `?` has no name.
pub(crate) fn placeholder(tx: &Tx, number: usize) -> String {
    match tx {
        Both::Sqlite(_) => "?".to_owned(),
        Both::Postgres(_) => format!("${number}"),
    }
}

/// So many placeholders, from the number `first` on.
pub(crate) fn placeholders(tx: &Tx, first: usize, count: usize) -> String {
    let all: Vec<String> = (first..first + count).map(|number| placeholder(tx, number)).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_count_through_all_rows() {
        let insert = Insert::new("t", &["a", "b", "c"], " ON CONFLICT DO NOTHING");
        let text = &insert.postgres[4];
        assert!(
            text.starts_with("INSERT INTO t (a, b, c) VALUES ($1, $2, $3), ($4,"),
            "{text}"
        );
        assert!(text.ends_with("$11, $12) ON CONFLICT DO NOTHING"), "{text}");
        assert_eq!(insert.sqlite[0].matches('?').count(), 64 * 3);
        assert_eq!(CHUNKS.last(), Some(&1), "or some row would never be written");
    }

    #[test]
    fn lists_have_few_lengths_and_lose_nothing() {
        let numbers: Vec<usize> = (0..300).collect();
        let parts = lists(&numbers);
        let lengths: Vec<usize> = parts.iter().map(Vec::len).collect();
        assert_eq!(lengths, [256, 64]);
        assert_eq!(parts[1][43], 299);
        assert_eq!(parts[1][63], 299);
        assert!(lists::<usize>(&[]).is_empty());
    }
}
