//! Writes rows many at a time.

use std::sync::LazyLock;

use super::row::EventRow;
use crate::{
    StoreError,
    many::Insert,
    sql::{Tx, on_both},
};

const COLUMNS: [&str; 24] = [
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
    "cost_micros",
    "count",
    "chain_id",
    "chain_seq",
    "prev_hash",
    "hash",
];

static EVENTS: LazyLock<Insert> = LazyLock::new(|| Insert::new("event", &COLUMNS, ""));

pub(super) async fn insert(tx: &mut Tx, rows: &[EventRow]) -> Result<(), StoreError> {
    for (sql, part) in EVENTS.of(tx, rows) {
        on_both!(&mut *tx, |tx| {
            let mut query = sqlx::query(sql);
            for row in part {
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
                    .bind(row.cost_micros)
                    .bind(row.count)
                    .bind(&row.chain_id)
                    .bind(row.chain_seq)
                    .bind(&row.prev_hash)
                    .bind(&row.hash);
            }
            query.execute(&mut **tx).await.map(drop)
        })?;
    }
    Ok(())
}
