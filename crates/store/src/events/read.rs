//! Reads the log a page at a time.
//!
//! Following it forward never passes a row that may still commit. On SQLite the one writer hands out `seq` in order of
//! commit. On PostgreSQL `seq` is handed out before the commit, so rows are ordered by `(xid, seq)` and a page ends before
//! the oldest transaction that is still under way: a long transaction anywhere in the cluster holds followers up, and
//! never makes them miss anything.

use forebay_domain::{
    Event,
    event::{ChainHash, Class},
    id::{ChainId, TenantId, TraceId},
};
use sqlx::AssertSqlSafe;
use tracing::warn;

use super::{
    cursor::{Cursor, Place},
    row::EventRow,
};
use crate::{
    StoreError,
    db::Db,
    metrics::class_name,
    sql::{Both, on_both},
};

/// Most events of one page.
pub const EVENTS_PAGE_MAX: u32 = 1000;

/// Which events to read.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Where the page before ended.
    pub after: Option<Cursor>,
    /// `None` for all tenants and for what nobody did.
    pub tenant: Option<TenantId>,
    pub class: Option<Class>,
    pub trace: Option<TraceId>,
    /// At most [`EVENTS_PAGE_MAX`]; 0 means that many.
    pub limit: u32,
    pub order: Order,
}

/// In either order an event shows up once nothing before it can still come, which may be a little after its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The first events after the cursor: for following the log.
    #[default]
    OldestFirst,
    /// The last events of all, newest first; to follow on from there, go on oldest first from the page's `next`.
    NewestFirst,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    pub events: Vec<StoredEvent>,
    /// Where to go on, now or later, oldest first.
    pub next: Cursor,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    pub cursor: Cursor,
    pub event: Event,
    /// For audit events: where in which chain.
    pub link: Option<Link>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub chain: ChainId,
    /// Counted from 1.
    pub position: u64,
    pub hash: ChainHash,
}

pub(super) async fn page(db: &Db, query: &EventQuery) -> Result<EventPage, StoreError> {
    let limit = match query.limit {
        0 => EVENTS_PAGE_MAX,
        limit => limit.min(EVENTS_PAGE_MAX),
    };
    let (statement, origin, place): (_, _, fn(&EventRow) -> Place) = match db.pools() {
        Both::Sqlite(_) => (Statement::sqlite(query, limit)?, Place::Sqlite { seq: 0 }, |row| {
            Place::Sqlite { seq: row.seq }
        }),
        Both::Postgres(_) => (
            Statement::postgres(query, limit)?,
            Place::Postgres { xid: 0, seq: 0 },
            |row| Place::Postgres {
                xid: row.xid,
                seq: row.seq,
            },
        ),
    };
    let rows = statement.rows(db).await?;
    let newest = match query.order {
        Order::OldestFirst => rows.last(),
        Order::NewestFirst => rows.first(),
    };
    let next = newest
        .map(|row| Cursor(place(row)))
        .or(query.after)
        .unwrap_or(Cursor(origin));
    let events = rows
        .iter()
        .filter_map(|row| readable(Cursor(place(row)), row))
        .collect();
    Ok(EventPage { events, next })
}

/// One row that somebody tampered with, or that a newer version wrote, must not hide all the others.
fn readable(cursor: Cursor, row: &EventRow) -> Option<StoredEvent> {
    let link = match (&row.chain_id, row.chain_seq, &row.hash) {
        (Some(chain), Some(position), Some(hash)) => ChainId::try_from(chain.as_str())
            .ok()
            .zip(hash.as_slice().try_into().ok())
            .map(|(chain, hash)| Link {
                chain,
                position: position.unsigned_abs(),
                hash: ChainHash(hash),
            }),
        _ => None,
    };
    match row.event() {
        Ok(event) => Some(StoredEvent { cursor, event, link }),
        Err(fault) => {
            warn!(event.cursor = %cursor, fault = %fault, "unreadable event skipped");
            None
        }
    }
}

pub(super) const COLUMNS: &str = "at_ms, class, surface, trace, tenant, project, subject, key_id, session, action, \
     outcome, reason, duration_us, bytes_in, bytes_out, input_tokens, output_tokens, tokens_estimated, cost_micros, \
     count, chain_id, chain_seq, prev_hash, hash";

enum Bind {
    Number(i64),
    Text(String),
}

/// A text made of constants alone, and the values for its placeholders. Conditions that are not asked for are left out,
/// so that the planner sees only what it has to.
struct Statement {
    sql: String,
    binds: Vec<Bind>,
}

