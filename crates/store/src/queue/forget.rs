//! Forgetting a task before its time, with what was asked and what came of it.

use forebay_domain::id::TaskId;
use sqlx::AssertSqlSafe;

use super::{Queue, moves::Scope, read::Asked, rows::stage, unfinished::Tally};
use crate::{StoreError, sql::on_both};

/// Where it is counted that one less has not ended.
const SLOT: i64 = 0;
/// What stands in a lane and has not ended holds a place there, which would never be free again.
const MAY_GO: &str = "(lane IS NULL OR stage IN ('completed', 'failed', 'dead', 'cancelled'))";

impl Queue {
    /// Removes a task, whatever has become of it; whether there was one that could go. Whoever runs it hears so at the
    /// next beat, and what that run comes to is written nowhere.
    pub async fn forget(&self, scope: &Scope, id: &TaskId) -> Result<bool, StoreError> {
        let input = (scope.clone(), id.clone());
        self.db
            .write(input, |tx, (scope, id)| {
                Box::pin(async move {
                    let mut asked = Asked::default();
                    asked.that("id =", Some(id.as_str()));
                    asked.within(scope);
                    asked.bare(MAY_GO);
                    let sql = format!("DELETE FROM task{} RETURNING tenant, stage", asked.conditions);
                    let gone: Option<(String, String)> = on_both!(&mut *tx, |tx| {
                        let mut query = sqlx::query_as(AssertSqlSafe(sql));
                        for text in asked.texts {
                            query = query.bind(text);
                        }
                        query.fetch_optional(&mut **tx).await
                    })?;
                    let Some((tenant, at)) = gone else { return Ok(false) };
                    if !stage(&at)?.state().is_final() {
                        let mut tally = Tally::default();
                        tally.add(&tenant, -1);
                        tally.write(tx, SLOT).await?;
                    }
                    Ok(true)
                })
            })
            .await
    }
}
