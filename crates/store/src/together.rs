//! Rows of several tables that are written together.
//!
//! All of them go in one text, and so on one way there and back: to PostgreSQL over the network, to SQLite between two
//! threads, which costs more than what it does there.

use serde::Serialize;
use sqlx::{Encode, Postgres, Sqlite, Transaction, Type, encode::IsNull, error::BoxDynError, pool::PoolConnection};
use std::{borrow::Cow, fmt::Write};

use crate::{
    StoreError,
    sql::{Both, Tx},
};

/// What stands in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Number,
    Flag,
}

/// One value of a row.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
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
    sqlite: String,
    postgres: String,
}

impl Tables {
    pub(crate) fn new(tables: &'static [Table]) -> Self {
        Self {
            all: tables,
            sqlite: tables.iter().map(documents).collect::<Vec<_>>().join("; "),
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
        let mut query = sqlx::query(self.sqlite.as_str());
        for rows in rows {
            query = query.bind(List(rows));
        }
        query.execute(&mut **tx).await?;
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

/// `INSERT … SELECT … FROM json_each(?)`: each row is an array. Without the condition SQLite would take `ON CONFLICT` for
/// that of a join.
fn documents(table: &Table) -> String {
    let values: Vec<String> = (0..table.columns.len())
        .map(|place| format!("value ->> {place}"))
        .collect();
    format!(
        "INSERT INTO {} ({}) SELECT {} FROM json_each(?) WHERE true{}",
        table.name,
        columns(table),
        values.join(", "),
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
    fn one_text_writes_all_tables_into_a_file_too() {
        assert_eq!(
            Tables::new(TABLES).sqlite,
            "INSERT INTO one (a, b) SELECT value ->> 0, value ->> 1 FROM json_each(?) WHERE true; \
             INSERT INTO two (c) SELECT value ->> 0 FROM json_each(?) WHERE true ON CONFLICT DO NOTHING"
        );
        let row: Row<'_> = vec!["a \"b\"".into(), None.into(), i64::MAX.into(), true.into()];
        assert_eq!(
            serde_json::to_string(&row).unwrap(),
            r#"["a \"b\"",null,9223372036854775807,true]"#
        );
    }
}
