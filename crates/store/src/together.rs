//! Rows of several tables that are written together.
//!
//! PostgreSQL takes all of them in one statement, and so on one way there and back. SQLite is not far away: there a
//! statement takes as many rows as one of a few fixed sizes, so that each is prepared once.

use sqlx::{Encode, Postgres, Sqlite, Transaction, Type, encode::IsNull, error::BoxDynError, pool::PoolConnection};
use std::{borrow::Cow, fmt::Write};

use crate::{
    StoreError,
    sql::{Both, Tx},
};

/// Rows of one statement on SQLite, largest first: up to sixteen rows are two statements at most.
const CHUNKS: [usize; 12] = [64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1];

/// What stands in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Number,
    Flag,
}

/// One value of a row.
#[derive(Debug, Clone)]
pub(crate) enum Cell<'a> {
    Text(Option<Cow<'a, str>>),
    Number(i64),
    Flag(bool),
}

pub(crate) type Row<'a> = Vec<Cell<'a>>;

/// Where rows are inserted.
pub(crate) struct Table {
    pub name: &'static str,
    pub columns: &'static [(&'static str, Kind)],
    /// What stands behind the rows, such as `ON CONFLICT …`.
    pub tail: &'static str,
}

/// Some tables into which rows are written together.
pub(crate) struct Tables {
    all: &'static [Table],
    sqlite: Vec<[String; CHUNKS.len()]>,
    postgres: String,
}

impl Tables {
    pub(crate) fn new(tables: &'static [Table]) -> Self {
        Self {
            all: tables,
            sqlite: tables
                .iter()
                .map(|table| CHUNKS.map(|rows| values(table, rows)))
                .collect(),
            postgres: arrays(tables),
        }
    }

    /// Writes the rows of each table, in the order of the tables.
    pub(crate) async fn write(&'static self, tx: &mut Tx, rows: &[Vec<Row<'_>>]) -> Result<(), StoreError> {
        if rows.iter().all(Vec::is_empty) {
            return Ok(());
        }
        match tx {
            Both::Sqlite(tx) => self.write_sqlite(tx, rows).await,
            Both::Postgres(tx) => self.write_postgres(tx, rows).await,
        }
    }

    async fn write_sqlite(
        &'static self,
        tx: &mut PoolConnection<Sqlite>,
        rows: &[Vec<Row<'_>>],
    ) -> Result<(), StoreError> {
        for (statements, mut rows) in self.sqlite.iter().zip(rows.iter().map(Vec::as_slice)) {
            for (size, sql) in CHUNKS.iter().zip(statements) {
                while let Some((chunk, rest)) = rows.split_at_checked(*size) {
                    let mut query = sqlx::query(sql.as_str());
                    for cell in chunk.iter().flatten() {
                        query = match cell {
                            Cell::Text(text) => query.bind(text.as_deref()),
                            Cell::Number(number) => query.bind(*number),
                            Cell::Flag(flag) => query.bind(*flag),
                        };
                    }
                    query.execute(&mut **tx).await?;
                    rows = rest;
                }
            }
        }
        Ok(())
    }

    async fn write_postgres(
        &'static self,
        tx: &mut Transaction<'static, Postgres>,
        rows: &[Vec<Row<'_>>],
    ) -> Result<(), StoreError> {
        let mut query = sqlx::query(self.postgres.as_str());
        for (table, rows) in self.all.iter().zip(rows) {
            for (place, (_, kind)) in table.columns.iter().enumerate() {
                let cells = rows.iter().map(|row| row.get(place));
                query = match kind {
                    Kind::Text => query.bind(cells.map(text).collect::<Vec<Option<&str>>>()),
                    Kind::Number => query.bind(cells.map(number).collect::<Vec<Option<i64>>>()),
                    Kind::Flag => query.bind(cells.map(flag).collect::<Vec<Option<bool>>>()),
                };
            }
        }
        query.execute(&mut **tx).await?;
        Ok(())
    }
}

/// `INSERT … VALUES …`. Without names, which SQLite would look up among all names before them.
fn values(table: &Table, rows: usize) -> String {
    let row = format!("({})", vec!["?"; table.columns.len()].join(", "));
    let rows = vec![row; rows].join(", ");
    format!(
        "INSERT INTO {} ({}) VALUES {rows}{}",
        table.name,
        columns(table),
        table.tail
    )
}

/// One `INSERT … SELECT … FROM UNNEST(…)` a table, all in one statement: each column is one list.
fn arrays(tables: &[Table]) -> String {
    let (mut sql, mut number) = (String::new(), 0);
    for table in tables {
        let mut lists = Vec::new();
        for (_, kind) in table.columns {
            number += 1;
            let kind = match kind {
                Kind::Text => "text",
                Kind::Number => "bigint",
                Kind::Flag => "boolean",
            };
            lists.push(format!("${number}::{kind}[]"));
        }
        let with = if sql.is_empty() { "WITH" } else { "," };
        let (name, columns, lists) = (table.name, columns(table), lists.join(", "));
        write!(
            sql,
            "{with} new_{name} AS (INSERT INTO {name} ({columns}) SELECT * FROM UNNEST({lists}){})",
            table.tail
        )
        .expect("a String takes everything");
    }
    sql + " SELECT 1"
}

fn columns(table: &Table) -> String {
    let names: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

fn text<'a>(cell: Option<&'a Cell<'_>>) -> Option<&'a str> {
    match cell {
        Some(Cell::Text(text)) => text.as_deref(),
        _ => None,
    }
}

fn number(cell: Option<&Cell<'_>>) -> Option<i64> {
    match cell {
        Some(Cell::Number(number)) => Some(*number),
        _ => None,
    }
}

fn flag(cell: Option<&Cell<'_>>) -> Option<bool> {
    match cell {
        Some(Cell::Flag(flag)) => Some(*flag),
        _ => None,
    }
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Some(Cow::Borrowed(text)))
    }
}

