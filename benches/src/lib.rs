//! What the harnesses of the store share: the database without the store, writers beside one another, and what they took.
#![expect(clippy::unwrap_used, reason = "a harness that does not work shall stop")]

use forebay_runtime::{Clock, Entropy, Tasks};
use forebay_store::{Store, StoreParts};
use sqlx::{
    AssertSqlSafe, PgPool, SqlitePool,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// The database without the store: what anybody could have here.
#[derive(Clone)]
pub enum Driver {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Driver {
    /// As the store opens it: one writer on SQLite, and flushed at each commit.
    pub async fn open(url: &str) -> Self {
        if url.starts_with("postgres") {
            return Self::Postgres(PgPoolOptions::new().max_connections(16).connect(url).await.unwrap());
        }
        let options = SqliteConnectOptions::from_str(url).unwrap();
        let options = options
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(30));
        let pool = SqlitePoolOptions::new().max_connections(1);
        Self::Sqlite(pool.connect_with(options).await.unwrap())
    }

    pub async fn run(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(pool) => sqlx::raw_sql(sql).execute(pool).await.map(drop).unwrap(),
            Self::Postgres(pool) => sqlx::raw_sql(sql).execute(pool).await.map(drop).unwrap(),
        }
    }

    /// So that its plans are those for what it holds now; SQLite needs no telling.
    pub async fn analyze(&self, table: &str) {
        if let Self::Postgres(_) = self {
            self.run(&format!("ANALYZE {table}")).await;
        }
    }
}

/// The store as a gateway opens it.
pub async fn open_store(url: &str, tasks: &Tasks) -> Store {
    let parts = StoreParts {
        clock: Clock::system(),
        entropy: Entropy::system(),
        tasks: tasks.clone(),
    };
    Store::open(url, parts).await.unwrap()
}

/// How many things a second so many writers did, and how long each piece of work took, the shortest first. Work says how
/// many things it did.
pub async fn measure<F, W>(writers: usize, seconds: u64, work: W) -> (f64, Vec<Duration>)
where
    F: Future<Output = usize> + Send,
    W: Fn() -> F + Send + Sync + 'static,
{
    let work = Arc::new(work);
    let begun = Instant::now();
    let end = begun + Duration::from_secs(seconds);
    let mut tasks = JoinSet::new();
    for _ in 0..writers {
        let work = work.clone();
        tasks.spawn(async move {
            let (mut done, mut took) = (0, Vec::new());
            while Instant::now() < end {
                let one = Instant::now();
                done += work().await;
                took.push(one.elapsed());
            }
            (done, took)
        });
    }
    let each = tasks.join_all().await;
    let elapsed = begun.elapsed().as_secs_f64();
    let done: usize = each.iter().map(|(done, _)| done).sum();
    let mut took: Vec<Duration> = each.into_iter().flat_map(|(_, took)| took).collect();
    took.sort();
    (f64::from(u32::try_from(done).unwrap()) / elapsed, took)
}

/// In milliseconds, the one that so many of a hundred are not above. The shortest come first.
pub fn part_ms(took: &[Duration], percent: usize) -> f64 {
    took[(took.len() - 1) * percent / 100].as_secs_f64() * 1_000.0
}
