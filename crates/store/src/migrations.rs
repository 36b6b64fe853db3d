//! Brings the tables up to date, once, however many replicas start together.
//!
//! The statements are embedded in the binary. A database that is newer than the binary is refused and left alone.

use sqlx::{
    Connection, PgConnection, SqliteConnection,
    migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator},
};
use std::sync::Arc;

use crate::{StoreError, config::Engine};

/// Version, name, text for SQLite, text for PostgreSQL. A test walks the folder and this list.
const ALL: &[(i64, &str, &str, &str)] = &[
    (
        1,
        "first",
        include_str!("../migrations/sqlite/0001_first.sql"),
        include_str!("../migrations/postgres/0001_first.sql"),
    ),
    (
        2,
        "audit_reads",
        include_str!("../migrations/sqlite/0002_audit_reads.sql"),
        include_str!("../migrations/postgres/0002_audit_reads.sql"),
    ),
    (
        3,
        "mcp",
        include_str!("../migrations/sqlite/0003_mcp.sql"),
        include_str!("../migrations/postgres/0003_mcp.sql"),
    ),
    (
        4,
        "key_shown",
        include_str!("../migrations/sqlite/0004_key_shown.sql"),
        include_str!("../migrations/postgres/0004_key_shown.sql"),
    ),
    (
        5,
        "passages",
        include_str!("../migrations/sqlite/0005_passages.sql"),
        include_str!("../migrations/postgres/0005_passages.sql"),
    ),
    (
        6,
        "stream_worth",
        include_str!("../migrations/sqlite/0006_stream_worth.sql"),
        include_str!("../migrations/postgres/0006_stream_worth.sql"),
    ),
    (
        7,
        "declared_and_responses",
        include_str!("../migrations/sqlite/0007_declared_and_responses.sql"),
        include_str!("../migrations/postgres/0007_declared_and_responses.sql"),
    ),
    (
        8,
        "passage_ids",
        include_str!("../migrations/sqlite/0008_passage_ids.sql"),
        include_str!("../migrations/postgres/0008_passage_ids.sql"),
    ),
    (
        9,
        "response_owners",
        include_str!("../migrations/sqlite/0009_response_owners.sql"),
        include_str!("../migrations/postgres/0009_response_owners.sql"),
    ),
    (
        10,
        "ledger",
        include_str!("../migrations/sqlite/0010_ledger.sql"),
        include_str!("../migrations/postgres/0010_ledger.sql"),
    ),
    (
        11,
        "rentals",
        include_str!("../migrations/sqlite/0011_rentals.sql"),
        include_str!("../migrations/postgres/0011_rentals.sql"),
    ),
    (
        12,
        "requests_and_alerts",
        include_str!("../migrations/sqlite/0012_requests_and_alerts.sql"),
        include_str!("../migrations/postgres/0012_requests_and_alerts.sql"),
    ),
    (
        13,
        "tasks",
        include_str!("../migrations/sqlite/0013_tasks.sql"),
        include_str!("../migrations/postgres/0013_tasks.sql"),
    ),
    (
        14,
        "conversations",
        include_str!("../migrations/sqlite/0014_conversations.sql"),
        include_str!("../migrations/postgres/0014_conversations.sql"),
    ),
    (
        15,
        "event_cost",
        include_str!("../migrations/sqlite/0015_event_cost.sql"),
        include_str!("../migrations/postgres/0015_event_cost.sql"),
    ),
    (
        16,
        "budget_change",
        include_str!("../migrations/sqlite/0016_budget_change.sql"),
        include_str!("../migrations/postgres/0016_budget_change.sql"),
    ),
    (
        17,
        "task_names",
        include_str!("../migrations/sqlite/0017_task_names.sql"),
        include_str!("../migrations/postgres/0017_task_names.sql"),
    ),
    (
        18,
        "removals",
        include_str!("../migrations/sqlite/0018_removals.sql"),
        include_str!("../migrations/postgres/0018_removals.sql"),
    ),
];

