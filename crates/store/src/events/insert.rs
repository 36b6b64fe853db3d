//! Writes rows many at a time, with statements of a few fixed sizes so that each is prepared once.

use std::{fmt::Write, sync::LazyLock};

use super::row::EventRow;
use crate::{
    StoreError,
    sql::{Both, Tx, on_both},
};

/// Rows of one statement, largest first.
const CHUNKS: [usize; 4] = [64, 16, 4, 1];

const COLUMNS: [&str; 23] = [
    "at_ms",
    "class",
    "surface",
    "trace",
    "tenant",
    "project",
    "subject",
    "key_id",
    "session",
    "action",
    "outcome",
    "reason",
    "duration_us",
    "bytes_in",
    "bytes_out",
    "input_tokens",
    "output_tokens",
    "tokens_estimated",
    "count",
    "chain_id",
    "chain_seq",
    "prev_hash",
    "hash",
];

type Statements = LazyLock<[String; CHUNKS.len()]>;

/// SQLite takes `$7` for a name and looks it up among all names before it, so that binding a statement of many rows
/// takes time in the square of their number. A bare `?` has no name.
static SQLITE: Statements = LazyLock::new(|| CHUNKS.map(|rows| statement(rows, |_| "?".to_owned())));
static POSTGRES: Statements = LazyLock::new(|| CHUNKS.map(|rows| statement(rows, |number| format!("${number}"))));

fn statement(rows: usize, placeholder: fn(usize) -> String) -> String {
    let mut sql = format!("INSERT INTO event ({}) VALUES ", COLUMNS.join(", "));
    for row in 0..rows {
        let separator = if row == 0 { "(" } else { ", (" };
        sql.push_str(separator);
        for column in 0..COLUMNS.len() {
            let comma = if column == 0 { "" } else { ", " };
            let placeholder = placeholder(row * COLUMNS.len() + column + 1);
            write!(sql, "{comma}{placeholder}").expect("a String takes everything");
        }
        sql.push(')');
    }
    sql
}

pub(super) async fn insert(tx: &mut Tx, mut rows: &[EventRow]) -> Result<(), StoreError> {
    let statements = match tx {
        Both::Sqlite(_) => &SQLITE,
        Both::Postgres(_) => &POSTGRES,
    };
    for (size, sql) in CHUNKS.iter().zip(statements.iter()) {
        while let Some((chunk, rest)) = rows.split_at_checked(*size) {
            on_both!(tx, |tx| {
                let mut query = sqlx::query(sql.as_str());
                for row in chunk {
                    query = query
                        .bind(row.at_ms)
                        .bind(&*row.class)
                        .bind(&*row.surface)
                        .bind(&row.trace)
                        .bind(&row.tenant)
                        .bind(&row.project)
                        .bind(&row.subject)
                        .bind(&row.key_id)
                        .bind(&row.session)
                        .bind(&row.action)
                        .bind(&*row.outcome)
                        .bind(&row.reason)
                        .bind(row.duration_us)
                        .bind(row.bytes_in)
                        .bind(row.bytes_out)
                        .bind(row.input_tokens)
                        .bind(row.output_tokens)
                        .bind(row.tokens_estimated)
                        .bind(row.count)
                        .bind(&row.chain_id)
                        .bind(row.chain_seq)
                        .bind(&row.prev_hash)
                        .bind(&row.hash);
                }
                query.execute(&mut **tx).await.map(drop)
            })?;
            rows = rest;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_count_through_all_rows() {
        let sql = &statement(2, |number| format!("${number}"));
        assert!(sql.ends_with("$45, $46)"), "{sql}");
        assert_eq!(sql.matches('$').count(), 46);
        assert_eq!(SQLITE[0].matches('?').count(), 64 * COLUMNS.len());
        assert_eq!(CHUNKS.last(), Some(&1), "or some row would never be written");
    }
}
