//! Finds rows of somebody else's table by words or by meaning.

use std::time::Duration;

use super::{Foreign, ForeignRow, Param, Table, VectorColumn, fault};
use crate::StoreError;

/// What is looked for in a table.
#[derive(Debug, Clone, Copy)]
pub enum Search<'a> {
    /// Rows that have any of the words in a text column.
    Words {
        question: &'a str,
        /// A text search configuration, such as `english`; the database's own where there is none.
        language: Option<&'a str>,
    },
    /// Rows whose vector points the same way.
    Nearest {
        column: &'a VectorColumn,
        vector: &'a [f32],
    },
}

/// A row that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The values of the primary key, joined by commas; empty where there is none.
    pub key: String,
    /// The text columns.
    pub row: ForeignRow,
    /// Larger is better; comparable within one answer alone.
    pub score: f64,
}

/// Rows that were found, best first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hits {
    pub hits: Vec<Hit>,
    /// Rows that were too large.
    pub left_out: usize,
}

const KEY: &str = "forebay_key";
const SCORE: &str = "forebay_score";

impl Foreign {
    pub async fn search(
        &self,
        table: &Table,
        search: Search<'_>,
        rows_max: u32,
        timeout: Duration,
    ) -> Result<Hits, StoreError> {
        if table.text_columns.is_empty() {
            let what = format!("{} has no text column that may be read", table.name);
            return Err(fault::refused(&self.name, &what));
        }
        let (sql, params) = match search {
            Search::Words { question, language } => words(table, question, language),
            Search::Nearest { column, vector } => nearest(table, column, vector),
        };
        let answer = self.rows(&sql, &params, rows_max, timeout).await?;
        let hits = answer.rows.into_iter().map(hit).collect();
        Ok(Hits {
            hits,
            left_out: answer.left_out,
        })
    }
}

fn hit(mut row: ForeignRow) -> Hit {
    let score = row.take(SCORE).and_then(|score| score.parse().ok());
    Hit {
        key: row.take(KEY).unwrap_or_default(),
        score: score.unwrap_or_default(),
        row,
    }
}

/// The columns of an answer: what is ours first, so that a column of the same name hides nothing.
fn columns(table: &Table, score: &str) -> String {
    let key = if table.key.is_empty() {
        "''".to_owned()
    } else {
        format!("concat_ws(',', {})", columns_of("d", &table.key))
    };
    let texts = columns_of("d", &table.text_columns);
    format!("SELECT {score} AS {SCORE}, {key} AS {KEY}, {texts}")
}

fn columns_of(table: &str, columns: &[String]) -> String {
    let columns: Vec<String> = columns.iter().map(|column| format!("{table}.{column}")).collect();
    columns.join(", ")
}

/// The server takes the question apart as it does the texts; any of its words will do, and many are better.
fn words(table: &Table, question: &str, language: Option<&str>) -> (String, Vec<Param>) {
    let sql = format!(
        "WITH asked AS (SELECT l.language, replace(plainto_tsquery(l.language, $1)::text, '&', '|')::tsquery AS words \
         FROM (SELECT COALESCE($2::text::regconfig, get_current_ts_config()) AS language) AS l) \
         {} FROM asked, {} AS d, to_tsvector(asked.language, concat_ws(' ', {})) AS text(words) \
         WHERE text.words @@ asked.words ORDER BY {SCORE} DESC",
        columns(table, "ts_rank(text.words, asked.words, 1)"),
        table.name,
        columns_of("d", &table.text_columns),
    );
    let language = language.map_or(Param::Null, |language| Param::Text(language.to_owned()));
    (sql, vec![Param::Text(question.to_owned()), language])
}

/// Ordered by the distance itself, which is what an index over it can do.
fn nearest(table: &Table, column: &VectorColumn, vector: &[f32]) -> (String, Vec<Param>) {
    let VectorColumn { name, kind, schema, .. } = column;
    let distance = format!("(d.{name} OPERATOR({schema}.<=>) $1::{schema}.{kind})");
    let sql = format!(
        "{} FROM {} AS d WHERE d.{name} IS NOT NULL ORDER BY {distance}",
        columns(table, &format!("1 - {distance}")),
        table.name,
    );
    let numbers: Vec<String> = vector.iter().map(ToString::to_string).collect();
    (sql, vec![Param::Text(format!("[{}]", numbers.join(",")))])
}
