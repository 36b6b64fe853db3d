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
    use std::{fs, path::Path};

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