fn migrator(engine: Engine) -> Migrator {
    let migrations = ALL.iter().map(|(version, name, sqlite, postgres)| {
        let sql: &'static str = match engine {
            Engine::Sqlite => sqlite,
            Engine::Postgres => postgres,
        };
        let sql = sqlx::SqlSafeStr::into_sql_str(sql);
        Migration::new(*version, (*name).into(), MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.collect())
}

/// Runs inside one immediate transaction: sqlx takes no lock on SQLite, and two processes may open a new file at once.
pub(crate) async fn run_sqlite(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    run(Engine::Sqlite, &mut *tx).await?;
    tx.commit().await?;
    Ok(())
}

/// Takes sqlx's advisory lock for as long as the connection lives, so it closes the connection in any case.
pub(crate) async fn run_postgres(mut connection: PgConnection) -> Result<(), StoreError> {
    let outcome = run(Engine::Postgres, &mut connection).await;
    let adopted = match outcome {
        Ok(()) => adopt_restored_rows(&mut connection).await,
        Err(error) => Err(error),
    };
    connection.close_hard().await.ok();
    adopted
}

/// A dump that was restored into another cluster carries transaction numbers from that one's future: they would sort
/// after everything written from now on. They become 0, which keeps their order and puts them before all else.
async fn adopt_restored_rows(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("UPDATE event SET xid = 0 WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        .execute(connection)
        .await?;
    Ok(())
}

async fn run<C: Migrate>(engine: Engine, connection: &mut C) -> Result<(), StoreError> {
    let migrator = migrator(engine);
    migrator.run_direct(None, connection, false).await.map_err(explain)
}

fn explain(error: MigrateError) -> StoreError {
    let known = ALL.last().map_or(0, |(version, ..)| *version);
    match error {
        MigrateError::VersionMissing(found) if found > known => StoreError::Newer { found, known },
        MigrateError::Execute(error) => error.into(),
        other => StoreError::Migration(Arc::new(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Store, StoreParts,
        queue::{Body, NewTask, Scope, TaskQuery},
    };
    use forebay_domain::{
        id::TraceId,
        model::Priority,
        task::{Needs, Retry, State, TaskOwner},
    };
    use forebay_runtime::{Clock, Entropy, Tasks};
    use forebay_testkit::db::TestDb;
    use std::{collections::BTreeMap, fs, path::Path, time::Duration};

    /// The tables as they were at a version.
    async fn migrate_to(db: &TestDb, version: i64) {
        let engine = Engine::of(db.url()).unwrap();
        let all = migrator(engine);
        let first = all.iter().filter(|one| one.version <= version).cloned().collect();
        let first = Migrator::with_migrations(first);
        if let Some(folder) = db.folder() {
            fs::create_dir_all(folder.join("data")).unwrap();
            let options = db.url().parse::<sqlx::sqlite::SqliteConnectOptions>().unwrap();
            let mut connection = SqliteConnection::connect_with(&options.create_if_missing(true))
                .await
                .unwrap();
            first.run_direct(None, &mut connection, false).await.unwrap();
            connection.close().await.unwrap();
        } else {
            let mut connection = PgConnection::connect(db.url()).await.unwrap();
            first.run_direct(None, &mut connection, false).await.unwrap();
            connection.close().await.unwrap();
        }
    }

    /// One task of each stage, as the version before `task_names` wrote them: acme's, and one of another tenant.
    fn filled(now_ms: i64) -> String {
        const FAR_MS: i64 = 4_000_000_000_000;
        let row = |id: &str, stage: &str, task_type: &str, more: [&str; 4]| {
            let [lane, wake, name, output] = more;
            let tenant = if id == "theirs" { "zeta" } else { "acme" };
            format!(
                "('{id}', '{stage}', '{task_type}', 2, 1, 1, {wake}, 1, 1, FALSE, 5, 1, 600000, 60000, 60000, 0, {lane}, '{tenant}', \
                 'ann', 'k1', '{{\"role\":\"user\"}}', '0000000000000000000000000000000a', 1, {name}, '{{}}', {output})"
            )
        };
        let far = FAR_MS.to_string();
        // No lease and no pause before another try is so long that it could be a clock's mistake.
        let soon = (now_ms + 500_000).to_string();
        let failed = r#"'{"content":[],"isError":true}'"#;
        let rows = [
            row("a", "scheduled", "x", ["'l'", &far, "'n1'", "NULL"]),
            row("b", "waiting", "x", ["'m'", "NULL", "NULL", "NULL"]),
            row("c", "pending", "x", ["'m'", "NULL", "NULL", "NULL"]),
            row("d", "running", "x", ["NULL", &soon, "NULL", "NULL"]),
            row("e", "retrying", "x", ["NULL", &soon, "NULL", "NULL"]),
            row("f", "completed", "tools/call", ["NULL", &far, "'n2'", failed]),
            row("g", "completed", "x", ["NULL", &far, "NULL", "'1'"]),
            row("h", "failed", "x", ["NULL", &far, "NULL", "NULL"]),
            row("i", "cancelled", "x", ["NULL", &far, "NULL", "NULL"]),
            row("j", "dead", "x", ["NULL", &far, "NULL", "NULL"]),
            row("theirs", "pending", "x", ["NULL", "NULL", "'n1'", "NULL"]),
        ];
        format!(
            "INSERT INTO task (id, stage, task_type, priority, rank, run_at_ms, wake_at_ms, fence, attempts, cancel_wanted, \
             attempts_max, retry_first_ms, retry_max_ms, timeout_ms, result_ttl_ms, needs_memory, lane, tenant, subject, \
             key_id, principal, trace, created_at_ms, idempotency_key, input, output) VALUES {}",
            rows.join(", ")
        )
    }

    fn called_n1(owner: &TaskOwner, subject: &str) -> NewTask {
        NewTask {
            task_type: "x".parse().unwrap(),
            owner: TaskOwner {
                subject: subject.parse().unwrap(),
                ..owner.clone()
            },
            priority: Priority::Medium,
            run_at: None,
            input: bytes::Bytes::from_static(b"1"),
            idempotency_key: Some("n1".to_owned()),
            stands_for: None,
            lane: None,
            context_id: None,
            wanted_by: None,
            retry: Retry::default(),
            timeout: Duration::from_mins(1),
            result_ttl: Duration::from_hours(1),
            trace: TraceId::from_bytes([1; 16]).unwrap(),
            needs: Needs::default(),
        }
    }

    #[tokio::test]
    async fn a_filled_queue_is_brought_up_to_date_and_goes_on() {
        for db in TestDb::both().await {
            migrate_to(&db, 16).await;
            db.execute(&filled(Clock::system().now().as_millisecond())).await;
            let tasks = Tasks::new();
            let parts = StoreParts {
                clock: Clock::system(),
                entropy: Entropy::system(),
                tasks: tasks.clone(),
            };
            let queue = Store::open(db.url(), parts).await.unwrap().queue();
            let count = async |what: &str| db.number(&format!("SELECT {what}")).await;
            assert_eq!(count("MAX(version) FROM _sqlx_migrations").await, ALL.last().unwrap().0);
            let unfinished = "CAST(SUM(number) AS BIGINT) FROM task_unfinished WHERE tenant =";
            assert_eq!(count(&format!("{unfinished} 'acme'")).await, 5, "{}", db.name());
            assert_eq!(count(&format!("{unfinished} 'zeta'")).await, 1);
            assert_eq!(count("COUNT(*) FROM task WHERE is_error AND id = 'f'").await, 1);
            assert_eq!(count("COUNT(*) FROM task WHERE is_error").await, 1);

            let query = TaskQuery {
                scope: Scope::All,
                state: None,
                task_type: None,
                context_id: None,
                after: None,
                limit: 0,
            };
            let page = queue.list(&query).await.unwrap();
            let found: BTreeMap<&str, State> = page.tasks.iter().map(|one| (one.id.as_str(), one.state)).collect();
            let expected = BTreeMap::from([
                ("a", State::Scheduled),
                ("b", State::Pending),
                ("c", State::Pending),
                ("d", State::Running),
                ("e", State::Scheduled),
                ("f", State::Completed),
                ("g", State::Completed),
                ("h", State::Failed),
                ("i", State::Cancelled),
                ("j", State::Dead),
                ("theirs", State::Pending),
            ]);
            assert_eq!(found, expected, "{}", db.name());

            // A name is found by whoever gave it, and is another's too.
            let owner = page
                .tasks
                .iter()
                .find(|one| one.id.as_str() == "a")
                .unwrap()
                .owner
                .clone();
            let named = |subject: &str| called_n1(&owner, subject);
            assert!(queue.submit(named("ann")).await.is_err(), "another task has this name");
            let theirs = queue.submit(named("bob")).await.unwrap();
            assert!(!theirs.is_repeat);
            for (id, again) in [("h", State::Pending), ("j", State::Pending)] {
                let id = id.parse().unwrap();
                assert_eq!(queue.requeue(&Scope::All, &id).await.unwrap(), again);
                assert!(queue.get(&Scope::All, &id, Body::Both).await.unwrap().is_some());
            }
            assert_eq!(count(&format!("{unfinished} 'acme'")).await, 8, "{}", db.name());
            assert!(tasks.shut_down(Duration::from_secs(30)).await);
        }
    }

    #[test]
    fn every_file_is_in_the_list_and_the_list_has_no_gap() {
        for (folder, pick) in [("sqlite", 0), ("postgres", 1)] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(folder);
            let mut names: Vec<String> = fs::read_dir(path)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            let listed: Vec<String> = ALL
                .iter()
                .map(|(version, name, ..)| format!("{version:04}_{name}.sql"))
                .collect();
            assert_eq!(names, listed, "{folder}");
            for (file, row) in names.iter().zip(ALL) {
                let text = if pick == 0 { row.2 } else { row.3 };
                assert!(text.contains("CREATE") || text.contains("ALTER"), "{folder}/{file}");
            }
        }
        assert!(ALL.iter().map(|row| row.0).eq(1..=i64::try_from(ALL.len()).unwrap()));
    }
}
