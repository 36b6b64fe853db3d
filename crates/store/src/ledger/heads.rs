//! Purses as they stand, locked until the transaction ends.
//!
//! PostgreSQL's lock is on the rows, and SQLite's is its only writer. A tenant's own purse is in every set that has one of
//! its others, and comes first: whoever has that one has them all.

use forebay_domain::{
    ledger::Head,
    money::{Usd, UsdRate},
};
use sqlx::{Postgres, Transaction};
use std::collections::HashMap;

use crate::{StoreError, together::List};

/// The purses by these names, and those from which these holds were paid: who pays for a hold never changes.
macro_rules! heads {
    ($holds:literal, $names:literal, $name:literal, $end:literal) => {
        concat!(
            "WITH paid AS (SELECT tenant, project, key_id, session FROM ledger_hold WHERE id ",
            $holds,
            "), wanted (name) AS (",
            $names,
            " UNION ALL SELECT tenant || ' 0 ' || tenant FROM paid",
            " UNION ALL SELECT tenant || ' 1 ' || project FROM paid WHERE project IS NOT NULL",
            " UNION ALL SELECT tenant || ' 2 ' || key_id FROM paid WHERE key_id IS NOT NULL",
            " UNION ALL SELECT tenant || ' 3 ' || session FROM paid WHERE session IS NOT NULL)",
            " SELECT name AS purse, held, burn, posted, last_at_ms FROM purse WHERE name ",
            $name,
            " ORDER BY name",
            $end
        )
    };
}

/// Its numbers are those of [`super::glance`].
pub(super) const SQLITE: &str = heads!(
    "IN (SELECT value FROM json_each($10))",
    "SELECT value FROM json_each($9)",
    "IN (SELECT name FROM wanted)",
    ""
);
const POSTGRES: &str = heads!(
    "= ANY($2)",
    "SELECT UNNEST($1::text[])",
    "= ANY(ARRAY(SELECT name FROM wanted))",
    " FOR UPDATE"
);
/// Only what is there can be locked.
const ADD: &str = "INSERT INTO purse (name, held, burn, posted, last_at_ms) SELECT name, 0, 0, 0, 0 \
     FROM UNNEST($1::text[]) AS added (name) ORDER BY name ON CONFLICT DO NOTHING";

pub(super) type HeadRow = (String, i64, i64, i64, i64);

/// In PostgreSQL, where they are locked first.
pub(super) async fn lock(
    tx: &mut Transaction<'static, Postgres>,
    names: &[String],
    holds: &[String],
) -> Result<HashMap<String, Head>, StoreError> {
    let rows = sqlx::query_as(POSTGRES).bind(List(names)).bind(List(holds));
    let mut found = heads(rows.fetch_all(&mut **tx).await?);
    let missing: Vec<String> = names
        .iter()
        .filter(|name| !found.contains_key(*name))
        .cloned()
        .collect();
    if !missing.is_empty() {
        sqlx::query(ADD).bind(List(&missing)).execute(&mut **tx).await?;
        let rows = sqlx::query_as(POSTGRES).bind(List(&missing)).bind(List::<String>(&[]));
        found.extend(heads(rows.fetch_all(&mut **tx).await?));
    }
    Ok(found)
}

pub(super) fn heads(rows: Vec<HeadRow>) -> HashMap<String, Head> {
    let head = |(name, held, burn, posted, last_at_ms)| {
        let head = Head {
            held: Usd::from_micros(held),
            burn: UsdRate::from_nanos_per_hour(burn),
            posted: Usd::from_micros(posted),
            last_at_ms,
        };
        (name, head)
    };
    rows.into_iter().map(head).collect()
}
