//! What is listed is found by an index, however much else there is: both databases are asked how they would look for it.

use super::{Scope, TaskQuery, read::listing};
use crate::{
    Store, StoreParts,
    responses::{OwnerKind, ResponseOwner},
    sql::Both,
};
use forebay_domain::task::State;
use forebay_runtime::{Clock, Entropy, Tasks};
use forebay_testkit::db::TestDb;
use sqlx::{AssertSqlSafe, Row};
use std::time::Duration;

const NUMBERS: &str = "WITH RECURSIVE numbers (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < 20000) ";
/// Most of it is completed or waits, and is bob's.
const MANY: &str = "INSERT INTO task (id, stage, task_type, priority, rank, run_at_ms, wake_at_ms, fence, attempts, \
    cancel_wanted, attempts_max, retry_first_ms, retry_max_ms, timeout_ms, result_ttl_ms, needs_memory, tenant, subject, \
    key_id, principal, trace, created_at_ms, idempotency_key) \
    SELECT CAST(1000000 + i AS TEXT), \
    CASE WHEN i % 2000 = 0 THEN 'dead' WHEN i % 2000 = 1 THEN 'running' WHEN i % 2 = 0 THEN 'pending' ELSE 'completed' END, \
    'a', 2, i, i, CASE WHEN i % 2000 > 1 AND i % 2 = 0 THEN NULL ELSE i END, 0, 0, FALSE, 1, 0, 0, 0, 0, 0, 'acme', \
    CASE WHEN i % 4000 = 2 THEN 'ann' ELSE 'bob' END, 'k1', '{}', 't', i, 'key-' || CAST(i AS TEXT) FROM numbers";

async fn plan(store: &Store, sql: &str) -> String {
    let lines: Vec<String> = match store.queue().db.pools() {
        Both::Sqlite(pool) => {
            let sql = format!("EXPLAIN QUERY PLAN {sql}");
            let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(pool).await.unwrap();
            rows.iter().map(|row| row.get("detail")).collect()
        }
        Both::Postgres(pool) => {
            let sql = format!("EXPLAIN {sql}");
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(pool).await.unwrap()
        }
    };
    lines.join("\n")
}

/// The statement with its values in it.
fn listed(scope: Scope, state: Option<State>) -> String {
    let query = TaskQuery {
        scope,
        state,
        task_type: None,
        context_id: None,
        after: None,
        limit: 100,
    };
    let (mut sql, texts) = listing(&query, 101);
    for (number, text) in texts.iter().enumerate() {
        sql = sql.replace(&format!("${}", number + 1), &format!("'{text}'"));
    }
    sql
}

#[tokio::test]
async fn whoever_lists_reads_what_they_see() {
    let own = || {
        Scope::Own(ResponseOwner {
            tenant: "acme".parse().unwrap(),
            project: None,
            kind: OwnerKind::Key,
            subject: "ann".parse().unwrap(),
        })
    };
    let tenant = || Scope::Tenant("acme".parse().unwrap());
    let dead = ["task_dead", "task_wake"];
    for db in TestDb::both().await {
        let tasks = Tasks::new();
        let parts = StoreParts {
            clock: Clock::system(),
            entropy: Entropy::system(),
            tasks: tasks.clone(),
        };
        let store = Store::open(db.url(), parts).await.unwrap();
        db.execute(&format!("{NUMBERS}{MANY}")).await;
        if db.is_postgres() {
            // As it does by itself after a while.
            db.execute("ANALYZE task").await;
        }
        for (scope, state, indexes) in [
            (own(), None, &["task_of_subject"][..]),
            (own(), Some(State::Pending), &["task_of_subject"]),
            (own(), Some(State::Dead), &["task_of_subject", "task_dead", "task_wake"]),
            (tenant(), None, &["task_of_tenant", "task_pkey"]),
            (tenant(), Some(State::Dead), &dead),
            (Scope::All, Some(State::Dead), &dead),
            (Scope::All, Some(State::Running), &["task_wake"]),
        ] {
            let sql = listed(scope, state);
            let plan = plan(&store, &sql).await;
            assert!(
                indexes.iter().any(|index| plan.contains(index)),
                "{}: {sql}\n{plan}",
                db.name()
            );
        }
        let named = "SELECT id FROM task WHERE tenant = 'acme' AND COALESCE(project, '') = '' AND (key_id IS NULL) = FALSE \
             AND subject = 'bob' AND idempotency_key = 'key-7'";
        let plan = plan(&store, named).await;
        assert!(plan.contains("task_once"), "{}: {plan}", db.name());
        drop(store);
        assert!(tasks.shut_down(Duration::from_secs(30)).await);
    }
}