impl From<String> for Cell<'_> {
    fn from(text: String) -> Self {
        Self::Text(Some(Cow::Owned(text)))
    }
}

impl<'a> From<Option<&'a str>> for Cell<'a> {
    fn from(text: Option<&'a str>) -> Self {
        Self::Text(text.map(Cow::Borrowed))
    }
}

impl From<i64> for Cell<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Cell<'_> {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// A list as one value: an array in PostgreSQL (`UNNEST($1)`, `= ANY($1)`), JSON in SQLite (`json_each($1)`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct List<'a, T>(pub &'a [T]);

impl<T> Type<Sqlite> for List<'_, T> {
    fn type_info() -> <Sqlite as sqlx::Database>::TypeInfo {
        <String as Type<Sqlite>>::type_info()
    }
}

impl<T: serde::Serialize> Encode<'_, Sqlite> for List<'_, T> {
    fn encode_by_ref(&self, buffer: &mut <Sqlite as sqlx::Database>::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <String as Encode<'_, Sqlite>>::encode(serde_json::to_string(self.0)?, buffer)
    }
}

impl<T> Type<Postgres> for List<'_, T>
where
    [T]: Type<Postgres>,
{
    fn type_info() -> <Postgres as sqlx::Database>::TypeInfo {
        <[T] as Type<Postgres>>::type_info()
    }
}

impl<'q, T> Encode<'q, Postgres> for List<'_, T>
where
    for<'a> &'a [T]: Encode<'q, Postgres>,
{
    fn encode_by_ref(&self, buffer: &mut <Postgres as sqlx::Database>::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
        self.0.encode_by_ref(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: &[Table] = &[
        Table {
            name: "one",
            columns: &[("a", Kind::Text), ("b", Kind::Number)],
            tail: "",
        },
        Table {
            name: "two",
            columns: &[("c", Kind::Flag)],
            tail: " ON CONFLICT DO NOTHING",
        },
    ];

    #[test]
    fn one_statement_writes_all_tables_where_the_way_is_long() {
        assert_eq!(
            Tables::new(TABLES).postgres,
            "WITH new_one AS (INSERT INTO one (a, b) SELECT * FROM UNNEST($1::text[], $2::bigint[])), \
             new_two AS (INSERT INTO two (c) SELECT * FROM UNNEST($3::boolean[]) ON CONFLICT DO NOTHING) SELECT 1"
        );
    }

    #[test]
    fn few_statements_of_fixed_sizes_write_any_number_of_rows() {
        assert_eq!(CHUNKS.last(), Some(&1), "or some row would never be written");
        assert_eq!(values(&TABLES[0], 2), "INSERT INTO one (a, b) VALUES (?, ?), (?, ?)");
        for rows in 1..=16 {
            let mut left = rows;
            let statements: usize = CHUNKS.iter().map(|size| (left / size, left %= size).0).sum();
            assert!(statements <= 2 && left == 0, "{rows} rows are {statements} statements");
        }
    }
}
