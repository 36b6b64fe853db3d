//! Rows of several tables that are written together.
//!
//! All of them go in one text, and so on one way there and back: to PostgreSQL over the network, to SQLite between two
//! threads, which costs more than what it does there. Both get plain values: to take a row out of JSON costs SQLite as much
//! as to insert it.

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
#[derive(Debug, Clone)]
pub(crate) enum Cell<'a> {
    Text(Option<Cow<'a, str>>),
    Number(i64),
    Flag(bool),
}

pub(crate) type Row<'a> = Vec<Cell<'a>>;

/// Where rows are inserted. No row has NULL in its first column.
pub(crate) struct Table {
    pub name: &'static str,
    pub columns: &'static [(&'static str, Kind)],
    /// About how many rows of it there are to one of the first table.
    pub share: usize,
    /// What stands behind the rows, such as `ON CONFLICT …`.
    pub tail: &'static str,
}

/// Some tables into which rows are written together.
pub(crate) struct Tables {
    all: &'static [Table],
    sqlite: Vec<Form>,
    postgres: String,
}

/// A text with room for so many rows of the first table, and as many of the others as come with them.
struct Form {
    size: usize,
    text: String,
}

/// SQLite has few texts to prepare and keep then, and what is left empty costs little. It takes 32,766 placeholders in a
/// statement, and so 127 columns at the last.
const SIZES: [usize; 4] = [4, 16, 64, 256];

impl Tables {
    pub(crate) fn new(tables: &'static [Table]) -> Self {
        Self {
            all: tables,
            sqlite: SIZES.map(|size| form(tables, size)).into(),
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
        let mut left: Vec<&[Row<'_>]> = rows.iter().map(Vec::as_slice).collect();
        loop {
            let sizes = self.all.iter().zip(&left);
            let size = sizes.map(|(table, rows)| rows.len().div_ceil(table.share)).max();
            let Some(size) = size.filter(|size| *size > 0) else {
                return Ok(());
            };
            let fitting = self.sqlite.iter().find(|form| form.size >= size);
            let Some(form) = fitting.or(self.sqlite.last()) else {
                return Ok(());
            };
            let mut query = sqlx::query(form.text.as_str());
            for (table, left) in self.all.iter().zip(&mut left) {
                let room = form.size * table.share;
                let (now, later) = left.split_at(room.min(left.len()));
                *left = later;
                for cell in now.iter().flatten() {
                    query = match cell {
                        Cell::Text(text) => query.bind(text.as_deref()),
                        Cell::Number(number) => query.bind(number),
                        Cell::Flag(flag) => query.bind(flag),
                    };
                }
                for _ in 0..(room - now.len()) * table.columns.len() {
                    query = query.bind(None::<i64>);
                }
            }
            query.execute(&mut **tx).await?;
        }
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

/// One `INSERT … SELECT … FROM (VALUES …)` a table. Without the condition SQLite would take `ON CONFLICT` for that of a join.
fn form(tables: &[Table], size: usize) -> Form {
    let insert = |table: &Table| {
        let row = format!("({})", vec!["?"; table.columns.len()].join(", "));
        format!(
            "INSERT INTO {} ({}) SELECT * FROM (VALUES {}) WHERE column1 IS NOT NULL{}",
            table.name,
            columns(table),
            vec![row; size * table.share].join(", "),
            table.tail
        )
    };
    Form {
        size,
        text: tables.iter().map(insert).collect::<Vec<_>>().join("; "),
    }
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
            share: 1,
            tail: "",
        },
        Table {
            name: "two",
            columns: &[("c", Kind::Flag)],
            share: 2,
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
            form(TABLES, 2).text,
            "INSERT INTO one (a, b) SELECT * FROM (VALUES (?, ?), (?, ?)) WHERE column1 IS NOT NULL; \
             INSERT INTO two (c) SELECT * FROM (VALUES (?), (?), (?), (?)) WHERE column1 IS NOT NULL \
             ON CONFLICT DO NOTHING"
        );
    }

    /// What does not fit into the largest text goes in several.
    #[tokio::test]
    async fn however_many_rows_there_are_each_is_written_once() {
        let tables: &'static Tables = Box::leak(Box::new(Tables::new(TABLES)));
        for (ones, twos) in [
            (0, 0),
            (1, 0),
            (0, 1),
            (4, 9),
            (5, 8),
            (256, 512),
            (257, 0),
            (600, 3),
            (0, 1_500),
        ] {
            let options = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
            let pool = options.connect("sqlite::memory:").await.unwrap();
            let made = "CREATE TABLE one (a TEXT, b BIGINT); CREATE TABLE two (c BOOLEAN)";
            sqlx::raw_sql(made).execute(&pool).await.unwrap();
            let one = |number: i64| vec![format!("\"{number}\"\u{1F980}").into(), (i64::MAX - number).into()];
            let rows: [Vec<Row<'_>>; 2] = [
                (0..ones).map(one).collect(),
                (0..twos).map(|number| vec![(number % 2 == 0).into()]).collect(),
            ];
            let mut tx = Both::Sqlite(pool.acquire().await.unwrap());
            tables.write(&mut tx, &rows).await.unwrap();
            drop(tx);
            let seen: Vec<(String, i64)> = sqlx::query_as("SELECT a, b FROM one ORDER BY b DESC")
                .fetch_all(&pool)
                .await
                .unwrap();
            let expected = (0..ones).map(|number| (format!("\"{number}\"\u{1F980}"), i64::MAX - number));
            assert!(seen.into_iter().eq(expected), "{ones} and {twos}");
            let (count, set): (i64, i64) = sqlx::query_as("SELECT COUNT(*), COALESCE(SUM(c), 0) FROM two")
                .fetch_one(&pool)
                .await
                .unwrap();
            assert_eq!((count, set), (twos, (twos + 1) / 2), "{ones} and {twos}");
        }
    }
}
