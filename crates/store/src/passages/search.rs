//! Finds passages by the words of a question.

use std::collections::HashSet;

use super::{FOUND_MAX, Found, Passages, QUESTION_BYTES_MAX, first_id, rows::FoundRow, words::words};
use crate::{
    StoreError,
    sql::{Both, on_both},
};

/// Different words of a question that are looked for at most.
const WORDS_MAX: usize = 32;

macro_rules! columns {
    () => {
        "SELECT p.id, f.path, p.ordinal, p.heading, p.start_line, p.text"
    };
}

/// Passages with the paths of their files, to be gone on with.
pub(super) const PASSAGES: &str = concat!(
    columns!(),
    " FROM passage AS p JOIN passage_file AS f ON f.id = p.file_id"
);
/// The engine ranks (by BM25, where words of headings count double), and only the best are looked up.
const SEARCH_SQLITE: &str = concat!(
    columns!(),
    ", -hit.score AS rank FROM \
     (SELECT rowid, rank AS score FROM passage_words \
     WHERE passage_words MATCH $1 AND rowid > $2 AND rowid < $3 AND rank MATCH 'bm25(2.0, 1.0)' \
     ORDER BY rank LIMIT $4) AS hit \
     JOIN passage AS p ON p.id = hit.rowid JOIN passage_file AS f ON f.id = p.file_id ORDER BY hit.score, p.id"
);
/// Ranked by how many of the words there are and how often, for the length of the passage; headings have weight A.
const SEARCH_POSTGRES: &str = concat!(
    columns!(),
    ", hit.score::float8 AS rank FROM \
     (SELECT w.passage_id, ts_rank('{0.5, 0.5, 0.5, 1.0}', w.words, $1::tsquery, 1) AS score FROM passage_words AS w \
     WHERE w.words @@ $1::tsquery AND w.passage_id > $2 AND w.passage_id < $3 \
     ORDER BY score DESC, w.passage_id LIMIT $4) AS hit \
     JOIN passage AS p ON p.id = hit.passage_id JOIN passage_file AS f ON f.id = p.file_id \
     ORDER BY hit.score DESC, p.id"
);
const INDEX: &str = "SELECT id FROM passage_index WHERE name = $1";

impl Passages {
    /// At most `limit` passages that have words of the question, best first. Whatever is no word in it counts for
    /// nothing; a question without words finds nothing.
    pub async fn search(&self, index: &str, question: &str, limit: u32) -> Result<Vec<Found>, StoreError> {
        let asked = asked(question);
        if asked.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        let asked = self.common.without(index, asked).await?;
        let limit = i64::from(limit.min(FOUND_MAX));
        let Some(index) = self.number(index).await? else {
            return Ok(Vec::new());
        };
        let Some(from) = first_id(index) else {
            return Ok(Vec::new());
        };
        let to = first_id(index + 1).unwrap_or(i64::MAX);
        let rows: Vec<FoundRow> = self
            .db
            .read(async {
                match self.db.pools() {
                    Both::Sqlite(pool) => {
                        sqlx::query_as(SEARCH_SQLITE)
                            .bind(quoted(&asked, "\"", " OR "))
                            .bind(from)
                            .bind(to)
                            .bind(limit)
                            .fetch_all(pool)
                            .await
                    }
                    Both::Postgres(pool) => {
                        sqlx::query_as(SEARCH_POSTGRES)
                            .bind(quoted(&asked, "'", " | "))
                            .bind(from)
                            .bind(to)
                            .bind(limit)
                            .fetch_all(pool)
                            .await
                    }
                }
            })
            .await?;
        let found = |row: FoundRow| {
            Ok(Found {
                passage: row.passage.try_into()?,
                rank: row.rank,
            })
        };
        rows.into_iter().map(found).collect()
    }
}

impl Passages {
    /// The number of an index; `None` where there is none of that name.
    pub(super) async fn number(&self, index: &str) -> Result<Option<i64>, StoreError> {
        let row: Option<(i64,)> = self
            .db
            .read(async {
                on_both!(self.db.pools(), |pool| sqlx::query_as(INDEX)
                    .bind(index)
                    .fetch_optional(pool)
                    .await)
            })
            .await?;
        Ok(row.map(|(number,)| number))
    }
}

/// The different words of a question, the first ones.
fn asked(question: &str) -> Vec<String> {
    let end = question.floor_char_boundary(QUESTION_BYTES_MAX);
    let mut seen = HashSet::new();
    words(question.get(..end).unwrap_or(question))
        .into_iter()
        .filter(|word| seen.insert(word.clone()))
        .take(WORDS_MAX)
        .collect()
}

/// Words hold letters, digits and marks alone, so nothing in them ends a quotation.
fn quoted(asked: &[String], quote: &str, between: &str) -> String {
    let quoted: Vec<String> = asked.iter().map(|word| format!("{quote}{word}{quote}")).collect();
    quoted.join(between)
}
