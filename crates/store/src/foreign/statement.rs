//! Runs one statement, read-only and within bounds.

use futures_util::TryStreamExt;
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, Postgres, Row,
    pool::PoolConnection,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use std::time::Duration;

use super::{
    ANSWER_BYTES_MAX, Answer, Foreign, PARAMS_BYTES_MAX, Param, ROW_BYTES_MAX, ROWS_MAX, STATEMENT_BYTES_MAX, answer,
    fault,
};
use crate::{StoreError, row::within};

/// How long a statement waits for somebody's lock.
const LOCK_PATIENCE_MS: u64 = 2_000;
/// What a network may take beside the statement's own time.
const GRACE: Duration = Duration::from_millis(500);
/// A limit of 0 would be none.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);
const TIMEOUT_MAX: Duration = Duration::from_mins(5);

impl Foreign {
    /// The first `rows_max` rows of a query. It is one statement that could stand in parentheses.
    pub async fn rows(
        &self,
        sql: &str,
        params: &[Param],
        rows_max: u32,
        timeout: Duration,
    ) -> Result<Answer, StoreError> {
        within("a statement", sql.len(), STATEMENT_BYTES_MAX)?;
        within(
            "the values of a statement",
            params.iter().map(bytes).sum(),
            PARAMS_BYTES_MAX,
        )?;
        if sql.contains('\0') {
            return Err(fault::refused(&self.name, "it holds a NUL"));
        }
        let timeout = timeout.clamp(TIMEOUT_MIN, TIMEOUT_MAX);
        self.knock().await?;
        let connection = self
            .pool
            .acquire()
            .await
            .map_err(|error| fault::of(&self.name, error))?;
        let mut lent = Lent {
            connection,
            returned: false,
        };
        let sql = bounded_text(sql, rows_max.min(ROWS_MAX));
        let settings = self.settings(timeout);
        let work = read_only(&mut lent.connection, &sql, params, &settings);
        let answer = tokio::time::timeout(timeout + GRACE, work)
            .await
            .map_err(|_| fault::timed_out(&self.name))?;
        // Whatever else went wrong, the transaction was rolled back, or the pool will find it broken.
        lent.returned = answer.is_ok() || matches!(answer, Err(sqlx::Error::Database(_)));
        answer.map_err(|error| fault::of(&self.name, error))
    }

    fn settings(&self, timeout: Duration) -> String {
        let mut settings = vec![
            format!("SET LOCAL statement_timeout = {}", timeout.as_millis()),
            format!("SET LOCAL lock_timeout = {LOCK_PATIENCE_MS}"),
            "SET LOCAL default_transaction_read_only = on".to_owned(),
        ];
        if !self.search_path.is_empty() {
            let schemas: Vec<String> = self.search_path.iter().map(|name| quoted_name(name)).collect();
            settings.push(format!("SET LOCAL search_path = {}", schemas.join(", ")));
        }
        settings.join("; ")
    }
}

/// A connection that is closed unless its work came to an end: what was given up may still run at its other end.
struct Lent {
    connection: PoolConnection<Postgres>,
    returned: bool,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.returned {
            self.connection.close_on_drop();
        }
    }
}

/// The server makes JSON of each row, so that no type is unknown here, and keeps back the rows that are too large.
fn bounded_text(sql: &str, rows_max: u32) -> String {
    let sql = sql.trim_end_matches(|c: char| c.is_whitespace() || c == ';');
    // The line ends, because the statement may end with a comment.
    format!(
        "SELECT CASE WHEN octet_length(j.row_text) <= {ROW_BYTES_MAX} THEN j.row_text END AS row_text FROM \
         (SELECT row_to_json(t)::text AS row_text FROM (\n{sql}\n) AS t LIMIT {rows_max}) AS j"
    )
}

async fn read_only(
    connection: &mut PgConnection,
    sql: &str,
    params: &[Param],
    settings: &str,
) -> Result<Answer, sqlx::Error> {
    let mut tx = connection.begin_with("BEGIN READ ONLY").await?;
    let outcome = fetch(&mut tx, sql, params, settings).await;
    // Also takes back what `set_config` in the statement may have changed.
    let ended = tx.rollback().await;
    let answer = outcome?;
    ended?;
    Ok(answer)
}

async fn fetch(tx: &mut PgConnection, sql: &str, params: &[Param], settings: &str) -> Result<Answer, sqlx::Error> {
    // Numbers and quoted names of ours.
    sqlx::raw_sql(AssertSqlSafe(settings)).execute(&mut *tx).await?;
    // Prepared, which is what makes two statements of it an error. Whose statement it is has been said above.
    let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
    for param in params {
        query = bind(query, param);
    }
    let mut rows = query.fetch(tx);
    let (mut answer, mut total) = (Answer::default(), 0);
    while let Some(row) = rows.try_next().await? {
        match text(&row)? {
            Some(text) if total + text.len() <= ANSWER_BYTES_MAX => {
                total += text.len();
                let row = answer::row(text).map_err(|error| sqlx::Error::Decode(error.into()))?;
                answer.rows.push(row);
            }
            Some(_) | None => answer.left_out += 1,
        }
    }
    Ok(answer)
}

fn text(row: &PgRow) -> Result<Option<&str>, sqlx::Error> {
    row.try_get("row_text")
}

fn bind<'q>(query: Query<'q, Postgres, PgArguments>, param: &'q Param) -> Query<'q, Postgres, PgArguments> {
    match param {
        Param::Text(text) => query.bind(text.replace('\0', "\u{fffd}")),
        Param::Int(number) => query.bind(number),
        Param::Float(number) => query.bind(number),
        Param::Bool(flag) => query.bind(flag),
        Param::Null => query.bind(None::<&str>),
    }
}

fn bytes(param: &Param) -> usize {
    match param {
        Param::Text(text) => text.len(),
        Param::Int(_) | Param::Float(_) | Param::Bool(_) | Param::Null => 8,
    }
}

/// An identifier that is nothing but a name, whatever is in it.
fn quoted_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_a_name() {
        assert_eq!(quoted_name("a\", pg_catalog; --"), "\"a\"\", pg_catalog; --\"");
    }
}