impl Statement {
    fn sqlite(query: &EventQuery, limit: u32) -> Result<Self, StoreError> {
        let mut statement = Self::begin("seq, 0 AS xid");
        if let Some(cursor) = query.after {
            let Place::Sqlite { seq } = cursor.0 else {
                return Err(foreign(cursor));
            };
            let seq = statement.bind(Bind::Number(seq));
            statement.and(&format!("seq > {seq}"));
        }
        statement.filter(query);
        statement.end(query.order, "seq", "seq DESC", limit);
        Ok(statement)
    }

    fn postgres(query: &EventQuery, limit: u32) -> Result<Self, StoreError> {
        let mut statement = Self::begin("seq, xid");
        statement.and("xid < pg_snapshot_xmin(pg_current_snapshot())::text::bigint");
        if let Some(cursor) = query.after {
            let Place::Postgres { xid, seq } = cursor.0 else {
                return Err(foreign(cursor));
            };
            let (xid, seq) = (statement.bind(Bind::Number(xid)), statement.bind(Bind::Number(seq)));
            statement.and(&format!("(xid, seq) > ({xid}, {seq})"));
        }
        statement.filter(query);
        statement.end(query.order, "xid, seq", "xid DESC, seq DESC", limit);
        Ok(statement)
    }

    fn begin(place: &str) -> Self {
        Self {
            sql: format!("SELECT {place}, {COLUMNS} FROM event WHERE 1 = 1"),
            binds: Vec::new(),
        }
    }

    /// Keeps a value and returns its placeholder.
    fn bind(&mut self, value: Bind) -> String {
        self.binds.push(value);
        format!("${}", self.binds.len())
    }

    fn and(&mut self, condition: &str) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
    }

    fn filter(&mut self, query: &EventQuery) {
        if let Some(class) = query.class {
            // In the text, not bound: an index over one class serves only a query that is seen to ask for that class.
            self.and(&format!("class = '{}'", class_name(class)));
        }
        let tenant = query.tenant.as_ref().map(|tenant| ("tenant", tenant.to_string()));
        let trace = query.trace.map(|trace| ("trace", trace.to_string()));
        for (column, value) in [tenant, trace].into_iter().flatten() {
            let placeholder = self.bind(Bind::Text(value));
            self.and(&format!("{column} = {placeholder}"));
        }
    }

    fn end(&mut self, order: Order, forward: &str, back: &str, limit: u32) {
        let by = match order {
            Order::OldestFirst => forward,
            Order::NewestFirst => back,
        };
        let limit = self.bind(Bind::Number(limit.into()));
        for part in [" ORDER BY ", by, " LIMIT ", &limit] {
            self.sql.push_str(part);
        }
    }

    async fn rows(&self, db: &Db) -> Result<Vec<EventRow>, StoreError> {
        db.read(async {
            on_both!(db.pools(), |pool| {
                let mut query = sqlx::query_as(AssertSqlSafe(self.sql.clone()));
                for bind in &self.binds {
                    query = match bind {
                        Bind::Number(number) => query.bind(number),
                        Bind::Text(text) => query.bind(text),
                    };
                }
                query.fetch_all(pool).await
            })
        })
        .await
    }
}

fn foreign(cursor: Cursor) -> StoreError {
    StoreError::Cursor {
        text: cursor.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::sqlite_url, open};

    #[tokio::test]
    async fn the_audit_trail_is_read_by_its_index() {
        let folder = tempfile::tempdir().unwrap();
        let (pool, _readers) = open::sqlite(&sqlite_url(&folder.path().join("x.db"))).await.unwrap();
        for order in [Order::OldestFirst, Order::NewestFirst] {
            for after in [None, Some(Cursor(Place::Sqlite { seq: 5 }))] {
                let query = EventQuery {
                    after,
                    class: Some(Class::Audit),
                    order,
                    ..EventQuery::default()
                };
                let statement = Statement::sqlite(&query, 10).unwrap();
                let plan: Vec<(i64, i64, i64, String)> =
                    sqlx::query_as(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", statement.sql)))
                        .fetch_all(&pool)
                        .await
                        .unwrap();
                let steps: Vec<String> = plan.into_iter().map(|(.., step)| step).collect();
                assert!(
                    steps.len() == 1 && steps[0].contains("INDEX event_of_audit"),
                    "{steps:?}"
                );
            }
        }
    }
}
