//! SQLite's one writer: it owns the only connection that writes, and commits units in groups.
//!
//! An fsync costs far more than a statement, so whatever waits while one group commits shares the next commit.
//! Each unit has a savepoint: one that fails is undone alone. Nobody is answered before the commit, and everybody is after
//! it, also those whose turn never came.

use forebay_domain::port::BoxFuture;
use forebay_runtime::{Clock, Stop, Tasks};
use sqlx::SqlitePool;
use tokio::sync::mpsc;
use tracing::warn;

use crate::{
    StoreError,
    groups::{Companions, Groups},
    metrics::Metrics,
    sql::{Both, Tx, on_both},
};

/// Units that may wait; whoever comes after them waits for room, within its own patience.
const QUEUE_UNITS_MAX: usize = 1024;
const GROUP_UNITS_MAX: usize = 256;

/// Something to be done inside the writer's transaction, for somebody who waits for it.
pub(crate) trait Unit: Send {
    fn run<'t>(&'t mut self, tx: &'t mut Tx) -> BoxFuture<'t, Ran>;

    /// Tells what became of the group that it was in, whether or not it ran.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

/// A unit that ran.
pub(crate) struct Ran {
    /// Its changes stay.
    pub keep: bool,
    /// What it met on a full disk, which then ends the whole transaction.
    pub full: Option<StoreError>,
}

pub(crate) type Units = Vec<Box<dyn Unit>>;
pub(crate) type Writer = mpsc::Sender<Box<dyn Unit>>;

/// Starts the writer over a pool of exactly one connection.
pub(crate) fn start(tasks: &Tasks, pool: SqlitePool, clock: Clock, metrics: Metrics) -> Writer {
    let (sender, units) = mpsc::channel(QUEUE_UNITS_MAX);
    let units = Groups::new(units, GROUP_UNITS_MAX, Companions::Half);
    tasks.spawn("store.writer", |stop| run(stop, pool, units, clock, metrics));
    sender
}

async fn run(stop: Stop, pool: SqlitePool, mut units: Groups<Box<dyn Unit>>, clock: Clock, metrics: Metrics) {
    // Kept between groups: the pool would ask for a sign of life each time that it gets it back.
    let mut connection = None;
    while let Some(group) = units.next(&stop).await {
        let size = u32::try_from(group.len()).unwrap_or(u32::MAX);
        metrics.group_size.observe(f64::from(size));
        commit_group(&pool, &mut connection, group, &clock, &metrics).await;
    }
    drop(connection);
    pool.close().await;
}

/// Runs and commits one group, then answers every unit of it.
async fn commit_group(pool: &SqlitePool, kept: &mut Option<Tx>, mut group: Units, clock: &Clock, metrics: &Metrics) {
    let outcome = match connection(pool, kept).await {
        Err(error) => Err(error),
        Ok(tx) => run_group(tx, &mut group, clock, metrics).await,
    };
    if let Err(error) = &outcome {
        warn!(cause = error.chain(), "a group of writes was rolled back");
        if let Some(Both::Sqlite(mut connection)) = kept.take() {
            // Whatever state it is in ends with it; the pool makes a new one.
            connection.close_on_drop();
        }
    }
    for unit in group {
        unit.answer(outcome.clone());
    }
}

async fn connection<'k>(pool: &SqlitePool, kept: &'k mut Option<Tx>) -> Result<&'k mut Tx, StoreError> {
    let connection = match kept.take() {
        Some(connection) => connection,
        None => Both::Sqlite(pool.acquire().await?),
    };
    Ok(kept.insert(connection))
}

async fn run_group(tx: &mut Tx, group: &mut Units, clock: &Clock, metrics: &Metrics) -> Result<(), StoreError> {
    let is_shared = group.len() > 1;
    // Several statements in one text are one way to SQLite's thread and back. What commits needs no release before it.
    let (begin, undo) = if is_shared {
        ("BEGIN IMMEDIATE; SAVEPOINT unit", "ROLLBACK TO unit")
    } else {
        ("BEGIN IMMEDIATE", "ROLLBACK; BEGIN")
    };
    execute(tx, begin).await?;
    for (number, unit) in group.iter_mut().enumerate() {
        if number > 0 {
            execute(tx, "RELEASE unit; SAVEPOINT unit").await?;
        }
        let Ran { keep, full } = unit.run(tx).await;
        if !keep {
            // Fails where SQLite itself gave up the transaction, as on a full disk; then the whole group has failed.
            let undone = execute(tx, undo).await;
            undone.map_err(|_| {
                full.unwrap_or_else(|| StoreError::unavailable("another write ended the transaction that they shared"))
            })?;
        }
    }
    let started = clock.monotonic();
    execute(tx, "COMMIT").await?;
    metrics
        .commit_seconds
        .observe(clock.monotonic().saturating_sub(started).as_secs_f64());
    Ok(())
}

