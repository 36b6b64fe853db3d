//! How many exact holds a second the ledger makes with so many writers, beside what the bare driver does with one
//! conditional update in the same database, and how long a window's sum takes over many postings.
//!
//! Prints one JSON object. The database is `--url`, empty or made before by the same program.
#![expect(clippy::print_stdout, reason = "the figures are the output")]
#![expect(clippy::unwrap_used, reason = "a harness that does not work shall stop")]

use clap::Parser;
use forebay_domain::{
    id::TraceId,
    ledger::{Ask, BudgetRule, Enforcement, Payer, Purpose, PurposeKind, Scope, Window},
    money::{Usd, UsdRate},
};
use forebay_runtime::{Clock, Entropy, Tasks};
use forebay_store::{
    Ledger, Store, StoreParts,
    ledger::{HoldRequest, Settlement},
};
use serde_json::json;
use sqlx::{
    AssertSqlSafe, PgPool, SqlitePool,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

#[derive(Parser, Clone)]
struct Options {
    #[arg(long)]
    url: String,
    #[arg(long, default_value_t = 16)]
    writers: usize,
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rows of postings that a window is judged over.
    #[arg(long, default_value_t = 1_000_000)]
    entries: u64,
}

/// The database without the store: what any ledger could have here.
#[derive(Clone)]
enum Bare {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

const UPDATE: &str = "UPDATE bench_purse SET held = held + 1 WHERE name = 'acme' AND held + 1 <= 1000000000000";

impl Bare {
    /// As the store opens it: one writer on SQLite, and flushed at each commit.
    async fn open(url: &str) -> Self {
        if url.starts_with("postgres") {
            Self::Postgres(PgPoolOptions::new().max_connections(16).connect(url).await.unwrap())
        } else {
            let options = SqliteConnectOptions::from_str(url).unwrap();
            let options = options
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(Duration::from_secs(30));
            Self::Sqlite(
                SqlitePoolOptions::new()
                    .max_connections(1)
                    .connect_with(options)
                    .await
                    .unwrap(),
            )
        }
    }

    async fn run(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(pool) => sqlx::raw_sql(sql).execute(pool).await.map(drop).unwrap(),
            Self::Postgres(pool) => sqlx::raw_sql(sql).execute(pool).await.map(drop).unwrap(),
        }
    }

    async fn update(&self) {
        match self {
            Self::Sqlite(pool) => sqlx::query(UPDATE).execute(pool).await.map(drop).unwrap(),
            Self::Postgres(pool) => sqlx::query(UPDATE).execute(pool).await.map(drop).unwrap(),
        }
    }

    /// So many milliseconds with a posting each, the newest now, as if somebody had spent for as long.
    async fn fill(&self, entries: u64, now_ms: i64) {
        let begin = now_ms - i64::try_from(entries).unwrap();
        let rows = format!(
            "INSERT INTO purse_posted (purse, at_ms, cumulative) SELECT 'full 0 full', {begin} + n, n FROM \
             (WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {entries}) SELECT n FROM s) AS s \
             ON CONFLICT DO NOTHING"
        );
        let rows = match self {
            // The parser takes ON for a part of the SELECT without a WHERE.
            Self::Sqlite(_) => rows.replace("AS s ON CONFLICT", "AS s WHERE true ON CONFLICT"),
            Self::Postgres(_) => rows,
        };
        self.run(&rows).await;
        self.run(&format!(
            "INSERT INTO purse (name, held, burn, posted, last_at_ms) VALUES ('full 0 full', 0, 0, {entries}, {now_ms}) \
             ON CONFLICT DO NOTHING"
        ))
        .await;
        if let Self::Postgres(_) = self {
            self.run("ANALYZE purse_posted").await;
        }
    }
}

fn payer(tenant: &str) -> Payer {
    Payer {
        tenant: tenant.parse().unwrap(),
        project: None,
        key: Some("k1".parse().unwrap()),
        session: None,
        subject: None,
    }
}

fn hold_of(tenant: &str) -> HoldRequest {
    HoldRequest {
        payer: payer(tenant),
        purpose: Purpose {
            kind: PurposeKind::Model,
            name: "bench".to_owned(),
        },
        ask: Ask {
            amount: Usd::from_micros(1),
            rate: UsdRate::ZERO,
        },
        trace: TraceId::from_bytes([1; 16]).unwrap(),
        idempotency_key: None,
        lapses_at: "2100-01-01T00:00:00Z".parse().unwrap(),
        needs_limit: true,
    }
}

/// How often a second so many tasks did something, and the median of how long it took in milliseconds.
async fn measure<F, W>(writers: usize, seconds: u64, work: W) -> (f64, f64)
where
    F: Future<Output = ()> + Send,
    W: Fn() -> F + Send + Sync + 'static,
{
    let (done, work) = (Arc::new(AtomicU64::new(0)), Arc::new(work));
    let begun = Instant::now();
    let end = begun + Duration::from_secs(seconds);
    let mut tasks = JoinSet::new();
    for _ in 0..writers {
        let (done, work) = (done.clone(), work.clone());
        tasks.spawn(async move {
            let mut took = Vec::new();
            while Instant::now() < end {
                let one = Instant::now();
                work().await;
                took.push(one.elapsed());
                done.fetch_add(1, Ordering::Relaxed);
            }
            took
        });
    }
    let mut took: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
    took.sort();
    let each = took[took.len() / 2].as_secs_f64() * 1_000.0;
    let count = u32::try_from(done.load(Ordering::Relaxed)).unwrap();
    (f64::from(count) / begun.elapsed().as_secs_f64(), each)
}

fn limits() -> Vec<BudgetRule> {
    [60, 1_440]
        .map(|minutes| BudgetRule {
            scope: Scope::Tenant,
            of: None,
            window: Window::new(minutes, Usd::from_micros(900_000_000_000), Enforcement::Hard).unwrap(),
        })
        .into()
}

/// The median of how long judging a payer takes.
async fn judging(ledger: &Ledger, tenant: &str) -> f64 {
    let payer = payer(tenant);
    let mut took = Vec::new();
    for _ in 0..200 {
        let one = Instant::now();
        ledger.standings(&payer).await.unwrap();
        took.push(one.elapsed());
    }
    took.sort();
    took[100].as_secs_f64() * 1_000.0
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let options = Options::parse();
    let tasks = Tasks::new();
    let parts = StoreParts {
        clock: Clock::system(),
        entropy: Entropy::system(),
        tasks: tasks.clone(),
    };
    let store = Store::open(&options.url, parts).await.unwrap();
    let ledger = store.ledger();
    ledger.configure(limits());

    let bare = Bare::open(&options.url).await;
    bare.run("DROP TABLE IF EXISTS bench_purse").await;
    bare.run("CREATE TABLE bench_purse (name TEXT PRIMARY KEY, held BIGINT NOT NULL)")
        .await;
    bare.run("INSERT INTO bench_purse VALUES ('acme', 0)").await;
    let driver = bare.clone();
    let (updates, update_ms) = measure(options.writers, options.seconds, move || {
        let driver = driver.clone();
        async move { driver.update().await }
    })
    .await;

    let holding = ledger.clone();
    let (holds, hold_ms) = measure(options.writers, options.seconds, move || {
        let ledger = holding.clone();
        async move { drop(ledger.hold(hold_of("acme")).await.unwrap()) }
    })
    .await;
    let spending = ledger.clone();
    let (whole, whole_ms) = measure(options.writers, options.seconds, move || {
        let ledger = spending.clone();
        async move {
            let hold = ledger.hold(hold_of("zeta")).await.unwrap();
            let settlement = Settlement {
                actual: Usd::from_micros(1),
                estimated: false,
            };
            ledger.settle(&hold.id, settlement).await.unwrap();
        }
    })
    .await;

    let empty_ms = judging(&ledger, "nobody").await;
    bare.fill(options.entries, Clock::system().now().as_millisecond()).await;
    let full_ms = judging(&ledger, "full").await;
    println!(
        "{}",
        json!({
            "engine": store.engine(), "writers": options.writers, "entries": options.entries,
            "bare_updates_per_s": updates, "bare_update_p50_ms": update_ms,
            "holds_per_s": holds, "hold_p50_ms": hold_ms,
            "hold_and_settle_per_s": whole, "hold_and_settle_p50_ms": whole_ms,
            "judge_without_entries_ms": empty_ms, "judge_ms": full_ms,
        })
    );
    tasks.shut_down(Duration::from_secs(30)).await;
}