async fn execute(tx: &mut Tx, statement: &'static str) -> Result<(), StoreError> {
    on_both!(tx, |tx| sqlx::query(statement).execute(&mut **tx).await.map(drop))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::sqlite_url,
        db::{Db, DbParts},
        open,
    };
    use forebay_runtime::Entropy;

    struct Fixture {
        db: Db,
        metrics: Metrics,
        _folder: tempfile::TempDir,
    }

    async fn fixture() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let (pool, readers) = open::sqlite(&sqlite_url(&folder.path().join("x.db"))).await.unwrap();
        let (clock, metrics) = (Clock::system(), Metrics::new());
        let writer = start(&Tasks::new(), pool, clock.clone(), metrics.clone());
        let parts = DbParts {
            pools: Both::Sqlite(readers),
            writer: Both::Sqlite(writer),
            clock,
            entropy: Entropy::seeded(1),
            metrics: metrics.clone(),
        };
        let db = Db::new(parts);
        db.write((), |tx, ()| {
            Box::pin(run_sql(tx, "CREATE TABLE word (text TEXT NOT NULL)"))
        })
        .await
        .unwrap();
        Fixture {
            db,
            metrics,
            _folder: folder,
        }
    }

    fn groups(metrics: &Metrics) -> u64 {
        let mut registry = prometheus_client::registry::Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("forebay_store_group_size_count "));
        line.unwrap().parse().unwrap()
    }

    async fn run_sql(tx: &mut Tx, sql: &'static str) -> Result<(), StoreError> {
        execute(tx, sql).await
    }

    /// A unit that writes its word, and then fails if the word is `bad`.
    async fn write_word(db: &Db, word: &'static str) -> Result<(), StoreError> {
        db.write(word, |tx, word| {
            Box::pin(async move {
                on_both!(tx, |tx| sqlx::query("INSERT INTO word VALUES ($1)")
                    .bind(*word)
                    .execute(&mut **tx)
                    .await
                    .map(drop))?;
                if *word == "bad" {
                    return Err(StoreError::corrupt("on purpose"));
                }
                Ok(())
            })
        })
        .await
    }

    async fn words(db: &Db) -> String {
        let rows: Vec<(String,)> = db
            .read(async {
                on_both!(db.pools(), |pool| sqlx::query_as("SELECT text FROM word ORDER BY text")
                    .fetch_all(pool)
                    .await)
            })
            .await
            .unwrap();
        rows.into_iter().map(|(word,)| word).collect::<Vec<_>>().join(" ")
    }

    #[tokio::test]
    async fn a_unit_that_fails_half_way_is_undone_alone() {
        let fixture = fixture().await;
        let before = groups(&fixture.metrics);
        let (a, bad, b) = tokio::join!(
            write_word(&fixture.db, "a"),
            write_word(&fixture.db, "bad"),
            write_word(&fixture.db, "b")
        );
        assert!(a.is_ok() && b.is_ok());
        assert!(matches!(bad, Err(StoreError::Corrupt { .. })), "{bad:?}");
        assert_eq!(groups(&fixture.metrics) - before, 1, "they shared one group");
        assert_eq!(words(&fixture.db).await, "a b");
    }

    #[tokio::test]
    async fn a_read_that_is_too_slow_closes_nothing_and_a_broken_connection_does() {
        let fixture = fixture().await;
        let db = &fixture.db;
        tokio::time::pause();
        let slow = db.read(std::future::pending::<Result<(), sqlx::Error>>()).await;
        tokio::time::resume();
        assert!(slow.as_ref().is_err_and(StoreError::is_unavailable), "{slow:?}");
        assert!(db.is_reachable(), "one read was too slow");

        let reset = std::io::ErrorKind::ConnectionReset;
        let broken = db.read(async { Err::<(), _>(sqlx::Error::Io(reset.into())) }).await;
        assert!(broken.is_err() && !db.is_reachable());
        assert_eq!(words(db).await, "");
        assert!(
            !db.is_reachable(),
            "a read may have come over a connection that is left"
        );
        db.ping().await.unwrap();
        assert!(db.is_reachable());
    }

    #[tokio::test]
    async fn a_full_disk_refuses_what_writes_and_passes() {
        let fixture = fixture().await;
        let db = &fixture.db;
        write_word(db, "a").await.unwrap();
        db.write((), |tx, ()| Box::pin(run_sql(tx, "PRAGMA max_page_count = 1")))
            .await
            .unwrap();
        let large = "INSERT INTO word VALUES (hex(zeroblob(100000)))";
        let (b, refused, c) = tokio::join!(
            write_word(db, "b"),
            db.write(large, |tx, large| Box::pin(run_sql(tx, large))),
            write_word(db, "c")
        );
        // SQLite gives up the whole transaction then: nobody in the group is told that it is safe, and everybody why not,
        // or one whose turn never came would take the database for gone.
        for one in [b, refused, c] {
            assert!(matches!(one, Err(StoreError::Full(_))), "{one:?}");
        }
        assert!(db.is_reachable(), "it can be read");
        assert_eq!(words(db).await, "a");

        // The limit went with its connection.
        db.write(large, |tx, large| Box::pin(run_sql(tx, large))).await.unwrap();
        assert!(db.is_reachable());
    }
}
